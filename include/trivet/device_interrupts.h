/* SPDX-License-Identifier: MIT */
/*
 * Device interrupts that a partition has mapped (TLFS "HvCallMapDeviceInterrupt"). Without interrupt remapping hardware
 * a mapping is an identity: the message or redirection entry that the caller gets delivers the vector it asked for to
 * the physical processor of the VP it named. So all there is to keep is who mapped what, in a table that is made at
 * boot: mapping never needs memory, as its callers can't deposit any (they hold interrupts off).
 *
 * Linux maps many interrupts to one vector of one processor: those that are shut down share a vector that only counts
 * strays.
 */
#ifndef TRIVET_DEVICE_INTERRUPTS_H
#define TRIVET_DEVICE_INTERRUPTS_H

#include <trivet/lock.h>
#include <trivet/types.h>

struct partition;

struct device_interrupt {
	uint64_t device_id; /* HV_DEVICE_TYPE_SHIFT and so on; 0: the entry is free */
	uint64_t data;	    /* of the interrupt entry that the caller got */
	uint64_t count;	    /* how often it was mapped */
};

/* No caller retries a map that found no room: plenty, also where many devices share few processors. */
#define DEVICE_INTERRUPTS_LEAST 1024u
#define DEVICE_INTERRUPTS_PER_LP 256u

/* In struct partition: a hash table, in which an entry lies at most DEVICE_INTERRUPT_PROBES places behind its own. */
struct device_interrupts {
	struct spinlock lock;
	struct device_interrupt *entries; /* NULL: the partition maps none */
	uint32_t size;			  /* a power of two */
	uint64_t mappings;
};

#define DEVICE_INTERRUPT_PROBES 64u

/* Room for the interrupts of `lps` processors. -ENOMEM. */
int device_interrupts_init(struct partition *partition, uint32_t lps);

/* Forgets all mappings: another operating system begins (kexec), which knows nothing of them. */
void device_interrupts_reset(struct partition *partition);

#endif
