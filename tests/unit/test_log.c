/* unit: core/log.c */
/* SPDX-License-Identifier: MIT */
/*
 * The log: format of lines, times, truncation, sanitising, ring wrap, sinks, rate limits, the lock with real threads,
 * and panic mode (last, as it has no way back).
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <trivet/io.h>
#include <trivet/log.h>

static uint64_t fake_tsc;
static uint64_t tsc_step;

uint64_t rdtsc(void)
{
	return __atomic_fetch_add(&fake_tsc, __atomic_load_n(&tsc_step, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
}

struct test_sink {
	struct log_sink sink;
	char text[1 << 20];
	size_t length;
	uint32_t calls;
	bool recurse_once;
};

static struct test_sink sink_a, sink_b;

static void sink_write(struct log_sink *sink, const char *text, size_t length)
{
	struct test_sink *t = container_of(sink, struct test_sink, sink);

	assert_true(length <= LOG_LINE_MAX);
	assert_int_equal(text[length - 1], '\n');
	assert_null(memchr(text, 0, length));
	assert_true(t->length + length < sizeof(t->text));
	memcpy(t->text + t->length, text, length);
	t->length += length;
	t->text[t->length] = 0;
	t->calls++;
	if (t->recurse_once) {
		t->recurse_once = false;
		log_error("from inside the sink");
	}
}

static void sink_reset(struct test_sink *t)
{
	memset(t, 0, sizeof(*t));
	t->sink.write = sink_write;
}

static int setup(void **state)
{
	(void)state;
	sink_reset(&sink_a);
	sink_reset(&sink_b);
	fake_tsc = 0;
	tsc_step = 0;
	log_set_clock(0, 0);
	log_set_level(LOG_INFO);
	return log_add_sink(&sink_a.sink, false);
}

static int teardown(void **state)
{
	(void)state;
	log_remove_sink(&sink_a.sink);
	(void)log_remove_sink(&sink_b.sink);
	return 0;
}

static void test_format(void **state)
{
	(void)state;
	log_info("hello %d %s %#llx", -5, "you", 0xabcdull);
	log_error("newline at the end\n");
	log_set_clock(3000000000ull, 1000);
	fake_tsc = 1000 + 3000000000ull * 12 + 1500;
	log_warn("%s", "");
	fake_tsc = 999;
	log_error("before zero");
	fake_tsc = 1000 + 3000000000ull * 123456 + 2999999999ull;
	log_error("late");
	log_vp_info(3, 17, "at %x", 0x10);
	log_vp_warn(1, 0, "plain");
	assert_string_equal(sink_a.text, "[    -.------] info  hello -5 you 0xabcd\n"
					 "[    -.------] error newline at the end\n"
					 "[   12.000000] warn  \n"
					 "[    0.000000] error before zero\n"
					 "[123456.999999] error late\n"
					 "[123456.999999] info  p3/vp17: at 10\n"
					 "[123456.999999] warn  p1/vp0: plain\n");
}

static int evaluated;

static int count_me(void)
{
	return ++evaluated;
}

static void test_levels(void **state)
{
	static const int kept[] = { 1, 2, 3, 4, 5, 5 };

	(void)state;
	for (uint32_t level = 0; level < ARRAY_SIZE(kept); level++) {
		sink_a.calls = 0;
		evaluated = 0;
		log_set_level(level == 5 ? 77 : level);
		log_error("%d", count_me());
		log_warn("%d", count_me());
		log_info("%d", count_me());
		log_at(LOG_ABI, "%d", count_me());
		log_debug("%d", count_me());
		assert_int_equal(sink_a.calls, kept[level]);
		assert_int_equal(evaluated, kept[level]); /* arguments of a dropped line cost nothing */
	}
}

static void test_truncation(void **state)
{
	static char body[1000];
	const size_t prefix = strlen("[    -.------] info  ");

	(void)state;
	for (size_t n = 200; n < 300; n++) {
		size_t whole = prefix + n + 1;

		memset(body, 'x', n);
		body[n] = 0;
		sink_a.length = 0;
		log_info("%s", body);
		if (whole <= LOG_LINE_MAX) {
			assert_int_equal(sink_a.length, whole);
			assert_int_equal(sink_a.text[whole - 2], 'x');
		} else {
			assert_int_equal(sink_a.length, LOG_LINE_MAX);
			assert_string_equal(sink_a.text + LOG_LINE_MAX - 5, "x...\n");
		}
		/* The same with a trailing newline in the text is the same line. */
		if (whole <= LOG_LINE_MAX) {
			sink_a.length = 0;
			log_info("%s\n", body);
			assert_int_equal(sink_a.length, whole);
			assert_int_equal(sink_a.text[whole - 2], 'x');
		}
	}
}

static void test_sanitise(void **state)
{
	(void)state;
	log_info("a\nb\r\x1b[2J\t%c|\x7f\xff~ ", 0);
	assert_string_equal(sink_a.text, "[    -.------] info  a?b??[2J??|??~ \n");
}

