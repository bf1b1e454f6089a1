/* SPDX-License-Identifier: MIT */
/*
 * TLFS "Virtual Memory", "HvCallFlushVirtualAddressSpace", "...List", "...Ex". A translation is in the other processors' TLBs, the
 * page table is changed, one call: then all must see the new page, and who sleeps sleeps on.
 */
#include "tlfs.h"
#include <hv/flush.h>

#define ROUNDS 2000u

static uint64_t window;	  /* address whose translation changes */
static uint64_t *entry;	  /* its page table entry */
static uint64_t pages[2]; /* what it leads to: each begins with its own number */
static volatile uint64_t seen[MAX_CPUS];

static uint64_t all_cpus(void)
{
	return (1ull << cpu_count) - 1;
}

static void look(unsigned int cpu)
{
	seen[cpu] = *(volatile uint64_t *)window;
}

static void look_everywhere(void)
{
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		begin_on(cpu, look);
	look(0);
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		end_on(cpu);
}

static uint64_t who_sees(uint64_t value)
{
	uint64_t mask = 0;

	look_everywhere();
	for (unsigned int cpu = 0; cpu < cpu_count; cpu++)
		mask |= (uint64_t)(seen[cpu] == value) << cpu;
	return mask;
}

static void flush_self_only(unsigned int cpu)
{
	(void)cpu;
	flush_page(window);
}

/* Every TLB has page `which`. */
static void show(unsigned int which)
{
	*entry = pages[which] | PTE_W | PTE_P;
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		run_on(cpu, flush_self_only);
	flush_page(window);
	look_everywhere();
}

struct form {
	const char *name;
	uint16_t code;
	uint64_t flags, mask;
	uint64_t format; /* Ex: of the set, whose bank 0 is `mask` */
	unsigned int banks;
	uint64_t range; /* List: the element, added to the window's address */
	int before;	/* List: pages that the element begins before the window */
	bool list, sparse;
};

static uint64_t do_flush(const struct form *form)
{
	uint64_t *words = fresh_input();
	uint64_t control = form->code;
	unsigned int n = 0;

	words[n++] = form->flags & HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES ? 0xfffff000 : read_cr3();
	words[n++] = form->flags;
	if (form->sparse) {
		words[n++] = form->format;
		words[n++] = form->banks ? 1 : 0;
		if (form->banks)
			words[n++] = form->mask;
		control |= (uint64_t)form->banks << HV_CONTROL_VAR_HEADER_SHIFT;
	} else {
		words[n++] = form->mask;
	}
	if (form->list) {
		words[n++] = 0x1000; /* something else first */
		words[n++] = window - (uint64_t)form->before * PAGE + form->range;
		control |= 2ull << HV_CONTROL_REP_COUNT_SHIFT;
	}
	return hv_call(control, (uint64_t)hv_in, 0);
}

#define SPACES HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES
#define CPUS HV_FLUSH_ALL_PROCESSORS
static const struct form forms[] = {
	{ "Space: mask", HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, 0, ~0ull, 0, 0, 0, 0, false, false },
	{ "Space: all processors, mask 0", HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, CPUS, 0, 0, 0, 0, 0, false,
	  false },
	{ "Space: all address spaces", HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, SPACES, ~0ull, 0, 0, 0, 0, false,
	  false },
	{ "Space: non-global only", HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE,
	  CPUS | HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY, 0, 0, 0, 0, 0, false, false },
	{ "List: one page", HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST, 0, ~0ull, 0, 0, 0, 0, true, false },
	{ "List: in a range of 4096", HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST, CPUS, 0, 0, 0, 0xfff, 2000, true,
	  false },
	{ "SpaceEx: bank 0", HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX, 0, ~0ull, HV_VP_SET_SPARSE_4K, 1, 0, 0,
	  false, true },
	{ "SpaceEx: all", HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX, SPACES, 0, HV_VP_SET_ALL, 0, 0, 0, false,
	  true },
	{ "ListEx: bank 0", HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX, 0, ~0ull, HV_VP_SET_SPARSE_4K, 1, 0, 0,
	  true, true },
	{ "ListEx: all", HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX, 0, 0, HV_VP_SET_ALL, 0, 1, 1, true, true },
};

static void flushes(void)
{
	uint64_t stale;

	show(0);
	*entry = pages[1] | PTE_W | PTE_P;
	stale = all_cpus() & ~who_sees(2);
	note("without a flush the old page is seen by %llx", (unsigned long long)stale);
	for (unsigned int i = 0; i < ARRAY_LEN(forms); i++) {
		uint64_t want = forms[i].list ? 2ull << HV_RESULT_REPS_DONE_SHIFT : 0, result;

		show(0);
		*entry = pages[1] | PTE_W | PTE_P;
		result = do_flush(&forms[i]);
		ok(result == want && who_sees(2) == all_cpus(),
		   "HvCallFlushVirtualAddress%s: every VP sees the new page", forms[i].name);
	}
}

static bool refused(struct form form)
{
	return status_of(do_flush(&form)) == HV_STATUS_INVALID_PARAMETER;
}

