/* fuzz: core/apic.c core/apic_regs.c core/apic_icr.c core/apic_timer.c */
/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model under a hostile guest: any sequence of accesses, time steps and arrivals, with a host that
 * calls back. Whatever happens, the cached state is what the bits say, and no illegal vector gets in.
 */
#include <trivet/apic.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t now_tsc;
static unsigned int depth;

static void check(bool ok)
{
	if (!ok)
		abort();
}

static struct apic_page page;

static int top(const struct apic *apic, enum apic_reg group)
{
	for (int v = 255; v >= 0; v--) {
		if (apic_vectors(apic, group, (unsigned int)v / 64) >> (v % 64) & 1)
			return v;
	}
	return -1;
}

static void check_state(const struct apic *apic)
{
	int isr = top(apic, APIC_REG_ISR), next = apic_next_vector(apic);
	unsigned int served = isr < 0 ? 0 : (unsigned int)isr & 0xf0;

	check(apic->irr_top == top(apic, APIC_REG_IRR) && apic->isr_top == isr);
	check(apic->ppr == ((apic->tpr & 0xf0u) >= served ? apic->tpr : served));
	check(!(page.reg[APIC_REG_IRR >> 4].value & 0xffff) && !(page.reg[APIC_REG_ISR >> 4].value & 0xffff));
	check(page.reg[APIC_REG_TPR >> 4].value == apic->tpr);
	check(next < 0 || (next >> 4) > (apic->ppr >> 4));
	check(apic->enabled == ((apic->base & APIC_BASE_EN) && (apic->svr & APIC_SVR_ENABLE)));
	check((apic->base & APIC_BASE_EN) || !(apic->base & APIC_BASE_X2));
	for (int i = 0; i < APIC_LVT_COUNT; i++)
		check((apic->svr & APIC_SVR_ENABLE) || (apic->lvt[i] & APIC_LVT_MASKED));
	check(!apic->timer.counting || apic->timer.period_ticks);
	check(!apic->timer.counting || apic_timer_deadline(apic) != UINT64_MAX);
}

/* Where a processor answers reads from the page, it must answer as the model does. */
static void check_page(struct apic *apic)
{
	static const uint16_t same[] = { 0x20,	0x30,  0x80,  0xd0,  0xe0,  0xf0,  0x100,
					 0x170, 0x200, 0x270, 0x280, 0x300, 0x310, 0x320,
					 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0 };

	if (!apic->config.page_read || !(apic->base & APIC_BASE_EN))
		return;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		const struct apic_page_register *reg = &page.reg[same[i] / 16];
		uint64_t value;

		if (!apic->x2)
			check(apic_mmio_read(apic, same[i], 4, &value) == 0);
		else if (same[i] == 0x300 || apic_msr_read(apic, 0x800 + same[i] / 16, &value) != 0)
			continue; /* software's */
		check((reg->value | (uint64_t)reg->high << 32) == value);
	}
}

static void call_back(struct apic *apic)
{
	check(depth < 4);
	depth++;
	check_state(apic);
	apic_sync_posted(apic);
	apic_accept(apic, (uint8_t)(now_tsc & 0xff), now_tsc & 1);
	depth--;
}

void apic_host_send_ipi(struct apic *apic, const struct apic_ipi *ipi)
{
	check(ipi->shorthand != APIC_DEST_SELF && ipi->mode <= APIC_MODE_SIPI && ipi->mode != 3);
	check(ipi->mode > APIC_MODE_LOWEST || ipi->vector >= 16);
	check(ipi->shorthand != APIC_DEST_ALL || ipi->mode == APIC_MODE_FIXED);
	check(ipi->from_x2apic || ipi->dest <= 0xff);
	call_back(apic);
}

void apic_host_level_eoi(struct apic *apic, uint8_t vector)
{
	check(vector >= 16);
	call_back(apic);
}

void apic_host_timer_changed(struct apic *apic)
{
	call_back(apic);
}

