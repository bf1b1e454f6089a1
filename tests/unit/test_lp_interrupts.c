/* unit: core/lp_interrupts.c core/schedule.c core/hold.c core/schedule_timer.c core/placement.c sched/classic.c sched/fair.c sched/budget.c sched/place.c sched/heap.c */
/* SPDX-License-Identifier: MIT */
/*
 * Physical interrupts: whose is a vector, and in which order the EOIs go out. The physical local APIC is a naive
 * model of its ISR here: an EOI ends the highest vector in service, as hardware does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/apic.h>
#include <trivet/backend.h>
#include <trivet/extended_state.h>
#include <trivet/flush.h>
#include <trivet/intercept.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

static bool isr[256], tmr[256];
static bool irr_timer;
static uint32_t timer_current;
static int eois;
static int last_eoi;
static uint32_t icr_sent, icr_high;
static uint32_t icr_busy;    /* reads until idle */
static bool fires_while_set; /* the old deadline's interrupt comes just before the new count */
static uint64_t fake_tsc;

static struct lp *lp;
static struct vp *vp;
static struct partition partition; /* the root */
static bool accept_result;
static int accepted[256];
static int accepted_level[256];
static int expired;

/* ---- the machine ---- */

_Noreturn void panic(const char *fmt, ...)
{
	fprintf(stderr, "panic: %s\n", fmt);
	abort();
}

uint32_t mmio_read32(const volatile void *address)
{
	uint32_t reg = (uint32_t)((uintptr_t)address & 0xfff);
	const bool *bits = reg >= LAPIC_TMR ? tmr : isr;
	uint32_t value = 0;

	if (reg == LAPIC_TIMER_CURRENT)
		return timer_current;
	if (reg == LAPIC_ICR_LOW)
		return icr_busy && icr_busy-- ? LAPIC_ICR_BUSY : 0;
	if (reg == LAPIC_ICR_HIGH)
		return icr_high;
	if (reg == LAPIC_IRR + HV_VECTOR_TIMER / 32 * 16)
		return irr_timer ? 1u << HV_VECTOR_TIMER % 32 : 0;
	assert_true((reg >= LAPIC_ISR && reg < LAPIC_IRR));
	for (unsigned int i = 0; i < 32; i++)
		if (bits[((reg & 0x70) >> 4) * 32 + i])
			value |= 1u << i;
	return value;
}

void mmio_write32(volatile void *address, uint32_t value)
{
	uint32_t reg = (uint32_t)((uintptr_t)address & 0xfff);

	if (reg == LAPIC_EOI) {
		eois++;
		last_eoi = -1;
		for (int i = 255; i >= 0; i--) {
			if (isr[i]) {
				isr[i] = false;
				last_eoi = i;
				break;
			}
		}
	} else if (reg == LAPIC_ICR_LOW) {
		icr_sent = value;
	} else if (reg == LAPIC_ICR_HIGH) {
		icr_high = value;
	} else if (reg == LAPIC_TIMER_INITIAL && fires_while_set) {
		irr_timer = true;
	}
}

uint64_t rdmsr(uint32_t msr)
{
	(void)msr;
	return 0;
}

void wrmsr(uint32_t msr, uint64_t value)
{
	(void)msr;
	(void)value;
}

uint64_t rdtsc(void)
{
	return fake_tsc;
}

uint64_t lp_clock(void)
{
	return fake_tsc;
}

uint64_t lp_tsc_hz(void)
{
	return 1000000000;
}

struct lp *this_lp(void)
{
	return lp;
}

/* ---- the model's side ---- */

bool apic_accept(struct apic *apic, uint8_t vector, bool level)
{
	assert_ptr_equal(apic, &vp->apic);
	if (accept_result) {
		accepted[vector]++;
		accepted_level[vector] += level;
	}
	return accept_result;
}

void apic_timer_expired(struct apic *apic, uint64_t now_tsc)
{
	(void)now_tsc;
	expired++;
	apic->timer.deadline_tsc = UINT64_MAX;
}

static int synced;

void apic_sync_posted_slow(struct apic *apic)
{
	assert_ptr_equal(apic, &vp->apic);
	synced++;
}

enum log_level log_threshold = LOG_INFO;

_Atomic bool statistics_mapped;

void statistics_refresh(void)
{
}

static int synthetic_expired;

void stimers_expired(struct vp *v, uint64_t now_tsc)
{
	assert_ptr_equal(v, vp);
	assert_true(now_tsc >= vp->stimers.next_deadline_tsc);
	synthetic_expired++;
	vp->stimers.next_deadline_tsc = UINT64_MAX;
}

