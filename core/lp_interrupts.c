/* SPDX-License-Identifier: MIT */
/*
 * Physical interrupts. The exit loop lets them in for a moment, the stubs note their vectors, and this sorts them:
 * our timer, our kick, or one of the root's, which goes into the local APIC of its VP here, whoever runs.
 *
 * Order of EOIs: an edge-triggered interrupt is ended at once. A level-triggered one is ended when the guest ends it,
 * or its line would fire again. A physical EOI ends the highest vector in service, so while a level-triggered one
 * is outstanding every EOI waits until its vector is the highest.
 */
#include <trivet/apic.h>
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/lp.h>

#include <trivet/statistics.h>
#include <trivet/vp.h>

#define KICK_TRIES 20u /* of LAPIC_ICR_SPINS: seconds */

bool lp_takes_posted;

static int highest_bit(const uint64_t bits[4])
{
	for (int i = 3; i >= 0; i--)
		if (bits[i])
			return i * 64 + 63 - __builtin_clzll(bits[i]);
	return -1;
}

static void set_bit(uint64_t bits[4], uint8_t n)
{
	bits[n / 64] |= BIT(n % 64);
}

static void clear_bit(uint64_t bits[4], uint8_t n)
{
	bits[n / 64] &= ~BIT(n % 64);
}

static bool test_bit(const uint64_t bits[4], uint8_t n)
{
	return bits[n / 64] >> (n % 64) & 1;
}

static void run_eois(struct lp *lp)
{
	int top;

	while ((top = highest_bit(lp->in_service)) >= 0 && test_bit(lp->eoi_wanted, (uint8_t)top)) {
		lapic_eoi(&lp->lapic);
		clear_bit(lp->in_service, (uint8_t)top);
		clear_bit(lp->eoi_wanted, (uint8_t)top);
		lp->in_service_count--;
	}
}

static void begin_service(struct lp *lp, uint8_t vector)
{
	if (!test_bit(lp->in_service, vector)) {
		set_bit(lp->in_service, vector);
		lp->in_service_count++;
	}
}

void lp_complete_level(struct lp *lp, uint8_t vector)
{
	if (!test_bit(lp->in_service, vector))
		return;
	set_bit(lp->eoi_wanted, vector);
	run_eois(lp);
}

void lp_abandon_level(struct lp *lp)
{
	for (unsigned int i = 0; i < 4; i++)
		lp->eoi_wanted[i] = lp->in_service[i];
	lp->level_parked = false;
	run_eois(lp);
}

void lp_unpark_level(struct lp *lp)
{
	const struct apic *apic = &lp->root_vp->apic;

	if (!lp->level_parked)
		return;
	lp->level_parked = false;
	for (unsigned int i = 0; i < 4; i++)
		lp->eoi_wanted[i] |= lp->in_service[i] & ~(apic_vectors(apic, APIC_REG_ISR, i) |
							   apic_vectors(apic, APIC_REG_IRR, i));
	run_eois(lp);
}

static __attribute__((__noinline__)) void end_edge_in_order(struct lp *lp, uint8_t vector)
{
	begin_service(lp, vector);
	lp_complete_level(lp, vector);
}

/* An edge-triggered vector is done with the physical APIC. */
static inline __attribute__((__always_inline__)) void end_edge(struct lp *lp, uint8_t vector)
{
	if (likely(lp->in_service_count == 0))
		lapic_eoi(&lp->lapic);
	else
		end_edge_in_order(lp, vector);
}

/* The deadline passed, or the counter was too short for it: then it is armed again. */
static void handle_timer(struct lp *lp)
{
	/* After a stale interrupt the timer still runs, or has fired again: 0 is no deadline, so it is set or stopped in any case. */
	lp->timer_deadline_tsc = lp->timer_stale ? 0 : UINT64_MAX;
	lp->timer_stale = false;
	lp->timer_interrupts++;
	statistics_tick();
	schedule_timer(lp);
	if (unlikely(log_threshold >= LOG_DEBUG) && lp->vp)
		vp_log_exit_counts(lp->vp);
}

/* Something has arrived at the root's local APIC. */
static inline void wake_root(struct lp *lp)
{
	if (likely(lp->vp == lp->root_vp))
		return; /* whoever let it in delivers it */
	vp_post_self(lp->root_vp, VP_PENDING_EVENT);
	vp_wake_here(lp->root_vp);
}

static void give_to_root(struct lp *lp, uint8_t vector)
{
	struct vp *vp = lp->root_vp;

	if (!lapic_is_in_service(&lp->lapic, vector)) {
		/* Not from the local APIC: an 8259 behind LINT0 gave the vector, or it is the spurious one. */
		if (vector == HV_VECTOR_SPURIOUS)
			return;
		if (vp->state == VP_RUNNING && !test_bit(vp->extint, vector)) {
			set_bit(vp->extint, vector);
			vp->extint_count++;
		}
	} else if (lapic_is_level(&lp->lapic, vector)) {
		/* Refused, it stays in service: ended, it would come again at once and for ever. */
		begin_service(lp, vector);
		if (!apic_accept(&vp->apic, vector, true))
			lp->level_parked = true;
	} else {
		end_edge(lp, vector);
		apic_accept(&vp->apic, vector, false);
	}
	wake_root(lp);
}

