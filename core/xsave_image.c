/* SPDX-License-Identifier: MIT */
/*
 * XSAVE areas between the standard format, in which vp->fpu is, and the compacted one. What is loaded into vp->fpu must be something that
 * XRSTOR takes without a fault (SDM1 13.8): no component that XCR0 can't have, no header bytes, no reserved bit of MXCSR.
 */
#include <errno.h>
#include <string.h>
#include <trivet/cpuid_policy.h>
#include <trivet/live_registers.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/x86.h>
#include <trivet/xsave_image.h>

#define COMPACTED BIT(63)
#define STATE_X87 BIT(0)
#define STATE_SSE BIT(1)

struct xsave_header {
	uint64_t xstate_bv;
	uint64_t xcomp_bv;
	uint64_t reserved[6];
};

/* What comes before the components of their own place. */
struct xsave_start {
	struct fx_area fx;
	struct xsave_header header;
};
static_assert(sizeof(struct xsave_start) == XSAVE_EXTENDED_OFFSET, "SDM1 13.4");

static uint64_t states_of(const struct vp *vp)
{
	return vp->partition->cpuid.xsave_states | XSAVE_LEGACY_STATES;
}

static struct xsave_header *header_of(const struct vp *vp)
{
	return &((struct xsave_start *)(void *)vp->fpu)->header;
}

static void reset_x87(struct fx_area *fx)
{
	memset(fx, 0, offsetof(struct fx_area, mxcsr));
	memset(fx->st, 0, sizeof(fx->st));
	fx->fcw = FCW_INITIAL;
}

static void copy_x87(struct fx_area *to, const struct fx_area *from)
{
	memcpy(to, from, offsetof(struct fx_area, mxcsr));
	memcpy(to->st, from->st, sizeof(to->st));
}

/* Where component `index` lies in the image, after those before it end at `*end`, which moves behind it. */
static uint32_t place(const struct xsave_component *component, uint32_t *end)
{
	uint32_t at = component->aligned ? (*end + 63) & ~63u : *end;

	*end = at + component->bytes;
	return at;
}

/* ---- Out ---- */

/* x87 and SSE are always spelled out: an image then says the same whatever was in its initial state. */
static int save_start(const struct vp *vp, uint64_t states, const struct xsave_image *image)
{
	const struct xsave_header *header = header_of(vp);
	struct xsave_start start = { .header = { .xcomp_bv = COMPACTED | states } };
	uint64_t there = vp->partition->cpuid.xsave_states ? header->xstate_bv : XSAVE_LEGACY_STATES;

	if (there & STATE_X87)
		copy_x87(&start.fx, vp->fpu);
	else
		reset_x87(&start.fx);
	if (there & STATE_SSE)
		memcpy(start.fx.xmm, vp->fpu->xmm, sizeof(start.fx.xmm));
	start.fx.mxcsr = vp->fpu->mxcsr;
	start.fx.mxcsr_mask = vp->fpu->mxcsr_mask;
	start.header.xstate_bv = XSAVE_LEGACY_STATES | (there & states);
	return image->write(image->ctx, 0, &start, sizeof(start)) ? 0 : -EIO;
}

int xsave_image_save(const struct vp *vp, uint64_t states, const struct xsave_image *image)
{
	uint32_t end = XSAVE_EXTENDED_OFFSET;
	int err;

	states = (states & states_of(vp)) | XSAVE_LEGACY_STATES;
	if (xsave_bytes(states, true) > image->bytes)
		return -ENOSPC;
	err = save_start(vp, states, image);
	for (unsigned int i = 2; i < XSAVE_COMPONENTS && !err; i++) {
		struct xsave_component component;
		uint32_t at;

		if (!(states >> i & 1))
			continue;
		component = xsave_component(i);
		at = place(&component, &end);
		if ((header_of(vp)->xstate_bv >> i & 1) &&
		    !image->write(image->ctx, at, (const uint8_t *)vp->fpu + component.offset,
				  component.bytes))
			err = -EIO;
	}
	return err;
}

/* ---- In ---- */

static uint32_t mxcsr_mask(void)
{
	struct fx_area here = { 0 };

	save_fx(&here);
	return here.mxcsr_mask ? here.mxcsr_mask : MXCSR_MASK_DEFAULT;
}

/* Components that are only in the layout may be any that the processor knows: they are skipped. */
static bool layout_is_valid(uint64_t layout, uint32_t bytes)
{
	for (unsigned int i = 2; i < XSAVE_COMPONENTS; i++)
		if ((layout >> i & 1) && !xsave_component(i).bytes)
			return false;
	return xsave_bytes(layout, true) <= bytes;
}

static bool start_is_valid(const struct vp *vp, const struct xsave_start *start, uint32_t bytes)
{
	uint64_t layout = start->header.xcomp_bv & ~COMPACTED;

	if (!(start->header.xcomp_bv & COMPACTED))
		return false;
	for (unsigned int i = 0; i < ARRAY_SIZE(start->header.reserved); i++)
		if (start->header.reserved[i])
			return false;
	if (start->header.xstate_bv & ~((layout | XSAVE_LEGACY_STATES) & states_of(vp)))
		return false;
	if ((start->header.xstate_bv & STATE_SSE) && (start->fx.mxcsr & ~mxcsr_mask()))
		return false;
	return layout_is_valid(layout, bytes);
}

static void load_start(struct vp *vp, const struct xsave_start *start)
{
	uint64_t there = start->header.xstate_bv;
	struct fx_area *fx = vp->fpu;

	if (there & STATE_X87)
		copy_x87(fx, &start->fx);
	else
		reset_x87(fx);
	if (there & STATE_SSE)
		memcpy(fx->xmm, start->fx.xmm, sizeof(fx->xmm));
	else
		memset(fx->xmm, 0, sizeof(fx->xmm));
	fx->mxcsr = there & STATE_SSE ? start->fx.mxcsr : MXCSR_INITIAL;
	fx->mxcsr_mask = mxcsr_mask();
	memset(fx->rest, 0, sizeof(fx->rest));
	*header_of(vp) = (struct xsave_header){ .xstate_bv = XSAVE_LEGACY_STATES };
}

/* The component's bit comes with its content. */
static bool load_component(struct vp *vp, unsigned int index, uint32_t at,
			   const struct xsave_component *component, const struct xsave_image *image)
{
	if (!image->read(image->ctx, at, (uint8_t *)vp->fpu + component->offset, component->bytes))
		return false;
	header_of(vp)->xstate_bv |= BIT(index);
	return true;
}

int xsave_image_load(struct vp *vp, const struct xsave_image *image)
{
	uint32_t end = XSAVE_EXTENDED_OFFSET;
	struct xsave_start start;

	if (image->bytes < sizeof(start))
		return -EINVAL;
	if (!image->read(image->ctx, 0, &start, sizeof(start)))
		return -EIO;
	if (!start_is_valid(vp, &start, image->bytes))
		return -EINVAL;
	load_start(vp, &start);
	for (unsigned int i = 2; i < XSAVE_COMPONENTS; i++) {
		struct xsave_component component;
		uint32_t at;

		if (!(start.header.xcomp_bv >> i & 1))
			continue;
		component = xsave_component(i);
		at = place(&component, &end);
		if ((start.header.xstate_bv >> i & 1) && !load_component(vp, i, at, &component, image))
			return -EIO;
	}
	return 0;
}
