/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls by which a parent plays the devices of its child: "HvCallAssertVirtualInterrupt" and "HvCallClearVirtualInterrupt".
 *
 * An interrupt goes where a message of that form would go on the bus: to the local APICs that it addresses, perhaps to none, which isn't an error.
 * None of it waits for memory, and but for an 8259's interrupt (which the local APIC doesn't hold) for no other processor: Linux calls with
 * interrupts off.
 */
#include <hv/partition.h>
#include <hv/status.h>
#include <trivet/apic.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/vp.h>

#define CONTROL_DEFINED (HV_INTERRUPT_CONTROL_LEVEL | HV_INTERRUPT_CONTROL_LOGICAL)
#define VECTOR_FIRST 16u /* SDM3 11.5.2 */
#define XAPIC_BROADCAST 0xffu

struct interrupt {
	uint32_t type; /* HV_INTERRUPT_* */
	uint8_t vector;
	bool level;
};

/* ---- One VP ---- */

static void deliver_fixed(struct vp *target, struct vp *caller, uint8_t vector, bool level)
{
	if (!level) {
		vp_send_fixed(target, caller, vector);
		return;
	}
	/* A posted-interrupt notification knows no trigger modes: software has to take it. */
	if (!apic_post(&target->apic, vector, true))
		return;
	vp_post(target, VP_PENDING_EVENT);
	vp_notify(target);
}

static void deliver_nmi(struct vp *target)
{
	vp_post(target, VP_PENDING_NMI);
	vp_notify(target);
}

/* Past the local APIC, which has no place for it: into the VP's own, while it is stopped. */
static void deliver_extint(struct vp *target, struct vp *caller, uint8_t vector)
{
	uint64_t bit = BIT(vector % 64);

	vp_borrow(target, caller);
	if (!(target->extint[vector / 64] & bit)) {
		target->extint[vector / 64] |= bit;
		target->extint_count++;
		vp_post(target, VP_PENDING_EVENT);
	}
	vp_return(target);
}

/* A pin does what its LVT entry says. */
static void deliver_pin(struct vp *target, struct vp *caller, enum apic_lvt pin,
			const struct interrupt *interrupt)
{
	uint32_t lvt = __atomic_load_n(&target->apic.lvt[pin], __ATOMIC_RELAXED);

	if (lvt & APIC_LVT_MASKED)
		return;
	switch (lvt >> 8 & 7) {
	case APIC_MODE_FIXED:
		if ((uint8_t)lvt >= VECTOR_FIRST)
			deliver_fixed(target, caller, (uint8_t)lvt, interrupt->level);
		return;
	case APIC_MODE_NMI:
		deliver_nmi(target);
		return;
	case APIC_MODE_INIT:
		vp_send_init(target);
		return;
	case APIC_MODE_EXTINT:
		deliver_extint(target, caller, interrupt->vector);
		return;
	default:
		return;
	}
}

static void deliver(struct vp *target, struct vp *caller, const struct interrupt *interrupt)
{
	switch (interrupt->type) {
	case HV_INTERRUPT_FIXED:
	case HV_INTERRUPT_LOWEST_PRIORITY:
		deliver_fixed(target, caller, interrupt->vector, interrupt->level);
		return;
	case HV_INTERRUPT_NMI:
		deliver_nmi(target);
		return;
	case HV_INTERRUPT_INIT:
		vp_send_init(target);
		return;
	case HV_INTERRUPT_SIPI:
		vp_send_sipi(target, interrupt->vector);
		return;
	case HV_INTERRUPT_EXTINT:
		deliver_extint(target, caller, interrupt->vector);
		return;
	case HV_INTERRUPT_LOCALINT0:
		deliver_pin(target, caller, APIC_LVT_LINT0, interrupt);
		return;
	case HV_INTERRUPT_LOCALINT1:
		deliver_pin(target, caller, APIC_LVT_LINT1, interrupt);
		return;
	default:
		return;
	}
}

/* ---- Which VPs ---- */

/* One by its id: the usual case, without a walk over all VPs. */
static bool is_one(uint32_t destination, bool logical)
{
	return !logical && destination != XAPIC_BROADCAST && destination != UINT32_MAX;
}

