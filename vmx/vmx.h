/* SPDX-License-Identifier: MIT */
/* What the files of the VMX back end share. */
#ifndef VMX_VMX_H
#define VMX_VMX_H

#include "vmcs.h"
#include <trivet/backend.h>
#include <trivet/decode.h>
#include <trivet/vp.h>
#include <trivet/x86.h>

#define MSR_FEATURE_CONTROL 0x3au
#define MSR_PERF_GLOBAL_CTRL 0x38fu
#define MSR_PEBS_ENABLE 0x3f1u
#define MSR_VMX_BASIC 0x480u
#define MSR_VMX_MISC 0x485u
#define MSR_VMX_CR0_FIXED0 0x486u
#define MSR_VMX_CR0_FIXED1 0x487u
#define MSR_VMX_CR4_FIXED0 0x488u
#define MSR_VMX_CR4_FIXED1 0x489u
#define MSR_VMX_PROC2 0x48bu
#define MSR_VMX_EPT_VPID 0x48cu
#define MSR_VMX_TRUE_PIN 0x48du
#define MSR_VMX_TRUE_PROC 0x48eu
#define MSR_VMX_TRUE_EXIT 0x48fu
#define MSR_VMX_TRUE_ENTRY 0x490u
#define MSR_VMX_FIRST 0x480u
#define MSR_VMX_LAST 0x493u
#define MSR_RTIT_OUTPUT 0x560u	/* base, then mask */
#define MSR_RTIT_CTL 0x570u	/* then status, CR3 match */
#define MSR_RTIT_ADDRESS 0x580u /* eight */
#define MSR_DS_AREA 0x600u
#define MSR_TME_ACTIVATE 0x982u
#define MSR_TEST_CTRL 0x33u
#define MSR_HW_FEEDBACK_PTR 0x17d0u

#define FEATURE_CONTROL_LOCK BIT(0)
#define FEATURE_CONTROL_VMX_IN_SMX BIT(1)
#define FEATURE_CONTROL_VMX BIT(2)
#define FEATURE_CONTROL_SENTER 0xff00ull /* SENTER functions and its enable bit, SDM2 table 7-1 */

#define CR4_VMXE BIT(13)
#define CR4_SMXE BIT(14)
#define DR6_BREAKPOINTS 0xfull
#define DR6_BLD BIT(11)
#define DR6_ONES 0xfffe07f0ull /* BLD and RTM are active low, but there */
#define DR6_ZERO BIT(12)

/* IA32_VMX_EPT_VPID_CAP, SDM3 A.10 */
#define EPT_CAP_WALK_4 BIT(6)
#define EPT_CAP_WRITE_BACK BIT(14)
#define EPT_CAP_2M BIT(16)
#define EPT_CAP_1G BIT(17)
#define EPT_CAP_INVEPT BIT(20)
#define EPT_CAP_ACCESSED_DIRTY BIT(21)
#define EPT_CAP_INVEPT_SINGLE BIT(25)
#define EPT_CAP_INVEPT_ALL BIT(26)
#define VMX_BASIC_TRUE_CONTROLS BIT(55)

#define VPID_CAP_INVVPID BIT(32)
#define VPID_CAP_SINGLE BIT(41)
#define VPID_CAP_ALL BIT(42)

/* The root's VPs share one identifier: each LP has its own TLB and runs one VP. */
#define VPID_ROOT 1

/* Capability MSRs. Of controls: bits that must be 1 in the low half, that may be 1 in the high half (SDM3 A.3-A.5). */
struct vmx_caps {
	uint64_t pin, proc, proc2, exit, entry; /* proc2: 0 without secondary controls */
	uint64_t misc;				/* IA32_VMX_MISC */
};

/* Set once by probe and init, then read-only. Controls as they are written, features the processor lacks left out. */
struct vmx_machine {
	uint64_t basic;	       /* IA32_VMX_BASIC */
	uint64_t ept_vpid_cap; /* IA32_VMX_EPT_VPID_CAP */
	struct vmx_caps caps;
	uint32_t pin, proc, proc2, exit, entry;
	uint32_t
		apic_controls; /* what there is of APIC virtualization; not in proc2, it depends on the VP's mode */
	uint64_t cr0_fixed0, cr0_fixed1; /* with unrestricted guest: PE and PG are free in the guest */
	uint64_t cr4_fixed0, cr4_fixed1;
	unsigned int phys_bits; /* MAXPHYADDR */
	unsigned int gpa_bits;	/* the same without key identifiers */
	bool gbpages;		/* in the guest's own page tables */
	/* For hazards.c */
	bool has_trace, has_tme, stops_counters, refuses_pebs;
	uint64_t feedback_bytes; /* size of the hardware feedback table; 0: there is none */
	uint32_t
		preemption_ticks; /* of VMCS_PREEMPTION_TIMER: bounds every stay in the guest; 0: there is none */
	uint8_t *io_map;	  /* 8 KiB: a bit per port */
	uint8_t *msr_map;	  /* 4 KiB: a bit for reads, a bit for writes */
	bool posted; /* posted interrupts: PIN_POSTED_INTERRUPTS, which depends on the VP's mode too */
	uint8_t *x2apic_msr_map; /* the same where x2APIC mode is virtualized */
	void *apic_access;	 /* page; NULL: APIC accesses are EPT violations */
	/* For VPs of child partitions: child.c */
	bool has_children; /* the processor has what they need */
	bool multihit;	   /* code in large pages can stop the processor */
	uint32_t child_proc, child_proc2;
	uint32_t child_offers2; /* what of proc2 goes with features that CPUID may offer */
	uint8_t *child_msr_map;
};
extern struct vmx_machine vmx;

