/* unit: core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: each register through both windows, priorities, errors, modes, destinations, sending.
 * Timer, posting and the differential test have files of their own.
 */
#include "apic_fake.h"

static struct apic apic;

#define FAULTS UINT64_MAX

/* What a register is in each window. `bad` is the set of bits that fault when set by MSR. */
static const struct reg_rule {
	uint32_t reg;
	uint64_t reset;	    /* in xAPIC mode, id 5 */
	uint64_t writable;  /* in the page; 0: read-only or write-only */
	uint64_t reset_x2;  /* FAULTS: RDMSR faults */
	uint64_t bad;	    /* FAULTS: any WRMSR faults */
	uint64_t must_mask; /* set whatever is written, while the APIC is disabled by SVR */
} rules[] = {
	{ 0x020, 5u << 24, 0, 5, FAULTS, 0 },
	{ 0x030, 0x60014, 0, 0x60014, FAULTS, 0 },
	{ 0x080, 0, 0xff, 0, ~0xffull, 0 },
	{ 0x090, 0, 0, FAULTS, FAULTS, 0 },
	{ 0x0a0, 0, 0, 0, FAULTS, 0 },
	{ 0x0b0, 0, 0, FAULTS, ~0ull, 0 },
	{ 0x0c0, 0, 0, FAULTS, FAULTS, 0 },
	{ 0x0d0, 0, 0xff000000, 0x20, FAULTS, 0 },
	{ 0x0e0, 0xffffffff, 0xf0000000, FAULTS, FAULTS, 0 },
	{ 0x100, 0, 0, 0, FAULTS, 0 },
	{ 0x170, 0, 0, 0, FAULTS, 0 },
	{ 0x180, 0, 0, 0, FAULTS, 0 },
	{ 0x1f0, 0, 0, 0, FAULTS, 0 },
	{ 0x200, 0, 0, 0, FAULTS, 0 },
	{ 0x270, 0, 0, 0, FAULTS, 0 },
	{ 0x2f0, 0x10000, 0x107ff, 0x10000, ~0x117ffull, 0x10000 },
	{ 0x310, 0, 0xff000000, FAULTS, FAULTS, 0 },
	{ 0x320, 0x10000, 0x700ff, 0x10000, ~0x710ffull, 0x10000 },
	{ 0x330, 0x10000, 0x107ff, 0x10000, ~0x117ffull, 0x10000 },
	{ 0x340, 0x10000, 0x107ff, 0x10000, ~0x117ffull, 0x10000 },
	{ 0x350, 0x10000, 0x1a7ff, 0x10000, ~0x1f7ffull, 0x10000 },
	{ 0x360, 0x10000, 0x1a7ff, 0x10000, ~0x1f7ffull, 0x10000 },
	{ 0x370, 0x10000, 0x100ff, 0x10000, ~0x110ffull, 0x10000 },
	{ 0x380, 0, 0xffffffff, 0, ~0xffffffffull, 0 },
	{ 0x390, 0, 0, 0, FAULTS, 0 },
	{ 0x3e0, 0, 0xb, 0, ~0xbull, 0 },
};

static void registers_by_page(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct reg_rule *r = &rules[i];
		uint64_t fixed = r->reset & ~r->writable;

		fake_init(&apic, 5);
		assert_int_equal(rd(&apic, r->reg), r->reset);
		for (unsigned int bit = 0; bit < 32; bit++) {
			uint64_t value = BIT(bit);

			wr(&apic, r->reg, value);
			/* a running count is tested elsewhere */
			if (r->reg != APIC_REG_TIMER_CURRENT)
				assert_int_equal(rd(&apic, r->reg),
						 fixed | (value & r->writable) | r->must_mask);
		}
		wr(&apic, r->reg, 0);
		assert_int_equal(rd(&apic, r->reg), fixed | r->must_mask);
		wr(&apic, APIC_REG_ESR, 0);
		assert_int_equal(rd(&apic, APIC_REG_ESR), 0);
	}
}

