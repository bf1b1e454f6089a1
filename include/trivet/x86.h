/* SPDX-License-Identifier: MIT */
/*
 * The architecture's numbers that more than one file knows: bits of control registers, page tables and CPUID, and MSRs by number.
 * APM2 A and SDM4 2 (MSRs), APM2 3.1 and SDM3 2.5 (control registers), APM3 E and SDM2A "CPUID". What only one file uses is in that file;
 * what belongs together has a header of its own: exceptions.h, apic.h, lapic.h, svm/vmcb.h, vmx/vmcs.h.
 */
#ifndef TRIVET_X86_H
#define TRIVET_X86_H

#include <trivet/types.h>

/* ---- Registers ---- */

#define RFLAGS_ONE BIT(1)
#define RFLAGS_TF BIT(8)
#define RFLAGS_IF BIT(9)
#define RFLAGS_RF BIT(16)
#define RFLAGS_VM BIT(17)
#define RFLAGS_AC BIT(18)

#define CR0_PE BIT(0)
#define CR0_TS BIT(3)
#define CR0_ET BIT(4)
#define CR0_NE BIT(5)
#define CR0_WP BIT(16)
#define CR0_AM BIT(18)
#define CR0_NW BIT(29)
#define CR0_CD BIT(30)
#define CR0_PG BIT(31)

#define CR4_PSE BIT(4)
#define CR4_PAE BIT(5)
#define CR4_MCE BIT(6)
#define CR4_PGE BIT(7)
#define CR4_LA57 BIT(12)
#define CR4_PCIDE BIT(17)
#define CR4_OSXSAVE BIT(18)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define CR4_PKE BIT(22)
#define CR4_CET BIT(23)

#define XCR0_X87 BIT(0)

#define DR6_BS BIT(14)
#define DR7_ENABLED 0xffull /* L0 to G3 */
#define DR7_ONES 0x400ull
#define DR7_GD BIT(13)
#define DR7_ZERO 0xd000ull

/* Rights of a segment, as in the second half of its descriptor (APM2 4.7, SDM3 3.4.5), from bit 8 on. */
#define RIGHTS_TYPE 0xfu
#define RIGHTS_NOT_SYSTEM 0x10u
#define RIGHTS_DPL_SHIFT 5
#define RIGHTS_PRESENT 0x80u
#define RIGHTS_LONG 0x2000u
#define RIGHTS_BIG 0x4000u
#define RIGHTS_GRANULARITY 0x8000u
#define RIGHTS_8086 0xf3u /* of all segments in virtual-8086 mode */

#define SELECTOR_RPL 3u
#define SELECTOR_TI 4u

/* x87 and SSE (SDM1 8.1.5, 10.2.3, 11.6.6) */
#define FCW_INITIAL 0x37fu /* FNINIT's */
#define MXCSR_INITIAL 0x1f80u
#define MXCSR_MASK_DEFAULT 0xffbfu /* where FXSAVE gives none */

/* ---- Page tables: APM2 5.3, SDM3 4.5 ---- */

#define PTE_PRESENT BIT(0)
#define PTE_WRITE BIT(1)
#define PTE_LARGE BIT(7)
#define PTE_GLOBAL BIT(8)
#define PTE_NX BIT(63)
#define PTE_ADDRESS 0x000ffffffffff000ull

/* ---- MSRs ---- */

#define MSR_TSC 0x10u
#define MSR_APIC_BASE 0x1bu
#define MSR_TSC_ADJUST 0x3bu
#define MSR_SPEC_CTRL 0x48u
#define MSR_PRED_CMD 0x49u
#define MSR_BIOS_UPDT_TRIG 0x79u
#define MSR_MICROCODE_LEVEL 0x8bu
#define MSR_UMWAIT_CONTROL 0xe1u
#define MSR_MPERF 0xe7u /* then APERF */
#define MSR_MTRR_CAP 0xfeu
#define MSR_TSX_CTRL 0x122u
#define MSR_SYSENTER_CS 0x174u
#define MSR_SYSENTER_ESP 0x175u
#define MSR_SYSENTER_EIP 0x176u
#define MSR_MCG_STATUS 0x17au
#define MSR_MISC_ENABLE 0x1a0u
#define MSR_XFD 0x1c4u /* then XFD_ERR */
#define MSR_DEBUGCTL 0x1d9u
#define MSR_MTRR_PHYS_BASE 0x200u /* and a mask, for each range */
#define MSR_MTRR_PHYS_MASK 0x201u
#define MSR_MTRR_FIX_64K 0x250u
#define MSR_MTRR_FIX_16K 0x258u /* two */
#define MSR_MTRR_FIX_4K 0x268u	/* eight */
#define MSR_PAT 0x277u
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define MSR_U_CET 0x6a0u
#define MSR_S_CET 0x6a2u
#define MSR_PL0_SSP 0x6a4u /* to PL3_SSP */
#define MSR_ISST 0x6a8u
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_BNDCFGS 0xd90u
#define MSR_XSS 0xda0u
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u
#define MSR_HWCR 0xc0010015u
#define MSR_VM_CR 0xc0010114u

#define APIC_BASE_BSP BIT(8)
#define APIC_BASE_X2 BIT(10)
#define APIC_BASE_EN BIT(11)

#define PRED_CMD_IBPB BIT(0)

#define MTRR_CAP_FIXED BIT(8)

#define DEBUGCTL_LBR BIT(0)
#define DEBUGCTL_BTF BIT(1)

#define PAT_RESET 0x0007040600070406ull

#define EFER_SCE BIT(0)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

/* ---- CPUID ---- */

#define CPUID_VENDOR_INTEL_EBX 0x756e6547u /* "Genu" */
#define CPUID_1_ECX_X2APIC BIT(21)
#define CPUID_1_ECX_TSC_DEADLINE BIT(24)
#define CPUID_1_ECX_XSAVE BIT(26)
#define CPUID_1_ECX_HYPERVISOR BIT(31)
#define CPUID_7_ECX_PKU BIT(3)
#define CPUID_7_ECX_SHSTK BIT(7)
#define CPUID_7_ECX_RDPID BIT(22)
#define CPUID_7_1_EAX_FRED BIT(17)
#define CPUID_XSTATE 0xdu
#define CPUID_XSTATE_1_EAX_XSAVES BIT(3)
#define CPUID_EXTENDED 0x80000001u
#define CPUID_EXTENDED_EDX_SYSCALL BIT(11) /* Intel: only in 64-bit code, SDM2A table 3-8 */
#define CPUID_EXTENDED_EDX_NX BIT(20)
#define CPUID_EXTENDED_EDX_RDTSCP BIT(27)

#endif
