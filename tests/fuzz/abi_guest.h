/* SPDX-License-Identifier: MIT */
/*
 * The guest of fuzz_hypercall.c, between its exits: its loads and stores, as the second stage lets them through, and whose turn it is. The back
 * ends' work before an entry (svm/events.c, vmx/events.c) is done here in their place.
 */
#ifndef TRIVET_TESTS_ABI_GUEST_H
#define TRIVET_TESTS_ABI_GUEST_H

#include "abi_checks.h"

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

/* ---- A guest's own accesses, as its processor makes them ---- */

/* Where the second stage leads; NULL where the guest has nothing, or may not. */
static uint8_t *space_pointer(const struct second_stage *space, uint64_t gpa, unsigned int rights)
{
	struct ss_mapping mapping;

	if (!ss_lookup(space, GPA(gpa), &mapping) || (mapping.perm & rights) != rights)
		return NULL;
	if (mapping.hpa.v >= BLOCK_HPA && mapping.hpa.v < BLOCK_HPA + sizeof(block))
		return block + (mapping.hpa.v - BLOCK_HPA);
	if (mapping.hpa.v >= sizeof(window))
		return NULL;
	window_dirty[mapping.hpa.v >> PAGE_SHIFT] = true;
	return window + mapping.hpa.v;
}

static uint8_t *guest_pointer(uint64_t gpa, unsigned int rights)
{
	return space_pointer(&root_partition.space, gpa, rights);
}

static void space_store(const struct second_stage *space, uint64_t gpa, const void *from, size_t size)
{
	uint8_t *to;

	if ((gpa & (PAGE_SIZE - 1)) + size > PAGE_SIZE)
		size = PAGE_SIZE - (gpa & (PAGE_SIZE - 1));
	to = space_pointer(space, gpa, SS_WRITE);
	if (to)
		memcpy(to, from, size);
}

static void guest_store(uint64_t gpa, const void *from, size_t size)
{
	space_store(&root_partition.space, gpa, from, size);
}

static uint64_t page_of_msr(uint64_t msr)
{
	return msr & ~(PAGE_SIZE - 1);
}

/* The GPA of one of the VP's overlays, wherever the guest has put it. */
static uint64_t overlay_gpa(const struct vp *vp, unsigned int which)
{
	return page_of_msr(overlay_read_msr(
		overlay_number(which % 6 < 2 ? which % 6 : 2 + vp->index * OVERLAYS_OF_VP + which % 6 - 2)));
}

/* ---- Turns of the VPs ---- */

/* HLT, or an idle request: something comes sooner or later. */
static void sleep_until_woken(struct vp *vp)
{
	while (vp_sleeps(vp)) {
		flush_idle_begin(vp);
		backend->lp_idle(vp->lp);
		flush_idle_end(vp);
		lp_handle_interrupts(vp->lp);
		if (atomic_load(&vp->pending) & VP_PENDING_SYNIC)
			synic_handle_pending(vp);
		vp_handle_startup(vp);
	}
}

/*
 * Before an entry, as the back ends do it (svm/events.c, vmx/events.c). False: the VP doesn't run now, it is not there yet or waits for
 * its start.
 */
static bool enter(struct vp *vp, bool takes_interrupts)
{
	uint64_t pending;
	int vector;

	if (atomic_load(&vp->lp->state) == LP_OFFLINE)
		return false;
	current_lp = vp->lp;
	idle_rounds = 0;
	machine_of(current_lp)->in_hypervisor = true;
	if (atomic_load(&vp->lp->state) == LP_STARTING)
		bring_in(vp->lp);
	lp_handle_interrupts(vp->lp);
	pending = atomic_load(&vp->pending);
	if (vp->state != VP_RUNNING && !(pending & (VP_PENDING_INIT | VP_PENDING_SIPI))) {
		/* It waits in the hypervisor, so it holds no translation. */
		atomic_store(&vp->idle, true);
		machine_of(current_lp)->in_hypervisor = false;
		return false;
	}
	flush_idle_end(vp);
	if ((pending & (VP_PENDING_INIT | VP_PENDING_SIPI)) || vp->state != VP_RUNNING)
		vp_handle_startup(vp);
	if (vp->state != VP_RUNNING) {
		atomic_store(&vp->idle, true);
		machine_of(current_lp)->in_hypervisor = false;
		return false;
	}
	sleep_until_woken(vp);
	vp_clear_pending(vp, VP_PENDING_SCHEDULE | VP_PENDING_TIMER | VP_PENDING_RESUME);
	if (atomic_load(&vp->pending) & VP_PENDING_SYNIC)
		synic_handle_pending(vp);
	if (atomic_load(&vp->pending) & VP_PENDING_FLUSH)
		take_flush(vp);
	vp_clear_pending(vp, VP_PENDING_NMI | VP_PENDING_SHUTDOWN);
	if (takes_interrupts && (atomic_load(&vp->pending) & VP_PENDING_EVENT)) {
		vp_clear_pending(vp, VP_PENDING_EVENT);
		apic_sync_posted(&vp->apic);
		if (vp->extint_held)
			vp_extint_release(vp);
		if (vp->extint_count)
			vp_extint_take(vp);
		else if ((vector = apic_next_vector(&vp->apic)) >= 0)
			apic_take(&vp->apic, (uint8_t)vector);
	}
#ifdef TRIVET_DEBUG
	flush_check(vp);
#endif
	return true;
}

static void leave(struct vp *vp)
{
	if (atomic_load(&vp->pending) & VP_PENDING_FLUSH)
		take_flush(vp);
	machine_of(vp->lp)->in_hypervisor = false;
	leave_guest(vp->lp); /* for what arrived meanwhile */
}

static void others_run(const struct vp *vp)
{
	for (uint32_t i = 0; i < root_partition.vp_count; i++) {
		struct vp *other = root_partition.vps[i];

		if (other != vp && enter(other, false))
			leave(other);
	}
	current_lp = vp->lp;
}

/* Time goes on; timers that are due interrupt whoever runs. */
static void let_time_pass(uint64_t ticks)
{
	struct lp *before = current_lp;

	now_tsc += ticks;
	for (uint32_t i = 0; i < lp_count; i++) {
		struct machine_lp *at = &machine[i];

		if (!at->timer_tsc || at->timer_tsc > now_tsc + at->tsc_offset)
			continue;
		at->timer_tsc = 0;
		raise_vector(&at->lp, HV_VECTOR_TIMER, false);
		current_lp = before;
	}
}

#pragma clang attribute pop

#endif