static void registers_by_msr(void **state)
{
	uint64_t value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		const struct reg_rule *r = &rules[i];
		uint32_t msr = 0x800 + r->reg / 16;

		fake_init(&apic, 5);
		assert_int_equal(apic_msr_read(&apic, msr, &value), -EINVAL);
		assert_int_equal(apic_msr_write(&apic, msr, 0), -EINVAL);
		assert_int_equal(apic_base_write(&apic, APIC_BASE_DEFAULT | 0xc00), 0);

		value = FAULTS;
		assert_int_equal(apic_msr_read(&apic, msr, &value), r->reset_x2 == FAULTS ? -EINVAL : 0);
		assert_int_equal(value, r->reset_x2);
		for (unsigned int bit = 0; bit < 64; bit++) {
			bool bad = (r->bad & BIT(bit)) != 0;

			assert_int_equal(apic_msr_write(&apic, msr, BIT(bit)), bad ? -EINVAL : 0);
			if (bad || (r->reg >= 0x100 && r->reg < 0x280))
				continue;
			assert_int_equal(apic_msr_read(&apic, msr, &value), 0);
			assert_int_equal(value, (BIT(bit) & r->writable) | r->must_mask);
		}
		assert_int_equal(apic_msr_write(&apic, msr, 0),
				 r->bad == FAULTS && r->reg != APIC_REG_EOI ? -EINVAL : 0);
	}
}

static bool has_rule(uint32_t reg)
{
	for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
		if (rules[i].reg == reg)
			return true;
	}
	return (reg >= 0x100 && reg <= 0x280) || reg == APIC_REG_ICR || reg == APIC_REG_SVR;
}

/* Everything not in the table: an error bit in the page, a fault by MSR. */
static void absent_registers(void **state)
{
	uint64_t value;

	(void)state;
	fake_init_enabled(&apic, 5, false);
	for (uint32_t reg = 0; reg < 0x1000; reg += 16) {
		wr(&apic, APIC_REG_ESR, 0);
		assert_int_equal(apic_mmio_read(&apic, reg, 4, &value), 0);
		if (!has_rule(reg))
			assert_int_equal(value, 0);
		wr(&apic, APIC_REG_ESR, 0);
		assert_int_equal(rd(&apic, APIC_REG_ESR), has_rule(reg) ? 0 : 0x80);
		if (!has_rule(reg)) {
			wr(&apic, reg, 1);
			wr(&apic, APIC_REG_ESR, 0);
			assert_int_equal(rd(&apic, APIC_REG_ESR), 0x80);
		}
	}
	fake_init_enabled(&apic, 5, true);
	for (uint32_t reg = 0; reg < 0x1000; reg += 16) {
		if (has_rule(reg) || reg == APIC_REG_SELF_IPI)
			continue;
		assert_int_equal(apic_msr_read(&apic, 0x800 + reg / 16, &value), -EINVAL);
		assert_int_equal(apic_msr_write(&apic, 0x800 + reg / 16, 0), -EINVAL);
	}
	assert_int_equal(apic_msr_read(&apic, 0x83f, &value), -EINVAL);
	assert_int_equal(apic_msr_read(&apic, 0x7ff, &value), -EINVAL);
	assert_int_equal(apic_msr_read(&apic, 0x900, &value), -EINVAL);
	assert_int_equal(apic_msr_write(&apic, 0x7ff, 0), -EINVAL);
	assert_int_equal(apic_msr_write(&apic, 0x900, 0), -EINVAL);
}

