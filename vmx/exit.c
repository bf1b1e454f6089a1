/* SPDX-License-Identifier: MIT */
/*
 * The exit path: why guest mode ended, and what to do about it. Runs on the LP's stack with interrupts off; it must not
 * wait. The hot ones are CPUID, local APIC MSRs and interrupts: no lock, no log, no list, and few VMREADs.
 */
#include "exit.h"
#include "mtrr.h"
#include <trivet/assert.h>
#include <trivet/emulate.h>
#include <trivet/exceptions.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>

/* CPUID of the back end's own: 1.ECX VMX and SMX. */
#define CPUID_FEATURES 1u
#define CPUID_VMX_ECX (BIT(5) | BIT(6))

/* The leaves that aren't simply the machine's. */
static __attribute__((__noinline__)) void handle_cpuid_slow(struct vp *vp, uint64_t rip)
{
	uint32_t leaf = (uint32_t)vp->gpr[GPR_RAX];
	uint32_t subleaf = (uint32_t)vp->gpr[GPR_RCX];

	vp_cpuid(vp, vmx_guest_cr4(vp));
	vmx_hide_hazards(vp, leaf, subleaf);
	if (leaf == CPUID_FEATURES)
		vp->gpr[GPR_RCX] &= ~CPUID_VMX_ECX;
	else if (leaf == CPUID_EXTENDED && !vmx_in_64bit_code())
		vp->gpr[GPR_RDX] &= ~CPUID_EXTENDED_EDX_SYSCALL;
	vmx_complete(vp, vmx_next_rip(rip));
}

static __attribute__((__noinline__)) void handle_cpuid(struct vp *vp, uint64_t rip)
{
	uint32_t leaf = (uint32_t)vp->gpr[GPR_RAX];

	if (unlikely(vp_cpuid_is_special(leaf))) {
		handle_cpuid_slow(vp, rip);
		return;
	}
	vp_cpuid_native(vp);
	vmx_complete(vp, vmx_next_rip(rip));
}

/* VMX exists for nobody: locked off, as firmware would do it. */
static uint64_t feature_control(void)
{
	const uint64_t hidden = FEATURE_CONTROL_VMX_IN_SMX | FEATURE_CONTROL_VMX | FEATURE_CONTROL_SENTER;

	return (rdmsr(MSR_FEATURE_CONTROL) & ~hidden) | FEATURE_CONTROL_LOCK;
}

static bool is_own_msr(uint32_t msr)
{
	return msr == MSR_FEATURE_CONTROL || (msr >= MSR_VMX_FIRST && msr <= MSR_VMX_LAST) ||
	       vmx_msr_is_refused(msr);
}

/* These look at what is in service and the like; the timer's don't. */
static bool uses_apic_page(uint32_t msr, bool is_write)
{
	return (msr >= APIC_MSR_X2_FIRST && msr <= APIC_MSR_X2_LAST) || (msr == MSR_APIC_BASE && is_write);
}

static bool read_msr(struct vp *vp, uint32_t msr, uint64_t *value)
{
	if (msr == MSR_FEATURE_CONTROL) {
		*value = feature_control();
		return true;
	}
	return !is_own_msr(msr) && vp_msr_read(vp, msr, value) == 0;
}

static bool write_msr(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (is_own_msr(msr))
		return false;
	if (msr == MSR_BIOS_UPDT_TRIG)
		return vmx_microcode_write(vp, value);
	if (vmx_is_mtrr(msr))
		return vmx_mtrr_write(vp, msr, value);
	if (vmx_msr_write_is_checked(msr))
		return vmx_checked_msr_write(msr, value);
	vp_post_self(vp, VP_PENDING_EVENT);
	return vp_msr_write(vp, msr, value) == 0;
}

static __attribute__((__noinline__)) void handle_msr_slow(struct vp *vp, uint32_t msr, bool is_write)
{
	uint64_t value = vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX];

	if (uses_apic_page(msr, is_write))
		vmx_know_apic(vp);
	if (is_write ? !write_msr(vp, msr, value) : !read_msr(vp, msr, &value)) {
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
		return;
	}
	if (!is_write) {
		vp->gpr[GPR_RAX] = (uint32_t)value;
		vp->gpr[GPR_RDX] = value >> 32;
	}
	vmx_complete(vp, vmx_next_rip(vmread(VMCS_GUEST_RIP)));
}

