/* unit: vmx/events.c */
/* SPDX-License-Identifier: MIT */
/*
 * Events into a guest on VMX: what goes in with an entry, what becomes of an event whose delivery an exit broke into, when NMIs wait for what,
 * and what else is done before an entry. Interrupts: test_vmx_interrupts.c.
 */
#include "vmx_event_fake.h"

/* As interrupt_window_exit(). */
static bool nmi_window_exit(void)
{
	return has_window(PROC_NMI_WINDOW) && !(vmcs[VMCS_GUEST_INTERRUPTIBILITY] & (SHADOWS | BLOCKING_NMI));
}

static bool is_pending(uint64_t bits)
{
	return atomic_load(&vp->pending) & bits;
}

/* The exit broke into a delivery: `event` is what the IDT-vectoring information says (SDM3 28.2.4). */
static void requeue(uint32_t event, uint32_t error)
{
	vmcs[VMCS_VECTORING_EVENT_ERROR] = error;
	vmx_requeue_event(vp, event);
}

/* ---- Exceptions ---- */

static void exceptions_have_their_error_codes(void **state)
{
	(void)state;
	vmx_inject_exception(vp, VECTOR_PF, true, 0x1017);
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT_ERROR], 0x1017);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | WITH_ERROR | VECTOR_PF);
	vmx_inject_exception(vp, VECTOR_UD, false, 7);
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT_ERROR], 0x1017);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | VECTOR_UD);
	assert_int_equal(run(), 0);
	/* Two that don't meet are two. */
	for (unsigned int i = 0; i < 2; i++) {
		vmx_inject_exception(vp, VECTOR_GP, true, 0);
		assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | WITH_ERROR | VECTOR_GP);
	}
	/* Real mode pushes none, and the entry insists on it (SDM3 27.2.1.3). */
	vmcs[VMCS_GUEST_CR0] = CR0_ET | CR0_PG;
	vmx_inject_exception(vp, VECTOR_GP, true, 0);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | VECTOR_GP);
	assert_int_equal(atomic_load(&vp->pending), 0);
	assert_int_equal(put_back, NOTHING);
}

/* 0: benign, 1: contributory, 2: a page fault (SDM3 table 6-4). */
static unsigned int class_of(uint8_t vector)
{
	static const uint8_t contributory[] = { VECTOR_DE, VECTOR_TS, VECTOR_NP,
						VECTOR_SS, VECTOR_GP, VECTOR_CP };

	return vector == VECTOR_PF ? 2 : memchr(contributory, vector, sizeof(contributory)) ? 1 : 0;
}

/* SDM3 table 6-5 */
static void two_exceptions_make_a_double_fault(void **state)
{
	static const bool doubles[3][3] = { { false, false, false },
					    { false, true, false },
					    { false, true, true } };

	for (uint8_t first = 0; first < 32; first++) {
		for (uint8_t second = 0; second < 32; second++) {
			bool is_double = doubles[class_of(first)][class_of(second)];
			bool has_error = pushes_error(second);

			if (first == VECTOR_NMI || first == VECTOR_DF)
				continue;
			setup(state);
			requeue(VALID | EVENT_TYPE_EXCEPTION | first, 0);
			vmx_inject_exception(vp, second, has_error, 0x55);
			assert_int_equal(vmx_of(vp)->event & EVENT_VECTOR_MASK,
					 is_double ? VECTOR_DF : second);
			if (is_double || has_error)
				assert_int_equal(vmcs[VMCS_ENTRY_EVENT_ERROR], is_double ? 0 : 0x55);
			assert_int_equal(run() & EVENT_VECTOR_MASK, is_double ? VECTOR_DF : second);
			assert_int_equal(atomic_load(&vp->pending), 0);
			assert_int_equal(put_back, NOTHING);
		}
	}
}

