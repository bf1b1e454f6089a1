/* SPDX-License-Identifier: MIT */
/*
 * VPs come to an LP and leave it. A VMCS that isn't loaded is clear (SDM3 25.11.3): all of it is in memory, so any LP may take it. What
 * VM entry and exit don't switch goes along here: CR2, DR6, CR0.CD and a few MSRs; what isn't the vendor's is core's.
 */
#include "switch.h"
#include <trivet/assert.h>
#include <trivet/intercepts.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>

#define CPUID_7_EDX_IBRS_IBPB BIT(26)
#define CPUID_7_EDX_STIBP BIT(27)
#define CPUID_7_EDX_SSBD BIT(31)
#define CPUID_7_EDX_MD_CLEAR BIT(10)
#define CPUID_7_EDX_L1D_FLUSH BIT(28)
#define CPUID_7_EDX_ARCH_CAPABILITIES BIT(29)
#define MSR_ARCH_CAPABILITIES 0x10au
#define ARCH_RDCL_NO BIT(0)
#define ARCH_SKIP_L1D_FLUSH BIT(3)
#define ARCH_MDS_NO BIT(5)
#define ARCH_PSCHANGE_MC_NO BIT(6)
#define MSR_FLUSH_CMD 0x10bu
#define FLUSH_CMD_L1D BIT(0)
#define MSR_PLATFORM_INFO 0xceu
#define PLATFORM_CPUID_FAULTING BIT(31)
#define MSR_MISC_FEATURES 0x140u /* SDM4: MISC_FEATURES_ENABLES */
#define SELECTOR_DATA 0x10

static const uint32_t msr_numbers[SWITCHED_MSRS] = {
	[SWITCHED_STAR] = MSR_STAR,
	[SWITCHED_LSTAR] = MSR_LSTAR,
	[SWITCHED_CSTAR] = MSR_CSTAR,
	[SWITCHED_SFMASK] = MSR_SFMASK,
	[SWITCHED_KERNEL_GS_BASE] = MSR_KERNEL_GS_BASE,
	[SWITCHED_TSC_AUX] = MSR_TSC_AUX,
	[SWITCHED_SPEC_CTRL] = MSR_SPEC_CTRL,
	[SWITCHED_XSS] = MSR_XSS,
	[SWITCHED_MISC_FEATURES] = MSR_MISC_FEATURES,
};

static uint32_t present;    /* bit n: msr_numbers[n] is there */
static bool has_ibpb;	    /* branch predictors can be made to forget */
static bool flushes_l1d;    /* the level 1 data cache can be read past EPT (L1TF), */
static bool clears_buffers; /* and fill buffers from elsewhere (MDS): SDM3 and Intel's guidance on both */

static void find_leaks(uint32_t edx)
{
	uint64_t capabilities = edx & CPUID_7_EDX_ARCH_CAPABILITIES ? rdmsr(MSR_ARCH_CAPABILITIES) : 0;

	flushes_l1d = (edx & CPUID_7_EDX_L1D_FLUSH) && !(capabilities & (ARCH_RDCL_NO | ARCH_SKIP_L1D_FLUSH));
	vmx.multihit = !(capabilities & ARCH_PSCHANGE_MC_NO);
	clears_buffers = (edx & CPUID_7_EDX_MD_CLEAR) && !(capabilities & ARCH_MDS_NO);
}

void vmx_find_switched_msrs(void)
{
	uint32_t leaves = cpuid(0, 0).eax;
	struct cpuid_regs more = leaves >= 7 ? cpuid(7, 0) : (struct cpuid_regs){ 0 };

	present = BIT(SWITCHED_ALWAYS) - 1;
	if ((cpuid(0x80000001, 0).edx & CPUID_EXTENDED_EDX_RDTSCP) || (more.ecx & CPUID_7_ECX_RDPID))
		present |= BIT(SWITCHED_TSC_AUX);
	if (more.edx & (CPUID_7_EDX_IBRS_IBPB | CPUID_7_EDX_STIBP | CPUID_7_EDX_SSBD))
		present |= BIT(SWITCHED_SPEC_CTRL);
	if (leaves >= 0xd && (cpuid(0xd, 1).eax & CPUID_XSTATE_1_EAX_XSAVES))
		present |= BIT(SWITCHED_XSS);
	has_ibpb = more.edx & CPUID_7_EDX_IBRS_IBPB;
	find_leaks(more.edx);
}

