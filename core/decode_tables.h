/* SPDX-License-Identifier: MIT */
/*
 * Opcode maps of the instruction decoder (APM3 appendix A, SDM2 appendix A): for each opcode of the
 * set its operation and the shape of its operands; and sets of operations. An empty row is outside the set. Included by
 * decode.c only.
 */
#ifndef TRIVET_CORE_DECODE_TABLES_H
#define TRIVET_CORE_DECODE_TABLES_H

#include <trivet/decode.h>

enum insn_form {
	FORM_ABSENT,
	FORM_NONE, /* no operands that matter */
	FORM_RM_REG,
	FORM_REG_RM,
	FORM_REG_RM16, /* MOVZX and MOVSX, whose source has its own size */
	FORM_REG_RM8,
	FORM_REG_RM32,
	FORM_ACC_IMM,
	FORM_REG_IMM,	/* register in the opcode, full-size immediate */
	FORM_ACC_MOFFS, /* MOV with an absolute address */
	FORM_MOFFS_ACC,
	FORM_STRING,
	FORM_PORT_IMM,
	FORM_PORT_DX,
	FORM_CR_DR,
	FORM_GROUP1, /* ALU with immediate */
	FORM_GROUP1_IMM8,
	FORM_GROUP3,  /* TEST, NOT, NEG */
	FORM_GROUP5,  /* INC, DEC; group 4 for bytes */
	FORM_GROUP7,  /* 0F 01 */
	FORM_GROUP8,  /* BT and kin with immediate */
	FORM_GROUP11, /* MOV with immediate */
	FORM_PAUSE,
};

#define FORM_BYTE 0x80 /* operand size is one byte whatever the prefixes say */

struct opcode_row {
	uint8_t op;   /* enum insn_op, INSN_UNKNOWN where a group decides */
	uint8_t form; /* enum insn_form | FORM_BYTE */
};

#define ALU_ROWS(first, operation)                                                                          \
	[(first)] = { (operation), FORM_RM_REG | FORM_BYTE }, [(first) + 1] = { (operation), FORM_RM_REG }, \
	[(first) + 2] = { (operation), FORM_REG_RM | FORM_BYTE },                                           \
	[(first) + 3] = { (operation), FORM_REG_RM },                                                       \
	[(first) + 4] = { (operation), FORM_ACC_IMM | FORM_BYTE },                                          \
	[(first) + 5] = { (operation), FORM_ACC_IMM }

/* An even opcode for bytes, followed by the same one for words. */
#define PAIR_ROWS(first, operation, shape) \
	[(first)] = { (operation), (shape) | FORM_BYTE }, [(first) + 1] = { (operation), (shape) }

static const struct opcode_row one_byte_map[256] = {
	ALU_ROWS(0x00, INSN_ADD),
	ALU_ROWS(0x08, INSN_OR),
	ALU_ROWS(0x10, INSN_ADC),
	ALU_ROWS(0x18, INSN_SBB),
	ALU_ROWS(0x20, INSN_AND),
	ALU_ROWS(0x28, INSN_SUB),
	ALU_ROWS(0x30, INSN_XOR),
	ALU_ROWS(0x38, INSN_CMP),
	[0x63] = { INSN_MOVSX, FORM_REG_RM32 },
	PAIR_ROWS(0x6c, INSN_INS, FORM_STRING),
	PAIR_ROWS(0x6e, INSN_OUTS, FORM_STRING),
	PAIR_ROWS(0x80, INSN_UNKNOWN, FORM_GROUP1),
	[0x82] = { INSN_UNKNOWN, FORM_GROUP1 | FORM_BYTE },
	[0x83] = { INSN_UNKNOWN, FORM_GROUP1_IMM8 },
	PAIR_ROWS(0x84, INSN_TEST, FORM_RM_REG),
	PAIR_ROWS(0x86, INSN_XCHG, FORM_RM_REG),
	PAIR_ROWS(0x88, INSN_MOV, FORM_RM_REG),
	PAIR_ROWS(0x8a, INSN_MOV, FORM_REG_RM),
	[0x90] = { INSN_PAUSE, FORM_PAUSE },
	PAIR_ROWS(0xa0, INSN_MOV, FORM_ACC_MOFFS),
	PAIR_ROWS(0xa2, INSN_MOV, FORM_MOFFS_ACC),
	PAIR_ROWS(0xa4, INSN_MOVS, FORM_STRING),
	PAIR_ROWS(0xa8, INSN_TEST, FORM_ACC_IMM),
	PAIR_ROWS(0xaa, INSN_STOS, FORM_STRING),
	PAIR_ROWS(0xac, INSN_LODS, FORM_STRING),
	[0xb0] = { INSN_MOV, FORM_REG_IMM | FORM_BYTE },
	[0xb1] = { INSN_MOV, FORM_REG_IMM | FORM_BYTE },
	[0xb2] = { INSN_MOV, FORM_REG_IMM | FORM_BYTE },
	[0xb3] = { INSN_MOV, FORM_REG_IMM | FORM_BYTE },
	[0xb4] = { INSN_MOV, FORM_REG_IMM | FORM_BYTE },
	[0xb5] = { INSN_MOV, FORM_REG_IMM | FORM_BYTE },
	[0xb6] = { INSN_MOV, FORM_REG_IMM | FORM_BYTE },
	[0xb7] = { INSN_MOV, FORM_REG_IMM | FORM_BYTE },
	[0xb8] = { INSN_MOV, FORM_REG_IMM },
	[0xb9] = { INSN_MOV, FORM_REG_IMM },
	[0xba] = { INSN_MOV, FORM_REG_IMM },
	[0xbb] = { INSN_MOV, FORM_REG_IMM },
	[0xbc] = { INSN_MOV, FORM_REG_IMM },
	[0xbd] = { INSN_MOV, FORM_REG_IMM },
	[0xbe] = { INSN_MOV, FORM_REG_IMM },
	[0xbf] = { INSN_MOV, FORM_REG_IMM },
	PAIR_ROWS(0xc6, INSN_MOV, FORM_GROUP11),
	PAIR_ROWS(0xe4, INSN_IN, FORM_PORT_IMM),
	PAIR_ROWS(0xe6, INSN_OUT, FORM_PORT_IMM),
	PAIR_ROWS(0xec, INSN_IN, FORM_PORT_DX),
	PAIR_ROWS(0xee, INSN_OUT, FORM_PORT_DX),
	[0xf4] = { INSN_HLT, FORM_NONE },
	PAIR_ROWS(0xf6, INSN_UNKNOWN, FORM_GROUP3),
	PAIR_ROWS(0xfe, INSN_UNKNOWN, FORM_GROUP5),
};

