#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
# timeout: 120
"""An ordinary user with the program that README.md describes (setcap cap_checkpoint_restore=ep) restores
onto the original PIDs, outside of any namespace, and what he restores has got no capability."""
import os
import shutil
import subprocess
import sys

import cpx
import procs
from programs import PythonThreads
from sandbox import Fail
from subjects import USER

AS_USER = {"user": USER, "group": USER, "extra_groups": []}


def give_capability(directory):
    program = shutil.copy(cpx.path(), os.path.join(directory, "cpx-with-capability"))
    setcap = shutil.which("setcap", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if os.geteuid() or not setcap:
        print("needs root and setcap(8)")
        sys.exit(77)
    if subprocess.run([setcap, "cap_checkpoint_restore=ep", program], check=False).returncode:
        print("this file system keeps no capabilities")
        sys.exit(77)
    return program


def check_restored(pid):
    status = procs.read(f"/proc/{pid}/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    if fields.get("NSpid") != str(pid):
        raise Fail(f"process {pid} is not in our PID namespace: {fields.get('NSpid')!r}")
    if any(int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")):
        raise Fail(f"the restored process has capabilities: {fields['CapPrm']} {fields['CapEff']}")
    if fields["Uid"].split() != [str(USER)] * 4:
        raise Fail(f"user {fields['Uid']}")


def main():
    directory = os.environ["DIR"]
    os.chown(directory, USER, USER)
    program = give_capability(directory)
    job = PythonThreads()
    process = job.start(directory, **AS_USER)
    os.chown(os.path.join(directory, "out"), USER, USER)
    image = os.path.join(directory, "image")
    procs.wait_until(lambda: procs.read(f"/proc/{process.pid}/status").count("Threads:\t5"), 10)
    cpx.dump(process.pid, image, "--kill", **AS_USER)
    process.wait(10)

    refused = subprocess.run([cpx.path(), "restore", "--pid=same", "-d", image], stdin=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, check=False, **AS_USER)
    if refused.returncode != 3 or b"setcap" not in refused.stderr:
        raise Fail(f"--pid=same without the capability: {refused.returncode}, {refused.stderr}")

    os.environ["CPX"] = program
    pid = cpx.restore_detached(image, "--pid=same", **AS_USER)
    if pid != process.pid:
        raise Fail(f"restored as {pid}, not {process.pid}")
    check_restored(pid)
    if not procs.wait_until(lambda: not procs.is_alive(pid), 60):
        raise Fail("the restored program does not end")
    if len(job.result(directory)["result"].splitlines()) != 3500:
        raise Fail("the result is not complete")


sys.exit(main())
