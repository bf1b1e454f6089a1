/* SPDX-License-Identifier: MIT */
/* What the exits of roots' VPs (exit.c) and of children's (child_exit.c) share. */
#ifndef VMX_EXIT_H
#define VMX_EXIT_H

#include "vmx.h"
#include <trivet/exceptions.h>

/* Instructions of VMX and SMX, which no guest has: #UD. */
#define VMX_INSTRUCTION_EXITS                                                                            \
	(BIT(VMX_EXIT_GETSEC) | BIT(VMX_EXIT_VMCLEAR) | BIT(VMX_EXIT_VMLAUNCH) | BIT(VMX_EXIT_VMPTRLD) | \
	 BIT(VMX_EXIT_VMPTRST) | BIT(VMX_EXIT_VMREAD) | BIT(VMX_EXIT_VMRESUME) | BIT(VMX_EXIT_VMWRITE) | \
	 BIT(VMX_EXIT_VMXOFF) | BIT(VMX_EXIT_VMXON) | BIT(VMX_EXIT_INVEPT) | BIT(VMX_EXIT_INVVPID) |     \
	 BIT(VMX_EXIT_VMFUNC))

static inline bool vmx_is_vmx_instruction(uint32_t reason)
{
	return reason < 64 && (VMX_INSTRUCTION_EXITS >> reason & 1);
}

/* Where the instruction that exited ends. */
static inline uint64_t vmx_next_rip(uint64_t rip)
{
	return rip + (uint32_t)vmread(VMCS_EXIT_INSTRUCTION_LENGTH);
}

/* EOI and ICR of a VP in x2APIC mode, when the value is in order. False: another MSR, or it is for the slow way. */
static inline bool vmx_write_x2apic(struct vp *vp, uint32_t msr, uint64_t rip)
{
	struct apic *apic = &vp->apic;

	if (msr == APIC_MSR_EOI && (uint32_t)vp->gpr[GPR_RAX] == 0 && (uint32_t)vp->gpr[GPR_RDX] == 0) {
		vmx_know_apic(vp);
		apic_eoi(apic);
	} else if (msr != APIC_MSR_ICR ||
		   apic_icr_write(apic, vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX]) != 0) {
		return false;
	}
	if (apic_pending_vector(apic) >= 0)
		vp_post_self(vp, VP_PENDING_EVENT);
	vmx_complete(vp, vmx_next_rip(rip));
	return true;
}

/* Synthetic MSRs, of a partition with the interface. */
void vmx_handle_synthetic_rdmsr(struct vp *vp, uint64_t rip, uint32_t msr);
void vmx_handle_synthetic_wrmsr(struct vp *vp, uint64_t rip, uint32_t msr);
/* An MSR that nobody has, or that doesn't take the value. */
static inline void vmx_refuse_msr(struct vp *vp, uint32_t msr, bool is_write)
{
	if (!vp->wanted || !vmx_intercepts_unknown_msr(vp, msr, is_write))
		vmx_raise_exception(vp, VECTOR_GP, true, 0);
}

void vmx_handle_hypercall(struct vp *vp, uint64_t rip);
void vmx_handle_hlt(struct vp *vp, uint64_t rip);
/* An access to the local APIC's page that the processor leaves to us. */
void vmx_handle_apic_access(struct vp *vp);
/* An NMI of the machine's ended guest mode. */
void vmx_handle_nmi(struct vp *vp);

#endif
