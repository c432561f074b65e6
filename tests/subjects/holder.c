/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Not a subject: holds what cannot be checkpointed yet, one kind for each argument, says so on standard
 * output, and waits for SIGTERM, on which it exits with 15. */
#include <arpa/inet.h>
#include <asm/ldt.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <linux/netlink.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int tcp_listener(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, 1) < 0 ? -1 : fd;
}

static int udp(void)
{
	return socket(AF_INET, SOCK_DGRAM, 0);
}

static int netlink(void)
{
	return socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
}

static int unix_listener(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0cpx-test-holder"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "cpx-test-holder-%d", getpid());
	return fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(fd, 1) < 0 ? -1 : fd;
}

static int unix_path(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "state.socket"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return fd < 0 || bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0 || listen(fd, 1) < 0 ? -1 : fd;
}

/* A connection with data in it that nobody has accepted. */
static int unix_hasty(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(name);
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd = socket(AF_UNIX, SOCK_STREAM, 0);

	bind(listener, (struct sockaddr *)&name, sizeof(sa_family_t));
	getsockname(listener, (struct sockaddr *)&name, &len);
	if (listen(listener, 1) < 0 || connect(fd, (struct sockaddr *)&name, len) < 0 ||
	    send(fd, "x", 1, 0) != 1)
		return -1;
	return fd;
}

/* A seqpacket pair whose other end was closed with a message unread. */
static int unix_reset(void)
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fd) < 0 || send(fd[0], "x", 1, 0) != 1)
		return -1;
	close(fd[1]);
	return fd[0];
}

static int epoll(void)
{
	return epoll_create1(0);
}

static int event(void)
{
	return eventfd(3, 0);
}

static int timer(void)
{
	return timerfd_create(CLOCK_MONOTONIC, 0);
}

static int signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	return signalfd(-1, &set, 0);
}

static int inotify(void)
{
	int fd = inotify_init1(0);

	return inotify_add_watch(fd, ".", IN_DELETE_SELF) < 0 ? -1 : fd;
}

/* An inotify with an event: that its only watch has gone. */
static int queued(void)
{
	int fd = inotify();

	return inotify_rm_watch(fd, 1) < 0 ? -1 : fd;
}

static int pidfd_of_parent(void)
{
	return syscall(SYS_pidfd_open, getppid(), 0);
}

static int proc_file(void)
{
	return open("/proc/self/status", O_RDONLY);
}

/* An epoll in which a one-shot event of a pipe was reported, of which nothing is left to read. */
static int fired(void)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT};
	int fd = epoll_create1(EPOLL_CLOEXEC), end[2];
	char c;

	if (fd < 0 || pipe(end) < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, end[0], &ev) < 0 || write(end[1], "x", 1) != 1 ||
	    epoll_wait(fd, &ev, 1, -1) != 1 || read(end[0], &c, 1) != 1)
		return -1;
	return fd;
}

/* A child of vfork(2), for which the parent waits in the kernel. Takes no descriptor but one of /dev/null. */
/* A process with our memory and our stack, which it must not touch: it pauses for ever. */
static int shared_stack(void)
{
	long pid;

	__asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 2f\n"
			 "1:\tmov %[pause], %%eax\n\tsyscall\n\tjmp 1b\n2:"
			 : "=a"(pid)
			 : "a"(SYS_clone), "D"(CLONE_VM | SIGCHLD), "S"(0L), "d"(0L), [pause] "i"(SYS_pause)
			 : "rcx", "r11", "memory");
	return pid < 0 ? -1 : open("/dev/null", O_RDWR);
}

static int vforked(void)
{
	return open("/dev/null", O_RDWR);
}

/* A key that ends with the process. Takes no descriptor but one of /dev/null. */
static int keys(void)
{
	return syscall(SYS_add_key, "user", "cpx-test", "x", 1, KEY_SPEC_PROCESS_KEYRING) < 0 ? -1 : vforked();
}

