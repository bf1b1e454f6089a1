/* unit: core/guest_walk.c */
/* SPDX-License-Identifier: MIT */
/*
 * The guest page-table walker over a small fake memory: hand-built tables for each mode and each
 * rule, then random tables against a second walker that follows the manual's figures one by one
 * and shares no code.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef TRIVET_HOST_TEST
#define TRIVET_HOST_TEST
#endif
#include <trivet/guest_walk.h>
#include <trivet/guest_walk_fast.h>

#define MEMORY_PAGES 16u
#define MEMORY_SIZE (MEMORY_PAGES * PAGE_SIZE)

static uint8_t memory[MEMORY_SIZE];
static int space; /* only its address is used */
static unsigned reads;

static bool copy_out(uint64_t gpa, void *buf, size_t size)
{
	if (gpa >= MEMORY_SIZE || size > MEMORY_SIZE - gpa)
		return false;
	memcpy(buf, memory + gpa, size);
	return true;
}

bool guest_phys_read64(void *s, gpa_t gpa, uint64_t *value)
{
	assert_ptr_equal(s, &space);
	assert_true(IS_ALIGNED(gpa.v, 8));
	reads++;
	return copy_out(gpa.v, value, sizeof(*value));
}

bool guest_phys_read32(void *s, gpa_t gpa, uint32_t *value)
{
	assert_ptr_equal(s, &space);
	assert_true(IS_ALIGNED(gpa.v, 4));
	reads++;
	return copy_out(gpa.v, value, sizeof(*value));
}

bool guest_phys_read(void *s, gpa_t gpa, void *buf, size_t size)
{
	assert_ptr_equal(s, &space);
	assert_true(size > 0 && (gpa.v & 0xfff) + size <= PAGE_SIZE);
	return copy_out(gpa.v, buf, size);
}

bool guest_read64_raw(uint64_t gpa, uint64_t *value)
{
	return copy_out(gpa, value, sizeof(*value));
}

static void put64(uint64_t gpa, uint64_t value)
{
	memcpy(memory + gpa, &value, sizeof(value));
}

static void put32(uint64_t gpa, uint32_t value)
{
	memcpy(memory + gpa, &value, sizeof(value));
}

/* Names of the bits as in the manual, written down a second time on purpose. */
enum { P = 1, W = 2, U = 4, PS = 0x80, G = 0x100 };
#define NX 0x8000000000000000ull
#define CR0_PE 0x1ull
#define CR0_WP 0x10000ull
#define CR0_PG 0x80000000ull
#define CR4_PSE 0x10ull
#define CR4_PAE 0x20ull
#define CR4_LA57 0x1000ull
#define CR4_SMEP 0x100000ull
#define CR4_SMAP 0x200000ull
#define EFER_LMA 0x400ull
#define EFER_NXE 0x800ull
#define RFLAGS_AC 0x40000ull

#define READ GUEST_READ
#define WRITE GUEST_WRITE
#define FETCH GUEST_FETCH
#define USER GUEST_USER
#define IMPLICIT GUEST_IMPLICIT

static struct guest_paging paging;

static void clear_memory(void)
{
	memset(memory, 0, sizeof(memory));
}

static void expect_ok_at(uint64_t gva, unsigned access, uint64_t gpa, uint64_t page_size, int line)
{
	struct guest_translation t;
	int err;

	reads = 0;
	err = guest_walk(&paging, &space, GVA(gva), access, &t);
	if (err || t.gpa.v != gpa || t.page_size != page_size || reads > 5)
		fail_msg("line %d: err %d, error code %#x, gpa %#lx, page size %#lx, %u reads", line, err,
			 t.error_code, t.gpa.v, t.page_size, reads);
}
#define expect_ok(gva, access, gpa, page_size) expect_ok_at(gva, access, gpa, page_size, __LINE__)

static void expect_fault_at(uint64_t gva, unsigned access, uint32_t error_code, int line)
{
	struct guest_translation t;
	int err = guest_walk(&paging, &space, GVA(gva), access, &t);

	if (err != -EFAULT || t.error_code != error_code)
		fail_msg("line %d: err %d, error code %#x, not %#x", line, err, t.error_code, error_code);
}
#define expect_fault(gva, access, error_code) expect_fault_at(gva, access, error_code, __LINE__)

static void expect_error(uint64_t gva, int expected)
{
	struct guest_translation t;

	assert_int_equal(guest_walk(&paging, &space, GVA(gva), READ, &t), expected);
}

static void without_paging(void **state)
{
	(void)state;
	paging = (struct guest_paging){ .cr0 = CR0_PE, .cr3 = 0x1000, .cr4 = CR4_PAE, .maxphyaddr = 40 };
	expect_ok(0, READ, 0, SIZE_4K);
	expect_ok(0x12345, WRITE | USER, 0x12345, SIZE_4K);
	expect_ok(0xfffffff0, FETCH, 0xfffffff0, SIZE_4K);
	expect_ok(0x1fffffff0, FETCH, 0xfffffff0, SIZE_4K);
	assert_int_equal(reads, 0);
}

