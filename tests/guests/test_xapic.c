/* SPDX-License-Identifier: MIT */
/*
 * The local APIC's page with every register and many instruction forms: a hypervisor that owns the real
 * APIC decodes these. The expected values are the architecture's (SDM3 chapter 10, APM2 chapter 16), checked
 * on a bare machine first.
 */
#include "lib/guest.h"

#define R(reg) ((volatile uint32_t *)(APIC_PHYS + (reg)))

static void check_registers(void)
{
	uint32_t version = *R(APIC_VERSION);

	is(*R(APIC_ID) >> 24, cpu_apic_id[0], "ID");
	ok((version & 0xff) >= 0x10 && (version & 0xff) <= 0x15, "version %08x", version);
	ok((version >> 16 & 0xff) >= 4, "at least 5 LVT entries");
	*R(APIC_TPR) = 0x55;
	is(*R(APIC_TPR), 0x55, "TPR");
	is(*R(APIC_PPR), 0x55, "PPR follows TPR");
	is(read_cr8(), 5, "CR8 shows TPR");
	write_cr8(3);
	is(*R(APIC_TPR), 0x30, "TPR shows CR8");
	*R(APIC_TPR) = 0;
	*R(APIC_LDR) = 0x5a000000;
	is(*R(APIC_LDR), 0x5a000000, "LDR");
	*R(APIC_DFR) = 0x0fffffff;
	is(*R(APIC_DFR) >> 28, 0, "DFR cluster");
	*R(APIC_DFR) = 0xffffffff;
	is(*R(APIC_DFR), 0xffffffff, "DFR flat");
	is(*R(APIC_SVR) & 0x1ff, 0x1ff, "SVR");
	for (uint32_t i = 0; i < 8; i++)
		if (*R(APIC_ISR + 16 * i) || *R(APIC_IRR + 16 * i))
			ok(false, "ISR and IRR %u are empty", i);
	*R(APIC_ESR) = 0;
	is(*R(APIC_ESR), 0, "ESR is clear");
	*R(APIC_ICR2) = 0x07000000;
	is(*R(APIC_ICR2) >> 24, 7, "ICR high keeps the target");
}

static void check_lvts(void)
{
	static const struct {
		const char *name;
		uint32_t reg;
	} lvt[] = { { "timer", APIC_LVT_TIMER },  { "thermal", APIC_LVT_THERMAL },
		    { "counter", APIC_LVT_PERF }, { "LINT0", APIC_LVT_LINT0 },
		    { "LINT1", APIC_LVT_LINT1 },  { "error", APIC_LVT_ERROR } };

	for (unsigned int i = 0; i < ARRAY_LEN(lvt); i++) {
		uint32_t old = *R(lvt[i].reg);

		*R(lvt[i].reg) = LVT_MASKED | 0x41;
		is(*R(lvt[i].reg) & ~0x7000u, LVT_MASKED | 0x41, "LVT %s", lvt[i].name);
		*R(lvt[i].reg) = old | LVT_MASKED;
	}
	*R(APIC_LVT_LINT0) = LVT_MASKED;
	*R(APIC_TIMER_DIVIDE) = 0xb;
	is(*R(APIC_TIMER_DIVIDE), 0xb, "divide register");
	*R(APIC_TIMER_DIVIDE) = 0x3;
	is(*R(APIC_TIMER_DIVIDE), 3, "divide register again");
	*R(APIC_TIMER_INITIAL) = 0;
	is(*R(APIC_TIMER_INITIAL), 0, "initial count");
	is(*R(APIC_TIMER_CURRENT), 0, "current count of a stopped timer");
}

/* SVR with the software enable off masks the LVTs, and they stay masked when it comes back. */
static void check_software_disable(void)
{
	if (!on_trivet()) {
		note("QEMU's APIC does not mask the LVTs");
		return;
	}
	*R(APIC_LVT_ERROR) = 0x44;
	*R(APIC_SVR) = SPURIOUS_VECTOR;
	is(*R(APIC_LVT_ERROR) & LVT_MASKED, LVT_MASKED, "software disable masks the LVTs");
	*R(APIC_SVR) = 0x100 | SPURIOUS_VECTOR;
	is(*R(APIC_LVT_ERROR) & LVT_MASKED, LVT_MASKED, "... which stay so");
	*R(APIC_LVT_LINT0) = LVT_MASKED;
}

