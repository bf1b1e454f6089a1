/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls that send: a message or an event through a connection (TLFS "HvCallPostMessage", "HvCallSignalEvent"), and past the
 * ports to a VP by its index (TLFS "HvCallSignalEventDirect"). The statuses are in the order in which the TLFS lists them: connection,
 * port, parameters, buffers, VP, SynIC.
 */
#include <hv/port.h>
#include <hv/status.h>
#include <hv/synic.h>
#include <string.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/port.h>
#include <trivet/synic.h>
#include <trivet/vp.h>

static uint16_t takes(const struct vp *vp, const struct port_target *target)
{
	return target->type == HV_PORT_TYPE_EVENT ? synic_takes_events(vp, target->sint) :
						    synic_takes_messages(vp);
}

/* Of any VP: the sender itself when it is one of them, or the one that is run on its LP, then the first that takes it. */
static struct vp *choose_vp(const struct partition *partition, struct vp *sender,
			    const struct port_target *target)
{
	struct vp *here = sender->partition == partition ? sender : sender->lp->root_vp;

	if (here && here->partition == partition && takes(here, target) == HV_STATUS_SUCCESS)
		return here;
	for (uint32_t i = 0; i < partition->vp_count; i++) {
		struct vp *vp = partition_vp(partition, i);

		if (vp && takes(vp, target) == HV_STATUS_SUCCESS)
			return vp;
	}
	return NULL;
}

static uint16_t find_vp(const struct partition *partition, struct vp *sender,
			const struct port_target *target, struct vp **vp)
{
	if (target->vp_index == HV_VP_INDEX_ANY) {
		*vp = choose_vp(partition, sender, target);
		return *vp ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_SYNIC_STATE;
	}
	*vp = partition_vp(partition, target->vp_index);
	return *vp ? takes(*vp, target) : HV_STATUS_INVALID_VP_INDEX;
}

static void write_buffer(struct port_buffer *buffer, const struct port_target *target, uint32_t port_id,
			 const struct hv_input_post_message *input)
{
	buffer->message.type = input->message_type;
	buffer->message.payload_bytes = (uint8_t)input->payload_bytes;
	buffer->message.sender = port_id;
	memcpy(&buffer->message.payload, input->payload, input->payload_bytes);
	buffer->link.sint = target->sint;
}

uint16_t hypercall_post_message(struct hypercall *call)
{
	const struct hv_input_post_message *input = call->input;
	struct port_buffer *buffer;
	struct port_target target;
	struct port *port;
	uint64_t generation;
	struct vp *vp;
	uint16_t status;

	status = port_lookup(call->partition, input->connection_id, HV_PORT_TYPE_MESSAGE, &port, &target,
			     &generation);
	if (status)
		return status;
	if (input->reserved || input->message_type == HV_MESSAGE_NONE ||
	    (input->message_type & HV_MESSAGE_HYPERVISOR_BIT) ||
	    input->payload_bytes > HV_MESSAGE_PAYLOAD_BYTES)
		return HV_STATUS_INVALID_PARAMETER;
	status = port_buffer_get(port, generation, &buffer);
	if (status)
		return status;
	status = find_vp(port->partition, call->vp, &target, &vp);
	if (status) {
		port_buffer_put(buffer);
		return status;
	}
	write_buffer(buffer, &target, port->id, input);
	synic_post(vp, call->vp, &buffer->link);
	return HV_STATUS_SUCCESS;
}

uint16_t hypercall_signal_event(struct hypercall *call)
{
	const struct hv_input_signal_event *input = call->input;
	struct port_target target;
	struct port *port;
	uint64_t generation;
	struct vp *vp;
	uint16_t status;
	bool newly;

	status = port_lookup(call->partition, input->connection_id, HV_PORT_TYPE_EVENT, &port, &target,
			     &generation);
	if (status)
		return status;
	if (input->reserved || input->flag_number >= target.flag_count)
		return HV_STATUS_INVALID_PARAMETER;
	status = find_vp(port->partition, call->vp, &target, &vp);
	if (status)
		return status;
	return synic_signal(vp, call->vp, target.sint, target.base_flag + (unsigned int)input->flag_number,
			    &newly);
}

uint16_t hypercall_signal_event_direct(struct hypercall *call)
{
	const struct hv_input_signal_event_direct *input = call->input;
	struct hv_output_signal_event_direct *output = call->output;
	struct partition *partition;
	bool newly = false;
	uint16_t status;
	struct vp *vp;

	partition = partition_authority(call->vp, input->partition_id, 0, &status);
	if (!partition)
		return status;
	if ((input->vtl & ~HV_INPUT_VTL_USE_TARGET) || input->sint >= HV_SINT_COUNT ||
	    input->flag_number >= HV_EVENT_FLAGS_PER_SINT)
		return HV_STATUS_INVALID_PARAMETER;
	vp = partition_vp(partition, input->vp_index);
	if (!vp)
		return HV_STATUS_INVALID_VP_INDEX;
	status = synic_signal(vp, call->vp, input->sint, input->flag_number, &newly);
	output->newly_signaled = newly;
	return status;
}

/*
 * Right into the slot, or not at all: a caller that is refused asks for a notification (HV_REGISTER_DELIVERABILITY_NOTIFICATIONS). The VP is stopped for
 * it: slots are its own LP's.
 */
uint16_t hypercall_post_message_direct(struct hypercall *call)
{
	const struct hv_input_post_message_direct *input = call->input;
	struct partition *partition;
	struct hv_message posted;
	uint16_t status;
	struct vp *vp;

	partition = partition_authority(call->vp, input->partition_id, 0, &status);
	if (!partition)
		return status;
	memcpy(&posted, input->message, sizeof(posted));
	if ((input->vtl & ~HV_INPUT_VTL_USE_TARGET) || input->sint >= HV_SINT_COUNT ||
	    posted.type == HV_MESSAGE_NONE || posted.payload_bytes > HV_MESSAGE_PAYLOAD_BYTES)
		return HV_STATUS_INVALID_PARAMETER;
	vp = partition_vp(partition, input->vp_index);
	if (!vp)
		return HV_STATUS_INVALID_VP_INDEX;
	if (vp == call->vp)
		return synic_deliver_direct(vp, input->sint, &posted);
	if (partition == call->partition)
		return HV_STATUS_INVALID_VP_STATE;
	vp_borrow(vp, call->vp);
	status = synic_deliver_direct(vp, input->sint, &posted);
	vp_return(vp);
	return status;
}
