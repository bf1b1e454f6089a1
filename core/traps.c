/* SPDX-License-Identifier: MIT */
/*
 * Exceptions while the hypervisor itself runs. A load through a guest's address goes on at its fix-up; an NMI or a
 * machine check in the exit loop's window is noted for later; everything else is a bug of ours.
 */
#include "traps.h"
#include <trivet/guest_read.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/panic.h>
#include <trivet/x86.h>

#define MCG_STATUS_MCIP BIT(2)

extern const struct extable_entry __extable_start[], __extable_end[];

static bool go_to_fixup(struct trap_frame *frame)
{
	for (const struct extable_entry *e = __extable_start; e < __extable_end; e++) {
		if ((uint64_t)&e->insn + (uint64_t)(int64_t)e->insn == frame->rip) {
			frame->rip = (uint64_t)&e->fixup + (uint64_t)(int64_t)e->fixup;
			return true;
		}
	}
	return false;
}

void trap_handler(struct trap_frame *frame)
{
	static const char *const names[32] = {
		"divide error",
		"debug",
		"NMI",
		"breakpoint",
		"overflow",
		"bound range",
		"invalid opcode",
		"device not available",
		"double fault",
		"coprocessor overrun",
		"invalid TSS",
		"segment not present",
		"stack fault",
		"general protection",
		"page fault",
		"reserved 15",
		"x87 error",
		"alignment check",
		"machine check",
		"SIMD error",
		"virtualization",
		"control protection",
	};

	switch (frame->vector) {
	case VECTOR_DB:
		/* A breakpoint that a guest left in DR7, on an address of ours (QEMU 7.2 keeps DR7 over #VMEXIT). */
		__asm__ volatile("movq %0, %%dr7" ::"r"(0x400ull));
		return;
	case VECTOR_NMI:
		if (panic_in_progress())
			panic_halt();
		atomic_store_explicit(&this_lp()->nmi_taken, 1, memory_order_relaxed);
		lp_kick_from_nmi(this_lp()); /* it may have come just before the LP halts */
		return;
	case VECTOR_MC:
		/* An interrupt of the root's may have this number: a machine check says so itself (APM2 9.3.1). */
		if (lp_in_window(frame->rip) && !(rdmsr(MSR_MCG_STATUS) & MCG_STATUS_MCIP)) {
			this_lp()->acked[0] |= BIT(VECTOR_MC);
			return;
		}
		break;
	case VECTOR_GP:
	case VECTOR_PF:
		if (go_to_fixup(frame))
			return;
		break;
	default:
		break;
	}
	panic_trap(frame, names[frame->vector & 31] ? names[frame->vector & 31] : "exception");
}
