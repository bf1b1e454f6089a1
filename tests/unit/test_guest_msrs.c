/* unit: core/guest_msrs.c */
/* SPDX-License-Identifier: MIT */
/* MSRs of a child's VP: the TSC that a guest or its parent writes, memory types, features, and what isn't there. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <trivet/cpuid_policy.h>
#include <trivet/guest_msrs.h>
#include <trivet/intercepts.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/safe_msr.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>

#define HZ 1000000000ull

static struct partition partition;
static struct vp_child children[2];
static struct vp *vp, *other;
static bool intel, loaded, host_has_ibpb;
static uint64_t clock_now, adjusted, flushes;
static unsigned int moves, clock_changes;

struct cpuid_regs cpuid(uint32_t leaf, uint32_t subleaf)
{
	(void)subleaf;
	assert_int_equal(leaf, 0);
	return (struct cpuid_regs){ 0xd, intel ? 0x756e6547 : 0x68747541, 0, 0 };
}

uint64_t lp_clock(void)
{
	return clock_now;
}

uint64_t lp_tsc_hz(void)
{
	return HZ;
}

bool vp_is_loaded_here(const struct vp *of)
{
	(void)of;
	return loaded;
}

unsigned int cpuid_policy_phys_bits(const struct vp *of)
{
	(void)of;
	return 40;
}

void reference_time_tsc_moved(struct partition *of)
{
	assert_ptr_equal(of, &partition);
	moves++;
}

void stimers_clock_changed(struct vp *of)
{
	(void)of;
	assert_true(loaded);
	clock_changes++;
}

void apic_tsc_adjusted(struct apic *apic, int64_t delta)
{
	(void)apic;
	adjusted += (uint64_t)delta;
}

bool safe_rdmsr(uint32_t msr, uint64_t *value)
{
	assert_int_equal(msr, 0xc0011029);
	*value = 0xffff;
	return true;
}

bool safe_wrmsr(uint32_t msr, uint64_t value)
{
	assert_int_equal(msr, 0x49);
	assert_int_equal(value, 1);
	flushes += host_has_ibpb;
	return host_has_ibpb;
}

static int setup(void **state)
{
	(void)state;
	memset(&partition, 0, sizeof(partition));
	memset(children, 0xff, sizeof(children));
	vp = calloc(1, sizeof(*vp));
	other = calloc(1, sizeof(*other));
	vp->partition = other->partition = &partition;
	vp->child = &children[0];
	other->child = &children[1];
	guest_msrs_init(vp);
	guest_msrs_init(other);
	intel = true;
	loaded = true;
	clock_now = 5 * HZ;
	adjusted = 0;
	moves = clock_changes = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(vp);
	free(other);
	return 0;
}

static uint64_t rd(uint32_t msr)
{
	uint64_t value = 77;

	assert_int_equal(guest_msr_read(vp, msr, &value), 0);
	return value;
}

static void wr(uint32_t msr, uint64_t value)
{
	assert_int_equal(guest_msr_write(vp, msr, value), 0);
	assert_int_equal(rd(msr), value);
}

static void refused(uint32_t msr, uint64_t value)
{
	uint64_t before = rd(msr);

	assert_int_equal(guest_msr_write(vp, msr, value), -EINVAL);
	assert_int_equal(rd(msr), before);
}

static void the_guest_writes_its_tsc(void **state)
{
	(void)state;
	partition.tsc_offset = vp->tsc_offset = 1000;
	vp->tsc_delta = 900; /* its LP's was moved */
	assert_int_equal(rd(0x10), 5 * HZ + 1000);
	wr(0x10, 123);
	assert_int_equal(vp->tsc_offset, 123 - 5 * HZ);
	assert_int_equal(vp->tsc_delta, 123 - 5 * HZ - 100);
	assert_int_equal(adjusted, 123 - 5 * HZ - 1000);
	assert_int_equal(rd(0x3b), adjusted);
	assert_int_equal(moves, 1);
	assert_int_equal(clock_changes, 1);
	assert_int_equal(partition.tsc_offset, 1000);
	wr(0x3b, 0); /* takes back all that it wrote */
	assert_int_equal(rd(0x10), 5 * HZ + 1000);
	assert_int_equal(vp->tsc_delta, 900);
	wr(0x3b, 5);
	assert_int_equal(rd(0x10), 5 * HZ + 1005);
	wr(0x10, UINT64_MAX);
	wr(0x3b, 5);
	moves = 0;
	wr(0x3b, 5); /* nothing moves */
	assert_int_equal(moves, 0);
}

