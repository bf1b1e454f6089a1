/* unit: vmx/mtrr.c core/memory_types.c core/second_stage.c core/page_alloc.c core/page_source.c vmx/ept.c */
/* SPDX-License-Identifier: MIT */
/*
 * The type that the MTRRs give: directed cases, then random registers against an oracle that looks at one page at a time
 * and follows SDM3 12.11.4.1 word by word. Then the tables made from it, through the MSRs of a modelled processor.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/io.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>
#include <trivet/vp.h>

#include "../../core/memory_types.h"
#include "../../vmx/ept.h"
#include "../../vmx/mtrr.h"
#include "../../vmx/vmx.h"

#define UC MEMORY_TYPE_UC
#define WC MEMORY_TYPE_WC
#define WT MEMORY_TYPE_WT
#define WP MEMORY_TYPE_WP
#define WB MEMORY_TYPE_WB
#define SIZE_1M (1ull << 20)
#define VALID MTRR_MASK_VALID
#define ON MTRR_DEF_ENABLE
#define ON_FIXED (MTRR_DEF_ENABLE | MTRR_DEF_FIXED_ENABLE)
#define MASK36(size) ((BIT(36) - (size)) | VALID)

/* ---- The processor ---- */

static uint64_t msrs[0x300];
static bool has_mtrrs;
static unsigned int phys_bits, changes;
static struct second_stage *root;

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	(void)subleaf;
	assert_int_equal(leaf, 1);
	return (struct cpuid_regs){ .edx = has_mtrrs ? BIT(12) : 0 };
}

unsigned int vmx_gpa_bits(void)
{
	return phys_bits;
}

uint64_t rdmsr(uint32_t msr)
{
	assert_true(has_mtrrs);
	assert_true(msr == MSR_MTRR_CAP || vmx_is_mtrr(msr));
	assert_true(msr >= 0x250 || msr == MSR_MTRR_CAP ||
		    msr < 0x200 + 2 * (msrs[MSR_MTRR_CAP] & 0xff)); /* else #GP */
	assert_true(msr < 0x250 || msr == MSR_MTRR_DEF_TYPE || msrs[MSR_MTRR_CAP] & MTRR_CAP_FIXED);
	return msrs[msr];
}

bool safe_wrmsr(uint32_t msr, uint64_t value)
{
	if (!has_mtrrs || !vmx_is_mtrr(msr))
		return false;
	if (msr < 0x250 && (msr >= 0x200 + 2 * (msrs[MSR_MTRR_CAP] & 0xff) || value >> phys_bits))
		return false;
	if (msr == MSR_MTRR_DEF_TYPE && value & ~0xcffull)
		return false;
	msrs[msr] = value;
	return true;
}

void root_memory_types_changed(struct vp *vp)
{
	assert_int_equal(vp->index, 0);
	changes++;
	if (root)
		assert_int_equal(memory_types_refresh(root, vmx_memory_type), 0);
}

static void power_on(unsigned int bits, uint64_t capabilities)
{
	memset(msrs, 0, sizeof(msrs));
	has_mtrrs = true;
	phys_bits = bits;
	msrs[MSR_MTRR_CAP] = capabilities;
	changes = 0;
	vmx_mtrr_init();
}

/* ---- Directed ---- */

static struct mtrr_state state;

static void begin(uint64_t def_type)
{
	state = (struct mtrr_state){
		.present = 1, .has_fixed = true, .phys_bits = 36, .variable_count = 8, .def_type = def_type
	};
}

static void range(unsigned int index, uint64_t base, uint64_t mask)
{
	state.variable[index].base = base;
	state.variable[index].mask = mask;
}

static void expect_at(uint64_t start, unsigned int type, uint64_t end, int line)
{
	uint64_t stop = BIT(36);
	unsigned int found = mtrr_type(&state, start, &stop);

	if (found != type || stop != end)
		fail_msg("line %d: 0x%lx: type %u to 0x%lx", line, start, found, stop);
}
#define expect(start, type, end) expect_at(start, type, end, __LINE__)

