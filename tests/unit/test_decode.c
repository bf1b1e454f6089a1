/* unit: core/decode.c */
/* libs: Zydis */
/* SPDX-License-Identifier: MIT */
/*
 * The instruction decoder against Zydis, in both directions: what ours accepts, Zydis must read the
 * same way down to the last operand, and what Zydis knows of our set, ours must accept. Known
 * differences stand in one function, each with its reason.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <Zydis/Zydis.h>
#include <trivet/decode.h>

static ZydisDecoder decoders[3];
static uint64_t seed;
static uint64_t random_state;
static uint64_t compared;
static uint64_t accepted;
static uint64_t differences;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

#define SAME(name)                                 \
	{                                          \
		INSN_##name, ZYDIS_MNEMONIC_##name \
	}
#define STRING(name, suffix)                               \
	{                                                  \
		INSN_##name, ZYDIS_MNEMONIC_##name##suffix \
	}

/* clang-format off */
static const struct {
	uint8_t op;
	uint16_t mnemonic;
} mnemonics[] = {
	SAME(ADD), SAME(OR), SAME(ADC), SAME(SBB), SAME(AND), SAME(SUB), SAME(XOR), SAME(CMP),
	SAME(BT), SAME(BTS), SAME(BTR), SAME(BTC), SAME(MOV), SAME(MOVZX), SAME(MOVSX), SAME(XCHG),
	SAME(TEST), SAME(NOT), SAME(NEG), SAME(INC), SAME(DEC), SAME(XADD), SAME(CMPXCHG), SAME(IN),
	SAME(OUT), SAME(CPUID), SAME(RDMSR), SAME(WRMSR), SAME(RDTSC), SAME(RDTSCP), SAME(RDPMC),
	SAME(HLT), SAME(PAUSE), SAME(MONITOR), SAME(MWAIT), SAME(MONITORX), SAME(MWAITX), SAME(INVD),
	SAME(WBINVD), SAME(INVLPG), SAME(XSETBV), SAME(CLTS), SAME(LMSW), SAME(SMSW), SAME(VMCALL),
	SAME(VMRUN), SAME(VMMCALL), SAME(VMLOAD), SAME(VMSAVE), SAME(STGI), SAME(CLGI), SAME(SKINIT),
	SAME(INVLPGA),
	{ INSN_MOVSX, ZYDIS_MNEMONIC_MOVSXD }, STRING(MOVS, B), STRING(MOVS, W), STRING(MOVS, D),
	STRING(MOVS, Q), STRING(STOS, B), STRING(STOS, W), STRING(STOS, D), STRING(STOS, Q),
	STRING(LODS, B), STRING(LODS, W), STRING(LODS, D), STRING(LODS, Q), STRING(INS, B),
	STRING(INS, W), STRING(INS, D), STRING(OUTS, B), STRING(OUTS, W), STRING(OUTS, D),
};
/* clang-format on */

/* What Zydis decoded as one of ours: INSN_UNKNOWN where it is outside the set. */
static uint8_t expected_op(const ZydisDecodedInstruction *z)
{
	uint8_t op = INSN_UNKNOWN;

	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		return INSN_UNKNOWN;
	for (size_t i = 0; i < ARRAY_SIZE(mnemonics); i++) {
		if (mnemonics[i].mnemonic == z->mnemonic)
			op = mnemonics[i].op;
	}
	if (z->mnemonic == ZYDIS_MNEMONIC_MOVSD && z->opcode_map == ZYDIS_OPCODE_MAP_0F)
		return INSN_UNKNOWN; /* the SSE2 one */
	if (z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT) {
		if (z->opcode == 0x8c || z->opcode == 0x8e) /* segment registers */
			return INSN_UNKNOWN;
		if (z->opcode >= 0x90 && z->opcode <= 0x97 && op == INSN_XCHG)
			return INSN_UNKNOWN;
		if (z->opcode >= 0x40 && z->opcode <= 0x4f) /* INC, DEC in the opcode */
			return INSN_UNKNOWN;
		if (z->opcode == 0x63 && z->operand_width == 16) /* MOVSXD r16 */
			return INSN_UNKNOWN;
	}
	if (z->opcode_map == ZYDIS_OPCODE_MAP_0F && op == INSN_MOV) {
		static const uint8_t ops[4] = { INSN_MOV_FROM_CR, INSN_MOV_FROM_DR, INSN_MOV_TO_CR,
						INSN_MOV_TO_DR };

		return z->opcode >= 0x20 && z->opcode <= 0x23 ? ops[z->opcode - 0x20] : INSN_UNKNOWN;
	}
	return op;
}

