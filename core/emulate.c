/* SPDX-License-Identifier: MIT */
/*
 * Executes a decoded instruction against a device register: the local APIC page of a VP whose
 * software uses xAPIC mode. Values are kept zero-extended to 64 bits; an operation reads both
 * operands, computes result and flags, and only when the device took its write are registers and
 * flags changed.
 */
#include <errno.h>
#include <trivet/emulate.h>

#define STATUS_FLAGS                                                                               \
	(EMULATE_FLAG_CF | EMULATE_FLAG_PF | EMULATE_FLAG_AF | EMULATE_FLAG_ZF | EMULATE_FLAG_SF | \
	 EMULATE_FLAG_OF)

static inline uint64_t size_mask(unsigned int size)
{
	return size >= 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
}

static inline uint64_t sign_bit(unsigned int size)
{
	return 1ull << (8 * size - 1);
}

static inline uint64_t sign_extend(uint64_t value, unsigned int size)
{
	unsigned int unused_bits = (64 - 8 * size) & 63;

	return (uint64_t)((int64_t)(value << unused_bits) >> unused_bits);
}

uint64_t insn_read_reg(const uint64_t gpr[GPR_COUNT], uint8_t reg, unsigned int size)
{
	if (reg >= INSN_REG_AH && reg <= INSN_REG_BH)
		return (gpr[reg - INSN_REG_AH] >> 8) & 0xff;
	return gpr[reg & (GPR_COUNT - 1)] & size_mask(size);
}

void insn_write_reg(uint64_t gpr[GPR_COUNT], uint8_t reg, unsigned int size, uint64_t value)
{
	uint64_t *target = &gpr[reg & (GPR_COUNT - 1)];
	uint64_t mask = size_mask(size);

	if (reg >= INSN_REG_AH && reg <= INSN_REG_BH) {
		target = &gpr[reg - INSN_REG_AH];
		mask = 0xff00;
		value <<= 8;
	} else if (size == 4) {
		mask = UINT64_MAX;
		value = (uint32_t)value;
	}
	*target = (*target & ~mask) | (value & mask);
}

/* BT and kin take a register as a signed bit number relative to the encoded address. */
static uint64_t bit_string_offset(const struct insn *insn, const uint64_t gpr[GPR_COUNT])
{
	unsigned int size = insn->operand_size;
	int64_t bit = (int64_t)sign_extend(insn_read_reg(gpr, insn->src_reg, size), size);
	int64_t bits_per_unit = 8 * (int64_t)size;
	int64_t unit = bit >= 0 ? bit / bits_per_unit : -((-(bit + 1)) / bits_per_unit) - 1;

	return (uint64_t)unit * size;
}

static bool is_bit_test(const struct insn *insn)
{
	return insn->op >= INSN_BT && insn->op <= INSN_BTC;
}

uint64_t insn_effective_offset(const struct insn *insn, const uint64_t gpr[GPR_COUNT], uint64_t rip_next)
{
	uint64_t offset = (uint64_t)insn->displacement;

	if (insn->base != INSN_REG_NONE)
		offset += gpr[insn->base & (GPR_COUNT - 1)];
	if (insn->index != INSN_REG_NONE)
		offset += gpr[insn->index & (GPR_COUNT - 1)] << insn->scale;
	if (insn->rip_relative)
		offset += rip_next;
	if (is_bit_test(insn) && insn->src == INSN_OPERAND_REG)
		offset += bit_string_offset(insn, gpr);
	return offset & size_mask(insn->address_size);
}

uint64_t insn_string_dest_offset(const struct insn *insn, const uint64_t gpr[GPR_COUNT])
{
	return gpr[GPR_RDI] & size_mask(insn->address_size);
}

/* ZF, SF and PF of a result that is already cut to size. */
static uint64_t result_flags(uint64_t result, unsigned int size)
{
	uint64_t flags = 0;

	if (result == 0)
		flags |= EMULATE_FLAG_ZF;
	if (result & sign_bit(size))
		flags |= EMULATE_FLAG_SF;
	if (!__builtin_parity((unsigned int)(result & 0xff)))
		flags |= EMULATE_FLAG_PF;
	return flags;
}

/* a + b + carry; the carry out of each bit is where the operands agree on it or the sum lost it. */
static uint64_t alu_add(uint64_t a, uint64_t b, uint64_t carry, unsigned int size, uint64_t *flags)
{
	uint64_t result = (a + b + carry) & size_mask(size);
	uint64_t carries = (a & b) | ((a | b) & ~result);

	*flags = result_flags(result, size);
	if (carries & sign_bit(size))
		*flags |= EMULATE_FLAG_CF;
	*flags |= (a ^ b ^ result) & EMULATE_FLAG_AF;
	if ((a ^ result) & (b ^ result) & sign_bit(size))
		*flags |= EMULATE_FLAG_OF;
	return result;
}

