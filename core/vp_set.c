/* SPDX-License-Identifier: MIT */
/* Sets of VPs: TLFS "HV_VP_SET" and the older mask, cut to the VPs that the partition has. */
#include <hv/status.h>
#include <trivet/vp_set.h>

/* The VPs of `bank` that the partition may have. */
static uint64_t existing(const struct partition *partition, unsigned int bank)
{
	uint32_t first = bank * HV_VP_SET_VPS_PER_BANK;

	if (partition->vp_count <= first)
		return 0;
	return partition->vp_count - first >= HV_VP_SET_VPS_PER_BANK ? UINT64_MAX :
								       BIT(partition->vp_count - first) - 1;
}

static void add_bank(struct vp_set *set, const struct partition *partition, unsigned int bank, uint64_t bits)
{
	bits &= existing(partition, bank);
	if (!bits)
		return;
	set->banks[bank] = bits;
	set->valid_banks |= BIT(bank);
}

void vp_set_from_mask(struct vp_set *set, const struct partition *partition, uint64_t mask)
{
	set->valid_banks = 0;
	add_bank(set, partition, 0, mask);
}

void vp_set_all(struct vp_set *set, const struct partition *partition)
{
	set->valid_banks = 0;
	for (unsigned int bank = 0;
	     bank < HV_VP_SET_BANKS && partition->vp_count > bank * HV_VP_SET_VPS_PER_BANK; bank++)
		add_bank(set, partition, bank, UINT64_MAX);
}

uint16_t vp_set_decode(struct vp_set *set, const struct partition *partition, const struct hv_vp_set *from,
		       uint32_t qwords)
{
	const uint64_t *contents = (const uint64_t *)(from + 1);
	uint64_t banks_left = from->valid_bank_mask;

	if (from->format == HV_VP_SET_ALL) { /* mask and header say nothing */
		vp_set_all(set, partition);
		return HV_STATUS_SUCCESS;
	}
	if (from->format != HV_VP_SET_SPARSE_4K)
		return HV_STATUS_INVALID_PARAMETER;
	/* One qword for each bank of the mask, no fewer and no more. Both end after 64 at the most. */
	set->valid_banks = 0;
	for (; banks_left && qwords; qwords--) {
		add_bank(set, partition, (unsigned int)__builtin_ctzll(banks_left), *contents++);
		banks_left &= banks_left - 1;
	}
	return banks_left || qwords ? HV_STATUS_INVALID_PARAMETER : HV_STATUS_SUCCESS;
}

bool vp_set_contains(const struct vp_set *set, uint32_t vp_index)
{
	uint32_t bank = vp_index / HV_VP_SET_VPS_PER_BANK;

	return bank < HV_VP_SET_BANKS && (set->valid_banks >> bank & 1) &&
	       (set->banks[bank] >> (vp_index % HV_VP_SET_VPS_PER_BANK) & 1);
}
