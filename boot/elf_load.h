/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's ELF image: check it, put it into memory relocated to HV_VIRT_BASE, and pull the
 * function symbols out for back traces. Pure code, no firmware needed.
 */
#ifndef TRIVET_BOOT_ELF_LOAD_H
#define TRIVET_BOOT_ELF_LOAD_H

#include <stddef.h>
#include <stdint.h>

#include <trivet/boot_handoff.h>

enum { ELF_SEGMENTS_MAX = 16 };

struct elf_segment {
	uint64_t vaddr; /* from the start of the image */
	uint64_t file_offset;
	uint64_t file_size;
	uint64_t memory_size;
};

/* What elf_check() learned; all of it lies inside the file or the image. */
struct elf_image {
	const uint8_t *file;
	size_t file_size;
	uint64_t load_size; /* bytes from address 0 to the end of the last segment, page multiple */
	uint64_t entry;	    /* offset in the image */
	struct elf_segment segments[ELF_SEGMENTS_MAX];
	uint32_t segment_count;
	uint64_t rela_vaddr; /* table of relocations, in the image */
	uint64_t rela_count;
	const char *error; /* why a function failed, for the user */
};

/* Sizes of what elf_symbols() writes. */
struct elf_symbol_sizes {
	uint64_t count;	       /* of struct boot_symbol */
	uint64_t string_bytes; /* names with their NULs */
};

/*
 * Check that `file` (8-byte aligned) is a static x86-64 PIE linked at 0 and fill `image`, which
 * refers to `file` from then on. 0, or -ENOEXEC with image->error set.
 */
int elf_check(struct elf_image *image, const void *file, size_t size);

/*
 * Write all load_size bytes of the image to `dest`, relocated to run at `base`. `dest` must have
 * room for load_size. 0, or -ENOEXEC with image->error set (a relocation is of another kind than
 * R_X86_64_RELATIVE, or outside the image).
 */
int elf_load(struct elf_image *image, void *dest, uint64_t base);

/* How much elf_symbols() will write; all 0 when the file has no usable symbol table. */
struct elf_symbol_sizes elf_symbol_sizes(const struct elf_image *image);

/*
 * Write the functions' symbols to `out`, ascending by address, relocated to `base`, and their names
 * to `strings`, both as big as elf_symbol_sizes() said.
 */
void elf_symbols(const struct elf_image *image, uint64_t base, struct boot_symbol *out, char *strings);

#endif
