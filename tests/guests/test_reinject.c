/* SPDX-License-Identifier: MIT */
/*
 * Delivery of an event that itself touches memory for the first time: IDT, handler stack and TSS in pages
 * all over the machine, so that a lazily filled second-stage table faults in the middle of a delivery and the
 * event must be injected again. Also the guest's own nested faults, which must arrive as on a bare machine.
 */
#include "lib/guest.h"

#define ROUNDS 24u

static uint64_t handler_rsp;
static struct trap_frame seen;
static uint32_t seen_count;

static void record(struct trap_frame *f)
{
	seen = *f;
	seen_count++;
	handler_rsp = (uint64_t)f;
	if (f->vector == 14)
		*paging_pte(read_cr2()) |= PTE_P;
	if (f->vector == 6)
		f->rip += 2;
	if (f->vector >= 0x40 && apic_bit(APIC_ISR, (uint8_t)f->vector))
		apic_write(APIC_EOI, 0);
}

static bool in_stack(uint64_t top)
{
	return handler_rsp < top && handler_rsp >= top - 2 * PAGE;
}

/* One place: fresh IDT at `page`, fresh stack ending in the middle of the page pair behind it. */
static void deliver_at(uint64_t block)
{
	struct idt_gate *fresh = (struct idt_gate *)block;
	uint64_t top = block + 4 * PAGE + 24; /* aligned down to 16: the frame crosses a page border */
	uint64_t victim = block + 8 * PAGE;
	uint32_t n = seen_count;
	bool good = true;

	memcpy(fresh, idt, sizeof(idt));
	for (unsigned int v = 0; v < 256; v++)
		if (v == 6 || v == 14 || v >= 0x40)
			fresh[v].ist = 3;
	set_ist(0, 3, top);
	load_idt(fresh, sizeof(idt) - 1);

	__asm__ volatile("int $0x41" : : : "memory");
	good = good && seen.vector == 0x41 && seen_count == ++n && in_stack(top);
	__asm__ volatile("ud2" : : : "memory");
	good = good && seen.vector == 6 && seen_count == ++n && in_stack(top);
	*paging_pte(victim) &= ~PTE_P;
	flush_page(victim);
	*(volatile uint32_t *)victim = 1;
	good = good && seen.vector == 14 && seen.error == 2 && seen_count == ++n;
	apic_icr(0, ICR_SELF | ICR_ASSERT | 0x42);
	irq_on();
	for (int i = 0; i < 100000 && seen_count == n; i++)
		cpu_pause();
	irq_off();
	good = good && seen.vector == 0x42 && seen_count == ++n && in_stack(top);
	apic_write(APIC_TIMER_DIVIDE, 0xb);
	apic_write(APIC_LVT_TIMER, 0x43);
	apic_write(APIC_TIMER_INITIAL, 1000);
	while (seen_count == n)
		__asm__ volatile("sti; hlt; cli" : : : "memory");
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	good = good && seen.vector == 0x43 && seen_count == ++n && in_stack(top);
	load_idt(idt, sizeof(idt) - 1);
	if (!good)
		ok(false, "events with IDT and stack at %llx (last vector %llu)", (unsigned long long)block,
		   (unsigned long long)seen.vector);
}

static void check_everywhere(void)
{
	uint32_t done = 0;

	for (uint32_t i = 0; i < ROUNDS; i++) {
		/* Each in another 2 MiB, at its end, so that the stack or the IDT meets a new large page. */
		uint64_t block = alloc_memory(4ull << 20, 2ull << 20) + (2ull << 20);

		deliver_at(block - (i % 6) * PAGE);
		done++;
	}
	is(done, ROUNDS, "INT n, #UD, #PF, IPI and timer with IDT and stack in fresh memory");
}

/*
 * A PCI device with memory behind a big BAR (QEMU's ivshmem) far above the RAM: a hypervisor that maps device
 * memory on first touch meets it in the middle of a delivery. Each case takes another 1 GiB of it.
 */
static uint32_t pci_read(uint32_t slot, uint32_t reg)
{
	outl(0xcf8, 0x80000000u | slot << 11 | reg);
	return inl(0xcfc);
}

static uint64_t device_memory(uint64_t *size)
{
	for (uint32_t slot = 0; slot < 32; slot++) {
		uint64_t base, mask;

		if (pci_read(slot, 0) != 0x11101af4)
			continue;
		base = pci_read(slot, 0x18) & ~15ull;
		base |= (uint64_t)pci_read(slot, 0x1c) << 32;
		outl(0xcfc, 0xffffffff);
		mask = (uint64_t)pci_read(slot, 0x1c) << 32;
		outl(0xcfc, (uint32_t)(base >> 32));
		*size = mask ? 0 - mask : 0;
		/* The window may be closed since the firmware left: memory decoding on. */
		outl(0xcf8, 0x80000000u | slot << 11 | 4);
		outl(0xcfc, (inl(0xcfc) & 0xffff) | 2);
		return base;
	}
	return 0;
}

