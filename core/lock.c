/* SPDX-License-Identifier: MIT */
/* Lock ranks, checked in debug builds: a processor takes locks in rising rank only. */
#include <trivet/assert.h>
#include <trivet/lock.h>
#include <trivet/lp.h>

#ifdef TRIVET_DEBUG

/* Before the boot LP runs on its own stack there is nobody to deadlock with. */
static struct lp *checked_lp(void)
{
	struct lp *lp = this_lp();

	for (uint32_t i = 0; i < lp_count; i++)
		if (lp_table[i] == lp)
			return lp;
	return NULL;
}

void lock_rank_enter(enum lock_rank rank)
{
	struct lp *lp = checked_lp();

	if (!lp)
		return;
	ASSERT(lp->lock_ranks >> rank == 0);
	lp->lock_ranks |= (uint32_t)BIT(rank);
}

void lock_rank_leave(enum lock_rank rank)
{
	struct lp *lp = checked_lp();

	if (lp)
		lp->lock_ranks &= ~(uint32_t)BIT(rank);
}

#endif
