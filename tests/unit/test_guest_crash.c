/* unit: core/guest_crash.c core/run_time.c */
/* SPDX-License-Identifier: MIT */
/* Crash MSRs: what gets into the log of a text the guest chose, byte by byte. And a VP's run time, to the tick. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <hv/msr.h>
#include <trivet/guest_access.h>
#include <trivet/hv_msr.h>
#include <trivet/log.h>
#include <trivet/partition.h>
#include <trivet/vp.h>

#define TEXT_GPA 0x7fff0u /* 16 bytes before a page's end */

static struct partition partition;
static struct vp vp;
static char lines[128][512];
static unsigned int line_count, reads;
static uint8_t memory[2 * PAGE_SIZE]; /* at TEXT_GPA's page */
static uint64_t memory_end;
static bool allow;
static uint64_t clock_tsc;

enum log_level log_threshold = LOG_ERROR;

void log_write(enum log_level level, const char *format, ...)
{
	va_list args;

	assert_int_equal(level, LOG_ERROR);
	va_start(args, format);
	vsnprintf(lines[line_count++], sizeof(lines[0]), format, args);
	va_end(args);
}

bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	(void)bucket;
	return allow;
}

bool guest_phys_read(void *space, gpa_t gpa, void *buf, size_t size)
{
	assert_ptr_equal(space, &vp);
	assert_true(gpa.v / PAGE_SIZE == (gpa.v + size - 1) / PAGE_SIZE);
	reads++;
	if (gpa.v >= memory_end || gpa.v + size > memory_end)
		return false;
	memcpy(buf, memory + (gpa.v - ALIGN_DOWN(TEXT_GPA, PAGE_SIZE)), size);
	return true;
}

uint64_t lp_clock(void)
{
	return clock_tsc;
}

uint64_t tsc_to_100ns(const struct reference_time *time, uint64_t ticks)
{
	assert_ptr_equal(time, &partition.reference_time);
	return ticks / 10;
}

static void begin(void)
{
	memset(&partition, 0, sizeof(partition));
	memset(&vp, 0, sizeof(vp));
	memset(lines, 0, sizeof(lines));
	partition.id = 1;
	vp.partition = &partition;
	line_count = reads = 0;
	allow = true;
	memory_end = ALIGN_DOWN(TEXT_GPA, PAGE_SIZE) + sizeof(memory);
}

static void parameter(uint32_t n, uint64_t value)
{
	assert_int_equal(hv_msr_write_crash_parameter(&vp, HV_MSR_CRASH_P0 + n, value), 0);
}

static void notify(uint64_t value)
{
	assert_int_equal(hv_msr_write_crash_control(&vp, HV_MSR_CRASH_CTL, value), 0);
}

static void put_text(const char *text, uint64_t size)
{
	memcpy(memory + TEXT_GPA % PAGE_SIZE, text, size);
	parameter(3, TEXT_GPA);
	parameter(4, size);
}

static void test_parameters(void **state)
{
	uint64_t value;

	(void)state;
	begin();
	for (uint32_t i = 0; i < 5; i++)
		parameter(i, 0x1000 + i);
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(hv_msr_read_crash_parameter(&vp, HV_MSR_CRASH_P0 + i, &value), 0);
		assert_int_equal(value, 0x1000 + i);
	}
	assert_int_equal(hv_msr_read_crash_control(&vp, HV_MSR_CRASH_CTL, &value), 0);
	assert_int_equal(value, 0xc000000000000000);
	notify(0);
	notify(HV_CRASH_CTL_MESSAGE); /* nobody asks for anything */
	assert_int_equal(line_count, 0);
	notify(HV_CRASH_CTL_NOTIFY);
	assert_int_equal(line_count, 1);
	assert_string_equal(lines[0],
			    "p1/vp0: the guest reports a crash: 0x1000 0x1001 0x1002 0x1003 0x1004");
	assert_int_equal(reads, 0);
}

static void test_text(void **state)
{
	(void)state;
	begin();
	put_text("panic: \x1b[2J\\\n\n\tit is 100%s\xff", 27);
	notify(HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE);
	assert_int_equal(line_count, 3);
	assert_string_equal(lines[1], "p1/vp0: guest: panic: \\x1b[2J\\x5c");
	assert_string_equal(lines[2], "p1/vp0: guest: \\x09it is 100%s\\xff");
}

