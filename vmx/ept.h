/* SPDX-License-Identifier: MIT */
/* The entry format of Intel extended page tables, for core's second-stage tables. */
#ifndef TRIVET_VMX_EPT_H
#define TRIVET_VMX_EPT_H

#include <trivet/second_stage.h>

extern const struct ss_format ss_format_ept;

#endif
