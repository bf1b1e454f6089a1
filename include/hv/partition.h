/* SPDX-License-Identifier: MIT */
/*
 * Partitions: how one is made, its properties, what its parent intercepts and which virtual interrupts
 * it asserts (TLFS "Partitions", "HvCallCreatePartition", "HvCallGetPartitionProperty",
 * "HvCallInstallIntercept", "HvCallAssertVirtualInterrupt", ...).
 */
#ifndef HV_PARTITION_H
#define HV_PARTITION_H

#include "types.h"
#include "vp.h"

/* HvCallCreatePartition */
#define HV_CREATE_PARTITION_SMT_GUEST (1ull << 0)
#define HV_CREATE_PARTITION_NESTED_VIRTUALIZATION (1ull << 1)
#define HV_CREATE_PARTITION_GPA_SUPER_PAGES (1ull << 4)
#define HV_CREATE_PARTITION_EXO (1ull << 8) /* everything not the hypervisor's own exits to the parent */
#define HV_CREATE_PARTITION_LAPIC (1ull << 13)
#define HV_CREATE_PARTITION_INTERCEPT_MESSAGE_PAGE (1ull << 19)
#define HV_CREATE_PARTITION_X2APIC_CAPABLE (1ull << 22)
#define HV_COMPATIBILITY_VERSION_21H2 0x609u

/* isolation_properties: 4:0 type, 6:5 host type, 63:12 shared GPA boundary */
#define HV_PARTITION_ISOLATION_TYPE_MASK 0x1Full
#define HV_PARTITION_ISOLATION_HOST_TYPE_SHIFT 5
#define HV_PARTITION_ISOLATION_HOST_TYPE_NONE 0u
#define HV_PARTITION_ISOLATION_HOST_TYPE_HARDWARE 1u
#define HV_PARTITION_ISOLATION_BOUNDARY_SHIFT 12

struct hv_input_create_partition {
	uint64_t flags;
	struct hv_proximity_domain_info proximity;
	uint32_t compatibility_version;
	uint32_t padding;
	uint64_t disabled_processor_features[2];
	uint64_t disabled_xsave_features;
	uint64_t isolation_properties;
};
HV_ASSERT_SIZE(struct hv_input_create_partition, 56);
HV_ASSERT_OFFSET(struct hv_input_create_partition, flags, 0);
HV_ASSERT_OFFSET(struct hv_input_create_partition, proximity, 8);
HV_ASSERT_OFFSET(struct hv_input_create_partition, compatibility_version, 16);
HV_ASSERT_OFFSET(struct hv_input_create_partition, padding, 20);
HV_ASSERT_OFFSET(struct hv_input_create_partition, disabled_processor_features, 24);
HV_ASSERT_OFFSET(struct hv_input_create_partition, disabled_xsave_features, 40);
HV_ASSERT_OFFSET(struct hv_input_create_partition, isolation_properties, 48);

struct hv_output_create_partition {
	uint64_t partition_id;
};
HV_ASSERT_SIZE(struct hv_output_create_partition, 8);
HV_ASSERT_OFFSET(struct hv_output_create_partition, partition_id, 0);

/* HvCallInitializePartition, HvCallFinalizePartition, HvCallDeletePartition, HvCallClearVirtualInterrupt */
struct hv_input_partition_id {
	uint64_t partition_id;
};
HV_ASSERT_SIZE(struct hv_input_partition_id, 8);
HV_ASSERT_OFFSET(struct hv_input_partition_id, partition_id, 0);

/* HvCallGetPartitionId */
struct hv_output_get_partition_id {
	uint64_t partition_id;
};
HV_ASSERT_SIZE(struct hv_output_get_partition_id, 8);
HV_ASSERT_OFFSET(struct hv_output_get_partition_id, partition_id, 0);

