/* unit: core/synic.c core/synic_msr.c core/synthetic_timer.c core/port.c core/event_ring.c core/page_alloc.c core/page_source.c core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * SynIC: its MSRs, messages from queue to slot, event flags, and what a hostile guest or another processor may do meanwhile.
 * Messages here are those of one port's buffers, posted without a connection.
 */
#include "synic_fake.h"
#include <pthread.h>

#define VECTOR 0x61

static struct vp *vp;
static struct port *port;
static uint64_t generation;

static int setup(void **state)
{
	const struct port_target target = { .type = HV_PORT_TYPE_MESSAGE, .sint = 2, .vp_index = 0 };
	struct port_target seen;

	fake_setup(state);
	vp = vps[0];
	assert_int_equal(port_create(&part, 7, &target, 0), 0);
	assert_int_equal(port_connect(&part, 9, &part, 7, HV_PORT_TYPE_MESSAGE), 0);
	assert_int_equal(port_lookup(&part, 9, HV_PORT_TYPE_MESSAGE, &port, &seen, &generation), 0);
	enable(vp);
	set_sint(vp, 2, VECTOR);
	vp->pending = 0;
	return 0;
}

static struct port_buffer *make_message(unsigned int sint, uint32_t type, uint8_t bytes)
{
	struct port_buffer *buffer;

	assert_int_equal(port_buffer_get(port, generation, &buffer), 0);
	buffer->link.sint = (uint8_t)sint;
	buffer->message.type = type;
	buffer->message.payload_bytes = bytes;
	buffer->message.sender = 7;
	memset(&buffer->message.payload, (int)type, sizeof(buffer->message.payload));
	return buffer;
}

static void post(unsigned int sint, uint32_t type, uint8_t bytes)
{
	synic_post(vp, vps[1], &make_message(sint, type, bytes)->link);
}

static unsigned int buffers_in_use(void)
{
	return (unsigned int)__builtin_popcountll(port->state & PORT_STATE_BUFFERS);
}

/* ---- MSRs ---- */

static void reset_values(void **state)
{
	struct vp *fresh = vps[1];

	(void)state;
	assert_int_equal(rd(fresh, synic_read_control, HV_MSR_SCONTROL), 0);
	assert_int_equal(rd(fresh, synic_read_version, HV_MSR_SVERSION), 1);
	assert_int_equal(rd(fresh, synic_read_page, HV_MSR_SIEFP), 0);
	assert_int_equal(rd(fresh, synic_read_page, HV_MSR_SIMP), 0);
	assert_int_equal(rd(fresh, synic_read_page, HV_MSR_SIRBP), 0);
	assert_int_equal(rd(fresh, synic_read_eom, HV_MSR_EOM), 0);
	for (uint32_t i = 0; i < 16; i++)
		assert_int_equal(rd(fresh, synic_read_sint, HV_MSR_SINT0 + i), 0x10000);
	assert_int_equal(synic_takes_messages(fresh), HV_STATUS_INVALID_SYNIC_STATE);
}

/* TLFS "SINTx Registers": an unmasked source has a vector of 16 to 255. */
static void sint_vector_rules(void **state)
{
	(void)state;
	set_sint(vp, 3, 0x51);
	for (uint64_t v = 0; v < 16; v++) {
		assert_int_equal(synic_write_sint(vp, HV_MSR_SINT3, v), -EINVAL);
		assert_int_equal(synic_write_sint(vp, HV_MSR_SINT3, v | HV_SINT_POLLING), -EINVAL);
		assert_int_equal(rd(vp, synic_read_sint, HV_MSR_SINT3), 0x51);
		set_sint(vp, 4, v | HV_SINT_MASKED);
		assert_int_equal(rd(vp, synic_read_sint, HV_MSR_SINT4), v | HV_SINT_MASKED);
	}
	for (uint64_t v = 16; v < 256; v++)
		set_sint(vp, 3, v);
	/* Reserved bits are preserved, intercept and proxy bits stored. */
	set_sint(vp, 15, 0xfffffffffff8ff20 | HV_SINT_AS_INTERCEPT | HV_SINT_PROXY);
	assert_int_equal(rd(vp, synic_read_sint, HV_MSR_SINT15), 0xfffffffffff8ff20);
	assert_int_equal(rd(vp, synic_read_sint, HV_MSR_SINT14), 0x10000);
}

