/* SPDX-License-Identifier: MIT */
/*
 * The exit path: why guest mode ended, and what to do about it. Runs on the LP's stack with GIF clear; it must not
 * wait. The hot ones are CPUID, local APIC MSRs and interrupts: no lock, no log, no list.
 */
#include "svm.h"
#include <trivet/assert.h>
#include <trivet/decode.h>
#include <trivet/emulate.h>
#include <trivet/exceptions.h>
#include <trivet/guest_walk_fast.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall.h>
#include <trivet/intercepts.h>
#include <trivet/log.h>
#include <trivet/partition.h>

/* CPUID of the back end's own: 80000001.ECX SVM and SKINIT; the leaves of SVM and of memory encryption, whose key bit a
 * guest's page tables can't carry through nested paging. */
#define CPUID_SVM 0x8000000au
#define CPUID_ENCRYPTION 0x8000001fu
#define CPUID_SVM_ECX (BIT(2) | BIT(12))

/* The instruction's end where the processor doesn't tell (no NRIPS), the long way. */
static __attribute__((__noinline__)) uint64_t decode_next_rip(struct vp *vp, unsigned int usual_length)
{
	struct vp_context context;
	struct insn insn;

	/* Code in a ROM isn't readable through the RAM window; firmware uses no prefixes there. */
	if (vp_decode_current(vp, &context, &insn) != 0)
		return context.rip + usual_length;
	return context.rip + insn.length;
}

uint64_t svm_next_rip(struct vp *vp, const struct vmcb *vmcb, unsigned int usual_length)
{
	return svm.features & SVM_FEATURE_NRIPS ? vmcb->next_rip : decode_next_rip(vp, usual_length);
}

/*
 * The same where it is quick: an opcode of one to three bytes without prefixes in 64-bit code of the root, whose page tables can be walked in
 * place. False: decode.
 */
static inline __attribute__((__always_inline__)) bool quick_next_rip(const struct vp *vp,
								     const struct vmcb *vmcb, uint32_t opcode,
								     unsigned int length, uint64_t *rip)
{
	uint64_t bytes;

	if (svm.features & SVM_FEATURE_NRIPS) {
		*rip = vmcb->next_rip;
		return true;
	}
	*rip = vmcb->rip + length;
	return likely(!vp->child) && likely(vmcb->cs.attributes & ATTR_LONG) &&
	       likely(vmcb->efer & EFER_LMA) && likely(!(vmcb->cr4 & CR4_LA57)) &&
	       likely(guest_fetch_fast64(vmcb->cr3, vmcb->rip, &bytes)) &&
	       likely((bytes & (BIT(8 * length) - 1)) == opcode);
}

/* Of an opcode of two bytes. */
static __attribute__((__noinline__)) uint64_t next_rip(struct vp *vp, const struct vmcb *vmcb,
						       uint32_t opcode)
{
	uint64_t rip;

	return quick_next_rip(vp, vmcb, opcode, 2, &rip) ? rip : decode_next_rip(vp, 2);
}

/* A root has no SVM, no memory encryption, and no FRED, whose state nobody switches. */
static void hide_from_root(struct vp *vp, uint32_t leaf, uint32_t subleaf)
{
	if (leaf == CPUID_EXTENDED)
		vp->gpr[GPR_RCX] &= ~CPUID_SVM_ECX;
	else if (leaf == CPUID_SVM || leaf == CPUID_ENCRYPTION)
		vp->gpr[GPR_RAX] = vp->gpr[GPR_RBX] = vp->gpr[GPR_RCX] = vp->gpr[GPR_RDX] = 0;
	else if (leaf == 7 && subleaf == 1)
		vp->gpr[GPR_RAX] &= ~CPUID_7_1_EAX_FRED;
}

/* The leaves that aren't simply the machine's. */
static __attribute__((__noinline__)) void handle_cpuid_slow(struct vp *vp, struct vmcb *vmcb)
{
	uint32_t leaf = (uint32_t)vp->gpr[GPR_RAX], subleaf = (uint32_t)vp->gpr[GPR_RCX];
	uint64_t rip = next_rip(vp, vmcb, INSN_BYTES_CPUID);

	if (unlikely(vp->wanted & VP_WANTED_CPUID) && svm_intercepts_cpuid(vp, vmcb, rip))
		return;
	vp_cpuid(vp, vmcb->cr4);
	if (!vp->child) /* whose own table has said it all */
		hide_from_root(vp, leaf, subleaf);
	svm_complete(vp, vmcb, rip);
}

