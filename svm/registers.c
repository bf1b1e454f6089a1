/* SPDX-License-Identifier: MIT */
/*
 * One register of a VP at a time, by name, for hypercalls and the like: where the VMCB has it and in which form. Where the VP is loaded or
 * borrowed. The exit path has nothing to do with this.
 */
#include "svm.h"
#include <errno.h>
#include <trivet/exceptions.h>
#include <trivet/io.h>
#include <trivet/vp_registers.h>

#define TSS_BUSY 2u
#define DR6_ONES 0xffff07f0ull /* bit 11 tells of bus locks, where the processor knows them */
#define DR6_ZERO BIT(12)

#define CPUID_7_EDX_IBT BIT(20)

/* S_CET (APM2 18, "Shadow Stacks"): of shadow stacks, and of branch tracking with the address of its bitmap. */
#define S_CET_SHADOW_STACKS 0x3ull
#define S_CET_BRANCHES 0xfffffffffffffc3cull

/* APM2 8.2: vectors that are an exception on every processor, but for NMI. */
#define EXCEPTION_VECTORS 0xf7dfbu

static struct cpuid_regs leaf_7(void)
{
	static const struct cpuid_regs none;

	return cpuid(0, 0).eax >= 7 ? cpuid(7, 0) : none;
}

/* Which bits of CR4 this processor has: APM2 3.1.3 and the CPUID bit of each. */
static uint64_t cr4_bits(void)
{
	static const struct {
		uint8_t cr4, cpuid, word; /* word: 0 and 1 are 1.EDX, 1.ECX; 2 and 3 are 7.EBX, 7.ECX */
	} map[] = {
		{ 0, 1, 0 },  { 1, 1, 0 },   { 2, 4, 0 },  { 3, 2, 0 },	  { 4, 3, 0 },
		{ 5, 6, 0 },  { 6, 7, 0 },   { 7, 13, 0 }, { 9, 24, 0 },  { 10, 25, 0 },
		{ 11, 2, 3 }, { 12, 16, 3 }, { 16, 0, 2 }, { 17, 17, 1 }, { 18, 26, 1 },
		{ 20, 7, 2 }, { 21, 20, 2 }, { 22, 3, 3 }, { 23, 7, 3 },
	};
	struct cpuid_regs one = cpuid(1, 0), seven = leaf_7();
	uint64_t bits = BIT(8); /* PCE: always */

	for (size_t i = 0; i < ARRAY_SIZE(map); i++) {
		const uint32_t words[4] = { one.edx, one.ecx, seven.ebx, seven.ecx };

		if (words[map[i].word] >> map[i].cpuid & 1)
			bits |= BIT(map[i].cr4);
	}
	return bits;
}

/* FS, GS, LDTR, TR and the system-call MSRs of the VP that runs here are in the processor, and in the VMCB only after VMSAVE. */
static void fetch_loaded(const struct vp *vp)
{
	if (vp_is_loaded_here(vp))
		svm_vmsave(vp->control_hpa);
}

static void put_loaded(const struct vp *vp)
{
	if (vp_is_loaded_here(vp))
		svm_vmload(vp->control_hpa);
}

static struct vmcb_segment *segment_of(struct vmcb *vmcb, enum vp_register which)
{
	switch (which) {
	case VP_REGISTER_ES:
		return &vmcb->es;
	case VP_REGISTER_CS:
		return &vmcb->cs;
	case VP_REGISTER_SS:
		return &vmcb->ss;
	case VP_REGISTER_DS:
		return &vmcb->ds;
	case VP_REGISTER_FS:
		return &vmcb->fs;
	case VP_REGISTER_GS:
		return &vmcb->gs;
	case VP_REGISTER_LDTR:
		return &vmcb->ldtr;
	case VP_REGISTER_TR:
		return &vmcb->tr;
	case VP_REGISTER_IDTR:
		return &vmcb->idtr;
	default:
		return &vmcb->gdtr;
	}
}

/*
 * The VMCB packs the descriptor's two bytes of attributes into twelve bits. G isn't among those that a processor takes or keeps, as limits are in
 * bytes (APM2 15.5.1): of such a limit the interface wants it.
 */
static inline struct hv_x64_segment_register unpacked(const struct vmcb_segment *segment)
{
	uint16_t packed = segment->attributes;

	return (struct hv_x64_segment_register){
		.base = segment->base,
		.limit = segment->limit,
		.selector = segment->selector,
		.attributes = (uint16_t)((packed & 0xffu) | (packed & 0xf00u) << 4 |
					 (segment->limit >> 20 ? HV_SEGMENT_GRANULARITY : 0u)),
	};
}

