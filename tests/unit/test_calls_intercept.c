/* unit: core/calls_intercept.c */
/* SPDX-License-Identifier: MIT */
/*
 * What a parent may install and what is refused, how much of it fits, what a VP knows of it and since when; and that no VP runs on with what was
 * before.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/partition.h>
#include <hv/status.h>
#include <trivet/hypercall.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define R HV_INTERCEPT_ACCESS_MASK_READ
#define W HV_INTERCEPT_ACCESS_MASK_WRITE
#define X HV_INTERCEPT_ACCESS_MASK_EXECUTE
#define VPS 3u
#define LSTAR 0xc0000082u

static struct partition root = { .id = 1 }, child;
static struct vp *caller, *vps[VPS + 1], *table[VPS + 1];
static unsigned int stops[VPS + 1];
static struct vp *borrowed;

struct partition *partition_authority(struct vp *by, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_ptr_equal(by, caller);
	assert_int_equal(privilege, 0);
	*status = HV_STATUS_SUCCESS;
	if (id == 1)
		return &root;
	if (id == 7)
		return &child;
	*status = HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

void vp_borrow(struct vp *vp, struct vp *self)
{
	assert_ptr_equal(self, caller);
	assert_null(borrowed);
	assert_true(atomic_load(&vp->loaded));
	/* What it is to know is there already: it comes back as soon as it can. */
	assert_int_not_equal(child.intercepts.generation, vp->wanted_generation);
	borrowed = vp;
	stops[vp->index]++;
}

/* It is loaded again. */
void vp_return(struct vp *vp)
{
	assert_ptr_equal(vp, borrowed);
	borrowed = NULL;
	assert_true(intercepts_follow(vp));
	assert_false(intercepts_follow(vp));
}

/* VP 1 isn't loaded, there is no VP 2, and the last one is being deleted. */
static int setup(void **state)
{
	(void)state;
	memset(&child, 0, sizeof(child));
	child.parent = &root;
	child.state = PARTITION_ACTIVE;
	child.vps = table;
	child.vp_count = VPS + 1;
	for (unsigned int i = 0; i <= VPS; i++) {
		memset(vps[i], 0, sizeof(*vps[i]));
		vps[i]->partition = &child;
		vps[i]->index = i;
		atomic_store(&vps[i]->loaded, i != 1);
		table[i] = i == 2 ? NULL : vps[i];
		stops[i] = 0;
	}
	vps[VPS]->holds = VP_HOLD_DEAD;
	return 0;
}

static uint16_t install_in(uint64_t id, uint32_t type, uint32_t access, uint64_t parameter)
{
	const struct hv_input_install_intercept input = {
		.partition_id = id, .intercept_type = type, .access_mask = access, .parameter = parameter
	};
	struct hypercall call = { .vp = caller, .partition = &root, .input = &input };

	return hypercall_install_intercept(&call);
}

static uint16_t install(uint32_t type, uint32_t access, uint64_t parameter)
{
	return install_in(7, type, access, parameter);
}

