/* SPDX-License-Identifier: MIT */
/*
 * TLFS "Inter-Partition Communication", "HvCallCreatePort", "HvCallConnectPort", "HvCallPostMessage", "HvCallSignalEvent": messages and
 * event flags through ports of the guest's own, to itself and to other VPs.
 */
#include "tlfs.h"
#include <hv/port.h>
#include <hv/synic.h>

#define SINT 3u
#define VECTOR 0x80u
#define PORT 0x100u
#define EVENT_PORT 0x200u
#define CONNECTION 0x300u
#define EVENT_CONNECTION 0x400u
#define BASE_FLAG 70u
#define FLAGS 5u
#define BUFFERS 16u
#define PORT_PRIVILEGES                                                                       \
	(HV_PRIVILEGE_POST_MESSAGES | HV_PRIVILEGE_SIGNAL_EVENTS | HV_PRIVILEGE_CREATE_PORT | \
	 HV_PRIVILEGE_CONNECT_PORT)

static volatile struct hv_message *slot;

/* ---- Ports and connections ---- */

static struct hv_input_create_port port_input(uint32_t id, uint32_t type, uint32_t sint, uint32_t vp)
{
	struct hv_input_create_port in = { .port_partition_id = HV_PARTITION_ID_SELF, .port_id = id };

	in.port_info.port_type = type;
	in.port_info.target_sint = sint;
	in.port_info.target_vp = vp;
	if (type == HV_PORT_TYPE_EVENT) {
		in.port_info.base_flag_number = BASE_FLAG;
		in.port_info.flag_count = FLAGS;
	}
	return in;
}

static uint16_t create_with(struct hv_input_create_port in)
{
	return status_of(call_with(HV_CALL_CREATE_PORT, (uint64_t *)&in, sizeof(in) / 8));
}

static uint16_t create(uint32_t id, uint32_t type, uint32_t sint, uint32_t vp)
{
	return create_with(port_input(id, type, sint, vp));
}

static uint16_t connect_with(uint64_t owner, uint32_t connection, uint32_t port, uint32_t type)
{
	struct hv_input_connect_port in = { .connection_partition_id = HV_PARTITION_ID_SELF,
					    .connection_id = connection,
					    .port_partition_id = owner,
					    .port_id = port,
					    .connection_info.port_type = type };

	return status_of(call_with(HV_CALL_CONNECT_PORT, (uint64_t *)&in, sizeof(in) / 8));
}

static uint16_t connect(uint32_t connection, uint32_t port, uint32_t type)
{
	return connect_with(HV_PARTITION_ID_SELF, connection, port, type);
}

static uint16_t remove(uint16_t code, uint32_t id)
{
	uint64_t words[2] = { HV_PARTITION_ID_SELF, id };

	return status_of(call_with(code, words, 2));
}

