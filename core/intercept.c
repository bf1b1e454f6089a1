/* SPDX-License-Identifier: MIT */
/*
 * Intercepts: what the parent sees of a VP's exit, and how it learns of it. The order is what makes it work: first the pages, then the VP is held
 * (InterceptSuspend reads 1), then the message. A parent that reads 1 knows that a message is on its way, and finds the pages
 * filled when it comes. The pages are the parent's to write to: nothing is read back from them but what it declares as changed.
 */
#include "intercept_internal.h"
#include <hv/intercept.h>
#include <hv/status.h>
#include <string.h>
#include <trivet/backend.h>
#include <trivet/copy.h>
#include <trivet/emulate.h>
#include <trivet/intercept.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/synic.h>
#include <trivet/vp.h>
#include <trivet/vp_child.h>
#include <trivet/x86.h>

#define HYPERCALL_LENGTH 3 /* VMCALL and VMMCALL */
#define PAGE_XMM 6u
#define PAGE_SEGMENTS 6u
static_assert(INSN_SEG_GS - INSN_SEG_ES == PAGE_SEGMENTS - 1, "the page has them in this order");

/* ---- What the parent sees ---- */

static uint16_t execution_state(const struct vp_snapshot *now)
{
	unsigned int state = now->cpl & HV_EXECUTION_STATE_CPL_MASK;

	if (now->cr0 & CR0_PE)
		state |= HV_EXECUTION_STATE_CR0_PE;
	if (now->cr0 & CR0_AM)
		state |= HV_EXECUTION_STATE_CR0_AM;
	if (now->efer & EFER_LMA)
		state |= HV_EXECUTION_STATE_EFER_LMA;
	if (now->dr7 & DR7_ENABLED)
		state |= HV_EXECUTION_STATE_DEBUG_ACTIVE;
	if (now->pending_interruption & HV_PENDING_INTERRUPTION_PENDING)
		state |= HV_EXECUTION_STATE_INTERRUPTION_PENDING;
	if (now->interrupt_state & HV_INTERRUPT_STATE_SHADOW)
		state |= HV_EXECUTION_STATE_INTERRUPT_SHADOW;
	return (uint16_t)state;
}

void intercept_fill_header(struct vp *vp, const struct vp_snapshot *now, uint8_t access_type, uint8_t length,
			   struct hv_x64_intercept_header *header)
{
	header->vp_index = vp->index;
	header->length_and_cr8 = (uint8_t)((length & 0xf) | now->cr8 << 4);
	header->access_type = access_type;
	header->execution_state = execution_state(now);
	header->cs = now->segment[INSN_SEG_CS];
	header->rip = now->rip;
	header->rflags = now->rflags;
}

/* `now` was just read: RSP is in vp->gpr. */
static void fill_registers(struct vp *vp, const struct vp_snapshot *now, struct hv_vp_register_page *page)
{
	union hv_register_value xfem;

	page->version = HV_REGISTER_PAGE_VERSION;
	copy_few(page->gp, vp->gpr, sizeof(page->gp));
	page->rip = now->rip;
	page->rflags = now->rflags;
	live_xmm_get(vp, page->xmm, PAGE_XMM);
	copy_few(page->segment, now->segment, sizeof(page->segment));
	page->cr0 = now->cr0;
	page->cr3 = now->cr3;
	page->cr4 = now->cr4;
	page->cr8 = now->cr8;
	page->efer = now->efer;
	page->dr7 = now->dr7;
	page->pending_interruption = now->pending_interruption;
	page->interrupt_state = now->interrupt_state;
	page->instruction_emulation_hints = 0;
	page->xfem = live_register_get(vp, LIVE_XFEM, 0, &xfem) ? 0 : xfem.reg64;
	__atomic_store_n(&page->dirty, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&page->is_valid, 1, __ATOMIC_RELEASE);
}

/* ---- How it learns of it ---- */

/* A VP of the parent's that can be told: the one of this LP, where it is soonest noticed, if it listens. */
static struct vp *find_listener(const struct partition *parent)
{
	struct vp *here = this_lp()->root_vp;

	if (here && here->partition == parent && synic_takes_messages(here) == HV_STATUS_SUCCESS)
		return here;
	for (uint32_t i = 0; i < parent->vp_count; i++)
		if (parent->vps[i] && synic_takes_messages(parent->vps[i]) == HV_STATUS_SUCCESS)
			return parent->vps[i];
	return parent->vps[0]; /* the message waits until its SynIC is on */
}

