/* unit: core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: the timer. Each mode, each divider, changes under way, late service, and the clock's
 * arithmetic against exact division. Timer ticks are 16 TSC ticks unless a test says otherwise.
 */
#include "apic_fake.h"

static struct apic apic;

static void start(uint32_t lvt, uint32_t divide, uint32_t initial)
{
	fake_init_enabled(&apic, 0, true);
	fake.now_tsc = 5000;
	wr(&apic, APIC_REG_LVT_TIMER, lvt);
	wr(&apic, APIC_REG_TIMER_DIVIDE, divide);
	wr(&apic, APIC_REG_TIMER_INITIAL, initial);
}

/* Did an interrupt come at `tsc`? It is taken and finished. */
static bool fires_at(uint64_t tsc)
{
	int vector;

	fake.now_tsc = tsc;
	apic_timer_expired(&apic, tsc);
	vector = apic_next_vector(&apic);
	if (vector < 0)
		return false;
	assert_int_equal(vector, 0xec);
	apic_take(&apic, 0xec);
	apic_eoi(&apic);
	assert_int_equal(apic_next_vector(&apic), -1);
	return true;
}

static uint64_t current_at(uint64_t tsc)
{
	fake.now_tsc = tsc;
	return rd(&apic, APIC_REG_TIMER_CURRENT);
}

static void one_shot(void **state)
{
	(void)state;
	start(0xec, 0xb, 100);
	assert_int_equal(fake.timer_changes, 1);
	assert_int_equal(apic_timer_deadline(&apic), 5000 + 1600);
	assert_int_equal(current_at(5000), 100);
	assert_int_equal(current_at(5015), 100);
	assert_int_equal(current_at(5016), 99);
	assert_int_equal(current_at(6599), 1);
	assert_int_equal(current_at(6600), 0);
	assert_false(fires_at(6599));
	assert_int_equal(apic_timer_deadline(&apic), 6600);
	assert_true(fires_at(6600));
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
	assert_false(fires_at(1000000));
	assert_int_equal(current_at(1000000), 0);
	assert_int_equal(rd(&apic, APIC_REG_TIMER_INITIAL), 100);
}

static void dividers(void **state)
{
	static const struct {
		uint32_t value, by;
	} rows[] = { { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 }, { 10, 128 }, { 11, 1 } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		start(0xec, rows[i].value, 10);
		assert_int_equal(apic_timer_deadline(&apic), 5000 + 160 * rows[i].by);
		assert_int_equal(current_at(5000 + 48 * rows[i].by - 1), 8);
		assert_int_equal(current_at(5000 + 48 * rows[i].by), 7);
		start(0x200ec, rows[i].value, 0xffffffff);
		assert_int_equal(apic_timer_deadline(&apic), 5000 + 0xffffffffull * 16 * rows[i].by);
	}
}

static void stop_and_restart(void **state)
{
	(void)state;
	start(0xec, 0xb, 100);
	fake.now_tsc = 5800;
	wr(&apic, APIC_REG_TIMER_INITIAL, 0);
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
	assert_int_equal(fake.timer_changes, 2);
	assert_false(fires_at(7000));
	wr(&apic, APIC_REG_TIMER_INITIAL, 0); /* no change, no report */
	assert_int_equal(fake.timer_changes, 2);
	wr(&apic, APIC_REG_TIMER_INITIAL, 10);
	fake.now_tsc = 7100;
	wr(&apic, APIC_REG_TIMER_INITIAL, 10);
	assert_int_equal(apic_timer_deadline(&apic), 7260);
	/* due, but the service is late: a restart does not lose it */
	fake.now_tsc = 7300;
	wr(&apic, APIC_REG_TIMER_INITIAL, 10);
	assert_int_equal(apic_timer_deadline(&apic), 7460);
	assert_true(fires_at(7301));
	assert_true(fires_at(7460));
}

