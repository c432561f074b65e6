/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Contexts of asynchronous I/O: ids, results not taken, head and tail of a ring that has gone round. */
#include "subject.h"

#include <linux/aio_abi.h>

enum { CONTEXTS = 3 };

static struct {
	unsigned requests, rounds, left; /* results that are not taken */
	aio_context_t id;
	uint32_t tail, nr;
} context[CONTEXTS] = {
	{.requests = 1},
	{.requests = 10, .rounds = 150, .left = 5},
	{.requests = 500, .rounds = 700, .left = 111},
};
static int file;
static char text[] = "what is in the file";
static char buffer[sizeof(text)];

static const uint32_t *ring(int i)
{
	return (const uint32_t *)context[i].id;
}

static void submit(int i, uint64_t data, int opcode, int offset)
{
	struct iocb request = {.aio_data = data,
			       .aio_lio_opcode = opcode,
			       .aio_fildes = file,
			       .aio_buf = (uint64_t)(opcode == IOCB_CMD_PREAD ? buffer : text),
			       .aio_nbytes = sizeof(text),
			       .aio_offset = offset};
	struct iocb *list = &request;

	CHECK_EQ(MUST(syscall(SYS_io_submit, context[i].id, 1, &list)), 1);
}

static void take(int i, uint64_t data, int64_t res)
{
	struct io_event e;

	CHECK_EQ(MUST(syscall(SYS_io_getevents, context[i].id, 1, 1, &e, NULL)), 1);
	CHECK_EQ(e.data, data);
	CHECK_EQ(e.res, res);
}

static void is_empty(int i)
{
	struct io_event e;
	struct timespec now = {0};

	CHECK_EQ(MUST(syscall(SYS_io_getevents, context[i].id, 0, 1, &e, &now)), 0);
}

static void make(int i)
{
	MUST(syscall(SYS_io_setup, context[i].requests, &context[i].id));
	for (unsigned k = 0; k < context[i].rounds; k++) {
		submit(i, k, IOCB_CMD_PREAD, 0);
		take(i, k, sizeof(text));
	}
	for (unsigned k = 0; k < context[i].left; k++)
		submit(i, 5000 + k, IOCB_CMD_PREAD, k % sizeof(text));
	context[i].nr = ring(i)[1];
	context[i].tail = ring(i)[3];
}

static void check(int i)
{
	CHECK_EQ(ring(i)[1], context[i].nr);
	CHECK_EQ(ring(i)[3], context[i].tail);
	for (unsigned k = 0; k < context[i].left; k++)
		take(i, 5000 + k, sizeof(text) - k % sizeof(text));
	is_empty(i);
	for (unsigned k = 0; k < context[i].nr + 10; k++) {
		memset(buffer, 0, sizeof(buffer));
		submit(i, k, k % 3 ? IOCB_CMD_PREAD : IOCB_CMD_PWRITE, 0);
		take(i, k, sizeof(text));
		if (k % 3)
			CHECK(strcmp(buffer, text) == 0, "read %s", buffer);
	}
	is_empty(i);
	MUST(syscall(SYS_io_destroy, context[i].id));
}

static int child(void *arg)
{
	for (int i = 0; i < CONTEXTS; i++) {
		munmap((void *)context[i].id, 4096 * ((context[i].nr * 32 + 32 + 4095) / 4096));
		context[i].id = 0;
	}
	context[0].rounds = 9;
	make(0);
	subject_child_ready();
	subject_wait();
	check(0);
	return 0;
}

int main(int argc, char **argv)
{
	pid_t pid;

	subject_init(argc, argv);
	file = MUST(open(subject_path("file"), O_RDWR | O_CREAT, 0600));
	MUST(write(file, text, sizeof(text)));
	for (int i = 0; i < CONTEXTS; i++)
		make(i);
	pid = subject_fork(child, NULL);
	subject_ready();
	subject_wait();
	for (int i = 0; i < CONTEXTS; i++)
		check(i);
	subject_join(pid);
	subject_pass();
}
