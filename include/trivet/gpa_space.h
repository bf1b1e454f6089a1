/* SPDX-License-Identifier: MIT */
/*
 * The GPA space of a child: what its parent maps there (TLFS "Guest Physical Address Spaces"), with the child's overlay pages and its local
 * APIC's page on top. A page of the parent's is mapped as often as it likes and stays the parent's, too; while it is, it can't be
 * deposited (page_use.h).
 *
 * All tables come from partition->pages. A change is made under the child's space_lock and is known everywhere when gpa_change_end()
 * returns.
 */
#ifndef TRIVET_GPA_SPACE_H
#define TRIVET_GPA_SPACE_H

#include <trivet/second_stage.h>
#include <trivet/types.h>

struct partition;
struct vp;

enum gpa_state {
	GPA_ACCESSIBLE,
	GPA_UNMAPPED, /* HV_MESSAGE_UNMAPPED_GPA */
	GPA_REFUSED,  /* mapped, but not for that: HV_MESSAGE_GPA_INTERCEPT */
	GPA_COVERED, /* an overlay page that isn't for that: #GP (TLFS "GPA Overlay Pages"), the parent could do nothing about it */
};

/* An empty space for a child whose pages, properties.creation_flags and overlays.gpa_bits-to-be are known. -ENOMEM: nothing is left behind. */
int gpa_space_init(struct partition *child, unsigned int gpa_bits);

/*
 * Takes everything out of it and gives the tables back. No VP of the child runs or will, and its state isn't PARTITION_ACTIVE, which keeps new mappings out.
 * `caller` is the VP on this LP. False: a slice of the work is done, call again. Before the child's overlays are destroyed. Harmless when
 * repeated, or without gpa_space_init().
 */
bool gpa_space_destroy(struct partition *child, struct vp *caller);

/*
 * Whether a VP of the child may do `access` (SS_*, 0: is anything there?) at `gpa`; what is mapped, in `out` unless NULL, is valid with GPA_ACCESSIBLE. From
 * any LP; but the answer stays true only on the LP of a loaded VP of the child's, until its next entry. Takes space_lock when
 * nothing is there.
 */
enum gpa_state gpa_space_check(struct partition *child, gpa_t gpa, unsigned int access,
			       struct ss_mapping *out);

/* HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING: from now on dirty bits are kept by the page. */
void gpa_space_track(struct partition *child, bool tracks);

/* ---- Changes, for the hypercalls ---- */

#define GPA_CHANGE_RUNS 512u /* room for what a run of 512 pages takes the place of, whatever it is */

/* One or more calls of gpa_change_run(), then gpa_change_end(). */
struct gpa_change {
	struct partition *child;
	struct vp *caller; /* of the child's parent, on its own LP */
	uint64_t *
		replaced; /* GPA_CHANGE_RUNS runs of pages that no longer count as mapped, once it is flushed */
	uint32_t replaced_count;
};

enum gpa_change_kind { GPA_MAP, GPA_RESERVE, GPA_UNMAP };

struct gpa_run {
	enum gpa_change_kind kind;
	uint64_t gpn;
	uint64_t page;	/* GPA_MAP: the parent's first page; the others follow it */
	uint32_t count; /* 1 .. GPA_CHANGE_RUNS */
	unsigned int perm;
	bool uncached;
};

/*
 * Changes `run`, within the child's space. HV_STATUS_*, with the pages that are done in `done`: INSUFFICIENT_MEMORY: the child's pool is empty;
 * NO_RESOURCES: the hypervisor's; ACCESS_DENIED: not the parent's to give; OPERATION_DENIED: it serves as a deposit;
 * INVALID_PARTITION_STATE.
 */
uint16_t gpa_change_run(struct gpa_change *change, const struct gpa_run *run, uint32_t *done);

/* Nobody has any more what was replaced when this returns. The rules of flush_space() hold. */
void gpa_change_end(struct gpa_change *change);

/* ---- For overlays: what is beneath them, in a word; under space_lock ---- */

uint64_t gpa_space_beneath(const struct partition *child, uint64_t gpn);
int gpa_space_restore(struct partition *child, uint64_t gpn, uint64_t beneath);

#endif
