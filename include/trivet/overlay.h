/* SPDX-License-Identifier: MIT */
/*
 * Overlay pages: pages of the hypervisor's own that a guest has laid over its GPA space with an MSR (TLFS "GPA overlay
 * pages"). The content belongs to the hypervisor and stays where it is as long as its partition lives, so whoever fills it
 * uses overlay_content() and never asks where, or whether, the guest sees it. What lay beneath comes back when the
 * overlay is disabled or moved.
 */
#ifndef TRIVET_OVERLAY_H
#define TRIVET_OVERLAY_H

#include <stdatomic.h>
#include <trivet/types.h>

struct partition;
struct vp;

enum overlay_kind {
	OVERLAY_HYPERCALL,     /* of the partition; read and execute */
	OVERLAY_REFERENCE_TSC, /* of the partition; read */
	OVERLAY_VP_ASSIST,     /* the rest: of a VP; read and write */
	OVERLAY_SIMP,
	OVERLAY_SIEFP,
	OVERLAY_SIRBP,
	OVERLAY_KIND_COUNT
};

/* Bits of every overlay's MSR. Bits 11:1 keep what is written, 63:12 are the page number. */
#define OVERLAY_MSR_ENABLE BIT(0)
#define OVERLAY_MSR_PAGE_SHIFT 12

struct overlay {
	_Atomic uint64_t msr; /* as the guest reads it */
	void *content;
	struct partition *partition;
	/* All below: under the partition's space_lock. */
	uint64_t gpn; /* where it lies, when `mapped` */
	uint64_t
		beneath; /* in a child: what its parent has mapped there, as gpa_space.h packs it; all that lie there agree */
	struct overlay *next; /* in the bucket of its gpn; those on top come first */
	uint8_t kind;	      /* enum overlay_kind */
	bool mapped;
};

#define OVERLAY_BUCKETS 64u

/* Embedded in the partition as `overlays`. Under space_lock, but for what says otherwise. */
struct overlay_space {
	struct overlay *bucket[OVERLAY_BUCKETS]; /* by page number: what lies there */
	uint32_t mapped;			 /* how many lie somewhere */
	/* Overlays that lie elsewhere than at their content's own address. Readable without the lock. */
	_Atomic uint32_t displaced;
	uint8_t gpa_bits; /* a page at or above 1 << gpa_bits can't be overlaid: #GP */
	/* An identity map, where MSRs start with the content's own page number: the root. */
	bool identity;
	/*
	 * Makes the second stage at one page as it is without overlays; `beneath` is what read_beneath() said of it, or its parent since. 0, -ENOMEM. Under
	 * space_lock.
	 */
	int (*map_beneath)(struct partition *partition, uint64_t gpn, uint64_t beneath);
	uint64_t (*read_beneath)(const struct partition *partition, uint64_t gpn); /* NULL: not needed */
};

/* Once per partition, before its first overlay_init(). */
void overlay_space_init(struct partition *partition, unsigned int gpa_bits, bool identity,
			int (*map_beneath)(struct partition *partition, uint64_t gpn, uint64_t beneath));

/* A zeroed content page, disabled, MSR at its reset value. -ENOMEM. `overlay` is zeroed memory that lives as long as the partition. */
int overlay_init(struct partition *partition, struct overlay *overlay, enum overlay_kind kind);

/* The content goes away. It lies nowhere any more. */
void overlay_destroy(struct overlay *overlay);

/*
 * The guest's (or its parent's) write of the MSR: enables, moves, disables. `self` is the VP that runs on this LP. Returns
 * only when no VP of the partition uses the mapping of before. Nonzero: #GP(0), nothing changed: -EINVAL (a page beyond
 * the address width), -ENOMEM (no second-stage table left, logged). Takes space_lock; any LP. MSRs with bits of their own
 * (HYPERCALL) check these before.
 */
int overlay_write_msr(struct partition *partition, struct vp *self, struct overlay *overlay, uint64_t value);

/*
 * The same in the hands of a caller that has rules of its own to keep under space_lock; after dropping it, it calls
 * flush_and_reclaim(), whatever came back.
 */
int overlay_change(struct partition *partition, const struct vp *self, struct overlay *overlay,
		   uint64_t value);

/* Back to the reset value, unmapped. As a write otherwise, error included. */
int overlay_reset(struct partition *partition, struct vp *self, struct overlay *overlay);

static inline uint64_t overlay_read_msr(const struct overlay *overlay)
{
	return atomic_load_explicit(&overlay->msr, memory_order_relaxed);
}

static inline bool overlay_enabled(const struct overlay *overlay)
{
	return overlay_read_msr(overlay) & OVERLAY_MSR_ENABLE;
}

/* The content, guest-writable for some kinds: read once, believe nothing. */
static inline void *overlay_content(const struct overlay *overlay)
{
	return overlay->content;
}

/* The first page of [gpn, end) that something is laid over; `end`: none. Under space_lock. */
uint64_t overlay_first_in(const struct partition *partition, uint64_t gpn, uint64_t end);

/*
 * What the parent of a child has mapped beneath the overlays at `gpn`, where at least one lies; its parent's change of that. Under space_lock.
 */
uint64_t overlay_beneath(const struct partition *partition, uint64_t gpn);
void overlay_set_beneath(struct partition *partition, uint64_t gpn, uint64_t beneath);

/*
 * A child's GPA space goes, and nothing of it runs: one overlay fewer lies there. Where it lay; `bare`: the last one there. The tables are
 * the caller's business. False: there is none. Under space_lock.
 */
bool overlay_forget_one(struct partition *partition, uint64_t *gpn, uint64_t *beneath, bool *bare);

/* Is something laid over a page of [start, end)? Under space_lock. */
bool overlay_in_range(const struct partition *partition, uint64_t start, uint64_t end);

/*
 * The byte of an overlay's content that the VPs see at `gpa`; NULL when there is none, or it can't be written and `write` is set.
 * For the hypervisor's own accesses in a VP's name, on that VP's LP. No lock. The root's only: what
 * a child sees, the RAM window shows (guest_memory.c).
 */
void *overlay_at(const struct partition *partition, gpa_t gpa, bool write);

#endif
