/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Credentials, which the kernel has per thread: uids, gids, supplementary groups, capability sets,
 * securebits, no_new_privs. Reads /proc/TID/status, asks PR_GET_SECUREBITS.
 *
 * A thread under construction has cpx's own credentials. Only what differs from them is changed, in
 * an order in which every step still has the capabilities that it needs (capabilities(7),
 * security/commoncap.c). LSM labels: lsm.c; keyrings: keyrings.c. In a fresh user namespace supplementary
 * groups stay those of the caller.
 */
#include "res/attr.h"

#include "base/log.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- dump ---- */

static int set_groups(Cpx__Creds *cr, const struct proc_status *s)
{
	if (!s->ngroups)
		return 0;
	cr->groups = malloc(s->ngroups * sizeof(*cr->groups));
	if (!cr->groups)
		return -ENOMEM;
	for (size_t i = 0; i < s->ngroups; i++)
		cr->groups[i] = s->groups[i];
	cr->n_groups = s->ngroups;
	return 0;
}

static void set_ids(Cpx__Creds *cr, const struct proc_status *s)
{
	cr->uid = s->uid[0];
	cr->euid = s->uid[1];
	cr->suid = s->uid[2];
	cr->fsuid = s->uid[3];
	cr->gid = s->gid[0];
	cr->egid = s->gid[1];
	cr->sgid = s->gid[2];
	cr->fsgid = s->gid[3];
}

static int creds_read(struct dump_ctx *c, struct tracee *t, struct tracee_thread *thread,
		      Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	const struct proc_status *s;
	Cpx__Creds *cr;
	int r = attr_status(c, t, thread, &s, err);

	if (r < 0)
		return r;
	cr = th->creds = MSG_NEW(Cpx__Creds, cpx__creds__init);
	if (!cr || set_groups(cr, s) < 0)
		return err_nomem(err);
	set_ids(cr, s);
	cr->cap_inheritable = s->cap_inh;
	cr->cap_permitted = s->cap_prm;
	cr->cap_effective = s->cap_eff;
	cr->cap_bounding = s->cap_bnd;
	cr->cap_ambient = s->cap_amb;
	cr->no_new_privs = s->no_new_privs;
	return 0;
}

static int creds_ask(struct dump_ctx *c, struct tracee *t, const Cpx__Task *task,
		     const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	scratch[0] = BATCH_CALL(b, SYS_prctl, PR_GET_SECUREBITS);
	return 0;
}

static int creds_take(struct dump_ctx *c, struct tracee *t, const struct batch *b,
		      const uint64_t *scratch, Cpx__Task *task, Cpx__Thread *th, struct err *err)
{
	int r = attr_result(b, scratch[0], "read the securebits", err);

	if (r == 0)
		th->creds->securebits = batch_ret(b, scratch[0]);
	return r;
}

/* ---- what differs ---- */

static bool is_member(const uint32_t id, const uint32_t *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == id)
			return true;
	return false;
}

/* The kernel keeps groups sorted, so equal sets are equal lists. */
static bool has_same_groups(const Cpx__Creds *cr, const struct attr_self *own)
{
	return cr->n_groups == own->ngroups &&
	       (!own->ngroups ||
		!memcmp(cr->groups, own->groups, own->ngroups * sizeof(*own->groups)));
}

static bool has_same_uids(const Cpx__Creds *cr, const struct attr_self *own)
{
	return cr->uid == own->uid[0] && cr->euid == own->uid[1] && cr->suid == own->uid[2] &&
	       cr->fsuid == own->uid[3];
}

static bool has_same_gids(const Cpx__Creds *cr, const struct attr_self *own)
{
	return cr->gid == own->gid[0] && cr->egid == own->gid[1] && cr->sgid == own->gid[2] &&
	       cr->fsgid == own->gid[3];
}

/* A full set of a kernel with fewer capabilities (none that we run on has less than 41) is a full
 * set. */
