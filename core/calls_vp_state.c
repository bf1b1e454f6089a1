/* SPDX-License-Identifier: MIT */
/*
 * Whole components of a child VP's state, saved and restored by its parent (TLFS "HvCallGetVpState", "HvCallSetVpState"): local APIC,
 * extended state, SynIC pages, synthetic timers. All but the last lie in a page of the caller's, named behind the fixed input.
 */
#include <errno.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <hv/vp_state.h>
#include <trivet/guest_access.h>
#include <trivet/guest_walk.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>
#include <trivet/xsave_image.h>

#define TIMERS_QWORDS (sizeof(struct hv_vp_state_timers) / sizeof(uint64_t))

/* One component on its way: the VP is borrowed. */
struct transfer {
	struct vp *vp, *caller;
	gpa_t page; /* the caller's */
	const struct hv_input_vp_state *input;
};

static const uint64_t *behind_input(const struct hypercall *call)
{
	return (const uint64_t *)((const struct hv_input_vp_state *)call->input + 1);
}

static bool read_page(const struct transfer *transfer, void *to, size_t bytes)
{
	return guest_phys_read(transfer->caller, transfer->page, to, bytes);
}

static bool write_page(const struct transfer *transfer, const void *from, size_t bytes)
{
	return guest_phys_write(transfer->caller, transfer->page, from, bytes);
}

/* ---- Local APIC ---- */

/* Of the requested interrupts, none of which can have this vector: an NMI is pending. Monitors that save a VP keep it, OpenVMM does. */
#define IRR_NMI_PENDING BIT(2)

static uint16_t get_lapic(const struct transfer *transfer)
{
	struct apic *apic = &transfer->vp->apic;
	struct hv_vp_state_lapic image;

	apic_save(apic, &image, apic_host_now_tsc(apic));
	vp_post(transfer->vp, VP_PENDING_EVENT); /* its timer may have expired by it */
	if (atomic_load(&transfer->vp->pending) & VP_PENDING_NMI)
		image.irr[0] |= (uint32_t)IRR_NMI_PENDING;
	return write_page(transfer, &image, sizeof(image)) ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER;
}

static uint16_t set_lapic(const struct transfer *transfer)
{
	struct apic *apic = &transfer->vp->apic;
	struct hv_vp_state_lapic image;

	if (!read_page(transfer, &image, sizeof(image)))
		return HV_STATUS_INVALID_PARAMETER;
	if (apic_restore(apic, &image, apic_host_now_tsc(apic)))
		return HV_STATUS_INVALID_SAVE_RESTORE_STATE;
	if (image.irr[0] & IRR_NMI_PENDING)
		vp_post(transfer->vp, VP_PENDING_NMI);
	else
		vp_clear_pending(transfer->vp, VP_PENDING_NMI);
	vp_post(transfer->vp, VP_PENDING_EVENT);
	return HV_STATUS_SUCCESS;
}

/* ---- Extended state ---- */

static bool read_image(void *ctx, uint32_t offset, void *buf, uint32_t bytes)
{
	const struct transfer *transfer = ctx;

	return guest_phys_read(transfer->caller, GPA(transfer->page.v + offset), buf, bytes);
}

static bool write_image(void *ctx, uint32_t offset, const void *buf, uint32_t bytes)
{
	const struct transfer *transfer = ctx;

	return guest_phys_write(transfer->caller, GPA(transfer->page.v + offset), buf, bytes);
}

