/* SPDX-License-Identifier: MIT */
/*
 * A machine that only schedules: LPs with a virtual clock, VPs that run and sleep by chance, and the scheduler's own objects between
 * them. A tick is a nanosecond. The same seed gives the same run.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <trivet/sched.h>

#define SIM_MS 1000000ull
#define SIM_S (1000 * SIM_MS)

/* Who waited how long from sched_wake to its first tick: a histogram with 32 steps to each power of two. */
#define SIM_STEPS 32
struct sim_latency {
	uint64_t counts[64 * SIM_STEPS];
	uint64_t count;
	uint64_t max_ns;
};

struct sim_workload {
	uint64_t run_ns;   /* mean; 0: always busy */
	uint64_t sleep_ns; /* mean */
	bool fixed;	   /* runs for run_ns exactly, and wakes at each multiple of sleep_ns */
};

struct sim_vp {
	struct sched_vp sched;
	struct heap_node event; /* of a sleeper: its wake-up */
	struct sched_params params;
	struct sim_workload workload;
	uint64_t left_ns; /* until it sleeps again */
	uint64_t woken_at;
	uint64_t ran_ns;	/* by the simulator's own clock */
	uint64_t measured_from; /* ran_ns when the measurement began */
	uint32_t lp;		/* where it is or was last */
	bool is_root;
	bool is_modest; /* wants at most half of what its weight and cap give it in any case */
	bool waits;	/* woken, hasn't run yet, and its cap allows it */
};

struct sim_lp {
	struct sched_lp sched;
	struct heap_node event; /* the earlier of the deadline and the end of what its VP has to do */
	struct sim_vp *running;
	uint64_t since;
	uint64_t deadline;
	uint64_t balanced_at;
};

struct sim {
	struct heap events;
	uint64_t now;
	uint64_t measured_from;
	uint64_t random;
	struct sim_lp *lps;
	uint32_t lp_count;
	uint64_t *idle; /* a bit for each LP */
	struct sim_vp *vps;
	uint32_t vp_count;
	uint32_t vps_max;
	uint32_t sleepers; /* VPs that sleep at times */
	struct sim_latency root_latency;
	struct sim_latency modest_latency;
	struct sim_latency other_latency;
	uint64_t decisions; /* calls of sched_wake, sched_block, sched_pick and sched_steal */
	uint64_t switches;
	uint64_t moves;
};

struct sim *sim_new(uint32_t lps, uint32_t vps_max, uint64_t seed);
void sim_free(struct sim *sim);

/* `lp`: where it starts. The returned VP may be changed until it first runs. */
struct sim_vp *sim_add(struct sim *sim, const struct sched_params *params,
		       const struct sim_workload *workload, uint32_t lp);

/* Everything up to, and with, virtual time `until`. */
void sim_run(struct sim *sim, uint64_t until);

/* Once all have been added: finds out who is modest. */
void sim_begin(struct sim *sim);

/* Counts from here on. */
void sim_measure(struct sim *sim);

/* Of the time measured, what the VP ran. */
double sim_share(const struct sim *sim, const struct sim_vp *vp);

uint64_t sim_random(struct sim *sim);

/* In [0, below) */
uint64_t sim_random_below(struct sim *sim, uint64_t below);

/* The latency that a share `fraction` of all wake-ups didn't exceed, within 1/32. */
uint64_t sim_percentile(const struct sim_latency *latency, double fraction);

/*
 * What each VP should have had of the time measured: weighted max-min fair, that is all busy VPs get in proportion to their weight, but
 * none more than its cap or one LP, nor less than its reserve. Those which sleep are taken to want just what they got, and so are
 * those with a cap beside them. `global`: of all LPs together; else of each LP for the VPs that are there. ideal[] has an entry for
 * each VP.
 */
void sim_ideal(const struct sim *sim, bool global, double *ideal);

struct sim_errors {
	double mean_pct; /* of what a busy VP should have got */
	double max_pct;
	double max_points;   /* hundredths of an LP */
	double cap_over_pct; /* the most that a VP got beyond its cap, of the cap */
	uint32_t busy;
};
struct sim_errors sim_errors(const struct sim *sim, bool global);

/* Populations by name; see scenarios.c. NULL: no such name. */
struct sim *sim_scenario(const char *name, uint32_t lps, uint32_t vps, uint64_t seed);

#endif
