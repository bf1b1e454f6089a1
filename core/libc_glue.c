/* SPDX-License-Identifier: MIT */
/*
 * What newlib's string printing needs from its surroundings, and nothing more. Everything it writes lies
 * on the caller's stack, so that any processor may print at any time, also from panic. There is no heap:
 * the allocation hooks belong to the asprintf family, which is not linked, and refuse.
 */
#include <limits.h>
#include <locale.h>
#include <reent.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void *_malloc_r(struct _reent *reent, size_t size);
void *_realloc_r(struct _reent *reent, void *block, size_t size);
void _free_r(struct _reent *reent, void *block);
int _svfiprintf_r(struct _reent *reent, FILE *stream, const char *format, va_list args);

/* newlib's stdio/local.h: a string stream that is written. */
#define STREAM_WRITE 0x0008
#define STREAM_STRING 0x0200

void *_malloc_r(struct _reent *reent, size_t size)
{
	(void)reent;
	(void)size;
	return NULL;
}

void *_realloc_r(struct _reent *reent, void *block, size_t size)
{
	(void)reent;
	(void)block;
	(void)size;
	return NULL;
}

void _free_r(struct _reent *reent, void *block)
{
	(void)reent;
	(void)block;
}

/* Asked for the ' flag only: the C locale groups no digits. */
struct lconv *_localeconv_r(struct _reent *reent)
{
	static char point[] = ".";
	static char none[] = "";
	static struct lconv c_locale = { .decimal_point = point, .thousands_sep = none, .grouping = none };

	(void)reent;
	return &c_locale;
}

int vsnprintf(char *restrict buffer, size_t size, const char *restrict format, va_list args)
{
	struct _reent reent;
	FILE stream;
	char nothing;
	int length;

	if (size > INT_MAX)
		return -1;
	if (size == 0)
		buffer = &nothing;
	reent._errno = 0;
	stream._flags = STREAM_WRITE | STREAM_STRING;
	stream._flags2 = 0;
	stream._file = -1;
	stream._p = (unsigned char *)buffer;
	stream._bf._base = stream._p;
	stream._w = size > 0 ? (int)size - 1 : 0;
	stream._bf._size = stream._w;
	length = _svfiprintf_r(&reent, &stream, format, args);
	if (size > 0)
		*stream._p = 0;
	return length;
}

int snprintf(char *restrict buffer, size_t size, const char *restrict format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(buffer, size, format, args);
	va_end(args);
	return length;
}