static uint64_t alu_sub(uint64_t a, uint64_t b, uint64_t borrow, unsigned int size, uint64_t *flags)
{
	uint64_t result = (a - b - borrow) & size_mask(size);
	uint64_t borrows = (~a & b) | (~(a ^ b) & result);

	*flags = result_flags(result, size);
	if (borrows & sign_bit(size))
		*flags |= EMULATE_FLAG_CF;
	*flags |= (a ^ b ^ result) & EMULATE_FLAG_AF;
	if ((a ^ b) & (a ^ result) & sign_bit(size))
		*flags |= EMULATE_FLAG_OF;
	return result;
}

static uint64_t alu_bit(enum insn_op op, uint64_t a, uint64_t b, unsigned int size, uint64_t *flags)
{
	uint64_t bit = 1ull << (b & (8 * size - 1));

	*flags = (*flags & ~EMULATE_FLAG_CF) | ((a & bit) ? EMULATE_FLAG_CF : 0);
	switch (op) {
	case INSN_BTS:
		return a | bit;
	case INSN_BTR:
		return a & ~bit;
	case INSN_BTC:
		return a ^ bit;
	default:
		return a;
	}
}

/*
 * Result of `op` on destination a and source b, both cut to size; *flags are all of the status
 * flags, old ones in and new ones out.
 */
static uint64_t alu(enum insn_op op, uint64_t a, uint64_t b, unsigned int size, uint64_t *flags)
{
	uint64_t carry = *flags & EMULATE_FLAG_CF;
	uint64_t result;

	switch (op) {
	case INSN_ADD:
	case INSN_XADD:
		return alu_add(a, b, 0, size, flags);
	case INSN_ADC:
		return alu_add(a, b, carry, size, flags);
	case INSN_SUB:
	case INSN_CMP:
	case INSN_CMPXCHG:
		return alu_sub(a, b, 0, size, flags);
	case INSN_SBB:
		return alu_sub(a, b, carry, size, flags);
	case INSN_NEG:
		return alu_sub(0, a, 0, size, flags);
	case INSN_INC:
	case INSN_DEC:
		result = op == INSN_INC ? alu_add(a, 1, 0, size, flags) : alu_sub(a, 1, 0, size, flags);
		*flags = (*flags & ~EMULATE_FLAG_CF) | carry;
		return result;
	case INSN_NOT:
		return ~a & size_mask(size);
	case INSN_AND:
	case INSN_TEST:
		result = a & b;
		break;
	case INSN_OR:
		result = a | b;
		break;
	case INSN_XOR:
		result = a ^ b;
		break;
	default:
		return alu_bit(op, a, b, size, flags);
	}
	*flags = result_flags(result, size);
	return result;
}

/* The operand that is not memory. */
static uint64_t source_value(const struct insn *insn, const uint64_t gpr[GPR_COUNT])
{
	if (insn->src == INSN_OPERAND_IMM)
		return (uint64_t)insn->immediate & size_mask(insn->operand_size);
	if (insn->src == INSN_OPERAND_REG)
		return insn_read_reg(gpr, insn->src_reg, insn->operand_size);
	return 0; /* INC, NOT and the like have one operand */
}

static int device_read(const struct insn *insn, const struct mmio_access *io, uint64_t *value)
{
	int rc = io->read(io->ctx, insn->mem_size, value);

	*value &= size_mask(insn->mem_size);
	return rc;
}

/* MOV, MOVZX and MOVSX in either direction: one access, no flags. */
static int emulate_mov(const struct insn *insn, uint64_t gpr[GPR_COUNT], const struct mmio_access *io)
{
	uint64_t value = 0;
	int rc;

	if (insn->dst == INSN_OPERAND_MEM)
		return io->write(io->ctx, insn->mem_size, source_value(insn, gpr));

	rc = device_read(insn, io, &value);
	if (rc)
		return rc;
	if (insn->op == INSN_MOVSX)
		value = sign_extend(value, insn->mem_size);
	insn_write_reg(gpr, insn->dst_reg, insn->operand_size, value);
	return EMULATE_DONE;
}

static int emulate_xchg(const struct insn *insn, uint64_t gpr[GPR_COUNT], const struct mmio_access *io)
{
	uint64_t value = 0;
	int rc = device_read(insn, io, &value);

	if (!rc)
		rc = io->write(io->ctx, insn->mem_size, source_value(insn, gpr));
	if (!rc)
		insn_write_reg(gpr, insn->src_reg, insn->operand_size, value);
	return rc;
}

/* Compares the accumulator with memory, so unlike everywhere else memory is the second operand. */
static int emulate_cmpxchg(const struct insn *insn, uint64_t gpr[GPR_COUNT], uint64_t *rflags,
			   const struct mmio_access *io)
{
	unsigned int size = insn->operand_size;
	uint64_t flags = *rflags & STATUS_FLAGS;
	uint64_t value = 0;
	bool equal;
	int rc = device_read(insn, io, &value);

	if (rc)
		return rc;
	alu(INSN_CMPXCHG, insn_read_reg(gpr, GPR_RAX, size), value, size, &flags);
	equal = flags & EMULATE_FLAG_ZF;
	rc = io->write(io->ctx, insn->mem_size, equal ? source_value(insn, gpr) : value);
	if (rc)
		return rc;
	if (!equal)
		insn_write_reg(gpr, GPR_RAX, size, value);
	*rflags = (*rflags & ~STATUS_FLAGS) | flags;
	return EMULATE_DONE;
}

