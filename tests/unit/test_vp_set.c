/* unit: core/vp_set.c */
/* SPDX-License-Identifier: MIT */
/* Sets of VPs: both forms, every refusal, and no way to name a VP that isn't there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/status.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_set.h>

static struct partition partition;
static struct vp *vps[VP_SET_LIMIT + 1];

/* VPs are only names here: pointers into one block. A walk past the array is ASan's to find: it has exactly `count` entries. */
static void make_partition(uint32_t count)
{
	free(partition.vps);
	partition.vp_count = count;
	partition.vps = malloc(count * sizeof(struct vp *));
	assert_non_null(partition.vps);
	for (uint32_t i = 0; i < count; i++)
		partition.vps[i] = vps[i] = (struct vp *)(uintptr_t)(0x1000 + i * 0x1000);
}

static int teardown(void **state)
{
	(void)state;
	free(partition.vps);
	partition.vps = NULL;
	return 0;
}

/* The set's VPs, by index, UINT32_MAX behind the last. */
static uint32_t members(const struct vp_set *set, uint32_t *out, uint32_t max)
{
	struct vp_set_cursor cursor = vp_set_begin(set);
	struct vp *vp;
	uint32_t count = 0;

	while ((vp = vp_set_next(set, &partition, &cursor))) {
		uint32_t index = (uint32_t)((uintptr_t)vp / 0x1000 - 1);

		assert_true(index < partition.vp_count);
		assert_true(vp_set_contains(set, index));
		if (count < max)
			out[count] = index;
		count++;
	}
	return count;
}

/* As it lies in an input: on the heap, so that a read behind it is found. */
static uint16_t decode(struct vp_set *set, uint64_t format, uint64_t mask, const uint64_t *banks,
		       uint32_t qwords)
{
	struct hv_vp_set *from = malloc(sizeof(*from) + qwords * 8);
	uint16_t status;

	assert_non_null(from);
	from->format = format;
	from->valid_bank_mask = mask;
	if (qwords)
		memcpy(from + 1, banks, qwords * 8);
	memset(set, 0xa5, sizeof(*set));
	status = vp_set_decode(set, &partition, from, qwords);
	free(from);
	return status;
}

static void mask_names_existing_vps(void **state)
{
	struct vp_set set;
	uint32_t list[64];

	(void)state;
	make_partition(7);
	memset(&set, 0xa5, sizeof(set));
	vp_set_from_mask(&set, &partition, 0x51); /* TLFS' own example: 0, 4 and 6 */
	assert_int_equal(members(&set, list, 64), 3);
	assert_int_equal(list[0], 0);
	assert_int_equal(list[1], 4);
	assert_int_equal(list[2], 6);
	vp_set_from_mask(&set, &partition, UINT64_MAX);
	assert_int_equal(members(&set, list, 64), 7);
	vp_set_from_mask(&set, &partition, 0xff80);
	assert_int_equal(members(&set, list, 64), 0);
	vp_set_from_mask(&set, &partition, 0);
	assert_int_equal(members(&set, list, 64), 0);
	make_partition(200);
	vp_set_from_mask(&set, &partition, UINT64_MAX);
	assert_int_equal(members(&set, list, 64), 64);
	assert_int_equal(list[63], 63);
	assert_false(vp_set_contains(&set, 64));
}

static void all_means_all(void **state)
{
	static const uint32_t counts[] = { 1, 2, 63, 64, 65, 128, 200, VP_SET_LIMIT };
	struct vp_set set;
	uint64_t junk[2] = { UINT64_MAX, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		make_partition(counts[i]);
		memset(&set, 0xa5, sizeof(set));
		vp_set_all(&set, &partition);
		assert_int_equal(members(&set, NULL, 0), counts[i]);
		assert_int_equal(decode(&set, HV_VP_SET_ALL, 0, NULL, 0), HV_STATUS_SUCCESS);
		assert_int_equal(members(&set, NULL, 0), counts[i]);
		/* Mask and contents say nothing. */
		assert_int_equal(decode(&set, HV_VP_SET_ALL, 5, junk, 2), HV_STATUS_SUCCESS);
		assert_int_equal(members(&set, NULL, 0), counts[i]);
		assert_int_equal(decode(&set, HV_VP_SET_ALL, UINT64_MAX, NULL, 0), HV_STATUS_SUCCESS);
		assert_int_equal(members(&set, NULL, 0), counts[i]);
	}
	/* More VPs than a set can name: those it can. */
	make_partition(VP_SET_LIMIT + 1);
	vp_set_all(&set, &partition);
	assert_int_equal(members(&set, NULL, 0), VP_SET_LIMIT);
	assert_false(vp_set_contains(&set, VP_SET_LIMIT));
	assert_false(vp_set_contains(&set, UINT32_MAX));
}

