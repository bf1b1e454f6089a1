/* unit: core/second_stage.c core/page_alloc.c core/page_source.c svm/npt.c vmx/ept.c */
/* SPDX-License-Identifier: MIT */
/*
 * Second-stage tables in the NPT and in the EPT format: each test runs in both. A walker
 * of the test's own, which knows the formats from the manuals and not from struct ss_format,
 * checks what a processor would see.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <trivet/second_stage.h>

#include "../../svm/npt.h"
#include "../../vmx/ept.h"

#define ARENA_PAGES 6144u /* 24 MiB */
#define ARENA_HPA 0x180000000ull

static uint8_t *arena;
struct page_pool host_pool;
static struct second_stage ss;
static bool use_ept;

hpa_t hv_virt_to_phys(const void *p)
{
	assert_true((const uint8_t *)p >= arena && (const uint8_t *)p < arena + ARENA_PAGES * PAGE_SIZE);
	return HPA(ARENA_HPA + (uint64_t)((const uint8_t *)p - arena));
}

void *hv_phys_to_virt(hpa_t hpa)
{
	assert_true(hpa.v >= ARENA_HPA && hpa.v < ARENA_HPA + ARENA_PAGES * PAGE_SIZE);
	return arena + (hpa.v - ARENA_HPA);
}

static void begin_with(bool ept, uint64_t flags, size_t pages)
{
	use_ept = ept;
	assert_int_equal(page_pool_init(&host_pool, arena, pages), 0);
	assert_int_equal(ss_init(&ss, ept ? &ss_format_ept : &ss_format_npt, &host_pages, flags), 0);
}

static void flush_and_reclaim(void)
{
	ss_note_flush(&ss, ss.generation);
	ss_reclaim(&ss);
	assert_int_equal(page_pool_free_pages(&host_pool) + ss.table_pages,
			 page_pool_total_pages(&host_pool));
}

static void end(void)
{
	ss_destroy(&ss);
	page_pool_check(&host_pool);
	assert_int_equal(page_pool_free_pages(&host_pool), page_pool_total_pages(&host_pool));
}

static int group_setup(void **state)
{
	(void)state;
	arena = aligned_alloc(SIZE_2M, ARENA_PAGES * PAGE_SIZE);
	return arena ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	free(arena);
	return 0;
}

/* ---- What the processor sees ---- */

struct seen {
	bool mapped;
	uint64_t hpa;
	unsigned perm;
	unsigned memtype;
	uint64_t page_size;
};

/*
 * APM2 5.3, 15.25: P, R/W, U/S, PS, NX; a nested access is a user access, so U/S must be set on
 * every level.
 */
static struct seen walk_npt(uint64_t root, uint64_t gpa)
{
	struct seen seen = { .perm = SS_RWX, .page_size = 512 * SIZE_1G };
	uint64_t table = root;

	for (int shift = 39;; shift -= 9, seen.page_size /= 512) {
		uint64_t entry = ((uint64_t *)hv_phys_to_virt(HPA(table)))[gpa >> shift & 511];

		if (!(entry & 1)) {
			assert_int_equal(entry & ~BIT(11), 0);
			return (struct seen){ 0 };
		}
		assert_true(entry & 4);
		if (!(entry & 2))
			seen.perm &= ~(unsigned)SS_WRITE;
		if (entry >> 63)
			seen.perm &= ~(unsigned)SS_EXEC;
		if (shift == 12 || (entry & 0x80)) {
			assert_true(shift <= 30);
			assert_int_equal(entry & (seen.page_size - 1) & 0xfffffffffffff000, 0);
			seen.mapped = true;
			seen.hpa = (entry & 0xffffffffff000) + (gpa & (seen.page_size - 1));
			return seen;
		}
		table = entry & 0xffffffffff000;
	}
}

/*
 * SDM3 29.3.2: R, W, X in bits 2:0, memory type in 5:3 of a leaf, bit 7 a large page (ignored in
 * the last level), accessed and dirty in 9:8. Misconfigurations (SDM3 29.3.3.1): write without read; execute alone where the
 * processor lacks it; reserved bits of a table entry. "Ignore PAT" (bit 6) would take the guest's PAT out.
 */
static struct seen walk_ept(uint64_t root, uint64_t gpa)
{
	struct seen seen = { .perm = SS_RWX, .page_size = 512 * SIZE_1G };
	uint64_t table = root;

	for (int shift = 39;; shift -= 9, seen.page_size /= 512) {
		uint64_t entry = ((uint64_t *)hv_phys_to_virt(HPA(table)))[gpa >> shift & 511];

		if (!(entry & 7)) {
			assert_int_equal(entry & ~BIT(11), 0);
			return (struct seen){ 0 };
		}
		assert_true(entry & 1);
		assert_int_equal(entry & (shift == 12 ? 0xfff0000000000440 : 0xfff0000000000c40),
				 0); /* 11: alone */
		seen.perm &= (unsigned)entry & 7;
		if (shift == 12 || (entry & 0x80)) {
			assert_true(shift <= 30);
			assert_int_equal(entry & (seen.page_size - 1) & 0xfffffffffffff000, 0);
			assert_true(shift != 12 || !(entry & 0x80));
			seen.mapped = true;
			seen.memtype = entry >> 3 & 7;
			seen.hpa = (entry & 0xffffffffff000) + (gpa & (seen.page_size - 1));
			return seen;
		}
		assert_int_equal(entry & 0xf8, 0); /* reserved in a table entry */
		table = entry & 0xffffffffff000;
	}
}

/* Walks as the processor, and checks that ss_lookup() says the same. */
static struct seen look(uint64_t gpa)
{
	struct seen seen = use_ept ? walk_ept(ss_root_hpa(&ss).v, gpa) : walk_npt(ss_root_hpa(&ss).v, gpa);
	struct ss_mapping mapping;
	bool found = ss_lookup(&ss, GPA(gpa), &mapping);

