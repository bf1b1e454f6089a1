/* SPDX-License-Identifier: MIT */
/*
 * Measures what an exit costs the root, in TSC ticks. Under QEMU's -icount a tick is an instruction, so the
 * numbers are exact and repeatable; bench.py runs this bare and under Trivet and takes the difference.
 * Prints "METRIC name value unit", already less the loop's own cost.
 */
#include "../guests/lib/guest.h"

#define ROUNDS 1000u
#define INTERRUPTS 100u
#define VEC_TIMER 0x50
#define VEC_DEVICE 0x51
#define VEC_SELF 0x52
#define IOAPIC ((volatile uint32_t *)0xfec00000ull)

static void metric(const char *name, uint64_t value)
{
	print("METRIC %s %llu ticks\n", name, (unsigned long long)value);
}

/* Ticks of ROUNDS passes of the assembly text; registers as CPUID uses them are free. */
#define LOOP(text)                                                              \
	({                                                                      \
		uint64_t n_ = ROUNDS, start_ = rdtsc();                         \
		__asm__ volatile("1:\n\t" text "\n\tdecq %0\n\tjnz 1b"          \
				 : "+r"(n_)                                     \
				 : "D"(APIC_PHYS)                               \
				 : "rax", "rbx", "rcx", "rdx", "memory", "cc"); \
		rdtsc() - start_;                                               \
	})

/* `setup` are the instructions that only load registers. The tick per round of the two loops, apart. */
#define MEASURE(name, setup, insn)                                      \
	do {                                                            \
		uint64_t empty_, full_;                                 \
		LOOP(setup "\n\t" insn); /* caches and tables filled */ \
		empty_ = LOOP(setup);                                   \
		full_ = LOOP(setup "\n\t" insn);                        \
		metric(name, (full_ - empty_ + ROUNDS / 2) / ROUNDS);   \
	} while (0)

static volatile uint64_t last_spin, gap_sum, gap_least, gaps;

static void arrived(struct trap_frame *f)
{
	uint64_t gap = rdtsc() - last_spin;

	(void)f;
	apic_write(APIC_EOI, 0);
	gap_sum += gap;
	gaps++;
	if (gap < gap_least)
		gap_least = gap;
}

static void spin_until(uint64_t count)
{
	irq_on();
	while (gaps < count)
		last_spin = rdtsc();
	irq_off();
}

static void reset_gaps(void)
{
	gap_sum = gaps = 0;
	gap_least = ~0ull;
}

static void report_gaps(const char *mean, const char *least)
{
	metric(mean, (gap_sum + gaps / 2) / gaps);
	metric(least, gap_least);
}

static void timer_interrupts(void)
{
	trap_handlers[VEC_TIMER] = arrived;
	apic_write(APIC_TIMER_DIVIDE, 0xb);
	apic_write(APIC_LVT_TIMER, VEC_TIMER);
	reset_gaps();
	for (uint64_t i = 1; i <= INTERRUPTS; i++) {
		apic_write(APIC_TIMER_INITIAL, 50000);
		spin_until(i);
	}
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	report_gaps("interrupt.timer", "interrupt.timer_least");
}

static void ioapic_write(uint32_t reg, uint32_t v)
{
	IOAPIC[0] = reg;
	IOAPIC[4] = v;
}

/* The PIT, which is pin 2 of the I/O APIC: a device's interrupt, edge triggered, to this processor. */
static void device_interrupts(void)
{
	trap_handlers[VEC_DEVICE] = arrived;
	ioapic_write(0x15, apic_id() << 24);
	ioapic_write(0x14, VEC_DEVICE);
	reset_gaps();
	outb(0x43, 0x34);
	outb(0x40, 0xa9); /* 1 ms */
	outb(0x40, 0x04);
	spin_until(INTERRUPTS);
	ioapic_write(0x14, 0x10000);
	report_gaps("interrupt.device", "interrupt.device_least");
}

static void self_interrupts(void)
{
	trap_handlers[VEC_SELF] = arrived;
	reset_gaps();
	for (uint64_t i = 1; i <= INTERRUPTS; i++) {
		irq_on();
		last_spin = rdtsc();
		apic_icr(0, ICR_SELF | ICR_ASSERT | VEC_SELF);
		while (gaps < i)
			;
		irq_off();
	}
	report_gaps("interrupt.self_ipi", "interrupt.self_ipi_least");
}

void test_main(void)
{
	print("METRIC start_tsc %llu tsc\n", (unsigned long long)start_tsc);
	MEASURE("cpuid", "xorl %%eax, %%eax; xorl %%ecx, %%ecx", "cpuid");
	MEASURE("rdmsr.apic_base", "movl $0x1b, %%ecx", "rdmsr");
	MEASURE("rdmsr.efer", "movl $0xc0000080, %%ecx", "rdmsr");
	MEASURE("rdmsr.star", "movl $0xc0000081, %%ecx", "rdmsr");
	MEASURE("apic_page.read_id", "", "movl 0x20(%1), %%eax");
	MEASURE("apic_page.eoi", "xorl %%eax, %%eax", "movl %%eax, 0xb0(%1)");
	MEASURE("apic_page.tpr", "xorl %%eax, %%eax", "movl %%eax, 0x80(%1)");
	MEASURE("mov_cr8", "xorl %%eax, %%eax", "movq %%rax, %%cr8");
	/* Leaves an interrupt pending, so it comes last. */
	MEASURE("apic_page.icr", "movl $0x44052, %%eax", "movl %%eax, 0x300(%1)");
	irq_on(); /* takes the one that is pending */
	delay_us(10);
	irq_off();
	timer_interrupts();
	device_interrupts();
	self_interrupts();
	if (cpuid(1, 0).ecx >> 21 & 1) {
		wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 1u << 10);
		x2apic_on = true;
		MEASURE("apic_msr.eoi", "xorl %%eax, %%eax; xorl %%edx, %%edx; movl $0x80b, %%ecx", "wrmsr");
		MEASURE("apic_msr.tpr", "xorl %%eax, %%eax; xorl %%edx, %%edx; movl $0x808, %%ecx", "wrmsr");
		MEASURE("apic_msr.icr", "movl $0x44052, %%eax; xorl %%edx, %%edx; movl $0x830, %%ecx",
			"wrmsr");
		MEASURE("apic_msr.self_ipi", "movl $0x52, %%eax; xorl %%edx, %%edx; movl $0x83f, %%ecx",
			"wrmsr");
	}
	ok(true, "measured");
}
