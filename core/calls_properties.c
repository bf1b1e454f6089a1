/* SPDX-License-Identifier: MIT */
/*
 * Properties of partitions: TLFS "HvCallGetPartitionProperty", "HvCallSetPartitionProperty",
 * "HvCallGetPartitionPropertyEx" and "HV_PARTITION_PROPERTY_CODE". A partition can ask what it is; its parent also what
 * is between the two, and only it can set anything.
 */
#include <hv/cpuid.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <string.h>
#include <trivet/backend.h>
#include <trivet/cpuid_policy.h>
#include <trivet/gpa_space.h>
#include <trivet/hv_cpuid.h>
#include <trivet/hypercall.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/reference_time.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

#define VENDOR_AMD 0u
#define VENDOR_INTEL 1u
#define VENDOR_HYGON 2u

/* HV_PROPERTY_PROCESSOR_VENDOR; by the name that the processor gives itself (leaf 0, EBX). */
static uint64_t processor_vendor(void)
{
	switch (cpuid(0, 0).ebx) {
	case 0x756e6547: /* "Genu" */
		return VENDOR_INTEL;
	case 0x6f677948: /* "Hygo" */
		return VENDOR_HYGON;
	default:
		return VENDOR_AMD;
	}
}

/* Of a root: what a child of its may have. */
static void read_policy(const struct partition *partition, struct cpuid_policy *policy)
{
	if (partition_is_root(partition))
		cpuid_policy_host(policy);
	else
		*policy = partition->cpuid;
}

/* Properties of the processor that a child is told of. False: not one of them. */
static bool get_processor_property(const struct partition *partition, uint32_t code, uint64_t *value)
{
	struct cpuid_policy policy;

	switch (code) {
	case HV_PROPERTY_IMPLEMENTED_PHYSICAL_ADDRESS_BITS:
	case HV_PROPERTY_PHYSICAL_ADDRESS_WIDTH:
		*value = backend->phys_bits();
		return true;
	case HV_PROPERTY_PROCESSOR_VENDOR:
		*value = processor_vendor();
		return true;
	case HV_PROPERTY_PROCESSOR_CL_FLUSH_SIZE:
		*value = cpuid(1, 0).ebx >> 8 & 0xff; /* in units of 8 bytes */
		return true;
	case HV_PROPERTY_COMPATIBILITY_VERSION:
		*value = HV_COMPATIBILITY_VERSION_21H2;
		return true;
	case HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY:
		*value = lp_tsc_hz();
		return true;
	default:
		break;
	}
	read_policy(partition, &policy);
	switch (code) {
	case HV_PROPERTY_PROCESSOR_FEATURES0:
	case HV_PROPERTY_PROCESSOR_FEATURES1:
		*value = policy.features[code - HV_PROPERTY_PROCESSOR_FEATURES0];
		return true;
	case HV_PROPERTY_PROCESSOR_XSAVE_FEATURES:
		*value = policy.xsave_features;
		return true;
	case HV_PROPERTY_XSAVE_STATES:
		*value = policy.xsave_states | XSAVE_LEGACY_STATES;
		return true;
	case HV_PROPERTY_MAX_XSAVE_DATA_SIZE: /* of HV_VP_STATE_XSAVE */
		*value = xsave_bytes(policy.xsave_states, true);
		return true;
	default:
		return false;
	}
}

/* What a partition may know about itself, whatever it is. */
static bool get_own_property(const struct partition *partition, uint32_t code, uint64_t *value)
{
	switch (code) {
	case HV_PROPERTY_PRIVILEGE_FLAGS:
		*value = partition->privileges;
		return true;
	case HV_PROPERTY_SYNTHETIC_PROC_FEATURES:
		*value = hv_cpuid_synthetic(partition);
		return true;
	case HV_PROPERTY_REFERENCE_TIME:
		*value = reference_time_100ns(partition);
		return true;
	case HV_PROPERTY_GUEST_OS_ID:
		*value = partition->guest_os_id;
		return true;
	case HV_PROPERTY_ISOLATION_STATE:
		*value = 0;
		return true;
	default:
		return get_processor_property(partition, code, value);
	}
}

