/* SPDX-License-Identifier: MIT */
/*
 * From inside a child: every way to name another partition, memory that its parent didn't give it, ports and connections of others,
 * and the machine's own registers. Each gets the refusal that the TLFS specifies, and nothing of the child changes by it.
 */
#include "lib/hv.h"
#include <hv/memory.h>
#include <hv/partition.h>
#include <hv/port.h>
#include <hv/root.h>
#include <hv/synic.h>
#include <hv/vp.h>

#define GP 13u
#define IDS_NEAR 64u	    /* partition ids that a hypervisor may well have given */
#define CONNECTIONS 0x1000u /* connection ids that are tried one by one */
#define ALL_ONES_BYTE 0xffu /* what a monitor answers where nothing is */

static uint64_t own_id; /* 0: this child may not know it */

static uint64_t *fresh(void)
{
	memset(hv_in, 0, PAGE);
	memset(hv_out, 0, PAGE);
	return (uint64_t *)hv_in;
}

static uint16_t status_of(uint64_t result)
{
	return (uint16_t)(result & HV_RESULT_STATUS_MASK);
}

static void learn_own_id(void)
{
	fresh();
	if (!(hv_privileges() & HV_PRIVILEGE_ACCESS_PARTITION_ID)) {
		is(status_of(hv_simple(HV_CALL_GET_PARTITION_ID)), HV_STATUS_ACCESS_DENIED,
		   "HvCallGetPartitionId without AccessPartitionId");
		is(*(uint64_t *)hv_out, 0, "... tells nothing");
		return;
	}
	is(status_of(hv_simple(HV_CALL_GET_PARTITION_ID)), HV_STATUS_SUCCESS, "HvCallGetPartitionId");
	own_id = *(uint64_t *)hv_out;
	ok(own_id > 1, "... a child's, %llu", (unsigned long long)own_id);
}

/* ---- Other partitions: all calls whose input begins with a partition's id ---- */

enum form { SIMPLE, FAST, REP };

static const struct {
	uint16_t code;
	uint8_t form;
} calls_by_id[] = {
	{ HV_CALL_INITIALIZE_PARTITION, FAST },
	{ HV_CALL_FINALIZE_PARTITION, FAST },
	{ HV_CALL_DELETE_PARTITION, FAST },
	{ HV_CALL_GET_PARTITION_PROPERTY, SIMPLE },
	{ HV_CALL_SET_PARTITION_PROPERTY, SIMPLE },
	{ HV_CALL_GET_PARTITION_PROPERTY_EX, SIMPLE },
	{ HV_CALL_GET_NEXT_CHILD_PARTITION, SIMPLE },
	{ HV_CALL_DEPOSIT_MEMORY, REP },
	{ HV_CALL_WITHDRAW_MEMORY, REP },
	{ HV_CALL_GET_MEMORY_BALANCE, SIMPLE },
	{ HV_CALL_MAP_GPA_PAGES, REP },
	{ HV_CALL_UNMAP_GPA_PAGES, REP },
	{ HV_CALL_INSTALL_INTERCEPT, SIMPLE },
	{ HV_CALL_CREATE_VP, SIMPLE },
	{ HV_CALL_DELETE_VP, FAST },
	{ HV_CALL_GET_VP_REGISTERS, REP },
	{ HV_CALL_SET_VP_REGISTERS, REP },
	{ HV_CALL_TRANSLATE_VIRTUAL_ADDRESS, SIMPLE },
	{ HV_CALL_READ_GPA, SIMPLE },
	{ HV_CALL_WRITE_GPA, SIMPLE },
	{ HV_CALL_CLEAR_VIRTUAL_INTERRUPT, FAST },
	{ HV_CALL_CREATE_PORT, SIMPLE },
	{ HV_CALL_DELETE_PORT, FAST },
	{ HV_CALL_GET_PORT_PROPERTY, SIMPLE },
	{ HV_CALL_CONNECT_PORT, SIMPLE },
	{ HV_CALL_DISCONNECT_PORT, FAST },
	{ HV_CALL_MAP_DEVICE_INTERRUPT, SIMPLE },
	{ HV_CALL_UNMAP_DEVICE_INTERRUPT, SIMPLE },
	{ HV_CALL_RETARGET_DEVICE_INTERRUPT, SIMPLE },
	{ HV_CALL_REGISTER_INTERCEPT_RESULT, SIMPLE },
	{ HV_CALL_UNREGISTER_INTERCEPT_RESULT, SIMPLE },
	{ HV_CALL_ASSERT_VIRTUAL_INTERRUPT, SIMPLE },
	{ HV_CALL_START_VIRTUAL_PROCESSOR, SIMPLE },
	{ HV_CALL_GET_VP_INDEX_FROM_APIC_ID, REP },
	{ HV_CALL_SIGNAL_EVENT_DIRECT, SIMPLE },
	{ HV_CALL_POST_MESSAGE_DIRECT, SIMPLE },
	{ HV_CALL_DISPATCH_VP, SIMPLE },
	{ HV_CALL_GET_GPA_PAGES_ACCESS_STATES, REP },
	{ HV_CALL_MAP_VP_STATE_PAGE, SIMPLE },
	{ HV_CALL_UNMAP_VP_STATE_PAGE, SIMPLE },
	{ HV_CALL_GET_VP_STATE, SIMPLE },
	{ HV_CALL_SET_VP_STATE, SIMPLE },
	{ HV_CALL_GET_VP_CPUID_VALUES, REP },
};

