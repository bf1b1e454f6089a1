/* SPDX-License-Identifier: MIT */
/*
 * INIT and SIPI: every AP is started 100 times, from two pages in turn, and must come up as the
 * architecture says an INIT leaves it (APM2 14.1.3 table 14-1, SDM3 table 10-1).
 */
#include "lib/guest.h"

#define STARTS 100u
#define US 5000000ull

/* Where the start-up code reads through DS with base 0; not a constant, so the compiler takes it. */
static volatile uint32_t *volatile probe = (volatile uint32_t *)0x600;

static volatile uint32_t ran[MAX_CPUS];

static void count(unsigned int cpu)
{
	ran[cpu]++;
}

static uint32_t gdt_base(const struct ap_record *r)
{
	return r->gdt_base_lo | (uint32_t)r->gdt_base_hi << 16;
}

static uint32_t idt_base(const struct ap_record *r)
{
	return r->idt_base_lo | (uint32_t)r->idt_base_hi << 16;
}

/* One description of the first thing wrong, 0 when all is right. */
static const char *wrong(const struct ap_record *r, unsigned int cpu, uint64_t page)
{
	if ((uint16_t)r->cs != page >> 4 || r->ip)
		return "CS:IP is not the SIPI vector";
	if ((uint16_t)(r->ds | r->es | r->fs | r->gs | r->ss))
		return "a data segment is not 0";
	if ((r->cr0 & 0x8000003fu) != 0x10u)
		return "CR0";
	if (r->cr2 || r->cr3 || r->cr4)
		return "CR2, CR3 or CR4 is not 0";
	if (r->efer_lo || r->efer_hi)
		return "EFER is not 0";
	if (r->flags != 2)
		return "EFLAGS";
	if (r->eax || r->ebx || r->ecx || r->esi || r->edi || r->ebp || r->esp)
		return "a general register is not 0";
	/* Bochs leaves 0 there. */
	if (r->edx != cpuid(1, 0).eax && !(bare_bochs && r->edx == 0))
		return "EDX is not the processor's signature";
	if (r->dr6 != 0xffff0ff0 || r->dr7 != 0x400)
		return "DR6 or DR7";
	if (r->gdt_limit != 0xffff || gdt_base(r) || r->idt_limit != 0xffff || idt_base(r))
		return "GDTR or IDTR";
	if ((r->apic_base_lo & ~0x400u) != (APIC_PHYS | 0x800) || r->apic_base_hi)
		return "APIC_BASE (no BSP bit, enabled)";
	if (r->ds_base_probe != *probe)
		return "DS base is not 0";
	if (r->cpuid1_ebx >> 24 != (cpu_apic_id[cpu] & 0xff))
		return "CPUID in real mode gives another APIC id";
	if (r->pm_cpuid1_eax != cpuid(1, 0).eax)
		return "CPUID in protected mode";
	if (r->pm_apic_version != apic_read(APIC_VERSION))
		return "APIC page in protected mode";
	if (r->pm_efer)
		return "EFER in protected mode";
	if (r->pm_eax_pattern != 0xfeed0001)
		return "EBP did not survive";
	return NULL;
}

static void show(const struct ap_record *r)
{
	note("stage %u cs:ip %04x:%x eax %x ebx %x ecx %x edx %x esi %x edi %x ebp %x esp %x flags %x",
	     r->stage, (uint16_t)r->cs, r->ip, r->eax, r->ebx, r->ecx, r->edx, r->esi, r->edi, r->ebp, r->esp,
	     r->flags);
	note("cr0 %x cr2 %x cr3 %x cr4 %x dr6 %x dr7 %x efer %x_%08x apic_base %x gdt %x/%x idt %x/%x",
	     r->cr0, r->cr2, r->cr3, r->cr4, r->dr6, r->dr7, r->efer_hi, r->efer_lo, r->apic_base_lo,
	     gdt_base(r), r->gdt_limit, idt_base(r), r->idt_limit);
}

