/* unit: sched/classic.c sched/fair.c sched/budget.c sched/place.c sched/heap.c */
/* SPDX-License-Identifier: MIT */
/* The classic policy: who runs, until when, and what everybody gets of an LP. A tick is a nanosecond unless a test says otherwise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/sched.h>

#define MS 1000000ull
#define S (1000 * MS)
#define SHARE(percent) ((uint32_t)((percent)*0x10000 / 100))
#define COUNT 8

static struct sched_lp lp, other;
static struct sched_vp vps[COUNT];
static uint64_t now, deadline;
static uint64_t longest; /* without a break, that vps[0] ran in drive() */

static int setup(void **state)
{
	(void)state;
	sched_init(S);
	sched_lp_init(&lp);
	sched_lp_init(&other);
	memset(vps, 0, sizeof(vps));
	now = 12345;
	return 0;
}

static struct sched_vp *pick(void)
{
	struct sched_vp *vp = sched_pick(&lp, now, &deadline);

	assert_true(deadline > now);
	return vp;
}

static bool add_with(uint32_t i, uint32_t weight, uint32_t cap, uint32_t reserve)
{
	sched_vp_init(&vps[i], &(struct sched_params){ .weight = weight, .cap = cap, .reserve = reserve });
	return sched_wake(&lp, &vps[i], now);
}

static bool add(uint32_t i, uint32_t weight)
{
	return add_with(i, weight, 0, 0);
}

/* Nobody sleeps; sched_pick is called when it wants to be, and `late` ticks after. */
static void drive(uint64_t ticks, uint64_t late)
{
	uint64_t end = now + ticks, since = now;
	struct sched_vp *vp = pick();

	longest = 0;
	while (now < end) {
		now = deadline < end - late ? deadline + late : end;

		struct sched_vp *next = pick();

		if (next != vp) {
			if (vp == &vps[0] && now - since > longest)
				longest = now - since;
			since = now;
		}
		vp = next;
	}
}

/* What a VP ran since `before`, in hundredths of a percent of `ticks`. */
static uint64_t share(uint32_t i, uint64_t before, uint64_t ticks)
{
	return (sched_run_ticks(&vps[i]) - before) * 10000 / ticks;
}

static void assert_share(uint32_t i, uint64_t ticks, uint64_t wanted)
{
	assert_in_range(share(i, 0, ticks), wanted - wanted / 100, wanted + wanted / 100);
}

static void test_nobody(void **state)
{
	(void)state;
	assert_null(pick());
	assert_int_equal(deadline, UINT64_MAX);
	assert_int_equal(sched_load(&lp), 0);
}

/* One alone needs no clock, and has what it ran charged at the next look. */
static void test_alone(void **state)
{
	(void)state;
	assert_true(add(0, 100));
	assert_int_equal(sched_load(&lp), 100);
	assert_ptr_equal(pick(), &vps[0]);
	assert_int_equal(deadline, UINT64_MAX);
	now += 3 * S;
	sched_charge(&lp, now);
	assert_int_equal(sched_run_ticks(&vps[0]), 3 * S);
	assert_ptr_equal(pick(), &vps[0]);
	now += 7;
	sched_block(&lp, &vps[0], now);
	assert_int_equal(sched_run_ticks(&vps[0]), 3 * S + 7);
	assert_int_equal(sched_load(&lp), 0);
	assert_null(pick());
	now += S;
	assert_true(sched_wake(&lp, &vps[0], now));
	assert_ptr_equal(pick(), &vps[0]);
	assert_int_equal(sched_run_ticks(&vps[0]), 3 * S + 7);
}

/* Who runs without a deadline gets one when another comes, though that doesn't preempt it. */
static void test_second_sets_a_deadline(void **state)
{
	(void)state;
	add(0, 100);
	assert_ptr_equal(pick(), &vps[0]);
	assert_int_equal(deadline, UINT64_MAX);
	assert_true(add(1, 100));
	assert_ptr_equal(pick(), &vps[0]);
	assert_int_equal(deadline, now + MS + 1); /* a new VP isn't behind; then it is, by the granularity */
	now = deadline;
	assert_ptr_equal(pick(), &vps[1]);
	assert_int_equal(deadline, now + 10 * MS);
	now = deadline;
	assert_ptr_equal(pick(), &vps[0]);
	assert_int_equal(deadline, now + 10 * MS);
}