/* gva 0x00c03123: directory entry 3, table entry 3. */
static void mode_32bit(void **state)
{
	(void)state;
	clear_memory();
	paging = (struct guest_paging){ .cr0 = CR0_PE | CR0_PG, .cr3 = 0x1018, .maxphyaddr = 40 };
	expect_fault(0x00c03123, READ, 0);
	expect_fault(0x00c03123, WRITE, PF_WRITE);
	expect_fault(0x00c03123, WRITE | USER, PF_WRITE | PF_USER);
	expect_fault(0x00c03123, FETCH | USER, PF_USER);
	put32(0x1000 + 3 * 4, 0x2000 | P | W | U);
	expect_fault(0x00c03123, READ, 0);
	put32(0x2000 + 3 * 4, 0xabcde000 | P | W | U);
	expect_ok(0x00c03123, READ, 0xabcde123, SIZE_4K);
	expect_ok(0xff00000000c03123, FETCH | USER, 0xabcde123, SIZE_4K);
	/* EFER.NXE means nothing without PAE. */
	paging.efer = EFER_NXE;
	expect_fault(0x00c04123, FETCH, 0);
	/* PS without CR4.PSE is ignored; with it, a 4 MiB page. */
	put32(0x1000 + 3 * 4, 0x2000 | PS | P | W | U);
	expect_ok(0x00c03123, READ, 0xabcde123, SIZE_4K);
	paging.cr4 = CR4_PSE;
	put32(0x1000 + 3 * 4, 0xab400000 | PS | P | W | U);
	expect_ok(0x00c03123, WRITE | USER, 0xab403123, 4 << 20);
	/* Highest entry */
	put32(0x1000 + 1023 * 4, 0x3000 | P);
	put32(0x3000 + 1023 * 4, 0x00077000 | P);
	expect_ok(0xffffffff, READ, 0x77fff, SIZE_4K);
	/* The directory in memory that isn't there. */
	paging.cr3 = 0xfffff000;
	expect_error(0, -EIO);
	paging.cr3 = 0x1000;
	put32(0x1000, 0x80000000 | P);
	expect_error(0, -EIO);
}

static void pse36(void **state)
{
	(void)state;
	clear_memory();
	paging = (struct guest_paging){
		.cr0 = CR0_PE | CR0_PG, .cr3 = 0x1000, .cr4 = CR4_PSE, .maxphyaddr = 40
	};
	put32(0x1000, 0x12400000 | 0xa5u << 13 | PS | P | W | U);
	expect_ok(0x3fffff, READ, 0xa5127fffffull, 4 << 20);
	paging.maxphyaddr = 52;
	expect_ok(0x3fffff, READ, 0xa5127fffffull, 4 << 20);
	paging.maxphyaddr = 39;
	expect_fault(0x3fffff, READ, PF_PRESENT | PF_RESERVED);
	put32(0x1000, 0x12400000 | 0x25u << 13 | PS | P | W | U);
	expect_ok(0x3fffff, READ, 0x25127fffffull, 4 << 20);
	paging.maxphyaddr = 36;
	expect_fault(0x3fffff, WRITE | USER, PF_PRESENT | PF_RESERVED | PF_WRITE | PF_USER);
	put32(0x1000, 0x12400000 | BIT(21) | PS | P | W | U);
	expect_fault(0x3fffff, READ, PF_PRESENT | PF_RESERVED);
	put32(0x1000, 0x12400000 | BIT(12) | PS | P | W | U); /* PAT */
	expect_ok(0, READ, 0x12400000, 4 << 20);
}

/* gva 0x40602123: PDPTE 1, PDE 3, PTE 2. CR3 is 32-byte aligned. */
static void mode_pae(void **state)
{
	static const unsigned reserved_pdpte[] = { 1, 2, 5, 6, 7, 8, 40, 51, 52, 62, 63 };
	const uint64_t gva = 0x40602123;

	(void)state;
	clear_memory();
	paging = (struct guest_paging){
		.cr0 = CR0_PE | CR0_PG, .cr3 = 0x1fe0 | 0x1f, .cr4 = CR4_PAE, .maxphyaddr = 40
	};
	expect_fault(gva, READ, 0);
	put64(0x1fe0 + 8, 0x2000 | P);
	expect_fault(gva, READ, 0);
	put64(0x2000 + 3 * 8, 0x3000 | P | W | U);
	expect_fault(gva, READ, 0);
	put64(0x3000 + 2 * 8, 0xab12345000 | P | W | U);
	/* The PDPTE has no R/W and U/S, and takes nothing away. */
	expect_ok(gva, WRITE | USER, 0xab12345123, SIZE_4K);
	expect_ok(0x100000000 | gva, WRITE | USER, 0xab12345123, SIZE_4K);
	for (unsigned i = 0; i < ARRAY_SIZE(reserved_pdpte); i++) {
		put64(0x1fe0 + 8, 0x2000 | P | BIT(reserved_pdpte[i]));
		paging.efer = i & 1 ? EFER_NXE : 0;
		expect_fault(gva, READ, PF_PRESENT | PF_RESERVED);
	}
	put64(0x1fe0 + 8, 0x2000 | P | BIT(3) | BIT(4) | BIT(9) | BIT(11));
	expect_ok(gva, READ, 0xab12345123, SIZE_4K);
	/* Legacy PAE reserves bits 62:52 below too, and NX unless enabled. */
	for (unsigned bit = 40; bit < 64; bit++) {
		paging.efer = 0;
		put64(0x3000 + 2 * 8, 0xab12345000 | P | W | U | BIT(bit));
		expect_fault(gva, READ, PF_PRESENT | PF_RESERVED);
		put64(0x3000 + 2 * 8, 0xab12345000 | P | W | U);
		put64(0x2000 + 3 * 8, 0x3000 | P | W | U | BIT(bit));
		expect_fault(gva, READ, PF_PRESENT | PF_RESERVED);
		put64(0x2000 + 3 * 8, 0x3000 | P | W | U);
	}
	paging.efer = EFER_NXE;
	put64(0x3000 + 2 * 8, 0xab12345000 | P | W | U | NX);
	expect_ok(gva, READ, 0xab12345123, SIZE_4K);
	expect_fault(gva, FETCH, PF_PRESENT | PF_FETCH);
	/* 2 MiB, whatever CR4.PSE says. */
	put64(0x2000 + 3 * 8, 0xab00200000 | PS | P | W | U);
	expect_ok(gva, READ, 0xab00202123, SIZE_2M);
	put64(0x2000 + 3 * 8, 0xab00200000 | BIT(12) | PS | P | W | U);
	expect_ok(gva, READ, 0xab00202123, SIZE_2M);
	for (unsigned bit = 13; bit < 21; bit++) {
		put64(0x2000 + 3 * 8, 0xab00200000 | BIT(bit) | PS | P | W | U);
		expect_fault(gva, READ, PF_PRESENT | PF_RESERVED);
	}
}

