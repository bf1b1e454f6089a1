/* SPDX-License-Identifier: MIT */
/*
 * Printing on COM1 and the TAP protocol. The plan stands at the end ("1..N"), so that no test has to
 * count; a run without the TAP-END line crashed on its way.
 */
#include "guest.h"

#define COM1 0x3f8
#define DEBUG_EXIT 0xf4
#define BOCHS_SHUTDOWN 0x8900

static unsigned int tests_run, tests_failed;

/* The compiler may call these two. */
__attribute__((weak)) void *memcpy(void *restrict dst, const void *restrict src, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
	return dst;
}

__attribute__((weak)) void *memset(void *dst, int c, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

void serial_init(void)
{
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 0x80);
	outb(COM1 + 0, 1);
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 3);
	outb(COM1 + 2, 7);
	outb(COM1 + 4, 3);
}

/*
 * In a child each access to the port goes to the monitor in the root, so a line goes out with one instruction. Its
 * UART is never busy.
 */
static char line[256];
static unsigned int line_len;

static void flush_line(void)
{
	const char *from = line;
	uint64_t n = line_len;

	__asm__ volatile("cld; rep outsb" : "+S"(from), "+c"(n) : "d"(COM1) : "memory", "cc");
	line_len = 0;
}

static void print_to_monitor(char c)
{
	line[line_len++] = c;
	if (c == '\n' || line_len == sizeof(line))
		flush_line();
}

void print_char(char c)
{
	if (in_child) {
		print_to_monitor(c);
		return;
	}
	for (int i = 0; i < 1000000 && !(inb(COM1 + 5) & 0x20); i++)
		cpu_pause();
	outb(COM1, (uint8_t)c);
}

static void print_number(uint64_t v, unsigned int base, int width, char pad, bool negative)
{
	char buf[24];
	int n = 0;

	do {
		buf[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v);
	if (negative)
		buf[n++] = '-';
	while (n < width && n < (int)sizeof(buf))
		buf[n++] = pad;
	while (n)
		print_char(buf[--n]);
}

void vprint(const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		char pad = ' ';
		int width = 0, longs = 0;

		if (*fmt != '%') {
			print_char(*fmt);
			continue;
		}
		fmt++;
		if (*fmt == '0')
			pad = '0';
		while (*fmt >= '0' && *fmt <= '9')
			width = width * 10 + *fmt++ - '0';
		while (*fmt == 'l' || *fmt == 'z') {
			longs++;
			fmt++;
		}
		if (*fmt == 's') {
			for (const char *s = va_arg(ap, const char *); *s; s++)
				print_char(*s);
		} else if (*fmt == 'c') {
			print_char((char)va_arg(ap, int));
		} else if (*fmt == 'd') {
			int64_t v = longs ? va_arg(ap, int64_t) : va_arg(ap, int);

			print_number(v < 0 ? 0 - (uint64_t)v : (uint64_t)v, 10, width, pad, v < 0);
		} else if (*fmt == 'u' || *fmt == 'x') {
			uint64_t v = longs ? va_arg(ap, uint64_t) : va_arg(ap, unsigned int);

			print_number(v, *fmt == 'u' ? 10 : 16, width, pad, false);
		} else if (*fmt == 'p') {
			print_number(va_arg(ap, uint64_t), 16, 16, '0', false);
		} else {
			print_char(*fmt);
		}
	}
}

void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
}

static void result(bool good, const char *fmt, va_list ap)
{
	tests_run++;
	if (!good)
		tests_failed++;
	print("%sok %u - ", good ? "" : "not ", tests_run);
	vprint(fmt, ap);
}

bool ok(bool good, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	result(good, fmt, ap);
	va_end(ap);
	print("\n");
	return good;
}

bool is(uint64_t got, uint64_t want, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	result(got == want, fmt, ap);
	va_end(ap);
	if (got != want)
		print(" # got 0x%llx want 0x%llx", (unsigned long long)got, (unsigned long long)want);
	print("\n");
	return got == want;
}

void note(const char *fmt, ...)
{
	va_list ap;

	print("# ");
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	print("\n");
}

void skip(const char *what, const char *why)
{
	print("ok %u - %s # SKIP %s\n", ++tests_run, what, why);
}

static void __attribute__((noreturn)) leave(uint32_t code)
{
	if (in_child)
		flush_line();
	for (int i = 0; i < 1000000 && !(inb(COM1 + 5) & 0x40); i++)
		cpu_pause();
	outl(DEBUG_EXIT, code);
	/* Bochs has no such device, and no exit code: it ends at this word, and the TAP tells how it went. */
	for (const char *c = "Shutdown"; *c; c++)
		outb(BOCHS_SHUTDOWN, (uint8_t)*c);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void skip_all(const char *why)
{
	print("1..0 # SKIP %s\nTAP-END\n", why);
	leave(0);
}

void finish(void)
{
	print("1..%u\nTAP-END\n", tests_run);
	leave(tests_failed ? 1 : 0);
}

void bail_out(const char *fmt, ...)
{
	va_list ap;

	print("Bail out! ");
	va_start(ap, fmt);
	vprint(fmt, ap);
	va_end(ap);
	print("\nTAP-END\n");
	leave(2);
}