static uint8_t gpr_name(ZydisRegister reg)
{
	if (reg == ZYDIS_REGISTER_NONE)
		return INSN_REG_NONE;
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return (uint8_t)(INSN_REG_AH + reg - ZYDIS_REGISTER_AH);
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		return (uint8_t)(4 + reg - ZYDIS_REGISTER_SPL);
	return (uint8_t)ZydisRegisterGetId(reg);
}

static uint8_t segment_name(ZydisRegister reg)
{
	return (uint8_t)ZydisRegisterGetId(reg);
}

static _Noreturn void mismatch(const uint8_t *bytes, enum insn_mode mode, const char *what, int64_t ours,
			       int64_t theirs)
{
	char text[3 * 16 + 1] = "";
	char line[256] = "no instruction";
	ZydisDisassembledInstruction disassembled;
	static const ZydisMachineMode modes[] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
						  ZYDIS_MACHINE_MODE_LONG_64 };

	for (int i = 0; i < 15; i++)
		snprintf(text + 3 * i, 4, "%02x ", bytes[i]);
	if (ZYAN_SUCCESS(ZydisDisassembleIntel(modes[mode], 0, bytes, 15, &disassembled)))
		snprintf(line, sizeof(line), "%s (%u bytes)", disassembled.text, disassembled.info.length);
	fail_msg("%s: ours %lld, Zydis %lld: mode %d, %s= %s, SEED=%llu", what, (long long)ours,
		 (long long)theirs, (int)mode, text, line, (unsigned long long)seed);
	abort();
}

#define MATCH(what, ours, theirs)                                                        \
	do {                                                                             \
		if ((int64_t)(ours) != (int64_t)(theirs))                                \
			mismatch(bytes, mode, what, (int64_t)(ours), (int64_t)(theirs)); \
	} while (0)

static void match_memory(const uint8_t *bytes, enum insn_mode mode, const struct insn *insn,
			 const ZydisDecodedOperand *z, bool absolute)
{
	int64_t displacement = z->mem.disp.has_displacement ? z->mem.disp.value : 0;
	bool rip = z->mem.base == ZYDIS_REGISTER_RIP || z->mem.base == ZYDIS_REGISTER_EIP;

	MATCH("rip_relative", insn->rip_relative, rip);
	/*
	 * mod 0, SIB base 5: a displacement and no base, whatever REX.B is (SDM2 table 2-5;
	 * test_emulate.c asks the processor). Zydis 4.0 misses that with 32-bit addresses.
	 */
	if (insn->address_size == 4 && z->mem.base == ZYDIS_REGISTER_R13D && insn->base == INSN_REG_NONE)
		displacement = insn->displacement;
	else
		MATCH("base", insn->base, rip ? INSN_REG_NONE : gpr_name(z->mem.base));
	MATCH("index", insn->index, gpr_name(z->mem.index));
	MATCH("scale", insn->index == INSN_REG_NONE ? 0 : 1 << insn->scale, z->mem.scale);
	if (absolute && insn->address_size < 8) /* an address is never negative */
		displacement &= (1ll << (8 * insn->address_size)) - 1;
	MATCH("displacement", insn->displacement, displacement);
	MATCH("segment", insn->segment, segment_name(z->mem.segment));
	if (insn->op != INSN_INVLPG)
		MATCH("mem_size", insn->mem_size * 8, z->size);
}

