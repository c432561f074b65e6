/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What waits in pseudo-terminals: input typed ahead, in lines with all ways to end one or as bytes,
 * unfinished lines; output not yet read, also in packet mode; the modes stay as they are. */
#include "subject.h"

#include <asm/termbits.h>
#include <poll.h>
#include <sys/ioctl.h>

struct pair {
	int master, slave;
	struct termios2 modes;
};

#define NBYTES	2900
#define NOUTPUT 7000

static struct pair bytes, lines, job, packet, full, prompt, pasted;
static uint8_t sent[NBYTES], output[NOUTPUT];

static struct pair make(int flags)
{
	struct pair p = {.master = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | flags))};

	MUST(ioctl(p.master, TIOCSPTLCK, &(int){0}));
	p.slave = MUST(ioctl(p.master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
	MUST(ioctl(p.slave, TCGETS2, &p.modes));
	return p;
}

static void set_modes(struct pair *p)
{
	MUST(ioctl(p->slave, TCSETS2, &p->modes));
	MUST(ioctl(p->slave, TCGETS2, &p->modes));
}

static void put(int fd, const void *data, size_t len)
{
	CHECK_EQ(write(fd, data, len), len);
}

/* What the line discipline is behind with. */
static void await_input(int fd, int bytes_waiting)
{
	int n = 0;

	while (n < bytes_waiting)
		MUST(ioctl(fd, FIONREAD, &n));
	CHECK_EQ(n, bytes_waiting);
}

static void set_up_bytes(void)
{
	bytes = make(O_NONBLOCK);
	bytes.modes.c_lflag &= ~(ICANON | ECHO | ISIG);
	bytes.modes.c_iflag &= ~(IXON | ICRNL);
	bytes.modes.c_cc[VMIN] = 0;
	set_modes(&bytes);
	for (size_t i = 0; i < NBYTES; i++)
		sent[i] = i * 7 + i / 256;
	put(bytes.master, sent, NBYTES);
	await_input(bytes.slave, NBYTES);
}

/* Plain ones, a quoted newline, ends of files (an empty one too), other ends of lines, an empty line, one that is corrected. */
#define TYPED "first\ra\x16\nb\nhalf\x04\x04 \x16\x16\x16\x04;and|\rwrongx\177\n\n"

static const char *const line[] = {"first\n", "a\nb\n", "half", "", " \x16\x04;", "and|", "\n", "wrong\n", "\n"};

static void set_up_lines(void)
{
	int n = 0;

	lines = make(0);
	lines.modes.c_lflag &= ~ECHO;
	lines.modes.c_cc[VEOL] = ';';
	lines.modes.c_cc[VEOL2] = '|';
	set_modes(&lines);
	put(lines.master, TYPED, sizeof(TYPED) - 1);
	for (size_t i = 0; i < sizeof(line) / sizeof(*line); i++)
		n += strlen(line[i]);
	await_input(lines.slave, n);
	put(lines.master, "unfini\x16\x11x", 9);
}

/* As a shell leaves it: typed ahead with echo, which nobody has read. */
static void set_up_job(void)
{
	job = make(0);
	put(job.slave, "job\n", 4);
	put(job.master, "ls -l\rwho", 9);
	await_input(job.slave, 6);
	await_input(job.master, 15);
}

static void set_up_output(void)
{
	packet = make(0);
	MUST(ioctl(packet.master, TIOCPKT, &(int){1}));
	put(packet.slave, "in a packet", 11);
	full = make(O_NONBLOCK);
	full.modes.c_oflag &= ~OPOST;
	set_modes(&full);
	subject_pattern(output, NOUTPUT, 3);
	put(full.slave, output, NOUTPUT);
}

/* Typed as bytes, newlines among them, and read as one line when the modes change; or as bytes again. */
static struct pair make_prompt(void)
{
	struct pair p = make(0);

	p.modes.c_lflag &= ~(ICANON | ECHO);
	set_modes(&p);
	put(p.master, "one\ntwo\n ", 9);
	await_input(p.slave, 9);
	p.modes.c_lflag |= ICANON;
	set_modes(&p);
	put(p.master, "three\nf\x04i", 9);
	await_input(p.slave, 16);
	return p;
}

static void set_up_prompts(void)
{
	prompt = make_prompt();
	pasted = make_prompt();
}

static void check_modes(const struct pair *p, int packet_mode)
{
	struct termios2 now;
	int on = -1;

	MUST(ioctl(p->slave, TCGETS2, &now));
	CHECK(memcmp(&now, &p->modes, sizeof(now)) == 0);
	MUST(ioctl(p->master, TIOCGPKT, &on));
	CHECK_EQ(on, packet_mode);
}

static void check_read(int fd, const char *expected, size_t len)
{
	static char buf[16384];
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	ssize_t n;

	CHECK_EQ(poll(&pfd, 1, 5000), 1);
	n = read(fd, buf, sizeof(buf));
	CHECK(n == (ssize_t)len && memcmp(buf, expected, len) == 0, "%zd bytes '%.*s', not %zu '%s'", n, (int)n, buf,
	      len, expected);
}

static void check_says(int fd, const char *expected)
{
	check_read(fd, expected, strlen(expected));
}

static void check_nothing(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN | POLLPRI};

	CHECK_EQ(poll(&pfd, 1, 0), 0);
}

static void check_input(void)
{
	check_modes(&bytes, 0);
	CHECK_EQ(fcntl(bytes.master, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
	check_read(bytes.slave, (char *)sent, NBYTES);
	check_nothing(bytes.slave);
	check_modes(&lines, 0);
	CHECK_EQ(fcntl(lines.master, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
	for (size_t i = 0; i < sizeof(line) / sizeof(*line); i++)
		check_says(lines.slave, line[i]);
	check_nothing(lines.slave);
	put(lines.master, "\177shed\n", 6);
	check_says(lines.slave, "unfini\x11shed\n");
	check_nothing(lines.master);
	check_modes(&prompt, 0);
	check_says(prompt.slave, "one\ntwo\n ");
	check_says(prompt.slave, "three\n");
	check_says(prompt.slave, "f");
	check_nothing(prompt.slave);
	pasted.modes.c_lflag &= ~ICANON;
	set_modes(&pasted);
	check_read(pasted.slave, "one\ntwo\n three\nf\0i", 18);
}

static void check_job(void)
{
	check_modes(&job, 0);
	check_says(job.master, "job\r\nls -l\r\nwho");
	check_says(job.slave, "ls -l\n");
	check_nothing(job.slave);
	put(job.master, "\r", 1);
	check_says(job.slave, "who\n");
}

static void check_output(void)
{
	size_t n = 0;
	ssize_t r;

	check_modes(&packet, 1);
	check_read(packet.master, "\0in a packet", 12);
	check_nothing(packet.master);
	check_modes(&full, 0);
	while (n < NOUTPUT) {
		static uint8_t got[NOUTPUT];

		r = MUST(read(full.master, got, NOUTPUT - n));
		CHECK(memcmp(got, output + n, r) == 0, "from byte %zu", n);
		n += r;
	}
	check_nothing(full.master);
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	set_up_bytes();
	set_up_lines();
	set_up_job();
	set_up_output();
	set_up_prompts();
	subject_ready();
	subject_wait();
	check_input();
	check_job();
	check_output();
	subject_pass();
}
