/* SPDX-License-Identifier: MIT */
/*
 * Exits of one processor while another loads FPU state all the time. Nothing of a processor concerns the FPU of another; but QEMU
 * shares a word (tests/qemu_mend.c).
 */
#include "lib/guest.h"

#define RUN_MS 1000u

static volatile uint32_t loading; /* 1: go on, 2: stop */

static void load_fpu(unsigned int cpu)
{
	static uint8_t environment[32] __attribute__((aligned(64)));

	(void)cpu;
	__asm__ volatile("fninit; fnstenv %0" : "=m"(environment));
	loading = 1;
	while (loading == 1)
		__asm__ volatile("fldenv %0" : : "m"(environment));
}

void test_main(void)
{
	uint64_t start;
	uint32_t exits = 0, wrong = 0;

	ap_prepare(low_memory);
	ok(ap_start(1, low_memory, load_fpu) && wait_for(&loading, 1, 1000000),
	   "another processor loads its FPU");
	for (start = rdtsc(); rdtsc() - start < RUN_MS * tsc_khz; exits++) {
		struct cpuid_regs r = cpuid(1, 0);

		wrong += r.ebx >> 24 != (cpu_apic_id[0] & 0xff);
	}
	is(wrong, 0, "CPUID meanwhile");
	note("%u times", exits);
	loading = 2;
	ok(ap_wait_done(1, 1000000), "the other processor ends");
}
