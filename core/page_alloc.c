/* SPDX-License-Identifier: MIT */
/*
 * Page pools: a buddy allocator. Page numbers ("indices") count from the 2 MiB boundary at or
 * below the base of the pool, so index alignment is address alignment. Index 0 is never given out
 * (the bookkeeping or another's page lies there), which makes 0 the end of every list.
 */
#include <errno.h>
#include <string.h>

#include <trivet/assert.h>
#include <trivet/page_alloc.h>

/*
 * state[]: the first page of a block carries one of these and the order, all other pages
 * STATE_NONE.
 */
#define STATE_NONE 0x00u
#define STATE_USED 0x40u
#define STATE_FREE 0x80u

#define NIL 0u

#define BYTES_PER_PAGE_OF_BOOKKEEPING (2 * sizeof(uint32_t) + sizeof(uint8_t))

static uint32_t block_pages(unsigned order)
{
	return 1u << order;
}

static void *page_at(const struct page_pool *pool, uint32_t index)
{
	return pool->origin + (uint64_t)index * PAGE_SIZE;
}

/* The index of a pointer that a caller says is the start of an allocated block. */
static uint32_t used_index(const struct page_pool *pool, const void *p)
{
	uintptr_t offset = (uintptr_t)p - (uintptr_t)pool->origin;
	uintptr_t index = offset / PAGE_SIZE;

	ASSERT(IS_ALIGNED(offset, PAGE_SIZE));
	ASSERT(index >= pool->first_index && index < pool->end_index);
	ASSERT(pool->state[index] & STATE_USED);
	return (uint32_t)index;
}

static void push_free(struct page_pool *pool, uint32_t index, unsigned order)
{
	uint32_t head = pool->free_head[order];

	pool->state[index] = (uint8_t)(STATE_FREE | order);
	pool->next[index] = head;
	pool->prev[index] = NIL;
	if (head != NIL)
		pool->prev[head] = index;
	pool->free_head[order] = index;
}

static void remove_free(struct page_pool *pool, uint32_t index, unsigned order)
{
	uint32_t next = pool->next[index];
	uint32_t prev = pool->prev[index];

	ASSERT(pool->state[index] == (STATE_FREE | order));
	if (prev == NIL)
		pool->free_head[order] = next;
	else
		pool->next[prev] = next;
	if (next != NIL)
		pool->prev[next] = prev;
	pool->state[index] = STATE_NONE;
}

/* page_pool_free_pages() looks at this without the lock. */
static void set_free_pages(struct page_pool *pool, size_t pages)
{
	__atomic_store_n(&pool->free_pages, pages, __ATOMIC_RELAXED);
	if (pages < pool->least_free_pages)
		pool->least_free_pages = pages;
}

/* Puts the pages of [first, end) on the free lists in the largest aligned blocks. */
static void add_range(struct page_pool *pool, uint32_t first, uint32_t end)
{
	while (first < end) {
		unsigned order = PAGE_ORDER_MAX;

		while (!IS_ALIGNED(first, block_pages(order)) || block_pages(order) > end - first)
			order--;
		push_free(pool, first, order);
		first += block_pages(order);
	}
}

int page_pool_init(struct page_pool *pool, void *base, size_t pages)
{
	uintptr_t start = (uintptr_t)base;
	uint32_t base_index = (uint32_t)((start & (SIZE_2M - 1)) / PAGE_SIZE);
	size_t bookkeeping, bookkeeping_pages;

	if (!IS_ALIGNED(start, PAGE_SIZE) || pages > PAGE_POOL_PAGES_MAX)
		return -EINVAL;
	bookkeeping = (base_index + pages) * BYTES_PER_PAGE_OF_BOOKKEEPING;
	bookkeeping_pages = ALIGN_UP(bookkeeping, PAGE_SIZE) / PAGE_SIZE;
	if (bookkeeping_pages >= pages)
		return -EINVAL;

	*pool = (struct page_pool){
		.origin = (uint8_t *)base - base_index * PAGE_SIZE,
		.lock = SPINLOCK_INIT(LOCK_RANK_POOL),
	};
	pool->end_index = base_index + (uint32_t)pages;
	pool->first_index = base_index + (uint32_t)bookkeeping_pages;
	pool->next = base;
	pool->prev = pool->next + pool->end_index;
	pool->state = (uint8_t *)(pool->prev + pool->end_index);
	memset(base, 0, bookkeeping);

	add_range(pool, pool->first_index, pool->end_index);
	pool->total_pages = pages - bookkeeping_pages;
	pool->free_pages = pool->total_pages;
	pool->least_free_pages = pool->total_pages;
	return 0;
}

