/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Orphans: a subreaper below the root adopts a grandchild; the attribute itself is kept. */
#include "subject.h"

static int orphan(void *arg)
{
	pid_t parent = (long)arg;

	while (getppid() != parent)
		subject_sleep_ms(1);
	MUST(open(subject_path("orphaned"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	subject_wait();
	CHECK_EQ(getppid(), parent);
	return 7;
}

static int passes_away(void *arg)
{
	if (MUST(fork()) == 0)
		_exit(orphan(arg));
	subject_child_ready();
	return 0;
}

/* After the restore: orphans go on coming here. */
static void check_is_subreaper(void)
{
	int status, is_set = 0;

	MUST(prctl(PR_GET_CHILD_SUBREAPER, &is_set));
	CHECK_EQ(is_set, 1);
	subject_join(subject_fork(passes_away, (void *)(long)getpid()));
	CHECK_EQ(wait(&status) > 0, 1);
	CHECK_EQ(WEXITSTATUS(status), 7);
}

static int subreaper(void *arg)
{
	int status;

	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	subject_join(subject_fork(passes_away, (void *)(long)getpid()));
	while (access(subject_path("orphaned"), F_OK))
		subject_sleep_ms(1);
	subject_child_ready();
	subject_wait();
	CHECK_EQ(wait(&status) > 0, 1);
	CHECK_EQ(WEXITSTATUS(status), 7);
	check_is_subreaper();
	return 0;
}

int main(int argc, char **argv)
{
	pid_t child;
	int is_set = 1;

	subject_init(argc, argv);
	child = subject_fork(subreaper, NULL);
	subject_ready();
	subject_wait();
	MUST(prctl(PR_GET_CHILD_SUBREAPER, &is_set));
	CHECK_EQ(is_set, 0);
	subject_join(child);
	subject_pass();
}
