/* SPDX-License-Identifier: MIT */
/*
 * Carries out a decoded instruction whose memory operand is a device register (the local APIC
 * page): reads and writes registers and flags as the processor would, and calls back for the memory
 * operand. Pure logic; the caller translates addresses, advances RIP and injects faults.
 */
#ifndef TRIVET_EMULATE_H
#define TRIVET_EMULATE_H

#include <trivet/decode.h>

/* Status flags, SDM1 3.4.3. */
#define EMULATE_FLAG_CF BIT(0)
#define EMULATE_FLAG_PF BIT(2)
#define EMULATE_FLAG_AF BIT(4)
#define EMULATE_FLAG_ZF BIT(6)
#define EMULATE_FLAG_SF BIT(7)
#define EMULATE_FLAG_DF BIT(10)
#define EMULATE_FLAG_OF BIT(11)

/*
 * Offset of the memory operand within insn->segment, truncated to the address size; the caller adds
 * the segment base.
 * `rip_next` is RIP + insn->length. BT and its kin with a register bit number reach beyond the
 * encoded address: that is included. MOVS: the source. Only for insn->has_mem.
 */
uint64_t insn_effective_offset(const struct insn *insn, const uint64_t gpr[GPR_COUNT], uint64_t rip_next);

/* Offset of the destination of MOVS, STOS or INS within ES. */
uint64_t insn_string_dest_offset(const struct insn *insn, const uint64_t gpr[GPR_COUNT]);

/* Register `reg` (struct insn's numbering, AH.. included), zero-extended from size 1, 2, 4 or 8. */
uint64_t insn_read_reg(const uint64_t gpr[GPR_COUNT], uint8_t reg, unsigned int size);

/* Writes as the CPU does: 4 bytes clear the upper half, 1 and 2 bytes leave the rest alone. */
void insn_write_reg(uint64_t gpr[GPR_COUNT], uint8_t reg, unsigned int size, uint64_t value);

/*
 * The memory side of one instruction. Sizes are 1, 2, 4 or 8 bytes; the value read is zero-extended
 * or its excess bits are ignored. A callback returns 0, or a negative errno that ends the
 * emulation.
 *
 * `read` and `write` are the device: the caller knows the address (from the intercept) and keeps it
 * in `ctx`. An operand that straddles two pages is the caller's to refuse. `guest_read` and
 * `guest_write` are the other side of MOVS, in ordinary guest memory at segment:offset; both may be
 * NULL, then MOVS gives -ENOTSUP.
 */
struct mmio_access {
	void *ctx;
	int (*read)(void *ctx, unsigned int size, uint64_t *value);
	int (*write)(void *ctx, unsigned int size, uint64_t value);
	int (*guest_read)(void *ctx, enum insn_segment segment, uint64_t offset, unsigned int size,
			  uint64_t *value);
	int (*guest_write)(void *ctx, enum insn_segment segment, uint64_t offset, unsigned int size,
			   uint64_t value);
	bool device_is_dest; /* MOVS only: the device is at ES:rDI, else at the source */
};

#define EMULATE_DONE 0
#define EMULATE_AGAIN 1

/*
 * Executes `insn` (which has a memory operand) once on gpr[] and *rflags.
 *   EMULATE_DONE   finished: the caller advances RIP by insn->length
 *   EMULATE_AGAIN  one iteration of a REP is done and rCX says there are more: RIP stays
 *   -ENOTSUP       not an instruction for memory-mapped devices
 *   other          what a callback returned
 * On an error registers and flags are as before (a device read may have happened).
 *
 * LOCK needs no care: the device side is the caller's own lock. XCHG, CMPXCHG and the
 * read-modify-write forms read and then write the device once each; CMPXCHG writes the old value
 * back when it does not match, as the bus does (SDM2 CMPXCHG). Flags that the manuals leave
 * undefined are what processors of both vendors do: AND, OR, XOR and TEST clear AF; BT, BTS, BTR
 * and BTC change CF only.
 */
int emulate_mmio(const struct insn *insn, uint64_t gpr[GPR_COUNT], uint64_t *rflags,
		 const struct mmio_access *io);

#endif
