/* SPDX-License-Identifier: MIT */
/*
 * One register of a VP at a time, by name, for hypercalls and the like: where the VMCS has it and in which form. Where the VP is loaded or
 * borrowed. The exit path has nothing to do with this.
 */
#include "mtrr.h"
#include "switch.h"
#include <errno.h>
#include <trivet/hv_msr.h>
#include <trivet/io.h>
#include <trivet/live_registers.h>
#include <trivet/safe_msr.h>
#include <trivet/vp_registers.h>

#define CR4_FRED BIT(32)
#define RIGHTS_ATTRIBUTES 0xf0ffu

/*
 * Which bits of CR4 this processor has for the guest: SDM3 24.8, without what doesn't exist for it. (FRED is hidden, and has rules at VM
 * entry that check.c doesn't know.)
 */
static uint64_t cr4_bits(const struct vp *vp)
{
	if (vp->child)
		return vmx_child_cr4_bits();
	return vmx.cr4_fixed1 & ~(CR4_VMXE | CR4_SMXE | CR4_FRED);
}

/* ES, CS, SS, DS, FS, GS, LDTR, TR: fields in the same order, two apart. */
static uint32_t segment_of(enum vp_register which)
{
	return ((uint32_t)which - VP_REGISTER_ES) * 2;
}

/* A null segment may have anything in its rights but the bit that says so. */
static inline struct hv_x64_segment_register read_segment(uint32_t offset)
{
	uint64_t rights = vmread(VMCS_GUEST_ES_RIGHTS + offset);
	uint64_t attributes = rights & RIGHTS_ATTRIBUTES;

	if (rights & RIGHTS_UNUSABLE)
		attributes &= ~HV_SEGMENT_PRESENT;
	return (struct hv_x64_segment_register){
		.base = vmread(VMCS_GUEST_ES_BASE + offset),
		.limit = (uint32_t)vmread(VMCS_GUEST_ES_LIMIT + offset),
		.selector = (uint16_t)vmread(VMCS_GUEST_ES_SELECTOR + offset),
		.attributes = (uint16_t)attributes,
	};
}

static void get_segment(enum vp_register which, union hv_register_value *value)
{
	value->segment = read_segment(segment_of(which));
}

static void set_segment(enum vp_register which, const union hv_register_value *value)
{
	uint32_t offset = segment_of(which);
	uint64_t rights = value->segment.attributes;

	if (!(rights & HV_SEGMENT_PRESENT))
		rights |= RIGHTS_UNUSABLE;
	vmwrite(VMCS_GUEST_ES_BASE + offset, value->segment.base);
	vmwrite(VMCS_GUEST_ES_LIMIT + offset, value->segment.limit);
	vmwrite(VMCS_GUEST_ES_SELECTOR + offset, value->segment.selector);
	vmwrite(VMCS_GUEST_ES_RIGHTS + offset, rights);
}

static uint64_t get_pending_interruption(struct vp *vp)
{
	uint32_t event = vmx_of(vp)->event;
	uint64_t pending;

	if (!(event & EVENT_VALID))
		return 0;
	pending = pending_interruption((event & EVENT_TYPE_MASK) >> EVENT_TYPE_SHIFT,
				       event & EVENT_VECTOR_MASK);
	if (pending_type(pending) >= HV_INTERRUPTION_SOFTWARE_INTERRUPT)
		pending |= vmread(VMCS_ENTRY_INSTRUCTION_LENGTH) << HV_PENDING_INTERRUPTION_LENGTH_SHIFT &
			   HV_PENDING_INTERRUPTION_LENGTH_MASK;
	return event & EVENT_ERROR_VALID ?
		       pending_with_error(pending, (uint32_t)vmread(VMCS_ENTRY_EVENT_ERROR)) :
		       pending;
}

/* The types have the same numbers here; the processor blocks NMIs itself. */
static int set_pending_interruption(struct vp *vp, uint64_t pending)
{
	uint32_t event = 0;

	if (pending & HV_PENDING_INTERRUPTION_PENDING) {
		event = (uint32_t)EVENT_VALID | pending_type(pending) << EVENT_TYPE_SHIFT |
			pending_vector(pending);
		vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, pending_length(pending));
	}
	if (event && (pending & HV_PENDING_INTERRUPTION_HAS_ERROR_CODE)) {
		event |= (uint32_t)EVENT_ERROR_VALID;
		vmwrite(VMCS_ENTRY_EVENT_ERROR, pending_error(pending));
	}
	vmx_of(vp)->event = event;
	vmwrite(VMCS_ENTRY_EVENT, event);
	return 0;
}

