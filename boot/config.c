/* SPDX-License-Identifier: MIT */
/*
 * Parser of trivet.conf: `key = value` lines. Keys stand in one table; each has a function that
 * checks its value completely before it changes anything, so that a bad line leaves the default (or
 * the earlier line) in place.
 */
#include "config.h"
#include "text.h"

#include <errno.h>
#include <string.h>

#include <trivet/boot_handoff.h>
#include <trivet/log.h>

enum { REASON_SIZE = 200, WORD_SHOWN_MAX = 60 };

struct slice {
	const char *at;
	size_t len;
};

struct parser {
	struct boot_config *config;
	config_report_fn report;
	void *ctx;
	unsigned int line;
	unsigned int complaints;
	uint32_t keys_seen;
	char reason[REASON_SIZE];
};

/* Returns 0, or -EINVAL with p->reason filled in. */
typedef int (*set_fn)(struct parser *p, struct slice value);

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct slice trim(struct slice s)
{
	while (s.len && is_blank(s.at[0])) {
		s.at++;
		s.len--;
	}
	while (s.len && is_blank(s.at[s.len - 1]))
		s.len--;
	return s;
}

static bool slice_is(struct slice s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* How much of a value to quote in a message. */
static int shown(struct slice s)
{
	return s.len > WORD_SHOWN_MAX ? WORD_SHOWN_MAX : (int)s.len;
}

/*
 * The next word of a list: words are separated by blanks, and by commas where `commas`. False at
 * the end.
 */
static bool next_word(struct slice *list, bool commas, struct slice *word)
{
	size_t n = 0;

	while (list->len && (is_blank(list->at[0]) || (commas && list->at[0] == ','))) {
		list->at++;
		list->len--;
	}
	while (n < list->len && !is_blank(list->at[n]) && !(commas && list->at[n] == ','))
		n++;
	*word = (struct slice){ list->at, n };
	list->at += n;
	list->len -= n;
	return n > 0;
}

/* Store an absolute path with backslashes; a relative one counts from the directory of the file. */
static int set_path(struct parser *p, char *out, struct slice value)
{
	bool absolute = value.at[0] == '\\' || value.at[0] == '/';
	size_t dir_len = absolute ? 0 : strlen(CONFIG_DIR);

	if (dir_len + value.len >= CONFIG_PATH_SIZE) {
		text_format(p->reason, REASON_SIZE, "the path is longer than %u bytes", CONFIG_PATH_SIZE - 1);
		return -EINVAL;
	}
	memcpy(out, CONFIG_DIR, dir_len);
	for (size_t i = 0; i < value.len; i++)
		out[dir_len + i] = value.at[i] == '/' ? '\\' : value.at[i];
	out[dir_len + value.len] = '\0';
	return 0;
}

static int set_root(struct parser *p, struct slice value)
{
	if (!value.len || slice_is(value, "firmware")) {
		p->config->root[0] = '\0';
		return 0;
	}
	return set_path(p, p->config->root, value);
}

static int set_initrd(struct parser *p, struct slice value)
{
	struct slice list = value;
	struct slice word;
	uint32_t count = 0;
	char scratch[CONFIG_PATH_SIZE];

	while (next_word(&list, false, &word)) {
		if (++count > CONFIG_INITRDS_MAX) {
			text_format(p->reason, REASON_SIZE, "more than %u initrds", CONFIG_INITRDS_MAX);
			return -EINVAL;
		}
		if (set_path(p, scratch, word))
			return -EINVAL;
	}
	for (count = 0; next_word(&value, false, &word); count++)
		(void)set_path(p, p->config->initrd[count], word); /* was checked above */
	p->config->initrd_count = count;
	return 0;
}

static int set_cmdline(struct parser *p, struct slice value)
{
	if (value.len >= CONFIG_CMDLINE_SIZE) {
		text_format(p->reason, REASON_SIZE, "the command line is longer than %u bytes",
			    CONFIG_CMDLINE_SIZE - 1);
		return -EINVAL;
	}
	memcpy(p->config->cmdline, value.at, value.len);
	p->config->cmdline[value.len] = '\0';
	return 0;
}

static int set_root_interface(struct parser *p, struct slice value)
{
	if (slice_is(value, "transparent")) {
		p->config->root_interface = BOOT_ROOT_TRANSPARENT;
	} else if (slice_is(value, "hv")) {
		p->config->root_interface = BOOT_ROOT_HV;
	} else {
		text_format(p->reason, REASON_SIZE, "unknown root.interface '%.*s' (transparent, hv)",
			    shown(value), value.at);
		return -EINVAL;
	}
	return 0;
}

static int set_console(struct parser *p, struct slice value)
{
	enum config_uart uart = CONFIG_UART_NONE;
	bool framebuffer = false, none = false;
	struct slice word;
	unsigned int words = 0, uarts = 0;

	for (; next_word(&value, true, &word); words++) {
		if (slice_is(word, "none")) {
			none = true;
		} else if (slice_is(word, "framebuffer")) {
			framebuffer = true;
		} else if (slice_is(word, "serial")) {
			uart = CONFIG_UART_AUTO;
			uarts++;
		} else if (slice_is(word, "com1")) {
			uart = CONFIG_UART_COM1;
			uarts++;
		} else if (slice_is(word, "com2")) {
			uart = CONFIG_UART_COM2;
			uarts++;
		} else {
			text_format(p->reason, REASON_SIZE,
				    "unknown console '%.*s' (serial, com1, com2, framebuffer, none)",
				    shown(word), word.at);
			return -EINVAL;
		}
	}
	if (!words || uarts > 1 || (none && words > 1)) {
		text_format(p->reason, REASON_SIZE, "%s",
			    !words ? "console needs a value" :
			    none   ? "console 'none' excludes the others" :
				     "only one of serial, com1, com2 can be the log's port");
		return -EINVAL;
	}
	p->config->uart = uart;
	p->config->log_framebuffer = framebuffer;
	return 0;
}

static int set_log_level(struct parser *p, struct slice value)
{
	static const struct {
		const char *name;
		uint32_t level;
	} levels[] = { { "error", LOG_ERROR },
		       { "warn", LOG_WARN },
		       { "info", LOG_INFO },
		       { "abi", LOG_ABI },
		       { "debug", LOG_DEBUG } };

	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (slice_is(value, levels[i].name)) {
			p->config->log_level = levels[i].level;
			return 0;
		}
	}
	text_format(p->reason, REASON_SIZE, "unknown log-level '%.*s' (error, warn, info, abi, debug)",
		    shown(value), value.at);
	return -EINVAL;
}

