/* SPDX-License-Identifier: MIT */
/*
 * A pairing heap with embedded nodes: the least key first, any node removed at any time. Insertion and the look at the
 * first are O(1), removal is O(log n) amortized; no recursion, no memory of its own, no locks. For run queues (keyed by virtual
 * time) and timer queues (keyed by deadline).
 *
 * Keys are unsigned, and equal keys have no order. Virtual time wraps: a heap has a `base`, and the order is that of
 * key - base, so that with a base half the range behind the present the order is right as long as all keys are within half the range
 * of the present. 0, the default, is the plain order. (Fredman, Sedgewick, Sleator, Tarjan: "The pairing heap", 1986)
 */
#ifndef TRIVET_HEAP_H
#define TRIVET_HEAP_H

#include <trivet/types.h>

/* All zero is a node that is in no heap. */
struct heap_node {
	struct heap_node *child; /* the first */
	struct heap_node *next;	 /* sibling; of the last: NULL */
	struct heap_node *prev;	 /* sibling, of the first child: the parent, of the root: itself */
	uint64_t key;		 /* not to be changed while the node is in a heap */
};

/* All zero is an empty heap. */
struct heap {
	struct heap_node *root;
	uint64_t base;
};

static inline bool heap_is_empty(const struct heap *heap)
{
	return !heap->root;
}

/* The node with the least key; NULL: empty. */
static inline struct heap_node *heap_first(const struct heap *heap)
{
	return heap->root;
}

/* Is the node in a heap (any)? */
static inline bool heap_node_is_queued(const struct heap_node *node)
{
	return node->prev;
}

/* Moves the present: the cyclic order of the keys in the heap must be the same seen from the new base. */
static inline void heap_set_base(struct heap *heap, uint64_t base)
{
	heap->base = base;
}

/* The node is in no heap. */
void heap_insert(struct heap *heap, struct heap_node *node, uint64_t key);

/* The node is in this heap. */
void heap_remove(struct heap *heap, struct heap_node *node);

/* Takes the node with the least key off; NULL: empty. */
struct heap_node *heap_pop(struct heap *heap);

#endif
