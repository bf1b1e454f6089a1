/* SPDX-License-Identifier: MIT */
/*
 * Code that changes under the hypervisor's eyes: an exit's instruction must be decoded from what is in memory
 * now, at this physical address, never from what was there at the last exit.
 */
#include "lib/guest.h"

static uint8_t *code;

struct out {
	uint64_t rax, rbx, rcx, rdx, rsi;
};

static void run(const void *at, struct out *o)
{
	__asm__ volatile("call *%5"
			 : "+a"(o->rax), "+b"(o->rbx), "+c"(o->rcx), "+d"(o->rdx), "+S"(o->rsi)
			 : "r"(at)
			 : "r8", "r9", "r10", "r11", "memory");
}

/* Behind the CPUID: mov $imm, %esi; ret. */
static void put_tail(uint8_t *p, uint32_t imm)
{
	p[0] = 0xbe;
	memcpy(p + 1, &imm, 4);
	p[5] = 0xc3;
}

static void check_behind(void)
{
	uint32_t good = 0;

	code[0] = 0x0f;
	code[1] = 0xa2;
	for (uint32_t i = 0; i < 500; i++) {
		struct out o = { 0, 0, 0, 0, 0 };

		put_tail(code + 2, i * 0x01010101u);
		run(code, &o);
		good += o.rsi == i * 0x01010101u && o.rbx == cpuid(0, 0).ebx;
	}
	is(good, 500, "the instruction behind a CPUID changes 500 times");
}

static void check_prefixes(void)
{
	static const uint8_t prefix[] = { 0x66, 0x67, 0x2e, 0x3e, 0x64, 0xf2, 0xf3, 0x48, 0x40 };
	uint32_t good = 0;

	for (uint32_t i = 0; i < 300; i++) {
		uint32_t n = i % 5;
		struct out o = { 0x80000000, 0, 0, 0, 0 };

		for (uint32_t k = 0; k < n; k++)
			code[k] = prefix[(i + k) % (k + 1 == n ? 9 : 7)];
		code[n] = 0x0f;
		code[n + 1] = 0xa2;
		put_tail(code + n + 2, i);
		run(code, &o);
		good += o.rsi == i && o.rax == cpuid(0x80000000, 0).eax;
	}
	is(good, 300, "a CPUID that grows and shrinks by prefixes, 300 times");
}

static void check_replaced(void)
{
	uint32_t good = 0;
	uint64_t efer = rdmsr(MSR_EFER);

	for (uint32_t i = 0; i < 300; i++) {
		struct out o = { 0, 0, MSR_EFER, 0, 0 };

		code[0] = i % 3 == 2 ? 0x66 : 0x0f;
		code[1] = i % 3 == 0 ? 0xa2 : i % 3 == 1 ? 0x32 : 0x90;
		put_tail(code + 2, i);
		run(code, &o);
		if (i % 3 == 0)
			good += o.rbx == cpuid(0, 0).ebx;
		else if (i % 3 == 1)
			good += o.rax == efer && o.rcx == MSR_EFER;
		else
			good += o.rax == 0 && o.rcx == MSR_EFER;
	}
	is(good, 300, "CPUID, RDMSR and NOP at one address, 300 times");
}

/* movl with another register, direction, displacement length at the same address. */
static void check_apic_access(void)
{
	static const struct {
		uint8_t len, bytes[10];
	} form[] = {
		{ 2, { 0x8b, 0x03 } },			    /* mov (%rbx), %eax */
		{ 2, { 0x8b, 0x0b } },			    /* mov (%rbx), %ecx */
		{ 3, { 0x8b, 0x53, 0x00 } },		    /* mov 0(%rbx), %edx */
		{ 6, { 0x8b, 0x8b, 0, 0, 0, 0 } },	    /* mov disp32(%rbx), %ecx */
		{ 2, { 0x89, 0x13 } },			    /* mov %edx, (%rbx) */
		{ 6, { 0xc7, 0x03, 0x20, 0, 0, 0 } },	    /* movl $0x20, (%rbx) */
		{ 7, { 0xc7, 0x43, 0x00, 0x30, 0, 0, 0 } }, /* movl $0x30, 0(%rbx) */
	};
	uint32_t good = 0;

	for (uint32_t i = 0; i < 350; i++) {
		uint32_t f = i % ARRAY_LEN(form), tpr;
		struct out o = { 1, APIC_PHYS + APIC_TPR, 2, 0x10, 3 };

		apic_write(APIC_TPR, 0x40);
		memcpy(code, form[f].bytes, form[f].len);
		put_tail(code + form[f].len, i);
		run(code, &o);
		tpr = apic_read(APIC_TPR);
		good += o.rsi == i && o.rax == (f == 0 ? 0x40 : 1) &&
			o.rcx == (f == 1 || f == 3 ? 0x40 : 2) && o.rdx == (f == 2 ? 0x40 : 0x10) &&
			tpr == (f < 4 ? 0x40 : (f - 3) * 0x10);
	}
	apic_write(APIC_TPR, 0);
	is(good, 350, "an APIC access that changes form 350 times");
}

/* One virtual address, two physical pages in turn. */
static void check_remapped(void)
{
	uint64_t a = (uint64_t)code, b = alloc_memory(PAGE, PAGE), va = 0x40000000, *pte = paging_pte(va);
	uint32_t good = 0;

	code[0] = 0x0f;
	code[1] = 0xa2;
	put_tail(code + 2, 0xaaaa);
	memcpy((void *)b, "\x66\x67\x0f\xa2", 4);
	put_tail((uint8_t *)b + 4, 0xbbbb);
	for (uint32_t i = 0; i < 200; i++) {
		struct out o = { 0, 0, 0, 0, 0 };

		*pte = (i & 1 ? b : a) | PTE_W | PTE_P;
		flush_page(va);
		run((void *)va, &o);
		good += o.rsi == (i & 1 ? 0xbbbb : 0xaaaa) && o.rbx == cpuid(0, 0).ebx;
	}
	is(good, 200, "a virtual address remapped under a CPUID, 200 times");
	/* Written through one mapping, run through the other. */
	good = 0;
	for (uint32_t i = 0; i < 200; i++) {
		struct out o = { 0, 0, 0, 0, 0 };

		*pte = a | PTE_W | PTE_P;
		flush_page(va);
		put_tail((uint8_t *)va + 2, i);
		run(code, &o);
		good += o.rsi == i;
	}
	is(good, 200, "code written through another mapping, 200 times");
}

/* The CPUID's two bytes in two pages, and its prefix too. */
static void check_across_pages(void)
{
	uint8_t *two = (uint8_t *)alloc_memory(2 * PAGE, PAGE);
	uint32_t good = 0;

	for (uint32_t i = 0; i < 6; i++) {
		struct out o = { 0, 0, 0, 0, 0 };
		uint8_t *p = two + PAGE - i;

		memcpy(p, "\x66\x67\xf2\x0f\xa2", 5);
		put_tail(p + 5, i);
		run(p, &o);
		good += o.rsi == i && o.rbx == cpuid(0, 0).ebx;
	}
	is(good, 6, "a CPUID across a page border, every split");
}

void test_main(void)
{
	code = (uint8_t *)alloc_memory(PAGE, PAGE);
	check_behind();
	check_prefixes();
	check_replaced();
	check_apic_access();
	check_remapped();
	check_across_pages();
}