static void match_access(const uint8_t *bytes, enum insn_mode mode, const struct insn *insn, uint8_t actions)
{
	uint8_t access = 0;

	if (actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		access |= INSN_MEM_READ;
	if (actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
		access |= INSN_MEM_WRITE;
	MATCH("mem_access", insn->mem_access, access);
}

static int64_t sign_extend(uint64_t value, unsigned int bits)
{
	return (int64_t)(value << (64 - bits)) >> (64 - bits);
}

static void match_operand(const uint8_t *bytes, enum insn_mode mode, const struct insn *insn, bool is_dst,
			  const ZydisDecodedOperand *z, unsigned int imm_bits)
{
	uint8_t kind = is_dst ? insn->dst : insn->src;
	uint8_t reg = is_dst ? insn->dst_reg : insn->src_reg;
	bool sized = insn->op != INSN_LMSW && insn->op != INSN_SMSW;

	switch (z->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER:
		if (ZydisRegisterGetClass(z->reg.value) == ZYDIS_REGCLASS_CONTROL) {
			MATCH("operand kind", kind, INSN_OPERAND_CR);
		} else if (ZydisRegisterGetClass(z->reg.value) == ZYDIS_REGCLASS_DEBUG) {
			MATCH("operand kind", kind, INSN_OPERAND_DR);
		} else {
			MATCH("operand kind", kind, INSN_OPERAND_REG);
			if (insn->op == INSN_MOVZX || insn->op == INSN_MOVSX)
				sized = is_dst;
			else if (insn->op >= INSN_IN && insn->op <= INSN_OUTS)
				sized = z->reg.value != ZYDIS_REGISTER_DX;
			if (sized)
				MATCH("operand_size", insn->operand_size * 8, z->size);
		}
		MATCH("register", reg, gpr_name(z->reg.value));
		break;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		MATCH("operand kind", kind, INSN_OPERAND_MEM);
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		MATCH("operand kind", kind, INSN_OPERAND_IMM);
		if (z->imm.is_signed)
			MATCH("immediate", insn->immediate, z->imm.value.s);
		else if (insn->op == INSN_IN || insn->op == INSN_OUT)
			MATCH("port", insn->immediate, z->imm.value.u);
		else /* Zydis has it unsigned: extend it from its encoded size */
			MATCH("immediate", insn->immediate, sign_extend(z->imm.value.u, imm_bits));
		break;
	default:
		mismatch(bytes, mode, "operand type", kind, (int)z->type);
	}
}

/* Instructions whose operands are implied, or don't matter to us. */
static bool has_no_operands(const struct insn *insn)
{
	return insn->op >= INSN_CPUID && !(insn->op >= INSN_INVLPG && insn->op <= INSN_MOV_TO_DR &&
					   insn->op != INSN_XSETBV && insn->op != INSN_CLTS);
}

static void match_instruction(const uint8_t *bytes, enum insn_mode mode, const struct insn *insn,
			      const ZydisDecodedInstruction *z, const ZydisDecodedOperand *operands)
{
	const ZydisDecodedOperand *memory = NULL;
	bool string =
		z->meta.category == ZYDIS_CATEGORY_STRINGOP || z->meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
	uint8_t actions = 0;
	uint8_t rep = INSN_REP_NONE;

	MATCH("length", insn->length, z->length);
	MATCH("op", insn->op, expected_op(z));
	MATCH("address_size", insn->address_size * 8, z->address_width);
	for (int i = 0; i < z->raw.prefix_count; i++) {
		if (z->raw.prefixes[i].value == 0xf2 || z->raw.prefixes[i].value == 0xf3)
			rep = z->raw.prefixes[i].value == 0xf2 ? INSN_REP_REPNE : INSN_REP_REP;
	}
	MATCH("rep", insn->rep, rep);
	MATCH("lock", insn->lock, !!(z->attributes & ZYDIS_ATTRIB_HAS_LOCK));

	if (has_no_operands(insn)) {
		MATCH("has_mem", insn->has_mem, false);
		MATCH("dst", insn->dst, INSN_OPERAND_NONE);
		MATCH("src", insn->src, INSN_OPERAND_NONE);
		return;
	}
	if (insn->op == INSN_INVLPG) {
		MATCH("has_mem", insn->has_mem, true);
		match_memory(bytes, mode, insn, &operands[0], false);
		match_access(bytes, mode, insn, 0);
		return;
	}

	/* LMSW's only operand is its source; CR0, the other one, is hidden. */
	match_operand(bytes, mode, insn, insn->op != INSN_LMSW, &operands[0], z->raw.imm[0].size);
	if (string || (z->operand_count > 1 && operands[1].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN))
		match_operand(bytes, mode, insn, false, &operands[1], z->raw.imm[0].size);
	else if (insn->op != INSN_LMSW)
		MATCH("src", insn->src, INSN_OPERAND_NONE);
	for (int i = 0; i < z->operand_count && i < 2; i++) {
		if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) {
			memory = &operands[i];
			actions |= operands[i].actions;
		}
	}
	MATCH("has_mem", insn->has_mem, memory != NULL);
	if (memory) {
		match_memory(bytes, mode, insn, memory, !(z->attributes & ZYDIS_ATTRIB_HAS_MODRM));
		match_access(bytes, mode, insn, actions);
	} else {
		MATCH("mem_size", insn->mem_size, 0);
		MATCH("mem_access", insn->mem_access, 0);
	}
}

/*
 * Encodings that Zydis 4.0 refuses and we take on purpose:
 * - register forms of 0F 01 that Zydis lists without 66, F2 or F3: processors ignore those
 * prefixes;
 * - LOCK MOV CR0 as CR8, which AMD documents (APM3 "MOV CRn").
 */
static bool is_known_difference(const struct insn *insn, const uint8_t *bytes)
{
	unsigned int length = insn->length;

	if (insn->lock)
		return insn->op == INSN_MOV_FROM_CR || insn->op == INSN_MOV_TO_CR;
	return length > 3 && bytes[length - 3] == 0x0f && bytes[length - 2] == 0x01 &&
	       bytes[length - 1] >= 0xc0;
}

static void compare(const uint8_t bytes[16], enum insn_mode mode)
{
	ZydisDecodedInstruction z;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	bool legal = ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoders[mode], bytes, 15, &z, operands));
	struct insn insn;
	int rc = insn_decode(bytes, 15, mode, &insn);

	compared++;
	if (rc == 0 && !legal && is_known_difference(&insn, bytes)) {
		differences++;
	} else if (rc == 0) {
		accepted++;
		if (!legal)
			mismatch(bytes, mode, "accepted", insn.op, -1);
		match_instruction(bytes, mode, &insn, &z, operands);
	} else if (legal) {
		if (rc != -ENOTSUP)
			mismatch(bytes, mode, "refused as illegal", rc, z.mnemonic);
		if (expected_op(&z) != INSN_UNKNOWN)
			mismatch(bytes, mode, "refused", rc, z.mnemonic);
	} else if (rc != -EILSEQ && rc != -ENOTSUP) {
		mismatch(bytes, mode, "error", rc, -1);
	}
}

