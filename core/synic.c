/* SPDX-License-Identifier: MIT */
/*
 * The SynIC's messages and event flags: from an inbox into a queue, from a queue into the slot of the message page, and the SINT's
 * interrupt. The guest owns what is in the pages and may write there at any time: the only thing ever read back is
 * whether a slot's type is 0, and the flag that is asked of a word when it is set.
 */
#include <hv/msr.h>
#include <hv/status.h>
#include <string.h>
#include <trivet/apic.h>
#include <trivet/copy.h>
#include <trivet/event_ring.h>
#include <trivet/intercept.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/port.h>
#include <trivet/synic.h>
#include <trivet/synthetic_timer.h>
#include <trivet/vp.h>

#define DELIVERABLE (SYNIC_READY_ENABLED | SYNIC_READY_MESSAGES)
#define SIGNALABLE (SYNIC_READY_ENABLED | SYNIC_READY_EVENTS)

static uint64_t sint_of(const struct synic *synic, unsigned int sint)
{
	return atomic_load_explicit(&synic->sint[sint], memory_order_relaxed);
}

/* TLFS "SINTx Registers": polling is as unmasked, without the interrupt. */
static bool interrupts(uint64_t sint)
{
	return !(sint & (HV_SINT_MASKED | HV_SINT_POLLING));
}

/* ---- Queues, on the VP's own LP ---- */

void synic_update_apic(struct vp *vp)
{
	struct synic *synic = &vp->synic;
	uint32_t automatic[8] = { 0 }, reported[8] = { 0 };

	for (unsigned int i = 0; i < HV_SINT_COUNT; i++) {
		uint64_t sint = sint_of(synic, i);
		unsigned int vector = sint & HV_SINT_VECTOR_MASK;

		if (!interrupts(sint))
			continue;
		if (sint & HV_SINT_AUTO_EOI)
			automatic[vector / 32] |= 1u << vector % 32;
		if (synic->queued >> i & 1)
			reported[vector / 32] |= 1u << vector % 32;
	}
	apic_set_eoi_rules(&vp->apic, automatic, reported);
	vp_post_self(vp, VP_PENDING_EVENT);
}

static void enqueue(struct vp *vp, struct synic_message *message)
{
	struct synic *synic = &vp->synic;
	struct synic_queue *queue = &synic->queue[message->sint];

	message->next = NULL;
	message->previous = queue->last;
	message->queued = true;
	if (queue->last)
		queue->last->next = message;
	else
		queue->first = message;
	queue->last = message;
	synic->queued |= 1u << message->sint;
}

static void dequeue(struct vp *vp, struct synic_message *message)
{
	struct synic *synic = &vp->synic;
	struct synic_queue *queue = &synic->queue[message->sint];

	if (message->previous)
		message->previous->next = message->next;
	else
		queue->first = message->next;
	if (message->next)
		message->next->previous = message->previous;
	else
		queue->last = message->previous;
	message->queued = false;
	if (!queue->first)
		synic->queued &= ~(1u << message->sint);
}

static struct port_buffer *buffer_of(struct synic_message *message)
{
	return container_of(message, struct port_buffer, link);
}

static bool is_dead(struct synic_message *message)
{
	switch (message->sender) {
	case SYNIC_PORT:
		return port_buffer_is_dead(buffer_of(message));
	case SYNIC_INTERCEPT:
		return intercept_is_dead(message);
	default:
		return false;
	}
}

/* From here on it is its sender's, who may send it again. */
static void give_back(struct synic_message *message)
{
	if (message->sender == SYNIC_PORT)
		port_buffer_put(buffer_of(message));
	else if (message->sender == SYNIC_INTERCEPT)
		intercept_take_message(message, NULL);
}

/* ---- Delivery ---- */

/*
 * Free, or marked so that the guest writes EOM when it has freed it. The guest frees first and looks at the mark then, so
 * a slot that is still taken after the mark was made will be followed by EOM.
 */
static bool slot_is_free(struct hv_message *slot)
{
	if (__atomic_load_n(&slot->type, __ATOMIC_ACQUIRE) == HV_MESSAGE_NONE)
		return true;
	__atomic_fetch_or(&slot->flags, HV_MESSAGE_FLAG_PENDING, __ATOMIC_SEQ_CST);
	return __atomic_load_n(&slot->type, __ATOMIC_SEQ_CST) == HV_MESSAGE_NONE;
}

/* The type last: with it the slot is the guest's. */
static void fill_slot(struct hv_message *slot, const struct hv_message *message, bool more)
{
	copy_few(&slot->payload, &message->payload, message->payload_bytes);
	slot->sender = message->sender;
	slot->payload_bytes = message->payload_bytes;
	slot->reserved = 0;
	__atomic_store_n(&slot->flags, more ? HV_MESSAGE_FLAG_PENDING : 0, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->type, message->type, __ATOMIC_RELEASE);
}

