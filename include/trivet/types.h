/* SPDX-License-Identifier: MIT */
/*
 * The words everything else is written in: address types that the compiler keeps apart, page sizes and
 * a few macros. Freestanding; usable in the loader, the hypervisor and host tests.
 */
#ifndef TRIVET_TYPES_H
#define TRIVET_TYPES_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest physical, host physical and guest virtual addresses. Mixing them is a compile error. */
typedef struct {
	uint64_t v;
} gpa_t;
typedef struct {
	uint64_t v;
} hpa_t;
typedef struct {
	uint64_t v;
} gva_t;

#define GPA(x) ((gpa_t){ (x) })
#define HPA(x) ((hpa_t){ (x) })
#define GVA(x) ((gva_t){ (x) })

#define BIT(n) (1ull << (n))

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096ull
#define SIZE_4K 4096ull
#define SIZE_2M (2ull << 20)
#define SIZE_1G (1ull << 30)

/* `align` is a power of two. */
#define ALIGN_DOWN(x, align) ((x) & ~((align)-1))
#define ALIGN_UP(x, align) (((x) + (align)-1) & ~((align)-1))
#define IS_ALIGNED(x, align) (((x) & ((align)-1)) == 0)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* General registers by their number in an instruction encoding. */
enum gpr {
	GPR_RAX,
	GPR_RCX,
	GPR_RDX,
	GPR_RBX,
	GPR_RSP,
	GPR_RBP,
	GPR_RSI,
	GPR_RDI,
	GPR_R8,
	GPR_R9,
	GPR_R10,
	GPR_R11,
	GPR_R12,
	GPR_R13,
	GPR_R14,
	GPR_R15,
	GPR_COUNT
};

#endif
