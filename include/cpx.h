/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libcpx: checkpoint and restore of running process trees. The cpx command uses nothing else.
 *
 * All functions return 0 or a negative errno; details are in struct cpx_result, which the caller
 * initialises with CPX_RESULT_INIT and releases with cpx_result_release().
 */
#ifndef CPX_H
#define CPX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define CPX_VERSION "0.1.0"

/* Outcomes, which are also the command's exit statuses. */
enum cpx_outcome { CPX_DONE = 0, CPX_FAILED = 1, CPX_USAGE = 2, CPX_REFUSED = 3 };

enum cpx_compress { CPX_COMPRESS_DEFAULT, CPX_COMPRESS_NONE, CPX_COMPRESS_LZ4, CPX_COMPRESS_ZSTD };
enum cpx_after { CPX_AFTER_RUN, CPX_AFTER_STOP, CPX_AFTER_KILL };
enum cpx_pids { CPX_PIDS_AUTO, CPX_PIDS_SAME, CPX_PIDS_NEW };

struct cpx_refusal {
	pid_t pid; /* 0: about no single task */
	char *text; /* "task 4242 (redis-server): fd 7 (io_uring): cannot be checkpointed: ..." */
};

/* One of restore's copies. */
struct cpx_clone {
	bool is_restored;
	pid_t pid;  /* of its root, as the caller sees it */
	int status; /* foreground: wait status of the root */
	char error[512]; /* why it could not be restored */
};

struct cpx_result {
	enum cpx_outcome outcome;
	char error[1024]; /* one line, empty unless CPX_FAILED or CPX_USAGE */
	struct cpx_refusal *refusal;
	size_t nrefusals;
	/* dump; zero where it does not apply */
	uint64_t frozen_us, wall_us, memory_bytes, image_bytes;
	uint64_t pages, zero_pages, shared_pages; /* stored, left out as zero, left out as shared copy-on-write with the parent */
	uint64_t before_pages; /* left out because the parent image has them */
	unsigned tasks, threads;
	char freeze_mode[16]; /* "twin", "precopy", "tracked" (what had changed was copied), or "frozen" (written while frozen) */
	char freeze_reason[128]; /* why not a twin, or no pre-copy */
	bool is_delta; /* has a parent */
	char changes[16]; /* how it was found what has changed since the parent image: "tracking", "comparing", "both"; empty: there is none */
	char changes_reason[128]; /* of cpx_dump_every(): why not all by tracking */
	unsigned rounds; /* of a pre-copy, 0: none */
	uint64_t round_frozen_us; /* the longest stop before the freeze, for a round */
	unsigned images; /* cpx_dump_every(): that were made ... */
	char ended[128]; /* ... and why no more were; empty: they are all */
	/* restore */
	pid_t pid; /* of the root, as the caller sees it */
	bool new_pid_namespace, new_user_namespace, new_time_namespace;
	int status; /* foreground: wait status of the root */
	struct cpx_clone *clone; /* with copies: clone[i] is number i + 1; CPX_FAILED if not all could be restored */
	size_t nclones;
};
#define CPX_RESULT_INIT {0}
void cpx_result_release(struct cpx_result *r);

struct cpx_progress {
	/* total 0: unknown yet. May be called from the calling thread only. */
	void (*update)(void *data, const char *stage, uint64_t done, uint64_t total);
	void *data;
};

/* Where to look for images that deltas build on, if they are not where they were. */
struct cpx_parents {
	const char *const *file;
	size_t n;
};

/* What stands, after a restore, for a pipe whose other end lay outside of the tree. */
enum cpx_external { CPX_EXTERNAL_INHERIT, CPX_EXTERNAL_FILE, CPX_EXTERNAL_NULL };
struct cpx_external_pipe {
	uint64_t ino; /* which one: the number in "pipe:[123]"; 0: all that no other item names */
	enum cpx_external what;
	int fd; /* INHERIT: a descriptor of the restoring process, not close-on-exec; -1: that of the same number */
	const char *path; /* FILE: absolute */
};

