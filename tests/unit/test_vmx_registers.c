/* unit: vmx/registers.c */
/* SPDX-License-Identifier: MIT */
/*
 * Registers by name in a VMCS, which is an array here: where each lies, in which form, and what goes with a change of it. The entry check
 * is another module's (test_vmx_check.c): here it says what the test wants.
 */
#include "vmx/mtrr.h"
#include "vmx/switch.h"
#include "vmcs_fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/live_registers.h>

struct vmx_machine vmx;

static struct vp *vp;
static uint64_t cr2, dr[8];
static uint32_t read_msr, written_msr, mtrr_msr, checked_msr;
static uint64_t written_value;
static unsigned int takeovers, pdpte_loads, tsc_updates;
static struct vmx_vp_page page;
static struct vp_child *const some_child = (struct vp_child *)&page;
static bool write_fails, pdptes_are_there, entry_is_fine;

uint64_t read_cr2(void)
{
	return cr2;
}

void write_cr2(uint64_t value)
{
	cr2 = value;
}

uint64_t read_dr(unsigned int index)
{
	return dr[index];
}

void write_dr(unsigned int index, uint64_t value)
{
	dr[index] = value;
}

void vmx_set_guest_cr0(struct vp *of, uint64_t value)
{
	assert_ptr_equal(of, vp);
	vmcs[VMCS_GUEST_CR0] = value | CR0_NE;
	vmcs[VMCS_CR0_SHADOW] = value;
}

uint64_t vmx_guest_cr0(const struct vp *of)
{
	assert_ptr_equal(of, vp);
	return vmcs[VMCS_CR0_SHADOW];
}

uint64_t vmx_guest_cr4(const struct vp *of)
{
	assert_ptr_equal(of, vp);
	return vmcs[VMCS_GUEST_CR4] & ~CR4_VMXE;
}

void vmx_set_guest_cr4(struct vp *of, uint64_t value)
{
	assert_ptr_equal(of, vp);
	vmcs[VMCS_GUEST_CR4] = value | CR4_VMXE;
}

uint64_t vmx_child_cr4_bits(void)
{
	return 0x7ff;
}

int vmx_switched_msr(uint32_t msr)
{
	return msr == MSR_LSTAR ? SWITCHED_LSTAR : -1;
}

uint64_t vmx_read_switched(struct vp *of, int index)
{
	return vmx_page_of(of)->msrs[index];
}

bool vmx_write_switched(struct vp *of, int index, uint64_t value)
{
	if (!write_fails)
		vmx_page_of(of)->msrs[index] = value;
	return !write_fails;
}

void vmx_update_tsc(struct vp *of)
{
	assert_ptr_equal(of, vp);
	assert_true(vmx_is_loaded(of));
	tsc_updates++;
}

void vmx_set_guest_efer(uint64_t value)
{
	vmcs[VMCS_GUEST_EFER] = value;
}

bool vmx_load_pdptes(struct vp *of)
{
	assert_ptr_equal(of, vp);
	pdpte_loads++;
	return pdptes_are_there;
}

int vmx_check(const struct vmx_machine *machine, char *why, size_t size)
{
	assert_ptr_equal(machine, &vmx);
	assert_true(why && size);
	return entry_is_fine ? 0 : -EINVAL;
}

void vmx_apic_take_over(struct vp *of)
{
	vmx_of(of)->apic_known = true;
	takeovers++;
}

void apic_set_tpr(struct apic *apic, uint8_t tpr)
{
	apic->tpr = tpr;
}

bool vmx_msr_is_refused(uint32_t msr)
{
	return msr == MSR_DS_AREA;
}

bool vmx_is_mtrr(uint32_t msr)
{
	return msr == MSR_MTRR_DEF_TYPE;
}

bool vmx_mtrr_write(struct vp *of, uint32_t msr, uint64_t value)
{
	assert_ptr_equal(of, vp);
	mtrr_msr = msr;
	written_value = value;
	return !write_fails;
}

bool vmx_msr_write_is_checked(uint32_t msr)
{
	return msr == MSR_MISC_ENABLE;
}

bool vmx_checked_msr_write(uint32_t msr, uint64_t value)
{
	checked_msr = msr;
	written_value = value;
	return !write_fails;
}