/* Whose element or field would otherwise be what is wrong with the input. */
static void fill_input(uint16_t code, uint64_t id)
{
	uint64_t *in = fresh();

	in[0] = id;
	switch (code) {
	case HV_CALL_GET_PARTITION_PROPERTY:
	case HV_CALL_SET_PARTITION_PROPERTY:
		in[1] = HV_PROPERTY_TIME_FREEZE;
		break;
	case HV_CALL_GET_PARTITION_PROPERTY_EX:
		in[1] = HV_PROPERTY_VMM_CAPABILITIES;
		break;
	case HV_CALL_GET_VP_REGISTERS:
		((uint32_t *)in)[4] = HV_REGISTER_X64_RIP;
		break;
	case HV_CALL_SET_VP_REGISTERS:
		((uint32_t *)in)[4] = HV_REGISTER_X64_CR2;
		break;
	case HV_CALL_DEPOSIT_MEMORY:
		in[1] = (uint64_t)hv_in / PAGE;
		break;
	case HV_CALL_MAP_GPA_PAGES:
		in[2] = HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE;
		in[3] = (uint64_t)hv_in / PAGE;
		break;
	case HV_CALL_READ_GPA:
	case HV_CALL_WRITE_GPA:
		in[1] = 8ull << 32;
		break;
	case HV_CALL_CREATE_PORT:
		in[3] = HV_PORT_TYPE_MESSAGE;
		in[2] = id;
		break;
	case HV_CALL_ASSERT_VIRTUAL_INTERRUPT:
		in[3] = 0x40;
		break;
	default:
		break;
	}
}

static uint16_t call_for(unsigned int i, uint64_t id)
{
	uint16_t code = calls_by_id[i].code;

	fill_input(code, id);
	switch (calls_by_id[i].form) {
	case FAST:
		return status_of(hv_fast(code, id, 0));
	case REP:
		return status_of(hv_reps(code, 1));
	default:
		return status_of(hv_simple(code));
	}
}

/* TLFS "Common Hypercall Status Codes": no privilege, no such partition that this caller may name, or no such call. */
static bool refused(uint16_t status)
{
	return status == HV_STATUS_ACCESS_DENIED || status == HV_STATUS_INVALID_PARTITION_ID ||
	       status == HV_STATUS_INVALID_HYPERCALL_CODE;
}

static bool output_is_empty(void)
{
	for (unsigned int i = 0; i < PAGE / 8; i++)
		if (((volatile uint64_t *)hv_out)[i])
			return false;
	return true;
}

static unsigned int try_id(unsigned int call, uint64_t id)
{
	uint16_t status;

	if (id == own_id && own_id)
		return 0;
	status = call_for(call, id);
	if (refused(status) && output_is_empty())
		return 0;
	note("call %x, partition %llx: status %x%s", calls_by_id[call].code, (unsigned long long)id, status,
	     output_is_empty() ? "" : ", and it tells something");
	return 1;
}

static void other_partitions(void)
{
	/* Not such as a partition near ours may have: who may not know his own id would take that for another's. */
	static const uint64_t far[] = { 0x100,	    0x13ff,	0x103ff,	   0x7fffffff,
					1ull << 32, 1ull << 63, 0xfffffffffffffffe };

	for (unsigned int call = 0; call < ARRAY_LEN(calls_by_id); call++) {
		unsigned int bad = 0;

		for (uint64_t id = 0; id < IDS_NEAR; id++)
			bad += try_id(call, id);
		for (unsigned int i = 0; i < ARRAY_LEN(far); i++)
			bad += try_id(call, far[i]);
		is(bad, 0, "call %x: no other partition can be named", calls_by_id[call].code);
	}
}

