/* SPDX-License-Identifier: MIT */
/*
 * The children that fuzz_hypercall.c's root has made: who they are, what must hold of them at any time, and what their VPs do when the
 * scheduler lets them. The real scheduler chooses; a child that has done something halts, so that the root's VP comes back.
 */
#ifndef TRIVET_TESTS_ABI_CHILDREN_H
#define TRIVET_TESTS_ABI_CHILDREN_H

#include "abi_calls.h"

#include <hv/memory.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/page_use.h>
#include <trivet/vp_child.h>

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

static uint64_t children_made, child_steps; /* in all */

#define CHILD_TURNS_MAX 16u /* in a row */

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

static void check_child(const struct partition *child)
{
	size_t tables = 0;

	CHECK(child->parent == &root_partition);
	CHECK(child->space.generation == child->space.flushed_generation && !child->space.retired_pages);
	for (uint32_t i = 0; i < child->vp_count; i++) {
		const struct vp *vp = child->vps[i];

		CHECK(!vp || (vp->index == i && vp->partition == child && !atomic_load(&vp->loaded)));
		if (vp)
			check_apic(&vp->apic);
	}
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

/* ---- What they do ---- */

static void child_touches(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);
	struct memory_exit exit = {
		.gpa = GPA(byte < 0xc0 ? (uint64_t)(byte & 63u) << PAGE_SHIFT : take64(in) & (BIT(40) - 1)),
		.is_write = byte & 1,
		.is_fetch = (byte & 6) == 6,
		.is_walk = (byte & 0x38) == 0x38,
	};

	if (byte & 8) {
		exit.byte_count = 15;
		take(in, exit.bytes, 8);
	}
	intercept_memory(vp, &exit);
}

static void child_does_io(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);
	const struct io_exit exit = {
		.port = (uint16_t)(take8(in) * 4u),
		.bytes = (uint8_t)(1u << byte % 3),
		.length = byte & 0x80 ? 2 : 0,
		.in = byte & 4,
		.string = byte & 8,
		.rep = byte & 0x10,
	};

	intercept_io(vp, &exit);
}

/* Of a child, a call's lists lie in its memory, which is the root's too: here only those in registers. */
static void child_calls(struct input *in, struct vp *vp)
{
	const struct call_row *row = take_call(in);

	vp->gpr[GPR_RCX] = row->code | HV_CONTROL_FAST;
	vp->gpr[GPR_RDX] = take64(in);
	vp->gpr[GPR_R8] = take64(in);
	hypercalls++;
	if (hypercall_dispatch(vp, HYPERCALL_64) == HYPERCALL_DONE)
		CHECK((row->privilege & vp->partition->privileges) == row->privilege ||
		      (uint16_t)vp->gpr[GPR_RAX] != HV_STATUS_SUCCESS);
}

static void child_cpuid(uint8_t byte, struct vp *vp)
{
	const struct cpuid_exit exit = { .cr4 = 0x40020, .length = 2 };
	uint32_t leaf = byte & 0x80 ? 0x40000000u + (byte >> 3 & 15u) : byte >> 3 & 15u;

	vp->gpr[GPR_RAX] = leaf;
	vp->gpr[GPR_RCX] = 0;
	if ((vp->wanted & VP_WANTED_CPUID) && intercepts_want_cpuid(vp, leaf))
		intercept_cpuid(vp, &exit);
	else
		vp_cpuid(vp, exit.cr4);
}

static void child_msr(struct input *in, struct vp *vp)
{
	const struct msr_exit exit = { .msr = take_msr(in), .length = 2 };
	uint32_t msr = exit.msr;
	uint64_t value = 0;

	if ((vp->wanted & VP_WANTED_MSR) && intercepts_want_msr(vp, msr, false))
		intercept_msr(vp, &exit);
	else if (vp_msr_read(vp, msr, &value) == 0)
		vp_msr_write(vp, msr, take_msr_value(in, msr, value, reference_time_100ns(vp->partition)));
	else if (intercept_wants_unknown_msr(vp, msr, false))
		intercept_msr(vp, &exit);
}

