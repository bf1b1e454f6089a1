/* SPDX-License-Identifier: MIT */
/*
 * Who runs on an LP. The policy (sched.h) knows only who could run; here VPs sleep and wake, come into the processor and leave it. All of
 * it runs at the end of an exit, on the LP's own stack: there is no context but the VP's.
 */
#include <trivet/assert.h>
#include <trivet/backend.h>
#include <trivet/extended_state.h>
#include <trivet/flush.h>
#include <trivet/intercept.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

#define NEVER UINT64_MAX
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

static uint64_t moved_tsc(const struct lp *lp)
{
	return atomic_load_explicit(&lp->tsc_moved, memory_order_relaxed);
}

/* What ends a VP's sleep. Flushes don't: whoever sleeps has nothing to flush before it wakes. */
static bool has_mail(const struct vp *vp)
{
	return atomic_load_explicit(&vp->pending, memory_order_seq_cst) & ~VP_PENDING_FLUSH;
}

static bool is_held(const struct vp *vp)
{
	return atomic_load_explicit(&vp->holds, memory_order_seq_cst);
}

/* As far as can be told without its state: loaded, it may turn out to sleep on. */
static bool may_run(const struct vp *vp)
{
	return !is_held(vp) && (has_mail(vp) || (vp->state == VP_RUNNING && !vp->halted));
}

/* ---- Timers of VPs that aren't loaded ---- */

/* The VP's next timer, in this LP's TSC. */
static uint64_t deadline_tsc(const struct vp *vp)
{
	uint64_t deadline = apic_timer_deadline(&vp->apic);

	if (deadline != NEVER && vp->tsc_delta) {
		/* What lies beyond half the range is behind us, or will never come. */
		if ((int64_t)(deadline - vp->tsc_delta) >= 0)
			deadline -= vp->tsc_delta;
		else
			deadline = (int64_t)vp->tsc_delta > 0 ? 0 : NEVER;
	}
	return deadline < vp->stimers.next_deadline_tsc ? deadline : vp->stimers.next_deadline_tsc;
}

static void find_other_deadline(struct lp *lp)
{
	const struct heap_node *first = heap_first(&lp->timers);
	uint64_t clock = lp->slice_end_clock;

	if (first && first->key < clock)
		clock = first->key;
	lp->other_deadline_tsc = clock == NEVER ? NEVER : clock + moved_tsc(lp);
}

static void leave_timer(struct vp *vp)
{
	if (heap_node_is_queued(&vp->timer_node))
		heap_remove(&vp->lp->timers, &vp->timer_node);
}

static void queue_timer(struct vp *vp)
{
	uint64_t deadline = deadline_tsc(vp);

	leave_timer(vp);
	if (deadline != NEVER)
		heap_insert(&vp->lp->timers, &vp->timer_node, deadline - moved_tsc(vp->lp));
}

void lp_timer_update(struct lp *lp)
{
	uint64_t old = lp->timer_deadline_tsc;
	uint64_t deadline = lp->other_deadline_tsc;
	uint64_t now;

	if (unlikely(lp != this_lp()))
		return;
	if (likely(lp->vp != NULL)) {
		uint64_t own = deadline_tsc(lp->vp);

		if (own < deadline)
			deadline = own;
	}
	if (deadline == old)
		return;
	lp->timer_deadline_tsc = deadline;
	if (deadline == NEVER) {
		lapic_timer_disarm(&lp->lapic);
	} else {
		now = rdtsc();
		lapic_timer_arm(&lp->lapic, now, deadline > now ? deadline - now : 0);
	}
	/*
	 * What fired already still arrives; it must not pass for a device's interrupt with our vector. Asked last: until the
	 * timer had its new count, the old one could fire.
	 */
	if (old != NEVER && lapic_test_vector(&lp->lapic, LAPIC_IRR, HV_VECTOR_TIMER))
		lp->timer_stale = true;
}

static void expire_timers(struct vp *vp)
{
	uint64_t now = rdtsc();

	apic_timer_expired(&vp->apic, now + vp->tsc_delta);
	if (now >= vp->stimers.next_deadline_tsc)
		stimers_expired(vp, now);
}

void schedule_timer(struct lp *lp)
{
	uint64_t clock = lp_clock();
	struct heap_node *first;

	if (lp->vp)
		expire_timers(lp->vp);
	while ((first = heap_first(&lp->timers)) && first->key <= clock) {
		struct vp *vp = container_of(first, struct vp, timer_node);

		heap_pop(&lp->timers);
		vp_post(vp, VP_PENDING_TIMER);
		vp_wake_here(vp);
	}
	if (clock >= lp->slice_end_clock && lp->vp) {
		vp_post_self(lp->vp, VP_PENDING_SCHEDULE);
		placement_ask(lp);
	}
	find_other_deadline(lp);
	lp_timer_update(lp);
}

/* ---- Waking ---- */

static void choose_soon(struct lp *lp)
{
	if (lp->vp)
		vp_post_self(lp->vp, VP_PENDING_SCHEDULE);
}

