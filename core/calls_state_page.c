/* SPDX-License-Identifier: MIT */
/* Hypercalls for the pages in which a parent sees a VP's registers and intercepts ("HvCallMapVpStatePage", "HvCallUnmapVpStatePage"). */
#include <hv/status.h>
#include <hv/vp_state.h>
#include <trivet/hypercall.h>
#include <trivet/intercept.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/vp.h>

/* A VP of a child of the caller's. NULL with the status of the refusal. */
static struct vp *find_vp(struct vp *caller, uint64_t partition_id, uint32_t index, hv_input_vtl vtl,
			  uint16_t *status)
{
	struct partition *partition = partition_child(caller, partition_id, status);
	struct vp *vp;

	if (!partition)
		return NULL;
	if ((vtl & HV_INPUT_VTL_RESERVED) || (vtl & HV_INPUT_VTL_MASK)) {
		*status = HV_STATUS_INVALID_PARAMETER;
		return NULL;
	}
	vp = partition_vp(partition, index);
	if (!vp)
		*status = HV_STATUS_INVALID_VP_INDEX;
	return vp;
}

/* A place of the caller's own choice is for parents that aren't the root. */
uint16_t hypercall_map_vp_state_page(struct hypercall *call)
{
	const struct hv_input_map_vp_state_page *input = call->input;
	struct hv_output_map_vp_state_page *output = call->output;
	uint16_t status;
	struct vp *vp;

	vp = find_vp(call->vp, input->partition_id, input->vp_index, input->input_vtl, &status);
	if (!vp)
		return status;
	if (input->flags)
		return HV_STATUS_INVALID_PARAMETER;
	if (atomic_load_explicit(&vp->partition->state, memory_order_acquire) == PARTITION_FINALIZED)
		return HV_STATUS_INVALID_PARTITION_STATE; /* its end waits for who was here before, and then looks */
	return intercept_map_page(vp, call->vp, input->type, &output->map_gpn);
}

uint16_t hypercall_unmap_vp_state_page(struct hypercall *call)
{
	const struct hv_input_unmap_vp_state_page *input = call->input;
	uint16_t status;
	struct vp *vp;

	vp = find_vp(call->vp, input->partition_id, input->vp_index, input->input_vtl, &status);
	if (!vp)
		return status;
	if (input->reserved)
		return HV_STATUS_INVALID_PARAMETER;
	return intercept_unmap_page(vp, call->vp, input->type);
}
