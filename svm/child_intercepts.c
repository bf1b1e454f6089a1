/* SPDX-License-Identifier: MIT */
/* Intercepts that a child's parent has asked for (intercepts.h): which of them the processor has to know, and the exits that come of it. */
#include "svm.h"
#include <trivet/assert.h>
#include <trivet/guest_msrs.h>
#include <trivet/host_memory.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/partition.h>

/* With an error code, APM2 table 8-8: #DF, #TS to #PF, #AC, #CP; and what memory encryption has, #VC and #SX. */
#define VECTORS_WITH_ERROR \
	((uint32_t)(BIT(VECTOR_DF) | 0x7c00u | BIT(VECTOR_AC) | BIT(VECTOR_CP) | BIT(29) | BIT(30)))

void svm_follow_intercepts(struct vp *vp)
{
	struct vmcb *vmcb = vmcb_of(vp);
	bool all = intercepts_want_more_exits(vp, svm_child_msr_exits);

	vmcb->intercept_exceptions = svm_intercepted_exceptions(vp);
	vmcb->msrpm_base_hpa = hv_virt_to_phys(all ? svm.shut_msr_map : svm.child_msr_map).v;
}

static uint8_t length_of(const struct vmcb *vmcb, uint64_t rip)
{
	return (uint8_t)(rip - vmcb->rip);
}

bool svm_intercepts_cpuid(struct vp *vp, const struct vmcb *vmcb, uint64_t rip)
{
	const struct cpuid_exit exit = { .cr4 = vmcb->cr4, .length = length_of(vmcb, rip) };

	if (!intercepts_want_cpuid(vp, (uint32_t)vp->gpr[GPR_RAX]))
		return false;
	intercept_cpuid(vp, &exit);
	return true;
}

bool svm_intercepts_msr(struct vp *vp, const struct vmcb *vmcb, uint32_t msr, bool is_write)
{
	struct msr_exit exit = { .msr = msr, .is_write = is_write };

	if (!intercepts_want_msr(vp, msr, is_write))
		return false;
	exit.length = length_of(vmcb, svm_next_rip(vp, vmcb, 2));
	intercept_msr(vp, &exit);
	return true;
}

static bool has_msr(uint32_t msr)
{
	return msr == MSR_EFER || msr == MSR_PAT || svm_switched_msr(msr) >= 0 ||
	       !svm_child_msr_exits(msr, false);
}

bool svm_intercepts_unknown_msr(struct vp *vp, const struct vmcb *vmcb, uint32_t msr, bool is_write,
				uint64_t rip)
{
	const struct msr_exit exit = { .msr = msr, .is_write = is_write, .length = length_of(vmcb, rip) };

	if (has_msr(msr) || !intercept_wants_unknown_msr(vp, msr, is_write))
		return false;
	intercept_msr(vp, &exit);
	return true;
}

/* ---- MSRs that have no exit otherwise ---- */

bool svm_read_passed_msr(struct vp *vp, uint32_t msr, uint64_t *value)
{
	return svm_get_msr(vp, msr, value) == 0;
}

bool svm_write_passed_msr(struct vp *vp, uint32_t msr, uint64_t value)
{
	return guest_msr_takes(msr, value, svm.linear_bits) && svm_set_msr(vp, msr, value) == 0;
}

/* ---- Exceptions ---- */

static void deliver(struct vp *vp, const struct exception_exit *exit)
{
	if (unlikely(vp->wanted_exceptions >> exit->vector & 1) &&
	    (intercept_exception(vp, exit) || exit->vector != VECTOR_DB))
		return; /* if not now, it comes again with its instruction, which hasn't been done */
	svm_inject_exception(vp, exit->vector, exit->has_error, exit->error);
}

/* RIP is at the instruction, CR2 as it was; DR6 and DR7 are what the handler of #DB would find (APM2 15.12). */
void svm_handle_exception(struct vp *vp, struct vmcb *vmcb, uint8_t vector)
{
	const struct exception_exit exit = {
		.vector = vector,
		.has_error = (VECTORS_WITH_ERROR >> vector & 1) && (vmcb->cr0 & CR0_PE),
		.error = (uint32_t)vmcb->exit_info1,
		.parameter = vector == VECTOR_PF ? vmcb->exit_info2 :
			     vector == VECTOR_DB ? vmcb->dr6 :
						   0,
		.is_software = vector == VECTOR_BP || vector == VECTOR_OF,
	};

	if (vector == VECTOR_MC)
		panic("p%llu/vp%u: machine check", (unsigned long long)vp->partition->id, vp->index);
	deliver(vp, &exit);
}

void svm_raise_exception(struct vp *vp, uint8_t vector, bool has_error, uint32_t error)
{
	const struct vmcb *vmcb = vmcb_of(vp);
	const struct exception_exit exit = {
		.vector = vector,
		.has_error = has_error && (vmcb->cr0 & CR0_PE),
		.error = error,
		.parameter = vector == VECTOR_DB ? vmcb->dr6 : 0,
	};

	deliver(vp, &exit);
}
