/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Work inside the namespaces of a task: setns(2), one child that enters and one of it
 * that is inside (a PID namespace holds only for children: pid_namespaces(7)). Reads /proc/PID/ns,
 * uid_map, gid_map and mountinfo. Entered are user, PID, mount, IPC and time namespaces.
 */
#include "engine/enter.h"

#include "base/interrupt.h"
#include "base/util.h"
#include "engine/nspace.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

/* ---- which ------------------------------------------------------------------------------------
 */

struct sides {
	int ours, theirs; /* /proc directories */
};

static const struct {
	const char *link;
	int flag;
} enterable[] = {
	{"user", CLONE_NEWUSER}, {"pid", CLONE_NEWPID},	  {"mnt", CLONE_NEWNS},
	{"ipc", CLONE_NEWIPC},	 {"time", CLONE_NEWTIME},
};

static int find_differences(const struct sides *s)
{
	int flags = 0;

	for (size_t i = 0; i < ARRAY_SIZE(enterable); i++) {
		uint64_t ours, theirs;

		if (proc_ns_id(s->ours, enterable[i].link, &ours, NULL) == 0 &&
		    proc_ns_id(s->theirs, enterable[i].link, &theirs, NULL) == 0 && ours != theirs)
			flags |= enterable[i].flag;
	}
	return flags;
}

/* Every id is called inside what it is called outside. */
static bool is_identity(int dir, const char *map)
{
	_cleanup_free_ char *text = NULL;
	unsigned inside, outside, count;
	size_t len = 0;
	int used;

	if (proc_read(dir, map, &text, &len, NULL) < 0)
		return false;
	for (const char *s = text; sscanf(s, "%u %u %u %n", &inside, &outside, &count, &used) == 3;
	     s += used)
		if (inside != outside)
			return false;
	return true;
}

/* What a restore mounts for its tree. */
static bool is_of_restore(const struct proc_mount *m)
{
	return (strcmp(m->fstype, "tmpfs") == 0 && strcmp(m->source, NSPACE_OWN_FILE) == 0) ||
	       (strcmp(m->mountpoint, "/dev/pts") == 0 && strcmp(m->fstype, "devpts") == 0) ||
	       strcmp(m->mountpoint, "/proc") == 0 || strncmp(m->mountpoint, "/proc/", 6) == 0;
}

static bool is_same_mount(const struct proc_mount *a, const struct proc_mount *b)
{
	return a->dev_major == b->dev_major && a->dev_minor == b->dev_minor &&
	       strcmp(a->root, b->root) == 0 && strcmp(a->mountpoint, b->mountpoint) == 0 &&
	       strcmp(a->fstype, b->fstype) == 0;
}

static bool has_mount(const struct proc_mounts *m, const struct proc_mount *wanted)
{
	for (size_t i = 0; i < m->n; i++)
		if (is_same_mount(&m->mount[i], wanted))
			return true;
	return false;
}

/* Copies of a mount namespace list its mounts in another order. */
static bool has_all_mounts(const struct proc_mounts *m, const struct proc_mounts *wanted)
{
	for (size_t i = 0; i < wanted->n; i++)
		if (!is_of_restore(&wanted->mount[i]) && !has_mount(m, &wanted->mount[i]))
			return false;
	return true;
}

/* Paths must lead to the same files on both sides, but for /proc and /dev/pts. */
static bool has_our_mounts(const struct sides *s)
{
	struct proc_mounts ours = {0}, theirs = {0};
	bool ret = proc_mounts(s->ours, &ours, NULL) == 0 &&
		   proc_mounts(s->theirs, &theirs, NULL) == 0 && has_all_mounts(&ours, &theirs) &&
		   has_all_mounts(&theirs, &ours);

	proc_mounts_release(&ours);
	proc_mounts_release(&theirs);
	return ret;
}

static int inner_pid(int dir, pid_t *ret, struct err *err)
{
	struct proc_status st = {0};
	int r = proc_status(dir, &st, err);

	if (r == 0 && st.nns > 0)
		*ret = st.nstgid[st.nns - 1];
	proc_status_release(&st);
	return r;
}

