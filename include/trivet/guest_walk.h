/* SPDX-License-Identifier: MIT */
/*
 * Guest virtual to guest physical by the guest's own page tables, in every paging mode, with the
 * checks that the processor makes. Guest memory is hostile and may change under our hands: each
 * entry is read once, a walk reads at most five.
 *
 * Not done, because a processor did the access already or will do it again: accessed and dirty
 * bits are not set (guest_access.h does), protection keys and shadow-stack pages are not checked.
 * The short cut for the hottest case is in guest_walk_fast.h.
 */
#ifndef TRIVET_GUEST_WALK_H
#define TRIVET_GUEST_WALK_H

#include <trivet/types.h>

#define GUEST_FETCH_MAX 15 /* bytes in the longest instruction */

/* The state that paging depends on. */
struct guest_paging {
	uint64_t cr0;
	uint64_t cr3;
	uint64_t cr4;
	uint64_t efer;
	uint64_t rflags;     /* only AC is looked at */
	unsigned maxphyaddr; /* CPUID 80000008.EAX[7:0]: 32..52 */
	bool gbpages;	     /* CPUID 80000001.EDX[26]: 1 GiB pages */
	/* AMD: bit 8 must be zero in PML5E, PML4E, and a PDPE that points to a table */
	bool nonleaf_global_reserved;
};

/* Kinds of access, or-ed. */
enum guest_access {
	GUEST_READ = 0,
	GUEST_WRITE = 1,
	GUEST_FETCH = 2,
	GUEST_USER = 4, /* made at CPL 3; else it is a supervisor's */
	/* To a descriptor table or TSS: a supervisor's at any CPL, and AC does not lift SMAP */
	GUEST_IMPLICIT = 8,
	GUEST_UNCHECKED = 16, /* check presence and reserved bits, but no permission */
};

/* Page-fault error code, APM2 8.4.2 */
#define PF_PRESENT BIT(0)
#define PF_WRITE BIT(1)
#define PF_USER BIT(2)
#define PF_RESERVED BIT(3)
#define PF_FETCH BIT(4)

struct guest_translation {
	gpa_t gpa;
	uint64_t page_size;  /* of the guest's mapping; 4 KiB without paging */
	uint32_t error_code; /* PF_*, when guest_walk() returned -EFAULT */
};

/* The entries that a walk used, from the root down; without the four top ones of PAE, which know no accessed bit. */
struct guest_path {
	uint32_t count;
	uint32_t entry_bytes; /* 4 or 8 */
	struct {
		gpa_t gpa;
		uint64_t value;
	} entry[5]; /* the last one maps the page */
};

/*
 * Seams: copy guest physical memory of `space`. False if any of it is not readable memory. 64-bit
 * and 32-bit reads are naturally aligned and done by one load. guest_phys_read() never crosses a 4
 * KiB page.
 */
bool guest_phys_read64(void *space, gpa_t gpa, uint64_t *value);
bool guest_phys_read32(void *space, gpa_t gpa, uint32_t *value);
bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size);

/*
 * Translates `gva` (a linear address; outside 64-bit paging only its low 32 bits count) for
 * `access`.
 *  0        `out` holds gpa and page_size
 *  -EFAULT  the guest gets #PF with out->error_code
 *  -EINVAL  not canonical: the guest gets #GP or #SS
 *  -EIO     a table lies where no memory is readable
 */
int guest_walk(const struct guest_paging *paging, void *space, gva_t gva, unsigned access,
	       struct guest_translation *out);

/* The same, and notes in `path` what it went through; meaningful when it returns 0. */
int guest_walk_path(const struct guest_paging *paging, void *space, gva_t gva, unsigned access,
		    struct guest_translation *out, struct guest_path *path);

/*
 * Reads up to `size` (at most GUEST_FETCH_MAX) instruction bytes at linear address `gva`, over a
 * page boundary if need be, without permission checks: the processor is executing there. Returns
 * the number of bytes read, fewer than `size` where the second page can't be read, 0 if none can.
 */
size_t guest_fetch(const struct guest_paging *paging, void *space, gva_t gva, void *buf, size_t size);

#endif
