/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Names of Unix sockets: abstract ones (autobound ones are such), paths, and the socket files that
 * paths stand for.
 *
 * Which file a socket is bound to is told by SIOCUNIXFILE where we may ask (CAP_NET_ADMIN), else by
 * the inode that sock_diag shows. At restore the socket is bound in a directory of our own, seen as
 * the root directory by a child, so that it has its old name whatever is at that path now; then its
 * file is moved to where it was, in place of the one that the dead process has left behind. A name
 * in use by a living socket is refused.
 *
 * Cannot keep: the inode number of the file.
 */
#include "res/unix.h"

#include "base/kabi.h"
#include "res/attr.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <sys/ioctl.h>

/* ---- names ---- */

bool unix_is_path(const ProtobufCBinaryData *name)
{
	return name->len && name->data[0] != '\0';
}

bool unix_same_name(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
	return a->len == b->len && a->len && memcmp(a->data, b->data, a->len) == 0;
}

void unix_name_text(const ProtobufCBinaryData *name, char *buf, size_t size)
{
	bool is_path = unix_is_path(name);

	snprintf(buf, size, "'%s%.*s'", is_path ? "" : "@", (int)name->len - !is_path,
		 (const char *)name->data + !is_path);
	for (char *s = buf; *s; s++)
		if (*s < ' ' || *s == 0x7f)
			*s = '?';
}

int unix_name_get(int fd, bool is_peer, ProtobufCBinaryData *ret, struct err *err)
{
	struct sockaddr_un sun = {0};
	socklen_t len = sizeof(sun), head = offsetof(struct sockaddr_un, sun_path);
	int r = is_peer ? getpeername(fd, (struct sockaddr *)&sun, &len)
			: getsockname(fd, (struct sockaddr *)&sun, &len);

	if (r < 0 || len <= head)
		return 0;
	len = MIN(len, sizeof(sun)) - head;
	if (sun.sun_path[0]) /* the kernel counts the NUL behind a path, which may not fit */
		len = strnlen(sun.sun_path, len);
	return msg_set_bytes(ret, sun.sun_path, len) < 0 ? err_nomem(err) : 0;
}

socklen_t unix_address(const ProtobufCBinaryData *name, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret->sun_path, name->data, MIN(name->len, UNIX_NAME_MAX));
	return offsetof(struct sockaddr_un, sun_path) + MIN(name->len, UNIX_NAME_MAX);
}

socklen_t unix_address_of(const ProtobufCBinaryData *name, int node, struct sockaddr_un *ret)
{
	if (!unix_is_path(name))
		return unix_address(name, ret);
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(ret->sun_path, UNIX_NAME_MAX, "/proc/self/fd/%d", node);
	return sizeof(*ret);
}

/* ---- dump: the file ---- */

/* 1: path is the file that the kernel says. 0: it does not. Negative: we may not ask. */
static int ask_kernel(int fd, char *path, size_t size, struct stat *st, struct err *err)
{
	_cleanup_close_ int node = ioctl(fd, SIOCUNIXFILE);
	char link[48];
	ssize_t n;

	if (is_denied("unixfile") || node < 0)
		return -EPERM;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", node);
	n = readlink(link, path, size - 1);
	if (n <= 0 || fstat(node, st) < 0)
		return err_sys(err, -errno, "cannot examine its file");
	path[n] = '\0';
	return 1;
}

static bool is_file(const char *path, uint32_t ino, struct stat *st)
{
	return fstatat(AT_FDCWD, path, st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st->st_mode) &&
	       (uint32_t)st->st_ino == ino;
}

/* By the name itself; relative to the working directory of the task that has it. */
static bool look_up(struct dump_ctx *c, const struct fd_probe *p, const ProtobufCBinaryData *name,
		    uint32_t ino, char *path, size_t size, struct stat *st)
{
	char cwd[PATH_MAX] = "";
	_cleanup_close_ int dir = -1;

	if (name->data[0] != '/' && (proc_open(c->proc_fd, p->t->pid, 0, &dir, NULL) < 0 ||
				     proc_link(dir, "cwd", cwd, sizeof(cwd), NULL) < 0))
		return false;
	if (snprintf(path, size, "%s%s%.*s", cwd, *cwd ? "/" : "", (int)name->len,
		     (const char *)name->data) >= (int)size)
		return false;
	return is_file(path, ino, st);
}

static int record_file(const char *path, const struct stat *st, Cpx__UnixSocket *b, bool is_deleted,
		       struct err *err)
{
	Cpx__UnixFile *f = b->file = MSG_NEW(Cpx__UnixFile, cpx__unix_file__init);