/* A mount namespace may have the /proc of PIDs that are not theirs (unshare(1) --fork --mount-proc). */
static bool has_proc_of_theirs(const struct sides *s)
{
	char path[48];
	pid_t pid = 0;

	if (inner_pid(s->theirs, &pid, NULL) < 0)
		return false;
	snprintf(path, sizeof(path), "root/proc/%d/stat", pid);
	return faccessat(s->theirs, path, F_OK, 0) == 0;
}

static bool can_enter(const struct sides *s, int flags)
{
	/* Without mounts of its own, its /proc would show other numbers. */
	if (flags & CLONE_NEWPID && !(flags & CLONE_NEWNS))
		return false;
	if (flags & CLONE_NEWUSER &&
	    !(is_identity(s->theirs, "uid_map") && is_identity(s->theirs, "gid_map")))
		return false;
	return !(flags & CLONE_NEWNS) || (has_our_mounts(s) && has_proc_of_theirs(s));
}

/* An exited leader has no namespaces any more. */
static int open_thread(pid_t root)
{
	_cleanup_close_ int dir = -1;
	_cleanup_free_ pid_t *tid = NULL;
	size_t n = 0;
	int ret = -1;

	if (proc_open(-1, root, 0, &dir, NULL) < 0 || proc_tids(dir, &tid, &n, NULL) < 0)
		return -1;
	for (size_t i = 0; i < n && ret < 0; i++) {
		_cleanup_close_ int thread = -1;
		uint64_t id;

		if (proc_open(-1, root, tid[i], &thread, NULL) == 0 &&
		    proc_ns_id(thread, "mnt", &id, NULL) == 0)
			ret = TAKE_FD(thread);
	}
	return ret;
}

int enter_plan_make(pid_t root, struct enter_plan *ret, struct err *err)
{
	_cleanup_close_ int ours = -1;
	_cleanup_close_ int theirs = open_thread(root);
	int r = proc_open(-1, getpid(), 0, &ours, err), flags;

	*ret = (struct enter_plan)ENTER_PLAN_INIT;
	ret->pid = root;
	if (r < 0)
		return r;
	/* What is not there or may not be read is told by the freeze, better. */
	if (theirs < 0)
		return 0;
	flags = find_differences(&(struct sides){ours, theirs});
	if (!flags || !can_enter(&(struct sides){ours, theirs}, flags))
		return 0;
	if (flags & CLONE_NEWPID)
		r = inner_pid(theirs, &ret->pid, err);
	if (r == 0) {
		ret->flags = flags;
		ret->dir = TAKE_FD(theirs);
	}
	return r;
}

void enter_plan_release(struct enter_plan *p)
{
	if (p->dir >= 0)
		close(p->dir);
	p->dir = -1;
}

/* ---- the result comes home through a pipe ------------------------------------------------------
 */

struct parcel {
	int ret;
	struct cpx_result
		result; /* its pointers mean nothing; "PID TEXT\0" for each refusal follows */
};

void enter_report(struct enter_plan *p, int ret, const struct cpx_result *r)
{
	const struct parcel parcel = {.ret = ret, .result = *r};
	FILE *f = p->home >= 0 ? fdopen(p->home, "w") : NULL;

	if (!f)
		return;
	p->home = -1;
	fwrite(&parcel, sizeof(parcel), 1, f);
	for (size_t i = 0; i < r->nrefusals; i++)
		fprintf(f, "%d %s%c", r->refusal[i].pid, r->refusal[i].text, '\0');
	fclose(f);
}

/* Reads to the end. A signal to us ends the work there, which then undoes what it did and says so.
 */
static int slurp(int fd, pid_t child, char **ret, size_t *ret_len)
{
	size_t max = 0;

	for (;;) {
		ssize_t n;

		if (grow(ret, &max, *ret_len + 4096, 1) < 0)
			return -ENOMEM;
		n = read(fd, *ret + *ret_len, 4096);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n < 0 && interrupt_check(NULL) < 0)
			kill(child, SIGTERM);
		*ret_len += MAX(n, 0);
	}
}