/* What only a parent does, a child doesn't do to itself either. */
static void oneself(void)
{
	static const uint16_t parents[] = { HV_CALL_INITIALIZE_PARTITION,
					    HV_CALL_FINALIZE_PARTITION,
					    HV_CALL_DELETE_PARTITION,
					    HV_CALL_DEPOSIT_MEMORY,
					    HV_CALL_WITHDRAW_MEMORY,
					    HV_CALL_MAP_GPA_PAGES,
					    HV_CALL_UNMAP_GPA_PAGES,
					    HV_CALL_INSTALL_INTERCEPT,
					    HV_CALL_CREATE_VP,
					    HV_CALL_DELETE_VP,
					    HV_CALL_SET_PARTITION_PROPERTY,
					    HV_CALL_REGISTER_INTERCEPT_RESULT,
					    HV_CALL_ASSERT_VIRTUAL_INTERRUPT,
					    HV_CALL_DISPATCH_VP,
					    HV_CALL_MAP_VP_STATE_PAGE,
					    HV_CALL_GET_VP_STATE,
					    HV_CALL_SET_VP_STATE };
	unsigned int bad = 0;

	for (unsigned int p = 0; p < ARRAY_LEN(parents); p++)
		for (unsigned int call = 0; call < ARRAY_LEN(calls_by_id); call++) {
			uint16_t status;

			if (calls_by_id[call].code != parents[p])
				continue;
			status = call_for(call, HV_PARTITION_ID_SELF);
			if (status != HV_STATUS_SUCCESS)
				continue;
			note("call %x for oneself: status %x", parents[p], status);
			bad++;
		}
	is(bad, 0, "what a parent does to its child, the child doesn't do to itself");
}

/* Calls about the machine, which name no partition. */
static void machine_calls(void)
{
	static const uint16_t simple[] = {
		HV_CALL_CREATE_PARTITION,
		HV_CALL_MAP_STATS_PAGE,
		HV_CALL_SET_SYSTEM_PROPERTY,
		HV_CALL_GET_SYSTEM_PROPERTY,
		HV_CALL_ADD_LOGICAL_PROCESSOR,
		HV_CALL_REMOVE_LOGICAL_PROCESSOR,
		HV_CALL_ENTER_SLEEP_STATE,
		HV_CALL_PREPARE_FOR_SLEEP,
		HV_CALL_NOTIFY_PARTITION_EVENT,
		HV_CALL_DISABLE_HYPERVISOR_EX,
		HV_CALL_DISABLE_HYPERVISOR,
		HV_CALL_MAP_EVENT_LOG_BUFFER,
		HV_CALL_COLLECT_LIVE_DUMP,
		HV_CALL_GET_LOGICAL_PROCESSOR_RUN_TIME,
		HV_CALL_INJECT_SYNTHETIC_MACHINE_CHECK,
	};
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(simple); i++) {
		uint16_t status;

		fresh();
		status = status_of(hv_simple(simple[i]));
		if (status != HV_STATUS_SUCCESS && output_is_empty())
			continue;
		note("call %x: status %x", simple[i], status);
		bad++;
	}
	is(bad, 0, "calls about the machine are refused");
}

/* ---- Connections and ports of others ---- */

static void connections(void)
{
	bool posts = hv_privileges() & HV_PRIVILEGE_POST_MESSAGES;
	bool signals = hv_privileges() & HV_PRIVILEGE_SIGNAL_EVENTS;
	unsigned int bad = 0;

	for (uint32_t id = 0; id < CONNECTIONS; id++) {
		struct hv_input_post_message *in = (void *)fresh();
		uint16_t status;

		in->connection_id = id;
		in->message_type = 1;
		in->payload_bytes = 8;
		status = status_of(hv_simple(HV_CALL_POST_MESSAGE));
		if (status == (posts ? HV_STATUS_INVALID_CONNECTION_ID : HV_STATUS_ACCESS_DENIED))
			continue;
		note("connection %x: status %x", id, status);
		bad++;
	}
	is(bad, 0, "HvCallPostMessage: no connection that one didn't make");
	for (uint32_t id = 0; id < CONNECTIONS; id++) {
		uint16_t status = status_of(hv_fast(HV_CALL_SIGNAL_EVENT, id, 0));

		bad += status != (signals ? HV_STATUS_INVALID_CONNECTION_ID : HV_STATUS_ACCESS_DENIED);
	}
	is(bad, 0, "HvCallSignalEvent: no connection that one didn't make");
}

