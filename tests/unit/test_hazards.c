/* unit: core/overlay.c core/hypercall_page.c core/reference_time.c core/flush.c core/vp_set.c core/second_stage.c core/page_alloc.c core/page_source.c core/synic.c core/synic_msr.c core/synthetic_timer.c core/port.c core/event_ring.c core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c svm/npt.c */
/* libs: pthread */
/* SPDX-License-Identifier: MIT */
/*
 * How other hypervisors' implementations of the interface failed, where it takes more than one module to fail so: processors as
 * threads on the real tables, pages and flushes. The other rows of the list are named tests of the module they concern (docs/hacking.md).
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/msr.h>
#include <hv/time.h>
#include <trivet/backend.h>
#include <trivet/flush.h>
#include <trivet/host_memory.h>
#include <trivet/hv_msr.h>
#include <trivet/intercept.h>
#include <trivet/hypercall_page.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#include "../../svm/npt.h"

#define CPUS 2u
#define ARENA_PAGES 1024u
#define ARENA_HPA 0x180000000ull
#define RAM_BYTES (4 * SIZE_1G)
#define FIRST_GPN 0x12345ull
#define GPNS 4u
#define TSC_HZ 1000000000ull
#define ROUNDS 100000u

static uint8_t *arena;
struct page_pool host_pool;
static struct partition partition;
static struct vp *vps[CPUS];
static struct lp *lps[CPUS];
static struct apic_page apic_pages[CPUS];
static _Atomic uint64_t tsc;
static _Thread_local struct lp *current;

enum log_level log_threshold = LOG_ERROR;

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	fail_msg("logged: %s", format);
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return true;
}

hpa_t hv_virt_to_phys(const void *p)
{
	return HPA(ARENA_HPA + (uint64_t)((const uint8_t *)p - arena));
}

void *hv_phys_to_virt(hpa_t hpa)
{
	return arena + (hpa.v - ARENA_HPA);
}

bool host_memory_is_ours(hpa_t hpa, uint64_t size)
{
	return hpa.v + size > ARENA_HPA && hpa.v < ARENA_HPA + ARENA_PAGES * PAGE_SIZE;
}

bool deposit_holds(uint64_t page)
{
	(void)page;
	return false;
}

void device_interrupts_reset(struct partition *of)
{
	(void)of;
}

uint64_t rdtsc(void)
{
	return atomic_fetch_add(&tsc, 10);
}

uint64_t lp_tsc_now(uint64_t *moved)
{
	*moved = atomic_load(&current->tsc_moved);
	return rdtsc() + *moved;
}

/* The target looks by itself, in enter(). */
void vp_notify(struct vp *vp)
{
	lp_kick(vp->lp);
}

bool intercept_is_dead(const struct synic_message *message)
{
	(void)message;
	abort();
}

void intercept_take_message(struct synic_message *message, struct hv_message *content)
{
	(void)message;
	(void)content;
	abort();
}

bool intercept_sint_deliverable(struct vp *vp, uint16_t sints)
{
	(void)vp;
	(void)sints;
	abort();
}

void lp_kick(struct lp *lp)
{
	(void)lp;
	sched_yield();
}

void lp_timer_update(struct lp *lp)
{
	(void)lp;
}

/* ---- What the APIC model asks ---- */

void apic_host_send_ipi(struct apic *apic, const struct apic_ipi *ipi)
{
	(void)apic;
	(void)ipi;
}

void apic_host_level_eoi(struct apic *apic, uint8_t vector)
{
	(void)apic;
	(void)vector;
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
}

uint64_t apic_host_now_tsc(struct apic *apic)
{
	(void)apic;
	return rdtsc();
}

void vp_send_fixed(struct vp *target, struct vp *sender, uint8_t vector)
{
	assert_ptr_equal(target, sender);
	apic_accept(&target->apic, vector, false);
}

static unsigned int one_memory_type(uint64_t start, uint64_t *end)
{
	(void)start;
	(void)end;
	return 0;
}

static const struct backend fake_backend = {
	.hypercall_code = { 0x0f, 0x01, 0xd9, 0xc3 },
	.memory_type = one_memory_type,
};
const struct backend *backend = &fake_backend;

static int map_beneath(struct partition *of, uint64_t gpn, uint64_t beneath)
{
	(void)beneath;
	uint64_t gpa = gpn << PAGE_SHIFT;

	return gpa < RAM_BYTES ? ss_map(&of->space, GPA(gpa), HPA(gpa), PAGE_SIZE, SS_RWX, 0) :
				 ss_unmap(&of->space, GPA(gpa), PAGE_SIZE);
}

/* ---- A partition with two VPs ---- */