static uint64_t wanted_bounding(const Cpx__Creds *cr, const struct attr_self *own)
{
	uint64_t b = cr->cap_bounding;

	if (b >= cap_bit(CAP_CHECKPOINT_RESTORE) && !(b & (b + 1)))
		b = own->all;
	return b & own->all;
}

static bool has_same_caps(const Cpx__Creds *cr, const struct attr_self *own)
{
	return cr->cap_inheritable == own->inheritable && cr->cap_permitted == own->permitted &&
	       cr->cap_effective == own->effective && cr->cap_ambient == own->ambient;
}

static bool is_setting_groups(const struct restore_ctx *c, const Cpx__Creds *cr,
			      const struct attr_self *own)
{
	return !c->in_user_ns && !has_same_groups(cr, own);
}

/* ---- check ---- */

#define AS_ROOT "restore as root"

/* Facts about one thread's credentials, for the checks below. */
struct wish {
	struct restore_ctx *c;
	const Cpx__Task *task;
	const Cpx__Creds *cr;
	const struct attr_self *own;
	bool can_setuid, can_setgid, can_setpcap;
};

static int check_uids(const struct wish *w, struct err *err)
{
	const uint32_t want[] = {w->cr->uid, w->cr->euid, w->cr->suid, w->cr->fsuid};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		if (w->c->in_user_ns && want[i] != w->own->uid[0])
			return attr_refuse_restore(
				w->c, w->task, "user", err,
				"cannot be restored: uid %u does not exist in the user namespace "
				"of uid %u; " AS_ROOT,
				want[i], w->own->uid[0]);
		if (!w->can_setuid && !is_member(want[i], w->own->uid, i == 3 ? 4 : 3))
			return attr_refuse_restore(
				w->c, w->task, "user", err,
				"cannot be restored: uid %u is not ours (%u), and cpx lacks "
				"cap_setuid; " AS_ROOT,
				want[i], w->own->uid[1]);
	}
	return 0;
}

static int check_gids(const struct wish *w, struct err *err)
{
	const uint32_t want[] = {w->cr->gid, w->cr->egid, w->cr->sgid, w->cr->fsgid};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		if (w->c->in_user_ns && want[i] != w->own->gid[0])
			return attr_refuse_restore(
				w->c, w->task, "group", err,
				"cannot be restored: gid %u does not exist in the user namespace "
				"of gid %u; " AS_ROOT,
				want[i], w->own->gid[0]);
		if (!w->can_setgid && !is_member(want[i], w->own->gid, i == 3 ? 4 : 3))
			return attr_refuse_restore(
				w->c, w->task, "group", err,
				"cannot be restored: gid %u is not ours (%u), and cpx lacks "
				"cap_setgid; " AS_ROOT,
				want[i], w->own->gid[1]);
	}
	return 0;
}

/* /proc/sys/kernel/overflowgid: how a namespace shows groups that it has no number for. */
#define OVERFLOW_GID 65534

static int check_user_ns_groups(const struct wish *w, struct err *err)
{
	for (size_t i = 0; i < w->cr->n_groups; i++) {
		uint32_t gid = w->cr->groups[i];

		if (gid != w->own->gid[0] && !is_member(gid, w->own->groups, w->own->ngroups) &&
		    !is_member(OVERFLOW_GID, w->own->groups, w->own->ngroups))
			return attr_refuse_restore(
				w->c, w->task, "supplementary groups", err,
				"cannot be restored: you are not in group %u; " AS_ROOT, gid);
	}
	if (!has_same_groups(w->cr, w->own))
		log_warn("task %u: supplementary groups stay those of the caller (user namespace)",
			 w->task->pid);
	return 0;
}

static int check_groups(const struct wish *w, struct err *err)
{
	if (w->c->in_user_ns)
		return check_user_ns_groups(w, err);
	if (w->can_setgid || has_same_groups(w->cr, w->own))
		return 0;
	return attr_refuse_restore(
		w->c, w->task, "supplementary groups", err,
		"cannot be restored: they are not ours, and cpx lacks cap_setgid; " AS_ROOT);
}

