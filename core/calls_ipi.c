/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls between a guest's processors: interrupts to many VPs in one exit (TLFS "HvCallSendSyntheticClusterIpi", "...Ex"), the
 * hint that one waits for another (TLFS "HvCallNotifyLongSpinWait"), and VP indexes by local APIC id.
 */
#include <hv/flush.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>
#include <trivet/vp_set.h>

/* There is one trust level, 0: named, or not. */
static bool is_own_vtl(hv_input_vtl vtl)
{
	return (vtl & ~HV_INPUT_VTL_USE_TARGET) == 0;
}

/* What TLFS calls padding is ignored. */
static bool may_send(uint32_t vector, hv_input_vtl vtl)
{
	return vector >= HV_IPI_LOWEST_VECTOR && vector <= HV_IPI_HIGHEST_VECTOR && is_own_vtl(vtl);
}

static uint16_t send(struct hypercall *call, const struct vp_set *set, uint8_t vector)
{
	struct vp_set_cursor cursor = vp_set_begin(set);
	struct vp *sender = call->vp;
	struct vp *target;
	uint64_t sent = 0;

	while ((target = vp_set_next(set, call->partition, &cursor))) {
		/* A processor whose local APIC is off, or that never came in, takes none. */
		if (unlikely(!(target->apic.base & APIC_BASE_EN)))
			continue;
		vp_send_fixed(target, sender, vector);
		sent++;
	}
	sender->ipi_calls++;
	sender->ipis_sent += sent;
	return HV_STATUS_SUCCESS;
}

uint16_t hypercall_send_synthetic_cluster_ipi(struct hypercall *call)
{
	const struct hv_input_send_synthetic_cluster_ipi *input = call->input;
	struct vp_set set;

	if (!may_send(input->vector, input->target_vtl))
		return HV_STATUS_INVALID_PARAMETER;
	vp_set_from_mask(&set, call->partition, input->processor_mask);
	return send(call, &set, (uint8_t)input->vector);
}

uint16_t hypercall_send_synthetic_cluster_ipi_ex(struct hypercall *call)
{
	const struct hv_input_send_synthetic_cluster_ipi_ex *input = call->input;
	struct vp_set set;
	uint16_t status;

	if (!may_send(input->vector, input->target_vtl))
		return HV_STATUS_INVALID_PARAMETER;
	status = vp_set_decode(&set, call->partition, &input->vp_set, call->var_header_qwords);
	return status ? status : send(call, &set, (uint8_t)input->vector);
}

/* Advice; it never fails. Who has the lock that the VP spins for may be waiting for this LP. */
uint16_t hypercall_notify_long_spin_wait(struct hypercall *call)
{
	call->vp->long_spin_waits++;
	schedule_yield(call->vp);
	return HV_STATUS_SUCCESS;
}

/*
 * TLFS "HvCallGetVpIndexFromApicId" pads the elements of both lists to 8 bytes in its tables; its callers (Linux, OpenVMM's guests)
 * pass 4 bytes each, as its prototype has them.
 */
uint16_t hypercall_get_vp_index_from_apic_id(struct hypercall *call)
{
	const struct hv_input_get_vp_index_from_apic_id *input = call->input;
	const uint32_t *apic_ids = call->rep_input;
	uint32_t *indexes = call->rep_output;
	struct partition *partition;
	uint16_t status;

	partition = partition_authority(call->vp, input->partition_id, 0, &status);
	if (!partition)
		return status;
	if (!is_own_vtl(input->target_vtl))
		return HV_STATUS_INVALID_PARAMETER;
	for (; call->reps_done < call->rep_count; call->reps_done++) {
		const struct vp *vp = vp_by_apic_id(partition, apic_ids[call->reps_done]);

		if (!vp)
			return HV_STATUS_INVALID_PARAMETER;
		indexes[call->reps_done] = vp->index;
	}
	return HV_STATUS_SUCCESS;
}
