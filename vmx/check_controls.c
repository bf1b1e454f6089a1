/* SPDX-License-Identifier: MIT */
/* The VM-entry checker's part on controls: VM-execution, VM-exit and VM-entry control fields (SDM3 27.2.1). */
#include "check.h"

#include <trivet/exceptions.h>

#define EPTP_TYPE_MASK 7ull
#define EPTP_WALK_SHIFT 3
#define EPTP_ACCESSED_DIRTY BIT(6)
#define EPTP_SHADOW_STACK BIT(7)
#define EPTP_RESERVED 0xf00ull
#define EPT_CAP_WALK_5 BIT(7)
#define EPT_CAP_UNCACHEABLE BIT(8)
#define EPT_CAP_SHADOW_STACK BIT(23)
#define BASIC_ERROR_CODE_FREE BIT(56) /* an exception's error code doesn't depend on its vector, SDM3 A.1 */
#define MISC_CR3_TARGETS(misc) ((misc) >> 16 & 0x1ff)
#define MISC_ZERO_LENGTH BIT(30) /* software interrupts with instruction length 0 */
#define MSR_ENTRY_BYTES 16
#define EVENT_RESERVED 0x7ffff000u
#define FUNCTION_EPTP_SWITCHING BIT(0)

/* #DF, #TS, #NP, #SS, #GP, #PF, #AC */
#define VECTORS_WITH_ERROR 0x27d00u

/* Allowed-0 settings in the low half, allowed-1 in the high half, SDM3 A.2. */
static void check_reserved(struct check *c, const char *field, uint32_t value, uint64_t caps)
{
	vmx_expect(c, !((uint32_t)caps & ~value), field, value, "a bit that must be 1 is clear");
	vmx_expect(c, !(value & ~(uint32_t)(caps >> 32)), field, value, "an unsupported bit is set");
}

static void check_control_bits(struct check *c)
{
	const struct vmx_caps *caps = &c->machine->caps;
	uint64_t targets = vmread(VMCS_CR3_TARGET_COUNT);

	check_reserved(c, "pin controls", c->pin, caps->pin);
	check_reserved(c, "primary controls", c->proc, caps->proc);
	if (c->proc & PROC_SECONDARY)
		check_reserved(c, "secondary controls", c->proc2, caps->proc2);
	vmx_expect(c, targets <= MISC_CR3_TARGETS(caps->misc), "CR3-target count", targets,
		   "more than there are");
}

