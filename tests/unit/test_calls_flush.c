/* unit: core/calls_flush.c core/vp_set.c */
/* SPDX-License-Identifier: MIT */
/* Flush hypercalls: whom each names, and every refusal with its status. The flush itself is test_flush.c's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/flush.h>
#include <hv/status.h>
#include <trivet/flush.h>
#include <trivet/hypercall.h>
#include <trivet/vp.h>
#include <trivet/vp_set.h>

#define VPS 70u

static struct vp *vps[VPS];
static struct partition partition = { .vps = vps, .vp_count = VPS };
static struct hypercall call;
static uint64_t input[HYPERCALL_PARAMETERS_MAX / 8];
static int flushes;
static uint64_t flushed[2]; /* VPs 0-63, 64-127 */

void flush_vps(struct partition *of, struct vp *self, const struct vp_set *set)
{
	assert_ptr_equal(of, &partition);
	assert_ptr_equal(self, call.vp);
	flushes++;
	flushed[0] = flushed[1] = 0;
	for (uint32_t i = 0; i < 128; i++)
		if (vp_set_contains(set, i))
			flushed[i / 64] |= BIT(i % 64);
}

static int setup(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VPS; i++) {
		vps[i] = calloc(1, sizeof(struct vp));
		if (!vps[i])
			return -1;
		vps[i]->index = i;
		vps[i]->partition = &partition;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VPS; i++)
		free(vps[i]);
	return 0;
}

static void begin(uint64_t address_space, uint64_t flags)
{
	memset(input, 0, sizeof(input));
	input[0] = address_space;
	input[1] = flags;
	call = (struct hypercall){ .vp = vps[3], .partition = &partition, .input = input };
	flushes = 0;
	partition.features = 0;
}

static uint16_t space(uint64_t flags, uint64_t mask)
{
	begin(0x1000, flags);
	input[2] = mask;
	return hypercall_flush_virtual_address_space(&call);
}

static uint16_t list(uint64_t flags, uint64_t mask, uint16_t start, uint16_t count, bool extended)
{
	begin(0x1000, flags);
	input[2] = mask;
	call.rep_input = &input[3];
	call.rep_start = call.reps_done = start;
	call.rep_count = count;
	partition.features = extended ? HV_FEATURE_EXTENDED_GVA_RANGES : 0;
	return hypercall_flush_virtual_address_list(&call);
}

static void sparse(uint64_t flags, uint64_t format, uint64_t mask, uint16_t qwords)
{
	begin(0x1000, flags);
	input[2] = format;
	input[3] = mask;
	input[4] = BIT(1) | BIT(5); /* the first bank, the second */
	input[5] = BIT(2) | BIT(9);
	call.var_header_qwords = qwords;
	call.rep_input = &input[4 + qwords];
}

static void assert_flushed(uint64_t low, uint64_t high)
{
	assert_int_equal(flushes, 1);
	assert_int_equal(flushed[0], low);
	assert_int_equal(flushed[1], high);
}

static void space_names_processors(void **state)
{
	uint64_t before = vps[3]->flush_calls;

	(void)state;
	assert_int_equal(space(0, 0x51), HV_STATUS_SUCCESS);
	assert_flushed(0x51, 0);
	assert_int_equal(space(HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES | HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY, 8),
			 HV_STATUS_SUCCESS);
	assert_flushed(8, 0); /* the caller itself */
	/* All processors: the mask is ignored, and they are more than a mask holds. */
	assert_int_equal(space(HV_FLUSH_ALL_PROCESSORS, 1), HV_STATUS_SUCCESS);
	assert_flushed(UINT64_MAX, 0x3f);
	assert_int_equal(space(HV_FLUSH_ALL_PROCESSORS, 0), HV_STATUS_SUCCESS);
	assert_flushed(UINT64_MAX, 0x3f);
	/* Nobody is nobody. */
	assert_int_equal(space(0, 0), HV_STATUS_SUCCESS);
	assert_flushed(0, 0);
	assert_int_equal(vps[3]->flush_calls, before + 5);
}

static void undefined_flags_are_refused(void **state)
{
	(void)state;
	for (unsigned int bit = 0; bit < 64; bit++) {
		uint16_t of_space = bit <= 2 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER;
		/* "Non-global mappings only does not make sense for this call and is treated as an invalid option." */
		uint16_t of_list = bit <= 1 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER;

		assert_int_equal(space(BIT(bit), 1), of_space);
		assert_int_equal(flushes, of_space == HV_STATUS_SUCCESS);
		assert_int_equal(list(BIT(bit), 1, 0, 2, false), of_list);
		assert_int_equal(flushes, of_list == HV_STATUS_SUCCESS);
		assert_int_equal(call.reps_done, of_list == HV_STATUS_SUCCESS ? 2 : 0);
		sparse(BIT(bit), HV_VP_SET_SPARSE_4K, 1, 1);
		assert_int_equal(hypercall_flush_virtual_address_space_ex(&call), of_space);
		assert_int_equal(flushes, of_space == HV_STATUS_SUCCESS);
		sparse(BIT(bit), HV_VP_SET_SPARSE_4K, 1, 1);
		call.rep_count = 1;
		assert_int_equal(hypercall_flush_virtual_address_list_ex(&call), of_list);
		assert_int_equal(flushes, of_list == HV_STATUS_SUCCESS);
	}
}

