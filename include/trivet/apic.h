/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model of one virtual processor: the xAPIC page and the x2APIC MSRs on one state, as pure
 * logic. It touches no hardware: what must happen outside goes through the apic_host_* functions, which
 * the product (or a test) defines. SDM3 ch. 11 (ch. 10 before 2022), APM2 ch. 16.
 *
 * Ownership: every function but apic_post() is called only by the LP that runs the VP. The owner, before
 * each VM entry, calls apic_sync_posted() and then apic_next_vector(); no function kicks the owner.
 * Time is the VP's TSC. No function allocates, blocks or loops more than a fixed number of times.
 */
#ifndef TRIVET_APIC_H
#define TRIVET_APIC_H

#include <stdatomic.h>
#include <trivet/x86.h>

#define APIC_BASE_DEFAULT 0xfee00000ull
#define APIC_MSR_X2_FIRST 0x800u
#define APIC_MSR_X2_LAST 0x8ffu
#define APIC_MSR_TPR 0x808u
#define APIC_MSR_EOI 0x80bu
#define APIC_MSR_ISR 0x810u
#define APIC_MSR_ICR 0x830u
#define APIC_MSR_SELF_IPI 0x83fu

#define APIC_SVR_ENABLE BIT(8)
#define APIC_LVT_MASKED BIT(16)

/* Byte offsets in the xAPIC page; the x2APIC MSR is 0x800 + offset / 16. */
enum apic_reg {
	APIC_REG_ID = 0x020,
	APIC_REG_VERSION = 0x030,
	APIC_REG_TPR = 0x080,
	APIC_REG_APR = 0x090,
	APIC_REG_PPR = 0x0a0,
	APIC_REG_EOI = 0x0b0,
	APIC_REG_RRD = 0x0c0,
	APIC_REG_LDR = 0x0d0,
	APIC_REG_DFR = 0x0e0,
	APIC_REG_SVR = 0x0f0,
	APIC_REG_ISR = 0x100,
	APIC_REG_TMR = 0x180,
	APIC_REG_IRR = 0x200,
	APIC_REG_ESR = 0x280,
	APIC_REG_LVT_CMCI = 0x2f0,
	APIC_REG_ICR = 0x300,
	APIC_REG_ICR_HIGH = 0x310,
	APIC_REG_LVT_TIMER = 0x320,
	APIC_REG_LVT_THERMAL = 0x330,
	APIC_REG_LVT_PMC = 0x340,
	APIC_REG_LVT_LINT0 = 0x350,
	APIC_REG_LVT_LINT1 = 0x360,
	APIC_REG_LVT_ERROR = 0x370,
	APIC_REG_TIMER_INITIAL = 0x380,
	APIC_REG_TIMER_CURRENT = 0x390,
	APIC_REG_TIMER_DIVIDE = 0x3e0,
	APIC_REG_SELF_IPI = 0x3f0, /* x2APIC only */
};

/* A register as it lies in the page. `high` is used only where an x2APIC register has 64 bits. */
struct apic_page_register {
	uint32_t value;
	uint32_t high;
	uint32_t unused[2];
};

/*
 * The registers in the layout that hardware gives them, so that a processor with APIC virtualization can work on them
 * (SDM3 30.1, APM2 15.29.3). IRR, ISR and TMR live here and nowhere else; TPR is always a copy of the model's. The
 * other registers are copies too, kept only with apic_config.page_read.
 */
struct apic_page {
	struct apic_page_register reg[PAGE_SIZE / 16];
};
static_assert(sizeof(struct apic_page) == PAGE_SIZE, "one page");

/* Local vector table, in the order the version register counts: an entry exists when <= max_lvt. */
enum apic_lvt {
	APIC_LVT_TIMER,
	APIC_LVT_LINT0,
	APIC_LVT_LINT1,
	APIC_LVT_ERROR,
	APIC_LVT_PMC,
	APIC_LVT_THERMAL,
	APIC_LVT_CMCI,
	APIC_LVT_COUNT
};

