/* SPDX-License-Identifier: MIT */
/*
 * Logical processors and VPs of a root (TLFS "HvCallGetLogicalProcessorRunTime", "HvCallAddLogicalProcessor",
 * "HvCallCreateVp", ...). The root counts its processors itself and has VP i run on LP i, so an LP's index is that of
 * its VP. Which processor index i means, the root says with an APIC id when it adds it; until then the firmware's order
 * counts.
 *
 * The firmware started its processors as the bare machine's, and they wait in its code. So a VP is there from the boot
 * on, INIT and start-up IPIs always work, and what the root adds and creates here are the names under which it may use
 * them.
 */
#include <hv/cpuid.h>
#include <hv/root.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <trivet/hypercall.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/run_time.h>
#include <trivet/vp.h>

static bool is_added(const struct vp *vp)
{
	return vp->index == 0 || atomic_load(&vp->lp_added);
}

/* The root's VP on the LP that it numbers `index`; NULL for one that it hasn't added. */
static struct vp *added_vp(const struct partition *partition, uint32_t index)
{
	if (index >= partition->vp_count || !is_added(partition->vps[index]))
		return NULL;
	return partition->vps[index];
}

bool partition_has_lp(const struct partition *partition, uint32_t index)
{
	return added_vp(partition, index) != NULL;
}

uint32_t partition_added_lps(const struct partition *partition)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < partition->vp_count; i++)
		count += is_added(partition->vps[i]);
	return count;
}

/* Linux tells by the status whether it is the first to boot here (INVALID_LP_INDEX), and stops at any other. */
uint16_t hypercall_get_logical_processor_run_time(struct hypercall *call)
{
	const struct hv_input_get_logical_processor_run_time *in = call->input;
	struct hv_output_get_logical_processor_run_time *out = call->output;
	const struct vp *vp = added_vp(call->partition, in->lp_index);

	if (!vp)
		return HV_STATUS_INVALID_LP_INDEX;
	/* In this order: an LP doesn't run for longer than there was time, however long this one is held up in between. */
	out->local_run_time_100ns = tsc_to_100ns(&call->partition->reference_time, lp_run_time_tsc(vp->lp));
	out->global_time_100ns = reference_time_100ns(call->partition);
	return HV_STATUS_SUCCESS;
}

/* No code of the VP runs: its processor never came, or waits for a start-up IPI. */
static bool is_parked(struct vp *vp)
{
	return atomic_load(&vp->lp->state) == LP_OFFLINE ||
	       __atomic_load_n(&vp->state, __ATOMIC_ACQUIRE) == VP_WAIT_SIPI;
}

static bool park(struct vp *vp)
{
	if (is_parked(vp))
		return true;
	if (!(atomic_load(&vp->pending) & VP_PENDING_INIT))
		vp_send_init(vp);
	return false;
}

/*
 * The root counts its processors otherwise than the firmware: the two VPs change places. Neither may run meanwhile, as
 * others walk the table without a lock; so both are sent back to waiting for their start first.
 */
static bool exchange_places(struct partition *partition, struct vp *a, struct vp *b)
{
	uint32_t index = a->index;
	bool parked = park(a);

	if (!park(b) || !parked)
		return false;
	a->index = b->index;
	b->index = index;
	a->lp->trace.vp_index = a->index;
	b->lp->trace.vp_index = b->index;
	partition->vps[a->index] = a;
	partition->vps[b->index] = b;
	return true;
}

uint16_t hypercall_add_logical_processor(struct hypercall *call)
{
	const struct hv_input_add_logical_processor *in = call->input;
	struct partition *partition = call->partition;
	const struct lp *lp = lp_by_apic_id(in->apic_id);
	struct vp *vp, *occupant;
	uint16_t status = HV_STATUS_SUCCESS;

	if (in->lp_index >= partition->vp_count)
		return HV_STATUS_INVALID_LP_INDEX;
	if (!lp || !lp->root_vp || lp->root_vp->partition != partition)
		return HV_STATUS_INVALID_PARAMETER;
	vp = lp->root_vp;
	spin_lock(&partition->space_lock);
	occupant = partition->vps[in->lp_index];
	if (is_added(vp) || is_added(occupant))
		status = HV_STATUS_OBJECT_IN_USE;
	else if (vp == call->vp || (occupant != vp && occupant == call->vp))
		status = HV_STATUS_OPERATION_DENIED; /* it can't be sent back to the start */
	else if (occupant != vp && !exchange_places(partition, vp, occupant))
		status = HYPERCALL_RESTART;
	else
		atomic_store(&vp->lp_added, true);
	spin_unlock(&partition->space_lock);
	return status; /* the start-up status that goes out is 0: started */
}

uint16_t hypercall_create_vp(struct hypercall *call)
{
	const struct hv_input_create_vp *in =
		call->input; /* Linux leaves all but these three fields undefined */
	struct partition *partition;
	uint16_t status;
	struct vp *vp;

	partition = partition_authority(call->vp, in->partition_id, HV_PRIVILEGE_CPU_MANAGEMENT, &status);
	if (!partition)
		return status;
	if (!partition_is_root(partition))
		return partition_create_vp(partition, in->vp_index);
	if (in->vp_index >= partition->vp_count || in->vp_index == 0)
		return HV_STATUS_INVALID_VP_INDEX;
	vp = added_vp(partition, in->vp_index);
	if (!vp || in->flags != in->vp_index)
		return HV_STATUS_INVALID_LP_INDEX;
	if (vp == call->vp || atomic_exchange(&vp->created, true))
		return HV_STATUS_INVALID_VP_INDEX;
	/* It leaves the firmware's code and waits for the root's start-up IPI. */
	if (atomic_load(&vp->lp->state) != LP_OFFLINE)
		vp_send_init(vp);
	return HV_STATUS_SUCCESS;
}

/* A root's VPs are its machine's processors: only a parent deletes VPs, and the root has none. */
uint16_t hypercall_delete_vp(struct hypercall *call)
{
	const struct hv_input_delete_vp *in = call->input;
	uint16_t status;
	struct partition *partition = partition_authority(call->vp, in->partition_id, 0, &status);

	if (!partition)
		return status;
	return partition_is_root(partition) ? HV_STATUS_ACCESS_DENIED :
					      partition_delete_vp(partition, call->vp, in->vp_index);
}

uint16_t hypercall_notify_partition_event(struct hypercall *call)
{
	const struct hv_input_notify_partition_event *in = call->input;
	static struct log_ratelimit bucket;

	switch (in->event) {
	case HV_PARTITION_EVENT_ALL_LOGICAL_PROCESSORS_STARTED:
		log_vp_ratelimited(&bucket, LOG_INFO, call->partition->id, call->vp->index,
				   "counts %u logical processors", partition_added_lps(call->partition));
		return HV_STATUS_SUCCESS;
	case HV_PARTITION_EVENT_ROOT_CRASH_DUMP:
		return HV_STATUS_OPERATION_DENIED; /* it was told that there is no area for one */
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
}
