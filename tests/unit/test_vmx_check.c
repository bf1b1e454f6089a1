/* unit: vmx/check.c vmx/check_controls.c vmx/check_guest.c vmx/check_segments.c vmx/names.c */
/* SPDX-License-Identifier: MIT */
/*
 * The VM-entry checker: states that are right pass, and for each rule of SDM3 27.2 and 27.3.1 a state that breaks just this
 * one is named. A field that the state doesn't have (the processor lacks it) must not be read.
 */
#include "vmx/vmx.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define FIELDS 0x7000
static uint64_t fields[FIELDS];
static bool present[FIELDS];

void vmwrite(uint32_t field, uint64_t value)
{
	assert_true(field < FIELDS);
	fields[field] = value;
	present[field] = true;
}

uint64_t vmread(uint32_t field)
{
	assert_true(field < FIELDS);
	if (!present[field])
		fail_msg("read of field %xh, which isn't there", field);
	return fields[field];
}

/* A processor with everything, 39 bits of physical and 48 of linear addresses; default-1 bits of SDM3 A.2. */
#define PIN_ONES 0x16u
#define PROC_ONES 0x04006172u
#define EXIT_ONES 0x36dfbu
#define ENTRY_ONES 0x11fbu
#define PROC_MAY 0xfff9fffeull
#define CAPS(may, ones) ((uint64_t)(may) << 32 | (ones))
static const struct vmx_machine everything = {
	.basic = BIT(55),
	.ept_vpid_cap = BIT(6) | BIT(8) | BIT(14) | BIT(21),
	.caps = {
		.pin = CAPS(0xff, PIN_ONES),
		.proc = CAPS(PROC_MAY, PROC_ONES),
		.proc2 = CAPS(0x1fdfffff, 0),
		.exit = CAPS(0x3ffffff, EXIT_ONES),
		.entry = CAPS(0x7ffff, ENTRY_ONES),
		.misc = 4u << 16 | 7u << 6,
	},
	.cr0_fixed0 = 0x80000021,
	.cr0_fixed1 = 0xffffffff,
	.cr4_fixed0 = 0x2000,
	.cr4_fixed1 = 0xf7f7ff & ~CR4_LA57,
	.phys_bits = 39,
};

static void set_segments(uint16_t cs, uint16_t ss, uint32_t cs_rights, uint32_t data_rights, uint32_t limit)
{
	for (uint32_t i = 0; i < 6; i++) {
		vmwrite(VMCS_GUEST_ES_SELECTOR + 2 * i, i == 1 ? cs : ss);
		vmwrite(VMCS_GUEST_ES_BASE + 2 * i, 0);
		vmwrite(VMCS_GUEST_ES_LIMIT + 2 * i, limit);
		vmwrite(VMCS_GUEST_ES_RIGHTS + 2 * i, i == 1 ? cs_rights : data_rights);
	}
	vmwrite(VMCS_GUEST_LDTR_SELECTOR, 0);
	vmwrite(VMCS_GUEST_LDTR_BASE, 0);
	vmwrite(VMCS_GUEST_LDTR_LIMIT, 0xffff);
	vmwrite(VMCS_GUEST_LDTR_RIGHTS, 0x82);
	vmwrite(VMCS_GUEST_TR_SELECTOR, 0x40);
	vmwrite(VMCS_GUEST_TR_BASE, 0x5000);
	vmwrite(VMCS_GUEST_TR_LIMIT, 0x67);
	vmwrite(VMCS_GUEST_TR_RIGHTS, 0x8b);
}

static void set_host(void)
{
	for (uint32_t field = VMCS_HOST_ES_SELECTOR; field <= VMCS_HOST_GS_SELECTOR; field += 2)
		vmwrite(field, 0);
	vmwrite(VMCS_HOST_CS_SELECTOR, 8);
	vmwrite(VMCS_HOST_TR_SELECTOR, 0x18);
	for (uint32_t field = VMCS_HOST_FS_BASE; field <= VMCS_HOST_RIP; field += 2)
		vmwrite(field, 0xffffffff80000000);
	vmwrite(VMCS_HOST_CR0, 0x80010031);
	vmwrite(VMCS_HOST_CR3, 0x7000000000);
	vmwrite(VMCS_HOST_CR4, 0x20a0);
	vmwrite(VMCS_HOST_PAT, 0x0007040600070406);
	vmwrite(VMCS_HOST_EFER, 0xd01);
}

static void set_controls(void)
{
	vmwrite(VMCS_PIN_CONTROLS,
		PIN_ONES | PIN_EXTERNAL_INTERRUPT | PIN_NMI | PIN_VIRTUAL_NMI | PIN_PREEMPTION_TIMER);
	vmwrite(VMCS_PROC_CONTROLS,
		PROC_ONES | PROC_HLT | PROC_TPR_SHADOW | PROC_IO_BITMAPS | PROC_MSR_BITMAPS | PROC_SECONDARY);
	vmwrite(VMCS_PROC_CONTROLS2,
		PROC2_EPT | PROC2_RDTSCP | PROC2_VPID | PROC2_UNRESTRICTED_GUEST | PROC2_INVPCID);
	vmwrite(VMCS_EXIT_CONTROLS, EXIT_ONES | EXIT_SAVE_DEBUG | EXIT_HOST_64 | EXIT_ACK_INTERRUPT |
					    EXIT_SAVE_PAT | EXIT_LOAD_PAT | EXIT_SAVE_EFER | EXIT_LOAD_EFER);
	vmwrite(VMCS_ENTRY_CONTROLS,
		ENTRY_ONES | ENTRY_LOAD_DEBUG | ENTRY_GUEST_LONG_MODE | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER);
	vmwrite(VMCS_CR3_TARGET_COUNT, 0);
	vmwrite(VMCS_IO_BITMAP_A, 0x10000);
	vmwrite(VMCS_IO_BITMAP_B, 0x11000);
	vmwrite(VMCS_MSR_BITMAP, 0x12000);
	vmwrite(VMCS_VIRTUAL_APIC, 0x13000);
	vmwrite(VMCS_TPR_THRESHOLD, 0);
	vmwrite(VMCS_EPT_POINTER, 0x1405e);
	vmwrite(VMCS_VPID, 1);
	vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 0);
	vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(VMCS_ENTRY_EVENT, 0);
	vmwrite(VMCS_ENTRY_EVENT_ERROR, 0);
	vmwrite(VMCS_ENTRY_INSTRUCTION_LENGTH, 0);
}

/* A 64-bit guest at CPL 0, as Linux has it. */
static void long_guest(void)
{
	memset(present, 0, sizeof(present));
	set_controls();
	set_host();
	set_segments(0x10, 0x18, 0xa09b, 0xc093, 0xffffffff);
	for (uint32_t i = 0; i < 4; i++)
		vmwrite(VMCS_GUEST_PDPTE0 + 2 * i, 0);
	vmwrite(VMCS_GUEST_CR0, 0x80050033);
	vmwrite(VMCS_GUEST_CR3, 0x7ffffff000);
	vmwrite(VMCS_GUEST_CR4, 0x20a0);
	vmwrite(VMCS_GUEST_GDTR_BASE, 0xfffffe0000001000);
	vmwrite(VMCS_GUEST_GDTR_LIMIT, 0x7f);
	vmwrite(VMCS_GUEST_IDTR_BASE, 0xfffffe0000000000);
	vmwrite(VMCS_GUEST_IDTR_LIMIT, 0xffff);
	vmwrite(VMCS_GUEST_DR7, 0x400);
	vmwrite(VMCS_GUEST_DEBUGCTL, 0);
	vmwrite(VMCS_GUEST_RIP, 0xffffffff81000000);
	vmwrite(VMCS_GUEST_RFLAGS, 0x202);
	vmwrite(VMCS_GUEST_PENDING_DEBUG, 0);
	vmwrite(VMCS_GUEST_SYSENTER_ESP, 0xfffffe0000002000);
	vmwrite(VMCS_GUEST_SYSENTER_EIP, 0xffffffff81001000);
	vmwrite(VMCS_GUEST_PAT, 0x0407050600070106);
	vmwrite(VMCS_GUEST_EFER, 0xd01);
	vmwrite(VMCS_GUEST_INTERRUPTIBILITY, 0);
	vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
	vmwrite(VMCS_LINK_POINTER, UINT64_MAX);
}

/* A 32-bit guest with PAE paging at CPL 3; without "unrestricted guest" it is as legal. */
static void pae_guest(void)
{
	long_guest();
	set_segments(0x1b, 0x23, 0xc0fb, 0xc0f3, 0xffffffff);
	vmwrite(VMCS_ENTRY_CONTROLS, ENTRY_ONES | ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER);
	vmwrite(VMCS_GUEST_CR4, 0x20b0);
	vmwrite(VMCS_GUEST_EFER, 0x800);
	vmwrite(VMCS_GUEST_PDPTE0, 0x7ffffff001);
	vmwrite(VMCS_GUEST_RIP, 0xc0100000);
	vmwrite(VMCS_GUEST_GDTR_BASE, 0xc0001000);
	vmwrite(VMCS_GUEST_IDTR_BASE, 0xc0000000);
	vmwrite(VMCS_GUEST_SYSENTER_ESP, 0xc0002000);
	vmwrite(VMCS_GUEST_SYSENTER_EIP, 0xc0101000);
}

/* Virtual-8086 mode. */
static void v8086_guest(void)
{
	pae_guest();
	set_segments(0, 0, 0xf3, 0xf3, 0xffff);
	vmwrite(VMCS_GUEST_CS_SELECTOR, 0xf000);
	vmwrite(VMCS_GUEST_CS_BASE, 0xf0000);
	vmwrite(VMCS_GUEST_RIP, 0xfff0);
	vmwrite(VMCS_GUEST_RFLAGS, 0x23202);
}

