/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images of one tree one after the other, with memory that changes in between in all ways there are, chosen at
 * random: each image must hold, byte for byte, what /proc/PID/mem shows of each task at that moment. The tasks do what
 * they are told to and stand still otherwise, so that nothing here depends on time.
 *
 * CPX_SEED: another sequence than the usual ones.
 */
#include "base/kabi.h"
#include "engine/every.h"
#include "engine/parents.h"
#include "engine/result.h"
#include "image/image.h"
#include "mem/pages.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <cmocka.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define P	CPX_PAGE_SIZE
#define BASE	0x510000000000UL
#define SLOT	(4UL << 20)
#define SLOTS	12
#define TASKS	4
#define IMAGES	8
#define ORDERS	12 /* between two images */

/* ---- the tasks ---- */

enum { ORDER_WORK = 1, ORDER_FORK, ORDER_EXEC, ORDER_FORK_AND_EXIT };

struct desk {
	uint32_t asked, done; /* futexes */
	uint32_t order;
	uint64_t seed;
	pid_t pid, child;
};

static struct desk *desks; /* in a file that all have mapped */
static char desk_file[64], program[PATH_MAX];

static uint64_t rnd(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed >> 11;
}

static void futex(uint32_t *word, int op, uint32_t value)
{
	syscall(SYS_futex, word, op, value, NULL, NULL, 0);
}

static uint8_t *slot(uint64_t *seed)
{
	return (uint8_t *)(BASE + rnd(seed) % SLOTS * SLOT);
}

static bool is_mapped(uint8_t *at, size_t len)
{
	unsigned char vec[SLOT / P];

	return mincore(at, len, vec) == 0;
}

static void map(uint8_t *at, size_t len)
{
	mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

static size_t some_pages(uint64_t *seed)
{
	return rnd(seed) % 3 ? (1 + rnd(seed) % 40) * P : (2UL << 20);
}

/* By the task, or by the kernel for it (which takes what is protected or guarded for an error). */
static void write_to(uint8_t *at, size_t len, uint64_t *seed)
{
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	for (size_t done = 0; done < len; done += P) {
		if (rnd(seed) % 4 == 0)
			continue;
		if (read(fd, at + done, rnd(seed) % 5 ? P : 1 + rnd(seed) % 9) < 0)
			break;
		if (rnd(seed) % 2)
			at[done + rnd(seed) % P] ^= 1;
		if (rnd(seed) % 8 == 0)
			memset(at + done, 0, P);
	}
	close(fd);
}

static void move(uint8_t *from, size_t len, uint64_t *seed)
{
	uint8_t *to = slot(seed);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (rnd(seed) % 2 ? MREMAP_DONTUNMAP : 0);

	if (from != to)
		mremap(from, len, len, flags, to);
}

static void work(uint64_t seed)
{
	uint8_t *at = slot(&seed) + (rnd(&seed) % 2 ? rnd(&seed) % 300 * P : 0);
	size_t len = MIN(some_pages(&seed), SLOT - (uintptr_t)at % SLOT);

	if (!is_mapped(at, len))
		map(at, len);
	switch (rnd(&seed) % 16) {
	case 0:
	case 1:
		madvise(at, len, MADV_DONTNEED);
		break;
	case 2:
		munmap(at, len);
		break;
	case 3:
		map(at, len);
		break;
	case 4:
		move(at, len, &seed);
		break;
	case 5:
		mremap(at, len, len + 8 * P, 0);
		break;
	case 6:
		mremap(at, len, P, 0);
		break;
	case 7:
		mprotect(at, len, rnd(&seed) % 2 ? PROT_READ : PROT_READ | PROT_WRITE);
		break;
	case 8:
		madvise(at, len, MADV_FREE);
		break;
	case 9:
		madvise(at, len, MADV_HUGEPAGE);
		break;
	case 10:
		madvise(at, len, MADV_COLLAPSE);
		break;
	case 11:
		madvise(at, len, rnd(&seed) % 2 ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE);
		break;
	case 12:
		madvise(at, len, rnd(&seed) % 2 ? MADV_WIPEONFORK : MADV_KEEPONFORK);
		break;
	case 13:
		madvise(at, len, rnd(&seed) % 2 ? MADV_DONTFORK : MADV_DOFORK);
		break;
	case 14:
		madvise(at, len, MADV_PAGEOUT);
		break;
	default:
		break;
	}
	if (rnd(&seed) % 3) {
		mprotect(at, len, PROT_READ | PROT_WRITE);
		if (is_mapped(at, len) && rnd(&seed) % 4)
			madvise(at, len, MADV_GUARD_REMOVE);
		if (is_mapped(at, len))
			write_to(at, len, &seed);
	}
}

static void attend(unsigned index);

static void fork_task(struct desk *d)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		attend((unsigned)d->child);
	}
}

