/* SPDX-License-Identifier: MIT */
/* The VM-entry checker's part on the guest but its segments: registers, MSRs, non-register state, PDPTEs (SDM3 27.3.1). */
#include "check.h"

#include <trivet/exceptions.h>

#define CR3_LAM (BIT(61) | BIT(62))
#define DEBUGCTL_RESERVED (~0xffffull | 0x38) /* what no processor has */
#define RFLAGS_RESERVED (~0x3fffffull | BIT(15) | BIT(5) | BIT(3))
#define BNDCFGS_RESERVED 0xffcull
#define PENDING_DEBUG_BS BIT(14)
#define PENDING_DEBUG_RTM BIT(16)
#define PENDING_DEBUG_ENABLED BIT(12)
#define PENDING_DEBUG_RESERVED (~0x1ffffull | BIT(15) | BIT(13) | 0x7f0)
#define MISC_ACTIVITY_SHIFT 6 /* HLT, shutdown, wait-for-SIPI from here on, SDM3 A.6 */
#define PDPTE_RESERVED 0x1e6ull
#define NO_LINK UINT64_MAX

static bool long_mode(const struct check *c)
{
	return c->entry & ENTRY_GUEST_LONG_MODE;
}

static void check_control_registers(struct check *c)
{
	const struct vmx_machine *machine = c->machine;
	uint64_t cr0 = vmread(VMCS_GUEST_CR0), cr3 = vmread(VMCS_GUEST_CR3), cr4 = vmread(VMCS_GUEST_CR4);
	uint64_t free = CR0_FREE | (c->proc2 & PROC2_UNRESTRICTED_GUEST ? CR0_PE | CR0_PG : 0);
	uint64_t cr3_high = machine->cr4_fixed1 & CR4_LAM_SUP ? CR3_LAM : 0;

	vmx_expect(c, !((machine->cr0_fixed0 | CR0_PE | CR0_PG) & ~cr0 & ~free), "guest CR0", cr0,
		   "a fixed bit is clear");
	vmx_expect(c, !(cr0 & ~machine->cr0_fixed1 & ~free), "guest CR0", cr0, "an unsupported bit is set");
	vmx_expect(c, !(cr0 & CR0_PG) || (cr0 & CR0_PE), "guest CR0", cr0, "PG without PE");
	vmx_expect(c, !(machine->cr4_fixed0 & ~cr4), "guest CR4", cr4, "a fixed bit is clear");
	vmx_expect(c, !(cr4 & ~machine->cr4_fixed1), "guest CR4", cr4, "an unsupported bit is set");
	vmx_expect(c, !(cr4 & CR4_CET) || (cr0 & CR0_WP), "guest CR4", cr4, "CET without CR0.WP");
	if (long_mode(c)) {
		vmx_expect(c, cr0 & CR0_PG, "guest CR0", cr0, "PG is clear in IA-32e mode");
		vmx_expect(c, cr4 & CR4_PAE, "guest CR4", cr4, "PAE is clear in IA-32e mode");
	} else {
		vmx_expect(c, !(cr4 & CR4_PCIDE), "guest CR4", cr4, "PCIDE outside IA-32e mode");
	}
	vmx_expect(c, !((cr3 & ~cr3_high) >> machine->phys_bits), "guest CR3", cr3, "beyond physical memory");
}

static void check_efer(struct check *c)
{
	uint64_t efer = vmread(VMCS_GUEST_EFER);

	vmx_expect(c, !(efer & ~EFER_DEFINED), "guest EFER", efer, "a reserved bit is set");
	vmx_expect(c, !(efer & EFER_LMA) == !long_mode(c), "guest EFER", efer,
		   "LMA differs from \"IA-32e mode guest\"");
	vmx_expect(c, !(vmread(VMCS_GUEST_CR0) & CR0_PG) || !(efer & EFER_LMA) == !(efer & EFER_LME),
		   "guest EFER", efer, "LMA and LME differ with paging on");
}

static void check_msrs(struct check *c)
{
	if (c->entry & ENTRY_LOAD_DEBUG) {
		uint64_t debugctl = vmread(VMCS_GUEST_DEBUGCTL), dr7 = vmread(VMCS_GUEST_DR7);

		vmx_expect(c, !(debugctl & DEBUGCTL_RESERVED), "guest DEBUGCTL", debugctl,
			   "a reserved bit is set");
		vmx_expect(c, !(dr7 >> 32), "guest DR7", dr7, "a reserved bit is set");
	}
	vmx_expect_canonical(c, "guest SYSENTER_ESP", vmread(VMCS_GUEST_SYSENTER_ESP));
	vmx_expect_canonical(c, "guest SYSENTER_EIP", vmread(VMCS_GUEST_SYSENTER_EIP));
	if (c->entry & ENTRY_LOAD_PAT)
		vmx_expect_pat(c, "guest PAT", vmread(VMCS_GUEST_PAT));
	if (c->entry & ENTRY_LOAD_EFER)
		check_efer(c);
	if (c->entry & ENTRY_LOAD_BNDCFGS) {
		uint64_t bounds = vmread(VMCS_GUEST_BNDCFGS);

		vmx_expect(c, !(bounds & BNDCFGS_RESERVED), "guest BNDCFGS", bounds, "a reserved bit is set");
		vmx_expect_canonical(c, "guest BNDCFGS", bounds);
	}
}

