/* unit: core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Lazy EOI: when the guest is told that it needs none, and that its local APIC is then in no other state than that of a guest
 * which always writes EOI. The second is shown against the model itself, without the word.
 */
#include "apic_fake.h"

static struct apic apic, plain;
static struct apic_page plain_page;
static uint32_t word;

static void begin(void)
{
	fake_init_enabled(&apic, 0, true);
	word = 0;
	apic_set_assist(&apic, &word);
}

static void take(uint8_t vector)
{
	assert_int_equal(apic_next_vector(&apic), vector);
	apic_take(&apic, vector);
}

static void arrive(uint8_t vector)
{
	assert_true(apic_accept(&apic, vector, false));
}

/* The end of a guest's handler. True: without an exit. */
static bool guest_ends(void)
{
	uint32_t old = word;

	word = 0;
	if (old & 1)
		return true;
	apic_eoi(&apic);
	return false;
}

static uint64_t in_service(void)
{
	uint64_t value, any = 0;

	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(apic_msr_read(&apic, APIC_MSR_ISR + i, &value), 0);
		any |= value;
	}
	return any;
}

static void test_alone(void **state)
{
	(void)state;
	begin();
	for (int i = 0; i < 3; i++) {
		arrive(0x51);
		assert_int_equal(word, 0);
		take(0x51);
		assert_int_equal(word, 1);
		assert_true(guest_ends());
	}
	assert_int_equal(in_service(), 0);
	assert_int_equal(apic.ppr, 0);
}

static void test_other_bits_stay(void **state)
{
	(void)state;
	begin();
	word = 0x80000002;
	arrive(0x51);
	take(0x51);
	assert_int_equal(word, 0x80000003);
	arrive(0x52);
	assert_int_equal(word, 0x80000002);
}

static void test_level_triggered(void **state)
{
	(void)state;
	begin();
	assert_true(apic_accept(&apic, 0x51, true));
	take(0x51);
	assert_int_equal(word, 0);
	assert_false(guest_ends());
	assert_int_equal(fake.level_eois, 1);
}

static void test_another_is_pending(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	arrive(0x41);
	take(0x51);
	assert_int_equal(word, 0);
	assert_false(guest_ends());
	take(0x41);
	assert_int_equal(word, 1);
}

static void test_another_arrives(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	arrive(0x41); /* waits for the end of 51h */
	assert_int_equal(word, 0);
	assert_int_equal(apic_next_vector(&apic), -1);
	assert_false(guest_ends());
	take(0x41);
}

static void test_another_arrives_after_the_end(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	assert_true(guest_ends());
	arrive(0x41); /* could not be taken if 51h were still in service */
	take(0x41);
	assert_int_equal(word, 1);
}

static void test_posted_by_another_processor(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	assert_true(apic_post(&apic, 0x41, false));
	assert_int_equal(word, 1); /* the kick is on its way */
	apic_sync_posted(&apic);
	assert_int_equal(word, 0);
}

static void test_nested(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	arrive(0x61);
	assert_int_equal(word, 0);
	take(0x61);
	assert_int_equal(word, 0); /* one below is in service */
	assert_false(guest_ends());
	assert_false(guest_ends());
	assert_int_equal(in_service(), 0);
}

static void test_guest_writes_eoi_all_the_same(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	apic_eoi(&apic);
	assert_int_equal(word, 0);
	assert_int_equal(in_service(), 0);
	arrive(0x51);
	take(0x51);
	assert_int_equal(word, 1);
	assert_true(guest_ends());
	apic_eoi(&apic); /* one too many: ends nothing else */
	assert_int_equal(in_service(), 0);
}

/* The word is the guest's to spoil. What it writes ends nothing but what it was offered to end. */
static void test_hostile_guest(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	word = 0;
	word = 1; /* not ended after all */
	arrive(0x41);
	assert_int_equal(apic_next_vector(&apic), -1);
	assert_int_equal(word, 0);
	word = 1;
	assert_int_not_equal(in_service(), 0);
	word = 0;
	assert_int_not_equal(in_service(), 0); /* wasn't offered any more */
	assert_int_equal(apic_next_vector(&apic), -1);
}

