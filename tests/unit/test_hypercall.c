/* unit: core/hypercall.c core/abi_log.c */
/* SPDX-License-Identifier: MIT */
/*
 * The dispatcher's checks, made with every row of the table: what reaches a handler is well formed, and each refusal has its
 * status, in 64-bit and 32-bit callers' registers.
 */
#include <errno.h>
#include <hv/cpuid.h>
#include <hv/hypercall.h>
#include <hv/status.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <trivet/guest_access.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall.h>
#include <trivet/intercept.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#include <cmocka.h>

enum { SIMPLE = 0, REP = 1, SIMPLE_VAR = 2, REP_VAR = 3 };

struct test_row {
	uint32_t code, form, batch, input, rep_input, output, rep_output;
	uint64_t privilege;
};
#define HYPERCALL(code, name, form, batch, input, rep_input, output, rep_output, privilege, since, tlfs, \
		  handler)                                                                               \
	{ code, form, batch, input, rep_input, output, rep_output, privilege },
static const struct test_row rows[] = {
#include "../../core/hypercalls.def"
};
#undef HYPERCALL

#define RAM_PAGES 4u
#define IN 0x1000u
#define OUT 0x2000u
static uint8_t ram[RAM_PAGES * PAGE_SIZE];
static uint8_t call_pages[2 * PAGE_SIZE] __attribute__((aligned(4096)));
static struct vp *vp;
static struct lp *lp;
static struct partition partition;

/* What the handler saw, and what it is to answer. */
static struct {
	unsigned int calls;
	struct hypercall last;
	uint8_t input[PAGE_SIZE];
	uint16_t answer;
	uint16_t reps_done; /* 0xffff: all */
	bool moves_rip;
	uint8_t fill;
} handler;

static struct {
	enum fault_result fault;
	uint64_t gpa;
	bool is_write;
	unsigned int hypercalls;
} intercept;

enum fault_result intercept_parameters(struct vp *of, gpa_t gpa, bool is_write)
{
	assert_ptr_equal(of, vp);
	intercept.gpa = gpa.v;
	intercept.is_write = is_write;
	return intercept.fault;
}

void intercept_hypercall(struct vp *of)
{
	assert_ptr_equal(of, vp);
	intercept.hypercalls++;
}

static uint16_t record(struct hypercall *c)
{
	const struct test_row *row = rows;

	while (row->code != c->code)
		row++;
	handler.calls++;
	handler.last = *c;
	memcpy(handler.input, c->input, row->input + c->var_header_qwords * 8u);
	for (uint32_t i = c->rep_start; i < c->rep_count && row->rep_input; i++)
		memcpy(handler.input + row->input + c->var_header_qwords * 8u + i * row->rep_input,
		       (const uint8_t *)c->rep_input + i * row->rep_input, row->rep_input);
	c->reps_done = handler.reps_done == 0xffff ? c->rep_count : handler.reps_done;
	for (uint32_t i = 0; i < row->output; i++)
		assert_int_equal(((uint8_t *)c->output)[i], 0);
	memset(c->output, handler.fill, row->output);
	for (uint32_t i = c->rep_start; i < c->reps_done; i++)
		memset((uint8_t *)c->rep_output + i * row->rep_output, handler.fill, row->rep_output);
	c->vp->rip_moved = handler.moves_rip;
	return handler.answer;
}

#define HYPERCALL(code, name, form, batch, input, rep_input, output, rep_output, privilege, since, tlfs, \
		  handler)                                                                               \
	uint16_t handler(struct hypercall *c)                                                            \
	{                                                                                                \
		return record(c);                                                                        \
	}
#include "../../core/hypercalls.def"
#undef HYPERCALL

struct page_pool host_pool;
enum log_level log_threshold = LOG_INFO;

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return true;
}

void *page_alloc(struct page_pool *pool, unsigned order)
{
	(void)pool;
	assert_int_equal(order, 1);
	return call_pages;
}

