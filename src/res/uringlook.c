/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * With which flags an io_uring was made, and what of its state there is that cannot be carried.
 * fdinfo shows neither, so the kernel is asked by requests that cannot succeed: it looks at the ring
 * before it looks at a bad address (io_uring/register.c), and nothing changes.
 *
 *   IORING_REGISTER_PROBE         EEXIST: SINGLE_ISSUER, and we are not the one
 *   IORING_REGISTER_RESIZE_RINGS  EFAULT: DEFER_TASKRUN (Linux 6.13), else EINVAL
 *   IORING_REGISTER_NAPI          EINVAL: IOPOLL (Linux 6.9), else EFAULT
 *   IORING_REGISTER_EVENTFD       EBUSY: there is one
 *   IORING_REGISTER_PBUF_STATUS   ENOENT: no provided buffers of this group (Linux 6.8)
 *
 * The sizes of entries follow from the size of the memory, compared with that of rings of our own.
 * Where several layouts have the same size, the ring is tilted for a moment: with the heads one lower
 * than they are, fdinfo shows an entry of each kind. The task itself does that in one batch, which
 * runs to its end even if we die.
 *
 * Cannot tell: SUBMIT_ALL, COOP_TASKRUN, TASKRUN_FLAG, CQE_MIXED, SQE_MIXED, the clock of timeouts.
 */
#include "res/uring.h"

#include "base/kabi.h"
#include "res/attr.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#define BAD_ADDRESS (-CPX_PAGE_SIZE) /* the kernel's own */
#define GROUPS	    65536	     /* of provided buffers */
#define FEW_GROUPS  256

/* ---- memory ---- */

/* Pages behind a mapping that is longer than they are: the rest cannot be read. */
static size_t readable(const uint8_t *map, size_t len)
{
	uint8_t byte;
	size_t n = 0;

	for (; n < len; n += CPX_PAGE_SIZE) {
		struct iovec local = {&byte, 1}, remote = {(void *)(map + n), 1};

		if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1)
			break;
	}
	return n;
}

static int view_map(int fd, size_t len, uint64_t offset, uint8_t **ret, size_t *ret_len,
		    struct err *err)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);

	if (p == MAP_FAILED)
		return err_sys(err, -errno, "cannot map its rings");
	*ret = p;
	*ret_len = readable(p, len);
	return 0;
}

int uring_view_open(int fd, unsigned sq_entries, unsigned cq_entries, struct uring_view *ret,
		    struct err *err)
{
	size_t sqe = 2 * sizeof(struct io_uring_sqe), cqe = 2 * sizeof(struct io_uring_cqe);
	int r;

	*ret = (struct uring_view){
		.rings_map = ALIGN_UP(cq_entries * cqe + sq_entries * 4 + CPX_PAGE_SIZE,
				      CPX_PAGE_SIZE),
		.sqes_map = ALIGN_UP(sq_entries * sqe, CPX_PAGE_SIZE),
	};
	r = view_map(fd, ret->rings_map, IORING_OFF_SQ_RING, &ret->rings, &ret->rings_len, err);
	if (r == 0)
		r = view_map(fd, ret->sqes_map, IORING_OFF_SQES, &ret->sqes, &ret->sqes_len, err);
	if (r < 0)
		uring_view_close(ret);
	return r;
}

void uring_view_close(struct uring_view *v)
{
	if (v->rings)
		munmap(v->rings, v->rings_map);
	if (v->sqes)
		munmap(v->sqes, v->sqes_map);
	*v = (struct uring_view){0};
}

/* ---- questions ---- */

static int64_t ask_ourselves(int fd, unsigned op, uint64_t arg, unsigned n)
{
	long r = syscall(SYS_io_uring_register, fd, op, arg, n);

	return r < 0 ? -errno : r;
}

static int ask_thread(struct uring_look *l, size_t thread, unsigned op, uint64_t arg, unsigned n,
		      int64_t *ret, struct err *err)
{
	struct batch b = tracee_batch(l->p->t);
	int r;

	BATCH_CALL(&b, SYS_io_uring_register, l->p->fd, op, arg, n);
	r = tracee_thread_run(l->p->t, thread, &b, err);
	*ret = batch_ret(&b, 0);
	return r;
}

