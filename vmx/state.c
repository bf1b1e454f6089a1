/* SPDX-License-Identifier: MIT */
/* A VP's processor state in its VMCS: as the loader had it, after INIT, at a start-up IPI; and VMX on each LP. */
#include "vmx.h"
#include "ept.h"
#include "switch.h"
#include <errno.h>
#include <trivet/assert.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/log.h>
#include <trivet/partition.h>

#define RIGHTS_REAL_CODE 0x09bu
#define RIGHTS_REAL_DATA 0x093u
#define RIGHTS_LDT 0x082u
#define RIGHTS_TSS_BUSY 0x08bu

/* Numbers of the segment fields, two apart from those of ES on; 0 to 5 as in an instruction. */
enum segment {
	SEGMENT_ES,
	SEGMENT_CS,
	SEGMENT_SS,
	SEGMENT_DS,
	SEGMENT_FS,
	SEGMENT_GS,
	SEGMENT_LDTR,
	SEGMENT_TR,
};

#define DR6_RESET 0xffff0ff0ull
#define EPTP_WRITE_BACK 6ull
#define EPTP_WALK_4 (3ull << 3)
#define EPTP_ACCESSED_DIRTY BIT(6)
/* CR0 bits that stay the hypervisor's: NE must be set (SDM3 24.8), and no processor of ours drops coherency (NW). */
#define CR0_OWNED (CR0_NE | CR0_NW)
/* What the guest may not set, since VMX and SMX don't exist for it. */
#define CR4_OWNED (CR4_VMXE | CR4_SMXE)

struct vmx_operand {
	uint64_t type_or_vpid;
	uint64_t address;
};

static void vmx_failed(const char *what)
{
	panic("lp%u: %s failed", this_lp()->index, what);
}

static uint64_t ept_pointer(const struct vp *vp)
{
	return ss_root_hpa(&vp->partition->space).v | EPTP_WRITE_BACK | EPTP_WALK_4 |
	       (vmx.ept_vpid_cap & EPT_CAP_ACCESSED_DIRTY ? EPTP_ACCESSED_DIRTY : 0);
}

/* INVEPT and INVVPID, SDM3 31.3; type 1: one context, 2: all. */
static void invept(uint64_t type, uint64_t eptp)
{
	const uint64_t descriptor[2] = { eptp, 0 };
	bool failed;

	__asm__ volatile("invept %1, %2" : "=@ccna"(failed) : "m"(descriptor), "r"(type) : "memory");
	if (failed)
		vmx_failed("INVEPT");
}

static void invvpid(uint64_t type, uint64_t vpid)
{
	const uint64_t descriptor[2] = { vpid, 0 };
	bool failed;

	__asm__ volatile("invvpid %1, %2" : "=@ccna"(failed) : "m"(descriptor), "r"(type) : "memory");
	if (failed)
		vmx_failed("INVVPID");
}

void vmx_invalidate(struct vp *vp)
{
	invept(1, ept_pointer(vp));
	if (vmx.proc2 & PROC2_VPID)
		invvpid(1, vmx_of(vp)->vpid);
}

