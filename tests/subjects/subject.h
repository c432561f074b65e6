/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The contract of a subject: a program that sets up some state, says ready, waits, and then
 * checks from inside that the state is still exactly there.
 *
 *	subject_init(argc, argv);
 *	... make the state ...
 *	subject_ready();
 *	subject_wait();
 *	... CHECK() it ...
 *	subject_pass();
 *
 * argv[1] is an empty directory of its own. In it the subject makes "ready" (never twice: a
 * subject cannot be started over), the harness "go" with a nonce, and whichever process of the
 * subject decides first "result": a word (pass, fail, skip), the nonce and a reason.
 */
#ifndef SUBJECT_H
#define SUBJECT_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void subject_init(int argc, char **argv);
void subject_ready(void);
bool subject_is_go(void);
/* Polls for "go" with nanosleep(2): needs nothing restored but the sleep and the root directory. */
void subject_wait(void);
_Noreturn void subject_pass(void);
_Noreturn void subject_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void subject_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* After chroot(2) into the subject's directory. */
void subject_chrooted(void);
/* A file of the subject's directory; the result is overwritten by the eighth next call. */
const char *subject_path(const char *name);

/* A child in state `fn` has called subject_child_ready() when subject_fork() returns.
 * fn's return value is the exit status. */
pid_t subject_fork(int (*fn)(void *arg), void *arg);
void subject_child_ready(void);
/* Waits for a child, which must exit with 0. */
void subject_join(pid_t pid);
/* A thread, which runs when this returns; join with subject_join_thread(). */
pthread_t subject_thread(void *(*fn)(void *arg), void *arg);
void subject_join_thread(pthread_t t);

int64_t subject_now_ms(void); /* CLOCK_MONOTONIC */
void subject_sleep_ms(int ms);
/* Waits until the thread's /proc state is `state` ('S', 'T', 'Z' ...). */
void subject_await_state(pid_t pid, pid_t tid, char state);
/* A line of a /proc file, e.g. ("/proc/self/status", "Threads:"), without its end; "" if absent. */
void subject_line(const char *file, const char *prefix, char *buf, size_t size);

/* A SysV object that outlives its processes: kind is "sem", "msg" or "shm". The harness removes what is
 * left under this id, also in the namespace that the subject was started in. Returns id. */
int subject_sysv(const char *kind, int id);
/* The same of a "file" outside of the subject's directory, or the name of a POSIX message queue ("mq"). Returns what. */
const char *subject_left(const char *kind, const char *what);

/* Reproducible bytes. */
void subject_pattern(void *buf, size_t len, uint32_t seed);
bool subject_is_pattern(const void *buf, size_t len, uint32_t seed);

#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond))                                                                       \
			subject_fail(__FILE__ ":" SUBJECT_STR(__LINE__) ": " #cond ": " __VA_ARGS__);  \
	} while (0)
#define SUBJECT_STR(x)	SUBJECT_STR_(x)
#define SUBJECT_STR_(x) #x
#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long a_ = (long long)(a), b_ = (long long)(b);                                \
		if (a_ != b_)                                                                      \
			subject_fail("%s:%d: %s is %lld (0x%llx), not %lld (0x%llx)", __FILE__,    \
				     __LINE__, #a, a_, a_, b_, b_);                                \
	} while (0)
/* The value of a call that must not fail; -1 or MAP_FAILED with errno is failure. */
#define MUST(call)                                                                                 \
	({                                                                                         \
		__typeof__(call) must_ = (call);                                                   \
		if ((long)must_ == -1)                                                             \
			subject_fail("%s:%d: %s: %s", __FILE__, __LINE__, #call, strerror(errno)); \
		must_;                                                                             \
	})

#endif
