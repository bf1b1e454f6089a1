/* fuzz: boot/config.c boot/text.c */
/* SPDX-License-Identifier: MIT */
/*
 * The configuration parser on arbitrary bytes: it stays inside its buffers, its results keep their
 * ranges, and every complaint is one printable-length line about a line that exists.
 */
#include <stdlib.h>
#include <string.h>

#include "../../boot/config.h"
#include "../../boot/text.h"

#include <trivet/assert.h>
#include <trivet/boot_handoff.h>
#include <trivet/log.h>

struct seen {
	unsigned int complaints;
	unsigned int lines;
};

static void check_report(void *ctx, unsigned int line, const char *reason)
{
	struct seen *seen = ctx;

	seen->complaints++;
	ASSERT(line >= 1 && line <= seen->lines);
	ASSERT(strlen(reason) > 0 && strlen(reason) < 200 && !strchr(reason, '\n'));
}

static void check_string(const char *text, size_t size)
{
	uint16_t units[CONFIG_CMDLINE_SIZE];
	const char *end = memchr(text, '\0', size);

	ASSERT(end);
	ASSERT(text_utf8_to_utf16(units, CONFIG_CMDLINE_SIZE, text, (size_t)(end - text)) >= 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct boot_config config;
	struct seen seen = { 0, 1 };
	unsigned int count;

	for (size_t i = 0; i < size; i++)
		seen.lines += data[i] == '\n';
	config_defaults(&config);
	count = config_parse(&config, (const char *)data, size, check_report, &seen);
	ASSERT(count == seen.complaints);
	check_string(config.root, sizeof(config.root));
	check_string(config.cmdline, sizeof(config.cmdline));
	ASSERT(config.initrd_count <= CONFIG_INITRDS_MAX);
	for (uint32_t i = 0; i < config.initrd_count; i++) {
		check_string(config.initrd[i], sizeof(config.initrd[i]));
		ASSERT(config.initrd[i][0] == '\\');
	}
	ASSERT(!config.root[0] || config.root[0] == '\\');
	ASSERT(config.memory_size <= HV_SIZE_MAX && IS_ALIGNED(config.memory_size, SIZE_2M));
	ASSERT(config.log_level <= LOG_DEBUG);
	return 0;
}
