/* SPDX-License-Identifier: MIT */
/*
 * The one way to load from memory whose address a guest chose: through the RAM window, with a fix-up entry for
 * the load. What isn't RAM of the root isn't mapped there, so the load faults and reads as "no".
 */
#ifndef TRIVET_GUEST_READ_H
#define TRIVET_GUEST_READ_H

#include <trivet/host_memory.h>

/* An entry of .extable: a fault at `insn` goes on at `fixup`. Both relative to the entry's own fields. */
struct extable_entry {
	int32_t insn;
	int32_t fixup;
};
static_assert(sizeof(struct extable_entry) == 8, "extable_entry");

#define EXTABLE(insn, fixup)               \
	".pushsection .extable, \"a\"\n\t" \
	".balign 4\n\t"                    \
	".long " insn " - .\n\t"           \
	".long " fixup " - .\n\t"          \
	".popsection\n\t"

#define DEFINE_GUEST_READ(name, type, insn)                                        \
	static inline bool name(uint64_t gpa, type *out)                           \
	{                                                                          \
		type value;                                                        \
		if (unlikely(gpa >= RAM_WINDOW_SIZE - sizeof(type)))               \
			return false;                                              \
		__asm__ goto("1: " insn " (%1), %0\n\t" EXTABLE("1b", "%l[fault]") \
			     : "=q"(value)                                         \
			     : "r"(RAM_WINDOW_BASE + gpa)                          \
			     : "memory"                                            \
			     : fault);                                             \
		*out = value;                                                      \
		return true;                                                       \
fault:                                                                             \
		return false;                                                      \
	}

/* One load at `gpa` of the root (identity mapped). False when that isn't RAM that the root owns. */
DEFINE_GUEST_READ(guest_read64_raw, uint64_t, "movq")
DEFINE_GUEST_READ(guest_read32_raw, uint32_t, "movl")
DEFINE_GUEST_READ(guest_read8_raw, uint8_t, "movb")

/* The window's base in a register, where compilers would load the constant again and again. */
static inline uint64_t guest_window(void)
{
	uint64_t window = RAM_WINDOW_BASE;

	__asm__("" : "+r"(window));
	return window;
}

/* For the exit path: as guest_read64_raw(), for a `gpa` whose bits 63:46 the caller masked off. */
static inline bool guest_read64_masked(uint64_t window, uint64_t gpa, uint64_t *out)
{
	uint64_t value;

	__asm__ goto("1: movq (%1,%2), %0\n\t" EXTABLE("1b", "%l[fault]")
		     : "=r"(value)
		     : "r"(window), "r"(gpa)
		     : "memory"
		     : fault);
	*out = value;
	return true;
fault:
	return false;
}

#endif
