/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Descriptors of every kind: dumped from stopped tasks, restored into fresh ones. */
#include "files_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>

static char dir[64]; /* of the test's files */

static const char *in_dir(const char *name)
{
	static char path[2][128];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static int make_file(const char *name, const char *content)
{
	int fd = open(in_dir(name), O_RDWR | O_CREAT | O_TRUNC, 0644);

	must(fd >= 0 && write(fd, content, strlen(content)) == (ssize_t)strlen(content));
	return fd;
}

static void must_link(int fd, const char *expected)
{
	char link[48], text[PATH_MAX] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	must(readlink(link, text, sizeof(text) - 1) > 0);
	if (strcmp(text, expected) != 0) {
		char what[PATH_MAX * 2];

		snprintf(what, sizeof(what), "link is '%s', not '%s'", text, expected);
		stage_must(false, what, __FILE__, __LINE__);
	}
}

static void must_read(int fd, const char *expected)
{
	char buf[8192];
	ssize_t n = read(fd, buf, sizeof(buf));

	must(n == (ssize_t)strlen(expected) && memcmp(buf, expected, n) == 0);
}

static int flags_of(int fd)
{
	return fcntl(fd, F_GETFL) & ~0100000; /* the kernel's O_LARGEFILE */
}

/* ---- regular files ---- */

static void regular_setup(int task)
{
	close(make_file("plain", "0123456789"));
	place(open(in_dir("plain"), O_RDWR | O_APPEND | O_CLOEXEC), 10);
	must(fcntl(10, F_SETFD, FD_CLOEXEC) == 0);
	must(lseek(10, 4, SEEK_SET) == 4);
	must(dup2(10, 11) == 11);
	place(open(in_dir("plain"), O_RDONLY | O_NOATIME), 12);
	place(open(in_dir("plain"), O_WRONLY | O_NONBLOCK | O_DSYNC), 13);
	place(open("/usr", O_RDONLY | O_DIRECTORY), 14);
	place(open("/usr/bin", O_PATH), 15);
	place(open("/dev/zero", O_RDWR), 16);
	place(open("/dev/urandom", O_RDONLY), 500);
	place(open(in_dir("plain"), O_PATH | O_NOFOLLOW), 501);
}

static void regular_verify(int task)
{
	must(fcntl(10, F_GETFD) == FD_CLOEXEC && fcntl(11, F_GETFD) == 0);
	must(flags_of(10) == (O_RDWR | O_APPEND));
	must(lseek(10, 0, SEEK_CUR) == 4);
	must(lseek(11, 2, SEEK_CUR) == 6 && lseek(10, 0, SEEK_CUR) == 6); /* one description */
	must(lseek(12, 0, SEEK_CUR) == 0);
	must(flags_of(12) == (O_RDONLY | O_NOATIME));
	must(flags_of(13) == (O_WRONLY | O_NONBLOCK | O_DSYNC));
	must(flags_of(14) == (O_RDONLY | O_DIRECTORY));
	must_link(14, "/usr");
	must_link(15, "/usr/bin");
	must((fcntl(15, F_GETFL) & O_PATH) && (fcntl(501, F_GETFL) & O_PATH));
	must_link(16, "/dev/zero");
	must_link(500, "/dev/urandom");
	must(fcntl(17, F_GETFD) < 0 && fcntl(499, F_GETFD) < 0 && fcntl(502, F_GETFD) < 0);
	must(fcntl(1000, F_GETFD) < 0);
	must_link(0, "/dev/null");
}

static void test_regular(void **state)
{
	stage_play(&(struct scene){.setup = regular_setup, .verify = regular_verify});
}

static void remove_plain(void)
{
	unlink(in_dir("plain"));
}

static void test_regular_missing(void **state)
{
	stage_play(&(struct scene){
		.setup = regular_setup, .between = remove_plain, .refused_restore = "is missing"});
}

static void ghost_setup(int task)
{
	int fd = make_file("ghost", "head");

	must(ftruncate(fd, 3 << 20) == 0 && pwrite(fd, "middle", 6, 1 << 20) == 6);
	must(fchmod(fd, 0640) == 0);
	place(fd, 10);
	place(open(in_dir("ghost"), O_WRONLY | O_APPEND), 11);
	place(open(in_dir("ghost"), O_RDONLY), 12);
	must(unlink(in_dir("ghost")) == 0);
	place(make_file("linked", "two names"), 13);
	must(link(in_dir("linked"), in_dir("other")) == 0 && unlink(in_dir("linked")) == 0);
	place(open(dir, O_TMPFILE | O_RDWR, 0600), 14);
	must(write(14, "unnamed", 7) == 7);
}

static void ghost_verify(int task)
{
	char link[160], buf[16];
	struct stat st, st2;

	snprintf(link, sizeof(link), "%s (deleted)", in_dir("ghost"));
	for (int fd = 10; fd <= 12; fd++)
		must_link(fd, link);
	must(fstat(10, &st) == 0 && st.st_size == 3 << 20 && st.st_nlink == 0);
	must((st.st_mode & 07777) == 0640 && st.st_blocks * 512 < 1 << 20);
	must(fstat(12, &st2) == 0 && st2.st_ino == st.st_ino);
	must(lseek(10, 0, SEEK_CUR) == 4 && pread(12, buf, 4, 0) == 4 &&
	     memcmp(buf, "head", 4) == 0);
	must(pread(10, buf, 6, 1 << 20) == 6 && memcmp(buf, "middle", 6) == 0);
	must(flags_of(11) == (O_WRONLY | O_APPEND) && write(11, "end", 3) == 3);
	must(fstat(12, &st2) == 0 && st2.st_size == (3 << 20) + 3);
	snprintf(link, sizeof(link), "%s (deleted)", in_dir("linked"));
	must_link(13, link);
	must(fstat(13, &st) == 0 && stat(in_dir("other"), &st2) == 0 && st.st_ino == st2.st_ino);
	must(access(in_dir("linked"), F_OK) < 0 && access(in_dir("ghost"), F_OK) < 0);
	must(pread(14, buf, 7, 0) == 7 && memcmp(buf, "unnamed", 7) == 0);
	must(lseek(14, 0, SEEK_CUR) == 7);
}

static void test_ghost(void **state)
{
	stage_play(&(struct scene){.setup = ghost_setup, .verify = ghost_verify});
}

static void big_ghost_setup(int task)
{
	char page[4096];

	memset(page, 7, sizeof(page));
	place(make_file("big", ""), 10);
	for (int i = 0; i < 300; i++)
		must(write(10, page, sizeof(page)) == sizeof(page));
	must(unlink(in_dir("big")) == 0);
}

static void test_ghost_too_big(void **state)
{
	stage_play(&(struct scene){.setup = big_ghost_setup,
				   .refused = "fd 10 (deleted file): cannot be checkpointed"});
}

static void proc_setup(int task)
{
	place(open("/proc/self/maps", O_RDONLY), 10);
}

static void test_proc_refused(void **state)
{
	stage_play(&(struct scene){.setup = proc_setup, .refused = "fd 10 (file of /proc)"});
}

/* ---- many descriptors, shared by tasks ---- */

#define MANY 3000

static void many_setup(int task)
{
	struct rlimit l;

	if (task)
		return; /* inherits everything */
	must(getrlimit(RLIMIT_NOFILE, &l) == 0);
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l);
	close(make_file("plain", "0123456789"));
	for (int i = 0; i < MANY; i++)
		must(open(in_dir("plain"), O_RDONLY) == 3 + i);
	for (int i = 0; i < MANY; i++)
		must(lseek(3 + i, i % 7, SEEK_SET) == i % 7);
	must(dup2(3, 3 + MANY) == 3 + MANY);
}

