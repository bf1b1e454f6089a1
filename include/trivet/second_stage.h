/* SPDX-License-Identifier: MIT */
/*
 * Second-stage page tables: guest physical to host physical, for one GPA space. One algorithm for
 * every vendor; the entry format is data (struct ss_format). Four levels, 48 bits of GPA, leaves
 * of 4 KiB, 2 MiB and 1 GiB.
 *
 * Every change is prepare/commit: all table pages are allocated first, so -ENOMEM leaves
 * everything as it was. A live entry changes by one 64-bit store, and a new table is complete
 * before it is linked, so other processors may run on the tables meanwhile. Tables taken out stay
 * on a retired list, as they were but for the first entry, until the owner has flushed:
 *
 *	ss_unmap(ss, gpa, size);
 *	if (ss_needs_flush(ss)) {
 *		generation = ss->generation;
 *		...flush the TLBs of all LPs that use ss...
 *		ss_note_flush(ss, generation);
 *		ss_reclaim(ss);
 *	}
 *
 * The caller serialises all calls that change one `ss`. ss_lookup() may run beside them until
 * ss_reclaim(), and who runs on the tables does: either may come upon a hole where something is mapped, at the first
 * entry of a table that has just been taken out, and looks again (the lookup under the caller's lock).
 *
 * A stretch is mapped, reserved (there is something, and nobody may have it: the processor sees a hole) or a hole.
 */
#ifndef TRIVET_SECOND_STAGE_H
#define TRIVET_SECOND_STAGE_H

#include <trivet/page_alloc.h>
#include <trivet/page_source.h>
#include <trivet/types.h>

enum ss_perm {
	SS_READ = 1,
	SS_WRITE = 2,
	SS_EXEC = 4,
	SS_RWX = 7,
	SS_ALONE =
		8, /* ss_map() of one page: never part of a larger leaf, so whatever replaces it needs no table */
};

#define SS_GPA_BITS 48
#define SS_HPA_BITS 52

/* ss_init() flags */
#define SS_1G_PAGES BIT(0)    /* the processor knows 1 GiB leaves */
#define SS_ACCESS_BITS BIT(1) /* it sets accessed and dirty bits */
#define SS_SMALL_PAGES BIT(2) /* no new leaves but of 4 KiB; the owner may change it in ss->flags */

/*
 * A vendor's entry format. Masks; bit 0 of a permission index is SS_READ, bit 1 SS_WRITE, bit 2
 * SS_EXEC.
 */
struct ss_format {
	/* perm -> entry bits of a leaf, inverted bits (NX) included; 0: can't be expressed */
	uint64_t perm_bits[8];
	uint64_t perm_mask;    /* all bits that perm_bits uses */
	uint64_t present_mask; /* an entry with none of these bits maps nothing */
	uint64_t table_bits;   /* of an entry for a table: all rights, the leaf decides */
	uint64_t leaf_bits;    /* that every leaf has, whatever its permissions */
	uint64_t alone_bit;    /* of a leaf with SS_ALONE; the processor ignores it */
	uint64_t large_bit;    /* set in a leaf of 2 MiB or 1 GiB, clear in an entry for a table */
	uint64_t addr_mask;    /* host physical address */
	/* Set by the processor: ignored here, lost when an entry is rewritten, kept when it is split */
	uint64_t accessed_bit, dirty_bit;
	uint64_t hardware_bits; /* both */
	uint64_t memtype_mask;	/* memory types are 0 .. memtype_mask >> memtype_shift; 0: none */
	unsigned memtype_shift;
	unsigned uncached_memtype;
};

struct second_stage {
	const struct ss_format *format;
	struct page_source *pages;
	uint64_t *root;
	uint64_t flags;
	/*
	 * Grows with every operation that changed or removed an entry that was present: what TLBs
	 * hold may be wrong until they are flushed. Filling a hole doesn't count.
	 */
	uint64_t generation;
	uint64_t flushed_generation; /* all TLBs are known flushed up to here */
	uint64_t *retired;	     /* a list through their first entries */
	size_t retired_pages;
	size_t table_pages; /* tables in use, root included, retired ones not */
};

