/* SPDX-License-Identifier: MIT */
/*
 * For `make bench` only, in a build of its own (TRIVET_COUNT): how many of the TSC's ticks the hypervisor takes, and how many of
 * them go into switching from VP to VP. Where a tick is an instruction that counts instructions. One LP; any other build has none of it.
 */
#ifndef TRIVET_COUNT_H
#define TRIVET_COUNT_H

#include <stdbool.h>

struct vp;

#ifdef TRIVET_COUNT

/* The time from one to the other is nobody's: the processor sleeps. */
void count_idle_begin(void);
void count_idle_end(void);

/* Around the choice of who runs next, with all that is done for VPs on the way. */
void count_choice_begin(void);
void count_choice_end(bool is_switch);

/* Around the exchange of VPs alone. */
void count_switch_begin(void);
void count_switch_end(void);

/*
 * CPUID COUNT_LEAF of a guest. Subleaf 0: EAX exits, EBX ticks between exit and entry, ECX switches, EDX their ticks; subleaf 1: EAX ticks of
 * choices that ended in a switch, and of the guest's partition EBX pages that it uses of its deposits, ECX pages of memory that it has been given.
 * False: it is another leaf.
 */
bool count_cpuid(struct vp *vp);

#else

static inline void count_idle_begin(void)
{
}

static inline void count_idle_end(void)
{
}

static inline void count_choice_begin(void)
{
}

static inline void count_choice_end(bool is_switch)
{
	(void)is_switch;
}

static inline void count_switch_begin(void)
{
}

static inline void count_switch_end(void)
{
}

static inline bool count_cpuid(struct vp *vp)
{
	(void)vp;
	return false;
}

#endif
#endif
