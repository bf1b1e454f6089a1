/* SPDX-License-Identifier: MIT */
/*
 * Hides ACPI tables by renaming them where they lie: one byte of the signature and the checksum change, so that no list
 * of tables has to be shortened. What the firmware or the root adds later doesn't bring them back.
 */
#include "acpi_hide.h"
#include <errno.h>
#include <string.h>
#include <trivet/acpi.h>
#include <trivet/log.h>

#define CHECKSUM 9u
#define TABLES_MAX 16u /* of one kind; a list that seems to have more is broken */

/* The mapping is the hypervisor's own window on RAM, which can be written. */
static void rename_table(const struct acpi_table *table)
{
	uint8_t *p = (uint8_t *)(uintptr_t)table->data;

	p[CHECKSUM] = (uint8_t)(p[CHECKSUM] + p[0] - 'X');
	p[0] = 'X';
}

unsigned int acpi_hide_iommus(hpa_t rsdp)
{
	static const char *const signatures[] = { "DMAR", "IVRS" };
	unsigned int hidden = 0;

	for (size_t i = 0; rsdp.v && i < ARRAY_SIZE(signatures); i++) {
		struct acpi_table table;
		int err = 0;

		for (unsigned int n = 0; n < TABLES_MAX && !err; n++) {
			err = acpi_find_table(rsdp, signatures[i], &table);
			if (err)
				break;
			rename_table(&table);
			hidden++;
			log_info("root: ACPI table %s hidden", signatures[i]);
		}
		if (err && err != -ENOENT)
			log_warn("root: looking for ACPI table %s failed (error %d): it may be seen",
				 signatures[i], err);
	}
	return hidden;
}
