/* SPDX-License-Identifier: MIT */
/*
 * Interprocessor interrupts: every delivery and destination that systems use, to waiting and to
 * running processors, and none lost in a long run.
 */
#include "lib/guest.h"

#define US 5000000ull

static void nmi(struct trap_frame *f)
{
	(void)f;
}

static void check_self(void)
{
	irq_on();
	apic_icr(0, ICR_SELF | ICR_ASSERT | 0x40);
	ok(wait_for(&vector_count[0][0x40], 1, US), "shorthand self");
	apic_icr(cpu_apic_id[0], ICR_ASSERT | 0x41);
	ok(wait_for(&vector_count[0][0x41], 1, US), "physical, to myself");
	irq_off();
}

static void check_fixed(void)
{
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++) {
		apic_icr(cpu_apic_id[cpu], ICR_ASSERT | (0x40 + cpu));
		ok(wait_for(&vector_count[cpu][0x40 + cpu], 1, US), "fixed to processor %u", cpu);
	}
	for (unsigned int cpu = 0; cpu < cpu_count; cpu++)
		for (unsigned int other = 1; other < cpu_count; other++)
			if (cpu != other && cpu)
				is(vector_count[cpu][0x40 + other], 0, "processor %u got none of %u's", cpu,
				   other);
}

static void check_shorthands(void)
{
	apic_icr(0, ICR_OTHERS | ICR_ASSERT | 0x60);
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		ok(wait_for(&vector_count[cpu][0x60], 1, US), "all but self: processor %u", cpu);
	irq_on();
	delay_us(1000);
	is(vector_count[0][0x60], 0, "all but self: not myself");
	apic_icr(0, ICR_ALL | ICR_ASSERT | 0x61);
	for (unsigned int cpu = 0; cpu < cpu_count; cpu++)
		ok(wait_for(&vector_count[cpu][0x61], 1, US), "all: processor %u", cpu);
	apic_icr(0xff, ICR_ASSERT | 0x62);
	for (unsigned int cpu = 0; cpu < cpu_count; cpu++)
		ok(wait_for(&vector_count[cpu][0x62], 1, US), "physical broadcast: processor %u", cpu);
	irq_off();
}

static void set_ldr(unsigned int cpu)
{
	apic_write(APIC_DFR, 0xffffffff);
	apic_write(APIC_LDR, 1u << (24 + cpu));
	for (;;)
		__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static void check_logical(void)
{
	uint32_t set = 0;

	if (x2apic_on)
		return;
	apic_write(APIC_DFR, 0xffffffff);
	apic_write(APIC_LDR, 1u << 24);
	for (unsigned int cpu = 1; cpu < cpu_count && cpu < 8; cpu++) {
		ok(ap_start(cpu, low_memory, set_ldr), "processor %u starts again", cpu);
		set |= 1u << cpu;
	}
	delay_us(20000);
	apic_icr(set & ~2u, ICR_LOGICAL | ICR_ASSERT | 0x70);
	for (unsigned int cpu = 2; cpu < cpu_count && cpu < 8; cpu++)
		ok(wait_for(&vector_count[cpu][0x70], 1, US), "logical flat: processor %u", cpu);
	delay_us(1000);
	is(vector_count[1][0x70], 0, "logical flat: not to the one left out");
	apic_icr(2, ICR_LOGICAL | ICR_ASSERT | 0x100 | 0x71);
	ok(wait_for(&vector_count[1][0x71], 1, US), "lowest priority among one");
}

static void check_nmi(void)
{
	trap_handlers[2] = nmi;
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++) {
		uint32_t before = vector_count[cpu][2];

		apic_icr(cpu_apic_id[cpu], ICR_NMI | ICR_ASSERT);
		ok(wait_for(&vector_count[cpu][2], before + 1, US), "NMI to processor %u", cpu);
	}
	apic_icr(0, ICR_OTHERS | ICR_NMI | ICR_ASSERT);
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		ok(wait_for(&vector_count[cpu][2], 2, US), "NMI to all but self: processor %u", cpu);
	is(vector_count[0][2], 0, "no NMI for me");
	apic_icr(cpu_apic_id[0], ICR_NMI | ICR_ASSERT);
	ok(wait_for(&vector_count[0][2], 1, US), "NMI to myself, with interrupts off");
}

static volatile uint32_t nmi_release, nmi_spinning;

static void spin_masked(unsigned int cpu)
{
	(void)cpu;
	nmi_spinning = 1;
	while (!nmi_release)
		cpu_pause();
}

static void check_nmi_running(void)
{
	uint32_t before = vector_count[1][2], fixed = vector_count[1][0x73];

	ok(ap_start(1, low_memory, spin_masked), "processor 1 spins with interrupts off");
	ok(wait_for(&nmi_spinning, 1, US), "... it does");
	apic_icr(cpu_apic_id[1], ICR_ASSERT | 0x73);
	apic_icr(cpu_apic_id[1], ICR_NMI | ICR_ASSERT);
	ok(wait_for(&vector_count[1][2], before + 1, US), "an NMI gets through to it");
	delay_us(1000);
	is(vector_count[1][0x73], fixed, "a fixed interrupt does not");
	nmi_release = 1;
	ok(ap_wait_done(1, US), "... and it goes on");
}

/* Ping-pong: each answer is one IPI back; none may be lost. */
static void pong(struct trap_frame *f)
{
	(void)f;
	apic_write(APIC_EOI, 0);
	apic_icr(cpu_apic_id[0], ICR_ASSERT | 0x81);
}

static void check_ping_pong(void)
{
	uint32_t n = 0;

	trap_handlers[0x80] = pong;
	ok(ap_start_all_idle(), "all idle again");
	irq_on();
	for (; n < 2000; n++) {
		apic_icr(cpu_apic_id[1 + n % (cpu_count - 1)], ICR_ASSERT | 0x80);
		if (!wait_for(&vector_count[0][0x81], n + 1, US))
			break;
	}
	irq_off();
	is(n, 2000, "2000 IPIs there and back");
}

void test_main(void)
{
	check_self();
	if (cpu_count < 2 || !low_memory)
		return;
	ok(ap_start_all_idle(), "the other processors start");
	delay_us(1000);
	check_fixed();
	check_shorthands();
	check_nmi();
	check_nmi_running();
	check_logical();
	check_ping_pong();
}
