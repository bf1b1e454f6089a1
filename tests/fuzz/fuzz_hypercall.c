/* fuzz: */
/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's interface under a hostile root with up to four processors: hypercalls, synthetic MSRs, messages, timers,
 * interrupts, overlay pages, memory that is deposited and withdrawn. An input is a sequence of what its VPs do; all of core/ that
 * has to do with it is linked as it is (ABI_SOURCES in scripts/tests.mk), on the machine of abi_machine.h. After each step the
 * rules of abi_checks.h must hold; at the end everything is undone and every page must be back.
 */
#include "abi_checks.h"
#include "abi_grammar.h"

#include <hv/status.h>
#include <hv/synic.h>
#include <time.h>

/* Has a memory of its own, of the machine: so it is of this file, which can make it forget. */
#include "../../core/calls_system.c"

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

#define STEPS_MAX 512u
#define CALL_PASSES_MAX 4096u /* of one call, as its elements are at most so many */
#define INPUT_PAGE 16u
#define POISON 0xa5c3f0961e5ad2b7ull

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t hypercalls;

/* ---- A guest's own accesses, as its processor makes them ---- */

/* Where the second stage leads; NULL where the guest has nothing, or may not. */
static uint8_t *guest_pointer(uint64_t gpa, unsigned int rights)
{
	struct ss_mapping mapping;

	if (!ss_lookup(&root_partition.space, GPA(gpa), &mapping) || (mapping.perm & rights) != rights)
		return NULL;
	if (mapping.hpa.v >= BLOCK_HPA && mapping.hpa.v < BLOCK_HPA + sizeof(block))
		return block + (mapping.hpa.v - BLOCK_HPA);
	if (mapping.hpa.v >= sizeof(window))
		return NULL;
	window_dirty[mapping.hpa.v >> PAGE_SHIFT] = true;
	return window + mapping.hpa.v;
}

static void guest_store(uint64_t gpa, const void *from, size_t size)
{
	uint8_t *to;

	if ((gpa & (PAGE_SIZE - 1)) + size > PAGE_SIZE)
		size = PAGE_SIZE - (gpa & (PAGE_SIZE - 1));
	to = guest_pointer(gpa, SS_WRITE);
	if (to)
		memcpy(to, from, size);
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
	if (atomic_load(&vp->pending) & VP_PENDING_SYNIC)
		synic_handle_pending(vp);
	if (atomic_load(&vp->pending) & VP_PENDING_FLUSH)
		flush_taken(vp);
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
		flush_taken(vp);
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

/* ---- Hypercalls ---- */

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
	if (said & SAID_CORRUPTED)
		page[take8(in)] ^= take8(in);
}

/* Where the lists lie: in the VP's own pages of the window, on an overlay, at an odd place, anywhere. */
static uint64_t take_gpa(struct input *in, const struct vp *vp, uint64_t usual)
{
	uint8_t byte = take8(in);

	if (byte < 0x40)
		return usual + byte * 8u;
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
	uint64_t usual = (INPUT_PAGE + 2 * vp->index) << PAGE_SHIFT;
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
		memcpy(fx.xmm, page + 16, 96);
		return;
	}
	call->input_gpa = said & SAID_ELSEWHERE ? take_gpa(in, vp, usual) : usual;
	call->output_gpa = said & SAID_ELSEWHERE ? take_gpa(in, vp, usual + PAGE_SIZE) : usual + PAGE_SIZE;
	guest_store(call->input_gpa, page,
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
static void check_registers(const struct vp *vp, const struct call *call)
{
	for (unsigned int i = 0; i < GPR_COUNT; i++) {
		bool carries = i == GPR_RAX || (call->mode == HYPERCALL_64 ? i == GPR_RCX : i == GPR_RDX);

		CHECK(carries || i == GPR_RSP || vp->gpr[i] == call->gpr[i]);
	}
}

/* Nothing of what was in the hypervisor's page before is in the output. */
static void check_output(const struct call *call)
{
	uint64_t bytes = output_bytes_of(call), word;

	if (call->output_gpa >= sizeof(window) || bytes > sizeof(window) - call->output_gpa)
		return;
	for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
		memcpy(&word, window + call->output_gpa + i, sizeof(word));
		CHECK(word != POISON);
	}
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
	check_registers(vp, call);
	if (result == HYPERCALL_AGAIN)
		return;
	CHECK(is_defined(status_of(vp)));
	CHECK(reps <= call->reps);
	CHECK(status_of(vp) != HV_STATUS_SUCCESS || reps == call->reps);
	CHECK(status_of(vp) == HV_STATUS_SUCCESS || allowed.stores == 0 || reps);
	CHECK((status_of(vp) == HV_STATUS_INVALID_HYPERCALL_CODE) == !call->row);
	if (status_of(vp) == HV_STATUS_SUCCESS && !(call->control & HV_CONTROL_FAST))
		check_output(call);
}

