/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where an image is written to. A regular file appears under its name only by output_commit(),
 * complete and on the disk; until then the previous file of that name stands. Streams (standard
 * output, FIFOs, devices) are written directly.
 */
#ifndef CPX_ENGINE_OUTPUT_H
#define CPX_ENGINE_OUTPUT_H

#include "base/err.h"
#include "cpx.h"
#include "image/image.h"

#include <limits.h>
#include <stdbool.h>

struct output {
	int fd;
	bool is_file;		 /* fd is a new regular file at offset 0, else a stream */
	bool is_borrowed;	 /* fd is the caller's */
	int dir_fd;		 /* of the folder that will hold the file */
	char name[NAME_MAX + 1]; /* in it */
	char temp[NAME_MAX + 1]; /* its name until then, empty while it has none */
	char path[PATH_MAX];	 /* for messages */
};
#define OUTPUT_INIT                                                                                \
	{                                                                                          \
		.fd = -1, .dir_fd = -1                                                             \
	}

/* path "-": stream_fd. */
int output_open(struct output *o, const char *path, int stream_fd, struct err *err);
int output_commit(struct output *o, struct err *err);
/* A file is empty again. A stream must not have been written to. */
int output_restart(struct output *o, struct err *err);
/* How chunks are written to it. level 0: the usual one. */
void output_format(const struct output *o, enum cpx_compress compress, int level,
		   struct image_writer_options *ret);
/* Discards what was not committed. */
void output_release(struct output *o);

#endif