const char *hv_msr_name(uint32_t msr)
{
	(void)msr;
	return NULL;
}

void fxsave(void *area)
{
	memset(area, 0xee, 512);
	for (unsigned int i = 0; i < 96; i++)
		((uint8_t *)area)[160 + i] = (uint8_t)(0x10 + i);
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	assert_ptr_equal(space, vp);
	if (gpa.v >= sizeof(ram) || size > sizeof(ram) - gpa.v)
		return false;
	memcpy(buf, ram + gpa.v, size);
	return true;
}

bool guest_phys_can_write(void *space, gpa_t gpa)
{
	assert_ptr_equal(space, vp);
	return gpa.v < sizeof(ram);
}

bool guest_phys_write(void *space, gpa_t gpa, const void *buf, size_t size)
{
	assert_ptr_equal(space, vp);
	if (gpa.v >= sizeof(ram) || size > sizeof(ram) - gpa.v)
		return false;
	memcpy(ram + gpa.v, buf, size);
	return true;
}

static int setup(void **state)
{
	(void)state;
	vp = aligned_alloc(4096, ALIGN_UP(sizeof(*vp), PAGE_SIZE));
	lp = calloc(1, sizeof(*lp));
	memset(vp, 0, sizeof(*vp));
	memset(&handler, 0, sizeof(handler));
	memset(&partition, 0, sizeof(partition));
	handler.reps_done = 0xffff;
	handler.fill = 0x5a;
	partition.id = 1;
	partition.hv = true;
	partition.guest_os_id = 0x8100000000000000;
	partition.privileges = UINT64_MAX;
	partition.overlays.gpa_bits = 46;
	vp->partition = &partition;
	vp->lp = lp;
	assert_int_equal(hypercall_lp_init(lp), 0);
	for (size_t i = 0; i < sizeof(ram); i++)
		ram[i] = (uint8_t)(i * 7 + 1);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(vp);
	free(lp);
	return 0;
}

static void load(enum hypercall_mode mode, uint64_t control, uint64_t in, uint64_t out)
{
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		vp->gpr[i] = 0xdead0000dead0000 + i;
	if (mode == HYPERCALL_64) {
		vp->gpr[GPR_RCX] = control;
		vp->gpr[GPR_RDX] = in;
		vp->gpr[GPR_R8] = out;
	} else {
		/* Upper halves are not 32-bit code's: they may hold anything (XSA-454). */
		vp->gpr[GPR_RDX] = 0xffffffff00000000 | control >> 32;
		vp->gpr[GPR_RAX] = 0xffffffff00000000 | (uint32_t)control;
		vp->gpr[GPR_RBX] = 0xffffffff00000000 | in >> 32;
		vp->gpr[GPR_RCX] = 0xffffffff00000000 | (uint32_t)in;
		vp->gpr[GPR_RDI] = 0xffffffff00000000 | out >> 32;
		vp->gpr[GPR_RSI] = 0xffffffff00000000 | (uint32_t)out;
	}
}

static uint64_t result(enum hypercall_mode mode)
{
	return mode == HYPERCALL_64 ? vp->gpr[GPR_RAX] : vp->gpr[GPR_RDX] << 32 | (uint32_t)vp->gpr[GPR_RAX];
}

static uint64_t call(enum hypercall_mode mode, uint64_t control, uint64_t in, uint64_t out)
{
	load(mode, control, in, out);
	assert_int_equal(hypercall_dispatch(vp, mode), HYPERCALL_DONE);
	return result(mode);
}

static uint64_t reps(uint64_t count, uint64_t start)
{
	return count << HV_CONTROL_REP_COUNT_SHIFT | start << HV_CONTROL_REP_START_SHIFT;
}

/* A correct control word for the row: one element of a list, and no variable header. */
static uint64_t good(const struct test_row *row)
{
	return row->code | (row->form & REP ? reps(1, 0) : 0);
}

static uint32_t total_input(const struct test_row *row)
{
	return row->input + (row->form & REP ? row->rep_input : 0);
}

