/* unit: core/calls_system.c core/calls_properties.c core/hv_cpuid.c core/cpuid_policy.c core/cpuid_features.c core/cpuid_overrides.c core/partition.c */
/* SPDX-License-Identifier: MIT */
/*
 * System and partition properties and the sleep states of a root: values, and the exact status of every refusal. What a parent sets of
 * its children: test_calls_properties.c.
 */
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
#include <trivet/gpa_space.h>
#include <trivet/hv_cpuid.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

#include "../../core/reset.h"

struct partition root_partition;
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

uint64_t reference_time_100ns(const struct partition *of)
{
	(void)of;
	return 123456789;
}

/* ---- For children, of which there are none here ---- */

void hv_msr_offer(struct partition *of)
{
	(void)of;
	abort();
}

void reference_time_freeze(struct partition *of, bool freeze)
{
	(void)of;
	(void)freeze;
	abort();
}

void reference_time_set(struct partition *of, uint64_t time_100ns)
{
	(void)of;
	(void)time_100ns;
	abort();
}

bool partition_begin_setup(struct partition *of)
{
	(void)of;
	abort();
}

void partition_end_setup(void)
{
	abort();
}

void partition_params_changed(struct partition *of)
{
	(void)of;
	abort();
}

void gpa_space_track(struct partition *of, bool tracks)
{
	(void)of;
	(void)tracks;
	abort();
}

void vp_notify(struct vp *of)
{
	(void)of;
	abort();
}

/* ---- The processor ---- */

uint64_t lp_tsc_hz(void)
{
	return 2300000000;
}

static uint32_t vendor_ebx;

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	switch (leaf) {
	case 0:
		return (struct cpuid_regs){ .eax = 0xd, .ebx = vendor_ebx };
	case 1:
		return (struct cpuid_regs){ .ebx = 0x01020800, .ecx = BIT(26) | BIT(28) }; /* XSAVE, AVX */
	case 0xd:
		return subleaf == 0 ? (struct cpuid_regs){ 0x207, 832, 2696, 0x40000000 } :
		       subleaf == 2 ? (struct cpuid_regs){ 256, 576, 0, 0 } :
		       subleaf == 9 ? (struct cpuid_regs){ 8, 2688, 0, 0 } :
				      (struct cpuid_regs){ 0 };
	default:
		return (struct cpuid_regs){ 0 };
	}
}

bool read_xcr0(uint64_t *value)
{
	*value = 7;
	return true;
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
	root_partition =
		(struct partition){ .id = 1,
				    .hv = true,
				    .guest_os_id = 0x8100ull << 48,
				    .privileges = HV_PRIVILEGE_VP_INDEX | HV_PRIVILEGE_CREATE_PARTITIONS };
	vp = (struct vp){ .partition = &root_partition };
	return 0;
}

static uint16_t run(hypercall_handler handler, const void *input, void *output)
{
	struct hypercall call = { .vp = &vp, .partition = &root_partition, .input = input, .output = output };

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

static uint16_t get(uint64_t id, uint32_t code, uint64_t *value)
{
	const struct hv_input_get_partition_property in = { .partition_id = id, .property_code = code };
	struct hv_output_get_partition_property out = { 0 };
	uint16_t status = run(hypercall_get_partition_property, &in, &out);

	*value = out.value;
	return status;
}

static void partition_properties(void **state)
{
	static const struct {
		uint32_t code;
		uint64_t value;
	} values[] = {
		{ 0x00010000, HV_PRIVILEGE_VP_INDEX | HV_PRIVILEGE_CREATE_PARTITIONS },
		{ 0x00010001, BIT(0) | BIT(1) | BIT(8) },
		{ 0x00020005, 0 },
		{ 0x00030005, 123456789 },
		{ 0x00050005, 0 },
		{ 0x00050010, 39 },
		{ 0x00050017, 0 },
		{ 0x00060003, 8 }, /* 64 bytes */
		{ 0x00060005, 0x609 },
		{ 0x00060006, 39 },
		{ 0x00060007, 0x207 }, /* a child gets no LWP (bit 62) */
		{ 0x00060008, 840 },   /* compacted: 576, 256 for AVX, 8 for PKRU */
		{ 0x00060009, 2300000000 },
		{ 0x00070000, 0x8100ull << 48 },
	};
	static const uint32_t vendors[] = { 0x68747541, 0x756e6547, 0x6f677948 }; /* "Auth", "Genu", "Hygo" */
	uint64_t value;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		assert_int_equal(get(HV_PARTITION_ID_SELF, values[i].code, &value), HV_STATUS_SUCCESS);
		assert_int_equal(value, values[i].value);
	}
	for (size_t i = 0; i < ARRAY_SIZE(vendors); i++) {
		vendor_ebx = vendors[i];
		assert_int_equal(get(1, 0x00060000, &value), HV_STATUS_SUCCESS);
		assert_int_equal(value, i);
	}

	assert_int_equal(get(1, 0x00010002, &value), HV_STATUS_UNKNOWN_PROPERTY);
	assert_int_equal(get(1, UINT32_MAX, &value), HV_STATUS_UNKNOWN_PROPERTY);
	assert_int_equal(value, 0);
	assert_int_equal(get(2, 0x00010000, &value), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(get(0, 0x00010000, &value), HV_STATUS_INVALID_PARTITION_ID);
}

static void only_a_parent_sets_properties(void **state)
{
	struct hv_input_set_partition_property in = { .partition_id = 1, .property_code = 0x00010000 };

	(void)state;
	assert_int_equal(run(hypercall_set_partition_property, &in, NULL), HV_STATUS_ACCESS_DENIED);
	in.property_code = 0x7fffffff;
	assert_int_equal(run(hypercall_set_partition_property, &in, NULL), HV_STATUS_UNKNOWN_PROPERTY);
	in.partition_id = 5;
	assert_int_equal(run(hypercall_set_partition_property, &in, NULL), HV_STATUS_INVALID_PARTITION_ID);
}

static void extended_properties(void **state)
{
	struct hv_input_get_partition_property_ex in = { .partition_id = HV_PARTITION_ID_SELF,
							 .property_code = 0x00090007 };
	union {
		struct hv_vmm_capabilities capabilities;
		uint64_t words[509];
	} out = { 0 };

	(void)state;
	assert_int_equal(run(hypercall_get_partition_property_ex, &in, &out), HV_STATUS_SUCCESS);
	assert_int_equal(out.capabilities.bank_count, 1);
	assert_int_equal(out.capabilities.bank[0], BIT(4)); /* synthetic features can be assigned */
	in.property_code = 0x00050010;
	assert_int_equal(run(hypercall_get_partition_property_ex, &in, &out), HV_STATUS_SUCCESS);
	assert_int_equal(out.words[0], 39);
	in.property_code = 0x00090008;
	assert_int_equal(run(hypercall_get_partition_property_ex, &in, &out), HV_STATUS_UNKNOWN_PROPERTY);
	in.partition_id = 2;
	assert_int_equal(run(hypercall_get_partition_property_ex, &in, &out), HV_STATUS_INVALID_PARTITION_ID);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		TEST(system_properties),
		TEST(sleep_states),
		TEST(own_id),
		TEST(partition_properties),
		TEST(only_a_parent_sets_properties),
		TEST(extended_properties),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
