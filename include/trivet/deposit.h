/* SPDX-License-Identifier: MIT */
/*
 * Deposited memory (TLFS "HvCallDepositMemory"): pages that a parent gave the hypervisor for one partition. They leave
 * the parent's GPA space, on every processor, before they count as deposited, and come back by withdrawal, each once.
 * The hypervisor keeps its own data elsewhere (host_pool) and never believes what stands in a deposited page: devices of
 * the root could write there. Today they serve for what a parent is to see: statistics pages.
 *
 * Today's parents see physical memory at its own address (the root), so a page has one number.
 */
#ifndef TRIVET_DEPOSIT_H
#define TRIVET_DEPOSIT_H

#include <trivet/lock.h>
#include <trivet/types.h>

struct partition;
struct vp;
struct deposit_chunk;

/* In struct partition: what was deposited for it. Zero is empty. */
struct deposit_pool {
	struct spinlock lock;
	struct deposit_chunk *top;   /* a stack of page numbers, in pages of host_pool */
	struct deposit_chunk *spare; /* the empty ones */
	uint64_t capacity;	     /* numbers the chunks have room for */
	uint64_t free_pages;	     /* on the stack */
	uint64_t used_pages;	     /* handed out by deposit_alloc(); their room on the stack is kept */
	uint64_t expected_pages;     /* on their way in */
};

/* Once at boot, before the first deposit. -ENOMEM. */
int deposit_init(void);

/*
 * Moves `count` pages (at most a hypercall's list) from the GPA space of the caller's partition to `target`: all, or
 * none. HV_STATUS_*: INVALID_PARAMETER for a page that is not RAM of the caller's own, mapped as RAM is, or comes twice.
 */
uint16_t deposit_pages(struct partition *target, struct vp *caller, const uint64_t *pages, uint32_t count);

/*
 * Gives up to `count` pages of `target` that aren't in use back to the caller's GPA space; returns how many, their
 * numbers in `pages`.
 */
uint32_t deposit_withdraw(struct partition *target, struct vp *caller, uint64_t *pages, uint32_t count);

/* One zeroed page of the partition's for use by the hypervisor. False: there is none, the parent must deposit. */
bool deposit_alloc(struct partition *partition, uint64_t *page);

/* Zeroes it and gives it back to the pool. */
void deposit_free(struct partition *partition, uint64_t page);

/* The hypervisor's own pointer to a deposited page. */
void *deposit_page_pointer(uint64_t page);

/*
 * Whether page `page` of memory is anyone's deposit, in use or not. Under the space_lock of the partition that it came
 * from.
 */
bool deposit_holds(uint64_t page);

/*
 * Maps a page that deposit_alloc() gave into the parent's space, which is the caller's, at its own address for reading;
 * and takes it out again, with the flush. 0, or -ENOMEM with nothing changed.
 */
int deposit_show(struct vp *caller, uint64_t page);
int deposit_hide(struct vp *caller, uint64_t page);

#endif
