/* SPDX-License-Identifier: MIT */
/*
 * Who runs on an LP. The policy (sched.h) knows only who could run; here VPs sleep and wake, come into the processor and leave it. All of
 * it runs at the end of an exit, on the LP's own stack: there is no context but the VP's.
 */
#include "schedule_internal.h"
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/count.h>
#include <trivet/extended_state.h>
#include <trivet/flush.h>
#include <trivet/intercept.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

/* The root's devices and its VMMs serve all the others: its VPs weigh as much as ten of the usual weight. */
#define ROOT_WEIGHT (10 * SCHED_WEIGHT_DEFAULT)
#define ROOT_RESERVE (SCHED_SHARE_ONE / 5)

static struct lp *lp_of(const struct vp *vp)
{
	return __atomic_load_n(&vp->lp, __ATOMIC_ACQUIRE);
}

bool vp_is_loaded_here(const struct vp *vp)
{
	return vp->lp == this_lp() && vp->lp->vp == vp;
}

/*
 * What ends a VP's sleep. Not what is its LP's business; nor flushes: whoever sleeps has nothing to flush before it wakes; nor an NMI that it
 * can't take: it stays pending, and would wake it again and again.
 */
static bool has_mail(const struct vp *vp)
{
	uint64_t mail = atomic_load_explicit(&vp->pending, memory_order_seq_cst) &
			~(VP_PENDING_FLUSH | VP_PENDING_SCHEDULE | VP_PENDING_LOOK);

	return mail & (vp->state == VP_RUNNING && vp->halted_nmis_on ? mail : ~VP_PENDING_NMI);
}

static bool is_held(const struct vp *vp)
{
	return atomic_load_explicit(&vp->holds, memory_order_seq_cst);
}

static bool is_dead(const struct vp *vp)
{
	return atomic_load_explicit(&vp->holds, memory_order_seq_cst) & VP_HOLD_DEAD;
}

/* As far as can be told without its state: loaded, it may turn out to sleep on. */
static bool may_run(const struct vp *vp)
{
	return !is_held(vp) && (has_mail(vp) || (vp->state == VP_RUNNING && !vp->halted));
}

/* ---- Waking ---- */

/* Whoever is loaded comes out, and it is chosen anew. */
static void choose_soon(struct lp *lp)
{
	if (lp->vp)
		vp_post_self(lp->vp, VP_PENDING_SCHEDULE);
	else
		lp->choose_again = true;
}

static void look_soon(struct lp *lp)
{
	if (lp->vp)
		vp_post_self(lp->vp, VP_PENDING_LOOK);
}

/* In the policy's hands, here: it runs or waits for its turn. */
static bool is_waiting(const struct vp *vp)
{
	return vp->sched.state != SCHED_BLOCKED && vp->sched.state != SCHED_MOVING;
}

static void wake(struct lp *lp, struct vp *vp, uint64_t now_clock)
{
	switch (sched_wake(&lp->sched, &vp->sched, now_clock)) {
	case SCHED_GO_ON:
		return;
	case SCHED_SOONER:
		lp->slice_end_clock = lp->sched.deadline;
		schedule_set_timer(lp);
		return;
	default:
		choose_soon(lp);
	}
}

static void block(struct vp *vp, uint64_t now_clock)
{
	if (is_waiting(vp))
		sched_block(&vp->lp->sched, &vp->sched, now_clock);
}

/* It isn't loaded, nor waiting here. */
static void move(struct vp *vp, struct lp *to)
{
	schedule_leave_timer(vp);
	vp->arrived = true; /* there it stays: chosen anew, it might go round */
	__atomic_store_n(&vp->lp, to, __ATOMIC_RELEASE);
	vp_notify(vp);
}

static void wake_if_it_may_run(struct vp *vp, uint64_t now_clock)
{
	struct lp *lp = vp->lp, *better = lp;

	if (lp->vp == vp || is_waiting(vp) || !may_run(vp))
		return;
	if (!vp->arrived)
		better = vp_choose_lp(vp);
	vp->arrived = false;
	if (better != lp)
		move(vp, better);
	else
		wake(lp, vp, now_clock);
}

void vp_wake_here(struct vp *vp)
{
	wake_if_it_may_run(vp, lp_clock());
}

void schedule_kicked(struct lp *lp)
{
	struct lp *thief;
	struct vp *vp;

	if (atomic_load_explicit(&lp->wakes, memory_order_relaxed))
		look_soon(lp);
	if (unlikely(atomic_load_explicit(&lp->asked_by, memory_order_relaxed)) &&
	    (vp = placement_answer(lp, &thief)) != NULL)
		move(vp, thief);
}