static void fewer_lvts_and_amd(void **state)
{
	struct apic_config config = fake_config(3);
	uint64_t value = 1;

	(void)state;
	fake_init(&apic, 3);
	config.max_lvt = 4;
	config.version = 0x10;
	config.arb_regs = true;
	config.tsc_deadline = false;
	assert_int_equal(apic_init(&apic, &config, &fake_page), 0);
	assert_int_equal(rd(&apic, APIC_REG_VERSION), 0x40010);
	wr(&apic, APIC_REG_LVT_TIMER, 0x7ffff);
	assert_int_equal(rd(&apic, APIC_REG_LVT_TIMER), 0x300ff);
	assert_int_equal(rd(&apic, APIC_REG_LVT_THERMAL), 0);
	wr(&apic, APIC_REG_ESR, 0);
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0x80);
	assert_int_equal(apic_tsc_deadline_read(&apic, &value), -EINVAL);
	assert_int_equal(apic_tsc_deadline_write(&apic, 5), -EINVAL);
	assert_int_equal(apic_base_write(&apic, apic_base_read(&apic) | APIC_BASE_X2), 0);
	assert_int_equal(apic_msr_read(&apic, 0x809, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(apic_msr_read(&apic, 0x80c, &value), 0);
	assert_int_equal(apic_msr_write(&apic, 0x809, 0), -EINVAL);
	assert_int_equal(apic_msr_read(&apic, 0x82f, &value), -EINVAL);
	assert_int_equal(apic_msr_read(&apic, 0x833, &value), -EINVAL);
	assert_int_equal(apic_msr_write(&apic, 0x832, 0x400ff), -EINVAL);
}

static void bad_configs(void **state)
{
	struct apic_config good = fake_config(3), c;

	(void)state;
	assert_int_equal(apic_init(&apic, &good, &fake_page), 0);
#define REFUSES(change)                                                      \
	do {                                                                 \
		c = good;                                                    \
		change;                                                      \
		assert_int_equal(apic_init(&apic, &c, &fake_page), -EINVAL); \
	} while (0)
	REFUSES(c.max_lvt = 2);
	REFUSES(c.max_lvt = 7);
	REFUSES(c.phys_bits = 35);
	REFUSES(c.phys_bits = 53);
	REFUSES(c.min_period_tsc = 0);
	REFUSES(c.clock.to_tsc.mult = 0);
	REFUSES(c.clock.to_ticks.shift = 128);
	REFUSES(c.apic_id = UINT32_MAX);
	REFUSES((c.x2apic = false, c.apic_id = 0xff));
}

static void odd_page_accesses(void **state)
{
	uint64_t value;

	(void)state;
	fake_init_enabled(&apic, 0x81, false);
	wr(&apic, APIC_REG_TIMER_INITIAL, 0);
	wr(&apic, APIC_REG_LVT_LINT0, 0x1a7ff);
	static const struct {
		uint32_t offset;
		unsigned int size;
		uint64_t value;
	} reads[] = {
		{ 0x350, 1, 0xff },   { 0x351, 1, 0xa7 },  { 0x352, 1, 1 },
		{ 0x350, 2, 0xa7ff }, { 0x351, 2, 0x1a7 }, { 0x350, 8, 0x1a7ff },
		{ 0x354, 4, 0 },      { 0x35f, 1, 0 },	   { 0x353, 4, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(reads); i++) {
		assert_int_equal(apic_mmio_read(&apic, reads[i].offset, reads[i].size, &value), 0);
		assert_int_equal(value, reads[i].value);
	}
	assert_int_equal(apic_mmio_write(&apic, 0x350, 1, 0), 0);
	assert_int_equal(apic_mmio_write(&apic, 0x350, 8, 0), 0);
	assert_int_equal(apic_mmio_write(&apic, 0x351, 4, 0), 0);
	assert_int_equal(apic_mmio_write(&apic, 0x354, 4, 0), 0);
	assert_int_equal(rd(&apic, APIC_REG_LVT_LINT0), 0x1a7ff);
	assert_int_equal(apic_mmio_read(&apic, 0x1000, 4, &value), -EINVAL);
	assert_int_equal(apic_mmio_read(&apic, 0xffd, 4, &value), -EINVAL);
	assert_int_equal(apic_mmio_read(&apic, UINT32_MAX, 1, &value), -EINVAL);
	assert_int_equal(apic_mmio_read(&apic, 0, 3, &value), -EINVAL);
	assert_int_equal(apic_mmio_write(&apic, 0, 0, 0), -EINVAL);
	assert_int_equal(apic_mmio_write(&apic, 0x1000, 4, 0), -EINVAL);
}

static void serve(uint8_t vector)
{
	assert_true(apic_accept(&apic, vector, false));
	assert_int_equal(apic_next_vector(&apic), vector);
	apic_take(&apic, vector);
}

static void ppr_table(void **state)
{
	static const struct {
		uint8_t tpr;
		int served;
		uint8_t ppr;
	} rows[] = {
		{ 0, -1, 0 },	      { 0x35, -1, 0x35 },   { 0, 0x31, 0x30 },	  { 0x2f, 0x31, 0x30 },
		{ 0x30, 0x31, 0x30 }, { 0x3f, 0x31, 0x3f }, { 0x40, 0x31, 0x40 }, { 0x0f, -1, 0x0f },
		{ 0xff, 0xfe, 0xff }, { 0xef, 0xff, 0xf0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_init_enabled(&apic, 0, i & 1);
		if (rows[i].served >= 0)
			serve((uint8_t)rows[i].served);
		wr(&apic, APIC_REG_TPR, rows[i].tpr);
		assert_int_equal(rd(&apic, APIC_REG_PPR), rows[i].ppr);
		assert_int_equal(apic_cr8(&apic), rows[i].tpr >> 4);
		/* deliverable: only a higher class */
		apic_accept(&apic, (uint8_t)((rows[i].ppr & 0xf0) | 15), false);
		if (rows[i].ppr >= 0x10)
			assert_int_equal(apic_next_vector(&apic), -1);
		if (rows[i].ppr < 0xf0) {
			apic_accept(&apic, (uint8_t)((rows[i].ppr & 0xf0) + 16), false);
			assert_int_equal(apic_next_vector(&apic), (rows[i].ppr & 0xf0) + 16);
		}
	}
}

/* A vector that was taken and couldn't be injected waits again, and its end is its own. */
static void put_back(void **state)
{
	const uint32_t none[8] = { 0 }, automatic[8] = { [2] = 1u << 5 };

	(void)state;
	fake_init_enabled(&apic, 0, true);
	serve(0x40);
	serve(0x51);
	assert_true(apic_put_back(&apic, 0x51));
	assert_int_equal(rd(&apic, 0x120), 1);
	assert_int_equal(rd(&apic, 0x220), 1u << 17);
	assert_int_equal(apic.ppr, 0x40);
	assert_int_equal(apic_next_vector(&apic), 0x51);
	apic_take(&apic, 0x51);
	apic_eoi(&apic);
	assert_int_equal(apic.isr_top, 0x40);
	assert_false(apic_put_back(&apic, 0x51)); /* not in service: an 8259's */
	assert_int_equal(apic_pending_vector(&apic), -1);
	apic_eoi(&apic);
	/* Level-triggered: it isn't ended in between. */
	assert_true(apic_accept(&apic, 0x61, true));
	apic_take(&apic, 0x61);
	assert_true(apic_put_back(&apic, 0x61));
	assert_int_equal(fake.level_eois, 0);
	assert_int_equal(apic_next_vector(&apic), 0x61);
	apic_take(&apic, 0x61);
	apic_eoi(&apic);
	assert_int_equal(fake.level_eois, 1);
	/* Ended as it was taken: never in service. */
	apic_set_eoi_rules(&apic, automatic, none);
	serve(0x45);
	assert_int_equal(apic.isr_top, -1);
	assert_true(apic_put_back(&apic, 0x45));
	assert_int_equal(apic_next_vector(&apic), 0x45);
}

static void nesting(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 0, true);
	serve(0x40);
	assert_true(apic_accept(&apic, 0x45, false)); /* same class waits */
	assert_int_equal(apic_next_vector(&apic), -1);
	assert_int_equal(apic_pending_vector(&apic), 0x45);
	serve(0x51);
	serve(0xff);
	assert_int_equal(rd(&apic, 0x170), 0x80000000);
	assert_int_equal(rd(&apic, 0x120), 0x20001);
	assert_int_equal(rd(&apic, 0x220), 0x20);
	apic_eoi(&apic);
	assert_int_equal(apic.ppr, 0x50);
	wr(&apic, APIC_REG_EOI, 0);
	assert_int_equal(apic.ppr, 0x40);
	assert_int_equal(apic_next_vector(&apic), -1);
	apic_eoi(&apic);
	assert_int_equal(apic.ppr, 0);
	assert_int_equal(apic_next_vector(&apic), 0x45);
	apic_eoi(&apic); /* nothing in service */
	assert_int_equal(apic_next_vector(&apic), 0x45);
	apic_take(&apic, 0x45);
	assert_int_equal(apic_pending_vector(&apic), -1);
	assert_int_equal(fake.level_eois, 0);
	/* the same vector again while it is in service */
	assert_true(apic_accept(&apic, 0x45, false));
	assert_int_equal(apic_next_vector(&apic), -1);
	apic_eoi(&apic);
	assert_int_equal(apic_next_vector(&apic), 0x45);
}

static void level_eoi(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 0, false);
	assert_true(apic_accept(&apic, 0x31, true));
	assert_int_equal(rd(&apic, 0x190), 1u << 17);
	apic_take(&apic, 0x31);
	/* edge-triggered above it: no report */
	serve(0x80);
	apic_eoi(&apic);
	assert_int_equal(fake.level_eois, 0);
	fake.reenter = true; /* still asserted: the host accepts it again */
	wr(&apic, APIC_REG_EOI, 0x1234);
	assert_int_equal(fake.level_eois, 1);
	assert_int_equal(fake.level_vector, 0x31);
	assert_int_equal(apic_next_vector(&apic), 0x31);
	fake.reenter = false;
	/* TMR follows the latest acceptance */
	assert_true(apic_accept(&apic, 0x31, false));
	assert_int_equal(rd(&apic, 0x190), 0);
	apic_take(&apic, 0x31);
	apic_eoi(&apic);
	assert_int_equal(fake.level_eois, 1);
}

/* The guest doesn't see which are level-triggered, and their ends are told all the same. */
static void hidden_level(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 0, false);
	apic.config.hides_level = true;
	assert_true(apic_accept(&apic, 0x31, true));
	assert_int_equal(rd(&apic, 0x190), 0);
	assert_int_equal(apic_vectors(&apic, APIC_REG_TMR, 0) >> 0x31 & 1, 1);
	assert_int_equal(rd(&apic, APIC_REG_IRR + 0x10), 1u << 17);
	apic_take(&apic, 0x31);
	apic_eoi(&apic);
	assert_int_equal(fake.level_eois, 1);
}

