/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Thread and process keyrings without keys: one thread has them, the other has none. */
#include "subject.h"

#include <linux/keyctl.h>

static int bytes_in(int keyring)
{
	return syscall(SYS_keyctl, KEYCTL_READ, keyring, 0, 0) < 0 ? -errno : 0;
}

static void *thread(void *arg)
{
	MUST(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 1));
	MUST(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
	subject_wait();
	CHECK_EQ(bytes_in(KEY_SPEC_THREAD_KEYRING), 0);
	CHECK_EQ(bytes_in(KEY_SPEC_PROCESS_KEYRING), 0);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	subject_init(argc, argv);
	if (bytes_in(KEY_SPEC_THREAD_KEYRING) == -ENOSYS)
		subject_skip("no keyrings here");
	t = subject_thread(thread, NULL);
	subject_sleep_ms(10);
	subject_ready();
	subject_wait();
	CHECK_EQ(bytes_in(KEY_SPEC_THREAD_KEYRING), -ENOKEY);
	CHECK_EQ(bytes_in(KEY_SPEC_PROCESS_KEYRING), -ENOKEY);
	subject_join_thread(t);
	subject_pass();
}
