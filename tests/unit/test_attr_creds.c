/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* src/res/creds.c: every kind of credentials that root can have and give, per thread. */
#include "attr_case.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/fsuid.h>

enum { USER = 12345, OTHER = 23456 };

static int require_root(void **state)
{
	return geteuid() == 0 ? 0 : -1;
}

static void must(long r)
{
	if (r < 0)
		_exit(90);
}

static void get_caps(struct __user_cap_data_struct data[2])
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};

	must(syscall(SYS_capget, &head, data));
}

static void set_caps(uint64_t inheritable, uint64_t permitted, uint64_t effective)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{effective, permitted, inheritable},
		{effective >> 32, permitted >> 32, inheritable >> 32},
	};

	must(syscall(SYS_capset, &head, data));
}

static void be_user(struct subject *s)
{
	gid_t groups[] = {100, 7, 4711};

	must(syscall(SYS_setgroups, 3, groups));
	must(syscall(SYS_setresgid, OTHER, OTHER, OTHER));
	must(syscall(SYS_setresuid, USER, USER, USER));
}

static void be_setuid(struct subject *s)
{
	must(syscall(SYS_setgroups, 0, NULL));
	must(syscall(SYS_setresgid, 5, 6, 7));
	must(syscall(SYS_setresuid, USER, OTHER, 0));
}

static void be_fsuid(struct subject *s)
{
	setfsgid(77);
	setfsuid(78);
}

static void be_fsuid_of_user(struct subject *s)
{
	must(syscall(SYS_setresgid, 1, 2, 3));
	setfsgid(99);
	prctl(PR_SET_KEEPCAPS, 1);
	must(syscall(SYS_setresuid, USER, USER, USER));
	set_caps(0, cap_bit(CAP_SETUID), cap_bit(CAP_SETUID));
	setfsuid(OTHER);
	set_caps(0, 0, 0);
}

static void be_capable_user(struct subject *s)
{
	prctl(PR_SET_KEEPCAPS, 1);
	must(syscall(SYS_setresuid, USER, USER, USER));
	prctl(PR_SET_KEEPCAPS, 0);
	set_caps(cap_bit(CAP_NET_RAW) | cap_bit(CAP_KILL),
		 cap_bit(CAP_NET_RAW) | cap_bit(CAP_CHOWN), cap_bit(CAP_NET_RAW));
}

static void be_ambient(struct subject *s)
{
	be_capable_user(s);
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0));
}

static void be_bounded(struct subject *s)
{
	struct __user_cap_data_struct data[2];

	get_caps(data);
	set_caps(cap_bit(CAP_SYS_BOOT) | cap_bit(CAP_CHOWN), data[0].permitted, data[0].effective);
	must(prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0));
	must(prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0));
}

static void be_secure(struct subject *s)
{
	must(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP,
		   0, 0, 0));
	must(syscall(SYS_setresuid, USER, USER, USER));
}

static void be_keepcaps(struct subject *s)
{
	prctl(PR_SET_KEEPCAPS, 1);
}

static void be_locked_down(struct subject *s)
{
	be_ambient(s);
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void be_no_ambient_raise(struct subject *s)
{
	prctl(PR_SET_KEEPCAPS, 1);
	must(syscall(SYS_setresuid, USER, USER, USER));
	set_caps(cap_bit(CAP_KILL), cap_bit(CAP_KILL) | cap_bit(CAP_SETPCAP), cap_bit(CAP_SETPCAP));
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_KILL, 0, 0));
	must(prctl(PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_KEEP_CAPS, 0, 0, 0));
	set_caps(cap_bit(CAP_KILL), cap_bit(CAP_KILL), 0);
}

static void be_powerless_root(struct subject *s)
{
	set_caps(0, 0, 0);
}

static void test_all(void **state)
{
	void (*const setup[])(struct subject *) = {
		NULL,
		be_user,
		be_setuid,
		be_fsuid,
		be_fsuid_of_user,
		be_capable_user,
		be_ambient,
		be_bounded,
		be_secure,
		be_keepcaps,
		be_locked_down,
		be_no_ambient_raise,
		be_powerless_root,
	};

	for (size_t i = 0; i < ARRAY_SIZE(setup); i++)
		round_trip(setup[i]);
}

/* The system calls change the calling thread alone. */
static void differ(struct subject *s)
{
	must(syscall(SYS_setresuid, USER, USER, USER));
}

static void test_threads(void **state)
{
	round_trip_threads(differ, 3);
}

/* ---- refusals ---- */

static void want_bounding(Cpx__Task *task, struct restored *r)
{
	const struct attr_self *own;

	assert_int_equal(attr_self_get(&r->ctx, &own, NULL), 0);
	r->ctx.self->bounding &= ~cap_bit(CAP_SYS_BOOT);
}

static void test_bounding(void **state)
{
	assert_restore_refuses(want_bounding, "capability bounding set",
			       "cap_sys_boot is not in the bounding set");
}

