/* SPDX-License-Identifier: MIT */
/* The entry format of AMD nested page tables, for core's second-stage tables. */
#ifndef TRIVET_SVM_NPT_H
#define TRIVET_SVM_NPT_H

#include <trivet/second_stage.h>

extern const struct ss_format ss_format_npt;

#endif
