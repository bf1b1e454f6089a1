/* SPDX-License-Identifier: MIT */
/*
 * The VP assist page (TLFS "Virtual Interrupt Control"): a page per VP that hypervisor and guest share. Of its words we use the
 * first: bit 0 tells the guest that the interrupt it handles needs no EOI (apic.h: lazy EOI).
 */
#ifndef TRIVET_VP_ASSIST_H
#define TRIVET_VP_ASSIST_H

#include <trivet/overlay.h>
#include <trivet/types.h>

struct vp;

/* Embedded in the VP as `assist`. */
struct vp_assist {
	struct overlay page;
};

/* The page, disabled. overlay_space_init() of the partition came before. -ENOMEM. */
int vp_assist_init(struct vp *vp);

#endif
