/* SPDX-License-Identifier: MIT */
/*
 * The machine of abi_machine.h: what it is made of, its log and its memory. The guest's memory is a small window at address 0, the
 * hypervisor's block is elsewhere; every access that core/ makes for a guest comes through here and is looked at.
 */
#ifndef TRIVET_TESTS_ABI_MEMORY_H
#define TRIVET_TESTS_ABI_MEMORY_H

#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../core/reset.h"

#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/guest_read.h>
#include <trivet/extended_state.h>
#include <trivet/host_memory.h>
#include <trivet/hypercall.h>
#include <trivet/io.h>
#include <hv/status.h>
#include <trivet/live_registers.h>
#include <trivet/log.h>
#include <trivet/page_use.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>
#include <trivet/vp.h>

/* What the fuzzer is to explore is the hypervisor, not this. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

#define MACHINE_LPS 4u
#define RAM_PAGES 256u	  /* enough for a few children */
#define WINDOW_PAGES 260u /* the last four are the firmware's */
#define TRAMPOLINE_PAGE 8u
/* In the same GiB as the local APIC, so that the second stage has one entry for each of the other three to begin with. */
#define BLOCK_HPA 0xfe000000ull
#define BLOCK_PAGES 512u
#define HIGH_FIRMWARE (5 * SIZE_1G)
#define TABLES_PAGE 1u /* the guest's page tables: four pages */
#define PHYS_BITS 40u
#define TSC_HZ 1000000000ull
#define XCR0_OF_MACHINE (options.tsc_adjust ? 0x2e7ull : 7ull) /* x87, SSE, AVX; AVX-512, PKRU */

struct machine_options {
	uint8_t lps;
	bool apic_page, posted, tsc_adjust, deadline_timer, racing, logged;
	bool fewer;   /* privileges and features than a root is given */
	bool offline; /* only the first runs; there is a trampoline */
};

/* Of a VP, what the back end keeps. */
struct kept_state {
	union hv_register_value registers[VP_REGISTER_COUNT];
	uint64_t efer, msrs[8];
};
static_assert(sizeof(struct kept_state) <= PAGE_SIZE, "a child's is a page");

struct machine_lp {
	struct lp lp;
	uint64_t irr[4], isr[4], tmr[4];
	uint64_t apic_base;
	uint32_t icr_high;
	uint64_t timer_tsc; /* when the physical timer fires; 0: it doesn't */
	uint64_t tsc_offset, tsc_adjust;
	bool in_hypervisor;
	uint64_t tlb_generation; /* of the second stage: nothing older is in its TLB */
	uint64_t msrs[8];	 /* MTRRs */
	struct kept_state root_state;
	const struct vp *in_processor; /* NULL: nobody's state is there */
	const struct fx_area *in_fpu;  /* the same; the VP's, to which it goes back */
	struct fx_area fx;
	uint64_t xcr0;
};

static struct machine_lp machine[MACHINE_LPS];
static struct lp *lp_pointers[MACHINE_LPS];
static struct machine_options options;
static struct lp *current_lp;
static uint64_t now_tsc;
static uint8_t block[BLOCK_PAGES * PAGE_SIZE] __attribute__((aligned(SIZE_2M)));
static uint8_t window[WINDOW_PAGES * PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static bool window_dirty[WINDOW_PAGES];
static uint64_t dr[4];
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

void log_write(enum log_level level, const char *format, ...)
{
	char line[LOG_LINE_MAX];
	va_list args;

	CHECK(level <= LOG_DEBUG);
	va_start(args, format);
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

	if ((uint64_t)p - (uint64_t)window < sizeof(window))
		return HPA((uint64_t)p - (uint64_t)window);
	CHECK(offset < sizeof(block));
	return HPA(BLOCK_HPA + offset);
}

void *hv_phys_to_virt(hpa_t hpa)
{
	if (hpa.v < RAM_PAGES * PAGE_SIZE) {
		window_dirty[hpa.v >> PAGE_SHIFT] = true; /* a deposit */
		return window + hpa.v;
	}
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
	uint64_t page; /* that the caller names, if it does */
	bool names_page;
	uint64_t stores;
	bool page_tables;
	bool childs; /* also what a child has mapped */
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
	if (!options.racing || deposit_holds((uint64_t)(at - window) >> PAGE_SHIFT))
		return; /* nobody can write to a deposit */
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

static bool is_state_page(uint64_t page);   /* abi_checks.h */
static bool is_overlay_page(uint64_t page); /* abi_checks.h */

static bool store(uint64_t gpa, const void *from, size_t size)
{
	uint8_t *at = window_at(gpa, size);

	if (!at)
		return false;
	CHECK((gpa >= allowed.gpa && size <= allowed.bytes && gpa - allowed.gpa <= allowed.bytes - size) ||
	      (allowed.names_page && gpa >> PAGE_SHIFT == allowed.page) ||
	      (allowed.childs &&
	       (page_use_mappings(gpa >> PAGE_SHIFT) > 0 || is_overlay_page(gpa >> PAGE_SHIFT))));
	CHECK(!deposit_holds(gpa >> PAGE_SHIFT) || is_state_page(gpa >> PAGE_SHIFT) ||
	      (allowed.childs && is_overlay_page(gpa >> PAGE_SHIFT)));
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

static bool memory_was_short; /* somebody had to do without */

void *__wrap_page_alloc(struct page_pool *pool, unsigned int order)
{
	unsigned int found = order;
	void *pages;

	while (found <= PAGE_ORDER_MAX && !pool->free_head[found])
		found++;
	/* That is the block it will take. */
	if (found <= PAGE_ORDER_MAX)
		ASAN_UNPOISON_MEMORY_REGION(pool->origin + pool->free_head[found] * PAGE_SIZE,
					    PAGE_SIZE << order);
	pages = __real_page_alloc(pool, order);
	memory_was_short |= !pages;
	return pages;
}

void __wrap_page_free(struct page_pool *pool, void *p, unsigned int order)
{
	__real_page_free(pool, p, order);
	ASAN_POISON_MEMORY_REGION(p, PAGE_SIZE << order);
}

#pragma clang attribute pop

#endif
