/* SPDX-License-Identifier: MIT */
/*
 * Memory of partitions: pages given to the hypervisor and taken back, guest physical memory mapped and
 * unmapped, access states, translation, and access by call (TLFS "Partition Memory", "Guest Physical
 * Address Spaces", "HvCallDepositMemory", "HvCallMapGpaPages", "HvCallTranslateVirtualAddress", ...).
 */
#ifndef HV_MEMORY_H
#define HV_MEMORY_H

#include "types.h"
#include "vp.h"

/* HvCallDepositMemory: a list of 64-bit page numbers of the caller follows */
struct hv_input_deposit_memory {
	uint64_t partition_id;
};
HV_ASSERT_SIZE(struct hv_input_deposit_memory, 8);
HV_ASSERT_OFFSET(struct hv_input_deposit_memory, partition_id, 0);

#define HV_DEPOSIT_MAX_PAGES 511u /* that fit behind the input in one page */

/* HvCallWithdrawMemory: page numbers come back; HV_STATUS_NO_RESOURCES when none is left */
struct hv_input_withdraw_memory {
	uint64_t partition_id;
	struct hv_proximity_domain_info proximity;
};
HV_ASSERT_SIZE(struct hv_input_withdraw_memory, 16);
HV_ASSERT_OFFSET(struct hv_input_withdraw_memory, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_withdraw_memory, proximity, 8);

/* HvCallGetMemoryBalance */
struct hv_input_get_memory_balance {
	uint64_t partition_id;
	struct hv_proximity_domain_info proximity;
};
HV_ASSERT_SIZE(struct hv_input_get_memory_balance, 16);
HV_ASSERT_OFFSET(struct hv_input_get_memory_balance, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_get_memory_balance, proximity, 8);

struct hv_output_get_memory_balance {
	uint64_t pages_available;
	uint64_t pages_in_use;
};
HV_ASSERT_SIZE(struct hv_output_get_memory_balance, 16);
HV_ASSERT_OFFSET(struct hv_output_get_memory_balance, pages_available, 0);
HV_ASSERT_OFFSET(struct hv_output_get_memory_balance, pages_in_use, 8);

/* HvCallMapGpaPages: a list of 64-bit page numbers of the caller follows */
#define HV_MAP_GPA_PERMISSIONS_NONE 0x00000000u
#define HV_MAP_GPA_READABLE 0x00000001u
#define HV_MAP_GPA_WRITABLE 0x00000002u
#define HV_MAP_GPA_KERNEL_EXECUTABLE 0x00000004u
#define HV_MAP_GPA_USER_EXECUTABLE 0x00000008u
#define HV_MAP_GPA_EXECUTABLE 0x0000000Cu
#define HV_MAP_GPA_PERMISSIONS_MASK 0x0000000Fu
#define HV_MAP_GPA_ADJUSTABLE 0x00008000u
#define HV_MAP_GPA_NO_ACCESS 0x00010000u
#define HV_MAP_GPA_NOT_CACHED 0x00200000u
#define HV_MAP_GPA_LARGE_PAGE 0x80000000u

struct hv_input_map_gpa_pages {
	uint64_t partition_id;
	uint64_t gpn;
	uint32_t map_flags;
	uint32_t padding;
};
HV_ASSERT_SIZE(struct hv_input_map_gpa_pages, 24);
HV_ASSERT_OFFSET(struct hv_input_map_gpa_pages, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_map_gpa_pages, gpn, 8);
HV_ASSERT_OFFSET(struct hv_input_map_gpa_pages, map_flags, 16);
HV_ASSERT_OFFSET(struct hv_input_map_gpa_pages, padding, 20);

/* HvCallUnmapGpaPages: a rep call without list */
#define HV_UNMAP_GPA_LARGE_PAGE 0x00000002u

struct hv_input_unmap_gpa_pages {
	uint64_t partition_id;
	uint64_t gpn;
	uint32_t unmap_flags;
	uint32_t padding;
};
HV_ASSERT_SIZE(struct hv_input_unmap_gpa_pages, 24);
HV_ASSERT_OFFSET(struct hv_input_unmap_gpa_pages, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_unmap_gpa_pages, gpn, 8);
HV_ASSERT_OFFSET(struct hv_input_unmap_gpa_pages, unmap_flags, 16);
HV_ASSERT_OFFSET(struct hv_input_unmap_gpa_pages, padding, 20);

