/* SPDX-License-Identifier: MIT */
/*
 * Deposited memory: see deposit.h. Two records: a stack of page numbers for each partition, and one bitmap over all
 * memory that says whether a page is deposited at all. Both lie in host_pool.
 *
 * A deposit is done whole or not at all (its caller frees all of its pages when it fails), so it takes one pass, at most
 * a page full of numbers; runs of consecutive pages cost one step. The order is: check and unmap, flush every processor,
 * then enter into the pool. From the unmapping on nothing can fail but what is undone.
 */
#include "memory_types.h"
#include <errno.h>
#include <hv/status.h>
#include <string.h>
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/deposit.h>
#include <trivet/flush.h>
#include <trivet/host_memory.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define CHUNK_PAGES 510u

struct deposit_chunk {
	struct deposit_chunk *below;
	uint64_t count;
	uint64_t pages[CHUNK_PAGES];
};
static_assert(sizeof(struct deposit_chunk) == PAGE_SIZE, "one page");

/* ---- Which pages are deposited ---- */

#define LEAF_PAGES (PAGE_SIZE * 8) /* a leaf is one page of bits: 128 MiB of memory */

static uint64_t **leaves; /* by page number / LEAF_PAGES, made when needed, never given back */
static uint64_t leaf_count;

int deposit_init(void)
{
	uint64_t end = host_memory_end() >> PAGE_SHIFT;

	leaf_count = (end + LEAF_PAGES - 1) / LEAF_PAGES;
	if (!leaf_count || leaf_count * sizeof(*leaves) > PAGE_SIZE << PAGE_ORDER_MAX)
		return -ENOMEM;
	leaves = page_alloc(&host_pool, page_order_for(leaf_count * sizeof(*leaves)));
	return leaves ? 0 : -ENOMEM;
}

/* The word with the page's bit; NULL when there is none yet, or no memory has that number. */
static uint64_t *bit_word(uint64_t page)
{
	uint64_t leaf = page / LEAF_PAGES;

	return leaf < leaf_count && leaves[leaf] ? &leaves[leaf][page % LEAF_PAGES / 64] : NULL;
}

bool deposit_holds(uint64_t page)
{
	const uint64_t *word = bit_word(page);

	return word && (__atomic_load_n(word, __ATOMIC_RELAXED) >> page % 64 & 1);
}

