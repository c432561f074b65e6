/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Freezing, steering and thawing processes in awkward states. Each case forks a process that gets
 * into the state and says so through a pipe; afterwards it must be as if nothing had happened.
 */
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

/* ---- processes ---------------------------------------------------------------------------------
 */

static int ready_fd; /* in the child */

static void ready(void)
{
	if (write(ready_fd, "r", 1) != 1)
		_exit(99);
}

/* Runs main in a child; returns when it has said ready(). */
static pid_t start(void (*child_main)(void))
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

static void finish(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Until it sleeps in the call. */
static void wait_asleep_in(pid_t pid, long nr)
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

static char state_of(pid_t pid)
{
	struct proc_stat st;
	int dir;

	assert_int_equal(proc_open(-1, pid, 0, &dir, NULL), 0);
	assert_int_equal(proc_stat(dir, &st, NULL), 0);
	close(dir);
	return st.state;
}

static void wait_state(pid_t pid, char state)
{
	for (int i = 0; i < 2000 && state_of(pid) != state; i++)
		usleep(1000);
	assert_int_equal(state_of(pid), state);
}

static int exit_status(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* The tracer's wait has reaped it already: here it is the parent too. */
static void assert_dead(pid_t pid)
{
	assert_int_equal(kill(pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

/* ---- freezing ----------------------------------------------------------------------------------
 */

static void assert_ok(int r, const struct err *err)
{
	if (r)
		print_error("%s\n", err->msg);
	assert_int_equal(r, 0);
}

static void freeze(struct tree *tree, pid_t pid)
{
	struct err err = ERR_INIT;

	assert_ok(tree_freeze(tree, pid, &(struct freeze_options){0}, &err), &err);
}

static void freeze_and_inject(struct tree *tree, pid_t pid)
{
	struct err err = ERR_INIT;

	freeze(tree, pid);
	assert_ok(tracee_inject_all(tree, &err), &err);
}

static void thaw(struct tree *tree)
{
	tree_thaw(tree, THAW_RUN);
	tree_release(tree);
}

static int64_t run1(struct tracee *t, size_t thread, uint64_t nr)
{
	struct err err = ERR_INIT;
	struct batch b = tracee_batch(t);

	BATCH_CALL(&b, nr);
	assert_ok(tracee_thread_run(t, thread, &b, &err), &err);
	return batch_ret(&b, 0);
}

/* Freezes, injects, runs calls in all threads, makes twins, thaws. */
static void visit(pid_t pid)
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

static int try_freeze(pid_t pid, unsigned timeout_ms, struct err *err)
{
	struct tree tree;
	int r = tree_freeze(&tree, pid, &(struct freeze_options){.timeout_ms = timeout_ms}, err);

	thaw(&tree);
	return r;
}

static void assert_says(const struct err *err, const char *what)
{
	if (!strstr(err->msg, what))
		print_error("\"%s\" not in \"%s\"\n", what, err->msg);
	assert_non_null(strstr(err->msg, what));
}

/* ---- stopped tasks ------------------------------------------------------------------------------
 */

static volatile sig_atomic_t sigchlds;

static void on_sigchld(int sig)
{
	sigchlds++;
}

static int clone_pause(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
	return 0;
}

static void main_pause(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	ready();
	for (;;)
		pause();
}

static void test_group_stop(void **state)
{
	pid_t pid = start(main_pause);
	struct tree tree;
	int status;

	kill(pid, SIGSTOP);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	signal(SIGCHLD, on_sigchld);
	sigchlds = 0;
	freeze_and_inject(&tree, pid);
	assert_true(tree.task[0]->thread[0].in_group_stop);
	assert_int_equal(tree.task[0]->thread[0].stop_signal, SIGSTOP);
	assert_int_equal(run1(tree.task[0], 0, SYS_getpid), pid);
	thaw(&tree);
	usleep(20000);
	wait_state(pid, 'T');
	assert_int_equal(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
	kill(pid, SIGCONT);
	assert_int_equal(waitpid(pid, &status, WCONTINUED), pid);
	wait_state(pid, 'S');
	signal(SIGCHLD, SIG_DFL);
	finish(pid);
}

/* A stop that the parent has not asked for yet is still there to be asked for. */
static void test_group_stop_unreported(void **state)
{
	pid_t pid = start(main_pause);
	int status;

	kill(pid, SIGSTOP);
	wait_state(pid, 'T');
	visit(pid);
	assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
	assert_true(WIFSTOPPED(status));
	finish(pid);
}

static void test_stop_while_injected(void **state)
{
	pid_t pid = start(main_pause);
	struct tree tree;

	freeze_and_inject(&tree, pid);
	kill(pid, SIGSTOP);
	assert_int_equal(run1(tree.task[0], 0, SYS_getpid), pid);
	usleep(30000);
	assert_int_equal(run1(tree.task[0], 0, SYS_getpid), pid);
	thaw(&tree);
	wait_state(pid, 'T');
	kill(pid, SIGCONT);
	wait_state(pid, 'S');
	finish(pid);
}

static void test_continue_while_injected(void **state)
{
	pid_t pid = start(main_pause);
	struct tree tree;

	kill(pid, SIGSTOP);
	wait_state(pid, 'T');
	freeze_and_inject(&tree, pid);
	kill(pid, SIGCONT);
	assert_int_equal(run1(tree.task[0], 0, SYS_getpid), pid);
	thaw(&tree);
	usleep(10000);
	wait_state(pid, 'S');
	finish(pid);
}

static void test_thaw_stop(void **state)
{
	pid_t pid = start(main_pause);
	struct tree tree;

	freeze_and_inject(&tree, pid);
	tree_thaw(&tree, THAW_STOP);
	tree_release(&tree);
	wait_state(pid, 'T');
	kill(pid, SIGCONT);
	wait_state(pid, 'S');
	finish(pid);
}

static void test_thaw_kill(void **state)
{
	pid_t pid = start(main_pause);
	struct tree tree;

	freeze_and_inject(&tree, pid);
	tree_thaw(&tree, THAW_KILL);
	tree_release(&tree);
	assert_dead(pid);
}

static void test_killed_while_injected(void **state)
{
	pid_t pid = start(main_pause);
	struct err err = ERR_INIT;
	struct tree tree;
	struct batch b;

	freeze_and_inject(&tree, pid);
	kill(pid, SIGKILL);
	b = tracee_batch(tree.task[0]);
	BATCH_CALL(&b, SYS_getpid);
	/* It may still be quick enough. */
	while (tracee_run(tree.task[0], &b, &err) == 0)
		;
	assert_int_equal(err.code, -ESRCH);
	thaw(&tree);
	assert_dead(pid);
}

/* ---- calls that a stop interrupts ---------------------------------------------------------------
 */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

static void main_nanosleep(void)
{
	struct timespec t = {.tv_nsec = 600000000}, rest;
	uint64_t begin = now_ms(), slept;

	ready();
	if (nanosleep(&t, &rest))
		_exit(1);
	slept = now_ms() - begin;
	_exit(slept < 590 ? 2 : slept > 1000 ? 3 : 0);
}

static void test_nanosleep(void **state)
{
	pid_t pid = start(main_nanosleep);
	uint64_t asleep;
	struct tree tree;

	wait_asleep_in(pid, SYS_clock_nanosleep);
	usleep(200000);
	freeze(&tree, pid);
	asleep = tree.task[0]->thread[0].asleep_ns / 1000000;
	thaw(&tree);
	print_message("asleep for %llu ms\n", (unsigned long long)asleep);
	assert_in_range(asleep, 120, 400);
	for (int i = 0; i < 5; i++)
		visit(pid);
	assert_int_equal(exit_status(pid), 0);
}

static void main_epoll(void)
{
	struct epoll_event ev;
	int ep = epoll_create1(0);
	uint64_t begin = now_ms(), slept;

	ready();
	if (epoll_wait(ep, &ev, 1, 600))
		_exit(1);
	slept = now_ms() - begin;
	_exit(slept < 590 ? 2 : slept > 1500 ? 3 : 0);
}

static void main_sigtimedwait(void)
{
	struct timespec t = {.tv_nsec = 300000000};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	ready();
	_exit(sigtimedwait(&set, NULL, &t) == -1 && errno == EAGAIN ? 0 : 1);
}

static void main_semop(void)
{
	int id = semget(IPC_PRIVATE, 1, 0600);
	struct sembuf op = {.sem_op = -1};
	struct timespec t = {.tv_nsec = 300000000};
	int r, code;

	ready();
	r = semtimedop(id, &op, 1, &t);
	code = errno;
	semctl(id, 0, IPC_RMID);
	_exit(r == -1 && code == EAGAIN ? 0 : 1);
}

static void test_no_eintr(void **state)
{
	static const struct {
		void (*child_main)(void);
		long nr;
	} cases[] = {
		{main_epoll, SYS_epoll_wait},
		{main_sigtimedwait, SYS_rt_sigtimedwait},
		{main_semop, SYS_semtimedop},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pid_t pid = start(cases[i].child_main);

		wait_asleep_in(pid, cases[i].nr);
		visit(pid);
		visit(pid);
		assert_int_equal(exit_status(pid), 0);
	}
}

static void on_usr1(int sig)
{
}

static void main_epoll_signal(void)
{
	struct sigaction sa = {.sa_handler = on_usr1};
	struct epoll_event ev;
	int ep = epoll_create1(0);

	sigaction(SIGUSR1, &sa, NULL);
	ready();
	_exit(epoll_wait(ep, &ev, 1, -1) == -1 && errno == EINTR ? 0 : 1);
}

static void main_sigsuspend(void)
{
	struct sigaction sa = {.sa_handler = on_usr1};
	sigset_t set, none;

	sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&none);
	sigfillset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	ready();
	if (sigsuspend(&none) != -1 || errno != EINTR)
		_exit(1);
	sigprocmask(SIG_SETMASK, NULL, &set);
	_exit(!sigismember(&set, SIGUSR2));
}

/* A signal that comes while the call is frozen does interrupt it. */
static void test_signal_while_frozen(void **state)
{
	static const struct {
		void (*child_main)(void);
		long nr;
	} cases[] = {
		{main_epoll_signal, SYS_epoll_wait},
		{main_sigsuspend, SYS_rt_sigsuspend},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pid_t pid = start(cases[i].child_main);
		struct tree tree;

		wait_asleep_in(pid, cases[i].nr);
		visit(pid);
		freeze_and_inject(&tree, pid);
		assert_int_equal(run1(tree.task[0], 0, SYS_getpid), pid);
		kill(pid, SIGUSR1);
		thaw(&tree);
		assert_int_equal(exit_status(pid), 0);
	}
}

/* ---- family -------------------------------------------------------------------------------------
 */

static void main_zombie(void)
{
	pid_t child = fork();
	siginfo_t info;

	if (!child)
		_exit(7);
	waitid(P_PID, child, &info, WEXITED | WNOWAIT);
	main_pause();
}

static void test_zombie(void **state)
{
	pid_t pid = start(main_zombie);
	struct tree tree;

	freeze(&tree, pid);
	assert_int_equal(tree.n, 2);
	assert_true(tree.task[1]->is_zombie);
	assert_false(tree.task[0]->is_zombie);
	thaw(&tree);
	visit(pid);
	finish(pid);
}

static void *thread_pause(void *arg)
{
	usleep(100000);
	clone_pause(NULL);
	return NULL;
}

static void main_exited_leader(void)
{
	pthread_t t[3];

	ready();
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, thread_pause, NULL);
	pthread_exit(NULL);
}

static void test_exited_leader(void **state)
{
	pid_t pid = start(main_exited_leader);
	struct tree tree;

	wait_state(pid, 'Z');
	freeze(&tree, pid);
	assert_int_equal(tree.task[0]->nthreads, 4);
	assert_true(tree.task[0]->thread[0].is_exited);
	assert_false(tree.task[0]->is_zombie);
	thaw(&tree);
	visit(pid);
	finish(pid);
}

static char clone_stack[65536] __attribute__((aligned(16)));

static void main_shared_vm(void)
{
	clone(clone_pause, clone_stack + sizeof(clone_stack), CLONE_VM | SIGCHLD, NULL);
	if (!fork())
		clone_pause(NULL);
	main_pause();
}

static void test_shared_vm(void **state)
{
	pid_t pid = start(main_shared_vm);
	struct tree tree;

	freeze_and_inject(&tree, pid);
	assert_int_equal(tree.n, 3);
	for (size_t i = 1; i < 3; i++) {
		struct tracee *t = tree.task[i];
		bool shares = t->mm_owner == tree.task[0];

		assert_true(shares || t->mm_owner == t);
		assert_int_equal(run1(t, 0, SYS_getpid), t->pid);
	}
	assert_true((tree.task[1]->mm_owner == tree.task[0]) !=
		    (tree.task[2]->mm_owner == tree.task[0]));
	thaw(&tree);
	visit(pid);
	finish(pid);
}

static void main_vfork(void)
{
	ready();
	if (!vfork()) {
		usleep(400000);
		_exit(0);
	}
	clone_pause(NULL);
}

static void test_vfork(void **state)
{
	pid_t pid = start(main_vfork);
	struct err err = ERR_INIT;

	wait_state(pid, 'D');
	assert_int_equal(try_freeze(pid, 50, &err), -EBUSY);
	assert_says(&err, "vfork");
	visit(pid);
	finish(pid);
}

static void main_subreaper(void)
{
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (!fork())
		main_pause();
	clone_pause(NULL);
}

static void test_subreaper(void **state)
{
	pid_t pid = start(main_subreaper);
	struct err err = ERR_INIT;
	struct twin *w = NULL;
	struct tree tree;

	freeze_and_inject(&tree, pid);
	assert_int_equal(tree.n, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(twin_make(tree.task[i], &w, &err), -EOPNOTSUPP);
		assert_says(&err, "subreaper");
	}
	thaw(&tree);
	finish(pid);
}

/* ---- who may not be frozen
 * ------------------------------------------------------------------------ */

static void main_traced(void)
{
	pid_t child = fork();

	if (!child)
		clone_pause(NULL);
	ptrace(PTRACE_SEIZE, child, 0, 0);
	main_pause();
}

static void test_traced(void **state)
{
	pid_t pid = start(main_traced);
	struct err err = ERR_INIT;

	assert_int_equal(try_freeze(pid, 0, &err), -EPERM);
	assert_says(&err, "is traced already, by task");
	assert_says(&err, "test_freeze");
	wait_state(pid, 'S');
	finish(pid);
}

static void test_self(void **state)
{
	struct err err = ERR_INIT;

	assert_int_equal(try_freeze(getpid(), 0, &err), -EINVAL);
	assert_says(&err, "is cpx itself");
	assert_int_equal(try_freeze(getppid(), 0, &err), -EINVAL);
	assert_says(&err, "runs in the tree");
	assert_int_equal(try_freeze(0x3ffffff, 0, &err), -ESRCH);
	assert_says(&err, "does not exist");
}

static void test_foreign(void **state)
{
	pid_t pid = start(main_pause), child;

	if (geteuid())
		skip();
	child = fork();
	if (!child) {
		struct err err = ERR_INIT;

		if (setgid(NOBODY) || setuid(NOBODY))
			_exit(1);
		_exit(try_freeze(pid, 0, &err) == -EPERM || err.code == -EACCES
			      ? !strstr(err.msg, "belongs to user 0")
			      : 2);
	}
	assert_int_equal(exit_status(child), 0);
	finish(pid);
}

static void main_pid_ns(void)
{
	if (unshare(CLONE_NEWPID))
		_exit(1);
	if (!fork())
		main_pause();
	clone_pause(NULL);
}

static void test_pid_ns(void **state)
{
	struct err err = ERR_INIT;
	pid_t pid;

	if (geteuid())
		skip();
	pid = start(main_pid_ns);
	assert_int_equal(try_freeze(pid, 0, &err), -EOPNOTSUPP);
	assert_says(&err, "another PID namespace");
	finish(pid);
}

/* ---- where injection or twins fail
 * ---------------------------------------------------------------- */

static void main_seccomp(void)
{
	struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog prog = {1, allow};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
		_exit(1);
	main_pause();
}

static void set_limit(int what, rlim_t value)
{
	struct rlimit l;

	getrlimit(what, &l);
	l.rlim_cur = value;
	setrlimit(what, &l);
}

static void main_nofile(void)
{
	set_limit(RLIMIT_NOFILE, 3);
	main_pause();
}

static void main_as(void)
{
	set_limit(RLIMIT_AS, 1 << 20);
	main_pause();
}

static void test_inject_fails(void **state)
{
	static const struct {
		void (*child_main)(void);
		int code;
		const char *says;
	} cases[] = {
		{main_seccomp, -EOPNOTSUPP, "seccomp"},
		{main_nofile, -EMFILE, "memfd"},
		{main_as, -ENOMEM, "map memory"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		pid_t pid = start(cases[i].child_main);
		struct err err = ERR_INIT;
		struct tree tree;

		freeze(&tree, pid);
		assert_int_equal(tracee_inject_all(&tree, &err), cases[i].code);
		assert_says(&err, cases[i].says);
		thaw(&tree);
		wait_asleep_in(pid, SYS_pause);
		finish(pid);
	}
}

static void main_fsize(void)
{
	set_limit(RLIMIT_FSIZE, 0);
	main_pause();
}

static void test_no_file_size(void **state)
{
	pid_t pid = start(main_fsize);

	visit(pid);
	wait_asleep_in(pid, SYS_pause);
	finish(pid);
}

static void main_nproc(void)
{
	set_limit(RLIMIT_NPROC, 1);
	if (setgid(NOBODY) || setuid(NOBODY))
		_exit(1);
	main_pause();
}

static void test_no_fork(void **state)
{
	struct err err = ERR_INIT;
	struct twin *w = NULL;
	struct tree tree;
	pid_t pid;

	if (geteuid())
		skip();
	pid = start(main_nproc);
	freeze_and_inject(&tree, pid);
	assert_int_equal(twin_make(tree.task[0], &w, &err), -EAGAIN);
	assert_says(&err, "cannot fork");
	assert_int_equal(run1(tree.task[0], 0, SYS_getpid), pid);
	thaw(&tree);
	wait_asleep_in(pid, SYS_pause);
	finish(pid);
}

/* ---- stacks that are none
 * --------------------------------------------------------------------------- */

static ucontext_t back;
static uint8_t *arena;
enum { ARENA = 1 << 20, ARENA_STACK = 2048 };

static void on_coroutine(void)
{
	struct timespec t = {.tv_nsec = 300000000};

	ready();
	syscall(SYS_nanosleep, &t, NULL);
	for (size_t i = 0; i < ARENA / 2; i++)
		if (arena[i] != (uint8_t)(i * 31))
			_exit(1);
	_exit(0);
}

/* A tiny stack amid live data, as in Go. */
static void main_coroutine(void)
{
	ucontext_t c;
	char byte = 0;

	/* Bound now: resolving a function takes more stack than there will be. */
	if (write(ready_fd, &byte, 0) || syscall(SYS_getpid) < 0)
		_exit(1);
	arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < ARENA / 2; i++)
		arena[i] = (uint8_t)(i * 31);
	getcontext(&c);
	c.uc_stack = (stack_t){.ss_sp = arena + ARENA / 2, .ss_size = ARENA_STACK};
	c.uc_link = NULL;
	makecontext(&c, on_coroutine, 0);
	swapcontext(&back, &c);
}

static void test_coroutine(void **state)
{
	pid_t pid = start(main_coroutine);

	visit(pid);
	visit(pid);
	assert_int_equal(exit_status(pid), 0);
}

/* ---- trees in motion
 * -------------------------------------------------------------------------------- */

static void *thread_short(void *arg)
{
	return NULL;
}

/* Threads, children, vforks, programs begin and end all the time. */
static void main_storm(void)
{
	char *const argv[] = {"true", NULL};

	ready();
	for (;;) {
		pthread_t t[4];

		for (int i = 0; i < 4; i++)
			pthread_create(&t[i], NULL, thread_short, NULL);
		if (!fork())
			_exit(0);
		if (!vfork()) {
			execv("/bin/true", argv);
			_exit(1);
		}
		if (!fork()) {
			pthread_t u;

			pthread_create(&u, NULL, thread_pause, NULL);
			execv("/bin/true", argv);
			_exit(1);
		}
		for (int i = 0; i < 4; i++)
			pthread_join(t[i], NULL);
		for (int i = 0; i < 3; i++) {
			int status;

			if (wait(&status) < 0 || status)
				_exit(1);
		}
	}
}

static void test_storm(void **state)
{
	pid_t pid = start(main_storm);

	for (int i = 0; i < 60; i++)
		visit(pid);
	wait_state(pid, state_of(pid));
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	finish(pid);
}

static void *thread_exec(void *arg)
{
	char *const argv[] = {"sleep", "0.02", NULL};

	execv("/bin/sleep", argv);
	return NULL;
}

/* exec in a thread that is not the leader: it takes the leader's number. */
static void main_exec_storm(void)
{
	ready();
	for (;;) {
		int status;
		pid_t child = fork();

		if (!child) {
			pthread_t t[3];

			for (int i = 0; i < 3; i++)
				pthread_create(&t[i], NULL, i == 2 ? thread_exec : thread_pause,
					       NULL);
			clone_pause(NULL);
		}
		if (waitpid(child, &status, 0) != child || status)
			_exit(1);
	}
}

static void test_exec_storm(void **state)
{
	pid_t pid = start(main_exec_storm);

	for (int i = 0; i < 100; i++) {
		visit(pid);
		usleep((unsigned)i * 131 % 5000);
	}
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	finish(pid);
}

#define T(f) cmocka_unit_test(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_group_stop),
		T(test_group_stop_unreported),
		T(test_stop_while_injected),
		T(test_continue_while_injected),
		T(test_thaw_stop),
		T(test_thaw_kill),
		T(test_killed_while_injected),
		T(test_nanosleep),
		T(test_no_eintr),
		T(test_signal_while_frozen),
		T(test_zombie),
		T(test_exited_leader),
		T(test_shared_vm),
		T(test_vfork),
		T(test_subreaper),
		T(test_traced),
		T(test_self),
		T(test_foreign),
		T(test_pid_ns),
		T(test_inject_fails),
		T(test_no_file_size),
		T(test_no_fork),
		T(test_coroutine),
		T(test_storm),
		T(test_exec_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
