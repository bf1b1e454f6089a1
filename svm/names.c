/* SPDX-License-Identifier: MIT */
/* Exit codes by name, for traces and panics. The ring stores them in 32 bits; VMEXIT_INVALID is all ones. */
#include "svm.h"

const char *svm_exit_name(uint32_t code)
{
	switch (code) {
	case SVM_EXIT_CR8_WRITE:
		return "cr8";
	case SVM_EXIT_EXCEPTION_DB:
		return "step";
	case SVM_EXIT_EXCEPTION_AC:
		return "#ac";
	case SVM_EXIT_EXCEPTION_MC:
		return "#mc";
	case SVM_EXIT_INTR:
		return "interrupt";
	case SVM_EXIT_NMI:
		return "nmi";
	case SVM_EXIT_VINTR:
		return "window";
	case SVM_EXIT_CPUID:
		return "cpuid";
	case SVM_EXIT_IRET:
		return "iret";
	case SVM_EXIT_HLT:
		return "hlt";
	case SVM_EXIT_INVLPGA:
		return "invlpga";
	case SVM_EXIT_IOIO:
		return "io";
	case SVM_EXIT_MSR:
		return "msr";
	case SVM_EXIT_SHUTDOWN:
		return "shutdown";
	case SVM_EXIT_RDPMC:
		return "rdpmc";
	case SVM_EXIT_INVD:
	case SVM_EXIT_WBINVD:
		return "wbinvd";
	case SVM_EXIT_MONITOR:
		return "monitor";
	case SVM_EXIT_MWAIT:
	case SVM_EXIT_MWAIT_ARMED:
		return "mwait";
	case SVM_EXIT_XSETBV:
		return "xsetbv";
	case SVM_EXIT_VMRUN:
		return "vmrun";
	case SVM_EXIT_VMMCALL:
		return "vmmcall";
	case SVM_EXIT_VMLOAD:
		return "vmload";
	case SVM_EXIT_VMSAVE:
		return "vmsave";
	case SVM_EXIT_STGI:
		return "stgi";
	case SVM_EXIT_CLGI:
		return "clgi";
	case SVM_EXIT_SKINIT:
		return "skinit";
	case SVM_EXIT_NPF:
	case SVM_EXIT_NPF & 0xff: /* in vp->exit_counts; no exit 0 (CR0 read) is ever asked for */
		return "npf";
	case UINT32_MAX:
		return "invalid";
	default:
		if (code >= SVM_EXIT_EXCEPTION_FIRST && code <= SVM_EXIT_EXCEPTION_LAST)
			return "exception";
		if (code >= SVM_EXIT_DR_FIRST && code <= SVM_EXIT_DR_LAST)
			return "dr";
		return "unknown";
	}
}

/* `index` is an exit code's low byte. */
enum exit_category svm_exit_category(uint32_t index)
{
	switch (index) {
	case SVM_EXIT_CR8_WRITE:
		return EXIT_CATEGORY_CONTROL_REGISTER;
	case SVM_EXIT_DR_FIRST ... SVM_EXIT_DR_LAST:
		return EXIT_CATEGORY_DEBUG_REGISTER;
	case SVM_EXIT_EXCEPTION_FIRST ... SVM_EXIT_EXCEPTION_LAST:
		return EXIT_CATEGORY_EXCEPTION;
	case SVM_EXIT_INTR:
		return EXIT_CATEGORY_INTERRUPT;
	case SVM_EXIT_VINTR:
		return EXIT_CATEGORY_WINDOW;
	case SVM_EXIT_CPUID:
		return EXIT_CATEGORY_CPUID;
	case SVM_EXIT_HLT:
		return EXIT_CATEGORY_HLT;
	case SVM_EXIT_MWAIT:
	case SVM_EXIT_MWAIT_ARMED:
		return EXIT_CATEGORY_MWAIT;
	case SVM_EXIT_IOIO:
		return EXIT_CATEGORY_IO;
	case SVM_EXIT_MSR:
		return EXIT_CATEGORY_MSR;
	case SVM_EXIT_RDPMC:
		return EXIT_CATEGORY_RDPMC;
	case SVM_EXIT_VMMCALL:
		return EXIT_CATEGORY_HYPERCALL;
	case SVM_EXIT_NPF & 0xff: /* the local APIC's page too: the processor doesn't tell */
		return EXIT_CATEGORY_SECOND_STAGE;
	default:
		return EXIT_CATEGORY_OTHER;
	}
}
