/* unit: core/task_switch.c */
/* SPDX-License-Identifier: MIT */
/* Hardware task switches: what moves between registers and TSSs, busy bits, NT and links, and each fault with its side. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <trivet/exceptions.h>
#include <trivet/task_switch.h>

#include <cmocka.h>

#define MEMORY_BYTES 0x10000u
#define GDT 0x1000u
#define LDT 0x1800u
#define OLD_TSS 0x2000u
#define NEW_TSS 0x3000u
#define STACK 0x8000u
static uint8_t memory[MEMORY_BYTES];
/* Page faults: no access at all, no writes; 0: none. */
static uint32_t absent, read_only;
static uint32_t cr3_loaded, cr3_error;
static bool user_write;

enum {
	SEL_CODE = 0x08, /* CPL 0, 32-bit */
	SEL_DATA = 0x10,
	SEL_OLD = 0x18,
	SEL_NEW = 0x20, /* available 32-bit TSS */
	SEL_LDT = 0x28,
	SEL_CODE3 = 0x33,
	SEL_DATA3 = 0x3b,
	SEL_NEW16 = 0x40, /* available 16-bit TSS at the same place */
	SEL_SPARE = 0x48,
	GDT_BYTES = 0x50,
};

static int page(uint32_t linear, uint32_t size, uint32_t bad, uint32_t error, struct task_fault *fault)
{
	assert_true(linear < MEMORY_BYTES && size <= MEMORY_BYTES - linear);
	if (!bad || bad < linear || bad >= linear + size)
		return 0;
	*fault = (struct task_fault){ .vector = VECTOR_PF, .error = error, .cr2 = bad };
	return -EFAULT;
}

static int read_memory(void *space, uint32_t linear, void *buf, uint32_t size, struct task_fault *fault)
{
	int error = page(linear, size, absent, 0, fault);

	assert_ptr_equal(space, memory);
	if (!error)
		memcpy(buf, memory + linear, size);
	return error;
}

static int may_write(void *space, uint32_t linear, uint32_t size, struct task_fault *fault)
{
	int error = page(linear, size, absent, 2, fault);

	assert_ptr_equal(space, memory);
	return error ? error : page(linear, size, read_only, 3, fault);
}

static int write_memory(void *space, uint32_t linear, const void *buf, uint32_t size, bool user,
			struct task_fault *fault)
{
	int error = may_write(space, linear, size, fault);

	user_write = user;
	if (!error)
		memcpy(memory + linear, buf, size);
	return error;
}

static int load_cr3(void *space, uint32_t cr3)
{
	assert_ptr_equal(space, memory);
	cr3_loaded = cr3;
	return -(int)cr3_error;
}

static const struct task_memory access = { memory, read_memory, write_memory, may_write, load_cr3 };

static void put(uint32_t at, unsigned int width, uint32_t value)
{
	memcpy(memory + at, &value, width);
}

static uint32_t get(uint32_t at, unsigned int width)
{
	uint32_t value = 0;

	memcpy(&value, memory + at, width);
	return value;
}

/* `rights` as in struct task_segment; the limit in the descriptor's own units. */
static void descriptor(uint32_t at, uint32_t base, uint32_t limit, uint32_t rights)
{
	put(at, 4, (limit & 0xffff) | base << 16);
	put(at + 4, 4,
	    (base >> 16 & 0xff) | (rights & 0xf0ff) << 8 | (limit & 0xf0000) | (base & 0xff000000));
}

static struct task_state cpu;
static struct task_fault fault;

