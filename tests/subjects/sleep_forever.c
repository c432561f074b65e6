/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Blocking calls without a time limit, one thread each, go on as if nothing had been: no EINTR, and each ends
 * by what it waits for. */
#include "subject.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>

static int in[2], full[2], pair[2], lock_fd;
static int word;
static pid_t child;

static long by_read(void)
{
	char c;

	return read(in[0], &c, 1) - 1;
}

static long by_write(void)
{
	return write(full[1], "x", 1) - 1;
}

static long by_recv(void)
{
	char c;

	return recv(pair[0], &c, 1, 0) - 1;
}

static long by_poll(void)
{
	struct pollfd p = {in[0], POLLIN, 0};

	return poll(&p, 1, -1) - 1;
}

static long by_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(in[0], &set);
	return select(in[0] + 1, &set, NULL, NULL, NULL) - 1;
}

static long by_futex(void)
{
	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static long by_wait(void)
{
	return waitpid(child, NULL, 0) - child;
}

static long by_flock(void)
{
	return flock(lock_fd, LOCK_EX);
}

static long by_fcntl_lock(void)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};

	return fcntl(lock_fd, F_SETLKW, &l);
}

static struct way {
	const char *name;
	long (*block)(void);
	bool is_over;
} ways[] = {
	{"poll", by_poll}, {"select", by_select}, {"write", by_write}, {"recv", by_recv}, {"futex", by_futex},
	{"wait4", by_wait}, {"flock", by_flock}, {"fcntl(F_SETLKW)", by_fcntl_lock}, {"read", by_read},
};
#define N (sizeof(ways) / sizeof(ways[0]))

static void *blocks(void *arg)
{
	struct way *w = arg;

	errno = 0;
	CHECK(w->block() == 0, "%s: %s", w->name, strerror(errno));
	CHECK(subject_is_go(), "%s ended too early", w->name);
	w->is_over = true;
	return NULL;
}

static int holds_locks(void *arg)
{
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 10};
	int fd = MUST(open(subject_path("lock"), O_RDWR | O_CREAT, 0600));

	MUST(flock(fd, LOCK_EX));
	MUST(fcntl(fd, F_SETLK, &l));
	subject_child_ready();
	subject_wait();
	subject_sleep_ms(30);
	return 0;
}

static void let_them_go(void)
{
	char c;

	for (size_t i = 0; i < N; i++)
		CHECK(!ways[i].is_over, "%s ended by itself", ways[i].name);
	MUST(read(full[0], malloc(65536), 65536));
	MUST(write(pair[1], "x", 1));
	word = 1;
	MUST(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 9, NULL, NULL, 0));
	/* read comes last: it takes what poll and select wait for. */
	MUST(write(in[1], "xx", 2));
	(void)c;
}

int main(int argc, char **argv)
{
	static char block[65536];
	pthread_t t[N];

	subject_init(argc, argv);
	MUST(pipe(in));
	MUST(pipe(full));
	MUST(write(full[1], block, sizeof(block)));
	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	child = subject_fork(holds_locks, NULL);
	lock_fd = MUST(open(subject_path("lock"), O_RDWR));
	for (size_t i = 0; i < N; i++)
		t[i] = subject_thread(blocks, &ways[i]);
	subject_sleep_ms(30);
	subject_ready();
	subject_wait();
	let_them_go();
	for (size_t i = 0; i < N; i++)
		subject_join_thread(t[i]);
	subject_pass();
}
