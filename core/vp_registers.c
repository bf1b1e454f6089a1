/* SPDX-License-Identifier: MIT */
/*
 * Registers of a VP by name: the table of names, what a value must look like, and the way to whoever keeps the register. Names
 * that the interface has and no row here has (trust levels, nested virtualization, performance counters, idle) are unknown.
 */
#include <errno.h>
#include <hv/msr.h>
#include <hv/status.h>
#include <trivet/backend.h>
#include <trivet/exceptions.h>
#include <trivet/guest_msrs.h>
#include <trivet/hv_cpuid.h>
#include <trivet/io.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_registers.h>
#include <trivet/x86.h>

#define CR0_DEFINED 0xe005003full /* PG CD NW AM WP NE ET TS EM MP PE */
#define CR8_DEFINED 0xfull
#define RFLAGS_DEFINED 0x3f7fd7ull
#define DR_HIGH_RESERVED (~0xffffffffull)
#define VECTOR_EXCEPTION_LAST 30u
#define PENDING_RESERVED 0xfe00ull /* and bit 9: there are no nested guests */
#define PENDING_EVENT_DEFINED 0x10full
#define DELIVERABILITY_DEFINED (0xffffull << HV_DELIVERABILITY_SINTS_SHIFT)
#define ACTIVITY_DEFINED (HV_ACTIVITY_STARTUP_SUSPEND | HV_ACTIVITY_HALT_SUSPEND | HV_ACTIVITY_IDLE_SUSPEND)
#define INTERCEPT_SUSPEND_DEFINED 3ull /* bit 1: the TLB is locked */
#define CPUID_ADDRESS_BITS 0x80000008u

enum kind {
	KIND_GPR,     /* target: its number in an instruction */
	KIND_BACKEND, /* enum vp_register */
	KIND_MSR,     /* number of the MSR */
	KIND_HV_MSR,  /* number of the synthetic MSR */
	KIND_LIVE,    /* enum live_register */
	KIND_LEAF,    /* hypervisor's CPUID leaf */
	KIND_PARENT,  /* offset in struct vp_parent_registers */
	KIND_HOLD,    /* VP_HOLD_*, which the register sets and releases */
	KIND_DELIVERABILITY,
	KIND_EVENT, /* an exception to be raised: VP_REGISTER_PENDING_INTERRUPTION */
	KIND_ACTIVITY,
	KIND_APIC_ID,
	KIND_ZERO, /* nothing to tell, nothing to set */
};

#define READ_ONLY BIT(0)
#define WRITE_ONLY BIT(1) /* reads as 0 */
#define WIDE BIT(2)	  /* uses more than 64 bits */
#define ENTRY BIT(3)	  /* VM entry looks at it together with others */
#define STEP2 BIT(4)	  /* the targets of a row are two apart */

typedef bool (*value_check)(const union hv_register_value *value);

struct row {
	uint32_t target;
	uint8_t count;
	uint8_t kind;
	uint8_t flags;
	value_check is_valid; /* NULL: any 64 bits */
};

/* Read once: CPUID takes as long as all else here together, and in a virtual machine a hundred times that. */
static unsigned int linear_bits(void)
{
	static _Atomic uint8_t bits;

	if (unlikely(!bits))
		bits = (uint8_t)(cpuid(CPUID_ADDRESS_BITS, 0).eax >> 8);
	return bits;
}

static bool is_canonical(uint64_t address)
{
	unsigned int unused = 64 - linear_bits();

	return (uint64_t)((int64_t)(address << unused) >> unused) == address;
}

static bool check_canonical(const union hv_register_value *value)
{
	return is_canonical(value->reg64);
}

static bool check_32_bits(const union hv_register_value *value)
{
	return !(value->reg64 & DR_HIGH_RESERVED);
}

static bool check_rflags(const union hv_register_value *value)
{
	return !(value->reg64 & ~RFLAGS_DEFINED) && (value->reg64 & RFLAGS_ONE);
}

static bool check_cr0(const union hv_register_value *value)
{
	uint64_t cr0 = value->reg64;

	return !(cr0 & ~CR0_DEFINED) && (!(cr0 & CR0_PG) || (cr0 & CR0_PE)) &&
	       (!(cr0 & CR0_NW) || (cr0 & CR0_CD));
}

static bool check_cr3(const union hv_register_value *value)
{
	return !(value->reg64 >> backend->phys_bits());
}

static bool check_cr8(const union hv_register_value *value)
{
	return !(value->reg64 & ~CR8_DEFINED);
}

static bool check_pat(const union hv_register_value *value)
{
	return pat_is_valid(value->reg64);
}