/* Properties */
#define HV_PROPERTY_PRIVILEGE_FLAGS 0x00010000u
#define HV_PROPERTY_SYNTHETIC_PROC_FEATURES 0x00010001u
#define HV_PROPERTY_SUSPEND 0x00020000u
#define HV_PROPERTY_CPU_RESERVE 0x00020001u
#define HV_PROPERTY_CPU_CAP 0x00020002u
#define HV_PROPERTY_CPU_WEIGHT 0x00020003u
#define HV_PROPERTY_CPU_GROUP_ID 0x00020004u
#define HV_PROPERTY_INTEGRATED_SCHEDULER_ENABLED 0x00020005u
#define HV_PROPERTY_TIME_FREEZE 0x00030003u
#define HV_PROPERTY_REFERENCE_TIME 0x00030005u
#define HV_PROPERTY_DEBUG_CHANNEL_ID 0x00040000u
#define HV_PROPERTY_VIRTUAL_TLB_PAGE_COUNT 0x00050000u
#define HV_PROPERTY_VSM_CONFIG 0x00050001u
#define HV_PROPERTY_ZERO_MEMORY_ON_RESET 0x00050002u
#define HV_PROPERTY_PROCESSORS_PER_SOCKET 0x00050003u
#define HV_PROPERTY_NESTED_TLB_SIZE 0x00050004u
#define HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING 0x00050005u
#define HV_PROPERTY_VSM_PERMISSIONS_DIRTY_SINCE_LAST_QUERY 0x00050006u
#define HV_PROPERTY_SGX_LAUNCH_CONTROL_CONFIG 0x00050007u
#define HV_PROPERTY_DEFAULT_SGX_LAUNCH_CONTROL0 0x00050008u
#define HV_PROPERTY_DEFAULT_SGX_LAUNCH_CONTROL1 0x00050009u
#define HV_PROPERTY_DEFAULT_SGX_LAUNCH_CONTROL2 0x0005000Au
#define HV_PROPERTY_DEFAULT_SGX_LAUNCH_CONTROL3 0x0005000Bu
#define HV_PROPERTY_ISOLATION_STATE 0x0005000Cu
#define HV_PROPERTY_ISOLATION_CONTROL 0x0005000Du
#define HV_PROPERTY_ALLOCATION_ID 0x0005000Eu
#define HV_PROPERTY_MONITORING_ID 0x0005000Fu
#define HV_PROPERTY_IMPLEMENTED_PHYSICAL_ADDRESS_BITS 0x00050010u
#define HV_PROPERTY_NON_ARCHITECTURAL_CORE_SHARING 0x00050011u
#define HV_PROPERTY_HYPERCALL_DOORBELL_PAGE 0x00050012u
#define HV_PROPERTY_ISOLATION_POLICY 0x00050014u
#define HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION 0x00050017u
#define HV_PROPERTY_SEV_VMGEXIT_OFFLOADS 0x00050022u
#define HV_PROPERTY_PROCESSOR_VENDOR 0x00060000u
#define HV_PROPERTY_PROCESSOR_FEATURES_DEPRECATED 0x00060001u
#define HV_PROPERTY_PROCESSOR_XSAVE_FEATURES 0x00060002u
#define HV_PROPERTY_PROCESSOR_CL_FLUSH_SIZE 0x00060003u
#define HV_PROPERTY_ENLIGHTENMENT_MODIFICATIONS 0x00060004u
#define HV_PROPERTY_COMPATIBILITY_VERSION 0x00060005u
#define HV_PROPERTY_PHYSICAL_ADDRESS_WIDTH 0x00060006u
#define HV_PROPERTY_XSAVE_STATES 0x00060007u
#define HV_PROPERTY_MAX_XSAVE_DATA_SIZE 0x00060008u
#define HV_PROPERTY_PROCESSOR_CLOCK_FREQUENCY 0x00060009u
#define HV_PROPERTY_PROCESSOR_FEATURES0 0x0006000Au
#define HV_PROPERTY_PROCESSOR_FEATURES1 0x0006000Bu
#define HV_PROPERTY_GUEST_OS_ID 0x00070000u
#define HV_PROPERTY_PROCESSOR_VIRTUALIZATION_FEATURES 0x00080000u
#define HV_PROPERTY_VMM_CAPABILITIES 0x00090007u
#define HV_PROPERTY_ASSIGNABLE_SYNTHETIC_PROC_FEATURES 0x00090009u

/* UNIMPLEMENTED_MSR_ACTION */
#define HV_UNIMPLEMENTED_MSR_FAULT 0u
#define HV_UNIMPLEMENTED_MSR_IGNORE_WRITE_READ_ZERO 1u

struct hv_input_get_partition_property {
	uint64_t partition_id;
	uint32_t property_code;
	uint32_t padding;
};
HV_ASSERT_SIZE(struct hv_input_get_partition_property, 16);
HV_ASSERT_OFFSET(struct hv_input_get_partition_property, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_get_partition_property, property_code, 8);
HV_ASSERT_OFFSET(struct hv_input_get_partition_property, padding, 12);