/* Synthetic ones, of a partition with the interface. */
__attribute__((__noinline__)) void vmx_handle_synthetic_rdmsr(struct vp *vp, uint64_t rip, uint32_t msr)
{
	uint64_t value;

	trace_info(&vp->lp->trace, msr);
	vmx_know_apic(vp);
	if (unlikely(hv_msr_read(vp, msr, &value))) {
		hv_msr_note_refusal(vp, false, msr, 0);
		vmx_refuse_msr(vp, msr, false);
		return;
	}
	vp->gpr[GPR_RAX] = (uint32_t)value;
	vp->gpr[GPR_RDX] = value >> 32;
	vmx_complete(vp, vmx_next_rip(rip));
}

__attribute__((__noinline__)) void vmx_handle_synthetic_wrmsr(struct vp *vp, uint64_t rip, uint32_t msr)
{
	uint64_t value = vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX];

	trace_info(&vp->lp->trace, msr);
	if (!stimer_owns_msr(msr)) /* these don't look at what is in service and the like */
		vmx_know_apic(vp);
	if (unlikely(hv_msr_write(vp, msr, value))) {
		hv_msr_note_refusal(vp, true, msr, value);
		vmx_refuse_msr(vp, msr, true);
		return;
	}
	vmx_complete(vp, vmx_next_rip(rip));
}

static __attribute__((__noinline__)) void handle_wrmsr(struct vp *vp, uint64_t rip)
{
	uint32_t msr = (uint32_t)vp->gpr[GPR_RCX];

	trace_info(&vp->lp->trace, msr);
	if (likely(vp->apic.x2) && vmx_write_x2apic(vp, msr, rip))
		return;
	handle_msr_slow(vp, msr, true);
}

static __attribute__((__noinline__)) void handle_rdmsr(struct vp *vp)
{
	uint32_t msr = (uint32_t)vp->gpr[GPR_RCX];

	trace_info(&vp->lp->trace, msr);
	handle_msr_slow(vp, msr, false);
}

/* The usual case first: 64-bit code implies that it is protected and not virtual-8086. */
static inline enum hypercall_mode hypercall_mode(void)
{
	if (unlikely(vmread(VMCS_GUEST_SS_RIGHTS) & 3u << RIGHTS_DPL_SHIFT))
		return HYPERCALL_UD;
	if (likely(vmx_in_64bit_code()))
		return HYPERCALL_64;
	return (vmread(VMCS_GUEST_CR0) & CR0_PE) && !(vmread(VMCS_GUEST_RFLAGS) & RFLAGS_VM) ? HYPERCALL_32 :
											       HYPERCALL_UD;
}

static __attribute__((__noinline__)) void fault_hypercall(struct vp *vp, enum hypercall_result result)
{
	if (result == HYPERCALL_FAULT_UD)
		vmx_raise_exception(vp, VECTOR_UD, false, 0);
	else if (result == HYPERCALL_FAULT_GP)
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
}

__attribute__((__noinline__)) void vmx_handle_hypercall(struct vp *vp, uint64_t rip)
{
	enum hypercall_result result = HYPERCALL_FAULT_UD;
	uint64_t before, after;

	vmx_of(vp)->cr2_set = false;
	before = read_cr2();
	if (likely(vp->partition->hv))
		result = hypercall_dispatch(vp, hypercall_mode());
	after = read_cr2();
	/* Parameters that aren't there leave a CR2 of ours. */
	if (unlikely(before != after) && !vmx_of(vp)->cr2_set)
		write_cr2(before);
	if (likely(result == HYPERCALL_DONE))
		vmx_complete(vp, vmx_next_rip(rip));
	else
		fault_hypercall(vp, result);
}

static void handle_io(struct vp *vp, uint64_t rip)
{
	uint64_t info = vmread(VMCS_EXIT_QUALIFICATION);
	uint16_t port = (uint16_t)(info >> IO_PORT_SHIFT);
	unsigned int size = (info & IO_SIZE_MASK) + 1;

	trace_info(&vp->lp->trace, port);
	if (root_takes_port(port))
		return; /* the root drives it from now on: run the instruction again */
	if (info & IO_STRING) {
		static struct log_ratelimit bucket;

		log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index,
				   "string I/O to the hypervisor's port 0x%x: #GP", port);
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
		return;
	}
	if (info & IO_IN) {
		uint64_t value = 0;

		for (unsigned int i = 0; i < size; i++)
			value |= (uint64_t)root_hidden_port_read((uint16_t)(port + i)) << (8 * i);
		insn_write_reg(vp->gpr, GPR_RAX, size, value);
	}
	vmx_complete(vp, vmx_next_rip(rip));
}

