/* SPDX-License-Identifier: MIT */
/*
 * The log: a line is formatted on the caller's stack and then, under one small lock, put into the ring and handed to the
 * sinks. The lock has its own bounded wait instead of the ranked locks of trivet/lock.h, because any code may log, NMI
 * handlers included: a line that can't get it is counted and dropped rather than waited for; the next one tells how many.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <trivet/io.h>
#include <trivet/log.h>

/* How long to wait for the lock: 1/4 s, or this many TSC ticks while the TSC's frequency is not known. */
#define LOCK_WAIT_TICKS BIT(28)
/* ... and never more than this many rounds, should the TSC stand still. */
#define LOCK_WAIT_ROUNDS (1u << 26)

/* Without a known frequency: a guess on the slow side. */
#define GUESSED_TSC_HZ 1000000000ull

static char ring[LOG_RING_SIZE];
static uint64_t ring_head; /* bytes ever written; the ring has the last LOG_RING_SIZE of them */
static struct log_sink *sinks[LOG_SINKS_MAX];
static uint32_t sink_count;

static uint32_t lock_word;
static bool panicking;
static uint64_t lost_lines;
static uint64_t clock_hz;
static uint64_t clock_zero;

enum log_level log_threshold = LOG_INFO;

static bool log_lock(void)
{
	uint64_t start, limit;

	if (__atomic_load_n(&panicking, __ATOMIC_ACQUIRE))
		return true;
	if (!__atomic_exchange_n(&lock_word, 1, __ATOMIC_ACQUIRE))
		return true;
	start = rdtsc();
	limit = clock_hz ? clock_hz / 4 : LOCK_WAIT_TICKS;
	for (uint32_t i = 0; i < LOCK_WAIT_ROUNDS && rdtsc() - start < limit; i++) {
		cpu_relax();
		if (__atomic_load_n(&panicking, __ATOMIC_ACQUIRE))
			return true;
		if (!__atomic_load_n(&lock_word, __ATOMIC_RELAXED) &&
		    !__atomic_exchange_n(&lock_word, 1, __ATOMIC_ACQUIRE))
			return true;
	}
	return false;
}

static void log_unlock(void)
{
	__atomic_store_n(&lock_word, 0, __ATOMIC_RELEASE);
}

static uint64_t ring_oldest(void)
{
	return ring_head > LOG_RING_SIZE ? ring_head - LOG_RING_SIZE : 0;
}

static void ring_append(const char *text, size_t length)
{
	uint64_t head = ring_head;

	for (size_t i = 0; i < length; i++)
		ring[(head + i) % LOG_RING_SIZE] = text[i];
	ring_head = head + length;
}

/* The start of the oldest whole line. */
static uint64_t ring_oldest_line(void)
{
	uint64_t position = ring_oldest();

	if (!position)
		return 0;
	/* The oldest byte starts a line only if the one before it, already overwritten, was a newline: skip it. */
	while (position < ring_head && ring[position++ % LOG_RING_SIZE] != '\n')
		;
	return position;
}

/* Copies one line, at most `size` bytes of it, and returns the number of bytes. */
static size_t ring_line(uint64_t position, char *buffer, size_t size)
{
	size_t length = 0;

	while (length < size && position < ring_head) {
		buffer[length] = ring[position++ % LOG_RING_SIZE];
		if (buffer[length++] == '\n')
			break;
	}
	return length;
}

static void replay_to(struct log_sink *sink)
{
	char line[LOG_LINE_MAX];
	uint64_t position = ring_oldest_line();
	size_t length;

	while ((length = ring_line(position, line, sizeof(line))) != 0) {
		sink->write(sink, line, length);
		position += length;
	}
}

static int find_sink(const struct log_sink *sink)
{
	for (uint32_t i = 0; i < sink_count; i++) {
		if (sinks[i] == sink)
			return (int)i;
	}
	return -ENOENT;
}

int log_add_sink(struct log_sink *sink, bool replay)
{
	int ret = 0;

	if (!log_lock())
		return -EBUSY;
	if (find_sink(sink) >= 0) {
		ret = -EEXIST;
	} else if (sink_count == LOG_SINKS_MAX) {
		ret = -ENOSPC;
	} else {
		if (replay)
			replay_to(sink);
		sinks[sink_count++] = sink;
	}
	log_unlock();
	return ret;
}

int log_remove_sink(struct log_sink *sink)
{
	int at;

	if (!log_lock())
		return -EBUSY;
	at = find_sink(sink);
	if (at >= 0) {
		sink_count--;
		for (uint32_t i = (uint32_t)at; i < sink_count; i++)
			sinks[i] = sinks[i + 1];
	}
	log_unlock();
	return at < 0 ? at : 0;
}

void log_set_level(uint32_t level)
{
	log_threshold = level > LOG_DEBUG ? LOG_DEBUG : (enum log_level)level;
}

