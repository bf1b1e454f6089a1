/* SPDX-License-Identifier: MIT */
/*
 * What vmx/events.c sits between: a VMCS that is an array, an APIC that is three numbers, and a processor that takes what is injected by the
 * rules for VM entries.
 */
#ifndef TESTS_UNIT_VMX_EVENT_FAKE_H
#define TESTS_UNIT_VMX_EVENT_FAKE_H

#include "vmx/vmx.h"
#include "vmcs_fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/exceptions.h>
#include <trivet/flush.h>
#include <trivet/live_registers.h>

#define VALID ((uint32_t)EVENT_VALID)
#define WITH_ERROR ((uint32_t)EVENT_ERROR_VALID)
#define PROC_OTHERS ((uint32_t)(PROC_HLT | PROC_SECONDARY)) /* what no window may change */
#define SHADOWS (BLOCKING_STI | BLOCKING_MOV_SS)
#define NOTHING (-1)

struct vmx_machine vmx;

static uint64_t dr6;
static struct vp vps[2], *const vp = &vps[0], *scheduled;
static int put_back, next_pending, posted, extint; /* vectors, NOTHING: none */
static unsigned int take_overs, hand_overs, releases, posting_updates, flushes, invalidations, settled;
static struct vp *entered;
static bool entered_as_launch;
static jmp_buf entry;

void vmx_raise_exception(struct vp *of, uint8_t vector, bool has_error, uint32_t error)
{
	vmx_inject_exception(of, vector, has_error, error);
}

uint64_t read_dr(unsigned int index)
{
	assert_int_equal(index, 6);
	return dr6;
}

void write_dr(unsigned int index, uint64_t value)
{
	assert_int_equal(index, 6);
	dr6 = value;
}

/* PPR by TPR and what is in service (SDM3 11.8.3.1). */
static void set_apic(int requested, int serviced, uint8_t tpr)
{
	struct apic *apic = &vp->apic;
	int class = serviced < 0 ? 0 : serviced & 0xf0;

	apic->irr_top = requested;
	apic->isr_top = serviced;
	apic->tpr = tpr;
	apic->ppr = (uint8_t)(tpr >> 4 >= class >> 4 ? tpr : class);
}

void apic_take(struct apic *apic, uint8_t vector)
{
	assert_int_equal(vector, apic->irr_top);
	set_apic(next_pending, vector, apic->tpr);
	next_pending = NOTHING;
	if (apic->eoi_automatic_any) { /* a level-triggered one, of which the parent hears */
		atomic_store(&vp->holds, VP_HOLD_INTERCEPT);
		vp_post_self(vp, VP_PENDING_SCHEDULE);
	}
}

void apic_sync_posted_slow(struct apic *apic)
{
	atomic_store(&apic->posted_any, 0);
	set_apic(posted, apic->isr_top, apic->tpr);
}

void vmx_apic_take_over(struct vp *of)
{
	take_overs++;
	vmx_of(of)->apic_known = true;
}

void vmx_hand_over_interrupts(struct vp *of)
{
	assert_ptr_equal(of, vp);
	hand_overs++;
}

void vmx_update_posting(struct vp *of)
{
	assert_ptr_equal(of, vp);
	posting_updates++;
}

void vp_put_back_interrupt(struct vp *of, uint8_t vector)
{
	assert_ptr_equal(of, vp);
	assert_int_equal(put_back, NOTHING);
	assert_true(vmx_of(of)->apic_known || !vmx_of(of)->lends_page);
	put_back = vector;
}

uint8_t vp_extint_take(struct vp *of)
{
	assert_true(of->extint_count > 0);
	of->extint_count--;
	return (uint8_t)extint;
}

void vp_extint_release(struct vp *of)
{
	assert_true(of->extint_held);
	of->extint_held = false;
	releases++;
}

void flush_taken(struct vp *of)
{
	assert_int_equal(invalidations, 0); /* what is noted afterwards might not be done */
	vp_clear_pending(of, VP_PENDING_FLUSH);
	flushes++;
}

void vmx_invalidate(struct vp *of)
{
	(void)of;
	assert_int_equal(flushes, 1);
	invalidations++;
}

static unsigned int choose_other_after; /* so many choices; 0: never */

struct vp *schedule(struct vp *of)
{
	if (choose_other_after && choose_other_after-- == 1) {
		struct vp *first = scheduled;

		scheduled = &vps[1];
		vp_clear_pending(of, VP_PENDING_NEUTRAL);
		return first;
	}
	assert_ptr_equal(of, vp);
	assert_true(vmx_of(of)->apic_known || !vmx_of(of)->lends_page);
	vp_clear_pending(of, VP_PENDING_NEUTRAL);
	return scheduled;
}

void vmx_settle_pdptes(struct vp *of)
{
	vmx_of(of)->pdptes_stale = false;
	settled++;
}