static void test_slices_follow_the_crowd(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < COUNT; i++)
		add(i, i ? 100 : 10000);
	drive(S, 0);
	while (pick() == &vps[0])
		now = deadline;
	assert_int_equal(deadline, now + 2 * MS);
	do
		now = deadline;
	while (pick() != &vps[0]);
	assert_int_equal(deadline, now + 10 * MS);
}

static void test_weights(void **state)
{
	(void)state;
	add(0, 100);
	add(1, 200);
	add(2, 700);
	drive(10 * S, 0);
	assert_share(0, 10 * S, 1000);
	assert_share(1, 10 * S, 2000);
	assert_share(2, 10 * S, 7000);
	assert_true(longest <= 10 * MS);
}

/* The greatest ratio of weights: the light one still has its turn. */
static void test_extreme_weights(void **state)
{
	(void)state;
	add(0, 1);
	add(1, 10000);
	drive(1000 * S, 0);
	/* It is owed up to a request of 10 ms. */
	assert_in_range(sched_run_ticks(&vps[0]), 1000 * S / 10001 - 12 * MS, 1000 * S / 10001 + 2 * MS);
}

/* Interrupts off, a slow exit: each sched_pick comes late, and the shares are right nevertheless. */
static void test_late_picks(void **state)
{
	(void)state;
	add_with(0, 100, SHARE(25), 0);
	add(1, 100);
	add(2, 300);
	drive(10 * S, 3 * MS + 77777);
	assert_share(0, 10 * S, 2000);
	assert_share(1, 10 * S, 2000);
	assert_share(2, 10 * S, 6000);
}

static void test_cap_alone(void **state)
{
	static const uint32_t caps[] = { 1, 10, 25, 50, 75, 90, 99 };

	for (uint32_t i = 0; i < ARRAY_SIZE(caps); i++) {
		setup(state);
		add_with(0, 100, SHARE(caps[i]), 0);
		drive(10 * S, 0);
		assert_share(0, 10 * S, caps[i] * 100);
		assert_true(longest <= 40 * MS);
	}
}

/* A tenth of a second is long enough for a cap to hold. */
static void test_cap_in_short_windows(void **state)
{
	(void)state;
	add_with(0, 100, SHARE(25), 0);
	add(1, 100);
	drive(S, 0);
	for (uint32_t i = 0; i < 50; i++) {
		uint64_t before = sched_run_ticks(&vps[0]);

		drive(100 * MS, 0);
		assert_in_range(share(0, before, 100 * MS), 2000, 3000);
	}
	assert_share(0, now - 12345, 2500);
	assert_true(longest <= 11 * MS);
}

/* The rest goes to the others by their weights; a cap above the fair share changes nothing. */
static void test_cap_beside_others(void **state)
{
	(void)state;
	add_with(0, 1000, SHARE(25), 0);
	add_with(1, 100, SHARE(90), 0);
	add(2, 200);
	drive(10 * S, 0);
	assert_share(0, 10 * S, 2500);
	assert_share(1, 10 * S, 2500);
	assert_share(2, 10 * S, 5000);
}

/* The least cap: chunks stay worth a switch. */
static void test_tiny_cap(void **state)
{
	(void)state;
	add_with(0, 100, 1, 0);
	drive(100 * S, 0);
	assert_in_range(sched_run_ticks(&vps[0]), 100 * S / 65536 * 8 / 10, 100 * S / 65536 + MS / 4);
	assert_true(longest >= MS / 20 && longest < MS);
}

/* 0x10000 is the ABI's way to say "none". */
static void test_no_cap(void **state)
{
	(void)state;
	add_with(0, 100, SCHED_SHARE_ONE, 0);
	assert_ptr_equal(pick(), &vps[0]);
	assert_int_equal(deadline, UINT64_MAX);
}

