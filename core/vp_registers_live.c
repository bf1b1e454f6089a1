/* SPDX-License-Identifier: MIT */
/*
 * The registers that no vendor switches: breakpoint addresses, XCR0, x87 and SSE state. Off the processor where the VP is loaded, else out of
 * the memory that they were saved to: an XSAVE area in the standard format (SDM1 13.4), or an FXSAVE area where there is no XSAVE.
 * Layouts of the latter: TLFS "HV_X64_FP_REGISTER", "HV_X64_FP_CONTROL_STATUS_REGISTER", "HV_X64_XMM_CONTROL_STATUS_REGISTER".
 */
#include <errno.h>
#include <string.h>
#include <trivet/live_registers.h>
#include <trivet/partition.h>
#include <trivet/vp.h>
#include <trivet/vp_registers.h>
#include <trivet/x86.h>

#define XCR0_SSE BIT(1)
#define XCR0_AVX BIT(2)
#define XCR0_AVX512 (BIT(5) | BIT(6) | BIT(7)) /* all or none */
#define FP_HIGH_RESERVED (~0xffffull)

/* Behind the part that FXSAVE knows (SDM1 13.4.2). */
struct xsave_header {
	uint64_t xstate_bv; /* components that aren't in their initial state */
	uint64_t xcomp_bv;
	uint64_t reserved[6];
};
static_assert(sizeof(struct fx_area) + sizeof(struct xsave_header) <= PAGE_SIZE, "vp->fpu is a page");

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

/* The components' bits in the header of a saved area; NULL: the area has none. */
static uint64_t *in_use(struct vp *vp)
{
	struct xsave_header *header = (struct xsave_header *)(vp->fpu + 1);

	return cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE ? &header->xstate_bv : NULL;
}

/* A component in its initial state need not lie in the area as such (SDM1 13.6). MXCSR always does. */
static void init_unused(struct fx_area *area, uint64_t used)
{
	if (!(used & XCR0_X87)) {
		area->fcw = FCW_INITIAL;
		area->fsw = area->fop = 0;
		area->ftw = 0;
		area->fip = area->fdp = 0;
		memset(area->st, 0, sizeof(area->st));
	}
	if (!(used & XCR0_SSE))
		memset(area->xmm, 0, sizeof(area->xmm));
}

/* `area` is cleared: without a pending x87 exception AMD's FXSAVE leaves FOP, FIP and FDP out (APM5 "FXSAVE"). */
static void read_fx(struct vp *vp, struct fx_area *area)
{
	const uint64_t *used;

	if (vp_is_loaded_here(vp)) {
		save_fx(area);
		return;
	}
	*area = *vp->fpu;
	used = in_use(vp);
	if (used)
		init_unused(area, *used);
}

static void write_fx(struct vp *vp, const struct fx_area *area)
{
	uint64_t *used;

	if (vp_is_loaded_here(vp)) {
		load_fx(area);
		return;
	}
	*vp->fpu = *area;
	used = in_use(vp);
	if (used)
		*used |= XCR0_X87 | XCR0_SSE;
}

static void get_fx(struct vp *vp, enum live_register which, unsigned int index,
		   union hv_register_value *value)
{
	struct fx_area area = { 0 };

	read_fx(vp, &area);
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

static int set_fx(struct vp *vp, enum live_register which, unsigned int index,
		  const union hv_register_value *value)
{
	struct fx_area area = { 0 };
	int err;

	read_fx(vp, &area);
	err = edit_fx(&area, which, index, value);
	if (!err)
		write_fx(vp, &area);
	return err;
}

void live_xmm_get(struct vp *vp, struct hv_u128 *xmm, unsigned int count)
{
	struct fx_area area; /* what FXSAVE may leave out of it isn't asked for */

	read_fx(vp, &area);
	for (unsigned int i = 0; i < count; i++)
		xmm[i] = area.xmm[i];
}

void live_xmm_set(struct vp *vp, const struct hv_u128 *xmm, unsigned int count)
{
	struct fx_area area = { 0 };

	read_fx(vp, &area);
	memcpy(area.xmm, xmm, count * sizeof(*xmm));
	write_fx(vp, &area);
}

static uint64_t get_xfem(struct vp *vp)
{
	uint64_t value;

	if (!vp_is_loaded_here(vp))
		return vp->xcr0 ? vp->xcr0 : XCR0_X87;
	return read_xcr0(&value) ? value : XCR0_X87;
}

/* What XSETBV takes (SDM2), of the components that the partition was given; those above AVX only as a child's parent chose them. */
static bool is_xfem(const struct vp *vp, uint64_t value)
{
	uint64_t avx512 = value & XCR0_AVX512;

	return (value & XCR0_X87) && !(value & ~vp->partition->cpuid.xsave_states) &&
	       (!(value & XCR0_AVX) || (value & XCR0_SSE)) && (!(value >> 3) || (value & XCR0_AVX)) &&
	       (!avx512 || avx512 == XCR0_AVX512);
}

static int set_xfem(struct vp *vp, uint64_t value)
{
	uint64_t old;

	if (!vp_is_loaded_here(vp)) {
		if (!vp->xcr0)
			return value == XCR0_X87 ? 0 : -EINVAL;
		if (!is_xfem(vp, value))
			return -EINVAL;
		vp->xcr0 = value;
		return 0;
	}
	if (!read_xcr0(&old))
		return value == XCR0_X87 ? 0 : -EINVAL;
	return write_xcr0(value) ? 0 : -EINVAL;
}

/* Those of a VP that never touched any are another's in the processor. */
void live_use_debug_registers(struct vp *vp)
{
	if (vp->uses_dr)
		return;
	if (vp_is_loaded_here(vp))
		schedule_use_debug_registers(vp);
	else
		vp->uses_dr = true;
}

static void set_dr(struct vp *vp, unsigned int index, uint64_t value)
{
	live_use_debug_registers(vp);
	if (vp_is_loaded_here(vp))
		write_dr(index, value);
	else
		vp->dr[index] = value;
}

int live_register_get(struct vp *vp, enum live_register which, unsigned int index,
		      union hv_register_value *value)
{
	value->reg128 = (struct hv_u128){ 0 };
	switch (which) {
	case LIVE_DR:
		value->reg64 = vp_is_loaded_here(vp) && vp->uses_dr ? read_dr(index) : vp->dr[index];
		return 0;
	case LIVE_XFEM:
		value->reg64 = get_xfem(vp);
		return 0;
	default:
		get_fx(vp, which, index, value);
		return 0;
	}
}

int live_register_set(struct vp *vp, enum live_register which, unsigned int index,
		      const union hv_register_value *value)
{
	switch (which) {
	case LIVE_DR:
		set_dr(vp, index, value->reg64);
		return 0;
	case LIVE_XFEM:
		return set_xfem(vp, value->reg64);
	default:
		return set_fx(vp, which, index, value);
	}
}
