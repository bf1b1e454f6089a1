/* SPDX-License-Identifier: MIT */
/*
 * As much of the kernel's environment as Linux's include/hyperv needs to compile as an ordinary program, on x86-64
 * (test_hv_headers.py includes it first, under the names of the kernel's own headers).
 */
#ifndef LINUX_SHIM_H
#define LINUX_SHIM_H

#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;
typedef unsigned long ulong;

#define CONFIG_X86 1
#define SHIM_CONFIG_X86 1
#define SHIM_CONFIG_ARM64 0
#define IS_ENABLED(option) SHIM_##option

#define BIT(n) (1ul << (n))
#define BIT_ULL(n) (1ull << (n))
#define GENMASK(high, low) ((~0ul >> (63 - (high))) & (~0ul << (low)))
#define GENMASK_ULL(high, low) GENMASK(high, low)
#define __packed __attribute__((packed))
#define __aligned(n) __attribute__((aligned(n)))
#define static_assert _Static_assert
#define DECLARE_FLEX_ARRAY(type, name) \
	struct {                       \
		struct {               \
		} empty_##name;        \
		type name[];           \
	}
/* A structure that ends in a flexible array, and what follows it at that array's place */
#define __TRAILING_OVERLAP(type, name, flexible, attributes, members)           \
	union {                                                                 \
		type name;                                                      \
		struct {                                                        \
			unsigned char overlap_##name[offsetof(type, flexible)]; \
			members                                                 \
		} attributes;                                                   \
	}
#define NSEC_PER_SEC 1000000000L

/* The bits of a bit field: in an object of at most 8 bytes, or in a member that overlaps it */
#define FIELD_IN(type, field, member)                                              \
	({                                                                         \
		type object_;                                                      \
		u64 bits_ = 0;                                                     \
		_Static_assert(sizeof(object_.member) <= 8, "too wide");           \
		__builtin_memset(&object_, 0, sizeof(object_));                    \
		object_.field = ~object_.field;                                    \
		__builtin_memcpy(&bits_, &object_.member, sizeof(object_.member)); \
		bits_;                                                             \
	})
#define FIELD(type, field)                                           \
	({                                                           \
		type object_;                                        \
		u64 bits_ = 0;                                       \
		_Static_assert(sizeof(object_) <= 8, "too wide");    \
		__builtin_memset(&object_, 0, sizeof(object_));      \
		object_.field = ~object_.field;                      \
		__builtin_memcpy(&bits_, &object_, sizeof(object_)); \
		bits_;                                               \
	})
#define SHIFT(type, field) ((u64)__builtin_ctzll(FIELD(type, field)))

#endif
