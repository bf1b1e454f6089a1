/* SPDX-License-Identifier: MIT */
/* The hypervisor's own pool as a source of single pages. */
#include <trivet/host_memory.h>
#include <trivet/page_source.h>

static void *host_page_alloc(struct page_source *source)
{
	(void)source;
	return page_alloc(&host_pool, 0);
}

static void host_page_free(struct page_source *source, void *page)
{
	(void)source;
	page_free(&host_pool, page, 0);
}

static size_t host_pages_available(const struct page_source *source)
{
	(void)source;
	return page_pool_free_pages(&host_pool);
}

struct page_source host_pages = {
	.alloc = host_page_alloc,
	.free = host_page_free,
	.available = host_pages_available,
};
