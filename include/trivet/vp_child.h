/* SPDX-License-Identifier: MIT */
/* What a VP of a child partition has and a root's hasn't: a page of its own beside struct vp, since nothing of it is hot. */
#ifndef TRIVET_VP_CHILD_H
#define TRIVET_VP_CHILD_H

#include <trivet/cpuid_policy.h>
#include <trivet/guest_msrs.h>
#include <trivet/intercept.h>
#include <trivet/types.h>

/* A page through which the hypervisor has read for the VP; right as long as nothing was taken out of its space, whose generation this is. */
struct read_page {
	uint64_t key; /* the GPA, with READ_PAGE_VALID */
	hpa_t hpa;
	uint64_t generation;
};

#define READ_PAGE_VALID 1u
#define READ_PAGES 16u /* a guest's tables on the way to its code, and the code */

struct vp_child {
	struct read_page read_pages[READ_PAGES]; /* by page number */
	struct guest_msrs msrs;
	struct cpuid_overrides overrides;
	struct vp_intercepts intercepts;
};
static_assert(sizeof(struct vp_child) <= PAGE_SIZE, "one page");

#endif
