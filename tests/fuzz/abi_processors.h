/* SPDX-License-Identifier: MIT */
/*
 * The machine of abi_machine.h: its processors as far as they can be told from a back end, and their local APICs. A local APIC is only ever
 * touched by the processor that it belongs to.
 */
#ifndef TRIVET_TESTS_ABI_PROCESSORS_H
#define TRIVET_TESTS_ABI_PROCESSORS_H

#include "abi_memory.h"

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

/* ---- Processors ---- */

static struct machine_lp *machine_of(const struct lp *lp)
{
	return &machine[lp->index];
}

struct lp *this_lp(void)
{
	return current_lp;
}

struct lp *lp_by_apic_id(uint32_t apic_id)
{
	for (uint32_t i = 0; i < lp_count; i++)
		if (lp_table[i]->apic_id == apic_id)
			return lp_table[i];
	return NULL;
}

uint64_t lp_tsc_hz(void)
{
	return TSC_HZ;
}

uint64_t lp_apic_timer_hz(void)
{
	return 100000000;
}

uint8_t lp_trampoline_vector(void)
{
	return options.offline ? TRAMPOLINE_PAGE : 0;
}

uint64_t rdtsc(void)
{
	now_tsc++;
	return now_tsc + machine_of(current_lp)->tsc_offset;
}

/* The components of an XSAVE area, as processors have them: size, place, and whether the compacted format aligns it. */
static const struct cpuid_regs xsave_components[] = {
	[2] = { 0x100, 0x240, 0, 0 }, [5] = { 0x40, 0x440, 0, 0 }, [6] = { 0x200, 0x480, 2, 0 },
	[7] = { 0x400, 0x680, 2, 0 }, [9] = { 8, 0xa80, 0, 0 },
};

/* A processor with every feature that there is room for: what a child isn't to see is to be hidden. */
struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	bool intel = options.posted, wide = options.tsc_adjust;
	const struct cpuid_regs all = { ~0u, ~0u, ~0u, ~0u };

	switch (leaf) {
	case 0:
		return intel ? (struct cpuid_regs){ 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69 } :
			       (struct cpuid_regs){ 0x10, 0x68747541, 0x444d4163, 0x69746e65 };
	case 1:
		return (struct cpuid_regs){ 0x800f12, 8 << 8, ~0u, ~0u };
	case 4:
	case 0x8000001d:
		return (struct cpuid_regs){ subleaf < 4 ? 1 | (subleaf + 1) << 5 : 0, 0x1c0003f, 63, 0 };
	case 7: /* EBX: with TSC_ADJUST or without */
		return (struct cpuid_regs){ subleaf ? ~0u : 2, wide ? ~0u : ~2u, ~0u, ~0u };
	case 0xd:
		if (!subleaf)
			return (struct cpuid_regs){ (uint32_t)XCR0_OF_MACHINE, 0x340, wide ? 0xa88 : 0x340,
						    0 };
		if (subleaf == 1)
			return (struct cpuid_regs){ 0xf, 0x340, 0, 0 };
		return subleaf < ARRAY_SIZE(xsave_components) ? xsave_components[subleaf] :
								(struct cpuid_regs){ 0 };
	case 0x80000000:
		return (struct cpuid_regs){ intel ? 0x80000008 : 0x80000021, 0, 0, 0 };
	case 0x80000001:
	case 0x80000007:
	case 0x80000021:
		return all;
	case 0x80000008:
		return (struct cpuid_regs){ PHYS_BITS | 48 << 8, ~0u, 0, 0 };
	default:
		return (struct cpuid_regs){ leaf, leaf >> 4, 0, 0 };
	}
}

bool safe_rdmsr(uint32_t msr, uint64_t *value)
{
	struct machine_lp *at = machine_of(current_lp);

	if (msr == MSR_TSC)
		*value = rdtsc();
	else if (msr == MSR_TSC_ADJUST && options.tsc_adjust)
		*value = at->tsc_adjust;
	else if (msr >= 0x200 && msr < 0x210)
		*value = at->msrs[msr % 8];
	else
		return false;
	return true;
}

bool safe_wrmsr(uint32_t msr, uint64_t value)
{
	struct machine_lp *at = machine_of(current_lp);

	if (msr == MSR_TSC) {
		at->tsc_adjust += value - rdtsc();
		at->tsc_offset = value - now_tsc;
	} else if (msr == MSR_TSC_ADJUST && options.tsc_adjust) {
		at->tsc_offset += value - at->tsc_adjust;
		at->tsc_adjust = value;
	} else if (msr >= 0x200 && msr < 0x210) {
		at->msrs[msr % 8] = value;
	} else {
		return false;
	}
	return true;
}

/* ---- What neither vendor switches ---- */

uint64_t get_xcr0(void)
{
	return machine_of(current_lp)->xcr0;
}

