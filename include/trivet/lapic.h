/* SPDX-License-Identifier: MIT */
/*
 * The physical local APIC of the LP that runs this code: xAPIC through its mapped page or x2APIC through MSRs
 * (SDM3 11, APM2 16). What is on the exit path is inline. Not the guest-visible model: that is trivet/apic.h.
 */
#ifndef TRIVET_LAPIC_H
#define TRIVET_LAPIC_H

#include <errno.h>
#include <trivet/io.h>
#include <trivet/x86.h>

/* Register offsets in the xAPIC page; the x2APIC MSR is 0x800 + offset / 16. */
enum lapic_register {
	LAPIC_ID = 0x020,
	LAPIC_VERSION = 0x030,
	LAPIC_TPR = 0x080,
	LAPIC_PPR = 0x0a0,
	LAPIC_EOI = 0x0b0,
	LAPIC_LDR = 0x0d0,
	LAPIC_DFR = 0x0e0, /* xAPIC only */
	LAPIC_SVR = 0x0f0,
	LAPIC_ISR = 0x100, /* to 0x170 */
	LAPIC_TMR = 0x180, /* to 0x1f0 */
	LAPIC_IRR = 0x200, /* to 0x270 */
	LAPIC_ESR = 0x280,
	LAPIC_LVT_CMCI = 0x2f0,
	LAPIC_ICR_LOW = 0x300,
	LAPIC_ICR_HIGH = 0x310, /* xAPIC only */
	LAPIC_LVT_TIMER = 0x320,
	LAPIC_LVT_THERMAL = 0x330,
	LAPIC_LVT_PMC = 0x340,
	LAPIC_LVT_LINT0 = 0x350,
	LAPIC_LVT_LINT1 = 0x360,
	LAPIC_LVT_ERROR = 0x370,
	LAPIC_TIMER_INITIAL = 0x380,
	LAPIC_TIMER_CURRENT = 0x390,
	LAPIC_TIMER_DIVIDE = 0x3e0,
};

#define LAPIC_MSR_X2APIC 0x800u /* first of the x2APIC registers */

#define LAPIC_BASE_ADDRESS 0x000ffffffffff000ull

#define LAPIC_SVR_ENABLE 0x100u
#define LAPIC_LVT_MASKED 0x10000u
#define LAPIC_LVT_PERIODIC 0x20000u
#define LAPIC_LVT_DEADLINE 0x40000u
#define LAPIC_DIVIDE_BY_1 0xbu

#define LAPIC_ICR_FIXED 0x0000u
#define LAPIC_ICR_LOWEST 0x0100u
#define LAPIC_ICR_SMI 0x0200u
#define LAPIC_ICR_NMI 0x0400u
#define LAPIC_ICR_INIT 0x0500u
#define LAPIC_ICR_SIPI 0x0600u
#define LAPIC_ICR_LOGICAL 0x0800u
#define LAPIC_ICR_BUSY 0x1000u
#define LAPIC_ICR_ASSERT 0x4000u
#define LAPIC_ICR_LEVEL 0x8000u
#define LAPIC_ICR_SELF 0x40000u
#define LAPIC_ICR_ALL 0x80000u
#define LAPIC_ICR_OTHERS 0xc0000u

/* How often the delivery status is read before an IPI is given up: some 100 ms on hardware. */
#define LAPIC_ICR_SPINS 1000000u

struct lapic {
	volatile void *mmio; /* the mapped xAPIC page; may be NULL when x2apic is true */
	bool x2apic;
	bool tsc_deadline; /* the timer takes deadlines instead of counts; lapic_timer_init() sets it */
	uint64_t
		timer_mult; /* timer ticks per TSC tick, fixed point with 32 fraction bits; 0 until lapic_timer_init() */
};

/* Reads a register. In x2APIC mode the register must exist there (no DFR, no ICR_HIGH, no CMCI if CPUID lacks it). */
static inline uint32_t lapic_read(const struct lapic *l, uint32_t reg)
{
	if (l->x2apic)
		return (uint32_t)rdmsr(LAPIC_MSR_X2APIC + (reg >> 4));
	return mmio_read32((const volatile char *)l->mmio + reg);
}

static inline void lapic_write(const struct lapic *l, uint32_t reg, uint32_t value)
{
	if (l->x2apic)
		wrmsr(LAPIC_MSR_X2APIC + (reg >> 4), value);
	else
		mmio_write32((volatile char *)l->mmio + reg, value);
}

