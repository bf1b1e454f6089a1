/* SPDX-License-Identifier: MIT */
/*
 * Doorbells: a child's store to an address of its parent's choice, where nothing is mapped, that only rings. The store is completed here, and the
 * number of the parent's port goes into the event ring of a VP of the parent's (hv/port.h, hv/synic.h).
 */
#ifndef TRIVET_DOORBELL_H
#define TRIVET_DOORBELL_H

#include <hv/port.h>
#include <trivet/types.h>

struct partition;
struct vp;

/*
 * Stores of `partition` as `info` says ring port `port_id` of `owner`'s. HV_STATUS_*: INVALID_CONNECTION_ID (taken; bits 31:24), INVALID_PARAMETER,
 * INVALID_PORT_ID, INSUFFICIENT_MEMORY, NO_RESOURCES. And no longer: INVALID_CONNECTION_ID.
 */
uint16_t doorbell_connect(struct partition *partition, uint32_t connection_id, struct partition *owner,
			  uint32_t port_id, const struct hv_connection_info *info);
uint16_t doorbell_disconnect(struct partition *partition, uint32_t connection_id);

/*
 * The VP's store to `gpa`, with the instruction at its RIP: true when it rang a doorbell; then the instruction is done. On its own LP, in its exit
 * handler.
 */
bool doorbell_store(struct vp *vp, gpa_t gpa);

#endif
