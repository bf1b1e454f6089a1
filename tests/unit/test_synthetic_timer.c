/* unit: core/synic.c core/synic_msr.c core/synthetic_timer.c core/port.c core/event_ring.c core/page_alloc.c core/page_source.c core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Synthetic timers: every bit of CONFIG, every meaning of COUNT, expirations on time and late, in messages and direct. The clock
 * stands at 1,000,000 (100 ns) until told; 10 TSC ticks to a unit; a period is looked at after 1000 ticks at the soonest.
 */
#include "synic_fake.h"

#define CONFIG(n) (HV_MSR_STIMER0_CONFIG + 2 * (n))
#define COUNT(n) (HV_MSR_STIMER0_COUNT + 2 * (n))
#define ENABLE HV_STIMER_ENABLE
#define PERIODIC HV_STIMER_PERIODIC
#define LAZY HV_STIMER_LAZY
#define AUTO HV_STIMER_AUTO_ENABLE
#define DIRECT(vector) (HV_STIMER_DIRECT | (uint64_t)(vector) << HV_STIMER_VECTOR_SHIFT)
#define SINT(n) ((uint64_t)(n) << HV_STIMER_SINT_SHIFT)
#define NEVER UINT64_MAX

static struct vp *vp;

static int setup(void **state)
{
	fake_setup(state);
	vp = vps[0];
	enable(vp);
	set_sint(vp, 2, 0x61);
	timer_updates = 0;
	return 0;
}

static void config(unsigned int n, uint64_t value)
{
	wr(vp, stimer_write_config, CONFIG(n), value);
}

static void count(unsigned int n, uint64_t value)
{
	wr(vp, stimer_write_count, COUNT(n), value);
}

static uint64_t config_of(unsigned int n)
{
	return rd(vp, stimer_read_config, CONFIG(n));
}

static uint64_t next_100ns(void)
{
	uint64_t tsc = vp->stimers.next_deadline_tsc;

	return tsc == NEVER ? NEVER : tsc / ticks_per_100ns;
}

/* The LP's timer, at that time; a vector or -1. */
static int at(uint64_t time)
{
	now_100ns = time;
	if (rdtsc() >= vp->stimers.next_deadline_tsc)
		stimers_expired(vp, rdtsc());
	return take(vp);
}

static void expect_message(unsigned int sint, uint32_t timer, uint64_t expired, uint64_t delivered)
{
	struct hv_message *m = slot(vp, sint);

	assert_int_equal(m->type, HV_MESSAGE_TIMER_EXPIRED);
	assert_int_equal(m->payload_bytes, 24);
	assert_int_equal(m->sender, 0);
	assert_int_equal(m->payload.qwords[0], timer);
	assert_int_equal(m->payload.qwords[1], expired);
	assert_int_equal(m->payload.qwords[2], delivered);
	m->type = 0;
}

static void reset_values(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		assert_int_equal(config_of(i), 0);
		assert_int_equal(rd(vp, stimer_read_count, COUNT(i)), 0);
	}
	assert_int_equal(vp->stimers.next_deadline_tsc, NEVER);
}

static void reserved_bits(void **state)
{
	(void)state;
	for (unsigned int bit = 0; bit < 64; bit++) {
		bool reserved = (bit >= 13 && bit <= 15) || bit >= 20;

		assert_int_equal(stimer_write_config(vp, CONFIG(1), BIT(bit) & ~ENABLE),
				 reserved ? -EINVAL : 0);
		config(1, 0);
	}
	/* Refused: nothing of it is taken over. */
	config(1, AUTO | SINT(3));
	assert_int_equal(stimer_write_config(vp, CONFIG(1), BIT(20) | SINT(4)), -EINVAL);
	assert_int_equal(config_of(1), AUTO | SINT(3));
}

static void direct_only_if_offered(void **state)
{
	(void)state;
	part.features = 0;
	assert_int_equal(stimer_write_config(vp, CONFIG(0), HV_STIMER_DIRECT), -EINVAL);
	assert_int_equal(stimer_write_config(vp, CONFIG(0), 0x10), -EINVAL);
	config(0, ENABLE | SINT(2));
	part.features = HV_FEATURE_DIRECT_TIMERS;
	config(0, DIRECT(0x41));
	assert_int_equal(config_of(0), DIRECT(0x41));
}

