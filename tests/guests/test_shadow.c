/* SPDX-License-Identifier: MIT */
/*
 * Interrupt shadows: STI and MOV SS hold interrupts for one instruction, also when the instruction behind
 * them exits to a hypervisor; and no interrupt is lost or doubled in races of CLI, STI, POPF and HLT.
 * Interrupts are sent by self IPI; the APIC of the emulator may need a few instructions to deliver.
 * Then the same while a fast timer makes a hypervisor's exits fall everywhere, between STI and the next instruction too; and,
 * with a second processor that keeps stopping the emulator's threads, each interrupt must still come once.
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

static void wait_for_irr(uint8_t vector)
{
	for (int i = 0; i < 1000 && !apic_bit(APIC_IRR, vector); i++)
		cpu_pause();
}

/* Pending in IRR with interrupts off, so that the next window takes it. */
static void make_pending(void)
{
	irq_off();
	apic_icr(0, ICR_SELF | ICR_ASSERT | VEC);
	wait_for_irr(VEC);
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

/* ---- Under a storm of timer interrupts ---- */

#define STORM 0x50
#define STORM_US 50u
#define STORM_MS 100u

static uint64_t shadowed; /* address at which no interrupt may come */
static uint32_t at_shadowed;
static uint64_t storm_end_tsc;

static void record_storm(struct trap_frame *f)
{
	at_shadowed += f->rip == shadowed;
	apic_write(APIC_EOI, 0);
}

static void storm_begin(void)
{
	uint32_t start, ticks;

	trap_handlers[STORM] = record_storm;
	apic_write(APIC_LVT_TIMER, LVT_MASKED | STORM);
	apic_write(APIC_TIMER_DIVIDE, 0xb);
	apic_write(APIC_TIMER_INITIAL, ~0u);
	start = apic_read(APIC_TIMER_CURRENT);
	delay_us(1000);
	ticks = start - apic_read(APIC_TIMER_CURRENT);
	apic_write(APIC_LVT_TIMER, LVT_PERIODIC | STORM);
	apic_write(APIC_TIMER_INITIAL, ticks / (1000 / STORM_US) + 1);
	at_shadowed = 0;
	storm_end_tsc = rdtsc() + STORM_MS * tsc_khz;
}

static bool storm_goes_on(void)
{
	return rdtsc() < storm_end_tsc;
}

static void storm_end(void)
{
	apic_write(APIC_TIMER_INITIAL, 0);
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	irq_on();
	__asm__ volatile("nop; nop");
	irq_off();
}

/* The timer's vector waits all the time, and each of its expiries is a physical interrupt to a hypervisor. */
static void check_storm_masked(void)
{
	uint32_t before, rounds;

	irq_off();
	storm_begin();
	wait_for_irr(STORM);
	before = vector_count[0][STORM];
	for (rounds = 0; storm_goes_on(); rounds++)
		__asm__ volatile("sti; cli" : : : "memory");
	is(vector_count[0][STORM], before, "sti; cli with a timer running: no interrupt");
	note("%u rounds", rounds);
	storm_end();
	ok(vector_count[0][STORM] > before, "... which then comes");
}

static void check_storm_shadows(void)
{
	uint32_t before = vector_count[0][STORM];

	storm_begin();
	while (storm_goes_on())
		__asm__ volatile("leaq 1f(%%rip), %%rax\n\tmovq %%rax, %0\n\tsti\n1:\tnop\n\tnop\n\tcli"
				 : "=m"(shadowed)
				 :
				 : "rax", "memory");
	is(at_shadowed, 0, "sti; nop; nop; cli: none of %u comes right behind the STI",
	   vector_count[0][STORM] - before);
	storm_end();
	storm_begin();
	irq_on();
	while (storm_goes_on())
		__asm__ volatile("leaq 1f(%%rip), %%rax\n\tmovq %%rax, %0\n\tmovl %%ss, %%eax\n\t"
				 "movl %%eax, %%ss\n1:\tnop"
				 : "=m"(shadowed)
				 :
				 : "rax", "memory");
	is(at_shadowed, 0, "mov ss; nop: nor behind the MOV");
	irq_off();
	storm_end();
	ok(vector_count[0][STORM] > before + 2, "... %u interrupts came", vector_count[0][STORM] - before);
}

/* ---- While another processor disturbs ---- */

#define ONCE 0x58
#define ONCE_ROUNDS 2000u
/* An emulator whose threads have a host processor each does ten rounds a second only, 2000 in no time when they share one. */
#define ONCE_SECONDS 10u

static volatile uint32_t disturbing; /* 1: go on, 2: stop */
static volatile uint32_t depth, nested;

/* A locked access that isn't aligned makes an emulator stop all its processors' threads. */
static void disturb(unsigned int cpu)
{
	static uint8_t bytes[16] __attribute__((aligned(64)));

	(void)cpu;
	disturbing = 1;
	while (disturbing == 1)
		__asm__ volatile("lock incq %0" : "+m"(*(uint64_t *)(bytes + 1)) : : "memory");
}

/* Without PAUSE, which would be a break for the emulator. */
static void spin_us(uint64_t us)
{
	uint64_t start = rdtsc();

	while (rdtsc() - start < us * tsc_khz / 1000)
		;
}

static void record_once(struct trap_frame *f)
{
	(void)f;
	nested += depth++;
	spin_us(5);
	depth--;
	apic_write(APIC_EOI, 0);
}

static void check_once(void)
{
	uint32_t n, before = vector_count[0][ONCE];
	uint64_t start;

	if (cpu_count < 2) {
		skip("each interrupt once while another processor disturbs", "one processor");
		return;
	}
	trap_handlers[ONCE] = record_once;
	ap_prepare(low_memory);
	ok(ap_start(1, low_memory, disturb) && wait_for(&disturbing, 1, 1000000),
	   "another processor disturbs");
	irq_on();
	start = rdtsc();
	for (n = 0; n < ONCE_ROUNDS && rdtsc() - start < ONCE_SECONDS * 1000 * tsc_khz;) {
		apic_icr(0, ICR_SELF | ICR_ASSERT | ONCE);
		n++;
		if (!wait_for(&vector_count[0][ONCE], before + n, 1000000) || nested)
			break;
	}
	irq_off();
	disturbing = 2;
	is(vector_count[0][ONCE] - before, n, "%u interrupts, each once", n);
	is(nested, 0, "none within its own handler");
	ok(ap_wait_done(1, 1000000), "the other processor ends");
}

void test_main(void)
{
	trap_handlers[VEC] = record;
	check_sti();
	check_sti_cli();
	check_mov_ss();
	check_hlt_races();
	check_many();
	check_storm_masked();
	check_storm_shadows();
	check_once();
}
