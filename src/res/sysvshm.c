/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SysV shared memory segments (sysvipc(7)): key, id, size, mode, owner, whether removal is pending.
 *
 * Programs keep the id, so it must be the same again: /proc/sys/kernel/shm_next_id says which id
 * the next segment gets; writing there needs cap_checkpoint_restore. A segment that is still there
 * with the same key and size, and that nobody has attached, is taken over. A segment whose removal
 * was pending can be found by nobody any more, so that any id will do. A restore into a fresh PID
 * namespace brings a fresh IPC namespace, where all ids are free. Cannot keep: creator, times and
 * pids of IPC_STAT, SHM_LOCK.
 */
#include "res/objects.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/shm.h>

static const char next_id[] = "/proc/sys/kernel/shm_next_id";

/* ---- dump ---- */

static bool is_same_ipc_namespace(struct dump_ctx *c, pid_t pid)
{
	_cleanup_close_ int theirs = -1, ours = -1;
	uint64_t a = 0, b = 0;

	if (proc_open(c->proc_fd, pid, 0, &theirs, NULL) < 0 ||
	    proc_open(c->proc_fd, getpid(), 0, &ours, NULL) < 0)
		return false;
	return proc_ns_id(theirs, "ipc", &a, NULL) == 0 && proc_ns_id(ours, "ipc", &b, NULL) == 0 &&
	       a == b;
}

static int take(const struct shmid_ds *ds, int shmid, Cpx__Object *o, struct err *err)
{
	Cpx__SysvShm *s = o->sysv = msg_new(sizeof(*s), (void (*)(void *))cpx__sysv_shm__init);

	if (!s)
		return err_nomem(err);
	o->size = ds->shm_segsz;
	s->key = ds->shm_perm.__key;
	s->shmid = shmid;
	s->mode = ds->shm_perm.mode & 0777;
	s->uid = ds->shm_perm.uid;
	s->gid = ds->shm_perm.gid;
	s->cuid = ds->shm_perm.cuid;
	s->cgid = ds->shm_perm.cgid;
	s->removed = ds->shm_perm.mode & SHM_DEST;
	return 0;
}

int sysvshm_dump(struct dump_ctx *c, const struct tracee *t, int shmid, Cpx__Object *o,
		 struct err *err)
{
	struct shmid_ds ds;
	char object[64];

	snprintf(object, sizeof(object), "SysV segment %d", shmid);
	if (!is_same_ipc_namespace(c, t->pid))
		return refuse(c->refusals, t->pid, t->comm, object,
			      "cannot be checkpointed: it is in another IPC "
			      "namespace") < 0
			       ? err_nomem(err)
			       : 0;
	if (shmctl(shmid, IPC_STAT, &ds) < 0)
		return refuse(c->refusals, t->pid, t->comm, object,
			      "cannot be checkpointed: it cannot be examined: %s",
			      strerror(errno)) < 0
			       ? err_nomem(err)
			       : 0;
	return take(&ds, shmid, o, err);
}

/* nattch counts mappings (shm_open() and shm_close() in ipc/shm.c); what we hold is a descriptor of
 * the memory alone. */
int sysvshm_complete(struct dump_ctx *c, const struct object_entry *e)
{
	struct shmid_ds ds;
	char object[64];

	if (!e->object->sysv || shmctl(e->object->sysv->shmid, IPC_STAT, &ds) < 0 ||
	    ds.shm_nattch <= e->attached)
		return 0;
	snprintf(object, sizeof(object), "SysV segment %d", e->object->sysv->shmid);
	return refuse(c->refusals, e->t->pid, e->t->comm, object,
		      "cannot be checkpointed: processes outside of the "
		      "tree have attached it too (%llu of %llu attachments)",
		      (unsigned long long)(ds.shm_nattch - e->attached),
		      (unsigned long long)ds.shm_nattch);
}

/* ---- restore ---- */

static bool may_choose_id(void)
{
	_cleanup_close_ int fd = open(next_id, O_WRONLY | O_CLOEXEC);

	return fd >= 0;
}