/* HvCallGetGpaPagesAccessStates: a rep call without list; one byte per page comes back */
#define HV_ACCESS_STATE_CLEAR_ACCESSED (1ull << 0)
#define HV_ACCESS_STATE_SET_ACCESSED (1ull << 1)
#define HV_ACCESS_STATE_CLEAR_DIRTY (1ull << 2)
#define HV_ACCESS_STATE_SET_DIRTY (1ull << 3)
#define HV_ACCESS_STATE_ACCESSED 0x01u /* in the bytes */
#define HV_ACCESS_STATE_DIRTY 0x02u

struct hv_input_get_gpa_pages_access_states {
	uint64_t partition_id;
	uint64_t flags;
	uint64_t gpn;
};
HV_ASSERT_SIZE(struct hv_input_get_gpa_pages_access_states, 24);
HV_ASSERT_OFFSET(struct hv_input_get_gpa_pages_access_states, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_get_gpa_pages_access_states, flags, 8);
HV_ASSERT_OFFSET(struct hv_input_get_gpa_pages_access_states, gpn, 16);

/* Cache types in results and messages */
#define HV_CACHE_TYPE_UNCACHED 0u
#define HV_CACHE_TYPE_WRITE_COMBINING 1u
#define HV_CACHE_TYPE_WRITE_THROUGH 4u
#define HV_CACHE_TYPE_WRITE_PROTECTED 5u
#define HV_CACHE_TYPE_WRITE_BACK 6u

/* HvCallTranslateVirtualAddress */
#define HV_TRANSLATE_VALIDATE_READ 0x0001ull
#define HV_TRANSLATE_VALIDATE_WRITE 0x0002ull
#define HV_TRANSLATE_VALIDATE_EXECUTE 0x0004ull
#define HV_TRANSLATE_PRIVILEGE_EXEMPT 0x0008ull
#define HV_TRANSLATE_SET_PAGE_TABLE_BITS 0x0010ull
#define HV_TRANSLATE_TLB_FLUSH_INHIBIT 0x0020ull
#define HV_TRANSLATE_SUPERVISOR_ACCESS 0x0040ull
#define HV_TRANSLATE_USER_ACCESS 0x0080ull
#define HV_TRANSLATE_ENFORCE_SMAP 0x0100ull
#define HV_TRANSLATE_OVERRIDE_SMAP 0x0200ull
#define HV_TRANSLATE_SHADOW_STACK 0x0400ull
#define HV_TRANSLATE_INPUT_VTL_SHIFT 56
#define HV_TRANSLATE_SUCCESS 0u
#define HV_TRANSLATE_PAGE_NOT_PRESENT 1u
#define HV_TRANSLATE_PRIVILEGE_VIOLATION 2u
#define HV_TRANSLATE_INVALID_PAGE_TABLE_FLAGS 3u
#define HV_TRANSLATE_GPA_UNMAPPED 4u
#define HV_TRANSLATE_GPA_NO_READ_ACCESS 5u
#define HV_TRANSLATE_GPA_NO_WRITE_ACCESS 6u
#define HV_TRANSLATE_GPA_ILLEGAL_OVERLAY_ACCESS 7u
#define HV_TRANSLATE_INTERCEPT 8u
#define HV_TRANSLATE_GPA_UNACCEPTED 9u
#define HV_TRANSLATE_CACHE_TYPE_MASK 0xFFu
#define HV_TRANSLATE_OVERLAY_PAGE (1u << 8)

struct hv_input_translate_virtual_address {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t padding;
	uint64_t control_flags;
	uint64_t gva_page;
};
HV_ASSERT_SIZE(struct hv_input_translate_virtual_address, 32);
HV_ASSERT_OFFSET(struct hv_input_translate_virtual_address, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_translate_virtual_address, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_translate_virtual_address, padding, 12);
HV_ASSERT_OFFSET(struct hv_input_translate_virtual_address, control_flags, 16);
HV_ASSERT_OFFSET(struct hv_input_translate_virtual_address, gva_page, 24);

struct hv_output_translate_virtual_address {
	uint32_t result_code;
	uint32_t cache_type_and_overlay;
	uint64_t gpn;
};
HV_ASSERT_SIZE(struct hv_output_translate_virtual_address, 16);
HV_ASSERT_OFFSET(struct hv_output_translate_virtual_address, result_code, 0);
HV_ASSERT_OFFSET(struct hv_output_translate_virtual_address, cache_type_and_overlay, 4);
HV_ASSERT_OFFSET(struct hv_output_translate_virtual_address, gpn, 8);

