/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copies an image from a stream into an unlinked temporary file, for images that are read here and
 * there. Goes from frame to frame, so that it takes exactly the image and waits for nothing behind
 * it; judges nothing but the lengths, since the copy is read like any other file.
 */
#include "image/reader.h"
#include "base/util.h"

struct spool {
	struct source *s;
	int fd;
	uint64_t pos;	 /* bytes that are in the file */
	uint64_t buffered; /* of the source, behind them, that have been read already */
	const uint8_t *head;
	uint8_t piece[65536];
};

static int put(struct spool *p, const uint8_t *data, size_t len, struct err *err)
{
	while (len) {
		ssize_t n = pwrite(p->fd, data, len, (off_t)p->pos);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n < 0 ? -errno : -EIO,
				       "cannot write the temporary copy of the image (see TMPDIR)");
		data += n;
		p->pos += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

static int get(struct spool *p, uint8_t *data, size_t len, struct err *err)
{
	size_t n = MIN(len, p->buffered);

	if (n) {
		memcpy(data, p->head, n);
		p->head += n;
		p->buffered -= n;
	}
	return n == len ? 0 : image_read_at(p->s, p->pos + n, data + n, len - n, err);
}

static int copy(struct spool *p, uint64_t len, struct err *err)
{
	int r = 0;

	while (len && r == 0) {
		size_t n = MIN(len, sizeof(p->piece));

		r = get(p, p->piece, n, err);
		if (r == 0)
			r = put(p, p->piece, n, err);
		len -= n;
	}
	return r;
}

/* What follows the fixed part of a frame. */
static int length_of(const uint8_t *head, uint64_t *ret, struct err *err)
{
	struct format_record rec;
	struct format_index x;
	unsigned n;
	int r;

	switch (format_frame_kind(head)) {
	case FRAME_RECORD:
		r = format_get_record(head, &rec, err);
		*ret = rec.length;
		return r;
	case FRAME_CHUNK:
		r = format_chunk_extents(head, &n, err);
		*ret = (uint64_t)n * EXTENT_SIZE + le32_get(head + 20) + le32_get(head + 16);
		return r;
	case FRAME_INDEX:
		r = format_get_index(head, &x, err);
		*ret = x.length + FOOTER_SIZE;
		return r;
	default:
		return image_corrupt(err, "the index is not where it should be");
	}
}

static int copy_frames(struct spool *p, struct err *err)
{
	uint8_t head[FRAME_SIZE];
	int r = copy(p, HEADER_SIZE, err);

	do {
		uint64_t len = 0;

		if (r == 0)
			r = get(p, head, sizeof(head), err);
		if (r == 0)
			r = length_of(head, &len, err);
		if (r == 0)
			r = put(p, head, sizeof(head), err);
		if (r == 0)
			r = copy(p, len, err);
	} while (r == 0 && format_frame_kind(head) != FRAME_INDEX);
	return r;
}

int image_spool(struct source *s, const void *head, size_t n, struct err *err)
{
	_cleanup_close_ int fd = source_temporary(err);
	struct spool p = {.s = s, .fd = fd, .head = head, .buffered = n};
	struct source file;
	int r = fd < 0 ? fd : copy_frames(&p, err);

	if (r < 0)
		return r;
	r = source_open_fd(&file, fd, err);
	if (r < 0)
		return r;
	source_release(s);
	*s = file;
	s->fd = TAKE_FD(fd);
	s->owns_fd = true;
	return 0;
}
