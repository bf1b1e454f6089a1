/* SPDX-License-Identifier: MIT */
/* A VP's processor state in its VMCB: as the loader had it, after INIT, at a start-up IPI; and SVM on each LP. */
#include "svm.h"
#include "npt.h"
#include <errno.h>
#include <trivet/decode.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/partition.h>

/* Attributes as in struct vmcb_segment. */
#define ATTR_REAL_CODE 0x09b
#define ATTR_REAL_DATA 0x093
#define ATTR_LDT 0x082
#define ATTR_TSS_BUSY 0x08b

void svm_lp_start(struct lp *lp)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME | EFER_NXE);
	wrmsr(MSR_VM_HSAVE_PA, hv_virt_to_phys(lp).v + LP_BACKEND_PAGE);
	__asm__ volatile("clgi" ::: "memory");
	if (lp->index != 0) {
		/* INIT leaves the MSRs as they were: what this processor has now is its VP's. */
		vmcb_of(lp->root_vp)->pat = rdmsr(MSR_PAT);
		svm_vp_reset(lp->root_vp);
	}
}

static void real_mode_segment(struct vmcb_segment *segment, uint16_t attributes)
{
	*segment = (struct vmcb_segment){ .attributes = attributes, .limit = 0xffff };
}

static void clear_events(struct svm_vp *own)
{
	own->iret_rip = 0;
	own->v_tpr = 0;
	own->nmi_masked = own->nmi_iret_seen = own->nmi_step = false;
}

/* APM2 table 14-1, column INIT. MSRs other than EFER keep their values. */
static void fill_reset_state(struct vp *vp)
{
	struct vmcb *vmcb = vmcb_of(vp);

	real_mode_segment(&vmcb->es, ATTR_REAL_DATA);
	real_mode_segment(&vmcb->ss, ATTR_REAL_DATA);
	real_mode_segment(&vmcb->ds, ATTR_REAL_DATA);
	real_mode_segment(&vmcb->fs, ATTR_REAL_DATA);
	real_mode_segment(&vmcb->gs, ATTR_REAL_DATA);
	vmcb->cs = (struct vmcb_segment){ 0xf000, ATTR_REAL_CODE, 0xffff, 0xffff0000 };
	real_mode_segment(&vmcb->gdtr, 0);
	real_mode_segment(&vmcb->idtr, 0);
	real_mode_segment(&vmcb->ldtr, ATTR_LDT);
	real_mode_segment(&vmcb->tr, ATTR_TSS_BUSY);
	vmcb->cpl = 0;
	vmcb->efer = EFER_SVME;
	vmcb->cr0 = CR0_ET | (vmcb->cr0 & (CR0_CD | CR0_NW)); /* of a new VP: as firmware parked it */
	vmcb->cr2 = 0;
	vmcb->cr3 = 0;
	vmcb->cr4 = 0;
	vmcb->dr6 = 0xffff0ff0;
	vmcb->dr7 = 0x400;
	vmcb->rflags = 2;
	vmcb->rip = 0xfff0;
	vmcb->rsp = 0;
	vmcb->s_cet = 0;
	vmcb->ssp = 0;
	vmcb->isst_addr = 0;
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		vp->gpr[i] = 0;
	vp->gpr[GPR_RDX] = cpuid(1, 0).eax;
	clear_events(svm_of(vp));
	vmcb->event_injection = 0;
	vmcb->interrupt_shadow = 0;
	vmcb->interrupt_control = V_INTR_MASKING;
	vmcb->intercepts1 &= ~(uint32_t)(INTERCEPT1_VINTR | INTERCEPT1_IRET);
	vmcb->intercept_exceptions = svm_intercepted_exceptions(vp);
	vmcb->intercept_cr_write = 0;
	vp_post_self(vp, VP_PENDING_FLUSH); /* INIT leaves no translation (APM2 14.1.3) */
}

static void intercept_for_root(struct vmcb *vmcb, const struct vp *vp)
{
	vmcb->intercepts1 = INTERCEPT1_INTR | INTERCEPT1_NMI | INTERCEPT1_CPUID | INTERCEPT1_HLT |
			    INTERCEPT1_INVLPGA | INTERCEPT1_IOIO | INTERCEPT1_MSR | INTERCEPT1_SHUTDOWN;
	vmcb->intercepts2 = INTERCEPT2_VMRUN | INTERCEPT2_VMLOAD | INTERCEPT2_VMSAVE | INTERCEPT2_STGI |
			    INTERCEPT2_CLGI | INTERCEPT2_SKINIT;
	if (vp->partition->hv)
		vmcb->intercepts2 |= INTERCEPT2_VMMCALL; /* otherwise the processor says #UD by itself */
	vmcb->iopm_base_hpa = hv_virt_to_phys(svm.io_map).v;
	vmcb->msrpm_base_hpa = hv_virt_to_phys(svm.msr_map).v;
	vmcb->asid = ASID_ROOT;
}

