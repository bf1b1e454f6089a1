/* SPDX-License-Identifier: MIT */
/*
 * Memory types from the MTRRs (SDM3 12.11). A range register compares some address bits; SDM3 12.11.2.3 and 12.11.4.1 tell
 * what counts where they overlap. The boot processor's registers decide for all: SDM3 12.11.8 wants them equal everywhere.
 */
#include "mtrr.h"
#include "vmx.h"
#include <string.h>
#include <trivet/io.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>
#include <trivet/vp.h>

#define SIZE_1M (1ull << 20)

/*
 * Two snapshots, so that a reader never sees half a change. Only VP 0 changes them; readers hold the root's space_lock,
 * which root_memory_types_changed() takes after each change: nobody reads the older one any more when it is overwritten.
 */
static struct mtrr_state snapshots[2];
static _Atomic(const struct mtrr_state *) current = &snapshots[0];

static unsigned int valid_type(uint64_t type)
{
	switch (type) {
	case MEMORY_TYPE_WC:
	case MEMORY_TYPE_WT:
	case MEMORY_TYPE_WP:
	case MEMORY_TYPE_WB:
		return (unsigned int)type;
	default:
		return MEMORY_TYPE_UC;
	}
}

/* SDM3 table 12-9: eight blocks of 64 KiB, sixteen of 16 KiB, then 4 KiB. */
static unsigned int fixed_type(const struct mtrr_state *state, uint64_t start, uint64_t *end)
{
	uint64_t block, index;

	if (start < 0x80000) {
		block = 0x10000;
		index = start / block;
	} else if (start < 0xc0000) {
		block = 0x4000;
		index = 8 + (start - 0x80000) / block;
	} else {
		block = 0x1000;
		index = 24 + (start - 0xc0000) / block;
	}
	*end = ALIGN_DOWN(start, block) + block;
	return valid_type(state->fixed[index / 8] >> (index % 8 * 8) & 0xff);
}

/* Does the range hold `start`? `*end` shrinks to where that may change. */
static bool range_matches(uint64_t base, uint64_t mask, uint64_t address_bits, uint64_t start, uint64_t *end)
{
	uint64_t compared = mask & address_bits;
	uint64_t block = compared & -compared;
	uint64_t first = base & compared;
	/* Without gaps in the mask it is one stretch, else what the bits pick repeats. */
	bool one_stretch = (~compared & address_bits) == ((block - 1) & address_bits);
	uint64_t change = ALIGN_DOWN(start, block) + block;

	if (!compared || (one_stretch && start >= first + block))
		return !compared;
	if (one_stretch && start < first)
		change = first;
	if (change < *end)
		*end = change;
	return (start & compared) == first;
}

static unsigned int overlap_type(unsigned int a, unsigned int b)
{
	if (a == b)
		return a;
	if ((a == MEMORY_TYPE_WT && b == MEMORY_TYPE_WB) || (a == MEMORY_TYPE_WB && b == MEMORY_TYPE_WT))
		return MEMORY_TYPE_WT;
	/* UC wins; what is undefined is UC here, the one that is never wrong. */
	return MEMORY_TYPE_UC;
}

static unsigned int variable_type(const struct mtrr_state *state, uint64_t start, uint64_t *end)
{
	uint64_t address_bits = (BIT(state->phys_bits) - 1) & ~(PAGE_SIZE - 1);
	unsigned int type = 0;
	bool matched = false;

	for (unsigned int i = 0; i < state->variable_count; i++) {
		uint64_t base = state->variable[i].base, mask = state->variable[i].mask;
		unsigned int own = valid_type(base & 0xff);

		if (!(mask & MTRR_MASK_VALID) || !range_matches(base, mask, address_bits, start, end))
			continue;
		type = matched ? overlap_type(type, own) : own;
		matched = true;
	}
	return matched ? type : valid_type(state->def_type & MTRR_DEF_TYPE_MASK);
}

/* As mtrr_type(), but `*end` may come before the type changes. */
static unsigned int piece_type(const struct mtrr_state *state, uint64_t start, uint64_t *end)
{
	uint64_t fixed_end;
	unsigned int type;

	if (start >= SIZE_1M || !state->has_fixed || !(state->def_type & MTRR_DEF_FIXED_ENABLE))
		return variable_type(state, start, end);
	type = fixed_type(state, start, &fixed_end);
	if (fixed_end < *end)
		*end = fixed_end;
	return type;
}

