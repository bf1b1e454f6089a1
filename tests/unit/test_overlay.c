/* unit: core/overlay.c core/hypercall_page.c core/second_stage.c core/page_alloc.c core/page_source.c svm/npt.c */
/* SPDX-License-Identifier: MIT */
/*
 * Overlay pages on real second-stage tables: what a processor would find at every page that matters, that all comes back, and
 * that nothing is lost when memory runs out or VPs race. The hypercall page's rules, too.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/msr.h>
#include <trivet/backend.h>
#include <trivet/flush.h>
#include <trivet/host_memory.h>
#include <trivet/hv_msr.h>
#include <trivet/hypercall_page.h>
#include <trivet/log.h>
#include <trivet/overlay.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#include "../../svm/npt.h"

#define ARENA_PAGES 1024u
#define ARENA_HPA 0x180000000ull /* behind the RAM */
#define RAM_BYTES (4 * SIZE_1G)
#define GPA_BITS 40u
#define RAM_GPN 0x12345ull
#define OTHER_GPN 0x54321ull

static uint8_t *arena;
struct page_pool host_pool;
static struct partition partition;
static struct vp vps[2];
static unsigned int flushes;
static bool deposited, beneath_fails;

enum log_level log_threshold = LOG_ERROR;

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
	return deposited && page == RAM_GPN;
}

/* Every processor has flushed at once. */
void device_interrupts_reset(struct partition *of)
{
	(void)of;
}

void flush_and_reclaim(struct partition *of, struct vp *self)
{
	(void)self;
	spin_lock(&of->space_lock);
	flushes += ss_needs_flush(&of->space);
	ss_note_flush(&of->space, of->space.generation);
	ss_reclaim(&of->space);
	spin_unlock(&of->space_lock);
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

	if (beneath_fails)
		return -ENOMEM;
	if (gpa >= RAM_BYTES)
		return ss_unmap(&of->space, GPA(gpa), PAGE_SIZE);
	return ss_map(&of->space, GPA(gpa), HPA(gpa), PAGE_SIZE, SS_RWX, 0);
}

static void begin_as(bool identity)
{
	memset(&partition, 0, sizeof(partition));
	memset(vps, 0, sizeof(vps));
	partition.id = 1;
	partition.hv = true;
	partition.pages = &host_pages;
	partition.features = HV_FEATURE_HYPERCALL_MSR_LOCK;
	partition.space_lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_PARTITION);
	vps[0].partition = vps[1].partition = &partition;
	assert_int_equal(page_pool_init(&host_pool, arena, ARENA_PAGES), 0);
	assert_int_equal(ss_init(&partition.space, &ss_format_npt, &host_pages, SS_1G_PAGES), 0);
	assert_int_equal(ss_map(&partition.space, GPA(0), HPA(0), RAM_BYTES, SS_RWX, 0), 0);
	overlay_space_init(&partition, GPA_BITS, identity, map_beneath);
	deposited = beneath_fails = false;
	flushes = 0;
}

static void begin(void)
{
	begin_as(true);
}

static struct overlay make(enum overlay_kind kind)
{
	struct overlay overlay = { 0 };

	assert_int_equal(overlay_init(&partition, &overlay, kind), 0);
	return overlay;
}

static uint64_t own_gpn(const struct overlay *overlay)
{
	return hv_virt_to_phys(overlay->content).v >> PAGE_SHIFT;
}

static void assert_shows(uint64_t gpn, const struct overlay *overlay, unsigned int perm)
{
	struct ss_mapping mapping;

	assert_true(ss_lookup(&partition.space, GPA(gpn << PAGE_SHIFT), &mapping));
	assert_int_equal(mapping.hpa.v, hv_virt_to_phys(overlay->content).v);
	assert_int_equal(mapping.perm, perm);
}

