/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pseudo-terminals of which the tree has the master: a terminal emulator, script, tmux with what
 * runs inside. Slaves whose master is not in the tree are the outer terminal (terminal.c).
 *
 * Carried: the number N of /dev/pts/N, modes (termios2), window size, lock, packet and exclusive
 * mode, whose controlling terminal it is, the foreground group, owner and mode of the node; slaves
 * that were hung up because their master is gone.
 * Reads TIOCGPTN, TIOCGPTLCK, TIOCGPKT, TIOCGEXCL, TIOCGSID and TIOCGPGRP of a duplicate of the
 * master, and the node at /dev/pts. Nothing is opened: the first and last open of a slave is seen.
 *
 * Refused: what was written at one end and not yet read at the other, since reading consumes it;
 * other line disciplines. Cannot be seen, and is lost: an unfinished line in canonical mode, output
 * stopped by ^S, a foreground group that has ended.
 */
#include "res/ptyqueue.h"

#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define SLAVE_MAJOR	 136 /* Documentation/admin-guide/devices.txt: 136 to 143 */
#define SLAVE_MAJORS	 8
#define MINORS_PER_MAJOR 256

static ProtobufCMessage *pty_body(const Cpx__File *f)
{
	return f->pty_master ? &f->pty_master->base : NULL;
}

/* /dev/ptmx and /dev/pts/ptmx */
static bool pty_match(const struct fd_probe *p)
{
	return S_ISCHR(p->st.st_mode) && p->st.st_rdev == makedev(5, 2);
}

static bool can_read(uint32_t flags)
{
	return (flags & O_ACCMODE) != O_WRONLY;
}

static void slave_path(uint32_t index, char *buf, size_t size)
{
	snprintf(buf, size, "/dev/pts/%u", index);
}

/* ---- dump: the master ---- */

static int get_int(int fd, unsigned long request)
{
	int value = 0;

	return ioctl(fd, request, &value) < 0 ? 0 : value;
}

static int dump_node(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	Cpx__PtyMaster *b = f->pty_master;
	char path[32];
	struct stat st;

	slave_path(b->index, path, sizeof(path));
	if (stat(path, &st) < 0 || !S_ISCHR(st.st_mode))
		return files_refuse(c, p, "pseudo-terminal master",
				    "cannot be checkpointed: its other side is not at '%s'", path);
	b->mode = st.st_mode & 07777;
	b->uid = st.st_uid;
	b->gid = st.st_gid;
	return files_watch_more(c, f, path, WATCH_DEVICE, st.st_dev, err);
}

static int dump_state(const struct fd_probe *p, Cpx__PtyMaster *b, struct err *err)
{
	struct pollfd pfd = {.fd = p->dup};
	struct termios2 modes;
	struct winsize size = {0};

	/* Of a pair these are kept in one place, and the master shows them. */
	if (ioctl(p->dup, TCGETS2, &modes) < 0 || ioctl(p->dup, TIOCGWINSZ, &size) < 0)
		return err_sys(err, -errno, "cannot read the modes of the pseudo-terminal");
	b->locked = get_int(p->dup, TIOCGPTLCK);
	b->packet = get_int(p->dup, TIOCGPKT);
	b->exclusive = get_int(p->dup, TIOCGEXCL);
	b->hup = poll(&pfd, 1, 0) > 0 && (pfd.revents & POLLHUP);
	b->sid = get_int(p->dup, TIOCGSID);
	b->foreground_pgid = b->sid ? get_int(p->dup, TIOCGPGRP) : 0;
	if (msg_set_bytes(&b->path, p->link, strlen(p->link)) < 0 ||
	    msg_set_bytes(&b->termios, &modes, sizeof(modes)) < 0 ||
	    msg_set_bytes(&b->winsize, &size, sizeof(size)) < 0)
		return err_nomem(err);
	return 0;
}

static int refuse_discipline(struct dump_ctx *c, const struct fd_probe *p, const char *kind)
{
	int discipline = get_int(p->dup, TIOCGETD);

	if (discipline == N_TTY)
		return 0;
	return files_refuse(c, p, kind, "cannot be checkpointed: it has line discipline %d",
			    discipline);
}

static int pty_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	Cpx__PtyMaster *b = MSG_NEW(Cpx__PtyMaster, cpx__pty_master__init);
	unsigned index = 0;
	int r;

	f->pty_master = b;
	if (!b)
		return err_nomem(err);
	if (ioctl(p->dup, TIOCGPTN, &index) < 0)
		return err_sys(err, -errno, "cannot read the number of the pseudo-terminal");
	b->index = index;
	r = dump_state(p, b, err);
	if (r == 0)
		r = dump_node(c, p, f, err);
	if (r == 0)
		r = files_watch_more(c, f, p->link, WATCH_FILE, 0, err);
	if (r == 0)
		r = refuse_discipline(c, p, "pseudo-terminal master");
	return r < 0 ? r : ptyqueue_look(c, p, index, true, err);
}

