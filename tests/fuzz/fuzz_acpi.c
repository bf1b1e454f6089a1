/* fuzz: drivers/acpi.c */
/* SPDX-License-Identifier: MIT */
/*
 * ACPI parsers on hostile firmware. The input is physical memory from address 0x1000 up, the RSDP at its start. The
 * fuzzer can't guess checksums, so its first byte says whether they are put right (for RSDP and the tables it points to)
 * and the tables are also parsed directly.
 */
#include <stdlib.h>
#include <string.h>
#include <trivet/acpi.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BASE 0x1000u

static uint8_t *memory;
static size_t memory_size;
static uint8_t *mapped;

/* An exact copy each time, so that ASan sees one byte too many and any use after the next call. */
const void *acpi_map(hpa_t hpa, size_t size)
{
	free(mapped);
	mapped = NULL;
	if (hpa.v < BASE || size > memory_size || hpa.v - BASE > memory_size - size)
		return NULL;
	mapped = malloc(size ? size : 1);
	memcpy(mapped, memory + (hpa.v - BASE), size);
	return mapped;
}

static void fix_sum(size_t start, size_t size, size_t at)
{
	uint8_t sum = 0;

	if (start > memory_size || size > memory_size - start || at >= size)
		return;
	memory[start + at] = 0;
	for (size_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + memory[start + i]);
	memory[start + at] = (uint8_t)(0 - sum);
}

static uint32_t get32(size_t at)
{
	uint32_t value = 0;

	if (at <= memory_size && memory_size - at >= 4)
		memcpy(&value, memory + at, 4);
	return value;
}

static void fix_all(void)
{
	size_t root = (size_t)get32(24) - BASE;
	uint32_t length = get32(root + 4);

	memcpy(memory, "RSD PTR ", 8);
	for (size_t i = 36; i + 8 <= length && i < 128; i += 8) {
		size_t table = (size_t)get32(root + i) - BASE;

		fix_sum(table, get32(table + 4), 9);
	}
	fix_sum(root, length, 9);
	fix_sum(0, 20, 8);
	fix_sum(0, get32(20), 32);
}

static void parse_directly(const uint8_t *data, size_t size)
{
	struct acpi_processor processors[3];
	struct acpi_ioapic ioapics[2];
	struct acpi_override overrides[2];
	struct acpi_madt madt = { .processors = processors,
				  .processor_capacity = 3,
				  .ioapics = ioapics,
				  .ioapic_capacity = 2,
				  .overrides = overrides,
				  .override_capacity = 2 };
	uint8_t *copy = malloc(size ? size : 1);
	struct acpi_fadt fadt;

	memcpy(copy, data, size);
	if (size >= 4)
		memcpy(copy, "APIC", 4);
	(void)acpi_parse_madt(copy, size, &madt);
	if (size >= 4)
		memcpy(copy, "FACP", 4);
	(void)acpi_parse_fadt(copy, size, &fadt);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct acpi_table table;

	if (size < 37)
		return 0;
	memory_size = size - 1;
	memory = malloc(memory_size);
	memcpy(memory, data + 1, memory_size);
	if (data[0] & 1)
		fix_all();
	if (!acpi_find_table(HPA(BASE), "APIC", &table))
		parse_directly(table.data, table.size);
	if (!acpi_find_table(HPA(BASE), "FACP", &table))
		parse_directly(table.data, table.size);
	parse_directly(data + 1, memory_size);
	free(memory);
	free(mapped);
	mapped = NULL;
	return 0;
}
