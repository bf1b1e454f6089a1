/* SPDX-License-Identifier: MIT */
/* What the files of the SVM back end share. */
#ifndef SVM_SVM_H
#define SVM_SVM_H

#include "vmcb.h"
#include <trivet/backend.h>
#include <trivet/decode.h>
#include <trivet/exceptions.h>
#include <trivet/vp.h>
#include <trivet/x86.h>

#define MSR_SMM_CTL 0xc0010116u
#define MSR_VM_HSAVE_PA 0xc0010117u
#define MSR_SVM_KEY 0xc0010118u

#define EFER_SVME BIT(12)

/* CPUID 8000000A.EDX */
#define SVM_FEATURE_NPT BIT(0)
#define SVM_FEATURE_NRIPS BIT(3)
#define SVM_FEATURE_CLEAN_BITS BIT(5)
#define SVM_FEATURE_FLUSH_BY_ASID BIT(6)
#define SVM_FEATURE_DECODE_ASSISTS BIT(7)
#define SVM_FEATURE_PAUSE_FILTER BIT(10)
#define SVM_FEATURE_AVIC BIT(13)

/* The root's VPs share one address space identifier: each LP has its own TLB and runs one VP. */
#define ASID_ROOT 1

/* struct vmcb_segment */
#define ATTR_PRESENT BIT(7)
#define ATTR_LONG BIT(9)
#define ATTR_BIG BIT(10)

/* Set once by probe and init, then read-only. */
struct svm_machine {
	uint32_t features; /* CPUID 8000000A.EDX */
	uint32_t asids;
	unsigned int phys_bits, linear_bits;
	bool gbpages;
	bool invlpgb;
	bool delivers_twice;	/* QEMU: see exit_when_delivered() */
	uint64_t efer_writable; /* bits of EFER that the processor has: svm_efer_writable() */
	bool ibpb;		/* branch predictors can be made to forget */
	bool faults_cpuid;	/* CPUID can be made to fault outside CPL 0 */
	uint32_t switched;	/* bit n: there is switched_msrs[n] (switch.c) */
	uint8_t *io_map;	/* 12 KiB: a bit per port */
	uint8_t *msr_map;	/* 8 KiB: two bits per MSR */
	uint8_t *child_io_map;	/* of children's VPs: all is intercepted, ... */
	uint8_t *child_msr_map; /* ... but for MSRs that the VMCB has */
	uint8_t *shut_msr_map;	/* without that: for children whose parent wants to see one of those */
};
extern struct svm_machine svm;

enum svm_switched_msr {
	SVM_TSC_AUX,
	SVM_DEBUGCTL,
	SVM_SPEC_CTRL,
	SVM_XSS,
	SVM_CHILD_MSRS, /* the ones from here on a child hasn't got: they stay 0 */
	SVM_U_CET = SVM_CHILD_MSRS,
	SVM_PL3_SSP,
	SVM_SWITCHED_MSRS
};

/* What the back end keeps of a VP beside its VMCB. */
struct svm_vp {
	uint64_t msrs[SVM_SWITCHED_MSRS]; /* a root's: while it isn't loaded */
	const struct lp *asid_lp;	  /* where the VMCB's ASID was given out, */
	uint64_t asid_generation;	  /* and when */
	bool flush_all;			  /* with the next entry, whoever's translations */
	uint64_t iret_rip;
	uint8_t v_tpr; /* V_TPR as we know it: the guest's writes of CR8 change it in the VMCB without an exit */
	bool nmi_masked;    /* an NMI is being handled: until IRET */
	bool nmi_iret_seen; /* its IRET was reached, at iret_rip: over once that completed */
	bool nmi_step;	    /* single-stepping over it: TF in the VMCB is ours, */
	bool nmi_step_tf;   /* and this the guest's */
	bool faults_cpuid;  /* a root's, while it isn't loaded: HWCR.CpuidUserDis was set */
};
static_assert(sizeof(struct svm_vp) <= sizeof(((struct vp *)0)->backend_data), "struct vp");

static inline struct svm_vp *svm_of(struct vp *vp)
{
	return (struct svm_vp *)vp->backend_data;
}

