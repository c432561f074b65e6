/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "files_stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Shared with the tasks. */
static struct board {
	char message[1100];
	pid_t pid[STAGE_TASKS], old_pid[STAGE_TASKS];
	volatile int is_ready[STAGE_TASKS], go[STAGE_TASKS], lingers[STAGE_TASKS];
	volatile int is_over;
} * board;

void stage_must(bool cond, const char *text, const char *file, int line)
{
	int saved = errno;

	if (cond)
		return;
	snprintf(board->message, sizeof(board->message), "%s:%d: %s (%s)", file, line, text,
		 strerror(saved));
	_exit(1);
}

int place(int fd, int number)
{
	must(fd >= 0);
	must(dup2(fd, number) == number);
	close(fd);
	return number;
}

pid_t stage_old_pid(int task)
{
	return board->old_pid[task];
}

static int this_task;

void stage_linger(void)
{
	board->lingers[this_task] = 1;
	while (!board->is_over)
		usleep(200);
}

/* ---- before the dump ---- */

static void start_task(const struct scene *s, int task)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return;
	for (; task < MAX(s->ntasks, 1); task++) {
		if (task == 0) {
			close_range(0, ~0U, 0);
			must(open("/dev/null", O_RDWR) == 0 && dup(0) == 1 && dup(0) == 2);
		}
		board->pid[task] = board->old_pid[task] = getpid();
		s->setup(task);
		if (task + 1 < s->ntasks && fork() > 0)
			break; /* the child goes on with the next one */
	}
	for (;;)
		raise(SIGSTOP);
}

/* 0: gone. */
static char state_of(pid_t pid)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat st;

	return pid && proc_open(-1, pid, 0, &dir, NULL) == 0 && proc_stat(dir, &st, NULL) == 0
		       ? st.state
		       : 0;
}

static void wait_stopped(const struct scene *s)
{
	for (int i = 0; i < MAX(s->ntasks, 1); i++)
		while (state_of(board->pid[i]) != 'T') {
			if (board->message[0])
				fail_msg("%s", board->message);
			usleep(500);
		}
}

static void kill_tasks(void)
{
	for (int i = STAGE_TASKS; i-- > 0;)
		if (board->pid[i])
			kill(board->pid[i], SIGKILL);
	while (waitpid(board->pid[0], NULL, 0) < 0 && errno == EINTR)
		;
	for (int i = 1; i < STAGE_TASKS; i++) /* init's, which may take its time */
		while (state_of(board->pid[i]) && state_of(board->pid[i]) != 'Z')
			usleep(500);
}

/* ---- the dump ---- */

struct dumped {
	struct tracee tracee[STAGE_TASKS];
	struct tracee_thread thread[STAGE_TASKS];
	struct tracee *task[STAGE_TASKS];
	struct tree tree;
	struct refusals refusals;
	Cpx__FdTable *table[STAGE_TASKS];
	struct dump_ctx c;
};

static void make_tree(const struct scene *s, struct dumped *d)
{
	for (int i = 0; i < MAX(s->ntasks, 1); i++) {
		struct tracee *t = &d->tracee[i];

		d->thread[i].tid = board->pid[i];
		*t = (struct tracee){.pid = board->pid[i],
				     .comm = "scene",
				     .thread = &d->thread[i],
				     .nthreads = 1,
				     .mm_owner = t,
				     .pidfd = syscall(SYS_pidfd_open, board->pid[i], 0)};
		assert_true(t->pidfd >= 0);
		d->task[i] = t;
	}
	d->tree = (struct tree){.task = d->task, .n = MAX(s->ntasks, 1)};
	d->c = (struct dump_ctx){.tree = &d->tree,
				 .refusals = &d->refusals,
				 .proc_fd = open("/proc", O_PATH),
				 .ghost_limit = s->ghost_limit ? s->ghost_limit : 1 << 20};
}

static void check_err(int r, const struct err *err)
{
	if (r < 0)
		fail_msg("%s", err->msg);
}

static uint32_t collect(const struct scene *s, struct dumped *d)
{
	struct err err = ERR_INIT;
	uint32_t exe = 0;
	struct stat st;

	for (size_t i = 0; i < d->tree.n; i++)
		check_err(files_collect(&d->c, d->task[i], &d->table[i], &err), &err);
	assert_int_equal(stat("/bin/true", &st), 0);
	check_err(files_add_mapped(&d->c, d->task[0], "/bin/true", &st, false, false, true,
				   "self/exe", &exe, &err),
		  &err);
	check_err(files_complete(&d->c, &err), &err);
	if (s->inspect)
		s->inspect(&d->c);
	return exe;
}

static void check_refusals(const struct refusals *r, const char *expected)
{
	char line[2048] = "";

	for (size_t i = 0; i < r->n; i++) {
		refusal_format(&r->item[i], line, sizeof(line));
		if (!expected || !strstr(line, expected))
			fail_msg("refused: %s", line);
	}
	if (expected && r->n == 0)
		fail_msg("not refused: %s", expected);
}