static void ports(void)
{
	unsigned int bad = 0;

	for (uint64_t id = 0; id < IDS_NEAR; id++)
		for (uint32_t port = 1; port < 4; port++) {
			struct hv_input_connect_port *in = (void *)fresh();
			uint16_t status;

			if (own_id && id == own_id)
				continue;
			in->connection_partition_id = HV_PARTITION_ID_SELF;
			in->connection_id = 1;
			in->port_partition_id = id;
			in->port_id = port;
			in->connection_info.port_type = HV_PORT_TYPE_MESSAGE;
			status = status_of(hv_simple(HV_CALL_CONNECT_PORT));
			if (refused(status))
				continue;
			note("port %u of partition %llu: status %x", port, (unsigned long long)id, status);
			bad++;
		}
	is(bad, 0, "HvCallConnectPort: to no other partition's port");
}

/* ---- Memory ---- */

static uint64_t end_of_ram(void)
{
	uint64_t end = 0;

	for (unsigned int i = 0; i < memory_map_len; i++)
		if (memory_map[i].base + memory_map[i].size > end)
			end = memory_map[i].base + memory_map[i].size;
	return end;
}

/* The next address to try: all 16 MiB of the first 4 GiB, then a few far above. Without end: 0. */
static uint64_t next_outside(uint64_t address)
{
	const uint64_t step = 16ull << 20;

	if (address < 1ull << 32)
		return (address & ~(step - 1)) + step;
	if (address < 1ull << 38)
		return address << 1;
	return 0;
}

static uint32_t load(uint64_t address, uint8_t *value)
{
	__asm__ volatile(TRY("movb (%1), %%al\n\tmovb %%al, %0")
			 : "=m"(*value)
			 : "r"(address)
			 : "r11", "rax", "memory");
	return last_fault.vector;
}

static bool is_apic(uint64_t address)
{
	return address >> 12 == APIC_PHYS >> 12;
}

/* Above 512 GiB and where the processor has no address bits nothing can be reached by these page tables. */
static void loads(void)
{
	unsigned int bad = 0, tried = 0;

	for (uint64_t a = end_of_ram(); a; a = next_outside(a)) {
		uint8_t value = ALL_ONES_BYTE;

		if (is_apic(a))
			continue;
		tried++;
		if (load(a, &value) == NO_FAULT && value != ALL_ONES_BYTE) {
			note("%llx holds %x", (unsigned long long)a, value);
			bad++;
		}
	}
	is(bad, 0, "loads behind one's RAM, at %u addresses: nothing is there", tried);
}

/* A call with its parameters there: refused, or a fault. In either case the instruction is over. */
static uint32_t call_at(uint64_t control, uint64_t input, uint64_t output, uint16_t *status)
{
	register uint64_t r8 __asm__("r8") = output;
	uint64_t result = 0;

	if (is_intel())
		__asm__ volatile(TRY("vmcall")
				 : "+a"(result), "+c"(control), "+d"(input), "+r"(r8)
				 :
				 : "r11", "memory", "cc");
	else
		__asm__ volatile(TRY("vmmcall")
				 : "+a"(result), "+c"(control), "+d"(input), "+r"(r8)
				 :
				 : "r11", "memory", "cc");
	*status = status_of(result);
	return last_fault.vector;
}

static void parameters(void)
{
	unsigned int bad = 0, tried = 0;
	uint64_t rep = HV_CALL_GET_VP_INDEX_FROM_APIC_ID | 1ull << HV_CONTROL_REP_COUNT_SHIFT;

	for (uint64_t a = end_of_ram(); a; a = next_outside(a)) {
		struct hv_input_get_vp_index_from_apic_id *in = (void *)fresh();
		uint16_t in_status, out_status;
		uint32_t in_fault, out_fault;

		in_fault = call_at(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, a, 0, &in_status);
		in->partition_id = HV_PARTITION_ID_SELF;
		*(uint32_t *)(in + 1) = apic_id();
		out_fault = call_at(rep, (uint64_t)hv_in, a, &out_status);
		tried++;
		if ((in_fault == GP || in_status == HV_STATUS_INVALID_ALIGNMENT) &&
		    (out_fault == GP || out_status == HV_STATUS_INVALID_ALIGNMENT))
			continue;
		note("%llx: input %u/%x, output %u/%x", (unsigned long long)a, in_fault, in_status, out_fault,
		     out_status);
		bad++;
	}
	is(bad, 0, "parameters of a call behind one's RAM, at %u addresses: #GP or refused", tried);
}

