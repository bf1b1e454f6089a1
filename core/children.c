/* SPDX-License-Identifier: MIT */
/*
 * The life of child partitions. A child is made of a page of its parent's deposits, and all that serves it of its own. It ends in steps, each
 * bounded: nothing of it runs, nothing of it waits in any LP, its memory is unmapped, every LP has left the exit handler that it was in,
 * its pages go back. Only then is its number forgotten.
 */
#include <errno.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/gpa_space.h>
#include <trivet/hv_cpuid.h>
#include <trivet/hypercall.h>
#include <trivet/hypercall_page.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/page_source.h>
#include <trivet/page_use.h>
#include <trivet/partition.h>
#include <trivet/statistics.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

#define WITHDRAW_BATCH 64u
static_assert(sizeof(struct partition) <= PAGE_SIZE, "a deposited page");
static_assert(HV_CHILD_VPS_MAX * sizeof(struct vp *) == PAGE_SIZE, "another");

static struct spinlock life_lock = SPINLOCK_INIT(LOCK_RANK_PARTITIONS); /* states, and tables of VPs */
static atomic_flag ending = ATOMIC_FLAG_INIT; /* somebody waits for all LPs: one at a time */

/* ---- Creation ---- */

uint16_t partition_create(struct vp *caller, const struct hv_input_create_partition *in, uint64_t *id)
{
	struct partition *parent = caller->partition, *child;
	uint64_t page;

	if (!deposit_alloc(parent, &page))
		return HV_STATUS_INSUFFICIENT_MEMORY;
	child = deposit_page_pointer(page);
	child->own_page = page;
	child->parent = parent;
	child->state = PARTITION_CREATED;
	child->space_lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_PARTITION);
	child->deposits.lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_DEPOSIT);
	child->ports.lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_PORTS);
	child->intercepts.lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_INTERCEPTS);
	child->device_interrupts.lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_DEVICE_INTERRUPTS);
	deposit_source_init(child);
	child->properties = (struct partition_properties){
		.creation_flags = in->flags,
		.weight = SCHED_WEIGHT_DEFAULT,
	};
	child->tsc_offset = 0 - lp_clock(); /* its VPs' TSCs begin with it */
	cpuid_policy_init(&child->cpuid, in->disabled_processor_features, in->disabled_xsave_features);
	hv_cpuid_assign(child, 0);
	if (!partition_publish(child)) {
		deposit_free(parent, page);
		return HV_STATUS_NO_RESOURCES;
	}
	*id = child->id;
	return HV_STATUS_SUCCESS;
}

/* ---- From created to active ---- */

bool partition_begin_setup(struct partition *child)
{
	spin_lock(&life_lock);
	if (child->state == PARTITION_CREATED)
		return true;
	spin_unlock(&life_lock);
	return false;
}

void partition_end_setup(void)
{
	spin_unlock(&life_lock);
}

static void destroy_pages(struct partition *child)
{
	overlay_destroy(&child->hypercall_page);
	overlay_destroy(&child->reference_time.page);
	if (child->vps)
		child->pages->free(child->pages, child->vps);
	child->vps = NULL;
}

static int make_pages(struct partition *child)
{
	unsigned int gpa_bits = backend->phys_bits();
	int err = gpa_space_init(child, gpa_bits < SS_GPA_BITS ? gpa_bits : SS_GPA_BITS);

	if (!err) {
		child->vps = child->pages->alloc(child->pages);
		err = child->vps ? 0 : -ENOMEM;
	}
	if (!err && child->hv)
		err = hypercall_page_init(child);
	if (!err) /* statistics want a clock too */
		err = reference_time_init(child, lp_tsc_hz(), lp_clock() + child->tsc_offset,
					  child->tsc_offset);
	if (!err && child->properties.time_frozen) /* before there was a clock */
		reference_time_freeze(child, true);
	return err;
}

uint16_t partition_initialize(struct partition *child, struct vp *caller)
{
	int err;

	spin_lock(&life_lock);
	if (child->state != PARTITION_CREATED) {
		spin_unlock(&life_lock);
		return HV_STATUS_INVALID_PARTITION_STATE;
	}
	err = make_pages(child);
	if (!err) {
		child->state = PARTITION_ACTIVE;
	} else {
		while (!gpa_space_destroy(child, caller)) /* nothing is in it, and nobody has seen it */
			;
		destroy_pages(child);
	}
	spin_unlock(&life_lock);
	return err == -ENOMEM ? HV_STATUS_INSUFFICIENT_MEMORY :
	       err	      ? HV_STATUS_OPERATION_FAILED :
				HV_STATUS_SUCCESS;
}

