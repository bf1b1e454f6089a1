/* unit: core/schedule.c core/hold.c core/schedule_timer.c core/placement.c sched/classic.c sched/fair.c sched/budget.c sched/place.c sched/heap.c */
/* libs: pthread */
/* SPDX-License-Identifier: MIT */
/*
 * Who is loaded, who sleeps and what wakes him, on the real policy and on processors that take turns. What other processors do meanwhile is put
 * in at every seam of a step, in every order. With processors as threads: test_schedule_stress.c.
 */
#include "schedule_machine.h"

#include <pthread.h>
#include <semaphore.h>

#include <cmocka.h>

#define LOADS_MAX 500u /* by far: a test that needs as many goes round and round */

static unsigned int seams, loads;
static unsigned int inject_at, release_at; /* the seam, from 1 on; 0: none */
static void (*inject)(void);
static void (*kicked_does)(struct lp *lp);
static bool injected, released;
static struct vp *target; /* of what is injected */

/* ---- Turns: each LP has a stack of its own, one of them moves at a time ---- */

static struct turn {
	pthread_t thread;
	sem_t go, done;
	struct vp *result;
	bool over;
	jmp_buf end;
} turns[MACHINE_LPS];

/* It comes out of a step, and goes into the next. */
static void end_turn(struct lp *lp, struct vp *result)
{
	struct turn *turn = &turns[lp->index];

	turn->result = result;
	sem_post(&turn->done);
	while (sem_wait(&turn->go))
		;
	current = lp;
	if (turn->over)
		longjmp(turn->end, 1);
}

static void check_runs(struct lp *lp, struct vp *vp)
{
	CHECK(lp->vp == vp && vp->lp == lp && atomic_load(&vp->loaded) && !atomic_load(&vp->holds));
	CHECK(of_lp[lp->index].in_processor == vp && !machine_of(vp)->idle);
	CHECK(vp->state == VP_RUNNING && !vp->halted);
	/* Whoever waits has its turn, or what ends this one is set. */
	CHECK(sched_load(&lp->sched) == vp->sched.weight || lp->slice_end_clock != NEVER ||
	      vp->pending & VP_PENDING_SCHEDULE || atomic_load(&lp->wakes));
	vp_clear_pending(vp, VP_PENDING_EVENT | VP_PENDING_NMI | VP_PENDING_FLUSH);
	atomic_store(&machine_of(vp)->interrupt, false);
}

static void *lp_runs(void *argument)
{
	struct lp *lp = argument;

	if (setjmp(turns[lp->index].end))
		return NULL;
	for (end_turn(lp, NULL);; end_turn(lp, lp->vp)) {
		lp_handle_interrupts(lp);
		check_runs(lp, schedule(lp->vp));
	}
}

static void when_idle(struct lp *lp)
{
	if (!atomic_load(&lp->kicked))
		end_turn(lp, NULL);
}

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem))
		;
}

/* Who runs from now on; NULL: nobody can, and no kick is on its way. From here on we are that LP. */
static struct vp *run(struct lp *lp)
{
	struct turn *turn = &turns[lp->index];

	sem_post(&turn->go);
	wait_for(&turn->done);
	current = lp;
	return turn->result;
}

static void start_turns(void)
{
	for (uint32_t i = 0; i < lp_count; i++) {
		struct turn *turn = &turns[i];

		turn->over = false;
		sem_init(&turn->go, 0, 0);
		sem_init(&turn->done, 0, 0);
		CHECK(pthread_create(&turn->thread, NULL, lp_runs, lp_table[i]) == 0);
		wait_for(&turn->done);
	}
}

static void stop_turns(void)
{
	for (uint32_t i = 0; i < lp_count; i++) {
		turns[i].over = true;
		sem_post(&turns[i].go);
		pthread_join(turns[i].thread, NULL);
	}
}

static void when_kicked(struct lp *lp)
{
	if (kicked_does)
		kicked_does(lp);
}

static void as_another_lp(void (*act)(void))
{
	struct lp *before = current;

	current = lp_table[1];
	act();
	current = before;
}

static void try_release(void)
{
	/* As whoever called vp_hold(), who doesn't go on before. */
	if (atomic_load(&target->loaded))
		return;
	vp_release(target, VP_HOLD_INTERCEPT);
	released = true;
}

