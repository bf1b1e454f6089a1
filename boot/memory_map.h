/* SPDX-License-Identifier: MIT */
/*
 * From the firmware's memory map to the one in the hand-off: ascending, merged, without overlaps
 * and without the hypervisor's own memory. Pure code; the caller turns EFI descriptors into `struct
 * memory_source`.
 */
#ifndef TRIVET_BOOT_MEMORY_MAP_H
#define TRIVET_BOOT_MEMORY_MAP_H

#include <stddef.h>
#include <stdint.h>

#include <trivet/boot_handoff.h>

/* One line of the firmware's map, in any order. */
struct memory_source {
	uint64_t base_hpa;
	uint64_t pages; /* of 4 KiB */
	uint32_t type;	/* EFI memory type, UEFI 2.10 table 7.10 */
};

struct memory_map {
	struct boot_memory_range *ranges;
	size_t count;
	size_t capacity;
};

/* Room that `sources` lines and `holes` exclusions can need at most, in ranges. */
size_t memory_map_capacity(size_t sources, size_t holes);

/*
 * Fill the empty `map` from `sources`. Where lines overlap, the stricter kind wins (MMIO over
 * firmware over RAM). Lines that are unaligned or wrap around the address space are left out; so is
 * EFI unusable memory. 0, or -ENOSPC.
 */
int memory_map_build(struct memory_map *map, const struct memory_source *sources, size_t count);

/*
 * Take [base, base + size) out. Both page aligned. 0, or -ENOSPC when a range had to be split and
 * there is no room.
 */
int memory_map_exclude(struct memory_map *map, uint64_t base, uint64_t size);

/* EFI memory type to enum boot_memory_kind, 0: not to be handed over. */
uint32_t memory_kind_of_efi_type(uint32_t type);

#endif
