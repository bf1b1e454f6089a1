/* SPDX-License-Identifier: MIT */
/* The hypercall page and the guest's identity, without which there is none (TLFS "Establishing the Hypercall Interface"). */
#ifndef TRIVET_HYPERCALL_PAGE_H
#define TRIVET_HYPERCALL_PAGE_H

struct partition;

/* The page with its code, disabled. overlay_space_init() came before. -ENOMEM. */
int hypercall_page_init(struct partition *partition);

#endif
