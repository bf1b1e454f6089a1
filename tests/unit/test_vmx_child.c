/* unit: vmx/child.c vmx/control_registers.c */
/* SPDX-License-Identifier: MIT */
/* A child's controls by what the processor has and what CPUID offers, and its writes of CR0 and CR4, in a VMCS that is an array. */
#include "vmx/switch.h"
#include "vmcs_fake.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/exceptions.h>
#include <trivet/log.h>

#define RIP 0x1000
#define ALL_CR4 0x3727ffull /* of a processor with VMX, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP */

struct vmx_machine vmx;
enum log_level log_threshold = LOG_WARN;

static struct vp *vp;
static struct lp lp;
static struct vmx_vp_page page;
static uint8_t map;
static struct cpuid_regs leaf0, leaf1, leaf7, leafd, leaf8, leaf81;
static int32_t injected;
static bool pdptes_are_there;
static unsigned int warnings, follows;

hpa_t hv_virt_to_phys(const void *virt)
{
	return HPA((uint64_t)virt);
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return true;
}

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
	warnings++;
}

uint64_t rdtsc(void)
{
	return 0;
}

void vmx_follow_intercepts(struct vp *of)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(vmx_of(of)->proc, vmx.child_proc);
	follows++;
}

/* As state.c has them, for a child. */
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

void vmx_set_guest_cr4(struct vp *of, uint64_t value)
{
	assert_ptr_equal(of, vp);
	vmcs[VMCS_GUEST_CR4] = value | CR4_VMXE | CR4_MCE;
	vmcs[VMCS_CR4_SHADOW] = value;
}

uint64_t vmx_guest_cr4(const struct vp *of)
{
	uint64_t owned = vmcs[VMCS_CR4_MASK];

	assert_ptr_equal(of, vp);
	return (vmcs[VMCS_GUEST_CR4] & ~owned) | (vmcs[VMCS_CR4_SHADOW] & owned);
}

void vmx_set_guest_efer(uint64_t value)
{
	vmcs[VMCS_GUEST_EFER] = value;
}

void vmx_raise_exception(struct vp *of, uint8_t vector, bool has_error, uint32_t error)
{
	assert_ptr_equal(of, vp);
	assert_true(has_error);
	assert_int_equal(error, 0);
	injected = vector;
}

bool vmx_complete_traced(struct vp *of, uint64_t rflags)
{
	(void)of;
	(void)rflags;
	return false;
}

uint64_t vmx_wrap_rip(uint64_t rip)
{
	return rip;
}

bool guest_phys_read64(void *space, gpa_t gpa, uint64_t *value)
{
	assert_ptr_equal(space, vp);
	*value = gpa.v | 1;
	*value &= ~0x1e6ull;
	return pdptes_are_there;
}

void vp_cpuid(struct vp *of, uint64_t cr4)
{
	uint32_t leaf = (uint32_t)of->gpr[GPR_RAX], subleaf = (uint32_t)of->gpr[GPR_RCX];
	const struct cpuid_regs *answer;

	(void)cr4;
	assert_ptr_equal(of, vp);
	assert_int_equal(subleaf, leaf == 0xd ? 1 : 0);
	answer = leaf == 0	    ? &leaf0 :
		 leaf == 1	    ? &leaf1 :
		 leaf == 7	    ? &leaf7 :
		 leaf == 0xd	    ? &leafd :
		 leaf == 0x80000000 ? &leaf8 :
				      &leaf81;
	of->gpr[GPR_RAX] = answer->eax;
	of->gpr[GPR_RBX] = answer->ebx;
	of->gpr[GPR_RCX] = answer->ecx;
	of->gpr[GPR_RDX] = answer->edx;
}

