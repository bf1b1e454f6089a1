/* SPDX-License-Identifier: MIT */
/*
 * Doorbells: a child's store to an address of its parent's choice, where nothing is mapped, that only rings. The store is completed here, and the
 * number of the parent's port goes into the event ring of a VP of the parent's (hv/port.h, hv/synic.h).
 */
#ifndef TRIVET_DOORBELL_H
#define TRIVET_DOORBELL_H

#include <trivet/types.h>

struct vp;

/*
 * The VP's store to `gpa`, with the instruction at its RIP: true when it rang a doorbell; then the instruction is done. On its own LP, in its exit
 * handler.
 */
bool doorbell_store(struct vp *vp, gpa_t gpa);

#endif
