/* SPDX-License-Identifier: MIT */
/*
 * The 16550 UART, polled (National PC16550D data sheet: registers and bits). Waits count reads of the line status
 * register, each about a microsecond on hardware, because this must work before any clock is known.
 */
#include <errno.h>
#include <trivet/io.h>
#include <trivet/uart.h>

/* Register offsets from the port. */
#define UART_DATA 0 /* divisor low with LCR_DIVISOR */
#define UART_IER 1  /* divisor high with LCR_DIVISOR */
#define UART_FCR 2  /* written */
#define UART_IIR 2  /* read */
#define UART_LCR 3
#define UART_MCR 4
#define UART_LSR 5
#define UART_SCRATCH 7

#define FCR_ENABLE_AND_CLEAR 0x07
#define IIR_FIFO 0xc0
#define LCR_8N1 0x03
#define LCR_DIVISOR 0x80
#define MCR_DTR_RTS 0x03
#define LSR_THR_EMPTY 0x20
#define LSR_IDLE 0x40

#define FIFO_BYTES 16
#define DIVISOR_115200 1

/* A full FIFO takes 1.4 ms at 115200 baud; slow emulated back ends take longer. */
#define WAIT_READS 100000u

static uint8_t reg_read(uint16_t port, uint8_t reg)
{
	return in8((uint16_t)(port + reg));
}

static void reg_write(uint16_t port, uint8_t reg, uint8_t value)
{
	out8((uint16_t)(port + reg), value);
}

static bool scratch_holds(uint16_t port, uint8_t value)
{
	reg_write(port, UART_SCRATCH, value);
	return reg_read(port, UART_SCRATCH) == value;
}

bool uart_is_present(uint16_t port)
{
	uint8_t scratch;
	bool present;

	/* An empty port reads as all ones; bit 7 of a 16450's LSR is always 0, and no UART has all errors at once. */
	if (reg_read(port, UART_LSR) == 0xff)
		return false;
	scratch = reg_read(port, UART_SCRATCH);
	/* The read between keeps a floating bus from answering with the byte just written. */
	present = scratch_holds(port, 0x5a) && reg_read(port, UART_LSR) != 0x5a && scratch_holds(port, 0xa5);
	if (present)
		reg_write(port, UART_SCRATCH, scratch);
	return present;
}

static int wait_status(uint16_t port, uint8_t bit)
{
	for (uint32_t i = 0; i < WAIT_READS; i++) {
		if (reg_read(port, UART_LSR) & bit)
			return 0;
		cpu_relax();
	}
	return -ETIMEDOUT;
}

int uart_init(uint16_t port)
{
	if (!uart_is_present(port))
		return -ENODEV;
	/* Let out what firmware still has in the FIFO: clearing it below would lose that. If it is stuck, go on. */
	(void)wait_status(port, LSR_IDLE);
	reg_write(port, UART_IER, 0);
	reg_write(port, UART_LCR, LCR_8N1 | LCR_DIVISOR);
	reg_write(port, UART_DATA, DIVISOR_115200);
	reg_write(port, UART_IER, 0);
	reg_write(port, UART_LCR, LCR_8N1);
	reg_write(port, UART_FCR, FCR_ENABLE_AND_CLEAR);
	reg_write(port, UART_MCR, MCR_DTR_RTS);
	return reg_read(port, UART_LCR) == LCR_8N1 ? 0 : -ENODEV;
}

int uart_write_text(uint16_t port, const char *text, size_t length)
{
	/* With a FIFO, "holding register empty" means that all of it is. */
	uint32_t burst = (reg_read(port, UART_IIR) & IIR_FIFO) == IIR_FIFO ? FIFO_BYTES : 1;
	uint32_t room = 0;
	bool after_cr = false;

	for (size_t i = 0; i < length;) {
		bool cr = text[i] == '\n' && !after_cr;

		if (!room) {
			int ret = wait_status(port, LSR_THR_EMPTY);

			if (ret)
				return ret;
			room = burst;
		}
		room--;
		reg_write(port, UART_DATA, cr ? (uint8_t)'\r' : (uint8_t)text[i]);
		after_cr = cr;
		if (!cr)
			i++;
	}
	return 0;
}
