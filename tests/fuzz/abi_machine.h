/* SPDX-License-Identifier: MIT */
/*
 * The machine under the hypervisor's core, for the fuzzing of its interface: memory, local APICs, TSCs, and a back end that keeps
 * registers in an array. Everything above is the real thing. Processors take turns: one is in the hypervisor, the others run
 * guest code, which an interrupt from the first one makes them leave for a moment.
 */
#ifndef TRIVET_TESTS_ABI_MACHINE_H
#define TRIVET_TESTS_ABI_MACHINE_H

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/reset.h"
#include "../../svm/npt.h"
#include "../../vmx/ept.h"

#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/guest_read.h>
#include <trivet/host_memory.h>
#include <trivet/hypercall.h>
#include <trivet/io.h>
#include <trivet/live_registers.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>
#include <trivet/vp.h>

/* What the fuzzer is to explore is the hypervisor, not this. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

#define MACHINE_LPS 4u
#define RAM_PAGES 32u
#define WINDOW_PAGES 36u /* the last four are the firmware's */
#define TRAMPOLINE_PAGE 8u
#define BLOCK_HPA \
	0xfe000000ull /* in the same GiB as the local APIC: the other three are one entry each to begin with */
#define BLOCK_PAGES 512u
#define HIGH_FIRMWARE (5 * SIZE_1G)
#define TABLES_PAGE 1u /* the guest's page tables: four pages */
#define PHYS_BITS 40u
#define TSC_HZ 1000000000ull

struct machine_options {
	uint8_t lps;
	bool apic_page, posted, tsc_adjust, deadline_timer, racing, logged;
	bool fewer;   /* privileges and features than a root is given */
	bool offline; /* only the first runs; there is a trampoline */
};

struct machine_lp {
	struct lp lp;
	uint64_t irr[4], isr[4], tmr[4];
	uint64_t apic_base;
	uint32_t icr_high;
	uint64_t timer_tsc; /* when the physical timer fires; 0: it doesn't */
	uint64_t tsc_offset, tsc_adjust;
	bool in_hypervisor;
	/* Of its VP, what the back end keeps. */
	union hv_register_value registers[VP_REGISTER_COUNT];
	uint64_t efer, msrs[8];
};

