# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real programs, dumped at random moments; their results compared with an undisturbed run.

A program here says how to prepare its directory, what to run in it, and which files are its
result. What is done with it is in rounds.py; those under a terminal are in terminal.py.
"""
import glob
import os
import random
import shutil
import subprocess

from sandbox import Skip

POSTGRES = "".join(":" + p for p in glob.glob("/usr/lib/postgresql/*/bin"))
JOBS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "jobs")
ENVIRONMENT = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


class Program:
    name = ""
    needs = ()
    results = ("result",)
    # Whether an image stays good when the original has gone on after its dump, i.e. whether it leaves
    # nothing outside its memory that it counts on: files half written, a journal.
    is_replayable = True
    # Only these modes of rounds.py, if not all.
    modes = ()

    def prepare(self, directory):
        """Makes the inputs, once per test; runs get copies."""

    def argv(self):
        """The command line, run in the directory of the round."""
        raise NotImplementedError

    modules = ()  # of the system's Python

    def check_installed(self):
        missing = [c for c in self.needs if not shutil.which(c, path=ENVIRONMENT["PATH"] + POSTGRES)]
        if missing:
            raise Skip(f"not installed: {', '.join(missing)}")
        for module in self.modules:
            if subprocess.run(["/usr/bin/python3", "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode:
                raise Skip(f"not installed: the module {module} of /usr/bin/python3")

    def start(self, directory, **kw):
        """Runs it in a session of its own, no descriptor but files of the directory."""
        with open(os.path.join(directory, "out"), "ab") as out:
            return subprocess.Popen(self.argv(), cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                    env=ENVIRONMENT | {"HOME": directory, "TMPDIR": directory},
                                    start_new_session=True, **kw)

    def result(self, directory):
        """What must be equal to the undisturbed run's."""
        found = {}
        for name in self.results:
            path = os.path.join(directory, name)
            found[name] = open(path, "rb").read() if os.path.exists(path) else None
        return found


class PythonThreads(Program):
    name = "python-threads"
    needs = ("python3",)

    def argv(self):
        return ["python3", f"{JOBS}/threads.py", "result", "3500"]


class UnixServer(Program):
    name = "unix-server"
    needs = ("python3",)
    is_replayable = False  # restored from before its bind(2), it would find the file of its socket

    def argv(self):
        return ["python3", f"{JOBS}/unix_server.py"]


class PythonPool(Program):
    name = "python-pool"
    needs = ("python3",)

    def argv(self):
        return ["python3", f"{JOBS}/pool.py", "result", "110"]


class PythonEvents(Program):
    name = "python-events"
    needs = ("python3",)

    def argv(self):
        return ["python3", f"{JOBS}/events.py", "result", "100"]


class BashPipeline(Program):
    name = "bash-pipeline"
    needs = ("bash", "gzip", "sha256sum")

    def prepare(self, directory):
        rng = random.Random(1)
        block = b"".join(b"%d %s\n" % (i, rng.randbytes(rng.randrange(40)).hex().encode()) for i in range(20000))
        with open(os.path.join(directory, "big"), "wb") as f:
            for i in range(40):
                f.write(b"%d\n" % i + block)

    def argv(self):
        return ["bash", "-c", "set -o pipefail; cat big | gzip | sha256sum >result; echo $? >>result"]


class Perl(Program):
    name = "perl"
    needs = ("perl",)

    def argv(self):
        return ["perl", f"{JOBS}/words.pl", "result", "11000"]


class Sqlite(Program):
    """A long transaction with a cache so small that it spills: a hot journal, locks, half a database."""
    name = "sqlite3"
    needs = ("sqlite3",)
    is_replayable = False
    journal = "delete"

    def prepare(self, directory):
        with open(os.path.join(directory, "script"), "w") as f:
            f.write(f"""
.bail on
PRAGMA journal_mode={self.journal};
PRAGMA cache_size=20;
CREATE TABLE t(k INTEGER PRIMARY KEY, v TEXT, h INTEGER);
CREATE INDEX h ON t(h);
INSERT INTO t(v, h) VALUES ('kept', 1);
BEGIN;
""")
            for i in range(60):
                f.write(f"""
INSERT INTO t(v, h) WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3000)
  SELECT printf('%08d', n * {i + 3}), (n * 7919 * {i + 1}) % 100003 FROM c;
UPDATE t SET v = v || 'x' WHERE h % 97 = {i};
""")
            f.write("""
COMMIT;
.output result
PRAGMA integrity_check;
SELECT count(*), sum(h), sum(length(v)), max(v) FROM t;
SELECT * FROM t WHERE k % 1000 = 3;
""")

    def argv(self):
        return ["sqlite3", "-init", "/dev/null", "base.db", ".read script"]


class SqliteWal(Sqlite):
    name = "sqlite3-wal"
    journal = "wal"


