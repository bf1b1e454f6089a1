/* unit: */
/* libs: newlib */
/* SPDX-License-Identifier: MIT */
/*
 * The C library subset of the hypervisor (newlib and core/libc_glue.c, symbols prefixed with newlib_) against
 * the host's: formats, truncation, string functions. A difference means a log line that says the wrong thing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int newlib_snprintf(char *buffer, size_t size, const char *format, ...);
void *newlib_memcpy(void *to, const void *from, size_t size);
void *newlib_memmove(void *to, const void *from, size_t size);
void *newlib_memset(void *to, int value, size_t size);
int newlib_memcmp(const void *a, const void *b, size_t size);
void *newlib_memchr(const void *s, int c, size_t size);
size_t newlib_strlen(const char *s);
size_t newlib_strnlen(const char *s, size_t size);
size_t newlib_strlcpy(char *to, const char *from, size_t size);
int newlib_strcmp(const char *a, const char *b);
int newlib_strncmp(const char *a, const char *b, size_t size);
char *newlib_strchr(const char *s, int c);
char *newlib_strrchr(const char *s, int c);
char *newlib_strstr(const char *s, const char *part);
void newlib_qsort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *));

#pragma GCC diagnostic ignored "-Wformat"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wformat-truncation"
#endif

#define SAME(size, ...)                                                                  \
	do {                                                                             \
		char want[128], have[128];                                               \
		memset(want, '~', sizeof(want));                                         \
		memset(have, '~', sizeof(have));                                         \
		int want_length = snprintf(want, size, __VA_ARGS__);                     \
		assert_int_equal(newlib_snprintf(have, size, __VA_ARGS__), want_length); \
		assert_memory_equal(have, want, sizeof(want));                           \
	} while (0)

static void integers_print_as_on_the_host(void **state)
{
	(void)state;
	SAME(128, "%d %i %u %x %X %o %c %%", -5, 17, 4000000000u, 0xbeefu, 0xBEEFu, 8u, 'q');
	SAME(128, "%ld %lu %lx %li", INT64_MIN, UINT64_MAX, 0x123456789abcdefL, 1L);
	SAME(128, "%lld %llu %llx %#llx", (long long)INT64_MIN, ~0ull, 0xfee00000ull, 1ull << 63);
	SAME(128, "%zu %zd %zx %jd %tx", (size_t)1 << 40, (ssize_t)-3, SIZE_MAX, (intmax_t)-9,
	     (ptrdiff_t)255);
	SAME(128, "%hhu %hhx %hd %hx", 0x1ff, 0x1ff, 0x18000, 0x18000);
	SAME(128, "%08x|%-8x|%8x|%+d|% d|%#x|%#o|%.5d|%8.3d", 0xabu, 0xabu, 0xabu, 5, 5, 255u, 8u, 42, 7);
	SAME(128, "%016llx|%-20lld|%020lld", 0xdeadull, -1ll, -1ll);
	SAME(128, "%*d|%-*d|%.*d", 6, 42, 6, 42, 4, 42);
	SAME(128, "%p", (void *)0x1234abcd);
	SAME(128, "%.0d|%#.0x", 0, 0u);
}

static void strings_print_as_on_the_host(void **state)
{
	(void)state;
	SAME(128, "%s|%10s|%-10s|%.2s|%.*s|%5c|", "trivet", "hv", "hv", "abcdef", 3, "abcdef", 'x');
	SAME(128, "plain text");
	SAME(128, "%s", "");
	SAME(128, "%100s", "wide");
}

static void long_output_is_cut_and_its_length_returned(void **state)
{
	(void)state;
	SAME(1, "%s", "abc");
	SAME(4, "%s", "abc");
	SAME(3, "%s", "abc");
	SAME(5, "%08x", 0x12345678u);
	SAME(0, "%d%s", 12345, "more");
	SAME(10, "%64d", 1);
	assert_int_equal(newlib_snprintf(NULL, 0, "%llx", ~0ull), 16);
}

static void memory_functions_work_at_every_alignment(void **state)
{
	uint8_t from[96], want[96], have[96];

	(void)state;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (uint8_t)(i * 37 + 11);
	for (size_t start = 0; start < 9; start++) {
		for (size_t size = 0; size < 70; size++) {
			memcpy(want, from, sizeof(want));
			memcpy(have, from, sizeof(have));
			memmove(want + 5, want + start, size);
			assert_ptr_equal(newlib_memmove(have + 5, have + start, size), have + 5);
			assert_memory_equal(have, want, sizeof(want));
			memset(want + start, 0xa5, size);
			assert_ptr_equal(newlib_memset(have + start, 0xa5, size), have + start);
			assert_memory_equal(have, want, sizeof(want));
			memcpy(want + start, from + 3, size);
			assert_ptr_equal(newlib_memcpy(have + start, from + 3, size), have + start);
			assert_memory_equal(have, want, sizeof(want));
			assert_int_equal(newlib_memcmp(have + start, from + 3, size), 0);
		}
	}
	assert_true(newlib_memcmp("abcdefghij\xff", "abcdefghij\x01", 11) > 0);
	assert_true(newlib_memcmp("abcdefghij\x01", "abcdefghij\xff", 11) < 0);
	assert_ptr_equal(newlib_memchr(from, from[60], sizeof(from)), from + 60);
	assert_null(newlib_memchr(from, from[60], 60));
}

static void string_functions_agree_with_the_host(void **state)
{
	static const char text[] = "root.interface = hv  # comment";
	char buffer[8];

	(void)state;
	assert_int_equal(newlib_strlen(text), sizeof(text) - 1);
	assert_int_equal(newlib_strnlen(text, 5), 5);
	assert_int_equal(newlib_strcmp("abc", "abc"), 0);
	assert_true(newlib_strcmp("abc", "abd") < 0);
	assert_true(newlib_strcmp("ab\xff", "ab\x01") > 0);
	assert_int_equal(newlib_strncmp("abcX", "abcY", 3), 0);
	assert_true(newlib_strncmp("abcX", "abcY", 4) < 0);
	assert_ptr_equal(newlib_strchr(text, '='), strchr(text, '='));
	assert_null(newlib_strchr(text, '!'));
	assert_ptr_equal(newlib_strrchr(text, 'n'), strrchr(text, 'n'));
	assert_ptr_equal(newlib_strstr(text, "none"), strstr(text, "none"));
	assert_null(newlib_strstr(text, "nonesuch"));
	assert_int_equal(newlib_strlcpy(buffer, "0123456789", sizeof(buffer)), 10);
	assert_string_equal(buffer, "0123456");
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void qsort_sorts(void **state)
{
	uint32_t values[200], seed = 12345, sum_before = 0, sum_after = 0;

	(void)state;
	for (size_t i = 0; i < 200; i++) {
		seed = seed * 1664525u + 1013904223u;
		values[i] = seed >> 20;
		sum_before += values[i];
	}
	newlib_qsort(values, 200, sizeof(values[0]), compare_u32);
	for (size_t i = 0; i < 200; i++) {
		sum_after += values[i];
		assert_true(i == 0 || values[i - 1] <= values[i]);
	}
	assert_int_equal(sum_after, sum_before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_print_as_on_the_host),
		cmocka_unit_test(strings_print_as_on_the_host),
		cmocka_unit_test(long_output_is_cut_and_its_length_returned),
		cmocka_unit_test(memory_functions_work_at_every_alignment),
		cmocka_unit_test(string_functions_agree_with_the_host),
		cmocka_unit_test(qsort_sorts),
	};

	return cmocka_run_group_tests_name("libc", tests, NULL, NULL);
}
