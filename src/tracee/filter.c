/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Seccomp filters, evaluated as kernel/seccomp.c and net/core/filter.c would: the instructions that
 * seccomp_check_filter() lets pass. A value that depends on something unknown is unknown itself,
 * and a branch on it is followed both ways. Programs only jump forward, so every path ends; one
 * with too many paths is taken for the worst.
 */
#include "tracee/filter.h"

#include "arch/arch.h"
#include "base/util.h"

#define MAX_STEPS 100000
#define MAX_PATHS 64 /* that wait to be followed */

struct value {
	uint32_t v;
	bool is_known;
};

struct path {
	size_t pc;
	struct value a, x, mem[BPF_MEMWORDS];
};

struct walk {
	const struct sock_filter *insn;
	size_t n;
	const struct filter_call *call;
	struct path path[MAX_PATHS];
	size_t npaths;
	unsigned steps;
	uint32_t worst;
};

static const struct value unknown;

static struct value known(uint32_t v)
{
	return (struct value){v, true};
}

uint32_t filter_worse(uint32_t a, uint32_t b)
{
	return (int32_t)(a & SECCOMP_RET_ACTION_FULL) < (int32_t)(b & SECCOMP_RET_ACTION_FULL) ? a
											       : b;
}

static struct value load(const struct filter_call *c, uint32_t at)
{
	unsigned i = (at - offsetof(struct seccomp_data, args)) / sizeof(c->arg[0]);

	if (at == offsetof(struct seccomp_data, nr))
		return known((uint32_t)c->nr);
	if (at == offsetof(struct seccomp_data, arch))
		return known(ARCH_AUDIT);
	if (at < offsetof(struct seccomp_data, args) || i >= ARRAY_SIZE(c->arg) ||
	    !(c->known & 1U << i))
		return unknown;
	return known((uint32_t)(at & 4 ? c->arg[i] >> 32 : c->arg[i]));
}

/* Division by zero ends the filter with 0; here it makes the result unknown, and the caller sees to
 * it. */
static struct value compute(uint16_t op, struct value a, struct value b)
{
	if (!a.is_known || !b.is_known || (op == BPF_DIV && !b.v))
		return unknown;
	switch (op) {
	case BPF_ADD:
		return known(a.v + b.v);
	case BPF_SUB:
		return known(a.v - b.v);
	case BPF_MUL:
		return known(a.v * b.v);
	case BPF_DIV:
		return known(a.v / b.v);
	case BPF_AND:
		return known(a.v & b.v);
	case BPF_OR:
		return known(a.v | b.v);
	case BPF_XOR:
		return known(a.v ^ b.v);
	case BPF_LSH:
		return known(a.v << (b.v & 31));
	case BPF_RSH:
		return known(a.v >> (b.v & 31));
	default:
		return unknown;
	}
}

static bool compare(uint16_t op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_JEQ:
		return a == b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	default: /* BPF_JSET */
		return a & b;
	}
}

static void give_up(struct walk *w)
{
	w->worst = SECCOMP_RET_KILL_PROCESS;
	w->npaths = 0;
}

static void jump(struct walk *w, struct path *p, const struct sock_filter *f)
{
	struct value b = BPF_SRC(f->code) == BPF_X ? p->x : known(f->k);

	if (BPF_OP(f->code) == BPF_JA) {
		p->pc += f->k;
	} else if (p->a.is_known && b.is_known) {
		p->pc += compare(BPF_OP(f->code), p->a.v, b.v) ? f->jt : f->jf;
	} else if (w->npaths == MAX_PATHS) {
		p->pc = w->n;
	} else {
		w->path[w->npaths] = *p;
		w->path[w->npaths++].pc += f->jf;
		p->pc += f->jt;
	}
}

static struct value loaded(const struct walk *w, const struct path *p, const struct sock_filter *f)
{
	switch (BPF_MODE(f->code)) {
	case BPF_ABS:
		return load(w->call, f->k);
	case BPF_IMM:
		return known(f->k);
	case BPF_LEN:
		return known(sizeof(struct seccomp_data));
	case BPF_MEM:
		return p->mem[f->k % BPF_MEMWORDS];
	default:
		return unknown;
	}
}

static void answer(struct walk *w, struct path *p, const struct sock_filter *f)
{
	struct value v = BPF_RVAL(f->code) == BPF_K ? known(f->k) : p->a;

	w->worst = filter_worse(w->worst, v.is_known ? v.v : SECCOMP_RET_KILL_PROCESS);
}

/* False at the end of the path. */
static bool step(struct walk *w, struct path *p)
{
	const struct sock_filter *f = &w->insn[p->pc++];
	struct value b = BPF_SRC(f->code) == BPF_X ? p->x : known(f->k);

	switch (BPF_CLASS(f->code)) {
	case BPF_LD:
		p->a = loaded(w, p, f);
		return true;
	case BPF_LDX:
		p->x = loaded(w, p, f);
		return true;
	case BPF_ST:
		p->mem[f->k % BPF_MEMWORDS] = p->a;
		return true;
	case BPF_STX:
		p->mem[f->k % BPF_MEMWORDS] = p->x;
		return true;
	case BPF_ALU:
		if (BPF_OP(f->code) == BPF_DIV && !(b.is_known && b.v))
			w->worst = filter_worse(w->worst, SECCOMP_RET_KILL_THREAD);
		p->a = BPF_OP(f->code) == BPF_NEG ? compute(BPF_SUB, known(0), p->a)
						  : compute(BPF_OP(f->code), p->a, b);
		return true;
	case BPF_JMP:
		jump(w, p, f);
		return true;
	case BPF_MISC:
		if (BPF_MISCOP(f->code) == BPF_TAX)
			p->x = p->a;
		else
			p->a = p->x;
		return true;
	default: /* BPF_RET */
		answer(w, p, f);
		return false;
	}
}

static void follow(struct walk *w, struct path *p)
{
	do {
		if (p->pc >= w->n || ++w->steps > MAX_STEPS) {
			give_up(w);
			return;
		}
	} while (step(w, p));
}

uint32_t filter_worst(const struct sock_filter *insn, size_t n, const struct filter_call *call)
{
	struct walk w = {
		.insn = insn,
		.n = n,
		.call = call,
		.npaths = 1,
		.worst = SECCOMP_RET_ALLOW,
	};

	/* The kernel starts them with zeroes. */
	w.path[0].a = w.path[0].x = known(0);
	while (w.npaths) {
		struct path p = w.path[--w.npaths];

		follow(&w, &p);
	}
	return w.worst & SECCOMP_RET_ACTION_FULL;
}

bool filter_can_notify(const struct sock_filter *insn, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (BPF_CLASS(insn[i].code) == BPF_RET &&
		    (BPF_RVAL(insn[i].code) != BPF_K ||
		     (insn[i].k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF))
			return true;
	return false;
}
