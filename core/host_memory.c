/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's own page tables (APM2 5.3), built once at boot: the image by segment (nothing is writable and
 * executable), the page pool, a window on the root's RAM, device registers. Only guard pages and device mappings
 * change later. The map of addresses is in trivet/host_memory.h.
 */
#include <errno.h>
#include <trivet/assert.h>
#include <trivet/host_memory.h>
#include <trivet/io.h>
#include <trivet/lock.h>
#include <trivet/x86.h>

#define PTE_WRITE_THROUGH BIT(3)
#define PTE_CACHE_DISABLE BIT(4)

#define MAP_DATA (PTE_PRESENT | PTE_WRITE | PTE_NX)
#define MAP_RODATA (PTE_PRESENT | PTE_NX)
#define MAP_TEXT (PTE_PRESENT)
#define MAP_DEVICE (MAP_DATA | PTE_WRITE_THROUGH | PTE_CACHE_DISABLE)

extern char __text_start[], __text_end[], __rodata_start[], __rodata_end[], __data_start[], __data_end[];

struct page_pool host_pool;

static uint64_t block_hpa;
static uint64_t block_size;
static uint64_t trampoline_hpa;
static const struct boot_memory_range *memory_map;
static uint64_t memory_map_count;

static uint64_t *root_table;
static uint64_t page_sizes[4]; /* of a leaf at level 1..3; 0: the processor has none */
static uint64_t mmio_next = MMIO_WINDOW_BASE;
static struct spinlock mmio_lock = SPINLOCK_INIT(LOCK_RANK_HOST_PAGING);

hpa_t hv_virt_to_phys(const void *p)
{
	uint64_t va = (uint64_t)p;

	return HPA(va >= HV_VIRT_BASE ? va - HV_VIRT_BASE + block_hpa : va - RAM_WINDOW_BASE);
}

void *hv_phys_to_virt(hpa_t hpa)
{
	uint64_t offset = hpa.v - block_hpa;

	return (void *)(offset < block_size ? HV_VIRT_BASE + offset : RAM_WINDOW_BASE + hpa.v);
}

bool host_memory_is_ours(hpa_t hpa, uint64_t size)
{
	if (hpa.v < block_hpa + block_size && hpa.v + size > block_hpa)
		return true;
	return trampoline_hpa != 0 && hpa.v < trampoline_hpa + PAGE_SIZE && hpa.v + size > trampoline_hpa;
}

uint64_t host_cr3(void)
{
	return hv_virt_to_phys(root_table).v;
}

static void set_entry(uint64_t *entry, uint64_t value)
{
	*(volatile uint64_t *)entry = value; /* one store: the entry may be in use */
}

static uint64_t *next_table(uint64_t *entry)
{
	uint64_t *table;

	if (*entry & PTE_PRESENT) {
		ASSERT(!(*entry & PTE_LARGE));
		return hv_phys_to_virt(HPA(*entry & PTE_ADDRESS));
	}
	table = page_alloc(&host_pool, 0);
	if (table)
		set_entry(entry, hv_virt_to_phys(table).v | PTE_PRESENT | PTE_WRITE);
	return table;
}

/* The entry for `va` at `level` (1: 4 KiB), tables made on the way. NULL: out of pages. */
static uint64_t *entry_for(uint64_t va, unsigned int level)
{
	uint64_t *table = root_table;

	for (unsigned int l = 4; l > level; l--) {
		table = next_table(&table[(va >> (12 + 9 * (l - 1))) & 511]);
		if (!table)
			return NULL;
	}
	return &table[(va >> (12 + 9 * (level - 1))) & 511];
}

static int map(uint64_t va, uint64_t hpa, uint64_t size, uint64_t flags, unsigned int max_level)
{
	uint64_t step;

	for (; size; va += step, hpa += step, size -= step) {
		unsigned int level = max_level;
		uint64_t *entry;

		while (page_sizes[level] == 0 || size < page_sizes[level] ||
		       !IS_ALIGNED(va | hpa, page_sizes[level]))
			level--;
		step = page_sizes[level];
		entry = entry_for(va, level);
		if (!entry)
			return -ENOMEM;
		set_entry(entry, hpa | flags | (level > 1 ? PTE_LARGE : 0));
	}
	return 0;
}

static int map_block(uint64_t va, uint64_t end, uint64_t flags)
{
	return map(va, hv_virt_to_phys((void *)va).v, end - va, flags | PTE_GLOBAL, 1);
}

static int map_image(uint64_t used_size)
{
	uint64_t data_end = ALIGN_UP((uint64_t)__data_end, PAGE_SIZE);
	int err;

	err = map_block((uint64_t)__text_start, ALIGN_UP((uint64_t)__text_end, PAGE_SIZE), MAP_TEXT);
	if (!err)
		err = map_block((uint64_t)__rodata_start, ALIGN_UP((uint64_t)__rodata_end, PAGE_SIZE),
				MAP_RODATA);
	if (!err)
		err = map_block((uint64_t)__data_start, data_end, MAP_DATA);
	/* Behind the image: symbols, hand-off (the refusal text is written), memory map, boot tables, the pool. */
	if (!err)
		err = map_block(HV_VIRT_BASE + used_size, HV_VIRT_BASE + block_size, MAP_DATA);
	if (!err)
		err = map_block(data_end, HV_VIRT_BASE + used_size, MAP_DATA);
	return err;
}

