/* SPDX-License-Identifier: MIT */
/*
 * A virtual processor's state as calls and shared pages see it (TLFS "Virtual Processors", "Virtual
 * Secure Mode"): values of registers, the VP assist page, the register page, and the inputs of the calls
 * that make, read, write, start and dispatch VPs.  Names of registers are in register_names.h.
 */
#ifndef HV_VP_H
#define HV_VP_H

#include "register_names.h"
#include "synic.h"
#include "types.h"

/* Attributes of a segment, as in bits 55:40 of a descriptor without the limit's bits */
#define HV_SEGMENT_TYPE_MASK 0x000Fu
#define HV_SEGMENT_NON_SYSTEM 0x0010u
#define HV_SEGMENT_DPL_SHIFT 5
#define HV_SEGMENT_PRESENT 0x0080u
#define HV_SEGMENT_RESERVED 0x0F00u
#define HV_SEGMENT_AVAILABLE 0x1000u
#define HV_SEGMENT_LONG 0x2000u
#define HV_SEGMENT_DEFAULT_BIG 0x4000u
#define HV_SEGMENT_GRANULARITY 0x8000u

struct hv_x64_segment_register {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint16_t attributes;
};
HV_ASSERT_SIZE(struct hv_x64_segment_register, 16);
HV_ASSERT_OFFSET(struct hv_x64_segment_register, base, 0);
HV_ASSERT_OFFSET(struct hv_x64_segment_register, limit, 8);
HV_ASSERT_OFFSET(struct hv_x64_segment_register, selector, 12);
HV_ASSERT_OFFSET(struct hv_x64_segment_register, attributes, 14);

struct hv_x64_table_register {
	uint16_t pad[3];
	uint16_t limit;
	uint64_t base;
};
HV_ASSERT_SIZE(struct hv_x64_table_register, 16);
HV_ASSERT_OFFSET(struct hv_x64_table_register, pad, 0);
HV_ASSERT_OFFSET(struct hv_x64_table_register, limit, 6);
HV_ASSERT_OFFSET(struct hv_x64_table_register, base, 8);

/* EXPLICIT_SUSPEND, INTERCEPT_SUSPEND, DISPATCH_SUSPEND */
#define HV_SUSPEND_REGISTER_SUSPENDED (1ull << 0)

/* HV_REGISTER_X64_INTERRUPT_STATE */
#define HV_INTERRUPT_STATE_SHADOW (1ull << 0)
#define HV_INTERRUPT_STATE_NMI_MASKED (1ull << 1)

/* HV_REGISTER_X64_PENDING_INTERRUPTION */
#define HV_PENDING_INTERRUPTION_PENDING (1ull << 0)
#define HV_PENDING_INTERRUPTION_TYPE_SHIFT 1 /* bits 3:1 */
#define HV_PENDING_INTERRUPTION_TYPE_MASK (7ull << 1)
#define HV_PENDING_INTERRUPTION_HAS_ERROR_CODE (1ull << 4)
#define HV_PENDING_INTERRUPTION_LENGTH_SHIFT 5 /* bits 8:5, of the instruction */
#define HV_PENDING_INTERRUPTION_LENGTH_MASK (0xFull << 5)
#define HV_PENDING_INTERRUPTION_NESTED (1ull << 9)
#define HV_PENDING_INTERRUPTION_VECTOR_SHIFT 16 /* bits 31:16 */
#define HV_PENDING_INTERRUPTION_VECTOR_MASK (0xFFFFull << 16)
#define HV_PENDING_INTERRUPTION_ERROR_CODE_SHIFT 32 /* bits 63:32 */
/* its types */
#define HV_INTERRUPTION_INTERRUPT 0u
#define HV_INTERRUPTION_NMI 2u
#define HV_INTERRUPTION_EXCEPTION 3u
#define HV_INTERRUPTION_SOFTWARE_INTERRUPT 4u
#define HV_INTERRUPTION_PRIVILEGED_SOFTWARE_EXCEPTION 5u
#define HV_INTERRUPTION_SOFTWARE_EXCEPTION 6u