static enum hypercall_result dispatch(struct vp *vp, struct call *call)
{
	enum hypercall_result result;

	memcpy(call->gpr, vp->gpr, sizeof(call->gpr));
	poison_output(vp);
	allowed.gpa = call->output_gpa;
	allowed.bytes = call->row && !(call->control & HV_CONTROL_FAST) ? output_bytes_of(call) : 0;
	allowed.stores = 0;
	allowed.page_tables = call->row && call->row->code == HV_CALL_TRANSLATE_VIRTUAL_ADDRESS;
	hypercalls++;
	result = hypercall_dispatch(vp, call->mode);
	check_result(vp, call, result);
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

/* ---- The other things a guest does ---- */

static void step_msr(struct input *in, struct vp *vp, bool writes)
{
	uint32_t msr = take_msr(in);
	uint64_t old = 0, value = 0, after;
	bool readable = vp_msr_read(vp, msr, &old) == 0;
	bool keeps = is_page_msr(msr) || (msr >= HV_MSR_SINT0 && msr <= HV_MSR_SINT15);

	if (!writes)
		return;
	value = take_msr_value(in, msr, old, last_time_100ns);
	if (vp_msr_write(vp, msr, value) == 0) {
		if (is_page_msr(msr) && (value & 1) && msr != HV_MSR_HYPERCALL)
			CHECK(vp_msr_read(vp, msr, &after) == 0 && after == value);
		return;
	}
	if (readable && keeps) /* what is refused changes nothing */
		CHECK(vp_msr_read(vp, msr, &after) == 0 && after == old);
}

/* The end of an interrupt, by way of the assist page if it may be. */
static void step_eoi(struct vp *vp)
{
	uint8_t *word =
		overlay_enabled(&vp->assist.page) ? guest_pointer(overlay_gpa(vp, 2), SS_WRITE) : NULL;

	if (word && (word[0] & 1))
		word[0] &= (uint8_t)~1u;
	else
		vp_msr_write(vp, HV_MSR_EOI, 0);
}

/* A slot of the message page is freed, as TLFS wants it, or whatever the guest likes is written there. */
static void step_slot(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);
	uint64_t at = overlay_gpa(vp, 3) + (byte & 15u) * sizeof(struct hv_message);
	const uint32_t none = HV_MESSAGE_NONE;

	if (byte < 0xc0) {
		guest_store(at, &none, sizeof(none));
		if (byte & 0x10)
			vp_msr_write(vp, HV_MSR_EOM, 0);
	} else {
		uint64_t wild = take64(in);

		guest_store(at + (byte & 0x30u), &wild, sizeof(wild));
	}
}

static void step_store(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);
	uint64_t gpa = byte & 0x80 ? (uint64_t)(byte & 63u) << PAGE_SHIFT : overlay_gpa(vp, byte);
	uint64_t value;

	gpa += (take8(in) * 16u) & (PAGE_SIZE - 8);
	value = byte & 0x40 ? take64(in) : take8(in);
	guest_store(gpa, &value, sizeof(value));
}

