/* SPDX-License-Identifier: MIT */
/*
 * The hypercall dispatcher (TLFS "Hypercall Interface"): registers to a checked, copied call, and its result back. The order of
 * checks is that of the specification: code, control word, addresses, privilege, then the handler.
 */
#include <errno.h>
#include <hv/cpuid.h>
#include <hv/hypercall.h>
#include <hv/partition.h>
#include <hv/status.h>
#include <string.h>
#include <trivet/abi_log.h>
#include <trivet/guest_access.h>
#include <trivet/host_memory.h>
#include <trivet/hypercall.h>
#include <trivet/intercept.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

enum form {
	FORM_REP = 1,
	FORM_VAR = 2,
	SIMPLE = 0,
	REP = FORM_REP,
	SIMPLE_VAR = FORM_VAR,
	REP_VAR = FORM_REP | FORM_VAR,
};

struct row {
	hypercall_handler handler;
	uint64_t privilege;
	uint16_t code;
	uint16_t batch;
	uint16_t input, rep_input;
	uint16_t output, rep_output;
	uint8_t form;
};

#define HYPERCALL(code, name, form, batch, input, rep_input, output, rep_output, privilege, since, tlfs, \
		  handler)                                                                               \
	{ handler, privilege, code, batch, input, rep_input, output, rep_output, form },
static const struct row rows[] = {
#include "hypercalls.def"
};
#undef HYPERCALL

#define HYPERCALL(code, name, ...) #name,
static const char *const names[] = {
#include "hypercalls.def"
};
#undef HYPERCALL

/* Row number + 1 by code; extended calls (TLFS "Extended Hypercall Interface") follow the others. */
enum {
#define HYPERCALL(code, name, ...) ROW_##name,
#include "hypercalls.def"
#undef HYPERCALL
	ROW_COUNT
};
static_assert(ROW_COUNT < 255, "row numbers are bytes");

#define ORDINARY_CODES 0x140u
#define EXTENDED_CODES 0x10u
#define EXTENDED_FIRST HV_CALL_EXTENDED_FIRST
#define SLOT(code) ((code) < EXTENDED_FIRST ? (code) : (code)-EXTENDED_FIRST + ORDINARY_CODES)

static const uint8_t row_by_slot[ORDINARY_CODES + EXTENDED_CODES] = {
#define HYPERCALL(code, name, ...) [SLOT(code)] = ROW_##name + 1,
#include "hypercalls.def"
#undef HYPERCALL
};

#define CONTROL_RESERVED (HV_CONTROL_RESERVED | HV_CONTROL_NESTED)
#define FAST_BYTES HV_FAST_INPUT_BYTES
#define FAST_XMM_BYTES HV_FAST_XMM_INPUT_BYTES

/* A call as it stands in the registers. */
struct request {
	const struct row *row;
	uint64_t control;
	uint64_t input, output; /* GPAs, or a fast call's two parameters */
	uint32_t rep_count, rep_start, var_bytes;
	bool fast;
};

/* Parameters of fast calls, in registers; the others' lie in the LP's two pages. */
struct fast_buffer {
	uint64_t words[FAST_XMM_BYTES / 8];
};

static inline const struct row *find_row(uint32_t code)
{
	uint32_t slot = code;
	uint8_t number;

	if (code >= ORDINARY_CODES) {
		slot = code - EXTENDED_FIRST + ORDINARY_CODES;
		if (code < EXTENDED_FIRST || slot >= ARRAY_SIZE(row_by_slot))
			return NULL;
	}
	number = row_by_slot[slot];
	return number ? &rows[number - 1] : NULL;
}

const char *hypercall_name(uint16_t code)
{
	const struct row *row = find_row(code);

	return row ? names[row - rows] : NULL;
}

int hypercall_lp_init(struct lp *lp)
{
	lp->call_pages = page_alloc(&host_pool, 1);
	return lp->call_pages ? 0 : -ENOMEM;
}

static uint64_t pair(const struct vp *vp, enum gpr high, enum gpr low)
{
	return vp->gpr[high] << 32 | (uint32_t)vp->gpr[low];
}

