/* SPDX-License-Identifier: MIT */
/* TLFS "HvCallGetVpRegisters", "HvCallSetVpRegisters", "HvCallGetVpIndexFromApicId": a VP's own registers, by their names. */
#include "tlfs.h"
#include <hv/vp.h>

#define NAMES_MAX 64u

static uint16_t get_at(uint64_t partition, uint32_t vp, uint8_t vtl, const uint32_t *names, uint32_t count,
		       uint32_t *reps)
{
	struct hv_input_vp_registers *in = fresh_input();
	uint64_t result;

	in->partition_id = partition;
	in->vp_index = vp;
	in->input_vtl = vtl;
	memcpy(in + 1, names, count * 4);
	result = hv_reps(HV_CALL_GET_VP_REGISTERS, count);
	*reps = reps_of(result);
	return status_of(result);
}

static uint16_t get_of(uint32_t vp, uint32_t name)
{
	uint32_t reps;

	return get_at(HV_PARTITION_ID_SELF, vp, 0, &name, 1, &reps);
}

/* One register's low half. */
static uint64_t value_of(uint32_t name)
{
	uint16_t status = get_of(HV_VP_INDEX_SELF, name);

	if (status)
		note("register %x: status %x", name, status);
	return status ? 0xbadbadbadbadbad : *(uint64_t *)hv_out;
}

static uint16_t set(uint32_t name, uint64_t low, uint64_t high)
{
	struct hv_input_vp_registers *in = fresh_input();
	struct hv_register_assoc *element = (struct hv_register_assoc *)(in + 1);

	in->partition_id = HV_PARTITION_ID_SELF;
	in->vp_index = HV_VP_INDEX_SELF;
	element->name = name;
	element->value.reg128.low = low;
	element->value.reg128.high = high;
	return status_of(hv_reps(HV_CALL_SET_VP_REGISTERS, 1));
}

static void reading(void)
{
	struct table_register idtr;
	uint16_t cs;

	__asm__ volatile("sidt %0" : "=m"(idtr));
	__asm__ volatile("movw %%cs, %0" : "=r"(cs));
	is(value_of(HV_REGISTER_X64_CR0), read_cr0(), "HvCallGetVpRegisters: CR0");
	is(value_of(HV_REGISTER_X64_CR3), read_cr3(), "... CR3");
	is(value_of(HV_REGISTER_X64_CR4), read_cr4(), "... CR4");
	is(value_of(HV_REGISTER_X64_CR8), read_cr8(), "... CR8");
	is(value_of(HV_REGISTER_X64_EFER), rdmsr(MSR_EFER), "... EFER");
	is(value_of(HV_REGISTER_X64_PAT), rdmsr(MSR_PAT), "... PAT");
	is(value_of(HV_REGISTER_X64_APIC_BASE), rdmsr(MSR_APIC_BASE), "... APIC_BASE");
	is(value_of(HV_REGISTER_X64_LSTAR), rdmsr(MSR_LSTAR), "... LSTAR");
	is(value_of(HV_REGISTER_X64_KERNEL_GS_BASE), rdmsr(MSR_KERNEL_GS_BASE), "... KERNEL_GS_BASE");
	value_of(HV_REGISTER_X64_IDTR);
	ok(((struct hv_x64_table_register *)hv_out)->base == idtr.base &&
		   ((struct hv_x64_table_register *)hv_out)->limit == idtr.limit,
	   "... IDTR, as HV_X64_TABLE_REGISTER");
	value_of(HV_REGISTER_X64_CS);
	ok(((struct hv_x64_segment_register *)hv_out)->selector == cs &&
		   (((struct hv_x64_segment_register *)hv_out)->attributes &
		    (HV_SEGMENT_PRESENT | HV_SEGMENT_LONG)) == (HV_SEGMENT_PRESENT | HV_SEGMENT_LONG),
	   "... CS, as HV_X64_SEGMENT_REGISTER");
	is(value_of(HV_REGISTER_VP_INDEX), rdmsr(HV_MSR_VP_INDEX), "... synthetic ones: VP_INDEX");
	is(value_of(HV_REGISTER_GUEST_OS_ID), rdmsr(HV_MSR_GUEST_OS_ID), "... GUEST_OS_ID");
	is(value_of(HV_REGISTER_SINT0 + 4), HV_SINT_RESET_VALUE, "... SINT4");
	is(value_of(HV_REGISTER_PRIVILEGES_AND_FEATURES_INFO),
	   cpuid(HV_CPUID_FEATURES, 0).eax | (uint64_t)cpuid(HV_CPUID_FEATURES, 0).ebx << 32,
	   "... a CPUID leaf");
	is(((uint64_t *)hv_out)[1] >> 32, cpuid(HV_CPUID_FEATURES, 0).edx, "... all 128 bits of it");
	value_of(HV_REGISTER_X64_CR2);
	is(((uint64_t *)hv_out)[1], 0, "HV_REGISTER_VALUE: smaller ones are zero-extended");
}

