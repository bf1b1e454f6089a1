/* SPDX-License-Identifier: MIT */
/*
 * mshv-vmbus IMAGE.efi: runs one of tests/guests as the server of its VMBus, with all that a monitor needs for one: hypercalls to connections and
 * devices of its own, messages and events to the guest, interrupts by event file and by call, doorbells. The guest says what to do (vmbus.h).
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine.h"
#include "vmbus.h"

#include <hv/cpuid.h>
#include <hv/root.h>

#define MEMORY (16u << 20)
#define LINE_GSI 5u
#define LATER_US 3000
#define HYPERCALL_BYTES 3u
#define ARGUMENT (VMBUS_LATER - 1)

static struct machine machine = {
	.bytes = MEMORY,
	.vp_count = 1,
	.load_options = "child",
	.privileges = HV_PRIVILEGE_POST_MESSAGES | HV_PRIVILEGE_SIGNAL_EVENTS,
	.features = HV_SYNTHETIC_SIGNAL_EVENTS | HV_SYNTHETIC_RETARGET_DEVICE_INTERRUPT,
};
static int line, doorbells[VMBUS_DOORBELL_COUNT];
static uint64_t bitmap[(MEMORY - FIRMWARE) / PAGE / 64];
static uint32_t answer, wrong, told, told_count, ended, ended_count;

static void expect(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "vmbus: wrong: %s\n", what);
	wrong++;
}

/* ---- To the guest ---- */

static uint16_t post(uint64_t payload)
{
	const struct hv_message message = { .type = 1,
					    .payload_bytes = 16,
					    .payload.qwords = { payload, ~payload } };
	struct hv_input_post_message_direct in = { .sint = VMBUS_SINT };

	memcpy(in.message, &message, sizeof(message));
	return hypercall(machine.partition, HV_CALL_POST_MESSAGE_DIRECT, 0, &in, sizeof(in), NULL, 0).status;
}

static uint32_t signal_event(uint32_t flag)
{
	struct hv_input_signal_event_direct in = { .sint = VMBUS_SINT, .flag_number = (uint16_t)flag };
	struct hv_output_signal_event_direct out = { 0 };
	struct answer a = hypercall(machine.partition, HV_CALL_SIGNAL_EVENT_DIRECT, 0, &in, sizeof(in), &out,
				    sizeof(out));

	return a.status | (uint32_t)out.newly_signaled << 16;
}

static uint16_t want(uint32_t sints)
{
	struct hv_register_assoc one = { .name = HV_REGISTER_DELIVERABILITY_NOTIFICATIONS,
					 .value.reg64 = (uint64_t)sints << HV_DELIVERABILITY_SINTS_SHIFT };

	return set_registers(machine.partition, 0, &one, 1).status;
}

static uint16_t assert_pin(uint32_t argument)
{
	struct hv_input_assert_virtual_interrupt in = {
		.interrupt_type = argument >> 16 & 0xf,
		.control_flags = argument & VMBUS_LEVEL ? HV_INTERRUPT_CONTROL_LEVEL : 0,
		.vector = argument & 0xff,
	};

	return hypercall(machine.partition, HV_CALL_ASSERT_VIRTUAL_INTERRUPT, 0, &in, sizeof(in), NULL, 0)
		.status;
}

static uint16_t clear(void)
{
	struct hv_input_partition_id in = { 0 };

	return hypercall(machine.partition, HV_CALL_CLEAR_VIRTUAL_INTERRUPT, 0, &in, sizeof(in), NULL, 0)
		.status;
}

static uint32_t pages(uint64_t gpn)
{
	struct hv_input_get_gpa_pages_access_states in = {
		.flags = HV_ACCESS_STATE_CLEAR_ACCESSED | HV_ACCESS_STATE_CLEAR_DIRTY, .gpn = gpn
	};
	uint32_t states = 0;
	struct answer a = hypercall(machine.partition, HV_CALL_GET_GPA_PAGES_ACCESS_STATES, sizeof(states),
				    &in, sizeof(in), &states, sizeof(states));

	expect(!a.error && a.reps == sizeof(states), "access states of pages");
	return states;
}

/* ---- From the guest ---- */

static uint32_t install(bool want_them)
{
	static const uint32_t types[] = { HV_INTERCEPT_HYPERCALL, HV_INTERCEPT_UNKNOWN_SYNIC_CONNECTION,
					  HV_INTERCEPT_RETARGET_UNKNOWN_DEVICE };
	uint32_t status = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(types); i++) {
		const struct hv_input_install_intercept in = {
			.access_mask = want_them ? HV_INTERCEPT_ACCESS_MASK_EXECUTE : 0,
			.intercept_type = types[i]
		};

		status |= hypercall(machine.partition, HV_CALL_INSTALL_INTERCEPT, 0, &in, sizeof(in), NULL, 0)
				  .status;
	}
	return status;
}