/* HV_REGISTER_X64_PENDING_EVENT0: an exception, or an external interrupt, for the next entry */
#define HV_PENDING_EVENT_PENDING (1u << 0)
#define HV_PENDING_EVENT_TYPE_SHIFT 1 /* bits 3:1 (7:1 in newer versions) */
#define HV_PENDING_EVENT_EXCEPTION 0u
#define HV_PENDING_EVENT_EXTERNAL_INTERRUPT 5u

struct hv_x64_pending_exception_event {
	uint16_t pending_and_type; /* bit 0 pending, 3:1 type, 8 error code (15:8 of an interrupt: vector) */
	uint16_t vector;
	uint32_t error_code;
	uint64_t parameter;
};
HV_ASSERT_SIZE(struct hv_x64_pending_exception_event, 16);
HV_ASSERT_OFFSET(struct hv_x64_pending_exception_event, pending_and_type, 0);
HV_ASSERT_OFFSET(struct hv_x64_pending_exception_event, vector, 2);
HV_ASSERT_OFFSET(struct hv_x64_pending_exception_event, error_code, 4);
HV_ASSERT_OFFSET(struct hv_x64_pending_exception_event, parameter, 8);

#define HV_PENDING_EXCEPTION_HAS_ERROR_CODE (1u << 8)

/* HV_REGISTER_DELIVERABILITY_NOTIFICATIONS */
#define HV_DELIVERABILITY_NMI (1ull << 0)
#define HV_DELIVERABILITY_INTERRUPT (1ull << 1)
#define HV_DELIVERABILITY_PRIORITY_SHIFT 2 /* bits 5:2 */
#define HV_DELIVERABILITY_SINTS_SHIFT 48   /* bits 63:48 */

/* HV_REGISTER_INTERNAL_ACTIVITY_STATE */
#define HV_ACTIVITY_STARTUP_SUSPEND (1ull << 0)
#define HV_ACTIVITY_HALT_SUSPEND (1ull << 1)
#define HV_ACTIVITY_IDLE_SUSPEND (1ull << 2)

struct hv_x64_fp_control_status_register {
	uint16_t fp_control;
	uint16_t fp_status;
	uint8_t fp_tag;
	uint8_t reserved;
	uint16_t last_fp_op;
	uint64_t last_fp_rip;
};
HV_ASSERT_SIZE(struct hv_x64_fp_control_status_register, 16);
HV_ASSERT_OFFSET(struct hv_x64_fp_control_status_register, fp_control, 0);
HV_ASSERT_OFFSET(struct hv_x64_fp_control_status_register, fp_status, 2);
HV_ASSERT_OFFSET(struct hv_x64_fp_control_status_register, fp_tag, 4);
HV_ASSERT_OFFSET(struct hv_x64_fp_control_status_register, reserved, 5);
HV_ASSERT_OFFSET(struct hv_x64_fp_control_status_register, last_fp_op, 6);
HV_ASSERT_OFFSET(struct hv_x64_fp_control_status_register, last_fp_rip, 8);

struct hv_x64_xmm_control_status_register {
	uint64_t last_fp_rdp;
	uint32_t xmm_status_control;
	uint32_t xmm_status_control_mask;
};
HV_ASSERT_SIZE(struct hv_x64_xmm_control_status_register, 16);
HV_ASSERT_OFFSET(struct hv_x64_xmm_control_status_register, last_fp_rdp, 0);
HV_ASSERT_OFFSET(struct hv_x64_xmm_control_status_register, xmm_status_control, 8);
HV_ASSERT_OFFSET(struct hv_x64_xmm_control_status_register, xmm_status_control_mask, 12);