static void refusals(void)
{
	unsigned int bad = 0;
	struct form form;

	for (unsigned int i = 0; i < ARRAY_LEN(forms); i++) {
		for (unsigned int bit = 4; bit < 64; bit += 5) {
			form = forms[i];
			form.flags |= 1ull << bit;
			bad += !refused(form);
		}
		if (!forms[i].list)
			continue;
		form = forms[i];
		form.flags |= HV_FLUSH_NON_GLOBAL_MAPPINGS_ONLY;
		bad += !refused(form);
	}
	is(bad, 0, "HV_FLUSH_FLAGS: reserved flags must be zero; non-global is invalid for lists");
	for (unsigned int i = 0; i < ARRAY_LEN(forms); i++) {
		if (!forms[i].sparse || forms[i].format != HV_VP_SET_SPARSE_4K)
			continue;
		form = forms[i];
		form.format = 2;
		bad += !refused(form);
	}
	is(bad, 0, "HV_VP_SET: other formats are refused");
}

/* XSA-475: as many elements as banks. */
static void bank_counts(void)
{
	uint64_t *words = fresh_input();
	unsigned int bad = 0;

	words[0] = read_cr3();
	words[3] = 7;
	memset(&words[4], 0xff, 100 * 8);
	for (unsigned int count = 0; count < 66; count++) {
		uint64_t control = HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX |
				   (uint64_t)count << HV_CONTROL_VAR_HEADER_SHIFT;

		bad += status_of(hv_call(control, (uint64_t)hv_in, 0)) !=
		       (count == 3 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER);
		control += 1 | 1ull << HV_CONTROL_REP_COUNT_SHIFT; /* the list's code is the next */
		bad += status_of(hv_call(control, (uint64_t)hv_in, 0)) !=
		       (count == 3 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_PARAMETER);
	}
	is(bad, 0,
	   "XSA-475: HV_VP_SET: the variable header has one element for each bank, or the call is refused");
	words[3] = ~0ull;
	IS_STATUS(hv_call(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX | 64ull << HV_CONTROL_VAR_HEADER_SHIFT,
			  (uint64_t)hv_in, 0),
		  HV_STATUS_SUCCESS, "HV_VP_SET: all 64 banks");
	words[0] = 0xfff0000000000000;
	words[1] = HV_FLUSH_ALL_PROCESSORS;
	words[3] = 0x8000000000000fff;
	IS_STATUS(hv_call(HV_CALL_FLUSH_VIRTUAL_ADDRESS_LIST | 1ull << HV_CONTROL_REP_COUNT_SHIFT,
			  (uint64_t)hv_in, 0),
		  HV_STATUS_SUCCESS, "HvCallFlushVirtualAddressList: invalid addresses are ignored");
}

/* ---- A VP that sleeps ---- */

static volatile uint32_t asleep, woke;

static void sleep(unsigned int cpu)
{
	(void)cpu;
	asleep = 1;
	__asm__ volatile("sti; hlt; cli" : : : "memory");
	woke++;
	look(cpu);
}

static void sleeping(void)
{
	const unsigned int cpu = cpu_count - 1;

	show(0);
	asleep = woke = 0;
	begin_on(cpu, sleep);
	wait_for(&asleep, 1, 1000000);
	delay_us(500); /* till it halts */
	for (unsigned int i = 0; i < 50; i++) {
		*entry = pages[~i & 1] | PTE_W | PTE_P;
		do_flush(&forms[i % 2]);
	}
	*entry = pages[1] | PTE_W | PTE_P;
	do_flush(&forms[0]);
	delay_us(500);
	is(woke, 0, "TLB flushes don't wake a VP that has halted");
	hv_fast(HV_CALL_SEND_SYNTHETIC_CLUSTER_IPI, 0x68, 1ull << cpu);
	end_on(cpu);
	ok(woke == 1 && seen[cpu] == 2, "... an interrupt does, and it sees the new page");
}

/* ---- All against all ---- */

static volatile uint32_t finished, rounds[MAX_CPUS];

static void flush_often(unsigned int cpu)
{
	uint64_t end = time_100ns() + 10000000;

	/* Where the processors share a host's, each flush may cost a turn of its scheduler: a second is enough. */
	for (unsigned int i = 0; i < ROUNDS && time_100ns() < end; i++) {
		hv_call(HV_CALL_FLUSH_VIRTUAL_ADDRESS_SPACE, (uint64_t)hv_in, 0);
		rounds[cpu] = i + 1;
	}
	__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST);
}

static void against_each_other(void)
{
	uint64_t *words = fresh_input();

	words[1] = HV_FLUSH_ALL_PROCESSORS | HV_FLUSH_ALL_VIRTUAL_ADDRESS_SPACES;
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		begin_on(cpu, flush_often);
	flush_often(0);
	ok(wait_for(&finished, cpu_count, 20000000) && rounds[0] >= 10,
	   "VPs flush each other, %u and %u times", rounds[0], rounds[1]);
	for (unsigned int cpu = 1; cpu < cpu_count; cpu++)
		end_on(cpu);
}

void tlfs_flush(void)
{
	window = alloc_memory(PAGE, PAGE);
	entry = paging_pte(window);
	for (unsigned int i = 0; i < 2; i++) {
		pages[i] = alloc_memory(PAGE, PAGE);
		*(uint64_t *)pages[i] = i + 1;
	}
	flushes();
	refusals();
	bank_counts();
	if (cpu_count > 1) {
		sleeping();
		against_each_other();
	}
	*entry = window | PTE_W | PTE_P;
	flush_page(window);
}
