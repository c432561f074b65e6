/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Feeds text to the parsers of src/proc. The first byte says to which; what they accept must make
 * sense. */
#include "base/util.h"
#include "proc/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool is_true)
{
	if (!is_true)
		abort();
}

static void feed_vmas(const char *text, size_t len)
{
	struct proc_vmas v = {0};
	uint64_t floor = 0;

	if (proc_vmas_parse(text, len, &v) < 0)
		return;
	for (size_t i = 0; i < v.n; i++) {
		const struct proc_vma *a = &v.vma[i];

		must(a->start >= floor && a->start < a->end && a->path);
		must(proc_vmas_find(&v, a->start) == a && proc_vmas_find(&v, a->end - 1) == a);
		floor = a->end;
	}
	proc_vmas_release(&v);
}

static void feed_stat(const char *text, size_t len)
{
	struct proc_stat st;

	if (proc_stat_parse(text, len, &st) == 0)
		must(strlen(st.comm) < sizeof(st.comm));
}

static void feed_status(const char *text, size_t len)
{
	struct proc_status st;

	if (proc_status_parse(text, len, &st) < 0)
		return;
	must(st.nns <= ARRAY_SIZE(st.nspid));
	proc_status_release(&st);
}

static void feed_fdinfo(const char *text, size_t len)
{
	struct proc_inotify_watch *watch;
	struct proc_epoll_item *item;
	struct proc_fdinfo f;
	uint64_t v;
	size_t n;

	if (proc_fdinfo_parse(text, len, &f) < 0)
		return;
	must(strlen(f.text) <= len);
	(void)proc_field_u64(f.text, "eventfd-count", 16, &v);
	(void)proc_field_time(f.text, "it_value", &v);
	if (proc_epoll_items(f.text, &item, &n) == 0)
		free(item);
	if (proc_inotify_watches(f.text, &watch, &n) == 0)
		free(watch);
	proc_fdinfo_release(&f);
}

static void feed_limits(const char *text, size_t len)
{
	struct proc_limit limit[PROC_NLIMITS];

	(void)proc_limits_parse(text, len, limit);
}

static void feed_timers(const char *text, size_t len)
{
	struct proc_timer *t = NULL;
	size_t n;

	if (proc_timers_parse(text, len, &t, &n) == 0)
		free(t);
}

static void feed_syscall(const char *text, size_t len)
{
	struct proc_syscall c;

	(void)proc_syscall_parse(text, len, &c);
}

static void feed_mounts(const char *text, size_t len)
{
	struct proc_mounts m = {0};

	if (proc_mounts_parse(text, len, &m) < 0)
		return;
	for (size_t i = 0; i < m.n; i++)
		must(m.mount[i].mountpoint && proc_mounts_find(&m, m.mount[i].id));
	proc_mounts_release(&m);
}

static void feed_netlink(const char *text, size_t len)
{
	struct proc_netlink n;

	(void)proc_netlink_parse(text, len, 4, &n);
}

static const struct {
	char tag;
	void (*feed)(const char *text, size_t len);
} parsers[] = {
	{'v', feed_vmas},   {'s', feed_stat},	{'S', feed_status},  {'f', feed_fdinfo},
	{'l', feed_limits}, {'t', feed_timers}, {'c', feed_syscall}, {'m', feed_mounts},
	{'n', feed_netlink},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;

	if (!size)
		return 0;
	/* Exactly as long as promised: text[len] is the terminator, nothing may be read after it.
	 */
	text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(parsers); i++)
		if (data[0] == parsers[i].tag)
			parsers[i].feed(text, size - 1);
	free(text);
	return 0;
}
