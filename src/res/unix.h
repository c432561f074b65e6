/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the files about Unix sockets: unixdump.c, unixqueue.c (dump), unixmake.c, unixfill.c
 * (restore), unixname.c, unixoption.c, unixcred.c (both). */
#ifndef CPX_RES_UNIX_H
#define CPX_RES_UNIX_H

#include "res/files.h"
#include "res/socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#define UNIX_NAME_MAX sizeof(((struct sockaddr_un *)0)->sun_path)

/* ---- unixoption.c ---- */
int unix_options_dump(int fd, Cpx__UnixSocket *b, struct err *err);
/* All but flags; the last thing that is done to a socket but shutdown(2). */
int unix_options_restore(int fd, const Cpx__UnixSocket *b, struct err *err);

/* ---- unixqueue.c ---- */
/* Adds what is queued to b->message, and the descriptors in it to the files of the dump. */
int unix_queue_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__UnixSocket *b,
		    struct err *err);

/* ---- unixname.c ---- */
bool unix_is_path(const ProtobufCBinaryData *name);
bool unix_same_name(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b);
/* For messages: "'/run/x'", "'@abstract'". */
void unix_name_text(const ProtobufCBinaryData *name, char *buf, size_t size);
/* getsockname(2) or getpeername(2). */
int unix_name_get(int fd, bool is_peer, ProtobufCBinaryData *ret, struct err *err);
/* Length of the address. */
socklen_t unix_address(const ProtobufCBinaryData *name, struct sockaddr_un *ret);
/* Records the socket file of b->name; b->file stays NULL where it cannot be found. */
int unix_file_dump(struct dump_ctx *c, const struct fd_probe *p, const struct unix_diag_info *info,
		   Cpx__UnixSocket *b, struct err *err);
/* Refuses a name that somebody else uses. */
int unix_name_check(struct restore_ctx *c, const Cpx__File *f, const ProtobufCBinaryData *name,
		    uint32_t type, struct err *err);
int unix_file_check(struct restore_ctx *c, const Cpx__File *f, struct err *err);
/* The file of a socket that is bound to a path, in a directory that nobody else gets into. */
struct unix_node {
	int fd;	    /* O_PATH, -1: none */
	char *root; /* the directory */
};
/* Gives the socket its name. */
int unix_bind(int fd, const ProtobufCBinaryData *name, const Cpx__UnixFile *file,
	      struct unix_node *node, struct err *err);
/* Moves the file to where it belongs. */
int unix_publish(const struct unix_node *node, const Cpx__UnixFile *file, struct err *err);
/* Removes it if it was not published. */
void unix_node_release(struct unix_node *node);
/* The address by which a bound socket is reached: /proc/self/fd/NODE, or the abstract name. */
socklen_t unix_address_of(const ProtobufCBinaryData *name, int node, struct sockaddr_un *ret);

/* ---- unixexternal.c ---- */
/* Dump: process pid, outside of the tree, has the other end. 1: the user accepts that. */
int unix_external_take(struct dump_ctx *c, Cpx__File *f, pid_t pid, const char *comm,
		       struct err *err);
/* The peer of f is not in the tree. 1: accepted; or refused already, if it cannot be connected to
 * again. */
int unix_external_complete(struct dump_ctx *c, Cpx__File *f, struct err *err);
/* Restore: refuses where nobody listens now. */
int unix_external_check(struct restore_ctx *c, const Cpx__File *f, struct err *err);
/* Where connect_as() finds the peer. */
int unix_external_node(const Cpx__UnixSocket *b, struct unix_node *ret, struct err *err);

/* ---- unixcred.c ---- */
Cpx__UnixCred *unix_cred_new(const struct ucred *cred);
/* SO_PEERCRED, NULL if there is none; -ENOMEM. */
int unix_cred_get(int fd, Cpx__UnixCred **ret);
/*
 * Runs fn as the process that cred tells, in a child that shares our descriptors (and nothing else:
 * results come as descriptors only). Where that PID cannot be had, and for cred NULL, we do it
 * ourselves. fn returns 0 or a negative errno.
 */
int unix_as(const Cpx__UnixCred *cred, int (*fn)(void *arg), void *arg);
/* The same always in a child. */
int unix_apart(int (*fn)(void *arg), void *arg);

/* ---- unixmake.c ---- */
/* One socket of the image while it is rebuilt. */
struct unix_part {
	const Cpx__File *f;
	const Cpx__UnixSocket *b;
	struct unix_part *peer; /* in the image, NULL: none */
	int fd;			/* once made: that of file_fd[], borrowed; -1 */
	int other;		/* stands for a peer that is closed; -1 */
	struct unix_node node;
	bool is_pair; /* made by socketpair(2) */
};

/* Has a name for a while that no socket of the image has any more. */
struct unix_stand_in {
	const ProtobufCBinaryData *name;
	uint32_t type;
	int fd;
	struct unix_node node;
};

struct unix_world {
	struct unix_part *part;
	size_t n;
	struct unix_stand_in *stand_in;
	size_t nstand_ins, maxstand_ins;
};
int unix_check(struct restore_ctx *c, const Cpx__File *f, struct err *err);
int unix_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err);
struct unix_part *unix_part_find(const struct unix_world *w, uint64_t ino);
/* Finds or makes a stand-in: bound, not listening. */
int unix_stand_in(struct unix_world *w, const ProtobufCBinaryData *name, uint32_t type,
		  struct unix_stand_in **ret, struct err *err);
void unix_world_release(struct restore_ctx *c);

/* ---- unixfill.c ---- */
int unix_fill(struct restore_ctx *c, const Cpx__File *f, struct err *err);

#endif