static void child_raises(uint8_t byte, struct vp *vp)
{
	const struct exception_exit exit = {
		.vector = (uint8_t)__builtin_ctz(vp->wanted_exceptions),
		.has_error = byte & 8,
		.error = byte,
		.parameter = 0x1000,
		.is_software = byte & 0x10,
	};

	intercept_exception(vp, &exit);
}

static void child_step(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);

	child_steps++;
	allowed.bytes = sizeof(window); /* what a child writes where is checked by itself */
	switch (byte % 8) {
	case 0:
		child_touches(in, vp);
		break;
	case 1:
		child_does_io(in, vp);
		break;
	case 2:
		child_calls(in, vp);
		break;
	case 3:
	case 4:
		child_msr(in, vp);
		break;
	case 5:
		child_cpuid(byte, vp);
		break;
	case 6:
		if (vp->wanted_exceptions && (byte & 0x40)) {
			child_raises(byte, vp);
			break;
		}
		vp_post(vp, byte & 0x80 ? VP_PENDING_SHUTDOWN : VP_PENDING_NMI);
		break;
	default:
		if (vp->apic.page && apic_next_vector(&vp->apic) >= 0)
			apic_take(&vp->apic, (uint8_t)apic_next_vector(&vp->apic));
		break;
	}
	memset(&allowed, 0, sizeof(allowed));
}