struct vmx_vp_page;

/* What the back end keeps of a VP beside its VMCS, most of it to save a VMREAD. */
struct vmx_vp {
	struct vmx_vp_page *page;  /* switch.h: what the exit path doesn't need */
	uint32_t event;		   /* VMCS_ENTRY_EVENT, EVENT_VALID only until the next entry */
	uint32_t tpr_threshold;	   /* VMCS_TPR_THRESHOLD */
	uint32_t proc;		   /* VMCS_PROC_CONTROLS */
	uint32_t proc2;		   /* VMCS_PROC_CONTROLS2 */
	uint16_t interrupt_status; /* VMCS_GUEST_INTERRUPT_STATUS as it was last read or written */
	bool delivers;		   /* PROC2_INTERRUPT_DELIVERY is set */
	bool lends_page;	   /* PROC2_APIC_REGISTERS is set: the guest works on the APIC page */
	bool apic_known;   /* the model has taken over what was done there, and has not given it back */
	bool takes_posted; /* PIN_POSTED_INTERRUPTS is set */
	bool acknowledges; /* EXIT_ACK_INTERRUPT is set */
	uint16_t vpid;	   /* tag of its translations */
	bool loaded;	   /* its state is in the processor of its LP, its VMCS active there */
	bool is_clear;	   /* loaded, and not entered since: the next entry is a launch */
	bool cr2_set;	   /* the guest's CR2 was set by name: it isn't what it was at the exit */
	bool pdptes_stale; /* a register was set by name that PAE paging's four top entries depend on */
};
static_assert(sizeof(struct vmx_vp) <= sizeof(((struct vp *)0)->backend_data), "struct vp");

static inline struct vmx_vp *vmx_of(struct vp *vp)
{
	return (struct vmx_vp *)vp->backend_data;
}

static inline bool vmx_is_loaded(const struct vp *vp)
{
	return ((const struct vmx_vp *)vp->backend_data)->loaded;
}

/* probe.c */
int vmx_probe(char *why, size_t size);
void vmx_describe(char *text, size_t size);
/* False: the firmware locked VMX off on this processor (IA32_FEATURE_CONTROL, SDM3 24.7). */
bool vmx_allowed_by_firmware(void);

/* state.c */
int vmx_vp_create(struct vp *vp);
void vmx_vp_destroy(struct vp *vp);
void vmx_vp_launch(struct vp *vp, const struct boot_cpu_state *state, const struct boot_context *context);
void vmx_vp_reset(struct vp *vp);
void vmx_vp_start(struct vp *vp, uint8_t vector);
void vmx_get_context(struct vp *vp, struct vp_context *context);
void vmx_set_context(struct vp *vp, const struct vp_context *context);
void vmx_lp_start(struct lp *lp);
/* The host's part of the VMCS becomes this LP's. */
void vmx_write_host_state(struct vp *vp);
void vmx_set_guest_cr0(struct vp *vp, uint64_t value);
void vmx_set_guest_cr4(struct vp *vp, uint64_t value);
void vmx_set_guest_efer(uint64_t value);
static inline bool vmx_in_64bit_code(void)
{
	return (vmread(VMCS_GUEST_EFER) & EFER_LMA) && (vmread(VMCS_GUEST_CS_RIGHTS) & RIGHTS_LONG);
}

/* CR0 and CR4 as the guest reads them. */
uint64_t vmx_guest_cr0(const struct vp *vp);
uint64_t vmx_guest_cr4(const struct vp *vp);
/* All translations of the VP on this LP go. */
void vmx_invalidate(struct vp *vp);