struct hv_output_get_partition_property {
	uint64_t value;
};
HV_ASSERT_SIZE(struct hv_output_get_partition_property, 8);
HV_ASSERT_OFFSET(struct hv_output_get_partition_property, value, 0);

struct hv_input_set_partition_property {
	uint64_t partition_id;
	uint32_t property_code;
	uint32_t padding;
	uint64_t value;
};
HV_ASSERT_SIZE(struct hv_input_set_partition_property, 24);
HV_ASSERT_OFFSET(struct hv_input_set_partition_property, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_set_partition_property, property_code, 8);
HV_ASSERT_OFFSET(struct hv_input_set_partition_property, padding, 12);
HV_ASSERT_OFFSET(struct hv_input_set_partition_property, value, 16);

/* HvCallGetPartitionPropertyEx: `argument` 31:0 value or VP index, 63:56 object type; the property comes back */
#define HV_PROPERTY_EX_MAX_BYTES 4072u

struct hv_input_get_partition_property_ex {
	uint64_t partition_id;
	uint32_t property_code;
	uint32_t padding;
	uint64_t argument;
};
HV_ASSERT_SIZE(struct hv_input_get_partition_property_ex, 24);
HV_ASSERT_OFFSET(struct hv_input_get_partition_property_ex, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_get_partition_property_ex, property_code, 8);
HV_ASSERT_OFFSET(struct hv_input_get_partition_property_ex, padding, 12);
HV_ASSERT_OFFSET(struct hv_input_get_partition_property_ex, argument, 16);

/* HV_PROPERTY_VMM_CAPABILITIES */
#define HV_VMM_CAPABILITY_MAP_GPA_PRESERVE_ADJUSTABLE (1ull << 0)
#define HV_VMM_CAPABILITY_CAN_PROVIDE_OVERLAY_GPN (1ull << 1)
#define HV_VMM_CAPABILITY_VP_AFFINITY_PROPERTY (1ull << 2)
#define HV_VMM_CAPABILITY_ASSIGNABLE_SYNTHETIC_PROC_FEATURES (1ull << 4)
#define HV_VMM_CAPABILITY_INTEGRATED_SCHEDULER (1ull << 6)

struct hv_vmm_capabilities {
	uint16_t bank_count;
	uint16_t reserved[3];
	uint64_t bank[1];
};
HV_ASSERT_SIZE(struct hv_vmm_capabilities, 16);
HV_ASSERT_OFFSET(struct hv_vmm_capabilities, bank_count, 0);
HV_ASSERT_OFFSET(struct hv_vmm_capabilities, reserved, 2);
HV_ASSERT_OFFSET(struct hv_vmm_capabilities, bank, 8);

/* HV_PROPERTY_SYNTHETIC_PROC_FEATURES */
#define HV_SYNTHETIC_HYPERVISOR_PRESENT (1ull << 0)
#define HV_SYNTHETIC_HV1 (1ull << 1)
#define HV_SYNTHETIC_VP_RUNTIME (1ull << 2)
#define HV_SYNTHETIC_REFERENCE_COUNTER (1ull << 3)
#define HV_SYNTHETIC_SYNIC (1ull << 4)
#define HV_SYNTHETIC_SYNTHETIC_TIMERS (1ull << 5)
#define HV_SYNTHETIC_APIC_MSRS (1ull << 6)
#define HV_SYNTHETIC_HYPERCALL_MSRS (1ull << 7)
#define HV_SYNTHETIC_VP_INDEX (1ull << 8)
#define HV_SYNTHETIC_REFERENCE_TSC (1ull << 9)
#define HV_SYNTHETIC_GUEST_IDLE (1ull << 10)
#define HV_SYNTHETIC_FREQUENCY_MSRS (1ull << 11)
#define HV_SYNTHETIC_EXTENDED_GVA_RANGES (1ull << 15)
#define HV_SYNTHETIC_FAST_HYPERCALL_OUTPUT (1ull << 18)
#define HV_SYNTHETIC_START_VIRTUAL_PROCESSOR (1ull << 20)
#define HV_SYNTHETIC_DIRECT_TIMERS (1ull << 22)
#define HV_SYNTHETIC_EXTENDED_PROCESSOR_MASKS (1ull << 24)
#define HV_SYNTHETIC_FLUSH_HYPERCALLS (1ull << 25)
#define HV_SYNTHETIC_CLUSTER_IPI (1ull << 26)
#define HV_SYNTHETIC_NOTIFY_LONG_SPIN_WAIT (1ull << 27)
#define HV_SYNTHETIC_QUERY_NUMA_DISTANCE (1ull << 28)
#define HV_SYNTHETIC_SIGNAL_EVENTS (1ull << 29)
#define HV_SYNTHETIC_RETARGET_DEVICE_INTERRUPT (1ull << 30)
#define HV_SYNTHETIC_RESTORE_TIME (1ull << 31)
#define HV_SYNTHETIC_ENLIGHTENED_VMCS (1ull << 32)
#define HV_SYNTHETIC_WAKE_VPS (1ull << 37)
#define HV_SYNTHETIC_ACCESS_VP_REGISTERS (1ull << 38)