static void at_seam(const char *name, struct vp *vp)
{
	(void)vp;
	if (!strcmp(name, "load"))
		CHECK(++loads < LOADS_MAX);
	if (!inject_at || current != lp_table[0])
		return;
	seams++;
	if (seams == inject_at) {
		injected = true;
		as_another_lp(inject);
	}
	if (release_at && injected && !released && seams >= release_at)
		as_another_lp(try_release);
}

/* HLT, as the back ends have it. */
static void halt_with(struct vp *vp, bool interrupts_on, bool nmis_on)
{
	vp->halted = true;
	vp->halted_interrupts_on = interrupts_on;
	vp->halted_nmis_on = nmis_on;
	if (vp_sleeps(vp))
		vp_post_self(vp, VP_PENDING_SCHEDULE);
}

static void halt(struct vp *vp)
{
	atomic_store(&machine_of(vp)->interrupt, false); /* it has taken it */
	halt_with(vp, true, true);
}

static void interrupt(struct vp *vp)
{
	atomic_store(&machine_of(vp)->interrupt, true);
	vp_post(vp, VP_PENDING_EVENT);
	vp_notify(vp);
}

static void start(unsigned int first, unsigned int count)
{
	for (unsigned int i = first; i < first + count; i++)
		vp_release(vps[i], VP_HOLD_EXPLICIT);
}

/* One LP that counts, and another for those who act on it; VPs 2 to 5 are the child's. */
static int setup(void **state)
{
	(void)state;
	inject_at = release_at = seams = loads = 0;
	kicked_does = NULL;
	machine_start(2, MACHINE_VPS);
	start_turns();
	for (unsigned int i = 2; i < MACHINE_VPS; i++)
		vps[i]->lp = lp_table[0];
	assert_ptr_equal(run(lp_table[1]), vps[1]);
	assert_ptr_equal(run(lp_table[0]), vps[0]);
	atomic_store(&lp_table[1]->state,
		     LP_STARTING); /* nobody is to move there, but where that is tested */
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	stop_turns();
	machine_stop();
	return 0;
}

/* VP 2 runs, the root's sleeps. */
static struct vp *run_child(void)
{
	start(2, 1);
	halt(vps[0]);
	assert_ptr_equal(run(lp_table[0]), vps[2]);
	return vps[2];
}

/* ---- Loading, sleeping, waking ---- */

static void a_vp_runs_when_its_last_hold_goes(void **state)
{
	struct vp *vp = vps[2];

	(void)state;
	vp_hold(vp, vps[0], VP_HOLD_DISPATCH);
	halt(vps[0]);
	assert_null(run(lp_table[0]));
	vp_release(vp, VP_HOLD_EXPLICIT);
	assert_null(run(lp_table[0]));
	vp->tsc_offset = 7000;
	atomic_store(&lp_table[0]->tsc_moved, 300);
	vp_release(vp, VP_HOLD_DISPATCH);
	assert_ptr_equal(run(lp_table[0]), vp);
	assert_false(machine_of(vps[0])->in_processor);
	assert_int_equal(vp->tsc_delta, 6700);
	assert_int_equal(machine_of(vp)->clock_changes, 1);
	vp_release(vp, VP_HOLD_DISPATCH); /* nothing to release */
	assert_ptr_equal(run(lp_table[0]), vp);
	assert_int_equal(machine_of(vp)->loads, 1);
}

/* Translations of a VP that comes from another LP, or comes at all for the first time, are none that may be used. */
static void who_comes_from_elsewhere_flushes(void **state)
{
	struct vp *vp = vps[2];

	(void)state;
	start(2, 1);
	halt(vps[0]);
	current = lp_table[0];
	assert_ptr_equal(schedule(vps[0]), vp);
	assert_true(vp->pending & VP_PENDING_FLUSH);
	assert_ptr_equal(vp->last_lp, lp_table[0]);
}

static void a_halted_vp_stays_loaded_while_nobody_else_runs(void **state)
{
	struct vp *vp = run_child();

	(void)state;
	halt(vp);
	assert_null(run(lp_table[0]));
	assert_true(vp->loaded);
	current = lp_table[1];
	interrupt(vp);
	assert_int_equal(lp_table[0]->kicked, 1);
	assert_ptr_equal(run(lp_table[0]), vp);
	assert_int_equal(machine_of(vp)->loads, 1);
	assert_int_equal(machine_of(vp)->unloads, 0);
}