static void push_wake(struct lp *lp, struct vp *vp)
{
	struct vp *newest = atomic_load_explicit(&lp->wakes, memory_order_relaxed);

	do {
		atomic_store_explicit(&vp->wake_next, newest, memory_order_relaxed);
	} while (!atomic_compare_exchange_weak_explicit(&lp->wakes, &newest, vp, memory_order_seq_cst,
							memory_order_relaxed));
}

static void tell(struct lp *lp)
{
	if (lp == this_lp())
		look_soon(lp);
	else
		lp_kick(lp);
}

static bool is_forgotten(const struct vp *vp)
{
	return atomic_load_explicit(&vp->forgotten, memory_order_seq_cst);
}

/* Its LP is to look at it. One that is forgotten nobody looks at any more: it may be gone as soon as it isn't queued. */
static void queue_wake(struct lp *lp, struct vp *vp)
{
	if (likely(!is_forgotten(vp)) &&
	    !atomic_exchange_explicit(&vp->wake_queued, true, memory_order_seq_cst))
		push_wake(lp, vp);
}

void vp_notify(struct vp *vp)
{
	struct lp *lp;

	do {
		lp = lp_of(vp);
		if (!atomic_load_explicit(&vp->loaded, memory_order_seq_cst))
			queue_wake(lp, vp);
		else if (lp == this_lp())
			return; /* we are in its exit handler: it looks before it goes on */
		tell(lp);
	} while (unlikely(lp_of(vp) != lp)); /* it has moved meanwhile */
}

/* Loaded or not, wherever it is by now: there may be other parameters. */
static void ask_for_look(struct vp *vp)
{
	struct lp *lp = lp_of(vp);

	queue_wake(lp, vp);
	tell(lp);
}

static uint32_t property(const uint64_t *value)
{
	return (uint32_t)__atomic_load_n(value, __ATOMIC_RELAXED);
}

/* Its parent sets one after the other, in any order, perhaps just now: what doesn't fit together is cut to what does. */
static void apply_params(struct vp *vp, uint64_t now_clock)
{
	const struct partition_properties *properties = &vp->partition->properties;
	struct sched_params params = {
		.weight = property(&properties->weight),
		.cap = property(&properties->cap),
		.reserve = property(&properties->reserve),
	};
	uint32_t most = params.cap && params.cap < SCHED_SHARE_ONE ? params.cap : SCHED_SHARE_ONE - 1;

	if (params.reserve > most)
		params.reserve = most;
	if (params.weight != vp->sched.weight || params.reserve != vp->sched.reserve ||
	    (params.cap & (SCHED_SHARE_ONE - 1)) != vp->sched.cap)
		if (sched_set_params(&vp->lp->sched, &vp->sched, &params, now_clock))
			choose_soon(vp->lp);
}

/* It is about to be deleted; who set VP_HOLD_DEAD waits for this. Loaded, it will be looked at again when it isn't. */
static void forget(struct vp *vp, uint64_t now_clock)
{
	if (vp->lp->vp == vp)
		return;
	schedule_leave_timer(vp);
	block(vp, now_clock);
	atomic_store_explicit(&vp->forgotten, true, memory_order_seq_cst);
}

/* Somebody changed something about a VP of this LP's. */
static void look_at(struct lp *lp, struct vp *vp, uint64_t now_clock)
{
	if (vp->lp != lp) {
		ask_for_look(vp);
		return;
	}
	if (!partition_is_root(vp->partition))
		apply_params(vp, now_clock);
	if (lp->vp == vp)
		return;
	/* Whoever holds it may be about to change its timers, and tells when that is done. */
	if (is_held(vp))
		return;
	if (is_waiting(vp) || may_run(vp)) {
		wake_if_it_may_run(vp, now_clock); /* its timers are looked at when it is loaded */
		return;
	}
	schedule_queue_timer(vp);
	schedule_set_timer(lp);
}

static void take_wakes(struct lp *lp, uint64_t now_clock)
{
	struct vp *vp = atomic_exchange_explicit(&lp->wakes, NULL, memory_order_seq_cst);

	while (vp) {
		struct vp *next = atomic_load_explicit(&vp->wake_next, memory_order_relaxed);
		bool is_gone;

		if (unlikely(is_dead(vp)) && vp->lp == lp)
			forget(vp, now_clock);
		is_gone = is_forgotten(vp);
		/* From here on it may be pushed again, and wake_next another's; and what was forgotten may be freed. */
		atomic_store_explicit(&vp->wake_queued, false, memory_order_seq_cst);
		if (likely(!is_gone))
			look_at(lp, vp, now_clock);
		vp = next;
	}
}

/* ---- Into the processor and out of it ---- */

static void switch_dr_in(struct vp *vp)
{
	struct lp *lp = vp->lp;

	if (!vp->uses_dr || lp->dr_owner == vp)
		return;
	if (lp->dr_owner)
		debug_registers_save(lp->dr_owner);
	debug_registers_load(vp);
	lp->dr_owner = vp;
}

