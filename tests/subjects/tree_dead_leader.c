/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Groups and sessions whose leader has ended: a pipeline whose first member is gone (reaped, or a
 * zombie), and a session that lives on without its leader.
 */
#include "subject.h"

static pid_t group;

static int first_member(void *arg)
{
	MUST(setpgid(0, 0));
	subject_child_ready();
	pause();
	return 1;
}

static int second_member(void *arg)
{
	MUST(setpgid(0, group));
	subject_child_ready();
	subject_wait();
	CHECK_EQ(getpgrp(), group);
	return 0;
}

static void make_pipeline(pid_t *ret_group, pid_t *ret_member, bool reap)
{
	int status;

	*ret_group = group = subject_fork(first_member, NULL);
	*ret_member = subject_fork(second_member, NULL);
	kill(group, SIGKILL);
	if (reap)
		MUST(waitpid(group, &status, 0));
	else
		subject_await_state(group, group, 'Z');
}

static int session_member(void *arg)
{
	pid_t sid = getsid(0);

	while (getppid() == sid)
		subject_sleep_ms(1);
	MUST(open(subject_path("orphaned"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	subject_wait();
	CHECK_EQ(getsid(0), sid);
	CHECK_EQ(getpgrp(), sid);
	return 0;
}

static int session_leader(void *arg)
{
	MUST(setsid());
	if (MUST(fork()) == 0)
		_exit(session_member(NULL));
	subject_child_ready();
	return 0;
}

int main(int argc, char **argv)
{
	pid_t dead, member, zombie, member2;
	int status;

	subject_init(argc, argv);
	MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
	make_pipeline(&dead, &member, true);
	make_pipeline(&zombie, &member2, false);
	subject_join(subject_fork(session_leader, NULL));
	while (access(subject_path("orphaned"), F_OK))
		subject_sleep_ms(1);
	subject_ready();
	subject_wait();
	subject_join(member);
	subject_join(member2);
	CHECK_EQ(waitpid(zombie, &status, 0), zombie);
	CHECK_EQ(status, SIGKILL);
	CHECK_EQ(waitpid(-1, &status, 0) > 0, 1); /* the orphan of the dead session */
	CHECK_EQ(status, 0);
	subject_pass();
}