static void one_shot_direct(void **state)
{
	(void)state;
	config(0, ENABLE | AUTO | DIRECT(0xed)); /* as Linux: count still 0 */
	assert_int_equal(config_of(0), ENABLE | AUTO | DIRECT(0xed));
	assert_int_equal(next_100ns(), NEVER);
	timer_updates = 0;
	count(0, 1000500);
	assert_int_equal(timer_updates, 1);
	assert_int_equal(next_100ns(), 1000500);
	assert_int_equal(at(1000499), -1);
	assert_int_equal(next_100ns(), 1000500);
	assert_int_equal(at(1000500), 0xed);
	assert_int_equal(next_100ns(), NEVER);
	assert_int_equal(config_of(0), AUTO | DIRECT(0xed)); /* disabled by itself */
	assert_int_equal(rd(vp, stimer_read_count, COUNT(0)), 1000500);
	assert_int_equal(at(2000000), -1);
	count(0, 2000100);
	assert_int_equal(config_of(0), ENABLE | AUTO | DIRECT(0xed));
	assert_int_equal(at(2000100), 0xed);
}

static void count_in_the_past_expires_at_once(void **state)
{
	(void)state;
	config(0, AUTO | DIRECT(0xed));
	count(0, 1);
	assert_int_equal(config_of(0), AUTO | DIRECT(0xed));
	assert_int_equal(next_100ns(), NEVER);
	assert_int_equal(take(vp), 0xed);
	count(0, 1000000); /* now is not before now */
	assert_int_equal(take(vp), 0xed);
	count(0, 1000001);
	assert_int_equal(take(vp), -1);
	config(1, AUTO | SINT(2));
	count(1, 999999);
	assert_int_equal(take(vp), 0x61);
	expect_message(2, 1, 999999, 1000000);
}

static void count_0_stops(void **state)
{
	(void)state;
	config(0, AUTO | DIRECT(0xed));
	count(0, 1000500);
	count(0, 0);
	assert_int_equal(config_of(0), AUTO | DIRECT(0xed));
	assert_int_equal(next_100ns(), NEVER);
	assert_int_equal(at(1000500), -1);
	config(0, ENABLE | DIRECT(0xed));
	assert_int_equal(next_100ns(), NEVER);
	assert_int_equal(at(1000600), -1);
}

/* XSA-504: a periodic timer with count 0 divided by it. */
static void hazard_xsa_504_periodic_with_count_0(void **state)
{
	(void)state;
	config(0, ENABLE | PERIODIC | DIRECT(0xed));
	assert_int_equal(next_100ns(), NEVER);
	assert_int_equal(at(5000000), -1);
	config(0, ENABLE | PERIODIC | AUTO | DIRECT(0xed));
	count(0, 1000);
	assert_int_equal(next_100ns(), 5001000);
	count(0, 0);
	assert_int_equal(next_100ns(), NEVER);
	assert_int_equal(config_of(0), PERIODIC | AUTO | DIRECT(0xed));
	config(0, ENABLE | PERIODIC | DIRECT(0xed));
	stimers_expired(vp, NEVER - 1);
	assert_int_equal(take(vp), -1);
}

static void auto_enable(void **state)
{
	(void)state;
	config(0, DIRECT(0x41));
	count(0, 1000500);
	assert_int_equal(config_of(0), DIRECT(0x41));
	assert_int_equal(next_100ns(), NEVER);
	config(0, DIRECT(0x41) | ENABLE); /* enabled after the count */
	assert_int_equal(next_100ns(), 1000500);
	config(0, DIRECT(0x41));
	assert_int_equal(next_100ns(), NEVER);
	config(0, DIRECT(0x41) | AUTO);
	assert_int_equal(next_100ns(), NEVER);
	count(0, 1000600);
	assert_int_equal(next_100ns(), 1000600);
	count(0, 1000700); /* of a running timer */
	assert_int_equal(next_100ns(), 1000700);
	assert_int_equal(at(1000600), -1);
	assert_int_equal(at(1000700), 0x41);
}