static void another_takes_the_place_of_one_that_sleeps(void **state)
{
	struct vp *vp = run_child();

	(void)state;
	start(3, 1);
	halt(vp);
	assert_ptr_equal(run(lp_table[0]), vps[3]);
	assert_false(vp->loaded);
	current = lp_table[1];
	interrupt(vp);
	halt(vps[3]);
	assert_ptr_equal(run(lp_table[0]), vp);
}

/* What wakes nobody must not keep an LP busy: it would never let an interrupt in again. */
static void who_can_not_wake_lets_the_lp_idle(void **state)
{
	(void)state;
	start(2, 3);
	for (unsigned int i = 2; i < 5; i++) {
		vps[i]->halted = true;
		vps[i]->halted_interrupts_on = false; /* HLT with interrupts off */
		atomic_store(&machine_of(vps[i])->interrupt, true);
		vp_post(vps[i], VP_PENDING_EVENT | VP_PENDING_NMI);
		vp_notify(vps[i]);
	}
	vps[2]->halted = false;
	vps[2]->state = VP_WAIT_SIPI; /* takes no NMI either */
	halt(vps[0]);
	assert_null(run(lp_table[0]));
	for (unsigned int i = 2; i < 5; i++) {
		vp_post(vps[i], VP_PENDING_EVENT);
		vp_notify(vps[i]);
	}
	assert_null(run(lp_table[0]));
	vps[3]->halted_nmis_on = true; /* the NMI that it waited with */
	vp_notify(vps[3]);
	assert_ptr_equal(run(lp_table[0]), vps[3]);
	halt_with(vps[3], false, false);
	vp_post(vps[2], VP_PENDING_SIPI);
	vp_notify(vps[2]);
	assert_ptr_equal(run(lp_table[0]), vps[2]);
}

static void work_that_is_not_for_the_guest_is_done(void **state)
{
	struct vp *vp = run_child();

	(void)state;
	halt(vp);
	assert_null(run(lp_table[0]));
	vp_post(vp, VP_PENDING_RESUME | VP_PENDING_CLOCK);
	assert_null(run(lp_table[0]));
	assert_int_equal(machine_of(vp)->resumes, 1);
	assert_int_equal(machine_of(vp)->clock_changes, 1);
	assert_int_equal(vp->pending & VP_PENDING_NEUTRAL, 0);
	vp_post(vp, VP_PENDING_SYNIC);
	assert_ptr_equal(run(lp_table[0]), vp);
	vp_post(vp, VP_PENDING_INIT);
	assert_null(run(lp_table[0]));
	vp_post(vp, VP_PENDING_SIPI);
	assert_ptr_equal(run(lp_table[0]), vp);
	vp_post(vp, VP_PENDING_SHUTDOWN); /* a triple fault stops it, until its parent has answered */
	assert_null(run(lp_table[0]));
	assert_false(vp->loaded);
	vp_release(vp, VP_HOLD_INTERCEPT);
	assert_ptr_equal(run(lp_table[0]), vp);
}

/* ---- Time ---- */

static void two_share_their_lp(void **state)
{
	struct lp *lp = lp_table[0];
	unsigned int turns[2] = { 0 };

	(void)state;
	assert_ptr_equal(run_child(), vps[2]);
	start(3, 1);
	for (unsigned int i = 0; i < 100; i++) {
		struct vp *vp = run(lp);

		turns[vp == vps[3]]++;
		assert_int_not_equal(lp->slice_end_clock, NEVER); /* another waits */
		assert_true(of_lp[0].armed_tsc <= lp->slice_end_clock);
		atomic_store(&clock_now, lp->slice_end_clock);
		schedule_timer(lp);
		assert_true(vp->pending & VP_PENDING_SCHEDULE);
	}
	assert_in_range(turns[0], 45, 55);
	assert_int_equal(turns[0] + turns[1], 100);
	halt(vps[3]);
	run(lp);
	assert_ptr_equal(run(lp), vps[2]);
	assert_int_equal(lp->slice_end_clock, NEVER); /* alone: no timer */
	assert_int_equal(of_lp[0].armed_tsc, 0);
}

static void who_spins_makes_room(void **state)
{
	struct lp *lp = lp_table[0];
	struct vp *before;

	(void)state;
	assert_ptr_equal(run_child(), vps[2]);
	schedule_yield(vps[2]); /* for nobody */
	assert_false(vps[2]->pending & VP_PENDING_SCHEDULE);
	start(3, 1);
	for (unsigned int i = 0; i < 10; i++) {
		before = run(lp);
		schedule_yield(before);
		assert_true(before->pending & VP_PENDING_SCHEDULE);
		assert_ptr_not_equal(run(lp), before);
	}
}

