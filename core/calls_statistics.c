/* SPDX-License-Identifier: MIT */
/*
 * TLFS "HvCallMapStatsPage" and "HvCallUnmapStatsPage": which object a page is to be about. There are no separate
 * counters for a parent's eyes: INVALID_PARAMETER for that area tells the caller to use the object's own.
 */
#include <hv/cpuid.h>
#include <hv/stats.h>
#include <hv/status.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/statistics.h>
#include <trivet/vp.h>

static bool is_zero(const uint8_t *bytes, size_t count)
{
	uint8_t any = 0;

	for (size_t i = 0; i < count; i++)
		any |= bytes[i];
	return any == 0;
}

static uint16_t find_lp(const struct hypercall *call, const struct hv_stats_identity_lp *identity,
			uint32_t *object)
{
	if (!is_zero(identity->reserved, sizeof(identity->reserved)) || identity->area != HV_STATS_AREA_SELF)
		return HV_STATUS_INVALID_PARAMETER;
	if (!partition_has_lp(call->partition, identity->lp_index))
		return HV_STATUS_INVALID_LP_INDEX;
	*object = STATISTICS_LP(identity->lp_index);
	return HV_STATUS_SUCCESS;
}

static uint16_t find_partition(const struct hypercall *call,
			       const struct hv_stats_identity_partition *identity, uint32_t *object)
{
	uint16_t status;

	if (!partition_authority(call->vp, identity->partition_id, HV_PRIVILEGE_ACCESS_STATS, &status))
		return status;
	if (!is_zero(identity->reserved, sizeof(identity->reserved)) || identity->area != HV_STATS_AREA_SELF)
		return HV_STATUS_INVALID_PARAMETER;
	*object = STATISTICS_PARTITION;
	return HV_STATUS_SUCCESS;
}

static uint16_t find_vp(const struct hypercall *call, const struct hv_stats_identity_vp *identity,
			uint32_t *object)
{
	const struct partition *partition;
	uint16_t status;

	partition = partition_authority(call->vp, identity->partition_id, HV_PRIVILEGE_ACCESS_STATS, &status);
	if (!partition)
		return status;
	if (identity->flags || identity->reserved || identity->area != HV_STATS_AREA_SELF)
		return HV_STATUS_INVALID_PARAMETER;
	if (identity->vp_index >= partition->vp_count)
		return HV_STATUS_INVALID_VP_INDEX;
	*object = STATISTICS_VP(identity->vp_index);
	return HV_STATUS_SUCCESS;
}

static uint16_t find_object(const struct hypercall *call, uint32_t *object)
{
	const struct hv_input_map_stats_page *in = call->input; /* both calls have it */
	const union hv_stats_identity *identity = &in->identity;

	/* The machine's counters are for who manages its processors. */
	if (in->object_type < HV_STATS_OBJECT_PARTITION &&
	    !(call->partition->privileges & HV_PRIVILEGE_CPU_MANAGEMENT))
		return HV_STATUS_ACCESS_DENIED;
	switch (in->object_type) {
	case HV_STATS_OBJECT_HYPERVISOR:
		*object = STATISTICS_HYPERVISOR;
		return is_zero(identity->hypervisor.reserved, sizeof(identity->hypervisor.reserved)) &&
				       identity->hypervisor.area == HV_STATS_AREA_SELF ?
			       HV_STATUS_SUCCESS :
			       HV_STATUS_INVALID_PARAMETER;
	case HV_STATS_OBJECT_LOGICAL_PROCESSOR:
		return find_lp(call, &identity->lp, object);
	case HV_STATS_OBJECT_PARTITION:
		return find_partition(call, &identity->partition, object);
	case HV_STATS_OBJECT_VP:
		return find_vp(call, &identity->vp, object);
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
}

uint16_t hypercall_map_stats_page(struct hypercall *call)
{
	struct hv_output_map_stats_page *out = call->output;
	uint32_t object;
	uint16_t status = find_object(call, &object);

	return status ? status : statistics_map(call->vp, object, &out->map_gpn);
}

uint16_t hypercall_unmap_stats_page(struct hypercall *call)
{
	uint32_t object;
	uint16_t status = find_object(call, &object);

	return status ? status : statistics_unmap(call->vp, object);
}