static void polling_only_if_offered(void **state)
{
	(void)state;
	set_sint(vp, 3, 0x51 | HV_SINT_POLLING);
	assert_int_equal(rd(vp, synic_read_sint, HV_MSR_SINT3), 0x51 | HV_SINT_POLLING);
	part.features &= ~HV_FEATURE_SINT_POLLING;
	set_sint(vp, 3, 0x52 | HV_SINT_POLLING);
	assert_int_equal(rd(vp, synic_read_sint, HV_MSR_SINT3), 0x52);
}

static void pages_and_control_read_back(void **state)
{
	(void)state;
	wr(vp, synic_write_page, HV_MSR_SIMP, 0x234ffe);
	wr(vp, synic_write_page, HV_MSR_SIEFP, 0x235001);
	wr(vp, synic_write_page, HV_MSR_SIRBP, 0x236001);
	wr(vp, synic_write_control, HV_MSR_SCONTROL, 0xf00000000000000f);
	assert_int_equal(rd(vp, synic_read_page, HV_MSR_SIMP), 0x234ffe);
	assert_int_equal(rd(vp, synic_read_page, HV_MSR_SIEFP), 0x235001);
	assert_int_equal(rd(vp, synic_read_page, HV_MSR_SIRBP), 0x236001);
	assert_int_equal(rd(vp, synic_read_control, HV_MSR_SCONTROL), 0xf00000000000000f);
	/* What the overlay refuses, the MSR refuses, and nothing has changed. */
	overlay_refuses = true;
	assert_int_equal(synic_write_page(vp, HV_MSR_SIMP, 0x1), -EINVAL);
	assert_int_equal(synic_takes_messages(vp), HV_STATUS_INVALID_SYNIC_STATE);
}

/* ---- Messages ---- */

static void message_into_free_slot(void **state)
{
	const struct hv_message *at = slot(vp, 2);
	struct port_buffer *buffer = make_message(2, 0x77, 200);

	(void)state;
	memset(slot(vp, 2), 0xee, sizeof(*at));
	slot(vp, 2)->type = 0;
	synic_post(vp, vps[1], &buffer->link);
	assert_int_equal(kicks, 1);
	assert_true(vp->pending & VP_PENDING_SYNIC);
	assert_int_equal(at->type, 0); /* another's LP doesn't touch the page */
	assert_int_equal(enter(vp), VECTOR);
	assert_int_equal(at->type, 0x77);
	assert_int_equal(at->payload_bytes, 200);
	assert_int_equal(at->flags, 0);
	assert_int_equal(at->reserved, 0);
	assert_int_equal(at->sender, 7);
	for (unsigned int i = 0; i < 240; i++)
		assert_int_equal(at->payload.bytes[i], i < 200 ? 0x77 : 0xee);
	assert_int_equal(buffers_in_use(), 0);
	assert_int_equal(vp->synic.queued, 0);
	assert_int_equal(slot(vp, 1)->type, 0);
	assert_int_equal(slot(vp, 3)->type, 0);
}

static void busy_slot_waits_for_eom(void **state)
{
	(void)state;
	post(2, 1, 8);
	assert_int_equal(take(vp), VECTOR);
	post(2, 2, 8);
	assert_int_equal(take(vp), -1);
	assert_int_equal(slot(vp, 2)->type, 1);
	assert_int_equal(slot(vp, 2)->flags, HV_MESSAGE_FLAG_PENDING);
	assert_int_equal(vp->synic.queued, 1u << 2);
	eom(vp); /* not emptied yet */
	assert_int_equal(take(vp), -1);
	assert_int_equal(slot(vp, 2)->type, 1);
	slot(vp, 2)->type = 0;
	eom(vp);
	assert_int_equal(slot(vp, 2)->type, 2);
	assert_int_equal(slot(vp, 2)->flags, 0);
	assert_int_equal(take(vp), VECTOR);
	assert_int_equal(vp->synic.queued, 0);
	slot(vp, 2)->type = 0;
	eom(vp); /* no-op */
	assert_int_equal(slot(vp, 2)->type, 0);
	assert_int_equal(take(vp), -1);
}