void apic_host_lvt_changed(struct apic *apic, enum apic_lvt which, uint32_t value)
{
	check(apic->lvt[which] == value && which != APIC_LVT_TIMER && which != APIC_LVT_ERROR);
	call_back(apic);
}

void apic_host_mode_changed(struct apic *apic)
{
	call_back(apic);
}

uint64_t apic_host_now_tsc(struct apic *apic)
{
	(void)apic;
	return now_tsc;
}

static void start(struct apic *apic, const uint8_t *data)
{
	struct apic_config config = {
		.apic_id = data[0],
		.x2apic = data[1] & 1,
		.tsc_deadline = data[1] >> 1 & 1,
		.arb_regs = data[1] >> 2 & 1,
		.page_read = data[1] >> 5 & 1,
		.version = 0x14,
		.max_lvt = (uint8_t)(3 + (data[1] >> 3 & 3)),
		.phys_bits = 40,
		.min_period_tsc = 1 + data[2] * 16u,
	};

	if (config.apic_id == 0xff)
		config.apic_id = 0;
	check(apic_clock_init(&config.clock, 1000000 + data[3] * 391000000ull,
			      1000000 + data[4] * 391000000ull) == 0);
	check(apic_init(apic, &config, &page) == 0);
	apic_mmio_write(apic, APIC_REG_SVR, 4, 0x1ff);
}

struct op {
	uint8_t what;
	uint8_t size;
	uint16_t where;
	uint64_t value;
};

static void operate(struct apic *apic, const struct op *op)
{
	uint64_t value;

	switch (op->what % 18) {
	case 0:
		apic_mmio_read(apic, op->where & 0x1fff, op->size & 15, &value);
		break;
	case 1:
		apic_mmio_write(apic, op->where & 0x1fff, op->size & 15, op->value);
		break;
	case 2:
	case 3:
		apic_mmio_write(apic, op->where & 0x3f0, 4, op->value);
		break;
	case 4:
		apic_msr_read(apic, 0x7f0 + (op->where & 0x11f), &value);
		break;
	case 5:
		apic_msr_write(apic, 0x7f0 + (op->where & 0x11f), op->value);
		break;
	case 6:
		apic_msr_write(apic, 0x800 + (op->where & 0x3f), op->value & 0xffffffff000ccfff);
		break;
	case 7:
		apic_base_write(apic, op->value);
		break;
	case 8:
		apic_base_write(apic, APIC_BASE_DEFAULT | (op->value & 0xc00));
		break;
	case 9:
		apic_tsc_deadline_write(apic, op->size & 1 ? op->value : now_tsc + (op->value & 0xffff));
		break;
	case 10:
		apic_tsc_deadline_read(apic, &value);
		break;
	case 11:
		now_tsc += op->size & 1 ? op->value : op->value & 0xfffff;
		apic_timer_expired(apic, now_tsc);
		break;
	case 12:
		apic_accept(apic, op->size, op->where & 1);
		break;
	case 13:
		apic_post(apic, op->size, op->where & 1);
		break;
	case 14:
		apic_sync_posted(apic);
		if (apic_next_vector(apic) >= 0)
			apic_take(apic, (uint8_t)apic_next_vector(apic));
		break;
	case 15:
		apic_eoi(apic);
		break;
	case 16:
		apic_matches(apic, (uint32_t)op->value, op->size & 1, op->size & 2);
		break;
	default:
		if (op->size < 4)
			apic_reset_init(apic);
		else
			apic_tsc_adjusted(apic, (int64_t)op->value);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct apic apic;
	struct op op;

	if (size < 8)
		return 0;
	now_tsc = 1000;
	start(&apic, data);
	for (data += 8, size -= 8; size >= sizeof(op); data += sizeof(op), size -= sizeof(op)) {
		memcpy(&op, data, sizeof(op));
		operate(&apic, &op);
		check_state(&apic);
		check_page(&apic);
	}
	return 0;
}
