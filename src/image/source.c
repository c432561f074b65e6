/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the reader's bytes come from: a file (pread), a stream (read), or memory; and the temporary
 * file for a stream that has to be read as a file. The reader does no system call but through these. Nothing is
 * mapped: a file that shrinks meanwhile is an error and not a SIGBUS, and what was checked is what is used.
 */
#include "image/image.h"
#include "base/util.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

static int end_of_source(uint64_t offset, struct err *err)
{
	return err_set(err, -ENODATA, "image is truncated at byte %llu",
		       (unsigned long long)offset);
}

static int read_memory(struct source *s, uint64_t offset, void *buf, size_t len, struct err *err)
{
	if (offset > s->size || len > s->size - offset)
		return end_of_source(s->size, err);
	if (len)
		memcpy(buf, (const uint8_t *)s->data + offset, len);
	return 0;
}

static int read_file(struct source *s, uint64_t offset, void *buf, size_t len, struct err *err)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = pread(s->fd, p, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "cannot read the image");
		if (n == 0)
			return end_of_source(offset, err);
		p += n;
		offset += n;
		len -= n;
	}
	return 0;
}

/* read(2) that waits where the descriptor is non-blocking. */
static ssize_t read_some(int fd, void *buf, size_t len)
{
	for (;;) {
		ssize_t n = read(fd, buf, len);

		if (n >= 0)
			return n;
		if (errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLIN};

			poll(&p, 1, -1);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
}

static int read_exactly(struct source *s, uint8_t *p, size_t len, struct err *err)
{
	while (len) {
		ssize_t n = read_some(s->fd, p, len);

		if (n < 0)
			return err_sys(err, n, "cannot read the image");
		if (n == 0)
			return end_of_source(s->next, err);
		p += n;
		s->next += n;
		len -= n;
	}
	return 0;
}

static int read_stream(struct source *s, uint64_t offset, void *buf, size_t len, struct err *err)
{
	uint8_t skipped[4096];

	if (offset < s->next)
		return err_set(err, -ESPIPE, "cannot go back in a stream");
	while (s->next < offset) {
		int r = read_exactly(s, skipped, MIN(offset - s->next, sizeof(skipped)), err);

		if (r < 0)
			return r;
	}
	return read_exactly(s, buf, len, err);
}

int source_open_fd(struct source *s, int fd, struct err *err)
{
	struct stat st;
	off_t at;

	*s = (struct source){.fd = fd, .read_at = read_stream};
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "cannot stat the image");
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "is a directory, not a cpx image");
	at = lseek(fd, 0, SEEK_CUR);
	if (!S_ISREG(st.st_mode) || at != 0)
		return 0; /* somebody has read the start: the image begins here */
	s->read_at = read_file;
	s->is_seekable = true;
	s->size = st.st_size;
	return 0;
}

void source_open_memory(struct source *s, const void *data, size_t size)
{
	*s = (struct source){
		.read_at = read_memory,
		.is_seekable = true,
		.size = size,
		.data = (void *)data,
		.fd = -1,
	};
}

static int open_unnamed(const char *folder)
{
	char name[4096];
	int fd = open(folder, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (size_t)snprintf(name, sizeof(name), "%s/cpx.XXXXXX", folder) >= sizeof(name))
		return fd;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd >= 0)
		unlink(name);
	return fd;
}

/* /var/tmp before /tmp: it is large where the other is memory. */
int source_temporary(struct err *err)
{
	const char *const folder[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
	int fd = -1;

	for (size_t i = 0; i < ARRAY_SIZE(folder) && fd < 0; i++)
		if (folder[i])
			fd = open_unnamed(folder[i]);
	return fd >= 0 ? fd : err_sys(err, -errno, "cannot make a temporary file (see TMPDIR)");
}

void source_release(struct source *s)
{
	if (s->owns_fd)
		close(s->fd);
	*s = (struct source){.fd = -1};
}
