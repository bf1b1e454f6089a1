/* unit: boot/config.c boot/text.c */
/* SPDX-License-Identifier: MIT */
/*
 * The loader's configuration parser and its text helpers: every key, every complaint with its line,
 * and text that is not what a user would write.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../boot/config.h"
#include "../../boot/text.h"

#include <trivet/boot_handoff.h>
#include <trivet/log.h>
#include <trivet/types.h>

struct complaints {
	unsigned int count;
	unsigned int line[8];
	char reason[8][256];
};

static struct complaints complaints;

static void collect(void *ctx, unsigned int line, const char *reason)
{
	struct complaints *all = ctx;

	assert_true(all->count < 8);
	all->line[all->count] = line;
	snprintf(all->reason[all->count++], sizeof(all->reason[0]), "%s", reason);
}

static struct boot_config parse_bytes(const char *text, size_t size)
{
	static struct boot_config config;
	unsigned int count;
	char *exact = malloc(size ? size : 1); /* so that ASan sees a read past the end */

	assert_non_null(exact);
	memcpy(exact, text, size);
	memset(&complaints, 0, sizeof(complaints));
	config_defaults(&config);
	count = config_parse(&config, exact, size, collect, &complaints);
	free(exact);
	assert_int_equal(count, complaints.count);
	return config;
}

static struct boot_config parse(const char *text)
{
	return parse_bytes(text, strlen(text));
}

/* One bad line: the reason, and everything stays as it was. */
static void assert_refused(const char *text, const char *reason)
{
	static struct boot_config defaults;
	struct boot_config config = parse(text);

	config_defaults(&defaults);
	assert_int_equal(complaints.count, 1);
	assert_string_equal(complaints.reason[0], reason);
	assert_memory_equal(&config, &defaults, sizeof(config));
}

static void test_defaults(void **state)
{
	struct boot_config config = parse("");

	(void)state;
	assert_int_equal(complaints.count, 0);
	assert_string_equal(config.root, "");
	assert_int_equal(config.initrd_count, 0);
	assert_string_equal(config.cmdline, "");
	assert_int_equal(config.memory_size, 0);
	assert_int_equal(config.log_level, LOG_INFO);
	assert_int_equal(config.uart, CONFIG_UART_AUTO);
	assert_false(config.log_framebuffer);
	assert_int_equal(config.no_virtualization, CONFIG_NO_VIRT_BOOT);
	assert_int_equal(config.root_interface, BOOT_ROOT_TRANSPARENT);
}

static void test_root_interface(void **state)
{
	(void)state;
	assert_int_equal(parse("root.interface = hv").root_interface, BOOT_ROOT_HV);
	assert_int_equal(complaints.count, 0);
	assert_int_equal(parse("root.interface = transparent").root_interface, BOOT_ROOT_TRANSPARENT);
	assert_int_equal(complaints.count, 0);
	/* A bad line leaves what was set before. */
	assert_int_equal(parse("root.interface = hv\nroot.interface = yes").root_interface, BOOT_ROOT_HV);
	assert_int_equal(complaints.count, 1);
}

static void test_everything(void **state)
{
	struct boot_config config = parse("\xef\xbb\xbf# Trivet\r\n"
					  "\r\n"
					  "root = /EFI/debian/vmlinuz\r\n"
					  "  initrd\t=\tinitrd.img   \\boot\\more.img # two of them\r\n"
					  "cmdline = root=/dev/vda2 ro  quiet #1 \r\n"
					  "root.interface = hv\r\n"
					  "console = com1, framebuffer\r\n"
					  "log-level = debug # noisy\r\n"
					  "memory = 16M\r\n"
					  "no-virtualization=halt");

	(void)state;
	assert_int_equal(complaints.count, 0);
	assert_string_equal(config.root, "\\EFI\\debian\\vmlinuz");
	assert_int_equal(config.initrd_count, 2);
	assert_string_equal(config.initrd[0], "\\EFI\\trivet\\initrd.img");
	assert_string_equal(config.initrd[1], "\\boot\\more.img");
	assert_string_equal(config.cmdline, "root=/dev/vda2 ro  quiet #1");
	assert_int_equal(config.uart, CONFIG_UART_COM1);
	assert_true(config.log_framebuffer);
	assert_int_equal(config.root_interface, BOOT_ROOT_HV);
	assert_int_equal(config.log_level, LOG_DEBUG);
	assert_int_equal(config.memory_size, 16 << 20);
	assert_int_equal(config.no_virtualization, CONFIG_NO_VIRT_HALT);
}

