/* SPDX-License-Identifier: MIT */
/*
 * CPUID as the root sees it: the leaves are dumped, and the harness compares the dump with that of a bare
 * machine whose CPU has no SVM. Here only what can be judged without a second machine.
 */
#include "lib/hv.h"

static void dump(uint32_t leaf, uint32_t sub)
{
	struct cpuid_regs r = cpuid(leaf, sub);

	print("CPUID %08x %02x: %08x %08x %08x %08x\n", leaf, sub, r.eax, r.ebx, r.ecx, r.edx);
}

static uint32_t subleaves(uint32_t leaf)
{
	switch (leaf) {
	case 4:
	case 0xb:
	case 0x8000001d:
		return 6;
	case 7:
		return 3;
	case 0xd:
		return 16;
	case 0x14:
	case 0x12:
	case 0xf:
	case 0x10:
		return 4;
	}
	return 1;
}

static void dump_range(uint32_t first)
{
	uint32_t last = cpuid(first, 0).eax;

	if (last < first || last > first + 0x40)
		last = first;
	/* A few beyond the last leaf too: what the CPU answers there is part of the view. */
	for (uint32_t leaf = first; leaf <= last + 2; leaf++)
		for (uint32_t sub = 0; sub < subleaves(leaf); sub++)
			dump(leaf, sub);
}

static void dump_all(void)
{
	dump_range(0);
	dump_range(0x80000000);
	dump(0x40000000, 0);
	dump(0x40000001, 0);
	dump(0x40000100, 0);
	dump(0x8fffffff, 0);
	dump(0xc0000000, 0);
	dump(0xffffffff, 0xffffffff);
}

static void check_osxsave(void)
{
	uint64_t cr4 = read_cr4();

	if (!(cpuid(1, 0).ecx >> 26 & 1)) {
		skip("OSXSAVE follows CR4", "no XSAVE");
		return;
	}
	write_cr4(cr4 & ~(1ull << 18));
	is(cpuid(1, 0).ecx >> 27 & 1, 0, "OSXSAVE clear while CR4.OSXSAVE is clear");
	write_cr4(cr4 | 1ull << 18);
	is(cpuid(1, 0).ecx >> 27 & 1, 1, "OSXSAVE set while CR4.OSXSAVE is set");
	write_cr4(cr4);
	is(cpuid(1, 0).ecx >> 27 & 1, cr4 >> 18 & 1, "OSXSAVE as at first");
}

#define CPUID_FORM(text, bytes)                                                                              \
	do {                                                                                                 \
		struct cpuid_regs want = cpuid(0, 0), got;                                                   \
		__asm__ volatile(".byte " bytes                                                              \
				 : "=a"(got.eax), "=b"(got.ebx), "=c"(got.ecx), "=d"(got.edx)                \
				 : "a"(0), "c"(0));                                                          \
		ok(got.eax == want.eax && got.ebx == want.ebx && got.ecx == want.ecx && got.edx == want.edx, \
		   "CPUID " text);                                                                           \
	} while (0)

static void check_forms(void)
{
	CPUID_FORM("with 66", "0x66, 0x0f, 0xa2");
	CPUID_FORM("with REX.W", "0x48, 0x0f, 0xa2");
	CPUID_FORM("with REX.WRXB", "0x4f, 0x0f, 0xa2");
	CPUID_FORM("with F2", "0xf2, 0x0f, 0xa2");
	CPUID_FORM("with F3", "0xf3, 0x0f, 0xa2");
	CPUID_FORM("with 67", "0x67, 0x0f, 0xa2");
	CPUID_FORM("with FS:", "0x64, 0x0f, 0xa2");
	CPUID_FORM("with 66 67 2E F2 REX", "0x66, 0x67, 0x2e, 0xf2, 0x40, 0x0f, 0xa2");
	CPUID_FORM("with 12 prefixes",
		   "0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x0f,0xa2");
}

static void check_registers(void)
{
	uint64_t rax = 0x1111111180000001ull, rcx = 0x2222222200000000ull, rdx = ~0ull, rbx = ~0ull;

	__asm__ volatile("cpuid" : "+a"(rax), "+c"(rcx), "+d"(rdx), "+b"(rbx));
	ok(!(rax >> 32) && !(rbx >> 32) && !(rcx >> 32) && !(rdx >> 32),
	   "CPUID clears the upper register halves");
	is((uint32_t)rax, cpuid(0x80000001, 0).eax, "CPUID takes EAX only");
	is(cpuid(1, 0).ebx >> 24, cpu_apic_id[0], "initial APIC id");
}

/* A child's parent says whether it has the hypervisor's interface; one without finds no trace of it. */
static void check_interface(void)
{
	uint32_t bad = 0;

	if (!in_plain_child) {
		ok(hv_present(), "the hypervisor's interface is there");
		return;
	}
	is(cpuid(1, 0).ecx & HV_CPUID1_ECX_HYPERVISOR_PRESENT, 0, "no hypervisor in 1 ECX");
	for (uint32_t leaf = HV_CPUID_VENDOR; leaf < HV_CPUID_VENDOR + 0x100; leaf++) {
		struct cpuid_regs r = cpuid(leaf, 0);

		bad += r.eax || r.ebx || r.ecx || r.edx;
	}
	is(bad, 0, "no leaf of a hypervisor says anything");
}

void test_main(void)
{
	struct cpuid_regs first = cpuid(0, 0);

	dump_all();
	if (is_intel()) {
		is(cpuid(1, 0).ecx >> 5 & 1, 0, "no VMX in 1 ECX");
		is(cpuid(1, 0).ecx >> 6 & 1, 0, "no SMX in 1 ECX");
	}
	is(cpuid(0x80000001, 0).ecx >> 2 & 1, 0, "no SVM in 80000001 ECX");
	is(cpuid(0x80000001, 0).ecx >> 12 & 1, 0, "no SKINIT in 80000001 ECX");
	if (cpuid(0x80000000, 0).eax >= 0x8000000a && !bare_bochs) {
		struct cpuid_regs r = cpuid(0x8000000a, 0);

		ok(!r.eax && !r.ebx && !r.ecx && !r.edx, "SVM leaf 8000000A is zero");
	}
	check_osxsave();
	check_forms();
	check_registers();
	if (in_child)
		check_interface();
	is(cpuid(0, 0).ebx, first.ebx, "the vendor stays");
	is(rdmsr(MSR_EFER) & EFER_SVME, 0, "EFER.SVME reads 0");
}
