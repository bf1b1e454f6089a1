/* unit: svm/events.c */
/* SPDX-License-Identifier: MIT */
/*
 * Events into a guest on SVM: what becomes of one whose delivery was broken into when an exception goes first, in a VMCB that is only memory.
 */
#include "svm/svm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/exceptions.h>
#include <trivet/flush.h>
#include <trivet/io.h>

struct svm_machine svm = { .features = SVM_FEATURE_NRIPS };

static struct vmcb vmcb;
static struct vp *vp;
static struct lp lp;
static int put_back; /* the vector, -1: none */
static int handled;  /* the same, of an exception that isn't ours */
static unsigned int debugctl_writes;

void vp_put_back_interrupt(struct vp *of, uint8_t vector)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(put_back, -1);
	put_back = vector;
}

static unsigned int choices, own_kicks;

struct vp *schedule(struct vp *of)
{
	choices++;
	vp_clear_pending(of, VP_PENDING_NEUTRAL);
	atomic_store(&of->holds, 0); /* its parent was quick */
	return of;
}

uint8_t vp_extint_take(struct vp *of)
{
	(void)of;
	fail();
	return 0;
}

void vp_extint_release(struct vp *of)
{
	(void)of;
}

void lp_kick(struct lp *of)
{
	(void)of;
}

void lp_kick_self(struct lp *of)
{
	assert_ptr_equal(of, &lp);
	own_kicks++;
}

/* A level-triggered one, of which the parent hears. */
void apic_take(struct apic *apic, uint8_t vector)
{
	assert_int_equal(vector, apic->irr_top);
	apic->irr_top = -1;
	atomic_store(&vp->holds, VP_HOLD_INTERCEPT);
	vp_post_self(vp, VP_PENDING_SCHEDULE);
}

void apic_sync_posted_slow(struct apic *apic)
{
	(void)apic;
}

uint64_t rdmsr(uint32_t msr)
{
	(void)msr;
	return 0;
}

void svm_set_switched_msr(struct vp *of, unsigned int which, uint64_t value)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(which, SVM_DEBUGCTL);
	svm_of(vp)->msrs[which] = value;
	debugctl_writes++;
}

void flush_taken(struct vp *of)
{
	(void)of;
}

void flush_check(const struct vp *of)
{
	(void)of;
}

void svm_raise_exception(struct vp *of, uint8_t vector, bool has_error, uint32_t error)
{
	svm_inject_exception(of, vector, has_error, error);
}

void svm_handle_exception(struct vp *of, struct vmcb *control, uint8_t vector)
{
	assert_ptr_equal(of, vp);
	assert_ptr_equal(control, &vmcb);
	handled = vector;
}

static int setup(void **state)
{
	(void)state;
	vp = calloc(1, sizeof(*vp));
	vp->control = &vmcb;
	vp->lp = &lp;
	vp->apic.irr_top = vp->apic.isr_top = -1;
	memset(&vmcb, 0, sizeof(vmcb));
	vmcb.cr0 = CR0_PE;
	put_back = handled = -1;
	debugctl_writes = own_kicks = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(vp);
	svm.delivers_twice = false;
	return 0;
}

static void requeue(uint64_t event)
{
	vmcb.exit_int_info = EVENT_VALID | event;
	svm_requeue_event(vp, &vmcb);
	assert_true(vmcb.event_injection == (EVENT_VALID | event));
}

static void an_interrupt_comes_after_the_exception(void **state)
{
	(void)state;
	requeue(EVENT_TYPE_INTR | 0x51);
	svm_inject_exception(vp, VECTOR_AC, true, 0);
	assert_int_equal(put_back, 0x51);
	assert_true(vmcb.event_injection ==
		    (EVENT_VALID | EVENT_TYPE_EXCEPTION | EVENT_ERROR_VALID | VECTOR_AC));
	/* And only once, if the exception becomes another one. */
	put_back = -1;
	svm_inject_exception(vp, VECTOR_DB, false, 0);
	assert_int_equal(put_back, -1);
}

static void an_nmi_comes_after_the_exception(void **state)
{
	(void)state;
	svm_of(vp)->nmi_masked = true;
	vmcb.intercepts1 = (uint32_t)INTERCEPT1_IRET;
	requeue(EVENT_TYPE_NMI | VECTOR_NMI);
	svm_inject_exception(vp, VECTOR_DB, false, 0);
	assert_true(vmcb.event_injection == (EVENT_VALID | EVENT_TYPE_EXCEPTION | VECTOR_DB));
	assert_true(atomic_load(&vp->pending) & VP_PENDING_NMI);
	assert_false(svm_of(vp)->nmi_masked);
	assert_false(vmcb.intercepts1 & INTERCEPT1_IRET);
	assert_int_equal(put_back, -1);
	/* At an exit after it. */
	vmcb.event_injection = 0;
	svm_handle_pending(vp);
	assert_true(vmcb.event_injection == (EVENT_VALID | EVENT_TYPE_NMI | VECTOR_NMI));
	assert_true(svm_of(vp)->nmi_masked);
}

