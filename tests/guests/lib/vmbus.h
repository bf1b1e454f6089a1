/* SPDX-License-Identifier: MIT */
/* A guest of mshv-vmbus: what it asks its monitor, and counts of what came. */
#ifndef GUEST_VMBUS_H
#define GUEST_VMBUS_H

#include "hv.h"
#include "tests/vmm/vmbus.h"

static uint32_t seen[256];

static inline uint32_t ask(enum vmbus_command command, uint32_t argument)
{
	outl(VMBUS_PORT, (uint32_t)command << VMBUS_COMMAND_SHIFT | argument);
	return inl(VMBUS_PORT);
}

/* How often it came since it was asked last; what is pending comes now. */
static inline uint32_t came(uint8_t vector)
{
	uint32_t count, before = seen[vector];

	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
	count = vector_count[0][vector];
	seen[vector] = count;
	return count - before;
}

#endif
