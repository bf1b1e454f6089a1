/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: interprocessor interrupts. What an ICR write means, which of them the APIC refuses,
 * and which APICs a destination names (SDM3 11.6, 11.12.9-10; APM2 16.5, 16.11).
 */
#include "apic_internal.h"

#include <errno.h>

#define ICR_BUSY BIT(12)
#define ICR_LEVEL BIT(14)
#define ICR_TRIGGER BIT(15)
#define ICR_LOGICAL BIT(11)
#define ICR_X2_RESERVED 0xfff32000ull
#define ICR_XAPIC_BITS 0xff000000000ccfffull

/* Which modes may be sent how (SDM3 table 11-3): a shorthand that includes the sender is for fixed only. */
static bool sendable(unsigned int mode, unsigned int shorthand)
{
	switch (mode) {
	case APIC_MODE_FIXED:
		return true;
	case APIC_MODE_LOWEST:
	case APIC_MODE_SMI:
	case APIC_MODE_NMI:
	case APIC_MODE_INIT:
	case APIC_MODE_SIPI:
		return shorthand == APIC_DEST_FIELD || shorthand == APIC_DEST_OTHERS;
	default:
		return false;
	}
}

static void send(struct apic *apic, uint32_t low, uint32_t dest)
{
	unsigned int mode = (low >> 8) & 7, shorthand = (low >> 18) & 3;
	struct apic_ipi ipi = {
		.dest = shorthand == APIC_DEST_FIELD ? dest : 0,
		.mode = (uint8_t)mode,
		.vector = (uint8_t)low,
		.shorthand = (uint8_t)shorthand,
		.logical = (low & ICR_LOGICAL) != 0,
		.from_x2apic = apic->x2,
		.level = (low & ICR_LEVEL) != 0,
		.trigger = (low & ICR_TRIGGER) != 0,
	};

	if (unlikely(!sendable(mode, shorthand)))
		return;
	if (mode <= APIC_MODE_LOWEST && unlikely(ipi.vector < APIC_FIRST_VECTOR)) {
		apic_error(apic, APIC_ESR_SEND_ILLEGAL);
		return;
	}
	/* INIT level de-assert once synchronised arbitration ids; since the Pentium 4 it does nothing. */
	if (mode == APIC_MODE_INIT && ipi.trigger && !ipi.level)
		return;
	if (shorthand == APIC_DEST_SELF)
		apic_accept(apic, ipi.vector, false);
	else
		apic_host_send_ipi(apic, &ipi);
}

int apic_icr_write(struct apic *apic, uint64_t value)
{
	uint32_t dest;

	if (likely(apic->x2)) {
		if (value & ICR_X2_RESERVED)
			return -EINVAL;
		dest = (uint32_t)(value >> 32);
	} else {
		value &= ICR_XAPIC_BITS;
		dest = (uint32_t)(value >> 56);
	}
	/* delivery status: sending is done before the guest can look */
	value &= ~ICR_BUSY;
	apic->icr = value;
	send(apic, (uint32_t)value, dest);
	return 0;
}

uint32_t apic_id(const struct apic *apic)
{
	uint64_t base = __atomic_load_n(&apic->base, __ATOMIC_RELAXED);

	return base & APIC_BASE_X2 ? apic->config.apic_id : apic->config.apic_id & 0xff;
}

/* x2APIC: 16 ids make a cluster, one bit each (SDM3 11.12.10.2). */
static uint32_t x2_logical_id(const struct apic *apic)
{
	return (apic->config.apic_id >> 4) << 16 | 1u << (apic->config.apic_id & 15);
}

uint32_t apic_logical_id(const struct apic *apic)
{
	uint64_t base = __atomic_load_n(&apic->base, __ATOMIC_RELAXED);

	if (base & APIC_BASE_X2)
		return x2_logical_id(apic);
	return __atomic_load_n(&apic->ldr, __ATOMIC_RELAXED) >> 24;
}

static bool matches_logical_xapic(const struct apic *apic, uint32_t dest)
{
	uint32_t own = __atomic_load_n(&apic->ldr, __ATOMIC_RELAXED) >> 24;

	if (dest > 0xff)
		return false;
	switch (__atomic_load_n(&apic->dfr, __ATOMIC_RELAXED) >> 28) {
	case 0xf: /* flat: eight bits, one per APIC */
		return (own & dest) != 0;
	case 0x0: /* cluster: number in the high nibble, members in the low one */
		return (own & 0xf0) == (dest & 0xf0) && (own & dest & 0x0f);
	default:
		return false;
	}
}

bool apic_matches(const struct apic *apic, uint32_t dest, bool logical, bool from_x2apic)
{
	uint64_t base = __atomic_load_n(&apic->base, __ATOMIC_RELAXED);
	bool x2 = base & APIC_BASE_X2;

	if (!(base & APIC_BASE_EN))
		return false;
	if (dest == (from_x2apic ? UINT32_MAX : 0xffu))
		return true;
	if (!logical)
		return dest == (x2 ? apic->config.apic_id : apic->config.apic_id & 0xff);
	if (!x2)
		return matches_logical_xapic(apic, dest);
	return dest >> 16 == x2_logical_id(apic) >> 16 && (dest & x2_logical_id(apic) & 0xffff);
}
