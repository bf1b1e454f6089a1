/* SPDX-License-Identifier: MIT */
/* TLFS "Timers", "Synthetic Timers": what starts and stops each of them, when it may expire, and how that is told. */
#include "tlfs.h"
#include <hv/synic.h>

#define VECTOR 0x90u
#define SINT 2u
#define SINT_VECTOR 0xa0u
#define MS 10000ull /* units of 100 ns */

#define CONFIG(t) (HV_MSR_STIMER0_CONFIG + 2 * (t))
#define COUNT(t) (HV_MSR_STIMER0_COUNT + 2 * (t))
#define DIRECT(t) (HV_STIMER_DIRECT | (uint64_t)(VECTOR + (t)) << HV_STIMER_VECTOR_SHIFT)
#define TO_SINT(s) ((uint64_t)(s) << HV_STIMER_SINT_SHIFT)

static volatile uint64_t stamp; /* reference time at the last interrupt of a timer */

static void on_timer(struct trap_frame *f)
{
	(void)f;
	stamp = time_100ns();
	apic_write(APIC_EOI, 0);
}

static void stop(unsigned int t)
{
	wrmsr(CONFIG(t), 0);
	wrmsr(COUNT(t), 0);
}

static bool enabled(unsigned int t)
{
	return rdmsr(CONFIG(t)) & HV_STIMER_ENABLE;
}

/* Interrupts are taken until one of `vector` came, at most for 500 ms. */
static uint32_t await(uint8_t vector)
{
	uint64_t end = time_100ns() + 500 * MS;
	uint32_t count;

	while (!(count = came(vector)) && time_100ns() < end)
		cpu_pause();
	return count;
}

static uint32_t await_unless(uint8_t vector, uint32_t already)
{
	return already ? 0 : await(vector);
}

static uint32_t during(uint8_t vector, uint64_t duration)
{
	uint64_t end = time_100ns() + duration;
	uint32_t count = 0;

	while (time_100ns() < end)
		count += came(vector);
	return count;
}

/* ---- One-shot, direct ---- */

static void one_shots(void)
{
	unsigned int bad = 0;
	uint64_t due;

	for (unsigned int t = 0; t < 4; t++) {
		uint8_t vector = (uint8_t)(VECTOR + t);
		uint32_t early;
		bool runs;

		due = time_100ns() + 3 * MS;
		wrmsr(COUNT(t), due);
		wrmsr(CONFIG(t), DIRECT(t) | HV_STIMER_ENABLE);
		runs = enabled(t);
		early = came(vector);
		if (time_100ns() < due)
			bad += !runs || early;
		bad += early + await_unless(vector, early) != 1 || stamp < due || enabled(t) ||
		       rdmsr(COUNT(t)) != due;
	}
	is(bad, 0, "Direct Synthetic Timers: one-shot, once, never early, disabled afterwards: all four");
	is(during(VECTOR, 2 * MS), 0, "... and not again");
	due = time_100ns();
	wrmsr(COUNT(0), due - 1);
	wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_ENABLE);
	is(came(VECTOR), 1,
	   "Synthetic Timer Configuration Register: a count in the past expires immediately");
	ok(!enabled(0), "... and is disabled");
	wrmsr(COUNT(0), 1);
	wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_ENABLE);
	is(came(VECTOR), 1, "... however late");
	wrmsr(CONFIG(0), DIRECT(0));
	wrmsr(COUNT(0), ~0ull);
	wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_ENABLE);
	is(during(VECTOR, MS), 0, "Synthetic Timer Count Register: the end of time doesn't come early");
	ok(enabled(0), "... it stays enabled");
	stop(0);
	due = time_100ns() + 2 * MS;
	for (unsigned int t = 0; t < 4; t++) {
		wrmsr(COUNT(t), due + t);
		wrmsr(CONFIG(t), DIRECT(t) | HV_STIMER_ENABLE);
	}
	for (unsigned int t = 0; t < 4; t++)
		bad += await((uint8_t)(VECTOR + t)) != 1;
	is(bad, 0, "Synthetic Timers: all four at once");
}

/* Timer 0 is set up to expire in 5 ms, before which `change` is done; again, if the host took too long over it. */
static void change_before_expiry(void (*change)(void))
{
	uint64_t due;

	do {
		stop(0);
		came(VECTOR);
		due = time_100ns() + 5 * MS;
		wrmsr(COUNT(0), due);
		wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_ENABLE);
		change();
	} while (time_100ns() >= due);
}

static void disable(void)
{
	wrmsr(CONFIG(0), DIRECT(0));
}

static void count_zero(void)
{
	wrmsr(COUNT(0), 0);
}

static uint64_t later;

static void count_later(void)
{
	later = time_100ns() + 15 * MS;
	wrmsr(COUNT(0), later);
}

