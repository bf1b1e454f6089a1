/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: guest accesses. One table of registers seen through two windows, the xAPIC page and the
 * x2APIC MSRs, which differ in a few registers and in what a bad access does: in the page it sets an error
 * bit or nothing, by MSR it faults (SDM3 11.4.1, 11.12.1; APM2 16.3, 16.11).
 */
#include "apic_internal.h"

#include <errno.h>

#define OFFSET_MASK 0xff0u
#define ICR_HIGH_WRITABLE 0xff000000u
#define SVR_DEFINED 0x3ffu
#define DIVIDE_DEFINED 0xbu

/* The LVT entry behind a register; APIC_LVT_COUNT: not one, or not in this APIC. */
static enum apic_lvt lvt_of(const struct apic *apic, uint32_t reg)
{
	enum apic_lvt which;

	switch (reg) {
	case APIC_REG_LVT_CMCI:
		which = APIC_LVT_CMCI;
		break;
	case APIC_REG_LVT_TIMER:
		which = APIC_LVT_TIMER;
		break;
	case APIC_REG_LVT_THERMAL:
		which = APIC_LVT_THERMAL;
		break;
	case APIC_REG_LVT_PMC:
		which = APIC_LVT_PMC;
		break;
	case APIC_REG_LVT_LINT0:
		which = APIC_LVT_LINT0;
		break;
	case APIC_REG_LVT_LINT1:
		which = APIC_LVT_LINT1;
		break;
	case APIC_REG_LVT_ERROR:
		which = APIC_LVT_ERROR;
		break;
	default:
		return APIC_LVT_COUNT;
	}
	return apic_lvt_exists(apic, which) ? which : APIC_LVT_COUNT;
}

/* Registers that read alike through both windows. -ENOENT: there is none. */
static int read_common(struct apic *apic, uint32_t reg, uint64_t *value)
{
	switch (reg) {
	case APIC_REG_VERSION:
		*value = apic->config.version | (uint32_t)apic->config.max_lvt << 16;
		return 0;
	case APIC_REG_TPR:
		*value = apic->tpr;
		return 0;
	case APIC_REG_PPR:
		apic_note_lazy_eoi(apic);
		*value = apic->ppr;
		return 0;
	case APIC_REG_SVR:
		*value = apic->svr;
		return 0;
	case APIC_REG_ISR ... APIC_REG_IRR + 0x70:
		apic_note_lazy_eoi(apic);
		*value = apic->page->reg[reg >> 4].value;
		if (apic->config.hides_level && reg >= APIC_REG_TMR && reg < APIC_REG_IRR)
			*value = 0;
		return 0;
	case APIC_REG_ESR:
		*value = apic->esr;
		return 0;
	case APIC_REG_TIMER_INITIAL:
		*value = apic->timer.initial;
		return 0;
	case APIC_REG_TIMER_CURRENT:
		*value = apic_timer_current(apic, apic_host_now_tsc(apic));
		return 0;
	case APIC_REG_TIMER_DIVIDE:
		*value = apic->timer.divide;
		return 0;
	default:
		if (lvt_of(apic, reg) == APIC_LVT_COUNT)
			return -ENOENT;
		*value = apic->lvt[lvt_of(apic, reg)];
		return 0;
	}
}

static void write_lvt(struct apic *apic, enum apic_lvt which, uint32_t value)
{
	value &= apic_lvt_writable(apic, which);
	if (!(apic->svr & APIC_SVR_ENABLE))
		value |= (uint32_t)APIC_LVT_MASKED;
	if (which == APIC_LVT_TIMER) {
		apic_timer_write_lvt(apic, value);
		return;
	}
	apic->lvt[which] = value;
	if (which != APIC_LVT_ERROR)
		apic_host_lvt_changed(apic, which, value);
}

/* The guest reads the errors since the previous write; this write re-arms LVT error (SDM3 11.5.3). */
static void latch_esr(struct apic *apic)
{
	apic->esr = apic->esr_pending;
	apic->esr_pending = 0;
}

/* Registers that write alike through both windows, reserved bits already dealt with. */
static int write_common(struct apic *apic, uint32_t reg, uint32_t value)
{
	switch (reg) {
	case APIC_REG_EOI:
		apic_eoi(apic);
		return 0;
	case APIC_REG_TPR:
		apic_set_tpr(apic, (uint8_t)value);
		return 0;
	case APIC_REG_SVR:
		apic_svr_write(apic, value);
		return 0;
	case APIC_REG_ESR:
		latch_esr(apic);
		return 0;
	case APIC_REG_TIMER_INITIAL:
		apic_timer_write_initial(apic, value);
		return 0;
	case APIC_REG_TIMER_DIVIDE:
		apic_timer_write_divide(apic, value);
		return 0;
	default:
		if (lvt_of(apic, reg) == APIC_LVT_COUNT)
			return -ENOENT;
		write_lvt(apic, lvt_of(apic, reg), value);
		return 0;
	}
}

