/* SPDX-License-Identifier: MIT */
/*
 * "HvCallInstallIntercept": what a parent wants to see of its child, and doesn't want to any more. The types are the rows of intercepts.def.
 * None of it takes memory: what is named by number, CPUID leaves and MSRs, has a table of a fixed size in the partition.
 */
#include <hv/partition.h>
#include <hv/status.h>
#include <trivet/exceptions.h>
#include <trivet/hypercall.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/vp.h>
#include <trivet/x86.h>

#define ACCESS_SHIFT 32
#define VECTORS 32u
/* No exceptions, or not a child's: NMIs and machine checks are the machine's, and vector 9 no processor raises that runs us (SDM3 table 6-1). */
#define VECTORS_REFUSED ((uint32_t)(BIT(VECTOR_NMI) | BIT(9) | BIT(VECTOR_MC)))

enum parameter {
	PARAMETER_NONE,
	PARAMETER_PORT,
	PARAMETER_PORTS,
	PARAMETER_LEAF,
	PARAMETER_VECTOR,
	PARAMETER_MSR
};

enum kind {
	KIND_REFUSED, /* also of types that don't exist */
	KIND_ALWAYS,
	KIND_CALL,
	KIND_CPUID,
	KIND_ALL_CPUID,
	KIND_MSR,
	KIND_UNKNOWN_MSR,
	KIND_MICROCODE,
	KIND_EXCEPTION,
};

struct row {
	uint8_t kind, parameter, possible, needed;
};

