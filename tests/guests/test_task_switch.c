/* SPDX-License-Identifier: MIT */
/*
 * Hardware task switches, which VMX leaves to the hypervisor: by JMP, CALL and IRET, by a task gate for INT n, an exception with
 * an error code, an interrupt and an NMI; to a 16-bit task and into virtual-8086 mode; and the faults of the old and of the new
 * task. Each without paging, with 4 MiB pages and with PAE, where CR3 goes with the task.
 */
#include "lib/guest.h"

/* Places in the copy below 1 MiB; the first seven as in task_switch.asm. */
#define DATA_OFF 0x1000u
#define R_A_OFF 0x1400u
#define R_B_OFF 0x1480u
#define R_C_OFF 0x1500u
#define R_FAULT_OFF 0x1580u
#define TSS_A_OFF 0x1b00u
#define STACK_A 0x2ff0u
#define GDT_OFF 0x1100u
#define IDT_OFF 0x1800u
#define TSS_C_OFF 0x1c00u
#define TSS_16_OFF 0x1d00u
#define LDT_OFF 0x1e00u
#define TAG_OFF 0x1f00u
#define STACK_C 0x37f0u
#define STACK_B 0x3ff0u
#define TABLE_OFF 0x4000u /* a page for each task's */
#define PDPT_OFF 0x6000u  /* 32 bytes for each task's */

#define MIB4 (4ull << 20)
#define IDT_ENTRIES 0x42u

enum selector {
	CODE32 = 0x18,
	DATA32 = 0x20,
	FLAT = 0x28,
	SEL_A = 0x30,
	SEL_B = 0x38,
	SEL_C = 0x40,
	SEL_16 = 0x48,
	SEL_ABSENT = 0x50,
	SEL_SHORT = 0x58,
	SEL_DATA16 = 0x60,
	SEL_LDT = 0x68,
	SEL_BEYOND = 0xff8,
	BAD_DATA = 0x1230,
};

enum paging { NO_PAGING, PSE, PAE, PAGINGS };
static const char *const paging_name[PAGINGS] = { "no paging", "4 MiB pages", "PAE" };

enum op { JUMP, CALL, INT, GP, IRQ, NMI, JUMP16, ABSENT, SHORT, BUSY, BEYOND, INT_ABSENT, BAD_LINK };

enum { EFLAGS_NT = 0x4000, EFLAGS_VM = 0x20000 };

struct record {
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
	uint32_t eflags, tr, ldt, cr0, cr3, dr7, gs, tag, fs, probe, times;
};

struct outcome {
	uint32_t vector, error, eip, cr2, tr, dr6, task_error, count, nested, done;
	uint16_t ds_8086, sp_8086;
	uint32_t carry;
};

struct tss {
	uint32_t link, stacks[6], cr3, eip, eflags;
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
	uint32_t es, cs, ss, ds, fs, gs, ldt;
	uint16_t trap, io_map;
};
_Static_assert(sizeof(struct tss) == 104, "SDM3 8.2.1");

struct tss16 {
	uint16_t link, stacks[6], ip, flags;
	uint16_t ax, cx, dx, bx, sp, bp, si, di;
	uint16_t es, cs, ss, ds, ldt;
};
_Static_assert(sizeof(struct tss16) == 44, "SDM3 8.6");

extern HIDDEN const uint8_t task_blob[], task_blob_end[], task_back64[], task_a[], task_b[], task_c[],
	task_16[], task_8086[], task_faults[];

static uint64_t
	region; /* two pieces of 4 MiB that show which CR3 is in force, and one with B's TSS across a page boundary */
static enum paging paging;

#define AT(offset) ((void *)(low_memory + (offset)))
#define B ((volatile struct tss *)(region + 2 * MIB4 + PAGE - 48))
#define SAW(who) ((volatile struct record *)AT(R_##who##_OFF))
#define OUT ((volatile struct outcome *)AT(R_FAULT_OFF))

static void put(uint64_t at, uint64_t v, unsigned int bytes)
{
	memcpy(AT(at), &v, bytes);
}

static uint32_t offset(const uint8_t *label)
{
	return (uint32_t)(label - task_blob);
}

