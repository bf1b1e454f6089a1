/* SPDX-License-Identifier: MIT */
/* The machine: events in the order of their time, and what the hypervisor would do at each. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

/* How often an LP looks whether another has much more to do. */
#define BALANCE_NS (50 * SIM_MS)

uint64_t sim_random(struct sim *sim)
{
	sim->random ^= sim->random << 13;
	sim->random ^= sim->random >> 7;
	sim->random ^= sim->random << 17;
	return sim->random * 0x2545F4914F6CDD1Dull;
}

uint64_t sim_random_below(struct sim *sim, uint64_t below)
{
	return (sim_random(sim) >> 11) % below;
}

/* Exponentially distributed: what arrives has no memory. */
static uint64_t random_time(struct sim *sim, uint64_t mean)
{
	double uniform = (double)(sim_random(sim) >> 11) * 0x1p-53;

	return 1000 + (uint64_t)(-log(1.0 - uniform) * (double)mean);
}

struct sim *sim_new(uint32_t lps, uint32_t vps_max, uint64_t seed)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	assert(sim);
	sched_init(SIM_S);
	*sim = (struct sim){ .lp_count = lps, .vps_max = vps_max, .random = seed * 2 + 1 };
	for (uint32_t i = 0; i < 10; i++)
		sim_random(sim);
	sim->lps = calloc(lps, sizeof(*sim->lps));
	sim->vps = calloc(vps_max, sizeof(*sim->vps));
	sim->idle = calloc((lps + 63) / 64, sizeof(*sim->idle));
	assert(sim->lps && sim->vps && sim->idle);
	for (uint32_t i = 0; i < lps; i++) {
		sched_lp_init(&sim->lps[i].sched);
		sim->lps[i].deadline = UINT64_MAX;
		sim->idle[i / 64] |= BIT(i % 64);
	}
	return sim;
}

void sim_free(struct sim *sim)
{
	free(sim->lps);
	free(sim->vps);
	free(sim->idle);
	free(sim);
}

struct sim_vp *sim_add(struct sim *sim, const struct sched_params *params,
		       const struct sim_workload *workload, uint32_t lp)
{
	assert(sim->vp_count < sim->vps_max && lp < sim->lp_count);

	struct sim_vp *vp = &sim->vps[sim->vp_count++];

	*vp = (struct sim_vp){ .params = *params, .workload = *workload, .lp = lp };
	sched_vp_init(&vp->sched, params);
	sim->sleepers += workload->run_ns != 0;

	uint64_t first = workload->fixed ? workload->sleep_ns : sim_random_below(sim, 20 * SIM_MS);

	heap_insert(&sim->events, &vp->event, sim->now + first);
	return vp;
}

static void record(struct sim_latency *latency, uint64_t ns)
{
	uint32_t log2 = ns < SIM_STEPS ? 0 : 63 - (uint32_t)__builtin_clzll(ns);
	/* Steps below 32 ns are of one each. */
	uint64_t step =
		ns < SIM_STEPS ? ns : (uint64_t)(log2 - 4) * SIM_STEPS + (ns >> (log2 - 5)) % SIM_STEPS;

	latency->counts[step]++;
	latency->count++;
	if (ns > latency->max_ns)
		latency->max_ns = ns;
}

uint64_t sim_percentile(const struct sim_latency *latency, double fraction)
{
	double wanted = fraction * (double)latency->count;
	uint64_t sum = 0;

	for (uint64_t step = 0; step < ARRAY_SIZE(latency->counts); step++) {
		sum += latency->counts[step];
		if (sum && (double)sum >= wanted) {
			uint64_t log2 = step / SIM_STEPS + 4;

			return step < SIM_STEPS ? step : (SIM_STEPS + step % SIM_STEPS) << (log2 - 5);
		}
	}
	return latency->max_ns;
}

static void set_event(struct sim *sim, struct heap_node *node, uint64_t at)
{
	if (heap_node_is_queued(node))
		heap_remove(&sim->events, node);
	if (at != UINT64_MAX)
		heap_insert(&sim->events, node, at);
}

