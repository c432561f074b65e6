/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Shared by the files of src/proc only. */
#ifndef CPX_PROC_INTERNAL_H
#define CPX_PROC_INTERNAL_H

#include "base/util.h"
#include "proc/proc.h"
#include "proc/scan.h"

/* "its /proc file <name> is malformed", -EBADMSG. */
int proc_malformed(struct err *err, const char *name);

/* Reads the file `name` of dir and gives its text to parse(text, len, out): most readers, whole. */
#define PROC_READ_PARSED(dir, name, parse, err, ...)					\
	({										\
		_cleanup_free_ char *text_ = NULL;					\
		size_t len_ = 0;							\
		int r_ = proc_read((dir), (name), &text_, &len_, (err));		\
		if (r_ == 0) {								\
			r_ = parse(text_, len_, __VA_ARGS__);				\
			if (r_ == -ENOMEM)						\
				err_nomem(err);						\
			else if (r_ < 0)						\
				proc_malformed((err), (name));				\
		}									\
		r_;									\
	})

#endif