static void assert_plain(uint64_t gpn)
{
	struct ss_mapping mapping;

	if (gpn << PAGE_SHIFT >= RAM_BYTES) {
		assert_false(ss_lookup(&partition.space, GPA(gpn << PAGE_SHIFT), NULL));
		return;
	}
	assert_true(ss_lookup(&partition.space, GPA(gpn << PAGE_SHIFT), &mapping));
	assert_int_equal(mapping.hpa.v, gpn << PAGE_SHIFT);
	assert_int_equal(mapping.perm, SS_RWX);
}

static uint64_t at(uint64_t gpn)
{
	return gpn << PAGE_SHIFT | OVERLAY_MSR_ENABLE;
}

static int write(struct overlay *overlay, uint64_t value)
{
	return overlay_write_msr(&partition, &vps[0], overlay, value);
}

/* ---- Reset values, enabling, moving ---- */

static void test_reset_value(void **state)
{
	struct overlay root, child;

	(void)state;
	begin_as(true);
	root = make(OVERLAY_SIMP);
	assert_int_equal(overlay_read_msr(&root), own_gpn(&root) << PAGE_SHIFT);
	assert_false(overlay_enabled(&root));
	assert_plain(own_gpn(&root));
	begin_as(false);
	child = make(OVERLAY_SIMP);
	assert_int_equal(overlay_read_msr(&child), 0);
}

static void test_where_the_hypervisor_says(void **state)
{
	static const unsigned int perms[OVERLAY_KIND_COUNT] = {
		[OVERLAY_HYPERCALL] = SS_READ | SS_EXEC,  [OVERLAY_REFERENCE_TSC] = SS_READ,
		[OVERLAY_VP_ASSIST] = SS_READ | SS_WRITE, [OVERLAY_SIMP] = SS_READ | SS_WRITE,
		[OVERLAY_SIEFP] = SS_READ | SS_WRITE,	  [OVERLAY_SIRBP] = SS_READ | SS_WRITE,
	};

	(void)state;
	begin();
	for (uint32_t kind = 0; kind < OVERLAY_KIND_COUNT; kind++) {
		struct overlay overlay = make((enum overlay_kind)kind);
		size_t tables = partition.space.table_pages;
		uint64_t msr = overlay_read_msr(&overlay);

		assert_int_equal(write(&overlay, msr | 1), 0);
		assert_int_equal(overlay_read_msr(&overlay), msr | 1);
		assert_shows(own_gpn(&overlay), &overlay, perms[kind]);
		assert_int_equal(partition.overlays.displaced, 0);
		assert_plain(own_gpn(&overlay) + 1);
		assert_int_equal(write(&overlay, msr), 0);
		assert_plain(own_gpn(&overlay));
		assert_int_equal(partition.space.table_pages, tables);
		overlay_destroy(&overlay);
	}
}

static void test_over_memory(void **state)
{
	struct overlay overlay;
	size_t tables, pages;

	(void)state;
	begin();
	overlay = make(OVERLAY_SIMP);
	tables = partition.space.table_pages;
	pages = page_pool_free_pages(&host_pool);
	assert_int_equal(write(&overlay, at(RAM_GPN) | 0x5a8), 0); /* bits 11:1 are kept */
	assert_int_equal(overlay_read_msr(&overlay), at(RAM_GPN) | 0x5a8);
	assert_shows(RAM_GPN, &overlay, SS_READ | SS_WRITE);
	assert_int_equal(partition.overlays.displaced, 1);
	assert_plain(RAM_GPN - 1);
	assert_plain(RAM_GPN + 1);
	assert_plain(own_gpn(&overlay));
	assert_int_equal(flushes, 1);
	assert_int_equal(write(&overlay, at(RAM_GPN)), 0); /* again: nothing to do */
	assert_int_equal(flushes, 1);
	assert_int_equal(write(&overlay, RAM_GPN << PAGE_SHIFT), 0);
	assert_plain(RAM_GPN);
	assert_int_equal(flushes, 2);
	assert_int_equal(partition.overlays.displaced, 0);
	assert_int_equal(partition.space.table_pages, tables);
	assert_int_equal(page_pool_free_pages(&host_pool), pages);
}

