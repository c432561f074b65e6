/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Terminals. A tree is restored onto the terminal that cpx is run from, whatever it was dumped on,
 * and onto /dev/null (which reads as the end of file) where there is none.
 *
 * Carried: the modes (termios2), the foreground group, exclusive mode; a window of another size is
 * told by SIGWINCH. Cannot be carried: what was typed and not yet read, what is on the screen.
 * Refused: a second terminal in one tree, unless the tree has its master too (pty.c).
 */
#include "res/outputs.h"
#include "res/ptyqueue.h"

#include <asm/termbits.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#define TERMINALS UINT64_MAX /* "device" of struct ends under which terminals are counted */

static ProtobufCMessage *terminal_body(const Cpx__File *f)
{
	return f->terminal ? &f->terminal->base : NULL;
}

/* Documentation/admin-guide/devices.txt: consoles and serial lines, /dev/tty and its like,
 * pseudo-terminals. */
static bool is_tty_major(unsigned m)
{
	return m == 4 || m == 5 || (m >= 128 && m <= 143);
}

/* Never terminals, though btrfs-control takes every ioctl. */
#define MISC_MAJOR 10

static bool terminal_match(const struct fd_probe *p)
{
	struct termios2 t;

	return S_ISCHR(p->st.st_mode) &&
	       (is_tty_major(major(p->st.st_rdev)) ||
		(major(p->st.st_rdev) != MISC_MAJOR && ioctl(p->dup, TCGETS2, &t) == 0));
}

/* ---- dump ---- */

/* Session and foreground group, which the terminal tells only those whose controlling terminal it
 * is: from any task of the tree that has it. */
static void dump_session(struct dump_ctx *c, Cpx__Terminal *b, unsigned dev)
{
	for (size_t i = 0; c->tree && i < c->tree->n; i++) {
		_cleanup_close_ int dir = -1;
		struct proc_stat st;

		if (proc_open(c->proc_fd, c->tree->task[i]->pid, 0, &dir, NULL) < 0 ||
		    proc_stat(dir, &st, NULL) < 0)
			continue;
		if ((unsigned)st.tty_nr == dev) {
			b->foreground_pgid = MAX(st.tpgid, 0);
			b->sid = st.sid;
			return;
		}
	}
}

static int dump_modes(const struct fd_probe *p, Cpx__Terminal *b, struct err *err)
{
	struct termios2 modes;
	struct winsize size = {0};
	int exclusive = 0;

	if (ioctl(p->dup, TCGETS2, &modes) < 0)
		return err_sys(err, -errno, "cannot read the modes of the terminal");
	ioctl(p->dup, TIOCGWINSZ, &size);
	ioctl(p->dup, TIOCGEXCL, &exclusive);
	b->exclusive = exclusive;
	if (msg_set_bytes(&b->path, p->link, strlen(p->link)) < 0 ||
	    msg_set_bytes(&b->termios, &modes, sizeof(modes)) < 0 ||
	    msg_set_bytes(&b->winsize, &size, sizeof(size)) < 0)
		return err_nomem(err);
	return 0;
}

static int terminal_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f,
			 struct err *err)
{
	Cpx__Terminal *b = f->terminal = msg_new(sizeof(*b), (void (*)(void *))cpx__terminal__init);
	unsigned dev = 0;
	struct ends *ends;
	int r;

	if (!b)
		return err_nomem(err);
	if (pty_is_hung_up(p))
		return pty_dump_hung_up(p, b, err);
	if (ioctl(p->dup, TIOCGDEV, &dev) < 0)
		return files_refuse(c, p, "terminal", "cannot be checkpointed: '%s' was hung up",
				    p->link);
	r = dump_modes(p, b, err);
	if (r < 0)
		return r;
	b->is_dev_tty = p->st.st_rdev == makedev(5, 0);
	b->index = (dev & 0xff) | ((dev >> 12) & 0xfff00); /* the minor of the kernel's encoding */
	dump_session(c, b, dev);
	r = ptyqueue_look(c, p, b->index, false, err);
	if (r < 0)
		return r;
	ends = files_ends(c, TERMINALS, dev);
	if (!ends)
		return err_nomem(err);
	if (!ends->first)
		ends->first = f;
	return 0;
}