static int setup(void **unused)
{
	(void)unused;
	memset(memory, 0, sizeof(memory));
	absent = read_only = cr3_loaded = cr3_error = 0;
	fault = (struct task_fault){ 0 };
	descriptor(GDT + SEL_CODE, 0, 0xfffff, 0xc09b);
	descriptor(GDT + SEL_DATA, 0, 0xfffff, 0xc093);
	descriptor(GDT + SEL_OLD, OLD_TSS, 103, 0x8b);
	descriptor(GDT + SEL_NEW, NEW_TSS, 103, 0x89);
	descriptor(GDT + SEL_LDT, LDT, 0xf, 0x82);
	descriptor(GDT + (SEL_CODE3 & ~3u), 0, 0xfffff, 0xc0fa);
	descriptor(GDT + (SEL_DATA3 & ~3u), 0x100, 0xffff, 0x40f2);
	descriptor(GDT + SEL_NEW16, NEW_TSS, 43, 0x81);
	descriptor(LDT + 8, 0x200, 0xffff, 0x93);
	cpu = (struct task_state){
		.gpr = { 0xa0000001, 0xa0000002, 0xa0000003, 0xa0000004, 0xa0000005, 0xa0000006, 0xa0000007,
			 0xa0000008 },
		.eip = 0x12345678,
		.eflags = 0x246,
		.cr0 = 0x80000011,
		.cr3 = 0x5000,
		.dr7 = 0x7ff,
		.gdt_base = GDT,
		.gdt_limit = GDT_BYTES - 1,
		.tr = { SEL_OLD, 0x8b, 103, OLD_TSS, false },
		.ldtr = { .unusable = true },
	};
	for (uint16_t i = 0; i < 6; i++)
		cpu.segment[i] = (struct task_segment){ (uint16_t)(i == 1 ? SEL_CODE : SEL_DATA + 0x100 * i),
							0xc093, UINT32_MAX, 0, false };
	/* The new task at CPL 0. */
	put(NEW_TSS + 28, 4, 0x6000);
	put(NEW_TSS + 32, 4, 0x400);
	put(NEW_TSS + 36, 4, 0x203);
	for (uint32_t i = 0; i < 8; i++)
		put(NEW_TSS + 40 + 4 * i, 4, i == 4 ? STACK : 0xb0000000 + i);
	for (uint32_t i = 0; i < 6; i++)
		put(NEW_TSS + 72 + 4 * i, 4, i == 1 ? SEL_CODE : SEL_DATA);
	put(NEW_TSS + 96, 4, SEL_LDT);
	return 0;
}

static int go(enum task_source source, uint16_t selector)
{
	struct task_switch request = { .selector = selector, .source = source };

	return task_switch(&cpu, &request, &access, &fault);
}

static uint32_t type_of(uint32_t selector)
{
	return memory[GDT + (selector & ~7u) + 5];
}

static void test_call(void **unused)
{
	(void)unused;
	put(OLD_TSS, 2, 0x7777);
	assert_int_equal(go(TASK_CALL, SEL_NEW), 0);
	/* The old task is in its TSS: everything but link, CR3, LDT and the stacks. */
	assert_int_equal(get(OLD_TSS, 2), 0x7777);
	assert_int_equal(get(OLD_TSS + 28, 4), 0);
	assert_int_equal(get(OLD_TSS + 32, 4), 0x12345678);
	assert_int_equal(get(OLD_TSS + 36, 4), 0x246);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(get(OLD_TSS + 40 + 4 * i, 4), 0xa0000001 + i);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(get(OLD_TSS + 72 + 4 * i, 4), i == 1 ? SEL_CODE : SEL_DATA + 0x100 * i);
	assert_int_equal(get(OLD_TSS + 96, 4), 0);
	/* Both are busy, the new one knows the old. */
	assert_int_equal(type_of(SEL_OLD), 0x8b);
	assert_int_equal(type_of(SEL_NEW), 0x8b);
	assert_int_equal(get(NEW_TSS, 2), SEL_OLD);
	assert_int_equal(cpu.tr.selector, SEL_NEW);
	assert_int_equal(cpu.tr.rights, 0x8b);
	assert_int_equal(cpu.tr.base, NEW_TSS);
	assert_int_equal(cpu.tr.limit, 103);
	assert_int_equal(cpu.eip, 0x400);
	assert_int_equal(cpu.eflags, 0x4203);
	assert_int_equal(cpu.cr0, 0x80000019);
	assert_int_equal(cpu.cr3, 0x6000);
	assert_int_equal(cr3_loaded, 0x6000);
	assert_int_equal(cpu.dr7, 0x7ff & ~0x155);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(cpu.gpr[i], i == 4 ? STACK : 0xb0000000 + i);
	assert_int_equal(cpu.segment[1].rights, 0xc09b);
	assert_int_equal(cpu.segment[1].limit, UINT32_MAX);
	assert_int_equal(cpu.segment[2].selector, SEL_DATA);
	assert_int_equal(cpu.segment[2].rights, 0xc093);
	assert_false(cpu.segment[5].unusable);
	assert_int_equal(cpu.ldtr.base, LDT);
	assert_int_equal(cpu.ldtr.limit, 15);
	assert_false(cpu.ldtr.unusable);
	assert_false(cpu.debug_trap);
}