/* gva with entries 1, 2, 3, 4 from the PML4 down. */
#define GVA4 (1ull << 39 | 2ull << 30 | 3ull << 21 | 4ull << 12 | 0x567)

static void build_4level(void)
{
	clear_memory();
	paging = (struct guest_paging){
		.cr0 = CR0_PE | CR0_PG | CR0_WP,
		.cr3 = 0x1000,
		.cr4 = CR4_PAE,
		.efer = EFER_LMA | EFER_NXE,
		.maxphyaddr = 40,
		.gbpages = true,
	};
	put64(0x1000 + 1 * 8, 0x2000 | P | W | U);
	put64(0x2000 + 2 * 8, 0x3000 | P | W | U);
	put64(0x3000 + 3 * 8, 0x4000 | P | W | U);
	put64(0x4000 + 4 * 8, 0x1234567000 | P | W | U);
}

static void mode_4level(void **state)
{
	(void)state;
	build_4level();
	expect_ok(GVA4, READ, 0x1234567567, SIZE_4K);
	assert_int_equal(reads, 4);
	expect_ok(GVA4, FETCH | USER, 0x1234567567, SIZE_4K);
	paging.cr3 |= 0x80000000000001ffull & ~0xfffull; /* bit 63 */
	paging.cr3 |= 0xfff;				 /* PCID */
	expect_ok(GVA4, READ, 0x1234567567, SIZE_4K);
	for (unsigned level = 1; level <= 4; level++) {
		build_4level();
		memory[level * 0x1000 + level * 8] &= (uint8_t)~P;
		expect_fault(GVA4, READ, 0);
		expect_fault(GVA4, WRITE | USER, PF_WRITE | PF_USER);
		expect_fault(GVA4, FETCH, PF_FETCH);
		/* Nothing else in an entry that isn't present is looked at. */
		put64(level * 0x1000 + level * 8, ~1ull);
		expect_fault(GVA4, READ, 0);
	}
	/* Canonical or not */
	expect_error(BIT(47), -EINVAL);
	expect_error(0xffff7fffffffffff, -EINVAL);
	expect_error(BIT(63) | GVA4, -EINVAL);
	put64(0x1000 + 511 * 8, 0x2000 | P | W | U);
	put64(0x2000 + 511 * 8, 0x3000 | P | W | U);
	put64(0x3000 + 511 * 8, 0x4000 | P | W | U);
	put64(0x4000 + 511 * 8, 0x9000 | P | W | U);
	expect_ok(UINT64_MAX, READ, 0x9fff, SIZE_4K);
	/* Tables that aren't there */
	put64(0x3000 + 511 * 8, 0x80000000 | P | W | U);
	expect_error(UINT64_MAX, -EIO);
}

static void large_pages_in_long_mode(void **state)
{
	(void)state;
	build_4level();
	put64(0x3000 + 3 * 8, 0x1234400000 | PS | P | W | U);
	expect_ok(GVA4, READ, 0x1234404567, SIZE_2M);
	put64(0x3000 + 3 * 8, 0x1234400000 | BIT(12) | G | PS | P | W | U);
	expect_ok(GVA4, READ, 0x1234404567, SIZE_2M);
	put64(0x2000 + 2 * 8, 0x1240000000 | PS | P | W | U);
	expect_ok(GVA4, READ, 0x1240604567, SIZE_1G);
	put64(0x2000 + 2 * 8, 0x1240000000 | BIT(12) | G | PS | P | W | U);
	expect_ok(GVA4, READ, 0x1240604567, SIZE_1G);
	paging.gbpages = false;
	expect_fault(GVA4, READ, PF_PRESENT | PF_RESERVED);
	paging.gbpages = true;
	for (unsigned bit = 13; bit < 30; bit++) {
		put64(0x2000 + 2 * 8, 0x1240000000 | BIT(bit) | PS | P | W | U);
		expect_fault(GVA4, READ, PF_PRESENT | PF_RESERVED);
	}
	build_4level();
	for (unsigned bit = 13; bit < 21; bit++) {
		put64(0x3000 + 3 * 8, 0x1234400000 | BIT(bit) | PS | P | W | U);
		expect_fault(GVA4, READ, PF_PRESENT | PF_RESERVED);
	}
}

