/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx_check(): the stages of a dump that look, and nothing of those that write. */
#include "base/util.h"
#include "engine/result.h"
#include "engine/session.h"

static const struct stage check_stage[] = {
	{"look at the machine", collect_host}, {"freeze", collect_freeze},	     {"read tasks", collect_tasks},
	{"compare tasks", collect_sharing},  {"read memory maps", collect_memory},
	{"inject", collect_injection},	     {"ask tasks", collect_attributes},
	{"read semaphores and queues", collect_ipc}, {"read descriptors", collect_files},
};

static int check(void *job, struct cpx_result *r)
{
	struct err err = ERR_INIT;
	struct session s;
	int ret = session_init(&s, job, r, &err);

	if (ret == 0)
		ret = session_run(&s, check_stage, ARRAY_SIZE(check_stage), &err);
	tree_thaw(&s.tree, THAW_RUN);
	ret = result_set(r, ret, &err, &s.refusals);
	session_release(&s);
	return ret;
}

int cpx_check(const struct cpx_dump_options *o, struct cpx_result *r)
{
	struct job j = {.options = o, .plan = ENTER_PLAN_INIT};

	return job_run(&j, check, r);
}