static void test_what_the_guest_reads(void **state)
{
	uint64_t value;

	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	assert_int_equal(apic_msr_read(&apic, 0x80a, &value), 0);
	assert_int_equal(value, 0x50);
	assert_int_equal(word, 1); /* looking doesn't take it back */
	assert_true(guest_ends());
	assert_int_equal(apic_msr_read(&apic, 0x80a, &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(in_service(), 0);
}

static void test_page_goes(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	apic_set_assist(&apic, NULL);
	assert_int_equal(word, 0);
	assert_int_not_equal(in_service(), 0);
	apic_eoi(&apic);
	arrive(0x52);
	take(0x52);
	assert_int_equal(word, 0);
	apic_eoi(&apic);
	apic_set_assist(&apic, &word);
	arrive(0x51);
	take(0x51);
	assert_true(guest_ends());
	apic_set_assist(&apic, NULL);
	assert_int_equal(in_service(), 0);
}

static void test_put_back(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	assert_int_equal(word, 1);
	assert_true(apic_put_back(&apic, 0x51));
	assert_int_equal(word, 0);
	assert_int_equal(in_service(), 0);
	take(0x51);
	assert_true(guest_ends());
}

static void test_reset_and_disable(void **state)
{
	(void)state;
	begin();
	arrive(0x51);
	take(0x51);
	apic_reset_init(&apic);
	assert_int_equal(word, 0);
	assert_false(apic.eoi_offered);
	begin();
	arrive(0x51);
	take(0x51);
	assert_int_equal(apic_msr_write(&apic, 0x80f, 0xff), 0);
	assert_int_equal(word, 0);
	assert_int_not_equal(in_service(), 0);
}

static void test_vectors_of_the_synic(void **state)
{
	uint32_t automatic[8] = { 0 }, reported[8] = { 0 };

	(void)state;
	begin();
	automatic[2] = 1u << 17; /* 51h */
	reported[2] = 1u << 18;
	apic_set_eoi_rules(&apic, automatic, reported);
	arrive(0x51);
	take(0x51);
	assert_int_equal(word, 0);
	assert_int_equal(in_service(), 0);
	arrive(0x52);
	take(0x52);
	assert_int_equal(word, 0); /* somebody waits for its end */
	assert_false(guest_ends());
	assert_int_equal(fake.level_eois, 1);
	/* A device with the same vector as a SINT that ends itself: nobody else will end it in the physical APIC. */
	assert_true(apic_accept(&apic, 0x51, true));
	take(0x51);
	assert_int_equal(in_service(), 0);
	assert_int_equal(fake.level_eois, 2);
	assert_int_equal(fake.level_vector, 0x51);
}

static void test_processor_shows_the_page(void **state)
{
	struct apic_config config = fake_config(0);

	(void)state;
	config.page_read = true;
	assert_int_equal(apic_init(&apic, &config, &fake_page), 0);
	assert_int_equal(apic_mmio_write(&apic, APIC_REG_SVR, 4, 0x1ff), 0);
	apic_set_assist(&apic, &word);
	arrive(0x51);
	take(0x51);
	assert_int_equal(word, 0);
}

/* ---- Against a guest that always writes EOI ---- */

static void compare(bool look)
{
	assert_int_equal(apic_next_vector(&apic), apic_next_vector(&plain));
	assert_int_equal(apic_pending_vector(&apic), apic_pending_vector(&plain));
	assert_true(!(word & 1) || apic.irr_top < 0);
	if (!look)
		return;
	for (uint32_t msr = 0x808; msr <= 0x827; msr++) {
		uint64_t a = 0, b = 0;

		assert_int_equal(apic_msr_read(&apic, msr, &a), apic_msr_read(&plain, msr, &b));
		assert_int_equal(a, b);
	}
}

static void test_against_plain(void **state)
{
	struct apic_config config = fake_config(0);
	unsigned int lazy = 0, explicit = 0;
	uint64_t seed = fake_seed();

	(void)state;
	begin();
	assert_int_equal(apic_init(&plain, &config, &plain_page), 0);
	assert_int_equal(apic_base_write(&plain, apic_base_read(&plain) | APIC_BASE_X2), 0);
	assert_int_equal(apic_msr_write(&plain, 0x80f, 0x1ff), 0);
	for (unsigned int i = 0; i < 400000; i++) {
		uint64_t dice = fake_random(&seed);
		uint8_t vector = (uint8_t)(0x10 + (dice >> 8) % 0xf0);

		switch (dice % 16) {
		case 0:
			apic_accept(&apic, vector, dice >> 20 & 1);
			apic_accept(&plain, vector, dice >> 20 & 1);
			break;
		case 1 ... 7:
			if (apic_next_vector(&apic) < 0)
				break;
			vector = (uint8_t)apic_next_vector(&apic);
			apic_take(&apic, vector);
			apic_take(&plain, vector);
			break;
		case 8 ... 13:
			if (plain.isr_top < 0)
				break;
			if (guest_ends())
				lazy++;
			else
				explicit ++;
			apic_eoi(&plain);
			break;
		case 14:
			apic_set_tpr(&apic, (uint8_t)(vector & 0x30));
			apic_set_tpr(&plain, (uint8_t)(vector & 0x30));
			break;
		default:
			if (dice >> 20 & 31)
				break;
			apic_set_assist(&apic, dice >> 30 & 1 ? &word : NULL);
		}
		compare((dice >> 32) % 4 == 0);
	}
	assert_true(lazy > 2000 && explicit > 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_other_bits_stay),
		cmocka_unit_test(test_level_triggered),
		cmocka_unit_test(test_another_is_pending),
		cmocka_unit_test(test_another_arrives),
		cmocka_unit_test(test_another_arrives_after_the_end),
		cmocka_unit_test(test_posted_by_another_processor),
		cmocka_unit_test(test_nested),
		cmocka_unit_test(test_guest_writes_eoi_all_the_same),
		cmocka_unit_test(test_hostile_guest),
		cmocka_unit_test(test_what_the_guest_reads),
		cmocka_unit_test(test_page_goes),
		cmocka_unit_test(test_put_back),
		cmocka_unit_test(test_reset_and_disable),
		cmocka_unit_test(test_vectors_of_the_synic),
		cmocka_unit_test(test_processor_shows_the_page),
		cmocka_unit_test(test_against_plain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