/* ---- dump: slaves ---- */

static const Cpx__File *find_index(const struct dump_ctx *c, uint32_t index)
{
	for (size_t i = 0; i < c->files->n; i++) {
		const Cpx__File *f = c->files->entry[i]->file;

		if (f->pty_master && f->pty_master->index == index)
			return f;
	}
	return NULL;
}

/* One that was opened as /dev/tty does not show which devpts it is of. */
const Cpx__File *pty_master_of(const struct dump_ctx *c, const Cpx__File *slave)
{
	const Cpx__Terminal *t = slave->terminal;
	struct stat st;

	if (!t || t->hung_up || stat("/dev/pts", &st) < 0 ||
	    (!t->is_dev_tty && files_entry(c, slave)->dev != st.st_dev))
		return NULL;
	return find_index(c, t->index);
}

static bool is_slave_device(dev_t dev)
{
	return major(dev) >= SLAVE_MAJOR && major(dev) < SLAVE_MAJOR + SLAVE_MAJORS;
}

/* hung_up_tty_ioctl() of drivers/tty/tty_io.c */
bool pty_is_hung_up(const struct fd_probe *p)
{
	unsigned dev;

	return is_slave_device(p->st.st_rdev) && ioctl(p->dup, TIOCGDEV, &dev) < 0 && errno == EIO;
}

int pty_dump_hung_up(const struct fd_probe *p, Cpx__Terminal *b, struct err *err)
{
	b->hung_up = true;
	b->index = (major(p->st.st_rdev) - SLAVE_MAJOR) * MINORS_PER_MAJOR + minor(p->st.st_rdev);
	return msg_set_bytes(&b->path, p->link, strlen(p->link)) < 0 ? err_nomem(err) : 0;
}

/* ---- dump: when all are known ---- */

int pty_complete_hung_up(struct dump_ctx *c, const Cpx__File *f, struct err *err)
{
	if (find_index(c, f->terminal->index) &&
	    files_refuse_entry(c, f, "terminal",
			       "cannot be checkpointed: it was hung up by vhangup(2), while the "
			       "master of /dev/pts/%u goes on",
			       f->terminal->index) < 0)
		return err_nomem(err);
	return 0;
}

static bool has_readable_slave(const struct dump_ctx *c, const Cpx__File *master)
{
	for (size_t i = 0; i < c->files->n; i++) {
		const Cpx__File *f = c->files->entry[i]->file;

		if (pty_master_of(c, f) == master && can_read(f->flags))
			return true;
	}
	return false;
}

/* Does a descriptor table have a slave of this master? */
static bool table_has_slave(const struct dump_ctx *c, const Cpx__FdTable *t,
			    const Cpx__File *master)
{
	for (size_t i = 0; i < t->n_fd; i++)
		if (pty_master_of(c, c->files->entry[t->fd[i]->file - 1]->file) == master)
			return true;
	return false;
}

/* Who can give the terminal its foreground group again: a task of the session that has it open. */
static bool session_has_slave(const struct dump_ctx *c, const Cpx__File *master)
{
	for (size_t i = 0; i < c->files->ntables; i++) {
		const struct table_entry *e = &c->files->table[i];
		_cleanup_close_ int dir = -1;
		struct proc_stat st;

		if (proc_open(c->proc_fd, e->t->pid, 0, &dir, NULL) == 0 &&
		    proc_stat(dir, &st, NULL) == 0 && st.tty_nr &&
		    st.sid == (pid_t)master->pty_master->sid &&
		    table_has_slave(c, e->table, master))
			return true;
	}
	return false;
}

static int pty_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const Cpx__PtyMaster *b = f->pty_master;
	int r = 0;

	if (b->sid && !files_tree_has(c, b->sid))
		r = files_refuse_entry(c, f, "pseudo-terminal master",
				       "cannot be checkpointed: /dev/pts/%u is the controlling "
				       "terminal of session %u outside of the tree",
				       b->index, b->sid);
	else if (b->sid && (!has_readable_slave(c, f) || !session_has_slave(c, f)))
		r = files_refuse_entry(c, f, "pseudo-terminal master",
				       "cannot be checkpointed: /dev/pts/%u is the controlling "
				       "terminal of session %u, of which no task has it open",
				       b->index, b->sid);
	return r < 0 ? err_nomem(err) : ptyqueue_complete(c, f, err);
}

