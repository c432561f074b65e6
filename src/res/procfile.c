/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Files and directories of /proc/PID, of tasks and threads of the tree and of processes that have
 * ended since. They are what the process is: nothing is in them to be kept but the position.
 *
 * A process that is still to be made has none: /dev/null stands in, and the task that has the
 * descriptor opens the real one before it gets its table (as for pidfds). That of a dead process is
 * made of one that ends at once. Refused: those of processes outside; descriptions that several
 * tables share; files that hold on to the address space that the process had when they were opened
 * (maps, environ ...), of which nobody can tell whether it still has it. /proc/PID/mem is one of them
 * but can be asked. Not kept: text that was generated and only partly read; a change of mounts
 * (mountinfo) that poll(2) has not told of.
 */
#include "res/files.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#define DELETED " (deleted)"

static ProtobufCMessage *procfile_body(const Cpx__File *f)
{
	return f->proc_file ? &f->proc_file->base : NULL;
}

static bool procfile_match(const struct fd_probe *p)
{
	struct statfs fs;

	return (S_ISREG(p->st.st_mode) || S_ISDIR(p->st.st_mode)) &&
	       strncmp(p->link, "/proc/", 6) == 0 && p->link[6] >= '1' && p->link[6] <= '9' &&
	       fstatfs(p->dup, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

/* ---- dump ---- */

/* "/proc/123/task/124/stat (deleted)". */
static int parse(const char *link, Cpx__ProcFile *b)
{
	size_t len = strlen(link), cut = sizeof(DELETED) - 1;
	char *rest;

	if (len > cut && strcmp(link + len - cut, DELETED) == 0) {
		b->dead = true;
		len -= cut;
	}
	b->pid = strtoul(link + 6, &rest, 10);
	rest += *rest == '/';
	return rest <= link + len ? msg_set_bytes(&b->path, rest, link + len - rest) : 0;
}

static const char *last_name(const Cpx__ProcFile *b)
{
	const char *path = (const char *)b->path.data, *slash;

	slash = path ? memrchr(path, '/', b->path.len) : NULL;
	return slash ? slash + 1 : path;
}

static bool is_named(const Cpx__ProcFile *b, const char *name)
{
	const char *last = last_name(b);
	size_t len = last ? b->path.len - (last - (const char *)b->path.data) : 0;

	return len == strlen(name) && memcmp(last, name, len) == 0;
}

static bool holds_memory(const Cpx__ProcFile *b)
{
	static const char *const name[] = {
		"maps",	   "smaps",   "smaps_rollup", "numa_maps", "environ",
		"pagemap", "auxv",    "clear_refs",
	};

	for (size_t i = 0; i < ARRAY_SIZE(name); i++)
		if (is_named(b, name[i]))
			return true;
	return false;
}

/* Its own, and not that of before an execve(2): reads what must be there. */
static bool is_own_memory(struct dump_ctx *c, const struct fd_probe *p, const Cpx__ProcFile *b)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat s;
	char byte;

	return files_tree_has_thread(c, b->pid) && p->t->pid == (pid_t)b->pid &&
	       proc_open(c->proc_fd, b->pid, 0, &dir, NULL) == 0 && proc_stat(dir, &s, NULL) == 0 &&
	       pread(p->dup, &byte, 1, s.start_stack) == 1;
}

/* The number may be another process's by now. An open file keeps its name and inode as long as its
 * process lives (proc_flush_pid() in fs/proc/base.c). */
static bool is_reused(struct dump_ctx *c, const struct fd_probe *p)
{
	struct stat st;

	return fstatat(c->proc_fd, p->link + 6, &st, 0) < 0 || st.st_ino != p->st.st_ino;
}

static bool exists(struct dump_ctx *c, uint32_t pid)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", pid);
	return faccessat(c->proc_fd, name, F_OK, 0) == 0;
}

static const char *why_not(struct dump_ctx *c, const struct fd_probe *p, Cpx__ProcFile *b)
{
	b->dead |= !exists(c, b->pid);
	if (b->dead)
		return NULL;
	if (is_reused(c, p))
		return "nobody can tell of which process it is";
	if (!files_tree_has_thread(c, b->pid))
		return "it belongs to a process outside of the tree; dump a common parent of both";
	if (holds_memory(b) || (is_named(b, "mem") && !is_own_memory(c, p, b)))
		return "it holds on to an address space, and nobody can tell to which";
	return NULL;
}

