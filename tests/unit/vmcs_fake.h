/* SPDX-License-Identifier: MIT */
/* A VMCS that is an array, for tests of vmx/. */
#ifndef TESTS_UNIT_VMCS_FAKE_H
#define TESTS_UNIT_VMCS_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include <trivet/types.h>

#define VMCS_FIELDS 0x7000

static uint64_t vmcs[VMCS_FIELDS];
static unsigned int vmcs_reads, vmcs_writes;

uint64_t vmread(uint32_t field)
{
	assert_true(field < VMCS_FIELDS);
	vmcs_reads++;
	return vmcs[field];
}

void vmwrite(uint32_t field, uint64_t value)
{
	assert_true(field < VMCS_FIELDS);
	vmcs[field] = value;
	vmcs_writes++;
}

#endif