/* Any register's value: smaller ones are zero-extended to 128 bits */
union hv_register_value {
	struct hv_u128 reg128;
	uint64_t reg64;
	uint32_t reg32;
	uint16_t reg16;
	uint8_t reg8;
	struct hv_x64_segment_register segment;
	struct hv_x64_table_register table;
	struct hv_x64_fp_control_status_register fp_control_status;
	struct hv_x64_xmm_control_status_register xmm_control_status;
	struct hv_x64_pending_exception_event pending_exception;
};
HV_ASSERT_SIZE(union hv_register_value, 16);
HV_ASSERT_OFFSET(union hv_register_value, reg128, 0);
HV_ASSERT_OFFSET(union hv_register_value, reg64, 0);
HV_ASSERT_OFFSET(union hv_register_value, reg32, 0);
HV_ASSERT_OFFSET(union hv_register_value, reg16, 0);
HV_ASSERT_OFFSET(union hv_register_value, reg8, 0);
HV_ASSERT_OFFSET(union hv_register_value, segment, 0);
HV_ASSERT_OFFSET(union hv_register_value, table, 0);
HV_ASSERT_OFFSET(union hv_register_value, fp_control_status, 0);
HV_ASSERT_OFFSET(union hv_register_value, xmm_control_status, 0);
HV_ASSERT_OFFSET(union hv_register_value, pending_exception, 0);

/* HvCallGetVpRegisters (a list of 32-bit names follows), HvCallSetVpRegisters (of hv_register_assoc) */
struct hv_input_vp_registers {
	uint64_t partition_id;
	uint32_t vp_index;
	hv_input_vtl input_vtl;
	uint8_t reserved[3];
};
HV_ASSERT_SIZE(struct hv_input_vp_registers, 16);
HV_ASSERT_OFFSET(struct hv_input_vp_registers, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_vp_registers, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_vp_registers, input_vtl, 12);
HV_ASSERT_OFFSET(struct hv_input_vp_registers, reserved, 13);

struct hv_register_assoc {
	uint32_t name;
	uint32_t reserved1;
	uint64_t reserved2;
	union hv_register_value value;
};
HV_ASSERT_SIZE(struct hv_register_assoc, 32);
HV_ASSERT_OFFSET(struct hv_register_assoc, name, 0);
HV_ASSERT_OFFSET(struct hv_register_assoc, reserved1, 4);
HV_ASSERT_OFFSET(struct hv_register_assoc, reserved2, 8);
HV_ASSERT_OFFSET(struct hv_register_assoc, value, 16);

/* The page VP_ASSIST_PAGE names */
#define HV_APIC_ASSIST_NO_EOI_REQUIRED (1u << 0)
#define HV_VTL_ENTRY_VTL_CALL 1u
#define HV_VTL_ENTRY_INTERRUPT 2u
#define HV_VTL_ENTRY_INTERCEPT 3u

struct hv_vp_assist_page {
	uint32_t apic_assist;
	uint32_t reserved1;
	uint32_t vtl_entry_reason;
	uint32_t vtl_reserved;
	uint64_t vtl_return_rax;
	uint64_t vtl_return_rcx;
	uint32_t nested_features;
	uint32_t nested_hypercall_controls;
	uint8_t enlighten_vm_entry;
	uint8_t reserved2[7];
	uint64_t current_nested_vmcs;
	uint8_t time_unhalted_timer_expired;
	uint8_t reserved3[7];
	uint8_t virtualization_fault_information[40];
	uint8_t reserved4[8];
	uint8_t intercept_message[256];
	uint8_t vtl_return_actions[256];
};
HV_ASSERT_SIZE(struct hv_vp_assist_page, 624);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, apic_assist, 0);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, reserved1, 4);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, vtl_entry_reason, 8);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, vtl_reserved, 12);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, vtl_return_rax, 16);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, vtl_return_rcx, 24);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, nested_features, 32);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, nested_hypercall_controls, 36);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, enlighten_vm_entry, 40);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, reserved2, 41);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, current_nested_vmcs, 48);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, time_unhalted_timer_expired, 56);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, reserved3, 57);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, virtualization_fault_information, 64);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, reserved4, 104);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, intercept_message, 112);
HV_ASSERT_OFFSET(struct hv_vp_assist_page, vtl_return_actions, 368);

