/* unit: boot/elf_load.c boot/memory_map.c */
/* SPDX-License-Identifier: MIT */
/*
 * What the loader does with the hypervisor's image and with the firmware's memory map: right
 * results on good input (an ELF file made here, field by field), a refusal on each kind of bad
 * input, and no byte outside the buffers on random damage.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <elf.h>

#include <cmocka.h>

#include "../../boot/elf_load.h"
#include "../../boot/memory_map.h"

/* ---- an image like the hypervisor's: text, data with relocations, bss; symbols behind it ---- */

enum { RELAS = 3, SYMBOLS = 10, SECTIONS = 5 };

struct test_file {
	Elf64_Ehdr header;
	Elf64_Phdr segments[3];
	Elf64_Dyn dynamic[4];
	Elf64_Rela rela[RELAS];
	Elf64_Sym symbols[SYMBOLS];
	char strings[64];
	Elf64_Shdr sections[SECTIONS];
	uint8_t text[64];
	uint64_t data[4];
};

#define TEXT_VADDR 0
#define DATA_VADDR 0x2000
#define DATA_MEMORY 0x1800 /* with bss */
#define BASE HV_VIRT_BASE

static struct test_file file;
static uint8_t *dest;

static Elf64_Sym symbol(const char *name, uint8_t type, uint16_t section, uint64_t value, uint64_t size)
{
	static uint32_t used = 1;
	Elf64_Sym sym = { 0 };

	if (!name) {
		used = 1;
		return sym;
	}
	sym = (Elf64_Sym){ used, (uint8_t)(STB_GLOBAL << 4 | type), 0, section, value, size };
	strcpy(file.strings + used, name);
	used += (uint32_t)strlen(name) + 1;
	return sym;
}

static void make_symbols(void)
{
	file.symbols[0] = symbol(NULL, 0, 0, 0, 0);
	file.symbols[1] = symbol("last", STT_FUNC, 1, 0x30, 4);
	file.symbols[2] = symbol("entry", STT_FUNC, 1, 0x10, 0x20);
	file.symbols[3] = symbol("object", STT_OBJECT, 2, DATA_VADDR, 8);
	file.symbols[4] = symbol("label", STT_NOTYPE, 1, 0x20, 0);
	file.symbols[5] = symbol("undefined", STT_FUNC, 0, 0, 0);
	file.symbols[6] = symbol("start", STT_NOTYPE, 1, 0x10, 0);
	file.symbols[7] = symbol("datalabel", STT_NOTYPE, 2, DATA_VADDR, 0);
	file.symbols[8] = symbol("far", STT_FUNC, 1, 0x40000000, 0);
	/* Its name lies outside the strings. */
	file.symbols[9] = (Elf64_Sym){ 5000, STT_FUNC, 0, 1, 0x18, 1 };
}

static void make_file(void)
{
	const uint64_t text_offset = offsetof(struct test_file, text),
		       data_offset = offsetof(struct test_file, data);
	const uint64_t rela_offset = offsetof(struct test_file, rela);

	memset(&file, 0, sizeof(file));
	memcpy(file.header.e_ident, "\177ELF\2\1\1", 7);
	file.header.e_type = ET_DYN;
	file.header.e_machine = EM_X86_64;
	file.header.e_version = 1;
	file.header.e_entry = 0x10;
	file.header.e_phoff = offsetof(struct test_file, segments);
	file.header.e_phentsize = sizeof(Elf64_Phdr);
	file.header.e_phnum = 3;
	file.header.e_shoff = offsetof(struct test_file, sections);
	file.header.e_shentsize = sizeof(Elf64_Shdr);
	file.header.e_shnum = SECTIONS;
	/*
	 * The data segment begins with the relocation table's bytes, so that the table is in
	 * memory; then the data.
	 */
	file.segments[0] =
		(Elf64_Phdr){ PT_LOAD, PF_R | PF_X, text_offset, TEXT_VADDR, TEXT_VADDR, 64, 64, 0x1000 };
	file.segments[1] =
		(Elf64_Phdr){ PT_LOAD,	   PF_R | PF_W, rela_offset,
			      DATA_VADDR,  DATA_VADDR,	data_offset + sizeof(file.data) - rela_offset,
			      DATA_MEMORY, 0x1000 };
	file.segments[2] = (Elf64_Phdr){
		PT_DYNAMIC,	      PF_R, offsetof(struct test_file, dynamic), 0, 0, sizeof(file.dynamic),
		sizeof(file.dynamic), 8
	};
	file.dynamic[0] = (Elf64_Dyn){ DT_RELA, { DATA_VADDR } };
	file.dynamic[1] = (Elf64_Dyn){ DT_RELASZ, { sizeof(file.rela) } };
	file.dynamic[2] = (Elf64_Dyn){ DT_RELAENT, { sizeof(Elf64_Rela) } };
	file.rela[0] = (Elf64_Rela){ DATA_VADDR + data_offset - rela_offset, R_X86_64_RELATIVE, 0x10 };
	file.rela[1] =
		(Elf64_Rela){ DATA_VADDR + data_offset - rela_offset + 20, R_X86_64_RELATIVE, DATA_VADDR };
	file.rela[2] = (Elf64_Rela){ 0, R_X86_64_NONE, 0 };
	file.sections[0].sh_flags = SHF_EXECINSTR; /* section 0 means none, whatever it says */
	file.sections[1] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR };
	file.sections[2] = (Elf64_Shdr){ .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_WRITE };
	file.sections[3] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB,
					 .sh_offset = offsetof(struct test_file, symbols),
					 .sh_size = sizeof(file.symbols),
					 .sh_link = 4 };
	file.sections[4] = (Elf64_Shdr){ .sh_type = SHT_STRTAB,
					 .sh_offset = offsetof(struct test_file, strings),
					 .sh_size = sizeof(file.strings) };
	memset(file.text, 0x90, sizeof(file.text));
	file.data[1] = 0x1111111111111111;
	file.data[3] = 0x3333333333333333;
	make_symbols();
}

