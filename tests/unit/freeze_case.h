/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the tests of freezing share: children that get into a state and say so through a pipe. */
#ifndef CPX_TESTS_FREEZE_CASE_H
#define CPX_TESTS_FREEZE_CASE_H

#include "base/util.h"
#include "proc/proc.h"
#include "tracee/tracee.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

#define NOBODY 65534

/* ---- processes ---- */

static int ready_fd __attribute__((unused)); /* in the child */

static inline void ready(void)
{
	/* Not write(2): that of the sanitizers takes more stack than some targets have. */
	if (syscall(SYS_write, ready_fd, "r", 1) != 1)
		_exit(99);
}

/* Runs main in a child; returns when it has said ready(). */
static inline pid_t start(void (*child_main)(void))
{
	int fds[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[0]);
		ready_fd = fds[1];
		child_main();
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	close(fds[0]);
	return pid;
}

static inline void finish(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Until it sleeps in the call. */
static inline void wait_asleep_in(pid_t pid, long nr)
{
	for (;;) {
		struct proc_syscall c;
		int dir;

		assert_int_equal(proc_open(-1, pid, 0, &dir, NULL), 0);
		assert_int_equal(proc_syscall(dir, &c, NULL), 0);
		close(dir);
		if (!c.is_running && c.nr == nr)
			return;
		usleep(1000);
	}
}

static inline char state_of(pid_t pid)
{
	struct proc_stat st;
	int dir;

	assert_int_equal(proc_open(-1, pid, 0, &dir, NULL), 0);
	assert_int_equal(proc_stat(dir, &st, NULL), 0);
	close(dir);
	return st.state;
}

static inline void wait_state(pid_t pid, char state)
{
	for (int i = 0; i < 2000 && state_of(pid) != state; i++)
		usleep(1000);
	assert_int_equal(state_of(pid), state);
}

static inline int exit_status(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* The tracer's wait has reaped it already: here it is the parent too. */
static inline void assert_dead(pid_t pid)
{
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

/* ---- freezing ---- */

static inline void assert_ok(int r, const struct err *err)
{
	if (r)
		print_error("%s\n", err->msg);
	assert_int_equal(r, 0);
}

static inline void freeze(struct tree *tree, pid_t pid)
{
	struct err err = ERR_INIT;

	assert_ok(tree_freeze(tree, pid, &(struct freeze_options){0}, &err), &err);
}

static inline void freeze_and_inject(struct tree *tree, pid_t pid)
{
	struct err err = ERR_INIT;

	freeze(tree, pid);
	assert_ok(tracee_inject_all(tree, &err), &err);
}

static inline void thaw(struct tree *tree)
{
	tree_thaw(tree, THAW_RUN);
	tree_release(tree);
}

static inline int64_t run1(struct tracee *t, size_t thread, uint64_t nr)
{
	struct err err = ERR_INIT;
	struct batch b = tracee_batch(t);

	BATCH_CALL(&b, nr);
	assert_ok(tracee_thread_run(t, thread, &b, &err), &err);
	return batch_ret(&b, 0);
}

/* Freezes, injects, runs calls in all threads, makes twins, thaws. */
static inline void visit(pid_t pid)
{
	struct twin *twin[64] = {0};
	struct err err = ERR_INIT;
	struct tree tree;

	freeze_and_inject(&tree, pid);
	for (size_t i = 0; i < tree.n; i++) {
		struct tracee *t = tree.task[i];

		for (size_t j = 0; !t->is_zombie && j < t->nthreads; j++)
			if (!t->thread[j].is_exited)
				assert_int_equal(run1(t, j, SYS_gettid), t->thread[j].tid);
		if (!t->is_zombie && t->mm_owner == t && i < 64)
			assert_ok(twin_make(t, &twin[i], &err), &err);
	}
	tree_thaw(&tree, THAW_RUN);
	for (size_t i = 0; i < 64; i++)
		twin_free(twin[i]);
	tree_release(&tree);
}

static inline int try_freeze(pid_t pid, unsigned timeout_ms, struct err *err)
{
	struct tree tree;
	int r = tree_freeze(&tree, pid, &(struct freeze_options){.timeout_ms = timeout_ms}, err);

	thaw(&tree);
	return r;
}

static inline void assert_says(const struct err *err, const char *what)
{
	if (!strstr(err->msg, what))
		print_error("\"%s\" not in \"%s\"\n", what, err->msg);
	assert_non_null(strstr(err->msg, what));
}

/* ---- children that wait ---- */

static inline int clone_pause(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

static inline void main_pause(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ready();
	for (;;)
		pause();
}

static inline void *thread_pause(void *arg)
{
	usleep(100000);
	clone_pause(NULL);
	return NULL;
}

#endif
