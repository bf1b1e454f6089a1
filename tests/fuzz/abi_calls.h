/* SPDX-License-Identifier: MIT */
/*
 * One hypercall of fuzz_hypercall.c's guest, from the fuzzer's bytes to its end, continuations included; and what a call may
 * change: its output, if it succeeds, and the registers that carry its result.
 */
#ifndef TRIVET_TESTS_ABI_CALLS_H
#define TRIVET_TESTS_ABI_CALLS_H

#include "abi_grammar.h"
#include "abi_guest.h"

#include <hv/root.h>
#include <hv/status.h>

#define CALL_PASSES_MAX 4096u /* of one call, as its elements are at most so many */
#define INPUT_PAGE 16u
#define CHILD_INPUT_PAGE 6u
#define POISON 0xa5c3f0961e5ad2b7ull

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

static uint64_t hypercalls; /* made in all */

struct call {
	const struct call_row *row; /* NULL: there is no such call */
	uint64_t control, input_gpa, output_gpa;
	uint32_t reps, qwords;
	enum hypercall_mode mode;
	uint64_t gpr[GPR_COUNT];
};

/* How the guest says it. */
#define SAID_FAST BIT(0)
#define SAID_IN_32_BITS BIT(1)
#define SAID_WITH_WILD_CONTROL BIT(2)
#define SAID_ELSEWHERE BIT(3)
#define SAID_CORRUPTED BIT(4)
#define SAID_WITH_MANY BIT(5)
#define SAID_FROM_ELEMENT BIT(6)
#define SAID_WITHOUT_CALL BIT(7)

static bool is_defined(uint16_t status)
{
	static const uint16_t statuses[] = {
		HV_STATUS_SUCCESS,
		HV_STATUS_INVALID_HYPERCALL_CODE,
		HV_STATUS_INVALID_HYPERCALL_INPUT,
		HV_STATUS_INVALID_ALIGNMENT,
		HV_STATUS_INVALID_PARAMETER,
		HV_STATUS_ACCESS_DENIED,
		HV_STATUS_OPERATION_DENIED,
		HV_STATUS_UNKNOWN_PROPERTY,
		HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE,
		HV_STATUS_INSUFFICIENT_MEMORY,
		HV_STATUS_INVALID_PARTITION_ID,
		HV_STATUS_INVALID_VP_INDEX,
		HV_STATUS_NOT_FOUND,
		HV_STATUS_INVALID_PORT_ID,
		HV_STATUS_INVALID_CONNECTION_ID,
		HV_STATUS_INSUFFICIENT_BUFFERS,
		HV_STATUS_INVALID_VP_STATE,
		HV_STATUS_INVALID_SYNIC_STATE,
		HV_STATUS_OBJECT_IN_USE,
		HV_STATUS_NO_RESOURCES,
		HV_STATUS_INVALID_LP_INDEX,
		HV_STATUS_INVALID_REGISTER_VALUE,
		HV_STATUS_INVALID_DEVICE_ID,
		HV_STATUS_OPERATION_FAILED,
		HV_STATUS_INVALID_PARTITION_STATE,
		HV_STATUS_FEATURE_UNAVAILABLE,
		HV_STATUS_INVALID_SAVE_RESTORE_STATE,
		HV_STATUS_INSUFFICIENT_BUFFER,
	};

	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		if (statuses[i] == status)
			return true;
	return false;
}

static uint32_t input_bytes_of(const struct call *call)
{
	return call->row->input + 8 * call->qwords + call->reps * call->row->rep_input;
}

static uint32_t output_bytes_of(const struct call *call)
{
	return call->row->output + call->reps * call->row->rep_output;
}

