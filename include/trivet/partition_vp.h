/* SPDX-License-Identifier: MIT */
/* A partition's VP by its index, for those who act on it from outside. */
#ifndef TRIVET_PARTITION_VP_H
#define TRIVET_PARTITION_VP_H

#include <trivet/partition.h>
#include <trivet/vp.h>

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
