/* unit: drivers/framebuffer.c drivers/font.c */
/* SPDX-License-Identifier: MIT */
/*
 * Text on the framebuffer: exact pixels of a character, wrap, bounds for odd sizes (the mapping is an exact
 * allocation, so ASan sees one pixel too many; the pixels between width and stride must stay untouched).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <trivet/framebuffer.h>

#define UNTOUCHED 0x5eadbeefu
#define FG 0x00c8c8c8u

static uint32_t *pixels;
static struct framebuffer fb;

static int make(uint32_t width, uint32_t height, uint32_t stride)
{
	size_t count = (size_t)(height - 1) * stride + width;
	struct boot_framebuffer boot = { .base_hpa = 0x80000000,
					 .size = count * 4,
					 .width = width,
					 .height = height,
					 .pixels_per_line = stride,
					 .blue_first = 1 };

	free(pixels);
	pixels = malloc(count * 4);
	for (size_t i = 0; i < count; i++)
		pixels[i] = UNTOUCHED;
	return framebuffer_init(&fb, &boot, pixels);
}

static int teardown(void **state)
{
	(void)state;
	free(pixels);
	pixels = NULL;
	return 0;
}

static void write_text(const char *text)
{
	framebuffer_write(&fb, text, strlen(text));
}

/* Reads a character cell back through the font: the character, 0 for none that fits. */
static char read_cell(uint32_t column, uint32_t row)
{
	uint8_t rows[FONT_CELL_HEIGHT] = { 0 };

	for (uint32_t y = 0; y < FONT_CELL_HEIGHT * fb.scale; y++) {
		for (uint32_t x = 0; x < FONT_CELL_WIDTH * fb.scale; x++) {
			size_t at = (size_t)(row * FONT_CELL_HEIGHT * fb.scale + y) * fb.stride +
				    column * FONT_CELL_WIDTH * fb.scale + x;
			uint32_t shift = FONT_CELL_WIDTH - 1 - x / fb.scale; /* bit 0 is the gap */

			assert_true(pixels[at] == 0 || pixels[at] == FG);
			if (y % fb.scale == 0 && x % fb.scale == 0)
				rows[y / fb.scale] =
					(uint8_t)(rows[y / fb.scale] | (pixels[at] == FG) << shift);
			else
				assert_int_equal(pixels[at] == FG, rows[y / fb.scale] >> shift & 1);
		}
	}
	for (uint32_t c = FONT_FIRST; c <= FONT_LAST; c++) {
		bool same = !rows[FONT_HEIGHT] && !rows[FONT_HEIGHT + 1];

		for (uint32_t i = 0; i < FONT_HEIGHT; i++)
			same = same && rows[i] == font_rows[c - FONT_FIRST][i] << 1;
		if (same)
			return (char)c;
	}
	return 0;
}

static void assert_row(uint32_t row, const char *text)
{
	char got[256] = { 0 };

	for (uint32_t i = 0; i < fb.columns; i++)
		got[i] = read_cell(i, row);
	assert_string_equal(got, text);
}

static void test_init(void **state)
{
	struct boot_framebuffer good = { 1, 800 * 600 * 4, 800, 600, 800, 1 }, b;
	uint32_t some;

	(void)state;
	assert_int_equal(framebuffer_init(&fb, &good, &some), 0);
	assert_int_equal(fb.columns, 133);
	assert_int_equal(fb.rows, 60);
	assert_int_equal(framebuffer_init(&fb, &good, NULL), -EINVAL);
#define BAD(field, value, error)                                             \
	do {                                                                 \
		b = good;                                                    \
		b.field = (value);                                           \
		assert_int_equal(framebuffer_init(&fb, &b, &some), (error)); \
	} while (0)
	BAD(base_hpa, 0, -ENODEV);
	BAD(size, 800 * 600 * 4 - 1, -EINVAL);
	BAD(size, 0, -EINVAL);
	BAD(width, 0, -EINVAL);
	BAD(width, 801, -EINVAL);
	BAD(width, 5, -EINVAL);
	BAD(height, 0, -EINVAL);
	BAD(height, 601, -EINVAL);
	BAD(height, 9, -EINVAL);
	BAD(height, 0xffffffffu, -EINVAL);
	BAD(pixels_per_line, 799, -EINVAL);
	BAD(pixels_per_line, 0xffffffffu, -EINVAL);
	b = (struct boot_framebuffer){ 1, UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX, 1 };
	assert_int_equal(framebuffer_init(&fb, &b, &some), -EINVAL);
	b = (struct boot_framebuffer){ 1, UINT64_MAX, 3840, 2160, 3840, 0 };
	assert_int_equal(framebuffer_init(&fb, &b, &some), 0);
	assert_int_equal(fb.scale, 6);
	assert_int_equal(fb.columns, 106);
}

