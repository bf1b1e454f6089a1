/* SPDX-License-Identifier: MIT */
/* TLFS "Timers": the reference counter, and the page that gives the same time without an exit. */
#include "tlfs.h"
#include <hv/time.h>

#define MSR_TSC 0x10u
#define MSR_TSC_ADJUST 0x3bu
#define MS 10000ull

static volatile struct hv_reference_tsc_page *page;

/* As TLFS writes it down; false: sequence 0, the page has nothing to say. */
static bool time_by_page(uint64_t *time)
{
	uint32_t sequence;
	uint64_t scale, tsc, offset;

	do {
		sequence = page->sequence;
		if (!sequence)
			return false;
		tsc = rdtsc();
		scale = page->scale;
		offset = (uint64_t)page->offset_100ns;
	} while (page->sequence != sequence);
	*time = (uint64_t)((unsigned __int128)tsc * scale >> 64) + offset;
	return true;
}

/* How often the page was not between two readings of the MSR. */
static unsigned int disagreements(unsigned int rounds)
{
	unsigned int bad = 0;

	for (unsigned int i = 0; i < rounds; i++) {
		uint64_t before = time_100ns(), between = 0, after;

		bad += !time_by_page(&between);
		after = time_100ns();
		bad += between < before || between > after;
	}
	return bad;
}

static void counter(void)
{
	uint64_t start = time_100ns(), tsc = rdtsc(), last = start, spent;
	unsigned int bad = 0;

	for (unsigned int i = 0; i < 500; i++) {
		uint64_t now = time_100ns();

		bad += now < last;
		last = now;
	}
	is(bad, 0, "Reference Counter: never goes back");
	delay_us(5000);
	spent = time_100ns() - start;
	tsc = rdtsc() - tsc;
	tsc = tsc * 10000 / (rdmsr(HV_MSR_TSC_FREQUENCY) / 1000);
	ok(spent > tsc * 98 / 100 && spent < tsc * 102 / 100,
	   "Reference Counter: %llu units of 100 ns, by the TSC %llu", (unsigned long long)spent,
	   (unsigned long long)tsc);
	ok(start < 36000000000ull, "Reference Counter: began with the partition, %llu ms ago",
	   (unsigned long long)start / 10000);
}

static void reference_page(void)
{
	uint64_t msr = rdmsr(HV_MSR_REFERENCE_TSC), rate;
	uint32_t sequence;

	page = (volatile struct hv_reference_tsc_page *)(msr & ~0xfffull);
	ok(!(msr & 1), "Reference TSC Page MSR: disabled at the start");
	is(try_load((uint64_t)page), BENEATH, "... and a root's page isn't there, a child's RAM is");
	wrmsr(HV_MSR_REFERENCE_TSC, msr | 1);
	is(rdmsr(HV_MSR_REFERENCE_TSC), msr | 1, "... enabled");
	sequence = page->sequence;
	ok(sequence != 0 && sequence != ~0u, "HV_REFERENCE_TSC_PAGE: the sequence is valid");
	is(page->reserved, 0, "... reserved is 0");
	rate = (uint64_t)((unsigned __int128)rdmsr(HV_MSR_TSC_FREQUENCY) * page->scale >> 64);
	ok(rate >= 9999000 && rate <= 10001000,
	   "... TscScale makes 10 MHz of HV_X64_MSR_TSC_FREQUENCY (%llu)", (unsigned long long)rate);
	is(disagreements(300), 0, "Partition Reference TSC Mechanism: the page is the MSR's time");
	is(page->sequence, sequence, "... the sequence stays while nothing changes");
	wrmsr(HV_MSR_REFERENCE_TSC, msr);
	is(try_load((uint64_t)page), BENEATH, "Reference TSC Page MSR: disabled again");
	ok(time_100ns() > 0, "... the counter goes on");
	wrmsr(HV_MSR_REFERENCE_TSC, msr | 1);
	is(disagreements(50), 0, "... enabled again, it is right again");
}

