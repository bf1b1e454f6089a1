/* SPDX-License-Identifier: MIT */
/*
 * The loud stop for a bug of ours: who, where, registers, the LP's last exits and a back trace with symbols, on
 * every log sink. Never for anything that a guest can cause.
 */
#ifndef TRIVET_PANIC_H
#define TRIVET_PANIC_H

#include <trivet/assert.h>
#include <trivet/boot_handoff.h>

struct trap_frame;

/* Like panic(), with the registers of the trap that led here. */
_Noreturn void panic_trap(const struct trap_frame *frame, const char *what);

/* Where the symbol table of the image is; before this a back trace shows bare addresses. */
void panic_set_symbols(const struct boot_handoff *handoff);

/* True once some LP has panicked; the others stop at their next NMI. */
bool panic_in_progress(void);

/* Stops this LP for good, quietly. */
_Noreturn void panic_halt(void);

#endif