static uint32_t total_output(const struct test_row *row)
{
	return row->output + (row->form & REP ? row->rep_output : 0);
}

static bool may_be_fast(const struct test_row *row, uint32_t limit)
{
	return total_input(row) <= limit && total_output(row) == 0;
}

#define FOR_EACH_ROW(row) for (const struct test_row *row = rows; row < rows + ARRAY_SIZE(rows); row++)

static void rows_are_in_order(void **state)
{
	(void)state;
	for (size_t i = 1; i < ARRAY_SIZE(rows); i++)
		assert_true(rows[i - 1].code < rows[i].code);
	FOR_EACH_ROW(row)
	{
		assert_true(total_input(row) <= PAGE_SIZE && total_output(row) <= PAGE_SIZE);
		assert_non_null(hypercall_name((uint16_t)row->code));
		if (!(row->form & REP))
			assert_true(row->rep_input == 0 && row->rep_output == 0 && row->batch == 0);
	}
}

static void every_unknown_code(void **state)
{
	(void)state;
	for (uint32_t code = 0; code < 0x10000; code++) {
		bool known = false;

		FOR_EACH_ROW(row)
		known |= row->code == code;
		if (known)
			continue;
		assert_int_equal(call(HYPERCALL_64, code, IN, OUT), HV_STATUS_INVALID_HYPERCALL_CODE);
		assert_null(hypercall_name((uint16_t)code));
	}
	assert_int_equal(handler.calls, 0);
	assert_int_equal(lp->abi.next, 0x10000 - ARRAY_SIZE(rows));
}

static void good_calls_reach_their_handler(void **state)
{
	(void)state;
	for (enum hypercall_mode mode = HYPERCALL_32; mode <= HYPERCALL_64; mode++) {
		FOR_EACH_ROW(row)
		{
			unsigned int calls = handler.calls;

			memset(ram + OUT, 0x11, PAGE_SIZE);
			assert_int_equal(call(mode, good(row), IN, OUT),
					 row->form & REP ? 1ull << HV_RESULT_REPS_DONE_SHIFT : 0);
			assert_int_equal(handler.calls, calls + 1);
			assert_int_equal(handler.last.code, row->code);
			assert_memory_equal(handler.input, ram + IN, total_input(row));
			for (uint32_t i = 0; i < 16; i++)
				assert_int_equal(ram[OUT + total_output(row) + i], 0x11);
			for (uint32_t i = 0; i < total_output(row); i++)
				assert_int_equal(ram[OUT + i], 0x5a);
		}
	}
}