void vp_log_exit_counts(struct vp *v)
{
	(void)v;
}

/* ---- What core/schedule.c asks, where it isn't about its timers and who is woken: never here ---- */

struct lp **lp_table;
uint32_t lp_count = 1;
const struct backend *backend;

#define NEVER_CALLED(declaration) \
	declaration               \
	{                         \
		(void)v;          \
		abort();          \
	}

NEVER_CALLED(void extended_state_save(struct vp *v))
NEVER_CALLED(void extended_state_load(struct vp *v))
NEVER_CALLED(void debug_registers_save(struct vp *v))
NEVER_CALLED(void debug_registers_load(struct vp *v))
NEVER_CALLED(void flush_idle_begin(struct vp *v))
NEVER_CALLED(void flush_idle_end(struct vp *v))
NEVER_CALLED(void vp_run_time_idle_begin(struct vp *v, __attribute__((unused)) uint64_t now_clock))
NEVER_CALLED(void vp_run_time_idle_end(struct vp *v, __attribute__((unused)) uint64_t now_clock))
NEVER_CALLED(void lp_run_time_idle_begin(struct lp *v, __attribute__((unused)) uint64_t now_clock))
NEVER_CALLED(void lp_run_time_idle_end(struct lp *v, __attribute__((unused)) uint64_t now_clock))
NEVER_CALLED(void stimers_clock_changed(struct vp *v))
NEVER_CALLED(void synic_handle_pending(struct vp *v))
NEVER_CALLED(void vp_handle_startup(struct vp *v))
NEVER_CALLED(bool vp_sleeps(struct vp *v))
NEVER_CALLED(void intercept_resume(struct vp *v))
NEVER_CALLED(void intercept_unrecoverable(struct vp *v))
NEVER_CALLED(_Noreturn void vp_shutdown(struct vp *v))

static int setup(void **state)
{
	static _Alignas(0x1000) char page[0x1000];
	static struct apic_page apic_page;

	(void)state;
	memset(isr, 0, sizeof(isr));
	memset(tmr, 0, sizeof(tmr));
	memset(accepted, 0, sizeof(accepted));
	memset(accepted_level, 0, sizeof(accepted_level));
	eois = expired = 0;
	icr_sent = 0;
	icr_busy = 0;
	accept_result = true;
	timer_current = 0;
	lp = calloc(1, sizeof(*lp));
	vp = aligned_alloc(64, (sizeof(*vp) + 63) & ~63ul);
	memset(vp, 0, sizeof(*vp));
	lp->vp = lp->root_vp = vp;
	schedule_init(lp);
	vp->lp = lp;
	vp->partition = &partition;
	vp->state = VP_RUNNING;
	vp->apic.page = &apic_page;
	memset(&apic_page, 0, sizeof(apic_page));
	vp->apic.timer.deadline_tsc = UINT64_MAX;
	vp->stimers.next_deadline_tsc = UINT64_MAX;
	lp->timer_deadline_tsc = UINT64_MAX;
	lp->lapic.mmio = page;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(lp);
	free(vp);
	return 0;
}

static void arrive(uint8_t vector, bool level)
{
	isr[vector] = true;
	tmr[vector] = level;
	lp->acked[vector / 64] |= BIT(vector % 64);
}

static void edge_is_ended_at_once(void **state)
{
	(void)state;
	arrive(0x41, false);
	assert_true(lp_handle_interrupts(lp));
	assert_int_equal(eois, 1);
	assert_false(isr[0x41]);
	assert_int_equal(accepted[0x41], 1);
	assert_int_equal(accepted_level[0x41], 0);
	assert_int_equal(lp->acked[1], 0);
}

static void level_waits_for_the_guest(void **state)
{
	(void)state;
	arrive(0x51, true);
	lp_handle_interrupts(lp);
	assert_int_equal(eois, 0);
	assert_true(isr[0x51]);
	assert_int_equal(accepted_level[0x51], 1);
	lp_complete_level(lp, 0x51);
	assert_int_equal(eois, 1);
	assert_false(isr[0x51]);
	lp_complete_level(lp, 0x51); /* a second EOI of the guest's has nothing to end */
	assert_int_equal(eois, 1);
}