static inline struct vmcb *vmcb_of(const struct vp *vp)
{
	return vp->control;
}

/* Until the handler's IRET has completed, which shows at any exit by another RIP (events.c). */
static inline bool svm_nmis_are_masked(struct vp *vp)
{
	const struct svm_vp *own = svm_of(vp);

	return own->nmi_masked && !(own->nmi_iret_seen && vmcb_of(vp)->rip != own->iret_rip);
}

static inline uint64_t svm_guest_rflags(struct vp *vp)
{
	uint64_t rflags = vmcb_of(vp)->rflags;

	return unlikely(svm_of(vp)->nmi_step) && !svm_of(vp)->nmi_step_tf ? rflags & ~RFLAGS_TF : rflags;
}

/* Which bits of EFER it may change: a child those of what CPUID offers it. */
static inline uint64_t svm_efer_writable(const struct vp *vp)
{
	return vp->child ? svm.efer_writable & (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE) :
			   svm.efer_writable;
}

static inline void svm_set_v_tpr(struct vp *vp, struct vmcb *vmcb, uint8_t cr8)
{
	svm_of(vp)->v_tpr = cr8;
	vmcb->interrupt_control = (vmcb->interrupt_control & ~V_TPR_MASK) | cr8;
}

/* probe.c */
int svm_probe(char *why, size_t size);
void svm_describe(char *text, size_t size);

/* permission_maps.c */
int svm_permission_maps_init(void);
void svm_hide_ports(uint16_t port, uint16_t count);
void svm_allow_ports(uint16_t port, uint16_t count);
/* Of a child's VP; false: it has that MSR to itself. */
bool svm_child_msr_exits(uint32_t msr, bool is_write);

/* state.c */
int svm_vp_create(struct vp *vp);
void svm_vp_destroy(struct vp *vp);
void svm_vp_launch(struct vp *vp, const struct boot_cpu_state *state, const struct boot_context *context);
void svm_vp_reset(struct vp *vp);
void svm_vp_start(struct vp *vp, uint8_t vector);
void svm_get_context(struct vp *vp, struct vp_context *context);
void svm_set_context(struct vp *vp, const struct vp_context *context);
void svm_lp_start(struct lp *lp);

/* Where the instruction that exited ends; `usual_length` if it can't be read. */
uint64_t svm_next_rip(struct vp *vp, const struct vmcb *vmcb, unsigned int usual_length);
/* exit.c; called by enter.asm */
void svm_handle_exit(struct vp *vp, struct vmcb *vmcb);

/* enter.asm */
_Noreturn void svm_run_loop(struct vp *vp);
void svm_open_window(void);
void svm_halt(void);
extern const char svm_window_begin[], svm_window_end[];

/* events.c */
/*
 * With #DB and #AC a child could keep the processor in the delivery of one exception after the other, without an instruction in between at which an
 * interrupt could end guest mode. And a machine check is the machine's. Those of the root's all go to the root.
 */
static inline uint32_t svm_intercepted_exceptions(const struct vp *vp)
{
	return vp->child ?
		       (uint32_t)(BIT(VECTOR_DB) | BIT(VECTOR_AC) | BIT(VECTOR_MC)) | vp->wanted_exceptions :
		       0;
}

/* The guest gets an exception; one that hits during the delivery of another event merges with it (APM2 8.2.9). */
void svm_inject_exception(struct vp *vp, uint8_t vector, bool has_error, uint32_t error);
/* Puts back what the exit interrupted (exit_int_info). Only where the exit ended a delivery. */
void svm_requeue_event(struct vp *vp, struct vmcb *vmcb);
/* Does what vp->pending asks for; returns the VP to be entered: another one may be due. */
struct vp *svm_handle_pending(struct vp *vp);
static inline bool svm_can_inject(const struct vmcb *vmcb)
{
	return (vmcb->rflags & RFLAGS_IF) && !(vmcb->interrupt_shadow & INTERRUPT_SHADOW) &&
	       !(vmcb->event_injection & EVENT_VALID);
}

