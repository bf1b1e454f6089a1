/* SPDX-License-Identifier: MIT */
/*
 * The classic policy: proportional share on each LP by itself. Who has got less than its reserve goes first, in the order in which
 * they fell behind; then who has had least of what its weight entitles it to; who has used up its cap waits for its refill.
 */
#include <trivet/assert.h>

#include "internal.h"

struct sched_durations sched_durations;

void sched_init(uint64_t clock_hz)
{
	uint64_t ms = clock_hz / 1000;

	ASSERT(ms);
	sched_durations = (struct sched_durations){
		.slice_max_ticks = 10 * ms,
		.slice_min_ticks = 2 * ms,
		.round_ticks = 50 * ms,
		.granularity_ticks = ms,
		.request_ticks = 10 * ms,
		.lag_max_ticks = 80 * ms,
		.period_ticks = 20 * ms,
		.chunk_ticks = (ms + 9) / 10,
		.forget_ticks = 1000 * ms,
	};
}

void sched_lp_init(struct sched_lp *lp)
{
	*lp = (struct sched_lp){ .deadline = UINT64_MAX };
	heap_set_base(&lp->fair, 0 - BIT(63));
}

static void take_params(struct sched_vp *vp, const struct sched_params *params)
{
	ASSERT(sched_params_valid(params));
	vp->cap = (uint16_t)(params->cap < SCHED_SHARE_ONE ? params->cap : 0);
	/* All of an LP but a 65,536th: a VP that is owed everything could never be behind. */
	vp->reserve = (uint16_t)(params->reserve < SCHED_SHARE_ONE ? params->reserve : SCHED_SHARE_ONE - 1);
}

void sched_vp_init(struct sched_vp *vp, const struct sched_params *params)
{
	/* Full budgets: budget_advance cuts them to size. */
	*vp = (struct sched_vp){
		.state = SCHED_BLOCKED,
		.weight = (uint16_t)params->weight,
		.cap_budget = BIT(60),
		.reserve_budget = BIT(60),
	};
	take_params(vp, params);
}

static struct sched_vp *of_queue(struct heap_node *node)
{
	return node ? container_of(node, struct sched_vp, queue_node) : NULL;
}

void sched_charge(struct sched_lp *lp, uint64_t now)
{
	struct sched_vp *vp = lp->current;
	uint64_t ran_ticks = now > lp->charged_at ? now - lp->charged_at : 0;

	if (now > lp->charged_at)
		lp->charged_at = now;
	if (!vp || !ran_ticks)
		return;
	atomic_store_explicit(&vp->run_ticks, sched_run_ticks(vp) + ran_ticks, memory_order_relaxed);
	budget_advance(vp, now, ran_ticks);
	fair_charge(lp, vp, ran_ticks);
}

/* The VP, which is joined and in no queue, waits. A VP with a reserve that isn't urgent will be when its budget is full. */
static void enqueue(struct sched_lp *lp, struct sched_vp *vp, uint64_t now)
{
	vp->state = budget_is_urgent(vp) ? SCHED_URGENT : SCHED_FAIR;
	if (vp->state == SCHED_URGENT) {
		heap_insert(&lp->urgent, &vp->queue_node, now);
		return;
	}
	heap_insert(&lp->fair, &vp->queue_node, fair_key(vp));
	if (vp->reserve)
		heap_insert(&lp->refill, &vp->refill_node, budget_reserve_refilled_at(vp));
}

/* Out of whatever it waits in. */
static void dequeue(struct sched_lp *lp, struct sched_vp *vp)
{
	if (heap_node_is_queued(&vp->queue_node))
		heap_remove(vp->state == SCHED_URGENT ? &lp->urgent : &lp->fair, &vp->queue_node);
	if (heap_node_is_queued(&vp->refill_node))
		heap_remove(&lp->refill, &vp->refill_node);
}

/* The VP, which isn't joined, waits for its cap's refill. */
static void throttle(struct sched_lp *lp, struct sched_vp *vp)
{
	vp->state = SCHED_THROTTLED;
	heap_insert(&lp->refill, &vp->refill_node, budget_cap_refilled_at(vp));
}

/* The VP, which is joined and in no queue, waits for its turn, or with a rest of its cap that isn't worth one, for its refill. */
static void put_in(struct sched_lp *lp, struct sched_vp *vp, uint64_t now)
{
	if (budget_is_capped(vp, false)) {
		fair_leave(lp, vp);
		throttle(lp, vp);
	} else {
		enqueue(lp, vp, now);
	}
}

