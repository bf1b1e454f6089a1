/* SPDX-License-Identifier: MIT */
/*
 * TLFS "EOI Assist", "Virtual Processor Assist Page", "Virtual Processor Idle Sleep State". The hypervisor may leave "No EOI required"
 * clear, and does where the processor completes interrupts itself; what counts is that both ways of ending one are right.
 */
#include "tlfs.h"
#include <hv/vp.h>

#define HIGH 0xb0u
#define LOW 0x50u
#define MS 10000ull
#define IOAPIC 0xfec00000ull

static volatile uint32_t *assist;
static bool offered; /* the processor leaves EOIs to the hypervisor, so there is something to save */
static unsigned int lazy, explicit_ones, order_length;
static uint8_t order[16];
static bool send_low; /* from the handler of HIGH */
static bool was_set, is_clear;

/* As TLFS recommends: take the bit, and write EOI if it was clear. */
static void end_interrupt(void)
{
	if (__sync_fetch_and_and(assist, ~1u) & 1) {
		lazy++;
		return;
	}
	explicit_ones++;
	wrmsr(HV_MSR_EOI, 0);
}

static void handler(struct trap_frame *f)
{
	was_set = *assist & 1;
	if (order_length < sizeof(order))
		order[order_length++] = (uint8_t)f->vector;
	if (send_low && f->vector == HIGH) {
		send_low = false;
		apic_icr(apic_id(), ICR_SELF | LOW);
		is_clear = !(*assist & 1);
	}
	end_interrupt();
}

static void begin(void)
{
	take_interrupts();
	lazy = explicit_ones = order_length = 0;
}

static void lazy_eoi(void)
{
	unsigned int bad = 0;

	begin();
	for (unsigned int i = 0; i < 10; i++) {
		apic_icr(apic_id(), ICR_SELF | (i & 1 ? HIGH : LOW));
		take_interrupts();
	}
	is(order_length, 10, "EOI Assist: ten interrupts, ended as the bit says (%u without EOI)", lazy);
	ok(!offered || lazy == 10, "... an edge-triggered interrupt without another below it needs none");
	ok(!(*assist & 1) && !apic_bit(APIC_ISR, HIGH) && !apic_bit(APIC_ISR, LOW),
	   "... and nothing stays in service");
	begin();
	for (unsigned int i = 0; i < 3; i++) {
		apic_icr(apic_id(), ICR_SELF | LOW);
		apic_icr(apic_id(), ICR_SELF | HIGH);
		take_interrupts();
		take_interrupts();
	}
	ok(order_length == 6 && order[0] == HIGH && order[1] == LOW && order[4] == HIGH && order[5] == LOW,
	   "EOI Assist: with a lower-priority interrupt pending both come");
	ok(explicit_ones >= 3, "... the higher one's bit was clear (%u by EOI)", explicit_ones);
	begin();
	for (unsigned int i = 0; i < 3; i++) {
		send_low = true;
		is_clear = false;
		apic_icr(apic_id(), ICR_SELF | HIGH);
		take_interrupts();
		take_interrupts();
		bad += !is_clear;
	}
	is(bad, 0, "EOI Assist: a lower one requested later clears the bit");
	ok(order_length == 6 && order[0] == HIGH && order[1] == LOW, "... and it comes");
}

/* An interrupt that the guest ends by EOI although it need not. */
static void by_eoi(struct trap_frame *f)
{
	(void)f;
	was_set = *assist & 1;
	order_length++;
	apic_write(APIC_EOI, 0);
}

static void conventional(void)
{
	trap_handlers[HIGH] = by_eoi;
	begin();
	for (unsigned int i = 0; i < 4; i++) {
		apic_icr(apic_id(), ICR_SELF | HIGH);
		take_interrupts();
	}
	is(order_length, 4, "EOI Assist: conventional EOIs work whatever the bit says");
	ok(!apic_bit(APIC_ISR, HIGH), "... and end it");
	trap_handlers[HIGH] = handler;
	*assist = 0;
}

/* Nested: only the innermost may be ended without EOI. */
static unsigned int depth, deepest;

static void nesting(struct trap_frame *f)
{
	depth++;
	if (depth > deepest)
		deepest = depth;
	order_length++;
	if (f->vector == LOW) {
		apic_icr(apic_id(), ICR_SELF | HIGH);
		take_interrupts();
	}
	depth--;
	end_interrupt();
}

static void nested(void)
{
	trap_handlers[HIGH] = trap_handlers[LOW] = nesting;
	begin();
	for (unsigned int i = 0; i < 3; i++) {
		apic_icr(apic_id(), ICR_SELF | LOW);
		take_interrupts();
	}
	trap_handlers[HIGH] = trap_handlers[LOW] = handler;
	ok(order_length == 6 && deepest == 2, "EOI Assist: nested interrupts (%u without EOI)", lazy);
	ok(explicit_ones >= 3 && !apic_bit(APIC_ISR, HIGH) && !apic_bit(APIC_ISR, LOW),
	   "... the outer ones by EOI, and nothing stays in service");
}

/* The PIT's output stays high after its count: a level that the I/O APIC hands on. */
static bool level_bit, level_tmr;
static unsigned int levels;

