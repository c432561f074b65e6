# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every subject in every mode. A mode is a way to dump and restore it; see subjects/subject.h for
what a subject is and subjects/subjects.list for the table of them."""
import os
import secrets
import select
import subprocess

import cpx
import procs
from sandbox import FAIL, PASS, Fail, Skip

USER = 12345
SELF = os.path.dirname(os.path.abspath(__file__))
TABLE = os.path.join(SELF, "..", "subjects", "subjects.list")


class Entry:
    """A line of the table: name | what it shows | options, separated by semicolons."""

    def __init__(self, line):
        self.name, self.what, *rest = [part.strip() for part in line.split("|")]
        self.refused_modes, self.differs, self.max_image, self.timeout = {}, set(), None, 20
        self.alone = False
        for option in filter(None, (o.strip() for o in "".join(rest).split(";"))):
            self._option(option)

    def _option(self, option):
        word, _, value = option.partition(" ")
        if word == "not":
            modes, _, reason = value.partition(": ")
            for mode in modes.split():
                self.refused_modes[mode] = reason
        elif word == "differs":
            self.differs |= set(value.split())
        elif word == "max-image":
            self.max_image = int(value) << 20
        elif word == "timeout":
            self.timeout = int(value)
        elif word == "alone:":
            self.alone = True
        else:
            raise ValueError(f"{TABLE}: unknown option {option!r} of {self.name}")


def table():
    with open(TABLE) as f:
        return [Entry(line) for line in f if line.strip() and not line.startswith("#")]


class Subject:
    """One subject that runs: first as a child of the test, later as restored by cpx."""

    def __init__(self, entry, directory, program):
        self.entry, self.directory = entry, directory
        self.image = os.path.join(directory, "image.cpx")
        self.state = os.path.join(directory, "state")
        self.foreground = None  # a restore that waits for the tree
        os.mkdir(self.state)
        null = subprocess.DEVNULL
        self.process = subprocess.Popen([program, self.state], stdin=null, stdout=null, stderr=null,
                                        cwd=self.state, start_new_session=True)
        self.pid = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)
        self._await_ready()
        self.before = procs.stable_snapshot(self.pid)

    def _has(self, name):
        return os.path.exists(os.path.join(self.state, name))

    def _await_ready(self):
        if not procs.wait_until(lambda: self._has("ready") or self._has("result"), 20):
            raise Fail("the subject does not get ready")
        if self._has("result"):
            self.verdict(nonce="-")

    def is_ended(self):
        return bool(select.select([self.pidfd], [], [], 0)[0])

    def check_killed(self):
        """What comes next is the work of restore."""
        if not select.select([self.pidfd], [], [], 3)[0]:
            raise Fail("dump --kill has left the target running")

    def check_gone(self):
        self.check_killed()
        cpx.reap_dead_tree(self.pid)

    def adopt(self, pid):
        """The restored root as seen from here, which must not be what was dumped."""
        if pid == os.getpid() or not os.path.exists(f"/proc/{pid}"):
            raise Fail(f"the restored root {pid} does not exist")
        self.pid, self.pidfd = pid, os.pidfd_open(pid)

    def compare(self, ignore=()):
        ignored = set(ignore) | self.entry.differs

        def differences():
            return procs.differences(self.before, procs.snapshot(self.pid), ignore=ignored)

        if not procs.wait_until(lambda: not differences(), 0.3):
            shown = "\n  ".join(line[:400] for line in differences()[:25])
            raise Fail(f"differs from outside:\n  {shown}")

    def finish(self):
        """Tells it to verify, takes its verdict and sees it end with everything that it made."""
        nonce = secrets.token_hex(8)
        part = os.path.join(self.state, "go.part")
        with open(part, "w") as f:
            f.write(nonce)
        os.rename(part, os.path.join(self.state, "go"))
        if not procs.wait_until(lambda: self._has("result"), 20):
            raise Fail("no verdict" + (": the subject is dead" if self.is_ended() else ""))
        self.verdict(nonce)
        if not select.select([self.pidfd], [], [], 10)[0]:
            raise Fail("the subject does not end")
        if self.foreground and self.foreground.wait(10):
            raise Fail(f"restore in the foreground: exit {self.foreground.returncode}, not 0")
        if not procs.wait_until(lambda: not self._others(), 5):
            raise Fail(f"processes are left: {self._others()}")

    def _others(self):
        procs.reap()
        return [p for p in procs.tree(os.getpid())[1:] if procs.is_alive(p)]

    def verdict(self, nonce):
        text = procs.read(os.path.join(self.state, "result"))
        word, got, reason = (text.strip("\n").split(" ", 2) + ["", ""])[:3]
        if word == "skip":
            raise Skip(reason)
        if word != "pass":
            raise Fail(f"subject: {reason}")
        if got != nonce:
            raise Fail(f"verdict {got}, not for this run ({nonce})")


# ---- modes -------------------------------------------------------------------------------------

def mode_undisturbed(s):
    """The subject alone: it must hold without cpx what it holds with it."""


def mode_continue(s):
    cpx.dump(s.pid, s.image, "--compress=none")
    if s.is_ended():
        raise Fail("the target ended during the dump")
    s.compare()
    cpx.run("verify", s.image)
    size = os.path.getsize(s.image)
    if s.entry.max_image and size > s.entry.max_image:
        raise Fail(f"the image has {size} bytes, more than {s.entry.max_image}")


def _dump_kill_restore(s, dump_options=(), restore_options=(), ignore=()):
    cpx.dump(s.pid, s.image, "--kill", *dump_options)
    s.check_gone()
    s.adopt(cpx.restore_detached(s.image, *restore_options))
    s.compare(ignore)


def mode_restore(s):
    _dump_kill_restore(s)


def mode_twice(s):
    _dump_kill_restore(s, ["--compress=lz4"])
    os.rename(s.image, s.image + ".first")
    _dump_kill_restore(s, ["--compress=none"])


def mode_newns(s):
    _dump_kill_restore(s, ["--compress=zstd"], ["--pid=new"])


LAZY = ("mem_", "thread_", "tree_", "sleep_", "sig_")  # whose subjects have a mode lazy


def mode_lazy(s):
    """It runs, and verifies, while memory is still being filled."""
    _dump_kill_restore(s, ["--compress=lz4"], ["--lazy"])


def mode_pipe(s):
    """Through a pipe into a restore in the foreground, which takes over the exit status."""
    pidfile = os.path.join(s.directory, "pid")
    dump = subprocess.Popen([cpx.path(), "dump", str(s.pid), "--kill", "-o", "-"],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    restore = subprocess.Popen([cpx.path(), "restore", "-", "--pidfile", pidfile], stdin=dump.stdout)
    dump.stdout.close()
    if dump.wait(cpx.TIMEOUT):
        raise Fail(f"dump -o -: exit {dump.returncode}: {log_tail(s)}")
    s.check_killed()
    s.process.wait()  # not any child: the restore is one too
    if not procs.wait_until(lambda: procs.read(pidfile).strip() or restore.poll() is not None, 20):
        raise Fail("restore - wrote no pidfile")
    if restore.returncode is not None:
        raise Fail(f"restore -: exit {restore.returncode}: {log_tail(s)}")
    s.adopt(int(procs.read(pidfile)))
    s.compare()
    s.foreground = restore


def log_tail(s):
    return " / ".join(procs.read(os.path.join(s.directory, "log")).strip().splitlines()[-5:])


# In a user namespace of its own the tree has other capabilities, in it and out of it.
USER_DIFFERS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def mode_user(s):
    _dump_kill_restore(s, ignore=USER_DIFFERS)


def mode_usertwice(s):
    _dump_kill_restore(s, ignore=USER_DIFFERS)
    os.rename(s.image, s.image + ".first")
    _dump_kill_restore(s, ignore=USER_DIFFERS)


MODES = {name[5:]: f for name, f in globals().items() if name.startswith("mode_")}


def drop_privileges():
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)


class SubjectTest:
    def __init__(self, entry, mode, program):
        self.entry, self.mode, self.program = entry, mode, program
        self.name = f"subjects/{entry.name}/{mode}"
        self.timeout, self.alone = entry.timeout, entry.alone
        self.is_user = mode.startswith("user")
        self.owner = USER if self.is_user else None

    def run(self, directory):
        self._skip_if_impossible()
        if self.is_user:
            drop_privileges()
        try:
            s = Subject(self.entry, directory, self.program)
            MODES[self.mode](s)
            s.finish()
        finally:
            procs.remove_left(os.path.join(directory, "state", "left"))

    def _skip_if_impossible(self):
        refused = self.entry.refused_modes
        if self.mode in refused:
            raise Skip(refused[self.mode])
        if self.is_user and "user" in refused:
            raise Skip(refused["user"])
        if os.geteuid() and self.mode == "lazy":
            raise Skip("only root may restore lazily")
        if os.geteuid() and "user" in refused:
            raise Skip(refused["user"])


def tests(programs):
    return [SubjectTest(e, mode, os.path.join(programs, e.name)) for e in table() for mode in MODES
            if mode != "lazy" or e.name.startswith(LAZY)]
