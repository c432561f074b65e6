/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kinds of descriptors share; private to the files of src/res.
 */
#ifndef CPX_RES_FILES_H
#define CPX_RES_FILES_H

#include "base/util.h"
#include "proc/proc.h"
#include "res/res.h"

#include <fcntl.h>

/* ---- unixdiag.c ---- */
struct unix_diag_info {
	uint32_t ino;
	uint64_t peer_ino; /* 0: none, or closed */
	bool has_peer;	   /* connected at some time */
	uint8_t state;	   /* TCP_ESTABLISHED ... */
	uint8_t shutdown;  /* 1: receive, 2: send */
	bool has_file;	   /* bound to a path, or accepted from such a one */
	uint32_t file_ino;
	uint32_t backlog; /* of a listener */
	uint8_t type, name_len; /* SOCK_STREAM ...; as in sun_path, without the NUL behind a path */
	char name[108];
};
#define UNIX_LISTENS 10 /* TCP_LISTEN of include/net/tcp_states.h */

/* A connection that nobody has accepted yet. */
struct unix_waiting {
	uint32_t listener, client; /* client 0: it is closed already */
};

/* Zeroed at first. */
struct unix_diag {
	struct unix_diag_info *info; /* ascending by inode */
	size_t n, max;
	struct unix_waiting *waiting; /* those of one listener in their order */
	size_t nwaiting, maxwaiting;
	bool is_loaded;
};
int unix_diag_load(struct unix_diag *d, struct err *err);
int unix_diag_get(struct unix_diag *d, uint32_t ino, struct unix_diag_info *ret, struct err *err);
/* After unix_diag_get(): the listener at which the client waits, 0: none. */
uint32_t unix_diag_listener(const struct unix_diag *d, uint32_t client);
void unix_diag_release(struct unix_diag *d);

/* ---- dump side: files.c ---- */

/* One open file description, or one mapped file. */
struct file_entry {
	Cpx__File *file; /* owned */
	const struct file_ops *ops;
	struct tracee *t; /* the first task that had it, at descriptor fd; borrowed */
	pid_t tid;	  /* a live thread of it */
	int fd;		  /* -1: mapped */
	uint64_t dev, ino;
	bool is_lost; /* a regular file whose name was deleted, and another one is not known: hardlink.c */
	bool is_outside; /* a process outside of the tree has it too, and that is refused already */
	int in_flight;	 /* on its way in a message: ours, at which it was first seen; owned, -1 */
};

/* Both ends of a pipe, or a socket: what is known about an inode while the tables are read. */
struct ends {
	uint64_t dev, ino;
	Cpx__File *first;
	bool has_reader, has_writer;   /* in the tree */
	bool lost_reader, lost_writer; /* no such end is open anywhere */
	bool is_filled;		       /* content is recorded */
	bool is_packet;		       /* pipes */
	uint64_t peer_ino;	       /* sockets */
	bool has_unread;	       /* sockets: the peer has not received all; pseudo-terminals */
	bool has_status, is_signalled, is_locked; /* pseudo-terminals: ptyqueue.c */
	uint32_t unread;		       /* likewise */
};

/* A descriptor's link text, at which processes outside of the tree are looked for. */
enum watch_kind {
	WATCH_LINK,   /* the link says it all */
	WATCH_DEVICE, /* and the file system must be this one: links of other mount namespaces */
	WATCH_FILE,   /* and the description must be the same: all masters have one link */
};

struct watch {
	char *link; /* owned */
	Cpx__File *file;
	enum watch_kind kind;
	uint64_t dev; /* WATCH_DEVICE */
};

struct table_entry {
	Cpx__FdTable *table; /* owned */
	pid_t tid;
	const struct tracee *t;
};

struct file_table {
	struct file_entry **entry; /* by File id - 1; owned */
	size_t n, max;
	struct file_entry **sorted; /* descriptions in the order of files.c's compare */
	size_t nsorted, maxsorted;
	struct file_entry **mapped;
	size_t nmapped, maxmapped;
	struct table_entry *table; /* by FdTable id - 1 */
	size_t ntables, maxtables;
	size_t *by_kcmp; /* indices of table[] in kcmp's order */
	size_t nby_kcmp, maxby_kcmp;
	struct ends *ends; /* ascending by dev, ino */
	size_t nends, maxends;
	struct watch *watch;
	size_t nwatch, maxwatch;
	bool kcmp_denied;
	bool watch_same; /* files_watch_same() */
	struct uring_map *uring_map; /* res/uring.h */
	size_t nuring_maps, maxuring_maps;
	struct unix_diag diag;
};