static void reserved_bits_in_long_mode(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 4; level++) {
		uint64_t at = level * 0x1000 + level * 8;
		uint64_t entry;

		build_4level();
		memcpy(&entry, memory + at, sizeof(entry));
		/* Above the processor's address width up to 51: reserved; 62:52 are software's. */
		for (unsigned bit = 40; bit < 63; bit++) {
			put64(at, entry | BIT(bit));
			if (bit < 52)
				expect_fault(GVA4, WRITE, PF_PRESENT | PF_RESERVED | PF_WRITE);
			else
				expect_ok(GVA4, WRITE, 0x1234567567, SIZE_4K);
		}
		put64(at, entry | NX);
		expect_ok(GVA4, WRITE, 0x1234567567, SIZE_4K);
		paging.efer &= ~EFER_NXE;
		expect_fault(GVA4, READ, PF_PRESENT | PF_RESERVED);
		expect_fault(GVA4, FETCH | USER, PF_PRESENT | PF_RESERVED | PF_USER);
		expect_fault(GVA4, FETCH | GUEST_UNCHECKED, PF_PRESENT | PF_RESERVED);
		paging.efer |= EFER_NXE;
		put64(at, entry | G);
		expect_ok(GVA4, READ, 0x1234567567, SIZE_4K);
		paging.nonleaf_global_reserved = true;
		if (level <= 2)
			expect_fault(GVA4, READ, PF_PRESENT | PF_RESERVED);
		else
			expect_ok(GVA4, READ, 0x1234567567, SIZE_4K);
		put64(at, entry | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(9) | BIT(10) | BIT(11));
		expect_ok(GVA4, READ, 0x1234567567, SIZE_4K);
	}
	build_4level();
	put64(0x1000 + 1 * 8, 0x2000 | PS | P | W | U);
	expect_fault(GVA4, READ, PF_PRESENT | PF_RESERVED);
	/* A global 1 GiB leaf is fine on AMD as well. */
	build_4level();
	paging.nonleaf_global_reserved = true;
	put64(0x2000 + 2 * 8, 0x1240000000 | G | PS | P | W | U);
	expect_ok(GVA4, READ, 0x1240604567, SIZE_1G);
	/* 52 bits of address: nothing left to reserve. */
	build_4level();
	paging.maxphyaddr = 52;
	put64(0x4000 + 4 * 8, 0xfffff34567000 | P | W | U);
	expect_ok(GVA4, READ, 0xfffff34567567, SIZE_4K);
}

static void mode_5level(void **state)
{
	const uint64_t gva = 5ull << 48 | GVA4;

	(void)state;
	build_4level();
	paging.cr3 = 0x5000;
	paging.cr4 |= CR4_LA57;
	expect_fault(gva, READ, 0);
	put64(0x5000 + 5 * 8, 0x1000 | P | W | U);
	expect_ok(gva, READ, 0x1234567567, SIZE_4K);
	assert_int_equal(reads, 5);
	expect_error(BIT(56), -EINVAL);
	expect_error(0xfeffffffffffffff, -EINVAL);
	put64(0x5000 + 256 * 8, 0x1000 | P | W | U);
	expect_ok(0xff00000000000000 | GVA4, READ, 0x1234567567, SIZE_4K);
	put64(0x5000 + 5 * 8, 0x1000 | P | U);
	expect_fault(gva, WRITE, PF_PRESENT | PF_WRITE);
	put64(0x5000 + 5 * 8, 0x1000 | PS | P | W | U);
	expect_fault(gva, READ, PF_PRESENT | PF_RESERVED);
	put64(0x5000 + 5 * 8, 0x1000 | G | P | W | U);
	expect_ok(gva, READ, 0x1234567567, SIZE_4K);
	paging.nonleaf_global_reserved = true;
	expect_fault(gva, READ, PF_PRESENT | PF_RESERVED);
}

/* Each right can be taken away on each level. */
static void rights_are_anded_over_levels(void **state)
{
	(void)state;
	for (unsigned level = 1; level <= 4; level++) {
		uint64_t at = level * 0x1000 + level * 8;
		uint64_t entry;

		build_4level();
		memcpy(&entry, memory + at, sizeof(entry));
		put64(at, entry & ~(uint64_t)W);
		expect_ok(GVA4, READ | USER, 0x1234567567, SIZE_4K);
		expect_ok(GVA4, FETCH | USER, 0x1234567567, SIZE_4K);
		expect_fault(GVA4, WRITE | USER, PF_PRESENT | PF_WRITE | PF_USER);
		expect_fault(GVA4, WRITE, PF_PRESENT | PF_WRITE);
		expect_ok(GVA4, WRITE | GUEST_UNCHECKED, 0x1234567567, SIZE_4K);
		paging.cr0 &= ~CR0_WP;
		expect_ok(GVA4, WRITE, 0x1234567567, SIZE_4K);
		expect_ok(GVA4, WRITE | USER | IMPLICIT, 0x1234567567, SIZE_4K);
		expect_fault(GVA4, WRITE | USER, PF_PRESENT | PF_WRITE | PF_USER);
		paging.cr0 |= CR0_WP;

		put64(at, entry & ~(uint64_t)U);
		expect_ok(GVA4, WRITE, 0x1234567567, SIZE_4K);
		expect_ok(GVA4, WRITE | USER | IMPLICIT, 0x1234567567, SIZE_4K);
		expect_fault(GVA4, READ | USER, PF_PRESENT | PF_USER);
		expect_fault(GVA4, WRITE | USER, PF_PRESENT | PF_WRITE | PF_USER);
		expect_fault(GVA4, FETCH | USER, PF_PRESENT | PF_USER | PF_FETCH);
		expect_ok(GVA4, FETCH | USER | GUEST_UNCHECKED, 0x1234567567, SIZE_4K);

		put64(at, entry | NX);
		expect_ok(GVA4, WRITE | USER, 0x1234567567, SIZE_4K);
		expect_fault(GVA4, FETCH | USER, PF_PRESENT | PF_USER | PF_FETCH);
		expect_fault(GVA4, FETCH, PF_PRESENT | PF_FETCH);
		expect_ok(GVA4, FETCH | GUEST_UNCHECKED, 0x1234567567, SIZE_4K);
	}
}

