# SPDX-License-Identifier: LGPL-2.1-or-later
"""PostgreSQL on a Unix socket, pgbench with several clients, and a look at the books when they are through. Without
arguments: makes the database. It does not run as root, nor as a user without a name."""
import os
import pathlib
import subprocess
import sys
import time

from service import IS_ROOT, own, stop

HERE = os.getcwd()
BIN = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name),
          default=pathlib.Path("/usr/bin"))
AS_NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
WITH_A_NAME = ["unshare", "--user", "--map-user=nobody"]
CONNECT = ["-h", HERE, "-U", "cpx"]

CHECK = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history),
       (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history),
       (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history),
       (SELECT count(*) FROM pgbench_history),
       (SELECT md5(string_agg(aid || ':' || abalance, ',' ORDER BY aid)) FROM pgbench_accounts);
"""


def command(program, *args):
    return [*(AS_NOBODY if IS_ROOT else []), BIN / program, *args]


def run(program, *args):
    return subprocess.run(command(program, *args), check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).stdout.decode()


def start():
    server = subprocess.Popen(command("postgres", "-D", "data", "-k", HERE, "-c", "listen_addresses=",
                                      "-c", "shared_buffers=16MB", "-c", "max_connections=20"),
                              stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while subprocess.run([BIN / "pg_isready", "-q", *CONNECT, "-d", "postgres"]).returncode:
        time.sleep(0.02)
        if server.poll() is not None:
            sys.exit(f"the server ends with {server.returncode}")
    return server


def prepare():
    os.mkdir("data")
    own()
    initdb = command("initdb", "-D", "data", "-U", "cpx", "--no-sync", "-A", "trust")
    subprocess.run(initdb if IS_ROOT else WITH_A_NAME + initdb, check=True, stdout=subprocess.DEVNULL)
    server = start()
    run("createdb", *CONNECT, "bench")
    run("pgbench", *CONNECT, "-i", "-q", "bench")
    stop(server)


def work(clients, transactions):
    own()
    server = start()
    said = run("pgbench", *CONNECT, "-n", "-c", str(clients), "-j", "2", "-t", str(transactions), "--random-seed=7",
               "bench")
    books = run("psql", *CONNECT, "-X", "-A", "-t", "-c", CHECK, "bench")
    stop(server)
    with open("result", "w") as f:
        f.writelines(line + "\n" for line in said.splitlines() if line.startswith("number of"))
        f.write(books)


if len(sys.argv) > 1:
    work(int(sys.argv[1]), int(sys.argv[2]))
else:
    prepare()