enum event { EVENT_INT, EVENT_UD, EVENT_PF, EVENT_IPI, EVENT_TIMER, EVENTS };
static const char *const event_name[EVENTS] = { "INT n", "#UD", "#PF", "IPI", "timer" };

static void raise_event(enum event event, uint64_t victim)
{
	uint32_t n = seen_count;

	switch (event) {
	case EVENT_INT:
		__asm__ volatile("int $0x41" : : : "memory");
		break;
	case EVENT_UD:
		__asm__ volatile("ud2" : : : "memory");
		break;
	case EVENT_PF:
		*paging_pte(victim) &= ~PTE_P;
		flush_page(victim);
		*(volatile uint32_t *)victim = 1;
		break;
	case EVENT_IPI:
		apic_icr(0, ICR_SELF | ICR_ASSERT | 0x42);
		irq_on();
		for (int i = 0; i < 100000 && seen_count == n; i++)
			cpu_pause();
		irq_off();
		break;
	default:
		apic_write(APIC_TIMER_DIVIDE, 0xb);
		apic_write(APIC_LVT_TIMER, 0x43);
		apic_write(APIC_TIMER_INITIAL, 100000);
		while (seen_count == n)
			__asm__ volatile("sti; hlt; cli" : : : "memory");
		apic_write(APIC_LVT_TIMER, LVT_MASKED);
		break;
	}
}

static void check_device_memory(void)
{
	static const uint8_t vector[EVENTS] = { 0x41, 6, 14, 0x42, 0x43 };
	uint64_t size = 0, base = device_memory(&size), victim = alloc_memory(PAGE, PAGE);

	if (!base || base + size > 1ull << 40) {
		skip("events with their stack in device memory", "no ivshmem");
		return;
	}
	note("device memory at %llx, %llu MiB", (unsigned long long)base, (unsigned long long)(size >> 20));
	for (unsigned int e = 0; e < EVENTS && (e + 2) << 30 <= size; e++) {
		uint64_t top = base + ((uint64_t)e << 30) + 0x200000 + 24;
		uint32_t n = seen_count;

		set_ist(0, 3, top);
		idt[vector[e]].ist = 3;
		raise_event((enum event)e, victim);
		idt[vector[e]].ist = 0;
		ok(seen_count == n + 1 && seen.vector == vector[e] && in_stack(top),
		   "%s with its stack in device memory", event_name[e]);
	}
	/* The IDT itself, in a gigabyte that nothing has touched. It has to be written there; that is the touch. */
	memcpy((void *)(base + (5ull << 30)), idt, sizeof(idt));
	load_idt((void *)(base + (5ull << 30)), sizeof(idt) - 1);
	raise_event(EVENT_INT, victim);
	load_idt(idt, sizeof(idt) - 1);
	is(seen.vector, 0x41, "INT n with its IDT in device memory");
}

/* Double fault: #PF while a #PF is delivered (its stack is not there). */
static struct trap_frame df_frame;
static uint64_t df_resume __attribute__((used)); /* named in assembly */

static void double_fault(struct trap_frame *f)
{
	df_frame = *f;
	f->rip = df_resume;
	f->cs = SEL_CODE64;
	f->ss = SEL_DATA;
	f->rflags = 2;
}

static uint64_t resume_rsp __attribute__((used)); /* named in assembly */

static void check_double_fault(void)
{
	uint64_t bad = alloc_memory(2 * PAGE, PAGE) + PAGE;
	struct idt_gate old = idt[14];

	trap_handlers[8] = double_fault;
	*paging_pte(bad) &= ~PTE_P;
	*paging_pte(bad - PAGE) &= ~PTE_P;
	flush_page(bad);
	flush_page(bad - PAGE);
	set_ist(0, 4, bad);
	idt[14].ist = 4;
	memset(&df_frame, 0, sizeof(df_frame));
	__asm__ volatile("pushq %%rbp\n\tpushq %%rbx\n\tmovq %%rsp, resume_rsp(%%rip)\n\t"
			 "leaq 1f(%%rip), %%rax\n\tmovq %%rax, df_resume(%%rip)\n\t"
			 "movl (%0), %%eax\n"
			 "1:\tmovq resume_rsp(%%rip), %%rsp\n\tpopq %%rbx\n\tpopq %%rbp"
			 :
			 : "r"(bad)
			 : "rax", "memory");
	is(df_frame.vector, 8, "#PF whose stack is not present: #DF");
	is(df_frame.error, 0, "... error code 0");
	is(read_cr2(), bad - 8, "... CR2 is the stack address");
	idt[14] = old;
	*paging_pte(bad) |= PTE_P;
	*paging_pte(bad - PAGE) |= PTE_P;
	flush_page(bad);
	flush_page(bad - PAGE);
}

