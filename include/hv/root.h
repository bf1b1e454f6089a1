/* SPDX-License-Identifier: MIT */
/*
 * What only a root partition may ask: logical processors, device interrupts, system properties, sleep,
 * events and leaving the hypervisor (TLFS "HvCallAddLogicalProcessor", "HvCallMapDeviceInterrupt",
 * "HvCallGetSystemProperty", "HvCallEnterSleepState", "HvCallNotifyPartitionEvent", ...).
 */
#ifndef HV_ROOT_H
#define HV_ROOT_H

#include "types.h"
#include "vp.h"
#include "vp_set.h"

/* HvCallGetLogicalProcessorRunTime */
struct hv_input_get_logical_processor_run_time {
	uint32_t lp_index;
};
HV_ASSERT_SIZE(struct hv_input_get_logical_processor_run_time, 4);
HV_ASSERT_OFFSET(struct hv_input_get_logical_processor_run_time, lp_index, 0);

struct hv_output_get_logical_processor_run_time {
	uint64_t global_time_100ns;
	uint64_t local_run_time_100ns;
	uint64_t reserved;
	uint64_t hypervisor_time_100ns;
};
HV_ASSERT_SIZE(struct hv_output_get_logical_processor_run_time, 32);
HV_ASSERT_OFFSET(struct hv_output_get_logical_processor_run_time, global_time_100ns, 0);
HV_ASSERT_OFFSET(struct hv_output_get_logical_processor_run_time, local_run_time_100ns, 8);
HV_ASSERT_OFFSET(struct hv_output_get_logical_processor_run_time, reserved, 16);
HV_ASSERT_OFFSET(struct hv_output_get_logical_processor_run_time, hypervisor_time_100ns, 24);

/* HvCallAddLogicalProcessor */
struct hv_input_add_logical_processor {
	uint32_t lp_index;
	uint32_t apic_id;
	struct hv_proximity_domain_info proximity;
};
HV_ASSERT_SIZE(struct hv_input_add_logical_processor, 16);
HV_ASSERT_OFFSET(struct hv_input_add_logical_processor, lp_index, 0);
HV_ASSERT_OFFSET(struct hv_input_add_logical_processor, apic_id, 4);
HV_ASSERT_OFFSET(struct hv_input_add_logical_processor, proximity, 8);

struct hv_output_add_logical_processor {
	uint64_t status;
	uint64_t substatus[6];
};
HV_ASSERT_SIZE(struct hv_output_add_logical_processor, 56);
HV_ASSERT_OFFSET(struct hv_output_add_logical_processor, status, 0);
HV_ASSERT_OFFSET(struct hv_output_add_logical_processor, substatus, 8);

/* Device ids: bits 63:62 tell the kind */
#define HV_DEVICE_TYPE_SHIFT 62
#define HV_DEVICE_TYPE_LOGICAL 0ull
#define HV_DEVICE_TYPE_PCI 1ull
#define HV_DEVICE_TYPE_IOAPIC 2ull
#define HV_DEVICE_TYPE_ACPI 3ull
/* PCI: 15:0 bus, device, function; 31:16 segment; 47:32 shadow bus range; 49:48 phantom bits; 50 shadow */
#define HV_DEVICE_PCI_BDF_MASK 0xFFFFull
#define HV_DEVICE_PCI_SEGMENT_SHIFT 16
#define HV_DEVICE_PCI_SUBORDINATE_BUS_SHIFT 32
#define HV_DEVICE_PCI_SECONDARY_BUS_SHIFT 40
#define HV_DEVICE_PCI_PHANTOM_SHIFT 48
#define HV_DEVICE_PCI_SHADOW_BRIDGE (1ull << 50)
/* I/O APIC: 7:0 its id.  ACPI: 31:0 first input, 61:32 number of inputs */
#define HV_DEVICE_IOAPIC_ID_MASK 0xFFull
#define HV_DEVICE_ACPI_COUNT_SHIFT 32