/* All VPs of a new partition are set to 0, one after the other: one clock. */
static void a_parent_sets_tscs(void **state)
{
	(void)state;
	loaded = false;
	assert_int_equal(guest_msr_write(vp, 0x10, 0), 0);
	assert_int_equal(vp->tsc_offset, 0 - 5 * HZ);
	assert_int_equal(partition.tsc_offset, 0 - 5 * HZ);
	clock_now += HZ / 2;
	assert_int_equal(guest_msr_write(other, 0x10, 0), 0);
	assert_int_equal(other->tsc_offset, vp->tsc_offset);
	assert_int_equal(other->pending & VP_PENDING_CLOCK, VP_PENDING_CLOCK);
	assert_int_equal(clock_changes, 0);
	assert_int_equal(vp->child->msrs.tsc_adjust | other->child->msrs.tsc_adjust, 0);
	/* Much later, to something else: all of them again. */
	clock_now += 100 * HZ;
	assert_int_equal(guest_msr_write(vp, 0x10, 20 * HZ), 0);
	assert_int_equal(rd(0x10), 20 * HZ);
	clock_now += 3;
	assert_int_equal(guest_msr_write(other, 0x10, 20 * HZ), 0);
	assert_int_equal(other->tsc_offset, vp->tsc_offset);
	/* What a guest has written to TSC_ADJUST doesn't move anything. */
	assert_int_equal(guest_msr_write(vp, 0x3b, 999), 0);
	assert_int_equal(rd(0x3b), 999);
	assert_int_equal(other->tsc_offset, vp->tsc_offset);
	/* A second before and after are the limits. */
	assert_int_equal(guest_msr_write(vp, 0x10, 21 * HZ + 3), 0);
	assert_int_equal(rd(0x10), 20 * HZ + 3);
	assert_int_equal(guest_msr_write(vp, 0x10, 21 * HZ + 4), 0);
	assert_int_equal(rd(0x10), 21 * HZ + 4);
}

/* What the partition began with is nobody's clock, however near. */
static void a_parent_sets_the_tsc_of_a_young_guest(void **state)
{
	(void)state;
	loaded = false;
	partition.tsc_offset = vp->tsc_offset = other->tsc_offset = 0 - 5 * HZ; /* begins now */
	assert_int_equal(guest_msr_write(vp, 0x10, HZ / 3), 0);
	assert_int_equal(rd(0x10), HZ / 3);
	clock_now += 7;
	assert_int_equal(guest_msr_write(other, 0x10, HZ / 3), 0);
	assert_int_equal(other->tsc_offset, vp->tsc_offset);
	assert_int_equal(rd(0x10), HZ / 3 + 7);
}

/* Its local APIC's timer is set by this clock, before the VP ran, and goes on by it. */
static void a_tsc_before_the_vp_runs(void **state)
{
	(void)state;
	loaded = false;
	vp->tsc_offset = 0 - 3 * HZ;
	assert_int_equal(vp->tsc_delta, 0);
	assert_int_equal(guest_msrs_tsc(vp), 2 * HZ);
	assert_int_equal(rd(0x10), 2 * HZ);
}

