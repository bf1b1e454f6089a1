/* unit: core/schedule.c core/hold.c core/schedule_timer.c core/placement.c sched/classic.c sched/fair.c sched/budget.c sched/place.c sched/heap.c */
/* libs: pthread */
/* SPDX-License-Identifier: MIT */
/*
 * Processors as threads: two that run VPs, and a third which wakes, holds and borrows them as fast as it can. Every wake must arrive, and
 * what is held must stand still. SEED=n and ROUNDS=n in the environment.
 */
#include "schedule_machine.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#include <cmocka.h>

#define RUNNERS 2u
#define CHILDREN_FROM 3u
#define PATIENCE_S 60 /* sanitizers, and a machine that has other things to do */

static pthread_t threads[RUNNERS];
static sem_t kicks[MACHINE_LPS];
static jmp_buf ends[RUNNERS];
static _Atomic bool stop;
static _Thread_local unsigned int seed;
static _Atomic uint64_t runs[MACHINE_VPS], interrupts_taken[MACHINE_VPS];

static unsigned int chance(unsigned int of)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 16) % of;
}

static void at_seam(const char *name, struct vp *vp)
{
	(void)name;
	(void)vp;
	if (chance(16) == 0)
		sched_yield();
}

static void when_kicked(struct lp *lp)
{
	sem_post(&kicks[lp->index]);
}

static void when_idle(struct lp *lp)
{
	while (!atomic_load(&lp->kicked)) {
		if (atomic_load(&stop))
			longjmp(ends[lp->index], 1);
		sem_wait(&kicks[lp->index]);
	}
}

/* A guest's moment, and its exit. */
static void guest_runs(struct vp *vp)
{
	uint32_t i = (uint32_t)vp->backend_data[0];

	CHECK(of_lp[current->index].in_processor == vp && vp->state == VP_RUNNING && !vp->halted);
	vp->gpr[GPR_RBX]++; /* whoever holds it may look at that, and nobody else does */
	atomic_fetch_add(&runs[i], 1);
	atomic_fetch_add(&clock_now, 1000);
	if (lp_clock() >= current->slice_end_clock)
		schedule_timer(current);
	vp_clear_pending(vp, VP_PENDING_EVENT | VP_PENDING_NMI | VP_PENDING_FLUSH);
	if (atomic_exchange(&machine_of(vp)->interrupt, false))
		atomic_fetch_add(&interrupts_taken[i], 1);
	if (chance(4) == 0 || vp->partition == &root) {
		vp->halted = vp->halted_interrupts_on = true;
		if (vp_sleeps(vp))
			vp_post_self(vp, VP_PENDING_SCHEDULE);
	} else if (chance(16) == 0) {
		vp_hold_self(vp, VP_HOLD_INTERCEPT);
	}
	if (chance(4) == 0)
		sched_yield();
}

static void *runner(void *argument)
{
	struct lp *lp = argument;

	current = lp;
	seed = lp->index + 77;
	if (setjmp(ends[lp->index]))
		return NULL;
	while (!atomic_load(&stop)) {
		lp_handle_interrupts(lp);
		guest_runs(schedule(lp->vp));
	}
	return NULL;
}

/* ---- The third, which acts ---- */

/* Its parent answers an intercept sooner or later. */
static void answer(struct vp *vp)
{
	if ((atomic_load(&vp->holds) & VP_HOLD_INTERCEPT) && !atomic_load(&vp->loaded)) {
		vp_post(vp, VP_PENDING_RESUME);
		vp_release(vp, VP_HOLD_INTERCEPT);
	}
}

