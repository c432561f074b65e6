/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the files about SysV semaphores and message queues: sysvipc.c (whose they are, and what
 * is the same of both), sysvsem.c, sysvmsg.c, standin.c. */
#ifndef CPX_RES_SYSVIPC_H
#define CPX_RES_SYSVIPC_H

#include "base/util.h"
#include "res/res.h"

#include <sys/ipc.h>
#include <time.h>

/* ---- dump ---- */

enum ipc_owner {
	IPC_FOREIGN,
	IPC_UNCLAIMED, /* may be the tree's */
	IPC_OURS,
};

struct ipc_look {
	struct dump_ctx *c;
	Cpx__Image *info;
	bool is_own_namespace; /* all that is in it is the tree's */
	time_t since;	       /* when the root task began */
	uid_t *user;	       /* effective users of the tree's threads */
	size_t nusers, maxusers;
};

/* An object as the kernel shows it. */
struct ipc_seen {
	const char *kind; /* "SysV message queue" */
	int id;
	const struct ipc_perm *perm;
	time_t changed, used;
	const uint32_t *last_pid; /* 0: nobody */
	size_t npids;
	const long *calls; /* system calls whose first argument is the id, and in which tasks wait */
	size_t ncalls;
};

/* Refuses (and says IPC_FOREIGN) what processes outside of the tree use as well. */
int ipc_judge(const struct ipc_look *l, const struct ipc_seen *s, enum ipc_owner *ret,
	      struct err *err);
int ipc_refuse(struct dump_ctx *c, const char *kind, int id, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
int ipc_perm_dump(const struct ipc_perm *p, int id, enum ipc_owner owner, Cpx__IpcPerm **ret,
		  struct err *err);

int sysvsem_dump(const struct ipc_look *l, struct err *err);
int sysvmsg_dump(const struct ipc_look *l, struct err *err);

/* ---- restore ---- */

/* What is the same of both kinds. */
struct ipc_kind {
	const char *name;    /* "SysV message queue" */
	const char *next_id; /* in /proc/sys/kernel: the id of the next one */
	int (*get)(const void *record, key_t key, int flags); /* semget(2) */
	int (*remove)(int id);
	/* -errno, or 0 and its attributes. *ret_user: a process that has used it, and lives; 0. */
	int (*examine)(int id, struct ipc_perm *ret_perm, pid_t *ret_user);
	bool (*is_same)(const void *record, int id); /* in what cannot be changed */
	/* Content, then owner and mode, of one that is there. */
	int (*fill)(struct restore_ctx *c, const void *record, int id, struct err *err);
};
extern const struct ipc_kind sysvsem_kind, sysvmsg_kind;

/* Does a process of this number live that had begun by then? */
bool ipc_is_alive(int proc_fd, pid_t pid, time_t when);
int ipc_refuse_restore(struct restore_ctx *c, const char *kind, int id, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Refuses what kernel limits forbid. */
int sysvmsg_check_limits(struct restore_ctx *c, const Cpx__MsgQueue *q, bool exists,
			 struct err *err);

/* ---- standin.c ---- */

/* Runs fn in a process of its own, which has this PID if that is free and may be chosen, and waits for
 * its end: the kernel keeps the number of who used an object last. pid 0: any. fn returns 0 or -errno and
 * allocates nothing. */
int stand_in_run(pid_t pid, int (*fn)(const void *arg), const void *arg);

#endif
