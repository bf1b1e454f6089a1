/* SPDX-License-Identifier: MIT */
/* TLFS "Virtualization Host", and the pages of the calls that only a root may make: memory, device interrupts, statistics, properties. */
#include "tlfs.h"
#include <hv/memory.h>
#include <hv/partition.h>
#include <hv/root.h>
#include <hv/stats.h>

#define PAGES 40u

static uint8_t *pool;

/* ---- Memory ---- */

static uint64_t deposit(uint64_t partition, const uint64_t *pages, uint32_t count)
{
	uint64_t *in = fresh_input();

	in[0] = partition;
	memcpy(&in[1], pages, count * 8);
	return hv_reps(HV_CALL_DEPOSIT_MEMORY, count);
}

static uint64_t withdraw(uint64_t partition, uint32_t count)
{
	uint64_t *in = fresh_input();

	in[0] = partition;
	return hv_reps(HV_CALL_WITHDRAW_MEMORY, count);
}

static bool is_all(const uint8_t *page, uint8_t value)
{
	for (unsigned int i = 0; i < PAGE; i++)
		if (((const volatile uint8_t *)page)[i] != value)
			return false;
	return true;
}

static void memory(void)
{
	uint64_t pages[PAGES + 1], result, first;
	unsigned int bad = 0, back = 0;
	bool seen[PAGES] = { false };

	pool = (uint8_t *)alloc_memory((PAGES + 1) * PAGE, PAGE);
	first = (uint64_t)pool / PAGE;
	for (unsigned int i = 0; i < PAGES; i++)
		pages[i] = first + (i ^ 1); /* not in order */
	memset(pool, 0x77, (PAGES + 1) * PAGE);
	IS_STATUS(withdraw(HV_PARTITION_ID_SELF, 1), HV_STATUS_NO_RESOURCES,
		  "HvCallWithdrawMemory: an empty pool: 0x1D");
	IS_STATUS(deposit(12345, pages, 1), HV_STATUS_INVALID_PARTITION_ID,
		  "HvCallDepositMemory: no such partition");
	is(deposit(HV_PARTITION_ID_SELF, pages, PAGES), (uint64_t)PAGES << 32,
	   "HvCallDepositMemory: %u pages", PAGES);
	for (unsigned int i = 0; i < PAGES; i++)
		bad += try_load((uint64_t)pool + i * PAGE) != GP ||
		       try_store((uint64_t)pool + i * PAGE + 8) != GP;
	is(bad, 0, "... are no more the root's: #GP");
	is(try_load((uint64_t)pool + PAGES * PAGE), NO_FAULT, "... the next page is");
	ok(status_of(deposit(HV_PARTITION_ID_SELF, pages, 1)) != HV_STATUS_SUCCESS, "... none twice");
	pages[1] = ~0ull >> 12;
	pages[0] = first + PAGES;
	ok(status_of(deposit(HV_PARTITION_ID_SELF, pages, 2)) != HV_STATUS_SUCCESS,
	   "... a page that is no memory is refused");
	is(try_load((uint64_t)pool + PAGES * PAGE), NO_FAULT,
	   "... and the one before it is the root's still, for Linux frees all");
	pages[0] = rdmsr(HV_MSR_SIMP) >> 12;
	ok(status_of(deposit(HV_PARTITION_ID_SELF, pages, 1)) != HV_STATUS_SUCCESS,
	   "... the hypervisor's own page is refused");
	pages[0] = 0xfee00;
	ok(status_of(deposit(HV_PARTITION_ID_SELF, pages, 1)) != HV_STATUS_SUCCESS,
	   "... the local APIC's is refused");
	/* A parameter page that is deposited is no memory any more. */
	is(try_load((uint64_t)pool), GP, "... and the first are still away");
	for (unsigned int round = 0; round < 5 && back < PAGES; round++) {
		const uint64_t *out = (const uint64_t *)hv_out;

		result = withdraw(HV_PARTITION_ID_SELF, 17);
		if (status_of(result) && status_of(result) != HV_STATUS_NO_RESOURCES)
			break;
		for (unsigned int i = 0; i < reps_of(result); i++) {
			uint64_t n = out[i] - first;

			if (n >= PAGES || seen[n])
				bad++;
			else
				seen[n] = true, back++;
		}
	}
	ok(back == PAGES && !bad, "HvCallWithdrawMemory: %u pages come back, each once, and no other", back);
	for (unsigned int i = 0; i < PAGES; i++)
		bad += !is_all(pool + i * PAGE, 0) && !is_all(pool + i * PAGE, 0x77);
	is(bad, 0, "... with nothing of the hypervisor's in them");
	IS_STATUS(withdraw(HV_PARTITION_ID_SELF, 1), HV_STATUS_NO_RESOURCES, "... then the pool is empty");
	IS_STATUS(withdraw(12345, 1), HV_STATUS_INVALID_PARTITION_ID, "... no such partition");
}