/* After INIT: SDM3 table 10-1. */
static void real_guest(void)
{
	long_guest();
	set_segments(0xf000, 0, 0x9b, 0x93, 0xffff);
	vmwrite(VMCS_ENTRY_CONTROLS, ENTRY_ONES | ENTRY_LOAD_DEBUG | ENTRY_LOAD_PAT | ENTRY_LOAD_EFER);
	vmwrite(VMCS_GUEST_CS_BASE, 0xffff0000);
	vmwrite(VMCS_GUEST_TR_SELECTOR, 0);
	vmwrite(VMCS_GUEST_TR_BASE, 0);
	vmwrite(VMCS_GUEST_TR_LIMIT, 0xffff);
	vmwrite(VMCS_GUEST_CR0, 0x60000030);
	vmwrite(VMCS_GUEST_CR3, 0);
	vmwrite(VMCS_GUEST_CR4, 0x2000);
	vmwrite(VMCS_GUEST_EFER, 0);
	vmwrite(VMCS_GUEST_RIP, 0xfff0);
	vmwrite(VMCS_GUEST_RFLAGS, 2);
	vmwrite(VMCS_GUEST_GDTR_BASE, 0);
	vmwrite(VMCS_GUEST_IDTR_BASE, 0);
}

static void sipi_guest(void)
{
	real_guest();
	vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_WAIT_FOR_SIPI);
}

struct test_case {
	void (*state)(void);
	const char *broken; /* as far as it goes; NULL: all is well */
	struct {
		enum { END, SET_TO, FLIPPED } how;
		uint32_t field;
		uint64_t value;
	} change[5];
	struct {
		bool differs;
		size_t member; /* of struct vmx_machine, 64 bits */
		uint64_t value;
	} machine;
};

#define SET(field, value)            \
	{                            \
		SET_TO, field, value \
	}
#define FLIP(field, bits)            \
	{                            \
		FLIPPED, field, bits \
	}
#define MACHINE(member, value)                                    \
	{                                                         \
		true, offsetof(struct vmx_machine, member), value \
	}
/* A good state with changes, the text when they break it, and the other processor that it takes. */
#define GOOD(start, ...)                                  \
	{                                                 \
		.state = start, .change = { __VA_ARGS__ } \
	}
#define BAD(start, why, ...)                                             \
	{                                                                \
		.state = start, .broken = why, .change = { __VA_ARGS__ } \
	}
#define GOOD_ON(start, differs, ...)                                          \
	{                                                                     \
		.state = start, .change = { __VA_ARGS__ }, .machine = differs \
	}
#define BAD_ON(start, differs, why, ...)                                                     \
	{                                                                                    \
		.state = start, .broken = why, .change = { __VA_ARGS__ }, .machine = differs \
	}
/* Changes that many cases need */
#define CONTROLS2(bits) FLIP(VMCS_PROC_CONTROLS2, bits)
#define RESTRICTED CONTROLS2(PROC2_UNRESTRICTED_GUEST)
#define EVENT(bits) SET(VMCS_ENTRY_EVENT, EVENT_VALID | (bits))
#define EXCEPTION(vector) EVENT(EVENT_TYPE_EXCEPTION | (vector))

static void run(const struct test_case *cases, size_t count)
{
	unsigned int wrong = 0;

	for (size_t i = 0; i < count; i++) {
		const struct test_case *t = &cases[i];
		struct vmx_machine machine = everything;
		char why[160] = "";
		int result;

		t->state();
		for (size_t k = 0; k < ARRAY_SIZE(t->change) && t->change[k].how; k++) {
			uint64_t kept = t->change[k].how == FLIPPED ? fields[t->change[k].field] : 0;

			vmwrite(t->change[k].field, kept ^ t->change[k].value);
		}
		if (t->machine.differs)
			memcpy((char *)&machine + t->machine.member, &t->machine.value, sizeof(uint64_t));
		result = vmx_check(&machine, why, sizeof(why));
		if (t->broken ? result == -EINVAL && !strncmp(why, t->broken, strlen(t->broken)) :
				result == 0 && !why[0])
			continue;
		print_error("case %zu: want \"%s\", got %d \"%s\"\n", i, t->broken ? t->broken : "", result,
			    why);
		wrong++;
	}
	assert_int_equal(wrong, 0);
}
#define RUN(cases) run(cases, ARRAY_SIZE(cases))

static void test_good_states(void **state)
{
	static const struct test_case cases[] = {
		GOOD(long_guest),
		GOOD(pae_guest),
		GOOD(pae_guest, RESTRICTED),
		GOOD(v8086_guest),
		GOOD(v8086_guest, RESTRICTED),
		GOOD(real_guest),
		GOOD(sipi_guest),
	};

	(void)state;
	RUN(cases);
}

