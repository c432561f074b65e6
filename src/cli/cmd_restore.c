/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx restore */
#include "cli.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEY_PID = 256, KEY_PIDFILE, KEY_PIPE, KEY_CHANGED };

static const struct cli_option option[] = {
	{'d', "detach", NULL, "print the PID of the new root on standard output and return"},
	{KEY_PID, "pid", "MODE",
	 "same: keep the PIDs; new: in a new PID namespace; auto: same if free, else new (default)"},
	{KEY_PIDFILE, "pidfile", "FILE", "write the PID of the new root there"},
	{KEY_PIPE, "external-pipe", "WHAT",
	 "in place of pipes to outside the tree: inherit[:FD], file:/PATH or null"},
	{KEY_CHANGED, "allow-changed", "FILE",
	 "accept that this file has changed since the dump; may be given again"},
	{'j', "jobs", "N", "fill memory with N threads (default: one a CPU)"},
	{0},
};

struct options {
	struct cpx_restore_options restore;
	struct cli_pipes pipes;
	const char *changed[1024];
};

static int add_changed(struct options *o, const char *file)
{
	if (o->restore.nallow_changed == sizeof(o->changed) / sizeof(o->changed[0])) {
		cli_usage_error(&cmd_restore, "--allow-changed is given too often");
		return -1;
	}
	o->changed[o->restore.nallow_changed++] = file;
	return 0;
}

static int set_pids(struct cpx_restore_options *o, const char *text)
{
	static const char *const mode[] = {
		[CPX_PIDS_AUTO] = "auto",
		[CPX_PIDS_SAME] = "same",
		[CPX_PIDS_NEW] = "new",
	};

	for (size_t i = 0; i < sizeof(mode) / sizeof(mode[0]); i++) {
		if (strcmp(mode[i], text) != 0)
			continue;
		o->pids = i;
		return 0;
	}
	cli_usage_error(&cmd_restore, "--pid is auto, same or new, not '%s'", text);
	return -1;
}

static int set(void *data, int key, const char *arg)
{
	struct options *all = data;
	struct cpx_restore_options *o = &all->restore;

	switch (key) {
	case 'd':
		o->detach = true;
		return 0;
	case KEY_PID:
		return set_pids(o, arg);
	case KEY_PIDFILE:
		o->pidfile = arg;
		return 0;
	case KEY_PIPE:
		return cli_add_pipe(&cmd_restore, &all->pipes, arg);
	case KEY_CHANGED:
		return add_changed(all, arg);
	default:
		return cli_set_jobs(&cmd_restore, &o->workers, arg);
	}
}

/* A foreground restore ends as what it restored. */
static int root_status(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

static json_t *to_json(const struct cpx_restore_options *o, const struct cpx_result *r)
{
	json_t *object = cli_json(r);

	if (r->outcome != CPX_DONE)
		return object;
	json_object_set_new(object, "pid", json_integer(r->pid));
	json_object_set_new(object, "wall_us", json_integer(r->wall_us));
	json_object_set_new(object, "tasks", json_integer(r->tasks));
	json_object_set_new(object, "threads", json_integer(r->threads));
	json_object_set_new(object, "new_pid_namespace", json_boolean(r->new_pid_namespace));
	json_object_set_new(object, "new_user_namespace", json_boolean(r->new_user_namespace));
	json_object_set_new(object, "new_time_namespace", json_boolean(r->new_time_namespace));
	if (!o->detach)
		json_object_set_new(object, "exit_status", json_integer(root_status(r->status)));
	return object;
}

static int restore(struct cpx_restore_options *o, const struct cli_common *common)
{
	struct cpx_result r = CPX_RESULT_INIT;
	struct cli_progress progress;
	int status;

	cli_set_log(common);
	o->progress = cli_progress_start(&progress, common);
	cpx_restore(o, &r);
	cli_progress_end(&progress);
	status = cli_report(&r);
	if (status == CPX_DONE && !o->detach)
		status = root_status(r.status);
	if (common->json) {
		status = cli_print_json(to_json(o, &r), status);
	} else if (status == CPX_DONE && o->detach) {
		printf("%d\n", r.pid);
		status = cli_finish_stdout(status);
	}
	cpx_result_release(&r);
	return status;
}

static int run(const struct cli_command *self, int argc, char **argv)
{
	struct options o = {.restore.in_fd = STDIN_FILENO};
	struct cli_common common;
	int status = cli_parse(self, argc, argv, set, &o, &common, &o.restore.input);

	if (status == CLI_GO_ON && strcmp(o.restore.input, "-") == 0 && isatty(o.restore.in_fd))
		status = cli_usage_error(self, "an image is not read from a terminal");
	o.restore.external_pipe = o.pipes.item;
	o.restore.nexternal_pipes = o.pipes.n;
	o.restore.allow_changed = o.changed;
	if (status == CLI_GO_ON)
		status = restore(&o.restore, &common);
	return status;
}

const struct cli_command cmd_restore = {
	.name = "restore",
	.operand = "FILE|-",
	.summary = "Bring back the processes of an image",
	.details = "cpx stays in the foreground as their parent, passes signals on and exits with "
		   "the status\n"
		   "of the restored root (128+N if signal N ended it), unless --detach is given.",
	.option = option,
	.run = run,
};