static void absent_and_disabled(void **unused)
{
	(void)unused;
	begin(ON_FIXED | WB);
	state.present = 0;
	expect(0, WB, BIT(36));
	begin(WB); /* E clear: UC, whatever else is set */
	memset(state.fixed, 6, sizeof(state.fixed));
	range(0, WB, MASK36(SIZE_1G));
	expect(0, UC, BIT(36));
	begin(MTRR_DEF_FIXED_ENABLE | WB);
	expect(0, UC, BIT(36));
	begin(ON | WT);
	expect(0, WT, BIT(36));
	begin(ON | 2); /* reserved */
	expect(0, UC, BIT(36));
}

static void fixed_ranges(void **unused)
{
	(void)unused;
	begin(ON_FIXED | WB);
	state.fixed[0] = 0x0605040106060606; /* 64K blocks: WB x4, WC, WT, WP, WB */
	state.fixed[1] = 0x0606060606060606;
	state.fixed[2] = 0x0101010101010101;
	state.fixed[3] = 0x0505050505050506;
	state.fixed[10] = 0x0600000000000000;
	range(0, WT, MASK36(SIZE_2M)); /* no say below 1 MiB */
	expect(0, WB, 0x40000);
	expect(0x1f000, WB, 0x40000);
	expect(0x40000, WC, 0x50000);
	expect(0x50000, WT, 0x60000);
	expect(0x6f000, WP, 0x70000);
	expect(0x70000, WB, 0xa0000);
	expect(0xa0000, WC, 0xc0000);
	expect(0xc0000, WB, 0xc1000);
	expect(0xc1000, WP, 0xc8000);
	expect(0xc8000, UC, 0xff000);
	expect(0xff000, WB, 0x100000);
	expect(0x100000, WT, SIZE_2M);
	state.def_type = ON | WB; /* the fixed ones off: the variable ones from 0 on */
	expect(0, WT, SIZE_2M);
	state.def_type = ON_FIXED | WB;
	state.has_fixed = 0;
	expect(0xa0000, WT, SIZE_2M);
}

static void variable_ranges(void **unused)
{
	(void)unused;
	begin(ON | UC);
	range(0, WB, MASK36(2 * SIZE_1G));
	range(1, 4 * SIZE_1G | WB, MASK36(4 * SIZE_1G));
	range(2, 0x7f800000 | UC, MASK36(8 * SIZE_1M));
	range(3, 0xd0000000 | WC, MASK36(256 * SIZE_1M));
	range(4, WT, MASK36(SIZE_1G) & ~VALID);
	expect(0, WB, 0x7f800000);
	expect(0x7f800000, UC, 0xd0000000); /* range 2, then no range */
	expect(0xd0000000, WC, 0xe0000000);
	expect(0xdffff000, WC, 0xe0000000);
	expect(0xe0000000, UC, 4 * SIZE_1G);
	expect(4 * SIZE_1G, WB, 8 * SIZE_1G);
	expect(8 * SIZE_1G, UC, BIT(36));
}

static void overlaps(void **unused)
{
	static const unsigned char types[] = { UC, WC, WT, WP, WB };

	(void)unused;
	for (unsigned int i = 0; i < 5; i++) {
		for (unsigned int j = 0; j < 5; j++) {
			unsigned int a = types[i], b = types[j];
			unsigned int both = a == b					 ? a :
					    (a == WT && b == WB) || (a == WB && b == WT) ? WT :
											   UC;

			begin(ON | WC);
			range(1, SIZE_1G | a, MASK36(SIZE_1G));
			range(6, SIZE_1G | b, MASK36(SIZE_1G));
			expect(SIZE_1G, both, both == WC ? BIT(36) : 2 * SIZE_1G);
		}
	}
	begin(ON | WC); /* three: WT wins over WB in any order, UC over all */
	range(0, WB, MASK36(SIZE_2M));
	range(1, WT, MASK36(SIZE_2M));
	range(2, WB, MASK36(SIZE_2M));
	expect(0, WT, SIZE_2M);
	range(3, UC, MASK36(SIZE_1M));
	expect(0, UC, SIZE_1M);
	expect(SIZE_1M, WT, SIZE_2M);
}

