/* unit: core/emulate.c core/decode.c */
/* SPDX-License-Identifier: MIT */
/*
 * The emulator against the processor that runs the test: the same instruction on the same
 * registers, flags and memory runs natively from a small buffer and in the emulator, and everything
 * must come out the same. What the host can't run (16-bit addresses, errors) is written down by
 * hand.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <trivet/emulate.h>

#include "native_run.h"

/* The device: a place in a copy of the window. */
struct fake_device {
	uint8_t memory[WINDOW_SIZE];
	uint64_t address; /* of the access in the arena's address space */
	unsigned int reads;
	unsigned int writes;
	unsigned int last_size;
	int read_error;
	int write_error;
};

static uint8_t *device_byte(struct fake_device *device, uint64_t address, unsigned int size)
{
	uint64_t offset = address - ARENA_BASE - WINDOW_OFFSET;

	assert_true(offset <= WINDOW_SIZE - size);
	device->last_size = size;
	return device->memory + offset;
}

static int device_read(void *ctx, unsigned int size, uint64_t *value)
{
	struct fake_device *device = ctx;

	device->reads++;
	if (device->read_error)
		return device->read_error;
	*value = 0xdeadbeefdeadbeef; /* a device may leave garbage above the size */
	memcpy(value, device_byte(device, device->address, size), size);
	return 0;
}

static int device_write(void *ctx, unsigned int size, uint64_t value)
{
	struct fake_device *device = ctx;

	device->writes++;
	if (device->write_error)
		return device->write_error;
	memcpy(device_byte(device, device->address, size), &value, size);
	return 0;
}

static int guest_read(void *ctx, enum insn_segment segment, uint64_t offset, unsigned int size,
		      uint64_t *value)
{
	struct fake_device *device = ctx;

	assert_int_equal(segment, INSN_SEG_DS);
	*value = 0xdeadbeefdeadbeef;
	memcpy(value, device_byte(device, offset, size), size);
	return device->read_error;
}

static int guest_write(void *ctx, enum insn_segment segment, uint64_t offset, unsigned int size,
		       uint64_t value)
{
	struct fake_device *device = ctx;

	assert_int_equal(segment, INSN_SEG_ES);
	if (device->write_error)
		return device->write_error;
	memcpy(device_byte(device, offset, size), &value, size);
	return 0;
}

static struct mmio_access access_to(struct fake_device *device)
{
	return (struct mmio_access){ device, device_read, device_write, guest_read, guest_write, false };
}

static void describe(const uint8_t *bytes, unsigned int length)
{
	fprintf(stderr, "SEED=%llu instruction", (unsigned long long)seed);
	for (unsigned int i = 0; i < length; i++)
		fprintf(stderr, " %02x", bytes[i]);
	fprintf(stderr, "\n");
}

/* Flags that the manuals define for the operation; the rest is checked in undefined_flags(). */
static uint64_t defined_flags(uint8_t op)
{
	switch (op) {
	case INSN_AND:
	case INSN_OR:
	case INSN_XOR:
	case INSN_TEST:
		return ~EMULATE_FLAG_AF;
	case INSN_BT:
	case INSN_BTS:
	case INSN_BTR:
	case INSN_BTC:
		return ~(EMULATE_FLAG_OF | EMULATE_FLAG_SF | EMULATE_FLAG_AF | EMULATE_FLAG_PF);
	default:
		return UINT64_MAX;
	}
}

static void check_equal(const char *what, uint64_t native, uint64_t emulated,
			const struct native_state *before, const uint8_t *bytes, unsigned int length)
{
	if (native == emulated)
		return;
	describe(bytes, length);
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		fprintf(stderr, "  before: gpr %u = %llx\n", i, (unsigned long long)before->gpr[i]);
	fail_msg("%s: native %llx, emulated %llx, flags before %llx", what, (unsigned long long)native,
		 (unsigned long long)emulated, (unsigned long long)before->rflags);
}

