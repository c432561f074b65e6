/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What waits in a pseudo-terminal of the tree: input that was typed ahead, output that was not read.
 *
 * It can only be looked at by taking it. So one batch in a task that has the master takes it and puts
 * it back, and is run to its end even if we are killed meanwhile; all others stand still. What it took is read out
 * of the mailbox afterwards. With drivers/tty/n_tty.c and pty.c of the kernel:
 *
 *  - The slave is opened without blocking by TIOCGPTPEER, for this batch only.
 *  - Lines are read line by line in the modes that they were typed in (which also waits for what is on its way), then,
 *    without ICANON, the line that is not complete yet.
 *  - What is first may be bytes that a change to ICANON has made a line, whatever is in them; so the first line is put back by such a
 *    change. (An end of file that ended it reads the same, unless the program leaves ICANON before it reads it.)
 *  - It is typed again in modes in which only ^V, ^D, ^S, ^Q and the ends of lines mean something: ^V before each of these that
 *    is none, ^D after what was ended by an end of file. Nothing is echoed, and no signal sent.
 *  - The line discipline works later than write(2). It is through when it has stopped at the ^S that follows,
 *    which packet mode tells; it goes on at the ^Q.
 *  - Output goes back without OPOST, when the modes are neutral anyway.
 *
 * At restore the same is typed into the new pair.
 *
 * Not seen, and lost: a line that is not complete, when nothing else waits; a ^V that waits for its character.
 * An edge-triggered epoll may report once more.
 */
#include "res/ptyqueue.h"
#include "tracee/mailbox.h"

#include <asm/termbits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

enum { QUOTE = 'V' & 31, END = 'D' & 31, STOP = 'S' & 31, START = 'Q' & 31 };
#define KINDS "\n\x16\x04\x13\x11" /* what means something in the neutral modes */

/* The line discipline has room for 4095 bytes; the rest waits in buffers before it, which must be empty while modes are others. */
#define MAX_INPUT_BYTES 3000

/* Of what is drained: it came from 4096 bytes and 8192 and a last one of buffers, and each may be quoted. */
#define DRAIN_SIZE  (28 << 10)
#define READ_SIZE   (8 << 10)
#define LINE_READS  (16 << 10)
#define RAW_READS   64
#define PUT_BYTES   1024
/* What is waited for comes; but a machine may be busy. */
#define PUT_TRIES   60000
#define PATIENCE_MS 60000

#define QUEUES (UINT64_MAX - 1) /* "device" of struct ends under which queues are noted */

/* ---- dump: seen from outside ---- */

/* TIOCSLCKTRMIOS of ioctl_tty(2): modes that cannot be changed. */
static bool is_locked(int fd)
{
	static const struct termios none;
	struct termios locks = {0};

	return ioctl(fd, TIOCGLCKTRMIOS, &locks) == 0 && memcmp(&locks, &none, sizeof(none)) != 0;
}

/* poll(2) first: it lets what is on its way arrive (tty_buffer_flush_work() in n_tty_poll()). */
int ptyqueue_look(struct dump_ctx *c, const struct fd_probe *p, uint32_t index, bool is_master,
		  struct err *err)
{
	struct pollfd pfd = {.fd = p->dup, .events = POLLIN | POLLPRI};
	struct ends *e = files_ends(c, QUEUES, index);
	int pending = 0;

	if (!e)
		return err_nomem(err);
	poll(&pfd, 1, 0);
	ioctl(p->dup, FIONREAD, &pending);
	if (pending > 0 || (pfd.revents & POLLPRI) ||
	    ((pfd.revents & POLLIN) && !(pfd.revents & POLLHUP)))
		e->has_unread = true;
	e->has_status |= (pfd.revents & POLLPRI) != 0;
	e->is_locked |= is_locked(p->dup);
	e->is_signalled |= (p->flags & O_ASYNC) != 0;
	if (!is_master)
		e->unread = MAX(e->unread, (uint32_t)pending);
	return 0;
}

struct holder {
	struct tracee *t;
	int fd;	  /* of the master */
	int free; /* the number that a new descriptor will get */
};

static int lowest_free(const Cpx__FdTable *t)
{
	uint32_t n = 0;

	while (files_at(t, n))
		n++;
	return n;
}

/* The session of the terminal is under its job control: a task of it might be stopped, or read nothing. */
static bool is_of_session(const struct dump_ctx *c, const struct tracee *t, uint32_t sid)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat st;

	if (!sid)
		return false;
	return proc_open(c->proc_fd, t->pid, 0, &dir, NULL) < 0 || proc_stat(dir, &st, NULL) < 0 ||
	       (st.tty_nr && st.sid == (pid_t)sid);
}

