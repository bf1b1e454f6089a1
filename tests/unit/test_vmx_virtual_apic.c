/* unit: vmx/virtual_apic.c core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * APIC virtualization: which controls go with which mode of the APIC, and who knows what of the interrupts when: the
 * model, the VMCS (an array here), or the processor, which the test plays.
 */
#include "apic_fake.h"

#include <trivet/host_memory.h>

#include "../../vmx/vmx.h"
#include "vmcs_fake.h"

#define XAPIC (PROC2_APIC_ACCESSES | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY)
#define X2APIC (PROC2_X2APIC | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY)
#define EVERYTHING (XAPIC | X2APIC)

struct vmx_machine vmx;
static uint8_t maps[2];
static struct vp *vp;

hpa_t hv_virt_to_phys(const void *virt)
{
	return HPA((uint64_t)virt);
}

static void check_mode(uint64_t proc2, bool x2apic_map)
{
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS2], PROC2_EPT | proc2);
	assert_int_equal(vmcs[VMCS_MSR_BITMAP], (uint64_t)&maps[x2apic_map]);
}

static void start(uint32_t controls, bool x2)
{
	struct apic_config config = fake_config(1);

	memset(&fake, 0, sizeof(fake));
	memset(vmcs, 0, sizeof(vmcs));
	memset(vp, 0, sizeof(*vp));
	vmx = (struct vmx_machine){ .proc2 = PROC2_EPT,
				    .pin = PIN_NMI,
				    .apic_controls = controls,
				    .msr_map = &maps[0],
				    .x2apic_msr_map = &maps[1] };
	vmx_of(vp)->acknowledges = true;
	config.page_read = vmx_reads_apic_page();
	assert_int_equal(apic_init(&vp->apic, &config, &fake_page), 0);
	if (x2)
		assert_int_equal(apic_base_write(&vp->apic, apic_base_read(&vp->apic) | APIC_BASE_X2), 0);
	wr(&vp->apic, APIC_REG_SVR, 0x1ff);
	vmx_apic_mode_changed(vp);
	if (vmx_of(vp)->delivers)
		vmx_hand_over_interrupts(vp);
	vmcs_reads = vmcs_writes = 0;
}

static int setup(void **state)
{
	(void)state;
	vp = aligned_alloc(64, (sizeof(*vp) + 63) & ~63ul);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(vp);
	return 0;
}

static void controls_follow_the_mode(void **state)
{
	struct apic *apic = &vp->apic;

	(void)state;
	start(EVERYTHING, false);
	check_mode(XAPIC, false);
	assert_int_equal(atomic_load(&vp->pending), VP_PENDING_FLUSH | VP_PENDING_EVENT);
	wr(apic, APIC_REG_SVR, 0xff);
	vmx_apic_mode_changed(vp);
	check_mode(PROC2_APIC_ACCESSES | PROC2_APIC_REGISTERS, false);
	apic_base_write(apic, APIC_BASE_DEFAULT);
	vmx_apic_mode_changed(vp);
	check_mode(PROC2_APIC_ACCESSES, false);
	apic_base_write(apic, APIC_BASE_DEFAULT | APIC_BASE_EN);
	apic_base_write(apic, APIC_BASE_DEFAULT | APIC_BASE_EN | APIC_BASE_X2);
	vmx_apic_mode_changed(vp);
	check_mode(0, false);
	wr(apic, APIC_REG_SVR, 0x1ff);
	vmx_apic_mode_changed(vp);
	check_mode(X2APIC, true);
	vmcs_writes = 0;
	vmx_apic_mode_changed(vp);
	assert_int_equal(vmcs_writes, 0);
}

static void only_what_there_is(void **state)
{
	(void)state;
	start(0, false);
	check_mode(0, false);
	assert_false(vmx_of(vp)->delivers);
	assert_false(vp->apic.config.page_read);
	vmx_know_apic(vp);
	assert_int_equal(vmcs_reads, 0);
	start(PROC2_X2APIC, true);
	check_mode(PROC2_X2APIC, true);
	assert_false(vmx_of(vp)->delivers);
	start(X2APIC, false);
	check_mode(PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY, false);
}