static int unpack_refusals(const char *text, const char *end, size_t n, struct cpx_result *r)
{
	r->refusal = calloc(n + 1, sizeof(*r->refusal));
	while (r->refusal && r->nrefusals < n && text < end) {
		char *rest;
		struct cpx_refusal *refusal = &r->refusal[r->nrefusals];

		refusal->pid = strtol(text, &rest, 10);
		refusal->text = strdup(rest + 1);
		if (!refusal->text)
			return -ENOMEM;
		r->nrefusals++;
		text = rest + strlen(rest) + 1;
	}
	return r->nrefusals == n ? 0 : -ENOMEM;
}

static int receive_home(int fd, pid_t child, struct cpx_result *r, struct err *err)
{
	_cleanup_free_ char *data = NULL;
	struct parcel parcel;
	size_t len = 0;
	int ret = slurp(fd, child, &data, &len);

	if (ret < 0)
		return err_sys(err, ret, "cannot read the result");
	if (len < sizeof(parcel))
		return err_set(err, -EPIPE,
			       "the part of cpx in the namespaces of the tree ended early");
	memcpy(&parcel, data, sizeof(parcel));
	*r = parcel.result;
	r->refusal = NULL;
	r->nrefusals = 0;
	data[len - 1] = len > sizeof(parcel) ? '\0' : data[len - 1];
	ret = unpack_refusals(data + sizeof(parcel), data + len, parcel.result.nrefusals, r);
	return ret < 0 ? err_nomem(err) : parcel.ret;
}

/* ---- the two children --------------------------------------------------------------------------
 */

struct work {
	struct enter_plan *plan;
	int (*fn)(void *arg, struct cpx_result *r);
	void *arg;
};

static void fail(const struct work *w, const char *what)
{
	struct cpx_result r = {.outcome = CPX_FAILED};
	int ret = -errno;

	snprintf(r.error, sizeof(r.error), "cannot enter the namespaces of the tree: %s: %s", what,
		 strerror(-ret));
	enter_report(w->plan, ret, &r);
	_exit(1);
}

static void inside(const struct work *w)
{
	struct cpx_result r = CPX_RESULT_INIT;
	int ret;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	ret = w->fn(w->arg, &r);
	enter_report(w->plan, ret, &r);
	_exit(0);
}

/* All are opened before the first is entered: afterwards we may be nobody to the others. The user
 * namespace comes first, as it gives the rights to enter the others. */
static int enter_all(const struct enter_plan *p)
{
	int fd[ARRAY_SIZE(enterable)];
	char name[32];

	for (size_t i = 0; i < ARRAY_SIZE(enterable); i++) {
		snprintf(name, sizeof(name), "ns/%s", enterable[i].link);
		fd[i] = p->flags & enterable[i].flag ? openat(p->dir, name, O_RDONLY | O_CLOEXEC)
						     : -1;
		if (fd[i] < 0 && p->flags & enterable[i].flag)
			return -1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(enterable); i++)
		if (fd[i] >= 0 && (setns(fd[i], enterable[i].flag) < 0 || close(fd[i]) < 0))
			return -1;
	return 0;
}

/* Goes in and waits for its child; SIGTERM ends it at once, and its end is the child's SIGTERM. */
static void go_in(const struct work *w)
{
	pid_t child;

	if (enter_all(w->plan) < 0)
		fail(w, "setns");
	/* Only now: changed credentials clear this and make us undumpable, so that our own files in
	 * /proc were not ours. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_DUMPABLE, 1);
	child = fork();
	if (child < 0)
		fail(w, "fork");
	if (child == 0)
		inside(w);
	close(w->plan->home);
	signal(SIGTERM, SIG_DFL);
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	_exit(0);
}

int enter_run(struct enter_plan *p, int (*fn)(void *arg, struct cpx_result *r), void *arg,
	      struct cpx_result *r, struct err *err)
{
	int fd[2], ret;
	pid_t child;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return err_sys(err, -errno, "cannot make a pipe");
	fflush(NULL);
	child = fork();
	if (child == 0) {
		close(fd[0]);
		p->home = fd[1];
		go_in(&(struct work){.plan = p, .fn = fn, .arg = arg});
	}
	ret = child < 0 ? err_sys(err, -errno, "cannot fork") : 0;
	close(fd[1]);
	if (ret == 0)
		ret = receive_home(fd[0], child, r, err);
	close(fd[0]);
	while (child > 0 && waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return ret;
}
