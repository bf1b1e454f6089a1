/* SPDX-License-Identifier: MIT */
/*
 * Intercept messages: what a parent's monitor finds in a VP's intercept message page, or in the message
 * slot, when the VP did something the hypervisor leaves to it (TLFS "HV_X64_INTERCEPT_MESSAGE_HEADER" and
 * the page of each message).  Most begin with the header.
 */
#ifndef HV_INTERCEPT_H
#define HV_INTERCEPT_H

#include "types.h"
#include "vp.h"

#define HV_INTERCEPT_ACCESS_READ 0u
#define HV_INTERCEPT_ACCESS_WRITE 1u
#define HV_INTERCEPT_ACCESS_EXECUTE 2u

/* execution_state */
#define HV_EXECUTION_STATE_CPL_MASK 0x0003u
#define HV_EXECUTION_STATE_CR0_PE (1u << 2)
#define HV_EXECUTION_STATE_CR0_AM (1u << 3)
#define HV_EXECUTION_STATE_EFER_LMA (1u << 4)
#define HV_EXECUTION_STATE_DEBUG_ACTIVE (1u << 5)
#define HV_EXECUTION_STATE_INTERRUPTION_PENDING (1u << 6)
#define HV_EXECUTION_STATE_VTL_SHIFT 7 /* bits 10:7 */
#define HV_EXECUTION_STATE_ENCLAVE_MODE (1u << 11)
#define HV_EXECUTION_STATE_INTERRUPT_SHADOW (1u << 12)
#define HV_EXECUTION_STATE_VIRTUALIZATION_FAULT (1u << 13)

struct hv_x64_intercept_header {
	uint32_t vp_index;
	uint8_t length_and_cr8; /* 3:0 bytes of the instruction, 7:4 CR8 */
	uint8_t access_type;
	uint16_t execution_state;
	struct hv_x64_segment_register cs;
	uint64_t rip;
	uint64_t rflags;
};
HV_ASSERT_SIZE(struct hv_x64_intercept_header, 40);
HV_ASSERT_OFFSET(struct hv_x64_intercept_header, vp_index, 0);
HV_ASSERT_OFFSET(struct hv_x64_intercept_header, length_and_cr8, 4);
HV_ASSERT_OFFSET(struct hv_x64_intercept_header, access_type, 5);
HV_ASSERT_OFFSET(struct hv_x64_intercept_header, execution_state, 6);
HV_ASSERT_OFFSET(struct hv_x64_intercept_header, cs, 8);
HV_ASSERT_OFFSET(struct hv_x64_intercept_header, rip, 24);
HV_ASSERT_OFFSET(struct hv_x64_intercept_header, rflags, 32);

/* UNMAPPED_GPA, GPA_INTERCEPT, UNACCEPTED_GPA */
#define HV_MEMORY_ACCESS_GVA_VALID 0x01u
#define HV_MEMORY_ACCESS_GVA_GPA_VALID 0x02u
#define HV_MEMORY_ACCESS_HYPERCALL_OUTPUT_PENDING 0x04u
#define HV_MEMORY_ACCESS_TLB_LOCKED_NO_OVERLAY 0x08u

struct hv_x64_memory_intercept {
	struct hv_x64_intercept_header header;
	uint32_t cache_type;
	uint8_t instruction_byte_count;
	uint8_t access_info;
	uint8_t tpr_priority;
	uint8_t reserved;
	uint64_t gva;
	uint64_t gpa;
	uint8_t instruction_bytes[16];
};
HV_ASSERT_SIZE(struct hv_x64_memory_intercept, 80);
HV_ASSERT_OFFSET(struct hv_x64_memory_intercept, header, 0);
HV_ASSERT_OFFSET(struct hv_x64_memory_intercept, cache_type, 40);
HV_ASSERT_OFFSET(struct hv_x64_memory_intercept, instruction_byte_count, 44);
HV_ASSERT_OFFSET(struct hv_x64_memory_intercept, access_info, 45);
HV_ASSERT_OFFSET(struct hv_x64_memory_intercept, tpr_priority, 46);
HV_ASSERT_OFFSET(struct hv_x64_memory_intercept, reserved, 47);
HV_ASSERT_OFFSET(struct hv_x64_memory_intercept, gva, 48);
HV_ASSERT_OFFSET(struct hv_x64_memory_intercept, gpa, 56);
HV_ASSERT_OFFSET(struct hv_x64_memory_intercept, instruction_bytes, 64);

