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

/* The partition's privilege mask: CPUID 0x40000003 EAX in 31:0, EBX in 63:32. */
uint64_t hv_privileges(void);

/*
 * Where the page lies that the MSR names. A root finds the hypervisor's own there, outside its RAM; a child finds none,
 * and gives it one over its RAM, disabled still.
 */
uint64_t hv_page(uint32_t msr);

/* Says who we are, enables the hypercall page and finds this processor's others. Ends the run with SKIP without the interface. */
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