/* The privilege level is in a field of its own; DPL may be what it was in the kernel, as after SYSRET (APM2 15.5.1, APM3 SYSRET). */
static inline struct hv_x64_segment_register unpacked_ss(const struct vmcb *vmcb)
{
	struct hv_x64_segment_register ss = unpacked(&vmcb->ss);

	ss.attributes = (uint16_t)((ss.attributes & ~(3u << HV_SEGMENT_DPL_SHIFT)) |
				   ((uint32_t)vmcb->cpl & 3u) << HV_SEGMENT_DPL_SHIFT);
	return ss;
}

static void get_segment(struct vp *vp, enum vp_register which, union hv_register_value *value)
{
	const struct vmcb_segment *segment = segment_of(vmcb_of(vp), which);

	fetch_loaded(vp);
	value->segment = which == VP_REGISTER_SS ? unpacked_ss(vmcb_of(vp)) : unpacked(segment);
	/* A loaded TR is busy; not every processor notes that here (QEMU's does not). */
	if (which == VP_REGISTER_TR && (segment->attributes & ATTR_PRESENT))
		value->segment.attributes |= TSS_BUSY;
}

static void set_segment(struct vp *vp, enum vp_register which, const union hv_register_value *value)
{
	struct vmcb *vmcb = vmcb_of(vp);
	uint16_t attributes = value->segment.attributes;

	fetch_loaded(vp);
	*segment_of(vmcb, which) = (struct vmcb_segment){
		.selector = value->segment.selector,
		.attributes = (uint16_t)((attributes & 0xff) | (attributes >> 4 & 0xf00)),
		.limit = value->segment.limit,
		.base = value->segment.base,
	};
	put_loaded(vp);
	if (which == VP_REGISTER_SS)
		vmcb->cpl = attributes >> HV_SEGMENT_DPL_SHIFT & 3; /* the same thing (APM2 15.5.1) */
}

/*
 * INT n, INT3 and INTO: the processor pushes the next RIP of the VMCB, which is 0 after most exits (APM2 15.7.1, 15.20). The two exceptions are
 * injected as what raises them, wherever they come from.
 */
static bool pushes_next_rip(uint64_t event)
{
	uint64_t vector = event & EVENT_VECTOR_MASK;

	if (!(event & EVENT_VALID))
		return false;
	return (event & EVENT_TYPE_MASK) == EVENT_TYPE_SOFT_INT ||
	       ((event & EVENT_TYPE_MASK) == EVENT_TYPE_EXCEPTION &&
		(vector == VECTOR_BP || vector == VECTOR_OF));
}

static uint64_t get_pending_interruption(const struct vmcb *vmcb)
{
	uint64_t event = vmcb->event_injection;
	uint64_t length = pushes_next_rip(event) ? vmcb->next_rip - vmcb->rip : 0;
	uint32_t type = (uint32_t)(event & EVENT_TYPE_MASK) >> EVENT_TYPE_SHIFT;
	uint64_t pending;

	if (!(event & EVENT_VALID))
		return 0;
	if (length && type == HV_INTERRUPTION_EXCEPTION)
		type = HV_INTERRUPTION_SOFTWARE_EXCEPTION;
	pending = pending_interruption(type, event & EVENT_VECTOR_MASK) |
		  (length << HV_PENDING_INTERRUPTION_LENGTH_SHIFT & HV_PENDING_INTERRUPTION_LENGTH_MASK);
	return event & EVENT_ERROR_VALID ?
		       pending_with_error(pending, (uint32_t)(event >> EVENT_ERROR_SHIFT)) :
		       pending;
}

/* NMIs stay blocked until an IRET, which is intercepted for that (svm/events.c). */
static void set_nmi_masked(struct vp *vp, bool masked)
{
	struct vmcb *vmcb = vmcb_of(vp);
	struct svm_vp *own = svm_of(vp);

	own->nmi_masked = masked;
	own->nmi_iret_seen = false;
	if (masked)
		vmcb->intercepts1 |= (uint32_t)INTERCEPT1_IRET;
	else
		vmcb->intercepts1 &= ~(uint32_t)INTERCEPT1_IRET;
}

static bool has_msr(uint32_t msr)
{
	if (msr != MSR_S_CET && msr != MSR_ISST)
		return true;
	return (leaf_7().ecx & CPUID_7_ECX_SHSTK) || (msr == MSR_S_CET && (leaf_7().edx & CPUID_7_EDX_IBT));
}

