/* SPDX-License-Identifier: MIT */
/*
 * APIC virtualization (SDM3 30): on processors that have it, the guest's local APIC accesses, the priorities and the delivery
 * of interrupts are the processor's, on the VP's register page, and the model takes over at exits what happened there.
 * Which controls are on depends on the APIC's mode; a disabled APIC is left to the model.
 */
#include "vmx.h"
#include <trivet/host_memory.h>

#define WHILE_OFF PROC2_APIC_ACCESSES
#define IN_XAPIC_MODE (PROC2_APIC_ACCESSES | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY)
#define IN_X2APIC_MODE (PROC2_X2APIC | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY)

bool vmx_reads_apic_page(void)
{
	return vmx.apic_controls & PROC2_APIC_REGISTERS;
}

/*
 * Virtual-interrupt delivery takes whatever is in IRR or comes by a self-IPI or a posted interrupt. So it is on only while the
 * APIC accepts interrupts; what is left over from before is injected as without it. Nor can it end a vector as it is taken,
 * which a SINT may ask for.
 */
static uint32_t controls_for(const struct apic *apic)
{
	bool delivers = apic->enabled && !apic->eoi_automatic_any;

	if (!(apic->base & APIC_BASE_EN))
		return WHILE_OFF;
	if (apic->x2)
		return delivers ? IN_X2APIC_MODE : 0;
	return delivers ? IN_XAPIC_MODE : IN_XAPIC_MODE & ~(uint32_t)PROC2_INTERRUPT_DELIVERY;
}

void vmx_update_posting(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);
	bool takes = vmx.posted && own->delivers && own->acknowledges;

	if (takes == own->takes_posted)
		return;
	own->takes_posted = takes;
	vmwrite(VMCS_PIN_CONTROLS, takes ? vmx.pin | (uint32_t)PIN_POSTED_INTERRUPTS : vmx.pin);
}

void vmx_apic_mode_changed(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);
	uint32_t proc2 = vmx.proc2 | (vmx.apic_controls & controls_for(&vp->apic));

	if (proc2 == own->proc2 || vp->child)
		return;	   /* a child's is the model's alone */
	vmx_know_apic(vp); /* what the processor has goes on in the model */
	own->proc2 = proc2;
	own->delivers = proc2 & PROC2_INTERRUPT_DELIVERY;
	own->lends_page = proc2 & PROC2_APIC_REGISTERS;
	own->apic_known = own->lends_page;
	vmwrite(VMCS_PROC_CONTROLS2, proc2);
	vmwrite(VMCS_MSR_BITMAP, hv_virt_to_phys(proc2 & PROC2_X2APIC ? vmx.x2apic_msr_map : vmx.msr_map).v);
	vp->apic.tmr_changed = true;
	vmx_update_posting(vp);
	vp_post_self(vp, VP_PENDING_FLUSH | VP_PENDING_EVENT); /* translations know the APIC-access page */
}

static uint8_t vector_or_0(int top)
{
	return top < 0 ? 0 : (uint8_t)top;
}

void vmx_apic_take_over(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);
	struct apic *apic = &vp->apic;

	own->apic_known = true;
	if (own->delivers) {
		own->interrupt_status = (uint16_t)vmread(VMCS_GUEST_INTERRUPT_STATUS);
		apic_page_ran(apic, (uint8_t)own->interrupt_status, (uint8_t)(own->interrupt_status >> 8));
	} else {
		apic_page_ran(apic, vector_or_0(apic->irr_top), vector_or_0(apic->isr_top));
	}
}

void vmx_apic_give_back(struct vp *vp)
{
	vmx_of(vp)->apic_known = false;
	if (vmx_of(vp)->delivers)
		apic_page_runs(&vp->apic);
}

/* The end of a level-triggered interrupt goes on at the physical APIC, and the SynIC may wait for one: only those are exits. */
static __attribute__((__noinline__)) void write_eoi_exits(struct apic *apic)
{
	apic->tmr_changed = false;
	for (unsigned int i = 0; i < 4; i++)
		vmwrite(VMCS_EOI_EXIT_0 + 2 * i, apic_eoi_exits(apic, i));
}

void vmx_hand_over_interrupts(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);
	struct apic *apic = &vp->apic;
	uint16_t status;

	if (own->takes_posted)
		apic_sync_left_to_software(apic);
	else
		apic_sync_posted(apic);
	if (own->apic_known) {
		status = (uint16_t)(vector_or_0(apic->irr_top) | vector_or_0(apic->isr_top) << 8);
	} else {
		own->interrupt_status = status = (uint16_t)vmread(VMCS_GUEST_INTERRUPT_STATUS);
		if (apic->irr_top > (uint8_t)status)
			status = (uint16_t)((status & 0xff00) | apic->irr_top);
	}
	if (status != own->interrupt_status) {
		own->interrupt_status = status;
		vmwrite(VMCS_GUEST_INTERRUPT_STATUS, status);
	}
	if (unlikely(apic->tmr_changed))
		write_eoi_exits(apic);
	vmx_apic_give_back(vp);
}
