/* SPDX-License-Identifier: MIT */
/*
 * Instruction decoder for intercepted instructions and for accesses to the local APIC page. One pass, left to right: prefixes, opcode
 * (decode_tables.h), ModRM/SIB/displacement, immediate. Running out of bytes is remembered in the cursor and turned into one error at
 * the end, so no step needs to check it for itself.
 */
#include <errno.h>
#include <trivet/decode.h>

#include "decode_tables.h"

#define REX_W 0x8
#define REX_R 0x4
#define REX_X 0x2
#define REX_B 0x1

struct decoder {
	const uint8_t *bytes;
	unsigned int position;
	unsigned int limit; /* bytes there are, 15 at most */
	bool overrun;	    /* somebody wanted more than that */
	enum insn_mode mode;
	uint8_t rex; /* 0: none */
	bool prefix_66;
	uint8_t opcode;
	uint8_t modrm;
	struct insn *insn;
};

static inline uint8_t modrm_mod(const struct decoder *d)
{
	return d->modrm >> 6;
}

static inline uint8_t modrm_reg(const struct decoder *d)
{
	return (d->modrm >> 3) & 7;
}

static inline uint8_t modrm_rm(const struct decoder *d)
{
	return d->modrm & 7;
}

/* 8 when the prefix bit is set: what it adds to a 3-bit register number. */
static inline uint8_t rex_extension(const struct decoder *d, uint8_t bit)
{
	return (d->rex & bit) ? 8 : 0;
}

static inline uint8_t fetch_u8(struct decoder *d)
{
	if (unlikely(d->position >= d->limit)) {
		d->overrun = true;
		return 0;
	}
	return d->bytes[d->position++];
}

/* Little-endian, zero-extended; size is 1, 2, 4 or 8. Takes all of it or nothing. */
static uint64_t fetch_unsigned(struct decoder *d, unsigned int size)
{
	uint64_t value = 0;

	if (unlikely(size > d->limit - d->position)) {
		d->overrun = true;
		d->position = d->limit;
		return 0;
	}
	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)d->bytes[d->position + i] << (8 * i);
	d->position += size;
	return value;
}

static int64_t fetch_signed(struct decoder *d, unsigned int size)
{
	unsigned int unused_bits = (64 - 8 * size) & 63;

	return (int64_t)(fetch_unsigned(d, size) << unused_bits) >> unused_bits;
}

/* FS and GS are the only overrides that mean anything in 64-bit mode; the others don't even cancel them. */
static void override_segment(struct decoder *d, uint8_t *override, uint8_t segment)
{
	if (d->mode != INSN_MODE_64 || segment >= INSN_SEG_FS)
		*override = segment;
}

/*
 * Consumes the prefixes and returns the first opcode byte. REX counts only directly before the
 * opcode (SDM2 2.2.1); of F2 and F3, and of several segments, the last one counts.
 */
static uint8_t decode_prefixes(struct decoder *d, uint8_t *segment, bool *prefix_67)
{
	struct insn *insn = d->insn;

	for (;;) {
		uint8_t byte = fetch_u8(d);
		uint8_t rex = 0;

		switch (byte) {
		case 0x26:
		case 0x2e:
		case 0x36:
		case 0x3e:
			override_segment(d, segment, (byte >> 3) & 3);
			break;
		case 0x64:
		case 0x65:
			override_segment(d, segment, byte & 7);
			break;
		case 0x66:
			d->prefix_66 = true;
			break;
		case 0x67:
			*prefix_67 = true;
			break;
		case 0xf0:
			insn->lock = true;
			break;
		case 0xf2:
			insn->rep = INSN_REP_REPNE;
			break;
		case 0xf3:
			insn->rep = INSN_REP_REP;
			break;
		default:
			if (d->mode != INSN_MODE_64 || (byte & 0xf0) != 0x40)
				return byte;
			rex = byte;
			break;
		}
		d->rex = rex;
	}
}

