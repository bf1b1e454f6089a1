/* SPDX-License-Identifier: MIT */
/*
 * Own page tables: everything identity mapped, writable and executable, below 4 GiB in 2 MiB pages that a
 * test can split, above in 1 GiB pages.
 */
#include "guest.h"

uint64_t page_pml4[512] __attribute__((aligned(4096)));
uint64_t page_pdpt[512] __attribute__((aligned(4096)));
uint64_t page_pd[4][512] __attribute__((aligned(4096)));

static uint64_t page_pdpt_high[512] __attribute__((aligned(4096)));
static uint64_t page_tables[32][512] __attribute__((aligned(4096)));
static unsigned int page_tables_used;

void paging_init(void)
{
	bool huge = cpuid(0x80000001, 0).edx >> 26 & 1;

	page_pml4[0] = (uint64_t)page_pdpt | PTE_W | PTE_P;
	for (uint64_t i = 0; i < 4; i++) {
		page_pdpt[i] = (uint64_t)page_pd[i] | PTE_W | PTE_P;
		for (uint64_t k = 0; k < 512; k++)
			page_pd[i][k] = i << 30 | k << 21 | PTE_PS | PTE_W | PTE_P;
	}
	for (uint64_t i = 4; i < 512 && huge; i++)
		page_pdpt[i] = i << 30 | PTE_PS | PTE_W | PTE_P;
	for (uint64_t i = 0; i < 512 && huge; i++)
		page_pdpt_high[i] = (512 + i) << 30 | PTE_PS | PTE_W | PTE_P;
	if (huge && (cpuid(0x80000008, 0).eax & 0xff) >= 40)
		page_pml4[1] = (uint64_t)page_pdpt_high | PTE_W | PTE_P;
	write_cr0(read_cr0() | 1u << 16);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	write_cr3((uint64_t)page_pml4);
}

uint64_t *paging_pte(uint64_t va)
{
	uint64_t *pde = &page_pd[va >> 30 & 3][va >> 21 & 511];

	if (*pde & PTE_PS) {
		uint64_t *table, base = *pde & ~0x1fffffull & ~PTE_NX;

		if (page_tables_used == ARRAY_LEN(page_tables))
			bail_out("out of page tables");
		table = page_tables[page_tables_used++];
		for (uint64_t i = 0; i < 512; i++)
			table[i] = base | i << 12 | PTE_W | PTE_P;
		*pde = (uint64_t)table | PTE_W | PTE_P;
		write_cr3(read_cr3());
	}
	return (uint64_t *)(*pde & ~0xfffull) + (va >> 12 & 511);
}

void flush_page(uint64_t va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

uint64_t alloc_memory(uint64_t size, uint64_t align)
{
	for (unsigned int i = 0; i < memory_map_len; i++) {
		struct memory_range *r = &memory_map[i];
		uint64_t start = (r->base + align - 1) & ~(align - 1);

		if (r->type != MEMORY_CONVENTIONAL || r->base < 0x100000 || start + size > r->base + r->size)
			continue;
		/* What lies below `start` is given up: a test runs once. */
		r->size -= start + size - r->base;
		r->base = start + size;
		return start;
	}
	bail_out("no %llu bytes of memory", (unsigned long long)size);
}
