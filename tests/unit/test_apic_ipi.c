/* unit: core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: what an ICR write sends, and whom a destination names.
 */
#include "apic_fake.h"

static struct apic apic;

/* Every mode with every shorthand: 'h' to the host, 's' to itself, '-' nowhere. SDM3 table 11-3. */
static void modes_and_shorthands(void **state)
{
	static const char *const expect[8] = {
		"hshh", /* fixed */
		"h--h", /* lowest priority */
		"h--h", /* SMI */
		"----", /* reserved */
		"h--h", /* NMI */
		"h--h", /* INIT */
		"h--h", /* SIPI */
		"----", /* ExtINT */
	};

	(void)state;
	for (uint32_t i = 0; i < 64; i++) {
		uint32_t mode = i & 7, shorthand = (i >> 3) & 3;
		bool x2 = i >> 5;
		char want = expect[mode][shorthand];

		fake_init_enabled(&apic, 2, x2);
		if (!x2)
			wr(&apic, APIC_REG_ICR_HIGH, 0x07000000);
		wr(&apic, APIC_REG_ICR, (x2 ? 0x700000000 : 0) | shorthand << 18 | mode << 8 | 0x4800 | 0x9a);
		assert_int_equal(fake.ipis, want == 'h');
		assert_int_equal(apic_pending_vector(&apic), want == 's' ? 0x9a : -1);
		if (want != 'h')
			continue;
		assert_int_equal(fake.ipi.dest, shorthand ? 0 : 7);
		assert_int_equal(fake.ipi.mode, mode);
		assert_int_equal(fake.ipi.vector, 0x9a);
		assert_int_equal(fake.ipi.shorthand, shorthand);
		assert_int_equal(fake.ipi.from_x2apic, x2);
		assert_true(fake.ipi.logical);
		assert_true(fake.ipi.level);
		assert_false(fake.ipi.trigger);
	}
}

static void init_levels(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 2, true);
	assert_int_equal(apic_icr_write(&apic, 0x30000c500), 0); /* assert */
	assert_int_equal(fake.ipis, 1);
	assert_true(fake.ipi.level && fake.ipi.trigger);
	assert_int_equal(apic_icr_write(&apic, 0x300008500), 0); /* de-assert */
	assert_int_equal(fake.ipis, 1);
	assert_int_equal(apic_icr_write(&apic, 0x300000500), 0); /* edge, level bit clear: sent */
	assert_int_equal(fake.ipis, 2);
	assert_int_equal(apic_icr_write(&apic, 0x300004608), 0);
	assert_int_equal(fake.ipi.mode, APIC_MODE_SIPI);
	assert_int_equal(fake.ipi.vector, 8);
}

static void icr_bits(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 2, true);
	for (unsigned int bit = 0; bit < 64; bit++) {
		bool reserved = bit == 13 || bit == 16 || bit == 17 || (bit >= 20 && bit < 32);
		uint64_t value = BIT(bit) | 0x700; /* ExtINT: never sent */

		fake.ipis = 0;
		wr(&apic, APIC_REG_ICR, 0x700);
		assert_int_equal(apic_icr_write(&apic, value), reserved ? -EINVAL : 0);
		assert_int_equal(rd(&apic, APIC_REG_ICR), reserved ? 0x700 : value & ~BIT(12));
	}
	fake_init_enabled(&apic, 2, false);
	wr(&apic, APIC_REG_ICR_HIGH, 0xffffffff);
	assert_int_equal(fake.ipis, 0); /* the low half sends */
	wr(&apic, APIC_REG_ICR, 0xffffffff);
	assert_int_equal(rd(&apic, APIC_REG_ICR_HIGH), 0xff000000);
	assert_int_equal(rd(&apic, APIC_REG_ICR), 0xccfff);
	wr(&apic, APIC_REG_ICR_HIGH, 0x05000000);
	assert_int_equal(apic_icr_write(&apic, 0x0600000000004080ull), 0);
	assert_int_equal(fake.ipi.dest, 6);
	assert_int_equal(rd(&apic, APIC_REG_ICR_HIGH), 0x06000000);
}

static void illegal_vectors(void **state)
{
	static const uint32_t sends[] = { 0x400f, 0x410f, 0x40000, 0x8400f, 0xc400f, 0x4003 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sends); i++) {
		fake_init_enabled(&apic, 2, true);
		assert_int_equal(apic_icr_write(&apic, sends[i]), 0);
		assert_int_equal(fake.ipis, 0);
		wr(&apic, APIC_REG_ESR, 0);
		assert_int_equal(rd(&apic, APIC_REG_ESR), 0x20);
	}
	/* NMI and SIPI with a low vector are fine */
	assert_int_equal(apic_icr_write(&apic, 0x4400), 0);
	assert_int_equal(apic_icr_write(&apic, 0x4601), 0);
	assert_int_equal(fake.ipis, 2);
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0x20);
	wr(&apic, APIC_REG_ESR, 0);
	assert_int_equal(rd(&apic, APIC_REG_ESR), 0);
}