static void test_jump_and_return(void **unused)
{
	(void)unused;
	cpu.eflags |= 0x4000;
	assert_int_equal(go(TASK_JMP, SEL_NEW), 0);
	assert_int_equal(type_of(SEL_OLD), 0x89);
	assert_int_equal(type_of(SEL_NEW), 0x8b);
	assert_int_equal(get(NEW_TSS, 2), 0);
	assert_int_equal(get(OLD_TSS + 36, 4), 0x4246);
	assert_int_equal(cpu.eflags, 0x203);

	setup(NULL);
	descriptor(GDT + SEL_NEW, NEW_TSS, 103, 0x8b);
	put(NEW_TSS + 36, 4, 0xffc0ffff & ~0x20000u);
	put(NEW_TSS + 100, 2, 1);
	cpu.eflags |= 0x4000;
	cpu.cr0 &= ~0x80000000u;
	assert_int_equal(go(TASK_IRET, SEL_NEW), 0);
	assert_int_equal(type_of(SEL_OLD), 0x89);
	assert_int_equal(type_of(SEL_NEW), 0x8b);
	assert_int_equal(get(OLD_TSS + 36, 4), 0x246); /* NT is gone */
	assert_int_equal(cpu.eflags, 0x7fd7);	       /* as the TSS has it, reserved bits apart */
	assert_int_equal(cpu.cr3, 0x5000);	       /* without paging CR3 stays */
	assert_int_equal(cr3_loaded, 0);
	assert_true(cpu.debug_trap);
}

static void test_16_bit(void **unused)
{
	(void)unused;
	put(NEW_TSS + 14, 2, 0x4321);
	put(NEW_TSS + 16, 2, 0x0202);
	for (uint32_t i = 0; i < 8; i++)
		put(NEW_TSS + 18 + 2 * i, 2, 0x1000 + i);
	for (uint32_t i = 0; i < 4; i++)
		put(NEW_TSS + 34 + 2 * i, 2, i == 1 ? SEL_CODE : SEL_DATA);
	put(NEW_TSS + 42, 2, SEL_LDT);
	put(NEW_TSS, 2, 0x5555);
	assert_int_equal(go(TASK_CALL, SEL_NEW16), 0);
	assert_int_equal(type_of(SEL_NEW16), 0x83);
	assert_int_equal(cpu.tr.rights, 0x83);
	assert_int_equal(cpu.eip, 0x4321);
	assert_int_equal(cpu.eflags, 0x4202);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(cpu.gpr[i], 0x1000 + i);
	assert_int_equal(cr3_loaded, 0);
	assert_true(cpu.segment[4].unusable && cpu.segment[5].unusable);
	assert_int_equal(cpu.segment[4].selector, 0);
	assert_false(cpu.segment[3].unusable);
	assert_int_equal(cpu.ldtr.base, LDT);

	/* And out of it again. */
	descriptor(GDT + SEL_NEW, NEW_TSS + 0x100, 103, 0x89);
	memcpy(memory + NEW_TSS + 0x100, memory + OLD_TSS, 104);
	memset(memory + NEW_TSS, 0xee, 44);
	put(NEW_TSS + 0x100 + 72 + 4 * 1, 4, SEL_CODE);
	for (uint32_t i = 0; i < 6; i++)
		if (i != 1)
			put(NEW_TSS + 0x100 + 72 + 4 * i, 4, SEL_DATA);
	assert_int_equal(go(TASK_JMP, SEL_NEW), 0);
	assert_int_equal(type_of(SEL_NEW16), 0x81);
	assert_int_equal(get(NEW_TSS + 12, 4), 0x4321eeee);
	assert_int_equal(get(NEW_TSS + 16, 2), 0x4202);
	assert_int_equal(get(NEW_TSS + 32, 2), 0x1007);
	assert_int_equal(get(NEW_TSS + 40, 4), 0xeeee0010);
	assert_int_equal(cpu.gpr[0], 0xa0000001);
}

