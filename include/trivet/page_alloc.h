/* SPDX-License-Identifier: MIT */
/*
 * Page pools: a buddy allocator over one virtually and physically contiguous range of the
 * hypervisor's memory. Blocks are 2^order pages, naturally aligned. All bookkeeping lies in the
 * range's own first pages and never in a free page, so a stray write through a freed pointer can't
 * derail the allocator.
 *
 * page_alloc(), page_free() and page_pool_free_pages() may be called by any LP at any time; init
 * and check by one alone.
 */
#ifndef TRIVET_PAGE_ALLOC_H
#define TRIVET_PAGE_ALLOC_H

#include <trivet/lock.h>
#include <trivet/types.h>

#define PAGE_ORDER_MAX 9u			  /* the largest block: 2 MiB */
#define PAGE_POOL_PAGES_MAX (SIZE_1G / PAGE_SIZE) /* the largest pool */

struct page_pool {
	struct spinlock lock;
	uint8_t *origin;      /* base rounded down to 2 MiB: page index 0 */
	uint8_t *state;	      /* per page: role and order of the block that starts there */
	uint32_t *next;	      /* per page: free list */
	uint32_t *prev;	      /* per page: free list */
	uint32_t first_index; /* first page given out by this pool (behind the bookkeeping) */
	uint32_t end_index;   /* one past the last page */
	uint32_t free_head[PAGE_ORDER_MAX + 1];
	size_t free_pages;
	size_t total_pages;	 /* pages that can be given out: free plus allocated */
	size_t least_free_pages; /* low-water mark of free_pages since page_pool_init() */
	uint64_t fail_countdown; /* page_pool_fail_nth() */
};

/*
 * Translation of the hypervisor's own memory: what a pool serves, and RAM that was deposited;
 * anything else is a bug. (Implemented beside the hypervisor's page tables; faked in
 * tests.)
 */
hpa_t hv_virt_to_phys(const void *p);
void *hv_phys_to_virt(hpa_t hpa);

/*
 * Makes a pool of the `pages` pages from `base` on. `base` is page aligned and congruent to its
 * physical address modulo 2 MiB, so that virtual alignment is physical alignment. The head of the
 * range is taken for bookkeeping (9 bytes per page); the rest is free. Returns 0, or -EINVAL if
 * base is unaligned, pages is above PAGE_POOL_PAGES_MAX or the range is too small to leave one
 * free page.
 */
int page_pool_init(struct page_pool *pool, void *base, size_t pages);

/*
 * 2^order zeroed pages, aligned to their size, or NULL if there is no such block. `order` is
 * 0..PAGE_ORDER_MAX.
 */
void *page_alloc(struct page_pool *pool, unsigned order);

/*
 * Gives a block back. Panics on a double free, a foreign pointer, or another order than it was
 * allocated with.
 */
void page_free(struct page_pool *pool, void *p, unsigned order);

/* Exact number of free pages (a moment ago, if other LPs use the pool). */
size_t page_pool_free_pages(const struct page_pool *pool);

/* Exact number of pages the pool can give out, free or not. */
size_t page_pool_total_pages(const struct page_pool *pool);

/* The order of the smallest block that holds `bytes` (1 .. 2 MiB). */
unsigned page_order_for(size_t bytes);

/* Test hook: the n-th page_alloc() from now (1 = the next one) fails, once. 0 turns it off. */
void page_pool_fail_nth(struct page_pool *pool, uint64_t n);

/*
 * Checks every invariant of the pool, O(pages); panics if one is broken. For tests and debug
 * builds.
 */
void page_pool_check(const struct page_pool *pool);

#endif