static const uint8_t prefixes[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3 };

/* The opcodes of the set, 0x100 added after 0F. */
/* clang-format off */
static const uint16_t opcodes[] = {
	0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x10, 0x11, 0x12,
	0x13, 0x14, 0x15, 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25,
	0x28, 0x29, 0x2a, 0x2b, 0x2c, 0x2d, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x38, 0x39, 0x3a,
	0x3b, 0x3c, 0x3d, 0x63, 0x6c, 0x6d, 0x6e, 0x6f, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86,
	0x87, 0x88, 0x89, 0x8a, 0x8b, 0x90, 0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa8, 0xa9, 0xaa,
	0xab, 0xac, 0xad, 0xb0, 0xb4, 0xb7, 0xb8, 0xbc, 0xbf, 0xc6, 0xc7, 0xe4, 0xe5, 0xe6, 0xe7,
	0xec, 0xed, 0xee, 0xef, 0xf4, 0xf6, 0xf7, 0xfe, 0xff, 0x101, 0x106, 0x108, 0x109, 0x120,
	0x121, 0x122, 0x123, 0x130, 0x131, 0x132, 0x133, 0x1a2, 0x1a3, 0x1ab, 0x1b0, 0x1b1, 0x1b3,
	0x1b6, 0x1b7, 0x1ba, 0x1bb, 0x1be, 0x1bf, 0x1c0, 0x1c1,
};
/* clang-format on */