static void a_third_one_shuts_down(void **state)
{
	const uint32_t double_fault = VALID | EVENT_TYPE_EXCEPTION | WITH_ERROR | VECTOR_DF;

	(void)state;
	requeue(VALID | EVENT_TYPE_EXCEPTION | WITH_ERROR | VECTOR_PF, 2);
	vmx_inject_exception(vp, VECTOR_DE, false, 0);
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT], double_fault);
	assert_false(is_pending(VP_PENDING_SHUTDOWN));
	vmx_inject_exception(vp, VECTOR_GP, true, 9);
	assert_int_equal(atomic_load(&vp->pending), VP_PENDING_SHUTDOWN);
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT], double_fault);
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT_ERROR], 0);
	/* In real mode without an error code. */
	setup(state);
	vmcs[VMCS_GUEST_CR0] = 0;
	requeue(VALID | EVENT_TYPE_EXCEPTION | VECTOR_GP, 0);
	vmx_inject_exception(vp, VECTOR_GP, true, 0);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | VECTOR_DF);
}

/* ---- Deliveries that were broken into ---- */

static void what_was_broken_into_comes_again(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_NMI;
	vmcs[VMCS_ENTRY_EVENT_ERROR] = 0x77;
	/* Bit 12 is undefined there, and those above it are no part of it (SDM3 25.9.3): the entry wants them clear. */
	requeue(VALID | EVENT_TYPE_INTR | 0xf3 | 0x7ffff000, 0x1234);
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT_ERROR], 0x77);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI);
	assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0xf3);
	requeue(VALID | EVENT_TYPE_EXCEPTION | WITH_ERROR | VECTOR_SS, 0x1234);
	assert_int_equal(vmcs[VMCS_ENTRY_EVENT_ERROR], 0x1234);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | WITH_ERROR | VECTOR_SS);
}

/* Its delivery has blocked NMIs, and an entry that injects one insists that they aren't (SDM3 27.3.1.5). */
static void an_nmi_that_was_broken_into_comes_again(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_NMI | BLOCKING_SMI;
	requeue(VALID | EVENT_TYPE_NMI | VECTOR_NMI, 0);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_SMI);
	assert_int_equal(run(), VALID | EVENT_TYPE_NMI | VECTOR_NMI);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_SMI | BLOCKING_NMI);
	assert_int_equal(atomic_load(&vp->pending), 0);
}

/* RIP points at the instruction (SDM3 28.3.3): injected too, it would come twice. */
static void software_events_keep_rip(void **state)
{
	static const uint32_t types[] = { EVENT_TYPE_SOFT_INT | 0x80, EVENT_TYPE_PRIVILEGED | VECTOR_DB,
					  EVENT_TYPE_SOFT_EXCEPTION | 3, EVENT_TYPE_SOFT_EXCEPTION | 4 };

	(void)state;
	for (unsigned int i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		requeue(VALID | types[i], 0);
		assert_int_equal(vmcs_writes, 0);
		assert_int_equal(run(), 0);
		/* And what the exit makes of it is alone. */
		vmx_inject_exception(vp, VECTOR_GP, true, 0);
		assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | WITH_ERROR | VECTOR_GP);
		assert_int_equal(put_back, NOTHING);
		vmcs_writes = 0;
	}
}

static void an_interrupt_comes_after_the_exception(void **state)
{
	(void)state;
	vmx_of(vp)->lends_page = true;
	requeue(VALID | EVENT_TYPE_INTR | 0xd1, 0);
	vmx_inject_exception(vp, VECTOR_AC, true, 0);
	assert_int_equal(put_back, 0xd1);
	assert_int_equal(take_overs, 1); /* the processor has moved it to ISR */
	/* And only once, if the exception becomes another one. */
	put_back = NOTHING;
	vmx_inject_exception(vp, VECTOR_DB, false, 0);
	assert_int_equal(put_back, NOTHING);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | VECTOR_DB);
	assert_false(is_pending(VP_PENDING_NMI));
}

static void an_nmi_comes_after_the_exception(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_NMI;
	requeue(VALID | EVENT_TYPE_NMI | VECTOR_NMI, 0);
	vmx_inject_exception(vp, VECTOR_DB, false, 0);
	assert_int_equal(atomic_load(&vp->pending), VP_PENDING_NMI);
	assert_int_equal(put_back, NOTHING);
	vmx_handle_pending(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | VECTOR_DB);
	assert_true(nmi_window_exit());
	vmx_handle_nmi_window(vp);
	vmx_handle_pending(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_NMI | VECTOR_NMI);
	assert_false(has_window(PROC_NMI_WINDOW));
	assert_int_equal(atomic_load(&vp->pending), 0);
}

