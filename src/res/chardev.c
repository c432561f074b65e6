/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Character devices without state: /dev/null, zero, full, random, urandom, hwrng, and the kernel log
 * to write, known by their numbers (Documentation/admin-guide/devices.txt). All others are refused
 * by name.
 */
#include "res/files.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/sysmacros.h>

static const struct stateless {
	unsigned major, minor;
	const char *path;
	bool only_to_write; /* a reader has a place in it */
} stateless[] = {
	{1, 3, "/dev/null", false},   {1, 5, "/dev/zero", false},    {1, 7, "/dev/full", false},
	{1, 8, "/dev/random", false}, {1, 9, "/dev/urandom", false}, {1, 11, "/dev/kmsg", true},
	{10, 183, "/dev/hwrng", false},
};

static const struct stateless *find_stateless(unsigned maj, unsigned min, uint32_t flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(stateless); i++)
		if (maj == stateless[i].major && min == stateless[i].minor &&
		    (!stateless[i].only_to_write || (flags & O_ACCMODE) == O_WRONLY))
			return &stateless[i];
	return NULL;
}

/* What a refusal calls it. minor -1: all of that major. */
static const struct {
	unsigned major;
	int minor;
	const char *what;
} known[] = {
	{1, 1, "memory of the machine"},
	{1, 11, "kernel log, in which a reader has a place"},
	{10, 200, "network interface (TUN/TAP)"},
	{10, 229, "server side of a file system (FUSE)"},
	{10, 232, "maker of virtual machines (KVM)"},
	{13, -1, "input"},
	{81, -1, "video"},
	{116, -1, "sound"},
	{195, -1, "GPU"},
	{226, -1, "GPU"},
};

static const char *what_is(unsigned maj, unsigned min)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (known[i].major == maj && (known[i].minor < 0 || known[i].minor == (int)min))
			return known[i].what;
	return "unknown";
}

static ProtobufCMessage *chardev_body(const Cpx__File *f)
{
	return f->chardev ? &f->chardev->base : NULL;
}

static bool chardev_match(const struct fd_probe *p)
{
	return S_ISCHR(p->st.st_mode);
}

static int chardev_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	unsigned maj = major(p->st.st_rdev), min = minor(p->st.st_rdev);

	f->chardev = msg_new(sizeof(*f->chardev), (void (*)(void *))cpx__char_device__init);
	if (!f->chardev)
		return err_nomem(err);
	f->chardev->major = maj;
	f->chardev->minor = min;
	if (!find_stateless(maj, min, f->flags))
		return files_refuse(c, p, p->link,
				    "cannot be checkpointed: %s (character device %u:%u); its driver "
				    "may hold state that cpx cannot see",
				    what_is(maj, min), maj, min);
	return path_record(p->link, &p->st, &f->chardev->path, err);
}

static bool is_device(const char *path, const Cpx__CharDevice *d)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISCHR(st.st_mode) &&
	       st.st_rdev == makedev(d->major, d->minor);
}

/* The recorded path, or where such a device always is. NULL: nowhere. */
static const char *device_path(const Cpx__File *f, char *buf, size_t size)
{
	const Cpx__CharDevice *d = f->chardev;
	const struct stateless *s = find_stateless(d->major, d->minor, f->flags);

	if (!s)
		return NULL;
	if (d->path && path_text(&d->path->path, buf, size, NULL) == 0 && is_device(buf, d))
		return buf;
	return is_device(s->path, d) ? s->path : NULL;
}

static int chardev_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	char buf[PATH_MAX];

	if (device_path(f, buf, sizeof(buf)))
		return 0;
	return files_refuse_restore(c, f, "character device",
				    "cannot be restored: there is no device %u:%u here",
				    f->chardev->major, f->chardev->minor);
}

static int chardev_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	char buf[PATH_MAX];
	const char *path = device_path(f, buf, sizeof(buf));
	int fd;

	if (!path)
		return err_set(err, -ENODEV, "there is no character device %u:%u here",
			       f->chardev->major, f->chardev->minor);
	fd = file_open_path(c, path, f->flags, err);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

const struct file_ops chardev_file_ops = {
	.name = "character device",
	.body = chardev_body,
	.match = chardev_match,
	.dump = chardev_dump,
	.check = chardev_check,
	.open = chardev_open,
};