static void odd_masks(void **unused)
{
	(void)unused;
	begin(ON | UC); /* a base below the mask's bits counts rounded down */
	range(0, 0x12345000 | WB, MASK36(SIZE_1M));
	expect(0x12300000, WB, 0x12400000);
	begin(ON | UC); /* nothing compared: everything matches */
	range(0, WB, VALID);
	expect(0x5000, WB, BIT(36));
	begin(ON | UC); /* a mask for 32 bits on a 36-bit processor: once in every 4 GiB */
	range(0, 0x40000000 | WB, (BIT(32) - SIZE_1G) | VALID);
	expect(0, UC, SIZE_1G);
	expect(SIZE_1G, WB, 2 * SIZE_1G);
	expect(2 * SIZE_1G, UC, 5 * SIZE_1G);
	expect(5 * SIZE_1G, WB, 6 * SIZE_1G);
	begin(ON | UC); /* every other 2 MiB of the first GiB */
	range(0, SIZE_2M | WB, MASK36(SIZE_2M) & ~(uint64_t)(SIZE_1G - 2 * SIZE_2M));
	expect(0, UC, SIZE_2M);
	expect(SIZE_2M, WB, 2 * SIZE_2M);
	expect(2 * SIZE_2M, UC, 3 * SIZE_2M);
	expect(SIZE_1G - SIZE_2M, WB, SIZE_1G);
	begin(ON | WB); /* bits above the processor's address width don't count */
	range(0, BIT(40) | WT, MASK36(SIZE_2M) | BIT(40));
	expect(0, WT, SIZE_2M);
	begin(ON | WB); /* reserved types are UC */
	range(0, 3, MASK36(SIZE_2M));
	range(1, SIZE_1G | 7, MASK36(SIZE_2M));
	range(2, 2 * SIZE_1G | 0x16, MASK36(SIZE_2M));
	expect(0, UC, SIZE_2M);
	expect(SIZE_1G, UC, SIZE_1G + SIZE_2M);
	expect(2 * SIZE_1G, UC, 2 * SIZE_1G + SIZE_2M);
}

static void the_end_only_shrinks(void **unused)
{
	uint64_t end = 0x3000;

	(void)unused;
	begin(ON | UC);
	range(0, WB, MASK36(SIZE_1G));
	assert_int_equal(mtrr_type(&state, 0x2000, &end), WB);
	assert_int_equal(end, 0x3000);
	end = UINT64_MAX & ~0xfffull;
	assert_int_equal(mtrr_type(&state, SIZE_1G, &end), UC);
	assert_int_equal(end, UINT64_MAX & ~0xfffull);
	end = SIZE_1G + 0x1000;
	assert_int_equal(mtrr_type(&state, SIZE_1G - 0x1000, &end), WB);
	assert_int_equal(end, SIZE_1G);
}

/* ---- Random, against a page at a time ---- */

static uint64_t rng_state = 0x7ee5;

static uint64_t rng(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dull;
}

static uint64_t below(uint64_t n)
{
	return (rng() >> 8) % n;
}

static unsigned int oracle_fixed(uint64_t page)
{
	static const struct {
		uint64_t start, block;
	} msr[11] = { { 0x00000, 0x10000 }, { 0x80000, 0x4000 }, { 0xa0000, 0x4000 }, { 0xc0000, 0x1000 },
		      { 0xc8000, 0x1000 },  { 0xd0000, 0x1000 }, { 0xd8000, 0x1000 }, { 0xe0000, 0x1000 },
		      { 0xe8000, 0x1000 },  { 0xf0000, 0x1000 }, { 0xf8000, 0x1000 } };

	for (unsigned int i = 0; i < 11; i++)
		for (unsigned int byte = 0; byte < 8; byte++)
			if (page >= msr[i].start + byte * msr[i].block &&
			    page < msr[i].start + (byte + 1) * msr[i].block)
				return ((const uint8_t *)&state.fixed[i])[byte];
	fail();
	return 0;
}

static unsigned int oracle(uint64_t page)
{
	unsigned int seen = 0; /* a bit per type */
	unsigned int type;

	if (!(state.def_type & BIT(11)))
		return 0;
	if (page < 0x100000 && state.has_fixed && (state.def_type & BIT(10)))
		return oracle_fixed(page);
	for (unsigned int i = 0; i < state.variable_count; i++) {
		uint64_t mask = state.variable[i].mask & (BIT(state.phys_bits) - 1) & ~0xfffull;

		if ((state.variable[i].mask & 0x800) && (page & mask) == (state.variable[i].base & mask))
			seen |= 1u << (state.variable[i].base & 0xff);
	}
	if (!seen)
		return state.def_type & 0xff;
	for (type = 0; type < 8; type++)
		if (seen == 1u << type)
			return type;
	return seen == (1u << WT | 1u << WB) ? WT : UC;
}

