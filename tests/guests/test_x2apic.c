/* SPDX-License-Identifier: MIT */
/*
 * x2APIC mode (SDM3 10.12): registers by MSR, the 64-bit ICR, self IPI, and the faults of what is not there.
 */
#include "lib/guest.h"

#define GP 13u

static void check_switch(void)
{
	uint64_t base = rdmsr(MSR_APIC_BASE), v;

	is(try_rdmsr(0x802, &v), GP, "x2APIC MSRs fault in xAPIC mode");
	wrmsr(MSR_APIC_BASE, base | 1u << 10);
	is(rdmsr(MSR_APIC_BASE), base | 1u << 10, "APIC_BASE.EXTD set");
	x2apic_on = true;
	is(try_wrmsr(MSR_APIC_BASE, base), GP, "x2APIC to xAPIC in one step: #GP");
	is(apic_read(APIC_ID), cpuid(0xb, 0).edx, "ID is CPUID 0xb's");
	ok((apic_read(APIC_VERSION) & 0xff) >= 0x10, "version");
	is(apic_read(APIC_LDR), (apic_read(APIC_ID) >> 4) << 16 | 1u << (apic_read(APIC_ID) & 15),
	   "LDR follows the ID");
	is(apic_read(APIC_SVR) & 0x1ff, 0x1ff, "SVR is kept");
}

static void check_faults(void)
{
	uint64_t v;

	is(try_wrmsr(0x802, 0), GP, "ID is read-only");
	is(try_wrmsr(0x803, 0), GP, "version is read-only");
	is(try_wrmsr(0x80d, 0), GP, "LDR is read-only");
	is(try_rdmsr(0x80e, &v), GP, "no DFR");
	is(try_rdmsr(0x831, &v), GP, "no ICR high");
	is(try_rdmsr(0x80b, &v), GP, "EOI is write-only");
	is(try_rdmsr(0x83f, &v), GP, "self IPI is write-only");
	is(try_wrmsr(0x80b, 1), GP, "EOI takes only 0");
	is(try_wrmsr(0x808, 0x100), GP, "TPR has 8 bits");
	is(try_wrmsr(0x80f, 1ull << 32), GP, "SVR has no upper half");
	is(try_wrmsr(0x828, 1), GP, "ESR takes only 0");
	is(try_wrmsr(0x820, 0), GP, "IRR is read-only");
}

static void check_work(void)
{
	wrmsr(0x808, 0x60);
	is(read_cr8(), 6, "CR8 shows TPR");
	is(apic_read(APIC_PPR), 0x60, "PPR follows");
	wrmsr(0x83f, 0x55);
	irq_on();
	delay_us(100);
	is(vector_count[0][0x55], 0, "TPR holds a self IPI back");
	ok(apic_bit(APIC_IRR, 0x55), "IRR shows it");
	wrmsr(0x808, 0);
	ok(wait_for(&vector_count[0][0x55], 1, 1000000), "self IPI");
	wrmsr(0x830, ICR_SELF | ICR_ASSERT | 0x56);
	ok(wait_for(&vector_count[0][0x56], 1, 1000000), "ICR, shorthand self");
	wrmsr(0x830, (uint64_t)apic_read(APIC_ID) << 32 | ICR_ASSERT | 0x57);
	ok(wait_for(&vector_count[0][0x57], 1, 1000000), "ICR, physical, to myself");
	wrmsr(0x830, (uint64_t)apic_read(APIC_LDR) << 32 | ICR_LOGICAL | ICR_ASSERT | 0x58);
	ok(wait_for(&vector_count[0][0x58], 1, 1000000), "ICR, logical, to myself");
	if (bare_bochs)
		skip("ICR reads back in one piece", "Bochs' upper half reads 0");
	else
		is(rdmsr(0x830) >> 32, apic_read(APIC_LDR), "ICR reads back in one piece");
	apic_write(APIC_TIMER_DIVIDE, 3);
	apic_write(APIC_LVT_TIMER, 0x59);
	apic_write(APIC_TIMER_INITIAL, 10000);
	ok(wait_for(&vector_count[0][0x59], 1, 3000000), "timer");
	irq_off();
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	for (uint32_t i = 0; i < 8; i++)
		if (apic_read(APIC_ISR + 16 * i) || apic_read(APIC_IRR + 16 * i))
			ok(false, "ISR and IRR %u are empty", i);
}

static void check_others(void)
{
	if (cpu_count < 2 || !low_memory) {
		skip("IPI to the other processors", "only one");
		return;
	}
	ok(ap_start_all_idle(), "the other processors start");
	wrmsr(0x830, ICR_OTHERS | ICR_ASSERT | 0x60);
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		ok(wait_for(&vector_count[cpu][0x60], 1, 3000000), "all but self reaches processor %u", cpu);
	wrmsr(0x830, (uint64_t)cpu_apic_id[1] << 32 | ICR_ASSERT | 0x61);
	ok(wait_for(&vector_count[1][0x61], 1, 3000000), "fixed to processor 1 (which is in xAPIC mode)");
	is(vector_count[0][0x60], 0, "not to myself");
}

void test_main(void)
{
	if (!(cpuid(1, 0).ecx >> 21 & 1))
		skip_all("no x2APIC in CPUID");
	if (!x2apic_on)
		check_switch();
	check_faults();
	check_work();
	check_others();
}
