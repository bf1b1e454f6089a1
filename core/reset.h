/* SPDX-License-Identifier: MIT */
/* How the machine is reset. */
#ifndef CORE_RESET_H
#define CORE_RESET_H

#include <trivet/acpi.h>

/* Remembers the firmware's reset register. */
void reset_init(const struct acpi_fadt *fadt);

_Noreturn void machine_reset(void);

#endif
