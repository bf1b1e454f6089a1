/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls about the registers of a VP: get, set, and translate an address with them. A VP can name itself, or one of a child of its partition's,
 * which is stopped for as long as it is looked at. Not another of its own partition, whose registers are in another processor.
 */
#include <errno.h>
#include <hv/cpuid.h>
#include <hv/memory.h>
#include <hv/status.h>
#include <hv/vp.h>
#include <trivet/backend.h>
#include <trivet/deposit.h>
#include <trivet/guest_access.h>
#include <trivet/guest_walk.h>
#include <trivet/host_memory.h>
#include <trivet/hypercall.h>
#include <trivet/log.h>
#include <trivet/intercept.h>
#include <trivet/overlay.h>
#include <trivet/partition.h>
#include <trivet/partition_vp.h>
#include <trivet/vp.h>
#include <trivet/vp_registers.h>
#include <trivet/x86.h>

#define CPL_USER 3
#define TRANSLATE_DEFINED                                                                                    \
	(HV_TRANSLATE_VALIDATE_READ | HV_TRANSLATE_VALIDATE_WRITE | HV_TRANSLATE_VALIDATE_EXECUTE |          \
	 HV_TRANSLATE_PRIVILEGE_EXEMPT | HV_TRANSLATE_SET_PAGE_TABLE_BITS | HV_TRANSLATE_SUPERVISOR_ACCESS | \
	 HV_TRANSLATE_USER_ACCESS | HV_TRANSLATE_ENFORCE_SMAP | HV_TRANSLATE_OVERRIDE_SMAP |                 \
	 0xffull << HV_TRANSLATE_INPUT_VTL_SHIFT)

/* There is only the lowest trust level. */
static bool is_level_0(hv_input_vtl vtl)
{
	return !(vtl & HV_INPUT_VTL_RESERVED) &&
	       (!(vtl & HV_INPUT_VTL_USE_TARGET) || !(vtl & HV_INPUT_VTL_MASK));
}

/* The VP that a call is about. NULL with the status of the refusal. */
static struct vp *find_target(const struct hypercall *call, uint64_t partition_id, uint32_t vp_index,
			      uint16_t *status)
{
	struct partition *partition =
		partition_authority(call->vp, partition_id, HV_PRIVILEGE_ACCESS_VP_REGISTERS, status);
	struct vp *vp;

	if (!partition)
		return NULL;
	if (partition == call->partition && (vp_index == HV_VP_INDEX_SELF || vp_index == call->vp->index))
		return call->vp;
	vp = partition_vp(partition, vp_index);
	if (!vp)
		*status = HV_STATUS_INVALID_VP_INDEX;
	else if (partition == call->partition)
		*status = HV_STATUS_INVALID_VP_STATE;
	else
		return vp;
	return NULL;
}

/* A call's hold on the VP that it is about. Suspend registers need none, and are mostly all that a call is about. */
struct access {
	struct vp *vp, *caller;
	bool borrowed;
};

static void begin_access(struct access *access, uint32_t name)
{
	struct vp *vp = access->vp;

	if (vp == access->caller || access->borrowed || vp_register_is_hold(name))
		return;
	vp_borrow(vp, access->caller);
	access->borrowed = true;
	/* What its parent answered last comes before what it asks now. */
	if (atomic_load_explicit(&vp->pending, memory_order_acquire) & VP_PENDING_RESUME) {
		vp_clear_pending(vp, VP_PENDING_RESUME);
		intercept_resume(vp);
	}
}

static void end_access(const struct access *access)
{
	if (access->borrowed)
		vp_return(access->vp);
}

static struct vp *registers_target(const struct hypercall *call, uint16_t *status)
{
	const struct hv_input_vp_registers *input = call->input;

	if (!is_level_0(input->input_vtl) || input->reserved[0] || input->reserved[1] || input->reserved[2]) {
		*status = HV_STATUS_INVALID_PARAMETER;
		return NULL;
	}
	return find_target(call, input->partition_id, input->vp_index, status);
}