	assert_int_equal(found, seen.mapped);
	assert_int_equal(ss_lookup(&ss, GPA(gpa), NULL), seen.mapped);
	if (found) {
		assert_int_equal(mapping.hpa.v, seen.hpa);
		assert_int_equal(mapping.perm, seen.perm);
		assert_int_equal(mapping.memtype, seen.memtype);
		assert_int_equal(mapping.page_size, seen.page_size);
	}
	return seen;
}

static void expect_at(uint64_t gpa, uint64_t hpa, unsigned perm, uint64_t page_size, int line)
{
	struct seen seen = look(gpa);

	if (!seen.mapped || seen.hpa != hpa || seen.perm != perm || seen.page_size != page_size)
		fail_msg("line %d: gpa %#lx: mapped %d hpa %#lx perm %u page size %#lx", line, gpa,
			 seen.mapped, seen.hpa, seen.perm, seen.page_size);
}
#define expect(gpa, hpa, perm, page_size) expect_at(gpa, hpa, perm, page_size, __LINE__)

#define expect_hole(gpa) assert_false(look(gpa).mapped)

/* Maps a stretch once more, which is mapped in one piece, with other rights. */
static int set_rights(uint64_t gpa, uint64_t size, unsigned perm)
{
	struct seen now = look(gpa);

	return ss_map(&ss, GPA(gpa), HPA(now.hpa), size, perm, now.memtype);
}

/* ---- Directed tests, each in both formats ---- */

static void starts_empty(bool ept)
{
	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss.table_pages, 1);
	expect_hole(0);
	expect_hole(BIT(47));
	expect_hole(BIT(48) - 1);
	assert_false(ss_lookup(&ss, GPA(BIT(48)), NULL));
	assert_false(ss_lookup(&ss, GPA(UINT64_MAX), NULL));
	assert_false(ss_needs_flush(&ss));
	end();
	assert_int_equal(page_pool_init(&host_pool, arena, 64), 0);
	assert_int_equal(ss_init(&ss, &ss_format_ept, &host_pages, 8), -EINVAL);
	page_pool_fail_nth(&host_pool, 1);
	assert_int_equal(ss_init(&ss, &ss_format_ept, &host_pages, 0), -ENOMEM);
}

static void holes_have_a_size(bool ept)
{
	struct ss_mapping mapping;

	begin_with(ept, SS_1G_PAGES, 64);
	assert_false(ss_lookup(&ss, GPA(5 * SIZE_1G), &mapping));
	assert_int_equal(mapping.page_size, 512 * SIZE_1G);
	assert_int_equal(ss_map(&ss, GPA(5 * SIZE_1G), HPA(0), SIZE_4K, SS_RWX, 0), 0);
	assert_false(ss_lookup(&ss, GPA(5 * SIZE_1G + SIZE_4K), &mapping));
	assert_int_equal(mapping.page_size, SIZE_4K);
	assert_false(ss_lookup(&ss, GPA(5 * SIZE_1G + SIZE_2M), &mapping));
	assert_int_equal(mapping.page_size, SIZE_2M);
	assert_false(ss_lookup(&ss, GPA(6 * SIZE_1G), &mapping));
	assert_int_equal(mapping.page_size, SIZE_1G);
	assert_false(ss_lookup(&ss, GPA(512 * SIZE_1G), &mapping));
	assert_int_equal(mapping.page_size, 512 * SIZE_1G);
	end();
}

static void every_permission_and_size(bool ept)
{
	const uint64_t sizes[] = { SIZE_4K, SIZE_2M, SIZE_1G };

	begin_with(ept, SS_1G_PAGES, 64);
	for (unsigned s = 0; s < 3; s++) {
		for (unsigned perm = 0; perm <= 8; perm++) {
			uint64_t gpa = 64 * SIZE_1G, hpa = 5 * SIZE_1G;
			bool valid = (perm & SS_READ) && perm < 8;

			assert_int_equal(ss_map(&ss, GPA(gpa), HPA(hpa), sizes[s], perm, 0),
					 valid ? 0 : -EINVAL);
			if (valid) {
				expect(gpa, hpa, perm, sizes[s]);
				expect(gpa + sizes[s] - 1, hpa + sizes[s] - 1, perm, sizes[s]);
			}
			expect_hole(gpa + sizes[s]);
			expect_hole(gpa - 1);
			for (unsigned next = 0; valid && next <= 8; next++) {
				bool ok = (next & SS_READ) && next < 8;

				assert_int_equal(set_rights(gpa, sizes[s], next), ok ? 0 : -EINVAL);
				if (ok)
					expect(gpa, hpa, next, sizes[s]);
				assert_int_equal(set_rights(gpa, sizes[s], perm), 0);
				expect(gpa, hpa, perm, sizes[s]);
			}
			assert_int_equal(ss_unmap(&ss, GPA(gpa), sizes[s]), 0);
			expect_hole(gpa);
			assert_int_equal(ss.table_pages, 1);
			flush_and_reclaim();
		}
	}
	end();
}

