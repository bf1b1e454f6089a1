/* SPDX-License-Identifier: MIT */
/*
 * Resets the machine, or powers it off: the FADT's reset register, then the ways PCs have had before (ACPI 6.5 4.8.3.6).
 */
#include "reset.h"
#include <trivet/acpi.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/backend.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define PM1_SLP_TYP_SHIFT 10 /* ACPI 6.5 4.8.3.2.1 */
#define PM1_SLP_TYP_MASK (7u << PM1_SLP_TYP_SHIFT)
#define PM1_SLP_EN (1u << 13)
#define SLEEP_CONTROL_TYP_SHIFT 2 /* 4.8.3.7 */
#define SLEEP_CONTROL_EN (1u << 5)

static struct acpi_register reset_register, pm1a_control, pm1b_control, sleep_control;
static uint8_t reset_value;

void reset_init(const struct acpi_fadt *fadt)
{
	reset_register = fadt->reset;
	reset_value = fadt->reset_value;
	pm1a_control = fadt->pm1a_control;
	pm1b_control = fadt->pm1b_control;
	sleep_control = fadt->sleep_control;
}

static void pause_for_reset(void)
{
	for (uint32_t i = 0; i < 1000000; i++)
		cpu_relax();
}

_Noreturn void machine_reset(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) no_idt = { 0, 0 };

	if (reset_register.address && reset_register.space == ACPI_SPACE_IO) {
		out8((uint16_t)reset_register.address, reset_value);
		pause_for_reset();
	} else if (reset_register.address && reset_register.space == ACPI_SPACE_MEMORY) {
		volatile uint8_t *reg = host_map_mmio(HPA(reset_register.address), 1);

		if (reg)
			*reg = reset_value;
		pause_for_reset();
	}
	out8(0xcf9, 0x02); /* reset control register: hard reset */
	out8(0xcf9, 0x06);
	pause_for_reset();
	out8(0x64, 0xfe); /* keyboard controller: pulse the reset line */
	pause_for_reset();
	__asm__ volatile("lidt %0; ud2" ::"m"(no_idt));
	__builtin_unreachable();
}

/* Read, or write when `value` isn't negative, 16 bits of a PM1 control register. */
static uint16_t pm1_access(const struct acpi_register *reg, int32_t value)
{
	volatile uint16_t *mapped;

	if (reg->space == ACPI_SPACE_IO && value < 0)
		return in16((uint16_t)reg->address);
	if (reg->space == ACPI_SPACE_IO) {
		out16((uint16_t)reg->address, (uint16_t)value);
		return 0;
	}
	mapped = reg->space == ACPI_SPACE_MEMORY ? host_map_mmio(HPA(reg->address), 2) : NULL;
	if (mapped && value >= 0)
		*mapped = (uint16_t)value;
	return mapped && value < 0 ? *mapped : 0;
}

/* First the types of both registers, then both enable bits: the machine is one (4.8.3.2.1). */
static void pm1_sleep(const struct acpi_register *reg, uint8_t type, bool enable)
{
	uint32_t value;

	if (!reg->address)
		return;
	value = pm1_access(reg, -1) & ~(PM1_SLP_TYP_MASK | PM1_SLP_EN);
	value |= (uint32_t)type << PM1_SLP_TYP_SHIFT | (enable ? PM1_SLP_EN : 0u);
	pm1_access(reg, (int32_t)value);
}

_Noreturn void machine_power_off(uint8_t pm1a_slp_typ, uint8_t pm1b_slp_typ)
{
	uint8_t control = (uint8_t)((uint32_t)pm1a_slp_typ << SLEEP_CONTROL_TYP_SHIFT | SLEEP_CONTROL_EN);

	__asm__ volatile("wbinvd" ::: "memory");
	for (unsigned int enable = 0; enable < 2; enable++) {
		pm1_sleep(&pm1a_control, pm1a_slp_typ, enable);
		pm1_sleep(&pm1b_control, pm1b_slp_typ, enable);
	}
	if (sleep_control.address && sleep_control.space == ACPI_SPACE_IO) {
		out8((uint16_t)sleep_control.address, control);
	} else if (sleep_control.address && sleep_control.space == ACPI_SPACE_MEMORY) {
		volatile uint8_t *reg = host_map_mmio(HPA(sleep_control.address), 1);

		if (reg)
			*reg = control;
	}
	pause_for_reset();
	log_error("the machine doesn't power off: resetting it");
	machine_reset();
}

_Noreturn void vp_shutdown(struct vp *vp)
{
	log_vp_error(vp->partition->id, vp->index,
		     "shutdown (triple fault) near rip 0x%llx: resetting the machine",
		     (unsigned long long)backend->rip(vp));
	vp_log_state(vp);
	vp_log_history(vp);
	machine_reset();
}