static uint64_t on_post(const struct hv_x64_hypercall_intercept *call)
{
	const struct hv_input_post_message *in = ram_at(&machine, call->rdx, sizeof(*in));

	if (!in || in->connection_id != VMBUS_CONNECTION)
		return HV_STATUS_INVALID_CONNECTION_ID;
	expect(in->message_type == 1 && in->payload_bytes == 8 && !(call->rcx & HV_CONTROL_FAST),
	       "a message");
	return in->payload[0] >> 32 == VMBUS_ECHO ? post(in->payload[0] + 1) : HV_STATUS_SUCCESS;
}

/* The flag comes back, as the next one. */
static uint64_t on_signal(const struct hv_x64_hypercall_intercept *call)
{
	if ((uint32_t)call->rdx != VMBUS_EVENTS)
		return HV_STATUS_INVALID_CONNECTION_ID;
	expect(call->rcx & HV_CONTROL_FAST, "an event");
	return (uint16_t)signal_event((uint16_t)(call->rdx >> 32) + 1u);
}

/* The device's interrupt goes there at once. */
static uint64_t on_retarget(const struct hv_x64_hypercall_intercept *call)
{
	const struct hv_input_retarget_device_interrupt *in = ram_at(&machine, call->rdx, sizeof(*in));

	if (!in || in->device_id != VMBUS_DEVICE)
		return HV_STATUS_INVALID_DEVICE_ID;
	expect(in->target.vp_set.format == 1, "the target of a device's interrupt");
	return assert_interrupt(machine.partition, HV_INTERRUPT_FIXED, in->target.vector, 0).status;
}

/* All that the message has, against what the guest put there. */
static uint64_t on_unknown(const struct hv_x64_hypercall_intercept *call)
{
	const uint64_t general[] = { call->rbx, call->rdx, call->r8, call->rsi, call->rdi };
	bool good = true;

	for (unsigned int i = 0; i < ARRAY_LEN(general); i++)
		good = good && general[i] == 0x1111111111111111 * (i + 1);
	expect(good, "general registers of a hypercall");
	for (unsigned int i = 0; i < 6; i++)
		good = good && call->xmm[i].low == 0x0101010101010101 * (i + 1) &&
		       call->xmm[i].high == ~call->xmm[i].low;
	expect(good, "vector registers of a hypercall");
	return call->rcx + VMBUS_CODE_RESULT;
}

static uint64_t result_of(const struct hv_x64_hypercall_intercept *call)
{
	switch ((uint16_t)call->rcx) {
	case HV_CALL_POST_MESSAGE:
		return on_post(call);
	case HV_CALL_SIGNAL_EVENT:
		return on_signal(call);
	case HV_CALL_RETARGET_DEVICE_INTERRUPT:
		return on_retarget(call);
	case VMBUS_CODE:
		return on_unknown(call);
	default:
		return HV_STATUS_INVALID_HYPERCALL_CODE;
	}
}

static void on_hypercall(struct vp *vp, const struct hv_x64_hypercall_intercept *call)
{
	const struct hv_x64_intercept_header header = call->header;
	const uint8_t *code = ram_at(&machine, header.rip, HYPERCALL_BYTES);

	expect(code && code[0] == 0x0f && code[1] == 0x01 && (code[2] == 0xc1 || code[2] == 0xd9),
	       "RIP at a hypercall");
	expect(instruction_length(&header) == HYPERCALL_BYTES && !header.vp_index &&
		       header.access_type == HV_INTERCEPT_ACCESS_EXECUTE && header.cs.selector,
	       "the header of a hypercall");
	vp_set_general(vp, 0, result_of(call));
	vp_set_rip(vp, header.rip + HYPERCALL_BYTES);
}

static bool on_message(struct vp *vp, const struct hv_message *message)
{
	const struct hv_x64_sint_deliverable *deliverable = (const void *)message->payload.bytes;
	const struct hv_apic_eoi_message *eoi = (const void *)message->payload.bytes;

	switch (message->type) {
	case HV_MESSAGE_HYPERCALL_INTERCEPT:
		on_hypercall(vp, (const void *)message->payload.bytes);
		return true;
	case HV_MESSAGE_SYNIC_SINT_DELIVERABLE:
		told |= deliverable->deliverable_sints;
		told_count++;
		return true;
	case HV_MESSAGE_X64_APIC_EOI:
		expect(eoi->vp_index == 0, "the VP of an interrupt's end");
		ended = eoi->vector;
		ended_count++;
		return true;
	default:
		return false;
	}
}

