/* SPDX-License-Identifier: MIT */
/*
 * Sets of virtual processors, in the two forms that calls take (TLFS "Virtual Processors",
 * "Sparse virtual processor set"): a plain 64-bit mask of VP 0-63, and a sparse set of up to 64 banks
 * of 64.  A sparse set is a format word and a mask of banks, then one 64-bit word per bit of the mask.
 */
#ifndef HV_VP_SET_H
#define HV_VP_SET_H

#include "types.h"

#define HV_VP_SET_SPARSE_4K 0ull /* banks follow */
#define HV_VP_SET_ALL 1ull	 /* every VP; mask and banks mean nothing */

#define HV_VP_SET_BANKS 64u
#define HV_VP_SET_BANK_SHIFT 6
#define HV_VP_SET_VPS_PER_BANK 64u

struct hv_vp_set {
	uint64_t format;
	uint64_t valid_bank_mask;
	/* uint64_t banks[], popcount(valid_bank_mask) of them */
};
HV_ASSERT_SIZE(struct hv_vp_set, 16);
HV_ASSERT_OFFSET(struct hv_vp_set, format, 0);
HV_ASSERT_OFFSET(struct hv_vp_set, valid_bank_mask, 8);

#endif
