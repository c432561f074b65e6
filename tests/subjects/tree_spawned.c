/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A tree that has used vfork and posix_spawn, with a spawned program that runs another executable. */
#include "subject.h"

#include <spawn.h>

extern char **environ;

int main(int argc, char **argv)
{
	char *cat[] = {"cat", NULL};
	posix_spawn_file_actions_t actions;
	int in[2], out[2], status;
	char word[16] = "";
	pid_t pid;

	subject_init(argc, argv);
	MUST(pipe2(in, O_CLOEXEC));
	MUST(pipe2(out, O_CLOEXEC));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	if (posix_spawnp(&pid, "cat", &actions, NULL, cat, environ))
		subject_skip("no cat");
	close(in[0]);
	close(out[1]);
	subject_sleep_ms(20);
	subject_ready();
	subject_wait();
	MUST(write(in[1], "through cat", 11));
	CHECK_EQ(read(out[0], word, sizeof(word)), 11);
	CHECK(strcmp(word, "through cat") == 0, "%s", word);
	close(in[1]);
	CHECK_EQ(MUST(waitpid(pid, &status, 0)), pid);
	CHECK_EQ(status, 0);
	subject_pass();
}