/* ---- NMIs ---- */

static void an_nmi_waits_for_its_window(void **state)
{
	(void)state;
	vp_post(vp, VP_PENDING_NMI);
	vmx_handle_pending(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_NMI | VECTOR_NMI);
	assert_int_equal(atomic_load(&vp->pending), 0);
	assert_false(has_window(PROC_NMI_WINDOW | PROC_INTERRUPT_WINDOW));
	/* The next one waits for the handler's IRET, RFLAGS.IF or not. */
	vp_post(vp, VP_PENDING_NMI);
	vmx_handle_pending(vp);
	assert_int_equal(run(), 0);
	assert_true(is_pending(VP_PENDING_NMI));
	assert_true(has_window(PROC_NMI_WINDOW));
	assert_false(has_window(PROC_INTERRUPT_WINDOW));
	assert_false(nmi_window_exit());
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_MOV_SS;
	vmcs_writes = 0;
	vmx_handle_pending(vp);
	assert_int_equal(vmcs_writes, 0);
	assert_int_equal(run(), 0);
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = 0;
	assert_true(nmi_window_exit());
	vmx_handle_nmi_window(vp);
	assert_false(has_window(PROC_NMI_WINDOW));
	vmx_handle_pending(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_NMI | VECTOR_NMI);
	/* No NMI, no look at it. */
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_STI;
	vmcs_writes = 0;
	vp_post(vp, VP_PENDING_EVENT);
	vmx_handle_pending(vp);
	assert_int_equal(vmcs_writes, 0);
}

/* Some processors end guest mode by the NMI window in the shadow of STI, again and again (SDM3 26.2): the other window tells of its end. */
static void an_nmi_waits_for_the_shadow_of_sti(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_STI;
	vp_post(vp, VP_PENDING_NMI |
			    VP_PENDING_EVENT); /* looking for interrupts closes no window that NMIs need */
	vmx_handle_pending(vp);
	assert_int_equal(run(), 0);
	assert_int_equal(atomic_load(&vp->pending), VP_PENDING_NMI);
	assert_false(has_window(PROC_NMI_WINDOW));
	assert_true(has_window(PROC_INTERRUPT_WINDOW));
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = 0;
	assert_true(interrupt_window_exit());
	vmx_handle_interrupt_window(vp);
	assert_false(has_window(PROC_INTERRUPT_WINDOW));
	vmx_handle_pending(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_NMI | VECTOR_NMI);
	assert_int_equal(atomic_load(&vp->pending), 0);
}

/* The instruction behind STI is an exit and gets an exception: there is no shadow after its delivery, and IF is clear (SDM3 27.7.1). */
static void an_exception_ends_the_shadow_of_sti(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_STI;
	vp_post(vp, VP_PENDING_NMI);
	vmx_inject_exception(vp, VECTOR_GP, true, 0);
	vmx_handle_pending(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | WITH_ERROR | VECTOR_GP);
	assert_true(nmi_window_exit());
	assert_false(has_window(PROC_INTERRUPT_WINDOW));
	vmx_handle_nmi_window(vp);
	vmx_handle_pending(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_NMI | VECTOR_NMI);
}

static void an_nmi_goes_before_an_interrupt(void **state)
{
	(void)state;
	set_apic(0x61, NOTHING, 0);
	vp_post(vp, VP_PENDING_NMI | VP_PENDING_EVENT);
	vmx_handle_pending(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_NMI | VECTOR_NMI);
	assert_int_equal(vp->apic.irr_top, 0x61);
	assert_true(has_window(PROC_INTERRUPT_WINDOW));
	assert_int_equal(atomic_load(&vp->pending), 0);
	/* NMIs being blocked doesn't hold it up (SDM3 27.3.1.5). */
	vmcs[VMCS_GUEST_RFLAGS] |= RFLAGS_IF;
	assert_true(interrupt_window_exit());
	vmx_handle_interrupt_window(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0x61);
	assert_false(has_window(PROC_INTERRUPT_WINDOW));
}

/* ---- Instructions done in software ---- */

