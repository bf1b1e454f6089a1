/* SPDX-License-Identifier: MIT */
/*
 * The extended state of a VP that isn't loaded, vp->fpu, as an XSAVE area in compacted format (SDM1 13.4.3) that its parent reads and
 * writes. Put together and taken apart in software: the processor need not know that format. An image is somebody's else, a page
 * of bytes at most, and is read once.
 */
#ifndef TRIVET_XSAVE_IMAGE_H
#define TRIVET_XSAVE_IMAGE_H

#include <trivet/types.h>

struct vp;

/* Where an image lies. False: it can't be reached. */
struct xsave_image {
	void *ctx;
	bool (*read)(void *ctx, uint32_t offset, void *buf, uint32_t bytes);
	bool (*write)(void *ctx, uint32_t offset, const void *buf, uint32_t bytes);
	uint32_t bytes; /* that it may have */
};

/*
 * Writes the image with the components of `states` (of what the VP may have, and x87 and SSE always). -ENOSPC: it doesn't fit; -EIO.
 */
int xsave_image_save(const struct vp *vp, uint64_t states, const struct xsave_image *image);

/*
 * The VP's state becomes the image's; components that it hasn't are in their initial state. -EINVAL: it isn't one that the processor
 * could load, or has a component that the VP may not have; nothing has changed. -EIO: it went away meanwhile.
 */
int xsave_image_load(struct vp *vp, const struct xsave_image *image);

#endif
