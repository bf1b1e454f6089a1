/* SPDX-License-Identifier: MIT */
/*
 * The VM-entry consistency checker: what the processor checks of a VMCS, done in software, so that a bad field is named.
 * (The processor only says "invalid control fields", "invalid host state" or "invalid guest state".) Here: the
 * order of things, the helpers and the host state; the rest lies in check_controls.c, check_guest.c, check_segments.c.
 *
 * Left out, because it takes more than the VMCS: the virtual TPR against its threshold, the revision at the link pointer,
 * PDPTEs in memory without EPT. And what Trivet has no fields for: CET, PKRS, RTIT, perf-global and SMM controls.
 */
#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <trivet/guest_msrs.h>

void vmx_expect(struct check *c, bool holds, const char *field, uint64_t value, const char *text)
{
	if (holds || c->broken)
		return;
	c->broken = true;
	snprintf(c->why, c->size, "%s: %s (SDM3 %s): 0x%llx", field, text, c->section,
		 (unsigned long long)value);
}

void vmx_expect_address(struct check *c, const char *field, uint64_t value, uint64_t align)
{
	vmx_expect(c, IS_ALIGNED(value, align), field, value, "not aligned");
	vmx_expect(c, !(value >> c->machine->phys_bits), field, value, "beyond physical memory");
}

void vmx_expect_canonical(struct check *c, const char *field, uint64_t value)
{
	unsigned int unused = 64 - vmx_linear_bits(c);

	vmx_expect(c, (uint64_t)((int64_t)(value << unused) >> unused) == value, field, value,
		   "not canonical");
}

void vmx_expect_pat(struct check *c, const char *field, uint64_t value)
{
	vmx_expect(c, pat_is_valid(value), field, value, "a byte is no memory type");
}

static void check_host_registers(struct check *c)
{
	const struct vmx_machine *machine = c->machine;
	uint64_t cr0 = vmread(VMCS_HOST_CR0), cr3 = vmread(VMCS_HOST_CR3), cr4 = vmread(VMCS_HOST_CR4);
	uint64_t needed = machine->cr0_fixed0 | CR0_PE | CR0_PG;

	c->section = "27.2.2";
	vmx_expect(c, !(needed & ~cr0 & ~CR0_FREE), "host CR0", cr0, "a fixed bit is clear");
	vmx_expect(c, !(cr0 & ~machine->cr0_fixed1 & ~CR0_FREE), "host CR0", cr0,
		   "an unsupported bit is set");
	vmx_expect(c, !(machine->cr4_fixed0 & ~cr4), "host CR4", cr4, "a fixed bit is clear");
	vmx_expect(c, !(cr4 & ~machine->cr4_fixed1), "host CR4", cr4, "an unsupported bit is set");
	vmx_expect(c, !(cr4 & CR4_CET) || (cr0 & CR0_WP), "host CR4", cr4, "CET without CR0.WP");
	vmx_expect(c, !(cr3 >> machine->phys_bits), "host CR3", cr3, "beyond physical memory");
	vmx_expect_canonical(c, "host SYSENTER_ESP", vmread(VMCS_HOST_SYSENTER_ESP));
	vmx_expect_canonical(c, "host SYSENTER_EIP", vmread(VMCS_HOST_SYSENTER_EIP));
	if (c->exit & EXIT_LOAD_PAT)
		vmx_expect_pat(c, "host PAT", vmread(VMCS_HOST_PAT));
	if (c->exit & EXIT_LOAD_EFER) {
		uint64_t efer = vmread(VMCS_HOST_EFER),
			 mode = c->exit & EXIT_HOST_64 ? EFER_LMA | EFER_LME : 0;

		vmx_expect(c, !(efer & ~EFER_DEFINED), "host EFER", efer, "a reserved bit is set");
		vmx_expect(c, (efer & (EFER_LMA | EFER_LME)) == mode, "host EFER", efer,
			   "LMA and LME differ from \"host address-space size\"");
	}
}

static void check_host_segments(struct check *c)
{
	static const char *const names[] = { "host ES", "host CS", "host SS", "host DS",
					     "host FS", "host GS", "host TR" };
	uint64_t cs = vmread(VMCS_HOST_CS_SELECTOR), tr = vmread(VMCS_HOST_TR_SELECTOR);

	c->section = "27.2.3";
	for (uint32_t i = 0; i < ARRAY_SIZE(names); i++) {
		uint64_t selector = vmread(VMCS_HOST_ES_SELECTOR + 2 * i);

		vmx_expect(c, !(selector & 7), names[i], selector, "RPL and TI must be 0");
	}
	vmx_expect(c, cs != 0, "host CS", cs, "null selector");
	vmx_expect(c, tr != 0, "host TR", tr, "null selector");
	vmx_expect_canonical(c, "host FS base", vmread(VMCS_HOST_FS_BASE));
	vmx_expect_canonical(c, "host GS base", vmread(VMCS_HOST_GS_BASE));
	vmx_expect_canonical(c, "host GDTR base", vmread(VMCS_HOST_GDTR_BASE));
	vmx_expect_canonical(c, "host IDTR base", vmread(VMCS_HOST_IDTR_BASE));
	vmx_expect_canonical(c, "host TR base", vmread(VMCS_HOST_TR_BASE));
}

/* The hypervisor is 64-bit code, so the rules for a host that isn't come down to one. */
static void check_host_mode(struct check *c)
{
	uint64_t cr4 = vmread(VMCS_HOST_CR4);

	c->section = "27.2.4";
	vmx_expect(c, c->exit & EXIT_HOST_64, "exit controls", c->exit,
		   "\"host address-space size\" is clear");
	vmx_expect(c, cr4 & CR4_PAE, "host CR4", cr4, "PAE is clear in a 64-bit host");
	vmx_expect_canonical(c, "host RIP", vmread(VMCS_HOST_RIP));
}

int vmx_check(const struct vmx_machine *machine, char *why, size_t size)
{
	struct check c = {
		.machine = machine,
		.size = size,
		.pin = (uint32_t)vmread(VMCS_PIN_CONTROLS),
		.proc = (uint32_t)vmread(VMCS_PROC_CONTROLS),
		.exit = (uint32_t)vmread(VMCS_EXIT_CONTROLS),
		.entry = (uint32_t)vmread(VMCS_ENTRY_CONTROLS),
		.event = (uint32_t)vmread(VMCS_ENTRY_EVENT),
	};

	c.why = why;
	/* Without "activate secondary controls" the processor takes them all for 0, SDM3 27.2.1.1. */
	if (c.proc & PROC_SECONDARY)
		c.proc2 = (uint32_t)vmread(VMCS_PROC_CONTROLS2);
	vmx_check_controls(&c);
	check_host_registers(&c);
	check_host_segments(&c);
	check_host_mode(&c);
	vmx_check_guest_registers(&c);
	vmx_check_segments(&c);
	vmx_check_guest_state(&c);
	return c.broken ? -EINVAL : 0;
}