/* Runs the native code already built and the emulator, both from *before, and compares. */
static void run_both(const struct insn *insn, const uint8_t *bytes, const struct native_state *before,
		     bool device_is_dest)
{
	struct native_state *native = native_state();
	struct native_state emulated = *before;
	struct fake_device device = { .reads = 0 };
	struct mmio_access io = access_to(&device);
	uint64_t mask = defined_flags(insn->op);
	int rc;

	memcpy(device.memory, window(), WINDOW_SIZE);
	*native = *before;
	run_native();

	io.device_is_dest = device_is_dest;
	do {
		device.address = device_is_dest && insn->op == INSN_MOVS ?
					 insn_string_dest_offset(insn, emulated.gpr) :
					 insn_effective_offset(insn, emulated.gpr, 0);
		rc = emulate_mmio(insn, emulated.gpr, &emulated.rflags, &io);
	} while (rc == EMULATE_AGAIN);
	check_equal("result", 0, (uint64_t)rc, before, bytes, insn->length);
	if (device.last_size)
		check_equal("size", insn->mem_size, device.last_size, before, bytes, insn->length);
	if (insn->rep == INSN_REP_NONE && insn->op != INSN_MOVS) {
		check_equal("reads", insn->mem_access & INSN_MEM_READ ? 1 : 0, device.reads, before, bytes,
			    insn->length);
		check_equal("writes", insn->mem_access & INSN_MEM_WRITE ? 1 : 0, device.writes, before, bytes,
			    insn->length);
	}

	for (unsigned int reg = 0; reg < GPR_COUNT; reg++) {
		if (reg != GPR_RSP)
			check_equal("register", native->gpr[reg], emulated.gpr[reg], before, bytes,
				    insn->length);
	}
	mask &= STATUS_FLAGS | EMULATE_FLAG_DF;
	check_equal("flags", native->rflags & mask, emulated.rflags & mask, before, bytes, insn->length);
	check_equal("other flags", before->rflags & ~STATUS_FLAGS, emulated.rflags & ~STATUS_FLAGS, before,
		    bytes, insn->length);
	if (memcmp(window(), device.memory, WINDOW_SIZE) != 0)
		check_equal("memory", 1, 0, before, bytes, insn->length);
}

/* IMM_Z: 8 bits for byte operations, else the operand size up to 32. */
enum immediate { IMM_NONE, IMM_8, IMM_Z };

struct form {
	uint16_t opcode;  /* 0x100: after 0F */
	int8_t extension; /* ModRM.reg, -1: a register */
	uint8_t immediate;
};

#define REG(opcode)                  \
	{                            \
		opcode, -1, IMM_NONE \
	}
#define GROUP(opcode, imm)                                                                                  \
	{ opcode, 0, imm }, { opcode, 1, imm }, { opcode, 2, imm }, { opcode, 3, imm }, { opcode, 4, imm }, \
		{ opcode, 5, imm }, { opcode, 6, imm },                                                     \
	{                                                                                                   \
		opcode, 7, imm                                                                              \
	}

