/* unit: core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: the page in which a processor with APIC virtualization works by itself. The test plays that
 * processor: it reads registers there, delivers and ends interrupts there, and leaves written values there.
 */
#include "apic_fake.h"

static struct apic apic;

static void start(bool x2)
{
	struct apic_config config = fake_config(0x105);

	config.page_read = true;
	memset(&fake, 0, sizeof(fake));
	memset(&fake_page, 0xa5, sizeof(fake_page));
	fake.now_tsc = 1000000;
	assert_int_equal(apic_init(&apic, &config, &fake_page), 0);
	if (x2)
		assert_int_equal(apic_base_write(&apic, apic_base_read(&apic) | APIC_BASE_X2), 0);
	wr(&apic, APIC_REG_SVR, 0x1ff);
}

static uint32_t page(uint32_t reg)
{
	return fake_page.reg[reg / 16].value;
}

static void shows(uint32_t reg, uint64_t value)
{
	assert_int_equal(page(reg), (uint32_t)value);
	assert_int_equal(fake_page.reg[reg / 16].high, value >> 32);
}

/* The processor ran the guest, and left these vectors on top. */
static void ran(uint8_t requested, uint8_t serviced)
{
	apic_page_runs(&apic);
	apic_page_ran(&apic, requested, serviced);
}

/* The processor lets a write into the page, and the exit comes after it. */
static void guest_writes(uint32_t reg, uint32_t value)
{
	fake_page.reg[reg / 16].value = value;
	ran(0, 0);
	apic_page_written(&apic, reg);
}

static void power_up_shows_in_the_page(void **state)
{
	(void)state;
	start(false);
	shows(APIC_REG_ID, 0x05000000);
	shows(APIC_REG_VERSION, 0x60014);
	shows(APIC_REG_SVR, 0x1ff);
	shows(APIC_REG_DFR, 0xffffffff);
	shows(APIC_REG_LVT_TIMER, 0x10000);
	shows(APIC_REG_LVT_CMCI, 0x10000);
	shows(0x3f0, 0);
	shows(0x000, 0);
}

static void x2apic_mode_shows_in_the_page(void **state)
{
	(void)state;
	start(true);
	shows(APIC_REG_ID, 0x105);
	shows(APIC_REG_LDR, 0x100020);
	shows(APIC_REG_DFR, 0);
	wr(&apic, APIC_REG_LVT_ERROR, 0x44);
	shows(APIC_REG_LVT_ERROR, 0x44);
	apic_base_write(&apic, APIC_BASE_DEFAULT);
	apic_base_write(&apic, APIC_BASE_DEFAULT | APIC_BASE_EN);
	shows(APIC_REG_ID, 0x05000000);
	shows(APIC_REG_LDR, 0);
	shows(APIC_REG_LVT_ERROR, 0x10000);
}

static void written_registers_read_as_the_model_has_them(void **state)
{
	(void)state;
	start(false);
	guest_writes(APIC_REG_ID, 0x77000000);
	shows(APIC_REG_ID, 0x05000000);
	guest_writes(APIC_REG_LDR, 0x12345678);
	shows(APIC_REG_LDR, 0x12000000);
	assert_int_equal(apic_logical_id(&apic), 0x12);
	guest_writes(APIC_REG_DFR, 0x05555555);
	shows(APIC_REG_DFR, 0x0fffffff);
	guest_writes(APIC_REG_LVT_LINT0, 0xffffffff);
	shows(APIC_REG_LVT_LINT0, 0x1a7ff);
	assert_int_equal(fake.lvt_value[APIC_LVT_LINT0], 0x1a7ff);
	guest_writes(APIC_REG_LVT_TIMER, 0x20041);
	guest_writes(APIC_REG_TIMER_DIVIDE, 0xffffffff);
	shows(APIC_REG_TIMER_DIVIDE, 0xb);
	guest_writes(APIC_REG_TIMER_INITIAL, 500);
	shows(APIC_REG_TIMER_INITIAL, 500);
	assert_int_equal(apic_timer_deadline(&apic), 1000000 + 500 * 16);
	/* To deadline mode: the count is gone. */
	guest_writes(APIC_REG_LVT_TIMER, 0x40041);
	shows(APIC_REG_LVT_TIMER, 0x40041);
	shows(APIC_REG_TIMER_INITIAL, 0);
	assert_int_equal(apic_timer_deadline(&apic), UINT64_MAX);
}

static void disabling_masks_in_the_page(void **state)
{
	(void)state;
	start(false);
	guest_writes(APIC_REG_LVT_ERROR, 0xfe);
	guest_writes(APIC_REG_SVR, 0xff);
	assert_false(apic.enabled);
	shows(APIC_REG_SVR, 0xff);
	shows(APIC_REG_LVT_ERROR, 0x100fe);
	guest_writes(APIC_REG_LVT_ERROR, 0x31); /* no longer to be unmasked */
	shows(APIC_REG_LVT_ERROR, 0x10031);
}

static void errors_show_when_latched(void **state)
{
	(void)state;
	start(false);
	guest_writes(0x3f0, 1); /* no such register in xAPIC mode */
	shows(APIC_REG_ESR, 0);
	guest_writes(APIC_REG_ESR, 0x1234);
	shows(APIC_REG_ESR, 0x80);
	guest_writes(APIC_REG_ESR, 0);
	shows(APIC_REG_ESR, 0);
}