static void whose_it_is(void **state)
{
	(void)state;
	assert_int_equal(install_in(1, HV_INTERCEPT_HYPERCALL, X, 0), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(install_in(9, HV_INTERCEPT_HYPERCALL, X, 0), HV_STATUS_INVALID_PARTITION_ID);
	for (unsigned int i = 0; i < 2; i++) {
		child.state = i ? PARTITION_FINALIZED : PARTITION_CREATED;
		assert_int_equal(install(HV_INTERCEPT_HYPERCALL, X, 0), HV_STATUS_INVALID_PARTITION_STATE);
		assert_int_equal(install(HV_INTERCEPT_X64_CPUID, X, 1), HV_STATUS_INVALID_PARTITION_STATE);
		assert_int_equal(install(HV_INTERCEPT_X64_CPUID, R, 1), HV_STATUS_INVALID_PARAMETER);
	}
	assert_int_equal(child.properties.intercepts, 0);
	assert_int_equal(child.intercepts.generation, 0);
}

static void types(void **state)
{
	/* Access masks that install it, one bit for each; none: the type is refused. */
	static const uint8_t accepts[] = {
		[HV_INTERCEPT_X64_IO_PORT] = 1 << (R | W),
		[HV_INTERCEPT_X64_MSR] = 1 << R | 1 << W | 1 << (R | W),
		[HV_INTERCEPT_X64_CPUID] = 1 << X,
		[HV_INTERCEPT_EXCEPTION] = 1 << X,
		[HV_INTERCEPT_X64_GLOBAL_CPUID] = 1 << X,
		[HV_INTERCEPT_HYPERCALL] = 1 << X,
		[HV_INTERCEPT_MICROCODE_LEVEL_MSR_READ] = 1 << R,
		[HV_INTERCEPT_X64_MSR_INDEX] = 1 << R | 1 << W | 1 << (R | W),
		[HV_INTERCEPT_UNKNOWN_SYNIC_CONNECTION] = 1 << X,
		[HV_INTERCEPT_X64_APIC_EOI] = 1 << W,
		[HV_INTERCEPT_RETARGET_UNKNOWN_DEVICE] = 1 << X,
		[HV_INTERCEPT_X64_IO_PORT_RANGE] = 1 << (R | W),
		[40] = 0,
	};

	(void)state;
	for (uint32_t type = 0; type < ARRAY_SIZE(accepts); type++)
		for (uint32_t access = 1; access < 64; access++) {
			bool good = access < 8 && accepts[type] >> access & 1;

			assert_int_equal(install(type, access, 0),
					 good ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER);
		}
	for (uint32_t type = 0; type < ARRAY_SIZE(accepts); type++)
		if (!accepts[type])
			assert_int_equal(install(type, 0, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(install(UINT32_MAX, X, 0), HV_STATUS_INVALID_PARAMETER);
}

static void parameters(void **state)
{
	static const struct {
		uint32_t type, access;
		uint64_t good, bad;
	} cases[] = {
		{ HV_INTERCEPT_X64_IO_PORT, R | W, 0xffff, 0x10000 },
		{ HV_INTERCEPT_X64_IO_PORT_RANGE, R | W, 0x03ff03f8, 0x03f803ff },
		{ HV_INTERCEPT_X64_IO_PORT_RANGE, R | W, 0x03f803f8, 1ull << 32 | 0x03ff03f8 },
		{ HV_INTERCEPT_X64_MSR, R, 0, 0x10 },
		{ HV_INTERCEPT_X64_CPUID, X, 0xffffffff, 0x100000000 },
		{ HV_INTERCEPT_X64_GLOBAL_CPUID, X, 0, 1 },
		{ HV_INTERCEPT_X64_MSR_INDEX, R, 0xffffffff, 0x100000010 },
		{ HV_INTERCEPT_MICROCODE_LEVEL_MSR_READ, R, 0, 0x8b },
		{ HV_INTERCEPT_HYPERCALL, X, 0, 1 },
		{ HV_INTERCEPT_X64_APIC_EOI, W, 0, 1 },
		{ HV_INTERCEPT_EXCEPTION, X, 0, 32 },
		{ HV_INTERCEPT_EXCEPTION, X, 31, 2 },  /* NMI */
		{ HV_INTERCEPT_EXCEPTION, X, 14, 18 }, /* machine check */
		{ HV_INTERCEPT_EXCEPTION, X, 13, 9 },
		{ HV_INTERCEPT_EXCEPTION, X, 1, 1ull << 32 | 1 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(install(cases[i].type, cases[i].access, cases[i].good), 0);
		assert_int_equal(install(cases[i].type, cases[i].access, cases[i].bad),
				 HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(install(cases[i].type, 0, cases[i].bad), HV_STATUS_INVALID_PARAMETER);
	}
}

/* They go on without being installed, so nobody can have them go. */
static void what_is_the_parents_anyway(void **state)
{
	static const uint32_t always[] = { HV_INTERCEPT_X64_IO_PORT, HV_INTERCEPT_X64_IO_PORT_RANGE,
					   HV_INTERCEPT_X64_APIC_EOI };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(always); i++)
		assert_int_equal(install(always[i], 0, 0), HV_STATUS_OPERATION_DENIED);
	assert_int_equal(install(HV_INTERCEPT_X64_IO_PORT, R | W, 0x80), 0);
	assert_int_equal(child.intercepts.generation, 0);
	assert_int_equal(child.intercepts.wanted, 0);
}

static void hypercalls(void **state)
{
	static const uint32_t kinds[] = { HV_INTERCEPT_HYPERCALL, HV_INTERCEPT_UNKNOWN_SYNIC_CONNECTION,
					  HV_INTERCEPT_RETARGET_UNKNOWN_DEVICE };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		assert_int_equal(install(kinds[i], X, 0), 0);
		assert_true(child.properties.intercepts & INTERCEPT_INSTALLED(kinds[i]));
	}
	assert_int_equal(install(kinds[1], 0, 0), 0);
	assert_int_equal(child.properties.intercepts, BIT(8) | BIT(15));
	assert_int_equal(stops[0], 0); /* who calls looks at the partition */
}

static void cpuid_leaves(void **state)
{
	struct vp *vp = vps[0];

	(void)state;
	assert_int_equal(install(HV_INTERCEPT_X64_CPUID, X, 0x80000002), 0);
	assert_int_equal(stops[0], 1);
	assert_int_equal(vp->wanted, VP_WANTED_CPUID);
	assert_true(intercepts_want_cpuid(vp, 0x80000002));
	assert_false(intercepts_want_cpuid(vp, 2));
	assert_false(intercepts_want_cpuid(vp, 0x80000042)); /* the same bit of the filter */
	assert_false(intercepts_want_msr(vp, 0x80000002, false));
	assert_int_equal(install(HV_INTERCEPT_X64_CPUID, 0, 2), 0); /* it isn't installed */
	assert_true(intercepts_want_cpuid(vp, 0x80000002));
	assert_int_equal(install(HV_INTERCEPT_X64_GLOBAL_CPUID, X, 0), 0);
	assert_true(intercepts_want_cpuid(vp, 2));
	assert_int_equal(install(HV_INTERCEPT_X64_CPUID, 0, 0x80000002), 0);
	assert_int_equal(vp->wanted, VP_WANTED_CPUID | VP_WANTED_ALL_CPUID);
	assert_int_equal(install(HV_INTERCEPT_X64_GLOBAL_CPUID, 0, 0), 0);
	assert_int_equal(vp->wanted, 0);
	assert_int_equal(child.intercepts.filter, 0);
	assert_false(intercepts_want_cpuid(vp, 2));
}

static void msrs(void **state)
{
	struct vp *vp = vps[0];

	(void)state;
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, R | W, LSTAR), 0);
	assert_int_equal(vp->wanted, VP_WANTED_MSR);
	assert_true(intercepts_want_msr(vp, LSTAR, false));
	assert_true(intercepts_want_msr(vp, LSTAR, true));
	assert_false(intercepts_want_msr(vp, LSTAR + 1, true));
	assert_false(intercepts_want_cpuid(vp, LSTAR));
	/* Another mask takes the place of the one before; a leaf of that number is something else. */
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, W, LSTAR), 0);
	assert_int_equal(install(HV_INTERCEPT_X64_CPUID, X, LSTAR), 0);
	assert_false(intercepts_want_msr(vp, LSTAR, false));
	assert_true(intercepts_want_msr(vp, LSTAR, true));
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, 0, LSTAR), 0);
	assert_false(intercepts_want_msr(vp, LSTAR, true));
	assert_true(intercepts_want_cpuid(vp, LSTAR));
	assert_int_equal(vp->wanted, VP_WANTED_CPUID);
}