/* Delivery modes and shorthands, as encoded in the ICR (bits 10:8 and 19:18). */
enum apic_mode {
	APIC_MODE_FIXED = 0,
	APIC_MODE_LOWEST = 1,
	APIC_MODE_SMI = 2,
	APIC_MODE_NMI = 4,
	APIC_MODE_INIT = 5,
	APIC_MODE_SIPI = 6,
	APIC_MODE_EXTINT = 7, /* in LVT LINT0/LINT1 only; never sent */
};

enum apic_shorthand {
	APIC_DEST_FIELD = 0,
	APIC_DEST_SELF = 1,
	APIC_DEST_ALL = 2,
	APIC_DEST_OTHERS = 3,
};

/* Error status bits (SDM3 fig. 11-9). */
#define APIC_ESR_SEND_ILLEGAL BIT(5)
#define APIC_ESR_RECV_ILLEGAL BIT(6)
#define APIC_ESR_ILLEGAL_REG BIT(7)

/* A decoded ICR write that concerns somebody else. */
struct apic_ipi {
	uint32_t dest;	   /* 8 bits from xAPIC, 32 from x2APIC; 0 unless shorthand is APIC_DEST_FIELD */
	uint8_t mode;	   /* enum apic_mode: FIXED, LOWEST, SMI, NMI, INIT or SIPI */
	uint8_t vector;	   /* 16..255 for FIXED and LOWEST; SIPI: start page number; else as written */
	uint8_t shorthand; /* enum apic_shorthand: FIELD, ALL or OTHERS; ALL only with FIXED */
	bool logical;	   /* `dest` is a logical address */
	bool from_x2apic;  /* the format of `dest`: pass on to apic_matches() */
	bool level;	   /* as written (bit 14); INIT de-assert is swallowed by the model */
	bool trigger;	   /* as written (bit 15); IPIs are edge-triggered all the same */
};

/* Multiply, then shift right: x * mult >> shift, computed in 128 bits. */
struct apic_ratio {
	uint64_t mult;
	unsigned int shift; /* 0..127 */
};

/* Timer input ticks (before the divider) against TSC ticks. */
struct apic_clock {
	struct apic_ratio to_tsc;
	struct apic_ratio to_ticks;
};

/* What a VP's APIC is, fixed for its life. */
struct apic_config {
	uint32_t apic_id; /* x2APIC id; the xAPIC id is its low 8 bits */
	bool bsp;
	bool x2apic;	   /* offered: IA32_APIC_BASE.EXTD may be set */
	bool tsc_deadline; /* offered: timer mode 2, IA32_TSC_DEADLINE */
	bool page_read;	   /* the processor answers reads from the page */
	bool hides_level;  /* TMR reads as 0, whatever it is: see vp.c */
	bool arb_regs;	   /* x2APIC MSRs 809h and 80Ch read 0 (AMD) instead of faulting (Intel) */
	uint8_t version;   /* low byte of the version register: 0x10 (AMD), 0x14, 0x15 (Intel) */
	uint8_t max_lvt;   /* 3..6: index of the last LVT entry, see enum apic_lvt */
	uint8_t phys_bits; /* 36..52: width of the base address */
	struct apic_clock clock;
	uint64_t min_period_tsc; /* shortest distance of two periodic interrupts, TSC ticks; >= 1 */
};

enum apic_timer_mode {
	APIC_TIMER_ONE_SHOT = 0,
	APIC_TIMER_PERIODIC = 1,
	APIC_TIMER_DEADLINE = 2,
};

struct apic_timer {
	uint64_t deadline_tsc; /* next interrupt; UINT64_MAX: none */
	uint64_t start_tsc;    /* when the count was last `initial` as if it had run undisturbed */
	uint64_t period_ticks; /* initial << divide_shift: timer input ticks of one cycle */
	uint32_t initial;      /* initial count register */
	uint8_t divide;	       /* divide configuration register */
	uint8_t divide_shift;  /* 0..7 */
	bool counting;	       /* one-shot not yet expired, or periodic with initial != 0 */
};

