/* SPDX-License-Identifier: MIT */
/*
 * Virtual time: who of those that run or wait has had how much of what its weight entitles it to. A VP's virtual time grows by
 * ticks / weight while it runs. The weighted mean of them is where all would be had they been served at once (Stoica, Abdel-Wahab,
 * "Earliest Eligible Virtual Deadline First", 1995: the point of zero lag), which is kept exactly: `average` and a rest.
 */
#include "internal.h"

static void set_load(struct sched_lp *lp, uint64_t load)
{
	atomic_store_explicit(&lp->load, load, memory_order_relaxed);
}

/* Restores 0 <= rest < load, and what follows from the average. */
static void settle(struct sched_lp *lp)
{
	int64_t load = (int64_t)sched_load(lp);

	if (!load) {
		lp->average = lp->vtime;
		lp->rest = 0;
	} else if (lp->rest < 0 || lp->rest >= load) {
		int64_t whole = lp->rest / load;

		if (whole * load > lp->rest)
			whole--;
		lp->average += (uint64_t)whole;
		lp->rest -= whole * load;
	}
	/* The average falls when a VP joins that is owed something. Were VPs placed by that, each of a crowd that wakes would come before those who woke earlier. */
	if (later_by(lp->average, lp->vtime) > 0)
		lp->vtime = lp->average;
	heap_set_base(&lp->fair, lp->average - BIT(63));
}

uint64_t fair_slice(const struct sched_vp *vp, uint64_t load)
{
	uint64_t ticks = sched_durations.round_ticks * vp->weight / load;

	if (ticks < sched_durations.slice_min_ticks)
		return sched_durations.slice_min_ticks;
	return ticks < sched_durations.slice_max_ticks ? ticks : sched_durations.slice_max_ticks;
}

/*
 * Who moves while it waits keeps what it is owed. Its joining takes the average along a little, which would cost it that part of it each
 * time: so it is put as much further back, but where it outweighs all others, only as far again: they wait for that meanwhile.
 */
static uint64_t moved(const struct sched_lp *lp, const struct sched_vp *vp)
{
	int64_t bound = (int64_t)to_vtime(vp, sched_durations.lag_max_ticks);
	int64_t load = (int64_t)sched_load(lp);
	int64_t lag = later_by(vp->vtime, vp->left_vtime);

	lag = lag > bound ? bound : lag < -bound ? -bound : lag;
	return lp->average + (uint64_t)(load > vp->weight ? lag + lag * vp->weight / load : 2 * lag);
}

/* The VP's virtual time on this LP's scale. */
static uint64_t rescale(const struct sched_lp *lp, const struct sched_vp *vp, uint64_t credit, uint64_t now)
{
	if (!vp->home)
		return lp->vtime;
	if (vp->state == SCHED_MOVING)
		return moved(lp, vp);
	/* Long enough to be owed all that may be owed; and a comparison with a time long ago might have wrapped. */
	if (now > vp->budget_at && now - vp->budget_at > sched_durations.forget_ticks)
		return lp->vtime - credit;
	if (vp->home == lp)
		return vp->vtime;
	return lp->vtime + (vp->vtime - vp->left_vtime);
}

void fair_join(struct sched_lp *lp, struct sched_vp *vp, uint64_t credit_ticks, uint64_t now)
{
	uint64_t credit = to_vtime(vp, credit_ticks);
	uint64_t debt = to_vtime(vp, sched_durations.lag_max_ticks);

	vp->vtime = rescale(lp, vp, credit, now);
	if (later_by(lp->vtime - credit, vp->vtime) > 0)
		vp->vtime = lp->vtime - credit;
	else if (later_by(vp->vtime, lp->vtime + debt) > 0)
		vp->vtime = lp->vtime + debt;
	vp->home = lp;
	lp->rest += later_by(vp->vtime, lp->average) * vp->weight;
	set_load(lp, sched_load(lp) + vp->weight);
	settle(lp);
}

void fair_leave(struct sched_lp *lp, struct sched_vp *vp)
{
	/* Before its leaving changes it; a VP that wakes elsewhere is placed by where others would join. */
	vp->left_vtime = vp->state == SCHED_MOVING ? lp->average : lp->vtime;
	lp->rest -= later_by(vp->vtime, lp->average) * vp->weight;
	set_load(lp, sched_load(lp) - vp->weight);
	settle(lp);
}

/*
 * A reserve serves a VP beyond its weight: what it gets so isn't held against it later for more than a request. Nobody's debt
 * grows without bound, whatever happens: otherwise virtual times could drift apart until their order wraps.
 */
void fair_charge(struct sched_lp *lp, struct sched_vp *vp, uint64_t ran_ticks)
{
	uint64_t debt =
		vp->state == SCHED_URGENT ? sched_durations.request_ticks : sched_durations.lag_max_ticks;
	int64_t room = later_by(lp->vtime + to_vtime(vp, debt), vp->vtime);
	uint64_t add = to_vtime(vp, ran_ticks < BIT(40) ? ran_ticks : BIT(40));

	if (room <= 0)
		return;
	if (add > (uint64_t)room)
		add = (uint64_t)room;
	vp->vtime += add;
	lp->rest += (int64_t)(add * vp->weight);
	settle(lp);
}

void fair_forgo(struct sched_lp *lp, struct sched_vp *vp)
{
	int64_t owed = later_by(lp->average, vp->vtime);

	if (owed <= 0)
		return;
	vp->vtime += (uint64_t)owed;
	lp->rest += owed * vp->weight;
	settle(lp);
}

void fair_set_weight(struct sched_lp *lp, struct sched_vp *vp, uint16_t weight)
{
	uint64_t reference = vp->home == lp ? lp->vtime : vp->left_vtime;
	int64_t bound = (int64_t)to_vtime(vp, sched_durations.lag_max_ticks);
	int64_t lag = later_by(vp->vtime, reference);

	lag = lag > bound ? bound : lag < -bound ? -bound : lag;
	vp->vtime = reference + (uint64_t)(lag * vp->weight / weight);
	vp->weight = weight;
}
