/* SPDX-License-Identifier: MIT */
/* TLFS appendix "Hypervisor Synthetic MSRs", with the chapter of each: who may read and write what, and what comes back. */
#include "tlfs.h"

#define ADDRESS_BITS (cpuid(0x80000008, 0).eax & 0xff)

static void unknown_ones(void)
{
	/* clang-format off */
	static const uint32_t some[] = {
		0x40000004, 0x4000000f, 0x40000011, 0x4000001f, 0x40000024, 0x4000006f, 0x40000074, 0x4000007f,
		0x40000086, 0x4000008f, 0x400000a0, 0x400000af, 0x400000b8, 0x400000ef, 0x400000f1, 0x400000ff,
		0x4000010a, 0x40000119, 0x400001ff, 0x40000200, 0x40000fff, 0x40001002, 0x40001080, 0x40001090,
		0x40002000, 0x4000ffff,
	};
	/* clang-format on */
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(some); i++) {
		if (read_faults(some[i]) && write_faults(some[i], 0) && write_faults(some[i], ~0ull))
			continue;
		note("MSR %x", some[i]);
		bad++;
	}
	is(bad, 0, "an MSR that the interface doesn't have: #GP for reads and writes");
}

static void read_only_ones(void)
{
	static const uint32_t msrs[] = { HV_MSR_VP_INDEX,      HV_MSR_VP_RUNTIME,     HV_MSR_TIME_REF_COUNT,
					 HV_MSR_TSC_FREQUENCY, HV_MSR_APIC_FREQUENCY, HV_MSR_SVERSION,
					 HV_MSR_GUEST_IDLE };
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(msrs); i++)
		if (!write_faults(msrs[i], 0) || !write_faults(msrs[i], 1)) {
			note("MSR %x can be written", msrs[i]);
			bad++;
		}
	is(bad, 0, "read-only MSRs: #GP for a write (TIME_REF_COUNT: Timers, SVERSION: SynIC MSRs)");
	ok(read_faults(HV_MSR_EOI), "HV_X64_MSR_EOI can only be written");
	is(rdmsr(HV_MSR_EOM), 0, "EOM Register: reads give zeros");
	is(rdmsr(HV_MSR_SVERSION), 1, "SVERSION Register: 1");
}

static void identity(void)
{
	uint64_t page = rdmsr(HV_MSR_HYPERCALL);

	is(rdmsr(HV_MSR_GUEST_OS_ID), HV_OS_ID, "HV_X64_MSR_GUEST_OS_ID holds what was written");
	wrmsr(HV_MSR_GUEST_OS_ID, ~0ull);
	is(rdmsr(HV_MSR_GUEST_OS_ID), ~0ull, "... any value but zero will do");
	ok(rdmsr(HV_MSR_HYPERCALL) & 1, "... and the hypercall page stays");
	wrmsr(HV_MSR_GUEST_OS_ID, 0);
	is(rdmsr(HV_MSR_HYPERCALL), page & ~1ull,
	   "Reporting the Guest OS Identity: zero disables the hypercall page");
	wrmsr(HV_MSR_HYPERCALL, page | 1);
	is(rdmsr(HV_MSR_HYPERCALL) & 1, 0,
	   "Establishing the Hypercall Interface: without identity the enable bit stays zero");
	wrmsr(HV_MSR_GUEST_OS_ID, HV_OS_ID);
	is(rdmsr(HV_MSR_HYPERCALL) & 1, 0, "... an identity alone enables nothing");
	wrmsr(HV_MSR_HYPERCALL, page | 1);
	is(rdmsr(HV_MSR_HYPERCALL), page | 1, "... now it can be enabled");
}

