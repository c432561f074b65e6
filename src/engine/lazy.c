/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * restore --lazy as the restore sees it: is it possible, what is left for later, and whose it is then.
 * Makes the userfaultfds (userfaultfd(2)), one for each address space, in the tasks themselves.
 *
 * They must also hold up system calls that touch missing memory (no UFFD_USER_MODE_ONLY) and follow
 * forks (UFFD_FEATURE_EVENT_FORK): both take CAP_SYS_PTRACE of the first user namespace.
 */
#include "engine/lazy.h"

#include "base/util.h"
#include "engine/rtree.h"
#include "mem/pages.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define FEATURES \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE | \
	 UFFD_FEATURE_EVENT_UNMAP)

/* ---- before anything is created ---------------------------------------------------------------- */

static int set_up(int uffd)
{
	struct uffdio_api api = {.api = UFFD_API, .features = FEATURES};

	return ioctl(uffd, UFFDIO_API, &api) < 0 ? -errno : 0;
}

static int probe(void)
{
	_cleanup_close_ int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? -errno : set_up(fd);
}

int lazy_check(bool is_stream, bool in_user_ns, struct refusals *refusals,
	       struct err *err)
{
	int why = in_user_ns || is_denied("userfaultfd") ? -EPERM : probe(), r = 0;

	if (is_stream)
		r = refuse(refusals, 0, NULL, "--lazy",
			   "needs an image in a file, since parts of it are read later in any order");
	if (r == 0 && why == -EPERM)
		r = refuse(refusals, 0, NULL, "--lazy",
			   "needs root (CAP_SYS_PTRACE outside of user namespaces), so that system "
			   "calls wait for missing memory too and forks can be followed; without "
			   "--lazy it takes longer, but no right");
	else if (r == 0 && why < 0)
		r = refuse(refusals, 0, NULL, "--lazy", "needs userfaultfd(2), which fails here: %s",
			   strerror(-why));
	return r < 0 ? err_nomem(err) : 0;
}

/* ---- the server ---------------------------------------------------------------------------------- */

/* In between, so that it is not our child: nobody would wait for it. */
static void start_server(struct lazy_server *s, const struct lazy_choice *c, bool to_stderr)
{
	pid_t pid = fork();

	if (pid == 0)
		lazy_server_run(s, c, to_stderr);
	_exit(pid < 0);
}

static int fork_server(struct lazy_server *s, const struct lazy_choice *c, bool to_stderr,
		       struct err *err)
{
	int status = 1;
	pid_t pid = fork();

	if (pid == 0)
		start_server(s, c, to_stderr);
	if (pid < 0)
		return err_sys(err, -errno, "cannot fork");
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys(err, -errno, "cannot wait for a process");
	return status ? err_set(err, -EAGAIN, "the server of memory could not be started") : 0;
}

int lazy_start(struct lazy *l, const struct image *im, const char *path, bool to_stderr,
	       struct err *err)
{
	_cleanup_free_ char *full = realpath(path, NULL);
	struct lazy_server s = {.image = im, .path = full ? full : path, .epfd = -1,
				.own_pidfd = -1, .guard_pidfd = -1};
	int pair[2], r = lazy_choose(im, &l->choice, err);

	if (r < 0 || !l->choice.bytes) /* then nothing is left for later */
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_sys(err, -errno, "cannot make a socket pair");
	l->channel = pair[0];
	s.channel = pair[1];
	r = fork_server(&s, &l->choice, to_stderr, err);
	close(pair[1]);
	return r;
}

void lazy_release(struct lazy *l)
{
	if (l->channel >= 0)
		close(TAKE_FD(l->channel));
	lazy_choice_release(&l->choice);
}

/* ---- a stage of the restore ------------------------------------------------------------------------ */