static void reserved_bits(void **state)
{
	static const uint8_t bits[] = { 27, 28, 29, 30, 31, 44, 45, 46, 47, 60, 61, 62, 63 };

	(void)state;
	FOR_EACH_ROW(row)
	for (size_t i = 0; i < sizeof(bits); i++)
		assert_int_equal(call(HYPERCALL_64, good(row) | BIT(bits[i]), IN, OUT),
				 HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_int_equal(handler.calls, 0);
}

static void rep_fields(void **state)
{
	(void)state;
	FOR_EACH_ROW(row)
	{
		uint64_t code = row->code;

		if (row->form & REP) {
			assert_int_equal(call(HYPERCALL_64, code, IN, OUT),
					 HV_STATUS_INVALID_HYPERCALL_INPUT);
			assert_int_equal(call(HYPERCALL_64, code | reps(1, 1), IN, OUT),
					 HV_STATUS_INVALID_HYPERCALL_INPUT);
			assert_int_equal(call(HYPERCALL_64, code | reps(3, 4095), IN, OUT),
					 HV_STATUS_INVALID_HYPERCALL_INPUT);
			if (row->rep_input + row->rep_output > 1) /* as many bytes fit */
				assert_int_equal(call(HYPERCALL_64, code | reps(4095, 0), IN, OUT),
						 HV_STATUS_INVALID_ALIGNMENT);
		} else {
			assert_int_equal(call(HYPERCALL_64, code | reps(1, 0), IN, OUT),
					 HV_STATUS_INVALID_HYPERCALL_INPUT);
			assert_int_equal(call(HYPERCALL_64, code | reps(0, 1), IN, OUT),
					 HV_STATUS_INVALID_HYPERCALL_INPUT);
		}
	}
	assert_int_equal(handler.calls, 0);
}

static void variable_headers(void **state)
{
	(void)state;
	FOR_EACH_ROW(row)
	{
		uint64_t control = good(row) | 2ull << HV_CONTROL_VAR_HEADER_SHIFT;

		handler.calls = 0;
		if (row->form & SIMPLE_VAR) {
			call(HYPERCALL_64, control, IN, OUT);
			assert_int_equal(handler.calls, 1);
			assert_int_equal(handler.last.var_header_qwords, 2);
			assert_memory_equal(handler.input, ram + IN, total_input(row) + 16);
			assert_int_equal(call(HYPERCALL_64, good(row) | HV_CONTROL_VAR_HEADER_MASK, IN, OUT),
					 HV_STATUS_INVALID_ALIGNMENT);
		} else {
			assert_int_equal(call(HYPERCALL_64, control, IN, OUT),
					 HV_STATUS_INVALID_HYPERCALL_INPUT);
			assert_int_equal(handler.calls, 0);
		}
	}
}

static void addresses(void **state)
{
	(void)state;
	FOR_EACH_ROW(row)
	{
		handler.calls = 0;
		if (total_input(row)) {
			for (unsigned int i = 1; i < 8; i++)
				assert_int_equal(call(HYPERCALL_64, good(row), IN + i, OUT),
						 HV_STATUS_INVALID_ALIGNMENT);
			if (total_input(row) > 8)
				assert_int_equal(call(HYPERCALL_64, good(row), IN + PAGE_SIZE - 8, OUT),
						 HV_STATUS_INVALID_ALIGNMENT);
			load(HYPERCALL_64, good(row), 1ull << 45, OUT);
			assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), HYPERCALL_FAULT_GP);
			assert_int_equal(call(HYPERCALL_64, good(row), 1ull << 46, OUT),
					 HV_STATUS_INVALID_ALIGNMENT);
			assert_int_equal(call(HYPERCALL_64, good(row), UINT64_MAX - 7, OUT),
					 HV_STATUS_INVALID_ALIGNMENT);
		}
		if (total_output(row)) {
			assert_int_equal(call(HYPERCALL_64, good(row), IN, OUT + 4),
					 HV_STATUS_INVALID_ALIGNMENT);
			if (total_output(row) > 8)
				assert_int_equal(call(HYPERCALL_64, good(row), IN, OUT + PAGE_SIZE - 8),
						 HV_STATUS_INVALID_ALIGNMENT);
			load(HYPERCALL_64, good(row), IN, 1ull << 40);
			assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), HYPERCALL_FAULT_GP);
			assert_int_equal(call(HYPERCALL_64, good(row), IN, 1ull << 63),
					 HV_STATUS_INVALID_ALIGNMENT);
		}
		assert_int_equal(handler.calls, 0);
		/* What the call doesn't use isn't looked at. */
		if (!total_output(row)) {
			call(HYPERCALL_64, good(row), IN, UINT64_MAX);
			assert_int_equal(handler.calls, 1);
		}
	}
}

static struct partition parent;

/* A child's parameters may be brought in by its parent: who then has it try again. */
static void missing_parameters_of_a_child(void **state)
{
	static const struct {
		enum fault_result fault;
		enum hypercall_result result;
	} cases[] = { { FAULT_RETRY, HYPERCALL_AGAIN },
		      { FAULT_EMULATED, HYPERCALL_AGAIN },
		      { FAULT_REFUSED, HYPERCALL_FAULT_GP } };

	(void)state;
	partition.parent = &parent;
	FOR_EACH_ROW(row)
	{
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			handler.calls = 0;
			intercept.fault = cases[i].fault;
			if (total_input(row)) {
				load(HYPERCALL_64, good(row), 1ull << 45, OUT);
				assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), cases[i].result);
				assert_int_equal(intercept.gpa, 1ull << 45);
				assert_false(intercept.is_write);
			}
			if (total_output(row)) {
				load(HYPERCALL_64, good(row), IN, 1ull << 40);
				assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), cases[i].result);
				assert_int_equal(intercept.gpa, 1ull << 40);
				assert_true(intercept.is_write);
			}
			assert_int_equal(handler.calls, 0);
		}
	}
}

