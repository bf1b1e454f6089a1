/* SPDX-License-Identifier: MIT */
/*
 * Deposits and withdrawals of memory (TLFS "HvCallDepositMemory", "HvCallWithdrawMemory"). What they do is in deposit.c.
 */
#include <hv/cpuid.h>
#include <hv/memory.h>
#include <hv/status.h>
#include <trivet/deposit.h>
#include <trivet/hypercall.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

uint16_t hypercall_deposit_memory(struct hypercall *call)
{
	const struct hv_input_deposit_memory *in = call->input;
	struct partition *target;
	uint16_t status;

	target = partition_authority(call->vp, in->partition_id, HV_PRIVILEGE_ACCESS_MEMORY_POOL, &status);
	if (!target)
		return status;
	status = deposit_pages(target, call->vp, (const uint64_t *)call->rep_input + call->rep_start,
			       (uint32_t)(call->rep_count - call->rep_start));
	if (!status)
		call->reps_done = call->rep_count;
	return status;
}

/* An empty pool is a refusal: Linux takes success without a page for "go on asking". The proximity domain is a wish. */
uint16_t hypercall_withdraw_memory(struct hypercall *call)
{
	const struct hv_input_withdraw_memory *in = call->input;
	struct partition *target;
	uint32_t withdrawn;
	uint16_t status;

	target = partition_authority(call->vp, in->partition_id, HV_PRIVILEGE_ACCESS_MEMORY_POOL, &status);
	if (!target)
		return status;
	withdrawn = deposit_withdraw(target, call->vp, (uint64_t *)call->rep_output + call->rep_start,
				     (uint32_t)(call->rep_count - call->rep_start));
	if (!withdrawn)
		return HV_STATUS_NO_RESOURCES;
	call->reps_done = (uint16_t)(call->rep_start + withdrawn);
	return HV_STATUS_SUCCESS;
}
