/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * timerfd_create(2): clock, expiry, interval, flags, expirations that were not read. Asks
 * timerfd_gettime(2) through a duplicate and reads fdinfo (CONFIG_CHECKPOINT_RESTORE brings the
 * count back, TFD_IOC_SET_TICKS).
 *
 * A timer that was set to a point in time keeps it, by the tree's clock; any other goes on with the
 * time that was left. A periodic timer that has expired and was not read stands still until
 * somebody looks (fs/timerfd.c): our look starts it again, as the task's own would, and so its
 * phase is known; it may then be reported ready once more. When its interval is too short for us to
 * see it between two expirations the phase is lost. Refused: a timer that was cancelled by a
 * change of the clock (TFD_TIMER_CANCEL_ON_SET) which the task has not seen yet; one that a process
 * outside of the tree has too; alarm clocks without cap_wake_alarm.
 */
#include "base/kabi.h"
#include "res/attr.h"
#include "res/files.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>

#define NS_PER_S 1000000000ULL

enum { SETTIME_FLAGS = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, LOOKS = 20 };

static ProtobufCMessage *timerfd_body(const Cpx__File *f)
{
	return f->timerfd ? &f->timerfd->base : NULL;
}

static bool timerfd_match(const struct fd_probe *p)
{
	return anon_is(p, "[timerfd]");
}

/* ---- dump ---- */

static int parse(const char *text, Cpx__TimerFd *b, struct err *err)
{
	uint64_t clock, ticks, flags;
	int r = 0;

	if (!proc_field_u64(text, "clockid", 10, &clock) ||
	    !proc_field_u64(text, "ticks", 10, &ticks) ||
	    !proc_field_u64(text, "settime flags", 8, &flags) ||
	    !proc_field_time(text, "it_value", &b->value_ns) ||
	    !proc_field_time(text, "it_interval", &b->interval_ns))
		r = err_set(err, -EBADMSG, "fdinfo shows no timer");
	if (r == 0) {
		b->clock = (int32_t)clock;
		b->ticks = ticks;
		b->flags = flags & SETTIME_FLAGS;
	}
	return r;
}

static int read_info(struct dump_ctx *c, const struct fd_probe *p, Cpx__TimerFd *b, struct err *err)
{
	struct proc_fdinfo info = {0};
	int r = anon_info(c, p, &info, err);

	if (r == 0)
		r = parse(info.text, b, err);
	proc_fdinfo_release(&info);
	return r;
}

/* The kernel prints the count and the time one after the other while the timer runs: they belong
 * together if the count has not changed since a look before. */
static int look(struct dump_ctx *c, const struct fd_probe *p, Cpx__TimerFd *b, struct err *err)
{
	uint64_t before;
	int r = read_info(c, p, b, err);

	do {
		before = b->ticks;
		if (r == 0)
			r = read_info(c, p, b, err);
	} while (r == 0 && b->ticks != before);
	return r;
}

static bool is_standing(const Cpx__TimerFd *b)
{
	return b->ticks && b->interval_ns && !b->value_ns;
}

static int read_timer(struct dump_ctx *c, const struct fd_probe *p, Cpx__TimerFd *b,
		      struct err *err)
{
	struct itimerspec unused;
	int r = look(c, p, b, err);

	for (unsigned i = 0; r == 0 && is_standing(b) && i < LOOKS; i++) {
		if (timerfd_gettime(p->dup, &unused) < 0)
			return err_sys(err, -errno, "cannot read the timer");
		r = look(c, p, b, err);
	}
	if (r == 0 && is_standing(b))
		b->value_ns = b->interval_ns;
	return r;
}

/* Alarm clocks can be read only where there is a real-time clock device. */
static clockid_t clock_of(const Cpx__TimerFd *b)
{
	if (b->clock == CLOCK_REALTIME_ALARM)
		return CLOCK_REALTIME;
	return b->clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME : b->clock;
}

