/* SPDX-License-Identifier: MIT */
/*
 * Caps and reserves are two token buckets of each VP: a share c of an LP fills the bucket by c for each tick that passes, and each tick
 * that the VP runs takes one. A VP with an empty cap bucket waits until there are c * (1 - c) * period in it: it then runs for
 * c * period and waits for (1 - c) * period, and the sum is right without anything rounded, because budgets are in 1/65536 tick, the unit
 * of the shares.
 */
#include "internal.h"

#define ONE ((int64_t)SCHED_SHARE_ONE)

/* From here on a bucket's VP runs, or goes first: a period's worth, but worth a switch. */
static int64_t enough(uint16_t share)
{
	int64_t amount = (int64_t)(sched_durations.period_ticks * share / SCHED_SHARE_ONE) * (ONE - share);
	int64_t chunk = (int64_t)sched_durations.chunk_ticks * ONE;

	return amount > chunk ? amount : chunk;
}

/* Nobody saves more than that: of a cap two turns, which bounds how long it runs in one go; of a reserve a period's. */
static int64_t cap_most(uint16_t share)
{
	return 2 * enough(share);
}

static int64_t reserve_most(uint16_t share)
{
	int64_t amount = (int64_t)(sched_durations.period_ticks * share);

	return amount > enough(share) ? amount : enough(share);
}

static int64_t bounded(int64_t value, int64_t least, int64_t most)
{
	return value < least ? least : value < most ? value : most;
}

void budget_advance(struct sched_vp *vp, uint64_t now, uint64_t ran_ticks)
{
	/* Another LP's clock may have been ahead. */
	uint64_t passed = now > vp->budget_at ? now - vp->budget_at : 0;

	vp->budget_at = now;
	/* Beyond this a bucket is full, or as empty as can be; and nothing below overflows. */
	passed = passed < BIT(40) ? passed : BIT(40);
	ran_ticks = ran_ticks < BIT(40) ? ran_ticks : BIT(40);
	if (vp->cap) {
		int64_t change = (int64_t)passed * vp->cap - (int64_t)ran_ticks * ONE;

		/* An overrun is paid back, however long. */
		vp->cap_budget = bounded(vp->cap_budget + change, -(int64_t)BIT(60), cap_most(vp->cap));
	}
	if (vp->reserve) {
		int64_t change = (int64_t)passed * vp->reserve - (int64_t)ran_ticks * ONE;
		int64_t most = reserve_most(vp->reserve);

		vp->reserve_budget = bounded(vp->reserve_budget + change, -most, most);
	}
}

bool budget_is_capped(const struct sched_vp *vp, bool runs)
{
	int64_t least = runs ? 0 : (int64_t)sched_durations.chunk_ticks * ONE / 2;

	return vp->cap && vp->cap_budget <= least;
}

/* Urgent to the last, and again as soon as it is worth a switch. */
bool budget_is_urgent(const struct sched_vp *vp)
{
	int64_t least = vp->state == SCHED_URGENT ? 1 : (int64_t)sched_durations.chunk_ticks * ONE;

	return vp->reserve && vp->reserve_budget >= least;
}

static uint64_t divide_up(int64_t value, int64_t by)
{
	return value > 0 ? (uint64_t)((value + by - 1) / by) : 0;
}

uint64_t budget_cap_ticks(const struct sched_vp *vp)
{
	return divide_up(vp->cap_budget, ONE - vp->cap);
}

uint64_t budget_reserve_ticks(const struct sched_vp *vp)
{
	return divide_up(vp->reserve_budget, ONE - vp->reserve);
}

uint64_t budget_cap_refilled_at(const struct sched_vp *vp)
{
	return vp->budget_at + divide_up(enough(vp->cap) - vp->cap_budget, vp->cap);
}

uint64_t budget_reserve_refilled_at(const struct sched_vp *vp)
{
	return vp->budget_at + divide_up(enough(vp->reserve) - vp->reserve_budget, vp->reserve);
}
