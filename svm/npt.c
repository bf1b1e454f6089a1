/* SPDX-License-Identifier: MIT */
/*
 * Nested page-table entries are long-mode page-table entries (APM2 5.3, 15.25.5). Guest accesses
 * count as user accesses (APM2 15.25.5), so every entry has U/S. The memory type is write-back
 * (0, PAT entry 0): the guest's own PAT and the MTRRs decide (APM2 15.25.8); or uncached (3, PAT entry 3, which is UC in the
 * hypervisor's PAT as it is after reset: APM2 7.8.1).
 */
#include "npt.h"

#define NPT_PRESENT BIT(0)
#define NPT_WRITE BIT(1)
#define NPT_USER BIT(2)
#define NPT_WRITE_THROUGH BIT(3)
#define NPT_CACHE_DISABLE BIT(4)
#define NPT_ACCESSED BIT(5)
#define NPT_DIRTY BIT(6)
#define NPT_LARGE BIT(7)
#define NPT_ALONE BIT(9) /* AVL: software's */
#define NPT_NO_EXEC BIT(63)

const struct ss_format ss_format_npt = {
	.perm_bits = {
		[SS_READ] = NPT_PRESENT | NPT_NO_EXEC,
		[SS_READ | SS_WRITE] = NPT_PRESENT | NPT_WRITE | NPT_NO_EXEC,
		[SS_READ | SS_EXEC] = NPT_PRESENT,
		[SS_RWX] = NPT_PRESENT | NPT_WRITE,
	},
	.perm_mask = NPT_PRESENT | NPT_WRITE | NPT_NO_EXEC,
	.present_mask = NPT_PRESENT,
	.table_bits = NPT_PRESENT | NPT_WRITE | NPT_USER,
	.leaf_bits = NPT_USER,
	.alone_bit = NPT_ALONE,
	.large_bit = NPT_LARGE,
	.addr_mask = 0x000ffffffffff000ull,
	.accessed_bit = NPT_ACCESSED,
	.dirty_bit = NPT_DIRTY,
	.hardware_bits = NPT_ACCESSED | NPT_DIRTY,
	.memtype_mask = NPT_WRITE_THROUGH | NPT_CACHE_DISABLE,
	.memtype_shift = 3,
	.uncached_memtype = 3,
};
