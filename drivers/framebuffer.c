/* SPDX-License-Identifier: MIT */
/*
 * Text on a linear framebuffer. init() checks the sizes once, so that every cell of the text grid lies inside the
 * mapping whatever is written later. Pixels are only stored to: reading such memory back is very slow.
 */
#include <errno.h>
#include <trivet/framebuffer.h>

#define PIXELS_MAX 65536u
/* One font pixel becomes one screen pixel per this much width: 106 to 200 columns on usual screens. */
#define WIDTH_PER_SCALE 600u
#define DEFAULT_FOREGROUND 0xc8c8c8u
#define DEFAULT_BACKGROUND 0x000000u

static uint32_t pixel_value(const struct framebuffer *fb, uint32_t rgb)
{
	if (fb->blue_first)
		return rgb & 0xffffff;
	return (rgb & 0xff) << 16 | (rgb & 0xff00) | (rgb >> 16 & 0xff);
}

void framebuffer_set_colors(struct framebuffer *fb, uint32_t foreground, uint32_t background)
{
	fb->foreground = pixel_value(fb, foreground);
	fb->background = pixel_value(fb, background);
}

int framebuffer_init(struct framebuffer *fb, const struct boot_framebuffer *boot, volatile void *mapping)
{
	uint32_t scale = boot->width / WIDTH_PER_SCALE;

	*fb = (struct framebuffer){ 0 };
	if (!boot->base_hpa)
		return -ENODEV;
	if (!mapping || !boot->width || !boot->height || boot->width > boot->pixels_per_line)
		return -EINVAL;
	if (boot->height > PIXELS_MAX || boot->pixels_per_line > PIXELS_MAX)
		return -EINVAL;
	if (((uint64_t)(boot->height - 1) * boot->pixels_per_line + boot->width) * 4 > boot->size)
		return -EINVAL;

	fb->pixels = mapping;
	fb->width = boot->width;
	fb->height = boot->height;
	fb->stride = boot->pixels_per_line;
	fb->blue_first = boot->blue_first != 0;
	fb->scale = scale ? scale : 1;
	fb->columns = fb->width / (FONT_CELL_WIDTH * fb->scale);
	fb->rows = fb->height / (FONT_CELL_HEIGHT * fb->scale);
	if (!fb->columns || !fb->rows)
		return -EINVAL;
	framebuffer_set_colors(fb, DEFAULT_FOREGROUND, DEFAULT_BACKGROUND);
	return 0;
}

/* Paints `count` lines of pixels from `y`, over the full width. */
static void paint_lines(struct framebuffer *fb, uint32_t y, uint32_t count)
{
	for (; count; y++, count--) {
		volatile uint32_t *line = fb->pixels + (size_t)y * fb->stride;

		for (uint32_t x = 0; x < fb->width; x++)
			line[x] = fb->background;
	}
}

static void clear_row(struct framebuffer *fb, uint32_t row)
{
	uint32_t cell = FONT_CELL_HEIGHT * fb->scale;

	paint_lines(fb, row * cell, cell);
}

void framebuffer_clear(struct framebuffer *fb)
{
	paint_lines(fb, 0, fb->height);
	fb->column = 0;
	fb->row = 0;
}

/* The row after the new one is emptied: it shows where the text ends once it has wrapped to the top. */
static void new_line(struct framebuffer *fb)
{
	fb->column = 0;
	fb->row = (fb->row + 1) % fb->rows;
	clear_row(fb, (fb->row + 1) % fb->rows);
}

/* One row of a cell's font pixels, as `scale` lines of screen pixels. */
static void draw_cell_row(struct framebuffer *fb, uint32_t x, uint32_t y, uint32_t bits)
{
	for (uint32_t line = 0; line < fb->scale; line++) {
		volatile uint32_t *p = fb->pixels + (size_t)(y + line) * fb->stride + x;

		for (uint32_t column = 0; column < FONT_CELL_WIDTH; column++) {
			bool set = column < FONT_WIDTH && bits >> (FONT_WIDTH - 1 - column) & 1;

			for (uint32_t i = 0; i < fb->scale; i++)
				*p++ = set ? fb->foreground : fb->background;
		}
	}
}

static void draw_char(struct framebuffer *fb, uint8_t c)
{
	uint32_t x = fb->column * FONT_CELL_WIDTH * fb->scale;
	uint32_t y = fb->row * FONT_CELL_HEIGHT * fb->scale;
	const uint8_t *rows = font_rows[(c < FONT_FIRST || c > FONT_LAST ? (uint32_t)'?' : c) - FONT_FIRST];

	for (uint32_t i = 0; i < FONT_CELL_HEIGHT; i++)
		draw_cell_row(fb, x, y + i * fb->scale, i < FONT_HEIGHT ? rows[i] : 0);
}

void framebuffer_write(struct framebuffer *fb, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\n') {
			new_line(fb);
			continue;
		}
		if (fb->column == fb->columns)
			new_line(fb);
		draw_char(fb, (uint8_t)text[i]);
		fb->column++;
	}
}
