/* unit: core/reference_time.c */
/* SPDX-License-Identifier: MIT */
/*
 * Partition reference time: the page's formula, done here in 128 bits as the specification writes it, gives what the MSR gives, to
 * the unit; the way back from a time to a TSC is exact; and time goes on when the root writes its TSCs.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/msr.h>
#include <hv/time.h>
#include <trivet/hv_msr.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/vp.h>

#define TSC_HZ 2299991000ull
#define START 0x123456789abcull

static struct partition partition;
static struct lp lps[2];
static struct vp vps[2];
static struct vp *vp_list[2] = { &vps[0], &vps[1] };
static struct hv_reference_tsc_page page;
static _Atomic uint64_t real_tsc; /* what no write changes */
static __thread struct lp *current = &lps[0];

uint64_t lp_tsc_now(uint64_t *moved)
{
	*moved = atomic_load(&current->tsc_moved);
	return atomic_load(&real_tsc) + *moved;
}

int overlay_init(struct partition *of, struct overlay *overlay, enum overlay_kind kind)
{
	assert_ptr_equal(of, &partition);
	assert_int_equal(kind, OVERLAY_REFERENCE_TSC);
	overlay->content = &page;
	return 0;
}

int overlay_write_msr(struct partition *of, struct vp *self, struct overlay *overlay, uint64_t value)
{
	(void)of;
	(void)self;
	atomic_store(&overlay->msr, value);
	return 0;
}

static void begin_at(uint64_t tsc_hz, uint64_t tsc, uint64_t moved)
{
	memset(&partition, 0, sizeof(partition));
	memset(&page, 0, sizeof(page));
	for (unsigned int i = 0; i < 2; i++) {
		atomic_store(&lps[i].tsc_moved, moved);
		atomic_store(&lps[i].state, LP_ONLINE);
		vps[i].partition = &partition;
		vps[i].lp = &lps[i];
	}
	partition.vp_count = 2;
	partition.vps = vp_list;
	current = &lps[0];
	atomic_store(&real_tsc, tsc - moved);
	assert_int_equal(reference_time_init(&partition, tsc_hz, tsc, moved), 0);
}

static void begin(void)
{
	begin_at(TSC_HZ, START, 0);
}

static uint64_t page_time(uint64_t tsc)
{
	return (uint64_t)((unsigned __int128)tsc * page.scale >> 64) + (uint64_t)page.offset_100ns;
}

static uint64_t msr_time(void)
{
	uint64_t value;

	assert_int_equal(hv_msr_read_time_ref_count(&vps[0], HV_MSR_TIME_REF_COUNT, &value), 0);
	return value;
}

static void test_formula(void **state)
{
	static const uint64_t rates[] = {
		10000001, 999999937, 1000000000, 2299991000, 4200000000, 6000000000
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		begin_at(rates[i], START, 0);
		assert_int_equal(page.scale, (uint64_t)(((unsigned __int128)10000000 << 64) / rates[i]));
		assert_int_equal(page.sequence, 1);
		assert_int_equal(page.reserved, 0);
		assert_int_equal(msr_time(), 0);
		for (unsigned int n = 0; n < 20000; n++) {
			atomic_fetch_add(&real_tsc, (uint64_t)rand() % (n % 3 ? 1000 : 1000000000));
			assert_int_equal(msr_time(), page_time(atomic_load(&real_tsc)));
		}
	}
}

/* A day later it is a day later, to within one unit in 10^7 of the scale's rounding. */
static void test_rate(void **state)
{
	(void)state;
	begin();
	atomic_fetch_add(&real_tsc, TSC_HZ * 86400);
	assert_in_range(msr_time(), 864000000000ull - 1, 864000000000ull);
}

static void test_too_slow(void **state)
{
	(void)state;
	assert_int_equal(reference_time_init(&partition, 10000000, 0, 0), -EINVAL);
	assert_int_equal(reference_time_init(&partition, 0, 0, 0), -EINVAL);
}

static void test_to_tsc_is_the_first(void **state)
{
	uint64_t tsc;

	(void)state;
	begin();
	for (unsigned int i = 0; i < 20000; i++) {
		uint64_t time = i % 2 ? i : (uint64_t)rand() << 20 | (uint64_t)rand();

		tsc = reference_time_to_tsc(&partition, time);
		assert_true(page_time(tsc) >= time);
		assert_true((int64_t)page_time(tsc - 1) < (int64_t)time);
	}
	/* The present, and what was. */
	atomic_fetch_add(&real_tsc, TSC_HZ);
	tsc = reference_time_to_tsc(&partition, msr_time());
	assert_true(tsc <= atomic_load(&real_tsc));
	assert_true(page_time(tsc) == msr_time() && page_time(tsc - 1) == msr_time() - 1);
}

