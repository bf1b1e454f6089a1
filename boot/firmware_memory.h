/* SPDX-License-Identifier: MIT */
/*
 * Memory from the firmware's point of view: what the hypervisor keeps, and the map of everything
 * else.
 */
#ifndef TRIVET_BOOT_FIRMWARE_MEMORY_H
#define TRIVET_BOOT_FIRMWARE_MEMORY_H

#include "efi_api.h"
#include "memory_map.h"

/*
 * What the hypervisor keeps for good; host physical addresses, which the loader sees identity
 * mapped.
 */
struct hv_memory {
	uint64_t base;	     /* 2 MiB aligned */
	uint64_t size;	     /* bytes, multiple of 2 MiB */
	uint64_t trampoline; /* one page below 1 MiB, 0: none could be had */
};

/*
 * Reserve memory->size bytes and the trampoline page. 0, or -ENOMEM. A missing trampoline is no
 * error.
 */
int hv_memory_reserve(struct hv_memory *memory);
void hv_memory_free(const struct hv_memory *memory);

/* RAM that the firmware tells of; 0 when it tells nothing. */
uint64_t firmware_memory_ram_bytes(void);

/* Ranges that firmware_memory_map() may need, with a reserve for what is allocated in between. */
size_t firmware_memory_capacity(void);

/*
 * Build the firmware's current map into `map`, without `hidden`. 0, -EIO (firmware error), -ENOMEM
 * or -ENOSPC.
 */
int firmware_memory_map(struct memory_map *map, const struct hv_memory *hidden);

#endif
