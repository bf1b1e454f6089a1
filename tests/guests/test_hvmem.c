/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's own memory is not there for the root: every touch is a fault in the root and a line in
 * the hypervisor's log, and the machine goes on. It shows in the memory map as a reserved block of at least
 * 8 MiB, aligned to 2 MiB, between the RAM.
 */
#include "lib/guest.h"

#define SMALLEST (8ull << 20)
#define ALIGNED (2ull << 20)

static uint64_t hv_base, hv_size;

static uint64_t end_of_ram(void)
{
	uint64_t end = 0;

	for (unsigned int i = 0; i < memory_map_len; i++) {
		const struct memory_range *r = &memory_map[i];

		if (r->type == MEMORY_CONVENTIONAL && r->base + r->size > end && r->base < 1ull << 32)
			end = r->base + r->size;
	}
	return end;
}

/* Neighbouring reserved ranges count as one; the firmware's map need not be sorted or merged. */
static void find_block(void)
{
	uint64_t ram_end = end_of_ram();

	for (unsigned int i = 0; i < memory_map_len; i++) {
		const struct memory_range *r = &memory_map[i];

		if (r->type != MEMORY_RESERVED || r->base & (ALIGNED - 1) || r->size < SMALLEST ||
		    r->base >= ram_end)
			continue;
		hv_base = r->base;
		hv_size = r->size;
		note("reserved %llx-%llx", (unsigned long long)hv_base,
		     (unsigned long long)(hv_base + hv_size));
	}
}

static bool faulted(void)
{
	return last_fault.vector == 13 || last_fault.vector == 14;
}

static bool read_at(uint64_t a)
{
	uint64_t v = 0;

	__asm__ volatile(TRY("movb (%1), %b0") : "+r"(v) : "r"(a) : "r11", "memory");
	return faulted();
}

static bool write_at(uint64_t a)
{
	__asm__ volatile(TRY("movq $0, (%0)") : : "r"(a) : "r11", "memory");
	return faulted();
}

static void check_touches(void)
{
	uint32_t bad = 0, n = 0;

	for (uint64_t off = 0; off < hv_size; off += 64 * PAGE) {
		bad += !read_at(hv_base + off);
		bad += !write_at(hv_base + off + 8);
		n++;
	}
	is(bad, 0, "%u pages of it: reads and writes fault", n);
	ok(read_at(hv_base + hv_size - 1), "its last byte faults");
	ok(write_at(hv_base), "a write to its first byte faults");
	__asm__ volatile(TRY("lock incl (%0)") : : "r"(hv_base) : "r11", "memory");
	ok(faulted(), "a locked access faults");
	/* The fault may come before or after the return address was pushed. */
	__asm__ volatile("movq %%rsp, %%rbx\n\t" TRY("call *%0") "movq %%rbx, %%rsp"
			 :
			 : "r"(hv_base)
			 : "r11", "rbx", "memory");
	ok(faulted(), "executing it faults");
}

static void check_string(void)
{
	uint64_t di = hv_base - 64, n = 128;

	/* Runs up to the border, then faults there with the registers in between. */
	if (hv_base < 64)
		return;
	__asm__ volatile("cld\n\t" TRY("rep lodsb") : "+S"(di), "+c"(n) : : "r11", "rax", "memory");
	ok(faulted(), "REP LODSB into it faults");
	is(di, hv_base, "... at the border");
	is(n, 64, "... with the rest of the count");
}

/* Page tables that point into it: the fault is in the table walk. */
static void check_walk(void)
{
	uint64_t va = 0x50000000, *pde = &page_pd[va >> 30][va >> 21 & 511], old = *pde;

	*pde = hv_base | PTE_W | PTE_P;
	write_cr3(read_cr3());
	ok(read_at(va), "a page table inside it: the access faults");
	*pde = old;
	write_cr3(read_cr3());
}

static void check_goes_on(void)
{
	volatile uint32_t *below = (volatile uint32_t *)(hv_base - PAGE);

	ok(cpuid(0, 0).ebx != 0, "CPUID works");
	irq_on();
	apic_icr(0, ICR_SELF | ICR_ASSERT | 0x40);
	ok(wait_for(&vector_count[0][0x40], 1, 1000000), "interrupts work");
	irq_off();
	(void)*below;
	ok(true, "the page below can be read");
}

void test_main(void)
{
	if (in_child)
		skip_all("a child's memory is what its parent maps: test_isolation");
	find_block();
	if (!under_trivet) {
		is(hv_size, 0, "bare: no such block");
		return;
	}
	if (!ok(hv_size != 0, "the memory map has a reserved block for the hypervisor"))
		return;
	is(try_rdmsr(MSR_EFER, &(uint64_t){ 0 }), NO_FAULT, "(trying works)");
	check_touches();
	check_string();
	check_walk();
	check_goes_on();
}
