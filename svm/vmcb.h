/* SPDX-License-Identifier: MIT */
/* The virtual machine control block, APM2 appendix B. */
#ifndef SVM_VMCB_H
#define SVM_VMCB_H

#include <trivet/types.h>

struct vmcb_segment {
	uint16_t selector;
	uint16_t attributes; /* descriptor bits 55:52 and 47:40 packed: G D L AVL | P DPL S type */
	uint32_t limit;	     /* in bytes */
	uint64_t base;
};
static_assert(sizeof(struct vmcb_segment) == 16, "APM2 table B-2");

struct vmcb {
	/* Control area, table B-1 */
	uint16_t intercept_cr_read;
	uint16_t intercept_cr_write;
	uint16_t intercept_dr_read;
	uint16_t intercept_dr_write;
	uint32_t intercept_exceptions;
	uint32_t intercepts1; /* INTERCEPT1_* */
	uint32_t intercepts2; /* INTERCEPT2_* */
	uint32_t intercepts3;
	uint8_t reserved_018[0x03c - 0x018];
	uint16_t pause_filter_threshold;
	uint16_t pause_filter_count;
	uint64_t iopm_base_hpa;
	uint64_t msrpm_base_hpa;
	uint64_t tsc_offset;
	uint32_t asid;
	uint8_t tlb_control; /* TLB_CONTROL_* */
	uint8_t reserved_05d[3];
	uint64_t interrupt_control; /* V_* */
	uint64_t interrupt_shadow;  /* bit 0: in the shadow of STI or MOV SS */
	uint64_t exit_code;
	uint64_t exit_info1;
	uint64_t exit_info2;
	uint64_t exit_int_info;	 /* EVENT_* */
	uint64_t nested_control; /* bit 0: nested paging, bit 7: INVLPGB and TLBSYNC */
	uint64_t avic_apic_bar;
	uint64_t ghcb_gpa;
	uint64_t event_injection; /* EVENT_* */
	uint64_t nested_cr3;
	uint64_t lbr_control;
	uint32_t clean_bits;
	uint32_t reserved_0c4;
	uint64_t next_rip;
	uint8_t instruction_length;
	uint8_t instruction_bytes[15];
	uint8_t reserved_0e0[0x400 - 0x0e0];
	/* State save area, table B-2 */
	struct vmcb_segment es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
	uint8_t reserved_4a0[0x4cb - 0x4a0];
	uint8_t cpl;
	uint32_t reserved_4cc;
	uint64_t efer;
	uint8_t reserved_4d8[0x548 - 0x4d8];
	uint64_t cr4;
	uint64_t cr3;
	uint64_t cr0;
	uint64_t dr7;
	uint64_t dr6;
	uint64_t rflags;
	uint64_t rip;
	uint8_t reserved_580[0x5d8 - 0x580];
	uint64_t rsp;
	uint64_t s_cet;
	uint64_t ssp;
	uint64_t isst_addr;
	uint64_t rax;
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t cr2;
	uint8_t reserved_648[0x668 - 0x648];
	uint64_t pat;
	uint64_t debug_control;
	uint8_t reserved_678[0x1000 - 0x678];
};
static_assert(sizeof(struct vmcb) == 0x1000, "one page");
static_assert(offsetof(struct vmcb, intercepts1) == 0x00c, "B-1");
static_assert(offsetof(struct vmcb, iopm_base_hpa) == 0x040, "B-1");
static_assert(offsetof(struct vmcb, asid) == 0x058, "B-1");
static_assert(offsetof(struct vmcb, exit_code) == 0x070, "B-1");
static_assert(offsetof(struct vmcb, exit_int_info) == 0x088, "B-1");
static_assert(offsetof(struct vmcb, event_injection) == 0x0a8, "B-1");
static_assert(offsetof(struct vmcb, next_rip) == 0x0c8, "B-1");
static_assert(offsetof(struct vmcb, es) == 0x400, "B-2");
static_assert(offsetof(struct vmcb, tr) == 0x490, "B-2");
static_assert(offsetof(struct vmcb, efer) == 0x4d0, "B-2");
static_assert(offsetof(struct vmcb, rflags) == 0x570, "B-2");
static_assert(offsetof(struct vmcb, rsp) == 0x5d8, "B-2");
static_assert(offsetof(struct vmcb, rax) == 0x5f8, "B-2; svm/enter.asm");
static_assert(offsetof(struct vmcb, cr2) == 0x640, "B-2");
static_assert(offsetof(struct vmcb, pat) == 0x668, "B-2");

