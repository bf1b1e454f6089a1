/* SPDX-License-Identifier: MIT */
/*
 * A partition that is connected to its own ports: message port 1 (SINT 2, VP 0) by connection 0x11, event port 2 (SINT 3,
 * any VP, flags 100 to 109) by 0x12. VP 1 makes the calls.
 * And a child of it, 7, whose only VP runs on the LP of VP 1 when a test says so; it is borrowed otherwise.
 */
#ifndef TRIVET_TESTS_PORT_FAKE_H
#define TRIVET_TESTS_PORT_FAKE_H

#include "synic_fake.h"
#include <trivet/backend.h>
#include <trivet/doorbell.h>
#include <trivet/event_ring.h>

#define SELF HV_PARTITION_ID_SELF

static struct hv_input_create_port create;
static struct hv_input_connect_port connect_input;
static struct hv_input_post_message message;
static uint64_t authority_refuses; /* this id */

/* ---- The child ---- */

static struct partition child;
static struct partition sibling = { .id = 77, .parent = &part }; /* of the child */
static struct vp *child_vp, *child_vps[1];
static struct lp *child_lp;
static struct insn insn_at_rip;
static struct vp_context context_at_rip;
static bool undecodable;
static unsigned int borrows;

struct lp *this_lp(void)
{
	return child_lp;
}

void vp_borrow(struct vp *vp, struct vp *self)
{
	assert_ptr_equal(vp, child_vp);
	assert_ptr_not_equal(vp, self);
	assert_int_equal(vp->holds, 0);
	vp->holds = VP_HOLD_ACCESS;
	borrows++;
}

void vp_return(struct vp *vp)
{
	assert_int_equal(vp->holds, VP_HOLD_ACCESS);
	vp->holds = 0;
}

int vp_decode_current(struct vp *vp, struct vp_context *context, struct insn *insn)
{
	assert_ptr_equal(vp, child_vp);
	*context = context_at_rip;
	*insn = insn_at_rip;
	return undecodable ? -ENOTSUP : 0;
}

static void set_context(struct vp *vp, const struct vp_context *context)
{
	assert_ptr_equal(vp, child_vp);
	context_at_rip = *context;
}

static const struct backend fake_backend = { .set_context = set_context };
const struct backend *backend = &fake_backend;

/* Its tables come from the same pool; how many there are doesn't matter to the root. */
static inline void make_child(void)
{
	memset(&child, 0, sizeof(child));
	child.id = 7;
	child.hv = true;
	child.parent = &part;
	child.pages = &host_pages;
	child.ports.lock = (struct spinlock)SPINLOCK_INIT(LOCK_RANK_PORTS);
	child_vp = make_vp(&child, 0);
	child_vps[0] = child_vp;
	child.vps = child_vps;
	child.vp_count = 1;
	child_lp = lps[1];
	child_vp->lp = child_lp;
	for (unsigned int i = 0; i < FAKE_VPS; i++)
		lps[i]->root_vp = vps[i];
	borrows = 0;
	undecodable = false;
}

/* In the order of a deletion. */
static inline void destroy_child(void)
{
	if (!child_vp)
		return;
	port_space_disconnect(&child);
	free_vp(child_vp);
	port_space_destroy(&child);
	child_vp = NULL;
}

struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status)
{
	(void)privilege;
	*status = HV_STATUS_SUCCESS;
	if (id == HV_PARTITION_ID_SELF || id == caller->partition->id)
		return caller->partition;
	if (caller->partition == &part && child_vp && id == child.id)
		return &child;
	if (caller->partition == &part && id == sibling.id)
		return &sibling;
	*status = id == authority_refuses ? HV_STATUS_ACCESS_DENIED : HV_STATUS_INVALID_PARTITION_ID;
	return NULL;
}

static uint16_t call_as(struct vp *vp, hypercall_handler handler, const void *input, void *output)
{
	struct hypercall call = { .vp = vp, .partition = vp->partition, .input = input, .output = output };

	return handler(&call);
}

static inline uint16_t call(hypercall_handler handler, const void *input)
{
	return call_as(vps[1], handler, input, NULL);
}

static inline uint16_t delete_port(uint32_t id)
{
	const struct hv_input_delete_port input = { .port_partition_id = SELF, .port_id = id };

	return call(hypercall_delete_port, &input);
}

static inline uint16_t disconnect(uint32_t id)
{
	const struct hv_input_disconnect_port input = { .connection_partition_id = SELF,
							.connection_id = id };

	return call(hypercall_disconnect_port, &input);
}

static inline uint16_t post(void)
{
	return call(hypercall_post_message, &message);
}

static inline uint16_t signal(uint32_t connection, uint16_t flag)
{
	const struct hv_input_signal_event input = { .connection_id = connection, .flag_number = flag };

	return call(hypercall_signal_event, &input);
}

static inline void message_port(uint32_t id)
{
	create = (struct hv_input_create_port){
		.port_partition_id = SELF,
		.port_id = id,
		.connection_partition_id = 1,
		.port_info = { .port_type = HV_PORT_TYPE_MESSAGE, .target_sint = 2, .target_vp = 0 },
	};
}

static inline void event_port(uint32_t id)
{
	message_port(id);
	create.port_info = (struct hv_port_info){ .port_type = HV_PORT_TYPE_EVENT,
						  .target_sint = 3,
						  .target_vp = HV_VP_INDEX_ANY,
						  .base_flag_number = 100,
						  .flag_count = 10 };
}

static inline void connection(uint32_t id, uint32_t port, uint32_t type)
{
	connect_input = (struct hv_input_connect_port){
		.connection_partition_id = SELF,
		.connection_id = id,
		.port_partition_id = 1,
		.port_id = port,
		.connection_info = { .port_type = type },
	};
}

static inline int setup(void **state)
{
	fake_setup(state);
	message_port(1);
	assert_int_equal(call(hypercall_create_port, &create), 0);
	event_port(2);
	assert_int_equal(call(hypercall_create_port, &create), 0);
	connection(0x11, 1, HV_PORT_TYPE_MESSAGE);
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	connection(0x12, 2, HV_PORT_TYPE_EVENT);
	assert_int_equal(call(hypercall_connect_port, &connect_input), 0);
	for (unsigned int i = 0; i < FAKE_VPS; i++) {
		enable(vps[i]);
		set_sint(vps[i], 2, 0x61);
		set_sint(vps[i], 3, 0x71);
		vps[i]->pending = 0;
	}
	message = (struct hv_input_post_message){ .connection_id = 0x11,
						  .message_type = 1,
						  .payload_bytes = 240 };
	memset(message.payload, 0xab, sizeof(message.payload));
	return 0;
}

#endif
