/* unit: vmx/hazards.c */
/* SPDX-License-Identifier: MIT */
/* What the root may not do to the processor behind the hypervisor: by a modelled processor's CPUID and MSRs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>

#include "../../vmx/switch.h"

#define OUR_BASE 0x7f000000ull
#define OUR_SIZE 0x400000ull

struct vmx_machine vmx;

/* ---- The processor ---- */

struct partition root_partition;
static uint64_t msrs[0x2000], fields[0x8000];
static bool counters_hold, counters_fault;
static uint32_t leaves, ebx7, ecx7, eax6, edx6, eaxa;
static struct vp vp;
static struct vmx_vp_page vp_page;

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	assert_int_equal(subleaf, 0);
	switch (leaf) {
	case 0:
		return (struct cpuid_regs){ .eax = leaves };
	case 6:
		return (struct cpuid_regs){ .eax = eax6, .edx = edx6 };
	case 7:
		return (struct cpuid_regs){ .ebx = ebx7, .ecx = ecx7 };
	case 0xa:
		return (struct cpuid_regs){ .eax = eaxa };
	default:
		fail_msg("CPUID %x", leaf);
		return (struct cpuid_regs){ 0 };
	}
}

bool safe_rdmsr(uint32_t msr, uint64_t *value)
{
	assert_true(msr < ARRAY_SIZE(msrs));
	if (msr == 0x38f && counters_fault)
		return false;
	*value = msrs[msr];
	return true;
}

bool safe_wrmsr(uint32_t msr, uint64_t value)
{
	assert_true(msr < ARRAY_SIZE(msrs));
	if ((msr == 0x38f && counters_fault) || value >> 63)
		return false;
	if (msr != 0x38f || counters_hold)
		msrs[msr] = value;
	return true;
}

uint64_t rdmsr(uint32_t msr)
{
	uint64_t value;

	assert_true(safe_rdmsr(msr, &value));
	return value;
}

void wrmsr(uint32_t msr, uint64_t value)
{
	assert_true(safe_wrmsr(msr, value));
}

void vmwrite(uint32_t field, uint64_t value)
{
	fields[field] = value;
}

hpa_t hv_virt_to_phys(const void *p)
{
	return HPA((uint64_t)p);
}

bool host_memory_is_ours(hpa_t hpa, uint64_t size)
{
	assert_true(size != 0);
	return hpa.v < OUR_BASE + OUR_SIZE && hpa.v + size > OUR_BASE;
}

static void power_on(void)
{
	memset(msrs, 0, sizeof(msrs));
	memset(fields, 0, sizeof(fields));
	memset(&vmx, 0, sizeof(vmx));
	memset(&vp, 0, sizeof(vp));
	vmx_of(&vp)->page = &vp_page;
	counters_hold = true;
	counters_fault = false;
	leaves = 0x1f;
	ebx7 = ecx7 = eax6 = edx6 = eaxa = 0;
	vmx.phys_bits = 46;
}

static unsigned int refused(void)
{
	unsigned int count = 0;

	for (uint32_t msr = 0; msr < 0x2000; msr++)
		count += vmx_msr_is_refused(msr);
	return count;
}

static unsigned int checked(void)
{
	unsigned int count = 0;

	for (uint32_t msr = 0; msr < 0x2000; msr++)
		count += vmx_msr_write_is_checked(msr);
	return count;
}

/* ---- Tests ---- */

static void nothing_there(void **state)
{
	(void)state;
	power_on();
	vmx_find_hazards();
	vmx_stop_hazards(&vp);
	assert_int_equal(vmx_gpa_bits(), 46);
	assert_int_equal(refused(), 0);
	assert_int_equal(checked(), 2);
	assert_true(vmx_msr_write_is_checked(0x1a0));
	assert_true(vmx_msr_write_is_checked(0x33));
	for (uint32_t i = 0; i < ARRAY_SIZE(fields); i++)
		assert_int_equal(fields[i], 0);
}