static void order_and_pending_flag(void **state)
{
	(void)state;
	for (uint32_t i = 1; i <= PORT_BUFFERS; i++)
		post(2, i, 8);
	assert_int_equal(kicks, 1); /* the first tells for all */
	for (uint32_t i = 1; i <= PORT_BUFFERS; i++) {
		assert_int_equal(enter(vp), VECTOR);
		assert_int_equal(slot(vp, 2)->type, i);
		/* In the message already, before its interrupt ends. */
		assert_int_equal(slot(vp, 2)->flags, i < PORT_BUFFERS ? HV_MESSAGE_FLAG_PENDING : 0);
		apic_eoi(&vp->apic);
		assert_int_equal(buffers_in_use(), PORT_BUFFERS - i);
		slot(vp, 2)->type = 0;
		eom(vp);
	}
	assert_int_equal(take(vp), -1);
}

/* A later message tries the slot again: the guest may have emptied it without EOM. */
static void another_message_delivers_the_first(void **state)
{
	(void)state;
	post(2, 1, 8);
	assert_int_equal(take(vp), VECTOR);
	post(2, 2, 8);
	assert_int_equal(take(vp), -1);
	slot(vp, 2)->type = 0;
	post(2, 3, 8);
	assert_int_equal(take(vp), VECTOR);
	assert_int_equal(slot(vp, 2)->type, 2);
	assert_int_equal(slot(vp, 2)->flags, HV_MESSAGE_FLAG_PENDING);
}

static void apic_eoi_delivers(void **state)
{
	(void)state;
	post(2, 1, 8);
	assert_int_equal(enter(vp), VECTOR);
	assert_int_equal(apic_eoi_exits(&vp->apic, 1), 0); /* nobody waits: no exit */
	vp->apic.tmr_changed = false;
	post(2, 2, 8);
	assert_int_equal(enter(vp), -1);
	assert_int_equal(apic_eoi_exits(&vp->apic, 1), BIT(VECTOR - 64));
	assert_true(vp->apic.tmr_changed);
	slot(vp, 2)->type = 0;
	apic_eoi(&vp->apic);
	assert_int_equal(slot(vp, 2)->type, 2);
	assert_int_equal(apic_eoi_exits(&vp->apic, 1), 0);
	assert_int_equal(take(vp), VECTOR);
}

/* The same where the processor ends interrupts by itself. */
static void virtualized_eoi_delivers(void **state)
{
	(void)state;
	post(2, 1, 8);
	enter(vp);
	post(2, 2, 8);
	enter(vp);
	slot(vp, 2)->type = 0;
	apic_page_ended(&vp->apic, VECTOR);
	assert_int_equal(slot(vp, 2)->type, 2);
	slot(vp, 2)->type = 0;
	apic_page_ended(&vp->apic, VECTOR);
	assert_int_equal(slot(vp, 2)->type, 0);
}

/* Lazy EOI: an interrupt whose end is wanted is not to be ended without us. */
static void lazy_eoi_is_taken_back(void **state)
{
	uint32_t word = 0;

	(void)state;
	apic_set_assist(&vp->apic, &word);
	post(2, 1, 8);
	assert_int_equal(enter(vp), VECTOR);
	assert_int_equal(word, 1);
	post(2, 2, 8);
	assert_int_equal(enter(vp), -1);
	assert_int_equal(word, 0);
	assert_false(vp->apic.eoi_offered);
	slot(vp, 2)->type = 0;
	apic_eoi(&vp->apic);
	assert_int_equal(slot(vp, 2)->type, 2);
	/* With a third waiting the second's interrupt isn't offered at all. */
	post(2, 3, 8);
	assert_int_equal(enter(vp), VECTOR);
	assert_int_equal(word, 0);
}