/* Sleeping doesn't fill a cap's budget beyond what bounds its bursts, and waking often doesn't get around it. */
static void test_cap_of_a_sleeper(void **state)
{
	(void)state;
	add_with(0, 100, SHARE(25), 0);
	drive(S, 0);

	uint64_t before = sched_run_ticks(&vps[0]), start = now;

	sched_block(&lp, &vps[0], now);
	now += 60 * S;
	sched_wake(&lp, &vps[0], now);
	pick();
	assert_true(deadline - now <= 10 * MS);
	start = now;
	while (now < start + 10 * S) {
		now += 50000;
		if (pick() == &vps[0]) {
			sched_block(&lp, &vps[0], now);
			assert_null(pick());
			now += 1000;
			sched_wake(&lp, &vps[0], now);
			pick();
		}
	}
	assert_in_range(share(0, before, now - start), 2300, 2525);
}

static void test_reserve(void **state)
{
	(void)state;
	add_with(0, 1, 0, SHARE(40));
	add(1, 10000);
	add(2, 10000);
	drive(10 * S, 0);
	assert_share(0, 10 * S, 4000);
	assert_share(1, 10 * S, 3000);
	for (uint32_t i = 0; i < 50; i++) {
		uint64_t before = sched_run_ticks(&vps[0]);

		drive(100 * MS, 0);
		assert_in_range(share(0, before, 100 * MS), 3500, 4500);
	}
}

/* Who gets its reserve by its weight has no more from it; a reserve is no extra. */
static void test_reserve_below_fair_share(void **state)
{
	(void)state;
	add_with(0, 100, 0, SHARE(20));
	add(1, 100);
	drive(10 * S, 0);
	assert_share(0, 10 * S, 5000);
}

/* All is reserved: each has its part, and somebody without a reserve nothing but what they leave. */
static void test_reserves_of_a_full_lp(void **state)
{
	(void)state;
	add_with(0, 100, 0, SHARE(50));
	add_with(1, 10, 0, SHARE(30));
	add_with(2, 1000, 0, SHARE(19));
	add(3, 10000);
	drive(10 * S, 0);
	assert_in_range(share(0, 0, 10 * S), 4940, 5060);
	assert_in_range(share(1, 0, 10 * S), 2970, 3030);
	assert_in_range(share(2, 0, 10 * S), 1880, 1930);
	assert_true(share(3, 0, 10 * S) >= 50);
}

static void test_reserve_and_cap(void **state)
{
	(void)state;
	add_with(0, 1, SHARE(30), SHARE(30));
	add(1, 10000);
	drive(10 * S, 0);
	assert_in_range(share(0, 0, 10 * S), 2950, 3010);
}

/* Each waking VP that has had less than who runs goes first. */
static void test_wake_preempts(void **state)
{
	(void)state;
	add(0, 100);
	add(1, 100);
	drive(S, 0);
	sched_block(&lp, &vps[1], now);
	pick();
	now += 30 * MS;
	assert_true(sched_wake(&lp, &vps[1], now));
	assert_ptr_equal(pick(), &vps[1]);
	/* It has just run: another sleeper of its kind waits, until it is the one behind. */
	add(2, 100);
	assert_ptr_equal(pick(), &vps[1]);
}

/* A root's VP, heavier and with a reserve: runs at once, whoever is busy, and whoever woke before it. */
static void test_root_runs_at_once(void **state)
{
	(void)state;
	add_with(0, 1000, 0, SHARE(20));
	for (uint32_t i = 1; i < COUNT; i++)
		add(i, 100);
	drive(S, 0);
	for (uint32_t i = 0; i < COUNT; i++)
		sched_block(&lp, &vps[i], now);
	assert_null(pick());
	now += 100 * MS;
	for (uint32_t i = COUNT; i--;)
		sched_wake(&lp, &vps[i], now);
	assert_ptr_equal(pick(), &vps[0]);
	for (uint32_t i = 0; i < 1000; i++) {
		now += 200000;
		sched_block(&lp, &vps[0], now);
		pick();
		now += 2 * MS;
		assert_true(sched_wake(&lp, &vps[0], now));
		assert_ptr_equal(pick(), &vps[0]);
	}
}

/* An hour's sleep is worth no more than a slice. */
static void test_no_hoarding(void **state)
{
	(void)state;
	add(0, 100);
	add(1, 100);
	drive(S, 0);
	sched_block(&lp, &vps[0], now);
	drive(3600 * S, 0);

	uint64_t before = sched_run_ticks(&vps[0]);

	sched_wake(&lp, &vps[0], now);
	drive(100 * MS, 0);
	assert_in_range(sched_run_ticks(&vps[0]) - before, 45 * MS, 65 * MS);
}