static void test_bad_lines_leave_the_rest(void **state)
{
	struct boot_config config =
		parse("root = a.efi\nwhat is this\n\n# fine\n= x\ncolour = blue\nlog-level = warn\n");

	(void)state;
	assert_string_equal(config.root, "\\EFI\\trivet\\a.efi");
	assert_int_equal(config.log_level, LOG_WARN);
	assert_int_equal(complaints.count, 3);
	assert_int_equal(complaints.line[0], 2);
	assert_string_equal(complaints.reason[0], "expected 'key = value'");
	assert_int_equal(complaints.line[1], 5);
	assert_string_equal(complaints.reason[1], "expected 'key = value'");
	assert_int_equal(complaints.line[2], 6);
	assert_string_equal(complaints.reason[2], "unknown key 'colour'");
}

static void test_duplicate_last_wins(void **state)
{
	struct boot_config config =
		parse("root = a.efi\nroot = b.efi\nlog-level = nope\nlog-level = error\n");

	(void)state;
	assert_string_equal(config.root, "\\EFI\\trivet\\b.efi");
	assert_int_equal(config.log_level, LOG_ERROR);
	assert_int_equal(complaints.count, 2);
	assert_int_equal(complaints.line[0], 2);
	assert_string_equal(complaints.reason[0], "'root' was set before; this line counts");
	assert_int_equal(complaints.line[1], 3); /* a bad line does not count as the first */
}

static void test_root(void **state)
{
	(void)state;
	assert_string_equal(parse("root = firmware").root, "");
	assert_string_equal(parse("root =").root, "");
	assert_string_equal(parse("root = # none").root, "");
	assert_string_equal(parse("root = Shell.efi").root, "\\EFI\\trivet\\Shell.efi");
	assert_string_equal(parse("root = \\EFI\\de bian\\grub\xc3\xbc.efi").root,
			    "\\EFI\\de bian\\grub\xc3\xbc.efi");
	assert_int_equal(complaints.count, 0);
	assert_string_equal(parse("root = a.efi\nroot = firmware").root, "");
	assert_int_equal(complaints.count, 1);
}