/* TLFS "HV_VP_SET": 200 VPs; 0, 5, 130 named: banks 0 and 2. */
static void sparse_set_names_its_banks(void **state)
{
	const uint64_t banks[2] = { BIT(0) | BIT(5), BIT(2) };
	const uint64_t holes[3] = { 0, 0, BIT(7) };
	struct vp_set set;
	uint32_t list[8];

	(void)state;
	make_partition(200);
	assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, 5, banks, 2), HV_STATUS_SUCCESS);
	assert_int_equal(members(&set, list, 8), 3);
	assert_int_equal(list[0], 0);
	assert_int_equal(list[1], 5);
	assert_int_equal(list[2], 130);
	assert_false(vp_set_contains(&set, 64 + 0));
	assert_false(vp_set_contains(&set, 64 + 2));
	/* A valid bank may be empty. */
	assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, 7, holes, 3), HV_STATUS_SUCCESS);
	assert_int_equal(members(&set, list, 8), 1);
	assert_int_equal(list[0], 135);
	/* And the whole set, too. */
	assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, 0, NULL, 0), HV_STATUS_SUCCESS);
	assert_int_equal(members(&set, list, 8), 0);
}

/* XSA-475 (Xen's flush and IPI took a bank's number from the guest), and the same in KVM (4721f81, "Bound the bank index"). */
static void hazard_xsa_475_sparse_set_is_bounded(void **state)
{
	uint64_t banks[HV_VP_SET_BANKS];
	struct vp_set set;

	(void)state;
	memset(banks, 0xff, sizeof(banks));
	make_partition(3);
	assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, UINT64_MAX, banks, 64), HV_STATUS_SUCCESS);
	assert_int_equal(members(&set, NULL, 0), 3);
	assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, BIT(63), banks, 1), HV_STATUS_SUCCESS);
	assert_int_equal(members(&set, NULL, 0), 0);
	assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, BIT(1), banks, 1), HV_STATUS_SUCCESS);
	assert_int_equal(members(&set, NULL, 0), 0);
	make_partition(65);
	assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, BIT(63) | BIT(1), banks, 2), HV_STATUS_SUCCESS);
	assert_int_equal(members(&set, NULL, 0), 1);
	assert_true(vp_set_contains(&set, 64));
	for (uint32_t index = 65; index < 3 * VP_SET_LIMIT; index++)
		assert_false(vp_set_contains(&set, index));
	make_partition(VP_SET_LIMIT);
	assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, UINT64_MAX, banks, 64), HV_STATUS_SUCCESS);
	assert_int_equal(members(&set, NULL, 0), VP_SET_LIMIT);
}

static void header_must_match_the_mask(void **state)
{
	uint64_t banks[HV_VP_SET_BANKS + 1];
	struct vp_set set;

	(void)state;
	memset(banks, 0xff, sizeof(banks));
	make_partition(4);
	for (uint32_t qwords = 0; qwords <= HV_VP_SET_BANKS + 1; qwords++) {
		assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, 0x25, banks, qwords),
				 qwords == 3 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, UINT64_MAX, banks, qwords),
				 qwords == 64 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(decode(&set, HV_VP_SET_SPARSE_4K, 0, banks, qwords),
				 qwords == 0 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER);
	}
}

static void other_formats_are_refused(void **state)
{
	const uint64_t formats[] = { 2, 3, 0xff, BIT(32), BIT(63), UINT64_MAX };
	uint64_t bank = 1;
	struct vp_set set;

	(void)state;
	make_partition(4);
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		assert_int_equal(decode(&set, formats[i], 1, &bank, 1), HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(decode(&set, formats[i], 0, NULL, 0), HV_STATUS_INVALID_PARAMETER);
	}
}

/* An index without a VP (not created yet) is passed over. */
static void absent_vps_are_passed_over(void **state)
{
	struct vp_set set;
	uint32_t list[4];

	(void)state;
	make_partition(4);
	partition.vps[1] = NULL;
	partition.vps[3] = NULL;
	vp_set_all(&set, &partition);
	assert_int_equal(members(&set, list, 4), 2);
	assert_int_equal(list[0], 0);
	assert_int_equal(list[1], 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mask_names_existing_vps),
		cmocka_unit_test(all_means_all),
		cmocka_unit_test(sparse_set_names_its_banks),
		cmocka_unit_test(hazard_xsa_475_sparse_set_is_bounded),
		cmocka_unit_test(header_must_match_the_mask),
		cmocka_unit_test(other_formats_are_refused),
		cmocka_unit_test(absent_vps_are_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