static void descriptor(uint64_t at, uint64_t base, uint32_t limit, uint32_t rights)
{
	put(at,
	    (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)rights << 40 |
		    (uint64_t)(limit >> 16) << 48 | (base >> 24) << 56,
	    8);
}

static uint8_t type_of(uint32_t selector)
{
	return *(uint8_t *)AT(GDT_OFF + selector + 5);
}

static void task_gate(unsigned int vector, uint32_t selector)
{
	put(IDT_OFF + vector * 8, (uint64_t)selector << 16 | 0x85ull << 40, 8);
}

static void fill_tables(void)
{
	descriptor(GDT_OFF + 0x08, 0, 0xfffff, 0xa09b);
	descriptor(GDT_OFF + 0x10, 0, 0xfffff, 0xc093);
	descriptor(GDT_OFF + CODE32, low_memory, 0xfffff, 0xc09b);
	descriptor(GDT_OFF + DATA32, low_memory, 0xfffff, 0xc093);
	descriptor(GDT_OFF + FLAT, 0, 0xfffff, 0xc093);
	descriptor(GDT_OFF + SEL_A, low_memory + TSS_A_OFF, 103, 0x89);
	descriptor(GDT_OFF + SEL_B, (uint64_t)B, 103, 0x89);
	descriptor(GDT_OFF + SEL_C, low_memory + TSS_C_OFF, 103, 0x89);
	descriptor(GDT_OFF + SEL_16, low_memory + TSS_16_OFF, 43, 0x81);
	descriptor(GDT_OFF + SEL_ABSENT, low_memory + TSS_C_OFF, 103, 0x09);
	descriptor(GDT_OFF + SEL_SHORT, low_memory + TSS_C_OFF, 102, 0x89);
	descriptor(GDT_OFF + SEL_DATA16, low_memory, 0xffff, 0x93);
	descriptor(GDT_OFF + SEL_LDT, low_memory + LDT_OFF, 7, 0x82);
	descriptor(LDT_OFF, low_memory + TAG_OFF, 0xff, 0x4092); /* its accessed bit is to be set */
	put(TAG_OFF, 0x7a67a6, 4);
	for (unsigned int i = 0; i < 32; i++)
		put(IDT_OFF + i * 8,
		    (uint64_t)(offset(task_faults) + i * 16) | (uint64_t)CODE32 << 16 | 0x8eull << 40, 8);
	task_gate(0x31, SEL_C);
	task_gate(0x40, SEL_C);
	task_gate(0x41, SEL_ABSENT);
	put(DATA_OFF + 0x50, SEL_LDT + 7, 2);
	put(DATA_OFF + 0x52, low_memory + GDT_OFF, 8);
	put(DATA_OFF + 0x60, IDT_ENTRIES * 8 - 1, 2);
	put(DATA_OFF + 0x62, low_memory + IDT_OFF, 4);
	put(DATA_OFF + 0x70, region, 4);
	put(DATA_OFF + 0x80, low_memory + offset(task_back64), 4);
	put(DATA_OFF + 0x84, SEL_CODE64, 2);
}

/* The entry of `task`'s tables that maps B's TSS. */
static uint64_t *entry_of_b(unsigned int task)
{
	uint64_t table = TABLE_OFF + task * PAGE;

	return AT(table + (paging == PSE ? (uint64_t)B >> 22 << 2 : (uint64_t)B >> 21 << 3));
}

/* Identity, but B's shows the second piece where A's shows the first. */
static void fill_page_tables(void)
{
	/* The first entry is the user's too: virtual-8086 mode has CPL 3. */
	for (unsigned int task = 0; task < 2; task++) {
		uint64_t table = TABLE_OFF + task * PAGE;
		uint64_t shown = region + task * MIB4;

		for (uint64_t i = 0; i < 1024 && paging == PSE; i++)
			put(table + i * 4, i << 22 | PTE_PS | (i ? 0 : PTE_U) | PTE_W | PTE_P, 4);
		if (paging == PSE)
			put(table + (region >> 22) * 4, shown | PTE_PS | PTE_W | PTE_P, 4);
		for (uint64_t i = 0; i < 4; i++)
			put(PDPT_OFF + task * 32 + i * 8,
			    (i ? (uint64_t)page_pd[i] : low_memory + table) | PTE_P, 8);
		for (uint64_t i = 0; i < 512 && paging == PAE; i++)
			put(table + i * 8, i << 21 | PTE_PS | (i ? 0 : PTE_U) | PTE_W | PTE_P, 8);
		if (paging == PAE)
			put(table + (region >> 21) * 8, shown | PTE_PS | PTE_W | PTE_P, 8);
	}
}