static bool timer_fired(const struct lp *lp)
{
	if (lp->timer_stale)
		return true;
	if (lp->timer_deadline_tsc == UINT64_MAX)
		return false;
	if (lp->lapic.tsc_deadline)
		return rdtsc() >= lp->timer_deadline_tsc;
	return lapic_read(&lp->lapic, LAPIC_TIMER_CURRENT) == 0;
}

/* Ours, not a device's of the same vector. Who kicks itself can't count: two that are pending arrive as one. */
static bool was_kicked(struct lp *lp)
{
	return atomic_exchange_explicit(&lp->kicked, 0, memory_order_acq_rel) || lp->kicks_itself;
}

/* True when the VP may have an interrupt to take now. */
static bool handle_vector(struct lp *lp, uint8_t vector)
{
	lp->interrupts++;
	if (vector == HV_VECTOR_TIMER && timer_fired(lp)) {
		end_edge(lp, vector);
		handle_timer(lp);
		return true;
	}
	if (vector == HV_VECTOR_KICK && was_kicked(lp)) {
		end_edge(lp, vector); /* what there is to do stands in vp->pending, and in lp->wakes */
		lp->kicks_taken++;
		schedule_kicked(lp);
		return false;
	}
	if (vector == HV_VECTOR_POSTED && lp_takes_posted) {
		end_edge(lp, vector); /* it found the LP outside guest mode */
		apic_sync_posted(&lp->root_vp->apic);
		wake_root(lp);
		return true;
	}
	give_to_root(lp, vector);
	return true;
}

static __attribute__((__noinline__)) void pass_on_nmi(struct lp *lp)
{
	atomic_store_explicit(&lp->nmi_taken, 0, memory_order_relaxed);
	vp_post_self(lp->root_vp, VP_PENDING_NMI);
	vp_wake_here(lp->root_vp);
}

static inline bool nmi_was_taken(const struct lp *lp)
{
	return atomic_load_explicit(&lp->nmi_taken, memory_order_relaxed);
}

bool lp_handle_vector(struct lp *lp, uint8_t vector)
{
	if (unlikely(nmi_was_taken(lp)))
		pass_on_nmi(lp);
	return handle_vector(lp, vector);
}

bool lp_handle_interrupts(struct lp *lp)
{
	bool deliver = false;

	for (int i = 3; i >= 0; i--) {
		uint64_t bits = lp->acked[i];

		if (likely(bits == 0))
			continue;
		lp->acked[i] = 0;
		while (bits) {
			unsigned int n = 63u - (unsigned int)__builtin_clzll(bits);

			bits &= ~BIT(n);
			deliver |= handle_vector(lp, (uint8_t)((unsigned int)i * 64 + n));
		}
	}
	if (unlikely(nmi_was_taken(lp)))
		pass_on_nmi(lp);
	return deliver;
}

bool lp_notify_posted(struct lp *lp)
{
	return atomic_load_explicit(&lp->state, memory_order_seq_cst) == LP_ONLINE &&
	       lapic_icr(&this_lp()->lapic, lp->apic_id,
			 LAPIC_ICR_FIXED | LAPIC_ICR_ASSERT | HV_VECTOR_POSTED) == 0;
}

/*
 * Nobody else would: what the kick is for waits at `lp`, others count on this one, and no exit is due there. As xAPIC, the IPI before may still be
 * waiting to be accepted, which the other processor does even with interrupts off: SDM3 11.6.1. If it never is, the machine is lost.
 */
static void send_kick(const struct lp *lp)
{
	for (unsigned int tries = 0; tries < KICK_TRIES; tries++)
		if (lapic_icr(&this_lp()->lapic, lp->apic_id,
			      LAPIC_ICR_FIXED | LAPIC_ICR_ASSERT | HV_VECTOR_KICK) == 0)
			return;
	panic("lp%u: its local APIC delivers no interrupt to lp%u", this_lp()->index, lp->index);
}

void lp_kick(struct lp *lp)
{
	/* A processor that is not up yet looks at its VP's pending work when it is. */
	if (atomic_load_explicit(&lp->state, memory_order_seq_cst) != LP_ONLINE)
		return;
	if (atomic_exchange_explicit(&lp->kicked, 1, memory_order_acq_rel) != 0)
		return; /* one is on its way */
	send_kick(lp);
}

/* As xAPIC, an IPI is sent by two writes: the NMI may have come between them, and the second one must find the first one's. */
void lp_kick_from_nmi(struct lp *lp)
{
	bool is_online = atomic_load_explicit(&lp->state, memory_order_relaxed) == LP_ONLINE;
	bool two_writes = is_online && !lp->lapic.x2apic;
	uint32_t destination = two_writes ? lapic_read(&lp->lapic, LAPIC_ICR_HIGH) : 0;

	lp_kick(lp);
	if (two_writes)
		lapic_write(&lp->lapic, LAPIC_ICR_HIGH, destination);
}

void lp_kick_self(struct lp *lp)
{
	lp->kicks_itself = true;
	send_kick(lp);
}
