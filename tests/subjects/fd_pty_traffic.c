/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Numbered lines are typed into a pseudo-terminal and answered, both sides always behind, in another session; every one is
 * read once, in order, and as one line. Dumped wherever they are. */
#include "subject.h"

#include <asm/termbits.h>
#include <poll.h>
#include <sys/ioctl.h>

#define AHEAD	40 /* lines typed, and not yet answered */
#define NUMBERS 100000

static int master, slave;

/* Ended by a newline, an end of file, or with a newline inside. *typed: by which keys. */
static size_t line(unsigned i, char *text, char *typed, size_t size)
{
	i %= NUMBERS;
	if (i % 5 == 1)
		sprintf(typed, "%05u half\x04", i);
	else if (i % 5 == 3)
		sprintf(typed, "%05u\x16\n more\n", i);
	else
		sprintf(typed, "%05u a line\r", i);
	if (i % 5 == 1)
		return snprintf(text, size, "%05u half", i);
	return snprintf(text, size, i % 5 == 3 ? "%05u\n more\n" : "%05u a line\n", i);
}

static int reader(void *arg)
{
	char text[64], typed[64], buf[64];

	MUST(close(master));
	MUST(setsid());
	MUST(ioctl(slave, TIOCSCTTY, 0));
	subject_child_ready();
	for (unsigned i = 0;; i++) {
		size_t len = line(i, text, typed, sizeof(text));
		ssize_t n = MUST(read(slave, buf, sizeof(buf)));

		if (n == 4 && !memcmp(buf, "end\n", 4))
			return 0;
		CHECK(n == (ssize_t)len && !memcmp(buf, text, len), "line %u: %zd bytes '%.*s'", i, n, (int)n, buf);
		snprintf(text, sizeof(text), "<%05u>", i % NUMBERS);
		CHECK_EQ(write(slave, text, 7), 7);
		if (i % 16 == 0)
			subject_sleep_ms(1);
	}
}

/* Answers, as many bytes as there are. */
static unsigned read_answers(unsigned answered)
{
	char buf[70], expected[8];
	ssize_t n = MUST(read(master, buf, 7 * (1 + answered % 10)));
	bool is_whole = n % 7 == 0;

	CHECK(is_whole, "%zd bytes '%.*s'", n, (int)n, buf);
	for (ssize_t at = 0; at < n; at += 7) {
		snprintf(expected, sizeof(expected), "<%05u>", answered++ % NUMBERS);
		CHECK(!memcmp(buf + at, expected, 7), "'%.7s', not %s", buf + at, expected);
	}
	return answered;
}

static unsigned type_lines(void)
{
	char text[64], typed[64];
	unsigned next = 0, answered = 0;

	while (!subject_is_go() || answered < next) {
		while (next < answered + AHEAD && !subject_is_go()) {
			line(next++, text, typed, sizeof(text));
			CHECK_EQ(write(master, typed, strlen(typed)), strlen(typed));
		}
		if (answered < next)
			answered = read_answers(answered);
	}
	return answered;
}

int main(int argc, char **argv)
{
	struct termios2 modes;
	pid_t pid;

	subject_init(argc, argv);
	master = MUST(open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC));
	MUST(ioctl(master, TIOCSPTLCK, &(int){0}));
	slave = MUST(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY));
	MUST(ioctl(slave, TCGETS2, &modes));
	modes.c_lflag &= ~ECHO;
	MUST(ioctl(slave, TCSETS2, &modes));
	pid = subject_fork(reader, NULL);
	subject_ready();
	CHECK(type_lines() > 0, "no line was answered");
	CHECK_EQ(write(master, "end\n", 4), 4);
	subject_join(pid);
	subject_pass();
}
