/* SPDX-License-Identifier: MIT */
/*
 * The monitor in fuzz_hypercall.c's root: what it does with its children, in an order in which most of it succeeds. Most inputs would never get so
 * far by themselves.
 */
#ifndef TRIVET_TESTS_ABI_VMM_H
#define TRIVET_TESTS_ABI_VMM_H

#include "abi_children.h"

#include <hv/port.h>
#include <hv/vp_state.h>

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

static uint16_t vmm_call(struct vp *vp, uint16_t code, uint32_t reps, const void *list, size_t size)
{
	struct call call = { .mode = HYPERCALL_64, .reps = reps };

	call.input_gpa = (INPUT_PAGE + 2 * vp->index) << PAGE_SHIFT;
	call.output_gpa = call.input_gpa + PAGE_SIZE;
	call.control = code | (uint64_t)reps << HV_CONTROL_REP_COUNT_SHIFT;
	understand(&call);
	if (call.row->form == SIMPLE_VAR) /* all that is behind the fixed input */
		call.control |= (size - call.row->input) / 8 << HV_CONTROL_VAR_HEADER_SHIFT;
	understand(&call);
	guest_store(call.input_gpa, list, size);
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

#define STATE_PAGE 12u /* the monitor's */

struct named {
	uint32_t name, zero[3];
	uint64_t value[2];
};

static void vmm_sets(struct vp *vp, uint64_t id, uint32_t index, const struct named *registers,
		     uint32_t count)
{
	struct {
		uint64_t id;
		uint32_t index, vtl;
		struct named registers[8];
	} list = { .id = id, .index = index };

	memcpy(list.registers, registers, count * sizeof(*registers));
	vmm_call(vp, HV_CALL_SET_VP_REGISTERS, count, &list, 16 + count * sizeof(*registers));
}

static void vmm_releases(struct vp *vp, uint64_t id, uint32_t index)
{
	const struct named registers[] = { { .name = HV_REGISTER_EXPLICIT_SUSPEND },
					   { .name = HV_REGISTER_INTERCEPT_SUSPEND },
					   { .name = HV_REGISTER_INTERNAL_ACTIVITY_STATE } };

	vmm_sets(vp, id, index, registers, ARRAY_SIZE(registers));
}

/* 64-bit mode on the root's own page tables, which the child sees where they are. */
static void vmm_starts_in_64_bits(struct vp *vp, uint64_t id, uint32_t index)
{
	const struct named registers[] = {
		{ .name = HV_REGISTER_X64_EFER, .value = { 0xd01 } },
		{ .name = HV_REGISTER_X64_CR4, .value = { 0x20 } },
		{ .name = HV_REGISTER_X64_CR3, .value = { TABLES_PAGE * PAGE_SIZE } },
		{ .name = HV_REGISTER_X64_CR0, .value = { 0x80050033 } },
		{ .name = HV_REGISTER_X64_RIP, .value = { CODE_PAGE * PAGE_SIZE } },
		{ .name = HV_REGISTER_X64_RFLAGS, .value = { 0x202 } },
	};

	vmm_sets(vp, id, index, registers, ARRAY_SIZE(registers));
}

/* With what its monitor wants to have at the two pins. */
static void vmm_enables_apic(struct vp *vp, uint64_t id, uint32_t index, uint32_t lint0, uint32_t lint1)
{
	struct {
		struct hv_input_vp_state head;
		uint64_t page;
	} list = { .head = { .partition_id = id, .vp_index = index, .type = HV_VP_STATE_LAPIC },
		   .page = STATE_PAGE };
	struct hv_vp_state_lapic *image =
		(struct hv_vp_state_lapic *)(void *)guest_pointer(STATE_PAGE << PAGE_SHIFT, SS_WRITE);

	if (vmm_call(vp, HV_CALL_GET_VP_STATE, 0, &list, sizeof(list)) || !image)
		return;
	image->spurious = 0x1ff;
	image->lvt_lint0 = lint0;
	image->lvt_lint1 = lint1;
	vmm_call(vp, HV_CALL_SET_VP_STATE, 0, &list, sizeof(list));
}

/* A result for all VPs, and what one of them is told now. */
static void vmm_says_cpuid(struct input *in, struct vp *vp, uint64_t id, uint8_t more)
{
	const uint32_t leaf = cpuid_leaves[more % ARRAY_SIZE(cpuid_leaves)], value = take8(in) * 0x1010101u;
	struct hv_input_register_intercept_result result = {
		.partition_id = id,
		.vp_index = more & 0x80 ? 0 : HV_VP_INDEX_ANY,
		.intercept_type = HV_INTERCEPT_X64_CPUID,
		.parameters.cpuid = { .input_eax = leaf,
				      .input_ecx = more >> 5 & 1,
				      .subleaf_specific = more >> 6 & 1,
				      .eax = value,
				      .eax_mask = ~0u,
				      .ecx = ~value,
				      .ecx_mask = value },
	};
	struct {
		struct hv_input_get_vp_cpuid_values head;
		struct hv_cpuid_leaf leaf;
	} query = { { .partition_id = id, .flags = HV_CPUID_VALUES_APPLY_REGISTERED },
		    { .eax = leaf, .ecx = more >> 5 & 1, .xfem = 7 } };

	vmm_call(vp, HV_CALL_REGISTER_INTERCEPT_RESULT, 0, &result, sizeof(result));
	vmm_call(vp, HV_CALL_GET_VP_CPUID_VALUES, 1, &query, sizeof(query));
}

/* As set_up_guest() has it for the root; the pages cover memory that the child has, and holes. */
static void vmm_sets_up_synic(struct vp *vp, uint64_t id, uint32_t index)
{
	const struct named registers[] = {
		{ .name = HV_REGISTER_GUEST_OS_ID, .value = { 0x8100ull << 48 } },
		{ .name = HV_REGISTER_SIMP, .value = { 7ull << PAGE_SHIFT | 1 } },
		{ .name = HV_REGISTER_SIEFP, .value = { 10ull << PAGE_SHIFT | 1 } },
		{ .name = HV_REGISTER_VP_ASSIST_PAGE, .value = { 11ull << PAGE_SHIFT | 1 } },
		{ .name = HV_REGISTER_SINT0 + 1, .value = { 0x40 } },
		{ .name = HV_REGISTER_SINT0 + 2, .value = { 0x50 } },
		{ .name = HV_REGISTER_SCONTROL, .value = { 1 } },
	};

	vmm_sets(vp, id, index, registers, ARRAY_SIZE(registers));
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

/* What children do a lot, and what they call in vain. */
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
		{ HV_INTERCEPT_ACCESS_MASK_EXECUTE, HV_INTERCEPT_HYPERCALL, 0 },
		{ HV_INTERCEPT_ACCESS_MASK_EXECUTE, HV_INTERCEPT_UNKNOWN_SYNIC_CONNECTION, 0 },
		{ HV_INTERCEPT_ACCESS_MASK_EXECUTE, HV_INTERCEPT_RETARGET_UNKNOWN_DEVICE, 0 },
	};
	const struct hv_input_install_intercept in = {
		.partition_id = id,
		.access_mask = more & 0x80 ? 0 : wishes[more % ARRAY_SIZE(wishes)].access,
		.intercept_type = wishes[more % ARRAY_SIZE(wishes)].type,
		.parameter = wishes[more % ARRAY_SIZE(wishes)].parameter,
	};

	vmm_call(vp, HV_CALL_INSTALL_INTERCEPT, 0, &in, sizeof(in));
}