static void refused_level_is_parked(void **state)
{
	(void)state;
	accept_result = false;
	arrive(0x51, true);
	lp_handle_interrupts(lp);
	assert_true(isr[0x51]); /* ended, it would be back before the guest runs an instruction */
	lp_unpark_level(lp);
	assert_false(isr[0x51]); /* it comes again, and is accepted now */
	lp_unpark_level(lp);
	assert_int_equal(eois, 1);
}

static void unparking_leaves_what_the_guest_has(void **state)
{
	(void)state;
	arrive(0x61, true);
	lp_handle_interrupts(lp);
	vp->apic.page->reg[(APIC_REG_ISR >> 4) + 0x61 / 32].value |= 1u << 0x61 % 32;
	accept_result = false;
	arrive(0x71, true);
	lp_handle_interrupts(lp);
	lp_unpark_level(lp);
	assert_false(isr[0x71]);
	assert_true(isr[0x61]);
}

/* INIT: the guest will never end them, and they must not block the LP. */
static void abandoned_levels_are_ended(void **state)
{
	(void)state;
	arrive(0x51, true);
	lp_handle_interrupts(lp);
	arrive(0x91, true);
	lp_handle_interrupts(lp);
	lp_abandon_level(lp);
	assert_false(isr[0x51]);
	assert_false(isr[0x91]);
	assert_int_equal(lp->in_service_count, 0);
}

/* The timer fired while an exit was handled, and the guest set it anew in that exit. */
static void stale_timer_is_not_a_devices(void **state)
{
	(void)state;
	lp->timer_deadline_tsc = 1000;
	fake_tsc = 1001;
	irr_timer = true;
	vp->apic.timer.deadline_tsc = 5000;
	lp_timer_update(lp);
	irr_timer = false;
	timer_current = 99;
	arrive(HV_VECTOR_TIMER, false);
	lp_handle_interrupts(lp);
	assert_int_equal(accepted[HV_VECTOR_TIMER], 0);
	assert_int_equal(expired, 1); /* harmless: the model sees that it is too early */
	arrive(HV_VECTOR_TIMER, false);
	lp->timer_deadline_tsc = 5000;
	lp_handle_interrupts(lp);
	assert_int_equal(accepted[HV_VECTOR_TIMER], 1);
}

static void timer_that_fires_while_it_is_set_anew_is_not_a_devices(void **state)
{
	(void)state;
	lp->timer_deadline_tsc = 1000;
	fake_tsc = 999;
	fires_while_set = true;
	vp->apic.timer.deadline_tsc = 5000;
	lp_timer_update(lp);
	fires_while_set = irr_timer = false;
	timer_current = 99;
	arrive(HV_VECTOR_TIMER, false);
	lp_handle_interrupts(lp);
	assert_int_equal(accepted[HV_VECTOR_TIMER], 0);
	assert_int_equal(expired, 1);
}

/* Set anew, it fires again before the stale interrupt is handled; then there is nothing more to wait for. */
static void timer_that_fires_behind_a_stale_one_is_not_a_devices(void **state)
{
	(void)state;
	lp->timer_deadline_tsc = 1000;
	fake_tsc = 1001;
	irr_timer = true;
	vp->apic.timer.deadline_tsc = 1002;
	lp_timer_update(lp);
	fake_tsc = 1003;
	timer_current = 0;
	arrive(HV_VECTOR_TIMER, false);
	lp_handle_interrupts(lp);
	assert_int_equal(lp->timer_deadline_tsc, UINT64_MAX);
	irr_timer = false;
	arrive(HV_VECTOR_TIMER, false);
	lp_handle_interrupts(lp);
	assert_int_equal(accepted[HV_VECTOR_TIMER], 0);
	assert_int_equal(expired, 2);
}

static void no_kick_for_a_processor_that_is_down(void **state)
{
	(void)state;
	lp->state = LP_OFFLINE;
	lp_kick(lp);
	assert_int_equal(icr_sent, 0);
	assert_int_equal(lp->kicked, 0); /* or no later kick would be sent */
}

/* However long the IPI before takes: nobody would send this one later. */
static void a_kick_waits_for_the_icr(void **state)
{
	(void)state;
	lp->state = LP_ONLINE;
	icr_busy = 2 * LAPIC_ICR_SPINS + 77;
	lp_kick(lp);
	assert_int_equal(icr_busy, 0);
	assert_int_equal(icr_sent & 0xff, HV_VECTOR_KICK);
	assert_int_equal(lp->kicked, 1);
	icr_sent = 0;
	icr_busy = LAPIC_ICR_SPINS + 1;
	lp_kick_self(lp);
	assert_int_equal(icr_sent & 0xff, HV_VECTOR_KICK);
}

