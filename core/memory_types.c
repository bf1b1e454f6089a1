/* SPDX-License-Identifier: MIT */
/* Identity maps whose leaves carry memory types: see memory_types.h. */
#include "memory_types.h"

int memory_types_map(struct second_stage *ss, uint64_t start, uint64_t end, memory_type_fn type)
{
	int err = 0;

	while (start < end && !err) {
		uint64_t stop = end;
		unsigned int stretch_type = type(start, &stop);

		err = ss_map(ss, GPA(start), HPA(start), stop - start, SS_RWX, stretch_type);
		start = stop;
	}
	return err;
}

/* Where the page or hole that `gpa` lies in ends, and whether it is a page mapped to itself. */
static bool page_at(const struct second_stage *ss, uint64_t gpa, uint64_t *end, unsigned int *perm)
{
	struct ss_mapping mapping;
	bool mapped = ss_lookup(ss, GPA(gpa), &mapping);

	*end = ALIGN_DOWN(gpa, mapping.page_size) + mapping.page_size;
	if (!mapped || mapping.hpa.v != gpa)
		return false;
	*perm = mapping.perm;
	return true;
}

int memory_types_refresh(struct second_stage *ss, memory_type_fn type)
{
	uint64_t start = 0, end, page_end;
	unsigned int perm, next_perm;
	int err = 0;

	for (; start < BIT(SS_GPA_BITS); start = end) {
		uint64_t stretch_end = BIT(SS_GPA_BITS);
		unsigned int stretch_type;
		int stretch_err;

		if (!page_at(ss, start, &end, &perm))
			continue;
		stretch_type = type(start, &stretch_end);
		while (end < stretch_end && page_at(ss, end, &page_end, &next_perm) && next_perm == perm)
			end = page_end;
		if (end > stretch_end)
			end = stretch_end;
		stretch_err = ss_map(ss, GPA(start), HPA(start), end - start, perm, stretch_type);
		err = err ? err : stretch_err;
	}
	return err;
}
