/* SPDX-License-Identifier: MIT */
/*
 * What a monitor does to its guest past the VMBus (mshv-vmbus): interrupts of every kind, and that it hears of their end; time that stands still
 * and is set; which pages were touched.
 */
#include "lib/vmbus.h"
#include <hv/memory.h>
#include <hv/partition.h>
#include <hv/time.h>

#define NOBODY 0xffffffffu
#define LEVEL_VECTOR 0x61u
#define EDGE_VECTOR 0x71u
#define PIC_VECTOR 0x35u
#define PIC_OTHER 0x36u
#define PIN_VECTOR 0x55u
#define STIMER_VECTOR 0x81u
#define NMI 2u
#define LINT0 APIC_LVT_LINT0
#define LINT1 APIC_LVT_LINT1
#define LVT_NMI 0x400u
#define LVT_EXTINT 0x700u
#define FIRST_TIME_MS 3600000u
#define MS 10000ull
#define LATE_US 2000000u

static bool by_synthetic_msr, asserts_again;
static volatile uint32_t ended_before, in_service;

static uint32_t assert_pin(uint32_t type, uint32_t vector)
{
	return ask(VMBUS_ASSERT, type << 16 | vector);
}

static void end(void)
{
	if (by_synthetic_msr)
		wrmsr(HV_MSR_EOI, 0);
	else
		apic_write(APIC_EOI, 0);
}

static void on_interrupt(struct trap_frame *f)
{
	(void)f;
	end();
}

static void on_level(struct trap_frame *f)
{
	(void)f;
	ended_before += ask(VMBUS_ENDED, 0) >> 16;
	in_service += apic_bit(APIC_ISR, LEVEL_VECTOR);
	if (asserts_again) {
		asserts_again = false;
		ask(VMBUS_ASSERT, HV_INTERRUPT_FIXED << 16 | VMBUS_LEVEL | LEVEL_VECTOR);
	}
	end();
}

/* Of an 8259, which the local APIC doesn't hold. */
static void on_other(struct trap_frame *f)
{
	in_service += apic_bit(APIC_ISR, (uint8_t)f->vector);
}

/* ---- Interrupts ---- */

static void level(const char *how)
{
	const uint32_t told = LEVEL_VECTOR | 1u << 16;

	ended_before = in_service = 0;
	ask(VMBUS_ENDED, 0);
	is(assert_pin(HV_INTERRUPT_FIXED, VMBUS_LEVEL | LEVEL_VECTOR), HV_STATUS_SUCCESS,
	   "%s: level-triggered", how);
	ok(apic_bit(APIC_IRR, LEVEL_VECTOR), "%s: ... requested", how);
	is(ask(VMBUS_ENDED, 0) >> 16, 0, "%s: ... the monitor is told nothing", how);
	ok(came(LEVEL_VECTOR) == 1 && in_service == 1 && !ended_before, "%s: ... comes", how);
	is(ask(VMBUS_ENDED, 0), told, "%s: ... and the monitor is told of its end", how);
	asserts_again = true;
	assert_pin(HV_INTERRUPT_FIXED, VMBUS_LEVEL | LEVEL_VECTOR);
	is(came(LEVEL_VECTOR), 2, "%s: asserted again in its handler, it comes again", how);
	is(ended_before + (ask(VMBUS_ENDED, 0) >> 16), 2, "%s: ... and has two ends", how);
	ended_before = 0;
	assert_pin(HV_INTERRUPT_FIXED, LEVEL_VECTOR);
	ok(came(LEVEL_VECTOR) == 1 && ask(VMBUS_ENDED, 0) >> 16 == 0,
	   "%s: edge-triggered, its end is nobody's", how);
	assert_pin(HV_INTERRUPT_LOWEST_PRIORITY, VMBUS_LEVEL | LEVEL_VECTOR);
	ok(came(LEVEL_VECTOR) == 1 && ask(VMBUS_ENDED, 0) == told, "%s: lowest priority, level-triggered",
	   how);
	end();
	is(ask(VMBUS_ENDED, 0) >> 16, 0, "%s: the end of nothing", how);
}

