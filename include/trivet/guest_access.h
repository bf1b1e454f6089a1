/* SPDX-License-Identifier: MIT */
/*
 * Reads and writes of guest memory by linear address that the hypervisor makes in the processor's place: with its
 * checks, and with accessed and dirty bits set as it would set them.
 */
#ifndef TRIVET_GUEST_ACCESS_H
#define TRIVET_GUEST_ACCESS_H

#include <trivet/guest_walk.h>

struct guest_access_fault {
	gva_t gva; /* the first byte that can't be reached: CR2 */
	uint32_t error_code;
};

/*
 * Seams: change guest physical memory of `space`. guest_phys_write() never crosses a 4 KiB page; false if that isn't
 * memory the guest may write. guest_phys_exchange() sets an aligned entry of 4 or 8 bytes from `old` to `value` in one
 * locked operation: 0, -EAGAIN when it isn't `old` (any more), -EIO.
 */
bool guest_phys_write(void *space, gpa_t gpa, const void *buf, size_t size);
bool guest_phys_can_write(void *space, gpa_t gpa);
int guest_phys_exchange(void *space, gpa_t gpa, uint32_t bytes, uint64_t old, uint64_t value);

/*
 * `access` as for guest_walk(). 0; errors of guest_walk(), with `fault` filled for -EFAULT; -EIO also where no memory is.
 * A write that faults has written nothing.
 */
int guest_read(const struct guest_paging *paging, void *space, gva_t gva, void *buf, size_t size,
	       unsigned access, struct guest_access_fault *fault);
int guest_write(const struct guest_paging *paging, void *space, gva_t gva, const void *buf, size_t size,
		unsigned access, struct guest_access_fault *fault);
/* The checks alone: nothing changes, not even accessed bits. */
int guest_probe(const struct guest_paging *paging, void *space, gva_t gva, size_t size, unsigned access,
		struct guest_access_fault *fault);

#endif
