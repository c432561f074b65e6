/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* cpx restore */
#include "cli.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_FILES = 1024 }; /* of one option */
enum {
	KEY_PID = 256, KEY_PIDFILE, KEY_PIPE, KEY_CHANGED, KEY_LAZY, KEY_COPIES, KEY_OUTPUT, KEY_ID, KEY_SIGNAL,
	KEY_HOOK, KEY_SHARED, KEY_PARENT,
};

static const struct cli_option option[] = {
	{'d', "detach", NULL, "print the PID of the new root on standard output and return"},
	{KEY_PID, "pid", "MODE",
	 "same: keep the PIDs; new: in a new PID namespace; auto: same if free, else new (default)"},
	{KEY_PIDFILE, "pidfile", "FILE", "write the PID of the new root there"},
	{KEY_PIPE, "external-pipe", "WHAT",
	 "in place of pipes to outside the tree: inherit[:FD], file:/PATH or null"},
	{KEY_CHANGED, "allow-changed", "FILE",
	 "accept that this file has changed since the dump; may be given again"},
	{KEY_LAZY, "lazy", NULL, "run at once, and fill memory while it runs (needs root)"},
	{KEY_COPIES, "copies", "N", "make N trees of the image; return when all have ended, with a table"},
	{KEY_OUTPUT, "output-dir", "DIR", "of copies: clone I writes into DIR/I: files that are open for it, outside pipes, terminals"},
	{KEY_SHARED, "shared-file", "FILE", "of copies: all write to this one; may be given again"},
	{KEY_ID, "clone-id-file", "FILE", "of copies: at this path each finds a file of its own with its number"},
	{KEY_SIGNAL, "clone-signal", "SIG", "of copies: send this signal to each root once it runs"},
	{KEY_HOOK, "on-restore", "COMMAND", "run a shell command in the namespaces of the tree before it goes on"},
	{KEY_PARENT, "parent", "FILE", CLI_PARENT_HELP},
	{'j', "jobs", "N", "fill memory with N threads (default: one a CPU)"},
	{0},
};

struct options {
	struct cpx_restore_options restore;
	struct cli_pipes pipes;
	struct cli_parents parents;
	const char *changed[MAX_FILES], *shared[MAX_FILES];
};

static int add_file(const char **list, size_t *n, const char *file, const char *name)
{
	if (*n == MAX_FILES) {
		cli_usage_error(&cmd_restore, "%s is given too often", name);
		return -1;
	}
	list[(*n)++] = file;
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

static int set_copies(struct cpx_restore_options *o, const char *text)
{
	uint64_t n;

	if (cli_parse_number(text, 1, CPX_COPIES_MAX, &n) < 0) {
		cli_usage_error(&cmd_restore, "--copies is a number from 1 to %d, not '%s'", CPX_COPIES_MAX, text);
		return -1;
	}
	o->copies = n;
	return 0;
}

static int set_signal(struct cpx_restore_options *o, const char *text)
{
	o->clone_signal = cli_parse_signal(text);
	if (o->clone_signal > 0)
		return 0;
	cli_usage_error(&cmd_restore, "'%s' is no signal", text);
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
	case KEY_LAZY:
		o->lazy = true;
		return 0;
	case KEY_PIDFILE:
		o->pidfile = arg;
		return 0;
	case KEY_PIPE:
		return cli_add_pipe(&cmd_restore, &all->pipes, arg);
	case KEY_PARENT:
		return cli_add_parent(&cmd_restore, &all->parents, arg);
	case KEY_CHANGED:
		return add_file(all->changed, &o->nallow_changed, arg, "--allow-changed");
	case KEY_COPIES:
		return set_copies(o, arg);
	case KEY_OUTPUT:
		o->output_dir = arg;
		return 0;
	case KEY_SHARED:
		return add_file(all->shared, &o->nshared_files, arg, "--shared-file");
	case KEY_ID:
		o->clone_id_file = arg;
		return 0;
	case KEY_SIGNAL:
		return set_signal(o, arg);
	case KEY_HOOK:
		o->on_restore = arg;
		return 0;
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

	if (r->nclones)
		json_object_set_new(object, "clones", clones_to_json(o, r));
	if (r->outcome != CPX_DONE)
		return object;
	if (!o->copies)
		json_object_set_new(object, "pid", json_integer(r->pid));
	json_object_set_new(object, "wall_us", json_integer(r->wall_us));
	json_object_set_new(object, "tasks", json_integer(r->tasks));
	json_object_set_new(object, "threads", json_integer(r->threads));
	json_object_set_new(object, "new_pid_namespace", json_boolean(r->new_pid_namespace));
	json_object_set_new(object, "new_user_namespace", json_boolean(r->new_user_namespace));
	json_object_set_new(object, "new_time_namespace", json_boolean(r->new_time_namespace));
	if (!o->detach && !o->copies)
		json_object_set_new(object, "exit_status", json_integer(root_status(r->status)));
	return object;
}

static int print_text(const struct cpx_restore_options *o, const struct cpx_result *r, int status)
{
	if (r->nclones)
		clones_print(o, r);
	else if (status == CPX_DONE && o->detach)
		printf("%d\n", r->pid);
	return cli_finish_stdout(status);
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
		status = o->copies ? clones_status(&r) : root_status(r.status);
	status = common->json ? cli_print_json(to_json(o, &r), status) : print_text(o, &r, status);
	cpx_result_release(&r);
	return status;
}

static int check_usage(const struct cpx_restore_options *o)
{
	if (strcmp(o->input, "-") == 0 && isatty(o->in_fd))
		return cli_usage_error(&cmd_restore, "an image is not read from a terminal");
	if (!o->copies && (o->output_dir || o->nshared_files || o->clone_id_file || o->clone_signal))
		return cli_usage_error(&cmd_restore, "--output-dir, --shared-file, --clone-id-file and --clone-signal are for --copies");
	if (o->copies && o->pids == CPX_PIDS_SAME)
		return cli_usage_error(&cmd_restore, "each of --copies has a PID namespace of its own: not --pid=same");
	if (o->copies && o->lazy)
		return cli_usage_error(&cmd_restore, "--copies share their memory, which is filled before: not --lazy");
	if (o->copies && o->pidfile)
		return cli_usage_error(&cmd_restore, "--pidfile is for one tree; with --copies --detach prints all PIDs");
	return CLI_GO_ON;
}

static int run(const struct cli_command *self, int argc, char **argv)
{
	struct options o = {.restore.in_fd = STDIN_FILENO};
	struct cli_common common;
	int status = cli_parse(self, argc, argv, set, &o, &common, &o.restore.input);

	if (status == CLI_GO_ON)
		status = check_usage(&o.restore);
	o.restore.external_pipe = o.pipes.item;
	o.restore.nexternal_pipes = o.pipes.n;
	o.restore.allow_changed = o.changed;
	o.restore.shared_file = o.shared;
	o.restore.parents = cli_parents(&o.parents);
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
