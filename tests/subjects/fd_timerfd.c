/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* timerfd: clocks, what remains, points in time, intervals, expirations that nobody has read, cancellation,
 * sharing, a thread that waits. */
#include "subject.h"

#include <poll.h>
#include <sys/timerfd.h>

#define NS 1000000000LL

static int64_t now(int clock)
{
	struct timespec ts;

	MUST(clock_gettime(clock, &ts));
	return ts.tv_sec * NS + ts.tv_nsec;
}

static void arm(int fd, int flags, int64_t value, int64_t interval)
{
	struct itimerspec it = {.it_value = {value / NS, value % NS}, .it_interval = {interval / NS, interval % NS}};

	MUST(timerfd_settime(fd, flags, &it, NULL));
}

static int timer(int clock, int fd_flags, int flags, int64_t value, int64_t interval)
{
	int fd = MUST(timerfd_create(clock, fd_flags | TFD_NONBLOCK));

	arm(fd, flags, value, interval);
	return fd;
}

static int64_t left(int fd, int64_t *interval)
{
	struct itimerspec it;

	MUST(timerfd_gettime(fd, &it));
	if (interval)
		*interval = it.it_interval.tv_sec * NS + it.it_interval.tv_nsec;
	return it.it_value.tv_sec * NS + it.it_value.tv_nsec;
}

static int64_t take(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? (int64_t)n : -errno;
}

/* That it goes off at that point of the clock. The clock is read twice, around the question. */
static void check_point(int fd, int clock, int64_t point)
{
	int64_t before = now(clock), at = left(fd, NULL), after = now(clock);

	CHECK(before + at <= point + 50000000 && after + at >= point, "%lld ns off",
	      (long long)(before + at - point));
}

static void check_flags(int fd, const char *flags)
{
	char path[64], line[64];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	subject_line(path, "settime flags:", line, sizeof(line));
	CHECK(!strcmp(line + strlen("settime flags: "), flags), "'%s'", line);
}

static int waited;

static void *waiter(void *arg)
{
	CHECK_EQ(take(waited), 1);
	return NULL;
}

int main(int argc, char **argv)
{
	int relative, boot, point, wall, repeated, expired, ticking, exhausted, idle, never, created, copy, alarmed;
	int64_t mono_at, wall_at, alarm_at, mono = now(CLOCK_MONOTONIC), interval, n;
	pthread_t t;

	subject_init(argc, argv);
	relative = timer(CLOCK_MONOTONIC, TFD_CLOEXEC, 0, 1000 * NS, 0);
	boot = timer(CLOCK_BOOTTIME, 0, 0, 2000 * NS, 3 * NS + 7);
	mono_at = mono + 500 * NS;
	point = timer(CLOCK_MONOTONIC, 0, TFD_TIMER_ABSTIME, mono_at, 0);
	wall_at = now(CLOCK_REALTIME) + 700 * NS;
	wall = timer(CLOCK_REALTIME, 0, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, wall_at, 11 * NS);
	never = timer(CLOCK_REALTIME, 0, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, INT64_MAX, 0);
	repeated = timer(CLOCK_MONOTONIC, 0, TFD_TIMER_ABSTIME, mono_at, 60 * NS);
	copy = MUST(dup(repeated));
	expired = timer(CLOCK_MONOTONIC, 0, 0, 1, 0);
	ticking = timer(CLOCK_MONOTONIC, 0, TFD_TIMER_ABSTIME, mono + 1, 20000000);
	exhausted = timer(CLOCK_MONOTONIC, 0, 0, 1, 0);
	while (take(exhausted) < 0)
		poll(&(struct pollfd){exhausted, POLLIN, 0}, 1, -1);
	idle = timer(CLOCK_MONOTONIC, 0, 0, 0, 5 * NS);
	created = MUST(timerfd_create(CLOCK_BOOTTIME, 0));
	/* Not everybody may. */
	alarm_at = now(CLOCK_BOOTTIME) + 5000 * NS;
	alarmed = timerfd_create(CLOCK_BOOTTIME_ALARM, 0);
	if (alarmed >= 0)
		arm(alarmed, TFD_TIMER_ABSTIME, alarm_at, 0);
	waited = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
	arm(waited, 0, 2 * NS, 0);
	t = subject_thread(waiter, NULL);
	while (left(expired, NULL))
		;
	subject_sleep_ms(100);
	subject_ready();
	subject_wait();

	CHECK_EQ(fcntl(relative, F_GETFD), FD_CLOEXEC);
	n = left(relative, &interval);
	CHECK(n < 1000 * NS && n > 900 * NS && !interval, "%lld ns are left", (long long)n);
	n = left(boot, &interval);
	CHECK(n < 2000 * NS && n > 1900 * NS && interval == 3 * NS + 7, "%lld ns are left", (long long)n);
	check_point(point, CLOCK_MONOTONIC, mono_at);
	check_flags(point, "01");
	check_point(wall, CLOCK_REALTIME, wall_at);
	check_flags(wall, "03");
	CHECK(left(wall, &interval) && interval == 11 * NS, "interval %lld", (long long)interval);
	CHECK(left(never, NULL) > 100LL * 365 * 86400 * NS, "goes off some day");
	check_flags(never, "03");
	check_point(copy, CLOCK_MONOTONIC, mono_at);
	if (alarmed >= 0)
		check_point(alarmed, CLOCK_BOOTTIME, alarm_at);
	arm(copy, 0, 0, 0);
	CHECK_EQ(left(repeated, NULL), 0);
	CHECK_EQ(take(expired), 1);
	CHECK_EQ(take(expired), -EAGAIN);
	/* As many as the clock says, one more for each of two dumps (docs/limits.md), and the next at its time. */
	n = take(ticking);
	mono = now(CLOCK_MONOTONIC) - mono;
	CHECK(n >= mono / 20000000 - 4 && n <= mono / 20000000 + 3, "%lld expirations in %lld ns", (long long)n,
	      (long long)mono);
	CHECK_EQ(take(exhausted), -EAGAIN);
	CHECK_EQ(left(idle, &interval), 0);
	CHECK_EQ(interval, 5 * NS);
	CHECK_EQ(left(created, NULL), 0);
	CHECK_EQ(fcntl(created, F_GETFL) & O_NONBLOCK, 0);
	subject_join_thread(t);
	subject_pass();
}
