/* SPDX-License-Identifier: MIT */
/* Populations by name. */
#include <string.h>

#include "sim.h"

static const struct sim_workload busy = { 0 };

#define SHARE(percent) ((uint32_t)((percent)*0x10000 / 100))

static void add(struct sim *sim, uint32_t weight, uint32_t cap, uint32_t reserve,
		const struct sim_workload *workload, uint32_t lp)
{
	struct sched_params params = { .weight = weight, .cap = SHARE(cap), .reserve = SHARE(reserve) };

	sim_add(sim, &params, workload, lp)->sched.pinned = true;
}

/* A root partition's VP: pinned, ten times a guest's weight and a reserve, woken for each interrupt of a device. */
static void add_root(struct sim *sim, uint32_t lp)
{
	struct sched_params params = { .weight = 1000, .reserve = SHARE(20) };
	struct sim_workload workload = { .run_ns = SIM_MS / 5, .sleep_ns = 2 * SIM_MS };
	struct sim_vp *vp = sim_add(sim, &params, &workload, lp);

	vp->sched.pinned = vp->is_root = true;
}

/* Three that never sleep on one LP: 10, 20 and 70 %. */
static void weights(struct sim *sim)
{
	add(sim, 100, 0, 0, &busy, 0);
	add(sim, 200, 0, 0, &busy, 0);
	add(sim, 700, 0, 0, &busy, 0);
}

/* Three of one weight, of which one may have a quarter. */
static void cap(struct sim *sim)
{
	add(sim, 100, 25, 0, &busy, 0);
	add(sim, 100, 0, 0, &busy, 0);
	add(sim, 100, 0, 0, &busy, 0);
}

/* A light one is to have 40 % beside two heavy ones. */
static void reserve(struct sim *sim)
{
	add(sim, 10, 0, 40, &busy, 0);
	add(sim, 1000, 0, 0, &busy, 0);
	add(sim, 1000, 0, 0, &busy, 0);
}

/* A thousand sleepers that wake together each 2 s, beside a busy guest and the root. */
static void storm(struct sim *sim)
{
	struct sim_workload sleeper = { .run_ns = SIM_MS / 2, .sleep_ns = 2 * SIM_S, .fixed = true };

	add_root(sim, 0);
	add(sim, 100, 0, 0, &busy, 0);
	for (uint32_t i = 0; i < 1000; i++)
		add(sim, 100, 0, 0, &sleeper, 0);
}

/* Guests like those of a full machine: a third is busy, some work in bursts, the others wait for input most of the time. */
static void add_guest(struct sim *sim, uint32_t lp, bool pinned)
{
	static const uint32_t weights_of[] = { 50, 100, 100, 100, 100, 200, 400, 1000 };
	static const uint32_t caps[] = { 10, 25, 50, 75 };
	struct sched_params params = { .weight = weights_of[sim_random_below(sim, ARRAY_SIZE(weights_of))] };
	struct sim_workload workload = { 0 };
	uint64_t kind = sim_random_below(sim, 10);

	if (kind >= 3 && kind < 8) {
		workload.run_ns = SIM_MS / 10 + sim_random_below(sim, 2 * SIM_MS);
		workload.sleep_ns = workload.run_ns * (4 + sim_random_below(sim, 40));
	} else if (kind >= 8) {
		workload.run_ns = 20 * SIM_MS + sim_random_below(sim, 80 * SIM_MS);
		workload.sleep_ns = workload.run_ns * (2 + sim_random_below(sim, 6));
	}
	if (!sim_random_below(sim, 7))
		params.cap = SHARE(caps[sim_random_below(sim, ARRAY_SIZE(caps))]);
	else if (!sim_random_below(sim, 10))
		params.reserve = SHARE(2);
	sim_add(sim, &params, &workload, lp)->sched.pinned = pinned;
}

/* Each LP has a root VP and its part of the guests, which stay there or go where there is room. */
static void mixed(struct sim *sim, uint32_t vps, bool pinned)
{
	for (uint32_t i = 0; i < sim->lp_count; i++)
		add_root(sim, i);
	for (uint32_t i = sim->lp_count; i < vps; i++)
		add_guest(sim, i % sim->lp_count, pinned);
}

struct sim *sim_scenario(const char *name, uint32_t lps, uint32_t vps, uint64_t seed)
{
	static const struct {
		const char *name;
		void (*make)(struct sim *sim);
	} single[] = { { "weights", weights }, { "cap", cap }, { "reserve", reserve }, { "storm", storm } };
	struct sim *sim;

	for (uint32_t i = 0; i < ARRAY_SIZE(single); i++) {
		if (!strcmp(name, single[i].name)) {
			sim = sim_new(1, 1100, seed);
			single[i].make(sim);
			return sim;
		}
	}
	if (strcmp(name, "pinned") != 0 && strcmp(name, "mixed") != 0)
		return NULL;
	sim = sim_new(lps, vps > lps ? vps : lps, seed);
	mixed(sim, vps, !strcmp(name, "pinned"));
	return sim;
}