struct cpx_dump_options {
	pid_t pid;
	const char *output; /* NULL: PID.cpx; "-": out_fd */
	const char *parent; /* an image of the tree: write only what has changed since; NULL: everything */
	int out_fd;	    /* for "-": standard output */
	enum cpx_after after;
	bool no_children;
	enum cpx_compress compress;
	int level;
	unsigned workers;     /* 0: CPUs the caller may use */
	uint64_t limit_rate;  /* bytes of image a second; 0: no limit */
	uint64_t ghost_limit; /* bytes of one deleted but open file; 0: 1 GiB default */
	const struct cpx_external_pipe *external_pipe; /* accepted, and what is recorded for the restore */
	size_t nexternal_pipes;
	bool external_unix; /* connections to outside, which are made again by name */
	unsigned precopy; /* rounds of a pre-copy at most; 0: none */
	struct cpx_progress progress;
};
int cpx_dump(const struct cpx_dump_options *o, struct cpx_result *r);

/* An image every so often. Between two of them the tree is watched, so that an image after the first one is a delta: it has
 * what was written to since the one before, which is its parent. */
struct cpx_every_options {
	struct cpx_dump_options dump; /* output: a file, that of the first image; the next ones are FILE.1, FILE.2 ... */
	uint64_t every_ms; /* from the beginning of one to that of the next; what takes longer leaves out some */
	unsigned count;	   /* images that are made; 0: until a signal or the end of the tree */
	/* After each one that was made; after the first, also for those that were refused or have failed. May be NULL. */
	void (*each)(void *data, const char *file, const struct cpx_result *r);
	void *data;
};
/* Returns when all are made, when the root of the tree has ended or a signal (SIGINT, SIGTERM, SIGHUP) has come. The
 * outcome is that of the last image that was tried, or CPX_FAILED if a signal comes before count. The first image must
 * be made: if it is not, r is what became of it. Later ones that fail are tried again at the next time. */
int cpx_dump_every(const struct cpx_every_options *o, struct cpx_result *r);

struct cpx_restore_options {
	const char *input; /* file, or "-": in_fd */
	int in_fd;
	bool detach;
	enum cpx_pids pids;
	const char *pidfile;
	unsigned workers;
	bool lazy; /* let the tree run while its memory is still being filled */
	const struct cpx_external_pipe *external_pipe; /* instead of what is recorded in the image */
	size_t nexternal_pipes;
	const char *const *allow_changed; /* files that may have changed since the dump */
	size_t nallow_changed;
	unsigned copies; /* trees to make of the image, each in a PID namespace of its own; 0: one, not as a clone */
	/* Of copies; NULL or 0: none. Paths are absolute or of the caller's working directory. */
	const char *output_dir; /* DIR/N is made: what is written to files, pipes and terminals goes there */
	const char *const *shared_file; /* common to all although they write to it */
	size_t nshared_files;
	const char *clone_id_file; /* where each finds its number */
	int clone_signal; /* sent to each root once it runs */
	const char *on_restore; /* command for sh(1), run before a tree goes on */
	struct cpx_parents parents;
	struct cpx_progress progress;
};
#define CPX_COPIES_MAX 10000
/* Foreground: returns when the restored root has ended, its wait status in r->status. Detached: once it runs. */
int cpx_restore(const struct cpx_restore_options *o, struct cpx_result *r);

/* Everything that cpx_dump() would refuse with these options (where it would write does not matter). Harms and stops
 * nothing for longer than a freeze. */
int cpx_check(const struct cpx_dump_options *o, struct cpx_result *r);

/* Prints what an image holds. parents may be NULL; one that is not found is said to be missing. */
int cpx_info(const char *file, const struct cpx_parents *parents, bool json, FILE *out, struct cpx_result *r);
/* Also the images that it builds on. */
int cpx_verify(const char *file, const struct cpx_parents *parents, struct cpx_result *r);

struct cpx_flatten_options {
	const char *input; /* file, or "-": in_fd */
	int in_fd;
	const char *output; /* file, or "-": out_fd */
	int out_fd;
	enum cpx_compress compress;
	int level;
	struct cpx_parents parents;
	struct cpx_progress progress;
};
/* Writes the image and all that it builds on as one. It keeps its id: what builds on it finds it there. */
int cpx_flatten(const struct cpx_flatten_options *o, struct cpx_result *r);

enum cpx_log_level { CPX_LOG_ERROR, CPX_LOG_WARN, CPX_LOG_INFO, CPX_LOG_DEBUG };
typedef void cpx_log_fn(enum cpx_log_level level, const char *line, void *data);
void cpx_set_log(cpx_log_fn *fn, void *data, enum cpx_log_level max_level);

#endif