/* In the TSC of the VP, in the LP's, and in the clock that none of them can move. */
static void timers_of_those_who_sleep(void **state)
{
	struct lp *lp = lp_table[0];
	struct vp *vp = vps[2], *other = vps[3];
	uint64_t now;

	(void)state;
	atomic_store(&lp->tsc_moved, 100000);
	vp->tsc_offset = (uint64_t)-5000;
	run_child();
	start(3, 1);
	now = lp_clock();
	vp->apic.timer.deadline_tsc = now + 2000 + vp->tsc_offset;
	halt(vp);
	assert_ptr_equal(run(lp), other);
	assert_true(heap_node_is_queued(&vp->timer_node));
	assert_int_equal(heap_first(&lp->timers)->key, now + 2000);
	assert_true(of_lp[0].armed_tsc <= now + 2000 + 100000);
	other->stimers.next_deadline_tsc = now + 500 + 100000;
	lp_timer_update(lp);
	assert_int_equal(of_lp[0].armed_tsc, now + 500 + 100000);
	atomic_store(&clock_now, now + 600);
	schedule_timer(lp);
	assert_int_equal(machine_of(other)->timer_expirations, 1);
	assert_int_equal(machine_of(vp)->timer_expirations, 0);
	assert_true(of_lp[0].armed_tsc <= now + 2000 + 100000);
	atomic_store(&clock_now, now + 2000);
	schedule_timer(lp);
	assert_false(heap_node_is_queued(&vp->timer_node));
	assert_int_equal(vp->sched.state, SCHED_FAIR);
	halt(other);
	assert_ptr_equal(run(lp), vp);
	assert_int_equal(machine_of(vp)->timer_expirations, 1);
}

/* Its timer ends the idling of its LP, and before that has looked at it, somebody holds it. */
static void the_timer_of_one_that_is_held(void **state)
{
	struct lp *lp = lp_table[0];
	struct vp *vp = run_child();

	(void)state;
	vp->apic.timer.deadline_tsc = lp_clock() + 1000;
	halt(vp);
	assert_null(run(lp));
	atomic_fetch_add(&clock_now, 1000);
	schedule_timer(lp);
	assert_int_equal(machine_of(vp)->timer_expirations, 1);
	atomic_fetch_or(&vp->holds, VP_HOLD_ACCESS);
	assert_null(run(lp));
	assert_false(vp->loaded);
	current = lp_table[1];
	vp_release(vp, VP_HOLD_ACCESS);
	assert_ptr_equal(run(lp), vp);
}

/* A root that sets its TSC back has no longer slice for it, and who sleeps doesn't sleep longer: the timer goes by the TSC (SDM3 11.5.4.1). */
static void the_timer_follows_the_tsc(void **state)
{
	struct lp *lp = lp_table[0];

	(void)state;
	atomic_store(&lp->tsc_moved, BIT(40));
	assert_ptr_equal(run_child(), vps[2]);
	start(3, 1);
	run(lp);
	assert_true(of_lp[0].armed_tsc == lp->slice_end_clock + BIT(40));
	atomic_store(&lp->tsc_moved, 5000);
	schedule_tsc_moved(lp);
	assert_true(of_lp[0].armed_tsc == lp->slice_end_clock + 5000);
}

/* A deadline that lies before the VP's TSC's beginning, and one that lies too far behind its end. */
static void timers_at_the_ends_of_time(void **state)
{
	struct lp *lp = lp_table[0];
	struct vp *vp = vps[2];

	(void)state;
	vp->tsc_offset = BIT(62);
	run_child();
	start(3, 1);
	vp->apic.timer.deadline_tsc = 5; /* long past */
	halt(vp);
	assert_ptr_equal(run(lp), vps[3]);
	schedule_timer(lp);
	halt(vps[3]);
	assert_ptr_equal(run(lp), vp);
	vp->apic.timer.deadline_tsc = NEVER - 10; /* set early, as it seems, it would fire for ever */
	lp_timer_update(lp);
	assert_true(of_lp[0].armed_tsc > BIT(62));
	vp->tsc_offset = 0 - lp_clock(); /* a TSC that begins now */
	vp_hold_self(vp, VP_HOLD_EXPLICIT);
	assert_null(run(lp));
	vp_release(vp, VP_HOLD_EXPLICIT);
	assert_ptr_equal(run(lp), vp);
	assert_true(of_lp[0].armed_tsc == 0);
	/* Past, in the clock of an LP whose TSC was written far ahead. */
	atomic_store(&lp->tsc_moved, BIT(40));
	atomic_fetch_add(&clock_now, 100);
	vp->apic.timer.deadline_tsc = 1;
	halt(vp);
	interrupt(vps[3]);
	assert_ptr_equal(run(lp), vps[3]);
	schedule_timer(lp);
	halt(vps[3]);
	assert_ptr_equal(run(lp), vp);
}

