/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SysV shared memory: a segment two tasks have attached, and one that is marked for removal. */
#include "subject.h"

#include <sys/ipc.h>
#include <sys/shm.h>

#define SIZE (10 * 4096)
static char *seg;

static int child(void *arg)
{
	subject_child_ready();
	while (seg[0] != 1)
		subject_sleep_ms(1);
	seg[1] = 2;
	return 0;
}

int main(int argc, char **argv)
{
	struct shmid_ds ds;
	int id, removed;
	char *gone, *readonly;
	pid_t pid;

	subject_init(argc, argv);
	id = subject_sysv("shm", MUST(shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0640)));
	removed = MUST(shmget(IPC_PRIVATE, SIZE, IPC_CREAT | 0600));
	seg = MUST(shmat(id, NULL, 0));
	readonly = MUST(shmat(id, NULL, SHM_RDONLY));
	gone = MUST(shmat(removed, NULL, 0));
	MUST(shmctl(removed, IPC_RMID, NULL));
	subject_pattern(seg + 4096, SIZE - 4096, 41);
	subject_pattern(gone, SIZE, 42);
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	CHECK(subject_is_pattern(seg + 4096, SIZE - 4096, 41), "content");
	CHECK(subject_is_pattern(gone, SIZE, 42), "content of the removed one");
	seg[0] = 1;
	subject_join(pid);
	CHECK_EQ(seg[1], 2);
	CHECK_EQ(readonly[1], 2);
	MUST(shmctl(id, IPC_STAT, &ds));
	CHECK_EQ(ds.shm_segsz, SIZE);
	CHECK_EQ(ds.shm_perm.mode & 0777, 0640);
	CHECK_EQ(ds.shm_nattch, 2);
	MUST(shmdt(seg));
	MUST(shmdt(readonly));
	MUST(shmctl(id, IPC_RMID, NULL));
	subject_pass();
}
