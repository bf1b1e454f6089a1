/* unit: svm/child_intercepts.c */
/* SPDX-License-Identifier: MIT */
/* What of a parent's intercepts goes into a VMCB, and which exits become them; in a VMCB that is only memory. */
#include "svm/svm.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/guest_msrs.h>
#include <trivet/host_memory.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/partition.h>

#define RIP 0x1000
#define LSTAR 0xc0000082u

struct svm_machine svm;

static uint8_t child_map[8192], shut_map[8192];
static struct partition partition;
static struct vmcb vmcb;
static struct vp *vp;
static struct {
	bool more_exits, wants, unknown, takes, open;
	int set_result;
	uint64_t value;
	unsigned int cpuids, msrs, exceptions;
	int injected; /* -1: none */
	bool injected_has_error;
	uint32_t injected_error;
	struct cpuid_exit cpuid;
	struct msr_exit msr;
	struct exception_exit exception;
	unsigned int linear_bits;
} fake;

hpa_t hv_virt_to_phys(const void *virt)
{
	return HPA((uint64_t)virt);
}

bool svm_child_msr_exits(uint32_t msr, bool is_write)
{
	(void)is_write;
	return msr != LSTAR;
}

int svm_switched_msr(uint32_t msr)
{
	return msr == MSR_DEBUGCTL ? 1 : -1;
}

bool intercepts_want_more_exits(const struct vp *of, bool (*exits)(uint32_t msr, bool is_write))
{
	assert_ptr_equal(of, vp);
	assert_ptr_equal(exits, svm_child_msr_exits);
	return fake.more_exits;
}

bool intercepts_want_cpuid(const struct vp *of, uint32_t leaf)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(leaf, 0x80000001);
	return fake.wants;
}

bool intercepts_want_msr(const struct vp *of, uint32_t msr, bool is_write)
{
	(void)is_write;
	assert_ptr_equal(of, vp);
	assert_int_equal(msr, LSTAR);
	return fake.wants;
}

bool intercept_wants_unknown_msr(const struct vp *of, uint32_t msr, bool is_write)
{
	(void)msr;
	(void)is_write;
	assert_ptr_equal(of, vp);
	return fake.unknown;
}

void intercept_cpuid(struct vp *of, const struct cpuid_exit *exit)
{
	assert_ptr_equal(of, vp);
	fake.cpuid = *exit;
	fake.cpuids++;
}

void intercept_msr(struct vp *of, const struct msr_exit *exit)
{
	assert_ptr_equal(of, vp);
	fake.msr = *exit;
	fake.msrs++;
}

bool intercept_exception(struct vp *of, const struct exception_exit *exit)
{
	assert_ptr_equal(of, vp);
	fake.exception = *exit;
	fake.exceptions++;
	return !fake.open;
}

void svm_inject_exception(struct vp *of, uint8_t vector, bool has_error, uint32_t error)
{
	assert_ptr_equal(of, vp);
	fake.injected = vector;
	fake.injected_has_error = has_error;
	fake.injected_error = error;
}

uint64_t svm_next_rip(struct vp *of, const struct vmcb *control, unsigned int usual_length)
{
	assert_ptr_equal(of, vp);
	return control->rip + usual_length + 1; /* a prefix */
}

int svm_get_msr(struct vp *of, uint32_t msr, uint64_t *value)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(msr, LSTAR);
	*value = fake.value;
	return 0;
}

int svm_set_msr(struct vp *of, uint32_t msr, uint64_t value)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(msr, LSTAR);
	fake.value = value;
	return fake.set_result;
}

bool guest_msr_takes(uint32_t msr, uint64_t value, unsigned int linear_bits)
{
	(void)value;
	assert_int_equal(msr, LSTAR);
	fake.linear_bits = linear_bits;
	return fake.takes;
}