static void set_idle(struct sim *sim, uint32_t lp, bool idle)
{
	if (idle)
		sim->idle[lp / 64] |= BIT(lp % 64);
	else
		sim->idle[lp / 64] &= ~BIT(lp % 64);
}

/* An idle LP, the search starting anywhere; UINT32_MAX: none. */
static uint32_t find_idle(struct sim *sim)
{
	uint32_t words = (sim->lp_count + 63) / 64;
	uint32_t start = (uint32_t)sim_random_below(sim, words);

	for (uint32_t i = 0; i < words; i++) {
		uint32_t word = (start + i) % words;

		if (sim->idle[word])
			return word * 64 + (uint32_t)__builtin_ctzll(sim->idle[word]);
	}
	return UINT32_MAX;
}

static struct sim_vp *of_sched(struct sched_vp *sched)
{
	return sched ? container_of(sched, struct sim_vp, sched) : NULL;
}

/* Who runs has run up to now. */
static void account(struct sim *sim, struct sim_lp *lp)
{
	struct sim_vp *vp = lp->running;

	if (vp) {
		vp->ran_ns += sim->now - lp->since;
		if (vp->left_ns != UINT64_MAX)
			vp->left_ns -= sim->now - lp->since;
	}
	lp->since = sim->now;
}

static void pick(struct sim *sim, struct sim_lp *lp);

/* Takes a VP from another LP, and says whether there was one. */
static bool steal(struct sim *sim, struct sim_lp *thief, struct sim_lp *victim)
{
	if (thief == victim)
		return false;
	sim->decisions += 2;

	struct sim_vp *vp = of_sched(sched_steal(&victim->sched, sched_load(&thief->sched), sim->now));

	if (!vp)
		return false;
	vp->lp = (uint32_t)(thief - sim->lps);
	sim->moves++;
	sched_wake(&thief->sched, &vp->sched, sim->now);
	return true;
}

static void balance(struct sim *sim, struct sim_lp *lp, uint32_t tries)
{
	lp->balanced_at = sim->now;
	while (tries--) {
		struct sim_lp *victim = &sim->lps[sim_random_below(sim, sim->lp_count)];

		if (sched_load(&victim->sched) > sched_load(&lp->sched) && steal(sim, lp, victim))
			return;
	}
}

static void started(struct sim *sim, struct sim_vp *vp)
{
	if (!vp->waits)
		return;
	vp->waits = false;
	record(vp->is_root   ? &sim->root_latency :
	       vp->is_modest ? &sim->modest_latency :
			       &sim->other_latency,
	       sim->now - vp->woken_at);
}

/* Asks the scheduler, and again after another LP gave something. */
static void pick(struct sim *sim, struct sim_lp *lp)
{
	struct sim_vp *before = lp->running;

	account(sim, lp);
	if (sim->lp_count > 1 && sim->now - lp->balanced_at > BALANCE_NS)
		balance(sim, lp, 1);
	sim->decisions++;
	lp->running = of_sched(sched_pick(&lp->sched, sim->now, &lp->deadline));
	if (!lp->running && sim->lp_count > 1) {
		balance(sim, lp, 2);
		sim->decisions++;
		lp->running = of_sched(sched_pick(&lp->sched, sim->now, &lp->deadline));
	}
	assert(lp->deadline > sim->now);
	if (lp->running && lp->running != before) {
		sim->switches++;
		started(sim, lp->running);
	}
	set_idle(sim, (uint32_t)(lp - sim->lps), !lp->running);

	uint64_t at = lp->deadline;

	if (lp->running && lp->running->left_ns != UINT64_MAX && sim->now + lp->running->left_ns < at)
		at = sim->now + lp->running->left_ns;
	set_event(sim, &lp->event, at);
}

static void on_lp(struct sim *sim, struct sim_lp *lp)
{
	struct sim_vp *vp = lp->running;

	account(sim, lp);
	if (vp && !vp->left_ns) {
		sim->decisions++;
		sched_block(&lp->sched, &vp->sched, sim->now);
		lp->running = NULL;

		uint64_t sleep = vp->workload.sleep_ns;

		set_event(sim, &vp->event,
			  vp->workload.fixed ? (sim->now / sleep + 1) * sleep :
					       sim->now + random_time(sim, sleep));
	}
	pick(sim, lp);
}