/* Seven that wake all the time beside one that is busy: it has its eighth. */
static void test_no_starvation_by_wakes(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < COUNT; i++)
		add(i, 100);
	pick();
	while (now < 20 * S) {
		struct sched_vp *vp = pick();

		now = deadline < now + MS ? deadline : now + MS;
		if (vp != &vps[0]) {
			sched_block(&lp, vp, now);
			pick();
			now += 10000;
			sched_wake(&lp, vp, now);
		}
	}
	assert_in_range(share(0, 0, now), 1200, 1400);
}

/* Debts outlast a nap: running too long and sleeping a little doesn't pay. */
static void test_debt_is_kept(void **state)
{
	(void)state;
	add(0, 100);
	add(1, 100);
	drive(S, 0);
	while (pick() != &vps[0])
		now = deadline;
	now += 30 * MS; /* late: it ran three slices */
	sched_block(&lp, &vps[0], now);
	pick();
	now += 100000;
	sched_wake(&lp, &vps[0], now);
	assert_ptr_equal(pick(), &vps[1]);
	now += 15 * MS;
	assert_ptr_equal(pick(), &vps[1]);
}

/* But not for ever, though nobody else ran meanwhile. */
static void test_debt_is_forgotten(void **state)
{
	(void)state;
	add(0, 100);
	add(1, 100);
	drive(S, 0);
	while (pick() != &vps[0])
		now = deadline;
	now += 70 * MS;
	sched_block(&lp, &vps[0], now);
	sched_block(&lp, &vps[1], now);
	assert_null(pick());
	now += 2 * S;

	uint64_t before = sched_run_ticks(&vps[0]);

	sched_wake(&lp, &vps[0], now);
	sched_wake(&lp, &vps[1], now);
	drive(60 * MS, 0);
	assert_in_range(share(0, before, 60 * MS), 3500, 6500);
}

/* What a reserve gave beyond the weight isn't taken back when it ends, and doesn't keep others behind. */
static void test_reserve_makes_no_debt(void **state)
{
	(void)state;
	add_with(0, 100, 0, SHARE(80));
	add(1, 100);
	drive(10 * S, 0);
	assert_share(0, 10 * S, 8000);
	sched_set_params(&lp, &vps[0], &(struct sched_params){ .weight = 100 }, now);

	uint64_t before = sched_run_ticks(&vps[0]);

	drive(100 * MS, 0);
	assert_in_range(share(0, before, 100 * MS), 3500, 5500);
}

/* Who yields makes room though it comes first; what it was owed is gone, and it has its turn again. */
static void test_give_way(void **state)
{
	(void)state;
	assert_false(sched_give_way(&lp, now)); /* nobody */
	add(0, 100);
	pick();
	assert_false(sched_give_way(&lp, now)); /* alone */
	add(1, 100);
	add(2, 100);
	drive(S, 0);
	for (uint32_t i = 0; i < 1000; i++) {
		struct sched_vp *before = pick();
		uint64_t ran = sched_run_ticks(before);

		assert_true(sched_give_way(&lp, now));
		assert_ptr_not_equal(pick(), before);
		assert_int_equal(sched_run_ticks(before), ran);
		now += 1000;
	}
	drive(3 * S, 0); /* all of them did: as if nobody had */
	for (uint32_t i = 0; i < 3; i++)
		assert_in_range(sched_run_ticks(&vps[i]), 4 * S / 3 - 40 * MS, 4 * S / 3 + 40 * MS);
}

/* However long one yields, it is owed nothing for it: then it has its share, not more. */
static void test_give_way_is_for_good(void **state)
{
	uint64_t before;

	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		add(i, 100);
	for (uint32_t i = 0; i < 10000; i++) {
		if (pick() == &vps[0]) {
			now += 10000;
			assert_true(sched_give_way(&lp, now));
			assert_ptr_not_equal(pick(), &vps[0]);
		}
		now = deadline;
	}
	before = sched_run_ticks(&vps[0]);
	drive(200 * MS, 0);
	assert_in_range(share(0, before, 200 * MS), 2500, 4200);
}

