/* SPDX-License-Identifier: MIT */
/*
 * The few ACPI tables the hypervisor reads itself: root pointer, MADT (processors and I/O APICs) and FADT (PM timer,
 * reset register). Tables are firmware's data, often wrong: every length is checked before it is used, a malformed
 * table is -EINVAL, and nothing outside the table is ever read.
 */
#ifndef TRIVET_ACPI_H
#define TRIVET_ACPI_H

#include <trivet/types.h>

/*
 * Supplied by the user of this driver: a readable pointer to `size` bytes at `hpa`, or NULL when that is not all memory
 * that can be read. A pointer needs to stay valid only until the next call.
 */
const void *acpi_map(hpa_t hpa, size_t size);

#define ACPI_TABLE_SIZE_MAX (1u << 20)

/* A table whose length and checksum are right. */
struct acpi_table {
	hpa_t hpa;
	const void *data; /* valid until the next acpi_map() or acpi_find_table() */
	uint32_t size;	  /* bytes, with the 36-byte header */
};

/*
 * Finds the first table with this four-letter signature ("APIC", "FACP") through the RSDP at `rsdp` (RSDT or XSDT).
 * -ENOENT: no such table; -EINVAL: the RSDP, the root table or the table found is malformed; -EFAULT: one of them can't
 * be read.
 */
int acpi_find_table(hpa_t rsdp, const char *signature, struct acpi_table *table);

#define ACPI_PROCESSOR_ENABLED BIT(0)
#define ACPI_PROCESSOR_ONLINE_CAPABLE BIT(1)

struct acpi_processor {
	uint32_t apic_id;
	uint32_t uid;	/* ACPI processor UID */
	uint32_t flags; /* ACPI_PROCESSOR_* */
};

struct acpi_ioapic {
	uint64_t hpa;
	uint32_t id;
	uint32_t gsi_base; /* global system interrupt of its pin 0 */
};

/* An ISA interrupt that is not wired 1:1, or not edge/high (ACPI 6.5 5.2.12.5). */
struct acpi_override {
	uint32_t gsi;
	uint16_t flags; /* bits 0-1 polarity, 2-3 trigger mode */
	uint8_t isa_irq;
	uint8_t reserved;
};

/*
 * The caller sets the three arrays and capacities and gets counts. A NULL array with capacity 0 is not wanted: entries
 * are only counted. A count above the capacity of an array means that only the first `capacity` entries were stored;
 * acpi_parse_madt() then returns -ENOSPC.
 */
struct acpi_madt {
	struct acpi_processor *processors;
	uint32_t processor_capacity;
	uint32_t processor_count;
	struct acpi_ioapic *ioapics;
	uint32_t ioapic_capacity;
	uint32_t ioapic_count;
	struct acpi_override *overrides;
	uint32_t override_capacity;
	uint32_t override_count;
	uint64_t lapic_hpa; /* out: address of the local APICs' page */
	bool has_8259;	    /* out: two 8259 controllers are there too */
};

/*
 * Parses a MADT of `size` bytes. A processor listed both as local APIC and as x2APIC is stored once. Unknown entry types
 * are skipped. -EINVAL: malformed (outputs undefined); -ENOSPC: a capacity was too small, everything else is right.
 */
int acpi_parse_madt(const void *table, size_t size, struct acpi_madt *madt);

enum acpi_space {
	ACPI_SPACE_MEMORY = 0,
	ACPI_SPACE_IO = 1,
	ACPI_SPACE_PCI_CONFIG = 2,
};

/* ACPI 6.5 5.2.3.2: a register; address 0 means none. */
struct acpi_register {
	uint64_t address;
	uint8_t space; /* enum acpi_space */
	uint8_t bit_width;
	uint8_t reserved[6];
};

struct acpi_fadt {
	uint16_t pm_timer_port;	    /* 0: none */
	bool pm_timer_32bit;	    /* else 24 bits */
	uint8_t reset_value;	    /* written to `reset` to reset the machine */
	struct acpi_register reset; /* address 0: none */
	/* For power-off; address 0: none. */
	struct acpi_register pm1a_control, pm1b_control;
	struct acpi_register sleep_control; /* only of hardware-reduced ACPI, in place of the other two */
};

/* Parses a FADT of `size` bytes, any revision. -EINVAL: malformed. */
int acpi_parse_fadt(const void *table, size_t size, struct acpi_fadt *fadt);

#endif
