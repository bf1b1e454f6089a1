/* SPDX-License-Identifier: MIT */
/*
 * Virtual-processor identifiers (SDM3 29.1): the tags by which processors tell whose translations they hold. A child's VP has one of
 * its own for its life, the same on every LP. Whoever gets one anew flushes it before its first entry, and on each LP it comes to.
 */
#include "switch.h"

#define WORD_BITS 64u
#define WORDS (65536u / WORD_BITS)

/* 0 is the hypervisor's, and one is all roots'. */
static _Atomic uint64_t used[WORDS] = { BIT(0) | BIT(VPID_ROOT) };
static _Atomic uint32_t next_word; /* where to look first */

static uint16_t take_from(uint32_t word)
{
	uint64_t old = atomic_load_explicit(&used[word], memory_order_relaxed);

	while (~old) {
		unsigned int bit = (unsigned int)__builtin_ctzll(~old);

		if (atomic_compare_exchange_weak(&used[word], &old, old | BIT(bit)))
			return (uint16_t)(word * WORD_BITS + bit);
	}
	return 0;
}

uint16_t vmx_vpid_alloc(void)
{
	uint32_t first = atomic_load_explicit(&next_word, memory_order_relaxed);

	for (uint32_t i = 0; i < WORDS; i++) {
		uint32_t word = (first + i) % WORDS;
		uint16_t vpid = take_from(word);

		if (vpid) {
			atomic_store_explicit(&next_word, word, memory_order_relaxed);
			return vpid;
		}
	}
	return 0;
}

void vmx_vpid_free(uint16_t vpid)
{
	if (vpid > VPID_ROOT)
		atomic_fetch_and(&used[vpid / WORD_BITS], ~BIT(vpid % WORD_BITS));
}