static void msrs_that_nobody_has(void **state)
{
	(void)state;
	assert_int_equal(install(HV_INTERCEPT_X64_MSR, R, 0), 0);
	assert_int_equal(vps[0]->wanted, VP_WANTED_UNKNOWN_MSR_READ);
	assert_int_equal(install(HV_INTERCEPT_X64_MSR, W, 0), 0);
	assert_int_equal(vps[0]->wanted, VP_WANTED_UNKNOWN_MSR_WRITE);
	assert_int_equal(install(HV_INTERCEPT_X64_MSR, 0, 0), 0);
	assert_int_equal(vps[0]->wanted, 0);
}

static void microcode_level(void **state)
{
	(void)state;
	assert_int_equal(install(HV_INTERCEPT_MICROCODE_LEVEL_MSR_READ, R, 0), 0);
	assert_int_equal(vps[0]->wanted, VP_WANTED_MICROCODE_LEVEL | VP_WANTED_MSR);
	assert_true(intercepts_want_msr(vps[0], 0x8b, false));
	assert_false(intercepts_want_msr(vps[0], 0x8b, true));
	assert_false(intercepts_want_msr(vps[0], 0x8c, false));
	assert_int_equal(install(HV_INTERCEPT_MICROCODE_LEVEL_MSR_READ, 0, 0), 0);
	assert_int_equal(vps[0]->wanted, 0);
}

