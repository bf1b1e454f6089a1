/* unit: sched/heap.c */
/* SPDX-License-Identifier: MIT */
/* The pairing heap: order, removal of any node, keys that wrap, and random sequences against an array that is searched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/heap.h>

#define NODES 300u

static struct heap_node nodes[NODES];
static struct heap heap;
static uint64_t seed;

static int setup(void **state)
{
	(void)state;
	memset(nodes, 0, sizeof(nodes));
	memset(&heap, 0, sizeof(heap));
	seed = 1;
	return 0;
}

static uint64_t random64(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545F4914F6CDD1Dull;
}

/* Parent's key first, links both ways, and as many nodes as there should be. Recursion is as deep as the tree, so at most NODES. */
static uint32_t check_tree(const struct heap_node *parent)
{
	const struct heap_node *before = parent;
	uint32_t count = 1;

	for (const struct heap_node *child = parent->child; child; before = child, child = child->next) {
		assert_ptr_equal(child->prev, before);
		assert_true(child->key - heap.base >= parent->key - heap.base);
		count += check_tree(child);
	}
	return count;
}

static void check(uint32_t count)
{
	assert_int_equal(heap_is_empty(&heap), !count);
	if (!count)
		return;
	assert_ptr_equal(heap.root->prev, heap.root);
	assert_null(heap.root->next);
	assert_int_equal(check_tree(heap.root), count);
}

static void test_empty(void **state)
{
	(void)state;
	assert_true(heap_is_empty(&heap));
	assert_null(heap_first(&heap));
	assert_null(heap_pop(&heap));
	assert_false(heap_node_is_queued(&nodes[0]));
}

static void test_one(void **state)
{
	(void)state;
	heap_insert(&heap, &nodes[0], UINT64_MAX);
	assert_true(heap_node_is_queued(&nodes[0]));
	assert_ptr_equal(heap_first(&heap), &nodes[0]);
	heap_remove(&heap, &nodes[0]);
	assert_false(heap_node_is_queued(&nodes[0]));
	assert_true(heap_is_empty(&heap));
}

/* Ascending, descending and mixed keys come out sorted, the extremes of the range included. */
static void test_sorts(void **state)
{
	(void)state;
	for (uint32_t order = 0; order < 3; order++) {
		uint64_t last = 0;

		for (uint32_t i = 0; i < NODES; i++) {
			uint64_t key = order == 0 ? i : order == 1 ? NODES - i : random64();

			if (order == 2 && i < 2)
				key = i ? UINT64_MAX : 0;
			heap_insert(&heap, &nodes[i], key);
			check(i + 1);
		}
		for (uint32_t i = 0; i < NODES; i++) {
			struct heap_node *node = heap_pop(&heap);

			assert_non_null(node);
			assert_true(node->key >= last);
			assert_false(heap_node_is_queued(node));
			last = node->key;
			check(NODES - i - 1);
		}
		assert_null(heap_pop(&heap));
	}
}

/* Virtual time passes 2^64: what lies behind the wrap is later, and moving the base with the time keeps it so. */
static void test_keys_wrap(void **state)
{
	(void)state;
	uint64_t now = UINT64_MAX - 100;

	heap_set_base(&heap, now - BIT(63));
	heap_insert(&heap, &nodes[0], now + 200);
	heap_insert(&heap, &nodes[1], now);
	heap_insert(&heap, &nodes[2], now - 1000);
	heap_set_base(&heap, now + 150 - BIT(63));
	heap_insert(&heap, &nodes[3], now + 100);
	check(4);
	assert_ptr_equal(heap_pop(&heap), &nodes[2]);
	assert_ptr_equal(heap_pop(&heap), &nodes[1]);
	assert_ptr_equal(heap_pop(&heap), &nodes[3]);
	assert_ptr_equal(heap_pop(&heap), &nodes[0]);
}

static uint64_t least(void)
{
	uint64_t key = UINT64_MAX;

	for (uint32_t i = 0; i < NODES; i++) {
		if (heap_node_is_queued(&nodes[i]) && nodes[i].key - heap.base < key)
			key = nodes[i].key - heap.base;
	}
	return key + heap.base;
}

/* Any sequence: the first is the least of those that are in, and nothing is lost. Few different keys, so that many are equal. */
static void test_random(void **state)
{
	(void)state;
	for (uint32_t round = 0; round < 20; round++) {
		uint32_t count = 0;
		uint64_t mask = round % 3 ? UINT64_MAX : 15;

		heap_set_base(&heap, round % 2 ? random64() : 0);
		for (uint32_t step = 0; step < 3000; step++) {
			struct heap_node *node = &nodes[random64() % NODES];

			if (random64() % 8 == 0 && count) {
				node = heap_pop(&heap);
				assert_non_null(node);
				assert_false(heap_node_is_queued(node));
				count--;
			} else if (heap_node_is_queued(node)) {
				heap_remove(&heap, node);
				count--;
			} else {
				heap_insert(&heap, node, random64() & mask);
				count++;
			}
			check(count);
			if (count)
				assert_int_equal(heap_first(&heap)->key, least());
		}
		while (heap_pop(&heap))
			count--;
		assert_int_equal(count, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_empty, setup),  cmocka_unit_test_setup(test_one, setup),
		cmocka_unit_test_setup(test_sorts, setup),  cmocka_unit_test_setup(test_keys_wrap, setup),
		cmocka_unit_test_setup(test_random, setup),
	};

	return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
