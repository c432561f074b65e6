/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pending signals with who sent them, their values and their order: of the process and of each thread. */
#include "subject.h"

static volatile pid_t tid;
static int tkill_code; /* SI_TKILL, or what this kernel gives */

static void block_all(void)
{
	sigset_t set;

	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void queue_thread(pid_t to, int signo, int value)
{
	siginfo_t si = {.si_signo = signo, .si_code = SI_QUEUE};

	si.si_pid = getpid();
	si.si_uid = getuid();
	si.si_value.sival_int = value;
	MUST(syscall(SYS_rt_tgsigqueueinfo, getpid(), to, signo, &si));
}

/* What sigtimedwait gives next, in the kernel's order: own queue first, lowest signal first. */
static void expect(int signo, int code, int value)
{
	struct timespec none = {0, 0};
	siginfo_t si;
	sigset_t set;

	sigfillset(&set);
	CHECK_EQ(sigtimedwait(&set, &si, &none), signo);
	CHECK_EQ(si.si_signo, signo);
	CHECK_EQ(si.si_code, code);
	CHECK_EQ(si.si_pid, getpid());
	CHECK_EQ(si.si_uid, getuid());
	if (code == SI_QUEUE)
		CHECK_EQ(si.si_value.sival_int, value);
}

static void learn_tkill_code(pid_t self)
{
	siginfo_t si;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	MUST(syscall(SYS_tgkill, getpid(), self, SIGUSR2));
	CHECK_EQ(sigwaitinfo(&set, &si), SIGUSR2);
	tkill_code = si.si_code;
}

static void *thread(void *arg)
{
	pid_t self = syscall(SYS_gettid);
	int i;

	learn_tkill_code(self);
	for (i = 0; i < 20; i++)
		queue_thread(self, SIGRTMIN + 1, 100 + i);
	MUST(syscall(SYS_tgkill, getpid(), self, SIGUSR2));
	tid = self;
	subject_wait();
	expect(SIGUSR2, tkill_code, 0);
	for (i = 0; i < 20; i++)
		expect(SIGRTMIN + 1, SI_QUEUE, 100 + i);
	return NULL;
}

int main(int argc, char **argv)
{
	union sigval v;
	pthread_t t;
	int i;

	subject_init(argc, argv);
	block_all();
	t = subject_thread(thread, NULL);
	while (!tid)
		subject_sleep_ms(1);
	for (i = 0; i < 30; i++) {
		v.sival_int = i;
		MUST(sigqueue(getpid(), SIGRTMIN + 3 - i % 2, v));
	}
	MUST(kill(getpid(), SIGUSR1));
	MUST(kill(getpid(), SIGTERM));
	subject_ready();
	subject_wait();
	subject_join_thread(t); /* its own go first, and they are all gone before it could take ours */
	expect(SIGUSR1, SI_USER, 0);
	expect(SIGTERM, SI_USER, 0);
	for (i = 1; i < 30; i += 2)
		expect(SIGRTMIN + 2, SI_QUEUE, i);
	for (i = 0; i < 30; i += 2)
		expect(SIGRTMIN + 3, SI_QUEUE, i);
	subject_pass();
}
