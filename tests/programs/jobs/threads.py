# SPDX-License-Identifier: LGPL-2.1-or-later
"""Threads that hand work to each other through queues, locks, a barrier and timed waits."""
import hashlib
import queue
import sys
import threading
import time

THREADS, ROUNDS, BYTES = 4, int(sys.argv[2]), 30000

todo, done = queue.Queue(8), queue.Queue()
barrier = threading.Barrier(THREADS)
lock = threading.Lock()
order = []


def work(number):
    data = bytes([number]) * BYTES
    barrier.wait()
    while True:
        try:
            n = todo.get(timeout=0.01)
        except queue.Empty:
            continue
        if n is None:
            return
        for _ in range(20):
            data_n = hashlib.sha256(b"%d" % n + bytes(BYTES)).digest()
        with lock:
            order.append(n)
        time.sleep(0.0005)
        done.put((n, data_n))


threads = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
for t in threads:
    t.start()
for n in range(ROUNDS):
    todo.put(n)
for _ in threads:
    todo.put(None)
for t in threads:
    t.join()
results = dict(done.get() for _ in range(ROUNDS))
assert sorted(order) == list(range(ROUNDS)) and done.empty()
with open(sys.argv[1], "w") as f:
    for n in range(ROUNDS):
        print(n, results[n].hex(), file=f)
