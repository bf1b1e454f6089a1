/* SPDX-License-Identifier: MIT */
/*
 * A partition: an id, its VPs, its GPA space, and what of the hypervisor's interface (the TLFS) it is offered. The root is transparent, seeing
 * the machine as it is, or has the interface; then it may create children.
 */
#ifndef TRIVET_PARTITION_H
#define TRIVET_PARTITION_H

#include <stdatomic.h>
#include <trivet/boot_handoff.h>
#include <trivet/cpuid_policy.h>
#include <trivet/deposit.h>
#include <trivet/device_interrupts.h>
#include <trivet/flush.h>
#include <trivet/guest_crash.h>
#include <trivet/hv_cpuid.h>
#include <trivet/intercepts.h>
#include <trivet/lock.h>
#include <trivet/overlay.h>
#include <trivet/page_source.h>
#include <trivet/port.h>
#include <trivet/reference_time.h>
#include <trivet/second_stage.h>
#include <trivet/statistics.h>
#include <trivet/types.h>

struct vp;

enum partition_state {
	PARTITION_CREATED, /* no VPs or memory yet: its parent sets what it will be */
	PARTITION_ACTIVE,
	PARTITION_FINALIZED, /* nothing of it runs or is mapped any more: it waits for its deletion */
};

/* What only a parent sets, or asks, of a child. */
struct partition_properties {
	uint64_t creation_flags; /* HV_CREATE_PARTITION_* */
	uint64_t weight, cap, reserve;
	bool time_frozen;
	bool ignores_unknown_msrs; /* HV_PROPERTY_UNIMPLEMENTED_MSR_ACTION */
	bool tracks_access;	   /* HV_PROPERTY_GPA_PAGE_ACCESS_TRACKING */
	uint32_t intercepts;	   /* of hypercalls: INTERCEPT_INSTALLED() */
};

struct partition {
	uint64_t id;		   /* the root is 1, as in TLFS */
	struct partition *parent;  /* NULL: the root */
	_Atomic uint32_t state;	   /* enum partition_state */
	struct page_source *pages; /* what serves it */
	uint64_t own_page;	   /* of a child: its parent's deposit in which this lies */
	bool torn_down;		   /* of a finalized one: all is back in its deposits */
	struct partition_properties properties;
	struct intercepts intercepts; /* of a child */
	struct cpuid_policy cpuid;
	uint64_t
		tsc_offset; /* of a child: what its VPs' TSCs are ahead of lp_clock(), unless a VP wrote its own */
	bool tsc_was_set;	    /* by the parent */
	uint32_t vp_count;	    /* highest VP index + 1 */
	struct vp **vps;	    /* by VP index; a child's table has NULL where there is none */
	struct spinlock space_lock; /* changes of `space` */
	struct second_stage space;
	uint64_t space_emptied; /* gpa_space_destroy() has come that far */
	struct flush_state flush;

	/* What of the interface it is offered; all 0 without. CPUID shows it, hypercalls and MSRs obey it. */
	bool hv;
	uint64_t synthetic;  /* of a child's: HV_SYNTHETIC_*, what it was assigned */
	uint64_t privileges; /* HV_PRIVILEGE_*: CPUID 0x40000003 EAX | EBX << 32 */
	uint32_t features;   /* HV_FEATURE_*: its EDX */
	uint32_t hints;	     /* HV_HINT_*: CPUID 0x40000004 EAX */
	uint64_t hv_msrs;    /* the rows of core/hv_msrs.def that these offer: hv_msr_offer() */
	struct cpuid_regs hv_leaves[HV_CPUID_LEAVES];
	uint64_t guest_os_id; /* 0: it hasn't said who it is; no hypercalls */
	struct overlay_space overlays;
	struct overlay hypercall_page;
	struct reference_time reference_time;
	struct guest_crash crash;
	bool tsc_invariant; /* TSC_INVARIANT_CONTROL: CPUID may say that the TSC is */
	struct deposit_pool deposits;
	struct device_interrupts device_interrupts;
	struct port_space ports;
	struct partition_statistics statistics;
};

extern struct partition root_partition;

static inline bool partition_is_root(const struct partition *partition)
{
	return !partition->parent;
}

/*
 * The partition that `id` (its number, that of a child, or HV_PARTITION_ID_SELF) means to `caller`, whose own partition must have all bits of
 * `privilege`. It lives until the caller's exit handler ends. NULL with the status of the refusal: HV_STATUS_ACCESS_DENIED, HV_STATUS_INVALID_PARTITION_ID.
 */
struct partition *partition_authority(struct vp *caller, uint64_t id, uint64_t privilege, uint16_t *status);

/*
 * A child of the caller's partition, for the hypercalls of those names (calls_partition.c); core/children.c. HV_STATUS_*; HYPERCALL_RESTART: a part is done, or
 * another LP is at it: again.
 */
struct hv_input_create_partition;
uint16_t partition_create(struct vp *caller, const struct hv_input_create_partition *in, uint64_t *id);
uint16_t partition_initialize(struct partition *child, struct vp *caller);
uint16_t partition_finalize(struct partition *child, struct vp *caller);
uint16_t partition_delete(struct partition *child, struct vp *caller);
uint16_t partition_create_vp(struct partition *child, uint32_t index);
uint16_t partition_delete_vp(struct partition *child, struct vp *caller, uint32_t index);

/*
 * Around a change of what it will be: it isn't initialized in between. False, and no end is needed: it is already.
 */
bool partition_begin_setup(struct partition *child);
void partition_end_setup(void);

/* From now on it has a number, and its parent finds it by that. False: there are too many. And no longer. */
bool partition_publish(struct partition *child);
void partition_unpublish(struct partition *child);

/* How many there are, the root included. */
uint32_t partition_count(void);

/* Whether a root has named logical processor `index` (the first one it needn't), so that it may ask about it; and how many. */
bool partition_has_lp(const struct partition *partition, uint32_t index);
uint32_t partition_added_lps(const struct partition *partition);

/*
 * The root: a VP for every LP and an identity map of all physical memory but the hypervisor's. -ENOMEM.
 */
int root_init(const struct boot_handoff *handoff);

/*
 * The root touched an intercepted port. True: it may have it from now on (the log leaves a UART that is the root's
 * console too). False: the port is the hypervisor's.
 */
bool root_takes_port(uint16_t port);

/*
 * What the root reads at a port of the hypervisor's UART; its writes are lost. Firmware that found the UART before we
 * took it goes on writing there and must not hang or see endless input, so it reads as a transmitter that is always
 * ready. Its other registers hold nothing, so a system that probes it finds no UART.
 */
uint8_t root_hidden_port_read(uint16_t port);

enum fault_result {
	FAULT_RETRY,	/* mapped now: run the instruction again */
	FAULT_EMULATED, /* done in software, RIP advanced */
	FAULT_REFUSED,	/* the guest may not: it gets #GP(0) */
};

/*
 * A second-stage fault of the root at `gpa`: device memory that was never touched before is mapped, the local
 * APIC's page is emulated, the hypervisor's memory is refused with a line in the log.
 * `is_fetch`: an instruction fetch; `is_walk`: the guest's own page tables lie there.
 */
enum fault_result root_second_stage_fault(struct vp *vp, gpa_t gpa, bool is_fetch, bool is_walk);

/* What backend->memory_type says has changed: gives the root's tables the new types. On the LP of `vp`. */
void root_memory_types_changed(struct vp *vp);

#endif