/* All that computes: memory is the destination (not written by comparisons) or the source. */
static int emulate_alu(const struct insn *insn, uint64_t gpr[GPR_COUNT], uint64_t *rflags,
		       const struct mmio_access *io)
{
	unsigned int size = insn->operand_size;
	uint64_t flags = *rflags & STATUS_FLAGS;
	uint64_t memory = 0;
	uint64_t result;
	int rc = device_read(insn, io, &memory);

	if (rc)
		return rc;
	if (insn->dst == INSN_OPERAND_MEM) {
		result = alu(insn->op, memory, source_value(insn, gpr), size, &flags);
		if (insn->mem_access & INSN_MEM_WRITE)
			rc = io->write(io->ctx, insn->mem_size, result);
		if (rc)
			return rc;
		if (insn->op == INSN_XADD)
			insn_write_reg(gpr, insn->src_reg, size, memory);
	} else {
		result = alu(insn->op, insn_read_reg(gpr, insn->dst_reg, size), memory, size, &flags);
		if (insn->op != INSN_CMP)
			insn_write_reg(gpr, insn->dst_reg, size, result);
	}
	*rflags = (*rflags & ~STATUS_FLAGS) | flags;
	return EMULATE_DONE;
}

/* One element of MOVS, STOS or LODS through the device and, for MOVS, guest memory. */
static int move_element(const struct insn *insn, uint64_t gpr[GPR_COUNT], const struct mmio_access *io)
{
	unsigned int size = insn->mem_size;
	uint64_t value = 0;
	int rc;

	if (insn->op == INSN_STOS)
		return io->write(io->ctx, size, insn_read_reg(gpr, GPR_RAX, size));

	if (insn->op == INSN_LODS) {
		rc = device_read(insn, io, &value);
		if (!rc)
			insn_write_reg(gpr, GPR_RAX, size, value);
		return rc;
	}

	if (io->device_is_dest) {
		if (!io->guest_read)
			return -ENOTSUP;
		rc = io->guest_read(io->ctx, insn->segment, insn_effective_offset(insn, gpr, 0), size,
				    &value);
		return rc ? rc : io->write(io->ctx, size, value & size_mask(size));
	}
	if (!io->guest_write)
		return -ENOTSUP;
	rc = device_read(insn, io, &value);
	if (rc)
		return rc;
	return io->guest_write(io->ctx, INSN_SEG_ES, insn_string_dest_offset(insn, gpr), size, value);
}

/* REP does one iteration per call, so that interrupts get in between as on the processor. */
static int emulate_string(const struct insn *insn, uint64_t gpr[GPR_COUNT], uint64_t rflags,
			  const struct mmio_access *io)
{
	unsigned int width = insn->address_size;
	uint64_t step = (rflags & EMULATE_FLAG_DF) ? -(uint64_t)insn->mem_size : insn->mem_size;
	uint64_t count = insn_read_reg(gpr, GPR_RCX, width);
	int rc;

	if (insn->rep != INSN_REP_NONE && count == 0)
		return EMULATE_DONE;
	rc = move_element(insn, gpr, io);
	if (rc)
		return rc;

	if (insn->op != INSN_STOS)
		insn_write_reg(gpr, GPR_RSI, width, gpr[GPR_RSI] + step);
	if (insn->op != INSN_LODS)
		insn_write_reg(gpr, GPR_RDI, width, gpr[GPR_RDI] + step);
	if (insn->rep == INSN_REP_NONE)
		return EMULATE_DONE;
	insn_write_reg(gpr, GPR_RCX, width, count - 1);
	return count > 1 ? EMULATE_AGAIN : EMULATE_DONE;
}

int emulate_mmio(const struct insn *insn, uint64_t gpr[GPR_COUNT], uint64_t *rflags,
		 const struct mmio_access *io)
{
	if (!insn->has_mem)
		return -ENOTSUP;
	switch (insn->op) {
	case INSN_MOV:
	case INSN_MOVZX:
	case INSN_MOVSX:
		return emulate_mov(insn, gpr, io);
	case INSN_XCHG:
		return emulate_xchg(insn, gpr, io);
	case INSN_CMPXCHG:
		return emulate_cmpxchg(insn, gpr, rflags, io);
	case INSN_MOVS:
	case INSN_STOS:
	case INSN_LODS:
		return emulate_string(insn, gpr, *rflags, io);
	case INSN_ADD:
	case INSN_OR:
	case INSN_ADC:
	case INSN_SBB:
	case INSN_AND:
	case INSN_SUB:
	case INSN_XOR:
	case INSN_CMP:
	case INSN_BT:
	case INSN_BTS:
	case INSN_BTR:
	case INSN_BTC:
	case INSN_TEST:
	case INSN_NOT:
	case INSN_NEG:
	case INSN_INC:
	case INSN_DEC:
	case INSN_XADD:
		return emulate_alu(insn, gpr, rflags, io);
	default:
		return -ENOTSUP;
	}
}
