/* SPDX-License-Identifier: MIT */
/*
 * What the loader hands to the hypervisor: the one thing boot/ and core/ share. The structure lies in the
 * hypervisor's own memory, behind the image; every address in it is host physical unless it says otherwise.
 *
 * Memory that the loader reserves, from `hv_base` up (2 MiB aligned, one block, virtually linear from HV_VIRT_BASE):
 *   image (ELF segments) | symbol and string table | this structure | processors | memory map | boot page tables | free pages
 * `used_size` is where the free pages begin.
 */
#ifndef TRIVET_BOOT_HANDOFF_H
#define TRIVET_BOOT_HANDOFF_H

#include <trivet/types.h>

/* Where the hypervisor's memory is mapped: the top 2 GiB, so that 32-bit relocations reach (-mcmodel=kernel). */
#define HV_VIRT_BASE 0xffffffff80000000ull
#define HV_SIZE_MAX SIZE_1G

#define BOOT_HANDOFF_MAGIC 0x46465554454e5254ull
#define BOOT_HANDOFF_VERSION 3u

enum boot_memory_kind {
	BOOT_MEMORY_RAM = 1, /* usable by the root now or after ExitBootServices */
	BOOT_MEMORY_FIRMWARE =
		2,	      /* RAM with ACPI tables, runtime services or reserved data: the root reads it */
	BOOT_MEMORY_MMIO = 3, /* device memory named by the firmware */
};

struct boot_memory_range {
	uint64_t base_hpa; /* page aligned */
	uint64_t size;	   /* bytes, page multiple */
	uint32_t kind;	   /* enum boot_memory_kind */
	uint32_t reserved;
};
static_assert(sizeof(struct boot_memory_range) == 24, "boot_memory_range");

/* One function of the hypervisor. Laid out as Elf64_Sym (System V ABI, "Symbol Table"). */
struct boot_symbol {
	uint32_t name; /* offset of a NUL terminated name in the string table */
	uint8_t info;
	uint8_t other;
	uint16_t section;
	uint64_t value; /* virtual address, relocated to HV_VIRT_BASE */
	uint64_t size;	/* bytes, 0: unknown (assembly label) */
};
static_assert(sizeof(struct boot_symbol) == 24, "boot_symbol");
static_assert(offsetof(struct boot_symbol, value) == 8, "boot_symbol.value");

/* UEFI 2.10 12.9: linear framebuffer; base_hpa == 0 means none. Only 32-bit pixels are handed over. */
struct boot_framebuffer {
	uint64_t base_hpa;
	uint64_t size;
	uint32_t width;
	uint32_t height;
	uint32_t pixels_per_line;
	uint32_t blue_first; /* 1: BGRX in memory, 0: RGBX */
};
static_assert(sizeof(struct boot_framebuffer) == 32, "boot_framebuffer");

/* What the root sees of Trivet. */
enum boot_root_interface {
	BOOT_ROOT_TRANSPARENT = 0, /* nothing: the bare machine */
	BOOT_ROOT_HV = 1,	   /* the hypervisor ABI, as its root partition */
};

/* The processor state that becomes root VP 0: what the loader's code had when it called launch(). */
struct boot_context {
	uint64_t rip; /* where the root goes on; it finds its status (0 or negative errno) in RAX */
	uint64_t rsp;
	uint64_t cr3;
	uint64_t rflags;
};
static_assert(sizeof(struct boot_context) == 32, "boot_context");

struct boot_handoff {
	uint64_t magic;
	uint32_t version;
	uint32_t size; /* sizeof(struct boot_handoff) */
	struct boot_context context;
	uint64_t hv_base;
	uint64_t hv_size;
	uint64_t used_size;
	uint64_t symtab_offset; /* struct boot_symbol array, ascending by value, offset from hv_base */
	uint64_t symtab_count;
	uint64_t strtab_offset;
	uint64_t strtab_size;
	uint64_t
		memory_map_offset; /* struct boot_memory_range array, ascending, merged, no overlaps; without hv memory */
	uint64_t memory_map_count;
	uint64_t
		processors_offset; /* uint32_t array: local APIC ids of the processors that the firmware's MP services name */
	uint64_t processors_count; /* 0: it has no MP services */
	uint64_t
		trampoline_hpa; /* one reserved page below 1 MiB for starting processors, 0: none could be had */
	uint64_t rsdp_hpa;	/* ACPI root pointer, 0: none */
	uint64_t tsc_at_entry; /* TSC when the loader started */
	struct boot_framebuffer framebuffer;
	uint32_t log_level;	  /* enum log_level */
	uint32_t log_framebuffer; /* 1: log to the framebuffer until launch */
	uint16_t log_port;	  /* I/O port of the UART for the log, 0: none */
	uint16_t
		log_port_shared; /* 1: the root's console too; the hypervisor leaves it once the root drives it */
	uint32_t processor_count; /* processors the firmware reports, at least 1 */
	uint32_t root_interface;  /* enum boot_root_interface */
	uint32_t reserved;
	char version_string[32]; /* of the loader, NUL terminated */
	char refusal[96];	 /* out: why the hypervisor returned an error, NUL terminated, for the user */
};
static_assert(sizeof(struct boot_handoff) == 344, "boot_handoff");

#endif