static void many_verify(int task)
{
	for (int i = 1; i < MANY; i++)
		must(lseek(3 + i, 0, SEEK_CUR) == i % 7);
	must(lseek(3, 0, SEEK_CUR) == task); /* each moves what all share */
	must(lseek(3 + MANY, 1, SEEK_CUR) == task + 1);
}

static void test_many(void **state)
{
	stage_play(&(struct scene){.ntasks = 3, .setup = many_setup, .verify = many_verify});
}

/* ---- pipes ---- */

static void pipe_setup(int task)
{
	char big[65536];
	int p[2];

	memset(big, 'b', sizeof(big));
	if (task == 1) {
		close(10); /* task 0 reads, task 1 writes */
		return;
	}
	must(pipe(p) == 0);
	place(p[0], 10);
	place(p[1], 11);
	must(write(11, "hello ", 6) == 6 && write(11, "pipe", 4) == 4);
	must(fcntl(11, F_SETPIPE_SZ, 1 << 17) == 1 << 17);
	must(pipe2(p, O_DIRECT | O_NONBLOCK) == 0); /* packets */
	place(p[0], 12);
	place(p[1], 13);
	must(write(13, "one", 3) == 3 && write(13, "three", 5) == 5 && write(13, "x", 1) == 1);
	must(pipe(p) == 0); /* without a writer */
	place(p[0], 14);
	must(write(p[1], "rest", 4) == 4 && close(p[1]) == 0);
	must(pipe(p) == 0); /* without a reader */
	place(p[1], 15);
	close(p[0]);
	must(pipe2(p, O_NONBLOCK) == 0); /* full */
	place(p[0], 16);
	place(p[1], 17);
	must(write(17, big, sizeof(big)) == sizeof(big) && write(17, big, 1) < 0);
	must(mkfifo(in_dir("fifo"), 0600) == 0);
	place(open(in_dir("fifo"), O_RDWR), 18);
	place(open(in_dir("fifo"), O_RDONLY | O_NONBLOCK), 19);
	must(write(18, "fifo", 4) == 4);
	must(mkfifo(in_dir("lonely"), 0600) == 0);
	place(open(in_dir("lonely"), O_RDONLY | O_NONBLOCK), 20);
}

