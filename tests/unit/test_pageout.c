/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages out of real tasks: a parent and its child with every kind of private memory are frozen,
 * their memory is noted, twins are made, they run on and scribble over everything; what gets into
 * the image by each way must be what was noted.
 */
#include "../golden/sample.h"
#include "mem/pages.h"
#include "proc/proc.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define P	  CPX_PAGE_SIZE
#define BIG_PAGES 6000 /* several groups of every way */
#define VMAS_MAX  4096

/* ---- the tasks ---- */

struct memory {
	uint8_t *big, *sparse, *hidden, *file, *wiped, *unforked;
};

static uint8_t *map(size_t pages, int fd)
{
	void *p = mmap(NULL, pages * P, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);

	if (p == MAP_FAILED)
		_exit(1);
	madvise(p, pages * P, MADV_NOHUGEPAGE);
	return p;
}

static void noise(uint8_t *p, size_t pages, uint64_t seed)
{
	uint64_t *w = (uint64_t *)p;

	for (size_t i = 0; i < pages * P / 8; i++) {
		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		w[i] = i % 512 < 256 ? seed >> 40 : seed; /* compresses a little */
	}
}

static void set_up(struct memory *m)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	m->big = map(BIG_PAGES, -1);
	noise(m->big, BIG_PAGES, 1);
	memset(m->big + 100 * P, 0, 50 * P);
	m->big[4000 * P - 1] = 0;
	m->sparse = map(3000, -1);
	for (size_t i = 0; i < 3000; i += 2)
		noise(m->sparse + i * P, 1, i);
	m->hidden = map(20, -1);
	noise(m->hidden + 3 * P, 5, 3);
	mprotect(m->hidden, 20 * P, PROT_NONE);
	if (ftruncate(fd, 30 * P))
		_exit(1);
	m->file = map(30, fd);
	noise(m->file + 4 * P, 2, 4);
	m->file[10 * P] = 0;
	m->wiped = map(5, -1);
	noise(m->wiped, 5, 5);
	madvise(m->wiped, 5 * P, MADV_WIPEONFORK);
	m->unforked = map(7, -1);
	noise(m->unforked, 7, 6);
	madvise(m->unforked, 7 * P, MADV_DONTFORK);
	close(fd);
}

static void scribble(const struct memory *m, bool is_parent)
{
	memset(m->big, 0xaa, BIG_PAGES * P);
	memset(m->sparse, 0xbb, 3000 * P);
	mprotect(m->hidden, 20 * P, PROT_READ | PROT_WRITE);
	memset(m->hidden, 0xcc, 20 * P);
	memset(m->file, 0xdd, 30 * P);
	memset(m->wiped, 0xee, 5 * P);
	if (is_parent)
		memset(m->unforked, 0xff, 7 * P);
}

/* Says so on the pipe when it is ready; scribbles on SIGUSR1 and says so again. */
static void run_task(const struct memory *m, bool is_parent, int pipe)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		if (write(pipe, "x", 1) != 1 || sigwait(&set, &sig))
			_exit(1);
		scribble(m, is_parent);
	}
}

static void child(const struct memory *m, int pipe)
{
	noise(m->big + 10 * P, 7, 99);
	memset(m->big + 2000 * P, 0, 3 * P);
	m->big[5000 * P + 17]++;
	m->file[4 * P]++;
	memset(m->file + 5 * P, 0, P);
	noise(m->wiped, 2, 7);
	run_task(m, false, pipe);
}

/* The kernel writes the number of the CPU there, the twin's in the twin. */
static void leave_rseq(void)
{
	syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, 32,
		RSEQ_FLAG_UNREGISTER, RSEQ_SIG);
}

/* Limits before the fork, so that both have them. */
static pid_t start(int pipe, uint64_t file_limit)
{
	struct rlimit limit = {file_limit, file_limit};
	struct memory m;
	pid_t pid = fork();

	if (pid)
		return pid;
	leave_rseq();
	set_up(&m);
	setrlimit(RLIMIT_FSIZE, &limit);
	if (!fork())
		child(&m, pipe);
	run_task(&m, true, pipe);
	_exit(1);
}