static void fill_random(uint8_t bytes[16])
{
	uint64_t r[2] = { next_random(), next_random() };

	memcpy(bytes, r, sizeof(r));
}

static unsigned int put_opcode(uint8_t *bytes, uint16_t opcode)
{
	unsigned int n = 0;

	if (opcode & 0x100)
		bytes[n++] = 0x0f;
	bytes[n++] = (uint8_t)opcode;
	return n;
}

static void random_bytes_agree(void **state)
{
	(void)state;
	for (int i = 0; i < 500000; i++) {
		uint8_t bytes[16];

		fill_random(bytes);
		for (int mode = 0; mode < 3; mode++)
			compare(bytes, (enum insn_mode)mode);
	}
}

/* Random tails behind zero to six random prefixes (any order, REX too) and an opcode of the set. */
static void random_instructions_agree(void **state)
{
	uint64_t before = accepted;
	uint64_t runs = 0;

	(void)state;
	for (int i = 0; i < 800000; i++) {
		uint8_t bytes[16 + 8];
		uint64_t r = next_random();
		unsigned int n = 0;

		fill_random(bytes + 8);
		for (unsigned int count = (unsigned int)(r % 7); count > 0; count--) {
			r = next_random();
			bytes[n++] = (r & 3) == 0 ? (uint8_t)(0x40 | ((r >> 8) & 15)) :
						    prefixes[(r >> 8) % sizeof(prefixes)];
		}
		n += put_opcode(bytes + n, opcodes[(next_random() >> 8) % ARRAY_SIZE(opcodes)]);
		fill_random(bytes + n);
		for (int mode = 0; mode < 3; mode++, runs++)
			compare(bytes, (enum insn_mode)mode);
	}
	assert_true(accepted - before > runs / 3);
}

/* Prefix strings for the systematic test. */
/* clang-format off */
static const char *const prefix_strings[] = {
	"", "\x66", "\x67", "\x66\x67", "\xf2", "\xf3", "\xf0", "\x26", "\x2e", "\x36", "\x3e",
	"\x64", "\x65", "\x64\x2e", "\x2e\x65", "\x66\xf2", "\x66\xf3", "\xf2\xf3", "\xf3\xf2",
	"\xf0\x66", "\xf0\x67", "\xf0\xf3", "\xf2\xf0", "\xf3\x67", "\x66\x66", "\x67\x67",
	"\xf0\xf0", "\x40", "\x41", "\x42", "\x44", "\x45", "\x47", "\x48", "\x49", "\x4a", "\x4c",
	"\x4f", "\x66\x48", "\x66\x41", "\x67\x48", "\x67\x4f", "\x48\x66", "\x48\x64", "\x48\x40",
	"\x40\x48", "\xf0\x48", "\xf0\x44", "\xf2\x48", "\xf3\x41", "\x48\xf3", "\x64\x67\x4c",
	"\x66\x67\x64\xf0\x4d", "\xf3\x40",
};
/* clang-format on */

static const uint8_t sibs[] = { 0x00, 0x04, 0x05, 0x0c, 0x20, 0x24, 0x25, 0x2d, 0x44, 0x65,
				0x6c, 0x85, 0xa4, 0xa5, 0xc8, 0xe0, 0xe4, 0xe5, 0xfd, 0xff };