/* The register page (HV_VP_STATE_PAGE_REGISTERS).  `dirty`: classes the VMM wrote, taken on resume. */
#define HV_REGISTER_PAGE_VERSION 1u
#define HV_REGISTER_PAGE_DIRTY_GENERAL (1u << 0)
#define HV_REGISTER_PAGE_DIRTY_IP (1u << 1)
#define HV_REGISTER_PAGE_DIRTY_XMM (1u << 2)
#define HV_REGISTER_PAGE_DIRTY_SEGMENT (1u << 3)
#define HV_REGISTER_PAGE_DIRTY_FLAGS (1u << 4)
#define HV_REGISTER_PAGE_VECTORS 7

struct hv_vp_register_page {
	uint16_t version;
	uint8_t is_valid;
	uint8_t reserved0;
	uint32_t dirty;
	uint64_t gp[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8-r15 */
	uint64_t rip;
	uint64_t rflags;
	uint64_t reserved1;
	struct hv_u128 xmm[6];
	struct hv_x64_segment_register segment[6]; /* es cs ss ds fs gs */
	/* from here on only to be read */
	uint64_t cr0;
	uint64_t cr3;
	uint64_t cr4;
	uint64_t cr8;
	uint64_t efer;
	uint64_t dr7;
	uint64_t pending_interruption;
	uint64_t interrupt_state;
	uint64_t instruction_emulation_hints;
	uint64_t xfem;
	uint8_t reserved2[256];
	/* interrupts to inject at the next dispatch: appended by the VMM, taken by the hypervisor */
	uint8_t interrupt_vector_count;
	uint8_t interrupt_vector[HV_REGISTER_PAGE_VECTORS];
};
HV_ASSERT_SIZE(struct hv_vp_register_page, 696);
HV_ASSERT_OFFSET(struct hv_vp_register_page, version, 0);
HV_ASSERT_OFFSET(struct hv_vp_register_page, is_valid, 2);
HV_ASSERT_OFFSET(struct hv_vp_register_page, reserved0, 3);
HV_ASSERT_OFFSET(struct hv_vp_register_page, dirty, 4);
HV_ASSERT_OFFSET(struct hv_vp_register_page, gp, 8);
HV_ASSERT_OFFSET(struct hv_vp_register_page, rip, 136);
HV_ASSERT_OFFSET(struct hv_vp_register_page, rflags, 144);
HV_ASSERT_OFFSET(struct hv_vp_register_page, reserved1, 152);
HV_ASSERT_OFFSET(struct hv_vp_register_page, xmm, 160);
HV_ASSERT_OFFSET(struct hv_vp_register_page, segment, 256);
HV_ASSERT_OFFSET(struct hv_vp_register_page, cr0, 352);
HV_ASSERT_OFFSET(struct hv_vp_register_page, cr3, 360);
HV_ASSERT_OFFSET(struct hv_vp_register_page, cr4, 368);
HV_ASSERT_OFFSET(struct hv_vp_register_page, cr8, 376);
HV_ASSERT_OFFSET(struct hv_vp_register_page, efer, 384);
HV_ASSERT_OFFSET(struct hv_vp_register_page, dr7, 392);
HV_ASSERT_OFFSET(struct hv_vp_register_page, pending_interruption, 400);
HV_ASSERT_OFFSET(struct hv_vp_register_page, interrupt_state, 408);
HV_ASSERT_OFFSET(struct hv_vp_register_page, instruction_emulation_hints, 416);
HV_ASSERT_OFFSET(struct hv_vp_register_page, xfem, 424);
HV_ASSERT_OFFSET(struct hv_vp_register_page, reserved2, 432);
HV_ASSERT_OFFSET(struct hv_vp_register_page, interrupt_vector_count, 688);
HV_ASSERT_OFFSET(struct hv_vp_register_page, interrupt_vector, 689);

/* HvCallCreateVp: `flags` is the logical processor's index when the root makes its own VPs */
#define HV_SUBNODE_ANY 0u
#define HV_SUBNODE_SOCKET 1u
#define HV_SUBNODE_CLUSTER 2u
#define HV_SUBNODE_L3 3u

struct hv_proximity_domain_info {
	uint32_t domain_id;
	uint32_t flags;
};
HV_ASSERT_SIZE(struct hv_proximity_domain_info, 8);
HV_ASSERT_OFFSET(struct hv_proximity_domain_info, domain_id, 0);
HV_ASSERT_OFFSET(struct hv_proximity_domain_info, flags, 4);

#define HV_PROXIMITY_PREFERRED (1u << 0)
#define HV_PROXIMITY_INFO_VALID (1u << 31)

struct hv_input_create_vp {
	uint64_t partition_id;
	uint32_t vp_index;
	uint8_t padding[3];
	uint8_t subnode_type;
	uint64_t subnode_id;
	struct hv_proximity_domain_info proximity;
	uint64_t flags;
};
HV_ASSERT_SIZE(struct hv_input_create_vp, 40);
HV_ASSERT_OFFSET(struct hv_input_create_vp, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_create_vp, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_create_vp, padding, 12);
HV_ASSERT_OFFSET(struct hv_input_create_vp, subnode_type, 15);
HV_ASSERT_OFFSET(struct hv_input_create_vp, subnode_id, 16);
HV_ASSERT_OFFSET(struct hv_input_create_vp, proximity, 24);
HV_ASSERT_OFFSET(struct hv_input_create_vp, flags, 32);

struct hv_input_delete_vp {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t reserved;
};
HV_ASSERT_SIZE(struct hv_input_delete_vp, 16);
HV_ASSERT_OFFSET(struct hv_input_delete_vp, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_delete_vp, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_delete_vp, reserved, 12);

/* HvCallEnableVpVtl, HvCallStartVirtualProcessor */
struct hv_initial_vp_context {
	uint64_t rip;
	uint64_t rsp;
	uint64_t rflags;
	struct hv_x64_segment_register cs;
	struct hv_x64_segment_register ds;
	struct hv_x64_segment_register es;
	struct hv_x64_segment_register fs;
	struct hv_x64_segment_register gs;
	struct hv_x64_segment_register ss;
	struct hv_x64_segment_register tr;
	struct hv_x64_segment_register ldtr;
	struct hv_x64_table_register idtr;
	struct hv_x64_table_register gdtr;
	uint64_t efer;
	uint64_t cr0;
	uint64_t cr3;
	uint64_t cr4;
	uint64_t pat;
};
HV_ASSERT_SIZE(struct hv_initial_vp_context, 224);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, rip, 0);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, rsp, 8);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, rflags, 16);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, cs, 24);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, ds, 40);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, es, 56);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, fs, 72);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, gs, 88);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, ss, 104);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, tr, 120);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, ldtr, 136);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, idtr, 152);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, gdtr, 168);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, efer, 184);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, cr0, 192);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, cr3, 200);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, cr4, 208);
HV_ASSERT_OFFSET(struct hv_initial_vp_context, pat, 216);

