/* SPDX-License-Identifier: MIT */
/*
 * What a page of physical memory serves besides its owner, the root: it is deposited, or it is mapped into children, so many times; never
 * both, since a child could write into what the hypervisor keeps in a deposit. One number for each page says it, changed by one atomic
 * operation, so no lock is needed for that rule to hold. A mapping counts from before it is made until the flush after its end.
 *
 * The numbers take two bytes a page, in leaves of a page for 8 MiB of memory that are made when first needed and stay: at the most
 * memory / 2048.
 */
#ifndef TRIVET_PAGE_USE_H
#define TRIVET_PAGE_USE_H

#include <trivet/types.h>

/* Once at boot. -ENOMEM. */
int page_use_init(void);

/* 0; -EBUSY: the page serves already; -ENOMEM: no page for the numbers; -EINVAL: there is no such memory. */
int page_use_deposit(uint64_t page);
void page_use_withdraw(uint64_t page);
bool page_use_is_deposited(uint64_t page);

/*
 * One mapping more of each of `count` pages from `first` on, or of none: 0; -EBUSY: one is deposited, or mapped too often; -ENOMEM. Pages beyond all
 * memory are devices', can't be deposited and aren't counted.
 */
int page_use_map(uint64_t first, uint64_t count);
void page_use_unmap(uint64_t first, uint64_t count);

/* Pages of the hypervisor's own pool that know it: one for each 8 MiB of which a page was ever lent, and they stay. */
uint64_t page_use_table_pages(void);

/* How often a page is mapped, a moment ago. */
uint32_t page_use_mappings(uint64_t page);

#endif