void vmx_check_guest_registers(struct check *c)
{
	c->section = "27.3.1.1";
	check_control_registers(c);
	check_msrs(c);
}

/* Not the usual canonical form: bit N-1 is free. */
static void check_rip(struct check *c)
{
	uint64_t rip = vmread(VMCS_GUEST_RIP);
	uint64_t high = rip >> vmx_linear_bits(c), ones = UINT64_MAX >> vmx_linear_bits(c);

	if (long_mode(c) && (vmread(VMCS_GUEST_CS_RIGHTS) & RIGHTS_LONG))
		vmx_expect(c, high == 0 || high == ones, "guest RIP", rip,
			   "bits above a linear address differ");
	else
		vmx_expect(c, !(rip >> 32), "guest RIP", rip, "more than 32 bits outside 64-bit mode");
}

static void check_rflags(struct check *c)
{
	uint64_t rflags = vmread(VMCS_GUEST_RFLAGS);

	vmx_expect(c, !(rflags & RFLAGS_RESERVED), "guest RFLAGS", rflags, "a reserved bit is set");
	vmx_expect(c, rflags & RFLAGS_ONE, "guest RFLAGS", rflags, "bit 1 is clear");
	vmx_expect(c, !(rflags & RFLAGS_VM) || !long_mode(c), "guest RFLAGS", rflags, "VM in IA-32e mode");
	vmx_expect(c, !(rflags & RFLAGS_VM) || (vmread(VMCS_GUEST_CR0) & CR0_PE), "guest RFLAGS", rflags,
		   "VM without CR0.PE");
	vmx_expect(c, (rflags & RFLAGS_IF) || !vmx_event_is(c, EVENT_TYPE_INTR), "guest RFLAGS", rflags,
		   "IF is clear with an external interrupt");
}

/* What may be injected into a processor that doesn't run. */
static bool event_fits(const struct check *c, uint64_t activity)
{
	uint32_t vector = c->event & EVENT_VECTOR_MASK;
	bool machine_check = vmx_event_is(c, EVENT_TYPE_EXCEPTION) && vector == VECTOR_MC;

	if (!(c->event & EVENT_VALID) || activity == ACTIVITY_ACTIVE)
		return true;
	if (activity == ACTIVITY_HLT)
		return machine_check || vmx_event_is(c, EVENT_TYPE_INTR) || vmx_event_is(c, EVENT_TYPE_NMI) ||
		       (vmx_event_is(c, EVENT_TYPE_EXCEPTION) && vector == VECTOR_DB) ||
		       (vmx_event_is(c, EVENT_TYPE_OTHER) && vector == 0);
	if (activity == ACTIVITY_SHUTDOWN)
		return machine_check || vmx_event_is(c, EVENT_TYPE_NMI);
	return false;
}

static void check_activity(struct check *c)
{
	uint64_t activity = vmread(VMCS_GUEST_ACTIVITY), blocking = vmread(VMCS_GUEST_INTERRUPTIBILITY);
	uint64_t supported = 1 | (c->machine->caps.misc >> MISC_ACTIVITY_SHIFT & 7) << 1;

	vmx_expect(c, activity <= ACTIVITY_WAIT_FOR_SIPI && (supported >> activity & 1), "guest activity",
		   activity, "unsupported");
	vmx_expect(c, activity != ACTIVITY_HLT || !(vmread(VMCS_GUEST_SS_RIGHTS) >> RIGHTS_DPL_SHIFT & 3),
		   "guest activity", activity, "HLT outside CPL 0");
	vmx_expect(c, activity == ACTIVITY_ACTIVE || !(blocking & (BLOCKING_STI | BLOCKING_MOV_SS)),
		   "guest activity", activity, "not active in an interrupt shadow");
	vmx_expect(c, event_fits(c, activity), "guest activity", activity, "can't take the entry event");
}

