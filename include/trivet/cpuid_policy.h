/* SPDX-License-Identifier: MIT */
/*
 * What CPUID tells a child partition: the machine's answer without what a child can't have, without the features its parent took away, with
 * the VP's own topology, and over it what the parent registered for a VP (TLFS "HvCallRegisterInterceptResult").
 */
#ifndef TRIVET_CPUID_POLICY_H
#define TRIVET_CPUID_POLICY_H

#include <hv/partition.h>
#include <trivet/hv_cpuid.h>
#include <trivet/types.h>

struct partition;
struct vp;
struct cpuid_override;

/* In struct partition, from the parent's choice at its creation. */
struct cpuid_policy {
	uint64_t features
		[HV_PROCESSOR_FEATURE_BANKS]; /* bits of HV_PROPERTY_PROCESSOR_FEATURES0, 1: 1 is there */
	uint64_t xsave_features;	      /* of HV_PROPERTY_PROCESSOR_XSAVE_FEATURES */
	uint64_t xsave_states;		      /* XCR0 bits a guest may set */
	uint32_t vps_per_socket;	      /* 0: one socket for all */
};

/* In struct vp_child: a sorted table in pages of the partition's. */
struct cpuid_overrides {
	struct cpuid_override *table;
	uint32_t count, capacity;
};

/* CPUID of a child's VP, loaded here. In and out as vp_cpuid(). `cr4` is the guest's. */
void cpuid_policy_read(struct vp *vp, uint64_t cr4);

void cpuid_overrides_destroy(struct vp *vp);

#endif
