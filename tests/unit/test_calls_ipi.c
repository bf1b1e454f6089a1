/* unit: core/calls_ipi.c core/vp_set.c */
/* SPDX-License-Identifier: MIT */
/* Calls between a guest's processors: who gets which interrupt, APIC ids, and every refusal with its status. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/flush.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_set.h>

#define VPS 70u
#define SELF 3u
#define NO_VECTOR (-1)

static struct vp *vps[VPS];
static struct partition partition = { .id = 1, .vps = vps, .vp_count = VPS };
static struct hypercall call;
static uint64_t input[64];
static uint32_t output[64];
static int got[VPS]; /* the vector */
static unsigned int sent;

void vp_send_fixed(struct vp *target, struct vp *sender, uint8_t vector)
{
	assert_ptr_equal(sender, vps[SELF]);
	assert_int_equal(got[target->index], NO_VECTOR);
	got[target->index] = vector;
	sent++;
}

/* Local APIC ids are twice the index. */
struct vp *vp_by_apic_id(const struct partition *of, uint32_t apic_id)
{
	assert_ptr_equal(of, &partition);
	return apic_id % 2 == 0 && apic_id / 2 < VPS ? vps[apic_id / 2] : NULL;
}

struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status)
{
	assert_ptr_equal(caller, vps[SELF]);
	assert_int_equal(privilege, 0);
	*status = id == 1 || id == HV_PARTITION_ID_SELF ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARTITION_ID;
	return *status ? NULL : &partition;
}

static int setup(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VPS; i++) {
		vps[i] = calloc(1, sizeof(struct vp));
		if (!vps[i])
			return -1;
		vps[i]->index = i;
		vps[i]->partition = &partition;
		vps[i]->apic.base = APIC_BASE_EN;
	}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VPS; i++)
		free(vps[i]);
	return 0;
}

static void begin(uint64_t first, uint64_t second)
{
	memset(input, 0, sizeof(input));
	memset(output, 0, sizeof(output));
	for (uint32_t i = 0; i < VPS; i++)
		got[i] = NO_VECTOR;
	sent = 0;
	input[0] = first;
	input[1] = second;
	call = (struct hypercall){ .vp = vps[SELF], .partition = &partition, .input = input };
}

static uint16_t ipi(uint64_t first, uint64_t mask)
{
	begin(first, mask);
	return hypercall_send_synthetic_cluster_ipi(&call);
}

static uint16_t ipi_ex(uint64_t first, uint64_t format, uint64_t mask, uint16_t qwords)
{
	begin(first, format);
	input[2] = mask;
	input[3] = BIT(1) | BIT(SELF);
	input[4] = BIT(2) | BIT(9);
	call.var_header_qwords = qwords;
	return hypercall_send_synthetic_cluster_ipi_ex(&call);
}

static void mask_names_targets(void **state)
{
	uint64_t calls = vps[SELF]->ipi_calls, ipis = vps[SELF]->ipis_sent;

	(void)state;
	assert_int_equal(ipi(0xf3, BIT(0) | BIT(SELF) | BIT(63)), HV_STATUS_SUCCESS);
	assert_int_equal(sent, 3);
	assert_int_equal(got[0], 0xf3);
	assert_int_equal(got[SELF], 0xf3); /* itself, too */
	assert_int_equal(got[63], 0xf3);
	assert_int_equal(ipi(0x10, 0), HV_STATUS_SUCCESS);
	assert_int_equal(sent, 0);
	assert_int_equal(ipi(0x10, UINT64_MAX), HV_STATUS_SUCCESS);
	assert_int_equal(sent, 64);
	assert_int_equal(got[64], NO_VECTOR);
	assert_int_equal(vps[SELF]->ipi_calls, calls + 3);
	assert_int_equal(vps[SELF]->ipis_sent, ipis + 67);
}

static void sparse_set_names_targets(void **state)
{
	(void)state;
	assert_int_equal(ipi_ex(0x20, HV_VP_SET_SPARSE_4K, 3, 2), HV_STATUS_SUCCESS);
	assert_int_equal(sent, 3); /* there is no VP 73 */
	assert_int_equal(got[1], 0x20);
	assert_int_equal(got[SELF], 0x20);
	assert_int_equal(got[66], 0x20);
	assert_int_equal(ipi_ex(0xff, HV_VP_SET_ALL, 0, 0), HV_STATUS_SUCCESS);
	assert_int_equal(sent, VPS);
}

