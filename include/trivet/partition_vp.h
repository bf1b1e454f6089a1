/* SPDX-License-Identifier: MIT */
/* A child by its number and a partition's VP by its index, for those who act on them from outside. */
#ifndef TRIVET_PARTITION_VP_H
#define TRIVET_PARTITION_VP_H

#include <hv/status.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

/*
 * The child of the caller's partition that a parent's call names: partition_authority() without the caller's own partition. The call's
 * row has the privilege. NULL with the status of the refusal.
 */
static inline struct partition *partition_child(struct vp *caller, uint64_t id, uint16_t *status)
{
	struct partition *partition = partition_authority(caller, id, 0, status);

	if (!partition || partition != caller->partition)
		return partition;
	*status = HV_STATUS_ACCESS_DENIED;
	return NULL;
}

/*
 * NULL: there is none, or it is being deleted. What is found lives until the caller's exit handler ends: who deletes a VP marks it first, and then
 * waits for those who may have found it before (schedule_synchronize()).
 */
static inline struct vp *partition_vp(const struct partition *partition, uint32_t index)
{
	struct vp *vp = NULL;

	if (index < __atomic_load_n(&partition->vp_count, __ATOMIC_ACQUIRE))
		vp = __atomic_load_n(&partition->vps[index], __ATOMIC_ACQUIRE);
	return vp && !(atomic_load_explicit(&vp->holds, memory_order_seq_cst) & VP_HOLD_DEAD) ? vp : NULL;
}

#endif
