/* unit: core/page_alloc.c */
/* SPDX-License-Identifier: MIT */
/*
 * The page allocator on a host buffer: geometry of every order, exact sums, zeroing, refusal of
 * wrong frees (seen as an abort in a child process), fault injection, and random operations
 * against an ownership map.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <trivet/page_alloc.h>

#define ARENA_PAGES 2048u /* 8 MiB */

static uint8_t *arena;

static int setup(void **state)
{
	(void)state;
	arena = aligned_alloc(SIZE_2M, ARENA_PAGES * PAGE_SIZE);
	return arena ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	free(arena);
	return 0;
}

/* xorshift64*; the seed is printed when a random test fails. */
static uint64_t rng_state;

static uint64_t rng(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dull;
}

static void rng_seed(void)
{
	const char *seed = getenv("SEED");

	rng_state = seed ? strtoull(seed, NULL, 0) : 0x7121e7ull;
	print_message("SEED=%#llx\n", (unsigned long long)rng_state);
}

static bool is_zero(const void *p, size_t size)
{
	const uint8_t *bytes = p;

	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static void init_refuses_bad_ranges(void **state)
{
	struct page_pool pool;

	(void)state;
	assert_int_equal(page_pool_init(&pool, arena + 1, 16), -EINVAL);
	assert_int_equal(page_pool_init(&pool, arena + 2048, 16), -EINVAL);
	assert_int_equal(page_pool_init(&pool, arena, 0), -EINVAL);
	assert_int_equal(page_pool_init(&pool, arena, 1), -EINVAL);
	assert_int_equal(page_pool_init(&pool, arena, PAGE_POOL_PAGES_MAX + 1), -EINVAL);
	assert_int_equal(page_pool_init(&pool, arena, 2), 0);
	assert_int_equal(page_pool_total_pages(&pool), 1);
}

static void bookkeeping_is_small_and_never_given_out(void **state)
{
	struct page_pool pool;
	unsigned given = 0;

	(void)state;
	memset(arena, 0xa5, ARENA_PAGES * PAGE_SIZE);
	assert_int_equal(page_pool_init(&pool, arena, ARENA_PAGES), 0);
	/* 2048 pages * 9 bytes = 4.5 pages */
	assert_int_equal(page_pool_total_pages(&pool), ARENA_PAGES - 5);
	assert_int_equal(page_pool_free_pages(&pool), ARENA_PAGES - 5);
	for (uint8_t *p; (p = page_alloc(&pool, 0)) != NULL; given++) {
		assert_true(p >= arena + 5 * PAGE_SIZE && p < arena + ARENA_PAGES * PAGE_SIZE);
		memset(p, 0xff, PAGE_SIZE);
	}
	assert_int_equal(given, ARENA_PAGES - 5);
	assert_int_equal(page_pool_free_pages(&pool), 0);
	page_pool_check(&pool);
}

static void blocks_of_each_order_are_aligned_and_zeroed(void **state)
{
	struct page_pool pool;

	(void)state;
	memset(arena, 0xa5, ARENA_PAGES * PAGE_SIZE);
	assert_int_equal(page_pool_init(&pool, arena, ARENA_PAGES), 0);
	for (unsigned order = 0; order <= PAGE_ORDER_MAX; order++) {
		size_t size = PAGE_SIZE << order;
		uint8_t *first = page_alloc(&pool, order);
		uint8_t *second = page_alloc(&pool, order);

		assert_non_null(first);
		assert_non_null(second);
		assert_true(IS_ALIGNED((uintptr_t)first, size) && IS_ALIGNED((uintptr_t)second, size));
		assert_true(first + size <= second || second + size <= first);
		assert_true(is_zero(first, size) && is_zero(second, size));
		assert_int_equal(page_pool_free_pages(&pool), ARENA_PAGES - 5 - 2 * (1u << order));
		memset(first, 0x5a, size);
		memset(second, 0x5a, size);
		page_free(&pool, first, order);
		page_pool_check(&pool);
		page_free(&pool, second, order);
		page_pool_check(&pool);
		assert_int_equal(page_pool_free_pages(&pool), ARENA_PAGES - 5);
	}
}

/*
 * The image lies in front of the pool: the range begins anywhere in a 2 MiB block, and ends
 * anywhere.
 */
static void ranges_may_start_and_end_at_any_page(void **state)
{
	(void)state;
	for (unsigned skip = 0; skip < 520; skip += 1 + skip / 7) {
		for (unsigned pages = 700; pages < 1500; pages += 97) {
			struct page_pool pool;
			unsigned blocks = 0, expected = 0;
			unsigned first;

			assert_int_equal(page_pool_init(&pool, arena + skip * PAGE_SIZE, pages), 0);
			page_pool_check(&pool);
			first = skip + pages - (unsigned)page_pool_total_pages(&pool);
			for (unsigned at = ALIGN_UP(first, 512u); at + 512 <= skip + pages; at += 512)
				expected++;
			while (page_alloc(&pool, PAGE_ORDER_MAX))
				blocks++;
			assert_int_equal(blocks, expected);
			while (page_alloc(&pool, 0))
				blocks++;
			assert_int_equal(page_pool_free_pages(&pool), 0);
			assert_int_equal(blocks - expected + expected * 512, page_pool_total_pages(&pool));
			page_pool_check(&pool);
		}
	}
}

static void freed_pages_merge_to_the_largest_blocks(void **state)
{
	struct page_pool pool;
	void *pages[ARENA_PAGES];
	unsigned count = 0;

	(void)state;
	assert_int_equal(page_pool_init(&pool, arena, ARENA_PAGES), 0);
	while ((pages[count] = page_alloc(&pool, 0)) != NULL)
		count++;
	for (unsigned i = 0; i < count; i += 2)
		page_free(&pool, pages[i], 0);
	assert_null(page_alloc(&pool, 1));
	for (unsigned i = 1; i < count; i += 2)
		page_free(&pool, pages[i], 0);
	page_pool_check(&pool);
	for (unsigned i = 0; i < 3; i++)
		assert_non_null(page_alloc(&pool, PAGE_ORDER_MAX));
	assert_null(page_alloc(&pool, PAGE_ORDER_MAX));
	assert_non_null(page_alloc(&pool, 8));
}

static void out_of_memory_is_null_and_leaves_the_pool_whole(void **state)
{
	struct page_pool pool;
	void *p;

	(void)state;
	assert_int_equal(page_pool_init(&pool, arena, 3), 0);
	p = page_alloc(&pool, 1);
	assert_null(p); /* pages 1 and 2 are free, but no aligned pair */
	p = page_alloc(&pool, 0);
	assert_non_null(p);
	assert_non_null(page_alloc(&pool, 0));
	assert_null(page_alloc(&pool, 0));
	page_free(&pool, p, 0);
	assert_ptr_equal(page_alloc(&pool, 0), p);
	page_pool_check(&pool);
}

static void low_water_mark_is_kept(void **state)
{
	struct page_pool pool;
	void *p;

	(void)state;
	assert_int_equal(page_pool_init(&pool, arena, 64), 0);
	p = page_alloc(&pool, 3);
	page_free(&pool, p, 3);
	assert_non_null(page_alloc(&pool, 0));
	assert_int_equal(pool.least_free_pages, page_pool_total_pages(&pool) - 8);
}

static void order_for_bytes(void **state)
{
	(void)state;
	assert_int_equal(page_order_for(1), 0);
	assert_int_equal(page_order_for(4096), 0);
	assert_int_equal(page_order_for(4097), 1);
	assert_int_equal(page_order_for(3 * PAGE_SIZE), 2);
	assert_int_equal(page_order_for(SIZE_2M), 9);
}

static void the_nth_allocation_fails_once(void **state)
{
	struct page_pool pool;
	size_t free_before;

	(void)state;
	assert_int_equal(page_pool_init(&pool, arena, 64), 0);
	page_pool_fail_nth(&pool, 3);
	assert_non_null(page_alloc(&pool, 0));
	assert_non_null(page_alloc(&pool, 1));
	free_before = page_pool_free_pages(&pool);
	assert_null(page_alloc(&pool, 0));
	assert_int_equal(page_pool_free_pages(&pool), free_before);
	assert_non_null(page_alloc(&pool, 0));
	page_pool_fail_nth(&pool, 1);
	page_pool_fail_nth(&pool, 0);
	assert_non_null(page_alloc(&pool, 0));
}

/* Runs `bug` in a child; true if the child died of an assertion. */
static bool aborts(void (*bug)(struct page_pool *pool))
{
	struct page_pool pool;
	int status;
	pid_t child;

	assert_int_equal(page_pool_init(&pool, arena, 256), 0);
	fflush(NULL);
	child = fork();
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		if (!freopen("/dev/null", "w", stderr))
			_exit(2);
		bug(&pool);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void no_bug(struct page_pool *pool)
{
	page_free(pool, page_alloc(pool, 2), 2);
}

static void double_free(struct page_pool *pool)
{
	void *p = page_alloc(pool, 2);

	page_free(pool, p, 2);
	page_free(pool, p, 2);
}

static void double_free_after_merge(struct page_pool *pool)
{
	uint8_t *p = page_alloc(pool, 1);
	uint8_t *upper = page_alloc(pool, 0);

	page_free(pool, p, 1);
	page_free(pool, upper, 0);
	page_free(pool, upper, 0);
}

static void free_with_smaller_order(struct page_pool *pool)
{
	page_free(pool, page_alloc(pool, 2), 1);
}

static void free_with_larger_order(struct page_pool *pool)
{
	page_free(pool, page_alloc(pool, 2), 3);
}

static void free_inside_a_block(struct page_pool *pool)
{
	page_free(pool, (uint8_t *)page_alloc(pool, 2) + PAGE_SIZE, 0);
}

static void free_of_unaligned_pointer(struct page_pool *pool)
{
	page_free(pool, (uint8_t *)page_alloc(pool, 0) + 8, 0);
}

static void free_of_bookkeeping(struct page_pool *pool)
{
	page_free(pool, arena, 0);
}

static void free_behind_the_pool(struct page_pool *pool)
{
	page_free(pool, arena + 256 * PAGE_SIZE, 0);
}

static void free_of_null(struct page_pool *pool)
{
	page_free(pool, NULL, 0);
}

static void allocation_of_too_large_order(struct page_pool *pool)
{
	(void)page_alloc(pool, PAGE_ORDER_MAX + 1);
}

static void bugs_of_the_caller_are_caught(void **state)
{
	(void)state;
	assert_false(aborts(no_bug));
	assert_true(aborts(double_free));
	assert_true(aborts(double_free_after_merge));
	assert_true(aborts(free_with_smaller_order));
	assert_true(aborts(free_with_larger_order));
	assert_true(aborts(free_inside_a_block));
	assert_true(aborts(free_of_unaligned_pointer));
	assert_true(aborts(free_of_bookkeeping));
	assert_true(aborts(free_behind_the_pool));
	assert_true(aborts(free_of_null));
	assert_true(aborts(allocation_of_too_large_order));
}

struct block {
	uint8_t *p;
	unsigned order;
	uint8_t fill;
};

static void fill(const struct block *b)
{
	for (size_t i = 0; i < 1u << b->order; i++) {
		b->p[i * PAGE_SIZE] = b->fill;
		b->p[(i + 1) * PAGE_SIZE - 1] = b->fill;
	}
}

static void check_fill(const struct block *b)
{
	for (size_t i = 0; i < 1u << b->order; i++) {
		assert_int_equal(b->p[i * PAGE_SIZE], b->fill);
		assert_int_equal(b->p[(i + 1) * PAGE_SIZE - 1], b->fill);
	}
}

static void random_operations_never_overlap_or_leak(void **state)
{
	static struct block blocks[1024];
	struct page_pool pool;
	size_t used = 0;
	unsigned count = 0, refused = 0;

	(void)state;
	rng_seed();
	assert_int_equal(page_pool_init(&pool, arena + 37 * PAGE_SIZE, ARENA_PAGES - 37 - 11), 0);
	for (unsigned step = 0; step < 100000; step++) {
		if (count < ARRAY_SIZE(blocks) && (rng() & 3 || count == 0)) {
			unsigned order = (unsigned)__builtin_ctzll(rng() | BIT(PAGE_ORDER_MAX));
			struct block b = { page_alloc(&pool, order), order, (uint8_t)(1 + rng() % 255) };

			refused += !b.p;
			if (b.p) {
				assert_true(IS_ALIGNED((uintptr_t)b.p, PAGE_SIZE << order));
				assert_int_equal(b.p[0], 0);
				assert_int_equal(b.p[(PAGE_SIZE << order) - 1], 0);
				fill(&b);
				blocks[count++] = b;
				used += 1u << order;
			}
		}
		/* The pool fills up and empties in turn. */
		if (count && rng() % 100 < (step / 2500 % 2 ? 90 : 40)) {
			unsigned victim = (unsigned)(rng() % count);

			check_fill(&blocks[victim]);
			page_free(&pool, blocks[victim].p, blocks[victim].order);
			used -= 1u << blocks[victim].order;
			blocks[victim] = blocks[--count];
		}
		assert_int_equal(page_pool_free_pages(&pool) + used, page_pool_total_pages(&pool));
		if (step % 1000 == 0)
			page_pool_check(&pool);
	}
	assert_true(refused > 100);
	while (count--)
		page_free(&pool, blocks[count].p, blocks[count].order);
	page_pool_check(&pool);
	assert_int_equal(page_pool_free_pages(&pool), page_pool_total_pages(&pool));
	assert_non_null(page_alloc(&pool, PAGE_ORDER_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(init_refuses_bad_ranges),
		cmocka_unit_test(bookkeeping_is_small_and_never_given_out),
		cmocka_unit_test(blocks_of_each_order_are_aligned_and_zeroed),
		cmocka_unit_test(ranges_may_start_and_end_at_any_page),
		cmocka_unit_test(freed_pages_merge_to_the_largest_blocks),
		cmocka_unit_test(out_of_memory_is_null_and_leaves_the_pool_whole),
		cmocka_unit_test(low_water_mark_is_kept),
		cmocka_unit_test(order_for_bytes),
		cmocka_unit_test(the_nth_allocation_fails_once),
		cmocka_unit_test(bugs_of_the_caller_are_caught),
		cmocka_unit_test(random_operations_never_overlap_or_leak),
	};

	return cmocka_run_group_tests_name("page_alloc", tests, setup, teardown);
}
