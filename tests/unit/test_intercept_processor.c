/* unit: core/intercept_processor.c */
/* SPDX-License-Identifier: MIT */
/* What a parent is told of a CPUID, an MSR, an exception that it wants to see: each field of the messages, and that nothing of the VP changes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/intercept_internal.h"
#include <trivet/backend.h>
#include <trivet/guest_msrs.h>
#include <trivet/hv_msr.h>
#include <trivet/intercepts.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

static struct partition partition;
static struct vp *vp;
static uint64_t before[GPR_COUNT];
static struct {
	unsigned int sent;
	uint32_t type;
	union {
		struct hv_x64_cpuid_intercept cpuid;
		struct hv_x64_msr_intercept msr;
		struct hv_x64_exception_intercept exception;
	} message;
	uint8_t code[16];
	size_t code_size;
	bool open;
} fake;

bool intercept_is_open(const struct vp *of)
{
	assert_ptr_equal(of, vp);
	return fake.open;
}

void intercept_fill_header(struct vp *of, const struct vp_snapshot *now, uint8_t access_type, uint8_t length,
			   struct hv_x64_intercept_header *header)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(now->rip, 0x1234);
	*header = (struct hv_x64_intercept_header){ .access_type = access_type,
						    .length_and_cr8 = length,
						    .rip = now->rip };
}

void intercept_send(struct vp *of, const struct vp_snapshot *now, uint32_t type, const void *payload,
		    size_t bytes)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(now->rip, 0x1234);
	assert_true(bytes <= sizeof(fake.message) && bytes <= HV_MESSAGE_PAYLOAD_BYTES);
	memcpy(&fake.message, payload, bytes);
	fake.type = type;
	fake.sent++;
	assert_memory_equal(vp->gpr, before, sizeof(before));
}

static void get_snapshot(struct vp *of, struct vp_snapshot *now)
{
	assert_ptr_equal(of, vp);
	*now = (struct vp_snapshot){ .rip = 0x1234 };
	for (unsigned int i = 0; i < 6; i++)
		now->segment[i].base = 0x100 + i;
	vp->gpr[GPR_RSP] = before[GPR_RSP];
}

static void get_context(struct vp *of, struct vp_context *context)
{
	assert_ptr_equal(of, vp);
	*context = (struct vp_context){ .rip = 0x1234, .segment_base = { 0, 0x10000, 0, 0, 0, 0 } };
}

static const struct backend fake_backend = { .get_snapshot = get_snapshot, .get_context = get_context };
const struct backend *backend = &fake_backend;

size_t guest_fetch(const struct guest_paging *paging, void *space, gva_t gva, void *buf, size_t size)
{
	(void)paging;
	assert_ptr_equal(space, vp);
	assert_int_equal(gva.v, 0x11234);
	assert_int_equal(size, 15);
	memcpy(buf, fake.code, fake.code_size);
	return fake.code_size;
}

void vp_cpuid(struct vp *of, uint64_t cr4)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(cr4, 0x620);
	of->gpr[GPR_RAX] = 0x11;
	of->gpr[GPR_RBX] = 0x22;
	of->gpr[GPR_RCX] = 0x33;
	of->gpr[GPR_RDX] = 0xff;
}

bool hv_msr_is_offered(const struct partition *of, uint32_t msr)
{
	assert_ptr_equal(of, &partition);
	return msr == 0x40000000;
}

bool guest_msr_exists(uint32_t msr)
{
	return msr == 0x10;
}

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	memset(vp, 0, sizeof(*vp));
	partition = (struct partition){ .id = 9, .hv = true };
	vp->partition = &partition;
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		vp->gpr[i] = before[i] = 0xabcd00000000 + i;
	memcpy(fake.code, "\x0f\x0b\xcc", 3);
	fake.code_size = 3;
	return 0;
}

static void cpuid_message(void **state)
{
	const struct cpuid_exit exit = { .cr4 = 0x620, .hidden_edx = 0xf0, .length = 2 };
	const struct hv_x64_cpuid_intercept *message = &fake.message.cpuid;

	(void)state;
	intercept_cpuid(vp, &exit);
	assert_int_equal(fake.sent, 1);
	assert_int_equal(fake.type, HV_MESSAGE_X64_CPUID_INTERCEPT);
	assert_int_equal(message->header.access_type, HV_INTERCEPT_ACCESS_EXECUTE);
	assert_int_equal(message->header.length_and_cr8, 2);
	assert_int_equal(message->rax, before[GPR_RAX]);
	assert_int_equal(message->rcx, before[GPR_RCX]);
	assert_int_equal(message->rdx, before[GPR_RDX]);
	assert_int_equal(message->rbx, before[GPR_RBX]);
	assert_int_equal(message->default_rax, 0x11);
	assert_int_equal(message->default_rbx, 0x22);
	assert_int_equal(message->default_rcx, 0x33);
	assert_int_equal(message->default_rdx, 0x0f);
}

static void msr_message(void **state)
{
	struct msr_exit exit = { .msr = 0xc0000082, .length = 2, .is_write = true };
	const struct hv_x64_msr_intercept *message = &fake.message.msr;

	(void)state;
	intercept_msr(vp, &exit);
	assert_int_equal(fake.type, HV_MESSAGE_X64_MSR_INTERCEPT);
	assert_int_equal(message->header.access_type, HV_INTERCEPT_ACCESS_WRITE);
	assert_int_equal(message->header.length_and_cr8, 2);
	assert_int_equal(message->msr, 0xc0000082);
	assert_int_equal(message->rax, before[GPR_RAX]);
	assert_int_equal(message->rdx, before[GPR_RDX]);
	exit.is_write = false;
	intercept_msr(vp, &exit);
	assert_int_equal(message->header.access_type, HV_INTERCEPT_ACCESS_READ);
}

static void msrs_that_nobody_has(void **state)
{
	static const uint32_t known[] = { 0x40000000, 0x802, 0x8ff, 0x1b, 0x6e0, 0x10 };
	static const uint32_t unknown[] = { 0x40000001, 0x7ff, 0x1c, 0xc0010000, 0xffffffff };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++)
		assert_false(intercept_wants_unknown_msr(vp, unknown[i], false));
	vp->wanted = VP_WANTED_UNKNOWN_MSR_READ;
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		assert_true(intercept_wants_unknown_msr(vp, unknown[i], false));
		assert_false(intercept_wants_unknown_msr(vp, unknown[i], true));
	}
	vp->wanted |= VP_WANTED_UNKNOWN_MSR_WRITE;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		assert_false(intercept_wants_unknown_msr(vp, known[i], true));
	/* Without the interface none of its MSRs is there. */
	partition.hv = false;
	assert_true(intercept_wants_unknown_msr(vp, 0x40000000, true));
}

