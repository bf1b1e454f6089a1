/* SPDX-License-Identifier: MIT */
/*
 * A child whose monitor moves it into another partition (mshv-guest -s), when it asks and at any moment: nothing that it can see may
 * change by that but the time, which goes on where it stood.
 */
#include "lib/hv.h"
#include "lib/vector.h"
#include <hv/synic.h>
#include <hv/time.h>

/* tests/vmm/machine.h */
#define SAVE_PORT 0xe8u
#define NOBODY 0xffffffffu /* what is read where no monitor moves */

#define MOVES 12u   /* at any moment */
#define MS 10000ull /* units of 100 ns */
#define SOON_MS 20ull
#define BETWEEN_TICKS 15000u /* of the timer, by 16: less than a move takes */
#define LATE_MS 2000ull	     /* far more than it takes on a busy host, and the end of a test that fails */
#define NMI 2u
#define VECTOR_HELD 0x51u
#define VECTOR_INNER 0x61u
#define VECTOR_TIMER 0x71u
#define VECTOR_STIMER 0x81u
#define VECTOR_SINT 0x91u
#define SINT 4u
#define OTHER_SINT 6u
#define CONFIG(t) (HV_MSR_STIMER0_CONFIG + 2 * (t))
#define COUNT(t) (HV_MSR_STIMER0_COUNT + 2 * (t))
#define DIRECT(t) (HV_STIMER_DIRECT | (uint64_t)(VECTOR_STIMER + (t)) << HV_STIMER_VECTOR_SHIFT)
#define KIND_OUT 6u /* of regs_run() */

extern HIDDEN uint64_t regs_in[17], regs_out[17];
void regs_run(unsigned int kind) HIDDEN;

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, FLAGS = 16, REGS };

static volatile bool moved_in_handler;

static uint32_t moves(void)
{
	return inl(SAVE_PORT);
}

static void move(void)
{
	outl(SAVE_PORT, 0);
}

static uint64_t time_100ns(void)
{
	return rdmsr(HV_MSR_TIME_REF_COUNT);
}

/* Interrupts are taken until `vector` came `count` times since; true: so often, and no more. */
static bool await(uint8_t vector, uint32_t since, uint32_t count)
{
	uint64_t end = time_100ns() + LATE_MS * MS;

	irq_on();
	while (vector_count[0][vector] - since < count && time_100ns() < end)
		cpu_pause();
	irq_off();
	return vector_count[0][vector] - since == count;
}

static void on_interrupt(struct trap_frame *f)
{
	(void)f;
	apic_write(APIC_EOI, 0);
}

/* ---- Registers ---- */

static uint8_t state_before[STATE_BYTES] __attribute__((aligned(64)));
static uint8_t state_after[STATE_BYTES] __attribute__((aligned(64)));
static unsigned int different_bytes(const uint8_t *a, const uint8_t *b, unsigned int count)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < count; i++) {
		if (a[i] != b[i] && n < 4)
			note("byte %u: %x, then %x", i, a[i], b[i]);
		n += a[i] != b[i];
	}
	return n;
}

static void general_registers(void)
{
	unsigned int bad = 0;

	for (unsigned int i = 0; i < FLAGS; i++)
		regs_in[i] = pattern(i);
	regs_in[RAX] = 0;
	regs_in[RDX] = SAVE_PORT;
	regs_in[FLAGS] = 0xcd7; /* all of the arithmetic ones, DF */
	state_fill(state_before);
	regs_run(KIND_OUT);
	state_store(state_after);
	for (unsigned int i = 0; i < REGS; i++)
		bad += regs_out[i] != regs_in[i];
	is(bad, 0, "general registers, stack pointer and flags");
	is(different_bytes(state_before, state_after, STATE_BYTES), 0, "x87 and vector registers, XCR0 %llx",
	   (unsigned long long)xcr0);
}

