/* unit: core/acpi_hide.c drivers/acpi.c */
/* SPDX-License-Identifier: MIT */
/* IOMMU tables vanish from the root's sight, every other table stays as it was. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/acpi.h>
#include <trivet/log.h>

#include "../../core/acpi_hide.h"

#define BASE 0x7f000000ull
#define XSDT_AT 0x100u

static uint8_t mem[4096];
enum log_level log_threshold;

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

const void *acpi_map(hpa_t hpa, size_t size)
{
	return hpa.v >= BASE && hpa.v + size <= BASE + sizeof(mem) ? mem + (hpa.v - BASE) : NULL;
}

static void put(uint32_t at, uint64_t value, unsigned int bytes)
{
	memcpy(mem + at, &value, bytes);
}

static void seal(uint32_t at, uint32_t size, uint32_t checksum)
{
	uint8_t sum = 0;

	mem[at + checksum] = 0;
	for (uint32_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + mem[at + i]);
	mem[at + checksum] = (uint8_t)-sum;
}

static void make_table(uint32_t at, const char *signature, uint32_t size)
{
	memcpy(mem + at, signature, 4);
	put(at + 4, size, 4);
	seal(at, size, 9);
}

static void make_machine(const char *const *signatures, unsigned int count)
{
	memset(mem, 0, sizeof(mem));
	memcpy(mem, "RSD PTR ", 8);
	mem[15] = 2;
	put(20, 36, 4);
	put(24, BASE + XSDT_AT, 8);
	seal(0, 20, 8);
	seal(0, 36, 32);
	for (unsigned int i = 0; i < count; i++) {
		put(XSDT_AT + 36 + 8 * i, BASE + 0x400 + 0x100 * i, 8);
		make_table(0x400 + 0x100 * i, signatures[i], 60 + i);
	}
	make_table(XSDT_AT, "XSDT", 36 + 8 * count);
}

static int find(const char *signature)
{
	struct acpi_table table;

	return acpi_find_table(HPA(BASE), signature, &table);
}

static void iommu_tables_are_hidden(void **state)
{
	static const char *const signatures[] = { "FACP", "DMAR", "APIC", "IVRS", "DMAR", "MCFG" };
	uint8_t before[sizeof(mem)];

	(void)state;
	make_machine(signatures, 6);
	memcpy(before, mem, sizeof(mem));
	assert_int_equal(acpi_hide_iommus(HPA(BASE)), 3);
	assert_int_not_equal(find("DMAR"), 0);
	assert_int_not_equal(find("IVRS"), 0);
	/* Renamed, with a right checksum; everything else is as it was. */
	assert_int_equal(find("XMAR"), 0);
	assert_int_equal(find("XVRS"), 0);
	for (unsigned int i = 0; i < 6; i++)
		if (signatures[i][0] != 'D' && signatures[i][0] != 'I')
			assert_int_equal(find(signatures[i]), 0);
	for (size_t i = 0, changed = 0; i < sizeof(mem); i++) {
		changed += before[i] != mem[i];
		assert_true(changed <= 6);
	}
	assert_int_equal(acpi_hide_iommus(HPA(BASE)), 0);
}

static void a_machine_without_is_left_alone(void **state)
{
	static const char *const signatures[] = { "FACP", "APIC" };
	uint8_t before[sizeof(mem)];

	(void)state;
	make_machine(signatures, 2);
	memcpy(before, mem, sizeof(mem));
	assert_int_equal(acpi_hide_iommus(HPA(BASE)), 0);
	assert_memory_equal(before, mem, sizeof(mem));
	assert_int_equal(acpi_hide_iommus(HPA(0)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(iommu_tables_are_hidden),
		cmocka_unit_test(a_machine_without_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
