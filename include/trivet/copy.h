/* SPDX-License-Identifier: MIT */
/* Copies of a few words, in place: a call of memcpy() costs more than they do. */
#ifndef TRIVET_COPY_H
#define TRIVET_COPY_H

#include <stddef.h>
#include <stdint.h>

static inline void copy_few(void *to, const void *from, size_t bytes)
{
	size_t words = bytes / 8, rest = bytes % 8;

	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words)::"memory");
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(rest)::"memory");
}

#endif