/* The first terminal is the one; any other is refused, once. */
static int terminal_complete(struct dump_ctx *c, Cpx__File *f, struct err *err)
{
	const Cpx__File *master = pty_master_of(c, f);
	bool is_first_of_its = false, is_only = true;

	f->terminal->master = master ? master->id : 0;
	if (f->terminal->hung_up)
		return pty_complete_hung_up(c, f, err);
	if (master)
		return 0;
	for (size_t i = 0; i < c->files->nends; i++) {
		const struct ends *e = &c->files->ends[i];

		if (e->dev != TERMINALS || pty_master_of(c, e->first))
			continue;
		if (e->first == f)
			is_first_of_its = true;
		else if (e->first->id < f->id)
			is_only = false;
	}
	if (is_only || !is_first_of_its)
		return 0;
	return files_refuse_entry(c, f, "terminal",
				  "cannot be checkpointed: the tree uses another terminal too; cpx "
				  "restores onto one only") < 0
		       ? err_nomem(err)
		       : 0;
}

/* ---- restore ---- */

static int terminal_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	if (f->terminal->hung_up)
		return pty_check_hung_up(c, f);
	if (f->terminal->termios.len != sizeof(struct termios2) ||
	    f->terminal->winsize.len != sizeof(struct winsize))
		return err_set(err, -EBADMSG, "the image holds a terminal without modes");
	return 0;
}

/* A terminal of another user (after su) may be used but not opened. Its description is then shared
 * with cpx, which is right only if it has the same flags. */
static int open_tty(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	int fd = file_reopen(c, c->tty_fd, f->flags, err), flags;

	if (fd >= 0)
		return fd;
	flags = fcntl(c->tty_fd, F_GETFL);
	if (flags < 0 || ((flags ^ f->flags) & (O_ACCMODE | O_NONBLOCK | O_APPEND)))
		return err_context(err, "the terminal");
	fd = fcntl(c->tty_fd, F_DUPFD_CLOEXEC, c->fd_base);
	return fd < 0 ? err_sys(err, -errno, "cannot duplicate the terminal") : fd;
}

static int terminal_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	uint32_t flags = (f->flags & (O_ACCMODE | O_NONBLOCK)) | O_CREAT | O_APPEND | O_CLOEXEC;
	char file[PATH_MAX];
	int fd = -1;

	if (pty_is_slave(f->terminal))
		return pty_open_slave(c, f, ret_fd, err);
	if (outputs_stream(c, f, file)) {
		fd = open(file, flags, 0666);
		if (fd < 0)
			return err_sys(err, -errno, "cannot make '%s'", file);
		fd = fd_raise(c, fd, err);
	}
	if (fd < 0 && c->tty_fd >= 0 && f->terminal->is_dev_tty)
		fd = file_open_path(c, "/dev/tty", f->flags, NULL);
	if (fd < 0)
		fd = c->tty_fd >= 0 ? open_tty(c, f, err)
				    : file_open_path(c, "/dev/null", f->flags, err);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

static bool is_group_of_tree(const struct restore_ctx *c, uint32_t pgid)
{
	for (size_t i = 0; i < c->image->ntasks; i++)
		if (pgid && c->image->task[i]->pgid == pgid &&
		    c->image->task[i]->state != CPX__TASK__STATE__ZOMBIE)
			return true;
	return false;
}

/* Who gets the keyboard: who had it; else, restored in the foreground, the root's group, if the
 * root does not simply join the group of cpx. */
static uint32_t foreground_group(const struct restore_ctx *c, const Cpx__Terminal *b)
{
	uint32_t root = c->image->ntasks ? c->image->task[0]->pgid : 0;

	if (c->in_background)
		return 0;
	if (b->foreground_pgid != c->image->info->external_pgid &&
	    is_group_of_tree(c, b->foreground_pgid))
		return b->foreground_pgid;
	return c->detached || root == c->image->info->external_pgid ? 0 : root;
}

static bool is_resized(int tty_fd, const Cpx__Terminal *b)
{
	struct winsize now, then;

	memcpy(&then, b->winsize.data, sizeof(then));
	return ioctl(tty_fd, TIOCGWINSZ, &now) == 0 &&
	       (now.ws_row != then.ws_row || now.ws_col != then.ws_col);
}

