/* SPDX-License-Identifier: MIT */
/* Hypercalls about the life of child partitions (TLFS "HvCallCreatePartition" and those after it). */
#include <hv/partition.h>
#include <hv/status.h>
#include <trivet/hypercall.h>
#include <trivet/partition_vp.h>
#include <trivet/vp.h>

/* What a child can be, and what it must be: its devices are all its parent's, with a local APIC and messages of ours. */
#define FLAGS_REQUIRED \
	(HV_CREATE_PARTITION_EXO | HV_CREATE_PARTITION_LAPIC | HV_CREATE_PARTITION_INTERCEPT_MESSAGE_PAGE)
#define FLAGS_POSSIBLE                                                                          \
	(FLAGS_REQUIRED | HV_CREATE_PARTITION_SMT_GUEST | HV_CREATE_PARTITION_GPA_SUPER_PAGES | \
	 HV_CREATE_PARTITION_X2APIC_CAPABLE)

uint16_t hypercall_create_partition(struct hypercall *call)
{
	const struct hv_input_create_partition *in = call->input; /* its padding isn't looked at */
	struct hv_output_create_partition *out = call->output;

	if ((in->flags & ~FLAGS_POSSIBLE) || (in->flags & FLAGS_REQUIRED) != FLAGS_REQUIRED)
		return HV_STATUS_INVALID_PARAMETER;
	if (in->isolation_properties)
		return HV_STATUS_FEATURE_UNAVAILABLE;
	return partition_create(call->vp, in, &out->partition_id);
}

/* The child that a call is about; the caller's own partition has no such life. */
static struct partition *child_of(const struct hypercall *call, uint64_t id, uint16_t *status)
{
	struct partition *child = partition_child(call->vp, id, status);

	if (*status == HV_STATUS_ACCESS_DENIED)
		*status = HV_STATUS_OPERATION_DENIED;
	return child;
}

uint16_t hypercall_initialize_partition(struct hypercall *call)
{
	const struct hv_input_partition_id *in = call->input;
	uint16_t status;
	struct partition *child = child_of(call, in->partition_id, &status);

	return child ? partition_initialize(child, call->vp) : status;
}

uint16_t hypercall_finalize_partition(struct hypercall *call)
{
	const struct hv_input_partition_id *in = call->input;
	uint16_t status;
	struct partition *child = child_of(call, in->partition_id, &status);

	return child ? partition_finalize(child, call->vp) : status;
}

uint16_t hypercall_delete_partition(struct hypercall *call)
{
	const struct hv_input_partition_id *in = call->input;
	uint16_t status;
	struct partition *child = child_of(call, in->partition_id, &status);

	return child ? partition_delete(child, call->vp) : status;
}
