/* unit: core/flush.c core/vp_set.c */
/* libs: pthread */
/* SPDX-License-Identifier: MIT */
/*
 * Flushes: who is told, who is waited for, who is left asleep. Then processors as threads, each with a TLB that holds one cached
 * generation of the page table: whoever uses an older one after its flush was reported done has found what hazards.md calls
 * "pages freed before the TLB flush was done on every LP".
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <trivet/flush.h>
#include <trivet/partition.h>
#include <trivet/second_stage.h>
#include <trivet/vp.h>
#include <trivet/vp_set.h>

#define CPUS 4u

struct cpu {
	struct lp lp;
	struct vp vp;
	_Atomic bool interrupt; /* a kick arrived */
	/* Of the thread alone: */
	uint64_t cached; /* generation in the TLB */
	bool cached_valid;
	uint64_t seed;
	uint64_t entries, kicks_taken, flushes_made, halts;
} __attribute__((aligned(64)));

static struct cpu *cpus;
static struct vp *vps[CPUS];
static struct partition partition;
static uint32_t kicks[CPUS];
static void (*on_kick)(struct cpu *cpu);

static struct cpu *cpu_of(struct lp *lp)
{
	return (struct cpu *)(void *)((char *)lp - offsetof(struct cpu, lp));
}

void lp_kick(struct lp *lp)
{
	struct cpu *cpu = cpu_of(lp);

	if (on_kick) {
		kicks[lp->index]++;
		on_kick(cpu);
		return;
	}
	atomic_store(&cpu->interrupt, true);
	sched_yield();
}

/* ---- what flush_and_reclaim() asks of the tables ---- */

static uint64_t noted;
static int reclaims;
static uint64_t grow_during_flush;
static bool waiter_was_idle; /* when the last kick came: it is the first while the flush is being posted */

void ss_note_flush(struct second_stage *ss, uint64_t generation)
{
	assert_true(generation <= ss->generation);
	noted = generation;
	if (generation > ss->flushed_generation)
		ss->flushed_generation = generation;
}

size_t ss_reclaim(struct second_stage *ss)
{
	assert_false(ss_needs_flush(ss));
	reclaims++;
	return 0;
}

static int setup(void **state)
{
	(void)state;
	cpus = aligned_alloc(64, CPUS * sizeof(*cpus));
	if (!cpus)
		return -1;
	memset(cpus, 0, CPUS * sizeof(*cpus));
	memset(&partition, 0, sizeof(partition));
	memset(kicks, 0, sizeof(kicks));
	partition.vps = vps;
	partition.vp_count = CPUS;
	for (uint32_t i = 0; i < CPUS; i++) {
		vps[i] = &cpus[i].vp;
		cpus[i].vp.partition = &partition;
		cpus[i].vp.index = cpus[i].lp.index = i;
		cpus[i].vp.lp = &cpus[i].lp;
		cpus[i].lp.vp = &cpus[i].vp;
		cpus[i].seed = i + 1;
	}
	on_kick = NULL;
	noted = grow_during_flush = 0;
	reclaims = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(cpus);
	return 0;
}

static uint64_t pending_flush(uint32_t index)
{
	return atomic_load(&cpus[index].vp.pending) & VP_PENDING_FLUSH;
}

/* ---- one at a time ---- */

static void obey(struct cpu *cpu)
{
	assert_true(pending_flush(cpu->vp.index)); /* posted before the kick */
	waiter_was_idle = atomic_load(&cpus[0].vp.idle);
	flush_taken(&cpu->vp);
	partition.space.generation += grow_during_flush;
	grow_during_flush = 0;
}

static void running_targets_are_kicked_and_waited_for(void **state)
{
	struct vp_set set;

	(void)state;
	on_kick = obey;
	vp_set_from_mask(&set, &partition, 0xb); /* 0, 1, 3; 0 is the caller */
	flush_vps(&partition, &cpus[0].vp, &set);
	assert_int_equal(kicks[0], 0);
	assert_int_equal(kicks[1], 1);
	assert_int_equal(kicks[2], 0);
	assert_int_equal(kicks[3], 1);
	assert_false(waiter_was_idle); /* all are told before anyone is waited for */
	assert_true(pending_flush(0)); /* before its own next entry */
	assert_false(pending_flush(1));
	assert_false(pending_flush(2));
	assert_false(pending_flush(3));
	assert_int_equal(cpus[1].vp.flushes, 1);
	assert_int_equal(cpus[2].vp.flushes, 0);
	assert_false(atomic_load(&cpus[0].vp.idle)); /* only while it waited */
}

