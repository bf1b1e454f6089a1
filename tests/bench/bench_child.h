/* SPDX-License-Identifier: MIT */
/* What bench_child.c and its monitor (tests/vmm/bench.c) agree on. */
#ifndef BENCH_CHILD_H
#define BENCH_CHILD_H

#define BENCH_PORT 0x80	       /* the monitor does nothing */
#define BENCH_ASSERT_PORT 0x84 /* OUT of a vector: it comes back, asserted by call */
#define BENCH_EVENT_PORT 0x88  /* OUT: BENCH_VECTOR comes back, by event file */
#define BENCH_VECTOR 0x61
#define BENCH_GSI 5
#define BENCH_DOORBELL 0xd0000000 /* a store of 4 bytes rings it */
#define BENCH_UNMAPPED 0xd1000000 /* nothing */
#define BENCH_PAGES \
	0xd2000000 /* BENCH_PAGE_COUNT regions of a page each: what is mapped at a first touch is one page */
#define BENCH_PAGE_COUNT 16

#endif