static void exceptions_merge(void **state)
{
	(void)state;
	requeue(EVENT_TYPE_EXCEPTION | EVENT_ERROR_VALID | VECTOR_PF);
	svm_inject_exception(vp, VECTOR_GP, true, 0);
	assert_true(vmcb.event_injection ==
		    (EVENT_VALID | EVENT_TYPE_EXCEPTION | EVENT_ERROR_VALID | VECTOR_DF));
	svm_inject_exception(vp, VECTOR_GP, true, 0);
	assert_true(atomic_load(&vp->pending) & VP_PENDING_SHUTDOWN);
	assert_int_equal(put_back, -1);
}

/* A debug exception of the guest's own goes on, with what its delivery would do to DR7; that of our step over an IRET doesn't. */
static void steps(void **state)
{
	(void)state;
	vmcb.dr7 = 0x2401;
	svm_handle_step(vp);
	assert_int_equal(handled, VECTOR_DB);
	assert_int_equal(vmcb.dr7, 0x401);
	handled = -1;
	svm_of(vp)->nmi_step = true;
	vp->child = (struct vp_child *)&lp; /* there is one */
	vp->wanted_exceptions = BIT(VECTOR_UD);
	svm_handle_step(vp);
	assert_int_equal(handled, -1);
	assert_int_equal(vmcb.intercept_exceptions,
			 BIT(VECTOR_DB) | BIT(VECTOR_UD) | BIT(VECTOR_AC) | BIT(VECTOR_MC));
}

/* Stopped by the interrupt that was taken, it isn't entered as it is. */
static void who_was_stopped_is_not_entered(void **state)
{
	(void)state;
	vp->child = (struct vp_child *)&lp; /* there is one */
	vp->apic.eoi_automatic_any = true;
	vp->apic.irr_top = 0x61;
	vmcb.rflags = RFLAGS_IF;
	choices = 0;
	vp_post(vp, VP_PENDING_EVENT);
	assert_ptr_equal(svm_handle_pending(vp), vp);
	assert_int_equal(choices, 1);
	assert_int_equal(atomic_load(&vp->pending), 0);
	assert_true(vmcb.event_injection == (EVENT_VALID | EVENT_TYPE_INTR | 0x61));
}

/* Where interrupts are delivered twice, each entry with one has a kick of its own: those of before were for whoever ran then. */
static void an_interrupt_waits_for_its_turn_with_a_kick(void **state)
{
	(void)state;
	svm.delivers_twice = true;
	requeue(EVENT_TYPE_INTR | 0x51);
	assert_int_equal(own_kicks, 1);
	vp_post_self(vp, VP_PENDING_SCHEDULE);
	svm_handle_pending(vp);
	assert_int_equal(own_kicks, 2);
	requeue(EVENT_TYPE_NMI | VECTOR_NMI);
	vp_post_self(vp, VP_PENDING_SCHEDULE);
	svm_handle_pending(vp);
	assert_int_equal(own_kicks, 2);
}

/* What a child finds in its handler of #DB, whether the processor raised it or we do behind an instruction of ours. */
static void debug_exceptions_end_tracing(void **state)
{
	(void)state;
	vp->child = (struct vp_child *)&lp; /* there is one */
	svm_of(vp)->msrs[SVM_DEBUGCTL] = DEBUGCTL_LBR | DEBUGCTL_BTF;
	svm_handle_step(vp);
	assert_int_equal(handled, VECTOR_DB);
	assert_int_equal(svm_of(vp)->msrs[SVM_DEBUGCTL], 0);
	assert_int_equal(debugctl_writes, 1);
	svm_handle_step(vp);
	assert_int_equal(debugctl_writes, 1);
	svm_of(vp)->msrs[SVM_DEBUGCTL] = DEBUGCTL_LBR;
	vmcb.dr7 = 0x2400;
	vmcb.rflags = RFLAGS_TF;
	vp->halted = true; /* by the instruction */
	assert_true(svm_complete_traced(vp));
	assert_false(vp->halted);
	assert_true(vmcb.event_injection == (EVENT_VALID | EVENT_TYPE_EXCEPTION | VECTOR_DB));
	assert_int_equal(vmcb.dr7, 0x400);
	assert_int_equal(svm_of(vp)->msrs[SVM_DEBUGCTL], 0);
	/* A root has its own in the processor. */
	vp->child = NULL;
	svm_of(vp)->msrs[SVM_DEBUGCTL] = DEBUGCTL_LBR;
	assert_true(svm_complete_traced(vp));
	assert_int_equal(debugctl_writes, 2);
	vmcb.rflags = RFLAGS_RF;
	assert_false(svm_complete_traced(vp));
	assert_true(vmcb.rflags == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(an_interrupt_comes_after_the_exception, setup, teardown),
		cmocka_unit_test_setup_teardown(an_nmi_comes_after_the_exception, setup, teardown),
		cmocka_unit_test_setup_teardown(exceptions_merge, setup, teardown),
		cmocka_unit_test_setup_teardown(steps, setup, teardown),
		cmocka_unit_test_setup_teardown(who_was_stopped_is_not_entered, setup, teardown),
		cmocka_unit_test_setup_teardown(an_interrupt_waits_for_its_turn_with_a_kick, setup, teardown),
		cmocka_unit_test_setup_teardown(debug_exceptions_end_tracing, setup, teardown),
	};

	return cmocka_run_group_tests_name("svm_events", tests, NULL, NULL);
}
