/* SPDX-License-Identifier: MIT */
/*
 * Identity maps whose leaves carry memory types: the range is cut into stretches of one type, each mapped as a whole.
 * Pure logic on second-stage tables; the type comes from the back end (struct backend).
 */
#ifndef CORE_MEMORY_TYPES_H
#define CORE_MEMORY_TYPES_H

#include <trivet/second_stage.h>

/* As backend->memory_type. */
typedef unsigned int (*memory_type_fn)(uint64_t start, uint64_t *end);

/* Maps [start, end) to itself, all rights. Errors as ss_map(); what comes before the failing stretch stays mapped. */
int memory_types_map(struct second_stage *ss, uint64_t start, uint64_t end, memory_type_fn type);

/*
 * Gives what is mapped to itself the types of today. Holes stay holes, rights stay, and entries that are right aren't
 * touched. -ENOMEM: the stretches that would have needed tables keep their old types, all others have the new ones.
 */
int memory_types_refresh(struct second_stage *ss, memory_type_fn type);

#endif