/* ---- xAPIC page ---- */

static int page_read(struct apic *apic, uint32_t reg, uint64_t *value)
{
	switch (reg) {
	case APIC_REG_ID:
		*value = (uint64_t)apic_id(apic) << 24;
		return 0;
	case APIC_REG_LDR:
		*value = apic->ldr;
		return 0;
	case APIC_REG_DFR:
		*value = apic->dfr;
		return 0;
	case APIC_REG_ICR:
		*value = (uint32_t)apic->icr;
		return 0;
	case APIC_REG_ICR_HIGH:
		*value = apic->icr >> 32;
		return 0;
	case APIC_REG_APR:
	case APIC_REG_RRD:
	case APIC_REG_EOI:
		return 0;
	default:
		return read_common(apic, reg, value);
	}
}

static int page_write(struct apic *apic, uint32_t reg, uint32_t value)
{
	uint64_t old;

	switch (reg) {
	case APIC_REG_ICR:
		return apic_icr_write(apic, (apic->icr & ~(uint64_t)UINT32_MAX) | value);
	case APIC_REG_ICR_HIGH:
		apic->icr = (uint64_t)(value & ICR_HIGH_WRITABLE) << 32 | (uint32_t)apic->icr;
		return 0;
	case APIC_REG_LDR:
		__atomic_store_n(&apic->ldr, value & LDR_WRITABLE, __ATOMIC_RELAXED);
		apic_host_mode_changed(apic);
		return 0;
	case APIC_REG_DFR:
		__atomic_store_n(&apic->dfr, value | DFR_ONES, __ATOMIC_RELAXED);
		apic_host_mode_changed(apic);
		return 0;
	default:
		/* a register that can only be read ignores the write */
		if (write_common(apic, reg, value) == 0)
			return 0;
		return page_read(apic, reg, &old);
	}
}

/* A write of the register may have changed these. The others are up to date, or are hardware's. */
static void publish_written(struct apic *apic, uint32_t reg)
{
	if (likely(!apic->config.page_read) || reg == APIC_REG_EOI || reg == APIC_REG_TPR)
		return;
	apic_publish_register(apic, reg);
	if (reg == APIC_REG_LVT_TIMER)
		apic_publish_register(apic, APIC_REG_TIMER_INITIAL);
}

static bool page_answers(const struct apic *apic)
{
	return (apic->base & APIC_BASE_EN) && !apic->x2;
}

static bool size_valid(uint32_t offset, unsigned int size)
{
	return (size == 1 || size == 2 || size == 4 || size == 8) && offset + size <= PAGE_SIZE &&
	       offset < PAGE_SIZE;
}

int apic_mmio_read(struct apic *apic, uint32_t offset, unsigned int size, uint64_t *value)
{
	uint32_t skip = offset & ~OFFSET_MASK;
	uint64_t reg = 0;

	if (!size_valid(offset, size))
		return -EINVAL;
	if (!page_answers(apic))
		return -ENODEV;
	*value = 0;
	if (skip >= 4)
		return 0;
	if (page_read(apic, offset & OFFSET_MASK, &reg) == -ENOENT)
		apic_error(apic, APIC_ESR_ILLEGAL_REG);
	reg >>= skip * 8;
	*value = size < 4 ? reg & (BIT(size * 8) - 1) : reg;
	return 0;
}

int apic_mmio_write(struct apic *apic, uint32_t offset, unsigned int size, uint64_t value)
{
	if (!size_valid(offset, size))
		return -EINVAL;
	if (!page_answers(apic))
		return -ENODEV;
	if (size != 4 || (offset & ~OFFSET_MASK))
		return 0;
	if (page_write(apic, offset, (uint32_t)value) == -ENOENT)
		apic_error(apic, APIC_ESR_ILLEGAL_REG);
	publish_written(apic, offset);
	return 0;
}

/* ---- x2APIC MSRs ---- */

static uint32_t msr_reg(uint32_t msr)
{
	return (msr - APIC_MSR_X2_FIRST) << 4;
}