/* Rules that forbid to make sockets' files, by which nobody is hindered. Of a thread that does nothing else. */
static int landlocked(void)
{
	struct {
		uint64_t handled_access_fs;
	} attr = {.handled_access_fs = 1 << 9 /* LANDLOCK_ACCESS_FS_MAKE_SOCK */};
	int rules = syscall(444 /* landlock_create_ruleset */, &attr, sizeof(attr), 0);

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (rules < 0 || syscall(446 /* landlock_restrict_self */, rules, 0) < 0)
		return -1;
	close(rules);
	return vforked();
}

/* ---- seccomp: no descriptors but one of /dev/null, or that of a listener ---- */

static int filter(unsigned nr, unsigned answer, unsigned flags)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, answer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {4, f};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}

static int no_munmap(void)
{
	return filter(SYS_munmap, SECCOMP_RET_KILL_PROCESS, 0) < 0 ? -1 : vforked();
}

static int no_sigaction(void)
{
	return filter(SYS_rt_sigaction, SECCOMP_RET_TRAP, 0) < 0 ? -1 : vforked();
}

static int no_clone(void)
{
	return filter(SYS_clone, SECCOMP_RET_ERRNO | EPERM, 0) < 0 ? -1 : vforked();
}

static int no_mknod(void)
{
	return filter(SYS_mknod, SECCOMP_RET_KILL_PROCESS, 0) < 0 ? -1 : vforked();
}

/* Segment descriptors that a filter lets nobody see. */
static int hidden_ldt(void)
{
	struct user_desc d = {.entry_number = 9, .limit = 0xfff, .seg_32bit = 1, .useable = 1};

	if (syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)) < 0 ||
	    filter(SYS_modify_ldt, SECCOMP_RET_KILL_PROCESS, 0) < 0)
		return -1;
	return vforked();
}

/* Calls from everywhere are exempt, but nothing says so in short. */
static int dispatch(void)
{
	static char selector = 1;

	return prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 1UL, 1UL << 47, &selector) < 0 ? -1 : vforked();
}

static int listener(void)
{
	return filter(SYS_mknod, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

/* A child that may do nothing but read what never comes. */
static int strict(void)
{
	int end[2];
	char c;

	if (pipe(end) < 0)
		return -1;
	if (fork())
		return close(end[0]), end[1];
	close(end[1]);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
	if (read(end[0], &c, 1) < 0)
		syscall(SYS_exit, 1);
	syscall(SYS_exit, 0);
	return -1;
}

static int fan_permission(void)
{
	return fanotify_init(FAN_CLASS_CONTENT, O_RDONLY);
}

/* A group with an event that nobody has read. */
static int fan_queued(void)
{
	int fd = fanotify_init(FAN_CLASS_NOTIF, O_RDONLY);

	if (fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN | FAN_ONDIR, AT_FDCWD, ".") < 0)
		return -1;
	close(open(".", O_RDONLY));
	return fd;
}

/* A context of asynchronous I/O by which a descriptor has been polled. */
static int aio_poll(void)
{
	static struct iocb poll = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN};
	struct iocb *list = &poll;
	aio_context_t id = 0;
	int fd = eventfd(1, 0);

	poll.aio_fildes = fd;
	if (syscall(SYS_io_setup, 1, &id) < 0 || syscall(SYS_io_submit, id, 1, &list) < 0)
		return -1;
	return fd;
}

/* A child inherits the ring, but no context. */
static int aio_child(void)
{
	aio_context_t id = 0;

	if (syscall(SYS_io_setup, 1, &id) < 0)
		return -1;
	if (fork())
		return eventfd(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (1)
		pause();
}

static int uring(uint32_t flags)
{
	struct io_uring_params p = {.flags = flags};
	int fd = (int)syscall(SYS_io_uring_setup, 4, &p);

	return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQ_RING) == MAP_FAILED ? -1 : fd;
}

static int uring_with(unsigned op, const void *arg, unsigned n)
{
	int fd = uring(0);

	return syscall(SYS_io_uring_register, fd, op, arg, n) < 0 ? -1 : fd;
}