/* Of a child's whatever reaches out of the VP: ports, MSRs, caches, counters, debug registers until it uses them. */
static void intercept_for_child(struct vmcb *vmcb)
{
	vmcb->intercept_dr_read = vmcb->intercept_dr_write = UINT16_MAX;
	vmcb->intercepts1 = INTERCEPT1_INTR | INTERCEPT1_NMI | INTERCEPT1_RDPMC | INTERCEPT1_CPUID |
			    INTERCEPT1_INVD | INTERCEPT1_HLT | INTERCEPT1_INVLPGA | INTERCEPT1_IOIO |
			    INTERCEPT1_MSR | INTERCEPT1_SHUTDOWN;
	vmcb->intercepts2 = INTERCEPT2_VMRUN | INTERCEPT2_VMMCALL | INTERCEPT2_VMLOAD | INTERCEPT2_VMSAVE |
			    INTERCEPT2_STGI | INTERCEPT2_CLGI | INTERCEPT2_SKINIT | INTERCEPT2_WBINVD |
			    INTERCEPT2_MONITOR | INTERCEPT2_MWAIT | INTERCEPT2_MWAIT_ARMED |
			    INTERCEPT2_XSETBV | INTERCEPT2_RDPRU;
	vmcb->intercepts3 =
		INTERCEPT3_INVLPGB | INTERCEPT3_INVLPGB_ILLEGAL | INTERCEPT3_MCOMMIT | INTERCEPT3_TLBSYNC;
	vmcb->iopm_base_hpa = hv_virt_to_phys(svm.child_io_map).v;
	vmcb->msrpm_base_hpa = hv_virt_to_phys(svm.child_msr_map).v;
	vmcb->asid = ASID_ROOT + 1; /* until it gets one: switch.c */
	vmcb->pat = PAT_RESET;
	vmcb->cr0 = CR0_CD | CR0_NW; /* APM2 table 14-1, column Reset */
}

int svm_vp_create(struct vp *vp)
{
	struct vmcb *vmcb = vp->partition->pages->alloc(vp->partition->pages);

	if (!vmcb)
		return -ENOMEM;
	vp->control = vmcb;
	vp->control_hpa = hv_virt_to_phys(vmcb).v;
	if (vp->child)
		intercept_for_child(vmcb);
	else
		intercept_for_root(vmcb, vp);
	vmcb->interrupt_control = V_INTR_MASKING;
	vmcb->nested_control = NESTED_PAGING | (svm.invlpgb && !vp->child ? NESTED_INVLPGB : 0);
	vmcb->nested_cr3 = ss_root_hpa(&vp->partition->space).v;
	fill_reset_state(vp);
	return 0;
}

void svm_vp_destroy(struct vp *vp)
{
	vp->partition->pages->free(vp->partition->pages, vp->control);
	vp->control = NULL;
}

/* On the VP's own LP, where FS, GS, TR, LDTR and the system-call MSRs are in the processor. */
void svm_vp_reset(struct vp *vp)
{
	__asm__ volatile("vmsave" ::"a"(vp->control_hpa) : "memory");
	fill_reset_state(vp);
	__asm__ volatile("vmload" ::"a"(vp->control_hpa) : "memory");
}

void svm_vp_start(struct vp *vp, uint8_t vector)
{
	struct vmcb *vmcb = vmcb_of(vp);

	vmcb->cs = (struct vmcb_segment){ (uint16_t)(vector << 8), ATTR_REAL_CODE, 0xffff,
					  (uint32_t)vector << 12 };
	vmcb->rip = 0;
}

static void load_segment(struct vmcb_segment *segment, const struct boot_segment *from)
{
	*segment = (struct vmcb_segment){
		.selector = from->selector,
		.attributes = (uint16_t)((from->rights & 0xff) | (from->rights >> 4 & 0xf00)),
		.limit = from->limit,
		.base = from->base,
	};
}

