/* SPDX-License-Identifier: MIT */
/*
 * A logical processor (LP): one hardware thread. Everything it needs lies in one naturally aligned block of
 * LP_AREA_SIZE bytes, stacks included, so that the stack pointer alone tells which LP this is: on a VM exit no
 * segment register has to be the hypervisor's for that.
 *
 *   0x0000 struct lp    0x3000 guard    0x4000 main stack (16 KiB)    0x8000 guard
 *   0x9000 NMI stack (8 KiB)    0xb000 guard    0xc000 #DF stack (4 KiB)    0xd000 #MC stack (8 KiB)
 *   0xf000 page of the back end
 */
#ifndef TRIVET_LP_H
#define TRIVET_LP_H

#include <stdatomic.h>
#include <trivet/abi_log.h>
#include <trivet/heap.h>
#include <trivet/lapic.h>
#include <trivet/run_time.h>
#include <trivet/sched.h>
#include <trivet/statistics.h>
#include <trivet/trace.h>
#include <trivet/types.h>

#define LP_AREA_SIZE 0x10000ull
#define LP_AREA_ORDER 4
#define LP_GUARD_MAIN 0x3000
#define LP_STACK_TOP 0x8000
#define LP_GUARD_NMI 0x8000
#define LP_NMI_STACK_TOP 0xb000
#define LP_GUARD_DF 0xb000
#define LP_DF_STACK_TOP 0xd000
#define LP_MC_STACK_TOP 0xf000
#define LP_BACKEND_PAGE 0xf000

enum lp_state {
	LP_OFFLINE,  /* never started through us; firmware may have it parked */
	LP_STARTING, /* reached our trampoline: from now on INIT and start-up IPIs concern its VP */
	LP_ONLINE,   /* takes kicks */
};

/* Vectors the hypervisor keeps for itself in the physical local APIC. A device interrupt of the root may carry the same
 * number: lp_interrupts.c tells them apart. In the highest class, so that no interrupt in service holds them up. */
#define HV_VECTOR_TIMER 0xf0
#define HV_VECTOR_KICK 0xf1
#define HV_VECTOR_POSTED 0xf2 /* only with lp_takes_posted */
#define HV_VECTOR_SPURIOUS 0xff

#define LP_SWITCHED_MSRS 12

struct vp;

struct lp {
	struct lp *self;	    /* offset 0: a check that a stack pointer belongs here */
	uint64_t acked[4];	    /* vectors taken since the last look; set by the interrupt stubs */
	_Atomic uint32_t kicked;    /* somebody sent HV_VECTOR_KICK */
	_Atomic uint32_t nmi_taken; /* an NMI arrived while the hypervisor ran */
	_Atomic uint32_t state;	    /* enum lp_state */
	uint32_t index;
	uint32_t apic_id;
	struct vp *vp;	    /* the VP that is loaded here (schedule.h); NULL: none is */
	struct vp *root_vp; /* the root's: what devices send here is for it */
	struct lapic lapic;
	uint64_t timer_deadline_tsc; /* what the physical timer is set to; UINT64_MAX: nothing */
	uint64_t
		other_deadline_tsc; /* the earliest that isn't the loaded VP's: end of its slice, timers of others */
	/* Physical interrupts in service whose EOI waits for the guest's, and those of them that got it. */
	uint64_t in_service[4];
	uint64_t eoi_wanted[4];
	uint32_t in_service_count;
	bool kicks_itself; /* lp_kick_self() was used: every HV_VECTOR_KICK is ours */
	bool level_parked; /* one of them was refused: the VP's APIC is disabled */
	bool timer_stale;  /* the timer fired, and was set anew before its interrupt was taken */
	_Atomic uint64_t
		tsc_moved; /* by how much software has written the TSC forward, as TSC_ADJUST counts it */
	/* For statistics: interrupts that arrived here, two kinds of them, and how often another VP was loaded. */
	uint64_t interrupts, timer_interrupts, kicks_taken, switches;
	struct run_time run_time;
	struct statistics_object statistics;
	uint32_t lock_ranks; /* bit n: holds a lock of rank n (debug builds) */
	void *call_pages;    /* parameters of the hypercall under way: input page, output page */
	struct abi_ring abi;
	/* Who runs: schedule.c. */
	struct vp *_Atomic wakes; /* VPs that others want to be looked at here, newest first */
	struct sched_lp sched;
	struct lp *_Atomic asked_by; /* an LP that has less to do asks for a VP: placement.c */
	uint64_t ask_at_clock, random;
	uint64_t slice_end_clock; /* when to choose again, UINT64_MAX: need not */
	bool choose_again;	  /* what was chosen last is old, and nobody is loaded who could be told */
	struct heap timers;	  /* of VPs that aren't loaded, by deadline in lp_clock() */
	struct vp *dr_owner;	  /* whose DR0 to DR3 the processor has */
	/* Tags of translations, for the back end: what was given out since they were all flushed. */
	uint64_t tag_generation;
	uint32_t tag_next;
	uint64_t switched_msrs
		[LP_SWITCHED_MSRS]; /* the back end's: what the VP that was loaded last left in the processor */
	uint64_t last_partition_id; /* whose it was */
	uint64_t gdt[8];
	uint8_t tss[104];
	struct trace_ring trace;
};
static_assert(sizeof(struct lp) <= LP_GUARD_MAIN, "struct lp must end below its guard page");
static_assert(offsetof(struct lp, self) == 0, "this_lp() and the interrupt stubs");
static_assert(offsetof(struct lp, acked) == 8, "core/entry.asm");