static int ask(struct uring_look *l, unsigned op, int64_t *ret, struct err *err)
{
	if (l->thread >= 0)
		return ask_thread(l, l->thread, op, BAD_ADDRESS, 1, ret, err);
	*ret = ask_ourselves(l->p->dup, op, BAD_ADDRESS, 1);
	return 0;
}

int uring_scratch(unsigned sq_entries, unsigned cq_entries, uint32_t flags,
		  struct io_uring_params *p)
{
	*p = (struct io_uring_params){.flags = flags | IORING_SETUP_CQSIZE,
				      .cq_entries = cq_entries};
	return syscall(SYS_io_uring_setup, sq_entries, p);
}

/* Does this kernel give the telling answer? */
static bool is_telling(uint32_t flags, unsigned op)
{
	struct io_uring_params p;
	_cleanup_close_ int fd = uring_scratch(1, 2, flags, &p);

	return fd >= 0 && ask_ourselves(fd, op, BAD_ADDRESS, 1) == -EFAULT;
}

static int refuse_ring(struct uring_look *l, const char *why, struct err *err)
{
	l->is_refused = true;
	return files_refuse(l->c, l->p, "io_uring", "cannot be checkpointed: %s", why) < 0
		       ? err_nomem(err)
		       : 0;
}

/* ---- whose it is ---- */

static int find_owner(struct uring_look *l, struct err *err)
{
	const struct tracee *t = l->p->t;

	for (size_t i = 0; i < t->nthreads; i++) {
		int64_t ret = -EEXIST;
		int r = t->thread[i].is_exited ? 0
					       : ask_thread(l, i, IORING_REGISTER_PROBE,
							    BAD_ADDRESS, 1, &ret, err);

		if (r < 0)
			return r;
		if (ret == -EEXIST)
			continue;
		l->thread = (long)i;
		l->b->owner = t->thread[i].tid;
		return 0;
	}
	return refuse_ring(l,
			   "it belongs to one thread (IORING_SETUP_SINGLE_ISSUER), which has ended "
			   "or is of another task",
			   err);
}

static int look_for_owner(struct uring_look *l, struct err *err)
{
	int64_t ret = ask_ourselves(l->p->dup, IORING_REGISTER_PROBE, BAD_ADDRESS, 1);

	l->thread = -1;
	l->b->owner = attr_speaker(l->p->t)->tid;
	if (ret != -EEXIST)
		return 0;
	l->b->flags |= IORING_SETUP_SINGLE_ISSUER;
	return l->c->check_only ? 0 : find_owner(l, err);
}

/* ---- flags ---- */

static int look_for_defer(struct uring_look *l, struct err *err)
{
	int64_t ret;
	int r;

	if (!(l->b->flags & IORING_SETUP_SINGLE_ISSUER))
		return 0;
	if (!is_telling(IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
			KABI_REGISTER_RESIZE_RINGS))
		return refuse_ring(l,
				   "this kernel does not show whether it defers completions "
				   "(IORING_SETUP_DEFER_TASKRUN); Linux 6.13 does",
				   err);
	r = ask(l, KABI_REGISTER_RESIZE_RINGS, &ret, err);
	if (r == 0 && ret == -EFAULT)
		l->b->flags |= IORING_SETUP_DEFER_TASKRUN;
	return r;
}

static int look_for_polling(struct uring_look *l, struct err *err)
{
	int64_t ret;
	int r;

	if (!is_telling(0, KABI_REGISTER_NAPI))
		return refuse_ring(l,
				   "this kernel does not show whether it polls devices "
				   "(IORING_SETUP_IOPOLL); Linux 6.9 does",
				   err);
	r = ask(l, KABI_REGISTER_NAPI, &ret, err);
	if (r == 0 && ret == -EINVAL)
		return refuse_ring(l, "it polls devices (IORING_SETUP_IOPOLL)", err);
	if (r == 0 && ret == -EACCES)
		return refuse_ring(l, "it has restrictions (IORING_REGISTER_RESTRICTIONS)", err);
	return r;
}