#define STORE(text, insn, in, want)                                     \
	do {                                                            \
		*R(APIC_TPR) = 0;                                       \
		__asm__ volatile(insn                                   \
				 :                                      \
				 : "r"(APIC_PHYS), "r"((uint64_t)(in))  \
				 : "memory", "rax", "r12", "r9", "cc"); \
		is(*R(APIC_TPR), want, "store: " text);                 \
	} while (0)

static void check_store_forms(void)
{
	STORE("mov r32", "movl %k1, 0x80(%0)", 0x21, 0x21);
	STORE("mov eax", "movl %k1, %%eax; movl %%eax, 0x80(%0)", 0x22, 0x22);
	STORE("mov r12d by r9", "movq %0, %%r9; movl %k1, %%r12d; movl %%r12d, 0x80(%%r9)", 0x23, 0x23);
	STORE("mov imm32", "movl $0x34, 0x80(%0)", 0, 0x34);
	STORE("moffs32 with 64-bit address", "movl %k1, %%eax; movabsl %%eax, 0xfee00080", 0x35, 0x35);
	STORE("base + index * 8", "movq $16, %%r12; movl %k1, (%0,%%r12,8)", 0x36, 0x36);
	STORE("base + index * 4 + disp8", "movq $-4, %%r12; movl %k1, 0x90(%0,%%r12,4)", 0x37, 0x37);
}

static void check_more_store_forms(void)
{
	uint64_t di = APIC_PHYS + APIC_TPR, n = 1;

	*R(APIC_TPR) = 0;
	__asm__ volatile("cld; stosl" : "+D"(di) : "a"(0x38) : "memory");
	is(*R(APIC_TPR), 0x38, "store: stosl");
	is(di, APIC_PHYS + APIC_TPR + 4, "... moves RDI");
	di = APIC_PHYS + APIC_TPR;
	__asm__ volatile("cld; rep stosl" : "+D"(di), "+c"(n) : "a"(0x39) : "memory");
	is(*R(APIC_TPR), 0x39, "store: rep stosl");
	is(n, 0, "... counts RCX down");
	di = APIC_PHYS + APIC_TPR;
	__asm__ volatile("std; stosl; cld" : "+D"(di) : "a"(0x3a) : "memory");
	is(di, APIC_PHYS + APIC_TPR - 4, "store: stosl backwards");
	__asm__ volatile("addr32 movl %0, 0x80(%k1)" : : "r"(0x3c), "r"(APIC_PHYS) : "memory");
	is(*R(APIC_TPR), 0x3c, "store: 32-bit address size");
	__asm__ volatile("gs movl %0, 0x80(%1)" : : "r"(0x3d), "r"(APIC_PHYS) : "memory");
	is(*R(APIC_TPR), 0x3d, "store: GS prefix, base 0");
	wrmsr(MSR_FS_BASE, APIC_PHYS);
	__asm__ volatile("fs movl %0, 0x80" : : "r"(0x3e) : "memory");
	is(*R(APIC_TPR), 0x3e, "store: FS base and disp32");
	wrmsr(MSR_FS_BASE, 0);
	*R(APIC_TPR) = 0;
}

#define LOAD(text, insn, want)                                                  \
	do {                                                                    \
		uint64_t got_ = ~0ull;                                          \
		__asm__ volatile(insn                                           \
				 : "+r"(got_)                                   \
				 : "r"(APIC_PHYS)                               \
				 : "memory", "rax", "r13", "rcx", "rsi", "cc"); \
		is(got_, want, "load: " text);                                  \
	} while (0)

static void check_load_forms(void)
{
	*R(APIC_TPR) = 0x42;
	LOAD("mov r32 clears the upper half", "movl 0x80(%1), %k0", 0x42);
	LOAD("mov r13d", "movl 0x80(%1), %%r13d; movq %%r13, %0", 0x42);
	LOAD("moffs32", "movabsl 0xfee00080, %%eax; movq %%rax, %0", 0x42);
	LOAD("lodsl", "leaq 0x80(%1), %%rsi; cld; lodsl; movl %%eax, %k0", 0x42);
	LOAD("and r32, m32", "movl 0x80(%1), %%eax; movl $0x40, %k0; andl 0x80(%1), %k0", 0x40);
	LOAD("or r32, m32", "movl $0x100, %k0; orl 0x80(%1), %k0", 0x142);
	LOAD("add r32, m32", "movl $1, %k0; addl 0x80(%1), %k0", 0x43);
	LOAD("xor r32, m32", "movl $0xff, %k0; xorl 0x80(%1), %k0", 0xbd);
	LOAD("cmp sets ZF", "cmpl $0x42, 0x80(%1); sete %b0; movzbl %b0, %k0", 1);
	LOAD("cmp r32 sets CF", "movl $0x41, %%eax; cmpl 0x80(%1), %%eax; setb %b0; movzbl %b0, %k0", 1);
	LOAD("test imm32", "testl $0x3d, 0x80(%1); setz %b0; movzbl %b0, %k0", 1);
	LOAD("test r32", "movl $2, %%eax; testl %%eax, 0x80(%1); setnz %b0; movzbl %b0, %k0", 1);

	LOAD("bt", "btl $6, 0x80(%1); setc %b0; movzbl %b0, %k0", 1);
}

