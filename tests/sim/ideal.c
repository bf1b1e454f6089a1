/* SPDX-License-Identifier: MIT */
/* What each VP should have had, and how far from it it was. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "sim.h"

/*
 * Those whose part isn't to be judged by the whole time: who sleeps, and beside sleepers who has a cap, since in the moments when
 * the others leave less than the cap it loses what it can't have later.
 */
static bool is_given(const struct sim *sim, const struct sim_vp *vp)
{
	return vp->workload.run_ns || (vp->params.cap && sim->sleepers);
}

static double least(const struct sim *sim, const struct sim_vp *vp)
{
	return is_given(sim, vp) ? sim_share(sim, vp) : vp->params.reserve / 65536.0;
}

static double most(const struct sim *sim, const struct sim_vp *vp)
{
	if (is_given(sim, vp))
		return sim_share(sim, vp);
	return vp->params.cap ? vp->params.cap / 65536.0 : 1.0;
}

static double at_level(const struct sim *sim, const struct sim_vp *vp, double level)
{
	double share = level * vp->params.weight;

	return fmin(fmax(share, least(sim, vp)), most(sim, vp));
}

/* VPs members[0..count) share `capacity` LPs: the level at which they use it up, by bisection, or all they may have. */
static void fill(const struct sim *sim, const uint32_t *members, uint32_t count, double capacity,
		 double *ideal)
{
	double low = 0, high = 1;

	for (uint32_t round = 0; round < 100; round++) {
		double level = (low + high) / 2, sum = 0;

		for (uint32_t i = 0; i < count; i++)
			sum += at_level(sim, &sim->vps[members[i]], level);
		*(sum > capacity ? &high : &low) = level;
	}
	for (uint32_t i = 0; i < count; i++)
		ideal[members[i]] = at_level(sim, &sim->vps[members[i]], low);
}

void sim_ideal(const struct sim *sim, bool global, double *ideal)
{
	uint32_t *members = malloc((sim->vp_count + 1) * sizeof(*members));
	uint32_t *first = calloc(sim->lp_count + 1, sizeof(*first));
	uint32_t *place = malloc(sim->lp_count * sizeof(*place));

	assert(members && first && place);
	for (uint32_t i = 0; i < sim->vp_count; i++)
		first[(global ? 0 : sim->vps[i].lp) + 1]++;
	for (uint32_t i = 0; i < sim->lp_count; i++)
		place[i] = first[i + 1] += first[i];
	for (uint32_t i = sim->vp_count; i--;)
		members[--place[global ? 0 : sim->vps[i].lp]] = i;
	for (uint32_t i = 0; i < (global ? 1 : sim->lp_count); i++)
		fill(sim, members + first[i], first[i + 1] - first[i], global ? sim->lp_count : 1, ideal);
	free(members);
	free(first);
	free(place);
}

struct sim_errors sim_errors(const struct sim *sim, bool global)
{
	struct sim_errors errors = { 0 };
	double *ideal = calloc(sim->vp_count + 1, sizeof(*ideal));

	assert(ideal);
	sim_ideal(sim, global, ideal);
	for (uint32_t i = 0; i < sim->vp_count; i++) {
		const struct sim_vp *vp = &sim->vps[i];
		double share = sim_share(sim, vp), cap = vp->params.cap / 65536.0;

		if (cap > 0)
			errors.cap_over_pct = fmax(errors.cap_over_pct, (share / cap - 1) * 100);
		if (is_given(sim, vp) || ideal[i] <= 0)
			continue;

		double off = fabs(share - ideal[i]);

		errors.busy++;
		errors.mean_pct += off / ideal[i] * 100;
		errors.max_pct = fmax(errors.max_pct, off / ideal[i] * 100);
		errors.max_points = fmax(errors.max_points, off * 100);
	}
	if (errors.busy)
		errors.mean_pct /= errors.busy;
	free(ideal);
	return errors;
}
