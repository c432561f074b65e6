/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Labels of security modules, of threads: SELinux contexts, AppArmor profiles, Smack labels. Reads
 * /proc/TID/attr; sets them by lsm_set_self_attr(2) (Linux 6.8), which needs no path.
 *
 * A restored thread begins with the label of cpx. Whether it may change to its own is for the
 * policy to say; then this comes when all else is done, since a profile may forbid the rest.
 * Without the module that it had a label of, a thread is refused, unless it was unconfined.
 */
#include "res/attr.h"

#include <sys/syscall.h>

#ifndef SYS_lsm_set_self_attr
#define SYS_lsm_set_self_attr 460
#endif

/* linux/lsm.h */
struct lsm_context {
	uint64_t id, flags, len, ctx_len;
	uint8_t ctx[];
};

static const struct module {
	uint64_t id;
	const char *name, *folder; /* of its own, below attr/, if it has one */
	const char *free;	   /* in the label of whoever is not confined */
} module[] = {
	{104, "AppArmor", "apparmor/", "unconfined"},
	{102, "Smack", "smack/", "_"},
	{101, "SELinux", "", ":unconfined_t:"}, /* last: its files may be another's */
};

/* In the order in which they are set: afterwards the thread is somebody else. */
static const struct attribute {
	uint64_t id;
	const char *name;
} attribute[] = {
	{101, "exec"}, {102, "fscreate"}, {103, "keycreate"}, {105, "sockcreate"}, {100, "current"},
};

enum { LABEL_MAX = 4096, CURRENT = ARRAY_SIZE(attribute) - 1 };

/* ---- reading ---- */

/* Empty where there is none, or no such module. */
static void read_label(int dir, const struct module *m, const struct attribute *a, char *buf,
		       size_t size)
{
	_cleanup_free_ char *text = NULL;
	char path[64];
	size_t len = 0;

	snprintf(path, sizeof(path), "attr/%s%s", m->folder, a->name);
	buf[0] = '\0';
	if (proc_read(dir, path, &text, &len, NULL) < 0 || len >= size)
		return;
	snprintf(buf, size, "%s", text);
	buf[strcspn(buf, "\n")] = '\0';
}

/* The module whose labels are to be seen there; NULL: none. */
static const struct module *find_module(int dir)
{
	char label[LABEL_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(module); i++) {
		read_label(dir, &module[i], &attribute[CURRENT], label, sizeof(label));
		if (label[0])
			return &module[i];
	}
	return NULL;
}

static int add_label(Cpx__Thread *th, const struct module *m, const struct attribute *a,
		     const char *label, struct err *err)
{
	Cpx__LsmLabel *l = MSG_NEW(Cpx__LsmLabel, cpx__lsm_label__init);

	if (!l || msg_append(&th->lsm, &th->n_lsm, l) < 0) {
		free(l);
		return err_nomem(err);
	}
	l->module = m->id;
	l->attribute = a->id;
	return msg_set_bytes(&l->label, label, strlen(label)) < 0 ? err_nomem(err) : 0;
}

static int lsm_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
		    Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	_cleanup_close_ int dir = -1;
	const struct attr_host *host;
	const struct module *m;
	char label[LABEL_MAX];
	int r = attr_host(c, &host, err);

	if (r < 0 || !host->has_labels)
		return r;
	r = attr_open(c, t, thread, &dir, err);
	m = r == 0 ? find_module(dir) : NULL;
	for (size_t i = 0; m && i < ARRAY_SIZE(attribute) && r == 0; i++) {
		read_label(dir, m, &attribute[i], label, sizeof(label));
		if (label[0])
			r = add_label(th, m, &attribute[i], label, err);
	}
	return r;
}

bool lsm_has_labels(int proc_fd)
{
	_cleanup_close_ int dir = -1;

	return proc_open(proc_fd, getpid(), 0, &dir, NULL) == 0 && find_module(dir);
}

/* ---- restore ---- */

static const struct module *module_of(const Cpx__LsmLabel *l)
{
	for (size_t i = 0; i < ARRAY_SIZE(module); i++)
		if (module[i].id == l->module)
			return &module[i];
	return NULL;
}

static const struct attribute *attribute_of(const Cpx__LsmLabel *l)
{
	for (size_t i = 0; i < ARRAY_SIZE(attribute); i++)
		if (attribute[i].id == l->attribute)
			return &attribute[i];
	return NULL;
}

static void text_of(const Cpx__LsmLabel *l, char buf[LABEL_MAX])
{
	size_t n = MIN(l->label.len, (size_t)LABEL_MAX - 1);

	if (n)
		memcpy(buf, l->label.data, n);
	buf[n] = '\0';
}

