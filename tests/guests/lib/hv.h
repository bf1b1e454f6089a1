/* SPDX-License-Identifier: MIT */
/* The hypervisor's interface (TLFS) as a guest uses it: discovery, the hypercall page, calls, other processors of a root. */
#ifndef GUEST_HV_H
#define GUEST_HV_H

#include "guest.h"
#include <hv/cpuid.h>
#include <hv/hypercall.h>
#include <hv/msr.h>
#include <hv/status.h>

#define HV_OS_ID \
	0x8100060000000000ull /* "open source, Linux-like", as TLFS "Guest OS Identity" lays it out */

/* One page each, for parameters. */
extern HIDDEN uint8_t *hv_in, *hv_out;

/* CPUID has the interface. */
bool hv_present(void);

/* Says who we are and enables the hypercall page where it lies (a root's). Ends the run with SKIP without the interface. */
void hv_open(void);

/* The bare instruction, with nothing else in the page. */
uint64_t hv_call(uint64_t control, uint64_t input, uint64_t output);
/* Through the hypercall page. */
uint64_t hv_call_by_page(uint64_t control, uint64_t input, uint64_t output);

static inline uint64_t hv_simple(uint16_t code)
{
	return hv_call(code, (uint64_t)hv_in, (uint64_t)hv_out);
}

static inline uint64_t hv_fast(uint16_t code, uint64_t a, uint64_t b)
{
	return hv_call(code | HV_CONTROL_FAST, a, b);
}

static inline uint64_t hv_reps(uint16_t code, uint64_t count)
{
	return hv_call(code | count << HV_CONTROL_REP_COUNT_SHIFT, (uint64_t)hv_in, (uint64_t)hv_out);
}

/* A root's other processors: adds the LPs and creates the VPs, so that ap_start() reaches them. False: refused. */
bool hv_create_processors(void);

#endif