/* ---- Statistics ---- */

static uint64_t map_stats(uint16_t code, uint32_t type, uint64_t low, uint64_t high)
{
	uint64_t words[3] = { type, low, high };

	return status_of(call_with(code, words, 3));
}

static void statistics(void)
{
	static const struct {
		const char *name;
		uint32_t type;
		uint64_t low;
	} objects[] = {
		{ "the hypervisor", HV_STATS_OBJECT_HYPERVISOR, 0 },
		{ "LP 0", HV_STATS_OBJECT_LOGICAL_PROCESSOR, 0 },
		{ "the partition", HV_STATS_OBJECT_PARTITION, HV_PARTITION_ID_SELF },
		{ "VP 0", HV_STATS_OBJECT_VP, HV_PARTITION_ID_SELF },
	};
	uint64_t page = (uint64_t)pool / PAGE;
	unsigned int bad = 0;

	is(map_stats(HV_CALL_MAP_STATS_PAGE, 77, 0, 0), HV_STATUS_INVALID_PARAMETER,
	   "HvCallMapStatsPage: no such object");
	is(map_stats(HV_CALL_MAP_STATS_PAGE, HV_STATS_OBJECT_LOGICAL_PROCESSOR, 99, 0),
	   HV_STATUS_INVALID_LP_INDEX, "... LP 99");
	is(map_stats(HV_CALL_MAP_STATS_PAGE, HV_STATS_OBJECT_VP, HV_PARTITION_ID_SELF, 99),
	   HV_STATUS_INVALID_VP_INDEX, "... VP 99");
	is(map_stats(HV_CALL_MAP_STATS_PAGE, HV_STATS_OBJECT_PARTITION, 12345, 0),
	   HV_STATUS_INVALID_PARTITION_ID, "... no such partition");
	is(map_stats(HV_CALL_MAP_STATS_PAGE, HV_STATS_OBJECT_VP, HV_PARTITION_ID_SELF, 1ull << 56),
	   HV_STATUS_INVALID_PARAMETER, "... no area for the parent: Linux then takes the VP's own");
	is(map_stats(HV_CALL_MAP_STATS_PAGE, HV_STATS_OBJECT_HYPERVISOR, 0, 0), HV_STATUS_INSUFFICIENT_MEMORY,
	   "... without deposited memory it asks for it");
	for (unsigned int i = 0; i < ARRAY_LEN(objects); i++) {
		uint64_t gpn, counter, sum = 0;
		const volatile uint64_t *counters;

		page = (uint64_t)pool / PAGE + i;
		deposit(HV_PARTITION_ID_SELF, &page, 1);
		if (!is(map_stats(HV_CALL_MAP_STATS_PAGE, objects[i].type, objects[i].low, 0),
			HV_STATUS_SUCCESS, "HvCallMapStatsPage: %s", objects[i].name))
			continue;
		gpn = *(uint64_t *)hv_out;
		is(gpn, page, "... in the page that was deposited");
		counters = (const volatile uint64_t *)(gpn * PAGE);
		if (try_load(gpn * PAGE) != NO_FAULT) {
			ok(false, "... which can be read");
			continue;
		}
		delay_us(2000);
		counter = counters[1];
		for (unsigned int n = 0; n < 512; n++)
			sum |= counters[n];
		ok(sum != 0, "... with something in it");
		if (!i)
			is(counter, 1, "HV_HYPERVISOR_COUNTER: logical processors");
		is(map_stats(HV_CALL_UNMAP_STATS_PAGE, objects[i].type, objects[i].low, 0), HV_STATUS_SUCCESS,
		   "HvCallUnmapStatsPage");
		is(try_load(gpn * PAGE), GP, "... it isn't the root's until it is withdrawn");
	}
	ok(map_stats(HV_CALL_UNMAP_STATS_PAGE, HV_STATS_OBJECT_HYPERVISOR, 0, 0) != HV_STATUS_SUCCESS,
	   "... not twice");
	is(reps_of(withdraw(HV_PARTITION_ID_SELF, ARRAY_LEN(objects))), ARRAY_LEN(objects),
	   "... all four can be");
	for (unsigned int i = 0; i < ARRAY_LEN(objects); i++)
		bad += !is_all(pool + i * PAGE, 0);
	is(bad, 0, "HvCallWithdrawMemory: pages that were used come back empty");
}

