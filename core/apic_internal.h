/* SPDX-License-Identifier: MIT */
/*
 * Shared by the files of the local APIC model only: apic.c (state, priorities, errors), apic_regs.c
 * (guest accesses), apic_icr.c (sending, destinations), apic_timer.c. Nobody else includes it.
 */
#ifndef TRIVET_CORE_APIC_INTERNAL_H
#define TRIVET_CORE_APIC_INTERNAL_H

#include <trivet/apic.h>

/* Vectors 0..15 are never delivered by an APIC (SDM3 11.5.2). */
#define APIC_FIRST_VECTOR 16

#define APIC_LVT_TIMER_MODE_SHIFT 17
#define LDR_WRITABLE 0xff000000u
#define DFR_ONES 0x0fffffffu

/* Gather ESR bits; the first one since the last write of ESR raises LVT error. Never recurses. */
void apic_error(struct apic *apic, uint32_t esr_bits);

/* Deliver the fixed interrupt of LVT `which`, unless masked. */
void apic_lvt_fire(struct apic *apic, enum apic_lvt which);

/* Does the model have this entry? */
static inline bool apic_lvt_exists(const struct apic *apic, enum apic_lvt which)
{
	return which <= apic->config.max_lvt;
}

/* Where the processor answers reads: makes the page show every register, and one of them. */
void apic_publish(struct apic *apic);
void apic_publish_register(struct apic *apic, uint32_t reg);

/* Before somebody looks at what is in service: has the guest ended it? */
static inline void apic_note_lazy_eoi(struct apic *apic)
{
	if (unlikely(apic->eoi_offered) && !(__atomic_load_n(apic->assist, __ATOMIC_ACQUIRE) & 1))
		apic_settle_eoi(apic);
}

/* Change the SVR; a cleared enable bit masks every LVT entry. Reports. */
void apic_svr_write(struct apic *apic, uint32_t svr);

/* Writable and existing (writable or read-only) bits of an LVT entry. */
uint32_t apic_lvt_writable(const struct apic *apic, enum apic_lvt which);
uint32_t apic_lvt_defined(const struct apic *apic, enum apic_lvt which);

static inline unsigned int apic_timer_mode(const struct apic *apic)
{
	return (apic->lvt[APIC_LVT_TIMER] >> APIC_LVT_TIMER_MODE_SHIFT) & 3;
}

/* Guest writes to timer registers. Each reports a changed deadline itself. */
void apic_timer_reset(struct apic *apic);
void apic_timer_write_lvt(struct apic *apic, uint32_t lvt);
void apic_timer_write_initial(struct apic *apic, uint32_t count);
void apic_timer_write_divide(struct apic *apic, uint32_t divide);
uint32_t apic_timer_current(const struct apic *apic, uint64_t now_tsc);
void apic_timer_load(struct apic *apic, const struct apic_image *image, uint64_t now_tsc);

#endif