/* The table of the context, made at the first call. NULL: no memory. */
struct file_table *files_table_of(struct dump_ctx *c);
bool files_tree_has(const struct dump_ctx *c, pid_t pid);
bool files_tree_has_thread(const struct dump_ctx *c, pid_t tid); /* leaders and zombies, too */
struct file_entry *files_entry(const struct dump_ctx *c, const Cpx__File *f);
bool files_table_has(const Cpx__FdTable *t, uint32_t file);
/* The File id that a table (which may be NULL) has at a number, 0: none. */
uint32_t files_at(const Cpx__FdTable *t, uint32_t fd);

/* Finds or adds. The pointer is valid until the next call. */
struct ends *files_ends(struct dump_ctx *c, uint64_t dev, uint64_t ino);

/* After all tables are read, refuses f if a process outside of the tree has a descriptor with this
 * link. */
int files_watch(struct dump_ctx *c, Cpx__File *f, const char *link, struct err *err);
int files_watch_more(struct dump_ctx *c, Cpx__File *f, const char *link, enum watch_kind kind,
		     uint64_t dev, struct err *err);

/* Likewise, if a process outside of the tree has this very description: for kinds whose link does
 * not tell one from the other. */
void files_watch_same(struct dump_ctx *c);
/* The description behind a descriptor that was not collected (p: number, inode, flags) of thread
 * tid, NULL if there is none in the tree or kcmp(2) is denied. */
struct file_entry *files_find_same(const struct dump_ctx *c, const struct fd_probe *p, pid_t tid);

/* A descriptor that came out of a queue: finds or adds its description. Takes fd over. t: the task
 * that would receive it. */
int files_add_in_flight(struct dump_ctx *c, struct tracee *t, int fd, uint32_t *ret_id,
			struct err *err);

/* ---- borrow.c ---- */
/* Runs a batch in the host thread of t while all others stand still, even if we die. -EPERM: that cannot be had, and it was not
 * run. */
int borrow_run(struct tracee *t, const struct batch *b, struct err *err);

/* ---- unsupported.c ---- */
/* The names of those kinds that are refused always; NULL ends them. Some come twice. */
const char *unsupported_kind(size_t i);
bool unsupported_is_secret(const struct fd_probe *p);

/* ---- files_refuse.c ---- */

/* Refuses "fd N (kind)" of the probed descriptor, and of a known description. Return 0 or -ENOMEM.
 */
int files_refuse(struct dump_ctx *c, const struct fd_probe *p, const char *kind, const char *fmt,
		 ...) __attribute__((format(printf, 4, 5)));
int files_refuse_entry(struct dump_ctx *c, const Cpx__File *f, const char *kind, const char *fmt,
		       ...) __attribute__((format(printf, 4, 5)));

/* A file that a mapping or the exe link of a task refers to. */
struct mapped_file {
	struct tracee *t;
	const char *path; /* without " (deleted)" */
	struct stat st;	  /* st_mode 0: only st_dev and st_ino are known */
	bool is_deleted, is_private;
	const char *proc_link; /* PID/map_files/A-B or PID/exe, relative to /proc or absolute */
};
bool memfd_is_mapped(const struct mapped_file *m);
int memfd_dump_mapped(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f,
		      struct err *err);
int memfd_add_view(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f, struct err *err);
int regular_dump_mapped(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f,
			struct err *err);
int regular_add_view(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f,
		     struct err *err);
/* Opens the link for reading; if cpx may not, finds the addresses. *ret_fd -1 then, len 0 if even
 * that is impossible. */
struct object_view;
int mapped_open(struct dump_ctx *c, const struct mapped_file *m, int *ret_fd,
		struct object_view *ret_view, struct err *err);