static uint32_t cr3_of(unsigned int task)
{
	return (uint32_t)low_memory +
	       (paging == PAE ? PDPT_OFF + task * 32 : TABLE_OFF + task * (uint32_t)PAGE);
}

static void fill_tss(volatile struct tss *tss, uint32_t pattern, const uint8_t *entry, uint32_t stack,
		     unsigned int task)
{
	*tss = (struct tss){
		.cr3 = cr3_of(task),
		.eip = offset(entry),
		.eflags = 2,
		.eax = pattern,
		.ecx = pattern + 1,
		.edx = pattern + 2,
		.ebx = pattern + 3,
		.esp = stack,
		.ebp = pattern + 5,
		.esi = pattern + 6,
		.edi = pattern + 7,
		.es = DATA32,
		.cs = CODE32,
		.ss = DATA32,
		.ds = DATA32,
		.fs = FLAT,
		.io_map = 104,
	};
}

static void prepare(void)
{
	memset(AT(0), 0, 8 * PAGE);
	memcpy(AT(0), task_blob, (size_t)(task_blob_end - task_blob));
	fill_tables();
	fill_page_tables();
	fill_tss(AT(TSS_A_OFF), 0, task_a, 0, 0);
	fill_tss(B, 0xb0b00000, task_b, STACK_B, 1);
	fill_tss(AT(TSS_C_OFF), 0xc0c00000, task_c, STACK_C, 0);
	B->ldt = SEL_LDT;
	B->gs = 4;
	*(struct tss16 *)AT(TSS_16_OFF) = (struct tss16){
		.ip = (uint16_t)offset(task_16),
		.flags = 2,
		.ax = 0x1600,
		.cx = 0x1601,
		.dx = 0x1602,
		.bx = 0x1603,
		.sp = STACK_B,
		.bp = 0x1605,
		.si = 0x1606,
		.di = 0x1607,
		.es = DATA32,
		.cs = CODE32,
		.ss = SEL_DATA16,
		.ds = DATA32,
	};
	put(DATA_OFF + 0x68, cr3_of(0), 4);
	put(DATA_OFF + 0x6c, paging == PSE ? 0x10 : paging == PAE ? CR4_PAE : 0, 4);
	*(volatile uint32_t *)region = 0xa;
	*(volatile uint32_t *)(region + MIB4) = 0xb;
}

static void go(enum op op)
{
	void (*entry)(unsigned int, unsigned int) = (void (*)(unsigned int, unsigned int))low_memory;

	entry(paging, op);
}

/* What is wrong with what a task saw of itself, NULL if nothing. */
static const char *wrong_registers(const volatile struct record *r, uint32_t pattern, uint32_t eax,
				   uint32_t esp, uint32_t mask)
{
	if (r->times != 1)
		return "did not run once";
	if ((r->eax & mask) != eax || (r->ecx & mask) != pattern + 1 || (r->edx & mask) != pattern + 2 ||
	    (r->ebx & mask) != pattern + 3 || (r->ebp & mask) != pattern + 5 ||
	    (r->esi & mask) != pattern + 6 || (r->edi & mask) != pattern + 7)
		return "registers";
	return (r->esp & mask) == esp ? NULL : "ESP";
}

static const char *wrong_place(const volatile struct record *r, uint32_t selector, unsigned int task)
{
	if (r->tr != selector)
		return "TR";
	if (!(r->cr0 & CR0_TS))
		return "TS";
	if ((r->dr7 & 3) != 2)
		return "DR7";
	if (r->cr3 != cr3_of(paging ? task : 0))
		return "CR3";
	return r->probe == (paging && task ? 0xbu : 0xau) ? NULL : "its page tables are not in force";
}

