/* SPDX-License-Identifier: MIT */
/* Exception vectors by name, APM2 8.2. */
#ifndef TRIVET_EXCEPTIONS_H
#define TRIVET_EXCEPTIONS_H

#define VECTOR_DB 1
#define VECTOR_NMI 2
#define VECTOR_UD 6
#define VECTOR_DF 8
#define VECTOR_TS 10
#define VECTOR_NP 11
#define VECTOR_SS 12
#define VECTOR_GP 13
#define VECTOR_PF 14
#define VECTOR_MC 18

#endif