static void level_handler(struct trap_frame *f)
{
	(void)f;
	levels++;
	level_bit |= *assist & 1;
	level_tmr = apic_bit(APIC_TMR, HIGH + 1);
	outb(0x43, 0x30); /* mode 0 again, for 55 ms: the output falls */
	outb(0x40, 0xff);
	outb(0x40, 0xff);
	*assist = 0;
	wrmsr(HV_MSR_EOI, 0);
}

static void ioapic_write(uint32_t reg, uint32_t value)
{
	*(volatile uint32_t *)IOAPIC = reg;
	*(volatile uint32_t *)(IOAPIC + 0x10) = value;
}

static void level_triggered(void)
{
	if (in_child) {
		skip("EOI Assist: level-triggered interrupts", "a child has no PIT and no I/O APIC");
		return;
	}
	trap_handlers[HIGH + 1] = level_handler;
	outb(0x43, 0x30);
	ioapic_write(0x10 + 2 * 2 + 1, apic_id() << 24);
	ioapic_write(0x10 + 2 * 2, (HIGH + 1) | 0x8000);
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t end = time_100ns() + 50 * MS;

		outb(0x43, 0x30);
		outb(0x40, 100);
		outb(0x40, 0);
		while (levels == i && time_100ns() < end)
			take_interrupts();
	}
	ioapic_write(0x10 + 2 * 2, 0x10000);
	trap_handlers[HIGH + 1] = NULL;
	if (!levels || !level_tmr) {
		skip("EOI Assist: level-triggered interrupts", "the PIT's doesn't come as one here");
		return;
	}
	ok(levels == 3 && !level_bit, "EOI Assist: level-triggered interrupts always need EOI (%u came)",
	   levels);
}

static void idle(void)
{
	unsigned int sleeps = 0;
	uint64_t due, woke;

	if (!(cpuid(HV_CPUID_FEATURES, 0).eax & HV_PRIVILEGE_GUEST_IDLE)) {
		skip("Virtual Processor Idle Sleep State", "not offered");
		return;
	}
	begin();
	apic_icr(apic_id(), ICR_SELF | LOW);
	is(rdmsr(HV_MSR_GUEST_IDLE), 0, "HV_X64_MSR_GUEST_IDLE: with an interrupt pending it returns, 0");
	is(order_length, 0, "... RFLAGS.IF is clear: none was taken");
	take_interrupts();
	is(order_length, 1, "... it is, later");
	due = time_100ns() + 3 * MS;
	wrmsr(HV_MSR_STIMER0_COUNT, due);
	wrmsr(HV_MSR_STIMER0_CONFIG, HV_STIMER_ENABLE | HV_STIMER_DIRECT | LOW << HV_STIMER_VECTOR_SHIFT);
	do {
		rdmsr(HV_MSR_GUEST_IDLE);
		woke = time_100ns();
		sleeps++;
	} while (!apic_bit(APIC_IRR, LOW) && woke < due + 100 * MS);
	ok(sleeps < 10, "HV_X64_MSR_GUEST_IDLE: sleeps (woke %u times)", sleeps);
	ok(woke >= due, "Virtual Processor Idle Sleep State: sleeps until an interrupt arrives, %llu us late",
	   (unsigned long long)(woke - due) / 10);
	is(order_length, 1, "... which is masked, and wakes all the same");
	take_interrupts();
	is(order_length, 2, "... and comes when it may");
}

void tlfs_assist(void)
{
	uint64_t msr = rdmsr(HV_MSR_VP_ASSIST_PAGE);

	offered = cpuid(HV_CPUID_HINTS, 0).eax & HV_HINT_APIC_MSRS;
	assist = (volatile uint32_t *)(msr & ~0xfffull);
	is(try_load((uint64_t)assist), BENEATH,
	   "Virtual Processor Assist Page: a root's isn't there while it is disabled, a child's is RAM");
	wrmsr(HV_MSR_VP_ASSIST_PAGE, msr | 1);
	is(try_store((uint64_t)assist + 0xf00), NO_FAULT, "... enabled, it can be written");
	is(*assist, 0, "... EOI Assist is 0");
	trap_handlers[HIGH] = trap_handlers[LOW] = handler;
	lazy_eoi();
	conventional();
	nested();
	level_triggered();
	idle();
	wrmsr(HV_MSR_VP_ASSIST_PAGE, msr & ~1ull);
	trap_handlers[HIGH] = trap_handlers[LOW] = NULL;
	apic_icr(apic_id(), ICR_SELF | LOW);
	is(came(LOW) >= 1, true, "EOI Assist: disabled, interrupts come and end as ever");
}

/* ---- Woken by another VP ---- */

static volatile uint32_t sleeps, awake;

static void go_to_sleep(unsigned int cpu)
{
	(void)cpu;
	sleeps = 1;
	rdmsr(HV_MSR_GUEST_IDLE);
	awake = 1;
}

void tlfs_idle_others(void)
{
	unsigned int last = cpu_count - 1;

	begin_on(last, go_to_sleep);
	wait_for(&sleeps, 1, 1000000);
	delay_us(2000);
	is(awake, 0, "Virtual Processor Idle Sleep State: VP %u sleeps", last);
	apic_icr(cpu_apic_id[last], 0x4000 | 0x69);
	ok(wait_for(&awake, 1, 3000000), "... an IPI wakes it with its interrupts off");
	end_on(last);
}