/* The LP of a root's VP, which is in the hypervisor there: whoever can run does, until the root's VP comes back. */
static void others_take_their_turns(struct input *in, struct vp *root_vp)
{
	struct vp *vp;

	idle_rounds = 0;
	vp_post_self(root_vp, VP_PENDING_SCHEDULE);
	for (unsigned int i = 0; (vp = schedule(root_vp->lp->vp)) != root_vp; i++) {
		CHECK(i < CHILD_TURNS_MAX && !partition_is_root(vp->partition));
		CHECK(vp_is_loaded_here(vp) && !atomic_load(&vp->holds) && vp->state == VP_RUNNING);
		if (atomic_load(&vp->pending) & VP_PENDING_FLUSH)
			flush_taken(vp);
		vp_clear_pending(vp, VP_PENDING_EVENT | VP_PENDING_NMI);
		if (in && i < CHILD_TURNS_MAX / 4)
			child_step(in, vp);
		/* Its slice is long: it sleeps, or isn't to run at all. */
		if (i < CHILD_TURNS_MAX / 4)
			vp_halt(vp, true, true);
		else
			vp_hold_self(vp, VP_HOLD_EXPLICIT);
		now_tsc += TSC_HZ / 100;
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

/* ---- What a monitor does, in its order: most inputs would never get so far by themselves ---- */

static uint16_t vmm_call(struct vp *vp, uint16_t code, uint32_t reps, const void *list, size_t size)
{
	struct call call = { .mode = HYPERCALL_64, .reps = reps };

	call.input_gpa = (INPUT_PAGE + 2 * vp->index) << PAGE_SHIFT;
	call.output_gpa = call.input_gpa + PAGE_SIZE;
	call.control = code | (uint64_t)reps << HV_CONTROL_REP_COUNT_SHIFT;
	guest_store(call.input_gpa, list, size);
	understand(&call);
	for (unsigned int i = 0; i < 64; i++) {
		put_in_registers(vp, &call);
		if (dispatch(vp, &call) != HYPERCALL_AGAIN)
			return status_of(vp);
		call.control = vp->gpr[GPR_RCX];
		others_run(vp);
	}
	return HV_STATUS_OPERATION_FAILED; /* an LP that doesn't run */
}

static void vmm_deposits(struct vp *vp, uint64_t id, uint64_t first, uint32_t count)
{
	uint64_t list[1 + 64] = { id };

	for (uint32_t i = 0; i < count && i < 64; i++)
		list[1 + i] = first + i;
	vmm_call(vp, HV_CALL_DEPOSIT_MEMORY, count, list, (1 + count) * sizeof(list[0]));
}

static void vmm_maps(struct vp *vp, uint64_t id, uint64_t gpn, uint64_t first, uint32_t count, uint32_t flags)
{
	uint64_t list[3 + 16] = { id, gpn, flags };

	for (uint32_t i = 0; i < count && i < 16; i++)
		list[3 + i] = first + i;
	vmm_call(vp, HV_CALL_MAP_GPA_PAGES, count, list, (3 + count) * sizeof(list[0]));
}

static void vmm_releases(struct vp *vp, uint64_t id, uint32_t index)
{
	const uint64_t list[6] = { id, index, HV_REGISTER_EXPLICIT_SUSPEND, 0, 0, 0 };

	vmm_call(vp, HV_CALL_SET_VP_REGISTERS, 1, list, sizeof(list));
}

static void vmm_creates_vp(struct vp *vp, uint64_t id, uint32_t index)
{
	const struct hv_input_create_vp in = { .partition_id = id, .vp_index = index };

	vmm_call(vp, HV_CALL_CREATE_VP, 0, &in, sizeof(in));
}

static void vmm_maps_state_page(struct vp *vp, uint64_t id, uint32_t index, uint16_t type)
{
	const struct hv_input_map_vp_state_page in = { .partition_id = id, .vp_index = index, .type = type };

	vmm_call(vp, HV_CALL_MAP_VP_STATE_PAGE, 0, &in, sizeof(in));
}

/* What children do a lot. */
static void vmm_installs(struct vp *vp, uint64_t id, uint8_t more)
{
	static const struct {
		uint32_t access, type, parameter;
	} wishes[] = {
		{ HV_INTERCEPT_ACCESS_MASK_EXECUTE, HV_INTERCEPT_X64_GLOBAL_CPUID, 0 },
		{ HV_INTERCEPT_ACCESS_MASK_EXECUTE, HV_INTERCEPT_X64_CPUID, 1 },
		{ HV_INTERCEPT_ACCESS_MASK_EXECUTE, HV_INTERCEPT_X64_CPUID, 0x40000003 },
		{ HV_INTERCEPT_ACCESS_MASK_EXECUTE, HV_INTERCEPT_EXCEPTION, 14 },
		{ HV_INTERCEPT_ACCESS_MASK_EXECUTE, HV_INTERCEPT_EXCEPTION, 3 },
		{ HV_INTERCEPT_ACCESS_MASK_READ, HV_INTERCEPT_X64_MSR, 0 },
		{ HV_INTERCEPT_ACCESS_MASK_READ, HV_INTERCEPT_X64_MSR_INDEX, HV_MSR_VP_INDEX },
		{ HV_INTERCEPT_ACCESS_MASK_READ, HV_INTERCEPT_X64_MSR_INDEX, HV_MSR_SIMP },
	};
	const struct hv_input_install_intercept in = {
		.partition_id = id,
		.access_mask = more & 0x80 ? 0 : wishes[more % ARRAY_SIZE(wishes)].access,
		.intercept_type = wishes[more % ARRAY_SIZE(wishes)].type,
		.parameter = wishes[more % ARRAY_SIZE(wishes)].parameter,
	};

	vmm_call(vp, HV_CALL_INSTALL_INTERCEPT, 0, &in, sizeof(in));
}

#define CHILD_FLAGS                                                                                         \
	(HV_CREATE_PARTITION_EXO | HV_CREATE_PARTITION_LAPIC | HV_CREATE_PARTITION_INTERCEPT_MESSAGE_PAGE | \
	 HV_CREATE_PARTITION_X2APIC_CAPABLE)

/* Pages 64 on: what the guest's other steps rarely touch. `amount`: of deposits, so that each step may find too few. */
static void vmm_makes_child(struct input *in, struct vp *vp)
{
	const struct hv_input_create_partition create = { .flags = CHILD_FLAGS };
	uint64_t synthetic[3];
	unsigned int slot = 0;
	uint8_t amount = take8(in), vps = take8(in);
	uint64_t first;

	while (slot < CHILDREN_MAX && children[slot])
		slot++;
	if (slot == CHILDREN_MAX)
		return;
	first = 64 + slot * 48;
	vmm_deposits(vp, HV_PARTITION_ID_SELF, first, 4);
	if (vmm_call(vp, HV_CALL_CREATE_PARTITION, 0, &create, sizeof(create)) || !children[slot])
		return;
	synthetic[0] = child_ids[slot];
	synthetic[1] = HV_PROPERTY_SYNTHETIC_PROC_FEATURES;
	synthetic[2] = vps & 0x80 ? 0 : ~0ull;
	vmm_call(vp, HV_CALL_SET_PARTITION_PROPERTY, 0, synthetic, sizeof(synthetic));
	vmm_deposits(vp, child_ids[slot], first + 4, amount < 0xc0 ? 40 : amount & 0x1f);
	vmm_call(vp, HV_CALL_INITIALIZE_PARTITION, 0, &child_ids[slot], 8);
	if (vps & 0x10)
		vmm_installs(vp, child_ids[slot], vps >> 1 & 7);
	for (uint32_t i = 0; children[slot] && i < 1 + (vps & 1u); i++) {
		vmm_creates_vp(vp, child_ids[slot], i);
		vmm_maps_state_page(vp, child_ids[slot], i, (uint16_t)(amount & 1));
		vmm_releases(vp, child_ids[slot], i);
	}
	vmm_maps(vp, child_ids[slot], 0, 32, 8,
		 HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_EXECUTABLE);
}

static void step_vmm(struct input *in, struct vp *vp)
{
	uint8_t what = take8(in), more;
	uint64_t id = child_ids[what >> 6 & 3];

	if (what % 16 == 0 || !children[what >> 6 & 3]) {
		vmm_makes_child(in, vp);
		return;
	}
	more = take8(in);
	switch (what % 16) {
	case 1:
		vmm_deposits(vp, id, 64 + more % 192u, 8);
		break;
	case 2:
		vmm_call(vp, HV_CALL_INITIALIZE_PARTITION, 0, &id, sizeof(id));
		break;
	case 3:
		vmm_creates_vp(vp, id, more & 3);
		break;
	case 4:
	case 5:
		vmm_releases(vp, id, more & 3);
		break;
	case 6:
	case 7:
		vmm_maps(vp, id, more & 31, 32 + more % 224u, 4, more & 0xf);
		break;
	case 8:
		vmm_maps_state_page(vp, id, more & 3, more >> 2 & 1);
		break;
	case 9:
		if (more & 1) /* else too often */
			vmm_call(vp, HV_CALL_FINALIZE_PARTITION, 0, &id, sizeof(id));
		break;
	case 10:
		if (more & 1)
			vmm_call(vp, HV_CALL_DELETE_PARTITION, 0, &id, sizeof(id));
		break;
	case 11: {
		const uint64_t delete_vp[2] = { id, more & 3 };

		vmm_call(vp, HV_CALL_DELETE_VP, 0, delete_vp, sizeof(delete_vp));
		break;
	}
	case 12: {
		const uint64_t withdraw[2] = { id, 0 };

		vmm_call(vp, HV_CALL_WITHDRAW_MEMORY, 1 + (more & 15u), withdraw, sizeof(withdraw));
		break;
	}
	case 13:
		vmm_installs(vp, id, more);
		break;
	default: { /* an interrupt */
		const struct hv_input_assert_virtual_interrupt assert = { .partition_id = id,
									  .vector = 0x30 + (more & 15u),
									  .destination = more >> 4 & 3 };

		vmm_call(vp, HV_CALL_ASSERT_VIRTUAL_INTERRUPT, 0, &assert, sizeof(assert));
		break;
	}
	}
}

#pragma clang attribute pop

#endif