static __attribute__((__noinline__)) void handle_cpuid(struct vp *vp, struct vmcb *vmcb)
{
	uint32_t leaf = (uint32_t)vp->gpr[GPR_RAX];
	uint64_t rip;

	if (unlikely(vp_cpuid_is_special(leaf)) || unlikely(vp->child != NULL) ||
	    unlikely(!quick_next_rip(vp, vmcb, INSN_BYTES_CPUID, 2, &rip))) {
		handle_cpuid_slow(vp, vmcb);
		return;
	}
	vp_cpuid_native(vp);
	svm_complete(vp, vmcb, rip);
}

static bool write_efer(const struct vp *vp, struct vmcb *vmcb, uint64_t value)
{
	uint64_t changed = value ^ vmcb->efer;

	if (value & ~svm_efer_writable(vp))
		return false;
	if ((changed & EFER_LME) && (vmcb->cr0 & CR0_PG))
		return false;
	/* LMA is the processor's; SVME stays set underneath. */
	vmcb->efer = (value & ~EFER_LMA) | (vmcb->efer & EFER_LMA) | EFER_SVME;
	return true;
}

static bool read_msr(struct vp *vp, struct vmcb *vmcb, uint32_t msr, uint64_t *value)
{
	if (vp->child && msr != MSR_EFER)
		return svm_child_rdmsr(vp, msr, value);
	switch (msr) {
	case MSR_EFER:
		*value = vmcb->efer & ~EFER_SVME;
		return true;
	case MSR_VM_CR:
	case MSR_SMM_CTL:
	case MSR_VM_HSAVE_PA:
	case MSR_SVM_KEY:
		return false;
	default:
		return vp_msr_read(vp, msr, value) == 0;
	}
}

static bool write_msr(struct vp *vp, struct vmcb *vmcb, uint32_t msr, uint64_t value)
{
	if (vp->child && msr != MSR_EFER)
		return svm_child_wrmsr(vp, msr, value);
	switch (msr) {
	case MSR_EFER:
		if (!write_efer(vp, vmcb, value))
			return false;
		vp_post_self(vp, VP_PENDING_FLUSH); /* NXE changes what cached translations mean */
		return true;
	case MSR_VM_CR:
	case MSR_SMM_CTL:
	case MSR_VM_HSAVE_PA:
	case MSR_SVM_KEY:
		return false;
	default:
		vp_post_self(vp, VP_PENDING_EVENT);
		return vp_msr_write(vp, msr, value) == 0;
	}
}

/* Nobody has it, or it doesn't take the value. */
static __attribute__((__noinline__)) void refuse_msr(struct vp *vp, struct vmcb *vmcb, uint32_t msr,
						     bool is_write, uint64_t rip)
{
	if (!vp->wanted || !svm_intercepts_unknown_msr(vp, vmcb, msr, is_write, rip))
		svm_raise_exception(vp, VECTOR_GP, true, 0);
}

static __attribute__((__noinline__)) void handle_msr_slow(struct vp *vp, struct vmcb *vmcb, uint32_t msr,
							  bool is_write)
{
	uint64_t value = vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX];
	uint64_t rip = next_rip(vp, vmcb, is_write ? INSN_BYTES_WRMSR : INSN_BYTES_RDMSR);

	if (is_write ? !write_msr(vp, vmcb, msr, value) : !read_msr(vp, vmcb, msr, &value)) {
		refuse_msr(vp, vmcb, msr, is_write, rip);
		return;
	}
	if (!is_write) {
		vp->gpr[GPR_RAX] = (uint32_t)value;
		vp->gpr[GPR_RDX] = value >> 32;
	}
	svm_complete(vp, vmcb, rip);
}

/* Synthetic ones, of a partition with the interface. */
static __attribute__((__noinline__)) void handle_synthetic_rdmsr(struct vp *vp, struct vmcb *vmcb,
								 uint32_t msr)
{
	uint64_t rip = next_rip(vp, vmcb, INSN_BYTES_RDMSR);
	uint64_t value;

	trace_info(&vp->lp->trace, msr);
	if (unlikely(hv_msr_read(vp, msr, &value))) {
		hv_msr_note_refusal(vp, false, msr, 0);
		refuse_msr(vp, vmcb, msr, false, rip);
		return;
	}
	vp->gpr[GPR_RAX] = (uint32_t)value;
	vp->gpr[GPR_RDX] = value >> 32;
	svm_complete(vp, vmcb, rip);
}

