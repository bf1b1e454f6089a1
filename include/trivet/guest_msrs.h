/* SPDX-License-Identifier: MIT */
/*
 * The MSRs of a child partition's VPs that no back end keeps: all virtual, nothing of the machine's is passed through. What no row of the
 * table has is #GP(0), or reads 0 and swallows writes, as the parent chose (HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION).
 */
#ifndef TRIVET_GUEST_MSRS_H
#define TRIVET_GUEST_MSRS_H

#include <trivet/types.h>

struct vp;

#define GUEST_MTRR_VARIABLE 8u
#define GUEST_MTRR_FIXED 11u

/* In struct vp_child. */
struct guest_msrs {
	uint64_t mtrr_default;
	uint64_t mtrr_base[GUEST_MTRR_VARIABLE], mtrr_mask[GUEST_MTRR_VARIABLE];
	uint64_t mtrr_fixed[GUEST_MTRR_FIXED];
	uint64_t misc_enable;
	uint64_t tsc_adjust;
};

void guest_msrs_init(struct vp *vp);

/* The TSC of a child's VP, on any LP and whether it runs or not. */
uint64_t guest_msrs_tsc(const struct vp *vp);

/*
 * RDMSR and WRMSR of what is neither synthetic, the local APIC's, nor the back end's. 0, or -EINVAL for #GP(0). The VP is loaded here, and it is
 * the guest's own access, or borrowed, and it is its parent's. A write of the TSC or TSC_ADJUST changes vp->tsc_offset and vp->tsc_delta, which
 * the back end has to tell the processor before it enters the guest again.
 */
int guest_msr_read(struct vp *vp, uint32_t msr, uint64_t *value);
int guest_msr_write(struct vp *vp, uint32_t msr, uint64_t value);

/* There is a row for it. What none has is refused while its parent wants to see such accesses of the guest's (intercepts.h). */
bool guest_msr_exists(uint32_t msr);

/*
 * WRMSR's own checks (SDM4 2.1) of MSRs that the processor has for the guest, where one of its writes is done in software after all.
 * `linear_bits`: 48, or 57 where the processor has that.
 */
bool guest_msr_takes(uint32_t msr, uint64_t value, unsigned int linear_bits);

/* Eight memory types: 0, 1, 4 to 7 (SDM3 12.12.2, APM2 7.8.1). */
static inline bool pat_is_valid(uint64_t pat)
{
	for (unsigned int i = 0; i < 64; i += 8)
		if ((pat >> i & 0xff) > 7 || (pat >> i & 0xfe) == 2)
			return false;
	return true;
}

#endif
