/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* src/res/lsm.c, on /proc trees as machines with AppArmor and with SELinux show them. */
#include "attr_case.h"

enum { TID = 77777, SET_SELF_ATTR = 460, SELINUX = 101, APPARMOR = 104 };
enum { CURRENT = 100, EXEC = 101, FSCREATE = 102 };

struct stage {
	char root[64];
	int fd;
	struct refusals refusals;
	struct dump_ctx dump;
	struct restore_ctx restore;
	struct tracee_thread thread;
	struct tracee tracee;
	Cpx__Task *task;
	Cpx__Thread *th;
};

static void begin(struct stage *s)
{
	memset(s, 0, sizeof(*s));
	strcpy(s->root, "/tmp/cpx-lsm-XXXXXX");
	assert_non_null(mkdtemp(s->root));
	s->fd = open(s->root, O_PATH | O_DIRECTORY);
	s->thread.tid = TID;
	s->tracee = (struct tracee){.pid = TID, .thread = &s->thread, .nthreads = 1, .comm = "labelled"};
	s->dump = (struct dump_ctx){.proc_fd = s->fd, .refusals = &s->refusals};
	s->restore = (struct restore_ctx){.proc_fd = s->fd, .refusals = &s->refusals};
	s->task = MSG_NEW(Cpx__Task, cpx__task__init);
	s->th = MSG_NEW(Cpx__Thread, cpx__thread__init);
	s->task->pid = s->th->tid = TID;
}

static void end(struct stage *s)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", s->root);
	assert_int_equal(system(command), 0);
	close(s->fd);
	attrs_dump_release(&s->dump);
	refusals_release(&s->refusals);
	cpx__task__free_unpacked(s->task, NULL);
	cpx__thread__free_unpacked(s->th, NULL);
}