/* Somebody else changed the timer of a VP that he held. */
static void a_timer_that_was_set_from_elsewhere(void **state)
{
	struct lp *lp = lp_table[0];
	struct vp *vp = run_child();

	(void)state;
	start(3, 1);
	halt(vp);
	assert_ptr_equal(run(lp), vps[3]);
	current = lp_table[1];
	vp_borrow(vp, vps[1]);
	assert_true(machine_of(vp)->borrowed);
	vp->apic.timer.deadline_tsc = lp_clock() + 1000;
	lp_timer_update(vp->lp); /* as the APIC's model does */
	assert_int_equal(of_lp[1].armed_tsc, 0);
	vp_return(vp);
	assert_false(machine_of(vp)->borrowed);
	run(lp);
	assert_true(heap_node_is_queued(&vp->timer_node));
	assert_true(of_lp[0].armed_tsc && of_lp[0].armed_tsc <= lp_clock() + 1000);
}

/* ---- Holding ---- */

static void its_lp_runs(struct lp *lp)
{
	struct lp *before = current;

	current = lp;
	run(lp);
	current = before;
}

static void holding_waits_until_it_is_out(void **state)
{
	struct vp *vp = run_child();

	(void)state;
	kicked_does = its_lp_runs;
	current = lp_table[1];
	vp_hold(vp, vps[1], VP_HOLD_EXPLICIT);
	assert_false(vp->loaded);
	assert_int_equal(machine_of(vp)->unloads, 1);
	assert_null(lp_table[0]->vp);
	interrupt(vp); /* the LP has nobody to run meanwhile */
	vp_release(vp, VP_HOLD_EXPLICIT);
	assert_ptr_equal(lp_table[0]->vp, vp);
	assert_true(vp->loaded);
}

static void who_holds_itself_leaves_after_the_exit(void **state)
{
	struct vp *vp = run_child();

	(void)state;
	start(3, 1);
	vp_hold_self(vp, VP_HOLD_INTERCEPT);
	assert_true(vp->loaded);
	assert_ptr_equal(run(lp_table[0]), vps[3]);
	assert_false(vp->loaded);
	vp_hold(vp, vps[3], VP_HOLD_ACCESS);
	vp_release(vp, VP_HOLD_INTERCEPT);
	halt(vps[3]);
	assert_null(run(lp_table[0]));
	vp_release(vp, VP_HOLD_ACCESS);
	assert_ptr_equal(run(lp_table[0]), vp);
}

/* ---- The end of a VP ---- */

static void a_dead_vp_is_forgotten(void **state)
{
	struct lp *lp = lp_table[0];
	struct vp *vp = run_child();

	(void)state;
	start(3, 1);
	vp->apic.timer.deadline_tsc = lp_clock() + 1000;
	halt(vp);
	assert_ptr_equal(run(lp), vps[3]);
	assert_true(heap_node_is_queued(&vp->timer_node));
	vp_hold(vp, vps[3], VP_HOLD_DEAD);
	vp_notify(vp);
	assert_false(vp->forgotten);
	assert_ptr_equal(run(lp), vps[3]);
	assert_true(vp->forgotten);
	assert_false(vp->wake_queued);
	assert_false(heap_node_is_queued(&vp->timer_node));
	assert_int_equal(vp->sched.state, SCHED_BLOCKED);
	interrupt(vp); /* who has a pointer still does no harm */
	assert_ptr_equal(run(lp), vps[3]);
	assert_false(vp->wake_queued);
	assert_int_equal(vp->sched.state, SCHED_BLOCKED);
	assert_null(heap_first(&lp->timers));
}