static void ports(void)
{
	struct hv_input_create_port in = port_input(PORT, HV_PORT_TYPE_MESSAGE, SINT, 0);
	unsigned int bad = 0;

	is(create_with(in), HV_STATUS_SUCCESS, "HvCallCreatePort: a message port");
	is(create_with(in), HV_STATUS_INVALID_PORT_ID, "... its id is taken");
	is(create(PORT | 0x1000000, HV_PORT_TYPE_MESSAGE, SINT, 0), HV_STATUS_INVALID_PORT_ID,
	   "HV_PORT_ID: the high 8 bits are reserved");
	in.port_id++;
	in.port_partition_id = 12345;
	is(create_with(in), HV_STATUS_INVALID_PARTITION_ID, "HvCallCreatePort: a partition that isn't there");
	in.port_partition_id = HV_PARTITION_ID_SELF;
	for (unsigned int i = 0; i < 6; i++) {
		static const uint8_t wrong_types[] = { 0, 5, 255 };
		struct hv_input_create_port wrong = in;

		if (i < 3)
			wrong.port_info.port_type = wrong_types[i];
		else if (i == 3)
			wrong.port_info.target_sint = 16;
		else if (i == 4)
			wrong.port_vtl = 1;
		else
			wrong.padding = 1; /* TLFS: ReservedZ0 */
		bad += create_with(wrong) != HV_STATUS_INVALID_PARAMETER;
	}
	is(bad, 0, "... port type, SINT, VTL and reserved fields are checked");
	is(create(PORT + 1, HV_PORT_TYPE_MESSAGE, SINT, cpu_count), HV_STATUS_INVALID_VP_INDEX,
	   "... the target VP too");
	is(create(EVENT_PORT, HV_PORT_TYPE_EVENT, SINT, 0), HV_STATUS_SUCCESS, "... an event port");
	in = port_input(EVENT_PORT + 1, HV_PORT_TYPE_EVENT, SINT, 0);
	in.port_info.base_flag_number = 2047;
	in.port_info.flag_count = 2;
	is(create_with(in), HV_STATUS_INVALID_PARAMETER, "... its flags must be within the SINT's 2048");
	in.port_info.base_flag_number = 0xffff;
	in.port_info.flag_count = 0xffff;
	is(create_with(in), HV_STATUS_INVALID_PARAMETER, "... without wrapping round");
	is(connect(CONNECTION, PORT, HV_PORT_TYPE_MESSAGE), HV_STATUS_SUCCESS,
	   "HvCallConnectPort: to oneself");
	is(connect(CONNECTION, PORT, HV_PORT_TYPE_MESSAGE), HV_STATUS_INVALID_CONNECTION_ID,
	   "... its id is taken");
	is(connect(CONNECTION + 1, PORT + 50, HV_PORT_TYPE_MESSAGE), HV_STATUS_INVALID_PORT_ID,
	   "... no such port");
	is(connect_with(12345, CONNECTION + 1, PORT, HV_PORT_TYPE_MESSAGE), HV_STATUS_INVALID_PARTITION_ID,
	   "... no such partition");
	is(connect(CONNECTION | 0x80000000, PORT, HV_PORT_TYPE_MESSAGE), HV_STATUS_INVALID_CONNECTION_ID,
	   "HV_CONNECTION_ID: the high 8 bits are reserved");
	ok(connect(CONNECTION + 1, PORT, HV_PORT_TYPE_EVENT) != HV_STATUS_SUCCESS,
	   "... of another type than the port");
	is(connect(EVENT_CONNECTION, EVENT_PORT, HV_PORT_TYPE_EVENT), HV_STATUS_SUCCESS,
	   "... an event connection");
}

/* ---- Messages ---- */

static uint16_t post(uint32_t connection, uint32_t type, uint32_t bytes, uint8_t mark)
{
	struct hv_input_post_message in = { .connection_id = connection,
					    .message_type = type,
					    .payload_bytes = bytes };

	memset(in.payload, mark, sizeof(in.payload));
	return status_of(call_with(HV_CALL_POST_MESSAGE, (uint64_t *)&in, sizeof(in) / 8));
}

/* The message in the slot is the one that post() with `mark` made. */
static bool holds(uint32_t type, uint32_t bytes, uint8_t mark)
{
	if (slot->type != type || slot->payload_bytes != bytes || slot->sender != PORT)
		return false;
	for (unsigned int i = 0; i < bytes; i++)
		if (slot->payload.bytes[i] != mark)
			return false;
	return true;
}

static void take_message(void)
{
	slot->type = HV_MESSAGE_NONE;
	__sync_synchronize();
}