/* A VP touches what isn't there, or the local APIC's page, whose instruction is fetched and decoded. */
static void step_fault(struct input *in, struct vp *vp)
{
	static const uint8_t code[][8] = {
		{ 0x89, 0x01 },				/* mov %eax, (%rcx) */
		{ 0x8b, 0x01 },				/* mov (%rcx), %eax */
		{ 0xc7, 0x01, 0xff, 0x01, 0x00, 0x00 }, /* movl $0x1ff, (%rcx) */
		{ 0x0f, 0xb1, 0x01 },			/* cmpxchg: not for devices */
	};
	uint8_t byte = take8(in);
	uint64_t gpa =
		byte & 0x80 ? APIC_BASE_DEFAULT + (byte & 0x3fu) * 0x10u : (uint64_t)byte << (take8(in) & 63);

	if (byte & 0x80) {
		guest_store(0x7000, code[byte >> 6 & 1 ? take8(in) % 4 : 0], sizeof(code[0]));
		machine_of(vp->lp)->registers[VP_REGISTER_RIP].reg64 = 0x5000;
		vp->gpr[GPR_RAX] = take64(in);
	}
	root_second_stage_fault(vp, GPA(gpa), byte & 1, (byte & 7) == 6);
}

static void step_reset(struct vp *vp)
{
	stimers_reset(vp);
	synic_reset(vp);
	CHECK(vp->synic.queued == 0 && !atomic_load(&vp->synic.inbox));
}

static void step_of_machine(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);

	switch (byte % 8) {
	case 0:
	case 1: /* a device's interrupt */
		raise_vector(vp->lp, (uint8_t)(0x20 + byte / 2), byte & 1);
		lp_handle_interrupts(vp->lp);
		return;
	case 2: /* memory is short */
		page_pool_fail_nth(&host_pool, 1 + (byte >> 4));
		return;
	case 3:
		step_reset(vp);
		return;
	case 4:
		memory_type_of_machine = options.posted ? (byte >> 4) % 7 : 0;
		root_memory_types_changed(vp);
		return;
	case 5:
		vp->gpr[GPR_RAX] = HV_CPUID_BASE + (byte >> 3);
		hv_cpuid_read(vp);
		return;
	case 6:
		statistics_tick();
		return;
	default:
		vp_send_init(root_partition.vps[(byte >> 3) % root_partition.vp_count]);
		vp_send_sipi(root_partition.vps[(byte >> 3) % root_partition.vp_count], byte);
		return;
	}
}

static void step(struct input *in)
{
	uint8_t what = take8(in);
	struct vp *vp = root_partition.vps[(what >> 6) % root_partition.vp_count];

	if (!enter(vp, what & 0x20)) {
		let_time_pass(1000);
		return;
	}
	switch (what & 0x1f) {
	default:
		step_hypercall(in, vp);
		break;
	case 16:
		step_msr(in, vp, false);
		break;
	case 17:
	case 18:
	case 19:
	case 20:
		step_msr(in, vp, true);
		break;
	case 21:
		step_eoi(vp);
		break;
	case 22:
	case 23:
		step_slot(in, vp);
		break;
	case 24:
		step_store(in, vp);
		break;
	case 25:
		step_fault(in, vp);
		break;
	case 26:
		step_of_machine(in, vp);
		break;
	case 27:
	case 28:
		let_time_pass((uint64_t)take8(in) << (take8(in) & 31));
		break;
	}
	leave(vp);
	check_step(vp);
}

/* ---- Beginning and end ---- */

/* As Linux sets its processors up: most inputs would never get to messages otherwise. */
static void set_up_guest(bool synic)
{
	for (uint32_t i = 0; i < root_partition.vp_count; i++) {
		struct vp *vp = root_partition.vps[i];
		uint64_t value;

		if (!enter(vp, false))
			continue;
		CHECK(vp_msr_write(vp, HV_MSR_GUEST_OS_ID, 0x8100ull << 48) == 0);
		for (uint32_t msr = HV_MSR_FIRST; synic && msr <= HV_MSR_SIRBP; msr++)
			if (is_page_msr(msr))
				CHECK(vp_msr_read(vp, msr, &value) == 0 &&
				      vp_msr_write(vp, msr, value | 1) == 0);
		CHECK(vp_msr_write(vp, HV_MSR_SCONTROL, synic) == 0);
		for (uint32_t sint = 0; synic && sint < 4; sint++)
			CHECK(vp_msr_write(vp, HV_MSR_SINT0 + sint, 0x30 + 0x10 * sint) == 0);
		leave(vp);
	}
}

