/* SPDX-License-Identifier: MIT */
/*
 * Exits of children's VPs: what the parent has to answer goes to core/intercept.c in neutral form, the rest is the architecture's answer of
 * a processor that has no such thing. Whatever a child does, or its parent sets, is no reason for a panic.
 */
#include "exit.h"
#include "switch.h"
#include <trivet/assert.h>
#include <trivet/exceptions.h>
#include <trivet/hv_msr.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>

/* Of the exit qualification for #DB, SDM3 table 28-1: these two are clear in DR6 when they happened. */
#define DB_ACTIVE_LOW (BIT(16) | DR6_BLD)
#define DB_STICKY (BIT(13) | DR6_BS)

/* ---- For the parent ---- */

static void handle_io(struct vp *vp)
{
	uint64_t info = vmread(VMCS_EXIT_QUALIFICATION);
	const struct io_exit exit = {
		.port = (uint16_t)(info >> IO_PORT_SHIFT),
		.bytes = (uint8_t)((info & IO_SIZE_MASK) + 1),
		.length = (uint8_t)vmread(VMCS_EXIT_INSTRUCTION_LENGTH),
		.in = info & IO_IN,
		.string = info & IO_STRING,
		.rep = info & IO_REP,
	};

	trace_info(&vp->lp->trace, exit.port);
	intercept_io(vp, &exit);
}

static void handle_ept_violation(struct vp *vp)
{
	uint64_t info = vmread(VMCS_EXIT_QUALIFICATION);
	bool is_delivery = vmread(VMCS_VECTORING_EVENT) & EVENT_VALID;
	const struct memory_exit exit = {
		.gpa = GPA(vmread(VMCS_GUEST_PHYSICAL_ADDRESS)),
		.gva = GVA(vmread(VMCS_GUEST_LINEAR_ADDRESS)),
		.gva_valid = info & EPT_VIOLATION_LINEAR,
		.is_write = info & EPT_VIOLATION_WRITE,
		.is_fetch = info & EPT_VIOLATION_FETCH,
		.is_walk =
			is_delivery || ((info & EPT_VIOLATION_LINEAR) && !(info & EPT_VIOLATION_TRANSLATED)),
	};

	trace_info(&vp->lp->trace, exit.gpa.v);
	/* An IRET that faults has unblocked NMIs already, but is to be run again (SDM3 28.2.3). */
	if (unlikely(info & EPT_VIOLATION_IRET_UNBLOCKED_NMI) && !is_delivery)
		vmwrite(VMCS_GUEST_INTERRUPTIBILITY, vmread(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_NMI);
	if (intercept_memory(vp, &exit) == FAULT_REFUSED)
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
}

/* The entry may have failed as a resumption or as a launch: the next is a launch in any case. */
void vmx_child_entry_failed(struct vp *vp, const char *what)
{
	static struct log_ratelimit bucket;
	char why[160] = "no rule of the manual is broken";

	(void)vmx_check(&vmx, why, sizeof(why));
	log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index, "can't be entered: %s: %s", what,
			   why);
	vmx_of(vp)->event = (uint32_t)vmread(VMCS_ENTRY_EVENT); /* it still stands there */
	vmx_relaunch(vp);
	intercept_unrecoverable(vp);
}

static void handle_entry_failure(struct vp *vp, uint32_t reason)
{
	if ((reason & VMX_EXIT_REASON_MASK) == VMX_EXIT_MACHINE_CHECK)
		panic("p%llu/vp%u: machine check at VM entry", (unsigned long long)vp->partition->id,
		      vp->index);
	vmx_child_entry_failed(vp, vmx_exit_name(reason));
}

/* ---- Exceptions ---- */