/* As WRMSR would have it: what goes into the VMCB past it is looked at by nobody but VMRUN. */
static bool s_cet_is_valid(uint64_t value)
{
	uint64_t bits = (leaf_7().ecx & CPUID_7_ECX_SHSTK ? S_CET_SHADOW_STACKS : 0) |
			(leaf_7().edx & CPUID_7_EDX_IBT ? S_CET_BRANCHES : 0);

	return !(value & ~bits);
}

/* VMRUN refuses vectors that are no exception (APM2 15.20), and in 64-bit mode those of INTO and BOUND, which it doesn't have. */
static bool is_exception(const struct vmcb *vmcb, unsigned int vector)
{
	if (vector == VECTOR_CP)
		return has_msr(MSR_S_CET);
	if ((vmcb->efer & EFER_LMA) && (vector == 4 || vector == 5))
		return false;
	return vector < 32 && (EXCEPTION_VECTORS >> vector & 1);
}

/* What EVENTINJ may hold (APM2 15.20). INT1, INT3 and INTO are exceptions like others there. */
static int set_pending_interruption(struct vp *vp, uint64_t pending)
{
	struct vmcb *vmcb = vmcb_of(vp);
	unsigned int vector = pending_vector(pending), type = pending_type(pending);

	if (!(pending & HV_PENDING_INTERRUPTION_PENDING)) {
		if ((vmcb->event_injection & (EVENT_VALID | EVENT_TYPE_MASK)) ==
		    (EVENT_VALID | EVENT_TYPE_NMI))
			set_nmi_masked(vp, false); /* it was its delivery that blocked others */
		vmcb->event_injection = 0;
		return 0;
	}
	if (type > HV_INTERRUPTION_SOFTWARE_INTERRUPT)
		type = HV_INTERRUPTION_EXCEPTION;
	if (type == HV_INTERRUPTION_EXCEPTION && !is_exception(vmcb, vector))
		return -EINVAL;
	vmcb->event_injection = EVENT_VALID | (uint64_t)type << EVENT_TYPE_SHIFT | vector;
	if (pending & HV_PENDING_INTERRUPTION_HAS_ERROR_CODE)
		vmcb->event_injection |= EVENT_ERROR_VALID | (uint64_t)pending_error(pending)
								     << EVENT_ERROR_SHIFT;
	if (pushes_next_rip(vmcb->event_injection))
		vmcb->next_rip = vmcb->rip + pending_length(pending);
	if (type == HV_INTERRUPTION_NMI)
		set_nmi_masked(vp, true);
	return 0;
}

static uint64_t get_interrupt_state(struct vp *vp)
{
	return (vmcb_of(vp)->interrupt_shadow & INTERRUPT_SHADOW ? HV_INTERRUPT_STATE_SHADOW : 0) |
	       (svm_nmis_are_masked(vp) ? HV_INTERRUPT_STATE_NMI_MASKED : 0);
}

static void set_interrupt_state(struct vp *vp, uint64_t value)
{
	vmcb_of(vp)->interrupt_shadow = value & HV_INTERRUPT_STATE_SHADOW ? INTERRUPT_SHADOW : 0;
	set_nmi_masked(vp, value & HV_INTERRUPT_STATE_NMI_MASKED);
	vp_post_self(vp, VP_PENDING_EVENT);
}

/* NULL: the MSR isn't in the VMCB. `loaded`: it is only after VMSAVE. */
static uint64_t *msr_in_vmcb(struct vmcb *vmcb, uint32_t msr, bool *loaded)
{
	*loaded = true;
	switch (msr) {
	case MSR_STAR:
		return &vmcb->star;
	case MSR_LSTAR:
		return &vmcb->lstar;
	case MSR_CSTAR:
		return &vmcb->cstar;
	case MSR_SFMASK:
		return &vmcb->sfmask;
	case MSR_KERNEL_GS_BASE:
		return &vmcb->kernel_gs_base;
	case MSR_FS_BASE:
		return &vmcb->fs.base;
	case MSR_GS_BASE:
		return &vmcb->gs.base;
	case MSR_SYSENTER_CS:
		return &vmcb->sysenter_cs;
	case MSR_SYSENTER_ESP:
		return &vmcb->sysenter_esp;
	case MSR_SYSENTER_EIP:
		return &vmcb->sysenter_eip;
	default:
		break;
	}
	*loaded = false;
	switch (msr) {
	case MSR_PAT:
		return &vmcb->pat;
	case MSR_S_CET:
		return &vmcb->s_cet;
	case MSR_ISST:
		return &vmcb->isst_addr;
	default:
		return NULL;
	}
}