	if (!f)
		return err_nomem(err);
	f->uid = st->st_uid;
	f->gid = st->st_gid;
	f->deleted = is_deleted;
	return path_record(path, st, &f->path, err);
}

static int record_known(char *path, const struct stat *st, Cpx__UnixSocket *b, struct err *err)
{
	char link[PATH_MAX];

	switch (path_examine(path, st, link, sizeof(link))) {
	case PATH_SAME:
		return record_file(path, st, b, false, err);
	case PATH_UNLINKED:
		return record_file(link, st, b, false, err);
	case PATH_DELETED:
		return record_file(path, st, b, true, err);
	case PATH_LOST:
	case PATH_DIFFERENT:
		break;
	}
	return 0;
}

int unix_file_dump(struct dump_ctx *c, const struct fd_probe *p, const struct unix_diag_info *info,
		   Cpx__UnixSocket *b, struct err *err)
{
	char path[PATH_MAX + 16];
	struct stat st;
	int r;

	if (!unix_is_path(&b->name))
		return 0;
	r = ask_kernel(p->dup, path, sizeof(path), &st, err);
	if (r > 0)
		return record_known(path, &st, b, err);
	if (r != -EPERM)
		return r;
	return info->has_file && look_up(c, p, &b->name, info->file_ino, path, sizeof(path), &st)
		       ? record_file(path, &st, b, false, err)
		       : 0;
}

/* ---- restore: checks ---- */

/* A datagram socket can only be connected to one of its kind: no other notices that we ask. */
static bool is_alive(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int node = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct sockaddr_un sun = {.sun_family = AF_UNIX};

	if (fd < 0 || node < 0)
		return false;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "/proc/self/fd/%d", node);
	return connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0 || errno == EPROTOTYPE ||
	       errno == EPERM;
}

int unix_name_check(struct restore_ctx *c, const Cpx__File *f, const ProtobufCBinaryData *name,
		    uint32_t type, struct err *err)
{
	_cleanup_close_ int fd = -1;
	char text[UNIX_NAME_MAX + 8];
	struct sockaddr_un sun;
	socklen_t len;

	if (!name->len)
		return 0;
	if (unix_is_path(name))
		return attr_can(c, CAP_SYS_CHROOT)
			       ? 0
			       : files_refuse_restore(c, f, "Unix socket",
						      "cannot be restored: a name that is a path "
						      "needs the capability CAP_SYS_CHROOT (run "
						      "as root, or use --pid=new)");
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(err, -errno, "cannot make a Unix socket");
	len = unix_address(name, &sun);
	if (bind(fd, (struct sockaddr *)&sun, len) == 0)
		return 0;
	unix_name_text(name, text, sizeof(text));
	return files_refuse_restore(c, f, "Unix socket",
				    "cannot be restored: the name %s is in use by another socket",
				    text);
}

int unix_file_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	const Cpx__UnixFile *file = f->unix_socket->file;
	char path[PATH_MAX], *slash;
	struct stat st;
	int r;

	if (!file || file->deleted)
		return 0;
	r = path_text(&file->path->path, path, sizeof(path), err);
	if (r < 0)
		return r;
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return files_refuse_restore(c, f, "Unix socket",
						    "cannot be restored: at '%.900s' there is now "
						    "something else than a socket",
						    path);
		if (is_alive(path))
			return files_refuse_restore(c, f, "Unix socket",
						    "cannot be restored: the name '%.900s' is in "
						    "use by another socket",
						    path);
	}
	slash = strrchr(path, '/');
	if (!slash)
		return err_set(err, -EBADMSG, "the image holds a socket file without a directory");
	slash[slash == path] = '\0';
	if (access(path, W_OK) == 0)
		return 0;
	return files_refuse_restore(c, f, "Unix socket",
				    "cannot be restored: its directory '%.900s' is missing, or not "
				    "ours to write in",
				    path);
}

/* ---- restore: binding ---- */

#define INSIDE "/.cpx" /* the file, below the private directory */

struct binding {
	const ProtobufCBinaryData *name;
	const char *root; /* our private directory */
	int fd, node;	  /* node: where the O_PATH descriptor goes */
};

/* "a/b/c": makes or removes a and a/b. */
static int each_directory(const char *name, bool is_removal)
{
	char path[UNIX_NAME_MAX + 1];
	size_t len = snprintf(path, sizeof(path), "%s", name);

	for (size_t i = 1; !is_removal && i < len; i++)
		if (path[i] == '/' && path[i - 1] != '/') {
			path[i] = '\0';
			if (mkdir(path, 0700) < 0 && errno != EEXIST)
				return -errno;
			path[i] = '/';
		}
	for (size_t i = len; is_removal && i-- > 1;)
		if (path[i] == '/') {
			path[i] = '\0';
			rmdir(path);
		}
	return 0;
}