static int procfile_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	Cpx__ProcFile *b = f->proc_file = MSG_NEW(Cpx__ProcFile, cpx__proc_file__init);
	const char *why;

	if (!b || parse(p->link, b) < 0)
		return err_nomem(err);
	why = why_not(c, p, b);
	return why ? files_refuse(c, p, "file of /proc", "cannot be checkpointed: '%s': %s", p->link,
				  why)
		   : 0;
}

static int procfile_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < files_ntables(c); i++)
		n += files_table_has(files_table(c, i), f->id);
	if (f->proc_file->dead || n == 1)
		return 0;
	return files_refuse_entry(c, f, "file of /proc",
				  "cannot be checkpointed: %s",
				  n ? "several tasks share it (by fork), and each could only be "
				      "given its own"
				    : "it is on its way in a message") < 0
		       ? err_nomem(err)
		       : 0;
}

/* ---- restore ---- */

static int path_of(const Cpx__ProcFile *b, pid_t pid, char *buf, size_t size, struct err *err)
{
	const char *rest = (const char *)b->path.data;
	int len = b->path.len, n;

	/* Of a thread of a dead process: the only one that its successor has. */
	if (b->dead && len > 5 && strncmp(rest, "task/", 5) == 0) {
		const char *slash = memchr(rest + 5, '/', len - 5);

		n = snprintf(buf, size, "/proc/%d/task/%d%.*s", pid, pid,
			     slash ? (int)(rest + len - slash) : 0, slash ? slash : "");
	} else {
		n = snprintf(buf, size, "/proc/%d%s%.*s", pid, len ? "/" : "", len, rest ? rest : "");
	}
	return n < (int)size ? 0 : err_set(err, -EBADMSG, "the image holds a path that is too long");
}

/* One that waits for its end, with the old number if that can be had. */
static pid_t start_victim(pid_t number, int gone[2])
{
	struct clone_args a = {.exit_signal = SIGCHLD};
	char byte;
	pid_t pid;

	a.set_tid = (uintptr_t)&number;
	a.set_tid_size = 1;
	pid = syscall(SYS_clone3, &a, sizeof(a));
	if (pid < 0)
		pid = fork();
	if (pid)
		return pid;
	close(gone[1]);
	_exit(read(gone[0], &byte, 1) < 0);
}

static int open_dead(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	char path[PATH_MAX];
	int gone[2], fd, r;
	pid_t pid;

	if (pipe2(gone, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "cannot make a pipe");
	pid = start_victim(f->proc_file->pid, gone);
	close(gone[0]);
	r = pid < 0 ? err_sys(err, -errno, "cannot fork")
		    : path_of(f->proc_file, pid, path, sizeof(path), err);
	fd = r < 0 ? r : file_open_path(c, path, f->flags, err);
	if (fd >= 0 && f->pos && lseek(fd, f->pos, SEEK_SET) < 0)
		r = err_sys(err, -errno, "cannot seek");
	close(gone[1]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (r < 0 && fd >= 0)
		close(fd);
	return r < 0 ? r : fd;
}

static int procfile_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	char path[PATH_MAX];

	return path_of(f->proc_file, f->proc_file->pid, path, sizeof(path), err);
}

static int procfile_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	int fd = f->proc_file->dead ? open_dead(c, f, err)
				    : file_open_path(c, "/dev/null", O_RDWR, err);

	*ret_fd = MAX(fd, -1);
	return MIN(fd, 0);
}

int procfile_install(struct batch *b, const Cpx__File *f, int at, struct err *err)
{
	uint32_t flags = f->flags & ~(uint32_t)(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC);
	char path[PATH_MAX];
	int r = path_of(f->proc_file, f->proc_file->pid, path, sizeof(path), err);

	if (r < 0)
		return r;
	BATCH_CALL(b, SYS_close_range, 0, 0, 0);
	BATCH_CALL(b, SYS_openat, AT_FDCWD, batch_in_str(b, path), flags | O_CLOEXEC);
	if (f->pos)
		BATCH_CALL(b, SYS_lseek, 0, f->pos, SEEK_SET);
	BATCH_CALL(b, SYS_dup3, 0, at, O_CLOEXEC);
	BATCH_CALL(b, SYS_close, 0);
	return 0;
}

const struct file_ops procfile_file_ops = {
	.name = "file of /proc",
	.body = procfile_body,
	.match = procfile_match,
	.dump = procfile_dump,
	.complete = procfile_complete,
	.check = procfile_check,
	.open = procfile_open,
};
