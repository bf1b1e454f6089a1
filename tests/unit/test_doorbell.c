/* unit: core/calls_message.c core/calls_port.c core/synic.c core/synic_msr.c core/synthetic_timer.c core/port.c core/doorbell.c core/emulate.c core/event_ring.c core/page_alloc.c core/page_source.c core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Doorbells from the child's store to what the parent reads in its event ring, with the reader's side as Linux has it; and the other ways between a
 * child and its parent: ports in both directions, messages and flags past them, notices of free slots.
 */
#include "port_fake.h"

#define BELL_GPA 0xfe003000ull
#define SINT 5u

static uint8_t tail; /* the reader's, of VP 1 */

static struct hv_event_ring *event_ring(unsigned int vp)
{
	return &((struct hv_event_ring_page *)overlay_content(&vps[vp]->synic.ring_page))->sint[SINT];
}

static void bell_port(uint32_t id)
{
	create = (struct hv_input_create_port){
		.port_partition_id = SELF,
		.port_id = id,
		.connection_partition_id = 7,
		.port_info = { .port_type = HV_PORT_TYPE_DOORBELL,
			       .target_sint = SINT,
			       .target_vp = HV_VP_INDEX_ANY },
	};
	assert_int_equal(call(hypercall_create_port, &create), 0);
}

static uint16_t connect_bell(uint32_t id, uint64_t gpa, uint64_t value, uint64_t flags)
{
	connect_input = (struct hv_input_connect_port){
		.connection_partition_id = 7,
		.connection_id = id,
		.port_partition_id = 1,
		.port_id = id,
		.connection_info = { .port_type = HV_PORT_TYPE_DOORBELL,
				     .gpa = gpa,
				     .trigger_value = value,
				     .flags = flags },
	};
	return call(hypercall_connect_port, &connect_input);
}

static uint16_t disconnect_bell(uint32_t id)
{
	const struct hv_input_disconnect_port input = { .connection_partition_id = 7,
							.connection_id = id,
							.flags = HV_DISCONNECT_PORT_IS_DOORBELL };

	return call(hypercall_disconnect_port, &input);
}

static int bell_setup(void **state)
{
	setup(state);
	make_child();
	for (unsigned int i = 0; i < FAKE_VPS; i++) {
		wr(vps[i], synic_write_page, HV_MSR_SIRBP, 0x102001);
		set_sint(vps[i], 0, 0xf3);
		set_sint(vps[i], SINT, 0xf3 | HV_SINT_AS_INTERCEPT);
	}
	bell_port(33);
	tail = 0;
	kicks = 0;
	return 0;
}

static int bell_teardown(void **state)
{
	destroy_child();
	return fake_teardown(state);
}

/* MOV [...], EAX or of another size. */
static bool store(uint64_t gpa, unsigned int size, uint64_t value)
{
	insn_at_rip = (struct insn){ .op = INSN_MOV,
				     .length = 3,
				     .operand_size = (uint8_t)size,
				     .mem_size = (uint8_t)size,
				     .mem_access = INSN_MEM_WRITE,
				     .dst = INSN_OPERAND_MEM,
				     .src = INSN_OPERAND_REG,
				     .src_reg = GPR_RAX,
				     .has_mem = true };
	child_vp->gpr[GPR_RAX] = value;
	context_at_rip = (struct vp_context){ .rip = 0x1000, .mode = INSN_MODE_64 };
	return doorbell_store(child_vp, GPA(gpa));
}

/* synic_event_ring_get_queued_port() of Linux. */
static uint32_t next_port(void)
{
	struct hv_event_ring *ring = event_ring(1);
	uint32_t port = ring->port_id[tail];

	if (!port) {
		if (ring->ring_full) {
			const struct hv_input_notify_port_ring_empty input = { .sint_index = SINT };

			ring->ring_full = 0;
			assert_int_equal(call(hypercall_notify_port_ring_empty, &input), 0);
			port = ring->port_id[tail];
		}
		if (!port) {
			ring->signal_masked = 0;
			return 0;
		}
		ring->signal_masked = 1;
	}
	ring->port_id[tail] = 0;
	tail = (uint8_t)((tail + 1) % HV_EVENT_RING_ENTRIES);
	return port;
}