void set_xcr0(uint64_t value)
{
	CHECK(write_xcr0(value));
}

void save_extended(struct fx_area *area, uint64_t mask)
{
	struct machine_lp *at = machine_of(current_lp);

	CHECK(mask == XCR0_OF_MACHINE && get_xcr0() == mask);
	CHECK(at->in_fpu == area && !at->in_processor);
	at->in_fpu = NULL;
	*area = at->fx;
	*(uint64_t *)(area + 1) |= 3; /* XSTATE_BV */
}

/* Or XRSTOR faults (SDM1 13.8.1): a parent writes it. */
static void check_extended_area(const struct fx_area *area)
{
	const uint64_t *header = (const uint64_t *)(area + 1);

	CHECK(!(area->mxcsr & ~0xffffu) && !(header[0] & ~XCR0_OF_MACHINE));
	for (unsigned int i = 1; i < 8; i++)
		CHECK(!header[i]);
}

void load_extended(const struct fx_area *area, uint64_t mask)
{
	struct machine_lp *at = machine_of(current_lp);

	check_extended_area(area);
	CHECK(mask == XCR0_OF_MACHINE && get_xcr0() == mask);
	CHECK(!at->in_fpu);
	at->in_fpu = area;
	at->fx = *area;
}

void forget_x87_pointers(void)
{
}

void vp_shutdown(struct vp *vp)
{
	(void)vp;
	abort();
}

/* ---- Registers that nobody switches ---- */

uint64_t read_dr(unsigned int index)
{
	return dr[index];
}

void write_dr(unsigned int index, uint64_t value)
{
	dr[index] = value;
}

bool read_xcr0(uint64_t *value)
{
	*value = get_xcr0();
	return true;
}

bool write_xcr0(uint64_t value)
{
	if (!(value & 1) || (value & ~XCR0_OF_MACHINE))
		return false;
	machine_of(current_lp)->xcr0 = value;
	return true;
}

void save_fx(struct fx_area *area)
{
	*area = machine_of(current_lp)->fx;
}

void load_fx(const struct fx_area *area)
{
	CHECK(!(area->mxcsr & ~0xffffu)); /* or this faults */
	machine_of(current_lp)->fx = *area;
}

void fxsave(void *area)
{
	memcpy(area, &machine_of(current_lp)->fx, sizeof(struct fx_area));
}

/* ---- Physical local APICs ---- */

static void leave_guest(struct lp *lp);

static int highest(const uint64_t bits[4])
{
	for (int i = 3; i >= 0; i--)
		if (bits[i])
			return i * 64 + 63 - __builtin_clzll(bits[i]);
	return -1;
}

static uint32_t word_of(const uint64_t bits[4], uint32_t reg)
{
	unsigned int n = reg >> 4 & 7;

	return (uint32_t)(bits[n / 2] >> (n % 2 * 32));
}

static void set_bit_of(uint64_t bits[4], unsigned int n, bool value)
{
	bits[n / 64] = (bits[n / 64] & ~BIT(n % 64)) | (uint64_t)value << n % 64;
}

/* As the processor does when it takes interrupts: the highest, if its class is above those in service. */
static void take_interrupts(struct lp *lp)
{
	struct machine_lp *at = machine_of(lp);
	int vector;

	while ((vector = highest(at->irr)) >= 0 && vector >> 4 > highest(at->isr) >> 4) {
		set_bit_of(at->irr, (unsigned int)vector, false);
		set_bit_of(at->isr, (unsigned int)vector, true);
		set_bit_of(lp->acked, (unsigned int)vector, true);
	}
}

static void raise_vector(struct lp *lp, uint8_t vector, bool level)
{
	struct machine_lp *at = machine_of(lp);

	if (!(at->apic_base & APIC_BASE_EN))
		return;
	set_bit_of(at->irr, vector, true);
	set_bit_of(at->tmr, vector, level);
	take_interrupts(lp);
	leave_guest(lp);
}

static void arrive(struct lp *lp, uint32_t icr)
{
	switch (icr & 0x700) {
	case LAPIC_ICR_FIXED:
		raise_vector(lp, (uint8_t)icr, false);
		return;
	case LAPIC_ICR_NMI:
		atomic_store(&lp->nmi_taken, 1);
		return;
	case LAPIC_ICR_SIPI:
		/* It comes in with its next turn. */
		if (atomic_load(&lp->state) == LP_OFFLINE) {
			CHECK((uint8_t)icr == TRAMPOLINE_PAGE);
			atomic_store(&lp->state, LP_STARTING);
		}
		return;
	default:
		return;
	}
}