static void masked_and_polled_without_interrupt(void **state)
{
	const uint64_t values[] = { VECTOR | HV_SINT_MASKED, VECTOR | HV_SINT_POLLING,
				    VECTOR | HV_SINT_MASKED | HV_SINT_POLLING };

	(void)state;
	for (uint32_t i = 0; i < ARRAY_SIZE(values); i++) {
		set_sint(vp, 2, values[i]);
		post(2, i + 1, 8);
		assert_int_equal(take(vp), -1);
		assert_int_equal(slot(vp, 2)->type, i + 1);
		post(2, i + 1, 8); /* and none when it had to wait */
		enter(vp);
		slot(vp, 2)->type = 0;
		eom(vp);
		assert_int_equal(take(vp), -1);
		assert_int_equal(slot(vp, 2)->type, i + 1);
		slot(vp, 2)->type = 0;
	}
}

static void queued_until_enabled(void **state)
{
	(void)state;
	post(2, 1, 8);
	wr(vp, synic_write_control, HV_MSR_SCONTROL, 0); /* before the VP takes it in */
	assert_int_equal(take(vp), -1);
	assert_int_equal(slot(vp, 2)->type, 0);
	wr(vp, synic_write_control, HV_MSR_SCONTROL, 1);
	assert_int_equal(take(vp), VECTOR);
	assert_int_equal(slot(vp, 2)->type, 1);
	slot(vp, 2)->type = 0;

	post(2, 2, 8);
	wr(vp, synic_write_page, HV_MSR_SIMP, 0x100000);
	assert_int_equal(take(vp), -1);
	assert_int_equal(slot(vp, 2)->type, 0);
	assert_int_equal(slot(vp, 2)->flags, 0); /* XSA-472: a page that isn't enabled is left alone */
	eom(vp);
	assert_int_equal(slot(vp, 2)->type, 0);
	wr(vp, synic_write_page, HV_MSR_SIMP, 0x300001);
	assert_int_equal(take(vp), VECTOR);
	assert_int_equal(slot(vp, 2)->type, 2);
}

static void takes_messages_when_both_are_enabled(void **state)
{
	(void)state;
	assert_int_equal(synic_takes_messages(vp), 0);
	wr(vp, synic_write_page, HV_MSR_SIMP, 0);
	assert_int_equal(synic_takes_messages(vp), HV_STATUS_INVALID_SYNIC_STATE);
	assert_int_equal(synic_takes_events(vp, 2), 0);
	wr(vp, synic_write_page, HV_MSR_SIMP, 1);
	wr(vp, synic_write_page, HV_MSR_SIEFP, 0);
	assert_int_equal(synic_takes_messages(vp), 0);
	assert_int_equal(synic_takes_events(vp, 2), HV_STATUS_INVALID_SYNIC_STATE);
	wr(vp, synic_write_page, HV_MSR_SIEFP, 1);
	wr(vp, synic_write_control, HV_MSR_SCONTROL, 0);
	assert_int_equal(synic_takes_messages(vp), HV_STATUS_INVALID_SYNIC_STATE);
	assert_int_equal(synic_takes_events(vp, 2), HV_STATUS_INVALID_SYNIC_STATE);
}

static void auto_eoi(void **state)
{
	(void)state;
	set_sint(vp, 2, VECTOR | HV_SINT_AUTO_EOI);
	assert_int_equal(mode_changes, 1);
	assert_true(vp->apic.eoi_automatic_any);
	post(2, 1, 8);
	assert_int_equal(enter(vp), VECTOR);
	assert_int_equal(vp->apic.isr_top, -1);
	assert_int_equal(vp->apic.irr_top, -1);
	assert_int_equal(vp->apic.ppr, 0);
	assert_int_equal(apic_vectors(&vp->apic, APIC_REG_ISR, 1), 0);
	assert_int_equal(apic_vectors(&vp->apic, APIC_REG_IRR, 1), 0);
	/* One with a lower vector stays where it was, and comes next. */
	slot(vp, 2)->type = 0;
	apic_accept(&vp->apic, 0x41, false);
	post(2, 2, 8);
	assert_int_equal(enter(vp), VECTOR);
	assert_int_equal(enter(vp), 0x41);
	assert_int_equal(vp->apic.isr_top, 0x41);
	apic_eoi(&vp->apic);
	/* Masked or without the flag it is an ordinary vector again. */
	set_sint(vp, 2, VECTOR | HV_SINT_AUTO_EOI | HV_SINT_MASKED);
	assert_false(vp->apic.eoi_automatic_any);
	set_sint(vp, 2, VECTOR);
	assert_int_equal(mode_changes, 2);
	slot(vp, 2)->type = 0;
	post(2, 3, 8);
	assert_int_equal(enter(vp), VECTOR);
	assert_int_equal(vp->apic.isr_top, VECTOR);
}

