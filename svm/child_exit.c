/* SPDX-License-Identifier: MIT */
/*
 * Exits of children's VPs that a root has not, or that mean something else for it: what the parent has to answer goes to core/intercept.c
 * in neutral form, the rest is the architecture's answer of a processor that has no such thing.
 */
#include "svm.h"
#include <trivet/exceptions.h>
#include <trivet/guest_msrs.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>
#include <trivet/vp_child.h>

#define DEBUGCTL_WRITABLE (DEBUGCTL_LBR | DEBUGCTL_BTF)

/* ---- MSRs ---- */

static bool write_switched(struct vp *vp, unsigned int which, uint64_t value)
{
	uint64_t before;

	switch (which) {
	case SVM_TSC_AUX:
		if (value >> 32)
			return false;
		break;
	case SVM_DEBUGCTL:
		if (value & ~DEBUGCTL_WRITABLE)
			return false;
		break;
	case SVM_XSS:
		if (value)
			return false; /* no supervisor state is offered */
		break;
	default:
		/* The processor knows which of its bits there are. */
		before = rdmsr(MSR_SPEC_CTRL);
		if (!safe_wrmsr(MSR_SPEC_CTRL, value))
			return false;
		if (!vp_is_loaded_here(vp))
			wrmsr(MSR_SPEC_CTRL, before);
		break;
	}
	svm_set_switched_msr(vp, which, value);
	return true;
}

bool svm_child_rdmsr(struct vp *vp, uint32_t msr, uint64_t *value)
{
	int which;

	if (unlikely(vp->wanted & VP_WANTED_MSR) && !svm_child_msr_exits(msr, false))
		return svm_read_passed_msr(vp, msr, value);
	which = svm_switched_msr(msr);
	if (msr == MSR_PAT) {
		*value = vmcb_of(vp)->pat;
		return true;
	}
	if (which >= 0) {
		*value = svm_of(vp)->msrs[which];
		return true;
	}
	return vp_msr_read(vp, msr, value) == 0;
}

bool svm_child_wrmsr(struct vp *vp, uint32_t msr, uint64_t value)
{
	int which;

	if (unlikely(vp->wanted & VP_WANTED_MSR) && !svm_child_msr_exits(msr, true))
		return svm_write_passed_msr(vp, msr, value);
	which = svm_switched_msr(msr);
	if (msr == MSR_PAT) {
		if (!guest_msr_takes(msr, value, 48))
			return false;
		vmcb_of(vp)->pat = value;
		vp_post_self(vp, VP_PENDING_FLUSH);
		return true;
	}
	if (which >= 0)
		return write_switched(vp, (unsigned int)which, value);
	vp_post_self(vp, VP_PENDING_EVENT);
	if (vp_msr_write(vp, msr, value) != 0)
		return false;
	vmcb_of(vp)->tsc_offset = vp->tsc_delta; /* it may have been the TSC */
	return true;
}

/* ---- For the parent ---- */

static void handle_io(struct vp *vp, const struct vmcb *vmcb)
{
	uint64_t info = vmcb->exit_info1;
	const struct io_exit exit = {
		.port = (uint16_t)(info >> 16),
		.bytes = (info >> IOIO_SIZE_SHIFT) & 7,
		.length = (uint8_t)(vmcb->exit_info2 - vmcb->rip), /* APM2 15.10.2: where the next one is */
		.in = info & IOIO_IN,
		.string = info & IOIO_STRING,
		.rep = info & IOIO_REP,
	};

	intercept_io(vp, &exit);
}

static void handle_memory(struct vp *vp, const struct vmcb *vmcb)
{
	uint64_t info = vmcb->exit_info1;
	struct memory_exit exit = {
		.gpa = GPA(vmcb->exit_info2),
		.is_write = info & NPF_WRITE,
		.is_fetch = info & NPF_FETCH,
		.is_walk = (info & NPF_WALK) || (vmcb->exit_int_info & EVENT_VALID),
	};

	if (svm.features & SVM_FEATURE_DECODE_ASSISTS) {
		exit.byte_count = vmcb->instruction_length & 15;
		__builtin_memcpy(exit.bytes, vmcb->instruction_bytes, sizeof(vmcb->instruction_bytes));
	}
	if (intercept_memory(vp, &exit) == FAULT_REFUSED)
		svm_raise_exception(vp, VECTOR_GP, true, 0);
}

/* ---- Answered here ---- */

static void handle_xsetbv(struct vp *vp, struct vmcb *vmcb)
{
	uint64_t value = vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX];

	if (vmcb->cpl || (uint32_t)vp->gpr[GPR_RCX] || !(value & XCR0_X87) ||
	    (value & ~vp->partition->cpuid.xsave_states) || !safe_xsetbv(0, value)) {
		svm_raise_exception(vp, VECTOR_GP, true, 0);
		return;
	}
	svm_complete(vp, vmcb, svm_next_rip(vp, vmcb, 3));
}

/* From now on they are switched with the VP, and it has them to itself. The instruction runs again. */
static void handle_debug_register(struct vp *vp, struct vmcb *vmcb)
{
	vmcb->intercept_dr_read = vmcb->intercept_dr_write = 0;
	schedule_use_debug_registers(vp);
}

/* The VMCB is one that the processor can't run: the registers that the parent set don't fit together. */
static void handle_invalid(struct vp *vp, const struct vmcb *vmcb)
{
	static struct log_ratelimit bucket;

	log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index,
			   "rip 0x%llx, cr0 0x%llx, cr4 0x%llx, efer 0x%llx: no state to run in",
			   (unsigned long long)vmcb->rip, (unsigned long long)vmcb->cr0,
			   (unsigned long long)vmcb->cr4, (unsigned long long)vmcb->efer);
	/* What TLB_CONTROL said wasn't done: VMRUN checks first (APM3 "VMRUN"). How much it was is forgotten by now. */
	svm_of(vp)->flush_all = true;
	vp_post_self(vp, VP_PENDING_FLUSH);
	intercept_unrecoverable(vp);
}

void svm_handle_child_exit(struct vp *vp, struct vmcb *vmcb)
{
	uint64_t code = vmcb->exit_code;

	if (code == SVM_EXIT_IOIO)
		handle_io(vp, vmcb);
	else if (code == SVM_EXIT_NPF)
		handle_memory(vp, vmcb);
	else if (code >= SVM_EXIT_DR_FIRST && code <= SVM_EXIT_DR_LAST)
		handle_debug_register(vp, vmcb);
	else if (code == SVM_EXIT_XSETBV)
		handle_xsetbv(vp, vmcb);
	else if (code == SVM_EXIT_WBINVD || code == SVM_EXIT_INVD)
		svm_complete(
			vp, vmcb,
			svm_next_rip(vp, vmcb, 2)); /* caches are coherent; nothing to write back for it */
	else if (code >= SVM_EXIT_EXCEPTION_FIRST && code <= SVM_EXIT_EXCEPTION_LAST)
		svm_handle_exception(vp, vmcb, (uint8_t)(code - SVM_EXIT_EXCEPTION_FIRST));
	else if (code == SVM_EXIT_RDPMC)
		svm_raise_exception(vp, VECTOR_GP, true, 0);
	else if (code == SVM_EXIT_INVALID || (uint32_t)code == UINT32_MAX)
		handle_invalid(vp, vmcb);
	else
		svm_raise_exception(vp, VECTOR_UD, false, 0);
}