static void be_plain(struct restored *r)
{
	struct attr_self *own = r->ctx.self;

	own->permitted = own->effective = 0;
	for (int i = 0; i < 4; i++)
		own->uid[i] = own->gid[i] = USER;
}

static void want_root(Cpx__Task *task, struct restored *r)
{
	be_plain(r);
}

static void test_unprivileged(void **state)
{
	assert_restore_refuses(want_root, "user", "uid 0 is not ours (12345)");
	assert_restore_refuses(want_root, "group", "gid 0 is not ours");
	assert_restore_refuses(want_root, "capabilities", "cap_chown");
}

static void want_groups(Cpx__Task *task, struct restored *r)
{
	be_plain(r);
	free(task->thread[0]->creds->groups);
	task->thread[0]->creds->groups = calloc(1, 4);
	task->thread[0]->creds->groups[0] = 4;
	task->thread[0]->creds->n_groups = 1;
}

static void test_groups(void **state)
{
	assert_restore_refuses(want_groups, "supplementary groups", "not ours");
}

static void want_other_in_ns(Cpx__Task *task, struct restored *r)
{
	attrs_restore_release(&r->ctx);
	r->ctx.in_user_ns = true;
	task->thread[0]->creds->uid = OTHER;
	task->thread[0]->creds->groups = realloc(task->thread[0]->creds->groups, 4);
	task->thread[0]->creds->groups[0] = 815;
	task->thread[0]->creds->n_groups = 1;
}

static void test_user_ns_refusals(void **state)
{
	assert_restore_refuses(want_other_in_ns, "user",
			       "uid 23456 does not exist in the user namespace");
	assert_restore_refuses(want_other_in_ns, "supplementary groups", "not in group 815");
}

static void own_nnp(Cpx__Task *task, struct restored *r)
{
	r->ctx.self->no_new_privs = true;
}

static void own_locked(Cpx__Task *task, struct restored *r)
{
	r->ctx.self->securebits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
}

static void test_one_way(void **state)
{
	assert_restore_refuses(own_nnp, "no_new_privs", "cannot lose it");
	assert_restore_refuses(own_locked, "securebits", "locked");
}

/* ---- an ordinary user in a fresh user namespace ---- */

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	must(fd);
	must(write(fd, text, strlen(text)));
	close(fd);
}

static void enter_user_ns(struct subject *s)
{
	char map[64];

	must(syscall(SYS_setresgid, USER, USER, USER));
	must(syscall(SYS_setresuid, USER, USER, USER));
	must(prctl(PR_SET_DUMPABLE, 1));
	must(unshare(CLONE_NEWUSER));
	write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%d %d 1", USER, USER);
	write_file("/proc/self/uid_map", map);
	write_file("/proc/self/gid_map", map);
}

static void be_plain_user(struct subject *s)
{
	must(syscall(SYS_setgroups, 0, NULL));
	must(syscall(SYS_setresgid, USER, USER, USER));
	must(syscall(SYS_setresuid, USER, USER, USER));
}

/* give() must see what the coordinator in the namespace sees. */
static void in_namespace(struct restored *r)
{
	const struct attr_self *own;

	r->ctx.in_user_ns = true;
	assert_int_equal(attr_self_get(&r->ctx, &own, NULL), 0);
	for (int i = 0; i < 4; i++)
		r->ctx.self->uid[i] = r->ctx.self->gid[i] = USER;
}

static void test_user_ns(void **state)
{
	struct subject from = subject_start(be_plain_user), to = subject_start(enter_user_ns);
	struct dumped before, after;
	struct restored r;

	dump(&from, &before);
	adopt(&to, before.task);
	restore_begin(&r);
	in_namespace(&r);
	assert_int_equal(creds_attr_ops.check(&r.ctx, before.task, before.task->thread[0], NULL),
			 0);
	assert_int_equal(r.refusals.n, 0);
	{
		struct batch b = subject_batch(&to, 0);
		uint64_t scratch[16] = {0};
		struct err err = ERR_INIT;

		assert_int_equal(creds_attr_ops.give(&r.ctx, GIVE_CREDS, before.task,
						     before.task->thread[0], &b, scratch, &err),
				 0);
		subject_run(&to, 0, &b);
		check_ok(creds_attr_ops.given(&r.ctx, GIVE_CREDS, before.task,
					      before.task->thread[0], &b, scratch, &err),
			 &creds_attr_ops, &err);
	}
	dump(&to, &after);
	after.task->thread[0]->creds->n_groups = 0;
	before.task->thread[0]->creds->n_groups = 0;
	assert_same_message(before.task->thread[0]->creds, after.task->thread[0]->creds,
			    "credentials");
	subject_end(&from);
	subject_end(&to);
	dumped_release(&before);
	dumped_release(&after);
	restored_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all),	 cmocka_unit_test(test_threads),
		cmocka_unit_test(test_bounding), cmocka_unit_test(test_unprivileged),
		cmocka_unit_test(test_groups),	 cmocka_unit_test(test_user_ns_refusals),
		cmocka_unit_test(test_one_way),	 cmocka_unit_test(test_user_ns),
	};

	if (require_root(NULL) < 0)
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
