/* unit: sched/classic.c sched/fair.c sched/budget.c sched/place.c sched/heap.c */
/* SPDX-License-Identifier: MIT */
/*
 * Any sequence of calls on three LPs, with times that jump and calls that come late: after each, every VP is where its state says, the
 * sums are those of their parts, nobody is owed or owes more than there is, caps hold, and no tick is lost or charged twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sched/internal.h>

#define MS 1000000ull
#define S (1000 * MS)
#define LPS 3u
#define VPS 40u

struct model_vp {
	struct sched_vp sched;
	struct sched_params params;
	int on; /* LP; -1: none */
	uint64_t ran;
	uint64_t capped_since; /* its cap is the same since then */
	uint64_t ran_before;   /* by then */
};

static struct sched_lp lps[LPS];
static struct sched_vp *running[LPS]; /* what sched_pick said, until the VP blocks */
static uint64_t charged_to[LPS];
static uint64_t deadlines[LPS];
static struct model_vp vps[VPS];
static uint64_t now, latest; /* how late a sched_pick may have come so far */
static uint64_t seed;

static uint64_t random_below(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed * 0x2545F4914F6CDD1Dull >> 11) % below;
}

static struct sched_params random_params(void)
{
	static const uint32_t weights[] = { 1, 10, 100, 100, 100, 300, 1000, 10000 };
	struct sched_params params = { .weight = weights[random_below(ARRAY_SIZE(weights))] };

	if (!random_below(3))
		params.cap = (uint32_t)(random_below(4) ? random_below(0x10001) : random_below(200));
	if (!random_below(4))
		params.reserve = (uint32_t)random_below((params.cap ? params.cap : 0x10000) / 4 + 1);
	return params;
}

static struct model_vp *model_of(struct sched_vp *sched)
{
	return container_of(sched, struct model_vp, sched);
}

static bool is_in(const struct heap_node *tree, const struct heap_node *node)
{
	for (; tree; tree = tree->next) {
		if (tree == node || is_in(tree->child, node))
			return true;
	}
	return false;
}

static uint32_t size(const struct heap_node *tree)
{
	uint32_t count = 0;

	for (; tree; tree = tree->next)
		count += 1 + size(tree->child);
	return count;
}

/* What has been run on an LP since the last call there is charged by each call. */
static void charge(uint32_t lp)
{
	if (running[lp])
		model_of(running[lp])->ran += now - charged_to[lp];
	charged_to[lp] = now;
}

/* Where the VP is; adds what its LP should count. */
static void check_vp(const struct model_vp *vp, uint32_t *fair, uint32_t *urgent, uint32_t *refill)
{
	const struct sched_vp *sched = &vp->sched;
	const struct sched_lp *lp = vp->on < 0 ? NULL : &lps[vp->on];
	bool queued = heap_node_is_queued(&sched->queue_node),
	     refills = heap_node_is_queued(&sched->refill_node);

	if (!lp || lp->current == sched) {
		assert_false(queued || refills);
		assert_int_equal(sched->state == SCHED_FAIR || sched->state == SCHED_URGENT, !!lp);
		return;
	}
	assert_ptr_equal(sched->home, lp);
	if (sched->state == SCHED_THROTTLED) {
		assert_true(vp->params.cap && !queued && refills &&
			    is_in(lp->refill.root, &sched->refill_node));
		refill[vp->on]++;
		return;
	}
	assert_true(queued);
	if (sched->state == SCHED_URGENT) {
		assert_true(vp->params.reserve && !refills && is_in(lp->urgent.root, &sched->queue_node));
		urgent[vp->on]++;
		return;
	}
	assert_int_equal(sched->state, SCHED_FAIR);
	assert_true(is_in(lp->fair.root, &sched->queue_node));
	assert_int_equal(sched->queue_node.key, fair_key(sched));
	assert_int_equal(refills, vp->params.reserve != 0);
	fair[vp->on]++;
	refill[vp->on] += refills;
}

/* The average is exact, and nobody far from it. */
static void check_sums(uint32_t index)
{
	const struct sched_lp *lp = &lps[index];
	int64_t sum = 0, most = (int64_t)(3 * sched_durations.lag_max_ticks << VTIME_SHIFT);
	uint64_t load = 0;

	for (uint32_t i = 0; i < VPS; i++) {
		const struct sched_vp *vp = &vps[i].sched;

		if (vps[i].on != (int)index || vp->state == SCHED_THROTTLED)
			continue;
		load += vp->weight;
		sum += later_by(vp->vtime, lp->average) * vp->weight;
		/* What a VP owes is bounded at once; what it is owed while others are late or have all of the LP reserved, in the end. */
		assert_true(later_by(vp->vtime, lp->vtime) * vp->weight <= most);
		assert_true(later_by(vp->vtime, lp->vtime) * vp->weight >= -(int64_t)VPS * most);
	}
	assert_int_equal(load, sched_load(lp));
	assert_int_equal(sum, lp->rest);
	assert_true(lp->rest >= 0 && (!load || lp->rest < (int64_t)load));
	assert_true(later_by(lp->average, lp->vtime) <= 0);
	assert_int_equal(lp->fair.base, lp->average - BIT(63));
}