/* The VP, which is on no LP, waits on this one. */
static void admit(struct sched_lp *lp, struct sched_vp *vp, uint64_t credit_ticks, uint64_t now)
{
	fair_join(lp, vp, credit_ticks, now);
	budget_advance(vp, now, 0);
	put_in(lp, vp, now);
}

/* A little less than a request: of VPs that come back together, those with more weight are first. */
static uint64_t most_credit(void)
{
	return sched_durations.request_ticks / 16 * 15;
}

/* Those whose time in `refill` is over: a capped VP runs again, one with a reserve goes first. */
static void take_refilled(struct sched_lp *lp, uint64_t now)
{
	struct heap_node *node;

	while ((node = heap_first(&lp->refill)) && node->key <= now) {
		struct sched_vp *vp = container_of(node, struct sched_vp, refill_node);

		if (vp->state == SCHED_THROTTLED) {
			heap_remove(&lp->refill, node);
			/* What it missed while it wasn't allowed to run it may catch up on. */
			admit(lp, vp, most_credit(), now);
		} else {
			dequeue(lp, vp);
			budget_advance(vp, now, 0);
			enqueue(lp, vp, now);
		}
	}
}

/* Should `vp`, which waits, run instead of `current`? */
static bool is_before_current(const struct sched_lp *lp, const struct sched_vp *vp, uint64_t now)
{
	const struct sched_vp *current = lp->current;

	if (vp->state != current->state)
		return vp->state == SCHED_URGENT;
	if (lp->gives_way)
		return true;
	if (vp->state == SCHED_URGENT)
		return false;

	int64_t behind = later_by(fair_key(current), fair_key(vp));

	if (now >= lp->slice_end)
		return behind >= 0;
	return behind > (int64_t)to_vtime(vp, sched_durations.granularity_ticks);
}

static struct sched_vp *first_waiting(const struct sched_lp *lp)
{
	return of_queue(heap_first(heap_is_empty(&lp->urgent) ? &lp->fair : &lp->urgent));
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* When sched_pick is due, as things are. `current` is charged up to now. */
static uint64_t next_deadline(const struct sched_lp *lp, uint64_t now)
{
	const struct sched_vp *current = lp->current;
	uint64_t deadline = UINT64_MAX;

	if (!heap_is_empty(&lp->refill))
		deadline = heap_first(&lp->refill)->key;
	if (!current)
		return deadline;
	if (current->cap)
		deadline = earlier(deadline, now + budget_cap_ticks(current));
	if (!first_waiting(lp))
		return deadline;
	if (current->state == SCHED_URGENT)
		return earlier(deadline, now + budget_reserve_ticks(current));
	return earlier(deadline, lp->slice_end);
}

/* `current`, charged up to now, goes on or doesn't. */
static void review_current(struct sched_lp *lp)
{
	struct sched_vp *vp = lp->current;

	if (budget_is_capped(vp, true)) {
		lp->current = NULL;
		fair_leave(lp, vp);
		throttle(lp, vp);
		return;
	}
	vp->state = budget_is_urgent(vp) ? SCHED_URGENT : SCHED_FAIR;
}

struct sched_vp *sched_pick(struct sched_lp *lp, uint64_t now, uint64_t *deadline)
{
	sched_charge(lp, now);
	if (lp->current)
		review_current(lp);
	take_refilled(lp, now);

	struct sched_vp *next = first_waiting(lp);

	if (next && (!lp->current || is_before_current(lp, next, now))) {
		dequeue(lp, next);
		if (lp->current)
			put_in(lp, lp->current, now);
		/* Its budgets are as old as its turn in the queue. */
		budget_advance(next, now, 0);
		lp->current = next;
		lp->slice_end = now;
	}
	lp->gives_way = false;
	if (lp->current && now >= lp->slice_end)
		lp->slice_end = now + fair_slice(lp->current, sched_load(lp));
	lp->deadline = next_deadline(lp, now);
	*deadline = lp->deadline;
	return lp->current;
}

bool sched_give_way(struct sched_lp *lp, uint64_t now)
{
	const struct sched_vp *next = first_waiting(lp);
	struct sched_vp *vp = lp->current;

	if (!vp || !next || (vp->state == SCHED_URGENT && next->state != SCHED_URGENT))
		return false;
	sched_charge(lp, now);
	fair_forgo(lp, vp);
	lp->gives_way = true;
	return true;
}

/* `vp` waits and comes after `current` as yet: the slice ends when that has changed by enough. */
static void shorten_slice(struct sched_lp *lp, const struct sched_vp *vp, uint64_t now)
{
	const struct sched_vp *current = lp->current;

	if (!current || vp->state != SCHED_FAIR || current->state != SCHED_FAIR || now >= lp->slice_end)
		return;

	uint64_t enough = fair_key(vp) + to_vtime(vp, sched_durations.granularity_ticks);
	int64_t ahead = later_by(enough, fair_key(current));
	uint64_t left = lp->slice_end - now;

	if (ahead < (int64_t)to_vtime(current, left))
		lp->slice_end = now + 1 + ((uint64_t)ahead * current->weight >> VTIME_SHIFT);
}

static bool is_off(const struct sched_vp *vp)
{
	return vp->state == SCHED_BLOCKED || vp->state == SCHED_MOVING;
}

enum sched_change sched_wake(struct sched_lp *lp, struct sched_vp *vp, uint64_t now)
{
	uint64_t deadline;