static int refuse_caps(const struct wish *w, const char *set, uint64_t lacking, const char *why,
		       struct err *err)
{
	char names[256];

	attr_cap_names(lacking, names, sizeof(names));
	return attr_refuse_restore(w->c, w->task, set, err, "cannot be restored: %s %s", names,
				   why);
}

static int check_bounding(const struct wish *w, struct err *err)
{
	uint64_t want = wanted_bounding(w->cr, w->own);

	if (want & ~w->own->bounding)
		return refuse_caps(w, "capability bounding set", want & ~w->own->bounding,
				   "is not in the bounding set of cpx", err);
	if (w->own->bounding & ~want && !w->can_setpcap)
		return refuse_caps(w, "capability bounding set", w->own->bounding & ~want,
				   "cannot be dropped: cpx lacks cap_setpcap; " AS_ROOT, err);
	return 0;
}

static int check_caps(const struct wish *w, struct err *err)
{
	const Cpx__Creds *cr = w->cr;
	uint64_t raisable =
		w->own->inheritable | (w->can_setpcap ? w->own->bounding : w->own->permitted);

	if (cr->cap_permitted & ~w->own->permitted)
		return refuse_caps(w, "capabilities", cr->cap_permitted & ~w->own->permitted,
				   "cpx does not have; " AS_ROOT, err);
	if (cr->cap_inheritable & ~raisable)
		return refuse_caps(w, "inheritable capabilities", cr->cap_inheritable & ~raisable,
				   "cpx may not raise; " AS_ROOT, err);
	if (cr->cap_ambient & ~w->own->ambient && w->own->securebits & SECBIT_NO_CAP_AMBIENT_RAISE)
		return refuse_caps(w, "ambient capabilities", cr->cap_ambient & ~w->own->ambient,
				   "cpx may not raise (securebits)", err);
	return 0;
}

/* Every flag has its lock next to it (linux/securebits.h). */
static uint32_t locked_bits(uint32_t securebits)
{
	uint32_t locks = securebits & SECURE_ALL_LOCKS;

	return locks | locks >> 1;
}

static int check_bits(const struct wish *w, struct err *err)
{
	uint32_t differ = w->cr->securebits ^ w->own->securebits;

	if (differ & locked_bits(w->own->securebits))
		return attr_refuse_restore(
			w->c, w->task, "securebits", err,
			"cannot be restored: those of cpx are locked (%#x, wanted %#x)",
			w->own->securebits, w->cr->securebits);
	if (differ & ~SECBIT_KEEP_CAPS && !w->can_setpcap)
		return attr_refuse_restore(w->c, w->task, "securebits", err,
					   "cannot be restored: cpx lacks cap_setpcap; " AS_ROOT);
	if (w->own->no_new_privs && !w->cr->no_new_privs)
		return attr_refuse_restore(
			w->c, w->task, "no_new_privs", err,
			"cannot be restored: cpx itself runs with it and cannot lose it");
	return 0;
}

static int creds_check(struct restore_ctx *c, const Cpx__Task *task, const Cpx__Thread *th,
		       struct err *err)
{
	struct wish w = {.c = c, .task = task, .cr = th->creds};
	int r;

	if (!w.cr)
		return 0;
	r = attr_self_get(c, &w.own, err);
	if (r < 0)
		return r;
	w.can_setuid = w.own->permitted & cap_bit(CAP_SETUID);
	w.can_setgid = w.own->permitted & cap_bit(CAP_SETGID);
	w.can_setpcap = w.own->permitted & cap_bit(CAP_SETPCAP);
	r = check_uids(&w, err);
	if (r == 0)
		r = check_gids(&w, err);
	if (r == 0)
		r = check_groups(&w, err);
	if (r == 0)
		r = check_bounding(&w, err);
	if (r == 0)
		r = check_caps(&w, err);
	return r < 0 ? r : check_bits(&w, err);
}