static void refused_posts(void)
{
	is(post(CONNECTION + 9, 1, 8, 1), HV_STATUS_INVALID_CONNECTION_ID,
	   "HvCallPostMessage: no such connection");
	is(post(EVENT_CONNECTION, 1, 8, 1), HV_STATUS_INVALID_PORT_ID, "... not a message port");
	is(post(CONNECTION, 0, 8, 1), HV_STATUS_INVALID_PARAMETER, "... message type 0");
	is(post(CONNECTION, 0x80000001, 8, 1), HV_STATUS_INVALID_PARAMETER,
	   "... the type's most significant bit");
	is(post(CONNECTION, 1, 241, 1), HV_STATUS_INVALID_PARAMETER, "... more than 240 bytes");
	is(post(CONNECTION, 1, 0x100, 1), HV_STATUS_INVALID_PARAMETER, "... 256, whose low byte is 0");
	wrmsr(HV_MSR_SCONTROL, 0);
	is(post(CONNECTION, 1, 8, 1), HV_STATUS_INVALID_SYNIC_STATE, "... the target's SynIC is disabled");
	wrmsr(HV_MSR_SCONTROL, HV_SCONTROL_ENABLE);
	wrmsr(HV_MSR_SIMP, rdmsr(HV_MSR_SIMP) & ~1ull);
	is(post(CONNECTION, 1, 8, 1), HV_STATUS_INVALID_SYNIC_STATE, "... its SIM page is disabled");
	wrmsr(HV_MSR_SIMP, rdmsr(HV_MSR_SIMP) | 1);
	ok(slot->type == HV_MESSAGE_NONE && came(VECTOR) == 0, "... and none of them arrived");
}

static void delivery(void)
{
	static const uint16_t sizes[] = { 0, 1, 7, 240 };
	unsigned int bad = 0;

	memset((void *)slot, 0, sizeof(*slot));
	is(post(CONNECTION, 0x7fffffff, 24, 0x11), HV_STATUS_SUCCESS,
	   "HvCallPostMessage: any type without bit 31");
	is(came(VECTOR), 1, "SynIC Messages: one edge-triggered interrupt");
	ok(holds(0x7fffffff, 24, 0x11) && slot->flags == 0 && slot->reserved == 0,
	   "HV_MESSAGE: type, size, sender, payload");
	ok(slot->payload.bytes[24] == 0 && slot->payload.bytes[239] == 0,
	   "... only the payload's bytes are written");
	for (unsigned int i = 1; i < 16; i++)
		bad += message_slot((SINT + i) % 16)->type != HV_MESSAGE_NONE;
	is(bad, 0, "SIM Page: the other slots are untouched");
	take_message();
	for (unsigned int i = 0; i < ARRAY_LEN(sizes); i++) {
		bad += post(CONNECTION, 5 + i, sizes[i], (uint8_t)(0x20 + i)) != HV_STATUS_SUCCESS ||
		       came(VECTOR) != 1 || !holds(5 + i, sizes[i], (uint8_t)(0x20 + i));
		take_message();
	}
	is(bad, 0, "... payloads of 0, 1, 7 and 240 bytes");
}

static void queueing(void)
{
	unsigned int bad = 0;

	post(CONNECTION, 1, 8, 1);
	came(VECTOR);
	is(slot->flags & 1, 0, "HV_MESSAGE_FLAGS: no message pending");
	is(post(CONNECTION, 1, 8, 2), HV_STATUS_SUCCESS,
	   "SynIC Messages: with a message in its slot the next is queued");
	ok(holds(1, 8, 1) && came(VECTOR) == 0, "... without interrupt, and the first stays");
	is(slot->flags & 1, 1, "... its MessagePending flag is set");
	wrmsr(HV_MSR_EOM, 0);
	ok(holds(1, 8, 1) && came(VECTOR) == 0, "EOM Register: while the slot is full nothing is delivered");
	post(CONNECTION, 1, 8, 3);
	take_message();
	ok(came(VECTOR) == 0 && slot->type == 0, "... nor when the slot was emptied");
	wrmsr(HV_MSR_EOM, 0);
	ok(came(VECTOR) == 1 && holds(1, 8, 2), "EOM Register: delivers the next, with its interrupt");
	is(slot->flags & 1, 1, "... and tells that there is one more");
	take_message();
	wrmsr(HV_MSR_EOM, ~0ull);
	ok(came(VECTOR) == 1 && holds(1, 8, 3) && !(slot->flags & 1),
	   "... whatever is written; the last has no flag");
	take_message();
	wrmsr(HV_MSR_EOM, 0);
	ok(came(VECTOR) == 0 && slot->type == 0, "... empty queues: a no-op");
	/* One in the slot, and as many in the queue as there are buffers. */
	post(CONNECTION, 1, 8, 0x40);
	for (unsigned int i = 0; i < BUFFERS; i++)
		bad += post(CONNECTION, 1, 8, (uint8_t)(0x41 + i)) != HV_STATUS_SUCCESS;
	is(bad, 0, "Guest Message Buffers: 16 for a port");
	is(post(CONNECTION, 1, 8, 0x60), HV_STATUS_INSUFFICIENT_BUFFERS, "... and no more");
	for (unsigned int i = 0; i <= BUFFERS; i++) {
		bad += !holds(1, 8, (uint8_t)(0x40 + i));
		take_message();
		wrmsr(HV_MSR_EOM, 0);
	}
	ok(!bad && slot->type == 0,
	   "Reliability and Sequencing: they arrive in the order in which they were posted");
	came(VECTOR);
	is(post(CONNECTION, 1, 8, 0x61), HV_STATUS_SUCCESS, "... and the buffers are free again");
	came(VECTOR);
	take_message();
}

