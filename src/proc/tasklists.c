/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Directories of numbers (task/, fd/, /proc itself) and task/TID/children. The children file
 * is exact only while the task is stopped (proc(5)), which is when the answer matters.
 */
#include "proc/internal.h"

#include <fcntl.h>

static int compare_ints(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

static bool is_number(const char *name, int *ret)
{
	struct scan s = scan_of(name, strlen(name));

	return *name >= '0' && *name <= '9' && scan_int(&s, ret) && scan_is_end(&s);
}

static int append(int **list, size_t *n, size_t *max, int value)
{
	if (grow(list, max, *n, sizeof(int)) < 0)
		return -ENOMEM;
	(*list)[(*n)++] = value;
	return 0;
}

static int list_dir(DIR *d, int **list, size_t *n)
{
	size_t max = 0;
	int value;

	for (;;) {
		struct dirent *e;

		errno = 0;
		e = readdir(d);
		if (!e)
			return -errno;
		if (is_number(e->d_name, &value) && append(list, n, &max, value) < 0)
			return -ENOMEM;
	}
}

/* Takes fd. */
static int list_fd(int fd, const char *name, int **ret, size_t *ret_n, struct err *err)
{
	_cleanup_closedir_ DIR *d = fdopendir(fd);
	_cleanup_free_ int *list = NULL;
	size_t n = 0;
	int r;

	if (!d) {
		r = -errno;
		close(fd);
		return err_sys(err, r, "cannot list /proc directory %s", name);
	}
	r = list_dir(d, &list, &n);
	if (r < 0)
		return err_sys(err, r == -ENOENT ? -ESRCH : r, "cannot list /proc directory %s",
			       name);
	if (n)
		qsort(list, n, sizeof(int), compare_ints);
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

static int list_numbers(int dir, const char *name, int **ret, size_t *ret_n, struct err *err)
{
	int fd, r = proc_open_file(dir, name, O_RDONLY | O_DIRECTORY, &fd, err);

	return r < 0 ? r : list_fd(fd, name, ret, ret_n, err);
}

int proc_tids(int dir, pid_t **ret, size_t *ret_n, struct err *err)
{
	return list_numbers(dir, "task", ret, ret_n, err);
}

int proc_fds(int dir, int **ret, size_t *ret_n, struct err *err)
{
	return list_numbers(dir, "fd", ret, ret_n, err);
}

int proc_pids(int proc_fd, pid_t **ret, size_t *ret_n, struct err *err)
{
	return list_numbers(proc_fd, proc_fd < 0 ? "/proc" : ".", ret, ret_n, err);
}

static int parse_children(const char *text, size_t len, pid_t **ret, size_t *ret_n)
{
	struct scan s = scan_of(text, len);
	_cleanup_free_ pid_t *list = NULL;
	size_t n = 0, max = 0;
	int pid;

	for (; scan_int(&s, &pid); scan_blanks(&s))
		if (append(&list, &n, &max, pid) < 0)
			return -ENOMEM;
	if (!scan_is_end(&s))
		return -EBADMSG;
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

int proc_children(int dir, pid_t **ret, size_t *ret_n, struct err *err)
{
	int r = PROC_READ_PARSED(dir, "children", parse_children, err, ret, ret_n);

	if (r == -ENOENT)
		return err_set(err, -EOPNOTSUPP,
			       "this kernel does not list children "
			       "(CONFIG_PROC_CHILDREN)");
	return r;
}

struct pid_list {
	pid_t *pid;
	size_t n, max;
};

static int children_of_thread(int proc_fd, pid_t pid, pid_t tid, struct pid_list *out,
			      struct err *err)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ pid_t *child = NULL;
	size_t n = 0;
	int r = proc_open(proc_fd, pid, tid, &dir, err);

	if (r == 0)
		r = proc_children(dir, &child, &n, err);
	if (r == -ESRCH)
		return 0; /* a thread that ended: its children are the others' now */
	for (size_t i = 0; r == 0 && i < n; i++)
		r = append(&out->pid, &out->n, &out->max, child[i]);
	return r == -ENOMEM ? err_nomem(err) : r;
}

static int children_by_threads(int proc_fd, pid_t pid, struct pid_list *out, struct err *err)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ pid_t *tid = NULL;
	size_t n = 0;
	int r = proc_open(proc_fd, pid, 0, &dir, err);

	if (r == 0)
		r = proc_tids(dir, &tid, &n, err);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = children_of_thread(proc_fd, pid, tid[i], out, err);
	return r;
}

static bool is_child(int proc_fd, pid_t pid, pid_t parent)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat st;

	return proc_open(proc_fd, pid, 0, &dir, NULL) == 0 && proc_stat(dir, &st, NULL) == 0 &&
	       st.ppid == parent;
}

static int children_by_ppid(int proc_fd, pid_t pid, struct pid_list *out, struct err *err)
{
	_cleanup_free_ pid_t *all = NULL;
	size_t n = 0;
	int r = proc_pids(proc_fd, &all, &n, err);

	for (size_t i = 0; r == 0 && i < n; i++)
		if (is_child(proc_fd, all[i], pid) &&
		    append(&out->pid, &out->n, &out->max, all[i]) < 0)
			r = err_nomem(err);
	return r;
}

int proc_children_of(int proc_fd, pid_t pid, pid_t **ret, size_t *ret_n, struct err *err)
{
	struct pid_list list = {0};
	int r = children_by_threads(proc_fd, pid, &list, err);

	if (r == -EOPNOTSUPP) {
		list.n = 0;
		r = children_by_ppid(proc_fd, pid, &list, err);
	}
	if (r < 0) {
		free(list.pid);
		return r;
	}
	if (list.n)
		qsort(list.pid, list.n, sizeof(pid_t), compare_ints);
	*ret = list.pid;
	*ret_n = list.n;
	return 0;
}
