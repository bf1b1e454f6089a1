/* unit: sched/classic.c sched/fair.c sched/budget.c sched/place.c sched/heap.c tests/sim/sim.c tests/sim/ideal.c tests/sim/scenarios.c */
/* libs: m */
/* SPDX-License-Identifier: MIT */
/* The simulator's scenarios, small: shares, caps, latencies and what is the same with the same seed. The figures: make sim. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <tests/sim/sim.h>

static struct sim *run(const char *name, uint32_t lps, uint32_t vps, uint64_t seconds, uint64_t seed)
{
	struct sim *sim = sim_scenario(name, lps, vps, seed);

	assert_non_null(sim);
	sim_begin(sim);
	sim_run(sim, SIM_S);
	sim_measure(sim);
	sim_run(sim, (1 + seconds) * SIM_S);
	return sim;
}

/* Each LP's time is somebody's while somebody waits, and the scheduler has charged just what was run. */
static void check_sums(const struct sim *sim)
{
	double sum = 0;

	for (uint32_t i = 0; i < sim->vp_count; i++) {
		sum += sim_share(sim, &sim->vps[i]);
		assert_int_equal(sched_run_ticks(&sim->vps[i].sched), sim->vps[i].ran_ns);
	}
	assert_true(sum <= sim->lp_count + 1e-9);
}

static void test_single_lp(void **state)
{
	(void)state;
	static const char *const names[] = { "weights", "cap", "reserve" };

	for (uint32_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct sim *sim = run(names[i], 1, 1, 10, 1);
		struct sim_errors errors = sim_errors(sim, false);

		check_sums(sim);
		assert_int_equal(errors.busy, 3);
		assert_true(errors.max_pct < 1 && errors.cap_over_pct < 1);
		sim_free(sim);
	}
}

/* A thousand wake at once: the root isn't kept waiting, and the busy guest has what the weights give it. */
static void test_storm(void **state)
{
	(void)state;
	struct sim *sim = run("storm", 1, 1, 10, 1);

	check_sums(sim);
	assert_true(sim->modest_latency.count >= 4000);
	assert_true(sim->root_latency.count > 3000);
	assert_true(sim_percentile(&sim->root_latency, 0.99) < SIM_MS);
	assert_true(sim->root_latency.max_ns < 3 * SIM_MS);
	assert_true(sim_errors(sim, false).max_pct < 1);
	sim_free(sim);
}

static void test_pinned(void **state)
{
	(void)state;
	struct sim *sim = run("pinned", 8, 80, 5, 3);
	struct sim_errors errors = sim_errors(sim, false);

	check_sums(sim);
	assert_int_equal(sim->moves, 0);
	assert_true(errors.busy >= 10);
	assert_true(errors.max_points < 1 && errors.mean_pct < 2 && errors.cap_over_pct < 1);
	assert_true(sim_percentile(&sim->root_latency, 0.99) < SIM_MS);
	sim_free(sim);
}

/* Nobody waits where another LP is idle for long: few VPs spread, and more than LPs use all of them. */
static void test_mixed(void **state)
{
	(void)state;
	struct sim *sim = run("mixed", 16, 160, 3, 2);
	double sum = 0;

	check_sums(sim);
	assert_true(sim->moves > 0);
	for (uint32_t i = 0; i < sim->vp_count; i++)
		sum += sim_share(sim, &sim->vps[i]);
	assert_true(sum > 15.9);
	assert_true(sim_errors(sim, true).mean_pct < 25);
	assert_true(sim_errors(sim, true).cap_over_pct < 1);
	assert_true(sim_percentile(&sim->root_latency, 0.99) < SIM_MS);
	assert_true(sim_percentile(&sim->modest_latency, 0.99) < 10 * SIM_MS);
	sim_free(sim);
}

static void test_same_seed_same_run(void **state)
{
	(void)state;
	struct sim *a = run("mixed", 4, 40, 2, 9), *b = run("mixed", 4, 40, 2, 9),
		   *c = run("mixed", 4, 40, 2, 10);

	assert_int_equal(a->decisions, b->decisions);
	assert_int_equal(a->random, b->random);
	for (uint32_t i = 0; i < a->vp_count; i++)
		assert_int_equal(a->vps[i].ran_ns, b->vps[i].ran_ns);
	assert_int_not_equal(a->decisions, c->decisions);
	sim_free(a);
	sim_free(b);
	sim_free(c);
}

/* The yardstick itself: who may have how much, by hand. */
static void test_ideal(void **state)
{
	(void)state;
	static const struct sim_workload busy = { 0 };
	static const struct {
		struct sched_params params;
		uint32_t lp;
		double local, global;
	} cases[] = {
		{ { 100, 0x4000, 0 }, 0, 0.25, 0.25 }, { { 100, 0, 0 }, 0, 0.25, 0.3125 },
		{ { 200, 0, 0 }, 0, 0.5, 0.625 },      { { 10, 0, 0x8000 }, 1, 0.5, 0.5 },
		{ { 100, 0, 0 }, 1, 0.5, 0.3125 },
	};
	struct sim *sim = sim_new(2, 5, 1);
	double ideal[5];

	/* Together: a cap and a reserve take 0.75 of 2 LPs, and weights of 100, 200 and 100 have the rest. */
	for (uint32_t i = 0; i < 5; i++)
		sim_add(sim, &cases[i].params, &busy, cases[i].lp);
	sim->now = SIM_S;
	sim_ideal(sim, false, ideal);
	for (uint32_t i = 0; i < 5; i++)
		assert_true(ideal[i] > cases[i].local - 1e-9 && ideal[i] < cases[i].local + 1e-9);
	sim_ideal(sim, true, ideal);
	for (uint32_t i = 0; i < 5; i++)
		assert_true(ideal[i] > cases[i].global - 1e-9 && ideal[i] < cases[i].global + 1e-9);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ideal), cmocka_unit_test(test_single_lp),
		cmocka_unit_test(test_storm), cmocka_unit_test(test_pinned),
		cmocka_unit_test(test_mixed), cmocka_unit_test(test_same_seed_same_run),
	};

	return cmocka_run_group_tests_name("sched_sim", tests, NULL, NULL);
}
