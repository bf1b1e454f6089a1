/* unit: core/calls_processors.c core/partition.c */
/* SPDX-License-Identifier: MIT */
/* A root names its processors and VPs: every status that Linux stops at, and another order than the firmware's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/root.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <trivet/hypercall.h>
#include <trivet/log.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/reference_time.h>
#include <trivet/run_time.h>
#include <trivet/vp.h>

#define VPS 4u

static struct lp lps[VPS];
static struct vp vps[VPS];
static struct vp *vp_table[VPS];
static struct partition partition;
static unsigned int inits[VPS];

enum log_level log_threshold;

void log_write(enum log_level level, const char *format, ...)
{
	(void)level;
	(void)format;
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	return bucket->count++ < 2;
}

struct lp *lp_by_apic_id(uint32_t apic_id)
{
	for (unsigned int i = 0; i < VPS; i++)
		if (lps[i].apic_id == apic_id)
			return &lps[i];
	return NULL;
}

void vp_send_init(struct vp *vp)
{
	inits[vp - vps]++;
	vp_post(vp, VP_PENDING_INIT);
}

/* Of a child, core/children.c does it. */
static struct partition child;
static uint32_t child_vp_created, child_vp_deleted;

uint16_t partition_create_vp(struct partition *of, uint32_t index)
{
	assert_ptr_equal(of, &child);
	child_vp_created = index;
	return HV_STATUS_INSUFFICIENT_MEMORY;
}

uint16_t partition_delete_vp(struct partition *of, struct vp *caller, uint32_t index)
{
	assert_ptr_equal(of, &child);
	assert_ptr_equal(caller, &vps[0]);
	child_vp_deleted = index;
	return HYPERCALL_RESTART;
}

/* One clock for both, and each look at it takes its time. LPs run from its start, each one unit longer than the one before. */
static uint64_t clock_100ns;

uint64_t reference_time_100ns(const struct partition *of)
{
	assert_ptr_equal(of, &partition);
	return clock_100ns += 100;
}

uint64_t lp_run_time_tsc(const struct lp *lp)
{
	return 10 * ((clock_100ns += 100) + (uint64_t)(lp - lps));
}

uint64_t tsc_to_100ns(const struct reference_time *time, uint64_t tsc)
{
	assert_ptr_equal(time, &partition.reference_time);
	return tsc / 10;
}

/* Firmware's order: APIC ids 0, 10, 20, 30; all but the first wait in its code. */
static int setup(void **state)
{
	(void)state;
	memset(lps, 0, sizeof(lps));
	memset(vps, 0, sizeof(vps));
	memset(inits, 0, sizeof(inits));
	partition = (struct partition){
		.id = 1,
		.vps = vp_table,
		.vp_count = VPS,
		.privileges = HV_PRIVILEGE_CPU_MANAGEMENT | HV_PRIVILEGE_CREATE_PARTITIONS,
	};
	for (unsigned int i = 0; i < VPS; i++) {
		lps[i] = (struct lp){
			.index = i, .apic_id = i * 10, .vp = &vps[i], .root_vp = &vps[i], .state = LP_ONLINE
		};
		vps[i].index = i;
		vps[i].lp = &lps[i];
		vps[i].partition = &partition;
		vps[i].state = VP_RUNNING;
		vp_table[i] = &vps[i];
	}
	return 0;
}

static uint16_t run(hypercall_handler handler, struct vp *caller, const void *input, void *output)
{
	struct hypercall call = { .vp = caller, .partition = &partition, .input = input, .output = output };

	return handler(&call);
}

static uint16_t add(uint32_t lp_index, uint32_t apic_id)
{
	const struct hv_input_add_logical_processor in = { .lp_index = lp_index, .apic_id = apic_id };
	struct hv_output_add_logical_processor out = { 0 };
	uint16_t status = run(hypercall_add_logical_processor, &vps[0], &in, &out);

	assert_int_equal(out.status, 0);
	return status;
}