/* Processor features, banks 0 and 1: the bit numbers */
#define HV_PROCESSOR_FEATURE_BANKS 2u
#define HV_XSAVE_FEATURE_XSAVE (1ull << 0)
#define HV_XSAVE_FEATURE_XSAVEOPT (1ull << 1)
#define HV_XSAVE_FEATURE_AVX (1ull << 2)

/* HvCallInstallIntercept */
#define HV_INTERCEPT_ACCESS_MASK_NONE 0x0u
#define HV_INTERCEPT_ACCESS_MASK_READ 0x1u
#define HV_INTERCEPT_ACCESS_MASK_WRITE 0x2u
#define HV_INTERCEPT_ACCESS_MASK_EXECUTE 0x4u
#define HV_INTERCEPT_X64_IO_PORT 0x0u
#define HV_INTERCEPT_X64_MSR 0x1u
#define HV_INTERCEPT_X64_CPUID 0x2u
#define HV_INTERCEPT_EXCEPTION 0x3u
#define HV_INTERCEPT_MMIO 0x5u
#define HV_INTERCEPT_X64_GLOBAL_CPUID 0x6u
#define HV_INTERCEPT_X64_APIC_SMI 0x7u
#define HV_INTERCEPT_HYPERCALL 0x8u
#define HV_INTERCEPT_X64_APIC_INIT_SIPI 0x9u
#define HV_INTERCEPT_MICROCODE_LEVEL_MSR_READ 0xAu
#define HV_INTERCEPT_X64_APIC_WRITE 0xBu
#define HV_INTERCEPT_X64_MSR_INDEX 0xCu
#define HV_INTERCEPT_UNKNOWN_SYNIC_CONNECTION 0xDu
#define HV_INTERCEPT_X64_APIC_EOI 0xEu
#define HV_INTERCEPT_RETARGET_UNKNOWN_DEVICE 0xFu
#define HV_INTERCEPT_X64_EXCEPTION_TRAP 0x10u
#define HV_INTERCEPT_X64_IO_PORT_RANGE 0x11u
#define HV_INTERCEPT_REGISTER 0x12u
#define HV_INTERCEPT_SYSTEM_RESET_EXTENDED 0x13u

struct hv_input_install_intercept {
	uint64_t partition_id;
	uint32_t access_mask;
	uint32_t intercept_type;
	uint64_t
		parameter; /* port, ports (15:0 first, 31:16 last), leaf, exception vector, MSR, APIC write mask */
};
HV_ASSERT_SIZE(struct hv_input_install_intercept, 24);
HV_ASSERT_OFFSET(struct hv_input_install_intercept, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_install_intercept, access_mask, 8);
HV_ASSERT_OFFSET(struct hv_input_install_intercept, intercept_type, 12);
HV_ASSERT_OFFSET(struct hv_input_install_intercept, parameter, 16);

/* HvCallRegisterInterceptResult; the union's size depends on intercept_type */
struct hv_cpuid_result_parameters {
	uint32_t input_eax;
	uint32_t input_ecx;
	uint8_t subleaf_specific;
	uint8_t always_override;
	uint16_t padding;
	uint32_t eax;
	uint32_t eax_mask;
	uint32_t ebx;
	uint32_t ebx_mask;
	uint32_t ecx;
	uint32_t ecx_mask;
	uint32_t edx;
	uint32_t edx_mask;
};
HV_ASSERT_SIZE(struct hv_cpuid_result_parameters, 44);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, input_eax, 0);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, input_ecx, 4);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, subleaf_specific, 8);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, always_override, 9);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, padding, 10);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, eax, 12);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, eax_mask, 16);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, ebx, 20);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, ebx_mask, 24);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, ecx, 28);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, ecx_mask, 32);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, edx, 36);
HV_ASSERT_OFFSET(struct hv_cpuid_result_parameters, edx_mask, 40);

