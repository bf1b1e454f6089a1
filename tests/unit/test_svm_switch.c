/* unit: svm/switch.c */
/* SPDX-License-Identifier: MIT */
/* VPs that change places on an LP with SVM: which MSRs each finds, on a processor that is a table of them, and which tags. */
#include "svm/svm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/intercepts.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>

#define HWCR 0xc0010015u
#define HWCR_CPUID_USER_DIS BIT(35)
#define TSC_AUX 0xc0000103u

struct svm_machine svm;

static struct {
	uint32_t number;
	uint64_t value;
} msrs[] = { { TSC_AUX, 0 }, { MSR_DEBUGCTL, 0 }, { HWCR, 0 }, { 0x48, 0 }, { 0x49, 0 } };

static bool has_user_dis;
static unsigned int hwcr_accesses;
static struct vmcb vmcbs[2];
static struct vp *root, *child;
static struct partition partitions[2];
static struct lp lp;

static uint64_t *msr_of(uint32_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		if (msrs[i].number == number)
			return &msrs[i].value;
	fail_msg("MSR 0x%x", number);
	abort();
}

uint64_t rdmsr(uint32_t number)
{
	hwcr_accesses += number == HWCR;
	return *msr_of(number);
}

void wrmsr(uint32_t number, uint64_t value)
{
	hwcr_accesses += number == HWCR;
	*msr_of(number) = value;
}

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	(void)subleaf;
	switch (leaf) {
	case 0x80000000:
		return (struct cpuid_regs){ .eax = 0x80000021 };
	case 0x80000001:
		return (struct cpuid_regs){ .edx = 1u << 27 };
	case 0x80000008:
		return (struct cpuid_regs){ .ebx = 1u << 12 | 1u << 14 };
	case 0x80000021:
		return (struct cpuid_regs){ .eax = has_user_dis ? 1u << 17 : 0 };
	default:
		return (struct cpuid_regs){ 0 };
	}
}

void svm_vmsave(uint64_t hpa)
{
	assert_true(hpa == 0x1000 || hpa == 0x2000);
}

void svm_vmload(uint64_t hpa)
{
	assert_true(hpa == 0x1000 || hpa == 0x2000);
}

bool intercepts_follow(struct vp *of)
{
	assert_ptr_equal(of, child);
	return false;
}

void svm_follow_intercepts(struct vp *of)
{
	(void)of;
	fail();
}

bool vp_is_loaded_here(const struct vp *of)
{
	return of->lp->vp == of;
}

static struct vp *make_vp(unsigned int index)
{
	struct vp *vp = calloc(1, sizeof(*vp));

	vp->control = &vmcbs[index];
	vp->control_hpa = 0x1000 * (index + 1);
	vp->lp = &lp;
	vp->partition = &partitions[index];
	partitions[index].id = index + 1;
	return vp;
}

static int setup(void **state)
{
	(void)state;
	memset(vmcbs, 0, sizeof(vmcbs));
	memset(&lp, 0, sizeof(lp));
	for (size_t i = 0; i < ARRAY_SIZE(msrs); i++)
		msrs[i].value = 0;
	svm = (struct svm_machine){ .asids = 16 };
	root = make_vp(0);
	child = make_vp(1);
	child->child = (struct vp_child *)&lp; /* there is one */
	lp.vp = root;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(root);
	free(child);
	return 0;
}

static void change(struct vp *from, struct vp *to)
{
	svm_vp_unload(from);
	lp.vp = to;
	svm_vp_load(to);
}

static void each_has_its_own_msrs(void **state)
{
	(void)state;
	svm_find_switched_msrs();
	wrmsr(TSC_AUX, 7);
	change(root, child);
	assert_int_equal(rdmsr(TSC_AUX), 0);
	svm_set_switched_msr(child, SVM_TSC_AUX, 9);
	assert_int_equal(rdmsr(TSC_AUX), 9);
	change(child, root);
	assert_int_equal(rdmsr(TSC_AUX), 7);
	change(root, child);
	assert_int_equal(rdmsr(TSC_AUX), 9);
}

/* What a root wants for a program of its own isn't a child's. */
static void cpuid_faults_are_the_roots(void **state)
{
	(void)state;
	has_user_dis = true;
	svm_find_switched_msrs();
	wrmsr(HWCR, BIT(24) | HWCR_CPUID_USER_DIS);
	change(root, child);
	assert_true(rdmsr(HWCR) == BIT(24));
	change(child, root);
	assert_true(rdmsr(HWCR) == (BIT(24) | HWCR_CPUID_USER_DIS));
	/* It turns it off, and on another bit. */
	wrmsr(HWCR, BIT(24) | BIT(3));
	change(root, child);
	assert_true(rdmsr(HWCR) == (BIT(24) | BIT(3)));
	change(child, root);
	assert_true(rdmsr(HWCR) == (BIT(24) | BIT(3)));
}

static void without_it_the_register_is_left_alone(void **state)
{
	(void)state;
	has_user_dis = false;
	svm_find_switched_msrs();
	hwcr_accesses = 0;
	change(root, child);
	change(child, root);
	assert_int_equal(hwcr_accesses, 0);
}

/* Tags are given out again when there are none left, with a flush of all. */
static void tags_come_round(void **state)
{
	(void)state;
	svm_find_switched_msrs();
	vmcbs[0].asid = ASID_ROOT;
	lp.tag_next = 15;
	change(root, child);
	assert_int_equal(vmcbs[1].asid, 15);
	assert_true(atomic_load(&child->pending) & VP_PENDING_FLUSH);
	assert_false(svm_of(child)->flush_all);
	change(child, root);
	change(root, child);
	assert_int_equal(vmcbs[1].asid, 15);
	svm_of(child)->asid_lp = NULL; /* it was elsewhere meanwhile */
	change(child, root);
	change(root, child);
	assert_int_equal(vmcbs[1].asid, ASID_ROOT + 1);
	assert_true(svm_of(child)->flush_all);
	assert_int_equal(vmcbs[0].asid, ASID_ROOT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_has_its_own_msrs, setup, teardown),
		cmocka_unit_test_setup_teardown(cpuid_faults_are_the_roots, setup, teardown),
		cmocka_unit_test_setup_teardown(without_it_the_register_is_left_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(tags_come_round, setup, teardown),
	};

	return cmocka_run_group_tests_name("svm_switch", tests, NULL, NULL);
}
