/* unit: core/calls_message.c core/calls_port.c core/synic.c core/synic_msr.c core/synthetic_timer.c core/port.c core/doorbell.c core/emulate.c core/event_ring.c core/page_alloc.c core/page_source.c core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/* Hypercalls that send messages and events, each status that the TLFS gives, and two VPs that race with a port's deletion. */
#include "port_fake.h"
#include <pthread.h>

/* ---- HvCallPostMessage ---- */

static void post_message(void **state)
{
	(void)state;
	message.payload_bytes = 17;
	assert_int_equal(post(), 0);
	assert_int_equal(kicks, 1);
	assert_int_equal(take(vps[0]), 0x61);
	assert_int_equal(slot(vps[0], 2)->type, 1);
	assert_int_equal(slot(vps[0], 2)->payload_bytes, 17);
	assert_int_equal(slot(vps[0], 2)->flags, 0);
	assert_int_equal(slot(vps[0], 2)->sender, 1);
	assert_int_equal(slot(vps[0], 2)->payload.bytes[16], 0xab);
	assert_int_equal(slot(vps[0], 2)->payload.bytes[17], 0);
	/* To itself: no kick. */
	slot(vps[0], 2)->type = 0;
	assert_int_equal(call_as(vps[0], hypercall_post_message, &message, NULL), 0);
	assert_int_equal(kicks, 1);
	assert_int_equal(take(vps[0]), 0x61);
	/* Empty is a size too. */
	slot(vps[0], 2)->type = 0;
	message.payload_bytes = 0;
	message.message_type = 0x7fffffff;
	assert_int_equal(post(), 0);
	assert_int_equal(take(vps[0]), 0x61);
	assert_int_equal(slot(vps[0], 2)->type, 0x7fffffff);
	assert_int_equal(slot(vps[0], 2)->payload_bytes, 0);
}

static void post_refusals(void **state)
{
	(void)state;
	message.payload_bytes = 241;
	assert_int_equal(post(), HV_STATUS_INVALID_PARAMETER);
	message.payload_bytes = UINT32_MAX;
	assert_int_equal(post(), HV_STATUS_INVALID_PARAMETER);
	message.payload_bytes = 240;
	message.message_type = 0;
	assert_int_equal(post(), HV_STATUS_INVALID_PARAMETER);
	message.message_type = 0x80000001;
	assert_int_equal(post(), HV_STATUS_INVALID_PARAMETER);
	message.message_type = 1;
	message.reserved = 1;
	assert_int_equal(post(), HV_STATUS_INVALID_PARAMETER);
	message.reserved = 0;
	/* Connections: none, with reserved bits, of another type. */
	message.connection_id = 0x13;
	assert_int_equal(post(), HV_STATUS_INVALID_CONNECTION_ID);
	message.connection_id = 0;
	assert_int_equal(post(), HV_STATUS_INVALID_CONNECTION_ID);
	message.connection_id = 0x1000011;
	assert_int_equal(post(), HV_STATUS_INVALID_CONNECTION_ID);
	message.connection_id = 0x12;
	assert_int_equal(post(), HV_STATUS_INVALID_PORT_ID);
	message.connection_id = 0x11;
	/* The connection is looked at before the parameters. */
	message.message_type = 0;
	message.connection_id = 0x13;
	assert_int_equal(post(), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(take(vps[0]), -1);
}

static void post_to_disabled_synic(void **state)
{
	(void)state;
	for (int i = 0; i < 2 * (int)PORT_BUFFERS; i++) {
		wr(vps[0], synic_write_control, HV_MSR_SCONTROL, 0);
		assert_int_equal(post(), HV_STATUS_INVALID_SYNIC_STATE);
		wr(vps[0], synic_write_control, HV_MSR_SCONTROL, 1);
		wr(vps[0], synic_write_page, HV_MSR_SIMP, 0);
		assert_int_equal(post(), HV_STATUS_INVALID_SYNIC_STATE);
		wr(vps[0], synic_write_page, HV_MSR_SIMP, 1);
	}
	assert_int_equal(post(), 0); /* no buffer was lost */
	set_sint(vps[0], 2, 0x61 | HV_SINT_MASKED);
	assert_int_equal(post(), 0); /* a masked source takes messages */
	part.vp_count = 0;
	assert_int_equal(post(), HV_STATUS_INVALID_VP_INDEX);
	part.vp_count = FAKE_VPS;
}

static void sixteen_buffers(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < PORT_BUFFERS; i++)
		assert_int_equal(post(), 0);
	assert_int_equal(post(), HV_STATUS_INSUFFICIENT_BUFFERS);
	assert_int_equal(take(vps[0]), 0x61); /* one went into the slot */
	assert_int_equal(post(), 0);
	assert_int_equal(post(), HV_STATUS_INSUFFICIENT_BUFFERS);
	slot(vps[0], 2)->type = 0;
	eom(vps[0]);
	assert_int_equal(post(), 0);
	/* Another port's buffers are its own. */
	message_port(3);
	assert_int_equal(call(hypercall_create_port, &create), 0);
	connection(0x13, 3, HV_PORT_TYPE_MESSAGE);
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	message.connection_id = 0x13;
	assert_int_equal(post(), 0);
}

