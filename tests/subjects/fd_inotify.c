/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* inotify: watches with their numbers (with gaps) and masks, one shots, sharing, a thread that waits. */
#include "subject.h"

#include <sys/inotify.h>

static int many, waited, gone;

static int watch(int fd, const char *name, uint32_t mask)
{
	return MUST(inotify_add_watch(fd, subject_path(name), mask));
}

static void make(const char *name)
{
	close(MUST(open(subject_path(name), O_CREAT | O_WRONLY, 0600)));
}

/* The next event: its watch and mask, and that it names this file. */
static void expect(int fd, int wd, uint32_t mask, const char *name)
{
	static char buf[4096];
	static size_t at, len;
	struct inotify_event *e;

	if (at == len) {
		len = MUST(read(fd, buf, sizeof(buf)));
		at = 0;
	}
	e = (struct inotify_event *)(buf + at);
	at += sizeof(*e) + e->len;
	CHECK_EQ(e->wd, wd);
	CHECK_EQ(e->mask, mask);
	CHECK(!strcmp(e->len ? e->name : "", name), "'%s'", e->name);
}

static void nothing(int fd)
{
	char buf[4096];

	CHECK_EQ(read(fd, buf, sizeof(buf)), -1);
	CHECK_EQ(errno, EAGAIN);
}

static void *reader(void *arg)
{
	char buf[4096];
	struct inotify_event *e = (struct inotify_event *)buf;

	CHECK(read(waited, buf, sizeof(buf)) > 0, "no event");
	CHECK_EQ(e->mask, IN_CREATE);
	return NULL;
}

int main(int argc, char **argv)
{
	int a, b, file, once, link, copy;
	pthread_t t;
	pid_t tid;
	char c;

	subject_init(argc, argv);
	MUST(mkdir(subject_path("a"), 0700));
	MUST(mkdir(subject_path("b"), 0700));
	MUST(mkdir(subject_path("other"), 0700));
	make("file");
	MUST(symlink("file", subject_path("link")));
	many = MUST(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	for (int i = 0; i < 5000; i++)
		MUST(inotify_rm_watch(many, watch(many, "other", IN_CREATE)));
	while (read(many, &(char[65536]){0}, 65536) > 0)
		;
	a = watch(many, "a", IN_CREATE | IN_DELETE | IN_ONLYDIR | IN_EXCL_UNLINK);
	gone = watch(many, "other", IN_CREATE);
	b = watch(many, "b", IN_ALL_EVENTS & ~(IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE));
	file = watch(many, "file", IN_MODIFY | IN_ATTRIB);
	once = watch(many, "link", IN_ATTRIB | IN_ONESHOT | IN_DONT_FOLLOW);
	MUST(inotify_rm_watch(many, gone));
	while (read(many, &(char[4096]){0}, 4096) > 0)
		;
	link = MUST(open(subject_path("file"), O_RDWR));
	copy = MUST(dup(many));
	waited = MUST(inotify_init1(0));
	watch(waited, "other", IN_CREATE);
	t = subject_thread(reader, NULL);
	for (tid = getpid() + 1; syscall(SYS_tgkill, getpid(), tid, 0); tid++)
		;
	subject_await_state(getpid(), tid, 'S');
	subject_ready();
	subject_wait();
	CHECK(a > 5000, "watch %d", a);
	CHECK_EQ(fcntl(many, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(waited, F_GETFL) & O_NONBLOCK, 0);
	nothing(many);
	make("a/new");
	expect(many, a, IN_CREATE, "new");
	nothing(copy);
	MUST(unlink(subject_path("a/new")));
	expect(copy, a, IN_DELETE, "new");
	make("b/new");
	expect(many, b, IN_CREATE, "new");
	expect(many, b, IN_CLOSE_WRITE, "new");
	MUST(write(link, "x", 1));
	expect(many, file, IN_MODIFY, "");
	MUST(utimensat(AT_FDCWD, subject_path("link"), NULL, AT_SYMLINK_NOFOLLOW));
	expect(many, once, IN_ATTRIB, "");
	expect(many, once, IN_IGNORED, "");
	CHECK_EQ(watch(many, "a", IN_CREATE), a);
	MUST(inotify_rm_watch(many, file));
	expect(many, file, IN_IGNORED, "");
	make("other/new");
	subject_join_thread(t);
	nothing(many);
	MUST(read(link, &c, 0));
	subject_pass();
}