static void writing(void)
{
	uint64_t lstar = rdmsr(MSR_LSTAR), cr3 = read_cr3();
	register uint64_t rbx __asm__("r12") = 1;

	is(set(HV_REGISTER_X64_CR2, 0x1234567890ab, 0), HV_STATUS_SUCCESS, "HvCallSetVpRegisters: CR2");
	is(read_cr2(), 0x1234567890ab, "... is there");
	is(set(HV_REGISTER_X64_LSTAR, 0x7fff12345678, 0), HV_STATUS_SUCCESS, "... LSTAR");
	is(rdmsr(MSR_LSTAR), 0x7fff12345678, "... is there");
	wrmsr(MSR_LSTAR, lstar);
	is(set(HV_REGISTER_X64_LSTAR, 0x8000000000000000, 0), HV_STATUS_INVALID_REGISTER_VALUE,
	   "... not canonical");
	is(rdmsr(MSR_LSTAR), lstar, "... and nothing changed");
	is(set(HV_REGISTER_X64_CR8, 5, 0), HV_STATUS_SUCCESS, "... CR8");
	is(read_cr8(), 5, "... is there");
	write_cr8(0);
	is(set(HV_REGISTER_X64_CR3, cr3, 0), HV_STATUS_SUCCESS, "... CR3, to what it is");
	is(set(HV_REGISTER_X64_CR0, 0x80000000, 0), HV_STATUS_INVALID_REGISTER_VALUE,
	   "... CR0 with PG and without PE");
	is(set(HV_REGISTER_VP_INDEX, 3, 0), HV_STATUS_ACCESS_DENIED, "... a register that can only be read");
	is(set(HV_REGISTER_X64_CR2, 0, 1), HV_STATUS_INVALID_REGISTER_VALUE,
	   "HV_REGISTER_VALUE: bits beyond the register");
	is(set(HV_REGISTER_SINT0 + 6, 0x20, 0), HV_STATUS_SUCCESS, "... SINT6");
	is(rdmsr(HV_MSR_SINT0 + 6), 0x20, "... is there");
	wrmsr(HV_MSR_SINT0 + 6, HV_SINT_RESET_VALUE);
	__asm__ volatile("" : "+r"(rbx));
	is(set(HV_REGISTER_X64_R12, rbx + 1, 0) == HV_STATUS_SUCCESS, true,
	   "Volatile Registers: HvCallSetVpRegisters may change any");
}

