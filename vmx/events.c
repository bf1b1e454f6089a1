/* SPDX-License-Identifier: MIT */
/*
 * Events into the guest (SDM3 27.6, 25.8.3): exceptions, NMIs and interrupts, one per entry, and the windows that end guest
 * mode as soon as the next one can be taken. One producer: but for an event that is set by name (registers.c) and INT1 (child_exit.c)
 * nothing else writes VMCS_ENTRY_EVENT.
 */
#include "vmx.h"
#include <trivet/assert.h>
#include <trivet/exceptions.h>
#include <trivet/flush.h>
#include <trivet/live_registers.h>
#include <trivet/log.h>
#include <trivet/partition.h>

/* The processor takes `event` with the next entry and clears EVENT_VALID with the exit after it. */
static void set_event(struct vp *vp, uint32_t event)
{
	vmx_of(vp)->event = event;
	vmwrite(VMCS_ENTRY_EVENT, event);
}

bool vmx_complete_traced(struct vp *vp, uint64_t rflags)
{
	uint64_t pending;

	vmwrite(VMCS_GUEST_RFLAGS, rflags & ~RFLAGS_RF);
	if (!(rflags & RFLAGS_TF) || (vmread(VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF))
		return false;
	pending = vmread(VMCS_GUEST_PENDING_DEBUG);
	/* What a shadow held up comes with this trap. DR6.BLD is clear when it happened (SDM3 18.2.3). */
	vmwrite(VMCS_GUEST_PENDING_DEBUG, 0);
	write_dr(6, (read_dr(6) | DR6_BS | (pending & DR6_BREAKPOINTS)) & ~(pending & DR6_BLD));
	vp->halted = false; /* by a read of HV_X64_MSR_GUEST_IDLE */
	vmx_begin_debug_exception();
	vmx_raise_exception(vp, VECTOR_DB, false, 0);
	return true;
}

uint64_t vmx_wrap_rip(uint64_t rip)
{
	return vmx_in_64bit_code() ? rip : (uint32_t)rip;
}

/* The delivery of an event was broken into, and now an exception goes first: nothing else would bring the event again. */
static void put_back(struct vp *vp, uint32_t event)
{
	if ((event & EVENT_TYPE_MASK) == EVENT_TYPE_INTR) {
		vmx_know_apic(vp);
		vp_put_back_interrupt(vp, event & EVENT_VECTOR_MASK);
	} else if ((event & EVENT_TYPE_MASK) == EVENT_TYPE_NMI) {
		vp_post_self(vp, VP_PENDING_NMI); /* they aren't blocked: vmx_requeue_event() */
	}
}

void vmx_inject_exception(struct vp *vp, uint8_t vector, bool has_error, uint32_t error)
{
	uint32_t first = vmx_of(vp)->event;
	bool protected = vmread(VMCS_GUEST_CR0) & CR0_PE;

	if (!protected)
		has_error = false; /* real mode pushes none */

	if ((first & EVENT_VALID) && (first & EVENT_TYPE_MASK) == EVENT_TYPE_EXCEPTION) {
		if (!exception_during(first & EVENT_VECTOR_MASK, &vector, &has_error, &error, protected)) {
			vp_post_self(vp, VP_PENDING_SHUTDOWN);
			return;
		}
	} else if (unlikely(first & EVENT_VALID)) {
		put_back(vp, first);
	}
	if (has_error)
		vmwrite(VMCS_ENTRY_EVENT_ERROR, error);
	set_event(vp, (uint32_t)(EVENT_VALID | EVENT_TYPE_EXCEPTION | (has_error ? EVENT_ERROR_VALID : 0) |
				 vector));
}

void vmx_requeue_event(struct vp *vp, uint32_t event)
{
	switch (event & EVENT_TYPE_MASK) {
	case EVENT_TYPE_SOFT_INT:
	case EVENT_TYPE_PRIVILEGED:
	case EVENT_TYPE_SOFT_EXCEPTION:
		/* INT n, INT1, INT3 and INTO run again: RIP still points at them. */
		return;
	case EVENT_TYPE_NMI:
		/* Its delivery blocked NMIs already; so will the next. */
		vmwrite(VMCS_GUEST_INTERRUPTIBILITY, vmread(VMCS_GUEST_INTERRUPTIBILITY) & ~BLOCKING_NMI);
		break;
	default:
		break;
	}
	if (event & EVENT_ERROR_VALID)
		vmwrite(VMCS_ENTRY_EVENT_ERROR, vmread(VMCS_VECTORING_EVENT_ERROR));
	set_event(vp,
		  event & (uint32_t)(EVENT_VALID | EVENT_ERROR_VALID | EVENT_TYPE_MASK | EVENT_VECTOR_MASK));
}

static void set_window(struct vp *vp, uint64_t which, bool open)
{
	struct vmx_vp *own = vmx_of(vp);
	uint32_t proc = open ? own->proc | (uint32_t)which : own->proc & ~(uint32_t)which;

	if (proc == own->proc)
		return;
	own->proc = proc;
	vmwrite(VMCS_PROC_CONTROLS, proc);
}

static void set_tpr_threshold(struct vp *vp, uint32_t threshold)
{
	struct vmx_vp *own = vmx_of(vp);

	if (threshold == own->tpr_threshold)
		return;
	own->tpr_threshold = threshold;
	vmwrite(VMCS_TPR_THRESHOLD, threshold);
}

void vmx_reset_events(struct vp *vp)
{
	set_event(vp, 0);
	set_window(vp, PROC_INTERRUPT_WINDOW | PROC_NMI_WINDOW, false);
	set_tpr_threshold(vp, 0);
}

/*
 * An NMI that is pending waits for the shadow of STI to end: the interrupt window tells that everywhere (SDM3 26.2). An event that goes in
 * ends the shadow (SDM3 27.7.1), and its handler may have interrupts off for long.
 */
static bool sti_holds_nmi(struct vp *vp)
{
	return !(vmx_of(vp)->event & EVENT_VALID) && (vmread(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_STI);
}

static void deliver_nmi(struct vp *vp)
{
	const uint64_t blocked = BLOCKING_STI | BLOCKING_MOV_SS | BLOCKING_NMI;

	if ((vmx_of(vp)->event & EVENT_VALID) || (vmread(VMCS_GUEST_INTERRUPTIBILITY) & blocked)) {
		/* The bit stays. In the shadow of STI only some processors hold the window back: that is the other one's. */
		if (!sti_holds_nmi(vp))
			set_window(vp, PROC_NMI_WINDOW, true);
		return;
	}
	vp_clear_pending(vp, VP_PENDING_NMI);
	set_event(vp, (uint32_t)(EVENT_VALID | EVENT_TYPE_NMI | VECTOR_NMI));
}

/*
 * The processor acknowledges interrupts with the exit, but for those of an 8259: the guest may reprogram that until it can take
 * one, so they are let in through the window, when it can.
 */
__attribute__((__noinline__)) void vmx_set_acknowledge(struct vp *vp, bool acknowledge)
{
	vmx_of(vp)->acknowledges = acknowledge;
	vmwrite(VMCS_EXIT_CONTROLS, acknowledge ? vmx.exit : vmx.exit & ~(uint32_t)EXIT_ACK_INTERRUPT);
	vmx_update_posting(vp);
}

static void inject_interrupt(struct vp *vp, uint8_t vector)
{
	set_event(vp, (uint32_t)(EVENT_VALID | EVENT_TYPE_INTR | vector));
}

/* What the 8259s deliver doesn't pass through the model. True: it goes in with the next entry. */
static bool deliver_extint(struct vp *vp)
{
	if (unlikely(vp->extint_held))
		vp_extint_release(vp); /* if it is still there, it is the next exit */
	if (likely(vp->extint_count == 0))
		return false;
	inject_interrupt(vp, vp_extint_take(vp));
	return true;
}

/* The processor does the rest. */
static void deliver_virtually(struct vp *vp)
{
	vmx_hand_over_interrupts(vp);
	if (unlikely(vp->extint_count || vp->extint_held) && vmx_can_inject(vp))
		deliver_extint(vp);
	set_window(vp, PROC_INTERRUPT_WINDOW, vp->extint_count || vp->extint_held);
}

void vmx_deliver_interrupt(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);
	struct apic *apic = &vp->apic;
	bool window = false;
	uint32_t threshold = 0;
	int vector;

	if (unlikely(own->acknowledges == vp_extint_wired(vp)) && !vp->child)
		vmx_set_acknowledge(vp, !own->acknowledges); /* a child has no 8259 of the machine's */
	if (own->delivers) {
		deliver_virtually(vp);
		return;
	}
	apic_sync_posted(apic);
	if (vmx_can_inject(vp) && !deliver_extint(vp)) {
		vector = apic_next_vector(apic);
		if (vector >= 0) {
			apic_take(apic, (uint8_t)vector);
			inject_interrupt(vp, (uint8_t)vector);
		}
	}
	vector = apic_pending_vector(apic);
	if (unlikely(vp->extint_count || vp->extint_held))
		window = true;
	else if (vector >= 0 && vector >> 4 > (apic->isr_top >> 4)) {
		if (vector >> 4 > apic_cr8(apic))
			window = true;
		else
			threshold = (uint32_t)vector >> 4;
	}
	set_window(vp, PROC_INTERRUPT_WINDOW, window);
	set_tpr_threshold(vp, threshold);
}

/*
 * INVEPT drops guest-physical and combined mappings, INVVPID linear and combined ones (SDM3 29.4.3.1): translations of the guest's
 * tables and of ours alike.
 */
static void flush(struct vp *vp)
{
	flush_taken(vp);
	vmx_invalidate(vp);
}

#ifdef TRIVET_DEBUG
/* Names what the processor would refuse, before it does. What a child's parent sets is no mistake of ours. */
static void check_state(const struct vp *vp)
{
	char why[160];

	if (!vp->child && vmx_check(&vmx, why, sizeof(why)))
		panic("p%llu/vp%u: about to enter with a bad state: %s",
		      (unsigned long long)vp->partition->id, vp->index, why);
}
#endif

/* What is the back end's of `pending`; the VP stays. */
static inline void handle_own(struct vp *vp, uint64_t pending)
{
	if (unlikely(pending & VP_PENDING_FLUSH))
		flush(vp);
	if (unlikely(pending & VP_PENDING_NMI))
		deliver_nmi(vp);
	if (pending & VP_PENDING_EVENT) {
		vp_clear_pending(vp, VP_PENDING_EVENT);
		vmx_deliver_interrupt(vp);
	}
	if (unlikely(pending & VP_PENDING_NMI) && sti_holds_nmi(vp))
		set_window(vp, PROC_INTERRUPT_WINDOW, true);
#ifdef TRIVET_DEBUG
	flush_check(vp);
	check_state(vp);
#endif
}

_Noreturn void vmx_run_next(struct vp *vp)
{
	struct vmx_vp *own;
	bool launch;

	do {
		vmx_know_apic(vp);
		vp = schedule(vp);
		own = vmx_of(vp);
		if (unlikely(own->pdptes_stale))
			vmx_settle_pdptes(vp);
		handle_own(vp, atomic_load_explicit(&vp->pending, memory_order_acquire));
	} while (unlikely(vp_was_stopped(vp)));
	launch = own->is_clear;
	own->is_clear = false;
	vmx_enter(vp, launch);
}

void vmx_handle_pending(struct vp *vp)
{
	uint64_t pending = atomic_load_explicit(&vp->pending, memory_order_acquire);

	if (unlikely(pending & VP_PENDING_NEUTRAL))
		vmx_run_next(vp);
	handle_own(vp, pending);
	if (unlikely(vp_was_stopped(vp)))
		vmx_run_next(vp);
}

void vmx_handle_interrupt_window(struct vp *vp)
{
	set_window(vp, PROC_INTERRUPT_WINDOW, false);
	vmx_deliver_interrupt(vp);
}

/* The NMI still stands in vp->pending. */
void vmx_handle_nmi_window(struct vp *vp)
{
	set_window(vp, PROC_NMI_WINDOW, false);
}
