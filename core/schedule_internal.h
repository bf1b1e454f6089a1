/* SPDX-License-Identifier: MIT */
/* What core/schedule.c and core/schedule_timer.c have between them. All of it on the LP of the VP. */
#ifndef TRIVET_CORE_SCHEDULE_INTERNAL_H
#define TRIVET_CORE_SCHEDULE_INTERNAL_H

#include <trivet/lp.h>
#include <trivet/types.h>

struct vp;

#define NEVER UINT64_MAX

/* What the LP's TSC is ahead of lp_clock(). */
static inline uint64_t schedule_moved_tsc(const struct lp *lp)
{
	return atomic_load_explicit(&lp->tsc_moved, memory_order_relaxed);
}

/* The VP isn't loaded: its LP minds its timers; and no longer. */
void schedule_queue_timer(struct vp *vp);
void schedule_leave_timer(struct vp *vp);

/* The LP's timer, when those, the slice's end, or who is loaded has changed. */
void schedule_set_timer(struct lp *lp);

/* The VP is loaded: those of its timers that are due. */
void schedule_expire_timers(struct vp *vp);

#endif