/* Whoever it broke into may have written the destination of an IPI, and not yet sent it. */
static void kick_from_nmi_leaves_the_icr(void **state)
{
	(void)state;
	lp->state = LP_ONLINE;
	lp->apic_id = 3;
	icr_high = 7u << 24;
	lp_kick_from_nmi(lp);
	assert_int_equal(icr_sent & 0xff, HV_VECTOR_KICK);
	assert_int_equal(lp->kicked, 1);
	assert_int_equal(icr_high, 7u << 24);
	lp->state = LP_STARTING; /* its APIC isn't known yet */
	lp->lapic.mmio = NULL;
	lp_kick_from_nmi(lp);
}

/* A notification is for the model, which finds the vectors elsewhere; without posting it's anybody's vector. */
static void notification_is_ours_where_vectors_are_posted(void **state)
{
	(void)state;
	lp_takes_posted = true;
	synced = 0;
	atomic_store(&vp->apic.posted_any, APIC_POSTED);
	arrive(HV_VECTOR_POSTED, false);
	assert_true(lp_handle_interrupts(lp));
	assert_int_equal(accepted[HV_VECTOR_POSTED], 0);
	assert_int_equal(synced, 1); /* whoever takes the notification takes the vectors */
	assert_false(isr[HV_VECTOR_POSTED]);
	lp->state = LP_STARTING;
	assert_false(lp_notify_posted(lp)); /* it will look when it is up, at what a kick is for */
	assert_int_equal(icr_sent, 0);
	lp_takes_posted = false;
	arrive(HV_VECTOR_POSTED, false);
	assert_true(lp_handle_interrupts(lp));
	assert_int_equal(accepted[HV_VECTOR_POSTED], 1);
}

/* The guest may end a lower level-triggered vector while a higher one is still in service physically. */
static void eoi_order_follows_the_hardware(void **state)
{
	(void)state;
	arrive(0x51, true);
	lp_handle_interrupts(lp);
	arrive(0x91, true);
	lp_handle_interrupts(lp);
	lp_complete_level(lp, 0x51);
	assert_int_equal(eois, 0); /* an EOI now would end 0x91 */
	lp_complete_level(lp, 0x91);
	assert_int_equal(eois, 2);
	assert_false(isr[0x51]);
	assert_false(isr[0x91]);
}

static void edge_below_outstanding_level_waits(void **state)
{
	(void)state;
	arrive(0x31, false); /* taken first, then preempted by the level-triggered one in the same window */
	arrive(0x91, true);
	lp_handle_interrupts(lp);
	assert_int_equal(eois, 0);
	assert_int_equal(accepted[0x31], 1);
	lp_complete_level(lp, 0x91);
	assert_int_equal(eois, 2);
	assert_false(isr[0x31]);
	assert_int_equal(lp->in_service_count, 0);
}

static void edge_above_outstanding_level_is_ended_at_once(void **state)
{
	(void)state;
	arrive(0x51, true);
	lp_handle_interrupts(lp);
	arrive(0xa1, false);
	lp_handle_interrupts(lp);
	assert_int_equal(last_eoi, 0xa1);
	assert_true(isr[0x51]);
}

static void vector_not_in_service_is_an_8259s(void **state)
{
	(void)state;
	lp->acked[0] |= BIT(0x20);
	lp_handle_interrupts(lp);
	assert_int_equal(eois, 0);
	assert_int_equal(vp->extint_count, 1);
	assert_true(vp->extint[0] & BIT(0x20));
	assert_int_equal(accepted[0x20], 0);
}

static void spurious_is_dropped(void **state)
{
	(void)state;
	lp->acked[3] |= BIT(HV_VECTOR_SPURIOUS % 64);
	lp_handle_interrupts(lp);
	assert_int_equal(eois, 0);
	assert_int_equal(vp->extint_count, 0);
	assert_int_equal(accepted[HV_VECTOR_SPURIOUS], 0);
}

