/* SPDX-License-Identifier: MIT */
/*
 * Instruction decoder: how long is the instruction that was intercepted, and what does it move
 * where. It knows the intercepted instructions (for processors that report no next RIP) and the
 * integer instructions that software uses on the local APIC page; anything else is refused, never
 * guessed. Pure logic: no allocation, no state. The bytes are the guest's, so every one of them is
 * hostile.
 */
#ifndef TRIVET_DECODE_H
#define TRIVET_DECODE_H

#include <trivet/types.h>

#define INSN_LENGTH_MAX 15 /* SDM3 2.3.11: more is a fault */

/*
 * Default operand and address size of the code segment: CS.L -> 64, else CS.D -> 32, else 16. Real
 * and virtual-8086 mode are INSN_MODE_16 (or 32, by CS.D).
 */
enum insn_mode {
	INSN_MODE_16,
	INSN_MODE_32,
	INSN_MODE_64,
};

enum insn_op {
	INSN_UNKNOWN,
	/* In the order of the opcode field: 80 /0 .. 80 /7. */
	INSN_ADD,
	INSN_OR,
	INSN_ADC,
	INSN_SBB,
	INSN_AND,
	INSN_SUB,
	INSN_XOR,
	INSN_CMP,
	/* In the order of the opcode field: 0F BA /4 .. /7. */
	INSN_BT,
	INSN_BTS,
	INSN_BTR,
	INSN_BTC,
	INSN_MOV,
	INSN_MOVZX,
	INSN_MOVSX, /* MOVSXD too */
	INSN_XCHG,
	INSN_TEST,
	INSN_NOT,
	INSN_NEG,
	INSN_INC,
	INSN_DEC,
	INSN_XADD,
	INSN_CMPXCHG,
	INSN_MOVS,
	INSN_STOS,
	INSN_LODS,
	/* From here on: intercepted instructions, which emulate_mmio() does not take. */
	INSN_IN,
	INSN_OUT,
	INSN_INS,
	INSN_OUTS,
	INSN_CPUID,
	INSN_RDMSR,
	INSN_WRMSR,
	INSN_RDTSC,
	INSN_RDTSCP,
	INSN_RDPMC,
	INSN_HLT,
	INSN_PAUSE,
	INSN_MONITOR,
	INSN_MWAIT,
	INSN_MONITORX,
	INSN_MWAITX,
	INSN_INVD,
	INSN_WBINVD, /* WBNOINVD too: one intercept covers both (APM2 15.9) */
	INSN_INVLPG, /* the memory operand is an address, nothing is accessed: mem_size 0 */
	INSN_XSETBV,
	INSN_CLTS,
	INSN_LMSW,	  /* src: 16 bits, memory or register */
	INSN_SMSW,	  /* dst: 16 bits in memory, operand_size in a register */
	INSN_MOV_FROM_CR, /* dst REG, src_reg is the CR's number (LOCK MOV CR0 gives 8: APM3 "MOV CRn") */
	INSN_MOV_TO_CR,	  /* src REG, dst_reg is the CR's number */
	INSN_MOV_FROM_DR, /* dst REG, src_reg is the DR's number, 4 and 5 not folded into 6 and 7 */
	INSN_MOV_TO_DR,	  /* src REG, dst_reg is the DR's number */
	INSN_VMCALL,
	INSN_VMRUN,   /* SVM instructions with rAX: address_size says how much of it counts */
	INSN_VMMCALL, /* VMGEXIT too, which is VMMCALL unless the guest is encrypted (APM3) */
	INSN_VMLOAD,
	INSN_VMSAVE,
	INSN_STGI,
	INSN_CLGI,
	INSN_SKINIT,
	INSN_INVLPGA,
	INSN_OP_COUNT
};

/* In the order of the encoding in MOV Sreg and of the VMCB's segment names. */
enum insn_segment {
	INSN_SEG_ES,
	INSN_SEG_CS,
	INSN_SEG_SS,
	INSN_SEG_DS,
	INSN_SEG_FS,
	INSN_SEG_GS,
};

