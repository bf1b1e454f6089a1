/* unit: core/trace.c */
/* SPDX-License-Identifier: MIT */
/*
 * The ring of recent exits: order, wrap, an empty or partly filled ring, and the text of a dump.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <trivet/trace.h>

static uint64_t fake_tsc;

uint64_t rdtsc(void)
{
	return fake_tsc;
}

static struct trace_ring ring;
static char lines[80][128];
static uint32_t line_count;

static void note(uint32_t n)
{
	fake_tsc = 1000 + 10ull * n;
	ring.vp_index = n % 7;
	trace_exit(&ring, n, 0xffffffff81000000ull + n, ~(uint64_t)n);
}

static void take_line(void *context, const char *line)
{
	assert_ptr_equal(context, &ring);
	assert_true(line_count < ARRAY_SIZE(lines));
	assert_true(strlen(line) < sizeof(lines[0]));
	strcpy(lines[line_count++], line);
}

static const char *name_of(uint32_t code)
{
	return code == 114 ? "cpuid" : NULL;
}

static int setup(void **state)
{
	(void)state;
	memset(&ring, 0, sizeof(ring));
	line_count = 0;
	return 0;
}

static void test_empty(void **state)
{
	struct trace_entry e;

	(void)state;
	assert_int_equal(trace_recent(&ring, 0, &e), -ENOENT);
	trace_dump(&ring, 32, name_of, take_line, &ring);
	assert_int_equal(line_count, 0);
}

static void test_recent(void **state)
{
	struct trace_entry e;

	(void)state;
	for (uint32_t total = 1; total <= 200; total++) {
		uint32_t kept = total < TRACE_ENTRIES ? total : TRACE_ENTRIES;

		note(total);
		for (uint32_t age = 0; age < kept; age++) {
			uint32_t n = total - age;

			assert_int_equal(trace_recent(&ring, age, &e), 0);
			assert_int_equal(e.code, n);
			assert_int_equal(e.tsc, 1000 + 10ull * n);
			assert_true(e.rip == 0xffffffff81000000ull + n);
			assert_true(e.info == ~(uint64_t)n);
			assert_int_equal(e.vp_index, n % 7);
		}
		assert_int_equal(trace_recent(&ring, kept, &e), -ENOENT);
		assert_int_equal(trace_recent(&ring, UINT32_MAX, &e), -ENOENT);
	}
}

static void test_dump(void **state)
{
	(void)state;
	for (uint32_t n = 113; n <= 115; n++)
		note(n);
	trace_dump(&ring, 2, name_of, take_line, &ring);
	assert_int_equal(line_count, 2);
	assert_string_equal(lines[0],
			    "         -10 vp2    cpuid          rip ffffffff81000072 info ffffffffffffff8d");
	assert_string_equal(lines[1],
			    "           0 vp3    code 73        rip ffffffff81000073 info ffffffffffffff8c");
	line_count = 0;
	trace_dump(&ring, 1000, NULL, take_line, &ring);
	assert_int_equal(line_count, 3);
	for (uint32_t n = 0; n < 100; n++)
		note(n);
	line_count = 0;
	trace_dump(&ring, 1000, NULL, take_line, &ring);
	assert_int_equal(line_count, TRACE_ENTRIES);
	assert_non_null(strstr(lines[0], "code 24 ")); /* 100 - 64 */
	assert_non_null(strstr(lines[TRACE_ENTRIES - 1], "code 63 "));
	line_count = 0;
	trace_dump(&ring, 0, NULL, take_line, &ring);
	assert_int_equal(line_count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_empty, setup),
		cmocka_unit_test_setup(test_recent, setup),
		cmocka_unit_test_setup(test_dump, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