#define INTERCEPT1_INTR BIT(0)
#define INTERCEPT1_NMI BIT(1)
#define INTERCEPT1_VINTR BIT(4)
#define INTERCEPT1_RDPMC BIT(15)
#define INTERCEPT1_CPUID BIT(18)
#define INTERCEPT1_IRET BIT(20)
#define INTERCEPT1_INVD BIT(22)
#define INTERCEPT1_HLT BIT(24)
#define INTERCEPT1_INVLPGA BIT(26)
#define INTERCEPT1_IOIO BIT(27)
#define INTERCEPT1_MSR BIT(28)
#define INTERCEPT1_SHUTDOWN BIT(31)
#define INTERCEPT2_VMRUN BIT(0)
#define INTERCEPT2_VMMCALL BIT(1)
#define INTERCEPT2_VMLOAD BIT(2)
#define INTERCEPT2_VMSAVE BIT(3)
#define INTERCEPT2_STGI BIT(4)
#define INTERCEPT2_CLGI BIT(5)
#define INTERCEPT2_SKINIT BIT(6)
#define INTERCEPT2_WBINVD BIT(9)
#define INTERCEPT2_MONITOR BIT(10)
#define INTERCEPT2_MWAIT BIT(11)
#define INTERCEPT2_MWAIT_ARMED BIT(12)
#define INTERCEPT2_XSETBV BIT(13)
#define INTERCEPT2_RDPRU BIT(14)
#define INTERCEPT3_INVLPGB BIT(0)
#define INTERCEPT3_INVLPGB_ILLEGAL BIT(1)
#define INTERCEPT3_MCOMMIT BIT(3)
#define INTERCEPT3_TLBSYNC BIT(4)

#define TLB_CONTROL_NONE 0
#define TLB_CONTROL_ALL 1
#define TLB_CONTROL_ASID 3 /* needs FlushByAsid */

#define NESTED_PAGING BIT(0)
#define NESTED_INVLPGB BIT(7)

/* interrupt_control, APM2 15.21 */
#define V_TPR_MASK 0xffull
#define V_IRQ BIT(8)
#define V_PRIORITY_SHIFT 16
#define V_PRIORITY_MASK (0xfull << V_PRIORITY_SHIFT)
#define V_IGNORE_TPR BIT(20)
#define V_INTR_MASKING BIT(24)

#define INTERRUPT_SHADOW BIT(0)

/* event_injection and exit_int_info, APM2 15.20 */
#define EVENT_VECTOR_MASK 0xffull
#define EVENT_TYPE_SHIFT 8
#define EVENT_TYPE_MASK (7ull << 8)
#define EVENT_TYPE_INTR (0ull << 8)
#define EVENT_TYPE_NMI (2ull << 8)
#define EVENT_TYPE_EXCEPTION (3ull << 8)
#define EVENT_TYPE_SOFT_INT (4ull << 8)
#define EVENT_ERROR_VALID BIT(11)
#define EVENT_VALID BIT(31)
#define EVENT_ERROR_SHIFT 32

/* exit_code, APM2 appendix C */
enum svm_exit {
	SVM_EXIT_CR8_WRITE = 0x18,
	SVM_EXIT_DR_FIRST = 0x20, /* reads of DR0 to DR15, then writes */
	SVM_EXIT_DR_LAST = 0x3f,
	SVM_EXIT_EXCEPTION_FIRST = 0x40, /* a code for each vector */
	SVM_EXIT_EXCEPTION_DB = 0x41,
	SVM_EXIT_EXCEPTION_AC = 0x51,
	SVM_EXIT_EXCEPTION_MC = 0x52,
	SVM_EXIT_EXCEPTION_LAST = 0x5f,
	SVM_EXIT_INTR = 0x60,
	SVM_EXIT_NMI = 0x61,
	SVM_EXIT_VINTR = 0x64,
	SVM_EXIT_RDPMC = 0x6f,
	SVM_EXIT_CPUID = 0x72,
	SVM_EXIT_IRET = 0x74,
	SVM_EXIT_INVD = 0x76,
	SVM_EXIT_HLT = 0x78,
	SVM_EXIT_INVLPGA = 0x7a,
	SVM_EXIT_IOIO = 0x7b,
	SVM_EXIT_MSR = 0x7c,
	SVM_EXIT_SHUTDOWN = 0x7f,
	SVM_EXIT_VMRUN = 0x80,
	SVM_EXIT_VMMCALL = 0x81,
	SVM_EXIT_VMLOAD = 0x82,
	SVM_EXIT_VMSAVE = 0x83,
	SVM_EXIT_STGI = 0x84,
	SVM_EXIT_CLGI = 0x85,
	SVM_EXIT_SKINIT = 0x86,
	SVM_EXIT_WBINVD = 0x89,
	SVM_EXIT_MONITOR = 0x8a,
	SVM_EXIT_MWAIT = 0x8b,
	SVM_EXIT_MWAIT_ARMED = 0x8c,
	SVM_EXIT_XSETBV = 0x8d,
	SVM_EXIT_NPF = 0x400,
};
#define SVM_EXIT_INVALID UINT64_MAX

/* exit_info1 of a nested page fault, APM2 15.25.6 */
#define NPF_WRITE BIT(1)
#define NPF_FETCH BIT(4)
#define NPF_WALK BIT(33)

/* exit_info1 of an I/O exit, APM2 15.10.2 */
#define IOIO_IN BIT(0)
#define IOIO_STRING BIT(2)
#define IOIO_REP BIT(3)
#define IOIO_SIZE_SHIFT 4

#endif
