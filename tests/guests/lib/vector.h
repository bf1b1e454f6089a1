/* SPDX-License-Identifier: MIT */
/* x87 and vector registers as the image that XSAVE makes of them, or FXSAVE where that isn't. */
#ifndef GUEST_VECTOR_H
#define GUEST_VECTOR_H

#include "guest.h"

#define STATE_BYTES 1088u

extern HIDDEN uint64_t xcr0; /* 0: no XSAVE */

/* Some number, another one for each `i`. */
uint64_t pattern(unsigned int i);
void state_on(void);
/* 64-byte aligned, STATE_BYTES. */
void state_store(uint8_t *to);
/* Something in each register, and all of them stored. */
void state_fill(uint8_t *state);

#endif