static void periodic(void **state)
{
	(void)state;
	start(0x200ec, 0xb, 100);
	assert_true(fires_at(6600));
	assert_int_equal(apic_timer_deadline(&apic), 8200);
	assert_int_equal(current_at(6600), 100);
	assert_int_equal(current_at(8199), 1);
	assert_int_equal(current_at(8200), 100);
	/* three periods late: one interrupt, phase kept */
	assert_true(fires_at(5000 + 5 * 1600 + 1000));
	assert_false(fires_at(5000 + 5 * 1600 + 1001));
	assert_int_equal(apic_timer_deadline(&apic), 5000 + 6 * 1600);
	/* a year late */
	assert_true(fires_at(5000 + 1600ull * 30000000000000ull + 7));
	assert_int_equal(apic_timer_deadline(&apic), 5000 + 1600ull * 30000000000001ull);
	assert_int_equal(current_at(fake.now_tsc), 100);
	wr(&apic, APIC_REG_TIMER_INITIAL, 0);
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
}

static void shortest_period(void **state)
{
	struct apic_config config = fake_config(0);
	unsigned int interrupts = 0;

	(void)state;
	fake_init(&apic, 0);
	config.min_period_tsc = 1000;
	assert_int_equal(apic_init(&apic, &config, &fake_page), 0);
	wr(&apic, APIC_REG_SVR, 0x1ff);
	fake.now_tsc = 5000;
	wr(&apic, APIC_REG_LVT_TIMER, 0x200ec);
	wr(&apic, APIC_REG_TIMER_DIVIDE, 0xb);
	wr(&apic, APIC_REG_TIMER_INITIAL, 3); /* 48 TSC ticks */
	for (uint64_t tsc = 5000; tsc < 5000 + 100000; tsc++) {
		assert_int_equal(current_at(tsc), 3 - (tsc - 5000) % 48 / 16);
		interrupts += fires_at(tsc);
	}
	assert_in_range(interrupts, 90, 100);
	assert_int_equal((apic_timer_deadline(&apic) - 5000) % 48, 0);
	/* one just long enough is not touched */
	wr(&apic, APIC_REG_TIMER_INITIAL, 63);
	assert_int_equal(apic_timer_deadline(&apic), fake.now_tsc + 1008);
}