static void test_move_keeps_content(void **state)
{
	struct overlay overlay;
	void *content;

	(void)state;
	begin();
	overlay = make(OVERLAY_SIEFP);
	content = overlay_content(&overlay);
	memset(content, 0xa5, PAGE_SIZE);
	assert_int_equal(write(&overlay, at(RAM_GPN)), 0);
	assert_int_equal(write(&overlay, at(OTHER_GPN)), 0);
	assert_plain(RAM_GPN);
	assert_shows(OTHER_GPN, &overlay, SS_READ | SS_WRITE);
	assert_int_equal(write(&overlay, 0), 0);
	assert_plain(OTHER_GPN);
	assert_ptr_equal(overlay_content(&overlay), content);
	assert_int_equal(((uint8_t *)content)[0], 0xa5);
	assert_int_equal(((uint8_t *)content)[PAGE_SIZE - 1], 0xa5);
	assert_int_equal(overlay_reset(&partition, &vps[0], &overlay), 0);
	assert_int_equal(((uint8_t *)content)[PAGE_SIZE - 1], 0xa5);
	assert_int_equal(overlay_read_msr(&overlay), own_gpn(&overlay) << PAGE_SHIFT);
}

static void test_one_on_another(void **state)
{
	struct overlay a, b, c;

	(void)state;
	begin();
	a = make(OVERLAY_SIMP);
	b = make(OVERLAY_REFERENCE_TSC);
	c = make(OVERLAY_SIEFP);
	assert_int_equal(write(&a, at(RAM_GPN)), 0);
	assert_int_equal(write(&b, at(RAM_GPN)), 0);
	assert_shows(RAM_GPN, &b, SS_READ);
	assert_int_equal(write(&c, at(RAM_GPN + OVERLAY_BUCKETS)), 0); /* the same bucket */
	assert_shows(RAM_GPN, &b, SS_READ);
	assert_int_equal(write(&b, 0), 0);
	assert_shows(RAM_GPN, &a, SS_READ | SS_WRITE);
	assert_int_equal(write(&b, at(RAM_GPN)), 0);
	assert_int_equal(write(&a, 0), 0); /* from below: nothing is to be seen of it */
	assert_shows(RAM_GPN, &b, SS_READ);
	assert_int_equal(write(&b, 0), 0);
	assert_plain(RAM_GPN);
	assert_shows(RAM_GPN + OVERLAY_BUCKETS, &c, SS_READ | SS_WRITE);
	assert_int_equal(write(&c, 0), 0);
	assert_plain(RAM_GPN + OVERLAY_BUCKETS);
}

static void test_beyond_the_address_width(void **state)
{
	struct overlay overlay;
	uint64_t last = (BIT(GPA_BITS) >> PAGE_SHIFT) - 1;

	(void)state;
	begin();
	overlay = make(OVERLAY_SIMP);
	assert_int_equal(write(&overlay, at(RAM_GPN)), 0);
	assert_int_equal(write(&overlay, at(last + 1)), -EINVAL);
	assert_int_equal(write(&overlay, UINT64_MAX), -EINVAL);
	assert_int_equal(overlay_read_msr(&overlay), at(RAM_GPN));
	assert_shows(RAM_GPN, &overlay, SS_READ | SS_WRITE);
	assert_int_equal(write(&overlay, at(last)), 0);
	assert_shows(last, &overlay, SS_READ | SS_WRITE);
	assert_int_equal(write(&overlay, (last + 1) << PAGE_SHIFT), 0); /* disabled: only a number */
	assert_plain(last);
}

static void test_deposited_page(void **state)
{
	struct overlay overlay;

	(void)state;
	begin();
	overlay = make(OVERLAY_SIMP);
	deposited = true;
	assert_int_equal(write(&overlay, at(RAM_GPN)), -EINVAL);
	assert_int_equal(write(&overlay, at(RAM_GPN + 1)), 0);
}

