/* SPDX-License-Identifier: MIT */
/*
 * What a child's exits cost, as bench_hv.c measures: ticks of the instruction, loop taken off. Those that end in the hypervisor, and
 * the round trips through the monitor in the root (tests/vmm/bench.c), of which the hypervisor's own part is counted from outside.
 */
#include "../guests/lib/hv.h"
#include "bench_child.h"

#define TRIES 50u
#define VECTOR 0x60
#define STEP (2ull << 20)
#define FRESH 64

static uint64_t empty_ticks;

static void metric(const char *name, uint64_t value)
{
	print("METRIC %s %llu ticks\n", name, (unsigned long long)value);
}

/* The least of TRIES: interrupts and the root's work come in some of them. */
#define LEAST(measured)                                       \
	({                                                    \
		uint64_t least_ = ~0ull;                      \
		for (unsigned int i_ = 0; i_ < TRIES; i_++) { \
			uint64_t start_ = rdtsc();            \
			measured;                             \
			start_ = rdtsc() - start_;            \
			if (start_ < least_)                  \
				least_ = start_;              \
		}                                             \
		least_;                                       \
	})

static void report(const char *name, uint64_t ticks)
{
	metric(name, ticks - empty_ticks);
}

/* What the hypervisor counts of itself, in a build that does: include/trivet/count.h. */
#define COUNT_LEAF 0x4f000000u

struct counts {
	uint32_t exits, ticks, switches, switch_ticks, choice_ticks;
};

static bool counted;
static struct counts empty_counts;

static struct counts read_counts(void)
{
	uint32_t choice_ticks = cpuid(COUNT_LEAF, 1).eax;
	struct cpuid_regs regs = cpuid(COUNT_LEAF, 0);

	return (struct counts){ regs.eax, regs.ebx, regs.ecx, regs.edx, choice_ticks };
}

static struct counts counts_since(struct counts before)
{
	struct counts now = read_counts();

	return (struct counts){ now.exits - before.exits, now.ticks - before.ticks,
				now.switches - before.switches, now.switch_ticks - before.switch_ticks,
				now.choice_ticks - before.choice_ticks };
}

/* Of TRIES the one with the least ticks. */
#define LEAST_COUNTS(measured)                                           \
	({                                                               \
		struct counts least_ = { .ticks = UINT32_MAX };          \
		for (unsigned int i_ = 0; counted && i_ < TRIES; i_++) { \
			struct counts counts_ = read_counts();           \
			measured;                                        \
			counts_ = counts_since(counts_);                 \
			if (counts_.ticks < least_.ticks)                \
				least_ = counts_;                        \
		}                                                        \
		least_;                                                  \
	})

static void report_counts(const char *name, struct counts counts)
{
	if (!counted)
		return;
	print("METRIC own.%s %u ticks\n", name, counts.ticks - empty_counts.ticks);
	print("METRIC exits.%s %u exits\n", name, counts.exits - empty_counts.exits);
	print("METRIC switches.%s %u switches\n", name, counts.switches);
	print("METRIC switch_ticks.%s %u ticks\n", name, counts.switch_ticks);
	print("METRIC choice_ticks.%s %u ticks\n", name, counts.choice_ticks);
}

#define MEASURE(name, measured)                              \
	do {                                                 \
		report(name, LEAST(measured));               \
		report_counts(name, LEAST_COUNTS(measured)); \
	} while (0)

static volatile uint64_t arrived;

static void got_it(struct trap_frame *f)
{
	(void)f;
	arrived = rdtsc();
	apic_write(APIC_EOI, 0);
}

/* From the OUT until the handler runs: the monitor asserts it before it lets the VP go on. */
static void comes_back(const char *name, uint16_t port, uint8_t vector)
{
	uint64_t least = ~0ull;
	unsigned int lost = 0;

	trap_handlers[vector] = got_it;
	irq_on();
	for (unsigned int i = 0; i < TRIES; i++) {
		uint64_t start;

		arrived = 0;
		start = rdtsc();
		outl(port, vector);
		for (uint64_t n = 0; !arrived && n < 100000000; n++)
			cpu_pause();
		if (!arrived)
			lost++;
		else if (arrived - start < least)
			least = arrived - start;
	}
	irq_off();
	is(lost, 0, "%s: each interrupt came", name);
	metric(name, least);
}

/* One load of each: the second stage's faults. */
static void first_touches(const char *name, uint64_t area, unsigned int count, uint64_t step)
{
	uint64_t least = ~0ull;
	struct counts own = { .ticks = UINT32_MAX };

	for (unsigned int i = 0; i < count; i++) {
		struct counts counts = read_counts();
		uint64_t start = rdtsc();

		(void)*(volatile uint32_t *)(area + i * step);
		start = rdtsc() - start;
		counts = counts_since(counts);
		if (counts.ticks < own.ticks)
			own = counts;
		if (start < least)
			least = start;
	}
	metric(name, least);
	report_counts(name, own);
}

static void memory(void)
{
	struct cpuid_regs regs = cpuid(COUNT_LEAF, 1);

	if (!counted)
		return;
	print("METRIC child.used_pages %u pages\n", regs.ebx);
	print("METRIC child.gpa_pages %u pages\n", regs.ecx);
}

void test_main(void)
{
	if (!in_child)
		skip_all("it is about children");
	hv_open();
	trap_handlers[VECTOR] = got_it;
	empty_ticks = LEAST();
	counted = read_counts().exits != read_counts().exits;
	empty_counts = LEAST_COUNTS();
	MEASURE("child.cpuid", cpuid(0, 0));
	MEASURE("child.hypercall_null", hv_call(0x7fff, 0, 0));
	MEASURE("child.rdmsr_apic_base", rdmsr(MSR_APIC_BASE));
	MEASURE("child.apic_page_read", apic_read(APIC_VERSION));
	MEASURE("vmm.out", outb(BENCH_PORT, 0));
	MEASURE("vmm.in", inb(BENCH_PORT));
	MEASURE("vmm.unmapped_store", *(volatile uint32_t *)BENCH_UNMAPPED = 1);
	MEASURE("child.doorbell", *(volatile uint32_t *)BENCH_DOORBELL = 1);
	comes_back("vmm.assert_to_handler", BENCH_ASSERT_PORT, VECTOR);
	comes_back("vmm.event_to_handler", BENCH_EVENT_PORT, BENCH_VECTOR);
	first_touches("child.fault", BENCH_PAGES, BENCH_PAGE_COUNT, 4096);
	/* The driver maps as much at once as it finds. */
	first_touches("child.fault_2mib", alloc_memory(FRESH * STEP, STEP), FRESH, STEP);
	memory();
	ok(true, "measured");
}
