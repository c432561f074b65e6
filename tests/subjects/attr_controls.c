/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* prctl(2) controls of memory (a child's: no way back from some) and of threads; personalities that differ. */
#include "subject.h"

#include <sys/personality.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#define NOT_FOR_CHILDREN 2
#define GET_CPUID 0x1011
#define SET_CPUID 0x1012

static bool can_fault, can_merge, can_deny;

static bool has_flag(const void *addr, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	bool is_there = false, ret = false;
	unsigned long start, end;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_there = start <= (unsigned long)addr && (unsigned long)addr < end;
		if (is_there && !strncmp(line, "VmFlags:", 8))
			ret = strstr(line, flag);
	}
	fclose(f);
	return ret;
}

static int denied(void *arg)
{
	char *p = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(prctl(PR_SET_MDWE, 1, 0, 0, 0));
	subject_child_ready();
	subject_wait();
	CHECK_EQ(prctl(PR_GET_MDWE, 0, 0, 0, 0), 1);
	CHECK(mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	CHECK_EQ(errno, EACCES);
	CHECK(mprotect(p, 4096, PROT_READ) == 0 && mprotect(p, 4096, PROT_READ | PROT_EXEC) < 0);
	return 0;
}

static int denied_alone(void *arg)
{
	MUST(prctl(PR_SET_MDWE, 1 | NOT_FOR_CHILDREN, 0, 0, 0));
	subject_child_ready();
	subject_wait();
	CHECK_EQ(prctl(PR_GET_MDWE, 0, 0, 0, 0), 1 | NOT_FOR_CHILDREN);
	return 0;
}

static int merging(void *arg)
{
	char *merged = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *apart = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0));
	MUST(madvise(apart, 4096, MADV_UNMERGEABLE));
	subject_child_ready();
	subject_wait();
	CHECK_EQ(prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0), 1);
	CHECK(has_flag(merged, " mg"));
	CHECK(!has_flag(apart, " mg"));
	CHECK(has_flag(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), " mg"));
	return 0;
}

static void *thread(void *arg)
{
	MUST(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_LATE, 0, 0));
	MUST(personality(ADDR_NO_RANDOMIZE | SHORT_INODE));
	if (can_fault)
		MUST(syscall(SYS_arch_prctl, SET_CPUID, 0));
	subject_wait();
	CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_LATE);
	CHECK_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE | SHORT_INODE);
	if (can_fault)
		CHECK_EQ(syscall(SYS_arch_prctl, GET_CPUID), 0);
	return NULL;
}

int main(int argc, char **argv)
{
	int (*const child[])(void *) = {denied, denied_alone, merging};
	int bypass, branch, before;
	pid_t pid[3] = {0};
	pthread_t t;

	subject_init(argc, argv);
	can_fault = syscall(SYS_arch_prctl, SET_CPUID, 1) == 0;
	can_deny = prctl(PR_GET_MDWE, 0, 0, 0, 0) >= 0;
	can_merge = prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) >= 0;
	for (int i = 0; i < 3; i++)
		if (i < 2 ? can_deny : can_merge)
			pid[i] = subject_fork(child[i], NULL);
	before = personality(0xffffffff);
	MUST(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
	t = subject_thread(thread, NULL);
	/* Where the machine leaves a choice. */
	prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0);
	bypass = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0);
	branch = prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 0, 0, 0);
	subject_sleep_ms(10);
	subject_ready();
	subject_wait();
	CHECK_EQ(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0), PR_MCE_KILL_EARLY);
	CHECK_EQ(personality(0xffffffff), before);
	CHECK_EQ(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0), bypass);
	CHECK_EQ(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 0, 0, 0), branch);
	if (can_fault)
		CHECK_EQ(syscall(SYS_arch_prctl, GET_CPUID), 1);
	subject_join_thread(t);
	for (int i = 0; i < 3; i++)
		if (pid[i])
			subject_join(pid[i]);
	subject_pass();
}