/* mshv_isr(): true when it was told of the ring. */
static bool isr(void)
{
	struct hv_message *message = slot(vps[1], 0);

	if (take(vps[1]) != 0xf3)
		return false;
	assert_int_equal(message->type, HV_MESSAGE_SYNIC_SINT_INTERCEPT);
	assert_int_equal(message->payload_bytes, 4);
	assert_int_equal(message->payload.qwords[0] & 0xffffffff, SINT);
	message->type = HV_MESSAGE_NONE;
	if (message->flags & HV_MESSAGE_FLAG_PENDING)
		eom(vps[1]);
	return true;
}

static void a_store_rings(void **state)
{
	(void)state;
	assert_int_equal(connect_bell(33, BELL_GPA, 0, HV_DOORBELL_ANY_VALUE | HV_DOORBELL_SIZE_WORD), 0);
	assert_true(store(BELL_GPA, 2, 0x1234));
	assert_int_equal(context_at_rip.rip, 0x1003);
	assert_int_equal(kicks, 1); /* the root's VP of this LP */
	assert_true(isr());
	assert_int_equal(next_port(), 33);
	assert_int_equal(next_port(), 0);
	assert_false(isr());
	assert_true(store(BELL_GPA, 2, 1));
	assert_true(isr());
	assert_int_equal(next_port(), 33);
}

static void only_the_store_that_was_meant(void **state)
{
	(void)state;
	assert_false(store(BELL_GPA, 2, 1)); /* there is none at all */
	assert_int_equal(connect_bell(33, BELL_GPA, 0x5, HV_DOORBELL_SIZE_WORD), 0);
	assert_true(store(BELL_GPA, 2, 0xffff0005));
	assert_false(store(BELL_GPA, 2, 6));
	assert_false(store(BELL_GPA, 1, 5));
	assert_false(store(BELL_GPA, 4, 5));
	assert_false(store(BELL_GPA + 2, 2, 5));
	assert_false(store(BELL_GPA + PAGE_SIZE, 2, 5));
	assert_int_equal(context_at_rip.rip, 0x1000);
	bell_port(34);
	assert_int_equal(connect_bell(34, BELL_GPA, 6, HV_DOORBELL_SIZE_ANY), 0);
	assert_true(store(BELL_GPA, 1, 6));
	assert_true(store(BELL_GPA, 8, 6));
	assert_false(store(BELL_GPA, 8, 5));
	undecodable = true;
	assert_false(store(BELL_GPA, 8, 6));
	undecodable = false;
	/* A read-modify-write is the monitor's. */
	insn_at_rip.op = INSN_OR;
	insn_at_rip.mem_access = INSN_MEM_READ | INSN_MEM_WRITE;
	assert_false(doorbell_store(child_vp, GPA(BELL_GPA)));
	while (isr())
		;
	assert_int_equal(next_port(), 33);
	assert_int_equal(next_port(), 34);
	assert_int_equal(next_port(), 0); /* the second ring of 34 found the first still under way */
}

static void refusals(void **state)
{
	(void)state;
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 5), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0x10), HV_STATUS_INVALID_PARAMETER);
	assert_int_equal(connect_bell(32, BELL_GPA, 0, 0), HV_STATUS_INVALID_PORT_ID);
	assert_int_equal(connect_bell(1, BELL_GPA, 0, 0), HV_STATUS_INVALID_PORT_ID); /* not for a child */
	assert_int_equal(connect_bell(0x1000021, BELL_GPA, 0, 0), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(disconnect_bell(33), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), 0);
	assert_int_equal(connect_bell(33, BELL_GPA + 8, 0, 0), HV_STATUS_INVALID_CONNECTION_ID);
	assert_int_equal(disconnect_bell(33), 0);
	assert_false(store(BELL_GPA, 4, 0));
	assert_int_equal(connect_bell(33, BELL_GPA + 8, 0, 0), 0);
	assert_true(store(BELL_GPA + 8, 4, 0));
	assert_int_equal(delete_port(33), 0);
	assert_false(store(BELL_GPA + 8, 4, 0));
	assert_false(isr()); /* what had rung before goes with the port */
	assert_int_equal(event_ring(1)->port_id[0], 0);
}