static void software_disable(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 0, false);
	wr(&apic, APIC_REG_LVT_LINT0, 0x700);
	wr(&apic, APIC_REG_LVT_TIMER, 0x200ee);
	assert_int_equal(fake.lvt_value[APIC_LVT_LINT0], 0x700);
	serve(0x51);
	assert_true(apic_accept(&apic, 0x61, false));
	wr(&apic, APIC_REG_SVR, 0x0ff);
	assert_int_equal(fake.mode_changes, 1);
	assert_int_equal(rd(&apic, APIC_REG_LVT_LINT0), 0x10700);
	assert_int_equal(fake.lvt_value[APIC_LVT_LINT0], 0x10700);
	assert_int_equal(rd(&apic, APIC_REG_LVT_TIMER), 0x300ee);
	assert_false(apic_accept(&apic, 0x71, false));
	assert_false(apic_accept(&apic, 3, false));
	wr(&apic, APIC_REG_ICR, 0x40000 | 0x72); /* to itself */
	wr(&apic, APIC_REG_LVT_LINT0, 0x400);
	assert_int_equal(rd(&apic, APIC_REG_LVT_LINT0), 0x10400);
	/* held: pending and in-service interrupts, and it still sends */
	assert_int_equal(apic_next_vector(&apic), 0x61);
	assert_int_equal(apic.isr_top, 0x51);
	wr(&apic, APIC_REG_ICR, 0x4051);
	assert_int_equal(fake.ipis, 1);
	wr(&apic, APIC_REG_ESR, 0);
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0);
	wr(&apic, APIC_REG_SVR, 0x1f0);
	assert_int_equal(rd(&apic, APIC_REG_LVT_LINT0), 0x10400); /* stays masked */
	assert_true(apic_accept(&apic, 0x71, false));
}