static void memory_types(bool ept)
{
	begin_with(ept, SS_1G_PAGES, 64);
	if (ept) {
		for (unsigned type = 0; type < 8; type++) {
			assert_int_equal(ss_map(&ss, GPA(type * SIZE_2M), HPA(0), SIZE_2M, SS_RWX, type), 0);
			assert_int_equal(look(type * SIZE_2M).memtype, type);
		}
		assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_2M, SS_RWX, 8), -EINVAL);
		/*
		 * A split and a change of rights keep the type; pages of different type don't
		 * merge.
		 */
		assert_int_equal(set_rights(6 * SIZE_2M, SIZE_4K, SS_READ), 0);
		assert_int_equal(look(6 * SIZE_2M).memtype, 6);
		assert_int_equal(look(6 * SIZE_2M + SIZE_4K).memtype, 6);
		assert_int_equal(ss_map(&ss, GPA(6 * SIZE_2M), HPA(0), SIZE_4K, SS_RWX, 5), 0);
		expect(6 * SIZE_2M, 0, SS_RWX, SIZE_4K);
		assert_int_equal(ss_map(&ss, GPA(6 * SIZE_2M), HPA(0), SIZE_4K, SS_RWX, 6), 0);
		expect(6 * SIZE_2M, 0, SS_RWX, SIZE_2M);
		assert_int_equal(look(6 * SIZE_2M).memtype, 6);
	} else {
		/* APM2 5.4.1: PWT and PCD. */
		assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_2M, SS_RWX, ss_format_npt.uncached_memtype),
				 0);
		assert_int_equal(((uint64_t *)hv_phys_to_virt(
					 HPA(((uint64_t *)hv_phys_to_virt(HPA(ss.root[0] & ~0xfffull)))[0] &
					     ~0xfffull)))[0] &
					 0x18,
				 0x18);
		assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_2M, SS_RWX, 4), -EINVAL);
	}
	end();
}

static void expect_reserved(uint64_t gpa, uint64_t size)
{
	struct ss_mapping mapping;

	assert_false(ss_lookup(&ss, GPA(gpa), &mapping));
	assert_true(mapping.reserved);
	assert_int_equal(mapping.page_size, size);
}

/* The processor sees a hole; a lookup tells them apart. Large where it can be, split and merged as leaves are. */
static void what_is_reserved_is_no_hole(bool ept)
{
	struct ss_mapping mapping;
	uint64_t generation;

	begin_with(ept, SS_1G_PAGES, 64);
	generation = ss.generation;
	assert_int_equal(ss_reserve(&ss, GPA(SIZE_2M), 2 * SIZE_2M), 0);
	assert_int_equal(ss.generation, generation); /* nothing was there that a TLB could hold */
	assert_int_equal(ss.table_pages, 3);
	expect_reserved(SIZE_2M + 5, SIZE_2M);
	assert_false(ss_lookup(&ss, GPA(0), &mapping));
	assert_false(mapping.reserved);
	assert_int_equal(ss_map(&ss, GPA(SIZE_2M + SIZE_4K), HPA(0), SIZE_4K, SS_RWX, 0), 0);
	expect_reserved(SIZE_2M, SIZE_4K);
	expect(SIZE_2M + SIZE_4K, 0, SS_RWX, SIZE_4K);
	assert_int_equal(set_rights(SIZE_2M + SIZE_4K, SIZE_4K, SS_READ), 0);
	expect_reserved(SIZE_2M, SIZE_4K);
	expect(SIZE_2M + SIZE_4K, 0, SS_READ, SIZE_4K);
	generation = ss.generation;
	assert_int_equal(ss_reserve(&ss, GPA(SIZE_2M + SIZE_4K), SIZE_4K), 0);
	assert_true(ss.generation > generation);
	expect_reserved(SIZE_2M, SIZE_2M);
	flush_and_reclaim();
	assert_int_equal(ss.table_pages, 3);
	assert_int_equal(ss_unmap(&ss, GPA(SIZE_2M), SIZE_4K), 0);
	assert_false(ss_lookup(&ss, GPA(SIZE_2M), &mapping));
	assert_false(mapping.reserved);
	assert_int_equal(ss_reserve(&ss, GPA(SIZE_2M), SIZE_4K), 0);
	assert_int_equal(ss_unmap(&ss, GPA(0), SIZE_1G), 0);
	flush_and_reclaim();
	assert_int_equal(ss.table_pages, 1);
	end();
}

/* Dirty bits by the page need leaves by the page. */
static void small_pages_stay_small(bool ept)
{
	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_2M, SS_RWX, 0), 0);
	ss.flags |= SS_SMALL_PAGES;
	assert_int_equal(ss_map(&ss, GPA(SIZE_2M), HPA(SIZE_2M), SIZE_2M, SS_RWX, 0), 0);
	expect(SIZE_2M, SIZE_2M, SS_RWX, SIZE_4K);
	expect(0, 0, SS_RWX, SIZE_2M);
	ss.flags &= ~SS_SMALL_PAGES;
	assert_int_equal(set_rights(SIZE_2M, SIZE_4K, SS_READ), 0);
	assert_int_equal(set_rights(SIZE_2M, SIZE_4K, SS_RWX), 0);
	expect(SIZE_2M, SIZE_2M, SS_RWX, SIZE_2M);
	end();
}

static void bad_arguments(bool ept)
{
	const uint64_t top = BIT(48);

	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), 0, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(1), HPA(0), SIZE_4K, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0x800), SIZE_4K, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_4K + 1, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(top), HPA(0), SIZE_4K, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(top - SIZE_4K), HPA(0), 2 * SIZE_4K, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(-SIZE_4K), HPA(0), 2 * SIZE_4K, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(SIZE_4K), HPA(0), -SIZE_4K, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), top + SIZE_4K, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(BIT(52)), SIZE_4K, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(BIT(52) - SIZE_4K), 2 * SIZE_4K, SS_RWX, 0), -EINVAL);
	assert_int_equal(ss_unmap(&ss, GPA(0), 0), -EINVAL);
	assert_int_equal(ss_unmap(&ss, GPA(8), SIZE_4K), -EINVAL);
	assert_int_equal(ss_unmap(&ss, GPA(top - SIZE_4K), 2 * SIZE_4K), -EINVAL);
	assert_int_equal(ss.table_pages, 1);
	assert_int_equal(ss.generation, 0);

	assert_int_equal(ss_map(&ss, GPA(top - SIZE_4K), HPA(BIT(52) - SIZE_4K), SIZE_4K, SS_RWX, 0), 0);
	expect(top - SIZE_4K, BIT(52) - SIZE_4K, SS_RWX, SIZE_4K);
	assert_int_equal(ss_unmap(&ss, GPA(0), top), 0);
	expect_hole(top - SIZE_4K);
	end();
}