/*
 * To an APIC in x2APIC mode a logical destination is a cluster and a mask, to another 8 bits (SDM3 11.12.10.2). Broadcasts are either form's, since
 * nobody says whose message it is.
 */
static bool is_addressed(const struct vp *vp, uint32_t destination, bool logical)
{
	if (!logical)
		return vp->apic.base & APIC_BASE_EN;
	return apic_matches(&vp->apic, destination, true, vp->apic.x2);
}

static void deliver_to_all(struct partition *partition, struct vp *caller, uint32_t destination, bool logical,
			   const struct interrupt *interrupt)
{
	bool lowest = interrupt->type == HV_INTERRUPT_LOWEST_PRIORITY;

	for (uint32_t i = 0; i < partition->vp_count; i++) {
		struct vp *vp = partition_vp(partition, i);

		if (!vp || !is_addressed(vp, destination, logical) || (lowest && !vp->apic.enabled))
			continue;
		deliver(vp, caller, interrupt);
		if (lowest)
			return;
	}
}

static bool has_vector(uint32_t type)
{
	return type == HV_INTERRUPT_FIXED || type == HV_INTERRUPT_LOWEST_PRIORITY;
}

static bool is_known(uint32_t type)
{
	return type <= HV_INTERRUPT_LOCALINT1 && type != HV_INTERRUPT_SMI && type != HV_INTERRUPT_REMOTE_READ;
}

uint16_t hypercall_assert_virtual_interrupt(struct hypercall *call)
{
	const struct hv_input_assert_virtual_interrupt *input = call->input;
	bool logical = input->control_flags & HV_INTERRUPT_CONTROL_LOGICAL;
	const struct interrupt interrupt = { .type = input->interrupt_type,
					     .vector = (uint8_t)input->vector,
					     .level = input->control_flags & HV_INTERRUPT_CONTROL_LEVEL };
	uint32_t destination = (uint32_t)input->destination;
	struct partition *partition;
	uint16_t status;
	struct vp *vp;

	partition = partition_child(call->vp, input->partition_id, &status);
	if (!partition)
		return status;
	if (!is_known(input->interrupt_type) || (input->control_flags & ~CONTROL_DEFINED) ||
	    input->destination >> 32 || input->target_vtl || input->reserved[0] || input->reserved[1] ||
	    input->reserved[2] || input->vector > 255 ||
	    (has_vector(input->interrupt_type) && input->vector < VECTOR_FIRST))
		return HV_STATUS_INVALID_PARAMETER;
	if (atomic_load_explicit(&partition->state, memory_order_acquire) != PARTITION_ACTIVE)
		return HV_STATUS_INVALID_PARTITION_STATE;
	if (!is_one(destination, logical)) {
		deliver_to_all(partition, call->vp, destination, logical, &interrupt);
		return HV_STATUS_SUCCESS;
	}
	vp = vp_by_apic_id(partition, destination);
	if (vp && (vp->apic.base & APIC_BASE_EN))
		deliver(vp, call->vp, &interrupt);
	return HV_STATUS_SUCCESS;
}

/* The 8259 takes back what it asserted and nobody acknowledged yet. */
uint16_t hypercall_clear_virtual_interrupt(struct hypercall *call)
{
	const struct hv_input_partition_id *input = call->input;
	struct partition *partition;
	uint16_t status;

	partition = partition_child(call->vp, input->partition_id, &status);
	if (!partition)
		return status;
	for (uint32_t i = 0; i < partition->vp_count; i++) {
		struct vp *vp = partition_vp(partition, i);

		if (!vp || !__atomic_load_n(&vp->extint_count,
					    __ATOMIC_RELAXED)) /* what it has just taken is acknowledged */
			continue;
		vp_borrow(vp, call->vp);
		for (unsigned int j = 0; j < ARRAY_SIZE(vp->extint); j++)
			vp->extint[j] = 0;
		vp->extint_count = 0;
		vp_return(vp);
	}
	return HV_STATUS_SUCCESS;
}