static void a_dead_vp_is_not_forgotten_while_it_is_loaded(void **state)
{
	struct vp *vp = run_child();

	(void)state;
	halt(vp);
	assert_null(run(lp_table[0]));
	kicked_does = its_lp_runs;
	current = lp_table[1];
	vp_hold(vp, vps[1], VP_HOLD_DEAD);
	assert_false(vp->loaded);
	vp_notify(vp);
	its_lp_runs(lp_table[0]);
	assert_true(vp->forgotten);
	assert_int_equal(vp->sched.state, SCHED_BLOCKED);
}

/* ---- Other LPs ---- */

/* Whoever notified it saw its old LP. */
static void a_wake_follows_a_vp_that_moves(void **state)
{
	struct vp *vp = vps[2];

	(void)state;
	atomic_store(&lp_table[1]->state, LP_ONLINE);
	current = lp_table[1];
	start(2, 1);
	assert_ptr_equal(atomic_load(&lp_table[0]->wakes), vp);
	__atomic_store_n(&vp->lp, lp_table[1], __ATOMIC_SEQ_CST);
	atomic_store(&lp_table[1]->kicked, 0);
	assert_ptr_equal(run(lp_table[0]), vps[0]);
	assert_ptr_equal(atomic_load(&lp_table[1]->wakes), vp);
	assert_int_equal(lp_table[1]->kicked, 1);
	halt(vps[1]);
	assert_ptr_equal(run(lp_table[1]), vp);
}

static unsigned int kicks_ignored;

static void takes_the_third_kick(struct lp *lp)
{
	struct lp *before = current;

	if (kicks_ignored++ < 2) {
		atomic_store(&lp->kicked, 0); /* another's, taken before we asked */
		return;
	}
	current = lp;
	lp_handle_interrupts(lp);
	current = before;
}

static void synchronizing_waits_for_a_kick_of_every_lp(void **state)
{
	(void)state;
	atomic_store(&lp_table[1]->state, LP_ONLINE);
	kicked_does = takes_the_third_kick;
	kicks_ignored = 0;
	current = lp_table[0];
	schedule_synchronize(vps[0]);
	assert_int_equal(kicks_ignored, 3);
	assert_int_equal(lp_table[1]->kicks_taken, 1);
	atomic_store(&lp_table[1]->state, LP_OFFLINE); /* has nothing, and takes no kick */
	schedule_synchronize(vps[0]);
	assert_int_equal(kicks_ignored, 3);
}

static void a_new_vp_goes_where_least_is_to_do(void **state)
{
	(void)state;
	current = lp_table[0];
	start(2, 1);
	run(lp_table[0]);
	vp_place(vps[5]);
	assert_ptr_equal(vps[5]->lp, lp_table[0]); /* the only one */
	atomic_store(&lp_table[1]->state, LP_ONLINE);
	vp_place(vps[5]);
	assert_ptr_equal(vps[5]->lp, lp_table[1]);
	atomic_store(&lp_table[1]->state, LP_STARTING);
	vp_place(vps[5]);
	assert_ptr_equal(vps[5]->lp, lp_table[0]);
}

/* One that wakes where others run goes to an LP that idles; with its timers, and its TSC as it was. */
static void who_wakes_goes_where_nobody_runs(void **state)
{
	struct vp *vp = run_child();
	struct lp *from = lp_table[0], *to = lp_table[1];

	(void)state;
	start(3, 1);
	atomic_store(&to->tsc_moved, 5555);
	halt(vps[1]);
	assert_null(run(to));
	run(from);
	vp->apic.timer.deadline_tsc = lp_clock() + 1000000 + vp->tsc_delta;
	halt(vp);
	assert_ptr_equal(run(from), vps[3]);
	assert_true(heap_node_is_queued(&vp->timer_node));
	atomic_store(&to->state, LP_ONLINE);
	interrupt(vp);
	assert_ptr_equal(run(from), vps[3]);
	assert_ptr_equal(vp->lp, to);
	assert_null(heap_first(&from->timers));
	assert_ptr_equal(run(to), vp);
	assert_int_equal(vp->tsc_delta, vp->tsc_offset - 5555);
	assert_int_equal(to->timer_deadline_tsc, lp_clock() + 1000000 + 5555);
	assert_ptr_equal(vp->last_lp, to);
}