static void handle_ept_violation(struct vp *vp)
{
	uint64_t info = vmread(VMCS_EXIT_QUALIFICATION);
	uint64_t gpa = vmread(VMCS_GUEST_PHYSICAL_ADDRESS);
	bool is_delivery = vmread(VMCS_VECTORING_EVENT) & EVENT_VALID;
	bool is_walk = (info & EPT_VIOLATION_LINEAR) && !(info & EPT_VIOLATION_TRANSLATED);

	trace_info(&vp->lp->trace, gpa);
	/* An IRET that faults has unblocked NMIs already, but is to be run again (SDM3 28.2.3). */
	if (unlikely(info & EPT_VIOLATION_IRET_UNBLOCKED_NMI) && !is_delivery)
		vmwrite(VMCS_GUEST_INTERRUPTIBILITY, vmread(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_NMI);
	if (root_second_stage_fault(vp, GPA(gpa), info & EPT_VIOLATION_FETCH, is_walk || is_delivery) ==
	    FAULT_REFUSED)
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
}

/* An access to the local APIC's page that the processor leaves to us. */
void vmx_handle_apic_access(struct vp *vp)
{
	uint64_t info = vmread(VMCS_EXIT_QUALIFICATION);
	uint64_t gpa = APIC_BASE_DEFAULT + (info & APIC_ACCESS_OFFSET);
	uint64_t type = info & APIC_ACCESS_TYPE;

	trace_info(&vp->lp->trace, gpa);
	if ((type != APIC_ACCESS_READ && type != APIC_ACCESS_WRITE) ||
	    vp_apic_page_access(vp, GPA(gpa)) == FAULT_REFUSED)
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
}

/* A write that went to the register page; its instruction is complete. */
static __attribute__((__noinline__)) void handle_apic_write(struct vp *vp)
{
	uint32_t offset = (uint32_t)vmread(VMCS_EXIT_QUALIFICATION) & 0xff0;

	trace_info(&vp->lp->trace, offset);
	vmx_know_apic(vp);
	apic_page_written(&vp->apic, offset);
	vp_post_self(vp, VP_PENDING_EVENT);
}

/* Lets in through the window what is pending at the physical APIC. */
static __attribute__((__noinline__)) void handle_unacknowledged(struct vp *vp)
{
	/* An 8259's vector is taken when the guest can have it, not before: it may reprogram the 8259 meanwhile. */
	if (unlikely(vp_extint_wired(vp)) && !vmx_can_inject(vp))
		vp_extint_hold(vp);
	vmx_open_window();
	if (lp_handle_interrupts(vp->lp))
		vmx_deliver_interrupt(vp);
	else if (unlikely(vp->extint_held))
		vmx_deliver_interrupt(vp);
}

static __attribute__((__noinline__)) void handle_interrupt(struct vp *vp)
{
	if (unlikely(!vmx_of(vp)->acknowledges)) {
		handle_unacknowledged(vp);
		return;
	}
	if (lp_handle_vector(vp->lp, (uint8_t)vmread(VMCS_EXIT_EVENT)))
		vmx_deliver_interrupt(vp);
}

/* NMIs of the machine are the root's. Of a root no exception is intercepted: it is one. */
void vmx_handle_nmi(struct vp *vp)
{
	struct vp *root = vp->lp->root_vp;

	vmx_unblock_nmis();
	vp_post_self(root, VP_PENDING_NMI);
	vp_wake_here(root);
}

/*
 * A processor halted with interrupts off sleeps on through the hypervisor's own interrupts, as it would without us; an exit from a
 * native HLT could not be undone, it has RIP behind the HLT already.
 */
void vmx_handle_hlt(struct vp *vp, uint64_t rip)
{
	if (vmx_complete(vp, vmx_next_rip(rip)))
		return; /* the single-step trap behind the HLT */
	vp_halt(vp, vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF,
		!(vmread(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_NMI));
}

/* CR4.OSXSAVE is set in the hypervisor where XSAVE exists; without it in the guest's CR4 the guest gets #UD before the exit. */
static void handle_xsetbv(struct vp *vp, uint64_t rip)
{
	if (!safe_xsetbv((uint32_t)vp->gpr[GPR_RCX], vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX])) {
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
		return;
	}
	vmx_complete(vp, vmx_next_rip(rip));
}

/* Dropping what is in the caches would drop the hypervisor's data too: it is written back first. */
static void handle_invd(struct vp *vp, uint64_t rip)
{
	__asm__ volatile("wbinvd" ::: "memory");
	vmx_complete(vp, vmx_next_rip(rip));
}

static _Noreturn void handle_unexpected(struct vp *vp, uint32_t reason)
{
	char why[160] = "no rule of the manual is broken";

	if (reason & VMX_EXIT_ENTRY_FAILED) {
		(void)vmx_check(&vmx, why, sizeof(why));
		panic("p%llu/vp%u: VM entry failed: %s (qualification 0x%llx): %s",
		      (unsigned long long)vp->partition->id, vp->index, vmx_exit_name(reason),
		      (unsigned long long)vmread(VMCS_EXIT_QUALIFICATION), why);
	}
	panic("p%llu/vp%u: unexpected VM exit %u, %s (qualification 0x%llx, gpa 0x%llx) at rip 0x%llx",
	      (unsigned long long)vp->partition->id, vp->index, reason, vmx_exit_name(reason),
	      (unsigned long long)vmread(VMCS_EXIT_QUALIFICATION),
	      (unsigned long long)vmread(VMCS_GUEST_PHYSICAL_ADDRESS),
	      (unsigned long long)vmread(VMCS_GUEST_RIP));
}

/* An instruction that came after us and exits whatever the controls say, as TDCALL and SEAMCALL: it doesn't exist here. */
static void handle_unknown(struct vp *vp, uint32_t reason)
{
	static struct log_ratelimit bucket;

	log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index, "rip 0x%llx: VM exit %u: #UD",
			   (unsigned long long)vmread(VMCS_GUEST_RIP), reason);
	vmx_raise_exception(vp, VECTOR_UD, false, 0);
}

