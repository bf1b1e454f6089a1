/* SPDX-License-Identifier: MIT */
/*
 * Puts the hypervisor into reserved memory, describes the machine to it and jumps in. The memory is
 * laid out as boot_handoff.h says. Reserved memory stays with its owner after ExitBootServices
 * (UEFI 2.10 7.2), so a root OS leaves it alone without knowing why.
 */
#include "hypervisor.h"
#include "elf_load.h"
#include "firmware_memory.h"
#include "processors.h"
#include "text.h"

#include <errno.h>
#include <string.h>
#include <trivet/x86.h>

#ifndef TRIVET_VERSION
#define TRIVET_VERSION "unversioned"
#endif

#define HV_SIZE_DEFAULT (8ull << 20)
#define HV_SIZE_PER_PROCESSOR (64ull << 10)
/* Of a root that has children: two bytes for each page that it lends them or deposits (page_use.h). */
#define HV_RAM_PER_BYTE 2048u
/* Two page tables, ours and the root's, each with 8 bytes for 2 MiB. */
#define HV_RAM_PER_TABLE_BYTE (SIZE_2M / 16)
#define HV_FREE_MIN (1ull << 20) /* free pages without which the hypervisor can't even start */
#define BOOT_TABLES 4		 /* pages: root, (PML4), PDPT, PD */

static_assert(offsetof(struct boot_handoff, context.rip) == 16, "launch.asm CONTEXT_RIP");
static_assert(offsetof(struct boot_handoff, context.rsp) == 24, "launch.asm CONTEXT_RSP");
static_assert(offsetof(struct boot_handoff, context.cr3) == 32, "launch.asm CONTEXT_CR3");
static_assert(offsetof(struct boot_handoff, context.rflags) == 40, "launch.asm CONTEXT_RFLAGS");
static_assert(sizeof(struct boot_handoff) <= PAGE_SIZE, "one page for the hand-off");

int64_t launch(struct boot_handoff *handoff, uint64_t boot_cr3, uint64_t entry_virt, uint64_t handoff_virt);

extern const uint8_t hv_elf_start[] __attribute__((visibility("hidden")));
extern const uint8_t hv_elf_end[] __attribute__((visibility("hidden")));

/*
 * Marks, for the time of boot services, that the hypervisor runs: a protocol without functions on a
 * handle of its own.
 */
static EFI_GUID running_guid = { 0x6f0c3b52,
				 0x8d41,
				 0x4c6a,
				 { 0xb7, 0x1e, 0x52, 0x9a, 0x0d, 0xe3, 0x74, 0xc8 } };

/* Everything that is known before memory is taken. */
struct plan {
	struct elf_image image;
	struct elf_symbol_sizes symbols;
	size_t map_capacity;
	uint64_t symtab_offset;
	uint64_t strtab_offset;
	uint64_t handoff_offset;
	uint64_t processors_offset;
	uint64_t map_offset;
	uint64_t used_max; /* with a memory map as large as it can get */
};

bool hypervisor_is_running(void)
{
	VOID *nothing;

	return !EFI_ERROR(efi_boot->LocateProtocol(&running_guid, NULL, &nothing));
}

static void mark_running(void)
{
	EFI_HANDLE handle = NULL;

	/* Without the mark a second start only gets the hypervisor's own refusal. */
	(void)efi_boot->InstallProtocolInterface(&handle, &running_guid, EFI_NATIVE_INTERFACE, NULL);
}

static int make_plan(struct plan *plan, uint32_t processors)
{
	int err = elf_check(&plan->image, hv_elf_start, (size_t)(hv_elf_end - hv_elf_start));

	if (err)
		return err;
	plan->map_capacity = firmware_memory_capacity();
	plan->symbols = elf_symbol_sizes(&plan->image);
	plan->symtab_offset = plan->image.load_size;
	plan->strtab_offset = plan->symtab_offset + plan->symbols.count * sizeof(struct boot_symbol);
	plan->handoff_offset = ALIGN_UP(plan->strtab_offset + plan->symbols.string_bytes, PAGE_SIZE);
	plan->processors_offset = plan->handoff_offset + PAGE_SIZE;
	plan->map_offset =
		ALIGN_UP(plan->processors_offset + processors * sizeof(uint32_t), sizeof(uint64_t));
	plan->used_max = ALIGN_UP(plan->map_offset + plan->map_capacity * sizeof(struct boot_memory_range),
				  PAGE_SIZE) +
			 BOOT_TABLES * PAGE_SIZE;
	return 0;
}