static void smep(void **state)
{
	(void)state;
	build_4level();
	expect_ok(GVA4, FETCH, 0x1234567567, SIZE_4K);
	paging.cr4 |= CR4_SMEP;
	expect_fault(GVA4, FETCH, PF_PRESENT | PF_FETCH);
	expect_ok(GVA4, FETCH | USER, 0x1234567567, SIZE_4K);
	expect_ok(GVA4, READ, 0x1234567567, SIZE_4K);
	put64(0x2000 + 2 * 8, 0x3000 | P | W);
	expect_ok(GVA4, FETCH, 0x1234567567, SIZE_4K);
	/* The I/D bit of the error code exists with SMEP even without NX. */
	paging.efer &= ~EFER_NXE;
	put64(0x2000 + 2 * 8, 0x3000 | P | W | U);
	expect_fault(GVA4, FETCH, PF_PRESENT | PF_FETCH);
	put64(0x2000 + 2 * 8, 0);
	expect_fault(GVA4, FETCH, PF_FETCH);
	paging.cr4 &= ~CR4_SMEP;
	expect_fault(GVA4, FETCH, 0);
}

static void smap(void **state)
{
	(void)state;
	build_4level();
	paging.cr4 |= CR4_SMAP;
	expect_fault(GVA4, READ, PF_PRESENT);
	expect_fault(GVA4, WRITE, PF_PRESENT | PF_WRITE);
	expect_ok(GVA4, FETCH, 0x1234567567, SIZE_4K);
	expect_ok(GVA4, READ | USER, 0x1234567567, SIZE_4K);
	expect_ok(GVA4, WRITE | USER, 0x1234567567, SIZE_4K);
	expect_fault(GVA4, READ | USER | IMPLICIT, PF_PRESENT);
	paging.rflags = RFLAGS_AC;
	expect_ok(GVA4, READ, 0x1234567567, SIZE_4K);
	expect_ok(GVA4, WRITE, 0x1234567567, SIZE_4K);
	expect_fault(GVA4, READ | IMPLICIT, PF_PRESENT);
	expect_fault(GVA4, WRITE | USER | IMPLICIT, PF_PRESENT | PF_WRITE);
	/* AC doesn't make a page writable; and SMAP is not about supervisor pages. */
	put64(0x4000 + 4 * 8, 0x1234567000 | P | U);
	expect_fault(GVA4, WRITE, PF_PRESENT | PF_WRITE);
	paging.rflags = 0;
	put64(0x4000 + 4 * 8, 0x1234567000 | P | W);
	expect_ok(GVA4, READ | IMPLICIT, 0x1234567567, SIZE_4K);
}

/* Code at 0x5000 and 0x6000, mapped one behind the other at GVA4's page and the next. */
static void build_code(void)
{
	build_4level();
	put64(0x4000 + 4 * 8, 0x6000 | P | NX);
	put64(0x4000 + 5 * 8, 0x5000 | P);
	for (unsigned i = 0; i < 0x1000; i++) {
		memory[0x6000 + i] = (uint8_t)(i * 7);
		memory[0x5000 + i] = (uint8_t)(i * 5 + 1);
	}
}

static void fetch_crosses_pages(void **state)
{
	const uint64_t page = GVA4 & ~0xfffull;
	uint8_t bytes[16];

	(void)state;
	for (unsigned offset = 0xff0; offset < 0x1000; offset++) {
		for (size_t size = 0; size <= 16; size++) {
			size_t expected = size > 15 ? 15 : size;

			build_code();
			memset(bytes, 0xee, sizeof(bytes));
			assert_int_equal(guest_fetch(&paging, &space, GVA(page + offset), bytes, size),
					 expected);
			for (unsigned i = 0; i < 16; i++) {
				unsigned at = offset + i;
				uint8_t byte = (uint8_t)(at < 0x1000 ? at * 7 : (at - 0x1000) * 5 + 1);

				assert_int_equal(bytes[i], i < expected ? byte : 0xee);
			}
		}
	}
	/* The second page faults, or has no memory behind it: short. */
	put64(0x4000 + 5 * 8, 0);
	assert_int_equal(guest_fetch(&paging, &space, GVA(page + 0xffd), bytes, 15), 3);
	put64(0x4000 + 5 * 8, 0x80000000 | P);
	assert_int_equal(guest_fetch(&paging, &space, GVA(page + 0xff8), bytes, 15), 8);
	put64(0x4000 + 4 * 8, 0);
	assert_int_equal(guest_fetch(&paging, &space, GVA(page + 0xff8), bytes, 15), 0);
	assert_int_equal(guest_fetch(&paging, &space, GVA(BIT(47) - 4), bytes, 15), 0);
	/* Real mode and the wrap at 4 GiB */
	paging = (struct guest_paging){ .maxphyaddr = 40 };
	assert_int_equal(guest_fetch(&paging, &space, GVA(0x5ffe), bytes, 4), 4);
	assert_int_equal(bytes[1], (uint8_t)(0xfff * 5 + 1));
	assert_int_equal(bytes[2], 0);
	assert_int_equal(bytes[3], 7);
	assert_int_equal(guest_fetch(&paging, &space, GVA(0xfffffff8), bytes, 15), 0);
	paging = (struct guest_paging){ .cr0 = CR0_PG | CR0_PE, .cr3 = 0x1000, .maxphyaddr = 40 };
	clear_memory();
	put32(0x1000, 0x2000 | P);
	put32(0x1000 + 1023 * 4, 0x2000 | P);
	put32(0x2000, 0x5000 | P);
	put32(0x2000 + 1023 * 4, 0x6000 | P);
	memory[0x6fff] = 0x12;
	memory[0x5000] = 0x34;
	assert_int_equal(guest_fetch(&paging, &space, GVA(0xffffffff), bytes, 2), 2);
	assert_int_equal(bytes[0], 0x12);
	assert_int_equal(bytes[1], 0x34);
}

