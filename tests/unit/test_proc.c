/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The readers of src/proc: on a recorded tree (tests/unit/proc_trees/plain, of a program with an
 * awkward name, mappings, locks and timers), and on this very process.
 */
#include "base/util.h"
#include "proc/proc.h"
#include "proc/scan.h"

#include <elf.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define RECORDED 19369

static int open_tree(void)
{
	int fd = open(TEST_SOURCE_DIR "/proc_trees/plain", O_RDONLY | O_DIRECTORY);

	assert_true(fd >= 0);
	return fd;
}

static int open_recorded(void)
{
	_cleanup_close_ int tree = open_tree();
	int dir = -1;

	assert_int_equal(proc_open(tree, RECORDED, 0, &dir, NULL), 0);
	return dir;
}

static void test_stat(void **state)
{
	_cleanup_close_ int dir = open_recorded();
	struct proc_stat st;

	assert_int_equal(proc_stat(dir, &st, NULL), 0);
	assert_int_equal(st.pid, RECORDED);
	assert_string_equal(st.comm, "od) R 1 (x");
	assert_int_equal(st.state, 'S');
	assert_int_equal(st.ppid, 19229);
	assert_int_equal(st.sid, 2381);
	assert_int_equal(st.tpgid, -1);
	assert_int_equal(st.num_threads, 1);
	assert_int_equal(st.exit_signal, SIGCHLD);
	assert_int_equal(st.start_code, 94018783055872);
	assert_int_equal(st.start_stack, 140729817405664);
	assert_int_equal(st.start_brk, 94019262251008);
	assert_int_equal(st.env_end, 140729817411567);
	assert_int_equal(st.exit_code, 0);
}

/* The same file with another name in it. */
static void check_comm(const char *written, const char *comm)
{
	_cleanup_close_ int dir = open_recorded();
	_cleanup_free_ char *text = NULL, *changed = NULL;
	struct proc_status st;
	size_t len;

	assert_int_equal(proc_read(dir, "status", &text, &len, NULL), 0);
	assert_true(asprintf(&changed, "Name:\t%s%s", written, strstr(text, "\nUmask:")) > 0);
	assert_int_equal(proc_status_parse(changed, strlen(changed), &st), 0);
	assert_string_equal(st.comm, comm);
	proc_status_release(&st);
}

static void test_comm(void **state)
{
	check_comm("sh", "sh");
	check_comm("", "");
	check_comm(" \t a: b ", " \t a: b ");
	check_comm("a\\nb\\\\n\\\\", "a\nb\\n\\");
	check_comm("\\", "\\");
}

static void test_status(void **state)
{
	_cleanup_close_ int dir = open_recorded();
	struct proc_status st;

	assert_int_equal(proc_status(dir, &st, NULL), 0);
	assert_int_equal(st.pid, RECORDED);
	assert_int_equal(st.tgid, RECORDED);
	assert_int_equal(st.umask, 022);
	assert_int_equal(st.threads, 1);
	assert_int_equal(st.nns, 1);
	assert_int_equal(st.nspid[0], RECORDED);
	assert_true(st.has_mm);
	assert_int_equal(st.uid[3], 0);
	assert_true(st.cap_prm != 0);
	assert_int_equal(st.seccomp, 0);
	proc_status_release(&st);
}

static void check_mapping(const struct proc_vma *v, const char *path, bool is_deleted, bool shared)
{
	assert_non_null(v);
	assert_string_equal(v->path, path);
	assert_int_equal(v->is_deleted, is_deleted);
	assert_int_equal(v->is_shared, shared);
}