/* child.c */
/* Which of the controls that children need there are. Once at boot. */
void vmx_child_init(void);
/* A new VP's VMCS, current here. */
void vmx_child_write_controls(struct vp *vp);
/* The VP is loaded for the first time: what CPUID doesn't offer it doesn't exist for it. */
void vmx_child_learn_features(struct vp *vp);
/* CR4's bits that a child may set by name: those of the architecture that need nothing from the hypervisor. */
uint64_t vmx_child_cr4_bits(void);

/* child_intercepts.c: what the parent has asked for */
/* With vmx_vp_load(), after a change; and of a new VP. */
void vmx_follow_intercepts(struct vp *vp);
/* An instruction before anything of it is done, or when it would be #GP. True: the parent answers it. */
bool vmx_intercepts_cpuid(struct vp *vp, uint32_t hidden_edx);
bool vmx_intercepts_msr(struct vp *vp, uint32_t msr, bool is_write);
bool vmx_intercepts_unknown_msr(struct vp *vp, uint32_t msr, bool is_write);
/* A write of an MSR that the VP would have to itself. False: #GP. */
bool vmx_write_passed_msr(struct vp *vp, uint32_t msr, uint64_t value);
/* An exception of a child's that ended guest mode, `event` is VMCS_EXIT_EVENT: its parent's, or it goes on to the child. */
void vmx_reflect_exception(struct vp *vp, uint32_t event);
/* What an instruction that ended guest mode makes of itself: a fault before anything of it is done, or #DB behind it. Goes the same way. */
void vmx_raise_exception(struct vp *vp, uint8_t vector, bool has_error, uint32_t error);

/* child_exit.c; called by enter.asm */
void vmx_handle_child_exit(struct vp *vp);
/* The VP can't be entered as it is: its parent hears of it. */
void vmx_child_entry_failed(struct vp *vp, const char *what);

/* control_registers.c */
/* An exit for a MOV to a control register, LMSW or CLTS. */
void vmx_handle_cr(struct vp *vp);

/* The four top entries of PAE paging, by the guest's CR3. False: one has a reserved bit set, or can't be read. */
bool vmx_load_pdptes(struct vp *vp);

/* task_switch.c */
/* An exit for a task switch; what it interrupted the delivery of is not requeued yet. Keeps or sets CR2. */
void vmx_handle_task_switch(struct vp *vp);

/* exit.c; called by enter.asm */
void vmx_handle_exit(struct vp *vp);
/* VM entry failed before it began. For a root's VP a panic with the VM-instruction error. */
_Noreturn void vmx_entry_refused(struct vp *vp);

/* enter.asm */
/* Enters the VP, whose VMCS is current, and goes on with its exits. What is on the LP's stack is done with. */
_Noreturn void vmx_enter(struct vp *vp, bool launch);
extern const char vmx_exit[], vmx_child_exit[]; /* where the exits of a root's VP and of a child's end */
#define VMX_HOST_RSP(lp) ((uint64_t)(lp) + LP_STACK_TOP - 16)
void vmx_open_window(void);
void vmx_halt(void);
void vmx_unblock_nmis(void);
extern const char vmx_window_begin[], vmx_window_end[];

/* events.c */
/* The guest gets an exception; one that hits during the delivery of another event merges with it (SDM3 6.15). */
void vmx_inject_exception(struct vp *vp, uint8_t vector, bool has_error, uint32_t error);
/* Puts back what the exit interrupted, `event` of VMCS_VECTORING_EVENT. Only where the exit ended a delivery. */
void vmx_requeue_event(struct vp *vp, uint32_t event);
/* Does what vp->pending asks for; the VP may be entered afterwards. It doesn't return when that may be another VP: that is entered. */
void vmx_handle_pending(struct vp *vp);
/* Enters whoever is to run here now. */
_Noreturn void vmx_run_next(struct vp *vp);
/* Whether the processor acknowledges interrupts with the exit. */
void vmx_set_acknowledge(struct vp *vp, bool acknowledge);
static inline bool vmx_can_inject(struct vp *vp)
{
	return (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF) &&
	       !(vmread(VMCS_GUEST_INTERRUPTIBILITY) & (BLOCKING_STI | BLOCKING_MOV_SS)) &&
	       !(vmx_of(vp)->event & EVENT_VALID);
}

/* Injects the highest interrupt that the VP may take, or opens a window for it. */
void vmx_deliver_interrupt(struct vp *vp);
void vmx_handle_interrupt_window(struct vp *vp);
void vmx_handle_nmi_window(struct vp *vp);
/* Back to the state after INIT: nothing to inject, no window. */
void vmx_reset_events(struct vp *vp);

