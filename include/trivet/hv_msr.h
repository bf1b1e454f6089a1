/* SPDX-License-Identifier: MIT */
/*
 * The synthetic MSRs, 0x40000000 to 0x4000ffff (TLFS "Partition Reference ... MSR" pages). Every one is a row of core/hv_msrs.def: what the
 * partition isn't offered in CPUID, or no row has, is #GP(0).
 */
#ifndef TRIVET_HV_MSR_H
#define TRIVET_HV_MSR_H

#include <hv/msr.h>
#include <trivet/types.h>

struct vp;

static inline bool hv_msr_is_synthetic(uint32_t msr)
{
	return msr >> 16 == HV_MSR_FIRST >> 16;
}

/*
 * On the VP's own LP: 0, or -EINVAL for #GP(0). `msr` is synthetic. What may make an interrupt deliverable posts VP_PENDING_EVENT by
 * itself.
 */
int hv_msr_read(struct vp *vp, uint32_t msr, uint64_t *value);
int hv_msr_write(struct vp *vp, uint32_t msr, uint64_t value);

/* For the ring of refusals, after a guest's own access failed. */
void hv_msr_note_refusal(struct vp *vp, bool is_write, uint32_t msr, uint64_t value);

/* After partition->privileges or features changed: which MSRs they offer. */
struct partition;
void hv_msr_offer(struct partition *partition);
/* Whether there is such a (synthetic) MSR for it, to read or to write. */
bool hv_msr_is_offered(const struct partition *partition, uint32_t msr);

/* "SINT0"; NULL when no row has it. */
const char *hv_msr_name(uint32_t msr);

#define HV_MSR(first, count, name, privilege, feature, reader, writer, since) \
	int reader(struct vp *vp, uint32_t msr, uint64_t *value);             \
	int writer(struct vp *vp, uint32_t msr, uint64_t value);
#define HV_MSR_RO(first, count, name, privilege, feature, reader, since) \
	int reader(struct vp *vp, uint32_t msr, uint64_t *value);
#define HV_MSR_WO(first, count, name, privilege, feature, writer, since) \
	int writer(struct vp *vp, uint32_t msr, uint64_t value);
#include "../../core/hv_msrs.def"
#undef HV_MSR
#undef HV_MSR_RO
#undef HV_MSR_WO

#endif