static void test_maps(void **state)
{
	_cleanup_close_ int dir = open_recorded();
	struct proc_vmas maps, smaps;
	const struct proc_vma *v;

	assert_int_equal(proc_maps(dir, &maps, NULL), 0);
	assert_int_equal(proc_smaps(dir, &smaps, NULL), 0);
	assert_int_equal(maps.n, smaps.n);
	check_mapping(proc_vmas_find(&maps, 0x200001fff), "/tmp/rec\nname", true, true);
	v = proc_vmas_find(&smaps, 0x300000000);
	check_mapping(v, "/tmp/rec gone", true, false);
	assert_int_equal(v->offset, 4096);
	assert_int_equal(v->dev_major, 0xfe);
	assert_int_equal(v->ino, 10954051);
	v = proc_vmas_find(&smaps, 0x400000000);
	check_mapping(v, "", false, false);
	assert_int_equal(v->vm_flags, PVM_READ | PVM_WRITE | PVM_LOCKED | PVM_LOCKONFAULT |
					      PVM_DONTFORK | PVM_DONTDUMP | PVM_ACCOUNT |
					      PVM_MAYWRITE);
	assert_int_equal(v->rss, 4096);
	assert_int_equal(proc_vmas_find(&smaps, 0x500000000)->vm_flags,
			 PVM_READ | PVM_WRITE | PVM_GROWSDOWN | PVM_NORESERVE | PVM_MAYWRITE);
	assert_null(proc_vmas_find(&maps, 0x1000));
	assert_string_equal(maps.vma[maps.n - 1].path, "[vsyscall]");
	assert_int_equal(maps.vma[maps.n - 1].prot, PROT_EXEC);
	proc_vmas_release(&maps);
	proc_vmas_release(&smaps);
}

static void test_fdinfo(void **state)
{
	_cleanup_close_ int dir = open_recorded();
	struct proc_fdinfo f;

	assert_int_equal(proc_fdinfo(dir, 3, &f, NULL), 0);
	assert_int_equal(f.pos, 123);
	assert_int_equal(f.flags, 02100002);
	assert_int_equal(f.mnt_id, 27);
	assert_int_equal(f.nlocks, 2);
	assert_int_equal(f.lock[0].type, PROC_LOCK_FLOCK);
	assert_false(f.lock[0].is_write);
	assert_true(f.lock[0].end == UINT64_MAX);
	assert_int_equal(f.lock[1].type, PROC_LOCK_POSIX);
	assert_true(f.lock[1].is_write);
	assert_int_equal(f.lock[1].pid, RECORDED);
	assert_int_equal(f.lock[1].start, 10);
	assert_int_equal(f.lock[1].end, 29);
	proc_fdinfo_release(&f);
}

/* As Linux 6.18 shows them. */
static void test_fdinfo_kinds(void **state)
{
	static const char epoll[] =
		"pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n"
		"tfd:        3 events: 40000000 data:                3  pos:0 ino:40e sdev:10\n"
		"tfd:      900 events:       19 data: 7f5f00000005aaaa  pos:-1 ino:1a2b3 sdev:fe00001\n";
	static const char inotify[] =
		"inotify wd:2a ino:13 sdev:fe00000 mask:80000100 ignored_mask:0 fhandle-bytes:8 "
		"fhandle-type:1 f_handle:13000000a0bC0d00\n"
		"inotify wd:1 ino:3c51a sdev:10 mask:100 ignored_mask:0 \n";
	struct proc_inotify_watch *watch;
	struct proc_epoll_item *item;
	uint64_t ns;
	size_t n;

	assert_int_equal(proc_epoll_items(epoll, &item, &n), 0);
	assert_int_equal(n, 2);
	assert_true(item[0].fd == 3 && item[0].events == 0x40000000 && item[0].dev_minor == 16);
	assert_true(item[1].fd == 900 && item[1].data == 0x7f5f00000005aaaa);
	assert_true(item[1].ino == 0x1a2b3 && item[1].dev_major == 0xfe && item[1].dev_minor == 1);
	free(item);
	assert_int_equal(proc_epoll_items("tfd: 3 events: q\n", &item, &n), -EBADMSG);
	assert_int_equal(proc_inotify_watches(inotify, &watch, &n), 0);
	assert_int_equal(n, 2);
	assert_true(watch[0].wd == 42 && watch[0].mask == 0x80000100 && watch[0].handle_len == 8);
	assert_true(watch[0].handle[0] == 0x13 && watch[0].handle[5] == 0xbc);
	assert_true(watch[1].wd == 1 && watch[1].handle_len == 0);
	free(watch);
	assert_int_equal(proc_inotify_watches("inotify wd:1 ino:2\n", &watch, &n), -EBADMSG);
	assert_true(proc_field_time("it_value: (4, 999948741)\n", "it_value", &ns));
	assert_true(ns == 4999948741);
	assert_false(proc_field_time("it_value: 4\n", "it_value", &ns));
}