/* clang-format off */
static const struct form forms[] = {
	REG(0x00), REG(0x01), REG(0x02), REG(0x03), REG(0x08), REG(0x09), REG(0x0a), REG(0x0b),
	REG(0x10), REG(0x11), REG(0x12), REG(0x13), REG(0x18), REG(0x19), REG(0x1a), REG(0x1b),
	REG(0x20), REG(0x21), REG(0x22), REG(0x23), REG(0x28), REG(0x29), REG(0x2a), REG(0x2b),
	REG(0x30), REG(0x31), REG(0x32), REG(0x33), REG(0x38), REG(0x39), REG(0x3a), REG(0x3b),
	GROUP(0x80, IMM_Z), GROUP(0x81, IMM_Z), GROUP(0x83, IMM_8), REG(0x63), REG(0x84),
	REG(0x85), REG(0x86), REG(0x87), REG(0x88), REG(0x89), REG(0x8a), REG(0x8b),
	{ 0xc6, 0, IMM_Z }, { 0xc7, 0, IMM_Z }, { 0xf6, 0, IMM_Z }, { 0xf7, 0, IMM_Z },
	{ 0xf6, 1, IMM_Z }, { 0xf7, 1, IMM_Z }, { 0xf6, 2, IMM_NONE }, { 0xf7, 2, IMM_NONE },
	{ 0xf6, 3, IMM_NONE }, { 0xf7, 3, IMM_NONE }, { 0xfe, 0, IMM_NONE }, { 0xff, 0, IMM_NONE },
	{ 0xfe, 1, IMM_NONE }, { 0xff, 1, IMM_NONE }, REG(0x1a3), REG(0x1ab), REG(0x1b3),
	REG(0x1bb), { 0x1ba, 4, IMM_8 }, { 0x1ba, 5, IMM_8 }, { 0x1ba, 6, IMM_8 },
	{ 0x1ba, 7, IMM_8 }, REG(0x1b0), REG(0x1b1), REG(0x1b6), REG(0x1b7), REG(0x1be),
	REG(0x1bf), REG(0x1c0), REG(0x1c1),
};
/* clang-format on */

/* GS: its base is 0 in a Linux process. */
static const char *const prefix_strings[] = {
	"",	"\x66",	    "\x48",	"\x44",		"\x4c",
	"\x40", "\x66\x44", "\x66\x48", "\x67",		"\x67\x4c",
	"\xf0", "\xf0\x66", "\xf0\x48", "\xf0\x44",	"\xf0\x4c",
	"\x3e", "\xf2",	    "\x65\x66", "\x66\xf0\x44", "\x67\x66\xf0\x40",
};

static size_t put_opcode(uint8_t *bytes, uint16_t opcode)
{
	size_t n = 0;

	if (opcode & 0x100)
		bytes[n++] = 0x0f;
	bytes[n++] = (uint8_t)opcode;
	return n;
}

/* prefix opcode reg, [slot], immediate; the address takes no register, so `reg` may be any. */
static size_t assemble(uint8_t *bytes, const char *prefix, const struct form *form, unsigned int reg)
{
	uint32_t address = ARENA_BASE + WINDOW_OFFSET + SLOT_OFFSET;
	size_t n = strlen(prefix);
	uint64_t immediate = interesting_value();

	memcpy(bytes, prefix, n);
	n += put_opcode(bytes + n, form->opcode);
	bytes[n++] = (uint8_t)((form->extension >= 0 ? (unsigned int)form->extension : reg) << 3 | 4);
	bytes[n++] = 0x25;
	memcpy(bytes + n, &address, sizeof(address));
	n += sizeof(address);
	memcpy(bytes + n, &immediate, sizeof(immediate)); /* as much of it as the form has */
	return n + sizeof(immediate);
}

/* Makes a random state fit: bit numbers that stay in the window, CMPXCHG that succeeds. */
static void fit_state(const struct insn *insn, struct native_state *state)
{
	if (insn->op >= INSN_BT && insn->op <= INSN_BTC && insn->src == INSN_OPERAND_REG)
		insn_write_reg(state->gpr, insn->src_reg, insn->operand_size,
			       next_random() % 0x3800 - 0x1c00);
	if (insn->op == INSN_CMPXCHG && (next_random() & 1))
		memcpy(&state->gpr[GPR_RAX], window() + SLOT_OFFSET, insn->mem_size);
}

static void run_form(const char *prefix, const struct form *form, unsigned int reg, unsigned int count)
{
	struct native_state before;
	uint8_t bytes[32] = { 0 };
	struct insn insn;
	uint64_t value;
	int rc;

	assemble(bytes, prefix, form, reg);
	/* Only illegal LOCKs and the 16-bit MOVSXD may be refused. */
	rc = insn_decode(bytes, sizeof(bytes), INSN_MODE_64, &insn);
	if (rc) {
		assert_true((rc == -EILSEQ && strchr(prefix, 0xf0)) ||
			    (rc == -ENOTSUP && form->opcode == 0x63));
		return;
	}
	if (insn.dst_reg == GPR_RSP || insn.src_reg == GPR_RSP)
		return;

	build_native(bytes, insn.length);
	for (unsigned int i = 0; i < count; i++) {
		randomize(&before);
		value = interesting_value();
		memcpy(window() + SLOT_OFFSET, &value, sizeof(value));
		fit_state(&insn, &before);
		run_both(&insn, bytes, &before, false);
	}
}