static uint64_t size_for_ram(const struct boot_config *config)
{
	uint64_t ram = firmware_memory_ram_bytes();

	return ram / HV_RAM_PER_TABLE_BYTE +
	       (config->root_interface == BOOT_ROOT_HV ? ram / HV_RAM_PER_BYTE : 0);
}

static uint64_t wanted_size(const struct plan *plan, const struct boot_config *config, uint32_t processors)
{
	uint64_t least = ALIGN_UP(plan->used_max + HV_FREE_MIN, SIZE_2M);
	uint64_t size = config->memory_size;

	if (!size)
		size = ALIGN_UP(HV_SIZE_DEFAULT + processors * HV_SIZE_PER_PROCESSOR + plan->used_max +
					size_for_ram(config),
				SIZE_2M);
	if (size < least) {
		say("Trivet: memory = %luM is too little, taking %luM.\n", size >> 20, least >> 20);
		size = least;
	}
	return size < HV_SIZE_MAX ? size : HV_SIZE_MAX;
}

static uint64_t read_cr3(void)
{
	uint64_t value;

	__asm__ volatile("mov %%cr3, %0" : "=r"(value));
	return value;
}

static uint64_t read_cr4(void)
{
	uint64_t value;

	__asm__ volatile("mov %%cr4, %0" : "=r"(value));
	return value;
}

/*
 * The firmware's own map (identity, so that the loader's code and stack stay where they are), and
 * the hypervisor's memory from HV_VIRT_BASE up. No NX anywhere: EFER.NXE may be off. Returns the
 * value for CR3.
 */
static uint64_t make_boot_tables(uint64_t *tables, const struct hv_memory *memory)
{
	const uint64_t link = PTE_PRESENT | PTE_WRITE;
	uint64_t *root = tables, *pml4 = tables, *pdpt = tables + 1024, *pd = tables + 1536;

	memset(tables, 0, BOOT_TABLES * PAGE_SIZE);
	memcpy(root, (const void *)(read_cr3() & PTE_ADDRESS), PAGE_SIZE);
	if (read_cr4() & CR4_LA57) {
		pml4 = tables + 512;
		root[HV_VIRT_BASE >> 48 & 511] = (uint64_t)pml4 | link;
	}
	pml4[HV_VIRT_BASE >> 39 & 511] = (uint64_t)pdpt | link;
	pdpt[HV_VIRT_BASE >> 30 & 511] = (uint64_t)pd | link;
	for (uint64_t i = 0; i < memory->size / SIZE_2M; i++)
		pd[i] = (memory->base + i * SIZE_2M) | link | PTE_LARGE;
	return (uint64_t)root;
}

static void fill_handoff(struct boot_handoff *handoff, const struct plan *plan,
			 const struct hv_memory *memory, const struct boot_config *config,
			 const struct machine *machine)
{
	handoff->magic = BOOT_HANDOFF_MAGIC;
	handoff->version = BOOT_HANDOFF_VERSION;
	handoff->size = sizeof(*handoff);
	handoff->hv_base = memory->base;
	handoff->hv_size = memory->size;
	handoff->trampoline_hpa = memory->trampoline;
	handoff->symtab_offset = plan->symtab_offset;
	handoff->symtab_count = plan->symbols.count;
	handoff->strtab_offset = plan->strtab_offset;
	handoff->strtab_size = plan->symbols.string_bytes;
	handoff->rsdp_hpa = machine->rsdp_hpa;
	handoff->framebuffer = machine->framebuffer;
	handoff->root_interface = config->root_interface;
	handoff->log_level = config->log_level;
	handoff->log_framebuffer = config->log_framebuffer && machine->framebuffer.base_hpa;
	handoff->log_port = machine->log_port;
	handoff->log_port_shared = machine->log_port_shared;
	handoff->processor_count = machine->processor_count;
	handoff->processors_offset = plan->processors_offset;
	handoff->processors_count = processors_list((uint32_t *)(memory->base + plan->processors_offset),
						    machine->processor_count);
	text_format(handoff->version_string, sizeof(handoff->version_string), "%s", TRIVET_VERSION);
}

