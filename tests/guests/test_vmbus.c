/* SPDX-License-Identifier: MIT */
/*
 * A child whose monitor is the server of its VMBus (mshv-vmbus): messages and events both ways, a device's interrupt, hypercalls that only the monitor
 * knows, interrupts by event file and doorbells.
 */
#include "lib/vmbus.h"
#include <hv/partition.h>
#include <hv/root.h>
#include <hv/synic.h>

#define NOBODY 0xffffffffu
#define VECTOR 0x91u
#define DEVICE_VECTOR 0xa1u
#define OTHER_SINT 5u
#define LATE_US 2000000u /* far more than it takes, and the end of a test that fails */

static void on_interrupt(struct trap_frame *f)
{
	(void)f;
	apic_write(APIC_EOI, 0);
}

/* Once and no more, however late. */
static bool await(uint8_t vector)
{
	irq_on();
	wait_for(&vector_count[0][vector], seen[vector] + 1, LATE_US);
	irq_off();
	return came(vector) == 1;
}

/* With HLT. An interrupt that doesn't wake it is the end of the test. */
static void sleep_until(uint8_t vector)
{
	while (vector_count[0][vector] == seen[vector])
		__asm__ volatile("sti; hlt; cli" : : : "memory");
}

static uint16_t status_of(uint64_t result)
{
	return (uint16_t)(result & HV_RESULT_STATUS_MASK);
}

static volatile struct hv_message *slot(void)
{
	return &((volatile struct hv_message_page *)(rdmsr(HV_MSR_SIMP) & ~0xfffull))->slot[VMBUS_SINT];
}

static volatile uint64_t *events(void)
{
	return ((volatile struct hv_event_flags_page *)(rdmsr(HV_MSR_SIEFP) & ~0xfffull))
		->sint[VMBUS_SINT]
		.flags64;
}

/* ---- Calls ---- */

static uint16_t post(uint32_t connection, uint64_t payload)
{
	struct hv_input_post_message *in = (void *)hv_in;

	memset(in, 0, sizeof(*in));
	in->connection_id = connection;
	in->message_type = 1;
	in->payload_bytes = 8;
	in->payload[0] = payload;
	return status_of(hv_simple(HV_CALL_POST_MESSAGE));
}

static uint16_t signal(uint32_t connection, uint16_t flag)
{
	return status_of(hv_fast(HV_CALL_SIGNAL_EVENT, connection | (uint64_t)flag << 32, 0));
}

static uint16_t retarget(uint64_t device)
{
	struct hv_input_retarget_device_interrupt *in = (void *)hv_in;

	memset(in, 0, sizeof(*in));
	in->partition_id = HV_PARTITION_ID_SELF;
	in->device_id = device;
	in->entry.source = 1;
	in->target.vector = DEVICE_VECTOR;
	in->target.vp_set.format = 1; /* VP 0 */
	return status_of(hv_simple(HV_CALL_RETARGET_DEVICE_INTERRUPT));
}

