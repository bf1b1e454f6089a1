/* SPDX-License-Identifier: MIT */
/*
 * Flushing translations and sending interrupts to many VPs in one call (TLFS "Virtual Memory" and
 * "HvCallFlushVirtualAddressSpace", "...List", "...Ex", "HvCallSendSyntheticClusterIpi", "...Ex",
 * "HvCallFlushGuestPhysicalAddressSpace", "...List").
 */
#ifndef HV_FLUSH_H
#define HV_FLUSH_H

#include "types.h"
#include "vp_set.h"

#define HV_FLUSH_ALL_PROCESSORS (1ull << 0)
#define HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES (1ull << 1)
#define HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY (1ull << 2)
#define HV_FLUSH_USE_EXTENDED_RANGE_FORMAT (1ull << 3)

/*
 * An entry of a list: bits 63:12 the page, 11:0 how many more pages follow it.  With the extended
 * format bit 11 tells a large page and bits 10:0 count.
 */
#define HV_GVA_RANGE_MORE_PAGES_MASK 0xFFFull
#define HV_GVA_RANGE_EXTENDED_LARGE (1ull << 11)
#define HV_GVA_RANGE_EXTENDED_MORE_PAGES_MASK 0x7FFull
#define HV_GVA_RANGE_PAGE_MASK 0xFFFFFFFFFFFFF000ull

/* HvCallFlushVirtualAddressSpace, ...List (a list of 64-bit ranges follows) */
struct hv_input_flush_virtual_address_space {
	uint64_t address_space;
	uint64_t flags;
	uint64_t processor_mask;
};
HV_ASSERT_SIZE(struct hv_input_flush_virtual_address_space, 24);
HV_ASSERT_OFFSET(struct hv_input_flush_virtual_address_space, address_space, 0);
HV_ASSERT_OFFSET(struct hv_input_flush_virtual_address_space, flags, 8);
HV_ASSERT_OFFSET(struct hv_input_flush_virtual_address_space, processor_mask, 16);

/* ...Ex: banks are the variable header */
struct hv_input_flush_virtual_address_space_ex {
	uint64_t address_space;
	uint64_t flags;
	struct hv_vp_set vp_set;
};
HV_ASSERT_SIZE(struct hv_input_flush_virtual_address_space_ex, 32);
HV_ASSERT_OFFSET(struct hv_input_flush_virtual_address_space_ex, address_space, 0);
HV_ASSERT_OFFSET(struct hv_input_flush_virtual_address_space_ex, flags, 8);
HV_ASSERT_OFFSET(struct hv_input_flush_virtual_address_space_ex, vp_set, 16);

/* HvCallSendSyntheticClusterIpi: always to VPs 0-63 */
#define HV_IPI_LOWEST_VECTOR 0x10u
#define HV_IPI_HIGHEST_VECTOR 0xFFu

struct hv_input_send_synthetic_cluster_ipi {
	uint32_t vector;
	hv_input_vtl target_vtl;
	uint8_t padding[3];
	uint64_t processor_mask;
};
HV_ASSERT_SIZE(struct hv_input_send_synthetic_cluster_ipi, 16);
HV_ASSERT_OFFSET(struct hv_input_send_synthetic_cluster_ipi, vector, 0);
HV_ASSERT_OFFSET(struct hv_input_send_synthetic_cluster_ipi, target_vtl, 4);
HV_ASSERT_OFFSET(struct hv_input_send_synthetic_cluster_ipi, padding, 5);
HV_ASSERT_OFFSET(struct hv_input_send_synthetic_cluster_ipi, processor_mask, 8);

struct hv_input_send_synthetic_cluster_ipi_ex {
	uint32_t vector;
	hv_input_vtl target_vtl;
	uint8_t padding[3];
	struct hv_vp_set vp_set;
};
HV_ASSERT_SIZE(struct hv_input_send_synthetic_cluster_ipi_ex, 24);
HV_ASSERT_OFFSET(struct hv_input_send_synthetic_cluster_ipi_ex, vector, 0);
HV_ASSERT_OFFSET(struct hv_input_send_synthetic_cluster_ipi_ex, target_vtl, 4);
HV_ASSERT_OFFSET(struct hv_input_send_synthetic_cluster_ipi_ex, padding, 5);
HV_ASSERT_OFFSET(struct hv_input_send_synthetic_cluster_ipi_ex, vp_set, 8);

/* HvCallFlushGuestPhysicalAddressSpace, ...List: the space is that of a nested guest */
struct hv_input_flush_guest_physical_address_space {
	uint64_t address_space;
	uint64_t flags;
};
HV_ASSERT_SIZE(struct hv_input_flush_guest_physical_address_space, 16);
HV_ASSERT_OFFSET(struct hv_input_flush_guest_physical_address_space, address_space, 0);
HV_ASSERT_OFFSET(struct hv_input_flush_guest_physical_address_space, flags, 8);

/* An entry of its list, also of the memory heat hint's: 63:12 page, 11 large, 10:0 more pages */
#define HV_GPA_RANGE_MORE_PAGES_MASK 0x7FFull
#define HV_GPA_RANGE_LARGE (1ull << 11)
#define HV_GPA_RANGE_LARGE_1G (1ull << 12)
#define HV_GPA_RANGE_GPN_SHIFT 12
#define HV_GPA_RANGE_LARGE_GPN_SHIFT 21

/* HvCallNotifyLongSpinWait */
struct hv_input_notify_long_spin_wait {
	uint32_t spinwait_info; /* tries so far */
};
HV_ASSERT_SIZE(struct hv_input_notify_long_spin_wait, 4);
HV_ASSERT_OFFSET(struct hv_input_notify_long_spin_wait, spinwait_info, 0);

#endif