/* The list of parameters, as long as a page. */
static void write_parameters(struct input *in, struct call *call, uint8_t said, uint8_t *page)
{
	const struct shape *shape = shape_of(call->row->code);
	uint32_t at = call->row->input;

	fill_fields(in, shape->input, page, call->row->input);
	for (uint32_t i = 0; i < call->qwords && at + 8 <= PAGE_SIZE; i++, at += 8)
		fill_fields(in, "q", page + at, 8);
	for (uint32_t i = 0; i < call->reps && call->row->rep_input && at + call->row->rep_input <= PAGE_SIZE;
	     i++, at += call->row->rep_input)
		if (in->left)
			fill_fields(in, shape->element, page + at, call->row->rep_input);
	if (said & SAID_CORRUPTED) {
		at = take8(in);
		page[at] ^= take8(in);
	}
}

/* Where the lists lie: in the VP's own pages of the window, on an overlay, at an odd place, anywhere. */
static uint64_t take_gpa(struct input *in, const struct vp *vp, uint64_t usual)
{
	uint8_t byte = take8(in);

	if (byte < 0x40)
		return usual + byte * 8u;
	if (byte < 0x80 && !partition_is_root(vp->partition))
		return (uint64_t)(byte & 15) << PAGE_SHIFT;
	if (byte < 0x80)
		return overlay_gpa(vp, byte) + (byte & 0x30u) * 8;
	if (byte < 0xc0)
		return usual + PAGE_SIZE - (byte & 0x3fu);
	if (byte < 0xf0)
		return (uint64_t)(byte & 0x3fu) << PAGE_SHIFT;
	return take64(in);
}

static void put_in_registers(struct vp *vp, const struct call *call)
{
	if (call->mode == HYPERCALL_32) {
		vp->gpr[GPR_RDX] = 0xdead00000000 | call->control >> 32;
		vp->gpr[GPR_RAX] = 0xbeef00000000 | (uint32_t)call->control;
		vp->gpr[GPR_RBX] = 0xdead00000000 | call->input_gpa >> 32;
		vp->gpr[GPR_RCX] = 0xbeef00000000 | (uint32_t)call->input_gpa;
		vp->gpr[GPR_RDI] = 0xdead00000000 | call->output_gpa >> 32;
		vp->gpr[GPR_RSI] = 0xbeef00000000 | (uint32_t)call->output_gpa;
	} else {
		vp->gpr[GPR_RCX] = call->control;
		vp->gpr[GPR_RDX] = call->input_gpa;
		vp->gpr[GPR_R8] = call->output_gpa;
	}
}

static void say(struct input *in, struct vp *vp, struct call *call, uint8_t said)
{
	static uint8_t page[PAGE_SIZE];
	bool is_root = partition_is_root(vp->partition);
	uint64_t usual = (is_root ? INPUT_PAGE + 2 * vp->index : CHILD_INPUT_PAGE) << PAGE_SHIFT;
	uint8_t many = take8(in);

	memset(page, 0, sizeof(page));
	call->mode = said & SAID_IN_32_BITS ? HYPERCALL_32 : HYPERCALL_64;
	call->reps = call->row->form & FORM_REP ? 1 + (many & 7u) : 0;
	call->qwords = call->row->form & FORM_VAR ? many >> 4 & 3 : 0;
	if (said & SAID_WITH_MANY)
		call->reps = (uint32_t)(take64(in) & 0xfff);
	call->control = call->row->code | (uint64_t)call->reps << HV_CONTROL_REP_COUNT_SHIFT |
			(uint64_t)call->qwords << HV_CONTROL_VAR_HEADER_SHIFT |
			(said & SAID_FAST ? HV_CONTROL_FAST : 0);
	if (said & SAID_FROM_ELEMENT)
		call->control |= (uint64_t)(many & 3) << HV_CONTROL_REP_START_SHIFT;
	if (said & SAID_WITH_WILD_CONTROL)
		call->control ^= take64(in);
	if (said & SAID_WITHOUT_CALL)
		call->control ^= take8(in);
	write_parameters(in, call, said, page);
	if (said & SAID_FAST) {
		memcpy(&call->input_gpa, page, 8);
		memcpy(&call->output_gpa, page + 8, 8);
		memcpy(machine_of(current_lp)->fx.xmm, page + 16, 96);
		return;
	}
	call->input_gpa = said & SAID_ELSEWHERE ? take_gpa(in, vp, usual) : usual;
	call->output_gpa = said & SAID_ELSEWHERE ? take_gpa(in, vp, usual + PAGE_SIZE) : usual + PAGE_SIZE;
	space_store(&vp->partition->space, call->input_gpa, page,
		    input_bytes_of(call) < PAGE_SIZE ? input_bytes_of(call) : PAGE_SIZE);
}