/* Nobody who still has a reserve to get makes room for those who don't; and others' yielding doesn't outlive its turn. */
static void test_give_way_of_the_urgent(void **state)
{
	(void)state;
	add(0, 100);
	pick();
	now += S;
	add_with(1, 100, 0, SHARE(20));
	assert_ptr_equal(pick(), &vps[1]);
	assert_int_equal(vps[1].state, SCHED_URGENT);
	assert_false(sched_give_way(&lp, now));
	assert_ptr_equal(pick(), &vps[1]);
	add_with(2, 100, 0, SHARE(20));
	assert_true(sched_give_way(&lp, now));
	assert_ptr_equal(pick(), &vps[2]);
	assert_true(sched_give_way(&lp, now));
	sched_block(&lp, &vps[2], now);
	assert_ptr_equal(pick(), &vps[1]);
	assert_false(lp.gives_way);
}

static void test_block_waiting(void **state)
{
	(void)state;
	add(0, 100);
	add(1, 100);
	pick();
	sched_block(&lp, &vps[1], now);
	assert_int_equal(sched_load(&lp), 100);
	assert_ptr_equal(pick(), &vps[0]);
	assert_int_equal(deadline, UINT64_MAX);
}

static void test_block_throttled(void **state)
{
	(void)state;
	add_with(0, 100, SHARE(10), 0);
	pick();
	now = deadline;
	assert_null(pick());
	assert_true(deadline < now + 30 * MS);
	assert_int_equal(vps[0].state, SCHED_THROTTLED);
	sched_block(&lp, &vps[0], now);
	assert_null(pick());
	assert_int_equal(deadline, UINT64_MAX);
	/* Its budget is still empty; an idle LP must be told when it isn't. */
	assert_true(sched_wake(&lp, &vps[0], now));
	assert_null(pick());
	assert_true(deadline < now + 30 * MS);
	now = deadline;
	assert_ptr_equal(pick(), &vps[0]);
}

static void test_set_params_of_current(void **state)
{
	(void)state;
	add(0, 100);
	add(1, 100);
	drive(S, 0);
	assert_ptr_equal(pick(), lp.current);

	uint32_t current = (uint32_t)(lp.current - vps);
	uint64_t before = sched_run_ticks(&vps[current]);

	assert_true(sched_set_params(&lp, &vps[current], &(struct sched_params){ .weight = 900 }, now));
	assert_ptr_equal(lp.current, &vps[current]);
	assert_int_equal(sched_load(&lp), 1000);
	drive(10 * S, 0);
	assert_in_range(share(current, before, 10 * S), 8950, 9050);
}

static void test_set_params_of_waiting(void **state)
{
	(void)state;
	add(0, 100);
	add(1, 100);
	drive(S, 0);
	pick();

	uint32_t waiting = lp.current == &vps[0];
	uint64_t before = sched_run_ticks(&vps[waiting]);

	assert_true(sched_set_params(&lp, &vps[waiting],
				     &(struct sched_params){ .weight = 100, .cap = SHARE(10) }, now));
	drive(10 * S, 0);
	assert_in_range(share(waiting, before, 10 * S), 985, 1010);
	before = sched_run_ticks(&vps[waiting]);
	assert_true(sched_set_params(&lp, &vps[waiting],
				     &(struct sched_params){ .weight = 300, .reserve = SHARE(1) }, now));
	drive(10 * S, 0);
	assert_in_range(share(waiting, before, 10 * S), 7400, 7600);
}

static void test_set_params_of_blocked(void **state)
{
	(void)state;
	sched_vp_init(&vps[0], &(struct sched_params){ .weight = 100 });
	assert_false(sched_set_params(&lp, &vps[0], &(struct sched_params){ .weight = 250 }, now));
	sched_wake(&lp, &vps[0], now);
	assert_int_equal(sched_load(&lp), 250);
}

