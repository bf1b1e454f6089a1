/* unit: svm/child_exit.c svm/events.c */
/* SPDX-License-Identifier: MIT */
/* An entry that the processor refuses, of a child's VP on SVM: what becomes of the flush that it was to bring. The VMCB is only memory. */
#include "svm/svm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/flush.h>
#include <trivet/guest_msrs.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>
#include <trivet/vp_child.h>

struct svm_machine svm = { .features = SVM_FEATURE_NRIPS | SVM_FEATURE_FLUSH_BY_ASID };

static struct partition partition;
static struct vp_child vp_child;
static struct vmcb vmcb;
static struct vp *vp;
static struct lp lp;
static unsigned int unrecoverable, flushes;

/* ---- What it does beside ---- */

void intercept_unrecoverable(struct vp *of)
{
	assert_ptr_equal(of, vp);
	unrecoverable++;
}

void flush_taken(struct vp *of)
{
	atomic_fetch_and(&of->pending, ~VP_PENDING_FLUSH);
	flushes++;
}

void flush_check(const struct vp *of)
{
	(void)of;
}

struct vp *schedule(struct vp *of)
{
	return of;
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return false;
}

enum log_level log_threshold;

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

/* ---- What no test here comes to ---- */

#define UNUSED(result, name, ...) \
	result name(__VA_ARGS__)  \
	{                         \
		fail();           \
		return (result)0; \
	}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"
UNUSED(uint64_t, rdmsr, uint32_t msr)
UNUSED(void, wrmsr, uint32_t msr, uint64_t value)
UNUSED(bool, safe_wrmsr, uint32_t msr, uint64_t value)
UNUSED(bool, vp_is_loaded_here, const struct vp *of)
UNUSED(void, svm_set_switched_msr, struct vp *of, unsigned int which, uint64_t value)
UNUSED(int, svm_switched_msr, uint32_t msr)
UNUSED(bool, svm_child_msr_exits, uint32_t msr, bool is_write)
UNUSED(bool, svm_read_passed_msr, struct vp *of, uint32_t msr, uint64_t *value)
UNUSED(bool, svm_write_passed_msr, struct vp *of, uint32_t msr, uint64_t value)
UNUSED(int, vp_msr_read, struct vp *of, uint32_t msr, uint64_t *value)
UNUSED(int, vp_msr_write, struct vp *of, uint32_t msr, uint64_t value)
UNUSED(bool, guest_msr_takes, uint32_t msr, uint64_t value, unsigned int linear_bits)
UNUSED(void, intercept_io, struct vp *of, const struct io_exit *exit)
UNUSED(enum fault_result, intercept_memory, struct vp *of, const struct memory_exit *exit)
UNUSED(uint64_t, svm_next_rip, struct vp *of, const struct vmcb *control, unsigned int length)
UNUSED(void, schedule_use_debug_registers, struct vp *of)
UNUSED(void, svm_raise_exception, struct vp *of, uint8_t vector, bool has_error, uint32_t error)
UNUSED(void, svm_handle_exception, struct vp *of, struct vmcb *control, uint8_t vector)
UNUSED(void, vp_put_back_interrupt, struct vp *of, uint8_t vector)
UNUSED(uint8_t, vp_extint_take, struct vp *of)
UNUSED(void, vp_extint_release, struct vp *of)
UNUSED(void, lp_kick, struct lp *of)
UNUSED(void, lp_kick_self, struct lp *of)
UNUSED(void, apic_take, struct apic *apic, uint8_t vector)
UNUSED(void, apic_sync_posted_slow, struct apic *apic)
#pragma GCC diagnostic pop

/* ---- Tests ---- */

/*
 * The checks come before the command in TLB_CONTROL (APM3 "VMRUN"): it hasn't been carried out. The VP may have a tag that was another's, and whoever
 * waited for the flush goes on.
 */
static void a_refused_entry_has_flushed_nothing(void **state)
{
	(void)state;
	vp_post(vp, VP_PENDING_FLUSH);
	assert_ptr_equal(svm_handle_pending(vp), vp);
	assert_int_equal(flushes, 1);
	assert_int_equal(vmcb.tlb_control, TLB_CONTROL_ASID);
	vmcb.exit_code = SVM_EXIT_INVALID;
	vmcb.tlb_control = TLB_CONTROL_NONE; /* as at each exit */
	svm_handle_child_exit(vp, &vmcb);
	assert_int_equal(unrecoverable, 1);
	assert_true(atomic_load(&vp->pending) & VP_PENDING_FLUSH);
	/* Its parent has set other registers. Of a flush of everything we don't know any more: so it is one. */
	svm_handle_pending(vp);
	assert_int_equal(flushes, 2);
	assert_int_equal(vmcb.tlb_control, TLB_CONTROL_ALL);
	assert_false(atomic_load(&vp->pending) & VP_PENDING_FLUSH);
}

static int setup(void **state)
{
	(void)state;
	vp = calloc(1, sizeof(*vp));
	vp->partition = &partition;
	vp->child = &vp_child;
	vp->control = &vmcb;
	vp->lp = &lp;
	vp->apic.irr_top = vp->apic.isr_top = -1;
	memset(&vmcb, 0, sizeof(vmcb));
	unrecoverable = flushes = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(vp);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_refused_entry_has_flushed_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
