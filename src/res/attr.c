/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the attribute files share: /proc/TID/status, read once per thread however many attributes
 * are in it, and our own credentials, which decide what a restore can reach. Reads
 * /proc/TID/status, capget(2), prctl(2), /proc/self/ns/user.
 */
#include "res/attr.h"
#include "res/knownfiles.h"

#include <linux/capability.h>
#include <stdarg.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

struct status_entry {
	pid_t tid;
	struct proc_status status;
};

struct mm_entry {
	pid_t pid;
	Cpx__Mm *mm;
};

struct attr_cache {
	struct status_entry **status; /* owned; stable addresses */
	size_t n, max, last;
	struct mm_entry *mm;
	size_t nmms, maxmms;
	struct attr_host host;
};

/* ---- dump ---- */

struct tracee_thread *attr_speaker(const struct tracee *t)
{
	size_t i = 0;

	while (i + 1 < t->nthreads && t->thread[i].is_exited)
		i++;
	return &t->thread[i];
}

const struct tracee_thread *attr_thread(const struct tracee *t, const Cpx__Thread *th)
{
	for (size_t i = 0; i < t->nthreads; i++)
		if ((uint32_t)t->thread[i].tid == th->tid)
			return &t->thread[i];
	return attr_speaker(t);
}

int attr_open(const struct dump_ctx *c, const struct tracee *t, const struct tracee_thread *thread,
	      int *ret_dir, struct err *err)
{
	return proc_open(c->proc_fd, thread ? thread->tid : attr_speaker(t)->tid, 0, ret_dir, err);
}

static struct attr_cache *cache_of(struct dump_ctx *c)
{
	if (!c->attrs)
		c->attrs = calloc(1, sizeof(*c->attrs));
	return c->attrs;
}

/* Threads come in the same order again and again, so the next one is mostly next to the last. */
static struct status_entry *find_status(struct attr_cache *cache, pid_t tid)
{
	for (size_t i = 0; i < cache->n; i++) {
		size_t at = (cache->last + i) % cache->n;

		if (cache->status[at]->tid == tid) {
			cache->last = at;
			return cache->status[at];
		}
	}
	return NULL;
}

static int read_status(struct dump_ctx *c, const struct tracee *t,
		       const struct tracee_thread *thread, struct proc_status *ret, struct err *err)
{
	_cleanup_close_ int dir = -1;
	int r = attr_open(c, t, thread, &dir, err);

	return r < 0 ? r : proc_status(dir, ret, err);
}

static struct status_entry *add_status(struct attr_cache *cache, pid_t tid)
{
	struct status_entry *e;

	if (grow(&cache->status, &cache->max, cache->n, sizeof(*cache->status)) < 0)
		return NULL;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->tid = tid;
	cache->last = cache->n;
	cache->status[cache->n++] = e;
	return e;
}

int attr_status(struct dump_ctx *c, const struct tracee *t, const struct tracee_thread *thread,
		const struct proc_status **ret, struct err *err)
{
	struct attr_cache *cache = cache_of(c);
	struct proc_status status = {0};
	struct status_entry *e;
	int r;

	if (!cache)
		return err_nomem(err);
	if (!thread)
		thread = attr_speaker(t);
	e = find_status(cache, thread->tid);
	if (!e) {
		r = read_status(c, t, thread, &status, err);
		if (r < 0)
			return r;
		e = add_status(cache, thread->tid);
		if (!e) {
			proc_status_release(&status);
			return err_nomem(err);
		}
		e->status = status;
	}
	*ret = &e->status;
	return 0;
}

int attr_host(struct dump_ctx *c, const struct attr_host **ret, struct err *err)
{
	struct attr_cache *cache = cache_of(c);

	if (!cache)
		return err_nomem(err);
	if (!cache->host.cpus) {
		cache->host.cpus = sysconf(_SC_NPROCESSORS_CONF);
		cache->host.slice = sched_own_slice();
		cache->host.has_labels = lsm_has_labels(c->proc_fd);
	}
	*ret = &cache->host;
	return 0;
}

int attr_remember_mm(struct dump_ctx *c, const struct tracee *t, Cpx__Mm *mm, struct err *err)
{
	struct attr_cache *cache = cache_of(c);

	if (!cache || grow(&cache->mm, &cache->maxmms, cache->nmms, sizeof(*cache->mm)) < 0)
		return err_nomem(err);
	cache->mm[cache->nmms++] = (struct mm_entry){t->pid, mm};
	return 0;
}

Cpx__Mm *attr_recall_mm(const struct dump_ctx *c, const struct tracee *t)
{
	for (size_t i = 0; c->attrs && i < c->attrs->nmms; i++)
		if (c->attrs->mm[i].pid == t->pid)
			return c->attrs->mm[i].mm;
	return NULL;
}

void attrs_dump_release(struct dump_ctx *c)
{
	landlock_release(c);
	known_files_release(c);
	if (!c->attrs)
		return;
	for (size_t i = 0; i < c->attrs->n; i++) {
		proc_status_release(&c->attrs->status[i]->status);
		free(c->attrs->status[i]);
	}
	free(c->attrs->status);
	free(c->attrs->mm);
	free(c->attrs);
	c->attrs = NULL;
}

