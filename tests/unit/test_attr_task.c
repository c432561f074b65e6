/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* src/res/{fs,prctl,sched,rlimits,threadmem}.c */
#include "attr_case.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

static char folder[64];

static int make_folder(void **state)
{
	snprintf(folder, sizeof(folder), "/tmp/cpx-attr-XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	rmdir(folder);
	return 0;
}

static void require_root(void)
{
	if (geteuid())
		skip();
}

/* ---- fs ---- */

static void enter_folder(struct subject *s)
{
	umask(0135);
	if (chdir(folder) < 0)
		_exit(97);
}

static void enter_root(struct subject *s)
{
	enter_folder(s);
	if (chroot("/usr") < 0)
		_exit(97);
}

static void enter_deleted(struct subject *s)
{
	enter_folder(s);
	rmdir(folder);
}

static void test_fs(void **state)
{
	round_trip(enter_folder);
}

static void test_chroot(void **state)
{
	require_root();
	round_trip(enter_root);
}

static void test_deleted_cwd(void **state)
{
	struct subject s = subject_start(enter_deleted);
	struct dumped d;

	dump(&s, &d);
	assert_int_equal(d.refusals.n, 0);
	assert_non_null(d.task->fs->deleted_cwd);
	assert_null(d.task->fs->deleted_root);
	assert_int_equal(d.task->fs->cwd.len, strlen(folder));
	assert_memory_equal(d.task->fs->cwd.data, folder, strlen(folder));
	subject_end(&s);
	dumped_release(&d);
	assert_int_equal(mkdir(folder, 0700), 0);
}

static void lose_cwd(Cpx__Task *task, struct restored *r)
{
	msg_set_bytes(&task->fs->cwd, "/nowhere/at/all", 15);
}

static void test_missing_cwd(void **state)
{
	assert_restore_refuses(lose_cwd, "working directory '/nowhere/at/all'", "No such file");
}

/* ---- prctl ---- */

static void write_self(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		_exit(96);
	close(fd);
}

static void set_flags(struct subject *s)
{
	prctl(PR_SET_PDEATHSIG, SIGUSR2);
	prctl(PR_SET_TIMERSLACK, 123456);
	prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	personality(ADDR_NO_RANDOMIZE | READ_IMPLIES_EXEC);
	write_self("/proc/self/oom_score_adj", "321");
	write_self("/proc/self/coredump_filter", "0x11");
}

static void test_flags(void **state)
{
	round_trip(set_flags);
}

static void set_undumpable(struct subject *s)
{
	prctl(PR_SET_DUMPABLE, 0);
}

static void test_undumpable(void **state)
{
	require_root();
	round_trip(set_undumpable);
}

static void test_flags_plain(void **state)
{
	round_trip_threads(NULL, 3);
}

static void set_mdwe(struct subject *s)
{
	prctl(PR_SET_MDWE, 1, 0, 0, 0);
}

static void test_mdwe(void **state)
{
	if (prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0)
		skip();
	round_trip(set_mdwe);
}

static void set_mce_kill(struct subject *s)
{
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0);
}

static void test_mce_kill(void **state)
{
	round_trip(set_mce_kill);
}

static void restrict_bypass(Cpx__Task *task, struct restored *r)
{
	task->thread[0]->flags->speculation = PR_SPEC_DISABLE;
}

static void test_speculation(void **state)
{
	int own = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);

	if (own != PR_SPEC_ENABLE) /* it could be told, or there is nothing to fear */
		skip();
	assert_restore_refuses(restrict_bypass, "speculation control", "machine");
}

static void flush_io(Cpx__Task *task, struct restored *r)
{
	task->thread[0]->flags->io_flusher = true;
}

static void test_io_flusher(void **state)
{
	const struct attr_self *own;
	struct restored r;
	bool can;

	restore_begin(&r);
	assert_int_equal(attr_self_get(&r.ctx, &own, NULL), 0);
	can = attr_can_globally(&r.ctx, CAP_SYS_RESOURCE);
	restored_release(&r);
	if (can)
		skip();
	assert_restore_refuses(flush_io, "PR_SET_IO_FLUSHER", "cap_sys_resource");
}