/* Never more than the cap of the time since it has held, a full budget and what late calls let it run. */
static void check_cap(const struct model_vp *vp)
{
	if (!vp->params.cap || vp->params.cap >= SCHED_SHARE_ONE)
		return;

	uint64_t passed = now - vp->capped_since;
	uint64_t most = passed / 65536 * vp->params.cap + passed % 65536 * vp->params.cap / 65536;

	most += 2 * sched_durations.period_ticks / 4 + 2 * sched_durations.chunk_ticks + latest;
	assert_true(vp->ran - vp->ran_before <= most);
}

static void note_lateness(void)
{
	for (uint32_t i = 0; i < LPS; i++) {
		if (now > deadlines[i] && now - deadlines[i] > latest)
			latest = now - deadlines[i];
	}
}

static void check(void)
{
	uint32_t fair[LPS] = { 0 }, urgent[LPS] = { 0 }, refill[LPS] = { 0 };

	note_lateness();
	for (uint32_t i = 0; i < VPS; i++) {
		check_vp(&vps[i], fair, urgent, refill);
		check_cap(&vps[i]);
	}
	for (uint32_t i = 0; i < LPS; i++) {
		assert_int_equal(size(lps[i].fair.root), fair[i]);
		assert_int_equal(size(lps[i].urgent.root), urgent[i]);
		assert_int_equal(size(lps[i].refill.root), refill[i]);
		assert_ptr_equal(lps[i].current, running[i]);
		check_sums(i);
	}
}

/* Somebody runs whenever anybody may, and it is asked again in time. */
static void do_pick(uint32_t lp)
{
	charge(lp);
	running[lp] = sched_pick(&lps[lp], now, &deadlines[lp]);
	assert_true(deadlines[lp] > now);
	assert_int_equal(running[lp] != NULL, sched_load(&lps[lp]) != 0);
	if (running[lp]) {
		struct model_vp *vp = model_of(running[lp]);

		assert_int_equal(vp->on, lp);
		assert_int_equal(sched_run_ticks(running[lp]), vp->ran);
		if (!heap_is_empty(&lps[lp].fair) || !heap_is_empty(&lps[lp].urgent))
			assert_true(deadlines[lp] - now <=
				    sched_durations.slice_max_ticks + 2 * sched_durations.period_ticks);
		assert_true(heap_is_empty(&lps[lp].urgent) || running[lp]->state == SCHED_URGENT);
	}
	if (!heap_is_empty(&lps[lp].refill))
		assert_true(deadlines[lp] <= heap_first(&lps[lp].refill)->key);
}

static void do_wake(struct model_vp *vp, uint32_t lp)
{
	charge(lp);
	vp->on = (int)lp;

	bool call = sched_wake(&lps[lp], &vp->sched, now);

	/* Without a call there is no need for one: whoever runs goes on, and is asked soon enough. */
	if (!call)
		assert_true(lps[lp].current || deadlines[lp] != UINT64_MAX);
	else
		do_pick(lp);
}

static void do_block(struct model_vp *vp)
{
	uint32_t lp = (uint32_t)vp->on;

	charge(lp);
	sched_block(&lps[lp], &vp->sched, now);
	vp->on = -1;
	if (running[lp] != &vp->sched)
		return;
	running[lp] = NULL;
	check();
	do_pick(lp);
}

static void do_steal(uint32_t from, uint32_t to)
{
	charge(from);

	uint64_t load = sched_load(&lps[from]);
	struct sched_vp *vp = sched_steal(&lps[from], sched_load(&lps[to]), now);

	if (!vp)
		return;
	assert_false(vp->pinned || vp == running[from]);
	assert_int_equal(sched_load(&lps[from]), load - vp->weight);
	assert_true(from == to || sched_load(&lps[to]) + vp->weight < load);
	model_of(vp)->on = -1;
	check();
	do_wake(model_of(vp), to);
}

static void do_set_params(struct model_vp *vp, uint32_t lp)
{
	charge(lp);
	vp->params = random_params();
	vp->capped_since = now;
	vp->ran_before = vp->ran;
	if (sched_set_params(&lps[lp], &vp->sched, &vp->params, now))
		do_pick(lp);
}

