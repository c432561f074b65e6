/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finding the instructions that remote calls start from in a task's own code. A library is
 * searched once for all tasks of a tree: what is found is remembered by file and offset, and
 * compared with the bytes in each task before it is used.
 */
#include "tracee/tracee_priv.h"

#include "base/util.h"

#include <sys/mman.h>
#include <sys/uio.h>

struct known {
	uint32_t dev_major, dev_minor;
	uint64_t ino, offset, size; /* of the mapping */
	struct arch_gadgets at;	    /* relative to its start; 0: not there */
};
struct gadget_cache {
	struct known *known;
	size_t n, max;
};

#define MAX_CODE (64UL << 20)
#define PIECE	 (64UL << 10)
#define OVERLAP	 16UL

static bool read_code(struct tracee *t, uint64_t addr, void *buf, size_t size)
{
	struct iovec local = {buf, size}, remote = {(void *)addr, size};

	return process_vm_readv(tracee_live_tid(t), &local, 1, &remote, 1, 0) == (ssize_t)size;
}

static const struct known *lookup(struct gadget_cache *c, const struct proc_vma *v)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct known *k = &c->known[i];

		if (k->ino == v->ino && k->dev_major == v->dev_major &&
		    k->dev_minor == v->dev_minor && k->offset == v->offset &&
		    k->size == v->end - v->start)
			return k;
	}
	return NULL;
}

static void remember(struct gadget_cache *c, const struct proc_vma *v, const struct arch_gadgets *g)
{
	if (!v->ino || grow(&c->known, &c->max, c->n, sizeof(c->known[0])))
		return;
	c->known[c->n++] = (struct known){
		.dev_major = v->dev_major,
		.dev_minor = v->dev_minor,
		.ino = v->ino,
		.offset = v->offset,
		.size = v->end - v->start,
		.at = {g->syscall_ret ? g->syscall_ret - v->start : 0,
		       g->restorer ? g->restorer - v->start : 0},
	};
}

/* Piece by piece: they are mostly near the beginning. Pieces overlap, so that none is cut in two. */
static void search(struct tracee *t, const struct proc_vma *v, struct arch_gadgets *g)
{
	uint64_t end = MIN(v->end, v->start + MAX_CODE);
	_cleanup_free_ uint8_t *code = malloc(PIECE);

	for (uint64_t at = v->start; code && at < end; at += PIECE - OVERLAP) {
		size_t size = MIN(end - at, PIECE);

		if (!read_code(t, at, code, size) || arch_find_gadgets(g, code, size, at))
			return;
	}
}

/* True when the task has at addr what the search found there in another task. */
static uint64_t confirm(struct tracee *t, uint64_t addr, bool is_restorer)
{
	struct arch_gadgets g = {0};
	uint8_t code[16];

	if (!addr || !read_code(t, addr, code, sizeof(code)))
		return 0;
	arch_find_gadgets(&g, code, sizeof(code), addr);
	return (is_restorer ? g.restorer : g.syscall_ret) == addr ? addr : 0;
}

static void look_into(struct tracee *t, const struct proc_vma *v, struct arch_gadgets *g)
{
	struct gadget_cache *c = t->tree->gadgets;
	const struct known *k = c ? lookup(c, v) : NULL;
	struct arch_gadgets here = {0};

	if (k) {
		if (k->at.syscall_ret)
			here.syscall_ret = confirm(t, v->start + k->at.syscall_ret, false);
		if (k->at.restorer)
			here.restorer = confirm(t, v->start + k->at.restorer, true);
	} else {
		search(t, v, &here);
		if (c)
			remember(c, v, &here);
	}
	if (!g->syscall_ret)
		g->syscall_ret = here.syscall_ret;
	if (!g->restorer)
		g->restorer = here.restorer;
}

static bool is_code(const struct proc_vma *v)
{
	return (v->prot & PROT_EXEC) && (v->prot & PROT_READ) && v->path[0] != '[';
}

static bool is_libc(const struct proc_vma *v)
{
	return strstr(v->path, "/libc.") || strstr(v->path, "/libc-") ||
	       strstr(v->path, "/ld-musl");
}

int gadgets_find(struct tracee *t, struct arch_gadgets *ret, struct err *err)
{
	const struct proc_vmas *maps = &t->mm_owner->inject->maps;
	struct arch_gadgets g = {0};

	if (!t->tree->gadgets)
		t->tree->gadgets = calloc(1, sizeof(*t->tree->gadgets));
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < maps->n && !(g.syscall_ret && g.restorer); i++) {
			const struct proc_vma *v = &maps->vma[i];

			if (is_code(v) && is_libc(v) == !round)
				look_into(t, v, &g);
		}
	}
	if (!g.syscall_ret || !g.restorer)
		return err_set(err, -EOPNOTSUPP,
			       "its code has no %s to start remote system calls from",
			       g.syscall_ret ? "signal restorer" : "`syscall; ret`");
	*ret = g;
	return 0;
}

void gadget_cache_free(struct gadget_cache *c)
{
	if (!c)
		return;
	free(c->known);
	free(c);
}
