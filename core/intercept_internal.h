/* SPDX-License-Identifier: MIT */
/* What the files about intercepts share. */
#ifndef TRIVET_INTERCEPT_INTERNAL_H
#define TRIVET_INTERCEPT_INTERNAL_H

#include <hv/intercept.h>
#include <trivet/intercept.h>

struct vp_snapshot;

/* `now` was just read. `length`: the instruction's, 0 where nobody needs it. */
void intercept_fill_header(struct vp *vp, const struct vp_snapshot *now, uint8_t access_type, uint8_t length,
			   struct hv_x64_intercept_header *header);

/* Fills the pages, stops the VP, tells the parent. */
void intercept_send(struct vp *vp, const struct vp_snapshot *now, uint32_t type, const void *payload,
		    size_t bytes);

#endif
