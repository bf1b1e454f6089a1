/* unit: core/calls_system.c */
/* SPDX-License-Identifier: MIT */
/* System and partition properties and the sleep states of a root: values, and the exact status of every refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/partition.h>
#include <hv/root.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/hypercall.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/vp.h>

#include "../../core/reset.h"

static struct partition partition;
static struct vp vp;
static jmp_buf powered_off;
static uint8_t types[2];

enum log_level log_threshold;

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

_Noreturn void machine_power_off(uint8_t pm1a_slp_typ, uint8_t pm1b_slp_typ)
{
	types[0] = pm1a_slp_typ;
	types[1] = pm1b_slp_typ;
	longjmp(powered_off, 1);
}

static unsigned int phys_bits(void)
{
	return 39;
}

static const struct backend fake = { .phys_bits = phys_bits };
const struct backend *backend = &fake;

static int setup(void **state)
{
	(void)state;
	partition =
		(struct partition){ .id = 1,
				    .hv = true,
				    .guest_os_id = 0x8100ull << 48,
				    .privileges = HV_PRIVILEGE_VP_INDEX | HV_PRIVILEGE_CREATE_PARTITIONS };
	vp = (struct vp){ .partition = &partition };
	return 0;
}

static uint16_t run(hypercall_handler handler, const void *input, void *output)
{
	struct hypercall call = { .vp = &vp, .partition = &partition, .input = input, .output = output };

	return handler(&call);
}

static uint16_t get_system(uint32_t id, uint64_t argument, uint64_t *value)
{
	const struct hv_input_get_system_property in = { .property_id = id, .argument = argument };
	struct hv_output_get_system_property out = { 0 };
	uint16_t status = run(hypercall_get_system_property, &in, &out);

	*value = out.value;
	return status;
}

static void system_properties(void **state)
{
	uint64_t value;

	(void)state;
	assert_int_equal(get_system(15, 0, &value), HV_STATUS_SUCCESS);
	assert_int_equal(value, 1);
	assert_int_equal(get_system(47, 0, &value), HV_STATUS_UNKNOWN_PROPERTY);
	assert_int_equal(value, 0);
	assert_int_equal(get_system(21, 16, &value), HV_STATUS_SUCCESS);
	assert_int_equal(value, 0);
	assert_int_equal(get_system(21, 17, &value), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(get_system(3, 0, &value), HV_STATUS_UNKNOWN_PROPERTY);
	assert_int_equal(get_system(UINT32_MAX, 0, &value), HV_STATUS_UNKNOWN_PROPERTY);
}

static uint16_t set_sleep(uint32_t state, uint8_t a, uint8_t b)
{
	const struct hv_input_set_system_property in = {
		.property_id = 3,
		.sleep_state = { .sleep_state = state, .pm1a_slp_typ = a, .pm1b_slp_typ = b }
	};

	return run(hypercall_set_system_property, &in, NULL);
}

static uint16_t enter(uint32_t state)
{
	const struct hv_input_enter_sleep_state in = { .sleep_state = state };

	return run(hypercall_enter_sleep_state, &in, NULL);
}

/* One test: what is registered stays. */
static void sleep_states(void **state)
{
	const struct hv_input_set_system_property other = { .property_id = 15 };

	(void)state;
	assert_int_equal(enter(5), HV_STATUS_OPERATION_DENIED); /* not registered yet */
	assert_int_equal(run(hypercall_set_system_property, &other, NULL), HV_STATUS_UNKNOWN_PROPERTY);
	assert_int_equal(set_sleep(3, 1, 1), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	assert_int_equal(set_sleep(0, 1, 1), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	assert_int_equal(set_sleep(7, 1, 1), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	assert_int_equal(set_sleep(5, 8, 0), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	assert_int_equal(set_sleep(5, 0, 8), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	assert_int_equal(enter(5), HV_STATUS_OPERATION_DENIED);
	assert_int_equal(set_sleep(5, 0, 0), HV_STATUS_SUCCESS); /* QEMU's: zero is a type like any other */
	if (!setjmp(powered_off)) {
		enter(5);
		fail_msg("came back");
	}
	assert_int_equal(types[0] | types[1], 0);
	assert_int_equal(set_sleep(5, 7, 5), HV_STATUS_SUCCESS);
	assert_int_equal(enter(0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(enter(6), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(enter(3), HV_STATUS_OPERATION_DENIED);
	assert_int_equal(set_sleep(6, 0, 0), HV_STATUS_SUCCESS); /* locked */
	assert_int_equal(set_sleep(5, 1, 1), HV_STATUS_OPERATION_DENIED);
	assert_int_equal(set_sleep(6, 0, 0), HV_STATUS_OPERATION_DENIED);
	if (!setjmp(powered_off)) {
		enter(5);
		fail_msg("came back");
	}
	assert_int_equal(types[0], 7);
	assert_int_equal(types[1], 5);
}

static void own_id(void **state)
{
	struct hv_output_get_partition_id out = { 0 };

	(void)state;
	assert_int_equal(run(hypercall_get_partition_id, NULL, &out), HV_STATUS_SUCCESS);
	assert_int_equal(out.partition_id, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		TEST(system_properties),
		TEST(sleep_states),
		TEST(own_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
