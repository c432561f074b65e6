#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A POSIX message queue with messages or a notification, and somebody outside, is refused; one that is gone is
# made again, and what is left in one is that of the image.
. "$TESTS/harness/cli.sh"

# queue send|receive|unlink|notify|hold: by the C library's names, in the queue of the subject.
queue() {
	python3 - "$1" "/cpx-subject-$pid" <<-'EOF'
		import ctypes, os, sys
		libc = ctypes.CDLL(None, use_errno=True)
		what, name = sys.argv[1], sys.argv[2].encode()
		if what == "unlink":
		    sys.exit(libc.mq_unlink(name))
		fd = libc.mq_open(name, os.O_RDWR)
		if what in ("notify", "hold"):
		    if what == "notify":
		        libc.mq_notify(fd, (ctypes.c_char * 64)(*bytes(12), 1))  # SIGEV_NONE
		    open("there", "w").close()
		    while not os.path.exists("enough"):
		        libc.usleep(1000)
		elif what == "send":
		    sys.exit(libc.mq_send(fd, b"message", 7, 2) != 0)
		else:
		    buf = ctypes.create_string_buffer(48)
		    sys.exit(libc.mq_receive(fd, buf, 48, None) != 7)
	EOF
}

with() {
	local stranger
	queue $1 &
	stranger=$!
	until [ -e there ]; do sleep 0.01; done
	others="$others $stranger=STRANGER $(pgrep -P $stranger)=STRANGER"
	shift
	run "$@"
	touch enough
	wait $stranger
	rm there enough
}

subject fd_mqueue
others="$pid=PID"
queue send
echo "--- with a message"
with hold cpx check $pid
quietly cpx check $pid
queue receive
echo "--- with a notification"
with notify cpx check $pid
quietly cpx dump $pid -o image --kill
wait $pid
queue send
echo "--- there is another message by now"
with hold cpx restore image -d --pid=new
queue unlink
quietly cpx restore image -d --pid=new
verdict
exit 0
