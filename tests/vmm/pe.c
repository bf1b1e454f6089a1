/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "pe.h"

#define PAGE 4096u
#define IMAGE_MAX (64u << 20)
#define SECTION_HEADER 40u
#define DIRECTORY_RELOCATIONS 5u
#define RELOCATION_ABSOLUTE 0u
#define RELOCATION_DIR64 10u

/* A part of the file or the image; nothing is read beyond it. */
struct span {
	uint8_t *data;
	uint64_t bytes;
};

static bool within(uint64_t total, uint64_t offset, uint64_t bytes)
{
	return offset <= total && bytes <= total - offset;
}

static uint64_t number(const uint8_t *at, unsigned int bytes)
{
	uint64_t v = 0;

	memcpy(&v, at, bytes);
	return v;
}

/* The optional header, and the section table behind it. */
struct headers {
	const uint8_t *optional;
	uint32_t optional_bytes;
	const uint8_t *sections;
	uint32_t section_count;
};

static const char *find_headers(const uint8_t *file, size_t bytes, struct headers *h)
{
	uint64_t pe;

	if (bytes < 64 || memcmp(file, "MZ", 2) != 0)
		return "no MZ header";
	pe = number(file + 0x3c, 4);
	if (!within(bytes, pe, 24) || memcmp(file + pe, "PE\0\0", 4) != 0)
		return "no PE header";
	if (number(file + pe + 4, 2) != 0x8664)
		return "not for x86-64";
	h->section_count = (uint32_t)number(file + pe + 6, 2);
	h->optional_bytes = (uint32_t)number(file + pe + 20, 2);
	h->optional = file + pe + 24;
	if (!within(bytes, pe + 24, h->optional_bytes) || h->optional_bytes < 112 ||
	    number(h->optional, 2) != 0x20b)
		return "not PE32+";
	h->sections = h->optional + h->optional_bytes;
	if (!within(bytes, pe + 24 + h->optional_bytes, (uint64_t)h->section_count * SECTION_HEADER))
		return "sections are cut off";
	return NULL;
}

const char *pe_measure(const uint8_t *file, size_t file_bytes, struct pe_image *image)
{
	struct headers h;
	const char *wrong = find_headers(file, file_bytes, &h);
	uint64_t bytes;

	if (wrong)
		return wrong;
	bytes = number(h.optional + 56, 4);
	image->bytes = (bytes + PAGE - 1) / PAGE * PAGE;
	image->entry = number(h.optional + 16, 4);
	if (!bytes || image->bytes > IMAGE_MAX)
		return "a strange size";
	if (image->entry >= image->bytes)
		return "its entry lies outside";
	return NULL;
}

static const char *copy_sections(const uint8_t *file, size_t file_bytes, const struct headers *h,
				 struct span image)
{
	uint64_t header_bytes = number(h->optional + 60, 4);

	if (!within(file_bytes, 0, header_bytes) || !within(image.bytes, 0, header_bytes))
		return "headers are cut off";
	memcpy(image.data, file, header_bytes);
	for (uint32_t i = 0; i < h->section_count; i++) {
		const uint8_t *section = h->sections + (size_t)i * SECTION_HEADER;
		uint64_t size = number(section + 8, 4), address = number(section + 12, 4);
		uint64_t raw_size = number(section + 16, 4), raw = number(section + 20, 4);

		if (raw_size > size && size)
			raw_size = size;
		if (!within(image.bytes, address, raw_size > size ? raw_size : size) ||
		    !within(file_bytes, raw, raw_size))
			return "a section lies outside";
		memcpy(image.data + address, file + raw, raw_size);
	}
	return NULL;
}

/* One block of relocations: all in one page. */
static const char *relocate_block(struct span image, const uint8_t *block, uint64_t block_bytes,
				  uint64_t delta)
{
	uint64_t page = number(block, 4);

	for (uint64_t at = 8; at + 2 <= block_bytes; at += 2) {
		uint32_t entry = (uint32_t)number(block + at, 2);
		uint64_t target = page + (entry & 0xfff), v;

		if (entry >> 12 == RELOCATION_ABSOLUTE)
			continue;
		if (entry >> 12 != RELOCATION_DIR64)
			return "a relocation of another type";
		if (!within(image.bytes, target, 8))
			return "a relocation lies outside";
		v = number(image.data + target, 8) + delta;
		memcpy(image.data + target, &v, 8);
	}
	return NULL;
}

static const char *relocate(const struct headers *h, struct span image, uint64_t base)
{
	uint64_t delta = base - number(h->optional + 24, 8);
	uint64_t count = number(h->optional + 108, 4), at, end;
	const uint8_t *directory = h->optional + 112 + 8 * DIRECTORY_RELOCATIONS;

	if (count <= DIRECTORY_RELOCATIONS || h->optional_bytes < 112 + 8 * (DIRECTORY_RELOCATIONS + 1))
		return "no relocations";
	at = number(directory, 4);
	end = at + number(directory + 4, 4);
	if (!within(image.bytes, at, end - at))
		return "relocations lie outside";
	while (end - at >= 8) {
		uint64_t bytes = number(image.data + at + 4, 4);
		const char *wrong;

		if (bytes < 8 || bytes > end - at)
			return "a strange block of relocations";
		wrong = relocate_block(image, image.data + at, bytes, delta);
		if (wrong)
			return wrong;
		at += bytes;
	}
	return NULL;
}

const char *pe_load(const uint8_t *file, size_t file_bytes, uint8_t *memory, uint64_t base,
		    const struct pe_image *image)
{
	struct span span = { memory, image->bytes };
	struct headers h;
	const char *wrong = find_headers(file, file_bytes, &h);

	if (!wrong)
		wrong = copy_sections(file, file_bytes, &h, span);
	if (!wrong)
		wrong = relocate(&h, span, base);
	return wrong;
}