static void fast_fetch(void **state)
{
	const uint64_t page = GVA4 & ~0xfffull;
	uint64_t bytes, gpa;

	(void)state;
	build_code();
	for (unsigned offset = 0; offset < 0x1000; offset++) {
		bool ok = guest_fetch_fast64(paging.cr3, page + offset, &bytes);
		uint64_t expected;

		assert_int_equal(ok, offset <= 0xff8);
		if (ok) {
			memcpy(&expected, memory + 0x6000 + offset, 8);
			assert_int_equal(bytes, expected);
		}
	}
	assert_true(guest_walk_fast64(0, paging.cr3 | 0xfff, GVA4, &gpa));
	assert_int_equal(gpa, 0x6567);
	put64(0x3000 + 3 * 8, 0x200000 | BIT(12) | PS | P);
	assert_true(guest_walk_fast64(0, paging.cr3, GVA4, &gpa));
	assert_int_equal(gpa, 0x204567);
	assert_false(guest_fetch_fast64(paging.cr3, GVA4, &bytes));
	put64(0x2000 + 2 * 8, 0x40000000 | BIT(12) | PS | P);
	assert_true(guest_walk_fast64(0, paging.cr3, GVA4, &gpa));
	assert_int_equal(gpa, 0x40604567);
	for (unsigned level = 1; level <= 4; level++) {
		build_code();
		memory[level * 0x1000 + level * 8] &= (uint8_t)~P;
		assert_false(guest_walk_fast64(0, paging.cr3, GVA4, &gpa));
		put64(level * 0x1000 + level * 8, 0x80000000 | P);
		assert_int_equal(guest_walk_fast64(0, paging.cr3, GVA4, &gpa), level == 4);
	}
	assert_false(guest_walk_fast64(0, 0x80000000, GVA4, &gpa));
}

/* ---- A second walker, from the manual's figures, for the differential test ---- */

struct reference {
	int err;
	uint32_t error_code;
	uint64_t gpa;
	uint64_t page_size;
};

static uint64_t ref_read(uint64_t gpa, unsigned size, bool *ok)
{
	uint64_t value = 0;

	*ok = copy_out(gpa, &value, size);
	return value;
}

static struct reference ref_fault(unsigned access, bool present, bool reserved)
{
	bool user = (access & USER) && !(access & IMPLICIT);
	bool long_mode = paging.efer & EFER_LMA;
	bool no_execute = (paging.efer & EFER_NXE) && (long_mode || (paging.cr4 & CR4_PAE));
	bool has_id = no_execute || (paging.cr4 & CR4_SMEP);
	uint32_t code = 0;

	code += present ? 1 : 0;
	code += access & WRITE ? 2 : 0;
	code += user ? 4 : 0;
	code += reserved ? 8 : 0;
	code += (access & FETCH) && has_id ? 16 : 0;
	return (struct reference){ .err = -EFAULT, .error_code = code };
}

/* APM2 5.6 and SDM3 4.6, written as the list of reasons to refuse. */
static bool ref_refused(unsigned access, bool writable, bool user_page, bool no_execute)
{
	bool user = (access & USER) && !(access & IMPLICIT);
	bool supervisor = !user;

	if (access & GUEST_UNCHECKED)
		return false;
	if (user && !user_page)
		return true;
	if (user && (access & WRITE) && !(access & FETCH) && !writable)
		return true;
	if (supervisor && (access & WRITE) && !(access & FETCH) && !writable && (paging.cr0 & CR0_WP))
		return true;
	if ((access & FETCH) && no_execute)
		return true;
	if (supervisor && (access & FETCH) && user_page && (paging.cr4 & CR4_SMEP))
		return true;
	if (supervisor && !(access & FETCH) && user_page && (paging.cr4 & CR4_SMAP)) {
		if (access & IMPLICIT)
			return true;
		if (!(paging.rflags & RFLAGS_AC))
			return true;
	}
	return false;
}

static struct reference ref_result(unsigned access, bool writable, bool user_page, bool no_execute,
				   uint64_t base, uint64_t gva, uint64_t page_size)
{
	if (ref_refused(access, writable, user_page, no_execute))
		return ref_fault(access, true, false);
	return (struct reference){ .gpa = base + gva % page_size, .page_size = page_size };
}

/* Any of bits high..low set? */
static bool any(uint64_t entry, int high, int low)
{
	for (int bit = low; bit <= high; bit++)
		if (entry >> bit & 1)
			return true;
	return false;
}

#define REF_IO ((struct reference){ .err = -EIO })

static struct reference ref_32bit(uint64_t gva, unsigned access)
{
	bool ok;
	uint64_t pde = ref_read((paging.cr3 & 0xfffff000) + (gva >> 22) * 4, 4, &ok);
	uint64_t pte;