struct hv_msr_result_parameters {
	uint32_t msr_index;
	uint32_t access_type;
	uint32_t action;
};
HV_ASSERT_SIZE(struct hv_msr_result_parameters, 12);
HV_ASSERT_OFFSET(struct hv_msr_result_parameters, msr_index, 0);
HV_ASSERT_OFFSET(struct hv_msr_result_parameters, access_type, 4);
HV_ASSERT_OFFSET(struct hv_msr_result_parameters, action, 8);

union hv_intercept_result_parameters {
	struct hv_cpuid_result_parameters cpuid;
	struct hv_msr_result_parameters msr;
};
HV_ASSERT_SIZE(union hv_intercept_result_parameters, 44);
HV_ASSERT_OFFSET(union hv_intercept_result_parameters, cpuid, 0);
HV_ASSERT_OFFSET(union hv_intercept_result_parameters, msr, 0);

struct HV_PACKED hv_input_register_intercept_result {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t intercept_type;
	union hv_intercept_result_parameters parameters;
};
HV_ASSERT_SIZE(struct hv_input_register_intercept_result, 60);
HV_ASSERT_OFFSET(struct hv_input_register_intercept_result, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_register_intercept_result, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_register_intercept_result, intercept_type, 12);
HV_ASSERT_OFFSET(struct hv_input_register_intercept_result, parameters, 16);

/* HvCallUnregisterInterceptResult, of a CPUID result */
struct hv_input_unregister_intercept_result {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t intercept_type;
	uint32_t input_eax;
	uint32_t input_ecx;
};
HV_ASSERT_SIZE(struct hv_input_unregister_intercept_result, 24);
HV_ASSERT_OFFSET(struct hv_input_unregister_intercept_result, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_unregister_intercept_result, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_unregister_intercept_result, intercept_type, 12);
HV_ASSERT_OFFSET(struct hv_input_unregister_intercept_result, input_eax, 16);
HV_ASSERT_OFFSET(struct hv_input_unregister_intercept_result, input_ecx, 20);

/* HvCallAssertVirtualInterrupt */
#define HV_INTERRUPT_FIXED 0u
#define HV_INTERRUPT_LOWEST_PRIORITY 1u
#define HV_INTERRUPT_SMI 2u
#define HV_INTERRUPT_REMOTE_READ 3u
#define HV_INTERRUPT_NMI 4u
#define HV_INTERRUPT_INIT 5u
#define HV_INTERRUPT_SIPI 6u
#define HV_INTERRUPT_EXTINT 7u
#define HV_INTERRUPT_LOCALINT0 8u
#define HV_INTERRUPT_LOCALINT1 9u
#define HV_INTERRUPT_CONTROL_LEVEL (1u << 0)
#define HV_INTERRUPT_CONTROL_LOGICAL (1u << 1)

struct hv_input_assert_virtual_interrupt {
	uint64_t partition_id;
	uint32_t interrupt_type;
	uint32_t control_flags;
	uint64_t destination; /* APIC id, or logical id */
	uint32_t vector;
	uint8_t target_vtl;
	uint8_t reserved[3];
};
HV_ASSERT_SIZE(struct hv_input_assert_virtual_interrupt, 32);
HV_ASSERT_OFFSET(struct hv_input_assert_virtual_interrupt, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_assert_virtual_interrupt, interrupt_type, 8);
HV_ASSERT_OFFSET(struct hv_input_assert_virtual_interrupt, control_flags, 12);
HV_ASSERT_OFFSET(struct hv_input_assert_virtual_interrupt, destination, 16);
HV_ASSERT_OFFSET(struct hv_input_assert_virtual_interrupt, vector, 24);
HV_ASSERT_OFFSET(struct hv_input_assert_virtual_interrupt, target_vtl, 28);
HV_ASSERT_OFFSET(struct hv_input_assert_virtual_interrupt, reserved, 29);

#endif