/* Not when stopped: it would run nothing were we killed. Not under seccomp, which would forbid then what it allows now. */
static bool can_run(const struct tracee *t)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if (!t->thread[i].is_exited)
			return t->mm_owner == t && !t->thread[i].in_group_stop &&
			       t->thread[i].seccomp == 0;
	return false;
}

static bool find_holder(const struct dump_ctx *c, const Cpx__File *f, struct holder *ret)
{
	for (size_t i = 0; i < c->files->ntables; i++) {
		const Cpx__FdTable *table = c->files->table[i].table;
		struct tracee *t = tree_find(c->tree, c->files->table[i].t->pid);

		if (!t || !can_run(t) || is_of_session(c, t, f->pty_master->sid))
			continue;
		for (size_t k = 0; k < table->n_fd; k++)
			if (table->fd[k]->file == f->id) {
				*ret = (struct holder){t, table->fd[k]->fd, lowest_free(table)};
				return true;
			}
	}
	return false;
}

static bool is_slave_open(const struct dump_ctx *c, const Cpx__File *f, bool *ret_exclusive)
{
	bool is_open = false;

	*ret_exclusive = false;
	for (size_t i = 0; i < c->files->n; i++) {
		const Cpx__File *s = c->files->entry[i]->file;

		if (pty_master_of(c, s) != f)
			continue;
		is_open = true;
		*ret_exclusive |= s->terminal->exclusive;
	}
	return is_open;
}

static struct termios2 modes_of(const Cpx__PtyMaster *b)
{
	struct termios2 modes = {0};

	memcpy(&modes, b->termios.data, MIN(sizeof(modes), b->termios.len));
	return modes;
}

static bool is_odd_end(const struct termios2 *m, int which)
{
	uint8_t c = m->c_cc[which];

	return (m->c_lflag & ICANON) && c && strchr(&KINDS[1], c);
}

/* Why it cannot be taken and put back; NULL: it can. */
static const char *obstacle(const struct dump_ctx *c, const Cpx__File *f, const struct ends *e)
{
	const Cpx__PtyMaster *b = f->pty_master;
	struct termios2 modes = modes_of(b);
	struct holder h;
	bool exclusive;

	if (e->has_status)
		return "a change of state (packet mode) is unread";
	if (e->is_signalled)
		return "a signal tells of what arrives (O_ASYNC)";
	if (!is_slave_open(c, f, &exclusive) || b->hup)
		return "its other side is not open";
	if (exclusive || b->exclusive || b->locked)
		return "its other side cannot be opened again";
	if (e->is_locked || (modes.c_lflag & EXTPROC) || is_odd_end(&modes, VEOL) || is_odd_end(&modes, VEOL2))
		return "its modes are unusual";
	if (e->unread > MAX_INPUT_BYTES)
		return "that is too much";
	if ((f->flags & O_ACCMODE) != O_RDWR || !find_holder(c, f, &h))
		return "there is no task that could put it back";
	return NULL;
}

static int refuse_queue(struct dump_ctx *c, const Cpx__File *f, const char *why, struct err *err)
{
	c->npassing++;
	if (files_refuse_entry(c, f, "pseudo-terminal master",
			       "cannot be checkpointed: /dev/pts/%u holds what was written at one "
			       "end and not yet read at the other, and %s: try again when it is idle",
			       f->pty_master->index, why) < 0)
		return err_nomem(err);
	return 0;
}

int ptyqueue_complete(struct dump_ctx *c, const Cpx__File *f, struct err *err)
{
	const struct ends *e = files_ends(c, QUEUES, f->pty_master->index);
	const char *why = e && e->has_unread ? obstacle(c, f, e) : NULL;

	if (!e)
		return err_nomem(err);
	return why ? refuse_queue(c, f, why, err) : 0;
}

/* ---- modes ---- */

static struct termios2 raw_modes(const struct termios2 *m)
{
	struct termios2 raw = *m;

	raw.c_iflag = raw.c_oflag = raw.c_lflag = 0;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	return raw;
}

static struct termios2 neutral_modes(const struct termios2 *m)
{
	struct termios2 neutral = *m;

	neutral.c_iflag = IXON;
	neutral.c_oflag = 0;
	neutral.c_lflag = ICANON | IEXTEN;
	memset(neutral.c_cc, 0, sizeof(neutral.c_cc));
	neutral.c_cc[VLNEXT] = QUOTE;
	neutral.c_cc[VEOF] = END;
	neutral.c_cc[VSTOP] = STOP;
	neutral.c_cc[VSTART] = START;
	if (m->c_lflag & ICANON)
		neutral.c_cc[VEOL] = m->c_cc[VEOL];
	if ((m->c_lflag & ICANON) && (m->c_lflag & IEXTEN))
		neutral.c_cc[VEOL2] = m->c_cc[VEOL2];
	return neutral;
}

