/* SPDX-License-Identifier: MIT */
/* What core/entry.asm pushes for an exception. */
#ifndef CORE_TRAPS_H
#define CORE_TRAPS_H

#include <trivet/exceptions.h>
#include <trivet/types.h>

struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error_code;
	uint64_t rip, cs, rflags, rsp, ss;
};
static_assert(sizeof(struct trap_frame) == 22 * 8, "core/entry.asm");

void trap_handler(struct trap_frame *frame);

#endif
