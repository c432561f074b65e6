/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A changed root directory, with the working directory inside. */
#include "subject.h"

int main(int argc, char **argv)
{
	char cwd[256];

	subject_init(argc, argv);
	MUST(mkdir(subject_path("inside"), 0755));
	MUST(chroot(argv[1]));
	MUST(chdir("/inside"));
	subject_chrooted();
	subject_ready();
	subject_wait();
	CHECK_EQ(access("/etc/passwd", F_OK), -1);
	CHECK(getcwd(cwd, sizeof(cwd)) && strcmp(cwd, "/inside") == 0, "%s", cwd);
	subject_pass();
}