_Noreturn void vmx_entry_refused(struct vp *vp)
{
	char why[160] = "no rule of the manual is broken";
	uint32_t error = (uint32_t)vmread(VMCS_INSTRUCTION_ERROR);

	/* The event to be delivered counts as a control, and a parent may set one that doesn't fit the other registers. */
	if (vp->child) {
		vmx_child_entry_failed(vp, vmx_instruction_error_name(error));
		vmx_run_next(vp);
	}
	(void)vmx_check(&vmx, why, sizeof(why));
	panic("p%llu/vp%u: VM entry refused: %s (VM-instruction error %u): %s",
	      (unsigned long long)vp->partition->id, vp->index, vmx_instruction_error_name(error), error,
	      why);
}

static void handle_rare(struct vp *vp, uint32_t reason, uint64_t rip)
{
	switch (reason) {
	case VMX_EXIT_INTERRUPT_WINDOW:
		vmx_handle_interrupt_window(vp);
		return;
	case VMX_EXIT_TPR_BELOW:
		vmx_deliver_interrupt(vp);
		return;
	case VMX_EXIT_PREEMPTION_TIMER:
		vmwrite(VMCS_PREEMPTION_TIMER, vmx.preemption_ticks);
		handle_unacknowledged(vp);
		return;
	case VMX_EXIT_EPT_VIOLATION:
		handle_ept_violation(vp);
		return;
	case VMX_EXIT_EXCEPTION:
		vmx_handle_nmi(vp);
		return;
	case VMX_EXIT_APIC_ACCESS:
		vmx_handle_apic_access(vp);
		return;
	case VMX_EXIT_VIRTUAL_EOI:
		apic_page_ended(&vp->apic, (uint8_t)vmread(VMCS_EXIT_QUALIFICATION));
		return;
	case VMX_EXIT_NMI_WINDOW:
		vmx_handle_nmi_window(vp);
		return;
	case VMX_EXIT_HLT:
		vmx_handle_hlt(vp, rip);
		return;
	case VMX_EXIT_IO:
		handle_io(vp, rip);
		return;
	case VMX_EXIT_CR:
		vmx_handle_cr(vp);
		return;
	case VMX_EXIT_XSETBV:
		handle_xsetbv(vp, rip);
		return;
	case VMX_EXIT_INVD:
		handle_invd(vp, rip);
		return;
	case VMX_EXIT_INIT:
		vp_send_init(vp);
		return;
	case VMX_EXIT_TRIPLE_FAULT:
		vp_post_self(vp, VP_PENDING_SHUTDOWN);
		return;
	default:
		if (vmx_is_vmx_instruction(reason))
			vmx_raise_exception(vp, VECTOR_UD, false, 0);
		else if (reason <= VMX_EXIT_LAST_KNOWN || (reason & VMX_EXIT_ENTRY_FAILED))
			handle_unexpected(vp, reason);
		else
			handle_unknown(vp, reason);
	}
}

