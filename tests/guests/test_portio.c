/* SPDX-License-Identifier: MIT */
/*
 * Port I/O goes to the real devices: PIT, PIC, CMOS clock, PCI configuration, string and wide forms.
 * Only the hypervisor's own log port (COM2) is not there.
 */
#include "lib/guest.h"

#define COM2 0x2f8

static uint8_t cmos(uint8_t reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

static uint32_t pit_count(void)
{
	uint32_t lo;

	outb(0x43, 0x00);
	lo = inb(0x40);
	return lo | (uint32_t)inb(0x40) << 8;
}

static void check_pit(void)
{
	uint32_t a, b;

	outb(0x43, 0x34); /* mode 2 */
	outb(0x40, 0xff);
	outb(0x40, 0xff);
	a = pit_count();
	delay_us(2000);
	b = pit_count();
	/* 2 ms are 2386 ticks; a loaded host may take longer, so only: it counts down. */
	ok(a != b, "PIT counts (%u, %u)", a, b);
	outb(0x43, 0xe2); /* read back the status of channel 0 */
	is(inb(0x40) & 0x3f, 0x34, "PIT status is the programmed mode");
}

static void check_pic(uint8_t base)
{
	outb(0x20, 0x11);
	outb(0x21, base);
	outb(0x21, 0x04);
	outb(0x21, 0x01);
	outb(0xa0, 0x11);
	outb(0xa1, 0x28);
	outb(0xa1, 0x02);
	outb(0xa1, 0x01);
	outb(0x21, 0x5a);
	outb(0xa1, 0xa5);
	is(inb(0x21), 0x5a, "PIC 1 mask");
	is(inb(0xa1), 0xa5, "PIC 2 mask");
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

static void low_vector(struct trap_frame *f)
{
	(void)f;
}

/*
 * The PIT's interrupt through the PIC and LINT0 as ExtINT: the vector is the PIC's. It may be one below 32, where exceptions
 * are: whoever takes the interrupt on the way to the guest must not mistake it.
 */
static void check_extint(uint8_t vector)
{
	uint32_t before = vector_count[0][vector];

	apic_write(APIC_LVT_LINT0, 0x700);
	outb(0x43, 0x34);
	outb(0x40, 0x9c);
	outb(0x40, 0x2e); /* 10 ms */
	outb(0x21, 0xfe);
	if (vector < 32)
		trap_handlers[vector] = low_vector;
	irq_on();
	for (int i = 0; i < 3; i++) {
		ok(wait_for(&vector_count[0][vector], before + 1 + (uint32_t)i, 3000000),
		   "PIT interrupt %d by the PIC, vector 0x%x", i + 1, vector);
		outb(0x20, 0x20);
	}
	irq_off();
	outb(0x21, 0xff);
	apic_write(APIC_LVT_LINT0, LVT_MASKED);
	outb(0x20, 0x20);
}

/* The same through the I/O APIC, with the number of the machine check: an interrupt like any other. */
static void check_low_ioapic_vector(void)
{
	volatile uint32_t *ioapic = (volatile uint32_t *)0xfec00000;
	uint32_t before = vector_count[0][0x12];

	outb(0x21, 0xff);
	trap_handlers[0x12] = low_vector;
	ioapic[0] = 0x10 + 2 * 2 + 1; /* pin 2: the PIT */
	ioapic[4] = 0;
	ioapic[0] = 0x10 + 2 * 2;
	ioapic[4] = 0x12;
	irq_on();
	for (int i = 0; i < 3; i++) {
		ok(wait_for(&vector_count[0][0x12], before + 1 + (uint32_t)i, 3000000),
		   "PIT interrupt %d by the I/O APIC, vector 0x12", i + 1);
		apic_write(APIC_EOI, 0);
	}
	irq_off();
	ioapic[4] = 0x10012;
}

static void check_cmos(void)
{
	uint8_t old = cmos(0x50);

	for (uint8_t v = 1; v; v = (uint8_t)(v << 1)) {
		outb(0x70, 0x50);
		outb(0x71, v);
		if (cmos(0x50) != v) {
			ok(false, "CMOS byte keeps %02x", v);
			return;
		}
	}
	ok(true, "CMOS RAM keeps what is written");
	outb(0x70, 0x50);
	outb(0x71, old);
	ok(cmos(0x0d) & 0x80, "RTC is valid");
	ok(cmos(8) != 0 && cmos(8) <= 0x12, "RTC month");
}

static void check_widths(void)
{
	uint32_t id, word = 0;
	uint8_t s[4] = { 0 };
	uint8_t *p = s;
	uint64_t n = 4;

	outl(0xcf8, 0x80000000);
	id = inl(0xcfc);
	ok((id & 0xffff) == 0x8086, "PCI 0:0.0 by 32-bit ports (%08x)", id);
	__asm__ volatile("inw %%dx, %%ax" : "=a"(word) : "d"(0xcfe), "0"(0));
	is(word & 0xffff, id >> 16, "16-bit IN");
	is(inb(0xcfd), id >> 8 & 0xff, "8-bit IN");
	is(inl(0xcf8), 0x80000000, "32-bit read of the address port");
	__asm__ volatile("cld; rep insb" : "+D"(p), "+c"(n) : "d"(0xcfc) : "memory");
	is(s[0], id & 0xff, "REP INSB reads the port");
	ok(s[1] == s[0] && s[3] == s[0] && n == 0 && p == s + 4,
	   "REP INSB four times, RCX and RDI as they should be");
	p = s;
	s[0] = 0x11;
	n = 1;
	outb(0x70, 0x50);
	__asm__ volatile("cld; rep outsb" : "+S"(p), "+c"(n) : "d"(0x71) : "memory");
	is(cmos(0x50), 0x11, "REP OUTSB writes the port");
	is(inb(0xed), inb(0xed), "a port without device answers");
}

/*
 * Hidden, COM2 keeps nothing and sends nothing, but looks like an idle 16550, or firmware with its console there would
 * wait for ever. The harness looks for INTRUDER in the hypervisor's log.
 */
static void check_com2(void)
{
	uint32_t bytes;

	outb(COM2 + 7, 0x5a);
	if (!under_trivet) {
		is(inb(COM2 + 7), 0x5a, "COM2's scratch register is there, bare");
		return;
	}
	ok(inb(COM2 + 7) != 0x5a, "COM2's scratch register keeps nothing: the port is the hypervisor's");
	outb(COM2 + 3, 0x80);
	ok(inb(COM2 + 3) != 0x80, "nor does its line control");
	outb(COM2 + 3, 0x03);
	for (const char *c = "INTRUDER\r\n"; *c; c++)
		outb(COM2, (uint8_t)*c);
	__asm__ volatile("outw %%ax, %%dx" : : "a"(0x5858), "d"(COM2) : "memory");
	is(inb(COM2 + 5) & 0x61, 0x60, "its line status is idle");
	bytes = inb(COM2) | (uint32_t)inb(COM2 + 1) << 8 | (uint32_t)inb(COM2 + 2) << 16;
	is(inl(COM2 - 1) >> 8, bytes, "32-bit IN over its border");
	__asm__ volatile("inw %%dx, %%ax" : "=a"(bytes) : "d"(COM2 + 4), "0"(0xabcd0000) : "memory");
	is(bytes & ~0xffffu, 0xabcd0000, "a 16-bit IN leaves the upper half of EAX");
	is(bytes >> 8 & 0xff, inb(COM2 + 5), "... and its upper byte is the next port's");
}

void test_main(void)
{
	static const uint8_t bases[] = { 0x20, 0x18, 0x10 };

	if (in_child)
		skip_all("a child has no ports of the machine");
	check_pit();
	for (size_t i = 0; i < ARRAY_LEN(bases); i++) {
		check_pic(bases[i]);
		check_extint(bases[i]);
	}
	check_low_ioapic_vector();
	check_cmos();
	check_widths();
	check_com2();
}
