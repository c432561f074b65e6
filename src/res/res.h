/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Resources: each file of this folder owns one kind of kernel object or one group of attributes,
 * with its dump and its restore side by side, and one ops table listed in registry.c.
 *
 * Three shapes:
 *   attr_ops    what belongs to a task or a thread (signals, timers, credentials ...)
 *   file_ops    what a descriptor can refer to (regular file, pipe, terminal ...)
 *   object_ops  shared content that mappings and descriptors refer to (shm, memfd, SysV ...)
 */
#ifndef CPX_RES_RES_H
#define CPX_RES_RES_H

#include "base/err.h"
#include "image/image.h"
#include "tracee/tracee.h"

#include <stdlib.h>
#include <sys/stat.h>

/* ---- contexts ------------------------------------------------------------------------------ */

struct external_rules; /* res/external.h */

struct dump_ctx {
	struct tree *tree;
	struct refusals *refusals;
	int proc_fd;		/* /proc */
	uint64_t ghost_limit;	/* largest deleted file whose content is stored */
	struct file_table *files; /* open file descriptions found so far: res/files.c */
	struct object_table *objects;
	struct preview *preview;  /* res/preview.c: mappings as before the freeze; NULL: none */
	struct witnesses *witnesses; /* res/landlock.c; NULL at first */
	struct known_files *known_files; /* res/knownfiles.c; NULL at first */
	struct attr_cache *attrs; /* res/attr.c: what was read for several attributes; NULL at first */
	size_t npassing;	/* of the refusals, those of a state that the tree leaves by itself in a moment */
	const struct external_rules *external; /* ends outside of the tree that are accepted; NULL: none */
	/* Is this mapping watched by a userfaultfd of our own? NULL: none is. */
	bool (*is_watched)(const void *watcher, pid_t pid, uint64_t start, uint64_t end);
	const void *watcher;
	bool check_only;	/* cpx check: nothing is injected, only what is seen from outside */
};

struct restore_ctx {
	const struct image *image;
	struct refusals *refusals;
	int proc_fd;
	bool new_pid_ns;	/* we are PID 1 of a fresh PID namespace */
	bool in_user_ns;	/* ... and of a fresh user namespace */
	bool new_ipc_ns;	/* ... and of a fresh IPC namespace */
	bool new_devpts;	/* ... with a devpts of its own at /dev/pts */
	bool is_privileged;	/* CAP_SYS_ADMIN in the initial user namespace (effective) */
	bool detached;
	int tty_fd;		/* the terminal to restore onto, -1 if none */
	bool in_background;	/* ... which belongs to another job: its keyboard and modes are not ours to take */
	const struct external_rules *external; /* instead of those of the image; NULL: none */
	const char *const *allow_changed; /* files that may have changed */
	size_t nallow_changed;
	const char *const *shared_file; /* of clones: common to all, though they write to it */
	size_t nshared_files;
	int input_fd;		/* where the image comes from, if that is not cpx's own descriptor; -1 */
	unsigned copies;	/* clones that are made of the image, 0: none, this is an ordinary restore */
	unsigned clone;		/* which one this is, from 1; 0: not yet one of them */
	const char *output_dir; /* absolute: the clone's files are in a directory of its number there; NULL */
	int fd_base;		/* every descriptor that cpx opens for the tree is >= this */
	int64_t monotonic_shift_ns; /* restored clock minus image's clock at the moment of restore: 0 unless ... */
	/* Allocated and freed by files_* and objects_*; NULL at first. */
	int *file_fd;		/* by index of image->file: our descriptor of it, -1 */
	uint32_t *file_holder;	/* by index of image->file: pid of the first task that has it, 0: none */
	int *object_fd;		/* by index of image->object: our descriptor of its content, -1 */
	void **object_map;	/* by index: SHM_ANON: where it is mapped in us and, inherited, in every task; else NULL,
				 * or where we fill it */
	int *object_shmid;	/* by index: SYSV: the id to shmat(2), -1: none, or given to the tree */
	bool *ipc_made; /* res/sysvipc.c: which sets and queues are new; NULL at first */
	struct unix_world *unix_world; /* res/unixmake.c: Unix sockets while they are rebuilt; NULL at first */
	struct ghost_dirs *ghost_dirs; /* res/ghostdir.c: deleted directories; NULL at first */
	struct attr_self *self; /* res/attr.c: our own credentials; NULL at first */
};

