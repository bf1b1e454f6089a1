/* SPDX-License-Identifier: MIT */
/*
 * What a child partition's VP may do without an exit: nothing that concerns others, or that CPUID doesn't tell it of. Everything else ends
 * in child_exit.c.
 */
#include "switch.h"
#include <trivet/host_memory.h>
#include <trivet/log.h>
#include <trivet/partition.h>

#define CPUID_1_ECX_PCID BIT(17)
#define CPUID_7_EBX_FSGSBASE BIT(0)
#define CPUID_7_EBX_SMEP BIT(7)
#define CPUID_7_EBX_INVPCID BIT(10)
#define CPUID_7_EBX_SMAP BIT(20)
#define CPUID_7_ECX_UMIP BIT(2)

/* What every processor has that runs us: VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT. */
#define CR4_ALWAYS 0x7ffull
#define CR4_UMIP BIT(11)
#define CR4_FSGSBASE BIT(16)
#define CR4_OFFERED (CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE)

#define NEEDED_PROC                                                                             \
	(PROC_TSC_OFFSET | PROC_HLT | PROC_MWAIT | PROC_RDPMC | PROC_TPR_SHADOW | PROC_MOV_DR | \
	 PROC_UNCONDITIONAL_IO | PROC_MSR_BITMAPS | PROC_MONITOR | PROC_SECONDARY)
#define NEEDED_PROC2 (PROC2_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_WBINVD)
#define WANTED_PROC2 (PROC2_VPID | PROC2_ENCLS | PROC2_ENCLV)
#define OFFERED_PROC2 (PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES)

/* Capabilities: bits that must be set in the low half, those that may be in the high half (SDM3 A.3). */
static bool choose(uint64_t capability, uint64_t needed, uint64_t wanted, uint32_t *controls)
{
	uint64_t allowed = capability >> 32;

	*controls = (uint32_t)((needed | wanted) & allowed) | (uint32_t)capability;
	return !(needed & ~allowed);
}

void vmx_child_init(void)
{
	/*
	 * The page that stands for the local APIC's is the same one in all spaces: accesses end here whatever the APIC's mode is, none
	 * goes through to it.
	 */
	uint64_t wanted = WANTED_PROC2 | (vmx.apic_controls & PROC2_APIC_ACCESSES);

	if (!(vmx.proc2 & PROC2_VPID)) /* there is something of it, but not enough */
		wanted &= ~PROC2_VPID;
	vmx.has_children = choose(vmx.caps.proc, NEEDED_PROC, 0, &vmx.child_proc) &&
			   choose(vmx.caps.proc2, NEEDED_PROC2, wanted, &vmx.child_proc2);
	vmx.child_offers2 = (uint32_t)(vmx.caps.proc2 >> 32 & OFFERED_PROC2);
	if (!vmx.has_children)
		log_warn("vmx: the processor lacks a control that child partitions need");
}

uint64_t vmx_child_cr4_bits(void)
{
	return (CR4_ALWAYS | CR4_OFFERED) & vmx.cr4_fixed1;
}

static void write_proc2(struct vp *vp, uint32_t proc2)
{
	vmx_of(vp)->proc2 = proc2;
	vmwrite(VMCS_PROC_CONTROLS2, proc2);
}

/* Without changing what the guest reads: a bit that it doesn't own any more comes from the shadow. */
static void let_have_cr4(struct vp *vp, uint64_t bits)
{
	uint64_t cr4 = vmx_guest_cr4(vp);

	vmwrite(VMCS_CR4_MASK, ~bits | CR4_MCE);
	vmx_set_guest_cr4(vp, cr4);
}

void vmx_child_write_controls(struct vp *vp)
{
	vmx_of(vp)->proc = vmx.child_proc;
	vmx_follow_intercepts(vp);
	write_proc2(vp, vmx.child_proc2);
	vmwrite(VMCS_MSR_BITMAP, hv_virt_to_phys(vmx.child_msr_map).v);
	vmwrite(VMCS_TSC_OFFSET, 0);
	vmwrite(VMCS_CR0_MASK, CR0_NE | CR0_NW | CR0_CD);
	vmwrite(VMCS_CR4_MASK, ~vmx_child_cr4_bits() | CR4_MCE);
	if (vmx.child_proc2 & PROC2_ENCLS)
		vmwrite(VMCS_ENCLS_EXITING, UINT64_MAX);
	if (vmx.child_proc2 & PROC2_ENCLV)
		vmwrite(VMCS_ENCLV_EXITING, UINT64_MAX);
	if (vmx.child_offers2 & PROC2_XSAVES)
		vmwrite(VMCS_XSS_EXITING, UINT64_MAX);
}

/* As the guest's own CPUID. */
static struct cpuid_regs ask(struct vp *vp, uint32_t leaf, uint32_t subleaf)
{
	return vp_cpuid_ask(vp, leaf, subleaf, vmx_guest_cr4(vp));
}

void vmx_child_learn_features(struct vp *vp)
{
	const uint32_t last = ask(vp, 0, 0).eax, last_extended = ask(vp, 0x80000000, 0).eax;
	const struct cpuid_regs none = { 0 };
	const struct cpuid_regs basic = ask(vp, 1, 0);
	const struct cpuid_regs more = last >= 7 ? ask(vp, 7, 0) : none;
	const struct cpuid_regs xstate = last >= CPUID_XSTATE ? ask(vp, CPUID_XSTATE, 1) : none;
	const struct cpuid_regs extended =
		last_extended >= CPUID_EXTENDED && last_extended >> 31 ? ask(vp, CPUID_EXTENDED, 0) : none;
	bool has_aux = (extended.edx & CPUID_EXTENDED_EDX_RDTSCP) || (more.ecx & CPUID_7_ECX_RDPID);
	const struct {
		bool offered;
		uint64_t bit;
	} cr4[] = {
		{ basic.ecx & CPUID_1_ECX_PCID, CR4_PCIDE },	   { basic.ecx & CPUID_1_ECX_XSAVE, CR4_OSXSAVE },
		{ more.ebx & CPUID_7_EBX_FSGSBASE, CR4_FSGSBASE }, { more.ebx & CPUID_7_EBX_SMEP, CR4_SMEP },
		{ more.ebx & CPUID_7_EBX_SMAP, CR4_SMAP },	   { more.ecx & CPUID_7_ECX_UMIP, CR4_UMIP },
		{ more.ecx & CPUID_7_ECX_PKU, CR4_PKE },
	}, controls[] = {
		{ has_aux, PROC2_RDTSCP },
		{ more.ebx & CPUID_7_EBX_INVPCID, PROC2_INVPCID },
		{ xstate.eax & CPUID_XSTATE_1_EAX_XSAVES, PROC2_XSAVES },
	};
	uint64_t bits = CR4_ALWAYS, proc2 = 0;

	for (size_t i = 0; i < ARRAY_SIZE(cr4); i++)
		bits |= cr4[i].offered ? cr4[i].bit : 0;
	for (size_t i = 0; i < ARRAY_SIZE(controls); i++)
		proc2 |= controls[i].offered ? controls[i].bit : 0;
	let_have_cr4(vp, bits & vmx.cr4_fixed1);
	write_proc2(vp, vmx.child_proc2 | ((uint32_t)proc2 & vmx.child_offers2));
	vmx_page_of(vp)->features_known = true;
}
