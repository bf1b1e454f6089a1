/* unit: vmx/events.c */
/* SPDX-License-Identifier: MIT */
/*
 * Interrupts into a guest on VMX: which goes in, and which windows end guest mode as soon as the next one can, with and without virtual-interrupt
 * delivery, and with an 8259 beside the APIC.
 */
#include "vmx_event_fake.h"

enum hold { BY_NOTHING, BY_IF, BY_STI, BY_MOV_SS, BY_EVENT, HOLDS };

static void hold_up(enum hold hold)
{
	if (hold == BY_IF)
		vmcs[VMCS_GUEST_RFLAGS] = ~RFLAGS_IF;
	else if (hold == BY_STI)
		vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_STI;
	else if (hold == BY_MOV_SS)
		vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_MOV_SS;
	else if (hold == BY_EVENT)
		vmx_inject_exception(vp, VECTOR_DB, false, 0);
}

/*
 * Injected if the guest can take it; a window where only the guest's own state holds it up; a threshold where only TPR does (SDM3 30.1.2):
 * without what is in service, that the end of it, an exit, may let in.
 */
static void check_delivery(void **state, int requested, int serviced, uint8_t tpr, enum hold hold)
{
	int class = requested < 0 ? 0 : requested >> 4, serviced_class = serviced < 0 ? 0 : serviced >> 4;
	bool tpr_lets = class > tpr >> 4, service_lets = class > serviced_class;
	bool goes = tpr_lets && service_lets && hold == BY_NOTHING;
	uint32_t event;

	setup(state);
	set_apic(requested, serviced, tpr);
	hold_up(hold);
	vmx_deliver_interrupt(vp);
	assert_int_equal(has_window(PROC_INTERRUPT_WINDOW), tpr_lets && service_lets && !goes);
	assert_int_equal(vmcs[VMCS_TPR_THRESHOLD], service_lets && !tpr_lets ? class : 0);
	/* The entry insists on this (SDM3 27.2.1.1). */
	assert_in_range(vmcs[VMCS_TPR_THRESHOLD], 0, tpr >> 4);
	vmcs_writes = 0;
	vmx_deliver_interrupt(vp);
	assert_int_equal(vmcs_writes, 0);
	event = run();
	if (hold != BY_EVENT)
		assert_int_equal(event, goes ? VALID | EVENT_TYPE_INTR | (uint32_t)requested : 0);
	else
		assert_int_equal(event, VALID | EVENT_TYPE_EXCEPTION | VECTOR_DB);
	assert_int_equal(vp->apic.isr_top, goes ? requested : serviced);
}

