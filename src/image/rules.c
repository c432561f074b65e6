/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a record must fulfil by itself. Two sources: the schema's descriptors (no unknown fields,
 * no unknown enum values, recursively) and the tables below (ranges, lengths, messages that must
 * be there). docs/image-format.md lists the same limits. Pure functions.
 */
#include "image/reader.h"
#include "base/util.h"

#include <sys/socket.h>

#define PID_MAX	    (1u << 22) /* PID_MAX_LIMIT of include/linux/threads.h */
#define PATH_LIMIT  4096
#define UNIX_NAME_LIMIT 108 /* sun_path */
#define FILTER_LIMIT (8 * 4096) /* BPF_MAXINSNS */
#define NSIG_MAX    64
#define SIGINFO_LEN 128
#define FD_LIMIT    (1u << 30) /* above any fs.nr_open */
#define POS_MAX	    INT64_MAX

enum rule_kind {
	RULE_END,
	RULE_NEED,  /* a message that must be there */
	RULE_RANGE, /* a number; signed ones below zero count as huge */
	RULE_BYTES, /* length of a bytes field */
	RULE_TEXT,  /* the same, without NUL inside */
	RULE_COUNT, /* items of a repeated field */
	RULE_ITEMS, /* length of each item of a repeated bytes field */
};

struct rule {
	enum rule_kind kind;
	const char *field;
	uint64_t min, max;
	size_t offset, count_offset;
	size_t width;
};

#define AT(msg, f) .field = #f, .offset = offsetof(msg, f), .width = sizeof(((msg *)0)->f)
#define NEED(msg, f)                                                                               \
	{                                                                                          \
		RULE_NEED, AT(msg, f)                                                              \
	}
#define RANGE(msg, f, lo, hi)                                                                      \
	{                                                                                          \
		RULE_RANGE, AT(msg, f), .min = lo, .max = hi                                       \
	}
#define BYTES(msg, f, lo, hi)                                                                      \
	{                                                                                          \
		RULE_BYTES, AT(msg, f), .min = lo, .max = hi                                       \
	}
#define TEXT(msg, f, lo, hi)                                                                       \
	{                                                                                          \
		RULE_TEXT, AT(msg, f), .min = lo, .max = hi                                        \
	}