static void every_form_matches_the_processor(void **state)
{
	(void)state;
	fill_window();
	for (size_t f = 0; f < ARRAY_SIZE(forms); f++) {
		for (size_t p = 0; p < ARRAY_SIZE(prefix_strings); p++) {
			for (unsigned int reg = 0; reg < 8; reg++)
				run_form(prefix_strings[p], &forms[f], reg, 24);
		}
	}
	assert_true(runs > 200000);
}

/* MOV between the accumulator and an absolute address. */
static void moffs_matches_the_processor(void **state)
{
	static const char *const prefix[] = { "", "\x66", "\x48", "\x67", "\x67\x66", "\x67\x48" };
	uint64_t address = ARENA_BASE + WINDOW_OFFSET + SLOT_OFFSET;

	(void)state;
	for (size_t p = 0; p < ARRAY_SIZE(prefix); p++) {
		for (uint8_t opcode = 0xa0; opcode <= 0xa3; opcode++) {
			uint8_t bytes[32] = { 0 };
			struct native_state before;
			struct insn insn;
			size_t n = strlen(prefix[p]);

			memcpy(bytes, prefix[p], n);
			bytes[n++] = opcode;
			memcpy(bytes + n, &address, 8);
			assert_int_equal(insn_decode(bytes, 15, INSN_MODE_64, &insn), 0);
			build_native(bytes, insn.length);
			for (int i = 0; i < 20; i++) {
				fill_window();
				randomize(&before);
				run_both(&insn, bytes, &before, false);
			}
		}
	}
}

static void strings_match_the_processor(void **state)
{
	static const char *const prefix[] = { "",	  "\x66",	  "\x48",	 "\x67", "\x67\x48",
					      "\xf3",	  "\xf3\x66",	  "\xf3\x48",	 "\xf2", "\xf3\x67",
					      "\xf2\x66", "\xf3\x67\x66", "\xf3\x67\x48" };
	static const uint8_t opcode[] = { 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad };

	(void)state;
	for (unsigned int i = 0; i < 20000; i++) {
		const char *chosen = prefix[next_random() % ARRAY_SIZE(prefix)];
		uint8_t bytes[16] = { 0 };
		struct native_state before;
		struct insn insn;
		size_t n = strlen(chosen);
		uint64_t high = 0;

		memcpy(bytes, chosen, n);
		bytes[n] = opcode[next_random() % sizeof(opcode)];
		assert_int_equal(insn_decode(bytes, 15, INSN_MODE_64, &insn), 0);
		build_native(bytes, insn.length);

		if (i % 8 == 0)
			fill_window();
		randomize(&before);
		if (insn.address_size == 4) /* must be ignored, and cleared by the update */
			high = next_random() << 32;
		before.gpr[GPR_RSI] = high + ARENA_BASE + WINDOW_OFFSET + 0x600 + next_random() % 0x400;
		before.gpr[GPR_RDI] = high + ARENA_BASE + WINDOW_OFFSET + 0x600 + next_random() % 0x400;
		before.gpr[GPR_RCX] = high + 1 + next_random() % 20;
		if (!high && next_random() % 8 == 0)
			before.gpr[GPR_RCX] = 0;
		if (next_random() & 1)
			before.rflags |= EMULATE_FLAG_DF;
		run_both(&insn, bytes, &before, next_random() & 1);
	}
}