static void exception_message(void **state)
{
	const struct exception_exit exit = {
		.vector = 14, .has_error = true, .error = 0x17, .parameter = 0xffff800000001000
	};
	const struct hv_x64_exception_intercept *message = &fake.message.exception;

	(void)state;
	assert_true(intercept_exception(vp, &exit));
	assert_int_equal(fake.type, HV_MESSAGE_X64_EXCEPTION_INTERCEPT);
	assert_int_equal(message->header.access_type, HV_INTERCEPT_ACCESS_EXECUTE);
	assert_int_equal(message->header.length_and_cr8, 0);
	assert_int_equal(message->vector, 14);
	assert_int_equal(message->exception_info, HV_EXCEPTION_INFO_ERROR_CODE_VALID);
	assert_int_equal(message->error_code, 0x17);
	assert_int_equal(message->exception_parameter, 0xffff800000001000);
	assert_int_equal(message->instruction_byte_count, 3);
	assert_memory_equal(message->instruction_bytes, "\x0f\x0b\xcc\0", 4);
	assert_int_equal(message->ds.base, 0x100 + INSN_SEG_DS);
	assert_int_equal(message->ss.base, 0x100 + INSN_SEG_SS);
	assert_memory_equal(message->gp, before, sizeof(before));
	/* Another is to be answered first. */
	fake.open = true;
	assert_false(intercept_exception(vp, &exit));
	assert_int_equal(fake.sent, 1);
}

/* The parent is to step over what raised it. */
static void software_exceptions(void **state)
{
	struct exception_exit exit = { .vector = 3, .is_software = true, .error = 5 };
	const struct hv_x64_exception_intercept *message = &fake.message.exception;

	(void)state;
	memcpy(fake.code, "\x66\xcc\x90", 3);
	intercept_exception(vp, &exit);
	assert_int_equal(message->header.length_and_cr8, 2);
	assert_int_equal(message->exception_info, HV_EXCEPTION_INFO_SOFTWARE);
	assert_int_equal(message->error_code, 0);
	fake.code[1] = 0xce;
	exit.vector = 4;
	intercept_exception(vp, &exit);
	assert_int_equal(message->header.length_and_cr8, 2);
	fake.code_size = 1;
	intercept_exception(vp, &exit);
	assert_int_equal(message->header.length_and_cr8, 0);
	assert_int_equal(message->instruction_byte_count, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(cpuid_message, setup),
		cmocka_unit_test_setup(msr_message, setup),
		cmocka_unit_test_setup(msrs_that_nobody_has, setup),
		cmocka_unit_test_setup(exception_message, setup),
		cmocka_unit_test_setup(software_exceptions, setup),
	};
	int failed;

	vp = aligned_alloc(PAGE_SIZE, ALIGN_UP(sizeof(struct vp), PAGE_SIZE));
	failed = cmocka_run_group_tests_name("intercepts of the processor's", tests, NULL, NULL);
	free(vp);
	return failed;
}