/* What the processor does with a #DB that it delivers itself, and neither with the exit nor with the injection (SDM3 28.1, 27.6.1). */
static void note_debug_exception(struct vp *vp)
{
	uint64_t cause = vmread(VMCS_EXIT_QUALIFICATION);
	uint64_t dr6 = vmx_dr6(vp) & ~DR6_BREAKPOINTS;

	dr6 |= (cause & (DR6_BREAKPOINTS | DB_STICKY)) | DB_ACTIVE_LOW;
	vmx_set_dr6(vp, dr6 & ~(cause & DB_ACTIVE_LOW));
	vmx_begin_debug_exception();
	/* The entry insists on it where single steps are held up (SDM3 27.3.1.5), as behind MOV SS with a breakpoint. */
	if ((vmread(VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKING_STI | BLOCKING_MOV_SS)) &&
	    (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF) && !(vmread(VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF))
		vmwrite(VMCS_GUEST_PENDING_DEBUG, vmread(VMCS_GUEST_PENDING_DEBUG) | DR6_BS);
}

static void reflect(struct vp *vp, uint32_t event)
{
	uint8_t vector = event & EVENT_VECTOR_MASK;
	bool is_int1 = (event & EVENT_TYPE_MASK) == EVENT_TYPE_PRIVILEGED;

	if (vector == VECTOR_DB)
		note_debug_exception(vp);
	/* A fault of IRET's came when it had unblocked NMIs; the handler will run it again (SDM3 28.2.3). */
	if ((event & EVENT_IRET_UNBLOCKED_NMI) && !(vmread(VMCS_VECTORING_EVENT) & EVENT_VALID))
		vmwrite(VMCS_GUEST_INTERRUPTIBILITY, vmread(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_NMI);
	if (is_int1) { /* RIP points at it */
		vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, vmread(VMCS_EXIT_INSTRUCTION_LENGTH));
		vmx_of(vp)->event = (uint32_t)(EVENT_VALID | EVENT_TYPE_PRIVILEGED | VECTOR_DB);
		vmwrite(VMCS_ENTRY_EVENT, vmx_of(vp)->event);
		return;
	}
	vmx_reflect_exception(vp, event);
}

static void handle_exception(struct vp *vp)
{
	uint32_t event = (uint32_t)vmread(VMCS_EXIT_EVENT);

	if ((event & EVENT_TYPE_MASK) == EVENT_TYPE_NMI)
		vmx_handle_nmi(vp);
	else if ((event & EVENT_VECTOR_MASK) == VECTOR_MC)
		panic("p%llu/vp%u: machine check", (unsigned long long)vp->partition->id, vp->index);
	else
		reflect(vp, event); /* or its parent sees it */
}

/* ---- Interrupts: devices' are the root's ---- */

/* Lets in through the window what is pending at the physical APIC. */
static void let_interrupts_in(struct vp *vp)
{
	struct vp *root = vp->lp->root_vp;

	/* An 8259's vector is taken when the root can have it. */
	if (unlikely(vp_extint_wired(root)) && !root->extint_held) {
		vp_extint_hold(root);
		vp_post_self(root, VP_PENDING_EVENT);
		vp_wake_here(root);
	}
	vmx_open_window();
	if (lp_handle_interrupts(vp->lp))
		vmx_deliver_interrupt(vp);
}

static void handle_interrupt(struct vp *vp)
{
	if (unlikely(!vmx_of(vp)->acknowledges))
		let_interrupts_in(vp);
	else if (lp_handle_vector(vp->lp, (uint8_t)vmread(VMCS_EXIT_EVENT)))
		vmx_deliver_interrupt(vp);
}

/* ---- Answered here ---- */

static void handle_cpuid(struct vp *vp, uint64_t rip)
{
	uint32_t leaf = (uint32_t)vp->gpr[GPR_RAX], hidden_edx = 0;

	if (leaf == CPUID_EXTENDED && !vmx_in_64bit_code())
		hidden_edx = CPUID_EXTENDED_EDX_SYSCALL;
	if (unlikely(vp->wanted & VP_WANTED_CPUID) && vmx_intercepts_cpuid(vp, hidden_edx))
		return;
	vp_cpuid(vp, vmx_guest_cr4(vp));
	vp->gpr[GPR_RDX] &= ~(uint64_t)hidden_edx;
	vmx_complete(vp, vmx_next_rip(rip));
}

static void handle_rdmsr(struct vp *vp, uint64_t rip)
{
	uint32_t msr = (uint32_t)vp->gpr[GPR_RCX];
	uint64_t value;

	if (unlikely(vp->wanted & VP_WANTED_MSR) && vmx_intercepts_msr(vp, msr, false))
		return;
	if (hv_msr_is_synthetic(msr) && vp->partition->hv) {
		vmx_handle_synthetic_rdmsr(vp, rip, msr);
		return;
	}
	trace_info(&vp->lp->trace, msr);
	if (vmx_get_msr(vp, msr, &value)) {
		vmx_refuse_msr(vp, msr, false);
		return;
	}
	vp->gpr[GPR_RAX] = (uint32_t)value;
	vp->gpr[GPR_RDX] = value >> 32;
	vmx_complete(vp, vmx_next_rip(rip));
}

static bool write_msr(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (unlikely(vp->wanted & VP_WANTED_MSR) && !vmx_child_msr_exits(msr, true))
		return vmx_write_passed_msr(vp, msr, value);
	return vmx_set_msr(vp, msr, value) == 0;
}

static void handle_wrmsr(struct vp *vp, uint64_t rip)
{
	uint32_t msr = (uint32_t)vp->gpr[GPR_RCX];
	uint64_t value = vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX];

	if (unlikely(vp->wanted & VP_WANTED_MSR) && vmx_intercepts_msr(vp, msr, true))
		return;
	if (hv_msr_is_synthetic(msr) && vp->partition->hv) {
		vmx_handle_synthetic_wrmsr(vp, rip, msr);
		return;
	}
	trace_info(&vp->lp->trace, msr);
	if (vp->apic.x2 && vmx_write_x2apic(vp, msr, rip))
		return;
	if (!write_msr(vp, msr, value)) {
		vmx_refuse_msr(vp, msr, true);
		return;
	}
	vmx_complete(vp, vmx_next_rip(rip));
}

