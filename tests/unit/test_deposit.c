/* unit: core/deposit.c core/second_stage.c core/page_alloc.c core/page_source.c core/page_use.c core/memory_types.c svm/npt.c */
/* SPDX-License-Identifier: MIT */
/*
 * Deposits and withdrawals: what leaves the depositor's space and what comes back, each page once; every refusal leaves all as
 * it was; no page of the hypervisor's own leaks over thousands of rounds.
 */
#include "memory_fake.h"

#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/deposit.h>
#include <trivet/page_use.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#include "../../svm/npt.h"

#define FIRMWARE_PAGE (RAM_FIRST + 100) /* a table of the firmware's in its midst */

static struct partition partition;
static struct partition child;
static struct vp caller;
static unsigned int flushes;
static uint64_t seen_before_flush; /* how many pages of the pool the flush found entered */

bool host_memory_is_ram(hpa_t hpa, uint64_t size)
{
	uint64_t page = hpa.v >> PAGE_SHIFT;

	assert_int_equal(size, PAGE_SIZE);
	return page == 0 || (page >= RAM_FIRST && page < RAM_FIRST + RAM_PAGES && page != FIRMWARE_PAGE);
}

void flush_and_reclaim(struct partition *of, struct vp *self)
{
	assert_ptr_equal(self, &caller);
	assert_ptr_equal(of, &partition);
	flushes++;
	seen_before_flush = child.deposits.free_pages;
	ss_note_flush(&of->space, of->space.generation);
	ss_reclaim(&of->space);
}

static const struct backend fake = { .memory_type = one_type };
const struct backend *backend = &fake;

static int setup(void **state)
{
	(void)state;
	memory_begin();
	partition = (struct partition){ .id = 1 };
	child = (struct partition){ .id = 2 };
	caller = (struct vp){ .partition = &partition };
	assert_int_equal(ss_init(&partition.space, &ss_format_npt, &host_pages, 0), 0);
	assert_int_equal(ss_map(&partition.space, GPA(0), HPA(0), SIZE_1G, SS_RWX, 0), 0);
	ss_note_flush(&partition.space, partition.space.generation);
	ss_reclaim(&partition.space);
	assert_int_equal(page_use_init(), 0);
	flushes = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	memory_end();
	return 0;
}

static bool is_mapped(uint64_t page)
{
	struct ss_mapping mapping;

	if (!ss_lookup(&partition.space, GPA(page << PAGE_SHIFT), &mapping))
		return false;
	assert_int_equal(mapping.hpa.v, page << PAGE_SHIFT);
	return true;
}

static void pages_leave_and_come_back_once(void **state)
{
	const uint64_t list[] = { RAM_FIRST + 7, RAM_FIRST + 8, RAM_FIRST + 600, RAM_FIRST };
	uint64_t out[8] = { 0 };
	bool seen[4] = { false };

	(void)state;
	assert_int_equal(deposit_pages(&child, &caller, list, 4), HV_STATUS_SUCCESS);
	assert_int_equal(flushes, 1);
	assert_int_equal(seen_before_flush, 0); /* no page counts as deposited before the flush */
	assert_int_equal(child.deposits.free_pages, 4);
	for (unsigned int i = 0; i < 4; i++) {
		assert_false(is_mapped(list[i]));
		assert_true(deposit_holds(list[i]));
	}
	assert_true(is_mapped(RAM_FIRST + 1));
	assert_false(deposit_holds(RAM_FIRST + 1));

	assert_int_equal(deposit_withdraw(&child, &caller, out, 3), 3);
	assert_int_equal(deposit_withdraw(&child, &caller, out + 3, 5), 1);
	for (unsigned int i = 0; i < 4; i++)
		for (unsigned int k = 0; k < 4; k++)
			if (out[i] == list[k]) {
				assert_false(seen[k]);
				seen[k] = true;
			}
	for (unsigned int i = 0; i < 4; i++) {
		assert_true(seen[i]);
		assert_true(is_mapped(list[i]));
		assert_false(deposit_holds(list[i]));
	}
	assert_int_equal(out[4], 0);
	assert_int_equal(deposit_withdraw(&child, &caller, out, 8), 0);
}

static void assert_refused(const uint64_t *list, uint32_t count, uint16_t status)
{
	uint64_t tables = partition.space.table_pages;
	size_t free_pages = page_pool_free_pages(&host_pool);

	assert_int_equal(deposit_pages(&child, &caller, list, count), status);
	assert_int_equal(child.deposits.free_pages, 0);
	assert_int_equal(partition.space.table_pages, tables);
	assert_in_range(page_pool_free_pages(&host_pool) + 1, free_pages,
			free_pages + 1); /* a leaf of numbers may stay */
	for (uint64_t page = RAM_FIRST; page < RAM_FIRST + RAM_PAGES; page++) {
		assert_true(is_mapped(page));
		assert_false(deposit_holds(page));
	}
}

