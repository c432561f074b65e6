/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A small valid image for tests: two tasks that share memory copy-on-write, a zombie, a shared
 * object, a pipe and a pair of sockets; chunks of every kind. */
#ifndef CPX_TESTS_SAMPLE_H
#define CPX_TESTS_SAMPLE_H

#include "image/image.h"

#define SAMPLE_HEAP   0x555555600000ULL /* 64 pages, private anonymous, in both mms */
#define SAMPLE_OBJECT 1000000u
#define SAMPLE_PAGES  64
#define SAMPLE_BASE_ID	((const uint8_t *)"the base of both")
#define SAMPLE_DELTA_ID ((const uint8_t *)"builds on it all")

struct sample {
	Cpx__Image image;
	Cpx__Host host;
	Cpx__Task root, child, zombie;
	Cpx__Thread thread[3];
	Cpx__Fs fs;
	Cpx__Signals signals;
	Cpx__ThreadSignals thread_signals;
	Cpx__ThreadMemory thread_memory;
	Cpx__Creds creds;
	Cpx__Sched sched;
	Cpx__ThreadFlags thread_flags;
	Cpx__ProcessFlags flags;
	Cpx__SigAction action;
	Cpx__Mm mm[2];
	Cpx__Vma vma[3];
	Cpx__Object object;
	Cpx__FdTable table[2];
	Cpx__Fd fd[4];
	Cpx__File file[5];
	Cpx__Path path;
	Cpx__RegularFile regular;
	Cpx__Pipe pipe;
	Cpx__UnixSocket socket[2];
	/* what repeated fields point to */
	Cpx__Thread *root_threads[2], *child_threads[1];
	Cpx__SigAction *actions[1];
	Cpx__Vma *vmas[3];
	Cpx__Fd *fds[4];
	uint8_t regs[27 * 8], xstate[832], siginfo[128];
	ProtobufCBinaryData pending[1];
	uint32_t codec_pages; /* of the big chunk of the heap */
};

/* Fills *s; it points into itself, so it must not move. */
void sample_init(struct sample *s);

/* Byte `i` of page `page` of the sample's memory: compressible for even pages, noise for odd. */
uint8_t sample_byte(unsigned page, size_t i);
void sample_pages(unsigned first, unsigned n, uint8_t *buf);

int sample_write_records(const struct sample *s, struct image_writer *w, struct err *err);
int sample_write_chunks(const struct sample *s, struct image_writer *w, struct err *err);

/* A delta of the sample as it is otherwise, with early chunks: of the heap of both tasks some pages are
 * as before, in either layer, some are new, one is gone. o->parent_id: the id of the sample. */
int sample_write_delta(struct sample *s, int fd, const struct image_writer_options *o,
		       struct err *err);

/* The whole image to fd. */
int sample_write(const struct sample *s, int fd, const struct image_writer_options *o,
		 struct err *err);

/* The same into memory; free(*ret). */
int sample_make(const struct sample *s, const struct image_writer_options *o, uint8_t **ret,
		size_t *ret_size, struct err *err);

#endif
