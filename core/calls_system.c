/* SPDX-License-Identifier: MIT */
/*
 * What concerns the machine as a whole: TLFS "HvCallGetPartitionId", "HvCallGetSystemProperty",
 * "HvCallSetSystemProperty", "HvCallEnterSleepState".
 */
#include "reset.h"
#include <hv/partition.h>
#include <hv/root.h>
#include <hv/status.h>
#include <trivet/hypercall.h>
#include <trivet/lock.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define SLP_TYP_LAST 7u

/* What the root registered for S5: bit 16 set, PM1a's sleep type in 7:0, PM1b's in 15:8. */
static _Atomic uint32_t s5_types;
static _Atomic bool sleep_states_locked;

uint16_t hypercall_get_partition_id(struct hypercall *call)
{
	struct hv_output_get_partition_id *out = call->output;

	out->partition_id = call->partition->id;
	return HV_STATUS_SUCCESS;
}

/* TLFS "Extended Hypercall Interface": which of the extended calls there are. Of those that have a bit: none. */
uint16_t hypercall_ext_query_capabilities(struct hypercall *call)
{
	uint64_t *capabilities = call->output;

	*capabilities = 0;
	return HV_STATUS_SUCCESS;
}

uint16_t hypercall_get_system_property(struct hypercall *call)
{
	const struct hv_input_get_system_property *in = call->input;
	struct hv_output_get_system_property *out = call->output;

	switch (in->property_id) {
	case HV_SYSTEM_PROPERTY_SCHEDULER_TYPE:
		out->value = HV_SCHEDULER_TYPE_LP;
		return HV_STATUS_SUCCESS;
	case HV_SYSTEM_PROPERTY_DYNAMIC_PROCESSOR_FEATURE:
		/* The processor's secrets for encrypted partitions: there are none, whatever it could. */
		if (in->argument != HV_DYNAMIC_FEATURE_MAX_ENCRYPTED_PARTITIONS &&
		    in->argument != HV_DYNAMIC_FEATURE_SNP_STATUS)
			return HV_STATUS_INVALID_PARAMETER;
		return HV_STATUS_SUCCESS;
	default: /* a crash dump area among them: a root that is given one reads it at every NMI */
		return HV_STATUS_UNKNOWN_PROPERTY;
	}
}

static uint16_t register_sleep_state(const struct hv_sleep_state_info *info)
{
	if (atomic_load(&sleep_states_locked))
		return HV_STATUS_OPERATION_DENIED;
	if (info->sleep_state == HV_SLEEP_STATE_LOCK) {
		atomic_store(&sleep_states_locked, true);
		return HV_STATUS_SUCCESS;
	}
	/* The others come back, into a machine whose hypervisor is gone. */
	if (info->sleep_state != HV_SLEEP_STATE_S5 || info->pm1a_slp_typ > SLP_TYP_LAST ||
	    info->pm1b_slp_typ > SLP_TYP_LAST)
		return HV_STATUS_PROPERTY_VALUE_OUT_OF_RANGE;
	atomic_store(&s5_types, BIT(16) | info->pm1a_slp_typ | (uint32_t)info->pm1b_slp_typ << 8);
	return HV_STATUS_SUCCESS;
}

uint16_t hypercall_set_system_property(struct hypercall *call)
{
	const struct hv_input_set_system_property *in = call->input;

	if (in->property_id != HV_SYSTEM_PROPERTY_SLEEP_STATE)
		return HV_STATUS_UNKNOWN_PROPERTY;
	return register_sleep_state(&in->sleep_state);
}

uint16_t hypercall_enter_sleep_state(struct hypercall *call)
{
	const struct hv_input_enter_sleep_state *in = call->input;
	uint32_t types = atomic_load(&s5_types);

	if (in->sleep_state < HV_SLEEP_STATE_S1 || in->sleep_state > HV_SLEEP_STATE_S5)
		return HV_STATUS_INVALID_PARAMETER;
	if (in->sleep_state != HV_SLEEP_STATE_S5 || !types)
		return HV_STATUS_OPERATION_DENIED;
	log_vp_info(call->partition->id, call->vp->index, "powers the machine off");
	machine_power_off((uint8_t)types, (uint8_t)(types >> 8));
}