static void largest_pages_that_fit(bool ept)
{
	const uint64_t start = SIZE_1G - SIZE_2M - SIZE_4K;
	const uint64_t size = SIZE_4K + SIZE_2M + SIZE_1G + SIZE_2M + SIZE_4K;

	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(start), HPA(start), size, SS_RWX, 0), 0);
	expect_hole(start - 1);
	expect(start, start, SS_RWX, SIZE_4K);
	expect(start + SIZE_4K, start + SIZE_4K, SS_RWX, SIZE_2M);
	expect(SIZE_1G, SIZE_1G, SS_RWX, SIZE_1G);
	expect(2 * SIZE_1G, 2 * SIZE_1G, SS_RWX, SIZE_2M);
	expect(2 * SIZE_1G + SIZE_2M, 2 * SIZE_1G + SIZE_2M, SS_RWX, SIZE_4K);
	expect_hole(start + size);
	assert_int_equal(ss.table_pages, 6); /* root, 512G, 2 x 1G, 2 x 2M */
	assert_false(ss_needs_flush(&ss));
	end();

	/* Host alignment counts too. */
	begin_with(ept, SS_1G_PAGES, ARENA_PAGES);
	assert_int_equal(ss_map(&ss, GPA(SIZE_1G), HPA(SIZE_2M), SIZE_1G, SS_RWX, 0), 0);
	expect(SIZE_1G, SIZE_2M, SS_RWX, SIZE_2M);
	assert_int_equal(ss.table_pages, 3);
	assert_int_equal(ss_map(&ss, GPA(SIZE_1G), HPA(SIZE_4K), SIZE_1G, SS_RWX, 0), 0);
	expect(2 * SIZE_1G - 1, SIZE_1G + SIZE_4K - 1, SS_RWX, SIZE_4K);
	assert_int_equal(ss.table_pages, 3 + 512);
	end();

	/* Without 1 GiB pages neither a map nor a merge makes one. */
	begin_with(ept, 0, 64);
	assert_int_equal(ss_map(&ss, GPA(SIZE_1G), HPA(SIZE_1G), SIZE_1G, SS_RWX, 0), 0);
	expect(SIZE_1G, SIZE_1G, SS_RWX, SIZE_2M);
	assert_int_equal(set_rights(SIZE_1G, SIZE_2M, SS_READ), 0);
	assert_int_equal(set_rights(SIZE_1G, SIZE_2M, SS_RWX), 0);
	expect(SIZE_1G, SIZE_1G, SS_RWX, SIZE_2M);
	end();
}

static void split_changes_only_its_part(bool ept)
{
	const uint64_t hole = 3 * SIZE_1G + 7 * SIZE_2M + 9 * SIZE_4K;

	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), 8 * SIZE_1G, SS_RWX, 0), 0);
	assert_int_equal(ss.table_pages, 2);
	assert_int_equal(ss_unmap(&ss, GPA(hole), SIZE_4K), 0);
	assert_true(ss_needs_flush(&ss));
	assert_int_equal(ss.generation, 1);
	expect_hole(hole);
	expect_hole(hole + 0xfff);
	expect(hole - 1, hole - 1, SS_RWX, SIZE_4K);
	expect(hole + SIZE_4K, hole + SIZE_4K, SS_RWX, SIZE_4K);
	expect(3 * SIZE_1G, 3 * SIZE_1G, SS_RWX, SIZE_2M);
	expect(3 * SIZE_1G + 6 * SIZE_2M, 3 * SIZE_1G + 6 * SIZE_2M, SS_RWX, SIZE_2M);
	expect(3 * SIZE_1G + 8 * SIZE_2M, 3 * SIZE_1G + 8 * SIZE_2M, SS_RWX, SIZE_2M);
	expect(2 * SIZE_1G, 2 * SIZE_1G, SS_RWX, SIZE_1G);
	expect(4 * SIZE_1G, 4 * SIZE_1G, SS_RWX, SIZE_1G);
	assert_int_equal(ss.table_pages, 4);

	assert_int_equal(set_rights(hole - SIZE_4K, SIZE_4K, SS_READ), 0);
	assert_int_equal(set_rights(hole + SIZE_4K, SIZE_4K, SS_READ), 0);
	expect(hole - SIZE_4K, hole - SIZE_4K, SS_READ, SIZE_4K);
	expect_hole(hole);
	expect(hole + SIZE_4K, hole + SIZE_4K, SS_READ, SIZE_4K);
	expect(hole + 2 * SIZE_4K, hole + 2 * SIZE_4K, SS_RWX, SIZE_4K);
	end();
}

