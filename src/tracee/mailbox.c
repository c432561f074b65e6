/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lanes: handing batches over by futex, and the robust list by which the kernel tells the threads
 * in the loop that we have died: set_robust_list(2), kernel/futex/core.c.
 *
 * A lane is shared with the task, which may be hostile: no pointer is ever read from it. The order
 * of the list is therefore kept in memory of our own, beside the head; the kernel itself names the
 * head of a thread (get_robust_list(2)), so that there is no global and a forked cpx starts afresh.
 *
 * The kernel follows at most 2048 entries (ROBUST_LIST_LIMIT), that is 1024 lanes of one thread.
 * More are on the lists of keepers: threads that do nothing but live as long as we do.
 */
#include "tracee/mailbox.h"
#include "tracee/tracee_priv.h"

#include "arch/arch.h"
#include "arch/lane_abi.h"
#include "base/util.h"

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

_Static_assert(offsetof(struct lane, park) == LANE_PARK, "park");
_Static_assert(offsetof(struct lane, turn) == LANE_TURN, "turn");
_Static_assert(offsetof(struct lane, ncalls) == LANE_NCALLS, "ncalls");
_Static_assert(offsetof(struct lane, done) == LANE_DONE, "done");
_Static_assert(offsetof(struct lane, ready) == LANE_READY, "ready");
_Static_assert(offsetof(struct lane, leave_gadget) == LANE_GADGET, "leave_gadget");
_Static_assert(offsetof(struct lane, leave_nr) == LANE_NR, "leave_nr");
_Static_assert(offsetof(struct lane, leave_arg) == LANE_ARG, "leave_arg");
_Static_assert(offsetof(struct lane, inside) == LANE_INSIDE, "inside");
_Static_assert(offsetof(struct lane, npeers) == LANE_NPEERS, "npeers");
_Static_assert(offsetof(struct lane, call) == LANE_CALL, "call");
_Static_assert(LANE_PEERS_AT == 3 * LANE_SIZE, "peers come after the host, midwife and twin");
_Static_assert(offsetof(struct call, nr) == CALL_NR, "nr");
_Static_assert(offsetof(struct call, arg) == CALL_ARG, "arg");
_Static_assert(offsetof(struct call, ret) == CALL_RET, "ret");
_Static_assert(sizeof(struct call) == CALL_SIZE, "call size");
_Static_assert(CALL_SIZE == 1 << 6, "CALL_SKIP shifts by 6");
_Static_assert(offsetof(struct drain_rules, quote) == DRAIN_QUOTE, "quote");
_Static_assert(offsetof(struct drain_rules, end) == DRAIN_END, "end");
_Static_assert(offsetof(struct drain_rules, when) == DRAIN_WHEN, "when");
_Static_assert(sizeof(struct lane) < LANE_SIZE, "lane size");

/* From a list entry to its futex word; glibc's own lists have another offset. */
#define NODE_TO_WORD                                                                               \
	((long)offsetof(struct lane, park[0].word) - (long)offsetof(struct lane, node[0]))
_Static_assert(NODE_TO_WORD == (long)offsetof(struct lane, park[1].word) -
				       (long)offsetof(struct lane, node[1]),
	       "one offset for both words");

#define SPIN_NS 50000

#define MAX_NODES 2040

/* Lives in a shared mapping: the OOM killer's reaper leaves those alone, so that the kernel can
 * still read the list when it kills us (mm/oom_kill.c, __oom_reap_task_mm). */
struct robust {
	struct robust_list_head head;
	pid_t owner;
	struct robust *more; /* a keeper's */
	size_t n;
	struct robust_list *node[MAX_NODES]; /* in the order of the list */
};

static struct robust *robust_get(void)
{
	struct robust_list_head *head = NULL;
	size_t len = 0;

	if (syscall(SYS_get_robust_list, 0, &head, &len) || !head ||
	    head->futex_offset != NODE_TO_WORD)
		return NULL;
	return (struct robust *)head;
}