/* ---- what they had ---- */

struct noted {
	Cpx__Mm mm;
	Cpx__Vma vma[VMAS_MAX], *vmas[VMAS_MAX];
	uint8_t *content[VMAS_MAX]; /* as at the freeze */
	uint8_t *is_due[VMAS_MAX];  /* by page: selected and not zero */
	uint8_t *is_zero[VMAS_MAX]; /* by page: a zero page of its own over a file */
	uint8_t *seen[VMAS_MAX];
};

static void note_pages(struct noted *n, size_t i, int pagemap, int mem)
{
	const Cpx__Vma *v = n->vmas[i];
	uint64_t len = v->end - v->start, pages = len / P;
	struct page_ranges r = {0};

	n->content[i] = malloc(len);
	n->is_due[i] = calloc(1, pages);
	n->is_zero[i] = calloc(1, pages);
	n->seen[i] = calloc(1, pages);
	assert_int_equal(pages_select(pagemap, v->start, v->end, &r, NULL), 0);
	for (size_t k = 0; k < r.n; k++)
		for (uint64_t a = r.r[k].addr; a < r.r[k].addr + r.r[k].len; a += P) {
			uint8_t *page = n->content[i] + (a - v->start);
			bool is_zero;

			assert_int_equal(pread(mem, page, P, (off_t)a), P);
			is_zero = page_is_zero(page);
			n->is_due[i][(a - v->start) / P] = !is_zero;
			n->is_zero[i][(a - v->start) / P] =
				is_zero && v->kind == CPX__VMA__KIND__FILE_PRIVATE;
		}
	page_ranges_release(&r);
}

static void note(struct noted *n, uint32_t id, pid_t pid)
{
	_cleanup_close_ int dir = -1, pagemap = -1, mem = -1;
	struct proc_vmas maps;

	cpx__mm__init(&n->mm);
	n->mm.id = id;
	n->mm.parent_mm = id - 1;
	n->mm.exe_file = 1;
	n->mm.vma = n->vmas;
	assert_int_equal(proc_open(-1, pid, 0, &dir, NULL), 0);
	assert_int_equal(proc_open_file(dir, "pagemap", O_RDONLY, &pagemap, NULL), 0);
	assert_int_equal(proc_open_file(dir, "mem", O_RDONLY, &mem, NULL), 0);
	assert_int_equal(proc_smaps(dir, &maps, NULL), 0);
	for (size_t i = 0; i < maps.n; i++) {
		Cpx__Vma *v = &n->vma[n->mm.n_vma];

		cpx__vma__init(v);
		/* Below the red zone of its stack a tracee has frames of ours; sanitizers map
		 * terabytes. */
		if (maps.vma[i].end - maps.vma[i].start > 1UL << 30 ||
		    vma_is_special(&maps.vma[i]) || maps.vma[i].is_shared ||
		    !strcmp(maps.vma[i].path, "[stack]"))
			continue;
		assert_true(n->mm.n_vma < VMAS_MAX);
		assert_int_equal(vma_from_proc(&maps.vma[i], v, NULL), 0);
		v->file = v->kind == CPX__VMA__KIND__FILE_PRIVATE;
		n->vmas[n->mm.n_vma] = v;
		note_pages(n, n->mm.n_vma++, pagemap, mem);
	}
	proc_vmas_release(&maps);
}

static void forget(struct noted *n)
{
	for (size_t i = 0; i < n->mm.n_vma; i++) {
		free(n->content[i]);
		free(n->is_due[i]);
		free(n->is_zero[i]);
		free(n->seen[i]);
		free(n->vma[i].name.data);
	}
	memset(n, 0, sizeof(*n));
}