static void stopping(void)
{
	change_before_expiry(disable);
	is(during(VECTOR, 7 * MS), 0, "Synthetic Timers: disabled, it doesn't expire");
	change_before_expiry(count_zero);
	ok(!enabled(0), "Synthetic Timer Count Register: 0 disables");
	is(during(VECTOR, 7 * MS), 0, "... and stops");
	change_before_expiry(count_later);
	ok(await(VECTOR) == 1 && stamp >= later, "... another count is another time");
	stop(0);
}

static void auto_enable(void)
{
	uint64_t due = time_100ns() + MS;
	bool runs;

	wrmsr(CONFIG(0), DIRECT(0));
	wrmsr(COUNT(0), due);
	ok(!enabled(0), "Synthetic Timer Configuration Register: without AutoEnable a count enables nothing");
	is(during(VECTOR, 2 * MS), 0, "... and it doesn't run");
	wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_AUTO_ENABLE);
	ok(!enabled(0), "... AutoEnable alone doesn't either");
	do {
		due = time_100ns() + 5 * MS;
		wrmsr(COUNT(0), due);
		runs = enabled(0);
	} while (time_100ns() >= due && came(VECTOR));
	ok(runs, "... with AutoEnable a count does");
	is(await(VECTOR), 1, "... and it expires");
	ok(!enabled(0) && (rdmsr(CONFIG(0)) & HV_STIMER_AUTO_ENABLE), "... and keeps AutoEnable");
	wrmsr(COUNT(0), 5);
	is(came(VECTOR), 1, "... a count in the past: immediately");
	wrmsr(COUNT(0), 0);
	ok(!enabled(0), "Synthetic Timer Count Register: 0 disables independent of AutoEnable");
	is(during(VECTOR, MS), 0, "... and nothing comes");
	stop(0);
}

/* ---- Periodic ---- */

static void periodic(uint64_t lazy, const char *name)
{
	uint64_t start = time_100ns(), elapsed;
	uint32_t count = 0;

	wrmsr(COUNT(1), 2 * MS);
	wrmsr(CONFIG(1), DIRECT(1) | HV_STIMER_PERIODIC | HV_STIMER_ENABLE | lazy);
	while (count < 8 && time_100ns() < start + 500 * MS) /* an emulator's timers can be late */
		count += came(VECTOR + 1);
	wrmsr(CONFIG(1), DIRECT(1) | HV_STIMER_PERIODIC | lazy);
	elapsed = time_100ns() - start;
	count += came(VECTOR + 1);
	ok(count >= 8 && count <= elapsed / (2 * MS), "Periodic Timers: %s, %u periods of 2 ms in %llu us",
	   name, count, (unsigned long long)elapsed / 10);
	is(rdmsr(COUNT(1)), 2 * MS, "... its count is the period still");
	is(during(VECTOR + 1, 3 * MS), 0, "... disabled, it ends");
	stop(1);
}

static void odd_periods(void)
{
	uint64_t before;
	uint32_t count;

	wrmsr(COUNT(0), 0);
	wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_PERIODIC | HV_STIMER_ENABLE);
	is(during(VECTOR, MS), 0, "XSA-504: a periodic timer with count 0 doesn't run");
	wrmsr(COUNT(0), 0);
	wrmsr(CONFIG(0),
	      DIRECT(0) | HV_STIMER_PERIODIC | HV_STIMER_AUTO_ENABLE | HV_STIMER_ENABLE | HV_STIMER_LAZY);
	wrmsr(COUNT(0), 0);
	is(during(VECTOR, MS), 0, "XSA-504: ... with AutoEnable and lazy neither");
	stop(0);
	wrmsr(COUNT(0), ~0ull);
	wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_PERIODIC | HV_STIMER_ENABLE);
	is(during(VECTOR, MS), 0, "... the longest period that there is");
	stop(0);
	/* A period of 100 ns can't be kept, and must not keep the VP from doing anything else. */
	before = time_100ns();
	wrmsr(COUNT(0), 1);
	wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_PERIODIC | HV_STIMER_ENABLE);
	count = await(VECTOR) + during(VECTOR, 2 * MS);
	stop(0);
	ok(count >= 1, "... the shortest: %u in %llu us, and the VP goes on", count,
	   (unsigned long long)(time_100ns() - before) / 10);
	came(VECTOR);
}

/* The VP can't take interrupts for some periods: then not all of them come at once for ever. */
static void missed(void)
{
	uint64_t start = time_100ns();
	uint32_t count;

	/* Held back by TPR: with RFLAGS.IF clear Bochs' processor looks at interrupts only now and then. */
	write_cr8(15);
	irq_on();
	wrmsr(COUNT(1), MS);
	wrmsr(CONFIG(1), DIRECT(1) | HV_STIMER_PERIODIC | HV_STIMER_ENABLE | HV_STIMER_LAZY);
	while (time_100ns() < start + 6 * MS ||
	       (!apic_bit(APIC_IRR, VECTOR + 1) && time_100ns() < start + 500 * MS))
		cpu_pause();
	wrmsr(CONFIG(1), DIRECT(1));
	irq_off();
	count = came(VECTOR + 1);
	write_cr8(0);
	ok(count == 0 && came(VECTOR + 1) == 1,
	   "Direct Synthetic Timers: periods that can't be taken are one pending interrupt");
	stop(1);
}

