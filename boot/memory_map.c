/* SPDX-License-Identifier: MIT */
/*
 * The memory map of the hand-off. Ranges are inserted kind by kind, the strictest last, each
 * cutting its place out of what is there; so firmware maps with overlaps (they exist) still give
 * one answer per page.
 */
#include "memory_map.h"

#include <errno.h>
#include <string.h>

/* UEFI 2.10 table 7.10 */
enum {
	EFI_RESERVED = 0,
	EFI_LOADER_CODE,
	EFI_LOADER_DATA,
	EFI_BOOT_SERVICES_CODE,
	EFI_BOOT_SERVICES_DATA,
	EFI_RUNTIME_CODE,
	EFI_RUNTIME_DATA,
	EFI_CONVENTIONAL,
	EFI_UNUSABLE,
	EFI_ACPI_RECLAIM,
	EFI_ACPI_NVS,
	EFI_MMIO,
	EFI_MMIO_PORTS,
	EFI_PAL_CODE,
	EFI_PERSISTENT,
	EFI_UNACCEPTED,
};

uint32_t memory_kind_of_efi_type(uint32_t type)
{
	switch (type) {
	case EFI_LOADER_CODE:
	case EFI_LOADER_DATA:
	case EFI_BOOT_SERVICES_CODE:
	case EFI_BOOT_SERVICES_DATA:
	case EFI_CONVENTIONAL:
	case EFI_PERSISTENT:
		return BOOT_MEMORY_RAM;
	case EFI_MMIO:
	case EFI_MMIO_PORTS:
		return BOOT_MEMORY_MMIO;
	case EFI_UNUSABLE: /* RAM with errors: nobody may touch it */
	case EFI_UNACCEPTED:
		return 0;
	default: /* ACPI, runtime, reserved, and types of firmware makers and OS loaders */
		return BOOT_MEMORY_FIRMWARE;
	}
}

size_t memory_map_capacity(size_t sources, size_t holes)
{
	/* Each insertion adds one range and may split another; each hole may split one. */
	return 2 * sources + holes;
}

static uint64_t range_end(const struct boot_memory_range *range)
{
	return range->base_hpa + range->size;
}

static int insert_at(struct memory_map *map, size_t index, struct boot_memory_range range)
{
	if (map->count == map->capacity)
		return -ENOSPC;
	memmove(&map->ranges[index + 1], &map->ranges[index], (map->count - index) * sizeof(range));
	map->ranges[index] = range;
	map->count++;
	return 0;
}

static void remove_at(struct memory_map *map, size_t index)
{
	map->count--;
	memmove(&map->ranges[index], &map->ranges[index + 1], (map->count - index) * sizeof(map->ranges[0]));
}

int memory_map_exclude(struct memory_map *map, uint64_t base, uint64_t size)
{
	uint64_t end = base + size;
	size_t i = 0;

	while (i < map->count) {
		struct boot_memory_range *range = &map->ranges[i];
		struct boot_memory_range tail = *range;

		if (range_end(range) <= base) {
			i++;
			continue;
		}
		if (range->base_hpa >= end)
			break;
		tail.base_hpa = end;
		tail.size = range_end(range) > end ? range_end(range) - end : 0;
		if (range->base_hpa < base) {
			range->size = base - range->base_hpa;
			i++;
			if (tail.size)
				return insert_at(map, i, tail);
		} else if (tail.size) {
			*range = tail;
			return 0;
		} else {
			remove_at(map, i);
		}
	}
	return 0;
}

static int put_range(struct memory_map *map, struct boot_memory_range range)
{
	size_t index = 0;

	if (memory_map_exclude(map, range.base_hpa, range.size))
		return -ENOSPC;
	while (index < map->count && map->ranges[index].base_hpa < range.base_hpa)
		index++;
	return insert_at(map, index, range);
}

static void merge(struct memory_map *map)
{
	size_t kept = 0;

	for (size_t i = 0; i < map->count; i++) {
		struct boot_memory_range *last = kept ? &map->ranges[kept - 1] : NULL;

		if (last && last->kind == map->ranges[i].kind && range_end(last) == map->ranges[i].base_hpa)
			last->size += map->ranges[i].size;
		else
			map->ranges[kept++] = map->ranges[i];
	}
	map->count = kept;
}

int memory_map_build(struct memory_map *map, const struct memory_source *sources, size_t count)
{
	map->count = 0;
	for (uint32_t kind = BOOT_MEMORY_RAM; kind <= BOOT_MEMORY_MMIO; kind++) {
		for (size_t i = 0; i < count; i++) {
			const struct memory_source *source = &sources[i];
			uint64_t size = source->pages << PAGE_SHIFT;

			if (memory_kind_of_efi_type(source->type) != kind || !source->pages ||
			    source->pages > UINT64_MAX >> PAGE_SHIFT ||
			    !IS_ALIGNED(source->base_hpa, PAGE_SIZE) || size > UINT64_MAX - source->base_hpa)
				continue;
			if (put_range(map, (struct boot_memory_range){ source->base_hpa, size, kind, 0 }))
				return -ENOSPC;
		}
	}
	merge(map);
	return 0;
}
