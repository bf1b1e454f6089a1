/* SPDX-License-Identifier: MIT */
/*
 * Processors for core/schedule.c: what it asks of a back end and of the rest of the hypervisor, with a look at every step: one VP at most in
 * a processor, and nothing of a VP touched where it isn't. A test includes this once; its hooks come in at the seams.
 */
#ifndef TRIVET_TESTS_SCHEDULE_MACHINE_H
#define TRIVET_TESTS_SCHEDULE_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <trivet/backend.h>
#include <trivet/extended_state.h>
#include <trivet/flush.h>
#include <trivet/intercept.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/schedule.h>
#include <trivet/vp.h>

#define MACHINE_LPS 3u
#define MACHINE_VPS 6u
#define CLOCK_HZ 1000000000u
#define NEVER UINT64_MAX

static struct lp *lp_pointers[MACHINE_LPS];
struct lp **lp_table = lp_pointers;
uint32_t lp_count;
static _Thread_local struct lp *current;
static struct partition root, child;
static struct vp *vps[MACHINE_VPS];

/* What the VP's guest sees, and what the machine knows of it. */
static struct machine_vp {
	_Atomic bool in_processor;
	_Atomic bool interrupt; /* it would take one that is pending */
	unsigned int loads, unloads, flushes, resumes, clock_changes, timer_expirations;
	bool idle;     /* as flush.h has it */
	bool borrowed; /* by somebody's back end */
} of_vp[MACHINE_VPS];

static struct machine_lp {
	struct vp *_Atomic in_processor;
	struct vp *fpu_owner; /* whose extended state and debug registers are there */
	uint64_t dr_marker;
	uint64_t armed_tsc; /* 0: the timer is stopped */
} of_lp[MACHINE_LPS];

static _Atomic uint64_t clock_now = 1000000;

#define CHECK(condition)         \
	((condition) ? (void)0 : \
		       (void)(fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), abort()))

/* The test's. */
static void at_seam(const char *name, struct vp *vp);
static void when_idle(struct lp *lp);
static void when_kicked(struct lp *lp);

static struct machine_vp *machine_of(const struct vp *vp)
{
	return &of_vp[vp->backend_data[0]];
}

/* ---- The processor ---- */

struct lp *this_lp(void)
{
	return current;
}

uint64_t lp_clock(void)
{
	return atomic_load(&clock_now);
}

uint64_t lp_tsc_hz(void)
{
	return CLOCK_HZ;
}

uint64_t rdtsc(void)
{
	return lp_clock() + atomic_load(&current->tsc_moved);
}

uint64_t rdmsr(uint32_t msr)
{
	(void)msr;
	abort();
}

void wrmsr(uint32_t msr, uint64_t value)
{
	CHECK(msr == MSR_TSC_DEADLINE);
	of_lp[current->index].armed_tsc = value;
}

uint32_t mmio_read32(const volatile void *address)
{
	(void)address;
	return 0; /* nothing waits in the IRR */
}

void mmio_write32(volatile void *address, uint32_t value)
{
	(void)address;
	(void)value;
	abort();
}

void lp_kick(struct lp *lp)
{
	CHECK(lp != current);
	if (atomic_load(&lp->state) == LP_ONLINE && !atomic_exchange(&lp->kicked, 1))
		when_kicked(lp);
}

bool lp_handle_interrupts(struct lp *lp)
{
	CHECK(lp == current);
	if (!atomic_exchange(&lp->kicked, 0))
		return false;
	__atomic_fetch_add(&lp->kicks_taken, 1, __ATOMIC_SEQ_CST);
	schedule_kicked(lp);
	return false;
}

/* ---- The back end ---- */

static void fake_load(struct vp *vp)
{
	struct machine_vp *at = machine_of(vp);

	CHECK(vp->lp == current && atomic_load(&vp->loaded) && !at->borrowed);
	CHECK(!atomic_exchange(&at->in_processor, true));
	CHECK(!atomic_exchange(&of_lp[current->index].in_processor, vp));
	CHECK(of_lp[current->index].fpu_owner == vp);
	at->loads++;
	at_seam("load", vp);
}