/* ---- Messages ---- */

static void messages(void)
{
	volatile struct hv_message *slot = message_slot(SINT);
	struct hv_timer_message payload;
	unsigned int bad = 0;
	uint64_t due = 0;

	wrmsr(HV_MSR_SINT0 + SINT, SINT_VECTOR);
	for (unsigned int t = 0; t < 4; t++) {
		due = time_100ns() + 2 * MS;
		wrmsr(COUNT(t), due);
		wrmsr(CONFIG(t), TO_SINT(SINT) | HV_STIMER_ENABLE);
		bad += await(SINT_VECTOR) != 1;
		payload = *(struct hv_timer_message *)&slot->payload;
		bad += slot->type != HV_MESSAGE_TIMER_EXPIRED || slot->payload_bytes != 24;
		bad += payload.timer_index != t || payload.reserved || payload.expiration_time_100ns != due;
		bad += payload.delivery_time_100ns < due || payload.delivery_time_100ns > time_100ns();
		slot->type = 0;
		wrmsr(HV_MSR_EOM, 0);
	}
	is(bad, 0, "HV_TIMER_MESSAGE_PAYLOAD: index, expiration and delivery time of each timer");
	for (unsigned int sint = 1; sint < 16; sint++) {
		wrmsr(HV_MSR_SINT0 + sint, SINT_VECTOR);
		wrmsr(COUNT(0), 1);
		wrmsr(CONFIG(0), TO_SINT(sint) | HV_STIMER_ENABLE);
		bad += await(SINT_VECTOR) != 1 || message_slot(sint)->type != HV_MESSAGE_TIMER_EXPIRED;
		message_slot(sint)->type = 0;
		if (sint != SINT)
			wrmsr(HV_MSR_SINT0 + sint, HV_SINT_RESET_VALUE);
	}
	is(bad, 0, "Synthetic Timers: to each SINT but 0");
	wrmsr(COUNT(0), time_100ns() + 1000 * MS);
	wrmsr(CONFIG(0), HV_STIMER_ENABLE);
	ok(!enabled(0), "Synthetic Timer Configuration Register: SINT 0 disables immediately");
	wrmsr(CONFIG(0), HV_STIMER_AUTO_ENABLE);
	wrmsr(COUNT(0), 1);
	is(message_slot(0)->type, 0, "... and AutoEnable doesn't get round it");
	stop(0);
}

static void busy_slot(void)
{
	volatile struct hv_message *slot = message_slot(SINT);

	slot->flags = 0;
	slot->type = 0x123;
	wrmsr(COUNT(2), 1);
	wrmsr(CONFIG(2), TO_SINT(SINT) | HV_STIMER_ENABLE);
	ok(came(SINT_VECTOR) == 0 && slot->type == 0x123,
	   "SynIC Messages: a timer's message waits for its slot");
	is(slot->flags & 1, 1, "... and sets MessagePending there");
	slot->type = 0;
	wrmsr(HV_MSR_EOM, 0);
	ok(await(SINT_VECTOR) == 1 && slot->type == HV_MESSAGE_TIMER_EXPIRED && slot->payload.qwords[0] == 2,
	   "EOM Register: ... it comes then");
	/* Message Sources: each timer has one buffer; periods that find it in use are not told. */
	wrmsr(COUNT(2), MS);
	wrmsr(CONFIG(2), TO_SINT(SINT) | HV_STIMER_PERIODIC | HV_STIMER_ENABLE);
	wait_until_100ns(time_100ns() + 4 * MS);
	wrmsr(CONFIG(2), TO_SINT(SINT));
	slot->type = 0;
	wrmsr(HV_MSR_EOM, 0);
	ok(came(SINT_VECTOR) <= 1, "Message Sources: one message buffer for each timer");
	slot->type = 0;
	wrmsr(HV_MSR_EOM, 0);
	ok(came(SINT_VECTOR) == 0 && slot->type == 0, "... so nothing more comes");
	stop(2);
	wrmsr(HV_MSR_SINT0 + SINT, HV_SINT_MASKED | SINT_VECTOR);
	wrmsr(COUNT(2), 1);
	wrmsr(CONFIG(2), TO_SINT(SINT) | HV_STIMER_ENABLE);
	ok(came(SINT_VECTOR) == 0 && slot->type == HV_MESSAGE_TIMER_EXPIRED,
	   "SINTx Registers: masked, the message alone");
	slot->type = 0;
	stop(2);
}

void tlfs_timer(void)
{
	for (unsigned int t = 0; t < 4; t++)
		trap_handlers[VECTOR + t] = on_timer;
	one_shots();
	stopping();
	auto_enable();
	periodic(0, "ordinary");
	periodic(HV_STIMER_LAZY, "lazy");
	odd_periods();
	missed();
	synic_on();
	messages();
	busy_slot();
	synic_off();
	for (unsigned int t = 0; t < 4; t++)
		trap_handlers[VECTOR + t] = NULL;
}