void schedule_use_debug_registers(struct vp *vp)
{
	vp->uses_dr = true;
	switch_dr_in(vp);
}

static void unload(struct vp *vp, uint64_t now_clock)
{
	struct lp *lp = vp->lp;

	backend->vp_unload(vp);
	extended_state_save(vp);
	if (lp->dr_owner == vp && !partition_is_root(vp->partition)) {
		debug_registers_save(vp); /* its parent may ask for them */
		lp->dr_owner = NULL;
	}
	lp->vp = NULL;
	vp_run_time_idle_begin(vp, now_clock);
	if (!is_waiting(vp))
		schedule_queue_timer(vp);
	flush_idle_begin(vp);
	atomic_store_explicit(&vp->loaded, false, memory_order_seq_cst);
	/* What was posted before that found it loaded, and only kicked. */
	wake_if_it_may_run(vp, now_clock);
}

/* False: somebody holds it. */
static bool load(struct vp *vp, uint64_t now_clock)
{
	struct lp *lp = vp->lp;
	uint64_t delta;

	atomic_store_explicit(&vp->loaded, true, memory_order_seq_cst);
	if (is_held(vp)) {
		atomic_store_explicit(&vp->loaded, false, memory_order_seq_cst);
		return false;
	}
	schedule_leave_timer(vp);
	lp->vp = vp;
	lp->trace.vp_index = vp->index;
	flush_idle_end(vp);
	if (unlikely(vp->last_lp != lp)) {
		vp->migrations += vp->last_lp != NULL;
		vp->last_lp = lp;
		vp_post(vp, VP_PENDING_FLUSH);
	}
	vp->dispatches++;
	lp->switches++;
	delta = partition_is_root(vp->partition) ? 0 : vp->tsc_offset - schedule_moved_tsc(lp);
	if (unlikely(delta != vp->tsc_delta)) {
		vp->tsc_delta = delta;
		stimers_clock_changed(vp);
	}
	extended_state_load(vp);
	switch_dr_in(vp);
	backend->vp_load(vp);
	vp_run_time_idle_end(vp, now_clock);
	vp_post_self(vp, VP_PENDING_EVENT);
	return true;
}

/* ---- What is neutral of vp->pending ---- */

static void shut_down(struct vp *vp)
{
	if (partition_is_root(vp->partition))
		vp_shutdown(vp);
	vp_clear_pending(vp, VP_PENDING_SHUTDOWN);
	intercept_unrecoverable(vp);
}

/* If so, only what comes from here on wakes it. */
static bool sleeps(struct vp *vp)
{
	if (likely(!vp->halted && vp->state == VP_RUNNING))
		return false;
	if (atomic_load_explicit(&vp->pending, memory_order_relaxed) & VP_PENDING_EVENT)
		vp_clear_pending(vp, VP_PENDING_EVENT); /* what it is for is looked at now */
	return vp->state != VP_RUNNING || vp_sleeps(vp);
}

#define PENDING_SETTLED \
	(VP_PENDING_SCHEDULE | VP_PENDING_LOOK | VP_PENDING_TIMER | VP_PENDING_RESUME | VP_PENDING_CLOCK)

/* Does what is pending for the VP that is loaded here; true: it can be entered. */
static bool settle(struct vp *vp)
{
	uint64_t pending = atomic_load_explicit(&vp->pending, memory_order_acquire);

	if (unlikely(is_held(vp)))
		return false;
	if (pending & PENDING_SETTLED)
		vp_clear_pending(vp, pending & PENDING_SETTLED); /* not what comes just now */
	if (pending & VP_PENDING_RESUME)
		intercept_resume(vp);
	if (unlikely(pending & VP_PENDING_SHUTDOWN))
		shut_down(vp);
	if (unlikely(pending & (VP_PENDING_INIT | VP_PENDING_SIPI))) {
		vp_handle_startup(vp);
		vp_post_self(vp, VP_PENDING_EVENT);
	}
	if (pending & VP_PENDING_SYNIC)
		synic_handle_pending(vp);
	if (unlikely(pending & VP_PENDING_CLOCK))
		stimers_clock_changed(vp);
	if (pending & VP_PENDING_TIMER)
		schedule_expire_timers(vp);
	return !sleeps(vp) && !is_held(vp);
}

void schedule_yield(struct vp *vp)
{
	struct lp *lp = vp->lp;

	if (lp->sched.current == &vp->sched && sched_give_way(&lp->sched, lp_clock()))
		vp_post_self(vp, VP_PENDING_SCHEDULE);
}

/* ---- The choice ---- */

