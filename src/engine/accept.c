/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the caller of libcpx accepts although it would be refused, in the words of src/res. */
#include "engine/accept.h"

#include "base/util.h"

static Cpx__External__What what_of(enum cpx_external what)
{
	switch (what) {
	case CPX_EXTERNAL_INHERIT:
		return CPX__EXTERNAL__WHAT__INHERIT;
	case CPX_EXTERNAL_FILE:
		return CPX__EXTERNAL__WHAT__FILE;
	default:
		return CPX__EXTERNAL__WHAT__NULL;
	}
}

int accept_externals(const struct cpx_external_pipe *pipe, size_t n, bool unix_too,
		     struct external_rules *ret, struct err *err)
{
	*ret = (struct external_rules){.rule = calloc(n + 1, sizeof(*ret->rule)),
				       .unix_too = unix_too};
	if (!ret->rule)
		return err_nomem(err);
	for (; ret->n < n; ret->n++, pipe++) {
		if (pipe->what == CPX_EXTERNAL_FILE && (!pipe->path || pipe->path[0] != '/'))
			return err_set(err, -EINVAL,
				       "the file in place of a pipe needs a path from the root");
		ret->rule[ret->n] = (struct external_rule){
			.ino = pipe->ino,
			.what = what_of(pipe->what),
			.same_number = pipe->fd < 0,
			.fd = MAX(pipe->fd, 0),
			.path = pipe->what == CPX_EXTERNAL_FILE ? pipe->path : NULL,
		};
	}
	return 0;
}

void accept_release(struct external_rules *rules)
{
	free(TAKE_PTR(rules->rule));
}
