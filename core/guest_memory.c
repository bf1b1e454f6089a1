/* SPDX-License-Identifier: MIT */
/*
 * Guest physical memory for the page walker, the instruction fetch and what is done in the processor's place: the root's,
 * which is identity mapped. Stores go where loads do (guest_read.h): into the RAM window, which holds nothing of ours.
 */
#include <errno.h>
#include <trivet/guest_access.h>
#include <trivet/guest_read.h>

bool guest_phys_read64(void *space, gpa_t gpa, uint64_t *value)
{
	(void)space;
	return guest_read64_raw(gpa.v, value);
}

bool guest_phys_read32(void *space, gpa_t gpa, uint32_t *value)
{
	(void)space;
	return guest_read32_raw(gpa.v, value);
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	uint8_t *bytes = buf;
	uint64_t word;

	(void)space;
	/* An instruction is up to 15 bytes: two words, which may overlap. */
	if (size >= sizeof(word) && size <= 2 * sizeof(word)) {
		size_t rest = size - sizeof(word);

		if (!guest_read64_raw(gpa.v, &word))
			return false;
		__builtin_memcpy(bytes, &word, sizeof(word));
		if (!guest_read64_raw(gpa.v + rest, &word))
			return false;
		__builtin_memcpy(bytes + rest, &word, sizeof(word));
		return true;
	}
	for (size_t i = 0; i < size; i++)
		if (!guest_read8_raw(gpa.v + i, &bytes[i]))
			return false;
	return true;
}

static bool store8(uint64_t gpa, uint8_t value)
{
	if (unlikely(gpa >= RAM_WINDOW_SIZE))
		return false;
	__asm__ goto("1: movb %0, (%1)\n\t" EXTABLE("1b", "%l[fault]")
		     :
		     : "q"(value), "r"(RAM_WINDOW_BASE + gpa)
		     : "memory"
		     : fault);
	return true;
fault:
	return false;
}

bool guest_phys_write(void *space, gpa_t gpa, const void *buf, size_t size)
{
	const uint8_t *bytes = buf;

	(void)space;
	for (size_t i = 0; i < size; i++)
		if (!store8(gpa.v + i, bytes[i]))
			return false;
	return true;
}

int guest_phys_exchange(void *space, gpa_t gpa, uint32_t bytes, uint64_t old, uint64_t value)
{
	uint64_t at = RAM_WINDOW_BASE + gpa.v;

	(void)space;
	if (gpa.v >= RAM_WINDOW_SIZE - sizeof(value))
		return -EIO;
	if (bytes == sizeof(value))
		__asm__ goto("movq %0, %%rax\n\t"
			     "1: lock cmpxchgq %1, (%2)\n\t" EXTABLE("1b", "%l[fault]") "jne %l[changed]"
			     :
			     : "r"(old), "r"(value), "r"(at)
			     : "rax", "memory", "cc"
			     : fault, changed);
	else
		__asm__ goto("movl %0, %%eax\n\t"
			     "1: lock cmpxchgl %1, (%2)\n\t" EXTABLE("1b", "%l[fault]") "jne %l[changed]"
			     :
			     : "r"((uint32_t)old), "r"((uint32_t)value), "r"(at)
			     : "rax", "memory", "cc"
			     : fault, changed);
	return 0;
changed:
	return -EAGAIN;
fault:
	return -EIO;
}
