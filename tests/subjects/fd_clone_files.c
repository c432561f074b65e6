/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two processes with one descriptor table (CLONE_FILES): what one opens the other has. */
#include "subject.h"

static pid_t clone_sharing_files(void)
{
	return MUST(syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0));
}

int main(int argc, char **argv)
{
	int fd, own;
	pid_t pid;

	subject_init(argc, argv);
	own = MUST(open(argv[1], O_RDONLY | O_DIRECTORY));
	pid = clone_sharing_files();
	if (pid == 0) {
		subject_wait();
		fd = MUST(open("/dev/null", O_RDWR));
		MUST(dup2(fd, 77));
		close(own);
		_exit(0);
	}
	subject_ready();
	subject_wait();
	subject_join(pid);
	CHECK_EQ(fcntl(77, F_GETFD), 0);
	CHECK_EQ(fcntl(own, F_GETFD), -1);
	subject_pass();
}