static __attribute__((__noinline__)) void handle_synthetic_wrmsr(struct vp *vp, struct vmcb *vmcb,
								 uint32_t msr)
{
	uint64_t rip = next_rip(vp, vmcb, INSN_BYTES_WRMSR);
	uint64_t value = vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX];

	trace_info(&vp->lp->trace, msr);
	if (unlikely(hv_msr_write(vp, msr, value))) {
		hv_msr_note_refusal(vp, true, msr, value);
		refuse_msr(vp, vmcb, msr, true, rip);
		return;
	}
	svm_complete(vp, vmcb, rip);
}

static __attribute__((__noinline__)) void handle_msr(struct vp *vp, struct vmcb *vmcb)
{
	uint32_t msr = (uint32_t)vp->gpr[GPR_RCX];
	bool is_write = vmcb->exit_info1 & 1;
	struct apic *apic = &vp->apic;

	trace_info(&vp->lp->trace, msr);
	/* EOI and ICR of a VP in x2APIC mode, when the value is in order. */
	if (likely(is_write) && likely(apic->x2)) {
		if (msr == APIC_MSR_EOI && (uint32_t)vp->gpr[GPR_RAX] == 0 &&
		    (uint32_t)vp->gpr[GPR_RDX] == 0) {
			apic_eoi(apic);
			if (apic_pending_vector(apic) >= 0)
				vp_post_self(vp, VP_PENDING_EVENT);
			svm_complete(vp, vmcb, next_rip(vp, vmcb, INSN_BYTES_WRMSR));
			return;
		}
		if (msr == APIC_MSR_ICR &&
		    apic_icr_write(apic, vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX]) == 0) {
			if (apic_pending_vector(apic) >= 0)
				vp_post_self(vp, VP_PENDING_EVENT);
			svm_complete(vp, vmcb, next_rip(vp, vmcb, INSN_BYTES_WRMSR));
			return;
		}
	}
	handle_msr_slow(vp, vmcb, msr, is_write);
}

static inline bool is_synthetic(const struct vp *vp, uint32_t msr)
{
	return hv_msr_is_synthetic(msr) && vp->partition->hv;
}

/* The parent wants to see some. */
static __attribute__((__noinline__)) void handle_wanted_msr(struct vp *vp, struct vmcb *vmcb, uint32_t msr)
{
	bool is_write = vmcb->exit_info1 & 1;

	if (svm_intercepts_msr(vp, vmcb, msr, is_write))
		return;
	if (!is_synthetic(vp, msr))
		handle_msr(vp, vmcb);
	else if (is_write)
		handle_synthetic_wrmsr(vp, vmcb, msr);
	else
		handle_synthetic_rdmsr(vp, vmcb, msr);
}

/* The usual case first: 64-bit code implies that it is protected and not virtual-8086. */
static inline enum hypercall_mode hypercall_mode(const struct vmcb *vmcb)
{
	if (unlikely(vmcb->cpl != 0))
		return HYPERCALL_UD;
	if (likely(vmcb->cs.attributes & ATTR_LONG) && likely(vmcb->efer & EFER_LMA))
		return HYPERCALL_64;
	return (vmcb->cr0 & CR0_PE) && !(vmcb->rflags & RFLAGS_VM) ? HYPERCALL_32 : HYPERCALL_UD;
}

static __attribute__((__noinline__)) void fault_hypercall(struct vp *vp, enum hypercall_result result)
{
	if (result == HYPERCALL_FAULT_UD)
		svm_raise_exception(vp, VECTOR_UD, false, 0);
	else if (result == HYPERCALL_FAULT_GP)
		svm_raise_exception(vp, VECTOR_GP, true, 0);
}

static __attribute__((__noinline__)) void handle_hypercall(struct vp *vp, struct vmcb *vmcb)
{
	enum hypercall_result result;
	uint64_t rip;

	/* Before the call, which may write where the instruction is. */
	if (unlikely(!quick_next_rip(vp, vmcb, INSN_BYTES_VMMCALL, 3, &rip)))
		rip = decode_next_rip(vp, 3);
	result = hypercall_dispatch(vp, hypercall_mode(vmcb));
	if (likely(result == HYPERCALL_DONE))
		svm_complete(vp, vmcb, rip);
	else
		fault_hypercall(vp, result);
}

