/* SPDX-License-Identifier: MIT */
/*
 * What the loader finds out about the machine for the hypervisor: tables, screen, serial port,
 * processors.
 */
#ifndef TRIVET_BOOT_MACHINE_H
#define TRIVET_BOOT_MACHINE_H

#include "config.h"
#include "efi_api.h"

#include <trivet/boot_handoff.h>

struct machine {
	uint64_t rsdp_hpa; /* 0: none */
	struct boot_framebuffer framebuffer;
	uint16_t log_port; /* 0: none */
	uint16_t log_port_shared;
	uint32_t processor_count;
};

/*
 * Fill `machine`; what can't be found out stays 0 (1 for the processors). Says when a chosen log
 * port is absent.
 */
void machine_collect(struct machine *machine, const struct boot_config *config);

#endif