	if (!ok)
		return REF_IO;
	if (!(pde & P))
		return ref_fault(access, false, false);
	if ((pde & PS) && (paging.cr4 & CR4_PSE)) {
		uint64_t base = (pde & 0xffc00000) + ((pde >> 13 & 0xff) << 32);

		if (any(pde, 21, 21) || any(base, 63, paging.maxphyaddr < 40 ? (int)paging.maxphyaddr : 40))
			return ref_fault(access, true, true);
		return ref_result(access, pde & W, pde & U, false, base, gva, 4 << 20);
	}
	pte = ref_read((pde & 0xfffff000) + (gva >> 12 & 1023) * 4, 4, &ok);
	if (!ok)
		return REF_IO;
	if (!(pte & P))
		return ref_fault(access, false, false);
	return ref_result(access, pde & pte & W, pde & pte & U, false, pte & 0xfffff000, gva, 4096);
}

/* Reserved bits of the parts that all 64-bit entries share. */
static bool ref_reserved(uint64_t entry)
{
	bool long_mode = paging.efer & EFER_LMA;

	return any(entry, 51, (int)paging.maxphyaddr) || (!(paging.efer & EFER_NXE) && any(entry, 63, 63)) ||
	       (!long_mode && any(entry, 62, 52));
}

/* PDE and PTE, the same in PAE and long mode. */
static struct reference ref_pde_pte(uint64_t table, uint64_t gva, unsigned access, bool w, bool u, bool nx)
{
	bool ok;
	uint64_t pde = ref_read(table + (gva >> 21 & 511) * 8, 8, &ok);
	uint64_t pte;

	if (!ok)
		return REF_IO;
	if (!(pde & P))
		return ref_fault(access, false, false);
	if (ref_reserved(pde) || ((pde & PS) && any(pde, 20, 13)))
		return ref_fault(access, true, true);
	w = w && (pde & W);
	u = u && (pde & U);
	nx = nx || (pde & NX);
	if (pde & PS)
		return ref_result(access, w, u, nx, pde & 0xfffffffe00000, gva, 2 << 20);
	pte = ref_read((pde & 0xffffffffff000) + (gva >> 12 & 511) * 8, 8, &ok);
	if (!ok)
		return REF_IO;
	if (!(pte & P))
		return ref_fault(access, false, false);
	if (ref_reserved(pte))
		return ref_fault(access, true, true);
	return ref_result(access, w && (pte & W), u && (pte & U), nx || (pte & NX), pte & 0xffffffffff000,
			  gva, 4096);
}

static struct reference ref_pae(uint64_t gva, unsigned access)
{
	bool ok;
	uint64_t pdpte = ref_read((paging.cr3 & 0xffffffe0) + (gva >> 30 & 3) * 8, 8, &ok);

	if (!ok)
		return REF_IO;
	if (!(pdpte & P))
		return ref_fault(access, false, false);
	if (any(pdpte, 2, 1) || (any(pdpte, 8, 5) && !(access & GUEST_UNCHECKED)) ||
	    any(pdpte, 63, (int)paging.maxphyaddr))
		return ref_fault(access, true, true);
	return ref_pde_pte(pdpte & 0xffffffffff000, gva, access, true, true, false);
}

static struct reference ref_long(uint64_t gva, unsigned access)
{
	bool five = paging.cr4 & CR4_LA57;
	bool w = true, u = true, nx = false, ok;
	uint64_t table = paging.cr3 & 0xffffffffff000;
	uint64_t entry;
	int64_t sign = (int64_t)(gva << (five ? 7 : 16)) >> (five ? 7 : 16);

	if ((uint64_t)sign != gva)
		return (struct reference){ .err = -EINVAL };
	for (int step = five ? 0 : 1; step < 3; step++) {
		static const int shifts[] = { 48, 39, 30 };

		entry = ref_read(table + (gva >> shifts[step] & 511) * 8, 8, &ok);
		if (!ok)
			return REF_IO;
		if (!(entry & P))
			return ref_fault(access, false, false);
		if (ref_reserved(entry))
			return ref_fault(access, true, true);
		w = w && (entry & W);
		u = u && (entry & U);
		nx = nx || (entry & NX);
		if (step == 2 && (entry & PS) && paging.gbpages) {
			if (any(entry, 29, 13))
				return ref_fault(access, true, true);
			return ref_result(access, w, u, nx, entry & 0xfffffc0000000, gva, 1 << 30);
		}
		if ((entry & PS) || ((entry & G) && paging.nonleaf_global_reserved))
			return ref_fault(access, true, true);
		table = entry & 0xffffffffff000;
	}
	return ref_pde_pte(table, gva, access, w, u, nx);
}

static struct reference ref_walk(uint64_t gva, unsigned access)
{
	if (paging.efer & EFER_LMA)
		return ref_long(gva, access);
	gva &= 0xffffffff;
	if (!(paging.cr0 & CR0_PG))
		return (struct reference){ .gpa = gva, .page_size = 4096 };
	return paging.cr4 & CR4_PAE ? ref_pae(gva, access) : ref_32bit(gva, access);
}

/* ---- Random differential ---- */

static uint64_t rng_state;

static uint64_t rng(void)
{
	rng_state ^= rng_state >> 12;
	rng_state ^= rng_state << 25;
	rng_state ^= rng_state >> 27;
	return rng_state * 0x2545f4914f6cdd1dull;
}

/* One in n */
static bool rarely(unsigned n)
{
	return (rng() >> 20) % n == 0;
}