static size_t vma_of(const struct noted *n, uint64_t addr)
{
	for (size_t i = 0; i < n->mm.n_vma; i++)
		if (n->vma[i].start <= addr && addr < n->vma[i].end)
			return i;
	fail_msg("a page at %lx, where nothing is mapped", (unsigned long)addr);
	return 0;
}

/* ---- the image ---- */

static void check_page(struct noted *n, const struct noted *parent, enum chunk_kind kind,
		       uint64_t addr, const uint8_t *data)
{
	size_t i = vma_of(n, addr), page = (addr - n->vma[i].start) / P;
	const uint8_t *content = n->content[i] + page * P;

	assert_int_equal(n->seen[i][page]++, 0);
	if (kind == CHUNK_ZERO) {
		assert_true(n->is_zero[i][page]);
		return;
	}
	assert_true(n->is_due[i][page]);
	if (kind == CHUNK_INHERIT) {
		size_t k = vma_of(parent, addr);

		data = parent->content[k] + (addr - parent->vma[k].start);
	}
	assert_memory_equal(content, data, P);
}

static void check_all_seen(const struct noted *n)
{
	for (size_t i = 0; i < n->mm.n_vma; i++)
		for (size_t p = 0; p < (n->vma[i].end - n->vma[i].start) / P; p++)
			if (n->seen[i][p] != (n->is_due[i][p] || n->is_zero[i][p]))
				fail_msg("mm %u: page %zu of mapping %lx is %s", n->mm.id, p,
					 (unsigned long)n->vma[i].start,
					 n->seen[i][p] ? "superfluous" : "missing");
}

static void check_chunks(struct image *im, struct noted n[2])
{
	_cleanup_free_ uint8_t *buf = malloc(CHUNK_MAX);
	struct err err = ERR_INIT;
	struct chunk_ref c;
	int r;

	while ((r = image_next_chunk(im, &c, buf, &err)) == 0) {
		for (unsigned i = 0; i < c.n; i++)
			for (uint64_t at = 0; at < c.piece[i].len; at += P)
				check_page(&n[c.object - 1], &n[0], c.kind, c.piece[i].addr + at,
					   buf + c.piece[i].from + at);
	}
	if (r != -ENODATA)
		fail_msg("%s", err.msg);
}

static void check_image(int fd, struct noted n[2])
{
	struct source src;
	struct image *im = NULL;
	struct err err = ERR_INIT;

	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < n[i].mm.n_vma; k++)
			memset(n[i].seen[k], 0, (n[i].vma[k].end - n[i].vma[k].start) / P);
	if (source_open_fd(&src, fd, &err) < 0 || image_open(&src, NULL, &im, &err) < 0)
		fail_msg("%s", err.msg);
	check_chunks(im, n);
	check_all_seen(&n[0]);
	check_all_seen(&n[1]);
	image_free(im);
	source_release(&src);
}

/* ---- one dump ---- */

struct dump {
	struct tree tree;
	struct twin *twin[2];
	struct aside *aside[2];
	struct noted noted[2];
	pid_t root;
	int pipe[2];
};

static void must(int r, const struct err *err)
{
	if (r < 0)
		fail_msg("%s", err->msg);
}

static void await(struct dump *d, unsigned times)
{
	char c;

	while (times--)
		assert_int_equal(read(d->pipe[0], &c, 1), 1);
}

static void make_twin(struct dump *d, int i)
{
	struct twin_order order = {.t = d->tree.task[i]};
	struct unforked *unforked;
	struct err err = ERR_INIT;

	must(unforked_list(&d->noted[i].mm, &unforked, &order.n, &err), &err);
	assert_int_equal(order.n, i == 0); /* the child has not inherited it */
	order.unforked = unforked;
	must(twins_make(&order, 1, &d->twin[i], &err), &err);
	free(unforked);
}