void svm_vp_launch(struct vp *vp, const struct boot_cpu_state *state, const struct boot_context *context)
{
	struct vmcb *vmcb = vmcb_of(vp);

	load_segment(&vmcb->es, &state->es);
	load_segment(&vmcb->cs, &state->cs);
	load_segment(&vmcb->ss, &state->ss);
	load_segment(&vmcb->ds, &state->ds);
	load_segment(&vmcb->fs, &state->fs);
	load_segment(&vmcb->gs, &state->gs);
	load_segment(&vmcb->ldtr, &state->ldtr);
	load_segment(&vmcb->tr, &state->tr);
	if (!(vmcb->tr.attributes & ATTR_PRESENT))
		vmcb->tr = (struct vmcb_segment){ 0, ATTR_TSS_BUSY, 0xffff, 0 };
	vmcb->gdtr = (struct vmcb_segment){ .limit = state->gdtr.limit, .base = state->gdtr.base };
	vmcb->idtr = (struct vmcb_segment){ .limit = state->idtr.limit, .base = state->idtr.base };
	vmcb->fs.base = rdmsr(MSR_FS_BASE);
	vmcb->gs.base = rdmsr(MSR_GS_BASE);
	vmcb->kernel_gs_base = rdmsr(MSR_KERNEL_GS_BASE);
	vmcb->star = rdmsr(MSR_STAR);
	vmcb->lstar = rdmsr(MSR_LSTAR);
	vmcb->cstar = rdmsr(MSR_CSTAR);
	vmcb->sfmask = rdmsr(MSR_SFMASK);
	vmcb->sysenter_cs = rdmsr(MSR_SYSENTER_CS);
	vmcb->sysenter_esp = rdmsr(MSR_SYSENTER_ESP);
	vmcb->sysenter_eip = rdmsr(MSR_SYSENTER_EIP);
	vmcb->pat = rdmsr(MSR_PAT);
	vmcb->debug_control = rdmsr(MSR_DEBUGCTL);
	vmcb->efer = state->efer | EFER_SVME;
	vmcb->cr0 = state->cr0;
	vmcb->cr3 = context->cr3;
	vmcb->cr4 = state->cr4;
	vmcb->rflags = context->rflags & ~RFLAGS_IF;
	vmcb->rip = context->rip;
	vmcb->rsp = context->rsp;
	svm_set_v_tpr(vp, vmcb, apic_cr8(&vp->apic));
	vp->gpr[GPR_RAX] = 0;
	vp->state = VP_RUNNING;
}

void svm_get_context(struct vp *vp, struct vp_context *context)
{
	const struct vmcb *vmcb = vmcb_of(vp);
	const struct vmcb_segment *const segments[6] = { &vmcb->es, &vmcb->cs, &vmcb->ss,
							 &vmcb->ds, &vmcb->fs, &vmcb->gs };

	/* Not only RIP and RSP: FS and GS are the guest's on the processor, not in the VMCB. */
	if (vp_is_loaded_here(vp))
		svm_vmsave(vp->control_hpa);
	vp->gpr[GPR_RSP] = vmcb->rsp;
	context->rip = vmcb->rip;
	context->rflags = svm_guest_rflags(vp);
	context->cpl = vmcb->cpl;
	for (int i = 0; i < 6; i++)
		context->segment_base[i] = segments[i]->base;
	if ((vmcb->efer & EFER_LMA) && (vmcb->cs.attributes & ATTR_LONG)) {
		context->mode = INSN_MODE_64;
		for (int i = 0; i < INSN_SEG_FS; i++)
			context->segment_base[i] = 0;
	} else {
		context->mode = vmcb->cs.attributes & ATTR_BIG && !(vmcb->rflags & RFLAGS_VM) ? INSN_MODE_32 :
												INSN_MODE_16;
	}
	context->paging = (struct guest_paging){
		.cr0 = vmcb->cr0,
		.cr3 = vmcb->cr3,
		.cr4 = vmcb->cr4,
		.efer = vmcb->efer & ~EFER_SVME, /* as the guest sees it */
		.rflags = vmcb->rflags,
		.maxphyaddr = svm.phys_bits,
		.gbpages = svm.gbpages,
		.nonleaf_global_reserved = true,
	};
}

void svm_set_context(struct vp *vp, const struct vp_context *context)
{
	struct vmcb *vmcb = vmcb_of(vp);

	vmcb->rflags = context->rflags;
	vmcb->rsp = vp->gpr[GPR_RSP];
	if (context->rip != vmcb->rip)
		svm_complete(vp, vmcb, context->rip);
}
