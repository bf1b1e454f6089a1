/* SPDX-License-Identifier: MIT */
/*
 * Port I/O goes to the real devices: PIT, PIC, CMOS clock, PCI configuration, string and wide forms.
 * Only the hypervisor's own log port (COM2) is not there. A child's goes to its monitor in the root: string and wide forms.
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

/* ---- In a child: the monitor's counter, each read one more than the last (tests/vmm/devices.c) ---- */

#define COUNTER 0xb8
#define COUNT_FROM 0xa5fe12f0u /* so that each byte moves soon */
#define ELEMENTS 100u
#define UNTOUCHED 0x77

static uint8_t pages[2 * PAGE] __attribute__((aligned(PAGE)));

#define INS(text) __asm__ volatile(text "; cld" : "+D"(di), "+c"(n) : "d"(COUNTER) : "memory", "cc")

static const struct form {
	const char *name;
	unsigned int bytes;
	bool rep, down, short_address;
} forms[] = {
	{ "INSB", 1, false, false, false },	     { "INSW", 2, false, false, false },
	{ "INSL", 4, false, false, false },	     { "REP INSB", 1, true, false, false },
	{ "REP INSW", 2, true, false, false },	     { "REP INSL", 4, true, false, false },
	{ "REPNE INSB", 1, true, false, false },     { "INSW down", 2, false, true, false },
	{ "REP INSB down", 1, true, true, false },   { "REP INSL down", 4, true, true, false },
	{ "REP INSW by EDI", 2, true, false, true },
};

static void run_form(unsigned int form, uint64_t *index, uint64_t *count)
{
	uint64_t di = *index, n = *count;

	switch (form) {
	case 0:
		INS("insb");
		break;
	case 1:
		INS("insw");
		break;
	case 2:
		INS("insl");
		break;
	case 3:
		INS("rep insb");
		break;
	case 4:
		INS("rep insw");
		break;
	case 5:
		INS("rep insl");
		break;
	case 6:
		INS(".byte 0xf2, 0x6c");
		break;
	case 7:
		INS("std; insw");
		break;
	case 8:
		INS("std; rep insb");
		break;
	case 9:
		INS("std; rep insl");
		break;
	default:
		INS("addr32 rep insw");
		break;
	}
	*index = di;
	*count = n;
}

/* Is each element, from the one at `at` on, what the counter gave, and nothing else changed? */
static bool right_content(const struct form *form, const uint8_t *at, uint32_t elements)
{
	static uint8_t want[sizeof(pages)];

	memset(want, UNTOUCHED, sizeof(want));
	for (uint32_t i = 0; i < elements; i++) {
		uint32_t value = COUNT_FROM + i;
		uint64_t offset = (uint64_t)(at - pages) +
				  (form->down ? 0 - (uint64_t)i * form->bytes : (uint64_t)i * form->bytes);

		memcpy(want + offset, &value, form->bytes);
	}
	for (uint32_t i = 0; i < sizeof(pages); i++)
		if (pages[i] != want[i])
			return false;
	return true;
}

/* Over the border of two pages. Where only ECX and EDI count, the upper halves go (SDM1 3.4.1.1). */
static void check_form(unsigned int number, uint32_t count)
{
	const struct form *form = &forms[number];
	uint64_t upper = form->short_address ? 0x1234567800000000ull : 0;
	uint32_t elements = form->rep ? count : 1;
	uint8_t *at = pages + PAGE + (form->down ? 1 : -1) * 10 * (int)form->bytes;
	uint64_t di = (uint64_t)at | upper, n = count | upper;
	uint64_t moved = (uint64_t)elements * form->bytes;

	memset(pages, UNTOUCHED, sizeof(pages));
	outl(COUNTER, COUNT_FROM);
	run_form(number, &di, &n);
	ok(right_content(form, at, elements), "%s, count %u: what the port gave", form->name, count);
	is(di, (uint64_t)at + (form->down ? 0 - moved : moved), "... RDI");
	is(n, form->rep ? 0 : count, "... RCX");
	is(inl(COUNTER), COUNT_FROM + elements, "... and no element more");
}

static void check_output(void)
{
	static const uint32_t words[] = { 0, 0x11111111, 0x22222222, 0x33334444, 0x55556666 };
	const uint8_t *si = (const uint8_t *)&words[1];
	uint64_t n = 7;

	__asm__ volatile("cld; rep outsw" : "+S"(si), "+c"(n) : "d"(COUNTER) : "memory");
	is(inl(COUNTER), 0x6666, "REP OUTSW: the last of seven");
	ok(si == (const uint8_t *)&words[1] + 14 && !n, "... RSI and RCX");
	si = (const uint8_t *)&words[4];
	n = 4;
	__asm__ volatile("std; rep outsl; cld" : "+S"(si), "+c"(n) : "d"(COUNTER) : "memory");
	is(inl(COUNTER), 0x11111111, "REP OUTSL down: the last of four");
	ok(si == (const uint8_t *)words && !n, "... RSI and RCX");
}

static void check_monitors_ports(void)
{
	uint64_t v = 0x1122334455667788ull;

	for (unsigned int i = 0; i < ARRAY_LEN(forms); i++)
		check_form(i, ELEMENTS);
	check_form(3, 0);
	check_output();
	outl(COUNTER, COUNT_FROM);
	__asm__ volatile("inb %%dx, %%al" : "+a"(v) : "d"(COUNTER));
	is(v, 0x11223344556677f0, "IN to AL leaves the rest of RAX");
	__asm__ volatile("inw %%dx, %%ax" : "+a"(v) : "d"(COUNTER));
	is(v, 0x11223344556612f1, "IN to AX leaves the rest of RAX");
	__asm__ volatile("inl %%dx, %%eax" : "+a"(v) : "d"(COUNTER));
	is(v, COUNT_FROM + 2, "IN to EAX clears the rest of RAX");
	is(inl(0xed), 0xffffffff, "a port without device reads as ones");
}

void test_main(void)
{
	static const uint8_t bases[] = { 0x20, 0x18, 0x10 };

	if (in_child) {
		check_monitors_ports();
		return;
	}
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