static enum hypercall_result dispatch_with(uint64_t control, uint16_t status)
{
	intercept.hypercalls = 0;
	handler.answer = status;
	load(HYPERCALL_64, control, IN, OUT);
	return hypercall_dispatch(vp, HYPERCALL_64);
}

static void what_a_parent_answers(void **state)
{
	static const struct {
		uint16_t code, status;
		uint32_t type;
	} cases[] = { { HV_CALL_POST_MESSAGE, HV_STATUS_INVALID_CONNECTION_ID, 13 },
		      { HV_CALL_SIGNAL_EVENT, HV_STATUS_INVALID_CONNECTION_ID, 13 },
		      { HV_CALL_RETARGET_DEVICE_INTERRUPT, HV_STATUS_INVALID_DEVICE_ID, 15 },
		      { 0x3ff, 0, 8 } };

	(void)state;
	partition.parent = &parent;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		partition.properties.intercepts = ~INTERCEPT_INSTALLED(cases[i].type);
		assert_int_equal(dispatch_with(cases[i].code, cases[i].status), HYPERCALL_DONE);
		assert_int_equal(intercept.hypercalls, 0);
		partition.properties.intercepts = INTERCEPT_INSTALLED(cases[i].type);
		assert_int_equal(dispatch_with(cases[i].code, cases[i].status), HYPERCALL_AGAIN);
		assert_int_equal(intercept.hypercalls, 1);
		assert_int_equal(vp->gpr[GPR_RCX], cases[i].code); /* as the guest left them */
		if (i == 3)
			continue;
		assert_int_equal(dispatch_with(cases[i].code, HV_STATUS_INVALID_PARAMETER), HYPERCALL_DONE);
		assert_int_equal(dispatch_with(cases[i].code, 0), HYPERCALL_DONE);
		assert_int_equal(intercept.hypercalls, 0);
	}
}

static void privileges(void **state)
{
	(void)state;
	FOR_EACH_ROW(row)
	{
		handler.calls = 0;
		partition.privileges = ~row->privilege;
		if (row->privilege) {
			assert_int_equal(call(HYPERCALL_64, good(row), IN, OUT), HV_STATUS_ACCESS_DENIED);
			assert_int_equal(handler.calls, 0);
		}
		partition.privileges = row->privilege;
		call(HYPERCALL_64, good(row), IN, OUT);
		assert_int_equal(handler.calls, 1);
	}
}

static void fast_calls(void **state)
{
	(void)state;
	FOR_EACH_ROW(row)
	{
		uint64_t words[2] = { 0x1122334455667788, 0x99aabbccddeeff00 };

		handler.calls = 0;
		partition.features = 0;
		if (!may_be_fast(row, 16)) {
			assert_int_equal(call(HYPERCALL_64, good(row) | HV_CONTROL_FAST, words[0], words[1]),
					 HV_STATUS_INVALID_HYPERCALL_INPUT);
			assert_int_equal(handler.calls, 0);
			continue;
		}
		for (enum hypercall_mode mode = HYPERCALL_32; mode <= HYPERCALL_64; mode++) {
			call(mode, good(row) | HV_CONTROL_FAST, words[0], words[1]);
			assert_memory_equal(handler.input, words, total_input(row));
		}
		assert_int_equal(handler.calls, 2);
	}
}

