/* SPDX-License-Identifier: MIT */
/*
 * The pages in which a parent sees a VP: deposits of the VP's partition, shown to the parent at their own address for as long as they are in
 * use; and the end of it all.
 */
#include <hv/status.h>
#include <hv/vp_state.h>
#include <trivet/deposit.h>
#include <trivet/intercept.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

/* The page's number, 0: none. NULL: there are no pages of this type. */
static uint64_t *number_of(struct vp *vp, uint32_t type)
{
	switch (type) {
	case HV_VP_STATE_PAGE_REGISTERS:
		return &vp->child->intercepts.registers_page;
	case HV_VP_STATE_PAGE_INTERCEPT_MESSAGE:
		return &vp->child->intercepts.message_page;
	default:
		return NULL;
	}
}

/* Of a VP that isn't loaded: its exits use the pointers. */
static void enter(struct vp *vp, uint32_t type, uint64_t page)
{
	void *pointer = page ? deposit_page_pointer(page) : NULL;

	*number_of(vp, type) = page;
	if (type == HV_VP_STATE_PAGE_REGISTERS)
		vp->child->intercepts.registers = pointer;
	else
		vp->child->intercepts.message = pointer;
}

/* A page that can't be taken out of the parent's space stays in use. */
static bool give_back(struct vp *vp, struct vp *caller, uint64_t page)
{
	if (deposit_hide(caller, page))
		return false;
	deposit_free(vp->partition, page);
	return true;
}

uint16_t intercept_map_page(struct vp *vp, struct vp *caller, uint32_t type, uint64_t *page)
{
	uint64_t *number = number_of(vp, type);
	bool entered;

	if (!number)
		return HV_STATUS_INVALID_PARAMETER;
	if (!deposit_alloc(vp->partition, page))
		return HV_STATUS_INSUFFICIENT_MEMORY;
	/* Not a status that asks for deposits: those would not help, and Linux would go on for ever. */
	if (deposit_show(caller, *page, true)) {
		deposit_free(vp->partition, *page);
		return HV_STATUS_OPERATION_FAILED;
	}
	vp_borrow(vp, caller);
	entered = !*number;
	if (entered)
		enter(vp, type, *page);
	vp_return(vp);
	if (entered)
		return HV_STATUS_SUCCESS;
	return give_back(vp, caller, *page) ? HV_STATUS_OBJECT_IN_USE : HV_STATUS_OPERATION_FAILED;
}

uint16_t intercept_unmap_page(struct vp *vp, struct vp *caller, uint32_t type)
{
	uint64_t *number = number_of(vp, type);
	uint64_t page;

	if (!number)
		return HV_STATUS_INVALID_PARAMETER;
	vp_borrow(vp, caller);
	page = *number;
	if (page)
		enter(vp, type, 0);
	vp_return(vp);
	if (!page)
		return HV_STATUS_NOT_FOUND;
	return give_back(vp, caller, page) ? HV_STATUS_SUCCESS : HV_STATUS_OPERATION_FAILED;
}

/* Nobody uses the VP any more: without vp_borrow(). */
static bool release_page(struct vp *vp, struct vp *caller, uint32_t type)
{
	uint64_t page = *number_of(vp, type);

	if (!page)
		return true;
	if (!give_back(vp, caller, page))
		return false;
	enter(vp, type, 0);
	return true;
}

/* The message may be in the inbox or a queue of the parent's, which only the LP of that VP may touch. */
static bool take_message_back(struct vp *vp, struct vp *caller)
{
	struct vp_intercepts *intercepts = &vp->child->intercepts;
	uint32_t posted = INTERCEPT_POSTED;

	if (atomic_compare_exchange_strong_explicit(&intercepts->link_posted, &posted,
						    INTERCEPT_POSTED | INTERCEPT_DEAD, memory_order_acq_rel,
						    memory_order_acquire))
		posted |= INTERCEPT_DEAD;
	if (!posted)
		return true;
	synic_drop_dead(intercepts->link_target, caller);
	if (intercepts->link_target == caller)
		synic_handle_pending(caller);
	return !atomic_load_explicit(&intercepts->link_posted, memory_order_acquire);
}

bool intercept_destroy(struct vp *vp)
{
	struct vp *caller = this_lp()->vp;

	return take_message_back(vp, caller) && release_page(vp, caller, HV_VP_STATE_PAGE_REGISTERS) &&
	       release_page(vp, caller, HV_VP_STATE_PAGE_INTERCEPT_MESSAGE);
}