static void test_console(void **state)
{
	static const struct {
		const char *text;
		enum config_uart uart;
		bool framebuffer;
	} good[] = {
		{ "console = serial", CONFIG_UART_AUTO, false },
		{ "console = none", CONFIG_UART_NONE, false },
		{ "console = com2", CONFIG_UART_COM2, false },
		{ "console = framebuffer", CONFIG_UART_NONE, true },
		{ "console = framebuffer com1", CONFIG_UART_COM1, true },
		{ "console = ,,serial,,framebuffer,", CONFIG_UART_AUTO, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct boot_config config = parse(good[i].text);

		assert_int_equal(complaints.count, 0);
		assert_int_equal(config.uart, good[i].uart);
		assert_int_equal(config.log_framebuffer, good[i].framebuffer);
	}
	assert_refused("console =", "console needs a value");
	assert_refused("console = com1, com2", "only one of serial, com1, com2 can be the log's port");
	assert_refused("console = none serial", "console 'none' excludes the others");
	assert_refused("console = com1, com3",
		       "unknown console 'com3' (serial, com1, com2, framebuffer, none)");
}

static void test_memory(void **state)
{
	(void)state;
	assert_int_equal(parse("memory = 2097152").memory_size, 2 << 20);
	assert_int_equal(parse("memory = 2097153").memory_size, 4 << 20);
	assert_int_equal(parse("memory = 4096k").memory_size, 4 << 20);
	assert_int_equal(parse("memory = 3m").memory_size, 4 << 20);
	assert_int_equal(parse("memory = 1G").memory_size, 1 << 30);
	assert_refused("memory = 1M", "memory '1M' is out of range (2M to 1G)");
	assert_refused("memory = 0", "memory '0' is out of range (2M to 1G)");
	assert_refused("memory = 1025M", "memory '1025M' is out of range (2M to 1G)");
	assert_refused("memory = 18446744073709551616M",
		       "memory '18446744073709551616M' is out of range (2M to 1G)");
	/* 2^64 + 4 MiB must not wrap to 4 MiB. */
	assert_refused("memory = 18446744073713745920",
		       "memory '18446744073713745920' is out of range (2M to 1G)");
	assert_refused("memory = 17592186044417G", "memory '17592186044417G' is out of range (2M to 1G)");
	assert_refused("memory =", "memory '' is not a size like 16M");
	assert_refused("memory = M", "memory 'M' is not a size like 16M");
	assert_refused("memory = 16MB", "memory '16MB' is not a size like 16M");
	assert_refused("memory = 16 M", "memory '16 M' is not a size like 16M");
	assert_refused("memory = 16T", "memory '16T' is not a size like 16M");
	assert_refused("memory = -16M", "memory '-16M' is not a size like 16M");
	assert_refused("memory = 0x1000000", "memory '0x1000000' is not a size like 16M");
}

static void test_words(void **state)
{
	(void)state;
	assert_refused("log-level = loud", "unknown log-level 'loud' (error, warn, info, abi, debug)");
	assert_refused("log-level =", "unknown log-level '' (error, warn, info, abi, debug)");
	assert_refused("root.interface = mshv", "unknown root.interface 'mshv' (transparent, hv)");
	assert_refused("root.interface =", "unknown root.interface '' (transparent, hv)");
	assert_refused("root.interface = HV", "unknown root.interface 'HV' (transparent, hv)");
	assert_refused("root-interface = hv", "unknown key 'root-interface'");
	assert_refused("no-virtualization = maybe", "unknown no-virtualization 'maybe' (boot, halt)");
	assert_refused("Root = a", "unknown key 'Root'");
}

/* `prefix` + `count` times `fill`. */
static char *long_line(const char *prefix, size_t count, char fill)
{
	static char line[16384];
	size_t len = strlen(prefix);

	assert_true(len + count < sizeof(line));
	memcpy(line, prefix, len);
	memset(line + len, fill, count);
	line[len + count] = '\0';
	return line;
}

static void test_lengths(void **state)
{
	struct boot_config config;

	(void)state;
	config = parse(long_line("root = /", 254, 'a'));
	assert_int_equal(complaints.count, 0);
	assert_int_equal(strlen(config.root), 255);
	assert_refused(long_line("root = /", 255, 'a'), "the path is longer than 255 bytes");
	assert_refused(long_line("root = ", 244, 'a'), "the path is longer than 255 bytes");
	assert_refused(long_line("initrd = a /", 255, 'a'), "the path is longer than 255 bytes");
	config = parse(long_line("cmdline = ", 2047, 'x'));
	assert_int_equal(complaints.count, 0);
	assert_int_equal(strlen(config.cmdline), 2047);
	assert_refused(long_line("cmdline = ", 2048, 'x'), "the command line is longer than 2047 bytes");
	assert_refused(long_line("cmdline = ", 16000, 'x'), "the command line is longer than 2047 bytes");
	assert_refused("initrd = 1 2 3 4 5 6 7 8 9", "more than 8 initrds");
	assert_int_equal(parse("initrd = 1 2 3 4 5 6 7 8").initrd_count, 8);
}

static void test_not_text(void **state)
{
	(void)state;
	parse_bytes("root = a\0b\nmemory = 4M", 22);
	assert_int_equal(complaints.count, 1);
	assert_string_equal(complaints.reason[0], "the line is not UTF-8 text");
	assert_refused("cmdline = \xff\xfe", "the line is not UTF-8 text");
	assert_refused("cmdline = \xc0\x80", "the line is not UTF-8 text");
	assert_refused("cmdline = \xed\xa0\x80", "the line is not UTF-8 text");
	assert_refused("cmdline = a\x1b[2J", "the line is not UTF-8 text");
	assert_string_equal(parse("cmdline = \xe2\x82\xac \xf0\x9f\x94\xa5").cmdline,
			    "\xe2\x82\xac \xf0\x9f\x94\xa5");
	assert_int_equal(complaints.count, 0);
	parse_bytes("\xef\xbb", 2);
	assert_int_equal(complaints.count, 1);
}

/*
 * Lines made of the parser's own words and of noise: it must stay in its buffers and keep its
 * promises.
 */
static void test_random(void **state)
{
	static const char *const words[] = { "root", "initrd", "cmdline",    "console", "memory", "log-level",
					     "=",    " ",      "\n",	     "#",	"\r\n",	  "16M",
					     "none", "/EFI/x", "serial",     ",",	"\\",	  "\xc3",
					     "\xbc", "\t",     "9999999999G" };
	const char *env = getenv("SEED");
	unsigned int seed = env ? (unsigned int)strtoul(env, NULL, 0) : 20240601u;
	unsigned int random = seed;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		static struct boot_config config;
		char text[512];
		size_t len = 0;

		while (len < sizeof(text) - 16) {
			random = random * 1664525u + 1013904223u;
			if ((random >> 20) % 40 == 0)
				break;
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%s",
						words[(random >> 16) % ARRAY_SIZE(words)]);
		}
		config_defaults(&config);
		config_parse(&config, text, len, NULL, NULL);
		if (memchr(config.root, '\0', sizeof(config.root)) == NULL ||
		    config.initrd_count > CONFIG_INITRDS_MAX ||
		    memchr(config.cmdline, '\0', sizeof(config.cmdline)) == NULL ||
		    config.memory_size > 1u << 30 || config.memory_size % (2u << 20))
			fail_msg("round %d, SEED=%u", round, seed);
	}
}

