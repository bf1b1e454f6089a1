/* SPDX-License-Identifier: MIT */
/*
 * ELF64 loading (System V ABI chapters 4 and 5; x86-64 psABI 4.4). The file comes out of our own
 * signed image, but a wrong build must give a message, not a crash: every offset is checked before
 * use.
 */
#include "elf_load.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum {
	ELFCLASS64 = 2,
	ELFDATA2LSB = 1,
	ET_DYN = 3,
	EM_X86_64 = 62,
	PT_LOAD = 1,
	PT_DYNAMIC = 2,
	PT_INTERP = 3,
	DT_NULL = 0,
	DT_NEEDED = 1,
	DT_PLTRELSZ = 2,
	DT_RELA = 7,
	DT_RELASZ = 8,
	DT_RELAENT = 9,
	DT_RELSZ = 18,
	DT_RELRSZ = 35,
	R_X86_64_NONE = 0,
	R_X86_64_RELATIVE = 8,
	SHT_SYMTAB = 2,
	SHT_STRTAB = 3,
	SHF_EXECINSTR = 4,
	STT_NOTYPE = 0,
	STT_FUNC = 2,
};

struct elf_header {
	uint8_t ident[16];
	uint16_t type;
	uint16_t machine;
	uint32_t version;
	uint64_t entry;
	uint64_t phoff;
	uint64_t shoff;
	uint32_t flags;
	uint16_t ehsize;
	uint16_t phentsize;
	uint16_t phnum;
	uint16_t shentsize;
	uint16_t shnum;
	uint16_t shstrndx;
};
static_assert(sizeof(struct elf_header) == 64, "elf_header");

struct elf_program_header {
	uint32_t type;
	uint32_t flags;
	uint64_t offset;
	uint64_t vaddr;
	uint64_t paddr;
	uint64_t filesz;
	uint64_t memsz;
	uint64_t align;
};
static_assert(sizeof(struct elf_program_header) == 56, "elf_program_header");

struct elf_section_header {
	uint32_t name;
	uint32_t type;
	uint64_t flags;
	uint64_t addr;
	uint64_t offset;
	uint64_t size;
	uint32_t link;
	uint32_t info;
	uint64_t addralign;
	uint64_t entsize;
};
static_assert(sizeof(struct elf_section_header) == 64, "elf_section_header");

struct elf_dynamic {
	int64_t tag;
	uint64_t value;
};

struct elf_rela {
	uint64_t offset;
	uint64_t info;
	int64_t addend;
};
static_assert(sizeof(struct elf_rela) == 24, "elf_rela");

static int refuse(struct elf_image *image, const char *why)
{
	image->error = why;
	return -ENOEXEC;
}

static bool inside(uint64_t offset, uint64_t size, uint64_t limit)
{
	return offset <= limit && size <= limit - offset;
}

/* Copies entry `index` of a table in the file. The caller has checked that the table lies in it. */
static void read_entry(const struct elf_image *image, uint64_t table, uint64_t index, void *out, size_t size)
{
	memcpy(out, image->file + table + index * size, size);
}

static int check_header(struct elf_image *image, struct elf_header *header)
{
	static const uint8_t ident[7] = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 };

	if (image->file_size < sizeof(*header))
		return refuse(image, "the file is shorter than an ELF header");
	memcpy(header, image->file, sizeof(*header));
	if (memcmp(header->ident, ident, sizeof(ident)) != 0)
		return refuse(image, "not a 64-bit little-endian ELF file");
	if (header->type != ET_DYN || header->machine != EM_X86_64)
		return refuse(image, "not a position-independent x86-64 image");
	if (header->phentsize != sizeof(struct elf_program_header) ||
	    !inside(header->phoff, (uint64_t)header->phnum * header->phentsize, image->file_size))
		return refuse(image, "the program headers lie outside the file");
	return 0;
}

static int add_segment(struct elf_image *image, const struct elf_program_header *ph)
{
	struct elf_segment *last = image->segment_count ? &image->segments[image->segment_count - 1] : NULL;

	if (!inside(ph->offset, ph->filesz, image->file_size))
		return refuse(image, "a segment lies outside the file");
	if (ph->filesz > ph->memsz || !inside(ph->vaddr, ph->memsz, HV_SIZE_MAX))
		return refuse(image, "a segment has an impossible size");
	if (!last && ph->vaddr != 0)
		return refuse(image, "the image is not linked at address 0");
	if (last && ph->vaddr < last->vaddr + last->memory_size)
		return refuse(image, "segments overlap or are out of order");
	if (image->segment_count == ELF_SEGMENTS_MAX)
		return refuse(image, "too many segments");
	image->segments[image->segment_count++] =
		(struct elf_segment){ ph->vaddr, ph->offset, ph->filesz, ph->memsz };
	image->load_size = ALIGN_UP(ph->vaddr + ph->memsz, PAGE_SIZE);
	return 0;
}

