/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Protection keys: the PKRU register of two threads, where the CPU has it. */
#include "subject.h"

static int key;

static void *thread(void *arg)
{
	MUST(pkey_set(key, PKEY_DISABLE_WRITE));
	subject_wait();
	CHECK_EQ(pkey_get(key), PKEY_DISABLE_WRITE);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	subject_init(argc, argv);
	key = pkey_alloc(0, PKEY_DISABLE_ACCESS);
	if (key < 0)
		subject_skip("no protection keys: %s", strerror(errno));
	t = subject_thread(thread, NULL);
	subject_sleep_ms(10);
	subject_ready();
	subject_wait();
	CHECK_EQ(pkey_get(key), PKEY_DISABLE_ACCESS);
	subject_join_thread(t);
	subject_pass();
}
