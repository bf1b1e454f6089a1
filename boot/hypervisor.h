/* SPDX-License-Identifier: MIT */
/*
 * Bringing the embedded hypervisor up underneath the running loader.
 */
#ifndef TRIVET_BOOT_HYPERVISOR_H
#define TRIVET_BOOT_HYPERVISOR_H

#include "config.h"
#include "machine.h"

/*
 * True when this loader already started the hypervisor since power-on (say from a Driver####
 * entry).
 */
bool hypervisor_is_running(void);

/*
 * Start the hypervisor in place. 0: the caller now runs as the root partition's VP 0. A negative
 * errno: it runs natively as before, everything allocated is freed again and `why` (NUL terminated)
 * says what was wrong.
 */
int hypervisor_start(const struct boot_config *config, const struct machine *machine, uint64_t tsc_at_entry,
		     char *why, size_t why_size);

#endif