/* One hardware timer for the APIC's and the synthetic ones: the earlier counts. */
static void earlier_of_two_timers(void **state)
{
	(void)state;
	synthetic_expired = 0;
	fake_tsc = 100;
	vp->apic.timer.deadline_tsc = 5000;
	vp->stimers.next_deadline_tsc = 3000;
	lp_timer_update(lp);
	assert_int_equal(lp->timer_deadline_tsc, 3000);
	fake_tsc = 3000;
	timer_current = 0;
	arrive(HV_VECTOR_TIMER, false);
	assert_true(lp_handle_interrupts(lp));
	assert_int_equal(synthetic_expired, 1);
	assert_int_equal(lp->timer_deadline_tsc, UINT64_MAX); /* the fake APIC's is gone too */
	vp->apic.timer.deadline_tsc = 5000;
	lp_timer_update(lp);
	assert_int_equal(lp->timer_deadline_tsc, 5000);
	fake_tsc = 5000;
	arrive(HV_VECTOR_TIMER, false);
	assert_true(lp_handle_interrupts(lp));
	assert_int_equal(synthetic_expired, 1);
	fake_tsc = 0;
}

static void timer_is_ours_only_when_it_fired(void **state)
{
	(void)state;
	lp->timer_deadline_tsc = 1000;
	timer_current = 0;
	arrive(HV_VECTOR_TIMER, false);
	lp_handle_interrupts(lp);
	assert_int_equal(expired, 1);
	assert_int_equal(accepted[HV_VECTOR_TIMER], 0);

	lp->timer_deadline_tsc = 1000;
	timer_current = 77; /* still counting: a device of the root uses this vector */
	arrive(HV_VECTOR_TIMER, false);
	lp_handle_interrupts(lp);
	assert_int_equal(expired, 1);
	assert_int_equal(accepted[HV_VECTOR_TIMER], 1);
}

static void kick_is_ours_only_when_sent(void **state)
{
	(void)state;
	lp->kicked = 1;
	arrive(HV_VECTOR_KICK, false);
	assert_false(lp_handle_interrupts(lp));
	assert_int_equal(accepted[HV_VECTOR_KICK], 0);
	assert_int_equal(lp->kicked, 0);
	arrive(HV_VECTOR_KICK, false);
	lp_handle_interrupts(lp);
	assert_int_equal(accepted[HV_VECTOR_KICK], 1);
	assert_int_equal(eois, 2);
}

/* One's own kick and others', who said so and send it later: however many come, none is a device's. */
static void own_kicks_are_never_a_devices(void **state)
{
	(void)state;
	lp->state = LP_ONLINE;
	lp->kicked = 1;
	lp_kick_self(lp);
	assert_int_equal(icr_sent & 0xff, HV_VECTOR_KICK);
	for (unsigned int i = 0; i < 4; i++) {
		arrive(HV_VECTOR_KICK, false);
		assert_false(lp_handle_interrupts(lp));
	}
	assert_int_equal(accepted[HV_VECTOR_KICK], 0);
	assert_int_equal(lp->kicked, 0);
	assert_int_equal(eois, 4);
}

static void nmi_becomes_the_vps(void **state)
{
	(void)state;
	lp->nmi_taken = 1;
	lp_handle_interrupts(lp);
	assert_true(vp->pending & VP_PENDING_NMI);
	assert_int_equal(lp->nmi_taken, 0);
}

/* ---- Another VP than the root's is loaded ---- */

static struct vp *load_child(void)
{
	struct vp *child = aligned_alloc(64, (sizeof(*child) + 63) & ~63ul);
	static const struct sched_params params = { .weight = SCHED_WEIGHT_DEFAULT };

	sched_init(1000000000);
	memset(child, 0, sizeof(*child));
	child->lp = lp;
	child->state = VP_RUNNING;
	child->apic.timer.deadline_tsc = UINT64_MAX;
	child->stimers.next_deadline_tsc = UINT64_MAX;
	sched_vp_init(&child->sched, &params);
	sched_vp_init(&vp->sched, &params);
	lp->vp = child;
	return child;
}

/* A device's interrupt is the root's, whoever runs, and the choice is to be made anew. */
static void interrupt_of_the_root_wakes_it(void **state)
{
	struct vp *child = load_child();

	(void)state;
	vp->halted = true;
	arrive(0x41, false);
	lp_handle_interrupts(lp);
	assert_int_equal(accepted[0x41], 1);
	assert_true(vp->pending & VP_PENDING_EVENT);
	assert_int_equal(vp->sched.state, SCHED_FAIR);
	assert_true(child->pending & VP_PENDING_SCHEDULE);
	free(child);
}

static void nmi_wakes_the_root(void **state)
{
	struct vp *child = load_child();

	(void)state;
	vp->halted = vp->halted_nmis_on = true;
	lp->nmi_taken = 1;
	lp_handle_interrupts(lp);
	assert_true(vp->pending & VP_PENDING_NMI);
	assert_false(child->pending & VP_PENDING_NMI);
	assert_int_equal(vp->sched.state, SCHED_FAIR);
	free(child);
}

