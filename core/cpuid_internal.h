/* SPDX-License-Identifier: MIT */
/* Shared by the files of children's CPUID only: cpuid_features.c (what there is) and cpuid_policy.c (how a VP is told). */
#ifndef TRIVET_CORE_CPUID_INTERNAL_H
#define TRIVET_CORE_CPUID_INTERNAL_H

#include <trivet/cpuid_policy.h>
#include <trivet/io.h>
#include <trivet/x86.h>

#define EXTENDED_LEAF_FIRST 0x80000000u
#define EDX1_HTT BIT(28)
#define EAX6_ARAT BIT(2)
#define CMP_LEGACY BIT(1)
#define TOPOLOGY_EXTENSIONS BIT(22)
#define STATE_PKRU BIT(9)

enum cpuid_register { EAX, EBX, ECX, EDX };

static inline uint32_t *register_of(struct cpuid_regs *regs, unsigned int reg)
{
	switch (reg) {
	case EAX:
		return &regs->eax;
	case EBX:
		return &regs->ebx;
	case ECX:
		return &regs->ecx;
	default:
		return &regs->edx;
	}
}

/* Leaves beyond the highest read as 0 here, though Intel's repeat the last. */
static inline struct cpuid_regs native(uint32_t leaf, uint32_t subleaf)
{
	static const struct cpuid_regs none;

	if (leaf > cpuid(leaf & EXTENDED_LEAF_FIRST, 0).eax)
		return none;
	return cpuid(leaf, subleaf);
}

/* What may be seen of one register that is a list of features; of one that isn't in the tables nothing. */
uint32_t cpuid_filter(const struct cpuid_policy *policy, uint32_t leaf, uint32_t subleaf, unsigned int reg,
		      uint32_t value);

/* Is the register a list of features? `*told`: bits of it that a parent may set although the VP hasn't got them. */
bool cpuid_is_features(uint32_t leaf, uint32_t subleaf, unsigned int reg, uint32_t *told);

#endif