static void test_local_apic_stays_on_top(void **state)
{
	const uint64_t apic_gpn = APIC_BASE_DEFAULT >> PAGE_SHIFT;
	struct overlay overlay;

	(void)state;
	begin();
	overlay = make(OVERLAY_SIMP);
	assert_int_equal(write(&overlay, at(apic_gpn)), 0);
	assert_int_equal(overlay_read_msr(&overlay), at(apic_gpn));
	assert_plain(apic_gpn);
	assert_null(overlay_at(&partition, GPA(APIC_BASE_DEFAULT), false));
	assert_int_equal(write(&overlay, 0), 0);
	assert_plain(apic_gpn);
}

/* ---- No memory left ---- */

static void test_out_of_tables(void **state)
{
	struct overlay overlay, other;
	int failures = 0;

	(void)state;
	begin();
	overlay = make(OVERLAY_SIMP);
	other = make(OVERLAY_SIEFP);
	assert_int_equal(write(&other, at(RAM_GPN)), 0);
	for (uint64_t n = 1;; n++) {
		size_t pages = page_pool_free_pages(&host_pool);
		int err;

		page_pool_fail_nth(&host_pool, n);
		err = write(&overlay, at(OTHER_GPN));
		page_pool_fail_nth(&host_pool, 0);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		failures++;
		assert_int_equal(overlay_read_msr(&overlay), own_gpn(&overlay) << PAGE_SHIFT);
		assert_plain(OTHER_GPN);
		assert_int_equal(page_pool_free_pages(&host_pool), pages);
	}
	assert_int_equal(failures, 2); /* one table for 1 GiB, one for 2 MiB */
	assert_shows(OTHER_GPN, &overlay, SS_READ | SS_WRITE);
	/* A move that fails leaves it where it is. */
	page_pool_fail_nth(&host_pool, 1);
	assert_int_equal(write(&overlay, at(0x90000)), -ENOMEM);
	page_pool_fail_nth(&host_pool, 0);
	assert_int_equal(overlay_read_msr(&overlay), at(OTHER_GPN));
	assert_shows(OTHER_GPN, &overlay, SS_READ | SS_WRITE);
	assert_plain(0x90000);
	/* Going needs no memory. */
	page_pool_fail_nth(&host_pool, 1);
	assert_int_equal(write(&overlay, 0), 0);
	assert_int_equal(write(&other, 0), 0);
	page_pool_fail_nth(&host_pool, 0);
	assert_plain(OTHER_GPN);
	assert_plain(RAM_GPN);
}

/* What lay beneath may not be mappable. */
static void test_nothing_to_restore_with(void **state)
{
	struct overlay a, b;

	(void)state;
	begin();
	a = make(OVERLAY_SIMP);
	b = make(OVERLAY_REFERENCE_TSC);
	assert_int_equal(write(&a, at(RAM_GPN)), 0);
	assert_int_equal(write(&b, at(OTHER_GPN)), 0);
	beneath_fails = true;
	assert_int_equal(write(&a, 0), -ENOMEM);
	assert_int_equal(overlay_read_msr(&a), at(RAM_GPN));
	assert_shows(RAM_GPN, &a, SS_READ | SS_WRITE);
	assert_int_equal(write(&a, at(OTHER_GPN)), -ENOMEM);
	assert_int_equal(overlay_read_msr(&a), at(RAM_GPN));
	assert_shows(RAM_GPN, &a, SS_READ | SS_WRITE);
	assert_shows(OTHER_GPN, &b, SS_READ);
	assert_int_equal(partition.overlays.displaced, 2);
	beneath_fails = false;
	assert_int_equal(write(&a, 0), 0);
	assert_int_equal(write(&b, 0), 0);
	assert_plain(RAM_GPN);
	assert_plain(OTHER_GPN);
}

/* ---- Looking ---- */