struct ss_mapping {
	hpa_t hpa;     /* of the looked-up GPA itself, offset in the page included */
	unsigned perm; /* enum ss_perm */
	unsigned memtype;
	uint64_t page_size; /* SIZE_4K, SIZE_2M or SIZE_1G; of a hole or a reserved stretch 512 GiB, too */
	bool reserved;	    /* nothing is mapped, but not a hole */
};

/* An empty GPA space whose tables come from `pages`. 0, -EINVAL (unknown flag), or -ENOMEM. */
int ss_init(struct second_stage *ss, const struct ss_format *format, struct page_source *pages,
	    uint64_t flags);

/*
 * Gives every page back, retired ones too. No LP may be using the tables any more; `ss` needs
 * ss_init() again.
 */
void ss_destroy(struct second_stage *ss);

/*
 * Maps [gpa, gpa + size) to [hpa, hpa + size), replacing what was there, with the largest pages
 * that fit. gpa, hpa and size are multiples of 4 KiB, size is not 0. `perm` is not empty and must
 * be expressible in the format (all need SS_READ for NPT). `memtype` is the format's own coding, 0
 * if it has none. Returns 0, -EINVAL for a bad argument, a wrap or an address beyond
 * SS_GPA_BITS/SS_HPA_BITS, or -ENOMEM with nothing changed. With SS_ALONE in `perm` size is 4 KiB.
 */
int ss_map(struct second_stage *ss, gpa_t gpa, hpa_t hpa, uint64_t size, unsigned perm, unsigned memtype);

/*
 * Removes what is mapped in [gpa, gpa + size); holes are fine. Same rules and errors as ss_map().
 */
int ss_unmap(struct second_stage *ss, gpa_t gpa, uint64_t size);

/* The same, and [gpa, gpa + size) is reserved. */
int ss_reserve(struct second_stage *ss, gpa_t gpa, uint64_t size);

#define SS_ACCESSED 1u
#define SS_DIRTY 2u

/*
 * Whether the page at `gpa` was accessed and written (`was`: SS_ACCESSED, SS_DIRTY; all of it where the processor doesn't tell, nothing where nothing is
 * mapped), as it was before: then `clear` is cleared and `set` set. It is the whole leaf's, but with SS_SMALL_PAGES a larger
 * one is split first. What was cleared needs a flush to be set again. 0, -ENOMEM.
 */
int ss_access(struct second_stage *ss, gpa_t gpa, unsigned clear, unsigned set, unsigned *was);

/* The hypervisor wrote there in the processor's place. May run beside changes, as ss_lookup(). */
void ss_mark_written(const struct second_stage *ss, gpa_t gpa);

/*
 * What `gpa` is mapped to. False if nothing is (then only out->page_size and out->reserved are set: all of the aligned
 * block of that size is reserved, or a hole), or gpa has bits at or above SS_GPA_BITS. `out` may be NULL.
 */
bool ss_lookup(const struct second_stage *ss, gpa_t gpa, struct ss_mapping *out);

/*
 * Host physical address of the root table, for nCR3 or EPTP. Never changes between ss_init() and
 * ss_destroy().
 */
hpa_t ss_root_hpa(const struct second_stage *ss);

static inline bool ss_needs_flush(const struct second_stage *ss)
{
	return ss->generation != ss->flushed_generation;
}

/*
 * The caller has flushed every TLB that may hold translations of `ss`, after reading `generation`.
 */
void ss_note_flush(struct second_stage *ss, uint64_t generation);

/*
 * Gives retired tables back to their source; returns how many. Panics if a flush is due that nobody
 * noted.
 */
size_t ss_reclaim(struct second_stage *ss);

#endif
