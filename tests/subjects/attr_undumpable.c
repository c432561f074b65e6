/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A process that forbids core dumps and ptrace by its own user (dumpable is 0). */
#include "subject.h"

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	MUST(prctl(PR_SET_DUMPABLE, 0));
	subject_ready();
	subject_wait();
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
	subject_pass();
}