/* ---- Device interrupts ---- */

static struct hv_input_map_device_interrupt request(uint64_t device, uint32_t vector)
{
	struct hv_input_map_device_interrupt in = { .partition_id = HV_PARTITION_ID_SELF,
						    .device_id = device };

	in.descriptor.vector_count = 1;
	in.descriptor.target.vector = vector;
	in.descriptor.target.flags = HV_INTERRUPT_TARGET_PROCESSOR_SET;
	in.descriptor.target.vp_set.valid_bank_mask = 1;
	return in;
}

static uint16_t map_interrupt(const struct hv_input_map_device_interrupt *in, uint64_t bank, uint32_t qwords)
{
	uint8_t *page = fresh_input();

	memcpy(page, in, sizeof(*in));
	memcpy(page + sizeof(*in), &bank, 8);
	return status_of(
		hv_call(HV_CALL_MAP_DEVICE_INTERRUPT | (uint64_t)qwords << HV_CONTROL_VAR_HEADER_SHIFT,
			(uint64_t)hv_in, (uint64_t)hv_out));
}

static uint16_t unmap_interrupt(uint64_t device, uint32_t source, uint64_t data)
{
	struct hv_input_unmap_device_interrupt in = { .partition_id = HV_PARTITION_ID_SELF,
						      .device_id = device };

	in.entry.source = source;
	in.entry.data = data;
	memcpy(fresh_input(), &in, sizeof(in));
	return status_of(hv_simple(HV_CALL_UNMAP_DEVICE_INTERRUPT));
}

#define PCI_DEVICE (HV_DEVICE_TYPE_PCI << HV_DEVICE_TYPE_SHIFT | 0x1234)
#define IOAPIC_DEVICE (HV_DEVICE_TYPE_IOAPIC << HV_DEVICE_TYPE_SHIFT)

