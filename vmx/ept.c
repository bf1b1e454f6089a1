/* SPDX-License-Identifier: MIT */
/*
 * Extended page-table entries (SDM3 29.3.2). A leaf carries the memory type, because the MTRRs don't count under EPT
 * (SDM3 29.3.7); "ignore PAT" stays clear, so the guest's own PAT still takes part. Write without read is a
 * misconfiguration, execute alone needs a capability that not every processor has: neither can be expressed.
 */
#include "ept.h"

#define EPT_READ BIT(0)
#define EPT_WRITE BIT(1)
#define EPT_EXEC BIT(2)
#define EPT_TYPE_SHIFT 3
#define EPT_TYPE_MASK (7ull << EPT_TYPE_SHIFT)
#define EPT_LARGE BIT(7)
#define EPT_ACCESSED BIT(8)
#define EPT_DIRTY BIT(9)
#define EPT_ALONE BIT(11) /* ignored by the processor */

const struct ss_format ss_format_ept = {
	.perm_bits = {
		[SS_READ] = EPT_READ,
		[SS_READ | SS_WRITE] = EPT_READ | EPT_WRITE,
		[SS_READ | SS_EXEC] = EPT_READ | EPT_EXEC,
		[SS_RWX] = EPT_READ | EPT_WRITE | EPT_EXEC,
	},
	.perm_mask = EPT_READ | EPT_WRITE | EPT_EXEC,
	.present_mask = EPT_READ | EPT_WRITE | EPT_EXEC,
	.table_bits = EPT_READ | EPT_WRITE | EPT_EXEC,
	.leaf_bits = 0,
	.alone_bit = EPT_ALONE,
	.large_bit = EPT_LARGE,
	.addr_mask = 0x000ffffffffff000ull,
	.accessed_bit = EPT_ACCESSED,
	.dirty_bit = EPT_DIRTY,
	.hardware_bits = EPT_ACCESSED | EPT_DIRTY,
	.memtype_mask = EPT_TYPE_MASK,
	.memtype_shift = EPT_TYPE_SHIFT,
};
