/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A session on a pseudo-terminal whose master is in the tree: controlling terminal of leader and
 * children, foreground group, /dev/tty, ^C and ^Z, background writes, the hang-up at the end. */
#include "subject.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int master, slave, tty;
static volatile sig_atomic_t interrupted;
static struct {
	volatile pid_t leader, front, back, loose;
	volatile int is_checked, is_interrupted;
} *shared;

static void on_interrupt(int signo)
{
	interrupted = 1;
}

static void check_terminal(void)
{
	CHECK_EQ(tcgetsid(slave), shared->leader);
	CHECK_EQ(tcgetpgrp(slave), shared->front);
	CHECK_EQ(tcgetpgrp(tty), shared->front);
}

/* Its own group, in the foreground. */
static int front(void *arg)
{
	signal(SIGINT, on_interrupt);
	subject_child_ready();
	subject_wait();
	check_terminal();
	__atomic_fetch_or(&shared->is_checked, 1, __ATOMIC_SEQ_CST);
	while (!interrupted)
		subject_sleep_ms(1);
	shared->is_interrupted = 1;
	return pause();
}

static int back(void *arg)
{
	char line[16];
	int own;

	subject_child_ready();
	subject_wait();
	check_terminal();
	own = MUST(open("/dev/tty", O_RDWR));
	__atomic_fetch_or(&shared->is_checked, 2, __ATOMIC_SEQ_CST);
	read(own, line, sizeof(line)); /* in the background: stops, and is killed */
	return 1;
}

/* In the session, but without its terminal. */
static int loose(void *arg)
{
	MUST(ioctl(tty, TIOCNOTTY));
	subject_child_ready();
	subject_wait();
	CHECK(open("/dev/tty", O_RDWR) < 0 && errno == ENXIO);
	__atomic_fetch_or(&shared->is_checked, 4, __ATOMIC_SEQ_CST);
	for (;;)
		pause();
}

static pid_t start(int (*fn)(void *), pid_t volatile *note)
{
	pid_t pid = subject_fork(fn, NULL);

	*note = pid;
	MUST(setpgid(pid, pid));
	return pid;
}

static void await_stop(pid_t pid, int signo)
{
	int status;

	CHECK_EQ(MUST(waitpid(pid, &status, WUNTRACED)), pid);
	CHECK(WIFSTOPPED(status), "%x", status);
	CHECK_EQ(WSTOPSIG(status), signo);
}

static void end(pid_t pid)
{
	MUST(kill(pid, SIGKILL));
	MUST(waitpid(pid, NULL, 0));
}

static int leader(void *arg)
{
	MUST(close(master));
	MUST(setsid());
	MUST(ioctl(slave, TIOCSCTTY, 0));
	tty = MUST(open("/dev/tty", O_RDWR | O_CLOEXEC));
	signal(SIGTTOU, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	shared->leader = getpid();
	start(front, &shared->front);
	start(back, &shared->back);
	start(loose, &shared->loose);
	MUST(tcsetpgrp(slave, shared->front));
	subject_child_ready();
	subject_wait();
	check_terminal();
	CHECK_EQ(fcntl(tty, F_GETFD), FD_CLOEXEC);
	await_stop(shared->back, SIGTTIN);
	await_stop(shared->front, SIGTSTP);
	CHECK_EQ(shared->is_checked, 7);
	MUST(tcsetpgrp(slave, getpgrp()));
	end(shared->front);
	end(shared->back);
	end(shared->loose);
	return 0;
}

static void expect(const char *text)
{
	char buf[256];
	size_t n = 0;
	struct pollfd pfd = {.fd = master, .events = POLLIN};

	do {
		CHECK_EQ(poll(&pfd, 1, 10000), 1);
		n += MUST(read(master, buf + n, sizeof(buf) - 1 - n));
		buf[n] = '\0';
	} while (!strstr(buf, text));
}

int main(int argc, char **argv)
{
	char name[64];
	pid_t pid;

	subject_init(argc, argv);
	shared = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	master = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	MUST(unlockpt(master));
	slave = MUST(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
	pid = subject_fork(leader, NULL);
	MUST(close(slave));
	subject_ready();
	subject_wait();
	MUST(ptsname_r(master, name, sizeof(name)));
	CHECK_EQ(tcgetpgrp(master), shared->front);
	while (shared->is_checked != 7)
		subject_sleep_ms(1);
	MUST(write(master, "\003", 1));
	expect("^C");
	while (!shared->is_interrupted)
		subject_sleep_ms(1);
	MUST(write(master, "\032", 1));
	expect("^Z");
	subject_join(pid);
	CHECK(read(master, name, 1) < 0 && errno == EIO);
	subject_pass();
}
