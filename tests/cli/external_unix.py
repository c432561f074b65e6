#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 60
"""Unix sockets connected to a process outside of the tree: refused by name, or with --external-unix connected again."""
import os
import socket
import subprocess
import sys
import time

import cpx
import procs
from sandbox import Fail

KIND = {"stream": socket.SOCK_STREAM, "packet": socket.SOCK_SEQPACKET, "datagram": socket.SOCK_DGRAM}

# Connects to each name that it is given and says its number there, at every SIGUSR1 once more; then the answer goes to a file.
TARGET = r"""
import os, signal, socket, sys
kind, names = int(sys.argv[1]), sys.argv[2:]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
sockets = []
for i, name in enumerate(names):
    s = socket.socket(socket.AF_UNIX, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, (99).to_bytes(8, "little") + bytes(8))
    s.connect(name.replace("@", "\0"))
    sockets.append(s)
open("ready", "w").close()
n = 0
while True:
    signal.sigwait([signal.SIGUSR1])
    n += 1
    for i, s in enumerate(sockets):
        s.send(b"%d/%d of %d" % (i, n, os.getpid()))
        if kind != socket.SOCK_DGRAM:
            open(f"answer{i}", "wb").write(s.recv(100))
"""


def expect(got, wanted, what):
    if got != wanted:
        raise Fail(f"{what}: {got!r}, not {wanted!r}")


def listener(name, kind):
    s = socket.socket(socket.AF_UNIX, KIND[kind])
    s.settimeout(10)
    s.bind(name.replace("@", "\0"))
    if kind != "datagram":
        s.listen()
    return s


def start(*args, program=TARGET, **kw):
    if os.path.exists("ready"):
        os.unlink("ready")
    null = subprocess.DEVNULL
    p = subprocess.Popen([sys.executable, "-c", program, *args], stdin=null, stdout=null, stderr=null, **kw)
    if not procs.wait_until(lambda: os.path.exists("ready"), 10):
        raise Fail("the target does not get ready")
    return p


def refused(*args, says):
    p = subprocess.run([cpx.path(), *args], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    text = p.stderr.decode()
    if p.returncode != 3 or not all(part in text for part in says):
        raise Fail(f"cpx {' '.join(args)}: exit {p.returncode}, not 3 with {says}: {text}")


def serve(pid, servers, kind, n, inside):
    """One request by each connection, answered."""
    os.kill(pid, 10)
    ends = servers if kind == "datagram" else [s.accept()[0] for s in servers] if n == 0 else servers
    for i, s in enumerate(ends):
        s.settimeout(10)
        expect(s.recv(100).decode(), f"{i}/{max(n, 1)} of {inside}", f"{kind} {i}")
        if kind != "datagram":
            s.send(b"answer %d" % i)
            if not procs.wait_until(lambda: procs.read(f"answer{i}") == f"answer {i}", 10):
                raise Fail(f"{kind} {i}: no answer")
            os.unlink(f"answer{i}")
    return ends


def credentials(s):
    return int.from_bytes(s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], "little")


def round_trip(kind, *restore_options):
    names = os.path.abspath(kind), f"@cpx-test-{os.getpid()}-{kind}"
    servers = [listener(name, kind) for name in names]
    me = f"process {os.getpid()} ({procs.read('/proc/self/comm').strip()})"
    p = start(str(int(KIND[kind])), *names)
    ends = serve(p.pid, servers, kind, 0, p.pid)
    refused("dump", str(p.pid), "-o", "no", says=[me, "--external-unix"])
    cpx.run("check", str(p.pid), "--external-unix")
    cpx.dump(p.pid, "image", "--external-unix")
    ends = serve(p.pid, ends, kind, 2, p.pid)
    p.kill()
    p.wait()
    if cpx.run("info", "image").count("connected again") != 2:
        raise Fail("info does not tell")
    pid = int(cpx.run("restore", "image", "-d", *restore_options))
    if kind != "datagram":
        ends = [s.accept()[0] for s in servers]
        if os.geteuid() == 0 and not restore_options:
            expect([credentials(s) for s in ends], [pid, pid], "SO_PEERCRED")
    serve(pid, ends, kind, 2, p.pid)
    os.kill(pid, 9)
    cpx.reap_dead_tree(pid)
    for s in servers:
        s.close()
    refused("restore", "image", "-d", *restore_options, says=[names[0], names[1], "nobody that we may connect to listens"])
    os.unlink(names[0])
    refused("restore", "image", "-d", *restore_options, says=["fd 3 (Unix socket)", "fd 4 (Unix socket)"])


def check_refused():
    """What cannot be made again: a server's end, an end of a pair, what is unread or half closed."""
    server = listener(os.path.abspath("refused"), "stream")
    p = start(str(int(KIND["stream"])), os.path.abspath("refused"))
    end = server.accept()[0]
    end.send(b"unread")
    refused("dump", str(p.pid), "-o", "no", "--external-unix", says=["fd 3 (Unix socket)", "not received yet", str(os.getpid())])
    os.kill(p.pid, 10)
    procs.wait_until(lambda: procs.read("answer0") == "unread", 10)
    refused("dump", str(p.pid), "-o", "no", "--external-unix", says=["fd 3 (Unix socket)", "has not received yet"])
    end.recv(100)
    end.shutdown(socket.SHUT_WR)
    refused("dump", str(p.pid), "-o", "no", "--external-unix", says=["fd 3 (Unix socket)", "shut down"])
    p.kill()
    p.wait()
    server.close()
    a, b = socket.socketpair()
    p = start(program="open('ready', 'w'); import time; time.sleep(99)", pass_fds=[b.fileno()])
    b_number = b.fileno()
    b.close()
    refused("dump", str(p.pid), "-o", "no", "--external-unix", says=[f"fd {b_number} (Unix socket)", "no name", str(os.getpid())])
    p.kill()
    p.wait()
    a.close()


SERVER = r"""
import socket, time
s = socket.socket(socket.AF_UNIX)
s.bind("served")
s.listen()
open("ready", "w").close()
end = s.accept()[0]
open("accepted", "w").close()
time.sleep(99)
"""


def check_server():
    p = start(program=SERVER)
    s = socket.socket(socket.AF_UNIX)
    s.connect("served")
    procs.wait_until(lambda: os.path.exists("accepted"), 10)
    refused("dump", str(p.pid), "-o", "no", "--external-unix", says=["no name", str(os.getpid())])
    p.kill()
    p.wait()


def main():
    os.chdir(os.environ["DIR"])
    procs.become_subreaper()
    for step in (lambda: round_trip("stream"), lambda: round_trip("packet", "--pid=new"), lambda: round_trip("datagram"),
                 check_refused, check_server):
        started = time.monotonic()
        step()
        print(f"{time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
