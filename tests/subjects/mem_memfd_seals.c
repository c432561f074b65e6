/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Seals of memfds, each with what it forbids; one that may not be executed; one of huge pages, which is mapped too. */
#include "subject.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x20
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x8
#endif
#define HUGE (2UL << 20)

static int make(const char *name, unsigned flags)
{
	int fd = memfd_create(name, MFD_ALLOW_SEALING | flags);

	if (fd >= 0)
		MUST(ftruncate(fd, 10000));
	return fd;
}

static int sealed(const char *name, int seals)
{
	int fd = MUST(make(name, 0));

	MUST(pwrite(fd, name, strlen(name), 5000));
	MUST(fcntl(fd, F_ADD_SEALS, seals));
	return fd;
}

static void check_size(int fd, const char *name, bool may_grow, bool may_shrink)
{
	char buf[16] = "";
	struct stat st;

	MUST(fstat(fd, &st));
	CHECK_EQ(st.st_size, 10000);
	CHECK_EQ(pread(fd, buf, strlen(name), 5000), strlen(name));
	CHECK(strcmp(buf, name) == 0, "%s, not %s", buf, name);
	CHECK_EQ(ftruncate(fd, 20000), may_grow ? 0 : -1);
	CHECK_EQ(ftruncate(fd, 5000), may_shrink ? 0 : -1);
}

int main(int argc, char **argv)
{
	int grow, shrink, last, future, noexec, huge;
	char *map, *pages = MAP_FAILED;
	struct stat st;

	subject_init(argc, argv);
	grow = sealed("grow", F_SEAL_GROW);
	shrink = sealed("shrink", F_SEAL_SHRINK);
	last = sealed("last", F_SEAL_GROW | F_SEAL_SEAL);
	future = MUST(make("future", 0));
	map = MUST(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0));
	MUST(fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	strcpy(map, "mapped");
	noexec = make("noexec", MFD_NOEXEC_SEAL); /* -1 before Linux 6.3 */
	huge = memfd_create("huge", MFD_ALLOW_SEALING | MFD_HUGETLB);
	if (huge >= 0)
		MUST(ftruncate(huge, 2 * HUGE));
	if (huge >= 0)
		pages = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, huge, HUGE);
	if (pages != MAP_FAILED) {
		subject_pattern(pages, HUGE, 77);
		MUST(fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	} else if (huge >= 0) {
		close(huge); /* no such page is free: its size alone is nothing to lose */
	}
	subject_ready();
	subject_wait();
	check_size(grow, "grow", false, true);
	check_size(shrink, "shrink", true, false);
	check_size(last, "last", false, true);
	CHECK_EQ(fcntl(grow, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	CHECK_EQ(fcntl(last, F_ADD_SEALS, F_SEAL_SHRINK), -1);
	CHECK_EQ(fcntl(future, F_GET_SEALS), F_SEAL_FUTURE_WRITE);
	strcpy(map + 6, "!");
	CHECK(strcmp(map, "mapped!") == 0, "%s", map);
	CHECK_EQ(write(future, "x", 1), -1);
	CHECK(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED, "mapped to write");
	if (noexec >= 0) {
		CHECK_EQ(fcntl(noexec, F_GET_SEALS) & F_SEAL_EXEC, F_SEAL_EXEC);
		MUST(fstat(noexec, &st));
		CHECK_EQ(st.st_mode & 0777, 0666);
		CHECK_EQ(fchmod(noexec, 0777), -1);
	}
	if (pages != MAP_FAILED) {
		CHECK(subject_is_pattern(pages, HUGE, 77), "content of huge pages");
		CHECK_EQ(fcntl(huge, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW);
		MUST(fstat(huge, &st));
		CHECK_EQ(st.st_size, 2 * HUGE);
		CHECK_EQ(st.st_blksize, HUGE);
	}
	subject_pass();
}
