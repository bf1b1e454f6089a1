/* SPDX-License-Identifier: MIT */
/* What the chapters share: parameter pages, counting interrupts, accesses that may fault, work for other processors. */
#include "tlfs.h"
#include <hv/synic.h>

bool child_lacks(uint64_t privileges, const char *chapter)
{
	if (!in_child || !(privileges & ~hv_privileges()))
		return false;
	skip(chapter, "this child hasn't the privilege");
	return true;
}

void *fresh_input(void)
{
	memset(hv_in, 0, PAGE);
	memset(hv_out, 0, PAGE);
	return hv_in;
}

uint64_t call_with(uint16_t code, const uint64_t *words, unsigned int count)
{
	memcpy(fresh_input(), words, count * 8);
	return hv_simple(code);
}

void take_interrupts(void)
{
	__asm__ volatile("sti; nop; nop; cli" : : : "memory");
}

uint32_t came(uint8_t vector)
{
	static uint32_t seen[MAX_CPUS][256];
	unsigned int cpu = cpu_index();
	uint32_t count, before = seen[cpu][vector];

	take_interrupts();
	count = vector_count[cpu][vector];
	seen[cpu][vector] = count;
	return count - before;
}

uint64_t time_100ns(void)
{
	return rdmsr(HV_MSR_TIME_REF_COUNT);
}

void wait_until_100ns(uint64_t t)
{
	while (time_100ns() < t)
		cpu_pause();
}

bool read_faults(uint32_t msr)
{
	uint64_t value;

	return try_rdmsr(msr, &value) == GP;
}

bool write_faults(uint32_t msr, uint64_t value)
{
	return try_wrmsr(msr, value) == GP;
}

uint32_t try_load(uint64_t address)
{
	uint8_t value;

	__asm__ volatile(TRY("movb (%1), %0") : "=q"(value) : "r"(address) : "r11", "memory");
	return last_fault.vector;
}

uint32_t try_store(uint64_t address)
{
	__asm__ volatile(TRY("movb $0x5a, (%0)") : : "r"(address) : "r11", "memory");
	return last_fault.vector;
}

void synic_on(void)
{
	hv_page(HV_MSR_SIMP); /* a child's other VPs have none yet */
	hv_page(HV_MSR_SIEFP);
	wrmsr(HV_MSR_SIMP, rdmsr(HV_MSR_SIMP) | HV_PAGE_MSR_ENABLE);
	wrmsr(HV_MSR_SIEFP, rdmsr(HV_MSR_SIEFP) | HV_PAGE_MSR_ENABLE);
	wrmsr(HV_MSR_SCONTROL, HV_SCONTROL_ENABLE);
}

void synic_off(void)
{
	for (unsigned int i = 0; i < HV_SINT_COUNT; i++)
		wrmsr(HV_MSR_SINT0 + i, HV_SINT_RESET_VALUE);
	wrmsr(HV_MSR_SCONTROL, 0);
	wrmsr(HV_MSR_SIMP, rdmsr(HV_MSR_SIMP) & ~HV_PAGE_MSR_ENABLE);
	wrmsr(HV_MSR_SIEFP, rdmsr(HV_MSR_SIEFP) & ~HV_PAGE_MSR_ENABLE);
}

volatile struct hv_message *message_slot(unsigned int sint)
{
	return &((volatile struct hv_message_page *)(rdmsr(HV_MSR_SIMP) & ~0xfffull))->slot[sint];
}

volatile union hv_event_flags *event_flags(unsigned int sint)
{
	return &((volatile struct hv_event_flags_page *)(rdmsr(HV_MSR_SIEFP) & ~0xfffull))->sint[sint];
}

/* ---- Other processors: each takes interrupts and waits for a function in its word ---- */

#define WAKE 0x6fu

static void (*volatile work[MAX_CPUS])(unsigned int cpu);

static volatile bool sleepy;

static void wait_for_work(unsigned int cpu)
{
	for (;;) {
		while (!work[cpu]) {
			if (!sleepy)
				take_interrupts();
			else if (!work[cpu])
				__asm__ volatile("sti; hlt; cli"
						 :
						 :
						 : "memory"); /* WAKE can't come before HLT */
			cpu_pause();
		}
		work[cpu](cpu);
		barrier();
		work[cpu] = NULL;
	}
}

void let_others_sleep(void)
{
	sleepy = true;
}

bool start_others(void)
{
	ap_prepare(low_memory);
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		if (!ap_start(cpu, low_memory, wait_for_work))
			return false;
	return true;
}

void begin_on(unsigned int cpu, void (*fn)(unsigned int cpu))
{
	work[cpu] = fn;
	if (sleepy)
		apic_icr(cpu_apic_id[cpu], ICR_ASSERT | WAKE);
}

bool end_on(unsigned int cpu)
{
	uint64_t start = rdtsc();

	while (work[cpu]) {
		if (rdtsc() - start > 5000000ull * tsc_khz / 1000)
			return false;
		cpu_pause();
	}
	return true;
}

bool run_on(unsigned int cpu, void (*fn)(unsigned int cpu))
{
	begin_on(cpu, fn);
	return end_on(cpu);
}