static void test_ring(void **state)
{
	uint32_t first, next;

	(void)state;
	log_info("one");
	log_info("two");
	assert_int_equal(log_add_sink(&sink_b.sink, true), 0);
	assert_true(sink_b.length >= 50);
	assert_string_equal(sink_b.text + sink_b.length - 50,
			    "[    -.------] info  one\n[    -.------] info  two\n");
	assert_int_equal(log_remove_sink(&sink_b.sink), 0);
	sink_reset(&sink_b);

	/* Overwritten many times: what is left starts with a whole line and has no gap. */
	for (uint32_t i = 0; i < 20000; i++)
		log_info("line %u.", i); /* 33 bytes: lines don't fit the ring evenly */
	assert_int_equal(log_add_sink(&sink_b.sink, true), 0);
	assert_in_range(sink_b.length, LOG_RING_SIZE - LOG_LINE_MAX, LOG_RING_SIZE);
	assert_int_equal(sscanf(sink_b.text, "[    -.------] info  line %u.", &first), 1);
	next = first;
	for (char *line = sink_b.text; *line; line = strchr(line, '\n') + 1) {
		char want[64];

		snprintf(want, sizeof(want), "[    -.------] info  line %u.\n", next++);
		assert_memory_equal(line, want, strlen(want));
	}
	assert_int_equal(next, 20000);
	assert_int_equal(sink_b.calls, 20000 - first); /* a line each */
}

static void test_sinks(void **state)
{
	static struct test_sink more[LOG_SINKS_MAX];

	(void)state;
	assert_int_equal(log_add_sink(&sink_a.sink, true), -EEXIST);
	assert_int_equal(sink_a.calls, 0);
	for (uint32_t i = 0; i < LOG_SINKS_MAX; i++) {
		sink_reset(&more[i]);
		assert_int_equal(log_add_sink(&more[i].sink, false), i < LOG_SINKS_MAX - 1 ? 0 : -ENOSPC);
	}
	log_info("x");
	assert_int_equal(log_remove_sink(&more[1].sink), 0);
	assert_int_equal(log_remove_sink(&more[1].sink), -ENOENT);
	log_info("y");
	assert_int_equal(sink_a.calls, 2);
	assert_int_equal(more[0].calls, 2);
	assert_int_equal(more[1].calls, 1);
	assert_int_equal(more[2].calls, 2);
	assert_int_equal(more[3].calls, 0);
	assert_int_equal(log_remove_sink(&more[0].sink), 0);
	assert_int_equal(log_remove_sink(&more[2].sink), 0);
}

static void test_ratelimit(void **state)
{
	struct log_ratelimit bucket = { 0 }, other = { 0 };

	(void)state;
	log_set_clock(1000000, 0);
	fake_tsc = 500;
	for (int i = 0; i < 50; i++)
		log_ratelimited(&bucket, LOG_WARN, "storm %d", i);
	assert_int_equal(sink_a.calls, 10);
	log_ratelimited(&other, LOG_WARN, "another bucket");
	assert_int_equal(sink_a.calls, 11);
	fake_tsc = 500 + 4999999;
	log_ratelimited(&bucket, LOG_WARN, "still the same interval");
	assert_int_equal(sink_a.calls, 11);
	fake_tsc = 500 + 5000000;
	sink_a.length = 0;
	log_vp_ratelimited(&bucket, LOG_INFO, 2, 1, "again %d", 1);
	assert_string_equal(sink_a.text, "[    5.000500] warn  41 lines like the next suppressed\n"
					 "[    5.000500] info  p2/vp1: again 1\n");
	/* Another LP's TSC a little behind opens no new interval; far behind (the TSC was set) it does. */
	sink_a.calls = 0;
	fake_tsc -= 1000;
	for (int i = 0; i < 50; i++)
		log_ratelimited(&bucket, LOG_WARN, "x");
	assert_int_equal(sink_a.calls, 9);
	fake_tsc = 100;
	log_ratelimited(&bucket, LOG_WARN, "x");
	assert_int_equal(sink_a.calls, 11);
	log_set_level(LOG_ERROR); /* lines below the threshold use nothing up */
	bucket.count = 0;
	log_ratelimited(&bucket, LOG_WARN, "x");
	assert_int_equal(bucket.count, 0);
}

static void test_recursion_is_bounded(void **state)
{
	(void)state;
	sink_a.recurse_once = true;
	tsc_step = 1000;
	log_info("outer");
	log_info("next");
	assert_string_equal(sink_a.text, "[    -.------] info  outer\n"
					 "[    -.------] warn  1 lines were lost while the log was busy\n"
					 "[    -.------] info  next\n");
	log_set_clock(1000000, 0);
	sink_a.recurse_once = true;
	fake_tsc = 0;
	log_info("outer");
	assert_in_range(fake_tsc, 250000, 260000);		/* waited a quarter of a second */
	assert_int_equal(log_add_sink(&sink_b.sink, false), 0); /* and the lock is free again */
}

#define THREADS 4
#define LINES 2000

static void *hammer(void *argument)
{
	for (int i = 0; i < LINES; i++)
		log_info("thread %d line %04d", (int)(intptr_t)argument, i);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];
	int next[THREADS] = { 0 }, lines = 0;

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hammer, (void *)(intptr_t)i), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (char *line = sink_a.text; *line; line = strchr(line, '\n') + 1, lines++) {
		int thread, number, length = 0;

		assert_int_equal(
			sscanf(line, "[    -.------] info  thread %d line %d%n", &thread, &number, &length),
			2);
		assert_int_equal(line[length], '\n');
		assert_in_range(thread, 0, THREADS - 1);
		assert_int_equal(number, next[thread]);
		next[thread]++;
	}
	assert_int_equal(lines, THREADS * LINES);
}

/* The holder of the lock may be stopped for good: in panic mode even a line inside a sink gets out, without waiting. */
static void test_panic_mode(void **state)
{
	(void)state;
	log_enter_panic();
	sink_a.recurse_once = true;
	log_error("outer");
	assert_string_equal(sink_a.text,
			    "[    -.------] error outer\n[    -.------] error from inside the sink\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_format, setup, teardown),
		cmocka_unit_test_setup_teardown(test_levels, setup, teardown),
		cmocka_unit_test_setup_teardown(test_truncation, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sanitise, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ring, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sinks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ratelimit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_recursion_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_panic_mode, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
