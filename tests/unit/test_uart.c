/* unit: drivers/uart.c */
/* SPDX-License-Identifier: MIT */
/*
 * The UART driver against a modelled 16550, a 16450 without FIFO, an empty port, a floating bus and a dead transmitter.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <trivet/io.h>
#include <trivet/uart.h>

#define PORT 0x2f8

enum kind { NS16550, NS16450, EMPTY, FLOATING };

static struct {
	enum kind kind;
	uint8_t ier, lcr, mcr, fcr, scratch, dll, dlm;
	uint8_t last_byte;    /* on the floating bus */
	uint32_t fifo;	      /* bytes waiting */
	uint32_t drain_reads; /* LSR reads until it is empty; UINT32_MAX: never */
	uint32_t left;
	uint32_t reads;
	uint32_t overruns;
	char sent[4096];
	uint32_t sent_count;
} dev;

static bool fifo_on(void)
{
	return dev.kind == NS16550 && (dev.fcr & 1);
}

uint8_t in8(uint16_t port)
{
	dev.reads++;
	if (dev.kind == EMPTY)
		return 0xff;
	if (dev.kind == FLOATING)
		return dev.last_byte;
	switch (port - PORT) {
	case 1:
		return dev.lcr & 0x80 ? dev.dlm : dev.ier;
	case 2:
		return fifo_on() ? 0xc1 : 0x01;
	case 3:
		return dev.lcr;
	case 4:
		return dev.mcr;
	case 5:
		if (dev.fifo && dev.left != UINT32_MAX && dev.left-- == 0)
			dev.fifo = 0;
		return dev.fifo ? 0 : 0x60;
	case 7:
		return dev.scratch;
	default:
		fail_msg("read of register %d", port - PORT);
		return 0;
	}
}

static void take_byte(uint8_t value)
{
	if (dev.fifo >= (fifo_on() ? 16u : 1u)) {
		dev.overruns++;
		return;
	}
	dev.sent[dev.sent_count++] = (char)value;
	if (!dev.fifo++)
		dev.left = dev.drain_reads;
}

void out8(uint16_t port, uint8_t value)
{
	dev.last_byte = value;
	if (dev.kind == EMPTY || dev.kind == FLOATING)
		return;
	switch (port - PORT) {
	case 0:
		if (dev.lcr & 0x80)
			dev.dll = value;
		else
			take_byte(value);
		break;
	case 1:
		*(dev.lcr & 0x80 ? &dev.dlm : &dev.ier) = value;
		break;
	case 2:
		dev.fcr = value;
		if (value & 4)
			dev.fifo = 0;
		break;
	case 3:
		dev.lcr = value;
		break;
	case 4:
		dev.mcr = value;
		break;
	case 7:
		dev.scratch = value;
		break;
	default:
		fail_msg("write of register %d", port - PORT);
	}
}

static int setup(void **state)
{
	(void)state;
	memset(&dev, 0, sizeof(dev));
	dev.ier = 0x0f;
	dev.lcr = 0x1b;
	dev.dll = 12;
	dev.dlm = 3;
	dev.scratch = 0x77;
	dev.drain_reads = 3;
	return 0;
}

static void test_presence(void **state)
{
	(void)state;
	assert_true(uart_is_present(PORT));
	assert_int_equal(dev.scratch, 0x77);
	assert_int_equal(dev.lcr, 0x1b);
	assert_int_equal(dev.ier, 0x0f);
	dev.kind = EMPTY;
	assert_false(uart_is_present(PORT));
	assert_int_equal(uart_init(PORT), -ENODEV);
	dev.kind = FLOATING;
	for (dev.last_byte = 0; dev.last_byte < 0xff; dev.last_byte++) {
		uint8_t start = dev.last_byte;

		assert_false(uart_is_present(PORT));
		dev.last_byte = start;
	}
}

static void test_init(void **state)
{
	(void)state;
	dev.fifo = 1;
	dev.left = 50; /* firmware's last byte is still on its way */
	assert_int_equal(uart_init(PORT), 0);
	assert_true(dev.reads > 50);
	assert_int_equal(dev.lcr, 0x03);
	assert_int_equal(dev.ier, 0);
	assert_int_equal(dev.dll, 1);
	assert_int_equal(dev.dlm, 0);
	assert_int_equal(dev.fcr & 1, 1);
	assert_int_equal(dev.mcr, 0x03); /* OUT2 off: no interrupt line driven */
}

static void check_text(void)
{
	static const char text[] =
		"one\ntwo\n\nfour has more than sixteen bytes in it, and more\n123456789012345\n";
	static const char want[] =
		"one\r\ntwo\r\n\r\nfour has more than sixteen bytes in it, and more\r\n123456789012345\r\n";

	assert_int_equal(uart_init(PORT), 0);
	dev.reads = 0;
	assert_int_equal(uart_write_text(PORT, text, sizeof(text) - 1), 0);
	assert_int_equal(dev.overruns, 0);
	assert_int_equal(dev.sent_count, sizeof(want) - 1);
	assert_memory_equal(dev.sent, want, sizeof(want) - 1);
}

static void test_text(void **state)
{
	(void)state;
	check_text();
	assert_in_range(dev.reads, 1, 40); /* one wait for 16 bytes */
	setup(NULL);
	dev.kind = NS16450;
	check_text();
	setup(NULL);
	dev.drain_reads = 20000; /* a slow back end */
	check_text();
}

static void test_dead(void **state)
{
	(void)state;
	assert_int_equal(uart_init(PORT), 0);
	dev.drain_reads = UINT32_MAX;
	assert_int_equal(uart_write_text(PORT, "a", 1), 0);
	dev.reads = 0;
	assert_int_equal(uart_write_text(PORT, "b", 1), -ETIMEDOUT);
	assert_in_range(dev.reads, 1000, 200000);
	dev.reads = 0;
	assert_int_equal(uart_write_text(PORT, "a whole line", 12), -ETIMEDOUT);
	assert_in_range(dev.reads, 1000, 200000); /* one time-out, not twelve */
	assert_int_equal(dev.sent_count, 1);
	assert_int_equal(dev.overruns, 0);
	dev.reads = 0;
	assert_int_equal(uart_init(PORT), 0); /* does not hang either */
	assert_in_range(dev.reads, 1, 200000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_presence, setup),
		cmocka_unit_test_setup(test_init, setup),
		cmocka_unit_test_setup(test_text, setup),
		cmocka_unit_test_setup(test_dead, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
