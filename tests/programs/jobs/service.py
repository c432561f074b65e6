# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the jobs that are a server with its clients share."""
import multiprocessing
import os
import subprocess
import sys

IS_ROOT = os.geteuid() == 0


def own():
    """All that is here, for whom a server runs as that root starts: a copied directory is root's again."""
    if IS_ROOT:
        subprocess.run(["chown", "-R", "nobody:nogroup", "."], check=True)


def stop(server):
    server.terminate()
    if server.wait():
        sys.exit(f"the server ends with {server.returncode}")


def _client(traffic, number, count, results):
    try:
        traffic(number, count)
        results.put((number, "good"))
    except (ValueError, OSError, EOFError) as e:
        results.put((number, f"{type(e).__name__} {e}"))


def run_clients(traffic, clients, count):
    """traffic(number, count) in a process for each; (number, "good" or what went wrong) of all."""
    results = multiprocessing.Queue()
    children = [multiprocessing.Process(target=_client, args=(traffic, i, count, results)) for i in range(clients)]
    for child in children:
        child.start()
    found = sorted(results.get() for _ in children)
    for child in children:
        child.join()
    return found