/* Addresses that a control of the second word makes the processor use, each of a page. */
static void check_secondary_addresses(struct check *c)
{
	static const struct {
		uint64_t control;
		uint32_t field;
		const char *name;
	} pages[] = {
		{ PROC2_APIC_ACCESSES, VMCS_APIC_ACCESS, "APIC-access address" },
		{ PROC2_PML, VMCS_PML_ADDRESS, "PML address" },
		{ PROC2_SUB_PAGE_WRITE, VMCS_SUB_PAGE_TABLE, "sub-page permission table" },
		{ PROC2_SHADOW_VMCS, VMCS_VMREAD_BITMAP, "VMREAD bitmap" },
		{ PROC2_SHADOW_VMCS, VMCS_VMWRITE_BITMAP, "VMWRITE bitmap" },
		{ PROC2_VE, VMCS_VE_INFORMATION, "#VE information address" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		if (c->proc2 & pages[i].control)
			vmx_expect_address(c, pages[i].name, vmread(pages[i].field), PAGE_SIZE);
}

static void check_bitmaps(struct check *c)
{
	if (c->proc & PROC_IO_BITMAPS) {
		vmx_expect_address(c, "I/O bitmap A", vmread(VMCS_IO_BITMAP_A), PAGE_SIZE);
		vmx_expect_address(c, "I/O bitmap B", vmread(VMCS_IO_BITMAP_B), PAGE_SIZE);
	}
	if (c->proc & PROC_MSR_BITMAPS)
		vmx_expect_address(c, "MSR bitmap", vmread(VMCS_MSR_BITMAP), PAGE_SIZE);
}

static void check_apic_controls(struct check *c)
{
	if (c->proc & PROC_TPR_SHADOW) {
		vmx_expect_address(c, "virtual-APIC address", vmread(VMCS_VIRTUAL_APIC), PAGE_SIZE);
		if (!(c->proc2 & PROC2_INTERRUPT_DELIVERY)) {
			uint64_t threshold = vmread(VMCS_TPR_THRESHOLD);

			vmx_expect(c, threshold < 16, "TPR threshold", threshold, "a reserved bit is set");
		}
	} else {
		vmx_expect(c, !(c->proc2 & (PROC2_X2APIC | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY)),
			   "secondary controls", c->proc2, "APIC virtualization without TPR shadow");
	}
	vmx_expect(c, !(c->proc2 & PROC2_X2APIC) || !(c->proc2 & PROC2_APIC_ACCESSES), "secondary controls",
		   c->proc2, "x2APIC mode and APIC accesses are both virtualized");
	vmx_expect(c, !(c->proc2 & PROC2_INTERRUPT_DELIVERY) || (c->pin & PIN_EXTERNAL_INTERRUPT),
		   "secondary controls", c->proc2,
		   "virtual-interrupt delivery without external-interrupt exiting");
	if (c->pin & PIN_POSTED_INTERRUPTS) {
		uint64_t vector = vmread(VMCS_POSTED_VECTOR);

		vmx_expect(c, c->proc2 & PROC2_INTERRUPT_DELIVERY, "pin controls", c->pin,
			   "posted interrupts without virtual-interrupt delivery");
		vmx_expect(c, c->exit & EXIT_ACK_INTERRUPT, "pin controls", c->pin,
			   "posted interrupts without acknowledge on exit");
		vmx_expect(c, vector < 256, "posted-interrupt vector", vector, "a reserved bit is set");
		vmx_expect_address(c, "posted-interrupt descriptor", vmread(VMCS_POSTED_DESCRIPTOR), 64);
	}
}

static void check_nmi_controls(struct check *c)
{
	vmx_expect(c, (c->pin & PIN_NMI) || !(c->pin & PIN_VIRTUAL_NMI), "pin controls", c->pin,
		   "virtual NMIs without NMI exiting");
	vmx_expect(c, (c->pin & PIN_VIRTUAL_NMI) || !(c->proc & PROC_NMI_WINDOW), "primary controls", c->proc,
		   "NMI-window exiting without virtual NMIs");
}

static void check_ept_pointer(struct check *c)
{
	uint64_t cap = c->machine->ept_vpid_cap, eptp = vmread(VMCS_EPT_POINTER);
	uint64_t type = eptp & EPTP_TYPE_MASK, levels = (eptp >> EPTP_WALK_SHIFT & 7) + 1;

	vmx_expect(c, (type == 0 && (cap & EPT_CAP_UNCACHEABLE)) || (type == 6 && (cap & EPT_CAP_WRITE_BACK)),
		   "EPT pointer", eptp, "unsupported memory type");
	vmx_expect(c, (levels == 4 && (cap & EPT_CAP_WALK_4)) || (levels == 5 && (cap & EPT_CAP_WALK_5)),
		   "EPT pointer", eptp, "unsupported walk length");
	vmx_expect(c, !(eptp & EPTP_ACCESSED_DIRTY) || (cap & EPT_CAP_ACCESSED_DIRTY), "EPT pointer", eptp,
		   "unsupported accessed and dirty bits");
	vmx_expect(c, !(eptp & EPTP_SHADOW_STACK) || (cap & EPT_CAP_SHADOW_STACK), "EPT pointer", eptp,
		   "unsupported shadow-stack bit");
	vmx_expect(c, !(eptp & EPTP_RESERVED), "EPT pointer", eptp, "a reserved bit is set");
	vmx_expect(c, !(eptp >> c->machine->phys_bits), "EPT pointer", eptp, "beyond physical memory");
}

static void check_second_stage(struct check *c)
{
	if (c->proc2 & PROC2_VPID) {
		uint64_t vpid = vmread(VMCS_VPID);

		vmx_expect(c, vpid != 0, "VPID", vpid, "0 is the host's");
	}
	if (c->proc2 & PROC2_EPT)
		check_ept_pointer(c);
	else
		vmx_expect(c,
			   !(c->proc2 & (PROC2_UNRESTRICTED_GUEST | PROC2_PML | PROC2_MODE_BASED_EXEC |
					 PROC2_SUB_PAGE_WRITE | PROC2_PT_GUEST_PHYSICAL)),
			   "secondary controls", c->proc2, "a control that needs EPT, without EPT");
}

static void check_other_features(struct check *c)
{
	if (c->proc2 & PROC2_VMFUNC) {
		uint64_t functions = vmread(VMCS_FUNCTION_CONTROLS);

		if (functions & FUNCTION_EPTP_SWITCHING) {
			vmx_expect(c, c->proc2 & PROC2_EPT, "VM-function controls", functions,
				   "EPTP switching without EPT");
			vmx_expect_address(c, "EPTP-list address", vmread(VMCS_EPTP_LIST), PAGE_SIZE);
		}
	}
	if (c->proc2 & PROC2_PT_GUEST_PHYSICAL) {
		vmx_expect(c, c->entry & ENTRY_LOAD_RTIT_CTL, "entry controls", c->entry,
			   "trace in guest-physical memory without loading RTIT_CTL");
		vmx_expect(c, c->exit & EXIT_CLEAR_RTIT_CTL, "exit controls", c->exit,
			   "trace in guest-physical memory without clearing RTIT_CTL");
	}
	if (c->proc2 & PROC2_TSC_SCALING) {
		uint64_t multiplier = vmread(VMCS_TSC_MULTIPLIER);

		vmx_expect(c, multiplier != 0, "TSC multiplier", multiplier, "0");
	}
}

/* An area of `count` MSRs; the last byte has to exist, too. */
static void check_msr_area(struct check *c, const char *name, uint32_t count_field, uint32_t address_field)
{
	uint64_t count = vmread(count_field), address;

	if (!count)
		return;
	address = vmread(address_field);
	vmx_expect_address(c, name, address, MSR_ENTRY_BYTES);
	vmx_expect(c, !((address + count * MSR_ENTRY_BYTES - 1) >> c->machine->phys_bits), name, address,
		   "ends beyond physical memory");
}

static void check_exit_controls(struct check *c)
{
	check_reserved(c, "exit controls", c->exit, c->machine->caps.exit);
	vmx_expect(c, (c->pin & PIN_PREEMPTION_TIMER) || !(c->exit & EXIT_SAVE_PREEMPTION_TIMER),
		   "exit controls", c->exit, "saves a preemption timer that is off");
	check_msr_area(c, "exit MSR-store area", VMCS_EXIT_MSR_STORE_COUNT, VMCS_EXIT_MSR_STORE);
	check_msr_area(c, "exit MSR-load area", VMCS_EXIT_MSR_LOAD_COUNT, VMCS_EXIT_MSR_LOAD);
}

/* An exception has an error code in protected mode if its vector says so, or if the processor leaves that free. */
static void check_event_error(struct check *c)
{
	bool has = c->event & EVENT_ERROR_VALID, may = vmx_event_is(c, EVENT_TYPE_EXCEPTION);
	uint32_t vector = c->event & EVENT_VECTOR_MASK;

	if (!(vmread(VMCS_GUEST_CR0) & CR0_PE))
		may = false;
	if (may && !(c->machine->basic & BASIC_ERROR_CODE_FREE)) {
		may = vector < 32 && (VECTORS_WITH_ERROR >> vector & 1);
		vmx_expect(c, has || !may, "entry event", c->event, "the exception needs an error code");
	}
	vmx_expect(c, may || !has, "entry event", c->event, "no error code with this event");
	if (has) {
		uint64_t error = vmread(VMCS_ENTRY_EVENT_ERROR);

		vmx_expect(c, !(error >> 16), "entry event's error code", error, "a reserved bit is set");
	}
}

static void check_event(struct check *c)
{
	uint32_t vector = c->event & EVENT_VECTOR_MASK, type = c->event & EVENT_TYPE_MASK;

	if (!(c->event & EVENT_VALID))
		return;
	vmx_expect(c, type != 1u << 8, "entry event", c->event, "reserved type");
	vmx_expect(c, type != EVENT_TYPE_OTHER || (c->machine->caps.proc >> 32 & PROC_MONITOR_TRAP),
		   "entry event", c->event, "reserved type");
	vmx_expect(c, type != EVENT_TYPE_NMI || vector == 2, "entry event", c->event, "an NMI has vector 2");
	vmx_expect(c, type != EVENT_TYPE_EXCEPTION || vector < 32, "entry event", c->event,
		   "an exception has a vector up to 31");
	vmx_expect(c, type != EVENT_TYPE_OTHER || vector == 0, "entry event", c->event,
		   "a pending monitor trap has vector 0");
	check_event_error(c);
	vmx_expect(c, !(c->event & EVENT_RESERVED), "entry event", c->event, "a reserved bit is set");
	if (type == EVENT_TYPE_SOFT_INT || type == EVENT_TYPE_PRIVILEGED ||
	    type == EVENT_TYPE_SOFT_EXCEPTION) {
		uint64_t length = vmread(VMCS_ENTRY_INSTRUCTION_LENGTH);
		uint64_t least = c->machine->caps.misc & MISC_ZERO_LENGTH ? 0 : 1;

		vmx_expect(c, length >= least && length <= 15, "entry instruction length", length,
			   "impossible for a software event");
	}
}

static void check_entry_controls(struct check *c)
{
	check_reserved(c, "entry controls", c->entry, c->machine->caps.entry);
	check_event(c);
	check_msr_area(c, "entry MSR-load area", VMCS_ENTRY_MSR_LOAD_COUNT, VMCS_ENTRY_MSR_LOAD);
	vmx_expect(c, !(c->entry & (ENTRY_SMM | ENTRY_DUAL_MONITOR)), "entry controls", c->entry,
		   "SMM's controls outside SMM");
}

void vmx_check_controls(struct check *c)
{
	c->section = "27.2.1.1";
	check_control_bits(c);
	check_bitmaps(c);
	check_apic_controls(c);
	check_nmi_controls(c);
	check_secondary_addresses(c);
	check_second_stage(c);
	check_other_features(c);
	c->section = "27.2.1.2";
	check_exit_controls(c);
	c->section = "27.2.1.3";
	check_entry_controls(c);
}