static void handle_xsetbv(struct vp *vp, uint64_t rip)
{
	uint64_t value = vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX];

	if ((uint32_t)vp->gpr[GPR_RCX] || !(value & XCR0_X87) ||
	    (value & ~vp->partition->cpuid.xsave_states) || !safe_xsetbv(0, value)) {
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
		return;
	}
	vmx_complete(vp, vmx_next_rip(rip));
}

/* From now on they are switched with the VP, and it has them to itself. The instruction runs again. */
static void handle_debug_register(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);

	own->proc &= ~(uint32_t)PROC_MOV_DR;
	vmwrite(VMCS_PROC_CONTROLS, own->proc);
	schedule_use_debug_registers(vp);
}

static void handle_unknown(struct vp *vp, uint32_t reason)
{
	static struct log_ratelimit bucket;

	log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index,
			   "rip 0x%llx: VM exit %u, %s (qualification 0x%llx, gpa 0x%llx)",
			   (unsigned long long)vmread(VMCS_GUEST_RIP), reason, vmx_exit_name(reason),
			   (unsigned long long)vmread(VMCS_EXIT_QUALIFICATION),
			   (unsigned long long)vmread(VMCS_GUEST_PHYSICAL_ADDRESS));
	/* An instruction that came after us; or else nothing that could go on. */
	if (reason > VMX_EXIT_LAST_KNOWN)
		vmx_raise_exception(vp, VECTOR_UD, false, 0);
	else
		intercept_unrecoverable(vp);
}

/* ---- Dispatch ---- */

static void handle_event(struct vp *vp, uint32_t reason)
{
	switch (reason) {
	case VMX_EXIT_EXCEPTION:
		handle_exception(vp);
		return;
	case VMX_EXIT_TRIPLE_FAULT:
		intercept_unrecoverable(vp);
		return;
	case VMX_EXIT_INIT: /* of the processor */
		vp_send_init(vp->lp->root_vp);
		return;
	case VMX_EXIT_INTERRUPT_WINDOW:
		vmx_handle_interrupt_window(vp);
		return;
	case VMX_EXIT_NMI_WINDOW:
		vmx_handle_nmi_window(vp);
		return;
	case VMX_EXIT_TPR_BELOW:
		vmx_deliver_interrupt(vp);
		return;
	case VMX_EXIT_PREEMPTION_TIMER:
		vmwrite(VMCS_PREEMPTION_TIMER, vmx.preemption_ticks);
		let_interrupts_in(vp);
		return;
	default:
		handle_unknown(vp, reason);
	}
}

