/* SPDX-License-Identifier: MIT */
/*
 * What a parent wants to see of its child's VPs and wouldn't otherwise (TLFS "HvCallInstallIntercept"): CPUID leaves, MSRs, exceptions. It is the
 * partition's; a VP has a summary of it, which it takes over whenever it comes into the processor, and the exit path looks at nothing else
 * while it is empty. Whoever changes it makes every VP leave its processor once, so the change is there when the call returns.
 */
#ifndef TRIVET_INTERCEPTS_H
#define TRIVET_INTERCEPTS_H

#include <trivet/lock.h>
#include <trivet/types.h>

struct partition;
struct vp;

/* CPUID leaves and MSRs together. One more is HV_STATUS_NO_RESOURCES. */
#define INTERCEPTS_INDEXED 64u

/* In struct partition. Written under the lock, read without. */
struct intercepts {
	struct spinlock lock;
	uint32_t generation;		      /* counts changes; a VP compares: vp->wanted_generation */
	uint32_t wanted;		      /* VP_WANTED_* */
	uint32_t exceptions;		      /* a bit for each vector */
	uint64_t filter;		      /* bit `index` % 64: there may be one of that leaf or MSR */
	uint64_t indexed[INTERCEPTS_INDEXED]; /* HV_INTERCEPT_ACCESS_MASK_* << 32 | leaf or MSR; 0: free */
};

/* Bits of vp->wanted: which kinds there are at all. */
#define VP_WANTED_CPUID 0x01u /* some leaf, or all */
#define VP_WANTED_ALL_CPUID 0x02u
#define VP_WANTED_MSR 0x04u /* some, by number */
#define VP_WANTED_UNKNOWN_MSR_READ 0x08u
#define VP_WANTED_UNKNOWN_MSR_WRITE 0x10u
#define VP_WANTED_MICROCODE_LEVEL 0x20u

/* The back end's vp_load asks, and follows where the processor has to: vp->wanted and vp->wanted_exceptions are new. True: they may have changed. */
bool intercepts_follow(struct vp *vp);

/* Where vp->wanted has a bit of it. */
bool intercepts_want_cpuid(const struct vp *vp, uint32_t leaf);
bool intercepts_want_msr(const struct vp *vp, uint32_t msr, bool is_write);

/* Is there one, by number, that `exits` says has no exit by itself? Of a VP that is loaded or borrowed. */
bool intercepts_want_more_exits(const struct vp *vp, bool (*exits)(uint32_t msr, bool is_write));

#endif