static void merge_back_to_one_leaf(bool ept)
{
	const uint64_t spot = 3 * SIZE_1G + 511 * SIZE_2M + 511 * SIZE_4K;

	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), 8 * SIZE_1G, SS_RWX, 0), 0);
	assert_int_equal(set_rights(spot, SIZE_4K, SS_READ | SS_WRITE), 0);
	assert_int_equal(ss.table_pages, 4);
	assert_int_equal(set_rights(spot, SIZE_4K, SS_RWX), 0);
	expect(spot, spot, SS_RWX, SIZE_1G);
	assert_int_equal(ss.table_pages, 2);
	assert_int_equal(ss.retired_pages, 2);
	flush_and_reclaim();

	/* Filling a hole again merges as well; the wrong host page does not. */
	assert_int_equal(ss_unmap(&ss, GPA(spot), SIZE_4K), 0);
	assert_int_equal(ss_map(&ss, GPA(spot), HPA(spot + SIZE_4K), SIZE_4K, SS_RWX, 0), 0);
	expect(spot, spot + SIZE_4K, SS_RWX, SIZE_4K);
	expect(spot - SIZE_4K, spot - SIZE_4K, SS_RWX, SIZE_4K);
	assert_int_equal(ss_map(&ss, GPA(spot), HPA(spot), SIZE_4K, SS_RWX, 0), 0);
	expect(spot, spot, SS_RWX, SIZE_1G);
	flush_and_reclaim();

	/* Page by page into a hole: one leaf in the end. */
	for (unsigned i = 0; i < 512; i++) {
		uint64_t at = 64 * SIZE_1G + (i * 37 % 512) * SIZE_4K;

		assert_int_equal(ss_map(&ss, GPA(at), HPA(at + SIZE_2M), SIZE_4K, SS_READ, 0), 0);
		expect(at, at + SIZE_2M, SS_READ, i == 511 ? SIZE_2M : SIZE_4K);
	}
	/* Contiguous, but not aligned in host memory: stays small. */
	for (unsigned i = 0; i < 512; i++) {
		uint64_t at = 64 * SIZE_1G + i * SIZE_4K;

		assert_int_equal(ss_map(&ss, GPA(at), HPA(at + SIZE_4K), SIZE_4K, SS_READ, 0), 0);
		expect(at, at + SIZE_4K, SS_READ, SIZE_4K);
	}
	/* Empty tables go. */
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(ss_unmap(&ss, GPA(64 * SIZE_1G + i * SIZE_4K), SIZE_4K), 0);
	assert_int_equal(ss.table_pages, 2);
	end();
}

/*
 * The processor sets accessed and dirty bits at its leisure: they must not hinder a merge or count
 * as a change.
 */
static void hardware_bits_are_ignored(bool ept)
{
	uint64_t bits = ept ? BIT(8) | BIT(9) : BIT(5) | BIT(6);
	uint64_t *table;
	uint64_t generation;

	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_2M, SS_RWX, 0), 0);
	assert_int_equal(set_rights(0, SIZE_4K, SS_READ), 0);
	table = ss.root;
	for (unsigned level = 4; level > 1; level--) {
		table[0] |= ept ? BIT(8) : BIT(5);
		table = hv_phys_to_virt(HPA(table[0] & 0xffffffffff000));
	}
	for (unsigned i = 0; i < 512; i += 3)
		table[i] |= bits;
	generation = ss.generation;
	assert_int_equal(ss_map(&ss, GPA(3 * SIZE_4K), HPA(3 * SIZE_4K), SIZE_4K, SS_RWX, 0), 0);
	assert_int_equal(set_rights(3 * SIZE_4K, 64 * SIZE_4K, SS_RWX), 0);
	assert_int_equal(ss.generation, generation);
	expect(0, 0, SS_READ, SIZE_4K);
	assert_int_equal(set_rights(0, SIZE_4K, SS_RWX), 0);
	expect(0, 0, SS_RWX, SIZE_2M);

	/* A large leaf that was written is split and changed in part all the same. */
	table = hv_phys_to_virt(HPA(ss.root[0] & 0xffffffffff000));
	table = hv_phys_to_virt(HPA(table[0] & 0xffffffffff000));
	table[0] |= bits;
	generation = ss.generation;
	assert_int_equal(ss_map(&ss, GPA(SIZE_4K), HPA(SIZE_4K), SIZE_4K, SS_RWX, 0), 0);
	assert_int_equal(ss.generation, generation);
	expect(0, 0, SS_RWX, SIZE_2M);
	assert_int_equal(ss_unmap(&ss, GPA(SIZE_4K), SIZE_4K), 0);
	expect(0, 0, SS_RWX, SIZE_4K);
	table = hv_phys_to_virt(HPA(table[0] & 0xffffffffff000));
	assert_int_equal(table[0] & bits, bits); /* each part may have been what was written */
	assert_int_equal(table[511] & bits, bits);
	end();
}

/* A leaf that is to stay alone is the one page that its neighbours can't make part of theirs. */
static void what_stays_alone_needs_no_table(bool ept)
{
	const uint64_t spot = SIZE_2M + 5 * SIZE_4K;

	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(SIZE_2M), HPA(0), SIZE_2M, SS_READ | SS_WRITE | SS_ALONE, 0),
			 -EINVAL);
	for (unsigned round = 0; round < 3; round++) { /* before, between and after its neighbours */
		for (uint64_t gpa = SIZE_2M; gpa < 2 * SIZE_2M; gpa += SIZE_4K) {
			if (gpa == (round == 0 ? SIZE_2M : SIZE_2M + 77 * SIZE_4K) && round < 2)
				assert_int_equal(ss_map(&ss, GPA(spot), HPA(spot), SIZE_4K,
							SS_READ | SS_WRITE | SS_ALONE, 0),
						 0);
			if (gpa != spot)
				assert_int_equal(
					ss_map(&ss, GPA(gpa), HPA(gpa), SIZE_4K, SS_READ | SS_WRITE, 0), 0);
		}
		if (round == 2) /* whole first */
			assert_int_equal(ss_map(&ss, GPA(spot), HPA(spot), SIZE_4K, SS_READ | SS_WRITE, 0),
					 0);
		assert_int_equal(ss_map(&ss, GPA(spot), HPA(spot), SIZE_4K, SS_READ | SS_WRITE | SS_ALONE, 0),
				 0);
		expect(spot, spot, SS_READ | SS_WRITE, SIZE_4K);
		expect(SIZE_2M, SIZE_2M, SS_READ | SS_WRITE, SIZE_4K);
		flush_and_reclaim();
		page_pool_fail_nth(&host_pool, 1);
		assert_int_equal(ss_unmap(&ss, GPA(spot), SIZE_4K), 0);
		page_pool_fail_nth(&host_pool, 0);
		expect_hole(spot);
		/* As any other page it does. */
		assert_int_equal(ss_map(&ss, GPA(spot), HPA(spot), SIZE_4K, SS_READ | SS_WRITE, 0), 0);
		expect(spot, spot, SS_READ | SS_WRITE, SIZE_2M);
		assert_int_equal(ss_unmap(&ss, GPA(SIZE_2M), SIZE_2M), 0);
	}
	end();
}

