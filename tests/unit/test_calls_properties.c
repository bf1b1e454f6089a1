/* unit: core/calls_properties.c core/hv_cpuid.c core/cpuid_policy.c core/cpuid_features.c core/cpuid_overrides.c */
/* SPDX-License-Identifier: MIT */
/* Properties of partitions: who may ask for what, what a parent may set when, and to what. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/gpa_space.h>
#include <trivet/hv_cpuid.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

#define CHILD 5u

struct partition root_partition;
static struct partition child;
static struct vp *root_vp, *child_vps[3];
static unsigned int params_changed, notified;
static uint64_t time_now;
static bool frozen;
static uint32_t vendor_ebx;

static unsigned int phys_bits(void)
{
	return 40;
}

static bool reads_apic_page(void)
{
	return false;
}

static const struct backend fake = { .phys_bits = phys_bits, .reads_apic_page = reads_apic_page };
const struct backend *backend = &fake;

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	switch (leaf) {
	case 0:
		return (struct cpuid_regs){ 0xd, vendor_ebx, 0, 0 };
	case 1:
		return (struct cpuid_regs){ 0, 8 << 8, 0x7fffffff, UINT32_MAX };
	case 7:
		return (struct cpuid_regs){ 0, 1 << 5, 0, 0 }; /* AVX2 */
	case 0xd:
		return subleaf == 0 ? (struct cpuid_regs){ 7, 0, 832, 0 } :
		       subleaf == 2 ? (struct cpuid_regs){ 256, 576, 0, 0 } :
				      (struct cpuid_regs){ 0 };
	default:
		return (struct cpuid_regs){ 0 };
	}
}

bool read_xcr0(uint64_t *value)
{
	(void)value;
	return false;
}

uint64_t lp_tsc_hz(void)
{
	return 2000000000;
}

void hv_msr_offer(struct partition *partition)
{
	partition->hv_msrs = partition->privileges;
}

uint64_t reference_time_100ns(const struct partition *partition)
{
	(void)partition;
	return time_now;
}

void reference_time_freeze(struct partition *partition, bool freeze)
{
	assert_ptr_equal(partition, &child);
	frozen = freeze;
}

void reference_time_set(struct partition *partition, uint64_t time_100ns)
{
	assert_ptr_equal(partition, &child);
	time_now = time_100ns;
}

bool partition_begin_setup(struct partition *of)
{
	return atomic_load(&of->state) == PARTITION_CREATED;
}

void partition_end_setup(void)
{
}

void partition_params_changed(struct partition *partition)
{
	assert_ptr_equal(partition, &child);
	params_changed++;
}

void gpa_space_track(struct partition *partition, bool tracks)
{
	partition->properties.tracks_access = tracks;
}

void vp_notify(struct vp *vp)
{
	assert_true(vp->pending & VP_PENDING_CLOCK);
	notified++;
}

struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_int_equal(privilege, 0);
	*status = HV_STATUS_SUCCESS;
	if (id == HV_PARTITION_ID_SELF || id == caller->partition->id)
		return caller->partition;
	if (caller->partition == &root_partition && id == CHILD)
		return &child;
	*status = HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

static int setup(void **state)
{
	const uint64_t nothing[2] = { 0 };

	(void)state;
	memset(&root_partition, 0, sizeof(root_partition));
	memset(&child, 0, sizeof(child));
	root_partition.id = 1;
	root_partition.hv = true;
	hv_cpuid_init(&root_partition);
	child.id = CHILD;
	child.parent = &root_partition;
	cpuid_policy_init(&child.cpuid, nothing, 0);
	root_vp = calloc(1, sizeof(*root_vp));
	root_vp->partition = &root_partition;
	for (unsigned int i = 0; i < 2; i++) {
		child_vps[2 * i] = calloc(1, sizeof(struct vp));
		child_vps[2 * i]->partition = &child;
	}
	child.vps = child_vps;
	child.vp_count = 3;
	params_changed = notified = 0;
	vendor_ebx = 0x756e6547;
	frozen = false;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(root_vp);
	free(child_vps[0]);
	free(child_vps[2]);
	return 0;
}

static uint16_t get_by(struct vp *caller, uint64_t id, uint32_t code, uint64_t *value)
{
	const struct hv_input_get_partition_property in = { .partition_id = id, .property_code = code };
	struct hv_output_get_partition_property out = { 0 };
	struct hypercall call = {
		.vp = caller, .partition = caller->partition, .input = &in, .output = &out
	};
	uint16_t status = hypercall_get_partition_property(&call);

	*value = out.value;
	return status;
}