static void test_one_character(void **state)
{
	static const char *const shape[FONT_CELL_HEIGHT] = {
		"#.....", "#.....", "#.....", "#.....", "#.....",
		"#.....", "#####.", "......", "......", "......"
	};

	(void)state;
	assert_int_equal(make(20, 21, 23), 0);
	framebuffer_clear(&fb);
	write_text("L");
	for (uint32_t y = 0; y < 21; y++) {
		for (uint32_t x = 0; x < (y < 20 ? 23u : 20u); x++) {
			bool set = y < 10 && x < 6 && shape[y][x] == '#';

			assert_int_equal(pixels[y * 23 + x], x >= 20 ? UNTOUCHED : set ? FG : 0);
		}
	}
}

static void test_colors(void **state)
{
	(void)state;
	assert_int_equal(make(20, 21, 20), 0);
	framebuffer_set_colors(&fb, 0xff112233u, 0x445566);
	write_text("L");
	assert_int_equal(pixels[0], 0x112233);
	assert_int_equal(pixels[1], 0x445566);
	fb.blue_first = false;
	fb.column = 0;
	framebuffer_set_colors(&fb, 0x112233, 0x445566);
	write_text("L");
	assert_int_equal(pixels[0], 0x332211);
	assert_int_equal(pixels[1], 0x665544);
}

static void test_every_glyph_differs(void **state)
{
	(void)state;
	for (uint32_t a = 0; a < ARRAY_SIZE(font_rows); a++) {
		for (uint32_t i = 0; i < FONT_HEIGHT; i++)
			assert_in_range(font_rows[a][i], 0, 31);
		for (uint32_t b = 0; b < a; b++)
			assert_memory_not_equal(font_rows[a], font_rows[b], FONT_HEIGHT);
	}
}

static void test_wrap(void **state)
{
	(void)state;
	assert_int_equal(make(5 * 6 + 3, 3 * 10 + 7, 40), 0);
	framebuffer_clear(&fb);
	write_text("abcdefg");
	assert_row(0, "abcde");
	assert_row(1, "fg   ");
	assert_row(2, "     ");
	write_text("\nhi\x01\xff\t");
	assert_row(2, "hi???");
	assert_row(0, "     "); /* emptied ahead of the text */
	write_text("\n");	/* back at the top */
	assert_row(1, "     ");
	assert_row(2, "hi???");
	write_text("12345");
	assert_row(0, "12345");
	write_text("\n"); /* a full line and its newline are one line */
	assert_int_equal(fb.row, 1);
	write_text("x");
	assert_row(1, "x    ");
	assert_row(2, "     ");
}

static void test_wrap_scaled(void **state)
{
	(void)state;
	assert_int_equal(make(1280, 3 * 20 + 5, 1291), 0);
	assert_int_equal(fb.scale, 2);
	framebuffer_clear(&fb);
	write_text("Trivet @ 0x7f\n{ok}");
	assert_int_equal(read_cell(7, 0), '@');
	assert_int_equal(read_cell(12, 0), 'f');
	assert_int_equal(read_cell(3, 1), '}');
}

/* Any size: nothing outside, nothing between the lines. */
static void test_sizes(void **state)
{
	(void)state;
	for (uint32_t width = 1; width < 40; width += 3) {
		for (uint32_t height = 1; height < 60; height += 7) {
			uint32_t stride = width + width % 5;
			int ret = make(width, height, stride);

			assert_int_equal(ret, width < 6 || height < 10 ? -EINVAL : 0);
			if (ret)
				continue;
			framebuffer_clear(&fb);
			for (int i = 0; i < 40; i++)
				write_text("Wgj|_\n#%@WWWWWWWWWWW");
			for (uint32_t y = 0; y + 1 < height; y++) {
				for (uint32_t x = width; x < stride; x++)
					assert_int_equal(pixels[(size_t)y * stride + x], UNTOUCHED);
			}
		}
	}
	assert_int_equal(make(6, 10, 6), 0); /* one cell */
	framebuffer_clear(&fb);
	write_text("ab\nc");
	assert_row(0, "c");
	assert_int_equal(make(1801, 47, 1803), 0); /* scale 3, one row */
	framebuffer_clear(&fb);
	write_text("q\nr");
	assert_int_equal(read_cell(0, 0), 'r');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_init),
		cmocka_unit_test_teardown(test_one_character, teardown),
		cmocka_unit_test_teardown(test_colors, teardown),
		cmocka_unit_test(test_every_glyph_differs),
		cmocka_unit_test_teardown(test_wrap, teardown),
		cmocka_unit_test_teardown(test_wrap_scaled, teardown),
		cmocka_unit_test_teardown(test_sizes, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