static void replacing_goes_both_ways(bool ept)
{
	begin_with(ept, SS_1G_PAGES, 64);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(ss_map(&ss, GPA(i * 2 * SIZE_2M), HPA(i * SIZE_4K), SIZE_4K, SS_READ, 0), 0);
	assert_int_equal(ss.table_pages, 3 + 8);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(4 * SIZE_1G), SIZE_1G, SS_RWX, 0), 0);
	expect(0, 4 * SIZE_1G, SS_RWX, SIZE_1G);
	assert_int_equal(ss.table_pages, 2);
	assert_int_equal(ss.retired_pages, 9);
	flush_and_reclaim();
	assert_int_equal(ss_map(&ss, GPA(SIZE_2M), HPA(SIZE_4K), SIZE_2M, SS_READ, 0), 0);
	expect(SIZE_2M, SIZE_4K, SS_READ, SIZE_4K);
	expect(SIZE_2M - 1, 4 * SIZE_1G + SIZE_2M - 1, SS_RWX, SIZE_2M);
	assert_int_equal(ss_unmap(&ss, GPA(0), BIT(48)), 0);
	assert_int_equal(ss.table_pages, 1);
	flush_and_reclaim();
	end();
}

static void generation_counts_what_needs_a_flush(bool ept)
{
	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_2M, SS_READ, 0), 0);
	assert_int_equal(ss_unmap(&ss, GPA(SIZE_1G), SIZE_1G), 0);
	assert_int_equal(set_rights(0, SIZE_2M, SS_READ), 0);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_2M, SS_READ, 0), 0);
	assert_int_equal(ss_map(&ss, GPA(SIZE_4K), HPA(SIZE_4K), SIZE_4K, SS_READ, 0), 0);
	assert_int_equal(ss.generation, 0);
	assert_int_equal(set_rights(0, SIZE_2M, SS_RWX), 0);
	assert_int_equal(ss.generation, 1);
	assert_int_equal(set_rights(0, SIZE_4K, SS_READ), 0);
	assert_int_equal(ss.generation, 2);
	assert_int_equal(ss_map(&ss, GPA(SIZE_4K), HPA(0), SIZE_4K, SS_RWX, 0), 0);
	assert_int_equal(ss.generation, 3);
	assert_int_equal(ss_unmap(&ss, GPA(0), SIZE_1G), 0);
	assert_int_equal(ss.generation, 4);
	assert_true(ss_needs_flush(&ss));
	ss_note_flush(&ss, 3);
	assert_true(ss_needs_flush(&ss));
	ss_note_flush(&ss, 4);
	ss_note_flush(&ss, 2);
	assert_false(ss_needs_flush(&ss));
	assert_int_equal(ss_reclaim(&ss), 3);
	assert_int_equal(ss_reclaim(&ss), 0);
	end();
}

static void early_reclaim(void)
{
	ss_reclaim(&ss);
}

static void flush_from_the_future(void)
{
	ss_note_flush(&ss, ss.generation + 1);
}

static void flush_then_reclaim(void)
{
	ss_note_flush(&ss, ss.generation);
	ss_reclaim(&ss);
}

static bool aborts(void (*bug)(void))
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		bug();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void reclaim_needs_a_flush(bool ept)
{
	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_4K, SS_READ, 0), 0);
	assert_false(aborts(early_reclaim));
	assert_int_equal(ss_unmap(&ss, GPA(0), SIZE_4K), 0);
	assert_true(aborts(early_reclaim));
	assert_true(aborts(flush_from_the_future));
	assert_false(aborts(flush_then_reclaim));
	end();
}

/*
 * Until ss_reclaim() a processor may still be reading a table that was taken out: it stays, with a hole for its first
 * entry.
 */
static void retired_tables_stay_whole(bool ept)
{
	uint64_t copy[512];
	uint64_t *table;

	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(SIZE_4K), SIZE_2M, SS_READ, 0), 0);
	table = ss.root;
	for (unsigned level = 4; level > 1; level--)
		table = hv_phys_to_virt(HPA(table[0] & 0xffffffffff000));
	memcpy(copy, table, sizeof(copy));
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_2M, SS_RWX, 0), 0);
	assert_int_equal(ss_unmap(&ss, GPA(0), SIZE_2M), 0);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), SIZE_4K, SS_RWX, 0), 0);
	assert_memory_equal(copy + 1, table + 1, sizeof(copy) - sizeof(copy[0]));
	assert_int_equal(table[0] & (ept ? 7 : 1), 0);
	flush_and_reclaim();
	end();
}

static void one_tebibyte_is_cheap(bool ept)
{
	begin_with(ept, SS_1G_PAGES, 64);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), BIT(40), SS_RWX, 0), 0);
	assert_int_equal(ss.table_pages, 3);
	expect(BIT(40) - 1, BIT(40) - 1, SS_RWX, SIZE_1G);
	/* Too much for the pool, and refused quickly: 2^28 entries of 4 KiB. */
	assert_int_equal(ss_map(&ss, GPA(0), HPA(SIZE_4K), BIT(40), SS_RWX, 0), -ENOMEM);
	assert_int_equal(ss.table_pages, 3);
	expect(0, 0, SS_RWX, SIZE_1G);
	end();
}