static struct robust *robust_new(void)
{
	struct robust *r =
		mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (r == MAP_FAILED)
		return NULL;
	r->head.list.next = &r->head.list;
	r->head.futex_offset = NODE_TO_WORD;
	r->owner = gettid();
	if (syscall(SYS_set_robust_list, &r->head, sizeof(r->head))) {
		munmap(r, sizeof(*r));
		return NULL;
	}
	return r;
}

struct keeper {
	struct robust *robust;
	sem_t is_ready;
};

static void *keep(void *arg)
{
	struct keeper *k = arg;

	k->robust = robust_new();
	sem_post(&k->is_ready); /* k is gone from here on */
	for (;;)
		pause();
	return NULL;
}

static struct robust *keeper_start(void)
{
	struct keeper k = {0};
	sigset_t all, old;
	pthread_t thread;
	int r;

	sem_init(&k.is_ready, 0, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are for the others */
	r = pthread_create(&thread, NULL, keep, &k);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return NULL;
	pthread_detach(thread);
	while (sem_wait(&k.is_ready))
		;
	return k.robust;
}

static struct robust *robust_of(pid_t owner)
{
	struct robust *r = robust_get();

	while (r && r->owner != owner)
		r = r->more;
	return r;
}

static struct robust *robust_with_room(void)
{
	struct robust *r = robust_get();

	if (!r)
		r = robust_new();
	while (r && r->n + 2 > MAX_NODES) {
		if (!r->more)
			r->more = keeper_start();
		r = r->more;
	}
	return r;
}

/* One store makes each change visible: the kernel may walk the list at any instruction. */
static void robust_add(struct robust *r, struct robust_list *node)
{
	node->next = r->n ? r->node[r->n - 1] : &r->head.list;
	atomic_signal_fence(memory_order_seq_cst);
	*(struct robust_list *volatile *)&r->head.list.next = node;
	r->node[r->n++] = node;
}

static bool robust_del(struct robust *r, const struct robust_list *node)
{
	size_t i = 0;

	while (i < r->n && r->node[i] != node)
		i++;
	if (i == r->n)
		return false;
	struct robust_list *before = i + 1 < r->n ? r->node[i + 1] : &r->head.list;

	*(struct robust_list *volatile *)&before->next = i ? r->node[i - 1] : &r->head.list;
	memmove(&r->node[i], &r->node[i + 1], (--r->n - i) * sizeof(r->node[0]));
	return true;
}

struct mailbox mailbox_share(const struct mailbox *m)
{
	++*m->users;
	return *m;
}

void mailbox_release(struct mailbox *m)
{
	if (m->local && !--*m->users) {
		munmap(m->local, m->size);
		free(m->users);
	}
	*m = (struct mailbox){0};
}

struct lane *mailbox_lane(const struct mailbox *m, size_t i)
{
	return (struct lane *)(m->local + i * LANE_SIZE);
}

uint64_t mailbox_lane_remote(const struct mailbox *m, size_t i)
{
	return m->remote + i * LANE_SIZE;
}

static void store(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}

static uint32_t load(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_SEQ_CST);
}

static void arm(struct lane *l, pid_t owner)
{
	l->owner = (uint32_t)owner;
	store(&l->park[0].word, l->owner | FUTEX_WAITERS);
	store(&l->park[1].word, l->owner | FUTEX_WAITERS);
}

void lane_init_fresh(struct lane *l)
{
	arm(l, gettid());
	store(&l->ready, LANE_IS_READY);
}

int lane_init(struct lane *l, struct err *err)
{
	struct robust *r = robust_with_room();

	if (!r)
		return err_set(err, -EAGAIN, "cannot register a robust list");
	memset(l, 0, offsetof(struct lane, leave_gadget));
	memset(&l->owner, 0, /* the lanes of peers are short */
	       offsetof(struct lane, call) - offsetof(struct lane, owner));
	arm(l, r->owner);
	robust_add(r, &l->node[0]);
	robust_add(r, &l->node[1]);
	store(&l->ready, LANE_IS_READY);
	return 0;
}