/* The exit may have broken into the delivery of an event; and reads of guest memory that fail leave a CR2 of ours. */
static __attribute__((__noinline__)) void handle_unusual(struct vp *vp, uint32_t reason, uint64_t rip)
{
	uint32_t vectoring = (uint32_t)vmread(VMCS_VECTORING_EVENT);
	uint64_t before, after;

	if (reason == VMX_EXIT_TASK_SWITCH) {
		vmx_handle_task_switch(vp); /* uses the event up, and a page fault of its own sets CR2 */
		return;
	}
	if (vectoring & EVENT_VALID)
		vmx_requeue_event(vp, vectoring);
	vmx_know_apic(vp);
	before = read_cr2();
	handle_rare(vp, reason, rip);
	after = read_cr2();
	if (unlikely(before != after))
		write_cr2(before);
}

static inline bool is_synthetic(const struct vp *vp, uint32_t msr)
{
	return hv_msr_is_synthetic(msr) && vp->partition->hv;
}

static inline void dispatch(struct vp *vp, uint32_t reason, uint64_t rip)
{
	uint32_t msr = (uint32_t)vp->gpr[GPR_RCX];

	if (reason == VMX_EXIT_CPUID)
		handle_cpuid(vp, rip);
	else if (reason == VMX_EXIT_WRMSR && is_synthetic(vp, msr))
		vmx_handle_synthetic_wrmsr(vp, rip, msr);
	else if (reason == VMX_EXIT_WRMSR)
		handle_wrmsr(vp, rip);
	else if (reason == VMX_EXIT_INTR)
		handle_interrupt(vp);
	else if (reason == VMX_EXIT_RDMSR && is_synthetic(vp, msr))
		vmx_handle_synthetic_rdmsr(vp, rip, msr);
	else if (reason == VMX_EXIT_RDMSR)
		handle_rdmsr(vp);
	else if (reason == VMX_EXIT_APIC_WRITE)
		handle_apic_write(vp);
	else if (reason == VMX_EXIT_VMCALL)
		vmx_handle_hypercall(vp, rip);
	else
		handle_unusual(vp, reason, rip);
}

static uint8_t tpr_in_page(const struct vp *vp)
{
	return (uint8_t)vp->apic_page->reg[APIC_REG_TPR >> 4].value;
}

/* What the model knows of the APIC is old. */
static __attribute__((__noinline__)) void dispatch_refreshed(struct vp *vp, uint32_t reason, uint64_t rip)
{
	if (vmx_of(vp)->apic_known)
		vmx_apic_give_back(vp);
	apic_set_tpr(&vp->apic, tpr_in_page(vp));
	dispatch(vp, reason, rip);
}

/* Each handler is a tail call, so that registers are saved only where they are needed. */
void vmx_handle_exit(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);
	/* The other bits tell of enclaves and bus locks (SDM3 25.9.1). */
	uint32_t reason =
		(uint32_t)vmread(VMCS_EXIT_REASON) & (uint32_t)(VMX_EXIT_ENTRY_FAILED | VMX_EXIT_REASON_MASK);
	uint64_t rip = vmread(VMCS_GUEST_RIP);

	trace_exit(&vp->lp->trace, reason, rip, 0);
	vp->exit_counts[reason & 0xff]++;
	own->event = 0;
	/* CR8 goes to the APIC page without an exit. */
	if (unlikely(own->apic_known) || unlikely(tpr_in_page(vp) != vp->apic.tpr))
		dispatch_refreshed(vp, reason, rip);
	else
		dispatch(vp, reason, rip);
}