static void fake_unload(struct vp *vp)
{
	CHECK(vp->lp == current && atomic_load(&vp->loaded));
	at_seam("unload", vp);
	CHECK(atomic_exchange(&of_lp[current->index].in_processor, NULL) == vp);
	CHECK(atomic_exchange(&machine_of(vp)->in_processor, false));
	machine_of(vp)->unloads++;
}

static void fake_borrow(struct vp *vp)
{
	CHECK(!atomic_load(
		&machine_of(vp)->in_processor)); /* `loaded` is set for a moment by who finds it held */
	CHECK(!machine_of(vp)->borrowed);
	machine_of(vp)->borrowed = true;
}

static void fake_return(struct vp *vp)
{
	CHECK(machine_of(vp)->borrowed);
	machine_of(vp)->borrowed = false;
}

static void fake_idle(struct lp *lp)
{
	CHECK(lp == current);
	when_idle(lp);
}

static const struct backend fake_backend = {
	.vp_load = fake_load,
	.vp_unload = fake_unload,
	.vp_borrow = fake_borrow,
	.vp_return = fake_return,
	.lp_idle = fake_idle,
};
const struct backend *backend = &fake_backend;

void extended_state_save(struct vp *vp)
{
	CHECK(!of_lp[current->index].in_processor); /* the back end's part first: it may use the registers */
	CHECK(of_lp[current->index].fpu_owner == vp);
	of_lp[current->index].fpu_owner = NULL;
	at_seam("save", vp);
}

void extended_state_load(struct vp *vp)
{
	CHECK(!of_lp[current->index].fpu_owner);
	of_lp[current->index].fpu_owner = vp;
	at_seam("restore", vp);
}

void debug_registers_save(struct vp *vp)
{
	vp->dr[0] = of_lp[current->index].dr_marker;
}

void debug_registers_load(struct vp *vp)
{
	of_lp[current->index].dr_marker = vp->dr[0];
}

/* ---- The rest of the hypervisor ---- */

void flush_idle_begin(struct vp *vp)
{
	CHECK(!machine_of(vp)->idle); /* they don't nest */
	machine_of(vp)->idle = true;
	at_seam("idle begin", vp);
}

void flush_idle_end(struct vp *vp)
{
	CHECK(machine_of(vp)->idle);
	machine_of(vp)->idle = false;
	at_seam("idle end", vp);
}

void vp_run_time_idle_begin(struct vp *vp, uint64_t now_clock)
{
	CHECK(now_clock <= lp_clock());
	at_seam("wait begin", vp);
}

void vp_run_time_idle_end(struct vp *vp, uint64_t now_clock)
{
	CHECK(now_clock <= lp_clock());
	at_seam("wait end", vp);
}

void lp_run_time_idle_begin(struct lp *lp, uint64_t now_clock)
{
	CHECK(now_clock <= lp_clock());
	CHECK(lp == current);
}

void lp_run_time_idle_end(struct lp *lp, uint64_t now_clock)
{
	CHECK(now_clock <= lp_clock());
	CHECK(lp == current);
}

void apic_timer_expired(struct apic *apic, uint64_t now_tsc)
{
	struct vp *vp = container_of(apic, struct vp, apic);

	if (now_tsc < apic->timer.deadline_tsc)
		return;
	apic->timer.deadline_tsc = NEVER;
	machine_of(vp)->timer_expirations++;
	atomic_store(&machine_of(vp)->interrupt, true);
}

void stimers_expired(struct vp *vp, uint64_t now_tsc)
{
	CHECK(now_tsc >= vp->stimers.next_deadline_tsc);
	vp->stimers.next_deadline_tsc = NEVER;
	machine_of(vp)->timer_expirations++;
	atomic_store(&machine_of(vp)->interrupt, true);
}

void stimers_clock_changed(struct vp *vp)
{
	machine_of(vp)->clock_changes++;
}

