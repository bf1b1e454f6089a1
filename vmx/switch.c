/* SPDX-License-Identifier: MIT */
/*
 * VPs come to an LP and leave it. A VMCS that isn't loaded is clear (SDM3 25.11.3): all of it is in memory, so any LP may take it. What
 * VM entry and exit don't switch goes along here: CR2, DR6, CR0.CD and a few MSRs; what isn't the vendor's is core's.
 */
#include "switch.h"
#include <errno.h>
#include <trivet/assert.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>
#include <trivet/safe_msr.h>

#define CPUID_EXTENDED_EDX_RDTSCP BIT(27)
#define CPUID_7_ECX_RDPID BIT(22)
#define CPUID_XSTATE_1_EAX_XSAVES BIT(3)

static const uint32_t msr_numbers[SWITCHED_MSRS] = {
	[SWITCHED_STAR] = MSR_STAR,	      [SWITCHED_LSTAR] = MSR_LSTAR,
	[SWITCHED_CSTAR] = MSR_CSTAR,	      [SWITCHED_SFMASK] = MSR_SFMASK,
	[SWITCHED_KERNEL_GS_BASE] = MSR_KERNEL_GS_BASE, [SWITCHED_TSC_AUX] = MSR_TSC_AUX,
	[SWITCHED_XSS] = MSR_XSS,
};

/* What an LP has in the switched MSRs between two VPs. */
struct lp_msrs {
	uint64_t value[SWITCHED_MSRS];
};

static struct lp_msrs *lp_msrs; /* by LP index */
static uint32_t present;	/* bit n: msr_numbers[n] is there */

int vmx_switch_init(void)
{
	bool has_aux = (cpuid(0x80000001, 0).edx & CPUID_EXTENDED_EDX_RDTSCP) ||
		       (cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ecx & CPUID_7_ECX_RDPID));
	bool has_xss = cpuid(0, 0).eax >= 0xd && (cpuid(0xd, 1).eax & CPUID_XSTATE_1_EAX_XSAVES);

	present = BIT(SWITCHED_TSC_AUX) - 1;
	if (has_aux)
		present |= BIT(SWITCHED_TSC_AUX);
	if (has_xss)
		present |= BIT(SWITCHED_XSS);
	lp_msrs = page_alloc(&host_pool, page_order_for(lp_count * sizeof(*lp_msrs)));
	return lp_msrs ? 0 : -ENOMEM;
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

static uint64_t current_hpa(void)
{
	uint64_t hpa;

	__asm__ volatile("vmptrst %0" : "=m"(hpa)::"cc");
	return hpa;
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
	for (int i = 0; i < SWITCHED_MSRS; i++)
		if (msr_numbers[i] == msr)
			return present >> i & 1 ? i : -1;
	return -1;
}

uint64_t vmx_read_switched(struct vp *vp, int index)
{
	return vmx_is_loaded(vp) ? rdmsr(msr_numbers[index]) : vmx_page_of(vp)->msrs[index];
}

void vmx_write_switched(struct vp *vp, int index, uint64_t value)
{
	if (vmx_is_loaded(vp))
		wrmsr(msr_numbers[index], value);
	else
		vmx_page_of(vp)->msrs[index] = value;
}

/* RDMSR is quicker than WRMSR: the LP remembers what it has, and only what the next VP has otherwise is written. */
static void save_msrs(struct vmx_vp_page *page)
{
	struct lp_msrs *here = &lp_msrs[this_lp()->index];

	for (unsigned int i = 0; i < SWITCHED_MSRS; i++)
		if (present >> i & 1)
			page->msrs[i] = here->value[i] = rdmsr(msr_numbers[i]);
}

static void load_msrs(const struct vmx_vp_page *page)
{
	const struct lp_msrs *here = &lp_msrs[this_lp()->index];

	for (unsigned int i = 0; i < SWITCHED_MSRS; i++)
		if (page->msrs[i] != here->value[i] && (present >> i & 1))
			wrmsr(msr_numbers[i], page->msrs[i]);
}

/* ---- Loading ---- */

static void set_caches_off(bool off, uint64_t cr0)
{
	if (unlikely(!(cr0 & CR0_CD) != !off))
		write_cr0(cr0 ^ CR0_CD);
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
	save_msrs(page);
	vmx_of(vp)->loaded = false;
	make_clear(vp);
}

void vmx_update_tsc(struct vp *vp)
{
	struct vmx_vp_page *page = vmx_page_of(vp);
	uint64_t offset =
		vp->tsc_offset - atomic_load_explicit(&this_lp()->tsc_moved, memory_order_relaxed);

	if (offset == page->tsc_offset)
		return;
	page->tsc_offset = offset;
	vmwrite(VMCS_TSC_OFFSET, offset);
}

/*
 * The interrupts of an 8259 are let in through the window (set_acknowledge() in events.c says why): they are the root's, whose VP of this LP
 * may have its LINT0 so by now, or no longer.
 */
static void follow_roots_lint0(struct vp *vp)
{
	bool acknowledges = !vp_extint_wired(this_lp()->root_vp);

	if (unlikely(vmx_of(vp)->acknowledges != acknowledges))
		vmx_set_acknowledge(vp, acknowledges);
}

void vmx_vp_load(struct vp *vp)
{
	struct vmx_vp_page *page = vmx_page_of(vp);
	const struct lp *lp = this_lp();

	make_current(vp);
	vmx_of(vp)->is_clear = true;
	vmx_of(vp)->loaded = true;
	if (unlikely(page->host_lp != lp))
		vmx_write_host_state(vp);
	set_caches_off(page->caches_off, read_cr0());
	write_cr2(page->cr2);
	write_dr(6, page->dr6);
	load_msrs(page);
	if (vp->child) {
		vmx_update_tsc(vp);
		follow_roots_lint0(vp);
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