int attr_refuse(struct dump_ctx *c, const struct tracee *t, const char *object, struct err *err,
		const char *fmt, ...)
{
	char reason[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return refuse(c->refusals, t->pid, t->comm, object, "%s", reason) < 0 ? err_nomem(err) : 0;
}

int attr_result(const struct batch *b, unsigned index, const char *what, struct err *err)
{
	int64_t r = batch_ret(b, index);

	return r < 0 && r > -4096 ? err_sys(err, (int)r, "cannot %s", what) : 0;
}

/* ---- restore ---- */

static int compare_gids(const void *a, const void *b)
{
	gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;

	return x < y ? -1 : x > y;
}

static int read_groups(struct attr_self *s, struct err *err)
{
	int n = getgroups(0, NULL);

	if (n < 0)
		return err_sys(err, -errno, "cannot read our supplementary groups");
	s->groups = malloc((n + 1) * sizeof(*s->groups));
	if (!s->groups)
		return err_nomem(err);
	n = getgroups(n, s->groups);
	if (n < 0)
		return err_sys(err, -errno, "cannot read our supplementary groups");
	s->ngroups = n;
	qsort(s->groups, n, sizeof(*s->groups), compare_gids);
	return 0;
}

static void read_ids(struct attr_self *s)
{
	if (getresuid(&s->uid[0], &s->uid[1], &s->uid[2]) < 0 ||
	    getresgid(&s->gid[0], &s->gid[1], &s->gid[2]) < 0)
		return;		  /* fail only with bad pointers */
	s->uid[3] = setfsuid(-1); /* an invalid id changes nothing and returns the present one */
	s->gid[3] = setfsgid(-1);
}

static int read_caps(struct attr_self *s, struct err *err)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	if (syscall(SYS_capget, &head, data) < 0)
		return err_sys(err, -errno, "capget");
	s->permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	s->effective = data[0].effective | (uint64_t)data[1].effective << 32;
	s->inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32;
	for (int cap = 0; cap < 64; cap++) {
		int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

		if (has < 0)
			break;
		s->all |= cap_bit(cap);
		s->bounding |= has ? cap_bit(cap) : 0;
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) == 1)
			s->ambient |= cap_bit(cap);
	}
	s->securebits = prctl(PR_GET_SECUREBITS, 0, 0, 0, 0);
	s->no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
	return 0;
}

/* user_namespaces(7); kernel/user_namespace.c, set_cred_user_ns(). */
static void enter_user_ns(struct attr_self *s)
{
	s->securebits = 0;
	s->inheritable = s->ambient = 0;
	s->permitted = s->effective = s->bounding = s->all;
	s->is_initial_ns = false;
}

static bool is_initial_user_ns(void)
{
	struct stat st;

	/* PROC_USER_INIT_INO of include/linux/proc_ns.h */
	return stat("/proc/self/ns/user", &st) == 0 && st.st_ino == 0xEFFFFFFDU;
}

static void self_free(struct attr_self *s)
{
	if (s)
		free(s->groups);
	free(s);
}

int attr_self_get(struct restore_ctx *c, const struct attr_self **ret, struct err *err)
{
	struct attr_self *s;
	int r;

	if (!c->self) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return err_nomem(err);
		read_ids(s);
		r = read_groups(s, err);
		if (r == 0)
			r = read_caps(s, err);
		if (r < 0) {
			self_free(s);
			return r;
		}
		s->is_initial_ns = is_initial_user_ns();
		if (c->in_user_ns)
			enter_user_ns(s);
		c->self = s;
	}
	*ret = c->self;
	return 0;
}

void attrs_restore_release(struct restore_ctx *c)
{
	self_free(c->self);
	c->self = NULL;
}

bool attr_can(struct restore_ctx *c, int cap)
{
	const struct attr_self *s;

	return attr_self_get(c, &s, NULL) == 0 && s->effective & cap_bit(cap);
}

bool attr_can_globally(struct restore_ctx *c, int cap)
{
	const struct attr_self *s;

	return attr_self_get(c, &s, NULL) == 0 && s->is_initial_ns && s->effective & cap_bit(cap);
}

int attr_refuse_restore(struct restore_ctx *c, const Cpx__Task *task, const char *object,
			struct err *err, const char *fmt, ...)
{
	char reason[512], comm[32] = "";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	if (task->comm.len)
		memcpy(comm, task->comm.data, MIN(task->comm.len, sizeof(comm) - 1));
	return refuse(c->refusals, task->pid, comm, object, "%s", reason) < 0 ? err_nomem(err) : 0;
}

static const char *const cap_name[] = {
	"chown",
	"dac_override",
	"dac_read_search",
	"fowner",
	"fsetid",
	"kill",
	"setgid",
	"setuid",
	"setpcap",
	"linux_immutable",
	"net_bind_service",
	"net_broadcast",
	"net_admin",
	"net_raw",
	"ipc_lock",
	"ipc_owner",
	"sys_module",
	"sys_rawio",
	"sys_chroot",
	"sys_ptrace",
	"sys_pacct",
	"sys_admin",
	"sys_boot",
	"sys_nice",
	"sys_resource",
	"sys_time",
	"sys_tty_config",
	"mknod",
	"lease",
	"audit_write",
	"audit_control",
	"setfcap",
	"mac_override",
	"mac_admin",
	"syslog",
	"wake_alarm",
	"block_suspend",
	"audit_read",
	"perfmon",
	"bpf",
	"checkpoint_restore",
};

void attr_cap_names(uint64_t mask, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t cap = 0; cap < 64 && used < size; cap++) {
		if (!(mask >> cap & 1))
			continue;
		if (cap < ARRAY_SIZE(cap_name))
			used += snprintf(buf + used, size - used, "%scap_%s", used ? "," : "",
					 cap_name[cap]);
		else
			used += snprintf(buf + used, size - used, "%scap_%zu", used ? "," : "",
					 cap);
	}
}
