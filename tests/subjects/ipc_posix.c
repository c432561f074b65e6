/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* POSIX names: semaphores (sem_open) and shared memory (shm_open) of two tasks, kept and unlinked. */
#include "subject.h"

#include <semaphore.h>

#define SIZE (3 * 4096)

struct pair {
	sem_t *sem;
	char *memory;
	char name[64];
};

static struct pair kept, gone;

static void make(struct pair *p, const char *prefix)
{
	char path[96];
	int fd;

	snprintf(p->name, sizeof(p->name), "/cpx-%s-%d", prefix, getpid());
	snprintf(path, sizeof(path), "/dev/shm%s", p->name);
	subject_left("file", path);
	snprintf(path, sizeof(path), "/dev/shm/sem.%s", p->name + 1);
	subject_left("file", path);
	p->sem = sem_open(p->name, O_CREAT | O_EXCL, 0600, 3);
	CHECK(p->sem != SEM_FAILED, "%s", strerror(errno));
	fd = MUST(shm_open(p->name, O_CREAT | O_EXCL | O_RDWR, 0640));
	MUST(ftruncate(fd, SIZE));
	p->memory = MUST(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	subject_pattern(p->memory + 4096, SIZE - 4096, p->name[5]);
	MUST(close(fd));
}

static int take_turns(void *arg)
{
	struct pair *p = arg;

	for (int i = 0; i < 3; i++)
		MUST(sem_wait(p->sem));
	subject_child_ready();
	MUST(sem_wait(p->sem));
	p->memory[0] = p->memory[1] + 1;
	return 0;
}

static void check_pair(struct pair *p, pid_t child)
{
	int value;

	CHECK(subject_is_pattern(p->memory + 4096, SIZE - 4096, p->name[5]), "%s", p->name);
	MUST(sem_getvalue(p->sem, &value));
	CHECK_EQ(value, 0);
	p->memory[1] = 41;
	MUST(sem_post(p->sem));
	subject_join(child);
	CHECK_EQ(p->memory[0], 42);
}

/* Whoever opens the name finds the same. */
static void check_name(void)
{
	int fd = MUST(shm_open(kept.name, O_RDWR, 0));
	char *again = MUST(mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0));
	sem_t *sem = sem_open(kept.name, 0);
	struct stat st;

	CHECK(sem != SEM_FAILED, "%s", strerror(errno));
	MUST(fstat(fd, &st));
	CHECK_EQ(st.st_mode & 0777, 0640);
	kept.memory[7] = 77;
	CHECK_EQ(again[7], 77);
	MUST(sem_post(kept.sem));
	MUST(sem_trywait(sem));
	CHECK(sem_open(gone.name, 0) == SEM_FAILED && errno == ENOENT, "%s", gone.name);
}

int main(int argc, char **argv)
{
	pid_t a, b;

	subject_init(argc, argv);
	make(&kept, "kept");
	make(&gone, "gone");
	MUST(sem_unlink(gone.name));
	MUST(shm_unlink(gone.name));
	a = subject_fork(take_turns, &kept);
	b = subject_fork(take_turns, &gone);
	subject_await_state(a, a, 'S');
	subject_await_state(b, b, 'S');
	subject_ready();
	subject_wait();
	check_pair(&kept, a);
	check_pair(&gone, b);
	check_name();
	MUST(sem_unlink(kept.name));
	MUST(shm_unlink(kept.name));
	subject_pass();
}