/* ---- restore: what is asked by others ---- */

bool pty_is_slave(const Cpx__Terminal *t)
{
	return t->master || t->hung_up;
}

static bool is_taken(uint32_t index)
{
	char path[32];

	slave_path(index, path, sizeof(path));
	return access(path, F_OK) == 0;
}

bool ptys_need_devpts(const struct image *im)
{
	for (size_t i = 0; i < im->nfiles; i++) {
		const Cpx__File *f = im->file[i];

		if (f->pty_master && is_taken(f->pty_master->index))
			return true;
		if (f->terminal && f->terminal->hung_up && is_taken(f->terminal->index))
			return true;
	}
	return false;
}

const Cpx__File *pty_of_session(const struct image *im, uint32_t sid)
{
	for (size_t i = 0; sid && i < im->nfiles; i++)
		if (im->file[i]->pty_master && im->file[i]->pty_master->sid == sid)
			return im->file[i];
	return NULL;
}

int pty_controlling_fd(const struct restore_ctx *c, const Cpx__Task *leader)
{
	const Cpx__File *master = pty_of_session(c->image, leader->sid);

	for (size_t i = 0; master && leader->tty_controlling && i < c->image->nfiles; i++) {
		const Cpx__File *f = c->image->file[i];

		if (f->terminal && f->terminal->master == master->id && can_read(f->flags))
			return c->file_fd[i];
	}
	return -1;
}

/* The calls may fail, where the group has ended. */
void pty_settle_slave(struct restore_ctx *c, const Cpx__File *f, const Cpx__Task *task, int fd,
		      struct batch *b)
{
	const Cpx__File *master =
		f->terminal->master ? image_file(c->image, f->terminal->master) : NULL;
	int group = master ? master->pty_master->foreground_pgid : 0;

	if (!master || !task->sid || master->pty_master->sid != task->sid)
		return;
	if (!task->tty_controlling)
		BATCH_CALL(b, SYS_ioctl, fd, TIOCNOTTY);
	else if (group)
		BATCH_CALL(b, SYS_ioctl, fd, TIOCSPGRP, batch_in(b, &group, sizeof(group)));
}

/* ---- restore: check ---- */

static int pty_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const Cpx__PtyMaster *b = f->pty_master;
	char path[PATH_MAX];
	int r = path_text(&b->path, path, sizeof(path), err);

	if (r < 0)
		return r;
	if (b->termios.len != sizeof(struct termios2) || b->winsize.len != sizeof(struct winsize))
		return err_set(err, -EBADMSG, "the image holds a pseudo-terminal without modes");
	if (access(path, R_OK | W_OK) < 0)
		return files_refuse_restore(c, f, "pseudo-terminal master",
					    "cannot be restored: '%s': %s", path, strerror(errno));
	if (!c->new_devpts && is_taken(b->index))
		return files_refuse_restore(c, f, "pseudo-terminal master",
					    "cannot be restored: /dev/pts/%u is taken; with "
					    "--pid=new the tree gets a /dev/pts of its own",
					    b->index);
	return 0;
}

int pty_check_hung_up(struct restore_ctx *c, const Cpx__File *f)
{
	if (c->new_devpts || !is_taken(f->terminal->index))
		return 0;
	return files_refuse_restore(c, f, "terminal",
				    "cannot be restored: /dev/pts/%u is taken; with --pid=new the "
				    "tree gets a /dev/pts of its own",
				    f->terminal->index);
}

/* ---- restore: a pair with its number ---- */

static int open_any(const char *path, uint32_t flags, unsigned *ret_index, struct err *err)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return err_sys(err, -errno, "cannot open '%s'", path);
	if (ioctl(fd, TIOCGPTN, ret_index) < 0) {
		close(fd);
		return err_sys(err, -ENOTTY, "'%s' makes no pseudo-terminals", path);
	}
	return fd;
}

/* The lowest number is given out; so those below are held until it comes. */
static int open_number(const char *path, uint32_t flags, uint32_t index, struct err *err)
{
	_cleanup_free_ int *held = malloc((index + 1) * sizeof(*held));
	unsigned got = 0;
	size_t n = 0;
	int fd = -1;

	if (!held)
		return err_nomem(err);
	while (n <= index && (fd = open_any(path, flags, &got, err)) >= 0 && got < index)
		held[n++] = fd;
	while (n > 0)
		close(held[--n]);
	if (fd >= 0 && got != index) {
		close(fd);
		return err_set(err, -EBUSY,
			       "/dev/pts/%u is taken: with --pid=new the tree can have a /dev/pts "
			       "of its own",
			       index);
	}
	return fd;
}