/* What a child needs for the synthetic MSRs and the calls that Linux makes. */
static void vmm_sets_property(struct vp *vp, uint64_t id, uint32_t code, uint64_t value)
{
	const struct hv_input_set_partition_property in = { .partition_id = id,
							    .property_code = code,
							    .value = value };

	vmm_call(vp, HV_CALL_SET_PARTITION_PROPERTY, 0, &in, sizeof(in));
}

#define CHILD_FLAGS                                                                                         \
	(HV_CREATE_PARTITION_EXO | HV_CREATE_PARTITION_LAPIC | HV_CREATE_PARTITION_INTERCEPT_MESSAGE_PAGE | \
	 HV_CREATE_PARTITION_X2APIC_CAPABLE)
#define ALL_RIGHTS (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE | HV_MAP_GPA_EXECUTABLE)

/* Pages 64 on: what the guest's other steps rarely touch. `amount`: of deposits, so that each step may find too few. */
static void vmm_makes_child(struct input *in, struct vp *vp)
{
	struct hv_input_create_partition create = { .flags = CHILD_FLAGS };
	unsigned int slot = 0;
	uint8_t amount = take8(in), vps = take8(in);
	uint64_t first;

	while (slot < CHILDREN_MAX && children[slot])
		slot++;
	if (slot == CHILDREN_MAX)
		return;
	first = 64 + slot * 48;
	vmm_deposits(vp, HV_PARTITION_ID_SELF, first, 4);
	if (vps & 0x40)
		create.disabled_xsave_features = 1ull << (take8(in) & 15);
	if (vmm_call(vp, HV_CALL_CREATE_PARTITION, 0, &create, sizeof(create)) || !children[slot])
		return;
	vmm_sets_property(vp, child_ids[slot], HV_PROPERTY_SYNTHETIC_PROC_FEATURES, vps & 0x80 ? 0 : ~0ull);
	if (vps & 0x20)
		vmm_sets_property(vp, child_ids[slot], property_codes[take8(in) % ARRAY_SIZE(property_codes)],
				  take8(in));
	vmm_deposits(vp, child_ids[slot], first + 4, amount < 0xc0 ? 44 : amount & 0x1f);
	vmm_call(vp, HV_CALL_INITIALIZE_PARTITION, 0, &child_ids[slot], 8);
	if (vps & 0x10)
		vmm_installs(vp, child_ids[slot], vps >> 1 & 7);
	vmm_maps(vp, child_ids[slot], 0, 32, 8, ALL_RIGHTS);
	if (vps & 2)
		vmm_maps(vp, child_ids[slot], TABLES_PAGE, TABLES_PAGE, 4, ALL_RIGHTS);
	for (uint32_t i = 0; children[slot] && i < 1 + (vps & 1u); i++) {
		vmm_creates_vp(vp, child_ids[slot], i);
		vmm_maps_state_page(vp, child_ids[slot], i, (uint16_t)(amount & 1));
		if (vps & 4)
			vmm_maps_state_page(vp, child_ids[slot], i, (uint16_t)(~amount & 1));
		if (vps & 2)
			vmm_starts_in_64_bits(vp, child_ids[slot], i);
		if (vps & 8)
			vmm_sets_up_synic(vp, child_ids[slot], i);
		if (vps & 8)
			vmm_enables_apic(vp, child_ids[slot], i, 0x700, 0x400);
		vmm_releases(vp, child_ids[slot], i);
	}
}

