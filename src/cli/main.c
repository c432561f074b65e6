/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cpx command: a table of commands, each in a file of its own. */
#include "cli.h"

#include <signal.h>
#include <string.h>

static const struct cli_command *const command[] = {
	&cmd_dump, &cmd_restore, &cmd_check, &cmd_info, &cmd_verify, &cmd_flatten,
};

enum { COMMANDS = sizeof(command) / sizeof(command[0]) };

static void print_usage(FILE *out)
{
	fprintf(out, "Usage: cpx COMMAND [OPTION]... ARGUMENT\n"
		     "Checkpoint and restore running Linux processes.\n\nCommands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(out, "  %-8s %-7s %s\n", command[i]->name, command[i]->operand,
			command[i]->summary);
	fprintf(out, "\n'cpx COMMAND --help' describes a command, 'cpx --version' prints the "
		     "version.\n");
}

static int run_command(int argc, char **argv)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(argv[0], command[i]->name) == 0)
			return command[i]->run(command[i], argc, argv);
	cli_error("unknown command '%s' (try 'cpx --help')", argv[0]);
	return CPX_USAGE;
}

int main(int argc, char **argv)
{
	/* A closed pipe and a limit on file sizes are errors like a full disk. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	/* Stops of tasks are to be heard of, and ends of children, even if our parent did not care. */
	signal(SIGCHLD, SIG_DFL);
	if (argc < 2) {
		print_usage(stderr);
		return CPX_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_usage(stdout);
		return cli_finish_stdout(CPX_DONE);
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("cpx " CPX_VERSION "\n");
		return cli_finish_stdout(CPX_DONE);
	}
	return run_command(argc - 1, argv + 1);
}
