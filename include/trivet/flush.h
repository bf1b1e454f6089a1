/* SPDX-License-Identifier: MIT */
/*
 * Flushes of translations on other processors: the one mechanism, for second-stage changes and for the guests' own flush
 * hypercalls. It returns when the flush has happened, and wakes nobody.
 *
 * Each flush draws a ticket, posts VP_PENDING_FLUSH to its targets and kicks those that may be in guest mode. A target that
 * passes the bit takes all translations it holds out of its TLB before its next entry, and notes the newest ticket in
 * vp->flush_seen. The flush is done when every target has its ticket or is idle: it runs no guest code and holds no translation,
 * and will see the bit before it does again (vp->idle). A VP that waits for others' flushes is idle itself meanwhile, so
 * VPs that flush each other get through.
 */
#ifndef TRIVET_FLUSH_H
#define TRIVET_FLUSH_H

#include <stdatomic.h>
#include <trivet/types.h>

struct partition;
struct vp;
struct vp_set;

/* In struct partition. */
struct flush_state {
	_Atomic uint64_t ticket; /* the last one drawn */
	_Atomic uint64_t
		space_ticket; /* the last one of flush_space(): every VP was sent it (debug builds look) */
	_Atomic uint32_t posting; /* flushes that are still being posted to the VPs */
};

/*
 * Returns when no processor can use an older translation of partition->space any more, on the LP of `self` (of any partition;
 * NULL at boot); then ss_note_flush() and ss_reclaim() may follow, and pages that were unmapped may be given away.
 * It waits for other processors: the caller holds no lock, and no pointer into guest memory that it got from a translation
 * (that page may be another's when this returns).
 */
void flush_space(struct partition *partition, struct vp *self);

/* The same for the VPs of `set` and what they cached of the guest's own page tables; their second stage goes too. */
void flush_vps(struct partition *partition, struct vp *self, const struct vp_set *set);

/*
 * What should follow a change of partition->space, after space_lock was dropped: when one is due, a flush, and the tables taken out
 * go back to the pool. Under the rules of flush_space().
 */
void flush_and_reclaim(struct partition *partition, struct vp *self);

/*
 * `vp` runs no guest code from here on and holds no translation, until flush_idle_end(); on its own LP. The caller looks at
 * vp->pending after flush_idle_end() and before the next entry (the exit loop does). They don't nest.
 */
void flush_idle_begin(struct vp *vp);
void flush_idle_end(struct vp *vp);

/*
 * For the back ends, when they see VP_PENDING_FLUSH: clears it and notes what is done by the flush that the caller carries out
 * before the next entry.
 */
void flush_taken(struct vp *vp);

/* Debug builds, before an entry: the VP has what was sent to it, or still has the bit. */
void flush_check(const struct vp *vp);

#endif
