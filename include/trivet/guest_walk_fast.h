/* SPDX-License-Identifier: MIT */
/*
 * The hot short cut through guest page tables: instruction bytes at RIP, 4-level long mode. No
 * permission is checked, because the processor has just executed there. Everything unusual returns
 * false, and the caller goes the slow, complete way with guest_fetch(). For the root only, which is identity mapped: a child's
 * entries hold guest physical addresses that aren't the window's. A handful of instructions
 * per level; both functions read each entry once.
 *
 * <trivet/guest_read.h> supplies guest_read64_masked(): one 8-byte load of guest physical memory at any alignment within a
 * page, false where there is no readable memory.
 */
#ifndef TRIVET_GUEST_WALK_FAST_H
#define TRIVET_GUEST_WALK_FAST_H

#include <trivet/guest_read.h>
#include <trivet/types.h>

#define GUEST_PTE_PRESENT BIT(0)
#define GUEST_PTE_LARGE BIT(7)
/*
 * The address in an entry, cut to what the RAM window covers: a load can't leave it, so nothing is compared. An entry beyond
 * that (the processor has just walked it, so there would have to be RAM above 64 TiB) gives wrong bytes of the root's own,
 * of which only its own instruction length depends.
 */
#define GUEST_PTE_ADDR 0x00003ffffffff000ull

/* Byte offset in a table of the entry for `gva`, whose index field starts at bit `shift`. */
static inline uint64_t guest_pte_offset(uint64_t gva, unsigned shift)
{
	return (gva >> (shift - 3)) & 0xff8;
}

/*
 * The address mask in a register: the compiler would else load the 64-bit constant anew at every
 * level.
 */
static inline uint64_t guest_pte_mask(void)
{
	uint64_t mask = GUEST_PTE_ADDR;

	__asm__("" : "+r"(mask));
	return mask;
}

/* The leaf's own low address bits come from gva: a leaf of `size` (power of two) translates so. */
static inline uint64_t guest_leaf_gpa(uint64_t entry, uint64_t gva, uint64_t size)
{
	return (entry & GUEST_PTE_ADDR & ~(size - 1)) | (gva & (size - 1));
}

/* For EFER.LMA=1 and CR4.LA57=0 only. `window` is guest_window(). False: not present or not readable, take the slow way. */
static inline __attribute__((__always_inline__)) bool guest_walk_fast64(uint64_t window, uint64_t cr3,
									uint64_t gva, uint64_t *gpa)
{
	const uint64_t mask = guest_pte_mask();
	uint64_t entry;

	if (unlikely(!guest_read64_masked(window, (cr3 & mask) + guest_pte_offset(gva, 39), &entry)) ||
	    unlikely(!(entry & GUEST_PTE_PRESENT)))
		return false;
	if (unlikely(!guest_read64_masked(window, (entry & mask) + guest_pte_offset(gva, 30), &entry)) ||
	    unlikely(!(entry & GUEST_PTE_PRESENT)))
		return false;
	if (unlikely(entry & GUEST_PTE_LARGE)) {
		*gpa = guest_leaf_gpa(entry, gva, SIZE_1G);
		return true;
	}
	if (unlikely(!guest_read64_masked(window, (entry & mask) + guest_pte_offset(gva, 21), &entry)) ||
	    unlikely(!(entry & GUEST_PTE_PRESENT)))
		return false;
	if (entry & GUEST_PTE_LARGE) {
		*gpa = guest_leaf_gpa(entry, gva, SIZE_2M);
		return true;
	}
	if (unlikely(!guest_read64_masked(window, (entry & mask) + guest_pte_offset(gva, 12), &entry)) ||
	    unlikely(!(entry & GUEST_PTE_PRESENT)))
		return false;
	*gpa = guest_leaf_gpa(entry, gva, SIZE_4K);
	return true;
}

/* The eight bytes at `gva`. False also when they cross a page. */
static inline __attribute__((__always_inline__)) bool guest_fetch_fast64(uint64_t cr3, uint64_t gva,
									 uint64_t *bytes)
{
	uint64_t window = guest_window();
	uint64_t gpa;

	if (unlikely((gva & (PAGE_SIZE - 1)) > PAGE_SIZE - sizeof(*bytes)))
		return false;
	return guest_walk_fast64(window, cr3, gva, &gpa) && guest_read64_masked(window, gpa, bytes);
}

#endif