static void test_lists(void **state)
{
	_cleanup_close_ int tree = open_tree(), dir = open_recorded();
	struct proc_lock *lock;
	pid_t *pid;
	int *fd;
	size_t n;

	assert_int_equal(proc_pids(tree, &pid, &n, NULL), 0);
	assert_int_equal(n, 1);
	free(pid);
	assert_int_equal(proc_tids(dir, &pid, &n, NULL), 0);
	assert_int_equal(n, 1);
	assert_int_equal(pid[0], RECORDED);
	free(pid);
	assert_int_equal(proc_children_of(tree, RECORDED, &pid, &n, NULL), 0);
	assert_int_equal(n, 1);
	assert_int_equal(pid[0], 19371);
	free(pid);
	assert_int_equal(proc_fds(dir, &fd, &n, NULL), 0);
	assert_int_equal(n, 4);
	assert_int_equal(fd[3], 4);
	free(fd);
	assert_int_equal(proc_locks(tree, &lock, &n, NULL), 0);
	assert_int_equal(n, 2);
	free(lock);
}

static void test_timers(void **state)
{
	_cleanup_close_ int dir = open_recorded();
	struct proc_timer *t;
	size_t n;

	assert_int_equal(proc_timers(dir, &t, &n, NULL), 0);
	assert_int_equal(n, 2);
	assert_int_equal(t[0].id, 1);
	assert_int_equal(t[0].notify, SIGEV_NONE);
	assert_int_equal(t[0].clock, CLOCK_REALTIME);
	assert_int_equal(t[1].signo, SIGUSR1);
	assert_int_equal(t[1].sigval, 7);
	assert_int_equal(t[1].pid, RECORDED);
	free(t);
}

static void test_netlink(void **state)
{
	static const char text[] =
		"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
		"0000000016ede697 0   0          00000000 0        0        0     2        0        4       \n"
		"00000000f7667462 15  4294963101 00000002 768      0        1     2        3        562     \n";
	struct proc_netlink n;

	assert_int_equal(proc_netlink_parse(text, sizeof(text) - 1, 562, &n), 0);
	assert_int_equal(n.unread, 768);
	assert_true(n.is_answering);
	assert_int_equal(proc_netlink_parse(text, sizeof(text) - 1, 9, &n), 0);
	assert_true(!n.unread && !n.is_answering);
	assert_int_equal(proc_netlink_parse(text, sizeof(text) - 40, 562, &n), -EBADMSG);
	assert_int_equal(proc_netlink_parse("", 0, 562, &n), -EBADMSG);
}