/* A userfaultfd belongs to the mm that makes it. The task keeps no descriptor. */
static int make_uffd(struct rtree *rt, struct rtask *t, int *ret, struct err *err)
{
	struct batch b = rtask_batch(rt, t);
	int fd, r;

	BATCH_CALL(&b, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	r = rtask_run(rt, t, &b, err);
	if (r < 0)
		return r;
	fd = (int)batch_ret(&b, 0);
	if (fd < 0)
		return err_sys(err, fd, "cannot make a userfaultfd");
	*ret = (int)syscall(SYS_pidfd_getfd, t->pidfd, fd, 0);
	if (*ret < 0)
		return err_sys(err, -errno, "cannot take over the userfaultfd");
	b = rtask_batch(rt, t);
	BATCH_CALL(&b, SYS_close, fd);
	return rtask_run(rt, t, &b, err);
}

static int register_vma(int uffd, const Cpx__Vma *v, struct err *err)
{
	struct uffdio_register reg = {.range = {v->start, v->end - v->start},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};

	if (ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
		return err_sys(err, -errno, "cannot register %#llx-%#llx with userfaultfd",
			       (unsigned long long)v->start, (unsigned long long)v->end);
	return 0;
}

/* The mappings in which something is missing, as a whole. */
static int register_all(const struct rtask *t, int uffd, const struct lazy_spans *l, struct err *err)
{
	const Cpx__Vma *last = NULL;
	int r = 0;

	for (size_t i = 0; i < l->n && r == 0; i++) {
		const Cpx__Vma *v = vma_at(t->mm, l->span[i].addr);

		if (v && v != last)
			r = register_vma(uffd, v, err);
		last = v;
	}
	return r;
}

static int hand_over_mm(struct rtree *rt, struct rtask *t, const struct lazy_spans *l, struct err *err)
{
	const struct lazy_note n = {.what = NOTE_SPACE, .mm = t->mm->id};
	_cleanup_close_ int uffd = -1;
	int r = make_uffd(rt, t, &uffd, err), why;

	if (r < 0)
		return r;
	why = set_up(uffd);
	if (why < 0)
		return err_sys(err, why, "cannot set up userfaultfd");
	r = register_all(t, uffd, l, err);
	return r < 0 ? r : lazy_send(rt->lazy->channel, &n, uffd, err);
}

/* Waits for what is missing, as /proc/PID/mem does not. */
static bool touch(const struct rtask *t, uint64_t addr, void *buf, size_t size)
{
	struct iovec local = {buf, size}, remote = {(void *)addr, size};

	return process_vm_readv(t->pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* The kernel marks the robust locks of a thread that ends, but does not wait for memory then
 * (fs/userfaultfd.c, handle_userfault: PF_EXITING). So all that it holds are there before it runs. */
static void touch_locks(const struct rtask *t, uint64_t list)
{
	struct robust_list_head head;
	uint64_t at = list, next;
	uint32_t word;

	if (!list || !touch(t, list, &head, sizeof(head)))
		return;
	if (head.list_op_pending)
		touch(t, (uint64_t)head.list_op_pending + (uint64_t)head.futex_offset, &word, sizeof(word));
	for (int i = 0; i < ROBUST_LIST_LIMIT && touch(t, at & ~1ULL, &next, sizeof(next)); i++) {
		at = next;
		if ((at & ~1ULL) == list)
			break;
		touch(t, (at & ~1ULL) + (uint64_t)head.futex_offset, &word, sizeof(word));
	}
}

static int hand_over_task(struct rtree *rt, struct rtask *t, struct err *err)
{
	static const struct lazy_note n = {.what = NOTE_TASK};
	struct lazy_spans l = {0};
	int r = lazy_send(rt->lazy->channel, &n, t->pidfd, err);

	if (r == 0 && t->mm_owner == t)
		r = lazy_collect(rt->image, &rt->lazy->choice, t->mm->id, &l, err);
	if (r == 0 && l.n)
		r = hand_over_mm(rt, t, &l, err);
	free(l.span);
	return r < 0 ? rtask_context(t, err) : 0;
}

static bool has_memory(const struct rtask *t)
{
	return t->msg && t->is_alive && t->msg->state != CPX__TASK__STATE__ZOMBIE;
}

int lazy_hand_over(struct rtree *rt, struct err *err)
{
	int r = 0;

	if (!rt->lazy || rt->lazy->channel < 0)
		return 0;
	for (size_t i = 0; i < rt->n && r == 0; i++)
		if (has_memory(rt->task[i]))
			r = hand_over_task(rt, rt->task[i], err);
	for (size_t i = 0; i < rt->n && r == 0; i++)
		for (size_t k = 0; has_memory(rt->task[i]) && k < rt->task[i]->msg->n_thread; k++)
			if (rt->task[i]->msg->thread[k]->memory)
				touch_locks(rt->task[i],
					    rt->task[i]->msg->thread[k]->memory->robust_list);
	return r;
}

int lazy_commit(struct lazy *l, struct err *err)
{
	struct lazy_note n = {.what = NOTE_COMMIT};
	int fd = -1, r;

	if (l->channel < 0)
		return 0;
	r = lazy_send(l->channel, &n, -1, err);
	if (r == 0)
		r = lazy_receive(l->channel, &n, &fd, err);
	if (r == 0 && n.what == NOTE_FAILED) {
		*err = n.err;
		r = err->code;
	}
	return r;
}