/* Bytes, or with a suffix K, M or G; no more than the hypervisor's window in the address space. */
static int set_memory(struct parser *p, struct slice value)
{
	uint64_t size = 0;
	unsigned int shift = 0;
	size_t i = 0;

	for (; i < value.len && value.at[i] >= '0' && value.at[i] <= '9' && size <= HV_SIZE_MAX; i++)
		size = size * 10 + (uint64_t)(value.at[i] - '0');
	if (i > 0 && i + 1 == value.len) {
		char suffix = (char)(value.at[i] & ~0x20);

		shift = suffix == 'K' ? 10 : suffix == 'M' ? 20 : suffix == 'G' ? 30 : 0;
		i += shift ? 1 : 0;
	}
	if (!value.len || (i < value.len && size <= HV_SIZE_MAX)) {
		text_format(p->reason, REASON_SIZE, "memory '%.*s' is not a size like 16M", shown(value),
			    value.at);
		return -EINVAL;
	}
	if (size > HV_SIZE_MAX >> shift || size << shift < SIZE_2M) {
		text_format(p->reason, REASON_SIZE, "memory '%.*s' is out of range (2M to 1G)", shown(value),
			    value.at);
		return -EINVAL;
	}
	p->config->memory_size = ALIGN_UP(size << shift, SIZE_2M);
	return 0;
}

