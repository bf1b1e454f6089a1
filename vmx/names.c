/* SPDX-License-Identifier: MIT */
/* Exit reasons and VM-instruction errors in words, for traces, statistics and panics. */
#include "vmx.h"

/* SDM3 appendix C. Bits above the basic reason (entry failed, enclave mode) don't change the name. */
static const char *const exit_names[] = {
	[VMX_EXIT_EXCEPTION] = "exception", /* or an NMI */
	[VMX_EXIT_INTR] = "interrupt",
	[VMX_EXIT_TRIPLE_FAULT] = "shutdown",
	[VMX_EXIT_INIT] = "init",
	[VMX_EXIT_SIPI] = "startup",
	[VMX_EXIT_IO_SMI] = "io-smi",
	[VMX_EXIT_SMI] = "smi",
	[VMX_EXIT_INTERRUPT_WINDOW] = "window",
	[VMX_EXIT_NMI_WINDOW] = "nmi-window",
	[VMX_EXIT_TASK_SWITCH] = "task-switch",
	[VMX_EXIT_CPUID] = "cpuid",
	[VMX_EXIT_GETSEC] = "getsec",
	[VMX_EXIT_HLT] = "hlt",
	[VMX_EXIT_INVD] = "invd",
	[VMX_EXIT_INVLPG] = "invlpg",
	[VMX_EXIT_RDPMC] = "rdpmc",
	[VMX_EXIT_RDTSC] = "rdtsc",
	[VMX_EXIT_RSM] = "rsm",
	[VMX_EXIT_VMCALL] = "vmcall",
	[VMX_EXIT_VMCLEAR] = "vmclear",
	[VMX_EXIT_VMLAUNCH] = "vmlaunch",
	[VMX_EXIT_VMPTRLD] = "vmptrld",
	[VMX_EXIT_VMPTRST] = "vmptrst",
	[VMX_EXIT_VMREAD] = "vmread",
	[VMX_EXIT_VMRESUME] = "vmresume",
	[VMX_EXIT_VMWRITE] = "vmwrite",
	[VMX_EXIT_VMXOFF] = "vmxoff",
	[VMX_EXIT_VMXON] = "vmxon",
	[VMX_EXIT_CR] = "cr",
	[VMX_EXIT_DR] = "dr",
	[VMX_EXIT_IO] = "io",
	[VMX_EXIT_RDMSR] = "msr", /* SVM has one exit for both */
	[VMX_EXIT_WRMSR] = "msr",
	[VMX_EXIT_BAD_GUEST_STATE] = "invalid",
	[VMX_EXIT_BAD_MSR_LOAD] = "invalid-msr",
	[VMX_EXIT_MWAIT] = "mwait",
	[VMX_EXIT_MONITOR_TRAP] = "step",
	[VMX_EXIT_MONITOR] = "monitor",
	[VMX_EXIT_PAUSE] = "pause",
	[VMX_EXIT_MACHINE_CHECK] = "machine-check",
	[VMX_EXIT_TPR_BELOW] = "tpr",
	[VMX_EXIT_APIC_ACCESS] = "apic-access",
	[VMX_EXIT_VIRTUAL_EOI] = "eoi",
	[VMX_EXIT_GDTR_IDTR] = "gdtr-idtr",
	[VMX_EXIT_LDTR_TR] = "ldtr-tr",
	[VMX_EXIT_EPT_VIOLATION] = "ept",
	[VMX_EXIT_EPT_MISCONFIG] = "ept-misconfig",
	[VMX_EXIT_INVEPT] = "invept",
	[VMX_EXIT_RDTSCP] = "rdtscp",
	[VMX_EXIT_PREEMPTION_TIMER] = "preemption",
	[VMX_EXIT_INVVPID] = "invvpid",
	[VMX_EXIT_WBINVD] = "wbinvd",
	[VMX_EXIT_XSETBV] = "xsetbv",
	[VMX_EXIT_APIC_WRITE] = "apic-write",
	[VMX_EXIT_RDRAND] = "rdrand",
	[VMX_EXIT_INVPCID] = "invpcid",
	[VMX_EXIT_VMFUNC] = "vmfunc",
	[VMX_EXIT_ENCLS] = "encls",
	[VMX_EXIT_RDSEED] = "rdseed",
	[VMX_EXIT_PML_FULL] = "pml",
	[VMX_EXIT_XSAVES] = "xsaves",
	[VMX_EXIT_XRSTORS] = "xrstors",
	[VMX_EXIT_UMWAIT] = "umwait",
	[VMX_EXIT_TPAUSE] = "tpause",
};