int vp_msr_read(struct vp *of, uint32_t msr, uint64_t *value)
{
	assert_ptr_equal(of, vp);
	read_msr = msr;
	*value = 0x1234;
	return 0;
}

int vp_msr_write(struct vp *of, uint32_t msr, uint64_t value)
{
	assert_ptr_equal(of, vp);
	written_msr = msr;
	written_value = value;
	return write_fails ? -EINVAL : 0;
}

static int setup(void **state)
{
	(void)state;
	memset(vmcs, 0, sizeof(vmcs));
	memset(vp, 0, sizeof(*vp));
	memset(dr, 0, sizeof(dr));
	vmx = (struct vmx_machine){ .cr4_fixed0 = CR4_VMXE, .cr4_fixed1 = 0x3727ff };
	memset(&page, 0, sizeof(page));
	vmx_of(vp)->page = &page;
	vmx_of(vp)->loaded = true;
	read_msr = written_msr = mtrr_msr = checked_msr = 0;
	takeovers = pdpte_loads = tsc_updates = 0;
	write_fails = false;
	pdptes_are_there = entry_is_fine = true;
	cr2 = 0;
	vmcs[VMCS_GUEST_EFER] = 0xd01;
	vmcs[VMCS_CR0_SHADOW] = 0x80050033;
	vmcs[VMCS_GUEST_CR4] = 0x26f0;
	return 0;
}

static union hv_register_value get(enum vp_register which)
{
	union hv_register_value value;

	memset(&value, 0xa5, sizeof(value));
	vmx_get_register(vp, which, &value);
	return value;
}

static int set(enum vp_register which, uint64_t low)
{
	const union hv_register_value value = { .reg128 = { low, 0 } };

	return vmx_set_register(vp, which, &value);
}

static uint64_t pending(void)
{
	return atomic_load(&vp->pending);
}

