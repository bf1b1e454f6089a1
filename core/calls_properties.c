/* SPDX-License-Identifier: MIT */
/*
 * Properties of partitions: TLFS "HvCallGetPartitionProperty", "HvCallSetPartitionProperty",
 * "HvCallGetPartitionPropertyEx" and "HV_PARTITION_PROPERTY_CODE". A partition can ask its own; what it is, only its
 * parent can set.
 */
#include <hv/cpuid.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <string.h>
#include <trivet/backend.h>
#include <trivet/hypercall.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
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

/* HV_PROPERTY_SYNTHETIC_PROC_FEATURES: what CPUID says in three leaves, in one word. */
static uint64_t synthetic_features(const struct partition *partition)
{
	static const struct {
		uint64_t privilege, feature;
	} by_privilege[] = {
		{ HV_PRIVILEGE_VP_RUNTIME, HV_SYNTHETIC_VP_RUNTIME },
		{ HV_PRIVILEGE_TIME_REF_COUNT, HV_SYNTHETIC_REFERENCE_COUNTER },
		{ HV_PRIVILEGE_SYNIC, HV_SYNTHETIC_SYNIC },
		{ HV_PRIVILEGE_SYNTHETIC_TIMERS, HV_SYNTHETIC_SYNTHETIC_TIMERS },
		{ HV_PRIVILEGE_APIC_MSRS, HV_SYNTHETIC_APIC_MSRS },
		{ HV_PRIVILEGE_HYPERCALL_MSRS, HV_SYNTHETIC_HYPERCALL_MSRS },
		{ HV_PRIVILEGE_VP_INDEX, HV_SYNTHETIC_VP_INDEX },
		{ HV_PRIVILEGE_REFERENCE_TSC, HV_SYNTHETIC_REFERENCE_TSC },
		{ HV_PRIVILEGE_GUEST_IDLE, HV_SYNTHETIC_GUEST_IDLE },
		{ HV_PRIVILEGE_FREQUENCY_MSRS, HV_SYNTHETIC_FREQUENCY_MSRS },
		{ HV_PRIVILEGE_SIGNAL_EVENTS, HV_SYNTHETIC_SIGNAL_EVENTS },
		{ HV_PRIVILEGE_ACCESS_VP_REGISTERS, HV_SYNTHETIC_ACCESS_VP_REGISTERS },
		{ HV_PRIVILEGE_START_VIRTUAL_PROCESSOR, HV_SYNTHETIC_START_VIRTUAL_PROCESSOR },
	};
	uint64_t features = partition->hv ? HV_SYNTHETIC_HYPERVISOR_PRESENT | HV_SYNTHETIC_HV1 : 0;

	for (size_t i = 0; i < ARRAY_SIZE(by_privilege); i++)
		if (partition->privileges & by_privilege[i].privilege)
			features |= by_privilege[i].feature;
	return features;
}

static struct cpuid_regs xsave_leaf(void)
{
	static const struct cpuid_regs none;

	return cpuid(0, 0).eax >= 0xd ? cpuid(0xd, 0) : none;
}

static bool get_property(const struct partition *partition, uint32_t code, uint64_t *value)
{
	*value = 0;
	switch (code) {
	case HV_PROPERTY_PRIVILEGE_FLAGS:
		*value = partition->privileges;
		return true;
	case HV_PROPERTY_SYNTHETIC_PROC_FEATURES:
		*value = synthetic_features(partition);
		return true;
	case HV_PROPERTY_REFERENCE_TIME:
		*value = reference_time_100ns(partition);
		return true;
	case HV_PROPERTY_SUSPEND:
	case HV_PROPERTY_TIME_FREEZE:
	case HV_PROPERTY_INTEGRATED_SCHEDULER_ENABLED:
	case HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING:
	case HV_PROPERTY_ISOLATION_STATE:
	case HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION: /* it faults */
		return true;
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
	case HV_PROPERTY_XSAVE_STATES:
		*value = (uint64_t)xsave_leaf().edx << 32 | xsave_leaf().eax;
		return true;
	case HV_PROPERTY_MAX_XSAVE_DATA_SIZE:
		*value = xsave_leaf().ecx;
		return true;
	case HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY:
		*value = lp_tsc_hz();
		return true;
	case HV_PROPERTY_GUEST_OS_ID:
		*value = partition->guest_os_id;
		return true;
	default:
		return false;
	}
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
	return get_property(partition, in->property_code, &out->value) ? HV_STATUS_SUCCESS :
									 HV_STATUS_UNKNOWN_PROPERTY;
}

uint16_t hypercall_set_partition_property(struct hypercall *call)
{
	const struct hv_input_set_partition_property *in = call->input;
	const struct partition *partition;
	uint16_t status;
	uint64_t value;

	partition = partition_authority(call->vp, in->partition_id, 0, &status);
	if (!partition)
		return status;
	return get_property(partition, in->property_code, &value) ? HV_STATUS_ACCESS_DENIED :
								    HV_STATUS_UNKNOWN_PROPERTY;
}

uint16_t hypercall_get_partition_property_ex(struct hypercall *call)
{
	const struct hv_input_get_partition_property_ex *in = call->input;
	struct hv_vmm_capabilities *capabilities = call->output;
	const struct partition *partition;
	uint16_t status;

	partition = partition_authority(call->vp, in->partition_id, 0, &status);
	if (!partition)
		return status;
	if (in->property_code == HV_PROPERTY_VMM_CAPABILITIES) {
		capabilities->bank_count = 1; /* and none of its bits: nothing of it is there yet */
		return HV_STATUS_SUCCESS;
	}
	return get_property(partition, in->property_code, call->output) ? HV_STATUS_SUCCESS :
									  HV_STATUS_UNKNOWN_PROPERTY;
}