/* An external interrupt whose gate is not present: #NP with the EXT bit. */
static struct trap_frame np_frame;
static uint8_t absent;

static void not_present(struct trap_frame *f)
{
	np_frame = *f;
	idt[absent].type |= 0x80;
}

static void check_not_present(void)
{
	uint32_t before = vector_count[0][0x45];

	trap_handlers[11] = not_present;
	absent = 0x45;
	idt[absent].type &= 0x7f;
	apic_icr(0, ICR_SELF | ICR_ASSERT | 0x45);
	irq_on();
	for (int i = 0; i < 100000 && !np_frame.vector; i++)
		cpu_pause();
	irq_off();
	is(np_frame.vector, 11, "an interrupt through an absent gate: #NP");
	/* QEMU's error code is 16 * vector + 2 in long mode, without EXT; a processor's 8 * vector + 3. */
	ok(np_frame.error & 2, "... error code says IDT (%llx)", (unsigned long long)np_frame.error);
	/* It was acknowledged when it was taken: it does not come again by itself, and is in service. */
	ok(apic_bit(APIC_ISR, 0x45), "... the vector is in service");
	is(vector_count[0][0x45], before, "... and its handler did not run");
	apic_write(APIC_EOI, 0);
	memset(&np_frame, 0, sizeof(np_frame));
	absent = 0x46;
	idt[absent].type &= 0x7f;
	__asm__ volatile("int $0x46" : : : "memory");
	is(np_frame.vector, 11, "INT n through an absent gate: #NP");
	is(np_frame.error & 3, 2, "... error code says IDT, without EXT");
	is(vector_count[0][0x46], 1, "... and the INT runs again, now delivered");
	trap_handlers[11] = NULL;
}

/* #PF in the middle of an INT n: the fault comes first, then the INT again. */
static void check_int_stack_fault(void)
{
	uint64_t stack = alloc_memory(2 * PAGE, PAGE), top = stack + 2 * PAGE;
	uint32_t pf = vector_count[0][14], n = vector_count[0][0x47];

	set_ist(0, 3, top);
	idt[0x47].ist = 3;
	*paging_pte(top - PAGE) &= ~PTE_P;
	flush_page(top - PAGE);
	seen_count = 0;
	__asm__ volatile("int $0x47" : : : "memory");
	is(vector_count[0][14], pf + 1, "INT n whose stack is not present: #PF");
	is(vector_count[0][0x47], n + 1, "... then the INT is delivered");
	idt[0x47].ist = 0;
}

/* Breakpoint, overflow of the trap flag: traps have the next RIP. */
static void check_traps(void)
{
	uint64_t here;

	trap_handlers[3] = record;
	__asm__ volatile("leaq 1f(%%rip), %0\n\tint3\n1:" : "=r"(here) : : "memory");
	is(seen.vector, 3, "INT3");
	is(seen.rip, here, "... RIP behind it");
	trap_handlers[1] = record;
	__asm__ volatile(
		"pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tpushfq\n\tandl $~0x100, (%%rsp)\n\tpopfq"
		:
		:
		: "memory", "cc");
	is(seen.vector, 1, "single step");
	ok(vector_count[0][1] >= 2 && vector_count[0][1] <= 5, "... a trap for each instruction (%u)",
	   vector_count[0][1]);
	vector_count[0][1] = 0;
	/* The trap flag over an instruction that exits: the trap comes right behind it, once. */
	__asm__ volatile("xorl %%eax, %%eax\n\txorl %%ecx, %%ecx\n\tpushfq\n\tpushfq\n\torl $0x100, "
			 "(%%rsp)\n\tpopfq\n\t"
			 "cpuid\n\tpopfq\n"
			 :
			 :
			 : "rax", "rbx", "rcx", "rdx", "memory", "cc");
	is(vector_count[0][1], 2, "single step over CPUID and POPF: two traps");
	trap_handlers[1] = NULL;
}

void test_main(void)
{
	trap_handlers[6] = trap_handlers[14] = record;
	for (unsigned int v = 0x41; v <= 0x47; v++)
		trap_handlers[v] = record;
	check_everywhere();
	check_device_memory();
	check_int_stack_fault();
	check_double_fault();
	check_not_present();
	check_traps();
}