static void handle_io(struct vp *vp, struct vmcb *vmcb)
{
	uint64_t info = vmcb->exit_info1;
	uint16_t port = (uint16_t)(info >> 16);
	unsigned int size = (info >> IOIO_SIZE_SHIFT) & 7;

	trace_info(&vp->lp->trace, port);
	if (vp->child) {
		svm_handle_child_exit(vp, vmcb);
		return;
	}
	if (root_takes_port(port))
		return; /* the root drives it from now on: run the instruction again */
	if (info & IOIO_STRING) {
		static struct log_ratelimit bucket;

		log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index,
				   "string I/O to the hypervisor's port 0x%x: #GP", port);
		svm_raise_exception(vp, VECTOR_GP, true, 0);
		return;
	}
	if (info & IOIO_IN) {
		uint64_t value = 0;

		for (unsigned int i = 0; i < size; i++)
			value |= (uint64_t)root_hidden_port_read((uint16_t)(port + i)) << (8 * i);
		insn_write_reg(vp->gpr, GPR_RAX, size, value);
	}
	svm_complete(vp, vmcb, vmcb->exit_info2);
}

/* MOV to CR8, intercepted only while a window is open. */
static void handle_cr8_write(struct vp *vp, struct vmcb *vmcb)
{
	struct vp_context context;
	struct insn insn;
	uint64_t value;

	if (vp_decode_current(vp, &context, &insn) != 0 || insn.op != INSN_MOV_TO_CR) {
		vmcb->intercept_cr_write =
			0; /* not in RAM, or changed under us: the processor runs what is there */
		return;
	}
	value = vp->gpr[insn.src_reg & 15];
	if (value > 15) {
		svm_raise_exception(vp, VECTOR_GP, true, 0);
		return;
	}
	svm_set_v_tpr(vp, vmcb, (uint8_t)value);
	apic_set_tpr(&vp->apic, (uint8_t)(value << 4));
	vp_post_self(vp, VP_PENDING_EVENT);
	svm_complete(vp, vmcb, context.rip + insn.length);
}

static void handle_npf(struct vp *vp, struct vmcb *vmcb)
{
	uint64_t info = vmcb->exit_info1;

	trace_info(&vp->lp->trace, vmcb->exit_info2);
	if (vp->child)
		svm_handle_child_exit(vp, vmcb);
	else if (root_second_stage_fault(vp, GPA(vmcb->exit_info2), info & NPF_FETCH, info & NPF_WALK) ==
		 FAULT_REFUSED)
		svm_raise_exception(vp, VECTOR_GP, true, 0);
}

static void hold_extint(struct vp *vp, struct vp *root)
{
	if (vp == root) {
		if (!svm_can_inject(vmcb_of(vp)))
			vp_extint_hold(root);
	} else if (!root->extint_held) {
		vp_extint_hold(root);
		vp_post_self(root, VP_PENDING_EVENT);
		vp_wake_here(root);
	}
}

static __attribute__((__noinline__)) void handle_interrupt(struct vp *vp)
{
	struct vp *root = vp->lp->root_vp;

	/* An 8259's vector is taken when the root can have it, not before: it may reprogram the 8259 meanwhile. */
	if (unlikely(vp_extint_wired(root)))
		hold_extint(vp, root);
	svm_open_window();
	if (lp_handle_interrupts(vp->lp))
		svm_deliver_interrupt(vp);
	else if (unlikely(vp->extint_held) || unlikely(vmcb_of(vp)->interrupt_shadow & INTERRUPT_SHADOW))
		svm_deliver_interrupt(vp);
}

/*
 * A processor halted with interrupts off sleeps on through the hypervisor's own interrupts, as it would without us; an exit from a
 * native HLT could not be undone, it has RIP behind the HLT already.
 */
static void handle_hlt(struct vp *vp, struct vmcb *vmcb)
{
	struct svm_vp *own = svm_of(vp);
	uint64_t rip;

	if (unlikely(!quick_next_rip(vp, vmcb, INSN_BYTES_HLT, 1, &rip)))
		rip = decode_next_rip(vp, 1);
	if (svm_complete(vp, vmcb, rip))
		return; /* the single-step trap behind the HLT */
	if (own->nmi_iret_seen)
		own->nmi_iret_seen = own->nmi_masked = false; /* the handler is behind us */
	vp_halt(vp, vmcb->rflags & RFLAGS_IF, !own->nmi_masked);
}

static void handle_unexpected(struct vp *vp, struct vmcb *vmcb)
{
	if (vp->child) {
		svm_handle_child_exit(vp, vmcb);
		return;
	}
	panic("p%llu/vp%u: unexpected #VMEXIT 0x%llx (info 0x%llx 0x%llx) at rip 0x%llx",
	      (unsigned long long)vp->partition->id, vp->index, (unsigned long long)vmcb->exit_code,
	      (unsigned long long)vmcb->exit_info1, (unsigned long long)vmcb->exit_info2,
	      (unsigned long long)vmcb->rip);
}

