/* SPDX-License-Identifier: MIT */
/* Can this processor run Trivet, and with what? SDM3 24.6-24.8, appendix A. */
#include "vmx.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <trivet/io.h>

struct vmx_machine vmx;

static int refuse(char *why, size_t size, const char *text)
{
	snprintf(why, size, "%s", text);
	return -ENODEV;
}

/*
 * `required` and, as far as they exist, `wanted` control bits. A capability MSR has the bits that must be set in its low
 * half and those that may be in its high half (SDM3 A.3.1). False: one that is required doesn't exist.
 */
static bool choose(uint64_t capability, uint64_t required, uint64_t wanted, uint32_t *controls)
{
	uint32_t allowed = (uint32_t)(capability >> 32);

	*controls = ((uint32_t)(required | wanted) & allowed) | (uint32_t)capability;
	return (required & ~(uint64_t)allowed) == 0;
}

/* Also what lets the guest execute the instructions that its CPUID shows. */
#define PROC2_INSTRUCTIONS (PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES | PROC2_USER_WAIT | PROC2_PCONFIG)
#define PROC2_APIC (PROC2_APIC_ACCESSES | PROC2_X2APIC | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY)

static bool choose_controls(void)
{
	vmx.caps = (struct vmx_caps){
		.pin = rdmsr(MSR_VMX_TRUE_PIN),
		.proc = rdmsr(MSR_VMX_TRUE_PROC),
		.exit = rdmsr(MSR_VMX_TRUE_EXIT),
		.entry = rdmsr(MSR_VMX_TRUE_ENTRY),
		.misc = rdmsr(MSR_VMX_MISC),
	};
	if (!choose(vmx.caps.proc,
		    PROC_HLT | PROC_TPR_SHADOW | PROC_IO_BITMAPS | PROC_MSR_BITMAPS | PROC_SECONDARY, 0,
		    &vmx.proc))
		return false;
	vmx.caps.proc2 = rdmsr(MSR_VMX_PROC2);
	return choose(vmx.caps.pin, PIN_EXTERNAL_INTERRUPT | PIN_NMI | PIN_VIRTUAL_NMI,
		      PIN_PREEMPTION_TIMER | PIN_POSTED_INTERRUPTS, &vmx.pin) &&
	       choose(vmx.caps.proc2, PROC2_EPT | PROC2_UNRESTRICTED_GUEST,
		      PROC2_VPID | PROC2_INSTRUCTIONS | PROC2_APIC, &vmx.proc2) &&
	       choose(vmx.caps.exit,
		      EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_ACK_INTERRUPT | EXIT_SAVE_PAT | EXIT_LOAD_PAT |
			      EXIT_SAVE_EFER | EXIT_LOAD_EFER,
		      vmx.pin & PIN_PREEMPTION_TIMER ? EXIT_SAVE_PREEMPTION_TIMER : 0, &vmx.exit) &&
	       choose(vmx.caps.entry, ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER, 0, &vmx.entry);
}

static bool choose_ept(void)
{
	const uint64_t needed = EPT_CAP_WALK_4 | EPT_CAP_WRITE_BACK | EPT_CAP_2M | EPT_CAP_INVEPT |
				EPT_CAP_INVEPT_SINGLE | EPT_CAP_INVEPT_ALL;
	const uint64_t vpid = VPID_CAP_INVVPID | VPID_CAP_SINGLE | VPID_CAP_ALL;

	vmx.ept_vpid_cap = rdmsr(MSR_VMX_EPT_VPID);
	if ((vmx.ept_vpid_cap & needed) != needed)
		return false;
	if ((vmx.ept_vpid_cap & vpid) != vpid)
		vmx.proc2 &= ~(uint32_t)PROC2_VPID;
	return true;
}

/*
 * Register virtualization and interrupt delivery come together or not at all: one without the other would save little. Without
 * them virtualized x2APIC mode saves the exits for TPR, as TPR shadow does in any mode.
 */