/* What each byte is when it is typed in the neutral modes. */
static struct drain_rules line_rules(const struct termios2 *neutral)
{
	struct drain_rules r = {.quote = QUOTE, .end = END, .when = DRAIN_IF_UNENDED};

	for (const char *k = KINDS; *k; k++)
		r.kind[(uint8_t)*k] = 1;
	r.kind['\n'] = DRAIN_ENDS;
	if (neutral->c_cc[VEOL])
		r.kind[neutral->c_cc[VEOL]] = DRAIN_ENDS;
	if (neutral->c_cc[VEOL2])
		r.kind[neutral->c_cc[VEOL2]] = DRAIN_ENDS;
	return r;
}

static struct drain_rules first_rules(const struct termios2 *neutral)
{
	struct drain_rules r = line_rules(neutral);

	r.when = DRAIN_IF_EMPTY;
	return r;
}

static struct drain_rules part_rules(const struct termios2 *neutral)
{
	struct drain_rules r = line_rules(neutral);

	for (size_t i = 0; i < sizeof(r.kind); i++)
		r.kind[i] = r.kind[i] != 0;
	r.when = 0;
	return r;
}

/* ---- the calls ---- */

/* A pair in the task that runs the batch: its numbers there, and how it is to be left. */
struct pair {
	int master, slave;
	uint32_t flags; /* of the master */
	int packet;
	struct termios2 modes;
	uint64_t tmp; /* READ_SIZE bytes */
};

static void set_modes(struct batch *b, const struct pair *p, const struct termios2 *m)
{
	BATCH_CALL(b, SYS_ioctl, p->slave, TCSETS2, batch_in(b, m, sizeof(*m)));
}

static void set_packet(struct batch *b, const struct pair *p, int on)
{
	BATCH_CALL(b, SYS_ioctl, p->master, TIOCPKT, batch_in(b, &on, sizeof(on)));
}

static unsigned await(struct batch *b, int fd, short events, int ms)
{
	struct pollfd pfd = {.fd = fd, .events = events};

	return BATCH_CALL(b, SYS_poll, batch_in(b, &pfd, sizeof(pfd)), 1, ms);
}

static void type(struct batch *b, const struct pair *p, char c)
{
	BATCH_CALL(b, SYS_write, p->master, batch_in(b, &c, 1), 1);
}

/* Where the iovec is that call i has left, or that is made of local data. */
static uint64_t result_of(const struct batch *b, unsigned i)
{
	return batch_call_at(b, i) + offsetof(struct call, arg[5]);
}

static uint64_t vector_of(struct batch *b, const uint8_t *data, size_t len)
{
	uint64_t iov[2] = {batch_in(b, data, len), len};

	return batch_in(b, iov, sizeof(iov));
}

static unsigned put(struct batch *b, int fd, uint64_t vector)
{
	return BATCH_CALL(b, CALL_PUT, fd, vector, PUT_BYTES, PUT_TRIES);
}

static void begin(struct batch *b, const struct pair *p)
{
	BATCH_CALL(b, SYS_fcntl, p->master, F_SETFL, p->flags | O_NONBLOCK);
	set_packet(b, p, 0); /* it would be told of all that follows */
}

/* Puts it back, and waits until the line discipline has it. Packet mode is off, and entered only to see the stop; turning it on
 * forgets what it had to tell. */
static void put_input(struct batch *b, const struct pair *p, const uint64_t *vector, size_t n)
{
	set_packet(b, p, 1);
	for (size_t i = 0; i < n; i++)
		put(b, p->master, vector[i]);
	type(b, p, STOP);
	await(b, p->master, POLLIN | POLLPRI, PATIENCE_MS); /* pty_stop() wakes for EPOLLIN only */
	set_packet(b, p, 0);
	type(b, p, START);
	await(b, p->slave, POLLOUT, PATIENCE_MS);
}

static bool has_lines(const struct pair *p)
{
	return p->modes.c_lflag & ICANON;
}

/* What was taken: vectors of the first line, of the others, of the one that is not complete. */
struct taken {
	uint64_t input[3], output;
};