unsigned int mtrr_type(const struct mtrr_state *state, uint64_t start, uint64_t *end)
{
	uint64_t limit = *end, stop, next;
	unsigned int type;

	if (!state->present)
		return MEMORY_TYPE_WB;
	if (!(state->def_type & MTRR_DEF_ENABLE))
		return MEMORY_TYPE_UC;
	stop = limit;
	type = piece_type(state, start, &stop);
	while (stop < limit) {
		next = limit;
		if (piece_type(state, stop, &next) != type)
			break;
		stop = next;
	}
	*end = stop;
	return type;
}

/* The MSR numbers of the fixed ranges, in the order of their addresses. */
static uint32_t fixed_msr(unsigned int index)
{
	if (index == 0)
		return MSR_MTRR_FIX_64K;
	return index < 3 ? MSR_MTRR_FIX_16K + index - 1 : MSR_MTRR_FIX_4K + index - 3;
}

/* What has no effect now reads as 0, so that equal snapshots mean equal types. */
static void take_snapshot(struct mtrr_state *state)
{
	uint64_t capabilities;

	memset(state, 0, sizeof(*state));
	if (!(cpuid(1, 0).edx & BIT(12)))
		return;
	state->present = 1;
	capabilities = rdmsr(MSR_MTRR_CAP);
	state->has_fixed = !!(capabilities & MTRR_CAP_FIXED);
	state->phys_bits = vmx_gpa_bits();
	state->def_type = rdmsr(MSR_MTRR_DEF_TYPE);
	state->variable_count = (uint32_t)(capabilities & MTRR_CAP_COUNT_MASK);
	if (state->variable_count > MTRR_VARIABLE_MAX)
		state->variable_count = MTRR_VARIABLE_MAX;
	if (!(state->def_type & MTRR_DEF_ENABLE)) {
		state->def_type = 0;
		return;
	}
	for (unsigned int i = 0; i < MTRR_FIXED_COUNT; i++)
		if (state->has_fixed && (state->def_type & MTRR_DEF_FIXED_ENABLE))
			state->fixed[i] = rdmsr(fixed_msr(i));
	for (unsigned int i = 0; i < state->variable_count; i++) {
		uint64_t mask = rdmsr(MSR_MTRR_PHYS_BASE + 2 * i + 1);

		if (!(mask & MTRR_MASK_VALID))
			continue;
		state->variable[i].mask = mask;
		state->variable[i].base = rdmsr(MSR_MTRR_PHYS_BASE + 2 * i);
	}
}

void vmx_mtrr_init(void)
{
	take_snapshot(&snapshots[0]);
}

unsigned int vmx_memory_type(uint64_t start, uint64_t *end)
{
	return mtrr_type(atomic_load(&current), start, end);
}

bool vmx_is_mtrr(uint32_t msr)
{
	return (msr >= MSR_MTRR_PHYS_BASE && msr < MSR_MTRR_PHYS_BASE + 2 * MTRR_VARIABLE_MAX) ||
	       msr == MSR_MTRR_FIX_64K || (msr >= MSR_MTRR_FIX_16K && msr < MSR_MTRR_FIX_16K + 2) ||
	       (msr >= MSR_MTRR_FIX_4K && msr < MSR_MTRR_FIX_4K + 8) || msr == MSR_MTRR_DEF_TYPE;
}

bool vmx_mtrr_write(struct vp *vp, uint32_t msr, uint64_t value)
{
	const struct mtrr_state *old = atomic_load(&current);
	struct mtrr_state *new = old == &snapshots[0] ? &snapshots[1] : &snapshots[0];

	if (!safe_wrmsr(msr, value))
		return false;
	/*
	 * Off, they count for nothing (all memory is UC): a system turns them off with its caches (CR0.CD, SDM3 12.11.7.2),
	 * changes them and turns them on again. Tables without caches for that moment would be built anew twice for nothing. Who
	 * leaves them off for good keeps the types of before.
	 */
	if (vp->index || !(rdmsr(MSR_MTRR_DEF_TYPE) & MTRR_DEF_ENABLE))
		return true;
	take_snapshot(new);
	if (memcmp(old, new, sizeof(*new)) == 0)
		return true;
	atomic_store(&current, new);
	root_memory_types_changed(vp);
	return true;
}