static inline uint64_t control_of(const struct vp *vp, enum hypercall_mode mode)
{
	return likely(mode == HYPERCALL_64) ? vp->gpr[GPR_RCX] : pair(vp, GPR_RDX, GPR_RAX);
}

static void read_parameters(const struct vp *vp, enum hypercall_mode mode, struct request *request)
{
	if (likely(mode == HYPERCALL_64)) {
		request->input = vp->gpr[GPR_RDX];
		request->output = vp->gpr[GPR_R8];
	} else {
		request->input = pair(vp, GPR_RBX, GPR_RCX);
		request->output = pair(vp, GPR_RDI, GPR_RSI);
	}
}

static void set_result(struct vp *vp, enum hypercall_mode mode, uint16_t status, uint32_t reps)
{
	if (mode == HYPERCALL_64) {
		vp->gpr[GPR_RAX] = status | (uint64_t)reps << HV_RESULT_REPS_DONE_SHIFT;
	} else {
		vp->gpr[GPR_RAX] = status;
		vp->gpr[GPR_RDX] = reps;
	}
}

/* The instruction runs again from element `rep_start` on (TLFS "Hypercall Continuation"). */
static void set_progress(struct vp *vp, enum hypercall_mode mode, uint64_t control, uint32_t rep_start)
{
	control &= ~HV_CONTROL_REP_START_MASK;
	control |= (uint64_t)rep_start << HV_CONTROL_REP_START_SHIFT;
	if (mode == HYPERCALL_64) {
		vp->gpr[GPR_RCX] = control;
	} else {
		vp->gpr[GPR_RAX] = (uint32_t)control;
		vp->gpr[GPR_RDX] = control >> 32;
	}
}

static uint32_t input_bytes(const struct request *request)
{
	return request->row->input + request->var_bytes + request->rep_count * request->row->rep_input;
}

static uint32_t output_bytes(const struct request *request)
{
	return request->row->output + request->rep_count * request->row->rep_output;
}

static const char *check_control(struct request *request)
{
	const struct row *row = request->row;
	uint64_t control = request->control;

	request->fast = control & HV_CONTROL_FAST;
	request->var_bytes =
		8 * (uint32_t)((control & HV_CONTROL_VAR_HEADER_MASK) >> HV_CONTROL_VAR_HEADER_SHIFT);
	request->rep_count = (uint32_t)((control & HV_CONTROL_REP_COUNT_MASK) >> HV_CONTROL_REP_COUNT_SHIFT);
	request->rep_start = (uint32_t)((control & HV_CONTROL_REP_START_MASK) >> HV_CONTROL_REP_START_SHIFT);
	if (control & CONTROL_RESERVED)
		return "reserved bits of the control word";
	if (request->var_bytes && !(row->form & FORM_VAR))
		return "variable header for a call that has none";
	if (!(row->form & FORM_REP))
		return request->rep_count || request->rep_start ? "rep count or index for a simple call" :
								  NULL;
	if (!request->rep_count)
		return "rep count 0";
	return request->rep_start >= request->rep_count ? "rep index not below the rep count" : NULL;
}

/* A list of parameters begins at a multiple of 8, within the partition's space, and ends in the page where it begins. */
static bool in_one_page(const struct vp *vp, uint64_t gpa, uint32_t bytes)
{
	return !bytes || ((gpa & 7) == 0 && !(gpa >> vp->partition->overlays.gpa_bits) &&
			  bytes <= PAGE_SIZE - (gpa & (PAGE_SIZE - 1)));
}

static void read_xmm(uint64_t *words)
{
	uint8_t area[512] __attribute__((aligned(16)));

	fxsave(area);
	memcpy(words, area + 160, FAST_XMM_BYTES - FAST_BYTES);
}

static uint16_t gather_fast(const struct vp *vp, const struct request *request, struct fast_buffer *buffer,
			    const char **rule)
{
	uint32_t bytes = input_bytes(request);
	bool xmm = vp->partition->features & HV_FEATURE_XMM_INPUT;

	*rule = "not possible as a fast call";
	if (output_bytes(request) || bytes > (xmm ? FAST_XMM_BYTES : FAST_BYTES))
		return HV_STATUS_INVALID_HYPERCALL_INPUT;
	buffer->words[0] = request->input;
	buffer->words[1] = request->output;
	if (bytes > FAST_BYTES)
		read_xmm(&buffer->words[2]);
	return HV_STATUS_SUCCESS;
}