static void memory_types(void **state)
{
	static const uint8_t good[] = { 0, 1, 4, 5, 6 };

	(void)state;
	assert_int_equal(rd(0xfe), 0x508);
	assert_int_equal(guest_msr_write(vp, 0xfe, 0x508), -EINVAL);
	for (unsigned int type = 0; type < 256; type++) {
		bool is_good = memchr(good, (int)type, sizeof(good));

		(is_good ? wr : refused)(0x2ff, 0xc00 | type);
		(is_good ? wr : refused)(0x20e, 0x12345000 | type);
		(is_good ? wr : refused)(0x250, (uint64_t)type << 56);
		(is_good ? wr : refused)(0x26f, (uint64_t)type << 24 | 6);
	}
	refused(0x2ff, 0x1006);
	refused(0x2ff, 0x106);
	refused(0x200, BIT(40) | 6);
	refused(0x200, 0x106);
	wr(0x200, BIT(39) | 6);
	wr(0x201, 0xfffffff800);
	refused(0x201, 0x10000000800);
	refused(0x201, 0x400);
	/* Each its own place. */
	for (uint32_t msr = 0x200; msr < 0x210; msr++)
		wr(msr, (uint64_t)msr << 12);
	for (uint32_t msr = 0x200; msr < 0x210; msr++)
		assert_int_equal(rd(msr), (uint64_t)msr << 12);
	for (uint32_t i = 0; i < 8; i++)
		wr(0x268 + i, 0x0606060606060600 | (i & 1));
	wr(0x258, 0x0101010101010101);
	wr(0x259, 0x0404040404040404);
	assert_int_equal(rd(0x268), 0x0606060606060600);
	assert_int_equal(rd(0x26f), 0x0606060606060601);
	assert_int_equal(rd(0x258), 0x0101010101010101);
	assert_int_equal(rd(0x250), 6ull << 56);
}

static void features(void **state)
{
	uint64_t value;

	(void)state;
	assert_int_equal(rd(0x1a0), 0x1801);
	assert_int_equal(guest_msr_write(vp, 0x1a0, 0x1800 | BIT(18) | BIT(34)), 0);
	assert_int_equal(rd(0x1a0), 0x1800); /* no MWAIT, no-execute stays */
	assert_int_equal(guest_msr_write(vp, 0x1a0, BIT(1)), -EINVAL);
	assert_int_equal(rd(0x3a), 1);
	assert_int_equal(guest_msr_write(vp, 0x3a, 5), -EINVAL);
	assert_int_equal(rd(0x8b), 1ull << 32);
	assert_int_equal(guest_msr_write(vp, 0x8b, 0), 0);
	assert_int_equal(rd(0x179), 0);
	assert_int_equal(guest_msr_write(vp, 0x17a, 0), 0);
	assert_int_equal(guest_msr_write(vp, 0x17a, 1), -EINVAL);
	assert_int_equal(guest_msr_read(vp, 0xc0010015, &value), -EINVAL); /* AMD's */
	intel = false;
	assert_int_equal(rd(0x8b), 0x01000065);
	assert_int_equal(rd(0xc0010015), BIT(24));
	assert_int_equal(guest_msr_write(vp, 0xc0010015, BIT(30)), 0);
	assert_int_equal(rd(0xc0010015), BIT(24));
	assert_int_equal(rd(0xc0011029), 2);
	assert_int_equal(rd(0xc0010114), 0x18);
	assert_int_equal(guest_msr_read(vp, 0x1a0, &value), -EINVAL);
	assert_int_equal(guest_msr_read(vp, 0x3a, &value), -EINVAL);
}

static void branch_predictions(void **state)
{
	uint64_t value;

	(void)state;
	host_has_ibpb = true;
	flushes = 0;
	assert_int_equal(guest_msr_read(vp, 0x49, &value), -EINVAL);
	assert_int_equal(guest_msr_write(vp, 0x49, 2), -EINVAL);
	assert_int_equal(guest_msr_write(vp, 0x49, 0), 0);
	assert_int_equal(flushes, 0);
	assert_int_equal(guest_msr_write(vp, 0x49, 1), 0);
	assert_int_equal(flushes, 1);
	host_has_ibpb = false;
	assert_int_equal(guest_msr_write(vp, 0x49, 1), -EINVAL);
	partition.properties.ignores_unknown_msrs = true;
	assert_int_equal(guest_msr_write(vp, 0x49, 1), 0);
	assert_int_equal(flushes, 1);
}

