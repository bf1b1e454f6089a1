/* SPDX-License-Identifier: MIT */
/* What the files about intercepts share. */
#ifndef TRIVET_INTERCEPT_INTERNAL_H
#define TRIVET_INTERCEPT_INTERNAL_H

#include <hv/intercept.h>
#include <trivet/backend.h>
#include <trivet/guest_walk.h>
#include <trivet/intercept.h>

struct vp_snapshot;

static_assert(GUEST_FETCH_MAX <= INTERCEPT_INSTRUCTION_BYTES, "the message has room");

/* The instruction at RIP, as much of it as can be read. How many bytes that is. */
static inline uint8_t intercept_fetch(struct vp *vp, const struct vp_context *context,
				      uint8_t bytes[INTERCEPT_INSTRUCTION_BYTES])
{
	const gva_t rip = GVA(context->rip + context->segment_base[INSN_SEG_CS]);

	return (uint8_t)guest_fetch(&context->paging, vp, rip, bytes, GUEST_FETCH_MAX);
}

/* `now` was just read. `length`: the instruction's, 0 where nobody needs it. */
void intercept_fill_header(struct vp *vp, const struct vp_snapshot *now, uint8_t access_type, uint8_t length,
			   struct hv_x64_intercept_header *header);

/* Fills the pages, stops the VP, tells the parent. */
void intercept_send(struct vp *vp, const struct vp_snapshot *now, uint32_t type, const void *payload,
		    size_t bytes);

/* The parent has an intercept of the VP's to answer, or deletes it: nothing else can be told now. */
bool intercept_is_open(const struct vp *vp);

#endif
