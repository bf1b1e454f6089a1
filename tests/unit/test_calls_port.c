/* unit: core/calls_message.c core/calls_port.c core/synic.c core/synic_msr.c core/synthetic_timer.c core/port.c core/doorbell.c core/emulate.c core/event_ring.c core/page_alloc.c core/page_source.c core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/* Hypercalls that make and remove ports and connections: each refusal, messages under way, limits, and memory that ends. */
#include "port_fake.h"

static uint16_t create_with(size_t offset, size_t size, uint64_t value)
{
	struct hv_input_create_port input;

	event_port(5);
	input = create;
	memcpy((char *)&input + offset, &value, size);
	return call(hypercall_create_port, &input);
}

#define CREATE(field, value) \
	create_with(offsetof(struct hv_input_create_port, field), sizeof(create.field), value)

static void create_refusals(void **state)
{
	(void)state;
	authority_refuses = 98;
	assert_int_equal(CREATE(port_partition_id, 99), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(CREATE(port_partition_id, 98), HV_STATUS_ACCESS_DENIED);
	assert_int_equal(CREATE(connection_partition_id, 99), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(CREATE(port_id, 1), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(CREATE(port_id, 2), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(CREATE(port_id, 0x1000005), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(CREATE(port_vtl, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(min_connection_vtl, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(padding, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.port_type, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.port_type, HV_PORT_TYPE_MONITOR), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.port_type, HV_PORT_TYPE_DOORBELL), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.port_type, HV_PORT_TYPE_MESSAGE), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.padding, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.reserved, 1), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.target_sint, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.target_sint, 16), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.target_sint, 0x10000002), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.target_vp, FAKE_VPS), HV_STATUS_INVALID_VP_INDEX);
	assert_int_equal(CREATE(port_info.flag_count, 0), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.flag_count, 1949), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.base_flag_number, 2039), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.base_flag_number, UINT16_MAX), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(CREATE(port_info.base_flag_number, 2038), 0);
	assert_int_equal(delete_port(5), 0);
	assert_int_equal(CREATE(port_info.flag_count, 1948), 0);
	assert_int_equal(delete_port(5), 0);
}

/* Every flag of a SINT, by one port. */
static void widest_event_port(void **state)
{
	(void)state;
	event_port(5);
	create.port_info.base_flag_number = 0;
	create.port_info.flag_count = 2048;
	create.port_info.target_sint = 15;
	create.port_info.target_vp = 2;
	set_sint(vps[2], 15, 0x81);
	assert_int_equal(call(hypercall_create_port, &create), 0);
	connection(0xffffff, 5, HV_PORT_TYPE_EVENT);
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	assert_int_equal(signal(0xffffff, 2047), 0);
	assert_int_equal(flags(vps[2], 15)[31], BIT(63));
	assert_int_equal(take(vps[2]), 0x81);
	assert_int_equal(signal(0xffffff, 2048), HV_STATUS_INVALID_PARAMETER);
}

static void connect_refusals(void **state)
{
	const struct hv_input_connect_port *in = &connect_input;

	(void)state;
	connection(0x11, 1, HV_PORT_TYPE_MESSAGE);
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_CONNECTION_ID);
	connection(0x1000013, 1, HV_PORT_TYPE_MESSAGE);
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_CONNECTION_ID);
	connection(0x13, 3, HV_PORT_TYPE_MESSAGE);
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_PORT_ID);
	connection(0x13, 1, HV_PORT_TYPE_EVENT);
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_PARAMETER);
	connection(0x13, 1, HV_PORT_TYPE_DOORBELL);
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_PARAMETER);
	connection(0x13, 1, HV_PORT_TYPE_MESSAGE | 0x100);
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_PARAMETER);
	connection(0x13, 1, HV_PORT_TYPE_MESSAGE);
	connect_input.connection_partition_id = 99;
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_PARTITION_ID);
	connect_input.connection_partition_id = 1;
	connect_input.port_partition_id = 99;
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_PARTITION_ID);
	make_child();
	connect_input.connection_partition_id = sibling.id; /* both the caller's, but not each other's */
	connect_input.port_partition_id = child.id;
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_ACCESS_DENIED);
	destroy_child();
	connect_input.connection_partition_id = 1;
	connect_input.port_partition_id = SELF;
	connect_input.connection_vtl = 1;
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_PARAMETER);
	connect_input.connection_vtl = 0;
	connect_input.reserved2 = 1;
	assert_int_equal(call(hypercall_connect_port, in), HV_STATUS_INVALID_PARAMETER);
	connect_input.reserved2 = 0;
	assert_int_equal(call(hypercall_connect_port, in), 0);
}