/* In the policy's hands, here: it runs or waits for its turn. */
static bool is_waiting(const struct vp *vp)
{
	return vp->sched.state != SCHED_BLOCKED && vp->sched.state != SCHED_MOVING;
}

/* It isn't loaded, nor waiting here. */
static void move(struct vp *vp, struct lp *to)
{
	leave_timer(vp);
	vp->arrived = true; /* there it stays: chosen anew, it might go round */
	__atomic_store_n(&vp->lp, to, __ATOMIC_RELEASE);
	vp_notify(vp);
}

void vp_wake_here(struct vp *vp)
{
	struct lp *lp = vp->lp, *better = lp;

	if (lp->vp == vp || is_waiting(vp) || !may_run(vp))
		return;
	if (!vp->arrived)
		better = vp_choose_lp(vp);
	vp->arrived = false;
	if (better != lp)
		move(vp, better);
	else if (sched_wake(&lp->sched, &vp->sched, lp_clock()))
		choose_soon(lp);
}

void schedule_kicked(struct lp *lp)
{
	struct lp *thief;
	struct vp *vp;

	if (atomic_load_explicit(&lp->wakes, memory_order_relaxed))
		choose_soon(lp);
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

void vp_notify(struct vp *vp)
{
	struct lp *lp;

	do {
		lp = lp_of(vp);
		if (!atomic_load_explicit(&vp->loaded, memory_order_seq_cst)) {
			if (!atomic_exchange_explicit(&vp->wake_queued, true, memory_order_seq_cst))
				push_wake(lp, vp);
		} else if (lp == this_lp()) {
			return; /* we are in its exit handler: it looks before it goes on */
		}
		if (lp == this_lp())
			choose_soon(lp);
		else
			lp_kick(lp);
	} while (unlikely(lp_of(vp) != lp)); /* it has moved meanwhile */
}

static void apply_params(struct vp *vp)
{
	const struct partition_properties *properties = &vp->partition->properties;
	const struct sched_params params = {
		.weight = (uint32_t)properties->weight,
		.cap = (uint32_t)properties->cap,
		.reserve = (uint32_t)properties->reserve,
	};

	if (params.weight != vp->sched.weight || params.reserve != vp->sched.reserve ||
	    (params.cap & (SCHED_SHARE_ONE - 1)) != vp->sched.cap)
		sched_set_params(&vp->lp->sched, &vp->sched, &params, lp_clock());
}

/* It is about to be deleted; who set VP_HOLD_DEAD waits for this. Loaded, it will be looked at again when it isn't. */
static void forget(struct vp *vp)
{
	if (vp->lp->vp == vp)
		return;
	leave_timer(vp);
	if (is_waiting(vp))
		sched_block(&vp->lp->sched, &vp->sched, lp_clock());
	atomic_store_explicit(&vp->forgotten, true, memory_order_release);
}

/* Somebody changed something about a VP of this LP's. */
static void look_at(struct lp *lp, struct vp *vp)
{
	if (vp->lp != lp) {
		vp_notify(vp);
		return;
	}
	if (unlikely(atomic_load_explicit(&vp->holds, memory_order_seq_cst) & VP_HOLD_DEAD)) {
		forget(vp);
		return;
	}
	if (!partition_is_root(vp->partition))
		apply_params(vp);
	if (lp->vp == vp)
		return;
	/* Whoever holds it may be about to change its timers, and tells when that is done. */
	if (!is_held(vp)) {
		queue_timer(vp);
		vp_wake_here(vp);
	}
}

static void take_wakes(struct lp *lp)
{
	struct vp *vp = atomic_exchange_explicit(&lp->wakes, NULL, memory_order_seq_cst);

	while (vp) {
		struct vp *next = atomic_load_explicit(&vp->wake_next, memory_order_relaxed);

		/* From here on it may be pushed again, and wake_next another's. */
		atomic_store_explicit(&vp->wake_queued, false, memory_order_seq_cst);
		look_at(lp, vp);
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

static void unload(struct vp *vp)
{
	struct lp *lp = vp->lp;

	backend->vp_unload(vp);
	extended_state_save(vp);
	if (lp->dr_owner == vp && !partition_is_root(vp->partition)) {
		debug_registers_save(vp); /* its parent may ask for them */
		lp->dr_owner = NULL;
	}
	lp->vp = NULL;
	vp_run_time_idle_begin(vp);
	queue_timer(vp);
	flush_idle_begin(vp);
	atomic_store_explicit(&vp->loaded, false, memory_order_seq_cst);
	/* What was posted before that found it loaded, and only kicked. */
	vp_wake_here(vp);
}

/* False: somebody holds it. */
static bool load(struct vp *vp)
{
	struct lp *lp = vp->lp;
	uint64_t delta;

	atomic_store_explicit(&vp->loaded, true, memory_order_seq_cst);
	if (is_held(vp)) {
		atomic_store_explicit(&vp->loaded, false, memory_order_seq_cst);
		return false;
	}
	leave_timer(vp);
	lp->vp = vp;
	lp->trace.vp_index = vp->index;
	flush_idle_end(vp);
	if (unlikely(vp->last_lp != lp)) {
		vp->last_lp = lp;
		vp_post(vp, VP_PENDING_FLUSH);
	}
	delta = partition_is_root(vp->partition) ? 0 : vp->tsc_offset - moved_tsc(lp);
	if (unlikely(delta != vp->tsc_delta)) {
		vp->tsc_delta = delta;
		stimers_clock_changed(vp);
	}
	extended_state_load(vp);
	switch_dr_in(vp);
	backend->vp_load(vp);
	vp_run_time_idle_end(vp);
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

/* Does what is pending for the VP that is loaded here; true: it can be entered. */
static bool settle(struct vp *vp)
{
	uint64_t pending = atomic_load_explicit(&vp->pending, memory_order_acquire);

	if (unlikely(is_held(vp)))
		return false;
	if (pending & (VP_PENDING_SCHEDULE | VP_PENDING_TIMER | VP_PENDING_RESUME | VP_PENDING_CLOCK))
		vp_clear_pending(vp, VP_PENDING_SCHEDULE | VP_PENDING_TIMER | VP_PENDING_RESUME |
					     VP_PENDING_CLOCK);
	if (pending & VP_PENDING_RESUME)
		intercept_resume(vp);
	if (unlikely(pending & VP_PENDING_SHUTDOWN))
		shut_down(vp);
	if (unlikely(pending & (VP_PENDING_INIT | VP_PENDING_SIPI)))
		vp_handle_startup(vp);
	if (pending & VP_PENDING_SYNIC)
		synic_handle_pending(vp);
	if (unlikely(pending & VP_PENDING_CLOCK))
		stimers_clock_changed(vp);
	if (pending & VP_PENDING_TIMER)
		expire_timers(vp);
	return !is_held(vp) && vp->state == VP_RUNNING && !vp_sleeps(vp);
}

/* ---- The choice ---- */

/* Nobody can run: until something comes. Whoever is loaded stays so, in case it is the next one. */
static void idle(struct lp *lp)
{
	struct vp *vp = lp->vp;

	placement_ask(lp);
	if (vp) {
		vp_run_time_idle_begin(vp);
		flush_idle_begin(vp);
	}
	backend->lp_idle(lp);
	if (vp) {
		flush_idle_end(vp);
		vp_run_time_idle_end(vp);
	}
	lp_handle_interrupts(lp);
}

static void set_slice(struct lp *lp, uint64_t end_clock)
{
	lp->slice_end_clock = end_clock;
	find_other_deadline(lp);
	lp_timer_update(lp);
}

static void block(struct vp *vp)
{
	if (is_waiting(vp))
		sched_block(&vp->lp->sched, &vp->sched, lp_clock());
}

/* Nothing can run that isn't in the policy's hands, and nothing is there that can't: settled just now, or seen to be able to. */
static struct vp *choose(struct lp *lp)
{
	for (;;) {
		struct vp *vp = lp->vp;
		struct sched_vp *chosen;
		uint64_t end;

		take_wakes(lp);
		if (vp && !is_waiting(vp) && settle(vp))
			sched_wake(&lp->sched, &vp->sched, lp_clock());
		if (vp && unlikely(is_held(vp))) {
			block(vp);
			unload(vp); /* somebody waits for it */
			continue;
		}
		chosen = sched_pick(&lp->sched, lp_clock(), &end);
		set_slice(lp, end);
		if (!chosen) {
			idle(lp);
			continue;
		}
		vp = container_of(chosen, struct vp, sched);
		if (lp->vp != vp) {
			if (lp->vp)
				unload(lp->vp);
			if (!load(vp)) {
				block(vp);
				continue;
			}
			find_other_deadline(lp); /* the timers of whoever left count now */
			lp_timer_update(lp);
		}
		if (settle(vp))
			return vp;
		block(vp);
	}
}

struct vp *schedule(struct vp *vp)
{
	bool choice = atomic_load_explicit(&vp->pending, memory_order_relaxed) & VP_PENDING_SCHEDULE;

	if (settle(vp)) {
		if (!choice)
			return vp;
	} else {
		block(vp);
	}
	return choose(vp->lp);
}

/* ---- Holding ---- */

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

/* Where there is least to do, of the LPs that are up. */
void vp_place(struct vp *vp)
{
	struct lp *best = this_lp();
	const struct sched_params params = { .weight = SCHED_WEIGHT_DEFAULT };

	for (uint32_t i = 0; i < lp_count; i++)
		if (atomic_load(&lp_table[i]->state) == LP_ONLINE &&
		    sched_load(&lp_table[i]->sched) < sched_load(&best->sched))
			best = lp_table[i];
	sched_vp_init(&vp->sched, &params);
	vp->lp = best;
}

void partition_params_changed(struct partition *partition)
{
	for (uint32_t i = 0; i < partition->vp_count; i++)
		if (partition->vps[i])
			vp_notify(partition->vps[i]);
}
