/* fuzz: core/decode.c core/emulate.c */
/* SPDX-License-Identifier: MIT */
/*
 * Hostile instruction bytes: the decoder stays inside them (the input is a heap block of exact
 * size), its result is in range and depends on nothing but the bytes of the instruction, and the
 * emulator digests whatever it accepts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <trivet/emulate.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
	if (!condition)
		abort();
}

static bool is_size(unsigned int size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

static bool is_register(uint8_t reg, uint8_t last)
{
	return reg <= last || reg == INSN_REG_NONE;
}

static void check_ranges(const struct insn *insn)
{
	require(insn->length >= 1 && insn->length <= INSN_LENGTH_MAX);
	require(insn->op != INSN_UNKNOWN && insn->op < INSN_OP_COUNT);
	require(is_size(insn->operand_size));
	require(is_size(insn->address_size) && insn->address_size != 1);
	require(insn->mem_size == 0 || (insn->has_mem && is_size(insn->mem_size)));
	require(insn->dst <= INSN_OPERAND_DR && insn->src <= INSN_OPERAND_DR);
	require(is_register(insn->dst_reg, INSN_REG_BH) && is_register(insn->src_reg, INSN_REG_BH));
	require(is_register(insn->base, GPR_R15) && is_register(insn->index, GPR_R15));
	require(insn->segment <= INSN_SEG_GS && insn->scale <= 3 && insn->rep <= INSN_REP_REP);
	require((insn->dst == INSN_OPERAND_MEM || insn->src == INSN_OPERAND_MEM) <= insn->has_mem);
	require(!insn->lock || insn->has_mem || insn->op == INSN_MOV_FROM_CR || insn->op == INSN_MOV_TO_CR);
}

struct fake_device {
	const uint8_t *data;
	unsigned int accesses;
};

static int access_device(struct fake_device *device, unsigned int size)
{
	require(is_size(size));
	require(++device->accesses <= 2);
	return device->data[0] & 0x80 ? -EFAULT : 0;
}

static int device_read(void *ctx, unsigned int size, uint64_t *value)
{
	struct fake_device *device = ctx;

	*value = 0x8000000000000001ull * device->data[0];
	return access_device(device, size);
}

static int device_write(void *ctx, unsigned int size, uint64_t value)
{
	require(size == 8 || value >> (8 * size) == 0);
	return access_device(ctx, size);
}

static int guest_read(void *ctx, enum insn_segment segment, uint64_t offset, unsigned int size,
		      uint64_t *value)
{
	(void)offset;
	require(segment <= INSN_SEG_GS);
	return device_read(ctx, size, value);
}

static int guest_write(void *ctx, enum insn_segment segment, uint64_t offset, unsigned int size,
		       uint64_t value)
{
	(void)offset;
	require(segment == INSN_SEG_ES);
	return device_write(ctx, size, value);
}

static void emulate(const struct insn *insn, const uint8_t *data)
{
	struct fake_device device = { data, 0 };
	struct mmio_access io = { &device, device_read, device_write, guest_read, guest_write, data[0] & 1 };
	uint64_t before[GPR_COUNT];
	uint64_t gpr[GPR_COUNT];
	uint64_t rflags = data[0];
	int rc;

	for (unsigned int i = 0; i < GPR_COUNT; i++)
		before[i] = 0x0123456789abcdefull * (i + data[0]);
	memcpy(gpr, before, sizeof(gpr));
	if (insn->has_mem)
		require(insn->address_size == 8 ||
			insn_effective_offset(insn, gpr, data[0]) >> (8 * insn->address_size) == 0);
	rc = emulate_mmio(insn, gpr, &rflags, &io);
	if (rc < 0)
		require(memcmp(gpr, before, sizeof(gpr)) == 0 && rflags == data[0]);
	else
		require(rc == EMULATE_DONE || (rc == EMULATE_AGAIN && insn->rep != INSN_REP_NONE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct insn insn, again;
	enum insn_mode mode;
	int rc;

	if (size < 1)
		return 0;
	mode = (enum insn_mode)((data[0] >> 1) % 3);
	rc = insn_decode(data + 1, size - 1, mode, &insn);
	if (rc) {
		require(rc == -EILSEQ || rc == -ENOTSUP || (rc == -ENODATA && size - 1 < INSN_LENGTH_MAX));
		return 0;
	}
	check_ranges(&insn);
	require(insn.length <= size - 1);
	require(insn_decode(data + 1, insn.length, mode, &again) == 0);
	require(memcmp(&insn, &again, sizeof(insn)) == 0);
	require(insn_decode(data + 1, insn.length - 1u, mode, &again) == -ENODATA);
	emulate(&insn, data);
	return 0;
}
