/* SPDX-License-Identifier: MIT */
/* Intercepts that a child's parent has asked for (intercepts.h): which of them the processor has to know, and the exits that come of it. */
#include "switch.h"
#include <trivet/exceptions.h>
#include <trivet/guest_msrs.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/partition.h>

/*
 * With #DB and #AC a guest could keep the processor in the delivery of one exception after the other, without an instruction in between at
 * which an interrupt could end guest mode. And a machine check is the machine's.
 */
#define INTERCEPTED_EXCEPTIONS (BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC))

/* Of page faults the bit alone decides: mask and match of their error codes are 0 (SDM3 25.6.3). */
void vmx_follow_intercepts(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);

	vmwrite(VMCS_EXCEPTION_BITMAP, INTERCEPTED_EXCEPTIONS | vp->wanted_exceptions);
	own->proc &= ~(uint32_t)PROC_MSR_BITMAPS; /* without, every access exits */
	if (!intercepts_want_more_exits(vp, vmx_child_msr_exits))
		own->proc |= (uint32_t)PROC_MSR_BITMAPS;
	vmwrite(VMCS_PROC_CONTROLS, own->proc);
}

static uint8_t instruction_length(void)
{
	return (uint8_t)vmread(VMCS_EXIT_INSTRUCTION_LENGTH);
}

bool vmx_intercepts_cpuid(struct vp *vp, uint32_t hidden_edx)
{
	const struct cpuid_exit exit = { .cr4 = vmx_guest_cr4(vp),
					 .hidden_edx = hidden_edx,
					 .length = instruction_length() };

	if (!intercepts_want_cpuid(vp, (uint32_t)vp->gpr[GPR_RAX]))
		return false;
	intercept_cpuid(vp, &exit);
	return true;
}

bool vmx_intercepts_msr(struct vp *vp, uint32_t msr, bool is_write)
{
	const struct msr_exit exit = { .msr = msr, .is_write = is_write, .length = instruction_length() };

	if (!intercepts_want_msr(vp, msr, is_write))
		return false;
	intercept_msr(vp, &exit);
	return true;
}

static bool has_msr(uint32_t msr)
{
	return msr == MSR_DEBUGCTL || vmx_switched_msr(msr) >= 0 || !vmx_child_msr_exits(msr, false);
}

bool vmx_intercepts_unknown_msr(struct vp *vp, uint32_t msr, bool is_write)
{
	const struct msr_exit exit = { .msr = msr, .is_write = is_write, .length = instruction_length() };

	if (has_msr(msr) || !intercept_wants_unknown_msr(vp, msr, is_write))
		return false;
	intercept_msr(vp, &exit);
	return true;
}

/* ---- MSRs that have no exit otherwise ---- */

/* SDM4 table 2-2, IA32_EFER: LME stays while paging is on, LMA is the processor's. */
static bool write_efer(struct vp *vp, uint64_t value)
{
	uint64_t before = vmread(VMCS_GUEST_EFER);

	if (value & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return false;
	if (((value ^ before) & EFER_LME) && (vmread(VMCS_GUEST_CR0) & CR0_PG))
		return false;
	vmx_set_guest_efer((value & ~EFER_LMA) | (before & EFER_LMA));
	vp_post_self(vp, VP_PENDING_FLUSH); /* NXE changes what cached translations mean */
	return true;
}

bool vmx_write_passed_msr(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (msr == MSR_EFER)
		return write_efer(vp, value);
	return guest_msr_takes(msr, value, vmx.cr4_fixed1 & CR4_LA57 ? 57 : 48) &&
	       vmx_set_msr(vp, msr, value) == 0;
}

/* ---- Exceptions ---- */

static void deliver(struct vp *vp, const struct exception_exit *exit)
{
	if (unlikely(vp->wanted_exceptions >> exit->vector & 1) &&
	    (intercept_exception(vp, exit) || exit->vector != VECTOR_DB))
		return; /* if not now, it comes again with its instruction, which hasn't been done */
	vmx_inject_exception(vp, exit->vector, exit->has_error, exit->error);
}

/* RIP is at the instruction, and CR2 as it was; DR6 and DR7 are what the handler of #DB would find, as with SVM. */
void vmx_reflect_exception(struct vp *vp, uint32_t event)
{
	uint8_t vector = event & EVENT_VECTOR_MASK;
	const struct exception_exit exit = {
		.vector = vector,
		.has_error = event & EVENT_ERROR_VALID,
		.error = (uint32_t)vmread(VMCS_EXIT_EVENT_ERROR),
		.parameter = vector == VECTOR_PF ? vmread(VMCS_EXIT_QUALIFICATION) :
			     vector == VECTOR_DB ? vmx_dr6(vp) :
						   0,
		.is_software = (event & EVENT_TYPE_MASK) == EVENT_TYPE_SOFT_EXCEPTION,
	};

	deliver(vp, &exit);
}

void vmx_raise_exception(struct vp *vp, uint8_t vector, bool has_error, uint32_t error)
{
	const struct exception_exit exit = {
		.vector = vector,
		.has_error = has_error && (vmread(VMCS_GUEST_CR0) & CR0_PE),
		.error = error,
		.parameter = vector == VECTOR_DB ? vmx_dr6(vp) : 0,
	};

	deliver(vp, &exit);
}