/* A kick may be for a VP that isn't loaded; then whoever is has to come out. */
static void kick_for_another_vp_ends_the_slice(void **state)
{
	struct vp *child = load_child();

	(void)state;
	lp->kicked = 1;
	arrive(HV_VECTOR_KICK, false);
	assert_false(lp_handle_interrupts(lp));
	assert_false(child->pending & VP_PENDING_SCHEDULE); /* it was for the one that runs */
	atomic_store(&lp->wakes, vp);
	lp->kicked = 1;
	arrive(HV_VECTOR_KICK, false);
	assert_false(lp_handle_interrupts(lp));
	assert_true(child->pending & VP_PENDING_LOOK);
	assert_int_equal(lp->kicks_taken, 2);
	free(child);
}

/* Random arrivals and completions: every vector accepted is ended exactly once, never while the guest still has it. */
static void random_order(void **state)
{
	bool guest_has[256] = { false };
	const char *seed = getenv("SEED");

	(void)state;
	srandom(seed ? (unsigned int)atoi(seed) : 1u);
	for (int i = 0; i < 200000; i++) {
		uint8_t vector = (uint8_t)(0x20 + random() % 0xc0);
		int top = -1;

		for (int v = 255; v >= 0 && top < 0; v--)
			if (isr[v])
				top = v;
		if (random() % 2 && (vector >> 4) > (top >> 4)) {
			bool level = random() % 2;

			arrive(vector, level);
			lp_handle_interrupts(lp);
			guest_has[vector] = level;
		} else if (guest_has[vector]) {
			guest_has[vector] = false;
			lp_complete_level(lp, vector);
		}
		for (int v = 0; v < 256; v++)
			if (guest_has[v])
				assert_true(isr[v]);
	}
	for (int v = 0; v < 256; v++)
		if (guest_has[v])
			lp_complete_level(lp, (uint8_t)v);
	for (int v = 0; v < 256; v++)
		assert_false(isr[v]);
	assert_int_equal(lp->in_service_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(edge_is_ended_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(level_waits_for_the_guest, setup, teardown),
		cmocka_unit_test_setup_teardown(refused_level_is_parked, setup, teardown),
		cmocka_unit_test_setup_teardown(eoi_order_follows_the_hardware, setup, teardown),
		cmocka_unit_test_setup_teardown(edge_below_outstanding_level_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(edge_above_outstanding_level_is_ended_at_once, setup,
						teardown),
		cmocka_unit_test_setup_teardown(vector_not_in_service_is_an_8259s, setup, teardown),
		cmocka_unit_test_setup_teardown(spurious_is_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_is_ours_only_when_it_fired, setup, teardown),
		cmocka_unit_test_setup_teardown(earlier_of_two_timers, setup, teardown),
		cmocka_unit_test_setup_teardown(kick_is_ours_only_when_sent, setup, teardown),
		cmocka_unit_test_setup_teardown(own_kicks_are_never_a_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(nmi_becomes_the_vps, setup, teardown),
		cmocka_unit_test_setup_teardown(interrupt_of_the_root_wakes_it, setup, teardown),
		cmocka_unit_test_setup_teardown(nmi_wakes_the_root, setup, teardown),
		cmocka_unit_test_setup_teardown(kick_for_another_vp_ends_the_slice, setup, teardown),
		cmocka_unit_test_setup_teardown(unparking_leaves_what_the_guest_has, setup, teardown),
		cmocka_unit_test_setup_teardown(abandoned_levels_are_ended, setup, teardown),
		cmocka_unit_test_setup_teardown(stale_timer_is_not_a_devices, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_that_fires_while_it_is_set_anew_is_not_a_devices, setup,
						teardown),
		cmocka_unit_test_setup_teardown(timer_that_fires_behind_a_stale_one_is_not_a_devices, setup,
						teardown),
		cmocka_unit_test_setup_teardown(notification_is_ours_where_vectors_are_posted, setup,
						teardown),
		cmocka_unit_test_setup_teardown(no_kick_for_a_processor_that_is_down, setup, teardown),
		cmocka_unit_test_setup_teardown(a_kick_waits_for_the_icr, setup, teardown),
		cmocka_unit_test_setup_teardown(kick_from_nmi_leaves_the_icr, setup, teardown),
		cmocka_unit_test_setup_teardown(random_order, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
