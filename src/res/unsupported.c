/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The last kind of the registry: takes everything that no other took, and refuses it by name. */
#include "res/files.h"
#include "res/socket.h"

#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#define NOT_YET "this version of cpx does not know how to carry it"

/* By the beginning of the link's text, without "anon_inode:" and a bracket. */
static const struct {
	const char *link, *name, *why;
} refused_kind[] = {
	{"userfaultfd", "userfaultfd",
	 "faults that wait in it, and what it guards, cannot be read back"},
	{"perf_event", "perf event",
	 "its counters and its ring cannot be set to what they are: end the profiling for the dump"},
	{"bpf", "BPF object", "programs, maps and links are in the kernel, and not the tree's alone"},
	{"landlock-ruleset", "landlock ruleset", "the kernel does not tell what is in it"},
	{"kvm-", "KVM virtual machine",
	 "the guest is in the kernel and the processor: have its monitor save it"},
	{"fscontext", "mount context", "the kernel does not tell what is in it"},
	{"sync_file", "GPU fence", "it belongs to work of a device"},
	{"/dmabuf:", "DMA buffer", "it is memory of a device"},
	{"/secretmem", "memfd_secret", "nobody but its tasks may read it, and no file may hold it"},
};

struct family_name {
	int family, type;
	const char *name;
};

static const struct family_name family_name[] = {
	{AF_INET, SOCK_STREAM, "TCP socket"},  {AF_INET, SOCK_DGRAM, "UDP socket"},
	{AF_INET6, SOCK_STREAM, "TCP socket"}, {AF_INET6, SOCK_DGRAM, "UDP socket"},
	{AF_INET, SOCK_RAW, "raw socket"},     {AF_INET6, SOCK_RAW, "raw socket"},
	{AF_NETLINK, 0, "netlink socket"},     {AF_PACKET, 0, "packet socket"},
	{AF_VSOCK, 0, "vsock socket"},	       {AF_ALG, 0, "crypto socket"},
	{AF_BLUETOOTH, 0, "Bluetooth socket"}, {AF_UNIX, 0, "Unix socket"},
};

static void name_socket(int fd, char *buf, size_t size)
{
	int family = socket_get_int(fd, SO_DOMAIN), type = socket_get_int(fd, SO_TYPE);

	for (size_t i = 0; i < ARRAY_SIZE(family_name); i++)
		if (family_name[i].family == family &&
		    (!family_name[i].type || family_name[i].type == type)) {
			snprintf(buf, size, "%s", family_name[i].name);
			return;
		}
	snprintf(buf, size, "socket of family %d", family);
}

/* "anon_inode:[eventfd]" -> "eventfd", "anon_inode:inotify" -> "inotify", "net:[402..]" -> "net
 * namespace". */
static void name_anonymous(const char *link, char *buf, size_t size)
{
	static const char anon[] = "anon_inode:";
	const char *s = strncmp(link, anon, sizeof(anon) - 1) == 0 ? link + sizeof(anon) - 1 : NULL;
	const char *colon = strstr(link, ":[");

	if (s)
		snprintf(buf, size, "%.*s", (int)strcspn(s + (*s == '['), "]"), s + (*s == '['));
	else if (colon)
		snprintf(buf, size, "%.*s namespace or object", (int)(colon - link), link);
	else
		snprintf(buf, size, "%.250s", link);
}

const char *unsupported_kind(size_t i)
{
	if (i < ARRAY_SIZE(refused_kind))
		return refused_kind[i].name;
	i -= ARRAY_SIZE(refused_kind);
	return i < ARRAY_SIZE(family_name) ? family_name[i].name : NULL;
}

/* It looks like a deleted file. */
bool unsupported_is_secret(const struct fd_probe *p)
{
	struct statfs fs;

	return strncmp(p->link, "/secretmem", 10) == 0 && fstatfs(p->dup, &fs) == 0 &&
	       fs.f_type == SECRETMEM_MAGIC;
}

/* Known by its link. The name of others is made of it. */
static const char *why_not(const struct fd_probe *p, char *kind, size_t size)
{
	static const char anon[] = "anon_inode:";
	const char *link = p->link;

	if (strncmp(link, anon, sizeof(anon) - 1) == 0)
		link += sizeof(anon) - 1;
	link += *link == '[';
	for (size_t i = 0; i < ARRAY_SIZE(refused_kind); i++)
		if (strncmp(link, refused_kind[i].link, strlen(refused_kind[i].link)) == 0) {
			snprintf(kind, size, "%s", refused_kind[i].name);
			return refused_kind[i].why;
		}
	name_anonymous(p->link, kind, size);
	return NOT_YET;
}

static bool unsupported_match(const struct fd_probe *p)
{
	return true;
}

static int unsupported_dump(struct dump_ctx *c, const struct fd_probe *p, Cpx__File *f,
			    struct err *err)
{
	const char *why = NOT_YET;
	char kind[300];

	if (S_ISSOCK(p->st.st_mode)) {
		name_socket(p->dup, kind, sizeof(kind));
	} else if (S_ISBLK(p->st.st_mode)) {
		snprintf(kind, sizeof(kind), "block device %.200s", p->link);
		why = "what is on it is not the tree's, and may change";
	} else {
		why = why_not(p, kind, sizeof(kind));
	}
	return files_refuse(c, p, kind, "cannot be checkpointed: %s", why);
}

static ProtobufCMessage *unsupported_body(const Cpx__File *f)
{
	return NULL;
}

static int unsupported_check(struct restore_ctx *c, const Cpx__File *f, struct err *err)
{
	return files_refuse_restore(c, f, "unknown kind",
				    "cannot be restored: the image was made by a newer cpx");
}

static int unsupported_open(struct restore_ctx *c, const Cpx__File *f, int *ret_fd, struct err *err)
{
	return err_set(err, -EOPNOTSUPP, "this kind of descriptor is unknown");
}

const struct file_ops unsupported_file_ops = {
	.name = "unknown kind",
	.body = unsupported_body,
	.match = unsupported_match,
	.dump = unsupported_dump,
	.check = unsupported_check,
	.open = unsupported_open,
};