static void tsc_deadline(void **state)
{
	uint64_t value = 1;

	(void)state;
	start(0xec, 0xb, 100);
	assert_int_equal(apic_tsc_deadline_write(&apic, 9999), 0); /* not in this mode */
	assert_int_equal(apic_tsc_deadline_read(&apic, &value), 0);
	assert_int_equal(value, 0);
	wr(&apic, APIC_REG_LVT_TIMER, 0x400ec); /* disarms */
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
	assert_int_equal(current_at(5100), 0);
	wr(&apic, APIC_REG_TIMER_INITIAL, 77); /* dropped */
	assert_int_equal(rd(&apic, APIC_REG_TIMER_INITIAL), 0);
	assert_int_equal(apic_tsc_deadline_write(&apic, 9999), 0);
	assert_int_equal(apic_timer_deadline(&apic), 9999);
	assert_int_equal(apic_tsc_deadline_read(&apic, &value), 0);
	assert_int_equal(value, 9999);
	assert_false(fires_at(9998));
	assert_true(fires_at(9999));
	assert_int_equal(apic_tsc_deadline_read(&apic, &value), 0);
	assert_int_equal(value, 0);
	/* in the past: at once, nothing armed */
	fake.timer_changes = 0;
	assert_int_equal(apic_tsc_deadline_write(&apic, 1), 0);
	assert_int_equal(fake.timer_changes, 0);
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
	assert_true(fires_at(9999));
	/* zero disarms */
	assert_int_equal(apic_tsc_deadline_write(&apic, 20000), 0);
	assert_int_equal(apic_tsc_deadline_write(&apic, 0), 0);
	assert_false(fires_at(30000));
	/* masked: it goes off unheard */
	wr(&apic, APIC_REG_LVT_TIMER, 0x500ec);
	assert_int_equal(apic_tsc_deadline_write(&apic, 40000), 0);
	assert_false(fires_at(40000));
	wr(&apic, APIC_REG_LVT_TIMER, 0x400ec);
	assert_false(fires_at(40001));
	/* due but not yet served: reads 0 */
	assert_int_equal(apic_tsc_deadline_write(&apic, 50000), 0);
	fake.now_tsc = 50000;
	assert_int_equal(apic_tsc_deadline_read(&apic, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(apic_tsc_deadline_write(&apic, 60000), 0);
	assert_true(fires_at(50001));
	wr(&apic, APIC_REG_LVT_TIMER, 0xec); /* leaving the mode disarms */
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
}

static void masked_counts(void **state)
{
	(void)state;
	start(0x100ec, 0xb, 100);
	assert_int_equal(current_at(5800), 50);
	assert_false(fires_at(6600));
	start(0x300ec, 0xb, 100);
	assert_false(fires_at(6600));
	wr(&apic, APIC_REG_LVT_TIMER, 0x200ec);
	assert_true(fires_at(8200));
}

static void mode_changes(void **state)
{
	(void)state;
	start(0x200ec, 0xb, 100);
	fake.now_tsc = 5000 + 3 * 1600 + 800;
	assert_true(fires_at(fake.now_tsc));
	wr(&apic, APIC_REG_LVT_TIMER, 0xec); /* periodic -> one-shot: this period ends, no other */
	assert_int_equal(rd(&apic, APIC_REG_TIMER_CURRENT), 50);
	assert_true(fires_at(5000 + 4 * 1600));
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
	wr(&apic, APIC_REG_LVT_TIMER, 0x200ec); /* expired: nothing restarts */
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
	start(0xec, 0xb, 100);
	fake.now_tsc = 5800;
	wr(&apic, APIC_REG_LVT_TIMER, 0x200ec); /* one-shot -> periodic */
	assert_true(fires_at(6600));
	assert_true(fires_at(8200));
	/* reserved mode, possible in the page only: inert */
	fake_init_enabled(&apic, 0, false);
	wr(&apic, APIC_REG_LVT_TIMER, 0x600ec);
	wr(&apic, APIC_REG_TIMER_INITIAL, 5);
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
	assert_int_equal(apic_tsc_deadline_write(&apic, 5), 0);
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
}

static void divide_change(void **state)
{
	(void)state;
	start(0x200ec, 0xb, 100);
	assert_true(fires_at(6600));
	fake.now_tsc = 6600 + 800;
	wr(&apic, APIC_REG_TIMER_DIVIDE, 1); /* by 4, half-way */
	assert_int_equal(rd(&apic, APIC_REG_TIMER_CURRENT), 50);
	assert_int_equal(apic_timer_deadline(&apic), 7400 + 50 * 64);
	assert_int_equal(current_at(7400 + 64), 49);
	assert_true(fires_at(7400 + 3200));
	assert_int_equal(apic_timer_deadline(&apic), 7400 + 3200 + 6400);
	/* due when changed */
	fake.now_tsc = 7400 + 3200 + 6400 + 640;
	wr(&apic, APIC_REG_TIMER_DIVIDE, 0xb);
	assert_int_equal(rd(&apic, APIC_REG_TIMER_CURRENT), 90);
	assert_int_equal(apic_timer_deadline(&apic), fake.now_tsc + 90 * 16);
	assert_true(fires_at(fake.now_tsc));
	/* not counting: only the next start sees it */
	start(0xec, 0xb, 0);
	wr(&apic, APIC_REG_TIMER_DIVIDE, 0xa);
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
	assert_int_equal(fake.timer_changes, 0);
}

static void illegal_vector(void **state)
{
	(void)state;
	start(0x05, 0xb, 1);
	fake.now_tsc = 6000;
	apic_timer_expired(&apic, 6000);
	assert_int_equal(apic_pending_vector(&apic), -1);
	wr(&apic, APIC_REG_ESR, 0);
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0x40);
}

/* One TSC tick is 100000 timer ticks; a period is 100 TSC ticks. */
static void fake_fast_timer(void)
{
	struct apic_config config = fake_config(0);

	assert_int_equal(apic_clock_init(&config.clock, 100000000000, 1000000), 0);
	assert_int_equal(apic_init(&apic, &config, &fake_page), 0);
	wr(&apic, APIC_REG_SVR, 0x1ff);
	fake.now_tsc = 5000;
	wr(&apic, APIC_REG_LVT_TIMER, 0x200ec);
	wr(&apic, APIC_REG_TIMER_DIVIDE, 0xb);
	wr(&apic, APIC_REG_TIMER_INITIAL, 10000000);
}

static void tsc_jumps(void **state)
{
	(void)state;
	start(0x200ec, 0xb, 100);
	fake.now_tsc = 5000 + 800;
	apic_tsc_adjusted(&apic, -5000); /* told */
	assert_int_equal(fake.timer_changes, 2);
	assert_int_equal(current_at(800), 50);
	assert_true(fires_at(1600));
	assert_int_equal(apic_timer_deadline(&apic), 3200);
	/* not told: a period begins where the TSC is now */
	start(0x200ec, 0xb, 100);
	assert_true(fires_at(BIT(62)));
	assert_in_range(apic_timer_deadline(&apic), BIT(62) + 1, BIT(62) + 1600);
	assert_true(fires_at(BIT(63) + BIT(62) + 9));
	assert_in_range(apic_timer_deadline(&apic), fake.now_tsc + 1, fake.now_tsc + 1600);
	start(0x200ec, 0xb, 100);
	assert_true(fires_at(BIT(63) + 20000)); /* further than half the range */
	assert_int_equal(apic_timer_deadline(&apic), BIT(63) + 21600);
	/* more timer ticks than 64 bits hold */
	fake_fast_timer();
	assert_true(fires_at(BIT(62)));
	assert_in_range(apic_timer_deadline(&apic), BIT(62) + 1, BIT(62) + 101);
	start(0x400ec, 0xb, 0);
	assert_int_equal(apic_tsc_deadline_write(&apic, 9000), 0);
	apic_tsc_adjusted(&apic, 1000);
	assert_int_equal(apic_timer_deadline(&apic), 9000);
}

/* Set by the guest to just before its end: a period that ends behind it isn't one that is over, again and again. */
static void the_end_of_the_tsc(void **state)
{
	const uint64_t begin = UINT64_MAX - 9999;
	struct apic_config config = fake_config(0);
	unsigned int interrupts = 0;

	(void)state;
	config.min_period_tsc = 1000;
	assert_int_equal(apic_init(&apic, &config, &fake_page), 0);
	wr(&apic, APIC_REG_SVR, 0x1ff);
	fake.now_tsc = begin;
	wr(&apic, APIC_REG_LVT_TIMER, 0x200ec);
	wr(&apic, APIC_REG_TIMER_DIVIDE, 0xb);
	wr(&apic, APIC_REG_TIMER_INITIAL, 10000); /* 160,000 ticks of the TSC */
	for (uint64_t now = begin; now >= begin; now += 10)
		interrupts += fires_at(now);
	assert_in_range(interrupts, 0, 9 + 100); /* as often as may be, but for the last such distance */
	fires_at(1000);
	assert_int_equal(apic_timer_deadline(&apic), 150000);
	assert_false(fires_at(149999));
	assert_true(fires_at(150000));
	assert_int_equal(apic_timer_deadline(&apic), 310000);
}

/* ceil(ticks * tsc_hz / timer_hz), exactly. */
static uint64_t exact_tsc(uint64_t ticks, uint64_t timer_hz, uint64_t tsc_hz)
{
	unsigned __int128 product = (unsigned __int128)ticks * tsc_hz;

	return (uint64_t)((product + timer_hz - 1) / timer_hz);
}

/* Whole counts of 128 ticks gone after `tsc`. */
static uint64_t exact_counts(uint64_t tsc, uint64_t timer_hz, uint64_t tsc_hz)
{
	return (uint64_t)((unsigned __int128)tsc * timer_hz / tsc_hz / 128);
}

static void clock_arithmetic(void **state)
{
	static const uint64_t hz[] = { 1000000,	   19200000,   24000000,   25000000,	62500000,
				       100000000,  133333333,  199999999,  1000000000,	1000000007,
				       2099999999, 3699850000, 5000000000, 99999999977, 100000000000 };
	uint64_t seed = fake_seed();

	(void)state;
	print_message("SEED=0x%llx\n", (unsigned long long)seed);
	for (size_t i = 0; i < ARRAY_SIZE(hz) * ARRAY_SIZE(hz) * 40; i++) {
		uint64_t timer_hz = hz[i % ARRAY_SIZE(hz)], tsc_hz = hz[i / ARRAY_SIZE(hz) % ARRAY_SIZE(hz)];
		unsigned int bits = (unsigned int)(fake_random(&seed) % 32);
		uint32_t initial = (uint32_t)(fake_random(&seed) >> 32 >> bits) | 1;
		struct apic_config config = fake_config(0);
		uint64_t deadline, exact, count, t;

		fake_init(&apic, 0);
		assert_int_equal(apic_clock_init(&config.clock, timer_hz, tsc_hz), 0);
		assert_int_equal(apic_init(&apic, &config, &fake_page), 0);
		wr(&apic, APIC_REG_SVR, 0x1ff);
		fake.now_tsc = fake_random(&seed) >> 20;
		t = fake.now_tsc;
		wr(&apic, APIC_REG_LVT_TIMER, 0xec);
		wr(&apic, APIC_REG_TIMER_DIVIDE, 0xa); /* by 128 */
		wr(&apic, APIC_REG_TIMER_INITIAL, initial);
		deadline = apic_timer_deadline(&apic) - t;
		exact = exact_tsc((uint64_t)initial * 128, timer_hz, tsc_hz);
		assert_in_range(deadline, exact, exact + 1);
		assert_int_equal(current_at(t + deadline), 0);
		assert_true(fires_at(t + deadline));
		wr(&apic, APIC_REG_TIMER_INITIAL, initial);
		/* half-way */
		count = initial - exact_counts(exact / 2, timer_hz, tsc_hz);
		assert_in_range(current_at(fake.now_tsc + exact / 2), count - 1, count);
	}
}

static void clock_limits(void **state)
{
	struct apic_clock clock;

	(void)state;
	assert_int_equal(apic_clock_init(&clock, 999999, 1000000000), -EINVAL);
	assert_int_equal(apic_clock_init(&clock, 1000000000, 999999), -EINVAL);
	assert_int_equal(apic_clock_init(&clock, 100000000001, 1000000000), -EINVAL);
	assert_int_equal(apic_clock_init(&clock, 0, 0), -EINVAL);
	assert_int_equal(apic_clock_init(&clock, 1000000, 100000000000), 0);
	assert_int_equal(apic_clock_init(&clock, 100000000000, 1000000), 0);
}

/* A period that is no whole number of TSC ticks does not drift. */
static void no_drift(void **state)
{
	struct apic_config config = fake_config(0);
	uint64_t t0 = 1000;

	(void)state;
	fake_init(&apic, 0);
	assert_int_equal(apic_clock_init(&config.clock, 24000000, 1000000007), 0);
	assert_int_equal(apic_init(&apic, &config, &fake_page), 0);
	wr(&apic, APIC_REG_SVR, 0x1ff);
	fake.now_tsc = t0;
	wr(&apic, APIC_REG_LVT_TIMER, 0x200ec);
	wr(&apic, APIC_REG_TIMER_DIVIDE, 0xb);
	wr(&apic, APIC_REG_TIMER_INITIAL, 241);
	for (uint64_t n = 1; n <= 200000; n++) {
		uint64_t exact = t0 + exact_tsc(241 * n, 24000000, 1000000007);

		assert_in_range(apic_timer_deadline(&apic), exact, exact + 1);
		assert_true(fires_at(apic_timer_deadline(&apic)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_shot),	      cmocka_unit_test(dividers),
		cmocka_unit_test(stop_and_restart),   cmocka_unit_test(periodic),
		cmocka_unit_test(shortest_period),    cmocka_unit_test(tsc_deadline),
		cmocka_unit_test(masked_counts),      cmocka_unit_test(mode_changes),
		cmocka_unit_test(divide_change),      cmocka_unit_test(illegal_vector),
		cmocka_unit_test(tsc_jumps),	      cmocka_unit_test(clock_arithmetic),
		cmocka_unit_test(clock_limits),	      cmocka_unit_test(no_drift),
		cmocka_unit_test(the_end_of_the_tsc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