/* file: below attr/. */
static void label(struct stage *s, pid_t pid, const char *file, const char *text)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%d/attr/%s", s->root, pid, file);
	for (char *slash = strchr(path + strlen(s->root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void read_labels(struct stage *s)
{
	struct err err = ERR_INIT;

	assert_int_equal(lsm_attr_ops.read(&s->dump, &s->tracee, &s->thread, s->task, s->th, &err), 0);
}

static void assert_label(const struct stage *s, size_t i, uint64_t module, uint64_t attribute, const char *text)
{
	const Cpx__LsmLabel *l = s->th->lsm[i];

	assert_int_equal(l->module, module);
	assert_int_equal(l->attribute, attribute);
	assert_int_equal(l->label.len, strlen(text));
	assert_memory_equal(l->label.data, text, l->label.len);
}

static void check(struct stage *s)
{
	struct err err = ERR_INIT;

	assert_int_equal(lsm_attr_ops.check(&s->restore, s->task, s->th, &err), 0);
}

/* The calls of the last stage; ret: the argument of the last. */
static unsigned give(struct stage *s, char *ret, size_t size)
{
	static uint8_t data[16384];
	struct call call[16] = {0};
	struct batch b = {.call = call, .max = 16, .data = data, .remote_data = 0x10000, .size = sizeof(data)};
	uint64_t scratch[16] = {0};
	struct err err = ERR_INIT;

	assert_int_equal(lsm_attr_ops.give(&s->restore, GIVE_LATE, s->task, s->th, &b, scratch, &err), 0);
	assert_false(b.overflow);
	for (unsigned i = 0; i < b.n; i++) {
		const uint64_t *ctx = batch_local(&b, call[i].arg[1]);

		assert_int_equal(call[i].nr, SET_SELF_ATTR);
		assert_int_equal(ctx[2], call[i].arg[2]);
		snprintf(ret, size, "%s", (const char *)&ctx[4]);
		assert_int_equal(ctx[3], strlen(ret) + 1);
	}
	return b.n;
}

static void test_apparmor(void **state)
{
	struct stage s;
	char text[256];

	begin(&s);
	label(&s, getpid(), "apparmor/current", "unconfined\n");
	label(&s, getpid(), "current", "unconfined\n");
	label(&s, TID, "apparmor/current", "docker-default (enforce)\n");
	label(&s, TID, "current", "docker-default (enforce)\n");
	read_labels(&s);
	assert_int_equal(s.th->n_lsm, 1);
	assert_label(&s, 0, APPARMOR, CURRENT, "docker-default (enforce)");
	assert_int_equal(give(&s, text, sizeof(text)), 1);
	assert_string_equal(text, "changeprofile docker-default");
	end(&s);
}

/* What cpx has itself needs no call. */
static void test_same(void **state)
{
	struct stage s;
	char text[256];

	begin(&s);
	label(&s, getpid(), "apparmor/current", "site (complain)\n");
	label(&s, TID, "apparmor/current", "site (complain)\n");
	read_labels(&s);
	assert_int_equal(s.th->n_lsm, 1);
	check(&s);
	assert_int_equal(s.refusals.n, 0);
	assert_int_equal(give(&s, text, sizeof(text)), 0);
	end(&s);
}

static void test_selinux(void **state)
{
	struct stage s;
	char text[256];

	begin(&s);
	label(&s, getpid(), "current", "unconfined_u:unconfined_r:unconfined_t:s0");
	label(&s, TID, "current", "system_u:system_r:httpd_t:s0");
	label(&s, TID, "fscreate", "system_u:object_r:httpd_log_t:s0");
	label(&s, TID, "exec", "");
	read_labels(&s);
	assert_int_equal(s.th->n_lsm, 2);
	assert_label(&s, 0, SELINUX, FSCREATE, "system_u:object_r:httpd_log_t:s0");
	assert_label(&s, 1, SELINUX, CURRENT, "system_u:system_r:httpd_t:s0");
	assert_int_equal(give(&s, text, sizeof(text)), 2);
	assert_string_equal(text, "system_u:system_r:httpd_t:s0");
	end(&s);
}

/* A machine without the module: refused, unless it meant nothing. */
static void test_elsewhere(void **state)
{
	static const struct {
		const char *file, *label;
		bool is_refused;
	} cases[] = {
		{"apparmor/current", "docker-default (enforce)\n", true},
		{"apparmor/current", "unconfined\n", false},
		{"current", "system_u:system_r:httpd_t:s0", true},
		{"current", "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023", false},
		{"smack/current", "_", false},
		{"smack/current", "Web", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct stage s;
		char text[256];

		begin(&s);
		label(&s, getpid(), cases[i].file, cases[i].label);
		label(&s, TID, cases[i].file, cases[i].label);
		read_labels(&s);
		assert_int_equal(s.th->n_lsm, 1);
		s.restore.proc_fd = open(s.root, O_PATH); /* nothing of ours there */
		label(&s, getpid(), cases[i].file, "");
		check(&s);
		assert_int_equal(s.refusals.n, cases[i].is_refused);
		if (cases[i].is_refused)
			assert_true(is_refused(&s.refusals, "security label", "not active on this machine"));
		assert_int_equal(give(&s, text, sizeof(text)), 0);
		close(s.restore.proc_fd);
		end(&s);
	}
}

/* Nothing is read where cpx itself has no label. */
static void test_none(void **state)
{
	struct stage s;

	begin(&s);
	label(&s, getpid(), "current", "");
	label(&s, TID, "current", "anything");
	read_labels(&s);
	assert_int_equal(s.th->n_lsm, 0);
	end(&s);
}

static void test_unknown(void **state)
{
	struct stage s;

	begin(&s);
	label(&s, getpid(), "current", "us");
	label(&s, TID, "current", "them");
	read_labels(&s);
	s.th->lsm[0]->module = 4711;
	check(&s);
	assert_true(is_refused(&s.refusals, "security label", "does not know"));
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_apparmor),  cmocka_unit_test(test_same), cmocka_unit_test(test_selinux),
		cmocka_unit_test(test_elsewhere), cmocka_unit_test(test_none), cmocka_unit_test(test_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