static int look_for_eventfd(struct uring_look *l, struct err *err)
{
	int64_t ret;
	int r = ask(l, IORING_REGISTER_EVENTFD, &ret, err);

	if (r == 0 && ret == -EACCES)
		return refuse_ring(l, "it has restrictions (IORING_REGISTER_RESTRICTIONS)", err);
	l->has_eventfd = r == 0 && ret == -EBUSY;
	return r;
}

/* ---- provided buffers ---- */

static bool is_none(int64_t ret)
{
	return ret == -ENOENT;
}

struct buffer_status {
	uint32_t group, head, resv[8];
};

static int look_for_group_ourselves(struct uring_look *l, struct err *err)
{
	for (uint32_t i = 0; i < GROUPS; i++) {
		struct buffer_status s = {.group = i};

		if (!is_none(ask_ourselves(l->p->dup, KABI_REGISTER_PBUF_STATUS, (uintptr_t)&s, 1)))
			return 1;
	}
	return 0;
}

/* 1: found. As many of [*first, end) as fit in a batch. */
static int look_for_groups(struct uring_look *l, uint32_t *first, uint32_t end, struct err *err)
{
	struct batch b = tracee_batch(l->p->t);
	int r;

	for (; *first < end && !batch_is_tight(&b, 1, 64); ++*first) {
		struct buffer_status s = {.group = *first};

		BATCH_CALL(&b, SYS_io_uring_register, l->p->fd, KABI_REGISTER_PBUF_STATUS,
			   batch_in(&b, &s, sizeof(s)), 1);
	}
	r = tracee_thread_run(l->p->t, l->thread, &b, err);
	for (unsigned i = 0; i < b.n && r == 0; i++)
		r = !is_none(batch_ret(&b, i));
	return r;
}

/* Threads that are stepped take their time: there only the first groups are looked at. */
static int look_for_group_there(struct uring_look *l, struct err *err)
{
	const struct tracee *t = l->p->t;
	bool is_host = t->mm_owner == t && &t->thread[l->thread] == attr_speaker(t);
	uint32_t next = 0, end = is_host ? GROUPS : FEW_GROUPS;
	int r = 0;

	while (next < end && r == 0)
		r = look_for_groups(l, &next, end, err);
	return r;
}

static int look_for_provided(struct uring_look *l, struct err *err)
{
	int r = l->thread < 0 ? look_for_group_ourselves(l, err) : look_for_group_there(l, err);

	if (r <= 0)
		return r;
	return refuse_ring(l,
			   "it has provided buffers (IORING_REGISTER_PBUF_RING, "
			   "IORING_OP_PROVIDE_BUFFERS), which the kernel does not show",
			   err);
}

/* ---- layout ---- */

static const uint32_t layouts[] = {
	0,
	IORING_SETUP_NO_SQARRAY,
	IORING_SETUP_SQE128,
	IORING_SETUP_SQE128 | IORING_SETUP_NO_SQARRAY,
	IORING_SETUP_CQE32,
	IORING_SETUP_CQE32 | IORING_SETUP_NO_SQARRAY,
	IORING_SETUP_CQE32 | IORING_SETUP_SQE128,
	IORING_SETUP_CQE32 | IORING_SETUP_SQE128 | IORING_SETUP_NO_SQARRAY,
};

/* Which layouts give memory of these sizes; a bit each. */
static int matching_layouts(const struct uring_look *l, struct io_uring_params p[8],
			    unsigned *ret, struct err *err)
{
	int r = 0;

	*ret = 0;
	for (size_t i = 0; i < ARRAY_SIZE(layouts) && r == 0; i++) {
		_cleanup_close_ int fd = uring_scratch(l->b->sq_entries, l->b->cq_entries,
						      layouts[i], &p[i]);
		struct uring_view v = {0};

		if (fd < 0) /* flags that this kernel does not know */
			continue;
		r = uring_view_open(fd, l->b->sq_entries, l->b->cq_entries, &v, err);
		if (r == 0 && v.rings_len == l->view.rings_len && v.sqes_len == l->view.sqes_len)
			*ret |= 1U << i;
		uring_view_close(&v);
	}
	return r;
}

