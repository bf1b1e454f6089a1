/* SPDX-License-Identifier: MIT */
/*
 * The order is that of SDM3 8.3: everything that can fail in the old task is checked first; then the switch is made;
 * then the new task's segments are loaded, and what fails there is a fault of the new task. Descriptors and TSSs are the
 * guest's: each is read once.
 */
#include <errno.h>
#include <trivet/exceptions.h>
#include <trivet/task_switch.h>
#include <trivet/x86.h>

#define EFLAGS_ONE 2u
#define EFLAGS_NT 0x4000u
#define EFLAGS_VM 0x20000u
#define EFLAGS_DEFINED 0x3f7fd7u
#define DR7_LOCAL 0x155u /* L0 to L3 and LE */

#define RIGHTS_ACCESSED 1u
#define RIGHTS_WRITABLE 2u /* data */
#define RIGHTS_READABLE 2u /* code */
#define RIGHTS_CONFORMING 4u
#define RIGHTS_EXPAND_DOWN 4u
#define RIGHTS_CODE 8u
#define RIGHTS_PLACEHOLDER 0xc09bu
#define TYPE_LDT 2u
#define TYPE_TSS16 1u
#define TYPE_TSS32 9u
#define TYPE_BUSY 2u /* this bit of both */

enum { ES, CS, SS, DS, FS, GS };

/* Offsets in the two kinds of TSS, SDM3 8.2.1 and 8.6; 0: not there. Registers and selectors follow each other. */
struct tss_layout {
	uint8_t bytes, width, cr3, eip, segments, selectors, ldt, trap;
};
static const struct tss_layout tss16 = { 44, 2, 0, 14, 34, 4, 42, 0 };
static const struct tss_layout tss32 = { 104, 4, 28, 32, 72, 6, 96, 100 };
#define TSS_BYTES_MAX 104

struct switching {
	struct task_state *state;
	const struct task_switch *request;
	const struct task_memory *memory;
	struct task_fault *fault;
	const struct tss_layout *layout; /* of the new TSS */
	struct task_segment tss;	 /* the new one */
	uint8_t image[TSS_BYTES_MAX];
	uint32_t cpl; /* of the new task */
};

static int raise(struct switching *s, uint8_t vector, uint32_t selector)
{
	*s->fault = (struct task_fault){ .vector = vector,
					 .error = (selector & 0xfffc) | (s->request->external ? 1 : 0) };
	return -EFAULT;
}