static void decode_sizes(struct decoder *d, bool prefix_67)
{
	struct insn *insn = d->insn;

	switch (d->mode) {
	case INSN_MODE_64:
		insn->operand_size = (d->rex & REX_W) ? 8 : d->prefix_66 ? 2 : 4;
		insn->address_size = prefix_67 ? 4 : 8;
		break;
	case INSN_MODE_32:
		insn->operand_size = d->prefix_66 ? 2 : 4;
		insn->address_size = prefix_67 ? 2 : 4;
		break;
	case INSN_MODE_16:
		insn->operand_size = d->prefix_66 ? 4 : 2;
		insn->address_size = prefix_67 ? 4 : 2;
		break;
	}
}

/* Register number in struct insn's numbering: without REX, byte registers 4..7 are AH, CH, DH, BH. */
static uint8_t register_name(const struct decoder *d, uint8_t number, unsigned int size)
{
	if (size == 1 && d->rex == 0 && number >= 4)
		return (uint8_t)(INSN_REG_AH + number - 4);
	return number;
}

/* SDM2 table 2-1. */
static void decode_address_16(struct decoder *d)
{
	static const uint8_t bases[8] = { GPR_RBX, GPR_RBX, GPR_RBP, GPR_RBP,
					  GPR_RSI, GPR_RDI, GPR_RBP, GPR_RBX };
	static const uint8_t indexes[4] = { GPR_RSI, GPR_RDI, GPR_RSI, GPR_RDI };
	struct insn *insn = d->insn;
	uint8_t mod = modrm_mod(d);
	uint8_t rm = modrm_rm(d);

	if (mod == 0 && rm == 6) {
		insn->displacement = fetch_signed(d, 2);
		return;
	}
	insn->base = bases[rm];
	if (rm < 4)
		insn->index = indexes[rm];
	if (mod != 0)
		insn->displacement = fetch_signed(d, mod == 1 ? 1 : 2);
}

/* SDM2 tables 2-2 and 2-3, with the extensions of 2.2.1.2. */
static void decode_address_32(struct decoder *d)
{
	struct insn *insn = d->insn;
	uint8_t mod = modrm_mod(d);
	uint8_t base = modrm_rm(d);
	bool has_sib = base == 4;

	if (has_sib) {
		uint8_t sib = fetch_u8(d);
		uint8_t index = ((sib >> 3) & 7) | rex_extension(d, REX_X);

		base = sib & 7;
		if (index != GPR_RSP) {
			insn->index = index;
			insn->scale = sib >> 6;
		}
	}
	if (mod == 0 && base == 5) {
		insn->displacement = fetch_signed(d, 4);
		insn->rip_relative = !has_sib && d->mode == INSN_MODE_64;
		return;
	}
	insn->base = base | rex_extension(d, REX_B);
	if (mod != 0)
		insn->displacement = fetch_signed(d, mod == 1 ? 1 : 4);
}

/* The memory operand of ModRM. Only for mod != 3. */
static void decode_memory(struct decoder *d, unsigned int mem_size)
{
	struct insn *insn = d->insn;

	insn->has_mem = true;
	insn->mem_size = (uint8_t)mem_size;
	if (insn->address_size == 2)
		decode_address_16(d);
	else
		decode_address_32(d);
}

static void set_kind(struct decoder *d, bool is_dst, enum insn_operand kind)
{
	*(is_dst ? &d->insn->dst : &d->insn->src) = (uint8_t)kind;
}

static void set_register(struct decoder *d, bool is_dst, uint8_t number, unsigned int size)
{
	set_kind(d, is_dst, INSN_OPERAND_REG);
	*(is_dst ? &d->insn->dst_reg : &d->insn->src_reg) = register_name(d, number, size);
}

/* The operand that ModRM.mod and .rm name, `size` bytes of it. */
static void decode_rm(struct decoder *d, bool is_dst, unsigned int size)
{
	if (modrm_mod(d) == 3) {
		set_register(d, is_dst, modrm_rm(d) | rex_extension(d, REX_B), size);
	} else {
		set_kind(d, is_dst, INSN_OPERAND_MEM);
		decode_memory(d, size);
	}
}

static void decode_reg(struct decoder *d, bool is_dst)
{
	set_register(d, is_dst, modrm_reg(d) | rex_extension(d, REX_R), d->insn->operand_size);
}

/* There are no 8-byte immediates but in MOV r64, imm64. */
static void decode_immediate(struct decoder *d, unsigned int size)
{
	d->insn->src = INSN_OPERAND_IMM;
	d->insn->immediate = fetch_signed(d, size);
}

