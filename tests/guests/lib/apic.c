/* SPDX-License-Identifier: MIT */
/*
 * The local APIC, by memory or by MSR, and time from the TSC (measured against the PIT's channel 2).
 */
#include "guest.h"
#include <hv/cpuid.h>
#include <hv/msr.h>

uint64_t tsc_khz;
bool x2apic_on;

/* TSC ticks of one PIT countdown: mode 0, 11932 ticks of 1193182 Hz are 10 ms, then OUT2 rises. */
static uint64_t measure(void)
{
	uint64_t start;

	outb(0x61, (uint8_t)((inb(0x61) & 0xfc) | 1));
	outb(0x43, 0xb0);
	outb(0x42, 0x9c);
	start = rdtsc();
	outb(0x42, 0x2e);
	for (uint32_t i = 0; i < 10000000 && !(inb(0x61) & 0x20); i++)
		;
	return rdtsc() - start;
}

#define CLOCK_PORT 0xb4u /* tests/vmm/devices.c */

/* A child has no PIT. The hypervisor tells the frequency where it lets a partition know, else the monitor. */
static uint64_t frequency_of_child(void)
{
	if (in_plain_child)
		return inl(CLOCK_PORT);
	if (!(cpuid(HV_CPUID_FEATURES, 0).eax & HV_PRIVILEGE_FREQUENCY_MSRS))
		bail_out("no PIT, and no frequency MSRs");
	return rdmsr(HV_MSR_TSC_FREQUENCY) / 1000;
}

/* The shortest of a few: a loaded host only ever makes it longer. */
void time_init(void)
{
	uint64_t best = ~0ull;

	if (in_child) {
		tsc_khz = frequency_of_child();
		return;
	}
	for (int i = 0; i < 4; i++) {
		uint64_t ticks = measure();

		if (ticks < best)
			best = ticks;
	}
	tsc_khz = best >= 10 ? best / 10 : 1;
}

void delay_us(uint64_t us)
{
	uint64_t start = rdtsc();

	while (rdtsc() - start < us * tsc_khz / 1000)
		cpu_pause();
}

uint32_t apic_read(uint32_t reg)
{
	if (x2apic_on)
		return (uint32_t)rdmsr(0x800 + (reg >> 4));
	return *(volatile uint32_t *)(APIC_PHYS + reg);
}

void apic_write(uint32_t reg, uint32_t v)
{
	if (x2apic_on)
		wrmsr(0x800 + (reg >> 4), v);
	else
		*(volatile uint32_t *)(APIC_PHYS + reg) = v;
}

bool apic_bit(uint32_t bank, uint8_t vector)
{
	return apic_read(bank + (uint32_t)(vector >> 5) * 0x10) >> (vector & 31) & 1;
}

uint32_t apic_id(void)
{
	return x2apic_on ? apic_read(APIC_ID) : apic_read(APIC_ID) >> 24;
}

void apic_icr(uint32_t target, uint32_t low)
{
	if (x2apic_on) {
		wrmsr(0x830, (uint64_t)target << 32 | low);
		return;
	}
	for (int i = 0; i < 100000 && (apic_read(APIC_ICR) & ICR_PENDING); i++)
		cpu_pause();
	apic_write(APIC_ICR2, target << 24);
	apic_write(APIC_ICR, low);
}

void apic_init(void)
{
	x2apic_on = rdmsr(MSR_APIC_BASE) >> 10 & 1;
	apic_write(APIC_SVR, 0x100 | SPURIOUS_VECTOR);
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	apic_write(APIC_LVT_LINT0, LVT_MASKED);
	apic_write(APIC_TPR, 0);
}

/* A look that took long was a stopped host's, not the awaited processor's: it counts as one millisecond. */
bool wait_for(volatile uint32_t *p, uint32_t want, uint64_t us)
{
	uint64_t last = rdtsc(), left = us * tsc_khz / 1000;

	while (*p < want) {
		uint64_t now = rdtsc(), passed = now - last < tsc_khz ? now - last : tsc_khz;

		if (passed > left)
			return false;
		left -= passed;
		last = now;
		cpu_pause();
	}
	return true;
}
