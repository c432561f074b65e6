/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "sample.h"
#include "base/util.h"

#include <sys/mman.h>
#include <sys/stat.h>

#define BYTES(s) ((ProtobufCBinaryData){sizeof(s) - 1, (uint8_t *)(s)})

static void init_attributes(struct sample *s)
{
	cpx__fs__init(&s->fs);
	s->fs.cwd = BYTES("/tmp");
	s->fs.root = BYTES("/");
	s->fs.umask = 022;
	cpx__sig_action__init(&s->action);
	s->action.signo = 10;
	s->action.handler = 0x555555555000;
	s->actions[0] = &s->action;
	cpx__signals__init(&s->signals);
	s->signals.n_action = 1;
	s->signals.action = s->actions;
	s->siginfo[0] = 10;
	s->pending[0] = (ProtobufCBinaryData){sizeof(s->siginfo), s->siginfo};
	s->signals.n_pending = 1;
	s->signals.pending = s->pending;
	cpx__thread_signals__init(&s->thread_signals);
	cpx__thread_memory__init(&s->thread_memory);
	cpx__creds__init(&s->creds);
	s->creds.uid = 1000;
	cpx__sched__init(&s->sched);
	cpx__thread_flags__init(&s->thread_flags);
	s->thread_flags.timer_slack_ns = 50000;
	cpx__process_flags__init(&s->flags);
}

static void init_thread(struct sample *s, Cpx__Thread *th, uint32_t tid)
{
	cpx__thread__init(th);
	th->tid = tid;
	th->gp_regs = (ProtobufCBinaryData){sizeof(s->regs), s->regs};
	th->xstate = (ProtobufCBinaryData){sizeof(s->xstate), s->xstate};
	th->comm = BYTES("sample");
	th->signals = &s->thread_signals;
	th->memory = &s->thread_memory;
	th->creds = &s->creds;
	th->sched = &s->sched;
	th->flags = &s->thread_flags;
}

static void init_live(struct sample *s, Cpx__Task *t, uint32_t pid, uint32_t ppid, uint32_t mm)
{
	cpx__task__init(t);
	t->pid = pid;
	t->ppid = ppid;
	t->pgid = t->sid = 100;
	t->exit_signal = 17;
	t->comm = BYTES("sample");
	t->mm = t->fd_table = mm;
	t->fs = &s->fs;
	t->signals = &s->signals;
	t->flags = &s->flags;
}

static void init_tasks(struct sample *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->regs); i++)
		s->regs[i] = i;
	init_live(s, &s->root, 100, 0, 1);
	init_live(s, &s->child, 102, 100, 2);
	init_thread(s, &s->thread[0], 100);
	init_thread(s, &s->thread[1], 101);
	init_thread(s, &s->thread[2], 102);
	s->root_threads[0] = &s->thread[0];
	s->root_threads[1] = &s->thread[1];
	s->root.n_thread = 2;
	s->root.thread = s->root_threads;
	s->child_threads[0] = &s->thread[2];
	s->child.n_thread = 1;
	s->child.thread = s->child_threads;
	cpx__task__init(&s->zombie);
	s->zombie.pid = 103;
	s->zombie.ppid = 102;
	s->zombie.pgid = s->zombie.sid = 100;
	s->zombie.state = CPX__TASK__STATE__ZOMBIE;
	s->zombie.exit_code = 3 << 8;
	s->zombie.exit_signal = 17;
	s->zombie.comm = BYTES("gone");
}

static void init_vma(Cpx__Vma *v, uint64_t start, uint64_t pages, Cpx__Vma__Kind kind,
		     uint32_t prot)
{
	cpx__vma__init(v);
	v->start = start;
	v->end = start + pages * CPX_PAGE_SIZE;
	v->kind = kind;
	v->prot = prot;
}

static void init_memory(struct sample *s)
{
	init_vma(&s->vma[0], 0x555555554000, 4, CPX__VMA__KIND__FILE_PRIVATE,
		 PROT_READ | PROT_EXEC);
	s->vma[0].file = 1;
	init_vma(&s->vma[1], SAMPLE_HEAP, SAMPLE_PAGES, CPX__VMA__KIND__ANON,
		 PROT_READ | PROT_WRITE);
	s->vma[1].name = BYTES("heap");
	init_vma(&s->vma[2], 0x7ffff7000000, 16, CPX__VMA__KIND__SHM_ANON, PROT_READ | PROT_WRITE);
	s->vma[2].object = SAMPLE_OBJECT;
	for (int i = 0; i < 3; i++)
		s->vmas[i] = &s->vma[i];
	for (int i = 0; i < 2; i++) {
		cpx__mm__init(&s->mm[i]);
		s->mm[i].id = i + 1;
		s->mm[i].parent_mm = i;
		s->mm[i].n_vma = 3;
		s->mm[i].vma = s->vmas;
		s->mm[i].exe_file = 1;
		s->mm[i].vdso = 0x7ffff7fc0000;
		s->mm[i].pid = i ? 102 : 100;
	}
	cpx__object__init(&s->object);
	s->object.id = SAMPLE_OBJECT;
	s->object.size = 16 * CPX_PAGE_SIZE;
}