static void caller_outside_the_set_is_not_flushed(void **state)
{
	struct vp_set set;

	(void)state;
	on_kick = obey;
	vp_set_from_mask(&set, &partition, 2);
	flush_vps(&partition, &cpus[0].vp, &set);
	assert_false(pending_flush(0));
	assert_int_equal(kicks[1], 1);
}

/* TLFS "HvCallFlushVirtualAddressSpace" and issue 4: a processor that isn't running is never woken for a flush. */
static void idle_targets_are_neither_kicked_nor_waited_for(void **state)
{
	struct vp_set set;

	(void)state;
	on_kick = obey;
	flush_idle_begin(&cpus[1].vp);
	flush_idle_begin(&cpus[2].vp);
	flush_idle_begin(&cpus[3].vp);
	vp_set_all(&set, &partition);
	flush_vps(&partition, &cpus[0].vp, &set);
	flush_space(&partition, &cpus[0].vp);
	for (uint32_t i = 0; i < CPUS; i++) {
		assert_int_equal(kicks[i], 0);
		assert_true(pending_flush(i)); /* it comes before they run again */
		assert_int_equal(cpus[i].vp.flushes, 0);
	}
	flush_idle_end(&cpus[2].vp);
	flush_space(&partition, &cpus[0].vp);
	assert_int_equal(kicks[1] + kicks[3], 0);
	assert_int_equal(kicks[2], 1);
}

static void look_at_the_waiter(struct cpu *cpu)
{
	/* The first kick comes while posting, the second from the wait. */
	if (kicks[cpu->vp.index] < 2)
		return;
	obey(cpu);
}

/* And a kick that got lost (an APIC too busy to send it) is sent again. */
static void waiter_is_idle_itself(void **state)
{
	(void)state;
	on_kick = look_at_the_waiter;
	flush_idle_begin(&cpus[2].vp);
	flush_idle_begin(&cpus[3].vp);
	flush_space(&partition, &cpus[0].vp);
	assert_true(waiter_was_idle);
	assert_false(atomic_load(&cpus[0].vp.idle));
	assert_int_equal(kicks[1], 2);
}

/* One that is borrowed runs nowhere: should it count as running again, the next flush would wait for it for ever. */
static void a_borrowed_waiter_stays_idle(void **state)
{
	(void)state;
	on_kick = obey;
	flush_idle_begin(&cpus[0].vp);
	flush_space(&partition, &cpus[0].vp);
	assert_true(atomic_load(&cpus[0].vp.idle));
	assert_true(kicks[1] > 0);
	flush_idle_end(&cpus[0].vp);
}

static void go_to_sleep(struct cpu *cpu)
{
	flush_idle_begin(&cpu->vp);
}

static void target_that_goes_to_sleep_ends_the_wait(void **state)
{
	(void)state;
	on_kick = go_to_sleep;
	flush_space(&partition, &cpus[0].vp);
	assert_true(pending_flush(1));
}

/* A flush that the target took before this one was asked for doesn't count. */
static void earlier_flush_does_not_count(void **state)
{
	uint64_t first;

	(void)state;
	on_kick = obey;
	flush_space(&partition, &cpus[0].vp);
	first = atomic_load(&cpus[1].vp.flush_seen);
	flush_space(&partition, &cpus[0].vp);
	assert_true(atomic_load(&cpus[1].vp.flush_seen) > first);
	assert_int_equal(kicks[1], 2);
}

/* A parent changes its child's space: it waits for the child's VPs, idle itself, and has nothing to flush. VPs may be missing. */
static void flush_by_another_partitions_vp(void **state)
{
	static struct partition parent;

	(void)state;
	partition.parent = &parent;
	cpus[0].vp.partition = &parent;
	vps[0] = NULL;
	vps[2] = NULL;
	on_kick = look_at_the_waiter;
	flush_idle_begin(&cpus[3].vp);
	flush_space(&partition, &cpus[0].vp);
	assert_true(waiter_was_idle);
	assert_false(atomic_load(&cpus[0].vp.idle));
	assert_int_equal(kicks[1], 2);
	assert_int_equal(kicks[2] + kicks[3], 0);
	assert_false(pending_flush(0) || pending_flush(2));
	assert_true(pending_flush(3));
}