/*
 * Zeroed and set up by apic_init(). Readable by anyone with the owner's rights; written by the functions
 * below only. The second line is all that EOI and the entry path touch besides the page.
 */
struct apic {
	/*
	 * Written by other LPs: an own cache line, and posted_level another. This one has the layout of a posted-interrupt
	 * descriptor (SDM3 table 30-1), since a processor may take what is in it by itself: bit 0 of posted_any is its
	 * outstanding notification. Such a processor knows nothing of trigger modes, so level-triggered vectors lie apart.
	 */
	_Alignas(64) _Atomic uint64_t posted[4];
	_Atomic uint32_t posted_any;

	_Alignas(64) struct apic_page *page;
	int32_t irr_top; /* highest bit of IRR, -1: none */
	int32_t isr_top; /* highest bit of ISR, -1: none */
	uint8_t tpr;
	uint8_t ppr;
	bool enabled;	   /* SVR bit 8 and APIC_BASE.EN: fixed interrupts are accepted */
	bool x2;	   /* x2APIC mode */
	uint8_t irr_words; /* bit n: IRR's 32-bit register n may have bits */
	uint8_t isr_words;
	bool tmr_changed; /* set with every change of TMR or `eoi_reported`, cleared by whoever cares */
	bool eoi_automatic_any;
	bool eoi_offered; /* the guest may end the one in service by clearing bit 0 of *assist */
	uint32_t svr;
	uint64_t base; /* IA32_APIC_BASE */
	uint64_t icr;  /* high half: as the current mode has it */
	uint32_t ldr;  /* of xAPIC mode */
	uint32_t dfr;
	uint32_t esr;	      /* as last latched by a write */
	uint32_t esr_pending; /* gathered since */
	uint32_t lvt[APIC_LVT_COUNT];
	uint32_t *assist; /* lazy EOI: a word shared with the guest; NULL: none */
	struct apic_timer timer;
	struct apic_config config;
	/* By vector, set by apic_set_eoi_rules(). */
	uint32_t eoi_automatic[8];
	uint32_t eoi_reported[8];

	_Alignas(64) _Atomic uint64_t posted_level[4]; /* as posted, but level-triggered */
};
static_assert(offsetof(struct apic, posted_any) - offsetof(struct apic, posted) == 32,
	      "posted-interrupt descriptor");

/* Bits of posted_any. */
#define APIC_POSTED 1u
#define APIC_POSTED_FOR_SOFTWARE (1u << 8)

/* The vectors 64 * i to 64 * i + 63 of APIC_REG_IRR, _ISR or _TMR. */
static inline uint64_t apic_vectors(const struct apic *apic, enum apic_reg group, unsigned int i)
{
	const struct apic_page_register *reg = &apic->page->reg[((unsigned int)group >> 4) + 2 * i];

	return reg[0].value | (uint64_t)reg[1].value << 32;
}

/* Registers of a running APIC, in hardware format, to continue from: see apic_load(). */
struct apic_image {
	uint64_t base; /* IA32_APIC_BASE */
	uint64_t icr;
	uint32_t tpr;
	uint32_t svr;
	uint32_t ldr;
	uint32_t dfr;
	uint32_t timer_initial;
	uint32_t timer_current;
	uint32_t timer_divide;
	uint64_t tsc_deadline; /* 0: not armed */
	uint32_t lvt[APIC_LVT_COUNT];
	uint32_t irr[8]; /* as the eight registers of each group */
	uint32_t isr[8];
	uint32_t tmr[8];
};

/* ---- What the model asks of its surroundings. Called on the owner's LP, with the model consistent:
 * ---- each may call back into the same apic (accept, sync, read state). */