/* ---- attributes ---------------------------------------------------------------------------- */

/*
 * Dump: `read` takes what is visible from outside, while every thread is in a ptrace stop (so before
 * tracee_inject()); `ask` adds calls to the batch that the thread
 * will run; `take` reads their results. Any of the functions may be NULL. Skip zombies and threads that are exited. Restore: `check` refuses what cannot be rebuilt; `give`
 * adds the calls that rebuild it, run in that thread itself. scratch is one uint64_t per ops and thread for
 * remembering between ask and take (16 words each) or give and given (GIVE_WORDS each).
 *
 * Per task ops get thread == NULL and run in the leader's (or, if exited, the first live) thread.
 * Where the order within a stage matters it is that of attr_registry[]; between the per-task ops and the threads of
 * one task nothing is assumed within a stage.
 */
enum give_stage { /* in this order; all tasks finish one before any starts the next */
	GIVE_EARLY,  /* before memory is complete: rlimits that loosen, personality, umask, cwd ... */
	GIVE_MAIN,   /* everything stands: sigactions, timers not yet armed, sched, prctl */
	GIVE_CREDS,  /* credentials; afterwards only what the restored task itself may do */
	GIVE_LATE,   /* pending signals, timers armed, dumpable, pdeathsig, no_new_privs */
	GIVE_STAGES
};

#define GIVE_WORDS 4

struct attr_ops {
	const char *name;
	bool per_thread;
	int (*read)(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
		    Cpx__Task *task, Cpx__Thread *th, struct err *err);
	/* task and th: as read() filled them; th is the calling thread's (of per-task ops: of the thread that runs the batch). */
	int (*ask)(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task, const Cpx__Thread *th,
		   struct batch *b, uint64_t *scratch, struct err *err);
	int (*take)(struct dump_ctx *c, struct tracee *t, const struct batch *b, const uint64_t *scratch,
		    Cpx__Task *task, Cpx__Thread *th, struct err *err);
	/* After all take()s: for what may have come while the others were asked, like the signal of a timer
	 * that take() has seen expired. */
	int (*reread)(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
		      Cpx__Task *task, Cpx__Thread *th, struct err *err);
	int (*check)(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th, struct err *err);
	/* Called once per stage; adds nothing where it has nothing to do. At least 200 calls and 32 KiB of data fit. Returns 1 when
	 * the batch is tight and there is more: then it is called again with the next batch and the same scratch, which is 0 at first. */
	int (*give)(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task, const Cpx__Thread *th,
		    struct batch *b, uint64_t *scratch, struct err *err);
	/* Checks the results of what give added. NULL: any negative result among the calls that give added
	 * is an error "<name>: <strerror>". */
	int (*given)(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task, const Cpx__Thread *th,
		     const struct batch *b, const uint64_t *scratch, struct err *err);
	/* Run by the coordinator, the thread's tracer, when the thread stands still in its final registers. */
	int (*finish)(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th, pid_t tid, struct err *err);
	/* Run by the coordinator itself, once per task between GIVE_MAIN and GIVE_CREDS, for what only another
	 * process can set (files of /proc/PID). pid: as the coordinator sees the task. */
	int (*give_outside)(struct restore_ctx *c, const Cpx__Task *task, pid_t pid, struct err *err);
};
extern const struct attr_ops *const attr_registry[]; /* NULL-terminated */

struct proc_status;
/* /proc/TID/status, read once per dump: the tree stands still. *ret is valid until attrs_dump_release(). thread NULL:
 * the one that speaks for the task. */
int attr_status(struct dump_ctx *c, const struct tracee *t, const struct tracee_thread *thread,
		const struct proc_status **ret, struct err *err);
/* Before the freeze, to make it shorter: what is needed to find out about Landlock. */
void landlock_prepare(struct dump_ctx *c, pid_t pid);
/* Has a thread (NULL: the first one) give itself its name. */
void name_give(struct batch *b, const Cpx__Task *task, const Cpx__Thread *th);
/* Free what the attribute files keep in the contexts. */
void attrs_dump_release(struct dump_ctx *c);
void attrs_restore_release(struct restore_ctx *c);

/* Messages are allocated with malloc family calls so that protobuf-c's free_unpacked with the
 * default allocator frees them; these helpers return NULL on lack of memory. */
