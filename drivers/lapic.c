/* SPDX-License-Identifier: MIT */
/*
 * Setting up the physical local APIC of this LP (SDM3 11.4, 11.5.4, APM2 16.4). The mode, xAPIC or x2APIC, is the one
 * firmware or the root left; changing it is the business of whoever follows the root's IA32_APIC_BASE.
 */
#include <errno.h>
#include <trivet/lapic.h>
#include <trivet/x86.h>

int lapic_init(struct lapic *l, volatile void *mmio)
{
	uint64_t base = rdmsr(MSR_APIC_BASE);

	*l = (struct lapic){ .mmio = mmio };
	if (!(base & APIC_BASE_EN))
		return -ENODEV;
	l->x2apic = (base & APIC_BASE_X2) != 0;
	return !l->x2apic && !mmio ? -EINVAL : 0;
}

void lapic_enable(const struct lapic *l, uint8_t spurious_vector)
{
	/* Enable first: while the APIC is disabled, LVT entries can't be written but masked. */
	lapic_write(l, LAPIC_SVR, LAPIC_SVR_ENABLE | spurious_vector);
	lapic_write(l, LAPIC_LVT_ERROR, LAPIC_LVT_MASKED | spurious_vector);
	lapic_write(l, LAPIC_ESR, 0);
	lapic_write(l, LAPIC_TPR, 0);
}

int lapic_timer_init(struct lapic *l, uint8_t vector, uint64_t tsc_hz, uint64_t apic_timer_hz)
{
	l->tsc_deadline = (cpuid(1, 0).ecx & CPUID_1_ECX_TSC_DEADLINE) != 0;
	if (l->tsc_deadline) {
		lapic_write(l, LAPIC_LVT_TIMER, LAPIC_LVT_DEADLINE | vector);
		/* An xAPIC store and a following deadline WRMSR are not ordered by themselves (SDM3 11.5.4.1). */
		__asm__ volatile("mfence" ::: "memory");
		wrmsr(MSR_TSC_DEADLINE, 0);
		return 0;
	}
	if (!tsc_hz || !apic_timer_hz || apic_timer_hz >> 32)
		return -EINVAL;
	l->timer_mult = (apic_timer_hz << 32) / tsc_hz;
	if (!l->timer_mult || l->timer_mult >> 44) {
		l->timer_mult = 0;
		return -EINVAL;
	}
	lapic_write(l, LAPIC_TIMER_INITIAL, 0);
	lapic_write(l, LAPIC_LVT_TIMER, vector);
	lapic_write(l, LAPIC_TIMER_DIVIDE, LAPIC_DIVIDE_BY_1);
	return 0;
}
