/* SPDX-License-Identifier: MIT */
/*
 * What CPUID tells a child partition: the machine's answer without what a child can't have, without the features its parent took away, with
 * the VP's own topology, and over it what the parent registered for a VP (TLFS "HvCallRegisterInterceptResult"). What was registered can
 * take features away and rename things, not add a feature that the VP hasn't got.
 */
#ifndef TRIVET_CPUID_POLICY_H
#define TRIVET_CPUID_POLICY_H

#include <hv/partition.h>
#include <stdatomic.h>
#include <trivet/hv_cpuid.h>
#include <trivet/lock.h>
#include <trivet/types.h>

struct partition;
struct page_source;
struct vp;

#define XSAVE_LEGACY_STATES 3ull   /* x87 and SSE, which are there without XSAVE too */
#define XSAVE_EXTENDED_OFFSET 576u /* where the components after the header begin (SDM1 13.4) */
#define XSAVE_COMPONENTS 63u

/* One result that was registered: eax, ebx, ecx, edx. */
struct cpuid_override {
	uint32_t leaf, subleaf;
	uint32_t specific; /* to the subleaf; 0: for all that have no entry of their own */
	uint32_t value[4], mask[4];
};

#define CPUID_OVERRIDE_PAGES 8u
#define CPUID_OVERRIDES_PER_PAGE (PAGE_SIZE / sizeof(struct cpuid_override))
#define CPUID_OVERRIDES_MAX (CPUID_OVERRIDE_PAGES * CPUID_OVERRIDES_PER_PAGE)

/*
 * A sorted table in pages of the partition's. Written under the policy's lock; read without one while it may be written: `version` is odd
 * meanwhile, and the pages stay.
 */
struct cpuid_overrides {
	struct cpuid_override *page[CPUID_OVERRIDE_PAGES];
	_Atomic uint32_t count;
	_Atomic uint32_t version;
};

/* In struct partition, from the parent's choice at its creation. */
struct cpuid_policy {
	uint64_t features
		[HV_PROCESSOR_FEATURE_BANKS]; /* bits of HV_PROPERTY_PROCESSOR_FEATURES0, 1: 1 is there */
	uint64_t xsave_features;	      /* of HV_PROPERTY_PROCESSOR_XSAVE_FEATURES */
	uint64_t xsave_states;		      /* XCR0 bits a guest may set; 0: it has no XSAVE */
	uint32_t vps_per_socket;	      /* 0: one socket for all */
	struct spinlock lock;		      /* changes of the overrides, of the VPs' too */
	struct cpuid_overrides overrides;     /* for all VPs, after a VP's own */
};

/* What a child may have on this machine. */
void cpuid_policy_host(struct cpuid_policy *policy);

/* A new child: the same without what its parent disabled, and without what stands on that. */
void cpuid_policy_init(struct cpuid_policy *policy,
		       const uint64_t disabled_features[HV_PROCESSOR_FEATURE_BANKS], uint64_t disabled_xsave);

/* Size of an XSAVE area with the components of `states`, in the standard format or compacted. Never below its header's end. */
uint32_t xsave_bytes(uint64_t states, bool compacted);

/* Offset in the standard format, size and alignment of component 2 and up; 0 bytes: the processor doesn't know it. */
struct xsave_component {
	uint32_t bytes, offset;
	bool aligned; /* to 64 bytes in the compacted format */
};
struct xsave_component xsave_component(unsigned int index);

/* CPUID as one VP of a child would get it. */
struct cpuid_query {
	uint32_t leaf, subleaf;
	uint64_t xcr0, xss, cr4;
	bool defaults; /* without what was registered */
};
struct cpuid_regs cpuid_policy_query(const struct vp *vp, const struct cpuid_query *query);

/* CPUID of a child's VP, loaded here. In and out as vp_cpuid(). `cr4` is the guest's. */
void cpuid_policy_read(struct vp *vp, uint64_t cr4);

/* Width of the physical addresses that the guest was told of. */
unsigned int cpuid_policy_phys_bits(const struct vp *vp);

/* ---- cpuid_overrides.c ---- */

/* In place of an entry with the same key, if there is one. -ENOMEM: its pages are used up; -ENOSPC: it has as many as it may. */
int cpuid_overrides_set(struct cpuid_policy *policy, struct cpuid_overrides *overrides,
			struct page_source *pages, const struct cpuid_override *entry);
/* -ENOENT */
int cpuid_overrides_remove(struct cpuid_policy *policy, struct cpuid_overrides *overrides,
			   const struct cpuid_override *entry);
/* The entry for a subleaf, else the one for the whole leaf. False: none. */
bool cpuid_overrides_find(const struct cpuid_overrides *overrides, uint32_t leaf, uint32_t subleaf,
			  struct cpuid_override *entry);

/* The VP, or the partition, is gone: nobody reads any more. */
void cpuid_overrides_destroy(struct vp *vp);
void cpuid_policy_destroy(struct partition *partition);

#endif
