/* SPDX-License-Identifier: MIT */
/*
 * TLFS "HvCallGetLogicalProcessorRunTime", "HvCallAddLogicalProcessor", "HvCallCreateVp", "HvCallNotifyPartitionEvent": how a root
 * gets its processors, and what it may not do on the way.
 */
#include "tlfs.h"
#include <hv/root.h>
#include <hv/vp.h>

static uint16_t run_time(uint32_t lp)
{
	*(uint32_t *)fresh_input() = lp;
	return status_of(hv_simple(HV_CALL_GET_LOGICAL_PROCESSOR_RUN_TIME));
}

static uint16_t add(uint32_t lp, uint32_t id)
{
	struct hv_input_add_logical_processor *in = fresh_input();

	in->lp_index = lp;
	in->apic_id = id;
	return status_of(hv_simple(HV_CALL_ADD_LOGICAL_PROCESSOR));
}

static uint16_t create(uint64_t partition, uint32_t vp, uint64_t lp)
{
	struct hv_input_create_vp *in = fresh_input();

	in->partition_id = partition;
	in->vp_index = vp;
	in->flags = lp;
	in->subnode_id = 0x1234567890abcdef; /* Linux leaves it undefined */
	return status_of(hv_simple(HV_CALL_CREATE_VP));
}

static void before_any(void)
{
	uint64_t *out = (uint64_t *)hv_out;

	is(run_time(0), HV_STATUS_SUCCESS, "HvCallGetLogicalProcessorRunTime: LP 0");
	ok(out[0] && out[1] && out[1] <= out[0] && time_100ns() >= out[0],
	   "... it ran for a part of the time");
	is(run_time(1), HV_STATUS_INVALID_LP_INDEX,
	   "... LP 1 isn't there yet: 0x41, by which Linux knows the first boot");
	is(run_time(~0u), HV_STATUS_INVALID_LP_INDEX, "... nor is LP 0xffffffff");
	is(add(0, cpu_apic_id[0]), HV_STATUS_OBJECT_IN_USE, "HvCallAddLogicalProcessor: LP 0 is in use");
	is(add(cpu_count, cpu_apic_id[0]), HV_STATUS_INVALID_LP_INDEX, "... an LP that the machine hasn't");
	is(create(HV_PARTITION_ID_SELF, 0, 0), HV_STATUS_INVALID_VP_INDEX, "HvCallCreateVp: VP 0 is there");
	is(create(HV_PARTITION_ID_SELF, cpu_count, cpu_count), HV_STATUS_INVALID_VP_INDEX,
	   "... a VP that the partition can't have");
	is(create(0, 1, 1), HV_STATUS_INVALID_PARTITION_ID, "... partition 0");
	is(create(12345, 1, 1), HV_STATUS_INVALID_PARTITION_ID, "... partition 12345");
}

static void with_others(void)
{
	unsigned int bad = 0;

	is(add(1, 0xfe), HV_STATUS_INVALID_PARAMETER,
	   "HvCallAddLogicalProcessor: an APIC id that nobody has");
	is(add(1, cpu_apic_id[0]), HV_STATUS_OBJECT_IN_USE, "... the boot processor's");
	is(create(HV_PARTITION_ID_SELF, 1, 1), HV_STATUS_INVALID_LP_INDEX,
	   "HvCallCreateVp: its LP was not added");
	for (unsigned int i = 1; i < cpu_count; i++)
		bad += add(i, cpu_apic_id[i]) != HV_STATUS_SUCCESS || *(uint64_t *)hv_out != 0;
	is(bad, 0, "HvCallAddLogicalProcessor: every processor");
	is(add(1, cpu_apic_id[1]), HV_STATUS_OBJECT_IN_USE, "... none twice");
	is(run_time(1), HV_STATUS_SUCCESS, "HvCallGetLogicalProcessorRunTime: now LP 1 is there");
	is(create(HV_PARTITION_ID_SELF, 1, 0), HV_STATUS_INVALID_LP_INDEX,
	   "HvCallCreateVp: a root's VP 1 is for LP 1");
	for (unsigned int i = 1; i < cpu_count; i++)
		bad += create(HV_PARTITION_ID_SELF, i, i) != HV_STATUS_SUCCESS;
	is(bad, 0, "HvCallCreateVp: every VP, whatever its subnode says");
	is(create(HV_PARTITION_ID_SELF, 1, 1), HV_STATUS_INVALID_VP_INDEX, "... none twice");
}

static volatile uint64_t index_of[MAX_CPUS];

static void read_index(unsigned int cpu)
{
	index_of[cpu] = rdmsr(HV_MSR_VP_INDEX);
}

static void start_new_ones(void)
{
	unsigned int bad = 0;

	if (!ok(start_others(), "INIT and start-up IPIs start the new VPs"))
		bail_out("no other processors");
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		bad += !run_on(cpu, read_index) || index_of[cpu] != cpu;
	is(bad, 0, "HV_X64_MSR_VP_INDEX: each VP has its own");
}

void tlfs_root_processors(void)
{
	struct hv_input_notify_partition_event *event;

	/* A child's VPs are its parent's doing. */
	if (child_lacks(HV_PRIVILEGE_CREATE_PARTITIONS | HV_PRIVILEGE_CPU_MANAGEMENT,
			"a root's processors")) {
		if (cpu_count > 1)
			start_new_ones();
		return;
	}
	before_any();
	if (cpu_count > 1)
		with_others();
	event = fresh_input();
	event->event = HV_PARTITION_EVENT_ALL_LOGICAL_PROCESSORS_STARTED;
	IS_STATUS(hv_simple(HV_CALL_NOTIFY_PARTITION_EVENT), HV_STATUS_SUCCESS,
		  "HvCallNotifyPartitionEvent: all LPs started");
	event->event = 77;
	IS_STATUS(hv_simple(HV_CALL_NOTIFY_PARTITION_EVENT), HV_STATUS_INVALID_PARAMETER,
		  "... an unknown event");
	if (cpu_count == 1)
		return;
	start_new_ones();
	is(run_time(1), HV_STATUS_SUCCESS, "HvCallGetLogicalProcessorRunTime: LP 1 again");
	ok(((uint64_t *)hv_out)[1] != 0, "... has run");
}
