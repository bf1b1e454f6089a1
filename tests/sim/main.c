/* SPDX-License-Identifier: MIT */
/*
 * trivet-sim SCENARIO [LPS VPS [SECONDS [SEED [WINDOW_MS]]]]: simulates a second unmeasured and SECONDS measured ones, and prints
 * `name value` lines; with WINDOW_MS also, for each window, `window END_MS` and each VP's share in it. sim.py reads it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "sim.h"

static void print_latency(const char *who, const struct sim_latency *latency)
{
	static const double fractions[] = { 0.5, 0.9, 0.99, 0.999 };
	static const char *const names[] = { "p50", "p90", "p99", "p99.9" };

	printf("%s.wakes %lu\n", who, latency->count);
	for (uint32_t i = 0; i < ARRAY_SIZE(fractions); i++)
		printf("%s.%s_us %.1f\n", who, names[i], (double)sim_percentile(latency, fractions[i]) / 1e3);
	printf("%s.max_us %.1f\n", who, (double)latency->max_ns / 1e3);
}

/* The distribution: what share of the wake-ups took longer than each power of 10^(1/8) in microseconds. */
static void print_distribution(const char *who, const struct sim_latency *latency)
{
	for (uint64_t step = 0, sum = 0; step < ARRAY_SIZE(latency->counts); step++) {
		sum += latency->counts[step];
		if (latency->counts[step] && step >= SIM_STEPS) {
			uint64_t ns = (SIM_STEPS + step % SIM_STEPS) << (step / SIM_STEPS - 1);

			printf("%s.tail %.3f %.7f\n", who, (double)ns / 1e3,
			       (double)(latency->count - sum) / (double)latency->count);
		}
	}
}

static void print_errors(const char *name, struct sim_errors errors)
{
	printf("%s.mean_pct %.4f\n%s.max_pct %.4f\n%s.max_points %.4f\n", name, errors.mean_pct, name,
	       errors.max_pct, name, errors.max_points);
}

static void run_windows(struct sim *sim, uint64_t end, uint64_t window)
{
	uint64_t *before = calloc(sim->vp_count, sizeof(*before));

	if (!before)
		abort();
	for (uint32_t i = 0; i < sim->vp_count; i++)
		before[i] = sim->vps[i].ran_ns;
	while (sim->now < end) {
		sim_run(sim, sim->now + window);
		printf("window %.3f", (double)(sim->now - sim->measured_from) / (double)SIM_MS);
		for (uint32_t i = 0; i < sim->vp_count; i++) {
			uint64_t ran = sim->vps[i].ran_ns;

			printf(" %.6f", (double)(ran - before[i]) / (double)window);
			before[i] = ran;
		}
		printf("\n");
	}
	free(before);
}

static double host_seconds(void)
{
	struct timespec time;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static uint64_t argument(int argc, char **argv, int number, uint64_t otherwise)
{
	return argc > number ? strtoull(argv[number], NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
	uint64_t lps = argument(argc, argv, 2, 1), vps = argument(argc, argv, 3, 4),
		 seconds = argument(argc, argv, 4, 10);
	uint64_t seed = argument(argc, argv, 5, 1), window = argument(argc, argv, 6, 0) * SIM_MS;
	struct sim *sim = argc > 1 && lps && lps <= 65536 && vps <= 10000000 && seconds && seconds < 1000000 ?
				  sim_scenario(argv[1], (uint32_t)lps, (uint32_t)vps, seed) :
				  NULL;

	if (!sim) {
		fprintf(stderr,
			"usage: %s weights|cap|reserve|storm|pinned|mixed [LPS VPS [SECONDS [SEED "
			"[WINDOW_MS]]]]\n",
			argv[0]);
		return 2;
	}
	sim_begin(sim);
	sim_run(sim, SIM_S);
	sim_measure(sim);

	double start = host_seconds();

	if (window)
		run_windows(sim, sim->now + seconds * SIM_S, window);
	else
		sim_run(sim, sim->now + seconds * SIM_S);

	double spent = host_seconds() - start;

	printf("lps %u\nvps %u\nseconds %lu\n", sim->lp_count, sim->vp_count, seconds);
	print_errors("share_error",
		     sim_errors(sim, sim->lp_count > 1 && !sim->vps[sim->vp_count - 1].sched.pinned));
	printf("cap_over_pct %.4f\n", sim_errors(sim, true).cap_over_pct);
	print_latency("modest", &sim->modest_latency);
	print_latency("other", &sim->other_latency);
	print_latency("root", &sim->root_latency);
	printf("decisions %lu\nswitches %lu\nmoves %lu\n", sim->decisions, sim->switches, sim->moves);
	printf("decisions_per_s %.0f\n", (double)sim->decisions / spent);
	print_distribution("modest", &sim->modest_latency);
	print_distribution("root", &sim->root_latency);
	if (sim->vp_count <= 16) {
		for (uint32_t i = 0; i < sim->vp_count; i++)
			printf("vp%u.share %.6f\n", i, sim_share(sim, &sim->vps[i]));
	}
	sim_free(sim);
	return 0;
}