/* What is really said, after wild control words: NULL when no call. */
static void understand(struct call *call)
{
	call->row = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(call_rows); i++)
		if (call_rows[i].code == (uint16_t)call->control)
			call->row = &call_rows[i];
	call->reps = (uint32_t)((call->control & HV_CONTROL_REP_COUNT_MASK) >> HV_CONTROL_REP_COUNT_SHIFT);
	call->qwords =
		(uint32_t)((call->control & HV_CONTROL_VAR_HEADER_MASK) >> HV_CONTROL_VAR_HEADER_SHIFT);
}

/* A call can change the registers that carry its result and its progress, and no others. */
static void check_registers(const struct vp *vp, const struct call *call, bool again)
{
	for (unsigned int i = 0; i < GPR_COUNT; i++) {
		bool carries = call->mode == HYPERCALL_64 ? i == (again ? GPR_RCX : GPR_RAX) :
							    i == GPR_RAX || i == GPR_RDX;

		CHECK(carries || i == GPR_RSP || vp->gpr[i] == call->gpr[i]);
	}
}

/* Nothing of what was in the hypervisor's page before is in the output. */
static void check_output(const struct vp *vp, const struct call *call)
{
	const uint8_t *output = space_pointer(&vp->partition->space, call->output_gpa, SS_READ);
	uint64_t bytes = output_bytes_of(call), word;

	/* It is where the caller may write itself. */
	CHECK(!bytes || space_pointer(&vp->partition->space, call->output_gpa, SS_WRITE));
	for (uint64_t i = 0; output && i + 8 <= bytes; i += 8) {
		memcpy(&word, output + i, sizeof(word));
		CHECK(word != POISON);
	}
}

/* A device that is told so interrupts a processor, and with a vector that is one. */
static void check_device_interrupt(const struct call *call)
{
	const uint8_t *output = guest_pointer(call->output_gpa, SS_READ);
	struct hv_interrupt_entry entry;
	uint64_t vector, id;

	CHECK(output);
	memcpy(&entry, output, sizeof(entry));
	if (entry.source == HV_INTERRUPT_SOURCE_MSI) {
		CHECK((entry.data & 0xfff00fff) == 0xfee00000);
		id = entry.data >> 12 & 0xff;
		vector = entry.data >> 32;
	} else {
		CHECK((entry.data & 0x00ffffffffff7f00) == 0);
		id = entry.data >> 56;
		vector = entry.data & 0xff;
	}
	CHECK(lp_by_apic_id((uint32_t)id) && vector >= 16 && vector <= 255);
}

static void poison_output(const struct vp *vp)
{
	uint64_t *page = (uint64_t *)((uint8_t *)vp->lp->call_pages + PAGE_SIZE);

	for (unsigned int i = 0; i < 16; i++)
		page[i] = POISON;
}

static uint16_t status_of(const struct vp *vp)
{
	return (uint16_t)vp->gpr[GPR_RAX];
}