#define COUNT(msg, f, lo, hi)                                                                      \
	{                                                                                          \
		RULE_COUNT, AT(msg, f), .count_offset = offsetof(msg, n_##f), .min = lo, .max = hi \
	}
#define ITEMS(msg, f, lo, hi)                                                                      \
	{                                                                                          \
		RULE_ITEMS, AT(msg, f), .count_offset = offsetof(msg, n_##f), .min = lo, .max = hi \
	}
#define END                                                                                        \
	{                                                                                          \
		RULE_END                                                                           \
	}

static const struct rule host_rules[] = {
	RANGE(Cpx__Host, xsave_size, 0, 1 << 20),
	RANGE(Cpx__Host, page_size, CPX_PAGE_SIZE, CPX_PAGE_SIZE),
	RANGE(Cpx__Host, vdso_size, 0, 1 << 20),
	RANGE(Cpx__Host, vvar_size, 0, 1 << 20),
	COUNT(Cpx__Host, cpu_features, 0, 256),
	BYTES(Cpx__Host, vdso_hash, 0, 64),
	END,
};

static const struct rule image_rules[] = {
	NEED(Cpx__Image, host),
	RANGE(Cpx__Image, root_pid, 1, PID_MAX),
	RANGE(Cpx__Image, external_sid, 0, PID_MAX),
	RANGE(Cpx__Image, external_pgid, 0, PID_MAX),
	TEXT(Cpx__Image, parent_path, 0, PATH_LIMIT),
	END,
};

static const struct rule ipc_perm_rules[] = {
	RANGE(Cpx__IpcPerm, id, 0, INT32_MAX),
	RANGE(Cpx__IpcPerm, mode, 0, 0777),
	END,
};

static const struct rule sem_set_rules[] = {
	NEED(Cpx__SemSet, perm),
	COUNT(Cpx__SemSet, value, 1, 65536), /* sem_num is 16 bits wide */
	END,
};

static const struct rule msg_queue_rules[] = {
	NEED(Cpx__MsgQueue, perm),
	RANGE(Cpx__MsgQueue, last_sender, 0, PID_MAX),
	RANGE(Cpx__MsgQueue, last_receiver, 0, PID_MAX),
	END,
};

static const struct rule ipc_message_rules[] = {
	RANGE(Cpx__IpcMessage, type, 1, INT64_MAX),
	BYTES(Cpx__IpcMessage, text, 0, 32 << 20),
	END,
};

static const struct rule task_rules[] = {
	RANGE(Cpx__Task, pid, 1, PID_MAX),
	RANGE(Cpx__Task, ppid, 0, PID_MAX),
	RANGE(Cpx__Task, pgid, 0, PID_MAX),
	RANGE(Cpx__Task, sid, 0, PID_MAX),
	RANGE(Cpx__Task, stop_signal, 0, NSIG_MAX),
	RANGE(Cpx__Task, exit_code, 0, 0xffff),
	RANGE(Cpx__Task, exit_signal, 0, NSIG_MAX),
	TEXT(Cpx__Task, comm, 0, 15),
	COUNT(Cpx__Task, itimer, 0, 3),
	COUNT(Cpx__Task, rlimit, 0, 64),
	END,
};

static const struct rule thread_rules[] = {
	RANGE(Cpx__Thread, tid, 1, PID_MAX),	BYTES(Cpx__Thread, gp_regs, 0, 4096),
	BYTES(Cpx__Thread, xstate, 0, 1 << 20), RANGE(Cpx__Thread, asleep_ns, 0, POS_MAX),
	TEXT(Cpx__Thread, comm, 0, 15),		COUNT(Cpx__Thread, lsm, 0, 5),
	END,
};

static const struct rule fs_rules[] = {
	TEXT(Cpx__Fs, cwd, 0, PATH_LIMIT),
	TEXT(Cpx__Fs, root, 0, PATH_LIMIT),
	RANGE(Cpx__Fs, umask, 0, 0777),
	END,
};

static const struct rule action_rules[] = {
	RANGE(Cpx__SigAction, signo, 1, NSIG_MAX),
	END,
};

static const struct rule signals_rules[] = {
	COUNT(Cpx__Signals, action, 0, NSIG_MAX),
	ITEMS(Cpx__Signals, pending, SIGINFO_LEN, SIGINFO_LEN),
	END,
};

static const struct rule thread_signals_rules[] = {
	ITEMS(Cpx__ThreadSignals, pending, SIGINFO_LEN, SIGINFO_LEN),
	END,
};

static const struct rule lsm_rules[] = {
	TEXT(Cpx__LsmLabel, label, 1, 4095),
	END,
};

static const struct rule seccomp_filter_rules[] = {
	RANGE(Cpx__SeccompFilter, id, 1, UINT32_MAX),
	BYTES(Cpx__SeccompFilter, program, 8, 4096 * 8), /* BPF_MAXINSNS */
	END,
};

static const struct rule creds_rules[] = {
	COUNT(Cpx__Creds, groups, 0, 65536), /* NGROUPS_MAX */
	END,
};

static const struct rule sched_rules[] = {
	RANGE(Cpx__Sched, priority, 0, 99),
	BYTES(Cpx__Sched, affinity, 0, 8192),
	END,
};

static const struct rule thread_flags_rules[] = {
	RANGE(Cpx__ThreadFlags, pdeathsig, 0, NSIG_MAX),
	RANGE(Cpx__ThreadFlags, mce_kill, 0, 2),
	END,
};

static const struct rule itimer_rules[] = {
	RANGE(Cpx__Itimer, which, 0, 2),
	RANGE(Cpx__Itimer, interval_us, 0, POS_MAX),
	RANGE(Cpx__Itimer, value_us, 0, POS_MAX),
	END,
};

static const struct rule posix_timer_rules[] = {
	RANGE(Cpx__PosixTimer, id, 0, INT32_MAX),
	RANGE(Cpx__PosixTimer, signo, 0, NSIG_MAX),
	RANGE(Cpx__PosixTimer, notify_tid, 0, PID_MAX),
	RANGE(Cpx__PosixTimer, interval_ns, 0, POS_MAX),
	RANGE(Cpx__PosixTimer, value_ns, 0, POS_MAX),
	RANGE(Cpx__PosixTimer, overrun, 0, INT32_MAX),
	END,
};

static const struct rule rlimit_rules[] = {
	RANGE(Cpx__Rlimit, resource, 0, 63),
	END,
};

static const struct rule mm_rules[] = {
	RANGE(Cpx__Mm, pid, 1, PID_MAX),
	BYTES(Cpx__Mm, auxv, 0, 4096),
	BYTES(Cpx__Mm, ldt, 0, 65536),
	END,
};

static const struct rule vma_rules[] = {
	RANGE(Cpx__Vma, prot, 0, 7),
	RANGE(Cpx__Vma, hugepage_shift, 0, 34),
	TEXT(Cpx__Vma, name, 0, 255),
	END,
};

static const struct rule object_rules[] = {
	RANGE(Cpx__Object, size, 0, POS_MAX - (int64_t)CPX_PAGE_SIZE),
	RANGE(Cpx__Object, hugepage_shift, 0, 34),
	TEXT(Cpx__Object, name, 0, 255),
	END,
};

static const struct rule fd_rules[] = {
	RANGE(Cpx__Fd, fd, 0, FD_LIMIT - 1),
	END,
};

static const struct rule file_rules[] = {
	RANGE(Cpx__File, pos, 0, POS_MAX),
	END,
};

static const struct rule lock_rules[] = {
	RANGE(Cpx__Lock, breaking, 0, 2),
	END,
};

static const struct rule owner_rules[] = {
	RANGE(Cpx__Owner, type, 0, 2),
	RANGE(Cpx__Owner, signo, 0, NSIG_MAX),
	END,
};

static const struct rule path_rules[] = {
	TEXT(Cpx__Path, path, 0, PATH_LIMIT),
	END,
};

static const struct rule regular_rules[] = {
	NEED(Cpx__RegularFile, path),
	TEXT(Cpx__RegularFile, link_path, 0, PATH_LIMIT),
	BYTES(Cpx__RegularFile, build_id, 0, 64),
	BYTES(Cpx__RegularFile, handle, 0, 128), /* MAX_HANDLE_SZ */
	END,
};

static const struct rule directory_rules[] = {
	NEED(Cpx__Directory, path),
	END,
};

static const struct rule path_only_rules[] = {
	NEED(Cpx__PathOnly, path),
	END,
};

static const struct rule chardev_rules[] = {
	NEED(Cpx__CharDevice, path),
	END,
};

static const struct rule pipe_rules[] = {
	RANGE(Cpx__Pipe, capacity, 0, 1u << 31),
	END,
};

static const struct rule proc_file_rules[] = {
	RANGE(Cpx__ProcFile, pid, 1, PID_MAX),
	TEXT(Cpx__ProcFile, path, 0, PATH_LIMIT - 64),
	END,
};

static const struct rule external_rules[] = {
	RANGE(Cpx__External, fd, 0, FD_LIMIT - 1),
	TEXT(Cpx__External, path, 0, PATH_LIMIT),
	RANGE(Cpx__External, pid, 0, PID_MAX),
	TEXT(Cpx__External, comm, 0, 64),
	END,
};

static const struct rule socket_rules[] = {
	RANGE(Cpx__UnixSocket, type, 1, 5),
	RANGE(Cpx__UnixSocket, rcvtimeo_us, 0, POS_MAX),
	RANGE(Cpx__UnixSocket, sndtimeo_us, 0, POS_MAX),
	RANGE(Cpx__UnixSocket, backlog, 0, INT32_MAX),
	BYTES(Cpx__UnixSocket, name, 0, UNIX_NAME_LIMIT),
	BYTES(Cpx__UnixSocket, peer_name, 0, UNIX_NAME_LIMIT),
	BYTES(Cpx__UnixSocket, filter, 0, FILTER_LIMIT),
	END,
};

static const struct rule unix_file_rules[] = {
	NEED(Cpx__UnixFile, path),
	END,
};

static const struct rule unix_message_rules[] = {
	BYTES(Cpx__UnixMessage, from, 0, UNIX_NAME_LIMIT),
	COUNT(Cpx__UnixMessage, file, 0, 253), /* SCM_MAX_FD */
	END,
};

static const struct rule terminal_rules[] = {
	TEXT(Cpx__Terminal, path, 0, PATH_LIMIT), BYTES(Cpx__Terminal, termios, 0, 256),
	BYTES(Cpx__Terminal, winsize, 0, 8),	  RANGE(Cpx__Terminal, foreground_pgid, 0, PID_MAX),
	RANGE(Cpx__Terminal, sid, 0, PID_MAX),	  RANGE(Cpx__Terminal, index, 0, (1 << 20) - 1),
	END,
};

static const struct rule mqueue_rules[] = {
	TEXT(Cpx__Mqueue, name, 1, 255),
	RANGE(Cpx__Mqueue, maxmsg, 1, 65536),	/* HARD_MSGMAX of include/linux/ipc_namespace.h */
	RANGE(Cpx__Mqueue, msgsize, 1, 1 << 24), /* HARD_MSGSIZEMAX */
	RANGE(Cpx__Mqueue, mode, 0, 07777),
	COUNT(Cpx__Mqueue, message, 0, 65536),
	END,
};

static const struct rule netlink_rules[] = {
	RANGE(Cpx__Netlink, protocol, 0, 31), /* MAX_LINKS */
	RANGE(Cpx__Netlink, type, SOCK_DGRAM, SOCK_RAW),
	COUNT(Cpx__Netlink, group, 0, 1024),
	BYTES(Cpx__Netlink, filter, 0, FILTER_LIMIT),
	END,
};

static const struct rule socket_option_rules[] = {
	BYTES(Cpx__SocketOption, value, 1, 16),
	END,
};

static const struct rule mq_notify_rules[] = {
	RANGE(Cpx__MqNotify, pid, 1, PID_MAX),
	RANGE(Cpx__MqNotify, kind, 0, 1),
	RANGE(Cpx__MqNotify, signo, 0, NSIG_MAX),
	END,
};

static const struct rule mq_message_rules[] = {
	RANGE(Cpx__MqMessage, priority, 0, 32767), /* MQ_PRIO_MAX of linux/limits.h */
	BYTES(Cpx__MqMessage, text, 0, 1 << 24),
	END,
};

static const struct rule pty_rules[] = {
	TEXT(Cpx__PtyMaster, path, 1, PATH_LIMIT),
	RANGE(Cpx__PtyMaster, index, 0, (1 << 20) - 1), /* MINORMASK */
	BYTES(Cpx__PtyMaster, termios, 0, 256),
	BYTES(Cpx__PtyMaster, winsize, 0, 8),
	BYTES(Cpx__PtyMaster, input, 0, 65536),
	BYTES(Cpx__PtyMaster, output, 0, 32768),
	RANGE(Cpx__PtyMaster, foreground_pgid, 0, PID_MAX),
	RANGE(Cpx__PtyMaster, sid, 0, PID_MAX),
	RANGE(Cpx__PtyMaster, mode, 0, 07777),
	END,
};

static const struct rule timerfd_rules[] = {
	RANGE(Cpx__TimerFd, clock, 0, 15),
	RANGE(Cpx__TimerFd, flags, 0, 3),
	RANGE(Cpx__TimerFd, interval_ns, 0, POS_MAX),
	RANGE(Cpx__TimerFd, value_ns, 0, POS_MAX),
	END,
};

static const struct rule epoll_rules[] = {
	RANGE(Cpx__Epoll, busy_poll_us, 0, INT32_MAX),
	RANGE(Cpx__Epoll, busy_poll_budget, 0, UINT16_MAX),
	END,
};

static const struct rule epoll_item_rules[] = {
	RANGE(Cpx__EpollItem, fd, 0, FD_LIMIT - 1),
	END,
};

static const struct rule inotify_watch_rules[] = {
	RANGE(Cpx__InotifyWatch, wd, 1, 1 << 20),
	NEED(Cpx__InotifyWatch, path),
	END,
};

static const struct rule uring_rules[] = {
	RANGE(Cpx__Uring, sq_entries, 1, 32768), /* IORING_MAX_ENTRIES of io_uring/io_uring.h */
	RANGE(Cpx__Uring, cq_entries, 1, 65536),
	RANGE(Cpx__Uring, owner, 1, PID_MAX),
	BYTES(Cpx__Uring, rings, 1, 4 << 20),
	BYTES(Cpx__Uring, sqes, 1, 4 << 20),
	COUNT(Cpx__Uring, buffer, 0, 1 << 14),	/* IORING_MAX_REG_BUFFERS */
	COUNT(Cpx__Uring, file, 0, 1 << 20),	/* IORING_MAX_FIXED_FILES */
	COUNT(Cpx__Uring, slot, 0, 1 << 20),
	RANGE(Cpx__Uring, sq_cpu, 0, 8191), /* largest CONFIG_NR_CPUS */
	END,
};

static const struct rule aio_rules[] = {
	RANGE(Cpx__AioContext, nr, 1, 1 << 23), /* ioctx_alloc() of fs/aio.c */
	BYTES(Cpx__AioContext, events, 1, 1 << 28),
	END,
};

static const struct rule uring_buffer_rules[] = {
	RANGE(Cpx__UringBuffer, len, 0, 1 << 30),
	END,
};

static const struct rule uring_slot_rules[] = {
	RANGE(Cpx__UringSlot, tid, 1, PID_MAX),
	RANGE(Cpx__UringSlot, slot, 0, 15), /* IO_RINGFD_REG_MAX */
	END,
};

static const struct rule fanotify_mark_rules[] = {
	NEED(Cpx__FanotifyMark, path),
	END,
};

static const struct rule pidfd_rules[] = {
	RANGE(Cpx__PidFd, pid, 0, PID_MAX),
	RANGE(Cpx__PidFd, exit_code, 0, 0xffff),
	END,
};

static const struct {
	const ProtobufCMessageDescriptor *descriptor;
	const struct rule *rules;
} rules_of[] = {
	{&cpx__vma__descriptor, vma_rules}, /* first: there are most of them */
	{&cpx__fd__descriptor, fd_rules},
	{&cpx__path__descriptor, path_rules},
	{&cpx__file__descriptor, file_rules},
	{&cpx__regular_file__descriptor, regular_rules},
	{&cpx__thread__descriptor, thread_rules},
	{&cpx__sig_action__descriptor, action_rules},
	{&cpx__thread_signals__descriptor, thread_signals_rules},
	{&cpx__creds__descriptor, creds_rules},
	{&cpx__lsm_label__descriptor, lsm_rules},
	{&cpx__seccomp_filter__descriptor, seccomp_filter_rules},
	{&cpx__sched__descriptor, sched_rules},
	{&cpx__thread_flags__descriptor, thread_flags_rules},
	{&cpx__rlimit__descriptor, rlimit_rules},
	{&cpx__task__descriptor, task_rules},
	{&cpx__fs__descriptor, fs_rules},
	{&cpx__signals__descriptor, signals_rules},
	{&cpx__itimer__descriptor, itimer_rules},
	{&cpx__posix_timer__descriptor, posix_timer_rules},
	{&cpx__mm__descriptor, mm_rules},
	{&cpx__object__descriptor, object_rules},
	{&cpx__owner__descriptor, owner_rules},
	{&cpx__lock__descriptor, lock_rules},
	{&cpx__directory__descriptor, directory_rules},
	{&cpx__path_only__descriptor, path_only_rules},
	{&cpx__char_device__descriptor, chardev_rules},
	{&cpx__pipe__descriptor, pipe_rules},
	{&cpx__unix_socket__descriptor, socket_rules},
	{&cpx__external__descriptor, external_rules},
	{&cpx__proc_file__descriptor, proc_file_rules},
	{&cpx__unix_file__descriptor, unix_file_rules},
	{&cpx__unix_message__descriptor, unix_message_rules},
	{&cpx__netlink__descriptor, netlink_rules},
	{&cpx__socket_option__descriptor, socket_option_rules},
	{&cpx__terminal__descriptor, terminal_rules},
	{&cpx__timer_fd__descriptor, timerfd_rules},
	{&cpx__inotify_watch__descriptor, inotify_watch_rules},
	{&cpx__fanotify_mark__descriptor, fanotify_mark_rules},
	{&cpx__pid_fd__descriptor, pidfd_rules},
	{&cpx__epoll__descriptor, epoll_rules},
	{&cpx__epoll_item__descriptor, epoll_item_rules},
	{&cpx__pty_master__descriptor, pty_rules},
	{&cpx__mqueue__descriptor, mqueue_rules},
	{&cpx__mq_message__descriptor, mq_message_rules},
	{&cpx__mq_notify__descriptor, mq_notify_rules},
	{&cpx__ipc_perm__descriptor, ipc_perm_rules},
	{&cpx__sem_set__descriptor, sem_set_rules},
	{&cpx__msg_queue__descriptor, msg_queue_rules},
	{&cpx__ipc_message__descriptor, ipc_message_rules},
	{&cpx__uring__descriptor, uring_rules},
	{&cpx__aio_context__descriptor, aio_rules},
	{&cpx__uring_buffer__descriptor, uring_buffer_rules},
	{&cpx__uring_slot__descriptor, uring_slot_rules},
	{&cpx__image__descriptor, image_rules},
	{&cpx__host__descriptor, host_rules},
};

static int broken(const ProtobufCMessage *msg, const char *field, const char *what, struct err *err)
{
	return err_set(err, -EBADMSG, "image is corrupt: %s.%s %s", msg->descriptor->short_name,
		       field, what);
}

static bool is_within(const struct rule *r, uint64_t v)
{
	return v >= r->min && v <= r->max;
}

static uint64_t number_at(const void *p, size_t width)
{
	uint64_t v64;
	uint32_t v32;

	if (width == sizeof(v64)) {
		memcpy(&v64, p, sizeof(v64));
		return v64;
	}
	memcpy(&v32, p, sizeof(v32));
	return v32;
}

static bool items_fit(const struct rule *r, const ProtobufCBinaryData *item, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!is_within(r, item[i].len))
			return false;
	return true;
}

static int check_rule(const ProtobufCMessage *msg, const struct rule *r, struct err *err)
{
	const uint8_t *base = (const uint8_t *)msg;
	const void *p = base + r->offset;
	size_t n = r->count_offset ? *(const size_t *)(base + r->count_offset) : 0;
	const ProtobufCBinaryData *bytes = p;

	switch (r->kind) {
	case RULE_NEED:
		return *(void *const *)p ? 0 : broken(msg, r->field, "is missing", err);
	case RULE_RANGE:
		return is_within(r, number_at(p, r->width))
			       ? 0
			       : broken(msg, r->field, "is out of range", err);
	case RULE_TEXT:
		if (bytes->len && memchr(bytes->data, 0, bytes->len))
			return broken(msg, r->field, "has a NUL inside", err);
		/* fall through */
	case RULE_BYTES:
		return is_within(r, bytes->len) ? 0
						: broken(msg, r->field, "has a bad length", err);
	case RULE_COUNT:
		return is_within(r, n) ? 0 : broken(msg, r->field, "has too many items", err);
	case RULE_ITEMS:
		return items_fit(r, *(ProtobufCBinaryData *const *)p, n)
			       ? 0
			       : broken(msg, r->field, "has an item of bad length", err);
	case RULE_END:
		break;
	}
	return 0;
}

static int check_rules(const ProtobufCMessage *msg, struct err *err)
{
	const struct rule *rule = NULL;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rules_of) && !rule; i++)
		if (rules_of[i].descriptor == msg->descriptor)
			rule = rules_of[i].rules;
	for (; rule && rule->kind != RULE_END && r == 0; rule++)
		r = check_rule(msg, rule, err);
	return r;
}

