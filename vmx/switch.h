/* SPDX-License-Identifier: MIT */
/* What of a VP stays in the processor between exit and entry, where it is while the VP isn't loaded, and how it gets from there to here. */
#ifndef VMX_SWITCH_H
#define VMX_SWITCH_H

#include "vmx.h"
#include <trivet/live_registers.h>

/* MSRs that neither entry nor exit switches. */
enum switched_msr {
	SWITCHED_STAR,
	SWITCHED_LSTAR,
	SWITCHED_CSTAR,
	SWITCHED_SFMASK,
	SWITCHED_KERNEL_GS_BASE,
	SWITCHED_ALWAYS, /* the ones from here on not every processor has, and a child's writes of them exit */
	SWITCHED_TSC_AUX = SWITCHED_ALWAYS,
	SWITCHED_SPEC_CTRL,
	SWITCHED_XSS,
	SWITCHED_CHILDS, /* the ones from here on a child hasn't got: they stay 0 */
	SWITCHED_MISC_FEATURES = SWITCHED_CHILDS,
	SWITCHED_MSRS,
};
static_assert(SWITCHED_MSRS <= LP_SWITCHED_MSRS, "struct lp");

/* SDM3 table 25-15 */
struct vmx_msr_entry {
	uint32_t msr;
	uint32_t reserved;
	uint64_t value;
} __attribute__((aligned(16)));

/* A page of the VP's for what the exit path doesn't need. */
struct vmx_vp_page {
	/* IA32_PERF_GLOBAL_CTRL: an MSR area of one entry each. Stored at exits and loaded at entries; loaded at exits. */
	struct vmx_msr_entry guest_counters, host_counters;
	/* What is in the processor, as it was when the VP left it. */
	uint64_t msrs[SWITCHED_MSRS]; /* of a child's from SWITCHED_ALWAYS on also while it is there */
	uint64_t cr2, dr6;
	bool caches_off; /* CR0.CD; never a child's */

	bool features_known;	  /* of a child's: its controls go with what CPUID says */
	uint64_t tsc_offset;	  /* VMCS_TSC_OFFSET */
	const struct lp *host_lp; /* whose host state is in the VMCS */
};
static_assert(sizeof(struct vmx_vp_page) <= PAGE_SIZE, "one page");

/* Once at boot: which of the MSRs there are. */
void vmx_find_switched_msrs(void);
/* The same of one that only a try can find: once the first LP has its IDT. */
void vmx_find_cpuid_faulting(void);
/* A new VMCS, before it is made current for the first time: what the processor keeps in it beside the fields (SDM3 25.11.3). */
void vmx_initialize(struct vp *vp);
/* The LP's own VMCS becomes current, clear. At boot; from then on the VP is loaded. */
void vmx_first_load(struct vp *vp);
void vmx_vp_unload(struct vp *vp);
void vmx_vp_load(struct vp *vp);
void vmx_vp_borrow(struct vp *vp);
void vmx_vp_return(struct vp *vp);
/* The VMCS of a VP that runs here is clear again, as after a failed entry: the next one is a launch. */
void vmx_relaunch(struct vp *vp);
/* RIP of a VP whose VMCS is current here, else 0. */
uint64_t vmx_rip(const struct vp *vp);

/* The TSC of a child's VP, which is loaded, goes by vp->tsc_delta from now on. */
void vmx_update_tsc(struct vp *vp);

/* Index of a switched MSR that the processor has and a child may have, or -1. */
int vmx_switched_msr(uint32_t msr);
uint64_t vmx_read_switched(struct vp *vp, int index);
/* False: it isn't one that WRMSR takes. */
bool vmx_write_switched(struct vp *vp, int index, uint64_t value);

static inline struct vmx_vp_page *vmx_page_of(const struct vp *vp)
{
	return ((const struct vmx_vp *)vp->backend_data)->page;
}

static inline uint64_t vmx_cr2(const struct vp *vp)
{
	return vmx_is_loaded(vp) ? read_cr2() : vmx_page_of(vp)->cr2;
}

static inline void vmx_set_cr2(struct vp *vp, uint64_t value)
{
	if (vmx_is_loaded(vp))
		write_cr2(value);
	else
		vmx_page_of(vp)->cr2 = value;
}

static inline uint64_t vmx_dr6(const struct vp *vp)
{
	return vmx_is_loaded(vp) ? read_dr(6) : vmx_page_of(vp)->dr6;
}

static inline void vmx_set_dr6(struct vp *vp, uint64_t value)
{
	if (vmx_is_loaded(vp))
		write_dr(6, value);
	else
		vmx_page_of(vp)->dr6 = value;
}

/* vpid.c: tags of translations, each a VP's as long as it lives. 0: there is none left. */
uint16_t vmx_vpid_alloc(void);
void vmx_vpid_free(uint16_t vpid);

#endif
