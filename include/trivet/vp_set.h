/* SPDX-License-Identifier: MIT */
/*
 * A set of VPs of one partition, as flush, IPI and interrupt-target hypercalls name it: a mask of 64, or TLFS "HV_VP_SET".
 * Decoded once, from the hypervisor's own copy of the input, into a type that holds no index beyond the partition's VPs;
 * whoever walks it needs no further check (XSA-475: each caller of a sparse set checked its bounds for itself, or not).
 */
#ifndef TRIVET_VP_SET_H
#define TRIVET_VP_SET_H

#include <hv/vp_set.h>
#include <stddef.h>
#include <trivet/partition.h>
#include <trivet/types.h>

#define VP_SET_LIMIT (HV_VP_SET_BANKS * HV_VP_SET_VPS_PER_BANK) /* VP indexes a set can name */

/* Only the banks of `valid_banks` are filled in, the others hold garbage: most calls name one bank. */
struct vp_set {
	uint64_t valid_banks;
	uint64_t banks[HV_VP_SET_BANKS];
};

/*
 * TLFS "HV_VP_SET", in the hypervisor's copy of the input, with `qwords` qwords of it behind `from` (the variable header). VPs that
 * don't exist are left out. HV_STATUS_SUCCESS, or HV_STATUS_INVALID_PARAMETER: no such format, or a
 * sparse set without exactly one qword for each bank of its mask; then `set` is not to be used.
 */
uint16_t vp_set_decode(struct vp_set *set, const struct partition *partition, const struct hv_vp_set *from,
		       uint32_t qwords);

/* The older calls' mask: bit n is VP n. */
void vp_set_from_mask(struct vp_set *set, const struct partition *partition, uint64_t mask);

void vp_set_all(struct vp_set *set, const struct partition *partition);

bool vp_set_contains(const struct vp_set *set, uint32_t vp_index);

struct vp_set_cursor {
	uint64_t banks_left, bits_left;
	uint32_t base; /* index of the bank's first VP */
};

static inline struct vp_set_cursor vp_set_begin(const struct vp_set *set)
{
	return (struct vp_set_cursor){ .banks_left = set->valid_banks };
}

/* The next VP in order of index, NULL behind the last. */
static inline struct vp *vp_set_next(const struct vp_set *set, const struct partition *partition,
				     struct vp_set_cursor *cursor)
{
	for (;;) {
		while (cursor->bits_left) {
			uint32_t index = cursor->base + (uint32_t)__builtin_ctzll(cursor->bits_left);

			struct vp *vp = __atomic_load_n(&partition->vps[index], __ATOMIC_SEQ_CST);

			cursor->bits_left &= cursor->bits_left - 1;
			if (likely(vp != NULL)) /* it may have gone since the set was made */
				return vp;
		}
		if (!cursor->banks_left)
			return NULL;
		cursor->base = (uint32_t)__builtin_ctzll(cursor->banks_left) * HV_VP_SET_VPS_PER_BANK;
		cursor->bits_left = set->banks[cursor->base / HV_VP_SET_VPS_PER_BANK];
		cursor->banks_left &= cursor->banks_left - 1;
	}
}

#endif