/* Then to a place that is known outside. */
static int keep_node(const char *name, int to)
{
	_cleanup_close_ int node = open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (node < 0 || dup3(node, to, O_CLOEXEC) < 0 || rename(name, INSIDE) < 0)
		return -errno;
	return 0;
}

static int bind_inside(void *arg)
{
	const struct binding *w = arg;
	char name[UNIX_NAME_MAX + 1] = "";
	struct sockaddr_un sun;
	socklen_t len = unix_address(w->name, &sun);
	int r;

	memcpy(name, w->name->data, MIN(w->name->len, UNIX_NAME_MAX));
	if (chdir(w->root) < 0 || chroot(".") < 0)
		return -errno;
	r = each_directory(name, false);
	if (r < 0)
		return r;
	umask(0); /* nobody else gets into the directory */
	if (bind(w->fd, (struct sockaddr *)&sun, len) < 0)
		return -errno;
	r = keep_node(name, w->node);
	each_directory(name, true);
	return r;
}

/* The directory must be on the file system that the file goes to. */
static int make_root(const Cpx__UnixFile *file, struct unix_node *node, struct err *err)
{
	char path[PATH_MAX] = "/tmp/";
	int r = 0;

	if (file && !file->deleted) {
		r = path_text(&file->path->path, path, sizeof(path), err);
		if (r == 0 && strrchr(path, '/'))
			strrchr(path, '/')[1] = '\0';
	}
	if (r < 0)
		return r;
	if (asprintf(&node->root, "%s.cpx-XXXXXX", path) < 0) {
		node->root = NULL;
		return err_nomem(err);
	}
	if (mkdtemp(node->root))
		return 0;
	r = err_sys(err, -errno, "cannot make a directory '%s' for its file", node->root);
	free(TAKE_PTR(node->root));
	return r;
}

static int bind_path(int fd, const ProtobufCBinaryData *name, const Cpx__UnixFile *file,
		     struct unix_node *node, struct err *err)
{
	struct binding w = {.name = name, .fd = fd};
	int r = make_root(file, node, err);

	if (r < 0)
		return r;
	node->fd = open("/dev/null", O_PATH | O_CLOEXEC); /* its number is what we want */
	if (node->fd < 0)
		return err_sys(err, -errno, "cannot open /dev/null");
	w.root = node->root;
	w.node = node->fd;
	r = unix_apart(bind_inside, &w);
	return r < 0 ? err_sys(err, r, "cannot be bound in '%s'", node->root) : 0;
}

int unix_bind(int fd, const ProtobufCBinaryData *name, const Cpx__UnixFile *file,
	      struct unix_node *node, struct err *err)
{
	char text[UNIX_NAME_MAX + 8];
	struct sockaddr_un sun;
	socklen_t len;
	int r = 0;

	unix_name_text(name, text, sizeof(text));
	if (unix_is_path(name)) {
		r = bind_path(fd, name, file, node, err);
	} else {
		len = unix_address(name, &sun);
		if (bind(fd, (struct sockaddr *)&sun, len) < 0)
			r = err_sys(err, -errno, "cannot be bound");
	}
	return r < 0 ? err_context(err, "name %s", text) : 0;
}

/* It has its mode and owner before it appears. */
int unix_publish(const struct unix_node *node, const Cpx__UnixFile *file, struct err *err)
{
	char from[PATH_MAX + 16], to[PATH_MAX];
	int r;

	if (!node->root || !file || file->deleted)
		return 0;
	snprintf(from, sizeof(from), "%s" INSIDE, node->root);
	r = path_text(&file->path->path, to, sizeof(to), err);
	if (r < 0)
		return r;
	if (((file->uid != geteuid() || file->gid != getegid()) &&
	     lchown(from, file->uid, file->gid) < 0) ||
	    chmod(from, file->path->mode & 07777) < 0 || rename(from, to) < 0)
		return err_sys(err, -errno, "cannot put a socket file to '%s'", to);
	return 0;
}

void unix_node_release(struct unix_node *node)
{
	char path[PATH_MAX + 16];

	if (node->root) {
		snprintf(path, sizeof(path), "%s" INSIDE, node->root);
		unlink(path);
		rmdir(node->root);
	}
	free(node->root);
	if (node->fd >= 0)
		close(node->fd);
	*node = (struct unix_node){.fd = -1};
}