void vmx_enter(struct vp *of, bool launch)
{
	entered = of;
	entered_as_launch = launch;
	longjmp(entry, 1);
}

static int setup(void **state)
{
	(void)state;
	memset(vps, 0, sizeof(vps));
	memset(vmcs, 0, sizeof(vmcs));
	vmx = (struct vmx_machine){ .exit = (uint32_t)(EXIT_ACK_INTERRUPT | EXIT_HOST_64) };
	for (unsigned int i = 0; i < 2; i++) {
		vps[i].apic.irr_top = vps[i].apic.isr_top = NOTHING;
		vps[i].apic.lvt[APIC_LVT_LINT0] = APIC_LVT_MASKED;
		vmx_of(&vps[i])->acknowledges = true;
		vmx_of(&vps[i])->proc = PROC_OTHERS;
	}
	vmcs[VMCS_PROC_CONTROLS] = PROC_OTHERS;
	vmcs[VMCS_GUEST_CR0] = CR0_PE;
	vmcs[VMCS_GUEST_RFLAGS] = RFLAGS_IF;
	dr6 = 0xffff0ff0;
	put_back = next_pending = posted = extint = NOTHING;
	take_overs = hand_overs = releases = posting_updates = flushes = invalidations = settled =
		vmcs_writes = 0;
	entered = NULL;
	scheduled = vp;
	return 0;
}

/* ---- The processor ---- */

static bool pushes_error(uint32_t vector)
{
	return vector == VECTOR_DF || (vector >= VECTOR_TS && vector <= VECTOR_PF) || vector == VECTOR_AC ||
	       vector == VECTOR_CP;
}

/* The rules for what an entry injects (SDM3 27.2.1.3, 27.3.1.4, 27.3.1.5). */
static void check_entry(uint32_t event)
{
	uint64_t blocking = vmcs[VMCS_GUEST_INTERRUPTIBILITY];
	uint32_t vector = event & EVENT_VECTOR_MASK;

	assert_false(event & 0x7ffff000);
	switch (event & EVENT_TYPE_MASK) {
	case EVENT_TYPE_INTR:
		assert_true(vmcs[VMCS_GUEST_RFLAGS] & RFLAGS_IF);
		assert_false(blocking & SHADOWS);
		assert_false(event & WITH_ERROR);
		break;
	case EVENT_TYPE_NMI:
		assert_int_equal(vector, VECTOR_NMI);
		assert_false(blocking & (SHADOWS | BLOCKING_NMI));
		assert_false(event & WITH_ERROR);
		break;
	default:
		assert_int_equal(event & EVENT_TYPE_MASK, EVENT_TYPE_EXCEPTION);
		assert_int_equal(!!(event & WITH_ERROR),
				 pushes_error(vector) && (vmcs[VMCS_GUEST_CR0] & CR0_PE));
	}
}

/*
 * Entry, delivery through an interrupt gate, and an exit later. No shadow outlives a delivery (SDM3 27.7.1), an NMI blocks the next
 * (SDM3 27.6.1.1), and EVENT_VALID is cleared with the exit. What was injected; 0: nothing.
 */
static uint32_t run(void)
{
	uint32_t event = (uint32_t)vmcs[VMCS_ENTRY_EVENT];

	assert_int_equal(vmx_of(vp)->event & VALID, event & VALID);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS], vmx_of(vp)->proc);
	assert_int_equal(vmcs[VMCS_PROC_CONTROLS] & ~(PROC_INTERRUPT_WINDOW | PROC_NMI_WINDOW), PROC_OTHERS);
	vmx_of(vp)->event &= ~VALID; /* struct vmx_vp promises no more */
	if (!(event & VALID))
		return 0;
	assert_int_equal(event, vmcs[VMCS_ENTRY_EVENT]);
	check_entry(event);
	vmcs[VMCS_ENTRY_EVENT] &= ~EVENT_VALID;
	vmcs[VMCS_GUEST_INTERRUPTIBILITY] &= ~SHADOWS;
	vmcs[VMCS_GUEST_RFLAGS] &= ~RFLAGS_IF;
	if ((event & EVENT_TYPE_MASK) == EVENT_TYPE_NMI)
		vmcs[VMCS_GUEST_INTERRUPTIBILITY] |= BLOCKING_NMI;
	return event;
}

static bool has_window(uint64_t which)
{
	return vmcs[VMCS_PROC_CONTROLS] & which;
}

/* An exit is due before the next instruction (SDM3 26.2). */
static bool interrupt_window_exit(void)
{
	return has_window(PROC_INTERRUPT_WINDOW) && (vmcs[VMCS_GUEST_RFLAGS] & RFLAGS_IF) &&
	       !(vmcs[VMCS_GUEST_INTERRUPTIBILITY] & SHADOWS);
}

#endif
