/* SPDX-License-Identifier: MIT */
/*
 * EFI_MP_SERVICES_PROTOCOL (PI 1.8 vol. 2, 13.4). Only its tables are read: it is never asked to run anything on
 * another processor, as that wakes all of them.
 */
#include "processors.h"

/* PI 1.8 vol. 2, 13.4.2.2: StatusFlag. Whether it is healthy is the firmware's self-test, and often not filled in. */
#define PROCESSOR_ENABLED BIT(1)

static struct mp_services *find_services(UINTN *all)
{
	EFI_GUID guid = MP_SERVICES_GUID;
	struct mp_services *services;
	UINTN enabled;

	if (EFI_ERROR(efi_boot->LocateProtocol(&guid, NULL, (VOID **)&services)) ||
	    EFI_ERROR(services->get_number_of_processors(services, all, &enabled)) || *all < 1 ||
	    *all > UINT32_MAX)
		return NULL;
	return services;
}

uint32_t processors_count(void)
{
	UINTN all;

	return find_services(&all) ? (uint32_t)all : 1;
}

uint32_t processors_list(uint32_t *apic_ids, uint32_t capacity)
{
	UINTN all;
	struct mp_services *services = find_services(&all);
	uint32_t count = 0;

	for (UINTN i = 0; services && i < all && count < capacity; i++) {
		struct processor_information info = { 0 };

		if (EFI_ERROR(services->get_processor_info(services, i, &info)) ||
		    !(info.status & PROCESSOR_ENABLED) || info.id > UINT32_MAX)
			continue;
		apic_ids[count++] = (uint32_t)info.id;
	}
	return count;
}
