/* unit: core/lp.c drivers/acpi.c tests/acpi/tables.c */
/* SPDX-License-Identifier: MIT */
/*
 * Which processors become LPs: the MADT's, or the loader's list where no MADT can be used; the boot processor always
 * and first, nobody twice, nobody with an id beyond what is looked up in constant time.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/acpi.h>
#include <trivet/backend.h>
#include <trivet/host_memory.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/schedule.h>

#include "tests/acpi/tables.h"

#define BLOCK_AT 0x1f97c000u
#define BLOCK_SIZE 1024u

extern uint32_t *lp_start_ids; /* of core/entry.asm */

static uint8_t block[BLOCK_SIZE];
static size_t block_size;

static void *allocated[64];
static unsigned int allocations, attempts, fail_at; /* the attempt that fails; 0: none */

/* ---- what core/lp.c uses ---- */

struct page_pool host_pool;
const struct backend *backend;
void *const trap_stubs[256];
const char trampoline_start[1], trampoline_long_mode[1], trampoline_data[48], trampoline_end[1];
enum log_level log_threshold;

void ap_entry(void);
void ap_entry(void)
{
}

void schedule_init(struct lp *lp)
{
	assert_ptr_equal(lp->self, lp);
	lp->slice_end_clock = 77; /* seen below */
}

_Noreturn void lp_main(struct lp *lp)
{
	(void)lp;
	abort();
}

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	(void)leaf;
	(void)subleaf;
	return (struct cpuid_regs){ 0 };
}

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

unsigned page_order_for(size_t bytes)
{
	unsigned order = 0;

	while ((PAGE_SIZE << order) < bytes)
		order++;
	return order;
}

struct lp *this_lp(void)
{
	return lp_table[0];
}

void *page_alloc(struct page_pool *pool, unsigned order)
{
	size_t size = PAGE_SIZE << order;
	void *p;

	(void)pool;
	if (++attempts == fail_at)
		return NULL;
	p = aligned_alloc(size, size);
	assert_non_null(p);
	assert_true(allocations < ARRAY_SIZE(allocated));
	allocated[allocations++] = p;
	return memset(p, 0, size);
}

void page_free(struct page_pool *pool, void *p, unsigned order)
{
	(void)pool;
	(void)order;
	for (unsigned int i = 0; i < allocations; i++) {
		if (allocated[i] == p) {
			free(p);
			allocated[i] = NULL;
			return;
		}
	}
	fail_msg("freed what was not allocated");
}

void host_unmap_page(void *p)
{
	(void)p;
}

volatile void *host_map_mmio(hpa_t hpa, size_t size)
{
	(void)hpa;
	(void)size;
	return NULL;
}

uint64_t host_cr3(void)
{
	return 0;
}

const void *acpi_map(hpa_t hpa, size_t size)
{
	if (hpa.v < BLOCK_AT || size > block_size || hpa.v - BLOCK_AT > block_size - size)
		return NULL;
	return block + (hpa.v - BLOCK_AT);
}

/* ---- the tests ---- */

static void make_tables(const uint32_t *apic_ids, uint32_t count)
{
	uint8_t facs[ACPI_FACS_SIZE] = { 0 };
	struct acpi_machine machine = { .apic_ids = apic_ids, .processor_count = count, .dsdt = "" };

	memset(block, 0, sizeof(block));
	block_size = acpi_tables_size(&machine);
	assert_true(block_size <= BLOCK_SIZE);
	acpi_tables_build(&machine, block, BLOCK_AT, facs, 0);
}

static int setup(void **state)
{
	(void)state;
	lp_count = 0;
	allocations = 0;
	attempts = 0;
	fail_at = 0;
	block_size = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < allocations; i++)
		free(allocated[i]);
	return 0;
}

static void expect_lps(const uint32_t *apic_ids, uint32_t count)
{
	assert_int_equal(lp_count, count);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(lp_table[i]->apic_id, apic_ids[i]);
		assert_int_equal(lp_table[i]->index, i);
		assert_int_equal(lp_start_ids[i], apic_ids[i]);
		assert_int_equal(lp_table[i]->slice_end_clock, 77);
		assert_ptr_equal(lp_by_apic_id(apic_ids[i]), lp_table[i]);
	}
}

static void test_madt_counts(void **state)
{
	const uint32_t in_madt[] = { 0, 1, 4, 300 }, listed[] = { 0, 1, 2, 3 }, want[] = { 4, 0, 1, 300 };

	(void)state;
	make_tables(in_madt, 4);
	assert_int_equal(lp_table_init(HPA(BLOCK_AT), 4, listed, 4), 0);
	expect_lps(want, 4);
	assert_null(lp_by_apic_id(2));
}

static void test_no_rsdp(void **state)
{
	const uint32_t listed[] = { 0, 2, 4, 6 }, want[] = { 2, 0, 4, 6 };

	(void)state;
	assert_int_equal(lp_table_init(HPA(0), 2, listed, 4), 0);
	expect_lps(want, 4);
}

static void test_damaged_madt(void **state)
{
	const uint32_t in_madt[] = { 0, 1 }, listed[] = { 0, 5 };

	(void)state;
	make_tables(in_madt, 2);
	block[block_size - 1 - 15] ^= 1; /* some byte near the end: of the MADT, as the DSDT is empty */
	assert_int_equal(lp_table_init(HPA(BLOCK_AT), 0, listed, 2), 0);
	expect_lps(listed, 2);
}

static void test_odd_lists(void **state)
{
	const uint32_t listed[] = { 7, 4096, 1, 7, 0xffffffff, 4095, 1 }, want[] = { 1, 7, 4095 };

	(void)state;
	assert_int_equal(lp_table_init(HPA(0), 1, listed, ARRAY_SIZE(listed)), 0);
	expect_lps(want, 3);
}

static void test_nothing_known(void **state)
{
	const uint32_t want[] = { 3 };

	(void)state;
	assert_int_equal(lp_table_init(HPA(0), 3, NULL, 0), 0);
	expect_lps(want, 1);
}

/* Whichever allocation fails, the error comes back; and the list is not taken for a MADT that memory was short for. */
static void test_no_memory(void **state)
{
	const uint32_t in_madt[] = { 0, 1, 2 }, listed[] = { 0, 5 };
	int err = -ENOMEM;

	(void)state;
	make_tables(in_madt, 3);
	for (unsigned int n = 1; err; n++) {
		lp_count = 0;
		allocations = 0;
		attempts = 0;
		fail_at = n;
		err = lp_table_init(HPA(BLOCK_AT), 0, listed, 2);
		if (err) {
			assert_int_equal(err, -ENOMEM);
			assert_true(lp_count < 3);
			assert_true(n <= 7); /* 4 tables and 3 LPs */
			teardown(NULL);
		}
	}
	expect_lps(in_madt, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_madt_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_rsdp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_madt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_odd_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_known, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
