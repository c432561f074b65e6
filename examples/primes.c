/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The job of `make demo`: counts the primes below LIMIT with several threads and tells a file how
 * far it is. It knows nothing of cpx, saves nothing, and would start at zero if started again.
 *
 * Usage: primes LIMIT THREADS PROGRESS-FILE
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 20000
#define THREADS_MAX 64

struct job {
	uint64_t limit;
	atomic_uint_fast64_t next;  /* first number that no thread has taken */
	atomic_uint_fast64_t done;  /* numbers looked at */
	atomic_uint_fast64_t found; /* primes among them */
};

static bool is_prime(uint64_t n)
{
	if (n < 2 || (n > 2 && n % 2 == 0))
		return false;
	for (uint64_t d = 3; d * d <= n; d += 2)
		if (n % d == 0)
			return false;
	return true;
}

static void *count_primes(void *data)
{
	struct job *job = data;
	uint64_t first;

	while ((first = atomic_fetch_add(&job->next, BLOCK)) < job->limit) {
		uint64_t end = first + BLOCK < job->limit ? first + BLOCK : job->limit;
		uint64_t found = 0;

		for (uint64_t n = first; n < end; n++)
			found += is_prime(n);
		atomic_fetch_add(&job->found, found);
		atomic_fetch_add(&job->done, end - first);
	}
	return NULL;
}

static void report(FILE *f, struct job *job, unsigned line)
{
	uint64_t done = atomic_load(&job->done);

	fprintf(f, "%u: pid %d: %" PRIu64 "%% done, %" PRIu64 " primes so far\n", line, getpid(),
		done * 100 / job->limit, atomic_load(&job->found));
	fflush(f);
}

int main(int argc, char **argv)
{
	struct job job = {.limit = argc == 4 ? strtoull(argv[1], NULL, 10) : 0};
	unsigned nthreads = argc == 4 ? strtoul(argv[2], NULL, 10) : 0, line = 0;
	pthread_t thread[THREADS_MAX];
	FILE *f = argc == 4 ? fopen(argv[3], "a") : NULL;

	if (!f || !nthreads || nthreads > THREADS_MAX || !job.limit) {
		fprintf(stderr, "usage: primes LIMIT THREADS PROGRESS-FILE\n");
		return 2;
	}
	for (unsigned i = 0; i < nthreads; i++)
		if (pthread_create(&thread[i], NULL, count_primes, &job))
			return 1;
	while (atomic_load(&job.done) < job.limit) {
		report(f, &job, line++);
		nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	}
	for (unsigned i = 0; i < nthreads; i++)
		pthread_join(thread[i], NULL);
	fprintf(f, "%u: finished: %" PRIu64 " primes below %" PRIu64 "\n", line,
		atomic_load(&job.found), job.limit);
	return fclose(f) ? 1 : 0;
}
