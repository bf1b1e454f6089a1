/* SPDX-License-Identifier: MIT */
/*
 * Hardware task switches, which VMX leaves to the hypervisor (SDM3 26.4.2): turns the VMCS into what core's emulation works
 * on and back. SVM has no such file, there the processor switches.
 */
#include "vmx.h"
#include <errno.h>
#include <trivet/exceptions.h>
#include <trivet/guest_access.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/task_switch.h>

/* Exit qualification, SDM3 table 28-2: the selector, and above it where the switch comes from, as enum task_source. */
#define SOURCE_SHIFT 30

#define SEGMENT_LDTR 6u
#define SEGMENT_TR 7u
#define DR6_BT BIT(15)

struct linear {
	struct vp *vp;
	struct guest_paging paging;
};

static int report(int error, const struct guest_access_fault *from, struct task_fault *fault)
{
	if (error == -EFAULT)
		*fault = (struct task_fault){
			.vector = VECTOR_PF,
			.error = from->error_code,
			.cr2 = (uint32_t)from->gva.v,
		};
	return error;
}

static int read_linear(void *space, uint32_t linear, void *buf, uint32_t size, struct task_fault *fault)
{
	const struct linear *l = space;
	struct guest_access_fault from;

	return report(guest_read(&l->paging, l->vp, GVA(linear), buf, size, GUEST_IMPLICIT, &from), &from,
		      fault);
}

static int write_linear(void *space, uint32_t linear, const void *buf, uint32_t size, bool user,
			struct task_fault *fault)
{
	const struct linear *l = space;
	unsigned int access = GUEST_WRITE | (user ? GUEST_USER : GUEST_IMPLICIT);
	struct guest_access_fault from;

	return report(guest_write(&l->paging, l->vp, GVA(linear), buf, size, access, &from), &from, fault);
}

static int may_write_linear(void *space, uint32_t linear, uint32_t size, struct task_fault *fault)
{
	const struct linear *l = space;
	struct guest_access_fault from;

	return report(guest_probe(&l->paging, l->vp, GVA(linear), size, GUEST_WRITE | GUEST_IMPLICIT, &from),
		      &from, fault);
}

static int load_cr3(void *space, uint32_t cr3)
{
	struct linear *l = space;

	if (l->paging.cr3 != cr3)
		vp_post_self(l->vp, VP_PENDING_FLUSH);
	l->paging.cr3 = cr3;
	vmwrite(VMCS_GUEST_CR3, cr3);
	return !(l->paging.cr4 & CR4_PAE) || vmx_load_pdptes(l->vp) ? 0 : -EINVAL;
}

/* `index`: by its number in an instruction, or SEGMENT_*. */
static struct task_segment read_segment(uint32_t index)
{
	uint32_t offset = index * 2;
	uint64_t rights = vmread(VMCS_GUEST_ES_RIGHTS + offset);
	bool unusable = rights & RIGHTS_UNUSABLE;

	return (struct task_segment){
		.selector = (uint16_t)vmread(VMCS_GUEST_ES_SELECTOR + offset),
		.rights = (uint16_t)rights,
		.limit = unusable ? 0 : (uint32_t)vmread(VMCS_GUEST_ES_LIMIT + offset),
		.base = (uint32_t)vmread(VMCS_GUEST_ES_BASE + offset),
		.unusable = unusable,
	};
}

static void write_segment(uint32_t index, const struct task_segment *segment)
{
	uint32_t offset = index * 2;

	vmwrite(VMCS_GUEST_ES_SELECTOR + offset, segment->selector);
	vmwrite(VMCS_GUEST_ES_BASE + offset, segment->base);
	vmwrite(VMCS_GUEST_ES_LIMIT + offset, segment->limit);
	vmwrite(VMCS_GUEST_ES_RIGHTS + offset, segment->rights | (segment->unusable ? RIGHTS_UNUSABLE : 0));
}

static void read_state(const struct vp *vp, struct task_state *state)
{
	*state = (struct task_state){
		.eip = (uint32_t)vmread(VMCS_GUEST_RIP),
		.eflags = (uint32_t)vmread(VMCS_GUEST_RFLAGS),
		.cr0 = (uint32_t)vmx_guest_cr0(vp),
		.cr3 = (uint32_t)vmread(VMCS_GUEST_CR3),
		.dr7 = (uint32_t)vmread(VMCS_GUEST_DR7),
		.ldtr = read_segment(SEGMENT_LDTR),
		.tr = read_segment(SEGMENT_TR),
		.gdt_base = (uint32_t)vmread(VMCS_GUEST_GDTR_BASE),
		.gdt_limit = (uint16_t)vmread(VMCS_GUEST_GDTR_LIMIT),
	};
	for (uint32_t i = 0; i < ARRAY_SIZE(state->gpr); i++)
		state->gpr[i] = (uint32_t)vp->gpr[i];
	state->gpr[GPR_RSP] = (uint32_t)vmread(VMCS_GUEST_RSP);
	for (uint32_t i = 0; i < ARRAY_SIZE(state->segment); i++)
		state->segment[i] = read_segment(i);
}