static void full_verify(void)
{
	char big[65536] = "";

	must(write(17, big, 1) < 0 && errno == EAGAIN);
	must(read(16, big, sizeof(big)) == sizeof(big));
	for (size_t i = 0; i < sizeof(big); i++)
		must(big[i] == 'b');
}

static void pipe_verify(int task)
{
	struct pollfd pfd = {.fd = 20, .events = POLLIN};

	if (task == 1) {
		must(fcntl(10, F_GETFD) < 0);
		must(fcntl(11, F_GETPIPE_SZ) == 1 << 17 && write(11, "!", 1) == 1);
		return;
	}
	must_read(10, "hello pipe");
	must(flags_of(13) == (O_WRONLY | O_DIRECT | O_NONBLOCK) &&
	     flags_of(12) == (O_RDONLY | O_NONBLOCK));
	must_read(12, "one");
	must_read(12, "three");
	must_read(12, "x");
	must_read(14, "rest");
	must_read(14, ""); /* the end */
	signal(SIGPIPE, SIG_IGN);
	must(write(15, "x", 1) < 0 && errno == EPIPE);
	full_verify();
	must_read(19, "fifo");
	must(flags_of(18) == O_RDWR && flags_of(19) == (O_RDONLY | O_NONBLOCK));
	must(write(18, "more", 4) == 4);
	must_read(19, "more");
	must(poll(&pfd, 1, 0) == 0); /* nobody has ever written: no POLLHUP */
	must_link(20, in_dir("lonely"));
	stage_linger();
}

static void test_pipe(void **state)
{
	stage_play(&(struct scene){.ntasks = 2, .setup = pipe_setup, .verify = pipe_verify});
}

static int outside_pipe[2] = {-1, -1};

static void outside_setup(int task)
{
	char path[64];

	/* By way of /proc, since everything was closed. */
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getppid(), outside_pipe[1]);
	place(open(path, O_WRONLY), 10);
}

static void test_pipe_outside(void **state)
{
	pid_t pid;

	assert_int_equal(pipe(outside_pipe), 0);
	pid = fork(); /* cpx itself does not count */
	if (pid == 0)
		for (;;)
			pause();
	stage_play(
		&(struct scene){.setup = outside_setup, .refused = "which is outside of the tree"});
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(outside_pipe[0]);
	close(outside_pipe[1]);
}

/* ---- Unix socket pairs ---- */

static void make_pair(int type, int first)
{
	int p[2];

	must(socketpair(AF_UNIX, type, 0, p) == 0);
	place(p[0], first);
	place(p[1], first + 1);
}

