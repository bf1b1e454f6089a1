/* SPDX-License-Identifier: MIT */
/*
 * Flushes of translations on other processors. What makes them safe:
 *
 * A target clears the bit before it reads the newest ticket, and the bit was posted after the ticket was drawn, so a target that
 * shows the ticket flushes after the change that the flush is for. It shows it outside guest mode and flushes before the next
 * entry: a bit posted too late for this entry comes with a kick, which ends guest mode, and counts only then.
 *
 * Poster: post, then load `idle`. Target: clear `idle`, then load `pending`. Both with full order, so one of them sees the other
 * (Dekker): either the poster waits, or the target flushes before it enters.
 */
#include <trivet/assert.h>
#include <trivet/flush.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_set.h>

#define SPINS_PER_KICK 1024u /* a kick that couldn't be sent (its APIC was busy) is sent again */

void flush_idle_begin(struct vp *vp)
{
	atomic_store_explicit(&vp->idle, true, memory_order_seq_cst);
}

void flush_idle_end(struct vp *vp)
{
	atomic_store_explicit(&vp->idle, false, memory_order_seq_cst);
}

void flush_taken(struct vp *vp)
{
	vp_clear_pending(vp, VP_PENDING_FLUSH);
	atomic_store_explicit(&vp->flush_seen,
			      atomic_load_explicit(&vp->partition->flush.ticket, memory_order_seq_cst),
			      memory_order_release);
	vp->flushes++;
}

static inline uint64_t draw_ticket(struct partition *partition)
{
	return atomic_fetch_add_explicit(&partition->flush.ticket, 1, memory_order_seq_cst) + 1;
}

static inline bool is_idle(const struct vp *vp)
{
	return atomic_load_explicit(&vp->idle, memory_order_seq_cst);
}

/* True: it may be in guest mode, and was told to leave it. */
static inline bool request(struct vp *vp, const struct vp *self)
{
	vp_post(vp, VP_PENDING_FLUSH);
	if (vp == self || is_idle(vp))
		return false;
	lp_kick(vp->lp);
	return true;
}

/* Who waits is idle meanwhile. A VP that is borrowed is so anyway, and stays it. */
static inline bool wait_begin(struct vp *self)
{
	if (is_idle(self))
		return false;
	flush_idle_begin(self);
	return true;
}

static inline void wait_end(struct vp *self, bool began)
{
	if (began)
		flush_idle_end(self);
}

static inline void wait_for(struct vp *vp, const struct vp *self, uint64_t ticket)
{
	uint32_t spins = 0;

	if (vp == self)
		return;
	while (atomic_load_explicit(&vp->flush_seen, memory_order_acquire) < ticket && !is_idle(vp)) {
		if (++spins % SPINS_PER_KICK == 0)
			lp_kick(vp->lp);
		cpu_relax();
	}
}

static inline struct vp *vp_at(const struct partition *partition, uint32_t index)
{
	return __atomic_load_n(&partition->vps[index], __ATOMIC_SEQ_CST);
}

void flush_vps(struct partition *partition, struct vp *self, const struct vp_set *set)
{
	uint64_t ticket = draw_ticket(partition);
	struct vp_set_cursor cursor;
	struct vp *vp;
	bool waits = false;

	for (cursor = vp_set_begin(set); (vp = vp_set_next(set, partition, &cursor));)
		waits |= request(vp, self);
	if (waits) {
		bool began = wait_begin(self);

		for (cursor = vp_set_begin(set); (vp = vp_set_next(set, partition, &cursor));)
			wait_for(vp, self, ticket);
		wait_end(self, began);
	}
}

void flush_space(struct partition *partition, struct vp *self)
{
	uint64_t ticket;
	bool waits = false;
	struct vp *vp;

	atomic_fetch_add(&partition->flush.posting, 1);
	ticket = draw_ticket(partition);
	atomic_store(&partition->flush.space_ticket, ticket);
	for (uint32_t i = 0; i < partition->vp_count; i++)
		if ((vp = vp_at(partition, i)))
			waits |= request(vp, self);
	atomic_fetch_sub(&partition->flush.posting, 1);
	if (waits) {
		bool began;

		ASSERT(self != NULL); /* at boot nobody runs */
#ifdef TRIVET_DEBUG
		/* Who waits for the lock would be waited for. Only parents wait for those they borrow: `self` may be such a one, of another LP. */
		ASSERT(!(this_lp()->lock_ranks & ~BIT(LOCK_RANK_BORROW)));
#endif
		began = wait_begin(self);
		for (uint32_t i = 0; i < partition->vp_count; i++)
			if ((vp = vp_at(partition, i)))
				wait_for(vp, self, ticket);
		wait_end(self, began);
	}
}

void flush_and_reclaim(struct partition *partition, struct vp *self)
{
	struct second_stage *space = &partition->space;
	uint64_t generation;
	bool due;

	spin_lock(&partition->space_lock);
	generation = space->generation;
	due = ss_needs_flush(space);
	spin_unlock(&partition->space_lock);
	if (!due)
		return;
	flush_space(partition, self);
	spin_lock(&partition->space_lock);
	ss_note_flush(space, generation);
	/* If it changed once more meanwhile, the tables go with that change's flush. */
	if (!ss_needs_flush(space))
		ss_reclaim(space);
	spin_unlock(&partition->space_lock);
}

#ifdef TRIVET_DEBUG
void flush_check(const struct vp *vp)
{
	const struct flush_state *flush = &vp->partition->flush;

	if (atomic_load(&vp->flush_seen) >= atomic_load(&flush->space_ticket))
		return;
	if (atomic_load(&flush->posting) == 0)
		ASSERT(atomic_load(&vp->pending) & VP_PENDING_FLUSH);
}
#endif
