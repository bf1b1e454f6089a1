/* SPDX-License-Identifier: MIT */
/* Who may act on whom: the one place where a partition id of a caller's becomes a partition. */
#include <hv/types.h>
#include <hv/status.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status)
{
	struct partition *own = caller->partition;

	if ((own->privileges & privilege) != privilege) {
		*status = HV_STATUS_ACCESS_DENIED;
		return NULL;
	}
	/* Whether another's id exists is nobody's business: the same answer for both. */
	if (id != HV_PARTITION_ID_SELF && id != own->id) {
		*status = HV_STATUS_INVALID_PARTITION_ID;
		return NULL;
	}
	*status = HV_STATUS_SUCCESS;
	return own;
}
