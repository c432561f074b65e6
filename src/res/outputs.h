/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What each clone has for itself: files below output_dir/N. Private to the files of src/res. */
#ifndef CPX_RES_OUTPUTS_H
#define CPX_RES_OUTPUTS_H

#include "res/files.h"

/* A regular file of which the clone gets a copy (path: where it is now): writes the copy's path to ret, made with its
 * contents if this is the first use. 1; 0 if the file is to be shared; or negative. */
int outputs_file(struct restore_ctx *c, const Cpx__File *f, const char *path, char ret[PATH_MAX],
		 struct err *err);
/* The file that stands for a pipe to outside or a terminal that the tree writes to: 1 and its path, 0 if there is none. */
int outputs_stream(const struct restore_ctx *c, const Cpx__File *f, char ret[PATH_MAX]);

#endif