static void compare_all_modes(const char *prefix, uint16_t opcode, unsigned int modrm, uint8_t sib)
{
	uint8_t bytes[32];
	unsigned int n = (unsigned int)strlen(prefix);

	memcpy(bytes, prefix, n);
	n += put_opcode(bytes + n, opcode);
	bytes[n++] = (uint8_t)modrm;
	bytes[n++] = sib;
	fill_random(bytes + n);
	for (int mode = 0; mode < 3; mode++)
		compare(bytes, (enum insn_mode)mode);
}

static void every_encoding_agrees(void **state)
{
	(void)state;
	for (size_t p = 0; p < ARRAY_SIZE(prefix_strings); p++) {
		for (size_t o = 0; o < ARRAY_SIZE(opcodes); o++) {
			for (unsigned int modrm = 0; modrm < 256; modrm++) {
				size_t sib_count = (modrm & 7) == 4 && modrm < 0xc0 ? sizeof(sibs) : 1;

				for (size_t s = 0; s < sib_count; s++)
					compare_all_modes(prefix_strings[p], opcodes[o], modrm, sibs[s]);
			}
		}
	}
}

/* The whole of both maps, so that nothing outside the set is taken for something in it. */
static void every_opcode_agrees(void **state)
{
	(void)state;
	for (size_t p = 0; p < ARRAY_SIZE(prefix_strings); p += 5) {
		for (unsigned int opcode = 0; opcode < 0x200; opcode++) {
			for (unsigned int modrm = 0; modrm < 256; modrm++)
				compare_all_modes(prefix_strings[p], (uint16_t)opcode, modrm, 0x24);
		}
	}
}

/* All SIB bytes, with and without each REX bit. */
static void every_sib_agrees(void **state)
{
	(void)state;
	for (unsigned int rex = 0; rex < 16; rex++) {
		for (unsigned int sib = 0; sib < 256; sib++) {
			for (unsigned int mod = 0; mod < 3; mod++) {
				char prefix[2] = { (char)(0x40 | rex), 0 };

				compare_all_modes(prefix, 0x89, mod << 6 | 4, (uint8_t)sib);
				compare_all_modes("\x67", 0x8b, mod << 6 | 4, (uint8_t)sib);
			}
		}
	}
}

/* Fewer bytes: the same answer or "too few", never a read beyond them (ASan watches the block). */
static void truncated_input_is_reported(void **state)
{
	(void)state;
	for (int i = 0; i < 60000; i++) {
		enum insn_mode mode = (enum insn_mode)(next_random() % 3);
		uint8_t bytes[40];
		struct insn full;
		unsigned int n = 0;
		int rc;

		fill_random(bytes + 24);
		for (unsigned int count = (unsigned int)(next_random() % 16); count > 0; count--)
			bytes[n++] = prefixes[(next_random() >> 8) % 8];
		n += put_opcode(bytes + n, opcodes[(next_random() >> 8) % ARRAY_SIZE(opcodes)]);
		fill_random(bytes + n);
		rc = insn_decode(bytes, 40, mode, &full);

		for (size_t size = 0; size <= 16; size++) {
			uint8_t *copy = malloc(size ? size : 1);
			struct insn part;
			int part_rc;

			memcpy(copy, bytes, size);
			part_rc = insn_decode(copy, size, mode, &part);
			free(copy);
			if (size >= INSN_LENGTH_MAX || (rc == 0 && size >= full.length)) {
				assert_int_equal(part_rc, rc);
				if (rc == 0)
					assert_memory_equal(&part, &full, sizeof(full));
			} else if (rc == 0) {
				assert_int_equal(part_rc, -ENODATA);
			} else if (part_rc != -ENODATA) {
				assert_int_equal(part_rc, rc);
			}
		}
	}
}

struct known {
	enum insn_mode mode;
	int rc;
	uint8_t op;
	uint8_t length;
	const char *bytes; /* 15 of them, padded by the array */
};

