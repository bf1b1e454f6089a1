/* SPDX-License-Identifier: MIT */
/* The VP assist page: where it is, and that the local APIC model may use it for lazy EOIs. */
#include <trivet/hv_msr.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_assist.h>

int vp_assist_init(struct vp *vp)
{
	return overlay_init(vp->partition, &vp->assist.page, OVERLAY_VP_ASSIST);
}

int hv_msr_read_vp_assist_page(struct vp *vp, uint32_t msr, uint64_t *value)
{
	(void)msr;
	*value = overlay_read_msr(&vp->assist.page);
	return 0;
}

int hv_msr_write_vp_assist_page(struct vp *vp, uint32_t msr, uint64_t value)
{
	struct overlay *page = &vp->assist.page;
	int err = overlay_write_msr(vp->partition, vp, page, value);

	(void)msr;
	if (err)
		return err;
	apic_set_assist(&vp->apic, overlay_enabled(page) ? overlay_content(page) : NULL);
	vp_post_self(vp, VP_PENDING_EVENT); /* an EOI that the page told of may have been taken in */
	return 0;
}