static void counters(void **state)
{
	static const uint64_t old[] = { 0, 0x70000000full };
	const struct vmx_msr_entry *own;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(old); i++) {
		power_on();
		eaxa = 0x08300802;
		msrs[0x38f] = old[i];
		vmx_find_hazards();
		vmx_stop_hazards(&vp);
		assert_int_equal(msrs[0x38f], 0);
		assert_int_equal(fields[VMCS_EXIT_MSR_STORE_COUNT], 1);
		assert_int_equal(fields[VMCS_EXIT_MSR_LOAD_COUNT], 1);
		assert_int_equal(fields[VMCS_ENTRY_MSR_LOAD_COUNT], 1);
		assert_int_equal(fields[VMCS_EXIT_MSR_STORE], fields[VMCS_ENTRY_MSR_LOAD]);
		assert_true(IS_ALIGNED(fields[VMCS_EXIT_MSR_STORE], 16));
		assert_true(IS_ALIGNED(fields[VMCS_EXIT_MSR_LOAD], 16));
		own = (const void *)fields[VMCS_ENTRY_MSR_LOAD];
		assert_int_equal(own->msr, 0x38f);
		assert_int_equal(own->reserved, 0);
		assert_int_equal(own->value, old[i]);
		own = (const void *)fields[VMCS_EXIT_MSR_LOAD];
		assert_int_equal(own->msr, 0x38f);
		assert_int_equal(own->value, 0);
		assert_int_equal(refused(), 0);
	}
	/* The leaf without the register. */
	for (int faults = 0; faults < 2; faults++) {
		power_on();
		eaxa = 0x07300403;
		counters_hold = false;
		counters_fault = faults;
		vmx_find_hazards();
		vmx_stop_hazards(&vp);
		assert_int_equal(fields[VMCS_EXIT_MSR_STORE_COUNT], 0);
		assert_int_equal(fields[VMCS_ENTRY_MSR_LOAD_COUNT], 0);
		assert_int_equal(refused(), 0);
	}
	/* Leaf 0AH lies beyond the last. */
	power_on();
	leaves = 6;
	eaxa = 2;
	vmx_find_hazards();
	assert_false(vmx.stops_counters);
	/* Counters that nothing stops. */
	power_on();
	eaxa = 1;
	vmx_find_hazards();
	vmx_stop_hazards(&vp);
	assert_int_equal(fields[VMCS_EXIT_MSR_STORE_COUNT], 0);
	assert_int_equal(refused(), 2);
	assert_true(vmx_msr_is_refused(0x3f1) && vmx_msr_is_refused(0x600));
}

static void trace(void **state)
{
	static const uint16_t all[] = { 0x560, 0x561, 0x570, 0x571, 0x572, 0x580, 0x581,
					0x582, 0x583, 0x584, 0x585, 0x586, 0x587 };

	(void)state;
	power_on();
	ebx7 = 1u << 25;
	msrs[0x570] = 0x2003;
	msrs[0xda0] = 0x900;
	vmx_find_hazards();
	vmx_stop_hazards(&vp);
	assert_int_equal(msrs[0x570], 0x2002);
	assert_int_equal(msrs[0xda0], 0x800);
	assert_int_equal(refused(), ARRAY_SIZE(all));
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		assert_true(vmx_msr_is_refused(all[i]));
	assert_int_equal(checked(), 3);
	assert_true(vmx_msr_write_is_checked(0xda0));
	assert_false(vmx_checked_msr_write(0xda0, 0x100));
	assert_int_equal(msrs[0xda0], 0x800);
	assert_true(vmx_checked_msr_write(0xda0, 0x1800));
	assert_int_equal(msrs[0xda0], 0x1800);
	assert_false(vmx_checked_msr_write(0xda0, BIT(63)));
}

static void misc_enable(void **state)
{
	(void)state;
	power_on();
	vmx_find_hazards();
	msrs[0x1a0] = 0x850089;
	assert_true(vmx_checked_msr_write(0x1a0, 0x400850088));
	assert_int_equal(msrs[0x1a0], 0x850088);
	assert_true(vmx_checked_msr_write(0x1a0, 0x400001));
	assert_int_equal(msrs[0x1a0], 1);
	msrs[0x1a0] = 0x400400001; /* firmware's choice stays, too */
	assert_true(vmx_checked_msr_write(0x1a0, 0));
	assert_int_equal(msrs[0x1a0], 0x400400000);
	assert_false(vmx_checked_msr_write(0x1a0, BIT(63)));
}

/* Children would get it, too. */
static void split_lock_trap(void **state)
{
	(void)state;
	power_on();
	assert_true(vmx_checked_msr_write(0x33, BIT(29)));
	assert_int_equal(msrs[0x33], BIT(29));
	root_partition.hv = true;
	assert_false(vmx_checked_msr_write(0x33, BIT(29) | BIT(31)));
	assert_true(vmx_checked_msr_write(0x33, BIT(31)));
	assert_int_equal(msrs[0x33], BIT(31));
	assert_false(vmx_checked_msr_write(0x33, BIT(63))); /* the processor's refusal */
	root_partition.hv = false;
}