static void errors(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 0, false);
	wr(&apic, APIC_REG_LVT_ERROR, 0xfe);
	assert_false(apic_accept(&apic, 0, false));
	assert_false(apic_accept(&apic, 15, true));
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0); /* not before a write */
	assert_int_equal(apic_next_vector(&apic), 0xfe);
	apic_take(&apic, 0xfe);
	apic_eoi(&apic);
	wr(&apic, APIC_REG_ICR, 0x400f); /* before re-arming: no second interrupt */
	assert_int_equal(fake.ipis, 0);
	assert_int_equal(apic_next_vector(&apic), -1);
	wr(&apic, APIC_REG_ESR, 0xffffffff);
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0x60);
	wr(&apic, APIC_REG_ESR, 0);
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0);
	wr(&apic, APIC_REG_ICR, 0x4100); /* lowest priority, vector 0 */
	assert_int_equal(apic_next_vector(&apic), 0xfe);
	/* an illegal vector in LVT error itself: recorded, nothing else */
	fake_init_enabled(&apic, 0, true);
	wr(&apic, APIC_REG_LVT_ERROR, 0x03);
	wr(&apic, APIC_REG_SELF_IPI, 5);
	assert_int_equal(apic_pending_vector(&apic), -1);
	wr(&apic, APIC_REG_ESR, 0);
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0x60);
}