static int set_no_virtualization(struct parser *p, struct slice value)
{
	if (slice_is(value, "boot")) {
		p->config->no_virtualization = CONFIG_NO_VIRT_BOOT;
	} else if (slice_is(value, "halt")) {
		p->config->no_virtualization = CONFIG_NO_VIRT_HALT;
	} else {
		text_format(p->reason, REASON_SIZE, "unknown no-virtualization '%.*s' (boot, halt)",
			    shown(value), value.at);
		return -EINVAL;
	}
	return 0;
}

static const struct {
	const char *name;
	set_fn set;
	bool verbatim; /* the value goes to the end of the line, '#' included */
} keys[] = {
	{ "root", set_root, false },	   { "initrd", set_initrd, false },
	{ "cmdline", set_cmdline, true },  { "root.interface", set_root_interface, false },
	{ "console", set_console, false }, { "log-level", set_log_level, false },
	{ "memory", set_memory, false },   { "no-virtualization", set_no_virtualization, false },
};

static void complain(struct parser *p)
{
	p->complaints++;
	if (p->report)
		p->report(p->ctx, p->line, p->reason);
}

static struct slice cut_comment(struct slice s)
{
	for (size_t i = 1; i < s.len; i++) {
		if (s.at[i] == '#' && is_blank(s.at[i - 1])) {
			s.len = i;
			break;
		}
	}
	return trim(s);
}

static int parse_pair(struct parser *p, struct slice key, struct slice value)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!slice_is(key, keys[i].name))
			continue;
		if (!keys[i].verbatim)
			value = cut_comment(value);
		if (keys[i].set(p, trim(value)))
			return -EINVAL;
		if (p->keys_seen & 1u << i) {
			text_format(p->reason, REASON_SIZE, "'%s' was set before; this line counts",
				    keys[i].name);
			complain(p);
		}
		p->keys_seen |= 1u << i;
		return 0;
	}
	text_format(p->reason, REASON_SIZE, "unknown key '%.*s'", shown(key), key.at);
	return -EINVAL;
}

/* Text that UEFI can take: no control characters but tabs, and well-formed UTF-8. */
static bool is_clean(struct slice s)
{
	uint16_t units[CONFIG_CMDLINE_SIZE + CONFIG_PATH_SIZE];

	for (size_t i = 0; i < s.len; i++) {
		if (((uint8_t)s.at[i] < 0x20 && !is_blank(s.at[i])) || s.at[i] == 0x7f)
			return false;
	}
	/* A line longer than any value can be is refused by its key, with a better reason. */
	return text_utf8_to_utf16(units, ARRAY_SIZE(units), s.at, s.len) != -EILSEQ;
}

static int parse_line(struct parser *p, struct slice line)
{
	const char *equals;

	line = trim(line);
	if (!line.len || line.at[0] == '#')
		return 0;
	if (!is_clean(line)) {
		text_format(p->reason, REASON_SIZE, "the line is not UTF-8 text");
		return -EINVAL;
	}
	equals = memchr(line.at, '=', line.len);
	if (!equals || equals == line.at) {
		text_format(p->reason, REASON_SIZE, "expected 'key = value'");
		return -EINVAL;
	}
	return parse_pair(p, trim((struct slice){ line.at, (size_t)(equals - line.at) }),
			  (struct slice){ equals + 1, line.len - (size_t)(equals - line.at) - 1 });
}

void config_defaults(struct boot_config *config)
{
	memset(config, 0, sizeof(*config));
	config->log_level = LOG_INFO;
	config->uart = CONFIG_UART_AUTO;
	config->no_virtualization = CONFIG_NO_VIRT_BOOT;
}

unsigned int config_parse(struct boot_config *config, const char *text, size_t size, config_report_fn report,
			  void *ctx)
{
	struct parser p = { .config = config, .report = report, .ctx = ctx };

	if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		size -= 3;
	}
	while (size) {
		const char *end = memchr(text, '\n', size);
		size_t len = end ? (size_t)(end - text) : size;

		p.line++;
		if (parse_line(&p, (struct slice){ text, len }))
			complain(&p);
		text += len + (end ? 1 : 0);
		size -= len + (end ? 1 : 0);
	}
	return p.complaints;
}
