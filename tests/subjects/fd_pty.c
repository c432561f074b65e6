/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Pseudo-terminals with both sides: numbers, modes, window size, lock, packet and exclusive mode,
 * slaves that are closed, hung up or were never opened; data goes both ways. */
#include "subject.h"

#include <asm/termbits.h>
#include <poll.h>
#include <sys/ioctl.h>

struct pair {
	int master, slave, index;
};

static struct pair plain, packet, fresh, closed, gone;
static struct termios2 modes;

static int get_int(int fd, unsigned long request)
{
	int value = -1;

	MUST(ioctl(fd, request, &value));
	return value;
}

static void set_int(int fd, unsigned long request, int value)
{
	MUST(ioctl(fd, request, &value));
}

static struct pair make(int flags)
{
	struct pair p = {.master = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | flags)), .slave = -1};

	p.index = get_int(p.master, TIOCGPTN);
	return p;
}

static int open_slave(const struct pair *p, int flags)
{
	set_int(p->master, TIOCSPTLCK, 0);
	return MUST(ioctl(p->master, TIOCGPTPEER, flags | O_NOCTTY));
}

static int events(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	poll(&pfd, 1, 0);
	return pfd.revents;
}

static void set_modes(void)
{
	struct winsize size = {33, 77, 5, 6};

	MUST(ioctl(plain.slave, TCGETS2, &modes));
	modes.c_lflag &= ~(ICANON | ECHO);
	modes.c_oflag &= ~OPOST;
	modes.c_cc[VINTR] = 7;
	modes.c_cflag = (modes.c_cflag & ~CBAUD) | BOTHER;
	modes.c_ispeed = modes.c_ospeed = 12345;
	MUST(ioctl(plain.slave, TCSETS2, &modes));
	MUST(ioctl(plain.slave, TCGETS2, &modes));
	MUST(ioctl(plain.slave, TIOCSWINSZ, &size));
	MUST(fchmod(plain.slave, 0604));
}

static void set_up(void)
{
	int held[3];

	for (int i = 0; i < 3; i++) /* so that the numbers have holes */
		held[i] = make(0).master;
	plain = make(O_NONBLOCK);
	plain.slave = open_slave(&plain, O_RDWR);
	set_modes();
	packet = make(0);
	packet.slave = open_slave(&packet, O_WRONLY | O_NONBLOCK);
	set_int(packet.master, TIOCPKT, 1);
	MUST(ioctl(packet.slave, TIOCEXCL));
	fresh = make(0);
	closed = make(0);
	MUST(close(open_slave(&closed, O_RDWR)));
	set_int(closed.master, TIOCSPTLCK, 1);
	gone = make(0);
	gone.slave = open_slave(&gone, O_RDWR);
	MUST(close(gone.master));
	for (int i = 0; i < 3; i++)
		MUST(close(held[i]));
}

static void check_node(const struct pair *p)
{
	char path[32];
	struct stat by_fd, by_path;

	CHECK_EQ(get_int(p->master, TIOCGPTN), p->index);
	if (p->slave < 0)
		return;
	snprintf(path, sizeof(path), "/dev/pts/%d", p->index);
	CHECK_EQ(get_int(p->slave, TIOCGDEV) & 0xff, p->index & 0xff);
	MUST(fstat(p->slave, &by_fd));
	MUST(stat(path, &by_path));
	CHECK(by_fd.st_ino == by_path.st_ino && by_fd.st_dev == by_path.st_dev);
	CHECK_EQ(by_fd.st_uid, getuid());
}

static void check_says(int from, int to, const char *text)
{
	char buf[64] = "";
	struct pollfd pfd = {.fd = to, .events = POLLIN};

	CHECK_EQ(write(from, text, strlen(text)), strlen(text));
	CHECK_EQ(poll(&pfd, 1, 5000), 1);
	CHECK_EQ(read(to, buf, sizeof(buf)), strlen(text));
	CHECK(strcmp(buf, text) == 0, "%s", buf);
}

static void check_plain(void)
{
	struct termios2 now;
	struct winsize size;
	struct stat st;

	check_node(&plain);
	MUST(ioctl(plain.slave, TCGETS2, &now));
	CHECK(memcmp(&now, &modes, sizeof(now)) == 0);
	MUST(ioctl(plain.slave, TIOCGWINSZ, &size));
	CHECK(size.ws_row == 33 && size.ws_col == 77 && size.ws_xpixel == 5 && size.ws_ypixel == 6);
	MUST(fstat(plain.slave, &st));
	CHECK_EQ(st.st_mode & 07777, 0604);
	CHECK_EQ(get_int(plain.master, TIOCGPTLCK), 0);
	CHECK_EQ(get_int(plain.master, TIOCGPKT), 0);
	CHECK_EQ(get_int(plain.slave, TIOCGEXCL), 0);
	CHECK_EQ(fcntl(plain.master, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
	CHECK_EQ(fcntl(plain.master, F_GETFD), FD_CLOEXEC);
	CHECK(ioctl(plain.slave, TIOCGSID, &(int){0}) < 0 && errno == ENOTTY);
	check_says(plain.master, plain.slave, "down");
	check_says(plain.slave, plain.master, "up");
	CHECK(read(plain.master, &now, 1) < 0 && errno == EAGAIN);
}

static void check_packet(void)
{
	char buf[16] = "";
	struct pollfd pfd = {.fd = packet.master, .events = POLLIN};

	check_node(&packet);
	CHECK_EQ(get_int(packet.master, TIOCGPKT), 1);
	CHECK_EQ(get_int(packet.slave, TIOCGEXCL), 1);
	CHECK_EQ(fcntl(packet.slave, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_WRONLY | O_NONBLOCK);
	CHECK_EQ(events(packet.master), 0);
	CHECK_EQ(write(packet.slave, "abc", 3), 3);
	CHECK_EQ(poll(&pfd, 1, 5000), 1);
	CHECK_EQ(read(packet.master, buf, sizeof(buf)), 4);
	CHECK(memcmp(buf, "\0abc", 4) == 0);
}

static void check_without_slaves(void)
{
	check_node(&fresh);
	CHECK_EQ(get_int(fresh.master, TIOCGPTLCK), 1);
	CHECK_EQ(events(fresh.master), 0);
	check_node(&closed);
	CHECK_EQ(get_int(closed.master, TIOCGPTLCK), 1);
	CHECK_EQ(events(closed.master), POLLHUP);
	closed.slave = open_slave(&closed, O_RDWR);
	CHECK_EQ(events(closed.master), 0);
	check_says(closed.master, closed.slave, "again\n");
}

static void check_hung_up(const struct pair *p)
{
	char c;

	CHECK(ioctl(p->slave, TIOCGDEV, &(int){0}) < 0 && errno == EIO);
	CHECK_EQ(read(p->slave, &c, 1), 0);
	CHECK(write(p->slave, "x", 1) < 0 && errno == EIO);
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	set_up();
	subject_ready();
	subject_wait();
	check_plain();
	check_packet();
	check_without_slaves();
	check_hung_up(&gone);
	subject_pass();
}