/* An interrupt at an exit: one VMREAD and one VMWRITE, and nothing of what the processor has is lost. */
static void arrivals_are_added(void **state)
{
	(void)state;
	start(EVERYTHING, true);
	vmcs[VMCS_GUEST_INTERRUPT_STATUS] = 0x6131;
	apic_accept(&vp->apic, 0x45, false);
	apic_accept(&vp->apic, 0x41, false);
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPT_STATUS], 0x6145);
	assert_int_equal(fake_page.reg[APIC_REG_IRR / 16 + 2].value, 0x22);
	assert_int_equal(vmcs_reads, 1);
	assert_int_equal(vmcs_writes, 1);
	/* The processor delivered 45h, and the model must not think it's pending still. */
	vmcs[VMCS_GUEST_INTERRUPT_STATUS] = 0x4541;
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPT_STATUS], 0x4541);
	apic_accept(&vp->apic, 0x22, false);
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPT_STATUS], 0x4541);
	assert_int_equal(vmcs_writes, 1);
}

static void posted_ones_are_added(void **state)
{
	(void)state;
	start(EVERYTHING, true);
	assert_true(apic_post(&vp->apic, 0x77, false));
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPT_STATUS], 0x77);
	/* With posted interrupts they are left to the notification, unless there is none. */
	vmx_of(vp)->takes_posted = true;
	assert_true(apic_post(&vp->apic, 0x99, false));
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPT_STATUS], 0x77);
	apic_post_for_software(&vp->apic);
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPT_STATUS], 0x99);
}

/* An exit that uses the model takes over first; what came before that counts. */
static void the_model_takes_over(void **state)
{
	struct apic *apic = &vp->apic;

	(void)state;
	start(EVERYTHING, true);
	fake_page.reg[APIC_REG_IRR / 16 + 2].value = 1u << 1;
	fake_page.reg[APIC_REG_ISR / 16 + 3].value = 1u << 1;
	vmcs[VMCS_GUEST_INTERRUPT_STATUS] = 0x6141;
	apic_accept(apic, 0x48, false);
	vmx_know_apic(vp);
	assert_int_equal(apic_pending_vector(apic), 0x48);
	assert_int_equal(apic->ppr, 0x60);
	vmx_know_apic(vp); /* once is enough */
	assert_int_equal(vmcs_reads, 1);
	apic_eoi(apic);
	assert_int_equal(apic_next_vector(apic), 0x48);
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPT_STATUS], 0x48);
	/* Given back: later on the VMCS is right, the model isn't. */
	vmcs[VMCS_GUEST_INTERRUPT_STATUS] = 0x4841;
	vmx_know_apic(vp);
	assert_int_equal(apic_pending_vector(apic), 0x41);
	/* Looked at, not changed: old at the next exit. */
	vmx_apic_give_back(vp);
	vmcs[VMCS_GUEST_INTERRUPT_STATUS] = 0;
	vmx_know_apic(vp);
	assert_int_equal(apic_pending_vector(apic), -1);
}

/* Without delivery by the processor the model knows what is pending; only ICR's high half changes by itself. */
static void registers_alone(void **state)
{
	struct apic *apic = &vp->apic;

	(void)state;
	start(EVERYTHING, false);
	apic_accept(apic, 0x48, false);
	vmx_know_apic(vp);
	wr(apic, APIC_REG_SVR, 0xff);
	vmx_apic_mode_changed(vp);
	assert_int_equal(apic_pending_vector(apic), 0x48);
	vmx_apic_give_back(vp);
	assert_int_equal(apic_pending_vector(apic), 0x48);
	fake_page.reg[APIC_REG_ICR_HIGH / 16].value = 0x05000000;
	vmx_know_apic(vp);
	assert_int_equal(apic_pending_vector(apic), 0x48);
	assert_int_equal(apic->icr >> 56, 5);
	/* And back: what was left goes to the processor, and what was taken meanwhile. */
	apic_accept(apic, 0x61, false); /* refused */
	apic_take(apic, 0x48);
	wr(apic, APIC_REG_SVR, 0x1ff);
	vmx_apic_mode_changed(vp);
	apic_accept(apic, 0x31, false);
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPT_STATUS], 0x4831);
}

static void level_triggered_ends_are_exits(void **state)
{
	(void)state;
	start(EVERYTHING, true);
	apic_accept(&vp->apic, 0x91, true);
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_EOI_EXIT_0 + 4], BIT(0x11));
	assert_int_equal(vmcs[VMCS_EOI_EXIT_0] | vmcs[VMCS_EOI_EXIT_0 + 2] | vmcs[VMCS_EOI_EXIT_0 + 6], 0);
	apic_accept(&vp->apic, 0x91, false);
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_EOI_EXIT_0 + 4], 0);
	vmcs_writes = 0;
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs_writes, 0);
}

