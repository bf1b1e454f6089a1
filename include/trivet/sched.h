/* SPDX-License-Identifier: MIT */
/*
 * Which VP runs on an LP, and until when. Pure logic: no hardware, no locks, no memory of its own; the hypervisor and the host simulator
 * (tests/sim) link the same objects. How it decides and why: docs/scheduler.md.
 *
 * Each LP has a scheduler of its own (struct sched_lp) which only its owner calls; the functions that others may call say so. Time is
 * in ticks of a 64-bit clock, `now`, which never goes back on one LP; between LPs it may differ a little. The protocol: a VP is
 * somebody's by sched_wake until sched_block or sched_steal takes it off. sched_pick says who runs from now on and when it wants to be
 * called again at the latest. Whoever gets SCHED_CHOOSE from sched_wake, or true from sched_set_params, calls sched_pick at once.
 */
#ifndef TRIVET_SCHED_H
#define TRIVET_SCHED_H

#include <stdatomic.h>
#include <trivet/heap.h>
#include <trivet/types.h>

/*
 * HvPartitionPropertyCpuWeight, CpuCap and CpuReserve, in the hypercall's units: cap and reserve are shares of one LP for each VP of the
 * partition, 0x10000 is all of it, and a reserve isn't greater than the cap. A cap of 0x10000 is the ABI's "none"; 0 means that too.
 */
#define SCHED_SHARE_ONE 0x10000u
#define SCHED_WEIGHT_MAX 10000u
#define SCHED_WEIGHT_DEFAULT 100u

struct sched_params {
	uint32_t weight;
	uint32_t cap;
	uint32_t reserve;
};

/* What a guest may ask for; sched_vp_init and sched_set_params take nothing else. */
static inline bool sched_params_valid(const struct sched_params *params)
{
	uint32_t cap = params->cap ? params->cap : SCHED_SHARE_ONE;

	return params->weight >= 1 && params->weight <= SCHED_WEIGHT_MAX && cap <= SCHED_SHARE_ONE &&
	       params->reserve <= cap;
}

enum sched_state {
	SCHED_BLOCKED,	 /* on no LP */
	SCHED_MOVING,	 /* on no LP, taken off one by sched_steal */
	SCHED_FAIR,	 /* runs or waits, in the order of virtual time */
	SCHED_URGENT,	 /* runs or waits, has got less than its reserve */
	SCHED_THROTTLED, /* could run, but its cap is used up */
};

struct sched_lp;

/* Embedded in the VP. */
struct sched_vp {
	struct heap_node queue_node;  /* in the LP's `fair` or `urgent` */
	struct heap_node refill_node; /* in the LP's `refill` */
	uint64_t vtime;		      /* its time served, weighted, on the scale of `home` */
	uint64_t left_vtime;	      /* virtual time of `home` when it left there */
	int64_t cap_budget;	      /* of 1/65536 tick */
	int64_t reserve_budget;
	uint64_t budget_at; /* when the budgets were right */
	_Atomic uint64_t run_ticks;
	const struct sched_lp *home; /* where it last was; NULL: nowhere yet */
	uint16_t weight;
	uint16_t cap;	  /* 0: none */
	uint16_t reserve; /* 0: none */
	uint8_t state;	  /* enum sched_state */
	bool pinned;	  /* never offered to other LPs; set by the caller after sched_vp_init */
};
static_assert(sizeof(struct sched_vp) <= 128, "struct sched_vp is two cache lines");

/* Embedded in the LP. */
struct sched_lp {
	struct heap fair;   /* by virtual time */
	struct heap urgent; /* by when they became urgent */
	struct heap refill; /* by when a cap's or a reserve's budget is full */
	struct sched_vp *current;
	uint64_t charged_at; /* up to here `current` has been charged */
	uint64_t slice_end;
	uint64_t deadline; /* when sched_pick is due */
	bool gives_way;	   /* `current` does: sched_give_way */
	/* Of the VPs that run or wait: the mean of their virtual times, weighted, is average + rest / load, 0 <= rest < load. */
	uint64_t average;
	int64_t rest;
	uint64_t vtime;	       /* the greatest average so far: where VPs join */
	_Atomic uint64_t load; /* sum of their weights */
};
static_assert(sizeof(struct sched_lp) <= 256, "struct sched_lp is four cache lines");

/* Once, before anything else: ticks in a second. */
void sched_init(uint64_t clock_hz);

void sched_lp_init(struct sched_lp *lp);

/* Blocked, not pinned, has never run. */
void sched_vp_init(struct sched_vp *vp, const struct sched_params *params);

/* The VP is on this LP or blocked. true: call sched_pick now. */
bool sched_set_params(struct sched_lp *lp, struct sched_vp *vp, const struct sched_params *params,
		      uint64_t now);

/* What a VP that wakes changes. */
enum sched_change {
	SCHED_GO_ON,
	SCHED_SOONER, /* who runs must stop earlier than sched_pick said, at lp->deadline, because somebody waits now */
	SCHED_CHOOSE, /* call sched_pick now: the VP should run at once */
};

/* The VP, blocked or moving so far, can run, and here. */
enum sched_change sched_wake(struct sched_lp *lp, struct sched_vp *vp, uint64_t now);

/* The VP, on this LP, running or waiting, can't run any more. When it was `current`, call sched_pick before long. */
void sched_block(struct sched_lp *lp, struct sched_vp *vp, uint64_t now);

/*
 * Charges who ran and chooses who runs from now on: it is `current` until the next sched_pick or its sched_block. NULL: nobody can
 * run. *deadline: when to call it again at the latest, later than `now`; UINT64_MAX: no need to.
 */
struct sched_vp *sched_pick(struct sched_lp *lp, uint64_t now, uint64_t *deadline);

/*
 * `current` makes room: it gives up what it is owed, and the next sched_pick chooses whoever comes next, whatever the order says; but nobody who has had his
 * reserve before one who hasn't. true: there is somebody, call sched_pick now.
 */
bool sched_give_way(struct sched_lp *lp, uint64_t now);

/* Charges `current` up to now, so that sched_run_ticks is exact. */
void sched_charge(struct sched_lp *lp, uint64_t now);

/*
 * On the owner of `lp`: a VP which waits here and does better on an LP whose load is `thief_load`, without making that worse off than
 * this one. It is taken off, for sched_wake there. NULL: none.
 */
struct sched_vp *sched_steal(struct sched_lp *lp, uint64_t thief_load, uint64_t now);

/* From any LP, a moment old: sum of the weights of the VPs that run or wait there; 0: idle. VPs without budget don't count. */
static inline uint64_t sched_load(const struct sched_lp *lp)
{
	return atomic_load_explicit(&lp->load, memory_order_relaxed);
}

/* From any LP: ticks that the VP has been charged. What it has run since its LP's last sched_* call isn't in it. */
static inline uint64_t sched_run_ticks(const struct sched_vp *vp)
{
	return atomic_load_explicit(&vp->run_ticks, memory_order_relaxed);
}

/*
 * Where a VP that wakes should go: -1: stay on the LP where it was last (its load, without this VP, is `own_load`), else an index into
 * `loads`, those of a few other LPs: an idle one if the caller knows one, and two chosen at random.
 */
int sched_place(const struct sched_vp *vp, uint64_t own_load, const uint64_t *loads, unsigned int count);

#endif