static bool same_bytes(const uint8_t *page, uint8_t mark)
{
	for (unsigned int i = 0; i < PAGE; i++)
		if (((const volatile uint8_t *)page)[i] != (uint8_t)(mark + i))
			return false;
	return true;
}

/*
 * Pages of the hypervisor's at addresses that are no RAM: allowed by the TLFS ("GPA Overlay Pages": anywhere in the GPA space) or
 * refused by #GP; when they go, nothing stays there.
 */
static void overlays(void)
{
	static const uint32_t msrs[] = { HV_MSR_HYPERCALL, HV_MSR_REFERENCE_TSC, HV_MSR_VP_ASSIST_PAGE,
					 HV_MSR_SIMP, HV_MSR_SIEFP };
	const uint64_t places[] = { 0xa0000,	0xc0000000,   0xfec00000,  0xfee00000,
				    0xfffff000, 0x3000000000, 0x7ffffff000 };
	uint8_t *ram = (uint8_t *)alloc_memory(PAGE, PAGE);
	unsigned int bad = 0;

	for (unsigned int i = 0; i < PAGE; i++)
		ram[i] = (uint8_t)(0x33 + i);
	for (unsigned int m = 0; m < ARRAY_LEN(msrs); m++) {
		uint64_t old = rdmsr(msrs[m]);

		for (unsigned int p = 0; p < ARRAY_LEN(places); p++) {
			uint8_t value = ALL_ONES_BYTE;

			if (try_wrmsr(msrs[m], places[p] | 1) != NO_FAULT)
				continue;
			load(places[p], &value);
			wrmsr(msrs[m], (uint64_t)ram | 1);
			wrmsr(msrs[m], old);
			value = ALL_ONES_BYTE;
			if (!is_apic(places[p]) && load(places[p], &value) == NO_FAULT &&
			    value != ALL_ONES_BYTE) {
				note("MSR %x: %x stays at %llx", msrs[m], value,
				     (unsigned long long)places[p]);
				bad++;
			}
		}
		wrmsr(msrs[m], old);
		bad += rdmsr(msrs[m]) != old;
	}
	is(bad, 0, "GPA Overlay Pages where no RAM is: nothing of them stays");
	ok(same_bytes(ram, 0x33), "... and RAM beneath is what it was");
	is(apic_read(APIC_VERSION) >> 8 & 0xff, 0, "... the local APIC is where it was");
	irq_on();
	apic_icr(0, ICR_SELF | ICR_ASSERT | 0x41);
	ok(wait_for(&vector_count[0][0x41], 1, 1000000), "... and works");
	irq_off();
}

/* ---- The machine's registers ---- */

static void machine_registers(void)
{
	static const uint32_t msrs[] = {
		MSR_VM_CR,  MSR_VM_HSAVE_PA, 0x480,	 0x48b,	     /* virtualization */
		0xc0010020, 0xc0010114,	     0xc0010117,	     /* microcode, SVM */
		0x9e,	    0x1f2,	     0xc0010111, 0xc0010113, /* SMM */
		0xc0010016, 0xc0010017,	     0xc0010018,	     /* IORR, top of memory */
	};
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(msrs); i++) {
		uint64_t before = 0, after = 0;
		uint32_t read = try_rdmsr(msrs[i], &before);

		try_wrmsr(msrs[i], 0x1230000);
		if (try_rdmsr(msrs[i], &after) == read && (read == GP || after == before))
			continue;
		note("MSR %x: %llx, then %llx", msrs[i], (unsigned long long)before,
		     (unsigned long long)after);
		bad++;
	}
	is(bad, 0, "the machine's MSRs keep nothing that is written");
	is(try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME), GP, "EFER.SVME can't be set");
	/* QEMU's SVM takes reserved bits of CR4 for a failed VMRUN: that would be the end of us. */
	if (is_intel())
		is(try_write_cr(4, read_cr4() | CR4_VMXE), GP, "CR4.VMXE can't be set");
}

void test_main(void)
{
	if (!in_child)
		skip_all("it is about children");
	hv_open();
	learn_own_id();
	other_partitions();
	oneself();
	machine_calls();
	connections();
	ports();
	loads();
	parameters();
	overlays();
	machine_registers();
	is(cpuid(HV_CPUID_INTERFACE, 0).eax, HV_INTERFACE_SIGNATURE, "the interface is there as before");
}
