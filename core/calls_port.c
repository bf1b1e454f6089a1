/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls that make and remove ports and connections (TLFS "HvCallCreatePort", "HvCallConnectPort", "HvCallDeletePort",
 * "HvCallDisconnectPort"), for the caller's own partition or one it has authority over.
 */
#include <hv/port.h>
#include <hv/status.h>
#include <trivet/doorbell.h>
#include <trivet/event_ring.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/port.h>
#include <trivet/vp.h>

/* What a port is to be, in order or HV_STATUS_INVALID_PARAMETER, HV_STATUS_INVALID_VP_INDEX. SINT 0 is the hypervisor's own. */
static uint16_t read_info(const struct partition *partition, const struct hv_port_info *info,
			  struct port_target *target)
{
	bool is_event = info->port_type == HV_PORT_TYPE_EVENT;

	if (info->port_type != HV_PORT_TYPE_MESSAGE && info->port_type != HV_PORT_TYPE_DOORBELL && !is_event)
		return HV_STATUS_INVALID_PARAMETER;
	if (info->padding || info->reserved || info->target_sint == 0 || info->target_sint >= HV_SINT_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	if (!is_event && (info->base_flag_number || info->flag_count))
		return HV_STATUS_INVALID_PARAMETER;
	if (is_event && (info->flag_count == 0 ||
			 info->base_flag_number + info->flag_count > (int)HV_EVENT_FLAGS_PER_SINT))
		return HV_STATUS_INVALID_PARAMETER;
	if (info->target_vp != HV_VP_INDEX_ANY && !partition_vp(partition, info->target_vp))
		return HV_STATUS_INVALID_VP_INDEX;
	*target = (struct port_target){
		.type = (uint8_t)info->port_type,
		.sint = (uint8_t)info->target_sint,
		.base_flag = info->base_flag_number,
		.flag_count = info->flag_count,
		.vp_index = info->target_vp,
	};
	return HV_STATUS_SUCCESS;
}

/* The caller's own, or a child of its that isn't at its end. NULL with the status of the refusal. */
static struct partition *find_partition(struct vp *caller, uint64_t id, uint16_t *status)
{
	struct partition *partition = partition_authority(caller, id, 0, status);

	if (partition &&
	    atomic_load_explicit(&partition->state, memory_order_acquire) == PARTITION_FINALIZED) {
		*status = HV_STATUS_INVALID_PARTITION_STATE;
		return NULL;
	}
	return partition;
}

uint16_t hypercall_create_port(struct hypercall *call)
{
	const struct hv_input_create_port *input = call->input;
	struct partition *partition, *connector = NULL;
	struct port_target target;
	uint16_t status;

	partition = find_partition(call->vp, input->port_partition_id, &status);
	if (!partition)
		return status;
	if (input->connection_partition_id) {
		connector = find_partition(call->vp, input->connection_partition_id, &status);
		if (!connector)
			return status;
	}
	if (input->port_vtl || input->min_connection_vtl || input->padding)
		return HV_STATUS_INVALID_PARAMETER;
	status = read_info(partition, &input->port_info, &target);
	if (status)
		return status;
	return port_create(partition, input->port_id, &target, connector ? connector->id : 0);
}

uint16_t hypercall_delete_port(struct hypercall *call)
{
	const struct hv_input_delete_port *input = call->input;
	struct partition *partition;
	uint16_t status;

	partition = partition_authority(call->vp, input->port_partition_id, 0, &status);
	if (!partition)
		return status;
	if (input->reserved)
		return HV_STATUS_INVALID_PARAMETER;
	return port_delete(partition, input->port_id);
}

uint16_t hypercall_connect_port(struct hypercall *call)
{
	const struct hv_input_connect_port *input = call->input;
	struct partition *partition, *owner;
	uint16_t status;

	partition = find_partition(call->vp, input->connection_partition_id, &status);
	if (!partition)
		return status;
	owner = find_partition(call->vp, input->port_partition_id, &status);
	if (!owner)
		return status;
	if (input->connection_vtl || input->reserved0 || input->reserved1 || input->reserved2)
		return HV_STATUS_INVALID_PARAMETER;
	/* Whoever goes first, the connection has to go with it: that is seen to between parent and child. */
	if (partition != owner && partition->parent != owner && owner->parent != partition)
		return HV_STATUS_ACCESS_DENIED;
	switch (input->connection_info.port_type) {
	case HV_PORT_TYPE_MESSAGE:
	case HV_PORT_TYPE_EVENT:
		return port_connect(partition, input->connection_id, owner, input->port_id,
				    (uint8_t)input->connection_info.port_type);
	case HV_PORT_TYPE_DOORBELL:
		return doorbell_connect(partition, input->connection_id, owner, input->port_id,
					&input->connection_info);
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
}

uint16_t hypercall_disconnect_port(struct hypercall *call)
{
	const struct hv_input_disconnect_port *input = call->input;
	struct partition *partition;
	uint16_t status;

	partition = partition_authority(call->vp, input->connection_partition_id, 0, &status);
	if (!partition)
		return status;
	if (input->flags & ~HV_DISCONNECT_PORT_IS_DOORBELL)
		return HV_STATUS_INVALID_PARAMETER;
	/* A doorbell's is another kind of connection, with numbers of its own. */
	return input->flags ? doorbell_disconnect(partition, input->connection_id) :
			      port_disconnect(partition, input->connection_id);
}

uint16_t hypercall_notify_port_ring_empty(struct hypercall *call)
{
	const struct hv_input_notify_port_ring_empty *input = call->input;

	if (input->reserved || input->sint_index >= HV_SINT_COUNT)
		return HV_STATUS_INVALID_PARAMETER;
	event_ring_emptied(call->vp);
	return HV_STATUS_SUCCESS;
}