static void send_icr(struct lp *from, uint32_t dest, uint32_t icr, bool x2apic)
{
	CHECK((icr & 0xc0800) == 0); /* one processor, by its id */
	for (uint32_t i = 0; i < lp_count; i++)
		if (x2apic ? lp_table[i]->apic_id == dest : (lp_table[i]->apic_id & 0xff) == dest) {
			arrive(lp_table[i], icr);
			return;
		}
	(void)from;
	fail("an interrupt to a processor that there isn't");
}

static uint32_t lapic_get(struct lp *lp, uint32_t reg)
{
	struct machine_lp *at = machine_of(lp);
	uint64_t now = now_tsc + at->tsc_offset;

	CHECK(lp == current_lp);
	if (reg >= LAPIC_ISR && reg < LAPIC_TMR)
		return word_of(at->isr, reg);
	if (reg >= LAPIC_TMR && reg < LAPIC_IRR)
		return word_of(at->tmr, reg);
	if (reg >= LAPIC_IRR && reg < LAPIC_ESR)
		return word_of(at->irr, reg);
	if (reg == LAPIC_TIMER_CURRENT)
		return !at->timer_tsc || at->timer_tsc <= now ? 0 : 1;
	return 0;
}

static void lapic_set(struct lp *lp, uint32_t reg, uint64_t value, bool x2apic)
{
	struct machine_lp *at = machine_of(lp);
	int top = highest(at->isr);

	CHECK(lp == current_lp); /* nobody touches another's */
	CHECK(!!(at->apic_base & APIC_BASE_X2) == x2apic && (at->apic_base & APIC_BASE_EN));
	switch (reg) {
	case LAPIC_EOI:
		CHECK(top >= 0);
		set_bit_of(at->isr, (unsigned int)top, false);
		take_interrupts(lp);
		return;
	case LAPIC_ICR_HIGH:
		at->icr_high = (uint32_t)value;
		return;
	case LAPIC_ICR_LOW:
		send_icr(lp, x2apic ? (uint32_t)(value >> 32) : at->icr_high >> 24, (uint32_t)value, x2apic);
		return;
	case LAPIC_TIMER_INITIAL:
		at->timer_tsc = value ? rdtsc() + value : 0;
		return;
	case LAPIC_LVT_LINT0:
	case LAPIC_LVT_LINT1:
	case LAPIC_LVT_PMC:
	case LAPIC_LVT_THERMAL:
	case LAPIC_LVT_CMCI: /* no SMI and no INIT of a guest's making */
		CHECK((value & LAPIC_LVT_MASKED) || (value & 0x700) == 0 || (value & 0x700) == 0x400 ||
		      (value & 0x700) == 0x700);
		return;
	default:
		CHECK(reg == LAPIC_LDR || reg == LAPIC_DFR);
		return;
	}
}

static struct lp *lp_at(const volatile void *address)
{
	return lp_table[((uintptr_t)address >> PAGE_SHIFT) - 1];
}

uint32_t mmio_read32(const volatile void *address)
{
	return lapic_get(lp_at(address), (uint32_t)((uintptr_t)address & (PAGE_SIZE - 1)));
}

void mmio_write32(volatile void *address, uint32_t value)
{
	lapic_set(lp_at(address), (uint32_t)((uintptr_t)address & (PAGE_SIZE - 1)), value, false);
}

uint64_t rdmsr(uint32_t msr)
{
	if (msr == MSR_APIC_BASE)
		return machine_of(current_lp)->apic_base;
	CHECK(msr >= LAPIC_MSR_X2APIC && msr < LAPIC_MSR_X2APIC + 0x40);
	return lapic_get(current_lp, (msr - LAPIC_MSR_X2APIC) << 4);
}

void wrmsr(uint32_t msr, uint64_t value)
{
	struct machine_lp *at = machine_of(current_lp);

	if (msr == MSR_TSC_DEADLINE) {
		at->timer_tsc = value;
	} else if (msr == MSR_APIC_BASE) {
		at->apic_base = value;
		if (value & APIC_BASE_EN)
			return;
		memset(at->irr, 0, sizeof(at->irr));
		memset(at->isr, 0, sizeof(at->isr));
		at->timer_tsc = 0;
	} else {
		CHECK(msr >= LAPIC_MSR_X2APIC && msr < LAPIC_MSR_X2APIC + 0x40);
		lapic_set(current_lp, (msr - LAPIC_MSR_X2APIC) << 4, value, true);
	}
}

/* The physical APIC was off: core/lp_apic.c, without the registers that nobody looks at here. */
void lp_local_apic_restart(struct lp *lp)
{
	memset(lp->in_service, 0, sizeof(lp->in_service));
	memset(lp->eoi_wanted, 0, sizeof(lp->eoi_wanted));
	lp->in_service_count = 0;
	lp->level_parked = lp->timer_stale = false;
	lp->timer_deadline_tsc = UINT64_MAX;
	lp_timer_update(lp);
	atomic_store(&lp->kicked, 0);
}

#pragma clang attribute pop

#endif