static void test_user_and_8086(void **unused)
{
	(void)unused;
	for (uint32_t i = 0; i < 6; i++)
		put(NEW_TSS + 72 + 4 * i, 4, i == 1 ? SEL_CODE3 : SEL_DATA3);
	put(NEW_TSS + 72, 4, 0xc); /* ES from the LDT, DPL 0 */
	put(NEW_TSS + 84, 4, 3);   /* a null selector */
	put(LDT + 12, 4, 0x0040f200);
	assert_int_equal(go(TASK_JMP, SEL_NEW), 0);
	assert_int_equal(cpu.segment[1].rights, 0xc0fb);
	assert_int_equal(type_of(SEL_CODE3), 0xfb); /* accessed in memory, too */
	assert_int_equal(type_of(SEL_DATA3), 0xf3);
	assert_int_equal(cpu.segment[2].base, 0x100);
	assert_int_equal(cpu.segment[2].limit, 0xffff);
	assert_int_equal(cpu.segment[0].base, 0x200);
	assert_int_equal(memory[LDT + 13], 0xf3);
	assert_true(cpu.segment[3].unusable);
	assert_int_equal(cpu.segment[3].selector, 3);

	setup(NULL);
	put(NEW_TSS + 36, 4, 0x23202);
	for (uint32_t i = 0; i < 6; i++)
		put(NEW_TSS + 72 + 4 * i, 4, 0x1230 + i);
	assert_int_equal(go(TASK_JMP, SEL_NEW), 0);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_equal(cpu.segment[i].selector, 0x1230 + i);
		assert_int_equal(cpu.segment[i].base, 0x12300 + 16 * i);
		assert_int_equal(cpu.segment[i].limit, 0xffff);
		assert_int_equal(cpu.segment[i].rights, 0xf3);
		assert_false(cpu.segment[i].unusable);
	}
	assert_int_equal(cpu.ldtr.base, LDT);
}

static void test_error_code(void **unused)
{
	struct task_switch request = {
		.selector = SEL_NEW, .source = TASK_GATE, .has_error = true, .error = 0x12345678
	};

	(void)unused;
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), 0);
	assert_int_equal(cpu.gpr[GPR_RSP], STACK - 4);
	assert_int_equal(get(STACK - 4, 4), 0x12345678);
	assert_false(user_write);
	assert_int_equal(cpu.eflags, 0x4203);
	assert_int_equal(get(NEW_TSS, 2), SEL_OLD);

	/* Pushed last, and not when something else fails. */
	setup(NULL);
	absent = STACK - 1;
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), -EFAULT);
	assert_int_equal(fault.vector, VECTOR_PF);
	assert_int_equal(cpu.gpr[GPR_RSP], STACK);
	setup(NULL);
	descriptor(GDT + SEL_DATA, 0, 0xfffff, 0xc013);
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), -EFAULT);
	assert_int_equal(fault.error, SEL_DATA);
	assert_int_equal(cpu.gpr[GPR_RSP], STACK);

	/* At CPL 3 it is the user's write. */
	setup(NULL);
	for (uint32_t i = 0; i < 6; i++)
		put(NEW_TSS + 72 + 4 * i, 4, i == 1 ? SEL_CODE3 : SEL_DATA3);
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), 0);
	assert_true(user_write);
	assert_int_equal(get(STACK + 0x100 - 4, 4), 0x12345678);

	/* A stack of 64 KiB, and one that grows down to 7ffdh: the code doesn't fit. */
	setup(NULL);
	descriptor(GDT + SEL_DATA, 0, 0xffff, 0x93);
	put(NEW_TSS + 40 + 16, 4, 0xabcd8002);
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), 0);
	assert_int_equal(cpu.gpr[GPR_RSP], 0xabcd7ffe);
	setup(NULL);
	descriptor(GDT + SEL_DATA, 0, 0x7fff, 0x97);
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), -EFAULT);
	assert_int_equal(fault.vector, VECTOR_SS);
	assert_int_equal(fault.error, 0);
	setup(NULL);
	descriptor(GDT + SEL_DATA, 0, 0x7ffb, 0x97);
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), 0);
	/* Too high for the limit, and around the end. */
	setup(NULL);
	descriptor(GDT + SEL_DATA, 0, 0x7ffe, 0x93);
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), -EFAULT);
	setup(NULL);
	put(NEW_TSS + 40 + 16, 4, 2);
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), -EFAULT);
	assert_int_equal(fault.vector, VECTOR_SS);

	/* 16 bits into a task of 16 bits. */
	setup(NULL);
	for (uint32_t i = 0; i < 4; i++)
		put(NEW_TSS + 34 + 2 * i, 2, i == 1 ? SEL_CODE : SEL_DATA);
	put(NEW_TSS + 18 + 8, 2, 0x8000);
	put(NEW_TSS + 42, 2, 0);
	request.selector = SEL_NEW16;
	put(0x7ffe, 4, 0xffffffff);
	assert_int_equal(task_switch(&cpu, &request, &access, &fault), 0);
	assert_int_equal(cpu.gpr[GPR_RSP], 0x7ffe);
	assert_int_equal(get(0x7ffe, 4), 0xffff5678);
}

