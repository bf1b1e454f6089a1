/* SPDX-License-Identifier: MIT */
/*
 * Ports: a UART that is never busy, a clock (the TSC's frequency in kHz), a counter (a read gives one more than the one before, a
 * write says what comes next), the ports by which a guest ends, those of the program; all others read as ones.
 */
#include <string.h>

#include "machine.h"

#define COM1 0x3f8u
#define UART_LINE_CONTROL 3u
#define UART_LINE_STATUS 5u
#define UART_DIVISOR_LATCH 0x80u /* in line control: registers 0 and 1 are the divisor */
#define UART_IDLE 0x60u		 /* transmitter and holding register empty */
#define UART_NO_INTERRUPT 0x01u
#define CLOCK 0xb4u
#define COUNTER 0xb8u
#define DEBUG_EXIT 0xf4u
#define RESET_CONTROL 0xcf9u
#define RESET_CPU 0x04u

static pthread_mutex_t serial_lock = PTHREAD_MUTEX_INITIALIZER;

static void uart_write(struct machine *m, unsigned int reg, uint8_t value)
{
	if (reg == UART_LINE_CONTROL)
		m->line_control = value;
	if (reg || (m->line_control & UART_DIVISOR_LATCH))
		return;
	pthread_mutex_lock(&serial_lock);
	putc(value, m->serial);
	if (value == '\n')
		fflush(m->serial);
	pthread_mutex_unlock(&serial_lock);
}

static uint8_t uart_read(const struct machine *m, unsigned int reg)
{
	switch (reg) {
	case 2:
		return UART_NO_INTERRUPT;
	case UART_LINE_CONTROL:
		return m->line_control;
	case UART_LINE_STATUS:
		return UART_IDLE;
	default:
		return 0;
	}
}

static uint32_t ones(unsigned int bytes)
{
	return bytes >= 4 ? ~0u : (1u << bytes * 8) - 1;
}

static void port_write(struct vp *vp, uint16_t port, unsigned int bytes, uint32_t value)
{
	struct machine *m = vp->machine;

	value &= ones(bytes);
	if (m->port && m->port(vp, port, bytes, true, &value))
		return;
	if (port >= COM1 && port < COM1 + 8 && bytes == 1)
		uart_write(m, port - COM1, (uint8_t)value);
	else if (port == COUNTER)
		m->counter = value;
	else if (port == DEBUG_EXIT)
		machine_end(m, (int)(value & 0x3f));
	else if (port == RESET_CONTROL && bytes == 1 && (value & RESET_CPU)) {
		fprintf(stderr, "vmm: the guest resets its machine\n");
		machine_end(m, ENDED_RESET);
	}
}

static uint32_t port_read(struct vp *vp, uint16_t port, unsigned int bytes)
{
	struct machine *m = vp->machine;
	uint32_t value = ones(bytes);

	if (m->port && m->port(vp, port, bytes, false, &value))
		return value & ones(bytes);
	if (port >= COM1 && port < COM1 + 8 && bytes == 1)
		return uart_read(m, port - COM1);
	if (port == CLOCK && bytes == 4)
		return m->tsc_khz;
	if (port == COUNTER)
		return m->counter++ & ones(bytes);
	return value;
}

/* ---- String instructions ---- */

static bool in_64bit_mode(const struct hv_x64_io_port_intercept *io)
{
	return (io->header.execution_state & HV_EXECUTION_STATE_EFER_LMA) &&
	       (io->header.cs.attributes & HV_SEGMENT_LONG);
}

/* Bits of an address, by the code segment and a 67 prefix before the opcode (6C to 6F). */
static unsigned int address_bits(const struct hv_x64_io_port_intercept *io)
{
	unsigned int bits = 16;
	bool prefix = false;

	if (in_64bit_mode(io))
		bits = 64;
	else if (io->header.cs.attributes & HV_SEGMENT_DEFAULT_BIG)
		bits = 32;
	for (unsigned int i = 0; i < io->instruction_byte_count && i < sizeof(io->instruction_bytes); i++) {
		if (io->instruction_bytes[i] >= 0x6c && io->instruction_bytes[i] <= 0x6f)
			break;
		prefix = prefix || io->instruction_bytes[i] == 0x67;
	}
	if (prefix)
		bits = bits == 32 ? 16 : 32;
	return bits;
}