/* Its controlling terminal is the one that the tree is restored onto. */
static bool leads_terminal(const struct image *im, const Cpx__Task *task)
{
	return task->tty_controlling && task->sid == task->pid && !pty_of_session(im, task->sid);
}

/* The calls may fail: another terminal need not know all modes, and belongs to a session
 * that may not be the tree's. */
static int terminal_settle(struct restore_ctx *c, const Cpx__File *f, const Cpx__Task *task, int fd,
			   struct batch *b, struct err *err)
{
	const Cpx__Task *leader = image_task(c->image, task->sid);
	const Cpx__Terminal *t = f->terminal;
	uint32_t group;

	if (pty_is_slave(t))
		pty_settle_slave(c, f, task, fd, b);
	if (c->tty_fd < 0 || pty_is_slave(t))
		return 0;
	if (!task->tty_controlling && leader && leads_terminal(c->image, leader))
		BATCH_CALL(b, SYS_ioctl, fd, TIOCNOTTY); /* which it got by birth */
	if (c->file_holder[files_index(c, f)] != task->pid)
		return 0;
	group = foreground_group(c, t);
	if (group)
		BATCH_CALL(b, SYS_ioctl, fd, TIOCSPGRP, batch_in(b, &(int){group}, sizeof(int)));
	if (!c->in_background)
		BATCH_CALL(b, SYS_ioctl, fd, TCSETS2, batch_in(b, t->termios.data, t->termios.len));
	if (t->exclusive)
		BATCH_CALL(b, SYS_ioctl, fd, TIOCEXCL);
	return 0;
}

const struct file_ops terminal_file_ops = {
	.name = "terminal",
	.body = terminal_body,
	.match = terminal_match,
	.dump = terminal_dump,
	.complete = terminal_complete,
	.check = terminal_check,
	.open = terminal_open,
	.settle = terminal_settle,
};

/* ---- the terminal that the tree is restored onto ---- */

void terminal_save(int tty_fd, struct terminal_state *ret)
{
	struct termios2 modes;
	pid_t group;

	*ret = (struct terminal_state){0};
	if (tty_fd < 0 || ioctl(tty_fd, TCGETS2, &modes) < 0)
		return;
	_Static_assert(sizeof(modes) <= sizeof(ret->termios), "room for struct termios2");
	memcpy(ret->termios, &modes, sizeof(modes));
	group = tcgetpgrp(tty_fd);
	ret->foreground = MAX(group, 0);
	ret->is_valid = true;
}

void terminal_restore(int tty_fd, const struct terminal_state *s)
{
	sigset_t ttou, old;

	if (!s->is_valid || tty_fd < 0)
		return;
	if (getsid(0) == getpid())
		ioctl(tty_fd, TIOCSCTTY, 0); /* if it was handed over, and is free again */
	/* We are in the background now, where changing the terminal stops us. */
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	sigprocmask(SIG_BLOCK, &ttou, &old);
	if (s->foreground)
		tcsetpgrp(tty_fd, s->foreground);
	ioctl(tty_fd, TCSETS2, s->termios);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

void terminal_tell_size(const struct restore_ctx *c)
{
	for (size_t i = 0; c->tty_fd >= 0 && i < c->image->nfiles; i++) {
		const Cpx__Terminal *t = c->image->file[i]->terminal;
		uint32_t group = t && !pty_is_slave(t) ? foreground_group(c, t) : 0;

		if (!group || !is_resized(c->tty_fd, t))
			continue;
		kill(-(pid_t)group, SIGWINCH);
		return;
	}
}

static bool has_controlling_leader(const struct image *im)
{
	for (size_t i = 0; i < im->ntasks; i++)
		if (leads_terminal(im, im->task[i]))
			return true;
	return false;
}

int terminal_controlling_fd(const struct restore_ctx *c, const Cpx__Task *leader)
{
	return leads_terminal(c->image, leader) && !c->copies ? c->tty_fd : -1;
}

void terminal_hand_over(const struct restore_ctx *c)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN}, old;

	if (c->tty_fd < 0 || !has_controlling_leader(c->image) || getsid(0) != getpid())
		return;
	/* The foreground group, which is ours, is told by SIGHUP that the leader has let go. */
	sigaction(SIGHUP, &ignore, &old);
	ioctl(c->tty_fd, TIOCNOTTY);
	sigaction(SIGHUP, &old, NULL);
}
