/* unit: core/calls_gpa.c core/gpa_space.c core/overlay.c core/page_use.c core/deposit.c core/second_stage.c core/second_stage_access.c core/page_alloc.c core/page_source.c core/memory_types.c core/guest_memory.c svm/npt.c vmx/ept.c */
/* libs: pthread */
/* SPDX-License-Identifier: MIT */
/*
 * The memory of a child, by the calls its parent makes: what is mapped, refused, counted and given back; under overlays; with its accessed and
 * dirty bits; and that no page is ever a child's memory and a deposit at once.
 */
#include <pthread.h>
#include <sched.h>

#include "gpa_fake.h"

static void expect_page(uint64_t gpn, uint64_t page, unsigned int perm)
{
	struct ss_mapping mapping;

	assert_true(ss_lookup(&child.space, GPA(gpn << PAGE_SHIFT), &mapping));
	assert_int_equal(mapping.hpa.v, page << PAGE_SHIFT);
	assert_int_equal(mapping.perm, perm);
}

static enum gpa_state state_of(uint64_t gpn, unsigned int access)
{
	return gpa_space_check(&child, GPA(gpn << PAGE_SHIFT), access, NULL);
}

static uint64_t watched;
static uint32_t mappings_at_flush;

static void watch(void)
{
	mappings_at_flush = page_use_mappings(watched);
}

static void pages_are_mapped_and_counted(bool ept)
{
	const uint64_t list[] = { RAM_FIRST + 9, RAM_FIRST + 10, RAM_FIRST + 3, RAM_FIRST + 3 };

	begin(ept, 16);
	assert_int_equal(map_list(0x100, list, 4, RW), HV_STATUS_SUCCESS);
	assert_int_equal(reps_done, 4);
	assert_int_equal(flushes, 0); /* holes were filled */
	for (unsigned int i = 0; i < 4; i++)
		expect_page(0x100 + i, list[i], SS_READ | SS_WRITE);
	assert_int_equal(page_use_mappings(RAM_FIRST + 9), 1);
	assert_int_equal(page_use_mappings(RAM_FIRST + 3), 2);
	/* The same again, with other rights; and another page in its place. */
	assert_int_equal(map_from(0x100, RAM_FIRST + 9, 2, ALL), HV_STATUS_SUCCESS);
	assert_int_equal(flushes, 1);
	expect_page(0x101, RAM_FIRST + 10, SS_RWX);
	assert_int_equal(page_use_mappings(RAM_FIRST + 9), 1);
	watched = RAM_FIRST + 9;
	on_flush = watch;
	assert_int_equal(map_from(0x100, RAM_FIRST + 30, 1, HV_MAP_GPA_READABLE), HV_STATUS_SUCCESS);
	assert_int_equal(mappings_at_flush, 1); /* until nobody has it any more */
	assert_int_equal(page_use_mappings(RAM_FIRST + 9), 0);
	expect_page(0x100, RAM_FIRST + 30, SS_READ);
	watched = RAM_FIRST + 3;
	assert_int_equal(unmap(0x102, 2, 0), HV_STATUS_SUCCESS);
	assert_int_equal(mappings_at_flush, 2);
	assert_int_equal(page_use_mappings(RAM_FIRST + 3), 0);
	assert_int_equal(state_of(0x102, SS_READ), GPA_UNMAPPED);
	assert_int_equal(unmap(0x5000, 40, 0), HV_STATUS_SUCCESS); /* holes */
	end();
}

static void a_refusal_names_its_element(bool ept)
{
	uint64_t list[4] = { RAM_FIRST, RAM_FIRST + 1, 0, RAM_FIRST + 3 };
	const uint64_t bad[] = { ARENA_HPA >> PAGE_SHIFT,    0xfee00,	     DEPOSIT_FIRST,
				 DEPOSIT_FIRST + 15,	     RAM_FIRST + 77, RAM_FIRST + 78,
				 BIT(GPA_BITS - PAGE_SHIFT), BIT(52),	     UINT64_MAX };

	begin(ept, 16);
	/* An overlay of the root's, and a page that it may only read. */
	assert_int_equal(
		ss_map(&root.space, GPA((RAM_FIRST + 77) << 12), HPA(ARENA_HPA), PAGE_SIZE, SS_RWX, 0), 0);
	assert_int_equal(ss_map(&root.space, GPA((RAM_FIRST + 78) << 12), HPA((RAM_FIRST + 78) << 12),
				PAGE_SIZE, SS_READ, 0),
			 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t gpn = 0x100 + i * 4;

		list[2] = bad[i];
		assert_int_not_equal(map_list(gpn, list, 4, ALL), HV_STATUS_SUCCESS);
		assert_int_equal(reps_done, 2);
		expect_page(gpn + 1, RAM_FIRST + 1, SS_RWX);
		assert_int_equal(state_of(gpn + 2, 0), GPA_UNMAPPED);
		assert_int_equal(page_use_mappings(RAM_FIRST + 1), i + 1);
		assert_int_equal(page_use_mappings(RAM_FIRST + 3), 0);
	}
	assert_int_equal(map_from(0x800, RAM_FIRST + 78, 1, HV_MAP_GPA_READABLE), HV_STATUS_SUCCESS);
	/* Devices, touched or not. */
	assert_int_equal(map_from(0x801, DEVICE_PAGE, 2, RW | HV_MAP_GPA_NOT_CACHED), HV_STATUS_SUCCESS);
	assert_int_equal(map_from(0x803, NEW_DEVICE_PAGE, 2, RW), HV_STATUS_SUCCESS);
	assert_int_equal(map_from(0xfed00, RAM_FIRST + 1024, 0x120, RW),
			 HV_STATUS_SUCCESS); /* the APIC's page is on top */
	assert_int_equal(state_of(0xfee00, 0), GPA_UNMAPPED);
	assert_int_equal(page_use_mappings(RAM_FIRST + 1024 + 0x100), 0);
	expect_page(0xfee01, RAM_FIRST + 1024 + 0x101, SS_READ | SS_WRITE);
	assert_int_equal(unmap(0xfed00, 0x120, 0), HV_STATUS_SUCCESS);
	assert_int_equal(ss_map(&root.space, GPA((RAM_FIRST + 77) << 12), HPA((RAM_FIRST + 77) << 12),
				PAGE_SIZE, SS_RWX, 0),
			 0);
	end();
}