static void base_transitions(void **state)
{
	static const uint64_t modes[] = { 0, 0x400, 0x800, 0xc00 };
	/* [from][to]: off, illegal, xAPIC, x2APIC */
	static const bool legal[4][4] = {
		{ true, false, true, false },
		{ false },
		{ true, false, true, true },
		{ true, false, false, true },
	};

	(void)state;
	for (int from = 0; from < 4; from++) {
		for (int to = 0; to < 4 && from != 1; to++) {
			fake_init(&apic, 0);
			if (from == 3)
				assert_int_equal(apic_base_write(&apic, APIC_BASE_DEFAULT | 0xc00), 0);
			if (from == 0)
				assert_int_equal(apic_base_write(&apic, APIC_BASE_DEFAULT), 0);
			assert_int_equal(apic_base_write(&apic, APIC_BASE_DEFAULT | modes[to]),
					 legal[from][to] ? 0 : -EINVAL);
			assert_int_equal(apic_base_read(&apic),
					 APIC_BASE_DEFAULT | 0x100 | modes[legal[from][to] ? to : from]);
		}
	}
	fake_init(&apic, 0);
	for (unsigned int bit = 0; bit < 64; bit++) {
		bool reserved = bit < 8 || bit == 9 || bit >= 40;

		assert_int_equal(apic_base_write(&apic, 0x800 | BIT(bit)), reserved ? -EINVAL : 0);
		if (bit == 10 || bit == 11)
			fake_init(&apic, 0);
	}
	struct apic_config config = fake_config(1);
	config.x2apic = false;
	assert_int_equal(apic_init(&apic, &config, &fake_page), 0);
	assert_int_equal(apic_base_write(&apic, APIC_BASE_DEFAULT | 0xc00), -EINVAL);
	/* the BSP flag can be neither set nor cleared */
	assert_int_equal(apic_base_write(&apic, 0x12345900), 0);
	assert_int_equal(apic_base_read(&apic), 0x12345800);
}

static void mode_effects(void **state)
{
	uint64_t value;

	(void)state;
	fake_init_enabled(&apic, 0x123, false);
	assert_int_equal(rd(&apic, APIC_REG_ID), 0x23000000);
	wr(&apic, APIC_REG_LDR, 0x5a000000);
	wr(&apic, APIC_REG_DFR, 0);
	wr(&apic, APIC_REG_ICR_HIGH, 0x77000000);
	wr(&apic, APIC_REG_TPR, 0x20);
	serve(0x91);
	fake.mode_changes = 0;
	assert_int_equal(apic_base_write(&apic, APIC_BASE_DEFAULT | 0xc00), 0);
	assert_int_equal(fake.mode_changes, 1);
	assert_int_equal(apic_mmio_read(&apic, 0x80, 4, &value), -ENODEV);
	assert_int_equal(apic_mmio_write(&apic, 0x80, 4, 0), -ENODEV);
	assert_int_equal(rd(&apic, APIC_REG_ID), 0x123);
	assert_int_equal(rd(&apic, APIC_REG_LDR), 0x120008);
	assert_int_equal(rd(&apic, APIC_REG_ICR), 0);
	assert_int_equal(rd(&apic, APIC_REG_TPR), 0x20);
	assert_int_equal(apic.isr_top, 0x91); /* kept */
	assert_int_equal(apic_base_write(&apic, APIC_BASE_DEFAULT), 0);
	assert_int_equal(apic_mmio_read(&apic, 0x80, 4, &value), -ENODEV);
	assert_int_equal(apic_msr_read(&apic, 0x808, &value), -EINVAL);
	assert_false(apic_accept(&apic, 0x50, false));
	assert_int_equal(apic_base_write(&apic, APIC_BASE_DEFAULT | 0x800), 0);
	/* as after power-up */
	assert_int_equal(rd(&apic, APIC_REG_SVR), 0xff);
	assert_int_equal(rd(&apic, APIC_REG_TPR), 0);
	assert_int_equal(rd(&apic, APIC_REG_DFR), 0xffffffff);
	assert_int_equal(apic.isr_top, -1);
}

