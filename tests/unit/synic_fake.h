/* SPDX-License-Identifier: MIT */
/*
 * VPs with a SynIC for tests: the real local APIC model and page pool; overlays that are just their page; a clock that stands still until
 * told, 10 TSC ticks to 100 ns.
 */
#ifndef TRIVET_TESTS_SYNIC_FAKE_H
#define TRIVET_TESTS_SYNIC_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <hv/cpuid.h>
#include <hv/msr.h>
#include <hv/port.h>
#include <hv/status.h>
#include <hv/synic.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall.h>
#include <trivet/intercept.h>
#include <trivet/page_alloc.h>
#include <trivet/page_source.h>
#include <trivet/partition.h>
#include <trivet/port.h>
#include <trivet/synic.h>
#include <trivet/synthetic_timer.h>
#include <trivet/vp.h>

#define FAKE_VPS 3
#define POOL_PAGES 512

static struct partition part;
static struct vp *vps[FAKE_VPS];
static struct lp *lps[FAKE_VPS];
struct page_pool host_pool;
static uint64_t now_100ns, ratio_is_rounded_up, ticks_per_100ns;
static _Atomic unsigned int kicks, timer_updates, mode_changes;
static size_t pool_pages_at_start;

/* ---- The machine ---- */

uint64_t rdtsc(void)
{
	return now_100ns * ticks_per_100ns;
}

void lp_kick(struct lp *lp)
{
	(void)lp;
	kicks++;
}

void vp_notify(struct vp *vp)
{
	(void)vp;
	kicks++;
}

void lp_timer_update(struct lp *lp)
{
	(void)lp;
	timer_updates++;
}

_Noreturn void panic(const char *fmt, ...)
{
	fprintf(stderr, "panic: %s\n", fmt);
	abort();
}

/* ---- Intercepts: those of child 7's VP 3 ---- */

static struct vp_intercepts fake_intercepts;
static uint16_t told_deliverable; /* SINTs */
static bool has_intercept;	  /* nothing else can be told */

bool intercept_is_dead(const struct synic_message *message)
{
	assert_ptr_equal(message, &fake_intercepts.link);
	return fake_intercepts.link_posted & INTERCEPT_DEAD;
}

void intercept_take_message(struct synic_message *message, struct hv_message *content)
{
	assert_ptr_equal(message, &fake_intercepts.link);
	assert_false(message->queued);
	if (content) {
		content->type = HV_MESSAGE_OPAQUE_INTERCEPT;
		content->sender = 7;
		content->payload_bytes = 4;
		content->payload.qwords[0] = 3;
	}
	fake_intercepts.link_posted = 0;
}

bool intercept_sint_deliverable(struct vp *vp, uint16_t sints)
{
	(void)vp;
	if (has_intercept)
		return false;
	told_deliverable = sints;
	return true;
}

/* ---- The clock ---- */

static bool time_stands, vp_is_away;

uint64_t reference_time_100ns(const struct partition *partition)
{
	assert_ptr_equal(partition, &part);
	return now_100ns;
}

uint64_t reference_time_to_tsc(const struct partition *partition, uint64_t time_100ns)
{
	assert_ptr_equal(partition, &part);
	if (time_stands)
		return time_100ns > now_100ns ? UINT64_MAX : rdtsc();
	return time_100ns > UINT64_MAX / ticks_per_100ns ? UINT64_MAX : time_100ns * ticks_per_100ns;
}

bool reference_time_is_frozen(const struct partition *partition)
{
	assert_ptr_equal(partition, &part);
	return time_stands;
}

bool vp_is_loaded_here(const struct vp *vp)
{
	(void)vp;
	return !vp_is_away;
}

uint64_t tsc_from_100ns(const struct reference_time *time, uint64_t duration_100ns)
{
	assert_ptr_equal(time, &part.reference_time);
	return duration_100ns * ticks_per_100ns + ratio_is_rounded_up;
}

/* ---- Overlays: a page, and an MSR ---- */

static bool overlay_refuses;

int overlay_init(struct partition *partition, struct overlay *overlay, enum overlay_kind kind)
{
	(void)partition;
	overlay->content = page_alloc(&host_pool, 0);
	overlay->kind = (uint8_t)kind;
	return overlay->content ? 0 : -ENOMEM;
}

void overlay_destroy(struct overlay *overlay)
{
	if (overlay->content)
		page_free(&host_pool, overlay->content, 0);
	memset(overlay, 0, sizeof(*overlay));
}

int overlay_write_msr(struct partition *partition, struct vp *self, struct overlay *overlay, uint64_t value)
{
	(void)partition;
	(void)self;
	if (overlay_refuses)
		return -EINVAL;
	overlay->msr = value;
	return 0;
}

/* ---- What the APIC model asks; vp_send_fixed() and the end of an interrupt as in core/vp_apic.c ---- */

void apic_host_send_ipi(struct apic *apic, const struct apic_ipi *ipi)
{
	(void)apic;
	(void)ipi;
}

static struct vp *vp_of(struct apic *apic)
{
	return container_of(apic, struct vp, apic);
}

void apic_host_level_eoi(struct apic *apic, uint8_t vector)
{
	(void)vector;
	synic_scan(vp_of(apic), &vp_of(apic)->synic);
}

void apic_host_timer_changed(struct apic *apic)
{
	(void)apic;
}

void apic_host_lvt_changed(struct apic *apic, enum apic_lvt which, uint32_t value)
{
	(void)apic;
	(void)which;
	(void)value;
}

void apic_host_mode_changed(struct apic *apic)
{
	(void)apic;
	mode_changes++;
}