/* Is it what we, and so every new task, have? */
static bool is_ours(int proc_fd, const Cpx__LsmLabel *l)
{
	_cleanup_close_ int dir = -1;
	char own[LABEL_MAX], wanted[LABEL_MAX];

	if (!module_of(l) || !attribute_of(l) || proc_open(proc_fd, getpid(), 0, &dir, NULL) < 0)
		return false;
	read_label(dir, module_of(l), attribute_of(l), own, sizeof(own));
	text_of(l, wanted);
	return !strcmp(own, wanted);
}

bool lsm_is_like_us(int proc_fd, const Cpx__Thread *th)
{
	for (size_t i = 0; i < th->n_lsm; i++)
		if (!is_ours(proc_fd, th->lsm[i]))
			return false;
	return true;
}

static bool is_confined(const Cpx__LsmLabel *l)
{
	char label[LABEL_MAX];

	text_of(l, label);
	return !module_of(l) || !strstr(label, module_of(l)->free);
}

static bool is_active(const struct restore_ctx *c, const struct module *m)
{
	_cleanup_close_ int dir = -1;

	return m && proc_open(c->proc_fd, getpid(), 0, &dir, NULL) == 0 && find_module(dir) == m;
}

static bool can_set(void)
{
	return syscall(SYS_lsm_set_self_attr, 0, NULL, 0, 1) == 0 || errno != ENOSYS;
}

static int check_label(struct restore_ctx *c, const Cpx__Task *task, const Cpx__LsmLabel *l,
		       struct err *err)
{
	const struct module *m = module_of(l);
	char label[LABEL_MAX];

	text_of(l, label);
	if (!m || !attribute_of(l))
		return attr_refuse_restore(c, task, "security label", err,
					   "cannot be restored: '%.200s' is of a module that this "
					   "version of cpx does not know",
					   label);
	if (!is_active(c, m) && is_confined(l))
		return attr_refuse_restore(c, task, "security label", err,
					   "cannot be restored: '%.200s' is of %s, which is not "
					   "active on this machine",
					   label, m->name);
	if (is_active(c, m) && !is_ours(c->proc_fd, l) && !can_set())
		return attr_refuse_restore(
			c, task, "security label", err,
			"cannot be restored: only since Linux 6.8 can '%.200s' be "
			"set (%s); run cpx under that label",
			label, m->name);
	return 0;
}

static int lsm_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
		     struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < th->n_lsm && r == 0; i++)
		r = check_label(c, task, th->lsm[i], err);
	return r;
}

/* AppArmor shows "profile (mode)" and takes a command. */
static void written_form(const Cpx__LsmLabel *l, char *buf, size_t size)
{
	char label[LABEL_MAX], *mode;

	text_of(l, label);
	mode = strstr(label, " (");
	if (l->module != module[0].id) {
		snprintf(buf, size, "%s", label);
		return;
	}
	if (mode)
		*mode = '\0';
	snprintf(buf, size, "%s %s",
		 strcmp(attribute_of(l)->name, "exec") ? "changeprofile" : "exec", label);
}

static int add_call(struct batch *b, const Cpx__LsmLabel *l, struct err *err)
{
	char text[LABEL_MAX + 16];
	_cleanup_free_ struct lsm_context *ctx = NULL;
	size_t size;

	written_form(l, text, sizeof(text));
	size = ALIGN_UP(sizeof(*ctx) + strlen(text) + 1, 8UL);
	ctx = calloc(1, size);
	if (!ctx)
		return err_nomem(err);
	*ctx = (struct lsm_context){.id = l->module, .len = size, .ctx_len = strlen(text) + 1};
	memcpy(ctx->ctx, text, strlen(text) + 1);
	BATCH_CALL(b, SYS_lsm_set_self_attr, l->attribute, batch_in(b, ctx, size), size, 0);
	return 0;
}

static int lsm_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		    const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	int r = 0;

	for (size_t i = 0; stage == GIVE_LATE && i < th->n_lsm && r == 0; i++)
		if (is_active(c, module_of(th->lsm[i])) && !is_ours(c->proc_fd, th->lsm[i]))
			r = add_call(b, th->lsm[i], err);
	return r;
}

static int lsm_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		     const Cpx__Thread *th, const struct batch *b, const uint64_t *scratch,
		     struct err *err)
{
	for (unsigned i = 0; i < b->n; i++)
		if (b->call[i].nr == SYS_lsm_set_self_attr && batch_ret(b, i) < 0)
			return err_sys(err, (int)batch_ret(b, i),
				       "the security policy does not let cpx set the label");
	return 0;
}

const struct attr_ops lsm_attr_ops = {
	.name = "security labels",
	.per_thread = true,
	.read = lsm_read,
	.check = lsm_check,
	.give = lsm_give,
	.given = lsm_given,
};
