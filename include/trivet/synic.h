/* SPDX-License-Identifier: MIT */
/*
 * A VP's synthetic interrupt controller (TLFS "Virtual Interrupts", "Inter-Partition Communication"): 16 sources (SINTs), each
 * with a message slot, 2048 event flags and a vector of the local APIC's, and a queue of messages that wait for the slot.
 *
 * Ownership: queues and slots are the LP's that runs the VP. Others put a message into the inbox and kick (synic_post()), or set
 * an event flag with one atomic instruction (synic_signal()). What they must know for that, `ready` and `sint`, is atomic. Every message
 * lies in a buffer of its sender's kind (a port's sixteen, a timer's one): no post can want for memory, no queue can grow without bound.
 */
#ifndef TRIVET_SYNIC_H
#define TRIVET_SYNIC_H

#include <hv/synic.h>
#include <stdatomic.h>
#include <trivet/overlay.h>
#include <trivet/types.h>

struct vp;

/* Whose buffer a message lies in: who fills the slot, and who gets the buffer back. */
enum synic_sender {
	SYNIC_PORT,	 /* struct port_buffer */
	SYNIC_TIMER,	 /* struct stimer: written at the moment of delivery */
	SYNIC_INTERCEPT, /* struct vp_intercepts of a child's VP: the same */
	SYNIC_RING,	 /* synic.ring_message: the same */
	SYNIC_DOORBELL,	 /* struct port: no message, but goes to the event ring */
};

/* A message's place in an inbox or a queue. */
struct synic_message {
	struct synic_message *next;
	struct synic_message *previous;
	uint8_t sint;
	uint8_t sender; /* enum synic_sender */
	bool queued;	/* in a queue of the VP's */
};

/* Bits of `ready`. */
#define SYNIC_READY_ENABLED 1u	/* SCONTROL */
#define SYNIC_READY_MESSAGES 2u /* SIMP enabled */
#define SYNIC_READY_EVENTS 4u	/* SIEFP enabled */

struct synic_queue {
	struct synic_message *first;
	struct synic_message *last;
};

/* Embedded in the VP as `synic`. All zero until synic_init(): nothing is ready, nothing is queued. */
struct synic {
	_Atomic uint32_t ready;
	uint32_t queued;		       /* bit n: queue n is not empty */
	uint16_t wanted;		       /* bit n: the parent wants to know when slot n is free */
	_Atomic bool drop_wanted;	       /* there are dead messages in a queue */
	_Atomic(struct synic_message *) inbox; /* posted by other LPs, newest first */
	_Atomic uint64_t sint[HV_SINT_COUNT];  /* SINT MSRs */
	uint64_t control;		       /* SCONTROL */
	struct synic_queue queue[HV_SINT_COUNT];
	struct overlay message_page; /* SIMP */
	struct overlay event_page;   /* SIEFP */
	struct overlay ring_page;    /* SIRBP: event rings of doorbells */
	/* core/event_ring.c */
	struct synic_queue bells;	   /* what waits for room in a ring; a list by `next` */
	struct synic_message ring_message; /* "something is in a ring" */
	uint16_t ring_sints;		   /* of which rings */
	uint8_t ring_head[HV_SINT_COUNT];  /* where the next one goes */
};

/* For a new VP: everything disabled, SINTs masked, pages zeroed. -ENOMEM. */
int synic_init(struct vp *vp);

/* The VP is gone: gives waiting messages and pages back. */
void synic_destroy(struct vp *vp);

/*
 * Whether messages, or event flags with this SINT, can be sent to the VP: HV_STATUS_SUCCESS or HV_STATUS_INVALID_SYNIC_STATE
 * (TLFS "HvCallPostMessage", "Event Flag Delivery"). From any LP; may have changed when it returns, which costs nobody anything.
 */
uint16_t synic_takes_messages(const struct vp *vp);
uint16_t synic_takes_events(const struct vp *vp, unsigned int sint);

/* Sends a message; from any LP, where `sender` runs (it may be the VP itself). `message` is the VP's until it is given back to its sender. */
void synic_post(struct vp *vp, struct vp *sender, struct synic_message *message);

/* Sends one on the VP's own LP, without the inbox. */
void synic_queue(struct vp *vp, struct synic_message *message);

/* Takes one back that is queued; the sender's buffer is free. On the VP's own LP. */
void synic_unqueue(struct vp *vp, struct synic_message *message);

/*
 * Sets an event flag, with an interrupt when it was clear; from any LP, as above. `sint` < 16, `flag` < 2048. HV_STATUS_INVALID_SYNIC_STATE.
 * `newly`: it was clear.
 */
uint16_t synic_signal(struct vp *vp, struct vp *sender, unsigned int sint, unsigned int flag, bool *newly);

/* A message that was posted there has died: the VP gives it back soon. From any LP; `sender` as above. */
void synic_drop_dead(struct vp *vp, struct vp *sender);

/* A parent's: the VP gets HV_MESSAGE_SYNIC_SINT_DELIVERABLE once the slot of one of `sints` is free, perhaps now. 0: no longer. As its own LP. */
void synic_want_deliverable(struct vp *vp, uint16_t sints);

/*
 * A message of the parent's right into the slot. HV_STATUS_INVALID_SYNIC_STATE, or INSUFFICIENT_BUFFERS: it is taken, or others wait. As the VP's
 * own LP.
 */
uint16_t synic_deliver_direct(struct vp *vp, unsigned int sint, const struct hv_message *message);

/* VP_PENDING_SYNIC: takes the inbox in. On the VP's own LP. */
void synic_handle_pending(struct vp *vp);

/* Tries to deliver what waits: the guest wrote EOM, or ended an interrupt whose vector a waiting SINT has. On the VP's own LP. */
void synic_deliver_queued(struct vp *vp);
static inline void synic_scan(struct vp *vp, const struct synic *synic)
{
	if (unlikely(synic->queued | synic->wanted))
		synic_deliver_queued(vp);
}

/* For core/synic_msr.c: which vectors the APIC has to end by itself or to report the end of. On the VP's own LP. */
void synic_update_apic(struct vp *vp);

#endif