/* Its end has begun: nothing new is to be found in its tables. */
static void a_finalized_child(void **state)
{
	(void)state;
	child.state = PARTITION_FINALIZED;
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), HV_STATUS_INVALID_PARTITION_STATE);
	message_port(41);
	create.port_partition_id = 7;
	assert_int_equal(call(hypercall_create_port, &create), HV_STATUS_INVALID_PARTITION_STATE);
	connection(0x21, 41, HV_PORT_TYPE_MESSAGE);
	connect_input.port_partition_id = 7;
	assert_int_equal(call(hypercall_connect_port, &connect_input), HV_STATUS_INVALID_PARTITION_STATE);
	assert_int_equal(disconnect_bell(33), HV_STATUS_INVALID_CONNECTION_ID);
}

static void a_child_without_pages_is_given_some(void **state)
{
	(void)state;
	page_pool_fail_nth(&host_pool, 1);
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), HV_STATUS_INSUFFICIENT_MEMORY);
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), 0);
}

/* Many at one address, and in one page of the table. */
static void searched_for_among_others(void **state)
{
	uint16_t status = 0;
	uint32_t made = 0;

	(void)state;
	for (uint32_t id = 100; !status; id++) {
		bell_port(id);
		status = connect_bell(id, BELL_GPA, id, 0);
		made += !status;
	}
	assert_int_equal(status, HV_STATUS_NO_RESOURCES);
	assert_int_equal(made, 85);
	for (uint32_t id = 100; id < 100 + made; id += 2)
		assert_int_equal(disconnect_bell(id), 0);
	for (uint32_t id = 100; id < 100 + made; id++) {
		assert_int_equal(store(BELL_GPA, 4, id), id % 2);
		if (id % 2 == 0)
			continue;
		isr();
		assert_int_equal(next_port(), id);
		assert_int_equal(next_port(), 0);
	}
}

static void a_full_ring(void **state)
{
	unsigned int bells = HV_EVENT_RING_ENTRIES + 10;

	(void)state;
	for (uint32_t i = 0; i < bells; i++) {
		bell_port(100 + i);
		assert_int_equal(connect_bell(100 + i, BELL_GPA + 4 * i, 0, 0), 0);
	}
	for (uint32_t i = 0; i < bells; i++)
		assert_true(store(BELL_GPA + 4 * i, 4, 0));
	assert_true(isr());
	assert_int_equal(event_ring(1)->ring_full, 1);
	assert_int_equal(delete_port(100 + bells - 1), 0); /* waiting, and gone */
	for (uint32_t i = 0; i < bells - 1; i++)
		assert_int_equal(next_port(), 100 + i);
	assert_int_equal(next_port(), 0);
	assert_int_equal(event_ring(1)->ring_full, 0);
	assert_true(store(BELL_GPA, 4, 0)); /* the ring goes on where it was */
	while (isr())
		;
	assert_int_equal(next_port(), 100);
}

static void a_masked_signal_is_not_sent(void **state)
{
	(void)state;
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), 0);
	event_ring(1)->signal_masked = 1;
	assert_true(store(BELL_GPA, 4, 0));
	assert_false(isr());
	assert_int_equal(next_port(), 33);
	assert_int_equal(next_port(), 0); /* unmasks */
	assert_true(store(BELL_GPA, 4, 0));
	assert_true(isr());
}

/* Without "as intercept" it is the SINT's own interrupt. */
static void another_kind_of_signal(void **state)
{
	(void)state;
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), 0);
	set_sint(vps[1], SINT, 0x55);
	assert_true(store(BELL_GPA, 4, 0));
	assert_int_equal(take(vps[1]), 0x55);
	set_sint(vps[1], SINT, HV_SINT_MASKED | 0x55);
	assert_true(store(BELL_GPA, 4, 0));
	assert_int_equal(take(vps[1]), -1);
	assert_int_equal(next_port(), 33);
	assert_int_equal(next_port(), 33);
}