static void undo_deposits(struct vp *vp)
{
	uint64_t pages[RAM_PAGES];
	uint64_t unused;

	for (uint32_t object = 0; object < STATISTICS_LP(lp_count); object++)
		statistics_unmap(vp, object);
	page_pool_fail_nth(&host_pool, 0);
	(void)unused;
	while (deposit_withdraw(&root_partition, vp, pages, ARRAY_SIZE(pages)))
		;
}

/* Everything goes: what is left is what was there at the beginning. */
static void finish(void)
{
	size_t ports;

	page_pool_fail_nth(&host_pool, 0);
	for (uint32_t i = 0; i < root_partition.vp_count; i++) {
		struct vp *vp = root_partition.vps[i];

		current_lp = vp->lp;
		machine_of(current_lp)->in_hypervisor = true;
		flush_idle_end(vp);
		step_reset(vp);
		if (i == 0)
			undo_deposits(vp);
		flush_taken(vp);
		atomic_store(&vp->idle, true);
	}
	check_all();
	for (uint32_t i = 0; i < root_partition.vp_count; i++) {
		struct vp *vp = root_partition.vps[i];

		synic_destroy(vp);
		overlay_destroy(&vp->assist.page);
	}
	ports = port_pages();
	port_space_destroy(&root_partition.ports);
	CHECK(port_pages() == 0);
	pages_at_start -= OVERLAYS_OF_VP * root_partition.vp_count;
	CHECK(used_pages() == pages_at_start + owned_pages() + leaf_made);
	(void)ports;
	ss_destroy(&root_partition.space);
	CHECK(used_pages() == pages_at_start + root_partition.deposits.capacity / CHUNK_PAGES + leaf_made);
	page_pool_check(&host_pool);
}

/* For scripts/run-fuzz.py, in processor time. */
static __attribute__((destructor)) void report(void)
{
	struct timespec spent;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
	fprintf(stderr, "stat::hypercalls:               %llu\n", (unsigned long long)hypercalls);
	fprintf(stderr, "stat::hypercalls_per_s:         %.0f\n",
		(double)hypercalls / ((double)spent.tv_sec + (double)spent.tv_nsec / 1e9));
}

static struct machine_options take_options(struct input *in)
{
	uint8_t byte = take8(in), more = take8(in);

	return (struct machine_options){
		.lps = (uint8_t)(1 + (byte & 3)),
		.apic_page = (more & 0x03) == 3,
		.posted = (more & 0x0c) == 0x0c,
		.tsc_adjust = byte & 0x10,
		.deadline_timer = byte & 0x20,
		.offline = byte & 0x40,
		.racing = (more & 0x30) == 0x30,
		.logged = (more & 0xc0) == 0xc0,
		.fewer = (more & 0xc0) == 0x80,
	};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct machine_options wanted = take_options(&in);
	volatile bool has_synic = data && size && data[0] & 0x80;

	machine_start(&wanted);
	atomic_store(&s5_types, 0);
	atomic_store(&sleep_states_locked, false);
	checks_start();
	set_up_guest(has_synic);
	if (wanted.fewer) {
		root_partition.privileges &= take64(&in);
		root_partition.features &= (uint32_t)take64(&in);
	}
	if (setjmp(end_of_machine)) { /* reset or switched off */
		check_pages();
		return 0;
	}
	for (unsigned int steps = 0; in.left && steps < STEPS_MAX; steps++) {
		step(&in);
		if (steps % 64 == 63)
			check_all();
	}
	finish();
	return 0;
}

#pragma clang attribute pop
