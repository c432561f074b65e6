/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SysV semaphore sets (semctl(2)): values, last PIDs, and whether semop(2) was ever called, which
 * programs take as a sign that a set is initialised. Reads SEM_STAT_ANY, GETALL, GETPID. What
 * SEM_UNDO has left to do belongs to the tasks (semundo.c); whose a set is: sysvipc.c.
 */
#include "res/sysvipc.h"

#include <sys/sem.h>
#include <sys/syscall.h>

#ifndef SEM_STAT_ANY
#define SEM_STAT_ANY 20
#endif
#define VALUE_MAX 32767 /* SEMVMX of linux/sem.h */

static const char name[] = "SysV semaphore set";

union arg {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
	struct seminfo *info;
};

/* ---- dump ---- */

static int by_id(const void *a, const void *b)
{
	const Cpx__SemSet *const *x = a, *const *y = b;

	return ((*x)->perm->id > (*y)->perm->id) - ((*x)->perm->id < (*y)->perm->id);
}

/* -EACCES: who used it is not ours to know. */
static int read_pids(int id, size_t n, uint32_t *ret)
{
	for (size_t i = 0; i < n; i++) {
		int pid = semctl(id, i, GETPID);

		if (pid < 0)
			return -errno;
		ret[i] = pid;
	}
	return 0;
}

static int read_values(int id, size_t n, uint32_t *ret)
{
	_cleanup_free_ unsigned short *value = calloc(n + 1, sizeof(*value));

	if (!value)
		return -ENOMEM;
	if (semctl(id, 0, GETALL, (union arg){.array = value}) < 0)
		return -errno;
	for (size_t i = 0; i < n; i++)
		ret[i] = value[i];
	return 0;
}

static int add_set(const struct ipc_look *l, int id, const struct semid_ds *ds,
		   enum ipc_owner owner, Cpx__SemSet *s, struct err *err)
{
	int r;

	s->value = calloc(ds->sem_nsems, sizeof(*s->value));
	if (!s->value)
		return err_nomem(err);
	s->n_value = ds->sem_nsems;
	r = read_values(id, ds->sem_nsems, s->value);
	if (r < 0)
		return err_sys(err, r, "cannot read %s %d", name, id);
	s->operated = ds->sem_otime != 0;
	r = ipc_perm_dump(&ds->sem_perm, id, owner, &s->perm, err);
	if (r == 0 && msg_append(&l->info->sem_set, &l->info->n_sem_set, s) < 0)
		r = err_nomem(err);
	return r;
}

/* Takes pids over. */
static int dump_set(const struct ipc_look *l, int id, const struct semid_ds *ds,
		    enum ipc_owner owner, uint32_t *pids, struct err *err)
{
	Cpx__SemSet *s = MSG_NEW(Cpx__SemSet, cpx__sem_set__init);
	int r;

	if (!s) {
		free(pids);
		return err_nomem(err);
	}
	s->last_pid = pids;
	s->n_last_pid = ds->sem_nsems;
	r = add_set(l, id, ds, owner, s, err);
	if (r < 0)
		cpx__sem_set__free_unpacked(s, NULL);
	return r;
}

/* The tree's own threads have left the queue at the freeze. */
static bool has_waiters(int id, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (semctl(id, i, GETNCNT) > 0 || semctl(id, i, GETZCNT) > 0)
			return true;
	return false;
}

/* Why a set that is the tree's cannot be carried; NULL: it can. */
static const char *find_obstacle(const struct ipc_look *l, int id, const struct semid_ds *ds,
				 bool is_unreadable)
{
	if (is_unreadable)
		return "it may not be read";
	if (!l->is_own_namespace && has_waiters(id, ds->sem_nsems))
		return "a process outside of the tree waits in it; dump a common parent of both";
	return NULL;
}

static int look_at(const struct ipc_look *l, int id, const struct semid_ds *ds, struct err *err)
{
	static const long calls[] = {SYS_semop, SYS_semtimedop};
	_cleanup_free_ uint32_t *pids = calloc(ds->sem_nsems + 1, sizeof(*pids));
	struct ipc_seen seen = {.kind = name,
				.id = id,
				.perm = &ds->sem_perm,
				.changed = ds->sem_ctime,
				.used = ds->sem_otime,
				.last_pid = pids,
				.calls = calls,
				.ncalls = ARRAY_SIZE(calls)};
	enum ipc_owner owner;
	const char *obstacle;
	int r = pids ? read_pids(id, ds->sem_nsems, pids) : -ENOMEM;

	if (r == -ENOMEM)
		return err_nomem(err);
	if (r < 0 && r != -EACCES)
		return 0; /* it is just gone */
	seen.npids = r < 0 ? 0 : ds->sem_nsems;
	obstacle = find_obstacle(l, id, ds, r < 0);
	r = ipc_judge(l, &seen, &owner, err);
	if (r < 0 || owner == IPC_FOREIGN || (obstacle && owner == IPC_UNCLAIMED))
		return r;
	if (obstacle)
		return ipc_refuse(l->c, name, id, "%s", obstacle) < 0 ? err_nomem(err) : 0;
	return dump_set(l, id, ds, owner, TAKE_PTR(pids), err);
}