static void self_ipi(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 2, true);
	wr(&apic, APIC_REG_SELF_IPI, 0x55);
	assert_int_equal(apic_next_vector(&apic), 0x55);
	assert_int_equal(apic_msr_write(&apic, 0x83f, 0x155), -EINVAL);
	assert_int_equal(fake.ipis, 0);
	/* the own id is the host's business */
	assert_int_equal(apic_icr_write(&apic, 0x200004066ull), 0);
	assert_int_equal(fake.ipis, 1);
	assert_int_equal(apic_pending_vector(&apic), 0x55);
}

static void reentrant_host(void **state)
{
	(void)state;
	fake_init_enabled(&apic, 2, false);
	fake.reenter = true;
	apic_post(&apic, 0x77, false);
	wr(&apic, APIC_REG_ICR, 0x4050);
	assert_int_equal(apic_pending_vector(&apic), 0x77);
	apic_take(&apic, 0x77);
	assert_int_equal(apic_pending_vector(&apic), 0x31);
	wr(&apic, APIC_REG_SVR, 0xff);
	wr(&apic, APIC_REG_SVR, 0x1ff);
	apic_reset_init(&apic);
	assert_int_equal(apic_pending_vector(&apic), -1); /* disabled while the host called back */
}

static void physical_destinations(void **state)
{
	static const struct {
		uint32_t id, dest;
		bool x2, from_x2, match;
	} rows[] = {
		{ 5, 5, false, false, true },	       { 5, 4, false, false, false },
		{ 5, 0xff, false, false, true },       { 5, 0xff, false, true, false },
		{ 5, 0xffffffff, false, true, true },  { 5, 0x105, false, true, false },
		{ 5, 5, true, false, true },	       { 5, 0xff, true, false, true },
		{ 5, 0xffffffff, true, true, true },   { 0xff, 0xff, true, true, true },
		{ 0x105, 0x105, true, true, true },    { 0x105, 5, true, true, false },
		{ 0x105, 5, true, false, false },      { 0x105, 5, false, false, true },
		{ 5, 0xffffffff, true, false, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_init_enabled(&apic, rows[i].id, rows[i].x2);
		assert_int_equal(apic_matches(&apic, rows[i].dest, false, rows[i].from_x2), rows[i].match);
		assert_int_equal(apic_id(&apic), rows[i].x2 ? rows[i].id : rows[i].id & 0xff);
		wr(&apic, APIC_REG_SVR, 0xff); /* software-disabled still matches */
		assert_int_equal(apic_matches(&apic, rows[i].dest, false, rows[i].from_x2), rows[i].match);
		assert_int_equal(apic_base_write(&apic, APIC_BASE_DEFAULT), 0);
		assert_false(apic_matches(&apic, rows[i].dest, false, rows[i].from_x2));
	}
}

static void logical_xapic(void **state)
{
	static const struct {
		uint32_t dfr, ldr, dest;
		bool match;
	} rows[] = {
		{ 0xf, 0x04, 0x04, true },   { 0xf, 0x04, 0xfb, false }, { 0xf, 0x81, 0x80, true },
		{ 0xf, 0x00, 0xfe, false },  { 0xf, 0x00, 0xff, true },	 { 0xf, 0x04, 0x00, false },
		{ 0x0, 0x24, 0x24, true },   { 0x0, 0x24, 0x2c, true },	 { 0x0, 0x24, 0x34, false },
		{ 0x0, 0x24, 0x2b, false },  { 0x0, 0x24, 0xff, true },	 { 0x0, 0x24, 0xf4, false },
		{ 0x0, 0x20, 0x20, false },  { 0x8, 0x24, 0x24, false }, { 0x8, 0x24, 0xff, true },
		{ 0xf, 0x04, 0x104, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_init_enabled(&apic, 1, false);
		wr(&apic, APIC_REG_DFR, rows[i].dfr << 28);
		wr(&apic, APIC_REG_LDR, rows[i].ldr << 24);
		assert_int_equal(fake.mode_changes, 2);
		assert_int_equal(apic_logical_id(&apic), rows[i].ldr);
		assert_int_equal(apic_matches(&apic, rows[i].dest, true, false), rows[i].match);
	}
}

static void logical_x2apic(void **state)
{
	static const struct {
		uint32_t id, dest;
		bool match;
	} rows[] = {
		{ 0, 0x00000001, true },     { 0, 0x00000002, false },	   { 0, 0x0000ffff, true },
		{ 0, 0x00010001, false },    { 15, 0x00008000, true },	   { 16, 0x00010001, true },
		{ 16, 0x00000001, false },   { 0x123, 0x00120008, true },  { 0x123, 0x0012fff7, false },
		{ 0x123, 0xffffffff, true }, { 0x123, 0xffff0008, false }, { 0, 0, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fake_init_enabled(&apic, rows[i].id, true);
		assert_int_equal(apic_matches(&apic, rows[i].dest, true, true), rows[i].match);
		assert_int_equal(apic_logical_id(&apic), rd(&apic, APIC_REG_LDR));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(modes_and_shorthands),
		cmocka_unit_test(init_levels),
		cmocka_unit_test(icr_bits),
		cmocka_unit_test(illegal_vectors),
		cmocka_unit_test(self_ipi),
		cmocka_unit_test(reentrant_host),
		cmocka_unit_test(physical_destinations),
		cmocka_unit_test(logical_xapic),
		cmocka_unit_test(logical_x2apic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