static void check_result(const struct vp *vp, const struct call *call, enum hypercall_result result)
{
	uint64_t reps =
		call->mode == HYPERCALL_64 ? vp->gpr[GPR_RAX] >> HV_RESULT_REPS_DONE_SHIFT : vp->gpr[GPR_RDX];

	if (result == HYPERCALL_FAULT_UD || result == HYPERCALL_FAULT_GP) {
		CHECK(allowed.stores == 0);
		CHECK(!memcmp(vp->gpr, call->gpr, sizeof(call->gpr)) ||
		      (call->row && call->row->code == HV_CALL_SET_VP_REGISTERS));
		return;
	}
	if (call->row && call->row->code == HV_CALL_SET_VP_REGISTERS)
		return;
	check_registers(vp, call, result == HYPERCALL_AGAIN);
	if (result == HYPERCALL_AGAIN)
		return;
	CHECK(is_defined(status_of(vp)));
	CHECK(reps <= call->reps);
	CHECK(status_of(vp) != HV_STATUS_SUCCESS || reps == call->reps);
	CHECK(status_of(vp) == HV_STATUS_SUCCESS || allowed.stores == 0 || reps);
	CHECK((status_of(vp) == HV_STATUS_INVALID_HYPERCALL_CODE) == !call->row);
	if (status_of(vp) == HV_STATUS_SUCCESS && !(call->control & HV_CONTROL_FAST))
		check_output(vp, call);
	if (status_of(vp) == HV_STATUS_SUCCESS && call->row->code == HV_CALL_MAP_DEVICE_INTERRUPT)
		check_device_interrupt(call);
}

/* abi_children.h */
static uint64_t made_at;
static void note_child_made(struct vp *vp);
static void note_children_gone(struct vp *vp);

static bool has_room_for_child(void)
{
	for (unsigned int i = 0; i < CHILDREN_MAX; i++)
		if (!children[i])
			return true;
	return false;
}

static void note_children(struct vp *vp, const struct call *call)
{
	if (!call->row || status_of(vp) != HV_STATUS_SUCCESS)
		return;
	if (call->row->code == HV_CALL_CREATE_PARTITION) {
		made_at = call->output_gpa;
		note_child_made(vp);
	} else if (call->row->code == HV_CALL_DELETE_PARTITION) {
		note_children_gone(vp);
	}
}

/* The page that is named behind HvCallGetVpState's input. */
static void allow_named_page(const struct vp *vp, const struct call *call)
{
	const uint8_t *at = NULL;

	if (call->row && call->row->code == HV_CALL_GET_VP_STATE)
		at = space_pointer(&vp->partition->space, call->input_gpa + call->row->input, SS_READ);
	allowed.names_page = at;
	if (at)
		memcpy(&allowed.page, at, sizeof(allowed.page));
}

static enum hypercall_result dispatch(struct vp *vp, struct call *call)
{
	bool is_root = partition_is_root(vp->partition);
	enum hypercall_result result;

	if (is_root && call->row && call->row->code == HV_CALL_CREATE_PARTITION && !has_room_for_child())
		return HYPERCALL_DONE;

	memcpy(call->gpr, vp->gpr, sizeof(call->gpr));
	poison_output(vp);
	allowed.gpa = call->output_gpa;
	allowed.bytes =
		is_root && call->row && !(call->control & HV_CONTROL_FAST) ? output_bytes_of(call) : 0;
	allow_named_page(vp, call);
	allowed.stores = 0;
	allowed.page_tables = call->row && call->row->code == HV_CALL_TRANSLATE_VIRTUAL_ADDRESS;
	allowed.childs = !is_root || (call->row && call->row->code == HV_CALL_WRITE_GPA);
	hypercalls++;
	result = hypercall_dispatch(vp, call->mode);
	check_result(vp, call, result);
	if (is_root && result == HYPERCALL_DONE)
		note_children(vp, call);
	memset(&allowed, 0, sizeof(allowed));
	return result;
}

static void step_hypercall(struct input *in, struct vp *vp)
{
	struct call call = { .row = take_call(in) };
	uint8_t said = take8(in);
	unsigned int passes = 0, retries = 0;

	say(in, vp, &call, said);
	understand(&call);
	put_in_registers(vp, &call);
	while (dispatch(vp, &call) == HYPERCALL_AGAIN) {
		uint64_t control = vp->gpr[GPR_RCX];

		CHECK(++passes < CALL_PASSES_MAX);
		if (call.mode == HYPERCALL_32)
			control = vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX];
		if (control == call.control) {
			if (++retries == 4)
				return; /* the guest is patient, we aren't */
			others_run(vp);
		}
		CHECK(((control ^ call.control) & ~HV_CONTROL_REP_START_MASK) == 0 &&
		      control >= call.control);
		call.control = control;
	}
}

#pragma clang attribute pop

#endif