static void enter_vmx_operation(struct lp *lp)
{
	uint32_t *region = (uint32_t *)((char *)lp + LP_BACKEND_PAGE);
	uint64_t region_hpa = hv_virt_to_phys(region).v;
	uint64_t cr0, cr4;
	bool failed;

	if (!vmx_allowed_by_firmware())
		panic("lp%u: the firmware disabled VMX on this processor, but not on the first", lp->index);
	if (!(rdmsr(MSR_FEATURE_CONTROL) & FEATURE_CONTROL_LOCK))
		wrmsr(MSR_FEATURE_CONTROL,
		      rdmsr(MSR_FEATURE_CONTROL) | FEATURE_CONTROL_VMX | FEATURE_CONTROL_LOCK);
	__asm__ volatile("movq %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	cr0 = (cr0 | vmx.cr0_fixed0) & vmx.cr0_fixed1;
	cr4 = (cr4 | vmx.cr4_fixed0 | CR4_VMXE) & vmx.cr4_fixed1;
	if (cpuid(1, 0).ecx & BIT(26))
		cr4 |= CR4_OSXSAVE; /* XSETBV is carried out for the guest */
	__asm__ volatile("movq %0, %%cr0" ::"r"(cr0) : "memory");
	__asm__ volatile("movq %0, %%cr4" ::"r"(cr4) : "memory");
	*region = (uint32_t)vmx.basic & ~(uint32_t)BIT(31);
	__asm__ volatile("vmxon %1" : "=@ccna"(failed) : "m"(region_hpa) : "memory");
	if (failed)
		vmx_failed("VMXON");
	/* What an earlier owner of the processor left behind. */
	invept(2, 0);
	if (vmx.proc2 & PROC2_VPID)
		invvpid(2, 0);
}

/* Controls as the root's VPs have them. */
static void write_controls(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);

	own->proc = vmx.proc;
	own->proc2 = vmx.proc2;
	own->delivers = own->lends_page = own->apic_known = own->takes_posted = false;
	own->acknowledges = true;
	vmwrite(VMCS_PIN_CONTROLS, vmx.pin);
	vmwrite(VMCS_PROC_CONTROLS, vmx.proc);
	vmwrite(VMCS_PROC_CONTROLS2, vmx.proc2);
	vmwrite(VMCS_EXIT_CONTROLS, vmx.exit);
	vmwrite(VMCS_ENTRY_CONTROLS, vmx.entry);
	vmwrite(VMCS_EXCEPTION_BITMAP, 0);
	vmwrite(VMCS_PF_ERROR_MASK, 0);
	vmwrite(VMCS_PF_ERROR_MATCH, 0);
	vmwrite(VMCS_CR3_TARGET_COUNT, 0);
	vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 0);
	vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 0);
	vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
	vmwrite(VMCS_ENTRY_EVENT, 0);
	vmwrite(VMCS_IO_BITMAP_A, hv_virt_to_phys(vmx.io_map).v);
	vmwrite(VMCS_IO_BITMAP_B, hv_virt_to_phys(vmx.io_map).v + PAGE_SIZE);
	vmwrite(VMCS_MSR_BITMAP, hv_virt_to_phys(vmx.msr_map).v);
	vmwrite(VMCS_VIRTUAL_APIC, hv_virt_to_phys(vp->apic_page).v);
	vmwrite(VMCS_TPR_THRESHOLD, 0);
	vmwrite(VMCS_EPT_POINTER, ept_pointer(vp));
	vmwrite(VMCS_LINK_POINTER, UINT64_MAX);
	if (vmx.apic_access)
		vmwrite(VMCS_APIC_ACCESS, hv_virt_to_phys(vmx.apic_access).v);
	if (vmx.apic_controls & PROC2_INTERRUPT_DELIVERY)
		vmwrite(VMCS_GUEST_INTERRUPT_STATUS, 0);
	if (vmx.posted) {
		vmwrite(VMCS_POSTED_VECTOR, HV_VECTOR_POSTED);
		vmwrite(VMCS_POSTED_DESCRIPTOR, hv_virt_to_phys(&vp->apic.posted).v);
	}
	vmwrite(VMCS_CR0_MASK, CR0_OWNED);
	vmwrite(VMCS_CR4_MASK, CR4_OWNED);
	vmwrite(VMCS_CR4_SHADOW, 0);
	if (vmx.proc2 & PROC2_VPID)
		vmwrite(VMCS_VPID, own->vpid);
	if (vmx.proc2 & PROC2_XSAVES)
		vmwrite(VMCS_XSS_EXITING, 0);
	if (vmx.proc2 & PROC2_PCONFIG)
		vmwrite(VMCS_PCONFIG_EXITING, 0);
	if (vmx.pin & PIN_PREEMPTION_TIMER)
		vmwrite(VMCS_PREEMPTION_TIMER, vmx.preemption_ticks);
}

