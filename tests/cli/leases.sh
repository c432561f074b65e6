#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Leases: what could not be had again is refused; to look at a file that is leased does not break the lease, which
# would end its holder by SIGIO.
. "$TESTS/harness/cli.sh"

target() {
	rm -f leased
	python3 -c '
import fcntl, mmap, os, signal, sys
READ, WRITE = 0, 1
held = []
def lease(name, flags, kind):
    held.append(os.open(name, flags | os.O_CREAT))
    os.ftruncate(held[-1], 8192) if flags else None
    fcntl.fcntl(held[-1], fcntl.F_SETLEASE, kind)
    return held[-1]
'"$1"'
open("leased", "w").close()
while True:
    signal.pause()
' </dev/null >/dev/null 2>python.err &
	pid=$!
	until [ -e leased ]; do
		kill -0 $pid 2>/dev/null || { cat python.err; exit 1; }
		sleep 0.01
	done
}

echo "--- mapped, and deleted but only to be written"
target 'held.append(mmap.mmap(lease("mapped", os.O_RDWR, WRITE), 8192))
lease("written", os.O_WRONLY, WRITE)
os.unlink("written")'
run cpx check $pid
kill $pid
wait $pid
echo "--- deleted"
target 'os.write(lease("deleted", os.O_RDWR, WRITE), b"content")
os.unlink("deleted")'
quietly cpx check $pid
quietly cpx dump $pid -o image
ls /proc/$pid/fdinfo | while read -r fd; do sed -n 's/^lock:.*LEASE *\([A-Z]* *[A-Z]*\) .*/lease \1/p' /proc/$pid/fdinfo/$fd; done
kill $pid
wait $pid
quietly cpx restore image -d
restored=$(cat run.out)
head -c 7 $(ls -l /proc/$restored/fd | sed -n "s,.* \([0-9]*\) -> .*/deleted (deleted),/proc/$restored/fd/\1,p") &
reader=$!
echo "--- who opens it ends the one who has it"
gone $restored
wait $reader
echo
exit 0
