/* SPDX-License-Identifier: MIT */
/*
 * Device interrupts: TLFS "HvCallMapDeviceInterrupt", "HvCallUnmapDeviceInterrupt", "HvCallRetargetDeviceInterrupt".
 * The caller gets what its device or I/O APIC is to send, and it arrives as on the bare machine (device_interrupts.h).
 */
#include <errno.h>
#include <hv/cpuid.h>
#include <hv/partition.h>
#include <hv/root.h>
#include <hv/status.h>
#include <string.h>
#include <trivet/device_interrupts.h>
#include <trivet/host_memory.h>
#include <trivet/hypercall.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_set.h>

#define VECTOR_FIRST 0x10u
#define VECTOR_LAST 0xffu

/* SDM3 11.11: the message's address; fixed delivery to the one APIC with this id. Id 255 means all of them. */
#define MSI_ADDRESS 0xfee00000ull
#define MSI_DESTINATION_SHIFT 12
/* An I/O APIC's redirection entry (82093AA 3.2.4): fixed, physical, active high, unmasked. */
#define RTE_LEVEL BIT(15)
#define RTE_DESTINATION_SHIFT 56
#define APIC_ID_LAST 254u

#define PCI_RESERVED (0x7ffull << 51)
#define IOAPIC_RESERVED (~HV_DEVICE_IOAPIC_ID_MASK & ~(3ull << HV_DEVICE_TYPE_SHIFT))

int device_interrupts_init(struct partition *partition, uint32_t lps)
{
	struct device_interrupts *interrupts = &partition->device_interrupts;
	uint32_t size = DEVICE_INTERRUPTS_LEAST;

	while (size < lps * DEVICE_INTERRUPTS_PER_LP && 2 * size * sizeof(*interrupts->entries) <= SIZE_2M)
		size *= 2;
	interrupts->entries = page_alloc(&host_pool, page_order_for(size * sizeof(*interrupts->entries)));
	interrupts->size = size;
	return interrupts->entries ? 0 : -ENOMEM;
}

void device_interrupts_reset(struct partition *partition)
{
	struct device_interrupts *interrupts = &partition->device_interrupts;

	if (!interrupts->entries)
		return;
	spin_lock(&interrupts->lock);
	if (interrupts->mappings)
		memset(interrupts->entries, 0, interrupts->size * sizeof(*interrupts->entries));
	interrupts->mappings = 0;
	spin_unlock(&interrupts->lock);
}

/*
 * The entry of this device and data; with `for_new`, else a free one that may take it. NULL: there is none, within the
 * few places that are looked at. Under the lock.
 */
static struct device_interrupt *find_entry(const struct device_interrupts *interrupts, uint64_t device_id,
					   uint64_t data, bool for_new)
{
	uint64_t hash = (device_id * 31 + data) * 0x9e3779b97f4a7c15ull >> 32;
	struct device_interrupt *free_entry = NULL;

	for (uint32_t i = 0; i < DEVICE_INTERRUPT_PROBES; i++) {
		struct device_interrupt *entry = &interrupts->entries[(hash + i) & (interrupts->size - 1)];

		if (entry->device_id == device_id && entry->data == data)
			return entry;
		if (!entry->device_id && !free_entry)
			free_entry = entry;
	}
	return for_new ? free_entry : NULL;
}

/* The kind of device, or 0 for one that has no interrupts here. */
static uint32_t source_of(uint64_t device_id)
{
	switch (device_id >> HV_DEVICE_TYPE_SHIFT) {
	case HV_DEVICE_TYPE_PCI:
		return device_id & PCI_RESERVED ? 0 : HV_INTERRUPT_SOURCE_MSI;
	case HV_DEVICE_TYPE_IOAPIC:
		return device_id & IOAPIC_RESERVED ? 0 : HV_INTERRUPT_SOURCE_IOAPIC;
	default:
		return 0;
	}
}

