/* SPDX-License-Identifier: MIT */
/*
 * A minimal set of ACPI tables for a machine whose firmware has none, laid out in one block: RSDP, RSDT, XSDT, FADT,
 * MADT, DSDT, and the FACS in a page of its own. Pure code; acpi.c finds out about the machine and installs them.
 */
#ifndef TESTS_ACPI_TABLES_H
#define TESTS_ACPI_TABLES_H

#include <stddef.h>
#include <stdint.h>

struct acpi_machine {
	const uint32_t *apic_ids;
	uint32_t processor_count;
	uint32_t lapic_address;
	uint32_t ioapic_address;
	uint8_t ioapic_id;
	uint16_t pm_base; /* PIIX4 power management ports */
	const void *dsdt; /* compiled, with its header */
	uint32_t dsdt_size;
};

#define ACPI_FACS_SIZE 64u

/* Bytes that the block needs. */
size_t acpi_tables_size(const struct acpi_machine *machine);

/*
 * Fills the zeroed block at `block` (acpi_tables_size() bytes) and the zeroed FACS. Addresses are where the
 * operating system finds them, below 4 GiB: the block's multiple of 16, the FACS' of 64. The RSDP is the block's first.
 */
void acpi_tables_build(const struct acpi_machine *machine, void *block, uint32_t block_address, void *facs,
		       uint32_t facs_address);

#endif
