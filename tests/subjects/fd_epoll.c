/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* epoll: what is watched, levels and edges, one shots (fired or not), user data, exclusive; nested; shared by
 * dup and fork; numbers that are closed or have another file since; threads that wait. */
#include "subject.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

enum { MAX_EVENTS = 16 };

static int epoll_new(void)
{
	return MUST(epoll_create1(EPOLL_CLOEXEC));
}

static void add(int ep, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event ev = {.events = events, .data.u64 = data};

	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

static int event_new(unsigned count)
{
	return MUST(eventfd(count, EFD_NONBLOCK));
}

static void give(int fd)
{
	uint64_t one = 1;

	CHECK_EQ(write(fd, &one, sizeof(one)), sizeof(one));
}

static void take(int fd)
{
	uint64_t v;

	CHECK_EQ(read(fd, &v, sizeof(v)), sizeof(v));
}

/* Exactly one event, with this data; its events. */
static uint32_t only(int ep, uint64_t data)
{
	struct epoll_event ev[MAX_EVENTS];

	CHECK_EQ(epoll_wait(ep, ev, MAX_EVENTS, 5000), 1);
	CHECK_EQ(ev[0].data.u64, data);
	return ev[0].events;
}

static void nothing(int ep)
{
	struct epoll_event ev;

	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 0);
}

/* "events: 40000019" of the number in fdinfo. */
static void check_registered(int ep, int fd, const char *events, int times)
{
	char path[64], line[256], key[32];
	FILE *f;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", ep);
	snprintf(key, sizeof(key), "tfd: %8d events: %8s ", fd, events);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		n += !strncmp(line, key, strlen(key));
	fclose(f);
	CHECK(n == times, "%d times %s", n, key);
}

/* ---- level, edge, one shot ---- */

static int basic, level, edge, quiet_edge, once, fired, fired_reader, fired_writer, pair[2];

static void basic_setup(void)
{
	basic = epoll_new();
	MUST(fcntl(basic, F_SETFD, 0));
	add(basic, level = event_new(0), EPOLLIN, 0x1122334455667788);
	add(basic, edge = event_new(0), EPOLLIN | EPOLLET, 2);
	add(basic, quiet_edge = event_new(0), EPOLLIN | EPOLLET | EPOLLRDHUP, 3);
	add(basic, once = event_new(0), EPOLLIN | EPOLLONESHOT, 4);
	add(basic, fired = event_new(1), EPOLLIN | EPOLLONESHOT, 5);
	only(basic, 5);
	/* A pipe with something in it; one that takes more. */
	MUST(pipe2(pair, O_NONBLOCK));
	fired_reader = pair[0];
	fired_writer = pair[1];
	MUST(write(fired_writer, "x", 1));
	add(basic, fired_reader, EPOLLIN | EPOLLONESHOT | EPOLLET, 6);
	only(basic, 6);
	add(basic, fired_writer, EPOLLOUT | EPOLLONESHOT, 7);
	only(basic, 7);
	nothing(basic);
}

static void basic_check(void)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT, .data.u64 = 55};
	char c;

	CHECK_EQ(fcntl(basic, F_GETFD), 0);
	check_registered(basic, level, "19", 1);
	check_registered(basic, quiet_edge, "80002019", 1);
	check_registered(basic, once, "40000019", 1);
	check_registered(basic, fired_reader, "c0000000", 1);
	check_registered(basic, fired_writer, "40000000", 1);
	nothing(basic);
	give(level);
	CHECK_EQ(only(basic, 0x1122334455667788), EPOLLIN);
	only(basic, 0x1122334455667788);
	take(level);
	give(edge);
	only(basic, 2);
	nothing(basic);
	give(edge);
	only(basic, 2);
	give(once);
	only(basic, 4);
	give(once);
	nothing(basic);
	/* Fired ones are silent, even when the other end goes, until they are set again. */
	MUST(read(fired_reader, &c, 1));
	MUST(write(fired_writer, "y", 1));
	give(fired);
	nothing(basic);
	MUST(epoll_ctl(basic, EPOLL_CTL_MOD, fired, &ev));
	only(basic, 55);
	MUST(epoll_ctl(basic, EPOLL_CTL_DEL, fired, NULL));
	close(fired_reader);
	nothing(basic);
	CHECK_EQ(epoll_ctl(basic, EPOLL_CTL_ADD, level, &ev), -1);
	CHECK_EQ(errno, EEXIST);
}

