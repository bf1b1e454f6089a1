/* SPDX-License-Identifier: MIT */
/*
 * Writes the tables byte by byte: each is read by its offsets in the specification (ACPI 6.5, chapter 5.2), and so it
 * is written.
 */
#include "tables.h"

#include <string.h>

enum {
	HEADER_SIZE = 36,
	RSDP_SIZE = 36,
	RSDT_SIZE = HEADER_SIZE + 2 * 4,
	XSDT_SIZE = HEADER_SIZE + 2 * 8,
	FADT_SIZE = 244, /* revision 3: ACPI 2.0, the first with a reset register */
	MADT_FIXED_SIZE = 44,
	MADT_LAPIC_SIZE = 8,
	MADT_X2APIC_SIZE = 16,
	MADT_IOAPIC_SIZE = 12,
	MADT_OVERRIDE_SIZE = 10,
	MADT_NMI_SIZE = 6,
};

/* The first 8-bit id that a local APIC entry can't hold. */
#define X2APIC_ID 255u

#define SCI_IRQ 9u
/* Bochs wires the PIIX4's interrupt like pin A of device 1, not to IRQ 9 as the chip does. */
#define SCI_GSI 16u
#define FLAGS_LEVEL_LOW 0xfu
#define RESET_PORT 0xcf9u
#define RESET_SOFT 0x04u

struct layout {
	uint32_t rsdt, xsdt, fadt, madt, dsdt, size;
	uint32_t madt_size;
};

static void put(uint8_t *table, uint32_t offset, uint64_t value, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		table[offset + i] = (uint8_t)(value >> (8 * i));
}

static void set_checksum(uint8_t *bytes, uint32_t size, uint32_t at)
{
	uint8_t sum = 0;

	bytes[at] = 0;
	for (uint32_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + bytes[i]);
	bytes[at] = (uint8_t)(0 - sum);
}

/* 5.2.6; comes last, as it sums up the whole table. */
static void put_header(uint8_t *table, const char *signature, uint32_t size, uint8_t revision)
{
	memcpy(table, signature, 4);
	put(table, 4, size, 4);
	table[8] = revision;
	memcpy(table + 10, "TRIVET", 6);
	memcpy(table + 16, "TESTBED ", 8);
	put(table, 24, 1, 4);
	memcpy(table + 28, "TRVT", 4);
	put(table, 32, 1, 4);
	set_checksum(table, size, 9);
}

static struct layout plan(const struct acpi_machine *machine)
{
	struct layout l = { 0 };
	uint32_t at = (RSDP_SIZE + 15u) & ~15u;

	l.madt_size = MADT_FIXED_SIZE + MADT_IOAPIC_SIZE + 2 * MADT_OVERRIDE_SIZE + MADT_NMI_SIZE;
	for (uint32_t i = 0; i < machine->processor_count; i++)
		l.madt_size += machine->apic_ids[i] < X2APIC_ID ? MADT_LAPIC_SIZE : MADT_X2APIC_SIZE;
	l.rsdt = at;
	at += (RSDT_SIZE + 15u) & ~15u;
	l.xsdt = at;
	at += (XSDT_SIZE + 15u) & ~15u;
	l.fadt = at;
	at += (FADT_SIZE + 15u) & ~15u;
	l.madt = at;
	at += (l.madt_size + 15u) & ~15u;
	l.dsdt = at;
	l.size = at + machine->dsdt_size;
	return l;
}

size_t acpi_tables_size(const struct acpi_machine *machine)
{
	return plan(machine).size;
}

/* 5.2.5.3 */
static void build_rsdp(uint8_t *p, uint32_t rsdt, uint32_t xsdt)
{
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, "TRIVET", 6);
	p[15] = 2;
	put(p, 16, rsdt, 4);
	put(p, 20, RSDP_SIZE, 4);
	put(p, 24, xsdt, 8);
	set_checksum(p, 20, 8);
	set_checksum(p, RSDP_SIZE, 32);
}

static void put_register(uint8_t *table, uint32_t offset, uint16_t port, uint8_t bits)
{
	table[offset] = 1; /* 5.2.3.2: system I/O space */
	table[offset + 1] = bits;
	table[offset + 3] = bits == 8 ? 1 : bits == 16 ? 2 : 3; /* access size */
	put(table, offset + 4, port, 8);
}

/*
 * 5.2.9. No SMI command port: the machine is in ACPI mode from the start. The PIIX4's general purpose events are not
 * there in Bochs, and neither are buttons.
 */
