# SPDX-License-Identifier: LGPL-2.1-or-later
"""One test in one process of its own: time limit, verdict, no process left behind."""
import os
import signal
import sys
import time
import traceback

import procs

PASS, FAIL, SKIP = 0, 1, 77


class Skip(Exception):
    pass


class Fail(Exception):
    pass


def patience():
    """How much longer all takes on a machine that others keep busy."""
    return max(1.0, os.getloadavg()[0] / (3 * len(os.sched_getaffinity(0))))


class Running:
    """A test that runs; poll() gives (status, message) once it has ended."""

    def __init__(self, test, directory, timeout):
        self.test, self.directory = test, directory
        self.started = time.monotonic()
        self.timeout = timeout * patience()
        self.deadline = self.started + self.timeout
        self.is_late = False
        self.pid = os.fork()
        if self.pid == 0:
            _run(test, directory)

    def poll(self):
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            return self._verdict(status)
        if time.monotonic() > self.deadline:
            os.kill(self.pid, signal.SIGKILL if self.is_late else signal.SIGTERM)
            self.is_late = True
            self.deadline += 15
        return None

    def _verdict(self, status):
        message = procs.read(os.path.join(self.directory, "message")).strip()
        if self.is_late:
            return FAIL, f"no end after {self.timeout:.0f} s; {message}"
        if os.WIFSIGNALED(status):
            return FAIL, f"the test itself ended by signal {os.WTERMSIG(status)}"
        return os.WEXITSTATUS(status), message


def _on_term(_signo, _frame):
    raise Fail("stopped")


def _run(test, directory):
    """Never returns."""
    status, message = FAIL, ""
    try:
        os.setsid()
        procs.become_subreaper()
        signal.signal(signal.SIGTERM, _on_term)
        null = os.open("/dev/null", os.O_RDWR)
        log = os.open(os.path.join(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for fd, to in ((null, 0), (log, 1), (log, 2)):
            os.dup2(fd, to)
        os.closerange(3, 4096)
        test.run(directory)
        status = PASS
    except Skip as e:
        status, message = SKIP, str(e)
    except Fail as e:
        message = str(e)
    except BaseException:
        message = traceback.format_exc()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not procs.kill_descendants() and status == PASS:
        status, message = FAIL, "processes that cannot be ended"
    with open(os.path.join(directory, "message"), "w", errors="surrogateescape") as f:
        f.write(message)
    sys.stdout.flush()
    os._exit(status)
