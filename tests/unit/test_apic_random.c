/* unit: core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model against a slow second one: arrays of bool for the vectors, a timer that really ticks, and
 * nothing cached. Random operations; after each, what the guest and the entry path see must be the same.
 */
#include "apic_fake.h"

#define STEPS 300000u
#define TSC_PER_TICK 16u

static struct apic apic;
static uint64_t seed;

static struct naive {
	bool irr[256], isr[256], tmr[256];
	uint32_t id, tpr, svr, ldr, dfr, esr, errors, lvt[APIC_LVT_COUNT];
	uint64_t base, icr, deadline;
	uint32_t initial, divide, count, prescale, tsc_rest;
	bool counting;
	unsigned int ipis, level_eois;
} n;

static bool n_x2(void)
{
	return n.base & 0x400;
}

static bool n_enabled(void)
{
	return (n.base & 0x800) && (n.svr & 0x100);
}

static int n_top(const bool *map)
{
	for (int v = 255; v >= 0; v--) {
		if (map[v])
			return v;
	}
	return -1;
}

static uint32_t n_ppr(void)
{
	int served = n_top(n.isr);

	if (served < 0 || n.tpr / 16 >= (uint32_t)served / 16)
		return n.tpr;
	return (uint32_t)served / 16 * 16;
}

static int n_next(void)
{
	int v = n_top(n.irr);

	return v >= 0 && (uint32_t)v / 16 > n_ppr() / 16 ? v : -1;
}

static void n_accept(uint32_t vector, bool level);

static void n_error(uint32_t bit)
{
	bool first = n.errors == 0;

	n.errors |= bit;
	if (first && n_enabled() && !(n.lvt[APIC_LVT_ERROR] & 0x10000)) {
		if ((n.lvt[APIC_LVT_ERROR] & 0xff) < 16)
			n.errors |= 0x40;
		else
			n_accept(n.lvt[APIC_LVT_ERROR] & 0xff, false);
	}
}

static void n_accept(uint32_t vector, bool level)
{
	if (!n_enabled())
		return;
	if (vector < 16) {
		n_error(0x40);
		return;
	}
	n.irr[vector] = true;
	n.tmr[vector] = level;
}

static void n_take(int vector)
{
	n.irr[vector] = false;
	n.isr[vector] = true;
}

static void n_eoi(void)
{
	int v = n_top(n.isr);

	if (v < 0)
		return;
	n.isr[v] = false;
	n.level_eois += n.tmr[v];
}

static uint32_t n_mode(void)
{
	return n.lvt[APIC_LVT_TIMER] >> 17 & 3;
}

static uint32_t n_divisor(void)
{
	static const uint32_t by[16] = { 2, 4, 8, 16, 2, 4, 8, 16, 32, 64, 128, 1, 32, 64, 128, 1 };

	return by[n.divide];
}

static void n_fire(void)
{
	if (!(n.lvt[APIC_LVT_TIMER] & 0x10000))
		n_accept(n.lvt[APIC_LVT_TIMER] & 0xff, false);
}

static void n_tick(void)
{
	if (!n.counting || ++n.prescale < n_divisor())
		return;
	n.prescale = 0;
	if (--n.count)
		return;
	if (n_mode() == 1)
		n.count = n.initial;
	else
		n.counting = false;
	n_fire();
}

static void n_advance(uint64_t tsc)
{
	for (uint64_t i = 0; i < tsc; i++) {
		fake.now_tsc++;
		if (n.deadline && n.deadline <= fake.now_tsc) {
			n.deadline = 0;
			n_fire();
		}
		if (++n.tsc_rest == TSC_PER_TICK) {
			n.tsc_rest = 0;
			n_tick();
		}
	}
}

static void n_restart(uint32_t count)
{
	n.count = count;
	n.counting = count != 0;
	n.prescale = 0;
	n.tsc_rest = 0;
}

static void n_reset(void)
{
	uint64_t base = n.base;
	uint32_t id = n.id;
	unsigned int ipis = n.ipis, level_eois = n.level_eois;

	memset(&n, 0, sizeof(n));
	n.base = base;
	n.id = id;
	n.ipis = ipis;
	n.level_eois = level_eois;
	n.svr = 0xff;
	n.dfr = 0xffffffff;
	for (int i = 0; i < APIC_LVT_COUNT; i++)
		n.lvt[i] = 0x10000;
}

