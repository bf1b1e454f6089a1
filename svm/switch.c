/* SPDX-License-Identifier: MIT */
/*
 * VPs into the processor and out of it. The VMCB has all but what VMRUN leaves alone: FS, GS, TR, LDTR and the system-call MSRs, which
 * VMLOAD and VMSAVE move, and a few MSRs that each VP has its own value of.
 */
#include "svm.h"
#include <trivet/intercepts.h>
#include <trivet/io.h>
#include <trivet/lp.h>
#include <trivet/partition.h>

#define MSR_PL3_SSP 0x6a7u

#define CPUID_80000008_EBX_IBPB BIT(12)
#define CPUID_80000008_EBX_SPEC_CTRL (BIT(14) | BIT(15) | BIT(24)) /* IBRS, STIBP, SSBD */
#define CPUID_80000021_EAX_USER_DIS BIT(17)
#define HWCR_CPUID_USER_DIS BIT(35)

/* MSRs that no VMCB has, in the order of svm_vp.msrs, and what a VP of a child has after power-up: 0. */
static const uint32_t switched_msrs[SVM_SWITCHED_MSRS] = { MSR_TSC_AUX, MSR_DEBUGCTL, MSR_SPEC_CTRL,
							   MSR_XSS,	MSR_U_CET,    MSR_PL3_SSP };

void svm_find_switched_msrs(void)
{
	uint32_t ebx = cpuid(0x80000000, 0).eax >= 0x80000008 ? cpuid(0x80000008, 0).ebx : 0;

	svm.switched = BIT(SVM_DEBUGCTL);
	if (cpuid(0x80000001, 0).edx & CPUID_EXTENDED_EDX_RDTSCP)
		svm.switched |= BIT(SVM_TSC_AUX);
	if (ebx & CPUID_80000008_EBX_SPEC_CTRL)
		svm.switched |= BIT(SVM_SPEC_CTRL);
	if (cpuid(0, 0).eax >= 0xd && (cpuid(0xd, 1).eax & CPUID_XSTATE_1_EAX_XSAVES))
		svm.switched |= BIT(SVM_XSS);
	/* A child's CR4 isn't intercepted: with CET set it would find the shadow stack of a process of the root's. */
	if (cpuid(0, 0).eax >= 7 && (cpuid(7, 0).ecx & CPUID_7_ECX_SHSTK))
		svm.switched |= BIT(SVM_U_CET) | BIT(SVM_PL3_SSP);
	svm.ibpb = ebx & CPUID_80000008_EBX_IBPB;
	svm.faults_cpuid = cpuid(0x80000000, 0).eax >= 0x80000021 &&
			   (cpuid(0x80000021, 0).eax & CPUID_80000021_EAX_USER_DIS);
}

/* A child's VP, which is loaded or borrowed: its value, and the processor's when it is here. */
void svm_set_switched_msr(struct vp *vp, unsigned int which, uint64_t value)
{
	svm_of(vp)->msrs[which] = value;
	if (vp_is_loaded_here(vp))
		wrmsr(switched_msrs[which], value);
}

int svm_switched_msr(uint32_t msr)
{
	for (unsigned int i = 0; i < SVM_CHILD_MSRS; i++)
		if (switched_msrs[i] == msr && (svm.switched >> i & 1))
			return (int)i;
	return -1;
}

/* The root writes these without an exit, a child through the hypervisor. */
static void save_msrs(struct vp *vp)
{
	struct svm_vp *own = svm_of(vp);

	for (unsigned int i = 0; i < SVM_SWITCHED_MSRS; i++) {
		if (!vp->child && (svm.switched >> i & 1))
			own->msrs[i] = rdmsr(switched_msrs[i]);
		vp->lp->switched_msrs[i] = own->msrs[i];
	}
}

static void load_msrs(const struct svm_vp *own, struct lp *lp)
{
	for (unsigned int i = 0; i < SVM_SWITCHED_MSRS; i++)
		if ((svm.switched >> i & 1) && lp->switched_msrs[i] != own->msrs[i])
			wrmsr(switched_msrs[i], own->msrs[i]);
}

/*
 * A root may have CPUID fault outside CPL 0 for a program of its own. Such a #GP comes before the intercept (APM2 15.7), so that a child would have
 * it too. All else in that register is the root's, whoever runs.
 */
static void leave_cpuid(struct vp *vp)
{
	uint64_t hwcr;

	if (vp->child || !svm.faults_cpuid)
		return;
	hwcr = rdmsr(MSR_HWCR);
	svm_of(vp)->faults_cpuid = hwcr & HWCR_CPUID_USER_DIS;
	if (unlikely(svm_of(vp)->faults_cpuid))
		wrmsr(MSR_HWCR, hwcr & ~HWCR_CPUID_USER_DIS);
}

static void take_cpuid(struct vp *vp)
{
	if (unlikely(svm_of(vp)->faults_cpuid))
		wrmsr(MSR_HWCR, rdmsr(MSR_HWCR) | HWCR_CPUID_USER_DIS);
}

/*
 * Translations carry the ASID. The root's VPs keep theirs; children's VPs get one when they come to an LP, and keep it there until the LP has
 * given out all it has: then everything is flushed and they get new ones.
 */
static void tag(struct vp *vp)
{
	struct svm_vp *own = svm_of(vp);
	struct lp *lp = vp->lp;

	if (!vp->child || (own->asid_lp == lp && own->asid_generation == lp->tag_generation))
		return;
	if (!lp->tag_next || lp->tag_next >= svm.asids) {
		lp->tag_generation++;
		lp->tag_next = ASID_ROOT + 1;
		own->flush_all = true;
	}
	own->asid_lp = lp;
	own->asid_generation = lp->tag_generation;
	vmcb_of(vp)->asid = lp->tag_next++;
	vp_post_self(vp, VP_PENDING_FLUSH);
}

void svm_vp_unload(struct vp *vp)
{
	svm_vmsave(vp->control_hpa);
	save_msrs(vp);
	leave_cpuid(vp);
	vp->lp->last_partition_id = vp->partition->id;
}

void svm_vp_load(struct vp *vp)
{
	struct lp *lp = vp->lp;

	load_msrs(svm_of(vp), lp);
	take_cpuid(vp);
	/* What one partition taught the branch predictors isn't another's. */
	if (svm.ibpb && lp->last_partition_id != vp->partition->id)
		wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
	vmcb_of(vp)->tsc_offset = vp->tsc_delta;
	if (vp->child && unlikely(intercepts_follow(vp)))
		svm_follow_intercepts(vp);
	tag(vp);
	svm_vmload(vp->control_hpa);
}

/* All of it is in the VMCB already. */
void svm_vp_borrow(struct vp *vp)
{
	(void)vp;
}

void svm_vp_return(struct vp *vp)
{
	(void)vp;
}