/* An interrupt as a device or an I/O APIC sends it */
#define HV_INTERRUPT_SOURCE_MSI 1u
#define HV_INTERRUPT_SOURCE_IOAPIC 2u
#define HV_INTERRUPT_EDGE 0u
#define HV_INTERRUPT_LEVEL 1u
/* `data` of an MSI: address in 31:0, data in 63:32 (SDM3 11.11); of an I/O APIC: the redirection entry */
#define HV_MSI_ADDRESS_MASK 0xFFFFFFFFull
#define HV_MSI_DATA_SHIFT 32

struct hv_interrupt_entry {
	uint32_t source;
	uint32_t reserved;
	uint64_t data;
};
HV_ASSERT_SIZE(struct hv_interrupt_entry, 16);
HV_ASSERT_OFFSET(struct hv_interrupt_entry, source, 0);
HV_ASSERT_OFFSET(struct hv_interrupt_entry, reserved, 4);
HV_ASSERT_OFFSET(struct hv_interrupt_entry, data, 8);

#define HV_INTERRUPT_TARGET_MULTICAST 1u
#define HV_INTERRUPT_TARGET_PROCESSOR_SET 2u

/* With PROCESSOR_SET the set's bank mask and banks are the variable header (1 + banks qwords) */
struct hv_device_interrupt_target {
	uint32_t vector;
	uint32_t flags;
	struct hv_vp_set vp_set; /* without PROCESSOR_SET: `format` is a mask of VP 0-63 */
};
HV_ASSERT_SIZE(struct hv_device_interrupt_target, 24);
HV_ASSERT_OFFSET(struct hv_device_interrupt_target, vector, 0);
HV_ASSERT_OFFSET(struct hv_device_interrupt_target, flags, 4);
HV_ASSERT_OFFSET(struct hv_device_interrupt_target, vp_set, 8);

struct hv_device_interrupt_descriptor {
	uint32_t interrupt_type;
	uint32_t trigger_mode;
	uint32_t vector_count;
	uint32_t reserved;
	struct hv_device_interrupt_target target;
};
HV_ASSERT_SIZE(struct hv_device_interrupt_descriptor, 40);
HV_ASSERT_OFFSET(struct hv_device_interrupt_descriptor, interrupt_type, 0);
HV_ASSERT_OFFSET(struct hv_device_interrupt_descriptor, trigger_mode, 4);
HV_ASSERT_OFFSET(struct hv_device_interrupt_descriptor, vector_count, 8);
HV_ASSERT_OFFSET(struct hv_device_interrupt_descriptor, reserved, 12);
HV_ASSERT_OFFSET(struct hv_device_interrupt_descriptor, target, 16);

/* HvCallMapDeviceInterrupt */
#define HV_MAP_DEVICE_INTERRUPT_FIXED_BYTES 72u /* before the variable header */

struct hv_input_map_device_interrupt {
	uint64_t partition_id;
	uint64_t device_id;
	uint32_t flags;
	uint32_t base_irt_index;
	struct hv_interrupt_entry logical_entry;
	struct hv_device_interrupt_descriptor descriptor;
};
HV_ASSERT_SIZE(struct hv_input_map_device_interrupt, 80);
HV_ASSERT_OFFSET(struct hv_input_map_device_interrupt, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_map_device_interrupt, device_id, 8);
HV_ASSERT_OFFSET(struct hv_input_map_device_interrupt, flags, 16);
HV_ASSERT_OFFSET(struct hv_input_map_device_interrupt, base_irt_index, 20);
HV_ASSERT_OFFSET(struct hv_input_map_device_interrupt, logical_entry, 24);
HV_ASSERT_OFFSET(struct hv_input_map_device_interrupt, descriptor, 40);

