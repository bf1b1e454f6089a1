/* SPDX-License-Identifier: MIT */
/*
 * Partition reference time (TLFS "Timers"): 100 ns units since the partition was created, the same on all its VPs. It is the
 * TSC times a scale plus an offset, exactly the formula that the reference TSC page gives the guest, so page and
 * MSR agree to the unit. While the TSCs of its VPs differ, or time stands still, the page says "ask the MSR".
 *
 * A root's VP writes the TSC of its LP, which lp->tsc_moved counts; a child's has a distance of its own from lp_clock(), vp->tsc_offset. Both
 * are "how far this VP's TSC is ahead of lp_clock()", and deadlines are in the LP's TSC for both.
 */
#ifndef TRIVET_REFERENCE_TIME_H
#define TRIVET_REFERENCE_TIME_H

#include <stdatomic.h>
#include <trivet/lock.h>
#include <trivet/overlay.h>
#include <trivet/types.h>

/* Embedded in the partition as `reference_time`. */
struct reference_time {
	uint64_t scale;		  /* time = (TSC * scale >> 64) + offset; 0: not set up */
	_Atomic uint32_t version; /* odd: what is atomic here is being changed */
	_Atomic uint64_t offset_100ns;
	_Atomic uint64_t frozen_100ns; /* the time, while `frozen` */
	_Atomic bool frozen;
	/* How far writes had moved the VPs' TSCs when the page was last valid: part of offset_100ns. */
	_Atomic uint64_t moved_tsc;
	uint32_t sequence; /* of the page when it was last valid */
	struct spinlock lock;
	struct overlay page;
};

/*
 * The partition's time starts at 0, at `tsc` of an LP whose TSC was moved by `moved`. The page's content is ready, the page is
 * not enabled. overlay_space_init() came before. -ENOMEM; -EINVAL: a TSC of 10 MHz or less.
 */
int reference_time_init(struct partition *partition, uint64_t tsc_hz, uint64_t tsc, uint64_t moved);

/* Time now, on the LP this runs on. */
uint64_t reference_time_100ns(const struct partition *partition);

/*
 * The first TSC of this LP at which reference_time_100ns() is at least `time_100ns`; UINT64_MAX when the TSC ends before, or time stands
 * still before; and 0 for times before the TSC's zero.
 */
uint64_t reference_time_to_tsc(const struct partition *partition, uint64_t time_100ns);

/* How much time `ticks` of the TSC are (rounded down), and the TSC ticks of a duration (rounded up, saturating). */
uint64_t tsc_to_100ns(const struct reference_time *time, uint64_t ticks);
uint64_t tsc_from_100ns(const struct reference_time *time, uint64_t duration_100ns);

/*
 * A VP of the root wrote the TSC of its LP, and lp->tsc_moved counts it already; or a child's vp->tsc_offset changed, or it has a VP more or
 * less: the page becomes invalid or, when all agree again, valid with new values. Time itself goes on undisturbed. Who keeps deadlines in
 * TSC ticks asks reference_time_to_tsc() again.
 */
void reference_time_tsc_moved(struct partition *partition);

/*
 * A child's time stands still and goes on (HV_PROPERTY_TIME_FREEZE), or becomes another (HV_PROPERTY_REFERENCE_TIME). Deadlines are other
 * ones then: every VP with timers does stimers_clock_changed().
 */
void reference_time_freeze(struct partition *partition, bool freeze);
void reference_time_set(struct partition *partition, uint64_t time_100ns);
bool reference_time_is_frozen(const struct partition *partition);

/* Seam: this LP's TSC, and how much of it was written (lp->tsc_moved). In core/lp_tsc.c. */
uint64_t lp_tsc_now(uint64_t *moved);

#endif
