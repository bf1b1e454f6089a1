/* SPDX-License-Identifier: MIT */
/* partition_authority() in a machine with one partition, for tests of calls that a partition makes about itself. */
#ifndef TRIVET_TESTS_AUTHORITY_FAKE_H
#define TRIVET_TESTS_AUTHORITY_FAKE_H

#include <hv/status.h>
#include <hv/types.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status)
{
	struct partition *own = caller->partition;

	if ((own->privileges & privilege) != privilege)
		*status = HV_STATUS_ACCESS_DENIED;
	else if (id != HV_PARTITION_ID_SELF && id != own->id)
		*status = HV_STATUS_INVALID_PARTITION_ID;
	else
		*status = HV_STATUS_SUCCESS;
	return *status == HV_STATUS_SUCCESS ? own : NULL;
}

#endif