static const struct {
	uint32_t reg;
	enum apic_lvt which;
	uint32_t writable;
} lvts[] = {
	{ 0x2f0, APIC_LVT_CMCI, 0x107ff },    { 0x320, APIC_LVT_TIMER, 0x700ff },
	{ 0x330, APIC_LVT_THERMAL, 0x107ff }, { 0x340, APIC_LVT_PMC, 0x107ff },
	{ 0x350, APIC_LVT_LINT0, 0x1a7ff },   { 0x360, APIC_LVT_LINT1, 0x1a7ff },
	{ 0x370, APIC_LVT_ERROR, 0x100ff },
};

static uint32_t n_word(const bool *map, uint32_t reg)
{
	uint32_t first = (reg >> 4 & 7) * 32, word = 0;

	for (uint32_t i = 0; i < 32; i++)
		word |= (uint32_t)map[first + i] << i;
	return word;
}

static bool n_exists(uint32_t reg)
{
	static const uint32_t regs[] = { 0x20,	0x30,  0x80,  0xa0,  0xf0,  0x280, 0x300, 0x380, 0x390,
					 0x3e0, 0x2f0, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0xd0 };
	static const uint32_t page_only[] = { 0x90, 0xc0, 0xe0, 0x310, 0xb0 };

	if (reg >= 0x100 && reg < 0x280)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++) {
		if (regs[i] == reg)
			return true;
	}
	for (size_t i = 0; i < ARRAY_SIZE(page_only) && !n_x2(); i++) {
		if (page_only[i] == reg)
			return true;
	}
	return false;
}

static uint64_t n_read(uint32_t reg)
{
	switch (reg) {
	case 0x20:
		return n_x2() ? n.id : n.id << 24;
	case 0x30:
		return 0x60014;
	case 0x80:
		return n.tpr;
	case 0xa0:
		return n_ppr();
	case 0xd0:
		return n_x2() ? n.id / 16 * 65536 + (1u << n.id % 16) : n.ldr;
	case 0xe0:
		return n.dfr;
	case 0xf0:
		return n.svr;
	case 0x280:
		return n.esr;
	case 0x300:
		return n_x2() ? n.icr : (uint32_t)n.icr;
	case 0x310:
		return n.icr >> 32;
	case 0x380:
		return n.initial;
	case 0x390:
		return n.counting ? n.count : 0;
	case 0x3e0:
		return n.divide;
	default:
		break;
	}
	if (reg >= 0x100 && reg < 0x280)
		return n_word(reg < 0x180 ? n.isr : reg < 0x200 ? n.tmr : n.irr, reg);
	for (size_t i = 0; i < ARRAY_SIZE(lvts); i++) {
		if (lvts[i].reg == reg)
			return n.lvt[lvts[i].which];
	}
	return 0;
}

static void n_send(void)
{
	uint32_t vector = n.icr & 0xff, mode = n.icr >> 8 & 7, shorthand = n.icr >> 18 & 3;

	if (mode == 3 || mode == 7 || (mode != 0 && (shorthand == 1 || shorthand == 2)))
		return;
	if (mode < 2 && vector < 16)
		n_error(0x20);
	else if (mode == 5 && (n.icr & 0xc000) == 0x8000)
		return;
	else if (shorthand == 1)
		n_accept(vector, false);
	else
		n.ipis++;
}

static void n_write_lvt(enum apic_lvt which, uint32_t value)
{
	uint32_t from = n_mode(), to;

	n.lvt[which] = value | (n.svr & 0x100 ? 0 : 0x10000);
	to = n_mode();
	if (from != to && (from >= 2 || to >= 2)) {
		n.initial = 0;
		n.counting = false;
		n.deadline = 0;
	}
}

static void n_write(uint32_t reg, uint64_t value)
{
	uint32_t old = n_divisor();

	switch (reg) {
	case 0x80:
		n.tpr = value & 0xff;
		return;
	case 0xb0:
		n_eoi();
		return;
	case 0xd0:
		n.ldr = value & 0xff000000;
		return;
	case 0xe0:
		n.dfr = (uint32_t)value | 0x0fffffff;
		return;
	case 0xf0:
		n.svr = value & 0x3ff;
		for (int i = 0; i < APIC_LVT_COUNT; i++)
			n.lvt[i] |= n.svr & 0x100 ? 0 : 0x10000;
		return;
	case 0x280:
		n.esr = n.errors;
		n.errors = 0;
		return;
	case 0x300:
		n.icr = n_x2() ? value & ~0x1000ull : (n.icr >> 32 << 32) | (value & 0xccfff);
		n_send();
		return;
	case 0x310:
		n.icr = (value & 0xff000000) << 32 | (uint32_t)n.icr;
		return;
	case 0x380:
		if (n_mode() >= 2)
			return;
		n.initial = (uint32_t)value;
		n_restart(n.initial);
		return;
	case 0x3e0:
		n.divide = value & 0xb;
		if (n_divisor() != old)
			n.prescale = n.tsc_rest = 0;
		return;
	default:
		break;
	}
	for (size_t i = 0; i < ARRAY_SIZE(lvts); i++) {
		if (lvts[i].reg == reg)
			n_write_lvt(lvts[i].which, (uint32_t)value & lvts[i].writable);
	}
}

