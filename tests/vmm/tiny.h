/* SPDX-License-Identifier: MIT */
/* The guests of tiny.asm, and partitions with one VP for them. */
#ifndef VMM_TINY_H
#define VMM_TINY_H

#include "mshv.h"

#define TINY 0x1000u
#define TINY_DATA 0x2000u
#define TINY_PORT 0x80u

extern const uint8_t tiny_out[], tiny_out_end[], tiny_count[], tiny_count_end[], tiny_loop[], tiny_loop_end[],
	tiny_turns[], tiny_turns_end[], tiny_show[], tiny_show_end[], tiny_probe[], tiny_probe_end[],
	tiny_probe_vectors[];

struct tiny {
	int partition, vp;
	uint8_t *memory; /* the guest's, from address 0 */
	size_t bytes;
};

/* A partition with `bytes` of memory, VP 0 at the code's start. */
void tiny_make(struct tiny *tiny, int dev, size_t bytes, const uint8_t *code, const uint8_t *code_end);
/* All files closed and the memory given back: the driver deletes the partition. */
void tiny_end(struct tiny *tiny);
/* Runs until the guest writes to TINY_PORT; ends the program when something else comes. */
void tiny_run_to_port(struct tiny *tiny);

/* TAP, as the guests print it: a line for each result, `tap_end()` the plan; its value is the exit status. */
bool tap_ok(bool good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tap_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int tap_end(void);

#endif
