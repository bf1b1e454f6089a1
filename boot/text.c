/* SPDX-License-Identifier: MIT */
/*
 * A small formatter and UTF-8 to UTF-16. The loader links no C library; this is all of one that it
 * needs for telling the user what happened.
 */
#include "text.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct sink {
	char *buf;
	size_t size;
	size_t used;
};

static void put(struct sink *sink, char c)
{
	if (sink->used + 1 < sink->size)
		sink->buf[sink->used++] = c;
}

static void put_bytes(struct sink *sink, const char *s, size_t max)
{
	for (size_t i = 0; i < max && s[i]; i++)
		put(sink, s[i]);
}

static void put_number(struct sink *sink, unsigned long value, unsigned int base)
{
	char digits[20]; /* 2^64 has 20 decimal digits */
	size_t n = 0;

	do {
		digits[n++] = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	while (n)
		put(sink, digits[--n]);
}

static void put_signed(struct sink *sink, long value)
{
	if (value < 0)
		put(sink, '-');
	put_number(sink, value < 0 ? 0ul - (unsigned long)value : (unsigned long)value, 10);
}

size_t text_vformat(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct sink sink = { buf, size, 0 };

	for (; *fmt; fmt++) {
		size_t max = SIZE_MAX;
		bool is_long = false;

		if (*fmt != '%') {
			put(&sink, *fmt);
			continue;
		}
		fmt++;
		if (fmt[0] == '.' && fmt[1] == '*') {
			max = (size_t)va_arg(ap, int);
			fmt += 2;
		}
		if (*fmt == 'l') {
			is_long = true;
			fmt++;
		}
		switch (*fmt) {
		case 's':
			put_bytes(&sink, va_arg(ap, const char *), max);
			break;
		case 'c':
			put(&sink, (char)va_arg(ap, int));
			break;
		case 'd':
			put_signed(&sink, is_long ? va_arg(ap, long) : va_arg(ap, int));
			break;
		case 'u':
		case 'x':
			put_number(&sink, is_long ? va_arg(ap, unsigned long) : va_arg(ap, unsigned int),
				   *fmt == 'x' ? 16 : 10);
			break;
		case '\0':
			fmt--; /* a lone % at the end */
			break;
		default:
			put(&sink, *fmt);
			break;
		}
	}
	if (size)
		buf[sink.used] = '\0';
	return sink.used;
}

size_t text_format(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	len = text_vformat(buf, size, fmt, ap);
	va_end(ap);
	return len;
}

/* One code point from `in`; returns its length in bytes, 0 when malformed. */
static size_t utf8_decode(const char *in, size_t len, uint32_t *code)
{
	static const uint32_t smallest[5] = { 0, 1, 0x80, 0x800, 0x10000 };
	uint8_t first = (uint8_t)in[0];
	size_t bytes = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 0;
	uint32_t value;

	if (!bytes || bytes > len || first >= 0xf8)
		return 0;
	value = bytes == 1 ? first : first & (0x7fu >> bytes);
	for (size_t i = 1; i < bytes; i++) {
		uint8_t next = (uint8_t)in[i];

		if ((next & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (next & 0x3f);
	}
	if (value < smallest[bytes] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return 0;
	*code = value;
	return bytes;
}

long text_utf8_to_utf16(uint16_t *out, size_t out_units, const char *in, size_t len)
{
	size_t used = 0;

	for (size_t i = 0; i < len;) {
		uint32_t code;
		size_t bytes = utf8_decode(in + i, len - i, &code);
		size_t units = bytes && code >= 0x10000 ? 2 : 1;

		if (!bytes)
			return -EILSEQ;
		if (used + units >= out_units)
			return -ENOSPC;
		if (units == 2) {
			code -= 0x10000;
			out[used++] = (uint16_t)(0xd800 | code >> 10);
			code = 0xdc00 | (code & 0x3ff);
		}
		out[used++] = (uint16_t)code;
		i += bytes;
	}
	out[used] = 0;
	return (long)used;
}
