#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# `make demo`: a multi-threaded job is dumped while it runs, killed, restored, and goes on from
# where it was. Usage: tools/demo.sh CPX. Works as root and as an ordinary user.
set -euo pipefail
cd "$(dirname "$0")/.."

LIMIT=20000000 EXPECTED=1270607 THREADS=4
cpx=$(realpath "${1:-build/cpx}")
dir=$(mktemp -d "${TMPDIR:-/tmp}/cpx-demo.XXXXXX")
job='' restored=''

say() { printf '\n== %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; "$@"; }
fail() { printf '\ndemo: FAILED: %s\n' "$*" >&2; exit 1; }

# True if process $1 runs this demo's job (a PID alone could by now be somebody else's).
is_job() { [[ -n $1 && $(readlink "/proc/$1/exe" 2>/dev/null) == "$dir/primes" ]]; }

clean_up() {
	local pid
	for pid in "$job" "$restored"; do
		is_job "$pid" && kill -KILL "$pid" 2>/dev/null
	done
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

last_line() { tail -n 1 "$dir/progress" 2>/dev/null; }
number() { cut -d: -f1 <<<"$1"; }
percent() { sed -n 's/.* \([0-9]*\)% done.*/\1/p' <<<"$1"; }
lines() { wc -l <"$dir/progress" 2>/dev/null || echo 0; }

# In a session of its own, with no descriptor that whoever runs us may have left open: a job whose pipe
# ends outside of it is refused.
start_job() {
	local fd
	(
		for fd in /proc/$BASHPID/fd/*; do
			((${fd##*/} <= 2)) || eval "exec ${fd##*/}>&-"
		done
		exec setsid "$dir/primes" $LIMIT $THREADS "$dir/progress" </dev/null >/dev/null 2>&1
	) &
	job=$!
}

# Waits up to $1 seconds for command "${@:2}".
wait_for() {
	local tries=$(($1 * 20))
	shift
	until "$@"; do
		((tries-- > 0)) || return 1
		sleep 0.05
	done
}
is_past() { (($(percent "$(last_line)") >= $1)) 2>/dev/null; }
is_gone() { ! [[ -e /proc/$1 ]]; }
has_lines() { (($(lines) > $1)); }
is_finished() { [[ $(last_line) == *finished* ]]; }

say "A job that counts primes in $THREADS threads; it knows nothing of checkpoints"
"${CC:-cc}" -O2 -pthread examples/primes.c -o "$dir/primes"
printf '$ primes %s %s progress &\n' $LIMIT $THREADS
start_job
wait_for 30 is_past 20 || fail "the job does not get on"
last_line

say "Dump it while it runs: it goes on, standing still only for the freeze"
before=$(last_line)
printf '$ cpx dump %s -o job.cpx --json\n' "$job"
"$cpx" dump "$job" -o "$dir/job.cpx" --json || fail "dump"
is_job "$job" || fail "the job did not survive its dump"
wait_for 10 has_lines "$(lines)" || fail "the job does not get on after its dump"
last_line

say "Kill it"
printf '$ kill -KILL %s\n' "$job"
kill -KILL "$job"
wait "$job" 2>/dev/null || true
wait_for 10 is_gone "$job" || fail "the job does not die"
after=$(last_line) written=$(lines)
printf 'process %s is gone; the last that it said: %s\n' "$job" "$after"

say "Restore it"
printf '$ cpx restore -d job.cpx\n'
restored=$("$cpx" restore -d "$dir/job.cpx" </dev/null) || fail "restore"
is_job "$restored" || fail "process $restored is not the job"
printf 'it runs again, as process %s with %s threads\n' "$restored" \
	"$(find "/proc/$restored/task" -mindepth 1 -maxdepth 1 | wc -l)"

say "It goes on from where it was dumped, to the right result"
wait_for 30 has_lines "$written" || fail "the restored job does not get on"
first=$(sed -n "$((written + 1))p" "$dir/progress")
printf '%s\n' "$first"
(($(number "$first") > $(number "$before") && $(number "$first") <= $(number "$after") + 1)) ||
	fail "it did not go on from its dump (line $(number "$before")) but from: $first"
wait_for 120 is_finished || fail "the restored job does not finish"
last_line
[[ $(last_line) == *"finished: $EXPECTED primes"* ]] || fail "wrong result (right: $EXPECTED)"
printf '\ndemo: OK: killed half-way, and finished by its restored self\n'
