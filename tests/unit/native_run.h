/* SPDX-License-Identifier: MIT */
/*
 * Runs one instruction on the processor that runs the tests, from and to a set of registers and
 * flags: code is built in a small buffer at a fixed low address, next to the state and a window of
 * memory for its operands.
 */
#ifndef TRIVET_TESTS_NATIVE_RUN_H
#define TRIVET_TESTS_NATIVE_RUN_H

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <trivet/emulate.h>

/* In the low 2 GiB, so that absolute 32-bit and 32-bit wide addresses reach it. */
#define ARENA_BASE 0x10000000u
#define CODE_OFFSET 0u
#define STATE_OFFSET 0x2000u
#define WINDOW_OFFSET 0x4000u
#define WINDOW_SIZE 0x1000u
#define SLOT_OFFSET 0x800u /* of the operand, in the window */

#define STATUS_FLAGS                                                                               \
	(EMULATE_FLAG_CF | EMULATE_FLAG_PF | EMULATE_FLAG_AF | EMULATE_FLAG_ZF | EMULATE_FLAG_SF | \
	 EMULATE_FLAG_OF)

struct native_state {
	uint64_t gpr[GPR_COUNT]; /* RSP: what it was during the instruction */
	uint64_t rflags;
};

static uint8_t *arena;
static uint64_t seed;
static uint64_t random_state;
static uint64_t runs;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Mostly values at which carries and signs turn over. */
static uint64_t interesting_value(void)
{
	uint64_t r = next_random();
	unsigned int shift = 8u << ((r >> 8) & 3);

	switch (r & 7) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return 1ull << (shift - 1);
	case 3:
		return (1ull << (shift - 1)) - 1;
	case 4:
		return (r >> 16) & 0xff;
	case 5:
		return shift == 64 ? 0 : 1ull << shift;
	default:
		return next_random();
	}
}

static struct native_state *native_state(void)
{
	return (struct native_state *)(arena + STATE_OFFSET);
}

static uint8_t *window(void)
{
	return arena + WINDOW_OFFSET;
}

struct code {
	uint8_t *at;
};

static void emit(struct code *code, const void *bytes, size_t n)
{
	memcpy(code->at, bytes, n);
	code->at += n;
}

static void emit_u8(struct code *code, uint8_t byte)
{
	*code->at++ = byte;
}

/* opcode reg, [absolute address] with a 64-bit register. */
static void emit_absolute(struct code *code, uint8_t opcode, unsigned int reg, uint32_t offset)
{
	uint32_t address = ARENA_BASE + offset;

	emit_u8(code, (uint8_t)(0x48 | (reg >= 8 ? 4 : 0)));
	emit_u8(code, opcode);
	emit_u8(code, (uint8_t)((reg & 7) << 3 | 4));
	emit_u8(code, 0x25);
	emit(code, &address, sizeof(address));
}

static uint32_t gpr_offset(unsigned int reg)
{
	return STATE_OFFSET + 8 * reg;
}

/*
 * void run(void): loads every register but RSP and the flags from struct native_state, runs the
 * instruction, stores them all back. Returns the instruction's address.
 */
static uint64_t build_native(const uint8_t *insn, size_t length)
{
	static const uint8_t save[] = { 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57 };
	static const uint8_t restore[] = { 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3 };
	struct code code = { arena + CODE_OFFSET };
	uint64_t address;

	emit(&code, save, sizeof(save));
	emit_absolute(&code, 0x89, GPR_RSP, gpr_offset(GPR_RSP));
	emit_absolute(&code, 0xff, 6, STATE_OFFSET + offsetof(struct native_state, rflags)); /* PUSH */
	emit_u8(&code, 0x9d);								     /* POPFQ */
	for (unsigned int reg = 0; reg < GPR_COUNT; reg++) {
		if (reg != GPR_RSP)
			emit_absolute(&code, 0x8b, reg, gpr_offset(reg));
	}
	address = ARENA_BASE + (uint64_t)(code.at - arena);
	emit(&code, insn, length);
	for (unsigned int reg = 0; reg < GPR_COUNT; reg++) {
		if (reg != GPR_RSP)
			emit_absolute(&code, 0x89, reg, gpr_offset(reg));
	}
	emit_u8(&code, 0x9c);								     /* PUSHFQ */
	emit_absolute(&code, 0x8f, 0, STATE_OFFSET + offsetof(struct native_state, rflags)); /* POP */
	emit_u8(&code, 0xfc);								     /* CLD */
	emit(&code, restore, sizeof(restore));
	return address;
}

static void run_native(void)
{
	void (*function)(void);
	void *address = arena + CODE_OFFSET;

	memcpy(&function, &address, sizeof(function));
	function();
	runs++;
}

/* Any registers and status flags. */
static void randomize(struct native_state *state)
{
	for (unsigned int reg = 0; reg < GPR_COUNT; reg++)
		state->gpr[reg] = interesting_value();
	state->rflags = 0x202 | (next_random() & STATUS_FLAGS); /* IF as the process has it */
}

/* Any memory. */
static void fill_window(void)
{
	for (unsigned int i = 0; i < WINDOW_SIZE; i += 8) {
		uint64_t value = next_random();

		memcpy(window() + i, &value, sizeof(value));
	}
}

/* 0, or -1 when the system gives us no executable memory there. */
static int native_init(void)
{
	arena = mmap((void *)(uintptr_t)ARENA_BASE, 0x10000, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (arena == (uint8_t *)(uintptr_t)ARENA_BASE)
		return 0;
	perror("mmap of the code buffer");
	return -1;
}

#endif