static unsigned int random_type(void)
{
	static const unsigned char types[] = { UC, WC, WT, WP, WB, WB };

	return types[below(6)];
}

static void random_registers(uint64_t space)
{
	begin((below(16) ? BIT(11) : 0) | below(2) << 10 | random_type());
	state.has_fixed = below(4) != 0;
	state.phys_bits = 25 + (unsigned int)below(12);
	state.variable_count = (unsigned int)below(11);
	for (unsigned int i = 0; i < 11; i++)
		for (unsigned int byte = 0; byte < 8; byte++)
			((uint8_t *)&state.fixed[i])[byte] = (uint8_t)random_type();
	for (unsigned int i = 0; i < state.variable_count; i++) {
		uint64_t size = PAGE_SIZE << below(14);
		uint64_t mask = (BIT(state.phys_bits) - 1) & ~(size - 1);

		if (below(4) == 0) /* gaps, and bits at random */
			mask &= below(2) ? rng() : ~(PAGE_SIZE << below(16));
		range(i, below(space / size) * size | random_type(), mask | (below(8) ? VALID : 0));
		if (below(8) == 0)
			state.variable[i].base |= below(256) << 12;
	}
}

static void random_against_oracle(void **unused)
{
	const uint64_t space = 32 * SIZE_1M;

	(void)unused;
	for (unsigned int round = 0; round < 600; round++) {
		uint64_t start = 0;

		random_registers(space);
		while (start < space) {
			uint64_t limit = below(4) ? space : start + PAGE_SIZE * (1 + below(64));
			uint64_t end = limit;
			unsigned int type = mtrr_type(&state, start, &end);

			assert_true(end > start && end <= limit && IS_ALIGNED(end, PAGE_SIZE));
			for (uint64_t page = start; page < end; page += PAGE_SIZE)
				if (oracle(page) != type)
					fail_msg("round %u: 0x%lx: %u, in a stretch of %u", round, page,
						 oracle(page), type);
			if (end < limit)
				assert_int_not_equal(oracle(end), type);
			start = end;
		}
	}
}

/* ---- The registers, and the tables made from them ---- */

static void msr_numbers(void **unused)
{
	unsigned int count = 0;

	(void)unused;
	for (uint32_t msr = 0; msr < 0x1000; msr++)
		count += vmx_is_mtrr(msr);
	assert_int_equal(count, 80 + 11 + 1);
	for (uint32_t msr = 0x200; msr < 0x251; msr++)
		assert_true(vmx_is_mtrr(msr));
	for (uint32_t msr = 0x268; msr < 0x270; msr++)
		assert_true(vmx_is_mtrr(msr));
	assert_true(vmx_is_mtrr(0x258) && vmx_is_mtrr(0x259) && vmx_is_mtrr(0x2ff));
	assert_false(vmx_is_mtrr(0xfe) || vmx_is_mtrr(0x277));
}

static void expect_now(uint64_t start, unsigned int type, uint64_t end)
{
	uint64_t stop = BIT(48);

	assert_int_equal(vmx_memory_type(start, &stop), type);
	assert_int_equal(stop, end);
}

