/* SPDX-License-Identifier: MIT */
/*
 * Reads the redirection table of an I/O APIC (82093AA data sheet, SDM3 11). I/O APICs belong to the root: nothing is
 * written but the index register, which is put back. Another LP using it meanwhile would be disturbed, so call this
 * only while the root does not run.
 */
#ifndef TRIVET_IOAPIC_H
#define TRIVET_IOAPIC_H

#include <trivet/types.h>

struct ioapic {
	volatile void *mmio; /* the mapped page */
	uint32_t entries;    /* 1-240 */
	uint8_t version;
};

struct ioapic_entry {
	uint8_t vector;
	uint8_t mode; /* 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT */
	uint8_t dest; /* APIC id or logical mask */
	bool logical;
	bool level;
	bool active_low;
	bool masked;
	bool remote_irr;
	bool pending; /* delivery status */
};

/* Fills *io. -EINVAL: mmio is NULL; -ENODEV: no I/O APIC answers there. */
int ioapic_init(struct ioapic *io, volatile void *mmio);

uint32_t ioapic_entry_count(const struct ioapic *io);

/* Reads and decodes entry n. -EINVAL: n is not below the count. */
int ioapic_read_entry(const struct ioapic *io, uint32_t n, struct ioapic_entry *entry);

#endif
