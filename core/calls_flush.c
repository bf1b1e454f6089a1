/* SPDX-License-Identifier: MIT */
/*
 * Flush hypercalls (TLFS "HvCallFlushVirtualAddressSpace", "...List", "...Ex"): one exit for all processors, and done when it returns.
 *
 * Each takes everything out of its targets' TLBs, whatever part was named: TLFS asks that at least that part be gone. The part would
 * have to be queued for each target and gone through there, page by page, under whatever CR3 it then has; the processors offer
 * one cheap operation for another's address spaces, and that is the whole.
 */
#include <hv/cpuid.h>
#include <hv/flush.h>
#include <hv/status.h>
#include <trivet/flush.h>
#include <trivet/hypercall.h>
#include <trivet/vp.h>
#include <trivet/vp_set.h>

#define FLAGS_OF_SPACE \
	(HV_FLUSH_ALL_PROCESSORS | HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES | HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY)

/* Non-global only "does not make sense" here and is refused; extended ranges are for those who were offered them. */
static uint64_t flags_of_list(const struct hypercall *call)
{
	uint64_t flags = HV_FLUSH_ALL_PROCESSORS | HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES;

	if (call->partition->features & HV_FEATURE_EXTENDED_GVA_RANGES)
		flags |= HV_FLUSH_USE_EXTENDED_RANGE_FORMAT;
	return flags;
}

static uint16_t flush(struct hypercall *call, const struct vp_set *set)
{
	call->vp->flush_calls++;
	flush_vps(call->partition, call->vp, set);
	call->reps_done = call->rep_count; /* the whole includes every range */
	return HV_STATUS_SUCCESS;
}

static uint16_t flush_mask(struct hypercall *call, uint64_t allowed_flags)
{
	const struct hv_input_flush_virtual_address_space *input = call->input;
	struct vp_set set;

	if (input->flags & ~allowed_flags)
		return HV_STATUS_INVALID_PARAMETER;
	if (input->flags & HV_FLUSH_ALL_PROCESSORS)
		vp_set_all(&set, call->partition);
	else
		vp_set_from_mask(&set, call->partition, input->processor_mask);
	return flush(call, &set);
}

static uint16_t flush_sparse(struct hypercall *call, uint64_t allowed_flags)
{
	const struct hv_input_flush_virtual_address_space_ex *input = call->input;
	struct vp_set set;
	uint16_t status;

	if (input->flags & ~allowed_flags)
		return HV_STATUS_INVALID_PARAMETER;
	if (input->flags & HV_FLUSH_ALL_PROCESSORS) {
		vp_set_all(&set, call->partition);
		return flush(call, &set);
	}
	status = vp_set_decode(&set, call->partition, &input->vp_set, call->var_header_qwords);
	return status ? status : flush(call, &set);
}

uint16_t hypercall_flush_virtual_address_space(struct hypercall *call)
{
	return flush_mask(call, FLAGS_OF_SPACE);
}

uint16_t hypercall_flush_virtual_address_list(struct hypercall *call)
{
	return flush_mask(call, flags_of_list(call));
}

uint16_t hypercall_flush_virtual_address_space_ex(struct hypercall *call)
{
	return flush_sparse(call, FLAGS_OF_SPACE);
}

uint16_t hypercall_flush_virtual_address_list_ex(struct hypercall *call)
{
	return flush_sparse(call, flags_of_list(call));
}