/* ---- edges that are due ---- */

static int due, due_edge;

static void due_setup(void)
{
	due = epoll_new();
	add(due, due_edge = event_new(0), EPOLLIN | EPOLLET, 1);
	give(due_edge);
}

/* It was never told, so it is now. */
static void due_check(void)
{
	only(due, 1);
	nothing(due);
}

/* ---- nested, exclusive, all kinds of files ---- */

static int outer, inner, innermost, exclusive, kinds, timer, sig, stream[2];

static void nested_setup(void)
{
	sigset_t set;

	outer = epoll_new();
	inner = epoll_new();
	add(outer, inner, EPOLLIN, 10);
	add(inner, innermost = event_new(0), EPOLLIN, 11);
	add(inner, exclusive = event_new(0), EPOLLIN | EPOLLEXCLUSIVE, 12);
	kinds = epoll_new();
	timer = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	add(kinds, timer, EPOLLIN, 20);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
	sig = MUST(signalfd(-1, &set, SFD_NONBLOCK));
	add(kinds, sig, EPOLLIN | EPOLLET, 21);
	MUST(pipe(stream));
	add(kinds, stream[0], EPOLLIN, 22);
}

static void nested_check(void)
{
	struct itimerspec soon = {.it_value = {0, 1}};

	check_registered(inner, exclusive, "10000019", 1);
	nothing(outer);
	give(innermost);
	only(outer, 10);
	only(inner, 11);
	take(innermost);
	nothing(outer);
	give(exclusive);
	only(outer, 10);
	only(inner, 12);
	nothing(kinds);
	MUST(kill(getpid(), SIGUSR1));
	only(kinds, 21);
	nothing(kinds);
	MUST(timerfd_settime(timer, 0, &soon, NULL));
	only(kinds, 20);
	take(timer);
	close(stream[1]);
	CHECK_EQ(only(kinds, 22), EPOLLHUP);
}

/* ---- numbers that mean something else by now ---- */

static int stale, closed, closed_alive, reused, reused_alive, high_alive;

enum { HIGH = 900 };

static void stale_setup(void)
{
	stale = epoll_new();
	closed_alive = event_new(0);
	closed = MUST(fcntl(closed_alive, F_DUPFD, 300));
	add(stale, closed, EPOLLIN, 1);
	close(closed);
	/* Two files with one number, the first of them alive by a copy only. */
	reused = event_new(0);
	add(stale, reused, EPOLLIN, 2);
	reused_alive = MUST(dup(reused));
	MUST(dup2(closed_alive, reused));
	add(stale, reused, EPOLLIN | EPOLLET, 3);
	high_alive = event_new(0);
	MUST(dup2(high_alive, HIGH));
	add(stale, HIGH, EPOLLIN, 4);
	close(HIGH);
}

static void stale_check(void)
{
	struct epoll_event ev[MAX_EVENTS];

	CHECK_EQ(fcntl(HIGH, F_GETFD), -1);
	check_registered(stale, closed, "19", 1);
	check_registered(stale, reused, "19", 1);
	check_registered(stale, reused, "80000019", 1);
	check_registered(stale, HIGH, "19", 1);
	give(reused_alive);
	only(stale, 2);
	take(reused_alive);
	give(high_alive);
	only(stale, 4);
	take(high_alive);
	give(closed_alive);
	CHECK_EQ(epoll_wait(stale, ev, MAX_EVENTS, 5000), 2);
	CHECK_EQ(ev[0].data.u64 + ev[1].data.u64, 4);
	MUST(epoll_ctl(stale, EPOLL_CTL_DEL, reused, NULL));
	only(stale, 1);
	take(closed_alive);
	MUST(dup2(high_alive, HIGH));
	MUST(epoll_ctl(stale, EPOLL_CTL_DEL, HIGH, NULL));
	give(high_alive);
	nothing(stale);
}

/* ---- shared ---- */

static int shared, shared_event, copy;

/* Takes part in the epoll, and adds to it a file of its own. */
static int child(void *arg)
{
	int own = MUST(fcntl(event_new(0), F_DUPFD, 500));

	close(stream[1]);
	close(pair[0]);
	add(shared, own, EPOLLIN, 40);
	subject_child_ready();
	only(shared, 41);
	take(shared_event);
	give(own);
	while (!subject_is_go())
		subject_sleep_ms(1);
	subject_sleep_ms(100);
	return 0;
}

