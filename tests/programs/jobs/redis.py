# SPDX-License-Identifier: LGPL-2.1-or-later
"""redis-server with an append-only file, and clients on its Unix socket of which each knows what every reply must be.
At the end the server is started again from its file, and must hold what it held."""
import hashlib
import os
import socket
import subprocess
import sys
import time

import service

SOCKET = "redis.sock"
CONFIG = f"""
port 0
unixsocket {SOCKET}
daemonize no
save ""
appendonly yes
appendfsync everysec
auto-aof-rewrite-percentage 0
databases 1
"""


class Connection:
    """The protocol of redis, as far as it is needed here."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(SOCKET)
        self.file = self.socket.makefile("rb")

    def send(self, *commands):
        out = b""
        for command in commands:
            words = [w if isinstance(w, bytes) else str(w).encode() for w in command]
            out += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
        self.socket.sendall(out)

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError(f"the server hung up after {line!r}")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        return line[:-2]

    def ask(self, *command):
        self.send(command)
        return self.reply()


def expect(found, wanted, what):
    if found != wanted:
        raise ValueError(f"{what}: {found!r} instead of {wanted!r}")


def traffic(number, count):
    c = Connection()
    for i in range(count):
        if number == 0 and i == count // 2:  # a fork of the server, which writes the file anew
            expect(c.ask("BGREWRITEAOF"), b"+Background append only file rewriting started", "rewrite")
        key, value = f"{number}:{i % 97}", hashlib.sha256(b"%d %d" % (number, i)).hexdigest().encode() * (i % 20 + 1)
        c.send(("SET", key, value), ("GET", key), ("INCR", f"n{number}"), ("RPUSH", f"l{number}", i),
               ("APPEND", f"a{number}", "x"), ("LLEN", f"l{number}"))
        for what, wanted in (("set", b"+OK"), ("get", value), ("incr", i + 1), ("rpush", i + 1), ("append", i + 1),
                             ("llen", i + 1)):
            expect(c.reply(), wanted, f"client {number}, {what} {i}")


def start():
    server = subprocess.Popen(["redis-server", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    server.stdin.write(CONFIG.encode())
    server.stdin.close()
    while True:
        try:
            if Connection().ask("PING") == b"+PONG":
                return server
        except OSError:
            time.sleep(0.01)


def content():
    """A digest of all that the server holds."""
    c = Connection()
    digest = hashlib.sha256()
    for key in sorted(c.ask("KEYS", "*")):
        value = c.ask("LRANGE", key, 0, -1) if key.startswith(b"l") else c.ask("GET", key)
        digest.update(repr((key, value)).encode())
    return digest.hexdigest()


def stop(server):
    Connection().send(["SHUTDOWN"])
    if server.wait():
        raise ValueError(f"the server exits with {server.returncode}")


def main(clients, count):
    server = start()
    found = service.run_clients(traffic, clients, count)
    held = content()
    stop(server)
    again = start()
    reloaded = content()
    stop(again)
    with open("result", "w") as f:
        print(*found, held, "as in its file" if reloaded == held else "its file has something else", sep="\n", file=f)


main(int(sys.argv[1]), int(sys.argv[2]))
