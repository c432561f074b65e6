/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Readers of /proc.
 *
 * Every reader works on a directory descriptor, so that it can be tested on recorded trees:
 * `dir` is /proc/PID or /proc/PID/task/TID as proc_open() gives it. Readers are thread-safe and
 * keep nothing open. Errors: -ESRCH when the task is gone (also where the kernel says ENOENT),
 * -EBADMSG when the text is not what this kernel interface is documented to give, else the
 * system call's. Outputs are untouched on failure. What a reader allocates is freed by the
 * _release() of the same name, which is harmless on a zeroed or released struct.
 *
 * The _parse() functions are the same without the file: pure code, fuzzed. `text` is
 * NUL-terminated at text[len].
 */
#ifndef CPX_PROC_PROC_H
#define CPX_PROC_PROC_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* ---- procdir.c: opening, whole files, links ---- */

/* Opens PROC/PID, or PROC/PID/task/TID when tid is not 0. proc_fd: a directory; -1: /proc. */
int proc_open(int proc_fd, pid_t pid, pid_t tid, int *ret_dir, struct err *err);

/* Opens a file of it, read-only (name relative to dir). */
int proc_open_file(int dir, const char *name, int flags, int *ret_fd, struct err *err);

/* Reads a whole file, at most 256 MiB; *ret is malloc'ed, a NUL follows its *ret_len bytes. */
int proc_read(int dir, const char *name, char **ret, size_t *ret_len, struct err *err);

/* Reads a link ("exe", "cwd", "fd/5", "ns/pid", "map_files/a-b") into buf, NUL-terminated.
 * -ENAMETOOLONG when it does not fit. */
int proc_link(int dir, const char *name, char *buf, size_t size, struct err *err);

/* "pid:[4026531836]" as a number, for ns/<name>. */
int proc_ns_id(int dir, const char *ns, uint64_t *ret, struct err *err);

/* ---- pidstat.c ---- */

struct proc_stat {
	pid_t pid;
	char comm[64]; /* as in the file, without the brackets */
	char state;    /* R S D T t Z X I */
	pid_t ppid, pgid, sid;
	int tty_nr; /* dev_t of the controlling terminal in the kernel's encoding, 0: none */
	pid_t tpgid;
	uint32_t flags; /* PF_* of include/linux/sched.h */
	uint64_t utime, stime, cutime, cstime; /* clock ticks */
	int64_t priority, nice;
	unsigned num_threads;
	uint64_t starttime; /* clock ticks since boot */
	uint64_t vsize;	    /* bytes */
	int64_t rss;	    /* pages */
	uint64_t start_code, end_code, start_stack;
	int exit_signal;
	int processor;
	unsigned rt_priority, policy;
	uint64_t start_data, end_data, start_brk;
	uint64_t arg_start, arg_end, env_start, env_end;
	int exit_code; /* wait status form */
};
#define PROC_PF_KTHREAD	   0x00200000
#define PROC_PF_FORKNOEXEC 0x00000040

/* Of a state letter: it has ended, and waits to be reaped if anything. */
static inline bool proc_is_dead(char state)
{
	return state == 'Z' || state == 'X' || state == 'x';
}

/* Addresses and exit_code read as 0 without ptrace rights. */
int proc_stat(int dir, struct proc_stat *ret, struct err *err);
int proc_stat_parse(const char *text, size_t len, struct proc_stat *ret);

/* ---- pidstatus.c ---- */

struct proc_status {
	char state;
	char comm[64];
	unsigned umask;
	pid_t tgid, pid, ppid, tracer_pid;
	uid_t uid[4]; /* real, effective, saved, filesystem */
	gid_t gid[4];
	gid_t *groups;
	size_t ngroups;
	pid_t nstgid[32], nspid[32], nspgid[32], nssid[32]; /* the reader's namespace first */
	unsigned nns;
	uint64_t vm_lck, vm_pin, vm_rss, rss_anon, rss_file, rss_shmem, vm_swap; /* bytes */
	uint64_t hugetlb_pages; /* bytes */
	bool has_mm; /* the Vm lines are there: neither zombie nor kernel thread */
	bool core_dumping, thp_enabled;
	unsigned threads;
	uint64_t sig_pnd, shd_pnd, sig_blk, sig_ign, sig_cgt; /* bit n-1: signal n */
	uint64_t sigq, sigq_max;
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	bool no_new_privs;
	int seccomp; /* 0 none, 1 strict, 2 filter */
	int seccomp_filters;
};

