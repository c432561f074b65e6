#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Help and version go to standard output.
. "$TESTS/harness/cli.sh"

run cpx --version
run cpx --help
for c in dump restore check info verify flatten; do
	run cpx $c --help
done
run sh -c 'cpx --help >/dev/full' 2>&1 | sed 's/^sh: .*//'
exit 0
