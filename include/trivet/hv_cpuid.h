/* SPDX-License-Identifier: MIT */
/* The hypervisor's CPUID leaves (TLFS "Feature and Interface Discovery"), 0x40000000 on, as a partition sees them. */
#ifndef TRIVET_HV_CPUID_H
#define TRIVET_HV_CPUID_H

#include <trivet/io.h>
#include <trivet/types.h>

struct partition;
struct vp;

#define HV_CPUID_BASE 0x40000000u
#define HV_CPUID_LEAVES 13u   /* 0x40000000 .. 0x4000000c */
#define HV_VPS_MAX 1024u      /* of the root; LPs too */
#define HV_CHILD_VPS_MAX 512u /* of a child: its table of VPs is a page */

static inline bool hv_cpuid_is_hypervisor_leaf(uint32_t leaf)
{
	return leaf >> 28 == 4;
}

/* What the root is offered: fills its privileges, features and hints, and the leaves. Once, before it runs. */
void hv_cpuid_init(struct partition *partition);

/* What can be assigned to a child, bits of HV_PROPERTY_SYNTHETIC_PROC_FEATURES; what `partition` has of these. */
uint64_t hv_cpuid_assignable(void);
uint64_t hv_cpuid_synthetic(const struct partition *partition);

/* The same for a child, before it runs: it gets of `synthetic` what can be assigned. */
void hv_cpuid_assign(struct partition *partition, uint64_t synthetic);

/* Instead of the privileges that came with it. -EINVAL: some are no child's, or it hasn't got the interface. */
int hv_cpuid_set_privileges(struct partition *partition, uint64_t privileges);

/* Leaf in vp->gpr RAX; the answer goes to RAX, RBX, RCX, RDX. Leaves that don't exist read as 0. */
void hv_cpuid_read(struct vp *vp);

#endif