static int setup(void **state)
{
	(void)state;
	memset(vmcs, 0, sizeof(vmcs));
	memset(vp, 0, sizeof(*vp));
	memset(&page, 0, sizeof(page));
	vmx = (struct vmx_machine){
		.caps.proc = ~0ull << 32 | 0x4006172,
		.caps.proc2 = ~0ull << 32,
		.proc2 = PROC2_VPID,
		.apic_controls = PROC2_APIC_ACCESSES | PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY,
		.cr4_fixed0 = CR4_VMXE,
		.cr4_fixed1 = ALL_CR4,
		.phys_bits = 40,
		.child_msr_map = &map,
	};
	vp->lp = &lp;
	vp->child = (struct vp_child *)&page; /* there is one: it isn't looked into */
	vmx_of(vp)->page = &page;
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		vp->gpr[i] = 0x1000 + i;
	leaf0 = (struct cpuid_regs){ .eax = 0xd };
	leaf8 = (struct cpuid_regs){ .eax = 0x80000008 };
	leaf1 = leaf7 = leafd = leaf81 = (struct cpuid_regs){ 0 };
	injected = -1;
	warnings = 0;
	pdptes_are_there = true;
	vmcs[VMCS_GUEST_RIP] = RIP;
	vmcs[VMCS_EXIT_INSTRUCTION_LENGTH] = 3;
	vmx_child_init();
	vmx_child_write_controls(vp);
	vmx_set_guest_cr0(vp, CR0_ET);
	vmx_set_guest_cr4(vp, 0);
	return 0;
}

static void what_exits(void **state)
{
	(void)state;
	assert_true(vmx.has_children);
	assert_int_equal(follows, 1); /* it writes them */
	assert_int_equal(vmx_of(vp)->proc & 0x4006172, 0x4006172);
	assert_true(vmx_of(vp)->proc & PROC_UNCONDITIONAL_IO);
	assert_false(vmx_of(vp)->proc & PROC_IO_BITMAPS); /* they would count instead */
	assert_true(vmx_of(vp)->proc & PROC_MOV_DR);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS2] & (PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES), 0);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS2] & (PROC2_APIC_REGISTERS | PROC2_INTERRUPT_DELIVERY), 0);
	assert_true(vmcs[VMCS_PROC_CONTROLS2] & PROC2_VPID);
	assert_true(vmcs[VMCS_PROC_CONTROLS2] & PROC2_APIC_ACCESSES);
	assert_int_equal(vmcs[VMCS_ENCLS_EXITING], UINT64_MAX);
	assert_int_equal(vmcs[VMCS_MSR_BITMAP], (uint64_t)&map);
	assert_int_equal(vmcs[VMCS_CR0_MASK], CR0_NE | CR0_NW | CR0_CD);
}

static void a_processor_without(void **state)
{
	(void)state;
	assert_int_equal(warnings, 0);
	vmx.caps.proc &= ~((uint64_t)PROC_UNCONDITIONAL_IO << 32);
	vmx_child_init();
	assert_false(vmx.has_children);
	assert_int_equal(warnings, 1);
	setup(NULL);
	vmx.caps.proc2 &= ~((uint64_t)PROC2_UNRESTRICTED_GUEST << 32);
	vmx_child_init();
	assert_false(vmx.has_children);
	setup(NULL);
	vmx.proc2 = 0; /* its INVVPID isn't enough */
	vmx_child_init();
	assert_true(vmx.has_children);
	assert_false(vmx.child_proc2 & PROC2_VPID);
	setup(NULL);
	vmx.apic_controls = 0; /* accesses are EPT violations */
	vmx_child_init();
	assert_true(vmx.has_children);
	assert_false(vmx.child_proc2 & PROC2_APIC_ACCESSES);
}

static uint64_t may_set(void)
{
	vmx_child_learn_features(vp);
	assert_true(page.features_known);
	return ~vmcs[VMCS_CR4_MASK];
}

