/* SPDX-License-Identifier: MIT */
/*
 * Starting other processors: the blob of ap.asm, its parameters, and INIT-SIPI-SIPI (SDM3 9.4.4).
 */
#include "guest.h"

#define REC 0x800u
#define PARAM 0xc00u

struct ap_param {
	uint16_t gdt_limit;
	uint8_t gdt_base[8];
	uint8_t pad0[6];
	uint32_t jmp_offset;
	uint16_t jmp_selector;
	uint16_t pad1;
	uint64_t cr3;
	uint64_t func;
	uint64_t stack;
	uint64_t cpu;
	uint64_t pad2;
	uint64_t gdt[5];
};
_Static_assert(offsetof(struct ap_param, gdt) == 0x40, "ap_param as in ap.asm");
_Static_assert(offsetof(struct ap_record, stage) == 0x90, "ap_record as in ap.asm");
_Static_assert(offsetof(struct ap_record, gdt_limit) == 0x70, "ap_record as in ap.asm");

extern HIDDEN const uint8_t ap_blob[], ap_blob_end[], ap_blob_64[];

static uint8_t ap_stack[MAX_CPUS][16384] __attribute__((aligned(16)));
static void (*ap_function[MAX_CPUS])(unsigned int cpu);
static volatile uint32_t ap_done[MAX_CPUS];

struct ap_record *ap_record_at(uint64_t page)
{
	return (struct ap_record *)(page + REC);
}

static void ap_main(unsigned int cpu, struct ap_record *rec)
{
	trap_init_cpu(cpu);
	apic_init();
	rec->stage = 4;
	ap_function[cpu](cpu);
	barrier();
	ap_done[cpu] = 1;
}

void ap_prepare(uint64_t page)
{
	struct ap_param *p = (struct ap_param *)(page + PARAM);
	uint64_t gdt = page + PARAM + offsetof(struct ap_param, gdt);
	uint64_t base = (page & 0xffffff) << 16;

	memset((void *)page, 0, PAGE);
	memcpy((void *)page, ap_blob, (size_t)(ap_blob_end - ap_blob));
	p->gdt[1] = 0x00cf9b000000ffffull | base;
	p->gdt[2] = 0x00cf93000000ffffull | base;
	p->gdt[3] = 0x00cf93000000ffffull;
	p->gdt[4] = 0x00af9b000000ffffull;
	p->gdt_limit = sizeof(p->gdt) - 1;
	memcpy(p->gdt_base, &gdt, 8);
	p->jmp_offset = (uint32_t)(page + (uint64_t)(ap_blob_64 - ap_blob));
	p->jmp_selector = 0x20;
	p->cr3 = (uint64_t)page_pml4;
	p->func = (uint64_t)ap_main;
}

bool ap_start(unsigned int cpu, uint64_t page, void (*fn)(unsigned int cpu))
{
	struct ap_param *p = (struct ap_param *)(page + PARAM);
	volatile struct ap_record *rec = ap_record_at(page);

	p->stack = (uint64_t)ap_stack[cpu] + sizeof(ap_stack[cpu]);
	p->cpu = cpu;
	ap_function[cpu] = fn;
	ap_done[cpu] = 0;
	for (size_t i = 0; i < sizeof(*rec); i++)
		((volatile uint8_t *)rec)[i] = 0xa5;
	rec->stage = 0;
	apic_icr(cpu_apic_id[cpu], ICR_INIT | ICR_ASSERT | ICR_LEVEL);
	delay_us(200);
	apic_icr(cpu_apic_id[cpu], ICR_INIT | ICR_LEVEL);
	delay_us(200);
	/* One only: QEMU may keep a second, which finds the processor running, until the next INIT and start it by that. */
	apic_icr(cpu_apic_id[cpu], ICR_STARTUP | (uint32_t)(page >> 12));
	if (wait_for(&rec->stage, 1, 6000000) && wait_for(&rec->stage, 4, 3000000))
		return true;
	note("processor %u was started and is at stage %u", cpu, rec->stage);
	return false;
}

bool ap_wait_done(unsigned int cpu, uint64_t us)
{
	return wait_for(&ap_done[cpu], 1, us);
}

static void idle(unsigned int cpu)
{
	(void)cpu;
	for (;;)
		__asm__ volatile("sti; hlt; cli" : : : "memory");
}

bool ap_start_all_idle(void)
{
	ap_prepare(low_memory);
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		if (!ap_start(cpu, low_memory, idle))
			return false;
	return true;
}
