/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Build ids: the note of ld(1) --build-id, by which a program is the same wherever it was installed. */
#ifndef CPX_RES_BUILDID_H
#define CPX_RES_BUILDID_H

#include "res/res.h"

#define BUILD_ID_MAX 64

struct build_id {
	uint8_t byte[BUILD_ID_MAX];
	size_t len; /* 0: the file has none */
};

/* 0, or -ENOMEM. */
int build_id_of_file(int fd, struct build_id *ret);

struct mapped_views {
	const struct mapped_view *view;
	size_t n;
	pid_t pid; /* whose pagemap is open */
	int pagemap_fd;
};

/* From pages that are still those of the file. False: there are no such, or not all that it takes. */
bool build_id_of_mapping(struct mapped_views *views, uint32_t file, struct build_id *ret);

#endif