static void test_the_hypervisors_own_accesses(void **state)
{
	struct overlay rw, ro;

	(void)state;
	begin();
	rw = make(OVERLAY_SIMP);
	ro = make(OVERLAY_REFERENCE_TSC);
	assert_null(overlay_at(&partition, GPA(RAM_GPN << PAGE_SHIFT), false));
	assert_int_equal(write(&rw, at(RAM_GPN)), 0);
	assert_int_equal(write(&ro, at(OTHER_GPN)), 0);
	assert_ptr_equal(overlay_at(&partition, GPA((RAM_GPN << PAGE_SHIFT) + 0x123), true),
			 (uint8_t *)rw.content + 0x123);
	assert_ptr_equal(overlay_at(&partition, GPA(OTHER_GPN << PAGE_SHIFT), false), ro.content);
	assert_null(overlay_at(&partition, GPA(OTHER_GPN << PAGE_SHIFT), true));
	assert_null(overlay_at(&partition, GPA((RAM_GPN + 1) << PAGE_SHIFT), false));
	assert_null(overlay_at(&partition, GPA(UINT64_MAX), false));
	assert_true(overlay_in_range(&partition, RAM_GPN << PAGE_SHIFT, (RAM_GPN + 1) << PAGE_SHIFT));
	assert_false(overlay_in_range(&partition, (RAM_GPN + 1) << PAGE_SHIFT, OTHER_GPN << PAGE_SHIFT));
	assert_true(overlay_in_range(&partition, 0, UINT64_MAX));
}

/* ---- The hypercall page ---- */

static uint64_t read_hypercall(void)
{
	uint64_t value;

	assert_int_equal(hv_msr_read_hypercall(&vps[0], HV_MSR_HYPERCALL, &value), 0);
	return value;
}

static int write_hypercall(uint64_t value)
{
	return hv_msr_write_hypercall(&vps[0], HV_MSR_HYPERCALL, value);
}

static int write_os_id(uint64_t value)
{
	return hv_msr_write_guest_os_id(&vps[0], HV_MSR_GUEST_OS_ID, value);
}

/* XSA-466, 469: nothing else is in the page. */
static void hazard_xsa_466_page_is_opcode_and_return(void **state)
{
	const uint8_t *code;

	(void)state;
	begin();
	assert_int_equal(hypercall_page_init(&partition), 0);
	code = overlay_content(&partition.hypercall_page);
	assert_memory_equal(code, "\x0f\x01\xd9\xc3", 4);
	for (size_t i = 4; i < PAGE_SIZE; i++)
		assert_int_equal(code[i], 0xcc);
}

static void test_identity_comes_first(void **state)
{
	uint64_t value;

	(void)state;
	begin();
	assert_int_equal(hypercall_page_init(&partition), 0);
	assert_int_equal(write_hypercall(at(RAM_GPN)), 0);
	assert_int_equal(read_hypercall(), RAM_GPN << PAGE_SHIFT); /* the bit stays 0 */
	assert_plain(RAM_GPN);
	assert_int_equal(write_os_id(0x8100ull << 48), 0);
	assert_int_equal(hv_msr_read_guest_os_id(&vps[1], HV_MSR_GUEST_OS_ID, &value), 0);
	assert_int_equal(value, 0x8100ull << 48);
	assert_int_equal(write_hypercall(at(RAM_GPN)), 0);
	assert_int_equal(read_hypercall(), at(RAM_GPN));
	assert_shows(RAM_GPN, &partition.hypercall_page, SS_READ | SS_EXEC);
	assert_int_equal(write_os_id(0), 0);
	assert_int_equal(read_hypercall(), RAM_GPN << PAGE_SHIFT);
	assert_plain(RAM_GPN);
}

static void test_lock(void **state)
{
	(void)state;
	begin();
	assert_int_equal(hypercall_page_init(&partition), 0);
	assert_int_equal(write_os_id(1), 0);
	assert_int_equal(write_hypercall(at(RAM_GPN) | HV_HYPERCALL_MSR_LOCKED), 0);
	assert_int_equal(write_hypercall(at(OTHER_GPN)), -EINVAL);
	assert_int_equal(write_hypercall(0), -EINVAL);
	assert_int_equal(write_os_id(0), 0);
	assert_int_equal(read_hypercall(), at(RAM_GPN) | HV_HYPERCALL_MSR_LOCKED);
	assert_shows(RAM_GPN, &partition.hypercall_page, SS_READ | SS_EXEC);
	/* Without the feature it is a bit like the others that are only kept. */
	partition.features = 0;
	assert_int_equal(write_hypercall(OTHER_GPN << PAGE_SHIFT), 0);
	assert_plain(RAM_GPN);
}

