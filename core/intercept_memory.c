/* SPDX-License-Identifier: MIT */
/*
 * Second-stage faults of a child. What the hypervisor has at an address itself comes first: the local APIC, a doorbell. Then a page that is there
 * by now: another processor's exit was faster. The rest is the parent's: "unmapped" where it gave nothing, "intercept" where it gave a page
 * without this right; never where an overlay page is. Linux tells its monitor only of what isn't RAM of its own by that, and never of the second kind's first touch.
 */
#include "intercept_internal.h"
#include <hv/memory.h>
#include <hv/partition.h>
#include <string.h>
#include <trivet/backend.h>
#include <trivet/doorbell.h>
#include <trivet/gpa_space.h>
#include <trivet/guest_walk.h>
#include <trivet/host_memory.h>
#include <trivet/intercept.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

static_assert(GUEST_FETCH_MAX <= INTERCEPT_INSTRUCTION_BYTES, "the message has room");

static unsigned int needed_for(const struct memory_exit *exit)
{
	return SS_READ | (exit->is_write ? SS_WRITE : 0) | (exit->is_fetch ? SS_EXEC : 0);
}

static bool is_local_apic(const struct vp *vp, gpa_t gpa)
{
	return (vp->partition->properties.creation_flags & HV_CREATE_PARTITION_LAPIC) &&
	       (vp->apic.base & APIC_BASE_EN) && !vp->apic.x2 &&
	       ALIGN_DOWN(gpa.v, PAGE_SIZE) == ALIGN_DOWN(vp->apic.base, PAGE_SIZE);
}

static uint8_t access_type(const struct memory_exit *exit)
{
	return exit->is_fetch ? HV_INTERCEPT_ACCESS_EXECUTE :
	       exit->is_write ? HV_INTERCEPT_ACCESS_WRITE :
				HV_INTERCEPT_ACCESS_READ;
}

static void fill_bytes(struct vp *vp, const struct memory_exit *exit, const struct vp_context *context,
		       struct hv_x64_memory_intercept *message)
{
	message->instruction_byte_count = exit->byte_count;
	if (exit->byte_count)
		memcpy(message->instruction_bytes, exit->bytes, exit->byte_count);
	else if (!exit->is_fetch)
		message->instruction_byte_count = intercept_fetch(vp, context, message->instruction_bytes);
}

/*
 * The code that was just executed can't be read: its page, or a table of its, has been taken from the guest meanwhile. Run again it faults there
 * first, and this comes up again afterwards. Once: code where we never can read is for the parent to deal with.
 */
static bool should_retry(struct vp_intercepts *intercepts, const struct vp_context *context)
{
	bool again = intercepts->retried && intercepts->retried_rip == context->rip;

	intercepts->retried_rip = context->rip;
	intercepts->retried = !again;
	return !again;
}

static enum fault_result tell_parent(struct vp *vp, const struct memory_exit *exit, bool is_mapped)
{
	struct hv_x64_memory_intercept message = { .gpa = exit->gpa.v };
	struct vp_context context;
	struct vp_snapshot now;

	backend->get_context(vp, &context);
	fill_bytes(vp, exit, &context, &message);
	if (!message.instruction_byte_count && !exit->is_fetch &&
	    should_retry(&vp->child->intercepts, &context))
		return FAULT_RETRY;
	vp->child->intercepts.retried = false;
	backend->get_snapshot(vp, &now);
	intercept_fill_header(vp, &now, access_type(exit), 0, &message.header);
	message.cache_type = is_mapped ? HV_CACHE_TYPE_WRITE_BACK : HV_CACHE_TYPE_UNCACHED;
	message.tpr_priority = message.header.length_and_cr8 >> 4;
	if (exit->gva_valid) {
		message.gva = exit->gva.v;
		message.access_info = HV_MEMORY_ACCESS_GVA_VALID;
		if (!exit->is_walk)
			message.access_info |= HV_MEMORY_ACCESS_GVA_GPA_VALID;
	}
	intercept_send(vp, &now, is_mapped ? HV_MESSAGE_GPA_INTERCEPT : HV_MESSAGE_UNMAPPED_GPA, &message,
		       sizeof(message));
	return FAULT_EMULATED;
}

enum fault_result intercept_memory(struct vp *vp, const struct memory_exit *exit)
{
	enum gpa_state state;

	if (unlikely(is_local_apic(vp, exit->gpa)))
		return exit->is_fetch || exit->is_walk ? FAULT_REFUSED : vp_apic_page_access(vp, exit->gpa);
	state = gpa_space_check(vp->partition, exit->gpa, needed_for(exit), NULL);
	if (state == GPA_ACCESSIBLE)
		return FAULT_RETRY;
	if (state == GPA_COVERED)
		return FAULT_REFUSED;
	if (state == GPA_UNMAPPED && exit->is_write && !exit->is_walk && doorbell_store(vp, exit->gpa))
		return FAULT_EMULATED;
	return tell_parent(vp, exit, state == GPA_REFUSED);
}

/* guest_access.h refuses the other pages that a child may have: devices, and what stands for the local APIC's page. */
static bool can_hold_parameters(const struct ss_mapping *mapping)
{
	hpa_t page = HPA(ALIGN_DOWN(mapping->hpa.v, PAGE_SIZE));

	return !host_memory_is_ours(page, PAGE_SIZE) && host_ram_window(page, PAGE_SIZE);
}

enum fault_result intercept_parameters(struct vp *vp, gpa_t gpa, bool is_write)
{
	const struct memory_exit exit = { .gpa = gpa, .is_write = is_write };
	struct ss_mapping mapping;

	switch (gpa_space_check(vp->partition, gpa, needed_for(&exit), &mapping)) {
	case GPA_ACCESSIBLE: /* by now; but it would be missing for ever where nobody can read it */
		return can_hold_parameters(&mapping) ? FAULT_RETRY : FAULT_REFUSED;
	case GPA_REFUSED:
		return tell_parent(vp, &exit, true);
	default:
		return FAULT_REFUSED;
	}
}