static const struct {
	uint32_t msr;
	uint64_t value; /* 0: as it is */
} msrs[] = {
	{ 0x174, 0x1234 },
	{ 0x175, 0xffff800012345670 },
	{ 0x176, 0xffff800076543210 },
	{ MSR_STAR, 0x0023001000000000 },
	{ MSR_LSTAR, 0xffffffff81000000 },
	{ MSR_CSTAR, 0xffffffff82000000 },
	{ MSR_SFMASK, 0x47700 },
	{ MSR_FS_BASE, 0x00007fff12345000 },
	{ MSR_GS_BASE, 0xffff888000000000 },
	{ MSR_KERNEL_GS_BASE, 0x00007ffe00000000 },
	{ MSR_PAT, 0x0407010600070106 },
	{ MSR_EFER, 0 },
	{ MSR_APIC_BASE, 0 },
	{ 0x2ff, 0xc06 },
	{ 0x200, 0x80000006 },
	{ 0x201, 0xf80000800 },
	{ 0x250, 0x0606060606060606 },
	{ 0x26f, 0x0505050505050505 },
	{ HV_MSR_GUEST_OS_ID, 0 },
	{ HV_MSR_HYPERCALL, 0 },
	{ HV_MSR_REFERENCE_TSC, 0 },
	{ HV_MSR_VP_ASSIST_PAGE, 0 },
	{ HV_MSR_SIMP, 0 },
	{ HV_MSR_SIEFP, 0 },
	{ HV_MSR_SCONTROL, 0 },
};

#define DR(n, value) __asm__ volatile("mov %0, %%dr" #n : : "r"(value))
#define IS_DR(n, value)                                             \
	do {                                                        \
		uint64_t got;                                       \
		__asm__ volatile("mov %%dr" #n ", %0" : "=r"(got)); \
		bad += got != (value);                              \
	} while (0)

static void other_registers(void)
{
	uint64_t before[ARRAY_LEN(msrs)], cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4();
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(msrs); i++) {
		if (msrs[i].value)
			wrmsr(msrs[i].msr, msrs[i].value);
		before[i] = rdmsr(msrs[i].msr);
	}
	DR(0, 0x1111ull);
	DR(1, 0xffff800000002222ull);
	DR(3, 0x3333ull);
	DR(7, 0x700ull); /* none is enabled */
	__asm__ volatile("mov %0, %%cr2" : : "r"(0xdeadbeef000ull));
	move();
	IS_DR(0, 0x1111ull);
	IS_DR(1, 0xffff800000002222ull);
	IS_DR(3, 0x3333ull);
	IS_DR(7, 0x700ull);
	is(bad, 0, "debug registers");
	ok(read_cr0() == cr0 && read_cr2() == 0xdeadbeef000ull && read_cr3() == cr3 && read_cr4() == cr4,
	   "control registers");
	bad = 0;
	for (unsigned int i = 0; i < ARRAY_LEN(msrs); i++) {
		uint64_t after = rdmsr(msrs[i].msr);

		if (after != before[i])
			note("MSR %x: %llx, then %llx", msrs[i].msr, (unsigned long long)before[i],
			     (unsigned long long)after);
		bad += after != before[i];
	}
	is(bad, 0, "%u MSRs", (unsigned int)ARRAY_LEN(msrs));
}

/* ---- The local APIC ---- */

static const uint32_t apic_registers[] = {
	APIC_ID,	   APIC_VERSION,    APIC_TPR,	     APIC_PPR,	       APIC_LDR,
	APIC_SVR,	   APIC_ESR,	    APIC_LVT_TIMER,  APIC_LVT_THERMAL, APIC_LVT_PERF,
	APIC_LVT_LINT0,	   APIC_LVT_LINT1,  APIC_LVT_ERROR,  APIC_ICR,	       APIC_TIMER_INITIAL,
	APIC_TIMER_DIVIDE, APIC_ISR + 0x20, APIC_ISR + 0x30, APIC_IRR + 0x20,  APIC_IRR + 0x30,
	APIC_TMR + 0x20,
};

