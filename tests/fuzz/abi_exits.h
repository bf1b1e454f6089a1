/* SPDX-License-Identifier: MIT */
/*
 * What the VPs of fuzz_hypercall.c's children do while they run: the exits of a guest, as a back end reports them to core/. A child has the root's
 * page tables, if its monitor set it up so, and a page of code for what is decoded.
 */
#ifndef TRIVET_TESTS_ABI_EXITS_H
#define TRIVET_TESTS_ABI_EXITS_H

#include "abi_calls.h"

#include <hv/memory.h>
#include <trivet/intercept.h>
#include <trivet/intercepts.h>
#include <trivet/vp_child.h>

#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

static uint64_t child_steps; /* in all */

#define CODE_PAGE 5u

/* The next instruction; RCX points anywhere, RAX is what is stored. */
static void child_comes_to_code(struct input *in, struct vp *vp)
{
	static const uint8_t code[][8] = {
		{ 0x89, 0x01 },				/* mov %eax, (%rcx) */
		{ 0x66, 0x89, 0x01 },			/* and with 16, 8 and 64 bits */
		{ 0x88, 0x01 },				/* */
		{ 0x48, 0x89, 0x01 },			/* */
		{ 0x8b, 0x01 },				/* mov (%rcx), %eax */
		{ 0xc7, 0x01, 0x01, 0x00, 0x00, 0x00 }, /* movl $1, (%rcx) */
		{ 0x09, 0x01 },				/* or %eax, (%rcx) */
		{ 0x0f, 0xb1, 0x01 },			/* cmpxchg: not for devices */
		{ 0x64, 0x6e },				/* outsb %fs: */
		{ 0xf3, 0x6d },				/* rep insl */
	};

	space_store(&vp->partition->space, CODE_PAGE << PAGE_SHIFT, code[take8(in) % ARRAY_SIZE(code)],
		    sizeof(code[0]));
	state_of(vp)->registers[VP_REGISTER_RIP].reg64 = CODE_PAGE << PAGE_SHIFT;
	vp->gpr[GPR_RAX] = take8(in);
	vp->gpr[GPR_RCX] = take8(in);
}

static void child_touches(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in), more = take8(in);
	struct memory_exit exit = {
		.gva = GVA(take8(in)),
		.gva_valid = more & 0x40,
		.is_write = byte & 1,
		.is_fetch = (more & 6) == 6,
		.is_walk = (more & 0x38) == 0x38,
	};

	if (byte < 0x80)
		exit.gpa = GPA((uint64_t)(byte >> 1) << PAGE_SHIFT | more);
	else if (byte < 0xc0)
		exit.gpa = GPA(DOORBELL_GPA + (byte >> 1 & 3) * 4u);
	else if (byte < 0xe0)
		exit.gpa = GPA(APIC_BASE_DEFAULT + (exit.gva.v & 0x3f) * 0x10u);
	else
		exit.gpa = GPA(take64(in) & (BIT(40) - 1));
	if (more & 1)
		child_comes_to_code(in, vp);
	if (more & 0x80) {
		exit.byte_count = 15;
		take(in, exit.bytes, 8);
	}
	intercept_memory(vp, &exit);
}

static void child_does_io(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);
	const struct io_exit exit = {
		.port = (uint16_t)(take8(in) * 4u),
		.bytes = (uint8_t)(1u << byte % 3),
		.length = byte & 0x80 ? 2 : 0,
		.in = byte & 4,
		.string = byte & 8,
		.rep = byte & 0x10,
	};

	if (byte & 0x20)
		child_comes_to_code(in, vp);
	intercept_io(vp, &exit);
}

/* Once: what it is to make again it makes when it likes. */
static void child_calls(struct input *in, struct vp *vp)
{
	struct call call = { .row = take_call(in) };
	uint8_t said = take8(in);

	say(in, vp, &call, said);
	understand(&call);
	put_in_registers(vp, &call);
	if (dispatch(vp, &call) == HYPERCALL_DONE && call.row)
		CHECK((call.row->privilege & ~vp->partition->privileges) == 0 ||
		      status_of(vp) != HV_STATUS_SUCCESS);
}