	ASSERT(is_off(vp));
	sched_charge(lp, now);

	/* A sleeper is owed its last slice at most, less in a crowd. */
	uint64_t credit = earlier(fair_slice(vp, sched_load(lp) + vp->weight), most_credit());

	/* Who has waited is owed all of that elsewhere, too. */
	admit(lp, vp, vp->state == SCHED_MOVING ? sched_durations.lag_max_ticks : credit, now);
	if (vp->state != SCHED_THROTTLED && (!lp->current || is_before_current(lp, vp, now)))
		return SCHED_CHOOSE;
	shorten_slice(lp, vp, now);
	deadline = next_deadline(lp, now);
	if (deadline >= lp->deadline)
		return SCHED_GO_ON;
	lp->deadline = deadline;
	return deadline > now ? SCHED_SOONER : SCHED_CHOOSE;
}

/* The VP leaves this LP. */
static void take_off(struct sched_lp *lp, struct sched_vp *vp, enum sched_state state, uint64_t now)
{
	bool throttled = vp->state == SCHED_THROTTLED;

	if (lp->current == vp) {
		lp->current = NULL;
	} else {
		dequeue(lp, vp);
		budget_advance(vp, now, 0);
	}
	vp->state = (uint8_t)state;
	if (!throttled)
		fair_leave(lp, vp);
}

void sched_block(struct sched_lp *lp, struct sched_vp *vp, uint64_t now)
{
	ASSERT(!is_off(vp) && vp->home == lp);
	sched_charge(lp, now);
	take_off(lp, vp, SCHED_BLOCKED, now);
}

bool sched_set_params(struct sched_lp *lp, struct sched_vp *vp, const struct sched_params *params,
		      uint64_t now)
{
	bool was_current = lp->current == vp, was_off = is_off(vp);

	sched_charge(lp, now);
	if (!was_off)
		take_off(lp, vp, SCHED_BLOCKED, now);
	take_params(vp, params);
	/* Budgets of other shares mean nothing. */
	vp->cap_budget = vp->reserve_budget = 0;
	fair_set_weight(lp, vp, (uint16_t)params->weight);
	if (was_off)
		return false;
	fair_join(lp, vp, sched_durations.lag_max_ticks, now);
	vp->state = SCHED_FAIR;
	if (was_current)
		lp->current = vp;
	else
		put_in(lp, vp, now);
	return true;
}

/* How many of those that wait sched_steal looks at: pinned VPs are few on an LP. */
#define STEAL_LOOKS 8

/* The first and, for want of a better order, its children: they are those that were compared with it. */
static struct sched_vp *movable(const struct sched_lp *lp, const struct heap *heap, uint64_t thief_load)
{
	struct heap_node *node = heap_first(heap);

	for (unsigned int looks = 0; node && looks < STEAL_LOOKS; looks++) {
		struct sched_vp *vp = of_queue(node);

		if (!vp->pinned && thief_load + vp->weight < sched_load(lp))
			return vp;
		node = node == heap_first(heap) ? node->child : node->next;
	}
	return NULL;
}

struct sched_vp *sched_steal(struct sched_lp *lp, uint64_t thief_load, uint64_t now)
{
	/* Who waits on an LP where nobody runs is about to. */
	if (!lp->current)
		return NULL;

	struct sched_vp *vp = movable(lp, &lp->urgent, thief_load);

	if (!vp)
		vp = movable(lp, &lp->fair, thief_load);
	if (vp)
		take_off(lp, vp, SCHED_MOVING, now);
	return vp;
}
