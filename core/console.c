/* SPDX-License-Identifier: MIT */
/*
 * The log's way out: a UART of our own, hidden from the root; or the root's console, left as soon as the root drives it;
 * and the framebuffer until the root starts.
 */
#include "console.h"
#include <trivet/backend.h>
#include <trivet/framebuffer.h>
#include <trivet/host_memory.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/uart.h>

#define UART_PORTS 8

static uint16_t uart_port;
static bool uart_shared;
static bool uart_in_use;
static struct framebuffer framebuffer;
static bool framebuffer_ready;

static void write_uart(struct log_sink *sink, const char *text, size_t length)
{
	(void)sink;
	uart_write_text(uart_port, text, length);
}

static void write_framebuffer(struct log_sink *sink, const char *text, size_t length)
{
	(void)sink;
	framebuffer_write(&framebuffer, text, length);
}

static struct log_sink uart_sink = { .write = write_uart };
static struct log_sink framebuffer_sink = { .write = write_framebuffer };

void console_init_early(const struct boot_handoff *handoff)
{
	if (!handoff->log_port || uart_init(handoff->log_port) != 0)
		return;
	uart_port = handoff->log_port;
	uart_shared = handoff->log_port_shared;
	uart_in_use = log_add_sink(&uart_sink, true) == 0;
}

void console_init(const struct boot_handoff *handoff)
{
	const struct boot_framebuffer *fb = &handoff->framebuffer;
	volatile void *pixels = fb->base_hpa ? host_map_mmio(HPA(fb->base_hpa), fb->size) : NULL;

	if (pixels)
		framebuffer_ready = framebuffer_init(&framebuffer, fb, pixels) == 0;
	if (framebuffer_ready && handoff->log_framebuffer) {
		framebuffer_clear(&framebuffer);
		log_add_sink(&framebuffer_sink, true);
	}
	if (uart_in_use)
		backend->hide_ports(uart_port, UART_PORTS);
}

void console_leave_framebuffer(void)
{
	log_remove_sink(&framebuffer_sink);
}

void console_take_back(void)
{
	if (framebuffer_ready) {
		framebuffer_clear(&framebuffer);
		log_add_sink(&framebuffer_sink, false);
	}
	if (uart_port && !uart_in_use)
		log_add_sink(&uart_sink, false);
}

bool root_takes_port(uint16_t port)
{
	if (!uart_shared || port < uart_port || port >= uart_port + UART_PORTS)
		return false;
	if (uart_in_use) {
		log_info("console: the root drives port 0x%x from now on, the log goes on in its ring",
			 uart_port);
		uart_in_use = false;
		log_remove_sink(&uart_sink);
		backend->allow_ports(uart_port, UART_PORTS);
	}
	return true;
}

uint8_t root_hidden_port_read(uint16_t port)
{
	switch (port - uart_port) {
	case 2: /* IIR: no interrupt */
		return 0x01;
	case 5: /* LSR: transmitter empty, nothing received */
		return 0x60;
	default:
		return 0;
	}
}
