/* SPDX-License-Identifier: MIT */
/* Conformance: discovery, MSRs, and calls as such. */
#include "tlfs/tlfs.h"

void test_main(void)
{
	hv_open();
	CHAPTER(cpuid);
	CHAPTER(msr);
	CHAPTER(hypercall);
	CHAPTER(modes);
	CHAPTER(msr_lock);
}
