/* SPDX-License-Identifier: MIT */
/*
 * A 16550 (or 16450/8250) UART by I/O port, polled, transmit only: the hypervisor's log line. Every wait is bounded, so
 * that a dead UART slows the hypervisor down but never hangs it. `port` is the first of its eight I/O ports.
 */
#ifndef TRIVET_UART_H
#define TRIVET_UART_H

#include <trivet/types.h>

/* Whether a UART answers at `port`. Leaves its registers as they were. */
bool uart_is_present(uint16_t port);

/* Sets 115200 baud, 8n1, FIFO on, interrupts off; output still in the FIFO is sent first. -ENODEV: no UART answers. */
int uart_init(uint16_t port);

/*
 * Sends `length` bytes, '\n' as "\r\n". Gives up at the first byte the UART does not take: -ETIMEDOUT, the rest is lost
 * (so a dead UART costs one time-out per call).
 */
int uart_write_text(uint16_t port, const char *text, size_t length);

#endif
