/* SPDX-License-Identifier: MIT */
/* Resets the machine: the FADT's reset register, then the ways PCs have had before (ACPI 6.5 4.8.3.6). */
#include "reset.h"
#include <trivet/acpi.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/backend.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

static struct acpi_register reset_register;
static uint8_t reset_value;

void reset_init(const struct acpi_fadt *fadt)
{
	reset_register = fadt->reset;
	reset_value = fadt->reset_value;
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

_Noreturn void vp_shutdown(struct vp *vp)
{
	log_vp_error(vp->partition->id, vp->index,
		     "shutdown (triple fault) near rip 0x%llx: resetting the machine",
		     (unsigned long long)backend->rip(vp));
	vp_log_history(vp);
	machine_reset();
}