static void unix_setup(int task)
{
	int off = 2, room = 40000;
	struct timeval tv = {.tv_sec = 3, .tv_usec = 500000};

	make_pair(SOCK_STREAM, 10);
	must(send(10, "stream ", 7, 0) == 7 && send(10, "data", 4, 0) == 4 &&
	     send(11, "back", 4, 0) == 4);
	must(setsockopt(10, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0);
	must(setsockopt(10, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	must(fcntl(11, F_SETFL, O_NONBLOCK) == 0);
	make_pair(SOCK_DGRAM, 12);
	must(send(12, "one", 3, 0) == 3 && send(12, "", 0, 0) == 0 && send(12, "three", 5, 0) == 5);
	must(setsockopt(13, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) == 0);
	make_pair(SOCK_SEQPACKET, 14);
	must(send(15, "alpha", 5, 0) == 5 && send(15, "be", 2, 0) == 2);
	must(shutdown(15, SHUT_WR) == 0);
	make_pair(SOCK_STREAM, 16); /* the peer is gone, its last words are not */
	must(send(17, "bye", 3, 0) == 3 && close(17) == 0);
	make_pair(SOCK_STREAM, 18); /* reset */
	must(send(18, "unread", 6, 0) == 6 && close(19) == 0);
}

static void unix_inspect(struct dump_ctx *c)
{
	int off = 0;
	socklen_t len = sizeof(off);
	int fd = syscall(SYS_pidfd_getfd, c->tree->task[0]->pidfd, 13, 0);

	assert_true(fd >= 0);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &off, &len), 0);
	assert_int_equal(off, 2); /* as it was */
	close(fd);
}

static void must_receive(int fd, const char *expected)
{
	char buf[256];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

	must(n == (ssize_t)strlen(expected) && memcmp(buf, expected, n) == 0);
}

static void unix_verify(int task)
{
	int value = 0;
	socklen_t len = sizeof(value);
	struct timeval tv;
	char c;

	must_receive(11, "stream data");
	must_receive(10, "back");
	must(send(11, "again", 5, 0) == 5);
	must_receive(10, "again");
	must(flags_of(11) == (O_RDWR | O_NONBLOCK) && flags_of(10) == O_RDWR);
	must(getsockopt(10, SOL_SOCKET, SO_SNDBUF, &value, &len) == 0 && value == 80000);
	len = sizeof(tv);
	must(getsockopt(10, SOL_SOCKET, SO_RCVTIMEO, &tv, &len) == 0 && tv.tv_sec == 3 &&
	     tv.tv_usec == 500000);
	len = sizeof(value);
	must(getsockopt(13, SOL_SOCKET, SO_PEEK_OFF, &value, &len) == 0 && value == 2);
	must_receive(13, "one");
	must_receive(13, "");
	must_receive(13, "three");
	must(recv(13, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	must_receive(14, "alpha");
	must_receive(14, "be");
	must(recv(14, &c, 1, MSG_DONTWAIT) == 0);
	must(send(14, "still", 5, 0) == 5);
	must_receive(15, "still");
	must_receive(16, "bye");
	must(recv(16, &c, 1, MSG_DONTWAIT) == 0);
	must(recv(18, &c, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET);
}

static void test_unix(void **state)
{
	stage_play(&(struct scene){
		.setup = unix_setup, .verify = unix_verify, .inspect = unix_inspect});
}

static void rights_setup(int task)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} u = {0};
	struct iovec iov = {.iov_base = (void *)"x", .iov_len = 1};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u)};

	make_pair(SOCK_STREAM, 10);
	u.h = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)),
			       .cmsg_level = SOL_SOCKET,
			       .cmsg_type = SCM_RIGHTS};
	must(sendmsg(10, &m, 0) == 1);
}

/* What was sent along is standard input. */
static void rights_verify(int task)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} u = {0};
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u)};
	struct stat a, b;
	int fd;

	must(recvmsg(11, &m, MSG_DONTWAIT) == 1 && byte == 'x');
	must(u.h.cmsg_type == SCM_RIGHTS && u.h.cmsg_len == CMSG_LEN(sizeof(int)));
	memcpy(&fd, CMSG_DATA(&u.h), sizeof(fd));
	must(fstat(fd, &a) == 0 && fstat(0, &b) == 0 && a.st_ino == b.st_ino);
}

static void test_unix_rights(void **state)
{
	stage_play(&(struct scene){.setup = rights_setup, .verify = rights_verify});
}

/* ---- memfds ---- */

static void memfd_setup(int task)
{
	place(memfd_create("some name", MFD_ALLOW_SEALING | MFD_CLOEXEC), 10);
	must(ftruncate(10, 10 << 20) == 0 && pwrite(10, "tail", 4, (9 << 20) + 5) == 4);
	must(lseek(10, 77, SEEK_SET) == 77);
	must(fcntl(10, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_WRITE) == 0);
	place(open("/proc/self/fd/10", O_RDONLY), 11);
	place(memfd_create("plain", 0), 12);
	must(write(12, "abc", 3) == 3);
}