/* One that is still on its way is enough: it says no more than which VP. */
static void post_link(struct vp *vp)
{
	struct vp_intercepts *intercepts = &vp->child->intercepts;
	uint32_t idle = 0;

	if (!atomic_compare_exchange_strong_explicit(&intercepts->link_posted, &idle, INTERCEPT_POSTED,
						     memory_order_acq_rel, memory_order_acquire))
		return;
	intercepts->owner = vp;
	intercepts->link.sint = HV_SINT_INTERCEPTS;
	intercepts->link.sender = SYNIC_INTERCEPT;
	intercepts->link_target = find_listener(vp->partition->parent);
	synic_post(intercepts->link_target, this_lp()->vp, &intercepts->link);
}

static void stop(struct vp *vp)
{
	if (vp_is_loaded_here(vp))
		vp_hold_self(vp, VP_HOLD_INTERCEPT);
	else
		vp_hold(vp, this_lp()->vp, VP_HOLD_INTERCEPT);
	post_link(vp);
}

static void count_message(struct vp *vp, uint32_t type)
{
	if (type == HV_MESSAGE_X64_IO_PORT_INTERCEPT)
		vp->io_messages++;
	else if (type == HV_MESSAGE_UNMAPPED_GPA || type == HV_MESSAGE_GPA_INTERCEPT)
		vp->memory_messages++;
	else
		vp->other_messages++;
}

static void fill_message(struct vp *vp, uint32_t type, const void *payload, size_t bytes)
{
	struct hv_message *message = vp->child->intercepts.message;

	count_message(vp, type);
	if (!message)
		return;
	copy_few(&message->payload, payload, bytes);
	message->payload_bytes = (uint8_t)bytes;
	message->flags = 0;
	message->reserved = 0;
	message->sender = vp->partition->id;
	__atomic_store_n(&message->type, type, __ATOMIC_RELEASE);
}

void intercept_send(struct vp *vp, const struct vp_snapshot *now, uint32_t type, const void *payload,
		    size_t bytes)
{
	if (vp->child->intercepts.registers)
		fill_registers(vp, now, vp->child->intercepts.registers);
	fill_message(vp, type, payload, bytes);
	stop(vp);
}

/* What isn't about the instruction at RIP, which may not be complete yet: the registers are for the calls to tell. */
static void send_event(struct vp *vp, uint32_t type, const void *payload, size_t bytes)
{
	struct hv_vp_register_page *page = vp->child->intercepts.registers;

	if (page) {
		__atomic_store_n(&page->is_valid, 0, __ATOMIC_RELAXED);
		__atomic_store_n(&page->dirty, 0, __ATOMIC_RELAXED);
	}
	fill_message(vp, type, payload, bytes);
	stop(vp);
}

bool intercept_is_open(const struct vp *vp)
{
	return atomic_load_explicit(&vp->holds, memory_order_seq_cst) & (VP_HOLD_INTERCEPT | VP_HOLD_DEAD);
}

bool intercept_is_dead(const struct synic_message *message)
{
	const struct vp_intercepts *intercepts = container_of(message, struct vp_intercepts, link);

	return atomic_load_explicit(&intercepts->link_posted, memory_order_acquire) & INTERCEPT_DEAD;
}

/* Nothing of the VP is touched after the store: with it, it may be deleted. */
void intercept_take_message(struct synic_message *message, struct hv_message *content)
{
	struct vp_intercepts *intercepts = container_of(message, struct vp_intercepts, link);
	const struct vp *vp = intercepts->owner;
	const struct hv_opaque_intercept_message payload = { .vp_index = vp->index };

	if (content) {
		content->type = HV_MESSAGE_OPAQUE_INTERCEPT;
		content->payload_bytes = sizeof(payload);
		content->sender = vp->partition->id;
		__builtin_memcpy(&content->payload, &payload, sizeof(payload));
	}
	atomic_store_explicit(&intercepts->link_posted, 0, memory_order_release);
}

/* ---- Exits ---- */

/* Where OUTS reads from, which a prefix may say. */
static unsigned int source_segment(const struct insn *insn)
{
	return insn && insn->op == INSN_OUTS ? insn->segment : INSN_SEG_DS;
}

