/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A cursor over text. Functions that take something return false, and leave the cursor where it
 * was, when it is not there. Never reads at or past end.
 */
#ifndef CPX_PROC_SCAN_H
#define CPX_PROC_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scan {
	const char *p, *end;
};

struct word {
	const char *p;
	size_t len;
};

static inline struct scan scan_of(const char *text, size_t len)
{
	return (struct scan){text, text + len};
}

bool scan_u64(struct scan *s, unsigned base,
	      uint64_t *ret);		     /* digits only; false on overflow too */
bool scan_i64(struct scan *s, int64_t *ret); /* decimal, with a sign */
bool scan_u32(struct scan *s, unsigned base, uint32_t *ret);
bool scan_int(struct scan *s, int *ret);
bool scan_char(struct scan *s, char c);
bool scan_lit(struct scan *s, const char *literal);
bool scan_word(struct scan *s, struct word *ret); /* up to blank or the end; at least one byte */
void scan_blanks(struct scan *s);		  /* spaces and tabs */
bool scan_line(struct scan *s, struct scan *ret); /* the next line without its newline */
bool scan_is_end(const struct scan *s);

bool word_is(struct word w, const char *s);
/* A malloc'ed copy with octal escapes (\040) undone (fs/seq_file.c); NULL: no memory. */
char *word_unescape(struct word w);

#endif
