/* SPDX-License-Identifier: MIT */
/* What pages of physical memory serve: see page_use.h. */
#include <errno.h>
#include <stdatomic.h>
#include <trivet/assert.h>
#include <trivet/host_memory.h>
#include <trivet/page_use.h>

typedef _Atomic uint16_t use_t;

#define DEPOSITED UINT16_MAX
#define MAPPINGS_MAX (UINT16_MAX - 1)
#define LEAF_PAGES (PAGE_SIZE / sizeof(use_t))

static use_t *_Atomic *leaves; /* by page number / LEAF_PAGES */
static uint64_t leaf_count;
static _Atomic uint64_t leaves_made; /* for memory that served once; they stay */

int page_use_init(void)
{
	uint64_t end = host_memory_end() >> PAGE_SHIFT;

	leaf_count = (end + LEAF_PAGES - 1) / LEAF_PAGES;
	if (!leaf_count || leaf_count * sizeof(*leaves) > PAGE_SIZE << PAGE_ORDER_MAX)
		return -ENOMEM;
	leaves = page_alloc(&host_pool, page_order_for(leaf_count * sizeof(*leaves)));
	return leaves ? 0 : -ENOMEM;
}

static inline use_t *leaf_of(uint64_t page)
{
	uint64_t leaf = page / LEAF_PAGES;

	return leaf < leaf_count ? atomic_load_explicit(&leaves[leaf], memory_order_acquire) : NULL;
}

/* Two processors may be here at once for the same leaf. NULL: no page left. */
static use_t *make_leaf(uint64_t page)
{
	use_t *_Atomic *slot = &leaves[page / LEAF_PAGES];
	use_t *there = NULL, *made = page_alloc(&host_pool, 0);

	if (made && !atomic_compare_exchange_strong(slot, &there, made)) {
		page_free(&host_pool, made, 0);
		return there;
	}
	if (made)
		atomic_fetch_add_explicit(&leaves_made, 1, memory_order_relaxed);
	return made;
}

uint64_t page_use_table_pages(void)
{
	return atomic_load_explicit(&leaves_made, memory_order_relaxed);
}

int page_use_deposit(uint64_t page)
{
	use_t *leaf = leaf_of(page);
	uint16_t none = 0;

	if (page / LEAF_PAGES >= leaf_count)
		return -EINVAL;
	if (!leaf)
		leaf = make_leaf(page);
	if (!leaf)
		return -ENOMEM;
	return atomic_compare_exchange_strong(&leaf[page % LEAF_PAGES], &none, DEPOSITED) ? 0 : -EBUSY;
}

void page_use_withdraw(uint64_t page)
{
	uint16_t use = atomic_exchange(&leaf_of(page)[page % LEAF_PAGES], 0);

	ASSERT(use == DEPOSITED);
}

bool page_use_is_deposited(uint64_t page)
{
	use_t *leaf = leaf_of(page);

	return leaf && atomic_load_explicit(&leaf[page % LEAF_PAGES], memory_order_relaxed) == DEPOSITED;
}

uint32_t page_use_mappings(uint64_t page)
{
	use_t *leaf = leaf_of(page);
	uint16_t use = leaf ? atomic_load_explicit(&leaf[page % LEAF_PAGES], memory_order_relaxed) : 0;

	return use == DEPOSITED ? 0 : use;
}

static int map_one(use_t *use)
{
	uint16_t old = atomic_load_explicit(use, memory_order_relaxed);

	do {
		if (old >= MAPPINGS_MAX)
			return -EBUSY;
	} while (!atomic_compare_exchange_weak(use, &old, (uint16_t)(old + 1)));
	return 0;
}

static int map_in_leaf(uint64_t first, uint64_t count)
{
	use_t *leaf = leaf_of(first);

	if (!leaf)
		leaf = make_leaf(first);
	if (!leaf)
		return -ENOMEM;
	leaf += first % LEAF_PAGES;
	for (uint64_t i = 0; i < count; i++)
		if (map_one(&leaf[i])) {
			page_use_unmap(first, i);
			return -EBUSY;
		}
	return 0;
}

/* The pages of [first, first + count) whose numbers are in one leaf with the first one's. */
static uint64_t in_one_leaf(uint64_t first, uint64_t count)
{
	uint64_t to_end = LEAF_PAGES - first % LEAF_PAGES;

	return count < to_end ? count : to_end;
}

int page_use_map(uint64_t first, uint64_t count)
{
	uint64_t done, step;
	int err = 0;

	for (done = 0; done < count && (first + done) / LEAF_PAGES < leaf_count; done += step) {
		step = in_one_leaf(first + done, count - done);
		err = map_in_leaf(first + done, step);
		if (err) {
			page_use_unmap(first, done);
			break;
		}
	}
	return err;
}

void page_use_unmap(uint64_t first, uint64_t count)
{
	uint64_t step;

	for (; count && first / LEAF_PAGES < leaf_count; first += step, count -= step) {
		use_t *leaf = leaf_of(first) + first % LEAF_PAGES;

		step = in_one_leaf(first, count);
		for (uint64_t i = 0; i < step; i++) {
			uint16_t old = atomic_fetch_sub_explicit(&leaf[i], 1, memory_order_release);

			ASSERT(old && old != DEPOSITED);
		}
	}
}