/* A monitor that carries out a string instruction needs its bytes: the address size is in a prefix. */
static bool decode(struct vp *vp, struct hv_x64_io_port_intercept *message, struct insn *insn)
{
	struct vp_context context;

	backend->get_context(vp, &context);
	message->instruction_byte_count = intercept_fetch(vp, &context, message->instruction_bytes);
	return !insn_decode(message->instruction_bytes, message->instruction_byte_count,
			    (enum insn_mode)context.mode, insn);
}

void intercept_io(struct vp *vp, const struct io_exit *exit)
{
	struct hv_x64_io_port_intercept message = { .port = exit->port };
	struct vp_snapshot now;
	struct insn insn;
	bool decoded = false;

	if (exit->string || !exit->length)
		decoded = decode(vp, &message, &insn);
	backend->get_snapshot(vp, &now);
	intercept_fill_header(vp, &now,
			      (uint8_t)(exit->in ? HV_INTERCEPT_ACCESS_READ : HV_INTERCEPT_ACCESS_WRITE),
			      exit->length || !decoded ? exit->length : insn.length, &message.header);
	message.access_info =
		(uint8_t)((exit->bytes & HV_IO_ACCESS_SIZE_MASK) | (exit->string ? HV_IO_ACCESS_STRING : 0) |
			  (exit->rep ? HV_IO_ACCESS_REP : 0));
	message.rax = vp->gpr[GPR_RAX];
	message.ds = now.segment[source_segment(decoded ? &insn : NULL)];
	message.es = now.segment[INSN_SEG_ES];
	message.rcx = vp->gpr[GPR_RCX];
	message.rsi = vp->gpr[GPR_RSI];
	message.rdi = vp->gpr[GPR_RDI];
	intercept_send(vp, &now, HV_MESSAGE_X64_IO_PORT_INTERCEPT, &message, sizeof(message));
}

void intercept_unrecoverable(struct vp *vp)
{
	struct hv_x64_intercept_header header;
	struct vp_snapshot now;

	backend->get_snapshot(vp, &now);
	intercept_fill_header(vp, &now, HV_INTERCEPT_ACCESS_EXECUTE, 0, &header);
	intercept_send(vp, &now, HV_MESSAGE_UNRECOVERABLE_EXCEPTION, &header, sizeof(header));
}

void intercept_hypercall(struct vp *vp)
{
	struct hv_x64_intercept_header header;
	struct hv_x64_hypercall_intercept message;
	struct hv_u128 xmm[ARRAY_SIZE(message.xmm)];
	struct vp_snapshot now;

	backend->get_snapshot(vp, &now);
	intercept_fill_header(vp, &now, HV_INTERCEPT_ACCESS_EXECUTE, HYPERCALL_LENGTH, &header);
	live_xmm_get(vp, xmm, ARRAY_SIZE(xmm));
	message = (struct hv_x64_hypercall_intercept){
		.header = header,
		.rax = vp->gpr[GPR_RAX],
		.rbx = vp->gpr[GPR_RBX],
		.rcx = vp->gpr[GPR_RCX],
		.rdx = vp->gpr[GPR_RDX],
		.r8 = vp->gpr[GPR_R8],
		.rsi = vp->gpr[GPR_RSI],
		.rdi = vp->gpr[GPR_RDI],
	};
	memcpy((char *)&message + offsetof(struct hv_x64_hypercall_intercept, xmm), xmm, sizeof(xmm));
	intercept_send(vp, &now, HV_MESSAGE_HYPERCALL_INTERCEPT, &message, sizeof(message));
}

static bool is_level(const struct apic *apic, uint8_t vector)
{
	return apic_vectors(apic, APIC_REG_TMR, vector / 64u) >> vector % 64 & 1;
}

/* While the parent has another to answer it looks at the VP itself: that is who ended the interrupt. */
void intercept_apic_eoi(struct vp *vp, uint8_t vector)
{
	const struct hv_apic_eoi_message message = { .vp_index = vp->index, .vector = vector };

	if (is_level(&vp->apic, vector) && !intercept_is_open(vp))
		send_event(vp, HV_MESSAGE_X64_APIC_EOI, &message, sizeof(message));
}