static const char *wrong_b(bool nested)
{
	const volatile struct record *r = SAW(B);
	const char *bad = wrong_registers(r, 0xb0b00000, 0xb0b00000, STACK_B, UINT32_MAX);

	if (!bad)
		bad = wrong_place(r, SEL_B, 1);
	if (!bad && !(r->eflags & EFLAGS_NT) != !nested)
		bad = "NT";
	if (!bad && (r->ldt != SEL_LDT || r->gs != 4 || r->tag != 0x7a67a6))
		bad = "LDT";
	/* QEMU leaves it. */
	if (!bad && is_intel() && *(uint8_t *)AT(LDT_OFF + 5) != 0x93)
		bad = "accessed bit of a descriptor";
	if (!bad && (type_of(SEL_A) != 0x8b || type_of(SEL_B) != 0x89))
		bad = "busy bits at the end";
	if (!bad && (B->esp != STACK_B || (B->eflags & EFLAGS_NT) || B->cr3 != cr3_of(1)))
		bad = "what was saved of it";
	if (!bad && B->link != (nested ? SEL_A : 0))
		bad = "link";
	/* B's registers are saved through its own tables; through A's only CALL writes, the link. */
	if (!bad && paging &&
	    ((*entry_of_b(1) & 0x60) != 0x60 || (*entry_of_b(0) & 0x60) < (nested ? 0x60 : 0x20)))
		bad = "accessed and dirty bits of its TSS's page";
	return bad;
}

static const char *wrong_a(uint32_t ecx_known)
{
	const volatile struct record *r = SAW(A);
	const char *bad;

	if (OUT->done != 0x600d || OUT->vector)
		return "did not get through";
	if (!ecx_known && r->times == 1)
		SAW(A)->ecx = 0xa0a00001;
	bad = wrong_registers(r, 0xa0a00000, 0xa0a00000 + BAD_DATA, STACK_A, UINT32_MAX);
	if (!bad)
		bad = wrong_place(r, SEL_A, 0);
	if (!bad && (r->eflags & EFLAGS_NT))
		bad = "NT";
	return bad ? bad : r->ldt || r->gs ? "LDT, GS" : NULL;
}

static const char *wrong_c(uint32_t esp)
{
	const volatile struct record *r = SAW(C);
	const struct tss *tss = AT(TSS_C_OFF);
	const char *bad = wrong_registers(r, 0xc0c00000, 0xc0c00000, esp, UINT32_MAX);

	if (!bad)
		bad = wrong_place(r, SEL_C, 0);
	if (!bad && !(r->eflags & EFLAGS_NT))
		bad = "NT";
	if (!bad && (r->ldt || r->gs))
		bad = "LDT, GS";
	return bad ? bad : tss->link != SEL_A || type_of(SEL_C) != 0x89 ? "link, busy" : NULL;
}

static void verdict(const char *what, const char *who, const char *bad)
{
	ok(!bad, "%s: %s%s%s%s", paging_name[paging], what, who, bad ? ": " : "", bad ? bad : "");
	if (bad) {
		const volatile struct record *r = *who == 0 || who[2] == 'A' ? SAW(A) :
						  who[2] == 'B'		     ? SAW(B) :
									       SAW(C);

		note("eax %x ecx %x esp %x eflags %x tr %x ldt %x cr0 %x cr3 %x dr7 %x gs %x tag %x probe %x "
		     "times %u",
		     r->eax, r->ecx, r->esp, r->eflags, r->tr, r->ldt, r->cr0, r->cr3, r->dr7, r->gs, r->tag,
		     r->probe, r->times);
		note("vector %u error %x eip %x cr2 %x tr %x dr6 %x task error %x count %u nested %u done %x",
		     OUT->vector, OUT->error, OUT->eip, OUT->cr2, OUT->tr, OUT->dr6, OUT->task_error,
		     OUT->count, OUT->nested, OUT->done);
		note("types A %x B %x C %x, links B %x C %x", type_of(SEL_A), type_of(SEL_B), type_of(SEL_C),
		     B->link, ((struct tss *)AT(TSS_C_OFF))->link);
	}
}