struct hv_input_start_virtual_processor {
	uint64_t partition_id;
	uint32_t vp_index;
	hv_input_vtl target_vtl;
	uint8_t reserved[3];
	struct hv_initial_vp_context context;
};
HV_ASSERT_SIZE(struct hv_input_start_virtual_processor, 240);
HV_ASSERT_OFFSET(struct hv_input_start_virtual_processor, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_start_virtual_processor, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_start_virtual_processor, target_vtl, 12);
HV_ASSERT_OFFSET(struct hv_input_start_virtual_processor, reserved, 13);
HV_ASSERT_OFFSET(struct hv_input_start_virtual_processor, context, 16);

/* HvCallGetVpIndexFromApicId: a list of 32-bit APIC ids follows, indexes come back */
struct hv_input_get_vp_index_from_apic_id {
	uint64_t partition_id;
	hv_input_vtl target_vtl;
	uint8_t reserved[7];
};
HV_ASSERT_SIZE(struct hv_input_get_vp_index_from_apic_id, 16);
HV_ASSERT_OFFSET(struct hv_input_get_vp_index_from_apic_id, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_get_vp_index_from_apic_id, target_vtl, 8);
HV_ASSERT_OFFSET(struct hv_input_get_vp_index_from_apic_id, reserved, 9);

