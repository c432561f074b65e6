/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may not be frozen, where injection and twins fail and how that is said, and trees in motion.
 */
#include "freeze_case.h"

/* ---- who may not be frozen ---- */

static void main_traced(void)
{
	pid_t child = fork();

	if (!child)
		clone_pause(NULL);
	/* It may be so late that we are gone before it asks for a signal at our death. */
	ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_EXITKILL);
	main_pause();
}

static void test_traced(void **state)
{
	pid_t pid = start(main_traced);
	struct err err = ERR_INIT;

	assert_int_equal(try_freeze(pid, 0, &err), -EALREADY);
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

/* ---- where injection or twins fail ---- */

static void main_seccomp(void)
{
	struct sock_filter no_munmap[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_munmap, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {4, no_munmap};

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
	const struct {
		void (*child_main)(void);
		int code;
		const char *says;
	} cases[] = {
		{main_seccomp, geteuid() ? -EACCES : -EOPNOTSUPP, geteuid() ? "root" : "munmap(2)"},
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

/* ---- stacks that are none ---- */

static ucontext_t back;
static uint8_t *arena;
enum { ARENA = 1 << 20, ARENA_STACK = 2048 };

/* The sanitizers' own frames would not fit. */
#if defined(__clang__)
#define PLAIN __attribute__((no_sanitize("address", "undefined")))
#else
#define PLAIN
#endif

PLAIN static void on_coroutine(void)
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

/* ---- trees in motion ---- */

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
	assert_non_null(strchr("RSD", state_of(pid)));
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	finish(pid);
}

/* A child that is in vfork most of the time. */
static void main_vfork_below(void)
{
	char *const argv[] = {"true", NULL};

	if (fork())
		main_pause();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		if (!vfork()) {
			execv("/bin/true", argv);
			_exit(1);
		}
		wait(NULL);
	}
}

static void test_vfork_below(void **state)
{
	pid_t pid = start(main_vfork_below);

	for (int i = 0; i < 60; i++)
		visit(pid);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_traced),	     cmocka_unit_test(test_self),
		cmocka_unit_test(test_foreign),	     cmocka_unit_test(test_pid_ns),
		cmocka_unit_test(test_inject_fails), cmocka_unit_test(test_no_file_size),
		cmocka_unit_test(test_no_fork),	     cmocka_unit_test(test_coroutine),
		cmocka_unit_test(test_vfork_below),   cmocka_unit_test(test_storm),	     cmocka_unit_test(test_exec_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