/* Whether segment s->shmid is there and can be taken over; *ret_taken: it is there and cannot. */
static bool find_left_over(const Cpx__Object *o, bool *ret_taken)
{
	const Cpx__SysvShm *s = o->sysv;
	struct shmid_ds ds;

	*ret_taken = false;
	if (shmctl(s->shmid, IPC_STAT, &ds) < 0) {
		*ret_taken = errno == EACCES;
		return false;
	}
	if (ds.shm_perm.__key == s->key && ds.shm_segsz == o->size && ds.shm_nattch == 0)
		return true;
	*ret_taken = true;
	return false;
}

static int refuse_segment(struct restore_ctx *c, const Cpx__SysvShm *s, const char *why)
{
	char object[64];

	snprintf(object, sizeof(object), "SysV segment %d", s->shmid);
	return refuse(c->refusals, 0, NULL, object, "cannot be restored: %s", why);
}

int sysvshm_check(struct restore_ctx *c, const Cpx__Object *o, struct err *err)
{
	const Cpx__SysvShm *s = o->sysv;
	bool is_taken;

	if (!s)
		return err_set(err, -EBADMSG, "the image holds a SysV segment without attributes");
	if (s->removed || c->new_ipc_ns || find_left_over(o, &is_taken))
		return 0;
	if (is_taken)
		return refuse_segment(
			c, s, "a segment with this id exists, and it is another one or in use; "
			"remove it (ipcrm), or restore with --pid=new");
	if (s->key != IPC_PRIVATE && (shmget(s->key, 0, 0) >= 0 || errno != ENOENT))
		return refuse_segment(c, s, "another segment has its key; remove it (ipcrm), or restore with "
					   "--pid=new");
	if (!may_choose_id())
		return refuse_segment(
			c, s,
			"only a cpx with cap_checkpoint_restore may choose the id of a segment "
			"(setcap cap_checkpoint_restore+ep, or root)");
	return 0;
}

static int choose_id(int shmid, struct err *err)
{
	_cleanup_close_ int fd = open(next_id, O_WRONLY | O_CLOEXEC);
	char text[24];
	int n = snprintf(text, sizeof(text), "%d", shmid);

	return fd < 0 || write(fd, text, n) != n
		       ? err_sys(err, -errno, "cannot choose the id of a SysV segment")
		       : 0;
}

static int make_segment(const Cpx__Object *o, struct err *err)
{
	const Cpx__SysvShm *s = o->sysv;
	/* Nobody can look for a segment that is about to vanish, nor mind its key. */
	key_t key = s->removed ? IPC_PRIVATE : s->key;
	int id, r = s->removed && !may_choose_id() ? 0 : choose_id(s->shmid, err);

	if (r < 0)
		return r;
	id = shmget(key, o->size, IPC_CREAT | IPC_EXCL | 0600);
	if (id < 0)
		return err_sys(err, -errno, "cannot make SysV segment %d", s->shmid);
	if (id != s->shmid && !s->removed) {
		shmctl(id, IPC_RMID, NULL);
		return err_set(err, -EEXIST, "SysV segment %d: the id is taken", s->shmid);
	}
	return id;
}

int sysvshm_create(struct restore_ctx *c, const Cpx__Object *o, int *ret_shmid, void **ret_map,
		   struct err *err)
{
	bool is_taken;
	int id = !o->sysv->removed && find_left_over(o, &is_taken) ? o->sysv->shmid
								   : make_segment(o, err);
	void *map;

	if (id < 0)
		return id;
	*ret_shmid = id;
	map = shmat(id, NULL, 0);
	if (map == (void *)-1)
		return err_sys(err, -errno, "cannot attach SysV segment %d", id);
	*ret_map = map;
	return 0;
}

int sysvshm_finish(const Cpx__Object *o, int shmid, struct err *err)
{
	const Cpx__SysvShm *s = o->sysv;
	struct shmid_ds ds = {.shm_perm = {.uid = s->uid, .gid = s->gid, .mode = s->mode}};

	if (s->removed)
		return shmctl(shmid, IPC_RMID, NULL) < 0
			       ? err_sys(err, -errno, "cannot remove SysV segment %d", shmid)
			       : 0;
	return shmctl(shmid, IPC_SET, &ds) < 0
		       ? err_sys(err, -errno, "cannot set the mode of SysV segment %d", shmid)
		       : 0;
}
