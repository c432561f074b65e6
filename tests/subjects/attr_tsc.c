/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A thread that may not read the time stamp counter (PR_SET_TSC). */
#include "subject.h"

static void *thread(void *arg)
{
	int mode = 0;

	MUST(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
	subject_ready();
	while (!subject_is_go())
		syscall(SYS_poll, NULL, 0, 5); /* not by the vdso */
	MUST(prctl(PR_GET_TSC, &mode));
	CHECK_EQ(mode, PR_TSC_SIGSEGV);
	MUST(prctl(PR_SET_TSC, PR_TSC_ENABLE));
	return NULL;
}

int main(int argc, char **argv)
{
	int mode = 0;

	subject_init(argc, argv);
	subject_join_thread(subject_thread(thread, NULL));
	MUST(prctl(PR_GET_TSC, &mode));
	CHECK_EQ(mode, PR_TSC_ENABLE);
	subject_pass();
}