static void choose_apic_virtualization(void)
{
	const uint32_t full = PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY;

	vmx.apic_controls = vmx.proc2 & (uint32_t)PROC2_APIC;
	vmx.proc2 &= ~(uint32_t)PROC2_APIC;
	if ((vmx.apic_controls & full) != full)
		vmx.apic_controls &= (uint32_t)PROC2_X2APIC;
	vmx.posted = (vmx.apic_controls & PROC2_INTERRUPT_DELIVERY) && (vmx.pin & PIN_POSTED_INTERRUPTS);
	vmx.pin &= ~(uint32_t)PIN_POSTED_INTERRUPTS;
}

bool vmx_allowed_by_firmware(void)
{
	uint64_t control = rdmsr(MSR_FEATURE_CONTROL);

	return !(control & FEATURE_CONTROL_LOCK) || (control & FEATURE_CONTROL_VMX);
}

int vmx_probe(char *why, size_t size)
{
	uint64_t cr4;

	if (!(cpuid(1, 0).ecx & BIT(5)))
		return -ENOENT;
	if (!vmx_allowed_by_firmware())
		return refuse(
			why, size,
			"VMX is disabled by the firmware: turn it on in the setup (\"Intel Virtualization "
			"Technology\")");
	/* Firmware can hide it (SDM4 IA32_MISC_ENABLE bit 34), and then setting EFER.NXE, as host_memory_init() does, is #GP (SDM3 2.2.1). */
	if (!(cpuid(0x80000001, 0).edx & CPUID_EXTENDED_EDX_NX))
		return refuse(
			why, size,
			"no-execute pages are disabled by the firmware: turn them on in the setup (\"Execute "
			"Disable Bit\")");
	vmx.basic = rdmsr(MSR_VMX_BASIC);
	if (!(vmx.basic & VMX_BASIC_TRUE_CONTROLS) || !choose_controls())
		return refuse(why, size,
			      "the processor's VMX is too old: it has no EPT with unrestricted guest");
	if (!choose_ept())
		return refuse(why, size, "the processor's EPT is too old");
	choose_apic_virtualization();
	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	if (cr4 & CR4_LA57)
		return refuse(why, size,
			      "the firmware runs with 5-level paging, which Trivet does not do yet");
	vmx.cr0_fixed0 = rdmsr(MSR_VMX_CR0_FIXED0);
	vmx.cr0_fixed1 = rdmsr(MSR_VMX_CR0_FIXED1);
	vmx.cr4_fixed0 = rdmsr(MSR_VMX_CR4_FIXED0);
	vmx.cr4_fixed1 = rdmsr(MSR_VMX_CR4_FIXED1);
	vmx.phys_bits = cpuid(0x80000008, 0).eax & 0xff;
	vmx.gbpages = cpuid(0x80000001, 0).edx & BIT(26);
	return 0;
}

void vmx_describe(char *text, size_t size)
{
	const struct {
		bool found;
		const char *name;
	} features[] = {
		{ true, "ept" },
		{ vmx.ept_vpid_cap & EPT_CAP_1G, "1g-pages" },
		{ vmx.ept_vpid_cap & EPT_CAP_ACCESSED_DIRTY, "accessed-dirty" },
		{ true, "unrestricted-guest" },
		{ vmx.proc2 & PROC2_VPID, "vpid" },
		{ vmx.pin & PIN_PREEMPTION_TIMER, "preemption-timer" },
		{ vmx.apic_controls & PROC2_APIC_ACCESSES, "apic-accesses" },
		{ vmx.apic_controls & PROC2_X2APIC, "x2apic" },
		{ vmx.apic_controls & PROC2_APIC_REGISTERS, "apic-registers" },
		{ vmx.apic_controls & PROC2_INTERRUPT_DELIVERY, "interrupt-delivery" },
		{ vmx.posted, "posted-interrupts" },
	};
	size_t used = 0;

	text[0] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(features) && used < size; i++)
		if (features[i].found)
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? " " : "",
						 features[i].name);
}