static __attribute__((__noinline__)) void handle_rare(struct vp *vp, struct vmcb *vmcb)
{
	switch (vmcb->exit_code) {
	case SVM_EXIT_VINTR:
		svm_handle_vintr(vp);
		return;
	case SVM_EXIT_NPF:
		handle_npf(vp, vmcb);
		return;
	case SVM_EXIT_CR8_WRITE:
		handle_cr8_write(vp, vmcb);
		return;
	case SVM_EXIT_NMI:
		handle_interrupt(vp);
		return;
	case SVM_EXIT_HLT:
		handle_hlt(vp, vmcb);
		return;
	case SVM_EXIT_IRET:
		svm_handle_iret(vp);
		return;
	case SVM_EXIT_EXCEPTION_DB:
		svm_handle_step(vp);
		return;
	case SVM_EXIT_IOIO:
		handle_io(vp, vmcb);
		return;
	case SVM_EXIT_INVLPGA:
	case SVM_EXIT_VMRUN:
	case SVM_EXIT_VMLOAD:
	case SVM_EXIT_VMSAVE:
	case SVM_EXIT_STGI:
	case SVM_EXIT_CLGI:
	case SVM_EXIT_SKINIT:
		svm_raise_exception(vp, VECTOR_UD, false, 0);
		return;
	case SVM_EXIT_SHUTDOWN:
		vp_post_self(vp, VP_PENDING_SHUTDOWN);
		return;
	default:
		handle_unexpected(vp, vmcb);
	}
}

static inline void dispatch_others(struct vp *vp, struct vmcb *vmcb, uint64_t code)
{
	uint32_t msr = (uint32_t)vp->gpr[GPR_RCX];

	if (code == SVM_EXIT_MSR && unlikely(vp->wanted & VP_WANTED_MSR))
		handle_wanted_msr(vp, vmcb, msr);
	else if (code == SVM_EXIT_MSR && is_synthetic(vp, msr) && (vmcb->exit_info1 & 1))
		handle_synthetic_wrmsr(vp, vmcb, msr);
	else if (code == SVM_EXIT_MSR && is_synthetic(vp, msr))
		handle_synthetic_rdmsr(vp, vmcb, msr);
	else if (code == SVM_EXIT_MSR)
		handle_msr(vp, vmcb);
	else if (code == SVM_EXIT_INTR)
		handle_interrupt(vp);
	else if (code == SVM_EXIT_VMMCALL)
		handle_hypercall(vp, vmcb);
	else
		handle_rare(vp, vmcb);
}

static __attribute__((__noinline__)) void handle_broken_delivery(struct vp *vp, struct vmcb *vmcb,
								 uint64_t code)
{
	svm_requeue_event(vp, vmcb);
	dispatch_others(vp, vmcb, code);
}

static inline void dispatch(struct vp *vp, struct vmcb *vmcb, uint64_t code)
{
	if (code == SVM_EXIT_CPUID)
		handle_cpuid(vp, vmcb);
	/* The exit broke into the delivery of an event (APM2 15.7.2); that of an instruction never does. */
	else if (unlikely(vmcb->exit_int_info & EVENT_VALID))
		handle_broken_delivery(vp, vmcb, code);
	else
		dispatch_others(vp, vmcb, code);
}

static __attribute__((__noinline__)) void handle_new_tpr(struct vp *vp, struct vmcb *vmcb, uint64_t code)
{
	svm_of(vp)->v_tpr = (uint8_t)vmcb->interrupt_control;
	apic_set_tpr(&vp->apic, (uint8_t)((vmcb->interrupt_control & 0xf) << 4));
	dispatch(vp, vmcb, code);
}

/* Each handler is a tail call, so that registers are saved only where they are needed. */
void svm_handle_exit(struct vp *vp, struct vmcb *vmcb)
{
	uint64_t code = vmcb->exit_code;

	trace_exit(&vp->lp->trace, (uint32_t)code, vmcb->rip, vmcb->exit_info1);
	vp->exit_counts[code & 0xff]++;
	vmcb->tlb_control = TLB_CONTROL_NONE;
	vmcb->event_injection = 0;
	/* CR8 goes to V_TPR without an exit. */
	if (unlikely((uint8_t)vmcb->interrupt_control != svm_of(vp)->v_tpr))
		handle_new_tpr(vp, vmcb, code);
	else
		dispatch(vp, vmcb, code);
}