static void test_execution_controls(void **state)
{
	static const struct test_case cases[] = {
		BAD(long_guest, "pin controls: a bit that must be 1 is clear (SDM3 27.2.1.1): 0x7d",
		    FLIP(VMCS_PIN_CONTROLS, 2)),
		BAD(long_guest, "pin controls: an unsupported bit is set (SDM3 27.2.1.1)",
		    FLIP(VMCS_PIN_CONTROLS, BIT(8))),
		BAD(long_guest, "primary controls: a bit that must be 1 is clear (SDM3 27.2.1.1)",
		    FLIP(VMCS_PROC_CONTROLS, 2)),
		BAD(long_guest, "primary controls: an unsupported bit is set (SDM3 27.2.1.1)",
		    FLIP(VMCS_PROC_CONTROLS, BIT(17))),
		BAD_ON(long_guest, MACHINE(caps.proc2, CAPS(0x1fdfffff, PROC2_RDRAND)),
		       "secondary controls: a bit that must be 1 is clear (SDM3 27.2.1.1)"),
		BAD(long_guest, "secondary controls: an unsupported bit is set (SDM3 27.2.1.1)",
		    CONTROLS2(BIT(29))),
		/* Without the secondary controls their word doesn't count; nor does the unrestricted guest in it. */
		GOOD(pae_guest, FLIP(VMCS_PROC_CONTROLS, PROC_SECONDARY), CONTROLS2(BIT(29))),
		BAD(real_guest, "guest CR0: a fixed bit is clear (SDM3 27.3.1.1)",
		    FLIP(VMCS_PROC_CONTROLS, PROC_SECONDARY)),
		GOOD(long_guest, SET(VMCS_CR3_TARGET_COUNT, 4)),
		BAD(long_guest, "CR3-target count: more than there are (SDM3 27.2.1.1): 0x5",
		    SET(VMCS_CR3_TARGET_COUNT, 5)),
		BAD(long_guest, "I/O bitmap A: not aligned (SDM3 27.2.1.1)", FLIP(VMCS_IO_BITMAP_A, 0x800)),
		BAD(long_guest, "I/O bitmap A: beyond physical memory (SDM3 27.2.1.1)",
		    FLIP(VMCS_IO_BITMAP_A, BIT(39))),
		GOOD(long_guest, FLIP(VMCS_IO_BITMAP_A, BIT(38))),
		BAD(long_guest, "I/O bitmap B: not aligned (SDM3 27.2.1.1)", FLIP(VMCS_IO_BITMAP_B, 1)),
		GOOD(long_guest, FLIP(VMCS_IO_BITMAP_A, 1), FLIP(VMCS_PROC_CONTROLS, PROC_IO_BITMAPS)),
		BAD(long_guest, "MSR bitmap: not aligned (SDM3 27.2.1.1)", FLIP(VMCS_MSR_BITMAP, 8)),
		GOOD(long_guest, FLIP(VMCS_MSR_BITMAP, 8), FLIP(VMCS_PROC_CONTROLS, PROC_MSR_BITMAPS)),
		BAD(long_guest, "virtual-APIC address: not aligned (SDM3 27.2.1.1)",
		    FLIP(VMCS_VIRTUAL_APIC, 8)),
		GOOD(long_guest, FLIP(VMCS_VIRTUAL_APIC, 8), FLIP(VMCS_PROC_CONTROLS, PROC_TPR_SHADOW)),
		GOOD(long_guest, SET(VMCS_TPR_THRESHOLD, 15)),
		BAD(long_guest, "TPR threshold: a reserved bit is set (SDM3 27.2.1.1): 0x10",
		    SET(VMCS_TPR_THRESHOLD, 16)),
		GOOD(long_guest, SET(VMCS_TPR_THRESHOLD, 16), CONTROLS2(PROC2_INTERRUPT_DELIVERY)),
		BAD(long_guest, "secondary controls: APIC virtualization without TPR shadow (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_X2APIC), FLIP(VMCS_PROC_CONTROLS, PROC_TPR_SHADOW)),
		BAD(long_guest, "secondary controls: APIC virtualization without TPR shadow (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_APIC_REGISTERS), FLIP(VMCS_PROC_CONTROLS, PROC_TPR_SHADOW)),
		BAD(long_guest, "secondary controls: APIC virtualization without TPR shadow (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_INTERRUPT_DELIVERY), FLIP(VMCS_PROC_CONTROLS, PROC_TPR_SHADOW)),
		BAD(long_guest,
		    "secondary controls: x2APIC mode and APIC accesses are both virtualized (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_X2APIC | PROC2_APIC_ACCESSES), SET(VMCS_APIC_ACCESS, 0x15000)),
		BAD(long_guest,
		    "secondary controls: virtual-interrupt delivery without external-interrupt exiting (SDM3 "
		    "27.2.1.1)",
		    CONTROLS2(PROC2_INTERRUPT_DELIVERY), FLIP(VMCS_PIN_CONTROLS, PIN_EXTERNAL_INTERRUPT)),
		BAD(long_guest, "pin controls: virtual NMIs without NMI exiting (SDM3 27.2.1.1)",
		    FLIP(VMCS_PIN_CONTROLS, PIN_NMI)),
		GOOD(long_guest, FLIP(VMCS_PIN_CONTROLS, PIN_NMI | PIN_VIRTUAL_NMI)),
		GOOD(long_guest, FLIP(VMCS_PROC_CONTROLS, PROC_NMI_WINDOW)),
		BAD(long_guest, "primary controls: NMI-window exiting without virtual NMIs (SDM3 27.2.1.1)",
		    FLIP(VMCS_PIN_CONTROLS, PIN_VIRTUAL_NMI), FLIP(VMCS_PROC_CONTROLS, PROC_NMI_WINDOW)),
		GOOD(long_guest, CONTROLS2(PROC2_APIC_ACCESSES), SET(VMCS_APIC_ACCESS, 0x15000)),
		BAD(long_guest, "APIC-access address: not aligned (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_APIC_ACCESSES), SET(VMCS_APIC_ACCESS, 0x15001)),
		BAD(long_guest, "APIC-access address: beyond physical memory (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_APIC_ACCESSES), SET(VMCS_APIC_ACCESS, BIT(51))),
		BAD(long_guest, "PML address: not aligned (SDM3 27.2.1.1)", CONTROLS2(PROC2_PML),
		    SET(VMCS_PML_ADDRESS, 0x15001)),
		BAD(long_guest, "sub-page permission table: not aligned (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_SUB_PAGE_WRITE), SET(VMCS_SUB_PAGE_TABLE, 0x15001)),
		BAD(long_guest, "VMREAD bitmap: not aligned (SDM3 27.2.1.1)", CONTROLS2(PROC2_SHADOW_VMCS),
		    SET(VMCS_VMREAD_BITMAP, 0x15001), SET(VMCS_VMWRITE_BITMAP, 0)),
		BAD(long_guest, "VMWRITE bitmap: not aligned (SDM3 27.2.1.1)", CONTROLS2(PROC2_SHADOW_VMCS),
		    SET(VMCS_VMREAD_BITMAP, 0), SET(VMCS_VMWRITE_BITMAP, 0x15001)),
		BAD(long_guest, "#VE information address: not aligned (SDM3 27.2.1.1)", CONTROLS2(PROC2_VE),
		    SET(VMCS_VE_INFORMATION, 0x15001)),
		GOOD(long_guest, CONTROLS2(PROC2_X2APIC)),
		GOOD(long_guest, FLIP(VMCS_PIN_CONTROLS, PIN_EXTERNAL_INTERRUPT)),
		GOOD_ON(pae_guest, MACHINE(caps.proc2, CAPS(0x1fdfffff, PROC2_RDRAND)),
			FLIP(VMCS_PROC_CONTROLS, PROC_SECONDARY)),
	};

	(void)state;
	RUN(cases);
}

#define POSTED SET(VMCS_POSTED_VECTOR, 0xf2), SET(VMCS_POSTED_DESCRIPTOR, 0x16040)

static void test_more_execution_controls(void **state)
{
	static const struct test_case cases[] = {
		GOOD(long_guest, FLIP(VMCS_PIN_CONTROLS, PIN_POSTED_INTERRUPTS),
		     CONTROLS2(PROC2_INTERRUPT_DELIVERY), POSTED),
		BAD(long_guest,
		    "pin controls: posted interrupts without virtual-interrupt delivery (SDM3 27.2.1.1)",
		    FLIP(VMCS_PIN_CONTROLS, PIN_POSTED_INTERRUPTS), POSTED),
		BAD(long_guest, "pin controls: posted interrupts without acknowledge on exit (SDM3 27.2.1.1)",
		    FLIP(VMCS_PIN_CONTROLS, PIN_POSTED_INTERRUPTS), CONTROLS2(PROC2_INTERRUPT_DELIVERY),
		    POSTED, FLIP(VMCS_EXIT_CONTROLS, EXIT_ACK_INTERRUPT)),
		BAD(long_guest, "posted-interrupt vector: a reserved bit is set (SDM3 27.2.1.1)",
		    FLIP(VMCS_PIN_CONTROLS, PIN_POSTED_INTERRUPTS), CONTROLS2(PROC2_INTERRUPT_DELIVERY),
		    SET(VMCS_POSTED_VECTOR, 0x100), SET(VMCS_POSTED_DESCRIPTOR, 0x16040)),
		BAD(long_guest, "posted-interrupt descriptor: not aligned (SDM3 27.2.1.1)",
		    FLIP(VMCS_PIN_CONTROLS, PIN_POSTED_INTERRUPTS), CONTROLS2(PROC2_INTERRUPT_DELIVERY),
		    SET(VMCS_POSTED_VECTOR, 0xf2), SET(VMCS_POSTED_DESCRIPTOR, 0x16020)),
		BAD(long_guest, "VPID: 0 is the host's (SDM3 27.2.1.1)", SET(VMCS_VPID, 0)),
		GOOD(long_guest, SET(VMCS_VPID, 0), CONTROLS2(PROC2_VPID)),
		BAD(long_guest, "EPT pointer: unsupported memory type (SDM3 27.2.1.1)",
		    SET(VMCS_EPT_POINTER, 0x1405c)),
		GOOD(long_guest, SET(VMCS_EPT_POINTER, 0x14058)),
		BAD_ON(long_guest, MACHINE(ept_vpid_cap, BIT(6) | BIT(14) | BIT(21)),
		       "EPT pointer: unsupported memory type (SDM3 27.2.1.1)",
		       SET(VMCS_EPT_POINTER, 0x14058)),
		BAD_ON(long_guest, MACHINE(ept_vpid_cap, BIT(6) | BIT(8) | BIT(21)),
		       "EPT pointer: unsupported memory type (SDM3 27.2.1.1)"),
		BAD(long_guest, "EPT pointer: unsupported walk length (SDM3 27.2.1.1)",
		    SET(VMCS_EPT_POINTER, 0x14056)),
		BAD(long_guest, "EPT pointer: unsupported walk length (SDM3 27.2.1.1)",
		    SET(VMCS_EPT_POINTER, 0x14066)),
		GOOD_ON(long_guest, MACHINE(ept_vpid_cap, BIT(7) | BIT(14) | BIT(21)),
			SET(VMCS_EPT_POINTER, 0x14066)),
		BAD_ON(long_guest, MACHINE(ept_vpid_cap, BIT(6) | BIT(14)),
		       "EPT pointer: unsupported accessed and dirty bits (SDM3 27.2.1.1)"),
		BAD(long_guest, "EPT pointer: unsupported shadow-stack bit (SDM3 27.2.1.1)",
		    FLIP(VMCS_EPT_POINTER, BIT(7))),
		GOOD_ON(long_guest, MACHINE(ept_vpid_cap, BIT(6) | BIT(14) | BIT(21) | BIT(23)),
			FLIP(VMCS_EPT_POINTER, BIT(7))),
		BAD(long_guest, "EPT pointer: a reserved bit is set (SDM3 27.2.1.1)",
		    FLIP(VMCS_EPT_POINTER, BIT(11))),
		BAD(long_guest, "EPT pointer: beyond physical memory (SDM3 27.2.1.1)",
		    FLIP(VMCS_EPT_POINTER, BIT(39))),
		BAD(long_guest, "secondary controls: a control that needs EPT, without EPT (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_EPT)),
		GOOD(pae_guest, CONTROLS2(PROC2_EPT | PROC2_UNRESTRICTED_GUEST),
		     SET(VMCS_GUEST_PDPTE0, UINT64_MAX)),
		BAD(pae_guest, "secondary controls: a control that needs EPT, without EPT (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_MODE_BASED_EXEC)),
		BAD(pae_guest, "secondary controls: a control that needs EPT, without EPT (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_PML), SET(VMCS_PML_ADDRESS, 0)),
		GOOD(long_guest, CONTROLS2(PROC2_VMFUNC), SET(VMCS_FUNCTION_CONTROLS, 0)),
		BAD(long_guest, "EPTP-list address: not aligned (SDM3 27.2.1.1)", CONTROLS2(PROC2_VMFUNC),
		    SET(VMCS_FUNCTION_CONTROLS, 1), SET(VMCS_EPTP_LIST, 0x10)),
		BAD(pae_guest, "VM-function controls: EPTP switching without EPT (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_VMFUNC),
		    SET(VMCS_FUNCTION_CONTROLS, 1), SET(VMCS_EPTP_LIST, 0)),
		BAD(long_guest,
		    "entry controls: trace in guest-physical memory without loading RTIT_CTL (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_PT_GUEST_PHYSICAL), FLIP(VMCS_EXIT_CONTROLS, EXIT_CLEAR_RTIT_CTL)),
		BAD(long_guest,
		    "exit controls: trace in guest-physical memory without clearing RTIT_CTL (SDM3 27.2.1.1)",
		    CONTROLS2(PROC2_PT_GUEST_PHYSICAL), FLIP(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_RTIT_CTL)),
		BAD(long_guest, "TSC multiplier: 0 (SDM3 27.2.1.1)", CONTROLS2(PROC2_TSC_SCALING),
		    SET(VMCS_TSC_MULTIPLIER, 0)),
		GOOD(long_guest, CONTROLS2(PROC2_TSC_SCALING), SET(VMCS_TSC_MULTIPLIER, BIT(48))),
		GOOD_ON(long_guest, MACHINE(ept_vpid_cap, BIT(6) | BIT(14)), FLIP(VMCS_EPT_POINTER, BIT(6))),
	};

	(void)state;
	RUN(cases);
}

#define AREA(count_field, count, address_field, address) SET(count_field, count), SET(address_field, address)

static void test_exit_and_entry_controls(void **state)
{
	static const struct test_case cases[] = {
		BAD(long_guest, "exit controls: a bit that must be 1 is clear (SDM3 27.2.1.2)",
		    FLIP(VMCS_EXIT_CONTROLS, 1)),
		BAD(long_guest, "exit controls: an unsupported bit is set (SDM3 27.2.1.2)",
		    FLIP(VMCS_EXIT_CONTROLS, BIT(30))),
		GOOD(long_guest, FLIP(VMCS_EXIT_CONTROLS, EXIT_SAVE_PREEMPTION_TIMER)),
		BAD(long_guest, "exit controls: saves a preemption timer that is off (SDM3 27.2.1.2)",
		    FLIP(VMCS_EXIT_CONTROLS, EXIT_SAVE_PREEMPTION_TIMER),
		    FLIP(VMCS_PIN_CONTROLS, PIN_PREEMPTION_TIMER)),
		GOOD(long_guest, AREA(VMCS_EXIT_MSR_STORE_COUNT, 1, VMCS_EXIT_MSR_STORE, 0x7ffffffff0)),
		BAD(long_guest, "exit MSR-store area: ends beyond physical memory (SDM3 27.2.1.2)",
		    AREA(VMCS_EXIT_MSR_STORE_COUNT, 2, VMCS_EXIT_MSR_STORE, 0x7ffffffff0)),
		BAD(long_guest, "exit MSR-store area: not aligned (SDM3 27.2.1.2)",
		    AREA(VMCS_EXIT_MSR_STORE_COUNT, 1, VMCS_EXIT_MSR_STORE, 0x8)),
		BAD(long_guest, "exit MSR-load area: not aligned (SDM3 27.2.1.2)",
		    AREA(VMCS_EXIT_MSR_LOAD_COUNT, 1, VMCS_EXIT_MSR_LOAD, 0x8)),
		BAD(long_guest, "exit MSR-load area: beyond physical memory (SDM3 27.2.1.2)",
		    AREA(VMCS_EXIT_MSR_LOAD_COUNT, 1, VMCS_EXIT_MSR_LOAD, BIT(39))),
		BAD(long_guest, "entry controls: a bit that must be 1 is clear (SDM3 27.2.1.3)",
		    FLIP(VMCS_ENTRY_CONTROLS, 1)),
		BAD(long_guest, "entry controls: an unsupported bit is set (SDM3 27.2.1.3)",
		    FLIP(VMCS_ENTRY_CONTROLS, BIT(30))),
		BAD(long_guest, "entry MSR-load area: not aligned (SDM3 27.2.1.3)",
		    AREA(VMCS_ENTRY_MSR_LOAD_COUNT, 1, VMCS_ENTRY_MSR_LOAD, 0x8)),
		BAD(long_guest, "entry controls: SMM's controls outside SMM (SDM3 27.2.1.3)",
		    FLIP(VMCS_ENTRY_CONTROLS, ENTRY_SMM)),
		BAD(long_guest, "entry controls: SMM's controls outside SMM (SDM3 27.2.1.3)",
		    FLIP(VMCS_ENTRY_CONTROLS, ENTRY_DUAL_MONITOR)),
		GOOD(long_guest, FLIP(VMCS_PIN_CONTROLS, PIN_PREEMPTION_TIMER)),
	};

	(void)state;
	RUN(cases);
}

static void test_entry_event(void **state)
{
	static const struct test_case cases[] = {
		GOOD(long_guest, SET(VMCS_ENTRY_EVENT, 0x7fffffff)),
		/* not valid */
		GOOD(long_guest, EVENT(EVENT_TYPE_INTR | 0xff)),
		BAD(long_guest, "entry event: reserved type (SDM3 27.2.1.3): 0x80000120",
		    EVENT(1 << 8 | 0x20)),
		GOOD(long_guest, EVENT(EVENT_TYPE_OTHER)),
		BAD_ON(long_guest, MACHINE(caps.proc, CAPS(PROC_MAY & ~PROC_MONITOR_TRAP, PROC_ONES)),
		       "entry event: reserved type (SDM3 27.2.1.3)", EVENT(EVENT_TYPE_OTHER)),
		BAD(long_guest, "entry event: a pending monitor trap has vector 0 (SDM3 27.2.1.3)",
		    EVENT(EVENT_TYPE_OTHER | 1)),
		GOOD(long_guest, EVENT(EVENT_TYPE_NMI | 2)),
		BAD(long_guest, "entry event: an NMI has vector 2 (SDM3 27.2.1.3)",
		    EVENT(EVENT_TYPE_NMI | 3)),
		GOOD(long_guest, EXCEPTION(31)),
		BAD(long_guest, "entry event: an exception has a vector up to 31 (SDM3 27.2.1.3)",
		    EXCEPTION(32)),
		BAD(long_guest, "entry event: the exception needs an error code (SDM3 27.2.1.3)",
		    EXCEPTION(8)),
		BAD(long_guest, "entry event: the exception needs an error code (SDM3 27.2.1.3)",
		    EXCEPTION(10)),
		BAD(long_guest, "entry event: the exception needs an error code (SDM3 27.2.1.3)",
		    EXCEPTION(11)),
		BAD(long_guest, "entry event: the exception needs an error code (SDM3 27.2.1.3)",
		    EXCEPTION(12)),
		BAD(long_guest, "entry event: the exception needs an error code (SDM3 27.2.1.3)",
		    EXCEPTION(13)),
		BAD(long_guest, "entry event: the exception needs an error code (SDM3 27.2.1.3)",
		    EXCEPTION(14)),
		BAD(long_guest, "entry event: the exception needs an error code (SDM3 27.2.1.3)",
		    EXCEPTION(17)),
		GOOD(long_guest, EXCEPTION(9)),
		GOOD(long_guest, EXCEPTION(16)),
		GOOD(long_guest, EXCEPTION(14 | EVENT_ERROR_VALID)),
		GOOD_ON(long_guest, MACHINE(basic, BIT(56)), EXCEPTION(13)),
		GOOD_ON(long_guest, MACHINE(basic, BIT(56)), EXCEPTION(6 | EVENT_ERROR_VALID)),
		BAD(long_guest, "entry event: no error code with this event (SDM3 27.2.1.3)",
		    EXCEPTION(6 | EVENT_ERROR_VALID)),
		BAD(long_guest, "entry event: no error code with this event (SDM3 27.2.1.3)",
		    EVENT(EVENT_TYPE_INTR | EVENT_ERROR_VALID | 13)),
		GOOD(real_guest, EXCEPTION(13)),
		BAD(real_guest, "entry event: no error code with this event (SDM3 27.2.1.3)",
		    EXCEPTION(13 | EVENT_ERROR_VALID)),
		GOOD(long_guest, EXCEPTION(14 | EVENT_ERROR_VALID), SET(VMCS_ENTRY_EVENT_ERROR, 0xffff)),
		BAD(long_guest, "entry event's error code: a reserved bit is set (SDM3 27.2.1.3)",
		    EXCEPTION(14 | EVENT_ERROR_VALID), SET(VMCS_ENTRY_EVENT_ERROR, 0x10000)),
		BAD(long_guest, "entry event: a reserved bit is set (SDM3 27.2.1.3)", EVENT(BIT(12) | 0x20)),
		BAD(long_guest, "entry event: a reserved bit is set (SDM3 27.2.1.3)", EVENT(BIT(30) | 0x20)),
		GOOD(long_guest, EVENT(EVENT_TYPE_SOFT_INT | 0x80), SET(VMCS_ENTRY_INSTRUCTION_LENGTH, 15)),
		BAD(long_guest,
		    "entry instruction length: impossible for a software event (SDM3 27.2.1.3): 0x0",
		    EVENT(EVENT_TYPE_SOFT_INT | 0x80)),
		GOOD_ON(long_guest, MACHINE(caps.misc, 4u << 16 | 7u << 6 | BIT(30)),
			EVENT(EVENT_TYPE_SOFT_INT | 0x80)),
		BAD(long_guest, "entry instruction length: impossible for a software event (SDM3 27.2.1.3)",
		    EVENT(EVENT_TYPE_SOFT_INT | 0x80), SET(VMCS_ENTRY_INSTRUCTION_LENGTH, 16)),
		BAD(long_guest, "entry instruction length: impossible for a software event (SDM3 27.2.1.3)",
		    EVENT(EVENT_TYPE_PRIVILEGED | 1)),
		BAD(long_guest, "entry instruction length: impossible for a software event (SDM3 27.2.1.3)",
		    EVENT(EVENT_TYPE_SOFT_EXCEPTION | 3)),
		GOOD_ON(long_guest, MACHINE(caps.proc, CAPS(PROC_MAY & ~PROC_MONITOR_TRAP, PROC_ONES)),
			EVENT(EVENT_TYPE_INTR | 0x30)),
		GOOD(long_guest, EVENT(EVENT_TYPE_NMI | 2), SET(VMCS_ENTRY_EVENT_ERROR, 0x10000)),
	};

	(void)state;
	RUN(cases);
}

static void test_host(void **state)
{
	static const struct test_case cases[] = {
		BAD(long_guest, "host CR0: a fixed bit is clear (SDM3 27.2.2)", FLIP(VMCS_HOST_CR0, CR0_NE)),
		BAD_ON(long_guest, MACHINE(cr0_fixed0, CR0_NE),
		       "host CR0: a fixed bit is clear (SDM3 27.2.2)", FLIP(VMCS_HOST_CR0, CR0_PG)),
		BAD(long_guest, "host CR0: an unsupported bit is set (SDM3 27.2.2)",
		    FLIP(VMCS_HOST_CR0, BIT(32))),
		GOOD_ON(long_guest, MACHINE(cr0_fixed1, 0x9fffffff), FLIP(VMCS_HOST_CR0, CR0_NW | CR0_CD)),
		BAD(long_guest, "host CR4: a fixed bit is clear (SDM3 27.2.2)",
		    FLIP(VMCS_HOST_CR4, CR4_VMXE)),
		BAD(long_guest, "host CR4: an unsupported bit is set (SDM3 27.2.2)",
		    FLIP(VMCS_HOST_CR4, CR4_LA57)),
		GOOD(long_guest, FLIP(VMCS_HOST_CR4, CR4_CET)),
		BAD(long_guest, "host CR4: CET without CR0.WP (SDM3 27.2.2)", FLIP(VMCS_HOST_CR4, CR4_CET),
		    FLIP(VMCS_HOST_CR0, CR0_WP)),
		BAD(long_guest, "host CR3: beyond physical memory (SDM3 27.2.2)",
		    FLIP(VMCS_HOST_CR3, BIT(39))),
		BAD(long_guest, "host SYSENTER_ESP: not canonical (SDM3 27.2.2)",
		    SET(VMCS_HOST_SYSENTER_ESP, BIT(47))),
		GOOD_ON(long_guest, MACHINE(cr4_fixed1, 0xf7f7ff | CR4_LA57),
			SET(VMCS_HOST_SYSENTER_ESP, BIT(47))),
		BAD(long_guest, "host SYSENTER_EIP: not canonical (SDM3 27.2.2)",
		    SET(VMCS_HOST_SYSENTER_EIP, 0xffff7fffffffffff)),
		BAD(long_guest, "host PAT: a byte is no memory type (SDM3 27.2.2)",
		    SET(VMCS_HOST_PAT, 0x0007040600070402)),
		BAD(long_guest, "host PAT: a byte is no memory type (SDM3 27.2.2)",
		    SET(VMCS_HOST_PAT, 0x0307040600070406)),
		BAD(long_guest, "host PAT: a byte is no memory type (SDM3 27.2.2)",
		    SET(VMCS_HOST_PAT, 0x0008040600070406)),
		GOOD(long_guest, SET(VMCS_HOST_PAT, 2), FLIP(VMCS_EXIT_CONTROLS, EXIT_LOAD_PAT)),
		BAD(long_guest, "host EFER: a reserved bit is set (SDM3 27.2.2)",
		    FLIP(VMCS_HOST_EFER, BIT(12))),
		BAD(long_guest,
		    "host EFER: LMA and LME differ from \"host address-space size\" (SDM3 27.2.2)",
		    FLIP(VMCS_HOST_EFER, EFER_LMA)),
		BAD(long_guest,
		    "host EFER: LMA and LME differ from \"host address-space size\" (SDM3 27.2.2)",
		    FLIP(VMCS_HOST_EFER, EFER_LME)),
		GOOD(long_guest, SET(VMCS_HOST_EFER, 0), FLIP(VMCS_EXIT_CONTROLS, EXIT_LOAD_EFER)),
		BAD(long_guest, "host ES: RPL and TI must be 0 (SDM3 27.2.3)", SET(VMCS_HOST_ES_SELECTOR, 3)),
		BAD(long_guest, "host CS: RPL and TI must be 0 (SDM3 27.2.3)", SET(VMCS_HOST_CS_SELECTOR, 9)),
		BAD(long_guest, "host SS: RPL and TI must be 0 (SDM3 27.2.3)", SET(VMCS_HOST_SS_SELECTOR, 2)),
		BAD(long_guest, "host DS: RPL and TI must be 0 (SDM3 27.2.3)",
		    SET(VMCS_HOST_DS_SELECTOR, 0x1c)),
		BAD(long_guest, "host FS: RPL and TI must be 0 (SDM3 27.2.3)",
		    SET(VMCS_HOST_FS_SELECTOR, 0x1c)),
		BAD(long_guest, "host GS: RPL and TI must be 0 (SDM3 27.2.3)",
		    SET(VMCS_HOST_GS_SELECTOR, 0x1c)),
		BAD(long_guest, "host TR: RPL and TI must be 0 (SDM3 27.2.3)",
		    SET(VMCS_HOST_TR_SELECTOR, 0x1c)),
		BAD(long_guest, "host CS: null selector (SDM3 27.2.3)", SET(VMCS_HOST_CS_SELECTOR, 0)),
		BAD(long_guest, "host TR: null selector (SDM3 27.2.3)", SET(VMCS_HOST_TR_SELECTOR, 0)),
		BAD(long_guest, "host FS base: not canonical (SDM3 27.2.3)", SET(VMCS_HOST_FS_BASE, BIT(63))),
		BAD(long_guest, "host GS base: not canonical (SDM3 27.2.3)", SET(VMCS_HOST_GS_BASE, BIT(63))),
		BAD(long_guest, "host GDTR base: not canonical (SDM3 27.2.3)",
		    SET(VMCS_HOST_GDTR_BASE, BIT(63))),
		BAD(long_guest, "host IDTR base: not canonical (SDM3 27.2.3)",
		    SET(VMCS_HOST_IDTR_BASE, BIT(63))),
		BAD(long_guest, "host TR base: not canonical (SDM3 27.2.3)", SET(VMCS_HOST_TR_BASE, BIT(63))),
		BAD(long_guest, "exit controls: \"host address-space size\" is clear (SDM3 27.2.4)",
		    FLIP(VMCS_EXIT_CONTROLS, EXIT_HOST_64), SET(VMCS_HOST_EFER, 1)),
		BAD(long_guest, "host CR4: PAE is clear in a 64-bit host (SDM3 27.2.4)",
		    FLIP(VMCS_HOST_CR4, CR4_PAE)),
		BAD(long_guest, "host RIP: not canonical (SDM3 27.2.4)", SET(VMCS_HOST_RIP, BIT(48))),
		GOOD(long_guest, FLIP(VMCS_HOST_CR0, CR0_WP)),
	};

	(void)state;
	RUN(cases);
}

static void test_guest_registers(void **state)
{
	static const struct test_case cases[] = {
		BAD(long_guest, "guest CR0: a fixed bit is clear (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR0, CR0_NE)),
		BAD(real_guest, "guest CR0: a fixed bit is clear (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR0, CR0_NE)),
		BAD(real_guest, "guest CR0: a fixed bit is clear (SDM3 27.3.1.1)", RESTRICTED),
		BAD_ON(real_guest, MACHINE(cr0_fixed0, CR0_NE),
		       "guest CR0: a fixed bit is clear (SDM3 27.3.1.1)", RESTRICTED),
		BAD(long_guest, "guest CR0: an unsupported bit is set (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR0, BIT(32))),
		GOOD_ON(long_guest, MACHINE(cr0_fixed1, 0x9fffffff), FLIP(VMCS_GUEST_CR0, CR0_NW | CR0_CD)),
		BAD(real_guest, "guest CR0: PG without PE (SDM3 27.3.1.1)", FLIP(VMCS_GUEST_CR0, CR0_PG)),
		BAD(long_guest, "guest CR4: a fixed bit is clear (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR4, CR4_VMXE)),
		BAD(long_guest, "guest CR4: an unsupported bit is set (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR4, BIT(63))),
		BAD(long_guest, "guest CR4: CET without CR0.WP (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR4, CR4_CET), FLIP(VMCS_GUEST_CR0, CR0_WP)),
		BAD(long_guest, "guest CR0: PG is clear in IA-32e mode (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR0, CR0_PG)),
		BAD(long_guest, "guest CR4: PAE is clear in IA-32e mode (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR4, CR4_PAE)),
		GOOD(long_guest, FLIP(VMCS_GUEST_CR4, CR4_PCIDE)),
		BAD(pae_guest, "guest CR4: PCIDE outside IA-32e mode (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR4, CR4_PCIDE)),
		BAD(long_guest, "guest CR3: beyond physical memory (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR3, BIT(39))),
		BAD(long_guest, "guest CR3: beyond physical memory (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR3, BIT(63))),
		BAD(long_guest, "guest CR3: beyond physical memory (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_CR3, BIT(61))),
		GOOD_ON(long_guest, MACHINE(cr4_fixed1, 0x10f7e7ff), FLIP(VMCS_GUEST_CR3, BIT(61) | BIT(62))),
		GOOD(long_guest, SET(VMCS_GUEST_DEBUGCTL, 0xffc7)),
		BAD(long_guest, "guest DEBUGCTL: a reserved bit is set (SDM3 27.3.1.1)",
		    SET(VMCS_GUEST_DEBUGCTL, BIT(3))),
		BAD(long_guest, "guest DEBUGCTL: a reserved bit is set (SDM3 27.3.1.1)",
		    SET(VMCS_GUEST_DEBUGCTL, BIT(16))),
		BAD(long_guest, "guest DR7: a reserved bit is set (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_DR7, BIT(32))),
		GOOD(long_guest, FLIP(VMCS_GUEST_DR7, BIT(32)), FLIP(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_DEBUG),
		     SET(VMCS_GUEST_DEBUGCTL, BIT(16))),
		BAD(long_guest, "guest SYSENTER_ESP: not canonical (SDM3 27.3.1.1)",
		    SET(VMCS_GUEST_SYSENTER_ESP, BIT(47))),
		BAD(long_guest, "guest SYSENTER_EIP: not canonical (SDM3 27.3.1.1)",
		    SET(VMCS_GUEST_SYSENTER_EIP, BIT(47))),
		BAD(long_guest, "guest PAT: a byte is no memory type (SDM3 27.3.1.1)",
		    SET(VMCS_GUEST_PAT, 0x0200000000000000)),
		GOOD(long_guest, SET(VMCS_GUEST_PAT, 2), FLIP(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_PAT)),
		BAD(long_guest, "guest EFER: a reserved bit is set (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_EFER, BIT(9))),
		BAD(long_guest, "guest EFER: LMA differs from \"IA-32e mode guest\" (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_EFER, EFER_LMA)),
		BAD(pae_guest, "guest EFER: LMA differs from \"IA-32e mode guest\" (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_EFER, EFER_LMA)),
		BAD(pae_guest, "guest EFER: LMA and LME differ with paging on (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_EFER, EFER_LME)),
		BAD(long_guest, "guest EFER: LMA and LME differ with paging on (SDM3 27.3.1.1)",
		    FLIP(VMCS_GUEST_EFER, EFER_LME)),
		GOOD(real_guest, FLIP(VMCS_GUEST_EFER, EFER_LME)),
		GOOD(long_guest, SET(VMCS_GUEST_EFER, UINT64_MAX),
		     FLIP(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_EFER)),
		GOOD(long_guest, FLIP(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_BNDCFGS),
		     SET(VMCS_GUEST_BNDCFGS, 0xfffffe0000001003)),
		BAD(long_guest, "guest BNDCFGS: a reserved bit is set (SDM3 27.3.1.1)",
		    FLIP(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_BNDCFGS), SET(VMCS_GUEST_BNDCFGS, 4)),
		BAD(long_guest, "guest BNDCFGS: not canonical (SDM3 27.3.1.1)",
		    FLIP(VMCS_ENTRY_CONTROLS, ENTRY_LOAD_BNDCFGS), SET(VMCS_GUEST_BNDCFGS, BIT(47))),
		GOOD(long_guest, FLIP(VMCS_GUEST_CR4, CR4_CET)),
	};

	(void)state;
	RUN(cases);
}

#define RIGHTS(segment, rights) SET(VMCS_GUEST_##segment##_RIGHTS, rights)
#define LIMIT(segment, limit) SET(VMCS_GUEST_##segment##_LIMIT, limit)
#define SELECTOR(segment, selector) SET(VMCS_GUEST_##segment##_SELECTOR, selector)
#define BASE(segment, base) SET(VMCS_GUEST_##segment##_BASE, base)
#define UNUSABLE RIGHTS_UNUSABLE

static void test_selectors_and_bases(void **state)
{
	static const struct test_case cases[] = {
		BAD(long_guest, "guest TR selector: TI is set (SDM3 27.3.1.2): 0x44", SELECTOR(TR, 0x44)),
		BAD(long_guest, "guest LDTR selector: TI is set (SDM3 27.3.1.2)", SELECTOR(LDTR, 0x4c)),
		GOOD(long_guest, SELECTOR(LDTR, 0x4c), RIGHTS(LDTR, UNUSABLE)),
		BAD(pae_guest, "guest SS selector: RPL differs from that of CS (SDM3 27.3.1.2)", RESTRICTED,
		    SELECTOR(SS, 0x20)),
		GOOD(pae_guest, SELECTOR(SS, 0x20)),
		GOOD(v8086_guest, RESTRICTED, SELECTOR(SS, 0x23), BASE(SS, 0x230)),
		BAD(v8086_guest,
		    "guest ES base: not 16 times the selector in virtual-8086 mode (SDM3 27.3.1.2): 0x10",
		    BASE(ES, 0x10)),
		BAD(v8086_guest,
		    "guest CS base: not 16 times the selector in virtual-8086 mode (SDM3 27.3.1.2)",
		    BASE(CS, 0)),
		BAD(v8086_guest,
		    "guest GS base: not 16 times the selector in virtual-8086 mode (SDM3 27.3.1.2)",
		    BASE(GS, 0x10)),
		BAD(long_guest, "guest TR base: not canonical (SDM3 27.3.1.2)", BASE(TR, BIT(47))),
		BAD(long_guest, "guest FS base: not canonical (SDM3 27.3.1.2)", BASE(FS, BIT(47))),
		BAD(long_guest, "guest FS base: not canonical (SDM3 27.3.1.2)", BASE(FS, BIT(47)),
		    RIGHTS(FS, UNUSABLE)),
		BAD(long_guest, "guest GS base: not canonical (SDM3 27.3.1.2)", BASE(GS, BIT(47))),
		GOOD(long_guest, BASE(GS, 0xffff800000000000), BASE(FS, 0x7fffffffffff)),
		BAD(long_guest, "guest LDTR base: not canonical (SDM3 27.3.1.2)", BASE(LDTR, BIT(47))),
		GOOD(long_guest, BASE(LDTR, BIT(47)), RIGHTS(LDTR, UNUSABLE)),
		BAD(long_guest, "guest CS base: more than 32 bits (SDM3 27.3.1.2)", BASE(CS, BIT(32))),
		BAD(long_guest, "guest SS base: more than 32 bits (SDM3 27.3.1.2)", BASE(SS, BIT(32))),
		GOOD(long_guest, BASE(SS, BIT(32)), RIGHTS(SS, UNUSABLE)),
		BAD(long_guest, "guest DS base: more than 32 bits (SDM3 27.3.1.2)", BASE(DS, BIT(32))),
		BAD(long_guest, "guest ES base: more than 32 bits (SDM3 27.3.1.2)", BASE(ES, BIT(32))),
		GOOD(long_guest, BASE(ES, BIT(32)), RIGHTS(ES, UNUSABLE)),
		BAD(v8086_guest, "guest ES limit: not 0xffff in virtual-8086 mode (SDM3 27.3.1.2)",
		    LIMIT(ES, 0xfffff)),
		BAD(v8086_guest, "guest GS limit: not 0xffff in virtual-8086 mode (SDM3 27.3.1.2)",
		    LIMIT(GS, 0xfffe)),
		BAD(v8086_guest, "guest CS rights: not 0xf3 in virtual-8086 mode (SDM3 27.3.1.2)",
		    RIGHTS(CS, 0xfb)),
		BAD(v8086_guest, "guest GS rights: not 0xf3 in virtual-8086 mode (SDM3 27.3.1.2)",
		    RIGHTS(GS, 0x93)),
		BAD(long_guest, "guest GDTR base: not canonical (SDM3 27.3.1.3)", BASE(GDTR, BIT(47))),
		BAD(long_guest, "guest IDTR base: not canonical (SDM3 27.3.1.3)", BASE(IDTR, BIT(47))),
		BAD(long_guest, "guest GDTR limit: more than 16 bits (SDM3 27.3.1.3)", LIMIT(GDTR, 0x10000)),
		BAD(long_guest, "guest IDTR limit: more than 16 bits (SDM3 27.3.1.3)", LIMIT(IDTR, 0x1ffff)),
	};

	(void)state;
	RUN(cases);
}

static void test_code_and_stack(void **state)
{
	static const struct test_case cases[] = {
		BAD(long_guest, "guest CS rights: type is no accessed code (SDM3 27.3.1.2): 0xa09a",
		    RIGHTS(CS, 0xa09a)),
		BAD(real_guest, "guest CS rights: type is no accessed code (SDM3 27.3.1.2)",
		    RIGHTS(CS, 0x97)),
		BAD(pae_guest, "guest CS rights: type is no accessed code (SDM3 27.3.1.2)", RESTRICTED,
		    RIGHTS(CS, 0xc0f3)),
		GOOD(long_guest, RIGHTS(CS, 0xa099)),
		GOOD(real_guest, RIGHTS(CS, 0x93)),
		BAD(long_guest, "guest CS rights: a system segment (SDM3 27.3.1.2)", RIGHTS(CS, 0xa08b)),
		BAD(pae_guest, "guest CS rights: type 3 needs DPL 0 (SDM3 27.3.1.2)", RIGHTS(CS, 0xc0f3)),
		BAD(long_guest, "guest CS rights: DPL differs from that of SS (SDM3 27.3.1.2)",
		    RIGHTS(CS, 0xa0bb)),
		BAD(pae_guest, "guest CS rights: DPL differs from that of SS (SDM3 27.3.1.2)",
		    RIGHTS(CS, 0xc099)),
		GOOD(pae_guest, RIGHTS(CS, 0xc09f)),
		BAD(long_guest, "guest CS rights: conforming, and DPL is above that of SS (SDM3 27.3.1.2)",
		    RIGHTS(CS, 0xa0bd)),
		BAD(long_guest, "guest CS rights: L and D are both set (SDM3 27.3.1.2)", RIGHTS(CS, 0xe09b)),
		GOOD(pae_guest, RIGHTS(CS, 0xe0fb)),
		BAD(long_guest, "guest CS rights: not present (SDM3 27.3.1.2)", RIGHTS(CS, 0xa01b)),
		BAD(long_guest, "guest CS rights: bits 11:8 are not 0 (SDM3 27.3.1.2)", RIGHTS(CS, 0xa89b)),
		BAD(long_guest, "guest CS rights: bits 31:17 are not 0 (SDM3 27.3.1.2)", RIGHTS(CS, 0x2a09b)),
		BAD(long_guest, "guest CS rights: bits 31:17 are not 0 (SDM3 27.3.1.2)",
		    RIGHTS(CS, 0x2a09b | UNUSABLE)),
		BAD(long_guest,
		    "guest CS rights: G is set, and bits 11:0 of the limit are not all 1 (SDM3 27.3.1.2)",
		    LIMIT(CS, 0xffff7fff ^ 0x1)),
		BAD(long_guest,
		    "guest CS rights: G is clear, and bits 31:20 of the limit are not 0 (SDM3 27.3.1.2)",
		    RIGHTS(CS, 0x209b)),
		GOOD(long_guest, RIGHTS(CS, 0x209b), LIMIT(CS, 0xfff00)),
		BAD(pae_guest, "guest SS rights: DPL differs from RPL (SDM3 27.3.1.2)", RESTRICTED,
		    RIGHTS(SS, 0xc0d3), RIGHTS(CS, 0xc0db)),
		BAD(pae_guest, "guest SS rights: DPL differs from RPL (SDM3 27.3.1.2)", RESTRICTED,
		    RIGHTS(SS, 0xc093 | UNUSABLE), RIGHTS(CS, 0xc09b)),
		GOOD(pae_guest, RIGHTS(SS, 0xc0d3), RIGHTS(CS, 0xc0db)),
		BAD(real_guest, "guest SS rights: DPL is not 0 with CS of type 3 (SDM3 27.3.1.2)",
		    FLIP(VMCS_GUEST_CR0, CR0_PE), RIGHTS(CS, 0x93), RIGHTS(SS, 0xf3)),
		BAD(real_guest, "guest SS rights: DPL is not 0 in real mode (SDM3 27.3.1.2)",
		    RIGHTS(CS, 0xfb), RIGHTS(SS, 0xf3)),
		GOOD(real_guest, FLIP(VMCS_GUEST_CR0, CR0_PE), RIGHTS(CS, 0xfb), RIGHTS(SS, 0xf3)),
		GOOD(long_guest, RIGHTS(SS, UNUSABLE)),
		GOOD(long_guest, RIGHTS(SS, 0xc097)),
		BAD(long_guest, "guest SS rights: type is no accessed writable data (SDM3 27.3.1.2)",
		    RIGHTS(SS, 0xc092)),
		BAD(long_guest, "guest SS rights: type is no accessed writable data (SDM3 27.3.1.2)",
		    RIGHTS(SS, 0xc091)),
		BAD(long_guest, "guest SS rights: type is no accessed writable data (SDM3 27.3.1.2)",
		    RIGHTS(SS, 0xc09b)),
		BAD(long_guest, "guest SS rights: a system segment (SDM3 27.3.1.2)", RIGHTS(SS, 0xc083)),
		BAD(long_guest, "guest SS rights: not present (SDM3 27.3.1.2)", RIGHTS(SS, 0xc013)),
		BAD(long_guest,
		    "guest SS rights: G is clear, and bits 31:20 of the limit are not 0 (SDM3 27.3.1.2)",
		    RIGHTS(SS, 0x4093)),
	};

	(void)state;
	RUN(cases);
}

static void test_data_and_system(void **state)
{
	static const struct test_case cases[] = {
		BAD(long_guest, "guest ES rights: not accessed (SDM3 27.3.1.2)", RIGHTS(ES, 0xc092)),
		BAD(long_guest, "guest DS rights: not accessed (SDM3 27.3.1.2)", RIGHTS(DS, 0xc092)),
		BAD(long_guest, "guest FS rights: not accessed (SDM3 27.3.1.2)", RIGHTS(FS, 0xc092)),
		BAD(long_guest, "guest GS rights: not accessed (SDM3 27.3.1.2)", RIGHTS(GS, 0xc092)),
		GOOD(long_guest, RIGHTS(ES, UNUSABLE), RIGHTS(DS, 0xfffffff0), RIGHTS(FS, UNUSABLE),
		     RIGHTS(GS, UNUSABLE)),
		BAD(long_guest, "guest DS rights: code that can't be read (SDM3 27.3.1.2)",
		    RIGHTS(DS, 0xc099)),
		GOOD(long_guest, RIGHTS(DS, 0xc09b)),
		BAD(long_guest, "guest DS rights: a system segment (SDM3 27.3.1.2)", RIGHTS(DS, 0xc083)),
		BAD(pae_guest, "guest DS rights: DPL is below RPL (SDM3 27.3.1.2)", RESTRICTED,
		    RIGHTS(DS, 0xc0d3)),
		BAD(pae_guest, "guest DS rights: DPL is below RPL (SDM3 27.3.1.2)", RESTRICTED,
		    RIGHTS(DS, 0xc09b)),
		GOOD(pae_guest, RESTRICTED, RIGHTS(DS, 0xc09f)),
		GOOD(pae_guest, RIGHTS(DS, 0xc0d3)),
		BAD(long_guest, "guest GS rights: not present (SDM3 27.3.1.2)", RIGHTS(GS, 0xc013)),
		BAD(long_guest, "guest FS rights: bits 11:8 are not 0 (SDM3 27.3.1.2)", RIGHTS(FS, 0xc193)),
		BAD(long_guest, "guest DS rights: bits 31:17 are not 0 (SDM3 27.3.1.2)",
		    RIGHTS(DS, 0x8000c093)),
		BAD(long_guest, "guest TR rights: type is no busy TSS of this mode (SDM3 27.3.1.2)",
		    RIGHTS(TR, 0x89)),
		BAD(long_guest, "guest TR rights: type is no busy TSS of this mode (SDM3 27.3.1.2)",
		    RIGHTS(TR, 0x83)),
		GOOD(pae_guest, RIGHTS(TR, 0x83)),
		BAD(pae_guest, "guest TR rights: type is no busy TSS of this mode (SDM3 27.3.1.2)",
		    RIGHTS(TR, 0x81)),
		BAD(long_guest, "guest TR rights: not a system segment (SDM3 27.3.1.2)", RIGHTS(TR, 0x9b)),
		BAD(long_guest, "guest TR rights: unusable (SDM3 27.3.1.2)", RIGHTS(TR, 0x8b | UNUSABLE)),
		BAD(long_guest, "guest TR rights: not present (SDM3 27.3.1.2)", RIGHTS(TR, 0x0b)),
		BAD(long_guest, "guest TR rights: bits 11:8 are not 0 (SDM3 27.3.1.2)", RIGHTS(TR, 0x18b)),
		BAD(long_guest, "guest TR rights: bits 31:17 are not 0 (SDM3 27.3.1.2)", RIGHTS(TR, 0x2008b)),
		BAD(long_guest,
		    "guest TR rights: G is set, and bits 11:0 of the limit are not all 1 (SDM3 27.3.1.2)",
		    RIGHTS(TR, 0x808b)),
		BAD(long_guest,
		    "guest TR rights: G is clear, and bits 31:20 of the limit are not 0 (SDM3 27.3.1.2)",
		    LIMIT(TR, 0x100067)),
		GOOD(long_guest, RIGHTS(TR, 0x808b), LIMIT(TR, 0x100fff)),
		BAD(long_guest, "guest LDTR rights: type is no LDT (SDM3 27.3.1.2)", RIGHTS(LDTR, 0x83)),
		BAD(long_guest, "guest LDTR rights: not a system segment (SDM3 27.3.1.2)",
		    RIGHTS(LDTR, 0x92)),
		BAD(long_guest, "guest LDTR rights: not present (SDM3 27.3.1.2)", RIGHTS(LDTR, 0x02)),
		BAD(long_guest,
		    "guest LDTR rights: G is clear, and bits 31:20 of the limit are not 0 (SDM3 27.3.1.2)",
		    LIMIT(LDTR, BIT(20))),
		BAD(v8086_guest, "guest TR rights: type is no busy TSS of this mode (SDM3 27.3.1.2)",
		    RIGHTS(TR, 0x89)),
		GOOD(long_guest, RIGHTS(DS, 0xc091)),
	};

	(void)state;
	RUN(cases);
}

static void test_rip_and_rflags(void **state)
{
	static const struct test_case cases[] = {
		/* Bit 47 is free here, unlike in a canonical address. */
		GOOD(long_guest, SET(VMCS_GUEST_RIP, BIT(47))),
		BAD(long_guest, "guest RIP: bits above a linear address differ (SDM3 27.3.1.4)",
		    SET(VMCS_GUEST_RIP, BIT(48))),
		BAD(long_guest, "guest RIP: bits above a linear address differ (SDM3 27.3.1.4)",
		    SET(VMCS_GUEST_RIP, 0x7fff800000000000)),
		BAD(long_guest, "guest RIP: more than 32 bits outside 64-bit mode (SDM3 27.3.1.4)",
		    RIGHTS(CS, 0xc09b)),
		BAD(pae_guest, "guest RIP: more than 32 bits outside 64-bit mode (SDM3 27.3.1.4)",
		    SET(VMCS_GUEST_RIP, BIT(32))),
		BAD(pae_guest, "guest RIP: more than 32 bits outside 64-bit mode (SDM3 27.3.1.4)",
		    SET(VMCS_GUEST_RIP, BIT(32)), RIGHTS(CS, 0xe0fb)),
		GOOD(long_guest, SET(VMCS_GUEST_RFLAGS, 0x1d7fd7)),
		BAD(long_guest, "guest RFLAGS: a reserved bit is set (SDM3 27.3.1.4)",
		    FLIP(VMCS_GUEST_RFLAGS, BIT(3))),
		BAD(long_guest, "guest RFLAGS: a reserved bit is set (SDM3 27.3.1.4)",
		    FLIP(VMCS_GUEST_RFLAGS, BIT(5))),
		BAD(long_guest, "guest RFLAGS: a reserved bit is set (SDM3 27.3.1.4)",
		    FLIP(VMCS_GUEST_RFLAGS, BIT(15))),
		BAD(long_guest, "guest RFLAGS: a reserved bit is set (SDM3 27.3.1.4)",
		    FLIP(VMCS_GUEST_RFLAGS, BIT(22))),
		BAD(long_guest, "guest RFLAGS: a reserved bit is set (SDM3 27.3.1.4)",
		    FLIP(VMCS_GUEST_RFLAGS, BIT(63))),
		BAD(long_guest, "guest RFLAGS: bit 1 is clear (SDM3 27.3.1.4)",
		    FLIP(VMCS_GUEST_RFLAGS, BIT(1))),
		BAD(v8086_guest, "guest RFLAGS: VM in IA-32e mode (SDM3 27.3.1.4)",
		    FLIP(VMCS_ENTRY_CONTROLS, ENTRY_GUEST_LONG_MODE), SET(VMCS_GUEST_EFER, 0x500)),
		BAD(v8086_guest, "guest RFLAGS: VM without CR0.PE (SDM3 27.3.1.4)",
		    SET(VMCS_GUEST_CR0, 0x60000030)),
		BAD(long_guest, "guest RFLAGS: IF is clear with an external interrupt (SDM3 27.3.1.4)",
		    EVENT(EVENT_TYPE_INTR | 0x20), SET(VMCS_GUEST_RFLAGS, 2)),
		GOOD(long_guest, SET(VMCS_ENTRY_EVENT, EVENT_TYPE_INTR | 0x20), SET(VMCS_GUEST_RFLAGS, 2)),
		GOOD(long_guest, EVENT(EVENT_TYPE_NMI | 2), SET(VMCS_GUEST_RFLAGS, 2)),
	};

	(void)state;
	RUN(cases);
}

#define IN(activity) SET(VMCS_GUEST_ACTIVITY, ACTIVITY_##activity)

static void test_activity(void **state)
{
	static const struct test_case cases[] = {
		GOOD(long_guest, IN(HLT)),
		GOOD(long_guest, IN(SHUTDOWN)),
		BAD(long_guest, "guest activity: unsupported (SDM3 27.3.1.5): 0x4",
		    SET(VMCS_GUEST_ACTIVITY, 4)),
		BAD_ON(long_guest, MACHINE(caps.misc, 6u << 6),
		       "guest activity: unsupported (SDM3 27.3.1.5): 0x1", IN(HLT)),
		BAD_ON(long_guest, MACHINE(caps.misc, 5u << 6),
		       "guest activity: unsupported (SDM3 27.3.1.5): 0x2", IN(SHUTDOWN)),
		BAD_ON(sipi_guest, MACHINE(caps.misc, 3u << 6),
		       "guest activity: unsupported (SDM3 27.3.1.5): 0x3"),
		BAD(pae_guest, "guest activity: HLT outside CPL 0 (SDM3 27.3.1.5)", IN(HLT)),
		BAD(long_guest, "guest activity: not active in an interrupt shadow (SDM3 27.3.1.5)", IN(HLT),
		    SET(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_STI)),
		BAD(long_guest, "guest activity: not active in an interrupt shadow (SDM3 27.3.1.5)",
		    IN(SHUTDOWN), SET(VMCS_GUEST_INTERRUPTIBILITY, BLOCKING_MOV_SS)),
		GOOD(long_guest, IN(HLT), EVENT(EVENT_TYPE_INTR | 0x30)),
		GOOD(long_guest, IN(HLT), EVENT(EVENT_TYPE_NMI | 2)),
		GOOD(long_guest, IN(HLT), EXCEPTION(1)),
		GOOD(long_guest, IN(HLT), EXCEPTION(18)),
		GOOD(long_guest, IN(HLT), EVENT(EVENT_TYPE_OTHER)),
		BAD(long_guest, "guest activity: can't take the entry event (SDM3 27.3.1.5)", IN(HLT),
		    EXCEPTION(6)),
		BAD(long_guest, "guest activity: can't take the entry event (SDM3 27.3.1.5)", IN(HLT),
		    EVENT(EVENT_TYPE_SOFT_INT | 1), SET(VMCS_ENTRY_INSTRUCTION_LENGTH, 2)),
		GOOD(long_guest, IN(SHUTDOWN), EVENT(EVENT_TYPE_NMI | 2)),
		GOOD(long_guest, IN(SHUTDOWN), EXCEPTION(18)),
		BAD(long_guest, "guest activity: can't take the entry event (SDM3 27.3.1.5)", IN(SHUTDOWN),
		    EXCEPTION(1)),
		BAD(long_guest, "guest activity: can't take the entry event (SDM3 27.3.1.5)", IN(SHUTDOWN),
		    EVENT(EVENT_TYPE_INTR | 0x30)),
		BAD(sipi_guest, "guest activity: can't take the entry event (SDM3 27.3.1.5)",
		    EVENT(EVENT_TYPE_NMI | 2)),
		BAD(long_guest, "guest activity: unsupported (SDM3 27.3.1.5)", SET(VMCS_GUEST_ACTIVITY, 64)),
	};

	(void)state;
	RUN(cases);
}

#define BLOCKED(by) SET(VMCS_GUEST_INTERRUPTIBILITY, by)

static void test_interruptibility(void **state)
{
	static const struct test_case cases[] = {
		GOOD(long_guest, BLOCKED(BLOCKING_STI | BLOCKING_NMI)),
		GOOD(long_guest, BLOCKED(BLOCKING_MOV_SS), EXCEPTION(1), FLIP(VMCS_GUEST_RFLAGS, RFLAGS_IF)),
		BAD(long_guest, "guest interruptibility: a reserved bit is set (SDM3 27.3.1.5): 0x20",
		    BLOCKED(BIT(5))),
		BAD(long_guest, "guest interruptibility: blocking by STI and by MOV SS (SDM3 27.3.1.5)",
		    BLOCKED(BLOCKING_STI | BLOCKING_MOV_SS)),
		BAD(long_guest, "guest interruptibility: blocking by STI without RFLAGS.IF (SDM3 27.3.1.5)",
		    BLOCKED(BLOCKING_STI), FLIP(VMCS_GUEST_RFLAGS, RFLAGS_IF)),
		BAD(long_guest,
		    "guest interruptibility: interrupt shadow with an external interrupt (SDM3 27.3.1.5)",
		    BLOCKED(BLOCKING_STI), EVENT(EVENT_TYPE_INTR | 0x30)),
		BAD(long_guest,
		    "guest interruptibility: interrupt shadow with an external interrupt (SDM3 27.3.1.5)",
		    BLOCKED(BLOCKING_MOV_SS), EVENT(EVENT_TYPE_INTR | 0x30)),
		BAD(long_guest, "guest interruptibility: interrupt shadow with an NMI (SDM3 27.3.1.5)",
		    BLOCKED(BLOCKING_MOV_SS), EVENT(EVENT_TYPE_NMI | 2)),
		BAD(long_guest, "guest interruptibility: interrupt shadow with an NMI (SDM3 27.3.1.5)",
		    BLOCKED(BLOCKING_STI), EVENT(EVENT_TYPE_NMI | 2)),
		BAD(long_guest, "guest interruptibility: blocking by SMI outside SMM (SDM3 27.3.1.5)",
		    BLOCKED(BLOCKING_SMI)),
		BAD(long_guest,
		    "guest interruptibility: virtual NMIs are blocked with an NMI (SDM3 27.3.1.5)",
		    BLOCKED(BLOCKING_NMI), EVENT(EVENT_TYPE_NMI | 2)),
		GOOD(long_guest, BLOCKED(BLOCKING_NMI), EVENT(EVENT_TYPE_NMI | 2),
		     FLIP(VMCS_PIN_CONTROLS, PIN_VIRTUAL_NMI)),
		GOOD(long_guest, BLOCKED(BLOCKING_ENCLAVE)),
		BAD(long_guest,
		    "guest interruptibility: enclave interruption and blocking by MOV SS (SDM3 27.3.1.5)",
		    BLOCKED(BLOCKING_ENCLAVE | BLOCKING_MOV_SS)),
	};

	(void)state;
	RUN(cases);
}

#define PENDING(bits) SET(VMCS_GUEST_PENDING_DEBUG, bits)
#define STEP FLIP(VMCS_GUEST_RFLAGS, RFLAGS_TF)

static void test_pending_debug(void **state)
{
	static const struct test_case cases[] = {
		GOOD(long_guest, PENDING(0x500f)),
		BAD(long_guest, "guest pending debug exceptions: a reserved bit is set (SDM3 27.3.1.5)",
		    PENDING(BIT(4))),
		GOOD(long_guest, PENDING(BIT(11))),
		BAD(long_guest, "guest pending debug exceptions: a reserved bit is set (SDM3 27.3.1.5)",
		    PENDING(BIT(13))),
		BAD(long_guest, "guest pending debug exceptions: a reserved bit is set (SDM3 27.3.1.5)",
		    PENDING(BIT(15))),
		BAD(long_guest, "guest pending debug exceptions: a reserved bit is set (SDM3 27.3.1.5)",
		    PENDING(BIT(17))),
		BAD(long_guest, "guest pending debug exceptions: a reserved bit is set (SDM3 27.3.1.5)",
		    PENDING(BIT(63))),
		GOOD(long_guest, STEP),
		BAD(long_guest,
		    "guest pending debug exceptions: BS is clear while stepping in a shadow or HLT (SDM3 "
		    "27.3.1.5)",
		    STEP, BLOCKED(BLOCKING_STI)),
		BAD(long_guest,
		    "guest pending debug exceptions: BS is clear while stepping in a shadow or HLT (SDM3 "
		    "27.3.1.5)",
		    STEP, BLOCKED(BLOCKING_MOV_SS)),
		BAD(long_guest,
		    "guest pending debug exceptions: BS is clear while stepping in a shadow or HLT (SDM3 "
		    "27.3.1.5)",
		    STEP, IN(HLT)),
		GOOD(long_guest, STEP, IN(HLT), PENDING(BIT(14))),
		GOOD(long_guest, STEP, IN(HLT), SET(VMCS_GUEST_DEBUGCTL, BIT(1))),
		BAD(long_guest,
		    "guest pending debug exceptions: BS without stepping in a shadow or HLT (SDM3 27.3.1.5)",
		    IN(HLT), PENDING(BIT(14))),
		BAD(long_guest,
		    "guest pending debug exceptions: BS without stepping in a shadow or HLT (SDM3 27.3.1.5)",
		    STEP, SET(VMCS_GUEST_DEBUGCTL, BIT(1)), BLOCKED(BLOCKING_STI), PENDING(BIT(14))),
		GOOD(long_guest, PENDING(BIT(16) | BIT(12))),
		BAD(long_guest, "guest pending debug exceptions: RTM with other causes (SDM3 27.3.1.5)",
		    PENDING(BIT(16))),
		BAD(long_guest, "guest pending debug exceptions: RTM with other causes (SDM3 27.3.1.5)",
		    PENDING(BIT(16) | BIT(12) | 1)),
		BAD(long_guest, "guest pending debug exceptions: RTM with blocking by MOV SS (SDM3 27.3.1.5)",
		    PENDING(BIT(16) | BIT(12)), BLOCKED(BLOCKING_MOV_SS)),
	};

	(void)state;
	RUN(cases);
}

static void test_link_and_pdptes(void **state)
{
	static const struct test_case cases[] = {
		GOOD(long_guest, SET(VMCS_LINK_POINTER, 0x17000)),
		BAD(long_guest, "VMCS link pointer: not aligned (SDM3 27.3.1.5)",
		    SET(VMCS_LINK_POINTER, 0x17001)),
		BAD(long_guest, "VMCS link pointer: beyond physical memory (SDM3 27.3.1.5)",
		    SET(VMCS_LINK_POINTER, BIT(39))),
		GOOD(pae_guest, SET(VMCS_GUEST_PDPTE0, 0x1e19), SET(VMCS_GUEST_PDPTE0 + 2, UINT64_MAX - 1)),
		BAD(pae_guest, "guest PDPTE 0: a reserved bit is set (SDM3 27.3.1.6)",
		    SET(VMCS_GUEST_PDPTE0, 0x1003)),
		BAD(pae_guest, "guest PDPTE 1: a reserved bit is set (SDM3 27.3.1.6)",
		    SET(VMCS_GUEST_PDPTE0 + 2, 0x1021)),
		BAD(pae_guest, "guest PDPTE 2: a reserved bit is set (SDM3 27.3.1.6)",
		    SET(VMCS_GUEST_PDPTE0 + 4, 0x1101)),
		BAD(pae_guest, "guest PDPTE 3: beyond physical memory (SDM3 27.3.1.6)",
		    SET(VMCS_GUEST_PDPTE0 + 6, BIT(39) | 1)),
		BAD(pae_guest, "guest PDPTE 3: beyond physical memory (SDM3 27.3.1.6)",
		    SET(VMCS_GUEST_PDPTE0 + 6, BIT(63) | 1)),
		GOOD(pae_guest, SET(VMCS_GUEST_PDPTE0, 3), FLIP(VMCS_GUEST_CR4, CR4_PAE)),
		GOOD(pae_guest, SET(VMCS_GUEST_PDPTE0, 3), FLIP(VMCS_GUEST_CR0, CR0_PG)),
		GOOD(long_guest, SET(VMCS_GUEST_PDPTE0, 3)),
	};

	(void)state;
	RUN(cases);
}

/* Only the first broken rule is told, and a short buffer is a short text. */
static void test_first_and_short(void **state)
{
	char why[12];

	(void)state;
	long_guest();
	vmwrite(VMCS_PIN_CONTROLS, 0);
	vmwrite(VMCS_GUEST_CR0, 0);
	assert_int_equal(vmx_check(&everything, why, sizeof(why)), -EINVAL);
	assert_string_equal(why, "pin control");
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(vmx_exit_name(VMX_EXIT_EXCEPTION), "exception");
	assert_string_equal(vmx_exit_name(VMX_EXIT_INTR), "interrupt");
	assert_string_equal(vmx_exit_name(VMX_EXIT_EPT_VIOLATION), "ept");
	assert_string_equal(vmx_exit_name((uint32_t)VMX_EXIT_ENTRY_FAILED | VMX_EXIT_BAD_GUEST_STATE),
			    "invalid");
	assert_string_equal(vmx_exit_name(VMX_EXIT_TPAUSE), "tpause");
	assert_string_equal(vmx_exit_name(35), "unknown");
	assert_string_equal(vmx_exit_name(VMX_EXIT_TPAUSE + 1), "unknown");
	assert_string_equal(vmx_exit_name(UINT32_MAX), "unknown");
	assert_string_equal(vmx_instruction_error_name(7), "VM entry with invalid control fields");
	assert_string_equal(vmx_instruction_error_name(28), "invalid operand of INVEPT or INVVPID");
	assert_string_equal(vmx_instruction_error_name(14), "unknown error");
	assert_string_equal(vmx_instruction_error_name(29), "unknown error");
	assert_string_equal(vmx_instruction_error_name(UINT32_MAX), "unknown error");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good_states),
		cmocka_unit_test(test_execution_controls),
		cmocka_unit_test(test_more_execution_controls),
		cmocka_unit_test(test_exit_and_entry_controls),
		cmocka_unit_test(test_entry_event),
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_guest_registers),
		cmocka_unit_test(test_selectors_and_bases),
		cmocka_unit_test(test_code_and_stack),
		cmocka_unit_test(test_data_and_system),
		cmocka_unit_test(test_rip_and_rflags),
		cmocka_unit_test(test_activity),
		cmocka_unit_test(test_interruptibility),
		cmocka_unit_test(test_pending_debug),
		cmocka_unit_test(test_link_and_pdptes),
		cmocka_unit_test(test_first_and_short),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
