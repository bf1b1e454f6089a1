/* SPDX-License-Identifier: MIT */
#include "vector.h"

uint64_t pattern(unsigned int i)
{
	uint64_t v = (i + 1) * 0x9e3779b97f4a7c15ull;

	return v ^ v >> 29;
}

uint64_t xcr0;

/* x87 and SSE, AVX too where it is: by XSAVE, or FXSAVE without. */
void state_on(void)
{
	write_cr0(read_cr0() & ~(CR0_EM | CR0_TS));
	write_cr4(read_cr4() | 0x600); /* OSFXSR, OSXMMEXCPT */
	if (!(cpuid(1, 0).ecx >> 26 & 1))
		return;
	write_cr4(read_cr4() | CR4_OSXSAVE);
	xcr0 = cpuid(13, 0).eax & 7;
	__asm__ volatile("xsetbv" : : "c"(0), "a"((uint32_t)xcr0), "d"(0));
}

void state_store(uint8_t *to)
{
	memset(to, 0, STATE_BYTES);
	if (xcr0)
		__asm__ volatile("xsave (%0)" : : "r"(to), "a"((uint32_t)xcr0), "d"(0) : "memory");
	else
		__asm__ volatile("fxsave (%0)" : : "r"(to) : "memory");
}

static void state_load(const uint8_t *from)
{
	if (xcr0)
		__asm__ volatile("xrstor (%0)" : : "r"(from), "a"((uint32_t)xcr0), "d"(0) : "memory");
	else
		__asm__ volatile("fxrstor (%0)" : : "r"(from) : "memory");
}

/* Something in each register: what is there, with other numbers in it. */
void state_fill(uint8_t *state)
{
	uint64_t *image = (uint64_t *)state;

	__asm__ volatile("fninit; fldpi; fld1; fldl2e");
	state_store(state);
	*(uint32_t *)(state + 24) = 0x5fa0; /* MXCSR: rounds up, two flags */
	for (unsigned int i = 160 / 8; i < 416 / 8; i++)
		image[i] = pattern(i);
	if (xcr0 & 4)
		for (unsigned int i = 576 / 8; i < 832 / 8; i++)
			image[i] = pattern(i);
	image[512 / 8] |= xcr0; /* XSTATE_BV */
	state_load(state);
	state_store(state);
}