static unsigned int apic_changes(void)
{
	uint32_t before[ARRAY_LEN(apic_registers)];
	unsigned int bad = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(apic_registers); i++)
		before[i] = apic_read(apic_registers[i]);
	move();
	for (unsigned int i = 0; i < ARRAY_LEN(apic_registers); i++) {
		uint32_t after = apic_read(apic_registers[i]);

		if (after != before[i])
			note("APIC register %x: %x, then %x", apic_registers[i], before[i], after);
		bad += after != before[i];
	}
	return bad;
}

static void on_inner(struct trap_frame *f)
{
	(void)f;
	moved_in_handler = apic_changes() == 0 && apic_bit(APIC_ISR, VECTOR_INNER);
	apic_write(APIC_EOI, 0);
}

static void apic_state(const char *mode)
{
	uint32_t held = vector_count[0][VECTOR_HELD], inner = vector_count[0][VECTOR_INNER];

	apic_write(APIC_LVT_LINT0, 0x8700);
	apic_write(APIC_LVT_LINT1, 0x400);
	apic_write(APIC_LVT_ERROR, 0x52);
	apic_write(APIC_TPR, 0x20);
	apic_icr(apic_id(), ICR_ASSERT | VECTOR_HELD);
	is(apic_changes(), 0, "%s: registers of the local APIC", mode);
	ok(apic_bit(APIC_IRR, VECTOR_HELD) && await(VECTOR_HELD, held, 1),
	   "%s: an interrupt that waited comes, once", mode);
	moved_in_handler = false;
	apic_icr(apic_id(), ICR_ASSERT | VECTOR_INNER);
	ok(await(VECTOR_INNER, inner, 1) && moved_in_handler && !apic_bit(APIC_ISR, VECTOR_INNER),
	   "%s: in the middle of a handler", mode);
	apic_write(APIC_LVT_LINT0, LVT_MASKED);
	apic_write(APIC_LVT_LINT1, LVT_MASKED);
	apic_write(APIC_LVT_ERROR, LVT_MASKED);
	apic_write(APIC_TPR, 0);
}

static void apic_timer(const char *mode)
{
	uint32_t since = vector_count[0][VECTOR_TIMER], before, after;

	apic_write(APIC_TIMER_DIVIDE, 0x3); /* by 16 */
	apic_write(APIC_LVT_TIMER, VECTOR_TIMER);
	do {
		apic_write(APIC_TIMER_INITIAL, 10000000);
		before = apic_read(APIC_TIMER_CURRENT);
	} while (!before);
	move();
	after = apic_read(APIC_TIMER_CURRENT);
	ok(after <= before && (after || apic_bit(APIC_IRR, VECTOR_TIMER)),
	   "%s: the timer goes on: %u, then %u", mode, before, after);
	ok(await(VECTOR_TIMER, since, 1), "%s: ... and expires", mode);
	move();
	irq_on();
	delay_us(2000);
	irq_off();
	ok(vector_count[0][VECTOR_TIMER] - since == 1 && !apic_read(APIC_TIMER_CURRENT), "%s: ... once",
	   mode);
	since++;
	apic_write(APIC_TIMER_INITIAL, BETWEEN_TICKS);
	move();
	ok(await(VECTOR_TIMER, since, 1), "%s: one that ends meanwhile expires too", mode);
}

static void apic_deadline(void)
{
	uint32_t since = vector_count[0][VECTOR_TIMER];
	uint64_t deadline;

	if (!(cpuid(1, 0).ecx >> 24 & 1)) {
		skip("the timer's deadline", "not here");
		return;
	}
	apic_write(APIC_LVT_TIMER, LVT_DEADLINE | VECTOR_TIMER);
	deadline = rdtsc() + SOON_MS * tsc_khz;
	wrmsr(MSR_TSC_DEADLINE, deadline);
	move();
	ok(await(VECTOR_TIMER, since, 1) && rdtsc() >= deadline, "the timer's deadline, not early");
	since++;
	wrmsr(MSR_TSC_DEADLINE, rdtsc() + tsc_khz / 4);
	move();
	ok(await(VECTOR_TIMER, since, 1), "... and one that is there meanwhile");
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
}

