/* unit: core/calls_interrupts.c core/vp_set.c core/page_alloc.c */
/* SPDX-License-Identifier: MIT */
/* Device interrupts by hypercall: what the caller is to program, and the exact status of every refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/cpuid.h>
#include <hv/root.h>
#include <hv/status.h>
#include <trivet/hypercall.h>
#include <trivet/host_memory.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#include "authority_fake.h"

#define PCI_DEVICE (HV_DEVICE_TYPE_PCI << HV_DEVICE_TYPE_SHIFT | 0x0018)
#define IOAPIC_DEVICE (HV_DEVICE_TYPE_IOAPIC << HV_DEVICE_TYPE_SHIFT | 2)
#define VPS 66u

struct page_pool host_pool;
uint32_t lp_count = VPS;
static uint8_t *arena;
static struct lp lps[VPS];
static struct vp vps[VPS];
static struct vp *vp_table[VPS];
static struct partition partition;

/* Input with the variable header behind it. */
static union {
	struct hv_input_map_device_interrupt map;
	struct hv_input_unmap_device_interrupt unmap;
	struct hv_input_retarget_device_interrupt retarget;
	uint64_t words[64];
} in;
static struct hv_output_map_device_interrupt out;

struct lp *lp_by_apic_id(uint32_t apic_id)
{
	for (unsigned int i = 0; i < VPS; i++)
		if (lps[i].apic_id == apic_id)
			return &lps[i];
	return NULL;
}

hpa_t hv_virt_to_phys(const void *p)
{
	return HPA((uint64_t)p);
}

