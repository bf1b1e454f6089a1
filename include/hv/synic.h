/* SPDX-License-Identifier: MIT */
/*
 * The synthetic interrupt controller's pages and messages (TLFS "Virtual Interrupts" and
 * "Inter-Partition Communication"): message slots, event flags, event rings, and what a message of
 * each type carries, intercept messages among them.  The calls that send are at the end.
 */
#ifndef HV_SYNIC_H
#define HV_SYNIC_H

#include "types.h"

#define HV_SINT_COUNT 16u
#define HV_SINT_INTERCEPTS 0u /* by convention; the parent chooses nothing here */
#define HV_SINT_VMBUS 2u
#define HV_SINT_DOORBELL 5u

#define HV_MESSAGE_SIZE 256u
#define HV_MESSAGE_PAYLOAD_BYTES 240u
#define HV_MESSAGE_FLAG_PENDING 0x01u /* more is queued: write EOM after emptying the slot */

/* Message types.  Bit 31: made by the hypervisor; a guest may post only types without it. */
#define HV_MESSAGE_HYPERVISOR_BIT 0x80000000u
#define HV_MESSAGE_NONE 0x00000000u
#define HV_MESSAGE_UNMAPPED_GPA 0x80000000u
#define HV_MESSAGE_GPA_INTERCEPT 0x80000001u
#define HV_MESSAGE_UNACCEPTED_GPA 0x80000003u
#define HV_MESSAGE_TIMER_EXPIRED 0x80000010u
#define HV_MESSAGE_INVALID_VP_REGISTER_VALUE 0x80000020u
#define HV_MESSAGE_UNRECOVERABLE_EXCEPTION 0x80000021u
#define HV_MESSAGE_UNSUPPORTED_FEATURE 0x80000022u
#define HV_MESSAGE_OPAQUE_INTERCEPT 0x8000003Fu
#define HV_MESSAGE_EVENT_LOG_BUFFER_COMPLETE 0x80000040u
#define HV_MESSAGE_HYPERCALL_INTERCEPT 0x80000050u
#define HV_MESSAGE_SYNIC_EVENT_INTERCEPT 0x80000060u
#define HV_MESSAGE_SYNIC_SINT_INTERCEPT 0x80000061u
#define HV_MESSAGE_SYNIC_SINT_DELIVERABLE 0x80000062u
#define HV_MESSAGE_ASYNC_CALL_COMPLETION 0x80000070u
#define HV_MESSAGE_SCHEDULER_VP_SIGNAL_BITSET 0x80000100u
#define HV_MESSAGE_SCHEDULER_VP_SIGNAL_PAIR 0x80000101u
#define HV_MESSAGE_X64_IO_PORT_INTERCEPT 0x80010000u
#define HV_MESSAGE_X64_MSR_INTERCEPT 0x80010001u
#define HV_MESSAGE_X64_CPUID_INTERCEPT 0x80010002u
#define HV_MESSAGE_X64_EXCEPTION_INTERCEPT 0x80010003u
#define HV_MESSAGE_X64_APIC_EOI 0x80010004u
#define HV_MESSAGE_X64_LEGACY_FP_ERROR 0x80010005u
#define HV_MESSAGE_X64_IOMMU_PRQ 0x80010006u
#define HV_MESSAGE_X64_HALT 0x80010007u
#define HV_MESSAGE_X64_INTERRUPTION_DELIVERABLE 0x80010008u
#define HV_MESSAGE_X64_SIPI_INTERCEPT 0x80010009u

struct hv_message {
	uint32_t type;
	uint8_t payload_bytes;
	uint8_t flags;
	uint16_t reserved;
	uint64_t sender; /* port id of a posted message, partition id of one of the hypervisor's */
	union {
		uint8_t bytes[HV_MESSAGE_PAYLOAD_BYTES];
		uint64_t qwords[HV_MESSAGE_PAYLOAD_BYTES / 8];
	} payload;
};
HV_ASSERT_SIZE(struct hv_message, 256);
HV_ASSERT_OFFSET(struct hv_message, type, 0);
HV_ASSERT_OFFSET(struct hv_message, payload_bytes, 4);
HV_ASSERT_OFFSET(struct hv_message, flags, 5);
HV_ASSERT_OFFSET(struct hv_message, reserved, 6);
HV_ASSERT_OFFSET(struct hv_message, sender, 8);
HV_ASSERT_OFFSET(struct hv_message, payload, 16);

struct hv_message_page {
	struct hv_message slot[HV_SINT_COUNT];
};
HV_ASSERT_SIZE(struct hv_message_page, 4096);
HV_ASSERT_OFFSET(struct hv_message_page, slot, 0);

#define HV_EVENT_FLAGS_PER_SINT 2048u