/* Random addressing forms: what insn_effective_offset() says is what LEA loads. */
static void addresses_match_the_processor(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 200000; i++) {
		uint64_t r = next_random();
		uint8_t rex = (uint8_t)(0x48 | (r & 7));
		bool prefix_67 = r & 0x100;
		uint8_t bytes[24] = { 0 };
		struct native_state before;
		struct insn insn;
		unsigned int n = 0;
		uint64_t native;

		if (prefix_67)
			bytes[n++] = 0x67;
		bytes[n++] = rex;
		bytes[n++] = 0x8b;
		r = next_random();
		memcpy(bytes + n, &r, 8);
		if (bytes[n] >= 0xc0)
			bytes[n] &= 0x7f;
		assert_int_equal(insn_decode(bytes, 15, INSN_MODE_64, &insn), 0);
		if (insn.dst_reg == GPR_RSP)
			continue;

		bytes[n - 1] = 0x8d;
		randomize(&before);
		*native_state() = before;
		uint64_t address = build_native(bytes, insn.length);

		run_native();
		native = native_state()->gpr[insn.dst_reg];
		before.gpr[GPR_RSP] = native_state()->gpr[GPR_RSP];
		check_equal("address", native,
			    insn_effective_offset(&insn, before.gpr, address + insn.length), &before, bytes,
			    insn.length);
	}
}

static void addresses_of_16_bit_code(void **state)
{
	static const struct {
		uint8_t bytes[8];
		uint8_t segment;
		uint16_t offset;
	} table[] = {
		{ { 0x8a, 0x00 }, INSN_SEG_DS, 0x1000 + 0x0300 },	    /* [bx+si] */
		{ { 0x8a, 0x01 }, INSN_SEG_DS, 0x0040 },		    /* [bx+di] wraps */
		{ { 0x8a, 0x42, 0xff }, INSN_SEG_SS, 0x2000 + 0x0300 - 1 }, /* [bp+si-1] */
		{ { 0x8a, 0x83, 0x00, 0x10 }, INSN_SEG_SS, 0x2040 },	    /* [bp+di+1000h] wraps */
		{ { 0x8a, 0x04 }, INSN_SEG_DS, 0x0300 },		    /* [si] */
		{ { 0x8a, 0x05 }, INSN_SEG_DS, 0xf040 },		    /* [di] */
		{ { 0x8a, 0x06, 0x34, 0x82 }, INSN_SEG_DS, 0x8234 },	    /* [8234h] */
		{ { 0x8a, 0x46, 0x02 }, INSN_SEG_SS, 0x2002 },		    /* [bp+2] */
		{ { 0x8a, 0x47, 0x80 }, INSN_SEG_DS, 0x0f80 },		    /* [bx-80h] */
		{ { 0x26, 0x8a, 0x46, 0x02 }, INSN_SEG_ES, 0x2002 },	    /* es:[bp+2] */
		{ { 0xa0, 0x78, 0x96 }, INSN_SEG_DS, 0x9678 },		    /* [9678h] */
		{ { 0xac }, INSN_SEG_DS, 0x0300 },			    /* lodsb */
		{ { 0x67, 0x8a, 0x43, 0x08 }, INSN_SEG_DS, 0x1008 },	    /* [ebx+8] */
	};
	uint64_t gpr[GPR_COUNT] = { 0 };
	struct insn insn;

	(void)state;
	gpr[GPR_RBX] = 0x1000;
	gpr[GPR_RBP] = 0xffff2000;
	gpr[GPR_RSI] = 0xabcd0300;
	gpr[GPR_RDI] = 0xabcdf040;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		assert_int_equal(insn_decode(table[i].bytes, 8, INSN_MODE_16, &insn), 0);
		assert_int_equal(insn_effective_offset(&insn, gpr, 0), table[i].offset);
		assert_int_equal(insn.segment, table[i].segment);
	}
	assert_int_equal(insn_decode((const uint8_t *)"\xaa", 1, INSN_MODE_16, &insn), 0);
	assert_int_equal(insn_effective_offset(&insn, gpr, 0), 0xf040);
	assert_int_equal(insn_string_dest_offset(&insn, gpr), 0xf040);
}