static void what_is_not_the_depositors_is_refused(void **state)
{
	const uint64_t twice[] = { RAM_FIRST, RAM_FIRST + 5, RAM_FIRST + 6, RAM_FIRST + 5 };
	const uint64_t firmware[] = { RAM_FIRST + 99, FIRMWARE_PAGE };
	const uint64_t device[] = { RAM_FIRST, 0xfee00 };
	const uint64_t beyond[] = { RAM_FIRST, 1ull << 36 };
	const uint64_t wrapping[] = { RAM_FIRST, 1ull << 52 };
	const uint64_t ones[] = { RAM_FIRST, UINT64_MAX };
	const uint64_t zero[] = { RAM_FIRST, 0 }; /* RAM, but the number says "none" */

	(void)state;
	assert_refused(twice, 4, HV_STATUS_INVALID_PARAMETER);
	assert_refused(firmware, 2, HV_STATUS_INVALID_PARAMETER);
	assert_refused(device, 2, HV_STATUS_INVALID_PARAMETER);
	assert_refused(beyond, 2, HV_STATUS_INVALID_PARAMETER);
	assert_refused(wrapping, 2, HV_STATUS_INVALID_PARAMETER);
	assert_refused(ones, 2, HV_STATUS_INVALID_PARAMETER);
	assert_refused(zero, 2, HV_STATUS_INVALID_PARAMETER);
}

static void a_page_that_is_not_mapped_as_ram_is_refused(void **state)
{
	const uint64_t list[] = { RAM_FIRST + 3 };

	(void)state;
	/* An overlay lies there. */
	assert_int_equal(ss_map(&partition.space, GPA(list[0] << 12), HPA(ARENA_HPA), PAGE_SIZE, SS_RWX, 0),
			 0);
	assert_int_equal(deposit_pages(&child, &caller, list, 1), HV_STATUS_INVALID_PARAMETER);
	/* The root has it for reading only. */
	assert_int_equal(
		ss_map(&partition.space, GPA(list[0] << 12), HPA(list[0] << 12), PAGE_SIZE, SS_READ, 0), 0);
	assert_int_equal(deposit_pages(&child, &caller, list, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(ss_unmap(&partition.space, GPA(list[0] << 12), PAGE_SIZE), 0);
	assert_int_equal(deposit_pages(&child, &caller, list, 1), HV_STATUS_INVALID_PARAMETER);
}

/* Each allocation on the way fails in turn: refused, and nothing is changed. */
static void without_memory_nothing_changes(void **state)
{
	const uint64_t list[] = { RAM_FIRST, RAM_FIRST + 1, RAM_FIRST + 513, RAM_FIRST + 1025 };
	unsigned int failed = 0;

	(void)state;
	for (uint64_t n = 1; n < 20; n++) {
		page_pool_fail_nth(&host_pool, n);
		if (deposit_pages(&child, &caller, list, 4) == HV_STATUS_SUCCESS)
			break;
		page_pool_fail_nth(&host_pool, 0);
		failed++;
		assert_int_equal(child.deposits.free_pages, 0);
		for (unsigned int i = 0; i < 4; i++) {
			assert_true(is_mapped(list[i]));
			assert_false(deposit_holds(list[i]));
		}
	}
	page_pool_fail_nth(&host_pool, 0);
	assert_in_range(failed, 3, 19);
	assert_int_equal(child.deposits.free_pages, 4);
}

static void used_pages_stay_and_are_zeroed(void **state)
{
	const uint64_t list[] = { RAM_FIRST + 40, RAM_FIRST + 41 };
	uint64_t page, other, out[4];
	struct ss_mapping mapping;

	(void)state;
	assert_false(deposit_alloc(&child, &page));
	assert_int_equal(deposit_pages(&child, &caller, list, 2), HV_STATUS_SUCCESS);
	assert_true(deposit_alloc(&child, &page));
	for (unsigned int i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(((uint8_t *)deposit_page_pointer(page))[i], 0);
	memset(deposit_page_pointer(page), 0x77, PAGE_SIZE);
	assert_int_equal(deposit_show(&caller, page, false), 0);
	assert_true(ss_lookup(&partition.space, GPA(page << 12), &mapping));
	assert_int_equal(mapping.perm, SS_READ);
	assert_int_equal(deposit_pages(&child, &caller, &page, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(deposit_withdraw(&child, &caller, out, 4), 1);
	assert_int_not_equal(out[0], page);
	assert_false(deposit_alloc(&child, &other));
	assert_int_equal(deposit_hide(&caller, page), 0);
	assert_false(is_mapped(page));
	deposit_free(&child, page);
	assert_int_equal(deposit_withdraw(&child, &caller, out, 4), 1);
	assert_int_equal(out[0], page);
	for (uint64_t i = 0; i < 2 * PAGE_SIZE; i++) /* the other was never used */
		assert_int_equal(ram[40 * PAGE_SIZE + i], 0);
}

/* XSA-253: eight bytes a round would show. */
static void rounds_leave_no_page_behind(void **state)
{
	static uint64_t list[511], out[511];
	size_t free_pages = 0;

	(void)state;
	for (unsigned int round = 0; round < 300; round++) {
		uint32_t count = 1 + round * 37 % 511, back = 0, n;

		for (uint32_t i = 0; i < count; i++)
			list[i] = RAM_FIRST + 512 + (i * 3 + round) % 1536;
		assert_int_equal(deposit_pages(&child, &caller, list, count), HV_STATUS_SUCCESS);
		while ((n = deposit_withdraw(&child, &caller, out, 100)))
			back += n;
		assert_int_equal(back, count);
		if (round == 0)
			free_pages = page_pool_free_pages(&host_pool);
		assert_int_equal(page_pool_free_pages(&host_pool), free_pages);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pages_leave_and_come_back_once, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_the_depositors_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_page_that_is_not_mapped_as_ram_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(without_memory_nothing_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(used_pages_stay_and_are_zeroed, setup, teardown),
		cmocka_unit_test_setup_teardown(rounds_leave_no_page_behind, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