/* May this be written by MSR without a fault? */
static bool n_allowed(uint32_t reg, uint64_t value)
{
	switch (reg) {
	case 0x80:
	case 0x3f0:
		return value <= 0xff;
	case 0xb0:
	case 0x280:
		return value == 0;
	case 0xf0:
		return value <= 0x3ff;
	case 0x300:
		return !(value & 0xfff32000);
	case 0x380:
		return value <= 0xffffffff;
	case 0x3e0:
		return (value | 0xb) == 0xb;
	default:
		break;
	}
	for (size_t i = 0; i < ARRAY_SIZE(lvts); i++) {
		uint64_t read_only = reg == 0x350 || reg == 0x360 ? 0x5000 : 0x1000;

		if (lvts[i].reg == reg)
			return !(value & ~(lvts[i].writable | read_only)) &&
			       (reg != 0x320 || (value >> 17 & 3) != 3);
	}
	return false;
}

static uint32_t random_below(uint32_t limit)
{
	return (uint32_t)(fake_random(&seed) % limit);
}

/* Writable registers often, everything sometimes; values that mean something often. */
static uint32_t random_reg(void)
{
	static const uint32_t often[] = { 0x80,	 0xb0,	0xb0,  0xf0,  0x280, 0x300, 0x300, 0x310,
					  0x320, 0x320, 0x370, 0x380, 0x380, 0x3e0, 0x3f0, 0xd0 };

	if (random_below(8))
		return often[random_below(ARRAY_SIZE(often))];
	return random_below(0x41) * 16;
}

static uint64_t random_value(uint32_t reg)
{
	uint64_t r = fake_random(&seed);

	if (random_below(16) == 0)
		return r;
	switch (reg) {
	case 0x80:
		return r & 0x7f;
	case 0xf0:
		return random_below(8) ? 0x1ff : r & 0x3ff;
	case 0xb0:
	case 0x280:
		return 0;
	case 0x300:
		return r & 0xffffffff000ccfffull;
	case 0x320:
		return random_below(4) ? (r & 0x600ff) % 0x60000 : r & 0x700ff;
	case 0x380:
		return r & 0x3f;
	default:
		return r & 0x100ff;
	}
}

static void write_both(uint32_t reg, uint64_t value)
{
	int result;

	if (!(n.base & 0x800) || !n_x2()) {
		result = apic_mmio_write(&apic, reg, 4, (uint32_t)value);
		if (!(n.base & 0x800)) {
			assert_int_equal(result, -ENODEV);
			return;
		}
		assert_int_equal(result, 0);
		if (n_exists(reg))
			n_write(reg, (uint32_t)value);
		else
			n_error(0x80);
		return;
	}
	result = apic_msr_write(&apic, 0x800 + reg / 16, value);
	assert_int_equal(result, n_allowed(reg, value) ? 0 : -EINVAL);
	if (result)
		return;
	if (reg != 0x3f0)
		n_write(reg, value);
	else if (value < 16)
		n_error(0x20);
	else
		n_accept((uint32_t)value, false);
}

static void write_base(void)
{
	uint64_t value = (n.base & ~0xc00ull) | random_below(4) << 10;
	uint32_t from = n.base >> 10 & 3, to = value >> 10 & 3;
	bool legal = to != 1 && !(from == 0 && to == 3) && !(from == 3 && to == 2);

	assert_int_equal(apic_base_write(&apic, value), legal ? 0 : -EINVAL);
	if (!legal || from == to)
		return;
	n.base = value;
	if (to == 0)
		n_reset();
	if (to == 3) {
		n.icr &= 0xffffffff;
		n.ldr = 0;
		n.dfr = 0xffffffff;
	}
}