/* The SynIC waits for the end of an edge-triggered one. */
static void reported_ends_are_exits(void **state)
{
	const uint32_t none[8] = { 0 }, reported[8] = { [7] = 1u << 19 };

	(void)state;
	start(EVERYTHING, true);
	apic_set_eoi_rules(&vp->apic, none, reported);
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_EOI_EXIT_0 + 6], BIT(0xf3 - 192));
	assert_int_equal(vmcs[VMCS_EOI_EXIT_0] | vmcs[VMCS_EOI_EXIT_0 + 2] | vmcs[VMCS_EOI_EXIT_0 + 4], 0);
	apic_page_ended(&vp->apic, 0xf3);
	assert_int_equal(fake.level_eois, 1);
	assert_int_equal(fake.level_vector, 0xf3);
	apic_set_eoi_rules(&vp->apic, none, none);
	vmx_hand_over_interrupts(vp);
	assert_int_equal(vmcs[VMCS_EOI_EXIT_0 + 6], 0);
	apic_page_ended(&vp->apic, 0xf3);
	assert_int_equal(fake.level_eois, 1);
}

/* AutoEOI: the processor can't, so the model delivers, from what the processor had, and gives it back afterwards. */
static void automatic_eoi_is_the_models(void **state)
{
	const uint32_t none[8] = { 0 }, automatic[8] = { [2] = 1u << 1 };
	struct apic *apic = &vp->apic;

	(void)state;
	start(EVERYTHING, true);
	apic_accept(apic, 0x48, false);
	vmx_hand_over_interrupts(vp);
	fake_page.reg[(APIC_REG_IRR + 0x20) >> 4].value = 0; /* the guest took it */
	fake_page.reg[(APIC_REG_ISR + 0x20) >> 4].value = 1u << 8;
	vmcs[VMCS_GUEST_INTERRUPT_STATUS] = 0x4800;
	fake.mode_changes = 0;
	apic_set_eoi_rules(apic, automatic, none);
	assert_int_equal(fake.mode_changes, 1);
	vmx_apic_mode_changed(vp);
	check_mode(0, false);
	assert_false(vmx_of(vp)->delivers);
	assert_int_equal(apic->isr_top, 0x48);
	apic_accept(apic, 0x51, false);
	apic_take(apic, 0x51);
	assert_int_equal(apic->isr_top, 0x51);
	apic_eoi(apic);
	apic_eoi(apic);
	apic_accept(apic, 0x41, false);
	apic_take(apic, 0x41);
	assert_int_equal(apic->isr_top, -1);
	assert_int_equal(fake_page.reg[(APIC_REG_ISR + 0x20) >> 4].value, 0);
	apic_set_eoi_rules(apic, none, none);
	vmx_apic_mode_changed(vp);
	check_mode(X2APIC, true);
	assert_true(vmx_of(vp)->delivers);
}

/* Posted interrupts need delivery by the processor, and interrupts acknowledged with the exit (SDM3 27.2.1.1). */
static void posting_follows(void **state)
{
	(void)state;
	start(EVERYTHING, false);
	vmx_update_posting(vp);
	assert_int_equal(vmcs[VMCS_PIN_CONTROLS], 0); /* not written */
	vmx.posted = true;
	vmx_update_posting(vp);
	assert_int_equal(vmcs[VMCS_PIN_CONTROLS], PIN_NMI | PIN_POSTED_INTERRUPTS);
	vmx_of(vp)->acknowledges = false;
	vmx_update_posting(vp);
	assert_int_equal(vmcs[VMCS_PIN_CONTROLS], PIN_NMI);
	vmx_of(vp)->acknowledges = true;
	vmx_update_posting(vp);
	vmx_know_apic(vp);
	wr(&vp->apic, APIC_REG_SVR, 0xff);
	vmx_apic_mode_changed(vp);
	assert_int_equal(vmcs[VMCS_PIN_CONTROLS], PIN_NMI);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(controls_follow_the_mode, setup, teardown),
		cmocka_unit_test_setup_teardown(only_what_there_is, setup, teardown),
		cmocka_unit_test_setup_teardown(arrivals_are_added, setup, teardown),
		cmocka_unit_test_setup_teardown(posted_ones_are_added, setup, teardown),
		cmocka_unit_test_setup_teardown(the_model_takes_over, setup, teardown),
		cmocka_unit_test_setup_teardown(registers_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(level_triggered_ends_are_exits, setup, teardown),
		cmocka_unit_test_setup_teardown(reported_ends_are_exits, setup, teardown),
		cmocka_unit_test_setup_teardown(automatic_eoi_is_the_models, setup, teardown),
		cmocka_unit_test_setup_teardown(posting_follows, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
