/* SPDX-License-Identifier: MIT */
/*
 * Statistics pages (TLFS "HvCallMapStatsPage"): counters in published slots, about the hypervisor, LPs, partitions and VPs, for the root's eyes. The hypervisor counts
 * where it always did (struct vp, struct lp); the pages are filled from there when mapped, and then, while any is, from
 * timer interrupts, a few at a time. No other exit pays for them. Slots that nothing is counted for stay 0:
 * docs/statistics.md.
 */
#ifndef TRIVET_STATISTICS_H
#define TRIVET_STATISTICS_H

#include <stdatomic.h>
#include <trivet/types.h>

struct lp;
struct partition;
struct vp;

/* What an exit was for, the same for all vendors (backend->exit_category). */
enum exit_category {
	EXIT_CATEGORY_OTHER,
	EXIT_CATEGORY_CONTROL_REGISTER,
	EXIT_CATEGORY_DEBUG_REGISTER,
	EXIT_CATEGORY_INVALIDATION, /* INVLPG and the like */
	EXIT_CATEGORY_IO,
	EXIT_CATEGORY_HLT,
	EXIT_CATEGORY_MWAIT,
	EXIT_CATEGORY_CPUID,
	EXIT_CATEGORY_MSR,
	EXIT_CATEGORY_HYPERCALL,
	EXIT_CATEGORY_INTERRUPT, /* a physical one arrived */
	EXIT_CATEGORY_WINDOW,	 /* the guest can take a pending one now */
	EXIT_CATEGORY_EXCEPTION,
	EXIT_CATEGORY_SECOND_STAGE, /* a page isn't there, or not for this */
	EXIT_CATEGORY_APIC,	    /* accesses that the processor knows for the local APIC's */
	EXIT_CATEGORY_RDPMC,
	EXIT_CATEGORY_COUNT
};

enum statistics_kind {
	STATISTICS_HYPERVISOR,
	STATISTICS_LP,
	STATISTICS_PARTITION,
	STATISTICS_VP,
};

/* What a page can be about: part of it, zero at first. */
struct statistics_object {
	struct statistics_object *next, *prev; /* in a ring of all whose page is mapped */
	uint64_t page; /* its number, a deposit of the partition that sees it; 0: none is mapped */
	uint8_t kind;  /* enum statistics_kind, while one is */
	bool counted;  /* statistics_add_vp() */
};

/* In struct partition. */
struct partition_statistics {
	struct statistics_object object;
	_Atomic uint32_t child_vps; /* of a child: those that are there now */
	_Atomic uint64_t gpa_pages; /* of a child: pages that its parent has mapped there */
};

/* Once at boot, after the root's VPs are there. */
void statistics_init(struct partition *partition);

/* A child's VP is there, and so it counts; until statistics_forget_vp(). */
void statistics_add_vp(struct vp *vp);

/* Pages are mapped; read on the timer path. */
extern _Atomic bool statistics_mapped;

/* Fills some pages if it is time. */
void statistics_refresh(void);

/* From each LP's timer interrupt. */
static inline void statistics_tick(void)
{
	if (unlikely(atomic_load_explicit(&statistics_mapped, memory_order_relaxed)))
		statistics_refresh();
}

/* The hypervisor as something that a page can be about. */
extern struct statistics_object statistics_hypervisor;

/*
 * Maps the page of an object into the caller's space, once; the same page when it is mapped already. The object lives until the caller's exit
 * handler ends. HV_STATUS_SUCCESS; INSUFFICIENT_MEMORY: the caller must deposit a page for its own partition; OPERATION_FAILED: the hypervisor has no
 * page left for tables.
 */
uint16_t statistics_map(struct vp *caller, enum statistics_kind kind, struct statistics_object *object,
			uint64_t *page);

/* HV_STATUS_NOT_FOUND when it isn't mapped. */
uint16_t statistics_unmap(struct vp *caller, struct statistics_object *object);

/*
 * The child or its VP is about to go: its page, if it was left mapped, goes back to the deposits of the parent, whose VP `caller` is. No LP reads the
 * object's counters any more when this returns. Nobody can map it any more when this is called; the rules of flush_space() hold.
 */
void statistics_forget_partition(struct partition *partition, struct vp *caller);
void statistics_forget_vp(struct vp *vp, struct vp *caller);

#endif