static void start_often(unsigned int cpu)
{
	uint32_t started = 0;
	const char *bad = NULL;

	for (uint32_t i = 0; i < STARTS && !bad; i++) {
		uint64_t page = low_memory + (i & 1 ? 5 : 0) * PAGE;

		if (!ap_start(cpu, page, count) || !ap_wait_done(cpu, US)) {
			bad = "did not start";
			show(ap_record_at(page));
			break;
		}
		bad = wrong(ap_record_at(page), cpu, page);
		if (bad)
			show(ap_record_at(page));
		else
			started++;
	}
	ok(started == STARTS, "processor %u: %u starts of %u right%s%s", cpu, started, STARTS,
	   bad ? ": " : "", bad ? bad : "");
	is(ran[cpu], started, "processor %u ran the function each time", cpu);
}

/* A SIPI to a processor that is not waiting for one changes nothing. */
static volatile uint32_t busy_go, busy_up;

static void busy(unsigned int cpu)
{
	busy_up = 1;
	while (!busy_go)
		cpu_pause();
	ran[cpu]++;
}

static void check_stray_sipi(void)
{
	uint32_t before;

	ok(ap_start(1, low_memory, busy), "processor 1 starts");
	wait_for(&busy_up, 1, US);
	before = ran[1];
	ap_record_at(low_memory + 5 * PAGE)->stage = 0;
	apic_icr(cpu_apic_id[1], ICR_STARTUP | (uint32_t)((low_memory >> 12) + 5));
	delay_us(20000);
	is(((volatile struct ap_record *)ap_record_at(low_memory + 5 * PAGE))->stage, 0,
	   "a SIPI without INIT is ignored");
	busy_go = 1;
	ok(ap_wait_done(1, US), "... and the processor goes on");
	is(ran[1], before + 1, "... where it was");
}

/* INIT while the processor runs with interrupts off stops it: no SIPI, no more progress. */
static volatile uint32_t ticks;

static void tick(unsigned int cpu)
{
	(void)cpu;
	for (;;)
		ticks++;
}

/* An emulator's thread for that processor may not run for a while on a busy host. */
static void check_init_stops(void)
{
	uint32_t a;

	ok(ap_start(1, low_memory, tick), "processor 1 counts");
	a = ticks;
	for (int i = 0; i < 50 && ticks == a; i++)
		delay_us(20000);
	ok(ticks != a, "... it does");
	apic_icr(cpu_apic_id[1], ICR_INIT | ICR_ASSERT | ICR_LEVEL);
	for (int i = 0, still = 0; i < 50 && still < 5; i++) {
		a = ticks;
		delay_us(20000);
		still = ticks == a ? still + 1 : 0;
	}
	is(ticks, a, "INIT stops it");
	/* Bochs keeps the NMI until the start-up code runs without an IDT. */
	if (!bare_bochs)
		apic_icr(cpu_apic_id[1], ICR_NMI | ICR_ASSERT);
	delay_us(5000);
	is(ticks, a, "an NMI does not wake it");
	ok(ap_start(1, low_memory, count) && ap_wait_done(1, US), "... INIT and SIPI do");
}

/* All at once, by the broadcast that firmware and systems use. */
static void check_all_at_once(void)
{
	uint32_t sum;

	apic_icr(0, ICR_OTHERS | ICR_INIT | ICR_ASSERT | ICR_LEVEL);
	delay_us(10000);
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		ok(ap_start(cpu, low_memory, count) && ap_wait_done(cpu, US),
		   "after INIT to all: processor %u", cpu);
	sum = 0;
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		sum += ran[cpu];
	ok(sum >= (cpu_count - 1) * (STARTS + 1), "all ran");
}

void test_main(void)
{
	if (!low_memory)
		skip_all("no memory below 640 KiB");
	if (cpu_count < 2)
		skip_all("only one processor");
	*probe = 0x5eed1234;
	ap_prepare(low_memory);
	ap_prepare(low_memory + 5 * PAGE);
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		start_often(cpu);
	check_stray_sipi();
	check_init_stops();
	check_all_at_once();
}