static void fork_and_exit(uint64_t seed)
{
	pid_t pid = fork();

	if (pid == 0) {
		work(seed);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void exec_task(unsigned index)
{
	char number[12];

	snprintf(number, sizeof(number), "%u", index);
	execl(program, program, desk_file, number, NULL);
	_exit(1);
}

static void carry_out(unsigned index)
{
	struct desk *d = &desks[index];

	if (d->order == ORDER_WORK)
		work(d->seed);
	else if (d->order == ORDER_FORK)
		fork_task(d);
	else if (d->order == ORDER_FORK_AND_EXIT)
		fork_and_exit(d->seed);
}

static void attend(unsigned index)
{
	struct desk *d = &desks[index];
	uint32_t seen = __atomic_load_n(&d->done, __ATOMIC_ACQUIRE);

	d->pid = getpid();
	for (;;) {
		while (__atomic_load_n(&d->asked, __ATOMIC_ACQUIRE) == seen)
			futex(&d->asked, FUTEX_WAIT, seen);
		seen++;
		if (d->order == ORDER_EXEC)
			exec_task(index);
		carry_out(index);
		__atomic_store_n(&d->done, seen, __ATOMIC_RELEASE);
		futex(&d->done, FUTEX_WAKE, 1);
	}
}

/* After an execve(2) the order is done by the new program. */
static int be_task(const char *file, unsigned index)
{
	int fd = open(file, O_RDWR | O_CLOEXEC);
	struct desk *d;

	snprintf(desk_file, sizeof(desk_file), "%s", file);
	desks = mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (desks == MAP_FAILED || readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
		return 1;
	d = &desks[index];
	if (d->asked != d->done) {
		__atomic_store_n(&d->done, d->asked, __ATOMIC_RELEASE);
		futex(&d->done, FUTEX_WAKE, 1);
	}
	attend(index);
	return 0;
}

/* ---- orders ---- */

struct scene {
	char dir[32];
	pid_t root;
	unsigned tasks;
	uint64_t name, seed; /* as it was at first, and is now */
	struct vigil vigil;
	unsigned images, taken;
};

static void order(unsigned index, uint32_t what, uint64_t seed)
{
	struct desk *d = &desks[index];
	uint32_t next = d->asked + 1;

	d->order = what;
	d->seed = seed | 1;
	__atomic_store_n(&d->asked, next, __ATOMIC_RELEASE);
	futex(&d->asked, FUTEX_WAKE, 1);
	while (__atomic_load_n(&d->done, __ATOMIC_ACQUIRE) != next) {
		struct timespec patience = {10, 0};

		if (syscall(SYS_futex, &d->done, FUTEX_WAIT, next - 1, &patience, NULL, 0) < 0 &&
		    errno == ETIMEDOUT)
			fail_msg("task %u does not do what it is told (%u)", index, what);
	}
}

/* From outside, as a debugger would. */
static void write_from_outside(const struct scene *s, uint64_t seed)
{
	pid_t pid = desks[rnd(&seed) % s->tasks].pid;
	struct iovec from = {&seed, sizeof(seed)}, to = {slot(&seed) + rnd(&seed) % 600 * P, sizeof(seed)};

	process_vm_writev(pid, &from, 1, &to, 1, 0);
}

static void grow_tree(struct scene *s, unsigned parent)
{
	unsigned child = s->tasks++;

	memset(&desks[child], 0, sizeof(desks[child]));
	desks[parent].child = (pid_t)child;
	order(parent, ORDER_FORK, 0);
	while (!__atomic_load_n(&desks[child].pid, __ATOMIC_ACQUIRE))
		usleep(100);
}

static void change(struct scene *s)
{
	for (int i = 0; i < ORDERS; i++) {
		unsigned index = rnd(&s->seed) % s->tasks, what = rnd(&s->seed) % 40;

		if (what == 0 && s->tasks < TASKS)
			grow_tree(s, index);
		else if (what == 1)
			order(index, ORDER_FORK_AND_EXIT, rnd(&s->seed));
		else if (what == 2 && index > 0)
			order(index, ORDER_EXEC, 0);
		else if (what < 6)
			write_from_outside(s, rnd(&s->seed) | 1);
		else
			order(index, ORDER_WORK, rnd(&s->seed));
	}
}

/* ---- what an image holds ---- */

static bool has_page(const struct image_lookup *l, uint64_t addr)
{
	uint64_t at = addr, end;

	return l && image_lookup_next(l, &at, &end) && at == addr;
}

static void check_page(const struct scene *s, struct image_lookup *l, uint64_t addr, const uint8_t *page,
		       const char *file)
{
	struct err err = ERR_INIT;
	int is_same = has_page(l, addr) ? image_lookup_compare(l, addr, page, &err) : page_is_zero(page);

	if (is_same != 1)
		fail_msg("seed %llu, %s: page %#lx: %s", (unsigned long long)s->name, file, (unsigned long)addr,
			 is_same < 0	      ? err.msg
			 : !has_page(l, addr) ? "is missing"
					      : "is another one");
}

/* Not what changes by itself when a task is stopped: below its stack pointer, where the kernel notes its processor. */
static bool stands_still(const Cpx__Mm *mm, const Cpx__Vma *v)
{
	return v->kind == CPX__VMA__KIND__ANON &&
	       ((v->start >= BASE && v->end <= BASE + SLOTS * SLOT) || v->start == mm->start_brk);
}

/* Guard pages cannot be read. */
static void check_mm(const struct scene *s, const struct image *im, const Cpx__Mm *mm, const char *file)
{
	_cleanup_close_ int dir = -1, mem = -1;
	struct image_lookup *l = NULL;
	uint8_t page[P];

	assert_int_equal(proc_open(-1, mm->pid, 0, &dir, NULL), 0);
	assert_int_equal(proc_open_file(dir, "mem", O_RDONLY, &mem, NULL), 0);
	assert_int_equal(image_lookup_new(im, mm->id, &l, NULL), 0);
	for (size_t i = 0; i < mm->n_vma; i++) {
		const Cpx__Vma *v = mm->vma[i];

		for (uint64_t at = v->start; stands_still(mm, v) && at < v->end; at += P)
			if (pread(mem, page, P, (off_t)at) == P)
				check_page(s, l, at, page, file);
	}
	image_lookup_free(l);
}

static void check_image(const struct scene *s, const char *file)
{
	struct source source;
	struct parents parents;
	struct image *im = NULL;
	struct err err = ERR_INIT;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	assert_int_equal(source_open_fd(&source, fd, &err), 0);
	assert_int_equal(parents_init(&parents, file, NULL, &err), 0);
	if (image_open(&source, &parents.finder, &im, &err) < 0)
		fail_msg("seed %llu, %s: %s", (unsigned long long)s->name, file, err.msg);
	assert_int_equal(im->nmms, s->tasks);
	for (size_t i = 0; i < im->nmms; i++)
		check_mm(s, im, im->mm[i], file);
	image_free(im);
	source_release(&source);
	parents_release(&parents);
	close(fd);
}

/* ---- scenes ---- */

/* Nothing of this process but the desks. */
static void become_task(void)
{
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_range(0, ~0U, 0);
	for (int fd = 0; fd < 3; fd++)
		open("/dev/null", O_RDWR);
	execl(program, program, desk_file, "0", NULL);
	_exit(1);
}

static void open_scene(struct scene *s, uint64_t seed)
{
	int fd;

	*s = (struct scene){.dir = "/tmp/every.XXXXXX", .tasks = 1, .name = seed, .seed = seed, .vigil = VIGIL_INIT};
	assert_non_null(mkdtemp(s->dir));
	snprintf(desk_file, sizeof(desk_file), "%s/desks", s->dir);
	fd = open(desk_file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, P), 0);
	desks = mmap(NULL, P, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	s->root = fork();
	if (s->root == 0)
		become_task();
	while (!__atomic_load_n(&desks[0].pid, __ATOMIC_ACQUIRE))
		usleep(100);
}

static void close_scene(struct scene *s)
{
	char file[64];

	vigil_end(&s->vigil, s->root, false);
	kill(s->root, SIGKILL);
	waitpid(s->root, NULL, 0);
	for (unsigned i = 0; i < s->images; i++) {
		snprintf(file, sizeof(file), "%s/%u", s->dir, i);
		unlink(file);
	}
	unlink(desk_file);
	rmdir(s->dir);
	munmap(desks, P);
}

/* Some fail, as if the disk were full: to a device that takes nothing. */
static bool fails(struct scene *s)
{
	struct cpx_dump_options o = {.pid = s->root, .output = "/dev/full", .workers = 1};
	struct cpx_result r = CPX_RESULT_INIT;
	char parent[64];
	int ret;

	if (!s->images || rnd(&s->seed) % 4)
		return false;
	snprintf(parent, sizeof(parent), "%s/%u", s->dir, s->images - 1);
	o.parent = parent;
	ret = dump_image(&o, true, &s->vigil, &r);
	assert_int_not_equal(ret, 0);
	cpx_result_release(&r);
	return true;
}

static void take_image(struct scene *s)
{
	char file[64], parent[64];
	struct cpx_dump_options o = {
		.pid = s->root,
		.output = file,
		.compress = CPX_COMPRESS_NONE,
		.workers = 1,
	};
	struct cpx_result r = CPX_RESULT_INIT;

	snprintf(file, sizeof(file), "%s/%u", s->dir, s->images);
	snprintf(parent, sizeof(parent), "%s/%u", s->dir, s->images - 1);
	o.parent = s->images && rnd(&s->seed) % 8 ? parent : NULL; /* now and then a full one */
	if (dump_image(&o, true, &s->vigil, &r) < 0)
		fail_msg("%s: %s", file, r.nrefusals ? r.refusal[0].text : r.error);
	s->taken += strcmp(r.changes, "tracking") == 0 || strcmp(r.changes, "both") == 0;
	cpx_result_release(&r);
	s->images++;
	check_image(s, file);
}

static void run_scene(uint64_t seed)
{
	struct scene s;

	open_scene(&s, seed);
	for (int i = 0; i < IMAGES; i++) {
		change(&s);
		if (fails(&s))
			change(&s);
		take_image(&s);
	}
	print_message("seed %llu: %u tasks, %u of %u images by tracking\n", (unsigned long long)seed, s.tasks, s.taken,
		      s.images);
	if (s.vigil.why_not[0])
		print_message("%s\n", s.vigil.why_not);
	else
		assert_true(s.taken > 0);
	close_scene(&s);
}

static void run_scenes(uint64_t first, uint64_t n)
{
	const char *seed = getenv("CPX_SEED");

	for (uint64_t i = first; i < first + n && !seed; i++)
		run_scene(i * 0x9e3779b97f4a7c15);
	if (seed)
		run_scene(strtoull(seed, NULL, 0));
}

static void test_random(void **state)
{
	run_scenes(1, 2);
}

static void test_old_kernel(void **state)
{
	run_scenes(3, 1);
}

static int deny(void **state)
{
	return setenv("CPX_DENY", "pagemap_holes", 1);
}

static int allow(void **state)
{
	return unsetenv("CPX_DENY");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random),
		cmocka_unit_test_setup_teardown(test_old_kernel, deny, allow),
	};

	if (argc == 3)
		return be_task(argv[1], (unsigned)atoi(argv[2]));
	if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