static void test_small_files(void **state)
{
	_cleanup_close_ int tree = open_tree(), dir = open_recorded();
	struct proc_limit limit[PROC_NLIMITS];
	struct proc_syscall c;
	struct proc_mounts mounts;
	char comm[32], link[64], id[37];
	uint32_t word;
	uint64_t v;
	int oom;

	assert_int_equal(proc_comm(dir, comm, sizeof(comm), NULL), 0);
	assert_string_equal(comm, "od) R 1 (x");
	assert_int_equal(proc_limits(dir, limit, NULL), 0);
	assert_int_equal(limit[RLIMIT_STACK].soft, 8388608);
	assert_true(limit[RLIMIT_STACK].hard == UINT64_MAX);
	assert_int_equal(limit[RLIMIT_NOFILE].soft, 20000);
	assert_int_equal(proc_syscall(dir, &c, NULL), 0);
	assert_int_equal(c.nr, 34); /* pause */
	assert_int_equal(proc_mounts(dir, &mounts, NULL), 0);
	assert_non_null(proc_mounts_find(&mounts, 27));
	assert_string_equal(proc_mounts_find(&mounts, 27)->mountpoint, "/");
	proc_mounts_release(&mounts);
	assert_int_equal(proc_link(dir, "exe", link, sizeof(link), NULL), 0);
	assert_string_equal(link, "/tmp/rec");
	assert_int_equal(proc_link(dir, "exe", link, 8, NULL), -ENAMETOOLONG);
	assert_int_equal(proc_ns_id(dir, "pid", &v, NULL), 0);
	assert_int_equal(v, 4026531836);
	assert_int_equal(proc_boot_id(tree, id, NULL), 0);
	assert_int_equal(strlen(id), 36);
	assert_int_equal(proc_personality(dir, &word, NULL), 0);
	assert_int_equal(word, 0);
	assert_int_equal(proc_coredump_filter(dir, &word, NULL), 0);
	assert_int_equal(word, 0x33);
	assert_int_equal(proc_oom_score_adj(dir, &oom, NULL), 0);
	assert_int_equal(proc_exec_start(dir, &v, NULL), 0);
	assert_true(v > 0);
}

static void test_auxv(void **state)
{
	_cleanup_close_ int dir = open_recorded();
	void *auxv;
	size_t len;
	uint64_t v;

	assert_int_equal(proc_auxv(dir, &auxv, &len, NULL), 0);
	assert_true(proc_auxv_get(auxv, len, AT_PAGESZ, &v));
	assert_int_equal(v, 4096);
	assert_false(proc_auxv_get(auxv, len, AT_EXECFD, &v));
	free(auxv);
}

static void test_gone(void **state)
{
	_cleanup_close_ int dir = open_recorded();
	struct err err = ERR_INIT;
	struct proc_stat st;
	pid_t child = fork();
	int fd, gone;

	if (!child)
		_exit(0);
	assert_int_equal(proc_open(-1, child, 0, &gone, &err), 0);
	waitpid(child, NULL, 0);
	assert_int_equal(proc_stat(gone, &st, &err), -ESRCH);
	close(gone);
	assert_int_equal(proc_open(-1, child, 0, &gone, &err), -ESRCH);
	assert_int_equal(proc_open_file(dir, "nothing", O_RDONLY, &fd, &err), -ENOENT);
	assert_string_equal(err.msg,
			    "cannot open its /proc file nothing: No such file or directory");
}