/* HvCallDispatchVp: run a VP on the caller's processor until something needs the caller */
#define HV_DISPATCH_CLEAR_INTERCEPT_SUSPEND 0x01u
#define HV_DISPATCH_ENABLE_CALLER_INTERRUPTS 0x02u
#define HV_DISPATCH_SET_CALLER_SPEC_CTRL 0x04u
#define HV_DISPATCH_SKIP_VP_SPEC_FLUSH 0x08u
#define HV_DISPATCH_SKIP_CALLER_SPEC_FLUSH 0x10u
#define HV_DISPATCH_SKIP_CALLER_USER_SPEC_FLUSH 0x20u
#define HV_DISPATCH_SCAN_INTERRUPT_INJECTION 0x40u
#define HV_DISPATCH_STATE_INVALID 0u
#define HV_DISPATCH_STATE_BLOCKED 1u
#define HV_DISPATCH_STATE_READY 2u
#define HV_DISPATCH_EVENT_NONE 0u
#define HV_DISPATCH_EVENT_SUSPEND 1u
#define HV_DISPATCH_EVENT_INTERCEPT 2u

struct hv_input_dispatch_vp {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t flags;
	uint64_t time_slice_100ns; /* 0: no limit */
	uint64_t spec_ctrl;
};
HV_ASSERT_SIZE(struct hv_input_dispatch_vp, 32);
HV_ASSERT_OFFSET(struct hv_input_dispatch_vp, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_dispatch_vp, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_dispatch_vp, flags, 12);
HV_ASSERT_OFFSET(struct hv_input_dispatch_vp, time_slice_100ns, 16);
HV_ASSERT_OFFSET(struct hv_input_dispatch_vp, spec_ctrl, 24);

struct hv_output_dispatch_vp {
	uint32_t dispatch_state;
	uint32_t dispatch_event;
};
HV_ASSERT_SIZE(struct hv_output_dispatch_vp, 8);
HV_ASSERT_OFFSET(struct hv_output_dispatch_vp, dispatch_state, 0);
HV_ASSERT_OFFSET(struct hv_output_dispatch_vp, dispatch_event, 4);

/* HvCallGetVpCpuidValues: a list of hv_cpuid_leaf follows, four 32-bit values each come back */
#define HV_CPUID_VALUES_USE_VP_XFEM_XSS (1u << 0)
#define HV_CPUID_VALUES_APPLY_REGISTERED (1u << 1)

struct hv_input_get_vp_cpuid_values {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t flags;
	uint32_t reserved;
	uint32_t padding;
};
HV_ASSERT_SIZE(struct hv_input_get_vp_cpuid_values, 24);
HV_ASSERT_OFFSET(struct hv_input_get_vp_cpuid_values, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_get_vp_cpuid_values, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_get_vp_cpuid_values, flags, 12);
HV_ASSERT_OFFSET(struct hv_input_get_vp_cpuid_values, reserved, 16);
HV_ASSERT_OFFSET(struct hv_input_get_vp_cpuid_values, padding, 20);

struct hv_cpuid_leaf {
	uint32_t eax;
	uint32_t ecx;
	uint64_t xfem;
	uint64_t xss;
};
HV_ASSERT_SIZE(struct hv_cpuid_leaf, 24);
HV_ASSERT_OFFSET(struct hv_cpuid_leaf, eax, 0);
HV_ASSERT_OFFSET(struct hv_cpuid_leaf, ecx, 4);
HV_ASSERT_OFFSET(struct hv_cpuid_leaf, xfem, 8);
HV_ASSERT_OFFSET(struct hv_cpuid_leaf, xss, 16);

struct hv_cpuid_values {
	uint32_t eax;
	uint32_t ebx;
	uint32_t ecx;
	uint32_t edx;
};
HV_ASSERT_SIZE(struct hv_cpuid_values, 16);
HV_ASSERT_OFFSET(struct hv_cpuid_values, eax, 0);
HV_ASSERT_OFFSET(struct hv_cpuid_values, ebx, 4);
HV_ASSERT_OFFSET(struct hv_cpuid_values, ecx, 8);
HV_ASSERT_OFFSET(struct hv_cpuid_values, edx, 12);

#endif