static volatile uint32_t nmi_depth, nmi_deepest;
static volatile bool nmi_moves;

static void on_nmi(struct trap_frame *f)
{
	(void)f;
	if (++nmi_depth > nmi_deepest)
		nmi_deepest = nmi_depth;
	if (nmi_moves) {
		nmi_moves = false;
		move();
		apic_icr(apic_id(), ICR_NMI | ICR_ASSERT);
	}
	nmi_depth--;
}

static void nmi(void)
{
	uint32_t since = vector_count[0][NMI];

	trap_handlers[NMI] = on_nmi;
	nmi_moves = true;
	apic_icr(apic_id(), ICR_NMI | ICR_ASSERT);
	ok(wait_for(&vector_count[0][NMI], since + 2, LATE_MS * 1000) && nmi_deepest == 1,
	   "in an NMI's handler, whose IRET the next one waits for");
	move();
	is(vector_count[0][NMI] - since, 2, "... and no more");
}

/* ---- The hypervisor's interface ---- */

static volatile struct hv_message *slot(unsigned int sint)
{
	return &((volatile struct hv_message_page *)(rdmsr(HV_MSR_SIMP) & ~0xfffull))->slot[sint];
}

static volatile uint64_t *events(unsigned int sint)
{
	return ((volatile struct hv_event_flags_page *)(rdmsr(HV_MSR_SIEFP) & ~0xfffull))->sint[sint].flags64;
}

static void interface_on(void)
{
	static const uint32_t pages[] = { HV_MSR_REFERENCE_TSC, HV_MSR_SIMP, HV_MSR_SIEFP };

	for (unsigned int i = 0; i < ARRAY_LEN(pages); i++)
		wrmsr(pages[i], rdmsr(pages[i]) | HV_PAGE_MSR_ENABLE);
	wrmsr(HV_MSR_SCONTROL, HV_SCONTROL_ENABLE);
	wrmsr(HV_MSR_SINT0 + SINT, VECTOR_SINT);
}

static void synic(void)
{
	volatile struct hv_message *busy = slot(OTHER_SINT);

	busy->type = 0x123;
	busy->payload.qwords[29] = pattern(29);
	events(OTHER_SINT)[31] = pattern(31);
	wrmsr(HV_MSR_SINT0 + OTHER_SINT, HV_SINT_MASKED | VECTOR_SINT);
	move();
	ok(busy->type == 0x123 && busy->payload.qwords[29] == pattern(29) &&
		   events(OTHER_SINT)[31] == pattern(31),
	   "message and event pages");
	is(rdmsr(HV_MSR_SINT0 + OTHER_SINT), HV_SINT_MASKED | VECTOR_SINT, "a SINT");
	busy->type = 0;
	wrmsr(HV_MSR_EOM, 0);
	is(hv_call_by_page(0x3fff | HV_CONTROL_FAST, 0, 0) & HV_RESULT_STATUS_MASK,
	   HV_STATUS_INVALID_HYPERCALL_CODE, "the hypercall page");
}