/* ---- the image ---- */

static uint8_t regs[27 * 8];

static void fill_task(Cpx__Task *t, Cpx__Thread *th, Cpx__Thread **ths)
{
	static Cpx__Fs fs = CPX__FS__INIT;
	static Cpx__Signals signals = CPX__SIGNALS__INIT;
	static Cpx__ThreadSignals thread_signals = CPX__THREAD_SIGNALS__INIT;
	static Cpx__ThreadMemory memory = CPX__THREAD_MEMORY__INIT;
	static Cpx__Creds creds = CPX__CREDS__INIT;
	static Cpx__Sched sched = CPX__SCHED__INIT;
	static Cpx__ThreadFlags thread_flags = CPX__THREAD_FLAGS__INIT;
	static Cpx__ProcessFlags flags = CPX__PROCESS_FLAGS__INIT;

	t->fs = &fs;
	t->signals = &signals;
	t->flags = &flags;
	t->n_thread = 1;
	t->thread = ths;
	ths[0] = th;
	th->gp_regs = (ProtobufCBinaryData){sizeof(regs), regs};
	th->signals = &thread_signals;
	th->memory = &memory;
	th->creds = &creds;
	th->sched = &sched;
	th->flags = &thread_flags;
}

static int write_tasks(const struct dumped *d, uint32_t exe, struct image_writer *w,
		       struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < d->tree.n; i++) {
		Cpx__Task t = CPX__TASK__INIT;
		Cpx__Thread th = CPX__THREAD__INIT, *ths[1];
		Cpx__Mm mm = CPX__MM__INIT;

		fill_task(&t, &th, ths);
		t.pid = th.tid = mm.pid = d->task[i]->pid;
		t.ppid = i ? d->task[i - 1]->pid : 0;
		t.mm = mm.id = i + 1;
		t.fd_table = d->table[i]->id;
		mm.exe_file = exe;
		r = image_write_record(w, RECORD_TASK, &t.base, err);
		if (r == 0)
			r = image_write_record(w, RECORD_MM, &mm.base, err);
	}
	return r;
}

static int write_all(struct dumped *d, uint32_t exe, struct image_writer *w, struct err *err)
{
	Cpx__Host host = CPX__HOST__INIT;
	Cpx__Image image = CPX__IMAGE__INIT;
	struct object_stats stats;
	uint64_t bytes;
	int r;

	host.arch = (char *)"x86_64";
	host.page_size = CPX_PAGE_SIZE;
	image.host = &host;
	image.root_pid = d->task[0]->pid;
	image.tasks = image.threads = d->tree.n;
	r = image_write_record(w, RECORD_IMAGE, &image.base, err);
	if (r == 0)
		r = write_tasks(d, exe, w, err);
	for (size_t i = 0; r == 0 && i < objects_count(&d->c); i++)
		r = image_write_record(w, RECORD_OBJECT, &objects_get(&d->c, i)->base, err);
	for (size_t i = 0; r == 0 && i < files_ntables(&d->c); i++)
		r = image_write_record(w, RECORD_FD_TABLE, &files_table(&d->c, i)->base, err);
	for (size_t i = 0; r == 0 && i < files_count(&d->c); i++)
		r = image_write_record(w, RECORD_FILE, &files_get(&d->c, i)->base, err);
	if (r == 0)
		r = objects_write(&d->c, w, NULL, &stats, err);
	return r < 0 ? r : image_writer_seal(w, &bytes, err);
}

static int write_image(struct dumped *d, uint32_t exe)
{
	struct image_writer_options o = {.codec = CODEC_LZ4};
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct err err = ERR_INIT;
	struct image_writer *w;

	check_err(image_writer_new(fd, &o, &w, &err), &err);
	check_err(write_all(d, exe, w, &err), &err);
	image_writer_free(w);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

/* ---- the restore ---- */

static struct batch local_batch(void)
{
	/* Small on purpose: tables must not need to fit. */
	struct batch b = {.max = 40, .size = 4096};

	b.call = calloc(b.max, sizeof(*b.call));
	b.data = calloc(1, b.size);
	must(b.call && b.data);
	b.remote_data = (uint64_t)b.data;
	return b;
}

static void run(struct batch *b)
{
	must(!b->overflow);
	for (unsigned i = 0; i < b->n; i++) {
		struct call *c = &b->call[i];

		c->ret = syscall(c->nr, c->arg[0], c->arg[1], c->arg[2], c->arg[3], c->arg[4],
				 c->arg[5]);
		if (c->ret < 0)
			c->ret = -errno;
	}
}

static void must_r(int r, const struct err *err)
{
	if (r >= 0)
		return;
	snprintf(board->message, sizeof(board->message), "%s", err->msg);
	_exit(1);
}

static void become(struct restore_ctx *c, const Cpx__Task *t)
{
	const Cpx__FdTable *table = image_fd_table(c->image, t->fd_table);
	struct batch b = local_batch();
	struct err err = ERR_INIT;
	size_t cursor = 0;
	int r;

	do {
		r = files_install(c, table, &b, -1, &cursor, &err);
		must_r(r, &err);
		run(&b);
		for (unsigned i = 0; i < b.n; i++)
			must(b.call[i].ret >= 0);
		batch_reset(&b);
	} while (r == 1);
	cursor = 0;
	do {
		r = files_settle(c, t, table, &b, &cursor, &err);
		must_r(r, &err);
		run(&b);
		must_r(files_settled(c, t, &b, &err), &err);
		batch_reset(&b);
	} while (r == 1);
}

static void act(const struct scene *s, struct restore_ctx *c, int task)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	board->pid[task] = pid;
	if (pid)
		return;
	this_task = task;
	become(c, c->image->task[task]);
	board->is_ready[task] = 1;
	while (!board->go[task])
		usleep(200);
	s->verify(task);
	_exit(0);
}

