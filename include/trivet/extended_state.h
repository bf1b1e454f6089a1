/* SPDX-License-Identifier: MIT */
/*
 * What neither vendor switches with the VP, off and onto the processor when another VP comes: x87, SSE and all that XSAVE knows, XCR0,
 * DR0 to DR3.
 *
 * While no VP is loaded, XCR0 has all bits that the hypervisor switches, so that saving and loading leave nothing out.
 */
#ifndef TRIVET_EXTENDED_STATE_H
#define TRIVET_EXTENDED_STATE_H

#include <trivet/types.h>

struct vp;

/* Once at boot: what this processor has. */
void extended_state_init(void);

/* Bytes of vp->fpu: an XSAVE area in its standard form, FXSAVE's where there is no XSAVE. */
size_t extended_state_bytes(void);

/* As after power-up (SDM1 13.6): all state initial, XCR0 1. */
void extended_state_reset(struct vp *vp);

void extended_state_save(struct vp *vp);
void extended_state_load(struct vp *vp);

void debug_registers_save(struct vp *vp);
void debug_registers_load(struct vp *vp);
/* After INIT (SDM3 table 10-1, APM2 table 14-1), wherever they are. */
void debug_registers_reset(struct vp *vp);

#endif
