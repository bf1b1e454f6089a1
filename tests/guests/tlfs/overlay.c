/* SPDX-License-Identifier: MIT */
/* TLFS "GPA Overlay Pages": pages of the hypervisor's over RAM, moved about, and what lay beneath them. */
#include "tlfs.h"
#include <hv/time.h>

static const struct {
	uint32_t msr;
	const char *name;
	bool writable;
} kinds[] = {
	{ HV_MSR_HYPERCALL, "hypercall page", false },
	{ HV_MSR_REFERENCE_TSC, "reference TSC page", false },
	{ HV_MSR_VP_ASSIST_PAGE, "VP assist page", true },
	{ HV_MSR_SIEFP, "SIEF page", true },
	{ HV_MSR_SIMP, "SIM page", true },
	{ HV_MSR_SIRBP, "SIRB page", true },
};

static uint8_t *ram[2];

static void fill(uint8_t *page, uint8_t mark)
{
	for (unsigned int i = 0; i < PAGE; i++)
		page[i] = (uint8_t)(mark + i);
}

static bool intact(const uint8_t *page, uint8_t mark)
{
	for (unsigned int i = 0; i < PAGE; i++)
		if (((const volatile uint8_t *)page)[i] != (uint8_t)(mark + i))
			return false;
	return true;
}

static void each(unsigned int kind)
{
	uint32_t msr = kinds[kind].msr;
	uint64_t old, home;

	if (msr == HV_MSR_SIRBP && in_child && read_faults(msr))
		return; /* for who has children */
	old = rdmsr(msr);
	home = old & ~0xfffull;
	fill(ram[0], 0x10);
	fill(ram[1], 0x20);
	wrmsr(msr, (uint64_t)ram[0] | 1);
	ok(rdmsr(msr) == ((uint64_t)ram[0] | 1) && !intact(ram[0], 0x10),
	   "GPA Overlay Pages: the %s covers RAM", kinds[kind].name);
	if (kinds[kind].writable) {
		ram[0][0x800] = 0xee;
		is(((volatile uint8_t *)ram[0])[0x800], 0xee, "... it can be written");
	}
	is(try_load(home), BENEATH, "... and isn't where it was");
	wrmsr(msr, (uint64_t)ram[1] | 1);
	ok(intact(ram[0], 0x10), "... moved on, the RAM beneath is what it was");
	ok(!intact(ram[1], 0x20), "... the other page is covered");
	if (kinds[kind].writable)
		is(((volatile uint8_t *)ram[1])[0x800], 0xee, "... by the same page");
	wrmsr(msr, (uint64_t)ram[1]);
	ok(intact(ram[1], 0x20), "... disabled, its RAM is back");
	wrmsr(msr, home | 1);
	is(try_load(home), NO_FAULT, "... and it can go home");
	if (kinds[kind].writable)
		((volatile uint8_t *)home)[0x800] = 0;
	wrmsr(msr, old);
}

/* Which of the two is seen isn't said; that both go and leave the RAM is. */
static void on_each_other(void)
{
	uint64_t simp = rdmsr(HV_MSR_SIMP), siefp = rdmsr(HV_MSR_SIEFP);

	fill(ram[0], 0x30);
	wrmsr(HV_MSR_SIMP, (uint64_t)ram[0] | 1);
	wrmsr(HV_MSR_SIEFP, (uint64_t)ram[0] | 1);
	ok(!intact(ram[0], 0x30), "GPA Overlay Pages: two on one page");
	wrmsr(HV_MSR_SIMP, simp);
	ok(!intact(ram[0], 0x30), "... the first goes, the second covers it still");
	wrmsr(HV_MSR_SIMP, (uint64_t)ram[0] | 1);
	wrmsr(HV_MSR_SIMP, simp);
	ok(!intact(ram[0], 0x30), "... the last comes and goes, the other is still there");
	wrmsr(HV_MSR_SIEFP, siefp);
	ok(intact(ram[0], 0x30), "... without both, the RAM is what it was");
}

static void used_elsewhere(void)
{
	uint64_t old = rdmsr(HV_MSR_HYPERCALL);
	uint64_t (*call)(void) = (uint64_t(*)(void))ram[0];
	register uint64_t control __asm__("rcx") = 0x7fff;
	uint64_t result;

	fill(ram[0], 0x40);
	wrmsr(HV_MSR_HYPERCALL, (uint64_t)ram[0] | 1);
	__asm__ volatile("callq *%2" : "=a"(result), "+r"(control) : "r"(call) : "rdx", "r8", "memory", "cc");
	is(result, HV_STATUS_INVALID_HYPERCALL_CODE,
	   "Establishing the Hypercall Interface: calls through a page that was moved");
	is(try_store((uint64_t)ram[0] + 8), GP, "... which can't be written there either");
	/* A parameter page may be beneath an overlay: the call reads what the guest sees, or is refused, but never what lies below. */
	wrmsr(HV_MSR_HYPERCALL, old);
	ok(intact(ram[0], 0x40), "... and beneath it nothing was");
}

void tlfs_overlay(void)
{
	ram[0] = (uint8_t *)alloc_memory(PAGE, PAGE);
	ram[1] = (uint8_t *)alloc_memory(PAGE, PAGE);
	for (unsigned int i = 0; i < ARRAY_LEN(kinds); i++)
		each(i);
	on_each_other();
	used_elsewhere();
}

/* ---- XSA-472: the partition's pages, moved by two VPs at once ---- */

#define MOVES 100u

static void move_about(unsigned int cpu)
{
	static const uint32_t msrs[] = { HV_MSR_REFERENCE_TSC, HV_MSR_HYPERCALL };

	for (unsigned int i = 0; i < MOVES; i++) {
		uint32_t msr = msrs[i / 2 % 2];

		wrmsr(msr, (uint64_t)ram[(i + (cpu != 0)) % 2] | (i % 5 != 0));
	}
}

void tlfs_overlay_race(void)
{
	uint64_t tsc_page = rdmsr(HV_MSR_REFERENCE_TSC), call_page = rdmsr(HV_MSR_HYPERCALL);
	unsigned int last = cpu_count - 1;

	ram[0] = (uint8_t *)alloc_memory(PAGE, PAGE);
	ram[1] = (uint8_t *)alloc_memory(PAGE, PAGE);
	fill(ram[0], 0x50);
	fill(ram[1], 0x60);
	begin_on(last, move_about);
	move_about(0);
	ok(end_on(last), "XSA-472: two VPs move the reference TSC page and the hypercall page %u times each",
	   MOVES);
	wrmsr(HV_MSR_REFERENCE_TSC, tsc_page & ~1ull);
	wrmsr(HV_MSR_HYPERCALL, call_page & ~1ull);
	ok(intact(ram[0], 0x50) && intact(ram[1], 0x60), "... and leave the RAM beneath what it was");
	wrmsr(HV_MSR_REFERENCE_TSC, tsc_page | 1);
	wrmsr(HV_MSR_HYPERCALL, call_page | 1);
	ok(((volatile struct hv_reference_tsc_page *)(tsc_page & ~0xfffull))->scale != 0,
	   "... the TSC page is whole");
	IS_STATUS(hv_call_by_page(0x7fff, 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE,
		  "... the hypercall page works");
	wrmsr(HV_MSR_REFERENCE_TSC, tsc_page);
}