static int set_efer(struct vp *vp, uint64_t value)
{
	if (value & ~svm_efer_writable(vp))
		return -EINVAL;
	vmcb_of(vp)->efer = value | EFER_SVME;
	vp_post_self(vp, VP_PENDING_FLUSH);
	return 0;
}

int svm_get_msr(struct vp *vp, uint32_t msr, uint64_t *value)
{
	struct vmcb *vmcb = vmcb_of(vp);
	bool loaded;
	const uint64_t *field = msr_in_vmcb(vmcb, msr, &loaded);

	if (msr == MSR_EFER) {
		*value = vmcb->efer & ~EFER_SVME;
		return 0;
	}
	if (!field)
		return vp->child ? (svm_child_rdmsr(vp, msr, value) ? 0 : -EINVAL) :
				   vp_msr_read(vp, msr, value);
	if (!has_msr(msr))
		return -EINVAL;
	if (loaded)
		fetch_loaded(vp);
	*value = *field;
	return 0;
}

int svm_set_msr(struct vp *vp, uint32_t msr, uint64_t value)
{
	bool loaded;
	uint64_t *field = msr_in_vmcb(vmcb_of(vp), msr, &loaded);

	if (msr == MSR_EFER)
		return set_efer(vp, value);
	if (!field) {
		vp_post_self(vp, VP_PENDING_EVENT);
		return vp->child ? (svm_child_wrmsr(vp, msr, value) ? 0 : -EINVAL) :
				   vp_msr_write(vp, msr, value);
	}
	if (!has_msr(msr) || (msr == MSR_S_CET && !s_cet_is_valid(value)))
		return -EINVAL;
	if (loaded)
		fetch_loaded(vp);
	*field = value;
	if (loaded)
		put_loaded(vp);
	if (msr == MSR_PAT)
		vp_post_self(vp, VP_PENDING_FLUSH);
	return 0;
}

void svm_get_register(struct vp *vp, enum vp_register which, union hv_register_value *value)
{
	const struct vmcb *vmcb = vmcb_of(vp);

	value->reg128 = (struct hv_u128){ 0 };
	switch (which) {
	case VP_REGISTER_RSP:
		value->reg64 = vmcb->rsp;
		return;
	case VP_REGISTER_RIP:
		value->reg64 = vmcb->rip;
		return;
	case VP_REGISTER_RFLAGS:
		value->reg64 = svm_guest_rflags(vp);
		return;
	case VP_REGISTER_CR0:
		value->reg64 = vmcb->cr0;
		return;
	case VP_REGISTER_CR2:
		value->reg64 = vmcb->cr2;
		return;
	case VP_REGISTER_CR3:
		value->reg64 = vmcb->cr3;
		return;
	case VP_REGISTER_CR4:
		value->reg64 = vmcb->cr4;
		return;
	case VP_REGISTER_CR8:
		value->reg64 = apic_cr8(&vp->apic);
		return;
	case VP_REGISTER_DR6:
		value->reg64 = vmcb->dr6;
		return;
	case VP_REGISTER_DR7:
		value->reg64 = vmcb->dr7;
		return;
	case VP_REGISTER_IDTR:
	case VP_REGISTER_GDTR:
		value->table.limit = (uint16_t)segment_of(vmcb_of(vp), which)->limit;
		value->table.base = segment_of(vmcb_of(vp), which)->base;
		return;
	case VP_REGISTER_PENDING_INTERRUPTION:
		value->reg64 = get_pending_interruption(vmcb);
		return;
	case VP_REGISTER_INTERRUPT_STATE:
		value->reg64 = get_interrupt_state(vp);
		return;
	default:
		get_segment(vp, which, value);
		return;
	}
}

void svm_get_snapshot(struct vp *vp, struct vp_snapshot *snapshot)
{
	const struct vmcb *vmcb = vmcb_of(vp);

	fetch_loaded(vp);
	vp->gpr[GPR_RSP] = vmcb->rsp;
	snapshot->rip = vmcb->rip;
	snapshot->rflags = svm_guest_rflags(vp);
	snapshot->cr0 = vmcb->cr0;
	snapshot->cr3 = vmcb->cr3;
	snapshot->cr4 = vmcb->cr4;
	snapshot->cr8 = apic_cr8(&vp->apic);
	snapshot->efer = vmcb->efer & ~EFER_SVME; /* as the guest sees it */
	snapshot->dr7 = vmcb->dr7;
	snapshot->pending_interruption = get_pending_interruption(vmcb);
	snapshot->interrupt_state = get_interrupt_state(vp);
	snapshot->segment[INSN_SEG_ES] = unpacked(&vmcb->es);
	snapshot->segment[INSN_SEG_CS] = unpacked(&vmcb->cs);
	snapshot->segment[INSN_SEG_SS] = unpacked_ss(vmcb);
	snapshot->segment[INSN_SEG_DS] = unpacked(&vmcb->ds);
	snapshot->segment[INSN_SEG_FS] = unpacked(&vmcb->fs);
	snapshot->segment[INSN_SEG_GS] = unpacked(&vmcb->gs);
	snapshot->cpl = vmcb->cpl;
}

