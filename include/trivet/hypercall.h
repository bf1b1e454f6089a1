/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls (TLFS "Hypercall Interface"). Every call is one row of core/hypercalls.def; the dispatcher checks all that the row
 * can say before its handler runs, so that a handler sees only well-formed input, in a copy that no guest can change.
 */
#ifndef TRIVET_HYPERCALL_H
#define TRIVET_HYPERCALL_H

#include <trivet/types.h>

struct vp;
struct partition;

/* The largest list of parameters, in or out: a page (TLFS "Hypercall Inputs"). */
#define HYPERCALL_PARAMETERS_MAX PAGE_SIZE

/* Returned by a handler instead of an HV_STATUS: nothing is done yet, run the instruction again. */
#define HYPERCALL_RESTART 0xffffu

/* One call under way. */
struct hypercall {
	struct vp *vp; /* the caller, on its own LP */
	struct partition *partition;
	uint16_t code;
	uint16_t var_header_qwords; /* 8-byte units between the fixed part of the input and the list */
	/*
	 * Rep calls: elements rep_start .. rep_count - 1 are to be done now (rep_count is the end of this batch, not
	 * always of the whole list). The handler raises reps_done, which starts at rep_start, with each element it
	 * finished. Success with reps_done below the guest's count makes the instruction run again for the rest.
	 */
	uint16_t rep_start;
	uint16_t rep_count;
	uint16_t reps_done;
	/* 8-byte aligned copies. The input's fixed part with the variable header behind it; element 0 of the list. */
	const void *input;
	const void *rep_input;
	/* Zeroed; copied to the guest when the handler returns HV_STATUS_SUCCESS; of a list the elements done, whatever it returns. */
	void *output;
	void *rep_output;
};

typedef uint16_t (*hypercall_handler)(struct hypercall *call);

/* How registers carry a hypercall. */
enum hypercall_mode {
	HYPERCALL_UD = 0, /* real mode, virtual-8086 mode, or not at CPL 0: #UD */
	HYPERCALL_32,	  /* EDX:EAX control, EBX:ECX input, EDI:ESI output, result in EDX:EAX */
	HYPERCALL_64,	  /* RCX control, RDX input, R8 output, result in RAX */
};

enum hypercall_result {
	HYPERCALL_DONE, /* the result is in vp->gpr; the instruction is complete */
	/* Leave RIP on the instruction; the registers hold the progress. A child's VP may be held: its parent answers first, or in its place. */
	HYPERCALL_AGAIN,
	HYPERCALL_MOVED, /* the call itself set RIP: leave it */
	HYPERCALL_FAULT_UD,
	HYPERCALL_FAULT_GP, /* a parameter page isn't there, and nobody could bring it in */
};

/* VMCALL or VMMCALL of a VP on its own LP: #UD until its partition has said who it is, or has no interface. */
enum hypercall_result hypercall_dispatch(struct vp *vp, enum hypercall_mode mode);

/* Buffers for the parameters, once for each LP, before it runs a VP that makes hypercalls. -ENOMEM. */
struct lp;
int hypercall_lp_init(struct lp *lp);

/* "PostMessage"; NULL for a code that no row has. */
const char *hypercall_name(uint16_t code);

#define HYPERCALL(code, name, form, batch, input, rep_input, output, rep_output, privilege, since, tlfs, \
		  handler)                                                                               \
	uint16_t handler(struct hypercall *call);
#include "../../core/hypercalls.def"
#undef HYPERCALL

#endif
