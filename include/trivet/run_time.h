/* SPDX-License-Identifier: MIT */
/* How long a VP has run: the time since its LP took it up without the time it waited in the hypervisor. In ticks of lp_clock(). */
#ifndef TRIVET_RUN_TIME_H
#define TRIVET_RUN_TIME_H

#include <stdatomic.h>
#include <trivet/types.h>

struct vp;

/* Embedded in the VP as `run_time`. Written by the VP's own LP. */
struct vp_run_time {
	_Atomic uint64_t started_tsc;	 /* 0: not yet */
	_Atomic uint64_t idle_tsc;	 /* sum of the waits that are over */
	_Atomic uint64_t idle_since_tsc; /* 0: isn't waiting */
};

/* The VP is about to run for the first time. */
void vp_run_time_start(struct vp *vp);

/* Around each wait for an interrupt. */
void vp_run_time_idle_begin(struct vp *vp);
void vp_run_time_idle_end(struct vp *vp);

/* Ticks so far; from any LP, for another's VP a moment old. */
uint64_t vp_run_time_tsc(const struct vp *vp);

/* The same in 100 ns units (HV_MSR_VP_RUNTIME, statistics). */
uint64_t vp_run_time_100ns(const struct vp *vp);

#endif