static int set_up(void **state)
{
	(void)state;
	make_file();
	dest = malloc(0x4000);
	memset(dest, 0xaa, 0x4000); /* firmware memory is not zero */
	return dest ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	free(dest);
	return 0;
}

static uint64_t word_at(uint64_t offset)
{
	uint64_t value;

	memcpy(&value, dest + offset, sizeof(value));
	return value;
}

static void test_good_image(void **state)
{
	const uint64_t data =
		DATA_VADDR + offsetof(struct test_file, data) - offsetof(struct test_file, rela);
	struct elf_image image;

	(void)state;
	assert_int_equal(elf_check(&image, &file, sizeof(file)), 0);
	assert_int_equal(image.load_size, 0x4000);
	assert_int_equal(image.entry, 0x10);
	assert_int_equal(image.segment_count, 2);
	assert_int_equal(image.rela_count, RELAS);
	assert_int_equal(elf_load(&image, dest, BASE), 0);
	assert_int_equal(dest[0], 0x90);
	assert_int_equal(dest[63], 0x90);
	for (size_t i = 64; i < DATA_VADDR; i++)
		assert_int_equal(dest[i], 0); /* the gap */
	assert_int_equal(word_at(data), BASE + 0x10);
	assert_int_equal(word_at(data + 20), BASE + DATA_VADDR); /* unaligned, across two words */
	assert_int_equal(word_at(data + 8), 0x1111111111111111);
	for (size_t i = data + 32; i < 0x4000; i++)
		assert_int_equal(dest[i], 0); /* bss, to the end of the page */
}

static void test_symbols(void **state)
{
	struct elf_symbol_sizes sizes;
	struct elf_image image;
	struct boot_symbol *symbols;
	char *strings;
	static const struct {
		const char *name;
		uint64_t value, size;
	} wanted[] = {
		{ "start", 0x10, 0 }, { "entry", 0x10, 0x20 }, { "label", 0x20, 0 }, { "last", 0x30, 4 }
	};

	(void)state;
	assert_int_equal(elf_check(&image, &file, sizeof(file)), 0);
	sizes = elf_symbol_sizes(&image);
	assert_int_equal(sizes.count, ARRAY_SIZE(wanted));
	assert_int_equal(sizes.string_bytes,
			 sizeof("start") + sizeof("entry") + sizeof("label") + sizeof("last"));
	symbols = malloc(sizes.count * sizeof(*symbols));
	strings = malloc(sizes.string_bytes);
	elf_symbols(&image, BASE, symbols, strings);
	for (size_t i = 0; i < ARRAY_SIZE(wanted); i++) {
		assert_string_equal(strings + symbols[i].name, wanted[i].name);
		assert_int_equal(symbols[i].value, BASE + wanted[i].value);
		assert_int_equal(symbols[i].size, wanted[i].size);
	}
	free(symbols);
	free(strings);
}