/* Who waits is asked for by an LP that has nothing to do. */
static void who_waits_is_given_away(void **state)
{
	struct vp *vp = run_child(), *waiting;
	struct lp *from = lp_table[0], *to = lp_table[1];

	(void)state;
	start(3, 1);
	vp = run(from);
	waiting = vp == vps[2] ? vps[3] : vps[2];
	atomic_store(&to->state, LP_ONLINE);
	halt(vps[1]);
	assert_null(run(to)); /* it asks before it sleeps */
	assert_int_equal(from->kicked, 1);
	assert_ptr_equal(run(from), vp);
	assert_ptr_equal(waiting->lp, to);
	assert_ptr_equal(run(to), waiting);
	assert_ptr_equal(run(from), vp);
}

static void shares_can_change(void **state)
{
	struct vp *vp = run_child();

	(void)state;
	child.properties.weight = 250;
	child.properties.cap = 0x4000;
	child.properties.reserve = 0x1000;
	current = lp_table[1];
	partition_params_changed(&child); /* it runs all the time */
	run(lp_table[0]);
	assert_int_equal(vp->sched.weight, 250);
	assert_int_equal(vp->sched.cap, 0x4000);
	assert_int_equal(vp->sched.reserve, 0x1000);
	child.properties.reserve = 0x10000; /* more than the cap: that is what can be promised */
	partition_params_changed(&child);
	run(lp_table[0]);
	assert_int_equal(vp->sched.reserve, 0x4000);
	child.properties.cap = 0x10000;
	partition_params_changed(&child);
	run(lp_table[0]);
	assert_int_equal(vp->sched.cap, 0);
	assert_int_equal(vp->sched.reserve, 0xffff);
}

static void shares_follow_a_vp_that_moved(void **state)
{
	struct vp *vp = run_child();

	(void)state;
	atomic_store(&lp_table[1]->state, LP_ONLINE);
	child.properties.weight = 250;
	current = lp_table[1];
	__atomic_store_n(&vp->lp, lp_table[1], __ATOMIC_SEQ_CST); /* so it was when it was looked for */
	partition_params_changed(&child);
	__atomic_store_n(&vp->lp, lp_table[0], __ATOMIC_SEQ_CST);
	run(lp_table[1]);
	run(lp_table[0]);
	assert_int_equal(vp->sched.weight, 250);
}

/* ---- Debug registers ---- */

static void debug_registers_are_of_who_uses_them(void **state)
{
	struct vp *vp = run_child();

	(void)state;
	assert_ptr_equal(lp_table[0]->dr_owner, vps[0]); /* the root's; a child that uses none pays nothing */
	of_lp[0].dr_marker = 111;
	vp->dr[0] = 222;
	schedule_use_debug_registers(vp);
	assert_int_equal(of_lp[0].dr_marker, 222);
	assert_int_equal(vps[0]->dr[0], 111);
	of_lp[0].dr_marker = 333;
	vp_hold_self(vp, VP_HOLD_EXPLICIT);
	assert_null(run(lp_table[0]));
	assert_int_equal(vp->dr[0], 333); /* its parent may ask for them */
	interrupt(vps[0]);
	assert_ptr_equal(run(lp_table[0]), vps[0]);
	assert_int_equal(of_lp[0].dr_marker, 111);
}

/* ---- Every order ---- */

static void inject_interrupt(void)
{
	interrupt(target);
}

static void inject_hold(void)
{
	atomic_fetch_or(&target->holds, VP_HOLD_INTERCEPT);
	vp_post(target, VP_PENDING_SCHEDULE);
	vp_notify(target);
}

/*
 * Three VPs run and sleep, one after the other. True: the seam was reached. After what came there, the target runs; what else can, goes to
 * sleep. A hold is followed by a release `distance` seams later.
 */
static bool try(unsigned int at, unsigned int distance, unsigned int who)
{
	bool ran = false;

	setup(NULL);
	start(2, 2);
	target = vps[who];
	injected = released = false;
	seams = 0;
	inject_at = at;
	release_at = distance ? at + distance : 0;
	for (unsigned int i = 0; i < 20 && !ran; i++) {
		struct vp *vp = run(lp_table[0]);

		if (vp == target && injected && (!release_at || released))
			ran = true;
		if (!vp && !injected)
			break; /* this seam isn't reached */
		if (!vp && release_at && !released)
			as_another_lp(try_release);
		if (vp)
			halt(vp);
		/* What isn't asleep for good is to run again at the end. */
		if (release_at && released && !ran && target->halted)
			as_another_lp(inject_interrupt);
	}
	if (injected && !ran)
		fail_msg("VP %u sleeps on: seam %u, released %u later", who, at, distance);
	teardown(NULL);
	return injected;
}

