/* SPDX-License-Identifier: MIT */
/*
 * The conformance suite of the hypervisor's interface, one file per chapter of the TLFS; test_tlfs_*.c beside this folder
 * put chapters together into guests, because each guest costs a boot. A chapter leaves the interface as it found it: pages
 * where the hypervisor had them, SINTs masked, timers stopped, ports deleted.
 */
#ifndef TLFS_H
#define TLFS_H

#include "../lib/hv.h"

void tlfs_cpuid(void);
void tlfs_msr(void);
void tlfs_msr_lock(void); /* the last of its run: nothing but a reset unlocks */
void tlfs_hypercall(void);
void tlfs_modes(void);
void tlfs_synic(void);
void tlfs_synic_others(void);
void tlfs_timer(void);
void tlfs_time(void);
void tlfs_time_others(void);
void tlfs_assist(void);
void tlfs_idle_others(void);
void tlfs_overlay(void);
void tlfs_overlay_race(void);
void tlfs_registers(void);
void tlfs_registers_others(void);
void tlfs_ipi(void);
void tlfs_flush(void);
void tlfs_root(void);
void tlfs_root_processors(void); /* the first of its run that uses other processors */

/* Runs one, and says so in the output, where scripts can count its results. */
#define CHAPTER(name)                   \
	do {                            \
		note("chapter " #name); \
		tlfs_##name();          \
	} while (0)

#define UD 6u
#define GP 13u
#define PF 14u

/* What a load finds where a page of the hypervisor's was moved away or disabled: a child's RAM, of a root nothing. */
#define BENEATH (in_child ? NO_FAULT : GP)

/* Status and completed reps of a result word. */
static inline uint16_t status_of(uint64_t result)
{
	return (uint16_t)(result & HV_RESULT_STATUS_MASK);
}

static inline uint32_t reps_of(uint64_t result)
{
	return (uint32_t)((result & HV_RESULT_REPS_DONE_MASK) >> HV_RESULT_REPS_DONE_SHIFT);
}

/* Like is(), for what a call's result word must hold: the status, and for a rep call how much was done. */
#define IS_STATUS(result, want, ...) is(status_of(result), want, __VA_ARGS__)

/*
 * A root has every privilege that a chapter needs; a child has what its parent gave it, and CPUID tells. True, with a SKIP
 * that names the chapter, where this child lacks one of `privileges` (HV_PRIVILEGE_*).
 */
bool child_lacks(uint64_t privileges, const char *chapter);

/* Clears both parameter pages; the input, to be filled in. */
void *fresh_input(void);
/* One call's input as `count` words, then the call itself with both pages. */
uint64_t call_with(uint16_t code, const uint64_t *words, unsigned int count);
/* What comes in now, with RFLAGS.IF=1 for a moment. */
void take_interrupts(void);
/* The interrupts of `vector` that came since the last call for it, on this processor, after taking what is pending. */
uint32_t came(uint8_t vector);
uint64_t time_100ns(void);
/* Waits until reference time `t`. */
void wait_until_100ns(uint64_t t);
/* Is the MSR's access refused with #GP? */
bool read_faults(uint32_t msr);
bool write_faults(uint32_t msr, uint64_t value);
/* Does a load or a store there fault, and how (NO_FAULT: not at all)? */
uint32_t try_load(uint64_t address);
uint32_t try_store(uint64_t address);

/* SynIC of this processor: both pages enabled where the hypervisor has them, and SCONTROL; and all of it off again. */
struct hv_message;
union hv_event_flags;
void synic_on(void);
void synic_off(void);
volatile struct hv_message *message_slot(unsigned int sint);
volatile union hv_event_flags *event_flags(unsigned int sint);

/* Runs `fn` on processor `cpu` (started already by start_others()) and waits for its end. */
bool start_others(void);
/* From now on they halt while they have nothing to do; before, they look for work, so that calls find them running. */
void let_others_sleep(void);
bool run_on(unsigned int cpu, void (*fn)(unsigned int cpu));
/* The same in two steps. */
void begin_on(unsigned int cpu, void (*fn)(unsigned int cpu));
bool end_on(unsigned int cpu);

#endif