/* False: no page left for the bits. */
static bool mark(uint64_t page, bool deposited)
{
	uint64_t leaf = page / LEAF_PAGES;
	uint64_t *word;

	ASSERT(leaf < leaf_count);
	if (!leaves[leaf])
		leaves[leaf] = page_alloc(&host_pool, 0);
	word = bit_word(page);
	if (!word)
		return false;
	if (deposited)
		__atomic_or_fetch(word, BIT(page % 64), __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(word, ~BIT(page % 64), __ATOMIC_RELAXED);
	return true;
}

/* ---- The pool ---- */

/* Room for `count` pages more, so that entering them can't fail. */
static int pool_expect(struct deposit_pool *pool, uint64_t count)
{
	int err = 0;

	spin_lock(&pool->lock);
	while (pool->capacity < pool->free_pages + pool->used_pages + pool->expected_pages + count) {
		struct deposit_chunk *chunk = page_alloc(&host_pool, 0);

		if (!chunk) {
			err = -ENOMEM;
			break;
		}
		chunk->below = pool->spare;
		pool->spare = chunk;
		pool->capacity += CHUNK_PAGES;
	}
	if (!err)
		pool->expected_pages += count;
	spin_unlock(&pool->lock);
	return err;
}

/* Under the pool's lock. There is room: pool_expect() made it, or the page came from here. */
static void push(struct deposit_pool *pool, uint64_t page)
{
	struct deposit_chunk *top = pool->top;

	if (!top || top->count == CHUNK_PAGES) {
		top = pool->spare;
		ASSERT(top != NULL);
		pool->spare = top->below;
		top->below = pool->top;
		pool->top = top;
	}
	top->pages[top->count++] = page;
	pool->free_pages++;
}

static bool pop(struct deposit_pool *pool, uint64_t *page)
{
	struct deposit_chunk *top = pool->top;

	if (!top)
		return false;
	*page = top->pages[--top->count];
	pool->free_pages--;
	if (top->count == 0) {
		pool->top = top->below;
		top->below = pool->spare;
		pool->spare = top;
	}
	return true;
}

/* Spare chunks that no page will need go back to host_pool. Under the pool's lock. */
static void trim(struct deposit_pool *pool)
{
	uint64_t needed = pool->free_pages + pool->used_pages + pool->expected_pages;

	while (pool->spare && pool->capacity - CHUNK_PAGES >= needed) {
		struct deposit_chunk *chunk = pool->spare;

		pool->spare = chunk->below;
		pool->capacity -= CHUNK_PAGES;
		page_free(&host_pool, chunk, 0);
	}
}

static void pool_enter(struct deposit_pool *pool, const uint64_t *pages, uint32_t expected, uint32_t entered)
{
	spin_lock(&pool->lock);
	pool->expected_pages -= expected;
	for (uint32_t i = 0; i < entered; i++)
		push(pool, pages[i]);
	trim(pool);
	spin_unlock(&pool->lock);
}

/* ---- Pages change hands ---- */

/*
 * RAM of the partition's own, mapped the way its RAM is: no overlay, nothing that another call lent it. Not page 0, whose
 * number means "none" to those who use a deposit. Under its space_lock.
 */
static bool is_own_ram(const struct partition *partition, uint64_t page)
{
	struct ss_mapping mapping;
	uint64_t gpa = page << PAGE_SHIFT;

	return page && page < BIT(SS_GPA_BITS - PAGE_SHIFT) &&
	       ss_lookup(&partition->space, GPA(gpa), &mapping) && mapping.hpa.v == gpa &&
	       mapping.perm == SS_RWX && host_memory_is_ram(HPA(gpa), PAGE_SIZE);
}

static int map_back(struct partition *partition, uint64_t first, uint64_t count)
{
	return memory_types_map(&partition->space, first << PAGE_SHIFT, (first + count) << PAGE_SHIFT,
				backend->memory_type);
}

/* The pages from list[0] on that follow each other, at most `count`. */
static uint32_t run_length(const uint64_t *list, uint32_t count)
{
	uint32_t length = 1;

	while (length < count && list[length] == list[0] + length)
		length++;
	return length;
}

/* Takes a run out of the space. Under space_lock. */
static uint16_t take_run(struct partition *from, uint64_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (!is_own_ram(from, first + i))
			return HV_STATUS_INVALID_PARAMETER;
	for (uint32_t i = 0; i < count; i++)
		if (!mark(first + i, true)) {
			while (i-- > 0)
				mark(first + i, false);
			return HV_STATUS_INSUFFICIENT_MEMORY;
		}
	if (ss_unmap(&from->space, GPA(first << PAGE_SHIFT), (uint64_t)count << PAGE_SHIFT)) {
		for (uint32_t i = 0; i < count; i++)
			mark(first + i, false);
		return HV_STATUS_INSUFFICIENT_MEMORY;
	}
	return HV_STATUS_SUCCESS;
}

/* Gives a run back to the space. Under space_lock. False: no page left for tables. */
static bool return_run(struct partition *to, uint64_t first, uint32_t count)
{
	if (map_back(to, first, count))
		return false;
	for (uint32_t i = 0; i < count; i++)
		mark(first + i, false);
	return true;
}

uint16_t deposit_pages(struct partition *target, struct vp *caller, const uint64_t *pages, uint32_t count)
{
	struct partition *from = caller->partition;
	uint16_t status = HV_STATUS_SUCCESS;
	uint32_t taken = 0, run;

	if (pool_expect(&target->deposits, count))
		return HV_STATUS_INSUFFICIENT_MEMORY;
	spin_lock(&from->space_lock);
	for (; taken < count && !status; taken += status ? 0 : run) {
		run = run_length(pages + taken, count - taken);
		status = take_run(from, pages[taken], run);
	}
	for (uint32_t i = 0; status && i < taken; i += run) {
		run = run_length(pages + i, taken - i);
		/* The tables that the unmapping made are still there, unless it emptied one: then a page is needed. */
		if (!return_run(from, pages[i], run))
			log_error("deposit: no page to map %u pages back at 0x%llx: they are lost", run,
				  (unsigned long long)pages[i] << PAGE_SHIFT);
	}
	spin_unlock(&from->space_lock);
	flush_and_reclaim(from, caller);
	pool_enter(&target->deposits, pages, count, status ? 0 : count);
	return status;
}

uint32_t deposit_withdraw(struct partition *target, struct vp *caller, uint64_t *pages, uint32_t count)
{
	struct partition *to = caller->partition;
	uint32_t popped = 0, returned = 0, run;

	spin_lock(&target->deposits.lock);
	while (popped < count && pop(&target->deposits, &pages[popped]))
		popped++;
	target->deposits.expected_pages += popped; /* their room stays until they are gone for good */
	spin_unlock(&target->deposits.lock);
	spin_lock(&to->space_lock);
	for (; returned < popped; returned += run) {
		run = run_length(pages + returned, popped - returned);
		if (!return_run(to, pages[returned], run))
			break;
	}
	spin_unlock(&to->space_lock);
	flush_and_reclaim(to, caller);
	pool_enter(&target->deposits, pages + returned, popped, popped - returned);
	for (uint32_t i = returned; i < popped; i++)
		pages[i] = 0;
	return returned;
}

/* ---- Use by the hypervisor ---- */

void *deposit_page_pointer(uint64_t page)
{
	return (void *)(uintptr_t)host_ram_window(HPA(page << PAGE_SHIFT), PAGE_SIZE);
}

bool deposit_alloc(struct partition *partition, uint64_t *page)
{
	bool found;

	spin_lock(&partition->deposits.lock);
	found = pop(&partition->deposits, page);
	partition->deposits.used_pages += found;
	spin_unlock(&partition->deposits.lock);
	if (found)
		memset(deposit_page_pointer(*page), 0, PAGE_SIZE);
	return found;
}

void deposit_free(struct partition *partition, uint64_t page)
{
	memset(deposit_page_pointer(page), 0, PAGE_SIZE);
	spin_lock(&partition->deposits.lock);
	partition->deposits.used_pages--;
	push(&partition->deposits, page);
	spin_unlock(&partition->deposits.lock);
}

int deposit_show(struct vp *caller, uint64_t page)
{
	struct partition *to = caller->partition;
	uint64_t gpa = page << PAGE_SHIFT, end = gpa + PAGE_SIZE;
	int err;

	spin_lock(&to->space_lock);
	err = ss_map(&to->space, GPA(gpa), HPA(gpa), PAGE_SIZE, SS_READ, backend->memory_type(gpa, &end));
	spin_unlock(&to->space_lock);
	flush_and_reclaim(to, caller);
	return err;
}

int deposit_hide(struct vp *caller, uint64_t page)
{
	struct partition *from = caller->partition;
	int err;

	spin_lock(&from->space_lock);
	err = ss_unmap(&from->space, GPA(page << PAGE_SHIFT), PAGE_SIZE);
	spin_unlock(&from->space_lock);
	flush_and_reclaim(from, caller);
	return err;
}