static void test_many_symbols_are_sorted(void **state)
{
	enum { MANY = 3000 };
	const size_t table = sizeof(file), size = table + MANY * sizeof(Elf64_Sym);
	uint8_t *big = malloc(size);
	struct boot_symbol *symbols = malloc(MANY * sizeof(*symbols));
	char *strings = malloc(MANY * 6);
	struct elf_image image;
	uint32_t random = 1;

	(void)state;
	file.sections[3].sh_offset = table;
	file.sections[3].sh_size = MANY * sizeof(Elf64_Sym);
	memcpy(big, &file, sizeof(file));
	for (size_t i = 0; i < MANY; i++) {
		Elf64_Sym sym = file.symbols[2]; /* "entry" */

		random = random * 1664525u + 1013904223u;
		sym.st_value = random >> 19;
		memcpy(big + table + i * sizeof(sym), &sym, sizeof(sym));
	}
	assert_int_equal(elf_check(&image, big, size), 0);
	assert_int_equal(elf_symbol_sizes(&image).count, MANY);
	assert_int_equal(elf_symbol_sizes(&image).string_bytes, MANY * 6);
	elf_symbols(&image, BASE, symbols, strings);
	for (size_t i = 1; i < MANY; i++)
		assert_true(symbols[i - 1].value <= symbols[i].value);
	free(strings);
	free(symbols);
	free(big);
}

static void test_no_symbols(void **state)
{
	struct elf_image image;

	(void)state;
	file.header.e_shnum = 0;
	assert_int_equal(elf_check(&image, &file, sizeof(file)), 0);
	assert_int_equal(elf_symbol_sizes(&image).count, 0);
	make_file();
	file.header.e_shoff = sizeof(file) - 64; /* table runs out of the file */
	assert_int_equal(elf_check(&image, &file, sizeof(file)), 0);
	assert_int_equal(elf_symbol_sizes(&image).count, 0);
	make_file();
	file.sections[4].sh_size = 1u << 30;
	assert_int_equal(elf_check(&image, &file, sizeof(file)), 0);
	assert_int_equal(elf_symbol_sizes(&image).count, 0);
	make_file();
	file.sections[3].sh_link = 99;
	assert_int_equal(elf_symbol_sizes(&image).count, 0);
	memset(file.strings, 'x', sizeof(file.strings)); /* no name ends */
	file.sections[3].sh_link = 4;
	assert_int_equal(elf_symbol_sizes(&image).count, 0);
}

#define ASSERT_REFUSED(change, why)                                               \
	do {                                                                      \
		struct elf_image bad;                                             \
		make_file();                                                      \
		change;                                                           \
		assert_int_equal(elf_check(&bad, &file, sizeof(file)), -ENOEXEC); \
		assert_string_equal(bad.error, why);                              \
	} while (0)

