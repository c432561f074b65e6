/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SysV message queues: ids, keys, modes, limits, messages in them, who sent and received last, who waits. */
#include "subject.h"

#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
	long type;
	char text[8192];
};

static int keyed, full, sent, unused;
static key_t key;
static pid_t sender, receiver, taker, giver;

static void send(int id, long type, size_t len, uint32_t seed)
{
	struct message m = {.type = type};

	subject_pattern(m.text, len, seed);
	MUST(msgsnd(id, &m, len, 0));
}

static void receive(int id, long which, long type, size_t len, uint32_t seed)
{
	struct message m;

	CHECK_EQ(MUST(msgrcv(id, &m, sizeof(m.text), which, IPC_NOWAIT)), len);
	CHECK_EQ(m.type, type);
	CHECK(subject_is_pattern(m.text, len, seed), "message %u", seed);
}

static int send_some(void *arg)
{
	subject_child_ready();
	send(keyed, 5, 100, 1);
	send(keyed, 3, 0, 2);
	send(keyed, 1L << 40, 8192, 3);
	send(sent, 1, 1, 4);
	subject_wait();
	return 0;
}

static int receive_one(void *arg)
{
	subject_child_ready();
	receive(keyed, 9, 9, 10, 9);
	return 0; /* it is gone, its PID is not */
}

static int wait_for_one(void *arg)
{
	struct message m;

	subject_child_ready();
	CHECK_EQ(MUST(msgrcv(unused, &m, sizeof(m.text), 4, 0)), 7);
	CHECK(subject_is_pattern(m.text, 7, 70), "what came");
	return 0;
}

static int wait_for_room(void *arg)
{
	subject_child_ready();
	send(full, 8, 30, 80);
	return 0;
}

static int make(key_t k, int mode)
{
	return subject_sysv("msg", MUST(msgget(k, IPC_CREAT | IPC_EXCL | mode)));
}

static void set_up(void)
{
	struct msqid_ds ds;

	key = 0x43000000 | getpid();
	keyed = make(key, 0620);
	full = make(IPC_PRIVATE, 0600);
	sent = make(IPC_PRIVATE, 0600);
	unused = make(IPC_PRIVATE, 0606);
	MUST(msgctl(full, IPC_STAT, &ds));
	ds.msg_qbytes = 100;
	MUST(msgctl(full, IPC_SET, &ds));
	for (int i = 0; i < 5; i++)
		send(full, 6 - i, 20, 40 + i);
	send(keyed, 9, 10, 9);
	receiver = subject_fork(receive_one, NULL);
	subject_join(receiver);
	sender = subject_fork(send_some, NULL);
	taker = subject_fork(wait_for_one, NULL);
	giver = subject_fork(wait_for_room, NULL);
	subject_await_state(taker, taker, 'S');
	subject_await_state(giver, giver, 'S');
	while (MUST(msgctl(sent, IPC_STAT, &ds)), !ds.msg_qnum)
		subject_sleep_ms(1);
}

static void check_queue(int id, int mode, unsigned long number, unsigned long qbytes, pid_t from, pid_t to)
{
	struct msqid_ds ds;

	MUST(msgctl(id, IPC_STAT, &ds));
	CHECK_EQ(ds.msg_perm.mode & 0777, mode);
	CHECK_EQ(ds.msg_perm.uid, geteuid());
	CHECK_EQ(ds.msg_perm.cuid, geteuid());
	CHECK_EQ(ds.msg_qnum, number);
	CHECK_EQ(ds.msg_qbytes, qbytes);
	CHECK_EQ(ds.msg_lspid, from);
	CHECK_EQ(ds.msg_lrpid, to);
}

static void check_queues(void)
{
	CHECK_EQ(MUST(msgget(key, 0)), keyed);
	check_queue(keyed, 0620, 3, 16384, sender, receiver);
	check_queue(full, 0600, 5, 100, getpid(), 0);
	check_queue(sent, 0600, 1, 16384, sender, 0);
	check_queue(unused, 0606, 0, 16384, 0, 0);
	receive(keyed, -4, 3, 0, 2);
	receive(keyed, 0, 5, 100, 1);
	receive(keyed, 0, 1L << 40, 8192, 3);
	receive(sent, 0, 1, 1, 4);
}

int main(int argc, char **argv)
{
	subject_init(argc, argv);
	set_up();
	subject_ready();
	subject_wait();
	check_queues();
	for (int i = 0; i < 5; i++)
		receive(full, 0, 6 - i, 20, 40 + i);
	subject_join(giver);
	receive(full, 0, 8, 30, 80);
	send(unused, 4, 7, 70);
	subject_join(taker);
	subject_join(sender);
	MUST(msgctl(keyed, IPC_RMID, NULL));
	MUST(msgctl(full, IPC_RMID, NULL));
	MUST(msgctl(sent, IPC_RMID, NULL));
	MUST(msgctl(unused, IPC_RMID, NULL));
	subject_pass();
}