static void of_an_8259(void)
{
	in_service = 0;
	is(assert_pin(HV_INTERRUPT_EXTINT, PIC_VECTOR), HV_STATUS_SUCCESS, "ExtINT");
	ok(!apic_bit(APIC_IRR, PIC_VECTOR), "... isn't the local APIC's");
	ok(came(PIC_VECTOR) == 1 && !in_service, "... comes");
	is(came(PIC_VECTOR), 0, "... once");
	apic_write(APIC_TPR, 0xf0);
	assert_pin(HV_INTERRUPT_EXTINT, PIC_VECTOR);
	assert_pin(HV_INTERRUPT_FIXED, EDGE_VECTOR);
	ok(came(PIC_VECTOR) == 1 && came(EDGE_VECTOR) == 0, "... whatever TPR is, other than a fixed one");
	apic_write(APIC_TPR, 0);
	is(came(EDGE_VECTOR), 1, "... which waits");
	assert_pin(HV_INTERRUPT_EXTINT, PIC_VECTOR);
	assert_pin(HV_INTERRUPT_EXTINT, PIC_OTHER);
	ok(came(PIC_VECTOR) + came(PIC_VECTOR) == 1 && came(PIC_OTHER) == 1, "two of them");
	assert_pin(HV_INTERRUPT_EXTINT, PIC_VECTOR);
	is(ask(VMBUS_CLEAR, 0), HV_STATUS_SUCCESS, "HvCallClearVirtualInterrupt");
	is(came(PIC_VECTOR), 0, "... and it comes no more");
}

static void pins(void)
{
	in_service = 0;
	apic_write(LINT0, LVT_MASKED | PIN_VECTOR);
	assert_pin(HV_INTERRUPT_LOCALINT0, PIC_VECTOR);
	ok(came(PIN_VECTOR) == 0 && came(PIC_VECTOR) == 0, "LINT0, masked");
	apic_write(LINT0, PIN_VECTOR);
	is(assert_pin(HV_INTERRUPT_LOCALINT0, PIC_VECTOR), HV_STATUS_SUCCESS, "LINT0 with a vector");
	ok(came(PIN_VECTOR) == 1 && came(PIC_VECTOR) == 0, "... of its own");
	apic_write(LINT0, LVT_EXTINT);
	assert_pin(HV_INTERRUPT_LOCALINT0, PIC_VECTOR);
	ok(came(PIC_VECTOR) == 1 && !in_service, "LINT0 as ExtINT");
	apic_write(LINT0, LVT_MASKED);
	apic_write(LINT1, LVT_NMI);
	is(assert_pin(HV_INTERRUPT_LOCALINT1, 0), HV_STATUS_SUCCESS, "LINT1 as NMI");
	is(came(NMI), 1, "... comes with interrupts off");
	apic_write(LINT1, LVT_MASKED);
	assert_pin(HV_INTERRUPT_LOCALINT1, 0);
	is(came(NMI), 0, "... masked it doesn't");
	is(assert_pin(HV_INTERRUPT_NMI, 0), HV_STATUS_SUCCESS, "NMI");
	is(came(NMI), 1, "... comes");
}

static uint64_t sleep_begins, sleep_ends;

/* It may come between the look at its count and HLT, which would then be for ever. */
static void on_nmi(struct trap_frame *f)
{
	if (f->rip >= sleep_begins && f->rip < sleep_ends)
		f->rip = sleep_ends;
}

static void sleep_until_nmi(void)
{
	__asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; lea 2f(%%rip), %%rax; mov %%rax, %1;"
			 "1: cmpl %3, %2; jne 2f; hlt; 2:"
			 : "=m"(sleep_begins), "=m"(sleep_ends)
			 : "m"(vector_count[0][NMI]), "r"(seen[NMI])
			 : "rax", "memory", "cc");
}

/* HLT ends by each of them; one that doesn't wake the VP is the end of the test. */
static void wakes(const char *name, uint32_t type, uint32_t pin_vector, uint8_t vector)
{
	uint32_t turns = 0, count;

	ask(VMBUS_ASSERT, VMBUS_LATER | type << 16 | pin_vector);
	for (; vector_count[0][vector] == seen[vector]; turns++) {
		if (vector == NMI)
			sleep_until_nmi(); /* with interrupts off */
		else
			__asm__ volatile("sti; hlt; cli" : : : "memory");
	}
	count = came(vector);
	ok(count == 1 && (turns == 1 || (!turns && vector == NMI)), "%s wakes a VP: %u, after %u", name,
	   count, turns);
}

