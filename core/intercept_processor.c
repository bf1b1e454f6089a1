/* SPDX-License-Identifier: MIT */
/*
 * Intercepts of what a processor does by itself, which the parent sees only if it has asked (calls_intercept.c): CPUID, RDMSR and WRMSR,
 * exceptions. RIP is at the instruction, and nothing of it has happened: the parent does it and moves RIP, or raises an exception
 * (HV_REGISTER_PENDING_EVENT0), or takes its request back and lets it run again.
 */
#include "intercept_internal.h"
#include <string.h>
#include <trivet/apic.h>
#include <trivet/backend.h>
#include <trivet/exceptions.h>
#include <trivet/guest_msrs.h>
#include <trivet/hv_msr.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define INT3 0xccu
#define INTO 0xceu

/* ---- CPUID ---- */

void intercept_cpuid(struct vp *vp, const struct cpuid_exit *exit)
{
	/* What the VP would have read: TLFS "CPUID Intercept Message", DefaultResultRax and so on. */
	const struct cpuid_regs results =
		vp_cpuid_ask(vp, (uint32_t)vp->gpr[GPR_RAX], (uint32_t)vp->gpr[GPR_RCX], exit->cr4);
	struct hv_x64_cpuid_intercept message = {
		.rax = vp->gpr[GPR_RAX],
		.rcx = vp->gpr[GPR_RCX],
		.rdx = vp->gpr[GPR_RDX],
		.rbx = vp->gpr[GPR_RBX],
		.default_rax = results.eax,
		.default_rcx = results.ecx,
		.default_rdx = results.edx & ~exit->hidden_edx,
		.default_rbx = results.ebx,
	};
	struct vp_snapshot now;

	backend->get_snapshot(vp, &now);
	intercept_fill_header(vp, &now, HV_INTERCEPT_ACCESS_EXECUTE, exit->length, &message.header);
	intercept_send(vp, &now, HV_MESSAGE_X64_CPUID_INTERCEPT, &message, sizeof(message));
}

/* ---- MSRs ---- */

void intercept_msr(struct vp *vp, const struct msr_exit *exit)
{
	struct hv_x64_msr_intercept message = {
		.msr = exit->msr,
		.rdx = vp->gpr[GPR_RDX],
		.rax = vp->gpr[GPR_RAX],
	};
	struct vp_snapshot now;

	backend->get_snapshot(vp, &now);
	intercept_fill_header(
		vp, &now, (uint8_t)(exit->is_write ? HV_INTERCEPT_ACCESS_WRITE : HV_INTERCEPT_ACCESS_READ),
		exit->length, &message.header);
	intercept_send(vp, &now, HV_MESSAGE_X64_MSR_INTERCEPT, &message, sizeof(message));
}

/* Beside what the back end has. */
static bool has_msr(const struct vp *vp, uint32_t msr)
{
	if (hv_msr_is_synthetic(msr) && vp->partition->hv)
		return hv_msr_is_offered(vp->partition, msr);
	return (msr >= APIC_MSR_X2_FIRST && msr <= APIC_MSR_X2_LAST) || msr == MSR_APIC_BASE ||
	       msr == MSR_TSC_DEADLINE || guest_msr_exists(msr);
}

bool intercept_wants_unknown_msr(const struct vp *vp, uint32_t msr, bool is_write)
{
	return (vp->wanted & (is_write ? VP_WANTED_UNKNOWN_MSR_WRITE : VP_WANTED_UNKNOWN_MSR_READ)) &&
	       !has_msr(vp, msr);
}

/* ---- Exceptions ---- */

/* INT3 and INTO, behind prefixes that do nothing. 0: it isn't in what could be read. */
static uint8_t software_length(const uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (bytes[i] == INT3 || bytes[i] == INTO)
			return (uint8_t)(i + 1);
	return 0;
}

bool intercept_exception(struct vp *vp, const struct exception_exit *exit)
{
	struct hv_x64_exception_intercept message = {
		.vector = exit->vector,
		.exception_info = (uint8_t)((exit->has_error ? HV_EXCEPTION_INFO_ERROR_CODE_VALID : 0) |
					    (exit->is_software ? HV_EXCEPTION_INFO_SOFTWARE : 0)),
		.error_code = exit->has_error ? exit->error : 0,
		.exception_parameter = exit->parameter,
	};
	struct vp_context context;
	struct vp_snapshot now;
	uint8_t length;

	if (intercept_is_open(vp))
		return false;
	backend->get_context(vp, &context);
	message.instruction_byte_count = intercept_fetch(vp, &context, message.instruction_bytes);
	/* TLFS "Exception Intercept Message": none; but INT3 and INTO are there to be stepped over. */
	length = exit->is_software ?
			 software_length(message.instruction_bytes, message.instruction_byte_count) :
			 0;
	backend->get_snapshot(vp, &now);
	intercept_fill_header(vp, &now, HV_INTERCEPT_ACCESS_EXECUTE, length, &message.header);
	message.ds = now.segment[INSN_SEG_DS];
	message.ss = now.segment[INSN_SEG_SS];
	memcpy(message.gp, vp->gpr, sizeof(message.gp));
	intercept_send(vp, &now, HV_MESSAGE_X64_EXCEPTION_INTERCEPT, &message, sizeof(message));
	return true;
}