int proc_status(int dir, struct proc_status *ret, struct err *err);
int proc_status_parse(const char *text, size_t len, struct proc_status *ret);
void proc_status_release(struct proc_status *s);

/* ---- smaps.c ---- */

/* VmFlags of smaps; only those that matter to us, the rest is in PVM_OTHER */
enum proc_vm_flag {
	PVM_READ = 1 << 0,	  /* rd */
	PVM_WRITE = 1 << 1,	  /* wr */
	PVM_EXEC = 1 << 2,	  /* ex */
	PVM_SHARED = 1 << 3,	  /* sh */
	PVM_GROWSDOWN = 1 << 4,	  /* gd */
	PVM_PFNMAP = 1 << 5,	  /* pf */
	PVM_LOCKED = 1 << 6,	  /* lo */
	PVM_LOCKONFAULT = 1 << 7, /* lf; older kernels show lo and ?? */
	PVM_IO = 1 << 8,	  /* io */
	PVM_SEQUENTIAL = 1 << 9,  /* sr */
	PVM_RANDOM = 1 << 10,	  /* rr */
	PVM_DONTFORK = 1 << 11,	  /* dc */
	PVM_DONTEXPAND = 1 << 12, /* de */
	PVM_ACCOUNT = 1 << 13,	  /* ac */
	PVM_NORESERVE = 1 << 14,  /* nr */
	PVM_HUGETLB = 1 << 15,	  /* ht */
	PVM_SYNC = 1 << 16,	  /* sf */
	PVM_WIPEONFORK = 1 << 17, /* wf */
	PVM_DONTDUMP = 1 << 18,	  /* dd */
	PVM_MIXEDMAP = 1 << 19,	  /* mm */
	PVM_HUGEPAGE = 1 << 20,	  /* hg */
	PVM_NOHUGEPAGE = 1 << 21, /* nh */
	PVM_MERGEABLE = 1 << 22,  /* mg */
	PVM_UFFD_MISSING = 1 << 23, /* um */
	PVM_UFFD_WP = 1 << 24,	    /* uw */
	PVM_UFFD_MINOR = 1 << 25,   /* ui */
	PVM_SHADOW_STACK = 1 << 26, /* ss */
	PVM_SEALED = 1 << 27,	    /* sl: mseal(2) */
	PVM_DROPPABLE = 1 << 28,    /* dp */
	PVM_PKEY = 1 << 29,	    /* ProtectionKey is not 0 */
	PVM_OTHER = 1 << 30,	    /* a flag that this table does not know */
	PVM_MAYWRITE = 1U << 31,    /* mw: of a shared file mapping: it was opened for writing */
};

struct proc_vma {
	uint64_t start, end;
	int prot; /* PROT_* */
	bool is_shared;
	bool has_flags;	 /* from smaps: all below vm_flags is valid */
	/* path had the kernel's " (deleted)" suffix, which is removed; see proc_vma_resolve(). */
	bool is_deleted;
	uint64_t offset; /* bytes */
	uint32_t dev_major, dev_minor;
	uint64_t ino;	   /* 0: anonymous (or special) */
	/* Unescaped; "" for anonymous; "[heap]", "[stack]", "[vdso]", "[anon:name]" ... */
	char *path;
	uint64_t vm_flags; /* PVM_* */
	unsigned pkey;
	uint64_t rss, anonymous, swap, locked, private_dirty, kernel_page_size; /* bytes */
};

struct proc_vmas {
	struct proc_vma *vma; /* ascending, disjoint */
	size_t n, max;
};

/* /proc/PID/maps: cheap. */
int proc_maps(int dir, struct proc_vmas *ret, struct err *err);
/* /proc/PID/smaps: the kernel walks all page tables (some 5 ms per GiB of 4 KiB pages). */
int proc_smaps(int dir, struct proc_vmas *ret, struct err *err);
int proc_vmas_parse(const char *text, size_t len, struct proc_vmas *ret); /* either form */
void proc_vmas_release(struct proc_vmas *v);
/* The mapping that holds addr, or NULL. */
const struct proc_vma *proc_vmas_find(const struct proc_vmas *v, uint64_t addr);

