/* SPDX-License-Identifier: MIT */
/*
 * The vendor interface: all that core/ knows of SVM or VMX. Bound once at boot. A back end runs the exit loop of
 * its VP and calls the neutral handlers of vp.h and partition.h directly; what core/ asks of it goes through here.
 */
#ifndef TRIVET_BACKEND_H
#define TRIVET_BACKEND_H

#include <trivet/boot_handoff.h>
#include <trivet/second_stage.h>
#include <trivet/statistics.h>
#include <trivet/types.h>
#include <trivet/vp.h>
#include <trivet/vp_registers.h>

/* A segment register with what its descriptor says. */
struct boot_segment {
	uint16_t selector;
	uint16_t rights; /* descriptor bits 47:40 at 7:0 and 55:52 at 15:12; 0: nothing usable is loaded */
	uint32_t limit;	 /* in bytes */
	uint64_t base;
};

/* What the loader's processor state was, before the hypervisor changed anything. */
struct boot_cpu_state {
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) gdtr, idtr;
	struct boot_segment es, cs, ss, ds, fs, gs, tr, ldtr;
	uint64_t cr0, cr4, efer;
};

struct backend {
	const char *name;
	const struct ss_format *ss_format;
	/* For ss_init(): the page sizes that second-stage tables may have, the root's or a child's. */
	uint64_t (*ss_flags)(bool of_child);
	/* Width of the physical addresses that each stand for other memory: MAXPHYADDR without key identifiers. After init. */
	unsigned int (*phys_bits)(void);
	uint8_t hypercall_code[4]; /* the instruction of a hypercall, and RET */
	bool tr_is_guests; /* the hypervisor runs with the guest's TR: interrupts can't switch stacks */
	/* The code in which physical interrupts are let in. */
	const char *window_begin, *window_end;
	uint64_t vp_control_bytes;   /* pages of a VP's control block */
	bool x2apic_has_arbitration; /* x2APIC MSRs 809h and 80Ch read as 0 instead of faulting */
	/*
	 * 0 when this processor can run Trivet. -ENOENT: it has nothing of this kind. -ENODEV: it has, but it can't be
	 * used, for the reason in `why`, for the user.
	 */
	int (*probe)(char *why, size_t size);
	/* Memory to map read-write at the local APIC's address, where the processor knows accesses to it by that; 0: none. */
	hpa_t (*apic_page)(void);
	/* The processor answers the guest's reads of local APIC registers from the VP's page, as far as it can. */
	bool (*reads_apic_page)(void);
	/* The VP's local APIC was reset, enabled, disabled or changed its mode. Where the VP is loaded or borrowed. */
	void (*apic_mode_changed)(struct vp *vp);
	/* The features found, for the log. */
	void (*describe)(char *text, size_t size);
	/* Once, on the boot LP, after the pool is there: permission maps and the like. -ENOMEM. */
	int (*init)(void);
	/* On each LP: turn virtualization on. `lp` area's LP_BACKEND_PAGE is the back end's. */
	void (*lp_start)(struct lp *lp);
	/* Control block of a VP in its reset state. -ENOMEM. -ENOTSUP: of a child's, on a processor that can't have any. */
	int (*vp_create)(struct vp *vp);
	/* The VP goes on where the loader called, on this LP. */
	void (*vp_launch)(struct vp *vp, const struct boot_cpu_state *state,
			  const struct boot_context *context);
	/* State after INIT but for DR0 to DR3; SDM3 table 10-1, APM2 14.1.3. */
	void (*vp_reset)(struct vp *vp);
	/* Real-mode start at `vector` << 12. */
	void (*vp_start)(struct vp *vp, uint8_t vector);
	/* The control block's pages go back; the VP isn't loaded and never will be. */
	void (*vp_destroy)(struct vp *vp);
	/*
	 * The VP that runs here leaves the processor: all of its state is in memory afterwards. And another comes in, which may have been on
	 * another LP before. What both vendors leave in the processor (extended state, XCR0, DR0 to DR3) is the caller's.
	 */
	void (*vp_unload)(struct vp *vp);
	void (*vp_load)(struct vp *vp);
	/* A VP that is nowhere loaded: its registers are to be read and written here, by the functions below, until vp_return(). */
	void (*vp_borrow)(struct vp *vp);
	void (*vp_return)(struct vp *vp);
	/* The exit loop, for good, on the LP of the VP. */
	void (*vp_run)(struct vp *vp) __attribute__((__noreturn__));
	/* Waits in the hypervisor for an interrupt, which lands in lp->acked. */
	void (*lp_idle)(struct lp *lp);
	/* RSP goes to and comes from vp->gpr[GPR_RSP] with these. set writes RIP and RFLAGS only. */
	void (*get_context)(struct vp *vp, struct vp_context *context);
	void (*set_context)(struct vp *vp, const struct vp_context *context);
	/*
	 * One register of a VP that is loaded here or borrowed, in the interface's layout. set: the value has passed the checks that
	 * concern all processors; -EINVAL: this one doesn't take it, nothing has changed. Setting has no side effects but that what was cached
	 * under the old value is dropped.
	 */
	void (*get_register)(struct vp *vp, enum vp_register which, union hv_register_value *value);
	int (*set_register)(struct vp *vp, enum vp_register which, const union hv_register_value *value);
	/* Those that an intercept shows, at once. */
	void (*get_snapshot)(struct vp *vp, struct vp_snapshot *snapshot);
	/* As registers, MSRs, as RDMSR and WRMSR of the guest. -EINVAL: it isn't there, or doesn't take the value. */
	int (*get_msr)(struct vp *vp, uint32_t msr, uint64_t *value);
	int (*set_msr)(struct vp *vp, uint32_t msr, uint64_t value);
	/* Do the VP's registers fit together, so that it can be entered? */
	bool (*can_run)(struct vp *vp);
	/* RIP without the rest, for traces and panics. */
	uint64_t (*rip)(const struct vp *vp);
	/* Stops intercepting `count` ports from `port` on, in every VP of the root. */
	void (*allow_ports)(uint16_t port, uint16_t count);
	void (*hide_ports)(uint16_t port, uint16_t count);
	/* "cpuid", "npf"...; never NULL. */
	const char *(*exit_name)(uint32_t code);
	/* What the exits of one of vp->exit_counts were for. */
	enum exit_category (*exit_category)(uint32_t index);
	/*
	 * The memory type, in the coding of ss_format, that the second-stage table is to give `start`; `*end`, above it,
	 * shrinks to the end of the stretch with the same type. Under the root's space_lock, or before it runs.
	 */
	unsigned int (*memory_type)(uint64_t start, uint64_t *end);
};

extern const struct backend *backend;
extern const struct backend svm_backend;
extern const struct backend vmx_backend;

#endif
