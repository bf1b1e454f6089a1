/* SPDX-License-Identifier: MIT */
/*
 * Deposited memory: see deposit.h. A pool is a stack of pages, chained through the pages themselves, so that it takes no memory of the
 * hypervisor's; what each page of memory serves is in page_use.h.
 *
 * A deposit is done whole or not at all (its caller frees all of its pages when it fails), so it takes one pass, at most
 * a page full of numbers; runs of consecutive pages cost one step. The order is: check and unmap, flush every processor,
 * then enter into the pool. A page that isn't deposited but couldn't be mapped again, for want of a table, is a hole that the
 * root fills when it touches it (root.c).
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
#include <trivet/page_use.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

bool deposit_holds(uint64_t page)
{
	return page_use_is_deposited(page);
}

void *deposit_page_pointer(uint64_t page)
{
	return hv_phys_to_virt(HPA(page << PAGE_SHIFT));
}

/* ---- The pool; under its lock ---- */

static void push(struct deposit_pool *pool, uint64_t page)
{
	*(uint64_t *)deposit_page_pointer(page) = pool->top;
	pool->top = page;
	pool->free_pages++;
}

static bool pop(struct deposit_pool *pool, uint64_t *page)
{
	uint64_t *link;

	if (!pool->top)
		return false;
	*page = pool->top;
	link = deposit_page_pointer(*page);
	pool->top = *link;
	*link = 0;
	ASSERT(!pool->top || page_use_is_deposited(pool->top)); /* else something else wrote there */
	pool->free_pages--;
	return true;
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

/* Of no page any more, or of the first `count`. */
static void unmark(const uint64_t *pages, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		page_use_withdraw(pages[i]);
}

/* Under space_lock: all are the partition's own, and marked as deposited; or none. */
static uint16_t mark(const struct partition *from, const uint64_t *pages, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		int err = is_own_ram(from, pages[i]) ? page_use_deposit(pages[i]) : -EINVAL;

		if (!err)
			continue;
		unmark(pages, i);
		return err == -ENOMEM ? HV_STATUS_INSUFFICIENT_MEMORY : HV_STATUS_INVALID_PARAMETER;
	}
	return HV_STATUS_SUCCESS;
}

/* Takes marked pages out of the space, all or none. Under space_lock. */
static uint16_t take(struct partition *from, const uint64_t *pages, uint32_t count)
{
	uint32_t taken, run;

	for (taken = 0; taken < count; taken += run) {
		run = run_length(pages + taken, count - taken);
		if (ss_unmap(&from->space, GPA(pages[taken] << PAGE_SHIFT), (uint64_t)run << PAGE_SHIFT))
			break;
	}
	if (taken == count)
		return HV_STATUS_SUCCESS;
	unmark(pages, count);
	for (uint32_t i = 0; i < taken; i += run) {
		run = run_length(pages + i, taken - i);
		map_back(from, pages[i], run); /* or else when it is touched */
	}
	return HV_STATUS_INSUFFICIENT_MEMORY;
}

/* Gives a run back to the space. Under space_lock. False: no page left for tables. */
static bool return_run(struct partition *to, const uint64_t *pages, uint32_t count)
{
	if (map_back(to, pages[0], count))
		return false;
	unmark(pages, count);
	return true;
}

static void enter(struct deposit_pool *pool, const uint64_t *pages, uint32_t count)
{
	spin_lock(&pool->lock);
	for (uint32_t i = 0; i < count; i++)
		push(pool, pages[i]);
	spin_unlock(&pool->lock);
}

uint16_t deposit_pages(struct partition *target, struct vp *caller, const uint64_t *pages, uint32_t count)
{
	struct partition *from = caller->partition;
	uint16_t status;

	spin_lock(&from->space_lock);
	status = mark(from, pages, count);
	if (!status)
		status = take(from, pages, count);
	spin_unlock(&from->space_lock);
	flush_and_reclaim(from, caller);
	if (!status)
		enter(&target->deposits, pages, count);
	return status;
}

uint32_t deposit_withdraw(struct partition *target, struct vp *caller, uint64_t *pages, uint32_t count)
{
	struct partition *to = caller->partition;
	uint32_t popped = 0, returned = 0, run;

	spin_lock(&target->deposits.lock);
	while (popped < count && pop(&target->deposits, &pages[popped]))
		popped++;
	spin_unlock(&target->deposits.lock);
	for (uint32_t i = 0; i < popped; i++)
		memset(deposit_page_pointer(pages[i]), 0, PAGE_SIZE);
	spin_lock(&to->space_lock);
	for (; returned < popped; returned += run) {
		run = run_length(pages + returned, popped - returned);
		if (!return_run(to, pages + returned, run))
			break;
	}
	spin_unlock(&to->space_lock);
	flush_and_reclaim(to, caller);
	enter(&target->deposits, pages + returned, popped - returned);
	for (uint32_t i = returned; i < popped; i++)
		pages[i] = 0;
	return returned;
}

/* ---- Use by the hypervisor ---- */

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
	spin_lock(&partition->deposits.lock);
	partition->deposits.used_pages--;
	push(&partition->deposits, page);
	spin_unlock(&partition->deposits.lock);
}

static struct partition *owner_of(struct page_source *source)
{
	return container_of(source, struct partition, deposits.source);
}

static void *source_alloc(struct page_source *source)
{
	uint64_t page;

	return deposit_alloc(owner_of(source), &page) ? deposit_page_pointer(page) : NULL;
}

static void source_free(struct page_source *source, void *page)
{
	deposit_free(owner_of(source), hv_virt_to_phys(page).v >> PAGE_SHIFT);
}

static size_t source_available(const struct page_source *source)
{
	const struct deposit_pool *pool = container_of(source, const struct deposit_pool, source);

	return __atomic_load_n(&pool->free_pages, __ATOMIC_RELAXED);
}

void deposit_source_init(struct partition *partition)
{
	partition->deposits.source = (struct page_source){
		.alloc = source_alloc,
		.free = source_free,
		.available = source_available,
	};
	partition->pages = &partition->deposits.source;
}

int deposit_show(struct vp *caller, uint64_t page, bool writable)
{
	struct partition *to = caller->partition;
	uint64_t gpa = page << PAGE_SHIFT, end = gpa + PAGE_SIZE;
	int err;

	spin_lock(&to->space_lock);
	err = ss_map(&to->space, GPA(gpa), HPA(gpa), PAGE_SIZE, SS_READ | (writable ? SS_WRITE : 0),
		     backend->memory_type(gpa, &end));
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