/* 11:1 (HYPERCALL: 11:2) are preserved; beyond the GPA space only HYPERCALL is said to fault, the others "not accessible". */
static void page_registers(void)
{
	static const uint32_t msrs[] = { HV_MSR_HYPERCALL, HV_MSR_REFERENCE_TSC, HV_MSR_VP_ASSIST_PAGE,
					 HV_MSR_SIEFP,	   HV_MSR_SIMP,		 HV_MSR_SIRBP };

	for (unsigned int i = 0; i < ARRAY_LEN(msrs); i++) {
		uint64_t old, bits = msrs[i] == HV_MSR_HYPERCALL ? 0xffc : 0xffe;

		if (msrs[i] == HV_MSR_SIRBP && in_child && read_faults(HV_MSR_SIRBP))
			continue; /* for who has children */
		old = rdmsr(msrs[i]);
		wrmsr(msrs[i], (old & ~0xffeull) | bits);
		is(rdmsr(msrs[i]), (old & ~0xffeull) | bits, "MSR %x: reserved bits 11:1 are preserved",
		   msrs[i]);
		wrmsr(msrs[i], old);
		is(rdmsr(msrs[i]), old, "... and cleared again");
		ok(write_faults(msrs[i], 1ull << ADDRESS_BITS | 1) && write_faults(msrs[i], ~0xfffull | 1) &&
			   rdmsr(msrs[i]) == old,
		   "... beyond the GPA space: #GP, and nothing changed");
	}
}

static void synic_registers(void)
{
	uint64_t old = rdmsr(HV_MSR_SINT0 + 7);
	unsigned int bad = 0;

	for (unsigned int i = 0; i < 16; i++)
		bad += rdmsr(HV_MSR_SINT0 + i) != 0x10000;
	is(bad, 0, "SINTx Registers: 0x10000 at the start");
	is(rdmsr(HV_MSR_SCONTROL), 0, "SCONTROL Register: 0 at the start");
	for (unsigned int v = 0; v < 16; v++)
		bad += !write_faults(HV_MSR_SINT0 + 7, v) || rdmsr(HV_MSR_SINT0 + 7) != old;
	is(bad, 0, "SINTx Registers: an unmasked vector below 16 is #GP, and the register keeps its value");
	for (unsigned int i = 0; i < 16; i++) {
		wrmsr(HV_MSR_SINT0 + i, 0x10010 + i);
		bad += rdmsr(HV_MSR_SINT0 + i) != 0x10010 + i;
		wrmsr(HV_MSR_SINT0 + i, 0xff);
		bad += rdmsr(HV_MSR_SINT0 + i) != 0xff;
		wrmsr(HV_MSR_SINT0 + i, 0x10000);
		bad += rdmsr(HV_MSR_SINT0 + i) != 0x10000;
	}
	is(bad, 0, "SINTx Registers: each is its own, vectors 16 to 255");
	wrmsr(HV_MSR_SINT0 + 7, 0x30010 | 0xff00 | 1ull << 40);
	is(rdmsr(HV_MSR_SINT0 + 7), 0x30010 | 0xff00 | 1ull << 40, "... reserved bits are preserved");
	wrmsr(HV_MSR_SINT0 + 7, 0x10000);
	wrmsr(HV_MSR_SCONTROL, 0xff00000000000002);
	is(rdmsr(HV_MSR_SCONTROL), 0xff00000000000002, "SCONTROL Register: reserved bits are preserved");
	wrmsr(HV_MSR_SCONTROL, 0);
	is(try_wrmsr(HV_MSR_EOM, 0), NO_FAULT, "EOM Register: with empty queues a write does nothing");
}

static void timer_registers(void)
{
	unsigned int bad = 0;

	for (unsigned int i = 0; i < 8; i++)
		bad += rdmsr(HV_MSR_STIMER0_CONFIG + i) != 0;
	is(bad, 0, "Synthetic Timer MSRs: 0 at the start");
	for (unsigned int i = 0; i < 8; i += 2)
		for (unsigned int bit = 13; bit < 64; bit++) {
			if (bit >= 16 && bit < 20)
				continue;
			bad += !write_faults(HV_MSR_STIMER0_CONFIG + i, 1ull << bit) ||
			       rdmsr(HV_MSR_STIMER0_CONFIG + i);
		}
	is(bad, 0, "Synthetic Timer Configuration Register: RsvdZ bits 63:20, 15:13 are #GP");
	for (unsigned int i = 0; i < 8; i += 2) {
		wrmsr(HV_MSR_STIMER0_COUNT + i, 0x123456789abcdef0ull + i);
		wrmsr(HV_MSR_STIMER0_CONFIG + i, 0x51ff6);
		bad += rdmsr(HV_MSR_STIMER0_COUNT + i) != 0x123456789abcdef0ull + i ||
		       rdmsr(HV_MSR_STIMER0_CONFIG + i) != 0x51ff6;
	}
	for (unsigned int i = 0; i < 8; i++)
		wrmsr(HV_MSR_STIMER0_CONFIG + i, 0);
	is(bad, 0, "... every other bit and the count are kept, each timer's own");
}

