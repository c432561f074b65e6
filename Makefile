# SPDX-License-Identifier: LGPL-2.1-or-later
# A short front for Meson and Ninja. Every target first sees to it that its tools are there.
BUILD ?= build
PREFIX ?= /usr/local

all: deps-build configure
	@ninja -C $(BUILD) cpx

demo: all
	@tools/demo.sh $(BUILD)/cpx

test: deps-build deps-test all
	@ninja -C $(BUILD)
	@tests/run -b $(BUILD)

bench: all
	@bench/run $(BUILD)

install: prefix all
	@meson install -C $(BUILD) --no-rebuild

clean:
	@rm -rf $(BUILD)

deps-%:
	@tools/install-deps $*

configure: deps-build
	@test -f $(BUILD)/build.ninja || meson setup --prefix=$(PREFIX) $(BUILD)

# Of a build that was set up with another one, too.
prefix: configure
	@test "$$(meson introspect --buildoptions $(BUILD) | python3 -c 'import json, sys; \
		print(*(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')" = $(PREFIX) || \
		meson configure -Dprefix=$(PREFIX) $(BUILD)

.NOTPARALLEL:
.PHONY: all demo test bench install clean configure prefix