int apic_msr_read(struct apic *apic, uint32_t msr, uint64_t *value)
{
	uint64_t v = 0;

	if (msr < APIC_MSR_X2_FIRST || msr > APIC_MSR_X2_LAST || !apic->x2)
		return -EINVAL;
	switch (msr_reg(msr)) {
	case APIC_REG_ID:
		v = apic->config.apic_id;
		break;
	case APIC_REG_LDR:
		v = apic_logical_id(apic);
		break;
	case APIC_REG_ICR:
		v = apic->icr;
		break;
	case APIC_REG_APR:
	case APIC_REG_RRD:
		if (!apic->config.arb_regs)
			return -EINVAL;
		break;
	default:
		if (read_common(apic, msr_reg(msr), &v))
			return -EINVAL;
	}
	*value = v;
	return 0;
}

/* Bits that fault when set. Registers that do not exist or cannot be written: all, zero included. */
static bool msr_write_allowed(const struct apic *apic, uint32_t reg, uint64_t value)
{
	enum apic_lvt which;

	switch (reg) {
	case APIC_REG_EOI:
	case APIC_REG_ESR:
		return value == 0;
	case APIC_REG_TPR:
	case APIC_REG_SELF_IPI:
		return value <= 0xff;
	case APIC_REG_SVR:
		return !(value & ~(uint64_t)SVR_DEFINED);
	case APIC_REG_TIMER_INITIAL:
		return value <= UINT32_MAX;
	case APIC_REG_TIMER_DIVIDE:
		return !(value & ~(uint64_t)DIVIDE_DEFINED);
	default:
		which = lvt_of(apic, reg);
		if (which == APIC_LVT_COUNT || (value & ~(uint64_t)apic_lvt_defined(apic, which)))
			return false;
		/* timer mode 3 is reserved */
		return which != APIC_LVT_TIMER || ((value >> APIC_LVT_TIMER_MODE_SHIFT) & 3) != 3;
	}
}

int apic_msr_write(struct apic *apic, uint32_t msr, uint64_t value)
{
	if (msr < APIC_MSR_X2_FIRST || msr > APIC_MSR_X2_LAST || unlikely(!apic->x2))
		return -EINVAL;
	if (msr == APIC_MSR_ICR)
		return apic_icr_write(apic, value);
	if (msr == APIC_MSR_EOI && value == 0) {
		apic_eoi(apic);
		return 0;
	}
	if (!msr_write_allowed(apic, msr_reg(msr), value))
		return -EINVAL;
	if (msr_reg(msr) != APIC_REG_SELF_IPI) {
		int err = write_common(apic, msr_reg(msr), (uint32_t)value);

		publish_written(apic, msr_reg(msr));
		return err;
	}
	if (value < APIC_FIRST_VECTOR)
		apic_error(apic, APIC_ESR_SEND_ILLEGAL);
	else
		apic_accept(apic, (uint8_t)value, false);
	return 0;
}

/* ---- The page that a processor works on ---- */

/* What reads may be answered from (SDM3 30.4.2), but for what apic.c keeps there anyway. */
static const uint16_t published[] = {
	APIC_REG_ID,	    APIC_REG_VERSION,	    APIC_REG_TPR,
	APIC_REG_LDR,	    APIC_REG_DFR,	    APIC_REG_SVR,
	APIC_REG_ESR,	    APIC_REG_ICR,	    APIC_REG_ICR_HIGH,
	APIC_REG_LVT_CMCI,  APIC_REG_LVT_TIMER,	    APIC_REG_LVT_THERMAL,
	APIC_REG_LVT_PMC,   APIC_REG_LVT_LINT0,	    APIC_REG_LVT_LINT1,
	APIC_REG_LVT_ERROR, APIC_REG_TIMER_INITIAL, APIC_REG_TIMER_DIVIDE,
};

void apic_publish_register(struct apic *apic, uint32_t reg)
{
	struct apic_page_register *shown = &apic->page->reg[reg >> 4];
	uint64_t value = 0;
	int err;

	if (apic->x2)
		err = apic_msr_read(apic, APIC_MSR_X2_FIRST + (reg >> 4), &value);
	else
		err = page_read(apic, reg, &value);
	/* One that isn't there shows zeroes. */
	shown->value = err ? 0 : (uint32_t)value;
	shown->high = err ? 0 : (uint32_t)(value >> 32);
}

void apic_publish(struct apic *apic)
{
	if (likely(!apic->config.page_read))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(published); i++)
		apic_publish_register(apic, published[i]);
}

void apic_page_written(struct apic *apic, uint32_t offset)
{
	uint32_t reg = offset & OFFSET_MASK, value = apic->page->reg[reg >> 4].value;

	if (apic->x2)
		apic_msr_write(apic, APIC_MSR_X2_FIRST + (reg >> 4), value);
	else
		apic_mmio_write(apic, reg, 4, value);
}