/* One that is told by message to a slot that is full, one that is periodic, one that expires afterwards. */
static void timers(void)
{
	const uint64_t once = HV_STIMER_ENABLE | (uint64_t)SINT << HV_STIMER_SINT_SHIFT;
	uint32_t periods, due_since = vector_count[0][VECTOR_STIMER + 2],
			  sints = vector_count[0][VECTOR_SINT];
	const struct hv_timer_message *payload = (void *)&slot(SINT)->payload;
	uint64_t waited = time_100ns(), due;

	slot(SINT)->type = 0x77;
	wrmsr(COUNT(1), waited);
	wrmsr(CONFIG(1), once);
	wrmsr(COUNT(0), 2 * MS);
	wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_PERIODIC | HV_STIMER_ENABLE);
	due = time_100ns() + SOON_MS * MS;
	wrmsr(COUNT(2), due);
	wrmsr(CONFIG(2), DIRECT(2) | HV_STIMER_ENABLE);
	move();
	ok(slot(SINT)->type == 0x77 && (slot(SINT)->flags & HV_MESSAGE_FLAG_PENDING),
	   "a message waits for its slot");
	slot(SINT)->type = 0;
	wrmsr(HV_MSR_EOM, 0);
	ok(await(VECTOR_SINT, sints, 1) && slot(SINT)->type == HV_MESSAGE_TIMER_EXPIRED &&
		   payload->timer_index == 1 && payload->expiration_time_100ns == waited,
	   "... and comes then");
	slot(SINT)->type = 0;
	ok(await(VECTOR_STIMER + 2, due_since, 1) && time_100ns() >= due,
	   "a synthetic timer expires, not early");
	periods = vector_count[0][VECTOR_STIMER];
	await(VECTOR_STIMER, periods, 3);
	ok(vector_count[0][VECTOR_STIMER] - periods >= 3, "... and one has its periods still");
	wrmsr(CONFIG(0), 0);
}

/* ---- Time ---- */

static uint64_t time_by_page(void)
{
	volatile struct hv_reference_tsc_page *page = (void *)(rdmsr(HV_MSR_REFERENCE_TSC) & ~0xfffull);
	uint32_t sequence;
	uint64_t time;

	do {
		sequence = page->sequence;
		time = (uint64_t)((unsigned __int128)rdtsc() * page->scale >> 64) +
		       (uint64_t)page->offset_100ns;
	} while (page->sequence != sequence);
	return sequence ? time : 0;
}

static void time_goes_on(const char *when)
{
	uint64_t tsc = rdtsc(), time = time_100ns(), page = time_by_page(), before, between, after;
	unsigned int bad = 0;

	move();
	ok(rdtsc() > tsc && time_100ns() >= time && time_by_page() >= page, "%s: no clock goes back", when);
	for (unsigned int i = 0; i < 50; i++) {
		before = time_100ns();
		between = time_by_page();
		after = time_100ns();
		bad += between < before || between > after;
	}
	is(bad, 0, "%s: counter and page of the reference time agree", when);
}

/* ---- At any moment ---- */

/* Of all registers that the compiler has, and some vector registers; with interrupts, and some sleep. */
static uint64_t compute(void)
{
	uint64_t sum = 1, vector;

	__asm__ volatile("movq %0, %%xmm5; punpcklqdq %%xmm5, %%xmm5; pxor %%xmm6, %%xmm6"
			 :
			 : "r"(pattern(5)));
	for (unsigned int i = 0; i < 40000; i++) {
		sum = (sum ^ sum >> 31) * 6364136223846793005ull + i;
		__asm__ volatile("paddq %xmm5, %xmm6; pshufd $0x4b, %xmm6, %xmm6");
		if (i % 10000 == 0)
			__asm__ volatile("sti; hlt; cli" : : : "memory");
	}
	__asm__ volatile("movq %%xmm6, %0" : "=r"(vector));
	return sum ^ vector;
}