static pid_t shared_setup(void)
{
	pid_t pid;

	shared = epoll_new();
	copy = MUST(dup(shared));
	add(shared, shared_event = event_new(0), EPOLLIN, 41);
	pid = subject_fork(child, NULL);
	subject_await_state(pid, pid, 'S');
	return pid;
}

static void shared_check(pid_t pid)
{
	struct epoll_event ev = {.data.u64 = 0};
	int own;

	/* The child takes the one and gives the other. */
	give(shared_event);
	while (ev.data.u64 != 40)
		CHECK_EQ(epoll_wait(copy, &ev, 1, 5000), 1);
	own = event_new(0);
	ev = (struct epoll_event){.events = EPOLLIN, .data.u64 = 43};
	MUST(epoll_ctl(copy, EPOLL_CTL_ADD, own, &ev));
	subject_join(pid);
	/* With the child its file has gone, and so the registration. */
	nothing(shared);
	give(own);
	only(shared, 43);
}

/* ---- what only some may, or some kernels can ---- */

/* <linux/eventpoll.h> of Linux 6.9. */
struct params {
	uint32_t usecs;
	uint16_t budget;
	uint8_t prefer, pad;
};
#define SET_PARAMS _IOW(0x8A, 0x01, struct params)
#define GET_PARAMS _IOR(0x8A, 0x02, struct params)

static int special, wakeup;
static bool has_params;
static char wakeup_line[256];

static void wakeup_info(char *buf, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", special);
	subject_line(path, "tfd:", buf, size);
}

static void special_setup(void)
{
	special = epoll_new();
	has_params = ioctl(special, SET_PARAMS, &(struct params){50, 8, 1, 0}) == 0;
	/* Without CAP_BLOCK_SUSPEND the kernel leaves the flag out. */
	add(special, wakeup = event_new(0), EPOLLIN | EPOLLWAKEUP, 30);
	wakeup_info(wakeup_line, sizeof(wakeup_line));
}

static void special_check(void)
{
	struct params p = {0};
	char line[256];

	wakeup_info(line, sizeof(line));
	line[40] = wakeup_line[40] = '\0'; /* before the inode of the file */
	CHECK(!strcmp(line, wakeup_line), "'%s', not '%s'", line, wakeup_line);
	if (!has_params)
		return;
	MUST(ioctl(special, GET_PARAMS, &p));
	CHECK(p.usecs == 50 && p.budget == 8 && p.prefer == 1, "%u %u %u", p.usecs, p.budget, p.prefer);
}

/* ---- waiting ---- */

static int waited, waited_event, timed;
static int64_t timed_for;

static void *waiter(void *arg)
{
	only(waited, 50);
	return NULL;
}

static void *endless(void *arg)
{
	struct epoll_event ev;
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1); /* which a signalfd takes */
	CHECK_EQ(epoll_pwait(waited, &ev, 1, -1, &mask), 1);
	CHECK_EQ(ev.data.u64, 50);
	return NULL;
}

static void *sleeper(void *arg)
{
	struct epoll_event ev;
	int64_t start = subject_now_ms();

	CHECK_EQ(epoll_wait(timed, &ev, 1, 1500), 0);
	timed_for = subject_now_ms() - start;
	return NULL;
}

static pthread_t thread[3];

static void wait_setup(void)
{
	waited = epoll_new();
	timed = epoll_new();
	add(waited, waited_event = event_new(0), EPOLLIN, 50);
	thread[0] = subject_thread(endless, NULL);
	thread[1] = subject_thread(sleeper, NULL);
	thread[2] = subject_thread(waiter, NULL);
}

static void wait_check(void)
{
	subject_join_thread(thread[1]);
	CHECK(timed_for >= 1500, "only %lld ms", (long long)timed_for);
	give(waited_event);
	subject_join_thread(thread[0]);
	subject_join_thread(thread[2]);
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	basic_setup();
	due_setup();
	nested_setup();
	stale_setup();
	pid = shared_setup();
	special_setup();
	wait_setup();
	subject_ready();
	subject_wait();
	basic_check();
	due_check();
	nested_check();
	stale_check();
	shared_check(pid);
	special_check();
	wait_check();
	subject_pass();
}