static void tf_traps_behind_an_instruction(void **state)
{
	(void)state;
	assert_false(vmx_complete_traced(vp, RFLAGS_IF | RFLAGS_RF));
	assert_int_equal(vmcs[VMCS_GUEST_RFLAGS], RFLAGS_IF);
	assert_int_equal(run(), 0);
	assert_int_equal(dr6, 0xffff0ff0);
	/* BTF: only branches trap (SDM3 18.4.3), and what a shadow held up stays the processor's. */
	vmcs[VMCS_GUEST_DEBUGCTL] = DEBUGCTL_BTF;
	vmcs[VMCS_GUEST_PENDING_DEBUG] = 3;
	assert_false(vmx_complete_traced(vp, RFLAGS_TF | RFLAGS_RF));
	assert_int_equal(vmcs[VMCS_GUEST_RFLAGS], RFLAGS_TF);
	assert_int_equal(vmcs[VMCS_GUEST_PENDING_DEBUG], 3);
	assert_int_equal(run(), 0);
	assert_int_equal(dr6, 0xffff0ff0);
	vmcs[VMCS_GUEST_DEBUGCTL] = BIT(6) | DEBUGCTL_LBR;
	vmcs[VMCS_GUEST_DR7] = DR7_GD | 0x400;
	vmcs[VMCS_GUEST_PENDING_DEBUG] =
		BIT(1) | BIT(12) | DR6_BLD; /* bit 12: a breakpoint that is on (SDM3 25.4.2) */
	dr6 |= BIT(0);
	assert_true(vmx_complete_traced(vp, RFLAGS_TF));
	assert_int_equal(vmcs[VMCS_GUEST_RFLAGS], RFLAGS_TF);
	assert_int_equal(vmcs[VMCS_GUEST_PENDING_DEBUG], 0);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | VECTOR_DB);
	assert_int_equal(dr6, 0xffff47f3); /* BS, B0, B1; BLD is clear when there was one */
	assert_int_equal(vmcs[VMCS_GUEST_DEBUGCTL], BIT(6));
	assert_int_equal(vmcs[VMCS_GUEST_DR7], 0x400);
	dr6 = 0xffff0ff0;
	vp->halted = true; /* by the instruction */
	assert_true(vmx_complete_traced(vp, RFLAGS_TF));
	assert_false(vp->halted);
	assert_int_equal(dr6, 0xffff4ff0);
	assert_int_equal(run(), VALID | EVENT_TYPE_EXCEPTION | VECTOR_DB);
}

static void rip_wraps_outside_64_bit_code(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_EFER] = EFER_LMA;
	vmcs[VMCS_GUEST_CS_RIGHTS] = RIGHTS_LONG;
	assert_true(vmx_wrap_rip(0x100000005) == 0x100000005);
	vmcs[VMCS_GUEST_CS_RIGHTS] = 0;
	assert_true(vmx_wrap_rip(0x100000005) == 5);
	assert_true(vmx_wrap_rip(0xfffffffe) == 0xfffffffe);
}

/* ---- What is pending ---- */

static void flushes_are_noted_and_done(void **state)
{
	(void)state;
	vmx_handle_pending(vp);
	assert_int_equal(flushes + invalidations + vmcs_writes, 0);
	set_apic(0x61, NOTHING, 0);
	vp_post(vp, VP_PENDING_FLUSH);
	vmx_handle_pending(vp);
	assert_int_equal(flushes, 1);
	assert_int_equal(invalidations, 1);
	assert_int_equal(atomic_load(&vp->pending), 0);
	assert_int_equal(run(), 0); /* nobody said that interrupts are to be looked at */
	vp_post(vp, VP_PENDING_EVENT);
	vmx_handle_pending(vp);
	assert_int_equal(run(), VALID | EVENT_TYPE_INTR | 0x61);
	assert_int_equal(atomic_load(&vp->pending), 0);
	assert_int_equal(invalidations, 1);
	assert_null(entered);
}