static void apic_registers(void)
{
	ok(write_faults(HV_MSR_EOI, 1ull << 32) && write_faults(HV_MSR_EOI, 1ull << 63),
	   "HV_X64_MSR_EOI: RsvdZ 63:32");
	is(try_wrmsr(HV_MSR_EOI, 0xffffffff), NO_FAULT, "... 31:0 are the EOI's value");
	ok(write_faults(HV_MSR_TPR, 0x100) && write_faults(HV_MSR_TPR, 1ull << 63),
	   "HV_X64_MSR_TPR: RsvdZ 63:8");
	wrmsr(HV_MSR_TPR, 0x50);
	ok(rdmsr(HV_MSR_TPR) == 0x50 && read_cr8() == 5 && apic_read(APIC_TPR) == 0x50,
	   "... is CR8 and the APIC's register");
	write_cr8(3);
	is(rdmsr(HV_MSR_TPR), 0x30, "... either way");
	wrmsr(HV_MSR_TPR, 0);
	/* A destination as the register of the mode has it: bits 31:24 of the high half with the APIC's page. */
	wrmsr(HV_MSR_ICR, (uint64_t)(x2apic_on ? apic_id() : apic_id() << 24) << 32 | 0x4000 | 0x60);
	is(came(0x60), 1, "HV_X64_MSR_ICR: high and low half send an IPI");
	is(rdmsr(HV_MSR_ICR) & 0xff, 0x60, "... and can be read");
	wrmsr(HV_MSR_ICR, ICR_SELF | 0x61);
	write_cr8(0);
	is(came(0x61), 1, "... shorthands too");
}

static void eoi(void)
{
	static uint32_t served;
	unsigned int isr = 0;

	served = vector_count[0][0x62];
	apic_icr(apic_id(), ICR_SELF | 0x62);
	trap_handlers[0x62] = NULL;
	isr = came(0x62);
	ok(isr == 1 && vector_count[0][0x62] == served + 1 && !apic_bit(APIC_ISR, 0x62),
	   "an interrupt, and nothing stays in service");
}

static void by_msr(struct trap_frame *f)
{
	(void)f;
	wrmsr(HV_MSR_EOI, 0);
}

static void eoi_by_msr(void)
{
	trap_handlers[0x63] = by_msr;
	for (unsigned int i = 0; i < 3; i++)
		apic_icr(apic_id(), ICR_SELF | 0x63), take_interrupts();
	is(came(0x63), 3, "HV_X64_MSR_EOI ends the interrupt in service");
	ok(!apic_bit(APIC_ISR, 0x63), "... in the APIC's registers too");
	trap_handlers[0x63] = NULL;
}

static void plausible(void)
{
	uint64_t tsc = rdmsr(HV_MSR_TSC_FREQUENCY), apic = rdmsr(HV_MSR_APIC_FREQUENCY);
	uint64_t before, run, spent;

	ok(tsc / 1000 > tsc_khz / 2 && tsc / 1000 < tsc_khz * 2,
	   "HV_X64_MSR_TSC_FREQUENCY: %llu Hz, measured %llu kHz", (unsigned long long)tsc,
	   (unsigned long long)tsc_khz);
	ok(apic > 1000000 && apic < 10000000000, "HV_X64_MSR_APIC_FREQUENCY: %llu Hz",
	   (unsigned long long)apic);
	if (!child_lacks(HV_PRIVILEGE_VP_RUNTIME, "Virtual Processor Run Time Register")) {
		before = time_100ns();
		run = rdmsr(HV_MSR_VP_RUNTIME);
		delay_us(2000);
		run = rdmsr(HV_MSR_VP_RUNTIME) - run;
		spent = time_100ns() - before;
		ok(run > 0 && run <= spent, "Virtual Processor Run Time Register: %llu of %llu units",
		   (unsigned long long)run, (unsigned long long)spent);
	}
	is(rdmsr(HV_MSR_VP_INDEX), 0, "HV_X64_MSR_VP_INDEX: the boot processor's");
}