/* TLFS: with SINT 0 and no direct mode the timer is marked disabled at once. */
static void sint_0_is_not_enabled(void **state)
{
	(void)state;
	count(0, 1000500);
	config(0, ENABLE | PERIODIC);
	assert_int_equal(config_of(0), PERIODIC);
	config(0, AUTO);
	count(0, 1000500);
	assert_int_equal(config_of(0), AUTO);
	assert_int_equal(next_100ns(), NEVER);
	config(0, ENABLE | SINT(2));
	assert_int_equal(next_100ns(), 1000500);
	config(0, ENABLE);
	assert_int_equal(config_of(0), 0);
	assert_int_equal(next_100ns(), NEVER);
	assert_int_equal(at(1000500), -1);
}

static void message_of_a_one_shot(void **state)
{
	(void)state;
	config(3, AUTO | SINT(2));
	count(3, 1000500);
	assert_int_equal(at(1000507), 0x61); /* 700 ns late */
	expect_message(2, 3, 1000500, 1000507);
	assert_int_equal(config_of(3), AUTO | SINT(2));
	assert_int_equal(vp->synic.queued, 0);
}

static void message_waits_for_its_slot(void **state)
{
	(void)state;
	slot(vp, 2)->type = 5;
	config(0, AUTO | SINT(2));
	count(0, 1000500);
	assert_int_equal(at(1000500), -1);
	assert_int_equal(slot(vp, 2)->flags, HV_MESSAGE_FLAG_PENDING);
	assert_int_equal(config_of(0), AUTO | SINT(2)); /* expired all the same */
	now_100ns = 1000900;
	slot(vp, 2)->type = 0;
	eom(vp);
	assert_int_equal(take(vp), 0x61);
	expect_message(2, 0, 1000500, 1000900);
}

/* A stopped SynIC keeps it too, and no expiration makes the queue longer. */
static void one_message_for_a_timer(void **state)
{
	(void)state;
	wr(vp, synic_write_control, HV_MSR_SCONTROL, 0);
	config(0, ENABLE | PERIODIC | SINT(2));
	count(0, 1000);
	for (uint64_t i = 1; i <= 1000; i++)
		assert_int_equal(at(1000000 + 1000 * i), -1);
	wr(vp, synic_write_control, HV_MSR_SCONTROL, 1);
	assert_int_equal(take(vp), 0x61);
	expect_message(2, 0, 1001000, 2000000);
	eom(vp);
	assert_int_equal(take(vp), -1);
	assert_int_equal(slot(vp, 2)->type, 0);
	assert_int_equal(at(2001000), 0x61);
	expect_message(2, 0, 2001000, 2001000);
}

static void rewritten_timer_forgets_its_message(void **state)
{
	(void)state;
	slot(vp, 2)->type = 5;
	config(0, AUTO | SINT(2));
	config(1, AUTO | SINT(2));
	count(0, 1000500);
	count(1, 1000500);
	at(1000500);
	assert_int_equal(vp->synic.queued, 4);
	config(0, AUTO | SINT(3)); /* from the head of a queue of two */
	slot(vp, 2)->type = 0;
	eom(vp);
	expect_message(2, 1, 1000500, 1000500);
	eom(vp);
	assert_int_equal(slot(vp, 2)->type, 0);
	assert_int_equal(vp->synic.queued, 0);
	count(0, 1000600);
	set_sint(vp, 3, 0x62);
	take(vp);
	assert_int_equal(at(1000600), 0x62);
	expect_message(3, 0, 1000600, 1000600);
}

static void periodic(void **state)
{
	(void)state;
	config(0, PERIODIC | AUTO | DIRECT(0x41));
	count(0, 1000);
	for (uint64_t i = 1; i <= 10; i++) {
		assert_int_equal(next_100ns(), 1000000 + 1000 * i);
		assert_int_equal(at(1000000 + 1000 * i - 1), -1);
		assert_int_equal(at(1000000 + 1000 * i), 0x41);
	}
	assert_int_equal(config_of(0), PERIODIC | AUTO | ENABLE | DIRECT(0x41));
	assert_int_equal(rd(vp, stimer_read_count, COUNT(0)), 1000);
	config(0, 0);
	assert_int_equal(at(1011000), -1);
}