/* "7f00-7f01" of map_files/, relative to dir: "map_files/7f00-7f01". */
void proc_vma_link(const struct proc_vma *v, char *buf, size_t size);

struct stat;
/* Settles whether the mapped file is really deleted (a file may be called "x (deleted)"): by stat
 * of the map_files link where the caller may, else by whether root_fd + path has this dev and ino.
 * Corrects path and is_deleted. root_fd: the task's root directory. ret_st: of the mapped file;
 * st_ino 0 when only the path could not be settled. */
int proc_vma_resolve(int dir, int root_fd, struct proc_vma *v, struct stat *ret_st,
		     struct err *err);

/* ---- fdinfo.c ---- */

struct proc_lock {
	enum { PROC_LOCK_FLOCK, PROC_LOCK_POSIX, PROC_LOCK_OFD, PROC_LOCK_LEASE } type;
	bool is_write;
	bool is_mandatory;
	bool is_breaking; /* LEASE: an open waits for it; is_write is what is to be left of it ... */
	bool is_unlock;	  /* ... or nothing is */
	pid_t pid; /* POSIX: owner as the reader's namespace sees it; FLOCK: who locked; OFD: -1 */
	uint32_t dev_major, dev_minor;
	uint64_t ino;
	uint64_t start, end; /* end inclusive; UINT64_MAX for EOF */
};

struct proc_fdinfo {
	uint64_t pos;
	uint32_t flags; /* O_*, O_CLOEXEC included */
	int mnt_id;
	uint64_t ino; /* 0 before Linux 5.14 */
	struct proc_lock *lock;
	size_t nlocks;
	char *text; /* the whole file, for what only some kinds have */
};

int proc_fdinfo(int dir, int fd, struct proc_fdinfo *ret, struct err *err);
int proc_fdinfo_parse(const char *text, size_t len, struct proc_fdinfo *ret);
void proc_fdinfo_release(struct proc_fdinfo *f);
/* The unsigned value (decimal, 0x or octal as strtoull with base) of line "<key>:" in info text. */
bool proc_field_u64(const char *text, const char *key, int base, uint64_t *ret);
/* The same of a line "<key>: (seconds, nanoseconds)"; INT64_MAX at most. */
bool proc_field_time(const char *text, const char *key, uint64_t *ret_ns);

/* The registrations of an epoll ("tfd:" lines of info text), in the kernel's order. */
struct proc_epoll_item {
	uint32_t fd, events;
	uint64_t data, ino;
	unsigned dev_major, dev_minor;
};
int proc_epoll_items(const char *text, struct proc_epoll_item **ret, size_t *ret_n);

/* The watches of an inotify ("inotify wd:" lines). */
struct proc_inotify_watch {
	uint32_t wd, mask;
	uint64_t ino;
	unsigned dev_major, dev_minor;
	int handle_type;
	unsigned handle_len; /* 0: none */
	uint8_t handle[128];
};
int proc_inotify_watches(const char *text, struct proc_inotify_watch **ret, size_t *ret_n);

/* Ascending descriptor numbers of fd/. */
int proc_fds(int dir, int **ret, size_t *ret_n, struct err *err);

/* /proc/locks lines ("1: POSIX  ADVISORY  WRITE 123 fe:00:9 0 EOF"); waiting ones ("->") are left
 * out. */
int proc_locks(int proc_fd, struct proc_lock **ret, size_t *ret_n, struct err *err);

/* ---- pidlimits.c ---- */

#define PROC_NLIMITS 16
struct proc_limit {
	uint64_t soft, hard; /* UINT64_MAX: unlimited */
	bool is_known;
};
/* Index: RLIMIT_* */
int proc_limits(int dir, struct proc_limit ret[PROC_NLIMITS], struct err *err);
int proc_limits_parse(const char *text, size_t len, struct proc_limit ret[PROC_NLIMITS]);

