/* SPDX-License-Identifier: MIT */
/*
 * A VP's state in larger pieces: pages that hypervisor and monitor share for one VP, and whole components
 * saved and restored (TLFS "HvCallMapVpStatePage", "HvCallUnmapVpStatePage", "HvCallGetVpState",
 * "HvCallSetVpState").
 */
#ifndef HV_VP_STATE_H
#define HV_VP_STATE_H

#include "types.h"

/* HvCallMapVpStatePage, HvCallUnmapVpStatePage */
#define HV_VP_STATE_PAGE_REGISTERS 0u
#define HV_VP_STATE_PAGE_INTERCEPT_MESSAGE 1u
#define HV_VP_STATE_PAGE_GHCB 2u
#define HV_VP_STATE_PAGE_LOCATION_PROVIDED 0x01u /* flag: requested_map_gpn is valid */

struct hv_input_map_vp_state_page {
	uint64_t partition_id;
	uint32_t vp_index;
	uint16_t type;
	hv_input_vtl input_vtl;
	uint8_t flags;
	uint64_t requested_map_gpn;
};
HV_ASSERT_SIZE(struct hv_input_map_vp_state_page, 24);
HV_ASSERT_OFFSET(struct hv_input_map_vp_state_page, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_map_vp_state_page, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_map_vp_state_page, type, 12);
HV_ASSERT_OFFSET(struct hv_input_map_vp_state_page, input_vtl, 14);
HV_ASSERT_OFFSET(struct hv_input_map_vp_state_page, flags, 15);
HV_ASSERT_OFFSET(struct hv_input_map_vp_state_page, requested_map_gpn, 16);

struct hv_output_map_vp_state_page {
	uint64_t map_gpn;
};
HV_ASSERT_SIZE(struct hv_output_map_vp_state_page, 8);
HV_ASSERT_OFFSET(struct hv_output_map_vp_state_page, map_gpn, 0);

struct hv_input_unmap_vp_state_page {
	uint64_t partition_id;
	uint32_t vp_index;
	uint16_t type;
	hv_input_vtl input_vtl;
	uint8_t reserved;
};
HV_ASSERT_SIZE(struct hv_input_unmap_vp_state_page, 16);
HV_ASSERT_OFFSET(struct hv_input_unmap_vp_state_page, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_unmap_vp_state_page, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_unmap_vp_state_page, type, 12);
HV_ASSERT_OFFSET(struct hv_input_unmap_vp_state_page, input_vtl, 14);
HV_ASSERT_OFFSET(struct hv_input_unmap_vp_state_page, reserved, 15);

/* HvCallGetVpState, HvCallSetVpState; bit 31 of a type: the data is in pages of the caller */
#define HV_VP_STATE_BY_PAGES 0x80000000u
#define HV_VP_STATE_LAPIC 0x80000000u
#define HV_VP_STATE_XSAVE 0x80000001u
#define HV_VP_STATE_SIM_PAGE 0x80000002u
#define HV_VP_STATE_SIEF_PAGE 0x80000003u
#define HV_VP_STATE_SYNTHETIC_TIMERS 0x00000004u

struct hv_input_vp_state {
	uint64_t partition_id;
	uint32_t vp_index;
	hv_input_vtl input_vtl;
	uint8_t reserved0[3];
	uint32_t type;
	uint32_t reserved1;
	uint64_t xsave_flags;
	uint64_t xsave_states;
};
HV_ASSERT_SIZE(struct hv_input_vp_state, 40);
HV_ASSERT_OFFSET(struct hv_input_vp_state, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_vp_state, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_vp_state, input_vtl, 12);
HV_ASSERT_OFFSET(struct hv_input_vp_state, reserved0, 13);
HV_ASSERT_OFFSET(struct hv_input_vp_state, type, 16);
HV_ASSERT_OFFSET(struct hv_input_vp_state, reserved1, 20);
HV_ASSERT_OFFSET(struct hv_input_vp_state, xsave_flags, 24);
HV_ASSERT_OFFSET(struct hv_input_vp_state, xsave_states, 32);

struct hv_vp_state_timer {
	uint32_t flags;
	uint32_t reserved;
	uint64_t config;
	uint64_t count;
	uint64_t adjustment;
	uint64_t undelivered_expiration_time;
};
HV_ASSERT_SIZE(struct hv_vp_state_timer, 40);
HV_ASSERT_OFFSET(struct hv_vp_state_timer, flags, 0);
HV_ASSERT_OFFSET(struct hv_vp_state_timer, reserved, 4);
HV_ASSERT_OFFSET(struct hv_vp_state_timer, config, 8);
HV_ASSERT_OFFSET(struct hv_vp_state_timer, count, 16);
HV_ASSERT_OFFSET(struct hv_vp_state_timer, adjustment, 24);
HV_ASSERT_OFFSET(struct hv_vp_state_timer, undelivered_expiration_time, 32);

#define HV_VP_STATE_TIMER_UNDELIVERED_MESSAGE (1u << 0)

struct hv_vp_state_timers {
	struct hv_vp_state_timer timer[4];
	uint64_t reserved[5];
};
HV_ASSERT_SIZE(struct hv_vp_state_timers, 200);
HV_ASSERT_OFFSET(struct hv_vp_state_timers, timer, 0);
HV_ASSERT_OFFSET(struct hv_vp_state_timers, reserved, 160);

struct hv_vp_state_lapic {
	uint32_t id;
	uint32_t version;
	uint32_t ldr;
	uint32_t dfr;
	uint32_t spurious;
	uint32_t isr[8];
	uint32_t tmr[8];
	uint32_t irr[8];
	uint32_t esr;
	uint32_t icr_high;
	uint32_t icr_low;
	uint32_t lvt_timer;
	uint32_t lvt_thermal;
	uint32_t lvt_perfmon;
	uint32_t lvt_lint0;
	uint32_t lvt_lint1;
	uint32_t lvt_error;
	uint32_t lvt_cmci;
	uint32_t error_status;
	uint32_t initial_count;
	uint32_t current_count;
	uint32_t divide_configuration;
	uint32_t remote_read;
};
HV_ASSERT_SIZE(struct hv_vp_state_lapic, 176);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, id, 0);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, version, 4);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, ldr, 8);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, dfr, 12);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, spurious, 16);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, isr, 20);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, tmr, 52);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, irr, 84);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, esr, 116);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, icr_high, 120);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, icr_low, 124);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, lvt_timer, 128);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, lvt_thermal, 132);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, lvt_perfmon, 136);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, lvt_lint0, 140);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, lvt_lint1, 144);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, lvt_error, 148);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, lvt_cmci, 152);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, error_status, 156);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, initial_count, 160);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, current_count, 164);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, divide_configuration, 168);
HV_ASSERT_OFFSET(struct hv_vp_state_lapic, remote_read, 172);

#endif
