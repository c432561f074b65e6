# SPDX-License-Identifier: LGPL-2.1-or-later
"""nginx with two workers on a Unix socket, and clients that keep their one connection alive throughout."""
import hashlib
import os
import socket
import subprocess
import sys
import time

import service

SOCKET = "nginx.sock"
SIZES = (0, 1, 700, 20_000, 300_000)
CONFIG = f"""
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr;
{"user nobody nogroup;" if service.IS_ROOT else ""}
events {{ worker_connections 64; }}
http {{
	access_log access.log;
	keepalive_requests 1000000;
	sendfile on;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {{
		listen unix:{SOCKET};
		root files;
	}}
}}
"""


def body(size):
    return (hashlib.sha256(b"%d" % size).hexdigest().encode() * (size // 64 + 1))[:size]


class Connection:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(SOCKET)
        self.file = self.socket.makefile("rb")

    def get(self, path):
        """Status, body. EOFError if the server has hung up."""
        self.socket.sendall(b"GET %s HTTP/1.1\r\nHost: cpx\r\n\r\n" % path.encode())
        status = self.file.readline().split()
        length = 0
        while (line := self.file.readline()) != b"\r\n":
            if not line:
                raise EOFError(f"the server hung up in the answer to {path}")
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        return int(status[1]), self.file.read(length)


def traffic(number, count):
    c = Connection()
    for i in range(count):
        size = SIZES[(i + number) % len(SIZES)]
        if c.get(f"/{size}") != (200, body(size)):
            raise ValueError(f"wrong answer {i}")
        if i % 7 == 0 and c.get("/nothing")[0] != 404:
            raise ValueError(f"wrong answer {i} to what is not there")


def start():
    os.mkdir("files")
    for size in SIZES:
        with open(f"files/{size}", "wb") as f:
            f.write(body(size))
    with open("nginx.conf", "w") as f:
        f.write(CONFIG)
    server = subprocess.Popen(["nginx", "-p", os.getcwd() + "/", "-c", "nginx.conf", "-e", "stderr"])
    while True:
        try:
            Connection()
            return server
        except OSError:
            time.sleep(0.01)


def main(clients, count):
    os.chmod(".", 0o755)
    server = start()
    found = service.run_clients(traffic, clients, count)
    server.send_signal(3)  # SIGQUIT: gracefully
    with open("access.log") as f:
        lines = sum(" 200 " in line for line in f)
    with open("result", "w") as f:
        print(*found, f"{lines} answers", f"the server exits with {server.wait()}", sep="\n", file=f)


main(int(sys.argv[1]), int(sys.argv[2]))