static void boot_flush_needs_no_processor(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < CPUS; i++)
		flush_idle_begin(&cpus[i].vp);
	flush_space(&partition, NULL);
	for (uint32_t i = 0; i < CPUS; i++)
		assert_true(pending_flush(i));
}

static void tables_go_back_after_the_flush(void **state)
{
	struct second_stage *space = &partition.space;

	(void)state;
	on_kick = obey;
	flush_and_reclaim(&partition, &cpus[0].vp); /* nothing due */
	assert_int_equal(kicks[1], 0);
	assert_int_equal(reclaims, 0);
	space->generation = 5;
	flush_and_reclaim(&partition, &cpus[0].vp);
	assert_int_equal(kicks[1], 1);
	assert_int_equal(noted, 5);
	assert_int_equal(reclaims, 1);
	assert_int_equal(space->flushed_generation, 5);
	assert_false(atomic_flag_test_and_set(&partition.space_lock.held));
}

/* XSA-480 and its like: what another processor changed during the flush stays until its own. */
static void hazard_change_during_the_flush_is_not_reclaimed(void **state)
{
	struct second_stage *space = &partition.space;

	(void)state;
	on_kick = obey;
	space->generation = 5;
	grow_during_flush = 1;
	flush_and_reclaim(&partition, &cpus[0].vp);
	assert_int_equal(noted, 5);
	assert_int_equal(reclaims, 0);
	flush_and_reclaim(&partition, &cpus[0].vp);
	assert_int_equal(noted, 6);
	assert_int_equal(reclaims, 1);
}

/* ---- two at a time ---- */

#define RACES 100000u

static _Atomic uint32_t race, raced;
static uint32_t missed;

static void await(_Atomic uint32_t *what, uint32_t value)
{
	uint32_t spins = 0;

	while (atomic_load_explicit(what, memory_order_acquire) < value)
		if (++spins % 1024 == 0)
			sched_yield();
}

/* Wakes up and looks, again and again. */
static void *wake_up(void *argument)
{
	struct vp *target = argument;

	for (uint32_t i = 1; i <= RACES; i++) {
		await(&race, i);
		flush_idle_end(target);
		/* The exit loop's look before an entry is a plain load. */
		missed += !(atomic_load_explicit(&target->pending, memory_order_relaxed) & VP_PENDING_FLUSH);
		atomic_store_explicit(&raced, i, memory_order_release);
	}
	return NULL;
}