static void build_fadt(uint8_t *p, const struct acpi_machine *machine, uint32_t facs, uint32_t dsdt)
{
	uint16_t pm = machine->pm_base;

	put(p, 36, facs, 4);
	put(p, 40, dsdt, 4);
	put(p, 46, SCI_IRQ, 2);
	put(p, 56, pm, 4);		 /* PM1a event block: status, enable */
	put(p, 64, (uint64_t)pm + 4, 4); /* PM1a control block */
	put(p, 76, (uint64_t)pm + 8, 4); /* PM timer, 24 bits */
	p[88] = 4;
	p[89] = 2;
	p[91] = 4;
	put(p, 96, 0xffff, 2);	/* no C2, */
	put(p, 98, 0xffff, 2);	/* no C3 */
	p[108] = 0x32;		/* the RTC's century byte */
	put(p, 109, 0x0003, 2); /* there are ISA devices and an 8042 */
	/* WBINVD works, C1 on all processors, no power button, no sleep button, RTC wakes not from S4, reset register */
	put(p, 112, 1u << 0 | 1u << 2 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 10, 4);
	put_register(p, 116, RESET_PORT, 8);
	p[128] = RESET_SOFT;
	put(p, 140, dsdt, 8);
	put_register(p, 148, pm, 32);
	put_register(p, 172, (uint16_t)(pm + 4), 16);
	put_register(p, 208, (uint16_t)(pm + 8), 32);
	put_header(p, "FACP", FADT_SIZE, 3);
}

static uint8_t *put_override(uint8_t *e, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	e[0] = 2;
	e[1] = MADT_OVERRIDE_SIZE;
	e[3] = irq;
	put(e, 4, gsi, 4);
	put(e, 8, flags, 2);
	return e + MADT_OVERRIDE_SIZE;
}

/* 5.2.12.2 and 5.2.12.12 */
static uint8_t *put_processor(uint8_t *e, uint32_t uid, uint32_t apic_id)
{
	if (apic_id < X2APIC_ID) {
		e[0] = 0;
		e[1] = MADT_LAPIC_SIZE;
		e[2] = (uint8_t)uid;
		e[3] = (uint8_t)apic_id;
		put(e, 4, 1, 4);
		return e + MADT_LAPIC_SIZE;
	}
	e[0] = 9;
	e[1] = MADT_X2APIC_SIZE;
	put(e, 4, apic_id, 4);
	put(e, 8, 1, 4);
	put(e, 12, uid, 4);
	return e + MADT_X2APIC_SIZE;
}

static void build_madt(uint8_t *p, const struct acpi_machine *machine, uint32_t size)
{
	uint8_t *e = p + MADT_FIXED_SIZE;

	put(p, 36, machine->lapic_address, 4);
	put(p, 40, 1, 4); /* there are 8259s, too */
	for (uint32_t i = 0; i < machine->processor_count; i++)
		e = put_processor(e, i, machine->apic_ids[i]);
	e[0] = 1;
	e[1] = MADT_IOAPIC_SIZE;
	e[2] = machine->ioapic_id;
	put(e, 4, machine->ioapic_address, 4);
	e = put_override(e + MADT_IOAPIC_SIZE, 0, 2, 0); /* the timer */
	e = put_override(e, SCI_IRQ, SCI_GSI, FLAGS_LEVEL_LOW);
	e[0] = 4; /* 5.2.12.7: NMI at LINT1 of all processors */
	e[1] = MADT_NMI_SIZE;
	e[2] = 0xff;
	e[5] = 1;
	put_header(p, "APIC", size, 3);
}

static void build_root_tables(uint8_t *rsdt, uint8_t *xsdt, uint32_t fadt, uint32_t madt)
{
	put(rsdt, HEADER_SIZE, fadt, 4);
	put(rsdt, HEADER_SIZE + 4, madt, 4);
	put_header(rsdt, "RSDT", RSDT_SIZE, 1);
	put(xsdt, HEADER_SIZE, fadt, 8);
	put(xsdt, HEADER_SIZE + 8, madt, 8);
	put_header(xsdt, "XSDT", XSDT_SIZE, 1);
}

void acpi_tables_build(const struct acpi_machine *machine, void *block, uint32_t block_address, void *facs,
		       uint32_t facs_address)
{
	struct layout l = plan(machine);
	uint8_t *b = block, *f = facs;

	memcpy(f, "FACS", 4); /* 5.2.10: it has no checksum */
	put(f, 4, ACPI_FACS_SIZE, 4);
	f[32] = 1;
	memcpy(b + l.dsdt, machine->dsdt, machine->dsdt_size);
	build_madt(b + l.madt, machine, l.madt_size);
	build_fadt(b + l.fadt, machine, facs_address, block_address + l.dsdt);
	build_root_tables(b + l.rsdt, b + l.xsdt, block_address + l.fadt, block_address + l.madt);
	build_rsdp(b, block_address + l.rsdt, block_address + l.xsdt);
}