/* What is between a partition and its parent. */
static bool get_parents_property(const struct partition *partition, uint32_t code, uint64_t *value)
{
	const struct partition_properties *properties = &partition->properties;

	switch (code) {
	case HV_PROPERTY_SUSPEND:
	case HV_PROPERTY_INTEGRATED_SCHEDULER_ENABLED:
		*value = 0;
		return true;
	case HV_PROPERTY_CPU_RESERVE:
		*value = properties->reserve;
		return true;
	case HV_PROPERTY_CPU_CAP:
		*value = properties->cap;
		return true;
	case HV_PROPERTY_CPU_WEIGHT:
		*value = properties->weight;
		return true;
	case HV_PROPERTY_TIME_FREEZE:
		*value = properties->time_frozen;
		return true;
	case HV_PROPERTY_PROCESSORS_PER_SOCKET:
		*value = partition->cpuid.vps_per_socket;
		return true;
	case HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING:
		*value = properties->tracks_access;
		return true;
	case HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION:
		*value = properties->ignores_unknown_msrs ? HV_UNIMPLEMENTED_MSR_IGNORE_WRITE_READ_ZERO :
							    HV_UNIMPLEMENTED_MSR_FAULT;
		return true;
	default:
		return false;
	}
}

static uint16_t get_property(const struct hypercall *call, const struct partition *partition, uint32_t code,
			     uint64_t *value)
{
	bool is_parent = partition != call->partition || partition_is_root(partition);

	*value = 0;
	if (get_own_property(partition, code, value))
		return HV_STATUS_SUCCESS;
	if (!get_parents_property(partition, code, value))
		return HV_STATUS_UNKNOWN_PROPERTY;
	if (is_parent)
		return HV_STATUS_SUCCESS;
	*value = 0;
	return HV_STATUS_ACCESS_DENIED;
}

uint16_t hypercall_get_partition_property(struct hypercall *call)
{
	const struct hv_input_get_partition_property *in = call->input;
	struct hv_output_get_partition_property *out = call->output;
	const struct partition *partition;
	uint16_t status;

	partition = partition_authority(call->vp, in->partition_id, 0, &status);
	if (!partition)
		return status;
	return get_property(call, partition, in->property_code, &out->value);
}

/* ---- Set by a child's parent ---- */

#define CPU_SHARE_MAX 0x10000u /* all of a processor */
#define CPU_WEIGHT_MAX 10000u