/* INVALID_VP_REGISTER_VALUE */
struct hv_x64_invalid_vp_register {
	uint32_t vp_index;
	uint32_t reserved;
};
HV_ASSERT_SIZE(struct hv_x64_invalid_vp_register, 8);
HV_ASSERT_OFFSET(struct hv_x64_invalid_vp_register, vp_index, 0);
HV_ASSERT_OFFSET(struct hv_x64_invalid_vp_register, reserved, 4);

/* UNSUPPORTED_FEATURE */
#define HV_UNSUPPORTED_FEATURE_INTERCEPT 1u
#define HV_UNSUPPORTED_FEATURE_TASK_SWITCH_TSS 2u

struct hv_x64_unsupported_feature {
	uint32_t vp_index;
	uint32_t feature_code;
	uint64_t feature_parameter;
};
HV_ASSERT_SIZE(struct hv_x64_unsupported_feature, 16);
HV_ASSERT_OFFSET(struct hv_x64_unsupported_feature, vp_index, 0);
HV_ASSERT_OFFSET(struct hv_x64_unsupported_feature, feature_code, 4);
HV_ASSERT_OFFSET(struct hv_x64_unsupported_feature, feature_parameter, 8);

/* HYPERCALL_INTERCEPT */
#define HV_HYPERCALL_INTERCEPT_ISOLATED (1u << 0)

struct HV_PACKED hv_x64_hypercall_intercept {
	struct hv_x64_intercept_header header;
	uint64_t rax;
	uint64_t rbx;
	uint64_t rcx;
	uint64_t rdx;
	uint64_t r8;
	uint64_t rsi;
	uint64_t rdi;
	struct hv_u128 xmm[6];
	uint32_t flags;
};
HV_ASSERT_SIZE(struct hv_x64_hypercall_intercept, 196);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, header, 0);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, rax, 40);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, rbx, 48);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, rcx, 56);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, rdx, 64);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, r8, 72);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, rsi, 80);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, rdi, 88);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, xmm, 96);
HV_ASSERT_OFFSET(struct hv_x64_hypercall_intercept, flags, 192);

/* SYNIC_SINT_DELIVERABLE */
struct hv_x64_sint_deliverable {
	struct hv_x64_intercept_header header;
	uint16_t deliverable_sints;
	uint16_t reserved0;
	uint32_t reserved1;
};
HV_ASSERT_SIZE(struct hv_x64_sint_deliverable, 48);
HV_ASSERT_OFFSET(struct hv_x64_sint_deliverable, header, 0);
HV_ASSERT_OFFSET(struct hv_x64_sint_deliverable, deliverable_sints, 40);
HV_ASSERT_OFFSET(struct hv_x64_sint_deliverable, reserved0, 42);
HV_ASSERT_OFFSET(struct hv_x64_sint_deliverable, reserved1, 44);

/* X64_IO_PORT_INTERCEPT */
#define HV_IO_ACCESS_SIZE_MASK 0x07u
#define HV_IO_ACCESS_STRING 0x08u
#define HV_IO_ACCESS_REP 0x10u

struct hv_x64_io_port_intercept {
	struct hv_x64_intercept_header header;
	uint16_t port;
	uint8_t access_info;
	uint8_t instruction_byte_count;
	uint32_t reserved;
	uint64_t rax;
	uint8_t instruction_bytes[16];
	struct hv_x64_segment_register ds;
	struct hv_x64_segment_register es;
	uint64_t rcx;
	uint64_t rsi;
	uint64_t rdi;
};
HV_ASSERT_SIZE(struct hv_x64_io_port_intercept, 128);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, header, 0);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, port, 40);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, access_info, 42);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, instruction_byte_count, 43);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, reserved, 44);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, rax, 48);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, instruction_bytes, 56);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, ds, 72);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, es, 88);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, rcx, 104);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, rsi, 112);
HV_ASSERT_OFFSET(struct hv_x64_io_port_intercept, rdi, 120);