/* Whatever the guest writes into its page, only "type is 0" matters, and a message lands within its slot. */
static void hostile_page(void **state)
{
	struct hv_message_page *page = overlay_content(&vp->synic.message_page);

	(void)state;
	memset(page, 0xff, sizeof(*page));
	post(2, 1, 240);
	assert_int_equal(take(vp), -1);
	eom(vp);
	assert_int_equal(vp->synic.queued, 4);
	page->slot[2].type = 0;
	eom(vp);
	assert_int_equal(page->slot[2].type, 1);
	assert_int_equal(page->slot[2].payload_bytes, 240);
	assert_int_equal(page->slot[1].payload.bytes[239], 0xff);
	assert_int_equal(page->slot[3].type, UINT32_MAX);
	assert_int_equal(page->slot[3].flags, 0xff);
}

static void deleted_port_loses_its_messages(void **state)
{
	(void)state;
	post(2, 1, 8);
	assert_int_equal(take(vp), VECTOR);
	post(2, 2, 8);
	post(2, 3, 8);
	assert_int_equal(take(vp), -1);
	post(2, 4, 8); /* in the inbox */
	assert_int_equal(port_delete(&part, 7), 0);
	slot(vp, 2)->type = 0;
	eom(vp);
	assert_int_equal(take(vp), -1);
	assert_int_equal(slot(vp, 2)->type, 0);
	assert_int_equal(buffers_in_use(), 0);
	assert_int_equal(vp->synic.queued, 0);
}

/* ---- Event flags ---- */

static void event_flags(void **state)
{
	static const unsigned int numbers[] = { 0, 1, 63, 64, 2047 };
	bool newly;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		unsigned int n = numbers[i];

		assert_int_equal(synic_signal(vp, vp, 2, n, &newly), 0);
		assert_true(newly);
		assert_true(flags(vp, 2)[n / 64] >> n % 64 & 1);
		assert_int_equal(take(vp), VECTOR);
		assert_int_equal(synic_signal(vp, vp, 2, n, &newly), 0);
		assert_false(newly);
		assert_int_equal(take(vp), -1); /* it was set: no interrupt */
		flags(vp, 2)[n / 64] = 0;
		assert_int_equal(synic_signal(vp, vps[1], 2, n, &newly), 0);
		assert_true(newly);
		assert_int_equal(take(vp), VECTOR);
	}
	assert_int_equal(flags(vp, 2)[0], BIT(63));
	assert_int_equal(flags(vp, 2)[1], 1);
	assert_int_equal(flags(vp, 2)[31], BIT(63));
	assert_int_equal(flags(vp, 1)[31], 0);
	assert_int_equal(flags(vp, 3)[0], 0);
	assert_int_equal(kicks, 5);
}

/* TLFS "Event Flag Delivery": a masked source refuses; polling is as unmasked. */
static void masked_event(void **state)
{
	bool newly = true;

	(void)state;
	set_sint(vp, 2, VECTOR | HV_SINT_MASKED);
	assert_int_equal(synic_signal(vp, vp, 2, 5, &newly), HV_STATUS_INVALID_SYNIC_STATE);
	assert_false(newly);
	assert_int_equal(flags(vp, 2)[0], 0);
	set_sint(vp, 2, VECTOR | HV_SINT_MASKED | HV_SINT_POLLING);
	assert_int_equal(synic_signal(vp, vp, 2, 5, &newly), 0);
	assert_true(newly);
	assert_int_equal(flags(vp, 2)[0], BIT(5));
	assert_int_equal(take(vp), -1);
	wr(vp, synic_write_page, HV_MSR_SIEFP, 0);
	assert_int_equal(synic_signal(vp, vp, 2, 6, &newly), HV_STATUS_INVALID_SYNIC_STATE);
	assert_int_equal(flags(vp, 2)[0], BIT(5)); /* XSA-472 */
}