int refuse_mapping(struct dump_ctx *c, const struct mapped_file *m, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- outside.c ---- */
/* Looks for the watched links among the processes that are not in the tree, and refuses. */
int outside_scan(struct dump_ctx *c, struct err *err);

/* ---- paths.c: names of files ---- */

enum path_state {
	PATH_SAME,	/* the path leads to this very file */
	PATH_DELETED,	/* the file has no name any more */
	PATH_UNLINKED,	/* deleted under this name, another hard link was found: see link */
	PATH_LOST,	/* deleted under this name, other hard links not found */
	PATH_DIFFERENT, /* the path leads to another file or nowhere */
};

/* What /proc calls a file, and where it stands. path: the link's text; a " (deleted)" that is no
 * part of the name is cut off in place. link (size bytes) is set for PATH_UNLINKED. */
enum path_state path_examine(char *path, const struct stat *st, char *link, size_t size);
int path_record(const char *path, const struct stat *st, Cpx__Path **ret, struct err *err);
/* Does everything for kinds that need a live name: records it, or refuses and leaves *ret NULL. */
int path_dump(struct dump_ctx *c, const struct fd_probe *p, const char *kind, Cpx__Path **ret,
	      struct err *err);
/* The path as a C string: at most size - 1 bytes, no NUL inside. */
int path_text(const ProtobufCBinaryData *b, char *buf, size_t size, struct err *err);
/* Restore: refuses a path that is missing, not of this type (S_IFMT bits), or not to be opened with
 * these flags of open(2). */
int path_check(struct restore_ctx *c, const Cpx__Path *path, mode_t type, uint32_t flags,
	       const char *kind, struct err *err);

/* ---- regular.c ---- */
/* The description that open(2) made with O_TMPFILE. */
bool regular_is_tmpfile(const Cpx__File *f);

/* ---- hardlink.c ---- */

/* Records the handle, if it serves to open the file again. fd may be -1. */
int hardlink_dump(int fd, const struct stat *st, Cpx__RegularFile *b, struct err *err);
/* When all files are known: finds another name, or refuses. */
int hardlink_complete(struct dump_ctx *c, Cpx__File *f, struct err *err);
int hardlink_check(struct restore_ctx *c, const Cpx__File *f, struct err *err);
/* With O_PATH. */
int hardlink_open(struct restore_ctx *c, const Cpx__RegularFile *b, const char *path,
		  struct err *err);

/* ---- identity.c: is a file still what it was? ---- */

/* Restore. Where the file is now: under its name, another in the same directory, or (not itself)
 * whatever has its name. */
int identity_locate(const Cpx__RegularFile *b, char *path, size_t size, bool *ret_itself,
		    struct err *err);
/* What a task would not have seen had it gone on, NULL: nothing, or there is no such file. */
const char *identity_change(const Cpx__RegularFile *b, const char *path, bool itself);
/* Is it, by name or by inode, one of these? */
bool identity_is_listed(const char *const *list, size_t n, const char *path);
bool identity_is_allowed(const struct restore_ctx *c, const char *path);

/* ---- restore side: files_restore.c ---- */

/* Takes over fd and returns it as a number >= c->fd_base, close-on-exec; or a negative errno. */
int fd_raise(struct restore_ctx *c, int fd, struct err *err);
/* Opens a path with these status flags (creation and O_CLOEXEC bits are removed), raised. */
int file_open_path(struct restore_ctx *c, const char *path, uint32_t flags, struct err *err);
/* A new description of what fd refers to, through /proc/self/fd. */
int file_reopen(struct restore_ctx *c, int fd, uint32_t flags, struct err *err);
/* Index in image->file of a record of that image. */
size_t files_index(const struct restore_ctx *c, const Cpx__File *f);
/* The number that the first task which has f has it at. */
bool files_number(const struct restore_ctx *c, const Cpx__File *f, uint32_t *ret_fd);
/* Refuses "fd N (kind)" of the first task that has f. */
int files_refuse_restore(struct restore_ctx *c, const Cpx__File *f, const char *kind,
			 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* ---- pty.c: both sides of a pseudo-terminal in the tree ---- */

/* Dump. The master of this slave, if the tree has it; valid when all descriptors are known. */
const Cpx__File *pty_master_of(const struct dump_ctx *c, const Cpx__File *slave);
/* A slave that was hung up: its number is all there is to know. */
bool pty_is_hung_up(const struct fd_probe *p);
int pty_dump_hung_up(const struct fd_probe *p, Cpx__Terminal *b, struct err *err);
int pty_complete_hung_up(struct dump_ctx *c, const Cpx__File *f, struct err *err);
/* Restore, of a slave with its master, or hung up. */
bool pty_is_slave(const Cpx__Terminal *t);
int pty_check_hung_up(struct restore_ctx *c, const Cpx__File *f);
int pty_open_slave(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err);
void pty_settle_slave(struct restore_ctx *c, const Cpx__File *f, const Cpx__Task *task, int fd,
		      struct batch *b);
/* The pair whose slave is the controlling terminal of this session, NULL if there is none. */
const Cpx__File *pty_of_session(const struct image *im, uint32_t sid);

/* ---- locks.c ---- */
int locks_dump(struct dump_ctx *c, const struct fd_probe *p, const struct proc_fdinfo *info,
	       Cpx__File *f, struct err *err);
int owner_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err);
/* flock and OFD locks, by our own description. */
int locks_take(const Cpx__File *f, int fd, struct err *err);
/* POSIX locks of this task; at most one call a lock. from: index of the first lock to set, updated.
 * Returns 1 when the batch is full. */
int locks_settle(const Cpx__File *f, const Cpx__Task *task, int fd, struct batch *b, size_t *from,
		 struct err *err);
int owner_settle(const Cpx__File *f, int fd, struct batch *b);

bool owner_is_in_tree(const struct dump_ctx *c, const struct f_owner_ex *o);

/* ---- lease.c ---- */
/* Has anybody a lease on this file? Then it may not be opened: that would break it. */
bool lease_is_on(const struct stat *st);
int lease_dump(struct dump_ctx *c, const struct fd_probe *p, const struct proc_lock *l,
	       Cpx__File *f, struct err *err);
void lease_settle(const Cpx__File *f, const Cpx__Lock *l, int fd, struct batch *b);
/* Of a call that failed. */
int lease_check_call(const struct call *call, struct err *err);

/* ---- anon.c: anonymous inodes ---- */

/* name: "[eventfd]", "inotify" */
bool anon_is(const struct fd_probe *p, const char *name);
/* fdinfo of our duplicate. */
int anon_info(struct dump_ctx *c, const struct fd_probe *p, struct proc_fdinfo *ret,
	      struct err *err);
/* Takes over fd, which is what a system call returned (errno is reported if that failed), raises it
 * and sets its status flags. */
int anon_finish(struct restore_ctx *c, const Cpx__File *f, int fd, int *ret_fd, struct err *err);
int anon_check(struct restore_ctx *c, const Cpx__File *f, struct err *err); /* nothing to refuse */

/* ---- epoll.c ---- */

/* Numbers that registrations know stay below the base as well: MAX(base, any of them + 1). */
int epoll_fd_base(const Cpx__File *f, uint32_t base);
/* Before a table is installed: adds the calls that register what the epolls of the table's task
 * watch. *done counts registrations; 1 when the batch is full. Numbers below c->fd_base are used
 * for the moment and left open. */
int epoll_install(struct restore_ctx *c, const Cpx__FdTable *table, struct batch *b, size_t *done,
		  struct err *err);
/* Does one of these registrations watch f? */
bool epoll_needs(const struct restore_ctx *c, const Cpx__FdTable *table, const Cpx__File *f);

/* ---- inotify.c ---- */

/* Where a watched file is, if it can be found. */
bool watched_path(struct dump_ctx *c, const struct proc_inotify_watch *w, char *path, size_t size,
		  struct stat *st);

/* ---- pidfd.c ---- */

/* Before the registrations: adds the calls by which a task gets the pidfds and files of /proc that it or they need at
 * c->file_fd[]'s numbers. *next: the index of the File to go on with; 1 when the batch is full. */
int pidfd_install(struct restore_ctx *c, const Cpx__FdTable *table, struct batch *b, size_t *next,
		  struct err *err);

/* ---- procfile.c ---- */
/* At most 5 calls. */
int procfile_install(struct batch *b, const Cpx__File *f, int at, struct err *err);

extern const struct file_ops procfile_file_ops, pathonly_file_ops, terminal_file_ops, chardev_file_ops, memfd_file_ops,
	regular_file_ops, directory_file_ops, pipe_file_ops, unix_file_ops,
	epoll_file_ops, eventfd_file_ops, timerfd_file_ops, signalfd_file_ops, inotify_file_ops,
	pidfd_file_ops, pty_file_ops, mqueue_file_ops, uring_file_ops, fanotify_file_ops, netlink_file_ops,
	unsupported_file_ops;

#endif