/* Faults of the old task: nothing has changed. */
static void refused(int line, enum task_source source, uint16_t selector, uint8_t vector, uint32_t error)
{
	static uint8_t before[MEMORY_BYTES];
	struct task_state state = cpu;

	memcpy(before, memory, sizeof(before));
	if (go(source, selector) != -EFAULT || cpu.switched || fault.vector != vector || fault.error != error)
		fail_msg("line %d: vector %u, error %xh", line, fault.vector, fault.error);
	assert_memory_equal(before, memory, sizeof(before));
	assert_memory_equal(&state, &cpu, sizeof(cpu));
	setup(NULL);
}
#define REFUSED(...) refused(__LINE__, __VA_ARGS__)

static void test_faults_of_the_old_task(void **unused)
{
	struct task_switch external = { .selector = SEL_OLD, .source = TASK_GATE, .external = true };

	(void)unused;
	descriptor(GDT, NEW_TSS, 103, 0x89);
	REFUSED(TASK_CALL, 0, VECTOR_GP, 0);
	REFUSED(TASK_IRET, 0, VECTOR_TS, 0);
	cpu.ldtr = (struct task_segment){ SEL_LDT, 0x82, 15, LDT, false };
	descriptor(LDT + 8, NEW_TSS, 103, 0x89);
	REFUSED(TASK_JMP, 0xc, VECTOR_GP, 0xc);
	descriptor(GDT + GDT_BYTES, NEW_TSS, 103, 0x89);
	REFUSED(TASK_JMP, GDT_BYTES, VECTOR_GP, GDT_BYTES);
	descriptor(GDT + SEL_NEW, NEW_TSS, 103, 0x8b);
	cpu.gdt_limit = SEL_NEW + 6;
	REFUSED(TASK_IRET, SEL_NEW | 3, VECTOR_TS, SEL_NEW);
	REFUSED(TASK_CALL, SEL_OLD, VECTOR_GP, SEL_OLD); /* busy */
	REFUSED(TASK_GATE, SEL_OLD, VECTOR_GP, SEL_OLD);
	REFUSED(TASK_IRET, SEL_NEW, VECTOR_TS, SEL_NEW); /* not busy */
	REFUSED(TASK_CALL, SEL_DATA, VECTOR_GP, SEL_DATA);
	REFUSED(TASK_CALL, SEL_LDT, VECTOR_GP, SEL_LDT);
	descriptor(GDT + SEL_NEW, NEW_TSS, 103, 0x99);
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_GP, SEL_NEW);
	descriptor(GDT + SEL_NEW, NEW_TSS, 103, 0x8c);
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_GP, SEL_NEW);
	descriptor(GDT + SEL_NEW, NEW_TSS, 103, 0x09);
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_NP, SEL_NEW);
	descriptor(GDT + SEL_NEW, NEW_TSS, 102, 0x89);
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_TS, SEL_NEW);
	descriptor(GDT + SEL_NEW16, NEW_TSS, 42, 0x81);
	REFUSED(TASK_CALL, SEL_NEW16, VECTOR_TS, SEL_NEW16);
	cpu.tr.limit = 102;
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_TS, SEL_OLD);
	absent = GDT + SEL_NEW + 4;
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_PF, 0);
	absent = NEW_TSS + 103;
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_PF, 0);
	absent = OLD_TSS + 32;
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_PF, 2);
	read_only = OLD_TSS + 95;
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_PF, 3);
	read_only = NEW_TSS;
	REFUSED(TASK_CALL, SEL_NEW, VECTOR_PF, 3);
	read_only = NEW_TSS;
	REFUSED(TASK_GATE, SEL_NEW, VECTOR_PF, 3);
	read_only = GDT + SEL_NEW + 5;
	REFUSED(TASK_JMP, SEL_NEW, VECTOR_PF, 3);
	read_only = GDT + SEL_OLD + 5;
	REFUSED(TASK_JMP, SEL_NEW, VECTOR_PF, 3);
	assert_int_equal(task_switch(&cpu, &external, &access, &fault), -EFAULT);
	assert_int_equal(fault.error, SEL_OLD | 1);
}

