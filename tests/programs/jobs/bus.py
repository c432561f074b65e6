# SPDX-License-Identifier: LGPL-2.1-or-later
"""A D-Bus daemon, a service on it and clients, which call it, check each reply and count its signals."""
import hashlib
import os
import subprocess
import sys

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

NAME, PATH = "org.cpx.Test", "/org/cpx/Test"
CLIENTS = 2


class Service(dbus.service.Object):
    def __init__(self, bus, loop):
        super().__init__(dbus.service.BusName(NAME, bus), PATH)
        self.loop, self.left = loop, CLIENTS

    @dbus.service.method(NAME, in_signature="sx", out_signature="sax")
    def Digest(self, text, n):
        self.Asked(n)
        return hashlib.sha256(text.encode()).hexdigest(), [n, n * n]

    @dbus.service.signal(NAME, signature="x")
    def Asked(self, n):
        pass

    @dbus.service.method(NAME)
    def Through(self):
        self.left -= 1
        if not self.left:
            GLib.idle_add(self.loop.quit)


def serve():
    loop = GLib.MainLoop()
    service = Service(dbus.SessionBus(), loop)
    print("ready", flush=True)
    loop.run()
    return service.left


def signals_of(bus, number, count, loop):
    """Counts the service's signals that are for this client; all come in order."""
    seen = []

    def asked(n):
        if n % CLIENTS == number:
            seen.append(int(n))
            if len(seen) == count:
                loop.quit()
    bus.add_signal_receiver(asked, "Asked", NAME)
    return seen


def client(number, count):
    bus, loop = dbus.SessionBus(), GLib.MainLoop()
    wanted = [i * CLIENTS + number for i in range(count)]
    seen = signals_of(bus, number, count, loop)
    service = dbus.Interface(bus.get_object(NAME, PATH), NAME)
    for n in wanted:
        digest, (same, square) = service.Digest("x" * (n % 3000), n)
        if digest != hashlib.sha256(b"x" * (n % 3000)).hexdigest() or (same, square) != (n, n * n):
            sys.exit(f"client {number}: wrong reply to {n}")
    if len(seen) < count:
        loop.run()
    service.Through()
    print("good" if seen == wanted else f"signals {seen}", flush=True)


def start(*args):
    return subprocess.Popen(["/usr/bin/python3", __file__, *map(str, args)], stdout=subprocess.PIPE, text=True)


def main(count):
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={os.getcwd()}/bus"
    daemon = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile", "--print-address",
                               "--address=" + os.environ["DBUS_SESSION_BUS_ADDRESS"]], stdout=subprocess.PIPE)
    daemon.stdout.readline()
    service = start("serve")
    service.stdout.readline()
    clients = [start(i, count) for i in range(CLIENTS)]
    found = [c.communicate()[0].strip() for c in clients] + [c.returncode for c in clients] + [service.wait()]
    daemon.terminate()
    with open("result", "w") as f:
        print(*found, daemon.wait(), file=f)


if len(sys.argv) == 1:
    sys.exit("usage: bus.py total COUNT | serve | CLIENT COUNT")
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
if sys.argv[1] == "total":
    main(int(sys.argv[2]))
elif sys.argv[1] == "serve":
    sys.exit(serve())
else:
    client(int(sys.argv[1]), int(sys.argv[2]))
