/* SPDX-License-Identifier: MIT */
/*
 * How long a VP has run: the time since an LP first took it up, without the time it waited, asleep or for its turn. And how long an LP has: the time
 * since it came in, without the time when nobody could run. In ticks of lp_clock().
 */
#ifndef TRIVET_RUN_TIME_H
#define TRIVET_RUN_TIME_H

#include <stdatomic.h>
#include <trivet/types.h>

struct lp;
struct vp;

/* In the VP and in the LP as `run_time`. Written by the LP, or the VP's own. */
struct run_time {
	_Atomic uint64_t started_tsc;	 /* 0: not yet */
	_Atomic uint64_t idle_tsc;	 /* sum of the waits that are over */
	_Atomic uint64_t idle_since_tsc; /* 0: isn't waiting */
	_Atomic uint64_t waits;		 /* that are over */
};

/* The VP is about to run for the first time. */
void vp_run_time_start(struct vp *vp);

/*
 * Around each wait: from the moment when it isn't entered any more until it may be again. An end without a beginning is a VP's first run (a
 * child's). `now_clock`: lp_clock().
 */
void vp_run_time_idle_begin(struct vp *vp, uint64_t now_clock);
void vp_run_time_idle_end(struct vp *vp, uint64_t now_clock);

/* Ticks so far; from any LP, for another's VP a moment old. */
uint64_t vp_run_time_tsc(const struct vp *vp);

/* The same in 100 ns units (HV_MSR_VP_RUNTIME, statistics). */
uint64_t vp_run_time_100ns(const struct vp *vp);

/* The same of an LP. */
void lp_run_time_start(struct lp *lp);
void lp_run_time_idle_begin(struct lp *lp, uint64_t now_clock);
void lp_run_time_idle_end(struct lp *lp, uint64_t now_clock);
uint64_t lp_run_time_tsc(const struct lp *lp);

/* How long nobody could run there so far. */
uint64_t lp_idle_time_tsc(const struct lp *lp);

#endif