static void decode_immediate_z(struct decoder *d)
{
	decode_immediate(d, d->insn->operand_size == 8 ? 4 : d->insn->operand_size);
}

static void decode_moffs(struct decoder *d, bool is_dst)
{
	struct insn *insn = d->insn;

	set_register(d, !is_dst, GPR_RAX, insn->operand_size);
	set_kind(d, is_dst, INSN_OPERAND_MEM);
	insn->has_mem = true;
	insn->mem_size = insn->operand_size;
	insn->displacement = (int64_t)fetch_unsigned(d, insn->address_size);
}

/* Ports and their strings have no 8-byte operand: REX.W is ignored. */
static void limit_port_size(struct insn *insn)
{
	if (insn->operand_size == 8)
		insn->operand_size = 4;
}

static void decode_port(struct decoder *d, bool immediate)
{
	struct insn *insn = d->insn;
	bool is_in = insn->op == INSN_IN;

	limit_port_size(insn);
	set_register(d, is_in, GPR_RAX, insn->operand_size);
	if (!immediate) {
		set_register(d, !is_in, GPR_RDX, 2);
		return;
	}
	insn->immediate = fetch_u8(d);
	set_kind(d, !is_in, INSN_OPERAND_IMM);
}

static void decode_string(struct decoder *d)
{
	struct insn *insn = d->insn;
	bool to_memory = insn->op == INSN_MOVS || insn->op == INSN_STOS || insn->op == INSN_INS;
	bool from_memory = insn->op == INSN_MOVS || insn->op == INSN_LODS || insn->op == INSN_OUTS;
	bool port = insn->op == INSN_INS || insn->op == INSN_OUTS;

	if (port)
		limit_port_size(insn);
	insn->has_mem = true;
	insn->mem_size = insn->operand_size;
	insn->base = from_memory ? GPR_RSI : GPR_RDI;
	if (to_memory)
		set_kind(d, true, INSN_OPERAND_MEM);
	else
		set_register(d, true, port ? GPR_RDX : GPR_RAX, insn->operand_size);
	if (from_memory)
		set_kind(d, false, INSN_OPERAND_MEM);
	else
		set_register(d, false, port ? GPR_RDX : GPR_RAX, insn->operand_size);
}

/* SDM2 "MOV - Move to/from Control Registers": ModRM.mod is ignored, sizes are fixed by the mode. */
static int decode_cr_dr(struct decoder *d)
{
	struct insn *insn = d->insn;
	bool control = insn->op == INSN_MOV_FROM_CR || insn->op == INSN_MOV_TO_CR;
	bool is_dst = insn->op == INSN_MOV_TO_CR || insn->op == INSN_MOV_TO_DR;
	uint8_t number = modrm_reg(d) | rex_extension(d, REX_R);

	insn->operand_size = d->mode == INSN_MODE_64 ? 8 : 4;
	if (insn->lock) {
		/* AMD's way to CR8 outside 64-bit mode, not limited to it. */
		if (!control || number != 0)
			return -EILSEQ;
		number = 8;
	}
	if (control ? (number > 4 && number != 8) || number == 1 : number > 7)
		return -EILSEQ;

	set_register(d, !is_dst, modrm_rm(d) | rex_extension(d, REX_B), insn->operand_size);
	set_kind(d, is_dst, control ? INSN_OPERAND_CR : INSN_OPERAND_DR);
	*(is_dst ? &insn->dst_reg : &insn->src_reg) = number;
	return 0;
}

static int decode_group3(struct decoder *d)
{
	struct insn *insn = d->insn;

	switch (modrm_reg(d)) {
	case 0:
	case 1: /* an undocumented alias by Intel, documented by AMD */
		insn->op = INSN_TEST;
		decode_rm(d, true, insn->operand_size);
		decode_immediate_z(d);
		return 0;
	case 2:
	case 3:
		insn->op = modrm_reg(d) == 2 ? INSN_NOT : INSN_NEG;
		decode_rm(d, true, insn->operand_size);
		return 0;
	default:
		return -ENOTSUP; /* MUL, DIV */
	}
}