static void init_file(Cpx__File *f, uint32_t id, uint32_t flags)
{
	cpx__file__init(f);
	f->id = id;
	f->flags = flags;
}

static void init_descriptors(struct sample *s)
{
	for (int i = 0; i < 5; i++)
		init_file(&s->file[i], i + 1, i == 0 ? 0 : i == 2 ? 1 : 2);
	cpx__path__init(&s->path);
	s->path.path = BYTES("/usr/bin/sample");
	s->path.mode = S_IFREG | 0755;
	cpx__regular_file__init(&s->regular);
	s->regular.path = &s->path;
	s->file[0].regular = &s->regular;
	cpx__pipe__init(&s->pipe);
	s->pipe.ino = 77;
	s->pipe.capacity = 65536;
	s->pipe.data = BYTES("in the pipe");
	s->file[1].pipe = s->file[2].pipe = &s->pipe;
	for (int i = 0; i < 2; i++) {
		cpx__unix_socket__init(&s->socket[i]);
		s->socket[i].type = 1;
		s->socket[i].ino = 88 + i;
		s->socket[i].peer_ino = 89 - i;
		s->file[3 + i].unix_socket = &s->socket[i];
	}
	for (int i = 0; i < 4; i++) {
		cpx__fd__init(&s->fd[i]);
		s->fd[i].fd = i;
		s->fd[i].file = i + 2;
		s->fd[i].cloexec = i == 3;
		s->fds[i] = &s->fd[i];
	}
	for (int i = 0; i < 2; i++) {
		cpx__fd_table__init(&s->table[i]);
		s->table[i].id = i + 1;
		s->table[i].n_fd = 4;
		s->table[i].fd = s->fds;
	}
}

void sample_init(struct sample *s)
{
	*s = (struct sample){.codec_pages = 48};
	init_attributes(s);
	init_tasks(s);
	init_memory(s);
	init_descriptors(s);
	cpx__host__init(&s->host);
	s->host.arch = (char *)"x86_64";
	s->host.kernel = (char *)"6.1.0";
	s->host.hostname = (char *)"sample";
	s->host.page_size = CPX_PAGE_SIZE;
	s->host.vdso_size = 2 * CPX_PAGE_SIZE;
	s->host.realtime_ns = 1700000000000000000;
	cpx__image__init(&s->image);
	s->image.host = &s->host;
	s->image.root_pid = 100;
	s->image.tasks = 3;
	s->image.threads = 3;
	s->image.memory_bytes = SAMPLE_PAGES * CPX_PAGE_SIZE;
}

uint8_t sample_byte(unsigned page, size_t i)
{
	uint64_t x = (uint64_t)page * CPX_PAGE_SIZE + i;

	if (page % 2 == 0)
		return page + i / 64;
	x *= 0x9e3779b97f4a7c15;
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9;
	return x >> 56;
}

void sample_pages(unsigned first, unsigned n, uint8_t *buf)
{
	for (unsigned p = 0; p < n; p++)
		for (size_t i = 0; i < CPX_PAGE_SIZE; i++)
			buf[p * CPX_PAGE_SIZE + i] = sample_byte(first + p, i);
}

int sample_write_records(const struct sample *s, struct image_writer *w, struct err *err)
{
	const struct {
		enum record_type type;
		const ProtobufCMessage *msg;
	} records[] = {
		{RECORD_IMAGE, &s->image.base},	      {RECORD_TASK, &s->root.base},
		{RECORD_TASK, &s->child.base},	      {RECORD_TASK, &s->zombie.base},
		{RECORD_OBJECT, &s->object.base},     {RECORD_MM, &s->mm[0].base},
		{RECORD_MM, &s->mm[1].base},	      {RECORD_FILE, &s->file[0].base},
		{RECORD_FILE, &s->file[1].base},      {RECORD_FILE, &s->file[2].base},
		{RECORD_FILE, &s->file[3].base},      {RECORD_FILE, &s->file[4].base},
		{RECORD_FD_TABLE, &s->table[0].base}, {RECORD_FD_TABLE, &s->table[1].base},
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(records) && r == 0; i++)
		r = image_write_record(w, records[i].type, records[i].msg, err);
	return r;
}

static int write_data(struct image_writer *w, uint32_t object, uint64_t addr, unsigned page,
		      unsigned n, struct err *err)
{
	struct extent e = {addr + page * CPX_PAGE_SIZE, n * CPX_PAGE_SIZE};
	_cleanup_free_ uint8_t *buf = malloc(e.len);

	if (!buf)
		return err_nomem(err);
	sample_pages(page, n, buf);
	return image_write_chunk(w, object, CHUNK_DATA, &e, 1, buf, err);
}

