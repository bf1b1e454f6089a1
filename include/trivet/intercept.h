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

/* CPUID. `hidden_edx`: what of EDX the back end doesn't show. */
struct cpuid_exit {
	uint64_t cr4;
	uint32_t hidden_edx;
	uint8_t length;
};

/* RDMSR or WRMSR. */
struct msr_exit {
	uint32_t msr;
	uint8_t length;
	bool is_write;
};

/* One that the processor, or the hypervisor in its place, was about to deliver. `parameter`: the address of a page fault, DR6 of a #DB. */
struct exception_exit {
	uint64_t parameter;
	uint32_t error;
	uint8_t vector;
	bool has_error;
	bool is_software; /* INT3, INTO */
};

/* In struct vp_child. */
struct vp_intercepts {
	struct hv_vp_register_page *registers; /* pages that the parent mapped; NULL: none */
	struct hv_message *message;
	uint64_t registers_page, message_page; /* their numbers, as deposits */
	struct synic_message link;	       /* for the parent: "this VP has an intercept" */
	_Atomic uint32_t link_posted;	       /* INTERCEPT_POSTED while it is on its way to the parent */
	struct vp *owner; /* whose intercept it is; and the VP of the parent's that it was posted to */
	struct vp *link_target;
	uint64_t retried_rip; /* an instruction that couldn't be read was tried once more there */
	bool retried;
};

#define INTERCEPT_POSTED 1u
#define INTERCEPT_DEAD 2u /* the VP is being deleted: nobody is to be told */

/* Bits of partition->properties.intercepts: hypercalls that the parent answers (TLFS "HvCallInstallIntercept"). All else that it wants: intercepts.h. */
#define INTERCEPT_INSTALLED(type) (1u << (type))

/* All on the LP where the VP is loaded, in its exit handler. Those without a result stop the VP. */

/* The local APIC's page, a doorbell, a page that is mapped by now, or else an intercept. Never FAULT_REFUSED without a reason of the architecture's. */
enum fault_result intercept_memory(struct vp *vp, const struct memory_exit *exit);
void intercept_io(struct vp *vp, const struct io_exit *exit);
/* What the parent has asked for (intercepts.h), and only then. */
void intercept_cpuid(struct vp *vp, const struct cpuid_exit *exit);
void intercept_msr(struct vp *vp, const struct msr_exit *exit);
/* False: not now, its parent is being told of something else (the end of an interrupt), or has just stopped the VP itself. */
bool intercept_exception(struct vp *vp, const struct exception_exit *exit);
/* An access that would be #GP, of an MSR that isn't the back end's: has the parent asked for it, since nobody has that MSR? Then intercept_msr(). */
bool intercept_wants_unknown_msr(const struct vp *vp, uint32_t msr, bool is_write);
/* A triple fault: HV_MESSAGE_UNRECOVERABLE_EXCEPTION. */
void intercept_unrecoverable(struct vp *vp);

/*
 * A parameter page of a hypercall can't be reached. FAULT_RETRY: now it can; FAULT_EMULATED: the parent was told, the call is to be made again;
 * FAULT_REFUSED: nothing is there, or no RAM.
 */
enum fault_result intercept_parameters(struct vp *vp, gpa_t gpa, bool is_write);

/* A hypercall that the parent answers: it sets RAX and RIP. */
void intercept_hypercall(struct vp *vp);

/* The end of an interrupt: the parent asserted it if it is level-triggered, and wants to know then. Also of a borrowed VP. */
void intercept_apic_eoi(struct vp *vp, uint8_t vector);

/* The slots of `sints` are free, which the parent waited for. False: it has another intercept to answer first. Also of a borrowed VP. */
bool intercept_sint_deliverable(struct vp *vp, uint16_t sints);

/*
 * Before the VP runs again (VP_PENDING_RESUME): what the parent changed in the register page (its `dirty` classes) becomes the VP's. It may stop
 * at once, for what waited behind the last intercept. Loaded on its own LP, or borrowed.
 */
void intercept_resume(struct vp *vp);

/* A register that the parent set by name: the page shows it, or is no longer valid. Of a borrowed VP. */
void intercept_note_register(struct vp *vp, uint32_t name, const union hv_register_value *value);

/* A page of the VP's for its parent, HV_VP_STATE_PAGE_*, mapped by `caller`; and back. HV_STATUS_*. */
uint16_t intercept_map_page(struct vp *vp, struct vp *caller, uint32_t type, uint64_t *page);
uint16_t intercept_unmap_page(struct vp *vp, struct vp *caller, uint32_t type);

/*
 * The VP is being deleted and not loaded: its pages go back. False: the parent's LP still has its message, or a page couldn't be taken from the
 * parent: try again. By a VP of the parent's.
 */
bool intercept_destroy(struct vp *vp);

/* For the SynIC. The message on its way to the parent: is it to be dropped? And what it says (NULL: nobody is told), whereupon it may be posted anew. */
bool intercept_is_dead(const struct synic_message *message);
void intercept_take_message(struct synic_message *message, struct hv_message *content);

#endif