/* Into the slot, and the buffer back to its sender. Not in a queue any more. */
static void write_message(struct vp *vp, struct synic_message *message, struct hv_message *slot, bool more)
{
	struct hv_message made;

	switch (message->sender) {
	case SYNIC_PORT:
		fill_slot(slot, &buffer_of(message)->message, more);
		give_back(message);
		break;
	case SYNIC_TIMER:
		stimer_fill_message(vp, message, &made);
		fill_slot(slot, &made, more);
		break;
	case SYNIC_INTERCEPT:
		/* The other way round: who sees it in the slot may have the VP run to its next intercept at once. */
		intercept_take_message(message, &made);
		fill_slot(slot, &made, more);
		break;
	case SYNIC_RING:
		if (event_ring_fill_message(vp, &made)) {
			enqueue(vp, message);
			more = true;
		}
		fill_slot(slot, &made, more);
		break;
	default:
		break;
	}
}

/* The first message of a queue, if its slot is free. One is all that fits: the guest's EOM asks for the next. */
static void deliver(struct vp *vp, unsigned int sint)
{
	struct synic *synic = &vp->synic;
	struct hv_message_page *page = overlay_content(&synic->message_page);
	uint64_t value = sint_of(synic, sint);
	struct synic_message *message;
	bool more;

	while ((message = synic->queue[sint].first) && is_dead(message)) {
		dequeue(vp, message);
		give_back(message);
	}
	if (!message ||
	    (atomic_load_explicit(&synic->ready, memory_order_relaxed) & DELIVERABLE) != DELIVERABLE ||
	    !slot_is_free(&page->slot[sint]))
		return;
	more = message->next != NULL;
	dequeue(vp, message);
	write_message(vp, message, &page->slot[sint], more);
	if (interrupts(value))
		vp_send_fixed(vp, vp, (uint8_t)(value & HV_SINT_VECTOR_MASK));
}

/* What waited before and after: the end of an interrupt is only worth an exit while something waits. */
static void note_queued(struct vp *vp, uint32_t before)
{
	if (vp->synic.queued != before)
		synic_update_apic(vp);
}

/* Tells the parent which of the SINTs that it waits for would take a message now. While it has another intercept to answer, that comes first. */
static void report_deliverable(struct vp *vp)
{
	struct synic *synic = &vp->synic;
	struct hv_message_page *page = overlay_content(&synic->message_page);
	uint16_t sints = 0;

	if ((atomic_load_explicit(&synic->ready, memory_order_relaxed) & DELIVERABLE) != DELIVERABLE)
		return;
	for (uint32_t left = synic->wanted & ~synic->queued; left; left &= left - 1) {
		unsigned int sint = (unsigned int)__builtin_ctz(left);

		if (slot_is_free(&page->slot[sint]))
			sints |= (uint16_t)(1u << sint);
	}
	if (sints && intercept_sint_deliverable(vp, sints))
		synic->wanted &= (uint16_t)~sints;
}

void synic_deliver_queued(struct vp *vp)
{
	uint32_t before = vp->synic.queued;

	for (uint32_t left = before; left; left &= left - 1)
		deliver(vp, (unsigned int)__builtin_ctz(left));
	note_queued(vp, before);
	if (unlikely(vp->synic.wanted))
		report_deliverable(vp);
}

void synic_want_deliverable(struct vp *vp, uint16_t sints)
{
	vp->synic.wanted = sints;
	if (sints)
		report_deliverable(vp);
}

uint16_t synic_deliver_direct(struct vp *vp, unsigned int sint, const struct hv_message *message)
{
	struct hv_message_page *page = overlay_content(&vp->synic.message_page);
	uint64_t value = sint_of(&vp->synic, sint);
	uint16_t status = synic_takes_messages(vp);

	if (status)
		return status;
	if ((vp->synic.queued >> sint & 1) || !slot_is_free(&page->slot[sint]))
		return HV_STATUS_INSUFFICIENT_BUFFERS;
	fill_slot(&page->slot[sint], message, false);
	if (interrupts(value))
		vp_send_fixed(vp, vp, (uint8_t)(value & HV_SINT_VECTOR_MASK));
	return HV_STATUS_SUCCESS;
}

void synic_queue(struct vp *vp, struct synic_message *message)
{
	uint32_t before = vp->synic.queued;

	enqueue(vp, message);
	deliver(vp, message->sint);
	note_queued(vp, before);
}

void synic_unqueue(struct vp *vp, struct synic_message *message)
{
	uint32_t before = vp->synic.queued;

	dequeue(vp, message);
	note_queued(vp, before);
}

static uint32_t take_inbox(struct vp *vp)
{
	struct synic_message *message =
		atomic_exchange_explicit(&vp->synic.inbox, NULL, memory_order_acquire);
	struct synic_message *oldest = NULL;
	uint32_t sints = 0;

	while (message) {
		struct synic_message *next = message->next;

		message->next = oldest;
		oldest = message;
		message = next;
	}
	while (oldest) {
		struct synic_message *next = oldest->next;

		if (oldest->sender == SYNIC_DOORBELL) {
			event_ring_add(vp, oldest);
		} else {
			sints |= 1u << oldest->sint;
			enqueue(vp, oldest);
		}
		oldest = next;
	}
	return sints;
}