/* Every VP finds its timers' deadlines anew. */
static void tell_time_changed(struct partition *partition)
{
	for (uint32_t i = 0; i < partition->vp_count; i++) {
		struct vp *vp = partition_vp(partition, i);

		if (!vp)
			continue;
		vp_post(vp, VP_PENDING_CLOCK);
		vp_notify(vp);
	}
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the atomic store writes it */
static uint16_t set_cpu_share(struct partition *partition, uint64_t *property, uint64_t value, uint64_t least,
			      uint64_t most)
{
	if (value < least || value > most)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	__atomic_store_n(property, value, __ATOMIC_RELAXED);
	partition_params_changed(partition);
	return HV_STATUS_SUCCESS;
}

static uint16_t set_flag(bool *property, uint64_t value)
{
	if (value > 1)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	*property = value;
	return HV_STATUS_SUCCESS;
}

/* What the partition is: for good, once it is initialized. */
static uint16_t set_early(struct partition *partition, uint32_t code, uint64_t value)
{
	int err = 0;

	if (!partition_begin_setup(partition))
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (code == HV_PROPERTY_SYNTHETIC_PROC_FEATURES)
		hv_cpuid_assign(partition, value);
	else
		err = hv_cpuid_set_privileges(partition, value);
	partition_end_setup();
	return err ? HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE : HV_STATUS_SUCCESS;
}

static uint16_t set_time_freeze(struct partition *partition, uint64_t value)
{
	uint16_t status = set_flag(&partition->properties.time_frozen, value);

	if (status != HV_STATUS_SUCCESS)
		return status;
	reference_time_freeze(partition, value);
	tell_time_changed(partition);
	return HV_STATUS_SUCCESS;
}

static uint16_t set_reference_time(struct partition *partition, uint64_t value)
{
	if (value > INT64_MAX)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	/* Initialization makes the clock, which begins at 0. */
	if (atomic_load_explicit(&partition->state, memory_order_acquire) == PARTITION_CREATED)
		return HV_STATUS_INVALID_PARTITION_STATE;
	reference_time_set(partition, value);
	tell_time_changed(partition);
	return HV_STATUS_SUCCESS;
}

static uint16_t set_property(struct partition *partition, uint32_t code, uint64_t value)
{
	struct partition_properties *properties = &partition->properties;

	switch (code) {
	case HV_PROPERTY_PRIVILEGE_FLAGS:
	case HV_PROPERTY_SYNTHETIC_PROC_FEATURES:
		return set_early(partition, code, value);
	case HV_PROPERTY_CPU_RESERVE:
		return set_cpu_share(partition, &properties->reserve, value, 0, CPU_SHARE_MAX);
	case HV_PROPERTY_CPU_CAP:
		return set_cpu_share(partition, &properties->cap, value, 0, CPU_SHARE_MAX);
	case HV_PROPERTY_CPU_WEIGHT:
		return set_cpu_share(partition, &properties->weight, value, 1, CPU_WEIGHT_MAX);
	case HV_PROPERTY_TIME_FREEZE:
		return set_time_freeze(partition, value);
	case HV_PROPERTY_REFERENCE_TIME:
		return set_reference_time(partition, value);
	case HV_PROPERTY_PROCESSORS_PER_SOCKET:
		if (!value || value > HV_CHILD_VPS_MAX)
			return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
		partition->cpuid.vps_per_socket = (uint32_t)value;
		return HV_STATUS_SUCCESS;
	case HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING:
		if (value > 1)
			return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
		gpa_space_track(partition, value);
		return HV_STATUS_SUCCESS;
	case HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION:
		return set_flag(&properties->ignores_unknown_msrs, value);
	default:
		return HV_STATUS_ACCESS_DENIED;
	}
}

uint16_t hypercall_set_partition_property(struct hypercall *call)
{
	const struct hv_input_set_partition_property *in = call->input;
	struct partition *partition;
	uint16_t status;
	uint64_t value;

	partition = partition_authority(call->vp, in->partition_id, 0, &status);
	if (!partition)
		return status;
	status = get_property(call, partition, in->property_code, &value);
	if (status != HV_STATUS_SUCCESS)
		return status;
	if (partition == call->partition)
		return HV_STATUS_ACCESS_DENIED;
	if (atomic_load(&partition->state) == PARTITION_FINALIZED)
		return HV_STATUS_INVALID_PARTITION_STATE;
	return set_property(partition, in->property_code, in->value);
}

/* ---- The longer ones: what a VMM can count on ---- */

static bool get_long_property(uint32_t code, struct hv_vmm_capabilities *capabilities)
{
	switch (code) {
	case HV_PROPERTY_VMM_CAPABILITIES:
		capabilities->bank[0] = HV_VMM_CAPABILITY_ASSIGNABLE_SYNTHETIC_PROC_FEATURES;
		break;
	case HV_PROPERTY_ASSIGNABLE_SYNTHETIC_PROC_FEATURES: /* the same layout */
		capabilities->bank[0] = hv_cpuid_assignable();
		break;
	default:
		return false;
	}
	capabilities->bank_count = 1;
	return true;
}

uint16_t hypercall_get_partition_property_ex(struct hypercall *call)
{
	const struct hv_input_get_partition_property_ex *in = call->input;
	const struct partition *partition;
	uint16_t status;

	partition = partition_authority(call->vp, in->partition_id, 0, &status);
	if (!partition)
		return status;
	if (partition == call->partition && (partition->privileges & HV_PRIVILEGE_CREATE_PARTITIONS) &&
	    get_long_property(in->property_code, call->output))
		return HV_STATUS_SUCCESS;
	return get_property(call, partition, in->property_code, call->output);
}