/* ---- pidtimers.c: POSIX timers (needs CONFIG_CHECKPOINT_RESTORE; absent: -EOPNOTSUPP) ---- */

struct proc_timer {
	int id;
	int signo;
	uint64_t sigval;
	int notify; /* SIGEV_SIGNAL, _NONE, _THREAD; SIGEV_THREAD_ID or'ed when is_tid */
	bool is_tid;
	pid_t pid; /* tid or pid to notify */
	int clock;
};
int proc_timers(int dir, struct proc_timer **ret, size_t *ret_n, struct err *err);
int proc_timers_parse(const char *text, size_t len, struct proc_timer **ret, size_t *ret_n);

/* ---- tasklists.c: tasks, children ---- */

/* Thread ids of task/, ascending. dir: /proc/PID. */
int proc_tids(int dir, pid_t **ret, size_t *ret_n, struct err *err);
/* Children of one thread. dir: /proc/PID/task/TID. -EOPNOTSUPP without CONFIG_PROC_CHILDREN. */
int proc_children(int dir, pid_t **ret, size_t *ret_n, struct err *err);
/* Children of all threads of PROC/PID; falls back to the ppid of all of PROC where there is no
 * children file. */
int proc_children_of(int proc_fd, pid_t pid, pid_t **ret, size_t *ret_n, struct err *err);
/* All pids of PROC, ascending. */
int proc_pids(int proc_fd, pid_t **ret, size_t *ret_n, struct err *err);

/* ---- procmisc.c ---- */

/* buf is NUL-terminated, without the newline. */
int proc_comm(int dir, char *buf, size_t size, struct err *err);
/* Bytes, arguments separated by NUL; empty for zombies. */
int proc_cmdline(int dir, char **ret, size_t *ret_len, struct err *err);
int proc_auxv(int dir, void **ret, size_t *ret_len, struct err *err);
bool proc_auxv_get(const void *auxv, size_t len, uint64_t type, uint64_t *ret);
/* se.exec_start of sched: when the thread last began to run or was accounted, in ns of the CPU's
 * clock (near CLOCK_MONOTONIC raw since boot). -EOPNOTSUPP without CONFIG_SCHED_DEBUG. */
int proc_exec_start(int dir, uint64_t *ret_ns, struct err *err);

struct proc_syscall {
	bool is_running; /* "running": nothing else is valid */
	int64_t nr;	 /* -1: not in a call */
	uint64_t arg[6];
	uint64_t sp, pc;
};
int proc_syscall(int dir, struct proc_syscall *ret, struct err *err);
int proc_syscall_parse(const char *text, size_t len, struct proc_syscall *ret);

int proc_personality(int dir, uint32_t *ret, struct err *err);
int proc_oom_score_adj(int dir, int *ret, struct err *err);
int proc_coredump_filter(int dir, uint32_t *ret, struct err *err);
int proc_timerslack(int proc_fd, pid_t tid, uint64_t *ret_ns, struct err *err);
/* 36 characters and NUL. */
int proc_boot_id(int proc_fd, char ret[37], struct err *err);

/* ---- netlink.c ---- */

struct proc_netlink {
	uint64_t unread;   /* bytes, as the kernel counts them */
	bool is_answering; /* a dump (NLM_F_DUMP) that is not yet complete */
};
/* Of the socket with this inode; one that has no port yet is not listed: all zero. */
int proc_netlink(int proc_fd, uint64_t ino, struct proc_netlink *ret, struct err *err);
int proc_netlink_parse(const char *text, size_t len, uint64_t ino, struct proc_netlink *ret);

/* ---- mountinfo.c ---- */

struct proc_mount {
	int id, parent;
	uint32_t dev_major, dev_minor;
	char *root, *mountpoint; /* unescaped */
	char *fstype, *source;
	bool is_readonly;
};
struct proc_mounts {
	struct proc_mount *mount;
	size_t n, max;
};
int proc_mounts(int dir, struct proc_mounts *ret, struct err *err);
int proc_mounts_parse(const char *text, size_t len, struct proc_mounts *ret);
void proc_mounts_release(struct proc_mounts *m);
const struct proc_mount *proc_mounts_find(const struct proc_mounts *m, int id);

#endif