/* Those that decide how memory is seen: translations made under the old value go. */
static int set_control_register(struct vp *vp, enum vp_register which, uint64_t value)
{
	struct vmcb *vmcb = vmcb_of(vp);

	if (which == VP_REGISTER_CR4 && (value & ~cr4_bits()))
		return -EINVAL;
	if (which == VP_REGISTER_CR0)
		vmcb->cr0 = value | CR0_ET;
	else if (which == VP_REGISTER_CR3)
		vmcb->cr3 = value;
	else
		vmcb->cr4 = value;
	vp_post_self(vp, VP_PENDING_FLUSH);
	return 0;
}

int svm_set_register(struct vp *vp, enum vp_register which, const union hv_register_value *value)
{
	struct vmcb *vmcb = vmcb_of(vp);

	switch (which) {
	case VP_REGISTER_RSP:
		vmcb->rsp = value->reg64;
		return 0;
	case VP_REGISTER_RIP:
		if (pushes_next_rip(vmcb->event_injection)) /* it is as long as it was */
			vmcb->next_rip += value->reg64 - vmcb->rip;
		vmcb->rip = value->reg64;
		vmcb->interrupt_shadow = 0;
		return 0;
	case VP_REGISTER_RFLAGS:
		vmcb->rflags = value->reg64;
		svm_of(vp)->nmi_step = false; /* a waiting NMI begins it anew */
		vp_post_self(vp, VP_PENDING_EVENT);
		return 0;
	case VP_REGISTER_CR0:
	case VP_REGISTER_CR3:
	case VP_REGISTER_CR4:
		return set_control_register(vp, which, value->reg64);
	case VP_REGISTER_CR2:
		vmcb->cr2 = value->reg64;
		return 0;
	case VP_REGISTER_CR8:
		apic_set_tpr(&vp->apic, (uint8_t)(value->reg64 << 4));
		svm_set_v_tpr(vp, vmcb, (uint8_t)value->reg64);
		vp_post_self(vp, VP_PENDING_EVENT);
		return 0;
	case VP_REGISTER_DR6:
		vmcb->dr6 = (value->reg64 | DR6_ONES) & ~DR6_ZERO;
		return 0;
	case VP_REGISTER_DR7:
		vmcb->dr7 = (value->reg64 | DR7_ONES) & ~DR7_ZERO;
		return 0;
	case VP_REGISTER_IDTR:
	case VP_REGISTER_GDTR:
		segment_of(vmcb, which)->limit = value->table.limit;
		segment_of(vmcb, which)->base = value->table.base;
		return 0;
	case VP_REGISTER_PENDING_INTERRUPTION:
		return set_pending_interruption(vp, value->reg64);
	case VP_REGISTER_INTERRUPT_STATE:
		set_interrupt_state(vp, value->reg64);
		return 0;
	default:
		set_segment(vp, which, value);
		return 0;
	}
}

/* What VMRUN refuses (APM2 15.5.1), as far as it is more than one register's business; and what no processor gets into. */
bool svm_can_run(struct vp *vp)
{
	const struct vmcb *vmcb = vmcb_of(vp);
	bool paging = vmcb->cr0 & CR0_PG;
	bool long_mode = (vmcb->efer & EFER_LME) && paging;

	if (paging && !(vmcb->cr0 & CR0_PE))
		return false;
	if ((vmcb->cr0 & CR0_NW) && !(vmcb->cr0 & CR0_CD))
		return false;
	if (!(vmcb->efer & EFER_LMA) == long_mode)
		return false;
	if (long_mode && !(vmcb->cr4 & CR4_PAE))
		return false;
	if (long_mode && (vmcb->cs.attributes & ATTR_LONG) && (vmcb->cs.attributes & ATTR_BIG))
		return false;
	if (!long_mode && (vmcb->cr4 & CR4_PCIDE))
		return false;
	if ((vmcb->cr4 & CR4_CET) && !(vmcb->cr0 & CR0_WP))
		return false;
	return !(vmcb->rflags & RFLAGS_VM) || (!long_mode && (vmcb->cr0 & CR0_PE));
}
