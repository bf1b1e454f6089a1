/* SPDX-License-Identifier: MIT */
/*
 * Partition reference time (TLFS "Timers"): 100 ns units since the partition was created, the same on all its VPs. It is the
 * TSC times a scale plus an offset, exactly the formula that the reference TSC page gives the guest, so page and
 * MSR agree to the unit. While a root has made the TSCs of its processors differ, the page says "ask the MSR".
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
	_Atomic uint32_t version; /* odd: offset_100ns and moved_tsc are being changed */
	_Atomic uint64_t offset_100ns;
	/* How far the root's writes had moved the TSC when the page was last valid: part of offset_100ns. */
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
 * The first TSC of this LP at which reference_time_100ns() is at least `time_100ns`; UINT64_MAX when the TSC ends before,
 * and 0 for times before the TSC's zero.
 */
uint64_t reference_time_to_tsc(const struct partition *partition, uint64_t time_100ns);

/* How much time `ticks` of the TSC are (rounded down), and the TSC ticks of a duration (rounded up, saturating). */
uint64_t tsc_to_100ns(const struct reference_time *time, uint64_t ticks);
uint64_t tsc_from_100ns(const struct reference_time *time, uint64_t duration_100ns);

/*
 * A VP of the root wrote the TSC of its LP, and lp->tsc_moved counts it already: the page becomes invalid or, when all VPs'
 * LPs agree again, valid with new values. Time itself goes on undisturbed. Who keeps deadlines in TSC ticks asks
 * reference_time_to_tsc() again.
 */
void reference_time_tsc_moved(struct partition *partition);

/* Seam: this LP's TSC, and how much of it was written (lp->tsc_moved). In core/lp_tsc.c. */
uint64_t lp_tsc_now(uint64_t *moved);

#endif