/* ---- Out of memory at every allocation ---- */

static uint64_t *snapshot_table(const uint64_t *table, unsigned level, uint64_t *to)
{
	memcpy(to, table, PAGE_SIZE);
	to += 512;
	for (unsigned i = 0; level > 1 && i < 512; i++)
		if ((table[i] & 1) && !(table[i] & 0x80))
			to = snapshot_table(hv_phys_to_virt(HPA(table[i] & 0xffffffffff000)), level - 1, to);
	return to;
}

static int difficult_map(void)
{
	return ss_map(&ss, GPA(SIZE_1G - 3 * SIZE_4K), HPA(BIT(40)), SIZE_1G + 7 * SIZE_4K, SS_READ, 0);
}

static int difficult_unmap(void)
{
	return ss_unmap(&ss, GPA(SIZE_1G - 3 * SIZE_4K), SIZE_1G + 7 * SIZE_4K);
}

static int difficult_rights(void)
{
	return set_rights(SIZE_1G - 3 * SIZE_4K, SIZE_1G + 7 * SIZE_4K, SS_READ | SS_WRITE);
}

static void fail_at_every_allocation(bool ept, int (*operation)(void), unsigned expected)
{
	static uint64_t before[600 * 512], after[600 * 512];
	unsigned n = 1;
	int err;

	begin_with(ept, SS_1G_PAGES, 1024);
	assert_int_equal(ss_map(&ss, GPA(0), HPA(0), 8 * SIZE_1G, SS_RWX, 0), 0);
	do {
		size_t free_before = page_pool_free_pages(&host_pool);
		size_t size = (size_t)(snapshot_table(ss.root, 4, before) - before);

		page_pool_fail_nth(&host_pool, n);
		err = operation();
		page_pool_fail_nth(&host_pool, 0);
		if (err) {
			assert_int_equal(err, -ENOMEM);
			assert_int_equal(page_pool_free_pages(&host_pool), free_before);
			assert_int_equal(snapshot_table(ss.root, 4, after) - after, size);
			assert_memory_equal(before, after, size * sizeof(before[0]));
			assert_int_equal(ss.generation, 0);
			assert_int_equal(ss.retired_pages, 0);
			page_pool_check(&host_pool);
			n++;
		}
	} while (err);
	assert_int_equal(n - 1, expected);
	flush_and_reclaim();
	end();
}

static void out_of_memory_changes_nothing(bool ept)
{
	/* Misaligned: both ends' 1G and 2M tables, and all 512 tables of the gigabyte between. */
	fail_at_every_allocation(ept, difficult_map, 3 + 2 + 512);
	fail_at_every_allocation(ept, difficult_unmap, 4);
	fail_at_every_allocation(ept, difficult_rights, 4);
}

/* ---- Random operations against a naive map ---- */

static uint64_t rng_state;

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

/* A window of GPA space, one word per 4 KiB page: hpa | memtype << 4 | perm, 0 a hole. */
struct window {
	uint64_t gpa;
	uint64_t pages;
	uint64_t *model;
};

static struct window windows[] = {
	{ .gpa = SIZE_1G - 4 * SIZE_2M, .pages = (SIZE_1G + 8 * SIZE_2M) / PAGE_SIZE },
	{ .gpa = 512 * SIZE_1G - 3 * SIZE_2M, .pages = 5 * 512 },
	{ .gpa = BIT(47) - SIZE_2M, .pages = 3 * 512 },
	{ .gpa = BIT(48) - 2 * SIZE_2M, .pages = 2 * 512 },
};

static unsigned random_perm(void)
{
	static const unsigned char perms[] = { 1, 3, 5, 7, 7, 7 };

	return perms[below(6)];
}

/* A range that is often whole large pages, sometimes ragged, rarely the whole window. */
static void random_range(const struct window *w, uint64_t *first, uint64_t *count)
{
	uint64_t unit = below(3) ? 1 : 512;

	if (below(400) == 0) {
		*first = unit == 1 ? below(w->pages / 2) : 0;
		*count = w->pages - *first;
		return;
	}
	*first = below(w->pages / unit) * unit;
	*count = (1 + below(unit == 1 ? (below(4) ? 4 : 700) : 3)) * unit;
	if (*count > w->pages - *first)
		*count = w->pages - *first;
}

static bool uniform(const struct window *w, uint64_t first, uint64_t pages)
{
	uint64_t base = w->model[first];
	uint64_t step = base ? PAGE_SIZE : 0;

	if (base && !IS_ALIGNED(base & ~0xfffull, pages * PAGE_SIZE))
		return false;
	for (uint64_t i = 1; i < pages; i++)
		if (w->model[first + i] != base + i * step)
			return false;
	return true;
}

/* The page size that canonical tables have at page `i` of the window. */
static uint64_t expected_page_size(const struct window *w, uint64_t i)
{
	uint64_t gpa = w->gpa + i * PAGE_SIZE;

	for (uint64_t size = SIZE_1G; size > SIZE_4K; size /= 512) {
		uint64_t start = ALIGN_DOWN(gpa, size);

		if (start >= w->gpa && start + size <= w->gpa + w->pages * PAGE_SIZE &&
		    uniform(w, (start - w->gpa) / PAGE_SIZE, size / PAGE_SIZE))
			return size;
	}
	return SIZE_4K;
}