static void cr4_goes_with_cpuid(void **state)
{
	static const struct {
		struct cpuid_regs *leaf;
		uint32_t ebx, ecx;
		uint64_t cr4;
	} features[] = {
		{ &leaf1, 0, 1u << 17, CR4_PCIDE }, { &leaf1, 0, 1u << 26, CR4_OSXSAVE },
		{ &leaf7, 1u << 0, 0, BIT(16) },    { &leaf7, 1u << 7, 0, CR4_SMEP },
		{ &leaf7, 1u << 20, 0, CR4_SMAP },
	};
	const uint64_t always = 0x7ff & ~CR4_MCE;

	(void)state;
	assert_int_equal(may_set(), always);
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		setup(NULL);
		features[i].leaf->ebx = features[i].ebx;
		features[i].leaf->ecx = features[i].ecx;
		assert_int_equal(may_set(), always | features[i].cr4);
	}
	/* UMIP and protection keys: this processor has none. */
	setup(NULL);
	leaf7.ecx = 1u << 2 | 1u << 3;
	assert_int_equal(may_set(), always);
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		assert_int_equal(vp->gpr[i], 0x1000 + i);
	/* Leaves that there aren't are zero, whatever they say. */
	setup(NULL);
	leaf0.eax = 6;
	leaf7.ebx = 1u << 7;
	assert_int_equal(may_set(), always);
}

static void cr4_reads_the_same_whoever_owns_it(void **state)
{
	(void)state;
	vmx_set_guest_cr4(vp, CR4_SMEP | CR4_PAE);
	vmx_child_learn_features(vp);
	assert_int_equal(vmx_guest_cr4(vp), CR4_SMEP | CR4_PAE);
}

static void instructions_go_with_cpuid(void **state)
{
	const uint64_t all = PROC2_RDTSCP | PROC2_INVPCID | PROC2_XSAVES;

	(void)state;
	vmx_child_learn_features(vp);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS2] & all, 0);
	leaf81.edx = 1u << 27;
	vmx_child_learn_features(vp);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS2] & all, PROC2_RDTSCP);
	leaf81.edx = 0;
	leaf7.ecx = 1u << 22; /* RDPID */
	vmx_child_learn_features(vp);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS2] & all, PROC2_RDTSCP);
	leaf7.ebx = 1u << 10;
	leafd.eax = 1u << 3;
	vmx_child_learn_features(vp);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS2] & all, all);
	assert_int_equal(vmx_of(vp)->proc2, vmcs[VMCS_PROC_CONTROLS2]);
	vmx.caps.proc2 &= ~((uint64_t)PROC2_XSAVES << 32);
	vmx_child_init();
	vmx_child_learn_features(vp);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS2] & all, PROC2_RDTSCP | PROC2_INVPCID);
}

/* ---- MOV to CR4 ---- */

static bool move_to_cr(unsigned int number, uint64_t value)
{
	vmcs[VMCS_GUEST_RIP] = RIP;
	vmcs[VMCS_EXIT_QUALIFICATION] = number | GPR_RBX << 8;
	vp->gpr[GPR_RBX] = value;
	injected = -1;
	atomic_store(&vp->pending, 0);
	vmx_handle_cr(vp);
	assert_true(injected == -1 || injected == VECTOR_GP);
	assert_int_equal(vmcs[VMCS_GUEST_RIP], injected == -1 ? RIP + 3 : RIP);
	return injected == -1;
}

static void offer_all(void)
{
	leaf1.ecx = 1u << 17 | 1u << 26;
	leaf7.ebx = 1u << 0 | 1u << 7 | 1u << 20;
	vmx_child_learn_features(vp);
}

static void machine_checks_stay_ours(void **state)
{
	(void)state;
	vmx_child_learn_features(vp);
	assert_true(move_to_cr(4, CR4_MCE | CR4_PAE));
	assert_int_equal(vmx_guest_cr4(vp), CR4_MCE | CR4_PAE);
	assert_int_equal(atomic_load(&vp->pending), VP_PENDING_FLUSH);
	assert_true(move_to_cr(4, CR4_PAE));
	assert_int_equal(vmx_guest_cr4(vp), CR4_PAE);
	assert_true(vmcs[VMCS_GUEST_CR4] & CR4_MCE);
}