static void init_reset(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 0x123, true);
	wr(&apic, APIC_REG_TPR, 0x20);
	wr(&apic, APIC_REG_TIMER_INITIAL, 100);
	serve(0x91);
	apic_accept(&apic, 0x33, true);
	apic_post(&apic, 0x44, true);
	wr(&apic, APIC_REG_LVT_PMC, 0x400);
	apic_reset_init(&apic);
	assert_int_equal(rd(&apic, APIC_REG_ID), 0x123);
	assert_int_equal(apic_base_read(&apic), APIC_BASE_DEFAULT | 0xc00);
	assert_int_equal(rd(&apic, APIC_REG_SVR), 0xff);
	wr(&apic, APIC_REG_SVR, 0x1ff);
	apic_sync_posted(&apic); /* nothing: what was posted before is gone */
	assert_int_equal(rd(&apic, APIC_REG_TPR), 0);
	assert_int_equal(apic_pending_vector(&apic), -1);
	assert_int_equal(apic.isr_top, -1);
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
	assert_int_equal(fake.lvt_value[APIC_LVT_PMC], 0x10000);
	assert_true(apic_post(&apic, 0x44, true)); /* the summary was cleared too */
}

static void take_over(void **state)
{
	struct apic_image image = {
		.base = APIC_BASE_DEFAULT | 0x900,
		.icr = 0x0300000000001641ull,
		.tpr = 0x10,
		.svr = 0x1ff,
		.ldr = 0x08123456,
		.dfr = 0x0,
		.timer_initial = 1000,
		.timer_current = 400,
		.timer_divide = 0xb,
		.lvt = { 0x200ec, 0x8700, 0x400, 0xfe, 0x10400, 0x100fa, 0xf9 },
		.irr = { [1] = 2, [0] = 0xffff },
		.isr = { [7] = 1 },
		.tmr = { [7] = 1 },
	};

	(void)state;
	fake_init(&apic, 1);
	assert_int_equal(apic_load(&apic, &image, fake.now_tsc), 0);
	assert_int_equal(fake.mode_changes + fake.timer_changes + fake.lvt_changes[1], 0);
	assert_int_equal(apic_base_read(&apic), image.base);
	assert_int_equal(rd(&apic, APIC_REG_ICR), 0x641);
	assert_int_equal(rd(&apic, APIC_REG_ICR_HIGH), 0x03000000);
	assert_int_equal(rd(&apic, APIC_REG_LDR), 0x08000000);
	assert_int_equal(rd(&apic, APIC_REG_DFR), 0x0fffffff);
	assert_int_equal(rd(&apic, APIC_REG_LVT_LINT0), 0x8700);
	assert_int_equal(rd(&apic, APIC_REG_LVT_CMCI), 0xf9);
	assert_int_equal(apic_pending_vector(&apic), 0x21); /* illegal ones are gone */
	assert_int_equal(rd(&apic, APIC_REG_PPR), 0xe0);
	assert_int_equal(rd(&apic, APIC_REG_TIMER_CURRENT), 400);
	assert_int_equal(apic_timer_deadline(&apic), fake.now_tsc + 400 * 16);
	apic_eoi(&apic);
	assert_int_equal(fake.level_vector, 0xe0);
	image.base |= APIC_BASE_X2;
	image.icr = 0xaabbccdd00004041ull;
	image.svr = 0;
	assert_int_equal(apic_load(&apic, &image, fake.now_tsc), 0);
	assert_int_equal(rd(&apic, APIC_REG_ICR), 0xaabbccdd00004041ull);
	assert_int_equal(rd(&apic, APIC_REG_LVT_ERROR), 0x100fe);
	image.base = APIC_BASE_DEFAULT | APIC_BASE_X2;
	assert_int_equal(apic_load(&apic, &image, fake.now_tsc), -EINVAL);
	image.base = 0;
	assert_int_equal(apic_load(&apic, &image, fake.now_tsc), 0);
	assert_int_equal(apic_pending_vector(&apic), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_by_page),
		cmocka_unit_test(registers_by_msr),
		cmocka_unit_test(absent_registers),
		cmocka_unit_test(fewer_lvts_and_amd),
		cmocka_unit_test(bad_configs),
		cmocka_unit_test(odd_page_accesses),
		cmocka_unit_test(ppr_table),
		cmocka_unit_test(put_back),
		cmocka_unit_test(nesting),
		cmocka_unit_test(level_eoi),
		cmocka_unit_test(hidden_level),
		cmocka_unit_test(software_disable),
		cmocka_unit_test(errors),
		cmocka_unit_test(base_transitions),
		cmocka_unit_test(mode_effects),
		cmocka_unit_test(init_reset),
		cmocka_unit_test(take_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