/* Image, symbols, hand-off and memory map into the block. 0, or a negative errno and `why`. */
static int fill_memory(struct plan *plan, const struct hv_memory *memory, struct boot_handoff *handoff,
		       char *why, size_t why_size)
{
	uint8_t *block = (uint8_t *)memory->base;
	struct memory_map map = { (struct boot_memory_range *)(void *)(block + plan->map_offset), 0,
				  plan->map_capacity };
	int err = elf_load(&plan->image, block, HV_VIRT_BASE);

	if (err) {
		text_format(why, why_size, "its image is damaged: %s", plan->image.error);
		return err;
	}
	elf_symbols(&plan->image, HV_VIRT_BASE, (struct boot_symbol *)(void *)(block + plan->symtab_offset),
		    (char *)block + plan->strtab_offset);
	err = firmware_memory_map(&map, memory);
	if (err) {
		text_format(why, why_size, "the firmware gives no memory map (error %d)", err);
		return err;
	}
	handoff->memory_map_offset = plan->map_offset;
	handoff->memory_map_count = map.count;
	handoff->used_size =
		ALIGN_UP(plan->map_offset + map.count * sizeof(struct boot_memory_range), PAGE_SIZE) +
		BOOT_TABLES * PAGE_SIZE;
	return 0;
}

static int start_in(struct plan *plan, const struct hv_memory *memory, const struct boot_config *config,
		    const struct machine *machine, uint64_t tsc_at_entry, char *why, size_t why_size)
{
	struct boot_handoff *handoff = (struct boot_handoff *)(memory->base + plan->handoff_offset);
	uint64_t boot_cr3;
	int err;

	efi_boot->SetMem((VOID *)memory->base, memory->size, 0);
	fill_handoff(handoff, plan, memory, config, machine);
	handoff->tsc_at_entry = tsc_at_entry;
	err = fill_memory(plan, memory, handoff, why, why_size);
	if (err)
		return err;
	boot_cr3 = make_boot_tables((uint64_t *)(memory->base + handoff->used_size - BOOT_TABLES * PAGE_SIZE),
				    memory);
	err = (int)launch(handoff, boot_cr3, HV_VIRT_BASE + plan->image.entry,
			  HV_VIRT_BASE + plan->handoff_offset);
	if (!err)
		return 0; /* from here on `memory` is out of reach: this code is a guest */
	handoff->refusal[sizeof(handoff->refusal) - 1] = '\0';
	if (handoff->refusal[0])
		text_format(why, why_size, "%s", handoff->refusal);
	else
		text_format(why, why_size, "the hypervisor gave up (error %d)", err);
	return err;
}

int hypervisor_start(const struct boot_config *config, const struct machine *machine, uint64_t tsc_at_entry,
		     char *why, size_t why_size)
{
	struct plan plan;
	struct hv_memory memory;
	int err = make_plan(&plan, machine->processor_count);

	if (err) {
		text_format(why, why_size, "its image is damaged: %s", plan.image.error);
		return err;
	}
	memory.size = wanted_size(&plan, config, machine->processor_count);
	err = hv_memory_reserve(&memory);
	if (err) {
		text_format(why, why_size, "too little memory: no %lu MiB in one piece are free",
			    memory.size >> 20);
		return err;
	}
	err = start_in(&plan, &memory, config, machine, tsc_at_entry, why, why_size);
	if (err)
		hv_memory_free(&memory);
	else
		mark_running();
	return err;
}
