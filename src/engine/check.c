/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx_check(): the stages of a dump that look, and nothing of those that write. */
#include "base/interrupt.h"
#include "base/util.h"
#include "engine/result.h"
#include "engine/session.h"

static const struct stage check_stage[] = {
	{"freeze", collect_freeze},	     {"read tasks", collect_tasks},
	{"compare tasks", collect_sharing},  {"read memory maps", collect_memory},
	{"inject", collect_injection},	     {"ask tasks", collect_attributes},
	{"read descriptors", collect_files},
};

int cpx_check(pid_t pid, bool no_children, struct cpx_result *r)
{
	const struct cpx_dump_options o = {.pid = pid, .no_children = no_children};
	struct interrupt interrupt;
	struct err err = ERR_INIT;
	struct session s;
	int ret;

	interrupt_catch(&interrupt);
	ret = session_init(&s, &o, r, &err);
	if (ret == 0)
		ret = session_run(&s, check_stage, ARRAY_SIZE(check_stage), &err);
	tree_thaw(&s.tree, THAW_RUN);
	interrupt_release(&interrupt);
	ret = result_set(r, ret, &err, &s.refusals);
	session_release(&s);
	return ret;
}