#ifdef TRIVET_HOST_TEST
struct lp *this_lp(void);
#else
static inline struct lp *this_lp(void)
{
	uint64_t sp;

	__asm__("movq %%rsp, %0" : "=r"(sp));
	return (struct lp *)(ALIGN_DOWN(sp, LP_AREA_SIZE));
}
#endif

/* The LPs the firmware's tables name; index 0 is the boot LP. Set once at boot. */
extern struct lp **lp_table;
extern uint32_t lp_count;

/*
 * Makes the LP areas: one for the boot processor, and one for each other that the MADT names. Without a usable MADT
 * (`rsdp_hpa` may be 0) the loader's list counts, `listed` local APIC ids at `apic_ids`. -ENOMEM.
 */
int lp_table_init(hpa_t rsdp_hpa, uint32_t boot_apic_id, const uint32_t *apic_ids, uint64_t listed);

/* NULL when no LP has that local APIC id. Constant time. */
struct lp *lp_by_apic_id(uint32_t apic_id);

/* Loads this LP's GDT, TSS and IDT and the control registers every LP shares. */
void lp_load_tables(struct lp *lp);

/* From here on the exit loop runs: where it does so with the guest's TR, no vector may switch to a stack of its own. */
void lp_load_window_idt(void);

/* True for the few instructions at which the back end lets interrupts in. */
bool lp_in_window(uint64_t rip);

/* What CR0 and CR4 the hypervisor runs with, from what they are now (CR4.MCE and so on stay). */
void lp_set_control_registers(void);

/* Puts the trampoline in place; after this LPs can be started. */
void lp_trampoline_init(hpa_t page);

/* A start-up IPI's vector for the trampoline, 0 when there is none. */
uint8_t lp_trampoline_vector(void);

/* Maps the physical local APIC and notes its mode. -ENODEV: disabled or not at its usual address; -EINVAL: the page can't be mapped. */
int lp_apic_find(struct lp *lp);

/* The running physical local APIC of this LP becomes its VP's, and is then set up for the hypervisor. */
void lp_apic_adopt(struct lp *lp);

/* Sets the physical local APIC of this LP up for the hypervisor, in the mode it is in; its LINT pins stay as they are. */
void lp_local_apic_start(struct lp *lp);

/* The same after the physical local APIC was off, which lost all it held. */
void lp_local_apic_restart(struct lp *lp);

/* What was measured at boot, for lp_local_apic_start(). */
void lp_set_timer_frequencies(uint64_t tsc_hz, uint64_t apic_timer_hz);
uint64_t lp_tsc_hz(void);
uint64_t lp_apic_timer_hz(void);

/* The TSC as the VP of this LP writes it, by MSR_TSC or MSR_TSC_ADJUST; `*delta`: how far it jumped. -EINVAL: #GP. */
int lp_tsc_write(uint32_t msr, uint64_t value, int64_t *delta);

/* This LP is about to run its VP: how its TSC stands to the others', as the firmware left it. */
void lp_tsc_start(struct lp *lp);

/* This LP's TSC without what was written to it: alike on all LPs. */
uint64_t lp_clock(void);

/*
 * Set once by the back end: a processor in guest mode takes HV_VECTOR_POSTED for a notification of what was posted to its VP's
 * local APIC, and the guest goes on without an exit. Every interrupt with that vector, a device's too.
 */
extern bool lp_takes_posted;

/* Sends one, from any LP. False: it can't be sent; a kick may do. */
bool lp_notify_posted(struct lp *lp);

/* Sends an interrupt that makes `lp` pass through its exit loop soon. Safe from any LP. */
void lp_kick(struct lp *lp);

/*
 * The same for this LP itself, and at once: another's kick may be on its way, but take its time. From then on no device of the root can
 * use HV_VECTOR_KICK here.
 */
void lp_kick_self(struct lp *lp);

/* The same to this LP from its NMI handler, which may have broken into anything. */
void lp_kick_from_nmi(struct lp *lp);

/*
 * Sorts what the interrupt stubs collected: ours are handled, the rest goes to the VP's local APIC. True when that may have
 * an interrupt to deliver now.
 */
bool lp_handle_interrupts(struct lp *lp);

/* The same for one vector that a back end took itself, in place of a stub. */
bool lp_handle_vector(struct lp *lp, uint8_t vector);

/* The guest's EOI for a level-triggered `vector`: completes it at the physical local APIC as soon as order permits. */
void lp_complete_level(struct lp *lp, uint8_t vector);

/* The VP's APIC forgets what was in service (INIT, disabled): completes all level-triggered interrupts. */
void lp_abandon_level(struct lp *lp);

/* The VP's APIC accepts interrupts again: those it refused come anew. */
void lp_unpark_level(struct lp *lp);

/*
 * Sets the LP's one timer to the earliest deadline of those who want it. Nothing when it is another LP's: whoever changes the timer of a
 * VP that he holds tells its LP when he releases it.
 */
void lp_timer_update(struct lp *lp);

/* Entry of a started LP on its own stack. */
_Noreturn void lp_main(struct lp *lp);

#endif