static void interrupts_go_in_or_get_a_window(void **state)
{
	static const int vectors[] = { NOTHING, 0x10, 0x3f, 0x40, 0x45, 0x4f, 0x50, 0xff };
	static const int in_service[] = { NOTHING, 0x30, 0x45, 0xf0 };
	static const uint8_t tprs[] = { 0, 0x0f, 0x3f, 0x40, 0x4f, 0x50, 0xf0 };

	for (unsigned int i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		for (unsigned int k = 0; k < sizeof(in_service) / sizeof(in_service[0]); k++)
			for (unsigned int t = 0; t < sizeof(tprs); t++)
				for (enum hold hold = BY_NOTHING; hold < HOLDS; hold++)
					check_delivery(state, vectors[i], in_service[k], tprs[t], hold);
}

static void one_goes_in_and_the_next_waits(void **state)
{
	(void)state;
	/* Of a lower class: its turn is the end of the first, an exit. */
	set_apic(0x71, NOTHING, 0);
	next_pending = 0x35;
	vmx_deliver_interrupt(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0x71);
	assert_false(has_window(PROC_INTERRUPT_WINDOW));
	/* A higher one has come meanwhile. */
	set_apic(0x82, 0x71, 0);
	vmx_deliver_interrupt(vp);
	assert_true(has_window(PROC_INTERRUPT_WINDOW));
	assert_false(interrupt_window_exit());
	vmcs[VMCS_GUEST_RFLAGS] = RFLAGS_IF;
	assert_true(interrupt_window_exit());
	next_pending = 0x75;
	vmx_handle_interrupt_window(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0x82);
	assert_false(has_window(PROC_INTERRUPT_WINDOW));
	/* It goes in with another exit, and the window goes. */
	set_apic(0x93, 0x82, 0);
	vmx_deliver_interrupt(vp);
	assert_true(has_window(PROC_INTERRUPT_WINDOW));
	vmcs[VMCS_GUEST_RFLAGS] = RFLAGS_IF;
	vmx_deliver_interrupt(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0x93);
	assert_false(has_window(PROC_INTERRUPT_WINDOW));
	/* The threshold goes when nothing waits for TPR any more. */
	set_apic(0xa2, 0x93, 0xb0);
	vmx_deliver_interrupt(vp);
	assert_int_equal(vmcs[VMCS_TPR_THRESHOLD], 10);
	set_apic(NOTHING, 0x93, 0xb0);
	vmx_deliver_interrupt(vp);
	assert_int_equal(vmcs[VMCS_TPR_THRESHOLD], 0);
}

static void posted_interrupts_are_seen(void **state)
{
	(void)state;
	posted = 0x93;
	atomic_store(&vp->apic.posted_any, 1);
	vmx_deliver_interrupt(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0x93);
}

static void an_8259_goes_before_the_apic(void **state)
{
	static const uint8_t tprs[] = { 0, 0xf0 }; /* TPR holds up nothing of an 8259's (SDM3 11.8.3) */

	for (unsigned int i = 0; i < sizeof(tprs); i++) {
		setup(state);
		vp->extint_count = 2;
		extint = 0x08;
		set_apic(0xe1, NOTHING, tprs[i]);
		vmx_deliver_interrupt(vp);
		assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0x08);
		assert_true(has_window(PROC_INTERRUPT_WINDOW));
		assert_int_equal(vmcs[VMCS_TPR_THRESHOLD], 0); /* set when the 8259 has nothing more */
		assert_int_equal(vp->apic.irr_top, 0xe1);
	}
	for (enum hold hold = BY_IF; hold < HOLDS; hold++) {
		setup(state);
		vp->extint_count = 1;
		hold_up(hold);
		vmx_deliver_interrupt(vp);
		assert_int_equal(vp->extint_count, 1);
		assert_true(has_window(PROC_INTERRUPT_WINDOW));
	}
}

static void lint0_is_held_until_the_guest_can_take_it(void **state)
{
	for (enum hold hold = BY_IF; hold < HOLDS; hold++) {
		setup(state);
		vp->extint_held = true;
		hold_up(hold);
		vmx_deliver_interrupt(vp);
		assert_int_equal(releases, 0);
		assert_true(has_window(PROC_INTERRUPT_WINDOW));
	}
	/* The 8259's own is the next exit, if it is still there; others may go in. */
	setup(state);
	vp->extint_held = true;
	set_apic(0x41, NOTHING, 0);
	vmx_deliver_interrupt(vp);
	assert_int_equal(releases, 1);
	assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0x41);
	assert_false(has_window(PROC_INTERRUPT_WINDOW));
}

/* Virtual-interrupt delivery: what is in the APIC page is the processor's business (SDM3 30.2), what an 8259 has is not. */
static void virtual_delivery_leaves_it_to_the_processor(void **state)
{
	for (enum hold hold = BY_NOTHING; hold < HOLDS; hold++) {
		bool can = hold == BY_NOTHING;

		setup(state);
		vmx_of(vp)->delivers = true;
		atomic_store(&vp->apic.posted_any, 1);
		set_apic(0x91, NOTHING, 0x20);
		hold_up(hold);
		vmcs_writes = 0;
		vmx_deliver_interrupt(vp);
		assert_int_equal(hand_overs, 1);
		assert_int_equal(vmcs_writes, 0);
		assert_int_equal(vp->apic.irr_top, 0x91);
		assert_int_equal(atomic_load(&vp->apic.posted_any), 1);

		vp->extint_count = 1;
		extint = 0x70;
		vmx_deliver_interrupt(vp);
		assert_int_equal(has_window(PROC_INTERRUPT_WINDOW), !can);
		assert_int_equal(vp->extint_count, !can);
		if (can)
			assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0x70);
		vp->extint_count = 0;
		vmx_deliver_interrupt(vp);
		assert_false(has_window(PROC_INTERRUPT_WINDOW));

		setup(state);
		vmx_of(vp)->delivers = true;
		vp->extint_held = true;
		hold_up(hold);
		vmx_deliver_interrupt(vp);
		assert_int_equal(releases, can);
		assert_int_equal(has_window(PROC_INTERRUPT_WINDOW), !can);
	}
}

