# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes: what they look like from outside, and how a test gets rid of all of its own."""
import ctypes
import os
import re
import signal
import time

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def read(path, default=""):
    try:
        with open(path, errors="surrogateescape") as f:
            return f.read()
    except OSError:
        return default


def children(pid):
    """PIDs of the children of all threads of a task."""
    found = []
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for tid in tids:
        found += [int(c) for c in read(f"/proc/{pid}/task/{tid}/children").split()]
    return found


def tree(pid):
    """A task and all of its descendants, parents first."""
    pids = [pid]
    for p in pids:
        pids += children(p)
    return pids


def state(pid):
    """The letter of /proc/PID/stat, "" if there is no such task."""
    stat = read(f"/proc/{pid}/stat")
    return stat[stat.rindex(")") + 2] if stat else ""


def is_alive(pid):
    return state(pid) not in ("", "Z", "X")


def is_watched(pid):
    """A userfaultfd write-protects some of its memory."""
    return " uw" in read(f"/proc/{pid}/smaps")


def start_time(pid):
    stat = read(f"/proc/{pid}/stat")
    return stat[stat.rindex(")"):].split()[20] if stat else ""


def reap():
    """Waits for whatever has ended; returns whether there are children left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    except ChildProcessError:
        return False


def kill_descendants(limit=10.0):
    """Ends every descendant of the calling process, by PID. It must be a subreaper."""
    end = time.monotonic() + limit
    while reap():
        for pid in tree(os.getpid())[1:]:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


def wait_until(condition, timeout, interval=0.003):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(interval)
    return True


def remove_sysv(control, number):
    control(int(number), 0, 0)  # IPC_RMID


def remove_file(path):
    if os.path.exists(path):
        os.unlink(path)


REMOVE = {"sem": lambda n: remove_sysv(libc.semctl, n), "msg": lambda n: remove_sysv(libc.msgctl, n),
          "shm": lambda n: remove_sysv(libc.shmctl, n), "file": remove_file,
          "mq": lambda name: libc.mq_unlink(b"/" + name.encode())}


def remove_left(path):
    """What a subject has noted as its own and stays where all processes have ended."""
    for line in read(path).splitlines():
        kind, what = line.split()
        REMOVE[kind](what)


# ---- what a dump must not change and a restore must bring back ---------------------------------

STATUS = ("Name", "Umask", "TracerPid", "Uid", "Gid", "Groups", "Threads", "SigPnd", "ShdPnd",
          "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
          "NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed", "VmLck", "THP_enabled")
FDINFO = ("pos", "flags", "lock", "seals")
O_LARGEFILE = 0o100000  # means nothing on 64-bit machines, and open(2) always sets it


def _fields(text, wanted):
    """"key: value" lines; repeated keys are joined."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key in wanted:
            found[key] = (found[key] + "|" if key in found else "") + " ".join(value.split())
    return found


def _maps(pid):
    """Mappings joined where neighbours differ in nothing but their range; the stack grows by itself, so
    only where it ends counts."""
    out = []
    for line in read(f"/proc/{pid}/maps").splitlines():
        m = re.match(r"(\w+)-(\w+) (\S+) (\w+) \S+ \d+ *(.*)", line)
        start, end = int(m[1], 16), int(m[2], 16)
        what = re.sub(r"^\[(vvar\w*|vdso)\]$", "[vdso]", m[5])
        key = (m[3] if what != "[vdso]" else "", what)
        if out and out[-1][1] == start and out[-1][2] == key:
            out[-1][1] = end
        else:
            out.append([start, end, key])
    return {("" if k[1] == "[stack]" else f"{s:x}") + f"-{e:x}": " ".join(k) for s, e, k in out}


def _fds(pid):
    found = {}
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return found
    for fd in names:
        try:
            link = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        found[int(fd)] = {"is": re.sub(r":\[\d+\]", "", link), **_fdinfo(pid, fd)}
    return found


def _fdinfo(pid, fd):
    info = _fields(read(f"/proc/{pid}/fdinfo/{fd}"), FDINFO)
    if "flags" in info:
        info["flags"] = oct(int(info["flags"], 8) & ~O_LARGEFILE)
    if "lock" in info:  # without its number and the owner's PID, which is another one from outside
        info["lock"] = re.sub(r"(?:^|(?<=\|))\d+: (\S+ \S+ \S+) \S+", r"\1", info["lock"])
        info["lock"] = re.sub(r"(POSIX +\w+ +\w+) (\d+)", lambda m: f"{m[1]} {inner_pid(m[2])}", info["lock"])
    return info


def inner_pid(pid):
    """As the process itself sees it."""
    try:
        return read(f"/proc/{pid}/status").split("NSpid:")[1].splitlines()[0].split()[-1]
    except (OSError, IndexError):
        return pid


def _task(pid):
    if state(pid) == "Z" and len(os.listdir(f"/proc/{pid}/task")) == 1:
        return {"zombie": True}
    threads = {}
    for tid in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
        status = read(f"/proc/{pid}/task/{tid}/status")
        ids = ("State", "NSpid", "NSpgid", "NSsid")
        is_over = state(f"{pid}/task/{tid}") == "Z"
        kept = _fields(status, ids if is_over else STATUS + ids)
        kept["State"] = "T" if kept.get("State", "").startswith("T") else \
            "Z" if kept.get("State", "").startswith("Z") else "alive"
        for key in ("NSpid", "NSpgid", "NSsid"):  # as seen inside
            kept[key] = kept.get(key, "").split(" ")[-1]
        threads[kept["NSpid"]] = kept
    return {"threads": threads, "maps": _maps(pid), "fds": _fds(pid),
            "cwd": _link(f"/proc/{pid}/cwd"), "exe": _link(f"/proc/{pid}/exe"),
            "limits": read(f"/proc/{pid}/limits"), "cmdline": read(f"/proc/{pid}/cmdline"),
            "personality": read(f"/proc/{pid}/personality"),
            "oom": read(f"/proc/{pid}/oom_score_adj")}


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


def snapshot(root):
    """What is seen from outside of a whole tree, under the PIDs that it sees itself."""
    seen = {}
    for pid in tree(root):
        try:
            task = _task(pid)
        except OSError:
            continue
        task["nchildren"] = len(children(pid))
        seen[inner_pid(pid)] = task
    return seen


def stable_snapshot(root, tries=40, ignore=()):
    """Of a tree that is still coming to rest, or has something open for a moment."""
    last = snapshot(root)
    for _ in range(tries):
        time.sleep(0.015)
        now = snapshot(root)
        if not differences(last, now, ignore=ignore):
            break
        last = now
    return last


def differences(before, after, where="", ignore=()):
    """Paths of everything that differs, as lines of text."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for key in sorted(set(before) | set(after), key=str):
            if key in ignore:
                continue
            lines += differences(before.get(key, "(nothing)"), after.get(key, "(nothing)"),
                                 f"{where}/{key}", ignore)
        return lines
    if before == after:
        return []
    return [f"{where}: {before!r} became {after!r}"]