static void await(int task, volatile int *until)
{
	int status = 0;
	pid_t pid = 0;

	while (!(until && *until) && pid == 0) {
		pid = waitpid(board->pid[task], &status, WNOHANG);
		usleep(200);
	}
	if (status)
		fail_msg("task %d: status %x: %s", task, status, board->message);
}

/* All tasks have their descriptors before the first one verifies, and we have none of them. */
static void verify(const struct scene *s, struct restore_ctx *c)
{
	int n = c->image->ntasks;

	for (int i = 0; i < n; i++)
		act(s, c, i);
	for (int i = 0; i < n; i++)
		await(i, &board->is_ready[i]);
	files_close_all(c);
	objects_close_all(c);
	for (int i = 0; i < n; i++) {
		board->go[i] = 1;
		await(i, &board->lingers[i]);
	}
	board->is_over = 1;
	for (int i = 0; i < n; i++)
		if (board->lingers[i])
			await(i, NULL);
}

static void fill_objects(struct restore_ctx *c)
{
	uint8_t *buf = malloc(CHUNK_MAX);
	struct err err = ERR_INIT;

	for (size_t i = 0; i < c->image->nchunks; i++) {
		check_err(image_read_chunk(&c->image->chunk[i], buf, &err), &err);
		check_err(objects_fill(c, &c->image->chunk[i], buf, &err), &err);
	}
	free(buf);
	check_err(objects_finish(c, &err), &err);
}

static void restore(const struct scene *s, int fd)
{
	struct refusals refusals = {0};
	struct err err = ERR_INIT;
	struct source src;
	struct image *im;

	check_err(source_open_fd(&src, fd, &err), &err);
	check_err(image_open(&src, NULL, &im, &err), &err);
	struct restore_ctx c = {.image = im,
				.refusals = &refusals,
				.proc_fd = -1,
				.is_privileged = geteuid() == 0,
				.tty_fd = s->tty_fd - 1,
				.fd_base = MAX(files_fd_base(im), 1000)};

	check_err(files_check(&c, &err), &err);
	check_err(objects_check(&c, &err), &err);
	check_refusals(&refusals, s->refused_restore);
	if (!s->refused_restore) {
		check_err(files_open_all(&c, &err), &err);
		check_err(files_fill(&c, &err), &err);
		check_err(objects_create(&c, 0x300000000000, &err), &err);
		fill_objects(&c);
		if (s->restored)
			s->restored(&c);
		for (size_t i = 0; i < im->nfiles; i++)
			assert_true(c.file_fd[i] >= c.fd_base);
		verify(s, &c);
	}
	refusals_release(&refusals);
	image_free(im);
	source_release(&src);
}

void stage_play(const struct scene *s)
{
	struct dumped *d = calloc(1, sizeof(*d));
	struct err err = ERR_INIT;
	uint32_t exe;
	int fd = -1;

	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	assert_ptr_not_equal(board, MAP_FAILED);
	start_task(s, 0);
	wait_stopped(s);
	make_tree(s, d);
	exe = collect(s, d);
	check_refusals(&d->refusals, s->refused);
	if (!s->refused) {
		check_err(objects_copy(&d->c, &err), &err);
		fd = write_image(d, exe);
	}
	files_release(&d->c);
	objects_release(&d->c);
	kill_tasks();
	if (s->between)
		s->between();
	if (!s->refused)
		restore(s, fd);
	refusals_release(&d->refusals);
	for (size_t i = 0; i < d->tree.n; i++)
		close(d->tracee[i].pidfd);
	close(d->c.proc_fd);
	if (fd >= 0)
		close(fd);
	munmap(board, sizeof(*board));
	free(d);
}