/* The VP sent an IPI. Fixed IPIs with shorthand self never come here; an id equal to the own one does. */
void apic_host_send_ipi(struct apic *apic, const struct apic_ipi *ipi);
/* The VP finished `vector`, whose TMR bit is set (level-triggered), or whose end was to be reported. */
void apic_host_level_eoi(struct apic *apic, uint8_t vector);
/* apic_timer_deadline() has a new value. Not called from apic_timer_expired() and apic_load(). */
void apic_host_timer_changed(struct apic *apic);
/* LINT0/1, PMC, thermal or CMCI was written, or masked by disabling the APIC (also if unchanged: a PMC
 * entry that hardware masked on delivery must be written again). `value` is in hardware format. */
void apic_host_lvt_changed(struct apic *apic, enum apic_lvt which, uint32_t value);
/* IA32_APIC_BASE, LDR, DFR or SVR changed. */
void apic_host_mode_changed(struct apic *apic);
/* The VP's TSC, now. Asked for only by timer registers, never on EOI and ICR. */
uint64_t apic_host_now_tsc(struct apic *apic);

/* ---- Life ---- */

/*
 * Ratios between a timer input clock and the TSC, both in Hz, 1 MHz..100 GHz each. -EINVAL outside.
 * Rounded so that the current count has reached 0 (or started anew) at the deadline, which itself is at
 * most one TSC tick late.
 */
int apic_clock_init(struct apic_clock *clock, uint64_t timer_hz, uint64_t tsc_hz);

/*
 * Power-up state, xAPIC mode, at APIC_BASE_DEFAULT. `page` belongs to the APIC from now on. -EINVAL: a field of `config`
 * is out of range.
 */
int apic_init(struct apic *apic, const struct apic_config *config, struct apic_page *page);

/* INIT: as power-up, but IA32_APIC_BASE (with the mode) and the id stay (SDM3 11.4.7.3). Posted
 * vectors are dropped. Calls apic_host_lvt_changed, _mode_changed and _timer_changed. */
void apic_reset_init(struct apic *apic);

/*
 * Take over a running APIC (the machine's own, at launch): registers as read from it. Nothing is
 * reported through apic_host_*: the physical one already is so. Bits that do not exist are dropped;
 * LDR and DFR are ignored in x2APIC mode. -EINVAL, nothing changed: `base` has an illegal mode or
 * reserved bits. The BSP flag is taken from `image->base`.
 */
int apic_load(struct apic *apic, const struct apic_image *image, uint64_t now_tsc);

/*
 * The same for the parent of a VP that is stopped, in its layout. Restored are the registers of the mode that IA32_APIC_BASE says; the id is the
 * VP's own, whatever the image has; bits that don't exist are dropped, as above. -EINVAL: a timer mode that there isn't.
 */
struct hv_vp_state_lapic;
void apic_save(struct apic *apic, struct hv_vp_state_lapic *image, uint64_t now_tsc);
int apic_restore(struct apic *apic, const struct hv_vp_state_lapic *from, uint64_t now_tsc);

/* ---- Guest accesses ---- */

/*
 * The xAPIC page. `offset` 0..4095, `size` 1, 2, 4 or 8 bytes, both from the guest, else -EINVAL.
 * -ENODEV: no APIC answers there (disabled or in x2APIC mode); the access goes to what lies beneath.
 * Defined: 4 bytes at a multiple of 16. Undefined in the SDM, chosen here: other reads see a register's
 * four bytes followed by twelve zero bytes; other writes are dropped. Neither raises an error.
 */
int apic_mmio_read(struct apic *apic, uint32_t offset, unsigned int size, uint64_t *value);
int apic_mmio_write(struct apic *apic, uint32_t offset, unsigned int size, uint64_t value);

/* MSRs 0x800..0x8ff. -EINVAL: the guest gets #GP(0). */
int apic_msr_read(struct apic *apic, uint32_t msr, uint64_t *value);
int apic_msr_write(struct apic *apic, uint32_t msr, uint64_t value);

/* IA32_TSC_DEADLINE. -EINVAL: not offered, #GP(0). Outside deadline mode reads 0, writes are dropped. */
int apic_tsc_deadline_read(struct apic *apic, uint64_t *value);
int apic_tsc_deadline_write(struct apic *apic, uint64_t value);
/* For the parent of a VP that is stopped: what is due but hasn't interrupted is still armed. 0: nothing. */
uint64_t apic_tsc_deadline_armed(const struct apic *apic);

