/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The smallest subject: a word in memory. The harness also runs it with a cpx that lies. */
#include "subject.h"

int main(int argc, char **argv)
{
	char word[32];
	int fd;

	subject_init(argc, argv);
	snprintf(word, sizeof(word), "%lld", (long long)subject_now_ms());
	fd = MUST(open(subject_path("word"), O_CREAT | O_EXCL | O_WRONLY, 0600));
	MUST(write(fd, word, sizeof(word)));
	close(fd);
	subject_ready();
	subject_wait();
	{
		char same[32];

		fd = MUST(open(subject_path("word"), O_RDONLY));
		CHECK_EQ(read(fd, same, sizeof(same)), sizeof(same));
		CHECK(memcmp(word, same, sizeof(word)) == 0, "another process than the one dumped");
	}
	subject_pass();
}