static void extended_ranges_need_the_feature(void **state)
{
	(void)state;
	assert_int_equal(list(HV_FLUSH_USE_EXTENDED_RANGE_FORMAT, 6, 0, 1, false),
			 HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(list(HV_FLUSH_USE_EXTENDED_RANGE_FORMAT, 6, 0, 1, true), HV_STATUS_SUCCESS);
	assert_flushed(6, 0);
	/* Of a whole space there are no ranges. */
	begin(0, HV_FLUSH_USE_EXTENDED_RANGE_FORMAT);
	partition.features = HV_FEATURE_EXTENDED_GVA_RANGES;
	assert_int_equal(hypercall_flush_virtual_address_space(&call), HV_STATUS_INVALID_PARAMETER);
}

static void list_is_done_at_once(void **state)
{
	(void)state;
	assert_int_equal(list(0, 6, 0, 500, false), HV_STATUS_SUCCESS);
	assert_flushed(6, 0);
	assert_int_equal(call.reps_done, 500);
	assert_int_equal(list(HV_FLUSH_ALL_PROCESSORS, 0, 100, 500, false), HV_STATUS_SUCCESS);
	assert_flushed(UINT64_MAX, 0x3f);
	assert_int_equal(call.reps_done, 500);
}

static void sparse_sets(void **state)
{
	(void)state;
	sparse(0, HV_VP_SET_SPARSE_4K, 3, 2);
	assert_int_equal(hypercall_flush_virtual_address_space_ex(&call), HV_STATUS_SUCCESS);
	assert_flushed(BIT(1) | BIT(5), BIT(2)); /* there is no VP 73 */
	sparse(0, HV_VP_SET_SPARSE_4K, 2, 1);
	assert_int_equal(hypercall_flush_virtual_address_space_ex(&call), HV_STATUS_SUCCESS);
	assert_flushed(0, BIT(1) | BIT(5));
	sparse(0, HV_VP_SET_ALL, 0, 0);
	assert_int_equal(hypercall_flush_virtual_address_space_ex(&call), HV_STATUS_SUCCESS);
	assert_flushed(UINT64_MAX, 0x3f);
	sparse(0, HV_VP_SET_SPARSE_4K, 0, 0);
	assert_int_equal(hypercall_flush_virtual_address_space_ex(&call), HV_STATUS_SUCCESS);
	assert_flushed(0, 0);
	/* With the flag the set is ignored, whatever it says. */
	sparse(HV_FLUSH_ALL_PROCESSORS, 99, UINT64_MAX, 2);
	assert_int_equal(hypercall_flush_virtual_address_space_ex(&call), HV_STATUS_SUCCESS);
	assert_flushed(UINT64_MAX, 0x3f);
	/* The list lies behind the banks. */
	sparse(0, HV_VP_SET_SPARSE_4K, 3, 2);
	call.rep_count = 7;
	assert_int_equal(hypercall_flush_virtual_address_list_ex(&call), HV_STATUS_SUCCESS);
	assert_flushed(BIT(1) | BIT(5), BIT(2));
	assert_int_equal(call.reps_done, 7);
}

static void hazard_xsa_475_bad_sets_are_refused(void **state)
{
	(void)state;
	for (uint16_t qwords = 0; qwords < 66; qwords++) {
		if (qwords == 2)
			continue;
		sparse(0, HV_VP_SET_SPARSE_4K, 3, qwords);
		assert_int_equal(hypercall_flush_virtual_address_space_ex(&call),
				 HV_STATUS_INVALID_PARAMETER);
		sparse(0, HV_VP_SET_SPARSE_4K, 3, qwords);
		call.rep_count = 1;
		assert_int_equal(hypercall_flush_virtual_address_list_ex(&call), HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(call.reps_done, 0);
		assert_int_equal(flushes, 0);
	}
	sparse(0, 2, 3, 2);
	assert_int_equal(hypercall_flush_virtual_address_space_ex(&call), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(flushes, 0);
	/* Banks beyond the last VP name nobody. */
	sparse(0, HV_VP_SET_SPARSE_4K, BIT(62) | BIT(63), 2);
	assert_int_equal(hypercall_flush_virtual_address_space_ex(&call), HV_STATUS_SUCCESS);
	assert_flushed(0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(space_names_processors),
		cmocka_unit_test(undefined_flags_are_refused),
		cmocka_unit_test(extended_ranges_need_the_feature),
		cmocka_unit_test(list_is_done_at_once),
		cmocka_unit_test(sparse_sets),
		cmocka_unit_test(hazard_xsa_475_bad_sets_are_refused),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