static int check_message_field(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *f,
			       struct err *err)
{
	const uint8_t *base = (const uint8_t *)msg;
	ProtobufCMessage *const *item = (ProtobufCMessage *const *)(base + f->offset);
	size_t n = 1;
	int r = 0;

	if (f->label == PROTOBUF_C_LABEL_REPEATED) {
		item = *(ProtobufCMessage *const *const *)(base + f->offset);
		n = *(const size_t *)(base + f->quantifier_offset);
	} else if (!*item) {
		return 0;
	}
	for (size_t i = 0; i < n && r == 0; i++)
		r = rules_check(item[i], err);
	return r;
}

/* The schema has no repeated enums. */
static int check_field(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *f,
		       struct err *err)
{
	if (f->type == PROTOBUF_C_TYPE_MESSAGE)
		return check_message_field(msg, f, err);
	if (f->type == PROTOBUF_C_TYPE_ENUM) {
		int v = *(const int *)((const uint8_t *)msg + f->offset);

		if (!protobuf_c_enum_descriptor_get_value(f->descriptor, v))
			return broken(msg, f->name, "has an unknown value", err);
	}
	return 0;
}

int rules_check(const ProtobufCMessage *msg, struct err *err)
{
	int r = 0;

	/* An unknown field is state that this version would not restore. */
	if (msg->n_unknown_fields)
		return err_set(err, -EPROTONOSUPPORT,
			       "image needs a newer cpx: %s has an unknown field %u",
			       msg->descriptor->short_name, msg->unknown_fields[0].tag);
	for (unsigned i = 0; i < msg->descriptor->n_fields && r == 0; i++)
		r = check_field(msg, &msg->descriptor->fields[i], err);
	return r < 0 ? r : check_rules(msg, err);
}