static int set_lock(int master, int locked, struct err *err)
{
	return ioctl(master, TIOCSPTLCK, &locked) < 0
		       ? err_sys(err, -errno, "cannot set the lock of a pseudo-terminal")
		       : 0;
}

/* A slave by its master: needs no right to the node (ioctl_tty(2), TIOCGPTPEER). O_CLOEXEC would
 * become a flag of the description. */
static int open_peer(struct restore_ctx *c, int master, uint32_t flags, struct err *err)
{
	int fd = ioctl(master, TIOCGPTPEER,
		       (flags & ~(uint32_t)(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC)) | O_NOCTTY);

	if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_sys(err, -errno, "cannot open the slave of a pseudo-terminal");
	return fd_raise(c, fd, err);
}

/* ---- restore: what only a session leader can do ---- */

struct leader_job {
	int slave;
	int tty; /* a descriptor that becomes /dev/tty */
	uint32_t flags;
};

/* It lets go of the terminal before it ends, so that nothing is left of the session. */
static int lead(const struct leader_job *j)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	int fd;

	sigaction(SIGHUP, &ignore, NULL);
	if (syscall(SYS_setsid) < 0 || ioctl(j->slave, TIOCSCTTY, 0) < 0)
		return 1;
	fd = open("/dev/tty", j->flags | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || dup3(fd, j->tty, O_CLOEXEC) < 0)
		return 1;
	close(fd);
	return ioctl(j->slave, TIOCNOTTY) < 0;
}

/* In a child that shares our descriptors. */
static int as_leader(const struct leader_job *j, struct err *err)
{
	pid_t pid = syscall(SYS_clone, CLONE_FILES, 0, 0, 0, 0);
	int status = 0;

	if (pid == 0)
		_exit(lead(j));
	if (pid < 0)
		return err_sys(err, -errno, "cannot make a session leader");
	while (waitpid(pid, &status, __WALL) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "cannot wait for a session leader");
	return status ? err_set(err, -EIO, "cannot open it as /dev/tty") : 0;
}

static int open_dev_tty(struct restore_ctx *c, int master, uint32_t flags, struct err *err)
{
	_cleanup_close_ int slave = open_peer(c, master, O_RDWR, err);
	struct leader_job j = {.slave = slave, .flags = flags & ~(uint32_t)O_ASYNC};
	int r;

	if (slave < 0)
		return slave;
	j.tty = fcntl(slave, F_DUPFD_CLOEXEC, c->fd_base);
	if (j.tty < 0)
		return err_sys(err, -errno, "cannot duplicate a pseudo-terminal");
	r = as_leader(&j, err);
	if (r == 0)
		return j.tty;
	close(j.tty);
	return r;
}

/* ---- restore: everything of one number ---- */

static bool is_of_number(const Cpx__File *f, uint32_t index, bool hung_up)
{
	return f->terminal && pty_is_slave(f->terminal) && f->terminal->index == index &&
	       f->terminal->hung_up == hung_up;
}

/* Opens those that were hung up, or those that were not. *ret_n: how many. */
static int open_slaves(struct restore_ctx *c, int master, uint32_t index, bool hung_up,
		       size_t *ret_n, struct err *err)
{
	*ret_n = 0;
	for (size_t i = 0; i < c->image->nfiles; i++) {
		const Cpx__File *f = c->image->file[i];

		if (!is_of_number(f, index, hung_up) || c->file_fd[i] >= 0)
			continue;
		c->file_fd[i] = f->terminal->is_dev_tty ? open_dev_tty(c, master, f->flags, err)
							: open_peer(c, master, f->flags, err);
		if (c->file_fd[i] < 0)
			return c->file_fd[i];
		++*ret_n;
	}
	return 0;
}

static int set_node(struct restore_ctx *c, const Cpx__PtyMaster *b, struct err *err)
{
	char path[32];
	struct stat st;

	slave_path(b->index, path, sizeof(path));
	if (stat(path, &st) < 0 || !S_ISCHR(st.st_mode))
		return err_set(err, -ENOENT, "the new pseudo-terminal is not at '%s'", path);
	/* In a user namespace other owners do not exist. */
	if ((st.st_uid != b->uid || st.st_gid != b->gid) && chown(path, b->uid, b->gid) < 0 &&
	    !c->in_user_ns && st.st_uid != b->uid)
		return err_sys(err, -errno, "cannot give '%s' to user %u", path, b->uid);
	if ((st.st_mode & 07777) != b->mode && chmod(path, b->mode) < 0)
		return err_sys(err, -errno, "cannot set the mode of '%s'", path);
	return 0;
}

