/* SPDX-License-Identifier: MIT */
/*
 * Reserving the hypervisor's memory and reading the memory map (UEFI 2.10 7.2).
 */
#include "firmware_memory.h"

#include <errno.h>

enum { DESCRIPTOR_SLACK = 32 }; /* lines that our own allocations may add to the map */

/*
 * A startup IPI reaches the low 640 KiB. Their last page is left alone: systems look for BIOS tables in its last KiB
 * (Linux: the MP floating pointer at 9fc00h), and the root may not touch our page.
 */
#define TRAMPOLINE_LAST 0x9efffull
#define BELOW_4G 0xffffffffull

static uint64_t take_pages(uint64_t last_byte, uint64_t pages)
{
	EFI_PHYSICAL_ADDRESS at = last_byte;

	if (EFI_ERROR(efi_boot->AllocatePages(AllocateMaxAddress, EfiReservedMemoryType, pages, &at)))
		return 0;
	return at;
}

/* Takes 2 MiB more and gives back what sticks out of the aligned block. */
static uint64_t take_aligned(uint64_t last_byte, uint64_t size)
{
	uint64_t taken_size = size + SIZE_2M - PAGE_SIZE;
	uint64_t taken = take_pages(last_byte, taken_size / PAGE_SIZE);
	uint64_t base = ALIGN_UP(taken, SIZE_2M);

	if (!taken)
		return 0;
	if (base > taken)
		efi_boot->FreePages(taken, (base - taken) / PAGE_SIZE);
	if (taken + taken_size > base + size)
		efi_boot->FreePages(base + size, (taken + taken_size - base - size) / PAGE_SIZE);
	return base;
}

int hv_memory_reserve(struct hv_memory *memory)
{
	memory->base = take_aligned(BELOW_4G, memory->size);
	if (!memory->base)
		memory->base = take_aligned(UINT64_MAX, memory->size);
	if (!memory->base)
		return -ENOMEM;
	memory->trampoline = take_pages(TRAMPOLINE_LAST, 1);
	return 0;
}

void hv_memory_free(const struct hv_memory *memory)
{
	efi_boot->FreePages(memory->base, memory->size / PAGE_SIZE);
	if (memory->trampoline)
		efi_boot->FreePages(memory->trampoline, 1);
}

static size_t descriptor_count_max(UINTN *descriptor_size)
{
	UINTN size = 0, key;
	UINT32 version;

	/* Fails for want of room, and tells how much it needs. */
	(void)efi_boot->GetMemoryMap(&size, NULL, &key, descriptor_size, &version);
	return *descriptor_size ? size / *descriptor_size + DESCRIPTOR_SLACK : 0;
}

size_t firmware_memory_capacity(void)
{
	UINTN descriptor_size = 0;

	return memory_map_capacity(descriptor_count_max(&descriptor_size), 2);
}

/* Turns descriptors of the firmware's size into ours; `out` has room for `count`. */
static void to_sources(struct memory_source *out, const uint8_t *descriptors, size_t count,
		       UINTN descriptor_size)
{
	for (size_t i = 0; i < count; i++) {
		const EFI_MEMORY_DESCRIPTOR *descriptor = (const void *)(descriptors + i * descriptor_size);

		out[i] = (struct memory_source){ descriptor->PhysicalStart, descriptor->NumberOfPages,
						 descriptor->Type };
	}
}

/* Reads the firmware's map into `*out`, which the caller frees: pool_free(). 0, -EIO or -ENOMEM. */
static int read_sources(struct memory_source **out, size_t *count)
{
	UINTN descriptor_size = 0, key;
	size_t count_max = descriptor_count_max(&descriptor_size);
	UINTN size = count_max * descriptor_size;
	uint8_t *descriptors = pool_alloc(size);
	struct memory_source *sources = pool_alloc(count_max * sizeof(*sources));
	UINT32 version;
	int err = -ENOMEM;

	if (descriptors && sources) {
		err = -EIO;
		if (count_max &&
		    !EFI_ERROR(efi_boot->GetMemoryMap(&size, (EFI_MEMORY_DESCRIPTOR *)(void *)descriptors,
						      &key, &descriptor_size, &version))) {
			*count = size / descriptor_size;
			to_sources(sources, descriptors, *count, descriptor_size);
			err = 0;
		}
	}
	pool_free(descriptors);
	if (err)
		pool_free(sources);
	else
		*out = sources;
	return err;
}

uint64_t firmware_memory_ram_bytes(void)
{
	struct memory_source *sources;
	uint64_t pages = 0;
	size_t count;

	if (read_sources(&sources, &count))
		return 0;
	for (size_t i = 0; i < count; i++)
		if (memory_kind_of_efi_type(sources[i].type) == BOOT_MEMORY_RAM)
			pages += sources[i].pages;
	pool_free(sources);
	return pages * PAGE_SIZE;
}

int firmware_memory_map(struct memory_map *map, const struct hv_memory *hidden)
{
	struct memory_source *sources;
	size_t count;
	int err = read_sources(&sources, &count);

	if (err)
		return err;
	err = memory_map_build(map, sources, count);
	pool_free(sources);
	if (!err)
		err = memory_map_exclude(map, hidden->base, hidden->size);
	if (!err && hidden->trampoline)
		err = memory_map_exclude(map, hidden->trampoline, PAGE_SIZE);
	return err;
}