static void nobody_listens(void **state)
{
	(void)state;
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), 0);
	wr(vps[1], synic_write_page, HV_MSR_SIRBP, 0x102000);
	assert_true(store(BELL_GPA, 4, 0)); /* another VP does */
	assert_true(vps[0]->pending & VP_PENDING_SYNIC);
	wr(vps[0], synic_write_page, HV_MSR_SIRBP, 0x102000);
	assert_int_equal(take(vps[0]), -1); /* too late for it: dropped */
	wr(vps[2], synic_write_control, HV_MSR_SCONTROL, 0);
	assert_false(store(BELL_GPA, 4, 0)); /* the monitor's */
	wr(vps[1], synic_write_page, HV_MSR_SIRBP, 0x102001);
	assert_true(store(BELL_GPA, 4, 0));
	assert_true(isr());
	assert_int_equal(next_port(), 33);
}

static void a_new_reader_starts_anew(void **state)
{
	(void)state;
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), 0);
	assert_true(store(BELL_GPA, 4, 0));
	enter(vps[1]);
	assert_int_equal(event_ring(1)->port_id[0], 33);
	wr(vps[1], synic_write_page, HV_MSR_SIRBP, 0x102000);
	wr(vps[1], synic_write_page, HV_MSR_SIRBP, 0x102001);
	assert_int_equal(event_ring(1)->port_id[0], 0);
	assert_true(store(BELL_GPA, 4, 0));
	enter(vps[1]);
	assert_int_equal(event_ring(1)->port_id[0], 33);
}

/* Nor is there anything in the new rings that the message of before could be about. */
static void a_new_reader_gets_no_message_of_before(void **state)
{
	(void)state;
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), 0);
	slot(vps[1], 0)->type = 1; /* taken: the message waits */
	assert_true(store(BELL_GPA, 4, 0));
	enter(vps[1]);
	assert_true(vps[1]->synic.ring_message.queued);
	wr(vps[1], synic_write_page, HV_MSR_SIRBP, 0x102000);
	wr(vps[1], synic_write_page, HV_MSR_SIRBP, 0x102001);
	slot(vps[1], 0)->type = 0;
	wr(vps[1], synic_write_eom, HV_MSR_EOM, 0);
	assert_int_equal(slot(vps[1], 0)->type, 0);
	assert_true(store(BELL_GPA, 4, 0));
	assert_true(isr());
	assert_int_equal(next_port(), 33);
}

static void the_empty_notice_is_checked(void **state)
{
	struct hv_input_notify_port_ring_empty input = { .sint_index = 16 };

	(void)state;
	assert_int_equal(call(hypercall_notify_port_ring_empty, &input), HV_STATUS_INVALID_PARAMETER);
	input = (struct hv_input_notify_port_ring_empty){ .reserved = 1 };
	assert_int_equal(call(hypercall_notify_port_ring_empty, &input), HV_STATUS_INVALID_PARAMETER);
	input.reserved = 0;
	assert_int_equal(call(hypercall_notify_port_ring_empty, &input), 0);
}

/* ---- The other ways ---- */

static void a_childs_message_to_its_parent(void **state)
{
	(void)state;
	message_port(40);
	create.connection_partition_id = 7;
	create.port_info.target_vp = HV_VP_INDEX_ANY;
	assert_int_equal(call(hypercall_create_port, &create), 0);
	connection(0x20, 40, HV_PORT_TYPE_MESSAGE);
	connect_input.connection_partition_id = 7;
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	message.connection_id = 0x20;
	assert_int_equal(call_as(child_vp, hypercall_post_message, &message, NULL), 0);
	assert_int_equal(take(vps[1]), 0x61); /* on the child's LP */
	assert_int_equal(slot(vps[1], 2)->sender, 40);
	assert_int_equal(slot(vps[1], 2)->type, 1);
}