/* A handler that frees the slot and ends its interrupt, as "Recommended Message Handling" has it, without EOM. */
static uint8_t marks[8];
static unsigned int mark_count;

static void drain(struct trap_frame *f)
{
	(void)f;
	if (slot->type && mark_count < sizeof(marks))
		marks[mark_count++] = slot->payload.bytes[0];
	take_message();
	apic_write(APIC_EOI, 0);
}

static void other_triggers(void)
{
	post(CONNECTION, 1, 8, 1);
	came(VECTOR);
	post(CONNECTION, 1, 8, 2);
	take_message();
	is(post(CONNECTION, 1, 8, 3), HV_STATUS_SUCCESS,
	   "SynIC Messages: another message queued makes the first go");
	ok(came(VECTOR) == 1 && holds(1, 8, 2), "... in order");
	take_message();
	wrmsr(HV_MSR_EOM, 0);
	came(VECTOR);
	take_message();
	mark_count = 0;
	trap_handlers[VECTOR] = drain;
	for (uint8_t i = 1; i <= 4; i++)
		post(CONNECTION, 1, 8, i);
	for (unsigned int i = 0; i < 8; i++)
		take_interrupts();
	trap_handlers[VECTOR] = NULL;
	ok(mark_count == 4 && marks[0] == 1 && marks[1] == 2 && marks[2] == 3 && marks[3] == 4,
	   "SynIC Messages: the APIC's EOI delivers the next: %u came without EOM", mark_count);
	came(VECTOR);
	wrmsr(HV_MSR_EOM, 0);
	take_message();
}

static bool in_service_in_handler;

static void note_isr(struct trap_frame *f)
{
	(void)f;
	in_service_in_handler = apic_bit(APIC_ISR, VECTOR);
	if (in_service_in_handler)
		apic_write(APIC_EOI, 0);
}

