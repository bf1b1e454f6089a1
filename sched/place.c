/* SPDX-License-Identifier: MIT */
/* Where a VP that wakes should go. */
#include "internal.h"

/*
 * An idle LP first; else the better of what the caller looked at, two of them chosen at random: that keeps the fullest queue almost as
 * short as looking at all would (Mitzenmacher, "The power of two choices in randomized load balancing", 2001). Leaving costs a warm cache,
 * so it must be worth it: a place among fewer by at least its own weight, and by a quarter of what is there.
 */
int sched_place(const struct sched_vp *vp, uint64_t own_load, const uint64_t *loads, unsigned int count)
{
	unsigned int best = 0;

	if (vp->pinned || !own_load || !count)
		return -1;
	for (unsigned int i = 1; i < count; i++) {
		if (loads[i] < loads[best])
			best = i;
	}

	uint64_t least = loads[best];
	uint64_t gain = least / 4 > vp->weight ? least / 4 : vp->weight;

	if (!least || own_load >= least + gain)
		return (int)best;
	return -1;
}
