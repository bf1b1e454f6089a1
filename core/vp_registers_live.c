/* SPDX-License-Identifier: MIT */
/*
 * The registers that no vendor switches, off the processor that runs the VP: breakpoint addresses, XCR0, x87 and SSE state.
 * Layouts of the latter: TLFS "HV_X64_FP_REGISTER", "HV_X64_FP_CONTROL_STATUS_REGISTER", "HV_X64_XMM_CONTROL_STATUS_REGISTER".
 */
#include <errno.h>
#include <trivet/live_registers.h>
#include <trivet/vp_registers.h>

#define MXCSR_MASK_DEFAULT 0xffbfu /* where FXSAVE gives none (SDM1 11.6.6) */
#define XCR0_X87 BIT(0)		   /* all that there is without XSAVE */
#define FP_HIGH_RESERVED (~0xffffull)

#ifndef TRIVET_HOST_TEST
__attribute__((__noinline__)) void load_fx(const struct fx_area *area)
{
	__asm__ volatile("fxrstor64 %0" ::"m"(*area));
}
#endif

static uint32_t mxcsr_mask(const struct fx_area *area)
{
	return area->mxcsr_mask ? area->mxcsr_mask : MXCSR_MASK_DEFAULT;
}

/* Cleared before FXSAVE, here and below: without a pending x87 exception AMD's leaves FOP, FIP and FDP out (APM5 "FXSAVE"). */
static void get_fx(enum live_register which, unsigned int index, union hv_register_value *value)
{
	struct fx_area area = { 0 };

	save_fx(&area);
	switch (which) {
	case LIVE_XMM:
		value->reg128 = area.xmm[index];
		return;
	case LIVE_FP:
		value->reg128.low = area.st[index].low;
		value->reg128.high = area.st[index].high & ~FP_HIGH_RESERVED;
		return;
	case LIVE_FP_CONTROL:
		value->fp_control_status = (struct hv_x64_fp_control_status_register){
			.fp_control = area.fcw,
			.fp_status = area.fsw,
			.fp_tag = area.ftw,
			.last_fp_op = area.fop,
			.last_fp_rip = area.fip,
		};
		return;
	default:
		value->xmm_control_status = (struct hv_x64_xmm_control_status_register){
			.last_fp_rdp = area.fdp,
			.xmm_status_control = area.mxcsr,
			.xmm_status_control_mask = mxcsr_mask(&area),
		};
		return;
	}
}

static int edit_fx(struct fx_area *area, enum live_register which, unsigned int index,
		   const union hv_register_value *value)
{
	switch (which) {
	case LIVE_XMM:
		area->xmm[index] = value->reg128;
		return 0;
	case LIVE_FP:
		if (value->reg128.high & FP_HIGH_RESERVED)
			return -EINVAL;
		area->st[index] = value->reg128;
		return 0;
	case LIVE_FP_CONTROL:
		if (value->fp_control_status.reserved)
			return -EINVAL;
		area->fcw = value->fp_control_status.fp_control;
		area->fsw = value->fp_control_status.fp_status;
		area->ftw = value->fp_control_status.fp_tag;
		area->fop = value->fp_control_status.last_fp_op;
		area->fip = value->fp_control_status.last_fp_rip;
		return 0;
	default:
		/* The mask tells what the processor has: it can be read, and what is written there doesn't count. */
		if (value->xmm_control_status.xmm_status_control & ~mxcsr_mask(area))
			return -EINVAL;
		area->fdp = value->xmm_control_status.last_fp_rdp;
		area->mxcsr = value->xmm_control_status.xmm_status_control;
		return 0;
	}
}

static int set_fx(enum live_register which, unsigned int index, const union hv_register_value *value)
{
	struct fx_area area = { 0 };
	int err;

	save_fx(&area);
	err = edit_fx(&area, which, index, value);
	if (!err)
		load_fx(&area);
	return err;
}

int live_register_get(enum live_register which, unsigned int index, union hv_register_value *value)
{
	value->reg128 = (struct hv_u128){ 0 };
	switch (which) {
	case LIVE_DR:
		value->reg64 = read_dr(index);
		return 0;
	case LIVE_XFEM:
		if (!read_xcr0(&value->reg64))
			value->reg64 = XCR0_X87;
		return 0;
	default:
		get_fx(which, index, value);
		return 0;
	}
}

int live_register_set(enum live_register which, unsigned int index, const union hv_register_value *value)
{
	uint64_t old;

	switch (which) {
	case LIVE_DR:
		write_dr(index, value->reg64);
		return 0;
	case LIVE_XFEM:
		if (!read_xcr0(&old))
			return value->reg64 == XCR0_X87 ? 0 : -EINVAL;
		return write_xcr0(value->reg64) ? 0 : -EINVAL;
	default:
		return set_fx(which, index, value);
	}
}