bool intercept_sint_deliverable(struct vp *vp, uint16_t sints)
{
	struct hv_x64_sint_deliverable message = { .deliverable_sints = sints };
	struct vp_snapshot now;

	if (intercept_is_open(vp))
		return false;
	backend->get_snapshot(vp, &now);
	intercept_fill_header(vp, &now, HV_INTERCEPT_ACCESS_READ, 0, &message.header);
	send_event(vp, HV_MESSAGE_SYNIC_SINT_DELIVERABLE, &message, sizeof(message));
	return true;
}

/* ---- The answer ---- */

static void set_by_name(struct vp *vp, uint32_t name, const union hv_register_value *value)
{
	static struct log_ratelimit bucket;
	uint16_t status = vp_register_set(vp, false, name, value);

	if (unlikely(status))
		log_vp_ratelimited(
			&bucket, LOG_WARN, vp->partition->id, vp->index,
			"register page: the parent gave register 0x%x the value 0x%llx, which it can't have",
			name, (unsigned long long)value->reg64);
}

static void set_word(struct vp *vp, uint32_t name, uint64_t word)
{
	const union hv_register_value value = { .reg128 = { word, 0 } };

	set_by_name(vp, name, &value);
}

/* Each word of the page is read once: the parent may still be writing. */
static void take_general(struct vp *vp, const struct hv_vp_register_page *page)
{
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		if (i != GPR_RSP)
			vp->gpr[i] = __atomic_load_n(&page->gp[i], __ATOMIC_RELAXED);
	set_word(vp, HV_REGISTER_X64_RSP, __atomic_load_n(&page->gp[GPR_RSP], __ATOMIC_RELAXED));
}

static void take_segments(struct vp *vp, const struct hv_vp_register_page *page)
{
	for (unsigned int i = 0; i < PAGE_SEGMENTS; i++) {
		union hv_register_value value = { .reg128 = { 0, 0 } };

		memcpy(&value.segment, &page->segment[i], sizeof(value.segment));
		set_by_name(vp, HV_REGISTER_X64_ES + i, &value);
	}
}

static void take_xmm(struct vp *vp, const struct hv_vp_register_page *page)
{
	struct hv_u128 xmm[PAGE_XMM];

	memcpy(xmm, page->xmm, sizeof(xmm));
	live_xmm_set(vp, xmm, PAGE_XMM);
}

static void take_changes(struct vp *vp, struct hv_vp_register_page *page)
{
	uint32_t dirty = __atomic_exchange_n(&page->dirty, 0, __ATOMIC_ACQ_REL);

	if (dirty & HV_REGISTER_PAGE_DIRTY_GENERAL)
		take_general(vp, page);
	if (dirty & HV_REGISTER_PAGE_DIRTY_IP)
		set_word(vp, HV_REGISTER_X64_RIP, __atomic_load_n(&page->rip, __ATOMIC_RELAXED));
	if (dirty & HV_REGISTER_PAGE_DIRTY_XMM)
		take_xmm(vp, page);
	if (dirty & HV_REGISTER_PAGE_DIRTY_SEGMENT)
		take_segments(vp, page);
	if (dirty & HV_REGISTER_PAGE_DIRTY_FLAGS)
		set_word(vp, HV_REGISTER_X64_RFLAGS, __atomic_load_n(&page->rflags, __ATOMIC_RELAXED));
}

/* From now on the page is wrong: a parent that looks without an intercept has to ask. */
void intercept_resume(struct vp *vp)
{
	struct hv_vp_register_page *page = vp->child->intercepts.registers;

	if (page) {
		take_changes(vp, page);
		__atomic_store_n(&page->is_valid, 0, __ATOMIC_RELAXED);
	}
	synic_scan(vp, &vp->synic);
}

void intercept_note_register(struct vp *vp, uint32_t name, const union hv_register_value *value)
{
	struct hv_vp_register_page *page = vp->child->intercepts.registers;

	if (!page)
		return;
	if (name - HV_REGISTER_X64_RAX < GPR_COUNT)
		page->gp[name - HV_REGISTER_X64_RAX] = value->reg64;
	else if (name == HV_REGISTER_X64_RIP)
		page->rip = value->reg64;
	else if (name == HV_REGISTER_X64_RFLAGS)
		page->rflags = value->reg64;
	else
		__atomic_store_n(&page->is_valid, 0, __ATOMIC_RELAXED);
}