/* HvCallReadGpa, HvCallWriteGpa */
#define HV_ACCESS_GPA_MAX_BYTES 16u
#define HV_ACCESS_GPA_SUCCESS 0u
#define HV_ACCESS_GPA_UNMAPPED 1u
#define HV_ACCESS_GPA_READ_INTERCEPT 2u
#define HV_ACCESS_GPA_WRITE_INTERCEPT 3u
#define HV_ACCESS_GPA_ILLEGAL_OVERLAY_ACCESS 4u

struct hv_input_read_gpa {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t byte_count;
	uint64_t gpa;
	uint64_t control_flags;
};
HV_ASSERT_SIZE(struct hv_input_read_gpa, 32);
HV_ASSERT_OFFSET(struct hv_input_read_gpa, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_read_gpa, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_read_gpa, byte_count, 12);
HV_ASSERT_OFFSET(struct hv_input_read_gpa, gpa, 16);
HV_ASSERT_OFFSET(struct hv_input_read_gpa, control_flags, 24);

struct hv_output_read_gpa {
	uint32_t result_code;
	uint32_t reserved;
	uint8_t data[16];
};
HV_ASSERT_SIZE(struct hv_output_read_gpa, 24);
HV_ASSERT_OFFSET(struct hv_output_read_gpa, result_code, 0);
HV_ASSERT_OFFSET(struct hv_output_read_gpa, reserved, 4);
HV_ASSERT_OFFSET(struct hv_output_read_gpa, data, 8);

struct hv_input_write_gpa {
	uint64_t partition_id;
	uint32_t vp_index;
	uint32_t byte_count;
	uint64_t gpa;
	uint64_t control_flags;
	uint8_t data[16];
};
HV_ASSERT_SIZE(struct hv_input_write_gpa, 48);
HV_ASSERT_OFFSET(struct hv_input_write_gpa, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_write_gpa, vp_index, 8);
HV_ASSERT_OFFSET(struct hv_input_write_gpa, byte_count, 12);
HV_ASSERT_OFFSET(struct hv_input_write_gpa, gpa, 16);
HV_ASSERT_OFFSET(struct hv_input_write_gpa, control_flags, 24);
HV_ASSERT_OFFSET(struct hv_input_write_gpa, data, 32);

struct hv_output_write_gpa {
	uint32_t result_code;
	uint32_t reserved;
};
HV_ASSERT_SIZE(struct hv_output_write_gpa, 8);
HV_ASSERT_OFFSET(struct hv_output_write_gpa, result_code, 0);
HV_ASSERT_OFFSET(struct hv_output_write_gpa, reserved, 4);

/* HvCallMemoryMappedIoRead, HvCallMemoryMappedIoWrite */
#define HV_MMIO_MAX_BYTES 64

struct hv_input_memory_mapped_io_read {
	uint64_t gpa;
	uint32_t byte_count;
	uint32_t reserved;
};
HV_ASSERT_SIZE(struct hv_input_memory_mapped_io_read, 16);
HV_ASSERT_OFFSET(struct hv_input_memory_mapped_io_read, gpa, 0);
HV_ASSERT_OFFSET(struct hv_input_memory_mapped_io_read, byte_count, 8);
HV_ASSERT_OFFSET(struct hv_input_memory_mapped_io_read, reserved, 12);

struct hv_output_memory_mapped_io_read {
	uint8_t data[HV_MMIO_MAX_BYTES];
};
HV_ASSERT_SIZE(struct hv_output_memory_mapped_io_read, 64);
HV_ASSERT_OFFSET(struct hv_output_memory_mapped_io_read, data, 0);

struct hv_input_memory_mapped_io_write {
	uint64_t gpa;
	uint32_t byte_count;
	uint32_t reserved;
	uint8_t data[HV_MMIO_MAX_BYTES];
};
HV_ASSERT_SIZE(struct hv_input_memory_mapped_io_write, 80);
HV_ASSERT_OFFSET(struct hv_input_memory_mapped_io_write, gpa, 0);
HV_ASSERT_OFFSET(struct hv_input_memory_mapped_io_write, byte_count, 8);
HV_ASSERT_OFFSET(struct hv_input_memory_mapped_io_write, reserved, 12);
HV_ASSERT_OFFSET(struct hv_input_memory_mapped_io_write, data, 16);

