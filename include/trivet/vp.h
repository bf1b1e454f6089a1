/* SPDX-License-Identifier: MIT */
/*
 * A virtual processor (VP). Its live state is touched only by the LP that runs it; others set bits in `pending`
 * and kick that LP.
 */
#ifndef TRIVET_VP_H
#define TRIVET_VP_H

#include <stdatomic.h>
#include <trivet/apic.h>
#include <trivet/decode.h>
#include <trivet/guest_walk.h>
#include <trivet/io.h>
#include <trivet/lock.h>
#include <trivet/lp.h>
#include <trivet/run_time.h>
#include <trivet/schedule.h>
#include <trivet/statistics.h>
#include <trivet/synic.h>
#include <trivet/synthetic_timer.h>
#include <trivet/types.h>
#include <trivet/vp_registers.h>
#include <trivet/vp_assist.h>

/* Bits of vp->pending: work to do before the next entry. One test on the exit path covers them all. */
#define VP_PENDING_EVENT BIT(0) /* an interrupt may be deliverable */
#define VP_PENDING_NMI BIT(1)
#define VP_PENDING_INIT BIT(2)
#define VP_PENDING_SIPI BIT(3)
#define VP_PENDING_FLUSH BIT(4)	   /* translations changed: the second stage's, or its own */
#define VP_PENDING_SYNIC BIT(6)	   /* messages in the SynIC's inbox */
#define VP_PENDING_SHUTDOWN BIT(5) /* the guest shut the processor down (triple fault) */
#define VP_PENDING_SCHEDULE BIT(7) /* it can't go on, or another may: choose who runs */
#define VP_PENDING_TIMER BIT(8)	   /* a timer of its has expired while it wasn't loaded */
#define VP_PENDING_RESUME BIT(9)   /* its parent has answered an intercept */
#define VP_PENDING_CLOCK BIT(10)   /* a child's time or timers were changed: stimers_clock_changed() */
#define VP_PENDING_LOOK BIT(11)	   /* others want VPs to be looked at: lp->wakes */
/* What core/schedule.c deals with; the rest is the back ends'. */
#define VP_PENDING_NEUTRAL                                                                                  \
	(VP_PENDING_SHUTDOWN | VP_PENDING_INIT | VP_PENDING_SIPI | VP_PENDING_SYNIC | VP_PENDING_SCHEDULE | \
	 VP_PENDING_TIMER | VP_PENDING_RESUME | VP_PENDING_CLOCK | VP_PENDING_LOOK)

enum vp_state {
	VP_RUNNING,
	VP_WAIT_SIPI, /* after INIT: waits for a start-up IPI */
};

#define VP_APIC_SPACE 512
#define VP_EXIT_COUNTS 256u

struct fx_area;
struct vp_child;