/* What the hypervisor isn't to answer: the parent has looked, changed something in the page, and lets the VP go on. */
static void vmm_answers(struct input *in, struct vp *vp, const struct partition *child, uint32_t index)
{
	const struct vp *of = index < child->vp_count ? child->vps[index] : NULL;
	struct hv_vp_register_page *page = NULL;
	uint8_t byte;

	if (of && of->child->intercepts.registers_page)
		page = (struct hv_vp_register_page *)(void *)guest_pointer(
			of->child->intercepts.registers_page << PAGE_SHIFT, SS_WRITE);
	if (page) {
		page->dirty = take8(in);
		byte = take8(in);
		memcpy(&page->segment[byte % 6], register_values[byte % ARRAY_SIZE(register_values)], 16);
		page->gp[byte & 15] = take8(in);
		page->rip = byte & 0x80 ? take64(in) : CODE_PAGE << PAGE_SHIFT;
		page->rflags = byte & 0x40 ? take64(in) : 0x202;
	}
	vmm_releases(vp, child->id, index);
}

/* Out and in again, with a few bytes changed on the way. */
static void vmm_moves_state(struct input *in, struct vp *vp, uint64_t id, uint8_t more)
{
	static const struct {
		uint32_t type, bytes;
	} kinds[] = { { HV_VP_STATE_LAPIC, sizeof(struct hv_vp_state_lapic) },
		      { HV_VP_STATE_XSAVE, 1024 },
		      { HV_VP_STATE_SYNTHETIC_TIMERS, sizeof(struct hv_vp_state_timers) },
		      { HV_VP_STATE_SIM_PAGE, 512 },
		      { HV_VP_STATE_SIEF_PAGE, 512 } };
	const uint32_t type = kinds[more % ARRAY_SIZE(kinds)].type,
		       bytes = kinds[more % ARRAY_SIZE(kinds)].bytes;
	struct {
		struct hv_input_vp_state head;
		union {
			uint64_t page;
			struct hv_vp_state_timers timers;
		} behind;
	} list = { .head = { .partition_id = id,
			     .vp_index = more >> 5 & 1,
			     .type = type,
			     .xsave_states = ~0ull },
		   .behind.page = STATE_PAGE };
	bool by_page = type & HV_VP_STATE_BY_PAGES;
	size_t size = sizeof(list.head) + (by_page ? 8 : sizeof(list.behind.timers));
	uint8_t changes = take8(in) & 3;
	uint8_t *image;

	if (vmm_call(vp, HV_CALL_GET_VP_STATE, 0, &list, size))
		return;
	if (!by_page) {
		image = guest_pointer((INPUT_PAGE + 2 * vp->index + 1) << PAGE_SHIFT, SS_READ);
		if (image)
			memcpy(&list.behind, image, sizeof(list.behind));
		list.behind.timers.timer[more >> 6].config |= take8(in) | (uint64_t)take8(in) << 16;
		list.behind.timers.timer[more >> 6].count += take8(in);
		list.behind.timers.timer[more >> 6].flags = changes & 1;
	}
	image = by_page ? guest_pointer(STATE_PAGE << PAGE_SHIFT, SS_WRITE) : (uint8_t *)&list.behind;
	for (; image && changes; changes--) {
		unsigned int at = (take8(in) * 256u + take8(in)) % bytes;

		/* XSTATE_BV and reserved bits of MXCSR: too few bytes of many. */
		if (type == HV_VP_STATE_XSAVE && changes > 1)
			at = changes == 3 ? sizeof(struct fx_area) : offsetof(struct fx_area, mxcsr) + 2;
		image[at] ^= take8(in);
	}
	list.head.vp_index = more >> 7;
	vmm_call(vp, HV_CALL_SET_VP_STATE, 0, &list, size);
}

