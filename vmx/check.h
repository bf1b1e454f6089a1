/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the VM-entry checker share. Every rule is evaluated; only the first broken one is kept, so the
 * parts are plain lists in the manual's order. Fields that a processor may lack are read only when a control uses them.
 */
#ifndef VMX_CHECK_H
#define VMX_CHECK_H

#include "vmx.h"

/* Fixed values outside vmcs.h: only the checker looks at them. */
#define CR0_FREE (CR0_NW | CR0_CD) /* never checked: neither entry nor exit changes them */
#define CR4_LAM_SUP BIT(28)
#define EFER_DEFINED (BIT(0) | EFER_LME | EFER_LMA | EFER_NXE)

struct check {
	const struct vmx_machine *machine;
	char *why;
	size_t size;
	bool broken;
	const char *section; /* of SDM3 */
	uint32_t pin, proc, proc2, exit, entry, event;
};

/* A rule: `field` has `value`, and `holds`, or else `text` says what is wrong with it. */
void vmx_expect(struct check *c, bool holds, const char *field, uint64_t value, const char *text);
/* `value` is an address of memory that the processor can have, aligned to `align`. */
void vmx_expect_address(struct check *c, const char *field, uint64_t value, uint64_t align);
void vmx_expect_canonical(struct check *c, const char *field, uint64_t value);
void vmx_expect_pat(struct check *c, const char *field, uint64_t value);

/* What the processor supports, not what a mode has: 57 bits as soon as CR4.LA57 may be set. */
static inline unsigned int vmx_linear_bits(const struct check *c)
{
	return c->machine->cr4_fixed1 & CR4_LA57 ? 57 : 48;
}

static inline bool vmx_event_is(const struct check *c, uint32_t type)
{
	return (c->event & EVENT_VALID) && (c->event & EVENT_TYPE_MASK) == type;
}

/* check_controls.c */
void vmx_check_controls(struct check *c);
/* check_guest.c */
void vmx_check_guest_registers(struct check *c);
void vmx_check_guest_state(struct check *c);
/* check_segments.c */
void vmx_check_segments(struct check *c);

#endif
