/* SPDX-License-Identifier: MIT */
/* CPUID for the root, on the hot path: the machine's own answer, with the bits that follow the VP's state. */
#ifndef TRIVET_VP_CPUID_H
#define TRIVET_VP_CPUID_H

#include <trivet/vp.h>

/*
 * In and out: vp->gpr RAX, RBX, RCX, RDX. The processor answers from the hypervisor's CR4 and APIC: OSXSAVE (leaf 1), OSPKE
 * (leaf 7) and APIC (leaf 1) are the VP's instead. The back end then hides itself.
 */
static inline void vp_cpuid(struct vp *vp, uint32_t leaf, uint64_t cr4)
{
	/* 64-bit outputs: CPUID clears the upper halves (APM3 CPUID). */
	uint64_t rax = leaf, rbx, rcx = vp->gpr[GPR_RCX], rdx;

	__asm__ volatile("cpuid" : "+a"(rax), "=b"(rbx), "+c"(rcx), "=d"(rdx));
	if (leaf == 1) {
		rcx = (rcx & ~BIT(27)) | (cr4 >> 18 & 1) << 27;
		if (!(vp->apic.base & APIC_BASE_EN))
			rdx &= ~BIT(9);
	} else if (leaf == 7 && (uint32_t)vp->gpr[GPR_RCX] == 0) {
		rcx = (rcx & ~BIT(4)) | (cr4 >> 22 & 1) << 4;
	}
	vp->gpr[GPR_RAX] = rax;
	vp->gpr[GPR_RBX] = rbx;
	vp->gpr[GPR_RCX] = rcx;
	vp->gpr[GPR_RDX] = rdx;
}

#endif