static void test_refusals(void **state)
{
	(void)state;
	ASSERT_REFUSED(file.header.e_ident[0] = 0, "not a 64-bit little-endian ELF file");
	ASSERT_REFUSED(file.header.e_ident[EI_CLASS] = 1, "not a 64-bit little-endian ELF file");
	ASSERT_REFUSED(file.header.e_type = ET_EXEC, "not a position-independent x86-64 image");
	ASSERT_REFUSED(file.header.e_machine = EM_386, "not a position-independent x86-64 image");
	ASSERT_REFUSED(file.header.e_phoff = sizeof(file), "the program headers lie outside the file");
	ASSERT_REFUSED(file.header.e_phoff = UINT64_MAX - 8, "the program headers lie outside the file");
	ASSERT_REFUSED(file.header.e_phnum = 0xffff, "the program headers lie outside the file");
	ASSERT_REFUSED(file.header.e_phentsize = 32, "the program headers lie outside the file");
	ASSERT_REFUSED(file.header.e_phnum = 0, "there is nothing to load");
	ASSERT_REFUSED(file.header.e_entry = 64, "the entry point is not in an executable segment");
	ASSERT_REFUSED(file.header.e_entry = DATA_VADDR, "the entry point is not in an executable segment");
	ASSERT_REFUSED(file.segments[2].p_type = PT_INTERP, "the image needs an interpreter");
	ASSERT_REFUSED(file.segments[1].p_offset = sizeof(file), "a segment lies outside the file");
	ASSERT_REFUSED(file.segments[1].p_offset = UINT64_MAX, "a segment lies outside the file");
	ASSERT_REFUSED(file.segments[1].p_filesz = DATA_MEMORY + 1, "a segment lies outside the file");
	ASSERT_REFUSED(file.segments[1].p_memsz = 16, "a segment has an impossible size");
	ASSERT_REFUSED(file.segments[1].p_memsz = HV_SIZE_MAX, "a segment has an impossible size");
	ASSERT_REFUSED(file.segments[1].p_vaddr = UINT64_MAX - 0xfff, "a segment has an impossible size");
	ASSERT_REFUSED(file.segments[0].p_vaddr = 0x1000, "the image is not linked at address 0");
	ASSERT_REFUSED(file.segments[1].p_vaddr = 32, "segments overlap or are out of order");
	ASSERT_REFUSED(file.dynamic[3].d_tag = DT_NEEDED, "the image needs a shared library");
	ASSERT_REFUSED(file.dynamic[0] = ((Elf64_Dyn){ DT_PLTRELSZ, { 24 } }),
		       "the image has relocations of a kind that the loader does not know");
	ASSERT_REFUSED(file.dynamic[1].d_un.d_val = 25, "the relocation table has an impossible size");
	ASSERT_REFUSED(file.dynamic[2].d_un.d_val = 16, "the relocation table has an impossible size");
	ASSERT_REFUSED(file.dynamic[1].d_un.d_val = 24ull << 20,
		       "the relocation table lies outside the image");
	ASSERT_REFUSED(file.dynamic[0].d_un.d_val = UINT64_MAX - 64,
		       "the relocation table lies outside the image");
	ASSERT_REFUSED(file.segments[2].p_offset = sizeof(file), "the dynamic section lies outside the file");
}

static void test_short_files(void **state)
{
	(void)state;
	for (size_t size = 0; size < sizeof(file.header) + sizeof(file.segments); size++) {
		struct elf_image image;
		uint8_t *cut = malloc(size ? size : 1);

		memcpy(cut, &file, size);
		assert_int_equal(elf_check(&image, cut, size), -ENOEXEC);
		free(cut);
	}
}

static void test_bad_relocations(void **state)
{
	struct elf_image image;

	(void)state;
	file.rela[1].r_info = R_X86_64_64;
	assert_int_equal(elf_check(&image, &file, sizeof(file)), 0);
	assert_int_equal(elf_load(&image, dest, BASE), -ENOEXEC);
	assert_string_equal(image.error, "a relocation is not R_X86_64_RELATIVE");
	file.rela[1].r_info = R_X86_64_RELATIVE | 1ull << 32;
	assert_int_equal(elf_load(&image, dest, BASE), -ENOEXEC);
	file.rela[1].r_info = R_X86_64_RELATIVE;
	file.rela[1].r_offset = image.load_size - 7;
	assert_int_equal(elf_load(&image, dest, BASE), -ENOEXEC);
	assert_string_equal(image.error, "a relocation lies outside the image");
	file.rela[1].r_offset = UINT64_MAX;
	assert_int_equal(elf_load(&image, dest, BASE), -ENOEXEC);
	file.rela[1].r_offset = image.load_size - 8;
	assert_int_equal(elf_load(&image, dest, BASE), 0);
	assert_int_equal(word_at(image.load_size - 8), BASE + DATA_VADDR);
}

/* Random bytes in the headers and tables: ASan is the judge. */
static void test_random_damage(void **state)
{
	const char *env = getenv("SEED");
	uint64_t random = env ? strtoull(env, NULL, 0) : 88172645463325252ull;
	unsigned int loaded = 0;

	(void)state;
	print_message("SEED=%llu\n", (unsigned long long)random);
	for (int round = 0; round < 20000; round++) {
		struct elf_symbol_sizes sizes;
		struct elf_image image;

		make_file();
		for (unsigned int i = 0; i < 1 + random % 4; i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			((uint8_t *)&file)[(random >> 8) % offsetof(struct test_file, text)] =
				(uint8_t)random;
		}
		if (elf_check(&image, &file, sizeof(file)) || image.load_size > 1 << 20)
			continue;
		loaded++;
		dest = realloc(dest, image.load_size);
		(void)elf_load(&image, dest, BASE);
		sizes = elf_symbol_sizes(&image);
		struct boot_symbol *symbols = malloc(sizes.count * sizeof(*symbols) + 1);
		char *strings = malloc(sizes.string_bytes + 1);

		elf_symbols(&image, BASE, symbols, strings);
		free(symbols);
		free(strings);
	}
	assert_true(loaded > 1000);
}