/* CR3 is in the VMCS already. */
static void write_state(struct vp *vp, const struct task_state *state)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(state->gpr); i++)
		vp->gpr[i] = state->gpr[i];
	vmwrite(VMCS_GUEST_RSP, state->gpr[GPR_RSP]);
	vmwrite(VMCS_GUEST_RIP, state->eip);
	vmwrite(VMCS_GUEST_RFLAGS, state->eflags);
	vmwrite(VMCS_GUEST_DR7, state->dr7);
	vmx_set_guest_cr0(vp, state->cr0);
	for (uint32_t i = 0; i < ARRAY_SIZE(state->segment); i++)
		write_segment(i, &state->segment[i]);
	write_segment(SEGMENT_LDTR, &state->ldtr);
	write_segment(SEGMENT_TR, &state->tr);
}

static bool is_by_program(uint32_t event)
{
	uint32_t type = event & EVENT_TYPE_MASK;

	return type == EVENT_TYPE_SOFT_INT || type == EVENT_TYPE_SOFT_EXCEPTION ||
	       type == EVENT_TYPE_PRIVILEGED;
}

/* `event`: what was being delivered through a task gate, 0 when an instruction switches. */
static struct task_switch read_request(uint32_t event)
{
	uint64_t info = vmread(VMCS_EXIT_QUALIFICATION);
	struct task_switch request = {
		.selector = (uint16_t)info,
		.source = (enum task_source)(info >> SOURCE_SHIFT & 3),
	};

	if (!(event & EVENT_VALID))
		return request;
	/* INT1 is an instruction, but counts as an external event (SDM3 6.13). */
	request.external = !is_by_program(event) || (event & EVENT_TYPE_MASK) == EVENT_TYPE_PRIVILEGED;
	request.has_error = event & EVENT_ERROR_VALID;
	if (request.has_error)
		request.error = (uint32_t)vmread(VMCS_VECTORING_EVENT_ERROR);
	return request;
}

/* NMIs: blocked once one came through the gate; an IRET unblocks them whether or not it faults. */
static void update_blocking(uint32_t event, enum task_source source, bool switched)
{
	uint64_t blocking = vmread(VMCS_GUEST_INTERRUPTIBILITY);

	if (switched)
		blocking &= ~(BLOCKING_STI | BLOCKING_MOV_SS);
	if (source == TASK_IRET)
		blocking &= ~BLOCKING_NMI;
	if ((event & EVENT_VALID) && (event & EVENT_TYPE_MASK) == EVENT_TYPE_NMI)
		blocking |= BLOCKING_NMI;
	vmwrite(VMCS_GUEST_INTERRUPTIBILITY, blocking);
}

/*
 * The fault came while `event` was delivered, which matters for a double fault; an interrupt comes again unless the new task has it. An NMI is over:
 * it blocks others as the delivery did.
 */
static void inject_fault(struct vp *vp, uint32_t event, bool switched, int error,
			 const struct task_fault *fault)
{
	static struct log_ratelimit bucket;
	uint32_t type = event & EVENT_TYPE_MASK;

	if ((event & EVENT_VALID) && type != EVENT_TYPE_NMI && !(type == EVENT_TYPE_INTR && switched))
		vmx_requeue_event(vp, event);
	if (error == -EFAULT) {
		vmx_inject_exception(vp, fault->vector, true, fault->error);
		return;
	}
	log_vp_ratelimited(&bucket, LOG_WARN, vp->partition->id, vp->index,
			   "task switch: the task or its page tables lie where no RAM is: #GP");
	vmx_inject_exception(vp, VECTOR_GP, true, 0);
}

static void add_debug_trap(struct vp *vp)
{
	uint64_t dr6;

	__asm__ volatile("movq %%dr6, %0" : "=r"(dr6));
	__asm__ volatile("movq %0, %%dr6" ::"r"(dr6 | DR6_BT));
	vmx_inject_exception(vp, VECTOR_DB, false, 0);
}

void vmx_handle_task_switch(struct vp *vp)
{
	uint32_t event = (uint32_t)vmread(VMCS_VECTORING_EVENT);
	struct linear linear = { .vp = vp };
	const struct task_memory memory = { &linear, read_linear, write_linear, may_write_linear, load_cr3 };
	struct task_switch request = read_request(event);
	struct vp_context context;
	struct task_state state;
	struct task_fault fault = { 0 };
	uint64_t cr2 = read_cr2();
	int error;

	trace_info(&vp->lp->trace, request.selector);
	vmx_get_context(vp, &context);
	linear.paging = context.paging;
	read_state(vp, &state);
	if (!(event & EVENT_VALID) || is_by_program(event))
		state.eip += (uint32_t)vmread(VMCS_EXIT_INSTRUCTION_LENGTH);
	error = task_switch(&state, &request, &memory, &fault);
	if (state.switched)
		write_state(vp, &state);
	if (error)
		inject_fault(vp, event, state.switched, error, &fault);
	else if (state.debug_trap)
		add_debug_trap(vp);
	update_blocking(event, request.source, state.switched);
	if (error == -EFAULT && fault.vector == VECTOR_PF)
		cr2 = fault.cr2;
	write_cr2(cr2);
}