static void test_text_is_bounded(void **state)
{
	size_t shown = 0;

	(void)state;
	begin();
	memset(memory, 0, sizeof(memory));
	parameter(3, ALIGN_DOWN(TEXT_GPA, PAGE_SIZE));
	parameter(4, UINT64_MAX);
	notify(HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE);
	for (unsigned int i = 1; i < line_count; i++) {
		assert_true(strlen(lines[i]) <= strlen("p1/vp0: guest: ") + 160);
		shown += strlen(lines[i]) - strlen("p1/vp0: guest: ");
	}
	assert_int_equal(shown, 4096 * 4);
	assert_int_equal(reads, 64);
}

static void test_text_nowhere(void **state)
{
	(void)state;
	begin();
	put_text("0123456789abcdefGHI", 19);
	memory_end = ALIGN_UP(TEXT_GPA, PAGE_SIZE);
	notify(HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE);
	assert_int_equal(line_count, 2);
	assert_string_equal(lines[1], "p1/vp0: guest: 0123456789abcdef");
	parameter(3, UINT64_MAX - 3);
	notify(HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE);
	assert_int_equal(line_count, 3);
	allow = false; /* too often */
	notify(HV_CRASH_CTL_NOTIFY | HV_CRASH_CTL_MESSAGE);
	assert_int_equal(line_count, 3);
}

static void test_run_time(void **state)
{
	uint64_t value;

	(void)state;
	begin();
	clock_tsc = 1000;
	assert_int_equal(vp_run_time_tsc(&vp), 0); /* hasn't started */
	vp_run_time_start(&vp);
	clock_tsc = 1500;
	assert_int_equal(vp_run_time_tsc(&vp), 500);
	vp_run_time_idle_begin(&vp, clock_tsc);
	clock_tsc = 9000;
	assert_int_equal(vp_run_time_tsc(&vp), 500); /* stands still */
	vp_run_time_idle_end(&vp, clock_tsc);
	assert_int_equal(vp_run_time_tsc(&vp), 500);
	clock_tsc = 9100;
	vp_run_time_start(&vp); /* only the first counts */
	assert_int_equal(vp_run_time_tsc(&vp), 600);
	vp_run_time_idle_begin(&vp, clock_tsc);
	clock_tsc = 9200;
	vp_run_time_idle_end(&vp, clock_tsc);
	clock_tsc = 9250;
	assert_int_equal(vp_run_time_tsc(&vp), 650);
	assert_int_equal(hv_msr_read_vp_runtime(&vp, HV_MSR_VP_RUNTIME, &value), 0);
	assert_int_equal(value, 65);
	assert_int_equal(atomic_load(&vp.run_time.waits), 2);
}

/* A child's VP is loaded without having been started, and then its time begins. */
static void test_run_time_of_a_child(void **state)
{
	static struct vp childs;

	(void)state;
	clock_tsc = 5000;
	vp_run_time_idle_end(&childs, clock_tsc);
	clock_tsc = 5100;
	assert_int_equal(vp_run_time_tsc(&childs), 100);
	vp_run_time_idle_begin(&childs, clock_tsc);
	clock_tsc = 6000;
	vp_run_time_idle_end(&childs, clock_tsc);
	clock_tsc = 6001;
	assert_int_equal(vp_run_time_tsc(&childs), 101);
	assert_int_equal(atomic_load(&childs.run_time.waits), 1);
}

static void test_run_time_of_an_lp(void **state)
{
	static struct lp of;

	(void)state;
	clock_tsc = 100;
	lp_run_time_start(&of);
	clock_tsc = 200;
	lp_run_time_idle_begin(&of, clock_tsc);
	clock_tsc = 250;
	assert_int_equal(lp_run_time_tsc(&of), 100);
	assert_int_equal(lp_idle_time_tsc(&of), 50);
	lp_run_time_idle_end(&of, clock_tsc);
	clock_tsc = 300;
	assert_int_equal(lp_run_time_tsc(&of), 150);
	assert_int_equal(lp_idle_time_tsc(&of), 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parameters),	  cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_is_bounded),	  cmocka_unit_test(test_text_nowhere),
		cmocka_unit_test(test_run_time),	  cmocka_unit_test(test_run_time_of_a_child),
		cmocka_unit_test(test_run_time_of_an_lp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
