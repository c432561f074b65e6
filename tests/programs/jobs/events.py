# SPDX-License-Identifier: LGPL-2.1-or-later
"""An event loop: epoll, a pair of sockets, pipes, timers, children told of by pidfds and by signals."""
import asyncio
import os
import sys


async def work(queue, sums):
    while (n := await queue.get()) is not None:
        await asyncio.sleep(0.001 * (n % 3))
        sums.append(n)


async def child(n):
    """Its output and its end, both by way of the loop."""
    p = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"read x; echo $x; exit {n % 5}",
                                             stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    await asyncio.sleep(0.01 * (n % 7))
    out, _ = await p.communicate(b"%d\n" % n)
    return int(out), p.returncode


async def main(result, count):
    if hasattr(os, "pidfd_open") and hasattr(asyncio, "PidfdChildWatcher"):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(asyncio.get_running_loop())
        asyncio.set_child_watcher(watcher)
    queue, sums, lines = asyncio.Queue(), [], []
    workers = [asyncio.create_task(work(queue, sums)) for _ in range(4)]
    for n in range(count):
        await queue.put(n)
        if n % 4 == 0:
            lines += await asyncio.gather(*(child(n + k) for k in range(3)))
    for _ in workers:
        await queue.put(None)
    await asyncio.gather(*workers)
    with open(result, "w") as f:
        print(sum(sums), lines, file=f)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
