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
#include <trivet/partition_vp.h>
#include <trivet/statistics.h>
#include <trivet/vp.h>

static bool is_zero(const uint8_t *bytes, size_t count)
{
	uint8_t any = 0;

	for (size_t i = 0; i < count; i++)
		any |= bytes[i];
	return any == 0;
}

struct found {
	enum statistics_kind kind;
	struct statistics_object *object;
};

static uint16_t find_lp(const struct hypercall *call, const struct hv_stats_identity_lp *identity,
			struct found *found)
{
	if (!is_zero(identity->reserved, sizeof(identity->reserved)) || identity->area != HV_STATS_AREA_SELF)
		return HV_STATUS_INVALID_PARAMETER;
	if (!partition_has_lp(call->partition, identity->lp_index))
		return HV_STATUS_INVALID_LP_INDEX;
	*found = (struct found){ STATISTICS_LP, &call->partition->vps[identity->lp_index]->lp->statistics };
	return HV_STATUS_SUCCESS;
}

/* The caller's own, or a child that has what is counted: before and after that there is nothing to see. */
static struct partition *find_owner(const struct hypercall *call, uint64_t id, uint16_t *status)
{
	struct partition *partition = partition_authority(call->vp, id, HV_PRIVILEGE_ACCESS_STATS, status);

	if (!partition || partition == call->partition || atomic_load(&partition->state) == PARTITION_ACTIVE)
		return partition;
	*status = HV_STATUS_INVALID_PARTITION_STATE;
	return NULL;
}

static uint16_t find_partition(const struct hypercall *call,
			       const struct hv_stats_identity_partition *identity, struct found *found)
{
	struct partition *partition;
	uint16_t status;

	partition = find_owner(call, identity->partition_id, &status);
	if (!partition)
		return status;
	if (!is_zero(identity->reserved, sizeof(identity->reserved)) || identity->area != HV_STATS_AREA_SELF)
		return HV_STATUS_INVALID_PARAMETER;
	*found = (struct found){ STATISTICS_PARTITION, &partition->statistics.object };
	return HV_STATUS_SUCCESS;
}

static uint16_t find_vp(const struct hypercall *call, const struct hv_stats_identity_vp *identity,
			struct found *found)
{
	const struct partition *partition;
	uint16_t status;
	struct vp *vp;

	partition = find_owner(call, identity->partition_id, &status);
	if (!partition)
		return status;
	if (identity->flags || identity->reserved || identity->area != HV_STATS_AREA_SELF)
		return HV_STATUS_INVALID_PARAMETER;
	vp = partition_vp(partition, identity->vp_index);
	if (!vp)
		return HV_STATUS_INVALID_VP_INDEX;
	*found = (struct found){ STATISTICS_VP, &vp->statistics };
	return HV_STATUS_SUCCESS;
}

static uint16_t find_hypervisor(const struct hv_stats_identity_hypervisor *identity, struct found *found)
{
	if (!is_zero(identity->reserved, sizeof(identity->reserved)) || identity->area != HV_STATS_AREA_SELF)
		return HV_STATUS_INVALID_PARAMETER;
	*found = (struct found){ STATISTICS_HYPERVISOR, &statistics_hypervisor };
	return HV_STATUS_SUCCESS;
}

static uint16_t find_object(const struct hypercall *call, struct found *found)
{
	const struct hv_input_map_stats_page *in = call->input; /* both calls have it */
	const union hv_stats_identity *identity = &in->identity;

	/* The machine's counters are for who manages its processors. */
	if (in->object_type < HV_STATS_OBJECT_PARTITION &&
	    !(call->partition->privileges & HV_PRIVILEGE_CPU_MANAGEMENT))
		return HV_STATUS_ACCESS_DENIED;
	switch (in->object_type) {
	case HV_STATS_OBJECT_HYPERVISOR:
		return find_hypervisor(&identity->hypervisor, found);
	case HV_STATS_OBJECT_LOGICAL_PROCESSOR:
		return find_lp(call, &identity->lp, found);
	case HV_STATS_OBJECT_PARTITION:
		return find_partition(call, &identity->partition, found);
	case HV_STATS_OBJECT_VP:
		return find_vp(call, &identity->vp, found);
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
}

uint16_t hypercall_map_stats_page(struct hypercall *call)
{
	struct hv_output_map_stats_page *out = call->output;
	struct found found = { 0 };
	uint16_t status = find_object(call, &found);

	return status ? status : statistics_map(call->vp, found.kind, found.object, &out->map_gpn);
}

uint16_t hypercall_unmap_stats_page(struct hypercall *call)
{
	struct found found = { 0 };
	uint16_t status = find_object(call, &found);

	return status ? status : statistics_unmap(call->vp, found.object);
}