static void make_vp(uint32_t index)
{
	static const struct apic_config config = {
		.version = 0x14,
		.max_lvt = 6,
		.phys_bits = 40,
		.min_period_tsc = 1000,
		.clock = { .to_tsc = { .mult = 1 }, .to_ticks = { .mult = 1 } },
	};
	struct vp *vp = aligned_alloc(64, ALIGN_UP(sizeof(*vp), 64ul));

	memset(vp, 0, sizeof(*vp));
	vp->partition = &partition;
	vp->index = index;
	vp->lp = lps[index] = calloc(1, sizeof(struct lp));
	vp->lp->vp = vp;
	vp->idle = true;
	atomic_store(&vp->lp->state, LP_ONLINE);
	assert_int_equal(apic_init(&vp->apic, &config, &apic_pages[index]), 0);
	assert_int_equal(apic_mmio_write(&vp->apic, APIC_REG_SVR, 4, 0x1ff), 0);
	stimers_init(vp);
	assert_int_equal(synic_init(vp), 0);
	vps[index] = vp;
}

static int setup(void **state)
{
	(void)state;
	arena = aligned_alloc(SIZE_2M, ARENA_PAGES * PAGE_SIZE);
	memset(&partition, 0, sizeof(partition));
	partition.id = 1;
	partition.hv = true;
	partition.pages = &host_pages;
	partition.features = HV_FEATURE_DIRECT_TIMERS;
	partition.space_lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_PARTITION);
	partition.ports.lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_PORTS);
	atomic_store(&tsc, 1000000000);
	assert_int_equal(page_pool_init(&host_pool, arena, ARENA_PAGES), 0);
	assert_int_equal(ss_init(&partition.space, &ss_format_npt, &host_pages, SS_1G_PAGES), 0);
	assert_int_equal(ss_map(&partition.space, GPA(0), HPA(0), RAM_BYTES, SS_RWX, 0), 0);
	overlay_space_init(&partition, 40, true, map_beneath);
	assert_int_equal(hypercall_page_init(&partition), 0);
	assert_int_equal(reference_time_init(&partition, TSC_HZ, atomic_load(&tsc), 0), 0);
	for (uint32_t i = 0; i < CPUS; i++)
		make_vp(i);
	partition.vps = vps;
	partition.vp_count = CPUS;
	current = lps[0];
	flush_idle_end(vps[0]);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < CPUS; i++) {
		synic_destroy(vps[i]);
		free(vps[i]);
		free(lps[i]);
	}
	overlay_destroy(&partition.hypercall_page);
	overlay_destroy(&partition.reference_time.page);
	ss_destroy(&partition.space);
	assert_int_equal(page_pool_free_pages(&host_pool), page_pool_total_pages(&host_pool));
	page_pool_check(&host_pool);
	free(arena);
	return 0;
}

/* Back to the guest and out again. */
static void enter(struct vp *vp)
{
	if (atomic_load(&vp->pending) & VP_PENDING_FLUSH)
		flush_taken(vp);
}

static void write_page_msr(struct vp *vp, unsigned int which, uint64_t value)
{
	switch (which) {
	case 0:
		assert_int_equal(hv_msr_write_hypercall(vp, HV_MSR_HYPERCALL, value), 0);
		return;
	case 1:
		assert_int_equal(synic_write_page(vp, HV_MSR_SIMP, value), 0);
		return;
	default:
		assert_int_equal(hv_msr_write_reference_tsc(vp, HV_MSR_REFERENCE_TSC, value), 0);
		return;
	}
}

/*
 * One VP's guest: the partition's two pages and its own message page go to the same few places, on and off; meanwhile the
 * hypervisor writes into them, as a timer has a message and a TSC has moved.
 */
static void *move_pages(void *context)
{
	struct vp *vp = context;
	unsigned int seed = vp->index + 1;

	current = vp->lp;
	if (vp->index)
		flush_idle_end(vp);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		unsigned int dice = (unsigned int)rand_r(&seed);
		uint64_t page = (FIRST_GPN + (dice >> 8) % GPNS) << PAGE_SHIFT;

		/* In the hypervisor it holds no translation either: then the other one doesn't wait for it, and they meet more often. */
		atomic_store(&vp->idle, dice >> 14 & 1);
		write_page_msr(vp, dice % 4, page | (dice >> 12 & 1));
		flush_idle_end(vp);
		if (dice % 32 == 0)
			hv_msr_write_guest_os_id(vp, HV_MSR_GUEST_OS_ID, dice >> 13 & 1);
		if (dice >> 5 & 1) {
			atomic_fetch_add(&vp->lp->tsc_moved, dice >> 6 & 1 ? 1000 : 0);
			reference_time_tsc_moved(&partition);
		}
		stimers_expired(vp, rdtsc());
		enter(vp);
	}
	atomic_store(&vp->idle, true);
	return NULL;
}