static void memfd_verify(int task)
{
	struct stat a, b;
	char buf[8];

	must_link(10, "/memfd:some name (deleted)");
	must(fstat(10, &a) == 0 && fstat(11, &b) == 0 && a.st_ino == b.st_ino &&
	     a.st_size == 10 << 20);
	must(a.st_blocks <= 16);
	must(lseek(10, 0, SEEK_CUR) == 77 && lseek(11, 0, SEEK_CUR) == 0);
	must(pread(11, buf, 4, (9 << 20) + 5) == 4 && memcmp(buf, "tail", 4) == 0);
	must(fcntl(10, F_GET_SEALS) == (F_SEAL_GROW | F_SEAL_WRITE) && flags_of(11) == O_RDONLY);
	must(fcntl(12, F_GET_SEALS) == F_SEAL_SEAL && lseek(12, 0, SEEK_CUR) == 3);
	must(fstat(12, &a) == 0 && a.st_size == 3 && (a.st_mode & 0777) == 0777);
}

static void test_memfd(void **state)
{
	stage_play(&(struct scene){.setup = memfd_setup, .verify = memfd_verify});
}

/* ---- locks and owners ---- */

static void lock_setup(int task)
{
	struct flock posix = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
	struct flock ofd = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100};

	if (task == 0) {
		place(make_file("flock", "x"), 10);
		must(flock(10, LOCK_EX) == 0);
		place(make_file("posix", "x"), 11);
		must(fcntl(11, F_SETLK, &posix) == 0);
		must(dup2(11, 12) == 12);
		place(make_file("ofd", "x"), 13);
		must(fcntl(13, F_OFD_SETLK, &ofd) == 0);
		make_pair(SOCK_STREAM, 14);
		must(fcntl(14, F_SETSIG, SIGUSR2) ==
		     0); /* no owner: its pid is not the same here */
		must(fcntl(14, F_SETFL, O_ASYNC | O_NONBLOCK) == 0);
	} else {
		posix.l_start = 30;
		must(fcntl(11, F_SETLK, &posix) == 0);
	}
}