/* Two extents of one page each, apart. */
static int write_sparse(struct image_writer *w, uint32_t object, struct err *err)
{
	struct extent e[2] = {{SAMPLE_HEAP + 50 * CPX_PAGE_SIZE, CPX_PAGE_SIZE},
			      {SAMPLE_HEAP + 52 * CPX_PAGE_SIZE, CPX_PAGE_SIZE}};
	uint8_t buf[2 * CPX_PAGE_SIZE];

	sample_pages(50, 1, buf);
	sample_pages(52, 1, buf + CPX_PAGE_SIZE);
	return image_write_chunk(w, object, CHUNK_DATA, e, 2, buf, err);
}

int sample_write_chunks(const struct sample *s, struct image_writer *w, struct err *err)
{
	struct extent zero = {0x555555555000, CPX_PAGE_SIZE};
	struct extent inherit = {SAMPLE_HEAP, 2 * CPX_PAGE_SIZE};
	int r = write_data(w, SAMPLE_OBJECT, 0, 2, 1, err);

	if (r == 0)
		r = write_data(w, 1, SAMPLE_HEAP, 0, s->codec_pages, err);
	if (r == 0)
		r = image_write_chunk(w, 1, CHUNK_ZERO, &zero, 1, NULL, err);
	if (r == 0)
		r = write_sparse(w, 1, err);
	if (r == 0)
		r = image_write_chunk(w, 2, CHUNK_INHERIT, &inherit, 1, NULL, err);
	if (r == 0)
		r = write_data(w, 2, SAMPLE_HEAP, 3, 1, err);
	return r;
}

static void cleanup_writer(struct image_writer **w)
{
	image_writer_free(*w);
}

int sample_write(const struct sample *s, int fd, const struct image_writer_options *o,
		 struct err *err)
{
	__attribute__((cleanup(cleanup_writer))) struct image_writer *w = NULL;
	uint64_t size;
	int r = image_writer_new(fd, o, &w, err);

	if (r == 0)
		r = sample_write_records(s, w, err);
	if (r == 0)
		r = sample_write_chunks(s, w, err);
	return r < 0 ? r : image_writer_seal(w, &size, err);
}

static int write_early(const struct sample *s, struct image_writer *w, struct err *err)
{
	struct extent zero = {SAMPLE_HEAP + 11 * CPX_PAGE_SIZE, CPX_PAGE_SIZE};
	int r = write_data(w, 71, SAMPLE_HEAP, 10, 3, err);

	if (r == 0)
		r = write_data(w, 72, 0, 4, 2, err);
	if (r == 0)
		r = image_write_chunk(w, 71, CHUNK_ZERO, &zero, 1, NULL, err);
	return r < 0 ? r : write_data(w, 71, SAMPLE_HEAP, 12, 1, err);
}

static int write_before(struct image_writer *w, uint32_t object, uint64_t addr, unsigned page,
			unsigned n, struct err *err)
{
	struct extent e = {addr + page * CPX_PAGE_SIZE, n * CPX_PAGE_SIZE};

	return image_write_chunk(w, object, CHUNK_BEFORE, &e, 1, NULL, err);
}

static int write_delta_chunks(struct image_writer *w, struct err *err)
{
	int r = write_before(w, SAMPLE_OBJECT, 0, 2, 1, err);

	if (r == 0)
		r = write_before(w, SAMPLE_OBJECT, 0, 4, 2, err);
	if (r == 0)
		r = write_before(w, 1, SAMPLE_HEAP, 0, 2, err);
	if (r == 0)
		r = write_data(w, 1, SAMPLE_HEAP, 2, 2, err);
	if (r == 0)
		r = write_before(w, 1, SAMPLE_HEAP, 10, 3, err);
	return r < 0 ? r : write_before(w, 2, SAMPLE_HEAP, 0, 2, err);
}

int sample_write_delta(struct sample *s, int fd, const struct image_writer_options *o,
		       struct err *err)
{
	__attribute__((cleanup(cleanup_writer))) struct image_writer *w = NULL;
	uint64_t size;
	int r = image_writer_new(fd, o, &w, err);

	s->image.parent_path = (ProtobufCBinaryData){10, (uint8_t *)"base.image"};
	s->mm[0].before_mm = 1;
	s->mm[0].early = 71;
	s->mm[1].before_mm = 2;
	s->object.before_object = SAMPLE_OBJECT;
	s->object.early = 72;
	if (r == 0)
		r = write_early(s, w, err);
	if (r == 0)
		r = sample_write_records(s, w, err);
	if (r == 0)
		r = write_delta_chunks(w, err);
	return r < 0 ? r : image_writer_seal(w, &size, err);
}

int sample_make(const struct sample *s, const struct image_writer_options *o, uint8_t **ret,
		size_t *ret_size, struct err *err)
{
	_cleanup_close_ int fd = memfd_create("sample", MFD_CLOEXEC);
	_cleanup_free_ uint8_t *buf = NULL;
	struct stat st;
	int r = fd < 0 ? err_sys(err, -errno, "memfd") : sample_write(s, fd, o, err);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "fstat");
	buf = malloc(st.st_size);
	if (!buf || pread(fd, buf, st.st_size, 0) != st.st_size)
		return err_set(err, -EIO, "cannot read the sample back");
	*ret = TAKE_PTR(buf);
	*ret_size = st.st_size;
	return 0;
}
