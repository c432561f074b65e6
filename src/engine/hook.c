/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * --on-restore: a command of the user's in the namespaces of a tree that is about to run. What it
 * prints goes to our standard error, for standard output belongs to the results.
 */
#include "engine/hook.h"

#include "base/util.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static int make_environment(unsigned clone, pid_t root, char text[2][32], char ***ret)
{
	size_t n = 0, k = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 3, sizeof(*env));
	if (!env)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (strncmp(environ[i], "CPX_ROOT_PID=", 13) && strncmp(environ[i], "CPX_CLONE_ID=", 13))
			env[k++] = environ[i];
	snprintf(text[0], sizeof(text[0]), "CPX_ROOT_PID=%d", root);
	snprintf(text[1], sizeof(text[1]), "CPX_CLONE_ID=%u", clone);
	env[k++] = text[0];
	if (clone)
		env[k++] = text[1];
	*ret = env;
	return 0;
}

/* Whatever cpx does with its signals, a shell expects the usual. */
static void set_signals(posix_spawnattr_t *attr)
{
	sigset_t set;

	sigemptyset(&set);
	posix_spawnattr_setsigmask(attr, &set);
	sigfillset(&set);
	posix_spawnattr_setsigdefault(attr, &set);
	posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int spawn(const char *command, char **env, pid_t *ret)
{
	char *argv[] = {"sh", "-c", (char *)command, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int r;

	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
	set_signals(&attr);
	r = posix_spawn(ret, "/bin/sh", &files, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

static int await(pid_t pid, struct err *err)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "cannot wait for the command of --on-restore");
	if (WIFSIGNALED(status))
		return err_set(err, -ECANCELED, "the command of --on-restore was killed by signal %d",
			       WTERMSIG(status));
	if (WEXITSTATUS(status))
		return err_set(err, -ECANCELED, "the command of --on-restore ended with exit status %d",
			       WEXITSTATUS(status));
	return 0;
}

int hook_run(const char *command, unsigned clone, pid_t root, struct err *err)
{
	_cleanup_free_ char **env = NULL;
	char text[2][32];
	pid_t pid;
	int r = make_environment(clone, root, text, &env);

	if (r == 0)
		r = spawn(command, env, &pid);
	return r < 0 ? err_sys(err, r, "cannot run the command of --on-restore") : await(pid, err);
}