static void feedback(void **state)
{
	(void)state;
	power_on();
	eax6 = 1u << 19;
	edx6 = 0xf01 | 1u << 16;
	vmx_find_hazards();
	assert_int_equal(checked(), 3);
	assert_true(vmx_msr_write_is_checked(0x17d0));
	/* 16 pages */
	assert_false(vmx_checked_msr_write(0x17d0, OUR_BASE | 1));
	assert_false(vmx_checked_msr_write(0x17d0, (OUR_BASE - 0xf000) | 1));
	assert_int_equal(msrs[0x17d0], 0);
	assert_true(vmx_checked_msr_write(0x17d0, (OUR_BASE - 0x10000) | 1));
	assert_int_equal(msrs[0x17d0], (OUR_BASE - 0x10000) | 1);
	assert_false(vmx_checked_msr_write(0x17d0, OUR_BASE + OUR_SIZE - 1));
	assert_true(vmx_checked_msr_write(0x17d0, OUR_BASE + OUR_SIZE + 1));
}

static void key_identifiers(void **state)
{
	(void)state;
	power_on();
	ecx7 = 1u << 13;
	msrs[0x982] = 6ull << 32 | 0xf000000001ull;
	vmx_find_hazards();
	assert_int_equal(vmx_gpa_bits(), 46); /* not enabled */
	msrs[0x982] = 0xf600000003ull;
	vmx_find_hazards();
	assert_int_equal(vmx_gpa_bits(), 40);
	assert_int_equal(vmx.phys_bits, 46);
	assert_int_equal(checked(), 3);
	assert_false(vmx_checked_msr_write(0x982, 3));
	assert_int_equal(msrs[0x982], 0xf600000003ull);
}

static void expect_cpuid(uint32_t leaf, uint32_t subleaf, const uint32_t gone[4], int line)
{
	static const uint8_t regs[4] = { GPR_RAX, GPR_RBX, GPR_RCX, GPR_RDX };

	for (int i = 0; i < 4; i++)
		vp.gpr[regs[i]] = 0xffffffff;
	vmx_hide_hazards(&vp, leaf, subleaf);
	for (int i = 0; i < 4; i++)
		if (vp.gpr[regs[i]] != (uint32_t)~gone[i])
			fail_msg("line %d: CPUID %x.%x: %lx", line, leaf, subleaf, vp.gpr[regs[i]]);
}
#define EXPECT_CPUID(leaf, subleaf, ...) \
	expect_cpuid(leaf, subleaf, (const uint32_t[4]){ __VA_ARGS__ }, __LINE__)

static void cpuid_leaves(void **state)
{
	(void)state;
	power_on();
	vmx_find_hazards();
	EXPECT_CPUID(7, 0, 0);
	EXPECT_CPUID(7, 1, 0x08020000);
	EXPECT_CPUID(0x14, 0, 0);
	EXPECT_CPUID(0xd, 1, 0);
	EXPECT_CPUID(0xd, 8, 0);
	ebx7 = 1u << 25;
	vmx_find_hazards();
	EXPECT_CPUID(7, 0, 0, 0x02000000);
	EXPECT_CPUID(7, 1, 0x08020000);
	EXPECT_CPUID(7, 2, 0);
	EXPECT_CPUID(0x14, 0, ~0u, ~0u, ~0u, ~0u);
	EXPECT_CPUID(0x14, 1, ~0u, ~0u, ~0u, ~0u);
	EXPECT_CPUID(0xd, 0, 0);
	EXPECT_CPUID(0xd, 1, 0, 0, 0x100);
	EXPECT_CPUID(0xd, 8, ~0u, ~0u, ~0u, ~0u);
	EXPECT_CPUID(1, 0, 0);
}

static void special_leaves(void **state)
{
	(void)state;
	for (uint32_t leaf = 0; leaf < 0x40; leaf++)
		assert_int_equal(vp_cpuid_is_special(leaf),
				 leaf == 1 || leaf == 7 || leaf == 0xd || leaf == 0x14 || leaf == 0x19);
	assert_true(vp_cpuid_is_special(0x80000001) && vp_cpuid_is_special(0x8000001f) &&
		    vp_cpuid_is_special(0x40000001));
	assert_false(vp_cpuid_is_special(0x80000020) || vp_cpuid_is_special(0x50000001) ||
		     vp_cpuid_is_special(0xffffffff));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_there),   cmocka_unit_test(counters),
		cmocka_unit_test(trace),	   cmocka_unit_test(misc_enable),
		cmocka_unit_test(split_lock_trap), cmocka_unit_test(feedback),
		cmocka_unit_test(key_identifiers), cmocka_unit_test(cpuid_leaves),
		cmocka_unit_test(special_leaves),
	};

	return cmocka_run_group_tests_name("vmx_hazards", tests, NULL, NULL);
}
