/* SPDX-License-Identifier: MIT */
/*
 * Hypercalls about the registers of a VP: get, set, and translate an address with them. A VP's registers are touched on its LP only, so
 * for now a VP can name itself and nobody else.
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
#include <trivet/overlay.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_registers.h>

#define RFLAGS_AC BIT(18)
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
	struct vp *vp = call->vp;

	if (!partition)
		return NULL;
	if (vp_index != HV_VP_INDEX_SELF) {
		if (vp_index >= partition->vp_count) {
			*status = HV_STATUS_INVALID_VP_INDEX;
			return NULL;
		}
		vp = partition->vps[vp_index];
	}
	if (vp != call->vp) {
		*status = HV_STATUS_INVALID_VP_STATE; /* it may run: its registers are in another processor */
		return NULL;
	}
	return vp;
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
	uint16_t status;
	struct vp *vp = registers_target(call, &status);

	if (!vp)
		return status;
	for (; call->reps_done < call->rep_count; call->reps_done++) {
		status =
			vp_register_get(vp, vp == call->vp, names[call->reps_done], &values[call->reps_done]);
		if (status != HV_STATUS_SUCCESS)
			return status;
	}
	return HV_STATUS_SUCCESS;
}

static uint16_t set_one(struct vp *vp, bool self, const struct hv_register_assoc *element)
{
	if (element->reserved1 || element->reserved2)
		return HV_STATUS_INVALID_PARAMETER;
	return vp_register_set(vp, self, element->name, &element->value);
}

/*
 * All in one go: the list fits a page (127 elements), and once an element has changed the caller's own RIP, general registers, mode or
 * address space the instruction could not run again for the rest.
 */
uint16_t hypercall_set_vp_registers(struct hypercall *call)
{
	const struct hv_register_assoc *elements = call->rep_input;
	uint16_t status;
	struct vp *vp = registers_target(call, &status);

	if (!vp)
		return status;
	for (; call->reps_done < call->rep_count; call->reps_done++) {
		status = set_one(vp, vp == call->vp, &elements[call->reps_done]);
		if (status != HV_STATUS_SUCCESS)
			return status;
	}
	return HV_STATUS_SUCCESS;
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

/* The hypervisor's own memory isn't there for the root but where an overlay shows it; nor is what was deposited. */
static void describe_page(const struct partition *partition, gpa_t gpa,
			  struct hv_output_translate_virtual_address *output)
{
	bool overlay = overlay_at(partition, gpa, false);

	if (!overlay && (host_memory_is_ours(HPA(gpa.v), PAGE_SIZE) || deposit_holds(gpa.v >> PAGE_SHIFT))) {
		output->result_code = HV_TRANSLATE_GPA_UNMAPPED;
		return;
	}
	output->cache_type_and_overlay = HV_CACHE_TYPE_WRITE_BACK | (overlay ? HV_TRANSLATE_OVERLAY_PAGE : 0);
	output->gpn = gpa.v >> PAGE_SHIFT;
}

uint16_t hypercall_translate_virtual_address(struct hypercall *call)
{
	const struct hv_input_translate_virtual_address *input = call->input;
	struct hv_output_translate_virtual_address *output = call->output;
	uint64_t flags = input->control_flags;
	struct vp_context context;
	uint16_t status;
	struct vp *vp;
	gpa_t gpa = GPA(0);
	gva_t gva = GVA(input->gva_page << PAGE_SHIFT);

	if (input->padding || !flags_are_valid(flags) || input->gva_page >> (64 - PAGE_SHIFT))
		return HV_STATUS_INVALID_PARAMETER;
	vp = find_target(call, input->partition_id, input->vp_index, &status);
	if (!vp)
		return status;
	backend->get_context(vp, &context);
	if (flags & HV_TRANSLATE_ENFORCE_SMAP)
		context.paging.rflags &= ~RFLAGS_AC;
	if (flags & HV_TRANSLATE_OVERRIDE_SMAP)
		context.paging.rflags |= RFLAGS_AC;
	output->result_code = translate(vp, &context, flags, gva, &gpa);
	if (output->result_code == HV_TRANSLATE_SUCCESS && (flags & HV_TRANSLATE_SET_PAGE_TABLE_BITS))
		output->result_code = set_page_table_bits(vp, &context, flags, gva);
	if (output->result_code == HV_TRANSLATE_SUCCESS)
		describe_page(call->partition, gpa, output);
	return HV_STATUS_SUCCESS;
}