static void device_interrupts(void)
{
	struct hv_input_map_device_interrupt in = request(PCI_DEVICE, 0x75), wrong;
	const struct hv_interrupt_entry *out = (const struct hv_interrupt_entry *)hv_out;
	uint64_t msi, rte;
	unsigned int bad = 0;

	is(map_interrupt(&in, 1, 2), HV_STATUS_SUCCESS, "HvCallMapDeviceInterrupt: an MSI");
	msi = out->data;
	ok(out->source == HV_INTERRUPT_SOURCE_MSI && (msi & 0xfff00000) == 0xfee00000 &&
		   (uint8_t)(msi >> 32) == 0x75,
	   "HV_INTERRUPT_ENTRY: address in 31:0, data in 63:32 (%llx)", (unsigned long long)msi);
	*(volatile uint32_t *)(msi & 0xffffffff) = (uint32_t)(msi >> 32); /* no device: the bus may drop it */
	came(0x75);
	in = request(IOAPIC_DEVICE, 0x76);
	in.descriptor.trigger_mode = HV_INTERRUPT_LEVEL;
	is(map_interrupt(&in, 1, 2), HV_STATUS_SUCCESS, "... an I/O APIC's");
	rte = out->data;
	ok(out->source == HV_INTERRUPT_SOURCE_IOAPIC && (uint8_t)rte == 0x76 && (rte >> 56) == apic_id(),
	   "... a redirection entry: vector, destination (%llx)", (unsigned long long)rte);
	for (unsigned int i = 0; i < 7; i++) {
		wrong = request(PCI_DEVICE, 0x77);
		if (i == 0)
			wrong.descriptor.target.vector = 0xf;
		else if (i == 1)
			wrong.descriptor.target.vector = 0x100;
		else if (i == 2)
			wrong.descriptor.vector_count = 2;
		else if (i == 3)
			wrong.descriptor.interrupt_type = 4;
		else if (i == 4)
			wrong.flags = 0x80;
		else if (i == 5)
			wrong.descriptor.trigger_mode = 2;
		else
			wrong.descriptor.target.vp_set.format = 9;
		if (map_interrupt(&wrong, 1, 2) == HV_STATUS_INVALID_PARAMETER)
			continue;
		note("refusal %u", i);
		bad++;
	}
	is(bad, 0,
	   "... vectors below 16 and above 255, counts, types, flags, trigger modes, sets are checked");
	wrong = request(0x1234, 0x77);
	is(map_interrupt(&wrong, 1, 2), HV_STATUS_INVALID_DEVICE_ID,
	   "... a logical device, of which there are none");
	wrong = request(PCI_DEVICE, 0x77);
	wrong.partition_id = 12345;
	is(map_interrupt(&wrong, 1, 2), HV_STATUS_INVALID_PARTITION_ID, "... no such partition");
	wrong.partition_id = HV_PARTITION_ID_SELF;
	ok(map_interrupt(&wrong, 0, 2) != HV_STATUS_SUCCESS &&
		   map_interrupt(&wrong, 1ull << 63, 2) != HV_STATUS_SUCCESS,
	   "... no VP, or one that isn't there");
	ok(map_interrupt(&wrong, 1, 1) != HV_STATUS_SUCCESS &&
		   map_interrupt(&wrong, 1, 3) != HV_STATUS_SUCCESS &&
		   map_interrupt(&wrong, 1, 0) != HV_STATUS_SUCCESS,
	   "XSA-475: ... as many elements as banks");
	ok(unmap_interrupt(PCI_DEVICE, HV_INTERRUPT_SOURCE_MSI, msi ^ 1ull << 32) != HV_STATUS_SUCCESS,
	   "HvCallUnmapDeviceInterrupt: only what was mapped");
	ok(unmap_interrupt(PCI_DEVICE + 1, HV_INTERRUPT_SOURCE_MSI, msi) != HV_STATUS_SUCCESS,
	   "... by its device");
	is(unmap_interrupt(PCI_DEVICE, HV_INTERRUPT_SOURCE_MSI, msi), HV_STATUS_SUCCESS, "... the MSI");
	ok(unmap_interrupt(PCI_DEVICE, HV_INTERRUPT_SOURCE_MSI, msi) != HV_STATUS_SUCCESS, "... not twice");
	is(unmap_interrupt(IOAPIC_DEVICE, HV_INTERRUPT_SOURCE_IOAPIC, rte), HV_STATUS_SUCCESS,
	   "... the I/O APIC's");
	in = request(PCI_DEVICE, 0x75);
	ok(map_interrupt(&in, 1, 2) == HV_STATUS_SUCCESS && out->data == msi,
	   "HvCallMapDeviceInterrupt: and again");
	unmap_interrupt(PCI_DEVICE, HV_INTERRUPT_SOURCE_MSI, msi);
}

/* ---- Properties and the rest ---- */

static uint16_t system_property(uint32_t id, uint64_t argument)
{
	uint64_t words[2] = { id, argument };

	return status_of(call_with(HV_CALL_GET_SYSTEM_PROPERTY, words, 2));
}

static uint16_t partition_property(uint64_t partition, uint32_t code)
{
	uint64_t words[2] = { partition, code };

	return status_of(call_with(HV_CALL_GET_PARTITION_PROPERTY, words, 2));
}