/* Mostly right, so that walks go deep; each kind of trouble now and then. */
static uint64_t random_entry(bool is_32bit)
{
	uint64_t entry = (rng() >> 30) % MEMORY_PAGES << 12 | (rng() >> 40 & 0xe78);

	entry |= rarely(20) ? 0 : P;
	entry |= rarely(6) ? 0 : W;
	entry |= rarely(4) ? 0 : U;
	if (rarely(8)) {
		/* An aligned large leaf, mostly. */
		entry = (entry & 0xfff) | PS | (rng() & 0x00000000c0600000) |
			(rarely(8) ? BIT(13 + rng() % 17) : 0);
	}
	entry |= rarely(12) ? G : 0;
	entry |= rarely(100) ? BIT(rng() % 32) : 0;
	if (is_32bit)
		return entry & UINT32_MAX;
	entry |= rarely(12) ? NX : 0;
	entry |= rarely(25) ? BIT(32 + rng() % 32) : 0;
	return entry;
}

static void random_tables(bool is_32bit)
{
	for (uint64_t at = 0; at < MEMORY_SIZE; at += 8)
		put64(at, random_entry(is_32bit) | (is_32bit ? random_entry(true) << 32 : 0));
}

static void random_state(bool is_32bit)
{
	static const unsigned char widths[] = { 32, 36, 39, 40, 48, 52 };
	bool long_mode = !is_32bit && !rarely(3);

	paging.cr0 = CR0_PE | (rarely(2) ? CR0_WP : 0) | (long_mode || !rarely(50) ? CR0_PG : 0);
	paging.cr4 = (rarely(2) ? CR4_PSE : 0) | (rarely(2) ? CR4_SMEP : 0) | (rarely(2) ? CR4_SMAP : 0) |
		     (is_32bit ? 0 : CR4_PAE) | (long_mode && rarely(3) ? CR4_LA57 : 0);
	paging.efer = (long_mode ? EFER_LMA : 0) | (rarely(4) ? 0 : EFER_NXE);
	paging.cr3 = (rng() >> 30) % MEMORY_PAGES << 12 | (rng() >> 40 & 0xfff);
	if (rarely(100))
		paging.cr3 |= BIT(rng() % 64);
	paging.rflags = rarely(2) ? RFLAGS_AC : 0;
	paging.maxphyaddr = widths[(rng() >> 13) % sizeof(widths)];
	paging.gbpages = !rarely(3);
	paging.nonleaf_global_reserved = rarely(2);
}

static uint64_t random_gva(void)
{
	uint64_t gva = rng();

	if (rarely(50))
		return gva;
	return (uint64_t)((int64_t)(gva << 16) >> (paging.cr4 & CR4_LA57 ? 7 : 16));
}

static void compare_once(unsigned *ok, unsigned *faults)
{
	uint64_t gva = random_gva(), gpa = 0;
	unsigned access = (unsigned)(rng() >> 33) & (rarely(8) ? 31 : 15);
	struct reference expected;
	struct guest_translation t;
	int err;

	if ((access & FETCH) && (access & WRITE))
		access &= ~(unsigned)WRITE;
	expected = ref_walk(gva, access);
	reads = 0;
	err = guest_walk(&paging, &space, GVA(gva), access, &t);
	if (err != expected.err || t.error_code != expected.error_code || t.gpa.v != expected.gpa ||
	    t.page_size != expected.page_size || reads > 5)
		fail_msg("gva %#lx access %u cr0 %#lx cr3 %#lx cr4 %#lx efer %#lx: err %d %d, code %#x %#x, "
			 "gpa %#lx %#lx",
			 gva, access, paging.cr0, paging.cr3, paging.cr4, paging.efer, err, expected.err,
			 t.error_code, expected.error_code, t.gpa.v, expected.gpa);
	*ok += !err;
	*faults += err == -EFAULT;
	if ((paging.efer & EFER_LMA) && !(paging.cr4 & CR4_LA57) && !err) {
		assert_true(guest_walk_fast64(0, paging.cr3, gva, &gpa));
		assert_int_equal(gpa, t.gpa.v & (BIT(46) - 1)); /* no wider than the RAM window */
	}
}

static void random_walks_agree_with_the_manual(void **state)
{
	const char *seed = getenv("SEED");
	unsigned ok = 0, faults = 0;

	(void)state;
	rng_state = seed ? strtoull(seed, NULL, 0) : 0x3a1c;
	print_message("SEED=%#llx\n", (unsigned long long)rng_state);
	for (unsigned round = 0; round < 3000; round++) {
		bool is_32bit = rarely(4);

		random_tables(is_32bit);
		for (unsigned i = 0; i < 200; i++) {
			random_state(is_32bit);
			compare_once(&ok, &faults);
		}
	}
	/* Both outcomes were really seen, often. */
	assert_true(ok > 60000);
	assert_true(faults > 60000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_paging),
		cmocka_unit_test(mode_32bit),
		cmocka_unit_test(pse36),
		cmocka_unit_test(mode_pae),
		cmocka_unit_test(mode_4level),
		cmocka_unit_test(large_pages_in_long_mode),
		cmocka_unit_test(reserved_bits_in_long_mode),
		cmocka_unit_test(mode_5level),
		cmocka_unit_test(rights_are_anded_over_levels),
		cmocka_unit_test(smep),
		cmocka_unit_test(smap),
		cmocka_unit_test(fetch_crosses_pages),
		cmocka_unit_test(fast_fetch),
		cmocka_unit_test(random_walks_agree_with_the_manual),
	};

	return cmocka_run_group_tests_name("guest_walk", tests, NULL, NULL);
}
