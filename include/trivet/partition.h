/* SPDX-License-Identifier: MIT */
/* A partition: an id, its VPs and its GPA space. Today there is one, the root, which sees the machine as it is. */
#ifndef TRIVET_PARTITION_H
#define TRIVET_PARTITION_H

#include <stdatomic.h>
#include <trivet/boot_handoff.h>
#include <trivet/lock.h>
#include <trivet/second_stage.h>
#include <trivet/types.h>

struct vp;

struct partition {
	uint64_t id; /* the root is 1, as in TLFS */
	uint32_t vp_count;
	struct vp **vps;	    /* by VP index */
	struct spinlock space_lock; /* changes of `space` */
	struct second_stage space;
	/* Bumped after a change of `space` that needs every VP's TLB entries gone before it counts as done. */
	_Atomic uint64_t flush_generation;
	_Atomic bool flush_requesting; /* the request is being posted to the VPs */
};

extern struct partition root_partition;

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
