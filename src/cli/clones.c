/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* restore --copies: what became of the clones, as a table, JSON, and an exit status. */
#include "cli.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

int clones_status(const struct cpx_result *r)
{
	for (size_t i = 0; i < r->nclones; i++)
		if (!r->clone[i].is_restored || r->clone[i].status)
			return CPX_FAILED;
	return CPX_DONE;
}

static json_t *one_to_json(const struct cpx_clone *c, size_t id, bool detach)
{
	json_t *object = json_object();

	json_object_set_new(object, "id", json_integer(id));
	json_object_set_new(object, "restored", json_boolean(c->is_restored));
	if (c->pid)
		json_object_set_new(object, "pid", json_integer(c->pid));
	if (!c->is_restored)
		json_object_set_new(object, "error", cli_json_text(c->error));
	else if (!detach && WIFSIGNALED(c->status))
		json_object_set_new(object, "signal", json_integer(WTERMSIG(c->status)));
	if (c->is_restored && !detach)
		json_object_set_new(object, "exit_status",
				    json_integer(WIFSIGNALED(c->status) ? 128 + WTERMSIG(c->status)
									: WEXITSTATUS(c->status)));
	return object;
}

json_t *clones_to_json(const struct cpx_restore_options *o, const struct cpx_result *r)
{
	json_t *list = json_array();

	for (size_t i = 0; i < r->nclones; i++)
		json_array_append_new(list, one_to_json(&r->clone[i], i + 1, o->detach));
	return list;
}

static void print_detached(const struct cpx_result *r)
{
	for (size_t i = 0; i < r->nclones; i++)
		if (r->clone[i].is_restored)
			printf("%d\n", r->clone[i].pid);
		else if (r->clone[i].error[0])
			cli_error("clone %zu: %s", i + 1, r->clone[i].error);
}

static void print_one(const struct cpx_clone *c, size_t id)
{
	char pid[16] = "-";

	if (c->pid)
		snprintf(pid, sizeof(pid), "%d", c->pid);
	printf("%-5zu  %-7s  ", id, pid);
	if (!c->is_restored)
		printf("not restored: %s\n", c->error);
	else if (WIFSIGNALED(c->status))
		printf("killed by signal %d (%s)\n", WTERMSIG(c->status), strsignal(WTERMSIG(c->status)));
	else
		printf("exit status %d\n", WEXITSTATUS(c->status));
}

void clones_print(const struct cpx_restore_options *o, const struct cpx_result *r)
{
	if (o->detach) {
		print_detached(r);
		return;
	}
	printf("%-5s  %-7s  %s\n", "CLONE", "PID", "END");
	for (size_t i = 0; i < r->nclones; i++)
		print_one(&r->clone[i], i + 1);
}
