/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Cleanup attributes, small macros. A variable with a cleanup attribute is declared and
 * initialised in one statement; goto and cleanup never meet in one function. */
#ifndef CPX_BASE_UTIL_H
#define CPX_BASE_UTIL_H

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_SIZE(a)   (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)       ((a) < (b) ? (a) : (b))
#define MAX(a, b)       ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a)   (((x) + (a) - 1) & ~((__typeof__(x))(a) - 1))
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a) - 1))
#define CPX_PAGE_SIZE   4096UL
#define CPX_PAGE_SHIFT  12

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

static inline void cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

static inline void cleanup_closedir(DIR **d)
{
	if (*d)
		closedir(*d);
}

#define _cleanup_free_     __attribute__((cleanup(cleanup_free)))
#define _cleanup_close_    __attribute__((cleanup(cleanup_close)))
#define _cleanup_fclose_   __attribute__((cleanup(cleanup_fclose)))
#define _cleanup_closedir_ __attribute__((cleanup(cleanup_closedir)))

/* Hands the value over and disarms the cleanup. */
#define TAKE_PTR(p) ({ __typeof__(p) taken_ = (p); (p) = NULL; taken_; })
#define TAKE_FD(fd) ({ int taken_ = (fd); (fd) = -1; taken_; })

/* Is this kernel feature named in the environment's CPX_DENY (names separated by commas)? Tests run
 * fallbacks so: whoever uses a newer interface pretends that it is not there. */
bool is_denied(const char *feature);

/* Grows *array (of *max elements of size elem) so that index n fits. 0 or -ENOMEM. */
int grow(void *array, size_t *max, size_t n, size_t elem);

#endif