/* ---- memory map ---- */

static struct boot_memory_range ranges[64];

static struct memory_map build(const struct memory_source *sources, size_t count)
{
	struct memory_map map = { ranges, 0, memory_map_capacity(count, 2) };

	assert_true(map.capacity <= ARRAY_SIZE(ranges));
	assert_int_equal(memory_map_build(&map, sources, count), 0);
	return map;
}

static void assert_map(const struct memory_map *map, const struct boot_memory_range *wanted, size_t count)
{
	assert_int_equal(map->count, count);
	assert_memory_equal(map->ranges, wanted, count * sizeof(*wanted));
}

static void test_map_of_a_pc(void **state)
{
	static const struct memory_source sources[] = {
		{ 0x100000, 0x700, 7 },		 { 0x0, 0xa0, 3 },
		{ 0x800000, 0x10, 10 },		 { 0x810000, 0x10, 9 },
		{ 0x820000, 0x10, 0 },		 { 0x830000, 0x7d0, 4 },
		{ 0xe0000000, 0x10000, 11 },	 { 0x100000000, 0x100, 7 },
		{ 0x1000000, 0x10, 6 },		 { 0x1010000, 0x10, 8 },
		{ 0x1020000, 0x10, 0x80000001 }, { 0x100100000, 0x100, 14 },
	};
	static const struct boot_memory_range wanted[] = {
		{ 0x0, 0xa0000, BOOT_MEMORY_RAM, 0 },
		{ 0x100000, 0x700000, BOOT_MEMORY_RAM, 0 },
		{ 0x800000, 0x30000, BOOT_MEMORY_FIRMWARE, 0 },
		{ 0x830000, 0x7d0000, BOOT_MEMORY_RAM, 0 },
		{ 0x1000000, 0x10000, BOOT_MEMORY_FIRMWARE, 0 },
		{ 0x1020000, 0x10000, BOOT_MEMORY_FIRMWARE, 0 },
		{ 0xe0000000, 0x10000000, BOOT_MEMORY_MMIO, 0 },
		{ 0x100000000, 0x200000, BOOT_MEMORY_RAM, 0 },
	};
	struct memory_map map = build(sources, ARRAY_SIZE(sources));

	(void)state;
	assert_map(&map, wanted, ARRAY_SIZE(wanted));
}

static void test_map_overlaps(void **state)
{
	static const struct memory_source sources[] = {
		{ 0x10000, 0x10, 11 }, /* MMIO in the middle of ... */
		{ 0x0, 0x40, 7 },      /* ... RAM, with ... */
		{ 0x18000, 0x10, 0 },  /* ... reserved over the end of the MMIO */
		{ 0x38000, 0x10, 4 },  /* RAM over the end of RAM */
	};
	static const struct boot_memory_range wanted[] = {
		{ 0x0, 0x10000, BOOT_MEMORY_RAM, 0 },
		{ 0x10000, 0x10000, BOOT_MEMORY_MMIO, 0 },
		{ 0x20000, 0x8000, BOOT_MEMORY_FIRMWARE, 0 },
		{ 0x28000, 0x20000, BOOT_MEMORY_RAM, 0 },
	};
	struct memory_map map = build(sources, ARRAY_SIZE(sources));

	(void)state;
	assert_map(&map, wanted, ARRAY_SIZE(wanted));
}

static void test_map_ignores_nonsense(void **state)
{
	static const struct memory_source sources[] = {
		{ 0x1000, 0, 7 },	   { 0x1800, 1, 7 }, { 0xfffffffffffff000, 2, 7 },
		{ 0x1000, UINT64_MAX, 7 }, { 0x2000, 1, 7 },
	};
	static const struct boot_memory_range wanted[] = { { 0x2000, 0x1000, BOOT_MEMORY_RAM, 0 } };
	struct memory_map map = build(sources, ARRAY_SIZE(sources));

	(void)state;
	assert_map(&map, wanted, 1);
	assert_int_equal(memory_map_build(&map, NULL, 0), 0);
	assert_int_equal(map.count, 0);
}

