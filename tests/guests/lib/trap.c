/* SPDX-License-Identifier: MIT */
/*
 * GDT, IDT, TSS of each processor, the dispatcher of exceptions and interrupts, and the means to try an
 * instruction that may fault.
 */
#include "guest.h"

extern HIDDEN const uint8_t isr_table[256][16];
void load_segments(const struct table_register *gdtr, uint16_t tss) HIDDEN;
void trap_dispatch(struct trap_frame *f) HIDDEN;

uint64_t try_resume;
struct fault last_fault;
trap_handler trap_handlers[256];
struct idt_gate idt[256] __attribute__((aligned(4096)));
volatile uint32_t vector_count[MAX_CPUS][256];

static uint64_t gdt[8 + 2 * MAX_CPUS] __attribute__((aligned(16)));
static struct tss64 tss[MAX_CPUS];
static uint8_t ist_stack[MAX_CPUS][2][4096] __attribute__((aligned(16)));

void set_gate(struct idt_gate *g, uint64_t handler, uint8_t ist, uint8_t type)
{
	g->offset_lo = (uint16_t)handler;
	g->offset_mid = (uint16_t)(handler >> 16);
	g->offset_hi = (uint32_t)(handler >> 32);
	g->selector = SEL_CODE64;
	g->ist = ist;
	g->type = type;
	g->zero = 0;
}

void load_idt(const void *base, uint16_t limit)
{
	struct table_register r = { limit, (uint64_t)base };

	__asm__ volatile("lidt %0" : : "m"(r) : "memory");
}

struct tss64 *tss_of(unsigned int cpu)
{
	return &tss[cpu];
}

void set_ist(unsigned int cpu, unsigned int ist, uint64_t rsp)
{
	tss[cpu].ist[(ist - 1) * 2] = (uint32_t)rsp;
	tss[cpu].ist[(ist - 1) * 2 + 1] = (uint32_t)(rsp >> 32);
}

unsigned int cpu_index(void)
{
	uint16_t sel;

	__asm__ volatile("str %0" : "=r"(sel));
	return sel < SEL_TSS0 ? 0 : (unsigned int)(sel - SEL_TSS0) / 16;
}

void trap_init_cpu(unsigned int cpu)
{
	uint64_t base = (uint64_t)&tss[cpu];
	struct table_register r = { sizeof(gdt) - 1, (uint64_t)gdt };

	gdt[1] = 0x00af9b000000ffffull;
	gdt[2] = 0x00cf93000000ffffull;
	gdt[3] = 0x00cf9b000000ffffull;
	gdt[8 + 2 * cpu] = (sizeof(struct tss64) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
			   (base >> 24 & 0xff) << 56;
	gdt[9 + 2 * cpu] = base >> 32;
	tss[cpu].iomap = sizeof(struct tss64);
	set_ist(cpu, 1, (uint64_t)ist_stack[cpu][0] + sizeof(ist_stack[cpu][0]));
	set_ist(cpu, 2, (uint64_t)ist_stack[cpu][1] + sizeof(ist_stack[cpu][1]));
	load_segments(&r, (uint16_t)(SEL_TSS0 + 16 * cpu));
	if (cpu == 0) {
		for (unsigned int v = 0; v < 256; v++)
			set_gate(&idt[v], (uint64_t)isr_table[v], v == 8 ? 1 : v == 2 ? 2 : 0, 0x8e);
	}
	load_idt(idt, sizeof(idt) - 1);
}

static bool in_service(uint8_t vector)
{
	return apic_bit(APIC_ISR, vector);
}

void trap_dispatch(struct trap_frame *f)
{
	unsigned int cpu = cpu_index();
	uint8_t v = (uint8_t)f->vector;

	vector_count[cpu][v]++;
	if (trap_handlers[v]) {
		trap_handlers[v](f);
		return;
	}
	if (v < 32 && v != 2) {
		if (try_resume) {
			last_fault = (struct fault){ v, f->error, f->rip, read_cr2() };
			f->rip = try_resume;
			return;
		}
		bail_out("cpu %u: exception %u error %llx rip %llx cr2 %llx rsp %llx", cpu, v,
			 (unsigned long long)f->error, (unsigned long long)f->rip,
			 (unsigned long long)read_cr2(), (unsigned long long)f->rsp);
	}
	if (v >= 32 && in_service(v))
		apic_write(APIC_EOI, 0);
}

uint32_t try_rdmsr(uint32_t msr, uint64_t *v)
{
	uint32_t lo = 0, hi = 0;

	__asm__ volatile(TRY("rdmsr") : "+a"(lo), "+d"(hi) : "c"(msr) : "r11", "memory");
	*v = ((uint64_t)hi << 32) | lo;
	return last_fault.vector;
}

uint32_t try_wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile(TRY("wrmsr")
			 :
			 : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32))
			 : "r11", "memory");
	return last_fault.vector;
}

#define TRY_CR(n) __asm__ volatile(TRY("movq %0, %%cr" #n) : : "r"(v) : "r11", "memory")

uint32_t try_write_cr(unsigned int cr, uint64_t v)
{
	switch (cr) {
	case 0:
		TRY_CR(0);
		break;
	case 3:
		TRY_CR(3);
		break;
	case 4:
		TRY_CR(4);
		break;
	default:
		TRY_CR(8);
		break;
	}
	return last_fault.vector;
}