#define MODIFY(text, insn, want)                                                          \
	do {                                                                              \
		*R(APIC_TPR) = 0x42;                                                      \
		__asm__ volatile(insn : : "r"(APIC_PHYS) : "memory", "rax", "rcx", "cc"); \
		is(*R(APIC_TPR), want, "modify: " text);                                  \
	} while (0)

static void check_modify_forms(void)
{
	uint64_t v = 0x51;

	*R(APIC_TPR) = 0x42;
	__asm__ volatile("xchgl %k0, 0x80(%1)" : "+r"(v) : "r"(APIC_PHYS) : "memory");
	is(v, 0x42, "xchg gives the old value");
	is(*R(APIC_TPR), 0x51, "xchg stores the new one");
	MODIFY("or imm8", "orl $0x11, 0x80(%0)", 0x53);
	MODIFY("or imm32", "orl $0x91, 0x80(%0)", 0xd3);
	MODIFY("and imm8 sign-extended", "andl $-3, 0x80(%0)", 0x40);
	MODIFY("and r32", "movl $0x0f, %%eax; andl %%eax, 0x80(%0)", 0x02);
	MODIFY("or r32", "movl $0x0f, %%eax; orl %%eax, 0x80(%0)", 0x4f);
	MODIFY("xor r32", "movl $0xff, %%eax; xorl %%eax, 0x80(%0)", 0xbd);
	MODIFY("add imm8", "addl $1, 0x80(%0)", 0x43);
	MODIFY("sub imm8", "subl $2, 0x80(%0)", 0x40);
	MODIFY("inc", "incl 0x80(%0)", 0x43);
	MODIFY("dec", "decl 0x80(%0)", 0x41);
	MODIFY("not and mask", "notl 0x80(%0)", 0xbd);
	MODIFY("bts", "btsl $4, 0x80(%0)", 0x52);
	MODIFY("btr", "btrl $6, 0x80(%0)", 0x02);
	MODIFY("adc", "stc; adcl $1, 0x80(%0)", 0x44);
	MODIFY("sbb", "stc; sbbl $1, 0x80(%0)", 0x40);
	MODIFY("xadd", "movl $8, %%eax; xaddl %%eax, 0x80(%0)", 0x4a);
	MODIFY("cmpxchg, equal", "movl $0x42, %%eax; movl $0x24, %%ecx; cmpxchgl %%ecx, 0x80(%0)", 0x24);
	MODIFY("cmpxchg, different", "movl $0x41, %%eax; movl $0x24, %%ecx; cmpxchgl %%ecx, 0x80(%0)", 0x42);
	MODIFY("lock or", "lock orl $0x11, 0x80(%0)", 0x53);
	*R(APIC_TPR) = 0;
}

static void check_paths(void)
{
	uint64_t va = 0x40000000, *pte;
	uint32_t before = vector_count[0][0x51];

	/* The page mapped a second time, elsewhere: it is the physical address that counts. */
	pte = paging_pte(va);
	*pte = APIC_PHYS | PTE_W | PTE_P;
	flush_page(va);
	*(volatile uint32_t *)(va + APIC_TPR) = 0x27;
	is(*R(APIC_TPR), 0x27, "through another virtual address");
	*R(APIC_TPR) = 0;
	/* The instruction itself across a page border. */
	{
		uint64_t code = alloc_memory(2 * PAGE, PAGE);

		uint8_t *p = (uint8_t *)(code + PAGE - 5);

		p[0] = 0xc7;
		p[1] = 0x87; /* movl $imm32, disp32(%rdi) */
		p[2] = 0x80;
		p[3] = p[4] = p[5] = 0;
		p[6] = 0x31;
		p[7] = p[8] = p[9] = 0;
		p[10] = 0xc3;
		((void (*)(uint64_t))p)(APIC_PHYS);
		is(*R(APIC_TPR), 0x31, "an instruction across a page border");
		*R(APIC_TPR) = 0;
	}
	irq_on();
	*R(APIC_ICR) = ICR_SELF | ICR_ASSERT | 0x51;
	ok(wait_for(&vector_count[0][0x51], before + 1, 1000000), "self IPI through the page");
	irq_off();
	is(*R(APIC_ICR) & 0xcffff, ICR_SELF | ICR_ASSERT | 0x51, "ICR low reads back");
	is(*R(APIC_ISR + 0x20), 0, "ISR is empty after EOI");
}

