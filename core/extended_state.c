/* SPDX-License-Identifier: MIT */
/* Extended processor state when VPs are switched: XSAVE area, XCR0, debug addresses. */
#include <string.h>
#include <trivet/extended_state.h>
#include <trivet/io.h>
#include <trivet/live_registers.h>
#include <trivet/vp.h>
#include <trivet/x86.h>

#define CPUID_RESTORES_POINTERS BIT(2) /* 80000008.EBX (APM3): FXRSTOR always loads FIP, FDP, FOP */

static struct {
	uint64_t mask;	     /* 0: there is no XSAVE */
	uint64_t child_mask; /* of these what lies within a page: all that a child may have */
	size_t bytes;
	bool leaks_pointers; /* x87's last pointers stay in the processor */
} state = { .bytes = sizeof(struct fx_area) };

void extended_state_init(void)
{
	bool is_amd = cpuid(0, 0).ecx == 0x444d4163; /* "cAMD" */
	uint32_t ebx = cpuid(0x80000000, 0).eax >= 0x80000008 ? cpuid(0x80000008, 0).ebx : 0;
	struct cpuid_regs leaf;

	state.leaks_pointers = is_amd && !(ebx & CPUID_RESTORES_POINTERS);
	if (!(cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE) || cpuid(0, 0).eax < 0xd)
		return;
	leaf = cpuid(0xd, 0);
	state.mask = leaf.eax | (uint64_t)leaf.edx << 32;
	state.bytes = leaf.ecx;
	state.child_mask = state.mask & (BIT(0) | BIT(1));
	for (unsigned int i = 2; i < 63; i++) {
		struct cpuid_regs component = cpuid(0xd, i);

		if ((state.mask >> i & 1) && component.eax + component.ebx <= PAGE_SIZE)
			state.child_mask |= BIT(i);
	}
}

size_t extended_state_bytes(void)
{
	return state.bytes;
}

/* XSTATE_BV 0 means initial, but MXCSR is loaded all the same (SDM1 13.8.1). */
void extended_state_reset(struct vp *vp)
{
	memset(vp->fpu, 0, vp->child ? PAGE_SIZE : state.bytes);
	vp->fpu->fcw = FCW_INITIAL;
	vp->fpu->mxcsr = MXCSR_INITIAL;
	vp->xcr0 = XCR0_X87;
}

static inline uint64_t mask_of(const struct vp *vp)
{
	return vp->child ? state.child_mask : state.mask;
}

__attribute__((__noinline__)) void extended_state_save(struct vp *vp)
{
	if (!state.mask) {
		save_fx(vp->fpu);
		return;
	}
	vp->xcr0 = get_xcr0();
	if (vp->xcr0 != state.mask)
		set_xcr0(state.mask);
	save_extended(vp->fpu, mask_of(vp));
}

__attribute__((__noinline__)) void extended_state_load(struct vp *vp)
{
	/* Otherwise those of the VP before would be there to read. */
	if (unlikely(state.leaks_pointers))
		forget_x87_pointers();
	if (!state.mask) {
		load_fx(vp->fpu);
		return;
	}
	load_extended(vp->fpu, mask_of(vp));
	if (vp->xcr0 != state.mask)
		set_xcr0(vp->xcr0);
}

void debug_registers_save(struct vp *vp)
{
	for (unsigned int i = 0; i < 4; i++)
		vp->dr[i] = read_dr(i);
}

void debug_registers_load(struct vp *vp)
{
	for (unsigned int i = 0; i < 4; i++)
		write_dr(i, vp->dr[i]);
}

void debug_registers_reset(struct vp *vp)
{
	memset(vp->dr, 0, sizeof(vp->dr));
	if (vp_is_loaded_here(vp) && vp->lp->dr_owner == vp)
		debug_registers_load(vp);
}