void *msg_new(size_t size, void (*init)(void *));
/* The same by type: MSG_NEW(Cpx__Creds, cpx__creds__init). */
#define MSG_NEW(type, init_fn)                    \
	({                                        \
		type *msg_ = malloc(sizeof(type)); \
		if (msg_)                         \
			init_fn(msg_);            \
		msg_;                             \
	})
int msg_set_bytes(ProtobufCBinaryData *dst, const void *data, size_t len);
/* Appends to a repeated field of pointers (n and array of the generated struct). */
int msg_append(void *array_field, size_t *n, void *item);
/* Appends a copy to a repeated field of bytes. */
int msg_append_bytes(ProtobufCBinaryData **array, size_t *n, const void *data, size_t len);

/* ---- descriptors --------------------------------------------------------------------------- */

/* One descriptor as seen from outside, before its kind is known. */
struct fd_probe {
	struct tracee *t;
	int fd;		/* in the task */
	int dup;	/* our duplicate by pidfd_getfd(2), same description; borrowed */
	struct stat st;
	char link[4352]; /* readlink of /proc/PID/fd/N */
	unsigned flags;	/* from fdinfo, O_CLOEXEC removed */
	uint64_t pos;
	bool cloexec;
	bool is_in_flight; /* out of a message: fd is ours, and dup the same */
};

struct file_ops {
	const char *name; /* as in messages: "regular file", "pipe" */
	ProtobufCMessage *(*body)(const Cpx__File *f); /* this kind's body, NULL if f is not of it */
	bool (*match)(const struct fd_probe *p);
	/* Fills the body; refuses (and returns 0) what it cannot carry. The tree is frozen. */
	int (*dump)(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err);
	/* After all descriptors are known: peers outside the tree and the like. May be NULL. */
	int (*complete)(struct dump_ctx *c, Cpx__File *f, struct err *err);
	/* When nothing is refused: what can only be seen by taking it, by one batch in a task (injected now) that puts it back. May
	 * refuse. May be NULL. */
	int (*borrow)(struct dump_ctx *c, Cpx__File *f, struct err *err);
	/* Restore. check refuses before anything is created. open makes our descriptor of it (and of its
	 * siblings: file_fd[] of other indices may be set too) in the restoring process, with status flags and position. */
	int (*check)(struct restore_ctx *c, const Cpx__File *f, struct err *err);
	int (*open)(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err);
	/* When all files are open, and the tree has its PIDs and descriptors: what is queued, descriptors among it. May be
	 * NULL. */
	int (*fill)(struct restore_ctx *c, const Cpx__File *f, struct err *err);
	/* When the whole tree stands (terminals: foreground group). Called for each task that holds f (c->file_holder[] is the first).
	 * Adds at most 8 calls. May be NULL. */
	int (*settle)(struct restore_ctx *c, const Cpx__File *f, const Cpx__Task *task, int fd, struct batch *b, struct err *err);
};
extern const struct file_ops *const file_registry[]; /* first match wins; last is the refuser */

/* res/files.c: the table of descriptions and descriptors. Dump side. */
/* All descriptors of a task (not a zombie). *ret is borrowed; tasks that share a table get the same one. */
int files_collect(struct dump_ctx *c, struct tracee *t, Cpx__FdTable **ret, struct err *err);
size_t files_ntables(const struct dump_ctx *c);
Cpx__FdTable *files_table(const struct dump_ctx *c, size_t i);
/* A file needed by a mapping or as exe: path opened through /proc/PID/map_files or exe link. Returns the File id, one record per
 * (dev, ino, access). */
int files_add_mapped(struct dump_ctx *c, struct tracee *t, const char *path, const struct stat *st,
		     bool is_deleted, bool writable_shared, bool is_private, const char *proc_link, uint32_t *ret_id, struct err *err);
int files_complete(struct dump_ctx *c, struct err *err);
/* Mappings that stand still: of a twin, or of a frozen task. */
struct mapped_view {
	pid_t pid;
	const Cpx__Mm *mm;
};
/* What tells later whether a file has changed; the tree may run again. What is mapped in a view is read from there.
 * res/identity.c */