static uint64_t masked(uint64_t value, unsigned int bits)
{
	return bits == 64 ? value : value & ((1ull << bits) - 1);
}

/* Leaves what is above the address size alone, but for 32 bits, which clear it (SDM1 3.4.1.1). */
static uint64_t merged(uint64_t old, uint64_t value, unsigned int bits)
{
	return bits == 16 ? (old & ~0xffffull) | (value & 0xffff) : masked(value, bits);
}

static void *guest_bytes(struct vp *vp, uint64_t gva, unsigned int bytes, bool write)
{
	uint64_t gpa;

	if (gva % PAGE + bytes > PAGE || !translate(vp->fd, vp->index, gva, write, &gpa))
		return NULL;
	return ram_at(vp->machine, gpa, bytes);
}

/*
 * INS, OUTS: all of it at once. The element's address is that of the default segment: nobody here overrides it. An element over
 * a page border, or one that isn't RAM, ends the run.
 */
static void string_io(struct vp *vp, const struct hv_x64_io_port_intercept *io)
{
	bool write = io->header.access_type == HV_INTERCEPT_ACCESS_WRITE,
	     rep = io->access_info & HV_IO_ACCESS_REP;
	unsigned int bytes = io->access_info & HV_IO_ACCESS_SIZE_MASK, bits = address_bits(io);
	uint64_t step = (io->header.rflags & 0x400) ? 0 - (uint64_t)bytes : bytes;
	uint64_t index = write ? io->rsi : io->rdi, base = 0;
	uint64_t count = rep ? masked(io->rcx, bits) : 1;

	if (!in_64bit_mode(io)) /* where DS and ES have none (SDM1 3.4.4) */
		base = write ? io->ds.base : io->es.base;

	for (; count; count--) {
		uint8_t *at = guest_bytes(vp, masked(base + masked(index, bits), in_64bit_mode(io) ? 64 : 32),
					  bytes, !write);
		uint32_t value = 0;

		if (!at) {
			fprintf(stderr, "vmm: string I/O at %#llx, which isn't RAM\n",
				(unsigned long long)index);
			machine_end(vp->machine, ENDED_UNMAPPED);
		}
		if (write) {
			memcpy(&value, at, bytes);
			port_write(vp, io->port, bytes, value);
		} else {
			value = port_read(vp, io->port, bytes);
			memcpy(at, &value, bytes);
		}
		index += step;
	}
	if (write)
		vp_set_general(vp, 6, merged(io->rsi, index, bits));
	else
		vp_set_general(vp, 7, merged(io->rdi, index, bits));
	if (rep)
		vp_set_general(vp, 1, merged(io->rcx, 0, bits));
}

/* A 32-bit destination clears the upper half, a smaller one leaves the rest (SDM1 3.4.1.1). */
static uint64_t with_input(uint64_t rax, unsigned int bytes, uint32_t value)
{
	return bytes == 4 ? value : (rax & ~(uint64_t)ones(bytes)) | value;
}

void handle_port(struct vp *vp, const struct hv_message *message)
{
	const struct hv_x64_io_port_intercept *io = (const void *)message->payload.bytes;
	unsigned int bytes = io->access_info & HV_IO_ACCESS_SIZE_MASK;

	if (bytes != 1 && bytes != 2 && bytes != 4)
		die("vmm: port access of %u bytes", bytes);
	if (!instruction_length(&io->header))
		die("vmm: port intercept without the instruction's length");
	vp_set_rip(vp, io->header.rip + instruction_length(&io->header));
	if (io->access_info & HV_IO_ACCESS_STRING)
		string_io(vp, io);
	else if (io->header.access_type != HV_INTERCEPT_ACCESS_WRITE)
		vp_set_general(vp, 0, with_input(io->rax, bytes, port_read(vp, io->port, bytes)));
	else if (io->port == FIRMWARE_PORT)
		firmware_call(vp, (uint32_t)io->rax);
	else
		port_write(vp, io->port, bytes, (uint32_t)io->rax);
}