/* RF ends with an instruction done in software, TF traps after it: true. */
bool vmx_complete_traced(struct vp *vp, uint64_t rflags);
/* The handler of #DB finds general detection, branch records and single steps on branches off (SDM3 18.2.4, 18.4.2, 18.4.3). */
static inline void vmx_begin_debug_exception(void)
{
	vmwrite(VMCS_GUEST_DR7, vmread(VMCS_GUEST_DR7) & ~DR7_GD);
	vmwrite(VMCS_GUEST_DEBUGCTL, vmread(VMCS_GUEST_DEBUGCTL) & ~(DEBUGCTL_LBR | DEBUGCTL_BTF));
}
/* RIP went over a 4 GiB boundary: outside 64-bit code it has 32 bits. */
uint64_t vmx_wrap_rip(uint64_t rip);

/* The instruction was done in software and ends at `rip`. True: with a trap. */
static inline bool vmx_complete(struct vp *vp, uint64_t rip)
{
	uint64_t blocking = vmread(VMCS_GUEST_INTERRUPTIBILITY);
	uint64_t rflags = vmread(VMCS_GUEST_RFLAGS);

	if (unlikely((uint32_t)rip < INSN_LENGTH_MAX))
		rip = vmx_wrap_rip(rip);
	vmwrite(VMCS_GUEST_RIP, rip);
	if (unlikely(blocking & (BLOCKING_STI | BLOCKING_MOV_SS)))
		vmwrite(VMCS_GUEST_INTERRUPTIBILITY, blocking & ~(BLOCKING_STI | BLOCKING_MOV_SS));
	return unlikely(rflags & (RFLAGS_TF | RFLAGS_RF)) && vmx_complete_traced(vp, rflags);
}

/* check.c */
/* 0 when the current VMCS keeps the rules for VM entries (SDM3 27.2, 27.3.1); else -EINVAL, and in `why` the first one broken. */
int vmx_check(const struct vmx_machine *machine, char *why, size_t size);

/* registers.c, where the VP is loaded or borrowed; struct backend says what they do */
void vmx_get_register(struct vp *vp, enum vp_register which, union hv_register_value *value);
void vmx_get_snapshot(struct vp *vp, struct vp_snapshot *snapshot);
int vmx_set_register(struct vp *vp, enum vp_register which, const union hv_register_value *value);
int vmx_get_msr(struct vp *vp, uint32_t msr, uint64_t *value);
int vmx_set_msr(struct vp *vp, uint32_t msr, uint64_t value);
bool vmx_can_run(struct vp *vp);
/* Before an entry, with vmx_vp.pdptes_stale: entries that can't be had are none. */
void vmx_settle_pdptes(struct vp *vp);

/* names.c */
const char *vmx_exit_name(uint32_t code);
enum exit_category vmx_exit_category(uint32_t index);
const char *vmx_instruction_error_name(uint32_t error);

/* virtual_apic.c */
bool vmx_reads_apic_page(void);
void vmx_apic_mode_changed(struct vp *vp);
/* Posted interrupts as far as the APIC's mode and the way interrupts are acknowledged allow them. */
void vmx_update_posting(struct vp *vp);
/* Before anything of the model is used at an exit but for interrupts' arrival. What it changes is handed over before the entry. */
void vmx_apic_take_over(struct vp *vp);
static inline void vmx_know_apic(struct vp *vp)
{
	struct vmx_vp *own = vmx_of(vp);

	if (own->lends_page && !own->apic_known)
		vmx_apic_take_over(vp);
}

/* At an exit: what the model took over at an earlier one, and did not change, is old by now. */
void vmx_apic_give_back(struct vp *vp);

/* With virtual-interrupt delivery: the model's interrupts are the processor's from now on. */
void vmx_hand_over_interrupts(struct vp *vp);

/* permission_maps.c */
int vmx_permission_maps_init(void);
void vmx_hide_ports(uint16_t port, uint16_t count);
/* Of a child's VP; false: it has that MSR to itself. */
bool vmx_child_msr_exits(uint32_t msr, bool is_write);
void vmx_allow_ports(uint16_t port, uint16_t count);

/* hazards.c */
/* What this processor has of them. */
void vmx_find_hazards(void);
/* On each LP, once its VMCS has its controls. */
void vmx_stop_hazards(struct vp *vp);
unsigned int vmx_gpa_bits(void);
/* #GP to the root's RDMSR and WRMSR. */
bool vmx_msr_is_refused(uint32_t msr);
/* The root's WRMSR goes through vmx_checked_msr_write(), where false means #GP. */
bool vmx_msr_write_is_checked(uint32_t msr);
bool vmx_checked_msr_write(uint32_t msr, uint64_t value);
/* Takes what the root can't use from the machine's answer to CPUID. */
void vmx_hide_hazards(struct vp *vp, uint32_t leaf, uint32_t subleaf);

/* microcode.c */
/* The root's WRMSR to IA32_BIOS_UPDT_TRIG. False: #GP. */
bool vmx_microcode_write(struct vp *vp, uint64_t value);

#endif