/* The limit must be one that a descriptor can say (TLFS "HV_X64_SEGMENT_REGISTER"). */
static bool check_segment(const union hv_register_value *value)
{
	uint16_t attributes = value->segment.attributes;
	uint32_t limit = value->segment.limit;

	if ((attributes & HV_SEGMENT_RESERVED) || !is_canonical(value->segment.base))
		return false;
	if (!(attributes & HV_SEGMENT_PRESENT))
		return true;
	return attributes & HV_SEGMENT_GRANULARITY ? (limit & 0xfff) == 0xfff : !(limit >> 20);
}

static bool check_table(const union hv_register_value *value)
{
	return !value->table.pad[0] && !value->table.pad[1] && !value->table.pad[2] &&
	       is_canonical(value->table.base);
}

static bool check_interruption(const union hv_register_value *value)
{
	uint64_t pending = value->reg64;
	unsigned int vector = pending_vector(pending);

	if (!(pending & HV_PENDING_INTERRUPTION_PENDING))
		return true;
	if ((pending & PENDING_RESERVED) || vector > 255)
		return false;
	switch (pending_type(pending)) {
	case HV_INTERRUPTION_EXCEPTION:
		return vector <= VECTOR_EXCEPTION_LAST && vector != VECTOR_NMI;
	case HV_INTERRUPTION_NMI:
		return vector == VECTOR_NMI && !(pending & HV_PENDING_INTERRUPTION_HAS_ERROR_CODE);
	case HV_INTERRUPTION_INTERRUPT:
	case HV_INTERRUPTION_SOFTWARE_INTERRUPT:
		return !(pending & HV_PENDING_INTERRUPTION_HAS_ERROR_CODE);
	case HV_INTERRUPTION_PRIVILEGED_SOFTWARE_EXCEPTION:
		return vector == VECTOR_DB && !(pending & HV_PENDING_INTERRUPTION_HAS_ERROR_CODE);
	case HV_INTERRUPTION_SOFTWARE_EXCEPTION:
		return (vector == 3 || vector == 4) && !(pending & HV_PENDING_INTERRUPTION_HAS_ERROR_CODE);
	default:
		return false;
	}
}

static bool check_interrupt_state(const union hv_register_value *value)
{
	return !(value->reg64 & ~(HV_INTERRUPT_STATE_SHADOW | HV_INTERRUPT_STATE_NMI_MASKED));
}

/* Only exceptions; other events belong to those who can raise them. */
static bool check_event(const union hv_register_value *value)
{
	const struct hv_x64_pending_exception_event *event = &value->pending_exception;

	if (!(event->pending_and_type & HV_PENDING_EVENT_PENDING))
		return !value->reg128.low && !value->reg128.high;
	/* Of a debug exception the parameter goes to DR6, which has no upper half: neither entry nor MOV takes one. */
	if (event->vector == VECTOR_DB && (event->parameter & DR_HIGH_RESERVED))
		return false;
	return !(event->pending_and_type & ~PENDING_EVENT_DEFINED) &&
	       (event->pending_and_type >> HV_PENDING_EVENT_TYPE_SHIFT & 7) == HV_PENDING_EVENT_EXCEPTION &&
	       event->vector <= VECTOR_EXCEPTION_LAST && event->vector != VECTOR_NMI;
}

static bool check_flag(const union hv_register_value *value)
{
	return !(value->reg64 & ~HV_SUSPEND_REGISTER_SUSPENDED);
}

static bool check_intercept_suspend(const union hv_register_value *value)
{
	return !(value->reg64 & ~INTERCEPT_SUSPEND_DEFINED);
}

/* NMIs and interrupts are the hypervisor's own business: its local APIC has them. */
static bool check_deliverability(const union hv_register_value *value)
{
	return !(value->reg64 & ~DELIVERABILITY_DEFINED);
}

static bool check_zero(const union hv_register_value *value)
{
	return value->reg64 == 0;
}

#define PARENT(field) ((uint32_t)offsetof(struct vp_parent_registers, field))
#define V(name) VP_REGISTER_##name

