/* SPDX-License-Identifier: MIT */
/* What a VP of a child partition has and a root's hasn't: a page of its own beside struct vp, since nothing of it is hot. */
#ifndef TRIVET_VP_CHILD_H
#define TRIVET_VP_CHILD_H

#include <trivet/cpuid_policy.h>
#include <trivet/guest_msrs.h>
#include <trivet/intercept.h>
#include <trivet/types.h>

struct vp_child {
	struct guest_msrs msrs;
	struct cpuid_overrides overrides;
	struct vp_intercepts intercepts;
};
static_assert(sizeof(struct vp_child) <= PAGE_SIZE, "one page");

#endif