static void freeze(struct dump *d, uint64_t file_limit, bool with_twins)
{
	struct freeze_options o = {0};
	struct err err = ERR_INIT;

	assert_int_equal(pipe(d->pipe), 0);
	d->root = start(d->pipe[1], file_limit);
	await(d, 2);
	must(tree_freeze(&d->tree, d->root, &o, &err), &err);
	assert_int_equal(d->tree.n, 2);
	for (uint32_t i = 0; i < 2; i++) {
		note(&d->noted[i], i + 1, d->tree.task[i]->pid);
		must(aside_copy(&d->noted[i].mm, d->tree.task[i]->pid, &d->aside[i], &err), &err);
	}
	if (!with_twins)
		return;
	must(tracee_inject_all(&d->tree, &err), &err);
	for (int i = 0; i < 2; i++)
		make_twin(d, i);
	tree_thaw(&d->tree, THAW_RUN);
	for (int i = 0; i < 2; i++)
		kill(d->tree.task[i]->pid, SIGUSR1);
	await(d, 2);
}

static void end(struct dump *d)
{
	for (int i = 0; i < 2; i++) {
		twin_free(d->twin[i]);
		aside_free(d->aside[i]);
		forget(&d->noted[i]);
	}
	tree_thaw(&d->tree, THAW_KILL);
	kill(d->root, SIGKILL);
	waitpid(d->root, NULL, 0);
	tree_release(&d->tree);
	close(d->pipe[0]);
	close(d->pipe[1]);
	memset(d, 0, sizeof(*d));
}

static void write_records(const struct dump *d, struct image_writer *w)
{
	struct sample *s = malloc(sizeof(*s));
	struct err err = ERR_INIT;

	sample_init(s);
	for (int i = 0; i < 2; i++) {
		uint32_t pid = s->mm[i].pid;

		s->mm[i] = d->noted[i].mm;
		s->mm[i].pid = pid;
	}
	must(sample_write_records(s, w, &err), &err);
	free(s);
}

/* Both mms to fd, by twins or (where there are none) from outside. */
static struct pageout_stats write_image(struct dump *d, int fd,
					const struct image_writer_options *o, bool is_direct,
					unsigned workers)
{
	struct image_writer *w;
	struct pageout p = {.options = o, .out_fd = is_direct ? fd : -1, .workers = workers};
	struct err err = ERR_INIT;
	uint64_t size;

	must(image_writer_new(fd, o, &w, &err), &err);
	write_records(d, w);
	p.w = w;
	for (int i = 0; i < 2; i++) {
		const Cpx__Mm *mm = &d->noted[i].mm;

		if (d->twin[i])
			must(pageout_twin(&p, mm, i == 0, d->twin[i], &err), &err);
		else
			must(pageout_frozen(&p, mm, i == 0, d->tree.task[i]->pid, &err), &err);
		must(aside_write(d->aside[i], &p, mm, &err), &err);
	}
	must(image_writer_seal(w, &size, &err), &err);
	pageout_release(&p);
	image_writer_free(w);
	return p.stats;
}

static uint64_t count_due(const struct noted *n)
{
	uint64_t count = 0;

	for (size_t i = 0; i < n->mm.n_vma; i++)
		for (size_t p = 0; p < (n->vma[i].end - n->vma[i].start) / P; p++)
			count += n->is_due[i][p];
	return count;
}

static void check_stats(const struct dump *d, const struct pageout_stats *st)
{
	uint64_t first = count_due(&d->noted[0]), second = count_due(&d->noted[1]);

	assert_true(st->zero_pages >= 50 + 1);
	assert_true(st->inherited_pages >= BIG_PAGES - 100);
	assert_int_equal(st->pages + st->inherited_pages, first + second);
	assert_true(st->pages < first + 100);
	assert_int_equal(st->bytes, st->pages * P);
}

