/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls about the CPUID of a child's VPs: results that its parent registers, and what a VP would get (TLFS
 * "HvCallRegisterInterceptResult", "HvCallUnregisterInterceptResult", "HvCallGetVpCpuidValues"). A result is what the VP reads, whether or
 * not its parent asked for it always: where a leaf is intercepted as well, the message goes out and has it among the default results.
 */
#include <errno.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <trivet/backend.h>
#include <trivet/cpuid_policy.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

static struct vp *find_vp(const struct partition *partition, uint32_t index, uint16_t *status)
{
	struct vp *vp = partition_vp(partition, index);

	if (!vp)
		*status = HV_STATUS_INVALID_VP_INDEX;
	return vp;
}

/* The table that a call is about: a VP's, or the one for all. NULL with the status of the refusal. */
static struct cpuid_overrides *find_overrides(const struct hypercall *call, uint64_t partition_id,
					      uint32_t vp_index, struct partition **partition,
					      uint16_t *status)
{
	struct vp *vp;

	*partition = partition_child(call->vp, partition_id, status);
	if (!*partition)
		return NULL;
	if (atomic_load_explicit(&(*partition)->state, memory_order_acquire) == PARTITION_FINALIZED) {
		*status = HV_STATUS_INVALID_PARTITION_STATE; /* its tables are gone, or will be */
		return NULL;
	}
	if (vp_index == HV_VP_INDEX_ANY)
		return &(*partition)->cpuid.overrides;
	vp = find_vp(*partition, vp_index, status);
	return vp ? &vp->child->overrides : NULL;
}

uint16_t hypercall_register_intercept_result(struct hypercall *call)
{
	const struct hv_input_register_intercept_result *in = call->input;
	const struct hv_cpuid_result_parameters cpuid = in->parameters.cpuid; /* a packed structure's */
	const struct cpuid_override entry = {
		.leaf = cpuid.input_eax,
		.subleaf = cpuid.subleaf_specific ? cpuid.input_ecx : 0,
		.specific = cpuid.subleaf_specific != 0,
		.value = { cpuid.eax, cpuid.ebx, cpuid.ecx, cpuid.edx },
		.mask = { cpuid.eax_mask, cpuid.ebx_mask, cpuid.ecx_mask, cpuid.edx_mask },
	};
	struct cpuid_overrides *overrides;
	struct partition *partition;
	uint16_t status;

	overrides = find_overrides(call, in->partition_id, in->vp_index, &partition, &status);
	if (!overrides)
		return status;
	if (in->intercept_type != HV_INTERCEPT_X64_CPUID)
		return HV_STATUS_INVALID_PARAMETER; /* what an MSR is to a child has no such rules yet */
	switch (cpuid_overrides_set(&partition->cpuid, overrides, partition->pages, &entry)) {
	case 0:
		return HV_STATUS_SUCCESS;
	case -ENOMEM:
		return HV_STATUS_INSUFFICIENT_MEMORY;
	default:
		return HV_STATUS_NO_RESOURCES;
	}
}

uint16_t hypercall_unregister_intercept_result(struct hypercall *call)
{
	const struct hv_input_unregister_intercept_result *in = call->input;
	struct cpuid_override entry = { .leaf = in->input_eax, .subleaf = in->input_ecx, .specific = 1 };
	struct cpuid_overrides *overrides;
	struct partition *partition;
	uint16_t status;

	overrides = find_overrides(call, in->partition_id, in->vp_index, &partition, &status);
	if (!overrides)
		return status;
	if (in->intercept_type != HV_INTERCEPT_X64_CPUID)
		return HV_STATUS_INVALID_PARAMETER;
	if (!cpuid_overrides_remove(&partition->cpuid, overrides, &entry))
		return HV_STATUS_SUCCESS;
	entry.specific = 0;
	return cpuid_overrides_remove(&partition->cpuid, overrides, &entry) ? HV_STATUS_NOT_FOUND :
									      HV_STATUS_SUCCESS;
}

static void answer(const struct vp *vp, uint32_t flags, const struct hv_cpuid_leaf *leaf, uint64_t cr4,
		   struct hv_cpuid_values *values)
{
	const struct cpuid_query query = {
		.leaf = leaf->eax,
		.subleaf = leaf->ecx,
		.xcr0 = flags & HV_CPUID_VALUES_USE_VP_XFEM_XSS ? vp->xcr0 : leaf->xfem,
		.xss = flags & HV_CPUID_VALUES_USE_VP_XFEM_XSS ? 0 : leaf->xss,
		.cr4 = cr4,
		.defaults = !(flags & HV_CPUID_VALUES_APPLY_REGISTERED),
	};
	struct cpuid_regs regs = cpuid_policy_query(vp, &query);

	*values = (struct hv_cpuid_values){ regs.eax, regs.ebx, regs.ecx, regs.edx };
}

/* One borrowing for all: the list fits a page. */
uint16_t hypercall_get_vp_cpuid_values(struct hypercall *call)
{
	const struct hv_input_get_vp_cpuid_values *in = call->input;
	const struct hv_cpuid_leaf *leaves = call->rep_input;
	struct hv_cpuid_values *values = call->rep_output;
	union hv_register_value cr4 = { .reg128 = { 0, 0 } };
	struct partition *partition;
	uint16_t status;
	struct vp *vp;

	partition = partition_child(call->vp, in->partition_id, &status);
	if (!partition)
		return status;
	if (in->flags & ~(HV_CPUID_VALUES_USE_VP_XFEM_XSS | HV_CPUID_VALUES_APPLY_REGISTERED))
		return HV_STATUS_INVALID_PARAMETER;
	vp = find_vp(partition, in->vp_index, &status);
	if (!vp)
		return status;
	vp_borrow(vp, call->vp);
	backend->get_register(vp, VP_REGISTER_CR4, &cr4);
	for (; call->reps_done < call->rep_count; call->reps_done++)
		answer(vp, in->flags, &leaves[call->reps_done], cr4.reg64, &values[call->reps_done]);
	vp_return(vp);
	return HV_STATUS_SUCCESS;
}