static void sleeping(void)
{
	for (unsigned int i = 0; i < 3; i++) {
		wakes("a fixed interrupt", HV_INTERRUPT_FIXED, EDGE_VECTOR, EDGE_VECTOR);
		wakes("a level-triggered one", HV_INTERRUPT_FIXED, VMBUS_LEVEL | LEVEL_VECTOR, LEVEL_VECTOR);
		wakes("an ExtINT", HV_INTERRUPT_EXTINT, PIC_VECTOR, PIC_VECTOR);
		wakes("an NMI", HV_INTERRUPT_NMI, 0, NMI);
	}
}

static void refusals(void)
{
	static const uint32_t types[] = { HV_INTERRUPT_SMI, HV_INTERRUPT_REMOTE_READ,
					  HV_INTERRUPT_LOCALINT1 + 1, 15 };

	for (unsigned int i = 0; i < ARRAY_LEN(types); i++)
		is(assert_pin(types[i], EDGE_VECTOR), HV_STATUS_INVALID_PARAMETER, "no interrupt of type %u",
		   types[i]);
	is(assert_pin(HV_INTERRUPT_FIXED, 15), HV_STATUS_INVALID_PARAMETER, "no vector 15");
	is(came(EDGE_VECTOR), 0, "... nothing comes of it");
}

/* ---- Time ---- */

static volatile struct hv_reference_tsc_page *page;

static uint64_t time_100ns(void)
{
	return rdmsr(HV_MSR_TIME_REF_COUNT);
}

static uint64_t by_tsc(uint64_t ticks)
{
	return ticks * 10000 / tsc_khz;
}

static void set_stimer(uint64_t due)
{
	wrmsr(HV_MSR_STIMER0_COUNT, due);
	wrmsr(HV_MSR_STIMER0_CONFIG,
	      HV_STIMER_DIRECT | (uint64_t)STIMER_VECTOR << HV_STIMER_VECTOR_SHIFT | HV_STIMER_ENABLE);
}

static bool await(uint8_t vector)
{
	irq_on();
	wait_for(&vector_count[0][vector], seen[vector] + 1, LATE_US);
	irq_off();
	return came(vector) == 1;
}

static unsigned int disagreements(void)
{
	unsigned int bad = 0;

	for (unsigned int i = 0; i < 50; i++) {
		uint64_t before = time_100ns(), between, after;

		between = (uint64_t)((unsigned __int128)rdtsc() * page->scale >> 64) +
			  (uint64_t)page->offset_100ns;
		after = time_100ns();
		bad += !page->sequence || between < before || between > after;
	}
	return bad;
}

static void frozen_time(void)
{
	uint64_t frozen, after, tsc;

	page = (volatile struct hv_reference_tsc_page *)(rdmsr(HV_MSR_REFERENCE_TSC) & ~0xfffull);
	wrmsr(HV_MSR_REFERENCE_TSC, rdmsr(HV_MSR_REFERENCE_TSC) | HV_PAGE_MSR_ENABLE);
	is(disagreements(), 0, "reference time, by counter and page");
	is(ask(VMBUS_FREEZE, 1), HV_STATUS_SUCCESS, "frozen");
	frozen = time_100ns();
	set_stimer(frozen + MS);
	irq_on();
	delay_us(4000);
	irq_off();
	is(time_100ns(), frozen, "... it stands still");
	is(page->sequence, 0, "... which the page says too");
	is(came(STIMER_VECTOR), 0, "... and its timers with it");
	tsc = rdtsc();
	is(ask(VMBUS_FREEZE, 0), HV_STATUS_SUCCESS, "... until it goes on");
	after = time_100ns();
	ok(after >= frozen && after - frozen <= by_tsc(rdtsc() - tsc) + 1,
	   "... where it stood: %llu units later", (unsigned long long)(after - frozen));
	ok(await(STIMER_VECTOR) && time_100ns() >= frozen + MS, "... and the timer expires, not early");
	is(disagreements(), 0, "... counter and page agree");
}