static void whoever_is_scheduled_is_entered(void **state)
{
	struct vp *const other = &vps[1];

	(void)state;
	scheduled = other;
	vmx_of(vp)->lends_page = true;
	vmx_of(other)->is_clear = true;
	vmx_of(other)->pdptes_stale = true;
	vp_post(other, VP_PENDING_FLUSH | VP_PENDING_NMI | VP_PENDING_TIMER); /* the last has come just now */
	vp_post(vp, VP_PENDING_SCHEDULE | VP_PENDING_EVENT);
	if (!setjmp(entry)) {
		vmx_handle_pending(vp);
		fail();
	}
	assert_int_equal(take_overs, 1); /* schedule() looks at the model */
	assert_ptr_equal(entered, other);
	assert_true(entered_as_launch);
	assert_int_equal(settled, 1);
	assert_int_equal(invalidations, 1);
	assert_int_equal(vmx_of(other)->event, VALID | EVENT_TYPE_NMI | VECTOR_NMI);
	assert_int_equal(atomic_load(&other->pending), VP_PENDING_TIMER);
	assert_int_equal(atomic_load(&vp->pending), VP_PENDING_EVENT);
	/* A VMCS is launched once. */
	scheduled = vp;
	vmx_of(vp)->pdptes_stale = true;
	if (!setjmp(entry))
		vmx_run_next(vp);
	assert_ptr_equal(entered, vp);
	assert_false(entered_as_launch);
	assert_false(vmx_of(other)->is_clear);
	assert_int_equal(settled, 2);
	assert_int_equal(atomic_load(&vp->pending), 0);
	if (!setjmp(entry))
		vmx_run_next(vp);
	assert_int_equal(settled, 2);
}

static void have_one_that_stops_it(void)
{
	vp->child = (struct vp_child *)vmcs; /* there is one */
	vp->apic.eoi_automatic_any = true;
	set_apic(0x61, NOTHING, 0);
	vp_post(vp, VP_PENDING_EVENT);
}

/* Stopped by the interrupt that was taken, it isn't entered as it is. */
static void who_was_stopped_is_not_entered(void **state)
{
	(void)state;
	have_one_that_stops_it();
	scheduled = &vps[1];
	if (!setjmp(entry)) {
		vmx_handle_pending(vp);
		fail();
	}
	assert_ptr_equal(entered, &vps[1]);
	assert_int_equal(vmx_of(vp)->event, VALID | EVENT_TYPE_INTR | 0x61);
}

/* Nor if it was chosen before. */
static void who_was_stopped_is_not_entered_as_chosen(void **state)
{
	(void)state;
	have_one_that_stops_it();
	choose_other_after = 1;
	if (!setjmp(entry))
		vmx_run_next(vp);
	assert_ptr_equal(entered, &vps[1]);
	assert_int_equal(vmx_of(vp)->event, VALID | EVENT_TYPE_INTR | 0x61);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(exceptions_have_their_error_codes, setup),
		cmocka_unit_test_setup(who_was_stopped_is_not_entered, setup),
		cmocka_unit_test_setup(who_was_stopped_is_not_entered_as_chosen, setup),
		cmocka_unit_test_setup(two_exceptions_make_a_double_fault, setup),
		cmocka_unit_test_setup(a_third_one_shuts_down, setup),
		cmocka_unit_test_setup(what_was_broken_into_comes_again, setup),
		cmocka_unit_test_setup(an_nmi_that_was_broken_into_comes_again, setup),
		cmocka_unit_test_setup(software_events_keep_rip, setup),
		cmocka_unit_test_setup(an_interrupt_comes_after_the_exception, setup),
		cmocka_unit_test_setup(an_nmi_comes_after_the_exception, setup),
		cmocka_unit_test_setup(an_nmi_waits_for_its_window, setup),
		cmocka_unit_test_setup(an_nmi_waits_for_the_shadow_of_sti, setup),
		cmocka_unit_test_setup(an_exception_ends_the_shadow_of_sti, setup),
		cmocka_unit_test_setup(an_nmi_goes_before_an_interrupt, setup),
		cmocka_unit_test_setup(tf_traps_behind_an_instruction, setup),
		cmocka_unit_test_setup(rip_wraps_outside_64_bit_code, setup),
		cmocka_unit_test_setup(flushes_are_noted_and_done, setup),
		cmocka_unit_test_setup(whoever_is_scheduled_is_entered, setup),
	};

	return cmocka_run_group_tests_name("vmx_events", tests, NULL, NULL);
}