static void writes(void **unused)
{
	static struct vp vp0 = { .index = 0 }, vp1 = { .index = 1 };

	(void)unused;
	has_mtrrs = false;
	vmx_mtrr_init();
	expect_now(0, WB, BIT(48));
	assert_false(vmx_mtrr_write(&vp0, MSR_MTRR_DEF_TYPE, 0));

	power_on(36, MTRR_CAP_FIXED | 2);
	expect_now(0, UC, BIT(48));
	assert_false(vmx_mtrr_write(&vp0, 0x204, WB));
	assert_false(vmx_mtrr_write(&vp0, 0x200, BIT(36)));
	assert_false(vmx_mtrr_write(&vp0, MSR_MTRR_DEF_TYPE, BIT(9)));
	/* All off: written, nothing changes. */
	assert_true(vmx_mtrr_write(&vp0, 0x200, SIZE_1G | WB));
	assert_true(vmx_mtrr_write(&vp0, 0x201, MASK36(SIZE_1G)));
	assert_true(vmx_mtrr_write(&vp0, 0x26f, 0x0606060606060606));
	assert_true(vmx_mtrr_write(&vp0, MSR_MTRR_DEF_TYPE, MTRR_DEF_FIXED_ENABLE | WB));
	assert_int_equal(changes, 0);
	assert_int_equal(msrs[0x201], MASK36(SIZE_1G));
	assert_true(vmx_mtrr_write(&vp0, MSR_MTRR_DEF_TYPE, ON | UC));
	assert_int_equal(changes, 1);
	expect_now(0, UC, SIZE_1G);
	expect_now(SIZE_1G, WB, 2 * SIZE_1G);
	assert_true(vmx_mtrr_write(&vp0, 0x26e, 0x0606060606060606)); /* fixed ranges are off */
	assert_true(vmx_mtrr_write(&vp0, 0x202, WT));		      /* not valid yet */
	assert_int_equal(changes, 1);
	assert_true(vmx_mtrr_write(&vp0, MSR_MTRR_DEF_TYPE, ON_FIXED | UC));
	assert_int_equal(changes, 2);
	expect_now(0xf0000, WB, 0x100000);
	/* Off for a change: the types stay as they were until it is done. */
	assert_true(vmx_mtrr_write(&vp0, MSR_MTRR_DEF_TYPE, MTRR_DEF_FIXED_ENABLE | UC));
	assert_true(vmx_mtrr_write(&vp0, 0x26f, 0));
	assert_int_equal(changes, 2);
	expect_now(0xf0000, WB, 0x100000);
	assert_true(vmx_mtrr_write(&vp0, MSR_MTRR_DEF_TYPE, ON_FIXED | UC));
	assert_int_equal(changes, 3);
	expect_now(0xf0000, WB, 0xf8000);
	assert_true(vmx_mtrr_write(&vp0, 0x26f, 0x0606060606060606));
	assert_int_equal(changes, 4);
	/* Another processor: its own registers only. */
	assert_true(vmx_mtrr_write(&vp1, MSR_MTRR_DEF_TYPE, 0));
	assert_int_equal(changes, 4);
	expect_now(0xf0000, WB, 0x100000);
}

#define ARENA_PAGES 256u

struct page_pool host_pool;

static uint8_t *arena;

hpa_t hv_virt_to_phys(const void *p)
{
	return HPA((uint64_t)((const uint8_t *)p - arena));
}

void *hv_phys_to_virt(hpa_t hpa)
{
	return arena + hpa.v;
}

static void expect_leaf(uint64_t gpa, unsigned int type, unsigned int perm, uint64_t size)
{
	struct ss_mapping mapping;

	assert_true(ss_lookup(root, GPA(gpa), &mapping));
	assert_int_equal(mapping.hpa.v, gpa);
	assert_int_equal(mapping.memtype, type);
	assert_int_equal(mapping.perm, perm);
	assert_int_equal(mapping.page_size, size);
}

static void expect_tables(unsigned int low, unsigned int ram, unsigned int device)
{
	struct ss_mapping mapping;

	expect_leaf(SIZE_2M, ram, SS_RWX, SIZE_2M);
	expect_leaf(SIZE_1G, ram, SS_RWX, SIZE_1G);
	expect_leaf(3 * SIZE_1G, device, SS_RWX, SIZE_1G);
	expect_leaf(64 * SIZE_1G, device, SS_READ, SIZE_4K);
	expect_leaf(64 * SIZE_1G + SIZE_4K, device, SS_RWX, SIZE_4K);
	if (low == ram)
		expect_leaf(0xa0000, low, SS_RWX, SIZE_2M);
	else
		expect_leaf(0xa0000, low, SS_RWX, SIZE_4K);
	/* What isn't there or isn't at its own address stays as it is. */
	assert_false(ss_lookup(root, GPA(2 * SIZE_2M), NULL));
	assert_false(ss_lookup(root, GPA(5 * SIZE_1G), NULL));
	assert_true(ss_lookup(root, GPA(32 * SIZE_1G), &mapping));
	assert_int_equal(mapping.hpa.v, 0);
	assert_int_equal(mapping.memtype, WP);
}