static int decode_group5(struct decoder *d)
{
	struct insn *insn = d->insn;
	uint8_t reg = modrm_reg(d);

	if (reg < 2) {
		insn->op = reg == 0 ? INSN_INC : INSN_DEC;
		decode_rm(d, true, insn->operand_size);
		return 0;
	}
	/* FE /2 .. /7 and FF /7 do not exist; FF /2 .. /6 are CALL, JMP, PUSH. */
	return d->opcode == 0xfe || reg == 7 ? -EILSEQ : -ENOTSUP;
}

static int decode_group7(struct decoder *d)
{
	struct insn *insn = d->insn;
	uint8_t reg = modrm_reg(d);

	if (reg == 4 || reg == 6) {
		insn->op = reg == 4 ? INSN_SMSW : INSN_LMSW;
		/* Memory or LMSW's source is 16 bits; SMSW fills a register of any size. */
		decode_rm(d, reg == 4, 2);
		return 0;
	}
	if (modrm_mod(d) != 3) {
		if (reg != 7)
			return -ENOTSUP;
		insn->op = INSN_INVLPG;
		decode_memory(d, 0);
		return 0;
	}

	insn->op = group7_register_ops[d->modrm - 0xc0];
	if (insn->op == INSN_UNKNOWN)
		return -ENOTSUP;
	/* SWAPGS and RDTSCP's neighbours share their byte with newer instructions that a prefix selects. */
	if ((insn->op == INSN_MONITORX || insn->op == INSN_MWAITX) &&
	    (insn->rep != INSN_REP_NONE || d->prefix_66))
		return -ENOTSUP;
	return 0;
}

static int decode_group11(struct decoder *d)
{
	if (modrm_reg(d) != 0) /* C6 F8 and C7 F8 are XABORT and XBEGIN */
		return d->modrm == 0xf8 ? -ENOTSUP : -EILSEQ;
	decode_rm(d, true, d->insn->operand_size);
	decode_immediate_z(d);
	return 0;
}

/* ADD to CMP with an immediate; 82 is 80 once more, but for 64-bit code. */
static int decode_group1(struct decoder *d, bool has_imm8)
{
	if (d->opcode == 0x82 && d->mode == INSN_MODE_64)
		return -EILSEQ;
	d->insn->op = (uint8_t)(INSN_ADD + modrm_reg(d));
	decode_rm(d, true, d->insn->operand_size);
	if (has_imm8)
		decode_immediate(d, 1);
	else
		decode_immediate_z(d);
	return 0;
}

/* BT to BTC with an immediate. */
static int decode_group8(struct decoder *d)
{
	if (modrm_reg(d) < 4)
		return -EILSEQ;
	d->insn->op = (uint8_t)(INSN_BT + modrm_reg(d) - 4);
	decode_rm(d, true, d->insn->operand_size);
	decode_immediate(d, 1);
	return 0;
}

/* Everything behind an opcode that has a ModRM byte. */
static int decode_modrm_form(struct decoder *d, enum insn_form form)
{
	struct insn *insn = d->insn;

	d->modrm = fetch_u8(d);
	switch (form) {
	case FORM_RM_REG:
		decode_reg(d, false);
		decode_rm(d, true, insn->operand_size);
		return 0;
	case FORM_REG_RM:
		decode_reg(d, true);
		decode_rm(d, false, insn->operand_size);
		return 0;
	case FORM_REG_RM8:
	case FORM_REG_RM16:
		decode_reg(d, true);
		decode_rm(d, false, form == FORM_REG_RM8 ? 1 : 2);
		return 0;
	case FORM_REG_RM32:
		if (d->mode != INSN_MODE_64 || insn->operand_size == 2)
			return -ENOTSUP; /* ARPL; vendors differ on the 16-bit MOVSXD */
		decode_reg(d, true);
		decode_rm(d, false, 4);
		return 0;
	case FORM_CR_DR:
		return decode_cr_dr(d);
	case FORM_GROUP1:
	case FORM_GROUP1_IMM8:
		return decode_group1(d, form == FORM_GROUP1_IMM8);
	case FORM_GROUP3:
		return decode_group3(d);
	case FORM_GROUP5:
		return decode_group5(d);
	case FORM_GROUP7:
		return decode_group7(d);
	case FORM_GROUP8:
		return decode_group8(d);
	case FORM_GROUP11:
		return decode_group11(d);
	default:
		return -ENOTSUP;
	}
}

