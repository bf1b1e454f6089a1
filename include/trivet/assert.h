/* SPDX-License-Identifier: MIT */
/*
 * How a bug stops the program: panic() in the hypervisor, abort() in host tests and fuzz targets.
 * ASSERT() is for our own invariants only and stays on in release builds. A value that a guest or
 * the firmware controls is never asserted on: it is checked and refused.
 */
#ifndef TRIVET_ASSERT_H
#define TRIVET_ASSERT_H

#include <stdnoreturn.h>

/*
 * Stops the machine with registers, exit history and back trace. The format is printf's, without a
 * final newline.
 */
noreturn void panic(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#if __STDC_HOSTED__
#include <stdio.h>
#include <stdlib.h>

static inline noreturn void assert_failed(const char *condition, const char *file, int line)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
	abort();
}
#define ASSERT(x) ((x) ? (void)0 : assert_failed(#x, __FILE__, __LINE__))
#else
#define ASSERT(x) \
	(__builtin_expect(!!(x), 1) ? (void)0 : panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #x))
#endif

#endif