const char *vmx_exit_name(uint32_t code)
{
	uint32_t reason = code & VMX_EXIT_REASON_MASK;

	if (reason >= ARRAY_SIZE(exit_names) || !exit_names[reason])
		return "unknown";
	return exit_names[reason];
}

/* `index` is a basic reason's low byte. */
enum exit_category vmx_exit_category(uint32_t index)
{
	switch (index) {
	case VMX_EXIT_CR:
		return EXIT_CATEGORY_CONTROL_REGISTER;
	case VMX_EXIT_DR:
		return EXIT_CATEGORY_DEBUG_REGISTER;
	case VMX_EXIT_INVLPG:
		return EXIT_CATEGORY_INVALIDATION;
	case VMX_EXIT_EXCEPTION:
		return EXIT_CATEGORY_EXCEPTION;
	case VMX_EXIT_INTR:
		return EXIT_CATEGORY_INTERRUPT;
	case VMX_EXIT_INTERRUPT_WINDOW:
	case VMX_EXIT_TPR_BELOW:
		return EXIT_CATEGORY_WINDOW;
	case VMX_EXIT_CPUID:
		return EXIT_CATEGORY_CPUID;
	case VMX_EXIT_HLT:
		return EXIT_CATEGORY_HLT;
	case VMX_EXIT_MWAIT:
		return EXIT_CATEGORY_MWAIT;
	case VMX_EXIT_IO:
		return EXIT_CATEGORY_IO;
	case VMX_EXIT_RDMSR:
	case VMX_EXIT_WRMSR:
		return EXIT_CATEGORY_MSR;
	case VMX_EXIT_RDPMC:
		return EXIT_CATEGORY_RDPMC;
	case VMX_EXIT_VMCALL:
		return EXIT_CATEGORY_HYPERCALL;
	case VMX_EXIT_EPT_VIOLATION:
	case VMX_EXIT_EPT_MISCONFIG:
		return EXIT_CATEGORY_SECOND_STAGE;
	case VMX_EXIT_APIC_ACCESS:
	case VMX_EXIT_APIC_WRITE:
	case VMX_EXIT_VIRTUAL_EOI:
		return EXIT_CATEGORY_APIC;
	default:
		return EXIT_CATEGORY_OTHER;
	}
}

/* SDM3 31.4, the value of VMCS_INSTRUCTION_ERROR after VMfailValid. 0 is what the field holds before any failure. */
static const char *const error_names[] = {
	[0] = "no error",
	[1] = "VMCALL in VMX root operation",
	[2] = "VMCLEAR with an invalid physical address",
	[3] = "VMCLEAR with the VMXON pointer",
	[4] = "VMLAUNCH with a VMCS that isn't clear",
	[5] = "VMRESUME with a VMCS that isn't launched",
	[6] = "VMRESUME after VMXOFF",
	[7] = "VM entry with invalid control fields",
	[8] = "VM entry with invalid host-state fields",
	[9] = "VMPTRLD with an invalid physical address",
	[10] = "VMPTRLD with the VMXON pointer",
	[11] = "VMPTRLD with a wrong VMCS revision identifier",
	[12] = "VMREAD or VMWRITE of a field that isn't there",
	[13] = "VMWRITE of a read-only field",
	[15] = "VMXON in VMX root operation",
	[16] = "VM entry with an invalid executive-VMCS pointer",
	[17] = "VM entry with an executive VMCS that isn't launched",
	[18] = "VM entry with an executive-VMCS pointer that isn't the VMXON pointer",
	[19] = "VMCALL with a VMCS that isn't clear",
	[20] = "VMCALL with invalid VM-exit control fields",
	[22] = "VMCALL with a wrong MSEG revision identifier",
	[23] = "VMXOFF under dual-monitor treatment of SMIs and SMM",
	[24] = "VMCALL with invalid SMM-monitor features",
	[25] = "VM entry with invalid VM-execution control fields in the executive VMCS",
	[26] = "VM entry with events blocked by MOV SS",
	[28] = "invalid operand of INVEPT or INVVPID",
};

const char *vmx_instruction_error_name(uint32_t error)
{
	if (error >= ARRAY_SIZE(error_names) || !error_names[error])
		return "unknown error";
	return error_names[error];
}
