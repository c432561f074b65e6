/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory whose pages may vanish at any time (MAP_DROPPABLE), where vgetrandom() keeps its state. */
#include "subject.h"

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
enum { SIZE = 16 * 4096 };

/* VmFlags of the mapping at p has dp (droppable) and wf (wiped on fork). */
static bool is_droppable(const void *p)
{
	char line[512], start[32];
	bool is_here = false, is_good = false;
	FILE *f = fopen("/proc/self/smaps", "r");

	snprintf(start, sizeof(start), "%lx-", (unsigned long)p);
	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, start, strlen(start)))
			is_here = true;
		if (is_here && !strncmp(line, "VmFlags:", 8)) {
			is_good = strstr(line, " dp") && strstr(line, " wf");
			break;
		}
	}
	if (f)
		fclose(f);
	return is_good;
}

int main(int argc, char **argv)
{
	char *area;

	subject_init(argc, argv);
	area = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_DROPPABLE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		subject_skip("no MAP_DROPPABLE");
	memset(area, 1, SIZE);
	CHECK(is_droppable(area), "before");
	subject_ready();
	subject_wait();
	CHECK(is_droppable(area), "after");
	for (int i = 0; i < SIZE; i++)
		CHECK(area[i] == 0 || area[i] == 1, "byte %d is %d", i, area[i]);
	memset(area, 2, SIZE);
	CHECK_EQ(area[SIZE - 1], 2);
	subject_pass();
}
