/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* fanotify: groups that give descriptors (root's only) or names, marks of inodes with what they ignore. */
#include "subject.h"

#include <sys/fanotify.h>

static int plain, named;
static const char *dir, *ignored;

static void touch(const char *name)
{
	int fd = MUST(open(name, O_CREAT | O_WRONLY, 0600));

	MUST(write(fd, "x", 1));
	close(fd);
}

static void expect(int fd, uint64_t mask, const char *name)
{
	static char buf[4096] __attribute__((aligned(8)));
	struct fanotify_event_metadata *e = (void *)buf;
	ssize_t n;

	if (fd < 0)
		return;
	n = MUST(read(fd, buf, sizeof(buf)));
	CHECK_EQ(n, e->event_len);
	CHECK_EQ(e->mask, mask);
	CHECK_EQ(e->pid, getpid());
	if (e->fd >= 0) {
		char link[64], path[4096] = "";

		snprintf(link, sizeof(link), "/proc/self/fd/%d", e->fd);
		MUST(readlink(link, path, sizeof(path) - 1));
		CHECK(strcmp(path, name) == 0, "%s", path);
		CHECK_EQ(MUST(fcntl(e->fd, F_GETFL)) & O_ACCMODE, O_RDONLY);
		close(e->fd);
	} else {
		CHECK(memmem(buf, n, name, strlen(name) + 1), "no name in the event");
	}
}

static void nothing(int fd)
{
	char buf[4096];

	if (fd < 0)
		return;
	CHECK_EQ(read(fd, buf, sizeof(buf)), -1);
	CHECK_EQ(errno, EAGAIN);
}

static void make(void)
{
	plain = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_LARGEFILE);
	if (plain < 0 && errno != EPERM)
		subject_skip("no fanotify: %s", strerror(errno));
	named = MUST(fanotify_init(FAN_REPORT_DFID_NAME | FAN_NONBLOCK, 0));
	MUST(fanotify_mark(named, FAN_MARK_ADD, FAN_CREATE | FAN_DELETE | FAN_ONDIR, AT_FDCWD, dir));
	if (plain < 0)
		return;
	MUST(fanotify_mark(plain, FAN_MARK_ADD, FAN_CLOSE_WRITE | FAN_EVENT_ON_CHILD, AT_FDCWD, dir));
	MUST(fanotify_mark(plain, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY,
			   FAN_CLOSE_WRITE, AT_FDCWD, ignored));
}

static void check(void)
{
	char name[4200];

	nothing(plain);
	nothing(named);
	snprintf(name, sizeof(name), "%s/new", dir);
	touch(name);
	expect(plain, FAN_CLOSE_WRITE, name);
	expect(named, FAN_CREATE, "new");
	touch(ignored);
	nothing(plain);
	MUST(unlink(name));
	expect(named, FAN_DELETE, "new");
	MUST(mkdir(name, 0700));
	expect(named, FAN_CREATE | FAN_ONDIR, "new");
	MUST(rmdir(name));
	expect(named, FAN_DELETE | FAN_ONDIR, "new");
	nothing(plain);
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	dir = strdup(subject_path("dir"));
	ignored = strdup(subject_path("dir/ignored"));
	MUST(mkdir(dir, 0700));
	touch(ignored);
	MUST(open(dir, O_PATH)); /* where an ordinary user finds it */
	make();
	check();
	subject_ready();
	subject_wait();
	check();
	subject_pass();
}