static void unknown_ones(void **state)
{
	static const uint32_t msrs[] = { 0,	     0x10a,	 0x122,	     0x345,	 0x560,
					 0x606,	     0x6a0,	 0xd90,	     0xc0000104, 0xc0010008,
					 0xc0010117, 0xc001100c, 0xffffffff, 0x210,	 0x251,
					 0x270,	     0x480,	 0xda0,	     0x48,	 0x17b };

	(void)state;
	for (unsigned int vendor = 0; vendor < 2; vendor++) {
		intel = vendor;
		for (unsigned int ignored = 0; ignored < 2; ignored++) {
			partition.properties.ignores_unknown_msrs = ignored;
			for (size_t i = 0; i < ARRAY_SIZE(msrs); i++) {
				uint64_t value = 5;

				assert_int_equal(guest_msr_read(vp, msrs[i], &value), ignored ? 0 : -EINVAL);
				assert_int_equal(value, 0);
				assert_int_equal(guest_msr_write(vp, msrs[i], 3), ignored ? 0 : -EINVAL);
			}
		}
	}
	intel = true;
	/* What is known keeps its rules. */
	assert_int_equal(guest_msr_write(vp, 0x2ff, 0x1000), -EINVAL);
}

/* Those that its parent wants to see fail, ignored or not; but only when they are the guest's own. */
static void unknown_ones_for_the_parent(void **state)
{
	uint64_t value;

	(void)state;
	assert_true(guest_msr_exists(0x10) && !guest_msr_exists(0x345));
	partition.properties.ignores_unknown_msrs = true;
	vp->wanted = VP_WANTED_UNKNOWN_MSR_READ;
	loaded = true;
	assert_int_equal(guest_msr_read(vp, 0x345, &value), -EINVAL);
	assert_int_equal(guest_msr_write(vp, 0x345, 1), 0);
	vp->wanted = VP_WANTED_UNKNOWN_MSR_WRITE;
	assert_int_equal(guest_msr_read(vp, 0x345, &value), 0);
	assert_int_equal(guest_msr_write(vp, 0x345, 1), -EINVAL);
	loaded = false;
	assert_int_equal(guest_msr_write(vp, 0x345, 1), 0);
	vp->wanted = 0;
}

static void values_of_the_processors(void **state)
{
	static const uint32_t addresses[] = { 0x175,	  0x176,      0xc0000082, 0xc0000083,
					      0xc0000100, 0xc0000101, 0xc0000102 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		assert_true(guest_msr_takes(addresses[i], 0x00007fffffffffff, 48));
		assert_true(guest_msr_takes(addresses[i], 0xffff800000000000, 48));
		assert_false(guest_msr_takes(addresses[i], 0x0000800000000000, 48));
		assert_true(guest_msr_takes(addresses[i], 0x0000800000000000, 57));
		assert_false(guest_msr_takes(addresses[i], 0x0100000000000000, 57));
	}
	assert_true(guest_msr_takes(0x174, 0xffffffff, 48));
	assert_false(guest_msr_takes(0x174, 0x100000000, 48));
	assert_false(guest_msr_takes(0xc0000084, 0x100000000, 48));
	assert_true(guest_msr_takes(0xc0000081, UINT64_MAX, 48));
	assert_true(guest_msr_takes(0x277, 0x0007040600070406, 48));
	assert_true(guest_msr_takes(0x277, 0x0001050607040600, 48));
	for (unsigned int i = 0; i < 64; i += 8) {
		assert_false(guest_msr_takes(0x277, 2ull << i, 48));
		assert_false(guest_msr_takes(0x277, 3ull << i, 48));
		assert_false(guest_msr_takes(0x277, 8ull << i, 48));
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(the_guest_writes_its_tsc), T(a_parent_sets_tscs), T(a_parent_sets_the_tsc_of_a_young_guest),
		T(a_tsc_before_the_vp_runs), T(memory_types),	    T(features),
		T(branch_predictions),	     T(unknown_ones),	    T(unknown_ones_for_the_parent),
		T(values_of_the_processors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