/* ---- Hazard: two VPs write the partition's MSRs (XSA-472) ---- */

#define RACES 20000u

struct racer {
	struct vp *vp;
	struct overlay *own;
	unsigned int seed;
};

static void *race(void *argument)
{
	struct racer *racer = argument;

	for (unsigned int i = 0; i < RACES; i++) {
		unsigned int dice = (unsigned int)rand_r(&racer->seed);
		uint64_t gpn = (dice >> 8 & 1 ? RAM_GPN : OTHER_GPN) + (dice >> 9 & 3);

		if (dice % 8 == 0)
			hv_msr_write_guest_os_id(racer->vp, HV_MSR_GUEST_OS_ID, dice >> 12 & 1);
		else if (dice % 8 < 5)
			hv_msr_write_hypercall(racer->vp, HV_MSR_HYPERCALL,
					       gpn << PAGE_SHIFT | (dice >> 12 & 1));
		else
			overlay_write_msr(&partition, racer->vp, racer->own,
					  gpn << PAGE_SHIFT | (dice >> 12 & 1));
	}
	return NULL;
}

static void check_agreement(struct overlay *overlay)
{
	uint64_t msr = overlay_read_msr(overlay);

	assert_int_equal(overlay->mapped, overlay_enabled(overlay));
	if (overlay->mapped)
		assert_int_equal(overlay->gpn, msr >> PAGE_SHIFT);
}

static void hazard_xsa_472_racing_vps(void **state)
{
	struct overlay own[2];
	struct racer racers[2];
	pthread_t threads[2];
	size_t pages, tables;

	(void)state;
	begin();
	assert_int_equal(hypercall_page_init(&partition), 0);
	partition.features = 0;
	for (unsigned int i = 0; i < 2; i++) {
		own[i] = make(OVERLAY_VP_ASSIST);
		racers[i] = (struct racer){ &vps[i], &own[i], i + 1 };
	}
	pages = page_pool_free_pages(&host_pool);
	tables = partition.space.table_pages;
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	for (unsigned int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	check_agreement(&partition.hypercall_page);
	check_agreement(&own[0]);
	check_agreement(&own[1]);
	if (!partition.guest_os_id)
		assert_false(overlay_enabled(&partition.hypercall_page));
	assert_int_equal(write_os_id(0), 0);
	assert_int_equal(write(&own[0], 0), 0);
	assert_int_equal(write(&own[1], 0), 0);
	for (uint64_t i = 0; i < 4; i++) {
		assert_plain(RAM_GPN + i);
		assert_plain(OTHER_GPN + i);
	}
	assert_int_equal(partition.overlays.displaced, 0);
	assert_int_equal(partition.space.table_pages, tables);
	assert_int_equal(page_pool_free_pages(&host_pool), pages);
	page_pool_check(&host_pool);
}

static int group_setup(void **state)
{
	(void)state;
	arena = aligned_alloc(SIZE_2M, ARENA_PAGES * PAGE_SIZE);
	return arena ? 0 : -1;
}

static int group_teardown(void **state)
{
	(void)state;
	free(arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_value),
		cmocka_unit_test(test_where_the_hypervisor_says),
		cmocka_unit_test(test_over_memory),
		cmocka_unit_test(test_move_keeps_content),
		cmocka_unit_test(test_one_on_another),
		cmocka_unit_test(test_beyond_the_address_width),
		cmocka_unit_test(test_deposited_page),
		cmocka_unit_test(test_local_apic_stays_on_top),
		cmocka_unit_test(test_out_of_tables),
		cmocka_unit_test(test_nothing_to_restore_with),
		cmocka_unit_test(test_the_hypervisors_own_accesses),
		cmocka_unit_test(hazard_xsa_466_page_is_opcode_and_return),
		cmocka_unit_test(test_identity_comes_first),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(hazard_xsa_472_racing_vps),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
