/* SPDX-License-Identifier: MIT */
/*
 * Text for the loader: a small formatter and the way from UTF-8 (configuration files, our messages)
 * to the UTF-16 that UEFI speaks. Pure code, no firmware needed.
 */
#ifndef TRIVET_BOOT_TEXT_H
#define TRIVET_BOOT_TEXT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Format into `buf` (`size` >= 1 bytes, always NUL terminated, cut off when too small). Known
 * conversions: %s %.*s %c %u %d %x %lu %ld %lx %%. Returns the length of what was written, without
 * the NUL.
 */
size_t text_vformat(char *buf, size_t size, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));
size_t text_format(char *buf, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/*
 * Convert `len` bytes of UTF-8 to UTF-16 with a terminating NUL; `out_units` >= 1 counts the NUL.
 * Returns the units written without the NUL, -EILSEQ for malformed UTF-8 (overlong, surrogate,
 * beyond U+10FFFF, NUL inside), -ENOSPC when `out` is too small.
 */
long text_utf8_to_utf16(uint16_t *out, size_t out_units, const char *in, size_t len);

#endif