/* X64_MSR_INTERCEPT */
struct hv_x64_msr_intercept {
	struct hv_x64_intercept_header header;
	uint32_t msr;
	uint32_t reserved;
	uint64_t rdx;
	uint64_t rax;
};
HV_ASSERT_SIZE(struct hv_x64_msr_intercept, 64);
HV_ASSERT_OFFSET(struct hv_x64_msr_intercept, header, 0);
HV_ASSERT_OFFSET(struct hv_x64_msr_intercept, msr, 40);
HV_ASSERT_OFFSET(struct hv_x64_msr_intercept, reserved, 44);
HV_ASSERT_OFFSET(struct hv_x64_msr_intercept, rdx, 48);
HV_ASSERT_OFFSET(struct hv_x64_msr_intercept, rax, 56);

/* X64_CPUID_INTERCEPT */
struct hv_x64_cpuid_intercept {
	struct hv_x64_intercept_header header;
	uint64_t rax;
	uint64_t rcx;
	uint64_t rdx;
	uint64_t rbx;
	uint64_t default_rax;
	uint64_t default_rcx;
	uint64_t default_rdx;
	uint64_t default_rbx;
};
HV_ASSERT_SIZE(struct hv_x64_cpuid_intercept, 104);
HV_ASSERT_OFFSET(struct hv_x64_cpuid_intercept, header, 0);
HV_ASSERT_OFFSET(struct hv_x64_cpuid_intercept, rax, 40);
HV_ASSERT_OFFSET(struct hv_x64_cpuid_intercept, rcx, 48);
HV_ASSERT_OFFSET(struct hv_x64_cpuid_intercept, rdx, 56);
HV_ASSERT_OFFSET(struct hv_x64_cpuid_intercept, rbx, 64);
HV_ASSERT_OFFSET(struct hv_x64_cpuid_intercept, default_rax, 72);
HV_ASSERT_OFFSET(struct hv_x64_cpuid_intercept, default_rcx, 80);
HV_ASSERT_OFFSET(struct hv_x64_cpuid_intercept, default_rdx, 88);
HV_ASSERT_OFFSET(struct hv_x64_cpuid_intercept, default_rbx, 96);

/* X64_EXCEPTION_INTERCEPT */
#define HV_EXCEPTION_INFO_ERROR_CODE_VALID 0x01u
#define HV_EXCEPTION_INFO_SOFTWARE 0x02u

struct hv_x64_exception_intercept {
	struct hv_x64_intercept_header header;
	uint16_t vector;
	uint8_t exception_info;
	uint8_t instruction_byte_count;
	uint32_t error_code;
	uint64_t exception_parameter;
	uint64_t reserved;
	uint8_t instruction_bytes[16];
	struct hv_x64_segment_register ds;
	struct hv_x64_segment_register ss;
	uint64_t gp[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8-r15 */
};
HV_ASSERT_SIZE(struct hv_x64_exception_intercept, 240);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, header, 0);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, vector, 40);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, exception_info, 42);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, instruction_byte_count, 43);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, error_code, 44);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, exception_parameter, 48);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, reserved, 56);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, instruction_bytes, 64);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, ds, 80);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, ss, 96);
HV_ASSERT_OFFSET(struct hv_x64_exception_intercept, gp, 112);

/* X64_INTERRUPTION_DELIVERABLE: a type of HV_INTERRUPTION_* */
struct hv_x64_interruption_deliverable {
	struct hv_x64_intercept_header header;
	uint32_t deliverable_type;
	uint32_t reserved;
};
HV_ASSERT_SIZE(struct hv_x64_interruption_deliverable, 48);
HV_ASSERT_OFFSET(struct hv_x64_interruption_deliverable, header, 0);
HV_ASSERT_OFFSET(struct hv_x64_interruption_deliverable, deliverable_type, 40);
HV_ASSERT_OFFSET(struct hv_x64_interruption_deliverable, reserved, 44);

/* X64_SIPI_INTERCEPT */
struct hv_x64_sipi_intercept {
	struct hv_x64_intercept_header header;
	uint32_t target_vp_index;
	uint32_t vector;
};
HV_ASSERT_SIZE(struct hv_x64_sipi_intercept, 48);
HV_ASSERT_OFFSET(struct hv_x64_sipi_intercept, header, 0);
HV_ASSERT_OFFSET(struct hv_x64_sipi_intercept, target_vp_index, 40);
HV_ASSERT_OFFSET(struct hv_x64_sipi_intercept, vector, 44);

#endif