class MakeGcc(Program):
    """make -j2: many short processes, vfork, pipes, temporary files."""
    name = "make-gcc"
    needs = ("make", "gcc")
    is_replayable = False
    FILES = 6

    def prepare(self, directory):
        for i in range(self.FILES):
            with open(os.path.join(directory, f"part{i}.c"), "w") as f:
                f.write('#include <stdio.h>\n#include <string.h>\n')
                for j in range(60):
                    f.write(f"""
unsigned f{i}_{j}(const char *s, unsigned n)
{{
	unsigned h = {j}, a[16] = {{n, {i}}};
	for (unsigned k = 0; k < n; k++) {{
		a[k % 16] += h ^ (unsigned)s[k % strlen(s)] * {2 * j + 1}u;
		h = h * 31 + a[(k + {j}) % 16];
		switch (h % 5) {{ case 0: h ^= a[3]; break; case 1: h += {j}; break; case 2: a[k % 7] = h; break; }}
	}}
	return h;
}}
""")
                calls = " + ".join(f'f{i}_{j}("cpx", {50 + j})' for j in range(60))
                f.write(f"unsigned part{i}(void) {{ return {calls}; }}\n")
        with open(os.path.join(directory, "main.c"), "w") as f:
            f.write("#include <stdio.h>\n")
            for i in range(self.FILES):
                f.write(f"unsigned part{i}(void);\n")
            f.write("int main(void)\n{\n")
            for i in range(self.FILES):
                f.write(f'\tprintf("%u\\n", part{i}());\n')
            f.write("\treturn 0;\n}\n")
        with open(os.path.join(directory, "Makefile"), "w") as f:
            f.write("OBJECTS = main.o " + " ".join(f"part{i}.o" for i in range(self.FILES)) + "\n"
                    "result: program\n\t./program >$@\n"
                    "program: $(OBJECTS)\n\tgcc -o $@ $^\n"
                    "%.o: %.c\n\tgcc -O2 -c -o $@ $<\n")

    @property
    def results(self):
        return ["result"] + [f"part{i}.o" for i in range(self.FILES)]

    def argv(self):
        return ["make", "-j2", "result"]


class MakeLua(Program):
    """make -j3 of a real source package, as tools/install-deps has fetched it."""
    name = "make-lua"
    needs = ("make", "gcc", "tar", "gzip")
    is_replayable = False
    modes = ("kill-restore",)
    results = ("result", "lua/src/lvm.o", "lua/src/liblua.a", "lua/src/lua")
    archives = os.path.join(os.environ.get("CPX_SOURCES", "/var/cache/cpx-tests"), "lua5.4_*.orig.tar.gz")

    def check_installed(self):
        super().check_installed()
        if not glob.glob(self.archives):
            raise Skip(f"no {self.archives}: tools/install-deps test has not found the source of lua5.4")

    def prepare(self, directory):
        os.mkdir(os.path.join(directory, "lua"))
        subprocess.run(["tar", "-xzf", glob.glob(self.archives)[0], "-C", "lua", "--strip-components=1"], check=True,
                       cwd=directory, env=ENVIRONMENT)

    def argv(self):
        return ["sh", "-c", "make -s -j3 -C lua/src linux MYCFLAGS=-O0 && "
                "lua/src/lua -e 'local s = 0; for i = 1, 1e5 do s = s + i % 7 end; print(s)' >result"]


def compile_java(directory, name):
    subprocess.run(["javac", "-J-XX:-UsePerfData", "-d", directory, f"{JOBS}/{name}.java"], check=True, env=ENVIRONMENT)


class Jvm(Program):
    """Without its file in /tmp/hsperfdata_*, which any other JVM that starts removes once we are killed."""
    name = "jvm"
    needs = ("java", "javac")
    options = ["-XX:-UsePerfData"]

    def prepare(self, directory):
        compile_java(directory, "Load")

    def argv(self):
        return ["java", "-Xmx128m", *self.options, "-cp", ".", "Load", "result", "700"]


class JvmPlain(Jvm):
    name = "jvm-plain"
    options = []
    modes = ("kill-restore",)


class Service(Program):
    """A server with its clients in one tree, over Unix sockets; every reply is checked by who asked. What it has
    written to files does not go back, so no image of it is restored when the original has gone on."""
    is_replayable = False
    modes = ("kill-restore",)


class Database(Service):
    """Its job makes the database when it is called without arguments."""
    job = ""
    size = ()

    def prepare(self, directory):
        subprocess.run(self.argv()[:2], check=True, env=ENVIRONMENT, cwd=directory)

    def argv(self):
        return ["python3", f"{JOBS}/{self.job}", *self.size]


class Redis(Service):
    name = "redis"
    modes = ("kill-restore", "killed-dumps")
    needs = ("python3", "redis-server")

    def argv(self):
        return ["python3", f"{JOBS}/redis.py", "3", "8000"]


class Postgres(Database):
    name = "postgresql"
    job, size = "postgres.py", ("3", "600")
    modes = ("kill-restore", "killed-dumps")
    needs = ("python3", "setpriv", "unshare", "initdb", "pgbench")


class MariaDB(Database):
    """The only one here that keeps an io_uring."""
    name = "mariadb"
    job, size = "mariadb.py", ("3", "500")
    needs = ("python3", "mariadbd", "mariadb", "mariadb-install-db")


class Nginx(Service):
    name = "nginx"
    needs = ("python3", "nginx")

    def argv(self):
        return ["python3", f"{JOBS}/nginx.py", "3", "5000"]


class NodeServer(Service):
    name = "node-server"
    needs = ("node",)

    def argv(self):
        return ["node", f"{JOBS}/server.js", "2", "400"]


class JvmServer(Service):
    name = "jvm-server"
    needs = ("java", "javac")

    def prepare(self, directory):
        compile_java(directory, "Traffic")

    def argv(self):
        return ["java", "-XX:-UsePerfData", "-Xmx64m", "-cp", ".", "Traffic", "3", "20000"]


class DBus(Service):
    name = "dbus"
    needs = ("python3", "dbus-daemon")
    modules = ("dbus", "gi")

    def argv(self):
        return ["/usr/bin/python3", f"{JOBS}/bus.py", "total", "1200"]


PROGRAMS = [Redis(), Postgres(), MariaDB(), Nginx(), NodeServer(), JvmServer(), DBus(),
            PythonThreads(), PythonPool(), PythonEvents(), UnixServer(), BashPipeline(), Perl(), Sqlite(),
            SqliteWal(), MakeGcc(), MakeLua(), Jvm(), JvmPlain()]
