/* SPDX-License-Identifier: MIT */
/*
 * Reading an I/O APIC's redirection table (82093AA data sheet 3.2). The index register is read first and put back after
 * each access: the root may have been stopped between writing it and using the window.
 */
#include <errno.h>
#include <trivet/io.h>
#include <trivet/ioapic.h>

#define IOAPIC_INDEX 0x00
#define IOAPIC_WINDOW 0x10

#define IOAPIC_REG_VERSION 0x01
#define IOAPIC_REG_ENTRY 0x10 /* two registers each */
#define IOAPIC_ENTRIES_MAX 240u

static uint32_t ioapic_read(const struct ioapic *io, uint32_t reg)
{
	volatile char *base = io->mmio;
	uint32_t index = mmio_read32(base + IOAPIC_INDEX);
	uint32_t value;

	mmio_write32(base + IOAPIC_INDEX, reg);
	value = mmio_read32(base + IOAPIC_WINDOW);
	mmio_write32(base + IOAPIC_INDEX, index);
	return value;
}

int ioapic_init(struct ioapic *io, volatile void *mmio)
{
	uint32_t version;

	*io = (struct ioapic){ .mmio = mmio };
	if (!mmio)
		return -EINVAL;
	version = ioapic_read(io, IOAPIC_REG_VERSION);
	if (version == 0 || version == UINT32_MAX)
		return -ENODEV;
	io->version = (uint8_t)version;
	io->entries = (version >> 16 & 0xff) + 1;
	if (io->entries > IOAPIC_ENTRIES_MAX)
		return -ENODEV;
	return 0;
}

uint32_t ioapic_entry_count(const struct ioapic *io)
{
	return io->entries;
}

int ioapic_read_entry(const struct ioapic *io, uint32_t n, struct ioapic_entry *entry)
{
	uint32_t low, high;

	if (n >= io->entries)
		return -EINVAL;
	low = ioapic_read(io, IOAPIC_REG_ENTRY + 2 * n);
	high = ioapic_read(io, IOAPIC_REG_ENTRY + 2 * n + 1);
	*entry = (struct ioapic_entry){
		.vector = (uint8_t)low,
		.mode = low >> 8 & 7,
		.dest = (uint8_t)(high >> 24),
		.logical = (low & BIT(11)) != 0,
		.pending = (low & BIT(12)) != 0,
		.active_low = (low & BIT(13)) != 0,
		.remote_irr = (low & BIT(14)) != 0,
		.level = (low & BIT(15)) != 0,
		.masked = (low & BIT(16)) != 0,
	};
	return 0;
}