static void plain_registers(void **state)
{
	static const struct {
		enum vp_register which;
		uint32_t field;
		uint64_t value;
		uint64_t posts;
	} plain[] = {
		{ VP_REGISTER_RSP, VMCS_GUEST_RSP, 0x1111, 0 },
		{ VP_REGISTER_RIP, VMCS_GUEST_RIP, 0x2222, 0 },
		{ VP_REGISTER_RFLAGS, VMCS_GUEST_RFLAGS, 0x246, VP_PENDING_EVENT },
		{ VP_REGISTER_CR0, VMCS_CR0_SHADOW, 0x60000010, VP_PENDING_FLUSH },
		{ VP_REGISTER_CR3, VMCS_GUEST_CR3, 0x4444, VP_PENDING_FLUSH },
		{ VP_REGISTER_DR7, VMCS_GUEST_DR7, 0x2401, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(plain); i++) {
		setup(NULL);
		assert_int_equal(set(plain[i].which, plain[i].value), 0);
		assert_int_equal(vmcs[plain[i].field], plain[i].value);
		assert_int_equal(get(plain[i].which).reg128.low, plain[i].value);
		assert_int_equal(get(plain[i].which).reg128.high, 0);
		assert_int_equal(pending(), plain[i].posts);
	}
}

/* VM entry and exit leave these alone. */
static void registers_in_the_processor(void **state)
{
	(void)state;
	assert_int_equal(set(VP_REGISTER_CR2, 0x3333), 0);
	assert_int_equal(cr2, 0x3333);
	assert_true(vmx_of(vp)->cr2_set);
	assert_int_equal(get(VP_REGISTER_CR2).reg64, 0x3333);
	assert_int_equal(set(VP_REGISTER_DR6, 0xffff0ff1), 0);
	assert_int_equal(dr[6], 0xffff0ff1);
	assert_int_equal(get(VP_REGISTER_DR6).reg64, 0xffff0ff1);
}

/* Of a VP that isn't loaded nothing is in the processor. */
static void registers_of_a_borrowed_vp(void **state)
{
	(void)state;
	vmx_of(vp)->loaded = false;
	cr2 = dr[6] = 0x7777;
	page.cr2 = 0x1111;
	page.dr6 = 0xffff0ff0;
	assert_int_equal(get(VP_REGISTER_CR2).reg64, 0x1111);
	assert_int_equal(get(VP_REGISTER_DR6).reg64, 0xffff0ff0);
	assert_int_equal(set(VP_REGISTER_CR2, 0x3333), 0);
	assert_int_equal(set(VP_REGISTER_DR6, 0xffff0ff1), 0);
	assert_int_equal(page.cr2, 0x3333);
	assert_int_equal(page.dr6, 0xffff0ff1);
	assert_int_equal(cr2, 0x7777);
	assert_int_equal(dr[6], 0x7777);
}

/* None of the machine's. */
static void msrs_of_a_child(void **state)
{
	uint64_t value;

	(void)state;
	vp->child = some_child;
	assert_int_equal(vmx_set_msr(vp, MSR_LSTAR, 0x5000), 0);
	assert_int_equal(page.msrs[SWITCHED_LSTAR], 0x5000);
	assert_int_equal(vmx_get_msr(vp, MSR_LSTAR, &value), 0);
	assert_int_equal(value, 0x5000);
	write_fails = true;
	assert_int_equal(vmx_set_msr(vp, MSR_LSTAR, 0x6000), -EINVAL);
	write_fails = false;
	assert_int_equal(read_msr | written_msr, 0);
	assert_int_equal(vmx_set_msr(vp, MSR_MTRR_DEF_TYPE, 0xc06), 0);
	assert_int_equal(vmx_set_msr(vp, MSR_MISC_ENABLE, 1), 0);
	assert_int_equal(mtrr_msr | checked_msr, 0);
	assert_int_equal(written_msr, MSR_MISC_ENABLE);
	assert_int_equal(vmx_get_msr(vp, MSR_DS_AREA, &value), 0); /* whatever core says */
	assert_int_equal(read_msr, MSR_DS_AREA);
	assert_int_equal(vmx_set_msr(vp, MSR_DEBUGCTL, 2), 0);
	assert_int_equal(vmcs[VMCS_GUEST_DEBUGCTL], 2);
	assert_int_equal(vmx_set_msr(vp, MSR_DEBUGCTL, 1), -EINVAL);
}

static void tsc_of_a_child(void **state)
{
	(void)state;
	vp->child = some_child;
	assert_int_equal(vmx_set_msr(vp, MSR_TSC, 5), 0);
	assert_int_equal(vmx_set_msr(vp, MSR_TSC_ADJUST, 5), 0);
	assert_int_equal(tsc_updates, 2);
	vmx_of(vp)->loaded = false;
	assert_int_equal(vmx_set_msr(vp, MSR_TSC, 5), 0);
	assert_int_equal(tsc_updates, 2);
}

static void cr4_of_a_child(void **state)
{
	(void)state;
	vp->child = some_child;
	assert_int_equal(set(VP_REGISTER_CR4, 0x6f0), 0);
	assert_int_equal(set(VP_REGISTER_CR4, 0x1006f0), -EINVAL);
}

/* The guest finds no entries rather than old ones. */
static void entries_that_are_not_there(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_EFER] = 0;
	vmcs[VMCS_GUEST_PDPTE0] = vmcs[VMCS_GUEST_PDPTE0 + 6] = 0x1001;
	vmx_of(vp)->pdptes_stale = true;
	vmcs[VMCS_GUEST_CR4] |= CR4_PAE;
	pdptes_are_there = false;
	vmx_settle_pdptes(vp);
	assert_false(vmx_of(vp)->pdptes_stale);
	assert_int_equal(vmcs[VMCS_GUEST_PDPTE0] | vmcs[VMCS_GUEST_PDPTE0 + 6], 0);
}

static void bits_that_are_fixed(void **state)
{
	(void)state;
	assert_int_equal(set(VP_REGISTER_CR0, 0), 0);
	assert_int_equal(vmcs[VMCS_CR0_SHADOW], 0x10);
	assert_int_equal(set(VP_REGISTER_DR7, 0xffffffff), 0);
	assert_int_equal(vmcs[VMCS_GUEST_DR7], 0xffff2fff);
	assert_int_equal(set(VP_REGISTER_DR7, 0), 0);
	assert_int_equal(vmcs[VMCS_GUEST_DR7], 0x400);
}

