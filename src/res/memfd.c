/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * memfd_create(2): name, size, content, seals, mode, huge pages; shared by descriptors and
 * mappings. The content is an Object (objects.c); this is the descriptor's side: status flags and
 * position.
 */
#include "res/objects.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/vfs.h>

static const char prefix[] = "/memfd:";

static ProtobufCMessage *memfd_body(const Cpx__File *f)
{
	return f->memfd ? &f->memfd->base : NULL;
}

static bool is_named(const char *link)
{
	return strncmp(link, prefix, sizeof(prefix) - 1) == 0;
}

static bool memfd_match(const struct fd_probe *p)
{
	return S_ISREG(p->st.st_mode) && p->st.st_nlink == 0 && is_named(p->link) &&
	       fcntl(p->dup, F_GET_SEALS) >= 0;
}

static int body_new(Cpx__File *f, uint32_t object, struct err *err)
{
	f->memfd = msg_new(sizeof(*f->memfd), (void (*)(void *))cpx__memfd__init);
	if (!f->memfd)
		return err_nomem(err);
	f->memfd->object = object;
	return 0;
}

static int memfd_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f, struct err *err)
{
	Cpx__Object *object;
	int r = objects_add(c, p->t, CPX__OBJECT__TYPE__MEMFD, p->st.st_dev, p->st.st_ino,
			    p->st.st_size, p->dup, 0, 0, 0, &object, err);

	return r < 0 ? r : body_new(f, object->id, err);
}

bool memfd_is_mapped(const struct mapped_file *m)
{
	return m->is_deleted && is_named(m->path);
}

/* Without the right to open the link (cap_checkpoint_restore) and without any descriptor, size and
 * content are what the mappings show; seals are unknown and cannot matter without a descriptor. */
static int add_mapped_object(struct dump_ctx *c, const struct mapped_file *m, Cpx__Object **ret,
			     struct err *err)
{
	struct object_view view;
	_cleanup_close_ int fd = -1;
	struct stat st = m->st;
	int r = mapped_open(c, m, &fd, &view, err);

	if (r < 0)
		return r;
	if (fd >= 0 && fstat(fd, &st) < 0)
		return err_sys(err, -errno, "cannot examine it");
	if (fd < 0 && view.len == 0)
		return refuse_mapping(
			c, m,
			"cannot be checkpointed: only a cpx with cap_checkpoint_restore may read "
			"this memory file");
	return objects_add_view(c, m->t, CPX__OBJECT__TYPE__MEMFD, st.st_dev, st.st_ino,
				fd >= 0 ? (uint64_t)st.st_size : view.offset + view.len, fd, &view,
				ret, err);
}

int memfd_dump_mapped(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f,
		      struct err *err)
{
	const char *name = m->path + sizeof(prefix) - 1;
	Cpx__Object *object = NULL;
	int r = add_mapped_object(c, m, &object, err);

	if (r < 0)
		return r;
	if (object && !object->name.data && msg_set_bytes(&object->name, name, strlen(name)) < 0)
		return err_nomem(err);
	return body_new(f, object ? object->id : 0, err);
}

int memfd_add_view(struct dump_ctx *c, const struct mapped_file *m, Cpx__File *f, struct err *err)
{
	Cpx__Object *object = NULL;

	return f->memfd->object ? add_mapped_object(c, m, &object, err) : 0;
}

static int memfd_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	return image_object(c->image, f->memfd->object)
		       ? 0
		       : err_set(err, -EBADMSG, "a memfd has no content");
}

static int memfd_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	int fd = objects_fd(c, f->memfd->object, err);

	if (fd >= 0)
		fd = file_reopen(c, fd, f->flags, err);
	if (fd < 0)
		return fd;
	if (f->pos && lseek(fd, f->pos, SEEK_SET) < 0) {
		close(fd);
		return err_sys(err, -errno, "cannot seek to %llu", (unsigned long long)f->pos);
	}
	*ret_fd = fd;
	return 0;
}

const struct file_ops memfd_file_ops = {
	.name = "memfd",
	.body = memfd_body,
	.match = memfd_match,
	.dump = memfd_dump,
	.check = memfd_check,
	.open = memfd_open,
};
