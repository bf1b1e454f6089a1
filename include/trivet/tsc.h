/* SPDX-License-Identifier: MIT */
/*
 * How fast the TSC and the local APIC timer tick, measured once on the boot LP against CPUID, the ACPI PM timer or the
 * PIT. Under an emulator the host may stop us between two reads, so each end of a measurement is a reading of all
 * clocks between two TSC reads, tried several times; the narrowest counts.
 */
#ifndef TRIVET_TSC_H
#define TRIVET_TSC_H

#include <trivet/lapic.h>
#include <trivet/types.h>

enum tsc_source {
	TSC_SOURCE_CPUID = 1, /* leaf 0x15, with 0x16 where the crystal's frequency is missing */
	TSC_SOURCE_PM_TIMER = 2,
	TSC_SOURCE_PIT = 3,
};

struct tsc_info {
	uint64_t tsc_hz;
	uint64_t apic_timer_hz; /* of the local APIC timer divided by 1; 0 when it was not measured */
	uint32_t error_ppm;	/* bound on the error of what was measured */
	uint32_t source;	/* enum tsc_source */
};

/*
 * Takes some 10 ms, at most about 25. `l` is this LP's enabled APIC or NULL (its timer is not measured); its timer
 * registers are given back as they were, a running count is restarted. `pm_timer_port` 0: there is none.
 * -ENODEV: no clock to compare with works.
 */
int tsc_calibrate(const struct lapic *l, uint16_t pm_timer_port, bool pm_timer_32bit, struct tsc_info *info);

/* A word for the log: "cpuid", "pm timer", "pit". */
const char *tsc_source_name(uint32_t source);

#endif
