/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What an image says about ends that lay outside of the tree: that it fits the pipe or socket that
 * has it. Pure functions. */
#include "image/reader.h"
#include "base/util.h"

static bool is_right_pipe(const Cpx__External *e)
{
	if (e->what == CPX__EXTERNAL__WHAT__FILE)
		return e->path.len && e->path.data[0] == '/';
	return e->what == CPX__EXTERNAL__WHAT__INHERIT || e->what == CPX__EXTERNAL__WHAT__NULL;
}

/* One that is quiet, and whose peer has a name by which it can be reached from anywhere. */
static bool is_right_socket(const Cpx__UnixSocket *b)
{
	bool is_connected = !b->unconnected && !b->listening && !b->accepted && !b->peer_ino;
	bool has_name = b->peer_name.len > 1 &&
			(b->peer_name.data[0] == '/' || b->peer_name.data[0] == '\0');

	return b->external->what == CPX__EXTERNAL__WHAT__RECONNECT && is_connected && has_name &&
	       !b->n_message && !b->reset && !b->shut_read && !b->shut_write;
}

int validate_external(const Cpx__File *f, struct err *err)
{
	bool is_right = true;

	if (f->pipe && f->pipe->external)
		is_right = is_right_pipe(f->pipe->external);
	else if (f->unix_socket && f->unix_socket->external)
		is_right = is_right_socket(f->unix_socket);
	return is_right ? 0
			: err_set(err, -EBADMSG,
				  "image is corrupt: File %u has an impossible end outside of the "
				  "tree",
				  f->id);
}
