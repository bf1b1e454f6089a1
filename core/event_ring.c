/* SPDX-License-Identifier: MIT */
/*
 * Event rings (TLFS "Event Log"'s neighbour in the SynIC: SIRBP): where a parent finds which doorbells were rung, a ring of 63 port numbers for each
 * SINT. The hypervisor writes at its own head, the guest empties what it has read and follows behind. 0 is empty, so a place that isn't 0 at
 * the head means that all are taken: then `ring_full` says so, and what rang waits here for HvCallNotifyPortRingEmpty.
 *
 * The guest masks the signal while it reads. Unmasking, it looks once more for what came in between; here the number comes first and then the look
 * at the mask, both with a fence between, so one of the two sees the other. The same way with ring_full.
 *
 * The rings are the LP's that runs the VP: doorbells of others come through the inbox.
 */
#include <hv/msr.h>
#include <hv/synic.h>
#include <string.h>
#include <trivet/event_ring.h>
#include <trivet/overlay.h>
#include <trivet/port.h>
#include <trivet/synic.h>
#include <trivet/vp.h>

static struct hv_event_ring *ring_of(struct vp *vp, unsigned int sint)
{
	struct hv_event_ring_page *page = overlay_content(&vp->synic.ring_page);

	return &page->sint[sint];
}

static struct port *port_of(struct synic_message *message)
{
	return container_of(message, struct port, link);
}

bool event_ring_is_ready(const struct vp *vp)
{
	return overlay_enabled(&vp->synic.ring_page) && !synic_takes_messages(vp);
}

static bool has_room(struct vp *vp, unsigned int sint)
{
	struct hv_event_ring *ring = ring_of(vp, sint);
	uint32_t *place = &ring->port_id[vp->synic.ring_head[sint]];

	if (!__atomic_load_n(place, __ATOMIC_ACQUIRE))
		return true;
	__atomic_store_n(&ring->ring_full, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return !__atomic_load_n(place, __ATOMIC_ACQUIRE);
}

static void signal(struct vp *vp, unsigned int sint)
{
	struct synic *synic = &vp->synic;
	uint64_t value = atomic_load_explicit(&synic->sint[sint], memory_order_relaxed);

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&ring_of(vp, sint)->signal_masked, __ATOMIC_ACQUIRE))
		return;
	if (!(value & HV_SINT_AS_INTERCEPT)) {
		if (!(value & (HV_SINT_MASKED | HV_SINT_POLLING)))
			vp_send_fixed(vp, vp, (uint8_t)(value & HV_SINT_VECTOR_MASK));
		return;
	}
	synic->ring_sints |= (uint16_t)(1u << sint);
	if (synic->ring_message.queued)
		return;
	synic->ring_message.sint = HV_SINT_INTERCEPTS;
	synic->ring_message.sender = SYNIC_RING;
	synic_queue(vp, &synic->ring_message);
}

/* Its number goes into the ring; first it is given back, so that it can ring again when the guest sees it. */
static void write(struct vp *vp, struct synic_message *message)
{
	unsigned int sint = message->sint;
	uint32_t id = port_bell_put(port_of(message));
	uint8_t *head = &vp->synic.ring_head[sint];

	if (!id) /* deleted */
		return;
	__atomic_store_n(&ring_of(vp, sint)->port_id[*head], id, __ATOMIC_RELEASE);
	*head = (uint8_t)((*head + 1) % HV_EVENT_RING_ENTRIES);
	signal(vp, sint);
}

/* In their order: a full ring holds up all, which are mostly of one SINT anyway. */
static void write_waiting(struct vp *vp)
{
	struct synic_queue *bells = &vp->synic.bells;
	struct synic_message *message;

	while ((message = bells->first) && has_room(vp, message->sint)) {
		bells->first = message->next;
		if (!bells->first)
			bells->last = NULL;
		write(vp, message);
	}
}

void event_ring_add(struct vp *vp, struct synic_message *message)
{
	struct synic_queue *bells = &vp->synic.bells;

	if (!overlay_enabled(&vp->synic.ring_page)) {
		(void)port_bell_put(port_of(message));
		return;
	}
	message->next = NULL;
	if (bells->last)
		bells->last->next = message;
	else
		bells->first = message;
	bells->last = message;
	write_waiting(vp);
}

void event_ring_emptied(struct vp *vp)
{
	if (overlay_enabled(&vp->synic.ring_page))
		write_waiting(vp);
}

void event_ring_drop(struct vp *vp)
{
	struct synic_queue *bells = &vp->synic.bells;
	struct synic_message *message;

	while ((message = bells->first)) {
		bells->first = message->next;
		(void)port_bell_put(port_of(message));
	}
	bells->last = NULL;
	vp->synic.ring_sints = 0;
}

void event_ring_restart(struct vp *vp)
{
	memset(overlay_content(&vp->synic.ring_page), 0, sizeof(struct hv_event_ring_page));
	memset(vp->synic.ring_head, 0, sizeof(vp->synic.ring_head));
	event_ring_drop(vp);
	if (vp->synic.ring_message.queued) /* it would be about no ring */
		synic_unqueue(vp, &vp->synic.ring_message);
}

bool event_ring_fill_message(struct vp *vp, struct hv_message *message)
{
	uint16_t *sints = &vp->synic.ring_sints;
	const struct hv_sint_intercept_message payload = { .sint_index = (uint32_t)__builtin_ctz(*sints) };

	*sints &= (uint16_t)(*sints - 1);
	message->type = HV_MESSAGE_SYNIC_SINT_INTERCEPT;
	message->sender = 0; /* no partition's */
	message->payload_bytes = sizeof(payload);
	memcpy(&message->payload, &payload, sizeof(payload));
	return *sints;
}