void panic(const char *format, ...)
{
	fail_msg("panic: %s", format);
	abort();
}

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.injected = -1;
	fake.takes = true;
	memset(vp, 0, sizeof(*vp));
	vp->control = &vmcb;
	vp->partition = &partition;
	vp->child = (struct vp_child *)&partition; /* there is one */
	vp->gpr[GPR_RAX] = 0x80000001;
	vmcb = (struct vmcb){ .rip = RIP, .cr0 = CR0_PE, .cr4 = 0x620 };
	svm.child_msr_map = child_map;
	svm.shut_msr_map = shut_map;
	return 0;
}

static void what_the_processor_knows(void **state)
{
	(void)state;
	vp->wanted_exceptions = BIT(VECTOR_PF) | BIT(VECTOR_UD);
	svm_follow_intercepts(vp);
	assert_int_equal(vmcb.intercept_exceptions,
			 BIT(VECTOR_PF) | BIT(VECTOR_UD) | BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC));
	assert_int_equal(vmcb.msrpm_base_hpa, (uint64_t)child_map);
	vp->wanted_exceptions = 0;
	fake.more_exits = true;
	svm_follow_intercepts(vp);
	assert_int_equal(vmcb.intercept_exceptions, BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC));
	assert_int_equal(vmcb.msrpm_base_hpa, (uint64_t)shut_map);
}

static void cpuid_of_a_leaf(void **state)
{
	(void)state;
	assert_false(svm_intercepts_cpuid(vp, &vmcb, RIP + 2));
	fake.wants = true;
	assert_true(svm_intercepts_cpuid(vp, &vmcb, RIP + 2));
	assert_int_equal(fake.cpuids, 1);
	assert_int_equal(fake.cpuid.length, 2);
	assert_int_equal(fake.cpuid.cr4, 0x620);
	assert_int_equal(vmcb.rip, RIP);
}

static void msrs_by_number(void **state)
{
	(void)state;
	assert_false(svm_intercepts_msr(vp, &vmcb, LSTAR, true));
	fake.wants = true;
	assert_true(svm_intercepts_msr(vp, &vmcb, LSTAR, true));
	assert_int_equal(fake.msrs, 1);
	assert_int_equal(fake.msr.msr, LSTAR);
	assert_int_equal(fake.msr.length, 3);
	assert_true(fake.msr.is_write);
	assert_int_equal(vmcb.rip, RIP);
}

static void msrs_that_nobody_has(void **state)
{
	static const uint32_t own[] = { MSR_EFER, MSR_PAT, MSR_DEBUGCTL, LSTAR };

	(void)state;
	fake.unknown = true;
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		assert_false(svm_intercepts_unknown_msr(vp, &vmcb, own[i], false, RIP + 2));
	assert_true(svm_intercepts_unknown_msr(vp, &vmcb, 0x1234, false, RIP + 2));
	assert_int_equal(fake.msr.msr, 0x1234);
	assert_int_equal(fake.msr.length, 2);
	assert_false(fake.msr.is_write);
	fake.unknown = false;
	assert_false(svm_intercepts_unknown_msr(vp, &vmcb, 0x1234, false, RIP + 2));
	assert_int_equal(fake.msrs, 1);
}

static void msrs_of_its_own(void **state)
{
	uint64_t value;

	(void)state;
	svm.linear_bits = 57; /* the processor's, whatever the guest's CR4.LA57 */
	assert_true(svm_write_passed_msr(vp, LSTAR, 0x5555));
	assert_int_equal(fake.linear_bits, 57);
	assert_true(svm_read_passed_msr(vp, LSTAR, &value));
	assert_int_equal(value, 0x5555);
	fake.takes = false;
	assert_false(svm_write_passed_msr(vp, LSTAR, 0x6666));
	assert_int_equal(fake.value, 0x5555);
	fake.takes = true;
	fake.set_result = -EINVAL;
	assert_false(svm_write_passed_msr(vp, LSTAR, 0x6666));
}