#define LOADED(insn)                                                                                  \
	__asm__ volatile(                                                                             \
		"movdqu (%1), %%xmm0; movdqu 16(%1), %%xmm1; movdqu 32(%1), %%xmm2;"                  \
		"movdqu 48(%1), %%xmm3; movdqu 64(%1), %%xmm4; movdqu 80(%1), %%xmm5;"                \
		"mov %2, %%rcx; movabs $0x1111111111111111, %%rbx; lea (%%rbx, %%rbx), %%rdx;"        \
		"lea (%%rdx, %%rbx), %%r8; lea (%%r8, %%rbx), %%rsi; lea (%%rsi, %%rbx), %%rdi;" insn \
		: "=a"(result)                                                                        \
		: "r"(xmm), "r"(control)                                                              \
		: "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "memory", "cc")

static uint64_t unknown_call(uint64_t control)
{
	uint64_t xmm[12], result;

	for (unsigned int i = 0; i < 6; i++) {
		xmm[2 * i] = 0x0101010101010101 * (i + 1);
		xmm[2 * i + 1] = ~xmm[2 * i];
	}
	if (is_intel())
		LOADED("vmcall");
	else
		LOADED("vmmcall");
	return result;
}

/* ---- Chapters ---- */

static void without_a_server(const char *when)
{
	is(post(VMBUS_CONNECTION, 1), HV_STATUS_INVALID_CONNECTION_ID, "%s: a message to nobody", when);
	is(signal(VMBUS_EVENTS, 1), HV_STATUS_INVALID_CONNECTION_ID, "%s: an event to nobody", when);
	is(retarget(VMBUS_DEVICE), HV_STATUS_INVALID_DEVICE_ID, "%s: a device that isn't there", when);
	is(unknown_call(VMBUS_CODE), HV_STATUS_INVALID_HYPERCALL_CODE, "%s: no such call", when);
}

static void calls(void)
{
	is(unknown_call(VMBUS_CODE), VMBUS_CODE + VMBUS_CODE_RESULT, "a call that only the monitor knows");
	is(status_of(hv_fast(VMBUS_CODE + 1, 0, 0)), HV_STATUS_INVALID_HYPERCALL_CODE,
	   "... and one that it doesn't");
	is(post(VMBUS_CONNECTION + 5, 1), HV_STATUS_INVALID_CONNECTION_ID, "it refuses a connection");
	is(retarget(VMBUS_DEVICE + 1), HV_STATUS_INVALID_DEVICE_ID, "... and a device");
	is(retarget(VMBUS_DEVICE), HV_STATUS_SUCCESS, "HvCallRetargetDeviceInterrupt of its device");
	is(came(DEVICE_VECTOR), 1, "... whose interrupt comes there");
}

static bool has(uint64_t payload)
{
	volatile struct hv_message *message = slot();

	return message->type == 1 && message->payload_bytes == 16 && message->payload.qwords[0] == payload &&
	       message->payload.qwords[1] == ~payload;
}

static void free_slot(void)
{
	bool more;

	slot()->type = HV_MESSAGE_NONE;
	more = slot()->flags & HV_MESSAGE_FLAG_PENDING;
	if (more)
		wrmsr(HV_MSR_EOM, 0);
}

static void messages(void)
{
	const uint64_t echo = (uint64_t)VMBUS_ECHO << 32;

	is(ask(VMBUS_POST, 5), HV_STATUS_INVALID_SYNIC_STATE, "HvCallPostMessageDirect: without a SynIC");
	wrmsr(HV_MSR_SIMP, rdmsr(HV_MSR_SIMP) | HV_PAGE_MSR_ENABLE);
	wrmsr(HV_MSR_SIEFP, rdmsr(HV_MSR_SIEFP) | HV_PAGE_MSR_ENABLE);
	wrmsr(HV_MSR_SCONTROL, HV_SCONTROL_ENABLE);
	wrmsr(HV_MSR_SINT0 + VMBUS_SINT, VECTOR);
	is(ask(VMBUS_POST, 5), HV_STATUS_SUCCESS, "... into the slot");
	ok(came(VECTOR) == 1 && has(5), "... with an interrupt");
	is(ask(VMBUS_POST, 6), HV_STATUS_INSUFFICIENT_BUFFERS, "... which is full now");
	ok(came(VECTOR) == 0 && has(5), "... nothing changes");
	free_slot();
	is(post(VMBUS_CONNECTION, echo + 41), HV_STATUS_SUCCESS, "HvCallPostMessage to the server");
	ok(came(VECTOR) == 1 && has(echo + 42), "... which answers");
	free_slot();
	is(post(VMBUS_CONNECTION, 1), HV_STATUS_SUCCESS, "... or not");
	is(came(VECTOR), 0, "... without an interrupt");
	ask(VMBUS_POST, VMBUS_LATER | 77);
	ok(await(VECTOR) && has(77), "a message comes while the VP runs");
	free_slot();
	ask(VMBUS_POST, VMBUS_LATER | 78);
	sleep_until(VECTOR);
	ok(came(VECTOR) == 1 && has(78), "... and wakes one that sleeps");
	free_slot();
}

static void notifications(void)
{
	ask(VMBUS_POST, 1);
	is(came(VECTOR), 1, "a message is in the slot");
	is(ask(VMBUS_WANT, 1u << VMBUS_SINT), HV_STATUS_SUCCESS, "the monitor waits for it");
	is(ask(VMBUS_TOLD, 0), 0, "... and is told nothing");
	ok(slot()->flags & HV_MESSAGE_FLAG_PENDING, "... but the guest knows that it must write EOM");
	free_slot();
	is(ask(VMBUS_TOLD, 0), 1u << VMBUS_SINT | 1u << 16, "... with EOM the monitor is told, once");
	ok(ask(VMBUS_POST, 2) == HV_STATUS_SUCCESS && came(VECTOR) == 1 && has(2), "... and sends");
	free_slot();
	wrmsr(HV_MSR_EOM, 0);
	is(ask(VMBUS_TOLD, 0), 0, "... and isn't told again");
	ask(VMBUS_POST, 3);
	came(VECTOR);
	ask(VMBUS_WANT, 1u << VMBUS_SINT | 1u << OTHER_SINT);
	is(ask(VMBUS_TOLD, 0), 1u << OTHER_SINT | 1u << 16,
	   "of two SINTs, the one whose slot is free: at once");
	free_slot();
	is(ask(VMBUS_TOLD, 0), 1u << VMBUS_SINT | 1u << 16, "... and the other one later");
	ask(VMBUS_POST, 4);
	came(VECTOR);
	ask(VMBUS_WANT, 1u << VMBUS_SINT);
	ask(VMBUS_WANT, 0);
	free_slot();
	is(ask(VMBUS_TOLD, 0), 0, "it waits no more");
}

static void event_flags(void)
{
	is(ask(VMBUS_SIGNAL, 70), 1u << 16, "HvCallSignalEventDirect");
	ok(came(VECTOR) == 1 && events()[1] == 1u << 6, "... sets the flag, with an interrupt");
	is(ask(VMBUS_SIGNAL, 70), 0, "... which is set already");
	is(came(VECTOR), 0, "... so nothing comes");
	events()[1] = 0;
	is(signal(VMBUS_EVENTS, 130), HV_STATUS_SUCCESS, "HvCallSignalEvent to the server");
	ok(came(VECTOR) == 1 && events()[2] == 1u << 3, "... which answers");
	events()[2] = 0;
	ask(VMBUS_SIGNAL, VMBUS_LATER | 5);
	sleep_until(VECTOR);
	ok(came(VECTOR) == 1 && events()[0] == 1u << 5, "an event wakes a VP that sleeps");
	events()[0] = 0;
	wrmsr(HV_MSR_SINT0 + VMBUS_SINT, HV_SINT_MASKED | VECTOR);
	is(ask(VMBUS_SIGNAL, 70), HV_STATUS_INVALID_SYNIC_STATE, "to a masked SINT");
	wrmsr(HV_MSR_SINT0 + VMBUS_SINT, VECTOR);
}

/* The rings are of 63 entries, and eighty doorbells ring one after the other. */
static void doorbells(void)
{
	uint32_t count = 0;
	uint64_t start = rdtsc();

	ask(VMBUS_LINE, 0);
	ok(await(VMBUS_LINE_VECTOR), "an interrupt by event file");
	ask(VMBUS_LINE, 0);
	ok(await(VMBUS_LINE_VECTOR), "... and another one");
	ask(VMBUS_LINE, VMBUS_LATER);
	sleep_until(VMBUS_LINE_VECTOR);
	is(came(VMBUS_LINE_VECTOR), 1, "... which wakes a VP");
	ask(VMBUS_RUNG, 0);
	for (unsigned int i = 0; i < VMBUS_DOORBELL_COUNT; i++)
		*(volatile uint32_t *)(uintptr_t)(VMBUS_DOORBELLS + i * VMBUS_DOORBELL_BYTES) = i;
	while (count < VMBUS_DOORBELL_COUNT && rdtsc() - start < LATE_US / 1000 * tsc_khz)
		count += ask(VMBUS_RUNG, 0);
	is(count, VMBUS_DOORBELL_COUNT, "all doorbells ring");
	is(ask(VMBUS_RUNG, 0), 0, "... once each");
}

void test_main(void)
{
	static const uint8_t vectors[] = { VECTOR, DEVICE_VECTOR, VMBUS_LINE_VECTOR };

	if (!in_child || inl(VMBUS_PORT) == NOBODY)
		skip_all("there is no server of a VMBus");
	hv_open();
	apic_init();
	for (unsigned int i = 0; i < ARRAY_LEN(vectors); i++)
		trap_handlers[vectors[i]] = on_interrupt;
	write_cr0(read_cr0() & ~(CR0_EM | CR0_TS));
	write_cr4(read_cr4() | 0x600);
	without_a_server("at first");
	is(ask(VMBUS_INSTALL, 1), HV_STATUS_SUCCESS, "HvCallInstallIntercept");
	calls();
	messages();
	notifications();
	event_flags();
	doorbells();
	is(ask(VMBUS_INSTALL, 0), HV_STATUS_SUCCESS, "uninstalled");
	without_a_server("at the end");
	is(ask(VMBUS_WRONG, 0), 0, "what the monitor found wrong");
}