/* n_tty_set_termios(): the change to ICANON makes a line of what is there. */
static void put_back(struct batch *b, const struct pair *p, const struct taken *t)
{
	struct termios2 neutral = neutral_modes(&p->modes), raw = raw_modes(&p->modes);

	set_modes(b, p, &neutral);
	if (has_lines(p)) {
		put_input(b, p, t->input, 1);
		set_modes(b, p, &raw);
		set_modes(b, p, &neutral);
	}
	put_input(b, p, t->input + 1, 2);
	put(b, p->slave, t->output);
	set_modes(b, p, &p->modes);
	if (p->packet)
		set_packet(b, p, 1);
	BATCH_CALL(b, SYS_fcntl, p->master, F_SETFL, p->flags);
}

/* ---- dump: taking it ---- */

struct taking {
	unsigned open, is_writable; /* calls */
	unsigned first_line, lines, part, output;
	unsigned first, end; /* of those that may not fail */
};

static unsigned drain(struct batch *b, const struct pair *p, int fd, const struct drain_rules *r,
		      unsigned reads)
{
	return BATCH_CALL(b, CALL_DRAIN, fd, p->tmp, READ_SIZE, reads, batch_in(b, r, sizeof(*r)),
			  batch_out(b, DRAIN_SIZE));
}

static void take_input(struct batch *b, const struct pair *p, struct taking *t)
{
	struct termios2 neutral = neutral_modes(&p->modes), raw = raw_modes(&p->modes);
	struct drain_rules lines = line_rules(&neutral), part = part_rules(&neutral);
	struct drain_rules first = first_rules(&neutral);

	t->first_line = drain(b, p, p->slave, &first, has_lines(p) ? 1 : 0);
	t->lines = drain(b, p, p->slave, &lines, has_lines(p) ? LINE_READS : 0);
	if (has_lines(p))
		set_modes(b, p, &raw);
	t->part = drain(b, p, p->slave, &part, RAW_READS);
}

/* Echoes that found no room are written before anything else is. */
static void take_output(struct batch *b, const struct pair *p, struct taking *t)
{
	struct drain_rules plain = {0};

	BATCH_CALL(b, SYS_write, p->slave, p->tmp, 0);
	t->output = drain(b, p, p->master, &plain, RAW_READS);
}

/* Unless call `of` gives `value`, all calls between here and skip_end() are left out. */
static unsigned skip_unless(struct batch *b, unsigned of, uint64_t value)
{
	return BATCH_CALL(b, CALL_SKIP, batch_call_at(b, of) + offsetof(struct call, ret), value);
}

static void skip_end(struct batch *b, unsigned skip)
{
	b->call[skip].arg[2] = b->n - skip - 1;
}