static void register_writes(void **state)
{
	uint64_t gpr[GPR_COUNT] = { 0 };

	(void)state;
	gpr[GPR_RDX] = 0x1122334455667788;
	insn_write_reg(gpr, INSN_REG_DH, 1, 0xfffff2);
	assert_int_equal(gpr[GPR_RDX], 0x112233445566f288);
	assert_int_equal(insn_read_reg(gpr, INSN_REG_DH, 1), 0xf2);
	insn_write_reg(gpr, GPR_RDX, 1, 0x1aa);
	assert_int_equal(gpr[GPR_RDX], 0x112233445566f2aa);
	insn_write_reg(gpr, GPR_RDX, 2, 0x12345678);
	assert_int_equal(gpr[GPR_RDX], 0x1122334455665678);
	insn_write_reg(gpr, GPR_RDX, 4, 0xffffffff00000001);
	assert_int_equal(gpr[GPR_RDX], 1);
	insn_write_reg(gpr, GPR_R15, 8, UINT64_MAX);
	assert_int_equal(gpr[GPR_R15], UINT64_MAX);
	assert_int_equal(insn_read_reg(gpr, GPR_R15, 4), 0xffffffff);
}

/* What the header promises where the manuals promise nothing. */
static void undefined_flags(void **state)
{
	static const uint8_t and_memory[] = { 0x21, 0x03 }, bts_memory[] = { 0x0f, 0xba, 0x2b, 0x05 };
	struct fake_device device = { .address = ARENA_BASE + WINDOW_OFFSET };
	struct mmio_access io = access_to(&device);
	uint64_t gpr[GPR_COUNT] = { 0 };
	uint64_t rflags = STATUS_FLAGS;
	struct insn insn;

	(void)state;
	assert_int_equal(insn_decode(and_memory, 2, INSN_MODE_64, &insn), 0);
	assert_int_equal(emulate_mmio(&insn, gpr, &rflags, &io), 0);
	assert_int_equal(rflags, EMULATE_FLAG_ZF | EMULATE_FLAG_PF);
	rflags = STATUS_FLAGS;
	assert_int_equal(insn_decode(bts_memory, 4, INSN_MODE_64, &insn), 0);
	assert_int_equal(emulate_mmio(&insn, gpr, &rflags, &io), 0);
	assert_int_equal(rflags, STATUS_FLAGS & ~EMULATE_FLAG_CF);
	assert_int_equal(device.memory[0], 0x20);
}

/* A refusing device leaves registers and flags alone, whichever access it refuses. */
static void errors_change_nothing(void **state)
{
	(void)state;
	for (size_t f = 0; f < ARRAY_SIZE(forms) + 6; f++) {
		static const struct form string_forms[] = { { 0xa4, 0, 0 }, { 0xa5, 0, 0 }, { 0xaa, 0, 0 },
							    { 0xab, 0, 0 }, { 0xac, 0, 0 }, { 0xad, 0, 0 } };
		bool is_string = f >= ARRAY_SIZE(forms);
		const struct form *form = is_string ? &string_forms[f - ARRAY_SIZE(forms)] : &forms[f];
		uint8_t bytes[32] = { 0 };
		struct native_state before, after;
		struct insn insn;

		assemble(bytes, is_string ? "\xf3" : "", form, GPR_RCX);
		assert_int_equal(insn_decode(bytes, 15, INSN_MODE_64, &insn), 0);
		for (int refuse_write = 0; refuse_write < 2; refuse_write++) {
			struct fake_device device = { .address = ARENA_BASE + WINDOW_OFFSET };
			struct mmio_access io = access_to(&device);
			bool applies = insn.mem_access & (refuse_write ? INSN_MEM_WRITE : INSN_MEM_READ);

			device.read_error = refuse_write ? 0 : -EFAULT;
			device.write_error = refuse_write ? -EFAULT : 0;
			randomize(&before);
			before.gpr[GPR_RCX] = 3;
			before.gpr[GPR_RSI] = before.gpr[GPR_RDI] = device.address;
			after = before;
			io.device_is_dest = is_string && refuse_write;
			if (!applies)
				continue;
			assert_int_equal(emulate_mmio(&insn, after.gpr, &after.rflags, &io), -EFAULT);
			assert_memory_equal(&after, &before, sizeof(before));
		}
	}
}