/* A port here and the connection there; doorbells only the child has. */
static void vmm_connects(struct input *in, struct vp *vp, uint64_t id, uint8_t more)
{
	const uint32_t number = more & 15, type = take8(in) & 1 ? HV_PORT_TYPE_DOORBELL : 1 + (more >> 4 & 1);
	const bool to_child = type != HV_PORT_TYPE_DOORBELL && (more & 0x20);
	const uint64_t owner = to_child ? id : HV_PARTITION_ID_SELF,
		       other = to_child ? HV_PARTITION_ID_SELF : id;
	const struct hv_input_create_port create = {
		.port_partition_id = owner,
		.port_id = number,
		.connection_partition_id = other,
		.port_info = { .port_type = type,
			       .target_sint = 1 + (more & 3),
			       .target_vp = more & 0x40 ? HV_VP_INDEX_ANY : 0,
			       .flag_count = type == HV_PORT_TYPE_EVENT ? 16 : 0 },
	};
	struct hv_input_connect_port connect = {
		.connection_partition_id = other,
		.connection_id = number,
		.port_partition_id = owner,
		.port_id = number,
		.connection_info = { .port_type = type },
	};

	if (type == HV_PORT_TYPE_DOORBELL) {
		connect.connection_info.gpa = value_of_field(in, 'd', take8(in));
		connect.connection_info.trigger_value = take8(in);
		connect.connection_info.flags = value_of_field(in, 'B', take8(in));
	}
	vmm_call(vp, HV_CALL_CREATE_PORT, 0, &create, sizeof(create));
	vmm_call(vp, HV_CALL_CONNECT_PORT, 0, &connect, sizeof(connect));
}