/* To a point of the clock, which we read after the timer: so it is never too early. */
static int make_absolute(Cpx__TimerFd *b, struct err *err)
{
	struct timespec now;
	int64_t at;

	if (!(b->flags & TFD_TIMER_ABSTIME) || !b->value_ns)
		return 0;
	if (clock_gettime(clock_of(b), &now) < 0)
		return err_sys(err, -errno, "cannot read clock %d", b->clock);
	if (__builtin_add_overflow(now.tv_sec * NS_PER_S + now.tv_nsec, b->value_ns, &at))
		at = INT64_MAX; /* never */
	b->value_ns = at;
	return 0;
}

static int timerfd_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	Cpx__TimerFd *b = f->timerfd = MSG_NEW(Cpx__TimerFd, cpx__timer_fd__init);
	int r;

	if (!b)
		return err_nomem(err);
	files_watch_same(c);
	r = read_timer(c, p, b, err);
	if (r < 0)
		return r;
	/* One that repeats may as well have expired: nothing tells. */
	if (b->flags & TFD_TIMER_CANCEL_ON_SET && b->ticks && b->value_ns)
		return files_refuse(
			c, p, "timerfd",
			"cannot be checkpointed: the clock was changed, by which it may "
			"have been cancelled, and the task has not read it since");
	return make_absolute(b, err);
}

/* ---- restore ---- */

static int timerfd_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	int clock = f->timerfd->clock;

	if ((clock != CLOCK_REALTIME_ALARM && clock != CLOCK_BOOTTIME_ALARM) ||
	    attr_can_globally(c, CAP_WAKE_ALARM))
		return 0;
	return files_refuse_restore(c, f, "timerfd",
				    "cannot be restored: alarm clocks need cap_wake_alarm; "
				    "restore as root");
}

static int timerfd_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	return anon_finish(c, f, timerfd_create(f->timerfd->clock, TFD_CLOEXEC), ret_fd, err);
}

/*
 * Setting a timer forgets its expirations, so they are counted in after it is started; none may
 * come in between, or it would be lost. So what has expired already is counted here, and what is
 * about to expires a little later.
 */
static void keep_ticks(const Cpx__TimerFd *b, uint64_t *value, uint64_t *ticks)
{
	const uint64_t margin = NS_PER_S / 1000;
	struct timespec now = {0};
	uint64_t base = 0;

	if (!b->ticks || !*value)
		return;
	if (b->flags & TFD_TIMER_ABSTIME) {
		clock_gettime(clock_of(b), &now);
		base = now.tv_sec * NS_PER_S + now.tv_nsec;
	}
	if (*value <= base && b->interval_ns) {
		uint64_t missed = (base - *value) / b->interval_ns + 1;

		*ticks += missed;
		*value += missed * b->interval_ns;
	}
	*value = MAX(*value, base + margin);
}

/* Here rather than in open(): from here to its first instruction is a moment for the tree. */
static int timerfd_settle(struct restore_ctx *c, const Cpx__File *f, const Cpx__Task *task, int fd,
			  struct batch *b, struct err *err)
{
	const Cpx__TimerFd *t = f->timerfd;
	uint64_t value = t->value_ns, ticks = t->ticks;
	struct itimerspec it;

	if (c->file_holder[files_index(c, f)] != task->pid)
		return 0;
	keep_ticks(t, &value, &ticks);
	it = (struct itimerspec){
		.it_interval = {t->interval_ns / NS_PER_S, t->interval_ns % NS_PER_S},
		.it_value = {value / NS_PER_S, value % NS_PER_S},
	};
	BATCH_CALL(b, SYS_timerfd_settime, fd, t->flags, batch_in(b, &it, sizeof(it)), 0);
	if (ticks)
		BATCH_CALL(b, SYS_ioctl, fd, TFD_IOC_SET_TICKS, batch_in(b, &ticks, sizeof(ticks)));
	return 0;
}

const struct file_ops timerfd_file_ops = {
	.name = "timerfd",
	.body = timerfd_body,
	.match = timerfd_match,
	.dump = timerfd_dump,
	.check = timerfd_check,
	.open = timerfd_open,
	.settle = timerfd_settle,
};