static void refused_instructions(void **state)
{
	static const uint8_t cpuid[] = { 0x0f, 0xa2 }, add_registers[] = { 0x01, 0xc8 }, movsb[] = { 0xa4 },
			     outsb[] = { 0x6e }, lmsw[] = { 0x0f, 0x01, 0x30 },
			     invlpg[] = { 0x0f, 0x01, 0x38 };
	static const struct {
		const uint8_t *bytes;
		size_t size;
	} table[] = {
		{ cpuid, 2 }, { add_registers, 2 }, { movsb, 1 }, { outsb, 1 }, { lmsw, 3 }, { invlpg, 3 },
	};
	struct fake_device device = { .address = ARENA_BASE + WINDOW_OFFSET };
	struct mmio_access io = access_to(&device);
	uint64_t gpr[GPR_COUNT] = { 0 };
	uint64_t rflags = 2;

	(void)state;
	io.guest_read = NULL;
	io.guest_write = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct insn insn;

		assert_int_equal(insn_decode(table[i].bytes, table[i].size, INSN_MODE_64, &insn), 0);
		for (int side = 0; side < 2; side++) {
			io.device_is_dest = side;
			assert_int_equal(emulate_mmio(&insn, gpr, &rflags, &io), -ENOTSUP);
		}
	}
	assert_int_equal(device.reads + device.writes, 0);
	assert_int_equal(rflags, 2);
}

/* REP with nothing to do does nothing; with more than one it asks to be called again. */
static void repeat_counts(void **state)
{
	struct fake_device device = { .address = ARENA_BASE + WINDOW_OFFSET };
	struct mmio_access io = access_to(&device);
	uint64_t gpr[GPR_COUNT] = { 0 };
	uint64_t rflags = 2;
	struct insn insn;

	(void)state;
	assert_int_equal(insn_decode((const uint8_t *)"\xf3\xab", 2, INSN_MODE_16, &insn), 0);
	gpr[GPR_RCX] = 0xffff0000;
	assert_int_equal(emulate_mmio(&insn, gpr, &rflags, &io), EMULATE_DONE);
	assert_int_equal(device.writes, 0);
	gpr[GPR_RCX] = 0xffff0002;
	gpr[GPR_RDI] = 0x1234ffff;
	assert_int_equal(emulate_mmio(&insn, gpr, &rflags, &io), EMULATE_AGAIN);
	assert_int_equal(gpr[GPR_RCX], 0xffff0001);
	assert_int_equal(gpr[GPR_RDI], 0x12340001);
	assert_int_equal(emulate_mmio(&insn, gpr, &rflags, &io), EMULATE_DONE);
	assert_int_equal(gpr[GPR_RCX], 0xffff0000);
	assert_int_equal(gpr[GPR_RDI], 0x12340003);
	assert_int_equal(device.writes, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(register_writes),
		cmocka_unit_test(addresses_of_16_bit_code),
		cmocka_unit_test(undefined_flags),
		cmocka_unit_test(errors_change_nothing),
		cmocka_unit_test(refused_instructions),
		cmocka_unit_test(repeat_counts),
		cmocka_unit_test(moffs_matches_the_processor),
		cmocka_unit_test(strings_match_the_processor),
		cmocka_unit_test(addresses_match_the_processor),
		cmocka_unit_test(every_form_matches_the_processor),
	};
	const char *given = getenv("SEED");
	int rc;

	seed = given ? strtoull(given, NULL, 0) : 20240229;
	random_state = 2 * seed + 1;
	if (native_init())
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	printf("# %llu instructions run on the processor\n", (unsigned long long)runs);
	return rc;
}
