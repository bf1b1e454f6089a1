/* SPDX-License-Identifier: MIT */
/*
 * The children that fuzz_hypercall.c's root has made: who they are, what must hold of them at any time, and when their VPs
 * get their turns. The real scheduler chooses.
 */
#ifndef TRIVET_TESTS_ABI_CHILDREN_H
#define TRIVET_TESTS_ABI_CHILDREN_H

#include "abi_exits.h"

#include <trivet/intercepts.h>
#include <trivet/page_use.h>
#include <trivet/vp_child.h>

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

static uint64_t children_made; /* in all */

#define CHILD_TURNS_MAX 16u /* in a row */
#define TURN_TICKS (TSC_HZ / 100)

/* ---- What must hold ---- */

static bool is_childs_overlay(const struct partition *child, uint64_t hpa, uint64_t gpa)
{
	const struct overlay *of_partition[] = { &child->hypercall_page, &child->reference_time.page };

	for (unsigned int i = 0; i < ARRAY_SIZE(of_partition); i++)
		if (of_partition[i]->mapped && of_partition[i]->gpn == gpa >> PAGE_SHIFT &&
		    hv_virt_to_phys(of_partition[i]->content).v == hpa)
			return true;
	for (uint32_t i = 0; i < child->vp_count; i++) {
		const struct vp *vp = child->vps[i];
		const struct overlay *of_vp[4];

		if (!vp)
			continue;
		of_vp[0] = &vp->assist.page;
		of_vp[1] = &vp->synic.message_page;
		of_vp[2] = &vp->synic.event_page;
		of_vp[3] = &vp->synic.ring_page;
		for (unsigned int j = 0; j < ARRAY_SIZE(of_vp); j++)
			if (of_vp[j]->mapped && of_vp[j]->gpn == gpa >> PAGE_SHIFT &&
			    hv_virt_to_phys(of_vp[j]->content).v == hpa)
				return true;
	}
	return false;
}

/* A child's memory is its parent's RAM that it was given, and isn't the hypervisor's; or a page of the hypervisor's that is meant for it. */
static void check_childs_leaf(const struct partition *child, uint64_t gpa, uint64_t hpa, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += PAGE_SIZE) {
		if (host_memory_is_ours(HPA(hpa + at), PAGE_SIZE))
			CHECK(gpa == APIC_BASE_DEFAULT && options.apic_page);
		else if (hpa + at < RAM_PAGES << PAGE_SHIFT && deposit_holds((hpa + at) >> PAGE_SHIFT))
			CHECK(is_childs_overlay(child, hpa + at, gpa + at));
		else if (hpa + at < RAM_PAGES << PAGE_SHIFT)
			CHECK(page_use_mappings((hpa + at) >> PAGE_SHIFT) > 0);
	}
}

static void check_childs_table(const struct partition *child, const uint64_t *table, unsigned int level,
			       uint64_t gpa, size_t *tables)
{
	const struct ss_format *format = child->space.format;
	unsigned int shift = PAGE_SHIFT + 9 * level;

	CHECK(deposit_holds(hv_virt_to_phys(table).v >> PAGE_SHIFT));
	++*tables;
	for (uint64_t i = 0; i < 512; i++, gpa += BIT(shift)) {
		uint64_t hpa = table[i] & format->addr_mask;

		if (!(table[i] & format->present_mask))
			continue;
		if (level && !(table[i] & format->large_bit))
			check_childs_table(child, hv_phys_to_virt(HPA(hpa)), level - 1, gpa, tables);
		else
			check_childs_leaf(child, gpa, hpa, BIT(shift));
	}
}

/* Each leaf and MSR once, found by the filter, and summed up as it is; VPs know it or are to look again. */
static void check_intercepts(const struct partition *child)
{
	const struct intercepts *intercepts = &child->intercepts;
	bool cpuid = intercepts->wanted & VP_WANTED_ALL_CPUID;
	bool msr = intercepts->wanted & VP_WANTED_MICROCODE_LEVEL;

	for (unsigned int i = 0; i < INTERCEPTS_INDEXED; i++) {
		uint64_t entry = intercepts->indexed[i], access = entry >> 32;

		if (!entry)
			continue;
		CHECK(access == HV_INTERCEPT_ACCESS_MASK_EXECUTE || (access && access < 4));
		CHECK(intercepts->filter >> entry % 64 & 1);
		for (unsigned int j = 0; j < i; j++)
			CHECK((uint32_t)intercepts->indexed[j] != (uint32_t)entry ||
			      intercepts->indexed[j] >> 34 != entry >> 34);
		cpuid = cpuid || access >> 2;
		msr = msr || !(access >> 2);
	}
	CHECK(!(intercepts->wanted & VP_WANTED_CPUID) == !cpuid);
	CHECK(!(intercepts->wanted & VP_WANTED_MSR) == !msr);
	for (uint32_t i = 0; i < child->vp_count; i++) {
		const struct vp *vp = child->vps[i];

		if (vp && vp->wanted_generation == intercepts->generation)
			CHECK(vp->wanted == intercepts->wanted &&
			      vp->wanted_exceptions == intercepts->exceptions);
	}
}