#define INTERCEPT(type, parameter, possible, needed, kind, since, message, what) \
	[HV_INTERCEPT_##type] = { KIND_##kind, PARAMETER_##parameter, possible, needed },
#define INTERCEPT_REFUSED(type, why)
static const struct row rows[] = {
#include "intercepts.def"
};
#undef INTERCEPT
#undef INTERCEPT_REFUSED

/* ---- Which there are ---- */

static bool is_cpuid(uint64_t entry)
{
	return entry >> ACCESS_SHIFT & HV_INTERCEPT_ACCESS_MASK_EXECUTE;
}

static uint64_t filter_bit(uint32_t index)
{
	return BIT(index % 64);
}

static uint64_t entry_at(const struct intercepts *intercepts, unsigned int at)
{
	return __atomic_load_n(&intercepts->indexed[at], __ATOMIC_RELAXED);
}

/* The accesses of leaf or MSR `index` that are wanted. */
static uint32_t find(const struct intercepts *intercepts, uint32_t index, bool cpuid)
{
	if (!(__atomic_load_n(&intercepts->filter, __ATOMIC_RELAXED) & filter_bit(index)))
		return 0;
	for (unsigned int i = 0; i < INTERCEPTS_INDEXED; i++) {
		uint64_t entry = entry_at(intercepts, i);

		if (entry && (uint32_t)entry == index && is_cpuid(entry) == cpuid)
			return (uint32_t)(entry >> ACCESS_SHIFT);
	}
	return 0;
}

bool intercepts_want_cpuid(const struct vp *vp, uint32_t leaf)
{
	return (vp->wanted & VP_WANTED_ALL_CPUID) || find(&vp->partition->intercepts, leaf, true);
}

bool intercepts_want_msr(const struct vp *vp, uint32_t msr, bool is_write)
{
	if (msr == MSR_MICROCODE_LEVEL && !is_write && (vp->wanted & VP_WANTED_MICROCODE_LEVEL))
		return true;
	return find(&vp->partition->intercepts, msr, false) &
	       (is_write ? HV_INTERCEPT_ACCESS_MASK_WRITE : HV_INTERCEPT_ACCESS_MASK_READ);
}

bool intercepts_want_more_exits(const struct vp *vp, bool (*exits)(uint32_t msr, bool is_write))
{
	for (unsigned int i = 0; i < INTERCEPTS_INDEXED; i++) {
		uint64_t entry = entry_at(&vp->partition->intercepts, i), access = entry >> ACCESS_SHIFT;

		if (((access & HV_INTERCEPT_ACCESS_MASK_READ) && !exits((uint32_t)entry, false)) ||
		    ((access & HV_INTERCEPT_ACCESS_MASK_WRITE) && !exits((uint32_t)entry, true)))
			return true;
	}
	return false;
}

bool intercepts_follow(struct vp *vp)
{
	const struct intercepts *intercepts = &vp->partition->intercepts;
	/* Before what it counts: if that changes once more now, it counts on, and whoever changes it stops the VP again. */
	uint32_t generation = __atomic_load_n(&intercepts->generation, __ATOMIC_ACQUIRE);

	if (likely(vp->wanted_generation == generation))
		return false;
	vp->wanted_generation = generation;
	vp->wanted = (uint8_t)__atomic_load_n(&intercepts->wanted, __ATOMIC_RELAXED);
	vp->wanted_exceptions = __atomic_load_n(&intercepts->exceptions, __ATOMIC_RELAXED);
	return true;
}

/* ---- Changing that, under the lock ---- */

static void set_wanted(struct intercepts *intercepts, uint32_t bits, bool want)
{
	__atomic_store_n(&intercepts->wanted, want ? intercepts->wanted | bits : intercepts->wanted & ~bits,
			 __ATOMIC_RELAXED);
}

/* What follows from the table, after an entry of it is gone or new. */
static void summarize(struct intercepts *intercepts)
{
	bool cpuid = intercepts->wanted & VP_WANTED_ALL_CPUID;
	bool msr = intercepts->wanted & VP_WANTED_MICROCODE_LEVEL;
	uint64_t filter = 0;

	for (unsigned int i = 0; i < INTERCEPTS_INDEXED; i++) {
		uint64_t entry = intercepts->indexed[i];

		if (!entry)
			continue;
		filter |= filter_bit((uint32_t)entry);
		if (is_cpuid(entry))
			cpuid = true;
		else
			msr = true;
	}
	__atomic_store_n(&intercepts->filter, filter, __ATOMIC_RELAXED);
	set_wanted(intercepts, VP_WANTED_CPUID, cpuid);
	set_wanted(intercepts, VP_WANTED_MSR, msr);
}

/* False: the table is full. */
static bool set_indexed(struct intercepts *intercepts, uint32_t index, bool cpuid, uint32_t access)
{
	uint64_t *place = NULL;

	for (unsigned int i = 0; i < INTERCEPTS_INDEXED; i++) {
		uint64_t *entry = &intercepts->indexed[i];

		if (*entry && (uint32_t)*entry == index && is_cpuid(*entry) == cpuid) {
			place = entry;
			break;
		}
		if (!*entry && !place)
			place = entry;
	}
	if (!place || (!*place && !access))
		return !access;
	__atomic_store_n(place, access ? (uint64_t)access << ACCESS_SHIFT | index : 0, __ATOMIC_RELAXED);
	return true;
}

static void set_unknown_msrs(struct intercepts *intercepts, uint32_t access)
{
	set_wanted(intercepts, VP_WANTED_UNKNOWN_MSR_READ, access & HV_INTERCEPT_ACCESS_MASK_READ);
	set_wanted(intercepts, VP_WANTED_UNKNOWN_MSR_WRITE, access & HV_INTERCEPT_ACCESS_MASK_WRITE);
}

static void set_exception(struct intercepts *intercepts, unsigned int vector, bool want)
{
	uint32_t bit = 1u << vector;

	__atomic_store_n(&intercepts->exceptions,
			 want ? intercepts->exceptions | bit : intercepts->exceptions & ~bit,
			 __ATOMIC_RELAXED);
}

static uint16_t change(struct intercepts *intercepts, enum kind kind, uint32_t access, uint64_t parameter)
{
	bool fits = true;

	spin_lock(&intercepts->lock);
	switch (kind) {
	case KIND_CPUID:
	case KIND_MSR:
		fits = set_indexed(intercepts, (uint32_t)parameter, kind == KIND_CPUID, access);
		break;
	case KIND_ALL_CPUID:
		set_wanted(intercepts, VP_WANTED_ALL_CPUID, access);
		break;
	case KIND_MICROCODE:
		set_wanted(intercepts, VP_WANTED_MICROCODE_LEVEL, access);
		break;
	case KIND_UNKNOWN_MSR:
		set_unknown_msrs(intercepts, access);
		break;
	default:
		set_exception(intercepts, (unsigned int)parameter, access);
		break;
	}
	summarize(intercepts);
	__atomic_store_n(&intercepts->generation, intercepts->generation + 1, __ATOMIC_SEQ_CST);
	spin_unlock(&intercepts->lock);
	return fits ? HV_STATUS_SUCCESS : HV_STATUS_NO_RESOURCES;
}

/* Each VP leaves its processor, and takes the change over when it comes back. One that isn't in any does so when it comes. */
static void tell_vps(struct partition *partition, struct vp *caller)
{
	for (uint32_t i = 0; i < partition->vp_count; i++) {
		struct vp *vp = partition_vp(partition, i);

		if (!vp || !atomic_load_explicit(&vp->loaded, memory_order_seq_cst))
			continue;
		vp_borrow(vp, caller);
		vp_return(vp);
	}
}

/* ---- The call ---- */

static bool is_parameter(enum parameter kind, uint64_t parameter)
{
	switch (kind) {
	case PARAMETER_PORT:
		return parameter <= UINT16_MAX;
	case PARAMETER_PORTS:
		return parameter <= UINT32_MAX && (uint16_t)parameter <= parameter >> 16;
	case PARAMETER_LEAF:
	case PARAMETER_MSR:
		return parameter <= UINT32_MAX;
	case PARAMETER_VECTOR:
		return parameter < VECTORS && !(VECTORS_REFUSED >> parameter & 1);
	case PARAMETER_NONE:
		break;
	}
	return !parameter;
}

static bool is_access(const struct row *row, uint32_t access)
{
	return !(access & ~(uint32_t)row->possible) && (!access || (access & row->needed) == row->needed);
}

/* Of a hypercall that the parent is to answer: core/hypercall.c looks at the word. */
static void want_calls(struct partition *partition, uint32_t type, bool want)
{
	if (want)
		__atomic_or_fetch(&partition->properties.intercepts, INTERCEPT_INSTALLED(type),
				  __ATOMIC_RELAXED);
	else
		__atomic_and_fetch(&partition->properties.intercepts, ~INTERCEPT_INSTALLED(type),
				   __ATOMIC_RELAXED);
}

static uint16_t install(struct partition *partition, struct vp *caller,
			const struct hv_input_install_intercept *input)
{
	const struct row *row = &rows[input->intercept_type];
	uint16_t status;

	switch ((enum kind)row->kind) {
	case KIND_ALWAYS:
		return input->access_mask ? HV_STATUS_SUCCESS : HV_STATUS_OPERATION_DENIED;
	case KIND_CALL:
		want_calls(partition, input->intercept_type, input->access_mask);
		return HV_STATUS_SUCCESS;
	default:
		status = change(&partition->intercepts, (enum kind)row->kind, input->access_mask,
				input->parameter);
		if (!status)
			tell_vps(partition, caller);
		return status;
	}
}

uint16_t hypercall_install_intercept(struct hypercall *call)
{
	const struct hv_input_install_intercept *input = call->input;
	const struct row *row;
	struct partition *partition;
	uint16_t status;

	partition = partition_authority(call->vp, input->partition_id, 0, &status);
	if (!partition)
		return status;
	if (partition_is_root(partition))
		return HV_STATUS_ACCESS_DENIED;
	if (input->intercept_type >= ARRAY_SIZE(rows))
		return HV_STATUS_INVALID_PARAMETER;
	row = &rows[input->intercept_type];
	if (row->kind == KIND_REFUSED || !is_access(row, input->access_mask) ||
	    !is_parameter((enum parameter)row->parameter, input->parameter))
		return HV_STATUS_INVALID_PARAMETER;
	if (atomic_load_explicit(&partition->state, memory_order_acquire) != PARTITION_ACTIVE)
		return HV_STATUS_INVALID_PARTITION_STATE;
	return install(partition, call->vp, input);
}
