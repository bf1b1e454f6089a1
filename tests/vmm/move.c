/* SPDX-License-Identifier: MIT */
#include "move.h"

struct cursor {
	const uint8_t *code;
	unsigned int at, count;
	bool operand16, address_prefix;
	uint8_t rex;
	unsigned int mode_bits;
};

static bool next(struct cursor *c, uint8_t *byte)
{
	if (c->at >= c->count || c->at >= 15)
		return false;
	*byte = c->code[c->at++];
	return true;
}

static bool skip_bytes(struct cursor *c, unsigned int n)
{
	c->at += n;
	return c->at <= c->count && c->at <= 15;
}

static bool is_legacy_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65:
	case 0x66:
	case 0x67:
	case 0xf0:
	case 0xf2:
	case 0xf3:
		return true;
	default:
		return false;
	}
}

/* The first byte of the opcode. A REX prefix counts only right before it (SDM2 2.2.1). */
static bool read_prefixes(struct cursor *c, uint8_t *opcode)
{
	bool has66 = false;
	uint8_t byte;

	while (next(c, &byte)) {
		if (is_legacy_prefix(byte)) {
			has66 = has66 || byte == 0x66;
			c->address_prefix = c->address_prefix || byte == 0x67;
			c->rex = 0;
		} else if (c->mode_bits == 64 && (byte & 0xf0) == 0x40) {
			c->rex = byte;
		} else {
			c->operand16 = (c->mode_bits == 16) != has66;
			*opcode = byte;
			return true;
		}
	}
	return false;
}

static unsigned int address_bits(const struct cursor *c)
{
	if (!c->address_prefix)
		return c->mode_bits;
	return c->mode_bits == 32 ? 16 : 32;
}

/* Skips ModRM's SIB and displacement. False: a register, not memory. */
static bool read_modrm(struct cursor *c, uint8_t *reg)
{
	uint8_t modrm, sib = 0;
	unsigned int mod, rm;

	if (!next(c, &modrm))
		return false;
	mod = modrm >> 6;
	rm = modrm & 7;
	*reg = (uint8_t)((modrm >> 3 & 7) | (c->rex & 4) << 1);
	if (mod == 3)
		return false;
	if (address_bits(c) == 16)
		return skip_bytes(c, mod == 0 ? (rm == 6 ? 2 : 0) : mod);
	if (rm == 4 && !next(c, &sib))
		return false;
	if (mod == 0)
		return skip_bytes(c, rm == 5 || (rm == 4 && (sib & 7) == 5) ? 4 : 0);
	return skip_bytes(c, mod == 1 ? 1 : 4);
}

static uint8_t operand_bytes(const struct cursor *c)
{
	return (c->rex & 8) ? 8 : c->operand16 ? 2 : 4;
}

/* 88, 89, 8A, 8B; C6 and C7 with an immediate value; 0F B6 and 0F B7. */
static bool decode_modrm_form(struct cursor *c, uint8_t opcode, bool two_bytes, struct move *m)
{
	uint8_t reg;

	if (!read_modrm(c, &reg))
		return false;
	m->reg = reg;
	m->bytes = (opcode & 1) ? operand_bytes(c) : 1;
	m->reg_bytes = m->bytes;
	m->load = two_bytes || opcode == 0x8a || opcode == 0x8b;
	if (two_bytes) {
		m->bytes = (opcode & 1) ? 2 : 1;
		m->reg_bytes = operand_bytes(c);
	}
	if (opcode == 0xc6 || opcode == 0xc7) {
		if (reg & 7)
			return false;
		return skip_bytes(c, m->bytes == 8 ? 4 : m->bytes);
	}
	m->high_byte = m->load && m->reg_bytes == 1 && !c->rex && reg >= 4;
	if (m->high_byte)
		m->reg = (uint8_t)(reg - 4);
	return true;
}

bool decode_move(const uint8_t *code, unsigned int count, unsigned int mode_bits, struct move *move)
{
	struct cursor c = { .code = code, .count = count, .mode_bits = mode_bits };
	struct move m = { 0 };
	bool two_bytes = false;
	uint8_t opcode;

	if (!read_prefixes(&c, &opcode))
		return false;
	if (opcode == 0x0f) {
		two_bytes = true;
		if (!next(&c, &opcode) || (opcode != 0xb6 && opcode != 0xb7))
			return false;
	}
	if (two_bytes || (opcode >= 0x88 && opcode <= 0x8b) || opcode == 0xc6 || opcode == 0xc7) {
		if (!decode_modrm_form(&c, opcode, two_bytes, &m))
			return false;
	} else if (opcode >= 0xa0 && opcode <= 0xa3) {
		m.load = opcode < 0xa2;
		m.bytes = m.reg_bytes = (opcode & 1) ? operand_bytes(&c) : 1;
		if (!skip_bytes(&c, address_bits(&c) / 8))
			return false;
	} else {
		return false;
	}
	m.length = (uint8_t)c.at;
	*move = m;
	return true;
}

bool is_hypercall(const uint8_t *code, unsigned int count)
{
	unsigned int at = 0;

	while (at < count && (is_legacy_prefix(code[at]) || (code[at] & 0xf0) == 0x40))
		at++;
	return count - at >= 3 && code[at] == 0x0f && code[at + 1] == 0x01 &&
	       (code[at + 2] == 0xc1 || code[at + 2] == 0xd9);
}

uint64_t loaded(const struct move *move, uint64_t old, uint64_t value)
{
	unsigned int shift = move->high_byte ? 8 : 0;

	if (move->bytes < 8)
		value &= (1ull << move->bytes * 8) - 1;
	switch (move->reg_bytes) {
	case 1:
		return (old & ~(0xffull << shift)) | value << shift;
	case 2:
		return (old & ~0xffffull) | value;
	default:
		return value;
	}
}
