/* SPDX-License-Identifier: MIT */
/*
 * Ports and connections, doorbells among them: the parent owns a port, the child's connection id leads to
 * it (TLFS "Inter-Partition Communication", "HvCallCreatePort", "HvCallConnectPort").
 */
#ifndef HV_PORT_H
#define HV_PORT_H

#include "types.h"
#include "vp.h"

#define HV_PORT_TYPE_MESSAGE 1u
#define HV_PORT_TYPE_EVENT 2u
#define HV_PORT_TYPE_MONITOR 3u
#define HV_PORT_TYPE_DOORBELL 4u

/* Port and connection ids have 24 bits */
#define HV_PORT_ID_MASK 0x00FFFFFFu
#define HV_CONNECTION_ID_MASK 0x00FFFFFFu

/* Message and doorbell ports leave the last three at 0; a monitor port has an address in sint and vp */
struct hv_port_info {
	uint32_t port_type;
	uint32_t padding;
	uint32_t target_sint;
	uint32_t target_vp;
	uint16_t base_flag_number;
	uint16_t flag_count;
	uint32_t reserved;
};
HV_ASSERT_SIZE(struct hv_port_info, 24);
HV_ASSERT_OFFSET(struct hv_port_info, port_type, 0);
HV_ASSERT_OFFSET(struct hv_port_info, padding, 4);
HV_ASSERT_OFFSET(struct hv_port_info, target_sint, 8);
HV_ASSERT_OFFSET(struct hv_port_info, target_vp, 12);
HV_ASSERT_OFFSET(struct hv_port_info, base_flag_number, 16);
HV_ASSERT_OFFSET(struct hv_port_info, flag_count, 18);
HV_ASSERT_OFFSET(struct hv_port_info, reserved, 20);

struct hv_monitor_port_info {
	uint32_t port_type;
	uint32_t padding;
	uint64_t monitor_address;
	uint64_t reserved;
};
HV_ASSERT_SIZE(struct hv_monitor_port_info, 24);
HV_ASSERT_OFFSET(struct hv_monitor_port_info, port_type, 0);
HV_ASSERT_OFFSET(struct hv_monitor_port_info, padding, 4);
HV_ASSERT_OFFSET(struct hv_monitor_port_info, monitor_address, 8);
HV_ASSERT_OFFSET(struct hv_monitor_port_info, reserved, 16);

/* HvCallCreatePort */
struct hv_input_create_port {
	uint64_t port_partition_id;
	uint32_t port_id;
	uint8_t port_vtl;
	uint8_t min_connection_vtl;
	uint16_t padding;
	uint64_t connection_partition_id;
	struct hv_port_info port_info;
	struct hv_proximity_domain_info proximity;
};
HV_ASSERT_SIZE(struct hv_input_create_port, 56);
HV_ASSERT_OFFSET(struct hv_input_create_port, port_partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_create_port, port_id, 8);
HV_ASSERT_OFFSET(struct hv_input_create_port, port_vtl, 12);
HV_ASSERT_OFFSET(struct hv_input_create_port, min_connection_vtl, 13);
HV_ASSERT_OFFSET(struct hv_input_create_port, padding, 14);
HV_ASSERT_OFFSET(struct hv_input_create_port, connection_partition_id, 16);
HV_ASSERT_OFFSET(struct hv_input_create_port, port_info, 24);
HV_ASSERT_OFFSET(struct hv_input_create_port, proximity, 48);

/* HvCallDeletePort */
struct hv_input_delete_port {
	uint64_t port_partition_id;
	uint32_t port_id;
	uint32_t reserved;
};
HV_ASSERT_SIZE(struct hv_input_delete_port, 16);
HV_ASSERT_OFFSET(struct hv_input_delete_port, port_partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_delete_port, port_id, 8);
HV_ASSERT_OFFSET(struct hv_input_delete_port, reserved, 12);

/* A doorbell's flags: which stores to `gpa` ring it */
#define HV_DOORBELL_SIZE_MASK 0x00000007ull
#define HV_DOORBELL_SIZE_ANY 0x00000000ull
#define HV_DOORBELL_SIZE_BYTE 0x00000001ull
#define HV_DOORBELL_SIZE_WORD 0x00000002ull
#define HV_DOORBELL_SIZE_DWORD 0x00000003ull
#define HV_DOORBELL_SIZE_QWORD 0x00000004ull
#define HV_DOORBELL_ANY_VALUE 0x80000000ull

/* Monitor connections have their address in `gpa`; message and event connections nothing */
struct hv_connection_info {
	uint32_t port_type;
	uint32_t padding;
	uint64_t gpa;
	uint64_t trigger_value;
	uint64_t flags;
};
HV_ASSERT_SIZE(struct hv_connection_info, 32);
HV_ASSERT_OFFSET(struct hv_connection_info, port_type, 0);
HV_ASSERT_OFFSET(struct hv_connection_info, padding, 4);
HV_ASSERT_OFFSET(struct hv_connection_info, gpa, 8);
HV_ASSERT_OFFSET(struct hv_connection_info, trigger_value, 16);
HV_ASSERT_OFFSET(struct hv_connection_info, flags, 24);

/* HvCallConnectPort */
struct hv_input_connect_port {
	uint64_t connection_partition_id;
	uint32_t connection_id;
	uint8_t connection_vtl;
	uint8_t reserved0;
	uint16_t reserved1;
	uint64_t port_partition_id;
	uint32_t port_id;
	uint32_t reserved2;
	struct hv_connection_info connection_info;
	struct hv_proximity_domain_info proximity;
};
HV_ASSERT_SIZE(struct hv_input_connect_port, 72);
HV_ASSERT_OFFSET(struct hv_input_connect_port, connection_partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_connect_port, connection_id, 8);
HV_ASSERT_OFFSET(struct hv_input_connect_port, connection_vtl, 12);
HV_ASSERT_OFFSET(struct hv_input_connect_port, reserved0, 13);
HV_ASSERT_OFFSET(struct hv_input_connect_port, reserved1, 14);
HV_ASSERT_OFFSET(struct hv_input_connect_port, port_partition_id, 16);
HV_ASSERT_OFFSET(struct hv_input_connect_port, port_id, 24);
HV_ASSERT_OFFSET(struct hv_input_connect_port, reserved2, 28);
HV_ASSERT_OFFSET(struct hv_input_connect_port, connection_info, 32);
HV_ASSERT_OFFSET(struct hv_input_connect_port, proximity, 64);

/* HvCallDisconnectPort */
#define HV_DISCONNECT_PORT_IS_DOORBELL (1u << 0)

struct hv_input_disconnect_port {
	uint64_t connection_partition_id;
	uint32_t connection_id;
	uint32_t flags;
};
HV_ASSERT_SIZE(struct hv_input_disconnect_port, 16);
HV_ASSERT_OFFSET(struct hv_input_disconnect_port, connection_partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_disconnect_port, connection_id, 8);
HV_ASSERT_OFFSET(struct hv_input_disconnect_port, flags, 12);

#endif
