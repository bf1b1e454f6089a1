/* SPDX-License-Identifier: MIT */
/*
 * Interrupt shadows: STI and MOV SS hold interrupts for one instruction, also when the instruction behind
 * them exits to a hypervisor; and no interrupt is lost or doubled in races of CLI, STI, POPF and HLT.
 * Interrupts are sent by self IPI; the APIC of the emulator may need a few instructions to deliver.
 */
#include "lib/guest.h"

#define VEC 0x40

static uint64_t hit_rip, hlt_address;
static uint32_t early;

static void record(struct trap_frame *f)
{
	hit_rip = f->rip;
	/* Between STI and HLT: wrong, and the HLT would now sleep for ever. */
	if (f->rip == hlt_address) {
		early++;
		f->rip++;
	}
	apic_write(APIC_EOI, 0);
}

/* Pending in IRR with interrupts off, so that the next window takes it. */
static void make_pending(void)
{
	irq_off();
	apic_icr(0, ICR_SELF | ICR_ASSERT | VEC);
	for (int i = 0; i < 1000 && !apic_bit(APIC_IRR, VEC); i++)
		cpu_pause();
	hit_rip = 0;
}

/* `body` has labels 1: and 2:; the interrupt must come at an address in (1, 2]. */
#define TAKEN(text, body)                                                                   \
	do {                                                                                \
		uint64_t lo_, hi_;                                                          \
		uint32_t before_ = vector_count[0][VEC];                                    \
		make_pending();                                                             \
		__asm__ volatile("leaq 1f(%%rip), %0\n\tleaq 2f(%%rip), %1\n\t" body        \
				 : "=&r"(lo_), "=&r"(hi_)                                   \
				 :                                                          \
				 : "rax", "rbx", "rcx", "rdx", "memory", "cc");             \
		irq_off();                                                                  \
		ok(vector_count[0][VEC] == before_ + 1 && hit_rip >= lo_ && hit_rip <= hi_, \
		   text " (%u times, at %lld of 0..%lld)", vector_count[0][VEC] - before_,  \
		   (long long)(hit_rip - lo_), (long long)(hi_ - lo_));                     \
		irq_on();                                                                   \
		__asm__ volatile("nop; nop");                                               \
		irq_off();                                                                  \
	} while (0)

static void check_sti(void)
{
	TAKEN("sti; nop; cli: once, after the nop", "sti; nop; 1: cli; 2: nop");
	TAKEN("sti; cpuid; cli: once, after the CPUID",
	      "xorl %%eax, %%eax; xorl %%ecx, %%ecx; sti; cpuid; 1: cli; 2: nop");
	TAKEN("sti; rdmsr; cli: once, after the RDMSR", "movl $0x1b, %%ecx; sti; rdmsr; 1: cli; 2: nop");
	TAKEN("sti; APIC access; cli: once, after it",
	      "movl $0xfee00030, %%ebx; sti; movl (%%rbx), %%eax; 1: cli; 2: nop");
	TAKEN("sti; mov ss; nop; cli", "movl %%ss, %%eax; sti; movl %%eax, %%ss; 1: nop; nop; 2: cli");
	TAKEN("popf needs no shadow", "pushfq; orl $0x200, (%%rsp); popfq; 1: nop; 2: cli");
}

static void check_sti_cli(void)
{
	uint32_t before = vector_count[0][VEC];

	make_pending();
	__asm__ volatile("sti; cli" : : : "memory");
	/* The STI shadow covers the CLI: nothing may come. */
	is(vector_count[0][VEC], before, "sti; cli: no interrupt");
	__asm__ volatile("cli; sti; cli; sti; cli" : : : "memory");
	is(vector_count[0][VEC], before, "sti; cli twice: none");
	__asm__ volatile("sti; nop; cli" : : : "memory");
	is(vector_count[0][VEC], before + 1, "sti; nop; cli: one");
	__asm__ volatile("sti; nop; cli" : : : "memory");
	is(vector_count[0][VEC], before + 1, "... and no second one");
}

static void sti_hlt(void)
{
	uint64_t address;

	__asm__ volatile("leaq 1f(%%rip), %0\n\tmovq %0, %1\n\tsti\n1:\thlt\n\tcli"
			 : "=&r"(address), "=m"(hlt_address)
			 :
			 : "memory");
}

/* Timer and HLT race: as often as it is armed it must wake, and never come between STI and HLT. */
static void check_hlt_races(void)
{
	uint32_t n;

	apic_write(APIC_TIMER_DIVIDE, 0xb);
	apic_write(APIC_LVT_TIMER, VEC);
	for (n = 0; n < 500; n++) {
		uint32_t before = vector_count[0][VEC];

		apic_write(APIC_TIMER_INITIAL, 1 + n * 97);
		while (vector_count[0][VEC] == before)
			sti_hlt();
		if (vector_count[0][VEC] != before + 1)
			break;
	}
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	is(n, 500, "500 timer interrupts into sti; hlt, each once");
	is(early, 0, "none between STI and HLT");
	early = 0;
	for (n = 0; n < 100; n++) {
		make_pending();
		sti_hlt();
	}
	is(early, 0, "nor of 100 that were pending");
}

static void check_mov_ss(void)
{
	uint32_t before;

	make_pending();
	before = vector_count[0][VEC];
	__asm__ volatile("movl %%ss, %%eax; pushfq; orl $0x200, (%%rsp); movl $0xfee00030, %%ebx\n\t"
			 "popfq; nop; cli"
			 :
			 :
			 : "rax", "rbx", "memory", "cc");
	is(vector_count[0][VEC], before + 1, "popf; nop; cli: one");
	TAKEN("mov ss, then CPUID: after the CPUID at the latest",
	      "movl %%ss, %%ebx; xorl %%eax, %%eax; sti; movl %%ebx, %%ss; 1: cpuid; 2: cli");
}

/* Vectors in IRR and ISR at once, all delivered, highest first. */
static uint8_t seen[16];
static unsigned int seen_len;

static void record_order(struct trap_frame *f)
{
	if (seen_len < sizeof(seen))
		seen[seen_len++] = (uint8_t)f->vector;
	apic_write(APIC_EOI, 0);
}

static void check_many(void)
{
	bool sorted = true;

	for (unsigned int v = 0x60; v < 0xe0; v += 0x10) {
		trap_handlers[v] = record_order;
		apic_icr(0, ICR_SELF | ICR_ASSERT | v);
	}
	delay_us(100);
	irq_on();
	__asm__ volatile("nop; nop");
	irq_off();
	for (unsigned int i = 1; i < seen_len; i++)
		if (seen[i] >= seen[i - 1])
			sorted = false;
	is(seen_len, 8, "eight pending vectors, eight interrupts in one window");
	ok(sorted, "highest vector first");
}

void test_main(void)
{
	trap_handlers[VEC] = record;
	check_sti();
	check_sti_cli();
	check_mov_ss();
	check_hlt_races();
	check_many();
}