static uint64_t encode(uint32_t source, uint32_t apic_id, uint32_t vector, bool level)
{
	if (source == HV_INTERRUPT_SOURCE_MSI)
		return MSI_ADDRESS | (uint64_t)apic_id << MSI_DESTINATION_SHIFT |
		       (uint64_t)vector << HV_MSI_DATA_SHIFT;
	return vector | (level ? RTE_LEVEL : 0) | (uint64_t)apic_id << RTE_DESTINATION_SHIFT;
}

static uint32_t destination_of(const struct hv_interrupt_entry *entry)
{
	return (uint8_t)(entry->data >> (entry->source == HV_INTERRUPT_SOURCE_MSI ? MSI_DESTINATION_SHIFT :
										    RTE_DESTINATION_SHIFT));
}

static uint32_t vector_of(const struct hv_interrupt_entry *entry)
{
	return (uint8_t)(entry->source == HV_INTERRUPT_SOURCE_MSI ? entry->data >> HV_MSI_DATA_SHIFT :
								    entry->data);
}

/* The VPs that a target names; `qwords` of variable header follow its format word. */
static uint16_t decode_target(const struct partition *partition,
			      const struct hv_device_interrupt_target *target, uint32_t qwords,
			      struct vp_set *set)
{
	if (target->flags == HV_INTERRUPT_TARGET_PROCESSOR_SET)
		return qwords ? vp_set_decode(set, partition, &target->vp_set, qwords - 1) :
				HV_STATUS_INVALID_HYPERCALL_INPUT;
	/* One of several is fine for a device; all of several nobody can send. */
	if (target->flags || qwords)
		return HV_STATUS_INVALID_PARAMETER;
	vp_set_from_mask(set, partition, target->vp_set.format);
	return HV_STATUS_SUCCESS;
}

static struct vp *first_vp(const struct partition *partition, const struct vp_set *set)
{
	struct vp_set_cursor cursor = vp_set_begin(set);

	return vp_set_next(set, partition, &cursor);
}

static uint16_t check_map(const struct hv_input_map_device_interrupt *in, uint32_t source)
{
	const struct hv_device_interrupt_descriptor *what = &in->descriptor;

	if (!source)
		return HV_STATUS_INVALID_DEVICE_ID;
	if (in->flags || in->base_irt_index || in->logical_entry.source || in->logical_entry.data ||
	    what->interrupt_type != HV_INTERRUPT_FIXED || what->vector_count != 1 || what->reserved ||
	    what->trigger_mode > HV_INTERRUPT_LEVEL || what->target.vector < VECTOR_FIRST ||
	    what->target.vector > VECTOR_LAST)
		return HV_STATUS_INVALID_PARAMETER;
	/* A message is an event: there is no line that stays. */
	if (source == HV_INTERRUPT_SOURCE_MSI && what->trigger_mode != HV_INTERRUPT_EDGE)
		return HV_STATUS_INVALID_PARAMETER;
	return HV_STATUS_SUCCESS;
}

static uint16_t enter_mapping(struct device_interrupts *interrupts, uint64_t device_id, uint64_t data)
{
	struct device_interrupt *entry;

	spin_lock(&interrupts->lock);
	entry = find_entry(interrupts, device_id, data, true);
	if (entry) {
		entry->device_id = device_id;
		entry->data = data;
		entry->count++;
		interrupts->mappings++;
	}
	spin_unlock(&interrupts->lock);
	return entry ? HV_STATUS_SUCCESS : HV_STATUS_NO_RESOURCES;
}

static uint16_t remove_mapping(struct device_interrupts *interrupts, uint64_t device_id, uint64_t data)
{
	struct device_interrupt *entry;

	spin_lock(&interrupts->lock);
	entry = find_entry(interrupts, device_id, data, false);
	if (entry) {
		interrupts->mappings--;
		if (--entry->count == 0)
			*entry = (struct device_interrupt){ 0 };
	}
	spin_unlock(&interrupts->lock);
	return entry ? HV_STATUS_SUCCESS : HV_STATUS_NOT_FOUND;
}

