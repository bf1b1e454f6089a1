/* SPDX-License-Identifier: MIT */
/*
 * Statistics pages (TLFS "HvCallMapStatsPage"): counters in published slots, for the root's eyes. The hypervisor counts
 * where it always did (struct vp, struct lp); the pages are filled from there when mapped, and then, while any is, from
 * timer interrupts, every few milliseconds. No other exit pays for them. Slots that nothing is counted for stay 0:
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

/* Room for what a root with `vps` VPs may map. Once at boot, after its VPs are there. -ENOMEM. */
int statistics_init(struct partition *root);

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

/* What a page can be about, by its place in the table of all of them. */
#define STATISTICS_HYPERVISOR 0u
#define STATISTICS_PARTITION 1u
#define STATISTICS_LP(index) (2u + 2u * (index))
#define STATISTICS_VP(index) (3u + 2u * (index))

/*
 * Maps the page of an object into the caller's space, once; the same page when it is mapped already. HV_STATUS_SUCCESS;
 * INSUFFICIENT_MEMORY: the caller must deposit a page for its own partition; OPERATION_FAILED: the hypervisor has no
 * page left for tables.
 */
uint16_t statistics_map(struct vp *caller, uint32_t object, uint64_t *page);

/* HV_STATUS_NOT_FOUND when it isn't mapped. */
uint16_t statistics_unmap(struct vp *caller, uint32_t object);

/* It is being deleted: its page, if it is mapped, goes back to `caller`'s partition. */
void statistics_forget_vp(struct vp *vp, struct vp *caller);
void statistics_forget_partition(struct partition *partition, struct vp *caller);

/* Fills one page with what is counted now. */
struct hv_stats_page;
void statistics_fill(struct hv_stats_page *page, uint32_t object);

#endif