static void icr_is_sent_from_the_page(void **state)
{
	(void)state;
	start(false);
	fake_page.reg[APIC_REG_ICR_HIGH / 16].value = 0x03000000; /* no exit for this one */
	guest_writes(APIC_REG_ICR, 0x5044);
	assert_int_equal(fake.ipis, 1);
	assert_int_equal(fake.ipi.dest, 3);
	assert_int_equal(fake.ipi.vector, 0x44);
	shows(APIC_REG_ICR, 0x4044);
	shows(APIC_REG_ICR_HIGH, 0x03000000);
	assert_int_equal(rd(&apic, APIC_REG_ICR_HIGH), 0x03000000);
}

static void illegal_self_ipi(void **state)
{
	(void)state;
	start(true);
	guest_writes(APIC_REG_SELF_IPI, 3);
	wr(&apic, APIC_REG_ESR, 0);
	shows(APIC_REG_ESR, APIC_ESR_SEND_ILLEGAL);
}

/* The processor delivers, nests and ends; the model goes on from there. */
static void the_processor_delivers(void **state)
{
	(void)state;
	start(false);
	assert_true(apic_accept(&apic, 0x41, false));
	assert_true(apic_accept(&apic, 0x92, false));
	assert_int_equal(page(APIC_REG_IRR + 0x20), 2);
	assert_int_equal(page(APIC_REG_IRR + 0x40), 1u << 0x12);

	fake_page.reg[APIC_REG_IRR / 16 + 4].value = 0;
	fake_page.reg[APIC_REG_ISR / 16 + 4].value = 1u << 0x12;
	ran(0x41, 0x92);
	assert_int_equal(apic_pending_vector(&apic), 0x41);
	assert_int_equal(apic_next_vector(&apic), -1);
	assert_int_equal(apic.ppr, 0x90);
	assert_true(apic_accept(&apic, 0xa0, false));
	assert_int_equal(apic_next_vector(&apic), 0xa0);
	apic_take(&apic, 0xa0);
	assert_int_equal(apic_pending_vector(&apic), 0x41);
	apic_eoi(&apic);
	assert_int_equal(apic.isr_top, 0x92);

	fake_page.reg[APIC_REG_ISR / 16 + 4].value = 0;
	fake_page.reg[APIC_REG_TPR / 16].value = 0x35;
	ran(0x41, 0);
	assert_int_equal(apic.ppr, 0x35);
	assert_int_equal(apic_next_vector(&apic), 0x41);
	ran(0, 0x41);
	fake_page.reg[APIC_REG_IRR / 16 + 2].value = 0;
	fake_page.reg[APIC_REG_ISR / 16 + 2].value = 2;
	apic_eoi(&apic);
	assert_int_equal(apic.isr_top, -1);
	assert_int_equal(page(APIC_REG_ISR + 0x20), 0);
}

static void level_triggered_ones_are_told(void **state)
{
	(void)state;
	start(false);
	apic.tmr_changed = false;
	apic_accept(&apic, 0x51, false);
	assert_false(apic.tmr_changed);
	apic_accept(&apic, 0x51, true);
	assert_true(apic.tmr_changed);
	assert_int_equal(page(APIC_REG_TMR + 0x20), 1u << 0x11);
	apic.tmr_changed = false;
	apic_accept(&apic, 0x51, true);
	assert_false(apic.tmr_changed);
	apic_page_ended(&apic, 0x51);
	assert_int_equal(fake.level_eois, 1);
	assert_int_equal(fake.level_vector, 0x51);
	apic_accept(&apic, 0x51, false);
	assert_true(apic.tmr_changed);
	apic_page_ended(&apic, 0x51); /* as it was when the processor looked, it is edge-triggered by now */
	assert_int_equal(fake.level_eois, 1);
}

/* The processor takes posted vectors by itself: clears the notification, then the vectors. */
static void posted_vectors_have_the_processors_layout(void **state)
{
	const uint32_t *descriptor = (const void *)apic.posted;

	(void)state;
	start(true);
	assert_int_equal((uintptr_t)descriptor % 64, 0);
	assert_true(apic_post(&apic, 0x62, false));
	assert_false(apic_post(&apic, 0xe1, false));
	assert_int_equal(descriptor[0x62 / 32], 4);
	assert_int_equal(descriptor[0xe1 / 32], 2);
	assert_int_equal(descriptor[8], 1);
	assert_true(apic_post(&apic, 0x63, true));
	assert_int_equal(descriptor[0x63 / 32], 4); /* a level-triggered one is not for it */
	atomic_fetch_and(&apic.posted_any, ~1u);
	atomic_exchange(&apic.posted[1], 0);
	atomic_exchange(&apic.posted[3], 0);
	apic_sync_posted(&apic);
	assert_int_equal(apic_pending_vector(&apic), 0x63);
	assert_int_equal(page(APIC_REG_TMR + 0x30), 8);
	assert_int_equal(apic_vectors(&apic, APIC_REG_IRR, 1), BIT(0x23));
	assert_true(apic_post(&apic, 0x62, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_up_shows_in_the_page),
		cmocka_unit_test(x2apic_mode_shows_in_the_page),
		cmocka_unit_test(written_registers_read_as_the_model_has_them),
		cmocka_unit_test(disabling_masks_in_the_page),
		cmocka_unit_test(errors_show_when_latched),
		cmocka_unit_test(icr_is_sent_from_the_page),
		cmocka_unit_test(illegal_self_ipi),
		cmocka_unit_test(the_processor_delivers),
		cmocka_unit_test(level_triggered_ones_are_told),
		cmocka_unit_test(posted_vectors_have_the_processors_layout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