/* As Linux changes MTRRs: off, written, on again. */
static void tables_follow(void **unused)
{
	static struct vp vp0 = { .index = 0 };
	static struct second_stage ss;
	uint64_t generation;

	(void)unused;
	arena = aligned_alloc(SIZE_2M, SIZE_2M);
	assert_non_null(arena);
	assert_int_equal(page_pool_init(&host_pool, arena, ARENA_PAGES), 0);
	assert_int_equal(ss_init(&ss, &ss_format_ept, &host_pages, SS_1G_PAGES), 0);
	power_on(39, MTRR_CAP_FIXED | 8);
	msrs[0x200] = WB; /* 2 GiB of RAM */
	msrs[0x201] = (BIT(39) - 2 * SIZE_1G) | VALID;
	memset(&msrs[0x250], 6, 8);
	memset(&msrs[0x258], 6, 8);
	memset(&msrs[0x268], 6, 64); /* a0000 to bffff: UC */
	msrs[MSR_MTRR_DEF_TYPE] = ON_FIXED | UC;
	vmx_mtrr_init();
	assert_int_equal(memory_types_map(&ss, 0, 2 * SIZE_2M, vmx_memory_type), 0);
	assert_int_equal(memory_types_map(&ss, 3 * SIZE_2M, 4 * SIZE_1G, vmx_memory_type), 0);
	assert_int_equal(ss_map(&ss, GPA(32 * SIZE_1G), HPA(0), SIZE_4K, SS_RWX, WP), 0);
	assert_int_equal(ss_map(&ss, GPA(64 * SIZE_1G), HPA(64 * SIZE_1G), SIZE_4K, SS_READ, UC), 0);
	assert_int_equal(
		memory_types_map(&ss, 64 * SIZE_1G + SIZE_4K, 64 * SIZE_1G + 2 * SIZE_4K, vmx_memory_type),
		0);
	root = &ss;
	expect_tables(UC, WB, UC);
	generation = ss.generation;

	assert_int_equal(memory_types_refresh(&ss, vmx_memory_type), 0);
	assert_int_equal(ss.generation, generation); /* right already: nothing was touched */

	assert_true(vmx_mtrr_write(&vp0, MSR_MTRR_DEF_TYPE, UC));
	expect_tables(UC, WB, UC);
	assert_true(vmx_mtrr_write(&vp0, 0x202, 3 * SIZE_1G | WC));
	assert_true(vmx_mtrr_write(&vp0, 0x203, (BIT(39) - SIZE_1G) | VALID));
	assert_true(vmx_mtrr_write(&vp0, 0x204, 64 * SIZE_1G | WC));
	assert_true(vmx_mtrr_write(&vp0, 0x205, (BIT(39) - 2 * SIZE_4K) | VALID));
	assert_int_equal(ss.generation, generation);
	expect_tables(UC, WB, UC);
	assert_true(vmx_mtrr_write(&vp0, MSR_MTRR_DEF_TYPE, ON_FIXED | UC));
	expect_tables(UC, WB, WC);

	/* No page left: what needs none follows, the rest keeps its type. */
	ss_note_flush(&ss, ss.generation);
	ss_reclaim(&ss);
	root = NULL;
	assert_true(vmx_mtrr_write(&vp0, 0x204, 64 * SIZE_1G | WT));
	assert_true(vmx_mtrr_write(&vp0, 0x203, (BIT(39) - SIZE_2M) | VALID));
	while (page_alloc(&host_pool, 0))
		;
	root = &ss;
	assert_int_equal(memory_types_refresh(&ss, vmx_memory_type), -ENOMEM);
	expect_leaf(3 * SIZE_1G, WC, SS_RWX, SIZE_1G);
	expect_leaf(64 * SIZE_1G, WT, SS_READ, SIZE_4K);
	root = NULL;
	free(arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(absent_and_disabled),
		cmocka_unit_test(fixed_ranges),
		cmocka_unit_test(variable_ranges),
		cmocka_unit_test(overlaps),
		cmocka_unit_test(odd_masks),
		cmocka_unit_test(the_end_only_shrinks),
		cmocka_unit_test(random_against_oracle),
		cmocka_unit_test(msr_numbers),
		cmocka_unit_test(writes),
		cmocka_unit_test(tables_follow),
	};

	return cmocka_run_group_tests_name("mtrr", tests, NULL, NULL);
}