static void test_to_tsc_saturates(void **state)
{
	(void)state;
	begin();
	assert_int_equal(reference_time_to_tsc(&partition, UINT64_MAX), UINT64_MAX);
	assert_int_equal(reference_time_to_tsc(&partition, INT64_MAX), UINT64_MAX);
	assert_int_equal(reference_time_to_tsc(&partition, 1ull << 62), UINT64_MAX);
	begin_at(TSC_HZ, 5, 0);
	assert_true(page_time(reference_time_to_tsc(&partition, 0)) == 0);
}

static void test_durations(void **state)
{
	const struct reference_time *time = &partition.reference_time;

	(void)state;
	begin_at(3000000000, START, 0); /* 300 ticks a unit, the scale a little below */
	assert_int_equal(tsc_to_100ns(time, 300), 0);
	assert_int_equal(tsc_to_100ns(time, 301), 1);
	assert_int_equal(tsc_to_100ns(time, 0), 0);
	assert_int_equal(tsc_from_100ns(time, 0), 0);
	assert_int_equal(tsc_from_100ns(time, 1), 301);
	assert_int_equal(tsc_from_100ns(time, UINT64_MAX), UINT64_MAX);
	for (uint64_t units = 1; units < 1000000; units += 997) {
		uint64_t ticks = tsc_from_100ns(time, units);

		assert_int_equal(tsc_to_100ns(time, ticks), units);
		assert_int_equal(tsc_to_100ns(time, ticks - 1), units - 1);
	}
}

/* ---- The root writes its TSCs ---- */

static void move(struct lp *lp, uint64_t moved)
{
	atomic_store(&lp->tsc_moved, moved);
	reference_time_tsc_moved(&partition);
}

static void check_moves(uint64_t moved)
{
	uint64_t before, sequence;

	begin();
	atomic_fetch_add(&real_tsc, TSC_HZ);
	before = msr_time();
	sequence = page.sequence;
	move(&lps[0], moved);
	assert_int_equal(page.sequence, 0); /* the TSCs differ */
	assert_int_equal(msr_time(), before);
	current = &lps[1];
	assert_int_equal(msr_time(), before);
	move(&lps[1], moved);
	assert_int_not_equal(page.sequence, 0);
	assert_int_not_equal(page.sequence, sequence);
	for (unsigned int i = 0; i < 2; i++) {
		uint64_t tsc, at;

		current = &lps[i];
		at = lp_tsc_now(&tsc);
		assert_in_range(msr_time(), before, before + 1);
		assert_int_equal(msr_time(), page_time(at));
		tsc = reference_time_to_tsc(&partition, before + 1000);
		assert_true(page_time(tsc) >= before + 1000 && page_time(tsc - 1) < before + 1000);
	}
}

static void test_all_moved(void **state)
{
	(void)state;
	check_moves(1);
	check_moves(0x987654321);
	check_moves(0 - (uint64_t)1);
	check_moves(0 - (uint64_t)START);
	check_moves((uint64_t)1 << 62);
}

/* While they differ, a deadline is one of the LP's own TSC. */
static void test_deadline_of_a_moved_tsc(void **state)
{
	uint64_t here, there;

	(void)state;
	begin();
	here = reference_time_to_tsc(&partition, 5000);
	move(&lps[1], 777777);
	assert_int_equal(reference_time_to_tsc(&partition, 5000), here);
	current = &lps[1];
	there = reference_time_to_tsc(&partition, 5000);
	assert_int_equal(there, here + 777777);
	move(&lps[1], 0 - (uint64_t)START); /* its TSC starts again at 0 */
	assert_int_equal(reference_time_to_tsc(&partition, 5000), here - START);
	assert_int_equal(reference_time_to_tsc(&partition, 0), 0);
}

static void test_back_again(void **state)
{
	(void)state;
	begin();
	move(&lps[1], 5);
	assert_int_equal(page.sequence, 0);
	move(&lps[1], 0);
	assert_int_equal(page.sequence, 2);
	assert_int_equal(page_time(atomic_load(&real_tsc)), msr_time());
}

/* Firmware may have left TSC_ADJUST other than 0; and a processor that isn't there doesn't count. */
static void test_moved_from_the_start(void **state)
{
	(void)state;
	begin_at(TSC_HZ, START, 0x5555);
	assert_int_equal(msr_time(), 0);
	assert_int_equal(page_time(START), 0);
	atomic_store(&lps[1].state, LP_OFFLINE);
	move(&lps[1], 0);
	assert_int_equal(page.sequence, 2);
	atomic_store(&lps[1].state, LP_ONLINE);
	reference_time_tsc_moved(&partition);
	assert_int_equal(page.sequence, 0);
}

