/* SPDX-License-Identifier: MIT */
/*
 * The reference time page (TLFS "Timers", "Partition Reference Time Enlightenment"):
 *     time in 100 ns = ((tsc * scale) >> 64) + offset,  valid while `sequence` is not 0 and unchanged.
 */
#ifndef HV_TIME_H
#define HV_TIME_H

#include "types.h"

#define HV_TIME_UNIT_HZ 10000000ull
#define HV_REFERENCE_TSC_SEQUENCE_INVALID 0u /* read TIME_REF_COUNT instead */

struct hv_reference_tsc_page {
	uint32_t sequence;
	uint32_t reserved;
	uint64_t scale;
	int64_t offset_100ns;
};
HV_ASSERT_SIZE(struct hv_reference_tsc_page, 24);
HV_ASSERT_OFFSET(struct hv_reference_tsc_page, sequence, 0);
HV_ASSERT_OFFSET(struct hv_reference_tsc_page, reserved, 4);
HV_ASSERT_OFFSET(struct hv_reference_tsc_page, scale, 8);
HV_ASSERT_OFFSET(struct hv_reference_tsc_page, offset_100ns, 16);

#endif
