/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* no_new_privs of one thread and not of the other. */
#include "subject.h"

static void *thread(void *arg)
{
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	subject_wait();
	CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	return NULL;
}

int main(int argc, char **argv)
{
	int before;
	pthread_t t;

	subject_init(argc, argv);
	before = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
	t = subject_thread(thread, NULL);
	subject_sleep_ms(10);
	subject_ready();
	subject_wait();
	CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), before);
	subject_join_thread(t);
	subject_pass();
}