/* After 0F. */
static const struct opcode_row two_byte_map[256] = {
	[0x01] = { INSN_UNKNOWN, FORM_GROUP7 },	    [0x06] = { INSN_CLTS, FORM_NONE },
	[0x08] = { INSN_INVD, FORM_NONE },	    [0x09] = { INSN_WBINVD, FORM_NONE },
	[0x20] = { INSN_MOV_FROM_CR, FORM_CR_DR },  [0x21] = { INSN_MOV_FROM_DR, FORM_CR_DR },
	[0x22] = { INSN_MOV_TO_CR, FORM_CR_DR },    [0x23] = { INSN_MOV_TO_DR, FORM_CR_DR },
	[0x30] = { INSN_WRMSR, FORM_NONE },	    [0x31] = { INSN_RDTSC, FORM_NONE },
	[0x32] = { INSN_RDMSR, FORM_NONE },	    [0x33] = { INSN_RDPMC, FORM_NONE },
	[0xa2] = { INSN_CPUID, FORM_NONE },	    [0xa3] = { INSN_BT, FORM_RM_REG },
	[0xab] = { INSN_BTS, FORM_RM_REG },	    [0xb3] = { INSN_BTR, FORM_RM_REG },
	[0xbb] = { INSN_BTC, FORM_RM_REG },	    [0xba] = { INSN_UNKNOWN, FORM_GROUP8 },
	PAIR_ROWS(0xb0, INSN_CMPXCHG, FORM_RM_REG), [0xb6] = { INSN_MOVZX, FORM_REG_RM8 },
	[0xb7] = { INSN_MOVZX, FORM_REG_RM16 },	    [0xbe] = { INSN_MOVSX, FORM_REG_RM8 },
	[0xbf] = { INSN_MOVSX, FORM_REG_RM16 },	    PAIR_ROWS(0xc0, INSN_XADD, FORM_RM_REG),
};

/* 0F 01 with a register operand: by (ModRM - C0). */
static const uint8_t group7_register_ops[64] = {
	[0x01] = INSN_VMCALL, [0x08] = INSN_MONITOR,  [0x09] = INSN_MWAIT,  [0x11] = INSN_XSETBV,
	[0x18] = INSN_VMRUN,  [0x19] = INSN_VMMCALL,  [0x1a] = INSN_VMLOAD, [0x1b] = INSN_VMSAVE,
	[0x1c] = INSN_STGI,   [0x1d] = INSN_CLGI,     [0x1e] = INSN_SKINIT, [0x1f] = INSN_INVLPGA,
	[0x39] = INSN_RDTSCP, [0x3a] = INSN_MONITORX, [0x3b] = INSN_MWAITX,
};

/* The operations whose destination in memory LOCK may precede (SDM2 "LOCK"). */
#define LOCKABLE_OPS                                                                                      \
	(BIT(INSN_ADD) | BIT(INSN_OR) | BIT(INSN_ADC) | BIT(INSN_SBB) | BIT(INSN_AND) | BIT(INSN_SUB) |   \
	 BIT(INSN_XOR) | BIT(INSN_BTS) | BIT(INSN_BTR) | BIT(INSN_BTC) | BIT(INSN_XCHG) | BIT(INSN_NOT) | \
	 BIT(INSN_NEG) | BIT(INSN_INC) | BIT(INSN_DEC) | BIT(INSN_XADD) | BIT(INSN_CMPXCHG))
#define WRITE_ONLY_OPS (BIT(INSN_MOV) | BIT(INSN_MOVS) | BIT(INSN_STOS) | BIT(INSN_INS) | BIT(INSN_SMSW))
#define READ_ONLY_OPS (BIT(INSN_CMP) | BIT(INSN_TEST) | BIT(INSN_BT))
static_assert(INSN_OP_COUNT <= 64, "sets of operations are 64-bit masks");

#endif
