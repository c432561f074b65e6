/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What every subject uses: see subject.h. */
#include "subject.h"

#include <stdarg.h>

static char dir[4096];
static int latch[2] = {-1, -1};
static pid_t root;

void subject_init(int argc, char **argv)
{
	if (argc < 2 || strlen(argv[1]) > 3000) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		exit(2);
	}
	strcpy(dir, argv[1]);
	root = getpid();
}

void subject_chrooted(void)
{
	dir[0] = 0;
}

const char *subject_path(const char *name)
{
	static __thread char path[8][4352];
	static __thread unsigned next;
	char *p = path[next++ % 8];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

/* Without a descriptor, which an outside view at this moment would show. */
void subject_ready(void)
{
	if (mknod(subject_path("ready"), S_IFREG | 0644, 0) < 0)
		subject_fail("started twice, not restored");
}

bool subject_is_go(void)
{
	return access(subject_path("go"), F_OK) == 0;
}

void subject_wait(void)
{
	while (!subject_is_go())
		subject_sleep_ms(4);
}

static void read_nonce(char *buf, size_t size)
{
	int fd = open(subject_path("go"), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, size - 1);

	buf[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
}

/* The first verdict of all processes stands: link(2) does not replace. */
static _Noreturn void verdict(const char *word, int status, const char *reason)
{
	char nonce[64], text[1400], name[64], temporary[4352];
	int fd, n;

	read_nonce(nonce, sizeof(nonce));
	n = snprintf(text, sizeof(text), "%s %s %s\n", word, nonce[0] ? nonce : "-", reason);
	snprintf(name, sizeof(name), "result.%d.%ld", getpid(), syscall(SYS_gettid));
	strcpy(temporary, subject_path(name));
	fd = open(temporary, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
	if (fd < 0 || write(fd, text, n) != n)
		fprintf(stderr, "subject: cannot write %s: %s (%s)\n", temporary, strerror(errno), text);
	if (link(temporary, subject_path("result")) < 0 && status == 0)
		status = 1;
	unlink(temporary);
	fprintf(stderr, "subject %d: %s", getpid(), text);
	_exit(status);
}

_Noreturn void subject_pass(void)
{
	if (getpid() != root)
		subject_fail("root has PID %d, not %d", getpid(), root);
	verdict("pass", 0, "");
}

_Noreturn void subject_fail(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	verdict("fail", 1, text);
}

_Noreturn void subject_skip(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	verdict("skip", 77, text);
}

pid_t subject_fork(int (*fn)(void *arg), void *arg)
{
	int saved[2] = {latch[0], latch[1]};
	char byte;
	pid_t pid;

	MUST(pipe2(latch, O_CLOEXEC));
	pid = MUST(fork());
	if (pid == 0) {
		close(latch[0]);
		latch[0] = -1;
		if (saved[1] >= 0)
			close(saved[1]);
		_exit(fn(arg));
	}
	close(latch[1]);
	if (read(latch[0], &byte, 1) != 1)
		subject_fail("child %d ended before it was ready", pid);
	close(latch[0]);
	memcpy(latch, saved, sizeof(latch));
	return pid;
}

void subject_child_ready(void)
{
	MUST(write(latch[1], "", 1));
	close(latch[1]);
	latch[1] = -1;
}

void subject_join(pid_t pid)
{
	int status;

	CHECK_EQ(MUST(waitpid(pid, &status, 0)), pid);
	CHECK(status == 0, "child %d has wait status 0x%x", pid, status);
}

struct start {
	void *(*fn)(void *arg);
	void *arg;
	bool has_begun;
};

static void *begin(void *data)
{
	struct start *s = data;
	void *(*fn)(void *) = s->fn, *arg = s->arg;

	__atomic_store_n(&s->has_begun, true, __ATOMIC_RELEASE);
	return fn(arg);
}

pthread_t subject_thread(void *(*fn)(void *arg), void *arg)
{
	struct start s = {fn, arg, false};
	pthread_t t;
	int r = pthread_create(&t, NULL, begin, &s);

	CHECK(r == 0, "%s", strerror(r));
	while (!__atomic_load_n(&s.has_begun, __ATOMIC_ACQUIRE))
		sched_yield();
	return t;
}

void subject_join_thread(pthread_t t)
{
	int r = pthread_join(t, NULL);

	CHECK(r == 0, "%s", strerror(r));
}

int64_t subject_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

void subject_sleep_ms(int ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

void subject_await_state(pid_t pid, pid_t tid, char state)
{
	char path[64], line[64] = "";
	int i;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, tid);
	for (i = 0; i < 2000; i++) {
		subject_line(path, "State:", line, sizeof(line));
		if (line[7] == state)
			return;
		subject_sleep_ms(2);
	}
	subject_fail("task %d does not reach state %c: %s", tid, state, line);
}

void subject_line(const char *file, const char *prefix, char *buf, size_t size)
{
	FILE *f = fopen(file, "re");
	char line[4096];

	buf[0] = 0;
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, prefix, strlen(prefix)))
			continue;
		line[strcspn(line, "\n")] = 0;
		snprintf(buf, size, "%s", line);
		break;
	}
	if (f)
		fclose(f);
}

const char *subject_left(const char *kind, const char *what)
{
	FILE *f = fopen(subject_path("left"), "ae");
	int n = f ? fprintf(f, "%s %s\n", kind, what) : 0;

	CHECK(n > 0 && fclose(f) == 0, "%s", strerror(errno));
	return what;
}

int subject_sysv(const char *kind, int id)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", id);
	subject_left(kind, number);
	return id;
}

static uint32_t next_random(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

void subject_pattern(void *buf, size_t len, uint32_t seed)
{
	uint32_t x = seed * 2654435761u + 12345, v = 0;
	unsigned char *p = buf;
	size_t i;

	for (i = 0; i < len; i++) {
		if (i % 4 == 0)
			v = next_random(&x);
		p[i] = v >> i % 4 * 8;
	}
}

bool subject_is_pattern(const void *buf, size_t len, uint32_t seed)
{
	uint32_t x = seed * 2654435761u + 12345, v = 0;
	const unsigned char *p = buf;
	size_t i;

	for (i = 0; i < len; i++) {
		if (i % 4 == 0)
			v = next_random(&x);
		if (p[i] != (unsigned char)(v >> i % 4 * 8))
			return false;
	}
	return true;
}
