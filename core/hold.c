/* SPDX-License-Identifier: MIT */
/* Holds: how somebody keeps a VP from running, and waits until nobody runs it, or until every LP has left its exit handler (schedule.h). */
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/flush.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

#define SPINS_PER_KICK 1024u

void vp_hold(struct vp *vp, struct vp *self, uint32_t bits)
{
	uint32_t spins = 0;

	ASSERT(vp != self);
	atomic_fetch_or_explicit(&vp->holds, bits, memory_order_seq_cst);
	if (!atomic_load_explicit(&vp->loaded, memory_order_seq_cst))
		return;
	/* Whoever it waits for itself may be us. */
	flush_idle_begin(self);
	while (atomic_load_explicit(&vp->loaded, memory_order_seq_cst)) {
		if (spins++ % SPINS_PER_KICK == 0) {
			vp_post(vp, VP_PENDING_SCHEDULE);
			vp_notify(vp);
		}
		cpu_relax();
	}
	flush_idle_end(self);
}

void vp_hold_self(struct vp *vp, uint32_t bits)
{
	atomic_fetch_or_explicit(&vp->holds, bits, memory_order_seq_cst);
	vp_post_self(vp, VP_PENDING_SCHEDULE);
}

void vp_release(struct vp *vp, uint32_t bits)
{
	uint32_t old = atomic_fetch_and_explicit(&vp->holds, ~bits, memory_order_seq_cst);

	if (old && !(old & ~bits))
		vp_notify(vp);
}

/* A kick is taken at the start of an exit, so the handler of the exit before is over. */
void schedule_synchronize(struct vp *self)
{
	flush_idle_begin(self);
	for (uint32_t i = 0; i < lp_count; i++) {
		struct lp *lp = lp_table[i];
		uint64_t kicks = __atomic_load_n(&lp->kicks_taken, __ATOMIC_SEQ_CST);
		uint32_t spins = 0;

		while (lp != this_lp() && atomic_load(&lp->state) == LP_ONLINE &&
		       __atomic_load_n(&lp->kicks_taken, __ATOMIC_SEQ_CST) == kicks) {
			if (spins++ % SPINS_PER_KICK == 0)
				lp_kick(lp);
			cpu_relax();
		}
	}
	flush_idle_end(self);
}

void vp_borrow(struct vp *vp, struct vp *self)
{
	spin_lock(&vp->borrow_lock);
	vp_hold(vp, self, VP_HOLD_ACCESS);
	backend->vp_borrow(vp);
}

void vp_return(struct vp *vp)
{
	backend->vp_return(vp);
	vp_release(vp, VP_HOLD_ACCESS);
	spin_unlock(&vp->borrow_lock);
}