int files_identify(struct dump_ctx *c, const struct mapped_view *view, size_t nviews, struct err *err);
int files_borrow(struct dump_ctx *c, struct err *err);
size_t files_count(const struct dump_ctx *c);
Cpx__File *files_get(const struct dump_ctx *c, size_t i);
void files_release(struct dump_ctx *c);
/* ---- restore side ---- */
/* The lowest number that no table of the image uses: what the caller sets c->fd_base to (or more). */
int files_fd_base(const struct image *im);
int files_check(struct restore_ctx *c, struct err *err);
/* Opens everything in the calling process: c->file_fd[], allocated here, by index of image->file, every
 * descriptor >= c->fd_base and close-on-exec. Makes those objects (c->object_fd[]) that it needs; the order with objects_create() does
 * not matter. flock and OFD locks are taken here. To be called before the root task is forked. */
int files_open_all(struct restore_ctx *c, struct err *err);
/* After files_open_all() and, so that messages can have their senders' PIDs, when the tree has its tasks and descriptors. */
int files_fill(struct restore_ctx *c, struct err *err);
/* Our descriptor of a File record (for mmap and the exe link; borrowed), -1 if there is none. */
int files_fd(const struct restore_ctx *c, uint32_t file_id);
/* Closes them in the calling process and frees the array. */
void files_close_all(struct restore_ctx *c);
/*
 * Adds the calls by which a task gets its table: dup3 to the final numbers, close_range of everything else
 * (except keep_fd, if >= 0). *cursor is 0 at first. Returns 0 when the table is complete, 1 when the
 * batch is full: run it, reset it, call again with the same cursor. Negative: an error. No call may fail
 * (all results are >= 0).
 */
int files_install(struct restore_ctx *c, const Cpx__FdTable *table, struct batch *b, int keep_fd,
		  size_t *cursor, struct err *err);
/*
 * When the whole tree stands and has its pids, groups, sessions and descriptors: adds the calls of this task (run in any
 * thread of it, all signals blocked): POSIX locks, owners of signals, terminals. Cursor and result as above.
 * After the run files_settled() checks the results of the calls [0, b->n) that were added.
 */
int files_settle(struct restore_ctx *c, const Cpx__Task *task, const Cpx__FdTable *table, struct batch *b,
		 size_t *cursor, struct err *err);
int files_settled(struct restore_ctx *c, const Cpx__Task *task, const struct batch *b, struct err *err);

/* ---- res/uringmake.c: memory that tasks share with the kernel ---- */
/* How calls are run in a thread of the tree under construction. */
struct rings_host {
	struct restore_ctx *c;
	void *engine;
	struct batch (*batch)(void *engine, uint32_t tid);
	int (*run)(void *engine, uint32_t tid, const struct batch *b, struct err *err);
};
/* Gives io_urings to the threads that they belong to, maps them, and brings them to where they were. When the tree has its memory and
 * threads, and still every file at the numbers of c->file_fd[]. */
int rings_make(const struct rings_host *h, struct err *err);

/* ---- res/terminal.c: the terminal that the tree is restored onto ---- */
struct terminal_state {
	bool is_valid;
	uint8_t termios[64]; /* struct termios2 */
	pid_t foreground;    /* 0: unknown */
};
/* Before files_settle(): what the terminal was set to, so that it can be put back when the restored tree
 * ends or the restore fails. Does nothing where tty_fd is -1. */
void terminal_save(int tty_fd, struct terminal_state *ret);
void terminal_restore(int tty_fd, const struct terminal_state *s);
/* When the tree runs: SIGWINCH to its foreground group if the window is not of the size that it was. Called where the
 * pids are those of the image. */
void terminal_tell_size(const struct restore_ctx *c);
/* In a foreground restore, when all files are open and before the tree is grown: where cpx leads the session of the terminal and the tree has a session leader
 * of its own that had a controlling terminal, lets go of it so that the tree can have it. */
void terminal_hand_over(const struct restore_ctx *c);
/* The same terminal, for a task that has just begun the session that had it; -1: it had none, or one of the tree's own. It
 * cannot be had (TIOCSCTTY) where another session has it. */
int terminal_controlling_fd(const struct restore_ctx *c, const Cpx__Task *leader);

/* ---- res/outputs.c: what clones must not share ---- */
/* Refuses what N trees cannot all have, or would overwrite for each other. */
int outputs_check(struct restore_ctx *c, struct err *err);