void log_set_clock(uint64_t tsc_hz, uint64_t zero_tsc)
{
	clock_zero = zero_tsc;
	clock_hz = tsc_hz;
}

void log_enter_panic(void)
{
	__atomic_store_n(&panicking, true, __ATOMIC_RELEASE);
}

static int format_prefix(char *line, size_t size, enum log_level level)
{
	static const char words[][6] = { "error", "warn ", "info ", "abi  ", "debug" };
	const char *word = words[(uint32_t)level > LOG_DEBUG ? LOG_DEBUG : level];
	uint64_t hz = clock_hz, now = rdtsc(), ticks;

	if (!hz)
		return snprintf(line, size, "[    -.------] %s ", word);
	ticks = now > clock_zero ? now - clock_zero : 0;
	/* ticks % hz is below 2^40 or so: the product fits. */
	return snprintf(line, size, "[%5llu.%06llu] %s ", (unsigned long long)(ticks / hz),
			(unsigned long long)(ticks % hz * 1000000 / hz), word);
}

/* Bytes from guests must not drive the terminal or start a line of their own. */
static void sanitise(char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		if (text[i] < 0x20 || text[i] > 0x7e)
			text[i] = '?';
	}
}

/* Makes a whole line, newline last, no NUL. Returns its length, at most LOG_LINE_MAX. */
static __attribute__((format(printf, 3, 0))) size_t
format_line(char line[LOG_LINE_MAX + 1], enum log_level level, const char *format, va_list args)
{
	size_t prefix = (size_t)format_prefix(line, LOG_LINE_MAX, level);
	size_t room = LOG_LINE_MAX - prefix; /* text and newline */
	int wanted = vsnprintf(line + prefix, room + 1, format, args);
	size_t length = wanted < 0 ? 0 : (size_t)wanted;

	if (length <= room && length && line[prefix + length - 1] == '\n')
		length--;
	if (length >= room) {
		length = room - 1;
		memset(line + prefix + length - 3, '.', 3);
	}
	sanitise(line + prefix, length);
	line[prefix + length] = '\n';
	return prefix + length + 1;
}

static __attribute__((format(printf, 3, 4))) size_t format_note(char line[LOG_LINE_MAX + 1],
								enum log_level level, const char *format, ...)
{
	va_list args;
	size_t length;

	va_start(args, format);
	length = format_line(line, level, format, args);
	va_end(args);
	return length;
}

/* Under the lock. */
static void put_line(const char *line, size_t length)
{
	ring_append(line, length);
	for (uint32_t i = 0; i < sink_count; i++)
		sinks[i]->write(sinks[i], line, length);
}

void log_write(enum log_level level, const char *format, ...)
{
	char line[LOG_LINE_MAX + 1];
	uint64_t lost;
	va_list args;
	size_t length;

	va_start(args, format);
	length = format_line(line, level, format, args);
	va_end(args);
	if (!log_lock()) {
		__atomic_fetch_add(&lost_lines, 1, __ATOMIC_RELAXED);
		return;
	}
	put_line(line, length);
	lost = __atomic_exchange_n(&lost_lines, 0, __ATOMIC_RELAXED);
	if (lost) {
		length = format_note(line, LOG_WARN, "%llu lines were lost while the log was busy",
				     (unsigned long long)lost);
		put_line(line, length);
	}
	log_unlock();
}

/*
 * LPs may share a bucket: its counters are atomic, and two LPs that both see an interval end only let a few more lines
 * through. The TSCs of two LPs may differ, so "before the start" counts as inside the interval unless it is far off.
 */
bool log_ratelimit_allow(struct log_ratelimit *bucket)
{
	uint64_t now = rdtsc();
	uint64_t start = __atomic_load_n(&bucket->window_tsc, __ATOMIC_RELAXED);
	int64_t age = (int64_t)(now - start);
	int64_t interval = (int64_t)((clock_hz ? clock_hz : GUESSED_TSC_HZ) * LOG_RATELIMIT_INTERVAL_S);

	if (!start || age >= interval || age <= -interval) {
		uint32_t held = __atomic_exchange_n(&bucket->suppressed, 0, __ATOMIC_RELAXED);

		__atomic_store_n(&bucket->window_tsc, now ? now : 1, __ATOMIC_RELAXED);
		__atomic_store_n(&bucket->count, 0, __ATOMIC_RELAXED);
		if (held)
			log_write(LOG_WARN, "%u lines like the next suppressed", (unsigned int)held);
	}
	if (__atomic_load_n(&bucket->count, __ATOMIC_RELAXED) < LOG_RATELIMIT_BURST) {
		__atomic_fetch_add(&bucket->count, 1, __ATOMIC_RELAXED);
		return true;
	}
	__atomic_fetch_add(&bucket->suppressed, 1, __ATOMIC_RELAXED);
	return false;
}
