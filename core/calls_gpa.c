/* SPDX-License-Identifier: MIT */
/*
 * A parent and the memory of its child: mapped and unmapped, what of it was used, and its bytes (TLFS "HvCallMapGpaPages",
 * "HvCallUnmapGpaPages", "HvCallGetGpaPagesAccessStates", "HvCallReadGpa", "HvCallWriteGpa"). What they do is in gpa_space.c.
 */
#include <hv/memory.h>
#include <hv/status.h>
#include <string.h>
#include <trivet/flush.h>
#include <trivet/gpa_space.h>
#include <trivet/guest_access.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/vp.h>

#define LARGE_PAGES ((uint32_t)(SIZE_2M / PAGE_SIZE))
#define LARGE_BATCH 4u /* elements of 2 MiB each that one pass does */

#define MAP_DEFINED                                                                   \
	(HV_MAP_GPA_PERMISSIONS_MASK | HV_MAP_GPA_ADJUSTABLE | HV_MAP_GPA_NO_ACCESS | \
	 HV_MAP_GPA_NOT_CACHED | HV_MAP_GPA_LARGE_PAGE)

/* All pages of the list, which start at `gpn`, lie in the child's space. */
static bool in_space(const struct partition *child, uint64_t gpn, uint64_t pages)
{
	uint64_t end = BIT(child->overlays.gpa_bits) >> PAGE_SHIFT;

	return child->overlays.gpa_bits && gpn < end && pages <= end - gpn;
}

/* One call's worth of changes. */
struct pass {
	struct hypercall *call;
	struct gpa_change change;
	struct gpa_run run; /* what all runs have in common, and the one at hand */
	uint64_t gpn;	    /* of the list's first element */
	uint32_t step;	    /* pages per element */
	const uint64_t *list;
};

/* The element's page follows the one before. */
static bool follows(const struct pass *pass, uint32_t element)
{
	return pass->run.kind != GPA_MAP || pass->list[element] == pass->list[element - 1] + pass->step;
}

/* Makes the run that begins with the next element; at most `limit` elements. Returns how many it has. */
static uint32_t next_run(struct pass *pass, uint32_t limit)
{
	const struct hypercall *call = pass->call;
	uint32_t first = call->reps_done, last = first;

	if (limit > GPA_CHANGE_RUNS / pass->step)
		limit = (uint32_t)(GPA_CHANGE_RUNS / pass->step);
	while (last + 1 < call->rep_count && last + 1 - first < limit && follows(pass, last + 1))
		last++;
	pass->run.gpn = pass->gpn + (uint64_t)first * pass->step;
	pass->run.page = pass->run.kind == GPA_MAP ? pass->list[first] : 0;
	pass->run.count = (last + 1 - first) * pass->step;
	return last + 1 - first;
}

/* Page numbers as wide as an address, and a large page's where one can be. */
static bool page_is_valid(const struct pass *pass)
{
	return pass->run.kind != GPA_MAP ||
	       (pass->run.page < BIT(SS_GPA_BITS - PAGE_SHIFT) - pass->run.count &&
		pass->run.page % pass->step == 0);
}

/* Elements are done in order: when a run is refused, those before the culprit are done one by one. */
static uint16_t do_elements(struct pass *pass)
{
	struct hypercall *call = pass->call;
	uint32_t limit = GPA_CHANGE_RUNS, done;
	uint16_t status;

	while (call->reps_done < call->rep_count) {
		uint32_t elements = next_run(pass, limit);

		if (pass->change.replaced_count + pass->run.count > GPA_CHANGE_RUNS)
			gpa_change_end(&pass->change);
		if (!page_is_valid(pass))
			return HV_STATUS_INVALID_PARAMETER;
		status = gpa_change_run(&pass->change, &pass->run, &done);
		call->reps_done = (uint16_t)(call->reps_done + done / pass->step);
		if (status && (elements == 1 || done))
			return status;
		limit = status ? 1 : limit;
	}
	return HV_STATUS_SUCCESS;
}