uint16_t partition_create_vp(struct partition *child, uint32_t index)
{
	uint16_t status = HV_STATUS_SUCCESS;
	struct vp *vp;
	int err;

	if (index >= HV_CHILD_VPS_MAX)
		return HV_STATUS_INVALID_VP_INDEX;
	spin_lock(&life_lock);
	if (child->state != PARTITION_ACTIVE) {
		status = HV_STATUS_INVALID_PARTITION_STATE;
	} else if (child->vps[index]) {
		status = HV_STATUS_INVALID_VP_INDEX;
	} else {
		err = vp_create(child, index, NULL, &vp);
		if (err)
			status = err == -ENOMEM ? HV_STATUS_INSUFFICIENT_MEMORY :
						  HV_STATUS_FEATURE_UNAVAILABLE;
		else
			__atomic_store_n(&child->vps[index], vp, __ATOMIC_RELEASE);
		if (!err && index >= child->vp_count)
			__atomic_store_n(&child->vp_count, index + 1, __ATOMIC_RELEASE);
		if (!err)
			statistics_add_vp(vp);
	}
	spin_unlock(&life_lock);
	if (!status)
		reference_time_tsc_moved(child); /* it may be the odd one out */
	return status;
}

/* ---- The end ---- */

static bool begin_ending(void)
{
	return !atomic_flag_test_and_set(&ending);
}

static void end_ending(void)
{
	atomic_flag_clear(&ending);
}

/* From now on nobody finds it (partition_vp()). False: its LP still has to let go. */
static bool stop_vp(struct vp *vp, struct vp *caller)
{
	vp_hold(vp, caller, VP_HOLD_DEAD);
	if (!atomic_load_explicit(&vp->forgotten, memory_order_seq_cst)) {
		vp_notify(vp);
		return false;
	}
	if (!atomic_load_explicit(&vp->wake_queued, memory_order_seq_cst))
		return true;
	lp_kick(vp->lp);
	return false;
}

static bool stop_vps(struct partition *child, struct vp *caller)
{
	bool stopped = true;

	for (uint32_t i = 0; i < child->vp_count; i++)
		if (child->vps[i])
			stopped &= stop_vp(child->vps[i], caller);
	return stopped;
}

/* What the parent has of them. Nobody else is at it. False: a LP of the parent's still has to let go of a message. */
static bool take_back(struct partition *child)
{
	bool taken = true;

	for (uint32_t i = 0; i < child->vp_count; i++)
		if (child->vps[i])
			taken &= intercept_destroy(child->vps[i]);
	return taken;
}

/* Out of the table; chained by wake_next, in which nothing waits any more. */
static struct vp *unlink_vps(struct partition *child)
{
	uint32_t count = child->vp_count;
	struct vp *first = NULL;

	__atomic_store_n(&child->vp_count, 0, __ATOMIC_SEQ_CST);
	for (uint32_t i = 0; i < count; i++) {
		struct vp *vp = child->vps[i];

		if (!vp)
			continue;
		atomic_store(&vp->wake_next, first);
		first = vp;
	}
	return first;
}

static void destroy_vp(struct vp *vp, struct vp *caller)
{
	statistics_forget_vp(vp, caller);
	vp_destroy(vp);
}

/* All of it back into its deposits. False: a part is done. */
static bool tear_down(struct partition *child, struct vp *caller)
{
	struct vp *vp, *next;

	if (!stop_vps(child, caller))
		return false;
	/* After this nobody sends to its VPs any more, maps a page of theirs, or makes a connection to its ports. */
	schedule_synchronize(caller);
	port_space_disconnect(child);
	if (!stop_vps(child, caller) || !take_back(child)) /* but may have before */
		return false;
	if (!gpa_space_destroy(child, caller))
		return false;
	vp = unlink_vps(child);
	/* After this nobody has a port any more, or looks at the table of VPs, for a flush or in vain. */
	schedule_synchronize(caller);
	for (; vp; vp = next) {
		next = atomic_load(&vp->wake_next);
		destroy_vp(vp, caller);
	}
	port_space_destroy(child); /* after the messages in the VPs' queues */
	statistics_forget_partition(child, caller);
	cpuid_policy_destroy(child);
	destroy_pages(child);
	child->torn_down = true;
	return true;
}

