/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files and directories of /proc: of oneself (memory, too), a child, a thread, a zombie, and the dead; one in an epoll. */
#include "subject.h"

#include <dirent.h>
#include <sys/epoll.h>

static pid_t tid;
static int to_end[2]; /* of the child and the thread: they live as long as it is open */

static int child(void *arg)
{
	char c;

	close(to_end[1]);
	subject_child_ready();
	return read(to_end[0], &c, 1);
}

static void *thread(void *arg)
{
	__atomic_store_n(&tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	char c;

	CHECK_EQ(read(to_end[0], &c, 1), 0);
	return NULL;
}

static int open_of(pid_t pid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d%s%s", pid, *name ? "/" : "", name);
	return MUST(open(path, flags));
}

/* A file "stat" begins with the number. */
static void check_stat(int fd, pid_t pid)
{
	char buf[32] = "";

	CHECK(pread(fd, buf, sizeof(buf) - 1, 0) > 0, "%s", strerror(errno));
	CHECK_EQ(atoi(buf), pid);
}

static int ended(void)
{
	pid_t pid = MUST(fork());

	if (pid == 0)
		_exit(0);
	return pid;
}

static bool lists(int dir, const char *name)
{
	DIR *d = fdopendir(dup(dir));
	struct dirent *e;
	bool found = false;

	rewinddir(d);
	while ((e = readdir(d)))
		found |= strcmp(e->d_name, name) == 0;
	closedir(d);
	return found;
}

int main(int argc, char **argv)
{
	int own, mem, fds, of_child, of_thread, of_zombie, of_dead, dir_of_dead, mounts, watcher;
	static volatile char word[8] = "before";
	struct epoll_event ev = {.events = EPOLLPRI, .data.u64 = 77};
	pid_t pid, zombie, dead;
	char buf[64] = "";
	pthread_t t;

	subject_init(argc, argv);
	MUST(pipe2(to_end, O_CLOEXEC));
	pid = subject_fork(child, NULL);
	t = subject_thread(thread, NULL);
	while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
		sched_yield();
	own = MUST(open("/proc/self/stat", O_RDONLY | O_CLOEXEC));
	MUST(lseek(own, 3, SEEK_SET));
	mem = MUST(open("/proc/self/mem", O_RDWR));
	fds = MUST(open("/proc/self/fd", O_RDONLY | O_DIRECTORY));
	of_child = open_of(pid, "stat", O_RDONLY);
	snprintf(buf, sizeof(buf), "task/%d/stat", tid);
	of_thread = open_of(getpid(), buf, O_RDONLY);
	zombie = ended();
	of_zombie = open_of(zombie, "stat", O_RDONLY);
	subject_await_state(zombie, zombie, 'Z');
	dead = ended();
	of_dead = open_of(dead, "status", O_RDONLY);
	dir_of_dead = open_of(dead, "", O_RDONLY | O_DIRECTORY);
	MUST(waitpid(dead, NULL, 0));
	mounts = MUST(open("/proc/self/mountinfo", O_RDONLY));
	watcher = MUST(epoll_create1(0));
	MUST(epoll_ctl(watcher, EPOLL_CTL_ADD, mounts, &ev));
	subject_ready();
	subject_wait();
	CHECK_EQ(lseek(own, 0, SEEK_CUR), 3);
	CHECK_EQ(fcntl(own, F_GETFD), FD_CLOEXEC);
	check_stat(own, getpid());
	CHECK_EQ(pread(mem, buf, 7, (off_t)word), 7);
	CHECK(strcmp(buf, "before") == 0, "%s", buf);
	CHECK_EQ(pwrite(mem, "after!", 6, (off_t)word), 6);
	CHECK(strcmp((char *)word, "after!") == 0, "%s", word);
	snprintf(buf, sizeof(buf), "%d", own);
	CHECK(lists(fds, buf), "the own directory of descriptors is another's");
	check_stat(of_child, pid);
	check_stat(of_thread, tid);
	check_stat(of_zombie, zombie);
	CHECK_EQ(read(of_dead, buf, 1), -1);
	CHECK_EQ(errno, ESRCH);
	CHECK_EQ(openat(dir_of_dead, "status", O_RDONLY), -1);
	CHECK(pread(mounts, buf, 8, 0) == 8, "%s", strerror(errno));
	MUST(epoll_ctl(watcher, EPOLL_CTL_MOD, mounts, &ev));
	CHECK_EQ(epoll_wait(watcher, &ev, 1, 0), 0);
	close(to_end[1]);
	subject_join(pid);
	subject_join(zombie);
	subject_join_thread(t);
	check_stat(own, getpid());
	subject_pass();
}