uint16_t hypercall_get_vp_registers(struct hypercall *call)
{
	const uint32_t *names = call->rep_input;
	union hv_register_value *values = call->rep_output;
	struct access access = { .caller = call->vp };
	uint16_t status;

	access.vp = registers_target(call, &status);
	if (!access.vp)
		return status;
	for (; call->reps_done < call->rep_count; call->reps_done++) {
		uint32_t name = names[call->reps_done];

		begin_access(&access, name);
		status = vp_register_get(access.vp, access.vp == call->vp, name, &values[call->reps_done]);
		if (status != HV_STATUS_SUCCESS)
			break;
	}
	end_access(&access);
	return status;
}

static uint16_t set_one(struct access *access, const struct hv_register_assoc *element)
{
	uint16_t status;

	if (element->reserved1 || element->reserved2)
		return HV_STATUS_INVALID_PARAMETER;
	begin_access(access, element->name);
	status = vp_register_set(access->vp, access->vp == access->caller, element->name, &element->value);
	if (!status && access->borrowed && !vp_register_is_hold(element->name))
		intercept_note_register(access->vp, element->name, &element->value);
	return status;
}

/* Which of a long list it was is what a monitor's author wants to know. */
static void log_refused(const struct vp *vp, const struct hv_register_assoc *element, uint16_t status)
{
	static struct log_ratelimit bucket;

	log_vp_ratelimited(&bucket, LOG_ABI, vp->partition->id, vp->index,
			   "register 0x%x can't be set to 0x%llx:0x%llx: status 0x%x", element->name,
			   (unsigned long long)element->value.reg128.high,
			   (unsigned long long)element->value.reg128.low, status);
}

/*
 * All in one go: the list fits a page (127 elements), and once an element has changed the caller's own RIP, general registers, mode or
 * address space the instruction could not run again for the rest.
 */
uint16_t hypercall_set_vp_registers(struct hypercall *call)
{
	const struct hv_register_assoc *elements = call->rep_input;
	struct access access = { .caller = call->vp };
	uint16_t status;

	access.vp = registers_target(call, &status);
	if (!access.vp)
		return status;
	for (; call->reps_done < call->rep_count; call->reps_done++) {
		status = set_one(&access, &elements[call->reps_done]);
		if (status != HV_STATUS_SUCCESS) {
			log_refused(access.vp, &elements[call->reps_done], status);
			break;
		}
	}
	end_access(&access);
	return status;
}

/* The kind of access that the flags describe, but for what is done to the memory. */
static unsigned int access_of(const struct vp_context *context, uint64_t flags)
{
	if (flags & HV_TRANSLATE_PRIVILEGE_EXEMPT)
		return GUEST_UNCHECKED;
	if (flags & HV_TRANSLATE_USER_ACCESS)
		return GUEST_USER;
	return context->cpl == CPL_USER && !(flags & HV_TRANSLATE_SUPERVISOR_ACCESS) ? GUEST_USER : 0;
}

static uint32_t result_of_fault(uint32_t error_code)
{
	if (!(error_code & PF_PRESENT))
		return HV_TRANSLATE_PAGE_NOT_PRESENT;
	return error_code & PF_RESERVED ? HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS :
					  HV_TRANSLATE_PRIVILEGE_VIOLATION;
}

static uint32_t walk(struct vp *vp, const struct guest_paging *paging, gva_t gva, unsigned int access,
		     gpa_t *gpa)
{
	struct guest_translation translation;

	switch (guest_walk(paging, vp, gva, access, &translation)) {
	case 0:
		*gpa = translation.gpa;
		return HV_TRANSLATE_SUCCESS;
	case -EFAULT:
		return result_of_fault(translation.error_code);
	case -EINVAL: /* not canonical: nothing is mapped there */
		return HV_TRANSLATE_PAGE_NOT_PRESENT;
	default: /* a table lies where no memory is */
		return HV_TRANSLATE_GPA_UNMAPPED;
	}
}

/* Each access that is to be checked, on its own; without any, only where the page is. */
static uint32_t translate(struct vp *vp, const struct vp_context *context, uint64_t flags, gva_t gva,
			  gpa_t *gpa)
{
	static const struct {
		uint64_t flag;
		unsigned int access;
	} checks[] = {
		{ HV_TRANSLATE_VALIDATE_READ, GUEST_READ },
		{ HV_TRANSLATE_VALIDATE_WRITE, GUEST_WRITE },
		{ HV_TRANSLATE_VALIDATE_EXECUTE, GUEST_FETCH },
	};
	unsigned int base = access_of(context, flags);
	uint32_t result = walk(vp, &context->paging, gva, GUEST_UNCHECKED, gpa);

	for (size_t i = 0; i < ARRAY_SIZE(checks) && result == HV_TRANSLATE_SUCCESS; i++)
		if (flags & checks[i].flag)
			result = walk(vp, &context->paging, gva, base | checks[i].access, gpa);
	return result;
}