static void any_vp(void **state)
{
	(void)state;
	message_port(3);
	create.port_info.target_vp = HV_VP_INDEX_ANY;
	assert_int_equal(call(hypercall_create_port, &create), 0);
	connection(0x13, 3, HV_PORT_TYPE_MESSAGE);
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	message.connection_id = 0x13;
	assert_int_equal(post(), 0);
	assert_int_equal(take(vps[1]), 0x61); /* the sender's own */
	wr(vps[1], synic_write_control, HV_MSR_SCONTROL, 0);
	wr(vps[0], synic_write_control, HV_MSR_SCONTROL, 0);
	assert_int_equal(post(), 0);
	assert_int_equal(take(vps[2]), 0x61);
	wr(vps[2], synic_write_control, HV_MSR_SCONTROL, 0);
	assert_int_equal(post(), HV_STATUS_INVALID_SYNIC_STATE);
}

/* ---- HvCallSignalEvent ---- */

static void signal_event(void **state)
{
	(void)state;
	assert_int_equal(signal(0x12, 0), 0);
	assert_int_equal(flags(vps[1], 3)[1], BIT(100 - 64));
	assert_int_equal(take(vps[1]), 0x71);
	assert_int_equal(signal(0x12, 9), 0);
	assert_int_equal(flags(vps[1], 3)[1], BIT(100 - 64) | BIT(109 - 64));
	assert_int_equal(take(vps[1]), 0x71);
	assert_int_equal(signal(0x12, 9), 0);
	assert_int_equal(take(vps[1]), -1);
	assert_int_equal(signal(0x12, 10), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(signal(0x12, UINT16_MAX), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(signal(0x11, 0), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(signal(0x14, 0), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(signal(0x1000012, 0), HV_STATUS_INVALID_CONNECTION_ID);
	const struct hv_input_signal_event reserved = { .connection_id = 0x12, .reserved = 1 };
	assert_int_equal(call(hypercall_signal_event, &reserved), HV_STATUS_INVALID_PARAMETER);
	/* Masked: another VP's, then nobody's. */
	set_sint(vps[1], 3, 0x71 | HV_SINT_MASKED);
	assert_int_equal(signal(0x12, 1), 0);
	assert_int_equal(take(vps[0]), 0x71);
	set_sint(vps[0], 3, 0x71 | HV_SINT_MASKED);
	wr(vps[2], synic_write_page, HV_MSR_SIEFP, 0);
	assert_int_equal(signal(0x12, 1), HV_STATUS_INVALID_SYNIC_STATE);
}

static void signal_event_direct(void **state)
{
	struct hv_input_signal_event_direct input = {
		.partition_id = SELF, .vp_index = 2, .sint = 3, .flag_number = 2047
	};
	struct hv_output_signal_event_direct output = { 0 };

	(void)state;
	assert_int_equal(call_as(vps[1], hypercall_signal_event_direct, &input, &output), 0);
	assert_int_equal(output.newly_signaled, 1);
	assert_int_equal(flags(vps[2], 3)[31], BIT(63));
	assert_int_equal(take(vps[2]), 0x71);
	assert_int_equal(call_as(vps[1], hypercall_signal_event_direct, &input, &output), 0);
	assert_int_equal(output.newly_signaled, 0);
	input.flag_number = 2048;
	assert_int_equal(call_as(vps[1], hypercall_signal_event_direct, &input, &output),
			 HV_STATUS_INVALID_PARAMETER);
	input.flag_number = 0;
	input.sint = 16;
	assert_int_equal(call_as(vps[1], hypercall_signal_event_direct, &input, &output),
			 HV_STATUS_INVALID_PARAMETER);
	input.sint = 3;
	input.vtl = 1;
	assert_int_equal(call_as(vps[1], hypercall_signal_event_direct, &input, &output),
			 HV_STATUS_INVALID_PARAMETER);
	input.vtl = HV_INPUT_VTL_USE_TARGET;
	input.vp_index = FAKE_VPS;
	assert_int_equal(call_as(vps[1], hypercall_signal_event_direct, &input, &output),
			 HV_STATUS_INVALID_VP_INDEX);
	input.vp_index = 0;
	input.partition_id = 99;
	assert_int_equal(call_as(vps[1], hypercall_signal_event_direct, &input, &output),
			 HV_STATUS_INVALID_PARTITION_ID);
	input.partition_id = 1;
	set_sint(vps[0], 3, 0x71 | HV_SINT_MASKED);
	assert_int_equal(call_as(vps[1], hypercall_signal_event_direct, &input, &output),
			 HV_STATUS_INVALID_SYNIC_STATE);
}

/* ---- Two VPs send to a third while its port comes and goes ---- */

#define RACE_CALLS 30000

struct racer {
	pthread_t thread;
	struct vp *self;
	unsigned int sent, signalled;
};

static void *send_on(void *context)
{
	struct racer *racer = context;
	struct hv_input_post_message own = { .connection_id = 0x11, .message_type = 1, .payload_bytes = 240 };
	const struct hv_input_signal_event event = { .connection_id = 0x12 };

	memset(own.payload, (int)racer->self->index, sizeof(own.payload));
	for (unsigned int i = 0; i < RACE_CALLS; i++) {
		uint16_t status = call_as(racer->self, hypercall_post_message, &own, NULL);

		racer->sent += status == 0;
		if (status && status != HV_STATUS_INSUFFICIENT_BUFFERS &&
		    status != HV_STATUS_INVALID_PORT_ID && status != HV_STATUS_INVALID_CONNECTION_ID)
			abort();
		racer->signalled += call_as(racer->self, hypercall_signal_event, &event, NULL) == 0;
		if (status)
			sched_yield();
	}
	return NULL;
}

/* The owner of the port makes it anew all the time, and is the receiver. */
static void racing_with_deletion(void **state)
{
	struct racer racers[2] = { { .self = vps[1] }, { .self = vps[2] } };
	unsigned int received = 0, remade = 0;
	uint64_t deadline = 0;

	(void)state;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&racers[i].thread, NULL, send_on, &racers[i]), 0);
	for (unsigned int idle = 0; idle < 100000 && deadline < 20000000; deadline++) {
		struct hv_message *at = slot(vps[0], 2);

		idle++;
		take(vps[0]);
		if (at->type) {
			assert_int_equal(at->type, 1);
			assert_in_range(at->payload.qwords[0], 0x0101010101010101, 0x0202020202020202);
			assert_int_equal(at->payload.qwords[29], at->payload.qwords[0]);
			received++;
			idle = 0;
			at->type = 0;
			eom(vps[0]);
		}
		if (deadline % 512 == 0) {
			message_port(1);
			connection(0x11, 1, HV_PORT_TYPE_MESSAGE);
			assert_int_equal(delete_port(1), 0);
			assert_int_equal(disconnect(0x11), 0);
			assert_int_equal(call(hypercall_create_port, &create), 0);
			assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
			remade++;
		}
		if (idle)
			sched_yield();
	}
	for (int i = 0; i < 2; i++)
		pthread_join(racers[i].thread, NULL);
	while (take(vps[0]) >= 0 || slot(vps[0], 2)->type) {
		received += slot(vps[0], 2)->type != 0;
		slot(vps[0], 2)->type = 0;
		eom(vps[0]);
	}
	assert_true(received > 0 && received <= racers[0].sent + racers[1].sent);
	assert_true(remade > 10);
	assert_int_equal(racers[0].signalled + racers[1].signalled, 2 * RACE_CALLS);
	assert_int_equal(vps[0]->synic.queued, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(post_message), T(post_refusals), T(post_to_disabled_synic), T(sixteen_buffers),
		T(any_vp),	 T(signal_event),  T(signal_event_direct),    T(racing_with_deletion),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
