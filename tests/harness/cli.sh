# SPDX-License-Identifier: LGPL-2.1-or-later
# For scripts of tests/cli: . "$TESTS/harness/cli.sh"
# What they print is compared with NAME.out; run() replaces what changes from run to run.
set -u
export LC_ALL=C
exec 2>>"$DIR/log" # where bash tells which of its jobs were killed
pid= # of the target
others= # more words to replace: a list of WORD=NAME

# Runs a command; prints it, its output and its exit status.
run() {
	local status
	echo "\$ $*" | replace
	"${@/#cpx/$CPX}" >run.out 2>run.err </dev/null
	status=$?
	replace <run.out
	replace <run.err
	echo "[exit $status]"
}

# The same without the output.
quietly() {
	echo "\$ $*" | replace
	"${@/#cpx/$CPX}" >run.out 2>run.err </dev/null
	echo "[exit $?]"
}

replace() {
	local script="s,$CPX,cpx,g;s,$DIR,DIR,g;s,$BIN,BIN,g" word
	for word in ${pid:+$pid=PID} $others; do
		script="$script;s/\\b${word%%=*}\\b/${word#*=}/g"
	done
	sed -e "$script"
}

# Starts the holder of the given kinds of descriptors (see subjects/holder.c) as the target.
hold() {
	: >holder.out
	"$BIN/holder" "$@" >holder.out 2>holder.err </dev/null &
	pid=$!
	until grep -q ready holder.out; do
		kill -0 $pid 2>/dev/null || { cat holder.err; exit 77; }
		sleep 0.01
	done
}

# Starts a subject as the target.
subject() {
	mkdir -p state
	"$BIN/$1" "$PWD/state" >/dev/null 2>&1 </dev/null &
	pid=$!
	until [ -e state/ready ]; do
		kill -0 $pid 2>/dev/null || exit 1
		sleep 0.01
	done
}

verdict() {
	printf nonce >state/go.part
	mv state/go.part state/go
	until [ -e state/result ]; do sleep 0.01; done
	sed 's/ *$//' state/result
}

# What can be seen of the target from outside.
look() {
	sed -n '/^\(State\|Threads\|Sig[^Q].*\|Shd.*\|TracerPid\):/p' /proc/$pid/status | sed 's/[SR] (.*)/S/'
	cut -d' ' -f1,2,6- /proc/$pid/maps
	ls -l /proc/$pid/fd | sed 's/.*[0-9] \([0-9]* -> \)/\1/'
	cat /proc/$pid/task/*/children
}
remember() { look >look.before; }
unharmed() {
	look >look.after
	if diff look.before look.after; then echo "the target is unharmed"; else echo "THE TARGET HAS CHANGED"; fi
}

ended() {
	local status
	wait $pid
	status=$?
	echo "the target ended with $status"
}

# Waits for the end of a process that is not our child.
gone() {
	while grep -q '^State:.[^Z]' "/proc/$1/status" 2>/dev/null; do sleep 0.01; done
}

# Descendants of this shell that are not the given ones.
strays() {
	local p found=
	for p in $(pgrep -P $$); do
		case " $* " in
		*" $p "*) ;;
		*) [ "$(cat /proc/$p/comm 2>/dev/null)" = pgrep ] || found="$found $(cat /proc/$p/comm 2>/dev/null)" ;;
		esac
	done
	echo "stray processes:${found:- none}"
}