/*
 * IA32_APIC_BASE. -EINVAL: #GP(0): reserved bits, or a mode change that SDM3 11.12.5 forbids. The
 * address may change: apic_host_mode_changed tells. The BSP flag keeps its value whatever is written.
 */
int apic_base_write(struct apic *apic, uint64_t value);
static inline uint64_t apic_base_read(const struct apic *apic)
{
	return apic->base;
}

/* ---- Hot paths ---- */

/* End of the highest interrupt in service; nothing when there is none. */
void apic_eoi(struct apic *apic);

/*
 * Send by the ICR. x2APIC mode: the value of MSR 830h; xAPIC mode: ICR_HIGH << 32 | ICR, of which the
 * destination is bits 63:56. -EINVAL: reserved bits in x2APIC mode, nothing sent.
 */
int apic_icr_write(struct apic *apic, uint64_t value);

/*
 * A fixed interrupt for this VP arrives on its own LP. True: it is in IRR now. False: dropped, because
 * the APIC is disabled or the vector illegal (then ESR tells); the caller completes a level one itself.
 */
bool apic_accept(struct apic *apic, uint8_t vector, bool level);

/*
 * The same from any LP, any time. True: the owner must be kicked; false: one is already due. For an edge-triggered
 * vector the kick may be a posted-interrupt notification.
 */
bool apic_post(struct apic *apic, uint8_t vector, bool level);

/* What was posted can't wait for the processor to take it: there will be no notification. From any LP. */
void apic_post_for_software(struct apic *apic);

/* Fold posted vectors into IRR. */
void apic_sync_posted_slow(struct apic *apic);
static inline void apic_sync_posted(struct apic *apic)
{
	if (unlikely(atomic_load_explicit(&apic->posted_any, memory_order_relaxed)))
		apic_sync_posted_slow(apic);
}

/*
 * The same where the processor takes posted vectors when the notification arrives: whoever takes that takes the vectors, so that none
 * comes for nothing (Bochs 3.0 makes vector 255 of it).
 */
static inline void apic_sync_left_to_software(struct apic *apic)
{
	if (unlikely(atomic_load_explicit(&apic->posted_any, memory_order_relaxed) &
		     APIC_POSTED_FOR_SOFTWARE))
		apic_sync_posted_slow(apic);
}

/*
 * Highest pending vector whose class is above PPR's: to be injected now, if RFLAGS.IF etc. allow. -1: none.
 * What was pending when software cleared SVR bit 8 stays deliverable (SDM3 11.4.7.2). Never the spurious
 * vector: what is returned is deliverable, so SVR bits 7:0 are only stored.
 */
static inline int apic_next_vector(const struct apic *apic)
{
	return apic->irr_top > (apic->ppr | 15) ? apic->irr_top : -1;
}

/* Highest pending vector regardless of TPR and PPR, for interrupt windows. -1: none. */
static inline int apic_pending_vector(const struct apic *apic)
{
	return apic->irr_top;
}

/* `vector`, just returned by apic_next_vector(), goes into the VP: from IRR to ISR. */
void apic_take(struct apic *apic, uint8_t vector);

/* `vector`, which was taken, didn't get into the VP: it waits again. False: it didn't come from here, but from an 8259. */
bool apic_put_back(struct apic *apic, uint8_t vector);

/*
 * Lazy EOI (TLFS "EOI Assist"). Bit 0 of the word is set while one edge-triggered interrupt is in service and nothing is pending
 * that its end would let in; the guest that finds it set clears it, and that is the EOI: there is no exit. The model learns of it when
 * it next cares. Whenever something arrives, the bit is taken back first, so a guest that finds it clear writes its EOI.
 *
 * apic_set_assist(): `word` is the VP's from now on, NULL: nobody's. Not used where the processor answers reads from the page.
 * apic_settle_eoi(): with eoi_offered; the bit is taken back, or the interrupt is ended. Called by the model itself.
 */