/* By exactly `ticks`, where the processor can: Bochs' TSC deadline doesn't know of a moved TSC, so ours must come back to the tick. */
static void move_tsc(int64_t ticks)
{
	if (cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ebx & 2))
		wrmsr(MSR_TSC_ADJUST, rdmsr(MSR_TSC_ADJUST) + (uint64_t)ticks);
	else
		wrmsr(MSR_TSC, rdtsc() + (uint64_t)ticks);
}

/* The time that all VPs agree on is not the TSC, which a guest may write. */
static void moved_tsc(void)
{
	static const int64_t moves[] = { 1000000000, -500000000, 123456789012345 };
	int64_t sum = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(moves); i++) {
		uint64_t before = time_100ns(), after, by_page = 0;
		bool valid;

		move_tsc(moves[i]);
		sum += moves[i];
		after = time_100ns();
		ok(after >= before && after - before < 2000 * MS,
		   "Reference Counter: a written TSC doesn't move it (%lld units)",
		   (long long)(after - before));
		valid = time_by_page(&by_page);
		ok(!valid || (by_page >= after && by_page <= time_100ns()),
		   "Partition Reference TSC Mechanism: the page is right, or says that it isn't");
	}
	move_tsc(-sum);
	is(disagreements(50), 0, "... and right when the TSC is back");
}

void tlfs_time(void)
{
	counter();
	reference_page();
	moved_tsc();
	wrmsr(HV_MSR_REFERENCE_TSC, rdmsr(HV_MSR_REFERENCE_TSC) & ~1ull);
}

/* ---- Over several VPs: who reads later never reads less ---- */

#define TURNS 100u

static volatile uint64_t last_time;
static volatile uint32_t turn, went_back;
static bool by_page;
/*
 * Without IA32_TSC_ADJUST the hypervisor measures how far a write moves a TSC. On an emulator whose host runs something else at that
 * moment it measures that too.
 */
static uint64_t slack_100ns;

static void take_turns(unsigned int cpu)
{
	for (unsigned int i = 0; i < TURNS; i++) {
		uint64_t now = 0;

		while (turn % 2 != (cpu != 0))
			cpu_pause();
		if (!by_page || !time_by_page(&now))
			now = time_100ns();
		if (now + slack_100ns < last_time)
			went_back++;
		last_time = now;
		barrier();
		turn++;
	}
}

static uint32_t compare_with(unsigned int cpu, bool page_too)
{
	by_page = page_too;
	went_back = turn = 0;
	last_time = 0;
	begin_on(cpu, take_turns);
	take_turns(0);
	end_on(cpu);
	return went_back;
}

static void advance_tsc(unsigned int cpu)
{
	(void)cpu;
	move_tsc(500000000);
}

static void retard_tsc(unsigned int cpu)
{
	(void)cpu;
	move_tsc(-500000000);
}

void tlfs_time_others(void)
{
	unsigned int last = cpu_count - 1;

	is(compare_with(last, false), 0, "Reference Counter: never goes back from one VP to another");
	wrmsr(HV_MSR_REFERENCE_TSC, rdmsr(HV_MSR_REFERENCE_TSC) | 1);
	page = (volatile struct hv_reference_tsc_page *)(rdmsr(HV_MSR_REFERENCE_TSC) & ~0xfffull);
	is(compare_with(last, true), 0, "... nor by the page, mixed with the MSR where it isn't valid");
	if (!(cpuid(7, 0).ebx >> 1 & 1))
		slack_100ns = 2000000;
	run_on(last, advance_tsc);
	ok(!page->sequence || compare_with(last, true) == 0,
	   "HV_REFERENCE_TSC_PAGE: with TSCs that differ, sequence 0 or the right time");
	is(compare_with(last, false), 0, "... the counter is the same on both");
	run_on(last, retard_tsc);
	is(compare_with(last, true), 0, "... and with equal ones again");
	wrmsr(HV_MSR_REFERENCE_TSC, rdmsr(HV_MSR_REFERENCE_TSC) & ~1ull);
}