/* Accessed bits, and for a write the dirty bit, as the access itself would set them; that it reads a byte on the way does nothing. */
static uint32_t set_page_table_bits(struct vp *vp, const struct vp_context *context, uint64_t flags,
				    gva_t gva)
{
	unsigned int access =
		GUEST_UNCHECKED | (flags & HV_TRANSLATE_VALIDATE_WRITE ? GUEST_WRITE : GUEST_READ);
	struct guest_access_fault fault;
	uint8_t byte;

	if (guest_read(&context->paging, vp, gva, &byte, sizeof(byte), access, &fault) == -EFAULT)
		return result_of_fault(fault.error_code); /* the tables have just been changed */
	return HV_TRANSLATE_SUCCESS;
}

static bool flags_are_valid(uint64_t flags)
{
	const uint64_t who = HV_TRANSLATE_SUPERVISOR_ACCESS | HV_TRANSLATE_USER_ACCESS;
	const uint64_t smap = HV_TRANSLATE_ENFORCE_SMAP | HV_TRANSLATE_OVERRIDE_SMAP;

	return !(flags & ~TRANSLATE_DEFINED) && (flags & who) != who && (flags & smap) != smap &&
	       is_level_0((hv_input_vtl)(flags >> HV_TRANSLATE_INPUT_VTL_SHIFT));
}

/*
 * The hypervisor's own memory isn't there for the root but where an overlay shows it; nor is what was deposited. What a child has where nothing is
 * mapped its parent knows better: a device.
 */
static void describe_page(const struct partition *partition, gpa_t gpa,
			  struct hv_output_translate_virtual_address *output)
{
	bool is_root = partition_is_root(partition);
	bool overlay = is_root && overlay_at(partition, gpa, false);

	if (!overlay && is_root &&
	    (host_memory_is_ours(HPA(gpa.v), PAGE_SIZE) || deposit_holds(gpa.v >> PAGE_SHIFT))) {
		output->result_code = HV_TRANSLATE_GPA_UNMAPPED;
		return;
	}
	output->cache_type_and_overlay = HV_CACHE_TYPE_WRITE_BACK | (overlay ? HV_TRANSLATE_OVERLAY_PAGE : 0);
	output->gpn = gpa.v >> PAGE_SHIFT;
}

static void translate_for(struct vp *vp, uint64_t flags, gva_t gva,
			  struct hv_output_translate_virtual_address *output)
{
	struct vp_context context;
	gpa_t gpa = GPA(0);

	backend->get_context(vp, &context);
	if (flags & HV_TRANSLATE_ENFORCE_SMAP)
		context.paging.rflags &= ~RFLAGS_AC;
	if (flags & HV_TRANSLATE_OVERRIDE_SMAP)
		context.paging.rflags |= RFLAGS_AC;
	output->result_code = translate(vp, &context, flags, gva, &gpa);
	if (output->result_code == HV_TRANSLATE_SUCCESS && (flags & HV_TRANSLATE_SET_PAGE_TABLE_BITS))
		output->result_code = set_page_table_bits(vp, &context, flags, gva);
	if (output->result_code == HV_TRANSLATE_SUCCESS)
		describe_page(vp->partition, gpa, output);
}

uint16_t hypercall_translate_virtual_address(struct hypercall *call)
{
	const struct hv_input_translate_virtual_address *input = call->input;
	struct access access = { .caller = call->vp };
	uint64_t flags = input->control_flags;
	uint16_t status;

	if (input->padding || !flags_are_valid(flags) || input->gva_page >> (64 - PAGE_SHIFT))
		return HV_STATUS_INVALID_PARAMETER;
	access.vp = find_target(call, input->partition_id, input->vp_index, &status);
	if (!access.vp)
		return status;
	begin_access(&access, HV_REGISTER_X64_CR3);
	translate_for(access.vp, flags, GVA(input->gva_page << PAGE_SHIFT), call->output);
	end_access(&access);
	return HV_STATUS_SUCCESS;
}
