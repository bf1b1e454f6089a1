/* SPDX-License-Identifier: MIT */
/*
 * A VP's four synthetic timers (TLFS "Timers", "Synthetic Timers"). They count the partition's reference time and end in a message to a SINT
 * or, direct, in an interrupt. Nothing ticks: a running timer is its next expiration, and missed periods are arithmetic. All
 * of it belongs to the LP that runs the VP, whose one hardware timer serves the earliest of these and of the APIC's timer.
 */
#ifndef TRIVET_SYNTHETIC_TIMER_H
#define TRIVET_SYNTHETIC_TIMER_H

#include <hv/msr.h>
#include <hv/vp_state.h>
#include <trivet/synic.h>
#include <trivet/types.h>

struct stimer {
	uint64_t deadline_tsc; /* when to look; UINT64_MAX: stopped */
	uint64_t config;
	uint64_t count;
	uint64_t expiration_100ns; /* of the running timer, the next one */
	/* The one message of its own: of the first expiration that found the slot taken; later ones add nothing. */
	struct synic_message message;
	uint64_t message_expiration_100ns;
};

/* Embedded in the VP as `stimers`, for every VP: stimers_init(). */
struct stimers {
	uint64_t next_deadline_tsc; /* the earliest of the four */
	/* The reference time in this LP's TSC, for the usual case: base_tsc is when base_100ns began. */
	uint64_t base_100ns;
	uint64_t base_tsc;
	uint64_t tsc_per_2_40; /* TSC ticks of 2^40 times 100 ns, rounded up; 0: not known yet */
	struct stimer timer[HV_STIMER_COUNT];
};

/* A new VP's: all stopped. INIT leaves them alone. */
void stimers_init(struct vp *vp);

/* Writes of these deliver nothing by themselves: what they make deliverable they post. */
static inline bool stimer_owns_msr(uint32_t msr)
{
	return msr - HV_MSR_STIMER0_CONFIG < 2 * HV_STIMER_COUNT;
}

/* stimers.next_deadline_tsc has come: on the VP's own LP. The caller sets the LP's timer anew. */
void stimers_expired(struct vp *vp, uint64_t now_tsc);

/* The TSC, or the reference time, was changed: deadlines again, and the LP's timer. On the VP's own LP. */
void stimers_clock_changed(struct vp *vp);

/*
 * All four for a VP's parent, which has stopped the VP. Of a periodic timer `adjustment` is when it expires next; 0: a period from now.
 * load: -EINVAL: a reserved bit, nothing has changed; otherwise the VP's LP finds the deadlines anew (VP_PENDING_CLOCK).
 */
void stimers_save(const struct vp *vp, struct hv_vp_state_timers *image);
int stimers_load(struct vp *vp, const struct hv_vp_state_timers *image);

/* The timer's message, written when its slot is free. */
void stimer_fill_message(struct vp *vp, const struct synic_message *link, struct hv_message *message);

#endif