static void check_interruptibility(struct check *c)
{
	uint64_t blocking = vmread(VMCS_GUEST_INTERRUPTIBILITY);
	const char *field = "guest interruptibility";

	vmx_expect(c, blocking < 32, field, blocking, "a reserved bit is set");
	vmx_expect(c, !(blocking & BLOCKING_STI) || !(blocking & BLOCKING_MOV_SS), field, blocking,
		   "blocking by STI and by MOV SS");
	vmx_expect(c, !(blocking & BLOCKING_STI) || (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF), field, blocking,
		   "blocking by STI without RFLAGS.IF");
	vmx_expect(c, !(blocking & (BLOCKING_STI | BLOCKING_MOV_SS)) || !vmx_event_is(c, EVENT_TYPE_INTR),
		   field, blocking, "interrupt shadow with an external interrupt");
	/* By MOV SS on every processor, by STI on some. */
	vmx_expect(c, !(blocking & (BLOCKING_STI | BLOCKING_MOV_SS)) || !vmx_event_is(c, EVENT_TYPE_NMI),
		   field, blocking, "interrupt shadow with an NMI");
	vmx_expect(c, !(blocking & BLOCKING_SMI), field, blocking, "blocking by SMI outside SMM");
	vmx_expect(c,
		   !(blocking & BLOCKING_NMI) || !(c->pin & PIN_VIRTUAL_NMI) ||
			   !vmx_event_is(c, EVENT_TYPE_NMI),
		   field, blocking, "virtual NMIs are blocked with an NMI");
	vmx_expect(c, !(blocking & BLOCKING_ENCLAVE) || !(blocking & BLOCKING_MOV_SS), field, blocking,
		   "enclave interruption and blocking by MOV SS");
}

/* A trap that TF left pending needs BS, SDM3 27.7.3: where the guest can't have got past it, it has to be there. */
static void check_single_step(struct check *c, uint64_t pending)
{
	bool step = (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF) && !(vmread(VMCS_GUEST_DEBUGCTL) & DEBUGCTL_BTF);

	if (!(vmread(VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKING_STI | BLOCKING_MOV_SS)) &&
	    vmread(VMCS_GUEST_ACTIVITY) != ACTIVITY_HLT)
		return;
	vmx_expect(c, !step || (pending & PENDING_DEBUG_BS), "guest pending debug exceptions", pending,
		   "BS is clear while stepping in a shadow or HLT");
	vmx_expect(c, step || !(pending & PENDING_DEBUG_BS), "guest pending debug exceptions", pending,
		   "BS without stepping in a shadow or HLT");
}

static void check_pending_debug(struct check *c)
{
	uint64_t pending = vmread(VMCS_GUEST_PENDING_DEBUG);
	const char *field = "guest pending debug exceptions";

	vmx_expect(c, !(pending & PENDING_DEBUG_RESERVED), field, pending, "a reserved bit is set");
	check_single_step(c, pending);
	if (pending & PENDING_DEBUG_RTM) {
		vmx_expect(c, pending == (PENDING_DEBUG_RTM | PENDING_DEBUG_ENABLED), field, pending,
			   "RTM with other causes");
		vmx_expect(c, !(vmread(VMCS_GUEST_INTERRUPTIBILITY) & BLOCKING_MOV_SS), field, pending,
			   "RTM with blocking by MOV SS");
	}
}

static void check_link(struct check *c)
{
	uint64_t link = vmread(VMCS_LINK_POINTER);

	if (link != NO_LINK)
		vmx_expect_address(c, "VMCS link pointer", link, PAGE_SIZE);
}

/* With EPT they are fields; without, the processor reads the four in memory. */
static void check_pdptes(struct check *c)
{
	static const char *const names[] = { "guest PDPTE 0", "guest PDPTE 1", "guest PDPTE 2",
					     "guest PDPTE 3" };

	if (!(c->proc2 & PROC2_EPT) || long_mode(c) || !(vmread(VMCS_GUEST_CR0) & CR0_PG) ||
	    !(vmread(VMCS_GUEST_CR4) & CR4_PAE))
		return;
	for (uint32_t i = 0; i < ARRAY_SIZE(names); i++) {
		uint64_t pdpte = vmread(VMCS_GUEST_PDPTE0 + 2 * i);

		if (!(pdpte & 1))
			continue;
		vmx_expect(c, !(pdpte & PDPTE_RESERVED), names[i], pdpte, "a reserved bit is set");
		vmx_expect(c, !(pdpte >> c->machine->phys_bits), names[i], pdpte, "beyond physical memory");
	}
}

void vmx_check_guest_state(struct check *c)
{
	c->section = "27.3.1.4";
	check_rip(c);
	check_rflags(c);
	c->section = "27.3.1.5";
	check_activity(c);
	check_interruptibility(c);
	check_pending_debug(c);
	check_link(c);
	c->section = "27.3.1.6";
	check_pdptes(c);
}
