#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# SysV semaphores and queues outlive their processes: what strangers use is refused, what is left over is taken
# over, what is gone is made again, and what is another one's is left alone.
. "$TESTS/harness/cli.sh"

LIBC='import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None)
GETVAL, SETVAL = 12, 16
'

# The target: a set that it uses, and one that it has only made; a queue with a message.
target() {
	python3 -c "$LIBC"'
used, made = libc.semget(0x43000000 + os.getpid(), 3, 0o1640), libc.semget(0, 1, 0o1600)
queue = libc.msgget(0, 0o1600)
libc.semctl(used, 0, SETVAL, 5)
libc.semctl(used, 1, SETVAL, 6)
libc.msgsnd(queue, (ctypes.c_long * 3)(7, 8, 9), 16, 0)
with open("ids", "w") as f:
    f.write(f"sem {used}\nsem {made}\nmsg {queue}\n")
while True:
    signal.pause()
' >/dev/null 2>&1 </dev/null &
	pid=$!
	until [ "$(wc -l <ids)" = 3 ]; do sleep 0.01; done 2>/dev/null
}

# sysv show|change|remove|replace|use sem|msg ID [VALUE], as a stranger; "use" stays until told "enough".
sysv() {
	exec python3 -c "$LIBC"'
what, kind, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
control = {"sem": libc.semctl, "msg": libc.msgctl}[kind]
if what == "show":
    print(libc.semctl(number, 0, GETVAL))
elif what in ("use", "change"):
    libc.semctl(number, 0, SETVAL, int(sys.argv[4]))
else:
    control(number, 0, 0)
if what == "replace":
    with open("/proc/sys/kernel/sem_next_id", "w") as f:
        f.write(str(number))
    libc.semget(0, 2, 0o1600)
if what == "use":
    open("used", "w").close()
    while not os.path.exists("enough"):
        time.sleep(0.01)
' "$@"
}

with_a_user() {
	local stranger
	sysv use sem $1 99 &
	stranger=$!
	until [ -e used ]; do sleep 0.01; done
	others="$others $stranger=STRANGER"
	shift
	run "$@"
	touch enough
	wait $stranger
	rm used enough
}

clean() {
	local kind id
	while read -r kind id; do
		(sysv remove $kind $id)
	done <ids
}

# In the foreground, so that somebody reaps it: its PIDs are wanted again.
revive() {
	echo "restored"
	rm -f pidfile
	"$CPX" restore image --pid=same --pidfile pidfile 2>&1 </dev/null &
	until [ -s pidfile ]; do
		kill -0 $! || return
		sleep 0.01
	done
	for id in ${ids[0]} ${ids[1]}; do
		(sysv show sem $id)
	done
	kill $pid
	wait $!
}

[ "$(id -u)" = 0 ] || exit 77
target
trap clean EXIT
ids=($(sed 's/... //' ids))
others="$pid=PID ${ids[0]}=USED ${ids[1]}=MADE ${ids[2]}=QUEUE"
quietly cpx check $pid
echo "--- a stranger has used it, and lives"
with_a_user ${ids[0]} cpx check $pid
quietly cpx dump $pid -o image --kill
wait $pid
echo "--- what is left over is taken over, but for what may be a stranger's"
for id in ${ids[0]} ${ids[1]}; do
	(sysv change sem $id 98)
done
revive
echo "--- a stranger uses it, and lives"
with_a_user ${ids[0]} cpx restore image -d --pid=same
echo "--- another one has the id"
(sysv replace sem ${ids[0]})
run cpx restore image -d --pid=same
echo "--- all are gone"
clean
revive
exit 0