/* The answers that callers rely on, written down by hand. */
static void known_answers(void **state)
{
	static const struct known table[] = {
		{ INSN_MODE_64, 0, INSN_CPUID, 2, "\x0f\xa2" },
		{ INSN_MODE_64, 0, INSN_CPUID, 5, "\x66\xf3\x48\x0f\xa2" },
		{ INSN_MODE_16, 0, INSN_CPUID, 3, "\x2e\x0f\xa2" },
		{ INSN_MODE_64, 0, INSN_VMMCALL, 3, "\x0f\x01\xd9" },
		{ INSN_MODE_64, 0, INSN_VMMCALL, 4, "\xf3\x0f\x01\xd9" },
		{ INSN_MODE_64, 0, INSN_PAUSE, 2, "\xf3\x90" },
		{ INSN_MODE_64, -ENOTSUP, 0, 0, "\x90" },
		{ INSN_MODE_64, 0, INSN_PAUSE, 3, "\xf3\x41\x90" },
		{ INSN_MODE_64, 0, INSN_MOV, 7, "\xc7\x47\x10\x01\x02\x03\x04" },
		{ INSN_MODE_64, 0, INSN_MOV, 10, "\xc7\x05\x01\x02\x03\x04\x05\x06\x07\x08" },
		{ INSN_MODE_64, -EILSEQ, 0, 0, "\xf0\x89\x07" },
		{ INSN_MODE_64, -EILSEQ, 0, 0, "\xf0\x01\xc8" },
		{ INSN_MODE_64, -EILSEQ, 0, 0, "\xf0\x0f\xa2" },
		{ INSN_MODE_64, -EILSEQ, 0, 0, "\x82\xc0\x01" },
		{ INSN_MODE_32, 0, INSN_ADD, 3, "\x82\xc0\x01" },
		{ INSN_MODE_64, -EILSEQ, 0, 0, "\x0f\x22\xc8" },
		{ INSN_MODE_32, 0, INSN_MOV_FROM_CR, 4, "\xf0\x0f\x20\xc0" },
		{ INSN_MODE_64, -ENOTSUP, 0, 0, "\x66\x63\xc0" },
		{ INSN_MODE_64, -ENOTSUP, 0, 0, "\x8c\x00" },
		{ INSN_MODE_64, 0, INSN_HLT, 15,
		  "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\xf4" },
		{ INSN_MODE_64, -EILSEQ, 0, 0,
		  "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\xf4" },
		{ INSN_MODE_64, -EILSEQ, 0, 0,
		  "\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x0f\xa2" },
	};
	struct insn insn;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		uint8_t bytes[20] = { 0 };

		memcpy(bytes, table[i].bytes, 16 < strlen(table[i].bytes) ? 16 : strlen(table[i].bytes));
		assert_int_equal(insn_decode(bytes, 16, table[i].mode, &insn), table[i].rc);
		if (table[i].rc)
			continue;
		assert_int_equal(insn.op, table[i].op);
		assert_int_equal(insn.length, table[i].length);
	}
	/* CR8 by LOCK. */
	assert_int_equal(insn_decode((const uint8_t *)"\xf0\x0f\x22\xc3", 4, INSN_MODE_32, &insn), 0);
	assert_int_equal(insn.dst_reg, 8);
	assert_int_equal(insn.src_reg, GPR_RBX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_answers),	 cmocka_unit_test(truncated_input_is_reported),
		cmocka_unit_test(every_sib_agrees),	 cmocka_unit_test(every_opcode_agrees),
		cmocka_unit_test(every_encoding_agrees), cmocka_unit_test(random_instructions_agree),
		cmocka_unit_test(random_bytes_agree),
	};
	const char *given = getenv("SEED");
	int rc;

	seed = given ? strtoull(given, NULL, 0) : 20240229;
	random_state = 2 * seed + 1;
	ZydisDecoderInit(&decoders[INSN_MODE_16], ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	ZydisDecoderInit(&decoders[INSN_MODE_32], ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	ZydisDecoderInit(&decoders[INSN_MODE_64], ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	printf("# compared %llu encodings, %llu accepted, %llu known differences\n",
	       (unsigned long long)compared, (unsigned long long)accepted, (unsigned long long)differences);
	return rc;
}