static int uring_restricted(void)
{
	struct io_uring_restriction r = {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_NOP};
	int fd = uring(IORING_SETUP_R_DISABLED);

	if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, &r, 1) < 0 ||
	    syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
		return -1;
	return fd;
}

static int uring_provided(void)
{
	static uint8_t memory[4096] __attribute__((aligned(4096)));
	struct io_uring_buf_reg reg = {
		.ring_addr = (uint64_t)memory, .ring_entries = 16, .bgid = 0xdead};

	return uring_with(IORING_REGISTER_PBUF_RING, &reg, 1);
}

/* Its eventfd is one of two. */
static int uring_event(void)
{
	int fd = eventfd(0, 0);

	return eventfd(0, 0) < 0 ? -1 : uring_with(IORING_REGISTER_EVENTFD, &fd, 1);
}

/* A registered file whose descriptor is closed. */
static int uring_file(void)
{
	int fd = open("/dev/zero", O_RDONLY), ring = uring_with(IORING_REGISTER_FILES, &fd, 1);

	close(fd);
	return ring;
}

/* With rings that nobody has mapped. */
static int uring_unmapped(void)
{
	struct io_uring_params p = {0};

	return (int)syscall(SYS_io_uring_setup, 4, &p);
}

static const struct {
	const char *name;
	int (*open)(void);
} kind[] = {
	{"tcp", tcp_listener}, {"udp", udp}, {"netlink", netlink}, {"unix", unix_listener}, {"epoll", epoll},
	{"eventfd", event}, {"timerfd", timer}, {"signalfd", signals}, {"inotify", inotify}, {"parent", pidfd_of_parent},
	{"queued", queued}, {"unixpath", unix_path}, {"hasty", unix_hasty}, {"reset", unix_reset}, {"proc", proc_file},
	{"vfork", vforked}, {"sharedstack", shared_stack}, {"fired", fired}, {"outsider", vforked},
	{"nomunmap", no_munmap}, {"nosigaction", no_sigaction}, {"noclone", no_clone}, {"nomknod", no_mknod}, {"listener", listener},
	{"landlock", landlocked},
	{"strict", strict}, {"hiddenldt", hidden_ldt}, {"dispatch", dispatch}, {"keys", keys},
	{"fanpermission", fan_permission}, {"fanqueued", fan_queued}, {"aiopoll", aio_poll}, {"aiochild", aio_child}, {"restricted", uring_restricted},
	{"provided", uring_provided}, {"severalevents", uring_event}, {"lostfile", uring_file}, {"unmapped", uring_unmapped},
};

static int hold(const char *name, int number)
{
	for (size_t i = 0; i < sizeof(kind) / sizeof(kind[0]); i++) {
		int fd;

		if (strcmp(kind[i].name, name))
			continue;
		fd = kind[i].open();
		if (fd < 0 || dup2(fd, number) < 0)
			return -errno;
		if (fd != number)
			close(fd);
		return 0;
	}
	return -EINVAL;
}

/* A process outside of the tree that has all of it too, as long as we live. */
static void start_outsider(void)
{
	pid_t target = getpid(), pid = fork();
	struct pollfd p = {.events = POLLIN};

	if (pid > 0)
		waitpid(pid, NULL, 0);
	if (pid)
		return;
	pid = fork();
	if (pid > 0) {
		printf("outsider %d\n", pid);
		exit(0);
	}
	p.fd = syscall(SYS_pidfd_open, target, 0);
	poll(&p, 1, -1);
	_exit(0);
}

static void end(int signo)
{
	_exit(signo);
}

int main(int argc, char **argv)
{
	int i, r;

	signal(SIGTERM, end);
	for (i = 1; i < argc; i++) {
		r = hold(argv[i], 10 + i);
		if (r < 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
			return 77;
		}
	}
	if (argc > 1 && !strcmp(argv[1], "outsider"))
		start_outsider();
	printf("ready\n");
	fflush(stdout);
	if (argc > 1 && !strcmp(argv[1], "vfork") && vfork() == 0)
		for (;;)
			pause();
	for (;;)
		pause();
}
