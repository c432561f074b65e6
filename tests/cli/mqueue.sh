#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A POSIX message queue with messages or a notification is refused; one that is gone is made again.
. "$TESTS/harness/cli.sh"

# queue send|receive|unlink|notify: by the C library's names, in the queue of the subject.
queue() {
	python3 - "$1" "/cpx-subject-$pid" <<-'EOF'
		import ctypes, os, sys
		libc = ctypes.CDLL(None, use_errno=True)
		what, name = sys.argv[1], sys.argv[2].encode()
		if what == "unlink":
		    sys.exit(libc.mq_unlink(name))
		fd = libc.mq_open(name, os.O_RDWR)
		if what == "notify":
		    libc.mq_notify(fd, (ctypes.c_char * 64)(*bytes(12), 1))  # SIGEV_NONE
		    open("notified", "w").close()
		    while not os.path.exists("enough"):
		        libc.usleep(1000)
		elif what == "send":
		    sys.exit(libc.mq_send(fd, b"message", 7, 2) != 0)
		else:
		    buf = ctypes.create_string_buffer(48)
		    sys.exit(libc.mq_receive(fd, buf, 48, None) != 7)
	EOF
}

subject fd_mqueue
others="$pid=PID"
queue send
run cpx check $pid
run cpx dump $pid -o image
queue receive
queue notify &
waiter=$!
until [ -e notified ]; do sleep 0.01; done
run cpx check $pid
touch enough
wait $waiter
quietly cpx dump $pid -o image --kill
wait $pid
queue unlink
quietly cpx restore image -d
verdict
exit 0