/* An 8259's interrupt is acknowledged when the guest can have it, not with the exit. */
static void interrupts_are_acknowledged_as_lint0_is_wired(void **state)
{
	(void)state;
	vmx_deliver_interrupt(vp);
	assert_int_equal(vmcs_writes + posting_updates, 0);
	vp->apic.lvt[APIC_LVT_LINT0] = APIC_MODE_EXTINT << 8;
	vmx_deliver_interrupt(vp);
	assert_int_equal(vmcs[VMCS_EXIT_CONTROLS], EXIT_HOST_64);
	assert_false(vmx_of(vp)->acknowledges);
	assert_int_equal(posting_updates, 1);
	vmcs_writes = 0;
	vmx_deliver_interrupt(vp);
	assert_int_equal(vmcs_writes, 0);
	vp->apic.lvt[APIC_LVT_LINT0] |= (uint32_t)APIC_LVT_MASKED;
	vmx_of(vp)->delivers = true;
	vmx_deliver_interrupt(vp);
	assert_int_equal(vmcs[VMCS_EXIT_CONTROLS], EXIT_HOST_64 | EXIT_ACK_INTERRUPT);
	assert_true(vmx_of(vp)->acknowledges);
	assert_int_equal(posting_updates, 2);
	/* A child's LINT0 isn't the machine's: how it is entered, its LP's root decides. */
	setup(state);
	vp->child = (struct vp_child *)vmcs;
	vp->apic.lvt[APIC_LVT_LINT0] = APIC_MODE_EXTINT << 8;
	vmx_deliver_interrupt(vp);
	assert_true(vmx_of(vp)->acknowledges);
	assert_int_equal(vmcs_writes + posting_updates, 0);
}

static void init_leaves_nothing(void **state)
{
	(void)state;
	set_apic(0x61, NOTHING, 0x70);
	vmx_deliver_interrupt(vp);
	assert_int_equal(vmcs[VMCS_TPR_THRESHOLD], 6);
	vp->extint_count = 1;
	vmx_inject_exception(vp, VECTOR_GP, true, 0);
	vp_post(vp, VP_PENDING_NMI);
	vmx_handle_pending(vp);
	vp->apic.tpr = 0xf0;
	vmx_deliver_interrupt(vp);
	assert_true(has_window(PROC_INTERRUPT_WINDOW) && has_window(PROC_NMI_WINDOW));
	vp->extint_count = 0;
	vmx_deliver_interrupt(vp);
	assert_int_equal(vmcs[VMCS_TPR_THRESHOLD], 6);
	vp->extint_held = true;
	vmx_of(vp)->delivers = true;
	vmx_deliver_interrupt(vp);
	assert_true(has_window(PROC_INTERRUPT_WINDOW));
	vmx_reset_events(vp);
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT], 0);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS], PROC_OTHERS);
	assert_int_equal(vmcs[VMCS_TPR_THRESHOLD], 0);
	assert_int_equal(run(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(interrupts_go_in_or_get_a_window, setup),
		cmocka_unit_test_setup(one_goes_in_and_the_next_waits, setup),
		cmocka_unit_test_setup(posted_interrupts_are_seen, setup),
		cmocka_unit_test_setup(an_8259_goes_before_the_apic, setup),
		cmocka_unit_test_setup(lint0_is_held_until_the_guest_can_take_it, setup),
		cmocka_unit_test_setup(virtual_delivery_leaves_it_to_the_processor, setup),
		cmocka_unit_test_setup(interrupts_are_acknowledged_as_lint0_is_wired, setup),
		cmocka_unit_test_setup(init_leaves_nothing, setup),
	};

	return cmocka_run_group_tests_name("vmx_interrupts", tests, NULL, NULL);
}