static void crash(void)
{
	uint64_t control;
	unsigned int bad = 0;

	if (in_child && !(cpuid(HV_CPUID_FEATURES, 0).edx & HV_FEATURE_CRASH_MSRS)) {
		ok(read_faults(HV_MSR_CRASH_CTL) && write_faults(HV_MSR_CRASH_P0, 0),
		   "Guest Crash Enlightenment isn't offered: #GP");
		return;
	}
	control = rdmsr(HV_MSR_CRASH_CTL);
	ok(control >> 63, "HV_CRASH_CTL_REG_CONTENTS: CrashNotify can be asked for");
	for (unsigned int i = 0; i < 5; i++)
		wrmsr(HV_MSR_CRASH_P0 + i, 0x1111111111111111ull * (i + 1));
	for (unsigned int i = 0; i < 5; i++)
		bad += rdmsr(HV_MSR_CRASH_P0 + i) != 0x1111111111111111ull * (i + 1);
	is(bad, 0, "Guest Crash Enlightenment: the parameters are kept");
	is(try_wrmsr(HV_MSR_CRASH_CTL, 1ull << 63), NO_FAULT,
	   "... and a crash can be told, and lived through");
	is(rdmsr(HV_MSR_CRASH_CTL), control, "... reading still tells the capabilities");
	/* A text beyond all memory is not the hypervisor's problem. */
	wrmsr(HV_MSR_CRASH_P3, 0xfffffffffffff000);
	wrmsr(HV_MSR_CRASH_P4, ~0ull);
	is(try_wrmsr(HV_MSR_CRASH_CTL, 3ull << 62), NO_FAULT, "... nor does a text that isn't there fault");
}

static void reset_register(void)
{
	if (child_lacks(HV_PRIVILEGE_RESET, "HV_X64_MSR_RESET"))
		return;
	is(rdmsr(HV_MSR_RESET), 0, "HV_X64_MSR_RESET reads 0");
	is(try_wrmsr(HV_MSR_RESET, 0), NO_FAULT, "... writing bit 0 clear does nothing");
	ok(write_faults(HV_MSR_RESET, 2), "... reserved bits are #GP");
}

void tlfs_msr(void)
{
	unknown_ones();
	read_only_ones();
	identity();
	page_registers();
	synic_registers();
	timer_registers();
	apic_registers();
	eoi();
	eoi_by_msr();
	plausible();
	crash();
	reset_register();
	if (!(hv_privileges() & HV_PRIVILEGE_TSC_INVARIANT))
		ok(read_faults(HV_MSR_TSC_INVARIANT_CONTROL) && write_faults(HV_MSR_TSC_INVARIANT_CONTROL, 1),
		   "HV_X64_MSR_TSC_INVARIANT_CONTROL, never a root's, isn't this partition's: #GP");
}

void tlfs_msr_lock(void)
{
	uint64_t page = rdmsr(HV_MSR_HYPERCALL);

	if (!(cpuid(HV_CPUID_FEATURES, 0).edx & HV_FEATURE_HYPERCALL_MSR_LOCK)) {
		skip("HV_X64_MSR_HYPERCALL: locked", "not offered (0x40000003 EDX[18])");
		return;
	}
	wrmsr(HV_MSR_HYPERCALL, page | 2);
	is(rdmsr(HV_MSR_HYPERCALL), page | 2, "HV_X64_MSR_HYPERCALL: bit 1 locks");
	try_wrmsr(HV_MSR_HYPERCALL, page);
	is(rdmsr(HV_MSR_HYPERCALL), page | 2, "... it can't be unlocked");
	try_wrmsr(HV_MSR_HYPERCALL, page + PAGE);
	is(rdmsr(HV_MSR_HYPERCALL), page | 2, "... nor moved");
	try_wrmsr(HV_MSR_HYPERCALL, 0);
	is(rdmsr(HV_MSR_HYPERCALL), page | 2, "... nor disabled");
	is(status_of(hv_call_by_page(0x7fff, 0, 0)), HV_STATUS_INVALID_HYPERCALL_CODE, "... and works");
}
