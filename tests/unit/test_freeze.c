/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Freezing, steering and thawing processes in awkward states: afterwards they are as if nothing had
 * happened.
 */
#include "freeze_case.h"

/* ---- stopped tasks ---- */

static volatile sig_atomic_t sigchlds;

static void on_sigchld(int sig)
{
	sigchlds++;
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

/* ---- calls that a stop interrupts ---- */

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
	_exit(slept < 590 ? 2 : slept > 5000 ? 3 : 0);
}

/* Of all processors: "cpu user nice system idle iowait irq softirq steal" (proc(5)). */
static uint64_t stolen_ms(void)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/stat", "re");
	unsigned long long ticks = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "cpu %*u %*u %*u %*u %*u %*u %*u %llu", &ticks), 1);
	return ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* What is stolen meanwhile makes the sleep look shorter: see asleep.c. */
static void test_nanosleep(void **state)
{
	uint64_t asleep, since = now_ms(), stolen = stolen_ms();
	pid_t pid = start(main_nanosleep);
	struct tree tree;

	wait_asleep_in(pid, SYS_clock_nanosleep);
	usleep(200000);
	freeze(&tree, pid);
	asleep = tree.task[0]->thread[0].asleep_ns / 1000000;
	stolen = stolen_ms() - stolen;
	since = now_ms() - since;
	thaw(&tree);
	print_message("asleep for %llu ms, %llu ms stolen\n", (unsigned long long)asleep,
		      (unsigned long long)stolen);
	assert_in_range(asleep + stolen, 120, since + stolen);
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

/* ---- restartable sequences ---- */

struct rseq_page {
	volatile uint64_t epoch; /* counts the freezes */
	volatile uint64_t aborts, commits, torn;
};

static struct rseq_page *rseq_page;

extern const ptrdiff_t __rseq_offset __attribute__((weak));

/* Spends nearly all its time inside one critical section. If it is stopped there it must start
 * again: what it has read before the stop is stale. */
static void run_section(uint64_t *rseq_cs)
{
	struct rseq_page *p = rseq_page;
	uint64_t first, second;

	__asm__ volatile(".pushsection .data.rel.local, \"aw\"\n\t"
			 ".balign 32\n\t"
			 "9:\n\t"
			 ".long 0, 0\n\t"
			 ".quad 1f, 2f - 1f, 4f\n\t"
			 ".popsection\n\t"
			 "3:\n\t"
			 "leaq 9b(%%rip), %%rax\n\t"
			 "movq %%rax, (%[cs])\n\t"
			 "1:\n\t"
			 "movq (%[page]), %[first]\n\t"
			 "movl $200000, %%ecx\n\t"
			 "5:\n\t"
			 "decl %%ecx\n\t"
			 "jnz 5b\n\t"
			 "movq (%[page]), %[second]\n\t"
			 "2:\n\t"
			 "jmp 6f\n\t"
			 ".byte 0x0f, 0xb9, 0x3d\n\t"
			 ".long 0x53053053\n\t"
			 "4:\n\t"
			 "lock incq 8(%[page])\n\t"
			 "jmp 3b\n\t"
			 "6:"
			 : [first] "=&r"(first), [second] "=&r"(second)
			 : [cs] "r"(rseq_cs), [page] "r"(p)
			 : "rax", "rcx", "memory", "cc");
	p->torn += first != second;
	p->commits++;
}

static void main_rseq(void)
{
	uint64_t *area = (uint64_t *)((char *)__builtin_thread_pointer() + __rseq_offset);

	ready();
	for (;;)
		run_section(&area[1]);
}

static void test_rseq(void **state)
{
	struct tree tree;
	pid_t pid;

	if (!&__rseq_offset)
		skip();
	rseq_page = mmap(NULL, CPX_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);
	pid = start(main_rseq);
	for (int i = 0; i < 200; i++) {
		freeze(&tree, pid);
		rseq_page->epoch++;
		if (i % 2) {
			struct err err = ERR_INIT;

			assert_ok(tracee_inject_all(&tree, &err), &err);
			assert_int_equal(run1(tree.task[0], 0, SYS_getpid), pid);
		}
		thaw(&tree);
		usleep((unsigned)i * 37 % 1000);
	}
	print_message("%llu aborts, %llu commits\n", (unsigned long long)rseq_page->aborts,
		      (unsigned long long)rseq_page->commits);
	assert_true(rseq_page->commits > 0);
	assert_true(rseq_page->aborts > 50);
	assert_int_equal(rseq_page->torn, 0);
	finish(pid);
}

/* ---- family ---- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_group_stop),
		cmocka_unit_test(test_group_stop_unreported),
		cmocka_unit_test(test_stop_while_injected),
		cmocka_unit_test(test_continue_while_injected),
		cmocka_unit_test(test_thaw_stop),
		cmocka_unit_test(test_thaw_kill),
		cmocka_unit_test(test_killed_while_injected),
		cmocka_unit_test(test_nanosleep),
		cmocka_unit_test(test_no_eintr),
		cmocka_unit_test(test_signal_while_frozen),
		cmocka_unit_test(test_rseq),
		cmocka_unit_test(test_zombie),
		cmocka_unit_test(test_exited_leader),
		cmocka_unit_test(test_shared_vm),
		cmocka_unit_test(test_vfork),
		cmocka_unit_test(test_subreaper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