/* Injects the highest interrupt that the VP may take, or opens a window for it. */
void svm_deliver_interrupt(struct vp *vp);
void svm_handle_vintr(struct vp *vp);
void svm_handle_iret(struct vp *vp);
void svm_handle_step(struct vp *vp);

/* RF ends with an instruction done in software, TF traps after it: true. */
bool svm_complete_traced(struct vp *vp);

/* The instruction was done in software and ends at `rip`. True: with a trap. */
static inline bool svm_complete(struct vp *vp, struct vmcb *vmcb, uint64_t rip)
{
	vmcb->rip = rip;
	vmcb->interrupt_shadow = 0;
	return unlikely(vmcb->rflags & (RFLAGS_TF | RFLAGS_RF)) && svm_complete_traced(vp);
}

/* switch.c */
void svm_find_switched_msrs(void);
void svm_set_switched_msr(struct vp *vp, unsigned int which, uint64_t value);
int svm_switched_msr(uint32_t msr); /* its place in svm_vp.msrs, -1: it isn't one that this machine has */
void svm_vp_unload(struct vp *vp);
void svm_vp_load(struct vp *vp);
void svm_vp_borrow(struct vp *vp);
void svm_vp_return(struct vp *vp);

/* child_exit.c */
/* Exits that mean something else for a child, or that only a child's VPs have. */
void svm_handle_child_exit(struct vp *vp, struct vmcb *vmcb);
/* RDMSR and WRMSR of a child's VP, of what has no quicker way. False: #GP. */
bool svm_child_rdmsr(struct vp *vp, uint32_t msr, uint64_t *value);
bool svm_child_wrmsr(struct vp *vp, uint32_t msr, uint64_t value);

/* child_intercepts.c: what the parent has asked for */
/* With svm_vp_load(), after a change. */
void svm_follow_intercepts(struct vp *vp);
/* An instruction that ends at `rip`, before anything of it is done, or when it would be #GP. True: the parent answers it. */
bool svm_intercepts_cpuid(struct vp *vp, const struct vmcb *vmcb, uint64_t rip);
bool svm_intercepts_msr(struct vp *vp, const struct vmcb *vmcb, uint32_t msr, bool is_write);
bool svm_intercepts_unknown_msr(struct vp *vp, const struct vmcb *vmcb, uint32_t msr, bool is_write,
				uint64_t rip);
/* MSRs that the VP would have to itself. False: #GP. */
bool svm_read_passed_msr(struct vp *vp, uint32_t msr, uint64_t *value);
bool svm_write_passed_msr(struct vp *vp, uint32_t msr, uint64_t value);
/* An exception of a child's that ended guest mode: its parent's, or it goes on to the child. */
void svm_handle_exception(struct vp *vp, struct vmcb *vmcb, uint8_t vector);
/* What an instruction that ended guest mode makes of itself: a fault before anything of it is done, or #DB behind it. Goes the same way. */
void svm_raise_exception(struct vp *vp, uint8_t vector, bool has_error, uint32_t error);

/* registers.c, where the VP is loaded or borrowed; struct backend says what they do */
void svm_get_register(struct vp *vp, enum vp_register which, union hv_register_value *value);
void svm_get_snapshot(struct vp *vp, struct vp_snapshot *snapshot);
int svm_set_register(struct vp *vp, enum vp_register which, const union hv_register_value *value);
int svm_get_msr(struct vp *vp, uint32_t msr, uint64_t *value);
int svm_set_msr(struct vp *vp, uint32_t msr, uint64_t value);
bool svm_can_run(struct vp *vp);

#ifdef TRIVET_HOST_TEST
void svm_vmsave(uint64_t vmcb_hpa);
void svm_vmload(uint64_t vmcb_hpa);
#else
static inline void svm_vmsave(uint64_t vmcb_hpa)
{
	__asm__ volatile("vmsave" ::"a"(vmcb_hpa) : "memory");
}

static inline void svm_vmload(uint64_t vmcb_hpa)
{
	__asm__ volatile("vmload" ::"a"(vmcb_hpa) : "memory");
}
#endif

/* names.c */
const char *svm_exit_name(uint32_t code);
enum exit_category svm_exit_category(uint32_t index);

#endif