/* HvCallAcquireSparseSpaPageHostAccess, HvCallReleaseSparseSpaPageHostAccess: a list of spns follows */
#define HV_HOST_ACCESS_READ 0x1u /* bits 1:0 of host_access */
#define HV_HOST_ACCESS_WRITE 0x2u
#define HV_HOST_ACCESS_FLAG_MAKE_EXCLUSIVE 0x1u
#define HV_HOST_ACCESS_FLAG_MAKE_SHARED 0x2u
#define HV_HOST_ACCESS_FLAG_LARGE_PAGE 0x4u
#define HV_HOST_ACCESS_FLAG_HUGE_PAGE 0x8u

struct hv_input_sparse_spa_page_host_access {
	uint32_t host_access;
	uint32_t flags;
	uint64_t partition_id;
};
HV_ASSERT_SIZE(struct hv_input_sparse_spa_page_host_access, 16);
HV_ASSERT_OFFSET(struct hv_input_sparse_spa_page_host_access, host_access, 0);
HV_ASSERT_OFFSET(struct hv_input_sparse_spa_page_host_access, flags, 4);
HV_ASSERT_OFFSET(struct hv_input_sparse_spa_page_host_access, partition_id, 8);

/* HvCallModifySparseGpaPageHostVisibility: a list of gpns follows */
#define HV_HOST_VISIBILITY_NONE 0u /* bits 1:0 of host_visibility */
#define HV_HOST_VISIBILITY_READ_ONLY 1u
#define HV_HOST_VISIBILITY_READ_WRITE 3u

struct hv_input_modify_sparse_gpa_page_host_visibility {
	uint64_t partition_id;
	uint32_t host_visibility;
	uint32_t reserved;
};
HV_ASSERT_SIZE(struct hv_input_modify_sparse_gpa_page_host_visibility, 16);
HV_ASSERT_OFFSET(struct hv_input_modify_sparse_gpa_page_host_visibility, partition_id, 0);
HV_ASSERT_OFFSET(struct hv_input_modify_sparse_gpa_page_host_visibility, host_visibility, 8);
HV_ASSERT_OFFSET(struct hv_input_modify_sparse_gpa_page_host_visibility, reserved, 12);

/* HvExtCallQueryCapabilities answers with a mask; HvExtCallMemoryHeatHint: a list of GPA ranges follows */
#define HV_EXT_CAPABILITY_GET_BOOT_ZEROED_MEMORY (1ull << 0)
#define HV_EXT_CAPABILITY_MEMORY_HEAT_HINT (1ull << 1)
#define HV_EXT_CAPABILITY_EPF_SETUP (1ull << 2)
#define HV_EXT_CAPABILITY_SCHEDULER_ASSIST_SETUP (1ull << 3)
#define HV_EXT_CAPABILITY_MEMORY_HEAT_HINT_ASYNC (1ull << 4)
#define HV_EXT_CAPABILITY_MEMORY_COLD_DISCARD_HINT (1ull << 8)
#define HV_MEMORY_HEAT_HINT_COLD 0ull /* bits 1:0 */
#define HV_MEMORY_HEAT_HINT_HOT 1ull
#define HV_MEMORY_HEAT_HINT_COLD_DISCARD 2ull

struct hv_output_ext_query_capabilities {
	uint64_t capabilities;
};
HV_ASSERT_SIZE(struct hv_output_ext_query_capabilities, 8);
HV_ASSERT_OFFSET(struct hv_output_ext_query_capabilities, capabilities, 0);

struct hv_input_ext_memory_heat_hint {
	uint64_t heat_type;
};
HV_ASSERT_SIZE(struct hv_input_ext_memory_heat_hint, 8);
HV_ASSERT_OFFSET(struct hv_input_ext_memory_heat_hint, heat_type, 0);

/* HvExtCallGetBootZeroedMemory */
#define HV_BOOT_ZEROED_RANGES 255

struct hv_page_run {
	uint64_t gpn;
	uint64_t pages;
};
HV_ASSERT_SIZE(struct hv_page_run, 16);
HV_ASSERT_OFFSET(struct hv_page_run, gpn, 0);
HV_ASSERT_OFFSET(struct hv_page_run, pages, 8);

struct hv_output_ext_get_boot_zeroed_memory {
	uint64_t range_count;
	struct hv_page_run range[HV_BOOT_ZEROED_RANGES];
};
HV_ASSERT_SIZE(struct hv_output_ext_get_boot_zeroed_memory, 4088);
HV_ASSERT_OFFSET(struct hv_output_ext_get_boot_zeroed_memory, range_count, 0);
HV_ASSERT_OFFSET(struct hv_output_ext_get_boot_zeroed_memory, range, 8);

#endif
