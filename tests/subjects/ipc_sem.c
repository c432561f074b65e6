/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SysV semaphores: ids, keys, modes, values, last PIDs, who waits, and SEM_UNDO of a process and of threads. */
#include "subject.h"

#include <sys/ipc.h>
#include <sys/sem.h>

enum { VALUES = 5, MANY = 130 };
static int keyed, private, untouched, many;
static key_t key;
static pid_t dead, waiter, holder, threaded;
static int go[2];

static void operate(int id, unsigned short num, short by, short flags)
{
	struct sembuf op = {num, by, flags};

	MUST(semop(id, &op, 1));
}

/* Takes two of number 1 for its lifetime, and gives one of number 2 as long. */
static int hold(void *arg)
{
	char c;

	operate(keyed, 1, -2, SEM_UNDO);
	operate(keyed, 2, 1, SEM_UNDO);
	operate(many, MANY - 1, -300, SEM_UNDO);
	operate(many, 77, -1, SEM_UNDO);
	operate(many, 77, 1, SEM_UNDO);
	subject_child_ready();
	MUST(read(go[0], &c, 1));
	return 0;
}

static void *hold_in_thread(void *arg)
{
	char c;

	operate(keyed, 3, -1, SEM_UNDO);
	subject_child_ready();
	MUST(read(go[0], &c, 1));
	return NULL;
}

static int hold_threaded(void *arg)
{
	subject_join_thread(subject_thread(hold_in_thread, NULL));
	return 0;
}

static int wait_for_it(void *arg)
{
	subject_child_ready();
	operate(keyed, 4, -3, 0);
	return 0;
}

static int set_and_end(void *arg)
{
	MUST(semctl(private, 0, SETVAL, 9));
	subject_child_ready();
	return 0;
}

static int make(key_t k, int n, int mode)
{
	return subject_sysv("sem", MUST(semget(k, n, IPC_CREAT | IPC_EXCL | mode)));
}

static void set_up(void)
{
	unsigned short values[VALUES] = {7, 5, 0, 4, 2}, thousands[MANY];

	for (int i = 0; i < MANY; i++)
		thousands[i] = 1000 + i;
	thousands[0] = 32767;
	thousands[77] = 32767;
	thousands[5] = 0;
	key = 0x43000000 | getpid();
	keyed = make(key, VALUES, 0640);
	private = make(IPC_PRIVATE, 2, 0600);
	untouched = make(IPC_PRIVATE, 1, 0644);
	many = make(IPC_PRIVATE, MANY, 0600);
	MUST(semctl(keyed, 0, SETALL, values));
	MUST(semctl(many, 0, SETALL, thousands));
	operate(many, 5, 0, 0);
	dead = subject_fork(set_and_end, NULL);
	subject_join(dead);
	MUST(pipe(go));
	holder = subject_fork(hold, NULL);
	threaded = subject_fork(hold_threaded, NULL);
	waiter = subject_fork(wait_for_it, NULL);
	subject_await_state(waiter, waiter, 'S');
}

static void check_sem(int id, int num, int value, pid_t pid)
{
	CHECK_EQ(semctl(id, num, GETVAL), value);
	CHECK_EQ(semctl(id, num, GETPID), pid);
}

static void check_sets(void)
{
	struct semid_ds ds;

	CHECK_EQ(MUST(semget(key, VALUES, 0)), keyed);
	MUST(semctl(keyed, 0, IPC_STAT, &ds));
	CHECK_EQ(ds.sem_nsems, VALUES);
	CHECK_EQ(ds.sem_perm.mode & 0777, 0640);
	CHECK_EQ(ds.sem_perm.uid, geteuid());
	CHECK_EQ(ds.sem_perm.cuid, geteuid());
	CHECK_EQ(ds.sem_perm.gid, getegid());
	CHECK(ds.sem_otime != 0, "%s", "it was used");
	check_sem(keyed, 0, 7, getpid());
	check_sem(keyed, 1, 3, holder);
	check_sem(keyed, 2, 1, holder);
	check_sem(keyed, 3, 3, threaded);
	check_sem(keyed, 4, 2, getpid());
	check_sem(private, 0, 9, dead);
	check_sem(private, 1, 0, 0);
	MUST(semctl(private, 0, IPC_STAT, &ds));
	CHECK_EQ(ds.sem_otime, 0);
	check_sem(untouched, 0, 0, 0);
	MUST(semctl(untouched, 0, IPC_STAT, &ds));
	CHECK_EQ(ds.sem_perm.mode & 0777, 0644);
	check_sem(many, 0, 32767, getpid());
	check_sem(many, 5, 0, getpid());
	check_sem(many, 77, 32767, holder);
	check_sem(many, MANY - 1, 1000 + MANY - 1 - 300, holder);
}

/* What SEM_UNDO does, and nothing else. */
static void check_undo(void)
{
	MUST(write(go[1], "xx", 2));
	subject_join(holder);
	subject_join(threaded);
	CHECK_EQ(semctl(keyed, 0, GETVAL), 7);
	CHECK_EQ(semctl(keyed, 1, GETVAL), 5);
	CHECK_EQ(semctl(keyed, 2, GETVAL), 0);
	CHECK_EQ(semctl(keyed, 3, GETVAL), 4);
	for (int i = 1; i < MANY; i++)
		if (i != 5 && i != 77)
			CHECK_EQ(semctl(many, i, GETVAL), 1000 + i);
	CHECK_EQ(semctl(many, 77, GETVAL), 32767);
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	set_up();
	subject_ready();
	subject_wait();
	check_sets();
	subject_await_state(waiter, waiter, 'S');
	CHECK_EQ(semctl(keyed, 4, GETNCNT), 1);
	operate(keyed, 4, 1, 0);
	subject_join(waiter);
	CHECK_EQ(semctl(keyed, 4, GETVAL), 0);
	check_undo();
	MUST(semctl(keyed, 0, IPC_RMID));
	MUST(semctl(private, 0, IPC_RMID));
	MUST(semctl(untouched, 0, IPC_RMID));
	MUST(semctl(many, 0, IPC_RMID));
	subject_pass();
}
