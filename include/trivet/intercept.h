/* SPDX-License-Identifier: MIT */
/*
 * Intercepts: an exit of a child that its parent has to answer. The VP stops, its registers and a message go into pages that the parent
 * sees, and a SynIC message tells the parent which VP (TLFS "Intercepts"). The back ends describe the exit in these neutral structures.
 */
#ifndef TRIVET_INTERCEPT_H
#define TRIVET_INTERCEPT_H

#include <hv/synic.h>
#include <hv/vp.h>
#include <trivet/partition.h>
#include <trivet/synic.h>
#include <trivet/types.h>

struct vp;

#define INTERCEPT_INSTRUCTION_BYTES 16u

/* IN, OUT, INS or OUTS. `length` is the instruction's, 0: not known, it will be decoded. */
struct io_exit {
	uint16_t port;
	uint8_t bytes; /* 1, 2, 4 */
	uint8_t length;
	bool in, string, rep;
};

/* A second-stage fault. Without `byte_count` the bytes are fetched when they are needed. */
struct memory_exit {
	gpa_t gpa;
	gva_t gva; /* valid with gva_valid */
	bool gva_valid;
	bool is_write, is_fetch;
	bool is_walk; /* the guest's own page tables lie there, or an event's delivery went there: `gva` isn't what was accessed */
	uint8_t byte_count;
	uint8_t bytes[INTERCEPT_INSTRUCTION_BYTES];
};

/* In struct vp_child. */
struct vp_intercepts {
	struct hv_vp_register_page *registers; /* pages that the parent mapped; NULL: none */
	struct hv_message *message;
	uint64_t registers_page, message_page; /* their numbers, as deposits */
	struct synic_message link;	       /* for the parent: "this VP has an intercept" */
	_Atomic uint32_t link_posted;	       /* it is on its way to the parent, or dropped there */
};

/* All on the LP where the VP is loaded, in its exit handler. Each but the first stops the VP. */

/* The local APIC's page, a doorbell, a page that is mapped by now, or else an intercept. Never FAULT_REFUSED without a reason of the architecture's. */
enum fault_result intercept_memory(struct vp *vp, const struct memory_exit *exit);
void intercept_io(struct vp *vp, const struct io_exit *exit);
/* A triple fault: HV_MESSAGE_UNRECOVERABLE_EXCEPTION. */
void intercept_unrecoverable(struct vp *vp);

/* Before the VP runs again: what the parent changed in the register page (its `dirty` classes) becomes the VP's. On its own LP, loaded. */
void intercept_resume(struct vp *vp);

/* The VP is being deleted and not loaded: false, the parent's LP still has its message: try again. */
bool intercept_destroy(struct vp *vp);

#endif