static void refusals(void)
{
	uint32_t names[4] = { HV_REGISTER_X64_CR0, HV_REGISTER_X64_CR3, 0x0fffffff, HV_REGISTER_X64_CR4 };
	uint32_t reps;
	uint16_t status = get_at(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 0, names, 4, &reps);

	ok(status && reps == 2,
	   "HvCallGetVpRegisters: an unknown name ends it, with those before it done (%x, %u)", status, reps);
	ok(((uint64_t *)hv_out)[0] == 0 || ((uint64_t *)hv_out)[0] == read_cr0(),
	   "... whose values are right or not there");
	ok(((uint64_t *)hv_out)[6] == 0, "... and none behind it");
	is(get_of(cpu_count, names[0]), HV_STATUS_INVALID_VP_INDEX, "... a VP that isn't there");
	is(get_of(HV_VP_INDEX_ANY, names[0]), HV_STATUS_INVALID_VP_INDEX, "... any VP is no VP");
	is(get_of(0, names[0]), HV_STATUS_SUCCESS, "... by its own index");
	is(get_at(12345, HV_VP_INDEX_SELF, 0, names, 1, &reps), HV_STATUS_INVALID_PARTITION_ID,
	   "... no such partition");
	is(get_at(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 0x10, names, 1, &reps), HV_STATUS_SUCCESS,
	   "HV_INPUT_VTL: level 0");
	ok(get_at(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 0x11, names, 1, &reps) != HV_STATUS_SUCCESS &&
		   reps == 0,
	   "... level 1 isn't there");
	/* A set call: the elements before the bad one are done, those behind it not. */
	if (cpuid(HV_CPUID_FEATURES, 0).edx & HV_FEATURE_CRASH_MSRS) {
		struct hv_input_vp_registers *in = fresh_input();
		struct hv_register_assoc *e = (struct hv_register_assoc *)(in + 1);
		uint64_t result;

		in->partition_id = HV_PARTITION_ID_SELF;
		in->vp_index = HV_VP_INDEX_SELF;
		for (unsigned int i = 0; i < 3; i++)
			e[i].name = HV_REGISTER_GUEST_CRASH_P0 + i;
		for (unsigned int i = 0; i < 3; i++)
			wrmsr(HV_MSR_CRASH_P0 + i, 0), e[i].value.reg64 = 77;
		e[1].name = HV_REGISTER_TIME_REF_COUNT;
		result = hv_reps(HV_CALL_SET_VP_REGISTERS, 3);
		ok(status_of(result) && reps_of(result) == 1 && rdmsr(HV_MSR_CRASH_P0) == 77 &&
			   rdmsr(HV_MSR_CRASH_P2) == 0,
		   "HvCallSetVpRegisters: one done, one refused, one not reached (%llx)",
		   (unsigned long long)result);
	}
}

static void by_apic_id(void)
{
	struct hv_input_get_vp_index_from_apic_id *in = fresh_input();
	uint32_t *ids = (uint32_t *)(in + 1);
	uint64_t result;

	in->partition_id = HV_PARTITION_ID_SELF;
	ids[0] = apic_id();
	ids[1] = 0xfe;
	result = hv_reps(HV_CALL_GET_VP_INDEX_FROM_APIC_ID, 1);
	ok(result == 1ull << 32 && *(uint32_t *)hv_out == 0, "HvCallGetVpIndexFromApicId: one's own");
	result = hv_reps(HV_CALL_GET_VP_INDEX_FROM_APIC_ID, 2);
	ok(status_of(result) == HV_STATUS_INVALID_PARAMETER && reps_of(result) == 1,
	   "... and one that nobody has");
	in->partition_id = 12345;
	IS_STATUS(hv_reps(HV_CALL_GET_VP_INDEX_FROM_APIC_ID, 1), HV_STATUS_INVALID_PARTITION_ID,
		  "... no such partition");
	in->partition_id = HV_PARTITION_ID_SELF;
	memset(in->reserved, 0xff, sizeof(in->reserved));
	IS_STATUS(hv_reps(HV_CALL_GET_VP_INDEX_FROM_APIC_ID, 1), HV_STATUS_SUCCESS, "... padding is ignored");
	in->target_vtl = 0x11;
	ok(status_of(hv_reps(HV_CALL_GET_VP_INDEX_FROM_APIC_ID, 1)) != HV_STATUS_SUCCESS,
	   "... a level that isn't there");
}

void tlfs_registers(void)
{
	if (child_lacks(HV_PRIVILEGE_ACCESS_VP_REGISTERS, "HvCallGetVpRegisters, HvCallSetVpRegisters"))
		return;
	reading();
	writing();
	refusals();
	by_apic_id();
}

void tlfs_registers_others(void)
{
	struct hv_input_get_vp_index_from_apic_id *in = fresh_input();
	uint32_t *ids = (uint32_t *)(in + 1), *out = (uint32_t *)hv_out;
	unsigned int bad = 0;

	in->partition_id = HV_PARTITION_ID_SELF;
	for (unsigned int cpu = 0; cpu < cpu_count; cpu++)
		ids[cpu] = cpu_apic_id[cpu_count - 1 - cpu];
	bad += status_of(hv_reps(HV_CALL_GET_VP_INDEX_FROM_APIC_ID, cpu_count)) != HV_STATUS_SUCCESS;
	for (unsigned int cpu = 0; cpu < cpu_count; cpu++)
		bad += out[cpu] != cpu_count - 1 - cpu;
	is(bad, 0, "HvCallGetVpIndexFromApicId: all VPs, in any order");
	ok(get_of(cpu_count - 1, HV_REGISTER_X64_CR0) != HV_STATUS_SUCCESS,
	   "HvCallGetVpRegisters: not of a VP that runs");
}