int sysvsem_dump(const struct ipc_look *l, struct err *err)
{
	struct seminfo info;
	int last = semctl(0, 0, SEM_INFO, (union arg){.info = &info}), r = 0;

	for (int i = 0; i <= last && r == 0; i++) {
		struct semid_ds ds;
		int id = semctl(i, 0, SEM_STAT_ANY, (union arg){.buf = &ds});

		if (id >= 0)
			r = look_at(l, id, &ds, err);
	}
	if (l->info->n_sem_set)
		qsort(l->info->sem_set, l->info->n_sem_set, sizeof(*l->info->sem_set), by_id);
	return r;
}

/* ---- restore ---- */

static int set_get(const void *record, key_t key, int flags)
{
	const Cpx__SemSet *s = record;

	return semget(key, flags & IPC_CREAT ? s->n_value : 0, flags);
}

static int set_remove(int id)
{
	return semctl(id, 0, IPC_RMID);
}

static pid_t find_user(int id, const struct semid_ds *ds)
{
	for (size_t i = 0; i < ds->sem_nsems; i++) {
		pid_t pid = semctl(id, i, GETPID);

		if (pid > 0 && ipc_is_alive(-1, pid, MAX(ds->sem_otime, ds->sem_ctime)))
			return pid;
	}
	return 0;
}

static int set_examine(int id, struct ipc_perm *ret_perm, pid_t *ret_user)
{
	struct semid_ds ds;

	if (semctl(id, 0, IPC_STAT, (union arg){.buf = &ds}) < 0)
		return -errno;
	*ret_perm = ds.sem_perm;
	*ret_user = find_user(id, &ds);
	return 0;
}

static bool set_is_same(const void *record, int id)
{
	const Cpx__SemSet *s = record;
	struct semid_ds ds;

	return semctl(id, 0, IPC_STAT, (union arg){.buf = &ds}) == 0 && ds.sem_nsems == s->n_value;
}

/* What one process did last. */
struct deed {
	const Cpx__SemSet *set;
	uint32_t pid;
	bool is_operation; /* by semop(2), too */
};

static int operate(const Cpx__SemSet *s, size_t n)
{
	short first = s->value[n] == VALUE_MAX ? -1 : 1;
	struct sembuf op[2] = {{n, first, IPC_NOWAIT}, {n, -first, IPC_NOWAIT}};

	return semop(s->perm->id, op, 2) < 0 ? -errno : 0;
}

/* A value that is 0 and was never touched is so in a new set. */
static int do_deed(const void *arg)
{
	const struct deed *d = arg;
	const Cpx__SemSet *s = d->set;
	int id = s->perm->id;

	for (size_t n = 0; n < s->n_value; n++) {
		if (s->last_pid[n] != d->pid)
			continue;
		if (!d->pid && (int)s->value[n] == semctl(id, n, GETVAL))
			continue;
		if (semctl(id, n, SETVAL, (union arg){.val = s->value[n]}) < 0 ||
		    (d->is_operation && operate(s, n) < 0))
			return -errno;
	}
	return 0;
}

static bool is_first_of(const Cpx__SemSet *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s->last_pid[i] == s->last_pid[n])
			return false;
	return true;
}

static int fill_values(const Cpx__SemSet *s, struct err *err)
{
	bool is_operation = s->operated;

	for (size_t n = 0; n < s->n_value; n++) {
		struct deed d = {s, s->last_pid[n], is_operation && s->last_pid[n]};
		int r = is_first_of(s, n) ? stand_in_run(d.pid, do_deed, &d) : 0;

		if (r < 0)
			return err_sys(err, r, "cannot set the values");
		is_operation &= !d.is_operation;
	}
	return 0;
}

static int set_fill(struct restore_ctx *c, const void *record, int id, struct err *err)
{
	const Cpx__SemSet *s = record;
	struct semid_ds ds = {.sem_perm = {.uid = s->perm->uid, .gid = s->perm->gid,
					   .mode = s->perm->mode}};
	int r = fill_values(s, err);

	if (r < 0 || semctl(id, 0, IPC_SET, (union arg){.buf = &ds}) == 0)
		return r;
	if (c->in_user_ns && errno == EINVAL) { /* others do not exist there */
		ds.sem_perm.uid = geteuid();
		ds.sem_perm.gid = getegid();
		if (semctl(id, 0, IPC_SET, (union arg){.buf = &ds}) == 0)
			return 0;
	}
	return err_sys(err, -errno, "cannot set owner and mode");
}

const struct ipc_kind sysvsem_kind = {
	.name = name,
	.next_id = "sem_next_id",
	.get = set_get,
	.remove = set_remove,
	.examine = set_examine,
	.is_same = set_is_same,
	.fill = set_fill,
};
