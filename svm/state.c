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
		vmcb_of(lp->vp)->pat = rdmsr(MSR_PAT);
		svm_vp_reset(lp->vp);
	}
}

static void real_mode_segment(struct vmcb_segment *segment, uint16_t attributes)
{
	*segment = (struct vmcb_segment){ .attributes = attributes, .limit = 0xffff };
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
	*svm_of(vp) = (struct svm_vp){ 0 };
	vmcb->event_injection = 0;
	vmcb->interrupt_shadow = 0;
	vmcb->interrupt_control = V_INTR_MASKING;
	vmcb->intercepts1 &= ~(uint32_t)(INTERCEPT1_VINTR | INTERCEPT1_IRET);
	vmcb->intercept_exceptions = 0;
	vmcb->intercept_cr_write = 0;
	vp_post_self(vp, VP_PENDING_FLUSH); /* INIT leaves no translation (APM2 14.1.3) */
}

int svm_vp_create(struct vp *vp)
{
	struct vmcb *vmcb = page_alloc(&host_pool, 0);

	if (!vmcb)
		return -ENOMEM;
	vp->control = vmcb;
	vp->control_hpa = hv_virt_to_phys(vmcb).v;
	vmcb->intercepts1 = INTERCEPT1_INTR | INTERCEPT1_NMI | INTERCEPT1_CPUID | INTERCEPT1_HLT |
			    INTERCEPT1_INVLPGA | INTERCEPT1_IOIO | INTERCEPT1_MSR | INTERCEPT1_SHUTDOWN;
	vmcb->intercepts2 = INTERCEPT2_VMRUN | INTERCEPT2_VMLOAD | INTERCEPT2_VMSAVE | INTERCEPT2_STGI |
			    INTERCEPT2_CLGI | INTERCEPT2_SKINIT;
	if (vp->partition->hv)
		vmcb->intercepts2 |= INTERCEPT2_VMMCALL; /* otherwise the processor says #UD by itself */
	vmcb->iopm_base_hpa = hv_virt_to_phys(svm.io_map).v;
	vmcb->msrpm_base_hpa = hv_virt_to_phys(svm.msr_map).v;
	vmcb->asid = ASID_ROOT;
	vmcb->interrupt_control = V_INTR_MASKING;
	vmcb->nested_control = NESTED_PAGING | (svm.invlpgb ? NESTED_INVLPGB : 0);
	vmcb->nested_cr3 = ss_root_hpa(&vp->partition->space).v;
	fill_reset_state(vp);
	return 0;
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
	vmcb->fs.base = rdmsr(0xc0000100);
	vmcb->gs.base = rdmsr(0xc0000101);
	vmcb->kernel_gs_base = rdmsr(0xc0000102);
	vmcb->star = rdmsr(0xc0000081);
	vmcb->lstar = rdmsr(0xc0000082);
	vmcb->cstar = rdmsr(0xc0000083);
	vmcb->sfmask = rdmsr(0xc0000084);
	vmcb->sysenter_cs = rdmsr(0x174);
	vmcb->sysenter_esp = rdmsr(0x175);
	vmcb->sysenter_eip = rdmsr(0x176);
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
	__asm__ volatile("vmsave" ::"a"(vp->control_hpa) : "memory");
	vp->gpr[GPR_RSP] = vmcb->rsp;
	context->rip = vmcb->rip;
	context->rflags = vmcb->rflags;
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
		.efer = vmcb->efer,
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