void vmx_write_host_state(struct vp *vp)
{
	const struct lp *lp = this_lp();
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr;
	uint64_t cr0, cr3, cr4;
	uint16_t cs, data, tr;

	__asm__ volatile("movq %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("movq %%cr3, %0" : "=r"(cr3));
	__asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	__asm__ volatile("mov %%ss, %0" : "=r"(data));
	__asm__ volatile("str %0" : "=r"(tr));
	__asm__ volatile("sidt %0" : "=m"(idtr));
	vmwrite(VMCS_HOST_CR0, cr0);
	vmwrite(VMCS_HOST_CR3, cr3);
	vmwrite(VMCS_HOST_CR4, cr4);
	vmwrite(VMCS_HOST_CS_SELECTOR, cs);
	vmwrite(VMCS_HOST_SS_SELECTOR, data);
	vmwrite(VMCS_HOST_DS_SELECTOR, data);
	vmwrite(VMCS_HOST_ES_SELECTOR, data);
	vmwrite(VMCS_HOST_FS_SELECTOR, 0);
	vmwrite(VMCS_HOST_GS_SELECTOR, 0);
	vmwrite(VMCS_HOST_TR_SELECTOR, tr);
	vmwrite(VMCS_HOST_FS_BASE, 0);
	vmwrite(VMCS_HOST_GS_BASE, 0);
	vmwrite(VMCS_HOST_TR_BASE, (uint64_t)lp->tss);
	vmwrite(VMCS_HOST_GDTR_BASE, (uint64_t)lp->gdt);
	vmwrite(VMCS_HOST_IDTR_BASE, idtr.base);
	vmwrite(VMCS_HOST_SYSENTER_CS, 0);
	vmwrite(VMCS_HOST_SYSENTER_ESP, 0);
	vmwrite(VMCS_HOST_SYSENTER_EIP, 0);
	vmwrite(VMCS_HOST_EFER, rdmsr(MSR_EFER));
	vmwrite(VMCS_HOST_PAT, PAT_RESET);
	vmwrite(VMCS_HOST_RSP, VMX_HOST_RSP(lp));
	vmwrite(VMCS_HOST_RIP, (uint64_t)(vp->child ? vmx_child_exit : vmx_exit));
	vmx_page_of(vp)->host_lp = lp;
}

/* INIT leaves these MSRs as they were: what this processor has now is its VP's. */
static void take_over_msrs(void)
{
	vmwrite(VMCS_GUEST_SYSENTER_CS, rdmsr(MSR_SYSENTER_CS));
	vmwrite(VMCS_GUEST_SYSENTER_ESP, rdmsr(MSR_SYSENTER_ESP));
	vmwrite(VMCS_GUEST_SYSENTER_EIP, rdmsr(MSR_SYSENTER_EIP));
	vmwrite(VMCS_GUEST_DEBUGCTL, rdmsr(MSR_DEBUGCTL));
	vmwrite(VMCS_GUEST_PAT, rdmsr(MSR_PAT));
}

void vmx_lp_start(struct lp *lp)
{
	struct vp *vp = lp->root_vp;

	enter_vmx_operation(lp);
	if (lp->index == 0)
		vmx_find_cpuid_faulting();
	vmx_first_load(vp);
	write_controls(vp);
	vmx_write_host_state(vp);
	take_over_msrs();
	vmx_stop_hazards(vp);
	/* Firmware had the caches on when it parked this processor. */
	vmwrite(VMCS_GUEST_CR0, 0);
	vmwrite(VMCS_CR0_SHADOW, 0);
	vmx_apic_mode_changed(vp);
	if (lp->index != 0)
		vmx_vp_reset(vp);
}

static void write_segment(enum segment segment, uint16_t selector, uint64_t base, uint32_t limit,
			  uint32_t rights)
{
	uint32_t offset = (uint32_t)segment * 2;

	vmwrite(VMCS_GUEST_ES_SELECTOR + offset, selector);
	vmwrite(VMCS_GUEST_ES_BASE + offset, base);
	vmwrite(VMCS_GUEST_ES_LIMIT + offset, limit);
	vmwrite(VMCS_GUEST_ES_RIGHTS + offset, rights);
}

/*
 * A child can't turn off the caches of the processor, which others run on: it has CR0.CD for itself. And a machine check is the
 * hypervisor's, whatever CR4.MCE the child has.
 */
static uint64_t cr0_owned(const struct vp *vp)
{
	return vp->child ? CR0_OWNED | CR0_CD : CR0_OWNED;
}

/* VM entry loads no CD (SDM3 27.3.2.1). */
static void set_caches_off(struct vp *vp, bool off)
{
	uint64_t hardware;

	if (!vmx_is_loaded(vp)) {
		vmx_page_of(vp)->caches_off = off;
		return;
	}
	__asm__ volatile("movq %%cr0, %0" : "=r"(hardware));
	if (!(hardware & CR0_CD) != !off)
		__asm__ volatile("movq %0, %%cr0" ::"r"(hardware ^ CR0_CD) : "memory");
}

/* The bits that VMX operation lets nobody change stay as they must be; the guest reads what it wrote. */
void vmx_set_guest_cr0(struct vp *vp, uint64_t value)
{
	uint64_t fixed0 = vmx.cr0_fixed0 & ~(CR0_PE | CR0_PG);
	uint64_t hidden = CR0_NW | (vp->child ? CR0_CD : 0);

	vmwrite(VMCS_GUEST_CR0, ((value & ~hidden) | fixed0) & vmx.cr0_fixed1);
	vmwrite(VMCS_CR0_SHADOW, value);
	if (!vp->child)
		set_caches_off(vp, value & CR0_CD);
}

uint64_t vmx_guest_cr0(const struct vp *vp)
{
	uint64_t owned = cr0_owned(vp);

	return (vmread(VMCS_GUEST_CR0) & ~owned) | (vmread(VMCS_CR0_SHADOW) & owned);
}

void vmx_set_guest_cr4(struct vp *vp, uint64_t value)
{
	if (vp->child) {
		vmwrite(VMCS_GUEST_CR4, value | vmx.cr4_fixed0 | (vmx.cr4_fixed1 & CR4_MCE));
		vmwrite(VMCS_CR4_SHADOW, value);
	} else {
		vmwrite(VMCS_GUEST_CR4, value | vmx.cr4_fixed0);
	}
}

uint64_t vmx_guest_cr4(const struct vp *vp)
{
	uint64_t owned;

	if (!vp->child)
		return vmread(VMCS_GUEST_CR4) & ~CR4_OWNED;
	owned = vmread(VMCS_CR4_MASK);
	return (vmread(VMCS_GUEST_CR4) & ~owned) | (vmread(VMCS_CR4_SHADOW) & owned);
}

void vmx_set_guest_efer(uint64_t value)
{
	uint64_t entry = vmread(VMCS_ENTRY_CONTROLS) & ~ENTRY_GUEST_LONG_MODE;

	vmwrite(VMCS_GUEST_EFER, value);
	vmwrite(VMCS_ENTRY_CONTROLS, entry | (value & EFER_LMA ? ENTRY_GUEST_LONG_MODE : 0));
}

/* What no start of a VP brings along. */
static void clear_transient_state(struct vp *vp)
{
	vmwrite(VMCS_GUEST_INTERRUPTIBILITY, 0);
	vmwrite(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
	vmwrite(VMCS_GUEST_PENDING_DEBUG, 0);
	vmx_reset_events(vp);
}

/* A child's VP is made on the LP of the parent's, whose VMCS is current before and after. It starts as after power-up, but its CD is for show. */
static void fill_child(struct vp *vp)
{
	vmx_initialize(vp);
	vmx_vp_borrow(vp);
	write_controls(vp);
	vmx_child_write_controls(vp);
	vmx_write_host_state(vp);
	vmwrite(VMCS_GUEST_SYSENTER_CS, 0);
	vmwrite(VMCS_GUEST_SYSENTER_ESP, 0);
	vmwrite(VMCS_GUEST_SYSENTER_EIP, 0);
	vmwrite(VMCS_GUEST_DEBUGCTL, 0);
	vmwrite(VMCS_GUEST_PAT, PAT_RESET);
	vmwrite(VMCS_GUEST_CR0, 0);
	vmwrite(VMCS_CR0_SHADOW, CR0_CD | CR0_NW);
	vmx_vp_reset(vp);
	vmx_vp_return(vp);
}

static int alloc_pages(struct vp *vp)
{
	struct page_source *pages = vp->partition->pages;
	uint32_t *vmcs = pages->alloc(pages);

	if (!vmcs)
		return -ENOMEM;
	*vmcs = (uint32_t)vmx.basic & ~(uint32_t)BIT(31); /* the revision */
	vp->control = vmcs;
	vp->control_hpa = hv_virt_to_phys(vmcs).v;
	vmx_of(vp)->page = pages->alloc(pages);
	return vmx_of(vp)->page ? 0 : -ENOMEM;
}

int vmx_vp_create(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);

	if (vp->child && !vmx.has_children)
		return -ENOTSUP;
	if (alloc_pages(vp)) {
		vmx_vp_destroy(vp);
		return -ENOMEM;
	}
	own->vpid = vp->child ? vmx_vpid_alloc() : VPID_ROOT;
	if (!own->vpid) {
		vmx_vp_destroy(vp);
		return -ENOMEM;
	}
	if (vp->child)
		fill_child(vp);
	return 0;
}

void vmx_vp_destroy(struct vp *vp)
{
	struct page_source *pages = vp->partition->pages;
	struct vmx_vp *own = vmx_of(vp);

	if (own->page)
		pages->free(pages, own->page);
	if (vp->control)
		pages->free(pages, vp->control);
	vmx_vpid_free(own->vpid);
	*own = (struct vmx_vp){ 0 };
	vp->control = NULL;
}

/* SDM3 table 10-1, column INIT. CR0.CD and NW keep their values, MSRs other than EFER too. */
void vmx_vp_reset(struct vp *vp)
{
	static const enum segment data[] = { SEGMENT_ES, SEGMENT_SS, SEGMENT_DS, SEGMENT_FS, SEGMENT_GS };

	for (size_t i = 0; i < ARRAY_SIZE(data); i++)
		write_segment(data[i], 0, 0, 0xffff, RIGHTS_REAL_DATA);
	write_segment(SEGMENT_CS, 0xf000, 0xffff0000, 0xffff, RIGHTS_REAL_CODE);
	write_segment(SEGMENT_LDTR, 0, 0, 0xffff, RIGHTS_LDT);
	write_segment(SEGMENT_TR, 0, 0, 0xffff, RIGHTS_TSS_BUSY);
	vmwrite(VMCS_GUEST_GDTR_BASE, 0);
	vmwrite(VMCS_GUEST_GDTR_LIMIT, 0xffff);
	vmwrite(VMCS_GUEST_IDTR_BASE, 0);
	vmwrite(VMCS_GUEST_IDTR_LIMIT, 0xffff);
	vmx_set_guest_efer(0);
	vmx_set_guest_cr0(vp, CR0_ET | (vmx_guest_cr0(vp) & (CR0_CD | CR0_NW)));
	vmx_set_cr2(vp, 0);
	vmwrite(VMCS_GUEST_CR3, 0);
	vmx_set_guest_cr4(vp, 0);
	vmx_set_dr6(vp, DR6_RESET);
	vmwrite(VMCS_GUEST_DR7, 0x400);
	vmwrite(VMCS_GUEST_RFLAGS, 2);
	vmwrite(VMCS_GUEST_RIP, 0xfff0);
	vmwrite(VMCS_GUEST_RSP, 0);
	for (unsigned int i = 0; i < GPR_COUNT; i++)
		vp->gpr[i] = 0;
	vp->gpr[GPR_RDX] = cpuid(1, 0).eax;
	clear_transient_state(vp);
	vp_post_self(vp, VP_PENDING_FLUSH | VP_PENDING_EVENT); /* INIT leaves no translation; and CR8 is 0 */
}

void vmx_vp_start(struct vp *vp, uint8_t vector)
{
	(void)vp;
	write_segment(SEGMENT_CS, (uint16_t)(vector << 8), (uint64_t)vector << 12, 0xffff, RIGHTS_REAL_CODE);
	vmwrite(VMCS_GUEST_RIP, 0);
}

/* The processor set the accessed bit when it loaded the segment, if not in the descriptor then in itself. */
static void load_segment(enum segment segment, const struct boot_segment *from, uint64_t base)
{
	uint32_t rights = from->rights;

	if (!(rights & RIGHTS_PRESENT)) {
		write_segment(segment, from->selector, base, 0, RIGHTS_UNUSABLE);
		return;
	}
	if (rights & RIGHTS_NOT_SYSTEM)
		rights |= 1;
	else if (segment == SEGMENT_TR)
		rights |= 2; /* busy, likewise */
	write_segment(segment, from->selector, base, from->limit, rights);
}

void vmx_vp_launch(struct vp *vp, const struct boot_cpu_state *state, const struct boot_context *context)
{
	load_segment(SEGMENT_ES, &state->es, state->es.base);
	load_segment(SEGMENT_CS, &state->cs, state->cs.base);
	load_segment(SEGMENT_SS, &state->ss, state->ss.base);
	load_segment(SEGMENT_DS, &state->ds, state->ds.base);
	load_segment(SEGMENT_FS, &state->fs, rdmsr(MSR_FS_BASE));
	load_segment(SEGMENT_GS, &state->gs, rdmsr(MSR_GS_BASE));
	load_segment(SEGMENT_LDTR, &state->ldtr, state->ldtr.base);
	load_segment(SEGMENT_TR, &state->tr, state->tr.base);
	/* Firmware loads no TR; VM entry insists on one (SDM3 27.3.1.2). LTR replaces it. */
	if (!(state->tr.rights & RIGHTS_PRESENT))
		write_segment(SEGMENT_TR, 0, 0, 0xffff, RIGHTS_TSS_BUSY);
	vmwrite(VMCS_GUEST_GDTR_BASE, state->gdtr.base);
	vmwrite(VMCS_GUEST_GDTR_LIMIT, state->gdtr.limit);
	vmwrite(VMCS_GUEST_IDTR_BASE, state->idtr.base);
	vmwrite(VMCS_GUEST_IDTR_LIMIT, state->idtr.limit);
	vmx_set_guest_efer(state->efer);
	vmx_set_guest_cr0(vp, state->cr0);
	vmwrite(VMCS_GUEST_CR3, context->cr3);
	vmx_set_guest_cr4(vp, state->cr4);
	vmwrite(VMCS_GUEST_DR7, 0x400);
	vmwrite(VMCS_GUEST_RFLAGS, context->rflags & ~RFLAGS_IF);
	vmwrite(VMCS_GUEST_RIP, context->rip);
	vmwrite(VMCS_GUEST_RSP, context->rsp);
	clear_transient_state(vp);
	vp->gpr[GPR_RAX] = 0;
	vp->state = VP_RUNNING;
	vp_post_self(vp, VP_PENDING_EVENT); /* CR8 */
}

void vmx_get_context(struct vp *vp, struct vp_context *context)
{
	uint64_t efer = vmread(VMCS_GUEST_EFER);
	uint64_t code = vmread(VMCS_GUEST_CS_RIGHTS);
	bool is_64bit = (efer & EFER_LMA) && (code & RIGHTS_LONG);

	vp->gpr[GPR_RSP] = vmread(VMCS_GUEST_RSP);
	context->rip = vmread(VMCS_GUEST_RIP);
	context->rflags = vmread(VMCS_GUEST_RFLAGS);
	context->cpl = (uint8_t)(vmread(VMCS_GUEST_SS_RIGHTS) >> RIGHTS_DPL_SHIFT & 3);
	for (uint32_t i = 0; i < 6; i++)
		context->segment_base[i] =
			is_64bit && i < INSN_SEG_FS ? 0 : vmread(VMCS_GUEST_ES_BASE + 2 * i);
	context->mode = is_64bit					    ? INSN_MODE_64 :
			code & RIGHTS_BIG && !(context->rflags & RFLAGS_VM) ? INSN_MODE_32 :
									      INSN_MODE_16;
	context->paging = (struct guest_paging){
		.cr0 = vmx_guest_cr0(vp),
		.cr3 = vmread(VMCS_GUEST_CR3),
		.cr4 = vmx_guest_cr4(vp),
		.efer = efer,
		.rflags = context->rflags,
		.maxphyaddr = vmx.phys_bits,
		.gbpages = vmx.gbpages,
		.nonleaf_global_reserved = false,
	};
}

void vmx_set_context(struct vp *vp, const struct vp_context *context)
{
	vmwrite(VMCS_GUEST_RFLAGS, context->rflags);
	vmwrite(VMCS_GUEST_RSP, vp->gpr[GPR_RSP]);
	if (context->rip != vmread(VMCS_GUEST_RIP))
		vmx_complete(vp, context->rip);
}