static uint16_t do_pass(struct pass *pass)
{
	struct hypercall *call = pass->call;
	uint16_t status;

	if (pass->step > 1 && call->rep_count - call->rep_start > (int)LARGE_BATCH)
		call->rep_count = (uint16_t)(call->rep_start + LARGE_BATCH);
	pass->change.caller = call->vp;
	pass->change.replaced = call->output; /* its page, which these calls don't use */
	status = do_elements(pass);
	gpa_change_end(&pass->change);
	return status;
}

/*
 * Who may write or execute may read, and supervisor and user code alike: no table says less (APM2 5.4.1; SDM3 29.3.2 without mode-based execute
 * control). No right at all is as good as no access.
 */
static bool decode_rights(uint32_t flags, struct gpa_run *run)
{
	uint32_t execute = flags & HV_MAP_GPA_EXECUTABLE;

	run->kind = GPA_MAP;
	if ((flags & HV_MAP_GPA_NO_ACCESS) || !(flags & HV_MAP_GPA_PERMISSIONS_MASK))
		run->kind = GPA_RESERVE;
	else if (!(flags & HV_MAP_GPA_READABLE) || (execute && execute != HV_MAP_GPA_EXECUTABLE))
		return false;
	run->perm = SS_READ | (flags & HV_MAP_GPA_WRITABLE ? SS_WRITE : 0) | (execute ? SS_EXEC : 0);
	run->uncached = flags & HV_MAP_GPA_NOT_CACHED;
	return true;
}

uint16_t hypercall_map_gpa_pages(struct hypercall *call)
{
	const struct hv_input_map_gpa_pages *in = call->input;
	struct pass pass = { .call = call, .gpn = in->gpn, .list = call->rep_input };
	uint16_t status;

	pass.change.child = partition_child(call->vp, in->partition_id, &status);
	if (!pass.change.child)
		return status;
	pass.step = in->map_flags & HV_MAP_GPA_LARGE_PAGE ? LARGE_PAGES : 1;
	if ((in->map_flags & ~MAP_DEFINED) || !decode_rights(in->map_flags, &pass.run) ||
	    in->gpn % pass.step ||
	    !in_space(pass.change.child, in->gpn, (uint64_t)call->rep_count * pass.step))
		return HV_STATUS_INVALID_PARAMETER;
	return do_pass(&pass);
}

uint16_t hypercall_unmap_gpa_pages(struct hypercall *call)
{
	const struct hv_input_unmap_gpa_pages *in = call->input;
	struct pass pass = { .call = call, .gpn = in->gpn, .run.kind = GPA_UNMAP };
	uint16_t status;

	pass.change.child = partition_child(call->vp, in->partition_id, &status);
	if (!pass.change.child)
		return status;
	pass.step = in->unmap_flags & HV_UNMAP_GPA_LARGE_PAGE ? LARGE_PAGES : 1;
	if ((in->unmap_flags & ~HV_UNMAP_GPA_LARGE_PAGE) || in->gpn % pass.step ||
	    !in_space(pass.change.child, in->gpn, (uint64_t)call->rep_count * pass.step))
		return HV_STATUS_INVALID_PARAMETER;
	return do_pass(&pass);
}

static unsigned int states_of(uint64_t flags, uint64_t accessed, uint64_t dirty)
{
	return (flags & accessed ? SS_ACCESSED : 0) | (flags & dirty ? SS_DIRTY : 0);
}

