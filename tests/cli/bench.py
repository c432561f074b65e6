#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`make bench` works: one case, made small, gives a table, figures and a plot. What they are is not judged."""
import json
import os
import subprocess
import sys
import xml.etree.ElementTree

BENCH = os.path.join(os.path.dirname(os.environ["TESTS"]), "bench")
WARNINGS = ("-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 -Wno-unused-parameter "
            "-Wno-missing-field-initializers -Wno-sign-compare -Werror")


def bench(*args):
    command = [os.path.join(BENCH, "run"), os.environ["CPX"], *args]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "CFLAGS": WARNINGS})


def check_rows(rows):
    by_name = {r["what"]: r for r in rows}
    for what in ("freeze (frozen_us)", "freeze seen inside", "dump wall", "restore wall"):
        row = by_name[what]
        assert len(row["values"]) == 4 and row["min"] <= row["median"] <= row["max"], row
        assert row["min"] > 0 and row["ratio"] > 0, row
    assert by_name["dump wall"]["bar"]["limit"] == 5


def main():
    before = set(os.listdir("/dev/shm"))
    done = bench("--quick", "--rounds", "1", "--only", "tiny", "--output", "results")
    if done.returncode:
        return f"exit {done.returncode}"
    with open("results/table.txt") as f:
        table = f.read()
    assert table in done.stdout and "[tiny] one tiny task" in table, done.stdout
    with open("results/bench.json") as f:
        check_rows(json.load(f)["rows"])
    plot = xml.etree.ElementTree.parse("results/small.svg").getroot()
    assert plot.tag.endswith("svg") and "one tiny task" in "".join(plot.itertext())
    assert sorted(os.listdir("results")) == ["bench.json", "small.svg", "table.txt"]
    assert bench("--only", "no-such-case").returncode == 1
    left = [n for n in set(os.listdir("/dev/shm")) - before if n.startswith("cpx-bench-")]
    assert not left, left
    return None


if __name__ == "__main__":
    sys.exit(main())