static uint32_t load(const uint8_t *at, uint32_t width)
{
	return width == 2 ? at[0] | (uint32_t)at[1] << 8 :
			    at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void store(uint8_t *at, uint32_t width, uint32_t value)
{
	for (uint32_t i = 0; i < width; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

static const struct tss_layout *layout_of(const struct task_segment *tss)
{
	return tss->rights & 8 ? &tss32 : &tss16;
}

/* The descriptor's address, or -EINVAL when its table hasn't got it. An unusable LDTR has limit 0 here. */
static int descriptor_address(const struct task_state *state, uint32_t selector, uint32_t *linear)
{
	bool local = selector & SELECTOR_TI;
	uint32_t offset = selector & 0xfff8, limit = local ? state->ldtr.limit : state->gdt_limit;

	if (offset + 7 > limit)
		return -EINVAL;
	*linear = (local ? state->ldtr.base : state->gdt_base) + offset;
	return 0;
}

/* -EINVAL when there is none; -EFAULT: it can't be read. */
static int read_descriptor(struct switching *s, uint32_t selector, struct task_segment *out)
{
	uint8_t raw[8];
	uint32_t linear, low, high;
	int error = descriptor_address(s->state, selector, &linear);

	if (!error)
		error = s->memory->read(s->memory->space, linear, raw, sizeof(raw), s->fault);
	if (error)
		return error;
	low = load(raw, 4);
	high = load(raw + 4, 4);
	*out = (struct task_segment){
		.selector = (uint16_t)selector,
		.rights = (uint16_t)(high >> 8 & 0xf0ff),
		.limit = (low & 0xffff) | (high & 0xf0000),
		.base = low >> 16 | (high & 0xff) << 16 | (high & 0xff000000),
	};
	if (out->rights & RIGHTS_GRANULARITY)
		out->limit = out->limit << 12 | 0xfff;
	return 0;
}

/* Descriptor byte 5: type and present. */
static int write_rights(struct switching *s, uint32_t selector, uint32_t rights)
{
	uint8_t byte = (uint8_t)rights;
	uint32_t linear;

	if (descriptor_address(s->state, selector, &linear))
		return 0; /* a TR that never was in this GDT has no busy bit to change */
	return s->memory->write(s->memory->space, linear + 5, &byte, 1, false, s->fault);
}

/* SDM3 table 8-1, up to the TSS's limit. */
static int check_new_tss(struct switching *s)
{
	bool iret = s->request->source == TASK_IRET;
	uint32_t selector = s->request->selector, type;
	uint8_t vector = iret ? VECTOR_TS : VECTOR_GP;
	int error;

	if ((selector & SELECTOR_TI) || !(selector & 0xfff8))
		return raise(s, vector, selector);
	error = read_descriptor(s, selector, &s->tss);
	if (error)
		return error == -EINVAL ? raise(s, vector, selector) : error;
	type = s->tss.rights & (RIGHTS_TYPE | RIGHTS_NOT_SYSTEM);
	if ((type & ~TYPE_BUSY) != TYPE_TSS16 && (type & ~TYPE_BUSY) != TYPE_TSS32)
		return raise(s, vector, selector);
	if (!(type & TYPE_BUSY) == iret)
		return raise(s, vector, selector);
	if (!(s->tss.rights & RIGHTS_PRESENT))
		return raise(s, VECTOR_NP, selector);
	s->layout = layout_of(&s->tss);
	if (s->tss.limit < s->layout->bytes - 1u)
		return raise(s, VECTOR_TS, selector);
	return 0;
}

/* What is written later is checked here: a page fault must find the old task whole. (Its own busy bit is the first write.) */
static int check_memory(struct switching *s)
{
	const struct task_memory *memory = s->memory;
	const struct tss_layout *old = layout_of(&s->state->tr);
	uint32_t linear;
	int error;

	if (s->state->tr.limit < old->bytes - 1u)
		return raise(s, VECTOR_TS, s->state->tr.selector);
	error = memory->read(memory->space, s->tss.base, s->image, s->layout->bytes, s->fault);
	if (!error)
		error = memory->may_write(memory->space, s->state->tr.base + old->eip,
					  (uint32_t)(old->ldt - old->eip), s->fault);
	if (!error && (s->request->source == TASK_CALL || s->request->source == TASK_GATE))
		error = memory->may_write(memory->space, s->tss.base, 2, s->fault);
	if (!error && !descriptor_address(s->state, s->request->selector, &linear))
		error = memory->may_write(memory->space, linear + 5, 1, s->fault);
	return error;
}

static int save_old(struct switching *s)
{
	const struct task_state *state = s->state;
	const struct tss_layout *old = layout_of(&state->tr);
	uint8_t image[10 * sizeof(uint32_t)]; /* EIP, EFLAGS, the registers */
	uint32_t eflags = state->eflags, at = 0;
	int error;

	if (s->request->source == TASK_IRET)
		eflags &= ~EFLAGS_NT;
	store(image + at, old->width, state->eip);
	store(image + (at += old->width), old->width, eflags);
	for (uint32_t i = 0; i < 8; i++)
		store(image + (at += old->width), old->width, state->gpr[i]);
	/* The upper halves of the selectors' places are the guest's own. */
	error = s->memory->write(s->memory->space, state->tr.base + old->eip, image, at + old->width, false,
				 s->fault);
	for (uint32_t i = 0; i < old->selectors && !error; i++) {
		store(image, 2, state->segment[i].selector);
		error = s->memory->write(s->memory->space, state->tr.base + old->segments + i * old->width,
					 image, 2, false, s->fault);
	}
	return error;
}

/* Steps 6 to 11 of SDM3 8.3. */
static int leave_old(struct switching *s)
{
	struct task_state *state = s->state;
	enum task_source source = s->request->source;
	uint8_t link[2];
	int error = 0;

	if (source == TASK_JMP || source == TASK_IRET)
		error = write_rights(s, state->tr.selector, state->tr.rights & ~TYPE_BUSY);
	if (!error)
		error = save_old(s);
	if (!error && (source == TASK_CALL || source == TASK_GATE)) {
		store(link, 2, state->tr.selector);
		error = s->memory->write(s->memory->space, s->tss.base, link, 2, false, s->fault);
	}
	s->tss.rights |= TYPE_BUSY;
	if (!error)
		error = write_rights(s, s->tss.selector, s->tss.rights);
	return error;
}

/* Until its descriptors are loaded the new task has segments that can take a fault, and no more. */
static void load_selectors(struct switching *s, bool v8086)
{
	struct task_state *state = s->state;
	const struct tss_layout *layout = s->layout;

	for (uint32_t i = 0; i < 6; i++) {
		uint32_t selector =
			i < layout->selectors ? load(s->image + layout->segments + i * layout->width, 2) : 0;

		state->segment[i] = (struct task_segment){
			.selector = (uint16_t)selector,
			.rights = RIGHTS_8086,
			.base = selector << 4,
			.limit = 0xffff,
		};
	}
	s->cpl = v8086 ? 3 : state->segment[CS].selector & SELECTOR_RPL;
	for (uint32_t i = 0; i < 6 && !v8086; i++) {
		state->segment[i].rights =
			(uint16_t)(i == CS ? RIGHTS_PLACEHOLDER | s->cpl << 5 : s->cpl << 5);
		state->segment[i].base = 0;
		state->segment[i].limit = UINT32_MAX;
		state->segment[i].unusable = i != CS;
	}
	state->ldtr = (struct task_segment){ .selector = (uint16_t)load(s->image + layout->ldt, 2),
					     .unusable = true };
}

static int load_registers(struct switching *s)
{
	struct task_state *state = s->state;
	const struct tss_layout *layout = s->layout;
	const uint8_t *at = s->image + layout->eip;
	int error = 0;

	state->switched = true;
	state->tr = s->tss;
	state->cr0 |= (uint32_t)CR0_TS;
	state->dr7 &= ~DR7_LOCAL;
	state->debug_trap = layout->trap && (s->image[layout->trap] & 1);
	state->eip = load(at, layout->width);
	state->eflags = (load(at += layout->width, layout->width) & EFLAGS_DEFINED) | EFLAGS_ONE;
	if (s->request->source == TASK_CALL || s->request->source == TASK_GATE)
		state->eflags |= EFLAGS_NT;
	for (uint32_t i = 0; i < 8; i++)
		state->gpr[i] = load(at += layout->width, layout->width);
	load_selectors(s, state->eflags & EFLAGS_VM);
	if (layout->cr3 && (state->cr0 & CR0_PG)) {
		state->cr3 = load(s->image + layout->cr3, 4);
		error = s->memory->load_cr3(s->memory->space, state->cr3);
	}
	return error == -EINVAL ? raise(s, VECTOR_GP, 0) : error;
}

static int load_ldtr(struct switching *s)
{
	struct task_segment ldt;
	uint32_t selector = s->state->ldtr.selector;
	int error;

	if (!(selector & 0xfffc))
		return 0;
	if (selector & SELECTOR_TI)
		return raise(s, VECTOR_TS, selector);
	error = read_descriptor(s, selector, &ldt);
	if (error)
		return error == -EINVAL ? raise(s, VECTOR_TS, selector) : error;
	if ((ldt.rights & (RIGHTS_TYPE | RIGHTS_NOT_SYSTEM)) != TYPE_LDT || !(ldt.rights & RIGHTS_PRESENT))
		return raise(s, VECTOR_TS, selector);
	s->state->ldtr = ldt;
	return 0;
}

/* Each says which exception the segment raises, or 0. SDM3 table 8-1. */
static uint8_t judge_code(uint32_t rights, uint32_t cpl)
{
	uint32_t dpl = rights >> 5 & 3;

	if (!(rights & RIGHTS_NOT_SYSTEM) || !(rights & RIGHTS_CODE))
		return VECTOR_TS;
	if (rights & RIGHTS_CONFORMING ? dpl > cpl : dpl != cpl)
		return VECTOR_TS;
	return rights & RIGHTS_PRESENT ? 0 : VECTOR_NP;
}

static uint8_t judge_stack(uint32_t rights, uint32_t rpl, uint32_t cpl)
{
	if (!(rights & RIGHTS_NOT_SYSTEM) || (rights & RIGHTS_CODE) || !(rights & RIGHTS_WRITABLE))
		return VECTOR_TS;
	if ((rights >> 5 & 3) != cpl || rpl != cpl)
		return VECTOR_TS;
	return rights & RIGHTS_PRESENT ? 0 : VECTOR_SS;
}

static uint8_t judge_data(uint32_t rights, uint32_t rpl, uint32_t cpl)
{
	uint32_t dpl = rights >> 5 & 3;
	bool code = rights & RIGHTS_CODE;

	if (!(rights & RIGHTS_NOT_SYSTEM) || (code && !(rights & RIGHTS_READABLE)))
		return VECTOR_TS;
	if (!(code && (rights & RIGHTS_CONFORMING)) && (dpl < cpl || dpl < rpl))
		return VECTOR_TS;
	return rights & RIGHTS_PRESENT ? 0 : VECTOR_NP;
}

static int load_segment(struct switching *s, uint32_t i)
{
	struct task_segment segment;
	uint32_t selector = s->state->segment[i].selector, rpl = selector & SELECTOR_RPL;
	uint8_t vector;
	int error;

	if (!(selector & 0xfffc))
		return i == CS || i == SS ? raise(s, VECTOR_TS, selector) : 0;
	error = read_descriptor(s, selector, &segment);
	if (error)
		return error == -EINVAL ? raise(s, VECTOR_TS, selector) : error;
	if (i == CS)
		vector = judge_code(segment.rights, s->cpl);
	else if (i == SS)
		vector = judge_stack(segment.rights, rpl, s->cpl);
	else
		vector = judge_data(segment.rights, rpl, s->cpl);
	if (vector)
		return raise(s, vector, selector);
	if (!(segment.rights & RIGHTS_ACCESSED)) {
		segment.rights |= RIGHTS_ACCESSED;
		error = write_rights(s, selector, segment.rights);
	}
	if (!error)
		s->state->segment[i] = segment;
	return error;
}

static int load_segments(struct switching *s)
{
	static const uint8_t order[] = { CS, SS, DS, ES, FS, GS };
	int error = load_ldtr(s);

	if (s->state->eflags & EFLAGS_VM)
		return error;
	for (uint32_t i = 0; i < sizeof(order) && !error; i++)
		error = load_segment(s, order[i]);
	return error;
}

static bool within(const struct task_segment *segment, uint32_t offset, uint32_t size)
{
	uint32_t last = offset + size - 1, top = segment->rights & RIGHTS_BIG ? UINT32_MAX : 0xffff;

	if (last < offset)
		return false;
	if ((segment->rights & (RIGHTS_CODE | RIGHTS_EXPAND_DOWN)) == RIGHTS_EXPAND_DOWN)
		return offset > segment->limit && last <= top;
	return last <= segment->limit;
}

static int push_error(struct switching *s)
{
	const struct task_segment *ss = &s->state->segment[SS];
	uint32_t mask = ss->rights & RIGHTS_BIG ? UINT32_MAX : 0xffff, width = s->layout->width;
	uint32_t *esp = &s->state->gpr[GPR_RSP], offset = (*esp - width) & mask;
	uint8_t bytes[4];
	int error;

	if (!within(ss, offset, width))
		return raise(s, VECTOR_SS, 0);
	store(bytes, width, s->request->error);
	error = s->memory->write(s->memory->space, ss->base + offset, bytes, width, s->cpl == 3, s->fault);
	if (!error)
		*esp = (*esp & ~mask) | offset;
	return error;
}

int task_switch(struct task_state *state, const struct task_switch *request, const struct task_memory *memory,
		struct task_fault *fault)
{
	struct switching s = { .state = state, .request = request, .memory = memory, .fault = fault };
	int error;

	state->switched = false;
	state->debug_trap = false;
	error = check_new_tss(&s);
	if (!error)
		error = check_memory(&s);
	if (!error)
		error = leave_old(&s);
	if (!error)
		error = load_registers(&s);
	if (!error)
		error = load_segments(&s);
	if (!error && request->has_error)
		error = push_error(&s);
	if (!error && !within(&state->segment[CS], state->eip, 1))
		error = raise(&s, VECTOR_GP, 0);
	return error;
}