/* Faults of the new task: it is there, the segment at fault (and those behind it) is not. */
static void lands(int line, uint8_t vector, uint32_t error, unsigned int segment)
{
	if (go(TASK_JMP, SEL_NEW) != -EFAULT || !cpu.switched || fault.vector != vector ||
	    fault.error != error)
		fail_msg("line %d: vector %u, error %xh", line, fault.vector, fault.error);
	assert_int_equal(cpu.tr.selector, SEL_NEW);
	assert_int_equal(cpu.eip, 0x400);
	assert_int_equal(type_of(SEL_OLD), 0x89);
	/* A code segment there is always: the fault has to be delivered. */
	assert_int_equal(cpu.segment[1].rights & 0x98, 0x98);
	if (segment == 1) {
		uint32_t cpl = cpu.segment[1].selector & 3u;

		assert_int_equal(cpu.segment[1].rights, 0xc09b | cpl << 5);
		assert_int_equal(cpu.segment[1].base, 0);
		assert_int_equal(cpu.segment[1].limit, UINT32_MAX);
		assert_int_equal(cpu.segment[2].rights, cpl << 5);
	}
	assert_false(cpu.segment[1].unusable);
	if (segment != 1)
		assert_true(cpu.segment[segment].unusable);
	setup(NULL);
}
#define LANDS(...) lands(__LINE__, __VA_ARGS__)
#define NEW_SELECTOR(segment, selector) put(NEW_TSS + 72 + 4 * (segment), 4, selector)
#define SPARE(rights) descriptor(GDT + SEL_SPARE, 0, 0xfffff, rights)

static void test_faults_of_the_new_task(void **unused)
{
	static const struct {
		unsigned int segment;
		uint32_t rights, rpl;
		uint8_t vector;
	} cases[] = {
		{ 1, 0xc093, 0, VECTOR_TS }, /* data */
		{ 1, 0xc08b, 0, VECTOR_TS }, /* system */
		{ 1, 0xc0fb, 0, VECTOR_TS }, /* DPL 3 */
		{ 1, 0xc0ff, 0, VECTOR_TS }, /* conforming, DPL 3 */
		{ 1, 0xc01b, 0, VECTOR_NP }, { 1, 0xc07b, 3, VECTOR_NP },
		{ 2, 0xc09b, 0, VECTOR_TS },				  /* code */
		{ 2, 0xc091, 0, VECTOR_TS },				  /* read-only */
		{ 2, 0xc083, 0, VECTOR_TS },				  /* system */
		{ 2, 0xc0f3, 0, VECTOR_TS },				  /* DPL 3 */
		{ 2, 0xc093, 1, VECTOR_TS },				  /* RPL 1 */
		{ 2, 0xc013, 0, VECTOR_SS }, { 3, 0xc099, 0, VECTOR_TS }, /* code that can't be read */
		{ 3, 0xc082, 0, VECTOR_TS },				  /* system */
		{ 0, 0xc093, 3, VECTOR_TS },				  /* RPL 3 */
		{ 4, 0xc09b, 1, VECTOR_TS },				  /* RPL 1, not conforming */
		{ 5, 0xc013, 0, VECTOR_NP },
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		SPARE(cases[i].rights);
		NEW_SELECTOR(cases[i].segment, SEL_SPARE | cases[i].rpl);
		LANDS(cases[i].vector, SEL_SPARE, cases[i].segment);
	}
	NEW_SELECTOR(1, 0);
	LANDS(VECTOR_TS, 0, 1);
	NEW_SELECTOR(2, 0);
	LANDS(VECTOR_TS, 0, 2);
	descriptor(GDT + GDT_BYTES, 0, 0xfffff, 0xc093);
	NEW_SELECTOR(3, GDT_BYTES);
	LANDS(VECTOR_TS, GDT_BYTES, 3);
	NEW_SELECTOR(3, 0x14); /* beyond the LDT */
	LANDS(VECTOR_TS, 0x14, 3);
	descriptor(8, 0, 0xfffff, 0xc093); /* where LDTR would be with base 0 */
	put(NEW_TSS + 96, 4, 0);
	NEW_SELECTOR(3, 0xc);
	LANDS(VECTOR_TS, 0xc, 3);
	put(NEW_TSS + 96, 4, SEL_DATA);
	LANDS(VECTOR_TS, SEL_DATA, 2);
	put(NEW_TSS + 96, 4, SEL_LDT | 4);
	LANDS(VECTOR_TS, SEL_LDT | 4, 2);
	put(NEW_TSS + 96, 4, GDT_BYTES);
	LANDS(VECTOR_TS, GDT_BYTES, 2);
	descriptor(GDT + SEL_LDT, LDT, 15, 0x02);
	LANDS(VECTOR_TS, SEL_LDT, 2);
	cr3_error = EINVAL;
	LANDS(VECTOR_GP, 0, 2);
	absent = GDT + SEL_LDT;
	LANDS(VECTOR_PF, 0, 2);
	absent = GDT + SEL_CODE;
	LANDS(VECTOR_PF, 0, 2);
	SPARE(0xc092);
	NEW_SELECTOR(5, SEL_SPARE);
	read_only = GDT + SEL_SPARE + 5;
	LANDS(VECTOR_PF, 3, 5);
}

