/* SPDX-License-Identifier: MIT */
/* Tables of the firmware that a root with the hypervisor's interface must not act on. */
#ifndef CORE_ACPI_HIDE_H
#define CORE_ACPI_HIDE_H

#include <trivet/types.h>

/*
 * Renames the tables of IOMMUs (DMAR, IVRS): a root would drive them, translate its devices' memory accesses behind the
 * hypervisor's back, and remap interrupts that it is to map by hypercall. Once, before the root goes on. Returns how
 * many.
 */
unsigned int acpi_hide_iommus(hpa_t rsdp);

#endif
