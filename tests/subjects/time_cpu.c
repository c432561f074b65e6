/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Many threads that compute and tick while they are dumped: none sees its clock go back or a tick of it lost. */
#include "subject.h"

static void *computes(void *arg)
{
	double sum = 0, expected = 0;
	int64_t last = 0, t;
	long rounds = 0;

	for (int i = 1; i < 5000; i++)
		expected += 1.0 / i;
	while (!subject_is_go()) {
		sum = 0;
		for (int i = 1; i < 5000; i++)
			sum += 1.0 / i;
		CHECK(sum == expected, "%.17g after %ld rounds", sum, rounds);
		t = subject_now_ms();
		CHECK(t >= last, "clock went back");
		last = t;
		rounds++;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t[6];

	subject_init(argc, argv);
	for (int i = 0; i < 6; i++)
		t[i] = subject_thread(computes, NULL);
	subject_ready();
	for (int i = 0; i < 6; i++)
		subject_join_thread(t[i]);
	subject_pass();
}