/*
 * With CPUID faulting on, CPUID is #GP outside CPL 0, and that comes before the exit (SDM3 26.1.1): a root that has it on for a program of its own
 * would have it on for whatever child runs meanwhile. No CPUID bit tells of it.
 */
void vmx_find_cpuid_faulting(void)
{
	uint64_t info;

	if (safe_rdmsr(MSR_PLATFORM_INFO, &info) && (info & PLATFORM_CPUID_FAULTING))
		present |= BIT(SWITCHED_MISC_FEATURES);
}

static void make_clear(const struct vp *vp)
{
	bool failed;

	__asm__ volatile("vmclear %1" : "=@ccna"(failed) : "m"(vp->control_hpa) : "memory");
	if (failed)
		panic("p%llu/vp%u: VMCLEAR failed", (unsigned long long)vp->partition->id, vp->index);
}

static void make_current(const struct vp *vp)
{
	bool failed;

	__asm__ volatile("vmptrld %1" : "=@ccna"(failed) : "m"(vp->control_hpa) : "memory");
	if (failed)
		panic("p%llu/vp%u: VMPTRLD failed", (unsigned long long)vp->partition->id, vp->index);
}

static uint64_t read_cr0(void)
{
	uint64_t value;

	__asm__ volatile("movq %%cr0, %0" : "=r"(value));
	return value;
}

static uint64_t current_hpa(void)
{
	uint64_t hpa;

	__asm__ volatile("vmptrst %0" : "=m"(hpa)::"cc");
	return hpa;
}

void vmx_initialize(struct vp *vp)
{
	make_clear(vp);
}

void vmx_relaunch(struct vp *vp)
{
	make_clear(vp);
	make_current(vp);
	vmx_of(vp)->is_clear = true;
}

void vmx_first_load(struct vp *vp)
{
	vmx_relaunch(vp);
	vmx_of(vp)->loaded = true;
}

uint64_t vmx_rip(const struct vp *vp)
{
	bool is_current = vmx_is_loaded(vp) && vp->lp == this_lp() && current_hpa() == vp->control_hpa;

	return is_current ? vmread(VMCS_GUEST_RIP) : 0;
}

/* ---- MSRs ---- */

int vmx_switched_msr(uint32_t msr)
{
	for (int i = 0; i < SWITCHED_CHILDS; i++)
		if (msr_numbers[i] == msr)
			return present >> i & 1 ? i : -1;
	return -1;
}

uint64_t vmx_read_switched(struct vp *vp, int index)
{
	return vmx_is_loaded(vp) ? rdmsr(msr_numbers[index]) : vmx_page_of(vp)->msrs[index];
}

static bool is_canonical(uint64_t value)
{
	unsigned int unused = 64 - (vmx.cr4_fixed1 & CR4_LA57 ? 57 : 48);

	return (uint64_t)((int64_t)(value << unused) >> unused) == value;
}

/* The processor knows which of its bits there are. */
static bool takes(uint32_t msr, uint64_t value)
{
	uint64_t before = rdmsr(msr);

	if (!safe_wrmsr(msr, value))
		return false;
	wrmsr(msr, before);
	return true;
}

static bool fits(const struct vp *vp, int index, uint64_t value)
{
	switch (index) {
	case SWITCHED_LSTAR:
	case SWITCHED_CSTAR:
	case SWITCHED_KERNEL_GS_BASE:
		return is_canonical(value);
	case SWITCHED_SFMASK:
	case SWITCHED_TSC_AUX:
		return !(value >> 32);
	case SWITCHED_XSS:
		if (vp->child)
			return value == 0; /* no supervisor state is offered */
		return takes(MSR_XSS, value);
	case SWITCHED_SPEC_CTRL:
		return takes(MSR_SPEC_CTRL, value);
	default:
		return true;
	}
}

bool vmx_write_switched(struct vp *vp, int index, uint64_t value)
{
	if (!fits(vp, index, value))
		return false;
	vmx_page_of(vp)->msrs[index] = value;
	if (vmx_is_loaded(vp))
		wrmsr(msr_numbers[index], value);
	return true;
}