static void bits_that_are_not_offered(void **state)
{
	static const uint64_t bits[] = { CR4_VMXE, CR4_SMXE, CR4_SMEP, CR4_LA57, BIT(19),
					 CR4_CET,  BIT(24),  BIT(25),  BIT(32),	 BIT(63) };

	(void)state;
	vmx_child_learn_features(vp);
	vmcs[VMCS_GUEST_EFER] = EFER_LMA | EFER_LME;
	vmcs[VMCS_GUEST_CS_RIGHTS] = RIGHTS_LONG;
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		assert_false(move_to_cr(4, bits[i] | CR4_PAE));
		assert_int_equal(vmx_guest_cr4(vp), 0);
	}
}

static void rules_of_long_mode(void **state)
{
	(void)state;
	offer_all();
	assert_false(move_to_cr(4, CR4_PCIDE | CR4_PAE)); /* not yet */
	vmcs[VMCS_GUEST_EFER] = EFER_LMA | EFER_LME;
	assert_false(move_to_cr(4, CR4_MCE)); /* without PAE */
	vmcs[VMCS_GUEST_CR3] = 0x5001;
	assert_false(move_to_cr(4, CR4_PCIDE | CR4_PAE));
	vmcs[VMCS_GUEST_CR3] = 0x5000;
	assert_true(move_to_cr(4, CR4_PCIDE | CR4_PAE));
	vmcs[VMCS_GUEST_CR3] = 0x5001;
	assert_true(move_to_cr(4, CR4_PCIDE | CR4_PAE | CR4_MCE)); /* on already */
}

static void pae_paging_loads_its_entries(void **state)
{
	(void)state;
	offer_all();
	vmx_set_guest_cr0(vp, CR0_PG | CR0_PE | CR0_ET);
	vmcs[VMCS_GUEST_CR3] = 0x8000;
	pdptes_are_there = false;
	assert_true(move_to_cr(4, CR4_MCE));
	assert_false(move_to_cr(4, CR4_MCE | CR4_PAE));
	pdptes_are_there = true;
	assert_true(move_to_cr(4, CR4_MCE | CR4_PAE));
	assert_int_equal(vmcs[VMCS_GUEST_PDPTE0], 0x8001);
	pdptes_are_there = false;
	assert_true(move_to_cr(4, CR4_PAE)); /* MCE doesn't load them */
}

static void caches(void **state)
{
	(void)state;
	assert_true(move_to_cr(0, CR0_CD | CR0_PE));
	assert_int_equal(vmx_guest_cr0(vp), CR0_CD | CR0_PE | CR0_ET);
	assert_false(move_to_cr(0, CR0_NW | CR0_PE)); /* without CD */
}

/* Of a root's VP only VMXE and SMXE exit. */
static void a_roots_cr4(void **state)
{
	(void)state;
	vp->child = NULL;
	vmcs[VMCS_CR4_MASK] = CR4_VMXE | CR4_SMXE;
	assert_false(move_to_cr(4, CR4_VMXE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_exits, setup),
		cmocka_unit_test_setup(a_processor_without, setup),
		cmocka_unit_test_setup(cr4_goes_with_cpuid, setup),
		cmocka_unit_test_setup(cr4_reads_the_same_whoever_owns_it, setup),
		cmocka_unit_test_setup(instructions_go_with_cpuid, setup),
		cmocka_unit_test_setup(machine_checks_stay_ours, setup),
		cmocka_unit_test_setup(bits_that_are_not_offered, setup),
		cmocka_unit_test_setup(rules_of_long_mode, setup),
		cmocka_unit_test_setup(pae_paging_loads_its_entries, setup),
		cmocka_unit_test_setup(caches, setup),
		cmocka_unit_test_setup(a_roots_cr4, setup),
	};

	vp = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	return cmocka_run_group_tests_name("vmx_child", tests, NULL, NULL);
}
