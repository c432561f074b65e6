#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Names of Unix sockets in use by others, a file that is no socket any more, a client outside of the tree.
. "$TESTS/harness/cli.sh"

# listen NAME: a listener that is not of the tree
listen() {
	python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
name = sys.argv[1]
s.bind(name if name[0] == "/" else name.replace("@", "\0").ljust(108, "\0"))
s.listen()
print("ready", flush=True)
sys.stdin.read()' "$1" >listen.out <stop &
	exec 9>stop
	until grep -q ready listen.out; do sleep 0.01; done
}
unlisten() {
	exec 9>&-
	wait %+
}

mkfifo stop
hold unix reset
remember
run cpx dump $pid -o no
kill $pid
ended

hold unix
run cpx dump $pid -o image --kill -q
wait $pid
listen @cpx-test-holder-$pid
run cpx restore image -d
unlisten
quietly cpx restore image -d
kill -9 $(cat run.out)
gone $(cat run.out)

pid=
hold unixpath
quietly cpx dump $pid -o image --kill -q
wait $pid
rm state.socket
listen "$PWD/state.socket"
run cpx restore image -d
unlisten
quietly cpx restore image -d # what is left of a dead one may be replaced
kill -9 $(cat run.out)
gone $(cat run.out)
rm state.socket
echo precious >state.socket
run cpx restore image -d
cat state.socket

rm state.socket
hold unixpath
python3 -c 'import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("state.socket")
print("ready", flush=True)
sys.stdin.read()' >listen.out <stop &
others="$!=CLIENT"
exec 9>stop
until grep -q ready listen.out; do sleep 0.01; done
run cpx dump $pid -o no
unlisten
kill $pid
ended
exit 0