/* Under the child's space_lock. */
static uint16_t exchange_states(struct hypercall *call, struct partition *child, uint64_t gpn,
				unsigned int clear, unsigned int set)
{
	uint8_t *states = call->rep_output;
	unsigned int was;

	if (atomic_load(&child->state) != PARTITION_ACTIVE || !child->space.root)
		return HV_STATUS_INVALID_PARTITION_STATE;
	for (; call->reps_done < call->rep_count; call->reps_done++) {
		if (ss_access(&child->space, GPA((gpn + call->reps_done) << PAGE_SHIFT), clear, set, &was))
			return HV_STATUS_INSUFFICIENT_MEMORY;
		states[call->reps_done] = (uint8_t)((was & SS_ACCESSED ? HV_ACCESS_STATE_ACCESSED : 0) |
						    (was & SS_DIRTY ? HV_ACCESS_STATE_DIRTY : 0));
	}
	return HV_STATUS_SUCCESS;
}

uint16_t hypercall_get_gpa_pages_access_states(struct hypercall *call)
{
	const struct hv_input_get_gpa_pages_access_states *in = call->input;
	unsigned int clear =
		states_of(in->flags, HV_ACCESS_STATE_CLEAR_ACCESSED, HV_ACCESS_STATE_CLEAR_DIRTY);
	unsigned int set = states_of(in->flags, HV_ACCESS_STATE_SET_ACCESSED, HV_ACCESS_STATE_SET_DIRTY);
	struct partition *child;
	uint16_t status;

	child = partition_child(call->vp, in->partition_id, &status);
	if (!child)
		return status;
	if (in->flags >> 4 || (clear & set) || !in_space(child, in->gpn, call->rep_count))
		return HV_STATUS_INVALID_PARAMETER;
	spin_lock(&child->space_lock);
	status = exchange_states(call, child, in->gpn, clear, set);
	spin_unlock(&child->space_lock);
	flush_and_reclaim(child, call->vp);
	return status;
}

/* A VP of the child, and bytes within one page. Cache types and the like in the flags make no difference here. */
static struct vp *find_access(struct hypercall *call, const struct hv_input_read_gpa *in, uint16_t *status)
{
	struct partition *child = partition_child(call->vp, in->partition_id, status);
	struct vp *vp;

	if (!child)
		return NULL;
	vp = partition_vp(child, in->vp_index);
	if (!vp) {
		*status = HV_STATUS_INVALID_VP_INDEX;
		return NULL;
	}
	*status = HV_STATUS_INVALID_PARAMETER;
	if (!in->byte_count || in->byte_count > HV_ACCESS_GPA_MAX_BYTES ||
	    !in_space(child, in->gpa >> PAGE_SHIFT, 1) ||
	    in->byte_count > PAGE_SIZE - (in->gpa & (PAGE_SIZE - 1)))
		return NULL;
	*status = HV_STATUS_SUCCESS;
	return vp;
}

static uint32_t refusal(struct vp *vp, uint64_t gpa, uint32_t intercept)
{
	return gpa_space_check(vp->partition, GPA(gpa), 0, NULL) == GPA_UNMAPPED ? HV_ACCESS_GPA_UNMAPPED :
										   intercept;
}

uint16_t hypercall_read_gpa(struct hypercall *call)
{
	const struct hv_input_read_gpa *in = call->input;
	struct hv_output_read_gpa *out = call->output;
	uint16_t status;
	struct vp *vp = find_access(call, in, &status);

	if (vp && !guest_phys_read(vp, GPA(in->gpa), out->data, in->byte_count))
		out->result_code = refusal(vp, in->gpa, HV_ACCESS_GPA_READ_INTERCEPT);
	return status;
}

static_assert(offsetof(struct hv_input_write_gpa, data) == sizeof(struct hv_input_read_gpa),
	      "a read's input with the bytes behind it");

uint16_t hypercall_write_gpa(struct hypercall *call)
{
	const struct hv_input_write_gpa *in = call->input;
	struct hv_output_write_gpa *out = call->output;
	uint16_t status;
	struct vp *vp = find_access(call, call->input, &status);

	if (vp && !guest_phys_write(vp, GPA(in->gpa), in->data, in->byte_count))
		out->result_code = refusal(vp, in->gpa, HV_ACCESS_GPA_WRITE_INTERCEPT);
	return status;
}