static unsigned layouts_with(uint32_t flag, bool is_set)
{
	unsigned ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(layouts); i++)
		if (!!(layouts[i] & flag) == is_set)
			ret |= 1U << i;
	return ret;
}

static bool is_open(unsigned matching, uint32_t flag)
{
	return matching & layouts_with(flag, true) && matching & layouts_with(flag, false);
}

static bool has_bytes(const uint8_t *p, size_t from, size_t to)
{
	for (; from < to; from++)
		if (p[from])
			return true;
	return false;
}

/* ---- the tilt ---- */

struct tilt {
	uint32_t by;	/* of the submission head */
	bool has_sqe, has_long_sqe, has_long_cqe;
	unsigned index; /* of the entry shown, if has_sqe */
};

static void add_to_word(struct batch *b, uint64_t addr, int by)
{
	uint64_t any = batch_out(b, 4);

	BATCH_CALL(b, SYS_futex, any, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 0, 0, addr,
		   (uint32_t)FUTEX_OP(FUTEX_OP_ADD, by, FUTEX_OP_CMP_EQ, 0));
}

/* Lower, wait for us, and raise again. */
static int post_tilt(struct uring_look *l, uint64_t at, const struct tilt *t, uint64_t *ret_word,
		     struct err *err)
{
	struct tracee *host = l->p->t->mm_owner;
	struct batch b = tracee_batch(host);
	struct timespec limit = {.tv_sec = 1};
	uint64_t sq = at + l->params.sq_off.head, cq = at + l->params.cq_off.head;

	*ret_word = batch_out(&b, 4);
	add_to_word(&b, sq, -(int)t->by);
	add_to_word(&b, cq, -1);
	BATCH_CALL(&b, SYS_futex, *ret_word, FUTEX_WAIT, 0, batch_in(&b, &limit, sizeof(limit)));
	add_to_word(&b, cq, 1);
	add_to_word(&b, sq, (int)t->by);
	return tracee_post(host, &b, err);
}

static bool await_word(const uint32_t *word, uint32_t value)
{
	const struct timespec step = {.tv_nsec = 50000};

	for (int i = 0; i < 10000; i++) {
		if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
			return true;
		nanosleep(&step, NULL);
	}
	return false;
}

static void take_tilted(const char *info, struct tilt *t)
{
	const char *sqes = strstr(info, "\nSQEs:\t"), *cqes = strstr(info, "\nCQEs:\t");
	const char *first = sqes ? strchr(sqes + 1, '\n') : NULL;
	const char *end = cqes ? strstr(cqes, "\nSqThread:") : NULL;
	const char *extra = cqes ? strstr(cqes, ", extra1:") : NULL;
	const char *long_sqe = first ? strstr(first, ", e0:") : NULL;

	t->has_sqe = first && first < cqes && sscanf(first, " %u: opcode:", &t->index) == 1;
	t->has_long_sqe = long_sqe && long_sqe < cqes;
	t->has_long_cqe = extra && (!end || extra < end);
}

static int read_tilted(struct uring_look *l, uint32_t cq_head, struct tilt *t, struct err *err)
{
	struct proc_fdinfo info = {0};
	int r;

	if (!await_word(uring_word(&l->view, l->params.cq_off.head), cq_head - 1))
		return err_set(err, -ETIMEDOUT, "its rings cannot be looked at");
	r = anon_info(l->c, l->p, &info, err);
	if (r == 0)
		take_tilted(info.text, t);
	proc_fdinfo_release(&info);
	return r;
}