/* ---- give ---- */

static void give_caps(struct batch *b, uint64_t inheritable, uint64_t permitted, uint64_t effective)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = effective, .permitted = permitted, .inheritable = inheritable},
		{.effective = effective >> 32,
		 .permitted = permitted >> 32,
		 .inheritable = inheritable >> 32},
	};

	BATCH_CALL(b, SYS_capset, batch_in(b, &head, sizeof(head)),
		   batch_in(b, data, sizeof(data)));
}

bool creds_has_own_ids(const struct restore_ctx *c, const Cpx__Creds *cr, const struct attr_self *own)
{
	return has_same_uids(cr, own) && has_same_gids(cr, own) &&
	       (c->in_user_ns || has_same_groups(cr, own));
}

void creds_lend(struct batch *b, const Cpx__Creds *cr, const struct attr_self *own)
{
	give_caps(b, own->inheritable, own->permitted, cr->cap_effective & own->permitted);
}

void creds_take_back(struct batch *b, const struct attr_self *own)
{
	give_caps(b, own->inheritable, own->permitted, own->effective);
}

static void give_bounding(struct batch *b, const Cpx__Creds *cr, const struct attr_self *own)
{
	uint64_t drop = own->bounding & ~wanted_bounding(cr, own);

	for (int cap = 0; cap < 64; cap++)
		if (drop >> cap & 1)
			BATCH_CALL(b, SYS_prctl, PR_CAPBSET_DROP, cap);
}

/* setresuid() away from uid 0 clears the capabilities (cap_emulate_setxid()): the permitted ones
 * are kept by KEEPCAPS, the effective ones raised again. */
static void give_ids(struct restore_ctx *c, struct batch *b, const Cpx__Creds *cr,
		     const struct attr_self *own)
{
	if (is_setting_groups(c, cr, own))
		BATCH_CALL(b, SYS_setgroups, cr->n_groups,
			   batch_in(b, cr->groups, cr->n_groups * sizeof(*cr->groups)));
	if (!has_same_gids(cr, own))
		BATCH_CALL(b, SYS_setresgid, cr->gid, cr->egid, cr->sgid);
	if (!has_same_uids(cr, own)) {
		BATCH_CALL(b, SYS_prctl, PR_SET_KEEPCAPS, 1);
		BATCH_CALL(b, SYS_setresuid, cr->uid, cr->euid, cr->suid);
		give_caps(b, cr->cap_inheritable, own->permitted, own->permitted);
	}
}

/* Return the id from before whether they work or not; a second call with an invalid id tells.
 * scratch[0], scratch[1]. */
static void give_fs_ids(struct batch *b, const Cpx__Creds *cr, uint64_t *scratch)
{
	BATCH_CALL(b, SYS_setfsgid, cr->fsgid);
	BATCH_CALL(b, SYS_setfsuid, cr->fsuid);
	scratch[0] = BATCH_CALL(b, SYS_setfsgid, -1U) + 1;
	scratch[1] = BATCH_CALL(b, SYS_setfsuid, -1U) + 1;
}

static void give_ambient(struct batch *b, const Cpx__Creds *cr, const struct attr_self *own)
{
	if (own->ambient & ~cr->cap_ambient)
		BATCH_CALL(b, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL);
	for (int cap = 0; cap < 64; cap++)
		if (cr->cap_ambient >> cap & 1)
			BATCH_CALL(b, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap);
}

/* KEEP_CAPS alone may be changed without a capability. */
static void give_securebits(struct batch *b, const Cpx__Creds *cr, const struct attr_self *own)
{
	uint32_t differ = (cr->securebits ^ own->securebits) & ~SECBIT_KEEP_CAPS;

	if (differ)
		BATCH_CALL(b, SYS_prctl, PR_SET_SECUREBITS, cr->securebits);
	else if (!has_same_uids(cr, own) || cr->securebits != own->securebits)
		BATCH_CALL(b, SYS_prctl, PR_SET_KEEPCAPS, !!(cr->securebits & SECBIT_KEEP_CAPS));
}