static void vectors_below_16_and_above_255_are_refused(void **state)
{
	(void)state;
	for (uint64_t vector = 0; vector < 0x120; vector++) {
		uint16_t status =
			vector >= 0x10 && vector <= 0xff ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER;

		assert_int_equal(ipi(vector, 1), status);
		assert_int_equal(sent, status == HV_STATUS_SUCCESS);
		assert_int_equal(ipi_ex(vector, HV_VP_SET_SPARSE_4K, 2, 1), status);
		assert_int_equal(sent, status == HV_STATUS_SUCCESS ? 2 : 0);
	}
	assert_int_equal(ipi(0xffffffff, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(ipi(0x100 + 0x30, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(sent, 0);
}

static void there_is_one_trust_level(void **state)
{
	(void)state;
	for (uint64_t vtl = 0; vtl < 256; vtl++) {
		uint16_t status = vtl == 0 || vtl == HV_INPUT_VTL_USE_TARGET ? HV_STATUS_SUCCESS :
									       HV_STATUS_INVALID_PARAMETER;

		assert_int_equal(ipi(0x30 | vtl << 32, 1), status);
		assert_int_equal(sent, status == HV_STATUS_SUCCESS);
		assert_int_equal(ipi_ex(0x30 | vtl << 32, HV_VP_SET_SPARSE_4K, 1, 1), status);
	}
	for (unsigned int bit = 40; bit < 64; bit++) { /* padding */
		assert_int_equal(ipi(0x30 | BIT(bit), 1), HV_STATUS_SUCCESS);
		assert_int_equal(sent, 1);
		assert_int_equal(ipi_ex(0x30 | BIT(bit), HV_VP_SET_SPARSE_4K, 1, 1), HV_STATUS_SUCCESS);
	}
}

static void hazard_xsa_475_bad_sets_are_refused(void **state)
{
	(void)state;
	for (uint16_t qwords = 0; qwords < 66; qwords++) {
		assert_int_equal(ipi_ex(0x30, HV_VP_SET_SPARSE_4K, 3, qwords),
				 qwords == 2 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER);
		assert_int_equal(sent, qwords == 2 ? 3 : 0);
	}
	assert_int_equal(ipi_ex(0x30, 2, 3, 2), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(ipi_ex(0x30, HV_VP_SET_SPARSE_4K, BIT(62) | BIT(63), 2), HV_STATUS_SUCCESS);
	assert_int_equal(sent, 0);
}

/* Not started yet, or its local APIC is off: there is nothing to post to. */
static void processors_without_an_apic_get_nothing(void **state)
{
	uint64_t ipis = vps[SELF]->ipis_sent;

	(void)state;
	vps[1]->apic.base = 0;
	assert_int_equal(ipi(0x30, 7), HV_STATUS_SUCCESS);
	assert_int_equal(sent, 2);
	assert_int_equal(got[1], NO_VECTOR);
	assert_int_equal(vps[SELF]->ipis_sent, ipis + 2);
	vps[1]->apic.base = APIC_BASE_EN;
}

static const struct vp *yielded;

void schedule_yield(struct vp *vp)
{
	assert_null(yielded);
	yielded = vp;
}

static void long_spin_wait_makes_room(void **state)
{
	uint64_t before = vps[SELF]->long_spin_waits;

	(void)state;
	begin(UINT64_MAX, 0); /* whatever it says: advice has no error */
	assert_int_equal(hypercall_notify_long_spin_wait(&call), HV_STATUS_SUCCESS);
	assert_int_equal(vps[SELF]->long_spin_waits, before + 1);
	assert_ptr_equal(yielded, vps[SELF]);
}

static uint16_t by_apic_id(uint64_t partition_id, uint64_t vtl, uint16_t start, uint16_t count)
{
	static uint32_t ids[4] = { 6, 0, 138, 1 };

	begin(partition_id, vtl);
	memcpy(&input[2], ids, sizeof(ids));
	call.rep_input = &input[2];
	call.rep_output = output;
	call.rep_start = call.reps_done = start;
	call.rep_count = count;
	return hypercall_get_vp_index_from_apic_id(&call);
}

static void vp_index_by_apic_id(void **state)
{
	(void)state;
	assert_int_equal(by_apic_id(HV_PARTITION_ID_SELF, 0, 0, 3), HV_STATUS_SUCCESS);
	assert_int_equal(call.reps_done, 3);
	assert_int_equal(output[0], 3);
	assert_int_equal(output[1], 0);
	assert_int_equal(output[2], 69);
	assert_int_equal(by_apic_id(1, HV_INPUT_VTL_USE_TARGET, 2, 3), HV_STATUS_SUCCESS);
	assert_int_equal(call.reps_done, 3);
	assert_int_equal(output[0], 0); /* not part of this pass */
	assert_int_equal(output[2], 69);
	/* The fourth id is nobody's: those before it are done. */
	assert_int_equal(by_apic_id(1, 0, 0, 4), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(call.reps_done, 3);
	assert_int_equal(by_apic_id(2, 0, 0, 3), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(call.reps_done, 0);
	assert_int_equal(by_apic_id(1, 0x11, 0, 3), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(call.reps_done, 0);
	assert_int_equal(by_apic_id(1, BIT(8) | BIT(63), 0, 3), HV_STATUS_SUCCESS); /* padding */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mask_names_targets),
		cmocka_unit_test(sparse_set_names_targets),
		cmocka_unit_test(vectors_below_16_and_above_255_are_refused),
		cmocka_unit_test(there_is_one_trust_level),
		cmocka_unit_test(hazard_xsa_475_bad_sets_are_refused),
		cmocka_unit_test(processors_without_an_apic_get_nothing),
		cmocka_unit_test(long_spin_wait_makes_room),
		cmocka_unit_test(vp_index_by_apic_id),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