static void test_sequence_wraps(void **state)
{
	(void)state;
	begin();
	partition.reference_time.sequence = UINT32_MAX - 2;
	reference_time_tsc_moved(&partition);
	assert_int_equal(page.sequence, UINT32_MAX - 1);
	reference_time_tsc_moved(&partition);
	assert_int_equal(page.sequence, 1); /* neither all ones nor 0 */
}

static void test_without_the_interface(void **state)
{
	(void)state;
	memset(&partition, 0, sizeof(partition));
	reference_time_tsc_moved(&partition); /* a transparent root: nothing to do */
}

/* ---- A child: its VPs' TSCs have distances of their own ---- */

static struct partition parent;

static void begin_child(uint64_t offset)
{
	memset(&partition, 0, sizeof(partition));
	memset(&page, 0, sizeof(page));
	for (unsigned int i = 0; i < 2; i++) {
		atomic_store(&lps[i].tsc_moved, 1000 * (uint64_t)i); /* nothing of a child's */
		atomic_store(&lps[i].state, LP_ONLINE);
		vps[i].partition = &partition;
		vps[i].lp = &lps[i];
		vps[i].tsc_offset = offset;
	}
	partition.parent = &parent;
	partition.tsc_offset = offset;
	partition.vp_count = 2;
	partition.vps = vp_list;
	current = &lps[0];
	atomic_store(&real_tsc, START);
	assert_int_equal(reference_time_init(&partition, TSC_HZ, START + offset, offset), 0);
}

static void test_child(void **state)
{
	static const uint64_t offsets[] = { 0, 12345, 0 - (uint64_t)START };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		uint64_t before, tsc;

		begin_child(offsets[i]);
		assert_int_equal(msr_time(), 0);
		atomic_fetch_add(&real_tsc, TSC_HZ);
		current = &lps[i % 2];
		before = msr_time();
		assert_in_range(before, 9999998, 10000000);
		assert_int_equal(before, page_time(atomic_load(&real_tsc) + offsets[i]));
		/* What a root does to its own TSC is nothing to a child. */
		atomic_store(&lps[i % 2].tsc_moved, 987654321);
		reference_time_tsc_moved(&partition);
		assert_int_equal(msr_time(), before);
		assert_int_not_equal(page.sequence, 0);
		assert_int_equal(before, page_time(atomic_load(&real_tsc) + offsets[i]));
		/* Deadlines are the LP's. */
		tsc = reference_time_to_tsc(&partition, before + 1000);
		assert_true(page_time(tsc - 987654321 + offsets[i]) >= before + 1000);
		assert_true(page_time(tsc - 1 - 987654321 + offsets[i]) < before + 1000);
	}
}

static void test_child_writes_its_tsc(void **state)
{
	uint64_t before;

	(void)state;
	begin_child(0 - (uint64_t)START);
	atomic_fetch_add(&real_tsc, TSC_HZ * 1000);
	before = msr_time();
	vps[1].tsc_offset += 0x123456789a;
	reference_time_tsc_moved(&partition);
	assert_int_equal(page.sequence, 0);
	assert_int_equal(msr_time(), before);
	vps[0].tsc_offset += 0x123456789a;
	reference_time_tsc_moved(&partition);
	assert_int_not_equal(page.sequence, 0);
	assert_in_range(msr_time(), before, before + 1);
	assert_int_equal(msr_time(), page_time(atomic_load(&real_tsc) + vps[0].tsc_offset));
	/* A VP that isn't there doesn't count, and one that is deleted no longer. */
	vps[1].tsc_offset = 5;
	reference_time_tsc_moved(&partition);
	assert_int_equal(page.sequence, 0);
	vp_list[1] = NULL;
	reference_time_tsc_moved(&partition);
	assert_int_not_equal(page.sequence, 0);
	vp_list[0] = NULL;
	partition.tsc_offset = vps[0].tsc_offset;
	reference_time_tsc_moved(&partition);
	assert_int_not_equal(page.sequence, 0);
	vp_list[0] = &vps[0];
	vp_list[1] = &vps[1];
}