static void build(struct batch *b, struct pair *p, struct taking *t)
{
	unsigned no_slave, not_writable;
	struct taken taken;

	p->tmp = batch_out(b, READ_SIZE);
	t->open = BATCH_CALL(b, SYS_ioctl, p->master, TIOCGPTPEER,
			     O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	no_slave = skip_unless(b, t->open, p->slave);
	t->is_writable = await(b, p->slave, POLLOUT, 0);
	not_writable = skip_unless(b, t->is_writable, 1);
	t->first = b->n;
	begin(b, p);
	take_input(b, p, t);
	take_output(b, p, t);
	taken = (struct taken){{result_of(b, t->first_line), result_of(b, t->lines),
				result_of(b, t->part)},
			       result_of(b, t->output)};
	put_back(b, p, &taken);
	t->end = b->n;
	skip_end(b, not_writable);
	BATCH_CALL(b, SYS_close, p->slave);
	skip_end(b, no_slave);
}

static int check_calls(const struct batch *b, const struct taking *t, struct err *err)
{
	for (unsigned i = t->first; i < t->end; i++) {
		const struct call *call = &b->call[i];

		if (call->ret < 0)
			return err_sys(err, call->ret, "cannot put back what waits in it (call %u)",
				       i);
		if ((call->nr == CALL_PUT && call->ret > 0) ||
		    (call->nr == SYS_poll && call->ret == 0))
			return err_set(err, -EIO, "cannot put back what waits in it (call %u)", i);
	}
	return 0;
}

static size_t length_of(const struct batch *b, unsigned i)
{
	return b->call[i].ret;
}

/* Of one of its parts, at `at`. */
static size_t keep_part(const struct batch *b, unsigned i, Cpx__PtyMaster *m, size_t at)
{
	memcpy(m->input.data + at, batch_local(b, b->call[i].arg[5]), length_of(b, i));
	return at + length_of(b, i);
}

static int keep(const struct batch *b, const struct taking *t, Cpx__PtyMaster *m, struct err *err)
{
	const struct call *output = &b->call[t->output];
	size_t at;

	free(m->input.data);
	m->input.data = malloc(3 * DRAIN_SIZE);
	if (!m->input.data ||
	    msg_set_bytes(&m->output, batch_local(b, output->arg[5]), output->ret) < 0)
		return err_nomem(err);
	m->first_line = keep_part(b, t->first_line, m, 0);
	at = keep_part(b, t->lines, m, m->first_line);
	m->input.len = keep_part(b, t->part, m, at);
	return 0;
}

/* Never, if the table of a task is as we have read it. */
static int close_stray(struct tracee *t, int fd, struct err *err)
{
	struct batch b = tracee_batch(t);
	int r;

	BATCH_CALL(&b, SYS_close, fd);
	r = tracee_run(t, &b, err);
	return r < 0 ? r : err_set(err, -EIO, "fd %d was free", fd);
}

int ptyqueue_borrow(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const struct ends *e = files_ends(c, QUEUES, f->pty_master->index);
	struct err why = ERR_INIT;
	struct taking t = {0};
	struct holder h;
	struct pair p;
	struct batch b;
	int r;

	if (!e || !e->has_unread || !find_holder(c, f, &h))
		return 0;
	p = (struct pair){.master = h.fd,
			  .slave = h.free,
			  .flags = f->flags,
			  .packet = f->pty_master->packet,
			  .modes = modes_of(f->pty_master)};
	b = tracee_batch(h.t);
	build(&b, &p, &t);
	r = borrow_run(h.t, &b, &why);
	if (r == -EPERM)
		return refuse_queue(c, f, why.msg, err);
	if (r < 0)
		return err_set(err, r, "%s", why.msg);
	if (batch_ret(&b, t.open) >= 0 && batch_ret(&b, t.open) != p.slave)
		return close_stray(h.t, batch_ret(&b, t.open), err);
	if (batch_ret(&b, t.open) < 0)
		return refuse_queue(c, f, "its other side cannot be opened again", err);
	if (batch_ret(&b, t.is_writable) != 1)
		return refuse_queue(c, f, "its output is stopped", err);
	r = check_calls(&b, &t, err);
	return r < 0 ? r : keep(&b, &t, f->pty_master, err);
}

/* ---- restore ---- */

/* As the loop runs it (src/arch). */
static int64_t put_here(const struct call *c)
{
	const uint64_t *iov = (const uint64_t *)c->arg[1];
	size_t done = 0;

	for (uint64_t tries = c->arg[3]; done < iov[1] && tries > 0;) {
		ssize_t n = write(c->arg[0], (char *)iov[0] + done, MIN(iov[1] - done, c->arg[2]));

		if (n > 0)
			done += n;
		else if (tries-- > 0)
			poll(NULL, 0, 1);
	}
	return iov[1] - done;
}

static void run_here(struct batch *b)
{
	for (unsigned i = 0; i < b->n; i++) {
		struct call *c = &b->call[i];
		long r;

		if (c->nr == CALL_PUT) {
			c->ret = put_here(c);
			continue;
		}
		r = syscall(c->nr, c->arg[0], c->arg[1], c->arg[2]);
		c->ret = r < 0 ? -errno : r;
	}
}

#define HERE_CALLS 32
#define HERE_DATA  (128 << 10)

int ptyqueue_fill(const Cpx__File *f, int master, int slave, struct err *err)
{
	_cleanup_free_ struct call *call = calloc(1, HERE_CALLS * sizeof(*call) + HERE_DATA);
	const Cpx__PtyMaster *m = f->pty_master;
	struct pair p = {master, slave, f->flags & ~(uint32_t)O_ASYNC, m->packet, modes_of(m), 0};
	struct taking t = {0};
	struct batch b;
	size_t first = MIN(m->first_line, m->input.len);
	struct taken taken = {0};

	if (!call)
		return err_nomem(err);
	b = (struct batch){.call = call,
			   .max = HERE_CALLS,
			   .data = (uint8_t *)(call + HERE_CALLS),
			   .remote_data = (uintptr_t)(call + HERE_CALLS),
			   .size = HERE_DATA};
	begin(&b, &p);
	taken.input[0] = vector_of(&b, m->input.data, first);
	taken.input[1] = vector_of(&b, m->input.data + first, m->input.len - first);
	taken.input[2] = vector_of(&b, NULL, 0);
	taken.output = vector_of(&b, m->output.data, m->output.len);
	put_back(&b, &p, &taken);
	if (b.overflow)
		return err_set(err, -E2BIG, "too much waits in a pseudo-terminal");
	run_here(&b);
	t.end = b.n;
	return check_calls(&b, &t, err);
}