/* Takes a block of `order` out of the smallest free one that holds it; NIL if there is none. */
static uint32_t take_block(struct page_pool *pool, unsigned order)
{
	unsigned found = order;
	uint32_t index;

	while (pool->free_head[found] == NIL)
		if (++found > PAGE_ORDER_MAX)
			return NIL;
	index = pool->free_head[found];
	remove_free(pool, index, found);
	while (found > order) {
		found--;
		push_free(pool, index + block_pages(found), found);
	}
	pool->state[index] = (uint8_t)(STATE_USED | order);
	set_free_pages(pool, pool->free_pages - block_pages(order));
	return index;
}

void *page_alloc(struct page_pool *pool, unsigned order)
{
	uint32_t index = NIL;

	ASSERT(order <= PAGE_ORDER_MAX);
	spin_lock(&pool->lock);
	if (likely(!pool->fail_countdown) || --pool->fail_countdown != 0)
		index = take_block(pool, order);
	spin_unlock(&pool->lock);
	if (index == NIL)
		return NULL;
	return memset(page_at(pool, index), 0, block_pages(order) * PAGE_SIZE);
}

void page_free(struct page_pool *pool, void *p, unsigned order)
{
	uint32_t index;

	spin_lock(&pool->lock);
	index = used_index(pool, p);
	ASSERT(order <= PAGE_ORDER_MAX && pool->state[index] == (STATE_USED | order));
	set_free_pages(pool, pool->free_pages + block_pages(order));
	pool->state[index] = STATE_NONE;
	while (order < PAGE_ORDER_MAX) {
		uint32_t buddy = index ^ block_pages(order);

		if (buddy >= pool->end_index || pool->state[buddy] != (STATE_FREE | order))
			break;
		remove_free(pool, buddy, order);
		index &= ~block_pages(order);
		order++;
	}
	push_free(pool, index, order);
	spin_unlock(&pool->lock);
}

size_t page_pool_free_pages(const struct page_pool *pool)
{
	return __atomic_load_n(&pool->free_pages, __ATOMIC_RELAXED);
}

size_t page_pool_total_pages(const struct page_pool *pool)
{
	return pool->total_pages;
}

unsigned page_order_for(size_t bytes)
{
	unsigned order = 0;

	ASSERT(bytes > 0 && bytes <= block_pages(PAGE_ORDER_MAX) * PAGE_SIZE);
	while (block_pages(order) * PAGE_SIZE < bytes)
		order++;
	return order;
}

void page_pool_fail_nth(struct page_pool *pool, uint64_t n)
{
	pool->fail_countdown = n;
}

/* Sum of the pages on one free list, each block checked. */
static size_t check_list(const struct page_pool *pool, unsigned order)
{
	size_t pages = 0;
	uint32_t prev = NIL;

	for (uint32_t i = pool->free_head[order]; i != NIL; prev = i, i = pool->next[i]) {
		uint32_t buddy = i ^ block_pages(order);

		ASSERT(i >= pool->first_index && i + block_pages(order) <= pool->end_index);
		ASSERT(pool->state[i] == (STATE_FREE | order) && IS_ALIGNED(i, block_pages(order)));
		ASSERT(pool->prev[i] == prev);
		ASSERT(order == PAGE_ORDER_MAX || buddy >= pool->end_index ||
		       pool->state[buddy] != (STATE_FREE | order));
		pages += block_pages(order);
		ASSERT(pages <= pool->free_pages);
	}
	return pages;
}

void page_pool_check(const struct page_pool *pool)
{
	size_t listed = 0, free = 0, used = 0;
	uint32_t i = pool->first_index;

	for (unsigned order = 0; order <= PAGE_ORDER_MAX; order++)
		listed += check_list(pool, order);
	while (i < pool->end_index) {
		uint32_t pages = block_pages(pool->state[i] & 0x3fu);

		ASSERT(pool->state[i] & (STATE_USED | STATE_FREE));
		for (uint32_t k = 1; k < pages; k++)
			ASSERT(pool->state[i + k] == STATE_NONE);
		*(pool->state[i] & STATE_FREE ? &free : &used) += pages;
		i += pages;
	}
	ASSERT(i == pool->end_index);
	ASSERT(listed == pool->free_pages && free == listed && free + used == pool->total_pages);
}
