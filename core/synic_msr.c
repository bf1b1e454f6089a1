/* SPDX-License-Identifier: MIT */
/*
 * The SynIC's MSRs (TLFS "SynIC MSRs"). Written by the VP itself, or by its parent through its registers, on the VP's own LP.
 * Bits that are to be preserved are kept as written and mean nothing.
 */
#include <errno.h>
#include <hv/cpuid.h>
#include <hv/msr.h>
#include <trivet/event_ring.h>
#include <trivet/hv_msr.h>
#include <trivet/partition.h>
#include <trivet/synic.h>
#include <trivet/vp.h>

/* What others may send follows the registers; what waits goes out when it can. */
static void update_ready(struct vp *vp)
{
	struct synic *synic = &vp->synic;
	uint32_t ready = 0;

	if (synic->control & HV_SCONTROL_ENABLE)
		ready |= SYNIC_READY_ENABLED;
	if (overlay_enabled(&synic->message_page))
		ready |= SYNIC_READY_MESSAGES;
	if (overlay_enabled(&synic->event_page))
		ready |= SYNIC_READY_EVENTS;
	atomic_store_explicit(&synic->ready, ready, memory_order_release);
	synic_scan(vp, synic);
}

int synic_read_control(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = vp->synic.control;
	return 0;
}

int synic_write_control(struct vp *vp, uint32_t msr, uint64_t value)
{
	(void)msr;
	vp->synic.control = value;
	update_ready(vp);
	return 0;
}

int synic_read_version(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)vp;
	(void)msr;
	*value = HV_SYNIC_VERSION_1;
	return 0;
}

static struct overlay *page_of(struct synic *synic, uint32_t msr)
{
	return msr == HV_MSR_SIMP  ? &synic->message_page :
	       msr == HV_MSR_SIEFP ? &synic->event_page :
				     &synic->ring_page;
}

int synic_read_page(struct vp *vp, uint32_t msr, uint64_t *value)
{
	*value = overlay_read_msr(page_of(&vp->synic, msr));
	return 0;
}

int synic_write_page(struct vp *vp, uint32_t msr, uint64_t value)
{
	bool was_enabled = overlay_enabled(page_of(&vp->synic, msr));
	int err = overlay_write_msr(vp->partition, vp, page_of(&vp->synic, msr), value);

	if (err)
		return err;
	if (msr == HV_MSR_SIRBP && !was_enabled && overlay_enabled(&vp->synic.ring_page))
		event_ring_restart(vp);
	update_ready(vp);
	return 0;
}

int synic_read_eom(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)vp;
	(void)msr;
	*value = 0;
	return 0;
}

/* A trigger: the value has no meaning. */
int synic_write_eom(struct vp *vp, uint32_t msr, uint64_t value)
{
	(void)msr;
	(void)value;
	synic_scan(vp, &vp->synic);
	return 0;
}

int synic_read_sint(struct vp *vp, uint32_t msr, uint64_t *value)
{
	*value = atomic_load_explicit(&vp->synic.sint[msr - HV_MSR_SINT0], memory_order_relaxed);
	return 0;
}

int synic_write_sint(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (!(value & HV_SINT_MASKED) && (value & HV_SINT_VECTOR_MASK) < HV_SINT_FIRST_VALID_VECTOR)
		return -EINVAL;
	if (!(vp->partition->features & HV_FEATURE_SINT_POLLING))
		value &= ~HV_SINT_POLLING;
	atomic_store_explicit(&vp->synic.sint[msr - HV_MSR_SINT0], value, memory_order_relaxed);
	synic_update_apic(vp);
	return 0;
}