void lane_retire(struct lane *l)
{
	struct robust *r = robust_get();

	while (r && !robust_del(r, &l->node[0]))
		r = r->more;
	if (r)
		robust_del(r, &l->node[1]);
}

struct batch lane_batch(const struct mailbox *m, size_t i)
{
	struct lane *l = mailbox_lane(m, i);
	size_t at = ALIGN_UP(sizeof(*l), 64UL);

	return (struct batch){
		.call = l->call,
		.max = LANE_CALLS,
		.data = (uint8_t *)l + at,
		.remote_data = mailbox_lane_remote(m, i) + at,
		.size = LANE_SIZE - at,
	};
}

/* Should we die between the two, the kernel wakes the thread: for a pending operation on a word that is 0
 * already (kernel/futex/core.c, handle_futex_death). */
static void release(struct lane *l, unsigned i)
{
	struct robust *r = robust_of((pid_t)l->owner);

	if (r)
		*(struct robust_list *volatile *)&r->head.list_op_pending = &l->node[i];
	store(&l->park[i].word, 0);
	syscall(SYS_futex, &l->park[i].word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	if (r)
		*(struct robust_list *volatile *)&r->head.list_op_pending = NULL;
}

int lane_post(struct lane *l, const struct batch *b, struct err *err)
{
	uint32_t turn = load(&l->done);

	if (b->overflow)
		return err_set(err, -E2BIG, "a batch of system calls is too long");
	/* The next word must be armed before this one lets the thread go. */
	store(&l->park[(turn + 1) & 1].word, l->owner | FUTEX_WAITERS);
	l->ncalls = b->n;
	l->posted = turn + 1;
	release(l, turn & 1);
	return 0;
}

/* Nobody waits for the word yet. */
int lane_init_posted(struct lane *l, const struct batch *b, struct err *err)
{
	int r = b->overflow ? err_set(err, -E2BIG, "a batch of system calls is too long")
			    : lane_init(l, err);

	if (r)
		return r;
	l->ncalls = b->n;
	l->posted = 1;
	store(&l->park[0].word, 0);
	return 0;
}

bool lane_is_running(struct lane *l)
{
	uint32_t turn = load(&l->done);

	if (turn == l->posted || load(&l->park[turn & 1].word))
		return false;
	syscall(SYS_futex, &l->park[turn & 1].word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	return true;
}

/* Most batches are short, and to be woken takes longer than they do, above all in a virtual machine. */
static uint32_t spin(struct lane *l)
{
	uint64_t end = monotonic_ns() + SPIN_NS;
	uint32_t done = load(&l->done);

	while (done != l->posted && monotonic_ns() < end) {
		arch_relax();
		done = load(&l->done);
	}
	return done;
}

bool lane_is_done(struct lane *l, unsigned timeout_ms)
{
	struct timespec t = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000L};
	uint32_t done = timeout_ms ? spin(l) : load(&l->done);

	if (done == l->posted || !timeout_ms)
		return done == l->posted;
	syscall(SYS_futex, &l->done, FUTEX_WAIT, done, &t, NULL, 0);
	return load(&l->done) == l->posted;
}

/* How often to look whether the other side still lives. */
#define LIFE_CHECK_MS 20

static bool is_over(int pidfd, pid_t tid)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return (pidfd >= 0 && poll(&p, 1, 0) > 0) || (tid && stop_is_zombie(tid));
}

int lane_wait(struct lane *l, int pidfd, pid_t tid, struct err *err)
{
	while (!lane_is_done(l, LIFE_CHECK_MS)) {
		if (is_over(pidfd, tid) && !lane_is_done(l, 0))
			return err_sys(err, -ESRCH, "it ended while it ran system calls for cpx");
	}
	return 0;
}

int lane_run(struct lane *l, const struct batch *b, int pidfd, pid_t tid, struct err *err)
{
	int r = lane_post(l, b, err);

	return r ? r : lane_wait(l, pidfd, tid, err);
}