static void check_childs_vps(const struct partition *child)
{
	for (uint32_t i = 0; i < child->vp_count; i++) {
		const struct vp *vp = child->vps[i];

		if (!vp)
			continue;
		CHECK(vp->index == i && vp->partition == child && !atomic_load(&vp->loaded));
		check_apic(&vp->apic);
		check_extended_area(vp->fpu);
		check_own_timers(&vp->stimers);
		if (child->hv)
			check_synic(vp);
	}
}

static void check_child(const struct partition *child)
{
	size_t tables = 0;

	CHECK(child->parent == &root_partition);
	CHECK(child->space.generation == child->space.flushed_generation && !child->space.retired_pages);
	check_childs_vps(child);
	if (child->space.root)
		check_childs_table(child, child->space.root, 3, 0, &tables);
	CHECK(tables == child->space.table_pages);
	check_intercepts(child);
}

static void check_children(void)
{
	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		if (children[i])
			check_child(children[i]);
}

/* ---- Who there is ---- */

static void note_child_made(struct vp *vp)
{
	uint16_t status;

	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		if (!children[i]) {
			const uint8_t *output = guest_pointer(made_at, SS_READ);

			CHECK(output);
			memcpy(&child_ids[i], output, sizeof(child_ids[i]));
			children[i] = partition_authority(vp, child_ids[i], 0, &status);
			CHECK(children[i]);
			children_made++;
			return;
		}
	fail("more children than may be"); /* fuzz_hypercall.c makes no more */
}

static void note_children_gone(struct vp *vp)
{
	uint16_t status;

	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		if (children[i] && !partition_authority(vp, child_ids[i], 0, &status))
			children[i] = NULL;
}

/* ---- Their turns ---- */

/* The LP of a root's VP, which is in the hypervisor there: whoever can run does, until the root's VP comes back. */
static void others_take_their_turns(struct input *in, struct vp *root_vp)
{
	bool goes_on = false;
	struct vp *vp;

	idle_rounds = 0;
	if (partition_count() > 1)
		now_tsc += 10 * TURN_TICKS; /* the root has had its time too */
	vp_post_self(root_vp, VP_PENDING_SCHEDULE);
	for (unsigned int i = 0; (vp = schedule(root_vp->lp->vp)) != root_vp; i++) {
		CHECK(i < CHILD_TURNS_MAX && !partition_is_root(vp->partition));
		CHECK(vp_is_loaded_here(vp) && !atomic_load(&vp->holds) && vp->state == VP_RUNNING);
		if (atomic_load(&vp->pending) & VP_PENDING_FLUSH)
			flush_taken(vp);
		vp_clear_pending(vp, VP_PENDING_EVENT | VP_PENDING_NMI);
		if (in && i < CHILD_TURNS_MAX / 4)
			goes_on = child_step(in, vp);
		now_tsc += TURN_TICKS;
		/* In the end the root's VP is to come back: who has had enough sleeps, or isn't to run at all. */
		if (in && i < CHILD_TURNS_MAX / 4 && goes_on)
			vp_post_self(vp, VP_PENDING_SCHEDULE);
		else if (i < CHILD_TURNS_MAX / 2)
			vp_halt(vp, true, true);
		else
			vp_hold_self(vp, VP_HOLD_EXPLICIT);
		lp_handle_interrupts(vp->lp);
	}
}

/* ---- The end of all ---- */

static void every_lp_moves_on(struct vp *caller)
{
	machine_of(current_lp)->in_hypervisor = false;
	for (uint32_t i = 0; i < root_partition.vp_count; i++) {
		struct vp *vp = root_partition.vps[i];

		if (atomic_load(&vp->lp->state) != LP_ONLINE)
			continue;
		current_lp = vp->lp;
		machine_of(current_lp)->in_hypervisor = true;
		flush_idle_end(vp);
		lp_handle_interrupts(current_lp);
		others_take_their_turns(NULL, vp);
		if (atomic_load(&vp->pending) & VP_PENDING_FLUSH)
			take_flush(vp);
		machine_of(current_lp)->in_hypervisor = false;
	}
	current_lp = caller->lp;
	machine_of(current_lp)->in_hypervisor = true;
}

typedef uint16_t (*ender)(struct partition *child, struct vp *caller);

static void end_with(ender end, struct partition *child, struct vp *caller)
{
	uint16_t status;

	for (unsigned int i = 0; (status = end(child, caller)) == HYPERCALL_RESTART; i++) {
		CHECK(i < 1000);
		every_lp_moves_on(caller);
	}
	CHECK(status == HV_STATUS_SUCCESS);
}

static void delete_children(struct vp *caller)
{
	for (unsigned int i = 0; i < CHILDREN_MAX; i++) {
		if (!children[i])
			continue;
		if (atomic_load(&children[i]->state) != PARTITION_CREATED)
			end_with(partition_finalize, children[i], caller);
		end_with(partition_delete, children[i], caller);
		children[i] = NULL;
	}
	CHECK(partition_count() == 1);
}

/* The machine is switched off: nobody needs to be told. */
static void forget_children(void)
{
	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		if (children[i])
			partition_unpublish(children[i]);
	memset(children, 0, sizeof(children));
}

#pragma clang attribute pop

#endif