static void lock_verify(int task)
{
	struct flock probe = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int other = open(in_dir("flock"), O_RDWR);

	must(flock(other, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	must(fcntl(11, F_GETLK, &probe) == 0 && probe.l_type == F_WRLCK);
	must(probe.l_start == (task ? 10 : 30) && probe.l_len == 5); /* the other's */
	other = open(in_dir("ofd"), O_RDWR);
	probe = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
	must(fcntl(other, F_OFD_GETLK, &probe) == 0 && probe.l_type == F_RDLCK &&
	     probe.l_start == 100 && probe.l_len == 0);
	must(fcntl(14, F_GETSIG) == SIGUSR2 && flags_of(14) == (O_RDWR | O_ASYNC | O_NONBLOCK));
	if (task == 0)
		stage_linger(); /* or its locks would be gone */
}

static void test_locks(void **state)
{
	stage_play(&(struct scene){.ntasks = 2, .setup = lock_setup, .verify = lock_verify});
}

/* ---- terminals ---- */

static int master = -1;
static char slave_name[64];

static void tty_setup(int task)
{
	struct termios t;

	place(open(slave_name, O_RDWR | O_NOCTTY), 10);
	must(tcgetattr(10, &t) == 0);
	cfmakeraw(&t);
	must(tcsetattr(10, TCSANOW, &t) == 0);
	place(open(slave_name, O_RDONLY | O_NOCTTY | O_NONBLOCK), 11);
	must(dup2(10, 1) == 1);
}

static void tty_verify(int task)
{
	struct termios t;

	must(isatty(10) && isatty(11) && isatty(1) && flags_of(11) == (O_RDONLY | O_NONBLOCK));
	must(tcgetattr(10, &t) == 0 && !(t.c_lflag & ICANON));
}

static void headless_verify(int task)
{
	char c;

	must_link(10, "/dev/null");
	must_link(1, "/dev/null");
	must(read(10, &c, 1) == 0 && write(1, "x", 1) == 1);
	must(flags_of(11) == (O_RDONLY | O_NONBLOCK));
}

static void open_master(void)
{
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	assert_int_equal(ptsname_r(master, slave_name, sizeof(slave_name)), 0);
}

static void test_terminal(void **state)
{
	int first, tty;

	open_master();
	first = master;
	stage_play(&(struct scene){.setup = tty_setup, .verify = headless_verify});
	open_master();
	tty = open(slave_name, O_RDWR | O_NOCTTY);
	assert_true(tty >= 0);
	stage_play(&(struct scene){.setup = tty_setup, .verify = tty_verify, .tty_fd = tty + 1});
	close(tty);
	close(first);
	close(master);
}

static void unread_setup(int task)
{
	place(posix_openpt(O_RDWR | O_NOCTTY), 10);
	must(unlockpt(10) == 0);
	place(ioctl(10, TIOCGPTPEER, O_RDWR | O_NOCTTY), 11);
	must(write(11, "abc", 3) == 3);
	must(ioctl(11, TIOCEXCL) == 0); /* else it could be put back */
}

static void test_unread_refused(void **state)
{
	stage_play(&(struct scene){.setup = unread_setup,
				   .refused = "fd 10 (pseudo-terminal master): cannot be "
					      "checkpointed: /dev/pts/"});
}

/* ---- leases ---- */

static void lease_setup(int task)
{
	close(make_file("leased", "x"));
	place(open(in_dir("leased"), O_RDONLY), 10);
	must(fcntl(10, F_SETLEASE, F_RDLCK) == 0);
	must(fcntl(10, F_SETOWN, 0) == 0); /* its pid is not the same here */
}

static void lease_verify(int task)
{
	must(fcntl(10, F_GETLEASE) == F_RDLCK);
}

static void test_lease(void **state)
{
	stage_play(&(struct scene){.setup = lease_setup, .verify = lease_verify});
}

/* ---- mappings: shared content without descriptors ---- */

#define SHM_AT	   ((char *)0x200000000000)
#define SEM_AT	   ((char *)0x200010000000)
#define PRIVATE_AT ((char *)0x200020000000)
#define SEG_AT	   ((char *)0x200030000000)
#define SHM_SIZE   (4UL << 20)

static void mapped_setup(int task)
{
	int fd, id;
	char page[4096];

	must(mmap(SHM_AT, SHM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
		  -1, 0) == SHM_AT);
	strcpy(SHM_AT + 5, "start");
	strcpy(SHM_AT + SHM_SIZE - 100, "end");
	fd = make_file("sem", "semaphore");
	must(mmap(SEM_AT, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == SEM_AT);
	must(close(fd) == 0 && unlink(in_dir("sem")) == 0);
	fd = make_file("lib", "");
	for (int i = 0; i < 4; i++) {
		memset(page, 'a' + i, sizeof(page));
		must(write(fd, page, sizeof(page)) == sizeof(page));
	}
	must(mmap(PRIVATE_AT, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
	     PRIVATE_AT);
	PRIVATE_AT[4096] = '!';
	must(close(fd) == 0 && unlink(in_dir("lib")) == 0);
	id = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0640);
	must(id >= 0 && shmat(id, SEG_AT, 0) == SEG_AT);
	strcpy(SEG_AT + 9000, "segment");
	place(memfd_create("id", 0), 10);
	must(write(10, &id, sizeof(id)) == sizeof(id));
}

static struct {
	uint32_t shm, sem, lib, seg;
	int shmid;
} ids;

static void add_mapping(struct dump_ctx *c, const char *start, size_t len, const char *name,
			bool is_private, uint32_t *ret)
{
	const struct tracee *t = c->tree->task[0];
	struct err err = ERR_INIT;
	char link[96];
	struct stat st;

	snprintf(link, sizeof(link), "%d/map_files/%lx-%lx", t->pid, (unsigned long)start,
		 (unsigned long)start + len);
	assert_int_equal(fstatat(c->proc_fd, link, &st, 0), 0);
	if (is_denied("map_files"))
		st = (struct stat){.st_dev = st.st_dev, .st_ino = st.st_ino};
	if (files_add_mapped(c, c->tree->task[0], in_dir(name), &st, true, !is_private, is_private,
			     link, ret, &err) < 0)
		fail_msg("%s", err.msg);
}

static void mapped_inspect(struct dump_ctx *c)
{
	struct tracee *t = c->tree->task[0];
	struct err err = ERR_INIT;
	Cpx__Object *o = NULL;
	int fd = syscall(SYS_pidfd_getfd, t->pidfd, 10, 0);

	assert_int_equal(pread(fd, &ids.shmid, sizeof(ids.shmid), 0), sizeof(ids.shmid));
	close(fd);
	add_mapping(c, SEM_AT, 4096, "sem", false, &ids.sem);
	add_mapping(c, PRIVATE_AT, 16384, "lib", true, &ids.lib);
	assert_int_equal(objects_add(c, t, CPX__OBJECT__TYPE__SHM_ANON, 1, 777, SHM_SIZE, -1,
				     (uint64_t)SHM_AT, SHM_SIZE, 0, &o, &err),
			 0);
	ids.shm = o->id;
	assert_int_equal(objects_add(c, t, CPX__OBJECT__TYPE__SYSV, 1, ids.shmid, 0, -1,
				     (uint64_t)SEG_AT, 12288, 0, &o, &err),
			 0);
	ids.seg = o->id;
}

static void remove_segment(void)
{
	/* dies with the last who has it; --kill leaves it */
	assert_int_equal(shmctl(ids.shmid, IPC_RMID, NULL), 0);
}

static void mapped_restored(struct restore_ctx *c)
{
	char buf[16384] = "", *shm = c->object_map[0];
	struct shmid_ds ds;

	for (size_t i = 0; i < c->image->nobjects; i++)
		if (c->image->object[i]->id == ids.shm)
			shm = c->object_map[i];
	assert_string_equal(shm + 5, "start");
	assert_string_equal(shm + SHM_SIZE - 100, "end");
	assert_true(pread(files_fd(c, ids.sem), buf, sizeof(buf), 0) >= 9);
	assert_string_equal(buf, "semaphore");
	assert_int_equal(pread(files_fd(c, ids.lib), buf, sizeof(buf), 0), sizeof(buf));
	for (int i = 0; i < 4; i++)
		if (i != 1 || !is_denied("map_files")) /* that page nobody can see any more */
			assert_int_equal(buf[i * 4096 + 1], 'a' + i);
	assert_int_equal(objects_shmid(c, ids.seg), ids.shmid);
	assert_int_equal(shmctl(ids.shmid, IPC_STAT, &ds), 0);
	assert_int_equal(ds.shm_segsz, 10000);
	assert_int_equal(ds.shm_nattch, 1);
	assert_int_equal(objects_settle(c, NULL), 0);
	shm = shmat(ids.shmid, NULL, SHM_RDONLY);
	assert_string_equal(shm + 9000, "segment");
	assert_int_equal(shmctl(ids.shmid, IPC_STAT, &ds), 0);
	assert_int_equal(ds.shm_perm.mode & 0777, 0640);
	shmdt(shm);
	shmctl(ids.shmid, IPC_RMID, NULL);
}

static void nothing(int task)
{
}

static void test_mapped(void **state)
{
	const struct scene s = {.setup = mapped_setup,
				.verify = nothing,
				.inspect = mapped_inspect,
				.between = remove_segment,
				.restored = mapped_restored};

	if (geteuid())
		skip();
	stage_play(&s);
	setenv("CPX_DENY", "map_files", 1);
	stage_play(&s);
	unsetenv("CPX_DENY");
}

/* ---- without kcmp(2) ---- */

static void test_no_kcmp(void **state)
{
	setenv("CPX_DENY", "kcmp", 1);
	stage_play(&(struct scene){.setup = regular_setup, .verify = regular_verify});
	stage_play(&(struct scene){.setup = ghost_setup, .verify = ghost_verify});
	stage_play(&(struct scene){.ntasks = 2, .setup = pipe_setup, .verify = pipe_verify});
	unsetenv("CPX_DENY");
}

/* ---- unknown kinds ---- */

static void tcp_setup(int task)
{
	place(socket(AF_INET, SOCK_STREAM, 0), 10);
}

static void test_unknown(void **state)
{
	stage_play(&(struct scene){.setup = tcp_setup,
				   .refused = "fd 10 (TCP socket): cannot be checkpointed"});
}

/* ---- */

static int make_dir(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/cpx-test-files-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[96];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_regular, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_regular_missing, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_ghost, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_ghost_too_big, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_proc_refused, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_many, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_pipe, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_pipe_outside, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_unix, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_unix_rights, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_memfd, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_locks, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_terminal, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_unread_refused, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_lease, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_mapped, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_no_kcmp, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_unknown, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