/* What it was owed is gone, but for the part by which the mean follows. */
static void do_give_way(uint32_t lp)
{
	struct sched_vp *vp = running[lp];
	int64_t owed;

	charge(lp);
	sched_charge(&lps[lp], now);
	owed = vp ? later_by(lps[lp].average, vp->vtime) : 0;
	if (!sched_give_way(&lps[lp], now))
		return;
	if (owed > 0)
		assert_true(later_by(lps[lp].average, vp->vtime) <=
			    owed * vp->weight / (int64_t)sched_load(&lps[lp]) + 1);
	check();
	do_pick(lp);
}

static void step(void)
{
	struct model_vp *vp = &vps[random_below(VPS)];
	uint32_t lp = vp->on < 0 ? (uint32_t)random_below(LPS) : (uint32_t)vp->on;

	switch (random_below(17)) {
	case 0:
		do_set_params(vp, lp);
		break;
	case 1:
	case 2:
		do_steal((uint32_t)random_below(LPS), (uint32_t)random_below(LPS));
		break;
	case 3:
		charge(lp);
		sched_charge(&lps[lp], now);
		break;
	case 16:
		do_give_way(lp);
		break;
	case 4:
	case 5:
	case 6:
	case 7:
		do_pick(lp);
		break;
	default:
		if (vp->on < 0)
			do_wake(vp, lp);
		else
			do_block(vp);
	}
}

/* Time passes: not at all, a little, to the next deadline, or too long. */
static void pass(uint64_t most)
{
	uint32_t lp = (uint32_t)random_below(LPS);

	switch (random_below(8)) {
	case 0:
		break;
	case 1:
		now += random_below(1000);
		break;
	case 2:
		now += random_below(most);
		break;
	case 3:
	case 4:
		now += random_below(MS);
		break;
	default:
		if (deadlines[lp] != UINT64_MAX && deadlines[lp] > now)
			now = deadlines[lp];
	}
	/* Who is overdue is asked, most of the time. */
	for (uint32_t i = 0; i < LPS; i++) {
		note_lateness();
		if (now >= deadlines[i] && random_below(8))
			do_pick(i);
	}
}

static void begin(uint64_t vtime, uint64_t start)
{
	sched_init(S);
	now = start;
	latest = 0;
	for (uint32_t i = 0; i < LPS; i++) {
		sched_lp_init(&lps[i]);
		lps[i].vtime = lps[i].average = vtime;
		lps[i].fair.base = vtime - BIT(63);
		running[i] = NULL;
		charged_to[i] = now;
		deadlines[i] = UINT64_MAX;
	}
	for (uint32_t i = 0; i < VPS; i++) {
		vps[i] = (struct model_vp){ .on = -1, .params = random_params(), .capped_since = now };
		sched_vp_init(&vps[i].sched, &vps[i].params);
		vps[i].sched.pinned = !random_below(8);
	}
}

/* Ordinary times, then ones with seconds between calls, and virtual times about to wrap. */
static void test_random(void **state)
{
	(void)state;
	static const uint64_t vtimes[] = { 0, 0 - (MS << 16), BIT(63) - (10 * S << 16), 0 - (S << 14) };

	for (uint32_t round = 0; round < 24; round++) {
		seed = 1000 + round;
		begin(vtimes[round % ARRAY_SIZE(vtimes)], round % 3 ? 1 : 3000000 * S);
		for (uint32_t i = 0; i < 4000; i++) {
			pass(round % 6 == 5 ? 5 * S : 30 * MS);
			step();
			check();
		}
	}
}

/* A crowd of one LP where nobody sleeps: what was run is all of the time, and what the VPs say they ran. */
static void test_no_tick_lost(void **state)
{
	(void)state;
	uint64_t sum = 0;

	seed = 7;
	begin(0, 5);
	for (uint32_t i = 0; i < VPS; i++) {
		struct sched_params params = { .weight = vps[i].params.weight,
					       .reserve = vps[i].params.reserve };

		sched_vp_init(&vps[i].sched, &params);
		vps[i].params = params;
		do_wake(&vps[i], 0);
	}
	while (now < 20 * S) {
		now = deadlines[0];
		do_pick(0);
		check();
	}
	for (uint32_t i = 0; i < VPS; i++)
		sum += sched_run_ticks(&vps[i].sched);
	assert_int_equal(sum, now - 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_random),
					    cmocka_unit_test(test_no_tick_lost) };

	return cmocka_run_group_tests_name("sched_random", tests, NULL, NULL);
}