static void wait_until_more(const _Atomic uint64_t *count, uint64_t than, struct vp *vp, const char *what)
{
	time_t limit = time(NULL) + PATIENCE_S;

	while (atomic_load(count) == than) {
		for (uint32_t i = CHILDREN_FROM; i < MACHINE_VPS; i++)
			answer(vps[i]);
		if (time(NULL) > limit) {
			fprintf(stderr,
				"VP %u: %s; pending 0x%llx, holds 0x%x, loaded %d, queued %d, state %u\n",
				vp->index, what, (unsigned long long)atomic_load(&vp->pending),
				atomic_load(&vp->holds), atomic_load(&vp->loaded),
				atomic_load(&vp->wake_queued), vp->sched.state);
			abort();
		}
		sched_yield();
	}
}

static void interrupt(uint32_t i)
{
	uint64_t before = atomic_load(&interrupts_taken[i]);

	atomic_store(&machine_of(vps[i])->interrupt, true);
	vp_post(vps[i], VP_PENDING_EVENT);
	vp_notify(vps[i]);
	wait_until_more(&interrupts_taken[i], before, vps[i], "an interrupt was lost");
}

static void stands_still(struct vp *vp)
{
	uint64_t before = vp->gpr[GPR_RBX];

	CHECK(!atomic_load(
		&machine_of(vp)->in_processor)); /* `loaded` is set for a moment by who finds it held */
	for (unsigned int i = chance(8); i; i--)
		sched_yield();
	CHECK(vp->gpr[GPR_RBX] == before);
	vp->gpr[GPR_RBX] = chance(1000);
}

static void hold(uint32_t i, bool by_borrowing)
{
	struct vp *vp = vps[i];
	bool is_halted;
	uint64_t before;

	if (by_borrowing)
		vp_borrow(vp, vps[2]);
	else
		vp_hold(vp, vps[2], VP_HOLD_EXPLICIT);
	stands_still(vp);
	is_halted = vp->halted;
	before = atomic_load(&runs[i]);
	if (by_borrowing)
		vp_return(vp);
	else
		vp_release(vp, VP_HOLD_EXPLICIT);
	if (!is_halted)
		wait_until_more(&runs[i], before, vp, "a release was lost");
}

static unsigned int number_of(const char *variable, unsigned int otherwise)
{
	const char *text = getenv(variable);

	return text ? (unsigned int)strtoul(text, NULL, 0) : otherwise;
}

static void every_wake_arrives(void **state)
{
	unsigned int rounds = number_of("ROUNDS", 3000);

	(void)state;
	seed = number_of("SEED", 1);
	machine_start(MACHINE_LPS, MACHINE_VPS);
	for (uint32_t i = CHILDREN_FROM; i < MACHINE_VPS; i++)
		vps[i]->lp = lp_table[i == 5];
	for (uint32_t i = 0; i < MACHINE_LPS; i++)
		sem_init(&kicks[i], 0, 0);
	current = lp_table[2];
	atomic_store(&lp_table[2]->state, LP_STARTING); /* nobody is to move there */
	for (uint32_t i = 0; i < RUNNERS; i++)
		CHECK(pthread_create(&threads[i], NULL, runner, lp_table[i]) == 0);
	for (uint32_t i = CHILDREN_FROM; i < MACHINE_VPS; i++)
		vp_release(vps[i], VP_HOLD_EXPLICIT);
	for (unsigned int round = 0; round < rounds; round++) {
		uint32_t i = CHILDREN_FROM + chance(MACHINE_VPS - CHILDREN_FROM);

		switch (chance(5)) {
		case 0:
			interrupt(chance(2)); /* the root's VPs are woken so too */
			break;
		case 1:
			interrupt(i);
			break;
		case 2:
			child.properties.weight = 1 + chance(1000);
			partition_params_changed(&child);
			break;
		default:
			hold(i, chance(2));
			break;
		}
		if (round % 64 == 0)
			schedule_synchronize(vps[2]);
	}
	atomic_store(&stop, true);
	for (uint32_t i = 0; i < RUNNERS; i++) {
		sem_post(&kicks[i]);
		pthread_join(threads[i], NULL);
	}
	machine_stop();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(every_wake_arrives) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
