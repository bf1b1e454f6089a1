/* SPDX-License-Identifier: MIT */
/*
 * Local APIC model: its registers as TLFS has them (HV_X64_INTERRUPT_CONTROLLER_STATE), for the VP's parent. TPR and IA32_APIC_BASE are
 * registers of their own and aren't in there.
 */
#include "apic_internal.h"

#include <errno.h>
#include <hv/vp_state.h>

#define ESR_DEFINED 0xefu
#define ID_SHIFT_XAPIC 24
#define LVT_MAX_SHIFT 16

static void save_group(const struct apic *apic, enum apic_reg first, uint32_t image[8])
{
	for (unsigned int i = 0; i < 8; i++)
		image[i] = apic->page->reg[((unsigned int)first >> 4) + i].value;
}

void apic_save(struct apic *apic, struct hv_vp_state_lapic *image, uint64_t now_tsc)
{
	apic_sync_posted(apic);
	/* A count that has come to its end without the VP seeing it is an interrupt. A deadline is told of by its own register. */
	if (!apic_tsc_deadline_armed(apic))
		apic_timer_expired(apic, now_tsc);
	if (apic->eoi_offered)
		apic_settle_eoi(apic);
	*image = (struct hv_vp_state_lapic){
		.id = apic->x2 ? apic->config.apic_id : apic->config.apic_id << ID_SHIFT_XAPIC,
		.version = apic->config.version | (uint32_t)apic->config.max_lvt << LVT_MAX_SHIFT,
		.ldr = apic->x2 ? apic_logical_id(apic) : apic->ldr,
		.dfr = apic->dfr,
		.spurious = apic->svr,
		.esr = apic->esr,
		.icr_high = (uint32_t)(apic->icr >> 32),
		.icr_low = (uint32_t)apic->icr,
		.lvt_timer = apic->lvt[APIC_LVT_TIMER],
		.lvt_thermal = apic->lvt[APIC_LVT_THERMAL],
		.lvt_perfmon = apic->lvt[APIC_LVT_PMC],
		.lvt_lint0 = apic->lvt[APIC_LVT_LINT0],
		.lvt_lint1 = apic->lvt[APIC_LVT_LINT1],
		.lvt_error = apic->lvt[APIC_LVT_ERROR],
		.lvt_cmci = apic->lvt[APIC_LVT_CMCI],
		.error_status = apic->esr_pending,
		.initial_count = apic->timer.initial,
		.current_count = apic_timer_current(apic, now_tsc),
		.divide_configuration = apic->timer.divide,
	};
	save_group(apic, APIC_REG_ISR, image->isr);
	save_group(apic, APIC_REG_TMR, image->tmr);
	save_group(apic, APIC_REG_IRR, image->irr);
}

int apic_restore(struct apic *apic, const struct hv_vp_state_lapic *from, uint64_t now_tsc)
{
	struct apic_image image = {
		.base = apic->base,
		.icr = (uint64_t)from->icr_high << 32 | from->icr_low,
		.tpr = apic->tpr,
		.svr = from->spurious,
		.ldr = from->ldr,
		.dfr = from->dfr,
		.timer_initial = from->initial_count,
		.timer_current = from->current_count,
		.timer_divide = from->divide_configuration,
		.tsc_deadline = apic_tsc_deadline_armed(apic), /* isn't in the image, nor is what is ahead of it: it stays */
		.lvt = {
			[APIC_LVT_TIMER] = from->lvt_timer,
			[APIC_LVT_LINT0] = from->lvt_lint0,
			[APIC_LVT_LINT1] = from->lvt_lint1,
			[APIC_LVT_ERROR] = from->lvt_error,
			[APIC_LVT_PMC] = from->lvt_perfmon,
			[APIC_LVT_THERMAL] = from->lvt_thermal,
			[APIC_LVT_CMCI] = from->lvt_cmci,
		},
	};

	if ((from->lvt_timer >> APIC_LVT_TIMER_MODE_SHIFT & 3) == 3) /* reserved */
		return -EINVAL;
	__builtin_memcpy(image.irr, from->irr, sizeof(image.irr));
	__builtin_memcpy(image.isr, from->isr, sizeof(image.isr));
	__builtin_memcpy(image.tmr, from->tmr, sizeof(image.tmr));
	if (apic->base & APIC_BASE_EN && apic_load(apic, &image, now_tsc))
		return -EINVAL;
	apic->esr = from->esr & ESR_DEFINED;
	apic->esr_pending = from->error_status & ESR_DEFINED;
	return 0;
}
