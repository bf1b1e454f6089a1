/* SPDX-License-Identifier: MIT */
/*
 * Registers of a VP by name (TLFS "HV_REGISTER_NAME"): one table knows who keeps each. What the vendors keep in different places goes
 * to the back end by enum vp_register, what neither switches is read off the processor (live_registers.h), MSRs go the way of
 * RDMSR and WRMSR, and the hypervisor's own state answers for the rest.
 */
#ifndef TRIVET_VP_REGISTERS_H
#define TRIVET_VP_REGISTERS_H

#include <hv/vp.h>
#include <trivet/types.h>

struct vp;

/* What a back end keeps. MSRs go by their number. */
enum vp_register {
	VP_REGISTER_RSP,
	VP_REGISTER_RIP, /* ends an interrupt shadow: it belonged to the instruction before */
	VP_REGISTER_RFLAGS,
	VP_REGISTER_CR0,
	VP_REGISTER_CR2,
	VP_REGISTER_CR3,
	VP_REGISTER_CR4,
	VP_REGISTER_CR8,
	VP_REGISTER_DR6,
	VP_REGISTER_DR7,
	VP_REGISTER_ES, /* in the order of instruction encodings */
	VP_REGISTER_CS,
	VP_REGISTER_SS,
	VP_REGISTER_DS,
	VP_REGISTER_FS,
	VP_REGISTER_GS,
	VP_REGISTER_LDTR,
	VP_REGISTER_TR,
	VP_REGISTER_IDTR,
	VP_REGISTER_GDTR,
	VP_REGISTER_PENDING_INTERRUPTION, /* HV_PENDING_INTERRUPTION_* */
	VP_REGISTER_INTERRUPT_STATE,	  /* HV_INTERRUPT_STATE_* */
	VP_REGISTER_COUNT
};

/* What an intercept shows of a VP that has just exited, in one go. RSP goes to vp->gpr. */
struct vp_snapshot {
	uint64_t rip, rflags, cr0, cr3, cr4, cr8, efer, dr7, pending_interruption, interrupt_state;
	struct hv_x64_segment_register segment[6]; /* ES CS SS DS FS GS: their numbers in an instruction */
	uint8_t cpl;
};

/* Fields of HV_REGISTER_X64_PENDING_INTERRUPTION; the type is HV_INTERRUPTION_*. */
static inline unsigned int pending_type(uint64_t pending)
{
	return (unsigned int)((pending & HV_PENDING_INTERRUPTION_TYPE_MASK) >>
			      HV_PENDING_INTERRUPTION_TYPE_SHIFT);
}

static inline unsigned int pending_vector(uint64_t pending)
{
	return (unsigned int)((pending & HV_PENDING_INTERRUPTION_VECTOR_MASK) >>
			      HV_PENDING_INTERRUPTION_VECTOR_SHIFT);
}

static inline unsigned int pending_length(uint64_t pending)
{
	return (unsigned int)((pending & HV_PENDING_INTERRUPTION_LENGTH_MASK) >>
			      HV_PENDING_INTERRUPTION_LENGTH_SHIFT);
}

static inline uint32_t pending_error(uint64_t pending)
{
	return (uint32_t)(pending >> HV_PENDING_INTERRUPTION_ERROR_CODE_SHIFT);
}

static inline uint64_t pending_interruption(unsigned int type, unsigned int vector)
{
	return HV_PENDING_INTERRUPTION_PENDING | (uint64_t)type << HV_PENDING_INTERRUPTION_TYPE_SHIFT |
	       (uint64_t)vector << HV_PENDING_INTERRUPTION_VECTOR_SHIFT;
}

static inline uint64_t pending_with_error(uint64_t pending, uint32_t error)
{
	return pending | HV_PENDING_INTERRUPTION_HAS_ERROR_CODE |
	       (uint64_t)error << HV_PENDING_INTERRUPTION_ERROR_CODE_SHIFT;
}

/* Registers that only a parent may touch, of those that nobody else keeps. The suspend registers are bits of vp->holds. */
struct vp_parent_registers {
	uint64_t signal_count; /* how often the root was told to dispatch the VP */
};

/*
 * Read and write `name`. `self`: the VP names itself, on its own LP, and so is in the middle of a hypercall. Otherwise it is
 * borrowed (schedule.h), or vp_register_is_hold(). HV_STATUS_SUCCESS, INVALID_PARAMETER: no such register, or not on this processor; ACCESS_DENIED: read-only, or not the
 * VP's own to see; INVALID_REGISTER_VALUE. On an error nothing has changed.
 *
 * Values are checked by themselves, not against other registers (TLFS "HvCallSetVpRegisters"): a stopped VP's state is put together
 * in any order. Only of a VP that goes on right away must the whole be a state that a processor can be in.
 */
uint16_t vp_register_get(struct vp *vp, bool self, uint32_t name, union hv_register_value *value);
uint16_t vp_register_set(struct vp *vp, bool self, uint32_t name, const union hv_register_value *value);

/*
 * The suspend registers: they stop the VP, or let it go on, and need not be borrowed for. Set, a VP no longer runs when the call returns.
 */
static inline bool vp_register_is_hold(uint32_t name)
{
	return name == HV_REGISTER_EXPLICIT_SUSPEND || name == HV_REGISTER_INTERCEPT_SUSPEND ||
	       name == HV_REGISTER_DISPATCH_SUSPEND;
}

/*
 * vp_registers_live.c: the registers that neither vendor switches, `index` as in an instruction. In the processor, or in memory while the VP
 * isn't loaded. 0 or -EINVAL.
 */
enum live_register {
	LIVE_DR, /* DR0 to DR3 */
	LIVE_XMM,
	LIVE_FP,
	LIVE_FP_CONTROL,
	LIVE_XMM_CONTROL,
	LIVE_XFEM,
};
int live_register_get(struct vp *vp, enum live_register which, unsigned int index,
		      union hv_register_value *value);
/* The VP has breakpoints of its own from now on: DR0 to DR3 are switched with it. */
void live_use_debug_registers(struct vp *vp);
int live_register_set(struct vp *vp, enum live_register which, unsigned int index,
		      const union hv_register_value *value);

/* The first `count` XMM registers in one go. */
void live_xmm_get(struct vp *vp, struct hv_u128 *xmm, unsigned int count);
void live_xmm_set(struct vp *vp, const struct hv_u128 *xmm, unsigned int count);

#endif