union hv_event_flags {
	uint8_t flags8[HV_EVENT_FLAGS_PER_SINT / 8];
	uint32_t flags32[HV_EVENT_FLAGS_PER_SINT / 32];
	uint64_t flags64[HV_EVENT_FLAGS_PER_SINT / 64];
};
HV_ASSERT_SIZE(union hv_event_flags, 256);

struct hv_event_flags_page {
	union hv_event_flags sint[HV_SINT_COUNT];
};
HV_ASSERT_SIZE(struct hv_event_flags_page, 4096);
HV_ASSERT_OFFSET(struct hv_event_flags_page, sint, 0);

/* The page SIRBP names: port ids of doorbells that were rung, 0 = empty. */
#define HV_EVENT_RING_ENTRIES 63u

struct hv_event_ring {
	uint8_t signal_masked;
	uint8_t ring_full;
	uint16_t reserved;
	uint32_t port_id[HV_EVENT_RING_ENTRIES];
};
HV_ASSERT_SIZE(struct hv_event_ring, 256);
HV_ASSERT_OFFSET(struct hv_event_ring, signal_masked, 0);
HV_ASSERT_OFFSET(struct hv_event_ring, ring_full, 1);
HV_ASSERT_OFFSET(struct hv_event_ring, reserved, 2);
HV_ASSERT_OFFSET(struct hv_event_ring, port_id, 4);

struct hv_event_ring_page {
	struct hv_event_ring sint[HV_SINT_COUNT];
};
HV_ASSERT_SIZE(struct hv_event_ring_page, 4096);
HV_ASSERT_OFFSET(struct hv_event_ring_page, sint, 0);

/* Payload of HV_MESSAGE_TIMER_EXPIRED */
struct hv_timer_message {
	uint32_t timer_index;
	uint32_t reserved;
	uint64_t expiration_time_100ns;
	uint64_t delivery_time_100ns;
};
HV_ASSERT_SIZE(struct hv_timer_message, 24);
HV_ASSERT_OFFSET(struct hv_timer_message, timer_index, 0);
HV_ASSERT_OFFSET(struct hv_timer_message, reserved, 4);
HV_ASSERT_OFFSET(struct hv_timer_message, expiration_time_100ns, 8);
HV_ASSERT_OFFSET(struct hv_timer_message, delivery_time_100ns, 16);

/* Payload of HV_MESSAGE_SYNIC_SINT_INTERCEPT, of a SINT with `as_intercept` */
struct hv_sint_intercept_message {
	uint32_t sint_index;
};
HV_ASSERT_SIZE(struct hv_sint_intercept_message, 4);
HV_ASSERT_OFFSET(struct hv_sint_intercept_message, sint_index, 0);

/* Payload of HV_MESSAGE_OPAQUE_INTERCEPT: the message itself is in the VP's intercept message page */
struct hv_opaque_intercept_message {
	uint32_t vp_index;
};
HV_ASSERT_SIZE(struct hv_opaque_intercept_message, 4);
HV_ASSERT_OFFSET(struct hv_opaque_intercept_message, vp_index, 0);

/* Payload of HV_MESSAGE_X64_APIC_EOI */
struct hv_apic_eoi_message {
	uint32_t vp_index;
	uint32_t vector;
};
HV_ASSERT_SIZE(struct hv_apic_eoi_message, 8);
HV_ASSERT_OFFSET(struct hv_apic_eoi_message, vp_index, 0);
HV_ASSERT_OFFSET(struct hv_apic_eoi_message, vector, 4);

/* Payload of HV_MESSAGE_ASYNC_CALL_COMPLETION: a call that returned HV_STATUS_CALL_PENDING ended */
struct hv_async_completion_message {
	uint64_t partition_id;
	uint32_t status;
	uint32_t completion_count;
	uint64_t sub_status;
};
HV_ASSERT_SIZE(struct hv_async_completion_message, 24);
HV_ASSERT_OFFSET(struct hv_async_completion_message, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_async_completion_message, status, 8);
HV_ASSERT_OFFSET(struct hv_async_completion_message, completion_count, 12);
HV_ASSERT_OFFSET(struct hv_async_completion_message, sub_status, 16);

/* Payloads of the two scheduler messages */
#define HV_SCHEDULER_MAX_VPS_PER_PARTITION 1024u
#define HV_SCHEDULER_MAX_PAIRS 19u

struct hv_scheduler_bitset_message {
	uint64_t partition_id;
	uint32_t overflow_count;
	uint16_t vp_count;
	uint16_t reserved;
	uint64_t vp_set[18]; /* format, valid bank mask, up to 16 banks */
};
HV_ASSERT_SIZE(struct hv_scheduler_bitset_message, 160);
HV_ASSERT_OFFSET(struct hv_scheduler_bitset_message, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_scheduler_bitset_message, overflow_count, 8);
HV_ASSERT_OFFSET(struct hv_scheduler_bitset_message, vp_count, 12);
HV_ASSERT_OFFSET(struct hv_scheduler_bitset_message, reserved, 14);
HV_ASSERT_OFFSET(struct hv_scheduler_bitset_message, vp_set, 16);