static int decode_operands(struct decoder *d, const struct opcode_row *row)
{
	struct insn *insn = d->insn;
	enum insn_form form = row->form & ~FORM_BYTE;

	insn->op = row->op;
	if (row->form & FORM_BYTE)
		insn->operand_size = 1;

	switch (form) {
	case FORM_ABSENT:
		return -ENOTSUP;
	case FORM_NONE:
		return 0;
	case FORM_PAUSE:
		/* Without F3 it is NOP or XCHG. With F3, processors ignore REX.B. */
		return insn->rep == INSN_REP_REP ? 0 : -ENOTSUP;
	case FORM_ACC_IMM:
		set_register(d, true, GPR_RAX, insn->operand_size);
		decode_immediate_z(d);
		return 0;
	case FORM_REG_IMM:
		set_register(d, true, (d->opcode & 7) | rex_extension(d, REX_B), insn->operand_size);
		decode_immediate(d, insn->operand_size);
		return 0;
	case FORM_ACC_MOFFS:
	case FORM_MOFFS_ACC:
		decode_moffs(d, form == FORM_MOFFS_ACC);
		return 0;
	case FORM_STRING:
		decode_string(d);
		return 0;
	case FORM_PORT_IMM:
	case FORM_PORT_DX:
		decode_port(d, form == FORM_PORT_IMM);
		return 0;
	default:
		return decode_modrm_form(d, form);
	}
}

static bool lock_is_legal(const struct insn *insn)
{
	if (insn->op == INSN_MOV_FROM_CR || insn->op == INSN_MOV_TO_CR)
		return true; /* checked there */
	return insn->dst == INSN_OPERAND_MEM && (LOCKABLE_OPS & BIT(insn->op));
}

static void finish_memory(struct decoder *d, uint8_t override)
{
	struct insn *insn = d->insn;

	if (insn->src == INSN_OPERAND_MEM)
		insn->mem_access |= INSN_MEM_READ;
	if (insn->dst == INSN_OPERAND_MEM) {
		if (!(WRITE_ONLY_OPS & BIT(insn->op)))
			insn->mem_access |= INSN_MEM_READ;
		if (!(READ_ONLY_OPS & BIT(insn->op)))
			insn->mem_access |= INSN_MEM_WRITE;
	}

	if (insn->op == INSN_STOS || insn->op == INSN_INS)
		insn->segment = INSN_SEG_ES; /* can't be overridden */
	else if (override != INSN_REG_NONE)
		insn->segment = override;
	else if (insn->base == GPR_RSP || insn->base == GPR_RBP)
		insn->segment = INSN_SEG_SS;
	else
		insn->segment = INSN_SEG_DS;
}

int insn_decode(const uint8_t *bytes, size_t n, enum insn_mode mode, struct insn *out)
{
	struct decoder d = {
		.bytes = bytes,
		.limit = n < INSN_LENGTH_MAX ? (unsigned int)n : INSN_LENGTH_MAX,
		.mode = mode,
		.insn = out,
	};
	const struct opcode_row *map = one_byte_map;
	uint8_t override = INSN_REG_NONE;
	bool prefix_67 = false;
	int rc;

	*out = (struct insn){
		.dst_reg = INSN_REG_NONE,
		.src_reg = INSN_REG_NONE,
		.base = INSN_REG_NONE,
		.index = INSN_REG_NONE,
		.segment = INSN_SEG_DS,
	};

	d.opcode = decode_prefixes(&d, &override, &prefix_67);
	decode_sizes(&d, prefix_67);
	if (d.opcode == 0x0f) {
		map = two_byte_map;
		d.opcode = fetch_u8(&d);
	}
	rc = decode_operands(&d, &map[d.opcode]);
	if (d.overrun)
		return n < INSN_LENGTH_MAX ? -ENODATA : -EILSEQ;
	if (rc)
		return rc;
	if (out->lock && !lock_is_legal(out))
		return -EILSEQ;

	out->length = (uint8_t)d.position;
	if (out->has_mem)
		finish_memory(&d, override);
	return 0;
}
