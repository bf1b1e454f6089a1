/* SPDX-License-Identifier: MIT */
/* Event rings of a VP: the numbers of ports whose doorbells were rung, in the page that SIRBP names. */
#ifndef TRIVET_EVENT_RING_H
#define TRIVET_EVENT_RING_H

#include <trivet/types.h>

struct hv_message;
struct synic_message;
struct vp;

/* The VP has rings, and can be told that something is in them. From any LP. */
bool event_ring_is_ready(const struct vp *vp);

/* All below on the VP's own LP. */

/* A doorbell's link (port_bell_get()) has come. */
void event_ring_add(struct vp *vp, struct synic_message *message);

/* HvCallNotifyPortRingEmpty: what didn't fit. */
void event_ring_emptied(struct vp *vp);

/* SIRBP is enabled: a new reader begins at the first place. And the VP goes, or is reset: nothing waits any more. */
void event_ring_restart(struct vp *vp);
void event_ring_drop(struct vp *vp);

/* The message that says in which rings something is, one at a time. True: there are more. */
bool event_ring_fill_message(struct vp *vp, struct hv_message *message);

#endif