static uint16_t create_by(struct vp *caller, uint64_t partition_id, uint32_t vp_index, uint64_t flags)
{
	struct hv_input_create_vp in;

	memset(&in, 0xa5, sizeof(in)); /* Linux leaves the other fields as they were */
	in.partition_id = partition_id;
	in.vp_index = vp_index;
	in.flags = flags;
	return run(hypercall_create_vp, caller, &in, NULL);
}

static uint16_t create(uint32_t vp_index)
{
	return create_by(&vps[0], 1, vp_index, vp_index);
}

static uint16_t run_time(uint32_t lp_index, struct hv_output_get_logical_processor_run_time *out)
{
	const struct hv_input_get_logical_processor_run_time in = { .lp_index = lp_index };

	memset(out, 0, sizeof(*out));
	return run(hypercall_get_logical_processor_run_time, &vps[0], &in, out);
}

static void linux_finds_that_it_is_the_first(void **state)
{
	struct hv_output_get_logical_processor_run_time out;

	(void)state;
	clock_100ns = 0;
	assert_int_equal(run_time(1, &out), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(run_time(VPS, &out), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(run_time(UINT32_MAX, &out), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(run_time(0, &out), HV_STATUS_SUCCESS);
	assert_int_equal(out.global_time_100ns, 200);
	assert_int_equal(out.local_run_time_100ns,
			 100); /* looked at first, as it can't be more than the other */
	assert_int_equal(partition_added_lps(&partition), 1);
	/* And the next kernel, after kexec, that it isn't. */
	assert_int_equal(add(1, 10), HV_STATUS_SUCCESS);
	assert_int_equal(run_time(1, &out), HV_STATUS_SUCCESS);
	assert_int_equal(out.local_run_time_100ns, 301);
	assert_int_equal(partition_added_lps(&partition), 2);
}

static void processors_are_added_once(void **state)
{
	(void)state;
	assert_int_equal(add(1, 10), HV_STATUS_SUCCESS);
	assert_int_equal(add(1, 10), HV_STATUS_OBJECT_IN_USE);
	assert_int_equal(add(2, 10), HV_STATUS_OBJECT_IN_USE);
	assert_int_equal(add(1, 20), HV_STATUS_OBJECT_IN_USE);
	assert_int_equal(add(0, 20), HV_STATUS_OBJECT_IN_USE); /* the boot processor is always there */
	assert_int_equal(add(2, 0), HV_STATUS_OBJECT_IN_USE);
	assert_int_equal(add(VPS, 20), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(add(2, 21), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(add(2, UINT32_MAX), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(inits[1] + inits[2] + inits[3], 0);
}

/* Linux counts 0, 20, 10: the VPs change places, but only when neither can run. */
static void another_order_than_the_firmwares(void **state)
{
	(void)state;
	assert_int_equal(add(1, 20), HYPERCALL_RESTART);
	assert_int_equal(inits[1], 1);
	assert_int_equal(inits[2], 1);
	assert_ptr_equal(vp_table[1], &vps[1]);
	assert_int_equal(add(1, 20), HYPERCALL_RESTART); /* asked once is enough */
	assert_int_equal(inits[1] + inits[2], 2);
	vps[1].state = VP_WAIT_SIPI;
	assert_int_equal(add(1, 20), HYPERCALL_RESTART);
	vps[2].state = VP_WAIT_SIPI;
	assert_int_equal(add(1, 20), HV_STATUS_SUCCESS);
	assert_ptr_equal(vp_table[1], &vps[2]);
	assert_ptr_equal(vp_table[2], &vps[1]);
	assert_int_equal(vps[2].index, 1);
	assert_int_equal(vps[1].index, 2);
	assert_int_equal(lps[2].trace.vp_index, 1);
	assert_ptr_equal(lps[2].vp, &vps[2]); /* each stays on its processor */
	assert_int_equal(add(2, 10), HV_STATUS_SUCCESS);
	assert_int_equal(create(1), HV_STATUS_SUCCESS);
	assert_true(vps[2].created);
	assert_false(vps[1].created);
}

static void a_processor_that_never_ran_changes_places_at_once(void **state)
{
	(void)state;
	lps[1].state = LP_OFFLINE;
	lps[3].state = LP_OFFLINE;
	assert_int_equal(add(1, 30), HV_STATUS_SUCCESS);
	assert_ptr_equal(vp_table[1], &vps[3]);
	assert_ptr_equal(vp_table[3], &vps[1]);
	assert_int_equal(inits[1] + inits[3], 0);
}

static void a_vp_is_created_once_on_its_processor(void **state)
{
	(void)state;
	assert_int_equal(create(1), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(add(1, 10), HV_STATUS_SUCCESS);
	assert_int_equal(add(2, 20), HV_STATUS_SUCCESS);
	assert_int_equal(create_by(&vps[0], 1, 1, 2), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(create_by(&vps[0], 1, 1, BIT(32) | 1), HV_STATUS_INVALID_LP_INDEX);
	assert_int_equal(create_by(&vps[0], 2, 1, 1), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(create_by(&vps[1], 1, 1, 1), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(create(0), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(create(VPS), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(inits[1], 0);
	assert_int_equal(create(1), HV_STATUS_SUCCESS);
	assert_int_equal(inits[1], 1); /* out of the firmware's code */
	assert_int_equal(create(1), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(inits[1], 1);
	lps[2].state = LP_OFFLINE;
	assert_int_equal(create_by(&vps[0], HV_PARTITION_ID_SELF, 2, 2), HV_STATUS_SUCCESS);
	assert_int_equal(inits[2], 0); /* the root's own INIT and start-up IPIs go to the hardware */
	partition.privileges = 0;
	assert_int_equal(add(3, 30), HV_STATUS_SUCCESS); /* that privilege is the table's to check */
	assert_int_equal(create(3), HV_STATUS_ACCESS_DENIED);
}

static void a_roots_vps_stay(void **state)
{
	struct hv_input_delete_vp in = { .partition_id = 1, .vp_index = 1 };

	(void)state;
	assert_int_equal(run(hypercall_delete_vp, &vps[0], &in, NULL), HV_STATUS_ACCESS_DENIED);
	in.partition_id = 99;
	assert_int_equal(run(hypercall_delete_vp, &vps[0], &in, NULL), HV_STATUS_INVALID_PARTITION_ID);
}

/* They have no processor of their own: any index will do, and its parent needn't have named one. */
static void a_childs_vps_come_and_go(void **state)
{
	struct hv_input_delete_vp in = { .vp_index = 6 };

	(void)state;
	child.parent = &partition;
	assert_true(partition_publish(&child));
	in.partition_id = child.id;
	assert_int_equal(create_by(&vps[0], child.id, 5, 0), HV_STATUS_INSUFFICIENT_MEMORY);
	assert_int_equal(child_vp_created, 5);
	assert_int_equal(run(hypercall_delete_vp, &vps[0], &in, NULL), HYPERCALL_RESTART);
	assert_int_equal(child_vp_deleted, 6);
	assert_int_equal(inits[0] + inits[1] + inits[2] + inits[3], 0);
	partition_unpublish(&child);
	assert_int_equal(create_by(&vps[0], child.id, 5, 0), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(run(hypercall_delete_vp, &vps[0], &in, NULL), HV_STATUS_INVALID_PARTITION_ID);
}

static void events(void **state)
{
	struct hv_input_notify_partition_event in = { .event = 4 };

	(void)state;
	assert_int_equal(run(hypercall_notify_partition_event, &vps[0], &in, NULL), HV_STATUS_SUCCESS);
	in.event = 2;
	assert_int_equal(run(hypercall_notify_partition_event, &vps[0], &in, NULL),
			 HV_STATUS_OPERATION_DENIED);
	in.event = 3;
	assert_int_equal(run(hypercall_notify_partition_event, &vps[0], &in, NULL),
			 HV_STATUS_INVALID_PARAMETER);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, setup)
	const struct CMUnitTest tests[] = {
		TEST(linux_finds_that_it_is_the_first),
		TEST(processors_are_added_once),
		TEST(another_order_than_the_firmwares),
		TEST(a_processor_that_never_ran_changes_places_at_once),
		TEST(a_vp_is_created_once_on_its_processor),
		TEST(a_roots_vps_stay),
		TEST(a_childs_vps_come_and_go),
		TEST(events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
