/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Growing arrays; features that tests deny. Owns nothing; reads the environment. */
#include "base/util.h"

bool is_denied(const char *feature)
{
	const char *p = getenv("CPX_DENY");
	size_t len = strlen(feature);

	while (p && *p) {
		const char *end = strchrnul(p, ',');

		if ((size_t)(end - p) == len && !memcmp(p, feature, len))
			return true;
		p = *end ? end + 1 : end;
	}
	return false;
}

int grow(void *array, size_t *max, size_t n, size_t elem)
{
	size_t want = *max ? *max : 8, bytes;
	void *p;

	if (n < *max)
		return 0;
	while (want <= n)
		if (__builtin_mul_overflow(want, 2, &want))
			return -ENOMEM;
	if (__builtin_mul_overflow(want, elem, &bytes))
		return -ENOMEM;
	/* array is a T ** of any T: copied as bytes, which no aliasing rule minds. */
	memcpy(&p, array, sizeof(p));
	p = realloc(p, bytes);
	if (!p)
		return -ENOMEM;
	memcpy(array, &p, sizeof(p));
	*max = want;
	return 0;
}
