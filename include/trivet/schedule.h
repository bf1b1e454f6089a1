/* SPDX-License-Identifier: MIT */
/*
 * Who runs on an LP, and how a VP is stopped and woken. The policy is sched.h's; this carries it out.
 *
 * A VP is *loaded* while its state is in the processor of vp->lp: that is the LP's business alone. Otherwise all of it is in memory, and
 * it belongs to vp->lp still, unless somebody *holds* it: a hold is a reason not to run. Setting one returns when the VP isn't
 * loaded, and until the last one is released it won't be. So whoever holds a VP may touch its state from any LP.
 *
 * Loading: set `loaded`, then look at `holds`. Holding: set the bit, then look at `loaded`. Both with full order, so one sees the other.
 * The same way nothing that is posted to a VP is lost: blocking clears `loaded`, then looks at `pending`; posting sets the bit, then
 * looks at `loaded`.
 */
#ifndef TRIVET_SCHEDULE_H
#define TRIVET_SCHEDULE_H

#include <stdatomic.h>
#include <trivet/types.h>

struct lp;
struct vp;

/* Bits of vp->holds. */
#define VP_HOLD_EXPLICIT BIT(0)	 /* HV_REGISTER_EXPLICIT_SUSPEND */
#define VP_HOLD_INTERCEPT BIT(1) /* HV_REGISTER_INTERCEPT_SUSPEND: its parent has a message to answer */
#define VP_HOLD_ACCESS BIT(2)	 /* somebody looks at its state, for the length of a call: vp_borrow() */
#define VP_HOLD_DEAD BIT(3)	 /* it is being deleted, or its partition is */
#define VP_HOLD_DISPATCH BIT(4)	 /* HV_REGISTER_DISPATCH_SUSPEND */

/*
 * Sets `bits` in vp->holds and returns when the VP isn't loaded; `self` is the VP that runs on this LP and isn't `vp`. Waits for another
 * processor: the caller holds no lock that an exit handler takes, and no pointer into guest memory.
 */
void vp_hold(struct vp *vp, struct vp *self, uint32_t bits);

/* The same for the VP that runs here: it won't be entered again until released. Its state goes to memory after the exit handler. */
void vp_hold_self(struct vp *vp, uint32_t bits);

/* Takes `bits` back; with the last one the VP may run again. From any LP. */
void vp_release(struct vp *vp, uint32_t bits);

/* After vp_post(): whoever runs or sleeps there looks at what is pending. From any LP; the VP may be anyone's. */
void vp_notify(struct vp *vp);

/*
 * A VP of another partition whose registers are to be read or written here, its state and its back end's. One borrower at a time; vp_return()
 * gives it back. `self` as above. Between them backend->get_register() and so on work here, and the VP may not be `self`.
 */
void vp_borrow(struct vp *vp, struct vp *self);
void vp_return(struct vp *vp);

/* Its state is in this processor. */
bool vp_is_loaded_here(const struct vp *vp);

/*
 * For the back ends, at the end of an exit with VP_PENDING_NEUTRAL work: does it, and finds who runs next. Waits while nobody can. Returns a VP
 * that is loaded here and may be entered when its other pending bits are dealt with.
 */
struct vp *schedule(struct vp *vp);

/* Once per LP, before anything runs there; and its root VP, once it does. */
void schedule_init(struct lp *lp);
void schedule_start(struct vp *root_vp);

/* On the VP's LP, which is this one: something has come for a VP that may not be loaded. */
void vp_wake_here(struct vp *vp);

/* The VP, which runs here, waits for something that others have to do: those that wait for this LP go first, after the exit handler. */
void schedule_yield(struct vp *vp);

/* The VP, which is loaded here, uses DR0 to DR3: from now on it has its own. */
void schedule_use_debug_registers(struct vp *vp);

/* A kick arrived, which may be for a VP that isn't loaded. */
void schedule_kicked(struct lp *lp);

/* The LP's timer: those of the VPs that aren't loaded, and the end of a slice. */
void schedule_timer(struct lp *lp);

/* The LP's TSC, which its timer goes by, has been written. */
void schedule_tsc_moved(struct lp *lp);

/* placement.c. A VP that nobody can have seen yet gets an LP, and its share. */
void vp_place(struct vp *vp);

/*
 * The LP where the VP should go, which isn't loaded and has just woken on this one. An LP that has little to do asks another
 * for a VP, now and then; that one gives one away that waits there, off its queue, to `thief`, or NULL.
 */
struct lp *vp_choose_lp(struct vp *vp);
void placement_ask(struct lp *lp);
struct vp *placement_answer(struct lp *lp, struct lp **thief);

/*
 * Returns when every other LP has left the exit handler that it was in: nobody has a pointer any more to what was unlinked before. `self`
 * runs here. One caller at a time (children.c sees to that); the rules of vp_hold().
 */
void schedule_synchronize(struct vp *self);

/* Its weight, cap or reserve has changed: partition->properties. */
struct partition;
void partition_params_changed(struct partition *partition);

#endif