static struct machine_lp machine[MACHINE_LPS];
static struct lp *lp_pointers[MACHINE_LPS];
static struct machine_options options;
static struct lp *current_lp;
static uint64_t now_tsc;
static uint8_t block[BLOCK_PAGES * PAGE_SIZE] __attribute__((aligned(SIZE_2M)));
static uint8_t window[WINDOW_PAGES * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static bool window_dirty[WINDOW_PAGES];
static uint64_t dr[4], xcr0;
static struct fx_area fx;
static unsigned int idle_rounds;
static unsigned int memory_type_of_machine;
static jmp_buf end_of_machine;

struct lp **lp_table = lp_pointers;
uint32_t lp_count;
struct page_pool host_pool;
enum log_level log_threshold;

static __attribute__((__noreturn__)) void fail(const char *what)
{
	fprintf(stderr, "broken: %s\n", what);
	abort();
}

static void check_that(bool ok, const char *what)
{
	if (unlikely(!ok))
		fail(what);
}
#define CHECK(condition) check_that(condition, #condition)

/* ---- Log ---- */

static uint64_t
	pages_lost; /* deposits that were neither taken nor given back, for want of memory: it says so */

void log_write(enum log_level level, const char *format, ...)
{
	char line[LOG_LINE_MAX];
	va_list args;

	CHECK(level <= LOG_DEBUG);
	va_start(args, format);
	if (level == LOG_ERROR && strstr(format, "they are lost")) {
		va_list counted;

		va_copy(counted, args);
		pages_lost += va_arg(counted, unsigned int);
		va_end(counted);
	}
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket; /* it would remember the inputs before */
	return options.logged || now_tsc % 8 == 0;
}

/* ---- Memory ---- */

static const struct boot_memory_range memory_map[] = {
	{ 0, TRAMPOLINE_PAGE *PAGE_SIZE, BOOT_MEMORY_RAM, 0 },
	{ (TRAMPOLINE_PAGE + 1) * PAGE_SIZE, (RAM_PAGES - TRAMPOLINE_PAGE - 1) * PAGE_SIZE, BOOT_MEMORY_RAM,
	  0 },
	{ RAM_PAGES * PAGE_SIZE, (WINDOW_PAGES - RAM_PAGES) * PAGE_SIZE, BOOT_MEMORY_FIRMWARE, 0 },
	{ HIGH_FIRMWARE, SIZE_1G, BOOT_MEMORY_FIRMWARE, 0 },
};

/* The range whose memory [hpa, hpa + size) is all of; NULL: none. */
static const struct boot_memory_range *range_of(uint64_t hpa, uint64_t size)
{
	for (size_t i = 0; i < ARRAY_SIZE(memory_map); i++)
		if (hpa >= memory_map[i].base_hpa && size <= memory_map[i].size &&
		    hpa - memory_map[i].base_hpa <= memory_map[i].size - size)
			return &memory_map[i];
	return NULL;
}

hpa_t hv_virt_to_phys(const void *p)
{
	uint64_t offset = (uint64_t)p - (uint64_t)block;

	CHECK(offset < sizeof(block));
	return HPA(BLOCK_HPA + offset);
}

void *hv_phys_to_virt(hpa_t hpa)
{
	CHECK(hpa.v >= BLOCK_HPA && hpa.v < BLOCK_HPA + sizeof(block));
	return block + (hpa.v - BLOCK_HPA);
}

bool host_memory_is_ours(hpa_t hpa, uint64_t size)
{
	const uint64_t trampoline = TRAMPOLINE_PAGE * PAGE_SIZE;

	return (hpa.v < BLOCK_HPA + sizeof(block) && hpa.v + size > BLOCK_HPA) ||
	       (options.offline && hpa.v < trampoline + PAGE_SIZE && hpa.v + size > trampoline);
}

bool host_memory_is_ram(hpa_t hpa, uint64_t size)
{
	const struct boot_memory_range *range = range_of(hpa.v, size);

	return range && range->kind == BOOT_MEMORY_RAM;
}

uint64_t host_memory_end(void)
{
	return HIGH_FIRMWARE + SIZE_1G;
}

bool host_memory_clip_to_devices(hpa_t hpa, uint64_t *start, uint64_t *end)
{
	for (size_t i = 0; i < ARRAY_SIZE(memory_map); i++) {
		uint64_t first = memory_map[i].base_hpa, last = first + memory_map[i].size;

		if (hpa.v >= first && hpa.v < last)
			return false;
		if (last <= hpa.v && last > *start)
			*start = last;
		if (first > hpa.v && first < *end)
			*end = first;
	}
	return true;
}

/* The hypervisor has pointers into deposited memory only. */
const void *host_ram_window(hpa_t hpa, uint64_t size)
{
	CHECK(IS_ALIGNED(hpa.v, PAGE_SIZE) && size == PAGE_SIZE && host_memory_is_ram(hpa, size));
	CHECK(deposit_holds(hpa.v >> PAGE_SHIFT));
	window_dirty[hpa.v >> PAGE_SHIFT] = true;
	return window + hpa.v;
}

/* What the hypervisor may write into guest memory now. */
static struct {
	uint64_t gpa, bytes;
	uint64_t stores;
	bool page_tables;
} allowed;

static uint8_t *window_at(uint64_t gpa, size_t size)
{
	return gpa < sizeof(window) && gpa >> PAGE_SHIFT != TRAMPOLINE_PAGE && range_of(gpa, size) ?
		       window + gpa :
		       NULL;
}

/* Another processor changes what was just read. */
static void race(uint8_t *at)
{
	if (!options.racing)
		return;
	at[0] ^= (uint8_t)(now_tsc & 0x81);
	window_dirty[(size_t)(at - window) >> PAGE_SHIFT] = true;
}

#define DEFINE_FAKE_READ(name, type)                        \
	bool name(uint64_t gpa, type *out)                  \
	{                                                   \
		uint8_t *at = window_at(gpa, sizeof(*out)); \
                                                            \
		if (!at)                                    \
			return false;                       \
		memcpy(out, at, sizeof(*out));              \
		race(at);                                   \
		return true;                                \
	}

DEFINE_FAKE_READ(guest_read64_raw, uint64_t)
DEFINE_FAKE_READ(guest_read32_raw, uint32_t)
DEFINE_FAKE_READ(guest_read8_raw, uint8_t)

static bool store(uint64_t gpa, const void *from, size_t size)
{
	uint8_t *at = window_at(gpa, size);

	if (!at)
		return false;
	CHECK(gpa >= allowed.gpa && size <= allowed.bytes && gpa - allowed.gpa <= allowed.bytes - size);
	CHECK(!deposit_holds(gpa >> PAGE_SHIFT));
	allowed.stores++;
	window_dirty[gpa >> PAGE_SHIFT] = true;
	memcpy(at, from, size);
	return true;
}

bool guest_write64_raw(uint64_t gpa, uint64_t value)
{
	return store(gpa, &value, sizeof(value));
}

bool guest_write8_raw(uint64_t gpa, uint8_t value)
{
	return store(gpa, &value, sizeof(value));
}

static int exchange(uint64_t gpa, uint64_t old, uint64_t value, size_t size)
{
	uint8_t *at = window_at(gpa, size);

	CHECK(allowed.page_tables && IS_ALIGNED(gpa, size));
	/* Nothing but accessed and dirty bits. */
	CHECK(((old ^ value) & ~0x60ull) == 0 && !deposit_holds(gpa >> PAGE_SHIFT));
	if (!at)
		return -EIO;
	if (memcmp(at, &old, size))
		return -EAGAIN;
	memcpy(at, &value, size);
	window_dirty[gpa >> PAGE_SHIFT] = true;
	return 0;
}

int guest_exchange64_raw(uint64_t gpa, uint64_t old, uint64_t value)
{
	return exchange(gpa, old, value, sizeof(value));
}

int guest_exchange32_raw(uint64_t gpa, uint32_t old, uint32_t value)
{
	return exchange(gpa, old, value, sizeof(value));
}

/* The linker puts these in front of the pool's own: what is free can't be touched unnoticed. */
void *__real_page_alloc(struct page_pool *pool, unsigned int order);
void __real_page_free(struct page_pool *pool, void *p, unsigned int order);
void *__wrap_page_alloc(struct page_pool *pool, unsigned int order);
void __wrap_page_free(struct page_pool *pool, void *p, unsigned int order);

#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

void *__wrap_page_alloc(struct page_pool *pool, unsigned int order)
{
	unsigned int found = order;

	while (found <= PAGE_ORDER_MAX && !pool->free_head[found])
		found++;
	/* That is the block it will take. */
	if (found <= PAGE_ORDER_MAX)
		ASAN_UNPOISON_MEMORY_REGION(pool->origin + pool->free_head[found] * PAGE_SIZE,
					    PAGE_SIZE << order);
	return __real_page_alloc(pool, order);
}

void __wrap_page_free(struct page_pool *pool, void *p, unsigned int order)
{
	__real_page_free(pool, p, order);
	ASAN_POISON_MEMORY_REGION(p, PAGE_SIZE << order);
}

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

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	(void)subleaf;
	switch (leaf) {
	case 0:
		return (struct cpuid_regs){ 0x10, options.posted ? 0x756e6547 : 0x68747541, 0, 0 };
	case 1:
		return (struct cpuid_regs){ 0, 8 << 8, 1 << 26, 0 };
	case 7:
		return (struct cpuid_regs){ 0, options.tsc_adjust ? 2 : 0, 0, 0 };
	case 0xd:
		return (struct cpuid_regs){ 7, 0, 0x340, 0 };
	case 0x80000008:
		return (struct cpuid_regs){ PHYS_BITS | 48 << 8, 0, 0, 0 };
	default:
		return (struct cpuid_regs){ 0 };
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
	*value = xcr0;
	return true;
}

bool write_xcr0(uint64_t value)
{
	if (!(value & 1) || value >> 3)
		return false;
	xcr0 = value;
	return true;
}

void save_fx(struct fx_area *area)
{
	*area = fx;
}

void load_fx(const struct fx_area *area)
{
	CHECK(!(area->mxcsr & ~0xffffu)); /* or this faults */
	fx = *area;
}

void fxsave(void *area)
{
	memcpy(area, &fx, sizeof(fx));
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

	if (!(at->apic_base & LAPIC_BASE_ENABLE))
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
	CHECK(!!(at->apic_base & LAPIC_BASE_X2APIC) == x2apic && (at->apic_base & LAPIC_BASE_ENABLE));
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
	if (msr == LAPIC_MSR_BASE)
		return machine_of(current_lp)->apic_base;
	CHECK(msr >= LAPIC_MSR_X2APIC && msr < LAPIC_MSR_X2APIC + 0x40);
	return lapic_get(current_lp, (msr - LAPIC_MSR_X2APIC) << 4);
}

void wrmsr(uint32_t msr, uint64_t value)
{
	struct machine_lp *at = machine_of(current_lp);

	if (msr == LAPIC_MSR_DEADLINE) {
		at->timer_tsc = value;
	} else if (msr == LAPIC_MSR_BASE) {
		at->apic_base = value;
		if (value & LAPIC_BASE_ENABLE)
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

/* ---- The back end ---- */

static uint64_t fake_ss_flags(void)
{
	return SS_1G_PAGES;
}

static unsigned int fake_phys_bits(void)
{
	return PHYS_BITS;
}

static hpa_t fake_apic_page(void)
{
	static void *page;

	if (!options.apic_page)
		return HPA(0);
	page = page_alloc(&host_pool, 0);
	return page ? hv_virt_to_phys(page) : HPA(0);
}

static bool fake_reads_apic_page(void)
{
	return options.apic_page;
}

static void fake_mode_changed(struct vp *vp)
{
	CHECK(vp->lp == current_lp);
}

static int fake_vp_create(struct vp *vp)
{
	vp->control = machine_of(vp->lp);
	return 0;
}

static void fake_vp_reset(struct vp *vp)
{
	struct machine_lp *at = machine_of(vp->lp);

	CHECK(vp->lp == current_lp);
	memset(at->registers, 0, sizeof(at->registers));
	at->registers[VP_REGISTER_RFLAGS].reg64 = 2;
	at->efer = 0;
}

/* 64-bit mode on the page tables of reset_memory(). */
static void fake_vp_start(struct vp *vp, uint8_t vector)
{
	struct machine_lp *at = machine_of(vp->lp);

	(void)vector;
	at->registers[VP_REGISTER_RFLAGS].reg64 = 0x202;
	at->registers[VP_REGISTER_CR0].reg64 = 0x80050033;
	at->registers[VP_REGISTER_CR3].reg64 = TABLES_PAGE * PAGE_SIZE;
	at->registers[VP_REGISTER_CR4].reg64 = 0x20;
	at->efer = 0xd01;
}

/* Something comes sooner or later: the timer, a device, an NMI, INIT and its start-up IPI. */
static void fake_lp_idle(struct lp *lp)
{
	struct machine_lp *at = machine_of(lp);

	CHECK(lp == current_lp && atomic_load(&lp->vp->idle));
	CHECK(idle_rounds < 32); /* a VP that nothing wakes */
	switch (idle_rounds++ % 5) {
	case 0:
		if (at->timer_tsc && at->timer_tsc - at->tsc_offset - now_tsc < BIT(40))
			now_tsc = at->timer_tsc - at->tsc_offset;
		if (at->timer_tsc && at->timer_tsc <= now_tsc + at->tsc_offset) {
			at->timer_tsc = 0;
			raise_vector(lp, HV_VECTOR_TIMER, false);
		}
		return;
	case 1:
		raise_vector(lp, 0x51, false);
		return;
	case 2:
		atomic_store(&lp->nmi_taken, 1);
		return;
	case 3:
		vp_post(lp->vp, VP_PENDING_INIT);
		return;
	default:
		vp_send_sipi(lp->vp, 9);
		return;
	}
}

static void fake_get_context(struct vp *vp, struct vp_context *context)
{
	const struct machine_lp *at = machine_of(vp->lp);
	const union hv_register_value *r = at->registers;

	CHECK(vp->lp == current_lp);
	*context = (struct vp_context){
		.rip = r[VP_REGISTER_RIP].reg64,
		.rflags = r[VP_REGISTER_RFLAGS].reg64,
		.mode = at->efer & BIT(10) ? INSN_MODE_64 : INSN_MODE_32,
		.cpl = r[VP_REGISTER_SS].segment.attributes >> 5 & 3,
		.paging = { .cr0 = r[VP_REGISTER_CR0].reg64,
			    .cr3 = r[VP_REGISTER_CR3].reg64,
			    .cr4 = r[VP_REGISTER_CR4].reg64,
			    .efer = at->efer,
			    .rflags = r[VP_REGISTER_RFLAGS].reg64,
			    .maxphyaddr = PHYS_BITS,
			    .gbpages = true },
	};
	vp->gpr[GPR_RSP] = r[VP_REGISTER_RSP].reg64;
}

static void fake_set_context(struct vp *vp, const struct vp_context *context)
{
	struct machine_lp *at = machine_of(vp->lp);

	at->registers[VP_REGISTER_RIP].reg64 = context->rip;
	at->registers[VP_REGISTER_RFLAGS].reg64 = context->rflags;
	at->registers[VP_REGISTER_RSP].reg64 = vp->gpr[GPR_RSP];
}

static void fake_get_register(struct vp *vp, enum vp_register which, union hv_register_value *value)
{
	CHECK(vp->lp == current_lp && (unsigned int)which < VP_REGISTER_COUNT);
	*value = machine_of(vp->lp)->registers[which];
	if (which == VP_REGISTER_CR8)
		value->reg64 = apic_cr8(&vp->apic);
}

static int fake_set_register(struct vp *vp, enum vp_register which, const union hv_register_value *value)
{
	CHECK(vp->lp == current_lp && (unsigned int)which < VP_REGISTER_COUNT);
	if (which == VP_REGISTER_CR4 && value->reg64 >> 24)
		return -EINVAL;
	if (which == VP_REGISTER_CR8) {
		CHECK(value->reg64 < 16);
		apic_set_tpr(&vp->apic, (uint8_t)(value->reg64 << 4));
	}
	machine_of(vp->lp)->registers[which] = *value;
	vp_post_self(vp, VP_PENDING_EVENT | VP_PENDING_FLUSH);
	return 0;
}

static int fake_get_msr(struct vp *vp, uint32_t msr, uint64_t *value)
{
	if (msr == 0xc0000080)
		*value = machine_of(vp->lp)->efer;
	else if (msr >> 16 == 0xc000)
		*value = machine_of(vp->lp)->msrs[msr % 8];
	else
		return vp_msr_read(vp, msr, value);
	return 0;
}

static int fake_set_msr(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (msr == 0xc0000080 && (value & ~0xd01ull))
		return -EINVAL;
	if (msr == 0xc0000080)
		machine_of(vp->lp)->efer = value;
	else if (msr >> 16 == 0xc000)
		machine_of(vp->lp)->msrs[msr % 8] = value;
	else
		return vp_msr_write(vp, msr, value);
	return 0;
}

static bool fake_can_run(struct vp *vp)
{
	const struct machine_lp *at = machine_of(vp->lp);
	uint64_t cr0 = at->registers[VP_REGISTER_CR0].reg64, cr4 = at->registers[VP_REGISTER_CR4].reg64;

	return !(cr0 & BIT(31)) || !(at->efer & BIT(8)) || ((cr4 & BIT(5)) && (at->efer & BIT(10)));
}

static uint64_t fake_rip(const struct vp *vp)
{
	return machine_of(vp->lp)->registers[VP_REGISTER_RIP].reg64;
}

static const char *fake_exit_name(uint32_t code)
{
	(void)code;
	return "exit";
}

static enum exit_category fake_exit_category(uint32_t index)
{
	return (enum exit_category)(index % EXIT_CATEGORY_COUNT);
}

static unsigned int fake_memory_type(uint64_t start, uint64_t *end)
{
	(void)start;
	(void)end;
	return memory_type_of_machine;
}

static struct backend fake_backend = {
	.name = "fake",
	.ss_flags = fake_ss_flags,
	.phys_bits = fake_phys_bits,
	.hypercall_code = { 0x0f, 0x01, 0xd9, 0xc3 },
	.apic_page = fake_apic_page,
	.reads_apic_page = fake_reads_apic_page,
	.apic_mode_changed = fake_mode_changed,
	.vp_create = fake_vp_create,
	.vp_reset = fake_vp_reset,
	.vp_start = fake_vp_start,
	.lp_idle = fake_lp_idle,
	.get_context = fake_get_context,
	.set_context = fake_set_context,
	.get_register = fake_get_register,
	.set_register = fake_set_register,
	.get_msr = fake_get_msr,
	.set_msr = fake_set_msr,
	.can_run = fake_can_run,
	.rip = fake_rip,
	.exit_name = fake_exit_name,
	.exit_category = fake_exit_category,
	.memory_type = fake_memory_type,
};
const struct backend *backend = &fake_backend;

/* The end of the machine, and of the input. */
_Noreturn void machine_reset(void)
{
	longjmp(end_of_machine, 1);
}

_Noreturn void machine_power_off(uint8_t pm1a_slp_typ, uint8_t pm1b_slp_typ)
{
	CHECK(pm1a_slp_typ <= 7 && pm1b_slp_typ <= 7);
	longjmp(end_of_machine, 1);
}

void panic(const char *format, ...)
{
	fail(format);
}

/* ---- Turns ---- */

/* A kick, or another physical interrupt: guest mode ends, what can't wait is done, and the guest goes on. */
static void leave_guest(struct lp *lp)
{
	struct lp *before = current_lp;
	struct machine_lp *at = machine_of(lp);

	if (at->in_hypervisor || atomic_load(&lp->state) != LP_ONLINE || lp->vp->state != VP_RUNNING)
		return;
	at->in_hypervisor = true;
	current_lp = lp;
	lp_handle_interrupts(lp);
	if (atomic_load(&lp->vp->pending) & VP_PENDING_FLUSH)
		flush_taken(lp->vp);
	current_lp = before;
	at->in_hypervisor = false;
}

/* A started processor comes in, as core/main.c and core/lp_apic.c have it do. */
static void bring_in(struct lp *lp)
{
	struct apic_config config = {
		.apic_id = lp->apic_id,
		.bsp = lp->index == 0,
		.x2apic = true,
		.tsc_deadline = options.deadline_timer,
		.page_read = options.apic_page,
		.arb_regs = !options.posted,
		.version = 0x14,
		.max_lvt = 6,
		.phys_bits = PHYS_BITS,
		.min_period_tsc = TSC_HZ / 20000,
	};

	CHECK(apic_clock_init(&config.clock, lp_apic_timer_hz(), TSC_HZ) == 0);
	CHECK(apic_init(&lp->vp->apic, &config, lp->vp->apic_page) == 0);
	lp_tsc_start(lp);
	lp_timer_update(lp);
	vp_run_time_start(lp->vp);
	atomic_store(&lp->state, LP_ONLINE);
	flush_idle_end(lp->vp);
}

static void reset_memory(void)
{
	uint64_t *tables = (uint64_t *)(window + TABLES_PAGE * PAGE_SIZE);

	for (unsigned int i = 0; i < WINDOW_PAGES; i++) {
		if (window_dirty[i])
			memset(window + i * PAGE_SIZE, 0, PAGE_SIZE);
		window_dirty[i] = false;
	}
	/* A table of each level, with entries of every kind; the last one's are the window's pages and some that aren't there. */
	tables[0] = tables[511] = (TABLES_PAGE + 1) * PAGE_SIZE | 7;
	tables[512] = (TABLES_PAGE + 2) * PAGE_SIZE | 7;
	tables[513] = 0x87;
	tables[514] = 0x2087; /* reserved bits */
	tables[1024] = (TABLES_PAGE + 3) * PAGE_SIZE | 7;
	tables[1025] = 0x83;
	tables[1026] = BIT(38) | 7; /* a table where no memory is */
	for (uint64_t i = 0; i < 64; i++)
		tables[1536 + i] = i << PAGE_SHIFT | (i % 8 == 7 ? 0 : 1) | (i & 3) << 1 | (i & 16) << 59;
	for (unsigned int i = 0; i < 4; i++)
		window_dirty[TABLES_PAGE + i] = true;
}

static void reset_lps(void)
{
	static const uint32_t apic_ids[MACHINE_LPS] = { 0, 2, 5, 300 };

	lp_count = options.lps;
	for (uint32_t i = 0; i < lp_count; i++) {
		struct machine_lp *at = &machine[i];
		struct lp *lp = &at->lp;

		memset(at, 0, sizeof(*at));
		at->apic_base = APIC_BASE_DEFAULT | LAPIC_BASE_ENABLE | (i ? 0 : LAPIC_BASE_BSP);
		lp->self = lp;
		lp->index = i;
		lp->apic_id = apic_ids[i];
		lp->lapic.mmio = (volatile void *)((uintptr_t)(i + 1) << PAGE_SHIFT);
		lp->lapic.tsc_deadline = options.deadline_timer;
		lp->lapic.timer_mult = BIT(32);
		lp->timer_deadline_tsc = UINT64_MAX;
		lp_table[i] = lp;
	}
	current_lp = lp_table[0];
}

/* From power-on to a root that runs on all its processors, but for those that `offline` leaves to be started. */
static void machine_start(const struct machine_options *wanted)
{
	static uint8_t pristine[sizeof(struct partition)];
	static bool saved;
	struct boot_handoff handoff = {
		.hv_base = BLOCK_HPA,
		.hv_size = sizeof(block),
		.trampoline_hpa = wanted->offline ? TRAMPOLINE_PAGE * PAGE_SIZE : 0,
		.memory_map_offset = (uint64_t)memory_map - HV_VIRT_BASE,
		.memory_map_count = ARRAY_SIZE(memory_map),
		.root_interface = BOOT_ROOT_HV,
	};

	if (!saved)
		memcpy(pristine, &root_partition, sizeof(pristine));
	saved = true;
	memcpy(&root_partition, pristine, sizeof(pristine));
	options = *wanted;
	now_tsc = 1000000;
	pages_lost = 0;
	memory_type_of_machine = 0;
	lp_takes_posted = options.posted;
	fake_backend.ss_format = options.posted ? &ss_format_ept : &ss_format_npt;
	log_threshold = options.logged ? LOG_DEBUG : LOG_ERROR;
	atomic_store(&statistics_mapped, false);
	memset(&allowed, 0, sizeof(allowed));
	memset(dr, 0, sizeof(dr));
	xcr0 = 7;
	fx = (struct fx_area){ .fcw = 0x37f, .mxcsr = 0x1f80, .mxcsr_mask = 0xffff };
	reset_memory();
	reset_lps();
	ASAN_UNPOISON_MEMORY_REGION(block, sizeof(block));
	CHECK(page_pool_init(&host_pool, block, BLOCK_PAGES) == 0);
	ASAN_POISON_MEMORY_REGION(host_pool.origin + host_pool.first_index * PAGE_SIZE,
				  (host_pool.end_index - host_pool.first_index) * PAGE_SIZE);
	CHECK(root_init(&handoff) == 0);
	for (uint32_t i = 0; i < lp_count; i++) {
		if (i && options.offline)
			continue;
		current_lp = lp_table[i];
		bring_in(current_lp);
		current_lp->vp->state = VP_RUNNING;
		fake_vp_start(current_lp->vp, 0);
		apic_mmio_write(&current_lp->vp->apic, APIC_REG_SVR, 4, 0x1ff);
	}
	current_lp = lp_table[0];
}

#pragma clang attribute pop

#endif