/* Nobody can run: until something comes. Whoever is loaded stays so, in case it is the next one. */
static uint64_t idle(struct lp *lp, uint64_t now_clock)
{
	struct vp *vp = lp->vp;

	placement_ask(lp);
	if (vp) {
		vp_run_time_idle_begin(vp, now_clock);
		flush_idle_begin(vp);
	}
	lp_run_time_idle_begin(lp, now_clock);
	count_idle_begin();
	backend->lp_idle(lp);
	count_idle_end();
	now_clock = lp_clock();
	lp_run_time_idle_end(lp, now_clock);
	if (vp) {
		flush_idle_end(vp);
		vp_run_time_idle_end(vp, now_clock);
	}
	lp_handle_interrupts(lp);
	return lp_clock(); /* whoever that woke has been judged by a later one already */
}

/* If somebody runs here who isn't in the policy's hands: as before its first choice, or woken by what ended the LP's idling. */
static void admit(struct lp *lp, struct vp *vp, uint64_t now_clock)
{
	if (vp && !is_waiting(vp) && settle(vp))
		sched_wake(&lp->sched, &vp->sched, now_clock);
}

/* The policy's choice is loaded instead of whoever was before. False: there is to be another, or somebody holds it. */
static bool switch_to(struct lp *lp, struct vp *vp, uint64_t now_clock)
{
	count_switch_begin();
	if (lp->vp)
		unload(lp->vp, now_clock);
	if (unlikely(lp->choose_again))
		return false; /* who left woke on the way out: now there is an end to this one's slice */
	if (!load(vp, now_clock)) {
		block(vp, now_clock);
		look_at(lp, vp, now_clock); /* released meanwhile, it was still `loaded` to whoever did */
		return false;
	}
	schedule_set_timer(lp); /* its timer is its own again, and those of whoever left count now */
	count_switch_end();
	return true;
}

/*
 * The VP that is loaded has been settled, and is in the policy's hands if that said that it can run. The clock is read once for all of it, but
 * for what the LP sleeps.
 */
static struct vp *choose(struct lp *lp, uint64_t now_clock)
{
	for (;;) {
		struct sched_vp *chosen;
		struct vp *vp;

		take_wakes(lp, now_clock);
		if (lp->vp && unlikely(is_held(lp->vp))) {
			block(lp->vp, now_clock);
			unload(lp->vp, now_clock); /* somebody waits for it */
		}
		lp->choose_again = false;
		chosen = sched_pick(&lp->sched, now_clock, &lp->slice_end_clock);
		if (!chosen) {
			schedule_set_timer(lp);
			now_clock = idle(lp, now_clock);
			admit(lp, lp->vp, now_clock);
			continue;
		}
		vp = container_of(chosen, struct vp, sched);
		if (lp->vp == vp)
			schedule_set_timer(lp);
		else if (!switch_to(lp, vp, now_clock))
			continue;
		if (settle(vp))
			return vp;
		block(vp, now_clock);
	}
}

static bool is_posted(const struct vp *vp, uint64_t bits)
{
	return atomic_load_explicit(&vp->pending, memory_order_relaxed) & bits;
}

static struct vp *next(struct vp *vp)
{
	bool choice = is_posted(vp, VP_PENDING_SCHEDULE), look = is_posted(vp, VP_PENDING_LOOK);
	uint64_t now_clock;

	if (!settle(vp)) {
		now_clock = lp_clock();
		block(vp, now_clock);
		return choose(vp->lp, now_clock);
	}
	if (!choice && !look)
		return vp;
	now_clock = lp_clock();
	if (!choice && is_waiting(vp)) {
		take_wakes(vp->lp, now_clock);
		if (!is_posted(vp, VP_PENDING_SCHEDULE))
			return vp;
	}
	admit(vp->lp, vp, now_clock);
	return choose(vp->lp, now_clock);
}

struct vp *schedule(struct vp *vp)
{
	struct vp *chosen;

	count_choice_begin();
	chosen = next(vp);
	count_choice_end(chosen != vp);
	return chosen;
}

/* ---- Life ---- */

void schedule_init(struct lp *lp)
{
	sched_lp_init(&lp->sched);
	lp->slice_end_clock = lp->other_deadline_tsc = NEVER;
}

void schedule_start(struct vp *root_vp)
{
	struct lp *lp = root_vp->lp;
	const struct sched_params params = { .weight = ROOT_WEIGHT, .reserve = ROOT_RESERVE };

	sched_vp_init(&root_vp->sched, &params);
	root_vp->sched.pinned = true;
	root_vp->uses_dr = true;
	lp->dr_owner = root_vp;
	root_vp->last_lp = lp;
	atomic_store(&root_vp->loaded, true);
	lp->vp = root_vp;
	vp_post(root_vp, VP_PENDING_SCHEDULE); /* it may be waiting for its start */
}

void partition_params_changed(struct partition *partition)
{
	for (uint32_t i = 0; i < partition->vp_count; i++) {
		struct vp *vp = partition_vp(partition, i);

		if (vp)
			ask_for_look(vp);
	}
}
