/* SPDX-License-Identifier: MIT */
/*
 * What a child's exits cost, as bench_hv.c measures: ticks of the instruction, loop taken off. Those that end in the hypervisor, and
 * the round trips through the monitor in the root (tests/vmm/bench.c), of which the hypervisor's own part is counted from outside.
 */
#include "../guests/lib/hv.h"
#include "bench_child.h"

#define TRIES 50u
#define VECTOR 0x60

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

/* Fresh pages, one load each: the second stage's faults. The driver maps 2 MiB at a time, so the pages are as far apart. */
static void first_touches(void)
{
	const uint64_t step = 2ull << 20;
	uint64_t area = alloc_memory(16 * step, step), least = ~0ull, sum = 0;

	for (unsigned int i = 1; i < 16; i++) {
		uint64_t start = rdtsc();

		(void)*(volatile uint32_t *)(area + i * step);
		start = rdtsc() - start;
		sum += start;
		if (start < least)
			least = start;
	}
	metric("child.fault", least);
	metric("child.fault_mean", sum / 15);
}

void test_main(void)
{
	if (!in_child)
		skip_all("it is about children");
	hv_open();
	trap_handlers[VECTOR] = got_it;
	empty_ticks = LEAST();
	report("child.cpuid", LEAST(cpuid(0, 0)));
	report("child.hypercall_null", LEAST(hv_call(0x7fff, 0, 0)));
	report("child.rdmsr_apic_base", LEAST(rdmsr(MSR_APIC_BASE)));
	report("child.apic_page_read", LEAST(apic_read(APIC_VERSION)));
	report("vmm.out", LEAST(outb(BENCH_PORT, 0)));
	report("vmm.in", LEAST(inb(BENCH_PORT)));
	report("vmm.unmapped_store", LEAST(*(volatile uint32_t *)BENCH_UNMAPPED = 1));
	report("child.doorbell", LEAST(*(volatile uint32_t *)BENCH_DOORBELL = 1));
	comes_back("vmm.assert_to_handler", BENCH_ASSERT_PORT, VECTOR);
	comes_back("vmm.event_to_handler", BENCH_EVENT_PORT, BENCH_VECTOR);
	first_touches();
	ok(true, "measured");
}