static void exceptions(void **state)
{
	(void)state;
	vmcb.exit_info1 = 0x17;
	vmcb.exit_info2 = 0xdead000;
	vmcb.dr6 = 0xffff4ff0;
	vp->wanted_exceptions = BIT(VECTOR_PF) | BIT(VECTOR_UD) | BIT(VECTOR_DB) | BIT(3);
	svm_handle_exception(vp, &vmcb, VECTOR_PF);
	assert_int_equal(fake.exception.vector, VECTOR_PF);
	assert_true(fake.exception.has_error);
	assert_int_equal(fake.exception.error, 0x17);
	assert_int_equal(fake.exception.parameter, 0xdead000);
	assert_false(fake.exception.is_software);
	assert_int_equal(vmcb.cr2, 0);
	svm_handle_exception(vp, &vmcb, VECTOR_UD);
	assert_false(fake.exception.has_error);
	assert_int_equal(fake.exception.parameter, 0);
	svm_handle_exception(vp, &vmcb, VECTOR_DB);
	assert_int_equal(fake.exception.parameter, 0xffff4ff0);
	svm_handle_exception(vp, &vmcb, 3);
	assert_true(fake.exception.is_software);
	assert_int_equal(fake.exceptions, 4);
	assert_int_equal(fake.injected, -1);
	/* Real mode has no error codes. */
	vmcb.cr0 = 0;
	svm_handle_exception(vp, &vmcb, VECTOR_PF);
	assert_false(fake.exception.has_error);
}

static void exceptions_that_go_on(void **state)
{
	(void)state;
	vp->wanted_exceptions = BIT(VECTOR_UD);
	svm_handle_exception(vp, &vmcb, VECTOR_AC);
	assert_int_equal(fake.injected, VECTOR_AC);
	assert_true(fake.injected_has_error);
	assert_int_equal(fake.injected_error, 0);
	svm_handle_exception(vp, &vmcb, VECTOR_DB);
	assert_int_equal(fake.injected, VECTOR_DB);
	assert_false(fake.injected_has_error);
	assert_int_equal(fake.exceptions, 0);
}

static void exceptions_of_the_hypervisors(void **state)
{
	(void)state;
	vp->wanted_exceptions = BIT(VECTOR_GP) | BIT(VECTOR_DB);
	vmcb.exit_info1 = 0x17;
	vmcb.dr6 = 0xffff4ff0;
	svm_raise_exception(vp, VECTOR_UD, false, 0);
	assert_int_equal(fake.injected, VECTOR_UD);
	assert_int_equal(fake.exceptions, 0);
	svm_raise_exception(vp, VECTOR_GP, true, 0);
	assert_int_equal(fake.injected, VECTOR_UD);
	assert_int_equal(fake.exception.vector, VECTOR_GP);
	assert_true(fake.exception.has_error);
	assert_int_equal(fake.exception.error, 0);
	assert_int_equal(fake.exception.parameter, 0);
	svm_raise_exception(vp, VECTOR_DB, false, 0);
	assert_int_equal(fake.exception.parameter, 0xffff4ff0);
	assert_int_equal(fake.exceptions, 2);
	/* The parent is just being told of something else: the fault comes again, the trap would not. */
	fake.open = true;
	svm_raise_exception(vp, VECTOR_GP, true, 0);
	assert_int_equal(fake.injected, VECTOR_UD);
	svm_raise_exception(vp, VECTOR_DB, false, 0);
	assert_int_equal(fake.injected, VECTOR_DB);
	assert_false(fake.injected_has_error);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_the_processor_knows, setup),
		cmocka_unit_test_setup(cpuid_of_a_leaf, setup),
		cmocka_unit_test_setup(msrs_by_number, setup),
		cmocka_unit_test_setup(msrs_that_nobody_has, setup),
		cmocka_unit_test_setup(msrs_of_its_own, setup),
		cmocka_unit_test_setup(exceptions, setup),
		cmocka_unit_test_setup(exceptions_that_go_on, setup),
		cmocka_unit_test_setup(exceptions_of_the_hypervisors, setup),
	};
	int failed;

	vp = aligned_alloc(PAGE_SIZE, ALIGN_UP(sizeof(struct vp), PAGE_SIZE));
	failed = cmocka_run_group_tests_name("a parent's intercepts on SVM", tests, NULL, NULL);
	free(vp);
	return failed;
}