static void test_format(void **state)
{
	char buf[64];

	(void)state;
	assert_int_equal(text_format(buf, sizeof(buf), "%s|%.*s|%c|%%", "abc", 2, "xyz", 'q'), 10);
	assert_string_equal(buf, "abc|xy|q|%");
	text_format(buf, sizeof(buf), "%u %d %d %x", 4294967295u, -5, (int)INT32_MIN, 0xdeadbeefu);
	assert_string_equal(buf, "4294967295 -5 -2147483648 deadbeef");
	text_format(buf, sizeof(buf), "%lu %ld %lx", UINT64_MAX, INT64_MIN, 0ul);
	assert_string_equal(buf, "18446744073709551615 -9223372036854775808 0");
	memset(buf, 'z', sizeof(buf));
	assert_int_equal(text_format(buf, 4, "%s", "abcdef"), 3);
	assert_memory_equal(buf, "abc\0z", 5);
	assert_int_equal(text_format(buf, 1, "%d", 12), 0);
	assert_string_equal(buf, "");
}

static void test_utf16(void **state)
{
	uint16_t out[4];

	(void)state;
	assert_int_equal(text_utf8_to_utf16(out, 4, "a\xc3\xbc", 3), 2);
	assert_int_equal(out[0], 'a');
	assert_int_equal(out[1], 0xfc);
	assert_int_equal(out[2], 0);
	assert_int_equal(text_utf8_to_utf16(out, 4, "\xf0\x9f\x94\xa5", 4), 2);
	assert_int_equal(out[0], 0xd83d);
	assert_int_equal(out[1], 0xdd25);
	assert_int_equal(text_utf8_to_utf16(out, 4, "abc", 3), 3);
	assert_int_equal(text_utf8_to_utf16(out, 4, "abcd", 4), -ENOSPC);
	assert_int_equal(text_utf8_to_utf16(out, 3, "a\xf0\x9f\x94\xa5", 5), -ENOSPC);
	assert_int_equal(text_utf8_to_utf16(out, 4, "\xf0\x9f\x94", 3), -EILSEQ);
	assert_int_equal(text_utf8_to_utf16(out, 4, "\x80", 1), -EILSEQ);
	assert_int_equal(text_utf8_to_utf16(out, 4, "\xe0\x80\xaf", 3), -EILSEQ);
	assert_int_equal(text_utf8_to_utf16(out, 4, "\xf4\x90\x80\x80", 4), -EILSEQ);
	assert_int_equal(text_utf8_to_utf16(out, 4, "a\0b", 3), -EILSEQ);
	assert_int_equal(text_utf8_to_utf16(out, 1, "", 0), 0);
	assert_int_equal(out[0], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_root_interface),
		cmocka_unit_test(test_everything),
		cmocka_unit_test(test_bad_lines_leave_the_rest),
		cmocka_unit_test(test_duplicate_last_wins),
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_not_text),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_format),
		cmocka_unit_test(test_utf16),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