static void check_page(const struct window *w, uint64_t i, bool and_size)
{
	uint64_t gpa = w->gpa + i * PAGE_SIZE;
	struct seen seen = look(gpa);
	uint64_t word = seen.mapped ? seen.hpa | seen.memtype << 4 | seen.perm : 0;

	if (word != w->model[i])
		fail_msg("gpa %#lx: %#lx in the tables, %#lx in the model", gpa, word, w->model[i]);
	if (and_size && seen.mapped && seen.page_size != expected_page_size(w, i))
		fail_msg("gpa %#lx: page size %#lx, could be %#lx", gpa, seen.page_size,
			 expected_page_size(w, i));
}

static bool would_change(const struct window *w, uint64_t first, uint64_t count, const uint64_t *words)
{
	for (uint64_t i = 0; i < count; i++)
		if (w->model[first + i] && w->model[first + i] != words[i])
			return true;
	return false;
}

static void random_operation(void)
{
	static uint64_t words[(SIZE_1G + 8 * SIZE_2M) / PAGE_SIZE];
	static const uint64_t deltas[] = { 0, 0, 0, SIZE_2M, SIZE_4K, SIZE_1G };
	const struct window *w = &windows[below(3) ? 0 : below(ARRAY_SIZE(windows))];
	unsigned perm = random_perm();
	unsigned memtype = use_ept ? (unsigned)(below(10) ? 6 : below(8)) : 0;
	uint64_t first, count, gpa, hpa, size, generation = ss.generation;
	bool maps = below(3) < 2;
	bool full = below(200) == 0;
	bool change;
	int err;

	random_range(w, &first, &count);
	gpa = w->gpa + first * PAGE_SIZE;
	size = count * PAGE_SIZE;
	hpa = gpa + deltas[below(ARRAY_SIZE(deltas))];
	for (uint64_t i = 0; i < count; i++)
		words[i] = maps ? (hpa + i * PAGE_SIZE) | memtype << 4 | perm : 0;
	change = would_change(w, first, count, words);
	if (full)
		page_pool_fail_nth(&host_pool, 1 + below(3));
	if (maps)
		err = ss_map(&ss, GPA(gpa), HPA(hpa), size, perm, memtype);
	else
		err = ss_unmap(&ss, GPA(gpa), size);
	page_pool_fail_nth(&host_pool, 0);
	if (err) {
		assert_int_equal(err, -ENOMEM);
		assert_true(full);
		assert_int_equal(ss.generation, generation);
	} else {
		memcpy(&w->model[first], words, count * sizeof(words[0]));
		assert_true(!change || ss.generation == generation + 1);
	}
	check_page(w, first, true);
	check_page(w, first + count - 1, true);
	if (first)
		check_page(w, first - 1, false);
	if (first + count < w->pages)
		check_page(w, first + count, false);
	check_page(w, first + below(count), false);
	check_page(w, below(w->pages), false);
	assert_int_equal(page_pool_free_pages(&host_pool) + ss.table_pages + ss.retired_pages,
			 page_pool_total_pages(&host_pool));
}

static void check_everything(void)
{
	for (unsigned n = 0; n < ARRAY_SIZE(windows); n++)
		for (uint64_t i = 0; i < windows[n].pages; i++)
			check_page(&windows[n], i, i % 512 == 0);
}

static void random_operations(bool ept)
{
	const char *seed = getenv("SEED");

	rng_state = seed ? strtoull(seed, NULL, 0) : 0x5eed2;
	print_message("SEED=%#llx\n", (unsigned long long)rng_state);
	begin_with(ept, SS_1G_PAGES, ARENA_PAGES);
	for (unsigned n = 0; n < ARRAY_SIZE(windows); n++)
		windows[n].model = calloc(windows[n].pages, sizeof(uint64_t));
	for (unsigned step = 0; step < 100000; step++) {
		random_operation();
		if (below(16) == 0)
			flush_and_reclaim();
		if (step % 10000 == 0)
			check_everything();
	}
	check_everything();
	for (unsigned n = 0; n < ARRAY_SIZE(windows); n++) {
		assert_int_equal(ss_unmap(&ss, GPA(windows[n].gpa), windows[n].pages * PAGE_SIZE), 0);
		free(windows[n].model);
	}
	assert_int_equal(ss.table_pages, 1);
	flush_and_reclaim();
	end();
}

#define IN_BOTH_FORMATS(test)                \
	static void test##_npt(void **state) \
	{                                    \
		(void)state;                 \
		test(false);                 \
	}                                    \
	static void test##_ept(void **state) \
	{                                    \
		(void)state;                 \
		test(true);                  \
	}

#define ALL_TESTS(X)                            \
	X(starts_empty)                         \
	X(holes_have_a_size)                    \
	X(every_permission_and_size)            \
	X(memory_types)                         \
	X(what_is_reserved_is_no_hole)          \
	X(small_pages_stay_small)               \
	X(bad_arguments)                        \
	X(largest_pages_that_fit)               \
	X(split_changes_only_its_part)          \
	X(merge_back_to_one_leaf)               \
	X(hardware_bits_are_ignored)            \
	X(what_stays_alone_needs_no_table)      \
	X(replacing_goes_both_ways)             \
	X(generation_counts_what_needs_a_flush) \
	X(reclaim_needs_a_flush)                \
	X(retired_tables_stay_whole)            \
	X(one_tebibyte_is_cheap)                \
	X(out_of_memory_changes_nothing)        \
	X(random_operations)

ALL_TESTS(IN_BOTH_FORMATS)

#define LIST(test) cmocka_unit_test(test##_npt), cmocka_unit_test(test##_ept),

int main(void)
{
	const struct CMUnitTest tests[] = { ALL_TESTS(LIST) };

	return cmocka_run_group_tests_name("second_stage", tests, group_setup, group_teardown);
}