#define VP_REGISTER(name, count, kind, target, flags, check, since) \
	{ target, count, KIND_##kind, flags, check },
static const struct row rows[] = {
#include "vp_registers.def"
};
#undef VP_REGISTER

#define VP_REGISTER(name, ...) HV_REGISTER_##name,
static const uint32_t first_names[] = {
#include "vp_registers.def"
};
#undef VP_REGISTER

/* The row that has `name`, and what it stands for there; NULL: none. */
static const struct row *find_row(uint32_t name, uint32_t *target, uint32_t *index)
{
	const uint32_t *first = first_names;
	const struct row *row;

	for (size_t left = ARRAY_SIZE(first_names); left > 1; left -= left / 2)
		first = first[left / 2] <= name ? first + left / 2 : first;
	row = &rows[first - first_names];
	*index = name - *first;
	if (*index >= row->count)
		return NULL;
	*target = row->target + (row->flags & STEP2 ? 2 * *index : *index);
	return row;
}

static uint64_t *parent_register(struct vp *vp, uint32_t offset)
{
	return (uint64_t *)((char *)&vp->parent_registers + offset);
}

static bool only_a_parents(const struct row *row)
{
	return row->kind == KIND_PARENT || row->kind == KIND_HOLD || row->kind == KIND_DELIVERABILITY;
}

static void get_leaf(const struct vp *vp, uint32_t leaf, union hv_register_value *value)
{
	const struct cpuid_regs *regs = &vp->partition->hv_leaves[leaf - HV_CPUID_BASE];

	value->reg128.low = regs->eax | (uint64_t)regs->ebx << 32;
	value->reg128.high = regs->ecx | (uint64_t)regs->edx << 32;
}

/* What RDMSR has no answer for: a synthetic MSR isn't offered to this partition, another isn't in this processor. */
static uint16_t msr_is_missing(const struct row *row)
{
	return row->kind == KIND_HV_MSR ? HV_STATUS_ACCESS_DENIED : HV_STATUS_INVALID_PARAMETER;
}

static uint64_t get_activity(const struct vp *vp)
{
	uint64_t state = vp->state == VP_WAIT_SIPI ? HV_ACTIVITY_STARTUP_SUSPEND : 0;

	if (vp->halted)
		state |= vp->halted_until_pending ? HV_ACTIVITY_IDLE_SUSPEND : HV_ACTIVITY_HALT_SUSPEND;
	return state;
}

uint16_t vp_register_get(struct vp *vp, bool self, uint32_t name, union hv_register_value *value)
{
	uint32_t target, index;
	const struct row *row = find_row(name, &target, &index);

	value->reg128 = (struct hv_u128){ 0 };
	if (!row)
		return HV_STATUS_INVALID_PARAMETER;
	if (self && only_a_parents(row))
		return HV_STATUS_ACCESS_DENIED;
	if (row->flags & WRITE_ONLY)
		return HV_STATUS_SUCCESS;
	switch ((enum kind)row->kind) {
	case KIND_GPR:
		value->reg64 = vp->gpr[target];
		return HV_STATUS_SUCCESS;
	case KIND_BACKEND:
		backend->get_register(vp, (enum vp_register)target, value);
		return HV_STATUS_SUCCESS;
	case KIND_MSR:
	case KIND_HV_MSR:
		return backend->get_msr(vp, target, &value->reg64) ? msr_is_missing(row) : HV_STATUS_SUCCESS;
	case KIND_LIVE:
		return live_register_get(vp, (enum live_register)row->target, index, value) ?
			       HV_STATUS_INVALID_PARAMETER :
			       HV_STATUS_SUCCESS;
	case KIND_LEAF:
		get_leaf(vp, target, value);
		return HV_STATUS_SUCCESS;
	case KIND_PARENT:
		value->reg64 = *parent_register(vp, target);
		return HV_STATUS_SUCCESS;
	case KIND_HOLD:
		value->reg64 = atomic_load_explicit(&vp->holds, memory_order_seq_cst) & target ?
				       HV_SUSPEND_REGISTER_SUSPENDED :
				       0;
		return HV_STATUS_SUCCESS;
	case KIND_DELIVERABILITY:
		value->reg64 = (uint64_t)vp->synic.wanted << HV_DELIVERABILITY_SINTS_SHIFT;
		return HV_STATUS_SUCCESS;
	case KIND_ACTIVITY:
		value->reg64 = get_activity(vp);
		return HV_STATUS_SUCCESS;
	case KIND_APIC_ID:
		value->reg64 = vp->apic.config.apic_id;
		return HV_STATUS_SUCCESS;
	case KIND_EVENT: /* raised at once, as an interruption: none waits */
	case KIND_ZERO:
		return HV_STATUS_SUCCESS;
	}
	return HV_STATUS_INVALID_PARAMETER;
}

/* The delivery of an interrupt or an NMI was broken into, and now an exception goes first: nothing else would bring it again. */
static void put_back(struct vp *vp, uint64_t pending)
{
	static const union hv_register_value open; /* no shadow: it could come in */

	if (pending_type(pending) == HV_INTERRUPTION_INTERRUPT)
		vp_put_back_interrupt(vp, (uint8_t)pending_vector(pending));
	if (pending_type(pending) == HV_INTERRUPTION_NMI &&
	    !backend->set_register(vp, VP_REGISTER_INTERRUPT_STATE, &open))
		vp_post(vp, VP_PENDING_NMI);
}

/*
 * What else a register changes, whichever comes first: a halted VP waits for what it could take with its flags as they are, an idle one for anything;
 * and an event to be delivered ends both, as it does at a VM entry (SDM3 27.7.2).
 */
static void review_halt(struct vp *vp)
{
	union hv_register_value rflags, state, pending;

	if (likely(!vp->halted))
		return;
	backend->get_register(vp, VP_REGISTER_RFLAGS, &rflags);
	backend->get_register(vp, VP_REGISTER_INTERRUPT_STATE, &state);
	backend->get_register(vp, VP_REGISTER_PENDING_INTERRUPTION, &pending);
	vp->halted = !(pending.reg64 & HV_PENDING_INTERRUPTION_PENDING);
	vp->halted_interrupts_on = vp->halted_until_pending || (rflags.reg64 & RFLAGS_IF);
	vp->halted_nmis_on = vp->halted_until_pending || !(state.reg64 & HV_INTERRUPT_STATE_NMI_MASKED);
}

/* An exception: its delivery is what the next entry completes. */
static int set_event(struct vp *vp, const struct hv_x64_pending_exception_event *event)
{
	union hv_register_value pending = { .reg128 = { 0, 0 } }, before;

	if (!(event->pending_and_type & HV_PENDING_EVENT_PENDING))
		return 0;
	pending.reg64 = pending_interruption(HV_INTERRUPTION_EXCEPTION, event->vector);
	if (event->pending_and_type & HV_PENDING_EXCEPTION_HAS_ERROR_CODE)
		pending.reg64 = pending_with_error(pending.reg64, event->error_code);
	backend->get_register(vp, VP_REGISTER_PENDING_INTERRUPTION, &before);
	if (backend->set_register(vp, VP_REGISTER_PENDING_INTERRUPTION, &pending))
		return -EINVAL;
	if (vp->child && (before.reg64 & HV_PENDING_INTERRUPTION_PENDING)) /* a root has set it itself */
		put_back(vp, before.reg64);
	review_halt(vp);
	return 0;
}

/* Its parameter, once it is sure to be raised: CR2 takes anything, DR6 what check_event() let through. */
static void set_event_parameter(struct vp *vp, const struct hv_x64_pending_exception_event *event)
{
	const union hv_register_value parameter = { .reg128 = { event->parameter, 0 } };

	if (!(event->pending_and_type & HV_PENDING_EVENT_PENDING))
		return;
	if (event->vector == VECTOR_PF)
		(void)backend->set_register(vp, VP_REGISTER_CR2, &parameter);
	else if (event->vector == VECTOR_DB)
		(void)backend->set_register(vp, VP_REGISTER_DR6, &parameter);
}

/* Of a stopped VP: what it does when it runs again. For itself a VP can only say what is so already. */
static int set_activity(struct vp *vp, bool self, uint64_t value)
{
	if ((value & ~ACTIVITY_DEFINED) || (self && value != get_activity(vp)))
		return -EINVAL;
	if (self)
		return 0;
	vp->state = value & HV_ACTIVITY_STARTUP_SUSPEND ? VP_WAIT_SIPI : VP_RUNNING;
	vp->halted = value & (HV_ACTIVITY_HALT_SUSPEND | HV_ACTIVITY_IDLE_SUSPEND);
	vp->halted_until_pending = value & HV_ACTIVITY_IDLE_SUSPEND;
	review_halt(vp);
	return 0;
}

/* The VP that runs here waits for it to stop. What its parent answered is carried out before it goes on. */
static void set_hold(struct vp *vp, uint32_t hold, uint64_t value)
{
	if (value & HV_SUSPEND_REGISTER_SUSPENDED) {
		vp_hold(vp, this_lp()->vp, hold);
		return;
	}
	if (hold == VP_HOLD_INTERCEPT &&
	    (atomic_load_explicit(&vp->holds, memory_order_seq_cst) & VP_HOLD_INTERCEPT))
		vp_post(vp, VP_PENDING_RESUME);
	vp_release(vp, hold);
}

/* WRMSR says #GP for a register that isn't there and for a value that isn't taken: reading tells them apart. */
static uint16_t set_msr(struct vp *vp, const struct row *row, uint32_t msr, uint64_t value)
{
	uint64_t old;

	if (!backend->set_msr(vp, msr, value))
		return HV_STATUS_SUCCESS;
	if (!(row->flags & WRITE_ONLY) && backend->get_msr(vp, msr, &old))
		return msr_is_missing(row);
	return HV_STATUS_INVALID_REGISTER_VALUE;
}

static uint16_t or_invalid(int err)
{
	return err ? HV_STATUS_INVALID_REGISTER_VALUE : HV_STATUS_SUCCESS;
}

static int set_backend_register(struct vp *vp, enum vp_register which, const union hv_register_value *value)
{
	int err = backend->set_register(vp, which, value);

	if (!err)
		review_halt(vp);
	return err;
}

static uint16_t set_value(struct vp *vp, bool self, const struct row *row, uint32_t target, uint32_t index,
			  const union hv_register_value *value)
{
	switch ((enum kind)row->kind) {
	case KIND_GPR:
		vp->gpr[target] = value->reg64;
		return HV_STATUS_SUCCESS;
	case KIND_BACKEND:
		if (target == VP_REGISTER_DR7 && (value->reg64 & DR7_ENABLED))
			live_use_debug_registers(vp); /* not another's addresses */
		return or_invalid(set_backend_register(vp, (enum vp_register)target, value));
	case KIND_MSR:
	case KIND_HV_MSR:
		return set_msr(vp, row, target, value->reg64);
	case KIND_LIVE:
		return or_invalid(live_register_set(vp, (enum live_register)row->target, index, value));
	case KIND_PARENT:
		*parent_register(vp, target) = value->reg64;
		return HV_STATUS_SUCCESS;
	case KIND_EVENT:
		return or_invalid(set_event(vp, &value->pending_exception));
	case KIND_ACTIVITY:
		return or_invalid(set_activity(vp, self, value->reg64));
	case KIND_DELIVERABILITY:
		synic_want_deliverable(vp, (uint16_t)(value->reg64 >> HV_DELIVERABILITY_SINTS_SHIFT));
		return HV_STATUS_SUCCESS;
	case KIND_HOLD:
		set_hold(vp, target, value->reg64);
		return HV_STATUS_SUCCESS;
	case KIND_ZERO:
		return HV_STATUS_SUCCESS;
	case KIND_APIC_ID: /* given when the VP was made */
		return or_invalid(value->reg64 != vp->apic.config.apic_id);
	case KIND_LEAF: /* read-only */
		break;
	}
	return HV_STATUS_ACCESS_DENIED;
}

/* What `row` changes of a running VP must leave a state that the processor can be entered with: otherwise it is undone. */
static uint16_t set_checked(struct vp *vp, const struct row *row, uint32_t target, uint32_t index,
			    const union hv_register_value *value)
{
	union hv_register_value old = { .reg128 = { 0, 0 } };
	uint16_t status;

	if (row->kind != KIND_MSR)
		backend->get_register(vp, (enum vp_register)target, &old);
	else if (backend->get_msr(vp, target, &old.reg64))
		return HV_STATUS_INVALID_PARAMETER;
	status = set_value(vp, true, row, target, index, value);
	if (status != HV_STATUS_SUCCESS || backend->can_run(vp))
		return status;
	/* It had the old value a moment ago; and what the back end derives from it follows with the check. */
	if (row->kind == KIND_MSR)
		(void)backend->set_msr(vp, target, old.reg64);
	else
		(void)backend->set_register(vp, (enum vp_register)target, &old);
	(void)backend->can_run(vp);
	return HV_STATUS_INVALID_REGISTER_VALUE;
}

uint16_t vp_register_set(struct vp *vp, bool self, uint32_t name, const union hv_register_value *value)
{
	uint32_t target, index;
	const struct row *row = find_row(name, &target, &index);
	uint16_t status;

	if (!row)
		return HV_STATUS_INVALID_PARAMETER;
	if ((row->flags & READ_ONLY) || (self && only_a_parents(row)))
		return HV_STATUS_ACCESS_DENIED;
	if (!(row->flags & WIDE) && value->reg128.high)
		return HV_STATUS_INVALID_REGISTER_VALUE;
	if (row->is_valid && !row->is_valid(value))
		return HV_STATUS_INVALID_REGISTER_VALUE;
	status = self && (row->flags & ENTRY) ? set_checked(vp, row, target, index, value) :
						set_value(vp, self, row, target, index, value);
	if (status != HV_STATUS_SUCCESS)
		return status;
	if (row->kind == KIND_EVENT)
		set_event_parameter(vp, &value->pending_exception);
	if (self && name == HV_REGISTER_X64_RIP)
		vp->rip_moved = true;
	return HV_STATUS_SUCCESS;
}