static void properties(void)
{
	const uint64_t *out = (const uint64_t *)hv_out;
	uint64_t words[3] = { HV_PARTITION_ID_SELF, HV_PROPERTY_VMM_CAPABILITIES, 0 }, own;

	is(system_property(HV_SYSTEM_PROPERTY_SCHEDULER_TYPE, 0), HV_STATUS_SUCCESS,
	   "HvCallGetSystemProperty: scheduler type");
	ok(out[0] >= 1 && out[0] <= 4, "... is one of four: %llu", (unsigned long long)out[0]);
	ok(system_property(HV_SYSTEM_PROPERTY_CRASH_DUMP_AREA, 0) != HV_STATUS_SUCCESS,
	   "... no crash dump area: Linux would read it at each NMI");
	is(system_property(0x7777, 0), HV_STATUS_UNKNOWN_PROPERTY, "... an unknown property");
	is(partition_property(HV_PARTITION_ID_SELF, HV_PROPERTY_PRIVILEGE_FLAGS), HV_STATUS_SUCCESS,
	   "HvCallGetPartitionProperty: privileges");
	is(out[0], cpuid(HV_CPUID_FEATURES, 0).eax | (uint64_t)cpuid(HV_CPUID_FEATURES, 0).ebx << 32,
	   "... as CPUID has them");
	is(partition_property(HV_PARTITION_ID_SELF, HV_PROPERTY_GUEST_OS_ID), HV_STATUS_SUCCESS,
	   "... guest OS id");
	is(out[0], HV_OS_ID, "... is ours");
	is(partition_property(HV_PARTITION_ID_SELF, 0x777), HV_STATUS_UNKNOWN_PROPERTY, "... an unknown one");
	is(partition_property(0, HV_PROPERTY_GUEST_OS_ID), HV_STATUS_INVALID_PARTITION_ID, "... partition 0");
	is(partition_property(12345, HV_PROPERTY_GUEST_OS_ID), HV_STATUS_INVALID_PARTITION_ID,
	   "... no such partition");
	hv_simple(HV_CALL_GET_PARTITION_ID);
	own = out[0];
	is(partition_property(own, HV_PROPERTY_GUEST_OS_ID), HV_STATUS_SUCCESS, "... by one's own id");
	IS_STATUS(call_with(HV_CALL_GET_PARTITION_PROPERTY_EX, words, 3), HV_STATUS_SUCCESS,
		  "HvCallGetPartitionPropertyEx: VMM capabilities");
	ok((uint16_t)out[0] == 1 && out[511] == 0, "... one bank, and zeros behind it");
	words[1] = 0x777;
	IS_STATUS(call_with(HV_CALL_GET_PARTITION_PROPERTY_EX, words, 3), HV_STATUS_UNKNOWN_PROPERTY,
		  "... an unknown one");
	words[1] = HV_PROPERTY_PRIVILEGE_FLAGS;
	words[2] = 0;
	ok(status_of(call_with(HV_CALL_SET_PARTITION_PROPERTY, words, 3)) != HV_STATUS_SUCCESS,
	   "HvCallSetPartitionProperty: a root doesn't give itself privileges");
}

static void sleep_states(void)
{
	struct hv_input_set_system_property in = { .property_id = HV_SYSTEM_PROPERTY_SLEEP_STATE };
	uint64_t state = HV_SLEEP_STATE_S5;

	IS_STATUS(call_with(HV_CALL_ENTER_SLEEP_STATE, &state, 1), HV_STATUS_OPERATION_DENIED,
		  "HvCallEnterSleepState: S5 isn't known how to be reached yet");
	state = 0;
	IS_STATUS(call_with(HV_CALL_ENTER_SLEEP_STATE, &state, 1), HV_STATUS_INVALID_PARAMETER, "... S0");
	in.sleep_state.sleep_state = 9;
	ok(status_of(call_with(HV_CALL_SET_SYSTEM_PROPERTY, (uint64_t *)&in, 9)) != HV_STATUS_SUCCESS,
	   "HvCallSetSystemProperty: no such sleep state");
	in.sleep_state.sleep_state = HV_SLEEP_STATE_S5;
	in.sleep_state.pm1a_slp_typ = 8;
	ok(status_of(call_with(HV_CALL_SET_SYSTEM_PROPERTY, (uint64_t *)&in, 9)) != HV_STATUS_SUCCESS,
	   "... sleep types have three bits");
	in.property_id = 0x777;
	IS_STATUS(call_with(HV_CALL_SET_SYSTEM_PROPERTY, (uint64_t *)&in, 9), HV_STATUS_UNKNOWN_PROPERTY,
		  "... an unknown property");
}

void tlfs_root(void)
{
	if (child_lacks(HV_PRIVILEGE_CREATE_PARTITIONS, "Virtualization Host"))
		return;
	memory();
	statistics();
	device_interrupts();
	properties();
	sleep_states();
}