static void test_params_valid(void **state)
{
	(void)state;
	static const struct {
		struct sched_params params;
		bool valid;
	} cases[] = {
		{ { 100, 0, 0 }, true },
		{ { 1, 0x10000, 0x10000 }, true },
		{ { 10000, 1, 1 }, true },
		{ { 0, 0, 0 }, false },
		{ { 10001, 0, 0 }, false },
		{ { 100, 0x10001, 0 }, false },
		{ { 100, 0, 0x10001 }, false },
		{ { 100, 0x4000, 0x4001 }, false },
		{ { 100, UINT32_MAX, UINT32_MAX }, false },
		{ { 0x10064, 0, 0 }, false },
	};

	for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(sched_params_valid(&cases[i].params), cases[i].valid);
}

static void test_steal(void **state)
{
	(void)state;
	add(0, 100);
	pick();
	assert_null(sched_steal(&lp, 0, now)); /* who runs stays */
	add(1, 100);
	pick();
	assert_null(sched_steal(&lp, 100, now)); /* 2 and 1 would become 1 and 2 */
	vps[1].pinned = true;
	assert_null(sched_steal(&lp, 0, now));
	vps[1].pinned = false;
	assert_ptr_equal(sched_steal(&lp, 0, now), &vps[1]);
	assert_int_equal(sched_load(&lp), 100);
	assert_true(sched_wake(&other, &vps[1], now));
	assert_int_equal(sched_load(&other), 100);
	assert_ptr_equal(pick(), &vps[0]);
	assert_int_equal(deadline, UINT64_MAX);
	sched_block(&other, &vps[1], now);
}

/* Behind a pinned VP there is one that may go. */
static void test_steal_behind_pinned(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		add(i, 100);
		vps[i].pinned = i != 3;
	}
	pick();
	assert_ptr_equal(sched_steal(&lp, 0, now), &vps[3]);
}

/* Being moved in the middle of its wait costs a VP nothing: it goes to and fro and has its share. */
static void test_moves_keep_what_is_owed(void **state)
{
	(void)state;
	uint64_t there;

	for (uint32_t i = 0; i < 4; i++)
		add(i, i == 3 ? 100 : 400);
	for (uint32_t i = 4; i < 7; i++) {
		sched_vp_init(&vps[i], &(struct sched_params){ .weight = 400 });
		sched_wake(&other, &vps[i], now);
	}
	sched_pick(&lp, now, &deadline);
	sched_pick(&other, now, &there);

	struct sched_lp *at = &lp;

	for (uint64_t end = now + 20 * S, step = 0; now < end; step++) {
		now = deadline < there ? deadline : there;
		sched_pick(&lp, now, &deadline);
		sched_pick(&other, now, &there);
		if (step % 7 == 0 && at->current != &vps[3]) {
			/* Only the light one fits what is asked for here. */
			struct sched_vp *vp = sched_steal(at, sched_load(at) - 101, now);

			if (!vp)
				continue;
			assert_ptr_equal(vp, &vps[3]);
			at = at == &lp ? &other : &lp;
			sched_wake(at, vp, now);
			sched_pick(&lp, now, &deadline);
			sched_pick(&other, now, &there);
		}
	}
	/* A thirteenth of an LP, wherever it is */
	assert_in_range(sched_run_ticks(&vps[3]), 20 * S / 13 * 93 / 100, 20 * S / 13 * 107 / 100);
}

/* Virtual time passes 2^64 and its half, the VPs of the least weights being the fastest through it. */
static void test_virtual_time_wraps(void **state)
{
	static const uint64_t starts[] = { 0 - (S << 15), (1ull << 63) - (S << 15), 0 - 5 * (MS << 16) };

	for (uint32_t i = 0; i < ARRAY_SIZE(starts); i++) {
		setup(state);
		lp.vtime = lp.average = starts[i];
		heap_set_base(&lp.fair, starts[i] - BIT(63));
		add(0, 1);
		add(1, 2);
		add(2, 7);
		drive(10 * S, 0);
		assert_share(0, 10 * S, 1000);
		assert_share(1, 10 * S, 2000);
		assert_share(2, 10 * S, 7000);
		sched_block(&lp, &vps[0], now);
		drive(10 * S, 0);
		sched_wake(&lp, &vps[0], now);
		drive(10 * S, 0);
		assert_in_range(share(0, 0, 20 * S), 990, 1020);
	}
}