static void choose_lp(struct sim *sim, struct sim_vp *vp)
{
	uint32_t candidates[3], count = 0;
	uint64_t loads[3];
	uint64_t own = sched_load(&sim->lps[vp->lp].sched);

	if (!own || sim->lp_count == 1 || vp->sched.pinned)
		return;

	uint32_t idle = find_idle(sim);

	if (idle != UINT32_MAX)
		candidates[count++] = idle;
	while (count < 3)
		candidates[count++] = (uint32_t)sim_random_below(sim, sim->lp_count);
	for (uint32_t i = 0; i < count; i++)
		loads[i] = sched_load(&sim->lps[candidates[i]].sched);

	int choice = sched_place(&vp->sched, own, loads, count);

	if (choice >= 0 && candidates[choice] != vp->lp) {
		vp->lp = candidates[choice];
		sim->moves++;
	}
}

static void on_wake(struct sim *sim, struct sim_vp *vp)
{
	choose_lp(sim, vp);

	struct sim_lp *lp = &sim->lps[vp->lp];
	uint64_t run = vp->workload.run_ns;

	vp->left_ns = !run ? UINT64_MAX : vp->workload.fixed ? run : random_time(sim, run);
	sim->decisions++;

	bool now = sched_wake(&lp->sched, &vp->sched, sim->now);

	vp->woken_at = sim->now;
	vp->waits = vp->sched.state != SCHED_THROTTLED;
	if (now)
		pick(sim, lp);
}

void sim_run(struct sim *sim, uint64_t until)
{
	struct heap_node *node;

	while ((node = heap_first(&sim->events)) && node->key <= until) {
		char *event = (char *)node;

		assert(node->key >= sim->now);
		sim->now = node->key;
		heap_pop(&sim->events);
		if (event >= (char *)sim->vps && event < (char *)(sim->vps + sim->vp_count))
			on_wake(sim, container_of(node, struct sim_vp, event));
		else
			on_lp(sim, container_of(node, struct sim_lp, event));
	}
	sim->now = until;
	for (uint32_t i = 0; i < sim->lp_count; i++) {
		account(sim, &sim->lps[i]);
		sched_charge(&sim->lps[i].sched, until);
	}
}

void sim_begin(struct sim *sim)
{
	uint64_t *weights = calloc(sim->lp_count, sizeof(*weights)), all = 0;

	assert(weights);
	for (uint32_t i = 0; i < sim->vp_count; i++) {
		weights[sim->vps[i].lp] += sim->vps[i].params.weight;
		all += sim->vps[i].params.weight;
	}
	for (uint32_t i = 0; i < sim->vp_count; i++) {
		struct sim_vp *vp = &sim->vps[i];
		const struct sim_workload *work = &vp->workload;
		uint64_t rivals = vp->sched.pinned ? weights[vp->lp] : all / sim->lp_count;
		double wants =
			work->run_ns ? (double)work->run_ns / (double)(work->run_ns + work->sleep_ns) : 1;
		double cap = vp->params.cap ? vp->params.cap / 65536.0 : 1;

		vp->is_modest = wants < cap / 2 && wants < 0.5 * vp->params.weight / (double)rivals;
	}
	free(weights);
}

void sim_measure(struct sim *sim)
{
	sim->measured_from = sim->now;
	sim->decisions = sim->switches = sim->moves = 0;
	memset(&sim->modest_latency, 0, sizeof(sim->modest_latency));
	memset(&sim->other_latency, 0, sizeof(sim->other_latency));
	memset(&sim->root_latency, 0, sizeof(sim->root_latency));
	for (uint32_t i = 0; i < sim->vp_count; i++)
		sim->vps[i].measured_from = sim->vps[i].ran_ns;
}

double sim_share(const struct sim *sim, const struct sim_vp *vp)
{
	return (double)(vp->ran_ns - vp->measured_from) / (double)(sim->now - sim->measured_from);
}
