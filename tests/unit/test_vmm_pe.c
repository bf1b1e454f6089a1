/* unit: tests/vmm/pe.c */
/* SPDX-License-Identifier: MIT */
/* The loader of tests/vmm: an image made here, every way to cut it or to bend its numbers, and where things end up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/vmm/pe.h"

#define PE 0x80u
#define OPTIONAL (PE + 24)
#define OPTIONAL_BYTES 240u
#define SECTIONS (OPTIONAL + OPTIONAL_BYTES)
#define HEADER_BYTES 0x400u
#define FILE_BYTES 0x1000u
#define IMAGE_BYTES 0x4000u
#define TEXT 0x1000u
#define DATA 0x2000u
#define RELOC 0x3000u
#define PREFERRED 0x10000u
#define BASE 0x123450000ull

static uint8_t file[FILE_BYTES];

static void put(size_t at, uint64_t v, unsigned int bytes)
{
	memcpy(file + at, &v, bytes);
}

static void section(unsigned int i, uint32_t address, uint32_t size, uint32_t raw, uint32_t raw_size)
{
	size_t at = SECTIONS + i * 40;

	put(at + 8, size, 4);
	put(at + 12, address, 4);
	put(at + 16, raw_size, 4);
	put(at + 20, raw, 4);
}

static int make(void **state)
{
	(void)state;
	memset(file, 0, sizeof(file));
	memcpy(file, "MZ", 2);
	put(0x3c, PE, 4);
	memcpy(file + PE, "PE\0\0", 4);
	put(PE + 4, 0x8664, 2);
	put(PE + 6, 3, 2);
	put(PE + 20, OPTIONAL_BYTES, 2);
	put(OPTIONAL, 0x20b, 2);
	put(OPTIONAL + 16, TEXT + 4, 4);
	put(OPTIONAL + 24, PREFERRED, 8);
	put(OPTIONAL + 56, IMAGE_BYTES - 100, 4);
	put(OPTIONAL + 60, HEADER_BYTES, 4);
	put(OPTIONAL + 108, 16, 4);
	put(OPTIONAL + 112 + 40, RELOC, 4);
	put(OPTIONAL + 112 + 44, 12, 4);
	section(0, TEXT, 0x10, 0x400, 0x200);
	section(1, DATA, 0x800, 0x600, 0x200);
	section(2, RELOC, 0x20, 0x800, 0x200);
	memset(file + 0x400, 0x90, 0x200);
	put(0x600 + 0x10, PREFERRED + TEXT, 8);
	put(0x800, DATA, 4);
	put(0x804, 12, 4);
	put(0x808, 10u << 12 | 0x10, 2);
	return 0;
}

static const char *load(uint8_t *memory, size_t bytes)
{
	struct pe_image image;
	const char *wrong = pe_measure(file, bytes, &image);

	if (wrong)
		return wrong;
	if (image.bytes != IMAGE_BYTES)
		return "another size";
	return pe_load(file, bytes, memory, BASE, &image);
}

/* Malloc'ed, so that ASan sees what lies outside. */
static const char *load_whole(size_t bytes)
{
	uint8_t *memory = calloc(1, IMAGE_BYTES), *copy = malloc(bytes ? bytes : 1);
	struct pe_image image;
	const char *wrong;

	memcpy(copy, file, bytes);
	wrong = pe_measure(copy, bytes, &image);
	if (!wrong && image.bytes == IMAGE_BYTES)
		wrong = pe_load(copy, bytes, memory, BASE, &image);
	free(copy);
	free(memory);
	return wrong;
}

static void loads_and_relocates(void **state)
{
	static uint8_t memory[IMAGE_BYTES];
	struct pe_image image;
	uint64_t pointer;

	(void)state;
	memset(memory, 0, sizeof(memory));
	assert_null(load(memory, sizeof(file)));
	assert_null(pe_measure(file, sizeof(file), &image));
	assert_int_equal(image.entry, TEXT + 4);
	assert_memory_equal(memory, file, HEADER_BYTES);
	assert_int_equal(memory[TEXT + 0xf], 0x90);
	assert_int_equal(memory[TEXT + 0x10], 0); /* the file's padding isn't the section's */
	memcpy(&pointer, memory + DATA + 0x10, 8);
	assert_int_equal(pointer, BASE + TEXT);
	assert_int_equal(memory[DATA + 0x7ff], 0);
}

static void refuses_cut_files(void **state)
{
	(void)state;
	for (size_t bytes = 0; bytes < 0x820; bytes++)
		assert_non_null(load_whole(bytes));
	assert_null(load_whole(0x820));
}

static void refuses_bent_numbers(void **state)
{
	static const struct {
		size_t at;
		uint64_t value;
		unsigned int bytes;
	} bends[] = {
		{ 0, 0, 1 },
		{ 0x3c, 0xffffffff, 4 },
		{ PE + 4, 0x14c, 2 },
		{ PE + 6, 0xffff, 2 },
		{ PE + 20, 0xffff, 2 },
		{ PE + 20, 100, 2 },
		{ OPTIONAL, 0x10b, 2 },
		{ OPTIONAL + 16, IMAGE_BYTES, 4 },
		{ OPTIONAL + 56, 0, 4 },
		{ OPTIONAL + 56, 0xffffffff, 4 },
		{ OPTIONAL + 60, 0xffffffff, 4 },
		{ OPTIONAL + 108, 5, 4 },
		{ OPTIONAL + 112 + 40, 0xfffffff0, 4 },
		{ OPTIONAL + 112 + 44, 0xffffffff, 4 },
		{ SECTIONS + 12, IMAGE_BYTES, 4 },
		{ SECTIONS + 8, 0xffffffff, 4 },
		{ SECTIONS + 20, 0xffffffff, 4 },
		{ 0x800, 0xfffffff0, 4 },
		{ 0x800, IMAGE_BYTES - 0x14, 4 },
		{ 0x804, 4, 4 },
		{ 0x804, 13, 4 },
		{ 0x808, 3u << 12 | 0x10, 2 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bends) / sizeof(bends[0]); i++) {
		make(NULL);
		put(bends[i].at, bends[i].value, bends[i].bytes);
		if (!load_whole(sizeof(file)))
			fail_msg("bend %zu was not refused", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(loads_and_relocates, make),
		cmocka_unit_test_setup(refuses_cut_files, make),
		cmocka_unit_test_setup(refuses_bent_numbers, make),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