static int tilt(struct uring_look *l, const struct uring_map *m, struct tilt *t, struct err *err)
{
	struct tracee *host = l->p->t->mm_owner;
	uint32_t cq_head = *uring_word(&l->view, l->params.cq_off.head);
	uint32_t sq_head = *uring_word(&l->view, l->params.sq_off.head);
	uint64_t word;
	struct batch b = tracee_batch(host);
	int r, r2;

	/* Not entry 0, which is what an array of zeroes leads to. */
	t->by = (sq_head - 1) & (l->b->sq_entries - 1) ? 1 : 2;
	r = post_tilt(l, m->vma->start, t, &word, err);
	if (r < 0)
		return r;
	r = read_tilted(l, cq_head, t, err);
	__atomic_store_n((uint32_t *)batch_local(&b, word), 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, batch_local(&b, word), FUTEX_WAKE, 1, NULL, NULL, 0);
	r2 = tracee_wait(host, r < 0 ? NULL : err);
	return r < 0 ? r : r2;
}

/* An array of indices that has any is one. One of zeroes only is shown by a tilted ring. */
static bool has_array(const struct uring_look *l, const struct tilt *t)
{
	size_t at = l->params.sq_off.array;

	if (has_bytes(l->view.rings, at, MIN(at + l->b->sq_entries * 4UL, l->view.rings_len)))
		return true;
	return t->has_sqe && (t->index == 0 || l->b->sq_entries == 1);
}

/* Without an array some kernels show no entries: then what is behind the short ones tells. */
static bool has_long_sqes(const struct uring_look *l, const struct tilt *t)
{
	if (t->has_sqe)
		return t->has_long_sqe;
	return has_bytes(l->view.sqes, l->b->sq_entries * sizeof(struct io_uring_sqe),
			 l->view.sqes_len);
}

static unsigned first_of(unsigned bits)
{
	return (unsigned)__builtin_ctz(bits);
}

static int decide(struct uring_look *l, unsigned m, const struct io_uring_params p[8],
		  struct err *err)
{
	const struct uring_map *map =
		uring_find_map(l->c, l->p->t->mm_owner, l->p->st.st_dev, l->p->st.st_ino);
	struct tilt t = {0};
	int r;

	l->params = p[first_of(m)];
	if (!(m & (m - 1)) || l->c->check_only)
		return 0;
	if (!map)
		return refuse_ring(l, "the first task that has it has not mapped its rings", err);
	r = tilt(l, map, &t, err);
	if (r < 0)
		return r;
	if (is_open(m, IORING_SETUP_CQE32))
		m &= layouts_with(IORING_SETUP_CQE32, t.has_long_cqe);
	l->params = p[first_of(m)]; /* with an array, if that is open */
	if (is_open(m, IORING_SETUP_NO_SQARRAY))
		m &= layouts_with(IORING_SETUP_NO_SQARRAY, !has_array(l, &t));
	if (is_open(m, IORING_SETUP_SQE128))
		m &= layouts_with(IORING_SETUP_SQE128, has_long_sqes(l, &t));
	if (!m)
		return refuse_ring(l, "the layout of its rings cannot be told", err);
	l->params = p[first_of(m)];
	l->b->flags |= layouts[first_of(m)];
	return 0;
}

static int look_at_layout(struct uring_look *l, struct err *err)
{
	struct io_uring_params p[ARRAY_SIZE(layouts)];
	unsigned matching;
	int r = matching_layouts(l, p, &matching, err);

	if (r < 0)
		return r;
	if (!matching)
		return refuse_ring(l, "the layout of its rings is unknown", err);
	if (!(matching & (matching - 1)))
		l->b->flags |= layouts[first_of(matching)];
	return decide(l, matching, p, err);
}

int uring_look(struct uring_look *l, struct err *err)
{
	static int (*const steps[])(struct uring_look *l, struct err *err) = {
		look_for_owner,	  look_for_defer,    look_for_polling,
		look_for_eventfd, look_for_provided, look_at_layout,
	};
	size_t n = ARRAY_SIZE(steps);
	int r = 0;

	for (size_t i = 0; i < n && r == 0 && !l->is_refused; i++) {
		r = steps[i](l, err);
		if (i == 0 && l->c->check_only && l->b->flags & IORING_SETUP_SINGLE_ISSUER)
			i = n - 2; /* only its owner may ask */
	}
	return r;
}
