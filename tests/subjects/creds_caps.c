/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Capability sets, the bounding and ambient sets, securebits. */
#include "subject.h"

#include <linux/capability.h>
#include <linux/securebits.h>

struct caps {
	struct __user_cap_data_struct set[2];
	unsigned long bounding, ambient;
	int securebits;
};

static struct caps get(void)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct caps c = {0};

	MUST(syscall(SYS_capget, &h, c.set));
	for (int i = 0; i < 41; i++) {
		c.bounding |= (unsigned long)(prctl(PR_CAPBSET_READ, i) == 1) << i;
		c.ambient |= (unsigned long)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1) << i;
	}
	c.securebits = MUST(prctl(PR_GET_SECUREBITS));
	return c;
}

static void limit_self(void)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct caps c = get();

	MUST(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NOROOT));
	MUST(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT));
	MUST(prctl(PR_CAPBSET_DROP, CAP_MKNOD));
	c.set[0].inheritable = 1 << CAP_KILL | 1 << CAP_CHOWN;
	c.set[0].permitted &= ~(1U << CAP_SYS_TIME);
	c.set[0].effective = 1 << CAP_KILL;
	MUST(syscall(SYS_capset, &h, c.set));
	MUST(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
	c.set[0].effective |= 1U << CAP_SETPCAP;
	MUST(syscall(SYS_capset, &h, c.set));
	MUST(prctl(PR_SET_SECUREBITS, SECBIT_KEEP_CAPS | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
					      SECBIT_NOROOT | SECBIT_NO_CAP_AMBIENT_RAISE |
					      SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED));
	c.set[0].effective &= ~(1U << CAP_SETPCAP);
	MUST(syscall(SYS_capset, &h, c.set));
}

static int child(void *arg)
{
	struct caps before, after;

	limit_self();
	before = get();
	subject_child_ready();
	subject_wait();
	after = get();
	CHECK_EQ(after.set[0].effective, before.set[0].effective);
	CHECK_EQ(after.set[0].permitted, before.set[0].permitted);
	CHECK_EQ(after.set[1].permitted, before.set[1].permitted);
	CHECK_EQ(after.set[0].inheritable, before.set[0].inheritable);
	CHECK_EQ(after.bounding, before.bounding);
	CHECK_EQ(after.ambient, before.ambient);
	CHECK_EQ(after.securebits, before.securebits);
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	MUST(chmod(argv[1], 0777));
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	subject_join(pid);
	subject_pass();
}
