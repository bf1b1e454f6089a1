/* SPDX-License-Identifier: MIT */
/*
 * Our configuration of newlib, in the place of the one its configure script would write: C99 formats
 * with long long, no floating point, no locales, no wide streams, the small reentrancy structure
 * (it lives on the caller's stack, so nothing is shared between processors).
 */
#ifndef __NEWLIB_H__
#define __NEWLIB_H__ 1

#define _NEWLIB_VERSION "3.3.0"
#define __NEWLIB__ 3
#define __NEWLIB_MINOR__ 3
#define __NEWLIB_PATCHLEVEL__ 0

#define _WANT_IO_C99_FORMATS 1
#define _WANT_IO_LONG_LONG 1
#define _WANT_REENT_SMALL 1
#define _HAVE_LONG_DOUBLE 1
#define _HAVE_CC_INHIBIT_LOOP_TO_LIBCALL 1

#endif