static void sint_settings(void)
{
	wrmsr(HV_MSR_SINT0 + SINT, HV_SINT_MASKED | VECTOR);
	is(post(CONNECTION, 1, 8, 1), HV_STATUS_SUCCESS, "SINTx Registers: masked, a message can be posted");
	ok(came(VECTOR) == 0 && holds(1, 8, 1), "... it is delivered, and its interrupt is lost");
	wrmsr(HV_MSR_SINT0 + SINT, VECTOR);
	is(came(VECTOR), 0, "... unmasking brings none back");
	take_message();
	wrmsr(HV_MSR_SINT0 + SINT, HV_SINT_POLLING | VECTOR);
	post(CONNECTION, 1, 8, 2);
	ok(came(VECTOR) == 0 && holds(1, 8, 2), "SINTx Registers: polling, no interrupt");
	take_message();
	trap_handlers[VECTOR] = note_isr;
	wrmsr(HV_MSR_SINT0 + SINT, VECTOR);
	post(CONNECTION, 1, 8, 3);
	ok(came(VECTOR) == 1 && in_service_in_handler, "SINTx Registers: without AutoEOI it is in service");
	take_message();
	wrmsr(HV_MSR_SINT0 + SINT, HV_SINT_AUTO_EOI | VECTOR);
	post(CONNECTION, 1, 8, 4);
	ok(came(VECTOR) == 1 && !in_service_in_handler,
	   "SINTx Registers: AutoEOI, its ISR bit is clear in the handler");
	take_message();
	wrmsr(HV_MSR_SINT0 + SINT, VECTOR);
	post(CONNECTION, 1, 8, 5);
	ok(came(VECTOR) == 1 && in_service_in_handler, "... and off again");
	take_message();
	trap_handlers[VECTOR] = NULL;
	write_cr8(VECTOR >> 4);
	post(CONNECTION, 1, 8, 6);
	ok(came(VECTOR) == 0 && holds(1, 8, 6), "SynIC Messages: the task priority holds the interrupt back");
	write_cr8(0);
	is(came(VECTOR), 1, "... until it is lowered");
	take_message();
	apic_write(APIC_SVR, SPURIOUS_VECTOR);
	post(CONNECTION, 1, 8, 7);
	apic_write(APIC_SVR, 0x100 | SPURIOUS_VECTOR);
	ok(came(VECTOR) == 0 && holds(1, 8, 7), "SynIC Messages: with the APIC software-disabled it is lost");
	take_message();
}

/* What waits, waits for the page, not for its place in time. */
static void page_comes_back(void)
{
	post(CONNECTION, 1, 8, 1);
	post(CONNECTION, 1, 8, 2);
	came(VECTOR);
	take_message();
	wrmsr(HV_MSR_SIMP, rdmsr(HV_MSR_SIMP) & ~1ull);
	wrmsr(HV_MSR_EOM, 0);
	is(came(VECTOR), 0, "SynIC Messages: with the SIM page disabled a message remains queued");
	wrmsr(HV_MSR_SIMP, rdmsr(HV_MSR_SIMP) | 1);
	wrmsr(HV_MSR_EOM, 0);
	ok(came(VECTOR) == 1 && holds(1, 8, 2), "... and comes when it is there again");
	take_message();
}

/* ---- Event flags ---- */

static uint16_t signal(uint32_t connection, uint16_t flag)
{
	return status_of(hv_fast(HV_CALL_SIGNAL_EVENT, connection | (uint64_t)flag << 32, 0));
}

static bool flag_set(unsigned int number)
{
	return event_flags(SINT)->flags64[number / 64] >> number % 64 & 1;
}

static unsigned int flags_set(void)
{
	unsigned int count = 0;

	for (unsigned int sint = 0; sint < 16; sint++)
		for (unsigned int i = 0; i < 32; i++)
			for (uint64_t w = event_flags(sint)->flags64[i]; w; w &= w - 1)
				count++;
	return count;
}

static void clear_flag(unsigned int number)
{
	__sync_fetch_and_and(&event_flags(SINT)->flags64[number / 64], ~(1ull << number % 64));
}