/* ---- Its commands ---- */

static uint32_t rung(void)
{
	uint32_t count = 0;
	uint64_t value;

	for (unsigned int i = 0; i < VMBUS_DOORBELL_COUNT; i++)
		count += read(doorbells[i], &value, sizeof(value)) == sizeof(value);
	return count;
}

static uint32_t take(uint32_t value, uint32_t *count)
{
	uint32_t taken = value | *count << 16;

	*count = 0;
	return taken;
}

static uint32_t dirty(void)
{
	uint32_t count = 0;
	int r = get_dirty_pages(machine.partition, FIRMWARE, MEMORY - FIRMWARE, true, bitmap);

	if (r)
		fprintf(stderr, "vmbus: dirty pages: %s\n", strerror(-r));
	expect(!r, "dirty pages");
	for (size_t i = 0; i < ARRAY_LEN(bitmap); i++)
		count += (uint32_t)__builtin_popcountll(bitmap[i]);
	return count;
}

static bool was_dirty(uint32_t gpn)
{
	uint32_t bit = gpn - FIRMWARE / PAGE;

	return bit / 64 < ARRAY_LEN(bitmap) && bitmap[bit / 64] >> bit % 64 & 1;
}

static uint32_t carry_out(enum vmbus_command command, uint32_t argument)
{
	const uint64_t one = 1;
	uint32_t sints;

	switch (command) {
	case VMBUS_INSTALL:
		return install(argument);
	case VMBUS_POST:
		return post(argument);
	case VMBUS_SIGNAL:
		return signal_event(argument);
	case VMBUS_WANT:
		return want(argument);
	case VMBUS_TOLD:
		sints = told;
		told = 0;
		return take(sints, &told_count);
	case VMBUS_LINE:
		expect(write(line, &one, sizeof(one)) == sizeof(one), "the event file of an interrupt");
		return 0;
	case VMBUS_RUNG:
		return rung();
	case VMBUS_WRONG:
		return wrong;
	case VMBUS_ASSERT:
		return assert_pin(argument);
	case VMBUS_CLEAR:
		return clear();
	case VMBUS_ENDED:
		return take(ended, &ended_count);
	case VMBUS_FREEZE:
		return set_property(machine.partition, HV_PROPERTY_TIME_FREEZE, argument).status;
	case VMBUS_TIME:
		return set_property(machine.partition, HV_PROPERTY_REFERENCE_TIME, argument * 10000ull)
			.status;
	case VMBUS_TRACK:
		return set_property(machine.partition, HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING, argument).status;
	case VMBUS_DIRTY:
		return dirty();
	case VMBUS_IS_DIRTY:
		return was_dirty(argument);
	case VMBUS_PAGES:
		return pages(argument);
	}
	die("vmbus: no command %u", command);
}

static void *later(void *data)
{
	uint32_t value = (uint32_t)(uintptr_t)data;

	usleep(LATER_US);
	expect(!(uint16_t)carry_out(value >> VMBUS_COMMAND_SHIFT, value & ARGUMENT),
	       "what was asked for later");
	return NULL;
}

static uint32_t obey(uint32_t value)
{
	pthread_t thread;

	if (!(value & VMBUS_LATER))
		return carry_out(value >> VMBUS_COMMAND_SHIFT, value & ARGUMENT);
	if (pthread_create(&thread, NULL, later, (void *)(uintptr_t)value) || pthread_detach(thread))
		die("vmbus: no thread");
	return 0;
}

static bool on_port(struct vp *vp, uint16_t port, unsigned int bytes, bool write, uint32_t *value)
{
	(void)vp;
	if (port != VMBUS_PORT || bytes != 4)
		return false;
	if (write)
		answer = obey(*value);
	else
		*value = answer;
	return true;
}

static int event_file(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		die("vmbus: no event file: %s", strerror(errno));
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return ENDED_USAGE;
	machine.serial = stdout;
	machine.port = on_port;
	machine.message = on_message;
	machine_make(&machine, open_mshv(), argv[1]);
	line = event_file();
	route_interrupt(machine.partition, LINE_GSI, VMBUS_LINE_VECTOR, 0);
	if (attach_interrupt(machine.partition, line, LINE_GSI))
		die("vmbus: no interrupt by event file");
	for (unsigned int i = 0; i < VMBUS_DOORBELL_COUNT; i++) {
		uint64_t gpa = VMBUS_DOORBELLS + i * VMBUS_DOORBELL_BYTES;

		doorbells[i] = event_file();
		if (attach_doorbell(machine.partition, doorbells[i], gpa, VMBUS_DOORBELL_BYTES))
			die("vmbus: no doorbell %u", i);
	}
	machine_run(&machine);
}