/* Dekker: a target that wakes up sees the bit, or else the poster sees it awake. Both missing it is what a weaker store would do. */
static void hazard_wake_up_races_with_the_flush(void **state)
{
	struct vp *target = &cpus[1].vp;
	uint32_t both_missed = 0;
	pthread_t thread;

	(void)state;
	missed = 0;
	atomic_store(&race, 0);
	atomic_store(&raced, 0);
	flush_idle_begin(target);
	assert_int_equal(pthread_create(&thread, NULL, wake_up, target), 0);
	for (uint32_t i = 1; i <= RACES; i++) {
		uint32_t missed_before = missed;
		bool seen_idle;

		atomic_store_explicit(&race, i, memory_order_relaxed);
		for (uint32_t delay = i % 32; delay; delay--)
			__asm__ volatile("" ::: "memory");
		vp_post(target, VP_PENDING_FLUSH); /* as request() does */
		seen_idle = atomic_load(&target->idle);
		await(&raced, i);
		both_missed += seen_idle && missed != missed_before;
		flush_taken(target);
		flush_idle_begin(target);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(both_missed, 0);
}

/* ---- all at once ---- */

#define ROUNDS 25000u /* of each processor */

static _Atomic uint64_t page_table; /* its generation */
static _Atomic uint64_t done;	    /* the newest generation whose flush was reported done */
static _Atomic bool stale, stop;
static _Atomic uint32_t running;
static bool with_sets;

static uint64_t next_random(struct cpu *cpu)
{
	cpu->seed = cpu->seed * 6364136223846793005ull + 1442695040888963407ull;
	return cpu->seed >> 33;
}

/* One access in guest mode: a TLB hit uses what was cached, whatever the table says now. */
static void access_memory(struct cpu *cpu)
{
	uint64_t reported = atomic_load(&done);

	if (!cpu->cached_valid) {
		cpu->cached = atomic_load(&page_table);
		cpu->cached_valid = true;
	}
	if (cpu->cached < reported)
		atomic_store(&stale, true);
}

/* An interrupt takes its time, and guest mode goes on meanwhile. */
static void run_on(struct cpu *cpu)
{
	for (uint64_t late = next_random(cpu) % 8; late; late--) {
		if (next_random(cpu) % 16 == 0)
			sched_yield();
		access_memory(cpu);
	}
}

/* As the back ends' exit loops: look at `pending` once, then enter; a kick ends guest mode. */
static void enter_guest(struct cpu *cpu, uint64_t steps)
{
	if (atomic_load_explicit(&cpu->vp.pending, memory_order_relaxed)) {
		if (atomic_load(&cpu->vp.pending) & VP_PENDING_FLUSH) {
			flush_taken(&cpu->vp);
			cpu->cached_valid = false;
		}
	}
	if (next_random(cpu) % 64 == 0)
		sched_yield(); /* in the window between the look and the entry */
	cpu->entries++;
	do {
		access_memory(cpu);
		if (atomic_exchange(&cpu->interrupt, false)) {
			cpu->kicks_taken++;
			run_on(cpu);
			return;
		}
	} while (steps-- && !atomic_load(&stop));
}

static void make_flush(struct cpu *cpu)
{
	uint64_t generation = atomic_fetch_add(&page_table, 1) + 1;
	uint64_t reported;
	struct vp_set set;

	if (with_sets) {
		vp_set_from_mask(&set, &partition, UINT64_MAX);
		flush_vps(&partition, &cpu->vp, &set);
	} else {
		flush_space(&partition, &cpu->vp);
	}
	reported = atomic_load(&done);
	while (reported < generation && !atomic_compare_exchange_weak(&done, &reported, generation))
		;
	cpu->flushes_made++;
}

static void halt(struct cpu *cpu, uint64_t how_long)
{
	cpu->halts++;
	flush_idle_begin(&cpu->vp);
	while (how_long-- && !atomic_exchange(&cpu->interrupt, false))
		sched_yield();
	flush_idle_end(&cpu->vp);
}

static void *run_cpu(void *argument)
{
	struct cpu *cpu = argument;

	while (cpu->flushes_made < ROUNDS && !atomic_load(&stale)) {
		uint64_t choice = next_random(cpu) % 8;

		/* Now and then one that only a kick ends. */
		enter_guest(cpu, next_random(cpu) % 256 == 0 ? 100000 : next_random(cpu) % 16);
		if (choice < 5)
			make_flush(cpu);
		else if (choice == 5)
			halt(cpu, next_random(cpu) % 4);
	}
	flush_idle_begin(&cpu->vp); /* gone; the others go on */
	if (atomic_fetch_sub(&running, 1) == 1)
		atomic_store(&stop, true);
	return NULL;
}

static void run_all(void)
{
	pthread_t threads[CPUS];
	uint64_t made = 0, kicked = 0;

	atomic_store(&page_table, 1);
	atomic_store(&done, 0);
	atomic_store(&stale, false);
	atomic_store(&stop, false);
	atomic_store(&running, CPUS);
	alarm(240); /* a deadlock ends here */
	for (uint32_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run_cpu, &cpus[i]), 0);
	for (uint32_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	alarm(0);
	assert_false(atomic_load(&stale));
	for (uint32_t i = 0; i < CPUS; i++) {
		made += cpus[i].flushes_made;
		kicked += cpus[i].kicks_taken;
	}
	assert_int_equal(made, CPUS * ROUNDS);
	assert_true(kicked > 0);
}

static void hazard_flush_returns_only_when_done(void **state)
{
	(void)state;
	with_sets = false;
	run_all();
}

static void hazard_guest_flush_returns_only_when_done(void **state)
{
	(void)state;
	with_sets = true;
	run_all();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		TEST(running_targets_are_kicked_and_waited_for),
		TEST(caller_outside_the_set_is_not_flushed),
		TEST(idle_targets_are_neither_kicked_nor_waited_for),
		TEST(waiter_is_idle_itself),
		TEST(a_borrowed_waiter_stays_idle),
		TEST(target_that_goes_to_sleep_ends_the_wait),
		TEST(earlier_flush_does_not_count),
		TEST(flush_by_another_partitions_vp),
		TEST(boot_flush_needs_no_processor),
		TEST(tables_go_back_after_the_flush),
		TEST(hazard_change_during_the_flush_is_not_reclaimed),
		TEST(hazard_wake_up_races_with_the_flush),
		TEST(hazard_flush_returns_only_when_done),
		TEST(hazard_guest_flush_returns_only_when_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