/* Wherever in its queue: deliver() would come to the first one only. */
static void drop_dead(struct vp *vp)
{
	for (unsigned int i = 0; i < HV_SINT_COUNT; i++) {
		struct synic_message *message = vp->synic.queue[i].first;

		while (message) {
			struct synic_message *next = message->next;

			if (is_dead(message)) {
				dequeue(vp, message);
				give_back(message);
			}
			message = next;
		}
	}
}

void synic_handle_pending(struct vp *vp)
{
	uint32_t before = vp->synic.queued;
	uint32_t sints;

	vp_clear_pending(vp, VP_PENDING_SYNIC);
	for (sints = take_inbox(vp); sints; sints &= sints - 1)
		deliver(vp, (unsigned int)__builtin_ctz(sints));
	if (unlikely(atomic_load_explicit(&vp->synic.drop_wanted, memory_order_relaxed)) &&
	    atomic_exchange_explicit(&vp->synic.drop_wanted, false, memory_order_acquire))
		drop_dead(vp);
	note_queued(vp, before);
}

/* ---- From any LP ---- */

static void tell(struct vp *vp, const struct vp *sender)
{
	vp_post(vp, VP_PENDING_SYNIC);
	if (vp != sender)
		vp_notify(vp);
}

void synic_drop_dead(struct vp *vp, struct vp *sender)
{
	atomic_store_explicit(&vp->synic.drop_wanted, true, memory_order_release);
	tell(vp, sender);
}

uint16_t synic_takes_messages(const struct vp *vp)
{
	uint32_t ready = atomic_load_explicit(&vp->synic.ready, memory_order_acquire);

	return (ready & DELIVERABLE) == DELIVERABLE ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_SYNIC_STATE;
}

uint16_t synic_takes_events(const struct vp *vp, unsigned int sint)
{
	uint32_t ready = atomic_load_explicit(&vp->synic.ready, memory_order_acquire);
	uint64_t value = sint_of(&vp->synic, sint);

	if ((ready & SIGNALABLE) != SIGNALABLE ||
	    (value & (HV_SINT_MASKED | HV_SINT_POLLING)) == HV_SINT_MASKED)
		return HV_STATUS_INVALID_SYNIC_STATE;
	return HV_STATUS_SUCCESS;
}

/* Who finds the inbox empty tells the owner; the others know that somebody does. */
void synic_post(struct vp *vp, struct vp *sender, struct synic_message *message)
{
	struct synic_message *newest = atomic_load_explicit(&vp->synic.inbox, memory_order_relaxed);

	do {
		message->next = newest;
	} while (!atomic_compare_exchange_weak_explicit(&vp->synic.inbox, &newest, message,
							memory_order_release, memory_order_relaxed));
	if (!newest)
		tell(vp, sender);
}

uint16_t synic_signal(struct vp *vp, struct vp *sender, unsigned int sint, unsigned int flag, bool *newly)
{
	struct hv_event_flags_page *page = overlay_content(&vp->synic.event_page);
	uint16_t status = synic_takes_events(vp, sint);
	uint64_t value = sint_of(&vp->synic, sint);
	uint64_t bit = BIT(flag % 64);

	*newly = false;
	if (unlikely(status))
		return status;
	*newly = !(__atomic_fetch_or(&page->sint[sint].flags64[flag / 64], bit, __ATOMIC_SEQ_CST) & bit);
	if (*newly && interrupts(value))
		vp_send_fixed(vp, sender, (uint8_t)(value & HV_SINT_VECTOR_MASK));
	return HV_STATUS_SUCCESS;
}

/* ---- Life ---- */

static void drop_messages(struct vp *vp)
{
	vp->synic.wanted = 0;
	take_inbox(vp);
	event_ring_drop(vp);
	for (unsigned int i = 0; i < HV_SINT_COUNT; i++) {
		struct synic_message *message;

		while ((message = vp->synic.queue[i].first)) {
			dequeue(vp, message);
			give_back(message);
		}
	}
}

static void mask_all(struct synic *synic)
{
	atomic_store_explicit(&synic->ready, 0, memory_order_release);
	synic->control = 0;
	for (unsigned int i = 0; i < HV_SINT_COUNT; i++)
		atomic_store_explicit(&synic->sint[i], HV_SINT_RESET_VALUE, memory_order_relaxed);
}

int synic_init(struct vp *vp)
{
	struct synic *synic = &vp->synic;
	int err;

	mask_all(synic);
	err = overlay_init(vp->partition, &synic->message_page, OVERLAY_SIMP);
	if (!err)
		err = overlay_init(vp->partition, &synic->event_page, OVERLAY_SIEFP);
	if (!err)
		err = overlay_init(vp->partition, &synic->ring_page, OVERLAY_SIRBP);
	return err;
}

void synic_destroy(struct vp *vp)
{
	drop_messages(vp);
	overlay_destroy(&vp->synic.message_page);
	overlay_destroy(&vp->synic.event_page);
	overlay_destroy(&vp->synic.ring_page);
}
