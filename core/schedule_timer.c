/* SPDX-License-Identifier: MIT */
/*
 * The one timer of an LP: for the VP that is loaded, for those that aren't and belong there, and for the end of a slice. A queued deadline is
 * in lp_clock(), which no guest can move; the loaded VP's is compared in the LP's TSC.
 */
#include "schedule_internal.h"
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

/*
 * The VP's next timer, in this LP's TSC. The VP's may be anything, its guest writes it: only the time that is left is a number that can be
 * carried over.
 */
static uint64_t deadline_tsc(const struct vp *vp)
{
	uint64_t deadline = apic_timer_deadline(&vp->apic);

	if (deadline != NEVER && vp->tsc_delta) {
		uint64_t now = rdtsc(), vps_now = now + vp->tsc_delta;

		if (deadline <= vps_now)
			deadline = now;
		else
			deadline = deadline - vps_now < NEVER - now ? now + (deadline - vps_now) : NEVER;
	}
	return deadline < vp->stimers.next_deadline_tsc ? deadline : vp->stimers.next_deadline_tsc;
}

void schedule_leave_timer(struct vp *vp)
{
	if (heap_node_is_queued(&vp->timer_node))
		heap_remove(&vp->lp->timers, &vp->timer_node);
}

void schedule_queue_timer(struct vp *vp)
{
	uint64_t deadline = deadline_tsc(vp);

	schedule_leave_timer(vp);
	/* One that is past may lie before the clock's beginning. */
	if (deadline != NEVER)
		heap_insert(&vp->lp->timers, &vp->timer_node,
			    deadline <= rdtsc() ? lp_clock() : deadline - schedule_moved_tsc(vp->lp));
}

void lp_timer_update(struct lp *lp)
{
	uint64_t old = lp->timer_deadline_tsc;
	uint64_t deadline = lp->other_deadline_tsc;
	uint64_t now;

	if (unlikely(lp != this_lp()))
		return;
	if (likely(lp->vp != NULL)) {
		uint64_t own = deadline_tsc(lp->vp);

		if (own < deadline)
			deadline = own;
	}
	if (deadline == old)
		return;
	lp->timer_deadline_tsc = deadline;
	if (deadline == NEVER) {
		lapic_timer_disarm(&lp->lapic);
	} else {
		now = rdtsc();
		lapic_timer_arm(&lp->lapic, now, deadline > now ? deadline - now : 0);
	}
	/*
	 * What fired already still arrives; it must not pass for a device's interrupt with our vector. Asked last: until the
	 * timer had its new count, the old one could fire.
	 */
	if (old != NEVER && lapic_test_vector(&lp->lapic, LAPIC_IRR, HV_VECTOR_TIMER))
		lp->timer_stale = true;
}

void schedule_expire_timers(struct vp *vp)
{
	uint64_t now = rdtsc();

	apic_timer_expired(&vp->apic, now + vp->tsc_delta);
	if (now >= vp->stimers.next_deadline_tsc)
		stimers_expired(vp, now);
}

void schedule_set_timer(struct lp *lp)
{
	const struct heap_node *first = heap_first(&lp->timers);
	uint64_t clock = lp->slice_end_clock;

	if (first && first->key < clock)
		clock = first->key;
	lp->other_deadline_tsc = clock == NEVER ? NEVER : clock + schedule_moved_tsc(lp);
	lp_timer_update(lp);
}

void schedule_timer(struct lp *lp)
{
	uint64_t clock = lp_clock();
	struct heap_node *first;

	if (lp->vp) {
		schedule_expire_timers(lp->vp);
		/* Held before anybody looks at it, it would sleep on: the interrupt is in its APIC, and no timer is left to tell of it. */
		if (unlikely(lp->vp->halted))
			vp_post_self(lp->vp, VP_PENDING_EVENT);
	}
	while ((first = heap_first(&lp->timers)) && first->key <= clock) {
		struct vp *vp = container_of(first, struct vp, timer_node);

		heap_pop(&lp->timers);
		vp_post(vp, VP_PENDING_TIMER);
		vp_wake_here(vp);
	}
	if (clock >= lp->slice_end_clock && lp->vp) {
		vp_post_self(lp->vp, VP_PENDING_SCHEDULE);
		placement_ask(lp);
	}
	schedule_set_timer(lp);
}

void schedule_tsc_moved(struct lp *lp)
{
	schedule_set_timer(lp);
}