/* Missed periods: one interrupt, the phase kept, no loop over them. */
static void late_periodic(void **state)
{
	(void)state;
	config(0, PERIODIC | AUTO | LAZY | DIRECT(0x41));
	config(1, PERIODIC | AUTO | SINT(2));
	count(0, 1000);
	count(1, 1000);
	assert_int_equal(at(1004321), 0x61);
	assert_int_equal(take(vp), 0x41);
	assert_int_equal(take(vp), -1);
	expect_message(2, 1, 1001000, 1004321);
	assert_int_equal(next_100ns(), 1005000);
	at(1005000);
	assert_int_equal(next_100ns(), 1006000);
	/* A year, in units of the shortest period there is. */
	config(1, 0);
	count(0, 1);
	assert_int_equal(at(315360000000000), 0x41);
	assert_int_equal(vp->stimers.timer[0].expiration_100ns, 315360000000001);
}

/* A period of 100 ns must not hold up the LP: looked at after min_period_tsc, on the true pace. */
static void short_period(void **state)
{
	(void)state;
	config(0, PERIODIC | AUTO | DIRECT(0x41));
	count(0, 7);
	assert_int_equal(next_100ns(), 1000007);
	assert_int_equal(at(1000007), 0x41);
	assert_int_equal(vp->stimers.timer[0].expiration_100ns, 1000014);
	assert_int_equal(next_100ns(), 1000107);
	assert_int_equal(at(1000106), -1);
	assert_int_equal(at(1000107), 0x41);
	assert_int_equal(vp->stimers.timer[0].expiration_100ns, 1000112);
}

/* TLFS: COUNT may wrap; a time that never comes is no time in the past. */
static void huge_counts(void **state)
{
	(void)state;
	config(0, AUTO | DIRECT(0x41));
	config(1, AUTO | PERIODIC | DIRECT(0x42));
	count(0, UINT64_MAX);
	count(1, UINT64_MAX);
	assert_int_equal(take(vp), -1);
	assert_int_equal(next_100ns(), NEVER);
	assert_int_equal(config_of(0), AUTO | ENABLE | DIRECT(0x41));
	count(0, UINT64_MAX / 10 - 1);
	assert_int_equal(next_100ns(), UINT64_MAX / 10 - 1);
	count(1, UINT64_MAX / 10 - 1 - 1000000);
	assert_int_equal(at(UINT64_MAX / 10 - 1), 0x42);
	assert_int_equal(take(vp), 0x41);
	assert_int_equal(config_of(1), AUTO | PERIODIC | ENABLE | DIRECT(0x42));
	assert_int_equal(next_100ns(), NEVER);
}

static void earliest_of_four(void **state)
{
	static const uint64_t times[] = { 1004000, 1002000, 1003000, 1001000 };

	(void)state;
	for (unsigned int i = 0; i < 4; i++) {
		config(i, AUTO | DIRECT(0x40 + 16 * i));
		count(i, times[i]);
	}
	assert_int_equal(next_100ns(), 1001000);
	assert_int_equal(at(1001000), 0x70);
	assert_int_equal(next_100ns(), 1002000);
	count(1, 0);
	assert_int_equal(next_100ns(), 1003000);
	assert_int_equal(at(1004000), 0x60);
	assert_int_equal(take(vp), 0x40);
	assert_int_equal(next_100ns(), NEVER);
}

static void masked_sint_and_disabled_apic(void **state)
{
	(void)state;
	set_sint(vp, 2, 0x61 | HV_SINT_MASKED);
	config(0, AUTO | SINT(2));
	count(0, 1000500);
	assert_int_equal(at(1000500), -1); /* placed, nobody interrupted */
	expect_message(2, 0, 1000500, 1000500);
	apic_mmio_write(&vp->apic, APIC_REG_SVR, 4, 0xff);
	config(0, AUTO | DIRECT(0x41));
	count(0, 1000600);
	assert_int_equal(at(1000600), -1); /* lost */
	assert_int_equal(config_of(0), AUTO | DIRECT(0x41));
	apic_mmio_write(&vp->apic, APIC_REG_SVR, 4, 0x1ff);
	count(0, 1000700);
	assert_int_equal(at(1000700), 0x41);
	config(0, AUTO | DIRECT(5)); /* not a vector: the APIC's error, not ours */
	count(0, 1000800);
	assert_int_equal(at(1000800), -1);
	assert_int_equal(vp->apic.esr_pending, APIC_ESR_RECV_ILLEGAL);
}