static void arguments_are_checked(bool ept)
{
	const uint32_t bad[] = { HV_MAP_GPA_WRITABLE,
				 RW | HV_MAP_GPA_KERNEL_EXECUTABLE,
				 RW | HV_MAP_GPA_USER_EXECUTABLE,
				 HV_MAP_GPA_EXECUTABLE,
				 RW | 0x10,
				 RW | BIT(20) };
	struct hv_input_map_gpa_pages in = { .partition_id = 1, .gpn = 1, .map_flags = RW };
	const uint64_t list[] = { RAM_FIRST };

	begin(ept, 16);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(map_from(1, RAM_FIRST, 1, bad[i]), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(make_call(hypercall_map_gpa_pages, &in, list, 1, 128), HV_STATUS_ACCESS_DENIED);
	in.partition_id = 7;
	assert_int_equal(make_call(hypercall_map_gpa_pages, &in, list, 1, 128),
			 HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(map_from(BIT(28), RAM_FIRST, 1, RW), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(map_from(BIT(28) - 1, RAM_FIRST, 2, RW), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(map_from(UINT64_MAX, RAM_FIRST, 2, RW), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(map_from(BIT(28) - 1, RAM_FIRST, 1, RW), HV_STATUS_SUCCESS);
	assert_int_equal(unmap(BIT(28) - 1, 2, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(unmap(1, 1, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(unmap(1, 1, 2), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(get_states(0, 1, 16), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(get_states(0, 1, 3), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(get_states(BIT(28), 1, 0), HV_STATUS_INVALID_PARAMETER);
	atomic_store(&child.state, PARTITION_FINALIZED);
	assert_int_equal(map_from(1, RAM_FIRST, 1, RW), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(page_use_mappings(RAM_FIRST), 1);
	assert_int_equal(unmap(BIT(28) - 1, 1, 0), HV_STATUS_INVALID_PARTITION_STATE);
	end();
	begin(ept, 0);
	assert_int_equal(map_from(1, RAM_FIRST, 1, RW), HV_STATUS_INVALID_PARAMETER); /* no space yet */
	end();
}

static void no_access_is_not_unmapped(bool ept)
{
	begin(ept, 16);
	assert_int_equal(map_from(0x200, RAM_FIRST, 8, HV_MAP_GPA_READABLE), HV_STATUS_SUCCESS);
	assert_int_equal(map_from(0x202, 0, 3, HV_MAP_GPA_NO_ACCESS), HV_STATUS_SUCCESS);
	assert_int_equal(flushes, 1);
	assert_int_equal(page_use_mappings(RAM_FIRST + 2), 0);
	assert_int_equal(state_of(0x201, SS_READ), GPA_ACCESSIBLE);
	assert_int_equal(state_of(0x201, SS_READ | SS_WRITE), GPA_REFUSED);
	assert_int_equal(state_of(0x201, SS_EXEC), GPA_REFUSED);
	assert_int_equal(state_of(0x202, SS_READ), GPA_REFUSED);
	assert_int_equal(state_of(0x204, 0), GPA_REFUSED);
	assert_int_equal(state_of(0x208, SS_READ), GPA_UNMAPPED);
	assert_int_equal(map_from(0x203, RAM_FIRST + 3, 1, ALL), HV_STATUS_SUCCESS);
	assert_int_equal(state_of(0x203, SS_RWX), GPA_ACCESSIBLE);
	assert_int_equal(map_from(0x204, RAM_FIRST, 1, HV_MAP_GPA_PERMISSIONS_NONE), HV_STATUS_SUCCESS);
	assert_int_equal(state_of(0x204, SS_READ), GPA_REFUSED);
	assert_int_equal(unmap(0x200, 8, 0), HV_STATUS_SUCCESS);
	assert_int_equal(state_of(0x202, SS_READ), GPA_UNMAPPED);
	assert_int_equal(map_from(0x400, 0, 6, HV_MAP_GPA_NO_ACCESS | HV_MAP_GPA_LARGE_PAGE),
			 HV_STATUS_SUCCESS);
	assert_int_equal(reps_done, 6);
	assert_int_equal(state_of(0x400 + 6 * 512 - 1, 0), GPA_REFUSED);
	end();
}

static void large_pages(bool ept)
{
	struct ss_mapping mapping;
	uint64_t tables;

	begin(ept, 32);
	tables = child.space.table_pages;
	assert_int_equal(map_from(0x400, RAM_FIRST, 6, ALL | HV_MAP_GPA_LARGE_PAGE), HV_STATUS_SUCCESS);
	assert_true(ss_lookup(&child.space, GPA(0x400000), &mapping));
	assert_int_equal(mapping.page_size, SIZE_2M);
	assert_int_equal(child.space.table_pages, tables + 2);
	for (uint64_t i = 0; i < 6 * 512; i++)
		assert_int_equal(page_use_mappings(RAM_FIRST + i), 1);
	assert_int_equal(unmap(0x401, 1, 0), HV_STATUS_SUCCESS); /* out of the midst of one */
	assert_int_equal(page_use_mappings(RAM_FIRST + 1), 0);
	assert_int_equal(page_use_mappings(RAM_FIRST + 2), 1);
	assert_int_equal(map_from(0x401, RAM_FIRST + 1, 1, ALL), HV_STATUS_SUCCESS); /* which grows back */
	assert_true(ss_lookup(&child.space, GPA(0x400000), &mapping));
	assert_int_equal(mapping.page_size, SIZE_2M);
	/* 512 pages from everywhere, then a large one in their place. */
	for (uint64_t i = 0; i < 512; i++)
		assert_int_equal(map_from(0x400 + i, RAM_FIRST + 1024 + 3 * i % 512, 1, RW),
				 HV_STATUS_SUCCESS);
	assert_int_equal(page_use_mappings(RAM_FIRST + 511), 0);
	assert_int_equal(page_use_mappings(RAM_FIRST + 1024 + 511), 2);
	assert_int_equal(map_from(0x400, RAM_FIRST, 2, ALL | HV_MAP_GPA_LARGE_PAGE), HV_STATUS_SUCCESS);
	assert_int_equal(page_use_mappings(RAM_FIRST + 511), 1);
	assert_int_equal(page_use_mappings(RAM_FIRST + 1024 + 511), 1);
	assert_int_equal(map_from(0x400, RAM_FIRST + 1, 1, ALL | HV_MAP_GPA_LARGE_PAGE),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(map_from(0x401, RAM_FIRST, 1, ALL | HV_MAP_GPA_LARGE_PAGE),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(unmap(0x400, 6, HV_UNMAP_GPA_LARGE_PAGE), HV_STATUS_SUCCESS);
	assert_int_equal(child.space.table_pages, tables);
	/* With a deposit in it a large page isn't the parent's to give. */
	assert_int_equal(map_from(0x400, DEPOSIT_FIRST, 1, ALL | HV_MAP_GPA_LARGE_PAGE),
			 HV_STATUS_ACCESS_DENIED);
	end();
}

/* A processor that can't have code in large pages gets none from a child, whatever its parent turns on and off. */
static void large_pages_are_small_where_they_must_be(bool ept)
{
	struct ss_mapping mapping;

	begin(ept, 32);
	ss_flags_of_machine |= SS_SMALL_PAGES;
	for (unsigned int i = 0; i < 3; i++) {
		gpa_space_track(&child, i == 1);
		assert_int_equal(map_from(0x400, RAM_FIRST, 1, ALL | HV_MAP_GPA_LARGE_PAGE),
				 HV_STATUS_SUCCESS);
		assert_true(ss_lookup(&child.space, GPA(0x4ff000), &mapping));
		assert_int_equal(mapping.page_size, PAGE_SIZE);
		assert_int_equal(mapping.hpa.v, (RAM_FIRST + 0xff) << PAGE_SHIFT);
		assert_int_equal(unmap(0x400, 1, HV_UNMAP_GPA_LARGE_PAGE), HV_STATUS_SUCCESS);
	}
	end();
}

/* Linux deposits and goes on at the element that couldn't be done. */
static void an_empty_pool_is_filled_and_the_call_goes_on(bool ept)
{
	uint32_t done = 0, shortages = 0;
	uint64_t deposited = DEPOSIT_FIRST + 1;

	begin(ept, 1);
	while (done < 256) {
		uint64_t gpn = done * 0x1000ull; /* each needs a table of its own */
		uint16_t status = map_from(gpn, RAM_FIRST + done, 1, RW);

		assert_true(status == HV_STATUS_SUCCESS || status == HV_STATUS_INSUFFICIENT_MEMORY);
		done += reps_done;
		if (status) {
			assert_int_equal(page_use_mappings(RAM_FIRST + done), 0);
			deposit(deposited++, 1);
			shortages++;
		}
	}
	assert_in_range(shortages, 256, 256 + 8);
	end();
}

/* A page is mapped: no deposit. A page is deposited: no mapping. */
static void a_mapped_page_is_no_deposit(bool ept)
{
	uint64_t page = RAM_FIRST + 5;

	begin(ept, 16);
	assert_int_equal(map_from(0x10, page, 1, RW), HV_STATUS_SUCCESS);
	assert_int_equal(deposit_pages(&child, &caller, &page, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(unmap(0x10, 1, 0), HV_STATUS_SUCCESS);
	assert_int_equal(deposit_pages(&child, &caller, &page, 1), HV_STATUS_SUCCESS);
	assert_int_not_equal(map_from(0x10, page, 1, RW), HV_STATUS_SUCCESS);
	end();
}

static void as_often_as_a_number_can_say(bool ept)
{
	begin(ept, 16);
	for (unsigned int i = 0; i < 65534; i++)
		assert_int_equal(page_use_map(RAM_FIRST, 1), 0);
	assert_int_equal(page_use_map(RAM_FIRST - 1, 2), -EBUSY);
	assert_int_equal(page_use_mappings(RAM_FIRST - 1), 0);
	assert_int_equal(map_from(0x10, RAM_FIRST, 1, RW), HV_STATUS_OPERATION_DENIED);
	assert_false(page_use_is_deposited(RAM_FIRST));
	for (unsigned int i = 0; i < 65534; i++)
		page_use_unmap(RAM_FIRST, 1);
	end();
}

/* ---- Overlays ---- */

static uint16_t lay(struct overlay *overlay, uint64_t gpn)
{
	return (uint16_t)overlay_write_msr(&child, &child_vp, overlay,
					   gpn << PAGE_SHIFT | OVERLAY_MSR_ENABLE);
}

static uint64_t content_page(const struct overlay *overlay)
{
	return hv_virt_to_phys(overlay->content).v >> PAGE_SHIFT;
}

static void changes_beneath_an_overlay(bool ept)
{
	struct overlay second = { 0 };
	struct overlay *first = &child.hypercall_page;

	begin(ept, 32);
	assert_int_equal(overlay_init(&child, first, OVERLAY_HYPERCALL), 0);
	assert_int_equal(overlay_init(&child, &second, OVERLAY_SIMP), 0);
	assert_true(deposit_holds(content_page(first)));
	assert_int_equal(overlay_read_msr(first), 0);
	assert_int_equal(map_from(0x100, RAM_FIRST, 4, ALL), HV_STATUS_SUCCESS);
	assert_int_equal(lay(first, 0x101), 0);
	expect_page(0x101, content_page(first), SS_READ | SS_EXEC);
	assert_int_equal(state_of(0x101, SS_READ | SS_WRITE), GPA_COVERED);
	assert_int_equal(page_use_mappings(RAM_FIRST + 1), 1); /* still the child's */
	assert_int_equal(lay(&second, 0x101), 0);
	expect_page(0x101, content_page(&second), SS_READ | SS_WRITE);
	/* The parent changes what is beneath both. */
	assert_int_equal(map_from(0x100, RAM_FIRST + 100, 4, RW), HV_STATUS_SUCCESS);
	expect_page(0x100, RAM_FIRST + 100, SS_READ | SS_WRITE);
	expect_page(0x101, content_page(&second), SS_READ | SS_WRITE);
	expect_page(0x103, RAM_FIRST + 103, SS_READ | SS_WRITE);
	assert_int_equal(page_use_mappings(RAM_FIRST + 1), 0);
	assert_int_equal(page_use_mappings(RAM_FIRST + 101), 1);
	assert_int_equal(overlay_write_msr(&child, &child_vp, &second, 0), 0);
	expect_page(0x101, content_page(first), SS_READ | SS_EXEC);
	assert_int_equal(lay(first, 0x8000), 0); /* where nothing is */
	expect_page(0x101, RAM_FIRST + 101, SS_READ | SS_WRITE);
	assert_int_equal(map_from(0x8000, 0, 1, HV_MAP_GPA_NO_ACCESS), HV_STATUS_SUCCESS);
	expect_page(0x8000, content_page(first), SS_READ | SS_EXEC);
	assert_int_equal(overlay_write_msr(&child, &child_vp, first, 0), 0);
	assert_int_equal(state_of(0x8000, 0), GPA_REFUSED);
	assert_int_equal(lay(first, 0x8000), 0);
	assert_int_equal(unmap(0x7f00, 0x200, 0), HV_STATUS_SUCCESS); /* a stretch around it */
	assert_int_equal(overlay_write_msr(&child, &child_vp, first, 0), 0);
	assert_int_equal(state_of(0x8000, 0), GPA_UNMAPPED);
	/* Both lie there when it all ends. */
	assert_int_equal(lay(first, 0x102), 0);
	assert_int_equal(lay(&second, 0x102), 0);
	assert_int_equal(page_use_mappings(RAM_FIRST + 102), 1);
	atomic_store(&child.state, PARTITION_FINALIZED);
	while (!gpa_space_destroy(&child, &caller))
		;
	overlay_destroy(&second);
	end();
}

/*
 * A hostile parent deposits a page in the middle of 2 MiB that it maps; the child lays its overlay, which is that page, on the gap. It must go away
 * again though there is no page for a table.
 */
static void an_overlay_is_no_part_of_a_large_leaf(bool ept)
{
	const uint64_t page = RAM_FIRST + 512 + 5, gpn = 0x200 + 5;
	struct overlay overlay = { 0 };
	void *page_of_pool;

	begin(ept, 32);
	deposit(page, 1);
	assert_int_equal(overlay_init(&child, &overlay, OVERLAY_SIMP), 0);
	assert_int_equal(content_page(&overlay), page);
	assert_int_equal(map_from(gpn - 5, page - 5, 5, RW), HV_STATUS_SUCCESS);
	assert_int_equal(map_from(gpn + 1, page + 1, 506, RW), HV_STATUS_SUCCESS);
	assert_int_equal(lay(&overlay, gpn), 0);
	expect_page(gpn, page, SS_READ | SS_WRITE);
	while ((page_of_pool = child.pages->alloc(child.pages)))
		*(void **)page_of_pool = child.vps, child.vps = page_of_pool;
	assert_int_equal(overlay_write_msr(&child, &child_vp, &overlay, 0), 0);
	assert_int_equal(state_of(gpn, 0), GPA_UNMAPPED);
	/* The same when the child ends with it in place. */
	assert_int_equal(lay(&overlay, gpn), 0);
	atomic_store(&child.state, PARTITION_FINALIZED);
	while (!gpa_space_destroy(&child, &caller))
		;
	overlay_destroy(&overlay);
	while (child.vps != child_vps) {
		page_of_pool = child.vps;
		child.vps = *(void **)page_of_pool;
		child.pages->free(child.pages, page_of_pool);
	}
	end();
}

/*
 * An overlay that the child lays on the local APIC's page doesn't show, and nothing is kept beneath it: what the parent maps there goes back to it at
 * once, or it could never be deposited again.
 */
static void nothing_is_kept_beneath_the_apics_page(bool ept)
{
	struct overlay overlay = { 0 };

	begin(ept, 32);
	assert_int_equal(overlay_init(&child, &overlay, OVERLAY_SIMP), 0);
	assert_int_equal(lay(&overlay, 0xfee00), 0);
	assert_int_equal(map_from(0xfedff, RAM_FIRST, 3, RW), HV_STATUS_SUCCESS);
	assert_int_equal(page_use_mappings(RAM_FIRST), 1);
	assert_int_equal(page_use_mappings(RAM_FIRST + 1), 0);
	assert_int_equal(page_use_mappings(RAM_FIRST + 2), 1);
	assert_int_equal(overlay_write_msr(&child, &child_vp, &overlay, 0), 0);
	assert_int_equal(map_from(0xfee00, RAM_FIRST + 1, 1, RW), HV_STATUS_SUCCESS);
	/* The same when the child ends with it in place. */
	assert_int_equal(lay(&overlay, 0xfee00), 0);
	assert_int_equal(map_from(0xfee00, RAM_FIRST + 1, 1, RW), HV_STATUS_SUCCESS);
	assert_int_equal(atomic_load(&child.statistics.gpa_pages), 2);
	atomic_store(&child.state, PARTITION_FINALIZED);
	while (!gpa_space_destroy(&child, &caller))
		;
	overlay_destroy(&overlay);
	end();
}

/* However a parent cuts it up, each pass looks at so much, and begins where the one before ended. */
static void the_end_comes_in_slices(bool ept)
{
	uint32_t passes = 0;
	uint64_t last = 0;

	begin(ept, 64);
	for (uint64_t gpn = 0; gpn < 0x3000; gpn += 2) /* to 48 MiB, every other page */
		assert_int_equal(map_from(gpn, 0, 1, HV_MAP_GPA_NO_ACCESS), HV_STATUS_SUCCESS);
	assert_int_equal(map_from(0x3000, RAM_FIRST, 500, ALL), HV_STATUS_SUCCESS);
	for (uint64_t gpn = 0x4000; gpn < 0x4200; gpn += 2)
		assert_int_equal(map_from(gpn, RAM_FIRST + (gpn & 0xff), 1, ALL), HV_STATUS_SUCCESS);
	atomic_store(&child.state, PARTITION_FINALIZED);
	while (!gpa_space_destroy(&child, &caller)) {
		assert_true(child.space_emptied > last);
		assert_int_equal(state_of(last >> PAGE_SHIFT, 0), GPA_UNMAPPED);
		last = child.space_emptied;
		passes++;
	}
	assert_in_range(passes, 6, 20);
	end();
}

/* ---- Accessed and dirty ---- */

/* As the processor would, in the leaf of `gpn`. */
static void processor_sets(uint64_t gpn, uint64_t bits)
{
	uint64_t *table = child.space.root;
	bool ept = fake.ss_format == &ss_format_ept;

	for (int shift = 39;; shift -= 9) {
		uint64_t *entry = &table[gpn << PAGE_SHIFT >> shift & 511];

		if (shift == 12 || (*entry & 0x80)) {
			*entry |= bits << (ept ? 8 : 5);
			return;
		}
		table = hv_phys_to_virt(HPA(*entry & 0xffffffffff000));
	}
}

static void written_while_it_is_split(void)
{
	processor_sets(0x400, 3);
}

/* The processor sets bits in a large leaf while the table in its place is made: they are in the table, too. */
static void nothing_written_is_lost_by_a_split(bool ept)
{
	begin(ept, 16);
	assert_int_equal(map_from(0x400, RAM_FIRST, 1, RW | HV_MAP_GPA_LARGE_PAGE), HV_STATUS_SUCCESS);
	gpa_space_track(&child, true);
	on_virt_to_phys = written_while_it_is_split;
	assert_int_equal(get_states(0x401, 2, HV_ACCESS_STATE_CLEAR_DIRTY), HV_STATUS_SUCCESS);
	assert_null(on_virt_to_phys);
	assert_memory_equal(states, ((uint8_t[]){ 3, 3 }), 2);
	assert_int_equal(get_states(0x400, 4, 0), HV_STATUS_SUCCESS);
	assert_memory_equal(states, ((uint8_t[]){ 3, 1, 1, 3 }), 4);
	/* The same when a part is taken out. */
	gpa_space_track(&child, false);
	assert_int_equal(map_from(0x400, RAM_FIRST, 1, RW | HV_MAP_GPA_LARGE_PAGE), HV_STATUS_SUCCESS);
	on_virt_to_phys = written_while_it_is_split;
	assert_int_equal(unmap(0x402, 1, 0), HV_STATUS_SUCCESS);
	assert_null(on_virt_to_phys);
	assert_int_equal(get_states(0x401, 3, 0), HV_STATUS_SUCCESS);
	assert_memory_equal(states, ((uint8_t[]){ 3, 0, 3 }), 3);
	end();
}

static void access_states(bool ept)
{
	uint64_t value = 7;

	begin(ept, 16);
	assert_int_equal(map_from(0x400, RAM_FIRST, 1, RW | HV_MAP_GPA_LARGE_PAGE), HV_STATUS_SUCCESS);
	processor_sets(0x400, 3);
	gpa_space_track(&child, true);
	assert_int_equal(map_from(0x600, RAM_FIRST + 512, 1, RW | HV_MAP_GPA_LARGE_PAGE), HV_STATUS_SUCCESS);
	processor_sets(0x602, 1);
	processor_sets(0x603, 3);
	assert_int_equal(get_states(0x5ff, 8, 0), HV_STATUS_SUCCESS);
	assert_memory_equal(states, ((uint8_t[]){ 3, 0, 0, 1, 3, 0, 0, 0 }), 8);
	flushes = 0;
	assert_int_equal(get_states(0x5fe, 8, HV_ACCESS_STATE_CLEAR_DIRTY), HV_STATUS_SUCCESS);
	assert_memory_equal(states, ((uint8_t[]){ 3, 3, 0, 0, 1, 3, 0, 0 }), 8);
	assert_int_equal(flushes, 1);
	assert_int_equal(get_states(0x5fd, 8, HV_ACCESS_STATE_CLEAR_ACCESSED | HV_ACCESS_STATE_SET_DIRTY),
			 HV_STATUS_SUCCESS);
	/* The large leaf was split: what wasn't cleared is still dirty. */
	assert_memory_equal(states, ((uint8_t[]){ 3, 1, 1, 0, 0, 1, 1, 0 }), 8);
	assert_int_equal(get_states(0x5fd, 8, HV_ACCESS_STATE_CLEAR_DIRTY), HV_STATUS_SUCCESS);
	assert_memory_equal(states, ((uint8_t[]){ 2, 2, 2, 2, 2, 2, 2, 2 }), 8);
	/* What the hypervisor writes for the VP counts, too. */
	assert_true(guest_phys_write(&child_vp, GPA(0x600010), &value, sizeof(value)));
	assert_int_equal(get_states(0x600, 3, 0), HV_STATUS_SUCCESS);
	assert_memory_equal(states, ((uint8_t[]){ 3, 0, 0 }), 3);
	assert_int_equal(get_states(0x10000, 2, 0), HV_STATUS_SUCCESS); /* holes */
	assert_memory_equal(states, ((uint8_t[]){ 0, 0 }), 2);
	end();
	begin(ept, 16);
	child.space.flags &= ~SS_ACCESS_BITS;
	assert_int_equal(map_from(0x400, RAM_FIRST, 2, RW), HV_STATUS_SUCCESS);
	assert_int_equal(get_states(0x400, 3, HV_ACCESS_STATE_CLEAR_DIRTY), HV_STATUS_SUCCESS);
	assert_memory_equal(states, ((uint8_t[]){ 3, 3, 0 }), 3);
	end();
}

/* ---- The hypervisor's accesses, and the parent's by call ---- */

static uint32_t read_gpa(uint64_t gpa, uint32_t bytes, uint8_t *data)
{
	const struct hv_input_read_gpa in = { .partition_id = 2, .byte_count = bytes, .gpa = gpa };
	struct hv_output_read_gpa out = { 0 };
	struct hypercall call = { .vp = &caller, .partition = &root, .input = &in, .output = &out };
	uint16_t status = hypercall_read_gpa(&call);

	memcpy(data, out.data, sizeof(out.data));
	return (uint32_t)status << 16 | out.result_code;
}

static uint32_t write_gpa(uint64_t gpa, uint32_t bytes)
{
	const struct hv_input_write_gpa in = {
		.partition_id = 2, .byte_count = bytes, .gpa = gpa, .data = "abcdefghijklmno"
	};
	struct hv_output_write_gpa out = { 0 };
	struct hypercall call = { .vp = &caller, .partition = &root, .input = &in, .output = &out };
	uint16_t status = hypercall_write_gpa(&call);

	return (uint32_t)status << 16 | out.result_code;
}

static void accesses_go_through_the_childs_tables(bool ept)
{
	uint8_t bytes[32], data[16];
	uint64_t value;
	uint32_t word;

	begin(ept, 16);
	assert_int_equal(overlay_init(&child, &child.hypercall_page, OVERLAY_HYPERCALL), 0);
	memset(overlay_content(&child.hypercall_page), 0xcc, PAGE_SIZE);
	assert_int_equal(map_from(0x10, RAM_FIRST + 8, 1, RW), HV_STATUS_SUCCESS);
	assert_int_equal(map_from(0x11, RAM_FIRST + 2, 1, HV_MAP_GPA_READABLE), HV_STATUS_SUCCESS);
	assert_int_equal(map_from(0x12, DEVICE_PAGE, 1, RW), HV_STATUS_SUCCESS);
	assert_int_equal(map_from(0x13, 0, 1, HV_MAP_GPA_NO_ACCESS), HV_STATUS_SUCCESS);
	assert_int_equal(lay(&child.hypercall_page, 0x14), 0);
	memcpy(ram + 8 * PAGE_SIZE + 0x20, "some bytes of the child's memory", 32);
	for (unsigned int here = 0; here < 2; here++) {
		current_lp = &lps[here];
		atomic_store(&child_vp.loaded, here);
		assert_true(guest_phys_read(&child_vp, GPA(0x10020), bytes, 32));
		assert_memory_equal(bytes, "some bytes of the child's memory", 32);
		assert_true(guest_phys_read(&child_vp, GPA(0x10021), bytes, 5));
		assert_memory_equal(bytes, "ome b", 5);
		assert_false(guest_phys_read(&child_vp, GPA(0x10ffc), bytes, 8));
		assert_true(guest_phys_read32(&child_vp, GPA(0x10020), &word));
		assert_int_equal(word, 0x656d6f73);
		assert_true(guest_phys_write(&child_vp, GPA(0x10800), "12345678", 8));
		assert_memory_equal(ram + 8 * PAGE_SIZE + 0x800, "12345678", 8);
		assert_true(guest_phys_read64(&child_vp, GPA(0x10800), &value));
		assert_int_equal(guest_phys_exchange(&child_vp, GPA(0x10800), 8, value, 5), 0);
		assert_int_equal(guest_phys_exchange(&child_vp, GPA(0x10800), 8, value, 5), -EAGAIN);
		assert_false(guest_phys_write(&child_vp, GPA(0x11000), "x", 1));
		assert_false(guest_phys_can_write(&child_vp, GPA(0x11000)));
		assert_true(guest_phys_can_write(&child_vp, GPA(0x10000)));
		assert_int_equal(guest_phys_exchange(&child_vp, GPA(0x11000), 4, 0, 0), -EIO);
		assert_true(guest_phys_read(&child_vp, GPA(0x11000), bytes, 8));
		for (uint64_t gpa = 0x12000; gpa <= 0x13000; gpa += PAGE_SIZE)
			assert_false(guest_phys_read(&child_vp, GPA(gpa), bytes, 8));
		assert_false(guest_phys_read(&child_vp, GPA(0xfee00000), bytes, 8));
		assert_false(guest_phys_read(&child_vp, GPA(ARENA_HPA), bytes, 8)); /* a GPA is no HPA */
		assert_false(guest_phys_read(&child_vp, GPA(RAM_FIRST << PAGE_SHIFT), bytes, 8));
		assert_true(guest_phys_read(&child_vp, GPA(0x14ff8), bytes, 8));
		assert_int_equal(bytes[7], 0xcc);
		assert_false(guest_phys_write(&child_vp, GPA(0x14000), "x", 1));
	}
	current_lp = &lps[0];
	assert_int_equal(read_gpa(0x10020, 16, data), HV_ACCESS_GPA_SUCCESS);
	assert_memory_equal(data, "some bytes of th", 16);
	assert_int_equal(read_gpa(0x13000, 1, data), HV_ACCESS_GPA_READ_INTERCEPT);
	assert_int_equal(read_gpa(0x99000, 1, data), HV_ACCESS_GPA_UNMAPPED);
	assert_int_equal(write_gpa(0x10100, 3), HV_ACCESS_GPA_SUCCESS);
	assert_memory_equal(ram + 8 * PAGE_SIZE + 0x100, "abc\x5a", 4);
	assert_int_equal(write_gpa(0x11000, 3), HV_ACCESS_GPA_WRITE_INTERCEPT);
	assert_int_equal(read_gpa(0x10ff8, 9, data) >> 16, HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(read_gpa(0x10000, 17, data) >> 16, HV_STATUS_INVALID_PARAMETER);
	end();
}

static uint8_t byte_at(uint64_t gpa)
{
	uint8_t byte = 0;

	return guest_phys_read(&child_vp, GPA(gpa), &byte, 1) ? byte : 0;
}

/* A VP's reads remember where they went; what the parent does next counts all the same. */
static void reads_see_every_change(bool ept)
{
	begin(ept, 64);
	assert_int_equal(overlay_init(&child, &child.hypercall_page, OVERLAY_HYPERCALL), 0);
	memset(overlay_content(&child.hypercall_page), 0xcc, PAGE_SIZE);
	for (unsigned int i = 0; i < 512; i++)
		ram[i * PAGE_SIZE] = (uint8_t)(i % 251 + 1);
	current_lp = &lps[1];
	atomic_store(&child_vp.loaded, true);
	assert_int_equal(map_from(0x10, RAM_FIRST + 8, 1, RW), HV_STATUS_SUCCESS);
	assert_int_equal(byte_at(0x10000), 9);
	assert_int_equal(byte_at(0x11000), 0);
	assert_int_equal(map_from(0x11, RAM_FIRST + 7, 1, RW), HV_STATUS_SUCCESS); /* nothing was there */
	assert_int_equal(byte_at(0x11000), 8);
	assert_int_equal(byte_at(0x10000), 9);
	assert_int_equal(map_from(0x10, RAM_FIRST + 9, 1, RW), HV_STATUS_SUCCESS);
	assert_int_equal(byte_at(0x10000), 10);
	assert_int_equal(lay(&child.hypercall_page, 0x10), 0);
	assert_int_equal(byte_at(0x10000), 0xcc);
	assert_int_equal(lay(&child.hypercall_page, 0x11), 0);
	assert_int_equal(byte_at(0x10000), 10);
	assert_int_equal(byte_at(0x11000), 0xcc);
	assert_int_equal(unmap(0x10, 1, 0), HV_STATUS_SUCCESS);
	assert_int_equal(byte_at(0x10000), 0);

	/* A small page taken out of a large one. */
	assert_int_equal(map_from(512, RAM_FIRST, 1, RW | HV_MAP_GPA_LARGE_PAGE), HV_STATUS_SUCCESS);
	for (unsigned int i = 0; i < 512; i++)
		assert_int_equal(byte_at((512 + i) * PAGE_SIZE), i % 251 + 1);
	for (unsigned int i = 512 - READ_PAGES; i < 512; i++)
		assert_int_equal(map_from(512 + i, RAM_FIRST + 3 * i % 512, 1, RW), HV_STATUS_SUCCESS);
	for (unsigned int i = 512 - 2 * READ_PAGES; i < 512; i++)
		assert_int_equal(byte_at((512 + i) * PAGE_SIZE),
				 (i < 512 - READ_PAGES ? i : 3 * i % 512) % 251 + 1);
	end();
}

/* ---- All of it at once ---- */

static uint64_t seed;

static uint32_t below(uint32_t limit)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % limit;
}

/* What the parent last said of each page of a small space. */
#define MODEL_PAGES 1536u
static uint64_t model[MODEL_PAGES]; /* 0: a hole; 1: no access; else the page */

static void check_model(void)
{
	static uint32_t counts[RAM_PAGES];
	uint64_t total = 0;

	memset(counts, 0, sizeof(counts));
	for (uint64_t i = 0; i < MODEL_PAGES; i++) {
		uint64_t top = overlay_first_in(&child, i, i + 1);

		if (model[i] > 1)
			counts[model[i] - RAM_FIRST]++;
		if (top == i)
			assert_int_equal(gpa_space_beneath(&child, i) >> PAGE_SHIFT,
					 model[i] > 1 ? model[i] : 0);
		else if (model[i] > 1)
			expect_page(i, model[i], SS_READ | SS_WRITE);
		else
			assert_int_equal(state_of(i, 0), model[i] ? GPA_REFUSED : GPA_UNMAPPED);
	}
	for (uint64_t i = 0; i < RAM_PAGES; i++) {
		assert_int_equal(page_use_mappings(RAM_FIRST + i), counts[i]);
		total += counts[i];
	}
	assert_int_equal(atomic_load(&child.statistics.gpa_pages), total);
}

static void random_changes_by_a_model(bool ept)
{
	begin(ept, 24);
	memset(model, 0, sizeof(model));
	seed = 5;
	assert_int_equal(overlay_init(&child, &child.hypercall_page, OVERLAY_HYPERCALL), 0);
	for (unsigned int round = 0; round < 3000; round++) {
		bool large = below(8) == 0;
		uint32_t step = large ? 512 : 1, count = 1 + below(large ? 2 : 40), kind = below(4);
		uint64_t gpn = large ? below(2) * 512 : below(MODEL_PAGES - 40);
		uint64_t page = RAM_FIRST + (large ? below(4) * 512 : below(2000));
		uint16_t status;

		if (below(6) == 0) {
			assert_int_equal(lay(&child.hypercall_page, below(MODEL_PAGES)), 0);
			continue;
		}
		if (kind == 0)
			status = unmap(gpn, count, large ? HV_UNMAP_GPA_LARGE_PAGE : 0);
		else if (kind == 1)
			status = map_from(gpn, 0, count,
					  HV_MAP_GPA_NO_ACCESS | (large ? HV_MAP_GPA_LARGE_PAGE : 0));
		else
			status = map_from(gpn, page, count, RW | (large ? HV_MAP_GPA_LARGE_PAGE : 0));
		assert_int_equal(status, HV_STATUS_SUCCESS);
		for (uint64_t i = 0; i < count * step; i++)
			model[gpn + i] = kind < 2 ? kind : page + i;
		if (round % 50 == 0)
			check_model();
	}
	check_model();
	end();
}

static _Atomic bool racing;
static _Atomic uint32_t granted[2];

static void *deposits_and_withdraws(void *unused)
{
	uint64_t page = RAM_FIRST + 1, out;

	(void)unused;
	current_lp = &lps[0];
	while (racing) {
		if (deposit_pages(&child, &caller, &page, 1)) {
			sched_yield(); /* on a busy host the other thread may wait for its turn with the page */
			continue;
		}
		granted[0]++;
		assert_int_equal(page_use_mappings(page), 0);
		while (!deposit_withdraw(&child, &caller, &out, 1))
			;
		page = out; /* any of them: the stack's top */
		if (page != RAM_FIRST + 1) {
			assert_int_equal(deposit_pages(&child, &caller, &page, 1), HV_STATUS_SUCCESS);
			page = RAM_FIRST + 1;
		}
	}
	return NULL;
}

static void a_page_is_never_both(bool ept)
{
	struct gpa_run run = {
		.kind = GPA_MAP, .gpn = 7, .page = RAM_FIRST + 1, .count = 1, .perm = SS_READ
	};
	static uint64_t replaced[GPA_CHANGE_RUNS];
	struct gpa_change change = { .child = &child, .caller = &caller, .replaced = replaced };
	pthread_t thread;
	uint32_t done;

	begin(ept, 16);
	racing = true;
	granted[0] = granted[1] = 0;
	assert_int_equal(pthread_create(&thread, NULL, deposits_and_withdraws, NULL), 0);
	for (unsigned int i = 0; i < 2000000 && (granted[0] < 200 || granted[1] < 200); i++) {
		run.kind = GPA_MAP;
		if (gpa_change_run(&change, &run, &done)) {
			sched_yield();
			continue;
		}
		granted[1]++;
		assert_false(page_use_is_deposited(RAM_FIRST + 1));
		run.kind = GPA_UNMAP;
		assert_int_equal(gpa_change_run(&change, &run, &done), HV_STATUS_SUCCESS);
		gpa_change_end(&change);
	}
	racing = false;
	pthread_join(thread, NULL);
	assert_in_range(granted[0], 100, UINT32_MAX);
	assert_in_range(granted[1], 100, UINT32_MAX);
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

#define ALL_TESTS(X)                                    \
	X(pages_are_mapped_and_counted)                 \
	X(a_refusal_names_its_element)                  \
	X(arguments_are_checked)                        \
	X(no_access_is_not_unmapped)                    \
	X(large_pages)                                  \
	X(large_pages_are_small_where_they_must_be)     \
	X(an_empty_pool_is_filled_and_the_call_goes_on) \
	X(a_mapped_page_is_no_deposit)                  \
	X(as_often_as_a_number_can_say)                 \
	X(changes_beneath_an_overlay)                   \
	X(an_overlay_is_no_part_of_a_large_leaf)        \
	X(nothing_is_kept_beneath_the_apics_page)       \
	X(the_end_comes_in_slices)                      \
	X(nothing_written_is_lost_by_a_split)           \
	X(access_states)                                \
	X(accesses_go_through_the_childs_tables)        \
	X(reads_see_every_change)                       \
	X(random_changes_by_a_model)                    \
	X(a_page_is_never_both)

ALL_TESTS(IN_BOTH_FORMATS)

#define ROWS(test) cmocka_unit_test(test##_npt), cmocka_unit_test(test##_ept),

int main(void)
{
	const struct CMUnitTest tests[] = { ALL_TESTS(ROWS) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