struct hv_output_map_device_interrupt {
	struct hv_interrupt_entry entry;
	uint64_t reserved[5];
};
HV_ASSERT_SIZE(struct hv_output_map_device_interrupt, 56);
HV_ASSERT_OFFSET(struct hv_output_map_device_interrupt, entry, 0);
HV_ASSERT_OFFSET(struct hv_output_map_device_interrupt, reserved, 16);

/* HvCallUnmapDeviceInterrupt */
struct HV_PACKED hv_input_unmap_device_interrupt {
	uint64_t partition_id;
	uint64_t device_id;
	struct hv_interrupt_entry entry;
	uint32_t flags;
};
HV_ASSERT_SIZE(struct hv_input_unmap_device_interrupt, 36);
HV_ASSERT_OFFSET(struct hv_input_unmap_device_interrupt, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_unmap_device_interrupt, device_id, 8);
HV_ASSERT_OFFSET(struct hv_input_unmap_device_interrupt, entry, 16);
HV_ASSERT_OFFSET(struct hv_input_unmap_device_interrupt, flags, 32);

/* HvCallRetargetDeviceInterrupt (a guest's call, with a device of its virtual PCI bus) */
#define HV_RETARGET_DEVICE_INTERRUPT_FIXED_BYTES 56u /* before the variable header */

struct hv_input_retarget_device_interrupt {
	uint64_t partition_id;
	uint64_t device_id;
	struct hv_interrupt_entry entry;
	uint64_t reserved;
	struct hv_device_interrupt_target target;
};
HV_ASSERT_SIZE(struct hv_input_retarget_device_interrupt, 64);
HV_ASSERT_OFFSET(struct hv_input_retarget_device_interrupt, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_retarget_device_interrupt, device_id, 8);
HV_ASSERT_OFFSET(struct hv_input_retarget_device_interrupt, entry, 16);
HV_ASSERT_OFFSET(struct hv_input_retarget_device_interrupt, reserved, 32);
HV_ASSERT_OFFSET(struct hv_input_retarget_device_interrupt, target, 40);

/* System properties */
#define HV_SYSTEM_PROPERTY_SLEEP_STATE 3u
#define HV_SYSTEM_PROPERTY_SCHEDULER_TYPE 15u
#define HV_SYSTEM_PROPERTY_DYNAMIC_PROCESSOR_FEATURE 21u
#define HV_SYSTEM_PROPERTY_CRASH_DUMP_AREA 47u
#define HV_SCHEDULER_TYPE_LP 1u
#define HV_SCHEDULER_TYPE_LP_SMT 2u
#define HV_SCHEDULER_TYPE_CORE_SMT 3u
#define HV_SCHEDULER_TYPE_ROOT 4u
#define HV_DYNAMIC_FEATURE_MAX_ENCRYPTED_PARTITIONS 13u
#define HV_DYNAMIC_FEATURE_SNP_STATUS 16u

struct hv_input_get_system_property {
	uint32_t property_id;
	uint32_t reserved;
	uint64_t argument;
};
HV_ASSERT_SIZE(struct hv_input_get_system_property, 16);
HV_ASSERT_OFFSET(struct hv_input_get_system_property, property_id, 0);
HV_ASSERT_OFFSET(struct hv_input_get_system_property, reserved, 4);
HV_ASSERT_OFFSET(struct hv_input_get_system_property, argument, 8);

struct hv_output_get_system_property {
	uint64_t value;
};
HV_ASSERT_SIZE(struct hv_output_get_system_property, 8);
HV_ASSERT_OFFSET(struct hv_output_get_system_property, value, 0);

/* CRASH_DUMP_AREA's value: 39:0 first page, 63:40 pages after it; the area's first words */
#define HV_PAGE_RANGE_BASE_MASK 0xFFFFFFFFFFull
#define HV_PAGE_RANGE_MORE_SHIFT 40

