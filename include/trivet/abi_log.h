/* SPDX-License-Identifier: MIT */
/*
 * "Why did it say 0x5?": the last refused hypercalls and MSR accesses of each LP, with the rule that refused them. Written
 * without lock; at level `abi` they are lines in the log too, as many as that lets through.
 */
#ifndef TRIVET_ABI_LOG_H
#define TRIVET_ABI_LOG_H

#include <trivet/log.h>
#include <trivet/types.h>

#define ABI_LOG_ENTRIES 16u /* a power of two */

enum abi_kind {
	ABI_HYPERCALL, /* number: call code, value: control word */
	ABI_MSR_READ,  /* number: MSR */
	ABI_MSR_WRITE, /* number: MSR, value: what was to be written */
};

struct abi_refusal {
	const char *rule; /* a constant text; NULL: never written */
	uint64_t value;
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t number;
	uint16_t kind;	 /* enum abi_kind */
	uint16_t status; /* HV_STATUS_*; 0: #GP or #UD, as `rule` says */
};

struct abi_ring {
	uint32_t next;
	struct log_ratelimit lines;
	struct abi_refusal entries[ABI_LOG_ENTRIES];
};

struct vp;

/* Notes a refusal on the VP's own LP. `rule` must be a string constant. */
void abi_refused(struct vp *vp, enum abi_kind kind, uint32_t number, uint64_t value, uint16_t status,
		 const char *rule);

/* The last refusals of an LP, newest last, as lines of the log at level error; for panics and shutdowns. */
struct lp;
void abi_log_dump(const struct lp *lp);

#endif
