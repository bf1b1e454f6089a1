/* SPDX-License-Identifier: MIT */
/*
 * Where the pages that serve a partition come from: the hypervisor's own pool for the root, what was deposited for it for a child. So no
 * partition can use up another's memory, and all of it goes back when the partition does.
 */
#ifndef TRIVET_PAGE_SOURCE_H
#define TRIVET_PAGE_SOURCE_H

#include <trivet/types.h>

struct page_source {
	void *(*alloc)(struct page_source *source);	       /* one zeroed page; NULL: there is none left */
	void (*free)(struct page_source *source, void *page);  /* its content is nobody's any more */
	size_t (*available)(const struct page_source *source); /* pages, a moment ago */
};

/* host_pool's single pages. */
extern struct page_source host_pages;

#endif