static void clock_change_moves_deadlines(void **state)
{
	(void)state;
	config(0, AUTO | DIRECT(0x41));
	count(0, 1000500);
	vp->stimers.timer[0].deadline_tsc = 77;
	timer_updates = 0;
	stimers_clock_changed(vp);
	assert_int_equal(timer_updates, 1);
	assert_int_equal(next_100ns(), 1000500);
	assert_int_equal(vp->stimers.timer[1].deadline_tsc, NEVER);
}

/* The quick conversion may be late by ticks, and is never early; beyond its reach it is the clock's own. */
static void conversion_rounds_up(void **state)
{
	(void)state;
	ratio_is_rounded_up = 1;
	config(0, AUTO | DIRECT(0x41));
	count(0, 1000500);
	assert_int_equal(vp->stimers.next_deadline_tsc, 10005001);
	count(0, 1000000 + BIT(41));
	assert_int_equal(vp->stimers.next_deadline_tsc, 10000000 + BIT(41) * 10 + 2);
	count(0, 1000000 + BIT(48) - 1);
	assert_int_equal(vp->stimers.next_deadline_tsc, 10000000 + (BIT(48) - 1) * 10 + BIT(8));
	count(0, 1000000 + BIT(48));
	assert_int_equal(vp->stimers.next_deadline_tsc, 10000000 + BIT(48) * 10);
	/* Learned anew when the clock changes. */
	ratio_is_rounded_up = 0;
	now_100ns = 1000100;
	stimers_clock_changed(vp);
	count(0, 1000500);
	assert_int_equal(vp->stimers.next_deadline_tsc, 10005000);
	assert_int_equal(vp->stimers.base_100ns, 1000100);
}

/* 117 years at 5 GHz: more ticks than a number holds, which isn't at once. */
static void a_time_beyond_the_tsc_never_comes(void **state)
{
	(void)state;
	ticks_per_100ns = 500;
	stimers_clock_changed(vp);
	config(0, AUTO | DIRECT(0x41));
	count(0, 1000000 + UINT64_MAX / 500 + 1);
	assert_int_equal(vp->stimers.next_deadline_tsc, NEVER);
	assert_int_equal(at(1000001), -1);
	count(0, 1000000 + BIT(56) - 1);
	assert_int_equal(vp->stimers.next_deadline_tsc, NEVER);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, fake_teardown)

/* While time stands still nothing comes due, and nothing is forgotten. */
static void frozen_time(void **state)
{
	(void)state;
	config(0, ENABLE | DIRECT(0x50));
	count(0, 1000500);
	config(1, ENABLE | PERIODIC | DIRECT(0x51));
	count(1, 300);
	config(1, ENABLE | PERIODIC | DIRECT(0x51));
	time_stands = true;
	stimers_clock_changed(vp);
	assert_int_equal(next_100ns(), NEVER);
	count(2, 1000100); /* and none that begins meanwhile */
	config(2, ENABLE | DIRECT(0x52));
	assert_int_equal(next_100ns(), NEVER);
	time_stands = false;
	stimers_clock_changed(vp);
	assert_int_equal(next_100ns(), 1000100);
	assert_int_equal(at(1000100), 0x52);
	assert_int_equal(at(1000300), 0x51);
	assert_int_equal(at(1000500), 0x50);
}

/* By the parent, on another LP: nothing of the VP's own LP is touched, which is told. */
static void written_from_elsewhere(void **state)
{
	(void)state;
	vp_is_away = true;
	config(0, ENABLE | DIRECT(0x50));
	vp_clear_pending(vp, UINT64_MAX);
	timer_updates = 0;
	count(0, 1);
	assert_int_equal(take(vp), -1);
	assert_int_equal(timer_updates, 0);
	assert_int_equal(vp->pending & VP_PENDING_CLOCK, VP_PENDING_CLOCK);
	vp_is_away = false;
	stimers_clock_changed(vp);
	assert_int_equal(at(1000000), 0x50);
	vp_is_away = true;
	count(0, 0);
	assert_int_equal(next_100ns(), NEVER);
	vp_is_away = false;
}