static uint16_t status_of_image(int err)
{
	switch (err) {
	case 0:
		return HV_STATUS_SUCCESS;
	case -EINVAL:
		return HV_STATUS_INVALID_SAVE_RESTORE_STATE;
	case -ENOSPC:
		return HV_STATUS_INSUFFICIENT_BUFFER;
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
}

static uint16_t transfer_xsave(struct transfer *transfer, bool set)
{
	const struct xsave_image image = {
		.ctx = transfer, .read = read_image, .write = write_image, .bytes = PAGE_SIZE
	};

	if (transfer->input->xsave_flags)
		return HV_STATUS_INVALID_PARAMETER;
	return status_of_image(set ? xsave_image_load(transfer->vp, &image) :
				     xsave_image_save(transfer->vp, transfer->input->xsave_states, &image));
}

/* ---- SynIC pages ---- */

static uint16_t transfer_overlay(const struct transfer *transfer, const struct overlay *overlay, bool set)
{
	void *content = overlay_content(overlay);
	bool done;

	if (!content)
		return HV_STATUS_FEATURE_UNAVAILABLE; /* the partition hasn't got the interface */
	done = set ? read_page(transfer, content, PAGE_SIZE) : write_page(transfer, content, PAGE_SIZE);
	return done ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER;
}

/* ---- Calls ---- */

static uint16_t transfer_by_page(struct transfer *transfer, bool set)
{
	switch (transfer->input->type) {
	case HV_VP_STATE_LAPIC:
		return set ? set_lapic(transfer) : get_lapic(transfer);
	case HV_VP_STATE_XSAVE:
		return transfer_xsave(transfer, set);
	case HV_VP_STATE_SIM_PAGE:
		return transfer_overlay(transfer, &transfer->vp->synic.message_page, set);
	case HV_VP_STATE_SIEF_PAGE:
		return transfer_overlay(transfer, &transfer->vp->synic.event_page, set);
	default:
		return HV_STATUS_INVALID_PARAMETER;
	}
}

static struct vp *find_vp(const struct hypercall *call, uint16_t *status)
{
	const struct hv_input_vp_state *in = call->input;
	struct partition *partition = partition_child(call->vp, in->partition_id, status);
	struct vp *vp = NULL;

	if (!partition)
		return NULL;
	if (in->input_vtl || in->reserved0[0] || in->reserved0[1] || in->reserved0[2] || in->reserved1)
		*status = HV_STATUS_INVALID_PARAMETER;
	else if (!(vp = partition_vp(partition, in->vp_index)))
		*status = HV_STATUS_INVALID_VP_INDEX;
	return vp;
}

/* How much must come behind the input: a page of the caller's, or the data. */
static uint16_t qwords_behind_input(const struct hv_input_vp_state *in, bool set)
{
	if (in->type & HV_VP_STATE_BY_PAGES)
		return 1;
	return set ? TIMERS_QWORDS : 0;
}

static uint16_t check(const struct hypercall *call, bool set, struct transfer *transfer)
{
	const struct hv_input_vp_state *in = call->input;
	uint16_t status;

	*transfer = (struct transfer){ .caller = call->vp, .input = in };
	transfer->vp = find_vp(call, &status);
	if (!transfer->vp)
		return status;
	if (!(in->type & HV_VP_STATE_BY_PAGES) && in->type != HV_VP_STATE_SYNTHETIC_TIMERS)
		return HV_STATUS_INVALID_PARAMETER;
	if (call->var_header_qwords < qwords_behind_input(in, set))
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	if (in->type & HV_VP_STATE_BY_PAGES) {
		uint64_t page = behind_input(call)[0];

		if (page >> (64 - PAGE_SHIFT))
			return HV_STATUS_INVALID_PARAMETER;
		transfer->page = GPA(page << PAGE_SHIFT);
	}
	return HV_STATUS_SUCCESS;
}

uint16_t hypercall_get_vp_state(struct hypercall *call)
{
	struct transfer transfer;
	uint16_t status = check(call, false, &transfer);

	if (status != HV_STATUS_SUCCESS)
		return status;
	vp_borrow(transfer.vp, call->vp);
	if (transfer.input->type & HV_VP_STATE_BY_PAGES)
		status = transfer_by_page(&transfer, false);
	else
		stimers_save(transfer.vp, call->output);
	vp_return(transfer.vp);
	return status;
}

uint16_t hypercall_set_vp_state(struct hypercall *call)
{
	struct transfer transfer;
	uint16_t status = check(call, true, &transfer);

	if (status != HV_STATUS_SUCCESS)
		return status;
	vp_borrow(transfer.vp, call->vp);
	if (transfer.input->type & HV_VP_STATE_BY_PAGES)
		status = transfer_by_page(&transfer, true);
	else if (stimers_load(transfer.vp, (const struct hv_vp_state_timers *)behind_input(call)))
		status = HV_STATUS_INVALID_SAVE_RESTORE_STATE;
	vp_return(transfer.vp);
	return status;
}