static void assert_agrees(const struct overlay *overlay)
{
	assert_int_equal(overlay->mapped, overlay_enabled(overlay));
	if (overlay->mapped)
		assert_int_equal(overlay->gpn, overlay_read_msr(overlay) >> PAGE_SHIFT);
}

static void hazard_xsa_472_two_vps_move_the_same_pages(void **state)
{
	pthread_t threads[CPUS];
	struct ss_mapping mapping;
	size_t pages;

	(void)state;
	hv_msr_write_guest_os_id(vps[0], HV_MSR_GUEST_OS_ID, 1);
	for (uint32_t i = 0; i < CPUS; i++) {
		current = lps[i];
		synic_write_control(vps[i], HV_MSR_SCONTROL, 1);
		synic_write_sint(vps[i], HV_MSR_SINT0 + 3, 0x50);
		stimer_write_config(vps[i], HV_MSR_STIMER0_CONFIG,
				    HV_STIMER_PERIODIC | HV_STIMER_AUTO_ENABLE |
					    3ull << HV_STIMER_SINT_SHIFT);
		stimer_write_count(vps[i], HV_MSR_STIMER0_COUNT, 10);
	}
	current = lps[0];
	/* The tables that the first overlay there needs stay. */
	write_page_msr(vps[0], 0, FIRST_GPN << PAGE_SHIFT | 1);
	write_page_msr(vps[0], 0, 0);
	pages = page_pool_free_pages(&host_pool);
	for (uint32_t i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, move_pages, vps[i]), 0);
	for (uint32_t i = 0; i < CPUS; i++)
		pthread_join(threads[i], NULL);
	assert_agrees(&partition.hypercall_page);
	assert_agrees(&partition.reference_time.page);
	assert_agrees(&vps[0]->synic.message_page);
	assert_agrees(&vps[1]->synic.message_page);
	for (unsigned int which = 0; which < 3; which++)
		write_page_msr(vps[0], which, 0);
	write_page_msr(vps[1], 1, 0);
	for (uint64_t i = 0; i < GPNS; i++) {
		assert_true(ss_lookup(&partition.space, GPA((FIRST_GPN + i) << PAGE_SHIFT), &mapping));
		assert_int_equal(mapping.hpa.v, (FIRST_GPN + i) << PAGE_SHIFT);
		assert_int_equal(mapping.perm, SS_RWX);
	}
	assert_int_equal(partition.overlays.displaced, 0);
	assert_int_equal(partition.space.retired_pages, 0);
	assert_int_equal(page_pool_free_pages(&host_pool), pages); /* none lost, and none freed twice */
}

/* Enabled after all, the page gets the message that waited. */
static void hazard_xsa_472_timer_message_without_a_page(void **state)
{
	const struct hv_message_page *page = overlay_content(&vps[0]->synic.message_page);
	static const uint8_t zeros[PAGE_SIZE];
	struct vp *vp = vps[0];

	(void)state;
	synic_write_control(vp, HV_MSR_SCONTROL, 1);
	synic_write_sint(vp, HV_MSR_SINT0 + 3, 0x50);
	stimer_write_config(vp, HV_MSR_STIMER0_CONFIG,
			    HV_STIMER_PERIODIC | HV_STIMER_AUTO_ENABLE | 3ull << HV_STIMER_SINT_SHIFT);
	stimer_write_count(vp, HV_MSR_STIMER0_COUNT, 10);
	for (unsigned int i = 0; i < 100; i++) {
		atomic_fetch_add(&tsc, 10000);
		stimers_expired(vp, rdtsc());
		if (i == 50) { /* was there for a moment; its slot is taken */
			((struct hv_message_page *)overlay_content(&vp->synic.message_page))->slot[3].type =
				1;
			write_page_msr(vp, 1, FIRST_GPN << PAGE_SHIFT | 1);
			write_page_msr(vp, 1, FIRST_GPN << PAGE_SHIFT);
			memset(overlay_content(&vp->synic.message_page), 0, PAGE_SIZE);
		}
	}
	assert_memory_equal(page, zeros, PAGE_SIZE);
	assert_int_equal(apic_pending_vector(&vp->apic), -1);
	assert_int_equal(vp->synic.queued, BIT(3));
	write_page_msr(vp, 1, FIRST_GPN << PAGE_SHIFT | 1);
	assert_int_equal(page->slot[3].type, HV_MESSAGE_TIMER_EXPIRED);
	assert_int_equal(apic_pending_vector(&vp->apic), 0x50);
	stimer_write_count(vp, HV_MSR_STIMER0_COUNT, 0);
	write_page_msr(vp, 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(hazard_xsa_472_two_vps_move_the_same_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(hazard_xsa_472_timer_message_without_a_page, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
