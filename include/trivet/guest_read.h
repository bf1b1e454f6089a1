/* SPDX-License-Identifier: MIT */
/*
 * The one way to load from and store to memory whose address a guest chose: through the RAM window, with a fix-up entry for
 * the access. What isn't RAM of the root isn't mapped there, so the access faults and reads as "no". Host tests fake these.
 */
#ifndef TRIVET_GUEST_READ_H
#define TRIVET_GUEST_READ_H

#include <errno.h>
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

#ifdef TRIVET_HOST_TEST

bool guest_read64_raw(uint64_t gpa, uint64_t *out);
bool guest_read32_raw(uint64_t gpa, uint32_t *out);
bool guest_read8_raw(uint64_t gpa, uint8_t *out);
bool guest_write64_raw(uint64_t gpa, uint64_t value);
bool guest_write8_raw(uint64_t gpa, uint8_t value);
int guest_exchange64_raw(uint64_t gpa, uint64_t old, uint64_t value);
int guest_exchange32_raw(uint64_t gpa, uint32_t old, uint32_t value);
#define guest_window() 0
#define guest_read64_masked(window, gpa, value) ((void)(window), guest_read64_raw(gpa, value))

#else

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

/* One store. False as above. */
#define DEFINE_GUEST_WRITE(name, type, insn)                                       \
	static inline bool name(uint64_t gpa, type value)                          \
	{                                                                          \
		if (unlikely(gpa >= RAM_WINDOW_SIZE - sizeof(type)))               \
			return false;                                              \
		__asm__ goto("1: " insn " %0, (%1)\n\t" EXTABLE("1b", "%l[fault]") \
			     :                                                     \
			     : "q"(value), "r"(RAM_WINDOW_BASE + gpa)              \
			     : "memory"                                            \
			     : fault);                                             \
		return true;                                                       \
fault:                                                                             \
		return false;                                                      \
	}

DEFINE_GUEST_WRITE(guest_write64_raw, uint64_t, "movq")
DEFINE_GUEST_WRITE(guest_write8_raw, uint8_t, "movb")

/* From `old` to `value` in one locked operation: 0, -EAGAIN when it isn't `old` (any more), -EIO. */
#define DEFINE_GUEST_EXCHANGE(name, type, move, exchange, rax)                                 \
	static inline int name(uint64_t gpa, type old, type value)                             \
	{                                                                                      \
		if (unlikely(gpa >= RAM_WINDOW_SIZE - sizeof(type)))                           \
			return -EIO;                                                           \
		__asm__ goto(move " %0, %%" rax "\n\t"                                         \
				  "1: lock " exchange                                          \
				  " %1, (%2)\n\t" EXTABLE("1b", "%l[fault]") "jne %l[changed]" \
			     :                                                                 \
			     : "r"(old), "r"(value), "r"(RAM_WINDOW_BASE + gpa)                \
			     : "rax", "memory", "cc"                                           \
			     : fault, changed);                                                \
		return 0;                                                                      \
changed:                                                                                       \
		return -EAGAIN;                                                                \
fault:                                                                                         \
		return -EIO;                                                                   \
	}

DEFINE_GUEST_EXCHANGE(guest_exchange64_raw, uint64_t, "movq", "cmpxchgq", "rax")
DEFINE_GUEST_EXCHANGE(guest_exchange32_raw, uint32_t, "movl", "cmpxchgl", "eax")

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

#endif
