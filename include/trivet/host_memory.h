/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's own view of memory.
 *
 *   0000'0000'0000'0000 + trampoline   one page, read and execute: where processors start
 *   ffff'8000'0000'0000 + hpa          the RAM window: all RAM that is not the hypervisor's, read-write, no execute
 *   ffff'ff00'0000'0000                device registers, uncached
 *   ffff'ffff'8000'0000                the hypervisor's block: image by segment (W^X), then the page pool
 *
 * The window holds nothing of the hypervisor, so a wrong guest address can't reach it; loads from the window that a
 * guest controls go through guest_read.h, which survives a fault.
 */
#ifndef TRIVET_HOST_MEMORY_H
#define TRIVET_HOST_MEMORY_H

#include <trivet/boot_handoff.h>
#include <trivet/page_alloc.h>
#include <trivet/types.h>

#define RAM_WINDOW_BASE 0xffff800000000000ull
#define RAM_WINDOW_SIZE BIT(46)
#define MMIO_WINDOW_BASE 0xffffff0000000000ull
#define MMIO_WINDOW_SIZE SIZE_1G

/* Pages of the hypervisor itself (later: partitions' pools are carved from their parents' memory instead). */
extern struct page_pool host_pool;

/* True when [hpa, hpa + size) touches memory that belongs to the hypervisor: its block or the trampoline page. */
bool host_memory_is_ours(hpa_t hpa, uint64_t size);

/* True when [hpa, hpa + size) is all RAM that an operating system may use as it likes: nothing of the firmware's or ours. */
bool host_memory_is_ram(hpa_t hpa, uint64_t size);

/* The end of the highest RAM. */
uint64_t host_memory_end(void);

/*
 * False when `hpa` is RAM, the firmware's included. Otherwise [*start, *end), in which it lies, shrinks to the stretch
 * around it without RAM.
 */
bool host_memory_clip_to_devices(hpa_t hpa, uint64_t *start, uint64_t *end);

/*
 * Builds the hypervisor's final tables from the hand-off and switches to them; host_pool is ready afterwards.
 * 0; -ENOMEM when the block is too small; -EINVAL when the memory map makes no sense.
 */
int host_memory_init(struct boot_handoff *handoff);

/* The CR3 every LP runs on. Below 4 GiB, for processors that start in real mode. */
uint64_t host_cr3(void);

/* Maps device registers uncached. `hpa` and `size` need no alignment. NULL when out of pages or window. */
volatile void *host_map_mmio(hpa_t hpa, uint64_t size);

/* Takes one page out of the map: to guard a stack, or after use. Before other LPs are up: only this one's TLB is flushed. */
void host_unmap_page(void *page);

/* A pointer into the RAM window for [hpa, hpa + size), NULL when that isn't all RAM outside the hypervisor. */
const void *host_ram_window(hpa_t hpa, uint64_t size);

#endif
