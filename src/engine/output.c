/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Owns the image file until it is complete: open(2) with O_TMPFILE, so that nothing is left
 * behind even by SIGKILL, linkat(2) of /proc/self/fd, rename(2), fsync(2). File systems without
 * O_TMPFILE get a dotfile beside the target, which a SIGKILL leaves there.
 */
#include "engine/output.h"
#include "base/util.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

/* Measured on 4 MiB and 1 GiB: zstd's fastest level takes two to three times the time of lz4 and makes images a
 * third smaller. To a file time counts; down a pipe to another host the bytes do. */
enum { DEFAULT_LEVEL = 1 };

enum { IMAGE_MODE = 0600 };

static int open_stream(struct output *o, struct err *err)
{
	o->fd = open(o->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	if (o->fd < 0)
		return err_sys(err, -errno, "cannot open '%s'", o->path);
	return 0;
}

/* A symbolic link stays; the file it leads to is what gets replaced. */
static int resolve(struct output *o, const char *path, struct err *err)
{
	_cleanup_free_ char *real = realpath(path, NULL);

	if (snprintf(o->path, sizeof(o->path), "%s", real ? real : path) >= (int)sizeof(o->path))
		return err_sys(err, -ENAMETOOLONG, "'%.200s...'", path);
	return 0;
}

static int open_folder(struct output *o, struct err *err)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(o->path, '/');
	const char *name = slash ? slash + 1 : o->path;

	if (*name == '\0' || strlen(name) >= sizeof(o->name))
		return err_sys(err, *name ? -ENAMETOOLONG : -EISDIR, "'%s'", o->path);
	strcpy(o->name, name);
	snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - o->path) + 1 : 1,
		 slash ? o->path : ".");
	o->dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (o->dir_fd < 0)
		return err_sys(err, -errno, "cannot write '%s': folder '%s'", o->path, folder);
	return 0;
}

static int make_temp_name(struct output *o, struct err *err)
{
	uint32_t salt;

	if (getrandom(&salt, sizeof(salt), 0) != sizeof(salt))
		return err_sys(err, -errno, "getrandom");
	snprintf(o->temp, sizeof(o->temp), ".%.200s.%08x", o->name, salt);
	return 0;
}

static int open_file(struct output *o, struct err *err)
{
	int ret = open_folder(o, err);

	if (ret < 0)
		return ret;
	o->is_file = true;
	o->fd = openat(o->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, IMAGE_MODE);
	if (o->fd >= 0)
		return 0;
	/* EISDIR: a kernel file system from before O_TMPFILE takes it for O_DIRECTORY. */
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL)
		return err_sys(err, -errno, "cannot create '%s'", o->path);
	ret = make_temp_name(o, err);
	if (ret < 0)
		return ret;
	o->fd = openat(o->dir_fd, o->temp, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, IMAGE_MODE);
	if (o->fd >= 0)
		return 0;
	ret = -errno;
	o->temp[0] = '\0';
	return err_sys(err, ret, "cannot create '%s'", o->path);
}

int output_open(struct output *o, const char *path, int stream_fd, struct err *err)
{
	struct stat st;
	int ret;

	*o = (struct output)OUTPUT_INIT;
	if (strcmp(path, "-") == 0) {
		strcpy(o->path, "standard output");
		o->fd = stream_fd;
		o->is_borrowed = true;
		return 0;
	}
	ret = resolve(o, path, err);
	if (ret < 0)
		return ret;
	if (stat(path, &st) < 0)
		return open_file(o, err);
	if (S_ISDIR(st.st_mode))
		return err_sys(err, -EISDIR, "cannot write '%s'", path);
	return S_ISREG(st.st_mode) ? open_file(o, err) : open_stream(o, err);
}

/* Gives the nameless file a name: its own when that is free, else one to be renamed from. */
static int link_file(struct output *o, struct err *err)
{
	char fd_path[64];
	int ret;

	snprintf(fd_path, sizeof(fd_path), "/proc/self/fd/%d", o->fd);
	if (linkat(AT_FDCWD, fd_path, o->dir_fd, o->name, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno != EEXIST)
		return err_sys(err, -errno, "cannot name '%s'", o->path);
	ret = make_temp_name(o, err);
	if (ret < 0)
		return ret;
	if (linkat(AT_FDCWD, fd_path, o->dir_fd, o->temp, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	ret = -errno;
	o->temp[0] = '\0';
	return err_sys(err, ret, "cannot name '%s'", o->path);
}

static int commit_file(struct output *o, struct err *err)
{
	if (!o->temp[0]) {
		int ret = link_file(o, err);

		if (ret < 0)
			return ret;
	}
	if (o->temp[0] && renameat(o->dir_fd, o->temp, o->dir_fd, o->name) < 0)
		return err_sys(err, -errno, "cannot rename '%s' to '%s'", o->temp, o->path);
	o->temp[0] = '\0';
	if (fsync(o->dir_fd) < 0 && errno != EINVAL)
		return err_sys(err, -errno, "cannot write the folder of '%s'", o->path);
	return 0;
}

int output_commit(struct output *o, struct err *err)
{
	/* EINVAL, EROFS: pipes, terminals and devices have nothing to synchronise. */
	if (fsync(o->fd) < 0 && (o->is_file || (errno != EINVAL && errno != EROFS)))
		return err_sys(err, -errno, "cannot write '%s'", o->path);
	return o->is_file ? commit_file(o, err) : 0;
}

int output_restart(struct output *o, struct err *err)
{
	if (o->is_file && (ftruncate(o->fd, 0) < 0 || lseek(o->fd, 0, SEEK_SET) < 0))
		return err_sys(err, -errno, "cannot empty '%s'", o->path);
	return 0;
}

void output_release(struct output *o)
{
	if (o->temp[0])
		unlinkat(o->dir_fd, o->temp, 0);
	if (o->fd >= 0 && !o->is_borrowed)
		close(o->fd);
	if (o->dir_fd >= 0)
		close(o->dir_fd);
	*o = (struct output)OUTPUT_INIT;
}

static enum codec chosen_codec(const struct output *o, enum cpx_compress c)
{
	switch (c) {
	case CPX_COMPRESS_NONE:
		return CODEC_NONE;
	case CPX_COMPRESS_LZ4:
		return CODEC_LZ4;
	case CPX_COMPRESS_ZSTD:
		return CODEC_ZSTD;
	default:
		return o->is_file ? CODEC_LZ4 : CODEC_ZSTD;
	}
}

void output_format(const struct output *o, enum cpx_compress compress, int level,
		   struct image_writer_options *ret)
{
	ret->codec = chosen_codec(o, compress);
	ret->level = level ? level : DEFAULT_LEVEL;
	ret->page_aligned = o->is_file;
}
