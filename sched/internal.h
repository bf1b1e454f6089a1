/* SPDX-License-Identifier: MIT */
/* What the parts of the classic policy share: durations in ticks, virtual time (fair.c) and budgets (budget.c). */
#ifndef SCHED_INTERNAL_H
#define SCHED_INTERNAL_H

#include <trivet/sched.h>

/* Set once by sched_init. */
struct sched_durations {
	uint64_t slice_max_ticks;
	uint64_t slice_min_ticks;
	uint64_t round_ticks;	    /* in which each VP that waits should have its turn */
	uint64_t granularity_ticks; /* by less than this nobody is behind enough to preempt */
	uint64_t
		request_ticks; /* what a VP is thought to want at a time, which orders VPs of different weight */
	uint64_t lag_max_ticks; /* nobody owes more */
	uint64_t period_ticks;	/* of caps and reserves */
	uint64_t chunk_ticks;	/* a budget is worth a switch from here on */
	uint64_t forget_ticks;	/* after so long a sleep the past is forgotten */
};
extern struct sched_durations sched_durations;

/* Ticks of a VP, in virtual time: a tick of weight 1 is VTIME_ONE. */
#define VTIME_SHIFT 16

static inline uint64_t to_vtime(const struct sched_vp *vp, uint64_t ticks)
{
	return (ticks << VTIME_SHIFT) / vp->weight;
}

/* How much later `a` is than `b`, on a scale that wraps. */
static inline int64_t later_by(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b);
}

/* The order in `fair`: when the VP's next request would be served if all were served at once, each at the speed of its weight. */
static inline uint64_t fair_key(const struct sched_vp *vp)
{
	return vp->vtime + to_vtime(vp, sched_durations.request_ticks);
}

/* How long the VP may run while others wait. `load` includes it. */
uint64_t fair_slice(const struct sched_vp *vp, uint64_t load);

/* The VP joins those that run or wait: its virtual time becomes right for this LP, at most `credit_ticks` in the VP's favour. */
void fair_join(struct sched_lp *lp, struct sched_vp *vp, uint64_t credit_ticks, uint64_t now);
void fair_leave(struct sched_lp *lp, struct sched_vp *vp);

/* The VP, who has joined, ran. */
void fair_charge(struct sched_lp *lp, struct sched_vp *vp, uint64_t ran_ticks);

/* The VP, who has joined and is in no queue, is owed nothing from now on. */
void fair_forgo(struct sched_lp *lp, struct sched_vp *vp);

/* While the VP isn't joined: its weight changes, what it is owed or owes doesn't. */
void fair_set_weight(struct sched_lp *lp, struct sched_vp *vp, uint16_t weight);

/* Brings the budgets up to now, the VP having run `ran_ticks` since the last time. */
void budget_advance(struct sched_vp *vp, uint64_t now, uint64_t ran_ticks);

/* The rest is of VPs whose budgets are up to date. May it not run? `runs`: it does, and goes on to the last tick. */
bool budget_is_capped(const struct sched_vp *vp, bool runs);

/* Has it got so much less than its reserve that it should go first? */
bool budget_is_urgent(const struct sched_vp *vp);

/* Ticks that it can run before its cap or its reserve is used up; the VP has one. */
uint64_t budget_cap_ticks(const struct sched_vp *vp);
uint64_t budget_reserve_ticks(const struct sched_vp *vp);

/* When a waiting VP's budget is full enough; it has such a budget. */
uint64_t budget_cap_refilled_at(const struct sched_vp *vp);
uint64_t budget_reserve_refilled_at(const struct sched_vp *vp);

#endif