void synic_handle_pending(struct vp *vp)
{
	vp_clear_pending(vp, VP_PENDING_SYNIC);
	atomic_store(&machine_of(vp)->interrupt, true);
}

void vp_handle_startup(struct vp *vp)
{
	if (atomic_load(&vp->pending) & VP_PENDING_INIT) {
		vp_clear_pending(vp, VP_PENDING_INIT | VP_PENDING_NMI);
		vp->state = VP_WAIT_SIPI;
		vp->halted = false;
	}
	if (atomic_load(&vp->pending) & VP_PENDING_SIPI) {
		vp_clear_pending(vp, VP_PENDING_SIPI);
		if (vp->state == VP_WAIT_SIPI)
			vp->state = VP_RUNNING;
	}
}

/* As core/vp.c has it. */
bool vp_sleeps(struct vp *vp)
{
	at_seam("sleep?", vp);
	if (!vp->halted)
		return false;
	if (!((atomic_load(&vp->pending) & VP_PENDING_NMI) && vp->halted_nmis_on) &&
	    !(vp->halted_interrupts_on && atomic_load(&machine_of(vp)->interrupt)))
		return true;
	vp->halted = false;
	vp_post_self(vp, VP_PENDING_EVENT);
	return false;
}

void intercept_resume(struct vp *vp)
{
	machine_of(vp)->resumes++;
}

void intercept_unrecoverable(struct vp *vp)
{
	vp_hold_self(vp, VP_HOLD_INTERCEPT);
}

_Noreturn void vp_shutdown(struct vp *vp)
{
	(void)vp;
	abort();
}

/* ---- From nothing to LPs whose root VPs run: VP i is the root's on LP i, the rest are the child's, held by VP_HOLD_EXPLICIT ---- */

static void make_vp(uint32_t i)
{
	struct vp *vp = aligned_alloc(64, (sizeof(*vp) + 63) & ~63ul);

	memset(vp, 0, sizeof(*vp));
	vps[i] = vp;
	vp->backend_data[0] = i;
	vp->index = i;
	vp->partition = i < lp_count ? &root : &child;
	vp->apic.timer.deadline_tsc = NEVER;
	vp->stimers.next_deadline_tsc = NEVER;
	vp->borrow_lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_BORROW);
	if (i >= lp_count) {
		atomic_store(&vp->holds, VP_HOLD_EXPLICIT);
		vp_place(vp);
		of_vp[i].idle = true;
	}
}

static void machine_start(uint32_t lps, uint32_t vp_count)
{
	memset(of_vp, 0, sizeof(of_vp));
	memset(of_lp, 0, sizeof(of_lp));
	memset(&child, 0, sizeof(child));
	child.parent = &root;
	child.properties.weight = SCHED_WEIGHT_DEFAULT;
	lp_count = lps;
	sched_init(CLOCK_HZ);
	for (uint32_t i = 0; i < lps; i++) {
		struct lp *lp = calloc(1, sizeof(*lp));

		lp_table[i] = lp;
		lp->index = i;
		lp->lapic.tsc_deadline = true;
		lp->lapic.mmio = lp;
		lp->timer_deadline_tsc = NEVER;
		atomic_store(&lp->state, LP_ONLINE);
		schedule_init(lp);
	}
	current = lp_table[0];
	for (uint32_t i = 0; i < vp_count; i++)
		make_vp(i);
	for (uint32_t i = 0; i < lps; i++) {
		vps[i]->lp = lp_table[i];
		lp_table[i]->root_vp = vps[i];
		schedule_start(vps[i]);
		of_lp[i].in_processor = of_lp[i].fpu_owner = vps[i];
		of_vp[i].in_processor = true;
	}
	child.vps = vps + lps;
	child.vp_count = vp_count - lps;
}

static void machine_stop(void)
{
	for (uint32_t i = 0; i < MACHINE_VPS; i++) {
		free(vps[i]);
		vps[i] = NULL;
	}
	for (uint32_t i = 0; i < lp_count; i++)
		free(lp_table[i]);
}

#endif