static bool has_exclusive_slave(const struct image *im, uint32_t index)
{
	for (size_t i = 0; i < im->nfiles; i++)
		if (is_of_number(im->file[i], index, false) && im->file[i]->terminal->exclusive)
			return true;
	return false;
}

/* By a slave of our own, since TIOCEXCL is the slave's. It is the first and last one to be opened
 * where the master has seen that. */
static int set_slave_side(struct restore_ctx *c, int master, const Cpx__PtyMaster *b,
			  size_t nslaves, struct err *err)
{
	_cleanup_close_ int slave = -1;

	if (!nslaves && !b->hup)
		return 0;
	slave = open_peer(c, master, O_RDWR, err);
	if (slave < 0)
		return slave;
	if (has_exclusive_slave(c->image, b->index) && ioctl(slave, TIOCEXCL) < 0)
		return err_sys(err, -errno, "cannot set exclusive mode");
	return 0;
}

static int set_master_side(int master, const Cpx__PtyMaster *b, struct err *err)
{
	int packet = b->packet;

	if (ioctl(master, TIOCSWINSZ, b->winsize.data) < 0 ||
	    ioctl(master, TCSETS2, b->termios.data) < 0)
		return err_sys(err, -errno, "cannot set the modes of /dev/pts/%u", b->index);
	/* Last: it clears what the above would tell the master. */
	if (ioctl(master, TIOCPKT, &packet) < 0 || (b->exclusive && ioctl(master, TIOCEXCL) < 0))
		return err_sys(err, -errno, "cannot set packet mode");
	return b->locked ? set_lock(master, 1, err) : 0;
}

static int make_pair(struct restore_ctx *c, const Cpx__File *f, int master, struct err *err)
{
	const Cpx__PtyMaster *b = f->pty_master;
	size_t n = 0;
	int r = set_lock(master, 0, err);

	if (r == 0)
		r = open_slaves(c, master, b->index, false, &n, err);
	if (r == 0)
		r = set_slave_side(c, master, b, n, err);
	if (r == 0)
		r = set_node(c, b, err);
	return r < 0 ? r : set_master_side(master, b, err);
}

static int pty_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	char path[PATH_MAX];
	int r = path_text(&f->pty_master->path, path, sizeof(path), err), fd;

	if (r < 0)
		return r;
	fd = open_number(path, f->flags & ~(uint32_t)O_ASYNC, f->pty_master->index, err);
	if (fd >= 0)
		fd = fd_raise(c, fd, err);
	if (fd < 0)
		return fd;
	r = make_pair(c, f, fd, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

/* When both sides are there; the slave that types is a description of its own, which does not block. */
static int pty_fill(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	int master = c->file_fd[files_index(c, f)];
	_cleanup_close_ int slave = -1;

	if (!f->pty_master->input.len && !f->pty_master->output.len)
		return 0;
	slave = open_peer(c, master, O_RDWR | O_NONBLOCK, err);
	return slave < 0 ? slave : ptyqueue_fill(f, master, slave, err);
}

/* The master is gone: its end hangs up whatever is open (pty_close() of drivers/tty/pty.c). */
static int open_orphans(struct restore_ctx *c, uint32_t index, struct err *err)
{
	_cleanup_close_ int master = open_number("/dev/ptmx", O_RDWR, index, err);

	size_t n;
	int r = master < 0 ? master : set_lock(master, 0, err);

	return r < 0 ? r : open_slaves(c, master, index, true, &n, err);
}

int pty_open_slave(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	const Cpx__File *master =
		f->terminal->master ? image_file(c->image, f->terminal->master) : NULL;
	size_t index = files_index(c, f);
	int r = master ? pty_open(c, master, &c->file_fd[files_index(c, master)], err)
		       : open_orphans(c, f->terminal->index, err);

	if (r < 0)
		return r;
	if (c->file_fd[index] < 0)
		return err_set(err, -EBADMSG, "the image holds two masters of /dev/pts/%u",
			       f->terminal->index);
	*ret_fd = c->file_fd[index];
	return 0;
}

const struct file_ops pty_file_ops = {
	.name = "pseudo-terminal master",
	.body = pty_body,
	.match = pty_match,
	.dump = pty_dump,
	.complete = pty_complete,
	.borrow = ptyqueue_borrow,
	.check = pty_check,
	.open = pty_open,
	.fill = pty_fill,
};