static void cr4_keeps_vmxe_underneath(void **state)
{
	(void)state;
	assert_int_equal(get(VP_REGISTER_CR4).reg64, 0x6f0);
	assert_int_equal(set(VP_REGISTER_CR4, 0x20), 0);
	assert_int_equal(vmcs[VMCS_GUEST_CR4], 0x2020);
	assert_int_equal(get(VP_REGISTER_CR4).reg64, 0x20);
	assert_int_equal(pending(), VP_PENDING_FLUSH);
	assert_int_equal(set(VP_REGISTER_CR4, 0x2020), -EINVAL); /* VMX doesn't exist here */
	vmx.cr4_fixed1 = UINT64_MAX;
	assert_int_equal(set(VP_REGISTER_CR4, 0x4020), -EINVAL); /* nor SMX */
	vmx.cr4_fixed1 = 0x3727ff;
	assert_int_equal(set(VP_REGISTER_CR4, 0x80020), -EINVAL);
	assert_int_equal(vmcs[VMCS_GUEST_CR4], 0x2020);
}

static void rip_ends_the_shadow(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_STI | BLOCKING_MOV_SS | BLOCKING_NMI;
	assert_int_equal(set(VP_REGISTER_RIP, 0x1000), 0);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_NMI);
}

static void segment_attributes(void **state)
{
	static const struct {
		uint16_t interface;
		uint32_t rights;
	} pairs[] = {
		{ 0xa09b, 0xa09b }, /* 64-bit code */
		{ 0xc093, 0xc093 }, /* flat data */
		{ 0x008b, 0x008b }, /* busy TSS */
		{ 0xf0ff, 0xf0ff },
		{ 0x0082, 0x0082 },
		{ 0, RIGHTS_UNUSABLE },
		{ 0xc013, RIGHTS_UNUSABLE | 0xc013 }, /* not present: a null segment */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		union hv_register_value value = { .segment = { 0x1000, 0xfffff, 0x23, pairs[i].interface } };

		assert_int_equal(vmx_set_register(vp, VP_REGISTER_DS, &value), 0);
		assert_int_equal(vmcs[VMCS_GUEST_DS_RIGHTS], pairs[i].rights);
		assert_int_equal(vmcs[VMCS_GUEST_DS_SELECTOR], 0x23);
		assert_int_equal(vmcs[VMCS_GUEST_DS_LIMIT], 0xfffff);
		assert_int_equal(vmcs[VMCS_GUEST_DS_BASE], 0x1000);
		assert_int_equal(get(VP_REGISTER_DS).segment.attributes, pairs[i].interface);
	}
	/* As the processor may leave it: unusable, with P and reserved bits set. */
	vmcs[VMCS_GUEST_ES_RIGHTS] = RIGHTS_UNUSABLE | 0xcff3;
	assert_int_equal(get(VP_REGISTER_ES).segment.attributes, 0xc073);
}

static void every_segment_has_its_place(void **state)
{
	static const uint32_t bases[] = { VMCS_GUEST_ES_BASE,	VMCS_GUEST_CS_BASE, VMCS_GUEST_SS_BASE,
					  VMCS_GUEST_DS_BASE,	VMCS_GUEST_FS_BASE, VMCS_GUEST_GS_BASE,
					  VMCS_GUEST_LDTR_BASE, VMCS_GUEST_TR_BASE };

	(void)state;
	for (uint32_t i = 0; i < 8; i++) {
		union hv_register_value value = { .segment = { 0x100 + i, 0x200 + i, (uint16_t)(8 * i),
							       0x93 } };

		assert_int_equal(vmx_set_register(vp, VP_REGISTER_ES + i, &value), 0);
	}
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(vmcs[bases[i]], 0x100 + i);
		assert_int_equal(get(VP_REGISTER_ES + i).segment.limit, 0x200 + i);
		assert_int_equal(get(VP_REGISTER_ES + i).segment.selector, 8 * i);
	}
	assert_int_equal(vmcs[VMCS_GUEST_TR_LIMIT], 0x207);
	assert_int_equal(vmcs[VMCS_GUEST_LDTR_SELECTOR], 0x30);
}