/* Copies what this pass needs: the head, and the elements of the batch to their place in the list. */
static bool copy_input(struct vp *vp, const struct request *request, uint32_t batch_end, uint8_t *page)
{
	uint32_t head = request->row->input + request->var_bytes;
	uint32_t first = head + request->rep_start * request->row->rep_input;
	uint32_t end = head + batch_end * request->row->rep_input;

	if (likely(first == head))
		return !end || guest_phys_read(vp, GPA(request->input), page, end);
	return (!head || guest_phys_read(vp, GPA(request->input), page, head)) &&
	       guest_phys_read(vp, GPA(request->input + first), page + first, end - first);
}

/* That the output can be written shows before the call changes anything (TLFS "Hypercall Outputs"). */
static bool output_is_there(struct vp *vp, const struct request *request)
{
	return !output_bytes(request) || guest_phys_can_write(vp, GPA(request->output));
}

/* Of a list, the elements that this pass finished: those count as done whatever became of the next one. */
static bool copy_output(struct vp *vp, const struct request *request, const struct hypercall *call,
			uint16_t status)
{
	const struct row *row = request->row;
	uint32_t first = row->output + request->rep_start * row->rep_output;
	uint32_t bytes = (uint32_t)(call->reps_done - request->rep_start) * row->rep_output;
	const uint8_t *from = call->output;

	if (status == HV_STATUS_SUCCESS && row->output &&
	    !guest_phys_write(vp, GPA(request->output), from, row->output))
		return false;
	return !bytes || guest_phys_write(vp, GPA(request->output + first), from + first, bytes);
}

/* A child's memory may be its parent's to bring in: then the instruction runs again (TLFS "Hypercall Inputs": a memory intercept). */
static __attribute__((__noinline__)) enum hypercall_result parameters_missing(struct vp *vp, uint64_t gpa,
									      bool is_write)
{
	if (partition_is_root(vp->partition) || intercept_parameters(vp, GPA(gpa), is_write) == FAULT_REFUSED)
		return HYPERCALL_FAULT_GP;
	return HYPERCALL_AGAIN;
}

static bool is_installed(const struct vp *vp, uint32_t type)
{
	return vp->partition->properties.intercepts & INTERCEPT_INSTALLED(type);
}

/* What names something that isn't there the parent may want to answer: a VMBus server in its monitor. */
static bool is_parents(const struct vp *vp, uint16_t code, uint16_t status)
{
	switch (code) {
	case HV_CALL_POST_MESSAGE:
	case HV_CALL_SIGNAL_EVENT:
		return status == HV_STATUS_INVALID_CONNECTION_ID &&
		       is_installed(vp, HV_INTERCEPT_UNKNOWN_SYNIC_CONNECTION);
	case HV_CALL_RETARGET_DEVICE_INTERRUPT:
		return status == HV_STATUS_INVALID_DEVICE_ID &&
		       is_installed(vp, HV_INTERCEPT_RETARGET_UNKNOWN_DEVICE);
	default:
		return false;
	}
}

static enum hypercall_result finish(struct vp *vp, enum hypercall_mode mode, const struct request *request,
				    const struct hypercall *call, uint16_t status)
{
	if (status == HYPERCALL_RESTART)
		return HYPERCALL_AGAIN;
	if (unlikely(vp->partition->properties.intercepts) && is_parents(vp, call->code, status)) {
		intercept_hypercall(vp);
		return HYPERCALL_AGAIN;
	}
	if (status != HV_STATUS_SUCCESS)
		abi_refused(vp, ABI_HYPERCALL, request->row->code, request->control, status,
			    "the call's own rule");
	if (output_bytes(request) && !copy_output(vp, request, call, status))
		return parameters_missing(vp, request->output, true);
	if (status == HV_STATUS_SUCCESS && call->reps_done < request->rep_count) {
		set_progress(vp, mode, request->control, call->reps_done);
		return HYPERCALL_AGAIN;
	}
	set_result(vp, mode, status, call->reps_done);
	if (unlikely(vp->rip_moved)) {
		vp->rip_moved = false;
		return HYPERCALL_MOVED;
	}
	return HYPERCALL_DONE;
}

