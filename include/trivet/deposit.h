/* SPDX-License-Identifier: MIT */
/*
 * Deposited memory (TLFS "HvCallDepositMemory"): pages that a parent gave the hypervisor for one partition. They leave
 * the parent's GPA space, on every processor, before they count as deposited, and come back by withdrawal, each once. All that serves a
 * child lies in them, and what a parent is to see: statistics pages and the like. A page that a child has mapped can't be deposited
 * (page_use.h).
 *
 * Devices of the root reach them as they reach the hypervisor's own memory, as long as there is no IOMMU between.
 *
 * Today's parents see physical memory at its own address (the root), so a page has one number.
 */
#ifndef TRIVET_DEPOSIT_H
#define TRIVET_DEPOSIT_H

#include <trivet/lock.h>
#include <trivet/page_source.h>
#include <trivet/types.h>

struct partition;
struct vp;

/* In struct partition: what was deposited for it. Zero, but for the lock, is empty. */
struct deposit_pool {
	struct spinlock lock;
	struct page_source source;
	uint64_t
		top; /* a stack of the free pages: the number of the first, 0: none; each begins with the next one's */
	uint64_t free_pages; /* on the stack */
	uint64_t used_pages; /* handed out */
};

/* Makes the partition's deposits what serves it: partition->pages. */
void deposit_source_init(struct partition *partition);

/*
 * Moves `count` pages (at most a hypercall's list) from the GPA space of the caller's partition to `target`: all, or
 * none. HV_STATUS_*: INVALID_PARAMETER for a page that is not RAM of the caller's own, mapped as RAM is, or comes twice, or
 * is mapped into a child.
 */
uint16_t deposit_pages(struct partition *target, struct vp *caller, const uint64_t *pages, uint32_t count);

/*
 * Gives up to `count` pages of `target` that aren't in use, zeroed, back to the caller's GPA space; returns how many, their
 * numbers in `pages`.
 */
uint32_t deposit_withdraw(struct partition *target, struct vp *caller, uint64_t *pages, uint32_t count);

/* One zeroed page of the partition's for use by the hypervisor. False: there is none, the parent must deposit. */
bool deposit_alloc(struct partition *partition, uint64_t *page);

/* Gives it back to the pool. */
void deposit_free(struct partition *partition, uint64_t page);

/* The hypervisor's own pointer to a deposited page. */
void *deposit_page_pointer(uint64_t page);

/*
 * Whether page `page` of memory is anyone's deposit, in use or not. Under the space_lock of the partition that it came
 * from.
 */
bool deposit_holds(uint64_t page);

/*
 * Maps a page that deposit_alloc() gave into the parent's space, which is the caller's, at its own address, for reading or also for writing;
 * and takes it out again, with the flush. 0, or -ENOMEM with nothing changed.
 */
int deposit_show(struct vp *caller, uint64_t page, bool writable);
int deposit_hide(struct vp *caller, uint64_t page);

#endif