static void a_parents_message_to_its_child(void **state)
{
	(void)state;
	enable(child_vp);
	set_sint(child_vp, 2, 0x62);
	message_port(41);
	create.port_partition_id = 7;
	assert_int_equal(call(hypercall_create_port, &create), 0);
	connection(0x21, 41, HV_PORT_TYPE_MESSAGE);
	connect_input.port_partition_id = 7;
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	message.connection_id = 0x21;
	assert_int_equal(post(), 0);
	assert_int_equal(post(), 0);
	assert_int_equal(take(child_vp), 0x62);
	/* The child goes with one of them undelivered, and the connection with the port. */
	destroy_child();
	assert_int_equal(post(), HV_STATUS_INVALID_CONNECTION_ID);
}

static unsigned int freed_under_lock;

static void free_looking(struct page_source *source, void *page)
{
	(void)source;
	assert_false(spin_trylock(&child.ports.lock));
	freed_under_lock++;
	host_pages.free(&host_pages, page);
}

/* Its parent can delete a port, or a connection, as long as the child has a number: the pages mustn't go while it looks at them. */
static void the_tables_go_under_their_lock(void **state)
{
	static struct page_source looking = { .free = free_looking };

	(void)state;
	message_port(41);
	create.port_partition_id = 7;
	assert_int_equal(call(hypercall_create_port, &create), 0);
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), 0);
	port_space_disconnect(&child);
	free_vp(child_vp);
	child_vp = NULL;
	child.pages = &looking;
	freed_under_lock = 0;
	port_space_destroy(&child);
	assert_int_equal(freed_under_lock, 2 + PORT_BUFFER_PAGES);
	assert_true(spin_trylock(&child.ports.lock));
}

static struct hv_input_post_message_direct direct;

static uint16_t post_direct(void)
{
	return call(hypercall_post_message_direct, &direct);
}

static void past_the_ports(void **state)
{
	const struct hv_message text = { .type = 1, .payload_bytes = 8, .payload.qwords = { 0xabcd } };

	(void)state;
	direct = (struct hv_input_post_message_direct){ .partition_id = 7, .sint = 2 };
	memcpy(direct.message, &text, sizeof(text));
	assert_int_equal(post_direct(), HV_STATUS_INVALID_SYNIC_STATE);
	enable(child_vp);
	set_sint(child_vp, 2, 0x62);
	assert_int_equal(post_direct(), 0);
	assert_int_equal(slot(child_vp, 2)->payload.qwords[0], 0xabcd);
	assert_int_equal(take(child_vp), 0x62);
	/* Taken: the guest is to say when it isn't any more, and the parent will be told. */
	assert_int_equal(post_direct(), HV_STATUS_INSUFFICIENT_BUFFERS);
	assert_int_equal(slot(child_vp, 2)->flags, HV_MESSAGE_FLAG_PENDING);
	synic_want_deliverable(child_vp, BIT(2) | BIT(3));
	assert_int_equal(told_deliverable, BIT(3));
	assert_int_equal(child_vp->synic.wanted, BIT(2));
	slot(child_vp, 2)->type = HV_MESSAGE_NONE;
	has_intercept = true;
	eom(child_vp);
	assert_int_equal(child_vp->synic.wanted, BIT(2));
	has_intercept = false;
	synic_scan(child_vp, &child_vp->synic); /* as after the answer */
	assert_int_equal(told_deliverable, BIT(2));
	assert_int_equal(child_vp->synic.wanted, 0);
	assert_int_equal(post_direct(), 0);
	assert_int_equal(borrows, 4);
}