/* On tmpfs, or wherever the test runs. */
static int open_image(bool on_tmpfs)
{
	int fd =
		on_tmpfs ? memfd_create("image", MFD_CLOEXEC) : open(".", O_TMPFILE | O_RDWR, 0600);

	if (fd < 0) /* not every file system has such files */
		fd = memfd_create("image", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void dump_to_file(struct dump *d, const struct image_writer_options *o, bool is_direct,
			 unsigned workers)
{
	_cleanup_close_ int fd = open_image(workers);
	struct pageout_stats st = write_image(d, fd, o, is_direct, workers);

	check_stats(d, &st);
	lseek(fd, 0, SEEK_SET);
	check_image(fd, d->noted);
}

static const struct image_writer_options raw = {.codec = CODEC_NONE, .page_aligned = true};
static const struct image_writer_options lz4 = {.codec = CODEC_LZ4};
static const struct image_writer_options zstd = {.codec = CODEC_ZSTD, .level = 1};

static void dump_twins(uint64_t file_limit, const struct image_writer_options *o, bool is_direct,
		       unsigned workers)
{
	static struct dump d; /* large: on the stack it would crowd the tasks' */

	freeze(&d, file_limit, true);
	dump_to_file(&d, o, is_direct, workers);
	end(&d);
}

static void test_direct(void **state)
{
	dump_twins(RLIM_INFINITY, &raw, true, 2);
	dump_twins(RLIM_INFINITY, &raw, true, 0);
}

static void test_ring(void **state)
{
	dump_twins(RLIM_INFINITY, &lz4, false, 2);
	dump_twins(RLIM_INFINITY, &zstd, false, 1);
	dump_twins(RLIM_INFINITY, &raw, false, 0);
}

static void test_frozen(void **state)
{
	static struct dump d;

	freeze(&d, RLIM_INFINITY, false);
	dump_to_file(&d, &raw, false, 0);
	dump_to_file(&d, &lz4, false, 2);
	end(&d);
}

static void test_file_limit(void **state)
{
	dump_twins(16 << 20, &raw, true, 2); /* less than the ring */
	dump_twins(48 << 20, &raw, true, 2); /* the ring, but not the image */
}

/* A twin that can have no more descriptors is read from outside. */
static void test_no_descriptors(void **state)
{
	const struct rlimit none = {0, 0};
	static struct dump d;

	freeze(&d, RLIM_INFINITY, true);
	for (int i = 0; i < 2; i++)
		assert_int_equal(prlimit(d.twin[i]->pid, RLIMIT_NOFILE, &none, NULL), 0);
	dump_to_file(&d, &raw, true, 2);
	end(&d);
}

/* A twin that is killed meanwhile is an error, whoever waits for it. */
static void test_killed(void **state)
{
	struct image_writer_options o = raw;
	_cleanup_close_ int fd = memfd_create("image", MFD_CLOEXEC);
	static struct dump d;
	struct pageout p = {.options = &o, .out_fd = fd};
	struct err err = ERR_INIT;

	freeze(&d, RLIM_INFINITY, true);
	must(image_writer_new(fd, &o, &p.w, &err), &err);
	write_records(&d, p.w);
	kill(d.twin[0]->pid, SIGKILL);
	assert_int_equal(pageout_twin(&p, &d.noted[0].mm, true, d.twin[0], &err), -ESRCH);
	pageout_release(&p);
	image_writer_free(p.w);
	end(&d);
}

/* A full output: what a growth seal says is what a full disk says, in another word. */
static void test_full(void **state)
{
	_cleanup_close_ int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	static struct dump d;
	struct pageout p = {.options = &raw, .out_fd = fd};
	struct err err = ERR_INIT;

	freeze(&d, RLIM_INFINITY, true);
	must(image_writer_new(fd, &raw, &p.w, &err), &err);
	write_records(&d, p.w);
	assert_int_equal(ftruncate(fd, 10 << 20), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(pageout_twin(&p, &d.noted[0].mm, true, d.twin[0], &err), -EPERM);
	assert_string_equal(err.msg, "cannot write the image: Operation not permitted");
	pageout_release(&p);
	image_writer_free(p.w);
	end(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_direct),	       cmocka_unit_test(test_ring),
		cmocka_unit_test(test_frozen),	       cmocka_unit_test(test_file_limit),
		cmocka_unit_test(test_no_descriptors), cmocka_unit_test(test_killed),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
