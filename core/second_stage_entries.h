/* SPDX-License-Identifier: MIT */
/* Entries of second-stage tables: what the two files that know them share. */
#ifndef CORE_SECOND_STAGE_ENTRIES_H
#define CORE_SECOND_STAGE_ENTRIES_H

#include <trivet/second_stage.h>

#define ENTRIES 512u
#define TOP_LEVEL 4u

static inline uint64_t level_size(unsigned level)
{
	return PAGE_SIZE << (9 * (level - 1));
}

static inline bool is_present(const struct ss_format *f, uint64_t entry)
{
	return entry & f->present_mask;
}

static inline bool is_leaf(const struct ss_format *f, uint64_t entry, unsigned level)
{
	return is_present(f, entry) && (level == 1 || (entry & f->large_bit));
}

static inline bool is_table(const struct ss_format *f, uint64_t entry, unsigned level)
{
	return is_present(f, entry) && !is_leaf(f, entry, level);
}

static inline uint64_t load_entry(const uint64_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static inline uint64_t *table_of(const struct ss_format *f, uint64_t entry)
{
	return hv_phys_to_virt(HPA(entry & f->addr_mask));
}

/* Leaves of 4 KiB in the place of the larger one that maps `gpa`. 0, -ENOMEM. */
int ss_split_leaf(struct second_stage *ss, uint64_t gpa);

#endif