struct hv_crash_dump_area_header {
	uint32_t version;
	uint32_t flags;
};
HV_ASSERT_SIZE(struct hv_crash_dump_area_header, 8);
HV_ASSERT_OFFSET(struct hv_crash_dump_area_header, version, 0);
HV_ASSERT_OFFSET(struct hv_crash_dump_area_header, flags, 4);

#define HV_CRASH_DUMP_AREA_VALID (1u << 0)

#define HV_SLEEP_STATE_S1 1u
#define HV_SLEEP_STATE_S2 2u
#define HV_SLEEP_STATE_S3 3u
#define HV_SLEEP_STATE_S4 4u
#define HV_SLEEP_STATE_S5 5u
#define HV_SLEEP_STATE_LOCK 6u

/* HvCallSetSystemProperty; SLEEP_STATE: what to write to the PM1 control registers for a state */
struct hv_sleep_state_info {
	uint32_t sleep_state;
	uint8_t pm1a_slp_typ;
	uint8_t pm1b_slp_typ;
	uint16_t reserved;
};
HV_ASSERT_SIZE(struct hv_sleep_state_info, 8);
HV_ASSERT_OFFSET(struct hv_sleep_state_info, sleep_state, 0);
HV_ASSERT_OFFSET(struct hv_sleep_state_info, pm1a_slp_typ, 4);
HV_ASSERT_OFFSET(struct hv_sleep_state_info, pm1b_slp_typ, 5);
HV_ASSERT_OFFSET(struct hv_sleep_state_info, reserved, 6);

struct hv_input_set_system_property {
	uint32_t property_id;
	uint32_t reserved0;
	struct hv_sleep_state_info sleep_state;
	uint64_t reserved1[7];
};
HV_ASSERT_SIZE(struct hv_input_set_system_property, 72);
HV_ASSERT_OFFSET(struct hv_input_set_system_property, property_id, 0);
HV_ASSERT_OFFSET(struct hv_input_set_system_property, reserved0, 4);
HV_ASSERT_OFFSET(struct hv_input_set_system_property, sleep_state, 8);
HV_ASSERT_OFFSET(struct hv_input_set_system_property, reserved1, 16);

/* HvCallEnterSleepState */
struct hv_input_enter_sleep_state {
	uint32_t sleep_state;
};
HV_ASSERT_SIZE(struct hv_input_enter_sleep_state, 4);
HV_ASSERT_OFFSET(struct hv_input_enter_sleep_state, sleep_state, 0);

/* HvCallNotifyPartitionEvent */
#define HV_PARTITION_EVENT_ROOT_CRASH_DUMP 2u
#define HV_PARTITION_EVENT_ALL_LOGICAL_PROCESSORS_STARTED 4u
#define HV_CRASH_DUMP_NONE 0u
#define HV_CRASH_DUMP_SUSPEND_ALL_VPS 1u
#define HV_CRASH_DUMP_PREPARE_FOR_STATE_SAVE 2u
#define HV_CRASH_DUMP_STATE_SAVED 3u
#define HV_CRASH_DUMP_ENTRY 4u

struct hv_input_notify_partition_event {
	uint32_t event;
	uint32_t crash_dump_action;
};
HV_ASSERT_SIZE(struct hv_input_notify_partition_event, 8);
HV_ASSERT_OFFSET(struct hv_input_notify_partition_event, event, 0);
HV_ASSERT_OFFSET(struct hv_input_notify_partition_event, crash_dump_action, 4);

/* HvCallDisableHypervisorEx: ends the hypervisor and jumps to `rip` in 32-bit mode, EDI = `argument` */
struct hv_input_disable_hypervisor_ex {
	uint64_t rip;
	uint64_t argument;
};
HV_ASSERT_SIZE(struct hv_input_disable_hypervisor_ex, 16);
HV_ASSERT_OFFSET(struct hv_input_disable_hypervisor_ex, rip, 0);
HV_ASSERT_OFFSET(struct hv_input_disable_hypervisor_ex, argument, 8);

#endif