static void lower_oom(Cpx__Task *task, struct restored *r)
{
	task->flags->oom_score_adj = -900;
}

static void test_oom_lowered(void **state)
{
	const struct attr_self *own;
	struct restored r;
	bool can;

	restore_begin(&r);
	assert_int_equal(attr_self_get(&r.ctx, &own, NULL), 0);
	can = attr_can_globally(&r.ctx, CAP_SYS_RESOURCE);
	restored_release(&r);
	if (can)
		skip();
	assert_restore_refuses(lower_oom, "oom_score_adj", "cap_sys_resource");
}

/* ---- sched ---- */

static void set_nice(struct subject *s)
{
	cpu_set_t cpus;

	setpriority(PRIO_PROCESS, 0, 7);
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6);
}

static void set_batch_policy(struct subject *s)
{
	sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
	sched_setscheduler(s->lane[1].tid, SCHED_IDLE, &(struct sched_param){0});
	setpriority(PRIO_PROCESS, s->lane[1].tid, 11);
}

static void set_realtime(struct subject *s)
{
	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK,
			       &(struct sched_param){.sched_priority = 3}) < 0)
		_exit(94);
	setpriority(PRIO_PROCESS, 0, 4);
	syscall(SYS_ioprio_set, 1, 0, 1 << 13 | 3);
}

static void set_deadline(struct subject *s)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = 48,
		  .policy = 6,
		  .runtime = 5000000,
		  .deadline = 20000000,
		  .period = 30000000};

	if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
		_exit(93);
}

static void set_slice(struct subject *s)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = {.size = 48, .runtime = 7000000};

	if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
		_exit(93);
}

static void test_nice(void **state)
{
	round_trip(set_nice);
}

static void test_policies(void **state)
{
	round_trip_threads(set_batch_policy, 2);
}

static void test_realtime(void **state)
{
	require_root();
	round_trip(set_realtime);
	round_trip(set_deadline);
}

static void test_slice(void **state)
{
	round_trip(set_slice);
}

static void bind_elsewhere(Cpx__Task *task, struct restored *r)
{
	uint8_t mask[128] = {0};

	mask[127] = 0x80;
	msg_set_bytes(&task->thread[0]->sched->affinity, mask, sizeof(mask));
}

static void test_lost_cpus(void **state)
{
	assert_restore_refuses(bind_elsewhere, "scheduling of thread", "none of the CPUs");
}

static void want_realtime(Cpx__Task *task, struct restored *r)
{
	r->ctx.in_user_ns = true; /* capabilities of a user namespace do not count */
	restored_release(r);
	r->ctx.refusals = &r->refusals;
	r->ctx.proc_fd = open("/proc", O_PATH);
	task->thread[0]->sched->policy = SCHED_FIFO;
	task->thread[0]->sched->priority = 5;
}

static void test_realtime_denied(void **state)
{
	assert_restore_refuses(want_realtime, "scheduling of thread", "cap_sys_nice");
}

/* ---- rlimits ---- */

static void set_limits(struct subject *s)
{
	struct rlimit l;

	for (int i = 0; i < RLIM_NLIMITS; i++) {
		getrlimit(i, &l);
		l.rlim_cur = i == RLIMIT_NOFILE ? 3 : MIN(l.rlim_cur, 1000000UL + i);
		setrlimit(i, &l);
	}
	setrlimit(RLIMIT_CORE, &(struct rlimit){1, 2});
	setrlimit(RLIMIT_SIGPENDING, &(struct rlimit){0, 7});
}

static void test_limits(void **state)
{
	round_trip(set_limits);
}

