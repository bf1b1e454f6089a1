/* SPDX-License-Identifier: MIT */
/* Synthetic MSRs of a VP that are little more than a look or a call: index, frequencies, local APIC, idle, reset. */
#include <errno.h>

#include "reset.h"
#include <hv/msr.h>
#include <trivet/hv_msr.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

int hv_msr_read_vp_index(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = vp->index;
	return 0;
}

int hv_msr_read_tsc_frequency(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)vp;
	(void)msr;
	*value = lp_tsc_hz();
	return 0;
}

int hv_msr_read_apic_frequency(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)vp;
	(void)msr;
	*value = lp_apic_timer_hz();
	return 0;
}

int hv_msr_read_tsc_invariant_control(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = vp->partition->tsc_invariant ? HV_TSC_INVARIANT_ENABLE : 0;
	return 0;
}

int hv_msr_write_tsc_invariant_control(struct vp *vp, uint32_t msr, uint64_t value)
{
	(void)msr;
	if (value & ~HV_TSC_INVARIANT_ENABLE)
		return -EINVAL;
	vp->partition->tsc_invariant = value;
	return 0;
}

/* ---- Local APIC (TLFS "Virtual Interrupt Control": EOI 63:32 and TPR 63:8 are RsvdZ) ---- */

int hv_msr_write_eoi(struct vp *vp, uint32_t msr, uint64_t value)
{
	(void)msr;
	if (unlikely(value >> 32))
		return -EINVAL;
	apic_eoi(&vp->apic);
	/* Where the processor works with the page, it must be told what is in service now. */
	if (vp->apic.config.page_read || apic_pending_vector(&vp->apic) >= 0)
		vp_post_self(vp, VP_PENDING_EVENT);
	return 0;
}

/* The two halves are those of the APIC's own mode: a destination in 63:56, or in x2APIC mode in 63:32. */
int hv_msr_read_icr(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = vp->apic.icr;
	return 0;
}

int hv_msr_write_icr(struct vp *vp, uint32_t msr, uint64_t value)
{
	struct apic *apic = &vp->apic;

	(void)msr;
	vp_post_self(vp, VP_PENDING_EVENT); /* it may be for itself */
	if (apic->x2)
		return apic_msr_write(apic, APIC_MSR_ICR, value);
	if (!(apic->base & APIC_BASE_EN))
		return -EINVAL;
	/* Through the registers, which the page may have to show. */
	apic_mmio_write(apic, APIC_REG_ICR_HIGH, 4, value >> HV_ICR_HIGH_SHIFT);
	apic_mmio_write(apic, APIC_REG_ICR, 4, (uint32_t)value);
	return 0;
}

int hv_msr_read_tpr(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = vp->apic.tpr;
	return 0;
}

int hv_msr_write_tpr(struct vp *vp, uint32_t msr, uint64_t value)
{
	(void)msr;
	if (value >> 8)
		return -EINVAL;
	apic_set_tpr(&vp->apic, (uint8_t)value);
	vp_post_self(vp, VP_PENDING_EVENT);
	return 0;
}

/* ---- Idle and reset ---- */

/* Ends with any interrupt, RFLAGS.IF or not (TLFS "Virtual Processor Idle Sleep State"). */
int hv_msr_read_guest_idle(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = 0;
	vp_halt_until_pending(vp);
	return 0;
}

int hv_msr_read_reset(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)vp;
	(void)msr;
	*value = 0;
	return 0;
}

int hv_msr_write_reset(struct vp *vp, uint32_t msr, uint64_t value)
{
	(void)msr;
	if (value & ~HV_RESET_MSR_RESET)
		return -EINVAL;
	if (!value)
		return 0;
	if (vp->partition != &root_partition)
		return -EINVAL; /* nobody was offered that */
	log_vp_info(vp->partition->id, vp->index, "resets the machine");
	machine_reset();
}