static void set_time(void)
{
	uint64_t tsc = rdtsc(), now;

	set_stimer(time_100ns() + 600000 * MS);
	is(came(STIMER_VECTOR), 0, "a timer in ten minutes");
	is(ask(VMBUS_TIME, FIRST_TIME_MS), HV_STATUS_SUCCESS, "reference time is set");
	now = time_100ns();
	ok(now >= FIRST_TIME_MS * MS && now - FIRST_TIME_MS * MS <= by_tsc(rdtsc() - tsc) + 1,
	   "... an hour on");
	ok(await(STIMER_VECTOR), "... the timer has expired by it");
	is(disagreements(), 0, "... counter and page agree");
}

/* ---- Pages ---- */

static void touched_pages(void)
{
	uint64_t at = alloc_memory(4 * PAGE, 4 * PAGE);
	volatile uint32_t *four = (volatile uint32_t *)at;
	uint32_t gpn = at / PAGE, states;

	for (unsigned int i = 0; i < 4; i++)
		four[i * PAGE / 4] = i;
	is(ask(VMBUS_TRACK, 1), HV_STATUS_SUCCESS, "pages are tracked");
	ask(VMBUS_PAGES, gpn);
	is(ask(VMBUS_PAGES, gpn), 0, "none was touched");
	four[0] = 1;
	(void)four[2 * PAGE / 4];
	states = ask(VMBUS_PAGES, gpn);
	is(states & 0xff, HV_ACCESS_STATE_ACCESSED | HV_ACCESS_STATE_DIRTY, "one that was written");
	is(states >> 16 & 0xff, HV_ACCESS_STATE_ACCESSED, "... and one that was read");
	is(states & 0xff00ff00, 0, "... and neither");
	is(ask(VMBUS_PAGES, gpn), 0, "with the question they are forgotten");
	four[PAGE / 4] = 1;
	is(ask(VMBUS_PAGES, gpn), (HV_ACCESS_STATE_ACCESSED | HV_ACCESS_STATE_DIRTY) << 8, "another one");
	ask(VMBUS_DIRTY, 0);
	four[3 * PAGE / 4] = 3;
	states = ask(VMBUS_DIRTY, 0);
	ok(states >= 1 && states < 64, "of all RAM, %u pages were written", states);
	ok(ask(VMBUS_IS_DIRTY, gpn + 3) && !ask(VMBUS_IS_DIRTY, gpn) && !ask(VMBUS_IS_DIRTY, gpn + 2),
	   "... and the one that was is there");
	is(ask(VMBUS_TRACK, 0), HV_STATUS_SUCCESS, "tracked no more");
	ok(four[0] == 1 && four[PAGE / 4] == 1 && four[3 * PAGE / 4] == 3, "... the content is what it was");
}

void test_main(void)
{
	static const uint8_t vectors[] = { EDGE_VECTOR, PIN_VECTOR, STIMER_VECTOR };
	static const uint8_t others[] = { PIC_VECTOR, PIC_OTHER };

	if (!in_child || inl(VMBUS_PORT) == NOBODY)
		skip_all("nobody here plays the devices");
	hv_open();
	apic_init();
	for (unsigned int i = 0; i < ARRAY_LEN(vectors); i++)
		trap_handlers[vectors[i]] = on_interrupt;
	for (unsigned int i = 0; i < ARRAY_LEN(others); i++)
		trap_handlers[others[i]] = on_other;
	trap_handlers[LEVEL_VECTOR] = on_level;
	trap_handlers[NMI] = on_nmi;
	level("by memory");
	by_synthetic_msr = true;
	level("by synthetic MSR");
	by_synthetic_msr = false;
	of_an_8259();
	pins();
	sleeping();
	refusals();
	frozen_time();
	set_time();
	touched_pages();
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x400);
	x2apic_on = true;
	level("by x2APIC's MSR");
	is(ask(VMBUS_WRONG, 0), 0, "what the monitor found wrong");
}