struct hv_scheduler_pair_message {
	uint32_t overflow_count;
	uint8_t vp_count;
	uint8_t reserved1[3];
	uint64_t partition_id[HV_SCHEDULER_MAX_PAIRS];
	uint32_t vp_index[HV_SCHEDULER_MAX_PAIRS];
	uint32_t reserved2;
};
HV_ASSERT_SIZE(struct hv_scheduler_pair_message, 240);
HV_ASSERT_OFFSET(struct hv_scheduler_pair_message, overflow_count, 0);
HV_ASSERT_OFFSET(struct hv_scheduler_pair_message, vp_count, 4);
HV_ASSERT_OFFSET(struct hv_scheduler_pair_message, reserved1, 5);
HV_ASSERT_OFFSET(struct hv_scheduler_pair_message, partition_id, 8);
HV_ASSERT_OFFSET(struct hv_scheduler_pair_message, vp_index, 160);
HV_ASSERT_OFFSET(struct hv_scheduler_pair_message, reserved2, 236);

/* HvCallPostMessage: the payload may be shorter than the array, the input then ends with it */
struct hv_input_post_message {
	uint32_t connection_id;
	uint32_t reserved;
	uint32_t message_type;
	uint32_t payload_bytes;
	uint64_t payload[HV_MESSAGE_PAYLOAD_BYTES / 8];
};
HV_ASSERT_SIZE(struct hv_input_post_message, 256);
HV_ASSERT_OFFSET(struct hv_input_post_message, connection_id, 0);
HV_ASSERT_OFFSET(struct hv_input_post_message, reserved, 4);
HV_ASSERT_OFFSET(struct hv_input_post_message, message_type, 8);
HV_ASSERT_OFFSET(struct hv_input_post_message, payload_bytes, 12);
HV_ASSERT_OFFSET(struct hv_input_post_message, payload, 16);

/* HvCallSignalEvent */
struct hv_input_signal_event {
	uint32_t connection_id;
	uint16_t flag_number;
	uint16_t reserved;
};
HV_ASSERT_SIZE(struct hv_input_signal_event, 8);
HV_ASSERT_OFFSET(struct hv_input_signal_event, connection_id, 0);
HV_ASSERT_OFFSET(struct hv_input_signal_event, flag_number, 4);
HV_ASSERT_OFFSET(struct hv_input_signal_event, reserved, 6);

/* HvCallSignalEventDirect: past the ports, straight into a VP's event flags */
struct hv_input_signal_event_direct {
	uint64_t partition_id;
	uint32_t vp_index;
	uint8_t vtl;
	uint8_t sint;
	uint16_t flag_number;
};
HV_ASSERT_SIZE(struct hv_input_signal_event_direct, 16);
HV_ASSERT_OFFSET(struct hv_input_signal_event_direct, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_signal_event_direct, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_signal_event_direct, vtl, 12);
HV_ASSERT_OFFSET(struct hv_input_signal_event_direct, sint, 13);
HV_ASSERT_OFFSET(struct hv_input_signal_event_direct, flag_number, 14);

struct hv_output_signal_event_direct {
	uint8_t newly_signaled;
	uint8_t reserved[7];
};
HV_ASSERT_SIZE(struct hv_output_signal_event_direct, 8);
HV_ASSERT_OFFSET(struct hv_output_signal_event_direct, newly_signaled, 0);
HV_ASSERT_OFFSET(struct hv_output_signal_event_direct, reserved, 1);

/* HvCallPostMessageDirect; packed because the message begins at 20 */
struct HV_PACKED hv_input_post_message_direct {
	uint64_t partition_id;
	uint32_t vp_index;
	uint8_t vtl;
	uint8_t padding0[3];
	uint32_t sint;
	uint8_t message[HV_MESSAGE_SIZE];
	uint32_t padding1;
};
HV_ASSERT_SIZE(struct hv_input_post_message_direct, 280);
HV_ASSERT_OFFSET(struct hv_input_post_message_direct, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_post_message_direct, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_post_message_direct, vtl, 12);
HV_ASSERT_OFFSET(struct hv_input_post_message_direct, padding0, 13);
HV_ASSERT_OFFSET(struct hv_input_post_message_direct, sint, 16);
HV_ASSERT_OFFSET(struct hv_input_post_message_direct, message, 20);
HV_ASSERT_OFFSET(struct hv_input_post_message_direct, padding1, 276);

/* HvCallNotifyPortRingEmpty */
struct hv_input_notify_port_ring_empty {
	uint32_t sint_index;
	uint32_t reserved;
};
HV_ASSERT_SIZE(struct hv_input_notify_port_ring_empty, 8);
HV_ASSERT_OFFSET(struct hv_input_notify_port_ring_empty, sint_index, 0);
HV_ASSERT_OFFSET(struct hv_input_notify_port_ring_empty, reserved, 4);

#endif