static void no_wake_is_lost_whenever_it_comes(void **state)
{
	(void)state;
	inject = inject_interrupt;
	for (unsigned int who = 0; who < 4; who++) {
		unsigned int at = 1;

		if (who == 1)
			continue; /* of the other LP */
		while (try(at, 0, who))
			at++;
		assert_true(at > 20);
	}
}

/* The target sleeps and gives way to one that is always busy; woken at any seam, it has its turn in time. */
static bool wake_beside_a_busy_one(unsigned int at)
{
	struct lp *lp;
	bool ran = false;

	setup(NULL);
	lp = lp_table[0];
	target = vps[0];
	start(2, 1);
	injected = false;
	seams = 0;
	inject_at = at;
	halt(target);
	for (unsigned int i = 0; i < 20 && !ran; i++) {
		struct vp *vp = run(lp);

		ran = injected && vp == target;
		if (!injected)
			break; /* this seam isn't reached */
		if (lp->slice_end_clock != NEVER && !ran) {
			atomic_store(&clock_now, lp->slice_end_clock);
			schedule_timer(lp);
		}
	}
	if (injected && !ran)
		fail_msg("the target never has its turn: seam %u", at);
	teardown(NULL);
	return injected;
}

static void nobody_busy_keeps_out_who_wakes(void **state)
{
	unsigned int at = 1;

	(void)state;
	inject = inject_interrupt;
	while (wake_beside_a_busy_one(at))
		at++;
	assert_true(at > 5);
}

/* Two VPs: who wakes while it is taken out for the other one was not there when that was chosen, without an end of its slice. */
static bool try_on_the_way_out(unsigned int at)
{
	bool was_injected;

	setup(NULL);
	assert_ptr_equal(run_child(), vps[2]);
	target = vps[0];
	interrupt(target);
	assert_ptr_equal(run(lp_table[0]), target);
	halt(target);
	injected = released = false;
	seams = 0;
	inject_at = at;
	run(lp_table[0]); /* check_runs() has the rest */
	was_injected = injected;
	teardown(NULL);
	return was_injected;
}

static void who_wakes_on_the_way_out_has_its_turn(void **state)
{
	unsigned int at = 1;

	(void)state;
	inject = inject_interrupt;
	while (try_on_the_way_out(at))
		at++;
	assert_true(at > 3);
}

static void no_release_is_lost_whenever_it_comes(void **state)
{
	(void)state;
	inject = inject_hold;
	for (unsigned int who = 2; who < 4; who++)
		for (unsigned int distance = 1; distance < 12; distance++)
			for (unsigned int at = 1; try(at, distance, who); at++)
				;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_vp_runs_when_its_last_hold_goes),
		TEST(who_comes_from_elsewhere_flushes),
		TEST(a_halted_vp_stays_loaded_while_nobody_else_runs),
		TEST(another_takes_the_place_of_one_that_sleeps),
		TEST(who_can_not_wake_lets_the_lp_idle),
		TEST(work_that_is_not_for_the_guest_is_done),
		TEST(two_share_their_lp),
		TEST(who_spins_makes_room),
		TEST(timers_of_those_who_sleep),
		TEST(the_timer_of_one_that_is_held),
		TEST(the_timer_follows_the_tsc),
		TEST(timers_at_the_ends_of_time),
		TEST(a_timer_that_was_set_from_elsewhere),
		TEST(holding_waits_until_it_is_out),
		TEST(who_holds_itself_leaves_after_the_exit),
		TEST(a_dead_vp_is_forgotten),
		TEST(a_dead_vp_is_not_forgotten_while_it_is_loaded),
		TEST(a_wake_follows_a_vp_that_moves),
		TEST(synchronizing_waits_for_a_kick_of_every_lp),
		TEST(a_new_vp_goes_where_least_is_to_do),
		TEST(who_wakes_goes_where_nobody_runs),
		TEST(who_waits_is_given_away),
		TEST(shares_can_change),
		TEST(shares_follow_a_vp_that_moved),
		TEST(debug_registers_are_of_who_uses_them),
		cmocka_unit_test(no_wake_is_lost_whenever_it_comes),
		cmocka_unit_test(nobody_busy_keeps_out_who_wakes),
		cmocka_unit_test(who_wakes_on_the_way_out_has_its_turn),
		cmocka_unit_test(no_release_is_lost_whenever_it_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
