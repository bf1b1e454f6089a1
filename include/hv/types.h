/* SPDX-License-Identifier: MIT */
/*
 * What every header of include/hv shares: integer types, page size, the two special ids, and the
 * checks of layouts.  These headers describe the hypervisor's interface (Microsoft's Hypervisor Top
 * Level Functional Specification, TLFS below) to hypervisor, guest, root and virtual machine
 * monitor alike.  They need a C17 (or C++17) compiler and nothing else.
 *
 * Rules of the layouts: fields are little endian and naturally aligned unless a structure is marked
 * packed; reserved fields are zero in inputs and outputs; `gpn` is a guest page number (address >> 12),
 * `spn` a system page number.  Structures of hypercall inputs hold the fixed part; the variable
 * header and the list of a rep call follow it in memory.
 */
#ifndef HV_TYPES_H
#define HV_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define HV_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define HV_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif
#define HV_ASSERT_SIZE(type, bytes) HV_STATIC_ASSERT(sizeof(type) == (bytes), #type " has another size")
#define HV_ASSERT_OFFSET(type, field, bytes) \
	HV_STATIC_ASSERT(offsetof(type, field) == (bytes), #type "." #field " lies elsewhere")
#define HV_PACKED __attribute__((packed))

#define HV_PAGE_SHIFT 12
#define HV_PAGE_SIZE 4096u
#define HV_LARGE_PAGE_SHIFT 21

/* TLFS "Partitions": no partition has id 0; the caller's own may be named by all ones. */
#define HV_PARTITION_ID_INVALID 0ull
#define HV_PARTITION_ID_SELF 0xFFFFFFFFFFFFFFFFull

/* TLFS "Virtual Processors" */
#define HV_VP_INDEX_ANY 0xFFFFFFFFu
#define HV_VP_INDEX_SELF 0xFFFFFFFEu
#define HV_MAXIMUM_PROCESSORS 2048u

struct hv_u128 {
	uint64_t low;
	uint64_t high;
};
HV_ASSERT_SIZE(struct hv_u128, 16);
HV_ASSERT_OFFSET(struct hv_u128, low, 0);
HV_ASSERT_OFFSET(struct hv_u128, high, 8);

/*
 * A byte that names a virtual trust level in an input: bits 3:0 the level, used only when bit 4 is
 * set; bits 7:5 reserved.  0 means the caller's own level.
 */
typedef uint8_t hv_input_vtl;
#define HV_INPUT_VTL_MASK 0x0Fu
#define HV_INPUT_VTL_USE_TARGET 0x10u
#define HV_INPUT_VTL_RESERVED 0xE0u

#endif