struct vp {
	/* First, since it begins with the posted-interrupt descriptor: SDM3 30.6 asks for 64-byte alignment, Bochs for a page's. */
	union {
		struct apic apic;
		uint8_t apic_space[VP_APIC_SPACE];
	};
	uint64_t gpr
		[GPR_COUNT]; /* RAX valid at every exit; RSP only between backend get_context/set_context */
	void *control;	     /* the back end's control block (VMCB, VMCS) */
	uint64_t control_hpa;
	_Atomic uint64_t pending; /* VP_PENDING_* */
	struct lp *lp;
	struct partition *partition;
	uint32_t index;
	uint32_t state; /* enum vp_state */
	/* External interrupts the 8259s delivered through LINT0: taken already, wait for the guest's IF. */
	uint64_t extint[4];
	uint32_t extint_count;
	bool extint_held; /* LINT0 is masked until the guest can take an 8259's interrupt */
	uint8_t sipi_vector;
	uint8_t wanted; /* of a child's: what its parent wants to see, VP_WANTED_*; intercepts_follow() */
	uint32_t wanted_exceptions; /* a bit for each vector */
	uint32_t wanted_generation;
	uint64_t backend_data[16] __attribute__((aligned(16))); /* the back end's own, zero at vp_create */
	_Atomic uint64_t flush_seen; /* the newest of partition->flush.ticket that was carried out here */
	uint64_t flushes;
	struct apic_page *apic_page;
	uint64_t *exit_counts; /* a page: VP_EXIT_COUNTS, by the low byte of the back end's exit code */
	uint64_t exit_counts_logged_tsc;
	_Atomic bool idle; /* runs no guest code and holds no translation: nobody waits for it (flush.h) */
	/* For statistics; `flushes` above are those that were carried out here. */
	uint64_t flush_calls;	  /* flush hypercalls */
	uint64_t ipi_calls;	  /* IPI hypercalls */
	uint64_t ipis_sent;	  /* the VPs they named */
	uint64_t long_spin_waits; /* HvCallNotifyLongSpinWait */
	uint64_t hypercalls;	  /* made so far */
	uint64_t dispatches;	  /* how often it was loaded, and how often elsewhere than before */
	uint64_t migrations;
	uint64_t
		io_messages; /* what its parent was told: HV_MESSAGE_X64_IO_PORT_INTERCEPT; of memory; all else */
	uint64_t memory_messages;
	uint64_t other_messages;
	struct statistics_object statistics;
	/* Of a root with the interface: it has named this VP's processor, and then the VP (calls_processors.c). */
	_Atomic bool lp_added;
	_Atomic bool created;
	bool rip_moved; /* a hypercall set RIP: it stays where it is */
	/* Who runs it: schedule.h. */
	bool halted;		   /* HLT, or an idle request: it waits for what would wake it */
	bool halted_interrupts_on; /* interrupts wake it only if it can take them */
	bool halted_nmis_on;
	bool halted_until_pending; /* any interrupt wakes it, whether it could take it or not */
	_Atomic bool forgotten;	   /* VP_HOLD_DEAD, and its LP has nothing of it any more */
	_Atomic bool loaded;
	_Atomic bool wake_queued;
	_Atomic uint32_t holds;	      /* VP_HOLD_* */
	struct vp *_Atomic wake_next; /* in lp->wakes */
	struct spinlock borrow_lock;
	struct sched_vp sched;
	struct heap_node timer_node; /* in lp->timers while it isn't loaded */
	bool arrived;		     /* from another LP, just now */
	bool uses_dr;		     /* it has touched DR0 to DR3: they are switched with it */
	struct lp *last_lp;	     /* where it was loaded last: translations of its are in no other */
	uint64_t tsc_offset;	     /* of a child's: what its TSC is ahead of lp_clock() */
	uint64_t tsc_delta;	     /* what its TSC is ahead of its LP's; 0: the root's */
	struct fx_area *fpu;	     /* extended state while it isn't loaded: a page, a root's may be more */
	uint64_t xcr0;
	uint64_t dr[4];
	struct vp_child *child; /* a page; NULL: a root's */
	struct vp_parent_registers parent_registers;
	struct vp_assist assist;
	struct run_time run_time;
	struct synic synic;
	struct stimers stimers;
};
static_assert(sizeof(struct vp) <= PAGE_SIZE, "deposits are single pages");
static_assert(sizeof(struct apic) <= VP_APIC_SPACE, "struct vp");
static_assert(offsetof(struct vp, apic.posted) == 0, "page aligned");
static_assert(offsetof(struct vp, gpr) == VP_APIC_SPACE, "the back ends' enter.asm");
static_assert(offsetof(struct vp, control) == VP_APIC_SPACE + 128, "the back ends' enter.asm");
static_assert(offsetof(struct vp, control_hpa) == VP_APIC_SPACE + 136, "the back ends' enter.asm");
static_assert(offsetof(struct vp, pending) == VP_APIC_SPACE + 144, "the back ends' enter.asm");

/* A copy of the state that instruction emulation needs; vendor neutral. */
struct vp_context {
	uint64_t rip;
	uint64_t rflags;
	uint64_t segment_base[6]; /* ES CS SS DS FS GS: their numbers in an instruction */
	uint8_t mode;		  /* enum insn_mode */
	uint8_t cpl;
	struct guest_paging paging;
};

