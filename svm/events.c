/* SPDX-License-Identifier: MIT */
/*
 * Events into the guest (APM2 15.20, 15.21): exceptions, NMIs and interrupts, one per entry, and the windows that end guest
 * mode as soon as the next one can be taken. One producer: but for an
 * event that is set by name (registers.c) nothing else writes event_injection.
 */
#include "svm.h"
#include <trivet/assert.h>
#include <trivet/decode.h>
#include <trivet/exceptions.h>
#include <trivet/flush.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/partition.h>

#define CR8_BIT (1u << 8)

/*
 * The handler of #DB finds general detection, branch records and single steps on branches off (APM2 13.1.3.5, 13.1.6). DebugCtl is written with the
 * delivery, which the intercept comes before (APM2 15.12), and not every processor does it for what is injected. A child's is kept here
 * besides; a root's is in the processor alone.
 */
static void begin_debug_exception(struct vp *vp, struct vmcb *vmcb)
{
	const uint64_t value = svm_of(vp)->msrs[SVM_DEBUGCTL], off = DEBUGCTL_LBR | DEBUGCTL_BTF;

	vmcb->dr7 &= ~DR7_GD;
	if (vp->child && unlikely(value & off))
		svm_set_switched_msr(vp, SVM_DEBUGCTL, value & ~off);
}

bool svm_complete_traced(struct vp *vp)
{
	struct vmcb *vmcb = vmcb_of(vp);

	vmcb->rflags &= ~RFLAGS_RF;
	if (!(vmcb->rflags & RFLAGS_TF) || svm_of(vp)->nmi_step ||
	    (rdmsr(MSR_DEBUGCTL) & DEBUGCTL_BTF)) /* the guest's stays in the processor */
		return false;
	vmcb->dr6 |= DR6_BS;
	vp->halted = false; /* by a read of HV_X64_MSR_GUEST_IDLE */
	begin_debug_exception(vp, vmcb);
	svm_raise_exception(vp, VECTOR_DB, false, 0);
	return true;
}

/* The delivery of an event was broken into, and now an exception goes first: nothing else would bring the event again. */
static void put_back(struct vp *vp, struct vmcb *vmcb, uint64_t event)
{
	if ((event & EVENT_TYPE_MASK) == EVENT_TYPE_INTR) {
		vp_put_back_interrupt(vp, event & EVENT_VECTOR_MASK);
	} else if ((event & EVENT_TYPE_MASK) == EVENT_TYPE_NMI) {
		svm_of(vp)->nmi_masked = false;
		vmcb->intercepts1 &= ~(uint32_t)INTERCEPT1_IRET;
		vp_post_self(vp, VP_PENDING_NMI);
	}
}

void svm_inject_exception(struct vp *vp, uint8_t vector, bool has_error, uint32_t error)
{
	struct vmcb *vmcb = vmcb_of(vp);
	uint64_t first = vmcb->event_injection;
	bool protected = vmcb->cr0 & CR0_PE;

	if (!protected)
		has_error = false; /* real mode pushes none */

	if ((first & EVENT_VALID) && (first & EVENT_TYPE_MASK) == EVENT_TYPE_EXCEPTION) {
		if (!exception_during(first & EVENT_VECTOR_MASK, &vector, &has_error, &error, protected)) {
			vp_post_self(vp, VP_PENDING_SHUTDOWN);
			return;
		}
	} else if (unlikely(first & EVENT_VALID)) {
		put_back(vp, vmcb, first);
	}
	vmcb->event_injection = EVENT_VALID | EVENT_TYPE_EXCEPTION | vector |
				(has_error ? EVENT_ERROR_VALID : 0) | (uint64_t)error << EVENT_ERROR_SHIFT;
}

/* An exit as soon as RFLAGS.IF, the shadow and (unless `ignore_tpr`) TPR let a vector of this priority in. */
static void open_window(struct vmcb *vmcb, unsigned int priority, bool ignore_tpr)
{
	uint64_t control = vmcb->interrupt_control & ~(V_PRIORITY_MASK | V_IGNORE_TPR);

	/*
	 * QEMU 7.2 (which has no NRIPS) dies of a CR8 write that lets V_IRQ in: then it is ours to carry out. And it lets
	 * TPR's own class in, without end, as there is nothing to inject: then it gets one that it doesn't.
	 */
	if (!(svm.features & SVM_FEATURE_NRIPS)) {
		vmcb->intercept_cr_write |= CR8_BIT;
		if (!ignore_tpr && priority && priority == (control & V_TPR_MASK))
			priority--;
	}
	vmcb->interrupt_control =
		control | V_IRQ | (uint64_t)priority << V_PRIORITY_SHIFT | (ignore_tpr ? V_IGNORE_TPR : 0);
	vmcb->intercepts1 |= (uint32_t)INTERCEPT1_VINTR;
}