static void at_any_moment(uint32_t count)
{
	uint32_t start = moves(), ticks = vector_count[0][VECTOR_TIMER], bad = 0, rounds = 0;
	uint64_t want, last = time_100ns();

	wrmsr(COUNT(0), MS);
	wrmsr(CONFIG(0), DIRECT(0) | HV_STIMER_PERIODIC | HV_STIMER_ENABLE);
	apic_write(APIC_LVT_TIMER, LVT_PERIODIC | VECTOR_TIMER);
	apic_write(APIC_TIMER_INITIAL, rdmsr(HV_MSR_APIC_FREQUENCY) / 16 / 2000); /* half a millisecond */
	want = compute();
	outl(SAVE_PORT, count);
	irq_on();
	for (; moves() - start < count; rounds++) {
		uint64_t now;

		bad += compute() != want;
		now = time_100ns();
		bad += now < last;
		last = now;
	}
	irq_off();
	ticks = vector_count[0][VECTOR_TIMER] - ticks;
	ok(!bad && rounds, "%u computations, interrupted and moved %u times: all the same", rounds,
	   moves() - start);
	ok(ticks >= rounds && apic_read(APIC_TIMER_CURRENT),
	   "... with %u interrupts of a timer, which runs still", ticks);
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	wrmsr(CONFIG(0), 0);
}

/* ---- Another processor ---- */

static volatile uint64_t others_tsc;
static volatile uint32_t others_turns, turn_wanted, went_back;
static volatile bool others_end;

/* Answers each of processor 0's turns with its TSC, which must lie between what that one sees before and after. */
static void answer_turns(unsigned int cpu)
{
	uint64_t last = 0;

	(void)cpu;
	while (!others_end) {
		uint64_t now = rdtsc();

		went_back += now < last;
		last = now;
		if (others_turns == turn_wanted)
			continue;
		others_tsc = rdtsc();
		barrier();
		others_turns = turn_wanted;
	}
}

static uint32_t turns(uint32_t count)
{
	uint32_t bad = 0;

	for (uint32_t i = 0; i < count; i++) {
		uint64_t before = rdtsc();

		turn_wanted = others_turns + 1;
		if (!wait_for(&others_turns, turn_wanted, LATE_MS * 1000))
			return ~0u;
		bad += others_tsc < before || others_tsc > rdtsc();
	}
	return bad;
}

static void another_processor(void)
{
	uint32_t start, bad = 0;

	move();
	ap_prepare(low_memory);
	if (!ok(ap_start(1, low_memory, answer_turns), "a processor that waited to be started"))
		return;
	is(turns(100), 0, "... has the same TSC");
	move();
	is(turns(100), 0, "... and still, and runs");
	start = moves();
	outl(SAVE_PORT, 3);
	while (moves() - start < 3)
		bad += turns(10);
	is(bad, 0, "... at any moment");
	is(went_back, 0, "... and never goes back");
	others_end = true;
	ok(ap_wait_done(1, LATE_MS * 1000), "... until it ends");
	move();
	ok(ap_start(1, low_memory, answer_turns) && ap_wait_done(1, LATE_MS * 1000),
	   "... and is started again");
}

static void x2apic(void)
{
	if (!(cpuid(1, 0).ecx >> 21 & 1)) {
		skip("x2APIC", "not here");
		return;
	}
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x400);
	x2apic_on = true;
	apic_state("x2APIC");
	apic_timer("x2APIC");
}

void test_main(void)
{
	static const uint8_t vectors[] = { VECTOR_HELD,	      VECTOR_TIMER,	 VECTOR_STIMER,
					   VECTOR_STIMER + 1, VECTOR_STIMER + 2, VECTOR_SINT };

	if (!in_child || moves() == NOBODY)
		skip_all("nobody here moves guests");
	hv_open();
	apic_init();
	for (unsigned int i = 0; i < ARRAY_LEN(vectors); i++)
		trap_handlers[vectors[i]] = on_interrupt;
	trap_handlers[VECTOR_INNER] = on_inner;
	state_on();
	interface_on();
	time_goes_on("when the guest is young");
	general_registers();
	other_registers();
	apic_state("xAPIC");
	apic_timer("xAPIC");
	apic_deadline();
	nmi();
	synic();
	timers();
	time_goes_on("later");
	at_any_moment(is_intel() ? 4 : 10); /* Bochs takes its time */
	if (cpu_count > 1)
		another_processor();
	x2apic();
}