static int read_dynamic(struct elf_image *image, const struct elf_program_header *ph)
{
	uint64_t rela_size = 0, rela_entry_size = sizeof(struct elf_rela);

	if (!inside(ph->offset, ph->filesz, image->file_size))
		return refuse(image, "the dynamic section lies outside the file");
	for (uint64_t i = 0; i < ph->filesz / sizeof(struct elf_dynamic); i++) {
		struct elf_dynamic dynamic;

		read_entry(image, ph->offset, i, &dynamic, sizeof(dynamic));
		if (dynamic.tag == DT_NULL)
			break;
		if (dynamic.tag == DT_NEEDED)
			return refuse(image, "the image needs a shared library");
		if ((dynamic.tag == DT_RELSZ || dynamic.tag == DT_PLTRELSZ || dynamic.tag == DT_RELRSZ) &&
		    dynamic.value)
			return refuse(image,
				      "the image has relocations of a kind that the loader does not know");
		if (dynamic.tag == DT_RELA)
			image->rela_vaddr = dynamic.value;
		else if (dynamic.tag == DT_RELASZ)
			rela_size = dynamic.value;
		else if (dynamic.tag == DT_RELAENT)
			rela_entry_size = dynamic.value;
	}
	if (rela_entry_size != sizeof(struct elf_rela) || rela_size % sizeof(struct elf_rela))
		return refuse(image, "the relocation table has an impossible size");
	image->rela_count = rela_size / sizeof(struct elf_rela);
	return 0;
}

int elf_check(struct elf_image *image, const void *file, size_t size)
{
	struct elf_header header;
	bool entry_ok = false;

	memset(image, 0, sizeof(*image));
	image->file = file;
	image->file_size = size;
	if (check_header(image, &header))
		return -ENOEXEC;
	for (uint16_t i = 0; i < header.phnum; i++) {
		struct elf_program_header ph;

		read_entry(image, header.phoff, i, &ph, sizeof(ph));
		if (ph.type == PT_INTERP)
			return refuse(image, "the image needs an interpreter");
		if (ph.type == PT_LOAD && ph.memsz && add_segment(image, &ph))
			return -ENOEXEC;
		if (ph.type == PT_LOAD && (ph.flags & 1) && header.entry >= ph.vaddr &&
		    header.entry - ph.vaddr < ph.filesz)
			entry_ok = true;
		if (ph.type == PT_DYNAMIC && read_dynamic(image, &ph))
			return -ENOEXEC;
	}
	if (!image->segment_count)
		return refuse(image, "there is nothing to load");
	if (!entry_ok)
		return refuse(image, "the entry point is not in an executable segment");
	if (!inside(image->rela_vaddr, image->rela_count * sizeof(struct elf_rela), image->load_size))
		return refuse(image, "the relocation table lies outside the image");
	image->entry = header.entry;
	return 0;
}

static int relocate(struct elf_image *image, uint8_t *dest, uint64_t base)
{
	for (uint64_t i = 0; i < image->rela_count; i++) {
		struct elf_rela rela;
		uint64_t value;

		memcpy(&rela, dest + image->rela_vaddr + i * sizeof(rela), sizeof(rela));
		if (rela.info == R_X86_64_NONE)
			continue;
		if (rela.info != R_X86_64_RELATIVE) /* a symbol in the upper half is refused, too */
			return refuse(image, "a relocation is not R_X86_64_RELATIVE");
		if (!inside(rela.offset, sizeof(value), image->load_size))
			return refuse(image, "a relocation lies outside the image");
		value = base + (uint64_t)rela.addend;
		memcpy(dest + rela.offset, &value, sizeof(value));
	}
	return 0;
}

int elf_load(struct elf_image *image, void *dest, uint64_t base)
{
	uint8_t *out = dest;
	uint64_t done = 0;

	for (uint32_t i = 0; i < image->segment_count; i++) {
		const struct elf_segment *segment = &image->segments[i];

		memset(out + done, 0, segment->vaddr - done);
		memcpy(out + segment->vaddr, image->file + segment->file_offset, segment->file_size);
		done = segment->vaddr + segment->file_size;
	}
	memset(out + done, 0, image->load_size - done);
	return relocate(image, out, base);
}

/* The symbol table and its strings, checked to lie in the file. */
struct symbol_table {
	struct elf_header header;
	uint64_t symbols; /* file offsets */
	uint64_t count;
	uint64_t strings;
	uint64_t string_bytes;
};

