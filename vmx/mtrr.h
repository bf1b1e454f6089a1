/* SPDX-License-Identifier: MIT */
/*
 * Memory types from the MTRRs (SDM3 12.11). Under EPT the MTRRs don't count (SDM3 29.3.7): each leaf carries the type
 * that they give, worked out here from a snapshot of the boot processor's registers.
 */
#ifndef TRIVET_VMX_MTRR_H
#define TRIVET_VMX_MTRR_H

#include <trivet/x86.h>

struct vp;

/* All but the capabilities lie in here, among others. */
#define MTRR_MSR_FIRST MSR_MTRR_PHYS_BASE
#define MTRR_MSR_LAST MSR_MTRR_DEF_TYPE

/* As in the registers and in EPT entries. */
#define MEMORY_TYPE_UC 0u
#define MEMORY_TYPE_WC 1u
#define MEMORY_TYPE_WT 4u
#define MEMORY_TYPE_WP 5u
#define MEMORY_TYPE_WB 6u

#define MTRR_CAP_COUNT_MASK 0xffull
#define MTRR_DEF_TYPE_MASK 0xffull
#define MTRR_DEF_FIXED_ENABLE BIT(10)
#define MTRR_DEF_ENABLE BIT(11)
#define MTRR_MASK_VALID BIT(11)

#define MTRR_FIXED_COUNT 11u
#define MTRR_VARIABLE_MAX 40u /* what fits below the fixed ones' numbers */

/* Without padding: snapshots are compared as a whole. */
struct mtrr_state {
	uint32_t present; /* 0: the processor has none, everything is write-back */
	uint32_t has_fixed;
	uint32_t phys_bits;
	uint32_t variable_count;
	uint64_t def_type;
	uint64_t fixed[MTRR_FIXED_COUNT]; /* one byte per block: 64K, 2 x 16K, 8 x 4K */
	struct {
		uint64_t base, mask;
	} variable[MTRR_VARIABLE_MAX];
};

/*
 * The type at `start`. `*end`, above `start`, shrinks to where the stretch of the same type ends at the latest; it may
 * end earlier than the type changes. Both are multiples of 4 KiB. Reserved types count as UC.
 */
unsigned int mtrr_type(const struct mtrr_state *state, uint64_t start, uint64_t *end);

/* Reads the registers. Before the root's tables are made. */
void vmx_mtrr_init(void);
/* For struct backend: the types the EPT leaves are to have. */
unsigned int vmx_memory_type(uint64_t start, uint64_t *end);
/* Is `msr` one whose writes must go through vmx_mtrr_write()? */
bool vmx_is_mtrr(uint32_t msr);
/* The root's WRMSR. False: #GP. */
bool vmx_mtrr_write(struct vp *vp, uint32_t msr, uint64_t value);

#endif
