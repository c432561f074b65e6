/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening /proc/PID, reading its files whole and its links. A task that goes away meanwhile is
 * -ESRCH, whichever of ENOENT and ESRCH the kernel happens to say.
 */
#include "proc/internal.h"

#include <fcntl.h>

static int gone(int code)
{
	return code == -ENOENT ? -ESRCH : code;
}

static int open_path(int at, const char *path, int *ret, struct err *err)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, gone(-errno), "cannot open %s%s", *path == '/' ? "" : "/proc/", path);
	*ret = fd;
	return 0;
}

int proc_open(int proc_fd, pid_t pid, pid_t tid, int *ret_dir, struct err *err)
{
	char path[64];
	const char *top = proc_fd < 0 ? "/proc/" : "";

	if (tid)
		snprintf(path, sizeof(path), "%s%d/task/%d", top, pid, tid);
	else
		snprintf(path, sizeof(path), "%s%d", top, pid);
	return open_path(proc_fd < 0 ? AT_FDCWD : proc_fd, path, ret_dir, err);
}

static int is_task_gone(int dir)
{
	return faccessat(dir, "stat", F_OK, 0) < 0;
}

/*
 * ENOENT stays what it is: a file may be missing because the kernel lacks it. But during an execve of
 * a thread that takes the leader's number over, nobody has that number for an instant (kernel/pid.c,
 * exchange_tids), and no file is there: so callers ask a task that is there after all once more.
 */
static int open_code(int dir, int code)
{
	return code == -ENOENT && is_task_gone(dir) ? -ESRCH : code;
}

/* Of links, the kernel says EACCES as well when there is no task (fs/proc/namespaces.c, proc_ns_readlink). */
static int link_code(int dir, int code)
{
	return code == -EACCES && is_task_gone(dir) ? -ESRCH : open_code(dir, code);
}

int proc_open_file(int dir, const char *name, int flags, int *ret_fd, struct err *err)
{
	int fd = openat(dir, name, flags | O_CLOEXEC), code = fd < 0 ? open_code(dir, -errno) : 0;

	if (code == -ENOENT) {
		fd = openat(dir, name, flags | O_CLOEXEC);
		code = fd < 0 ? -errno : 0;
	}
	if (code)
		return err_sys(err, code, "cannot open its /proc file %s", name);
	*ret_fd = fd;
	return 0;
}

#define READ_MAX   (256UL << 20)
#define READ_FIRST 4096UL

static int read_all(int fd, char **buf, size_t *ret_len)
{
	size_t size = READ_FIRST, len = 0;

	for (;;) {
		char *bigger = realloc(*buf, size);
		ssize_t n;

		if (!bigger)
			return -ENOMEM;
		*buf = bigger;
		n = read(fd, bigger + len, size - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
		if (len + 1 == size && size >= READ_MAX)
			return -EFBIG;
		if (len + 1 == size || size - len < size / 2)
			size *= 2;
	}
	(*buf)[len] = '\0';
	*ret_len = len;
	return 0;
}

int proc_read(int dir, const char *name, char **ret, size_t *ret_len, struct err *err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *buf = NULL;
	int r = proc_open_file(dir, name, O_RDONLY, &fd, err);

	if (r < 0)
		return r;
	r = read_all(fd, &buf, ret_len);
	if (r < 0)
		return err_sys(err, r, "cannot read its /proc file %s", name);
	*ret = TAKE_PTR(buf);
	return 0;
}

int proc_link(int dir, const char *name, char *buf, size_t size, struct err *err)
{
	ssize_t n = readlinkat(dir, name, buf, size);
	int code = n < 0 ? link_code(dir, -errno) : 0;

	if (code == -ENOENT || code == -EACCES) {
		n = readlinkat(dir, name, buf, size);
		code = n < 0 ? -errno : 0;
	}
	if (code)
		return err_sys(err, code, "cannot read its /proc link %s", name);
	if ((size_t)n >= size)
		return err_sys(err, -ENAMETOOLONG, "cannot read its /proc link %s", name);
	buf[n] = '\0';
	return 0;
}

int proc_ns_id(int dir, const char *ns, uint64_t *ret, struct err *err)
{
	char name[64], link[128], *bracket;
	struct scan s;
	int r;

	snprintf(name, sizeof(name), "ns/%s", ns);
	r = proc_link(dir, name, link, sizeof(link), err);
	if (r < 0)
		return r;
	bracket = strchr(link, '[');
	s = scan_of(bracket ? bracket + 1 : "", bracket ? strlen(bracket + 1) : 0);
	if (!scan_u64(&s, 10, ret))
		return err_set(err, -EBADMSG, "its /proc link %s is malformed: '%s'", name, link);
	return 0;
}

int proc_malformed(struct err *err, const char *name)
{
	return err_set(err, -EBADMSG, "its /proc file %s is malformed", name);
}