static void events(void)
{
	uint64_t word = EVENT_CONNECTION | 2ull << 32;

	is(flags_set(), 0, "SIEF Page: zero at the start");
	is(signal(EVENT_CONNECTION, 0), HV_STATUS_SUCCESS, "HvCallSignalEvent");
	ok(flag_set(BASE_FLAG) && flags_set() == 1, "... sets the port's base flag, and no other");
	is(came(VECTOR), 1, "Event Flag Delivery: an interrupt");
	is(signal(EVENT_CONNECTION, 0), HV_STATUS_SUCCESS, "... again, while it is set");
	is(came(VECTOR), 0, "Event Flag Delivery: only a flag that was clear interrupts");
	clear_flag(BASE_FLAG);
	signal(EVENT_CONNECTION, 0);
	is(came(VECTOR), 1, "... cleared, it does again");
	IS_STATUS(call_with(HV_CALL_SIGNAL_EVENT, &word, 1), HV_STATUS_SUCCESS,
		  "HvCallSignalEvent with its input in memory");
	ok(flag_set(BASE_FLAG + 2) && came(VECTOR) == 1 && flags_set() == 2, "... flag 2 of the port");
	signal(EVENT_CONNECTION, FLAGS - 1);
	ok(flag_set(BASE_FLAG + FLAGS - 1) && flags_set() == 3, "... its last flag");
	is(signal(EVENT_CONNECTION, FLAGS), HV_STATUS_INVALID_PARAMETER,
	   "... the flag number must be below the count");
	is(signal(EVENT_CONNECTION, 0xffff), HV_STATUS_INVALID_PARAMETER, "... 0xffff too");
	is(signal(EVENT_CONNECTION + 1, 0), HV_STATUS_INVALID_CONNECTION_ID, "... no such connection");
	is(signal(CONNECTION, 0), HV_STATUS_INVALID_PORT_ID, "... not an event port");
	is(flags_set(), 3, "... and none of them set a flag");
	came(VECTOR);
	clear_flag(BASE_FLAG);
	wrmsr(HV_MSR_SINT0 + SINT, HV_SINT_MASKED | VECTOR);
	is(signal(EVENT_CONNECTION, 0), HV_STATUS_INVALID_SYNIC_STATE,
	   "Event Flag Delivery: a masked SINT is refused");
	wrmsr(HV_MSR_SINT0 + SINT, HV_SINT_POLLING | VECTOR);
	ok(signal(EVENT_CONNECTION, 0) == HV_STATUS_SUCCESS && flag_set(BASE_FLAG) && came(VECTOR) == 0,
	   "SINTx Registers: polling, the flag without interrupt");
	wrmsr(HV_MSR_SINT0 + SINT, VECTOR);
	wrmsr(HV_MSR_SIEFP, rdmsr(HV_MSR_SIEFP) & ~1ull);
	is(signal(EVENT_CONNECTION, 1), HV_STATUS_INVALID_SYNIC_STATE,
	   "HvCallSignalEvent: the SIEF page is disabled");
	wrmsr(HV_MSR_SIEFP, rdmsr(HV_MSR_SIEFP) | 1);
	wrmsr(HV_MSR_SCONTROL, 0);
	is(signal(EVENT_CONNECTION, 1), HV_STATUS_INVALID_SYNIC_STATE, "... the SynIC is disabled");
	wrmsr(HV_MSR_SCONTROL, 1);
	memset((void *)event_flags(SINT), 0, 256);
}

static void direct(void)
{
	struct hv_input_signal_event_direct in = { .partition_id = HV_PARTITION_ID_SELF,
						   .sint = SINT,
						   .flag_number = 2047 };
	const uint8_t *newly = hv_out;

	IS_STATUS(call_with(HV_CALL_SIGNAL_EVENT_DIRECT, (uint64_t *)&in, 2), HV_STATUS_SUCCESS,
		  "HvCallSignalEventDirect");
	ok(*newly == 1 && flag_set(2047) && came(VECTOR) == 1, "... newly signalled");
	call_with(HV_CALL_SIGNAL_EVENT_DIRECT, (uint64_t *)&in, 2);
	ok(*newly == 0 && came(VECTOR) == 0, "... and then not");
	in.flag_number = 2048;
	IS_STATUS(call_with(HV_CALL_SIGNAL_EVENT_DIRECT, (uint64_t *)&in, 2), HV_STATUS_INVALID_PARAMETER,
		  "... flag 2048");
	in.flag_number = 0;
	in.sint = 16;
	IS_STATUS(call_with(HV_CALL_SIGNAL_EVENT_DIRECT, (uint64_t *)&in, 2), HV_STATUS_INVALID_PARAMETER,
		  "... SINT 16");
	in.sint = SINT;
	in.vp_index = cpu_count;
	IS_STATUS(call_with(HV_CALL_SIGNAL_EVENT_DIRECT, (uint64_t *)&in, 2), HV_STATUS_INVALID_VP_INDEX,
		  "... a VP that isn't there");
	memset((void *)event_flags(SINT), 0, 256);
}

