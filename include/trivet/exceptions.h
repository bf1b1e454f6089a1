/* SPDX-License-Identifier: MIT */
/* Exception vectors by name, APM2 8.2, SDM3 6.15. */
#ifndef TRIVET_EXCEPTIONS_H
#define TRIVET_EXCEPTIONS_H

#include <trivet/types.h>

#define VECTOR_DE 0
#define VECTOR_DB 1
#define VECTOR_NMI 2
#define VECTOR_BP 3
#define VECTOR_OF 4
#define VECTOR_UD 6
#define VECTOR_DF 8
#define VECTOR_TS 10
#define VECTOR_NP 11
#define VECTOR_SS 12
#define VECTOR_GP 13
#define VECTOR_PF 14
#define VECTOR_AC 17
#define VECTOR_MC 18
#define VECTOR_CP 21

static inline bool exception_is_contributory(uint8_t vector)
{
	return vector == VECTOR_DE || (vector >= VECTOR_TS && vector <= VECTOR_GP) || vector == VECTOR_CP;
}

/* An exception while another is delivered: do the two make a double fault? (APM2 table 8-5, SDM3 table 6-5) */
static inline bool exceptions_make_double_fault(uint8_t first, uint8_t second)
{
	if (first == VECTOR_PF)
		return second == VECTOR_PF || exception_is_contributory(second);
	return exception_is_contributory(first) && exception_is_contributory(second);
}

/*
 * An exception, `*vector` with its error code, while `first` is delivered: it stays that, or becomes a double fault, which in protected mode has
 * an error code of 0. False: a triple fault.
 */
static inline bool exception_during(uint8_t first, uint8_t *vector, bool *has_error, uint32_t *error,
				    bool protected)
{
	if (first == VECTOR_DF)
		return false;
	if (exceptions_make_double_fault(first, *vector)) {
		*vector = VECTOR_DF;
		*has_error = protected;
		*error = 0;
	}
	return true;
}

#endif