static void close_window(struct vmcb *vmcb)
{
	vmcb->interrupt_control &= ~V_IRQ;
	vmcb->intercepts1 &= ~(uint32_t)INTERCEPT1_VINTR;
	vmcb->intercept_cr_write = 0;
}

/*
 * NMIs open up when the handler's IRET has completed. Its intercept comes before it runs; that it did run shows at any later
 * exit by another RIP. Only with another NMI waiting is that exit forced, by a single step.
 */
static bool nmi_handler_returned(struct vp *vp, struct vmcb *vmcb)
{
	struct svm_vp *own = svm_of(vp);

	if (!own->nmi_iret_seen)
		return false;
	if (svm_nmis_are_masked(vp)) {
		own->nmi_step_tf = svm_guest_rflags(vp) & RFLAGS_TF;
		own->nmi_step = true;
		vmcb->intercept_exceptions |= (uint32_t)BIT(VECTOR_DB);
		vmcb->rflags |= RFLAGS_TF;
		return false;
	}
	own->nmi_iret_seen = false;
	own->nmi_masked = false;
	return true;
}

static void deliver_nmi(struct vp *vp, struct vmcb *vmcb)
{
	if (svm_of(vp)->nmi_masked && !nmi_handler_returned(vp, vmcb))
		return; /* the bit stays; IRET, or the step over it, is an exit */
	/* A physical interrupt ends guest mode in a shadow too where there is no NRIPS (QEMU): waiting it out would never end. */
	if (!(svm.features & SVM_FEATURE_NRIPS))
		vmcb->interrupt_shadow = 0;
	if ((vmcb->event_injection & EVENT_VALID) || (vmcb->interrupt_shadow & INTERRUPT_SHADOW)) {
		lp_kick(vp->lp); /* an exit as soon as that is over */
		return;
	}
	vp_clear_pending(vp, VP_PENDING_NMI);
	vmcb->event_injection = EVENT_VALID | EVENT_TYPE_NMI | VECTOR_NMI;
	svm_of(vp)->nmi_masked = true;
	vmcb->intercepts1 |= (uint32_t)INTERCEPT1_IRET;
}

/*
 * QEMU's own emulation (7.2, and 11.1 by its source) keeps the vector that VMRUN delivered as pending until the next exit. Should
 * another of its threads ask this processor's to stop meanwhile, it delivers it once more, wherever the guest is by then. So the exit
 * comes at once: a physical interrupt ends guest mode before the handler's first instruction.
 */
static void exit_when_delivered(struct vp *vp, const struct vmcb *vmcb)
{
	if (unlikely(svm.delivers_twice) &&
	    (vmcb->event_injection & (EVENT_VALID | EVENT_TYPE_MASK)) == (EVENT_VALID | EVENT_TYPE_INTR))
		lp_kick_self(vp->lp);
}

static void inject_interrupt(struct vp *vp, struct vmcb *vmcb, uint8_t vector)
{
	vmcb->event_injection = EVENT_VALID | EVENT_TYPE_INTR | vector;
	exit_when_delivered(vp, vmcb);
}

void svm_requeue_event(struct vp *vp, struct vmcb *vmcb)
{
	uint64_t event = vmcb->exit_int_info;
	uint64_t vector = event & EVENT_VECTOR_MASK;

	/* INT n, INT3 and INTO run again: RIP still points at them. */
	if ((event & EVENT_TYPE_MASK) == EVENT_TYPE_SOFT_INT)
		return;
	if ((event & EVENT_TYPE_MASK) == EVENT_TYPE_EXCEPTION && (vector == 3 || vector == 4))
		return;
	vmcb->event_injection = event;
	exit_when_delivered(vp, vmcb);
}