static void test_frozen(void **state)
{
	uint64_t before;

	(void)state;
	begin_child(777);
	atomic_fetch_add(&real_tsc, TSC_HZ);
	before = msr_time();
	reference_time_freeze(&partition, true);
	assert_true(reference_time_is_frozen(&partition));
	assert_int_equal(page.sequence, 0);
	atomic_fetch_add(&real_tsc, TSC_HZ * 100);
	assert_int_equal(msr_time(), before);
	assert_int_equal(reference_time_to_tsc(&partition, before + 1), UINT64_MAX);
	assert_true(reference_time_to_tsc(&partition, before) <= atomic_load(&real_tsc));
	reference_time_freeze(&partition, true);
	assert_int_equal(msr_time(), before);
	/* TSCs that are written meanwhile change nothing either. */
	vps[0].tsc_offset = vps[1].tsc_offset = 55555;
	reference_time_tsc_moved(&partition);
	assert_int_equal(page.sequence, 0);
	assert_int_equal(msr_time(), before);
	reference_time_freeze(&partition, false);
	assert_in_range(msr_time(), before, before + 1);
	assert_int_not_equal(page.sequence, 0);
	assert_int_equal(msr_time(), page_time(atomic_load(&real_tsc) + 55555));
	atomic_fetch_add(&real_tsc, TSC_HZ);
	assert_in_range(msr_time(), before + 9999998, before + 10000001);
	reference_time_freeze(&partition, false);
	assert_in_range(msr_time(), before + 9999998, before + 10000001);
}

static void test_set(void **state)
{
	(void)state;
	begin_child(0);
	atomic_fetch_add(&real_tsc, TSC_HZ);
	reference_time_set(&partition, 5000000000);
	assert_int_equal(msr_time(), 5000000000);
	assert_int_equal(page_time(atomic_load(&real_tsc)), 5000000000);
	reference_time_freeze(&partition, true);
	reference_time_set(&partition, 42);
	assert_int_equal(msr_time(), 42);
	assert_int_equal(page.sequence, 0);
	atomic_fetch_add(&real_tsc, TSC_HZ);
	reference_time_freeze(&partition, false);
	assert_int_equal(msr_time(), 42);
	memset(&partition.reference_time, 0, sizeof(partition.reference_time));
	reference_time_freeze(&partition, true); /* without the interface: nothing there */
	reference_time_set(&partition, 5);
	assert_false(reference_time_is_frozen(&partition));
}

static void test_msrs(void **state)
{
	uint64_t value;

	(void)state;
	begin();
	assert_int_equal(hv_msr_write_reference_tsc(&vps[0], HV_MSR_REFERENCE_TSC, 0x1234001), 0);
	assert_int_equal(hv_msr_read_reference_tsc(&vps[1], HV_MSR_REFERENCE_TSC, &value), 0);
	assert_int_equal(value, 0x1234001);
}

/* ---- Time never goes back, whatever VP asks and whoever writes a TSC meanwhile ---- */

static _Atomic uint64_t last_seen;

static void *race(void *argument)
{
	struct lp *lp = argument;
	unsigned int seed = (unsigned int)(lp - lps) + 1;
	uint64_t backwards = 0;

	current = lp;
	for (unsigned int i = 0; i < 100000; i++) {
		static const uint64_t moves[] = { 0, 123456789, 0 - (uint64_t)987654 };
		uint64_t before = atomic_load(&last_seen), now;

		if (i % 16 == 0) {
			atomic_store(&lp->tsc_moved, moves[(unsigned int)rand_r(&seed) % 3]);
			reference_time_tsc_moved(&partition);
		}
		atomic_fetch_add(&real_tsc, 50);
		now = reference_time_100ns(&partition);
		backwards += now < before;
		while (before < now && !atomic_compare_exchange_weak(&last_seen, &before, now))
			;
	}
	return (void *)backwards;
}

static void test_monotonic(void **state)
{
	pthread_t threads[2];

	(void)state;
	begin();
	atomic_store(&last_seen, 0);
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, &lps[i]), 0);
	for (unsigned int i = 0; i < 2; i++) {
		void *backwards;

		pthread_join(threads[i], &backwards);
		assert_null(backwards);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formula),
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_too_slow),
		cmocka_unit_test(test_to_tsc_is_the_first),
		cmocka_unit_test(test_to_tsc_saturates),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_all_moved),
		cmocka_unit_test(test_deadline_of_a_moved_tsc),
		cmocka_unit_test(test_back_again),
		cmocka_unit_test(test_moved_from_the_start),
		cmocka_unit_test(test_sequence_wraps),
		cmocka_unit_test(test_without_the_interface),
		cmocka_unit_test(test_child),
		cmocka_unit_test(test_child_writes_its_tsc),
		cmocka_unit_test(test_frozen),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_msrs),
		cmocka_unit_test(test_monotonic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
