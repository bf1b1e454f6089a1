/* SPDX-License-Identifier: MIT */
/* What a guest leaves behind when it crashes (TLFS "Guest Crash Enlightenment"): five words of its choice, and perhaps a text. */
#ifndef TRIVET_GUEST_CRASH_H
#define TRIVET_GUEST_CRASH_H

#include <stdatomic.h>
#include <trivet/log.h>
#include <trivet/types.h>

#define GUEST_CRASH_PARAMETERS 5u
#define GUEST_CRASH_TEXT_MAX 4096u /* bytes of it that are shown */

/* Embedded in the partition as `crash`. */
struct guest_crash {
	_Atomic uint64_t parameters[GUEST_CRASH_PARAMETERS];
	struct log_ratelimit bucket; /* its own: a noisy guest hides nobody else's crash */
};

#endif
