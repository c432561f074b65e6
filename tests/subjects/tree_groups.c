/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Process groups and sessions: a session of the root's, groups in it, a child with a session of its own. */
#include "subject.h"

static pid_t pid[6];

static void check_ids(pid_t pgid, pid_t sid)
{
	subject_child_ready();
	subject_wait();
	CHECK_EQ(getpgrp(), pgid);
	CHECK_EQ(getsid(0), sid);
	CHECK_EQ(getpgid(getppid()) > 0, 1);
}

static int leads_group(void *arg)
{
	MUST(setpgid(0, 0));
	check_ids(getpid(), (long)arg);
	return 0;
}

static int joins_group(void *arg)
{
	MUST(setpgid(0, pid[0]));
	check_ids(pid[0], (long)arg);
	return 0;
}

static int member_of_session(void *arg)
{
	check_ids((long)arg, (long)arg);
	return 0;
}

static int leads_session(void *arg)
{
	pid_t child;

	MUST(setsid());
	child = subject_fork(member_of_session, (void *)(long)getpid());
	pid[0] = subject_fork(leads_group, (void *)(long)getpid());
	pid[1] = subject_fork(joins_group, (void *)(long)getpid());
	check_ids(getpid(), getpid());
	subject_join(child);
	subject_join(pid[0]);
	subject_join(pid[1]);
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pgrp, sid, session;
	int status;

	subject_init(argc, argv);
	pgrp = getpgrp();
	sid = getsid(0);
	pid[0] = subject_fork(leads_group, (void *)(long)sid);
	pid[1] = subject_fork(joins_group, (void *)(long)sid);
	session = subject_fork(leads_session, NULL);
	subject_ready();
	subject_wait();
	CHECK_EQ(getpgrp(), pgrp);
	CHECK_EQ(getsid(0), sid);
	CHECK_EQ(getsid(session), session);
	subject_join(session);
	CHECK_EQ(waitpid(-pid[0], &status, 0) > 0, 1); /* by group */
	CHECK_EQ(status, 0);
	CHECK_EQ(waitpid(-pid[0], &status, 0) > 0, 1);
	CHECK_EQ(status, 0);
	subject_pass();
}
