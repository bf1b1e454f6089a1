/* SPDX-License-Identifier: MIT */
/*
 * Text on a linear 32-bit framebuffer, for the log before launch and for panic. The memory is slow and may be uncached:
 * it is only written, never read, so the text does not scroll but starts again at the top, with an empty line ahead of
 * the newest.
 */
#ifndef TRIVET_FRAMEBUFFER_H
#define TRIVET_FRAMEBUFFER_H

#include <trivet/boot_handoff.h>
#include <trivet/types.h>

#define FONT_FIRST 32u
#define FONT_LAST 126u
#define FONT_WIDTH 5u	     /* pixels; bit 4 of a row is the leftmost */
#define FONT_HEIGHT 8u	     /* seven rows and one for descenders */
#define FONT_CELL_WIDTH 6u   /* with the gap to the next character */
#define FONT_CELL_HEIGHT 10u /* with the gap to the next line */

extern const uint8_t font_rows[FONT_LAST - FONT_FIRST + 1][FONT_HEIGHT];

struct framebuffer {
	volatile uint32_t *pixels;
	uint32_t width;	 /* pixels */
	uint32_t height; /* pixels */
	uint32_t stride; /* pixels per line in memory */
	uint32_t scale;	 /* screen pixels per font pixel */
	uint32_t columns;
	uint32_t rows;
	uint32_t column;
	uint32_t row;
	uint32_t foreground; /* pixel values */
	uint32_t background;
	bool blue_first; /* BGRX in memory */
};

/*
 * Takes the framebuffer that `boot` describes, mapped writable at `mapping` for boot->size bytes. Draws nothing yet.
 * -ENODEV: base_hpa is 0; -EINVAL: the sizes don't fit each other, or it is too small for one line of text.
 */
int framebuffer_init(struct framebuffer *fb, const struct boot_framebuffer *boot, volatile void *mapping);

/* Paints everything in the background colour and goes to the top. */
void framebuffer_clear(struct framebuffer *fb);

/* The colours of what follows, 0xrrggbb. */
void framebuffer_set_colors(struct framebuffer *fb, uint32_t foreground, uint32_t background);

/* Draws text; '\n' starts a line, long lines wrap, bytes without a glyph come out as '?'. */
void framebuffer_write(struct framebuffer *fb, const char *text, size_t length);

#endif