/*
 * -ENOMEM; -ENOTSUP as the back end's vp_create. A root's VP belongs to `lp` for good and waits for its start-up IPI. A child's is as after
 * power-up, held by VP_HOLD_EXPLICIT; `lp` is NULL, it gets one by itself.
 */
int vp_create(struct partition *partition, uint32_t index, struct lp *lp, struct vp **out);

/* Before that, while its partition lives on: its overlay pages leave the GPA space. `self` runs here, and nobody runs the VP. False: one couldn't. */
bool vp_unmap_overlays(struct vp *vp, struct vp *self);

/* All its pages go back to its partition. Nobody can reach it any more, and it isn't loaded. */
void vp_destroy(struct vp *vp);

static inline void vp_post(struct vp *vp, uint64_t bits)
{
	atomic_fetch_or_explicit(&vp->pending, bits, memory_order_seq_cst);
}

/* The same from the LP that runs the VP, without the locked instruction when nothing changes. */
static inline void vp_post_self(struct vp *vp, uint64_t bits)
{
	if ((atomic_load_explicit(&vp->pending, memory_order_relaxed) & bits) != bits)
		vp_post(vp, bits);
}

static inline void vp_clear_pending(struct vp *vp, uint64_t bits)
{
	atomic_fetch_and_explicit(&vp->pending, ~bits, memory_order_seq_cst);
}

/*
 * Copies the VP's state and decodes the instruction at its RIP. Errors as insn_decode(); fewer bytes than the instruction
 * has (its second page is gone) count as too few.
 */
int vp_decode_current(struct vp *vp, struct vp_context *context, struct insn *insn);

/* CPUID as the machine answers it. In and out: vp->gpr RAX, RBX, RCX, RDX; CPUID clears the upper halves (APM3 CPUID). */
static inline void vp_cpuid_native(struct vp *vp)
{
	__asm__ volatile("cpuid"
			 : "=a"(vp->gpr[GPR_RAX]), "=b"(vp->gpr[GPR_RBX]), "=c"(vp->gpr[GPR_RCX]),
			   "=d"(vp->gpr[GPR_RDX])
			 : "a"(vp->gpr[GPR_RAX]), "c"(vp->gpr[GPR_RCX]));
}

#define VP_CPUID_SPECIAL (BIT(1) | BIT(7) | BIT(0xd) | BIT(0x14) | BIT(0x19))

/*
 * True for the leaves that may not be simply the machine's, quick to tell: features, extended state, trace and key locker,
 * the first of the extended range, where a back end hides itself, and the hypervisor's own. They go through vp_cpuid().
 */
static inline bool vp_cpuid_is_special(uint32_t leaf)
{
	uint32_t range = leaf & ~0x1fu;

	return range == 0 ? VP_CPUID_SPECIAL >> leaf & 1 : range == 0x80000000u || leaf >> 28 == 4;
}

/*
 * The same, with OSXSAVE (leaf 1), OSPKE (leaf 7), AESKLE (leaf 19h) and APIC (leaf 1, leaf 80000001h) of the VP: the
 * processor answers from the hypervisor's CR4 and APIC. The back end hides itself afterwards.
 */
void vp_cpuid(struct vp *vp, uint64_t cr4);

/* The same, and the VP's registers stay as they are. */
static inline struct cpuid_regs vp_cpuid_ask(struct vp *vp, uint32_t leaf, uint32_t subleaf, uint64_t cr4)
{
	const uint64_t rax = vp->gpr[GPR_RAX], rbx = vp->gpr[GPR_RBX];
	const uint64_t rcx = vp->gpr[GPR_RCX], rdx = vp->gpr[GPR_RDX];
	struct cpuid_regs answer;

	vp->gpr[GPR_RAX] = leaf;
	vp->gpr[GPR_RCX] = subleaf;
	vp_cpuid(vp, cr4);
	answer = (struct cpuid_regs){
		.eax = (uint32_t)vp->gpr[GPR_RAX],
		.ebx = (uint32_t)vp->gpr[GPR_RBX],
		.ecx = (uint32_t)vp->gpr[GPR_RCX],
		.edx = (uint32_t)vp->gpr[GPR_RDX],
	};
	vp->gpr[GPR_RAX] = rax;
	vp->gpr[GPR_RBX] = rbx;
	vp->gpr[GPR_RCX] = rcx;
	vp->gpr[GPR_RDX] = rdx;
	return answer;
}

