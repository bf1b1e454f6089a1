/* SPDX-License-Identifier: MIT */
/*
 * The plain moves between a register and memory, and no other instruction: as much as a monitor without devices in memory needs to
 * answer a load with ones and to drop a store (SDM2 2.1, chapter 4 "MOV", "MOVZX").
 */
#ifndef VMM_MOVE_H
#define VMM_MOVE_H

#include <stdbool.h>
#include <stdint.h>

struct move {
	uint8_t length;	   /* of the instruction */
	bool load;	   /* into a register */
	uint8_t bytes;	   /* of memory */
	uint8_t reg;	   /* 0 RAX to 15 R15, of a load */
	uint8_t reg_bytes; /* of it that are written: 4 clears the upper half */
	bool high_byte;	   /* AH, CH, DH, BH for `reg` 0 to 3 */
};

/* `mode_bits` is 16, 32 or 64: the code segment's. False: another instruction, or more of it is needed. */
bool decode_move(const uint8_t *code, unsigned int count, unsigned int mode_bits, struct move *move);

/* Is it VMCALL or VMMCALL, whatever prefixes it has? */
bool is_hypercall(const uint8_t *code, unsigned int count);

/* What the register is after the load of `value`. */
uint64_t loaded(const struct move *move, uint64_t old, uint64_t value);

#endif
