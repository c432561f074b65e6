# SPDX-License-Identifier: LGPL-2.1-or-later
"""A threaded server on a Unix socket and more clients than it can keep up with, which connect, ask twice and go: at any
moment connections wait to be accepted. Each reply is checked."""
import hashlib
import multiprocessing
import os
import socket
import socketserver
import threading

CLIENTS, CONNECTIONS, REQUESTS = 6, 400, 2


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(hashlib.sha256(line).hexdigest().encode() + b"\n")


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def client(number, results):
    digest = hashlib.sha256()
    for connection in range(CONNECTIONS):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect("socket")
            with s.makefile("rwb") as f:
                for i in range(REQUESTS):
                    line = b"%d %d %d\n" % (number, connection, i)
                    f.write(line)
                    f.flush()
                    reply = f.readline()
                    if reply != hashlib.sha256(line).hexdigest().encode() + b"\n":
                        results.put((number, f"wrong reply {reply!r} to {line!r}"))
                        return
                    digest.update(reply)
    results.put((number, digest.hexdigest()))


def main():
    results = multiprocessing.Queue()
    server = Server("socket", Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    clients = [multiprocessing.Process(target=client, args=(i, results)) for i in range(CLIENTS)]
    for c in clients:
        c.start()
    found = sorted(results.get() for _ in clients)
    for c in clients:
        c.join()
    with open("result", "w") as f:
        f.write("".join(f"{number} {text}\n" for number, text in found))
    os._exit(0)


main()