static int map_ram_window(void)
{
	for (uint64_t i = 0; i < memory_map_count; i++) {
		const struct boot_memory_range *range = &memory_map[i];
		int err;

		if (!IS_ALIGNED(range->base_hpa | range->size, PAGE_SIZE) ||
		    range->base_hpa + range->size < range->base_hpa)
			return -EINVAL;
		if (range->kind == BOOT_MEMORY_MMIO || range->base_hpa + range->size > RAM_WINDOW_SIZE)
			continue;
		if (host_memory_is_ours(HPA(range->base_hpa), range->size))
			return -EINVAL;
		err = map(RAM_WINDOW_BASE + range->base_hpa, range->base_hpa, range->size,
			  MAP_DATA | PTE_GLOBAL, 3);
		if (err)
			return err;
	}
	return 0;
}

int host_memory_init(struct boot_handoff *handoff)
{
	char *free_start = (char *)HV_VIRT_BASE + handoff->used_size;
	int err;

	block_hpa = handoff->hv_base;
	block_size = handoff->hv_size;
	trampoline_hpa = handoff->trampoline_hpa;
	memory_map = (const void *)(HV_VIRT_BASE + handoff->memory_map_offset);
	memory_map_count = handoff->memory_map_count;
	page_sizes[1] = SIZE_4K;
	page_sizes[2] = SIZE_2M;
	page_sizes[3] = cpuid(0x80000001, 0).edx & BIT(26) ? SIZE_1G : 0;

	err = page_pool_init(&host_pool, free_start, (block_size - handoff->used_size) / PAGE_SIZE);
	if (err)
		return -ENOMEM;
	root_table = page_alloc(&host_pool, 0);
	if (!root_table || host_cr3() >> 32)
		return -ENOMEM;
	err = map_image(handoff->used_size);
	if (!err)
		err = map_ram_window();
	if (!err && trampoline_hpa)
		err = map(trampoline_hpa, trampoline_hpa, PAGE_SIZE, MAP_TEXT, 1);
	if (err)
		return err;
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	__asm__ volatile("movq %0, %%cr3" ::"r"(host_cr3()) : "memory");
	return 0;
}

volatile void *host_map_mmio(hpa_t hpa, uint64_t size)
{
	uint64_t first = ALIGN_DOWN(hpa.v, PAGE_SIZE);
	uint64_t length = ALIGN_UP(hpa.v + size, PAGE_SIZE) - first;
	uint64_t va = 0;

	spin_lock(&mmio_lock);
	if (length <= MMIO_WINDOW_BASE + MMIO_WINDOW_SIZE - mmio_next &&
	    map(mmio_next, first, length, MAP_DEVICE | PTE_GLOBAL, 1) == 0) {
		va = mmio_next + (hpa.v - first);
		mmio_next += length;
	}
	spin_unlock(&mmio_lock);
	return (volatile void *)va;
}

void host_unmap_page(void *page)
{
	uint64_t *entry = entry_for((uint64_t)page, 1);

	ASSERT(entry && (*entry & PTE_PRESENT));
	set_entry(entry, 0);
	__asm__ volatile("invlpg (%0)" ::"r"(page) : "memory");
}

const void *host_ram_window(hpa_t hpa, uint64_t size)
{
	uint64_t end = hpa.v + size;

	if (end < hpa.v || end > RAM_WINDOW_SIZE)
		return NULL;
	for (uint64_t i = 0; i < memory_map_count; i++) {
		const struct boot_memory_range *range = &memory_map[i];

		if (range->kind == BOOT_MEMORY_MMIO || hpa.v < range->base_hpa)
			continue;
		if (hpa.v < range->base_hpa + range->size && end <= range->base_hpa + range->size)
			return (const void *)(RAM_WINDOW_BASE + hpa.v);
	}
	return NULL;
}

bool host_memory_is_ram(hpa_t hpa, uint64_t size)
{
	uint64_t end = hpa.v + size;

	for (uint64_t i = 0; i < memory_map_count; i++) {
		const struct boot_memory_range *range = &memory_map[i];

		if (range->kind == BOOT_MEMORY_RAM && hpa.v >= range->base_hpa && end > hpa.v &&
		    end <= range->base_hpa + range->size)
			return host_ram_window(hpa, size) != NULL;
	}
	return false;
}

uint64_t host_memory_end(void)
{
	uint64_t end = 0;

	for (uint64_t i = 0; i < memory_map_count; i++)
		if (memory_map[i].kind != BOOT_MEMORY_MMIO &&
		    memory_map[i].base_hpa + memory_map[i].size > end)
			end = memory_map[i].base_hpa + memory_map[i].size;
	return end < RAM_WINDOW_SIZE ? end : RAM_WINDOW_SIZE;
}

bool host_memory_clip_to_devices(hpa_t hpa, uint64_t *start, uint64_t *end)
{
	for (uint64_t i = 0; i < memory_map_count; i++) {
		uint64_t range_start = memory_map[i].base_hpa;
		uint64_t range_end = range_start + memory_map[i].size;

		if (memory_map[i].kind == BOOT_MEMORY_MMIO)
			continue;
		if (hpa.v >= range_start && hpa.v < range_end)
			return false;
		if (range_end <= hpa.v && range_end > *start)
			*start = range_end;
		if (range_start > hpa.v && range_start < *end)
			*end = range_start;
	}
	return true;
}