static void save_and_load(void **state)
{
	struct hv_vp_state_timers image, again;

	(void)state;
	config(0, ENABLE | DIRECT(0x50));
	count(0, 1000500);
	config(0, ENABLE | DIRECT(0x50));
	config(1, AUTO | PERIODIC | SINT(2));
	count(1, 1000);
	slot(vp, 2)->type = 1;
	at(1001000); /* its message can't be delivered; the next is at 1002000 */
	assert_int_equal(at(1001000), -1);
	memset(&image, 0xff, sizeof(image));
	stimers_save(vp, &image);
	assert_int_equal(image.timer[1].flags, HV_VP_STATE_TIMER_UNDELIVERED_MESSAGE);
	assert_int_equal(image.timer[1].undelivered_expiration_time, 1001000);
	assert_int_equal(image.timer[1].adjustment, 1002000);
	assert_int_equal(image.timer[1].count, 1000);
	assert_int_equal(image.timer[0].config, DIRECT(0x50)); /* it was due */
	assert_int_equal(image.timer[3].config | image.timer[3].flags | image.reserved[4], 0);
	config(1, 0);
	slot(vp, 2)->type = 0;
	vp_clear_pending(vp, UINT64_MAX);
	vp_is_away = true;
	assert_int_equal(stimers_load(vp, &image), 0);
	assert_int_equal(vp->pending & VP_PENDING_CLOCK, VP_PENDING_CLOCK);
	vp_is_away = false;
	stimers_clock_changed(vp);
	expect_message(2, 1, 1001000, 1001000);
	assert_int_equal(next_100ns(), 1002000);
	stimers_save(vp, &again);
	image.timer[1].flags = 0;
	image.timer[1].undelivered_expiration_time = 0;
	assert_memory_equal(&again, &image, sizeof(image));
}

static void hostile_images(void **state)
{
	struct hv_vp_state_timers image, before;

	(void)state;
	config(0, ENABLE | DIRECT(0x50));
	count(0, 1000500);
	stimers_save(vp, &before);
	for (unsigned int i = 0; i < 3; i++) {
		memset(&image, 0, sizeof(image));
		if (i == 0)
			image.timer[3].config = BIT(63);
		else if (i == 1)
			image.timer[3].flags = 2;
		else
			image.timer[3].reserved = 1;
		assert_int_equal(stimers_load(vp, &image), -EINVAL);
		stimers_save(vp, &image);
		assert_memory_equal(&image, &before, sizeof(image));
	}
	/* A message for SINT 0, and counts of any size: nothing to refuse, nothing that hurts. */
	memset(&image, 0, sizeof(image));
	image.timer[0] = (struct hv_vp_state_timer){ .flags = 1, .config = ENABLE, .count = UINT64_MAX };
	image.timer[1] = (struct hv_vp_state_timer){ .config = ENABLE | PERIODIC | SINT(2),
						     .count = UINT64_MAX,
						     .adjustment = UINT64_MAX };
	assert_int_equal(stimers_load(vp, &image), 0);
	stimers_clock_changed(vp);
	assert_int_equal(config_of(0), 0);
	assert_int_equal(at(5000000), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(reset_values),
		T(reserved_bits),
		T(direct_only_if_offered),
		T(one_shot_direct),
		T(count_in_the_past_expires_at_once),
		T(count_0_stops),
		T(hazard_xsa_504_periodic_with_count_0),
		T(auto_enable),
		T(sint_0_is_not_enabled),
		T(message_of_a_one_shot),
		T(message_waits_for_its_slot),
		T(one_message_for_a_timer),
		T(rewritten_timer_forgets_its_message),
		T(periodic),
		T(late_periodic),
		T(short_period),
		T(huge_counts),
		T(earliest_of_four),
		T(masked_sint_and_disabled_apic),
		T(clock_change_moves_deadlines),
		T(conversion_rounds_up),
		T(a_time_beyond_the_tsc_never_comes),
		T(frozen_time),
		T(written_from_elsewhere),
		T(save_and_load),
		T(hostile_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
