/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Anonymous mappings with names (PR_SET_VMA_ANON_NAME). */
#include "subject.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static bool has_name(const char *name)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	bool found = false;

	while (fgets(line, sizeof(line), f))
		found |= strstr(line, name) != NULL;
	fclose(f);
	return found;
}

int main(int argc, char **argv)
{
	char *p;

	subject_init(argc, argv);
	p = MUST(mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	if (prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p, 4096, "first page") < 0)
		subject_skip("the kernel names no mappings");
	MUST(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, p + 4096, 4096, "second page"));
	subject_ready();
	subject_wait();
	CHECK(has_name("[anon:first page]"), "first");
	CHECK(has_name("[anon:second page]"), "second");
	subject_pass();
}
