/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The cursor that all parsers of /proc text share. Pure code, does no system call. */
#include "proc/scan.h"

#include <stdlib.h>
#include <string.h>

static unsigned digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	if (c >= 'A' && c <= 'F')
		return (unsigned)(c - 'A') + 10;
	return 255;
}

bool scan_u64(struct scan *s, unsigned base, uint64_t *ret)
{
	const char *p = s->p;
	uint64_t v = 0;

	for (; p < s->end && digit_value(*p) < base; p++)
		if (__builtin_mul_overflow(v, (uint64_t)base, &v) ||
		    __builtin_add_overflow(v, (uint64_t)digit_value(*p), &v))
			return false;
	if (p == s->p)
		return false;
	s->p = p;
	*ret = v;
	return true;
}

bool scan_i64(struct scan *s, int64_t *ret)
{
	struct scan t = *s;
	bool negative = scan_char(&t, '-');
	uint64_t v;

	if (!scan_u64(&t, 10, &v) || v > (uint64_t)INT64_MAX + negative)
		return false;
	*s = t;
	*ret = (int64_t)(negative ? 0 - v : v);
	return true;
}

bool scan_u32(struct scan *s, unsigned base, uint32_t *ret)
{
	struct scan t = *s;
	uint64_t v;

	if (!scan_u64(&t, base, &v) || v > UINT32_MAX)
		return false;
	*s = t;
	*ret = (uint32_t)v;
	return true;
}

bool scan_int(struct scan *s, int *ret)
{
	struct scan t = *s;
	int64_t v;

	if (!scan_i64(&t, &v) || v > INT32_MAX || v < INT32_MIN)
		return false;
	*s = t;
	*ret = (int)v;
	return true;
}

bool scan_char(struct scan *s, char c)
{
	if (s->p >= s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

bool scan_lit(struct scan *s, const char *literal)
{
	size_t n = strlen(literal);

	if ((size_t)(s->end - s->p) < n || memcmp(s->p, literal, n))
		return false;
	s->p += n;
	return true;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

bool scan_word(struct scan *s, struct word *ret)
{
	const char *p = s->p;

	while (p < s->end && !is_blank(*p))
		p++;
	if (p == s->p)
		return false;
	*ret = (struct word){s->p, (size_t)(p - s->p)};
	s->p = p;
	return true;
}

void scan_blanks(struct scan *s)
{
	while (s->p < s->end && is_blank(*s->p))
		s->p++;
}

bool scan_line(struct scan *s, struct scan *ret)
{
	const char *nl;

	if (s->p >= s->end)
		return false;
	nl = memchr(s->p, '\n', (size_t)(s->end - s->p));
	*ret = (struct scan){s->p, nl ? nl : s->end};
	s->p = nl ? nl + 1 : s->end;
	return true;
}

bool scan_is_end(const struct scan *s)
{
	return s->p >= s->end;
}

bool word_is(struct word w, const char *s)
{
	return w.len == strlen(s) && !memcmp(w.p, s, w.len);
}

static bool is_octal_escape(const char *p, size_t left)
{
	return left >= 4 && p[0] == '\\' && p[1] >= '0' && p[1] <= '3' && p[2] >= '0' &&
	       p[2] <= '7' && p[3] >= '0' && p[3] <= '7';
}

char *word_unescape(struct word w)
{
	char *out = malloc(w.len + 1);
	size_t n = 0;

	if (!out)
		return NULL;
	for (size_t i = 0; i < w.len; i++) {
		if (is_octal_escape(w.p + i, w.len - i)) {
			out[n++] = (char)((w.p[i + 1] - '0') << 6 | (w.p[i + 2] - '0') << 3 |
					  (w.p[i + 3] - '0'));
			i += 3;
		} else {
			out[n++] = w.p[i];
		}
	}
	out[n] = '\0';
	return out;
}