static void vmm_interrupts(struct vp *vp, uint64_t id, uint8_t more, uint8_t kind)
{
	const struct hv_input_assert_virtual_interrupt assert = {
		.partition_id = id,
		.interrupt_type = kind % 10u,
		.control_flags = more >> 6,
		.vector = 0x30 + (more & 15u),
		.destination = kind < 0xc0 ? more >> 4 & 3 : 0xff,
	};

	vmm_call(vp, HV_CALL_ASSERT_VIRTUAL_INTERRUPT, 0, &assert, sizeof(assert));
}

/* Of its life: memory, VPs, intercepts, and its end. False: something else. */
static bool vmm_manages(struct vp *vp, uint64_t id, uint8_t what, uint8_t more)
{
	const uint64_t two[2] = { id, what == 11 ? more & 3u : 0 };

	switch (what) {
	case 1:
		vmm_deposits(vp, id, 64 + more % 192u, 8);
		return true;
	case 2:
		vmm_call(vp, HV_CALL_INITIALIZE_PARTITION, 0, &id, sizeof(id));
		return true;
	case 3:
		vmm_creates_vp(vp, id, more & 3);
		return true;
	case 4:
		vmm_releases(vp, id, more & 1);
		return true;
	case 5:
		vmm_installs(vp, id, more);
		return true;
	case 6:
	case 7:
		vmm_maps(vp, id, more & 31, 32 + more % 224u, 4, more & 0xf);
		return true;
	case 8:
		vmm_maps_state_page(vp, id, more & 3, more >> 2 & 1);
		return true;
	case 9:
		if (more % 4 == 3) /* else too often */
			vmm_call(vp, HV_CALL_FINALIZE_PARTITION, 0, &id, sizeof(id));
		return true;
	case 10:
		if (more % 4 == 3)
			vmm_call(vp, HV_CALL_DELETE_PARTITION, 0, &id, sizeof(id));
		return true;
	case 11:
		if (more & 4)
			vmm_call(vp, HV_CALL_DELETE_VP, 0, two, sizeof(two));
		return true;
	case 12:
		vmm_call(vp, HV_CALL_WITHDRAW_MEMORY, 1 + (more & 15u), two, sizeof(two));
		return true;
	default:
		return false;
	}
}

static void vmm_goes_on(struct input *in, struct vp *vp, struct partition *child, uint8_t what, uint8_t more)
{
	const uint64_t id = child->id;
	const struct named wanted = { .name = HV_REGISTER_DELIVERABILITY_NOTIFICATIONS,
				      .value = { (uint64_t)more << 48 } };

	if (vmm_manages(vp, id, what, more))
		return;
	switch (what) {
	case 13:
	case 14:
		vmm_interrupts(vp, id, more, what == 13 ? HV_INTERRUPT_FIXED : take8(in));
		return;
	case 15:
	case 16:
		vmm_moves_state(in, vp, id, more);
		return;
	case 17:
	case 18:
		vmm_connects(in, vp, id, more);
		return;
	case 19:
		vmm_sets_property(vp, id, property_codes[more % ARRAY_SIZE(property_codes)],
				  value_of_field(in, 'W', take8(in)));
		return;
	case 21:
		vmm_enables_apic(vp, id, more & 1, (more & 0xe0u) << 3 | 0x35,
				 (more & 0x1cu) << 6 | 0x40 | (more & 2u) << 15);
		return;
	case 22:
		vmm_says_cpuid(in, vp, id, more);
		return;
	case 20:
		vmm_sets(vp, id, more & 1, &wanted, 1);
		return;
	default:
		vmm_answers(in, vp, child, more & 1);
		return;
	}
}

/* With most steps one child goes on living; some make another one. */
static void step_vmm(struct input *in, struct vp *vp)
{
	uint8_t what = take8(in);
	unsigned int i = what >> 6;

	for (unsigned int tries = 0; !(what & 0x20) && !children[i] && tries < CHILDREN_MAX; tries++)
		i = (i + 1) % CHILDREN_MAX;
	if (!children[i] || (what & 0x3f) == 0)
		vmm_makes_child(in, vp);
	else
		vmm_goes_on(in, vp, children[i], what & 0x1f, take8(in));
	if (children[i] && children[i]->vps)
		check_childs_vps(children[i]);
}

#pragma clang attribute pop

#endif