static void check_instructions(void)
{
	prepare();
	go(JUMP);
	verdict("JMP and back", ", B", wrong_b(false));
	verdict("JMP and back", ", A", wrong_a(true));
	prepare();
	go(CALL);
	verdict("CALL and IRET", ", B", wrong_b(true));
	verdict("CALL and IRET", ", A", wrong_a(true));
	if (is_intel())
		is(OUT->carry, 1, "... and A's carry flag came back");
	else
		skip("... and A's carry flag came back", "QEMU saves the flags before it has computed them");
	prepare();
	go(JUMP16);
	/* The upper halves are undefined. */
	verdict("JMP to a 16-bit task", ", B", wrong_registers(SAW(B), 0x1600, 0x1600, STACK_B, 0xffff));
	verdict("JMP to a 16-bit task", ", A", wrong_a(true));
	is(type_of(SEL_16) | SAW(B)->tr << 8 | SAW(B)->fs, 0x81 | SEL_16 << 8, "... its type, TR and FS");
	is(SAW(B)->cr3, cr3_of(0), "... CR3 stays");
}

static void check_gates(void)
{
	uint32_t nmis = !is_intel() && on_trivet() ? 1 : 2;

	prepare();
	go(INT);
	verdict("INT through a task gate", ", C", wrong_c(STACK_C));
	verdict("INT through a task gate", ", A", wrong_a(true));
	prepare();
	task_gate(13, SEL_C);
	put(DATA_OFF + 0x74, 2, 4);
	put(DATA_OFF + 0x78, 1, 4);
	go(GP);
	verdict("#GP through a task gate", ", C", wrong_c(STACK_C - 4));
	verdict("#GP through a task gate", ", A", wrong_a(true));
	is(OUT->task_error, BAD_DATA, "... with its error code");
	prepare();
	go(IRQ);
	verdict("interrupt through a task gate", ", C", wrong_c(STACK_C));
	verdict("interrupt through a task gate", ", A", wrong_a(false));
	prepare();
	task_gate(2, SEL_C);
	apic_write(APIC_ICR2, apic_id() << 24);
	put(DATA_OFF + 0x88, nmis, 4);
	go(NMI);
	SAW(A)->ecx = 0xa0a00001;
	verdict("NMI through a task gate", "", wrong_a(false));
	is(OUT->count, nmis, "... %u times", nmis);
	if (nmis == 2)
		is(OUT->nested, 1, "... and the second waited for IRET");
	else
		skip("... and the second waited for IRET",
		     "SVM shows the IRET only by a single step, which enters the TSS");
}

/* A fault in A: nothing has changed. */
static void faults(enum op op, uint32_t vector, uint32_t error, const char *what)
{
	uint8_t types[3] = { 0x8b, type_of(SEL_B), type_of(SEL_C) };

	go(op);
	ok(OUT->vector == vector && OUT->error == error && OUT->tr == SEL_A && OUT->done == 0x600d,
	   "%s: %s: vector %u, error 0x%x, TR 0x%x", paging_name[paging], what, OUT->vector, OUT->error,
	   OUT->tr);
	if (op >= ABSENT)
		is(OUT->eip, SAW(A)->eax, "... at the instruction");
	ok(type_of(SEL_A) == types[0] && type_of(SEL_B) == types[1] && type_of(SEL_C) == types[2] &&
		   SAW(B)->times == 0 && SAW(C)->times == 0,
	   "... and no task is touched");
	prepare();
}

static void check_faults_of_a(void)
{
	prepare();
	faults(ABSENT, 11, SEL_ABSENT, "JMP to a task that is not present");
	faults(SHORT, 10, SEL_SHORT, "CALL to a TSS that is too short");
	faults(BUSY, 13, SEL_A, "CALL to a busy task");
	faults(BEYOND, 13, SEL_BEYOND, "JMP beyond the GDT");
	faults(INT_ABSENT, 11, SEL_ABSENT, "INT to a task that is not present");
	((struct tss *)AT(TSS_A_OFF))->link = SEL_B;
	faults(BAD_LINK, 10, SEL_B, "IRET to a task that is not busy");
	task_gate(13, SEL_ABSENT);
	faults(GP, 8, 0, "#GP to a task that is not present");
	if (!paging)
		return;
	*entry_of_b(0) &= ~PTE_P;
	go(JUMP);
	ok(OUT->vector == 14 && !(OUT->error & 5) && OUT->tr == SEL_A,
	   "... page fault: vector %u, error 0x%x", OUT->vector, OUT->error);
	is(OUT->eip, offset(task_a) - 7, "... at the instruction");
	ok(OUT->cr2 >= (uint32_t)(uint64_t)B && OUT->cr2 < (uint32_t)(uint64_t)(B + 1), "... CR2 0x%x",
	   OUT->cr2);
}

