/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The twins of all address spaces whose memory was not stored ahead. Where there can be no twin, the tree stays
 * frozen while it is written. */
#include "engine/twins.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/util.h"

/* What was stored ahead, or is mostly as before, needs none. */
bool dump_mm_needs_twin(const struct dump_mm *mm)
{
	return !mm->track && !(mm->tracked && !tracked_wants_twin(mm->tracked));
}

struct orders {
	struct twin_order *order;
	struct unforked **unforked; /* of each */
	size_t n;
};

static void orders_release(struct orders *o)
{
	for (size_t i = 0; i < o->n; i++)
		free(o->unforked[i]);
	free(o->unforked);
	free(o->order);
}

static int add_order(struct orders *o, const struct dump_mm *mm, struct err *err)
{
	struct twin_order *order = &o->order[o->n];
	struct unforked **list = &o->unforked[o->n++];
	int r;

	order->t = mm->owner;
	r = unforked_list(mm->msg, list, &order->n, err);
	order->unforked = *list;
	return r;
}

static int list_orders(const struct session *s, struct orders *o, struct err *err)
{
	int r = 0;

	o->order = calloc(s->nmms + 1, sizeof(*o->order));
	o->unforked = calloc(s->nmms + 1, sizeof(struct unforked *));
	if (!o->order || !o->unforked)
		return err_nomem(err);
	for (size_t i = 0; i < s->nmms && r == 0; i++)
		if (dump_mm_needs_twin(&s->mm[i]))
			r = add_order(o, &s->mm[i], err);
	return r;
}

static void note_reason(struct session *s, const struct err *why)
{
	log_info("written while frozen: %s", why->msg);
	snprintf(s->result->freeze_reason, sizeof(s->result->freeze_reason), "%.*s",
		 (int)sizeof(s->result->freeze_reason) - 1, why->msg);
}

static int make(struct session *s, const struct orders *o, struct err *err)
{
	_cleanup_free_ struct twin **twin = calloc(o->n + 1, sizeof(*twin));
	struct err why = ERR_INIT;

	if (!twin)
		return err_nomem(err);
	s->is_twinned = !o->n || twins_make(o->order, o->n, twin, &why) == 0;
	if (!s->is_twinned)
		note_reason(s, &why);
	for (size_t i = 0, k = 0; i < s->nmms && s->is_twinned; i++)
		if (dump_mm_needs_twin(&s->mm[i]))
			s->mm[i].twin = twin[k++];
	return interrupt_check(err);
}

static const char *freeze_mode(const struct session *s, size_t twins)
{
	if (!s->is_twinned)
		return "frozen";
	if (twins == s->nmms)
		return "twin";
	return s->job->vigil ? "tracked" : "precopy";
}

int twins_stage(struct session *s, struct err *err)
{
	struct orders o = {0};
	int r = list_orders(s, &o, err);

	if (r == 0)
		r = make(s, &o, err);
	strcpy(s->result->freeze_mode, freeze_mode(s, o.n));
	orders_release(&o);
	return r;
}