/* ---- res/pty.c: pseudo-terminals of which the tree has both sides ---- */
/* Before anything is opened: numbers that the tree needs are taken at /dev/pts. */
bool ptys_need_devpts(const struct image *im);
/* Our descriptor of the controlling terminal of the session that this task has just begun; -1 if it has none, or the one that
 * cpx is run from. Its children inherit a controlling terminal by birth only. */
int pty_controlling_fd(const struct restore_ctx *c, const Cpx__Task *leader);

/* ---- shared content: res/objects.c ---------------------------------------------------------- */

/* Finds or adds the object behind a shared mapping or a memfd descriptor. dup: a descriptor of it (borrowed) or -1, then
 * content is read through the task's mapping at addr. Ids are never those of mms: objects start at 1,000,000. */
int objects_add(struct dump_ctx *c, struct tracee *t, Cpx__Object__Type type, uint64_t dev, uint64_t ino,
		uint64_t size, int dup, uint64_t addr, uint64_t addr_len, uint64_t addr_offset, Cpx__Object **ret, struct err *err);
size_t objects_count(const struct dump_ctx *c);
Cpx__Object *objects_get(const struct dump_ctx *c, size_t i);
/* While the tree is frozen: copies populated, non-zero content aside (a memfd of ours). */
int objects_copy(struct dump_ctx *c, struct err *err);
/* Of a delta, before the metadata is written: finds the objects in the parent image. */
void objects_match(struct dump_ctx *c, const struct image *parent);
struct object_stats {
	uint64_t pages, unchanged_pages; /* stored; in the parent image */
};
/* After the metadata: writes it as chunks. parent: objects_match()'s, NULL: none. */
int objects_write(struct dump_ctx *c, struct image_writer *w, const struct image *parent, struct object_stats *ret,
		  struct err *err);
void objects_release(struct dump_ctx *c);
int objects_check(struct restore_ctx *c, struct err *err);
/* Creates them all (object_fd[], object_map[]); content is put in by objects_fill() chunk by chunk. stage_at: address
 * from which SHM_ANON objects are mapped one after the other (page aligned). */
int objects_create(struct restore_ctx *c, uint64_t stage_at, struct err *err);
bool objects_need_ids(const struct image *im); /* SysV segments: a fresh PID namespace should bring an IPC namespace */
uint64_t objects_stage_size(const struct image *im); /* bytes of address space needed at stage_at */
int objects_fill(struct restore_ctx *c, const struct chunk_ref *chunk, const void *data, struct err *err);
/* After the last chunk of an object and after files_open_all(), before the tree is mapped: modes, all seals but FUTURE_WRITE.
 * Of object_fd[] only those are left that are still needed: HUGETLB (to be mapped), memfds with that seal. */
int objects_finish(struct restore_ctx *c, struct err *err);
/* When every mapping stands: F_SEAL_FUTURE_WRITE, IPC_RMID. Closes object_fd[] and unmaps object_map[] in the caller. */
int objects_settle(struct restore_ctx *c, struct err *err);
/* The id with which tasks attach a SysV segment (that of the record unless its removal is pending). */
int objects_shmid(const struct restore_ctx *c, uint32_t object_id);
/* The end, on every path: frees the arrays; removes the segments that a restore which failed before objects_settle() has made. */
void objects_close_all(struct restore_ctx *c);
/* Our descriptor of an Object (memfd, ghost; made now if needed; borrowed) or a negative errno. */
int objects_fd(struct restore_ctx *c, uint32_t object_id, struct err *err);

/* ---- SysV semaphores and message queues: res/sysvipc.c, res/semundo.c ------------------------ */

/* Those that are the tree's, into info. The tree is frozen. */
int sysvipc_dump(struct dump_ctx *c, bool is_own_namespace, Cpx__Image *info, struct err *err);
/* What is pending of SEM_UNDO, of a task that has a list of it (all of its threads the same); t's mm_owner is
 * injected. thread: a live one. */
int semundo_dump(struct dump_ctx *c, struct tracee *t, size_t thread, const Cpx__Image *info,
		 Cpx__Task *task, struct err *err);
bool sysvipc_is_needed(const struct image *im);
int sysvipc_check(struct restore_ctx *c, struct err *err);
/* Before the tree has its tasks: their PIDs must be free. */
int sysvipc_create(struct restore_ctx *c, struct err *err);
/* The end, on every path: removes what a restore that failed has made. */
void sysvipc_release(struct restore_ctx *c, bool is_restored);

#endif