static void tables(void **state)
{
	const union hv_register_value value = { .table = { { 0 }, 0x7f, 0xfffffe0000001000 } };

	(void)state;
	assert_int_equal(vmx_set_register(vp, VP_REGISTER_GDTR, &value), 0);
	assert_int_equal(vmcs[VMCS_GUEST_GDTR_LIMIT], 0x7f);
	assert_int_equal(vmcs[VMCS_GUEST_GDTR_BASE], 0xfffffe0000001000);
	assert_int_equal(vmcs[VMCS_GUEST_IDTR_BASE], 0);
	assert_int_equal(vmx_set_register(vp, VP_REGISTER_IDTR, &value), 0);
	assert_int_equal(vmcs[VMCS_GUEST_IDTR_LIMIT], 0x7f);
	assert_int_equal(get(VP_REGISTER_IDTR).reg128.low, 0x7full << 48);
	assert_int_equal(get(VP_REGISTER_GDTR).table.base, 0xfffffe0000001000);
}

static void cr8_is_the_apics(void **state)
{
	(void)state;
	vp->apic.tpr = 0x50;
	vmx_of(vp)->lends_page = true;
	assert_int_equal(get(VP_REGISTER_CR8).reg64, 5);
	assert_int_equal(takeovers, 0);
	assert_int_equal(set(VP_REGISTER_CR8, 9), 0);
	assert_int_equal(takeovers, 1);
	assert_int_equal(vp->apic.tpr, 0x90);
	assert_int_equal(pending(), VP_PENDING_EVENT);
}

static void msrs_in_the_vmcs(void **state)
{
	static const struct {
		uint32_t msr, field;
		uint64_t value;
	} map[] = {
		{ 0x174, VMCS_GUEST_SYSENTER_CS, 0x10 },    { 0x175, VMCS_GUEST_SYSENTER_ESP, 0x2000 },
		{ 0x176, VMCS_GUEST_SYSENTER_EIP, 0x3000 }, { 0x277, VMCS_GUEST_PAT, 0x0007040600070406 },
		{ 0x1d9, VMCS_GUEST_DEBUGCTL, 3 },	    { 0xc0000080, VMCS_GUEST_EFER, 0x500 },
	};
	uint64_t value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		assert_int_equal(vmx_set_msr(vp, map[i].msr, map[i].value), 0);
		assert_int_equal(vmcs[map[i].field], map[i].value);
		assert_int_equal(vmx_get_msr(vp, map[i].msr, &value), 0);
		assert_int_equal(value, map[i].value);
	}
	assert_int_equal(read_msr | written_msr, 0);
	assert_int_equal(pending(), VP_PENDING_FLUSH);
	assert_int_equal(vmx_set_msr(vp, 0xc0000080, 0x1500), -EINVAL);
	assert_int_equal(vmx_set_msr(vp, 0xc0000080, 2), -EINVAL);
	assert_int_equal(vmcs[VMCS_GUEST_EFER], 0x500);
}

/* A bit that this processor may not have would make the next entry fail; what the guest has set itself is there. */
static void debugctl(void **state)
{
	(void)state;
	assert_int_equal(vmx_set_msr(vp, 0x1d9, 0xc0), -EINVAL);
	assert_int_equal(vmcs[VMCS_GUEST_DEBUGCTL], 0);
	vmcs[VMCS_GUEST_DEBUGCTL] = 0xc0;
	assert_int_equal(vmx_set_msr(vp, 0x1d9, 0x41), 0);
	assert_int_equal(vmcs[VMCS_GUEST_DEBUGCTL], 0x41);
	assert_int_equal(vmx_set_msr(vp, 0x1d9, 0x80), -EINVAL);
}