static void raise_limit(Cpx__Task *task, struct restored *r)
{
	struct rlimit own;

	getrlimit(RLIMIT_NOFILE, &own);
	for (size_t i = 0; i < task->n_rlimit; i++)
		if (task->rlimit[i]->resource == RLIMIT_NOFILE)
			task->rlimit[i]->hard = own.rlim_max + 1;
	r->ctx.in_user_ns = true;
	attrs_restore_release(&r->ctx);
}

static void test_limit_denied(void **state)
{
	assert_restore_refuses(raise_limit, "RLIMIT_NOFILE", "hard limit");
}

/* ---- threadmem ---- */

static uint64_t robust[3], clear_tid;

static void set_memory(struct subject *s)
{
	robust[0] = (uintptr_t)robust;
	syscall(SYS_set_robust_list, robust, 24);
	syscall(SYS_set_tid_address, &clear_tid);
}

static void test_threadmem(void **state)
{
	round_trip_threads(set_memory, 2);
}

static void test_rseq_is_seen(void **state)
{
	struct subject s = subject_start(NULL);
	struct dumped d;

	dump(&s, &d);
	assert_true(d.task->thread[0]->memory->rseq != 0); /* glibc registers one */
	assert_int_equal(d.task->thread[0]->memory->rseq_signature, 0x53053053);
	subject_end(&s);
	dumped_release(&d);
}

/* ---- an exited leader ---- */

static void leave_leader(struct subject *s)
{
	enter_folder(s);
	futex_set((uint32_t *)&s->lane[0].tid, getpid());
	syscall(SYS_exit, 0);
}

static void test_exited_leader(void **state)
{
	struct subject s = subject_start_threads(leave_leader, 2);
	struct tracee_thread thread[2] = {{.tid = s.pid, .is_exited = true},
					  {.tid = s.lane[1].tid}};
	struct tracee t = {
		.pid = s.pid, .comm = "subject", .thread = thread, .nthreads = 2, .mm_owner = &t};
	struct tracee *list[1] = {&t};
	struct tree tree = {.task = list, .n = 1};
	struct refusals refusals = {0};
	struct dump_ctx c = {
		.tree = &tree, .proc_fd = open("/proc", O_PATH), .refusals = &refusals};
	Cpx__Task *task = MSG_NEW(Cpx__Task, cpx__task__init);
	struct err err = ERR_INIT;

	stop_thread(s.lane[1].tid);
	for (size_t k = 0; attr_registry[k]; k++)
		if (attr_registry[k]->read && !attr_registry[k]->per_thread)
			check_ok(attr_registry[k]->read(&c, &t, NULL, task, NULL, &err),
				 attr_registry[k], &err);
	assert_int_equal(refusals.n, 0);
	assert_int_equal(task->fs->umask, 0135);
	assert_memory_equal(task->fs->cwd.data, folder, strlen(folder));
	assert_int_equal(task->flags->coredump_filter, 0x33);
	assert_int_equal(task->n_rlimit, 16);
	attrs_dump_release(&c);
	cpx__task__free_unpacked(task, NULL);
	close(c.proc_fd);
	assert_int_equal(ptrace(PTRACE_DETACH, s.lane[1].tid, 0, 0), 0);
	subject_end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fs),
		cmocka_unit_test(test_chroot),
		cmocka_unit_test(test_deleted_cwd),
		cmocka_unit_test(test_missing_cwd),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_undumpable),
		cmocka_unit_test(test_flags_plain),
		cmocka_unit_test(test_mdwe),
		cmocka_unit_test(test_mce_kill),
		cmocka_unit_test(test_speculation),
		cmocka_unit_test(test_io_flusher),
		cmocka_unit_test(test_oom_lowered),
		cmocka_unit_test(test_nice),
		cmocka_unit_test(test_policies),
		cmocka_unit_test(test_realtime),
		cmocka_unit_test(test_slice),
		cmocka_unit_test(test_lost_cpus),
		cmocka_unit_test(test_realtime_denied),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_limit_denied),
		cmocka_unit_test(test_threadmem),
		cmocka_unit_test(test_rseq_is_seen),
		cmocka_unit_test(test_exited_leader),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
