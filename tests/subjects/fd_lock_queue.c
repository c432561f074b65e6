/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Locks that others wait for: they get them one after the other, not before; a deadlock is seen as one. */
#include "subject.h"

#include <sys/file.h>

enum { FLOCK, POSIX, OFD, KINDS, EACH = 2 };

static struct {
	int inside, turns;
} *shared;

static const char *const names[] = {"flock", "posix", "ofd"};
static int held[KINDS], first, second;
static pid_t waiter[KINDS][EACH], stuck;

static void set_lock(int fd, int kind, int type)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};

	if (kind == FLOCK)
		MUST(flock(fd, type == F_WRLCK ? LOCK_EX : LOCK_UN));
	else
		MUST(fcntl(fd, kind == OFD ? F_OFD_SETLKW : F_SETLKW, &l));
}

static int open_file(const char *name)
{
	return MUST(open(subject_path(name), O_RDWR | O_CREAT, 0644));
}

/* In a child, of which nobody is with the lock while it is. */
static int queue_up(void *arg)
{
	int kind = (int)(intptr_t)arg, fd = open_file(names[kind]);

	subject_child_ready();
	set_lock(fd, kind, F_WRLCK);
	CHECK_EQ(__atomic_fetch_add(&shared[kind].inside, 1, __ATOMIC_SEQ_CST), 0);
	shared[kind].turns++;
	subject_sleep_ms(2);
	__atomic_fetch_sub(&shared[kind].inside, 1, __ATOMIC_SEQ_CST);
	set_lock(fd, kind, F_UNLCK);
	return 0;
}

/* Has the second and wants the first, which its parent has. */
static int get_stuck(void *arg)
{
	set_lock(second, POSIX, F_WRLCK);
	subject_child_ready();
	set_lock(first, POSIX, F_WRLCK);
	return 0;
}

static void set_up(void)
{
	for (int k = 0; k < KINDS; k++) {
		held[k] = open_file(names[k]);
		set_lock(held[k], k, F_WRLCK);
		shared[k].inside = 1;
		for (int i = 0; i < EACH; i++)
			waiter[k][i] = subject_fork(queue_up, (void *)(intptr_t)k);
	}
	first = open_file("first");
	second = open_file("second");
	set_lock(first, POSIX, F_WRLCK);
	stuck = subject_fork(get_stuck, NULL);
}

static void await_waiters(void)
{
	for (int k = 0; k < KINDS; k++)
		for (int i = 0; i < EACH; i++)
			subject_await_state(waiter[k][i], waiter[k][i], 'S');
	subject_await_state(stuck, stuck, 'S');
}

static void check_kind(int k)
{
	CHECK_EQ(shared[k].turns, 0);
	shared[k].inside = 0;
	set_lock(held[k], k, F_UNLCK);
	for (int i = 0; i < EACH; i++)
		subject_join(waiter[k][i]);
	CHECK_EQ(shared[k].turns, EACH);
}

int main(int argc, char **argv)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 12, .l_len = 1};

	subject_init(argc, argv);
	shared = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
	set_up();
	await_waiters();
	subject_ready();
	subject_wait();
	await_waiters();
	CHECK(fcntl(second, F_SETLKW, &l) < 0 && errno == EDEADLK, "%s", strerror(errno));
	for (int k = 0; k < KINDS; k++)
		check_kind(k);
	set_lock(first, POSIX, F_UNLCK);
	subject_join(stuck);
	subject_pass();
}