static void exceptions(void **state)
{
	(void)state;
	assert_int_equal(install(HV_INTERCEPT_EXCEPTION, X, 14), 0);
	assert_int_equal(install(HV_INTERCEPT_EXCEPTION, X, 6), 0);
	assert_int_equal(vps[0]->wanted_exceptions, BIT(14) | BIT(6));
	assert_int_equal(vps[0]->wanted, 0);
	assert_int_equal(install(HV_INTERCEPT_EXCEPTION, 0, 14), 0);
	assert_int_equal(vps[0]->wanted_exceptions, BIT(6));
}

static void a_full_table(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < INTERCEPTS_INDEXED; i++)
		assert_int_equal(install(i % 2 ? HV_INTERCEPT_X64_CPUID : HV_INTERCEPT_X64_MSR_INDEX,
					 i % 2 ? X : R, i * 64),
				 0);
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, R, 1), HV_STATUS_NO_RESOURCES);
	assert_int_equal(install(HV_INTERCEPT_X64_CPUID, X, 0), HV_STATUS_NO_RESOURCES);
	assert_int_equal(install(HV_INTERCEPT_X64_CPUID, 0, 1), 0);	/* it isn't installed */
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, W, 0), 0); /* it has its place */
	assert_true(intercepts_want_msr(vps[0], 0, true));
	assert_true(intercepts_want_cpuid(vps[0], 63 * 64));
	assert_int_equal(install(HV_INTERCEPT_X64_CPUID, 0, 64), 0);
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, R, 1), 0);
	assert_true(intercepts_want_msr(vps[0], 1, false));
}

static bool exits(uint32_t msr, bool is_write)
{
	return msr != LSTAR && (msr != 0x10 || is_write);
}

static void what_the_processor_must_know(void **state)
{
	(void)state;
	assert_int_equal(install(HV_INTERCEPT_X64_CPUID, X, LSTAR), 0);
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, R | W, 0x1b), 0);
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, W, 0x10), 0);
	assert_false(intercepts_want_more_exits(vps[0], exits));
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, R, 0x10), 0);
	assert_true(intercepts_want_more_exits(vps[0], exits));
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, 0, 0x10), 0);
	assert_int_equal(install(HV_INTERCEPT_X64_MSR_INDEX, W, LSTAR), 0);
	assert_true(intercepts_want_more_exits(vps[0], exits));
}

/* Each that is loaded, once for each change; and the others when they come. */
static void every_vp_knows(void **state)
{
	(void)state;
	assert_int_equal(install(HV_INTERCEPT_X64_GLOBAL_CPUID, X, 0), 0);
	assert_int_equal(install(HV_INTERCEPT_EXCEPTION, X, 3), 0);
	assert_int_equal(stops[0], 2);
	assert_int_equal(stops[1], 0);
	assert_int_equal(stops[VPS], 0);
	assert_int_equal(vps[1]->wanted, 0);
	assert_true(intercepts_follow(vps[1]));
	assert_int_equal(vps[1]->wanted, VP_WANTED_CPUID | VP_WANTED_ALL_CPUID);
	assert_int_equal(vps[1]->wanted_exceptions, BIT(3));
	assert_false(intercepts_follow(vps[1]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(whose_it_is, setup),
		cmocka_unit_test_setup(types, setup),
		cmocka_unit_test_setup(parameters, setup),
		cmocka_unit_test_setup(what_is_the_parents_anyway, setup),
		cmocka_unit_test_setup(hypercalls, setup),
		cmocka_unit_test_setup(cpuid_leaves, setup),
		cmocka_unit_test_setup(msrs, setup),
		cmocka_unit_test_setup(msrs_that_nobody_has, setup),
		cmocka_unit_test_setup(microcode_level, setup),
		cmocka_unit_test_setup(exceptions, setup),
		cmocka_unit_test_setup(a_full_table, setup),
		cmocka_unit_test_setup(what_the_processor_must_know, setup),
		cmocka_unit_test_setup(every_vp_knows, setup),
	};
	size_t size = ALIGN_UP(sizeof(struct vp), PAGE_SIZE);
	int failed;

	caller = aligned_alloc(PAGE_SIZE, size);
	for (unsigned int i = 0; i <= VPS; i++)
		vps[i] = aligned_alloc(PAGE_SIZE, size);
	failed = cmocka_run_group_tests_name("intercepts that a parent installs", tests, NULL, NULL);
	for (unsigned int i = 0; i <= VPS; i++)
		free(vps[i]);
	free(caller);
	return failed;
}