/* ---- The end of ports ---- */

static void ends(void)
{
	post(CONNECTION, 1, 8, 1);
	post(CONNECTION, 1, 8, 2);
	came(VECTOR);
	is(remove(HV_CALL_DELETE_PORT, PORT), HV_STATUS_SUCCESS, "HvCallDeletePort");
	take_message();
	wrmsr(HV_MSR_EOM, 0);
	ok(slot->type == 0 && came(VECTOR) == 0, "Reliability and Sequencing: its queued messages are freed");
	is(post(CONNECTION, 1, 8, 1), HV_STATUS_INVALID_PORT_ID,
	   "Ports and Connections: its connection remains, useless");
	is(create(PORT, HV_PORT_TYPE_MESSAGE, SINT, 0), HV_STATUS_SUCCESS,
	   "HvCallCreatePort: its id is free again");
	is(post(CONNECTION, 1, 8, 1), HV_STATUS_INVALID_PORT_ID,
	   "... but the old connection doesn't lead to the new port");
	is(remove(HV_CALL_DISCONNECT_PORT, CONNECTION), HV_STATUS_SUCCESS, "HvCallDisconnectPort");
	is(remove(HV_CALL_DISCONNECT_PORT, CONNECTION), HV_STATUS_INVALID_CONNECTION_ID, "... not twice");
	is(post(CONNECTION, 1, 8, 1), HV_STATUS_INVALID_CONNECTION_ID, "... and it is gone");
	is(connect(CONNECTION, PORT, HV_PORT_TYPE_MESSAGE), HV_STATUS_SUCCESS, "HvCallConnectPort: anew");
	post(CONNECTION, 1, 8, 1);
	post(CONNECTION, 1, 8, 2);
	came(VECTOR);
	remove(HV_CALL_DISCONNECT_PORT, CONNECTION);
	take_message();
	wrmsr(HV_MSR_EOM, 0);
	ok(holds(1, 8, 2) && came(VECTOR) == 1,
	   "Reliability and Sequencing: breaking a connection leaves queued messages");
	take_message();
	is(remove(HV_CALL_DELETE_PORT, PORT), HV_STATUS_SUCCESS, "HvCallDeletePort: the new one");
	is(remove(HV_CALL_DELETE_PORT, PORT), HV_STATUS_INVALID_PORT_ID, "... not twice");
	remove(HV_CALL_DISCONNECT_PORT, EVENT_CONNECTION);
	remove(HV_CALL_DELETE_PORT, EVENT_PORT);
}

void tlfs_synic(void)
{
	if (child_lacks(PORT_PRIVILEGES, "SynIC Messages and Event Flags, through ports of one's own"))
		return;
	slot = message_slot(SINT);
	is(try_load((uint64_t)slot), BENEATH,
	   "SIMP Register: a root's page isn't there while it is disabled, a child's RAM is");
	synic_on();
	is(try_store((uint64_t)slot + 100), NO_FAULT, "SIM Page: read and write like RAM");
	is(((volatile uint8_t *)slot)[100], 0x5a, "... and it keeps what was written");
	((volatile uint8_t *)slot)[100] = 0;
	wrmsr(HV_MSR_SINT0 + SINT, VECTOR);
	ports();
	refused_posts();
	delivery();
	queueing();
	other_triggers();
	sint_settings();
	page_comes_back();
	events();
	if (in_child)
		skip("HvCallSignalEventDirect", "it is for parents");
	else
		direct();
	ends();
	synic_off();
}

/* ---- Other VPs ---- */

static volatile struct hv_message *slot_of[MAX_CPUS];

static void on(unsigned int cpu)
{
	synic_on();
	wrmsr(HV_MSR_SINT0 + SINT, VECTOR);
	slot_of[cpu] = message_slot(SINT);
}

static void off(unsigned int cpu)
{
	(void)cpu;
	synic_off();
}

static volatile uint16_t status_there;

