/* SPDX-License-Identifier: MIT */
/*
 * Ports and connections (TLFS "Ports and Connections"): a port is where a partition receives messages or event flags, a connection
 * is the right of a partition to send to one. Made and removed under a lock; looked up without, since PostMessage and SignalEvent are hot:
 * ports and connections stay at their place in memory as long as the partition lives, and a generation tells a port from
 * the one that was there before.
 */
#ifndef TRIVET_PORT_H
#define TRIVET_PORT_H

#include <hv/synic.h>
#include <stdatomic.h>
#include <trivet/lock.h>
#include <trivet/synic.h>
#include <trivet/types.h>

struct doorbell;
struct partition;
struct port;

/* Messages a message port can have under way (TLFS "Guest Message Buffers"). */
#define PORT_BUFFERS 16u
#define PORT_BUFFER_PAGES 2u

/* The same number in each page. */
struct port_buffers {
	struct port_buffer *page[PORT_BUFFER_PAGES];
};

struct port_buffer {
	struct synic_message link;
	struct port *port;
	uint64_t index;		 /* of the port's */
	struct port_buffers all; /* of the port's: it may be another when this one comes back */
	struct hv_message message;
};

/* What a sender has to know of a port, in one word: read at once, whatever happens to the port meanwhile. */
struct port_target {
	uint8_t type; /* HV_PORT_TYPE_* */
	uint8_t sint;
	uint16_t base_flag;
	uint16_t flag_count;
	uint32_t vp_index; /* or HV_VP_INDEX_ANY */
};

struct port {
	_Atomic uint64_t state;		  /* PORT_STATE_*: buffers in use, generation */
	_Atomic uint64_t target;	  /* struct port_target, packed; 0: deleted */
	struct partition *partition;	  /* the receiver */
	struct port_buffers buffers;	  /* PORT_BUFFERS of them, a message port's */
	struct synic_message link;	  /* a doorbell's, on its way into the event ring: PORT_STATE_BELL */
	uint64_t connection_partition_id; /* who may connect; 0: anybody */
	uint32_t id;
	bool live; /* has that id: not deleted */
};

#define PORT_STATE_BUFFERS 0xffffull /* one bit each: in use */
#define PORT_STATE_BELL BIT(0)	     /* of a doorbell: it has rung and isn't in the ring yet */
#define PORT_STATE_DELETED BIT(16)   /* or never made */
#define PORT_STATE_GENERATION_SHIFT 24

struct connection {
	_Alignas(32) _Atomic uint64_t
		key; /* CONNECTION_USED | id; 0: never used, CONNECTION_FREE: used before */
	_Atomic(struct port *) port;
	_Atomic uint64_t generation; /* the port's */
};

#define PORT_PAGES 32u
#define PORTS_PER_PAGE (PAGE_SIZE / sizeof(struct port))
#define CONNECTION_PAGES 16u
#define CONNECTIONS_PER_PAGE (PAGE_SIZE / sizeof(struct connection))

#define DOORBELL_PAGES 16u

/* Embedded in the partition as `ports`. All zero but for the lock: none. Pages are allocated as ids need them and kept. */
struct port_space {
	struct spinlock lock;
	uint64_t generation; /* the newest port's */
	_Atomic(struct port *) port_pages[PORT_PAGES];
	_Atomic(struct connection *) connection_pages[CONNECTION_PAGES];
	_Atomic(struct doorbell *) doorbell_pages[DOORBELL_PAGES]; /* doorbell.h */
	uint32_t doorbell_serial;				   /* the newest connection's */
};

/*
 * No connection of its parent's leads to the partition's ports any more; nobody makes new ones. Who has looked one up uses it no longer than its
 * hypercall lasts: the caller waits for that.
 */
void port_space_disconnect(struct partition *partition);

/* Gives all pages back; nobody uses the partition any more, its VPs' queues are empty. A child's is disconnected. */
void port_space_destroy(struct partition *partition);

/* How many pages its tables of ports, connections and doorbells have. They stay when those go. */
uint64_t port_space_table_pages(const struct partition *partition);

/*
 * HV_STATUS_*: INVALID_PORT_ID (taken; bits 31:24), NO_RESOURCES (no memory of ours, or as many as there can be), INSUFFICIENT_MEMORY.
 * `connection_partition_id`: who may connect, 0: anybody.
 */
uint16_t port_create(struct partition *partition, uint32_t id, const struct port_target *target,
		     uint64_t connection_partition_id);

/* Messages that wait in its buffers are lost. INVALID_PORT_ID. */
uint16_t port_delete(struct partition *partition, uint32_t id);

/*
 * Port `port_id` of `owner`, to which `partition` may connect, and its generation. `type` must be the port's. INVALID_PORT_ID (none; not for
 * this partition), INVALID_PARAMETER (type).
 */
uint16_t port_find(struct partition *partition, struct partition *owner, uint32_t port_id, uint8_t type,
		   struct port **port, uint64_t *generation);

/*
 * `partition` may send to that port, of messages or events, from now on. And: INVALID_CONNECTION_ID (taken; bits 31:24), NO_RESOURCES,
 * INSUFFICIENT_MEMORY.
 */
uint16_t port_connect(struct partition *partition, uint32_t connection_id, struct partition *owner,
		      uint32_t port_id, uint8_t type);

/* INVALID_CONNECTION_ID. */
uint16_t port_disconnect(struct partition *partition, uint32_t connection_id);

/*
 * The port behind a connection of `partition`, and what it was at one moment. INVALID_CONNECTION_ID, INVALID_PORT_ID (deleted, or not of
 * this type). Without lock, from any LP. `*generation` is for port_buffer_get().
 */
uint16_t port_lookup(struct partition *partition, uint32_t connection_id, uint8_t type, struct port **port,
		     struct port_target *target, uint64_t *generation);

/* A free message buffer of the port. INSUFFICIENT_BUFFERS; INVALID_PORT_ID: deleted meanwhile. Without lock. */
uint16_t port_buffer_get(struct port *port, uint64_t generation, struct port_buffer **buffer);

/* What a port was at one moment. False: it isn't that one any more. */
bool port_target_now(const struct port *port, uint64_t generation, struct port_target *target);

/*
 * A doorbell's link, to be posted. False: it is on its way, or the port is gone. And it is given back: the port's id, 0: it was deleted meanwhile.
 * After that it may ring again, or be another port.
 */
bool port_bell_get(struct port *port, uint64_t generation);
uint32_t port_bell_put(struct port *port);

/* The message is delivered or lost. The last one out of a deleted port frees its buffers. */
void port_buffer_put(struct port_buffer *buffer);

/* The port was deleted: the message isn't delivered any more. */
static inline bool port_buffer_is_dead(const struct port_buffer *buffer)
{
	return atomic_load_explicit(&buffer->port->state, memory_order_acquire) & PORT_STATE_DELETED;
}

#endif