/* RDMSR is quicker than WRMSR: the LP remembers what it has, and only what the next VP has otherwise is written. */
static void save_msrs(const struct vp *vp)
{
	struct vmx_vp_page *page = vmx_page_of(vp);
	uint64_t *here = vp->lp->switched_msrs;

	for (unsigned int i = 0; i < SWITCHED_MSRS; i++) {
		if ((i < SWITCHED_ALWAYS || !vp->child) && (present >> i & 1))
			page->msrs[i] = rdmsr(msr_numbers[i]);
		here[i] = page->msrs[i];
	}
}

static void load_msrs(const struct vp *vp)
{
	const struct vmx_vp_page *page = vmx_page_of(vp);
	const uint64_t *here = vp->lp->switched_msrs;

	for (unsigned int i = 0; i < SWITCHED_MSRS; i++)
		if (page->msrs[i] != here[i] && (present >> i & 1))
			wrmsr(msr_numbers[i], page->msrs[i]);
}

/* ---- Loading ---- */

static void set_caches_off(bool off, uint64_t cr0)
{
	if (unlikely(!(cr0 & CR0_CD) != !off))
		__asm__ volatile("movq %0, %%cr0" ::"r"(cr0 ^ CR0_CD) : "memory");
}

void vmx_vp_unload(struct vp *vp)
{
	struct vmx_vp_page *page = vmx_page_of(vp);
	uint64_t cr0 = read_cr0();

	vmx_know_apic(vp);
	page->caches_off = cr0 & CR0_CD;
	set_caches_off(false, cr0);
	page->cr2 = read_cr2();
	page->dr6 = read_dr(6);
	save_msrs(vp);
	vp->lp->last_partition_id = vp->partition->id;
	vmx_of(vp)->loaded = false;
	make_clear(vp);
}

void vmx_update_tsc(struct vp *vp)
{
	struct vmx_vp_page *page = vmx_page_of(vp);

	if (vp->tsc_delta == page->tsc_offset)
		return;
	page->tsc_offset = vp->tsc_delta;
	vmwrite(VMCS_TSC_OFFSET, vp->tsc_delta);
}

/*
 * The interrupts of an 8259 are let in through the window (vmx_set_acknowledge() says why): they are the root's, whose VP of this LP
 * may have its LINT0 so by now, or no longer.
 */
static void follow_roots_lint0(struct vp *vp)
{
	bool acknowledges = !vp_extint_wired(vp->lp->root_vp);

	if (unlikely(vmx_of(vp)->acknowledges != acknowledges))
		vmx_set_acknowledge(vp, acknowledges);
}

/* What one partition taught the branch predictors, and left in caches and buffers, isn't another's. */
static void forget_partition(void)
{
	static const uint16_t selector = SELECTOR_DATA;

	if (has_ibpb)
		wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
	if (flushes_l1d)
		wrmsr(MSR_FLUSH_CMD, FLUSH_CMD_L1D);
	if (clears_buffers)
		__asm__ volatile("verw %0" ::"m"(selector) : "cc");
}

void vmx_vp_load(struct vp *vp)
{
	struct vmx_vp_page *page = vmx_page_of(vp);
	const struct lp *lp = vp->lp;

	make_current(vp);
	vmx_of(vp)->is_clear = true;
	vmx_of(vp)->loaded = true;
	if (unlikely(page->host_lp != lp))
		vmx_write_host_state(vp);
	set_caches_off(page->caches_off, read_cr0());
	write_cr2(page->cr2);
	write_dr(6, page->dr6);
	load_msrs(vp);
	if (lp->last_partition_id != vp->partition->id)
		forget_partition();
	if (vp->child) {
		vmx_update_tsc(vp);
		follow_roots_lint0(vp);
		if (unlikely(intercepts_follow(vp)))
			vmx_follow_intercepts(vp);
		if (unlikely(!page->features_known))
			vmx_child_learn_features(vp);
	}
}

/* ---- Borrowing ---- */

void vmx_vp_borrow(struct vp *vp)
{
	make_current(vp);
}

/* The VP that runs here goes on where it was: its VMCS was active all the time (SDM3 25.1). */
void vmx_vp_return(struct vp *vp)
{
	const struct vp *here = this_lp()->vp;

	make_clear(vp);
	if (here)
		make_current(here);
}
