# SPDX-License-Identifier: LGPL-2.1-or-later
"""MariaDB, which reads and writes its tables by io_uring where the kernel lets it, on a Unix socket, with clients
that move money about; the books are looked at when they are through. Without arguments: makes the database."""
import os
import subprocess
import sys
import time

from service import IS_ROOT, own, stop

HERE = os.getcwd()
ACCOUNTS = 50
SERVER = ["mariadbd", "--no-defaults", f"--datadir={HERE}/data", f"--socket={HERE}/my.sock", "--skip-networking",
          "--skip-grant-tables", f"--pid-file={HERE}/mariadb.pid", "--innodb-buffer-pool-size=8M", "--innodb-flush-method=O_DIRECT",
          *(["--user=nobody"] if IS_ROOT else [])]
CLIENT = ["mariadb", "--no-defaults", f"--socket={HERE}/my.sock", "-N", "-B"]

TABLES = f"""
CREATE DATABASE bank;
USE bank;
CREATE TABLE account(id INT PRIMARY KEY, balance INT NOT NULL, filler TEXT) ENGINE=InnoDB;
CREATE TABLE history(client INT, step INT, amount INT, filler TEXT, PRIMARY KEY(client, step)) ENGINE=InnoDB;
INSERT INTO account SELECT seq, 0, REPEAT('x', 3000) FROM seq_1_to_{ACCOUNTS};
"""
BOOKS = """
CHECK TABLE account, history;
SELECT (SELECT SUM(balance) FROM account) = (SELECT SUM(amount) FROM history);
SELECT COUNT(*), SUM(amount), SUM(LENGTH(filler)) FROM history;
SELECT MD5(GROUP_CONCAT(id, ':', balance ORDER BY id)) FROM account;
"""


def sql(text, database="bank"):
    return subprocess.run([*CLIENT, *([database] if database else [])], input=text, check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def start():
    server = subprocess.Popen(SERVER, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while subprocess.run([*CLIENT, "-e", "SELECT 1"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL).returncode:
        time.sleep(0.05)
        if server.poll() is not None:
            sys.exit(f"the server ends with {server.returncode}")
    return server


def prepare():
    own()
    subprocess.run(["mariadb-install-db", "--no-defaults", f"--datadir={HERE}/data", "--skip-test-db",
                    "--auth-root-authentication-method=normal", *(["--user=nobody"] if IS_ROOT else [])],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = start()
    sql(TABLES, "")
    stop(server)


def transfers(client, count):
    """Each says what it has done, so that a lost reply shows."""
    for i in range(count):
        amount, account = (i * 37 + client * 11) % 1000 - 300, (i * 7 + client) % ACCOUNTS + 1
        yield f"""START TRANSACTION;
INSERT INTO history VALUES({client}, {i}, {amount}, REPEAT('{i % 10}', 2000));
UPDATE account SET balance = balance + {amount} WHERE id = {account};
COMMIT;
SELECT step, amount FROM history WHERE client = {client} AND step = {i};
"""


def work(clients, count):
    own()
    server = start()
    running = [subprocess.Popen([*CLIENT, "bank"], stdin=subprocess.PIPE, stdout=open(f"client{i}", "w"), text=True)
               for i in range(clients)]
    for i, p in enumerate(running):
        with open(f"script{i}", "w") as f:
            f.writelines(transfers(i, count))
        p.stdin.write(f"source script{i}\n")
        p.stdin.close()
    statuses = [p.wait() for p in running]
    books = sql(BOOKS)
    stop(server)
    with open("result", "w") as f:
        print(statuses, books, *(open(f"client{i}").read() for i in range(clients)), sep="\n", file=f)


if len(sys.argv) > 1:
    work(int(sys.argv[1]), int(sys.argv[2]))
else:
    prepare()