static void test_malformed(void **state)
{
	struct proc_vmas v = {0};
	struct proc_stat st;
	struct proc_status status;
	static const char *const bad[] = {
		"1000-2000 rw-p 0 0:0 0\n0-1000 rw-p 0 0:0 0\n", /* not ascending */
		"1000-1000 rw-p 0 0:0 0\n",
		"1001-2000 rw-p 0 0:0 0\n",
		"Rss: 4 kB\n",
		"1000-2000 rw-x 0 0:0 0\n",
		"1000-2000 rw-p 0 0:0",
		"\n",
		"1000-2000 rw-p 0 0:0 99999999999999999999\n",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(proc_vmas_parse(bad[i], strlen(bad[i]), &v), -EBADMSG);
	assert_int_equal(v.n, 0);
	assert_int_equal(proc_stat_parse("1 (a) S 2", 9, &st), -EBADMSG);
	assert_int_equal(proc_status_parse("State: R", 8, &status), -EBADMSG);
}

/* A file that is called "x (deleted)", one that is deleted, and one with a newline. */
static void test_resolve(void **state)
{
	static const struct {
		const char *name;
		bool unlink;
	} files[] = {
		{"a (deleted)", false}, {"b", true}, {"c\nd", false}, {"e\\012f (deleted)", true}};
	char top[] = "/tmp/test_proc.XXXXXX";
	_cleanup_close_ int dir = -1, root = open("/", O_PATH);
	struct proc_vmas maps;

	assert_non_null(mkdtemp(top));
	assert_int_equal(proc_open(-1, getpid(), 0, &dir, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *path = NULL;
		_cleanup_close_ int fd = -1;
		struct proc_vma *v;
		struct stat st;
		void *at;

		assert_true(asprintf(&path, "%s/%s", top, files[i].name) > 0);
		fd = open(path, O_RDWR | O_CREAT, 0600);
		assert_int_equal(ftruncate(fd, 4096), 0);
		at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
		if (files[i].unlink)
			unlink(path);
		assert_int_equal(proc_maps(dir, &maps, NULL), 0);
		v = (struct proc_vma *)proc_vmas_find(&maps, (uintptr_t)at);
		assert_int_equal(proc_vma_resolve(dir, root, v, &st, NULL), 0);
		assert_string_equal(v->path, path);
		assert_int_equal(v->is_deleted, files[i].unlink);
		proc_vmas_release(&maps);
		munmap(at, 4096);
		unlink(path);
	}
	rmdir(top);
}

static void test_self(void **state)
{
	_cleanup_close_ int dir = -1;
	struct proc_stat st;
	struct proc_status status;
	struct proc_vmas v;
	struct proc_fdinfo info;
	uint64_t ns;

	assert_int_equal(proc_open(-1, getpid(), 0, &dir, NULL), 0);
	assert_int_equal(proc_stat(dir, &st, NULL), 0);
	assert_int_equal(st.ppid, getppid());
	assert_int_equal(proc_status(dir, &status, NULL), 0);
	assert_int_equal(status.ppid, getppid());
	proc_status_release(&status);
	assert_int_equal(proc_smaps(dir, &v, NULL), 0);
	for (size_t i = 0; i < v.n; i++)
		assert_int_equal(v.vma[i].vm_flags & PVM_OTHER, 0);
	proc_vmas_release(&v);
	assert_int_equal(proc_fdinfo(dir, dir, &info, NULL), 0);
	assert_true(info.flags & O_DIRECTORY);
	proc_fdinfo_release(&info);
	assert_int_equal(proc_timerslack(-1, getpid(), &ns, NULL), 0);
	assert_int_equal(ns, 50000);
}

static void test_scan(void **state)
{
	const char *text = "18446744073709551616 -9223372036854775808 a\\040b";
	struct scan s = scan_of(text, strlen(text));
	char *name;
	uint64_t u;
	int64_t i;
	struct word w;

	assert_false(scan_u64(&s, 10, &u));
	assert_true(scan_word(&s, &w));
	scan_blanks(&s);
	assert_true(scan_i64(&s, &i));
	assert_true(i == INT64_MIN);
	scan_blanks(&s);
	assert_true(scan_word(&s, &w));
	name = word_unescape(w);
	assert_string_equal(name, "a b");
	free(name);
	assert_true(scan_is_end(&s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stat),	    cmocka_unit_test(test_status),
		cmocka_unit_test(test_comm),
		cmocka_unit_test(test_maps),	    cmocka_unit_test(test_fdinfo),
		cmocka_unit_test(test_fdinfo_kinds),
		cmocka_unit_test(test_lists),	    cmocka_unit_test(test_timers),
		cmocka_unit_test(test_netlink),
		cmocka_unit_test(test_small_files), cmocka_unit_test(test_auxv),
		cmocka_unit_test(test_gone),	    cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_resolve),	    cmocka_unit_test(test_self),
		cmocka_unit_test(test_scan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