static int creds_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		      const Cpx__Thread *th, struct batch *b, uint64_t *scratch, struct err *err)
{
	const Cpx__Creds *cr = th->creds;
	const struct attr_self *own;
	int r;

	if (stage != GIVE_CREDS || !cr)
		return 0;
	r = attr_self_get(c, &own, err);
	if (r < 0)
		return r;
	scratch[0] = scratch[1] = 0;
	if (has_same_uids(cr, own) && has_same_gids(cr, own) && !is_setting_groups(c, cr, own) &&
	    has_same_caps(cr, own) && wanted_bounding(cr, own) == own->bounding &&
	    cr->securebits == own->securebits)
		return 0;
	/* Inheritable ones first: they may not be raised when the bounding set lacks them. */
	give_caps(b, own->inheritable, own->permitted, own->permitted);
	give_caps(b, cr->cap_inheritable, own->permitted, own->permitted);
	give_bounding(b, cr, own);
	give_ids(c, b, cr, own);
	give_fs_ids(b, cr, scratch);
	give_ambient(b, cr, own);
	give_securebits(b, cr, own);
	give_caps(b, cr->cap_inheritable, cr->cap_permitted, cr->cap_effective);
	return 0;
}

static const char *step_name(const struct call *call)
{
	static const struct {
		uint64_t nr, option;
		const char *name;
	} step[] = {
		{SYS_capset, 0, "set the capabilities"},
		{SYS_setgroups, 0, "set the supplementary groups"},
		{SYS_setresgid, 0, "set the group"},
		{SYS_setresuid, 0, "set the user"},
		{SYS_prctl, PR_SET_KEEPCAPS, "keep capabilities (PR_SET_KEEPCAPS)"},
		{SYS_prctl, PR_CAPBSET_DROP, "reduce the bounding set"},
		{SYS_prctl, PR_CAP_AMBIENT, "set the ambient capabilities"},
		{SYS_prctl, PR_SET_SECUREBITS, "set the securebits"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(step); i++)
		if (call->nr == step[i].nr && (!step[i].option || call->arg[0] == step[i].option))
			return step[i].name;
	return NULL;
}

static int creds_given(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
		       const Cpx__Thread *th, const struct batch *b, const uint64_t *scratch,
		       struct err *err)
{
	if (stage != GIVE_CREDS || !th->creds)
		return 0;
	for (unsigned i = 0; i < b->n; i++)
		if (batch_ret(b, i) < 0 && step_name(&b->call[i]))
			return err_sys(err, batch_ret(b, i), "cannot %s", step_name(&b->call[i]));
	if (scratch[0] && (uint32_t)batch_ret(b, scratch[0] - 1) != th->creds->fsgid)
		return err_set(err, -EPERM, "cannot set the file system group to %u",
			       th->creds->fsgid);
	if (scratch[1] && (uint32_t)batch_ret(b, scratch[1] - 1) != th->creds->fsuid)
		return err_set(err, -EPERM, "cannot set the file system user to %u",
			       th->creds->fsuid);
	return 0;
}

const struct attr_ops creds_attr_ops = {
	.name = "credentials",
	.per_thread = true,
	.read = creds_read,
	.ask = creds_ask,
	.take = creds_take,
	.check = creds_check,
	.give = creds_give,
	.given = creds_given,
};

/* ---- no_new_privs ---- */

static int no_new_privs_give(struct restore_ctx *c, enum give_stage stage, const Cpx__Task *task,
			     const Cpx__Thread *th, struct batch *b, uint64_t *scratch,
			     struct err *err)
{
	if (stage == GIVE_LATE && th->creds && th->creds->no_new_privs)
		BATCH_CALL(b, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1);
	return 0;
}

const struct attr_ops no_new_privs_attr_ops = {
	.name = "no_new_privs",
	.per_thread = true,
	.give = no_new_privs_give,
};
