/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An epoll with thousands of registrations, a fourth of them of closed numbers; hundreds of timers. */
#include "subject.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>

enum { EVENTS = 2000, TIMERS = 500, COPIES = 5000 };

static int event[EVENTS], timer[TIMERS];

static void add(int ep, int fd, uint64_t data)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLET, .data.u64 = data};

	MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

static void add_closed(int ep, int fd, uint64_t data)
{
	int copy = MUST(fcntl(fd, F_DUPFD, COPIES));

	add(ep, copy, data);
	close(copy);
}

int main(int argc, char **argv)
{
	struct itimerspec it = {.it_value = {1000, 0}};
	struct epoll_event ev[EVENTS];
	struct rlimit l;
	int ep;

	subject_init(argc, argv);
	MUST(getrlimit(RLIMIT_NOFILE, &l));
	l.rlim_cur = l.rlim_max;
	MUST(setrlimit(RLIMIT_NOFILE, &l));
	if (l.rlim_max < COPIES + 1)
		subject_skip("the hard limit of open files is %ld", (long)l.rlim_max);
	ep = MUST(epoll_create1(0));
	for (int i = 0; i < EVENTS; i++) {
		event[i] = MUST(eventfd(0, EFD_NONBLOCK));
		if (i % 4)
			add(ep, event[i], i);
		else
			add_closed(ep, event[i], i);
	}
	for (int i = 0; i < TIMERS; i++) {
		timer[i] = MUST(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
		it.it_value.tv_nsec = i * 1000000;
		MUST(timerfd_settime(timer[i], 0, &it, NULL));
		add(ep, timer[i], EVENTS + i);
	}
	subject_ready();
	subject_wait();
	CHECK_EQ(epoll_wait(ep, ev, EVENTS, 0), 0);
	for (int i = 0; i < EVENTS; i++) {
		MUST(eventfd_write(event[i], 1));
		CHECK_EQ(epoll_wait(ep, ev, EVENTS, 1000), 1);
		CHECK_EQ(ev[0].data.u64, i);
	}
	for (int i = 1; i < TIMERS; i++) {
		struct itimerspec now;

		MUST(timerfd_gettime(timer[i], &now));
		CHECK(now.it_value.tv_sec > 900 && now.it_value.tv_sec <= 1000, "%ld s", now.it_value.tv_sec);
	}
	it.it_value = (struct timespec){0, 1};
	MUST(timerfd_settime(timer[TIMERS - 1], 0, &it, NULL));
	CHECK_EQ(epoll_wait(ep, ev, EVENTS, 1000), 1);
	CHECK_EQ(ev[0].data.u64, EVENTS + TIMERS - 1);
	subject_pass();
}
