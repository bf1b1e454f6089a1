/* SPDX-License-Identifier: MIT */
/* RDMSR, WRMSR and XSETBV of what a guest chose: #GP comes back as false. Host tests fake them, as those of io.h. */
#ifndef TRIVET_SAFE_MSR_H
#define TRIVET_SAFE_MSR_H

#include <trivet/guest_read.h>

#ifdef TRIVET_HOST_TEST

bool safe_rdmsr(uint32_t msr, uint64_t *value);
bool safe_wrmsr(uint32_t msr, uint64_t value);

#else

static inline bool safe_rdmsr(uint32_t msr, uint64_t *value)
{
	uint32_t low, high;

	__asm__ goto("1: rdmsr\n\t" EXTABLE("1b", "%l[fault]")
		     : "=a"(low), "=d"(high)
		     : "c"(msr)
		     : "memory"
		     : fault);
	*value = (uint64_t)high << 32 | low;
	return true;
fault:
	return false;
}

static inline bool safe_wrmsr(uint32_t msr, uint64_t value)
{
	__asm__ goto("1: wrmsr\n\t" EXTABLE("1b", "%l[fault]")
		     :
		     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
		     : "memory"
		     : fault);
	return true;
fault:
	return false;
}

#endif

static inline bool safe_xsetbv(uint32_t xcr, uint64_t value)
{
	__asm__ goto("1: xsetbv\n\t" EXTABLE("1b", "%l[fault]")
		     :
		     : "c"(xcr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
		     : "memory"
		     : fault);
	return true;
fault:
	return false;
}

#endif