/* Years without a call, then all as ever. */
static void test_years(void **state)
{
	(void)state;
	uint64_t years = 20ull * 365 * 86400 * S;

	add_with(0, 1, 0, 1);
	add_with(1, 10000, SHARE(50), SHARE(20));
	sched_block(&lp, &vps[1], now);
	pick();
	now += years;
	pick();
	assert_int_equal(sched_run_ticks(&vps[0]), years);
	sched_set_params(&lp, &vps[0], &(struct sched_params){ .weight = 100 }, now);
	sched_wake(&lp, &vps[1], now);
	sched_set_params(&lp, &vps[1], &(struct sched_params){ .weight = 300 }, now);
	drive(10 * S, 0);
	assert_in_range(share(0, years, 10 * S), 2400, 2600);
	assert_share(1, 10 * S, 7500);
}

/* Any clock: shares and slices are the same. */
static void test_clocks(void **state)
{
	static const uint64_t clocks[] = { 1000000, 19200000, 3312345678, 6000000000 };

	for (uint32_t i = 0; i < ARRAY_SIZE(clocks); i++) {
		setup(state);
		sched_init(clocks[i]);
		add_with(0, 100, SHARE(20), 0);
		add_with(1, 10, 0, SHARE(30));
		add(2, 500);
		drive(10 * clocks[i], 0);
		assert_in_range(share(0, 0, 10 * clocks[i]), 1150, 1210); /* a sixth of 70 % */
		assert_share(1, 10 * clocks[i], 3000);
		assert_true(longest <= clocks[i] / 90);
	}
	sched_init(S);
}

static void test_place(void **state)
{
	(void)state;
	struct sched_vp *vp = &vps[0];

	sched_vp_init(vp, &(struct sched_params){ .weight = 100 });
	assert_int_equal(sched_place(vp, 0, (uint64_t[]){ 0, 0 }, 2), -1); /* warm and idle */
	assert_int_equal(sched_place(vp, 100, (uint64_t[]){ 50, 0 }, 2), 1);
	assert_int_equal(sched_place(vp, 100, (uint64_t[]){ 100, 90 }, 2), -1);
	assert_int_equal(sched_place(vp, 300, (uint64_t[]){ 200, 100 }, 2), 1);
	assert_int_equal(sched_place(vp, 1000, (uint64_t[]){ 900, 850 }, 2), -1); /* less than a quarter */
	assert_int_equal(sched_place(vp, 100, NULL, 0), -1);
	vp->pinned = true;
	assert_int_equal(sched_place(vp, 1000, (uint64_t[]){ 0 }, 1), -1);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nobody),
		TEST(test_alone),
		TEST(test_second_sets_a_deadline),
		TEST(test_slices_follow_the_crowd),
		TEST(test_weights),
		TEST(test_extreme_weights),
		TEST(test_late_picks),
		TEST(test_cap_alone),
		TEST(test_cap_in_short_windows),
		TEST(test_cap_beside_others),
		TEST(test_tiny_cap),
		TEST(test_no_cap),
		TEST(test_cap_of_a_sleeper),
		TEST(test_reserve),
		TEST(test_reserve_below_fair_share),
		TEST(test_reserves_of_a_full_lp),
		TEST(test_reserve_and_cap),
		TEST(test_wake_preempts),
		TEST(test_root_runs_at_once),
		TEST(test_no_hoarding),
		TEST(test_no_starvation_by_wakes),
		TEST(test_debt_is_kept),
		TEST(test_debt_is_forgotten),
		TEST(test_reserve_makes_no_debt),
		TEST(test_give_way),
		TEST(test_give_way_is_for_good),
		TEST(test_give_way_of_the_urgent),
		TEST(test_block_waiting),
		TEST(test_block_throttled),
		TEST(test_set_params_of_current),
		TEST(test_set_params_of_waiting),
		TEST(test_set_params_of_blocked),
		TEST(test_params_valid),
		TEST(test_steal),
		TEST(test_steal_behind_pinned),
		TEST(test_moves_keep_what_is_owed),
		TEST(test_virtual_time_wraps),
		TEST(test_years),
		TEST(test_clocks),
		TEST(test_place),
	};

	return cmocka_run_group_tests_name("sched", tests, NULL, NULL);
}