static void handle_instruction(struct vp *vp, uint32_t reason, uint64_t rip)
{
	switch (reason) {
	case VMX_EXIT_CPUID:
		handle_cpuid(vp, rip);
		return;
	case VMX_EXIT_HLT:
		vmx_handle_hlt(vp, rip);
		return;
	case VMX_EXIT_INVD:
	case VMX_EXIT_WBINVD: /* caches are coherent, and no device is the child's own */
		vmx_complete(vp, vmx_next_rip(rip));
		return;
	case VMX_EXIT_RDPMC:
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
		return;
	case VMX_EXIT_VMCALL:
		vmx_handle_hypercall(vp, rip);
		return;
	case VMX_EXIT_CR:
		vmx_handle_cr(vp);
		return;
	case VMX_EXIT_DR:
		handle_debug_register(vp);
		return;
	case VMX_EXIT_IO:
		handle_io(vp);
		return;
	case VMX_EXIT_RDMSR:
		handle_rdmsr(vp, rip);
		return;
	case VMX_EXIT_WRMSR:
		handle_wrmsr(vp, rip);
		return;
	case VMX_EXIT_XSETBV:
		handle_xsetbv(vp, rip);
		return;
	case VMX_EXIT_EPT_VIOLATION:
		handle_ept_violation(vp);
		return;
	case VMX_EXIT_APIC_ACCESS:
		vmx_handle_apic_access(vp);
		return;
	case VMX_EXIT_MWAIT:
	case VMX_EXIT_MONITOR:
	case VMX_EXIT_ENCLS:
	case VMX_EXIT_XSAVES:
	case VMX_EXIT_XRSTORS:
	case VMX_EXIT_UMWAIT:
	case VMX_EXIT_TPAUSE:
		vmx_raise_exception(vp, VECTOR_UD, false, 0);
		return;
	default:
		if (vmx_is_vmx_instruction(reason))
			vmx_raise_exception(vp, VECTOR_UD, false, 0);
		else
			handle_event(vp, reason);
	}
}

/* The exit may have broken into the delivery of an event; and reads of guest memory that fail leave a CR2 of ours. */
static void handle_other(struct vp *vp, uint32_t reason, uint64_t rip)
{
	uint32_t vectoring = (uint32_t)vmread(VMCS_VECTORING_EVENT);
	uint64_t before, after;

	if (reason == VMX_EXIT_TASK_SWITCH) {
		vmx_handle_task_switch(vp); /* uses the event up, and a page fault of its own sets CR2 */
		return;
	}
	if (vectoring & EVENT_VALID)
		vmx_requeue_event(vp, vectoring);
	vmx_of(vp)->cr2_set = false;
	before = read_cr2();
	handle_instruction(vp, reason, rip);
	after = read_cr2();
	if (unlikely(before != after) && !vmx_of(vp)->cr2_set)
		write_cr2(before);
}

void vmx_handle_child_exit(struct vp *vp)
{
	uint32_t reason =
		(uint32_t)vmread(VMCS_EXIT_REASON) & (uint32_t)(VMX_EXIT_ENTRY_FAILED | VMX_EXIT_REASON_MASK);
	uint64_t rip = vmread(VMCS_GUEST_RIP);
	uint8_t tpr = (uint8_t)vp->apic_page->reg[APIC_REG_TPR >> 4].value;

	trace_exit(&vp->lp->trace, reason, rip, 0);
	vp->exit_counts[reason & 0xff]++;
	vmx_of(vp)->event = 0;
	/* CR8 goes to the APIC page without an exit. */
	if (unlikely(tpr != vp->apic.tpr))
		apic_set_tpr(&vp->apic, tpr);
	if (unlikely(reason & VMX_EXIT_ENTRY_FAILED))
		handle_entry_failure(vp, reason);
	else if (likely(reason == VMX_EXIT_INTR))
		handle_interrupt(vp);
	else
		handle_other(vp, reason, rip);
}
