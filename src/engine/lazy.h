/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * restore --lazy: the tree runs while its memory is still in the image.
 *
 *   cpx / coordinator --- channel --- server ... guard (shares its descriptors and its state)
 *
 * The server is made before anything else of the restore. It is told of each address space
 * (its userfaultfd) and each task (its pidfd), answers the faults, and from the commit on fills all the rest
 * by itself. Should it be killed, the guard is the server from then on: the userfaultfds
 * stay open, so that no fault is ever answered by the kernel with zeros.
 */
#ifndef CPX_ENGINE_LAZY_H
#define CPX_ENGINE_LAZY_H

#include "base/err.h"
#include "image/image.h"
#include "mem/lazy.h"

#include <time.h>

struct rtree;

/* ---- lazy.c: the side of the restore ---- */

struct lazy {
	struct lazy_choice choice;
	int channel;
};
/* May it be done here? */
int lazy_check(bool is_stream, bool in_user_ns, struct refusals *refusals,
	       struct err *err);
/* path: of the image, for messages. to_stderr: they may go there, too, for as long as it takes. */
int lazy_start(struct lazy *l, const struct image *im, const char *path, bool to_stderr,
	       struct err *err);
/* A stage: the missing memory of all tasks, which have been cloned, is the server's from then on. */
int lazy_hand_over(struct rtree *rt, struct err *err);
/* The tree is about to run: the server goes on without us. */
int lazy_commit(struct lazy *l, struct err *err);
void lazy_release(struct lazy *l); /* an uncommitted server ends */

/* ---- lazyproc.c: the processes ---- */

struct lazy_note {
	/* With a userfaultfd, a pidfd; nothing; the server's answers: done, or why not. */
	enum { NOTE_SPACE, NOTE_TASK, NOTE_COMMIT, NOTE_COMMITTED, NOTE_FAILED } what;
	uint32_t mm;
	struct err err;
};
int lazy_send(int channel, const struct lazy_note *n, int fd, struct err *err);
/* -ENODATA: the other side has gone. *ret_fd -1: none came. */
int lazy_receive(int channel, struct lazy_note *ret, int *ret_fd, struct err *err);

#define LAZY_CACHE 8

struct lazy_server {
	const struct image *image;
	const char *path;
	struct lazy_state *st;
	int channel; /* -1: committed */
	int epfd;
	pid_t guard;
	int own_pidfd, guard_pidfd; /* -1: none yet */
	int *task; /* pidfds */
	size_t ntasks, max_tasks;
	struct lazy_fault {
		uint32_t space;
		uint64_t addr;
	} *fault; /* not answered yet */
	size_t nfaults, max_faults;
	struct lazy_cached {
		bool is_valid;
		uint32_t chunk;
		uint64_t used;
		uint8_t *data;
	} cache[LAZY_CACHE];
	uint64_t clock; /* of uses of the cache */
	bool is_waiting; /* an address space was changing: tried again soon */
	time_t retry; /* after a failure: when; 0: none */
};

/* In a process of its own; does not return. */
void lazy_server_run(struct lazy_server *s, const struct lazy_choice *c, bool to_stderr)
	__attribute__((noreturn));
/* Makes the guard; at the commit, and when it has died. */
int lazy_make_guard(struct lazy_server *s, struct err *err);
int lazy_watch(struct lazy_server *s, int fd, uint32_t what, struct err *err);

/* ---- lazyserve.c: faults, events, filling ---- */

enum { LAZY_WATCH_CHANNEL = LAZY_SPACES, LAZY_WATCH_GUARD }; /* what epoll tells; else a space */

/* Until everything is there or has gone. Only an uncommitted server returns an error. */
int lazy_serve(struct lazy_server *s, struct err *err);
/* After the death of a server: what it may not have closed; then what it has left half done. Its waiters are made to ask again. */
void lazy_close_ended(struct lazy_server *s);
int lazy_repair(struct lazy_server *s, struct err *err);

/* ---- lazystop.c: when the image cannot be read ---- */

/* Stops all tasks, once, and tells why. */
void lazy_stop_tree(struct lazy_server *s, const struct err *why);
void lazy_resume_tree(struct lazy_server *s);

#endif