static void tables_are_counted(void **state)
{
	const struct port_target target = { .type = HV_PORT_TYPE_EVENT, .sint = 2, .flag_count = 1 };
	uint64_t before = port_space_table_pages(&part), free_pages = page_pool_free_pages(&host_pool);

	(void)state;
	assert_int_equal(port_create(&part, 5 * PORTS_PER_PAGE, &target, 0), 0);
	assert_int_equal(port_space_table_pages(&part), before + 1);
	assert_int_equal(page_pool_free_pages(&host_pool), free_pages - 1);
	assert_int_equal(port_delete(&part, 5 * PORTS_PER_PAGE), 0);
	assert_int_equal(port_space_table_pages(&part), before + 1);
	assert_int_equal(page_pool_free_pages(&host_pool), free_pages - 1);
}

static void port_of_another_partition(void **state)
{
	const struct port_target target = { .type = HV_PORT_TYPE_MESSAGE, .sint = 2, .vp_index = 0 };

	(void)state;
	assert_int_equal(port_create(&part, 6, &target, 2), 0); /* partition 2 may connect */
	assert_int_equal(port_connect(&part, 0x13, &part, 6, HV_PORT_TYPE_MESSAGE),
			 HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(port_create(&part, 8, &target, 0), 0);
	assert_int_equal(port_connect(&part, 0x13, &part, 8, HV_PORT_TYPE_MESSAGE), 0);
}

static void delete_and_disconnect(void **state)
{
	struct hv_input_disconnect_port bell = { .connection_partition_id = SELF,
						 .connection_id = 0x12,
						 .flags = 1 };
	struct hv_input_delete_port odd = { .port_partition_id = SELF, .port_id = 1, .reserved = 1 };

	(void)state;
	assert_int_equal(call(hypercall_delete_port, &odd), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(call(hypercall_disconnect_port, &bell), HV_STATUS_INVALID_CONNECTION_ID);
	bell.flags = 2;
	assert_int_equal(call(hypercall_disconnect_port, &bell), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(delete_port(3), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(delete_port(2), 0);
	assert_int_equal(delete_port(2), HV_STATUS_INVALID_PORT_ID);
	/* The connection remains, useless, also when the id is another port's. */
	assert_int_equal(signal(0x12, 0), HV_STATUS_INVALID_PORT_ID);
	event_port(2);
	assert_int_equal(call(hypercall_create_port, &create), 0);
	assert_int_equal(signal(0x12, 0), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(disconnect(0x12), 0);
	assert_int_equal(disconnect(0x12), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(signal(0x12, 0), HV_STATUS_INVALID_CONNECTION_ID);
	connection(0x12, 2, HV_PORT_TYPE_EVENT);
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	assert_int_equal(signal(0x12, 0), 0);
	/* TLFS "Reliability and Sequencing": breaking a connection leaves queued messages alone. */
	assert_int_equal(post(), 0);
	assert_int_equal(disconnect(0x11), 0);
	assert_int_equal(take(vps[0]), 0x61);
}

/* A deleted port's id is free at once, though its buffers are still under way. */
static void delete_with_messages_under_way(void **state)
{
	size_t before = page_pool_free_pages(&host_pool);

	(void)state;
	for (unsigned int i = 0; i < PORT_BUFFERS; i++)
		assert_int_equal(post(), 0);
	assert_int_equal(delete_port(1), 0);
	assert_int_equal(post(), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(page_pool_free_pages(&host_pool), before);
	message_port(1);
	assert_int_equal(call(hypercall_create_port, &create), 0);
	assert_int_equal(page_pool_free_pages(&host_pool), before - 2);
	assert_int_equal(post(), HV_STATUS_INVALID_PORT_ID);
	connection(0x13, 1, HV_PORT_TYPE_MESSAGE);
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	message.connection_id = 0x13;
	message.message_type = 2;
	assert_int_equal(post(), 0);
	assert_int_equal(take(vps[0]), 0x61);
	assert_int_equal(slot(vps[0], 2)->type, 2); /* the old ones are lost */
	assert_int_equal(page_pool_free_pages(&host_pool), before);
	assert_int_equal(vps[0]->synic.queued, 0);
}

/* A sender that found the port before it was made anew. */
static void stale_generation(void **state)
{
	struct port_target target;
	struct port_buffer *buffer;
	struct port *port;
	uint64_t generation;

	(void)state;
	assert_int_equal(port_lookup(&part, 0x11, HV_PORT_TYPE_MESSAGE, &port, &target, &generation), 0);
	assert_int_equal(target.sint, 2);
	assert_int_equal(target.vp_index, 0);
	assert_int_equal(delete_port(1), 0);
	assert_int_equal(port_buffer_get(port, generation, &buffer), HV_STATUS_INVALID_PORT_ID);
	message_port(1);
	assert_int_equal(call(hypercall_create_port, &create), 0);
	assert_int_equal(port->id, 1); /* in the same place */
	assert_true(port->live);
	assert_int_equal(port_buffer_get(port, generation, &buffer), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(port_buffer_get(port, generation + 1, &buffer), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(port_buffer_get(port, generation + 2, &buffer), 0); /* port 2 was made between */
	port_buffer_put(buffer);
}

/* XSA-428: no id and no loop takes more than a partition's share; everything comes back (teardown looks). */
static void as_many_as_there_can_be(void **state)
{
	uint32_t made = 0, connected = 0;
	uint16_t status;

	(void)state;
	for (uint32_t id = 10; id < 5000; id++) {
		event_port(id);
		status = call(hypercall_create_port, &create);
		made += status == 0;
		assert_true(status == 0 || status == HV_STATUS_NO_RESOURCES);
		connection(id + 100, 2, HV_PORT_TYPE_EVENT);
		status = call(hypercall_connect_port, &connect_input);
		connected += status == 0;
		assert_true(status == 0 || status == HV_STATUS_NO_RESOURCES);
	}
	assert_int_equal(made + 2, PORT_PAGES * PORTS_PER_PAGE);
	assert_int_equal(connected + 2, CONNECTION_PAGES * CONNECTIONS_PER_PAGE);
	assert_int_equal(signal(110 + 17, 0), 0);
	for (uint32_t id = 10; id < 10 + made; id++)
		assert_int_equal(delete_port(id), 0);
	assert_int_equal(signal(0x12, 0), 0);
	/* A connection that has to be searched for among others, one of them gone. */
	assert_int_equal(disconnect(150), 0);
	assert_int_equal(signal(150, 0), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(disconnect(151), 0);
	for (uint32_t i = 1; i <= 2; i++) {
		connection(150 + 2048 * i, 2, HV_PORT_TYPE_EVENT);
		assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	}
	assert_int_equal(signal(150 + 2048, 0), 0);
	assert_int_equal(signal(150, 0), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(disconnect(150 + 2048), 0);
	assert_int_equal(signal(150 + 4096, 0), 0); /* behind a hole */
}

/* Not INSUFFICIENT_MEMORY: Linux would deposit for ever. */
static void out_of_memory(void **state)
{
	(void)state;
	message_port(PORTS_PER_PAGE + 1);
	page_pool_fail_nth(&host_pool, 1);
	assert_int_equal(call(hypercall_create_port, &create), HV_STATUS_NO_RESOURCES);
	page_pool_fail_nth(&host_pool, 2);
	assert_int_equal(call(hypercall_create_port, &create), HV_STATUS_NO_RESOURCES);
	assert_int_equal(call(hypercall_create_port, &create), 0);
	connection(CONNECTIONS_PER_PAGE + 1, 1, HV_PORT_TYPE_MESSAGE);
	page_pool_fail_nth(&host_pool, 1);
	assert_int_equal(call(hypercall_connect_port, &connect_input), HV_STATUS_NO_RESOURCES);
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(create_refusals),
		T(widest_event_port),
		T(connect_refusals),
		T(tables_are_counted),
		T(port_of_another_partition),
		T(delete_and_disconnect),
		T(delete_with_messages_under_way),
		T(stale_generation),
		T(as_many_as_there_can_be),
		T(out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
