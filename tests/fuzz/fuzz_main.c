/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target over the files and folders named, for compilers without a fuzzer: a corpus
 * is part of the ordinary suite. With --mutate N also over N random changes of each. */
#include "base/util.h"

#include <fcntl.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned runs;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* A few bytes changed, and sometimes the end cut off. */
static void run_mutated(const uint8_t *data, size_t size, unsigned n)
{
	_cleanup_free_ uint8_t *copy = malloc(size + 1);
	uint64_t state = 88172645463325252ULL;

	for (unsigned i = 0; i < n && size; i++) {
		size_t len = next_random(&state) % 8 ? size : next_random(&state) % size;

		memcpy(copy, data, size);
		for (unsigned k = next_random(&state) % 4 + 1; k && len; k--)
			copy[next_random(&state) % len] = next_random(&state);
		LLVMFuzzerTestOneInput(copy, len);
	}
}

static int run_file(const char *path, unsigned mutations)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ uint8_t *data = NULL;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return 0;
	data = malloc(st.st_size + !st.st_size);
	if (!data || read(fd, data, st.st_size) != st.st_size)
		return -EIO;
	LLVMFuzzerTestOneInput(data, st.st_size);
	run_mutated(data, st.st_size, mutations);
	runs++;
	return 0;
}

static int run_path(const char *path, unsigned mutations)
{
	_cleanup_closedir_ DIR *dir = opendir(path);
	struct dirent *e;
	int r = 0;

	if (!dir)
		return run_file(path, mutations);
	while (r == 0 && (e = readdir(dir))) {
		char name[4096];

		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		if (e->d_name[0] != '.')
			r = run_file(name, mutations);
	}
	return r;
}

int main(int argc, char **argv)
{
	unsigned mutations = 0;

	for (int i = 1; i < argc; i++) {
		int r;

		if (strcmp(argv[i], "--mutate") == 0 && i + 1 < argc) {
			mutations = atoi(argv[++i]);
			continue;
		}
		r = run_path(argv[i], mutations);
		if (r < 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
			return 1;
		}
	}
	printf("%u inputs\n", runs);
	return runs ? 0 : 1;
}