static uint64_t get(uint64_t id, uint32_t code)
{
	uint64_t value;

	assert_int_equal(get_by(root_vp, id, code, &value), HV_STATUS_SUCCESS);
	return value;
}

static uint16_t set_by(struct vp *caller, uint64_t id, uint32_t code, uint64_t value)
{
	const struct hv_input_set_partition_property in = { .partition_id = id,
							    .property_code = code,
							    .value = value };
	struct hypercall call = { .vp = caller, .partition = caller->partition, .input = &in };

	return hypercall_set_partition_property(&call);
}

static uint16_t set(uint32_t code, uint64_t value)
{
	return set_by(root_vp, CHILD, code, value);
}

static uint16_t get_ex(struct vp *caller, uint64_t id, uint32_t code, uint64_t out[2])
{
	const struct hv_input_get_partition_property_ex in = { .partition_id = id, .property_code = code };
	uint64_t page[HV_PROPERTY_EX_MAX_BYTES / 8] = { 0 };
	struct hypercall call = {
		.vp = caller, .partition = caller->partition, .input = &in, .output = page
	};
	uint16_t status = hypercall_get_partition_property_ex(&call);

	out[0] = page[0];
	out[1] = page[1];
	return status;
}

static void early_ones(void **state)
{
	(void)state;
	assert_int_equal(set(HV_PROPERTY_SYNTHETIC_PROC_FEATURES, UINT64_MAX), HV_STATUS_SUCCESS);
	assert_int_equal(get(CHILD, HV_PROPERTY_SYNTHETIC_PROC_FEATURES), hv_cpuid_assignable());
	assert_true(child.hv);
	assert_int_equal(set(HV_PROPERTY_PRIVILEGE_FLAGS, HV_PRIVILEGE_CREATE_PARTITIONS),
			 HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	assert_int_equal(set(HV_PROPERTY_PRIVILEGE_FLAGS, HV_PRIVILEGE_VP_INDEX), HV_STATUS_SUCCESS);
	assert_int_equal(get(CHILD, HV_PROPERTY_PRIVILEGE_FLAGS), HV_PRIVILEGE_VP_INDEX);
	assert_int_equal(child.hv_msrs, HV_PRIVILEGE_VP_INDEX);
	atomic_store(&child.state, PARTITION_ACTIVE);
	assert_int_equal(set(HV_PROPERTY_SYNTHETIC_PROC_FEATURES, 0), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(set(HV_PROPERTY_PRIVILEGE_FLAGS, 0), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(get(CHILD, HV_PROPERTY_PRIVILEGE_FLAGS), HV_PRIVILEGE_VP_INDEX);
	assert_int_equal(set(HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION, 1), HV_STATUS_SUCCESS);
	atomic_store(&child.state, PARTITION_FINALIZED);
	assert_int_equal(set(HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION, 0), HV_STATUS_INVALID_PARTITION_STATE);
}

static void ranges(void **state)
{
	static const struct {
		uint32_t code;
		uint64_t low, high;
	} cases[] = {
		{ HV_PROPERTY_CPU_RESERVE, 0, 0x10000 },
		{ HV_PROPERTY_CPU_CAP, 0, 0x10000 },
		{ HV_PROPERTY_CPU_WEIGHT, 1, 10000 },
		{ HV_PROPERTY_TIME_FREEZE, 0, 1 },
		{ HV_PROPERTY_REFERENCE_TIME, 0, INT64_MAX },
		{ HV_PROPERTY_PROCESSORS_PER_SOCKET, 1, HV_CHILD_VPS_MAX },
		{ HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING, 0, 1 },
		{ HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION, 0, 1 },
	};

	(void)state;
	assert_int_equal(set(HV_PROPERTY_REFERENCE_TIME, 0),
			 HV_STATUS_INVALID_PARTITION_STATE); /* no clock */
	atomic_store(&child.state, PARTITION_ACTIVE);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(set(cases[i].code, cases[i].low), HV_STATUS_SUCCESS);
		assert_int_equal(get(CHILD, cases[i].code), cases[i].low);
		assert_int_equal(set(cases[i].code, cases[i].high), HV_STATUS_SUCCESS);
		assert_int_equal(get(CHILD, cases[i].code), cases[i].high);
		assert_int_equal(set(cases[i].code, cases[i].high + 1),
				 HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
		assert_int_equal(set(cases[i].code, UINT64_MAX), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
		assert_int_equal(get(CHILD, cases[i].code), cases[i].high);
		if (cases[i].low)
			assert_int_equal(set(cases[i].code, 0), HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE);
	}
	assert_int_equal(params_changed, 6);
	assert_int_equal(notified, 8); /* four changes of time, two VPs */
	assert_true(frozen);
	assert_true(child.properties.ignores_unknown_msrs);
	assert_true(child.properties.tracks_access);
}

static void what_can_not_be_set(void **state)
{
	static const uint32_t read_only[] = {
		HV_PROPERTY_PROCESSOR_VENDOR,	    HV_PROPERTY_PROCESSOR_FEATURES0,
		HV_PROPERTY_PROCESSOR_FEATURES1,    HV_PROPERTY_PROCESSOR_XSAVE_FEATURES,
		HV_PROPERTY_XSAVE_STATES,	    HV_PROPERTY_MAX_XSAVE_DATA_SIZE,
		HV_PROPERTY_PHYSICAL_ADDRESS_WIDTH, HV_PROPERTY_GUEST_OS_ID,
		HV_PROPERTY_ISOLATION_STATE,	    HV_PROPERTY_SUSPEND,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(read_only); i++)
		assert_int_equal(set(read_only[i], 0), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(set(0x12345, 0), HV_STATUS_UNKNOWN_PROPERTY);
	assert_int_equal(set_by(root_vp, 1, UINT32_MAX, 0), HV_STATUS_UNKNOWN_PROPERTY);
	assert_int_equal(set(HV_PROPERTY_VMM_CAPABILITIES, 0), HV_STATUS_UNKNOWN_PROPERTY);
	/* Nobody sets his own. */
	assert_int_equal(set_by(root_vp, HV_PARTITION_ID_SELF, HV_PROPERTY_TIME_FREEZE, 1),
			 HV_STATUS_ACCESS_DENIED);
	assert_int_equal(set_by(root_vp, 1, HV_PROPERTY_CPU_WEIGHT, 1), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(set_by(child_vps[0], HV_PARTITION_ID_SELF, HV_PROPERTY_SYNTHETIC_PROC_FEATURES, 1),
			 HV_STATUS_ACCESS_DENIED);
	assert_int_equal(set_by(child_vps[0], HV_PARTITION_ID_SELF, HV_PROPERTY_CPU_WEIGHT, 10000),
			 HV_STATUS_ACCESS_DENIED);
	assert_int_equal(set_by(child_vps[0], 1, HV_PROPERTY_CPU_WEIGHT, 1), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(params_changed, 0);
}

static void processors(void **state)
{
	const uint64_t disabled[2] = { BIT(18), BIT(18) };

	(void)state;
	assert_int_equal(get(HV_PARTITION_ID_SELF, HV_PROPERTY_PROCESSOR_VENDOR), 1);
	assert_int_equal(get(1, HV_PROPERTY_PROCESSOR_CL_FLUSH_SIZE), 8);
	assert_int_equal(get(1, HV_PROPERTY_XSAVE_STATES), 7);
	assert_int_equal(get(1, HV_PROPERTY_MAX_XSAVE_DATA_SIZE), 832);
	assert_int_equal(get(1, HV_PROPERTY_PHYSICAL_ADDRESS_WIDTH), 40);
	assert_int_equal(get(1, HV_PROPERTY_PROCESSOR_FEATURES0) & (BIT(0) | BIT(18)), BIT(0) | BIT(18));
	assert_int_equal(get(1, HV_PROPERTY_PROCESSOR_FEATURES1), BIT(17) | BIT(18));
	assert_int_equal(get(1, HV_PROPERTY_PROCESSOR_XSAVE_FEATURES), BIT(0) | BIT(2) | BIT(3) | BIT(4));
	assert_int_equal(get(CHILD, HV_PROPERTY_PROCESSOR_FEATURES0),
			 get(1, HV_PROPERTY_PROCESSOR_FEATURES0));
	cpuid_policy_init(&child.cpuid, disabled, BIT(0));
	assert_int_equal(get(CHILD, HV_PROPERTY_PROCESSOR_FEATURES0) & (BIT(0) | BIT(18)), BIT(0));
	assert_int_equal(get(CHILD, HV_PROPERTY_PROCESSOR_FEATURES1), BIT(17));
	assert_int_equal(get(CHILD, HV_PROPERTY_PROCESSOR_XSAVE_FEATURES), 0);
	assert_int_equal(get(CHILD, HV_PROPERTY_XSAVE_STATES), 3);
	assert_int_equal(get(CHILD, HV_PROPERTY_MAX_XSAVE_DATA_SIZE), 576);
	assert_int_equal(get(CHILD, HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY), 2000000000);
	assert_int_equal(get(CHILD, HV_PROPERTY_COMPATIBILITY_VERSION), 0x609);
	vendor_ebx = 0x68747541; /* "Auth" */
	assert_int_equal(get(1, HV_PROPERTY_PROCESSOR_VENDOR), 0);
	vendor_ebx = 0x6f677948; /* "Hygo" */
	assert_int_equal(get(1, HV_PROPERTY_PROCESSOR_VENDOR), 2);
}

/* A child sees what it is, not how it is dealt with. */
static void a_child_asks(void **state)
{
	static const uint32_t open[] = { HV_PROPERTY_PRIVILEGE_FLAGS, HV_PROPERTY_SYNTHETIC_PROC_FEATURES,
					 HV_PROPERTY_REFERENCE_TIME,  HV_PROPERTY_PROCESSOR_FEATURES0,
					 HV_PROPERTY_XSAVE_STATES,    HV_PROPERTY_GUEST_OS_ID };
	static const uint32_t closed[] = { HV_PROPERTY_CPU_WEIGHT,
					   HV_PROPERTY_CPU_CAP,
					   HV_PROPERTY_CPU_RESERVE,
					   HV_PROPERTY_TIME_FREEZE,
					   HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING,
					   HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION,
					   HV_PROPERTY_SUSPEND };
	uint64_t value, ex[2];

	(void)state;
	child.properties.weight = child.properties.cap = 500;
	for (size_t i = 0; i < ARRAY_SIZE(open); i++)
		assert_int_equal(get_by(child_vps[0], HV_PARTITION_ID_SELF, open[i], &value),
				 HV_STATUS_SUCCESS);
	for (size_t i = 0; i < ARRAY_SIZE(closed); i++) {
		assert_int_equal(get_by(child_vps[0], CHILD, closed[i], &value), HV_STATUS_ACCESS_DENIED);
		assert_int_equal(value, 0);
		assert_int_equal(get_by(root_vp, HV_PARTITION_ID_SELF, closed[i], &value), HV_STATUS_SUCCESS);
	}
	assert_int_equal(get_by(child_vps[0], 1, HV_PROPERTY_PRIVILEGE_FLAGS, &value),
			 HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(get_ex(child_vps[0], HV_PARTITION_ID_SELF, HV_PROPERTY_VMM_CAPABILITIES, ex),
			 HV_STATUS_UNKNOWN_PROPERTY);
	assert_int_equal(get_ex(child_vps[0], HV_PARTITION_ID_SELF, HV_PROPERTY_CPU_WEIGHT, ex),
			 HV_STATUS_ACCESS_DENIED);
	assert_int_equal(ex[0], 0);
}

static void long_ones(void **state)
{
	uint64_t ex[2];

	(void)state;
	assert_int_equal(get_ex(root_vp, HV_PARTITION_ID_SELF, HV_PROPERTY_VMM_CAPABILITIES, ex),
			 HV_STATUS_SUCCESS);
	assert_int_equal(ex[0], 1);
	assert_int_equal(ex[1], HV_VMM_CAPABILITY_ASSIGNABLE_SYNTHETIC_PROC_FEATURES);
	assert_int_equal(get_ex(root_vp, 1, 0x90009, ex), HV_STATUS_SUCCESS);
	assert_int_equal(ex[0], 1);
	assert_int_equal(ex[1], hv_cpuid_assignable());
	assert_int_equal(get_ex(root_vp, CHILD, HV_PROPERTY_PROCESSOR_VENDOR, ex), HV_STATUS_SUCCESS);
	assert_int_equal(ex[0], 1);
	assert_int_equal(get_ex(root_vp, CHILD, 0x90009, ex), HV_STATUS_UNKNOWN_PROPERTY);
	assert_int_equal(get_ex(root_vp, 77, 0x90009, ex), HV_STATUS_INVALID_PARTITION_ID);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(early_ones), T(ranges),	T(what_can_not_be_set),
		T(processors), T(a_child_asks), T(long_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
