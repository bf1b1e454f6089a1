/* unit: tests/acpi/tables.c drivers/acpi.c */
/* SPDX-License-Identifier: MIT */
/*
 * The tables that tests/acpi/ gives a machine without any, read back by the hypervisor's own parser; and what an
 * operating system needs and that parser does not read, by offset.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/acpi.h>

#include "tests/acpi/tables.h"

#define BLOCK_AT 0x1f97c000u
#define FACS_AT 0x1f9fe000u
#define DSDT_SIZE 52u

static const uint32_t apic_ids[] = { 0, 2, 254, 255, 300 };
static const uint8_t dsdt[DSDT_SIZE] = "DSDT and so on, as iasl made it, with any bytes";
static const struct acpi_machine machine = {
	.apic_ids = apic_ids,
	.processor_count = ARRAY_SIZE(apic_ids),
	.lapic_address = 0xfee00000,
	.ioapic_address = 0xfec00000,
	.ioapic_id = 7,
	.pm_base = 0xb000,
	.dsdt = dsdt,
	.dsdt_size = DSDT_SIZE,
};
static uint8_t *block;
static size_t block_size;
static uint8_t facs[ACPI_FACS_SIZE];

const void *acpi_map(hpa_t hpa, size_t size)
{
	if (hpa.v < BLOCK_AT || size > block_size || hpa.v - BLOCK_AT > block_size - size)
		return NULL;
	return block + (hpa.v - BLOCK_AT);
}

static uint32_t get32(const uint8_t *p, size_t at)
{
	uint32_t value;

	memcpy(&value, p + at, sizeof(value));
	return value;
}

static int setup(void **state)
{
	(void)state;
	block_size = acpi_tables_size(&machine);
	block = calloc(1, block_size); /* the exact size: ASan sees a byte too many */
	assert_non_null(block);
	memset(facs, 0, sizeof(facs));
	acpi_tables_build(&machine, block, BLOCK_AT, facs, FACS_AT);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(block);
	return 0;
}

static void test_madt(void **state)
{
	struct acpi_processor processors[8];
	struct acpi_ioapic ioapics[2];
	struct acpi_override overrides[4];
	struct acpi_madt madt = { .processors = processors,
				  .processor_capacity = 8,
				  .ioapics = ioapics,
				  .ioapic_capacity = 2,
				  .overrides = overrides,
				  .override_capacity = 4 };
	struct acpi_table table;

	(void)state;
	assert_int_equal(acpi_find_table(HPA(BLOCK_AT), "APIC", &table), 0);
	assert_int_equal(acpi_parse_madt(table.data, table.size, &madt), 0);
	assert_int_equal(madt.processor_count, ARRAY_SIZE(apic_ids));
	for (uint32_t i = 0; i < ARRAY_SIZE(apic_ids); i++) {
		assert_int_equal(processors[i].apic_id, apic_ids[i]);
		assert_int_equal(processors[i].uid, i);
		assert_int_equal(processors[i].flags, ACPI_PROCESSOR_ENABLED);
	}
	assert_int_equal(madt.lapic_hpa, 0xfee00000);
	assert_true(madt.has_8259);
	assert_int_equal(madt.ioapic_count, 1);
	assert_int_equal(ioapics[0].id, 7);
	assert_int_equal(ioapics[0].hpa, 0xfec00000);
	assert_int_equal(ioapics[0].gsi_base, 0);
	assert_int_equal(madt.override_count, 2);
	assert_int_equal(overrides[0].isa_irq, 0);
	assert_int_equal(overrides[0].gsi, 2);
	assert_int_equal(overrides[0].flags, 0);
	assert_int_equal(overrides[1].isa_irq, 9);
	assert_int_equal(overrides[1].gsi, 16);
	assert_int_equal(overrides[1].flags, 0xf);
}

static void test_fadt(void **state)
{
	struct acpi_fadt fadt;
	struct acpi_table table;
	const uint8_t *p;

	(void)state;
	assert_int_equal(acpi_find_table(HPA(BLOCK_AT), "FACP", &table), 0);
	assert_int_equal(acpi_parse_fadt(table.data, table.size, &fadt), 0);
	assert_int_equal(fadt.pm_timer_port, 0xb008);
	assert_false(fadt.pm_timer_32bit);
	assert_int_equal(fadt.reset.space, ACPI_SPACE_IO);
	assert_int_equal(fadt.reset.address, 0xcf9);
	assert_int_equal(fadt.reset_value, 4);

	p = table.data;
	assert_int_equal(get32(p, 36), FACS_AT);
	assert_int_equal(get32(p, 48), 0); /* no SMI command port: ACPI mode for good */
	assert_int_equal(get32(p, 56), 0xb000);
	assert_int_equal(get32(p, 64), 0xb004);
	assert_int_equal(get32(p, 76), 0xb008);
	assert_int_equal(get32(p, 140), get32(p, 40)); /* one DSDT */
	assert_memory_equal(block + (get32(p, 40) - BLOCK_AT), dsdt, DSDT_SIZE);
}

/* Without its 64-bit pointer the RSDP leads to the same tables through the RSDT. */
static void test_rsdt(void **state)
{
	struct acpi_table by_xsdt, by_rsdt;

	(void)state;
	assert_int_equal(acpi_find_table(HPA(BLOCK_AT), "FACP", &by_xsdt), 0);
	block[15] = 0; /* revision 1 */
	block[8] += 2; /* and its checksum */
	assert_int_equal(acpi_find_table(HPA(BLOCK_AT), "FACP", &by_rsdt), 0);
	assert_int_equal(by_rsdt.hpa.v, by_xsdt.hpa.v);
	assert_int_equal(acpi_find_table(HPA(BLOCK_AT), "APIC", &by_rsdt), 0);
}

static void test_facs(void **state)
{
	(void)state;
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(get32(facs, 4), ACPI_FACS_SIZE);
	assert_int_equal(facs[32], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_madt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_fadt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rsdt, setup, teardown),
		cmocka_unit_test_setup_teardown(test_facs, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