void svm_deliver_interrupt(struct vp *vp)
{
	struct vmcb *vmcb = vmcb_of(vp);
	struct apic *apic = &vp->apic;
	int vector;

	apic_sync_posted(apic);
	if (unlikely(vmcb->interrupt_shadow & INTERRUPT_SHADOW))
		vp_post_self(vp, VP_PENDING_EVENT); /* the entry by way of pending work keeps it: enter.asm */
	svm_set_v_tpr(vp, vmcb, apic_cr8(apic));
	if (svm_can_inject(vmcb)) {
		if (unlikely(vp->extint_held))
			vp_extint_release(vp); /* if it is still there, it is the next exit */
		if (unlikely(vp->extint_count != 0)) {
			inject_interrupt(vp, vmcb, vp_extint_take(vp)); /* doesn't pass through the model */
		} else if ((vector = apic_next_vector(apic)) >= 0) {
			apic_take(apic, (uint8_t)vector);
			inject_interrupt(vp, vmcb, (uint8_t)vector);
		}
	}
	vector = apic_pending_vector(apic);
	if (unlikely(vp->extint_count || vp->extint_held))
		open_window(vmcb, 15, true);
	else if (vector >= 0 && vector >> 4 > (apic->isr_top >> 4))
		open_window(vmcb, (unsigned int)vector >> 4, false);
	else if (unlikely(vmcb->interrupt_control & V_IRQ))
		close_window(vmcb);
}

/* Translations of the guest's tables and of ours alike: they are cached as one (APM2 15.16.1, 15.25.9). VMRUN does it. */
static void flush(struct vp *vp, struct vmcb *vmcb)
{
	struct svm_vp *own = svm_of(vp);

	flush_taken(vp);
	vmcb->tlb_control = (svm.features & SVM_FEATURE_FLUSH_BY_ASID) && !own->flush_all ? TLB_CONTROL_ASID :
											    TLB_CONTROL_ALL;
	own->flush_all = false;
}

struct vp *svm_handle_pending(struct vp *vp)
{
	uint64_t pending = atomic_load_explicit(&vp->pending, memory_order_acquire);
	struct vmcb *vmcb;

	if (unlikely(pending & VP_PENDING_NEUTRAL)) {
		vp = schedule(vp);
		pending = atomic_load_explicit(&vp->pending, memory_order_acquire);
		/* If it was to enter with an interrupt when it lost the LP, others have taken the kick that went with that. */
		exit_when_delivered(vp, vmcb_of(vp));
	}
	vmcb = vmcb_of(vp);
	if (unlikely(pending & VP_PENDING_FLUSH))
		flush(vp, vmcb);
	if (unlikely(pending & VP_PENDING_NMI))
		deliver_nmi(vp, vmcb);
	if (pending & VP_PENDING_EVENT) {
		vp_clear_pending(vp, VP_PENDING_EVENT);
		svm_deliver_interrupt(vp);
		if (unlikely(vp_was_stopped(vp)))
			return svm_handle_pending(vp);
	}
#ifdef TRIVET_DEBUG
	flush_check(vp);
#endif
	return vp;
}

void svm_handle_vintr(struct vp *vp)
{
	close_window(vmcb_of(vp));
	svm_deliver_interrupt(vp);
}

void svm_handle_iret(struct vp *vp)
{
	struct vmcb *vmcb = vmcb_of(vp);

	if (unlikely(vmcb->interrupt_shadow & INTERRUPT_SHADOW))
		vp_post_self(vp, VP_PENDING_EVENT); /* as in svm_deliver_interrupt() */
	vmcb->intercepts1 &= ~(uint32_t)INTERCEPT1_IRET;
	svm_of(vp)->iret_rip = vmcb->rip;
	svm_of(vp)->nmi_iret_seen = true;
}

void svm_handle_step(struct vp *vp)
{
	struct vmcb *vmcb = vmcb_of(vp);

	if (!svm_of(vp)->nmi_step) {
		begin_debug_exception(vp, vmcb); /* DR6 has the cause (APM2 15.12.2) */
		svm_handle_exception(vp, vmcb, VECTOR_DB);
		return;
	}
	svm_of(vp)->nmi_step = false;
	vmcb->intercept_exceptions = svm_intercepted_exceptions(vp);
	vmcb->dr6 &= ~DR6_BS; /* it was our step's */
}