static bool is_mapped(struct device_interrupts *interrupts, uint64_t device_id, uint64_t data)
{
	bool found;

	spin_lock(&interrupts->lock);
	found = find_entry(interrupts, device_id, data, false) != NULL;
	spin_unlock(&interrupts->lock);
	return found;
}

uint16_t hypercall_map_device_interrupt(struct hypercall *call)
{
	const struct hv_input_map_device_interrupt *in = call->input;
	const struct hv_device_interrupt_descriptor *what = &in->descriptor;
	struct hv_output_map_device_interrupt *out = call->output;
	uint32_t source = source_of(in->device_id);
	struct partition *partition;
	struct vp_set set;
	struct vp *target;
	uint16_t status;
	uint64_t data;

	partition = partition_authority(call->vp, in->partition_id, HV_PRIVILEGE_CPU_MANAGEMENT, &status);
	if (!partition)
		return status;
	if (!partition->device_interrupts.entries)
		return HV_STATUS_ACCESS_DENIED;
	status = check_map(in, source);
	if (!status)
		status = decode_target(partition, &what->target, call->var_header_qwords, &set);
	if (status)
		return status;
	target = first_vp(partition, &set);
	if (!target)
		return HV_STATUS_INVALID_VP_INDEX;
	/* Without remapping hardware neither form can name the APICs above; 255 means all. */
	if (target->lp->apic_id > APIC_ID_LAST)
		return HV_STATUS_OPERATION_DENIED;
	data = encode(source, target->lp->apic_id, what->target.vector,
		      what->trigger_mode == HV_INTERRUPT_LEVEL);
	status = enter_mapping(&partition->device_interrupts, in->device_id, data);
	if (status)
		return status;
	out->entry = (struct hv_interrupt_entry){ .source = source, .data = data };
	return HV_STATUS_SUCCESS;
}

uint16_t hypercall_unmap_device_interrupt(struct hypercall *call)
{
	const struct hv_input_unmap_device_interrupt *in = call->input;
	struct partition *partition;
	uint16_t status;

	partition = partition_authority(call->vp, in->partition_id, HV_PRIVILEGE_CPU_MANAGEMENT, &status);
	if (!partition)
		return status;
	if (!partition->device_interrupts.entries)
		return HV_STATUS_ACCESS_DENIED;
	if (!source_of(in->device_id))
		return HV_STATUS_INVALID_DEVICE_ID;
	if (in->flags || in->entry.source != source_of(in->device_id))
		return HV_STATUS_INVALID_PARAMETER;
	return remove_mapping(&partition->device_interrupts, in->device_id, in->entry.data);
}

/*
 * The entry stays as the device has it, and it says where the interrupt goes: so all that can be asked for is what is
 * there already. (Microsoft's hypervisor holds a root to its first vector and set, too; Linux maps anew instead.)
 */
uint16_t hypercall_retarget_device_interrupt(struct hypercall *call)
{
	const struct hv_input_retarget_device_interrupt *in = call->input;
	struct partition *partition;
	const struct lp *lp;
	struct vp_set set;
	uint16_t status;

	partition = partition_authority(call->vp, in->partition_id, 0, &status);
	if (!partition)
		return status;
	if (!partition->device_interrupts.entries || !source_of(in->device_id))
		return HV_STATUS_INVALID_DEVICE_ID;
	if (in->reserved || in->entry.source != source_of(in->device_id))
		return HV_STATUS_INVALID_PARAMETER;
	status = decode_target(partition, &in->target, call->var_header_qwords, &set);
	if (status)
		return status;
	if (!is_mapped(&partition->device_interrupts, in->device_id, in->entry.data))
		return HV_STATUS_NOT_FOUND;
	lp = lp_by_apic_id(destination_of(&in->entry));
	if (!lp || !lp->root_vp || !vp_set_contains(&set, lp->root_vp->index) ||
	    in->target.vector != vector_of(&in->entry))
		return HV_STATUS_INVALID_PARAMETER;
	return HV_STATUS_SUCCESS;
}