static void past_the_ports_is_checked(void **state)
{
	(void)state;
	enable(child_vp);
	direct = (struct hv_input_post_message_direct){ .partition_id = 7, .sint = 2 };
	assert_int_equal(post_direct(), HV_STATUS_INVALID_PARAMETER); /* no type */
	direct.message[0] = 1;
	direct.sint = 16;
	assert_int_equal(post_direct(), HV_STATUS_INVALID_PARAMETER);
	direct.sint = 2;
	direct.message[4] = 241;
	assert_int_equal(post_direct(), HV_STATUS_INVALID_PARAMETER);
	direct.message[4] = 240;
	direct.vtl = 1;
	assert_int_equal(post_direct(), HV_STATUS_INVALID_PARAMETER);
	direct.vtl = 0x10;
	direct.vp_index = 1;
	assert_int_equal(post_direct(), HV_STATUS_INVALID_VP_INDEX);
	direct.vp_index = 0;
	direct.partition_id = 8;
	assert_int_equal(post_direct(), HV_STATUS_INVALID_PARTITION_ID);
	assert_int_equal(borrows, 0);
	direct.partition_id = SELF;
	assert_int_equal(post_direct(), HV_STATUS_INVALID_VP_STATE); /* VP 0 may run */
	direct.vp_index = 1;
	assert_int_equal(post_direct(), 0);
}

/* ---- Messages that lie in a child's VP ---- */

static void the_notice_of_an_intercept(void **state)
{
	struct synic_message *link = &fake_intercepts.link;

	(void)state;
	link->sender = SYNIC_INTERCEPT;
	fake_intercepts.link_posted = INTERCEPT_POSTED;
	synic_post(vps[1], child_vp, link);
	assert_int_equal(take(vps[1]), 0xf3);
	assert_int_equal(slot(vps[1], 0)->type, HV_MESSAGE_OPAQUE_INTERCEPT);
	assert_int_equal(slot(vps[1], 0)->sender, 7);
	assert_int_equal(slot(vps[1], 0)->payload.bytes[0], 3);
	assert_int_equal(fake_intercepts.link_posted, 0);
	/* The slot is taken: it waits, until its VP is deleted. */
	fake_intercepts.link_posted = INTERCEPT_POSTED;
	synic_post(vps[1], child_vp, link);
	assert_int_equal(take(vps[1]), -1);
	assert_true(link->queued);
	fake_intercepts.link_posted |= INTERCEPT_DEAD;
	synic_drop_dead(vps[1], vps[0]);
	enter(vps[1]);
	assert_int_equal(fake_intercepts.link_posted, 0);
	assert_false(link->queued);
	assert_int_equal(vps[1]->synic.queued, 0);
}

static void a_dead_one_behind_another(void **state)
{
	struct synic_message *link = &fake_intercepts.link;

	(void)state;
	slot(vps[1], 0)->type = 99; /* taken */
	assert_int_equal(connect_bell(33, BELL_GPA, 0, 0), 0);
	assert_true(store(BELL_GPA, 4, 0));
	link->sender = SYNIC_INTERCEPT;
	fake_intercepts.link_posted = INTERCEPT_POSTED;
	synic_post(vps[1], child_vp, link);
	enter(vps[1]);
	assert_true(link->queued);
	fake_intercepts.link_posted |= INTERCEPT_DEAD;
	synic_drop_dead(vps[1], vps[1]);
	enter(vps[1]);
	assert_false(link->queued);
	assert_int_equal(vps[1]->synic.queued, 1); /* the other one still waits */
	slot(vps[1], 0)->type = HV_MESSAGE_NONE;
	eom(vps[1]);
	assert_true(isr());
}

#define T(f) cmocka_unit_test_setup_teardown(f, bell_setup, bell_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_store_rings),
		T(only_the_store_that_was_meant),
		T(refusals),
		T(a_finalized_child),
		T(a_child_without_pages_is_given_some),
		T(searched_for_among_others),
		T(a_full_ring),
		T(a_masked_signal_is_not_sent),
		T(another_kind_of_signal),
		T(nobody_listens),
		T(a_new_reader_starts_anew),
		T(a_new_reader_gets_no_message_of_before),
		T(the_empty_notice_is_checked),
		T(a_childs_message_to_its_parent),
		T(a_parents_message_to_its_child),
		T(the_tables_go_under_their_lock),
		T(past_the_ports),
		T(past_the_ports_is_checked),
		T(the_notice_of_an_intercept),
		T(a_dead_one_behind_another),
	};

	return cmocka_run_group_tests_name("doorbells, and between a child and its parent", tests, NULL,
					   NULL);
}
