/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Offsets in struct lane (tracee/mailbox.h) and struct call (tracee/batch.h) that machine code
 * knows. Included by assembly too: nothing but macros. tracee/mailbox.c asserts them. */
#ifndef CPX_ARCH_LANE_ABI_H
#define CPX_ARCH_LANE_ABI_H

#define LANE_PARK   0 /* two words, 8 bytes apart */
#define LANE_TURN   32
#define LANE_NCALLS 36
#define LANE_DONE   40
#define LANE_READY  44
#define LANE_GADGET 48
#define LANE_NR     56
#define LANE_ARG    64
#define LANE_INSIDE 120
#define LANE_NPEERS 124
#define LANE_CALL   128

/* The lanes of other threads, behind the first lane of their mailbox. */
#define LANE_PEERS_AT  (3 * 192 * 1024)
#define LANE_PEER_SIZE (8 * 1024)

/* In LANE_INSIDE. */
#define LANE_OUTSIDE 0
#define LANE_COMING  1
#define LANE_ENTERED 2

#define CALL_NR   0
#define CALL_ARG  8
#define CALL_RET  56
#define CALL_SIZE 64

/* struct drain_rules (tracee/mailbox.h). */
#define DRAIN_QUOTE 256
#define DRAIN_END   257
#define DRAIN_WHEN  258
#define DRAIN_ENDS  2 /* a value of its table */
/* Of DRAIN_WHEN. */
#define DRAIN_IF_UNENDED 1
#define DRAIN_IF_EMPTY	 2

/* In LANE_READY: cpx has set the lane up. A lane of fresh zeroes must not be waited in. */
#define LANE_IS_READY 0x78706331

#endif