static inline void lapic_eoi(const struct lapic *l)
{
	lapic_write(l, LAPIC_EOI, 0);
}

/*
 * Sends an interrupt: `low` as the ICR's low half (LAPIC_ICR_* | vector), `dest` the destination (8 bits as xAPIC).
 * As xAPIC it first waits for the one before to be delivered; -ETIMEDOUT: that never happened, nothing was sent.
 * x2APIC writes order nothing before them (SDM3 11.12.3): the fence makes earlier stores visible to the receiver.
 */
static inline int lapic_icr(const struct lapic *l, uint32_t dest, uint32_t low)
{
	if (l->x2apic) {
		__asm__ volatile("mfence; lfence" ::: "memory");
		wrmsr(LAPIC_MSR_X2APIC + (LAPIC_ICR_LOW >> 4), (uint64_t)dest << 32 | low);
		return 0;
	}
	for (uint32_t i = 0; mmio_read32((volatile char *)l->mmio + LAPIC_ICR_LOW) & LAPIC_ICR_BUSY; i++) {
		if (i == LAPIC_ICR_SPINS)
			return -ETIMEDOUT;
		cpu_relax();
	}
	mmio_write32((volatile char *)l->mmio + LAPIC_ICR_HIGH, dest << 24);
	mmio_write32((volatile char *)l->mmio + LAPIC_ICR_LOW, low);
	return 0;
}

/* One bit of the 256-bit registers ISR, TMR, IRR (`reg` is the first of the eight). */
static inline bool lapic_test_vector(const struct lapic *l, uint32_t reg, uint8_t vector)
{
	return lapic_read(l, reg + (vector / 32u) * 16u) >> (vector % 32u) & 1u;
}

/* Whether `vector` was accepted and not yet ended. */
static inline bool lapic_is_in_service(const struct lapic *l, uint8_t vector)
{
	return lapic_test_vector(l, LAPIC_ISR, vector);
}

/* Whether the last acceptance of `vector` was level-triggered. */
static inline bool lapic_is_level(const struct lapic *l, uint8_t vector)
{
	return lapic_test_vector(l, LAPIC_TMR, vector);
}

/*
 * Arms the timer to fire `delta_tsc` TSC ticks from now (`now_tsc`, just read by the caller); the one before is
 * forgotten. 0 fires at once. A count longer than the 32-bit counter fires early: the caller then arms again.
 * Only after lapic_timer_init().
 */
static inline void lapic_timer_arm(const struct lapic *l, uint64_t now_tsc, uint64_t delta_tsc)
{
	uint64_t ticks;

	if (l->tsc_deadline) {
		uint64_t deadline = now_tsc + delta_tsc;

		wrmsr(MSR_TSC_DEADLINE, deadline < now_tsc ? UINT64_MAX : deadline);
		return;
	}
	/* Below 2^52 TSC ticks (weeks) the product fits: timer_mult is below 2^44 by lapic_timer_init(). */
	ticks = (uint64_t)(((unsigned __int128)delta_tsc * l->timer_mult) >> 32);
	if (delta_tsc >> 52 || ticks > UINT32_MAX)
		ticks = UINT32_MAX;
	lapic_write(l, LAPIC_TIMER_INITIAL, ticks ? (uint32_t)ticks : 1u);
}

/* Stops the timer. An interrupt it already raised stays pending. */
static inline void lapic_timer_disarm(const struct lapic *l)
{
	if (l->tsc_deadline)
		wrmsr(MSR_TSC_DEADLINE, 0);
	else
		lapic_write(l, LAPIC_TIMER_INITIAL, 0);
}

/*
 * Fills *l for the mode this LP's APIC is in now (IA32_APIC_BASE). `mmio` is the mapping of the page at
 * LAPIC_BASE_ADDRESS. -ENODEV: the APIC is disabled, -EINVAL: xAPIC mode and `mmio` is NULL.
 */
int lapic_init(struct lapic *l, volatile void *mmio);

/* Enables the APIC by software with this spurious vector (16-255), TPR 0 and the LVT error entry masked. ESR is cleared. */
void lapic_enable(const struct lapic *l, uint8_t spurious_vector);

/*
 * Sets the timer up, stopped: one-shot or, when CPUID offers it, TSC-deadline, divided by 1, firing `vector` (16-255).
 * Frequencies come from tsc_calibrate(). -EINVAL: one of them is 0 and needed, or they are absurdly far apart.
 */
int lapic_timer_init(struct lapic *l, uint8_t vector, uint64_t tsc_hz, uint64_t apic_timer_hz);

#endif