static uint64_t get_interrupt_state(void)
{
	uint64_t blocking = vmread(VMCS_GUEST_INTERRUPTIBILITY);

	return (blocking & (BLOCKING_STI | BLOCKING_MOV_SS) ? HV_INTERRUPT_STATE_SHADOW : 0) |
	       (blocking & BLOCKING_NMI ? HV_INTERRUPT_STATE_NMI_MASKED : 0);
}

/* In a shadow, the entry wants the step that it holds up to be pending, and none else (SDM3 27.3.1.5). */
static void settle_single_step(void)
{
	uint64_t pending = vmread(VMCS_GUEST_PENDING_DEBUG) & ~DR6_BS;

	if (!(vmread(VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKING_STI | BLOCKING_MOV_SS)))
		return;
	if ((vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF) && !(vmread(VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF))
		pending |= DR6_BS;
	vmwrite(VMCS_GUEST_PENDING_DEBUG, pending);
}

/* Of the two kinds of shadow, that of MOV SS exists whatever RFLAGS.IF is. */
static void set_interrupt_state(struct vp *vp, uint64_t value)
{
	uint64_t shadow = BLOCKING_STI | BLOCKING_MOV_SS;
	uint64_t blocking = vmread(VMCS_GUEST_INTERRUPTIBILITY);

	if (!(value & HV_INTERRUPT_STATE_SHADOW))
		blocking &= ~shadow;
	else if (!(blocking & shadow))
		blocking |= BLOCKING_MOV_SS;
	blocking &= ~BLOCKING_NMI;
	if (value & HV_INTERRUPT_STATE_NMI_MASKED)
		blocking |= BLOCKING_NMI;
	vmwrite(VMCS_GUEST_INTERRUPTIBILITY, blocking);
	settle_single_step();
	vp_post_self(vp, VP_PENDING_EVENT);
}

/* 0: the MSR isn't in the VMCS. */
static uint32_t msr_in_vmcs(uint32_t msr)
{
	switch (msr) {
	case MSR_SYSENTER_CS:
		return VMCS_GUEST_SYSENTER_CS;
	case MSR_SYSENTER_ESP:
		return VMCS_GUEST_SYSENTER_ESP;
	case MSR_SYSENTER_EIP:
		return VMCS_GUEST_SYSENTER_EIP;
	case MSR_PAT:
		return VMCS_GUEST_PAT;
	case MSR_DEBUGCTL:
		return VMCS_GUEST_DEBUGCTL;
	case MSR_EFER:
		return VMCS_GUEST_EFER;
	case MSR_FS_BASE:
		return VMCS_GUEST_FS_BASE;
	case MSR_GS_BASE:
		return VMCS_GUEST_GS_BASE;
	default:
		return 0;
	}
}

static int set_efer(struct vp *vp, uint64_t value)
{
	if (value & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return -EINVAL;
	vmx_set_guest_efer(value);
	vmx_of(vp)->pdptes_stale = true;
	vp_post_self(vp, VP_PENDING_FLUSH);
	return 0;
}

/*
 * VM entry refuses bits that this very processor doesn't have, and trying them out here could start a trace in the hypervisor: those that
 * every one has, and what the guest has set itself already.
 */
static bool debugctl_fits(const struct vp *vp, uint64_t value)
{
	if (vp->child) /* CPUID tells it of nothing that takes the others */
		return !(value & ~DEBUGCTL_BTF);
	return !(value & ~(DEBUGCTL_LBR | DEBUGCTL_BTF | vmread(VMCS_GUEST_DEBUGCTL)));
}

/* Those that look into the local APIC, or may: the model has to know what the processor did there. */
static void know_apic_for(struct vp *vp, uint32_t msr)
{
	if (msr == MSR_APIC_BASE || hv_msr_is_synthetic(msr))
		vmx_know_apic(vp);
}

/* Nothing of the machine's: what is in its processor while it runs, and core's tables. */
static int write_childs(struct vp *vp, uint32_t msr, uint64_t value)
{
	int index = vmx_switched_msr(msr), err;

	if (index >= 0)
		return vmx_write_switched(vp, index, value) ? 0 : -EINVAL;
	vp_post_self(vp, VP_PENDING_EVENT);
	err = vp_msr_write(vp, msr, value);
	if (!err && (msr == MSR_TSC || msr == MSR_TSC_ADJUST) && vmx_is_loaded(vp))
		vmx_update_tsc(vp);
	return err;
}

/* What isn't in the VMCS: the way of the guest's own WRMSR. */
static int write_through(struct vp *vp, uint32_t msr, uint64_t value)
{
	if (vp->child)
		return write_childs(vp, msr, value);
	if (vmx_msr_is_refused(msr))
		return -EINVAL;
	if (vmx_is_mtrr(msr))
		return vmx_mtrr_write(vp, msr, value) ? 0 : -EINVAL;
	if (vmx_msr_write_is_checked(msr))
		return vmx_checked_msr_write(msr, value) ? 0 : -EINVAL;
	know_apic_for(vp, msr);
	vp_post_self(vp, VP_PENDING_EVENT);
	return vp_msr_write(vp, msr, value);
}

int vmx_get_msr(struct vp *vp, uint32_t msr, uint64_t *value)
{
	uint32_t field = msr_in_vmcs(msr);

	if (field) {
		*value = vmread(field);
		return 0;
	}
	if (vp->child) {
		int index = vmx_switched_msr(msr);

		if (index >= 0) {
			*value = vmx_read_switched(vp, index);
			return 0;
		}
		return vp_msr_read(vp, msr, value);
	}
	if (vmx_msr_is_refused(msr))
		return -EINVAL;
	know_apic_for(vp, msr);
	return vp_msr_read(vp, msr, value);
}

int vmx_set_msr(struct vp *vp, uint32_t msr, uint64_t value)
{
	uint32_t field = msr_in_vmcs(msr);

	if (!field)
		return write_through(vp, msr, value);
	if (msr == MSR_EFER)
		return set_efer(vp, value);
	if (msr == MSR_DEBUGCTL && !debugctl_fits(vp, value))
		return -EINVAL;
	vmwrite(field, value);
	if (msr == MSR_DEBUGCTL)
		settle_single_step();
	if (msr == MSR_PAT)
		vp_post_self(vp, VP_PENDING_FLUSH);
	return 0;
}

void vmx_get_register(struct vp *vp, enum vp_register which, union hv_register_value *value)
{
	value->reg128 = (struct hv_u128){ 0 };
	switch (which) {
	case VP_REGISTER_RSP:
		value->reg64 = vmread(VMCS_GUEST_RSP);
		return;
	case VP_REGISTER_RIP:
		value->reg64 = vmread(VMCS_GUEST_RIP);
		return;
	case VP_REGISTER_RFLAGS:
		value->reg64 = vmread(VMCS_GUEST_RFLAGS);
		return;
	case VP_REGISTER_CR0:
		value->reg64 = vmx_guest_cr0(vp);
		return;
	case VP_REGISTER_CR2:
		value->reg64 = vmx_cr2(vp);
		return;
	case VP_REGISTER_CR3:
		value->reg64 = vmread(VMCS_GUEST_CR3);
		return;
	case VP_REGISTER_CR4:
		value->reg64 = vmx_guest_cr4(vp);
		return;
	case VP_REGISTER_CR8:
		value->reg64 = apic_cr8(&vp->apic);
		return;
	case VP_REGISTER_DR6:
		value->reg64 = vmx_dr6(vp);
		return;
	case VP_REGISTER_DR7:
		value->reg64 = vmread(VMCS_GUEST_DR7);
		return;
	case VP_REGISTER_IDTR:
		value->table.limit = (uint16_t)vmread(VMCS_GUEST_IDTR_LIMIT);
		value->table.base = vmread(VMCS_GUEST_IDTR_BASE);
		return;
	case VP_REGISTER_GDTR:
		value->table.limit = (uint16_t)vmread(VMCS_GUEST_GDTR_LIMIT);
		value->table.base = vmread(VMCS_GUEST_GDTR_BASE);
		return;
	case VP_REGISTER_PENDING_INTERRUPTION:
		value->reg64 = get_pending_interruption(vp);
		return;
	case VP_REGISTER_INTERRUPT_STATE:
		value->reg64 = get_interrupt_state();
		return;
	default:
		get_segment(which, value);
		return;
	}
}

void vmx_get_snapshot(struct vp *vp, struct vp_snapshot *snapshot)
{
	vp->gpr[GPR_RSP] = vmread(VMCS_GUEST_RSP);
	snapshot->rip = vmread(VMCS_GUEST_RIP);
	snapshot->rflags = vmread(VMCS_GUEST_RFLAGS);
	snapshot->cr0 = vmx_guest_cr0(vp);
	snapshot->cr3 = vmread(VMCS_GUEST_CR3);
	snapshot->cr4 = vmx_guest_cr4(vp);
	snapshot->cr8 = apic_cr8(&vp->apic);
	snapshot->efer = vmread(VMCS_GUEST_EFER);
	snapshot->dr7 = vmread(VMCS_GUEST_DR7);
	snapshot->pending_interruption = get_pending_interruption(vp);
	snapshot->interrupt_state = get_interrupt_state();
	for (uint32_t i = INSN_SEG_ES; i <= INSN_SEG_GS; i++)
		snapshot->segment[i] = read_segment(2 * i);
	snapshot->cpl = snapshot->segment[INSN_SEG_SS].attributes >> HV_SEGMENT_DPL_SHIFT & 3;
}

/* Those that decide how memory is seen: translations made under the old value go. */
static int set_control_register(struct vp *vp, enum vp_register which, uint64_t value)
{
	if (which == VP_REGISTER_CR4 && (value & ~cr4_bits(vp)))
		return -EINVAL;
	if (which == VP_REGISTER_CR0)
		vmx_set_guest_cr0(vp, value | CR0_ET);
	else if (which == VP_REGISTER_CR3)
		vmwrite(VMCS_GUEST_CR3, value);
	else
		vmx_set_guest_cr4(vp, value);
	vmx_of(vp)->pdptes_stale = true;
	vp_post_self(vp, VP_PENDING_FLUSH);
	return 0;
}

static void set_rip(uint64_t value)
{
	vmwrite(VMCS_GUEST_RIP, value);
	vmwrite(VMCS_GUEST_INTERRUPTIBILITY,
		vmread(VMCS_GUEST_INTERRUPTIBILITY) & ~(BLOCKING_STI | BLOCKING_MOV_SS));
}

int vmx_set_register(struct vp *vp, enum vp_register which, const union hv_register_value *value)
{
	switch (which) {
	case VP_REGISTER_RSP:
		vmwrite(VMCS_GUEST_RSP, value->reg64);
		return 0;
	case VP_REGISTER_RIP:
		set_rip(value->reg64);
		return 0;
	case VP_REGISTER_RFLAGS:
		vmwrite(VMCS_GUEST_RFLAGS, value->reg64);
		settle_single_step();
		vp_post_self(vp, VP_PENDING_EVENT);
		return 0;
	case VP_REGISTER_CR0:
	case VP_REGISTER_CR3:
	case VP_REGISTER_CR4:
		return set_control_register(vp, which, value->reg64);
	case VP_REGISTER_CR2:
		vmx_set_cr2(vp, value->reg64);
		vmx_of(vp)->cr2_set = true;
		return 0;
	case VP_REGISTER_CR8:
		vmx_know_apic(vp);
		apic_set_tpr(&vp->apic, (uint8_t)(value->reg64 << 4));
		vp_post_self(vp, VP_PENDING_EVENT);
		return 0;
	case VP_REGISTER_DR6:
		vmx_set_dr6(vp, (value->reg64 | DR6_ONES) & ~DR6_ZERO);
		return 0;
	case VP_REGISTER_DR7:
		vmwrite(VMCS_GUEST_DR7, (value->reg64 | DR7_ONES) & ~DR7_ZERO);
		return 0;
	case VP_REGISTER_IDTR:
		vmwrite(VMCS_GUEST_IDTR_LIMIT, value->table.limit);
		vmwrite(VMCS_GUEST_IDTR_BASE, value->table.base);
		return 0;
	case VP_REGISTER_GDTR:
		vmwrite(VMCS_GUEST_GDTR_LIMIT, value->table.limit);
		vmwrite(VMCS_GUEST_GDTR_BASE, value->table.base);
		return 0;
	case VP_REGISTER_PENDING_INTERRUPTION:
		return set_pending_interruption(vp, value->reg64);
	case VP_REGISTER_INTERRUPT_STATE:
		set_interrupt_state(vp, value->reg64);
		return 0;
	default:
		set_segment(which, value);
		return 0;
	}
}

/* PAE paging keeps its four top entries in the VMCS; whoever sets CR3 and the like in pieces gets them when all is there. */
static bool load_stale_pdptes(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);
	bool pae = (vmx_guest_cr0(vp) & CR0_PG) && (vmx_guest_cr4(vp) & CR4_PAE) &&
		   !(vmread(VMCS_GUEST_EFER) & EFER_LMA);

	if (!own->pdptes_stale)
		return true;
	own->pdptes_stale = pae && !vmx_load_pdptes(vp);
	return !own->pdptes_stale;
}

void vmx_settle_pdptes(struct vp *vp)
{
	if (load_stale_pdptes(vp))
		return;
	vmx_of(vp)->pdptes_stale = false;
	for (uint32_t i = 0; i < 4; i++)
		vmwrite(VMCS_GUEST_PDPTE0 + 2 * i, 0);
}

bool vmx_can_run(struct vp *vp)
{
	char why[1];

	return load_stale_pdptes(vp) && vmx_check(&vmx, why, sizeof(why)) == 0;
}
