# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pool of processes: pipes, semaphores in shared memory, and a parent that shares its heap."""
import multiprocessing
import sys

table = [i * i % 1009 for i in range(200000)]


def work(n):
    x = n
    for i in range(60000):
        x = (x * 6364136223846793005 + table[(x ^ i) % len(table)]) % 2**64
    return n, x


if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool:
        with open(sys.argv[1], "w") as f:
            for n, x in pool.imap(work, range(int(sys.argv[2])), chunksize=1):
                print(n, x, file=f, flush=True)
        pool.close()
        pool.join()