static void other_msrs_go_the_guests_way(void **state)
{
	uint64_t value;

	(void)state;
	assert_int_equal(vmx_get_msr(vp, 0xc0000082, &value), 0);
	assert_int_equal(read_msr, 0xc0000082);
	assert_int_equal(value, 0x1234);
	assert_int_equal(vmx_set_msr(vp, 0xc0000082, 7), 0);
	assert_int_equal(written_msr, 0xc0000082);
	assert_int_equal(vmx_set_msr(vp, MSR_MTRR_DEF_TYPE, 0xc06), 0);
	assert_int_equal(mtrr_msr, MSR_MTRR_DEF_TYPE);
	assert_int_equal(written_value, 0xc06);
	assert_int_equal(vmx_set_msr(vp, MSR_MISC_ENABLE, 0x850089), 0);
	assert_int_equal(checked_msr, MSR_MISC_ENABLE);
	assert_int_equal(written_msr, 0xc0000082);
	assert_int_equal(vmx_get_msr(vp, MSR_DS_AREA, &value), -EINVAL);
	assert_int_equal(vmx_set_msr(vp, MSR_DS_AREA, 0), -EINVAL);
	write_fails = true;
	assert_int_equal(vmx_set_msr(vp, 0xc0000082, 7), -EINVAL);
	assert_int_equal(vmx_set_msr(vp, MSR_MTRR_DEF_TYPE, 7), -EINVAL);
	assert_int_equal(vmx_set_msr(vp, MSR_MISC_ENABLE, 7), -EINVAL);
}

/* What the processor did on the APIC page must be known before these look at it. */
static void msrs_that_look_into_the_apic(void **state)
{
	static const uint32_t looking[] = { 0x1b, 0x40000070, 0x40000072 };
	uint64_t value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(looking); i++) {
		setup(NULL);
		vmx_of(vp)->lends_page = true;
		assert_int_equal(vmx_set_msr(vp, looking[i], 0), 0);
		assert_int_equal(takeovers, 1);
		assert_int_equal(pending(), VP_PENDING_EVENT);
		vmx_of(vp)->apic_known = false;
		assert_int_equal(vmx_get_msr(vp, looking[i], &value), 0);
		assert_int_equal(takeovers, 2);
	}
	assert_int_equal(vmx_set_msr(vp, 0xc0000082, 7), 0);
	assert_int_equal(takeovers, 2);
}

static void pending_interruptions(void **state)
{
	static const struct {
		uint64_t interface, back;
		uint32_t event, error, length;
	} map[] = {
		{ 0x300001, 0x300001, 0x80000030, 0, 0 },	/* interrupt 30h */
		{ 0x20005, 0x20005, 0x80000202, 0, 0 },		/* NMI */
		{ 0x5000e0017, 0x5000e0017, 0x80000b0e, 5, 0 }, /* page fault, error code 5 */
		{ 0x800049, 0x800049, 0x80000480, 0, 2 },	/* INT 80h, two bytes */
		{ 0x3002d, 0x3002d, 0x80000603, 0, 1 },		/* INT3 */
		{ 0x1002b, 0x1002b, 0x80000501, 0, 1 },		/* INT1 */
		{ 0xffffffff00000010, 0, 0, 0, 1 },		/* nothing */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		vmcs[VMCS_ENTRY_EVENT_ERROR] = 0;
		assert_int_equal(set(VP_REGISTER_PENDING_INTERRUPTION, map[i].interface), 0);
		assert_int_equal(vmcs[VMCS_ENTRY_EVENT], map[i].event);
		assert_int_equal(vmx_of(vp)->event, map[i].event);
		assert_int_equal(vmcs[VMCS_ENTRY_EVENT_ERROR], map[i].error);
		assert_int_equal(vmcs[VMCS_ENTRY_INSTRUCTION_LENGTH], map[i].length);
		assert_int_equal(get(VP_REGISTER_PENDING_INTERRUPTION).reg64, map[i].back);
	}
}

static void interrupt_state(void **state)
{
	(void)state;
	assert_int_equal(set(VP_REGISTER_INTERRUPT_STATE, 3), 0);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_MOV_SS | BLOCKING_NMI);
	assert_int_equal(get(VP_REGISTER_INTERRUPT_STATE).reg64, 3);
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] = BLOCKING_STI; /* a shadow already: it keeps its kind */
	assert_int_equal(get(VP_REGISTER_INTERRUPT_STATE).reg64, 1);
	assert_int_equal(set(VP_REGISTER_INTERRUPT_STATE, 1), 0);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], BLOCKING_STI);
	assert_int_equal(set(VP_REGISTER_INTERRUPT_STATE, 0), 0);
	assert_int_equal(vmcs[VMCS_GUEST_INTERRUPTIBILITY], 0);
	assert_int_equal(pending(), VP_PENDING_EVENT);
}