static void xmm_fast_calls(void **state)
{
	uint8_t want[112];
	uint64_t words[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };

	(void)state;
	for (unsigned int i = 0; i < sizeof(want); i++)
		want[i] = (uint8_t)i;
	partition.features = HV_FEATURE_XMM_INPUT;
	FOR_EACH_ROW(row)
	{
		uint64_t control = good(row) | HV_CONTROL_FAST;

		handler.calls = 0;
		if (!may_be_fast(row, 112)) {
			assert_int_equal(call(HYPERCALL_64, control, 0, 0),
					 HV_STATUS_INVALID_HYPERCALL_INPUT);
			assert_int_equal(handler.calls, 0);
			continue;
		}
		call(HYPERCALL_64, control, words[0], words[1]);
		assert_int_equal(handler.calls, 1);
		assert_memory_equal(handler.input, want, total_input(row));
	}
}

static void handlers_status(void **state)
{
	(void)state;
	FOR_EACH_ROW(row)
	{
		memset(ram + OUT, 0x11, PAGE_SIZE);
		handler.answer = HV_STATUS_INVALID_PARAMETER;
		handler.reps_done = 0;
		assert_int_equal(call(HYPERCALL_64, good(row), IN, OUT), HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(lp->abi.entries[(lp->abi.next - 1) & (ABI_LOG_ENTRIES - 1)].status,
				 HV_STATUS_INVALID_PARAMETER);
		for (uint32_t i = 0; i < PAGE_SIZE; i++)
			assert_int_equal(ram[OUT + i], 0x11); /* no output of a refused call */
		handler.answer = HYPERCALL_RESTART;
		load(HYPERCALL_64, good(row), IN, OUT);
		assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), HYPERCALL_AGAIN);
		assert_int_equal(vp->gpr[GPR_RCX], good(row));
	}
}

/* A list is done in batches, each a pass of the instruction with the index moved on; and a failure tells how far it came. */
static void continuation(void **state)
{
	(void)state;
	FOR_EACH_ROW(row)
	{
		uint64_t count = row->rep_input + row->rep_output ? 16 : 4000;
		uint64_t control = row->code | reps(count, 0) | 0;
		uint64_t at = 0;

		if (!(row->form & REP) || row->input + count * row->rep_input > PAGE_SIZE)
			continue;
		while (at < count) {
			handler.reps_done = (uint16_t)(at + 3 < count ? at + 3 : count);
			if (row->batch && handler.reps_done > at + row->batch)
				handler.reps_done = (uint16_t)(at + row->batch);
			load(HYPERCALL_64, control, IN, OUT);
			if (handler.reps_done < count) {
				assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), HYPERCALL_AGAIN);
				control = vp->gpr[GPR_RCX];
				assert_int_equal(control, row->code | reps(count, handler.reps_done));
			} else {
				assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), HYPERCALL_DONE);
				assert_int_equal(vp->gpr[GPR_RAX], count << HV_RESULT_REPS_DONE_SHIFT);
			}
			assert_int_equal(handler.last.rep_start, at);
			if (row->batch)
				assert_true(handler.last.rep_count <= at + row->batch);
			else
				assert_int_equal(handler.last.rep_count, count);
			at = handler.reps_done;
		}
		handler.answer = HV_STATUS_INVALID_PARAMETER;
		handler.reps_done = 2;
		handler.fill = 0x5a;
		memset(ram + OUT, 0x11, PAGE_SIZE);
		assert_int_equal(call(HYPERCALL_32, row->code | reps(4, 1), IN, OUT),
				 HV_STATUS_INVALID_PARAMETER | 2ull << HV_RESULT_REPS_DONE_SHIFT);
		/* The one that was done before the failure is there, and nothing else. */
		for (uint32_t i = 0; i < PAGE_SIZE; i++) {
			uint32_t first = row->output + row->rep_output;

			assert_int_equal(ram[OUT + i],
					 i >= first && i < first + row->rep_output ? 0x5a : 0x11);
		}
		handler.answer = HV_STATUS_SUCCESS;
	}
}

