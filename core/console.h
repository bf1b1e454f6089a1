/* SPDX-License-Identifier: MIT */
/* Where the log goes. */
#ifndef CORE_CONSOLE_H
#define CORE_CONSOLE_H

#include <trivet/boot_handoff.h>

/* The UART of the hand-off, from the first line on. */
void console_init_early(const struct boot_handoff *handoff);

/* After the final page tables: the framebuffer, and the UART's ports are taken from the root. */
void console_init(const struct boot_handoff *handoff);

/* The root's firmware and system draw on the framebuffer from now on. */
void console_leave_framebuffer(void);

/* For panic: draw on the framebuffer again, and back on a UART that was given up. */
void console_take_back(void);

#endif