static int setup(void **state)
{
	(void)state;
	arena = aligned_alloc(SIZE_2M, SIZE_2M);
	assert_int_equal(page_pool_init(&host_pool, arena, 512), 0);
	memset(lps, 0, sizeof(lps));
	partition = (struct partition){
		.id = 1, .vps = vp_table, .vp_count = VPS, .privileges = HV_PRIVILEGE_CPU_MANAGEMENT
	};
	for (unsigned int i = 0; i < VPS; i++) {
		lps[i].index = i;
		lps[i].apic_id = i == 3 ? 255 : i == 4 ? 300 : i * 2;
		lps[i].vp = lps[i].root_vp = &vps[i];
		vps[i].index = i;
		vps[i].lp = &lps[i];
		vps[i].partition = &partition;
		vp_table[i] = &vps[i];
	}
	assert_int_equal(device_interrupts_init(&partition, VPS), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	free(arena);
	return 0;
}

static uint16_t run(hypercall_handler handler, uint16_t var_qwords)
{
	struct hypercall call = { .vp = &vps[0],
				  .partition = &partition,
				  .var_header_qwords = var_qwords,
				  .input = &in,
				  .output = &out };

	memset(&out, 0, sizeof(out));
	return handler(&call);
}

/* As Linux asks for it: a sparse set of one VP. */
static void prepare(uint64_t device, uint32_t trigger, uint32_t vp, uint32_t vector)
{
	memset(&in, 0, sizeof(in));
	in.map.partition_id = 1;
	in.map.device_id = device;
	in.map.descriptor.trigger_mode = trigger;
	in.map.descriptor.vector_count = 1;
	in.map.descriptor.target.vector = vector;
	in.map.descriptor.target.flags = HV_INTERRUPT_TARGET_PROCESSOR_SET;
	in.map.descriptor.target.vp_set.valid_bank_mask = BIT(vp / 64);
	in.words[10] = BIT(vp % 64);
}

static uint16_t map(uint64_t device, uint32_t trigger, uint32_t vp, uint32_t vector)
{
	prepare(device, trigger, vp, vector);
	return run(hypercall_map_device_interrupt, 2);
}

static uint16_t unmap(uint64_t device, uint32_t source, uint64_t data)
{
	memset(&in, 0, sizeof(in));
	in.unmap.partition_id = 1;
	in.unmap.device_id = device;
	in.unmap.entry = (struct hv_interrupt_entry){ .source = source, .data = data };
	return run(hypercall_unmap_device_interrupt, 0);
}

static void messages_name_the_processor_and_the_vector(void **state)
{
	(void)state;
	assert_int_equal(map(PCI_DEVICE, HV_INTERRUPT_EDGE, 5, 0x31), HV_STATUS_SUCCESS);
	assert_int_equal(out.entry.source, 1);
	assert_int_equal(out.entry.data, 0x31fee0a000ull);
	assert_int_equal(map(PCI_DEVICE, HV_INTERRUPT_EDGE, 65, 0xff), HV_STATUS_SUCCESS);
	assert_int_equal(out.entry.data, 0xfffee82000ull);
	assert_int_equal(map(PCI_DEVICE, HV_INTERRUPT_EDGE, 0, 0x10), HV_STATUS_SUCCESS);
	assert_int_equal(out.entry.data, 0x10fee00000ull);
	assert_int_equal(partition.device_interrupts.mappings, 3);
}

static void redirection_entries_carry_destination_and_trigger(void **state)
{
	(void)state;
	assert_int_equal(map(IOAPIC_DEVICE, HV_INTERRUPT_LEVEL, 2, 0x41), HV_STATUS_SUCCESS);
	assert_int_equal(out.entry.source, 2);
	assert_int_equal(out.entry.data, 0x0400000000008041ull);
	assert_int_equal(map(IOAPIC_DEVICE, HV_INTERRUPT_EDGE, 2, 0x42), HV_STATUS_SUCCESS);
	assert_int_equal(out.entry.data, 0x0400000000000042ull);
}

static void the_plain_mask_works_too(void **state)
{
	(void)state;
	prepare(PCI_DEVICE, HV_INTERRUPT_EDGE, 0, 0x50);
	in.map.descriptor.target.flags = 0;
	in.map.descriptor.target.vp_set.format = BIT(7) | BIT(9); /* of several, one */
	assert_int_equal(run(hypercall_map_device_interrupt, 0), HV_STATUS_SUCCESS);
	assert_int_equal(out.entry.data, 0x50fee0e000ull);
	in.map.descriptor.target.vp_set.format = 0;
	assert_int_equal(run(hypercall_map_device_interrupt, 0), HV_STATUS_INVALID_VP_INDEX);
	in.map.descriptor.target.flags = HV_INTERRUPT_TARGET_MULTICAST;
	assert_int_equal(run(hypercall_map_device_interrupt, 0), HV_STATUS_INVALID_PARAMETER);
}

#define REFUSED(statement, status)                                                \
	do {                                                                      \
		prepare(PCI_DEVICE, HV_INTERRUPT_EDGE, 1, 0x30);                  \
		statement;                                                        \
		assert_int_equal(run(hypercall_map_device_interrupt, 2), status); \
		assert_int_equal(partition.device_interrupts.mappings, 0);        \
		assert_int_equal(out.entry.source | out.entry.data, 0);           \
	} while (0)

static void every_refusal_of_a_mapping(void **state)
{
	const uint64_t type_shift = HV_DEVICE_TYPE_SHIFT;

	(void)state;
	REFUSED(in.map.partition_id = 2, HV_STATUS_INVALID_PARTITION_ID);
	REFUSED(in.map.device_id = 0x18, HV_STATUS_INVALID_DEVICE_ID);
	REFUSED(in.map.device_id = HV_DEVICE_TYPE_ACPI << type_shift, HV_STATUS_INVALID_DEVICE_ID);
	REFUSED(in.map.device_id |= BIT(51), HV_STATUS_INVALID_DEVICE_ID);
	REFUSED(in.map.device_id = IOAPIC_DEVICE | BIT(8), HV_STATUS_INVALID_DEVICE_ID);
	REFUSED(in.map.flags = 1, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.base_irt_index = 1, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.logical_entry.source = 1, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.interrupt_type = 4, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.trigger_mode = HV_INTERRUPT_LEVEL, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.trigger_mode = 2, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.vector_count = 0, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.vector_count = 2, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.reserved = 1, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.target.vector = 0xf, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.target.vector = 0x100, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.target.flags = 3, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.target.flags = 0, HV_STATUS_INVALID_PARAMETER); /* a header it hasn't */
	REFUSED(in.map.descriptor.target.vp_set.format = 2, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.map.descriptor.target.vp_set.valid_bank_mask = 3, HV_STATUS_INVALID_PARAMETER);
	REFUSED(in.words[10] = 0, HV_STATUS_INVALID_VP_INDEX);
	REFUSED(in.map.descriptor.target.vp_set.valid_bank_mask = BIT(63), HV_STATUS_INVALID_VP_INDEX);
	REFUSED(in.words[10] = BIT(3), HV_STATUS_OPERATION_DENIED); /* APIC id 255: all of them */
	REFUSED(in.words[10] = BIT(4), HV_STATUS_OPERATION_DENIED);
	REFUSED(partition.privileges = 0, HV_STATUS_ACCESS_DENIED);
	partition.privileges = HV_PRIVILEGE_CPU_MANAGEMENT;
	prepare(PCI_DEVICE, HV_INTERRUPT_EDGE, 1, 0x30);
	assert_int_equal(run(hypercall_map_device_interrupt, 0), HV_STATUS_INVALID_HYPERCALL_INPUT);
	assert_int_equal(run(hypercall_map_device_interrupt, 1), HV_STATUS_INVALID_PARAMETER);
	partition.device_interrupts.entries = NULL;
	assert_int_equal(run(hypercall_map_device_interrupt, 2), HV_STATUS_ACCESS_DENIED);
}

static void a_mapping_is_unmade_once(void **state)
{
	(void)state;
	assert_int_equal(map(PCI_DEVICE, HV_INTERRUPT_EDGE, 1, 0x30), HV_STATUS_SUCCESS);
	assert_int_equal(map(PCI_DEVICE, HV_INTERRUPT_EDGE, 1, 0x31), HV_STATUS_SUCCESS);

	assert_int_equal(unmap(PCI_DEVICE + 8, 1, 0x30fee02000ull), HV_STATUS_NOT_FOUND);
	assert_int_equal(unmap(PCI_DEVICE, 1, 0x32fee02000ull), HV_STATUS_NOT_FOUND);
	assert_int_equal(unmap(PCI_DEVICE, 1, 0x30fee04000ull), HV_STATUS_NOT_FOUND);
	assert_int_equal(unmap(PCI_DEVICE, 1, 0x130fee02000ull), HV_STATUS_NOT_FOUND);
	assert_int_equal(unmap(PCI_DEVICE, 1, 0), HV_STATUS_NOT_FOUND);
	assert_int_equal(unmap(PCI_DEVICE, 2, 0x30fee02000ull), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(unmap(0x18, 1, 0x30fee02000ull), HV_STATUS_INVALID_DEVICE_ID);
	assert_int_equal(unmap(0, 0, 0), HV_STATUS_INVALID_DEVICE_ID);
	in.unmap.partition_id = 7;
	assert_int_equal(run(hypercall_unmap_device_interrupt, 0), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(partition.device_interrupts.mappings, 2);

	assert_int_equal(unmap(PCI_DEVICE, 1, 0x30fee02000ull), HV_STATUS_SUCCESS);
	assert_int_equal(unmap(PCI_DEVICE, 1, 0x30fee02000ull), HV_STATUS_NOT_FOUND);
	in.unmap.entry.data = 0x31fee02000ull;
	in.unmap.flags = 1;
	assert_int_equal(run(hypercall_unmap_device_interrupt, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(partition.device_interrupts.mappings, 1);
}

/* Linux gives all interrupts that are shut down one vector of one processor, those of one device too. */
static void mappings_to_one_vector_are_counted(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(map(PCI_DEVICE, HV_INTERRUPT_EDGE, 0, 0xef), HV_STATUS_SUCCESS);
	assert_int_equal(map(PCI_DEVICE + 8, HV_INTERRUPT_EDGE, 0, 0xef), HV_STATUS_SUCCESS);
	assert_int_equal(partition.device_interrupts.mappings, 4);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(unmap(PCI_DEVICE, 1, 0xeffee00000ull), HV_STATUS_SUCCESS);
	assert_int_equal(unmap(PCI_DEVICE, 1, 0xeffee00000ull), HV_STATUS_NOT_FOUND);
	assert_int_equal(unmap(PCI_DEVICE + 8, 1, 0xeffee00000ull), HV_STATUS_SUCCESS);
	assert_int_equal(partition.device_interrupts.mappings, 0);
}

/* As much as the table is made for fits; what doesn't is refused, and all of it comes out again. */
static void the_table_is_bounded(void **state)
{
	unsigned int mapped = 0, refused = 0;

	(void)state;
	for (uint32_t device = 0; device < 4; device++)
		for (uint32_t vp = 0; vp < VPS; vp++)
			for (uint32_t vector = 0x10; vector <= 0xff && vp != 3 && vp != 4; vector++) {
				uint16_t status = map(PCI_DEVICE + device, HV_INTERRUPT_EDGE, vp, vector);

				mapped += status == HV_STATUS_SUCCESS;
				refused += status == HV_STATUS_NO_RESOURCES;
			}
	assert_int_equal(mapped + refused, 4 * (VPS - 2) * 240);
	assert_int_equal(mapped, partition.device_interrupts.mappings);
	assert_in_range(mapped, 128 * DEVICE_INTERRUPTS_PER_LP, 128 * DEVICE_INTERRUPTS_PER_LP);
	for (uint32_t device = 0; device < 4; device++)
		for (uint32_t vp = 0; vp < VPS; vp++)
			for (uint64_t vector = 0x10; vector <= 0xff && vp != 3 && vp != 4; vector++)
				mapped -= unmap(PCI_DEVICE + device, 1,
						0xfee00000ull | (uint64_t)lps[vp].apic_id << 12 |
							vector << 32) == HV_STATUS_SUCCESS;
	assert_int_equal(mapped, 0);
	assert_int_equal(partition.device_interrupts.mappings, 0);
}

static void level_and_edge_are_not_the_same_mapping(void **state)
{
	(void)state;
	assert_int_equal(map(IOAPIC_DEVICE, HV_INTERRUPT_LEVEL, 2, 0x41), HV_STATUS_SUCCESS);
	assert_int_equal(unmap(IOAPIC_DEVICE, 2, 0x0400000000000041ull), HV_STATUS_NOT_FOUND);
	assert_int_equal(unmap(IOAPIC_DEVICE, 2, 0x0400000000008041ull), HV_STATUS_SUCCESS);
}

static void another_system_begins_with_none(void **state)
{
	(void)state;
	assert_int_equal(map(PCI_DEVICE, HV_INTERRUPT_EDGE, 1, 0x30), HV_STATUS_SUCCESS);
	device_interrupts_reset(&partition);
	assert_int_equal(partition.device_interrupts.mappings, 0);
	assert_int_equal(map(PCI_DEVICE, HV_INTERRUPT_EDGE, 1, 0x30), HV_STATUS_SUCCESS);
}

static uint16_t retarget(uint64_t data, uint32_t vp, uint32_t vector)
{
	memset(&in, 0, sizeof(in));
	in.retarget.partition_id = HV_PARTITION_ID_SELF;
	in.retarget.device_id = PCI_DEVICE;
	in.retarget.entry = (struct hv_interrupt_entry){ .source = 1, .data = data };
	in.retarget.target.vector = vector;
	in.retarget.target.flags = HV_INTERRUPT_TARGET_PROCESSOR_SET;
	in.retarget.target.vp_set.valid_bank_mask = BIT(vp / 64);
	in.words[8] = BIT(vp % 64);
	return run(hypercall_retarget_device_interrupt, 2);
}

static void retargeting_can_only_confirm(void **state)
{
	(void)state;
	assert_int_equal(retarget(0x30fee02000ull, 1, 0x30), HV_STATUS_NOT_FOUND);
	assert_int_equal(map(PCI_DEVICE, HV_INTERRUPT_EDGE, 1, 0x30), HV_STATUS_SUCCESS);
	assert_int_equal(retarget(0x30fee02000ull, 1, 0x30), HV_STATUS_SUCCESS);
	assert_int_equal(retarget(0x30fee02000ull, 2, 0x30), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(retarget(0x30fee02000ull, 1, 0x31), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(retarget(0x31fee02000ull, 1, 0x31), HV_STATUS_NOT_FOUND);
	in.retarget.device_id = 5; /* a virtual PCI device: there is none */
	assert_int_equal(run(hypercall_retarget_device_interrupt, 2), HV_STATUS_INVALID_DEVICE_ID);
	in.retarget.device_id = PCI_DEVICE;
	in.retarget.reserved = 1;
	assert_int_equal(run(hypercall_retarget_device_interrupt, 2), HV_STATUS_INVALID_PARAMETER);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(messages_name_the_processor_and_the_vector),
		TEST(redirection_entries_carry_destination_and_trigger),
		TEST(the_plain_mask_works_too),
		TEST(every_refusal_of_a_mapping),
		TEST(a_mapping_is_unmade_once),
		TEST(mappings_to_one_vector_are_counted),
		TEST(the_table_is_bounded),
		TEST(level_and_edge_are_not_the_same_mapping),
		TEST(another_system_begins_with_none),
		TEST(retargeting_can_only_confirm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