static void post_some(void)
{
	bool any[2] = { false, false };
	uint8_t vectors[6];
	bool levels[6];
	uint32_t count = 1 + random_below(6);

	for (uint32_t i = 0; i < count; i++) {
		/* distinct vectors, ascending */
		vectors[i] = (uint8_t)(i * 40 + random_below(40));
		levels[i] = random_below(2);
		assert_int_equal(apic_post(&apic, vectors[i], levels[i]), !any[levels[i]]);
		any[levels[i]] = true;
	}
	apic_sync_posted(&apic);
	/* The order in which the owner folds them: 64 at a time, the edge-triggered ones first. */
	for (uint32_t i = 0; i < 8 * count; i++) {
		uint32_t word = i / (2 * count), which = i % count;

		if (vectors[which] / 64 == word && levels[which] == (i / count & 1))
			n_accept(vectors[which], levels[which]);
	}
}

static void write_deadline(void)
{
	uint64_t value = random_below(4) ? fake.now_tsc - 500 + random_below(5000) : 0;

	assert_int_equal(apic_tsc_deadline_write(&apic, value), 0);
	if (n_mode() != 2)
		return;
	n.deadline = value;
	if (value && value <= fake.now_tsc) {
		n.deadline = 0;
		n_fire();
	}
}

static void step(void)
{
	uint32_t reg = random_reg(), vector = random_below(256), op = random_below(100);
	bool level = random_below(4) == 0;

	if (op < 20) {
		assert_int_equal(apic_accept(&apic, (uint8_t)vector, level), n_enabled() && vector > 15);
		n_accept(vector, level);
	} else if (op < 40) {
		if (n_next() >= 0) {
			apic_take(&apic, (uint8_t)n_next());
			n_take(n_next());
		}
	} else if (op < 50) {
		apic_eoi(&apic);
		n_eoi();
	} else if (op < 78) {
		write_both(reg, random_value(reg));
	} else if (op < 90) {
		n_advance(random_below(op == 89 ? 9000 : 900));
		/* late service must not be seen by anything the guest does to the timer */
		if (random_below(4) == 0)
			write_both(random_below(2) ? 0x380 : 0x320, 0x30 + random_below(2) * 0x20000);
		apic_timer_expired(&apic, fake.now_tsc);
	} else if (op < 94) {
		post_some();
	} else if (op < 97) {
		write_deadline();
	} else if (op < 98) {
		apic_set_tpr(&apic, (uint8_t)(vector & 0x3f));
		n.tpr = vector & 0x3f;
	} else if (random_below(20) == 0) {
		write_base();
	} else if (random_below(50) == 0) {
		apic_reset_init(&apic);
		n_reset();
	}
}

static void compare_registers(void)
{
	for (uint32_t reg = 0; reg < 0x400; reg += 16) {
		uint64_t value = 0;
		int result;

		if (!n_x2() && !n_exists(reg))
			continue; /* would be an error */
		result = n_x2() ? apic_msr_read(&apic, 0x800 + reg / 16, &value) :
				  apic_mmio_read(&apic, reg, 4, &value);
		if (!(n.base & 0x800)) {
			assert_int_equal(result, -ENODEV);
			continue;
		}
		assert_int_equal(result, n_exists(reg) ? 0 : -EINVAL);
		if (n_exists(reg) && value != n_read(reg))
			fail_msg("register 0x%x: 0x%llx, expected 0x%llx", reg, (unsigned long long)value,
				 (unsigned long long)n_read(reg));
	}
}

static void differential(void **state)
{
	uint64_t delivered = 0, deadline;

	(void)state;
	seed = fake_seed();
	print_message("SEED=0x%llx\n", (unsigned long long)seed);
	for (uint32_t i = 0; i < STEPS; i++) {
		if (i % 3000 == 0) {
			bool x2 = i / 3000 & 1;

			memset(&n, 0, sizeof(n));
			n.id = i % 200;
			fake_init_enabled(&apic, n.id, x2);
			n.base = apic_base_read(&apic);
			n_reset();
			n.svr = 0x1ff;
		}
		step();
		assert_int_equal(apic_next_vector(&apic), n_next());
		assert_int_equal(apic_pending_vector(&apic), n_top(n.irr));
		assert_int_equal(apic.ppr, n_ppr());
		assert_int_equal(fake.ipis, n.ipis);
		assert_int_equal(fake.level_eois, n.level_eois);
		deadline = apic_timer_deadline(&apic);
		assert_int_equal(deadline != UINT64_MAX, n.counting || n.deadline);
		assert_true(deadline > fake.now_tsc);
		compare_registers();
		delivered += n_next() >= 0;
	}
	assert_true(delivered > STEPS / 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(differential) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