/* RDMSR and WRMSR of everything that isn't the back end's own: 0, or -EINVAL for #GP(0). */
int vp_msr_read(struct vp *vp, uint32_t msr, uint64_t *value);
int vp_msr_write(struct vp *vp, uint32_t msr, uint64_t value);

/* INIT and start-up IPIs for a VP, from any LP. The start-up IPI's `vector` is the page it starts at. */
void vp_send_init(struct vp *vp);
void vp_send_sipi(struct vp *vp, uint8_t vector);

/*
 * A fixed, edge-triggered interrupt from `sender`, which runs here (it may be the target), to a VP whose local APIC is enabled or at
 * least set up (apic.base is not 0).
 */
void vp_send_fixed(struct vp *target, struct vp *sender, uint8_t vector);

/* The partition's VP with that local APIC id, NULL when there is none. Constant time. */
struct vp *vp_by_apic_id(const struct partition *partition, uint32_t apic_id);

/* Starts and resets, where the VP is loaded, for VP_PENDING_INIT and VP_PENDING_SIPI. */
void vp_handle_startup(struct vp *vp);

/*
 * HLT: the VP sleeps from the end of the exit handler on, until it has something to do: an interrupt it may take
 * (`interrupts_on`: RFLAGS.IF), an NMI (`nmis_on`: none is being handled), INIT. Where it is loaded.
 */
void vp_halt(struct vp *vp, bool interrupts_on, bool nmis_on);

/* The same for a VP that any interrupt wakes, whether it could take it or not. */
void vp_halt_until_pending(struct vp *vp);

/* It sleeps, and nothing has come that wakes it. Where it is loaded. */
bool vp_sleeps(struct vp *vp);

/*
 * A level-triggered interrupt that ended as it was taken (AutoEOI) is told to the VP's parent, and the VP stopped for that: after schedule() has chosen
 * it, so that it has to be asked once more.
 */
static inline bool vp_was_stopped(const struct vp *vp)
{
	return unlikely(vp->apic.eoi_automatic_any) && vp->child &&
	       atomic_load_explicit(&vp->holds, memory_order_relaxed);
}

/* LINT0 delivers the 8259s' interrupts. */
static inline bool vp_extint_wired(const struct vp *vp)
{
	return (vp->apic.lvt[APIC_LVT_LINT0] & (APIC_LVT_MASKED | 0x700)) == APIC_MODE_EXTINT << 8;
}

/* The highest external interrupt that an 8259 delivered; only while extint_count is not 0. */
uint8_t vp_extint_take(struct vp *vp);

/* An interrupt that was to be injected isn't after all, as an exception comes first: it comes when the VP can take it. */
void vp_put_back_interrupt(struct vp *vp, uint8_t vector);

/* Masks the physical LINT0, and gives it back as the VP has it. On the VP's own LP. */
void vp_extint_hold(struct vp *vp);
void vp_extint_release(struct vp *vp);

/* An access to the local APIC's page at offset `gpa` & 0xfff: decodes the instruction at RIP and carries it out. */
enum fault_result vp_apic_page_access(struct vp *vp, gpa_t gpa);

/* The LP's last exits, to the log. */
void vp_log_history(struct vp *vp);

/* The VP's registers and what waits for it, to the log. On its own LP. */
void vp_log_state(struct vp *vp);

/* For log level debug: every few seconds a line with the VP's exits by cause. */
void vp_log_exit_counts(struct vp *vp);

/* What one VP costs in pages, in bytes. */
uint64_t vp_memory_bytes(void);

/* The guest shut this processor down (triple fault): logs why and resets the machine. */
_Noreturn void vp_shutdown(struct vp *vp);

#endif