/* Ends it, if it isn't in state `unless`. By whoever is ending one. */
static uint16_t end(struct partition *child, struct vp *caller, enum partition_state unless)
{
	bool refused;

	spin_lock(&life_lock);
	refused = child->state == unless;
	if (!refused)
		child->state = PARTITION_FINALIZED;
	spin_unlock(&life_lock);
	if (refused)
		return HV_STATUS_INVALID_PARTITION_STATE;
	return child->torn_down || tear_down(child, caller) ? HV_STATUS_SUCCESS : HYPERCALL_RESTART;
}

uint16_t partition_finalize(struct partition *child, struct vp *caller)
{
	uint16_t status;

	if (!begin_ending())
		return HYPERCALL_RESTART;
	status = end(child, caller, PARTITION_CREATED);
	end_ending();
	return status;
}

/* What wasn't withdrawn goes back all the same. False: a part is done. */
static bool return_deposits(struct partition *child, struct vp *caller)
{
	uint64_t pages[WITHDRAW_BATCH];

	if (deposit_withdraw(child, caller, pages, WITHDRAW_BATCH) == WITHDRAW_BATCH)
		return false;
	if (child->deposits.used_pages || child->deposits.free_pages)
		log_error("p%llu: deleted with %llu pages in use and %llu that its parent can't take: they "
			  "are lost",
			  (unsigned long long)child->id, (unsigned long long)child->deposits.used_pages,
			  (unsigned long long)child->deposits.free_pages);
	return true;
}

/*
 * All that the child was made of were deposits: the sum of the hypervisor's own pages is the same at each end, and so is the number
 * of the parent's deposits that are used, when no other child is there.
 */
static void log_pages(const struct partition *parent, uint64_t child_id)
{
	unsigned long long host_free = host_pages.available(&host_pages), page_use = page_use_table_pages();
	unsigned long long space = parent->space.table_pages + parent->space.retired_pages;

	log_debug("p%llu: deleted; pages: %llu free, %llu of page use, %llu of p%llu's space, %llu of its "
		  "ports; "
		  "its deposits: %llu used, %llu free",
		  (unsigned long long)child_id, host_free, page_use, space, (unsigned long long)parent->id,
		  (unsigned long long)port_space_table_pages(parent),
		  (unsigned long long)parent->deposits.used_pages,
		  (unsigned long long)parent->deposits.free_pages);
}

uint16_t partition_delete(struct partition *child, struct vp *caller)
{
	struct partition *parent = child->parent;
	uint64_t id = child->id;
	uint16_t status;

	if (!begin_ending())
		return HYPERCALL_RESTART;
	status = end(child, caller, PARTITION_ACTIVE);
	if (!status && !return_deposits(child, caller))
		status = HYPERCALL_RESTART;
	if (!status) {
		partition_unpublish(child);
		schedule_synchronize(caller);
		while (!return_deposits(child, caller)) /* of calls that had found it before */
			;
		deposit_free(parent, child->own_page);
		log_pages(parent, id);
	}
	end_ending();
	return status;
}

uint16_t partition_delete_vp(struct partition *child, struct vp *caller, uint32_t index)
{
	uint16_t status = HV_STATUS_SUCCESS;
	struct vp *vp = NULL;

	if (!begin_ending())
		return HYPERCALL_RESTART;
	if (child->state != PARTITION_ACTIVE)
		status = HV_STATUS_INVALID_PARTITION_STATE;
	else if (index >= child->vp_count || !(vp = child->vps[index]))
		status = HV_STATUS_INVALID_VP_INDEX;
	else if (!stop_vp(vp, caller))
		status = HYPERCALL_RESTART;
	if (!status) {
		/* Who found it before may have woken it, or mapped a page of its. */
		schedule_synchronize(caller);
		if (!stop_vp(vp, caller) || !intercept_destroy(vp))
			status = HYPERCALL_RESTART;
		else if (!vp_unmap_overlays(
				 vp, caller)) /* its pages must not go where the child still sees them */
			status = HV_STATUS_INSUFFICIENT_MEMORY;
	}
	if (!status) {
		__atomic_store_n(&child->vps[index], NULL, __ATOMIC_RELEASE);
		schedule_synchronize(caller); /* the child's other VPs look it up themselves */
		destroy_vp(vp, caller);
	}
	end_ending();
	return status;
}