static bool find_symbols(const struct elf_image *image, struct symbol_table *table)
{
	struct elf_section_header symbols, strings;

	memcpy(&table->header, image->file, sizeof(table->header));
	if (table->header.shentsize != sizeof(symbols) ||
	    !inside(table->header.shoff, (uint64_t)table->header.shnum * sizeof(symbols), image->file_size))
		return false;
	for (uint16_t i = 0; i < table->header.shnum; i++) {
		read_entry(image, table->header.shoff, i, &symbols, sizeof(symbols));
		if (symbols.type != SHT_SYMTAB || symbols.link >= table->header.shnum)
			continue;
		read_entry(image, table->header.shoff, symbols.link, &strings, sizeof(strings));
		if (strings.type != SHT_STRTAB || !inside(symbols.offset, symbols.size, image->file_size) ||
		    !inside(strings.offset, strings.size, image->file_size))
			return false;
		table->symbols = symbols.offset;
		table->count = symbols.size / sizeof(struct boot_symbol);
		table->strings = strings.offset;
		table->string_bytes = strings.size;
		return true;
	}
	return false;
}

/*
 * Functions, and labels of assembly code (NASM gives its globals no type). Returns the length of
 * the name without the NUL, 0 when the symbol is not wanted.
 */
static size_t wanted(const struct elf_image *image, const struct symbol_table *table,
		     const struct boot_symbol *symbol)
{
	struct elf_section_header section;
	const char *name;
	const char *end;
	unsigned int type = symbol->info & 0xf;

	if ((type != STT_FUNC && type != STT_NOTYPE) || symbol->section == 0 ||
	    symbol->section >= table->header.shnum || symbol->name >= table->string_bytes ||
	    symbol->value >= image->load_size)
		return 0;
	read_entry(image, table->header.shoff, symbol->section, &section, sizeof(section));
	if (!(section.flags & SHF_EXECINSTR))
		return 0;
	name = (const char *)image->file + table->strings + symbol->name;
	end = memchr(name, '\0', table->string_bytes - symbol->name);
	return end ? (size_t)(end - name) : 0;
}

/* The next symbol that is wanted, from *index on, which moves behind it; the length of its name, 0 at the end. */
static size_t next_symbol(const struct elf_image *image, const struct symbol_table *table, uint64_t *index,
			  struct boot_symbol *symbol)
{
	size_t name_len = 0;

	while (!name_len && *index < table->count) {
		read_entry(image, table->symbols, (*index)++, symbol, sizeof(*symbol));
		name_len = wanted(image, table, symbol);
	}
	return name_len;
}

struct elf_symbol_sizes elf_symbol_sizes(const struct elf_image *image)
{
	struct elf_symbol_sizes sizes = { 0, 0 };
	struct symbol_table table;
	struct boot_symbol symbol;
	uint64_t at = 0;
	size_t name_len;

	if (!find_symbols(image, &table))
		return sizes;
	while ((name_len = next_symbol(image, &table, &at, &symbol)) != 0) {
		sizes.count++;
		sizes.string_bytes += name_len + 1;
	}
	return sizes;
}

/*
 * Same address: the typed symbol (with a size) after the untyped, where a search for the last one
 * <= pc finds it.
 */
static bool before(const struct boot_symbol *a, const struct boot_symbol *b)
{
	if (a->value != b->value)
		return a->value < b->value;
	return (a->info & 0xf) < (b->info & 0xf);
}

/* Shell sort: a few thousand entries, no recursion, no extra memory. */
static void sort_symbols(struct boot_symbol *symbols, uint64_t count)
{
	uint64_t gap = 1;

	while (gap < count / 3)
		gap = gap * 3 + 1;
	for (; gap; gap /= 3) {
		for (uint64_t i = gap; i < count; i++) {
			struct boot_symbol moving = symbols[i];
			uint64_t at = i;

			for (; at >= gap && before(&moving, &symbols[at - gap]); at -= gap)
				symbols[at] = symbols[at - gap];
			symbols[at] = moving;
		}
	}
}

void elf_symbols(const struct elf_image *image, uint64_t base, struct boot_symbol *out, char *strings)
{
	struct symbol_table table;
	struct boot_symbol symbol;
	uint64_t at = 0, count = 0, used = 0;
	size_t name_len;

	if (!find_symbols(image, &table))
		return;
	while ((name_len = next_symbol(image, &table, &at, &symbol)) != 0) {
		memcpy(strings + used, image->file + table.strings + symbol.name, name_len + 1);
		symbol.name = (uint32_t)used;
		symbol.value += base;
		out[count++] = symbol;
		used += name_len + 1;
	}
	sort_symbols(out, count);
}