static void faults(void **state)
{
	(void)state;
	load(HYPERCALL_64, good(rows), IN, OUT);
	assert_int_equal(hypercall_dispatch(vp, HYPERCALL_UD), HYPERCALL_FAULT_UD);
	partition.guest_os_id = 0;
	assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), HYPERCALL_FAULT_UD);
	assert_int_equal(handler.calls, 0);
	assert_int_equal(vp->hypercalls, 0);
}

static void moved_rip(void **state)
{
	(void)state;
	handler.moves_rip = true;
	load(HYPERCALL_64, good(rows), IN, OUT);
	assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), HYPERCALL_MOVED);
	assert_false(vp->rip_moved);
}

/* Registers other than the result stay as they were. */
static void registers_stay(void **state)
{
	(void)state;
	load(HYPERCALL_64, good(rows), IN, OUT);
	assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), HYPERCALL_DONE);
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		if (i != GPR_RAX && i != GPR_RCX && i != GPR_RDX && i != GPR_R8)
			assert_int_equal(vp->gpr[i], 0xdead0000dead0000 + i);
	assert_int_equal(vp->gpr[GPR_RCX], good(rows));
	assert_int_equal(vp->gpr[GPR_RDX], IN);
}

/*
 * XSA-454: Xen asserted on upper halves, which 32-bit code can't clear. Whatever they hold, the call is the same, and so is
 * what comes back in the halves that count.
 */
static void hazard_xsa_454_dirty_upper_halves(void **state)
{
	static const uint64_t dirt[] = { 0, 0xffffffff00000000, 0x8000000000000000, 0xdeadbeef00000000 };
	static const enum gpr registers[] = { GPR_RAX, GPR_RDX, GPR_RBX, GPR_RCX, GPR_RDI, GPR_RSI };

	(void)state;
	FOR_EACH_ROW(row)
	for (size_t i = 0; i < ARRAY_SIZE(dirt); i++) {
		unsigned int calls = handler.calls;

		load(HYPERCALL_32, good(row), IN, OUT);
		for (size_t j = 0; j < ARRAY_SIZE(registers); j++)
			vp->gpr[registers[j]] = dirt[i] | (uint32_t)vp->gpr[registers[j]];
		assert_int_equal(hypercall_dispatch(vp, HYPERCALL_32), HYPERCALL_DONE);
		assert_int_equal(handler.calls, calls + 1);
		assert_int_equal((uint32_t)vp->gpr[GPR_RAX], HV_STATUS_SUCCESS);
		assert_int_equal((uint32_t)vp->gpr[GPR_RDX], row->form & REP ? 1 : 0);
	}
}

/* XSA-466, 469: guests bypass the hypercall page and use the instruction; only the identity opens the interface. */
static void hazard_xsa_466_calls_need_no_page(void **state)
{
	(void)state;
	assert_false(overlay_enabled(&partition.hypercall_page));
	FOR_EACH_ROW(row)
	assert_int_equal((uint16_t)call(HYPERCALL_64, good(row), IN, OUT), HV_STATUS_SUCCESS);
	partition.guest_os_id = 0;
	load(HYPERCALL_64, good(rows), IN, OUT);
	assert_int_equal(hypercall_dispatch(vp, HYPERCALL_64), HYPERCALL_FAULT_UD);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(rows_are_in_order),
		TEST(every_unknown_code),
		TEST(good_calls_reach_their_handler),
		TEST(reserved_bits),
		TEST(rep_fields),
		TEST(variable_headers),
		TEST(addresses),
		TEST(missing_parameters_of_a_child),
		TEST(what_a_parent_answers),
		TEST(privileges),
		TEST(fast_calls),
		TEST(xmm_fast_calls),
		TEST(handlers_status),
		TEST(continuation),
		TEST(faults),
		TEST(moved_rip),
		TEST(registers_stay),
		TEST(hazard_xsa_454_dirty_upper_halves),
		TEST(hazard_xsa_466_calls_need_no_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