/* ---- Races (XSA-472: two VPs and one page). Two senders, and the owner, which turns its page off and on. ---- */

#define RACE_MESSAGES 20000u

struct racer {
	pthread_t thread;
	struct vp *self;
	uint64_t sent, refused, newly;
};

static void *post_messages(void *context)
{
	struct racer *racer = context;

	while (racer->sent < RACE_MESSAGES) {
		struct port_buffer *buffer;
		uint16_t status = port_buffer_get(port, generation, &buffer);
		bool newly;

		if (status) {
			assert_int_equal(status, HV_STATUS_INSUFFICIENT_BUFFERS);
			racer->refused++;
			sched_yield();
			continue;
		}
		buffer->link.sint = 2;
		buffer->message.type = 0x100 + racer->self->index;
		buffer->message.payload_bytes = 16;
		buffer->message.payload.qwords[0] = racer->sent;
		buffer->message.payload.qwords[1] = ~racer->sent++;
		synic_post(vp, racer->self, &buffer->link);
		if (synic_signal(vp, racer->self, 3, 70 + racer->self->index, &newly) == 0)
			racer->newly += newly;
	}
	return NULL;
}

static uint64_t take_flags(void)
{
	return (uint64_t)__builtin_popcountll(__atomic_exchange_n(&flags(vp, 3)[1], 0, __ATOMIC_SEQ_CST));
}

static void hazard_xsa_472_two_racing_senders(void **state)
{
	struct racer racers[2] = { { .self = vps[1] }, { .self = vps[2] } };
	uint64_t got[2] = { 0, 0 }, seen_flags = 0, interrupts = 0, rounds = 0;

	(void)state;
	set_sint(vp, 3, 0x71);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&racers[i].thread, NULL, post_messages, &racers[i]), 0);
	while (got[0] + got[1] < 2 * RACE_MESSAGES) {
		struct hv_message *at = slot(vp, 2);

		interrupts += take(vp) == 0x71;
		if (rounds++ % 64 == 0)
			wr(vp, synic_write_page, HV_MSR_SIMP, rounds / 64 % 2);
		if (rounds % 256 == 0)
			wr(vp, synic_write_page, HV_MSR_SIEFP, rounds / 256 % 2);
		seen_flags += take_flags();
		if (at->type == 0) {
			sched_yield();
			continue;
		}
		assert_in_range(at->type, 0x101, 0x102);
		/* Whole, each once, and in the order of its sender. */
		assert_int_equal(at->payload.qwords[0], got[at->type - 0x101]);
		assert_int_equal(at->payload.qwords[1], ~got[at->type - 0x101]);
		got[at->type - 0x101]++;
		__atomic_store_n(&at->type, 0, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&at->flags, __ATOMIC_SEQ_CST) & HV_MESSAGE_FLAG_PENDING)
			eom(vp);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(racers[i].thread, NULL);
	seen_flags += take_flags();
	interrupts += take(vp) == 0x71;
	assert_int_equal(got[0], RACE_MESSAGES);
	assert_int_equal(got[1], RACE_MESSAGES);
	assert_int_equal(seen_flags, racers[0].newly + racers[1].newly);
	assert_true(interrupts > 0 && interrupts <= seen_flags);
	assert_int_equal(buffers_in_use(), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(reset_values),
		T(sint_vector_rules),
		T(polling_only_if_offered),
		T(pages_and_control_read_back),
		T(message_into_free_slot),
		T(busy_slot_waits_for_eom),
		T(order_and_pending_flag),
		T(another_message_delivers_the_first),
		T(apic_eoi_delivers),
		T(virtualized_eoi_delivers),
		T(lazy_eoi_is_taken_back),
		T(masked_and_polled_without_interrupt),
		T(queued_until_enabled),
		T(takes_messages_when_both_are_enabled),
		T(auto_eoi),
		T(hostile_page),
		T(deleted_port_loses_its_messages),
		T(event_flags),
		T(masked_event),
		T(hazard_xsa_472_two_racing_senders),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
