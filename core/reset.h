/* SPDX-License-Identifier: MIT */
/* How the machine is reset. */
#ifndef CORE_RESET_H
#define CORE_RESET_H

#include <trivet/acpi.h>

/* Remembers the firmware's registers for reset and power-off. */
void reset_init(const struct acpi_fadt *fadt);

_Noreturn void machine_reset(void);

/*
 * Enters S5 with the sleep types of the ACPI name space's \_S5 package, for the first and the second control register. A
 * machine that doesn't go off is reset: the caller counts on not coming back.
 */
_Noreturn void machine_power_off(uint8_t pm1a_slp_typ, uint8_t pm1b_slp_typ);

#endif
