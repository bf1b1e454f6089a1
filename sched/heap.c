/* SPDX-License-Identifier: MIT */
/* The pairing heap of <trivet/heap.h>: melding two trees, and the two passes that make one of a removed node's children. */
#include <trivet/heap.h>

/* Two roots become one, which is returned: the one with the greater key becomes the other's first child. Its siblings are the caller's. */
static struct heap_node *meld(const struct heap *heap, struct heap_node *a, struct heap_node *b)
{
	if (b->key - heap->base < a->key - heap->base) {
		struct heap_node *greater = a;

		a = b;
		b = greater;
	}
	b->next = a->child;
	if (a->child)
		a->child->prev = b;
	b->prev = a;
	a->child = b;
	return a;
}

/*
 * Siblings become one tree; NULL: there were none. First pairs from left to right, chained in reverse through `next`, then
 * each pair melds into what the pairs right of it became: this order is what makes removals logarithmic.
 */
static struct heap_node *meld_siblings(const struct heap *heap, struct heap_node *first)
{
	struct heap_node *pairs = NULL;

	while (first) {
		struct heap_node *a = first, *b = first->next;

		first = b ? b->next : NULL;
		if (b)
			a = meld(heap, a, b);
		a->next = pairs;
		pairs = a;
	}

	struct heap_node *tree = pairs;

	if (!tree)
		return NULL;
	pairs = tree->next;
	while (pairs) {
		struct heap_node *pair = pairs;

		pairs = pair->next;
		tree = meld(heap, pair, tree);
	}
	return tree;
}

static void set_root(struct heap *heap, struct heap_node *root)
{
	heap->root = root;
	if (root) {
		root->prev = root;
		root->next = NULL;
	}
}

void heap_insert(struct heap *heap, struct heap_node *node, uint64_t key)
{
	node->key = key;
	node->child = NULL;
	set_root(heap, heap->root ? meld(heap, heap->root, node) : node);
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
	struct heap_node *tree = meld_siblings(heap, node->child);

	if (node->prev != node) {
		if (node->prev->child == node)
			node->prev->child = node->next;
		else
			node->prev->next = node->next;
		if (node->next)
			node->next->prev = node->prev;
		tree = tree ? meld(heap, heap->root, tree) : heap->root;
	}
	set_root(heap, tree);
	node->child = node->next = node->prev = NULL;
}

struct heap_node *heap_pop(struct heap *heap)
{
	struct heap_node *first = heap->root;

	if (first)
		heap_remove(heap, first);
	return first;
}