static void test_allowed_segments(void **unused)
{
	static const struct {
		unsigned int segment;
		uint32_t rights, rpl;
	} cases[] = {
		{ 1, 0xc09f, 3 }, /* conforming code of DPL 0 at CPL 3 */
		{ 3, 0xc09f, 3 }, /* conforming code as data, whatever the RPL */
		{ 3, 0xc091, 0 },
		{ 3, 0xc0f3, 3 },
	};

	(void)unused;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		SPARE(cases[i].rights);
		for (unsigned int k = 0; k < 6 && cases[i].segment == 1; k++)
			NEW_SELECTOR(k, SEL_DATA3);
		NEW_SELECTOR(cases[i].segment, SEL_SPARE | cases[i].rpl);
		assert_int_equal(go(TASK_JMP, SEL_NEW), 0);
		assert_int_equal(cpu.segment[cases[i].segment].rights, cases[i].rights);
		setup(NULL);
	}
	descriptor(GDT + SEL_SPARE, 0x92345678, 0x6789a, 0x4093);
	NEW_SELECTOR(5, SEL_SPARE);
	read_only = GDT + SEL_SPARE + 5; /* accessed already: not written */
	assert_int_equal(go(TASK_JMP, SEL_NEW), 0);
	assert_int_equal(cpu.segment[5].base, 0x92345678);
	assert_int_equal(cpu.segment[5].limit, 0x6789a);
	setup(NULL);
	read_only = NEW_TSS; /* only CALL and events write the link */
	assert_int_equal(go(TASK_JMP, SEL_NEW), 0);
	setup(NULL);
	descriptor(GDT + SEL_CODE, 0, 0x400, 0x409b);
	assert_int_equal(go(TASK_JMP, SEL_NEW), 0);
	setup(NULL);
	descriptor(GDT + SEL_CODE, 0, 0x3ff, 0x409b);
	assert_int_equal(go(TASK_JMP, SEL_NEW), -EFAULT);
	assert_int_equal(fault.vector, VECTOR_GP);
	assert_int_equal(fault.error, 0);
	assert_false(cpu.segment[5].unusable);
}

/* What is at fault when the caller's memory breaks is handed through. */
static int broken_read(void *space, uint32_t linear, void *buf, uint32_t size, struct task_fault *unused)
{
	(void)space;
	(void)linear;
	(void)buf;
	(void)size;
	(void)unused;
	return -EIO;
}

static void test_other_errors(void **unused)
{
	const struct task_memory broken = { memory, broken_read, write_memory, may_write, load_cr3 };
	struct task_switch request = { .selector = SEL_NEW, .source = TASK_CALL };

	(void)unused;
	cpu.switched = cpu.debug_trap = true;
	assert_int_equal(task_switch(&cpu, &request, &broken, &fault), -EIO);
	assert_false(cpu.switched);
	assert_false(cpu.debug_trap);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_call, setup),
		cmocka_unit_test_setup(test_jump_and_return, setup),
		cmocka_unit_test_setup(test_16_bit, setup),
		cmocka_unit_test_setup(test_user_and_8086, setup),
		cmocka_unit_test_setup(test_error_code, setup),
		cmocka_unit_test_setup(test_faults_of_the_old_task, setup),
		cmocka_unit_test_setup(test_faults_of_the_new_task, setup),
		cmocka_unit_test_setup(test_allowed_segments, setup),
		cmocka_unit_test_setup(test_other_errors, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