static void check_new_task(void)
{
	prepare();
	B->ss = SEL_BEYOND;
	task_gate(10, SEL_C);
	put(DATA_OFF + 0x78, 1, 4);
	put(DATA_OFF + 0x7c, 1, 4);
	go(JUMP);
	is(OUT->task_error, SEL_BEYOND, "%s: #TS for the new task's SS", paging_name[paging]);
	is(((struct tss *)AT(TSS_C_OFF))->link, SEL_B, "... is the new task's");
	if (is_intel())
		is(B->eip, offset(task_b), "... at its first instruction");
	else
		skip("... at its first instruction", "QEMU saves the old task's EIP");
	is(type_of(SEL_B), 0x8b, "... which stays busy");
	ok(OUT->done == 0x600d && SAW(A)->times == 1 && SAW(B)->times == 0, "... and A goes on");

	prepare();
	B->ss = SEL_BEYOND;
	task_gate(0x31, SEL_B);
	task_gate(10, SEL_C);
	put(DATA_OFF + 0x78, 1, 4);
	put(DATA_OFF + 0x7c, 1, 4);
	go(IRQ);
	apic_write(APIC_EOI, 0);
	/* QEMU knows no EXT. */
	ok(OUT->done == 0x600d && OUT->count == 1 && OUT->task_error == (SEL_BEYOND | (is_intel() ? 1u : 0u)),
	   "... an interrupt to it: %u tasks, error 0x%x", OUT->count, OUT->task_error);

	prepare();
	B->ss = SEL_BEYOND;
	task_gate(13, SEL_B);
	task_gate(10, SEL_C);
	task_gate(8, SEL_C);
	put(DATA_OFF + 0x74, 2, 4);
	put(DATA_OFF + 0x78, 1, 4);
	put(DATA_OFF + 0x7c, 1, 4);
	go(GP);
	ok(OUT->done == 0x600d && OUT->count == 1 && OUT->task_error == 0 && SAW(C)->esp == STACK_C - 4 &&
		   ((struct tss *)AT(TSS_C_OFF))->link == SEL_B,
	   "... #GP to a new task with a bad SS: double fault there: %u tasks, error 0x%x", OUT->count,
	   OUT->task_error);

	prepare();
	B->trap = 1;
	go(JUMP);
	if (!is_intel() && !OUT->vector)
		skip("#DB by the TSS's T bit", "QEMU does not do it");
	else
		ok(OUT->vector == 1 && OUT->eip == offset(task_b) && (OUT->dr6 & 0x8000) && OUT->tr == SEL_B,
		   "... #DB by the TSS's T bit: vector %u, EIP 0x%x, DR6 0x%x", OUT->vector, OUT->eip,
		   OUT->dr6);

	prepare();
	B->eflags = EFLAGS_VM | 2;
	B->cs = B->ss = B->ds = B->es = B->fs = B->gs = (uint32_t)low_memory >> 4;
	B->eip = offset(task_8086);
	B->stacks[0] = STACK_C;
	B->stacks[1] = DATA32;
	go(JUMP);
	ok(OUT->vector == 13 && OUT->error == 0 && OUT->eip == offset(task_8086) + 8 && OUT->tr == SEL_B &&
		   OUT->ds_8086 == low_memory >> 4 && OUT->sp_8086 == STACK_B && OUT->done == 0x600d,
	   "... to virtual-8086 mode: vector %u at 0x%x, DS 0x%x, SP 0x%x", OUT->vector, OUT->eip,
	   OUT->ds_8086, OUT->sp_8086);
}

void test_main(void)
{
	if (!low_memory)
		skip_all("no memory below 640 KiB");
	region = alloc_memory(3 * MIB4, MIB4);
	if ((region + 3 * MIB4) >> 30)
		skip_all("no memory below 1 GiB");
	for (paging = NO_PAGING; paging < PAGINGS; paging++) {
		check_instructions();
		check_gates();
		check_faults_of_a();
		check_new_task();
	}
}