static void check_errors(void)
{
	uint32_t before = vector_count[0][0x45];

	if (!on_trivet()) {
		note("QEMU's APIC delivers illegal vectors");
		return;
	}
	*R(APIC_LVT_ERROR) = 0x45;
	*R(APIC_ESR) = 0;
	irq_on();
	*R(APIC_ICR) = ICR_SELF | ICR_ASSERT | 5; /* illegal vector */
	if (wait_for(&vector_count[0][0x45], before + 1, 2000)) {
		*R(APIC_ESR) = 0;
		ok(*R(APIC_ESR) & 0x60, "an illegal vector shows in ESR");
	} else {
		ok(false, "an illegal vector raises the error interrupt");
	}
	irq_off();
	is(vector_count[0][5], 0, "vector 5 is not delivered");
	*R(APIC_LVT_ERROR) = LVT_MASKED;
	*R(APIC_ESR) = 0;
}

/* IRR, ISR and priorities: a vector waits for TPR, and for the one in service. */
static uint32_t order[4], order_len;

static void log_order(struct trap_frame *f)
{
	if (order_len < ARRAY_LEN(order))
		order[order_len++] = (uint32_t)f->vector;
	if (f->vector == 0x61) {
		ok(apic_bit(APIC_ISR, 0x61), "ISR bit while in service");
		apic_write(APIC_ICR, ICR_SELF | ICR_ASSERT | 0x52);
		__asm__ volatile("sti; nop; nop; cli" : : : "memory");
		is(order_len, 1, "a lower class waits while 0x61 is in service");
		is(apic_read(APIC_PPR), 0x60, "PPR is the class in service");
		apic_write(APIC_ICR, ICR_SELF | ICR_ASSERT | 0x71);
		__asm__ volatile("sti; nop; nop; cli" : : : "memory");
		is(order_len, 2, "a higher class nests");
	}
	apic_write(APIC_EOI, 0);
}

static void check_priorities(void)
{
	trap_handlers[0x52] = trap_handlers[0x61] = trap_handlers[0x71] = log_order;
	*R(APIC_TPR) = 0x70;
	*R(APIC_ICR) = ICR_SELF | ICR_ASSERT | 0x61;
	irq_on();
	delay_us(200);
	is(order_len, 0, "TPR holds vector 0x61 back");
	ok(apic_bit(APIC_IRR, 0x61), "IRR shows it");
	*R(APIC_TPR) = 0;
	for (int i = 0; i < 1000 && order_len < 3; i++)
		delay_us(100);
	irq_off();
	ok(order_len == 3 && order[0] == 0x61 && order[1] == 0x71 && order[2] == 0x52,
	   "order 61 71 52 (%x %x %x)", order[0], order[1], order[2]);
	ok(!apic_bit(APIC_ISR, 0x61) && !apic_bit(APIC_IRR, 0x52), "all done");
	/* The same with CR8, which is no memory access. */
	write_cr8(7);
	*R(APIC_ICR) = ICR_SELF | ICR_ASSERT | 0x53;
	irq_on();
	delay_us(200);
	is(vector_count[0][0x53], 0, "CR8 holds vector 0x53 back");
	write_cr8(0);
	ok(wait_for(&vector_count[0][0x53], 1, 1000000), "... and lets it go");
	irq_off();
}

void test_main(void)
{
	if (x2apic_on)
		skip_all("the firmware left the APIC in x2APIC mode");
	check_registers();
	check_lvts();
	check_software_disable();
	check_store_forms();
	check_more_store_forms();
	check_load_forms();
	check_modify_forms();
	check_paths();
	check_errors();
	check_priorities();
}