/* Whichever comes first: without BS the entry would be refused, and with it when nobody steps. */
static void a_step_in_a_shadow_is_pending(void **state)
{
	(void)state;
	vmcs[VMCS_GUEST_PENDING_DEBUG] = 1;
	assert_int_equal(set(VP_REGISTER_RFLAGS, 2 | RFLAGS_TF), 0);
	assert_int_equal(vmcs[VMCS_GUEST_PENDING_DEBUG], 1);
	assert_int_equal(set(VP_REGISTER_INTERRUPT_STATE, 1), 0);
	assert_int_equal(vmcs[VMCS_GUEST_PENDING_DEBUG], 1 | DR6_BS);
	assert_int_equal(vmx_set_msr(vp, MSR_DEBUGCTL, DEBUGCTL_BTF), 0);
	assert_int_equal(vmcs[VMCS_GUEST_PENDING_DEBUG], 1);
	assert_int_equal(vmx_set_msr(vp, MSR_DEBUGCTL, 0), 0);
	assert_int_equal(vmcs[VMCS_GUEST_PENDING_DEBUG], 1 | DR6_BS);
	assert_int_equal(set(VP_REGISTER_RFLAGS, 2), 0);
	assert_int_equal(vmcs[VMCS_GUEST_PENDING_DEBUG], 1);
}

static void pae_gets_its_top_entries(void **state)
{
	(void)state;
	assert_true(vmx_can_run(vp));
	assert_int_equal(pdpte_loads, 0);
	assert_int_equal(set(VP_REGISTER_CR3, 0x1000), 0);
	assert_true(vmx_can_run(vp)); /* long mode has none */
	assert_int_equal(pdpte_loads, 0);
	assert_int_equal(vmx_set_msr(vp, 0xc0000080, 0), 0);
	assert_true(vmx_can_run(vp));
	assert_true(vmx_can_run(vp));
	assert_int_equal(pdpte_loads, 1);
	assert_int_equal(set(VP_REGISTER_CR3, 0x2000), 0);
	pdptes_are_there = false;
	assert_false(vmx_can_run(vp));
	assert_false(vmx_can_run(vp));
	assert_int_equal(pdpte_loads, 3);
	pdptes_are_there = true;
	entry_is_fine = false;
	assert_false(vmx_can_run(vp));
	assert_int_equal(pdpte_loads, 4);
	entry_is_fine = true;
	assert_true(vmx_can_run(vp));
	assert_int_equal(pdpte_loads, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(plain_registers, setup),
		cmocka_unit_test_setup(registers_in_the_processor, setup),
		cmocka_unit_test_setup(registers_of_a_borrowed_vp, setup),
		cmocka_unit_test_setup(msrs_of_a_child, setup),
		cmocka_unit_test_setup(tsc_of_a_child, setup),
		cmocka_unit_test_setup(cr4_of_a_child, setup),
		cmocka_unit_test_setup(entries_that_are_not_there, setup),
		cmocka_unit_test_setup(bits_that_are_fixed, setup),
		cmocka_unit_test_setup(cr4_keeps_vmxe_underneath, setup),
		cmocka_unit_test_setup(rip_ends_the_shadow, setup),
		cmocka_unit_test_setup(segment_attributes, setup),
		cmocka_unit_test_setup(every_segment_has_its_place, setup),
		cmocka_unit_test_setup(tables, setup),
		cmocka_unit_test_setup(cr8_is_the_apics, setup),
		cmocka_unit_test_setup(msrs_in_the_vmcs, setup),
		cmocka_unit_test_setup(debugctl, setup),
		cmocka_unit_test_setup(other_msrs_go_the_guests_way, setup),
		cmocka_unit_test_setup(msrs_that_look_into_the_apic, setup),
		cmocka_unit_test_setup(pending_interruptions, setup),
		cmocka_unit_test_setup(interrupt_state, setup),
		cmocka_unit_test_setup(a_step_in_a_shadow_is_pending, setup),
		cmocka_unit_test_setup(pae_gets_its_top_entries, setup),
	};
	int failed;

	vp = aligned_alloc(PAGE_SIZE, ALIGN_UP(sizeof(*vp), PAGE_SIZE));
	failed = cmocka_run_group_tests_name("VMX registers by name", tests, NULL, NULL);
	free(vp);
	return failed;
}
