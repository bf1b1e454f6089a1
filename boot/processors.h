/* SPDX-License-Identifier: MIT */
/*
 * The processors as the firmware's MP services know them: what is left to ask on a machine without ACPI tables.
 */
#ifndef TRIVET_BOOT_PROCESSORS_H
#define TRIVET_BOOT_PROCESSORS_H

#include "efi_api.h"

/* Processors of the machine, enabled or not; 1 when the firmware has no MP services. */
uint32_t processors_count(void);

/*
 * Writes the local APIC ids of the enabled processors, in the firmware's order, at most `capacity`. Returns how many;
 * 0 when the firmware has no MP services.
 */
uint32_t processors_list(uint32_t *apic_ids, uint32_t capacity);

#endif