uint64_t apic_host_now_tsc(struct apic *apic)
{
	(void)apic;
	return rdtsc();
}

void vp_send_fixed(struct vp *target, struct vp *sender, uint8_t vector)
{
	if (target == sender) {
		if (apic_accept(&target->apic, vector, false))
			vp_post_self(target, VP_PENDING_EVENT);
	} else if (apic_post(&target->apic, vector, false)) {
		vp_post(target, VP_PENDING_EVENT);
		lp_kick(target->lp);
	}
}

/* ---- Set-up ---- */

static struct vp *make_vp(struct partition *partition, uint32_t index)
{
	static const struct apic_config config = {
		.x2apic = true,
		.version = 0x14,
		.max_lvt = 6,
		.phys_bits = 40,
		.min_period_tsc = 1000,
		.clock = { .to_tsc = { .mult = 1 }, .to_ticks = { .mult = 1 } },
	};
	struct vp *vp = aligned_alloc(64, ALIGN_UP(sizeof(*vp), 64ul));

	memset(vp, 0, sizeof(*vp));
	vp->apic_page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	vp->partition = partition;
	vp->index = index;
	assert_int_equal(apic_init(&vp->apic, &config, vp->apic_page), 0);
	assert_int_equal(apic_mmio_write(&vp->apic, APIC_REG_SVR, 4, 0x1ff), 0);
	stimers_init(vp);
	assert_int_equal(synic_init(vp), 0);
	return vp;
}

static void free_vp(struct vp *vp)
{
	synic_destroy(vp);
	free(vp->apic_page);
	free(vp);
}

static void *pool_memory;

static int fake_setup(void **state)
{
	(void)state;
	pool_memory = aligned_alloc(SIZE_2M, POOL_PAGES * PAGE_SIZE);
	assert_int_equal(page_pool_init(&host_pool, pool_memory, POOL_PAGES), 0);
	pool_pages_at_start = page_pool_free_pages(&host_pool);
	memset(&part, 0, sizeof(part));
	part.id = 1;
	part.hv = true;
	part.pages = &host_pages;
	part.features = HV_FEATURE_DIRECT_TIMERS | HV_FEATURE_SINT_POLLING;
	part.ports.lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_PORTS);
	now_100ns = 1000000;
	ratio_is_rounded_up = 0;
	ticks_per_100ns = 10;
	for (uint32_t i = 0; i < FAKE_VPS; i++) {
		vps[i] = make_vp(&part, i);
		vps[i]->lp = lps[i] = calloc(1, sizeof(struct lp));
		lps[i]->vp = vps[i];
	}
	part.vps = vps;
	part.vp_count = FAKE_VPS;
	kicks = timer_updates = mode_changes = 0;
	told_deliverable = 0;
	has_intercept = false;
	memset(&fake_intercepts, 0, sizeof(fake_intercepts));
	overlay_refuses = false;
	return 0;
}

/* Every page that was taken comes back. */
static int fake_teardown(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < FAKE_VPS; i++) {
		free_vp(vps[i]);
		free(lps[i]);
	}
	port_space_destroy(&part);
	assert_int_equal(page_pool_free_pages(&host_pool), pool_pages_at_start);
	page_pool_check(&host_pool);
	free(pool_memory);
	return 0;
}

/* ---- What the guest does ---- */

typedef int (*msr_writer)(struct vp *vp, uint32_t msr, uint64_t value);
typedef int (*msr_reader)(struct vp *vp, uint32_t msr, uint64_t *value);

static inline void wr(struct vp *vp, msr_writer write, uint32_t msr, uint64_t value)
{
	assert_int_equal(write(vp, msr, value), 0);
}

static inline uint64_t rd(struct vp *vp, msr_reader read, uint32_t msr)
{
	uint64_t value = 0x5a5a5a5a5a5a5a5a;

	assert_int_equal(read(vp, msr, &value), 0);
	return value;
}

static inline void set_sint(struct vp *vp, unsigned int sint, uint64_t value)
{
	wr(vp, synic_write_sint, HV_MSR_SINT0 + sint, value);
}

static inline void enable(struct vp *vp)
{
	wr(vp, synic_write_page, HV_MSR_SIMP, 0x100001);
	wr(vp, synic_write_page, HV_MSR_SIEFP, 0x101001);
	wr(vp, synic_write_control, HV_MSR_SCONTROL, 1);
}

static inline void eom(struct vp *vp)
{
	wr(vp, synic_write_eom, HV_MSR_EOM, 0);
}

static inline struct hv_message *slot(struct vp *vp, unsigned int sint)
{
	return &((struct hv_message_page *)overlay_content(&vp->synic.message_page))->slot[sint];
}

static inline uint64_t *flags(struct vp *vp, unsigned int sint)
{
	return ((struct hv_event_flags_page *)overlay_content(&vp->synic.event_page))->sint[sint].flags64;
}

/* What the exit loop does before an entry. The vector that the guest gets, or -1. */
static inline int enter(struct vp *vp)
{
	int vector;

	if (vp->pending & VP_PENDING_SYNIC)
		synic_handle_pending(vp);
	apic_sync_posted(&vp->apic);
	vector = apic_next_vector(&vp->apic);
	if (vector >= 0)
		apic_take(&vp->apic, (uint8_t)vector);
	return vector;
}

/* The vector the guest gets, whose handler ends it. */
static inline int take(struct vp *vp)
{
	int vector = enter(vp);

	if (vector >= 0)
		apic_eoi(&vp->apic);
	return vector;
}

#endif