enum insn_rep {
	INSN_REP_NONE,
	INSN_REP_REPNE, /* F2 */
	INSN_REP_REP,	/* F3 */
};

enum insn_operand {
	INSN_OPERAND_NONE,
	INSN_OPERAND_REG, /* dst_reg or src_reg says which */
	INSN_OPERAND_MEM,
	INSN_OPERAND_IMM, /* `immediate` */
	INSN_OPERAND_CR,  /* dst_reg or src_reg is the number */
	INSN_OPERAND_DR,
};

/*
 * Register names in struct insn: 0..15 are enum gpr, of which operand_size bytes count; 16..19 are
 * the high bytes AH, CH, DH, BH.
 */
#define INSN_REG_AH 16
#define INSN_REG_CH 17
#define INSN_REG_DH 18
#define INSN_REG_BH 19
#define INSN_REG_NONE 0xff

#define INSN_MEM_READ 1u
#define INSN_MEM_WRITE 2u

struct insn {
	/* Sign-extended from the encoding; an absolute address (MOV moffs) is zero-extended. */
	int64_t displacement;
	/* As the CPU extends it to operand_size, then sign-extended to 64 bits; IN/OUT port: 0..255. */
	int64_t immediate;
	uint8_t length;	      /* 1..15, with prefixes */
	uint8_t op;	      /* enum insn_op */
	uint8_t operand_size; /* 1, 2, 4 or 8 bytes: the operation and its register operands */
	uint8_t address_size; /* 2, 4 or 8 bytes; also the part of rCX that REP counts with */
	uint8_t mem_size;     /* bytes accessed at the memory operand: 1, 2, 4, 8, or 0 for none */
	uint8_t mem_access;   /* INSN_MEM_READ | INSN_MEM_WRITE */
	uint8_t dst;	      /* enum insn_operand; CMP, TEST, BT have their first operand here, unwritten */
	uint8_t src;	      /* enum insn_operand */
	uint8_t dst_reg;      /* INSN_REG_NONE unless dst is REG, CR or DR */
	uint8_t src_reg;      /* ... src ... */
	uint8_t segment;      /* enum insn_segment, default resolved; MOVS: of its source */
	uint8_t base;	      /* 0..15 or INSN_REG_NONE */
	uint8_t index;	      /* 0..15 or INSN_REG_NONE */
	uint8_t scale;	      /* index is shifted left by 0..3 */
	uint8_t rep;	      /* enum insn_rep: the prefix present, even where it means nothing */
	bool lock;
	/*
	 * There is one memory operand, encoded or implied by a string instruction (then base is RSI
	 * or RDI). MOVS has two: these fields describe its source, the destination is always
	 * ES:rDI.
	 */
	bool has_mem;
	bool rip_relative; /* displacement counts from the next instruction */
};
static_assert(sizeof(struct insn) == 40, "struct insn");

/*
 * Decodes the instruction that begins at bytes[0]; never reads beyond bytes[n - 1] nor beyond 15
 * bytes. On success *out is complete. On an error *out is undefined.
 *   0         decoded
 *   -ENODATA  n (< 15) bytes are too few: call again with more
 *   -EILSEQ   #UD on every processor, or longer than 15 bytes (#GP): it can't have been executed
 *   -ENOTSUP  outside the set; may or may not be a legal instruction
 * Legal forms of known operations that are outside the set: MOV to or from a segment register,
 * MOVSXD with a 16-bit operand (vendors differ), and the forms without a memory operand NOP, XCHG
 * 90..97 and INC, DEC 40..4F.
 */
int insn_decode(const uint8_t *bytes, size_t n, enum insn_mode mode, struct insn *out);

/* Opcodes as the bytes lie in memory, first one lowest. */
#define INSN_BYTES_CPUID 0xa20fu
#define INSN_BYTES_RDMSR 0x320fu
#define INSN_BYTES_WRMSR 0x300fu
#define INSN_BYTES_VMMCALL 0xd9010fu
#define INSN_BYTES_HLT 0xf4u

#endif