/* The MSRs of its own processor, or those that any guest has. */
static void child_msr(struct input *in, struct vp *vp, bool own)
{
	uint8_t byte = own ? take8(in) : 0;
	const struct row *row = &rows[byte % ARRAY_SIZE(rows)];
	uint32_t msr = own ? row->first + take8(in) % row->count : take_msr(in);
	const struct msr_exit exit = { .msr = msr, .length = 2, .is_write = byte & 0x40 };
	uint64_t value = 0, written, after;
	bool refused = vp_msr_read(vp, msr, &value) != 0;

	if (((vp->wanted & VP_WANTED_MSR) && intercepts_want_msr(vp, msr, exit.is_write)) ||
	    (refused && intercept_wants_unknown_msr(vp, msr, exit.is_write))) {
		intercept_msr(vp, &exit);
		return;
	}
	if (refused && !own)
		return;
	if (own && byte >= 0x80)
		written = take8(in) * 0x0101010101010101ull;
	else
		written = take_msr_value(in, msr, value, reference_time_100ns(vp->partition));
	if (vp_msr_write(vp, msr, written) && own &&
	    row->first != MSR_TSC) /* what is refused changes nothing */
		CHECK(vp_msr_read(vp, msr, &after) || after == value);
}

static void child_looks_at_cpuid(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);
	const struct cpuid_exit exit = { .cr4 = byte & 0x80 ? 0x440020 : 0x20, .length = 2 };

	vp->gpr[GPR_RAX] = byte < 0xf0 ? cpuid_leaves[byte % ARRAY_SIZE(cpuid_leaves)] : take64(in);
	vp->gpr[GPR_RCX] = take8(in) & 15;
	if ((vp->wanted & VP_WANTED_CPUID) && intercepts_want_cpuid(vp, (uint32_t)vp->gpr[GPR_RAX]))
		intercept_cpuid(vp, &exit);
	else
		vp_cpuid(vp, exit.cr4);
}

static void child_raises(uint8_t byte, struct vp *vp)
{
	const struct exception_exit exit = {
		.vector = (uint8_t)__builtin_ctz(vp->wanted_exceptions),
		.has_error = byte & 0x20,
		.error = byte,
		.parameter = 0x1000,
		.is_software = byte & 0x10,
	};

	intercept_exception(vp, &exit);
}

static void child_takes_interrupt(struct vp *vp)
{
	int vector;

	vp_clear_pending(vp, VP_PENDING_EVENT);
	apic_sync_posted(&vp->apic);
	if (vp->extint_count)
		vp_extint_take(vp);
	else if (vp->apic.page && (vector = apic_next_vector(&vp->apic)) >= 0)
		apic_take(&vp->apic, (uint8_t)vector);
}

/* False: it sleeps now. */
static bool child_step(struct input *in, struct vp *vp)
{
	uint8_t byte = take8(in);

	child_steps++;
	allowed.childs = allowed.page_tables = true; /* what it writes where */
	switch (byte % 16) {
	case 0:
	case 1:
		child_touches(in, vp);
		break;
	case 2:
		child_does_io(in, vp);
		break;
	case 3:
	case 4:
		child_calls(in, vp);
		break;
	case 5:
	case 6:
	case 7:
		child_msr(in, vp, false);
		break;
	case 8:
	case 9:
		child_msr(in, vp, true);
		break;
	case 10:
		child_looks_at_cpuid(in, vp);
		break;
	case 11:
		if (vp->wanted_exceptions && (byte & 0x40)) {
			child_raises(byte, vp);
			break;
		}
		vp_post(vp, byte & 0x10 ? VP_PENDING_SHUTDOWN : VP_PENDING_NMI);
		break;
	case 12:
	case 13:
		child_takes_interrupt(vp);
		break;
	case 14:
		if (vp->apic.page)
			apic_eoi(&vp->apic);
		break;
	default: { /* into its memory, or what it shows of the hypervisor's */
		uint64_t value = byte & 0x10 ? take64(in) : 0;

		space_store(&vp->partition->space,
			    (uint64_t)(take8(in) & 31u) << PAGE_SHIFT | take8(in) * 16u, &value,
			    sizeof(value));
		break;
	}
	}
	memset(&allowed, 0, sizeof(allowed));
	return byte < 0xc0;
}

#pragma clang attribute pop

#endif