static void post_there(unsigned int cpu)
{
	status_there = post(CONNECTION, 1, 8, (uint8_t)cpu);
	came(VECTOR);
}

static void eom_there(unsigned int cpu)
{
	(void)cpu;
	wrmsr(HV_MSR_EOM, 0);
}

static bool reaches(unsigned int cpu, uint32_t before)
{
	return wait_for(&vector_count[cpu][VECTOR], before + 1, 2000000);
}

void tlfs_synic_others(void)
{
	unsigned int last = cpu_count - 1;
	uint32_t before;

	if (child_lacks(PORT_PRIVILEGES, "SynIC Messages to other VPs"))
		return;
	synic_on();
	wrmsr(HV_MSR_SINT0 + SINT, VECTOR);
	slot_of[0] = message_slot(SINT);
	create(PORT, HV_PORT_TYPE_MESSAGE, SINT, last);
	connect(CONNECTION, PORT, HV_PORT_TYPE_MESSAGE);
	is(post(CONNECTION, 1, 8, 1), HV_STATUS_INVALID_SYNIC_STATE,
	   "HvCallPostMessage: VP %u's SynIC is disabled", last);
	run_on(last, on);
	slot = slot_of[last];
	ok(slot != slot_of[0], "SIMP Register: each VP has a page of its own");
	before = vector_count[last][VECTOR];
	is(post(CONNECTION, 1, 8, 1), HV_STATUS_SUCCESS, "HvCallPostMessage: to VP %u", last);
	ok(reaches(last, before) && holds(1, 8, 1), "... arrives there, with its interrupt");
	before = vector_count[last][VECTOR];
	post(CONNECTION, 1, 8, 2);
	post(CONNECTION, 1, 8, 3);
	for (unsigned int i = 0; i < 20000 && !(slot->flags & 1); i++)
		delay_us(50); /* till it has looked */
	delay_us(300);
	ok(holds(1, 8, 1) && (slot->flags & 1) && vector_count[last][VECTOR] == before,
	   "... the next ones are queued");
	take_message();
	run_on(last, eom_there);
	ok(reaches(last, before) && holds(1, 8, 2), "... until that VP writes EOM");
	take_message();
	run_on(last, eom_there);
	ok(reaches(last, before + 1) && holds(1, 8, 3), "... for each");
	take_message();
	remove(HV_CALL_DELETE_PORT, PORT);
	remove(HV_CALL_DISCONNECT_PORT, CONNECTION);
	create(PORT, HV_PORT_TYPE_MESSAGE, SINT, 0);
	connect(CONNECTION, PORT, HV_PORT_TYPE_MESSAGE);
	slot = slot_of[0];
	run_on(last, post_there);
	for (unsigned int i = 0; i < 1000 && !slot->type; i++)
		delay_us(10);
	ok(status_there == HV_STATUS_SUCCESS && came(VECTOR) == 1 && holds(1, 8, (uint8_t)last),
	   "... from VP %u to VP 0", last);
	take_message();
	remove(HV_CALL_DELETE_PORT, PORT);
	remove(HV_CALL_DISCONNECT_PORT, CONNECTION);
	create(PORT, HV_PORT_TYPE_MESSAGE, SINT, HV_VP_INDEX_ANY);
	connect(CONNECTION, PORT, HV_PORT_TYPE_MESSAGE);
	wrmsr(HV_MSR_SCONTROL, 0);
	slot = slot_of[last];
	before = vector_count[last][VECTOR];
	is(post(CONNECTION, 1, 8, 4), HV_STATUS_SUCCESS,
	   "HV_ANY_VP: a VP whose SynIC is disabled is no target");
	ok(reaches(last, before) && holds(1, 8, 4), "... the other gets it");
	take_message();
	run_on(last, off);
	ok(post(CONNECTION, 1, 8, 5) != HV_STATUS_SUCCESS, "... without any target it is refused");
	remove(HV_CALL_DELETE_PORT, PORT);
	remove(HV_CALL_DISCONNECT_PORT, CONNECTION);
	synic_off();
}