static enum hypercall_result perform(struct vp *vp, enum hypercall_mode mode, const struct request *request,
				     const void *input, void *output)
{
	const struct row *row = request->row;
	uint32_t batch_end = request->rep_count;
	struct hypercall call = {
		.vp = vp,
		.partition = vp->partition,
		.code = row->code,
		.var_header_qwords = (uint16_t)(request->var_bytes / 8),
		.rep_start = (uint16_t)request->rep_start,
		.reps_done = (uint16_t)request->rep_start,
		.input = input,
		.rep_input = (const uint8_t *)input + row->input + request->var_bytes,
		.output = output,
		.rep_output = (uint8_t *)output + row->output,
	};

	if (row->batch && batch_end - request->rep_start > row->batch)
		batch_end = request->rep_start + row->batch;
	call.rep_count = (uint16_t)batch_end;
	if (!request->fast) {
		if (!copy_input(vp, request, batch_end, (uint8_t *)(uintptr_t)input))
			return parameters_missing(vp, request->input, false);
		if (!output_is_there(vp, request))
			return parameters_missing(vp, request->output, true);
		memset(output, 0, output_bytes(request));
	}
	return finish(vp, mode, request, &call, row->handler(&call));
}

static __attribute__((__noinline__)) enum hypercall_result
refuse(struct vp *vp, enum hypercall_mode mode, uint64_t control, uint16_t status, const char *rule)
{
	set_result(vp, mode, status, 0);
	abi_refused(vp, ABI_HYPERCALL, (uint16_t)control, control, status, rule);
	return HYPERCALL_DONE;
}

static __attribute__((__noinline__)) enum hypercall_result carry_out(struct vp *vp, enum hypercall_mode mode,
								     const struct row *row, uint64_t control)
{
	struct request request = { .row = row, .control = control };
	const char *rule = check_control(&request);
	struct fast_buffer fast;
	uint8_t *pages = vp->lp->call_pages;
	uint16_t status;

	if (unlikely(rule != NULL))
		return refuse(vp, mode, control, HV_STATUS_INVALID_HYPERCALL_INPUT, rule);
	read_parameters(vp, mode, &request);
	if (request.fast) {
		status = gather_fast(vp, &request, &fast, &rule);
		if (unlikely(status))
			return refuse(vp, mode, control, status, rule);
	} else if (!in_one_page(vp, request.input, input_bytes(&request)) ||
		   !in_one_page(vp, request.output, output_bytes(&request))) {
		return refuse(vp, mode, control, HV_STATUS_INVALID_ALIGNMENT,
			      "parameters not aligned to 8 bytes, across a page, or beyond the GPA space");
	}
	if (unlikely((vp->partition->privileges & row->privilege) != row->privilege))
		return refuse(vp, mode, control, HV_STATUS_ACCESS_DENIED,
			      "privilege not given to the partition");
	if (request.fast)
		return perform(vp, mode, &request, fast.words, pages + PAGE_SIZE);
	return perform(vp, mode, &request, pages, pages + PAGE_SIZE);
}

enum hypercall_result hypercall_dispatch(struct vp *vp, enum hypercall_mode mode)
{
	const struct row *row;
	uint64_t control;

	/* Without the guest's identity there is no interface (TLFS "Establishing the Hypercall Interface"). */
	if (unlikely(mode == HYPERCALL_UD) || unlikely(!vp->partition->guest_os_id))
		return HYPERCALL_FAULT_UD;
	control = control_of(vp, mode);
	trace_info(&vp->lp->trace, control);
	vp->hypercalls++;
	row = find_row((uint16_t)control);
	if (unlikely(!row) && is_installed(vp, HV_INTERCEPT_HYPERCALL)) {
		intercept_hypercall(vp);
		return HYPERCALL_AGAIN;
	}
	if (unlikely(!row))
		return refuse(vp, mode, control, HV_STATUS_INVALID_HYPERCALL_CODE, "no such call");
	return carry_out(vp, mode, row, control);
}