static void test_map_exclude(void **state)
{
	static const struct memory_source sources[] = { { 0x0, 0x10, 7 },
							{ 0x10000, 0x10, 0 },
							{ 0x20000, 0x10, 7 } };
	static const struct boot_memory_range middle[] = {
		{ 0x0, 0x4000, BOOT_MEMORY_RAM, 0 },
		{ 0x5000, 0xb000, BOOT_MEMORY_RAM, 0 },
		{ 0x10000, 0x10000, BOOT_MEMORY_FIRMWARE, 0 },
		{ 0x20000, 0x10000, BOOT_MEMORY_RAM, 0 },
	};
	static const struct boot_memory_range across[] = {
		{ 0x0, 0x4000, BOOT_MEMORY_RAM, 0 },
		{ 0x5000, 0x7000, BOOT_MEMORY_RAM, 0 },
		{ 0x28000, 0x8000, BOOT_MEMORY_RAM, 0 },
	};
	struct memory_map map = build(sources, ARRAY_SIZE(sources));

	(void)state;
	assert_int_equal(memory_map_exclude(&map, 0x4000, 0x1000), 0);
	assert_map(&map, middle, ARRAY_SIZE(middle));
	assert_int_equal(memory_map_exclude(&map, 0xc000, 0x1c000), 0); /* ends of two, all of one */
	assert_map(&map, across, ARRAY_SIZE(across));
	assert_int_equal(memory_map_exclude(&map, 0x100000, 0x1000), 0); /* nothing there */
	assert_map(&map, across, ARRAY_SIZE(across));
	assert_int_equal(memory_map_exclude(&map, 0x0, 0x4000), 0); /* exactly one */
	assert_map(&map, across + 1, 2);
	map.capacity = map.count;
	assert_int_equal(memory_map_exclude(&map, 0x6000, 0x1000), -ENOSPC);
}

static void test_map_no_room(void **state)
{
	static const struct memory_source sources[] = { { 0, 1, 7 }, { 0x2000, 1, 7 } };
	struct memory_map map = { ranges, 0, 1 };

	(void)state;
	assert_int_equal(memory_map_build(&map, sources, 2), -ENOSPC);
}

/* Against a map of pages: every page has the strictest kind that any line gives it. */
static void test_map_random(void **state)
{
	enum { PAGES = 64, LINES = 12 };
	static const uint32_t types[] = { 7, 0, 11, 8 };
	const char *env = getenv("SEED");
	uint64_t random = env ? strtoull(env, NULL, 0) : 362436069ull;

	(void)state;
	print_message("SEED=%llu\n", (unsigned long long)random);
	for (int round = 0; round < 5000; round++) {
		struct memory_source sources[LINES];
		uint32_t pages[PAGES] = { 0 };
		struct memory_map map;

		for (size_t i = 0; i < LINES; i++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			sources[i].base_hpa = (random % 48) << PAGE_SHIFT;
			sources[i].pages = (random >> 20) % 16;
			sources[i].type = types[(random >> 40) % 4];
			for (uint64_t p = random % 48; p < random % 48 + sources[i].pages; p++) {
				uint32_t kind = memory_kind_of_efi_type(sources[i].type);

				pages[p] = kind > pages[p] ? kind : pages[p];
			}
		}
		map = build(sources, LINES);
		pages[20] = 0;
		pages[21] = 0;
		assert_int_equal(memory_map_exclude(&map, 20 << PAGE_SHIFT, 2 << PAGE_SHIFT), 0);
		for (size_t i = 0; i < map.count; i++) {
			const struct boot_memory_range *range = &map.ranges[i];

			assert_true(!i || range[-1].base_hpa + range[-1].size <= range->base_hpa);
			assert_false(i && range[-1].base_hpa + range[-1].size == range->base_hpa &&
				     range[-1].kind == range->kind);
			for (uint64_t p = range->base_hpa >> PAGE_SHIFT;
			     p < (range->base_hpa + range->size) >> PAGE_SHIFT; p++) {
				assert_int_equal(pages[p], range->kind);
				pages[p] = 0;
			}
		}
		for (size_t p = 0; p < PAGES; p++)
			assert_int_equal(pages[p], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good_image, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_symbols, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_many_symbols_are_sorted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_symbols, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_short_files, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bad_relocations, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_random_damage, set_up, tear_down),
		cmocka_unit_test(test_map_of_a_pc),
		cmocka_unit_test(test_map_overlaps),
		cmocka_unit_test(test_map_ignores_nonsense),
		cmocka_unit_test(test_map_exclude),
		cmocka_unit_test(test_map_no_room),
		cmocka_unit_test(test_map_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