void apic_set_assist(struct apic *apic, uint32_t *word);
void apic_settle_eoi(struct apic *apic);

/*
 * The SynIC's wishes, a bit for each vector: which are ended as they are taken, and of which apic_host_level_eoi() is told the end
 * though they are edge-triggered. A processor that delivers by itself can't do the former: apic_host_mode_changed() tells.
 */
void apic_set_eoi_rules(struct apic *apic, const uint32_t automatic[8], const uint32_t reported[8]);

/* The vectors 64 * i to 64 * i + 63 whose end goes on to apic_host_level_eoi(). */
static inline uint64_t apic_eoi_exits(const struct apic *apic, unsigned int i)
{
	return apic_vectors(apic, APIC_REG_TMR, i) | apic->eoi_reported[2 * i] |
	       (uint64_t)apic->eoi_reported[2 * i + 1] << 32;
}

/* TPR, 8 bits; CR8 is its high nibble: writing CR8 clears the low one. */
void apic_set_tpr(struct apic *apic, uint8_t tpr);
static inline uint8_t apic_cr8(const struct apic *apic)
{
	return (uint8_t)(apic->tpr >> 4);
}

/* ---- Processors that work on the page ---- */

/*
 * From now on the processor delivers and ends interrupts. Until apic_page_ran() only the functions by which interrupts arrive
 * may be called (accept, post, sync, ICR, timer expiry), and apic_pending_vector() is the highest that did.
 */
static inline void apic_page_runs(struct apic *apic)
{
	apic->irr_top = -1;
}

/*
 * The processor worked on the page: takes over what it changed. `requested` and `serviced` are the highest vectors it knows of
 * in IRR and ISR, 0: none (RVI and SVI, SDM3 25.4.2); what arrived since apic_page_runs() comes on top.
 */
void apic_page_ran(struct apic *apic, uint8_t requested, uint8_t serviced);

/* The guest wrote the register at `offset`, a multiple of 16, and the processor has put that into the page (SDM3 30.4.3.2). */
void apic_page_written(struct apic *apic, uint32_t offset);

/* The processor has ended `vector` by itself and asks for the rest. */
void apic_page_ended(struct apic *apic, uint8_t vector);

/* ---- Timer ---- */

/* VP TSC at which apic_timer_expired() wants to be called; UINT64_MAX: not armed. */
static inline uint64_t apic_timer_deadline(const struct apic *apic)
{
	return apic->timer.deadline_tsc;
}

/*
 * The deadline passed: interrupt by LVT timer, then the next deadline. Too early a call does nothing.
 * A late one gives one interrupt whatever number of periods passed; the phase is kept. Periods below
 * config.min_period_tsc give an interrupt only every so many periods that the distance is at least
 * that; the current count register keeps the true pace.
 */
void apic_timer_expired(struct apic *apic, uint64_t now_tsc);

/*
 * The VP's TSC jumped by `delta` (a write of IA32_TSC or IA32_TSC_ADJUST, a new offset). A count under way
 * goes on undisturbed; a TSC-deadline stays the TSC value it is. apic_host_now_tsc() is the new one.
 */
void apic_tsc_adjusted(struct apic *apic, int64_t delta);

/* ---- Destinations ---- */

/*
 * Does a message reach this APIC? `dest`: 8 bits when !from_x2apic (0xff: all), else 32 bits
 * (0xffffffff: all). A globally disabled APIC never matches, a software-disabled one does (it takes
 * NMI, INIT, SIPI; apic_accept() and apic_post() drop fixed ones; skip it for LOWEST: `enabled`).
 * May be called from other LPs: a racing change of mode gives the answer of before or after.
 */
bool apic_matches(const struct apic *apic, uint32_t dest, bool logical, bool from_x2apic);

/* The id as the current mode shows it (8 bits in xAPIC mode), and the logical address likewise. */
uint32_t apic_id(const struct apic *apic);
uint32_t apic_logical_id(const struct apic *apic);

#endif
